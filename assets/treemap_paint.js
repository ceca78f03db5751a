/* How the tree map looks: one frame of what is in view, drawn on a canvas. Knows no pointer, no key and no data but a Plan.
   window.studioTreePainter: {Painter, CIVIDIS}. Needs treemap_layout.js. */
'use strict';
window.studioTreePainter = (() => {
  const { lookUp, DOT, BADGE } = window.studioTreeLayout, TURN = 2 * Math.PI;
  const CIVIDIS = ['#123570', '#3b496c', '#575d6d', '#707173', '#8a8779', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];
  const COLOURS = { surface: '#fff', ink: '#111', edge: '#9ab', accent: '#4f46e5', danger: '#b42318', ring: '#0f766e' };

  /* Colour of a score's place between the ends of its scale, 0..1, or null without a judge. */
  const colourOf = score => (score == null ? null : CIVIDIS[Math.round(Math.min(1, Math.max(0, score)) * 8)]);

  class Painter {
    constructor(canvas) { this.canvas = canvas; this.pen = canvas.getContext('2d'); this.readColours(); }

    readColours() {
      const style = getComputedStyle(this.canvas);
      for (const name in COLOURS) this[name] = style.getPropertyValue(`--map-${name}`).trim() || COLOURS[name];
      this.font = style.fontFamily || 'system-ui';
    }

    /* Draws a Plan; now: ms, 0 where motion is not wanted. Returns the number of nodes drawn. */
    frame({ camera, path, focus }, now) {
      const { canvas, pen } = this, dpr = window.devicePixelRatio || 1;
      const width = Math.round(camera.width * dpr), height = Math.round(camera.height * dpr);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      pen.setTransform(dpr, 0, 0, dpr, 0, 0);
      pen.clearRect(0, 0, camera.width, camera.height);
      const { places, links } = lookUp(camera.placed, camera, path), size = Math.min(1.4, camera.k);
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
      if (node.coverage) {
        this.stroke(this.edge, 0.8, () => pen.arc(x, y, ring, 0, TURN));
        this.stroke(this.ring, 3, () => pen.arc(x, y, ring, -TURN / 4, TURN * (node.coverage - 1 / 4)));
      }
      if (node.status === 'streaming') {
        pen.fillStyle = this.accent;
        pen.beginPath(); pen.arc(x, y, r * (0.45 + 0.25 * Math.sin(now / 180)), 0, TURN); pen.fill();
      }
      if (node.status === 'failed') this.text('✕', x + r, y + r, 13, this.danger);
      if (node.starred) this.text('★', x - r, y - r, 13);
      if (v.hidden) this.badge(`+${v.hidden}`, x, y + BADGE * size);
    }

    badge(words, x, y) {
      const { pen } = this;
      pen.font = `600 11px ${this.font}`;
      const half = pen.measureText(words).width / 2 + 5;
      pen.fillStyle = this.surface;
      this.stroke(this.edge, 1, () => { pen.roundRect(x - half, y - 8, 2 * half, 16, 8); pen.fill(); });
      this.text(words, x, y, 11);
    }

    text(words, x, y, size, fillStyle = this.ink) {
      const font = `600 ${size}px ${this.font}`, textAlign = 'center', textBaseline = 'middle', lineJoin = 'round';
      Object.assign(this.pen, { font, textAlign, textBaseline, lineJoin, fillStyle, lineWidth: 4 });
      this.pen.strokeStyle = this.surface;
      this.pen.strokeText(words, x, y + 0.5);  // a halo, so that it reads on any colour
      this.pen.fillText(words, x, y + 0.5);
    }
  }

  return { Painter, CIVIDIS };
})();
