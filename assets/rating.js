/* Rows of scores of one reply or dialogue. A score counts as saved only when the server said so. */
'use strict';
window.studioRating = (() => {
  const { h, call, inLine, on } = window.studio;
  const rubric = window.studioRubric;
  const local = rubric.dimensions.filter(d => d.level === 'local'), global = rubric.dimensions.filter(d => d.level === 'global');
  const cursors = new Map();   // reply id -> index of the dimension that the next digit rates
  let given = [];              // what was rated and may be missing in a view that was asked for before it was saved

  const rows = card => card.end ? [...local, ...global] : local;
  const cursor = card => {
    if (!cursors.has(card.id)) cursors.set(card.id, Math.max(0, rows(card).findIndex(d => !(d.code in card.scores))));
    return cursors.get(card.id);
  };

  async function rate(card, code, value) {
    const groups = () => document.querySelectorAll(`[data-rate="${card.id}"]`), mine = { id: card.id, code, value, saved: Infinity }, before = card.scores[code];
    given.push(mine);
    say(groups(), 'Saving…');
    try {
      const answer = await inLine(() => call('rate', { node: card.id, dimension: code, value }));
      mine.saved = performance.now();
      card = window.studio.card(card.id) || card;  // it may have been drawn anew meanwhile
      card.scores = answer.scores;
      say(groups(), value === null ? `${code} cleared` : `${code} saved`, 'saved');
    } catch (error) {
      given = given.filter(g => g !== mine);
      put(window.studio.card(card.id) || card, code, before);
      say(groups(), 'Not saved', 'bad');
    }
    paint(card);
    window.studio.emit('rated', card);
  }

  function put(card, code, value) {
    if (value === null || value === undefined) delete card.scores[code];
    else card.scores[code] = value;
  }

  function say(groups, text, kind = '') {
    groups.forEach(group => { const at = group.querySelector('.saved-note'); at.textContent = text; at.className = `saved-note ${kind}`; });
  }

  /* A digit rates the dimension under the cursor and moves the cursor on. */
  function key(card, value) {
    const all = rows(card), at = cursor(card);
    const dimension = all[at];
    if (!dimension || !dimension.values.includes(value)) return false;
    cursors.set(card.id, at + 1);
    rate(card, dimension.code, value);
    document.querySelector(`[data-rate="${card.id}"] [data-code="${dimension.code}"]`)?.scrollIntoView({ block: 'nearest' });
    return true;
  }

  function back(card) {
    const all = rows(card), at = Math.min(cursor(card), all.length) - 1;
    if (at < 0) return;
    cursors.set(card.id, at);
    rate(card, all[at].code, null);
  }

  function paint(card) {
    const next = rows(card)[cursor(card)];
    document.querySelectorAll(`[data-rate="${card.id}"]`).forEach(group => {
      group.querySelectorAll('.rate-row').forEach(row => {
        const value = card.scores[row.dataset.code];
        row.classList.toggle('next', next?.code === row.dataset.code && window.studio.state.focus === card.id);
        row.querySelectorAll('button').forEach(button => {
          const chosen = value !== undefined && Number(button.dataset.value) === value;
          button.classList.toggle('chosen', chosen);
          button.setAttribute('aria-checked', chosen);
        });
      });
    });
  }

  function row(card, dimension, hint) {
    const tell = value => {
      const meaning = value === null ? dimension.asks : dimension.levels[value];
      hint.textContent = `${dimension.code} ${dimension.name}${value === null ? '' : ` · ${value}`}: ${meaning}`;
      hint.title = dimension.notes.join(' ');
    };
    const buttons = dimension.values.map(value => h('button', {
      role: 'radio', type: 'button', 'data-value': value, ariaLabel: `${dimension.name} ${value}: ${dimension.levels[value]}`,
      title: dimension.levels[value],
      onclick: () => {
        const index = rows(card).indexOf(dimension);
        cursors.set(card.id, index + 1);
        rate(card, dimension.code, card.scores[dimension.code] === value ? null : value);
      },
      onfocus: () => tell(value), onmouseenter: () => tell(value),
    }, String(value)));
    return h('div.rate-row', { 'data-code': dimension.code, role: 'radiogroup', ariaLabel: `${dimension.code} ${dimension.name}`, onmouseleave: () => tell(null) },
      h('span.rate-name', { title: [dimension.asks, ...dimension.notes].join('\n') }, h('b', {}, dimension.code), ` ${dimension.name}`),
      h('span.rate-values', {}, ...buttons));
  }

  function others(card, level) {
    const theirs = card.others.filter(o => (level === 'local' ? local : global).some(d => d.code === o.dimension));
    return theirs.length ? h('div.others', {}, ...theirs.map(o => h('span', { title: 'A rating by somebody else' }, `${o.annotator}: ${o.dimension} ${o.value}`))) : null;
  }

  /* The block for L1-L4 of a reply, or with level 'global' for G1-G5 of the dialogue that it ends. */
  function block(card, level) {
    const hint = h('div.rate-hint', { ariaLive: 'polite' }), list = level === 'local' ? local : global;
    const keys = level === 'local' ? 'Keys 0–3 rate in turn' : 'Keys go on here after L4';
    hint.textContent = keys;
    const group = h(`section.rate.${level}`, { 'data-rate': card.id, ariaLabel: level === 'local' ? 'Rate this reply' : 'Rate the whole dialogue' },
      h('div.rate-head', {}, h('b', {}, level === 'local' ? 'This reply' : 'The whole dialogue'), h('span.saved-note', { role: 'status' })),
      h('div.rate-rows', {}, ...list.map(d => row(card, d, hint))), hint, others(card, level), window.studioFeedback.fields(card, level));
    queueMicrotask(() => { paint(card); window.studio.emit('drawn', card); });
    return group;
  }

  on('focus', () => window.studio.cards().filter(c => c.role === 'assistant').forEach(paint));
  on('view', ({ view }) => {
    for (const id of cursors.keys()) if (id !== view.focus) cursors.delete(id);  // where somebody is rating, the next digit stays the next
    given = given.filter(g => g.saved > view.asked);
    for (const { id, code, value } of given) {
      const card = window.studio.card(id);
      if (card) put(card, code, value);
    }
  });
  on('undone', () => cursors.clear());
  const complete = card => rows(card).every(d => d.code in card.scores);
  return { block, key, back, paint, complete };
})();
