/* Judges side by side on the Judge screen: who is chosen, what each says of the open dialogue, where they part, how each agrees
   with the person so far; two versions compared; a merged export. judge.js gives the place; what is hidden never leaves the server. */
'use strict';
window.studioPanel = (() => {
  const studio = window.studio, bars = window.studioJudge;
  const { h, call, on } = studio;
  const kept = (name, otherwise) => { try { return JSON.parse(localStorage.getItem(`studio-panel-${name}`)) ?? otherwise; } catch { return otherwise; } };
  const keep = (name, value) => localStorage.setItem(`studio-panel-${name}`, JSON.stringify(value));
  const ALL = 'all';
  let root = null, places = null, now = null, agreed = null, compared = null, timer = null, wanted = 0;

  const percent = x => `${(100 * x).toFixed(1)} %`;
  const span = s => s ? `${percent(s[0])} to ${percent(s[1])}` : 'no interval';
  const many = (n, one, more) => `${n} ${n === 1 ? one : more}`;
  const label = name => now.judges.find(j => j.name === name)?.label || name;
  const title = j => j.kind === 'trained' ? j.label : `${j.label} (zero-shot)`;
  const quietly = error => { if (!error.told) throw error; };
  const trained = () => now.judges.filter(j => j.kind === 'trained').map(j => j.name);
  const busy = () => now.tasks.some(t => ['waiting', 'running'].includes(t.state));
  const what = () => ({ chosen: kept('chosen', []).slice(0, 3), tree: studio.state.view?.tree || null, leaf: studio.state.view?.lanes?.[0] || null, blind: bars.blind() });

  async function load() {
    clearTimeout(timer);
    if (!root?.offsetParent) return;
    const mine = ++wanted, asked = what();
    const found = await call('panel', asked);
    if (mine !== wanted) return;
    now = found;
    draw();
    if (busy()) timer = setTimeout(() => load().catch(() => {}), 700);
    else await figures();
  }

  /* The figures are over all that is rated: asked for when something was written, not while it is being written. */
  async function figures() {
    const pair = versions(), key = JSON.stringify([now.stamp, now.chosen]), both = JSON.stringify([now.stamp, pair]);
    const told = error => { quietly(error); return { judges: [], rows: [], missing: 0, trees: 0, nothing: error.message }; };  // said once, not every second
    if (agreed?.key !== key && now.chosen.length) { const found = await call('panel_agreement', { chosen: now.chosen }).catch(told); agreed = { key, ...found }; }
    if (compared?.key !== both && pair) { const found = await call('panel_versions', { a: pair[0], b: pair[1] }).catch(told); compared = { key: both, ...found }; }
    draw();
  }

  function versions() {
    const names = trained(), pair = kept('versions', []).filter(n => names.includes(n));
    if (names.length < 2) return null;
    return pair.length === 2 && pair[0] !== pair[1] ? pair : names.slice(0, 2);
  }

  async function act(name, data) {
    const answer = await call(name, data).catch(quietly);
    if (!answer) return;
    now.tasks = answer.tasks;
    draw();
    load().catch(() => {});
  }

  /* ---- who */
  function choose() {
    const pick = (name, yes) => {  // from what was kept: the server may not have answered the click before
      const others = kept('chosen', []).filter(n => n !== name && now.judges.some(j => j.name === n));
      keep('chosen', yes ? [...others, name].slice(-now.most) : others);
      load().catch(quietly);
    };
    const full = now.chosen.length >= now.most;
    const box = j => h('label', {}, h('input', { type: 'checkbox', value: j.name, checked: now.chosen.includes(j.name), disabled: full && !now.chosen.includes(j.name), onchange: e => pick(j.name, e.target.checked) }), title(j), j.can ? null : h('span.soft', {}, ' not configured any more'));
    return [h('fieldset', {}, h('legend', {}, `Choose two or three (${now.chosen.length} chosen)`), ...now.judges.map(box)),
      h('p.warn', {}, 'A trained version, or any chat model that is asked with the rubric and answers in JSON (zero-shot). A model on a server is sent the dialogue.')];
  }

  function buttons() {
    if (!now.chosen.length) return [];
    const here = now.shown ? Object.values(now.shown.missing).reduce((a, b) => a + b, 0) : 0;
    const rated = agreed?.judges.reduce((a, j) => a + j.missing, 0) || 0;
    const start = tree => act('panel_start', { chosen: now.chosen, tree });
    return [h('div.panel-line', {}, h('button.primary', { disabled: !here || busy(), onclick: () => start(now.shown.tree) }, `Score this dialogue (${here} to do)`),
      h('button', { disabled: !rated || busy(), onclick: () => start(null), title: 'The replies you rated or compared, in dialogues that a judge did not learn from' }, `Score what I rated (${rated} to do)`))];
  }

  function task(t) {
    const over = !['waiting', 'running'].includes(t.state);
    const bar = h('progress', { max: t.total || 1, ariaLabel: t.title });
    if (t.total) bar.value = t.done;
    return h('div.panel-task', { 'data-task': t.key }, h('b', {}, t.title), over ? null : bar, h('span.soft', { role: 'status' }, t.total && !over ? `${t.done} of ${t.total}` : t.state),
      h('button', { onclick: () => act('panel_cancel', { key: t.key }), ariaLabel: `${over ? 'Dismiss' : 'Cancel'} ${t.title}` }, over ? 'Dismiss' : 'Cancel'),
      t.note ? h('p.warn', {}, t.note) : null, t.error ? h('p.problem', { role: 'alert' }, t.error) : null);
  }

  const news = () => now.tasks.filter(t => t.state !== 'done' || t.note);  // what went well shows in the table

  /* ---- one dialogue */
  function score(code, one, judge) {
    if (!one) return '–';
    const { few, words } = judge.kind === 'trained' ? bars.rests(code, { trained: judge.learned, derived: judge.derived }) : { few: false, words: '' };
    const text = `${bars.name(code)}: ${bars.says(one)}${few ? `; ${words}` : ''}`;
    const track = one.share === undefined ? null : h('span.judge-track', { ariaHidden: 'true' }, h('span.judge-fill', { style: `width:${100 * one.share}%` }));
    return h(few ? 'span.score.few' : 'span.score', { title: text }, track, `${short(one)}${few ? '?' : ''}`, h('span.hidden-text', {}, ` ${text}`));
  }

  /* Who never wavers gave a whole number. */
  const short = one => one.value !== undefined && (one.spread === null || one.spread === undefined) ? String(one.value) : bars.number(one);

  const opens = (row, ...more) => h('button.open', { onclick: () => { document.querySelector('#screens [role=tab]').click(); studio.open({ node: row.id }).catch(quietly); }, title: 'Open it in Explore' }, `Turn ${row.turn} · ${row.start || (row.picture ? 'a picture' : 'no words')}`, ...more);

  function columns() {
    if (!now.chosen.length) return [h('p.warn', {}, 'Select judges.')];
    if (!now.shown) return [h('p.warn', {}, 'No dialogue is open. Open one on Explore; its replies then stand here, each judge’s scores beside yours.')];
    const code = kept('dimension', 'overall'), codes = bars.codes;
    const select = h('select', { ariaLabel: 'Dimension shown', onchange: e => { keep('dimension', e.target.value); draw(); } }, ...[[ALL, 'All dimensions'], ...codes.map(c => [c, bars.name(c)])].map(([v, t]) => h('option', { value: v, selected: v === code }, t)));
    const listed = said => h('span.all-scores', {}, codes.filter(c => said[c] !== undefined).map(c => `${bars.short(c)} ${typeof said[c] === 'object' ? short(said[c]) : said[c]}`).join(' · ') || '–');
    const cell = (row, name) => h('td', {}, row.waits && !Object.keys(row.said[name]).length ? h('span.soft', {}, 'waits for your rating') : code === ALL ? listed(row.said[name]) : score(code, row.said[name][code], now.judges.find(j => j.name === name)));
    return [h('p.warn', {}, `“${now.shown.title || 'untitled'}”, ${many(now.shown.rows.length, 'reply', 'replies')}; the path open in Explore comes first, in bold.`), h('div.panel-line', {}, h('label', {}, 'Show ', select)),
      h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Scores side by side' }, h('table', {}, h('thead', {}, h('tr', {}, ...['Reply', 'You', ...now.chosen.map(n => title(now.judges.find(j => j.name === n)))].map(t => h('th.column', { scope: 'col' }, t)))),
        h('tbody', {}, ...now.shown.rows.map(row => h(row.path ? 'tr.on-path' : 'tr', { 'data-reply': row.id }, h('td.reply', {}, opens(row)), h('td.number', {}, code === ALL ? listed(row.mine) : String(row.mine[code] ?? '–')), ...now.chosen.map(name => cell(row, name)))))))];
  }

  function apart() {
    if (!now.shown || now.chosen.length < 2) return [];
    const line = found => h('li', {}, opens(found), ' ', h('span.soft', {}, `${bars.name(found.dimension)}: ${Object.entries(found.said).map(([n, one]) => `${label(n)} ${short(one)}`).join(', ')} (${Math.round(100 * found.gap)} % of the range apart)`));
    return [h('h3', {}, 'Disagreements'), now.shown.apart.length ? h('ol', {}, ...now.shown.apart.map(line)) : h('p.warn', {}, 'No disagreements yet.')];
  }

  /* ---- agreement */
  const exact = s => !s ? '–' : `${percent(s.agreement.value)} (n ${s.n}; ${span(s.agreement.interval)}); always ${s.constant.says}: ${percent(s.constant.value)}`;
  const right = p => !p.n ? '–' : `${percent(p.accuracy)} (n ${p.n}; ${span(p.interval)}); coin 50.0 %${p.baselines.longer.value === null ? '' : `, longer reply ${percent(p.baselines.longer.value)}`}`;
  const few = r => [r.scores?.interval_note, r.pairs.n ? r.pairs.interval_note : null].filter(Boolean)[0] || '';

  function agreement() {
    if (!now.chosen.length || !agreed) return [];
    const one = j => [h('h4', {}, title(j)), h('p.warn', {}, `Over ${many(j.trees, 'dialogue', 'dialogues')} that you rated. ${j.kind === 'trained' ? `Training trees left out: ${j.left_out}.` : 'It was not trained here, so none is left out.'}${j.missing ? ` Not scored yet: ${many(j.missing, 'reply', 'replies')}.` : ''}${j.why ? ` ${j.why}` : ''}`),
      !j.rows.length ? h('p.warn', {}, 'This judge has not scored any reply you rated.')
        : h('div.table', { tabIndex: 0, role: 'region', ariaLabel: `Agreement of ${title(j)} with you` }, h('table', {}, h('thead', {}, h('tr', {}, ...['Dimension', 'Same score as you, rounded (95 % interval)', 'Same reply preferred (95 % interval)', 'Order of your scores kept', ''].map(t => h('th', { scope: 'col' }, t)))),
          h('tbody', {}, ...j.rows.map(r => h('tr', {}, h('td', {}, bars.name(r.dimension), r.dimension === 'overall' && r.level === 'global' ? ' (dialogue)' : ''), h('td', {}, exact(r.scores)), h('td', {}, right(r.pairs)), h('td', {}, r.derived ? right(r.derived) : '–'), h('td.soft', {}, few(r)))))))];
    return [h('h3', {}, 'Agreement with you so far'), ...agreed.judges.flatMap(one)];
  }

  /* ---- two versions */
  function pairing() {
    const names = trained(), pair = versions();
    if (!pair) return [h('p.warn', {}, 'Two trained versions can be compared here.')];
    const change = (i, value) => { const next = [...pair]; next[i] = value; if (next[0] === next[1]) next[1 - i] = names.find(n => n !== value); keep('versions', next); load().catch(quietly); };
    const select = i => h('select', { ariaLabel: i ? 'Second version' : 'First version', onchange: e => change(i, e.target.value) }, ...names.map(n => h('option', { value: n, selected: n === pair[i] }, n)));
    return [h('div.panel-line', {}, select(0), ' against ', select(1), compared?.missing ? h('button', { disabled: busy(), onclick: () => act('panel_score_versions', { a: pair[0], b: pair[1] }) }, `Score what both need (${compared.missing} to do)`) : null)];
  }

  function verdict(found, unit) {
    if (!found || !found.n) return '–';
    const points = x => unit === 'points' ? x.toFixed(2) : (100 * x).toFixed(1), sign = x => `${x > 0 ? '+' : ''}${points(x)}`;
    const by = found.interval ? `${sign(found.interval[0])} to ${sign(found.interval[1])}` : 'no interval';
    const who = found.better ? h('b.better', {}, `${compared[found.better]} is better`) : found.beyond_chance ? 'too few dialogues to tell' : 'may be chance';
    const each = unit === 'points' ? '' : `${percent(found.accuracy_a)} and ${percent(found.accuracy_b)}: `;
    return [who, h('div.soft', {}, `${each}${sign(found.difference)} points (${by}); n ${found.n}, ${many(found.trees, 'dialogue', 'dialogues')}`)];
  }

  function duel() {
    if (!versions() || !compared) return [];
    if (compared.nothing) return [h('p.warn', { role: 'status' }, compared.nothing)];
    const head = ['Dimension', 'Same reply preferred as you', 'Order of your scores kept', 'Nearer to your scores'];
    return [h('p.warn', {}, `${compared.a} minus ${compared.b}, on ${many(compared.trees, 'dialogue', 'dialogues')} that you rated and neither learned from; training trees left out: ${compared.left_out}. Brackets: 95 % bootstrap by dialogue, paired. Of twenty such lines about one leaves 0 out by chance.`),
      !compared.rows.length ? h('p.warn', {}, compared.missing ? 'They have not scored these dialogues yet.' : 'No reply was scored by both on a dimension that you rated.')
        : h('div.table', { tabIndex: 0, role: 'region', ariaLabel: 'Two versions compared' }, h('table', {}, h('thead', {}, h('tr', {}, ...head.map(t => h('th', { scope: 'col' }, t)))),
          h('tbody', {}, ...compared.rows.map(r => h('tr', { 'data-versus': `${r.level}-${r.dimension}` }, h('td', {}, bars.name(r.dimension), r.dimension === 'overall' && r.level === 'global' ? ' (dialogue)' : ''), h('td', {}, verdict(r.pairs)), h('td', {}, verdict(r.derived)), h('td', {}, verdict(r.error, 'points')))))))];
  }

  /* ---- drawing: only a part whose data changed is drawn again, and what has the keyboard keeps it */
  function draw() {
    if (!root || !now) return;
    if (!places) {
      const names = ['choose', 'buttons', 'tasks', 'columns', 'apart', 'agreement', 'pairing', 'duel'];
      places = Object.fromEntries(names.map(name => [name, h(`div.panel-${name}`)]));
      root.replaceChildren(h('div.panel', {}, h('h2', {}, 'Judges side by side'), places.choose, places.buttons, places.tasks, places.columns, places.apart, places.agreement,
        h('h2', {}, 'Two versions compared'), places.pairing, places.duel));
    }
    const dimension = kept('dimension', 'overall'), work = busy(), pair = versions();
    part('choose', [now.judges, now.chosen], choose);
    part('buttons', [now.chosen, now.shown?.missing, agreed, work], buttons);
    part('tasks', news(), () => news().map(task));
    part('columns', [now.chosen, now.shown, dimension], columns);
    part('apart', [now.chosen, now.shown?.apart], apart);
    part('agreement', [now.chosen, agreed], agreement);
    part('pairing', [trained(), pair, compared?.missing, work], pairing);
    part('duel', [pair, compared], duel);
  }

  function part(name, data, make) {
    const place = places[name], json = JSON.stringify(data);
    if (place.drawn === json) return;
    place.drawn = json;
    const inner = 'button, input, select, [tabindex]', at = [...place.querySelectorAll(inner)].indexOf(document.activeElement), scrolled = place.querySelector('.table')?.scrollTop;
    place.replaceChildren(...make());
    if (scrolled) place.querySelector('.table')?.scrollTo(0, scrolled);
    if (at >= 0) place.querySelectorAll(inner)[at]?.focus({ preventScroll: true });
  }

  on('changed', () => load().catch(() => {}));
  on('rated', () => load().catch(() => {}));

  /* judge.js calls this whenever it has drawn: the first time, and when something may have changed. */
  function mount(place) {
    if (root !== place) { root = place; places = null; }
    load().catch(() => {});
  }

  return { mount, exportMerged: name => act('panel_export', { judge: name }) };
})();
