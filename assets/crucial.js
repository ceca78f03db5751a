/* Crucial steps: the replies on which the dialogue turned, numbered along the path, each with its reason. K marks and unmarks. */
'use strict';
(() => {
  const studio = window.studio;
  const { drafts, keep, field, onKey } = window.studioFeedback;
  const { h, call, inLine, on, emit, toast } = studio;
  const article = id => studio.parts.transcript.querySelector(`.card[data-id="${id}"]`);
  const marked = card => card.steps.find(step => !step.earlier);
  const draftKey = card => drafts.key(card.leaf, card.id, 'reason');
  let presses = 0;             // of keys and the pointer: a field that opens late takes the keyboard from nobody
  for (const name of ['keydown', 'pointerdown']) document.addEventListener(name, () => { presses += 1; }, { passive: true, capture: true });

  async function toggle(card) {
    const pressed = presses;
    const why = !card ? 'Choose a reply first.' : card.role !== 'assistant' ? 'A crucial step is a reply, and that message is a question. Choose a reply.'
      : !card.leaf ? 'This reply belongs to several dialogues side by side. Press “Only this” above one, then mark it.' : '';
    if (why) return toast(why, { bad: true });
    const before = marked(card), reason = before ? null : card.steps[0]?.reason || '';  // a step of the shorter dialogue keeps its reason
    const answer = await inLine(() => call('step', { leaf: card.leaf, node: card.id, reason }));
    keep(answer.takes_back);
    if (before) drafts.drop(draftKey(card));
    toast(before ? 'No crucial step any more.' : 'Marked as a crucial step.', { action: studio.undo, label: 'Undo' });
    await studio.refresh();
    emit('rated', studio.card(card.id));
    if (!before && presses === pressed) article(card.id)?.querySelector('.crucial-reason textarea')?.focus();
  }

  function badge(step, lanes) {
    const lane = lanes > 1 ? `Lane ${step.lane + 1}: ` : '', title = step.earlier ? 'A crucial step of the shorter dialogue that this one grew from' : `Crucial step ${step.number}`;
    return h('span.crucial-badge', { title: `${lane}${title}${step.reason ? `: ${step.reason}` : ''}`, className: `crucial-badge${step.earlier ? ' earlier' : ''}` },
      h('span.hidden-text', {}, `${lane}${title} `), h('span', { ariaHidden: 'true' }, step.earlier ? '◇' : String(step.number)));
  }

  function reason(card) {
    const send = async text => {
      const answer = await call('step', { leaf: card.leaf, node: card.id, reason: text });
      Object.assign(marked(card), { reason: text });
      emit('rated', card);
      return answer;
    };
    const shown = field({ key: draftKey(card), name: 'Why it is crucial', label: 'Why this step is crucial', asks: 'What turned here?', saved: marked(card).reason, send });
    return h('div.crucial-reason', {}, shown);
  }

  /* Draw the badge, the button and the reason of a card, whatever was there before; a reason being typed stays. */
  function decorate(card) {
    const at = article(card.id), tools = at?.querySelector(':scope > header .tools');
    if (!tools || card.status === 'streaming') return;
    const now = card.leaf && marked(card), old = at.querySelector('.crucial-reason');
    at.querySelectorAll('.crucial-badge, .crucial-tool').forEach(e => e.remove());
    at.querySelector(':scope > header .who').append(...card.steps.map(step => badge(step, studio.state.view.lanes.length)));
    tools.append(h('button.tool.crucial-tool', { type: 'button', ariaPressed: String(Boolean(now)), title: now ? 'No crucial step any more (K)' : 'Mark as a crucial step of this dialogue (K)',
      onclick: () => toggle(studio.card(card.id)) }, 'Crucial'));
    if (now && old) return;
    old?.remove();
    if (now) at.querySelector(':scope > header').after(reason(card));
  }

  on('start', () => onKey('k', toggle));
  on('drawn', decorate);
  on('view', () => studio.cards().filter(c => c.role === 'assistant').forEach(decorate));  // a card that stays may have another number now
})();
