/* A picture on a canvas: zoom, pan, and one shape drawn on it with pointer or keyboard. All places are pixels of the picture
   itself, whatever the zoom and the density of the screen. Knows no tools and no server: picture.js does. */
'use strict';
window.studioPictureView = (canvas, { changed, paint, over, take, leave }) => {
  const REACH = 11;            // CSS pixels around a corner, an edge or an end that count as on it
  const pen = canvas.getContext('2d'), pointers = new Map();
  const view = { scale: 1, x: 0, y: 0 };   // CSS pixels a picture pixel; where its corner is on the canvas
  let picture = null, width = 1, height = 1, kind = null, shape = null, drag = null, fitted = true;

  const clamp = (v, low, high) => Math.max(low, Math.min(high, v));
  const whole = v => Math.floor(v + 0.5);  // as the image tools round
  const inside = ([x, y]) => [clamp(whole(x), 0, width), clamp(whole(y), 0, height)];
  const at = event => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
  const toPicture = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

  /* ---- drawing */
  function draw() {
    const dense = window.devicePixelRatio || 1, wide = Math.round(canvas.clientWidth * dense), high = Math.round(canvas.clientHeight * dense);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, wide, high);
    if (!picture) return;
    const k = dense * view.scale;
    pen.setTransform(k, 0, 0, k, dense * view.x, dense * view.y);
    squares();
    pen.imageSmoothingEnabled = k < 2 || picture.naturalWidth < width;  // near enough, pixels are squares
    pen.drawImage(picture, 0, 0, width, height);
    over?.(pen, width, height);
    if (shape) { pen.save(); paint(pen, shape, { width, height, pixel: 1 / view.scale }); pen.restore(); handles(); }
  }

  /* What is transparent shows squares, 8 CSS pixels each. */
  let pattern = null;
  function squares() {
    if (!pattern) {
      const tile = Object.assign(document.createElement('canvas'), { width: 16, height: 16 }), p = tile.getContext('2d');
      p.fillStyle = '#fff'; p.fillRect(0, 0, 16, 16);
      p.fillStyle = '#d4d4d8'; p.fillRect(0, 0, 8, 8); p.fillRect(8, 8, 8, 8);
      pattern = pen.createPattern(tile, 'repeat');
    }
    pattern.setTransform(new DOMMatrix().scale(1 / view.scale));
    pen.fillStyle = pattern;
    pen.fillRect(0, 0, width, height);
  }

  function knobs() {
    if (!shape) return [];
    if (kind === 'line') return shape.points.map((p, i) => ({ at: p, part: i }));
    if (kind !== 'box') return [];
    const { x, y, w, h } = shape;
    return [['w', 'n'], ['', 'n'], ['e', 'n'], ['e', ''], ['e', 's'], ['', 's'], ['w', 's'], ['w', '']].map(([across, down]) => ({
      part: across + down, at: [across === 'w' ? x : across === 'e' ? x + w : x + w / 2, down === 'n' ? y : down === 's' ? y + h : y + h / 2] }));
  }

  function handles() {
    const px = 1 / view.scale, size = 8 * px;
    pen.setLineDash([]);
    for (const { at: [x, y] } of knobs()) {
      pen.fillStyle = '#fff'; pen.fillRect(x - size / 2, y - size / 2, size, size);
      pen.strokeStyle = '#1e293b'; pen.lineWidth = 1.5 * px; pen.strokeRect(x - size / 2, y - size / 2, size, size);
    }
  }

  let asked = 0;
  const soon = () => { asked ||= requestAnimationFrame(() => { asked = 0; draw(); }); };

  /* ---- zoom and pan */
  function fit() {
    const room = Math.min(canvas.clientWidth / width, canvas.clientHeight / height) * 0.96;
    view.scale = clamp(room, 1e-4, 16);
    view.x = (canvas.clientWidth - width * view.scale) / 2;
    view.y = (canvas.clientHeight - height * view.scale) / 2;
    fitted = true;
    soon();
    changed('zoom');
  }

  function zoom(factor, [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2]) {
    const scale = clamp(view.scale * factor, 0.005, 64), real = scale / view.scale;
    view.x = x - (x - view.x) * real;
    view.y = y - (y - view.y) * real;
    view.scale = scale;
    fitted = false;
    soon();
    changed('zoom');
  }

  function pan(dx, dy) {
    view.x = clamp(view.x + dx, 40 - width * view.scale, canvas.clientWidth - 40);
    view.y = clamp(view.y + dy, 40 - height * view.scale, canvas.clientHeight - 40);
    fitted = false;
    soon();
  }

  /* ---- the shape */
  function set(next, final = true) {
    shape = next;
    soon();
    changed('shape', final);
  }

  function box(x1, y1, x2, y2) {
    [x1, y1] = inside([x1, y1]); [x2, y2] = inside([x2, y2]);
    return { x: Math.min(x1, x2), y: Math.min(y1, y2), w: Math.abs(x2 - x1), h: Math.abs(y2 - y1) };
  }

  function moved(from, dx, dy) {
    if (from.points) return { points: from.points.map(([x, y]) => [x + dx, y + dy]) };
    const { w = 0, h = 0 } = from;
    return { ...from, x: clamp(from.x + dx, 0, width - w), y: clamp(from.y + dy, 0, height - h) };
  }

  function sized({ x, y, w, h }, part, dx, dy) {
    const left = part.includes('w') ? x + dx : x, right = part.includes('e') ? x + w + dx : x + w;
    return box(left, part.includes('n') ? y + dy : y, right, part.includes('s') ? y + h + dy : y + h);
  }

  /* The first shape of somebody who uses the keyboard: in the middle, half as large as the picture. */
  function first() {
    const x = whole(width / 4), y = whole(height / 4), w = Math.max(1, whole(width / 2)), h = Math.max(1, whole(height / 2));
    if (kind === 'box') return { x, y, w, h };
    if (kind === 'point') return { x, y };
    if (kind === 'brush') return { points: [[x + whole(w / 2), y + whole(h / 2)]] };
    return { points: [[x, y], [x + w, y + h]] };
  }

  function grasp(spot) {
    const near = knobs().find(k => Math.hypot((k.at[0] - spot[0]) * view.scale, (k.at[1] - spot[1]) * view.scale) < REACH);
    if (near) return { part: near.part, from: structuredClone(shape) };
    const on = shape && kind === 'box' && spot[0] >= shape.x && spot[0] <= shape.x + shape.w && spot[1] >= shape.y && spot[1] <= shape.y + shape.h;
    return on ? { part: 'all', from: structuredClone(shape) } : null;
  }

  /* ---- pointers: one draws, two zoom and pan, the middle button or Space pans */
  let space = false;
  canvas.addEventListener('pointerdown', event => {
    if (!picture) return;
    canvas.focus({ preventScroll: true });
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 2) { if (drag?.fresh) shape = drag.before; drag = null; soon(); return; }
    const spot = toPicture(at(event));
    if (!kind || space || event.button === 1) drag = { pan: at(event) };
    else if (kind === 'point') { drag = { part: 'all', from: { x: inside(spot)[0], y: inside(spot)[1] }, start: spot }; set(drag.from, false); }
    else drag = { start: spot, before: shape, ...(grasp(spot) || { fresh: true }) };
    if (drag?.fresh && kind === 'brush') { drag.points = [inside(spot)]; set({ points: drag.points }, false); }  // a click is a dot
  });

  canvas.addEventListener('pointermove', event => {
    const old = pointers.get(event.pointerId), now = at(event);
    if (!old) return;
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) return pinch(event.pointerId, old, now);
    if (!drag) return;
    if (drag.pan) { pan(now[0] - drag.pan[0], now[1] - drag.pan[1]); drag.pan = now; return; }
    follow(toPicture(now));
  });

  function follow(spot) {
    const [dx, dy] = [whole(spot[0] - drag.start[0]), whole(spot[1] - drag.start[1])];
    if (drag.fresh && kind === 'box') return set(box(...drag.start, ...spot), false);
    if (drag.fresh && kind === 'line') return set({ points: [inside(drag.start), inside(spot)] }, false);
    if (drag.fresh) {  // freehand or a brush
      const points = drag.points ||= [inside(drag.start)], next = inside(spot), last = points[points.length - 1];
      if ((next[0] !== last[0] || next[1] !== last[1]) && points.length < 5000) points.push(next);
      return points.length > 1 && set({ points }, false);
    }
    if (drag.part === 'all') return set(moved(drag.from, dx, dy), false);
    if (kind === 'line') return set({ points: drag.from.points.map((p, i) => i === drag.part ? inside(spot) : p) }, false);
    set(sized(drag.from, drag.part, dx, dy), false);
  }

  function pinch(id, old, now) {
    const other = [...pointers].find(([key]) => key !== id)[1];
    const was = Math.hypot(old[0] - other[0], old[1] - other[1]), is = Math.hypot(now[0] - other[0], now[1] - other[1]);
    if (was > 1) zoom(is / was, [(old[0] + other[0]) / 2, (old[1] + other[1]) / 2]);  // what is between the fingers stays there
    pan((now[0] - old[0]) / 2, (now[1] - old[1]) / 2);
  }

  const up = event => {
    pointers.delete(event.pointerId);
    if (!drag || pointers.size) return;
    const empty = shape && kind === 'box' && (shape.w < 1 || shape.h < 1), done = drag;
    drag = null;
    if (!done.pan) set(empty ? null : shape);
    if (done.points && shape) changed('drawn');
  };
  canvas.addEventListener('pointerup', up);
  canvas.addEventListener('pointercancel', up);
  canvas.addEventListener('wheel', event => { event.preventDefault(); zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), at(event)); }, { passive: false });

  /* ---- keys: arrows move, Ctrl and arrows size, Shift makes ten of it; without a tool they pan */
  function arrow(event, [dx, dy]) {
    if (!kind) return pan(-40 * dx, -40 * dy);
    if (!shape) return set(first());
    const n = event.shiftKey ? 10 : 1;
    if (!(event.ctrlKey || event.metaKey)) return set(moved(shape, dx * n, dy * n));
    if (kind === 'box') { const to = sized(shape, 'es', dx * n, dy * n); if (to.w && to.h && shape.x + shape.w + dx * n > shape.x && shape.y + shape.h + dy * n > shape.y) set(to); return; }
    if (shape.points?.length > 1) { const points = shape.points.slice(), [x, y] = points.pop(); set({ points: [...points, inside([x + dx * n, y + dy * n])] }); }
  }

  canvas.addEventListener('keydown', event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const other = { '+': () => zoom(1.25), '=': () => zoom(1.25), '-': () => zoom(0.8), 0: fit, 1: () => zoom(1 / view.scale), Enter: () => (kind && !shape ? set(first()) : take()),
      ' ': () => { space = true; }, Escape: () => (shape ? set(null) : leave()) }[event.key];
    if (!step && (!other || event.ctrlKey || event.metaKey || event.altKey)) return;
    event.preventDefault();
    event.stopPropagation();
    if (step) arrow(event, step); else other();
  });
  canvas.addEventListener('keyup', event => { if (event.key === ' ') space = false; });
  canvas.addEventListener('blur', () => { space = false; });

  const watcher = new ResizeObserver(() => { if (fitted && picture) fit(); soon(); });
  watcher.observe(canvas);

  return {
    /* Show an image as so many pixels of the picture: what is shown may be a smaller copy. */
    show(image, w, h) {
      const same = picture && w === width && h === height;
      picture = image; width = w; height = h;
      if (same) soon(); else fit();
    },
    tool(next) { kind = next; shape = null; canvas.style.cursor = next ? 'crosshair' : 'grab'; soon(); },
    get shape() { return shape; },
    set, zoom, fit, soon, actual: () => zoom(1 / view.scale), close: () => watcher.disconnect(),
    get view() { return { ...view, width, height }; },
  };
};
