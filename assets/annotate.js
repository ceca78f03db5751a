/* The queue: one thing to judge at a time, blind, by keyboard. What is saved is on the server; what is half typed stays here. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, call, on, toast, inLine } = studio;
  const rubric = window.studioRubric, verify = window.studioVerify;
  const IDLE_MS = 60000;       // a longer silence is a pause and does not count
  let root = null, now = null, votes = {}, picked = [], dimension = 'overall', cursor = 0, scores = {}, told = null;
  let active = 0, seen = 0, setting = false, moving = false;
  const unsaved = new Set();   // dimensions of this item whose score the server has not taken

  const list = level => rubric.dimensions.filter(d => d.level === level);
  const rated = () => verify.codes(now.item) ? rubric.dimensions.filter(d => verify.codes(now.item).includes(d.code)) : now.item.ends ? [...list('local'), ...list('global')] : list('local');
  const plural = (n, one) => `${n} ${one}${n === 1 ? '' : 's'}`;
  const minutes = s => s === null ? '' : s < 90 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;

  /* ---- time at work: pauses and other tabs are left out */
  function tick() {
    const at = performance.now();
    if (seen && at - seen < IDLE_MS && !document.hidden) active += at - seen;
    seen = at;
  }
  for (const name of ['keydown', 'pointermove', 'pointerdown', 'wheel', 'scroll']) document.addEventListener(name, tick, { passive: true, capture: true });
  document.addEventListener('visibilitychange', () => { seen = document.hidden ? 0 : performance.now(); });

  /* ---- what comes next */
  const load = () => inLine(async () => { try { take(await call('annotate'), true); } catch (error) { if (!error.told) throw error; } });

  function take(state, again = false) {
    const other = state.item?.id !== now?.item?.id;
    now = state;
    if (other) { votes = {}; picked = []; dimension = 'overall'; unsaved.clear(); active = 0; seen = performance.now(); }
    scores = state.item?.scores || {};  // what is saved, also after an undo
    if ((other || again) && state.item?.kind === 'rate') cursor = Math.max(0, rated().findIndex(d => !(d.code in scores)));
    draw(other);
    if (other && state.item) ahead();
    if (verify.deciding(state.item)) root?.querySelector('.verify-note')?.scrollIntoView({ block: 'nearest' });
  }

  /* Pictures of the item after this one are fetched and decoded while this one is judged. */
  let fetched = [];
  async function ahead() {
    const { pictures } = await call('annotate_ahead').catch(() => ({ pictures: [] }));  // nothing is lost: they are fetched when they are shown
    fetched = pictures.map(src => Object.assign(new Image(), { src }));
    fetched.forEach(image => image.decode().catch(() => {}));  // one that is broken is told where it is shown
  }

  /* Keys that come while the next item is on its way belong to no item: they must not judge one that nobody has seen. */
  function step(act) {
    if (moving) return;
    moving = true;
    inLine(async () => { try { const state = await act(); if (state) take(state); } catch (error) { if (!error.told) throw error; } finally { moving = false; } });
  }
  const finish = () => step(async () => {
    const item = now.item, seconds = worked();
    if (unsaved.size) { toast(`${[...unsaved].join(', ')} not saved. Give it again, then go on.`, { bad: true }); return null; }
    if (item.pass?.stage === 'own') return call('verify_compare', { item: item.id });
    if (verify.deciding(item)) { toast('Press A to agree or C to correct, or R to return it with a reason.'); return null; }
    if (item.kind === 'rate' && !Object.keys(scores).length) { toast('Rate it first: press 0 to 3, or S to skip it.'); return null; }
    if (item.kind === 'rate') { told = null; return call('annotate_finish', { item: item.id, seconds }); }
    if (!Object.keys(votes).length) { toast('Choose the better one first: press its number, or 0 for a tie.'); return null; }
    let revealed = null;
    for (const [code, ranking] of Object.entries(votes)) revealed = (await call('annotate_vote', { item: item.id, ranking, dimension: code, seconds })).revealed;
    told = { revealed, ranking: votes.overall || Object.values(votes)[0] };
    return call('annotate_finish', { item: item.id, seconds });
  });
  const worked = () => { tick(); return Math.round(active / 100) / 10; };
  const skip = () => step(() => call('annotate_skip', { item: now.item.id }));

  /* ---- rating one reply */
  function score(code, value) {
    const item = now.item.id;
    if (verify.deciding(now.item)) { toast('You have seen the first scores: yours stay as you gave them.'); scores = now.item.scores; paint(); return; }
    inLine(async () => {
      note('Saving…');
      try {
        const answer = await call('annotate_score', { item, dimension: code, value });
        if (now.item?.id === item) { scores = answer.scores; unsaved.delete(code); note(value === null ? `${code} cleared` : `${code} saved`, 'saved'); paint(); }
      } catch (error) {
        if (now.item?.id === item) { unsaved.add(code); delete scores[code]; cursor = rated().findIndex(d => d.code === code); paint(); }
        note(`${code} not saved`, 'bad');
        if (!error.told) throw error;
      }
    });
  }
  const note = (text, kind = '') => { const at = root?.querySelector('.saved-note'); if (at) { at.textContent = text; at.className = `saved-note ${kind}`; } };

  function paint() {
    const next = rated()[cursor];
    root?.querySelectorAll('.level-row').forEach(row => {
      row.classList.toggle('next', row.dataset.code === next?.code);
      row.querySelectorAll('button').forEach(b => { const yes = scores[row.dataset.code] === Number(b.dataset.value); b.classList.toggle('chosen', yes); b.setAttribute('aria-checked', yes); });
    });
    root?.querySelector('.level-row.next')?.scrollIntoView({ block: 'nearest' });
  }

  function rows() {
    return h('div.levels', {}, verify.panel(now.item, scores, step, worked), h('div.rate-head', {}, h('b', {}, 'Your scores'), h('span.saved-note', { role: 'status' })),
      ...rated().map((d, index) => h('div.level-row', { 'data-code': d.code, role: 'radiogroup', ariaLabel: `${d.code} ${d.name}` },
        h('div.level-name', {}, h('b', {}, d.code), ` ${d.name} `, h('span.soft', {}, d.asks), d.notes.length ? h('span.soft.rules', {}, ` ${d.notes.join(' ')}`) : null),
        h('div.level-values', {}, ...d.values.map(v => h('button', { type: 'button', role: 'radio', 'data-value': v, onclick: () => { cursor = index + 1; score(d.code, scores[d.code] === v ? null : v); } },
          h('b', {}, String(v)), ` ${d.levels[v]}`))))));
  }

  /* ---- comparing: press the numbers in order of preference; 0 is a tie of what is left */
  function pick(index) {
    const letters = now.item.sides.map(s => s.letter);
    if (picked.flat().length === letters.length) { picked = []; delete votes[dimension]; }
    const left = letters.filter(l => !picked.flat().includes(l));
    if (index < 0) picked.push(left);
    else if (left.includes(letters[index])) picked.push([letters[index]]);
    const rest = letters.filter(l => !picked.flat().includes(l));
    if (rest.length === 1) picked.push(rest);
    if (picked.flat().length === letters.length) { votes[dimension] = picked; }
    draw();
  }

  function choose(code) { dimension = code; picked = votes[code] || []; draw(); }
  const ranks = ranking => (ranking || []).map(rank => rank.map(l => now.item.sides.findIndex(s => s.letter === l) + 1).join(' = ')).join(' > ');

  /* ---- drawing */
  const part = p => p.kind === 'text' ? h('div.markdown', { html: p.html })
    : h(p.missing ? 'figure.picture.missing' : 'figure.picture', {}, p.missing ? h('div', {}, 'Picture is missing') : h('a', { href: p.url, target: '_blank', rel: 'noopener' }, h('img', { src: p.view, width: p.width, height: p.height, alt: p.caption || 'Picture', loading: 'eager' })), p.caption ? h('figcaption', {}, p.caption) : null);
  const message = card => h(`article.card.${card.role}`, {}, h('header', {}, h('span.who', {}, h(card.role === 'user' ? 'i.circle' : 'i.square'), card.role === 'user' ? 'Question' : 'Reply')), h('div.body', {}, ...card.parts.map(part)));

  function prefix(cards) {
    const last = cards.slice(-1), before = cards.slice(0, -1);
    return h('div.prefix', {}, before.length ? h('details', {}, h('summary', {}, `${plural(before.length, 'earlier message')}`), ...before.map(message)) : null, ...last.map(message));
  }

  function comparing(item) {
    const level = item.kind, codes = ['overall', ...list(level).map(d => d.code)];
    const name = code => code === 'overall' ? 'Overall' : `${code} ${rubric.dimensions.find(d => d.code === code).name}`;
    return [prefix(item.prefix),
      h('div.dimension-row', { role: 'tablist', ariaLabel: 'What to compare' }, ...codes.map(c => h('button', { role: 'tab', ariaSelected: String(c === dimension), title: 'D goes on to the next', className: c === dimension ? 'chosen' : '', onclick: () => choose(c) }, name(c), votes[c] ? ' ✓' : ''))),
      h(level === 'global' ? 'div.sides.by-turn' : 'div.sides', {}, ...item.sides.map((side, i) => h('section.side', { style: `--rows: ${1 + Math.max(...item.sides.map(s => s.cards.length))}`, 'data-rank': picked.findIndex(r => r.includes(side.letter)) + 1 || '' },
        h('button.side-pick', { onclick: () => pick(i), ariaLabel: `${i + 1} is the best of the rest` }, h('kbd', {}, String(i + 1)), ' Better'), ...side.cards.map(message)))),
      h('div.verdict', { role: 'status' }, picked.length ? `${name(dimension)}: ${ranks(picked)}` : item.sides.length > 2 ? 'Press the numbers in order, best first; 0 ties what is left' : 'Press 1 or 2 for the better one, 0 for a tie', h('button', { onclick: () => pick(-1) }, h('kbd', {}, '0'), ' Tie'))];
  }

  function head() {
    const q = now.queue, share = Math.min(1, q.done / Math.min(q.goal, q.total));
    return h('div.annotate-head', {}, h('b', {}, now.kinds[q.kind]), h('span.soft', {}, q.filtered ? `${q.says}, of those chosen` : q.says), h('progress', { max: 1, value: share, ariaLabel: 'Progress to the goal' }),
      h('span.count', {}, `${q.done} of ${Math.min(q.goal, q.total)}`), h('span.soft', {}, q.seconds_each ? `${Math.round(q.seconds_each)} s each, ${minutes(q.seconds_left)} left` : `${plural(q.total, 'item')} in the queue`),
      h('span.grow'), h('button', { onclick: () => { setting = true; draw(); } }, 'Another queue'), now.item && h('button', { onclick: skip, title: 'Comes back at the end (S)' }, 'Skip'),
      now.item && !verify.deciding(now.item) && h('button.primary', { onclick: finish }, now.item.pass?.stage === 'own' ? 'Compare ⏎' : 'Save and next ⏎'));
  }

  function reveal() {
    if (!told?.revealed) return null;
    const by = letter => told.revealed.find(r => r.letter === letter), said = r => `${r.model || 'unknown'}${r.judge === null ? '' : ` (judge ${r.judge.toFixed(1)})`}`;
    return h('div.soft.reveal', {}, 'You just ranked: ', told.ranking.map(rank => rank.map(l => said(by(l))).join(' = ')).join(' > '));
  }

  function setup() {
    const field = (name, options, chosen) => h('label', {}, h('span', {}, name), h('select', { id: `queue-${name.toLowerCase()}` }, ...Object.entries(options).map(([k, v]) => h('option', { value: k, selected: k === chosen }, v))));
    const goal = h('input', { type: 'number', min: 1, max: 100000, value: now.queue?.goal || 50, id: 'queue-goal' });
    const start = () => step(async () => { const value = id => root.querySelector(`#queue-${id}`).value; const made = await call('annotate_plan', { kind: value('what'), rule: value('order'), goal: Number(value('goal')), ...narrowed() }); setting = false; told = null; return made; });
    const order = field('Order', now.rules, now.queue?.rule || 'unrated'), hint = h('p.soft.order-hint', { role: 'status' });
    const tell = () => { hint.textContent = now.hints[order.querySelector('select').value] || ''; };
    order.querySelector('select').addEventListener('change', tell);
    tell();
    return h('div.annotate-setup', {}, h('h2', {}, 'What shall we judge?'), h('p.soft', {}, 'One thing at a time, without the models’ names, by keyboard. You can stop at any moment: every score is saved as it is given.'),
      field('What', now.kinds, now.queue?.kind || 'rate'), order, hint, h('label', {}, h('span', {}, 'Goal for this session'), goal), only(),
      h('div.editor-row', {}, h('button.primary', { onclick: start, id: 'queue-start' }, 'Start'), now.queue && h('button', { onclick: () => { setting = false; draw(); } }, 'Back to the queue')), verify.setup(act => step(async () => { const made = await act(); setting = false; told = null; return made; })), guide());
  }

  /* Which of them: nothing ticked is everything. Asked for when it is opened, apart from the queue, whose answers name no model. */
  function only() {
    const box = h('details.only', {}, h('summary', {}, 'Only some of them')), { view } = studio.state;
    const tick = (group, value, label) => h('label', {}, h('input', { type: 'checkbox', name: `only-${group}`, value }), h('span', {}, label));
    const group = (name, title, values) => values.length > 1 ? h('fieldset', {}, h('legend', {}, title), ...values.map(v => tick(name, v, v))) : null;
    box.addEventListener('toggle', () => inLine(async () => {
      const { models, scenarios } = await call('annotate_filters');
      const groups = [view?.tree ? h('fieldset', {}, h('legend', {}, 'Dialogue'), tick('trees', view.tree, `Only the one open in Explore: ${view.title || 'Untitled'}`)) : null, group('models', 'Models', models), group('scenarios', 'Scenarios', scenarios)].filter(Boolean);
      box.append(...groups.length ? groups : [h('p.soft', {}, 'There is one model and no scenario: nothing to choose from.')]);
    }), { once: true });
    return box;
  }
  const narrowed = () => Object.fromEntries(['trees', 'models', 'scenarios'].map(name => [name, [...root.querySelectorAll(`[name="only-${name}"]:checked`)].map(i => i.value)]));

  const guide = () => h('details.guide', {}, h('summary', {}, 'What the levels mean'), verify.guidelines(), ...rubric.dimensions.map(d => h('section', {}, h('h3', {}, `${d.code} ${d.name}`), h('p', {}, d.asks), h('ul', {}, ...d.values.map(v => h('li', {}, h('b', {}, String(v)), ` ${d.levels[v]}`))), d.notes.length ? h('p.soft', {}, d.notes.join(' ')) : null)));

  /* The same item again keeps its place and what was unfolded. */
  function draw(other = false) {
    if (!root || !now) return;
    const top = other ? 0 : root.querySelector('.annotate-item')?.scrollTop || 0, open = !other && root.querySelector('.prefix details')?.open;
    if (!now.queue || setting) {
      const chosen = [...root.querySelectorAll('.annotate-setup [id^=queue-]:not(button)')].map(field => [field.id, field.value]);
      root.replaceChildren(setup());
      chosen.forEach(([id, value]) => { const field = root.querySelector(`#${id}`); field.value = value; field.dispatchEvent(new Event('change')); });  // a late answer redraws the form, and changes nothing in it
      return;
    }
    const body = !now.item ? [h('div.empty', {}, h('h2', {}, 'All done.'), h('p', {}, `${plural(now.queue.done, 'item')} judged. Plan another queue to go on.`), verify.tally(now.queue) ? h('p', {}, verify.tally(now.queue)) : null)]
      : now.item.kind === 'rate' ? [prefix(now.item.prefix), h('div.rate-side', {}, h('div', {}, ...now.item.sides[0].cards.map(message)), rows())] : comparing(now.item);
    root.replaceChildren(head(), h('div.annotate-item', { tabIndex: -1 }, reveal(), ...body));
    if (open) root.querySelector('.prefix details').open = true;
    root.querySelector('.annotate-item').scrollTop = top;
    if (now.item?.kind === 'rate') paint();
  }

  /* ---- keys: silent where somebody types, and on the other screens */
  function pressed(event) {
    if (!root?.offsetParent || event.isComposing || event.altKey || document.querySelector('dialog[open]') || localStorage.getItem('studio-keys') === 'off') return;
    if (event.target.closest?.('input, textarea, select, [contenteditable="true"]')) return;
    if (event.key === '?') { event.preventDefault(); document.querySelector('.corner [aria-label="Keyboard shortcuts"]').click(); return; }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z' && !event.shiftKey) { event.preventDefault(); told = null; studio.undo().then(load); return; }
    if (event.ctrlKey || event.metaKey || event.repeat || moving || setting || !now?.item) return;
    if (verify.deciding(now.item) && verify.pressed(event, now.item, step, worked)) { event.preventDefault(); return; }
    const digit = event.key === '-' ? -1 : '0123456789'.indexOf(event.key), rate = now.item.kind === 'rate';
    const act = event.key === 'Enter' && !event.target.closest?.('summary, a, .annotate-head button') ? finish : event.key.toLowerCase() === 's' ? skip
      : rate && event.key === 'Backspace' && cursor > 0 && !verify.deciding(now.item) ? () => { cursor -= 1; score(rated()[cursor].code, null); }
      : rate && rated()[cursor]?.values.includes(digit) && event.key.length === 1 && (digit >= 0 || event.key === '-') ? () => { const d = rated()[cursor]; cursor += 1; scores[d.code] = digit; score(d.code, digit); paint(); }
      : !rate && digit >= 0 && digit <= now.item.sides.length ? () => pick(digit - 1)
      : !rate && event.key.toLowerCase() === 'd' ? () => { const all = ['overall', ...list(now.item.kind).map(d => d.code)]; choose(all[(all.indexOf(dimension) + 1) % all.length]); } : null;
    if (act) { event.preventDefault(); act(); }
  }

  on('part', name => {
    if (name !== 'annotate') return;
    root = studio.parts.annotate.querySelector('.annotate');
    window.studioPicture.clicks(root, { blind: true });
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load(); }).observe(root);
  });
  document.addEventListener('keydown', pressed);
})();
