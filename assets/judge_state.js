/* What the live judge is doing, said above the composer: loading, scoring a backlog, or why it cannot. Silent when it is ready. */
'use strict';
(() => {
  const { h, on, call } = window.studio;
  let drawn = null, timer = null;

  const words = now => ['ready', 'off'].includes(now.state) ? '' : now.text || now.state;

  function draw(now) {
    const place = document.getElementById('judge-state'), text = now ? words(now) : '';
    const json = JSON.stringify([now, text]);
    if (!place || json === drawn) return;
    drawn = json;
    place.hidden = !text;
    place.classList.toggle('bad', now?.state === 'failed');
    place.replaceChildren(...text ? [text.includes(now.judge) ? '' : h('b', {}, `${now.judge}: `), text] : []);
  }

  /* While it loads or works, it is asked twice a second; the page's own poll does the rest. */
  async function look() {
    clearTimeout(timer);
    const { judge } = await call('poll', { tree: studio.state.view?.tree });
    draw(judge);
    if (judge && words(judge) && judge.state !== 'failed') timer = setTimeout(() => look().catch(() => {}), 500);
  }

  on('judge', draw);
  on('view', ({ view }) => { draw(view.judge_state); if (view.judge_state && words(view.judge_state)) look().catch(() => {}); });
  on('promoted', () => look().catch(() => {}));
})();
