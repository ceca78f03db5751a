/* The Judge screen's list of judges: an accuracy never stands without its n, its interval and its baselines, and one that is no
   better than the longer reply or a coin says so, also before it goes live. */
'use strict';
window.studioJudgeVersions = (() => {
  const { h } = window.studio;
  const BASELINES = [['longer', 'longer'], ['coin', 'coin'], ['majority', 'majority']];
  const percent = x => `${(100 * x).toFixed(1)} %`, whole = x => Math.round(100 * x);
  const count = n => n.toLocaleString('en');

  function figure(p) {
    const span = p.interval ? ` (${whole(p.interval[0])}–${whole(p.interval[1])})` : '';
    const base = BASELINES.filter(([k]) => p.baselines?.[k]?.value !== null && p.baselines?.[k]?.value !== undefined).map(([k, label]) => `${label} ${percent(p.baselines[k].value)}`);
    return `${percent(p.accuracy)}${span}, n ${p.n}; ${base.join(', ')}`;
  }

  function accuracy(v, annotator) {
    if (!v.pairs) return [h('span', {}, v.untested || 'Not tested: no comparison among the test dialogues.')];
    const whose = v.mixed ? 'People, and pairs derived from scores' : v.by.length === 1 && v.by[0] === annotator ? 'You' : `People${v.by.length ? ` (${v.by.join(', ')})` : ''}`;
    return [h('div', {}, h('b', {}, whose), `: ${figure(v.pairs)}`), v.verdict.says ? h(`div.verdict.${v.verdict.kind}`, {}, v.verdict.says) : null,
      v.own && whose !== 'You' ? h('div', {}, h('b', {}, 'You'), `: ${figure(v.own)}`) : null,
      v.derived ? h('div.soft', {}, `Pairs derived from scores: ${figure(v.derived)}`) : null,
      v.pairs.interval_note ? h('div.soft', {}, v.pairs.interval_note) : null].filter(Boolean);
  }

  function promote(v, act) {
    if (v.live) return act('judge_promote', { judge: null });
    const doubt = v.verdict.kind === 'good' ? '' : `${v.name}: ${v.verdict.says} on unseen dialogues. Use it live all the same?`;
    if (doubt && !confirm(doubt)) return null;
    return act('judge_promote', { judge: v.name }).then(done => { window.studio.emit('promoted'); return done; });
  }

  function row(v, act, annotator) {
    const learned = v.labels ? `${count(v.labels)} labels${v.derived_labels ? ` and ${count(v.derived_labels)} derived pairs` : ''}` : '';
    return h('tr', { 'data-version': v.name }, h('td', {}, h('b', {}, v.name), v.live ? h('div.live', {}, 'live') : null, learned ? h('div.soft', {}, learned) : null,
      v.since ? h('div.soft', { title: 'Train again to learn from them' }, `${v.since} newer rating${v.since === 1 ? '' : 's'}`) : null),
    h('td', {}, v.base, h('div.soft', {}, `${v.level}, epochs ${v.epochs}, rank ${v.rank}`)), h('td', {}, ...accuracy(v, annotator)),
    h('td.buttons', {}, h('button', { onclick: () => promote(v, act) }, v.live ? 'Switch off' : 'Use live'), h('button', { onclick: () => window.studioPanel.exportMerged(v.name), title: 'Write it as one model, LoRA folded in, for use without this program' }, 'Export merged'), h('button', { onclick: () => act('judge_remove', { judge: v.name }) }, 'Remove')));
  }

  function table(now, act) {
    if (!now.judges.length) return h('p', {}, 'No judge yet. Train one below; its scores then appear on every reply.');
    return h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Judges' }, h('table', {}, h('tr', {}, ...['Judge', 'Backbone', 'Right in comparisons of unseen dialogues (95 % interval)', ''].map(t => h('th', {}, t))), ...now.judges.map(v => row(v, act, now.annotator))));
  }

  return { table };
})();
