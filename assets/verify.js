/* The second look at what is rated: the form that opens it, what an item says beside its rows, and the three keys that end it.
   Draws and asks; annotate.js holds the item. First scores come from the server only after the own ones are in. */
'use strict';
window.studioVerify = (() => {
  const { h, call, toast, inLine } = window.studio;
  const rubric = window.studioRubric;
  const named = code => { const d = rubric.dimensions.find(one => one.code === code); return `${code} ${d ? d.name : ''}`; };
  const many = (n, one, more) => `${n} ${n === 1 ? one : more}`;
  const keys = { a: 'agreed', c: 'corrected' };
  let returning = false;

  /* ---- the set-up: ``open(act)`` takes the state that act() brings and leaves the form */
  function setup(open) {
    const box = h('section.verify-setup', { ariaLabel: 'Look again' }, h('h3', {}, 'Look again'), h('p.soft', {}, 'Counting what is rated…'));
    const plan = (rule, more = {}) => open(() => call('verify_plan', { rule, ...more }));
    call('verify').then(found => {
      const share = h('input', { type: 'number', id: 'second-share', min: 5, max: 100, value: 10, ariaLabel: 'Per cent of what is rated' });
      box.replaceChildren(h('h3', {}, 'Look again'),
        h('p.soft', {}, found.rated ? `${many(found.rated, 'reply is', 'replies are')} rated in full; ${found.left} of them without a second pass by ${found.annotator}.` : 'A second pass needs replies with all of L1 to L4, or dialogues with all of G1 to G5.'),
        h('div.verify-line', {}, h('label', {}, 'Second pass over ', share, ' % of what is rated'), h('button', { id: 'second-start', disabled: !found.left, onclick: () => plan('second', { share: Number(share.value) }) }, 'Start second pass')),
        h('p.soft', {}, 'Drawn at random and blind: you see the first scores when yours are in.'),
        h('div.verify-line', {}, h('button', { id: 'returned-start', disabled: !found.returned, onclick: () => plan('returned') }, `Returned items (${found.returned})`),
          h('button', { id: 'conflicts-start', disabled: !found.conflicts, onclick: () => plan('conflicts') }, `Scores of two people ${found.gap} or more apart (${found.conflicts})`)));
    }).catch(error => { box.querySelector('p').textContent = 'This could not be counted.'; if (!error.told) throw error; });
    return box;
  }

  /* ---- one item */
  const deciding = item => item?.pass?.stage === 'decide';
  const codes = item => item.pass?.dimensions;

  function decide(item, open, seconds, verdict, reason = '') {
    open(async () => { const state = await call('verify_decide', { item: item.id, verdict, reason, seconds: seconds() }); returning = false; return state; });
  }

  function side(item, mine) {
    const { first, differ, who } = item.pass;
    return h('table.both', {}, h('tr', {}, ...['', 'You', who].map(t => h('th', {}, t))),
      ...Object.entries(first).map(([code, value]) => h(differ.includes(code) ? 'tr.differ' : 'tr', {}, h('th', {}, named(code)), h('td', {}, String(mine[code])), h('td', {}, String(value)))));
  }

  function reasonField(item, open, seconds) {
    const area = h('textarea', { rows: 2, ariaLabel: 'Why it goes back', placeholder: 'Why? One line in words; Enter returns it, Esc does not' });
    const send = () => area.value.trim() ? decide(item, open, seconds, 'returned', area.value) : toast('Say why it goes back: a line in words.');
    area.addEventListener('keydown', event => {
      if (event.isComposing) return;
      if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); event.stopPropagation(); send(); }
      if (event.key === 'Escape') { event.stopPropagation(); returning = false; area.closest('.verdicts').replaceWith(verdicts(item, open, seconds)); }
    });
    return h('div.verdicts', {}, area, h('button.primary', { onclick: send }, 'Return ⏎'));
  }

  function verdicts(item, open, seconds) {
    if (returning === item.id) return reasonField(item, open, seconds);
    const same = !item.pass.differ.length;
    const give = verdict => () => decide(item, open, seconds, verdict);
    return h('div.verdicts', {}, same ? h('button.primary', { onclick: give('agreed') }, h('kbd', {}, 'A'), ' Agree')
      : h('button.primary', { onclick: give('corrected'), title: 'Your scores stand as the second round' }, h('kbd', {}, 'C'), ' Correct'),
    h('button', { onclick: () => ask(item, open, seconds) }, h('kbd', {}, 'R'), ' Return'));
  }

  function ask(item, open, seconds) {
    returning = item.id;
    document.querySelector('.annotate .verdicts')?.replaceWith(verdicts(item, open, seconds));
    document.querySelector('.annotate .verdicts textarea')?.focus();
  }

  /* What stands above the rows: nothing for an item of the ordinary queues. */
  function panel(item, mine, open, seconds) {
    const pass = item.pass;
    if (!pass) return null;
    if (pass.rule === 'returned') return h('div.verify-note', {}, ...pass.reasons.map(r => h('p', {}, h('b', {}, `${r.who} returned it: `), r.text)), h('p.soft', {}, 'Change your scores or leave them, then go on.'));
    if (pass.rule === 'conflicts') return h('div.verify-note', {}, pass.differ.length ? h('p', {}, 'People differ on ', h('b', {}, pass.differ.map(named).join(', ')), '. Score it as you see it now.') : h('p', {}, 'Nobody differs here any more.'));
    if (!deciding(item)) return h('div.verify-note', {}, h('p.soft', {}, 'Blind: score it, then Enter compares with the first scores.'));
    const same = !pass.differ.length;
    return h('div.verify-note', {}, h('p', { role: 'status' }, same ? 'You gave the same scores.' : `You differ on ${pass.differ.join(', ')}.`), side(item, mine), verdicts(item, open, seconds));
  }

  /* A key of the decision; true when it was one. */
  function pressed(event, item, open, seconds) {
    const key = event.key.toLowerCase();
    if (key === 'r') ask(item, open, seconds);
    else if (key in keys) decide(item, open, seconds, keys[key]);
    else if (key.length === 1 && '-0123456789'.includes(key)) toast('You have seen the first scores: yours stay as you gave them.');
    else return false;
    return true;
  }

  const tally = queue => queue.verdicts ? Object.entries(queue.verdicts).map(([verdict, n]) => `${n} ${verdict}`).join(', ') : '';

  function guidelines() {
    const open = h('button', { type: 'button', onclick: () => inLine(async () => { open.replaceWith(h('div.markdown.guidelines', { html: (await call('guidelines')).html })); }) }, 'Guidelines with an example of each dimension');
    return open;
  }

  return { setup, panel, pressed, deciding, codes, tally, guidelines };
})();
