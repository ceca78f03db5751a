/* The tree map on a canvas: circles ask, squares answer; colour is the judge's score, a ring is label coverage, the current
   path is bold, pruned branches are faint. Draws only what is in view. studioTreeMap(element, {onSelect}) -> api. */
'use strict';
window.studioTreeMap = (element, { onSelect = () => {} } = {}) => {
  const { layout, within, Y } = window.studioTreeLayout;
  const R = 9, RAMP = ['#00224e', '#35456c', '#666970', '#948e77', '#c8b866', '#fee838'];  // cividis: even for colour-blind eyes
  const make = (tag, className, props = {}) => Object.assign(document.createElement(tag), { className }, props);
  const canvas = make('canvas', 'map-canvas', { tabIndex: 0 }), tip = make('div', 'map-tip', { hidden: true });
  const said = make('div', 'map-said'), none = make('p', 'map-none', { textContent: 'The tree appears here as you chat.' });
  const tools = make('div', 'map-tools'), legend = make('div', 'map-legend');
  said.setAttribute('aria-live', 'polite');
  canvas.setAttribute('role', 'application');
  for (const [text, title, act] of [['+', 'Closer', () => zoom(1.3)], ['−', 'Further away', () => zoom(1 / 1.3)], ['Fit', 'Show the whole tree', () => fit()], ['Fold', 'Fold branches off the current path, or unfold all', () => foldOthers()]]) {
    tools.append(make('button', '', { textContent: text, title, ariaLabel: title, onclick: act, type: 'button' }));
  }
  element.replaceChildren(canvas, none, tools, legend, said, tip);

  const pen = canvas.getContext('2d');
  let tree = null, nodes = [], placed = layout([], new Set()), folded = new Set(), view = { focus: null, lanes: [] };
  let path = new Set(), scale = 1, left = 0, top = 0, width = 0, height = 0, colours = {}, asked = false, timer = null, drag = null, pinch = 0;
  const stats = { layouts: 0, draws: 0, drawn_nodes: 0, last_draw_ms: 0 }, pointers = new Map();

  /* ---- data in */
  function setTree(data) {
    const other = data.tree_id !== tree;
    tree = data.tree_id; nodes = data.nodes;
    if (other) { folded = new Set(); scale = 1; }
    none.hidden = nodes.length > 0; tools.hidden = legend.hidden = !nodes.length;
    legend.textContent = nodes.some(n => n.score !== null) ? '○ question  □ reply  ring: rated  dark to bright: judge 0 to 3' : '○ question  □ reply  ring: rated';
    relayout(other);
    clearInterval(timer);
    if (nodes.some(n => n.status === 'streaming') && !matchMedia('(prefers-reduced-motion: reduce)').matches) timer = setInterval(ask, 80);
  }

  function relayout(centre = false) {
    const anchor = placed.at.get(view.focus), before = anchor && toScreen(anchor);
    placed = layout(nodes, folded);
    stats.layouts++;
    const now = placed.at.get(view.focus);
    if (!centre && before && now) { left = now.x - before.x / scale; top = now.y - before.y / scale; }  // the focus stays where it was
    else if (nodes.length) { top = -Y * 1.1; left = (placed.at.get(nodes[0].id)?.x || 0) - width / 2 / scale; }
    setView(view, centre);
  }

  function setView(next, force = false) {
    view = next;
    path = new Set();
    for (const lane of view.lanes || []) for (let p = placed.at.get(lane); p && !path.has(p.id); p = p.parent) path.add(p.id);
    const at = placed.at.get(view.focus);
    if (at) { reveal(at, force); label(at); }
    ask();
  }

  function reveal(at, force) {
    for (let p = at.parent; p; p = p.parent) if (folded.has(p.id)) { folded.delete(p.id); return relayout(); }
    const edge = 40, s = toScreen(at);
    if (force || s.x < edge || s.x > width - edge) left = at.x - width / 2 / scale;
    if (force || s.y < edge || s.y > height - edge) top = Math.max(-Y * 1.1, at.y - height * .6 / scale);
  }

  function label(at) {
    const siblings = at.parent ? at.parent.children : [at], reply = at.node.role === 'assistant';
    const text = `${reply ? 'Reply' : 'Question'} ${siblings.indexOf(at) + 1} of ${siblings.length}, turn ${(at.depth >> 1) + 1}${reply ? `, rated ${Math.round((at.node.coverage || 0) * 4)} of 4` : ''}`;
    canvas.setAttribute('aria-label', `Tree map. ${text}. Arrow keys move.`);
    if (document.activeElement === canvas) said.textContent = text;
  }

  /* ---- drawing */
  const toScreen = p => ({ x: (p.x - left) * scale, y: (p.y - top) * scale });
  const ask = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };

  function readColours() {
    const style = getComputedStyle(element), get = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    colours = { surface: get('--map-surface', '#fff'), ink: get('--map-ink', '#111'), edge: get('--map-edge', '#94a3b8'), accent: get('--map-accent', '#4f46e5'), danger: get('--map-danger', '#b42318'), ring: get('--map-ring', '#0f766e') };
  }

  function draw() {
    asked = false;
    const start = performance.now(), dot = scale < .35;
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const margin = 60 / scale, seen = [];
    const first = Math.max(0, Math.floor((top - margin) / Y)), last = Math.min(placed.rows.length - 1, Math.ceil((top + height / scale + margin) / Y));
    for (let row = first; row <= last; row++) seen.push(...within(placed.rows[row], left - margin, left + width / scale + margin));
    for (const place of seen) edges(place, dot);
    for (const place of seen) if (dot && !path.has(place.id)) speck(place); else shape(place);
    stats.draws++; stats.drawn_nodes = seen.length; stats.last_draw_ms = performance.now() - start;
  }

  function edges(place, dot) {
    if (place.parent) edge(place.parent, place, dot);
    // the outermost children tell where a branch goes even when they are out of view
    if (place.children.length && !folded.has(place.id)) for (const child of [place.children[0], place.children[place.children.length - 1]]) edge(place, child, dot);
  }

  function edge(from, to, dot) {
    const bold = path.has(to.id), a = toScreen(from), b = toScreen(to);
    pen.globalAlpha = to.node.pruned ? .25 : 1;
    pen.strokeStyle = bold ? colours.accent : colours.edge;
    pen.lineWidth = bold ? 3 : 1;
    pen.beginPath();
    pen.moveTo(a.x, a.y);
    if (dot) pen.lineTo(b.x, b.y); else pen.bezierCurveTo(a.x, (a.y + b.y) / 2, b.x, (a.y + b.y) / 2, b.x, b.y);
    pen.stroke();
    pen.globalAlpha = 1;
  }

  function speck(place) {
    const s = toScreen(place);
    pen.globalAlpha = place.node.pruned ? .25 : 1;
    pen.fillStyle = fill(place.node) || colours.edge;
    pen.fillRect(s.x - 2, s.y - 2, 4, 4);
    pen.globalAlpha = 1;
  }

  const fill = node => node.score === null || node.score === undefined ? null : RAMP[Math.min(5, Math.max(0, Math.round(node.score / 3 * 5)))];

  function outline(node, s, r) {
    pen.beginPath();
    if (node.role === 'user') pen.arc(s.x, s.y, r, 0, 7); else pen.roundRect(s.x - r, s.y - r, 2 * r, 2 * r, 3);
  }

  function shape(place) {
    const { node } = place, s = toScreen(place), r = R * Math.min(1.4, Math.max(.5, scale)), on = path.has(place.id);
    pen.globalAlpha = node.pruned ? .25 : 1;
    pen.fillStyle = fill(node) || colours.surface;
    pen.strokeStyle = on ? colours.accent : colours.ink;
    pen.lineWidth = on ? 2.5 : 1.2;
    outline(node, s, r); pen.fill(); pen.stroke();
    if (node.coverage) { pen.strokeStyle = colours.ring; pen.lineWidth = 3; pen.beginPath(); pen.arc(s.x, s.y, r + 5.5, -Math.PI / 2, -Math.PI / 2 + node.coverage * 2 * Math.PI); pen.stroke(); }
    if (place.id === view.focus) { pen.strokeStyle = colours.accent; pen.lineWidth = 2; pen.setLineDash([3, 3]); outline(node, s, r + 9.5); pen.stroke(); pen.setLineDash([]); }
    if (node.status === 'streaming') { pen.fillStyle = colours.accent; pen.beginPath(); pen.arc(s.x, s.y, r * (.35 + .25 * Math.sin(performance.now() / 200)), 0, 7); pen.fill(); }
    if (node.status === 'failed') cross(s, r * .5);
    pen.fillStyle = colours.ink; pen.textAlign = 'center'; pen.textBaseline = 'middle';
    if (node.starred) { pen.font = '11px system-ui'; pen.fillText('★', s.x + r + 4, s.y - r - 2); }
    if (place.hidden) { pen.font = '600 11px system-ui'; pen.fillText(`+${place.hidden}`, s.x, s.y + r + 11); }
    pen.globalAlpha = 1;
  }

  function cross(s, r) {
    pen.strokeStyle = colours.danger; pen.lineWidth = 2; pen.beginPath();
    pen.moveTo(s.x - r, s.y - r); pen.lineTo(s.x + r, s.y + r); pen.moveTo(s.x + r, s.y - r); pen.lineTo(s.x - r, s.y + r); pen.stroke();
  }

  /* ---- moving about */
  function zoom(factor, x = width / 2, y = height / 2) {
    const next = Math.min(2.5, Math.max(.02, scale * factor));
    left += x / scale - x / next; top += y / scale - y / next; scale = next;
    ask();
  }

  function fit() {
    scale = Math.min(1.2, Math.max(.02, Math.min((width - 50) / (placed.width + 1), (height - 90) / (placed.height + 1))));
    left = placed.width / 2 - width / 2 / scale; top = -30 / scale;
    ask();
  }

  function foldToggle(id) { if (!placed.at.get(id)?.children.length) return; if (!folded.delete(id)) folded.add(id); relayout(); }
  function foldOthers() {
    if (folded.size) folded.clear();
    else for (const place of placed.at.values()) if (!path.has(place.id) && place.children.length && (!place.parent || path.has(place.parent.id))) folded.add(place.id);
    relayout();
  }

  function move(where) {
    const at = placed.at.get(view.focus);
    if (!at) return;
    const row = at.parent ? at.parent.children : placed.rows[0], index = row.indexOf(at);
    const newest = at.children.reduce((a, b) => !a || b.id > a.id ? b : a, null);
    const to = { up: at.parent, down: at.children.find(c => path.has(c.id)) || newest, left: row[index - 1], right: row[index + 1] }[where];
    if (to) onSelect(to.id);
  }

  function nodeAt(x, y) {
    const mx = left + x / scale, my = top + y / scale, reach = Math.max(13, 13 / scale), row = placed.rows[Math.round(my / Y)];
    if (!row || Math.abs(my - Math.round(my / Y) * Y) > reach) return null;
    return within(row, mx - reach, mx + reach).sort((a, b) => Math.abs(a.x - mx) - Math.abs(b.x - mx))[0] || null;
  }

  function hover(event, place) {
    tip.hidden = !place;
    canvas.style.cursor = place ? 'pointer' : 'grab';
    if (!place) return;
    const n = place.node, bits = [n.role === 'user' ? 'Question' : n.model || 'Reply'];
    if (n.role === 'assistant') bits.push(`${Math.round((n.coverage || 0) * 4)} of 4 rated`);
    if (n.status !== 'done') bits.push(n.status);
    if (n.pruned) bits.push('pruned');
    tip.replaceChildren(make('b', '', { textContent: bits.join(' · ') }), make('div', '', { textContent: n.label }));
    if (n.thumb) tip.append(make('img', '', { src: n.thumb, alt: '' }));
    tip.style.left = `${Math.max(4, Math.min(event.offsetX + 14, width - 224))}px`;
    tip.style.top = `${Math.min(event.offsetY + 14, Math.max(0, height - (n.thumb ? 190 : 80)))}px`;
  }

  canvas.addEventListener('pointerdown', e => { pointers.set(e.pointerId, e); drag = { x: e.offsetX, y: e.offsetY, moved: false }; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener('pointermove', e => {
    if (!pointers.has(e.pointerId)) return hover(e, nodeAt(e.offsetX, e.offsetY));
    pointers.set(e.pointerId, e);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], far = Math.hypot(a.offsetX - b.offsetX, a.offsetY - b.offsetY);
      if (pinch) zoom(far / pinch, (a.offsetX + b.offsetX) / 2, (a.offsetY + b.offsetY) / 2);
      pinch = far; drag.moved = true;
    } else if (drag && (drag.moved || Math.hypot(e.offsetX - drag.x, e.offsetY - drag.y) > 4)) {
      left -= (e.offsetX - drag.x) / scale; top -= (e.offsetY - drag.y) / scale;
      drag = { x: e.offsetX, y: e.offsetY, moved: true }; tip.hidden = true; ask();
    }
  });
  const release = e => { pointers.delete(e.pointerId); pinch = 0; };
  canvas.addEventListener('pointerup', e => { release(e); const place = drag && !drag.moved && nodeAt(e.offsetX, e.offsetY); if (place) onSelect(place.id); drag = null; });
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
  canvas.addEventListener('dblclick', e => { const place = nodeAt(e.offsetX, e.offsetY); if (place) foldToggle(place.id); });
  canvas.addEventListener('wheel', e => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 400), e.offsetX, e.offsetY); }, { passive: false });
  canvas.addEventListener('keydown', e => {
    if (e.altKey || e.ctrlKey || e.metaKey) return;
    const act = { ArrowUp: () => move('up'), ArrowDown: () => move('down'), ArrowLeft: () => move('left'), ArrowRight: () => move('right'), '+': () => zoom(1.3), '=': () => zoom(1.3), f: () => foldToggle(view.focus) }[e.key];
    if (act) { e.preventDefault(); e.stopPropagation(); act(); }
  });

  function resize() {
    const box = element.getBoundingClientRect();
    if (!box.width) return;
    if (width && nodes.length) left += (width - box.width) / 2 / scale;  // keep the middle in the middle
    width = box.width; height = box.height;
    canvas.width = Math.round(width * devicePixelRatio); canvas.height = Math.round(height * devicePixelRatio);
    readColours(); draw();
  }
  new ResizeObserver(resize).observe(element);
  new MutationObserver(() => { readColours(); ask(); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  readColours(); resize();
  setTree({ tree_id: null, nodes: [] });

  const positionOf = id => { const box = canvas.getBoundingClientRect(), s = toScreen(placed.at.get(id)); return { x: box.left + s.x, y: box.top + s.y }; };
  return { setTree, setView, move, zoom, fit, foldToggle, foldOthers, resize, nodeAt, positionOf, stats: () => ({ ...stats }), folded: () => [...folded] };
};
