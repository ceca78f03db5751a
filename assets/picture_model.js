/* A model's edit, begun in the picture window: the mask is painted here, the window that generates does the rest.
   Holds nothing of its own: the state is that of the picture window. */
'use strict';
window.studioPictureModel = ({ state, redraw, settings, leave }) => {
  const studio = window.studio, { TOOLS, paint } = window.studioPictureTools;
  const { h, call, toast } = studio;
  const WIDEST = 4000;         // pixels of a brush

  const on = () => state()?.tool === 'mask';
  const shape = () => (on() ? state().values.mask.shape : TOOLS[state().tool].shape || null);
  const standing = () => on() && state().view.shape;
  const made = ({ ...stroke }) => ({ ...structuredClone(stroke), ...(stroke.points ? { size: state().values.mask.size || 1 } : {}), ...(state().values.mask.out ? { out: true } : {}) });

  /* What is being drawn, with any tool; and what lies over the picture. */
  function draft(pen, drawn, size) {
    if (!state()) return;  // a frame that was asked for before the window closed
    const { tool, values, mask } = state();
    if (on() && drawn.points) mask.making(pen, made(drawn)); else paint(pen, tool, drawn, values[tool], size);
  }
  const over = (pen, width, height) => on() && state().mask.paint(pen, width, height);

  function stroke() {
    const { view, mask } = state();
    if (!view.shape) return toast(TOOLS.mask.hint);
    mask.add(made(view.shape));
    view.set(null, false);
    changed();
  }

  function changed() {
    const { view, mask, dialog } = state();
    view.soon();
    dialog.dataset.strokes = String(mask.strokes.length);
    redraw();
  }

  const back = () => on() && state().mask.undo() && (changed(), true);
  const again = () => on() && state().mask.redo() && (changed(), true);

  /* The picture has this size: so has the mask, and a brush fits it. */
  function fit(width, height) {
    const { mask, values } = state();
    mask.fit(width, height);
    if (!values.mask.size) { values.mask.size = Math.max(1, Math.round(Math.max(width, height) / 12)); if (on()) settings(); }
  }

  function key(event) {
    if (!on() || event.ctrlKey || event.metaKey || !'[]'.includes(event.key) || event.target.matches('input, textarea')) return false;
    event.preventDefault();
    const { values: { mask }, view } = state(), more = event.key === ']';
    mask.size = Math.max(1, Math.min(WIDEST, more ? Math.ceil(mask.size * 1.25) : Math.floor(mask.size * 0.8)));
    settings();
    view.soon();
    return true;
  }

  /* ---- below the settings of the tool */
  function panel() {
    const { mask } = state(), go = h('button.primary', { type: 'button', onclick: onward, hidden: true }, 'Go on with a model…'), note = h('p.soft', { role: 'status' });
    const act = (text, does, title) => h('button', { type: 'button', title, onclick: () => { does(); changed(); } }, text);
    window.studioGenerate.able(['edit', 'inpaint', 'instruct']).then(({ able, none }) => {
      go.hidden = !able;
      if (!able) note.append(none || 'No model here can change a picture: those there are only make new ones. Add one that can. ', h('button.tool', { type: 'button', onclick: () => { leave(); window.studioGenerate.settings(); } }, 'Open Settings'));
    }).catch(error => { if (!error.told) throw error; note.textContent = error.message; });
    return h('div.picture-panel', {}, h('div.picture-row', {}, h('button', { type: 'button', title: 'Enter', onclick: stroke }, 'Add to the mask'), act('Invert', () => mask.add({ invert: true }), 'What may change stays, and the other way round'), act('Clear', mask.clear, 'Redo brings it back')),
      go, note);
  }

  /* What was edited by hand so far becomes a picture of its own first: a model changes what is seen here. */
  async function onward() {
    if (standing()) stroke();
    const here = state(), { sha256, edits, mask, chip, back: focus } = here, data = mask.png();
    const { sha256: source } = edits.length ? await call('picture_apply', { sha256, edits }) : here;
    if (here !== state()) return;
    here.back = null;
    leave(source === sha256 ? null : { source, strokes: mask.strokes.slice() });
    window.studioGenerate.open({ source, mask: data, replaces: chip === null ? null : sha256, back: focus });
  }

  return { on, shape, standing, draft, over, stroke, back, again, fit, key, panel };
};
