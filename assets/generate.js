/* "Generate": a model draws a picture, or changes one. What is typed stays over a reload; runs and pictures are the server's, which
   goes on when the window is closed. Without a model it says so and leads to Settings. */
'use strict';
window.studioGenerate = (() => {
  const studio = window.studio;
  const { h, call, on, toast } = studio;
  const KEY = 'studio-generate', KEPT = 3e6;  // characters that are kept over a reload
  const WATCH_MS = 300, APART_MS = 1500, FRESH_MS = 5000;
  const TASKS = { generate: 'Draw from words', edit: 'Redraw a whole picture', inpaint: 'Redraw what the mask covers', instruct: 'Follow an instruction' };
  const NUMBERS = ['width', 'height', 'steps', 'guidance', 'seed', 'variants', 'strength'];
  const kept = { task: 'generate', prompt: '', negative: '', source: '', mask: '', wishes: {}, ...JSON.parse(sessionStorage.getItem(KEY) || '{}') };
  let now = null, known = null, asked = 0, clock = null;

  const runs = window.studioGenerateRuns({ cancel, take, source: p => source(p.sha256), again, edit });
  const button = (text, onclick, extra = {}) => h('button', { type: 'button', onclick, ...extra }, text);

  function save() {
    const json = JSON.stringify(kept);
    if (json.length < KEPT) sessionStorage.setItem(KEY, json);
  }

  /* ---- the window. With a ``source`` a model changes that; ``replaces``: the picture of the message that the result stands for */
  async function open({ source: of = null, mask = '', replaces = null, back = document.activeElement } = {}) {
    if (now) return;
    if (of) Object.assign(kept, { source: of, mask });
    now = { back, replaces };
    build();
    document.body.append(now.dialog);
    now.dialog.showModal();
    const here = now, before = known && JSON.stringify(known.models);
    if (known) begun(of, mask);  // what is typed at once is not lost; models seldom change
    await learn(true).catch(error => { if (!error.told) throw error; here.bad.textContent = error.message; });
    if (here !== now || !known) return;
    if (before === JSON.stringify(known.models)) runs.show(known.runs); else begun(of, mask);
    watch();
  }

  function begun(of, mask) {
    if (of) suit(mask ? ['inpaint', 'edit', 'instruct'] : ['edit', 'instruct']);
    draw();
    (now.prompt?.isConnected ? now.prompt : now.dialog.querySelector('.primary'))?.focus();
  }

  function close() {
    if (!now) return;
    const { dialog, back } = now;
    now = null;
    dialog.remove();
    if (back?.isConnected) back.focus({ preventScroll: true });
    watch();
  }

  function build() {
    now.form = h('form.gen-form', { ariaLabel: 'What to draw', noValidate: true, onsubmit: event => { event.preventDefault(); begin(); } });
    now.bad = h('p.problem', { role: 'alert' });
    now.dialog = h('dialog', { id: 'generate', ariaLabel: 'Generate a picture', onkeydown: keys, oncancel: event => { event.preventDefault(); close(); } },
      h('div.gen-head', {}, h('h2', {}, 'Generate a picture'), h('span.soft', {}, 'Enter draws; a picture goes into the message with Enter or a click'), button('×', close, { ariaLabel: 'Close', title: 'Close (Esc); what is being drawn goes on' })),
      h('div.gen-main', {}, h('div.gen-side', {}, now.form, now.bad), runs.root), runs.said);
  }

  async function learn(anew = false) {
    if (anew || !known || performance.now() - asked > FRESH_MS) { known = await call('generate'); asked = performance.now(); }
    return known;
  }

  /* Whether some model here can do one of these; the picture window asks. */
  async function able(tasks) {
    const { models, none } = await learn();
    return { able: models.some(m => !m.problem && m.tasks.some(t => tasks.includes(t))), none };
  }

  /* ---- the form */
  const model = () => known.models.find(m => m.name === kept.model) || known.models.find(m => !m.problem) || known.models[0];
  const changes = () => kept.task !== 'generate';

  function draw() {
    if (!known.models.length) {
      now.form.replaceChildren(h('p.gen-none', {}, known.none || 'No model that draws is set up.'), button('Open Settings', settings, { className: 'primary' }));
      return runs.show(known.runs);
    }
    const m = model();
    if (m.tasks.length && !m.tasks.includes(kept.task)) kept.task = (kept.source && m.tasks.find(t => t !== 'generate')) || m.tasks[0];
    const held = document.activeElement?.id;
    const choice = select('model', 'Model', known.models.map(o => [o.name, o.problem ? `${o.name} (cannot be used)` : o.name]), m.name);
    const task = m.tasks.length > 1 ? select('task', 'What to do', m.tasks.map(t => [t, TASKS[t] || t]), kept.task) : null;
    now.prompt = words('prompt', kept.task === 'instruct' ? 'make the sky pink' : 'a red fox in the snow, watercolour', 3);
    now.estimate = h('p.soft.gen-estimate');
    now.go = h('button.primary', { type: 'submit', disabled: Boolean(m.problem) }, changes() ? 'Change the picture' : 'Generate');
    now.about = about(m);
    now.form.replaceChildren(...[choice, now.about, task, changes() && from(), labelled(kept.task === 'instruct' ? 'Instruction' : 'What it should show', now.prompt),
      m.negative && labelled('What it should not show', words('negative', '', 2)), kept.task === 'generate' && sizes(m), numbers(m), now.estimate, now.go].filter(Boolean));
    if (held) document.getElementById(held)?.focus();
    estimate();
    runs.show(known.runs);
  }

  const labelled = (text, field, extra = null) => h('label', {}, h('span', {}, text), field, extra);

  function select(key, label, options, value) {
    const field = h('select', { id: `gen-${key}`, onchange: () => { kept[key] = field.value; save(); draw(); } }, ...options.map(([v, text]) => h('option', { value: v }, text)));
    field.value = value;
    return labelled(label, field);
  }

  const words = (key, placeholder, rows) => h('textarea', { id: `gen-${key}`, rows, maxLength: 4000, placeholder, value: kept[key], oninput: event => { kept[key] = event.target.value; save(); } });

  /* What the model is, and whether it is in memory; then what it needs. */
  function about(m) {
    const { loaded = {} } = m, memory = loaded.memory_mb ? `, ${loaded.memory_mb >= 1000 ? `${(loaded.memory_mb / 1024).toFixed(1)} GB` : `${Math.round(loaded.memory_mb)} MB`}` : '';
    const place = m.backend === 'openai' ? 'on a server' : loaded.loaded ? `in memory${memory}${loaded.device ? ` on ${loaded.device}` : ''}` : 'not in memory yet: the first run loads it';
    const can = m.tasks.map(t => (TASKS[t] || t).toLowerCase()).join(', ');
    return h('div.gen-about', {}, h('p.soft', {}, `${can ? `Can ${can}. ` : ""}${place[0].toUpperCase()}${place.slice(1)}.`), m.needs && h('p.soft', {}, m.needs), m.problem && h('p.problem', {}, m.problem));
  }

  function number(key, label, { value = '', ...limits }) {
    const field = h('input', { id: `gen-${key}`, type: 'number', value: kept[key] ?? '', placeholder: value ?? '', ...limits,
      oninput: () => { kept[key] = field.value === '' ? null : Number(field.value); save(); estimate(); } });
    return labelled(label, field);
  }

  /* A server knows only what studio.toml gives it to begin with. */
  const takes = (m, key) => m.backend !== 'openai' || typeof m.defaults[key] === 'number';

  function numbers(m) {
    const own = { steps: '', guidance: '', strength: '', ...m.defaults }, given = kept.task === 'edit' || kept.task === 'inpaint';
    const seed = number('seed', 'Seed', { value: 'any', min: 0, max: 2 ** 53 - 1, step: 1 });
    return h('div.gen-numbers', {}, takes(m, 'steps') && number('steps', 'Steps', { value: own.steps, min: 1, max: 500, step: 1 }), m.guidance && number('guidance', 'Guidance', { value: own.guidance, min: 0, max: 50, step: 'any' }),
      given && takes(m, 'strength') && number('strength', 'Strength, 0 to 1', { value: own.strength, min: 0.01, max: 1, step: 'any' }), number('variants', 'Variants', { value: 1, min: 1, max: 16, step: 1 }), seed);
  }

  /* Shapes of about as many pixels as the model likes best; then any size. */
  function sizes(m) {
    const { width = null, height = null } = m.defaults, side = Math.sqrt((width || 1024) * (height || 1024)), unit = side >= 256 ? 64 : 8;
    const near = ratio => [side * Math.sqrt(ratio), side / Math.sqrt(ratio)].map(v => Math.max(unit, Math.round(v / unit) * unit));
    const shapes = [['Square', 1], ['Landscape 3:2', 3 / 2], ['Portrait 2:3', 2 / 3], ['Wide 16:9', 16 / 9], ['Tall 9:16', 9 / 16]].map(([name, ratio]) => [name, ...near(ratio)]);
    const options = [['', width ? `The model’s own, ${width} × ${height}` : 'The model’s own'], ...shapes.map(([name, w, hi]) => [`${w}x${hi}`, `${name}, ${w} × ${hi}`]), ['free', 'Any other']];
    const held = kept.width || kept.height ? `${kept.width}x${kept.height}` : '';
    const field = h('select', { id: 'gen-size', onchange: () => { if (field.value !== 'free') { [kept.width, kept.height] = field.value ? field.value.split('x').map(Number) : [null, null]; save(); draw(); } } },
      ...options.map(([v, text]) => h('option', { value: v }, text)));
    field.value = options.some(([v]) => v === held) ? held : 'free';
    return h('div.gen-sizes', {}, labelled('Size', field), number('width', 'Width', { value: width, min: 1, max: 4096, step: 1 }), number('height', 'Height', { value: height, min: 1, max: 4096, step: 1 }));
  }

  /* ---- the picture that is changed */
  function from() {
    if (!kept.source) return h('p.soft.gen-source', {}, 'Which picture? Open one and choose its tool “Edit with a model”, or “Use as source” of one here.');
    const mask = kept.mask && kept.task === 'inpaint' ? h('div.gen-mask', { style: `mask-image: url(data:image/png;base64,${kept.mask})` }) : null;
    return h('div.gen-source', {}, h('div.gen-frame', {}, h('img', { src: `/thumb/${kept.source}`, alt: 'The picture that is changed' }), mask),
      h('div.gen-tools', {}, model().tasks.includes('inpaint') && button(kept.mask ? 'Change the mask' : 'Paint a mask', paint, { className: 'tool' }), button('Another picture', () => { Object.assign(kept, { source: '', mask: '' }); save(); draw(); }, { className: 'tool' }),
        kept.task === 'inpaint' && !kept.mask && h('span.soft', {}, 'Nothing is masked yet.')));
  }

  function paint() {
    const { source: of } = kept, { back } = now;
    now.back = null;
    close();
    back?.focus?.({ preventScroll: true });  // where the keyboard goes in the end
    window.studioPicture.open(of, { tool: 'mask' });
  }

  /* The first of these tasks that the model can do, else that another one can; whether there is one. */
  function suit(tasks) {
    for (const m of [model(), ...known.models].filter(m => m && !m.problem)) {
      const task = tasks.find(t => m.tasks.includes(t));
      if (task) { Object.assign(kept, { model: m.name, task }); save(); return true; }
    }
    return false;
  }

  function source(sha256) {
    if (!suit(['edit', 'instruct', 'inpaint'])) return complain('No model here can change a picture: those there are only make new ones. Add one on Settings.');
    Object.assign(kept, { source: sha256, mask: '' });
    save();
    draw();
    now.prompt.focus();
  }

  /* ---- how long: as this model went the last time, by its steps and pixels */
  const pixels = (m, wish) => (m && wish && !wish.source ? (wish.width || m.defaults.width || 0) * (wish.height || m.defaults.height || 0) : 0) || null;

  function estimate() {
    const m = model(), pace = runs.pace(m.name), share = kept.task === 'edit' || kept.task === 'inpaint' ? kept.strength ?? m.defaults.strength ?? 1 : 1;
    const steps = Math.ceil((kept.steps ?? m.defaults.steps ?? 0) * share) * (kept.variants || 1), area = pixels(m, changes() ? null : { ...kept, source: null }), scale = pace?.pixels && area ? area / pace.pixels : 1;
    now.estimate.textContent = !pace || !steps ? 'How long it takes is known after the first run.' : `About ${runs.time(Math.max(1, pace.step_s * steps * scale))} for ${steps} steps, as the last run went.`;
  }

  /* ---- running */
  function complain(text) { if (now) now.bad.textContent = text; }

  async function begin() {
    const m = model(), of = changes();
    complain('');
    if (of && !kept.source) return complain('There is no picture to change yet.');
    if (kept.task === 'inpaint' && !kept.mask) return complain('Nothing is masked yet. Paint over what may change.');
    const wish = { model: m.name, task: kept.task, prompt: kept.prompt, negative: m.negative ? kept.negative : '', ...Object.fromEntries(NUMBERS.map(k => [k, kept[k] ?? null])), variants: kept.variants || 1,
      source: of ? kept.source : null, mask: kept.task === 'inpaint' ? kept.mask : null };
    if (of) wish.width = wish.height = null;  // its own size counts
    if (!m.guidance) wish.guidance = null;
    if (!takes(m, 'steps')) wish.steps = null;
    if (kept.task === 'generate' || kept.task === 'instruct' || !takes(m, 'strength')) wish.strength = null;
    now.go.disabled = true;
    const here = now, answer = await call('generate_start', wish).catch(error => { if (!error.told) throw error; complain(error.message); });
    here.go.disabled = false;
    if (!answer) return;
    kept.wishes = Object.fromEntries([...Object.entries(kept.wishes), [answer.run.id, { ...wish, mask: undefined }]].slice(-20));
    save();
    known.runs = [answer.run, ...known.runs];
    runs.show(known.runs);
    runs.root.firstElementChild.scrollIntoView({ block: 'start' });
    watch();
  }

  const going = () => (known?.runs || []).filter(run => !runs.over(run));

  /* Looks at what is being drawn, also while the window is closed: then the button tells. */
  function watch() {
    clearTimeout(clock);
    tell();
    if (going().length) clock = setTimeout(look, now ? WATCH_MS : APART_MS);
    if (kept.going !== going().length) { kept.going = going().length; save(); }
  }

  async function look() {
    for (const old of going()) {
      const answer = await call('generate_poll', { run: old.id }).catch(error => (error.told ? { run: { ...old, state: 'failed', error: error.message } } : null));  // else the studio is away: the next look will tell
      if (!answer) continue;
      known.runs = known.runs.map(run => (run.id === old.id ? answer.run : run));
      runs.clock(answer.run, pixels(known.models.find(m => m.name === old.model), kept.wishes[old.id]));
      if (runs.over(answer.run)) ended(answer.run);
    }
    if (now) runs.show(known.runs);
    watch();
  }

  function ended(run) {
    if (now) { estimate(); learn(true).then(() => now?.about?.isConnected && now.about.replaceWith(now.about = about(model()))).catch(() => {}); return; }  // it is in memory now
    toast(run.state === 'failed' ? `The picture was not drawn: ${run.error}` : `${runs.words(run)}: ${run.prompt.slice(0, 60)}`, { bad: run.state === 'failed', action: () => open(), label: 'Look' });
  }

  function tell() {
    const at = document.getElementById('generate-open'), run = going()[0];
    if (at) at.textContent = !run ? 'Generate' : run.state === 'running' && run.steps ? `Generating: step ${run.step} of ${run.steps}` : 'Generating…';
  }

  async function cancel(id) {
    const answer = await call('generate_cancel', { run: id }).catch(error => { if (!error.told) throw error; complain(error.message); });
    if (answer) { known.runs = known.runs.map(run => (run.id === id ? answer.run : run)); runs.show(known.runs); watch(); }
  }

  /* ---- what a finished picture is good for */
  function take(run, picture, stay) {
    const { replaces } = now, at = replaces ? window.studioPictures.list().findIndex(p => p.sha256 === replaces) : -1;
    window.studioPictures.attach(picture.sha256, run.prompt.slice(0, 200), at < 0 ? null : at);
    now.replaces = null;
    if (stay) { runs.said.textContent = 'It is in the message.'; return; }
    now.back = null;
    close();
    studio.emit('compose');
  }

  function again(run, picture) {
    const wish = { model: run.model, task: run.task, prompt: run.prompt, source: kept.source, ...kept.wishes[run.id], seed: picture.seed, variants: 1 };
    Object.assign(kept, wish, { source: wish.source || '', mask: wish.source === kept.source ? kept.mask : '' });
    save();
    draw();
    now.prompt.focus();
  }

  function edit(run, picture) {
    close();
    window.studioPicture.open(picture.sha256, { caption: run.prompt.slice(0, 200) });
  }

  function settings() {
    if (now) now.back = null;
    close();
    [...document.querySelectorAll('#screens [role=tab]')].find(t => t.textContent.trim() === 'Settings')?.click();
    studio.emit('image-models');
  }

  function keys(event) {
    event.stopPropagation();  // the page behind has other meanings for these
    if (event.key === 'Escape') { event.preventDefault(); return close(); }
    const send = event.key === 'Enter' && !event.isComposing && (event.ctrlKey || event.metaKey || (event.target.matches('textarea') && !event.shiftKey));
    if (send && now.go && !now.go.disabled) { event.preventDefault(); begin(); }
  }

  on('start', () => {
    const row = document.getElementById('retrieve-open');
    row?.append(button('Generate', () => open(), { id: 'generate-open', className: 'tool', title: 'Let a model draw a picture (P)' }));
    if (kept.going) learn().then(watch).catch(() => {});  // a reload in the middle of it; the window tells what is wrong
  });

  return { open, able, settings };
})();
