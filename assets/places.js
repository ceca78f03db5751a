/* Places in a reply: which characters of its source are selected on the page, where to draw a passage, and boxes on pictures.
   A place is what studio/actions/spans.py says. Knows nothing of notes but their number and words; saves nothing. */
'use strict';
window.studioPlaces = (() => {
  const { h } = window.studio;
  const LOOK = [[12, 600], [3, 40], [1, 8]];   // how many characters of a word are looked for, how far ahead in the source
  const aligned = new WeakMap();               // a drawn part -> see align

  /* ---- text: the page shows markdown drawn, a place counts characters of what was written */

  const ours = node => node.parentElement.closest('.proposal') ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;  // not written there

  /* The characters that a part shows, and where each is: {chars, where: [text node, offset]}. */
  function shown(element) {
    const chars = [], where = [], walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT, ours);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      let offset = 0;
      for (const ch of node.data) { chars.push(ch); where.push([node, offset]); offset += ch.length; }
    }
    return { chars, where };
  }

  /* For each shown character its place in the source, -1 for what is not there. Shown words stand in the source in the same
     order with markup between them, so each is the next such word: never behind the true one, which keeps it from drifting. */
  function align(chars, source) {
    const map = new Int32Array(chars.length).fill(-1), blank = ch => ch.trim() === '';
    let at = 0;
    const ahead = i => {
      for (const [length, far] of LOOK) {
        let n = 0;
        while (n < length && i + n < chars.length && !blank(chars[i + n])) n++;
        for (let k = at; k < Math.min(at + far, source.length); k++) {
          let same = 0;
          while (same < n && source[k + same] === chars[i + same]) same++;
          if (same === n) return k;
        }
      }
      return -1;
    };
    for (let i = 0; i < chars.length; i++) {
      if (blank(chars[i])) continue;
      while (at < source.length && blank(source[at])) at++;
      const found = source[at] === chars[i] ? at : ahead(i);
      if (found >= 0) { map[i] = found; at = found + 1; }
    }
    return map;
  }

  /* The source of one part as characters; card.text is all text parts, joined by line ends. */
  function source(card, part) {
    const before = card.parts.slice(0, part).filter(p => p.kind === 'text').reduce((n, p) => n + p.length + 1, 0);
    return [...card.text].slice(before, before + card.parts[part].length);
  }

  function mapOf(card, part, element) {
    if (!aligned.has(element)) aligned.set(element, align(shown(element).chars, source(card, part)));
    return aligned.get(element);
  }

  function span(card, part, element, from, to) {
    const found = [...mapOf(card, part, element).slice(from, to)].filter(k => k >= 0);
    if (!found.length) return null;
    const start = found[0], end = found[found.length - 1] + 1;
    return { part, start, end, quote: source(card, part).slice(start, end).join('') };
  }

  /* The place of a selection in a card's body; null when it covers no words of one text part. */
  function passage(card, body, range) {
    const over = card.parts.map((p, i) => i).filter(i => card.parts[i].kind === 'text' && range.intersectsNode(body.children[i]));
    const places = over.map(i => {
      const { where } = shown(body.children[i]), inside = where.map(([node, offset]) => range.comparePoint(node, offset) === 0 && !(node === range.endContainer && offset === range.endOffset));
      return span(card, i, body.children[i], inside.indexOf(true), inside.lastIndexOf(true) + 1);
    }).filter(Boolean);
    return places.length === 1 ? places[0] : null;
  }

  /* The first place where these words stand, as they are shown or as they were written. */
  function find(card, body, words) {
    for (const [i, p] of card.parts.entries()) {
      if (p.kind !== 'text' || !words) continue;
      const text = shown(body.children[i]).chars.join(''), at = text.indexOf(words);
      if (at >= 0) { const from = [...text.slice(0, at)].length; return span(card, i, body.children[i], from, from + [...words].length); }
      const written = source(card, i).join(''), start = [...written.slice(0, Math.max(0, written.indexOf(words)))].length;
      if (written.includes(words)) return { part: i, start, end: start + [...words].length, quote: words };
    }
    return null;
  }

  function highlight(card, body, { part, start, end }, props) {
    const element = body.children[part], inside = mapOf(card, part, element), { where } = shown(element);
    const hit = k => k >= start && k < end, from = inside.findIndex(hit), to = inside.findLastIndex(hit) + 1, pieces = new Map();
    where.slice(from, to).forEach(([node, offset], i) => {
      const end = offset + String.fromCodePoint(node.data.codePointAt(offset)).length;
      if (pieces.has(node)) pieces.get(node)[1] = end; else pieces.set(node, [offset, end]);
    });
    for (const [node, [a, b]] of pieces) {
      const formula = node.parentElement.closest('math');  // takes no element of ours inside
      if (formula) { formula.classList.add('noted'); continue; }
      if (!node.data.slice(a, b).trim()) continue;
      const range = document.createRange();
      range.setStart(node, a); range.setEnd(node, b);
      range.surroundContents(h('mark', { ...props, 'data-n': null }));
    }
    const all = element.querySelectorAll(`mark[data-note="${props['data-note']}"]`);  // the number stands once, at the end
    if (all.length) all[all.length - 1].dataset.n = props['data-n'];
  }

  /* ---- pictures: boxes in pixels of the source, drawn in parts of a hundred */
  const percent = ({ x, y, w, h: high }, p) => `left:${100 * x / p.width}%;top:${100 * y / p.height}%;width:${100 * w / p.width}%;height:${100 * high / p.height}%`;

  function box(card, body, place, props) {
    const whole = place.x === undefined;
    card.parts.forEach((p, i) => {
      if (p.image !== place.image) return;
      const mark = h('span.region', { ...props, style: percent(whole ? { x: 0, y: 0, w: p.width, h: p.height } : place, p) });
      mark.classList.toggle('whole', whole);
      body.children[i].querySelector('a').append(mark);
    });
  }

  /* Draw the places of notes: {id, n, title, span, pending}. What was drawn before goes. */
  function draw(card, body, notes, onclick) {
    body.querySelectorAll('mark.noted').forEach(m => m.replaceWith(...m.childNodes));
    body.querySelectorAll('math.noted').forEach(m => m.classList.remove('noted'));
    body.querySelectorAll('.region').forEach(r => r.remove());
    body.normalize();
    for (const { id, n, title, span: place, pending } of notes) {
      const props = { 'data-note': id, 'data-n': n, title, className: `${place.image ? 'region' : 'noted'}${pending ? ' pending' : ''}`, onclick: () => onclick(id) };
      (place.image ? box : highlight)(card, body, place, props);
    }
  }

  /* A layer over a picture on which a box is drawn: with the pointer, or moved and sized with the arrow keys. done(place) or leave. */
  function drawing(figure, part, done, pointer = null) {
    const link = figure.querySelector('a'), side = (at, limit) => Math.max(0, Math.min(limit, at));
    let at = { x: part.width / 4, y: part.height / 4, w: part.width / 2, h: part.height / 2 }, from = null;
    const shape = h('span.region.pending'), layer = h('span.region-layer', { tabIndex: 0, role: 'application',
      ariaLabel: 'Drag a box. Or: arrows move it, Shift and arrows size it, Enter takes it, Escape leaves' }, shape);
    const show = () => { shape.style.cssText = percent(at, part); };
    const point = event => {
      const r = layer.getBoundingClientRect();
      return [side((event.clientX - r.left) * part.width / r.width, part.width), side((event.clientY - r.top) * part.height / r.height, part.height)];
    };
    const stay = event => event.preventDefault();  // the picture is a link: the click that ends a drag must not open it
    const close = () => {
      layer.remove();
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', up);
      setTimeout(() => link.removeEventListener('click', stay), 50);
    };
    const take = () => {
      const x = Math.min(Math.floor(at.x), part.width - 1), y = Math.min(Math.floor(at.y), part.height - 1);
      close();
      done({ image: part.image, x, y, w: Math.max(1, Math.min(Math.round(at.w), part.width - x)), h: Math.max(1, Math.min(Math.round(at.h), part.height - y)) });
    };
    const move = event => {
      if (!layer.isConnected) return close();  // the card was drawn anew
      if (!from) return;
      const [x, y] = point(event);
      at = { x: Math.min(x, from[0]), y: Math.min(y, from[1]), w: Math.abs(x - from[0]), h: Math.abs(y - from[1]) };
      show();
    };
    const up = event => {
      if (!from) return;
      move(event);
      from = null;
      if (at.w * layer.clientWidth > 4 * part.width && at.h * layer.clientHeight > 4 * part.height) take(); else close();
    };
    layer.addEventListener('pointerdown', event => { from = point(event); event.preventDefault(); layer.focus(); });
    layer.addEventListener('keydown', event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], px = Math.max(1, part.width / 50), py = Math.max(1, part.height / 50);
      if (!step && event.key !== 'Enter' && event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();  // Enter and Escape mean other things to the rest of the page
      if (event.key === 'Escape') return close();
      if (event.key === 'Enter') return take();
      if (event.shiftKey) { at.w = Math.max(1, Math.min(at.w + step[0] * px, part.width - at.x)); at.h = Math.max(1, Math.min(at.h + step[1] * py, part.height - at.y)); }
      else { at.x = side(at.x + step[0] * px, part.width - at.w); at.y = side(at.y + step[1] * py, part.height - at.h); }
      show();
    });
    link.addEventListener('click', stay);
    layer.addEventListener('dragstart', stay);
    addEventListener('pointermove', move);
    addEventListener('pointerup', up);
    show();
    link.append(layer);
    layer.focus({ preventScroll: true });
    if (pointer) from = point(pointer);
  }

  return { passage, find, draw, drawing };
})();
