/* The Models screen, above the form for servers: every model in the list, own files, the catalogue with its downloads. */
'use strict';
(() => {
  const studio = window.studio;
  const { h, call, on, inLine } = studio;
  let root = null, now = null, timer = null, places = null, asked = null, states = {};

  const size = bytes => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
  const left = s => s === null || s === undefined ? '' : s < 90 ? `${Math.ceil(s)} s left` : s < 5400 ? `${Math.round(s / 60)} min left` : `${(s / 3600).toFixed(1)} h left`;
  const tokens = n => n >= 1000 ? `${Math.round(n / 1024)}k tokens` : `${n} tokens`;
  const busy = () => now.catalogue.some(m => m.state === 'downloading') || now.models.some(m => testing(m));
  const testing = m => m.test && ['waiting', 'running'].includes(m.test.state);

  /* What changes the list of models also changes what the composer and the settings below offer. */
  const act = (name, data, { changes = false } = {}) => inLine(async () => {
    now = await call(name, data);
    asked = null;
    draw();
    if (changes) studio.trigger('models', {});
    soon();
    return true;
  }).catch(error => { if (!error.told) throw error; });

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(() => load().catch(() => {}), busy() ? 1000 : 5000);
  }

  async function load() {
    clearTimeout(timer);
    if (!root?.offsetParent) return;
    try {
      now = await call('models');
    } finally {
      if (now) soon();
    }
    draw();
  }

  /* ---- the catalogue */
  const FIT = { fits: 'fits this machine', tight: 'tight on this machine', 'does not fit': 'does not fit this machine' };

  function facts(m) {
    const fit = m.fit ? h(`span.fit.${m.fit.replaceAll(' ', '-')}`, {}, FIT[m.fit]) : null;
    return h('div.model-facts', {}, m.images === null ? null : h('span', {}, m.images ? 'images and text' : 'text only'), m.does ? h('span', {}, m.does) : null,
      h('span', {}, m.size_bytes ? size(m.size_bytes) : 'size: told by the hub when it is downloaded'),
      m.needed_bytes ? h('span', {}, `needs about ${size(m.needed_bytes)} of memory`) : null, fit,
      m.context ? h('span', {}, `up to ${tokens(m.context)}`) : null, h('span', {}, m.licence || 'licence: see its page'));
  }

  function progress(m) {
    const d = m.download, total = d.total || m.size_bytes || 0, share = total ? d.bytes / total : 0;
    const said = d.stopping ? 'stopping …' : !d.total ? 'asking the hub …' : [`${size(d.bytes)} of ${size(total)}`, d.bytes >= total ? 'checking …' : d.bytes_per_s ? `${size(d.bytes_per_s)}/s` : '', d.bytes < total ? left(d.eta_s) : ''].filter(Boolean).join(' · ');
    return h('div.model-progress', {}, h('progress', { max: 1, value: share, ariaLabel: `Download of ${m.name}` }), h('span', {}, said));
  }

  const word = m => m.state === 'here' ? (m.used_by.length ? 'here, in the list' : 'here') : m.state === 'part' ? `${size(m.kept_bytes)} here` : m.state === 'downloading'
    ? `downloading${m.download.total ? ` ${Math.floor(100 * m.download.bytes / m.download.total)} %` : ''}` : 'not here';

  function buttons(m) {
    const button = (label, what, title, more) => h('button', { onclick: () => act(what, { name: m.name }, more), title, ariaLabel: `${label} ${m.name}` }, label);
    if (asked === m.name) {
      return [h('span', {}, `Remove ${size(m.kept_bytes)} of files${m.used_by.length ? ' and take it out of the list' : ''}?`),
        button('Yes, remove', 'models_remove', null, { changes: true }), h('button', { onclick: () => { asked = null; draw(); } }, 'Keep')];
    }
    const removing = h('button', { onclick: () => { asked = m.name; draw(); }, ariaLabel: `Remove files of ${m.name}` }, 'Remove files');
    if (m.state === 'downloading') return [button('Cancel', 'models_cancel', 'What has arrived is kept')];
    if (m.state === 'here') return [m.used_by.length ? null : button('Use', 'models_use', 'Puts it into the list of models', { changes: true }), removing];
    if (m.state === 'part') return [button('Resume', 'models_download', 'Goes on where it ended'), removing];
    return [button(m.error ? 'Try again' : 'Download', 'models_download', m.repository), m.own ? button('Forget', 'models_remove', 'Takes it off this list') : null];
  }

  const known = m => h('article.model-row', { 'data-model': m.name }, h('div.model-head', {}, h('b', {}, m.name), h(`span.model-state.${m.state}`, {}, word(m)),
    h('span.model-buttons', {}, ...buttons(m))), facts(m), m.state === 'downloading' ? progress(m) : null, m.error ? h('p.problem', { role: 'alert' }, m.error) : null);

  /* ---- an own file or folder; kept, so that a refresh disturbs nobody who types */
  function own() {
    const input = (id, label, hint) => h('label', {}, h('span', {}, label), h('input', { id: `models-${id}`, placeholder: hint, spellcheck: false, autocomplete: 'off' }));
    const value = id => form.querySelector(`#models-${id}`).value;
    const add = async event => {
      event.preventDefault();
      const before = new Set(now.catalogue.filter(m => m.state === 'downloading').map(m => m.name));
      if (!await act('models_add', { called: value('called'), path: value('path'), mmproj: value('mmproj') }, { changes: true })) return;  // what was typed stays, to be mended
      form.reset();
      const fresh = now.catalogue.find(m => m.state === 'downloading' && !before.has(m.name));
      if (fresh) [...places.known.children].find(row => row.dataset.model === fresh.name)?.scrollIntoView({ block: 'center' });
    };
    const form = h('form.models-form', { onsubmit: add }, input('path', 'A .gguf file, a folder of transformers, or owner/model on the hub (owner/model/file.gguf: one file)', '/home/me/model.gguf or owner/model'),
      input('mmproj', 'Its mmproj file, for images', 'Empty: text only'), input('called', 'Name in the list', 'As the file'), h('button.primary', { type: 'submit' }, 'Add'));
    return form;
  }

  /* ---- every model in the list */
  function can(m) {
    if (m.problem) return h('p.problem', {}, m.problem);
    const memory = m.loaded.loaded ? `loaded, ${m.loaded.memory_mb ? size(m.loaded.memory_mb * 2 ** 20) : 'under 1 MB'}${m.loaded.device ? ` on ${m.loaded.device}` : ''}` : 'not loaded';
    return h('div.model-facts', {}, h('span', {}, m.images ? 'images and text' : 'text only'), m.draws ? h('span', {}, 'draws') : null,
      m.together ? h('span', {}, 'several replies in one reading') : null, m.context ? h('span', {}, tokens(m.context)) : null,
      ['openai', 'echo'].includes(m.backend) ? null : h('span', { className: m.loaded.loaded ? 'model-loaded' : '' }, memory));
  }

  function tested(m) {
    if (!m.test) return null;
    if (testing(m)) return h('p.model-test', {}, m.test.state === 'waiting' ? 'Waiting for another test …' : 'Asking one short question; a model that is not loaded is loaded first …');
    if (m.test.state === 'cancelled') return h('p.model-test', {}, 'Stopped.');
    return m.test.state === 'failed' ? h('p.problem', { role: 'alert' }, m.test.error) : h('p.model-test', {}, m.test.note);
  }

  const listed = m => h('article.model-row', { 'data-listed': m.name }, h('div.model-head', {}, h('b', {}, m.name), h('span.model-state', {}, m.backend), h('span.model-buttons', {},
    testing(m) ? h('button', { onclick: () => act('models_stop', { name: m.name }), ariaLabel: `Stop the test of ${m.name}` }, 'Stop') : h('button', { onclick: () => act('models_test', { name: m.name }), ariaLabel: `Test ${m.name}` }, 'Test'),
    m.loaded?.loaded ? h('button', { onclick: () => act('models_unload', { name: m.name }), ariaLabel: `Unload ${m.name}`, title: 'Frees its memory; the next question loads it again' }, 'Unload') : null, ...taking(m))), can(m), settings(m), tested(m));

  /* Its files and its server stay; only the list and studio.toml lose it. */
  function taking(m) {
    const button = (label, onclick) => h('button', { onclick, ariaLabel: `${label} ${m.name}` }, label), key = `out ${m.name}`;
    if (!m.own) return [];
    if (asked !== key) return [button('Take out', () => { asked = key; draw(); })];
    return [h('span', {}, 'Take it out of the list? Its files stay.'), button('Yes, take out', () => act('models_take_out', { name: m.name }, { changes: true })), button('Keep', () => { asked = null; draw(); })];
  }

  function settings(m) {
    const said = Object.entries(m.settings).map(([name, value]) => `${name} = ${value}`).join(' · ');
    return said ? h('p.model-settings', {}, said) : null;
  }

  /* ---- drawing: a row whose data changed is drawn again, and the keyboard stays in its row */
  function draw() {
    if (!places) {
      places = Object.fromEntries(['machine', 'known', 'own', 'list', 'said'].map(name => [name, h(`div.models-${name}`)]));
      places.said.setAttribute('role', 'status');
      places.said.classList.add('hidden-text');
      places.own.append(own());
      root.replaceChildren(h('h2', {}, 'Models in the list'), places.list, h('h2', {}, 'Add my own file or folder'), places.own,
        h('h2', {}, 'Models to download'), places.machine, places.known, places.said);
    }
    const memory = now.memory_bytes ? `This machine has ${size(now.memory_bytes)} of memory. ` : '';
    const text = `${memory}${size(now.free_bytes)} of the disk are free. Files go to ${now.folder}; the list is ${now.file}, which you may edit.`;
    if (places.machine.textContent !== text) places.machine.replaceChildren(h('p.warn', {}, text));
    rows(places.known, now.catalogue, m => [m, asked === m.name], known);
    rows(places.list, now.models, m => [m, asked === `out ${m.name}`], listed);
    tell();
  }

  function rows(place, data, seen, make) {
    data.forEach((m, i) => {
      const json = JSON.stringify(seen(m)), old = place.children[i];
      if (old?.drawn === json) return;
      const focused = old?.contains(document.activeElement) ? [...old.querySelectorAll('button')].indexOf(document.activeElement) : -1;
      const made = make(m);
      made.drawn = json;
      if (old) old.replaceWith(made); else place.append(made);
      const all = made.querySelectorAll('button');
      if (focused >= 0) all[Math.min(focused, all.length - 1)]?.focus({ preventScroll: true });
    });
    while (place.children.length > data.length) place.lastChild.remove();
  }

  /* Spoken when it changes, not at every byte. */
  function tell() {
    const fresh = {}, said = [];
    const one = (key, name, value) => { fresh[key] = value; if (key in states && states[key] !== value && value) said.push(`${name}: ${value}`); };
    now.catalogue.forEach(m => one(`k${m.name}`, m.name, { here: 'downloaded', part: 'partly here', away: 'not here', downloading: 'downloading' }[m.state]));
    now.models.forEach(m => one(`t${m.name}`, m.name, m.test && !testing(m) ? m.test.note : ''));
    states = fresh;
    if (said.length) places.said.textContent = said.join('. ');
  }

  on('models', () => load().catch(() => {}));  // the form for servers added one
  on('part', name => {
    if (name !== 'models') return;
    root = studio.parts.models.querySelector('.models');
    places = null;
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load().catch(() => {}); }).observe(root);
  });
})();
