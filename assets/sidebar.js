/* The list of dialogues, and search over every branch. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, call, on, state } = studio;
  let root = null, list = null, input = null, removed = false, timer = null, asked = 0;

  const when = iso => {
    const minutes = (Date.now() - new Date(iso)) / 60000;
    if (minutes < 1) return 'now';
    if (minutes < 60) return `${Math.floor(minutes)} min`;
    if (minutes < 1440) return `${Math.floor(minutes / 60)} h`;
    return new Date(iso).toLocaleDateString();
  };

  function build() {
    input = h('input', { type: 'search', placeholder: 'Search all branches ( / )', ariaLabel: 'Search all branches', oninput: () => { clearTimeout(timer); timer = setTimeout(load, 150); },
      onkeydown: event => { if (event.key === 'Escape') { input.value = ''; load(); input.blur(); } } });
    list = h('div.tree-list');
    root.replaceChildren(
      h('div.side-head', {}, h('button.primary.new', { title: 'New dialogue (N)', onclick: fresh }, '+ New dialogue'),
        h('button', { title: 'Import dialogues', onclick: () => [...document.querySelectorAll('[role=tab]')].find(t => t.textContent.trim() === 'Data')?.click() }, 'Import')), input, list,
      h('div.side-foot', {}, h('label', {}, h('input', { type: 'checkbox', onchange: event => { removed = event.target.checked; load(); } }), ' Removed dialogues')));
  }

  const fresh = () => { studio.blank(); studio.emit('compose'); };

  async function load() {
    const mine = ++asked;
    const answer = await call('trees', { words: input.value, removed });
    if (mine !== asked) return;
    if (answer.hits) return found(answer);
    if (!answer.trees.length) return fill(h('p.soft.empty', {}, removed ? 'Nothing was removed.' : 'No dialogue yet. Ask something, or import one under Data.'));
    fill(...answer.trees.map(line));
    mark();
  }

  function found({ hits, words }) {
    if (!hits.length) return fill(h('p.soft.empty', {}, `Nothing on any branch has “${words}”.`));
    fill(...hits.map(hit => h('div', { role: 'listitem' }, h('button.hit', { onclick: () => studio.open({ node: hit.node_id }) },
      h('span.hit-title', {}, h(hit.role === 'user' ? 'i.circle' : 'i.square'), hit.title), h('span.hit-text', {}, hit.before, h('mark', {}, hit.match), hit.after)))));
  }

  /* Dialogues, hits, or a word that there are none: then it is no list. */
  function fill(...items) {
    if (items[0].getAttribute('role') === 'listitem') list.setAttribute('role', 'list'); else list.removeAttribute('role');
    list.replaceChildren(...items);
  }

  function line(tree) {
    const rated = tree.rated ? ` · ${tree.rated} rated` : '';
    const title = h('span.tree-title', {}, tree.title || 'Untitled');
    const rename = event => {
      event.stopPropagation();
      const field = h('input', { value: tree.title, ariaLabel: 'Title' });
      const keep = async () => { if (field.value.trim() && field.value !== tree.title) await call('rename', { tree: tree.id, title: field.value }).catch(() => {}); load(); if (state.view?.tree === tree.id) studio.refresh(); };
      field.addEventListener('keydown', e => { if (e.key === 'Enter') field.blur(); if (e.key === 'Escape') { field.value = tree.title; field.blur(); } });
      field.addEventListener('click', e => e.stopPropagation());
      field.addEventListener('blur', keep);
      title.replaceWith(field);
      field.focus(); field.select();
    };
    const toggle = async event => {
      event.stopPropagation();
      const root = (await call('outline', { tree: tree.id })).nodes.filter(n => !n.parent);
      for (const node of root) await call(tree.removed ? 'restore' : 'prune', { node: node.id });
      if (!tree.removed && state.view?.tree === tree.id) studio.blank();
      studio.emit('changed');
    };
    const open = () => { studio.open({ tree: tree.id }); studio.emit('pane', 'centre'); };
    return h('div.tree-line', { role: 'listitem', 'data-tree': tree.id },
      h('button.tree-open', { onclick: open, title: tree.title }, title, h('span.soft', {}, `${tree.questions} question${tree.questions === 1 ? "" : "s"} · ${tree.replies} repl${tree.replies === 1 ? "y" : "ies"}${rated} · ${when(tree.last_at)}`)),
      h('span.tree-tools', {}, h('button.tool', { onclick: rename, title: 'Rename', ariaLabel: `Rename ${tree.title}` }, '✎'),
        h('button.tool', { onclick: toggle, title: tree.removed ? 'Bring back' : 'Remove (can be undone)', ariaLabel: `${tree.removed ? 'Bring back' : 'Remove'} ${tree.title}` }, tree.removed ? '↺' : '×')));
  }

  const mark = () => list?.querySelectorAll('.tree-line').forEach(l => l.classList.toggle('current', l.dataset.tree === state.view?.tree));

  on('part', name => { if (name === 'sidebar') { root = studio.parts.sidebar.querySelector('.sidebar'); build(); } });
  on('start', () => load());
  on('changed', () => load());
  on('elsewhere', () => load());
  on('view', mark);
  studio.search = () => { studio.emit('pane', 'left'); input.focus(); input.select(); };
  studio.fresh = fresh;
})();
