/* What is measured of pictures, as small tables: each number with its range and what it means. Says nothing of good or bad, holds
   nothing but the last answers, and asks again only while it is open and more is on its way. */
'use strict';
window.studioChecks = (() => {
  const { h, call } = window.studio;
  const AGAIN_MS = 600, REMEMBERED = 20;
  const answers = new Map();   // what was said last, so that a fold that is drawn anew does not jump

  const number = value => value === null ? '–' : Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);

  const begin = text => text.charAt(0).toUpperCase() + text.slice(1);

  /* ``other``: what the nearest other picture is; it may be opened. */
  const opens = n => n.other && h('button.check-open', { type: 'button', ariaLabel: 'Open the picture that looks most like this one', onclick: () => window.studioPicture.open(n.other) }, h('img', { src: `/thumb/${n.other}`, alt: '', loading: 'lazy' }), ' Open it');

  const row = n => [h('tr', { 'data-check': n.key }, h('th', { scope: 'row' }, n.name), h('td.number', {}, number(n.value))),
    h('tr.check-means', { 'data-means': n.key }, h('td.soft', { colSpan: 2 }, h('b', {}, begin(n.range)), `. ${n.note ? `${begin(n.note)}. ` : ''}${n.means}`, opens(n)))];

  const table = (numbers, label) => h('table.checks', { ariaLabel: label }, ...numbers.flatMap(row));

  const sources = numbers => {
    const known = new Map(numbers.filter(n => n.source).map(n => [n.name, n.source]));
    return known.size ? h('details.check-sources', {}, h('summary', {}, 'Sources'), h('ul', {}, ...[...known].map(([name, source]) => h('li.soft', {}, `${name}: ${source}.`)))) : null;
  };

  /* One line a picture of a dialogue: what a column means stands in the table above or in the picture's own window. */
  function list(pictures) {
    const columns = [...new Map(pictures.flatMap(p => p.numbers.map(n => [n.key, n]))).values()];
    if (!columns.length) return null;
    const cell = (p, key) => h('td.number', { title: p.numbers.find(n => n.key === key)?.note || '' }, number(p.numbers.find(n => n.key === key)?.value ?? null));
    return h('div.check-scroll', { tabIndex: 0, role: 'region', ariaLabel: 'Each picture of this dialogue' }, h('table.checks.each', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Picture'), ...columns.map(c => h('th', { scope: 'col', title: c.means }, c.name, h('span.soft', {}, ` ${c.range}`))))),
      h('tbody', {}, ...pictures.map(p => h('tr', {}, h('th', { scope: 'row' }, h('button.check-open', { type: 'button', ariaLabel: `Open picture ${p.n}`, onclick: () => window.studioPicture.open(p.sha256) },
        h('img', { src: `/thumb/${p.sha256}`, alt: '', loading: 'lazy' }), ` ${p.n}`)), ...columns.map(c => cell(p, c.key)))))));
  }

  const notes = answer => [answer.waiting && h('p.soft', { role: 'status' }, 'Measuring…'), ...answer.notes.map(n => h('p.soft', {}, n))].filter(Boolean);

  /* A fold that fills itself when it is opened. */
  function fold(title, name, data, draw, className) {
    const inner = h('div'), key = JSON.stringify([name, data]), box = h('details', { className, ontoggle: () => box.open && load() }, h('summary', {}, title), inner);
    let timer = null, drawn = '';

    function show(answer) {
      const json = JSON.stringify(answer), held = inner.contains(document.activeElement);
      if (json === drawn || (held && answer.waiting)) return;  // who reads it keeps the keyboard until all is there
      drawn = json;
      const at = held ? [...inner.querySelectorAll('button, summary, [tabindex]')].indexOf(document.activeElement) : -1;
      inner.replaceChildren(...draw(answer).filter(Boolean), ...notes(answer));
      if (at >= 0) inner.querySelectorAll('button, summary, [tabindex]')[at]?.focus({ preventScroll: true });
    }

    async function load() {
      clearTimeout(timer);
      if (answers.has(key)) show(answers.get(key));
      const answer = await call(name, data).catch(error => { if (error.told) inner.replaceChildren(h('p.soft', {}, error.message)); else throw error; });
      if (!answer) return;
      answers.delete(key);
      answers.set(key, answer);
      if (answers.size > REMEMBERED) answers.delete(answers.keys().next().value);
      show(answer);
      if (answer.waiting && box.open && box.isConnected) timer = setTimeout(() => load().catch(() => {}), AGAIN_MS);
    }
    return box;
  }

  /* ``blind``: before a vote, when no other picture is to be opened from here. */
  const picture = (sha256, { blind = false } = {}) => fold('Measured', 'checks_picture', { sha256 }, a => [a.numbers.length ? table(blind ? a.numbers.map(n => ({ ...n, other: null })) : a.numbers, 'What is measured of this picture') : null, sources(a.numbers)], 'picture-checks');

  /* Where G5 is rated: at the end of a dialogue that shows pictures. */
  function dialogue(card) {
    const shown = window.studio.cards().flatMap(c => c.parts.filter(p => p.image)).length;
    if (!card?.end || !shown) return null;
    return fold('Pictures of this dialogue, measured', 'checks_dialogue', { leaf: card.id }, a => a.pictures.length
      ? [a.numbers.length ? table(a.numbers, 'Distances between the pictures of this dialogue') : a.pictures.length === 1 && h('p.soft', {}, 'One picture: there is no distance to measure.'), list(a.pictures), sources([...a.numbers, ...a.pictures.flatMap(p => p.numbers)])]
      : [h('p.soft', {}, 'This dialogue shows no picture.')], 'dialogue-checks');
  }

  return { picture, dialogue };
})();
