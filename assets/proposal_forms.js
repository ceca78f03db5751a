/* Forms for a picture that a reply asks for: another tool, caption or source; a picture by hand; a caption; and what goes by itself.
   What is typed is a draft of this browser until the server took it. Decides nothing. */
'use strict';
window.studioProposalForms = (() => {
  const studio = window.studio, { drafts } = window.studioFeedback;
  const { h, call, toast } = studio;
  const TOOLS = [['generate', 'Generate'], ['edit', 'Edit'], ['retrieve', 'Find'], ['attach', 'By hand']];
  const button = (text, onclick, extra = {}) => h('button', { type: 'button', onclick, ...extra }, text);
  const key = (card, place) => drafts.key(card.id, 'proposal', String(place));

  const base64 = file => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });

  /* A file from this computer as a picture of the store; null, and a message, where it is none. */
  async function kept(file) {
    if (file.size > 20 * 2 ** 20) { toast(`${file.name} has ${Math.round(file.size / 2 ** 20)} MB; at most 20 MB are taken. Make it smaller.`, { bad: true }); return null; }
    return call('picture_add', { name: file.name, data: await base64(file) }).then(p => p.sha256, () => null);  // told already
  }

  const files = (label, chosen) => h('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp,image/gif', ariaLabel: label,
    onchange: async event => { const [file] = event.target.files; const sha256 = file && await kept(file); if (sha256) chosen(sha256); } });

  /* A row of small pictures, one of them chosen: {value, thumb, label}. */
  function choice(label, pictures, value, chosen) {
    const row = h('div.proposal-pictures', { role: 'group', ariaLabel: label });
    const draw = now => row.replaceChildren(...pictures.map(p => h('button', { type: 'button', title: p.label, ariaLabel: p.label, ariaPressed: String(p.value === now),
      onclick: () => { draw(p.value); chosen(p.value); [...row.children][pictures.indexOf(p)].focus(); } }, h('img', { src: p.thumb, alt: '' }))));
    draw(value);
    return row;
  }

  /* What a token can be given. done() when it was sent, leave() when not. */
  function change(card, token, draft, { done, leave, asked }) {
    const own = token.proposal || {}, hold = () => drafts.put(key(card, token.place), draft);
    draft = { caption: own.caption || token.caption, tool: own.tool || 'generate', source: own.params?.source || null, hit: own.params?.hit ?? null, model: own.params?.model || null, ...draft };
    const caption = h('input', { type: 'text', value: draft.caption, maxLength: 600, ariaLabel: 'Caption of the picture', oninput: () => { draft.caption = caption.value; hold(); }, onchange: () => fill() });
    const tool = h('select', { ariaLabel: 'Tool', onchange: () => { draft.tool = tool.value; hold(); fill(); } }, ...TOOLS.map(([value, label]) => h('option', { value }, label)));
    const more = h('div.proposal-more'), send = button('Make it', () => act(), { className: 'primary', title: 'Ctrl+Enter' });
    const box = h('div.proposal-form', { role: 'group', ariaLabel: 'Change what is proposed' }, h('div.proposal-row', {}, caption, tool), more, h('div.proposal-row', {}, send, button('Cancel', leave)));
    tool.value = draft.tool;
    let turn = 0;

    async function fill() {
      const mine = ++turn, told = await call('proposal_options', { node: card.id, place: token.place, caption: draft.caption, source: draft.tool === 'edit' ? draft.source : null }).catch(() => null);
      if (!told || mine !== turn) return;
      draft.source ||= told.source;
      send.textContent = draft.tool === 'attach' ? 'Put it here' : 'Make it';
      more.replaceChildren(...show(told).filter(Boolean));
    }

    function show(told) {
      const source = value => { draft.source = value; hold(); if (draft.tool === 'edit') fill(); };
      const lacks = told.tools[draft.tool] && h('p.proposal-lacks', {}, told.tools[draft.tool]);
      const pictures = told.earlier.map(e => ({ value: e.sha256, thumb: e.thumb, label: e.caption || 'An earlier picture' }));
      if (draft.tool === 'edit') return [pictures.length && choice('The picture to edit', pictures, draft.source, source), told.how && h('p.soft', {}, `It will be: ${told.how}`), lacks,
        draft.source && button('Edit it by hand', () => window.studioPicture.open(draft.source), { title: 'In the picture window; the result comes into your message, and “By hand” takes it from there' })];
      if (draft.tool === 'retrieve') return [told.hits.length ? choice('Pictures of your folders', told.hits.map(f => ({ value: f.id, thumb: f.thumb, label: f.caption || f.name })), draft.hit, value => { draft.hit = value; hold(); })
        : !lacks && h('p.soft', {}, 'Your folders have nothing for these words.'), lacks];
      if (draft.tool === 'generate') return [lacks, told.models.length > 1 && models(told.models)];
      const mine = window.studioPictures.list().map(p => ({ value: p.sha256, thumb: `/thumb/${p.sha256}`, label: `In your message: ${p.caption || 'no caption'}` }));
      const all = [...mine, ...pictures.filter(p => !mine.some(m => m.value === p.value))];
      if (draft.source && !all.some(p => p.value === draft.source)) all.unshift({ value: draft.source, thumb: `/thumb/${draft.source}`, label: 'The file that you chose' });
      return [h('p.soft', {}, 'A file, a picture of the message that you are writing, or one from above.'), all.length && choice('The picture to put here', all, draft.source, source), files('A picture from this computer', sha256 => { source(sha256); fill(); })];
    }

    function models(names) {
      const list = h('select', { ariaLabel: 'Model that draws', onchange: () => { draft.model = list.value; hold(); } }, ...names.map(n => h('option', { value: n }, n)));
      list.value = names.includes(draft.model) ? draft.model : names[0];
      draft.model = list.value;
      return list;
    }

    async function act() {
      if (!draft.caption.trim()) { toast('The picture needs a caption: it is what a model that reads text only is told.', { bad: true }); return caption.focus(); }
      if (draft.tool === 'attach' && !draft.source) return toast('Choose a picture first.', { bad: true });
      send.disabled = true;
      try { await asked(draft); } catch (error) { send.disabled = false; return; }  // told already; what was typed stays
      drafts.drop(key(card, token.place));
      done();
    }

    box.addEventListener('keydown', event => {
      event.stopPropagation();  // letters are letters here
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey || event.target === caption)) { event.preventDefault(); act(); }
      if (event.key === 'Escape') leave();
    });
    fill();
    return box;
  }

  /* A caption for a picture that no token asked for; the captions of tokens without a picture are offered. */
  function caption(part, captions, { send, leave }) {
    const list = h('datalist', { id: `captions-${Math.random().toString(36).slice(2)}` }, ...captions.map(c => h('option', { value: c })));
    const input = h('input', { type: 'text', value: part.caption, maxLength: 600, placeholder: 'What does it show?', ariaLabel: 'Caption of this picture' });
    input.setAttribute('list', list.id);
    const box = h('div.proposal-form', { role: 'group', ariaLabel: 'Caption' }, h('div.proposal-row', {}, input, list, button('Save', () => send(input.value), { className: 'primary' }), button('Cancel', leave)));
    box.addEventListener('keydown', event => {
      event.stopPropagation();
      if (event.key === 'Enter' && event.target === input) { event.preventDefault(); send(input.value); }
      if (event.key === 'Escape') leave();
    });
    return box;
  }

  /* ---- what goes by itself */
  async function settings() {
    const told = await call('proposal_settings'), back = document.activeElement;
    const alone = h('input', { type: 'checkbox', checked: told.by_itself }), model = h('select', {}, h('option', { value: '' }, 'Rules alone'), ...told.models.map(n => h('option', { value: n }, n)));
    model.value = told.model;
    const names = Object.fromEntries(TOOLS), lacks = Object.entries(told.lacks).filter(([, why]) => why);
    const save = async () => { await call('proposal_choose', { by_itself: alone.checked, model: model.value }); dialog.close(); toast('Saved.'); };
    const dialog = h('dialog', { id: 'proposal-settings', ariaLabel: 'Pictures in replies', onclose: () => { dialog.remove(); back?.focus(); }, onkeydown: event => event.stopPropagation() },
      h('h2', {}, 'Pictures in replies'),
      h('p', {}, 'Where a reply asks for a picture with <Image, caption>, a tool is proposed: one generates it, edits an earlier one, or finds it in your folders. You accept, change or refuse.'),
      h('label.proposal-check', {}, alone, h('span', {}, 'Make them without asking, as replies come. Only your folders are searched then, never the web.')),
      h('label', {}, h('span', {}, 'Who chooses the tool, and checks what was made without asking'), model),
      ...lacks.map(([tool, why]) => h('p.soft', {}, `${names[tool]}: ${why}`)),
      h('div.proposal-row', {}, button('Save', save, { className: 'primary' }), button('Cancel', () => dialog.close())));
    document.body.append(dialog);
    dialog.showModal();
  }

  return { change, caption, settings, files, key };
})();
