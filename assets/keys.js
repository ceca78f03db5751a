/* Keyboard, panes on a narrow screen, dark mode, and the list of shortcuts. One listener; silent where somebody types. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, on, state } = studio;
  const typing = target => target.closest?.('input, textarea, select, [contenteditable="true"]');
  const focused = () => studio.card(state.focus);
  const off = () => localStorage.getItem('studio-keys') === 'off';

  function compose() {
    studio.emit('pane', 'centre');
    document.querySelector('#composer textarea')?.focus();
  }

  function next() {
    const replies = studio.cards().filter(c => c.role === 'assistant' && c.status !== 'streaming' && c.parts.length);
    const at = replies.findIndex(c => c.id === state.focus);
    const unrated = [...replies.slice(at + 1), ...replies.slice(0, at + 1)].find(c => !window.studioRating.complete(c));
    if (unrated) studio.focus(unrated.id); else studio.toast('Every reply on this path is rated.');
  }

  const plain = {
    '?': () => help(), '/': () => studio.search(), n: () => studio.fresh(), c: compose, f: () => window.studioRetrieve.open(), p: () => window.studioGenerate.open(), Escape: () => studio.stop(), Enter: next,
    r: card => card && studio.act.retry(card), e: card => card && studio.act.edit(card), s: card => card && studio.act.star(card),
    b: () => window.studioJudge.find('best'), w: () => window.studioJudge.find('worst'), u: () => window.studioJudge.find('unsure'), x: () => window.studioJudge.find('apart'),
    Delete: card => card && studio.act.prune(card), Backspace: card => card?.role === 'assistant' && window.studioRating.back(card),
  };

  function pressed(event) {
    if (event.isComposing || off() || !document.getElementById('explore')?.offsetParent) return;
    const arrow = event.altKey && { ArrowUp: 'up', ArrowDown: 'down', ArrowLeft: 'left', ArrowRight: 'right' }[event.key];
    if (arrow && state.view?.tree) { event.preventDefault(); return studio.map.move(arrow); }
    if (typing(event.target) || document.querySelector('dialog[open]')) {
      if (event.key === 'Escape' && typing(event.target)) event.target.blur();
      return;
    }
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === 'z' && !event.shiftKey) { event.preventDefault(); return studio.undo(); }
    if (command || event.altKey) return;
    const card = focused(), value = event.key === '-' ? -1 : '0123'.indexOf(event.key);
    if (card?.role === 'assistant' && card.status !== 'streaming' && (value >= 0 || event.key === '-')) {
      if (window.studioRating.key(card, value)) event.preventDefault();
      return;
    }
    // Enter and Space belong to a button that has the keyboard
    if (event.key === 'Enter' && event.target.closest?.('button, summary, a, canvas, [role="tab"]')) return;
    const action = plain[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) { event.preventDefault(); action(card); }
  }

  function help() {
    document.getElementById('shortcuts')?.remove();
    const dialog = h('dialog', { id: 'shortcuts', ariaLabel: 'Keyboard shortcuts', onclose: () => dialog.remove() }, h('h2', { tabIndex: -1, autofocus: true }, 'Keyboard'),
      h('table', {}, ...window.studioShortcuts.map(({ keys, does }) => h('tr', {}, h('td', {}, ...keys.map(k => h('kbd', {}, k))), h('td', {}, does)))),
      h('label', {}, h('input', { type: 'checkbox', checked: !off(), onchange: e => localStorage.setItem('studio-keys', e.target.checked ? 'on' : 'off') }), ' Shortcuts on'),
      h('form', { method: 'dialog' }, h('button.primary', {}, 'Close')));
    document.body.append(dialog);
    dialog.showModal();
  }

  /* ---- header buttons, panes */
  function dark(on) {
    document.body.classList.toggle('dark', on);
    localStorage.setItem('studio-dark', on ? 'yes' : 'no');
  }

  function pane(name) {
    const explore = document.getElementById('explore');
    if (explore) explore.dataset.pane = name;
    document.querySelectorAll('.pane-switch button').forEach(b => b.setAttribute('aria-pressed', b.dataset.pane === name));
    studio.map?.resize();
  }

  on('start', () => {
    const chosen = localStorage.getItem('studio-dark');
    if (chosen) dark(chosen === 'yes');
    const panes = [['left', 'Dialogues'], ['centre', 'Chat'], ['right', 'Tree']];
    document.body.append(
      h('div.corner', {}, h('button.tool', { onclick: help, title: 'Keyboard shortcuts (?)', ariaLabel: 'Keyboard shortcuts' }, '?'),
        h('button.tool', { onclick: () => dark(!document.body.classList.contains('dark')), title: 'Light or dark', ariaLabel: 'Light or dark' }, '◐')),
      h('nav.pane-switch', { ariaLabel: 'Panes' }, ...panes.map(([name, label]) => h('button', { 'data-pane': name, onclick: () => pane(name) }, label))),
      h('div.lost-note', { role: 'alert' }, 'The studio does not answer. Is it still running in its terminal? Nothing that was shown as saved is lost.'));
    pane('centre');
    document.addEventListener('keydown', pressed);
  });
  on('pane', pane);
  on('compose', compose);
  on('view', ({ view }) => {
    const note = document.querySelector('#lane-note');
    const grows = studio.cards().some(c => c.end && c.status === 'streaming');
    if (note) note.textContent = [view.lanes.length > 1 ? `Goes to all ${view.lanes.length} lanes, each with its own model and history.` : '', grows ? 'What you send now waits until the reply above it is done.' : ''].filter(Boolean).join(' ');
    document.body.classList.toggle('studio-growing', view.growing.length > 0);
  });
})();
