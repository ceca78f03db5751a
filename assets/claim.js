/* What a score rests on, one click away: the judge, its labels, its accuracy on unseen dialogues with n, interval and baselines. */
'use strict';
window.studioClaim = (() => {
  const studio = window.studio;
  const { h, call } = studio;
  const percent = x => `${(100 * x).toFixed(1)} %`, points = x => x.toFixed(2);
  const many = (n, one, some) => `${n} ${n === 1 ? one : some}`;
  let shown = null;

  /* ``figure``: {n, trees, apart, interval, note, beside} of pairs or of scores; ``value`` what was reached, in ``unit`` words. */
  function measured(figure, value, unit, says, of) {
    const between = figure.interval ? `95 % interval ${unit(figure.interval[0])} to ${unit(figure.interval[1])}` : 'no interval';
    const beside = Object.entries(figure.beside).map(([name, x]) => `${name} ${unit(x)}`).join(', ');
    return h('div.claim-figure', {}, h('p', {}, h('b', {}, `${unit(value)} `), says), h('p', {}, `n ${figure.n} ${of} of ${many(figure.trees, 'unseen dialogue', 'unseen dialogues')}; ${between}.`),
      figure.note ? h('p.soft', {}, `Note: ${figure.note}.`) : null, beside ? h('p', {}, `Baselines: ${beside}.`) : null,
      figure.apart ? null : h('p.soft', {}, 'Of all its dimensions together: they were not kept apart.'));
  }

  function lines(told, name, score) {
    const few = told.labels < told.enough;
    return [h('h3', {}, name), h('p', {}, score), h('p', {}, 'Judge ', h('b', {}, told.judge), `, which learned this from ${many(told.labels, 'label', 'labels')}${told.derived_labels ? ` and ${many(told.derived_labels, 'pair', 'pairs')} derived from scores` : ''}. `,
      few ? h('span.claim-few', {}, `That is below ${told.enough}: too few to trust.`) : null, told.since ? ` ${many(told.since, 'label is', 'labels are')} newer than it.` : null),
    told.pairs ? measured(told.pairs, told.pairs.accuracy, percent, 'of comparisons decided as people did', 'comparisons') : null,
    told.pairs && told.verdict.says ? h(`p.judge-verdict.${told.verdict.kind}`, {}, told.verdict.says) : null,
    told.derived ? measured(told.derived, told.derived.accuracy, percent, 'of pairs derived from scores put in their order', 'pairs') : null,
    told.scores ? measured(told.scores, told.scores.error, points, 'points of score away from people, on average', 'scores') : null,
    told.untested ? h('p.claim-few', {}, told.untested) : null].filter(Boolean);
  }

  /* Beside the score that was pressed, or over it where there is no room below. */
  function place(box, at) {
    const from = at.getBoundingClientRect(), width = box.offsetWidth, height = box.offsetHeight;
    const below = from.bottom + 6 + height <= innerHeight;
    box.style.left = `${Math.max(8, Math.min(from.left, innerWidth - width - 8))}px`;
    box.style.top = `${Math.max(8, below ? from.bottom + 6 : from.top - height - 6)}px`;
  }

  async function show(code, name, score, at) {
    const told = await call('judge_about', { dimension: code }).catch(error => { if (!error.told) throw error; });
    if (!told) return;
    shown?.remove();
    const close = () => { box.hidePopover(); };
    const box = shown = h('div.claim', { popover: 'auto', role: 'dialog', ariaLabel: `What ${name} rests on`,
      onkeydown: event => event.stopPropagation(),  // keys of the page rate and stop: here they only close
      ontoggle: event => { if (event.newState === 'closed') { box.remove(); if (at.isConnected && (!document.activeElement || document.activeElement === document.body)) at.focus(); } } },
    h('button.close', { type: 'button', autofocus: true, ariaLabel: 'Close', onclick: close }, '×'), ...lines(told, name, score));
    document.body.append(box);
    box.showPopover();
    place(box, at);
  }

  return { show };
})();
