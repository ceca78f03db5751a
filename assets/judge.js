/* The Judge screen: the judges, what there is to learn from, training, and when to stop. Asks, and gives each part what it draws. */
'use strict';
(() => {
  const studio = window.studio, bars = window.studioJudge, form = window.studioJudgeForm;
  const { h, call, on, inLine } = studio;
  const QUIET = 4000;  // milliseconds that the screen is open with nothing going on before the labels are checked by themselves
  let root = null, now = null, timer = null, places = null, quiet = null;

  const act = (name, data) => inLine(async () => { now = await call(name, data); draw(); soon(); return now; }).catch(error => { if (!error.told) throw error; });

  async function load() {
    clearTimeout(timer);
    if (!root?.offsetParent) return;
    now = await call('judge');
    draw();
    if (!checkByItself()) soon();
  }

  /* The check before a training begins by itself: once the screen has been open for a while, nothing runs and no reply grows. */
  function checkByItself() {
    const free = form.byItself() && now.check.due && !now.missing.length && !now.note && !studio.state.following;
    if (quiet === Infinity) return false;
    if (!free) { quiet = null; return false; }
    quiet ??= performance.now();
    if (performance.now() - quiet < QUIET) return false;
    quiet = Infinity;  // once a page; after that "Check again"
    act('judge_check', form.values());
    return true;
  }

  function soon() {
    clearTimeout(timer);
    const works = [...now.jobs, now.learning.job, now.check.job].some(j => j?.status === 'running') || now.note;
    timer = setTimeout(() => load().catch(() => {}), works ? 1000 : 5000);
  }

  function options() {
    const check = h('input', { type: 'checkbox', checked: bars.blind(), onchange: e => { localStorage.setItem('studio-blind', e.target.checked ? 'yes' : 'no'); bars.refill(); studio.emit('changed'); } });
    const select = h('select', { ariaLabel: 'Colour of the tree map', onchange: e => { localStorage.setItem('studio-colour', e.target.value); studio.emit('changed'); } }, ...bars.codes.map(c => h('option', { value: c, selected: c === bars.colour() }, bars.name(c))));
    return h('div.judge-options', {}, h('label', {}, check, ' Blind: hide the judge until I have rated'), h('label', {}, 'The tree map shows ', select));
  }

  /* Only a section whose data changed is drawn again: what has the keyboard, is being typed or is open stays. */
  function draw() {
    if (!places) {
      places = Object.fromEntries(['judges', 'note', 'options', 'data', 'check', 'train', 'jobs', 'learn', 'panel'].map(name => [name, h(`div.judge-${name}`)]));
      places.note.setAttribute('role', 'status');
      root.replaceChildren(h('h2', {}, 'Judges'), places.judges, places.note, places.options, h('h2', {}, 'Training data'), places.data, places.check,
        h('h2', {}, 'Train a judge'), places.train, places.jobs, h('h2', {}, 'When to stop rating'), places.learn, places.panel);
    }
    section('judges', [now.judges, now.annotator], () => [window.studioJudgeVersions.table(now, act)]);
    section('data', [now.data, now.learning.next], () => [form.readiness(now)]);
    section('train', now.missing, () => [form.training(now, act)]);
    section('check', [now.check, now.missing, now.data.rows.length], () => form.check(now, act));
    section('jobs', now.jobs.slice(0, 4), () => now.jobs.slice(0, 4).map(j => window.studioJudgeJobs.job(j, act)));
    section('learn', [now.missing, now.learning], () => now.missing.length ? [] : [window.studioLearning.section(now.learning, act, form.value)]);
    form.sync(now);
    section('note', now.note, () => now.note ? [h('p.warn', {}, now.note)] : []);
    section('options', [bars.blind(), bars.colour()], () => [options()]);
    window.studioPanel.mount(places.panel);
  }

  function section(name, data, make) {
    const place = places[name], json = JSON.stringify(data);
    if (place.drawn === json) return;
    place.drawn = json;
    const at = [...place.querySelectorAll('button')].indexOf(document.activeElement);
    const open = [...place.querySelectorAll('details[open]')].map(d => d.dataset.fold).filter(Boolean);
    place.replaceChildren(...make());
    open.forEach(v => place.querySelector(`details[data-fold="${CSS.escape(v)}"]`)?.setAttribute('open', ''));
    place.querySelectorAll('button')[at]?.focus({ preventScroll: true });
  }

  on('part', name => {
    if (name !== 'judge') return;
    root = studio.parts.judge.querySelector('.judge');
    places = null;
    new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) load().catch(() => {}); }).observe(root);
  });
  on('changed', () => { if (root?.offsetParent) load().catch(() => {}); });
})();
