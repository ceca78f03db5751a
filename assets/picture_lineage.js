/* Where a picture came from and where it went: a small graph, and the same in words with buttons. */
'use strict';
window.studioLineage = (() => {
  const { h } = window.studio;
  const SVG = 'http://www.w3.org/2000/svg', WIDE = 92, HIGH = 64, ACROSS = 150, DOWN = 118;
  const s = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const short = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);
  const name = p => (p.depth === 0 ? 'This picture' : p.depth < 0 ? 'Source' : 'Made from it');
  const made = p => (p.origin === 'edit' ? p.how.join(', then ') : [p.how.join(', '), p.prompt && `“${p.prompt}”`, p.licence].filter(Boolean).join(' · '));

  /* Columns by distance; what a file claims of itself comes first, dashed. */
  function layout(data) {
    const columns = new Map(), boxes = [];
    for (const p of data.pictures) {
      const before = p.claimed.length ? Math.min(p.claimed.length, 4) : 0;
      for (let i = 0; i < before; i++) place({ claim: p.claimed[p.claimed.length - before + i], depth: p.depth - before + i, to: p.sha256 });
      place({ picture: p, depth: p.depth });
    }
    function place(box) {
      const row = columns.get(box.depth) || 0;
      columns.set(box.depth, row + 1);
      boxes.push({ ...box, row });
    }
    const left = Math.min(...columns.keys());
    for (const b of boxes) { b.x = 12 + (b.depth - left) * ACROSS; b.y = 26 + b.row * DOWN; }
    return { boxes, width: (columns.size) * ACROSS, height: Math.max(...columns.values()) * DOWN + 20 };
  }

  function edge(from, to, label) {
    const x1 = from.x + WIDE, y1 = from.y + HIGH / 2, x2 = to.x - 2, y2 = to.y + HIGH / 2, mid = (x1 + x2) / 2;
    return s('g', {}, s('path', { d: `M${x1},${y1} C${mid},${y1} ${mid},${y2} ${x2},${y2}`, class: 'edge', 'marker-end': 'url(#lineage-arrow)' }),
      s('title', {}, label));
  }

  function drawn(box, open) {
    const p = box.picture, g = s('g', { class: p ? (p.depth === 0 ? 'at here' : 'at') : 'at claim', transform: `translate(${box.x},${box.y})` });
    g.append(s('title', {}, p ? `${name(p)}: ${made(p)}` : `The file says: ${box.claim.words || box.claim.origin || 'a step'}`), s('rect', { width: WIDE, height: HIGH, rx: 6 }));
    if (p) g.append(s('image', { href: `/thumb/${p.sha256}`, x: 3, y: 3, width: WIDE - 6, height: HIGH - 6, preserveAspectRatio: 'xMidYMid meet' }));
    g.append(s('text', { x: 0, y: HIGH + 14 }, short(p ? (p.tool || p.origin || 'hidden') : box.claim.tool || box.claim.origin || 'a step', 17)));
    if (p) {
      p.uses.slice(0, 8).forEach((u, i) => g.append(u.role === 'user' ? s('circle', { cx: 6 + i * 15, cy: HIGH + 27, r: 5, class: 'ask' }) : s('rect', { x: 1 + i * 15, y: HIGH + 22, width: 10, height: 10, class: 'answer' })));
      g.addEventListener('click', () => open(p.sha256));
    }
    return g;
  }

  function graph(data, open) {
    const { boxes, width, height } = layout(data), of = sha256 => boxes.find(b => b.picture?.sha256 === sha256);
    const svg = s('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': `Lineage of the picture: ${data.pictures.length} pictures. The same in words below.` },
      s('defs', {}, s('marker', { id: 'lineage-arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' }, s('path', { d: 'M0,0 L8,4 L0,8 z', class: 'tip' }))));
    for (const b of boxes) {
      if (b.picture) for (const source of b.picture.from) if (of(source)) svg.append(edge(of(source), b, made(b.picture)));
      if (b.claim) { const next = boxes.find(o => o.claim && o.to === b.to && o.depth === b.depth + 1) || of(b.to); svg.append(edge(b, next, 'as the file says')); }
    }
    svg.append(...boxes.map(b => drawn(b, open)));
    return svg;
  }

  function line(p, { open, go }) {
    const params = Object.keys(p.params).length ? h('details', {}, h('summary', {}, 'Parameters'), h('pre', {}, JSON.stringify(p.params, null, 1))) : null;
    return h('li', {}, h('b', {}, name(p)), ` ${p.size}${p.made_at ? `, ${new Date(p.made_at).toLocaleString()}` : ''}: `, made(p), p.source_url && ` from ${p.source_url}`,
      p.depth !== 0 && h('button.tool', { type: 'button', ariaLabel: `Open: ${name(p)}, ${made(p)}`, onclick: () => open(p.sha256) }, 'Open'),
      p.claimed.length ? h('div.soft', {}, 'The file said of itself, unchecked: ', p.claimed.map(c => c.words || c.origin || 'a step').join(' → ')) : null,
      ...p.uses.map(u => h('div', {}, u.role === 'user' ? 'Shown in a question of ' : `Shown in a reply of ${u.model || 'unknown'} in `,
        h('button.tool', { type: 'button', ariaLabel: `Go to this message of ${u.title}`, onclick: () => go(u.node_id) }, short(u.title || 'a dialogue without a title', 60)))),
      params);
  }

  /* ``open(sha256)`` shows another picture, ``go(node)`` a message. */
  return (data, act) => h('div.lineage-of', {}, h('div.lineage-graph', { tabIndex: 0, role: 'region', ariaLabel: 'Graph of the lineage' }, graph(data, act.open)),
    h('p.soft', {}, 'A circle is a question that shows the picture, a square a reply.'), h('ol', {}, ...data.pictures.map(p => line(p, act))));
})();
