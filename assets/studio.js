/* The core of the page: one door to the server, what is shown now, undo, toasts, the address.
   window.studio is shared by transcript.js, sidebar.js, inspector.js and keys.js. The truth is on the server: this holds ids. */
'use strict';
window.studio = (() => {
  const parts = {};            // elements that Gradio mounted, by name
  const state = { view: null, focus: null, undos: [], seen: null, following: null };
  const listeners = {};
  let bridge = null, started = false, opening = 0, went = 0, sentAt = 0;

  /* An element: h('button.small', {onclick, title}, 'text', child). Text is always text, never HTML. */
  function h(spec, props = {}, ...children) {
    const [tag, ...classes] = spec.split('.');
    const element = document.createElement(tag || 'div');
    if (classes.length) element.className = classes.join(' ');
    for (const [key, value] of Object.entries(props || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
      else if (key === 'html') element.innerHTML = value;  // only ever HTML that the server has sanitised
      else if (key in element && key !== 'list') element[key] = value;
      else element.setAttribute(key, value === true ? '' : value);
    }
    element.append(...children.flat().filter(c => c !== null && c !== undefined && c !== false));
    return element;
  }

  /* A small button. Its spoken name says what it does, and begins with what can be read on it, for those who speak to their computer. */
  const tool = (text, title, onclick, extra = {}) => h('button.tool', { type: 'button', title,
    ariaLabel: !/[a-z]/i.test(text) || title.toLowerCase().includes(text.toLowerCase()) ? title : `${text}: ${title}`, onclick, ...extra }, text);

  const on = (name, listener) => (listeners[name] ||= []).push(listener);
  const emit = (name, ...data) => (listeners[name] || []).forEach(listener => listener(...data));

  async function call(name, data = {}) {
    let answer;
    try {
      answer = await bridge.server.studio_call({ name, data });
    } catch (error) {
      lost(true);
      throw error;
    }
    lost(false);
    if (answer.error) { toast(answer.error, { bad: true }); throw Object.assign(new Error(answer.error), { told: true }); }
    if (answer.undo) offer(answer.undo);
    return answer;
  }

  /* One after the other: the last key pressed is the last one saved, and the first one undone. */
  let line = Promise.resolve();
  function inLine(act) {
    const done = line.then(act);
    line = done.catch(() => {});
    return done;
  }

  function lost(yes) {
    document.body.classList.toggle('studio-lost', yes);
  }

  /* ---- toasts and undo */
  const box = h('div', { id: 'toasts', ariaLive: 'polite' });

  /* In the window that is open over the page: below it nothing is seen, read out or pressed. */
  function place() {
    const top = [...document.querySelectorAll('dialog:modal')].at(-1) || document.body;
    if (box.parentNode !== top) top.append(box);
  }
  new MutationObserver(place).observe(document.body, { childList: true });  // a window came or went

  function toast(text, { bad = false, action = null, label = '' } = {}) {
    place();
    const close = () => item.remove();
    const item = h(bad ? 'div.toast.bad' : 'div.toast', { role: bad ? 'alert' : null }, h('span', {}, text),
      action && h('button', { onclick: () => { close(); action(); } }, label), h('button.close', { onclick: close, ariaLabel: 'Dismiss' }, '×'));
    box.append(item);
    while (box.children.length > 4) box.firstChild.remove();
    setTimeout(close, bad ? 12000 : 6000);
  }

  function offer(undo) {
    state.undos.push(undo);
    state.undos.splice(0, state.undos.length - 100);
    sessionStorage.setItem('studio-undos', JSON.stringify(state.undos));
    if (!['rate', 'reopen', 'withdraw'].includes(undo.act)) toast(undo.label, { action: takeBack, label: 'Undo' });
  }

  const takeBack = () => inLine(async () => {
    const undo = state.undos.pop();
    if (!undo) return toast('Nothing to undo.');
    await call('undo', undo);
    sessionStorage.setItem('studio-undos', JSON.stringify(state.undos));
    toast(`Undone: ${undo.label}`);
    emit('undone');
    await refresh();
    emit('changed');
  });

  /* ---- what is shown */
  let last = null, soon = null;  // what is being opened, until it is shown; the one refresh that waits for it
  function open(what, options) {
    const mine = last = load(what, options).finally(() => { if (last === mine) last = null; });
    return mine;
  }

  async function load(what, { remember = true, stay = false } = {}) {
    const mine = ++opening, asked = performance.now();
    if (remember) went++;  // somebody went somewhere
    const view = Object.assign(await call('open', what), { asked });
    if (stay && [...view.shared, ...view.columns.flat()].some(c => c.id === state.focus)) view.focus = state.focus;  // somebody chose another card meanwhile
    if (mine === opening) show(view, remember);  // else a later click was faster
  }

  function show(view, remember = true) {
    const other = !state.view || state.view.tree !== view.tree;
    state.view = view;
    state.focus = view.focus;
    const query = new URLSearchParams(location.search);
    for (const key of ['tree', 'lanes', 'token']) query.delete(key);
    if (view.tree) { query.set('tree', view.tree); query.set('lanes', view.lanes.join(',')); }
    const address = `${location.pathname}?${query}`.replace(/\?$/, '');
    if (remember && address !== location.pathname + location.search) history.pushState(null, '', address);
    document.title = view.title ? `${view.title} · intermt-studio` : 'intermt-studio';
    emit('view', { view, other });
    emit('focus', state.focus);
    if (view.growing.length) follow(view.tree);
  }

  /* Again what is shown. What is on its way may have been read before something was written, and must not be overtaken: after it,
     once for all who asked meanwhile. */
  function refresh() {
    const after = () => { soon = null; return refresh(); };
    if (last) return soon ||= last.then(after, after);
    const { tree, lanes, waiting } = state.view || {};
    return tree ? open({ lanes, node: state.focus, waiting: (waiting || []).map(w => w.id) }, { remember: false, stay: true }) : Promise.resolve();
  }

  const blank = () => ++went && ++opening && show({ tree: null, title: '', focus: null, lanes: [], shared: [], columns: [], growing: [] });

  function focus(id, { scroll = true } = {}) {
    if (!id || id === state.focus) return;
    state.focus = id;
    emit('focus', id, scroll);
  }

  const cards = () => state.view ? [...state.view.shared, ...state.view.columns.flat()] : [];
  const card = id => cards().find(c => c.id === id);
  const go = id => card(id) ? focus(id) : open({ node: id });

  /* ---- replies on their way: one stream for all of them */
  function follow(tree) {
    if (state.following === tree) return;
    state.following = tree;
    bridge.trigger('follow', { tree });
  }

  function received(value) {
    if (!value) return;
    if (value.asked) {
      const there = () => open({ lanes: value.asked, node: value.asked[0] });
      emit('asked');
      if (sentAt === went) there().then(() => emit('changed'));
      else { emit('changed'); toast('Your question was asked in the dialogue that you left.', { action: there, label: 'Go there' }); }
    }
    if (value.message) toast(value.message, { bad: value.bad });
    if (value.changed) emit('changed');
    if (value.go) open(value.go);
    if (value.judged && state.view?.tree === value.judged) refresh().then(() => emit('changed'));
    if (value.live) {
      if (state.view?.tree !== value.tree) return;
      value.live.forEach(reply => emit('grow', reply));
      if (!value.over && stale(value.live)) refresh();
      if (value.over) { state.following = null; refresh().then(() => emit('changed')); }
    }
  }

  /* A reply that ended while others grow, or one that began because a question had waited: worth one look at the whole. */
  const looked = new Set();
  function stale(live) {
    const grows = reply => !['done', 'stopped', 'failed'].includes(reply.phase);
    const going = new Set(live.filter(grows).map(reply => reply.id));
    const keys = [...cards().filter(c => c.status === 'streaming' && !going.has(c.id)).map(c => `${c.id} ended`),
      ...(state.view.waiting?.length ? [...going].filter(id => !card(id)).map(id => `${id} began`) : [])].filter(key => !looked.has(key));
    if (last || !keys.length) return false;
    keys.forEach(key => looked.add(key));
    return true;
  }

  const stop = () => {
    const growing = cards().filter(c => c.status === 'streaming').map(c => c.id);
    return growing.length ? call('stop', { nodes: growing }) : Promise.resolve();
  };

  /* The second tab, a command line import, a reply that grew while the page was closed. */
  async function poll() {
    if (document.hidden || !bridge) return;
    const answer = await call('poll', { tree: state.view?.tree });
    const changed = state.seen !== null && state.seen !== answer.seen;
    state.seen = answer.seen;
    emit('judge', answer.judge);
    if (!changed || state.following) return;
    if (answer.growing.length) follow(state.view.tree);
    emit('elsewhere');
  }

  /* ---- start */
  function part(name, element) {
    parts[name] = element;
    if (bridge) join([name]);  // before that some scripts may not have loaded yet
  }

  function connect(gradio) {
    bridge = gradio;
    bridge.watch('value', () => received(bridge.props.value));
    join(Object.keys(parts));
  }

  function join(names) {
    names.forEach(name => emit('part', name));
    if (!started && ['sidebar', 'transcript', 'map', 'inspector'].every(n => parts[n])) start();
  }

  async function start() {
    started = true;
    await poll().catch(() => {});  // from here on, what others write is noticed
    const early = sessionStorage.getItem('studio-undos');
    if (early) state.undos = JSON.parse(early);
    emit('start', parts);
    const restore = () => {
      const query = new URLSearchParams(location.search);
      const lanes = (query.get('lanes') || '').split(',').filter(Boolean), tree = query.get('tree');
      const opened = lanes.length ? open({ lanes }, { remember: false }) : tree ? open({ tree }, { remember: false }) : null;
      if (opened) opened.catch(() => blank()); else blank();
    };
    window.addEventListener('popstate', restore);
    setInterval(() => poll().catch(() => {}), 2000);
    restore();
  }

  window.addEventListener('unhandledrejection', event => { if (event.reason?.told) event.preventDefault(); });

  return { h, tool, on, emit, call, inLine, toast, open, show, go, focus, refresh, blank, stop, undo: takeBack, part, connect, cards, card, state, parts,
    lanes: () => { sentAt = went; return JSON.stringify(state.view?.lanes || []); },
    asking: () => { const [models, replies, temperature, max_tokens, seed, system] = window.studioHow || []; return { models, replies, temperature, max_tokens, seed, system, more: window.studioSampling.set() }; },
    trigger: (name, data) => bridge.trigger(name, data) };
})();
