/* The tree map's mount, and what is known of the message in focus: facts, what was sent, pictures, judgements. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, call, on, state } = studio;
  let root = null, map = null, shown = null, timer = null, mapped = null;

  async function redraw() {
    const tree = state.view?.tree;
    mapped = tree;
    if (!map) return;
    if (!tree) return map.setTree({ tree_id: null, nodes: [] });
    const data = await call('outline', { tree });
    if (mapped !== tree) return;
    window.studioJudge.paint(data.nodes);
    map.setTree({ ...data, ends: window.studioJudge.ends() });
    map.setView({ focus: state.focus, lanes: state.view.lanes });
  }

  async function inspect(id) {
    clearTimeout(timer);
    if (!id) { shown = null; return root.replaceChildren(h('p.soft.empty', {}, 'Choose a message to see what was sent and how it was judged.')); }
    const data = await call('inspect', { node: id });
    if (state.focus !== id) return;
    const folds = () => [...root.querySelectorAll('details > summary')].map(s => [s.textContent.replace(/ \(\d.*/, ''), s.parentElement]);
    const before = new Map(folds().map(([title, fold]) => [title, fold.open]));  // what is read stays open, from message to message
    shown = id;
    root.replaceChildren(...[
      h('table.facts', {}, ...data.facts.map(([name, value]) => h('tr', {}, h('th', {}, name), h('td', { title: TIMES.includes(name) ? value : '' }, TIMES.includes(name) ? new Date(value).toLocaleString() : String(value))))),
      fold('What was sent', data.sent.messages && sent(data.sent)),
      fold(`Tools it asked for (${data.tools.length}), not run`, data.tools.length && h('div.sent', {}, ...data.tools.map(t => h('pre', {}, t)))),
      fold(`Pictures (${data.images.length})`, data.images.length && h('div', {}, ...data.images.map(picture))),
      window.studioChecks.dialogue(studio.card(id)),
      fold('Judgements and their history', data.history.length && history(data.history), true)].filter(Boolean));
    for (const [title, fold] of folds()) fold.open = before.get(title) ?? fold.open;
  }

  const TIMES = ['Created', 'Pruned'];
  const fold = (title, content, open = false) => content ? h('details', { open }, h('summary', {}, title), content) : null;

  const RULES = { grammar: 'The grammar', json_schema: 'The JSON schema' };
  const sent = ({ backend, model, options, messages, request }) => h('div.sent', {},
    h('p.soft', {}, `${model} through ${backend} · ` + Object.entries(options).filter(([k, v]) => v !== null && !RULES[k]).map(([k, v]) => `${k} ${typeof v === 'object' ? JSON.stringify(v) : v}`).join(' · ')),
    ...Object.entries(RULES).map(([k, label]) => fold(label, options[k] && h('pre', {}, typeof options[k] === 'string' ? options[k] : JSON.stringify(options[k], null, 1)))),
    ...messages.map(m => h('div.sent-message', {}, h('b', {}, m.role), ...contents(m))),
    request && fold('The request beside its messages', h('pre', {}, JSON.stringify(request, null, 1))));

  /* Text as it was sent; a picture as its caption, and whether the model saw pixels or read that caption. */
  const GIVEN = { pixels: 'sent as pixels', caption: 'sent as its caption', later: 'came later: this was read as text' };
  const contents = ({ content, given = [] }) => content.map((text, i) => typeof given[i] !== 'string' ? h('pre', {}, text)
    : h('div.sent-picture', {}, h('pre', {}, text), GIVEN[given[i]] && h('span.soft', {}, GIVEN[given[i]])));

  const picture = row => h('div.lineage', {}, h('img', { src: `/thumb/${row.sha256}`, alt: '', loading: 'lazy' }),
    h('span', {}, `${row.width} × ${row.height}, ${Math.ceil(row.bytes / 1024)} KB, ${row.origin}`, h('br'), h('code', {}, row.sha256.slice(0, 16)), h('br'),
    h('button.tool', { type: 'button', ariaLabel: `Where the picture ${row.sha256.slice(0, 8)} comes from`, onclick: () => window.studioPicture.open(row.sha256, { history: true }) }, 'Where it comes from')));

  const history = rows => h('table.history', {}, h('tr', {}, ...['What', 'Value', 'Who', 'When'].map(t => h('th', {}, t))),
    ...rows.map(r => h(r.superseded_at ? 'tr.old' : 'tr', { title: r.superseded_at ? `Changed ${r.superseded_at}` : 'Current' },
      h('td', {}, r.what), h('td', {}, r.value), h('td', {}, r.annotator), h('td', {}, new Date(r.created_at).toLocaleString()))));

  on('part', name => {
    if (name === 'inspector') root = studio.parts.inspector.querySelector('.inspector');
    if (name === 'map') {
      map = window.studioTreeMap(studio.parts.map.querySelector('.tree-map'), { onSelect: id => studio.go(id) });
      studio.map = map;
    }
  });
  on('view', ({ view, other }) => {
    if (other || view.growing.length || mapped !== view.tree) redraw();
    else map.setView({ focus: state.focus, lanes: view.lanes });
  });
  on('changed', redraw);
  on('elsewhere', () => { redraw(); studio.refresh(); });
  on('rated', () => { clearTimeout(timer); timer = setTimeout(() => { redraw(); inspect(state.focus); }, 250); });
  on('focus', id => {
    if (map && state.view) map.setView({ focus: id, lanes: state.view.lanes });
    clearTimeout(timer);
    timer = setTimeout(() => inspect(id), shown ? 120 : 0);  // a walk with the arrow keys asks once, at its end
  });
})();
