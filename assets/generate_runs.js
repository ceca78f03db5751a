/* The runs of the window that generates: how far each is, what it looks like so far, the pictures that are finished.
   A run that changed is patched in place, so that the keyboard and a half-read line stay where they are. Asks no server. */
'use strict';
window.studioGenerateRuns = act => {
  const { h } = window.studio;
  const over = run => ['done', 'cancelled', 'failed'].includes(run.state);
  const root = h('div.gen-runs', { role: 'region', ariaLabel: 'Pictures of this run of the studio', onkeydown: arrows });
  const said = h('div.hidden-text', { role: 'status' });
  const drawn = new Map();     // run id -> what was drawn of it
  const button = (text, title, onclick, extra = {}) => h('button.tool', { type: 'button', title, onclick, ...extra }, text);
  const many = n => `${n} ${n === 1 ? 'picture' : 'pictures'}`;
  const time = s => (s < 90 ? `${Math.ceil(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);
  const short = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);

  function words(run) {
    const of = run.variants > 1 ? `, picture ${Math.min(run.variant + 1, run.variants)} of ${run.variants}` : '';
    const left = typeof run.eta_s === 'number' ? ` · ${time(run.eta_s)} left` : '';
    return { waiting: 'Waits for the run before it', downloading: `Downloading the model${run.told ? `: ${run.told}` : ''}`, loading: 'Loading the model', done: many(run.pictures.length), failed: run.pictures.length ? `Failed after ${many(run.pictures.length)}` : 'Failed',
      cancelled: run.pictures.length ? `Cancelled after ${many(run.pictures.length)}` : 'Cancelled',
      running: run.steps ? `Step ${run.step} of ${run.steps}${of}${left}` : `Drawing${of}${left}` }[run.state] || run.state;
  }

  function start(run) {
    const at = { state: '', count: 0 };
    at.words = h('span.gen-words');
    at.bar = h('progress', { max: 1, ariaLabel: `Progress: ${short(run.prompt || run.task, 80)}` });
    at.cancel = h('button', { type: 'button', onclick: () => { at.cancel.disabled = true; act.cancel(run.id); } }, 'Cancel');
    at.preview = h('img.gen-preview', { hidden: true });
    at.tiles = h('div.gen-tiles');
    at.note = h('p.soft', { hidden: true });
    at.bad = h('p.problem', { role: 'alert', hidden: true });
    at.element = h('article.gen-run', { 'data-run': run.id, ariaLabel: short(run.prompt || run.task, 80) }, h('header', {}, h('b', {}, run.prompt || 'Without words'), h('span.soft', {}, run.model)),
      h('div.gen-row', {}, at.bar, at.words, at.cancel), at.note, at.bad, at.preview, at.tiles);
    return at;
  }

  function update(run) {
    const at = drawn.get(run.id), ended = over(run), { steps, variants } = run;
    const share = steps ? Math.min(1, (run.variant + run.step / steps) / variants) : run.variant ? run.variant / variants : null;
    at.element.dataset.state = run.state;
    at.words.textContent = words(run);
    at.bar.hidden = at.cancel.hidden = ended;
    if (run.state === 'running' && share !== null) at.bar.value = share; else at.bar.removeAttribute('value');
    line(at.note, run.note);
    line(at.bad, run.error);
    at.preview.hidden = ended || !run.preview;
    if (!at.preview.hidden && at.preview.src !== run.preview) Object.assign(at.preview, { src: run.preview, alt: `As it looks at step ${run.step}` });
    for (const picture of run.pictures.slice(at.count)) at.tiles.append(tile(run, picture));
    at.count = run.pictures.length;
    if (at.state !== run.state && at.state) said.textContent = `${words(run)}. ${run.error || ''}`;
    at.state = run.state;
  }

  function line(place, text) {
    place.hidden = !text;
    if (place.textContent !== (text || '')) place.textContent = text || '';
  }

  function tile(run, p) {
    const known = typeof p.seed === 'number', name = `${short(run.prompt || 'without words', 60)}${known ? `, seed ${p.seed}` : ''}`;
    return h('div.gen-made', {}, h('button.gen-pick', { type: 'button', 'data-sha256': p.sha256, title: 'Put into the message (Enter); Shift+Enter stays here', ariaLabel: `Put into the message: ${name}`, onclick: event => act.take(run, p, event.shiftKey) },
      h('img', { src: p.thumb, width: p.width, height: p.height, alt: '', decoding: 'async' })), h('span.soft', {}, `${p.width} × ${p.height}${known ? ` · seed ${p.seed}` : ''}`),
    h('div.gen-tools', {}, button('Use as source', 'A model changes this picture', () => act.source(p), { ariaLabel: `Use as source: ${name}` }),
      known && button('Again with this seed', 'The same settings and seed, to be changed where you like', () => act.again(run, p), { ariaLabel: `Again with this seed: ${name}` }),
      button('Edit', 'Crop, draw, where it comes from', () => act.edit(run, p), { ariaLabel: `Edit: ${name}` })));
  }

  /* ---- arrows go from picture to picture */
  function arrows(event) {
    const all = [...root.querySelectorAll('.gen-pick')], at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const across = all.filter(t => t.getBoundingClientRect().top === all[at].getBoundingClientRect().top).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (!step) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, at + step))].focus();
  }

  /* ---- how fast a model went the last time: seconds of a step, at so many pixels (null: unknown) */
  const PACE = 'studio-generate-pace', paces = JSON.parse(localStorage.getItem(PACE) || '{}');
  const began = new Map();     // run id -> where it was when it was first seen to run

  function clock(run, pixels) {
    if (run.state !== 'running' || !run.steps) return;
    const at = performance.now() / 1000, done = run.variant * run.steps + run.step, first = began.get(run.id);
    if (!first) began.set(run.id, { at, done });
    if (!first || done - first.done < 2) return;
    paces[run.model] = { step_s: (at - first.at) / (done - first.done), pixels };
    localStorage.setItem(PACE, JSON.stringify(paces));
  }

  /* ``runs``: newest first. */
  function show(runs) {
    for (const [id, at] of drawn) if (!runs.some(r => r.id === id)) { at.element.remove(); drawn.delete(id); }
    runs.forEach((run, i) => {
      if (!drawn.has(run.id)) drawn.set(run.id, start(run));
      const { element } = drawn.get(run.id);
      if (root.children[i] !== element) root.insertBefore(element, root.children[i] || null);
      update(run);
    });
  }

  return { root, said, show, over, words, time, clock, pace: name => paces[name] };
};
