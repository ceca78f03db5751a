/* "Find a picture": folders that are indexed, a search as you type or by another picture, results as a grid; Enter or a click puts one
   into the message. The web is asked only on Enter: what is typed goes nowhere before that. Holds nothing; the server knows folders and pictures. */
'use strict';
window.studioRetrieve = (() => {
  const studio = window.studio;
  const { h, call, on, toast } = studio;
  const WAIT_MS = 180, LOOK_MS = 500;
  const remembered = JSON.parse(sessionStorage.getItem('studio-retrieve') || '{}');
  let now = null;   // the open window

  const button = (text, onclick, extra = {}) => h('button', { type: 'button', onclick, ...extra }, text);

  /* ``like``: a picture ({key, src}) to find others like; the key is what the server calls it. */
  async function open({ like = null } = {}) {
    if (now) return;
    now = { back: document.activeElement, asked: 0, words: null, changes: null, like: null };
    now.dialog = build();
    document.body.append(now.dialog);
    now.dialog.showModal();
    now.input.focus();
    now.input.select();
    await look();
    if (now && !now.known.folders.length && !now.known.web) { now.folders.open = true; now.path.focus(); }
    if (like) model(like); else search();
  }

  function close() {
    if (!now) return;
    const { dialog, back, timer, clock, like } = now;
    free(like);
    clearTimeout(timer);
    clearTimeout(clock);
    now = null;
    dialog.remove();
    if (back?.isConnected) back.focus({ preventScroll: true });
  }

  function build() {
    now.input = h('input', { type: 'search', value: remembered.words || '', placeholder: 'What should it show?', ariaLabel: 'Words of the picture', autocomplete: 'off', maxLength: 1000, oninput: later });
    now.where = h('select', { ariaLabel: 'Where to search', onchange: () => { search(); now.input.focus(); } });
    now.way = h('select', { ariaLabel: 'How to search', onchange: () => search() });
    now.model = h('div.found-like', { hidden: true });
    now.file = h('input', { type: 'file', accept: 'image/*', hidden: true, onchange: () => { drop(now.file.files[0]); now.file.value = ''; } });
    now.note = h('p.soft.found-note', { role: 'status' });
    now.grid = h('div.found-grid', { role: 'group', ariaLabel: 'Pictures that were found' });
    now.path = h('input', { type: 'text', placeholder: '/home/me/pictures', ariaLabel: 'Path of a folder with pictures', onkeydown: e => { if (e.key === 'Enter') { e.preventDefault(); add(); } } });
    now.list = h('div.found-list');
    now.folders = h('details.found-folders', {}, h('summary', {}, 'Folders'), now.list,
      h('div.found-row', {}, now.path, button('Add this folder', add), button('Look through all again', () => folder('look'))));
    return h('dialog', { id: 'retrieve', ariaLabel: 'Find a picture', onkeydown: keys,
      oncancel: event => { if (event.target !== event.currentTarget) return; event.preventDefault(); close(); },  // not of the system's own window of files
      ondragover: event => { if (event.dataTransfer.types.includes('Files')) event.preventDefault(); }, ondrop: dropped },
      h('div.found-head', {}, h('h2', {}, 'Find a picture'), h('span.soft.found-keys', {}, 'Enter puts it into the message, Shift+Enter stays here'), button('×', close, { ariaLabel: 'Close', title: 'Close (Esc)' })),
      h('div.found-row.found-ask', {}, now.input, now.where, now.way, now.file, button('By a picture…', () => now.file.click(), { title: 'Find others like a picture: choose it here, or drop it into this window' })), now.model, now.folders, now.note, now.grid);
  }

  /* ---- folders, and the look that is under way */
  const show = state => { now.known = state; folders(); };

  async function folder(act, more = {}) {
    const here = now, state = await call('retrieve_folder', { act, ...more });
    if (here !== now) return;
    show(state);
    watch();
  }

  async function add() {
    if (!now.path.value.trim()) return now.path.focus();
    await folder('add', { path: now.path.value });
    if (now) { now.path.value = ''; now.input.focus(); }
  }

  async function look() {
    const here = now, state = await call('retrieve');
    if (here !== now) return;
    show(state);
    if (now.changes !== null && now.changes !== state.changes && now.where.value !== 'web') search();
    now.changes = state.changes;
    watch();
  }

  function watch() {
    clearTimeout(now.clock);
    if (now.known.task && !over(now.known.task)) now.clock = setTimeout(() => look().catch(() => {}), LOOK_MS);
  }

  const over = task => ['done', 'cancelled', 'failed'].includes(task.state);

  function folders() {
    const { folders, task, notes, web, web_off } = now.known, chosen = now.where.value || remembered.where || '';
    const options = [['', 'All folders'], ...folders.map(f => [String(f.id), short(f.path)]), ...web ? [['web', `${web} (the web)`]] : []];
    now.where.replaceChildren(...options.map(([value, label]) => h('option', { value }, label)));
    now.where.value = options.some(([value]) => value === chosen) ? chosen : '';
    const way = now.way.value || remembered.way, { ways } = now.known;
    if (now.way.options.length !== ways.length) now.way.replaceChildren(...ways.map(([value, label]) => h('option', { value }, label)));
    now.way.value = ways.some(([value]) => value === way) ? way : 'both';
    const held = now.list.contains(document.activeElement) && document.activeElement.dataset.key;
    now.list.replaceChildren(...[...folders.map(line), task && progress(task), ...notes.map(n => h('p.soft', {}, n)), web_off && h('p.soft', {}, web_off)].filter(Boolean));
    if (held) now.list.querySelector(`[data-key="${held}"]`)?.focus();
    now.folders.querySelector('summary').textContent = task && !over(task) ? `Folders (${said(task)})` : `Folders (${folders.length})`;
  }

  const short = path => path.length > 40 ? `…${path.slice(-39)}` : path;
  const said = task => task.state === 'waiting' || !task.total ? 'looking' : `${task.note}: ${task.done} of ${task.total}`;

  const line = f => h('div.found-folder', {}, h('span', {}, f.path), h('span.soft', {}, [`${f.pictures.toLocaleString()} ${f.pictures === 1 ? 'picture' : 'pictures'}`, ...Object.entries(f.passed).map(([why, n]) => `${n} left out: ${why}`)].join(' · ')),
    button('Look again', () => folder('look', { folder: f.id }), { className: 'tool', 'data-key': `look${f.id}`, ariaLabel: `Look through ${f.path} again` }),
    button('Take out', () => folder('forget', { folder: f.id }).then(search), { className: 'tool', 'data-key': `forget${f.id}`, title: 'Out of the list; the files stay', ariaLabel: `Take out ${f.path}` }));

  const progress = task => over(task) ? task.error && h('p.found-bad', { role: 'alert' }, task.error)
    : h('div.found-row', {}, h('progress', { max: task.total || 1, value: task.total ? task.done : null, ariaLabel: 'Looking through the folder' }), h('span.soft', {}, `${task.title}: ${said(task)}`), button('Cancel', () => folder('cancel'), { 'data-key': 'cancel' }));

  /* ---- a picture to find others like, instead of words */
  const free = like => { if (like?.src.startsWith('blob:')) URL.revokeObjectURL(like.src); };

  function model(like) {
    free(now.like);
    now.like = like;
    now.model.hidden = !like;
    now.model.replaceChildren(...(like ? [h('img', { src: like.src, alt: '' }), h('span', {}, 'Like this picture'), button('×', () => { model(null); now.input.focus(); }, { ariaLabel: 'By words again', title: 'By words again', className: 'tool' })] : []));
    return search();
  }

  function dropped(event) {
    event.preventDefault();
    const file = [...event.dataTransfer.files].find(f => f.type.startsWith('image/'));
    if (file) drop(file); else toast('Drop the file of a picture.');
  }

  async function drop(file) {
    if (!file) return;
    const here = now, bytes = new Uint8Array(await file.arrayBuffer());
    let binary = '';
    for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
    const answer = await call('retrieve_drop', { name: file.name, data: btoa(binary) }).catch(error => { if (!error.told) throw error; });
    if (answer && here === now) await model({ key: answer.like, src: URL.createObjectURL(file) });
  }

  /* ---- searching */
  function later() {
    if (now.like) return model(null);
    clearTimeout(now.timer);
    if (now.where.value === 'web') return say('Enter asks the web.');
    now.timer = setTimeout(search, WAIT_MS);
  }

  const say = text => { now.note.textContent = text; };

  async function search(enter = false) {
    if (!now?.known) return;
    clearTimeout(now.timer);
    const mine = ++now.asked, here = now, words = now.input.value, where = now.where.value;
    now.way.disabled = where === 'web' || !!now.like;
    const like = where === 'web' ? null : now.like?.key;
    Object.assign(remembered, { words, way: now.way.value, where });
    sessionStorage.setItem('studio-retrieve', JSON.stringify(remembered));
    if (where === 'web' && enter !== true) { now.grid.replaceChildren(); return say('Enter asks the web.'); }
    const answer = await call('retrieve_search', { words, way: now.way.value, folder: where, like }).catch(error => { if (here === now) say(error.message); });
    if (!answer || here !== now || mine !== now.asked) return;
    now.words = like ? '' : words;
    now.by = where === 'web' ? 'web' : like ? 'picture' : now.way.value;
    draw(answer.hits, answer.note);
    watchSoon();
  }

  /* A search may have started a look through the folders. */
  function watchSoon() {
    clearTimeout(now.clock);
    now.clock = setTimeout(() => look().catch(() => {}), LOOK_MS);
  }

  function draw(hits, note) {
    const held = now.grid.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    now.grid.replaceChildren(...hits.map(tile));
    now.grid.dataset.words = now.words;
    const count = hits.length === 60 ? 'The best 60' : hits.length === 1 ? '1 picture' : `${hits.length} pictures`;
    say([hits.length ? count : now.known.folders.length || now.known.web ? 'Nothing was found. Try other words.' : 'Add a folder with pictures, by its whole path.', note].filter(Boolean).join(' · '));
    if (held !== null) (now.grid.querySelector(`[data-id="${CSS.escape(held)}"]`) || now.grid.firstChild || now.input).focus();
  }

  const tile = hit => h('button.found', { type: 'button', 'data-id': String(hit.id), title: `${hit.folder}/${hit.path}`.slice(0, 400), onclick: event => take(hit, event.shiftKey) },
    h('img', { src: hit.thumb, alt: '', loading: 'lazy', decoding: 'async' }),
    h('span.found-name', {}, hit.caption || hit.name || hit.path),
    h('span.soft', {}, [hit.licence, hit.author && `by ${hit.author}`, `${hit.width} × ${hit.height}`, hit.alike && `${hit.alike} alike`, why(hit)].filter(Boolean).join(' · ')));

  const why = hit => [hit.words && `words ${hit.words}`, typeof hit.meaning === 'number' && `meaning ${hit.meaning.toFixed(2)}`, typeof hit.shows === 'number' && `shows ${hit.shows.toFixed(2)}`].filter(Boolean).join(', ');

  async function take(hit, stay) {
    const picture = await call('retrieve_take', { id: hit.id, words: now.words || '', way: now.by || 'both' });
    window.studioPictures.attach(picture.sha256, picture.caption);
    if (stay) return toast('It is in the message.');
    if (now) now.back = null;
    close();
    studio.emit('compose');
  }

  /* ---- keys: arrows walk the grid, up from its first row is the search again */
  function keys(event) {
    event.stopPropagation();  // the page behind has other meanings for these
    if (event.key === 'Escape') { event.preventDefault(); return close(); }
    const tiles = [...now.grid.children], at = tiles.indexOf(document.activeElement);
    if (event.target === now.input) {
      if (event.key === 'ArrowDown' && tiles.length) { event.preventDefault(); tiles[0].focus(); }
      if (event.key === 'Enter' && !event.isComposing) { event.preventDefault(); search(true).then(() => now?.grid.firstChild?.focus()); }
      return;
    }
    if (at < 0) return;
    const across = tiles.filter(t => t.offsetTop === tiles[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    const to = event.key === 'Home' ? 0 : event.key === 'End' ? tiles.length - 1 : step ? at + step : null;
    if (to === null) return;
    event.preventDefault();
    if (to < 0) now.input.focus(); else tiles[Math.min(to, tiles.length - 1)].focus();
  }

  on('start', () => {
    const chips = document.getElementById('picture-chips');
    chips?.after(h('div', { id: 'retrieve-open' }, button('Find a picture', open, { title: 'Find a picture in your folders or on the web (F)', className: 'tool' })));
  });

  return { open };
})();
