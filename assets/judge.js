/* The Judge screen: is there enough data, train and watch, versions, which one is live. */
'use strict';
(() => {
  const studio = window.studio, bars = window.studioJudge, curves = window.studioCurves;
  const { h, call, on, inLine } = studio;
  const BASELINES = [['accuracy', 'judge'], ['coin', 'coin'], ['longer', 'longer reply'], ['majority', 'majority']];
  let root = null, now = null, timer = null, form = null, places = null;

  const percent = x => `${(100 * x).toFixed(1)} %`;
  const span = s => s ? `${percent(s[0])} to ${percent(s[1])}` : 'too few trees for an interval';
  const time = s => s === null || s === undefined ? '' : s < 90 ? `${Math.round(s)} s left` : `${Math.round(s / 60)} min left`;
  const act = (name, data) => inLine(async () => { now = await call(name, data); draw(); return true; }).catch(error => { if (!error.told) throw error; });

  async function load() {
    clearTimeout(timer);
    if (!root?.offsetParent) return;
    now = await call('judge');
    draw();
    timer = setTimeout(() => load().catch(() => {}), now.jobs.some(j => j.status === 'running') || now.learning.job?.status === 'running' || now.note ? 1000 : 5000);
  }

  /* ---- is there enough? */
  function readiness() {
    const { rows, trees, warnings } = now.data, of = (r, kind) => (r[`train_${kind}`] || 0) + (r[`validation_${kind}`] || 0) + (r[`test_${kind}`] || 0);
    if (!rows.length) return h('p', {}, 'Nothing is rated yet. Rate some replies on Explore or Annotate: fifty of a dimension are a beginning.');
    return h('div', {}, h('p.warn', {}, `${trees.train} dialogue${trees.train === 1 ? '' : 's'} to train on, ${trees.validation} to choose the best moment, ${trees.test} kept apart for the test.`),
      h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'What there is to learn from' }, h('table', {}, h('tr', {}, ...['Dimension', 'Level', 'Scores', 'Comparisons', 'Ties', 'Pairs from scores', ...window.studioLearning.HEAD].map(t => h('th', {}, t))),
        ...rows.map(r => h('tr', {}, h('td', {}, bars.name(r.dimension)), h('td', {}, r.level), ...['scores', 'pairs', 'ties', 'derived'].map(k => h('td.number', {}, String(of(r, k)))), ...window.studioLearning.more(now.learning, r))))),
      window.studioLearning.estimate(now.learning),
      ...warnings.slice(0, 6).map(w => h('p.warn', {}, `⚠ ${w}`)));
  }

  /* ---- train */
  function training() {
    if (now.missing.length) return h('p.problem', {}, now.how);
    if (form) return form;  // kept, so that a refresh disturbs nobody who types
    const input = (id, label, props) => h('label', {}, h('span', {}, label), h('input', { id: `judge-${id}`, ...props }));
    const value = id => form.querySelector(`#judge-${id}`).value;
    const start = async () => {
      const done = await act('judge_train', { name: value('name'), base: value('base'), level: value('level'), epochs: Number(value('epochs')), rank: Number(value('rank')), rate: Number(value('rate')), seed: Number(value('seed')) });
      if (done) form.querySelector('#judge-name').value = now.suggested;  // else what was typed stays, to be mended
    };
    form = h('div.judge-form', {}, input('name', 'Name', { value: now.suggested, maxLength: 64 }),
      input('base', 'Backbone', { value: now.bases[0] || '', title: 'builtin (SmolLM2-135M, reads captions), a folder, a .gguf file, or owner/model on the hub' }),
      h('label', {}, h('span', {}, 'Level'), h('select', { id: 'judge-level' }, ...[['both', 'Replies and dialogues'], ['local', 'Replies'], ['global', 'Dialogues']].map(([v, t]) => h('option', { value: v }, t)))),
      input('epochs', 'Epochs', { type: 'number', min: 0.1, max: 100, step: 0.5, value: 3 }), input('rank', 'LoRA rank', { type: 'number', min: 0, max: 256, value: 16, title: '0 trains the score head alone: quick, weaker' }),
      input('rate', 'Learning rate', { type: 'number', step: 'any', value: 0.0002 }), input('seed', 'Seed', { type: 'number', min: 0, value: 0 }),
      h('button.primary', { id: 'judge-start', onclick: start }, 'Train'), h('p.soft.judge-estimate', { role: 'status' }));
    const foresee = async () => { form.querySelector('.judge-estimate').textContent = (await call('judge_estimate', { base: value('base'), level: value('level'), epochs: Number(value('epochs')) })).says; };
    let soon = null;
    form.addEventListener('input', () => { clearTimeout(soon); soon = setTimeout(() => foresee().catch(() => {}), 400); });
    foresee().catch(() => {});
    return form;
  }

  const states = { running: 'training', done: 'done', stopped: 'paused', failed: 'failed' };
  function job(j) {
    const early = j.status === 'done' && j.step < j.steps ? '; it got no better after that' : '';
    const steps = j.step ? `step ${j.step} of ${j.steps}${early}` : j.status === 'running' ? 'getting ready …' : '';
    return h('section.judge-job', { 'data-job': j.id }, h('header', {}, h('b', {}, j.name), h('span.soft', { role: 'status' }, states[j.status]), h('progress', { max: 1, value: j.progress, ariaLabel: `Progress of ${j.name}` }),
      h('span', {}, steps), h('span.soft', {}, j.status === 'running' ? time(j.eta_s) : ''), j.tokens_per_s ? h('span.soft', {}, `${Math.round(j.tokens_per_s)} tokens/s`) : null,
      j.learning_rate ? h('span.soft', {}, `rate ${j.learning_rate.toExponential(1)}`) : null, j.memory_mb ? h('span.soft', {}, `${(j.memory_mb / 1024).toFixed(1)} GB`) : null,
      j.status === 'running' ? h('button', { onclick: () => act('judge_stop', { job: j.id }), title: 'After this step; it goes on from there' }, 'Pause') : null,
      ['stopped', 'failed'].includes(j.status) ? h('button', { onclick: () => act('judge_go_on', { job: j.id }) }, 'Go on') : null,
      ['running', 'stopped', 'failed'].includes(j.status) && j.step ? h('button', { onclick: () => act('judge_keep', { job: j.id }), title: 'Ends the training; the best moment until now becomes the judge' }, 'Stop and keep the best') : null),
    j.message ? h('p.warn', {}, j.message) : null, j.error ? h('p.problem', { role: 'alert' }, j.error) : null, curves.loss(j.curve), curves.accuracy(j.curve, bars.name));
  }

  /* ---- versions */
  function accuracy(v) {
    if (!v.pairs?.n) return h('td', {}, v.untested || 'not tested: no pair among the test dialogues');
    const p = v.pairs, base = BASELINES.slice(1).filter(([k]) => p.baselines[k]).map(([k, label]) => `${label} ${percent(p.baselines[k].value)}`).join(', ');
    return h('td', {}, h('details', {}, h('summary', {}, `${percent(p.accuracy)} (n ${p.n})`), h('p.warn', {}, `95 % interval ${span(p.interval)}, over ${p.trees} unseen dialogues. Beside it: ${base}.`), p.interval_note ? h('p.warn', {}, p.interval_note) : null));
  }

  function versions() {
    if (!now.judges.length) return h('p', {}, 'No judge yet. Train one above; its scores then appear on every reply.');
    return h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Judges' }, h('table', {}, h('tr', {}, ...['Name', 'Backbone', 'Level', 'Epochs, rank', 'Agrees with you on unseen dialogues', ''].map(t => h('th', {}, t))),
      ...now.judges.map(v => h('tr', { 'data-version': v.name }, h('td', {}, h('b', {}, v.name), v.live ? h('div.live', {}, 'live') : null, v.since ? h('div.soft', { title: 'Train again to learn from them' }, `${v.since} newer rating${v.since === 1 ? '' : 's'}`) : null), h('td', {}, v.base), h('td', {}, v.level), h('td.number', {}, `${v.epochs}, ${v.rank}`), accuracy(v),
        h('td.buttons', {}, h('button', { onclick: () => act('judge_promote', { judge: v.live ? null : v.name }) }, v.live ? 'Switch off' : 'Use live'), ' ', h('button', { onclick: () => window.studioPanel.exportMerged(v.name), title: 'Write it as one model, LoRA folded in, for use without this program' }, 'Export merged'), ' ', h('button', { onclick: () => act('judge_remove', { judge: v.name }) }, 'Remove'))))));
  }

  function options() {
    const check = h('input', { type: 'checkbox', checked: bars.blind(), onchange: e => { localStorage.setItem('studio-blind', e.target.checked ? 'yes' : 'no'); bars.refill(); studio.emit('changed'); } });
    const select = h('select', { ariaLabel: 'Colour of the tree map', onchange: e => { localStorage.setItem('studio-colour', e.target.value); studio.emit('changed'); } }, ...bars.codes.map(c => h('option', { value: c, selected: c === bars.colour() }, bars.name(c))));
    return h('div.judge-options', {}, h('label', {}, check, ' Blind: hide the judge until I have rated'), h('label', {}, 'The tree map shows ', select));
  }

  /* Only a section whose data changed is drawn again: what has the keyboard, is being typed or is open stays. */
  function draw() {
    if (!places) {
      places = Object.fromEntries(['data', 'train', 'jobs', 'learn', 'judges', 'note', 'options', 'panel'].map(name => [name, h(`div.judge-${name}`)]));
      places.note.setAttribute('role', 'status');
      root.replaceChildren(h('h2', {}, 'Is there enough to learn from?'), places.data, h('h2', {}, 'Train a judge'), places.train, places.jobs,
        h('h2', {}, 'When to stop rating'), places.learn, h('h2', {}, 'Judges'), places.judges, places.note, places.options, places.panel);
    }
    section('data', [now.data, now.learning.next], () => [readiness()]);
    section('train', now.missing, () => [training()]);
    section('jobs', now.jobs.slice(0, 4), () => now.jobs.slice(0, 4).map(job));
    section('learn', [now.missing, now.learning], () => now.missing.length ? [] : [window.studioLearning.section(now.learning, act, id => form.querySelector(`#judge-${id}`).value)]);
    section('judges', now.judges, () => [versions()]);
    section('note', now.note, () => now.note ? [h('p.warn', {}, now.note)] : []);
    section('options', [bars.blind(), bars.colour()], () => [options()]);
    window.studioPanel.mount(places.panel);
  }

  function section(name, data, make) {
    const place = places[name], json = JSON.stringify(data);
    if (place.drawn === json) return;
    place.drawn = json;
    const at = [...place.querySelectorAll('button')].indexOf(document.activeElement);
    const open = [...place.querySelectorAll('details[open]')].map(d => d.closest('tr')?.dataset.version).filter(Boolean);
    place.replaceChildren(...make());
    open.forEach(v => place.querySelector(`tr[data-version="${CSS.escape(v)}"] details`)?.setAttribute('open', ''));
    place.querySelectorAll('button')[at]?.focus({ preventScroll: true });
  }

  on('part', name => {
    if (name !== 'judge') return;
    root = studio.parts.judge.querySelector('.judge');
    places = null;
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load().catch(() => {}); }).observe(root);
  });
  on('changed', () => { if (root?.offsetParent) load().catch(() => {}); });
})();
