/* The Judge screen's "When to stop rating": accuracy against ratings as a plot and a table, the job that measures it, and what
   fifty more would add. Draws what it is given; judge.js decides when. */
'use strict';
(() => {
  const { h } = window.studio, bars = window.studioJudge;
  let unfolded = false;  // the numbers: they stay open when the section is drawn again
  const percent = x => `${(100 * x).toFixed(1)} %`;
  const points = x => `${x < 0 ? '−' : '+'}${Math.abs(100 * x).toFixed(1)}`;
  const span = s => s ? `${percent(s[0])} to ${percent(s[1])}` : '–';
  const time = s => s === null || s === undefined ? '' : s < 90 ? `${Math.round(s)} s left` : `${Math.round(s / 60)} min left`;
  const make = (name, props, ...children) => { const e = document.createElementNS('http://www.w3.org/2000/svg', name); for (const [k, v] of Object.entries(props)) e.setAttribute(k, v); e.append(...children); return e; };

  /* Ratings grow to the right by doublings, so that equal steps are equal distances; the words keep their size on a phone. */
  function plot(curve) {
    const W = 440, H = 236, left = 38, right = 76, top = 12, bottom = 40, shown = curve.points;
    const base = [['coin', curve.baselines.coin.value], ['longer', curve.baselines.longer.value]].filter(([, v]) => v !== null);
    const low = Math.min(0.4, ...base.map(([, v]) => v), ...shown.flatMap(p => [p.interval ? p.interval[0] : p.accuracy, ...p.seeds])), floor = Math.floor(low * 10) / 10;
    const first = Math.log2(shown[0].ratings), width = Math.log2(shown[shown.length - 1].ratings) - first || 1;
    const x = n => left + 10 + (W - left - right - 20) * (Math.log2(n) - first) / width;
    const y = v => top + (H - top - bottom) * (1 - v) / (1 - floor);
    const word = (at, up, text, anchor = 'middle', kind = 'soft') => make('text', { x: at, y: up, 'text-anchor': anchor, class: kind }, text);
    const parts = [];
    for (let v = floor; v < 1.001; v += 0.1) parts.push(make('path', { d: `M${left} ${y(v)}H${W - right}`, class: 'grid' }), word(left - 5, y(v) + 4, `${Math.round(100 * v)}`, 'end'));
    const apart = base.length > 1 && Math.abs(y(base[0][1]) - y(base[1][1])) < 14 ? 7 * Math.sign(base[0][1] - base[1][1] || 1) : 0;
    base.forEach(([name, v], i) => parts.push(make('path', { d: `M${left} ${y(v)}H${W - right}`, class: name }), word(W - right + 5, y(v) + 4 + (i ? apart : -apart), name === 'coin' ? 'coin' : 'longer reply', 'start')));
    for (const p of shown) {
      if (p.interval) parts.push(make('path', { d: `M${x(p.ratings)} ${y(p.interval[0])}V${y(p.interval[1])}`, class: 'interval' }));
      if (p.seeds.length > 1) parts.push(...p.seeds.map(v => make('circle', { cx: x(p.ratings) + 9, cy: y(v), r: 2, class: 'seed' })));
      parts.push(word(x(p.ratings), H - bottom + 16, String(p.ratings)));
    }
    parts.push(make('polyline', { points: shown.map(p => `${x(p.ratings)},${y(p.accuracy)}`).join(' '), class: 'own' }), ...shown.map(p => make('circle', { cx: x(p.ratings), cy: y(p.accuracy), r: 4.5, class: 'dot' })));
    parts.push(word((left + W - right) / 2, H - 6, 'ratings to learn from (each step doubles them)'));
    const said = `Accuracy on unseen dialogues by number of ratings: ${shown.map(p => `${p.ratings} ratings ${percent(p.accuracy)}`).join(', ')}. Coin 50 %.`;
    return make('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': said }, ...parts);
  }

  const table = (name, head, rows) => h('div.table', { tabIndex: 0, role: 'region', ariaLabel: name }, h('table', {}, h('caption', {}, name), h('thead', {}, h('tr', {}, ...head.map(t => h('th', { scope: 'col' }, t)))),
    h('tbody', {}, ...rows.map(([first, ...cells]) => h('tr', {}, h('th', { scope: 'row' }, first), ...cells.map(c => h('td.number', {}, c)))))));

  function numbers(curve) {
    const range = s => s.length > 1 ? `${percent(Math.min(...s))} to ${percent(Math.max(...s))}` : 'all, once';
    const longer = curve.baselines.longer;
    return h('details', { open: unfolded, ontoggle: e => { unfolded = e.target.open; } }, h('summary', {}, 'The curve as numbers'),
      table('Accuracy by ratings', ['Ratings', 'Dialogues', 'Accuracy', '95 % interval', `Over ${curve.orders} orders`], curve.points.map(p => [String(p.ratings), String(p.trees), percent(p.accuracy), span(p.interval), range(p.seeds)])),
      h('p.warn', {}, `Baselines: coin ${percent(0.5)}, by chance ${span(curve.baselines.coin.interval)}${longer.value === null ? '' : `; longer reply ${percent(longer.value)} (${span(longer.interval)})`}.`),
      table('By dimension, with all ratings', ['Dimension', 'Level', 'Test pairs', 'Accuracy', '95 % interval', 'Longer reply', 'Last doubling, points'], curve.by.map(r => [bars.name(r.dimension), r.level, String(r.n), r.accuracy === null ? '–' : percent(r.accuracy), span(r.interval), r.longer == null ? '–' : percent(r.longer), r.gain?.interval ? `${points(r.gain.value)} (${points(r.gain.interval[0])} to ${points(r.gain.interval[1])})` : 'too few pairs'])));
  }

  function drawn(curve, now) {
    const since = now - curve.ratings, level = { local: 'replies', global: 'dialogues', both: 'replies and dialogues' }[curve.level];
    return h('div.learn-curve', {}, h('p.learn-verdict', { 'data-kind': curve.verdict.kind }, curve.verdict.text),
      h('figure', {}, plot(curve), h('figcaption', {}, `Agreement in per cent on ${curve.n} ${curve.of || 'pairs'} of ${curve.trees.test} unseen dialogues (${level}); bars: 95 % interval; small dots: single orders.`)),
      h('p.warn', {}, `Measured with a quick judge: ${curve.base === 'builtin' ? 'the built-in backbone' : 'the backbone'} as it is, only its head learns. A judge with LoRA may gain more from the same ratings.${since > 0 && curve.level === 'both' ? ` You have given ${since} ratings since.` : ''}`), numbers(curve));
  }

  function job(j, act) {
    if (!j || j.status === 'done') return null;
    const words = { running: 'measuring', stopped: 'stopped', failed: 'failed' };
    return h('section.judge-job', { 'data-job': j.id }, h('header', {}, h('b', {}, 'Curve'), h('span.soft', { role: 'status' }, words[j.status]), h('progress', { max: 1, value: j.progress, ariaLabel: 'Progress of the curve' }),
      h('span', {}, j.step ? `step ${j.step} of ${j.steps}` : j.status === 'running' ? 'starting' : ''), h('span.soft', {}, j.status === 'running' ? time(j.eta_s) : ''),
      j.status === 'running' ? h('button', { onclick: () => act('judge_stop', { job: j.id }) }, 'Stop') : h('button', { onclick: () => act('judge_go_on', { job: j.id }) }, 'Resume')),
    j.message ? h('p.warn', {}, j.message) : null, j.error ? h('p.problem', { role: 'alert' }, j.error) : null);
  }

  /* ``value(id)``: what the training form holds; ``act``: a call whose answer is the screen's new state. */
  function section(learning, act, value) {
    const { curve, missing } = learning, runs = learning.job?.status === 'running';
    const ask = () => act('learning_start', { base: value('base'), level: value('level'), seed: Number(value('seed')) });
    const button = h('button', { id: 'learn-start', disabled: runs || Boolean(missing), onclick: ask }, curve ? 'Measure again' : 'Measure the curve');
    const answered = learning.job?.status === 'done' && learning.job.verdict && learning.job.verdict !== curve?.verdict.text ? h('p.warn', {}, learning.job.verdict) : null;
    return h('div', {}, h('p.warn', {}, 'Would more ratings make the judge better? A quick judge learns from an eighth, a quarter, half and all of your ratings; each is tested on the same unseen dialogues. Backbone, level and seed are those chosen above.'),
      missing ? h('p', {}, missing) : null, button, job(learning.job, act), answered, curve ? drawn(curve, learning.next.total?.ratings ?? 0) : null);
  }

  /* Two more cells for a row of "Is there enough to learn from?". */
  const HEAD = ['Next 50 ratings (estimate)', 'Gain in points (estimate)'];
  function more(learning, row) {
    const found = learning.next.rows.find(r => r.level === row.level && r.dimension === row.dimension);
    const gain = found?.gain ? `${points(found.gain.value)} (${points(found.gain.interval[0])} to ${points(found.gain.interval[1])})` : '–';
    return [h('td.number', {}, found ? `+${found.labels} labels, +${found.pairs} pairs` : '–'), h('td.number', {}, gain)];
  }

  function estimate(learning) {
    const { total, more: n } = learning.next;
    if (!total) return null;
    const gain = total.gain ? `: all in all about ${points(total.gain.value)} points of accuracy (${points(total.gain.interval[0])} to ${points(total.gain.interval[1])}), read off the last doubling of the curve below` : '. Measure the curve to estimate the gain';
    return h('p.warn', {}, `Assumes the next ${n} ratings are like the ${total.ratings.toLocaleString('en')} so far${gain}.`);
  }

  window.studioLearning = { section, more, estimate, HEAD };
})();
