/* What the live judge says of a reply: one line of small bars, expected score and how sure, in words for who cannot see them. */
'use strict';
window.studioJudge = (() => {
  const studio = window.studio;
  const { h, on, call, toast, state } = studio;
  const rubric = window.studioRubric;
  const local = ['overall', ...rubric.dimensions.filter(d => d.level === 'local').map(d => d.code)];
  const global = rubric.dimensions.filter(d => d.level === 'global').map(d => d.code);
  const ENOUGH = 50;           // labels below which a score says that it rests on few
  const UNSURE = 0.6;          // a spread in points of score from which a bar is grey
  const name = code => code === 'overall' ? 'Overall' : `${code} ${rubric.dimensions.find(d => d.code === code)?.name || ''}`;
  const blind = () => localStorage.getItem('studio-blind') === 'yes';
  const colour = () => localStorage.getItem('studio-colour') || 'overall';

  function bar(code, [value, spread]) {
    const share = x => `${Math.max(0, Math.min(1, x / 3)) * 100}%`;
    const n = state.view?.trained?.[code] || 0, few = n < ENOUGH;
    const text = `${name(code)}: ${value.toFixed(2)} of 3, give or take ${(spread || 0).toFixed(2)}; learned from ${n} labels${few ? ', too few to trust' : ''}`;
    const rests = event => window.studioClaim.show(code, name(code), `${value.toFixed(2)} of 3, give or take ${(spread || 0).toFixed(2)}.`, event.currentTarget);
    return h('button', { type: 'button', title: `${text}. Press for what it rests on`, onclick: rests, ariaHasPopup: 'dialog', className: `judge-bar${spread > UNSURE ? ' unsure' : ''}${few ? ' few' : ''}` },
      h('span.judge-code', { ariaHidden: 'true' }, code === 'overall' ? 'all' : code),
      h('span.judge-track', { ariaHidden: 'true' }, h('span.judge-fill', { style: `width:${share(value)}` }),
        h('span.judge-whisker', { style: `left:${share(value - (spread || 0))};width:calc(${share(value + (spread || 0))} - ${share(value - (spread || 0))})` })),
      h('span.judge-number', {}, value.toFixed(1), few ? '?' : ''), h('span.hidden-text', {}, ` ${text}`));
  }

  /* In blind mode the judge waits: for L1-L4 with what it says of the reply, for G1-G5 with what it says of the dialogue. */
  const voted = (card, codes = local.slice(1)) => !blind() || codes.every(c => c in card.scores);

  /* The line for a card. */
  function block(card) {
    const box = h('div.judge-line', { 'data-judge': card.id, ariaLabel: 'What the judge says' });
    fill(box, card);
    return box;
  }

  function fill(box, card) {
    const said = card.judge;
    box.hidden = !said;
    if (!said) return box.replaceChildren();
    if (!voted(card)) return box.replaceChildren(h('span.soft', {}, 'The judge waits until you have rated this reply.'));
    const codes = [...local, ...(card.end && voted(card, global) ? global : [])].filter(c => said[c]), at = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(h('span.judge-name', { title: 'Expected scores by the live judge; grey means unsure' }, 'Judge'), ...codes.map(c => bar(c, said[c])));
    if (at >= 0) box.children[at]?.focus({ preventScroll: true });  // a score that grows keeps the keyboard
  }

  function refill() {
    for (const card of studio.cards()) document.querySelectorAll(`[data-judge="${card.id}"]`).forEach(box => fill(box, card));
    rank();
  }

  /* Siblings side by side: which one leads now. One rank would tell the others, so all lanes must have been rated. */
  function rank() {
    if (!state.view || state.view.columns.length < 2) return;
    const firsts = state.view.columns.map(column => column.find(c => c.role === 'assistant'));
    const scores = firsts.map(c => c?.judge?.overall?.[0] ?? null);
    const order = scores.filter(s => s !== null).sort((a, b) => b - a);
    const hide = firsts.some(c => c && !voted(c));
    document.querySelectorAll('.lane').forEach((lane, i) => {
      const head = lane.querySelector('.lane-head b');
      if (head) head.textContent = scores[i] === null || hide ? `Lane ${i + 1}` : `Lane ${i + 1} · judge’s ${order.indexOf(scores[i]) + 1} of ${order.length}`;
    });
  }

  /* Colours for the map; nothing that is still hidden is told. A dimension that the judge has not learned has no colour,
     and its first one stands for an overall that it has not learned. */
  function paint(nodes) {
    const code = colour(), hidden = node => blind() && ((node.coverage || 0) < 1 || global.includes(code));
    const score = said => said[code] ?? (code === 'overall' ? Object.values(said)[0] : null) ?? null;
    for (const node of nodes) node.score = node.judge && !hidden(node) ? score(node.judge) : null;
    return nodes;
  }

  async function find(what) {
    if (!state.view?.tree) return;
    if (blind() && ['best', 'worst'].includes(what)) return toast('Blind mode hides what the judge likes. Switch it off on the Judge screen.');
    const found = await call('judge_find', { tree: state.view.tree, what });
    await studio.open({ node: found.node });
    toast(`This is ${found.what}.`);
  }

  on('grow', reply => {
    const card = studio.card(reply.id);
    if (!card || !reply.judge) return;
    card.judge = reply.judge;
    document.querySelectorAll(`[data-judge="${card.id}"]`).forEach(box => fill(box, card));
    rank();
  });
  on('rated', card => {
    const shown = studio.card(card.id);  // a refresh may have put another object in its place while the score was on its way
    if (shown) shown.scores = card.scores;
    refill();
  });
  on('view', () => queueMicrotask(rank));
  return { block, paint, find, refill, blind, colour, name, codes: [...local, ...global] };
})();
