/* Pictures that a message asks for: a chip at each token with what is proposed, what to do about it, and how far it is; what tokens
   and pictures do not fit. The server knows the state; this draws it and sends what the person does. */
'use strict';
(() => {
  const studio = window.studio, forms = window.studioProposalForms;
  const { drafts, onKey } = window.studioFeedback;
  const { h, call, on, state } = studio;
  const DOES = { generate: 'Generate it', edit: 'Edit an earlier picture', retrieve: 'Find it', attach: 'By hand' };
  const DOING = { generate: 'Generating', edit: 'Editing', retrieve: 'Finding' };
  const POLL_MS = 600;
  let timer = null, wanted = null;   // where the keyboard belongs, whoever draws the card anew

  const article = card => studio.parts.transcript.querySelector(`.card[data-id="${card.id}"]`);
  const tool = (text, title, onclick, extra = {}) => h('button.tool', { type: 'button', title, onclick, ...extra }, text);
  const chipOf = (card, place) => article(card)?.querySelector(`.proposal[data-place="${place}"]`);

  /* Send something, draw what came of it, and leave the keyboard where it was: at the token, or at the picture in its place. */
  async function act(card, place, name, data, form = null) {
    const chip = chipOf(card, place);
    if (chip?.ariaBusy === 'true') return;  // pressed twice
    wanted = { id: card.id, place };
    if (chip) chip.ariaBusy = 'true';
    try { await call(name, data); } catch (error) { wanted = null; throw error; } finally { if (chip) chip.ariaBusy = null; }
    form?.remove();  // one that is in use is not drawn anew
    await studio.refresh();
    studio.emit('changed');
    watch();
    focus(card, place);
    wanted = null;
  }

  /* What came meanwhile, with the keyboard at the token where it is, or at the picture that took its place. */
  async function anew() {
    const chip = document.activeElement.closest('.proposal'), here = chip && { id: chip.closest('.card').dataset.id, place: chip.dataset.place };
    if (here) wanted = here;
    await studio.refresh();
    if (here && wanted === here) { focus(here, here.place); wanted = null; }
  }

  function focus(card, place) {
    if (document.activeElement !== document.body) return;  // somebody went on meanwhile
    const at = chipOf(card, place) || article(card)?.querySelector(`[data-stood="${place}"]`);
    (at?.querySelector('button') || article(card))?.focus({ preventScroll: true });
    at?.scrollIntoView({ block: 'nearest' });
  }

  /* ---- one token */
  function chip(card, token) {
    const p = token.proposal, id = p && { proposal: p.id }, at = { node: card.id, place: token.place };
    const does = (name, data) => () => act(card, token.place, name, data).catch(() => {});  // told already
    const change = tool(p ? 'Change' : 'Choose', 'Another tool, caption or source, or a picture by hand (C)', () => open(card, token), { 'data-does': 'c' });
    const again = tool(p ? 'Propose again' : 'Propose', 'Let a tool be proposed for this picture', does('proposal_make', at));
    const refuse = p && tool('Refuse', 'No picture here (X)', does('proposal_refuse', id), { 'data-does': 'x' });
    const accept = label => tool(label, 'Enter, or A', does('proposal_accept', id), { 'data-does': 'a', className: p.note && !p.image_sha256 ? 'tool' : 'tool proposal-yes' });
    const remove = card.role === 'assistant' && tool('Remove', 'A new version of this reply without this token', () => without(card, at));
    const says = {
      proposed: () => [p.image_sha256 && h('img.proposal-made', { src: `/thumb/${p.image_sha256}`, alt: 'What was made' }), h('b', {}, DOES[p.tool]), h('span.soft', {}, p.image_sha256 ? p.note || 'Made already' : p.why),
        p.note && !p.image_sha256 && h('span.proposal-lacks', {}, p.note), accept(p.image_sha256 ? 'Put it here' : 'Accept'), change, refuse],
      running: () => [h('b', { role: 'status' }, `${DOING[p.tool] || 'Working'}…`), h('span.soft.proposal-doing', {}), tool('Cancel', 'Stop; the proposal stays', does('proposal_back', id))],
      done: () => [h('span.soft', {}, 'Made. It comes here when the reply is whole.')],
      refused: () => [h('span.soft', {}, 'Refused'), again, change, remove],
      failed: () => [h('span.problem', { role: 'alert' }, p.note), accept('Run again'), change, refuse],
    };
    const inner = p ? says[p.state]() : [h('span.soft', {}, 'No picture'), again, change, remove];
    const box = h(`span.proposal.${p ? p.state : 'open'}`, { role: 'group', ariaLabel: `Picture: ${token.caption}`, 'data-place': String(token.place), onkeydown: keys }, ...inner.filter(Boolean));
    if (drafts.get(forms.key(card, token.place))) queueMicrotask(() => open(card, token, false));
    return box;
  }

  /* A, C and X do what the buttons do; everything else has its usual meaning. */
  function keys(event) {
    const wanted = !event.ctrlKey && !event.metaKey && !event.altKey && event.currentTarget.querySelector(`:scope > [data-does="${event.key.toLowerCase()}"]`);
    if (!wanted) return;
    event.preventDefault();
    event.stopPropagation();
    wanted.click();
  }

  function open(card, token, take = true) {
    const box = chipOf(card, token.place);
    if (!box || box.querySelector('.proposal-form')) return;
    const p = token.proposal, key = forms.key(card, token.place);
    const leave = () => { drafts.drop(key); form.remove(); box.querySelector('[data-does=c]')?.focus(); anew().catch(() => {}); };
    const form = forms.change(card, token, drafts.get(key) || {}, { leave, done: () => {}, asked: async draft => {
      const { caption, tool: name, source, hit, model } = draft, at = { node: card.id, place: token.place };
      if (name === 'attach') return act(card, token.place, 'proposal_attach', { ...at, sha256: source, caption }, form);
      const proposal = p ? p.id : (await call('proposal_make', at)).id;
      return act(card, token.place, 'proposal_accept', { proposal, changes: { caption, tool: name, source: name === 'edit' ? source : null, hit: name === 'retrieve' ? hit : null, model: name === 'retrieve' ? null : model } }, form);
    } });
    if (take) drafts.put(key, drafts.get(key) || {});  // it is open again when the card was drawn anew
    box.append(form);
    if (take) form.querySelector('input').focus();
  }

  async function without(card, what) {
    const { reply } = await call('proposal_without', { ...what });
    await studio.open({ node: reply });
    studio.emit('changed');
  }

  /* ---- one picture: in the place of a token, without any, or without its file */
  function figure(card, part, i, element) {
    element.querySelectorAll('.proposal-figure, .token-back').forEach(e => e.remove());
    const stood = card.placed[i], loose = card.loose.includes(i), at = { node: card.id, part: i };
    const row = h('div.proposal-figure');
    const send = data => act(card, null, 'proposal_picture', { ...at, sha256: part.image || null, caption: part.caption, ...data }, row.querySelector('.proposal-form')).catch(() => {});
    if (stood) { element.dataset.stood = stood.place; if (stood.proposal) (element.querySelector('.picture-tools') || row).append(tool('Token back', 'Take the picture out; its token stands here again', () => act(card, stood.place, 'proposal_back', { proposal: stood.proposal }).catch(() => {}), { className: 'tool token-back' })); }
    if (part.missing) row.append(h('label', {}, 'Its file: ', forms.files('The file of this picture', sha256 => send({ sha256 }))));
    if (loose) {
      const captions = card.asks.filter(t => t.pair === null).map(t => t.caption);
      row.append(h('span.soft', {}, 'No token asks for it'), tool('Caption', 'Say what it shows; the caption of a token makes it the picture of that token', () => {
        if (!row.querySelector('.proposal-form')) row.append(forms.caption(part, captions, { send: caption => send({ caption }), leave: () => row.querySelector('.proposal-form').remove() }));
        row.querySelector('.proposal-form input').focus();
      }), tool('Remove', 'A new version of this reply without this picture', () => without(card, at)));
    }
    if (row.children.length) element.append(row);
  }

  /* Draw it all on a card: again and again, whatever was there before. */
  function decorate(card) {
    const at = article(card), body = at?.querySelector('.body');
    if (!body || card.status === 'streaming') return;
    at.querySelectorAll('.proposal, .proposals-rest').forEach(e => e.remove());
    card.parts.forEach((part, i) => { if (part.kind === 'image') figure(card, part, i, body.children[i]); });
    const marks = card.parts.map((_, i) => [...body.children[i].querySelectorAll('.image-token')]), rest = [];
    for (const token of card.asks) {
      const row = marks[token.part], mark = row.splice(row.findIndex(m => m.textContent.trim() === token.caption) >>> 0, 1)[0];
      const drawn = token.pair !== null ? h('span.proposal.paired', { 'data-place': String(token.place) }, h('span.soft', {}, `picture ${token.pair + 1 - card.parts.slice(0, token.pair).filter(p => p.kind === 'text').length} of this message`)) : chip(card, token);
      if (mark) mark.after(drawn); else rest.push(h('div', {}, h('span.image-token', {}, token.caption), drawn));
    }
    if (wanted?.id === card.id) focus(card, wanted.place);
    if (card.unfit || rest.length) body.after(h('div.proposals-rest', { role: 'note' }, card.unfit && h('p.soft', {}, card.unfit), ...rest));
  }

  /* While a reply grows its text is drawn anew at every word: what is proposed is only said. */
  function growing(reply) {
    const marks = [...studio.parts.transcript.querySelectorAll(`.card[data-id="${reply.id}"] .body .image-token`)];
    for (const { caption, tool: name, state: now } of reply.asked || []) {
      const mark = marks.splice(marks.findIndex(m => m.textContent.trim() === caption) >>> 0, 1)[0];
      mark?.after(h('span.proposal.soft', {}, now === 'running' ? `${DOING[name]}…` : now === 'done' ? 'made' : `${DOES[name]}?`));
    }
  }

  /* ---- what is at work */
  const running = () => studio.cards().flatMap(c => c.asks.map(t => t.proposal)).filter(p => p?.state === 'running');

  function watch() {
    clearTimeout(timer);
    if (running().length) timer = setTimeout(() => look().catch(() => {}), POLL_MS);
  }

  async function look() {
    const ids = running().map(p => p.id), { proposals } = await call('proposal_poll', { proposals: ids });
    if (proposals.some(p => p.state !== 'running')) await anew();
    for (const p of proposals) {
      const token = studio.cards().flatMap(c => c.asks.map(t => [c, t])).find(([, t]) => t.proposal?.id === p.id);
      const doing = token && chipOf(...[token[0], token[1].place])?.querySelector('.proposal-doing');
      if (doing) doing.textContent = p.doing;
    }
    watch();
  }

  /* T goes to the next token that waits for somebody, from the message in focus on. */
  function next() {
    const chips = [...studio.parts.transcript.querySelectorAll('.proposal:is(.proposed, .failed, .open)')], here = document.activeElement.closest?.('.proposal');
    const from = here ? chips.indexOf(here) + 1 : Math.max(0, chips.findIndex(c => article({ id: state.focus })?.contains(c)));
    const to = chips[from] || chips[0];
    if (!to) return studio.toast('No reply on this path waits for a picture.');
    to.querySelector('button').focus({ preventScroll: true });
    to.scrollIntoView({ block: 'nearest' });
  }

  on('drawn', card => { if (article(card)) decorate(card); });
  on('view', () => { studio.cards().filter(c => c.role === 'user' && c.parts.some(p => p.missing)).forEach(decorate); watch(); });
  on('grow', growing);
  on('start', () => {
    onKey('t', next);
    document.getElementById('retrieve-open')?.append(tool('Pictures in replies', 'What becomes of the pictures that replies ask for', forms.settings, { id: 'proposal-open' }));
  });
})();
