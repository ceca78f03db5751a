/* Where each node of a tree is drawn: rows by depth, leaves side by side, parents centred over their children. Linear time. */
'use strict';
window.studioTreeLayout = (() => {
  const X = 34, Y = 46;        // distance between leaves and between rows, in map units

  /* nodes: parents before children, siblings in order. folded: set of ids whose branches are not drawn.
     Returns {at: Map id -> {id, node, x, y, depth, parent, children, hidden}, rows: [[places by x]], width, height}.
     A folded node's `hidden` is the number of nodes below it. */
  function layout(nodes, folded) {
    const at = new Map(), roots = [];
    for (const node of nodes) {
      const parent = node.parent ? at.get(node.parent) : null;
      const place = { id: node.id, node, x: 0, y: 0, depth: parent ? parent.depth + 1 : 0, parent, children: [], hidden: 0, shown: true };
      at.set(node.id, place);
      (parent ? parent.children : roots).push(place);
      if (parent) place.shown = parent.shown && !folded.has(parent.id);
    }
    const all = [...at.values()];
    for (let i = all.length - 1; i >= 0; i--) {      // children come after parents, so this adds up whole branches
      const place = all[i];
      if (place.parent) place.parent.below = (place.parent.below || 0) + 1 + (place.below || 0);
      if (folded.has(place.id)) place.hidden = place.below || 0;
    }
    const rows = [], order = [];
    let slot = 0;
    const pending = roots.slice().reverse();         // a loop, since a dialogue may be deeper than the call stack
    while (pending.length) {
      const place = pending.pop();
      order.push(place);
      if (!folded.has(place.id)) for (let i = place.children.length - 1; i >= 0; i--) pending.push(place.children[i]);
    }
    for (const place of order) if (!place.children.length || folded.has(place.id)) place.x = X * slot++;
    for (let i = order.length - 1; i >= 0; i--) {
      const place = order[i];
      place.y = Y * place.depth;
      if (place.children.length && !folded.has(place.id)) place.x = (place.children[0].x + place.children[place.children.length - 1].x) / 2;
    }
    for (const place of order) (rows[place.depth] ||= []).push(place);
    for (const row of rows) row.sort((a, b) => a.x - b.x);
    return { at, rows, width: Math.max(0, slot - 1) * X, height: Math.max(0, rows.length - 1) * Y };
  }

  /* Places of one row with x in [from, to], found by halving. */
  function within(row, from, to) {
    let low = 0, high = row.length;
    while (low < high) { const mid = (low + high) >> 1; if (row[mid].x < from) low = mid + 1; else high = mid; }
    let end = low;
    while (end < row.length && row[end].x <= to) end++;
    return row.slice(low, end);
  }

  return { layout, within, X, Y };
})();
