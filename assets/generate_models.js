/* The models that draw, on Settings below the models that answer: those there are, and a form for an own folder or server.
   The list is that of studio.toml; the server checks what is typed. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, call, on, inLine } = studio;
  const KINDS = { diffusers: 'A pipeline of diffusers', openai: 'A server with an images API' };
  const PLACES = { diffusers: ['Folder, or owner/model on the hub', '/home/me/sd-turbo'], openai: ['Its name on the server', 'gpt-image-1'] };
  const AGAIN_MS = 5000;       // a model of the catalogue above may have been downloaded or used meanwhile
  let root = null, list = null, told = null, form = null, drawn = '', timer = null;

  const act = (name, data) => inLine(async () => { told.textContent = ''; draw(await call(name, data)); return true; }).catch(error => { if (!error.told) throw error; told.textContent = error.message; });

  async function load() {
    clearTimeout(timer);
    if (!root?.offsetParent) return;
    timer = setTimeout(() => load().catch(() => {}), AGAIN_MS);  // one that fails was told, and is asked again
    draw(await call('generate'));
  }

  const can = m => [m.tasks.includes('generate') && 'draws from words', m.tasks.includes('edit') && 'changes a picture', m.tasks.includes('inpaint') && 'repaints a part of a picture', m.tasks.includes('instruct') && 'follows an instruction'].filter(Boolean);

  const row = m => h('article.model-row', { 'data-image-model': m.name }, h('div.model-head', {}, h('b', {}, m.name), h('span.model-state', {}, m.backend), h('span.model-buttons', {},
    m.loaded.loaded && h('button', { type: 'button', ariaLabel: `Unload ${m.name}`, title: 'Frees its memory; the next picture loads it again', onclick: () => act('generate_unload', { name: m.name }) }, 'Unload'),
    h('button', { type: 'button', ariaLabel: `Take out ${m.name}`, title: 'Out of the list; its files stay', onclick: () => act('generate_models_remove', { name: m.name }).then(() => form.querySelector('select').focus()) }, 'Take out'))),
  m.problem ? h('p.problem', {}, m.problem) : h('div.model-facts', {}, ...can(m).map(t => h('span', {}, t)), h('span', { className: m.loaded.loaded ? 'model-loaded' : '' }, m.backend === 'openai' ? 'on a server' : m.loaded.loaded ? `loaded${m.loaded.device ? ` on ${m.loaded.device}` : ''}` : 'not loaded')), m.needs ? h('p.warn', {}, m.needs) : null);

  function draw(now) {
    const json = JSON.stringify([now.models, now.none]), held = list.contains(document.activeElement) && document.activeElement.ariaLabel;
    if (json === drawn) return;
    drawn = json;
    list.replaceChildren(...(now.models.length ? now.models.map(row) : [h('p.warn', {}, now.none)]));
    if (held) [...list.querySelectorAll('button')].find(b => b.ariaLabel === held)?.focus({ preventScroll: true });
  }

  /* ---- the form; kept, so that a refresh disturbs nobody who types */
  function build() {
    const field = (key, label, hint, kind, type = 'text') => h('label', { 'data-for': kind }, h('span', {}, label), h('input', { id: `image-model-${key}`, type, placeholder: hint, spellcheck: false, autocomplete: type === 'password' ? 'new-password' : 'off' }));
    const kind = h('select', { id: 'image-model-kind', onchange: () => choose() }, ...Object.entries(KINDS).map(([value, text]) => h('option', { value }, text)));
    const choose = () => { const [label, hint] = PLACES[kind.value], input = form.querySelector('#image-model-model'); input.previousSibling.textContent = label; input.placeholder = hint; form.querySelectorAll('label[data-for]').forEach(l => { l.hidden = l.dataset.for !== 'both' && l.dataset.for !== kind.value; }); };
    const value = key => form.querySelector(`#image-model-${key}`).value.trim();
    const add = async event => {
      event.preventDefault();
      const settings = kind.value === 'openai' ? { model: value('model'), base_url: value('url'), key_env: value('variable'), key: value('key') } : { model: value('model') };
      const given = Object.fromEntries(Object.entries(settings).filter(([, v]) => v));
      if (await act('generate_models_add', { name: value('name') || value('model').split(/[\\/]/).filter(Boolean).pop() || '', backend: kind.value, ...given })) { form.reset(); choose(); }  // else what was typed stays, to be mended
    };
    form = h('form.models-form.image-model-form', { onsubmit: add }, h('label', {}, h('span', {}, 'What it is'), kind), field('model', ...PLACES.diffusers, 'both'), field('url', 'Address of the server', 'https://api.openai.com/v1', 'openai'),
      field('key', 'Key, kept in the keyring of this computer', 'None', 'openai', 'password'), field('variable', 'Or the variable that holds it', 'OPENAI_API_KEY', 'openai'), field('name', 'Name in the list', 'As the model', 'both'), h('button.primary', { type: 'submit' }, 'Add'));
    choose();
    list = h('div.models-list');
    told = h('p.problem', { role: 'alert' });
    root.replaceChildren(h('h2', {}, 'Models that draw'), list, h('h2', {}, 'Add a model that draws'), form, told);
  }

  on('part', name => {
    if (name !== 'image-models') return;
    root = studio.parts['image-models'].querySelector('.models');
    build();
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load().catch(() => {}); }).observe(root);
  });
  /* Whoever comes from the window that has no model finds the keyboard where one is added. */
  on('image-models', () => requestAnimationFrame(() => { root?.scrollIntoView({ block: 'start' }); form?.querySelector('#image-model-model').focus({ preventScroll: true }); }));
})();
