/* The Judge screen's training data and form: what becomes of every label, the fields (those that seldom matter under "More"),
   and the estimate. Draws what judge.js gives it. */
'use strict';
window.studioJudgeForm = (() => {
  const studio = window.studio, bars = window.studioJudge;
  const { h, call } = studio;
  let form = null, fields = [];

  const count = n => n.toLocaleString('en');

  /* ---- training data */
  function readiness(now) {
    const { rows, trees } = now.data, more = window.studioLearning;
    const of = (r, kind) => ['train', 'validation', 'test'].reduce((sum, set) => sum + (r[`${set}_${kind}`] || 0), 0);
    if (!rows.length) return h('p', {}, 'Nothing is rated yet. Rate some replies on Explore or Annotate: fifty of a dimension are a beginning.');
    const order = [...rows].sort((a, b) => (a.level === 'global') - (b.level === 'global') || bars.codes.indexOf(a.dimension) - bars.codes.indexOf(b.dimension));
    const name = r => r.dimension === 'overall' && r.level === 'global' ? 'Overall (dialogue)' : bars.name(r.dimension);
    const warning = r => now.data.warnings.filter(w => w.startsWith(`${r.dimension} (${r.level}) `)).map(w => w.slice(`${r.dimension} (${r.level}) `.length)).join(' ');
    const general = now.data.warnings.filter(w => !rows.some(r => w.startsWith(`${r.dimension} (${r.level}) `)));
    const head = ['Dimension', 'Scores', 'Comparisons', 'Ties', 'Pairs from scores', ...more.HEAD];
    const line = r => h('tr', {},
      h('td', {}, name(r), warning(r) ? h('div.row-warning', {}, `⚠ ${warning(r)}`) : null),
      ...['scores', 'pairs', 'ties', 'derived'].map(k => h('td.number', {}, count(of(r, k)))),
      ...more.more(now.learning, r));
    return h('div', {}, h('p.warn', {}, `${count(trees.train)} dialogue${trees.train === 1 ? '' : 's'} to train on, ${trees.validation} validation, ${trees.test} test.`),
      h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Training data' }, h('table', {}, h('tr', {}, ...head.map(t => h('th', {}, t))), ...order.map(line))),
      more.estimate(now.learning), ...general.map(w => h('p.warn', {}, `⚠ ${w}`)));
  }

  /* ---- the check before a training */
  const opens = label => h('li', {}, h('button.link', { type: 'button', onclick: () => { document.querySelector('#screens [role=tab]').click(); studio.open({ node: label.node }); } },
    `${bars.name(label.dimension)}, ${label.other ? 'a comparison' : 'a score'}: open the reply`),
  label.other ? h('button.link', { type: 'button', onclick: () => { document.querySelector('#screens [role=tab]').click(); studio.open({ node: label.other }); } }, 'the other') : null);

  function reasons(list) {
    return list.map(r => h('details', { 'data-fold': r.reason }, h('summary', {}, `${count(r.n)} × ${r.reason}`),
      h('ol', {}, ...r.labels.map(opens)), r.n > r.labels.length ? h('p.warn', {}, `The first ${r.labels.length} of ${count(r.n)}.`) : null));
  }

  function check(now, act) {
    const { job, labels, sizes, memory, current } = now.check, runs = job?.status === 'running';
    if (now.missing.length || !now.data.rows.length) return [];
    const again = h('button', { id: 'judge-check', disabled: runs, title: runs ? 'The labels are being checked' : 'With the backbone, level and longest path below', onclick: () => act('judge_check', values()) }, job ? 'Check again' : 'Check the labels');
    const said = [];
    if (runs) said.push(h('p', { role: 'status' }, `Checking the labels … ${job.stage ? `${count(job.stage.done)} of ${count(job.stage.of)} ${job.stage.stage === 'load' ? 'backbone' : 'dialogues'}` : ''}`));
    if (job?.status === 'failed') said.push(h('p.problem', { role: 'alert' }, job.error));
    if (!runs && labels) {
      const line = `${count(labels.used)} of ${count(labels.total)} usable, ${count(labels.cut)} cut, ${count(labels.left_out)} left out`;
      said.push(h('p', {}, h('b', {}, line), current ? '' : ' (of the labels at the last check; there are others now)'), ...reasons(labels.reasons));
      if (sizes) said.push(h('p.warn', {}, `Longest path ${count(sizes.max_path)} tokens (${job.max_path ? 'as set' : `chosen; the backbone reads ${count(sizes.context)}`}), ${count(sizes.max_tokens)} at once.`));
      if (memory) said.push(h(memory.fits ? 'p.warn' : 'p.problem', {}, `Peak memory about ${gb(memory.mb)}${memory.checkpointing ? ', computing activations twice' : ''}; ${gb(memory.free_mb)} are free${memory.fits ? '' : ': it does not fit. Set a shorter longest path, or rank 0'}.`));
    }
    const own = h('input', { type: 'checkbox', checked: byItself(),
      onchange: e => localStorage.setItem('studio-check', e.target.checked ? 'yes' : 'no') });
    const label = h('label', { title: 'After a few seconds, when nothing else runs' }, own, ' Check by itself when this screen is open');
    return [h('div.judge-check', {}, ...said, h('div.check-line', {}, again, label))];
  }
  const byItself = () => localStorage.getItem('studio-check') !== 'no';
  const gb = mb => `${(mb / 1024).toFixed(1)} GB`;

  /* ---- the form: made once, so that a refresh disturbs nobody who types */
  const input = id => form.querySelector(`#judge-${id}`);
  const values = () => Object.fromEntries(fields.map(f => [f.id, input(f.id).value]));

  function field(f, now) {
    const value = f.id === 'name' ? now.suggested : f.id === 'base' ? now.bases[0] || '' : f.default ?? '';
    const props = { id: `judge-${f.id}`, title: f.help || '' };
    const control = f.choices ? h('select', props, ...f.choices.map(([v, t]) => h('option', { value: v, selected: v === value }, t)))
      : h('input', { ...props, value, ...['number', 'whole'].includes(f.kind) ? { type: 'number', min: f.low, max: f.high, step: f.kind === 'whole' ? 1 : 'any' } : {}, ...f.id === 'name' ? { maxLength: 64 } : {} });
    if (f.more && f.default === undefined) control.placeholder = 'chosen';
    return h('label', {}, h('span', {}, f.label), control, f.more ? h('small.soft', {}, f.help) : null);
  }

  function training(now, act) {
    if (now.missing.length) return h('p.problem', {}, now.how);
    if (form) return form;
    fields = now.fields;
    const start = async () => {
      const done = await act('judge_train', values());
      if (done) input('name').value = done.suggested;  // else what was typed stays, to be mended
    };
    form = h('div.judge-form', {}, ...fields.filter(f => !f.more).map(f => field(f, now)),
      h('button.primary', { id: 'judge-start', onclick: start }, 'Train'),
      h('details.judge-more', {}, h('summary', {}, 'More'), h('div.judge-form', {}, ...fields.filter(f => f.more).map(f => field(f, now)))),
      h('p.soft.judge-estimate', { role: 'status' }));
    const foresee = async () => {
      const place = form.querySelector('.judge-estimate'), answer = await call('judge_estimate', values());
      place.textContent = answer.says;
      place.classList.toggle('problem', answer.fits === false);
    };
    let soon = null;
    form.foresee = () => { clearTimeout(soon); soon = setTimeout(() => foresee().catch(() => {}), 400); };
    form.addEventListener('input', form.foresee);
    foresee().catch(() => {});
    return form;
  }

  /* Why Train cannot begin, on the button; and the choice of the longest path where it is left open. */
  function sync(now) {
    if (!form) return;
    const button = form.querySelector('#judge-start'), why = now.busy || (now.data.rows.length ? '' : 'Nothing is rated yet');
    button.disabled = Boolean(why);
    button.title = why;
    input('max_path').placeholder = now.check.sizes ? `chosen: ${count(now.check.sizes.max_path)}` : 'chosen';
    if (JSON.stringify(now.check) !== form.checked) { form.checked = JSON.stringify(now.check); form.foresee(); }
  }

  return { readiness, check, byItself, training, sync, values, value: id => input(id).value };
})();
