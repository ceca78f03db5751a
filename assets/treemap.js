/* The tree map on a canvas: circles ask, squares answer; colour is the judge's score, a ring is label coverage, the
   current path is bold, pruned branches are faint. Owns drawing, pointer and keys; never changes the tree, never asks for data.
   window.studioTreeMap(element, {onSelect(id), onHover(id | null)}) -> {setTree, setView, move, zoom, fit, foldToggle,
   foldOthers, folded, nodeAt, positionOf, resize, stats, destroy}. Needs treemap_layout.js. */
'use strict';
(() => {
  const { layout, lookUp, indexFrom, Camera, X, Y, DOT } = window.studioTreeLayout;
  const CIVIDIS = ['#123570', '#3b496c', '#575d6d', '#707173', '#8a8779', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];
  const COLOURS = { surface: '#fff', ink: '#111827', edge: '#94a3b8', accent: '#4f46e5', danger: '#b42318', ring: '#0f766e' };
  const TURN = 2 * Math.PI;

  const make = (tag, className, props = {}, ...inside) => {
    const made = Object.assign(document.createElement(tag), { className }, props);
    made.append(...inside);
    return made;
  };
  const mix = (a, b, t) => {
    const [from, to] = [a, b].map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)));
    return `rgb(${from.map((v, i) => Math.round(v + (to[i] - v) * t)).join(' ')})`;
  };
  const RAMP = Array.from({ length: 31 }, (_, i) => mix(CIVIDIS[Math.floor(i / 30 * 7.99)], CIVIDIS[Math.floor(i / 30 * 7.99) + 1], i / 30 * 7.99 % 1));
  /* Colour of an expected score 0..3, or null without a judge. */
  const colourOf = score => (score == null ? null : RAMP[Math.round(Math.min(3, Math.max(0, score)) * 10)]);
  const rated = node => `${Math.round((node.coverage || 0) * 4)} of 4`;

  /* ---- drawing: one frame of what is in view */
  class Painter {
    constructor(canvas) { this.canvas = canvas; this.pen = canvas.getContext('2d'); this.readColours(); }

    readColours() {
      const style = getComputedStyle(this.canvas);
      for (const name in COLOURS) this[name] = style.getPropertyValue(`--map-${name}`).trim() || COLOURS[name];
      this.font = style.fontFamily || 'system-ui';
    }

    /* camera, placed: see treemap_layout.js; path: set of ids; focus: id. Returns the number of nodes drawn. */
    frame(camera, placed, path, focus, now) {
      const { canvas, pen } = this, dpr = window.devicePixelRatio || 1;
      const width = Math.round(camera.width * dpr), height = Math.round(camera.height * dpr);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      pen.setTransform(dpr, 0, 0, dpr, 0, 0);
      pen.clearRect(0, 0, camera.width, camera.height);
      const { places, links } = lookUp(placed, camera, path), size = Math.min(1.4, camera.k);
      const bold = v => path.has(v.id), faint = v => v.node.pruned && !path.has(v.id);
      this.edges(links.filter(v => !bold(v) && !faint(v)), camera, 1.2, this.edge, 1);
      this.edges(links.filter(faint), camera, 1.2, this.edge, 0.25);
      this.edges(links.filter(bold), camera, 3, this.accent, 1);
      for (const v of places) {
        const s = camera.toScreen(v);
        pen.globalAlpha = v.node.pruned ? 0.25 : 1;
        if (camera.k < DOT) this.speck(v.node, s, bold(v), v.id === focus);
        else this.shape(v, s, size, bold(v), v.id === focus, now);
      }
      pen.globalAlpha = 1;
      return places.length;
    }

    edges(links, camera, lineWidth, strokeStyle, globalAlpha) {
      const { pen } = this;
      Object.assign(pen, { lineWidth, strokeStyle, globalAlpha });
      pen.beginPath();
      for (const v of links) {
        const a = camera.toScreen(v.parent), b = camera.toScreen(v), middle = (a.y + b.y) / 2;
        pen.moveTo(a.x, a.y);
        if (camera.k < DOT) pen.lineTo(b.x, b.y); else pen.bezierCurveTo(a.x, middle, b.x, middle, b.x, b.y);
      }
      pen.stroke();
    }

    speck(node, { x, y }, bold, focus) {
      const r = focus ? 4 : bold ? 3 : 2, { pen } = this;
      pen.fillStyle = node.status === 'failed' ? this.danger : bold ? this.accent : colourOf(node.score) || this.edge;
      pen.fillRect(x - r, y - r, 2 * r, 2 * r);
      if (focus) this.stroke(this.accent, 2, () => pen.arc(x, y, 9, 0, TURN));
    }

    stroke(strokeStyle, lineWidth, trace) {
      Object.assign(this.pen, { strokeStyle, lineWidth });
      this.pen.beginPath();
      trace();
      this.pen.stroke();
    }

    shape(v, s, size, bold, focus, now) {
      const { pen } = this, { node } = v, { x, y } = s;
      const r = (node.role === 'user' ? 8.5 : 8) * size, ring = 13 * size;
      if (focus) {
        pen.fillStyle = this.surface;
        this.stroke(this.accent, 2, () => { pen.arc(x, y, 16.5 * size, 0, TURN); pen.fill(); });
      }
      pen.fillStyle = colourOf(node.score) || this.surface;
      this.stroke(bold ? this.accent : this.ink, bold ? 2.5 : 1.2, () => {
        if (node.role === 'user') pen.arc(x, y, r, 0, TURN); else pen.roundRect(x - r, y - r, 2 * r, 2 * r, 3);
        pen.fill();
      });
      if (node.coverage) this.coverage(node.coverage, x, y, ring);
      if (node.status === 'streaming') this.pulse(x, y, r, now);
      if (node.status === 'failed') this.cross(x + r, y + r, 3.5);
      if (node.starred) this.text('★', x - r - 1, y - r, 12);
      if (v.hidden) this.badge(`+${v.hidden}`, x, y + 17 * size);
    }

    coverage(share, x, y, r) {
      if (share < 1) this.stroke(this.edge, 0.8, () => this.pen.arc(x, y, r, 0, TURN));
      this.stroke(this.ring, 3, () => this.pen.arc(x, y, r, -TURN / 4, TURN * (share - 1 / 4)));
    }

    /* now: ms, or null where motion is not wanted */
    pulse(x, y, r, now) {
      const { pen } = this, wave = now === null ? 0.5 : (now / 1100) % 1, alpha = pen.globalAlpha;
      pen.fillStyle = this.accent;
      pen.beginPath(); pen.arc(x, y, r * 0.45, 0, TURN); pen.fill();
      pen.globalAlpha = alpha * (1 - wave);
      this.stroke(this.accent, 2, () => pen.arc(x, y, r * (0.6 + wave), 0, TURN));
      pen.globalAlpha = alpha;
    }

    cross(x, y, r) {
      this.pen.fillStyle = this.surface;
      this.pen.beginPath(); this.pen.arc(x, y, r + 2.5, 0, TURN); this.pen.fill();
      this.stroke(this.danger, 2, () => {
        for (const d of [r, -r]) { this.pen.moveTo(x - r, y - d); this.pen.lineTo(x + r, y + d); }
      });
    }

    badge(words, x, y) {
      const { pen } = this;
      pen.font = `600 11px ${this.font}`;
      const half = pen.measureText(words).width / 2 + 5;
      pen.fillStyle = this.surface;
      this.stroke(this.edge, 1, () => { pen.roundRect(x - half, y - 8, 2 * half, 16, 8); pen.fill(); });
      this.text(words, x, y, 11);
    }

    text(words, x, y, size) {
      Object.assign(this.pen, { font: `600 ${size}px ${this.font}`, fillStyle: this.ink, textAlign: 'center', textBaseline: 'middle' });
      this.pen.fillText(words, x, y + 0.5);
    }
  }

  /* ---- the parts around the canvas */
  function chrome(map) {
    const button = (text, title, onclick) => make('button', '', { type: 'button', textContent: text, title, ariaLabel: title, onclick });
    const canvas = make('canvas', 'map-canvas', { tabIndex: 0 });
    canvas.setAttribute('role', 'application');
    const ramp = make('span', 'map-ramp', {}, 'judge 0', make('i'), '3');
    ramp.firstElementChild.style.background = `linear-gradient(90deg, ${CIVIDIS})`;
    const sign = (kind, text) => make('span', '', {}, make('i', kind), text);
    const said = make('div', 'map-said');
    said.setAttribute('aria-live', 'polite');
    return {
      canvas, ramp, said,
      none: make('p', 'map-none', { textContent: 'The tree appears here as you chat.' }),
      tools: make('div', 'map-tools', {}, button('+', 'Zoom in', () => map.zoom(1.3)), button('−', 'Zoom out', () => map.zoom(1 / 1.3)),
        button('Fit', 'Show the whole tree', () => map.fit()),
        button('Fold', 'Fold the branches off the current path, or unfold all', () => map.foldOthers())),
      legend: make('div', 'map-legend', {}, sign('map-circle', 'question'), sign('map-square', 'reply'), sign('map-rated', 'rated'), ramp),
      tip: make('div', 'map-tip', { hidden: true }),
    };
  }

  /* What the pointer's tooltip says of a node; text only, since labels are written by models. */
  function describe(n) {
    const facts = [n.role === 'user' ? 'Question' : n.model || 'Reply'];
    if (n.role === 'assistant') facts.push(`${rated(n)} rated`);
    if (n.score != null) facts.push(`judge ${n.score.toFixed(1)}`);
    if (n.status !== 'done') facts.push(n.status);
    if (n.pruned) facts.push('pruned');
    const lines = [make('b', '', { textContent: facts.join(' · ') }), make('div', '', { textContent: n.label })];
    return n.thumb ? [...lines, make('img', '', { src: n.thumb, alt: '' })] : lines;
  }

  class TreeMap {
    constructor(element, { onSelect = () => {}, onHover = () => {} }) {
      Object.assign(this, { element, onSelect, onHover, ui: chrome(this), camera: new Camera(), folded: new Set(), nodes: [] });
      Object.assign(this, { tree: null, view: { focus: null, lanes: [] }, path: new Set(), unframed: true, hovered: null });
      this.stats = { layouts: 0, draws: 0, drawn_nodes: 0, last_draw_ms: 0 };
      const { canvas, none, tools, legend, said, tip } = this.ui;
      element.replaceChildren(make('div', 'map-root', {}, canvas, none, tools, legend, said, tip));
      this.painter = new Painter(canvas);
      this.still = matchMedia('(prefers-reduced-motion: reduce)');
      this.sizes = new ResizeObserver(() => this.resize());
      this.sizes.observe(element);
      this.themes = new MutationObserver(() => { this.painter.readColours(); this.ask(); });
      for (const root of [document.documentElement, document.body]) {
        this.themes.observe(root, { attributes: true, attributeFilter: ['class'] });
      }
      listen(this, canvas);
      this.setTree({ tree_id: null, nodes: [] });
      this.resize();
    }

    setTree({ tree_id, nodes }) {
      if (tree_id !== this.tree) { this.folded.clear(); this.unframed = true; this.hover(null); }
      Object.assign(this, { tree: tree_id, nodes });
      const { none, tools, legend, ramp } = this.ui;
      none.hidden = nodes.length > 0;
      tools.hidden = legend.hidden = !nodes.length;
      ramp.hidden = !nodes.some(n => n.score != null);
      this.relayout();
      clearInterval(this.timer);
      if (nodes.some(n => n.status === 'streaming')) this.timer = setInterval(() => { if (!this.still.matches) this.ask(); }, 80);
    }

    /* Lays the tree out again; `around` (or the focus) stays where it was on the screen. */
    relayout(around = this.view.focus) {
      const { camera, nodes, folded } = this, before = camera.placed.at.get(around);
      const s = before?.shown && camera.toScreen(before);
      camera.placed = layout(nodes, folded);
      this.stats.layouts++;
      const after = camera.placed.at.get(around);
      if (s && after?.shown) { camera.left = after.x - s.x / camera.k; camera.top = after.y - s.y / camera.ky; }
      this.trace();
    }

    setView({ focus, lanes = [] }) {
      this.view = { focus, lanes };
      const at = this.at(focus);
      if (at && !at.shown) {
        for (let p = at.parent; p; p = p.parent) this.folded.delete(p.id);
        this.relayout();
      } else this.trace();
      this.show();
    }

    /* The ids on the current paths, root to leaf, and the words for the node in focus. */
    trace() {
      this.path = new Set();
      for (const lane of this.view.lanes) for (let v = this.at(lane); v?.node && !this.path.has(v.id); v = v.parent) this.path.add(v.id);
      this.name();
      this.ask();
    }

    at(id) { return this.camera.placed.at.get(id); }

    /* Brings the focus into view: framed anew in a new tree, else moved only if it is outside. */
    show() {
      const at = this.at(this.view.focus) || this.camera.placed.roots[0];
      if (!at || !this.camera.width) return;
      if (this.unframed) this.camera.frame(at); else if (at.id === this.view.focus) this.camera.reveal(at);
      this.unframed = this.unframed && at.id !== this.view.focus;
      this.ask();
    }

    name() {
      const at = this.at(this.view.focus), { canvas, said } = this.ui, reply = at?.node.role === 'assistant';
      const words = at && `${reply ? 'Reply' : 'Question'} ${at.index + 1} of ${at.parent.children.length}, turn ${(at.depth >> 1) + 1}`
        + (reply ? `, rated ${rated(at.node)}` : '') + (at.node.status === 'done' ? '' : `, ${at.node.status}`)
        + (at.node.starred ? ', starred' : '') + (at.node.pruned ? ', pruned' : '') + (at.hidden ? `, ${at.hidden} folded` : '');
      canvas.setAttribute('aria-label', words ? `Tree map. ${words}. Arrow keys move.` : 'Tree map, empty.');
      if (document.activeElement === canvas && said.textContent !== words) said.textContent = words || '';
    }

    ask() { this.asked ||= requestAnimationFrame(() => this.draw()); }

    draw() {
      this.asked = 0;
      if (!this.camera.width) return;
      const start = performance.now(), { camera, path, view, stats } = this;
      stats.drawn_nodes = this.painter.frame(camera, camera.placed, path, view.focus, this.still.matches ? null : start);
      stats.draws++;
      stats.last_draw_ms = performance.now() - start;
    }

    zoom(factor, x = this.camera.width / 2, y = this.camera.height / 2) { this.camera.zoom(factor, x, y); this.ask(); }
    fit() { this.camera.fit(); this.ask(); }

    foldToggle(id) {
      if (!this.at(id)?.children.length) return;
      if (!this.folded.delete(id)) this.folded.add(id);
      this.relayout(id);
    }

    /* Folds every branch that leaves the current path, or unfolds all when something is folded. */
    foldOthers() {
      if (this.folded.size) this.folded.clear();
      else for (const v of this.camera.placed.at.values()) {
        if (v.children.length && !this.path.has(v.id) && (!v.parent.node || this.path.has(v.parent.id))) this.folded.add(v.id);
      }
      this.relayout();
      this.show();
    }

    move(where) {
      const at = this.at(this.view.focus);
      if (!at) return;
      const siblings = at.parent.children, down = at.children.find(v => this.path.has(v.id)) || at.children.at(-1);
      const to = { up: at.parent, down, left: siblings[at.index - 1], right: siblings[at.index + 1] }[where];
      if (to?.node) this.onSelect(to.id);
    }

    /* The place drawn at panel pixels x, y, or whose fold badge is (then with `badge`); null where there is none. */
    hit(x, y) {
      const { camera } = this, { k, ky, left, top, placed } = camera, reach = Math.max(10, 15 * Math.min(1.4, k));
      const mx = left + x / k, depth = Math.round((top + y / ky) / Y);
      let best = null, near = reach;
      for (const row of [depth - 1, depth].map(d => placed.rows[d] || [])) {
        for (let i = indexFrom(row, mx - 24 / k); i < row.length && row[i].x <= mx + 24 / k; i++) {
          const s = camera.toScreen(row[i]), far = Math.hypot(s.x - x, s.y - y), below = y - s.y - 17 * Math.min(1.4, k);
          if (row[i].hidden && k >= DOT && Math.abs(s.x - x) < 16 && Math.abs(below) < 9) return { at: row[i], badge: true };
          if (far < near) { near = far; best = { at: row[i], badge: false }; }
        }
      }
      return best;
    }

    hover(found, x, y) {
      const { tip, canvas } = this.ui, id = found?.at.id ?? null;
      canvas.style.cursor = found ? 'pointer' : '';
      if (id !== this.hovered) { this.hovered = id; this.onHover(id); if (found) tip.replaceChildren(...describe(found.at.node)); }
      tip.hidden = !found;
      if (!found) return;
      tip.style.left = `${Math.max(4, Math.min(x + 14, this.camera.width - tip.offsetWidth - 4))}px`;
      tip.style.top = `${y + 18 + tip.offsetHeight < this.camera.height ? y + 18 : Math.max(4, y - tip.offsetHeight - 12)}px`;
    }

    resize() {
      const { width, height } = this.element.getBoundingClientRect(), { camera } = this;
      if (!width || !height) return;
      if (camera.width) camera.left += (camera.width - width) / 2 / camera.k;  // the middle stays in the middle
      Object.assign(camera, { width, height });
      this.painter.readColours();
      if (this.unframed) this.show();
      this.draw();  // at once: a resized canvas is blank until drawn
    }

    destroy() {
      clearInterval(this.timer);
      cancelAnimationFrame(this.asked);
      this.sizes.disconnect();
      this.themes.disconnect();
      this.element.replaceChildren();
    }
  }

  /* ---- pointer and keys */
  function listen(map, canvas) {
    const down = new Map();  // pointers on the canvas: id -> [x, y]
    let moved = false;
    canvas.addEventListener('pointerdown', e => {
      if (e.button) return;
      if (!down.size) moved = false;
      down.set(e.pointerId, [e.offsetX, e.offsetY]);
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener('pointermove', e => {
      const was = down.get(e.pointerId), here = [e.offsetX, e.offsetY];
      if (!was) return map.hover(map.hit(...here), ...here);
      if (!moved && Math.hypot(here[0] - was[0], here[1] - was[1]) < 4) return;  // a click may tremble
      moved = true;
      map.hover(null);
      const other = [...down].find(([id]) => id !== e.pointerId)?.[1];
      if (other) {
        const far = p => Math.hypot(p[0] - other[0], p[1] - other[1]);
        map.zoom(far(here) / Math.max(1, far(was)), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
      } else map.camera.pan(here[0] - was[0], here[1] - was[1]);
      down.set(e.pointerId, here);
      map.ask();
    });
    const release = e => down.delete(e.pointerId);
    canvas.addEventListener('pointerup', e => {
      const found = release(e) && !moved && map.hit(e.offsetX, e.offsetY);
      if (found?.badge) map.foldToggle(found.at.id); else if (found) map.onSelect(found.at.id);
    });
    canvas.addEventListener('pointercancel', release);
    canvas.addEventListener('pointerleave', () => map.hover(null));
    canvas.addEventListener('dblclick', e => {
      const found = map.hit(e.offsetX, e.offsetY);
      if (found && !found.badge) map.foldToggle(found.at.id);
    });
    canvas.addEventListener('wheel', e => {
      e.preventDefault();
      const notch = e.deltaY * (e.deltaMode ? 16 : 1) * (e.ctrlKey ? 3 : 1);  // a pinch on a touchpad is small wheel steps with ctrl
      map.zoom(Math.exp(-Math.max(-150, Math.min(150, notch)) / 400), e.offsetX, e.offsetY);
    }, { passive: false });
    canvas.addEventListener('focus', () => map.name());
    canvas.addEventListener('keydown', e => {
      if (e.altKey || e.ctrlKey || e.metaKey) return;
      const { focus } = map.view, act = {
        ArrowUp: () => map.move('up'), ArrowDown: () => map.move('down'), ArrowLeft: () => map.move('left'), ArrowRight: () => map.move('right'),
        Enter: () => focus && map.onSelect(focus), '+': () => map.zoom(1.3), '=': () => map.zoom(1.3), '-': () => map.zoom(1 / 1.3),
        0: () => map.fit(), f: () => map.foldToggle(focus),
      }[e.key];
      if (act) { e.preventDefault(); e.stopPropagation(); act(); }
    });
  }

  window.studioTreeMap = (element, callbacks = {}) => {
    const map = new TreeMap(element, callbacks), api = {};
    for (const name of ['setTree', 'setView', 'move', 'zoom', 'fit', 'foldToggle', 'foldOthers', 'resize', 'destroy']) api[name] = map[name].bind(map);
    const corner = () => map.ui.canvas.getBoundingClientRect();
    return {
      ...api,
      folded: () => [...map.folded],
      nodeAt: (x, y) => map.hit(x - corner().left, y - corner().top)?.at.id ?? null,
      positionOf: id => {
        const at = map.at(id), s = at?.shown && map.camera.toScreen(at);
        return s ? { x: corner().left + s.x, y: corner().top + s.y } : null;
      },
      stats: () => ({ ...map.stats }),
    };
  };
})();
