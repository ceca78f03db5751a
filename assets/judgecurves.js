/* The curves of a training: loss, and accuracy on held-out dialogues beside its baselines. Draws; knows no server. */
'use strict';
window.studioCurves = (() => {
  const { h } = window.studio;
  const W = 900, H = 130, COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f', '#882255', '#44aa99', '#999933'];
  const make = (name, props, ...children) => { const e = document.createElementNS('http://www.w3.org/2000/svg', name); for (const [k, v] of Object.entries(props)) e.setAttribute(k, v); e.append(...children); return e; };

  const TICKS = 4;

  /* Lines and their points in an SVG that stretches; the words stand beside it, where they keep their shape on any screen. A point
     is a stroke of no length with round ends: it stays round, and one alone is seen too. */
  function plot({ from, to, top, low, label, lines, caption, share }) {
    const height = value => 4 + (H - 8) * (top - value) / (top - low || 1);
    const at = ([step, value]) => `${to > from ? W * (step - from) / (to - from) : W / 2},${height(value)}`;
    const still = { 'vector-effect': 'non-scaling-stroke' };
    const ticks = Array.from({ length: TICKS + 1 }, (_, i) => low + (top - low) * i / TICKS);
    const grid = ticks.map(v => make('path', { d: `M0 ${height(v)}H${W}`, class: 'grid', ...still }));
    const style = l => l.colour ? `stroke: ${l.colour}` : '';
    const drawn = lines.filter(l => l.points.length > 1).map(l => make('polyline', { points: l.points.map(at).join(' '), class: l.kind || '', style: style(l), ...still }));
    const dots = lines.filter(l => l.kind && l.kind !== 'base').flatMap(l => l.points.map(p => make('path', { d: `M${at(p)}h0`, class: `dot ${l.kind}`, style: style(l), ...still })));
    const words = v => share ? `${Math.round(100 * v)} %` : v.toFixed(2);
    return h('figure.judge-curve', {}, h('span.ticks', {}, ...[...ticks].reverse().map(v => h('span', {}, words(v)))),
      make('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', preserveAspectRatio: 'none', 'aria-label': label }, ...grid, ...drawn, ...dots),
      h('span.steps', {}, h('span', {}, `step ${from}`), to > from ? h('span', {}, `step ${to}`) : null), h('figcaption', {}, ...caption));
  }

  function loss(points) {
    const losses = points.filter(p => p.loss !== undefined), held = points.filter(p => p.eval_loss !== undefined);
    if (losses.length < 2) return null;
    const all = [...losses.map(p => p.loss), ...held.map(p => p.eval_loss)], first = losses[0], last = losses[losses.length - 1], end = points[points.length - 1].step;
    const heard = held.length ? ` (${held[held.length - 1].eval_loss.toFixed(3)})` : '';
    return plot({ from: first.step, to: end, top: Math.max(...all), low: Math.min(...all), label: `Loss from ${first.loss.toFixed(3)} to ${last.loss.toFixed(3)} in ${end} steps`,
      lines: [{ points: losses.map(p => [p.step, p.loss]) }, { points: held.map(p => [p.step, p.eval_loss]), kind: 'held' }], caption: [h('span.key', {}, h('i', { style: `background: ${COLOURS[0]}` }), 'training loss'), held.length ? h('span.key', {}, h('i', { style: `background: ${COLOURS[1]}` }), `validation loss${heard}`) : ''] });
  }

  /* One line a dimension; a coin and the longer reply as dots. The words below say what each line ends with. */
  function accuracy(points, name) {
    const held = points.filter(p => p.eval_accuracy !== undefined);
    if (!held.length) return null;
    const last = held[held.length - 1], end = points[points.length - 1].step, share = x => x.toFixed(2);
    const keys = [...new Set(held.flatMap(p => Object.keys(p)))].filter(k => k.startsWith('eval_accuracy_')).sort();
    const rows = [{ key: 'eval_accuracy', label: 'All dimensions', kind: 'own' }, ...keys.map((key, i) => ({ key, label: name(key.slice(14)), colour: COLOURS[(i + 1) % COLOURS.length], kind: 'thin' }))].map(r => ({ ...r, points: held.filter(p => p[r.key] !== undefined).map(p => [p.step, p[r.key]]) }));
    const base = [['coin', 0.5], ...last.eval_longer === undefined ? [] : [['longer reply', last.eval_longer]]];
    const said = rows.map(r => `${r.label} ${share(r.points[r.points.length - 1][1])}`), beside = base.map(([label, value]) => `${label} ${share(value)}`);
    const legend = r => h('span.key', {}, h('i', { style: `background: ${r.colour || COLOURS[0]}` }), `${r.label} ${share(r.points[r.points.length - 1][1])} `);
    const floor = Math.floor(10 * Math.min(0.4, ...rows.flatMap(r => r.points.map(p => p[1])), ...base.map(b => b[1]))) / 10;
    return plot({ from: points[0].step, to: end, top: 1, low: floor, share: true, label: `Accuracy on validation pairs at step ${last.step}: ${said.join(', ')}. Baselines: ${beside.join(', ')}`,
      lines: [...base.map(([, value]) => ({ points: [[points[0].step, value], [end, value]], kind: 'base' })), ...rows],
      caption: ['accuracy on validation pairs (they choose the best step; quote the test): ', ...rows.map(legend), h('span.key', {}, `dotted: ${beside.join(', ')}`)] });
  }

  return { loss, accuracy };
})();
