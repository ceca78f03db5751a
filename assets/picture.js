/* The picture window: one picture of the dialogue or of the message, edited with tools, put into the message, saved with its
   history. Holds the list of edits; the server makes every pixel that is kept. Nothing is changed: a result is a new picture. */
'use strict';
window.studioPicture = (() => {
  const studio = window.studio, { TOOLS } = window.studioPictureTools;
  const { h, call, on, toast } = studio;
  const FULL = 12e6;           // pixels up to which the file itself is shown, a smaller copy beyond
  const KEY = 'studio-picture-edits', KEPT = 1e6;   // characters that are kept over a reload
  const drafts = new Map(JSON.parse(sessionStorage.getItem(KEY) || '[]'));  // hash -> edits that were not applied yet
  let now = null;              // what the open window works on
  const model = window.studioPictureModel({ state: () => now, settings: () => settings(), redraw: () => { where(); remember(); status(); },
    leave: kept => { if (kept) drafts.set(kept.source, { edits: [], undone: [], strokes: kept.strokes }); close(); } });

  /* ---- the window */
  async function open(sha256, { caption = '', chip = null, history = false, tool = 'move', blind = false } = {}) {
    close();
    const back = document.activeElement;
    now = { sha256, chip, back, blind, tool: 'move', edits: [], undone: [], others: [], values: {}, how: [], ...(blind ? {} : drafts.get(sha256)) };
    now.mask = window.studioPictureMask(structuredClone(now.strokes || []));
    for (const [name, tool] of Object.entries(TOOLS)) now.values[name] ||= Object.fromEntries(tool.fields.map(f => [f.key, f.value]));
    now.dialog = build(caption);
    document.body.append(now.dialog);
    now.dialog.showModal();
    now.view = window.studioPictureView(now.canvas, { changed, take: add, leave: close, paint: model.draft, over: model.over });
    choose(tool);
    now.canvas.focus();
    if (history) now.dialog.querySelector('.picture-history').open = true;
    await show();
  }

  function close() {
    if (!now) return;
    const { dialog, view, back, timer } = now;
    remember();
    clearTimeout(timer);
    now = null;
    view.close();
    dialog.remove();
    if (back?.isConnected) back.focus({ preventScroll: true });
  }

  /* Neither closing the window nor a reload loses what was not applied. */
  function remember() {
    const { sha256, edits, undone, blind, mask: { strokes } } = now;
    if (blind) return;
    if (edits.length || undone.length || strokes.length) drafts.set(sha256, { edits, undone, strokes }); else drafts.delete(sha256);
    const json = JSON.stringify([...drafts]);
    if (json.length < KEPT) sessionStorage.setItem(KEY, json);
  }

  const button = (text, title, onclick, extra = {}) => h('button', { type: 'button', title, onclick, ...extra }, text);

  function build(caption) {
    now.canvas = h('canvas', { tabIndex: 0, role: 'application', ariaLabel: 'The picture. Arrows move the shape, Ctrl and arrows size it, Shift makes ten of it, Enter takes it' });
    now.status = h('span.soft', { role: 'status' });
    now.panel = h('div.picture-panel');
    now.list = h('ol.picture-edits', { ariaLabel: 'Edits so far' });
    now.caption = h('input', { type: 'text', value: caption, maxLength: 200, placeholder: 'What models that read only text are told' });
    now.undo = button('Undo', 'Undo (Ctrl+Z)', undo);
    now.redo = button('Redo', 'Redo (Ctrl+Shift+Z)', redo);
    now.apply = button('', '', apply, { className: 'primary' });
    const dialog = h('dialog', { id: 'picture', ariaLabel: 'Picture', onkeydown: keys, oncancel: event => { event.preventDefault(); close(); } },
      h('div.picture-head', {}, h('h2', {}, 'Picture'), now.status, button('−', 'Zoom out (−)', () => now.view.zoom(0.8), { ariaLabel: 'Zoom out' }), button('+', 'Zoom in (+)', () => now.view.zoom(1.25), { ariaLabel: 'Zoom in' }),
        button('Fit', 'Fit into the window (0)', () => now.view.fit()), button('100 %', 'One pixel of the picture is one of the page (1)', () => now.view.actual()), button('×', 'Close (Esc); edits are kept until you come back', close, { ariaLabel: 'Close' })),
      !now.blind && h('div.picture-tools-row', { role: 'toolbar', ariaLabel: 'Tools' }, ...Object.entries(TOOLS).map(([name, t]) => button(t.label, t.hint, () => choose(name), { 'data-tool': name }))),
      h('div.picture-main', {}, h('div.picture-stage', {}, now.canvas), h('div.picture-side', {}, now.panel, ...(now.blind ? [h('p.soft', {}, 'What tells who made it is hidden until you have voted.')] : [now.list,
        h('div.picture-row', {}, now.undo, now.redo, button('Repeat', 'Add the edits that were last applied, on any picture', repeat)),
        h('label', {}, h('span', {}, 'Caption'), now.caption), now.apply]),
        window.studioChecks.picture(now.sha256, now),
        h('details.picture-history', { ontoggle: event => event.target.open && lineage() }, h('summary', {}, 'Where it comes from'), h('div.picture-lineage')),
        h('div.picture-row', {}, !now.blind && h('a.picture-save', { href: `/with-history/${now.sha256}`, download: '' }, 'Save a copy with its history'), !now.blind && button('Find others like it', 'Pictures of your folders that show the same (needs CLIP)', othersLike), h('a', { href: `/media/${now.sha256}`, target: '_blank', rel: 'noopener' }, 'Open in full size')))));
    return dialog;
  }

  /* ---- tools and their settings */
  function choose(name) {
    if (pending().length || model.standing()) add();  // a shape that stands is kept when another tool is taken
    now.tool = name;
    now.dialog.querySelectorAll('[data-tool]').forEach(b => b.setAttribute('aria-pressed', b.dataset.tool === name));
    now.view.tool(model.shape());
    settings();
    if (now.dialog.dataset.shown) status();
  }

  function settings() {
    const tool = TOOLS[now.tool];
    now.where = h('div.picture-where');
    now.panel.replaceChildren(...[h('p.soft', {}, tool.hint), tool.now && h('div.picture-row', {}, ...tool.now.map(([label, edits]) => button(label, label, () => take(edits())))),
      tool.others && others(), ...tool.fields.map(field), now.where, model.on() ? model.panel() : now.tool !== 'move' && button('Add this edit', 'Enter', add, { className: 'picture-add' })].filter(Boolean));
    where();
  }

  function field(f) {
    const values = now.values[now.tool], number = f.type === 'number' || f.type === 'range';
    const output = f.type === 'range' ? h('span.picture-value', {}, String(values[f.key])) : null;
    const input = f.type === 'select' ? h('select', {}, ...f.options.map(o => h('option', { value: o }, o))) : f.type === 'textarea' ? h('textarea', { rows: 2, maxLength: 500 }) : h('input', { type: f.type, min: f.min, max: f.max, step: f.step });
    if (f.type === 'checkbox') input.checked = values[f.key]; else input.value = values[f.key];
    input.addEventListener('input', () => {
      values[f.key] = f.type === 'checkbox' ? input.checked : number ? (input.value === '' ? '' : Number(input.value)) : input.value;
      if (output) output.textContent = input.value;
      if (model.on() && f.key === 'shape') now.view.tool(model.shape());
      now.view.soon();
      if (!model.on()) later();
    });
    return h(`label.${f.type}`, {}, h('span', {}, f.label, output), input);
  }

  /* The shape in numbers, to be read and to be typed. */
  function where() {
    const shape = now.view.shape, keys = shape && !shape.points ? Object.keys(shape) : [];
    if (now.where.contains(document.activeElement) && keys.length) return;
    const names = { x: 'Left', y: 'Top', w: 'Width', h: 'Height' };
    now.where.replaceChildren(...keys.map(key => {
      const input = h('input', { type: 'number', value: shape[key], step: 1 });
      input.addEventListener('change', () => { if (input.value !== '') now.view.set({ ...now.view.shape, [key]: Math.round(Number(input.value)) }); });
      return h('label.number', {}, h('span', {}, names[key]), input);
    }));
  }

  function others() {
    const cards = studio.cards().flatMap(c => c.parts.filter(p => p.image).map(p => [p.image, p.caption]));
    const found = new Map([...cards, ...window.studioPictures.list().map(p => [p.sha256, p.caption])]);
    found.delete(now.sha256);
    const toggle = (sha256, box) => { now.others = now.others.filter(o => o !== sha256); if (box.checked) now.others.push(sha256); later(); };
    return h('fieldset.picture-others', {}, h('legend', {}, found.size ? 'Pictures' : 'There is no other picture on this path or in the message.'),
      ...[...found].map(([sha256, caption], i) => h('label', {}, h('input', { type: 'checkbox', checked: now.others.includes(sha256), onchange: e => toggle(sha256, e.target) }),
        h('img', { src: `/thumb/${sha256}`, alt: caption || `picture ${i + 1}` }))));
  }

  /* ---- edits */
  const pending = () => TOOLS[now.tool].edits({ shape: now.view.shape, values: now.values[now.tool], others: now.others });

  function take(edits) {
    now.edits.push(...edits);
    now.undone = [];
    return show();
  }

  /* Put the edit that is being made on the list; its settings start anew where they would act twice. */
  function add() {
    if (model.on()) return model.stroke();
    const edits = pending();
    if (!edits.length) return toast(TOOLS[now.tool].hint);
    if (!TOOLS[now.tool].shape) { now.values[now.tool] = Object.fromEntries(TOOLS[now.tool].fields.map(f => [f.key, f.value])); now.others = []; }
    now.view.set(null, false);
    settings();
    return take(edits);
  }

  function undo() {
    if (now.view.shape) return now.view.set(null);
    if (model.back()) return;
    if (now.edits.length) { now.undone.push(now.edits.pop()); show(); }
  }

  function redo() {
    if (model.again()) return;
    if (now.undone.length) { now.edits.push(now.undone.pop()); show(); }
  }

  function repeat() {
    const last = JSON.parse(localStorage.getItem('studio-last-edits') || '[]');
    if (!last.length) return toast('Nothing was applied to a picture yet.');
    take(last);
  }

  function changed(what, final) {
    if (!now?.view) return;
    if (what === 'drawn' && model.standing()) return model.stroke();
    if (what === 'shape') { where(); if (final && !model.on()) later(); }
    status();
  }

  function status() {
    const { scale, width, height } = now.view.view;
    now.status.textContent = `${width} × ${height} pixels, at ${scale < 0.1 ? (100 * scale).toFixed(1) : Math.round(100 * scale)} %`;
    const { strokes, redoes } = model.on() ? now.mask : { strokes: [] };
    now.undo.disabled = !now.edits.length && !now.view.shape && !strokes.length;
    now.redo.disabled = !now.undone.length && !redoes;
    now.apply.textContent = now.edits.length || pending().length ? 'Apply and put into the message' : 'Put into the message';
  }

  /* ---- what is seen: the file, or what the server makes of it */
  function later() {
    clearTimeout(now.timer);
    now.timer = setTimeout(() => show(), 160);
  }

  /* One at a time: while a large picture is made, what is asked for meanwhile waits and only the last counts. */
  async function show() {
    const here = now;
    remember();
    clearTimeout(here.timer);
    if (here.busy) { here.again = true; return; }
    here.busy = true;
    try {
      do { here.again = false; await look(here); } while (here.again && here === now);
    } finally { here.busy = false; }
  }

  async function look(here) {
    const kept = here.edits.length, doing = here.tool === 'crop' ? [] : pending(), edits = [...here.edits, ...doing];
    const answer = await call('picture_preview', { sha256: here.sha256, edits }).catch(error => refused(here, error, doing));
    if (!answer) return;
    const image = new Image();
    image.src = answer.url || `/${answer.width * answer.height > FULL ? 'view' : 'media'}/${here.sha256}`;
    await image.decode();
    if (here !== now || here.again) return;  // closed, or something else is wanted by now
    model.fit(answer.width, answer.height);
    here.view.show(image, answer.width, answer.height);
    here.list.replaceChildren(...answer.how.slice(0, kept).map(line => h('li', {}, line)));
    here.dialog.dataset.shown = String(edits.length);
    status();
  }

  /* An edit on the list that does not fit goes to where Redo finds it. The line why was shown already. */
  function refused(here, error, doing) {
    if (!error.told) throw error;
    if (doing.length || !here.edits.length) return;
    here.undone.push(here.edits.pop());
    here.again = true;
  }

  async function apply() {
    const edits = [...now.edits, ...pending()], { sha256, chip, apply: button } = now, caption = now.caption.value.trim();
    if (button.disabled || !window.studioPictures.room(chip)) return;
    button.disabled = true;
    const result = edits.length ? await call('picture_apply', { sha256, edits }).finally(() => { button.disabled = false; }) : { sha256, notes: [] };
    window.studioPictures.attach(result.sha256, caption, chip);
    if (edits.length) localStorage.setItem('studio-last-edits', JSON.stringify(edits));
    if (now?.sha256 === sha256) { Object.assign(now, { edits: [], undone: [], back: null }); close(); } else drafts.delete(sha256);
    result.notes.forEach(note => toast(note));
    studio.emit('compose');
  }

  function othersLike() {
    const like = { key: now.sha256, src: `/thumb/${now.sha256}` };
    close();
    window.studioRetrieve.open({ like });
  }

  async function lineage() {
    const here = now, { sha256, blind } = now, data = await call('picture_lineage', { sha256, blind });
    if (here !== now) return;
    now.dialog.querySelector('.picture-lineage').replaceChildren(window.studioLineage(data, {
      open: other => open(other, { history: true, blind }), go: node => { close(); studio.open({ node }); } }));
  }

  function keys(event) {
    const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey, writing = event.target.matches('textarea, input[type=text]');
    event.stopPropagation();  // the page behind has other meanings for these
    if (key === 'escape') { event.preventDefault(); return close(); }
    if (now.blind) return;
    if (model.key(event) || !command || writing) return;
    if (key === 'enter') { event.preventDefault(); return apply(); }
    const does = key === 'z' ? (event.shiftKey ? redo : undo) : key === 'y' ? redo : null;
    if (does) { event.preventDefault(); does(); }
  }

  /* ---- every picture of the transcript opens in the window */
  const hashOf = link => link.getAttribute('href').match(/^\/media\/([0-9a-f]{64})$/)?.[1];
  const captionOf = link => link.closest('.picture').querySelector('figcaption')?.textContent || '';

  function prepare(root) {
    for (const link of root.querySelectorAll('.picture > a:not([data-picture])')) {
      const sha256 = hashOf(link), figure = link.parentElement, caption = captionOf(link);
      link.dataset.picture = sha256;
      link.title = 'Open: edit, ask about it, see where it comes from';
      const place = figure.querySelector('.picture-tools') || link.insertAdjacentElement('afterend', h('div.picture-edit'));
      place.append(h('button.tool', { type: 'button', title: 'Edit this picture', ariaLabel: `Edit the picture${caption ? `: ${caption}` : ''}`, onclick: () => open(sha256, { caption }) }, 'Edit'));
    }
  }

  /* A click or Enter on a picture below ``root`` opens it here; with Ctrl or Shift the browser does as ever. */
  function clicks(root, more = {}) {
    root.addEventListener('click', event => {
      const link = event.target.closest?.('.picture > a'), sha256 = link && hashOf(link);
      if (!sha256 || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(sha256, { caption: captionOf(link), ...more });
    });
  }

  on('start', () => {
    const root = studio.parts.transcript;
    clicks(root);
    new MutationObserver(() => prepare(root)).observe(root, { childList: true, subtree: true });
    prepare(root);
    window.studioFeedback.onKey('i', card => {
      const part = card?.parts.find(p => p.image);
      if (part) open(part.image, { caption: part.caption }); else toast('The message in focus has no picture.');
    });
  });

  return { open, clicks, get state() { return now; } };
})();
