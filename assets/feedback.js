/* Feedback in words on a reply, a dialogue, or one dimension of it. What is typed stays in this browser until the server said saved.
   Also what other scripts need for that: drafts, a text field that saves itself, its quiet undo, a letter key. */
'use strict';
window.studioFeedback = (() => {
  const studio = window.studio;
  const { h, call, inLine, emit, state, toast } = studio;
  const rubric = window.studioRubric;
  const chosen = new Map();    // reply id and level -> the dimension that the fields are about

  /* ---- drafts */
  const drafts = {
    key: (...names) => `studio-draft:${names.filter(Boolean).join(':')}`,
    get(key) {
      try { return JSON.parse(localStorage.getItem(key)); } catch (error) { return null; }  // not written by us
    },
    put(key, value) {
      try { localStorage.setItem(key, JSON.stringify(value)); } catch (error) { toast('This browser keeps no more drafts: what is not saved would be lost by a reload.', { bad: true }); }
    },
    drop: key => localStorage.removeItem(key),
  };

  /* An undo without a message, for what saves itself. */
  function keep(undo) {
    if (!undo) return;
    state.undos.push(undo);
    sessionStorage.setItem('studio-undos', JSON.stringify(state.undos));
  }

  /* One text field. send(text) gives the server's answer; one visit to the field is one undo, however often it saved. */
  function field({ key, name, label, asks, saved, send }) {
    saved = saved.replace(/\r\n?/g, '\n').trim();  // as the browser gives it back: looking must not save
    const note = h('span.saved-note', { role: 'status' }), draft = drafts.get(key);
    const area = h('textarea', { rows: 2, placeholder: asks, ariaLabel: label, value: typeof draft === 'string' ? draft : saved });
    const tell = (text, kind = '') => { note.textContent = text; note.className = `saved-note ${kind}`; };
    let timer = null, undo = null;
    const save = async () => {
      clearTimeout(timer);
      const text = area.value.trim();
      if (text === saved) return drafts.drop(key);
      try {
        const answer = await inLine(() => send(text));
        if (state.undos.at(-1) !== undo || !undo) keep(undo = answer.takes_back);
        saved = text;
        if (area.value.trim() !== text) return;  // typed on meanwhile: that is saved next
        drafts.drop(key);
        tell('saved', 'saved');
      } catch (error) { tell('not saved', 'bad'); }
    };
    if (area.value !== saved) tell('not saved yet');
    area.addEventListener('input', () => { drafts.put(key, area.value); tell('saving…'); clearTimeout(timer); timer = setTimeout(save, 600); });
    area.addEventListener('focus', () => { undo = null; });
    area.addEventListener('blur', save);
    return h('label', {}, h('span', {}, name, ' ', note), area);
  }

  /* ---- the fields under a row of scores */
  const key = (card, level, kind, code) => drafts.key(card.id, level, kind, code);
  const written = (card, level, code) => rubric.feedback.some(({ kind }) =>
    card.feedback[[level, kind, code].filter(Boolean).join('-')] || drafts.get(key(card, level, kind, code)) !== null);

  /* After 'say': what the card now says of itself, so that the next refresh finds nothing to draw anew. */
  function took(card, answer) {
    card.feedback = answer.feedback;
    card.notes = answer.notes;
    emit('rated', card);
    return answer;
  }

  function fields(card, level) {
    const codes = ['', ...rubric.dimensions.filter(d => d.level === level).map(d => d.code)], at = `${card.id} ${level}`;
    const whole = level === 'local' ? 'The whole reply' : 'The whole dialogue', place = h('div.feedback-fields');
    const about = h('select', { ariaLabel: `Feedback about (${level})`, onchange: () => { chosen.set(at, about.value); fill(); } });
    const option = code => h('option', { value: code }, `${code ? `${code} ${rubric.dimensions.find(d => d.code === code).name}` : whole}${written(card, level, code) ? ' •' : ''}`);
    const one = ({ kind, name, asks }) => {
      const code = about.value;
      return field({ key: key(card, level, kind, code), name, label: `${name} (${code || level})`, asks,
        saved: card.feedback[[level, kind, code].filter(Boolean).join('-')] || '',
        send: async text => took(card, await call('say', { node: card.id, level, kind, text, dimension: code || null })) });
    };
    const fill = () => {
      const code = about.options.length ? about.value : chosen.get(at) ?? codes.find(c => written(card, level, c)) ?? '';
      about.replaceChildren(...codes.map(option));
      about.value = code;
      place.replaceChildren(...rubric.feedback.map(one));
    };
    fill();
    return h('details.feedback', { open: chosen.has(at) || codes.some(code => written(card, level, code)) }, h('summary', {}, 'Feedback in words'),
      h('label.feedback-about', {}, h('span', {}, 'About '), about), place);
  }

  /* A letter key of the Explore screen, silent where somebody types, as those of keys.js. */
  function onKey(letter, act) {
    document.addEventListener('keydown', event => {
      if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.key.toLowerCase() !== letter) return;
      if (localStorage.getItem('studio-keys') === 'off' || !document.getElementById('explore')?.offsetParent) return;
      if (event.target.closest?.('input, textarea, select, [contenteditable="true"]') || document.querySelector('dialog[open]')) return;
      event.preventDefault();
      act(studio.card(state.focus));
    });
  }

  return { drafts, keep, field, fields, took, onKey };
})();
