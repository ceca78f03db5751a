/* The current path as cards; side by side where several lanes are shown. Only the card that grows is patched. */
'use strict';
(() => {
  const studio = window.studio, rating = window.studioRating;
  const { h, tool: button, call, on, state, toast } = studio;
  const FIRST = 40;            // cards drawn at once; earlier ones on demand
  const drawn = new Map();     // card id -> {json, card, element}
  let root = null, pinned = true;
  /* Somebody who writes in a card keeps it in sight, whatever grows below. */
  const typing = () => root.contains(document.activeElement) && document.activeElement.matches('textarea, input, select');

  const icon = { left: '‹', right: '›' };

  /* ---- one card */
  function siblings(card) {
    if (card.of < 2) return null;
    const at = card.siblings.indexOf(card.id);
    const to = step => card.siblings[at + step];
    return h('span.siblings', {},
      button(icon.left, 'Previous version (Alt+←)', () => studio.open({ node: to(-1) }), { disabled: at <= 0 }),
      h('span', {}, `${card.position}/${card.of}`),
      button(icon.right, 'Next version (Alt+→)', () => studio.open({ node: to(1) }), { disabled: at < 0 || at >= card.siblings.length - 1 }));
  }

  function tools(card) {
    const reply = card.role === 'assistant', growing = card.status === 'streaming';
    if (growing) return h('span.tools', {}, button('Stop', 'Stop this reply (Esc stops all)', () => call('stop', { nodes: [card.id] })));
    return h('span.tools', {},
      button(card.starred ? '★' : '☆', card.starred ? 'Take the star away (S)' : 'Star (S)', () => act.star(card), { ariaPressed: String(card.starred) }),
      button('Copy', 'Copy the text', () => act.copy(card)),
      button('Edit', 'Edit: saved as a new sibling (E)', () => act.edit(card)),
      button('Retry', reply ? 'Answer again, as a new sibling (R)' : 'Ask again, as new siblings (R)', () => act.retry(card)),
      reply && !(card.end && state.view.lanes.length === 1) && button('Continue here', 'Ask the next question under this reply', () => studio.open({ lanes: [card.id] }).then(() => studio.emit('compose'))),
      reply && card.of > 1 && state.view.lanes.length === 1 && button('Side by side', 'Show the siblings side by side', () => studio.open({ lanes: around(card), node: card.id })),
      card.pruned || card.hidden ? button('Restore', 'Show this branch again', () => act.restore(card)) : button('Prune', 'Hide this branch (Delete); nothing is deleted', () => act.prune(card)));
  }

  const around = card => {
    const at = card.siblings.indexOf(card.id), from = Math.max(0, Math.min(at - 1, card.siblings.length - 4));
    return card.siblings.slice(from, from + 4);
  };

  const act = {
    star: async card => { await call('star', { node: card.id, on: !card.starred }); await studio.refresh(); studio.emit('changed'); },
    copy: async card => {
      try { await navigator.clipboard.writeText(card.text); toast('Copied.'); } catch (error) { toast('The browser did not allow copying. Select the text and copy it by hand.', { bad: true }); }
    },
    edit: card => editor(card),
    retry: async card => asked(await call('retry', { node: card.id, how: studio.asking() })),
    prune: async card => {
      await call('prune', { node: card.id });
      const other = card.siblings.filter(id => id !== card.id).pop();
      if (card.turn === 1 && card.role === 'user' && card.of === 1) studio.blank(); else await studio.open({ node: other || parent(card) || card.id });
      studio.emit('changed');
    },
    restore: async card => { await call('restore', { node: card.id }); await studio.open({ node: card.id }); studio.emit('changed'); },
  };

  const parent = card => { const all = studio.cards(); return all[all.indexOf(card) - 1]?.id; };
  const asked = async answer => { pinned = true; await studio.open({ lanes: answer.replies, node: answer.replies[0] }); studio.emit('changed'); };

  function editor(card) {
    const article = root.querySelector(`[data-id="${card.id}"]`), body = article?.querySelector('.body');
    if (!body || article.querySelector('.editor')) return;
    const area = h('textarea', { value: card.written || card.text, rows: Math.min(16, card.text.split('\n').length + 2), ariaLabel: 'Edit the text' });
    const close = () => { box.remove(); body.hidden = false; };
    const save = async () => { await call('edit', { node: card.id, text: area.value, how: studio.asking() }).then(asked); };
    const box = h('div.editor', {}, area, h('div.editor-row', {},
      h('button.primary', { onclick: save }, card.role === 'user' ? 'Ask this instead' : 'Save as a new reply'), h('button', { onclick: close }, 'Cancel'),
      h('span.soft', {}, 'The old version stays; ‹ › goes back to it.')));
    area.addEventListener('keydown', event => { if (event.key === 'Escape') { event.stopPropagation(); close(); } if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save(); });
    body.hidden = true;
    body.after(box);
    area.focus();
  }

  function part(p) {
    if (p.kind === 'text') return h('div.markdown', { html: p.html });
    if (p.missing) return h('figure.picture.missing', {}, h('div', {}, 'Picture file missing'), h('figcaption', {}, p.caption || p.reference || 'no caption'));
    return h('figure.picture', {}, h('a', { href: p.url, target: '_blank', rel: 'noopener', title: 'Open in full size' },
      h('img', { src: p.thumb, alt: p.caption || 'picture', loading: 'lazy', width: p.width, height: p.height })), p.caption && h('figcaption', {}, p.caption));
  }

  const phases = { downloading: 'Downloading the model', loading: 'Loading the model…', waiting: 'Waiting for this model’s other replies…', reading: 'Reading the dialogue…', server: 'Waiting for the server…', thinking: 'Reasoning…', writing: 'Writing…', streaming: 'Writing…' };
  function meta(card) {
    const bits = [], seconds = (card.latency_ms - card.first_token_ms) / 1000;
    if (card.status === 'streaming') bits.push(phases[card.phase || 'streaming'] + (card.told ? `: ${card.told}` : ''));
    if (card.tokens) bits.push(`${card.tokens} ${card.tokens === 1 ? 'token' : 'tokens'}`);
    if (card.first_token_ms) bits.push(`first after ${(card.first_token_ms / 1000).toFixed(2)} s`);
    if (card.tokens > 1 && seconds > 0) bits.push(`${((card.tokens - 1) / seconds).toFixed(1)} tokens/s`);
    if (card.status === 'stopped') bits.push(card.error ? 'interrupted' : 'stopped');
    return bits.join(' · ');
  }

  /* What the model said to itself: folded, plain text, never part of the reply. */
  const reasoning = text => h('details.reasoning', { hidden: !text }, h('summary', {}, 'Reasoning'), h('pre', {}, text || ''));

  function draw(card) {
    const reply = card.role === 'assistant', growing = card.status === 'streaming';
    const body = h('div.body', {}, ...card.parts.map(part));
    if (!card.parts.length && growing) body.append(h('div.waiting', { ariaLabel: 'Waiting for the first words' }));
    return h(`article.card.${card.role}${card.pruned || card.hidden ? '.pruned' : ''}${growing ? '.growing' : ''}`, {
      'data-id': card.id, tabindex: -1, ariaLabel: `${reply ? 'Reply' : 'Question'}, turn ${card.turn}`,
      onclick: event => { if (!event.target.closest('button, textarea, a, summary')) studio.focus(card.id, { scroll: false }); },
      onfocusin: () => studio.focus(card.id, { scroll: false }),
    }, h('header', {}, h('span.who', {}, h(reply ? 'i.square' : 'i.circle'), reply ? (card.model || 'Reply') : 'Question', h('span.turn', {}, `turn ${card.turn}`)), siblings(card), tools(card)),
      reply ? reasoning(card.reasoning) : null, body, reply ? window.studioJudge.block(card) : null, card.error && h('p.problem', { role: 'alert' }, card.error), h('footer.meta', {}, meta(card)),
      reply && !growing && card.parts.length ? rating.block(card, 'local') : null,
      reply && !growing && card.end && card.parts.length ? rating.block(card, 'global') : null);
  }

  /* ---- the whole path */
  /* A card that did not change keeps its element (and what is being typed in it), so that a refresh disturbs nobody. */
  function keep(card) {
    const json = JSON.stringify(card), old = drawn.get(card.id);
    if (old && old.json === json) return old.card;
    if (old && old.element.contains(document.activeElement) && document.activeElement.closest('textarea, .proposal-form')) return Object.assign(old.card, card);
    drawn.set(card.id, { json, card, element: null });
    return card;
  }

  function element(card) {
    const entry = drawn.get(card.id);
    return entry.element ||= draw(card);
  }

  function render(view) {
    // before any card is moved: that takes the keyboard and the selected words from it
    const focused = root.contains(document.activeElement) ? document.activeElement : null, words = selection();
    view.shared = view.shared.map(keep);
    view.columns = view.columns.map(column => column.map(keep));
    const here = new Set([...view.shared, ...view.columns.flat()].map(c => c.id));
    for (const id of drawn.keys()) if (!here.has(id)) drawn.delete(id);
    const under = card => [element(card), ...window.studioWaiting.under(card.id)];
    const shared = view.shared.map(c => () => under(c)), hidden = Math.max(0, shared.length - FIRST);
    const list = h('div.cards', {}, ...shared.slice(hidden).map(make => make()));
    const more = hidden ? h('button.earlier', { onclick: () => { more.remove(); list.prepend(...shared.slice(0, hidden).flatMap(make => make())); } }, `Show ${hidden} earlier messages`) : null;
    const columns = view.columns.length ? h('div.lanes', {}, ...view.columns.map((column, i) => h('section.lane', { ariaLabel: `Lane ${i + 1}` },
      h('div.lane-head', {}, h('b', {}, `Lane ${i + 1}`), h('button.tool', { title: 'Go on with this lane alone', onclick: () => studio.open({ lanes: [view.lanes[i]], node: view.lanes[i] }) }, 'Only this')),
      ...column.flatMap(under)))) : null;
    root.replaceChildren(...[view.tree ? null : welcome(), more, list, columns].filter(Boolean));
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    if (words?.[0].isConnected && words[2].isConnected) getSelection().setBaseAndExtent(...words);
    mark(state.focus, false);
  }

  /* What is selected in the transcript, as ``setBaseAndExtent`` takes it. */
  function selection() {
    const { anchorNode, anchorOffset, focusNode, focusOffset, isCollapsed } = getSelection();
    return !isCollapsed && root.contains(anchorNode) && root.contains(focusNode) ? [anchorNode, anchorOffset, focusNode, focusOffset] : null;
  }

  function welcome() {
    return h('div.welcome', {}, h('h2', {}, 'Ask something to start a tree'),
      h('p', {}, 'Models answer below; branch where you like, rate what you read. Everything is kept on this computer.'),
      h('div.seeds', {}, ...window.studioSeeds.map(seed => h('button', { onclick: () => studio.trigger('seed', { text: seed }) }, seed))),
      h('p.soft', {}, 'Press ? for the keyboard.'));
  }

  function mark(id, scroll = true) {
    root.querySelectorAll('.card.focus').forEach(c => c.classList.remove('focus'));
    const card = root.querySelector(`[data-id="${id}"]`);
    if (!card) return;
    card.classList.add('focus');
    if (scroll) card.scrollIntoView({ block: 'nearest', behavior: 'instant' });
  }

  function grow(reply) {
    const card = studio.card(reply.id), article = card && root.querySelector(`[data-id="${reply.id}"]`);
    if (!article) return;
    drawn.get(card.id).json = '';  // what grew is drawn again, whole, when it is done
    Object.assign(card, { phase: reply.phase, told: reply.told, tokens: reply.tokens, first_token_ms: reply.first_token_ms, latency_ms: reply.latency_ms });
    if (reply.reasoning) {
      const fold = article.querySelector('.reasoning');
      fold.hidden = false;
      fold.querySelector('pre').textContent = reply.reasoning;
    }
    if (reply.html) article.querySelector('.body').innerHTML = `<div class="markdown">${reply.html}</div>`;  // sanitised by the server
    article.querySelector('.meta').textContent = meta(card);
    if (pinned && !typing()) root.scrollTop = root.scrollHeight;
  }

  on('part', name => {
    if (name !== 'transcript') return;
    root = studio.parts.transcript.querySelector('.transcript');
    root.addEventListener('scroll', () => { pinned = root.scrollHeight - root.scrollTop - root.clientHeight < 80; });
  });
  on('view', ({ view, other }) => {
    const at = root.scrollTop;
    render(view);
    const growing = view.growing.length > 0;
    if (other || (growing && pinned && !typing())) { pinned = true; root.scrollTop = root.scrollHeight; } else { root.scrollTop = at; mark(state.focus); }
  });
  on('focus', (id, scroll) => mark(id, scroll));
  on('grow', grow);
  on('asked', () => { pinned = true; });
  on('rated', card => { const entry = drawn.get(card.id); if (entry) entry.json = JSON.stringify(card); });
  studio.act = act;
})();
