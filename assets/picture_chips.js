/* The pictures of the message that is being written, by their hash: dropped, pasted, or put there from the picture window.
   They stay over a reload and go when the question was asked. */
'use strict';
window.studioPictures = (() => {
  const studio = window.studio;
  const { h, call, on, toast } = studio;
  const KEY = 'studio-pictures', MOST = 16, KINDS = /^image\/(png|jpeg|webp|gif)$/;
  let kept = JSON.parse(sessionStorage.getItem(KEY) || '[]');

  function save() {
    sessionStorage.setItem(KEY, JSON.stringify(kept));
    render();
  }

  function render() {
    const place = document.getElementById('picture-chips');
    place?.replaceChildren(...kept.map((p, i) => h('span.picture-chip', {},
      h('button.picture-chip-open', { type: 'button', title: `Edit ${p.caption || 'the picture'}`, ariaLabel: `Edit picture ${i + 1} of the message: ${p.caption || 'no caption'}`,
        onclick: () => window.studioPicture.open(p.sha256, { caption: p.caption, chip: i }) }, h('img', { src: `/thumb/${p.sha256}`, alt: '' })),
      h('button.tool', { type: 'button', title: 'Take out of the message', ariaLabel: `Take picture ${i + 1} out of the message`, onclick: () => { kept.splice(i, 1); save(); } }, '×'))));
  }

  /* Put a picture into the message, in the place of another one where ``chip`` says so. */
  function attach(sha256, caption = '', chip = null) {
    if (!room(chip)) return;
    if (chip !== null && kept[chip]) kept[chip] = { sha256, caption }; else kept.push({ sha256, caption });
    save();
  }

  function room(chip = null) {
    const free = kept.length < MOST || Boolean(kept[chip]);
    if (!free) toast(`A message takes ${MOST} pictures. Take one out first.`, { bad: true });
    return free;
  }

  const base64 = file => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });

  async function add(files) {
    for (const file of files) {
      if (file.size > 20 * 2 ** 20) { toast(`${file.name} has ${Math.round(file.size / 2 ** 20)} MB; at most 20 MB are taken. Make it smaller.`, { bad: true }); continue; }
      const picture = await call('picture_add', { name: file.name, data: await base64(file) }).catch(() => null);  // told already; the others still come
      if (picture) attach(picture.sha256, file.name.replace(/\.[^.]*$/, '').replace(/[_\-\s]+/g, ' ').trim());
    }
  }

  const pictures = transfer => [...transfer?.files || []].filter(f => KINDS.test(f.type));
  const carries = transfer => [...transfer?.items || []].some(i => i.kind === 'file' && KINDS.test(i.type));

  /* In front of Gradio, which would take them as nameless files that cannot be edited. */
  function listen(pane) {
    const over = event => { if (carries(event.dataTransfer)) { event.preventDefault(); event.stopPropagation(); } };
    for (const name of ['dragenter', 'dragover', 'dragleave']) pane.addEventListener(name, over, true);
    for (const [name, of] of [['drop', 'dataTransfer'], ['paste', 'clipboardData']]) {
      pane.addEventListener(name, event => {
        const files = pictures(event[of]);
        if (!files.length) return;
        event.preventDefault();
        event.stopPropagation();
        add(files);
      }, true);
    }
  }

  on('start', () => {
    render();
    listen(document.getElementById('pane-centre'));
  });
  on('asked', () => { kept = []; save(); });

  return { attach, add, room, attached: () => JSON.stringify(kept), list: () => kept.slice() };
})();
