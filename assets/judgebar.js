/* What the live judge says of a reply: one line of small bars, expected score and how sure, in words for who cannot see them. */
'use strict';
window.studioJudge = (() => {
  const studio = window.studio;
  const { h, on, call, toast, state } = studio;
  const rubric = window.studioRubric;
  const local = ['overall', ...rubric.dimensions.filter(d => d.level === 'local').map(d => d.code)];
  const global = ['overall_global', ...rubric.dimensions.filter(d => d.level === 'global').map(d => d.code)];
  const ENOUGH = 50;           // labels of people below which a score says that it rests on few
  const UNSURE = 0.2;          // a spread, as a share of the row's scale, from which a bar is grey
  const OVERALL = { overall: 'Overall', overall_global: 'Overall (dialogue)' };
  const name = code => OVERALL[code] || `${code} ${rubric.dimensions.find(d => d.code === code)?.name || ''}`;
  const short = code => OVERALL[code] || code;
  const blind = () => localStorage.getItem('studio-blind') === 'yes';
  const colour = () => localStorage.getItem('studio-colour') || 'overall';
  const percent = x => `${Math.round(100 * x)} %`;
  const ordinal = n => `${n}${n % 10 === 1 && n % 100 !== 11 ? 'st' : n % 10 === 2 && n % 100 !== 12 ? 'nd' : n % 10 === 3 && n % 100 !== 13 ? 'rd' : 'th'}`;
  const many = (n, one) => `${n} ${one}${n === 1 ? '' : 's'}`;

  /* What a row says, in words: on its own scale where it learned from scores, else a rank among siblings. */
  function says(score) {
    const words = [];
    const between = score.spread ? ` ± ${score.spread.toFixed(2)}` : '';
    if (score.value !== undefined) words.push(`${score.value.toFixed(2)}${between} of ${score.low} to ${score.high}`);
    if (score.rank) words.push(`${ordinal(score.rank)} of ${score.of}`);
    if (score.win !== undefined) words.push(`preferred over the ${score.of > 2 ? 'others' : 'other'} in ${percent(score.win)}, tie ${percent(score.tie)}`);
    if (score.lead_spread !== null && score.lead_spread !== undefined) {
      const lead = `${Math.abs(score.lead).toFixed(2)} ± ${score.lead_spread.toFixed(2)}`;
      words.push(`${lead} ${score.lead < 0 ? 'below' : 'above'} the best other`);
    }
    if (!words.length) words.push('no sibling to compare with');
    return words.join('; ') + (score.stale ? ' (from before its picture was filled in; it is scored again)' : '');
  }

  /* What a row learned from: labels of people; pairs derived from scores are told apart and make nothing sure. */
  function rests(code, facts) {
    const n = facts?.trained?.[code] || 0, pairs = facts?.derived?.[code] || 0;
    const derived = pairs ? ` and ${many(pairs, 'pair')} derived from scores` : '';
    return { few: n < ENOUGH, words: `learned from ${many(n, 'label')}${derived}${n < ENOUGH ? ', too few to trust' : ''}` };
  }

  /* The number of a bar: a score, or a rank and the share of siblings it is preferred over. */
  const number = score => score.value !== undefined ? score.value.toFixed(1)
    : score.rank ? `${ordinal(score.rank)} of ${score.of}${score.win === undefined ? '' : ` · ${percent(score.win)}`}` : '–';

  function bar(code, score, facts) {
    const { few, words } = rests(code, facts), on = score.value !== undefined;
    const at = x => `${Math.max(0, Math.min(1, x)) * 100}%`, span = score.high - score.low;
    const [from, to] = on ? [-1, 1].map(s => (score.value + s * (score.spread || 0) - score.low) / span) : [0, 0];
    const text = `${name(code)}: ${says(score)}; ${words}`;
    const show = event => window.studioClaim.show(code, name(code), `${says(score)}.`, event.currentTarget);
    const unsure = on ? score.spread > UNSURE * span : score.lead_spread > Math.abs(score.lead);
    const kind = [unsure && 'unsure', few && 'few', score.stale && 'stale', !on && 'ranked'].filter(Boolean).join(' ');
    return h('button', { type: 'button', title: `${text}. Press for what it rests on`, onclick: show, ariaHasPopup: 'dialog', className: `judge-bar ${kind}` },
      h('span.judge-code', { ariaHidden: 'true' }, short(code)),
      score.share === undefined ? null : h('span.judge-track', { ariaHidden: 'true' }, h('span.judge-fill', { style: `width:${at(score.share)}` }),
        on && score.spread ? h('span.judge-whisker', { style: `left:${at(from)};width:calc(${at(to)} - ${at(from)})` }) : null),
      h('span.judge-number', {}, number(score), few ? '?' : '', score.stale ? ' ↻' : ''), h('span.hidden-text', {}, ` ${text}`));
  }

  /* In blind mode the judge waits: for L1-L4 with what it says of the reply, for G1-G5 with what it says of the dialogue. */
  const voted = (card, codes = local.slice(1)) => !blind() || codes.every(c => c in card.scores);

  /* The line for a card. */
  function block(card) {
    const box = h('div.judge-line', { 'data-judge': card.id, ariaLabel: 'What the judge says' });
    fill(box, card);
    return box;
  }

  const known = score => score && (score.value !== undefined || score.rank);  // else there is nothing to say of it yet
  const last = new Map();  // by reply: what was read while it was written, until the whole of it is read
  let unread = {};  // by reply: why the live judge cannot read it
  function fill(box, card) {
    if (card.judge && card.status !== 'streaming' && !card.grown) last.delete(card.id);
    const said = card.judge || (state.view?.judge && !unread[card.id] && last.get(card.id)) || null;
    box.hidden = !said && !unread[card.id];
    box.classList.toggle('earlier', Boolean(said && !card.judge));
    if (!said && unread[card.id]) return box.replaceChildren(h('span.soft', {}, h('b', {}, `${state.view.judge}: `), `Not scored. ${unread[card.id]}`));
    if (!said) return box.replaceChildren();
    if (!voted(card)) return box.replaceChildren(h('span.soft', {}, 'The judge waits until you have rated this reply.'));
    const codes = [...local, ...(card.end && voted(card, global.slice(1)) ? global : [])].filter(c => known(said[c])), at = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(h('span.judge-name', { title: `What the live judge ${state.view?.judge || ''} says${card.judge ? '' : ', read while the reply was written'}; grey means unsure` }, state.view?.judge || 'Judge'), ...codes.map(c => bar(c, said[c], state.view)),
      ...codes.length ? [] : [h('span.soft', {}, 'learned from comparisons alone: it ranks replies once there are two')]);
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
    const ranks = firsts.map(c => (c?.judge || last.get(c?.id))?.overall ?? null);
    const hide = firsts.some(c => c && !voted(c));
    document.querySelectorAll('.lane').forEach((lane, i) => {
      const head = lane.querySelector('.lane-head b');
      if (head) head.textContent = !ranks[i]?.rank || hide ? `Lane ${i + 1}` : `Lane ${i + 1} · ${state.view.judge}: ${ordinal(ranks[i].rank)} of ${ranks[i].of}`;
    });
  }

  /* Colours for the map; nothing that is still hidden is told. A dimension that the judge has not learned has no colour,
     and its first one stands for an overall that it has not learned. */
  const shown = (judge, code) => judge[code] ?? (code === 'overall' ? Object.values(judge)[0] : null) ?? null;
  const hides = (code, coverage) => blind() && ((coverage || 0) < 1 || global.includes(code));

  /* What was read of a reply while it was written, as the map has it; until the whole of it is read. */
  function grown(id) {
    const brief = one => [one.share ?? null, one.value ?? null, one.rank ?? null, one.of ?? null, one.win ?? null];
    const rows = Object.entries(last.get(id) || {}).map(([code, one]) => [code, brief(one)]);
    return rows.length ? Object.fromEntries(rows) : null;
  }

  /* ``judge`` of a node for the map, by row: [share, value, rank, of, win]. */
  function paint(nodes) {
    const code = colour();
    for (const node of nodes) {
      const judge = node.judge || grown(node.id);
      const row = judge && !hides(code, node.coverage) ? shown(judge, code) : null;
      [node.score, node.said] = row ? [row[0], words(row)] : [null, null];
    }
    return nodes;
  }

  const words = ([, value, rank, of, win]) => {
    if (value !== null) return `${value.toFixed(1)}${rank ? `, ${ordinal(rank)} of ${of}` : ''}`;
    if (!rank) return 'no sibling to compare with';
    return `${ordinal(rank)} of ${of}${win === null ? '' : `, preferred in ${percent(win)}`}`;
  };

  /* What the two ends of the map's colours mean: the ends of the row's own scale, or last and first among siblings. */
  function ends() {
    const code = colour(), known = rubric.dimensions.find(d => d.code === code);
    if (!state.view?.scored?.[code]) return ['last', 'first'];
    return known ? [String(known.values[0]), String(known.values[known.values.length - 1])] : ['0', '3'];
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
    const said = Object.keys(reply.judge).length > 0;  // nothing is said of a reply that has outgrown the judge
    card.judge = said ? reply.judge : null;
    card.grown = said;  // of its words until now
    if (said) last.set(card.id, reply.judge); else last.delete(card.id);
    grew(card);
    document.querySelectorAll(`[data-judge="${card.id}"]`).forEach(box => fill(box, card));
    rank();
  });
  /* The map's node of a reply takes its colour while the reply is written. */
  function grew(card) {
    const node = { id: card.id, coverage: Object.keys(card.scores || {}).length / 4 };
    paint([node]);
    if (node.said || !card.judge) studio.map?.colour(card.id, node.score, node.said);
  }

  on('rated', card => {
    const shown = studio.card(card.id);  // a refresh may have put another object in its place while the score was on its way
    if (shown) shown.scores = card.scores;
    refill();
  });
  /* Replies that cannot be read are named on their cards, as soon as that is known. */
  function nameUnread(now) {
    const next = now?.unread || {}, touched = [...Object.keys(unread), ...Object.keys(next)].filter(id => unread[id] !== next[id]);
    unread = next;
    for (const id of new Set(touched)) if (studio.card(id)) document.querySelectorAll(`[data-judge="${id}"]`).forEach(box => fill(box, studio.card(id)));
  }
  on('judge', nameUnread);
  on('view', ({ view }) => { nameUnread(view.judge_state); queueMicrotask(rank); });
  return { block, paint, ends, find, refill, blind, colour, name, short, says, number, rests, bar, codes: [...local, ...global] };
})();
