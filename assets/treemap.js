/* The tree map on a canvas: circles ask, squares answer; colour is the judge's score, a ring is label coverage, the
   current path is bold, pruned branches are faint. Owns pointer and keys; never asks for data, never changes
   a tree. window.studioTreeMap(element, {onSelect(id), onHover(id | null)}) -> {setTree, setView, colour, move, zoom, fit,
   foldToggle, foldOthers, folded, nodeAt, positionOf, resize, stats, destroy}. Needs treemap_layout.js and treemap_paint.js. */
'use strict';
(() => {
  const { Plan, facts } = window.studioTreeLayout, { Painter, CIVIDIS } = window.studioTreePainter;
  const button = ([act, text, title]) => `<button type="button" ${act} title="${title}" aria-label="${title}">${text}`;
  const PARTS = `
    <canvas class="map-canvas" tabindex="0" role="application"></canvas>
    <p class="map-none">The tree appears here as you chat.</p>
    <div class="map-tools">${[
      ['data-zoom="1.3"', '+', 'Zoom in'], ['data-zoom="0.77"', '−', 'Zoom out'],
      ['data-act="fit"', 'Fit', 'Show the whole tree'],
      ['data-act="foldOthers"', 'Fold', 'Fold the branches off the current path, or unfold all'],
    ].map(button).join('</button>')}</button></div>
    <div class="map-legend"><span><i class="map-circle"></i>question</span><span><i class="map-square"></i>reply</span>
      <span><i class="map-rated"></i>rated</span><span class="map-ramp"><span class="map-low">0</span><i></i><span class="map-high">1</span></span></div>
    <div class="map-said" aria-live="polite"></div>
    <div class="map-tip" hidden></div>`;

  /* The tooltip's lines. Labels are written by models: they go in as text only. */
  function describe(at) {
    const put = (tag, props) => Object.assign(document.createElement(tag), props), { model, label, thumb } = at.node;
    const words = [[model, ...facts(at)].filter(Boolean).join(' · '), label];
    const lines = words.map(textContent => put('div', { textContent }));
    return thumb ? [...lines, put('img', { src: thumb, alt: '' })] : lines;
  }

  class TreeMap {
    constructor(element, { onSelect = () => {}, onHover = () => {} }) {
      Object.assign(this, { element, onSelect, onHover, plan: new Plan(), hovered: null });
      this.drawn = { draws: 0, drawn_nodes: 0, last_draw_ms: 0 };
      const root = Object.assign(document.createElement('div'), { className: 'map-root', innerHTML: PARTS });
      const part = name => root.querySelector(`.map-${name}`);
      this.ui = Object.fromEntries(['canvas', 'none', 'tools', 'legend', 'ramp', 'said', 'tip'].map(n => [n, part(n)]));
      this.ui.ramp.querySelector('i').style.background = `linear-gradient(90deg, ${CIVIDIS})`;
      element.replaceChildren(root);
      this.painter = new Painter(this.ui.canvas);
      this.calm = matchMedia('(prefers-reduced-motion: reduce)');
      this.sizes = new ResizeObserver(() => this.resize());
      this.sizes.observe(element);
      this.themes = new MutationObserver(() => { this.painter.readColours(); this.ask(); });
      for (const e of [document.documentElement, document.body]) this.themes.observe(e, { attributeFilter: ['class'] });
      listen(this, this.ui);
      this.setTree({ tree_id: null, nodes: [] });
      this.resize();
    }

    /* data: {tree_id, nodes: [{id, parent, role, label, coverage, score, starred, pruned, status, thumb, model}]},
       parents before children, siblings in order; coverage 0..1, score 0..1 (place on the judge's scale) or null, said: it in words.
       The tree that is shown already keeps zoom, pan and folds. */
    setTree(data) {
      const { none, tools, legend, ramp } = this.ui, { nodes } = data;
      this.plan.setTree(data);
      none.hidden = nodes.length > 0;
      tools.hidden = legend.hidden = !nodes.length;
      ramp.hidden = !nodes.some(n => n.score != null);
      const [low, high] = data.ends || ['low', 'high'];
      ramp.querySelector('.map-low').textContent = `judge ${low}`;
      ramp.querySelector('.map-high').textContent = high;
      if (!this.plan.at(this.hovered)) this.hover(null);
      clearInterval(this.timer);
      const growing = nodes.some(n => n.status === 'streaming');
      if (growing) this.timer = setInterval(() => this.calm.matches || this.ask(), 80);
      this.say();
    }

    /* The score of one node, and it in words, while its reply grows; unknown ids are ignored. */
    colour(id, score, said = null) {
      const place = this.plan.at(id);
      if (!place || (place.node.score === score && place.node.said === said)) return;
      Object.assign(place.node, { score, said });
      this.ui.ramp.hidden &&= score == null;
      this.ask();
    }

    setView(view) { this.plan.setView(view); this.say(); }  // {focus: id, lanes: [ids of the current paths' ends]}
    zoom(factor, x, y) { this.plan.camera.zoom(factor, x, y); this.ask(); }
    pan(dx, dy) { this.plan.camera.pan(dx, dy); this.ask(); }
    fit() { this.plan.camera.fit(); this.ask(); }
    foldToggle(id) { this.plan.foldToggle(id); this.say(); }
    foldOthers() { this.plan.foldOthers(); this.say(); }
    folded() { return [...this.plan.folded]; }
    move(where) { const id = this.plan.step(where); if (id) this.onSelect(id); }  // up | down | left | right

    say() {
      const { canvas, said } = this.ui, at = this.plan.at(this.plan.focus), words = at ? facts(at).join(', ') : '';
      canvas.setAttribute('aria-label', words ? `Tree map. ${words}. Arrow keys move.` : 'Tree map.');
      if (document.activeElement === canvas && said.textContent !== words) said.textContent = words;
      this.ask();
    }

    ask() { this.asked ||= requestAnimationFrame(() => this.draw()); }

    draw() {
      const start = performance.now();
      this.asked = 0;
      if (!this.plan.camera.width) return;
      const drawn_nodes = this.painter.frame(this.plan, this.calm.matches ? 0 : start);
      this.drawn = { draws: this.drawn.draws + 1, drawn_nodes, last_draw_ms: performance.now() - start };
    }

    hover(found, x, y) {
      const { tip, canvas } = this.ui, { camera } = this.plan, id = found?.at.id ?? null;
      canvas.style.cursor = found ? 'pointer' : '';
      tip.hidden = !found;
      if (found && id !== this.hovered) tip.replaceChildren(...describe(found.at));
      if (id !== this.hovered) this.onHover(id);
      this.hovered = id;
      if (!found) return;
      const over = y + 18 + tip.offsetHeight > camera.height;
      tip.style.left = `${Math.max(4, Math.min(x + 14, camera.width - tip.offsetWidth - 4))}px`;
      tip.style.top = `${over ? Math.max(4, y - tip.offsetHeight - 14) : y + 18}px`;
    }

    resize() {
      const { width, height } = this.element.getBoundingClientRect();
      if (!width || !height) return;
      this.plan.resize(width, height);
      this.painter.readColours();
      this.draw();  // at once: a canvas of a new size is blank
    }

    nodeAt(x, y) {  // client pixels, as a pointer event has them
      const corner = this.ui.canvas.getBoundingClientRect();
      return this.plan.hit(x - corner.left, y - corner.top)?.at.id ?? null;
    }

    positionOf(id) {
      const at = this.plan.at(id), corner = this.ui.canvas.getBoundingClientRect();
      const s = at?.shown && this.plan.camera.toScreen(at);
      return s ? { x: corner.left + s.x, y: corner.top + s.y } : null;
    }

    stats() { return { layouts: this.plan.layouts, ...this.drawn }; }

    destroy() {
      clearInterval(this.timer);
      cancelAnimationFrame(this.asked);
      this.sizes.disconnect();
      this.themes.disconnect();
      this.element.replaceChildren();
    }
  }

  /* ---- pointer and keys */
  function listen(map, { canvas, tools }) {
    const down = new Map();  // pointers on the canvas: id -> [x, y]
    let moved = false;
    tools.addEventListener('click', ({ target: { dataset } }) => {
      if (dataset.zoom) map.zoom(Number(dataset.zoom)); else if (dataset.act) map[dataset.act]();
    });
    canvas.addEventListener('pointerdown', e => {
      if (e.button) return;
      if (!down.size) moved = false;
      down.set(e.pointerId, [e.offsetX, e.offsetY]);
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener('pointermove', e => {
      const was = down.get(e.pointerId), here = [e.offsetX, e.offsetY];
      if (!was) return map.hover(map.plan.hit(...here), ...here);
      if (!moved && Math.hypot(here[0] - was[0], here[1] - was[1]) < 4) return;  // a click may tremble
      moved = true;
      map.hover(null);
      drag(map, was, here, [...down].find(([id]) => id !== e.pointerId)?.[1]);
      down.set(e.pointerId, here);
    });
    canvas.addEventListener('pointerup', e => {
      const found = down.delete(e.pointerId) && !moved && map.plan.hit(e.offsetX, e.offsetY);
      if (found?.badge) map.foldToggle(found.at.id); else if (found) map.onSelect(found.at.id);
    });
    canvas.addEventListener('pointercancel', e => down.delete(e.pointerId));
    canvas.addEventListener('pointerleave', () => map.hover(null));
    canvas.addEventListener('dblclick', e => {
      const found = map.plan.hit(e.offsetX, e.offsetY);
      if (found && !found.badge) map.foldToggle(found.at.id);
    });
    canvas.addEventListener('wheel', e => {
      e.preventDefault();
      const notch = e.deltaY * (e.deltaMode ? 16 : 1) * (e.ctrlKey ? 3 : 1);  // ctrl: a touchpad's pinch
      map.zoom(Math.exp(-Math.max(-150, Math.min(150, notch)) / 400), e.offsetX, e.offsetY);
    }, { passive: false });
    canvas.addEventListener('focus', () => map.say());
    canvas.addEventListener('keydown', e => press(map, e));
  }

  function drag(map, was, here, other) {
    if (!other) return map.pan(here[0] - was[0], here[1] - was[1]);
    const far = p => Math.hypot(p[0] - other[0], p[1] - other[1]);  // pinch
    map.zoom(far(here) / Math.max(1, far(was)), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
  }

  function press(map, event) {
    const { key } = event, { focus } = map.plan, arrow = /^Arrow(Up|Down|Left|Right)$/.exec(key)?.[1].toLowerCase();
    if (event.altKey || event.ctrlKey || event.metaKey || !(arrow || '+=-0f'.includes(key) || key === 'Enter')) return;
    event.preventDefault(); event.stopPropagation();
    if (arrow) map.move(arrow);
    else if (key === 'Enter') map.onSelect(focus);
    else if (key === 'f') map.foldToggle(focus);
    else if (key === '0') map.fit();
    else map.zoom(key === '-' ? 1 / 1.3 : 1.3);
  }

  window.studioTreeMap = (element, callbacks = {}) => new TreeMap(element, callbacks);
})();
