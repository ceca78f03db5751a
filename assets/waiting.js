/* Questions that wait for the reply above to end, under it: changed, taken back, asked at once. Theirs is the server's word alone. */
'use strict';
window.studioWaiting = (() => {
  const studio = window.studio;
  const { h, tool: button, call, on, state } = studio;
  const drawn = new Map();  // id -> {json, element}: an element that did not change stays, with what is typed in it
  const again = async () => { await studio.refresh(); studio.emit('changed'); };
  const act = async (name, data) => { try { return await call(name, data); } finally { await again(); } };

  async function take(row) {
    await act('waiting_take', { id: row.id });
    const box = document.querySelector('#message textarea');
    if (box && !box.value.trim() && !row.images.length && row.text.length <= 2000) studio.trigger('seed', { text: row.text });
  }

  async function now(row) {
    const { replies } = await act('waiting_ask', { id: row.id });
    if (!replies.length) return;
    const lanes = state.view.lanes.flatMap(lane => lane === row.reply ? replies : [lane]);
    await studio.open({ lanes, node: replies[0] });
    studio.emit('changed');
  }

  /* It is held while it is changed, and after that waits as it did before. */
  async function change(row) {
    const waits = row.state === 'waiting';
    await call('waiting_hold', { id: row.id });
    const article = drawn.get(row.id)?.element, body = article?.querySelector('.body');
    if (!body) return;
    const save = text => act('waiting_edit', { id: row.id, text, again: waits });
    const area = h('textarea', { value: row.text, rows: Math.min(16, row.text.split('\n').length + 1), ariaLabel: 'Change the question' });
    const close = () => { box.remove(); drawn.delete(row.id); };
    const box = h('div.editor', {}, area, h('div.editor-row', {}, h('button.primary', { onclick: async () => { await call('waiting_edit', { id: row.id, text: area.value, again: waits }); close(); await again(); } }, 'Save'),
      h('button', { onclick: () => { close(); save(row.text); } }, 'Cancel'), h('span.soft', {}, waits ? 'It is not asked while you change it.' : '')));
    area.addEventListener('keydown', event => { if (event.key === 'Escape') { event.stopPropagation(); close(); save(row.text); } });
    body.hidden = true;
    body.after(box);
    area.focus();
  }

  const whom = row => `${row.replies > 1 ? `${row.replies} replies of ` : ''}${row.models.join(', ')}`;

  function draw(row) {
    const held = row.state === 'held';
    return h(`article.card.user.waiting-card${held ? '.held' : ''}`, { 'data-waiting': row.id, ariaLabel: held ? 'Question that was not asked' : 'Question that waits' },
      h('header', {}, h('span.who', {}, h('i.circle'), 'Question', h('span.turn', {}, held ? 'not asked' : 'waits')), h('span.tools', {},
        held ? button('Ask now', 'Ask this question now', () => now(row)) : null, button('Edit', 'Change this question before it is asked', () => change(row)), button('Take back', 'Take this question back, unasked', () => take(row)))),
      h('div.body', {}, row.text ? h('div.markdown', { html: row.html }) : null, ...row.images.map(sha256 => h('img.waiting-picture', { src: `/thumb/${sha256}`, alt: 'picture of the question' }))),
      held ? h('p.problem', { role: 'alert' }, row.note) : h('footer.meta', {}, `Goes to ${whom(row)} as soon as the reply above is done.`));
  }

  /* What waits under a reply, as elements. */
  function under(reply) {
    return (state.view.waiting || []).filter(row => row.reply === reply).map(row => {
      const json = JSON.stringify(row), old = drawn.get(row.id);
      if (old && (old.json === json || old.element.querySelector('.editor'))) return old.element;
      const element = draw(row);
      drawn.set(row.id, { json, element });
      return element;
    });
  }

  on('view', ({ view }) => {
    const here = new Set((view.waiting || []).map(row => row.id));
    for (const id of drawn.keys()) if (!here.has(id)) drawn.delete(id);
  });
  return { under };
})();
