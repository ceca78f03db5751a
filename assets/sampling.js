/* More sampling options below the message: kept in this browser, sent only where set, greyed where no model at hand follows them. */
'use strict';
window.studioSampling = (() => {
  const studio = window.studio;
  const { h, on, call, state } = studio;
  const KEPT = 'studio-sampling';
  const FIELDS = [
    ['top_p', 'Top-p', 'number', { min: 0, max: 1, step: 'any', placeholder: '1' }, 'Only the likeliest words that together have this share'],
    ['top_k', 'Top-k', 'number', { min: 0, step: 1, placeholder: 'the model’s' }, 'Only so many of the likeliest words; 0: all'],
    ['min_p', 'Min-p', 'number', { min: 0, max: 1, step: 'any', placeholder: 'the model’s' }, 'Only words at least this share as likely as the likeliest'],
    ['repetition_penalty', 'Repetition penalty', 'number', { min: 0.1, max: 10, step: 'any', placeholder: '1' }, 'Above 1: fewer words again'],
    ['stop', 'Stop strings', 'text', { rows: 2, placeholder: 'One a line; \\n is a new line' }, 'The reply ends before the first of them'],
    ['rules', 'The reply follows', 'text', { rows: 3, spellcheck: false, placeholder: 'Empty: anything' }, ''],
  ];
  const FOLLOW = { grammar: 'Grammar (GBNF)', json_schema: 'JSON schema' };
  const CAN = { stop: 'stop_strings' };  // where the option has another name than its field
  let values = read(), able = {}, inputs = {}, fold = null, follow = null;

  function read() {
    try { return { follow: 'grammar', ...JSON.parse(localStorage.getItem(KEPT) || '{}') }; } catch (error) { return { follow: 'grammar' }; }
  }

  /* What was set, by name; empty fields are not there. */
  function set() {
    const found = Object.fromEntries(FIELDS.map(([name]) => [name, values[name] ?? '']).filter(([, v]) => String(v).trim() !== ''));
    return found.rules ? { ...found, follow: values.follow } : found;
  }

  /* ---- what the models at hand can do: those chosen, or those of the lanes, which each go on with their own */
  function models() {
    const lanes = (state.view?.columns || []).map(column => column.at(-1)?.model).filter(Boolean);
    return lanes.length > 1 ? [...new Set(lanes)] : window.studioHow?.[0] || [];
  }
  const option = name => name === 'rules' ? values.follow : CAN[name] || name;
  const cannot = name => models().filter(m => able[m] && !able[m].includes(option(name)));

  function field([name, label, kind, props, title]) {
    const keep = event => { values[name] = event.target.value; save(); };
    const id = `sampling-${name}`, input = kind === 'text' ? h('textarea', { id, value: values[name] ?? '', oninput: keep, ...props }) : h('input', { id, type: 'number', value: values[name] ?? '', oninput: keep, ...props });
    const note = h('span.sampling-cannot', { id: `${id}-note` });
    input.setAttribute('aria-describedby', note.id);
    inputs[name] = { input, note };
    if (name !== 'rules') return h(`div.sampling-field.${kind}`, { title }, h('label', { htmlFor: id }, label), input, note);
    follow = h('select', { ariaLabel: 'Grammar or JSON schema', onchange: event => { values.follow = event.target.value; save(); } }, ...Object.entries(FOLLOW).map(([key, text]) => h('option', { value: key, selected: values.follow === key }, text)));
    return h('div.sampling-field.text', {}, h('label', { htmlFor: id }, label), follow, input, note);
  }

  function save() {
    localStorage.setItem(KEPT, JSON.stringify(values));
    told();
  }

  function clear() {
    values = { follow: 'grammar' };
    Object.values(inputs).forEach(({ input }) => { input.value = ''; });
    follow.value = 'grammar';
    save();
    inputs.top_p.input.focus();
  }

  function build(place) {
    const button = h('button', { type: 'button', onclick: clear }, 'Clear these');
    fold = h('details.sampling-more', { open: sessionStorage.getItem('studio-more') === 'yes', ontoggle: () => { sessionStorage.setItem('studio-more', fold.open ? 'yes' : 'no'); if (fold.contains(document.activeElement)) reveal(); } }, h('summary', {}, 'More'),
      h('div.sampling-fields', {}, ...FIELDS.map(field)), h('div.sampling-foot', {}, h('span.soft', {}, 'Empty fields are not sent. Kept in this browser.'), button));
    place.replaceChildren(fold);
  }

  /* What was unfolded comes into sight, its top at least. */
  function reveal() {
    const pane = document.getElementById('composer'), room = pane.getBoundingClientRect(), { top, bottom } = fold.getBoundingClientRect();
    pane.scrollTop += Math.max(0, Math.min(bottom - room.bottom + 8, top - room.top));
  }

  /* Greyed where none of them can; told where some cannot. What is set is named also while it is folded away. */
  function told() {
    const all = models();
    for (const [name, { input, note }] of Object.entries(inputs)) {
      const lacking = cannot(name), none = lacking.length > 0 && lacking.length === all.length;
      input.disabled = none;
      note.classList.toggle('bad', lacking.length > 0 && name in set());  // only what is set is lost
      note.textContent = none ? (all.length === 1 ? `${all[0]} cannot follow this` : 'None of these models can follow this') : lacking.length ? `Left out for ${lacking.join(', ')}` : '';
    }
    if (follow) follow.disabled = false;
    const line = document.getElementById('sampling-set');
    if (!line) return;
    const words = FIELDS.filter(([name]) => name in set()).map(([name, label]) => {
      const lacking = cannot(name), what = name === 'rules' ? FOLLOW[values.follow] : name === 'stop' ? label : `${label} ${values[name]}`;
      return lacking.length ? `${what} (not for ${lacking.join(', ')})` : what;
    });
    line.textContent = words.length ? `Sampling: ${words.join(' · ')}` : '';
  }

  async function load() {
    able = (await call('sampling')).models;
    told();
  }

  on('how', () => {
    if (window.studioKept) localStorage.setItem('studio-how', JSON.stringify(window.studioHow));
    if ((window.studioHow?.[0] || []).some(m => !able[m])) load().catch(() => {}); else told();
  });
  on('view', () => { if (Object.keys(inputs).length) told(); });
  on('start', () => {
    const place = () => document.getElementById('sampling-more');
    const mount = () => { const at = place(); if (at && !at.firstChild) { build(at); told(); } };
    new MutationObserver(mount).observe(document.getElementById('composer'), { childList: true, subtree: true });  // Gradio makes what is folded when it is opened
    mount();
    load().catch(() => {});
  });
  return { set, more: () => JSON.stringify(set()) };
})();
