/* The curves of a training: loss, and accuracy on held-out dialogues beside its baselines. Draws; knows no server. */
'use strict';
window.studioCurves = (() => {
  const { h } = window.studio;
  const W = 900, H = 130, COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f', '#882255', '#44aa99', '#999933'];
  const make = (name, props, ...children) => { const e = document.createElementNS('http://www.w3.org/2000/svg', name); for (const [k, v] of Object.entries(props)) e.setAttribute(k, v); e.append(...children); return e; };

  /* Lines in an SVG that stretches; the words stand beside it, where they keep their shape on any screen. */
  function plot({ from, to, top, low, label, lines, caption }) {
    const at = ([step, value]) => `${W * (step - from) / (to - from || 1)},${4 + (H - 8) * (top - value) / (top - low || 1)}`;
    const drawn = lines.filter(l => l.points.length > 1).map(l => make('polyline', { points: l.points.map(at).join(' '), class: l.kind || '', style: l.colour ? `stroke: ${l.colour}` : '', 'vector-effect': 'non-scaling-stroke' }));
    return h('figure.judge-curve', {}, h('span.top', {}, top.toFixed(2)), h('span.low', {}, low.toFixed(2)),
      make('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', preserveAspectRatio: 'none', 'aria-label': label }, ...drawn), h('figcaption', {}, ...caption));
  }

  function loss(points) {
    const losses = points.filter(p => p.loss !== undefined), held = points.filter(p => p.eval_loss !== undefined);
    if (losses.length < 2) return null;
    const all = [...losses.map(p => p.loss), ...held.map(p => p.eval_loss)], first = losses[0], last = losses[losses.length - 1], end = points[points.length - 1].step;
    const heard = held.length ? ` (${held[held.length - 1].eval_loss.toFixed(3)})` : '';
    return plot({ from: first.step, to: end, top: Math.max(...all), low: Math.min(...all), label: `Loss from ${first.loss.toFixed(3)} to ${last.loss.toFixed(3)} in ${end} steps`,
      lines: [{ points: losses.map(p => [p.step, p.loss]) }, { points: held.map(p => [p.step, p.eval_loss]), kind: 'held' }], caption: [`loss by step; blue: training, orange dashes: held-out dialogues${heard}`] });
  }

  /* One line a dimension; a coin and the longer reply as dots. The words below say what each line ends with. */
  function accuracy(points, name) {
    const held = points.filter(p => p.eval_accuracy !== undefined);
    if (!held.length) return null;
    const last = held[held.length - 1], end = points[points.length - 1].step, share = x => x.toFixed(2);
    const keys = [...new Set(held.flatMap(p => Object.keys(p)))].filter(k => k.startsWith('eval_accuracy_')).sort();
    const rows = [{ key: 'eval_accuracy', label: 'all', kind: 'own' }, ...keys.map((key, i) => ({ key, label: name(key.slice(14)), colour: COLOURS[(i + 1) % COLOURS.length], kind: 'thin' }))].map(r => ({ ...r, points: held.filter(p => p[r.key] !== undefined).map(p => [p.step, p[r.key]]) }));
    const base = [['coin', 0.5], ...last.eval_longer === undefined ? [] : [['longer reply', last.eval_longer]]];
    const said = rows.map(r => `${r.label} ${share(r.points[r.points.length - 1][1])}`), beside = base.map(([label, value]) => `${label} ${share(value)}`);
    const legend = r => h('span.key', {}, h('i', { style: `background: ${r.colour || COLOURS[0]}` }), `${r.label} ${share(r.points[r.points.length - 1][1])} `);
    return plot({ from: points[0].step, to: end, top: 1, low: 0, label: `Accuracy on held-out pairs at step ${last.step}: ${said.join(', ')}. Baselines: ${beside.join(', ')}`,
      lines: [...base.map(([, value]) => ({ points: [[points[0].step, value], [end, value]], kind: 'base' })), ...rows],
      caption: ['accuracy on held-out pairs (they choose the best moment, so the test tells the figure to quote): ', ...rows.map(legend), h('span.key', {}, `dots: ${beside.join(', ')}`)] });
  }

  return { loss, accuracy };
})();
