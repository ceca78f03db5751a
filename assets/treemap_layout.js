/* The tree map without its pixels: where each node is, what is folded, in view, on the current path, under the pointer.
   Pure: it never touches the page. window.studioTreeLayout = {layout, lookUp, Camera, Plan, facts, DOT, BADGE}. */
'use strict';
window.studioTreeLayout = (() => {
  const X = 36, Y = 48;  // distance between neighbours and between rows, in map units
  const DOT = 0.4;       // below this scale a node is a dot and an edge a straight line
  const BADGE = 19;      // from a folded node down to its badge

  const place = (node, parent) => ({
    id: node.id, node, parent, depth: parent.depth + 1, index: parent.children.length, children: [], x: 0, y: 0,
    below: 0, hidden: 0, shown: true,
    prelim: 0, mod: 0, change: 0, shift: 0, thread: null, ancestor: null, defaultAncestor: null,  // scratch of tidy()
  });
  const open = v => (v.hidden ? [] : v.children);

  /* nodes: [{id, parent}], parents before children, siblings in order. folded: set of ids whose branches are not drawn.
     Returns {at: Map id -> place, rows: [[place, by x]], roots, width, height} with
     place = {id, node, x, y, depth, parent, children, index, below, hidden, shown}: `below` counts its descendants,
     `hidden` those that its own fold hides. A root's parent is a place without a node, at depth -1.
     Linear time, no recursion (a dialogue may be deeper than the call stack). */
  function layout(nodes, folded) {
    const top = { ...place({ id: null }, { depth: -2, children: [] }), node: null, parent: null }, at = new Map();
    for (const node of nodes) {
      const parent = at.get(node.parent) || top, here = place(node, parent);
      here.ancestor = here;
      here.shown = parent.shown && !folded.has(parent.id);
      parent.children.push(here);
      at.set(node.id, here);
    }
    for (const here of [...at.values()].reverse()) {  // children come after parents: this adds up whole branches
      here.parent.below += 1 + here.below;
      if (folded.has(here.id)) here.hidden = here.below;
    }
    return { at, roots: top.children, ...tidy(top) };
  }

  /* The tidy tree of Buchheim, Jünger and Leipert (2002): children centred, branches as close as they go. */
  function tidy(top) {
    const order = [], pending = [top], rows = [];
    while (pending.length) {
      const v = pending.pop();
      order.push(v);
      for (const child of open(v)) pending.push(child);
    }
    for (const v of [...order].reverse()) settle(v);  // children from left to right, then their parent
    const offset = new Map([[top, 0]]);
    for (const v of order) {
      v.x = v.prelim + offset.get(v);
      v.y = Y * v.depth;
      for (const child of open(v)) offset.set(child, offset.get(v) + v.mod);
      if (v !== top) (rows[v.depth] ||= []).push(v);
    }
    for (const row of rows) row.reverse();
    const west = Math.min(...rows.map(row => row[0].x)), east = Math.max(...rows.map(row => row.at(-1).x));
    for (const row of rows) for (const v of row) v.x -= west;
    return { rows, width: rows.length ? east - west : 0, height: Math.max(0, rows.length - 1) * Y };
  }

  function settle(v) {
    const children = open(v), left = v.parent?.children[v.index - 1];
    v.prelim = left ? left.prelim + X : 0;
    if (children.length) {
      let shift = 0, change = 0;
      for (let i = children.length - 1; i >= 0; i--) {
        children[i].prelim += shift;
        children[i].mod += shift;
        change += children[i].change;
        shift += children[i].shift + change;
      }
      const middle = (children[0].prelim + children.at(-1).prelim) / 2;
      if (left) v.mod = v.prelim - middle; else v.prelim = middle;
    }
    if (v.parent) v.parent.defaultAncestor = apportion(v, left, v.parent.defaultAncestor || v.parent.children[0]);
  }

  const nextLeft = v => open(v)[0] || v.thread, nextRight = v => open(v).at(-1) || v.thread;

  /* Moves v's branch right until it clears the branches to its left, walking both contours only as deep as both go. */
  function apportion(v, left, ancestor) {
    if (!left) return ancestor;
    let inRight = v, outRight = v, inLeft = left, outLeft = v.parent.children[0];
    let sumInRight = v.mod, sumOutRight = v.mod, sumInLeft = left.mod, sumOutLeft = outLeft.mod;
    while (nextRight(inLeft) && nextLeft(inRight)) {
      inLeft = nextRight(inLeft); inRight = nextLeft(inRight);
      outLeft = nextLeft(outLeft); outRight = nextRight(outRight);
      outRight.ancestor = v;
      const shift = inLeft.prelim + sumInLeft - inRight.prelim - sumInRight + X;
      if (shift > 0) {
        moveBranch(inLeft.ancestor.parent === v.parent ? inLeft.ancestor : ancestor, v, shift);
        sumInRight += shift; sumOutRight += shift;
      }
      sumInLeft += inLeft.mod; sumInRight += inRight.mod; sumOutLeft += outLeft.mod; sumOutRight += outRight.mod;
    }
    if (nextRight(inLeft) && !nextRight(outRight)) {
      outRight.thread = nextRight(inLeft); outRight.mod += sumInLeft - sumOutRight;
    }
    if (nextLeft(inRight) && !nextLeft(outLeft)) {
      outLeft.thread = nextLeft(inRight); outLeft.mod += sumInRight - sumOutLeft;
      return v;
    }
    return ancestor;
  }

  function moveBranch(from, to, shift) {
    const each = shift / (to.index - from.index);  // the branches between share the move
    to.change -= each; to.shift += shift; from.change += each; to.prelim += shift; to.mod += shift;
  }

  /* The first index of a row whose place has x >= from. */
  function indexFrom(row, from) {
    let low = 0, high = row.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (row[mid].x < from) low = mid + 1; else high = mid;
    }
    return low;
  }

  /* left, top: the map point in the panel's corner. k: pixels a map unit across; ky: the same downwards. A wide tree
     seen from far away keeps its rows apart: ky stays above k as long as all rows fit. */
  class Camera {
    constructor() {
      Object.assign(this, { k: 1, left: 0, top: 0, width: 0, height: 0, placed: layout([], new Set()) });
    }
    get fits() {  // the scales at which the whole tree fits, under the buttons and above the legend
      const { width, height, placed } = this;
      return { x: Math.max(1, width - 56) / (placed.width || 1), y: Math.max(1, height - 104) / (placed.height || 1) };
    }
    get ky() { return Math.max(this.k, Math.min(DOT, this.fits.y)); }
    toScreen(p) { return { x: (p.x - this.left) * this.k, y: (p.y - this.top) * this.ky }; }
    zoom(factor, x = this.width / 2, y = this.height / 2) {
      const { k, ky } = this, least = Math.min(0.1, this.fits.x, this.fits.y);
      this.k = Math.min(2.5, Math.max(least, k * factor));
      this.left += x / k - x / this.k;
      this.top += y / ky - y / this.ky;
      this.clamp();
    }
    pan(dx, dy) { this.left -= dx / this.k; this.top -= dy / this.ky; this.clamp(); }
    clamp() {  // some of the tree stays in the panel
      const x = Math.min(60, this.width / 2) / this.k, y = Math.min(60, this.height / 2) / this.ky;
      this.left = Math.min(this.placed.width + X - x, Math.max(x - X - this.width / this.k, this.left));
      this.top = Math.min(this.placed.height + Y - y, Math.max(y - Y - this.height / this.ky, this.top));
    }
    fit() {
      const { x, y } = this.fits;
      this.k = Math.min(1.2, x, y);
      this.left = this.placed.width / 2 - this.width / 2 / this.k;
      this.top = -52 / this.ky;
    }
    /* The whole tree when it is small enough to read, else the place in focus with its path above it. */
    frame(at) {
      if (Math.min(this.fits.x, this.fits.y) >= 0.7) return this.fit();
      this.k = 1;
      this.reveal(at, true);
    }
    reveal(at, always = false) {
      const s = this.toScreen(at), edge = 20;
      if (always || s.x < edge || s.x > this.width - edge) this.left = at.x - this.width / 2 / this.k;
      if (always || s.y < edge || s.y > this.height - edge) {
        this.top = Math.max(-52 / this.ky, at.y - this.height * 0.6 / this.ky);
      }
    }
  }

  /* What is in view: {places, links}, each link a place whose edge to its parent crosses the panel. Branches never
     cross, so along a row both ends of the edges go from left to right, and the links of a row are one run. Seen from
     far away, what would share a pixel with its left neighbour is left out, the places in `path` excepted. */
  function lookUp({ rows }, { k, ky, left, top, width, height }, path) {
    const margin = 30 / k, from = left - margin, to = left + width / k + margin, gap = k < DOT ? 1.5 / k : 0;
    const places = [], links = [];
    for (const row of rows.slice(Math.max(0, Math.floor(top / Y) - 1), Math.ceil((top + height / ky) / Y) + 2)) {
      const start = indexFrom(row, from);
      let i = start, seen = -Infinity;
      for (; i < row.length && row[i].x <= to; i++) {
        if (row[i].x - seen < gap && !path.has(row[i].id)) continue;
        seen = row[i].x;
        places.push(row[i]);
        links.push(row[i]);
      }
      // to children out of view: past a hundred the edges leave the panel in one line
      for (let j = start - 1; j >= Math.max(0, start - 100) && row[j].parent.x >= from; j--) links.push(row[j]);
      for (let j = i; j < Math.min(row.length, i + 100) && row[j].parent.x <= to; j++) links.push(row[j]);
    }
    return { places, links: links.filter(v => v.parent.node) };
  }

  /* What the map shows: a tree, its folds, the current paths, and the camera on them. */
  class Plan {
    constructor() {
      Object.assign(this, { tree: null, nodes: [], folded: new Set(), focus: null, lanes: [], path: new Set() });
      Object.assign(this, { camera: new Camera(), layouts: 0, unframed: true });
    }
    at(id) { return this.camera.placed.at.get(id); }

    setTree({ tree_id, nodes }) {
      if (tree_id !== this.tree) { this.folded.clear(); this.unframed = true; }
      Object.assign(this, { tree: tree_id, nodes });
      this.relayout(this.focus);
    }

    setView({ focus, lanes = [] }) {
      Object.assign(this, { focus, lanes });
      const at = this.at(focus);
      if (at && !at.shown) {
        for (let p = at.parent; p; p = p.parent) this.folded.delete(p.id);
        this.relayout(focus);
      } else this.trace();
      this.show();
    }

    /* Lays the tree out again; the node `still` stays where it was in the panel. */
    relayout(still) {
      const { camera } = this, before = this.at(still), s = before?.shown && camera.toScreen(before);
      camera.placed = layout(this.nodes, this.folded);
      this.layouts++;
      const after = this.at(still);
      if (s && after?.shown) { camera.left = after.x - s.x / camera.k; camera.top = after.y - s.y / camera.ky; }
      this.trace();
    }

    trace() {
      this.path = new Set();
      for (const lane of this.lanes) for (let v = this.at(lane); v?.node; v = v.parent) this.path.add(v.id);
    }

    /* Brings the focus into view: a new tree is framed, one that is known moves only when the focus is outside. */
    show() {
      const at = this.at(this.focus), { camera } = this;
      if (!camera.width || !camera.placed.roots.length) return;
      if (this.unframed) camera.frame(at || camera.placed.roots[0]); else if (at?.shown) camera.reveal(at);
      if (at) this.unframed = false;
    }

    resize(width, height) {
      const { camera } = this;
      if (camera.width) camera.left += (camera.width - width) / 2 / camera.k;  // the middle stays in the middle
      Object.assign(camera, { width, height });
      if (this.unframed) this.show();
    }

    foldToggle(id) {
      if (!this.at(id)?.children.length) return;
      if (!this.folded.delete(id)) this.folded.add(id);
      this.relayout(id);
    }

    /* Folds every branch that leaves the current paths, or unfolds all when something is folded. */
    foldOthers() {
      const leaves = v => !this.path.has(v.id) && (!v.parent.node || this.path.has(v.parent.id));
      if (this.folded.size) this.folded.clear();
      else for (const v of this.camera.placed.at.values()) if (v.children.length && leaves(v)) this.folded.add(v.id);
      this.relayout(this.focus);
      this.show();
    }

    /* The id one step from the focus, or null. Down follows the current path, else the newest branch. */
    step(where) {
      const at = this.at(this.focus), among = at?.parent.children;
      if (!at) return null;
      const down = at.children.find(v => this.path.has(v.id)) || at.children.at(-1);
      return { up: at.parent, down, left: among[at.index - 1], right: among[at.index + 1] }[where]?.id ?? null;
    }

    /* {at, badge} for the place drawn at panel pixels x, y, or whose fold badge is there; null where nothing is. */
    hit(x, y) {
      const { camera } = this, { k, ky, left, top, placed } = camera, size = Math.min(1.4, k), side = 24 / k;
      const mx = left + x / k, depth = Math.round((top + y / ky) / Y);
      let found = null, near = Math.max(10, 15 * size);
      for (const row of placed.rows.slice(Math.max(0, depth - 1), depth + 1)) {
        for (let i = indexFrom(row, mx - side); i < row.length && row[i].x <= mx + side; i++) {
          const at = row[i], s = camera.toScreen(at), far = Math.hypot(s.x - x, s.y - y);
          const badge = at.hidden && k >= DOT && Math.abs(s.x - x) < 16 && Math.abs(s.y + BADGE * size - y) < 9;
          if (badge) return { at, badge: true };
          if (far < near) { near = far; found = { at, badge: false }; }
        }
      }
      return found;
    }
  }

  /* What there is to say of a place: ["Reply 2 of 3", "turn 4", "rated 3 of 4", ...]. Local dimensions are four. */
  function facts({ node, index, parent, depth, hidden }) {
    const reply = node.role === 'assistant', coverage = Math.round((node.coverage || 0) * 4);
    return [
      `${reply ? 'Reply' : 'Question'} ${index + 1} of ${parent.children.length}`, `turn ${(depth >> 1) + 1}`,
      reply && `rated ${coverage} of 4`, node.said && `judge ${node.said}`,
      node.status !== 'done' && node.status, node.starred && 'starred', node.pruned && 'pruned',
      hidden && `${hidden} folded`,
    ].filter(Boolean);
  }

  return { layout, lookUp, Camera, Plan, facts, DOT, BADGE };
})();
