/* The judge moderates: best of n beside the composer, “better than this” on a reply, and what came of it, with why. */
'use strict';
window.studioSteering = (() => {
  const studio = window.studio, bars = window.studioJudge;
  const { h, on, call, toast, inLine, state } = studio;
  const { onKey } = window.studioFeedback;
  const FEW = 50;              // labels below which a dimension is called so
  let now = { judge: null, trained: {}, most: 4, replies: 8, run: null }, timer = null, drawn = '', unfolded = innerWidth > 820;
  let loaded = false, ended = null, kept = null;  // asked once; the run whose end was shown; what to show once it is here
  const best = { on: false, n: 4, keep: 1, dimension: null, ...JSON.parse(sessionStorage.getItem('studio-best') || '{}') };

  const by = id => document.getElementById(id);
  const codes = () => bars.codes.filter(c => now.trained[c]);
  const first = () => [bars.colour(), 'overall', ...codes()].find(c => now.trained[c]) || null;
  const seconds = s => s < 90 ? `${Math.max(1, Math.round(s))} s` : `${Math.round(s / 60)} min`;
  const why = () => !now.judge ? 'No judge is live. Choose one on the Judge screen, with “Use live”.'
    : bars.blind() ? 'Blind mode hides what the judge says. Switch it off on the Judge screen to let it choose.' : '';

  function dimensions(chosen, props = {}) {
    return h('select', { ...props }, ...codes().map(c => h('option', { value: c, selected: c === chosen }, `${bars.name(c)}${now.trained[c] < FEW ? ` (${now.trained[c]} labels, too few)` : ''}`)));
  }

  /* ---- what the server knows, asked again while it works */
  async function load() {
    clearTimeout(timer);
    if (!by('explore')?.offsetParent) return;
    const before = now.run, early = loaded;
    now = await call('steer', { blind: bars.blind() });
    loaded = true;
    if (now.run?.going && bars.blind()) await call('steer_cancel');
    draw();
    const { run } = now;
    if (run?.going) {
      timer = setTimeout(again, 600);
      if (before?.going && run.made.length > before.made.length) await studio.refresh();
    } else if (run && ended !== key(run)) {
      ended = key(run);
      if (early) await over(run);  // what ended before the page was opened is told, and moves nobody
    }
  }
  const again = () => load().catch(() => { clearTimeout(timer); timer = setTimeout(again, 3000); });  // a studio that does not answer may come back

  /* It is over: show what was kept, to whoever still looks at it, or is about to: the replies may still be on their way here. */
  async function over(run) {
    if (run.phase === 'done' && run.show.length) {
      if (run.kind === 'best') { kept = { run, until: performance.now() + 5000 }; await turn(); }
      else if (state.view?.tree === run.tree && !studio.card(run.show[0])) await studio.open({ node: run.show[0] });
    }
    if (state.view?.tree === run.tree) await studio.refresh();
    studio.emit('changed');
  }

  async function turn() {
    if (!kept || !(state.view?.lanes || []).some(id => kept.run.made.includes(id))) return;
    const { run, until } = kept;
    kept = null;
    if (performance.now() < until) await studio.open({ lanes: run.show, node: run.show[0] });
  }

  /* ---- beside the composer */
  function wish() {
    return best.on && now.judge ? JSON.stringify({ n: best.n, keep: best.keep, dimension: best.dimension || first(), blind: bars.blind() }) : '';
  }

  function keep() {
    sessionStorage.setItem('studio-best', JSON.stringify(best));
  }

  function control() {
    const number = (name, label, most) => h('input', { type: 'number', min: 1, max: most, value: best[name], ariaLabel: label, disabled: !best.on, onchange: e => { best[name] = Number(e.target.value); keep(); } });
    const select = dimensions(best.dimension || first(), { ariaLabel: 'Dimension to choose by', disabled: !best.on, onchange: e => { best.dimension = e.target.value; keep(); } });
    const box = h('input', { type: 'checkbox', checked: best.on && !why(), disabled: Boolean(why()), onchange: e => { best.on = e.target.checked; keep(); drawn = ''; draw(); by('steer-best').querySelector('input').focus(); } });
    return h('div.steer-best', { title: why() || 'Each chosen model answers that often; the judge keeps the best, the others are pruned. One undo brings them back.' },
      h('label', {}, box, ' Best of'), number('n', 'Replies of each model', now.replies), h('span', {}, 'keep'), number('keep', 'How many to keep', now.replies - 1), h('span', {}, 'by'), select,
      why() ? h('span.soft', {}, why()) : null);
  }

  /* ---- what came of it */
  /* How far above the next, and whether that can be told: the server's word, in few. */
  const above = next => !next ? '' : `${next.difference.toFixed(2)} ± ${next.spread.toFixed(2)}${next.close === null ? ', spread unknown' : next.close ? ', too close to call' : ''}`;

  function table(run) {
    if (!run.rows.length) return null;
    const several = new Set(run.rows.map(r => r.model)).size > 1, cell = (text, kind = 'td') => h(kind, {}, text);
    const heads = ['Reply', several && 'Model', `${run.dimension} ± spread`, 'Above the next', 'Outcome'].filter(t => t !== false);
    const line = r => h('tr', { className: ['pruned', 'kept', 'better'].includes(r.fate) ? `steer-${r.fate}` : '' },
      h('td', {}, h('button', { type: 'button', onclick: () => studio.go(r.id), ariaLabel: `Show ${r.number ? `reply ${r.number}` : 'the one to beat'}` }, r.number ? `${r.number}` : '·')), several && cell(r.model || ''),
      cell(r.value === null ? '–' : `${r.value.toFixed(2)} ± ${(r.spread || 0).toFixed(2)}`), cell(above(r.above_next)), cell(r.fate));
    return h('details', { open: unfolded, ontoggle: e => { unfolded = e.target.open; } }, h('summary', {}, 'Why'), h('div.steer-table', {}, h('table', {}, h('thead', {}, h('tr', {}, ...heads.map(t => cell(t, 'th')))), h('tbody', {}, ...run.rows.map(line)))));
  }

  const key = run => `${run.tree}:${run.made.join()}:${run.phase}`;
  function panel(run) {
    if (!run || sessionStorage.getItem('studio-steered') === key(run) || (!run.going && run.tree !== state.view?.tree)) return null;
    const act = (name, data, then) => inLine(async () => { try { await call(name, data); await then(); } catch (error) { if (!error.told) throw error; } });
    const back = () => act('undo', run.back, async () => { await studio.open({ lanes: run.made.slice(0, 8), node: run.made[0] }); studio.emit('changed'); });
    const hide = () => { sessionStorage.setItem('studio-steered', key(run)); draw(); };
    return h('section.steer-run', { ariaLabel: 'What the judge chose' }, h('header', {}, h('b', {}, run.kind === 'best' ? `Best of ${run.of}` : 'Better than this'), run.going ? h('progress', { max: run.of, value: run.done, ariaLabel: 'Replies written' }) : null,
      h('span.steer-says', { role: 'status' }, run.says), run.going && run.left_s !== null ? h('span.soft', {}, `at most about ${seconds(run.left_s)} left`) : null,
      run.going ? h('button', { type: 'button', onclick: () => act('steer_cancel', {}, load) }, 'Cancel') : null, run.back ? h('button', { type: 'button', onclick: back }, 'Bring them back') : null,
      run.going ? null : h('button.close', { type: 'button', ariaLabel: 'Hide this', onclick: hide }, '×')), table(run));
  }

  /* Drawn again only where something changed; a button that has the keyboard keeps it. */
  function fill(place, made) {
    if (!place) return;
    const at = [...place.querySelectorAll('button, input, select')].indexOf(document.activeElement);
    place.replaceChildren(...[made].filter(Boolean));
    place.querySelectorAll('button, input, select')[at]?.focus({ preventScroll: true });
  }

  function draw() {
    const left = now.run?.left_s == null ? null : seconds(now.run.left_s);
    const json = JSON.stringify([now.judge, now.trained, { ...now.run, left_s: left }, best, bars.blind(), state.view?.tree, sessionStorage.getItem('studio-steered')]);
    if (json === drawn || !by('steer-best')) return;
    drawn = json;
    fill(by('steer-best'), now.judge ? control() : null);
    fill(by('steer-run'), panel(now.run));
  }

  /* ---- on a card */
  function form(title, fields, note, begin, label) {
    const said = h('p.problem', { role: 'alert' });
    const go = async event => {
      event.preventDefault();
      try { await begin(); dialog.close(); } catch (error) { if (!error.told) throw error; said.textContent = error.message; }
    };
    const dialog = h('dialog.steer-dialog', { ariaLabel: title, onclose: () => dialog.remove() }, h('form', { onsubmit: go }, h('h2', {}, title), ...fields, h('p.soft', {}, note), said,
      h('div.editor-row', {}, h('button.primary', { type: 'submit' }, label), h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'))));
    document.body.append(dialog);
    dialog.showModal();
  }
  const field = (label, input) => h('label', {}, h('span', {}, label), input);

  function better(card) {
    const scored = codes().filter(c => card.judge?.[c]);
    if (!scored.length) return toast('The judge has not scored this reply yet, so there is nothing to beat.', { bad: true });
    const chosen = scored.includes(first()) ? first() : scored[0];
    const margin = h('input', { type: 'number', min: 0, step: 'any' });
    const hint = () => { const one = card.judge[select.value]; margin.placeholder = `${(one.spread || 0).toFixed(2)}, the spread`; note.textContent = `This reply: ${bars.says(one)}.`; unit.textContent = `By more than (${state.view?.scored?.[select.value] ? 'points of its scale' : "the judge's logits"})`; };
    const select = dimensions(chosen, { onchange: () => hint() }), most = h('input', { type: 'number', min: 1, max: now.replies, value: now.most }), note = h('span.soft'), unit = h('span');
    hint();
    const begin = async () => { now = await call('steer_better', { node: card.id, dimension: select.value, most: Number(most.value), margin: margin.value, blind: bars.blind(), how: studio.asking() }); draw(); await load(); };
    form('Regenerate until better', [field('Better on', select), note, field(unit, margin), field('Attempts, at most', most)],
      'Each attempt is a new sibling and is kept. It stops at the first that the judge puts above this reply by more than that.', begin, 'Begin');
  }

  function several(card) {
    const n = h('input', { type: 'number', min: 1, max: now.replies, value: best.n }), kept = h('input', { type: 'number', min: 1, max: now.replies - 1, value: best.keep }), select = dimensions(best.dimension || first());
    const begin = async () => {
      const wanted = { n: Number(n.value), keep: Number(kept.value), dimension: select.value, blind: bars.blind() };
      const { replies } = await call('steer_best', { node: card.id, wish: wanted, how: studio.asking() });
      await studio.open({ lanes: replies, node: replies[0] });
      await load();
    };
    form('Best of n', [field('Replies of each model', n), field('Keep', kept), field('The best by', select)], 'The models chosen below answer this question again. The replies that the judge puts lower are pruned; one undo brings them back.', begin, 'Ask');
  }

  function steer(card) {
    if (!card) return toast('Choose a message first.');
    if (why()) return toast(why(), { bad: true });
    if (card.status === 'streaming') return toast('This reply is still growing. Wait for it, or stop it first.', { bad: true });
    return card.role === 'assistant' ? better(card) : several(card);
  }

  function decorate(card) {
    const tools = studio.parts.transcript.querySelector(`.card[data-id="${card.id}"] > header .tools`);
    if (!tools) return;
    tools.querySelector('.steer-tool')?.remove();
    if (!now.judge || card.status === 'streaming' || (card.role === 'assistant' && !card.judge)) return;
    const [label, title] = card.role === 'assistant' ? ['Better', 'Regenerate until the judge finds one better (G)'] : ['Best of n', 'Let the judge keep the best of several new replies (G)'];
    tools.append(h('button.tool.steer-tool', { type: 'button', title, onclick: () => steer(studio.card(card.id)) }, label));
  }
  const decorated = () => studio.cards().forEach(decorate);

  on('start', () => {
    onKey('g', steer);
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load().then(decorated).catch(() => {}); }).observe(by('explore'));
  });
  on('asked', again);
  on('changed', again);
  on('drawn', decorate);
  on('view', () => { queueMicrotask(decorated); draw(); queueMicrotask(() => turn().catch(() => {})); });
  return { wish };
})();
