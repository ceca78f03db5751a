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
    const value = key => p.baselines?.[key]?.value ?? null;
    const beside = BASELINES.filter(([key]) => value(key) !== null);
    const words = beside.map(([key, label]) => `${label} ${percent(value(key))}`).join(', ');
    return `${percent(p.accuracy)}${span}, n ${p.n}; ${words}`;
  }

  function offBy(s) {
    const span = s.interval ? ` (${s.interval[0].toFixed(2)}–${s.interval[1].toFixed(2)})` : '';
    const beside = Object.entries(s.beside).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(', ');
    return `Scores: off by ${s.error.toFixed(2)} points${span}, n ${s.n}; ${beside}`;
  }

  function whose(v, annotator) {
    if (v.mixed) return 'People, and pairs derived from scores';
    if (v.by.length === 1 && v.by[0] === annotator) return 'You';
    return v.by.length ? `People (${v.by.join(', ')})` : 'People';
  }

  function accuracy(v, annotator) {
    const who = whose(v, annotator), line = (name, p) => h('div', {}, h('b', {}, name), `: ${figure(p)}`);
    const derived = v.derived ? `Pairs derived from scores: ${figure(v.derived)}` : '';
    const scores = v.scores ? offBy(v.scores) : '';
    const says = v.verdict.says ? h(`div.judge-verdict.${v.verdict.kind}`, {}, v.verdict.says) : null;
    const tested = v.pairs || v.derived || v.scores;
    const none = tested ? 'No comparison of people among the test dialogues.' : v.untested || 'Not tested: no label among the test dialogues.';
    return [v.pairs ? line(who, v.pairs) : h('span', {}, none),
      v.pairs ? says : null,
      v.own && who !== 'You' ? line('You', v.own) : null,
      derived ? h(v.pairs ? 'div.soft' : 'div', {}, derived) : null,
      v.pairs ? null : says,
      scores ? h('div.soft', {}, scores) : null,
      v.pairs?.interval_note ? h('div.soft', {}, v.pairs.interval_note) : null].filter(Boolean);
  }

  let doubted = null;  // the judge whose "Use live" was pressed once although it is no better than a baseline

  async function promote(v, act) {
    doubted = null;
    await act('judge_promote', { judge: v.live ? null : v.name });
    window.studio.emit('promoted');
  }

  /* One press for a judge that is better than its baselines or was not tested (the table says so); for one that is not
     better, the first press says why not and the second one does it. */
  function live(v, act) {
    const sure = () => v.live || v.verdict.kind !== 'bad' || doubted === v.name;
    const label = () => v.live ? 'Switch off' : doubted === v.name ? 'Use it anyway' : 'Use live';
    const why = h('p.judge-verdict.bad', { role: 'status' });
    const draw = () => {
      button.textContent = label();
      why.textContent = doubted === v.name && !v.live ? `${v.name} is ${v.verdict.says}.` : '';
    };
    const button = h('button', { onclick: () => {
      if (sure()) return promote(v, act);
      doubted = v.name;
      return draw();
    } });
    draw();
    return [button, why];
  }

  function buttons(v, act) {
    const merged = h('button', {
      onclick: () => window.studioPanel.exportMerged(v.name),
      title: 'Write it as one model, LoRA folded in, for use without this program',
    }, 'Export merged');
    const remove = h('button', { onclick: () => act('judge_remove', { judge: v.name }) }, 'Remove');
    const [use, why] = live(v, act);
    return [use, merged, remove, why];
  }

  function row(v, act, annotator) {
    const derived = v.derived_labels ? ` and ${count(v.derived_labels)} derived pairs` : '';
    const soft = (text, title = '') => text ? h('div.soft', { title }, text) : null;
    const newer = v.since ? `${v.since} newer rating${v.since === 1 ? '' : 's'}` : '';
    return h('tr', { 'data-version': v.name },
      h('td', {}, h('b', {}, v.name), v.live ? h('div.live', {}, 'live') : null,
        soft(v.labels ? `${count(v.labels)} labels${derived}` : ''),
        soft(newer, 'Train again to learn from them')),
      h('td', {}, v.base, soft(`${v.level}, epochs ${v.epochs}, rank ${v.rank}`)),
      h('td.judge-accuracy', {}, ...accuracy(v, annotator)),
      h('td.buttons', {}, ...buttons(v, act)));
  }

  const HEAD = ['Judge', 'Backbone', 'Right in comparisons of unseen dialogues (95 % interval)', ''];

  function table(now, act) {
    if (!now.judges.length) return h('p', {}, 'No judge yet. Train one below; its scores then appear on every reply.');
    return h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Judges' },
      h('table', {}, h('tr', {}, ...HEAD.map(t => h('th', {}, t))),
        ...now.judges.map(v => row(v, act, now.annotator))));
  }

  return { table };
})();
