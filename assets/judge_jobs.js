/* The Judge screen's trainings: a bar of stages, what it does in words, what can be done with it, its log and its curves. */
'use strict';
window.studioJudgeJobs = (() => {
  const { h, call } = window.studio, bars = window.studioJudge, curves = window.studioCurves;
  const time = s => s === null || s === undefined ? '' : s < 90 ? `${Math.round(s)} s left` : `${Math.round(s / 60)} min left`;
  const logs = new Map();  // by job: the lines of its unfolded log

  /* One bar of stages: also a paused training keeps what it has reached. */
  function segments(j) {
    const reached = 100 * (j.step ? j.step / j.steps : j.progress);
    const stage = s => h('span', {
      title: `${s.label}: ${Math.round(100 * s.share)} %`,
      className: `stage${s.now ? ' now' : ''}`, style: `flex-grow:${s.stage === 'train' ? 4 : 1}`,
    }, h('i', { style: `width:${100 * s.share}%` }), h('small', {}, s.label));
    return h('div.judge-stages', {
      role: 'progressbar', ariaValueMin: 0, ariaValueMax: 100, ariaValueNow: reached.toFixed(1),
      ariaLabel: `Progress of ${j.name}`,
    }, ...j.stages.map(stage));
  }

  async function unfold(fold, id) {
    if (!fold.open) return logs.delete(id);
    const { lines } = await call('judge_log', { job: id });
    logs.set(id, lines);
    fold.querySelector('pre').textContent = lines.join('\n') || 'Nothing was written yet.';
  }

  const log = j => h('details.judge-log', { open: logs.has(j.id), ontoggle: e => unfold(e.currentTarget, j.id).catch(() => {}) }, h('summary', {}, 'Log'), h('pre', { tabIndex: 0 }, (logs.get(j.id) || []).join('\n')));

  const button = (a, j, act) => h('button', { disabled: Boolean(a.why), title: a.title, onclick: () => act(a.call, { job: j.id }) }, a.label);

  function job(j, act) {
    const runs = j.status === 'running', facts = [
      j.step && j.status !== 'done' ? `step ${j.step} of ${j.steps}` : '', runs ? time(j.eta_s) : '', j.tokens_per_s ? `${Math.round(j.tokens_per_s)} tokens/s` : '',
      j.learning_rate ? `learning rate ${j.learning_rate.toExponential(1)}` : '', j.memory_mb ? `${(j.memory_mb / 1024).toFixed(1)} GB` : ''].filter(Boolean);
    return h('section.judge-job', { 'data-job': j.id }, h('header', {}, h('b', {}, j.name), h('span', { role: 'status' }, j.doing), ...facts.map(f => h('span.soft', {}, f)), h('span.judge-acts', {}, ...j.acts.map(a => button(a, j, act)))),
      runs || j.status === 'stopped' ? segments(j) : null, j.says ? h('p', {}, j.says) : null, j.message && !runs ? h('p.warn', {}, j.message) : null,
      j.error ? h('p.problem', { role: 'alert' }, j.error) : null, curves.loss(j.curve), curves.accuracy(j.curve, bars.name), log(j));
  }

  return { job };
})();
