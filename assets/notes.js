/* Notes on a passage or a picture of a reply: select and press M, or drag on a picture; written in a form that keeps its draft,
   listed under the text, drawn where they belong. A note is feedback with a place; places.js knows where that is on the page. */
'use strict';
(() => {
  const studio = window.studio, places = window.studioPlaces;
  const { drafts, keep, took, onKey } = window.studioFeedback;
  const { h, tool, call, inLine, on, toast } = studio;
  const rubric = window.studioRubric;
  const draftKey = card => drafts.key(card.id, 'note');
  const article = card => studio.parts.transcript.querySelector(`.card[data-id="${card.id}"]`);
  const bodyOf = card => article(card).querySelector('.body');

  /* ---- where */
  function where(span) {
    if (!span) return 'Some words of this reply';
    if (!span.image) return `“${span.quote}”`;
    return span.x === undefined ? 'The whole picture' : `Region of the picture: ${span.w} × ${span.h} pixels at ${span.x}, ${span.y}`;
  }

  function selected() {
    const selection = getSelection(), range = selection.rangeCount && !selection.isCollapsed ? selection.getRangeAt(0) : null;
    const element = range?.startContainer.parentElement?.closest('.transcript .card .body');
    return element && element.contains(range.endContainer) ? { card: studio.card(element.closest('.card').dataset.id), range } : null;
  }

  function judgeable(card) {
    const why = !card ? 'Choose a reply first.' : card.role !== 'assistant' ? 'This works on a reply, and that message is a question. Choose a reply.'
      : card.status === 'streaming' ? 'This reply is still growing. Wait for it, or stop it first.' : '';
    if (why) toast(why, { bad: true });
    return !why;
  }

  /* M, or the button at a selection; without a selection the form asks which words. */
  function about(card) {
    const found = selected(), target = found?.card || card;
    if (!judgeable(target)) return;
    const span = found && places.passage(target, bodyOf(target), found.range);
    if (found && !span) return toast('These words are not in one piece of text of this reply. Select within one.', { bad: true });
    getSelection().removeAllRanges();
    begin(target, span);
  }

  const same = (a, b) => JSON.stringify(Object.entries(a || {}).sort()) === JSON.stringify(Object.entries(b || {}).sort());

  /* Open the form for a place; a note that is there already is changed, not doubled. */
  function begin(card, span, note = card.notes.find(n => span && same(n.span, span))) {
    const open = article(card).querySelector('.note-form');
    if (open && drafts.get(draftKey(card))?.text.trim()) {
      toast('A note on this reply is still being written. Save it, or leave it with Cancel.', { bad: true });
      return open.querySelector('textarea').focus();
    }
    open?.remove();
    const { kind = 'rationale', dimension = null, text = '' } = note || {};
    drafts.put(draftKey(card), { span, kind, dimension, text, known: Boolean(note) });
    decorate(card);
    article(card).querySelector('.note-form :is(input, textarea)').focus();
  }

  /* ---- the form: what it holds is a draft in this browser until the server said saved */
  function form(card, draft) {
    const area = h('textarea', { rows: 2, ariaLabel: 'Note', placeholder: 'What about it?', value: draft.text });
    const words = draft.span ? null : h('input', { type: 'text', ariaLabel: 'Which words', placeholder: 'Which words? Type them as they stand in the reply', value: draft.words || '' });
    const choose = (label, options, value) => { const list = h('select', { ariaLabel: label, disabled: draft.known }, ...options.map(([v, t]) => h('option', { value: v }, t))); list.value = value; return list; };
    const kind = choose('Kind of note', rubric.feedback.map(k => [k.kind, k.name]), draft.kind);
    const code = choose('Dimension of the note', [['', 'No dimension'], ...rubric.dimensions.map(d => [d.code, `${d.code} ${d.name}`])], draft.dimension || '');
    const close = () => { drafts.drop(draftKey(card)); box.remove(); decorate(card); article(card).focus({ preventScroll: true }); };
    const save = async () => {
      const span = draft.span || places.find(card, bodyOf(card), words.value.trim());
      if (!span) return toast(`The words “${words.value.trim().slice(0, 40)}” are not in this reply. Type them as they stand there.`, { bad: true });
      if (!area.value.trim()) return toast('Write the note first, or leave it with Cancel.', { bad: true });
      const level = rubric.dimensions.find(d => d.code === code.value)?.level || 'local';
      await send(card, { level, kind: kind.value, dimension: code.value || null, span }, area.value).then(close, () => {});  // told already
    };
    const box = h('div.note-form', { role: 'group', ariaLabel: 'Note on a place in this reply' }, h('div.note-where', {}, draft.span ? where(draft.span) : words),
      h('div.note-row', {}, kind, code), area,
      h('div.note-row', {}, h('button.primary', { type: 'button', onclick: save, title: 'Ctrl+Enter' }, 'Save note'), h('button', { type: 'button', onclick: close }, 'Cancel')));
    box.addEventListener('input', () => drafts.put(draftKey(card), { ...draft, kind: kind.value, dimension: code.value || null, text: area.value, words: words?.value }));
    box.addEventListener('keydown', event => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save();
      if (event.key === 'Escape' && !area.value.trim()) { event.stopPropagation(); close(); }
    });
    return box;
  }

  async function send(card, note, text) {
    const answer = await inLine(() => call('say', { node: card.id, ...note, text: text.trim() }));
    keep(answer.takes_back);
    took(card, answer);
  }

  async function remove(card, { level, kind, dimension, span }) {
    await send(card, { level, kind, dimension, span }, '');
    toast('Took the note away.', { action: studio.undo, label: 'Undo' });
    decorate(card);
  }

  /* ---- on the card */
  const name = note => rubric.feedback.find(k => k.kind === note.kind).name + (note.dimension ? ` · ${note.dimension}` : '');

  function order(card, { span }) {
    if (!span) return [card.parts.length];
    return span.image ? [card.parts.findIndex(p => p.image === span.image), span.y ?? -1, span.x ?? -1] : [span.part, span.start, span.end];
  }

  function line(card, note, n) {
    const when = new Date(note.created_at).toLocaleString();
    return h('li', { 'data-note': note.id, tabIndex: -1 }, h('span.note-number', {}, String(n)), h('div', {},
      h('div.note-where', {}, h('b', {}, name(note)), ' ', note.span ? where(note.span) : 'a place that is not in this reply'), h('div.note-text', {}, note.text),
      h('span.soft', {}, `${note.annotator}, round ${note.round}, ${when}`),
      note.span && h('span.note-tools', {}, tool('Change', `Change note ${n}`, () => begin(card, note.span, note)),
        tool('Take away', `Take note ${n} away`, () => remove(card, note)))));
  }

  function pictureTools(card, part, figure) {
    if (!part.image || figure.querySelector('.picture-tools')) return;
    const link = figure.querySelector('a'), box = pointer => places.drawing(figure, part, span => begin(card, span), pointer);
    link.after(h('div.picture-tools', {},
      tool('Note', 'Note on this picture', () => begin(card, { image: part.image })),
      tool('Region', 'Mark a region: drag on the picture, or use the arrow keys', () => box())));
    link.addEventListener('dragstart', event => { event.preventDefault(); box(event); });
  }

  function show(card, id) {
    const item = [...article(card).querySelectorAll('.notes li')].find(li => li.dataset.note === id);
    item?.scrollIntoView({ block: 'nearest' });
    item?.focus({ preventScroll: true });
  }

  /* Draw what is noted on a card: again and again, whatever was there before. A form that is open stays. */
  function decorate(card) {
    const body = bodyOf(card), draft = drafts.get(draftKey(card)), at = body.parentElement;
    card.notes.sort((a, b) => { const x = order(card, a), y = order(card, b); return x[0] - y[0] || x[1] - y[1] || x[2] - y[2]; });
    const drawn = card.notes.map((note, i) => ({ ...note, n: i + 1, title: `${name(note)}: ${note.text}` })).filter(n => n.span);
    if (draft?.span) drawn.push({ id: 'draft', n: '…', title: 'Being written', span: draft.span, pending: true });
    places.draw(card, body, drawn, id => show(card, id));
    card.parts.forEach((part, i) => pictureTools(card, part, body.children[i]));
    at.querySelector('.notes')?.remove();
    if (card.notes.length) body.after(h('ol.notes', { ariaLabel: 'Notes on places in this reply' }, ...card.notes.map((note, i) => line(card, note, i + 1))));
    if (draft && !at.querySelector('.note-form')) (at.querySelector('.notes') || body).after(form(card, draft));
  }

  /* ---- the button at a selection */
  let offer = null;
  function place() {
    const found = selected(), shows = found?.card?.role === 'assistant' && found.card.status !== 'streaming';
    if (!offer) offer = document.body.appendChild(h('button', { id: 'about-passage', type: 'button', title: 'Write a note on the selected words (M)', hidden: true,
      onpointerdown: event => event.preventDefault(), onclick: () => about(found?.card) }, 'About this passage ', h('kbd', {}, 'M')));
    const pane = studio.parts.transcript.querySelector('.transcript').getBoundingClientRect(), { left, top, bottom } = shows ? found.range.getBoundingClientRect() : pane;
    offer.hidden = !shows || bottom < pane.top || top > pane.bottom;  // scrolled away: M still works
    if (offer.hidden) return;
    offer.style.left = `${Math.max(8, Math.min(left, innerWidth - offer.offsetWidth - 8))}px`;
    offer.style.top = `${Math.max(8, Math.min(bottom + 6, pane.bottom - 40))}px`;
  }

  on('start', () => {
    document.addEventListener('selectionchange', place);
    document.addEventListener('scroll', () => offer && !offer.hidden && place(), true);
    onKey('m', about);
  });
  on('drawn', card => { if (article(card)) decorate(card); });
})();
