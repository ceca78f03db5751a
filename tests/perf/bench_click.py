"""A click on a node to its painted path: a tree of 5,000 nodes against one of 50, paths equally deep, in a real browser."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from studio.store import Store
from studio.tree import Part, Role
from tests.perf import Row, compare
from tests.perf.makings import chromium, page_of

LARGE, SMALL = 5_000, 50
TURNS = 6
CLICKS, WARM_UP = 40, 5
WORDS = "the light falls on the far side of the hill and **nobody** knows why it stays there so long " * 4

# a node in view, off the path that is shown, whose own place answers a click with itself
PICK = """leaves => {
  for (const id of leaves) {
    const at = studio.card(id) ? null : studio.map.positionOf(id);
    const clickable = at && document.elementFromPoint(at.x, at.y)?.matches('.map-canvas');
    if (clickable && studio.map.nodeAt(at.x, at.y) === id) return { id, ...at };
  }
}"""
# from the release of the button to the second frame after the transcript shows the node in focus
ARM = """id => {
  window.clicked = new Promise(done => addEventListener('pointerup', event => {
    const shown = () => document.querySelector(`.transcript .card.focus[data-id="${id}"]`);
    const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - event.timeStamp)));
    const watch = new MutationObserver(() => { if (shown()) { watch.disconnect(); painted(); } });
    watch.observe(document.querySelector('.transcript'), { subtree: true, childList: true, attributeFilter: ['class'] });
  }, { capture: true, once: true }));
}"""


def measure() -> list[Row]:
    """One row: milliseconds from click to painted path, a click in each tree in turn, both maps fitted to the whole tree."""
    with ExitStack() as stack:
        browser = chromium(stack)
        large, small = (_opened(stack, browser, count) for count in (LARGE, SMALL))
        times: tuple[list[float], list[float]] = ([], [])
        for i in range(CLICKS + WARM_UP):
            for side in (0, 1) if i % 2 else (1, 0):
                times[side].append(_click(*(large, small)[side]))
        drawn = large[0].evaluate("studio.map.stats()")
    said = f"{{ours:.0f}} ms / {{peer:.0f}} ms; the large map draws {drawn['drawn_nodes']} nodes in {drawn['last_draw_ms']:.1f} ms"
    name = f"click to painted path, {LARGE:,} / {SMALL} nodes"
    return [compare(name, times[0][WARM_UP:], times[1][WARM_UP:], "<= 1.5", said)]


def grow(home: Path, count: int) -> list[str]:
    """A tree of ``count`` nodes in ``home``: each dialogue leaves an earlier one at any node and goes on to the last turn.

    Returns the last replies of all dialogues that got there.
    """
    pick, made = random.Random(5), 0
    paths: list[list[str]] = [[]]
    store = Store(home)
    with store.write():
        tree = store.create_tree("A tree to click in")
        while made < count:
            path = pick.choice(paths)
            path = path[: pick.randrange(1, 2 * TURNS)] if path else []
            while len(path) < 2 * TURNS and made < count:
                role: Role = "assistant" if len(path) % 2 else "user"
                text = f"Turn {len(path) // 2 + 1}: {WORDS}"
                path = [*path, store.add_node(tree, path[-1] if path else None, role, [Part("text", text)], model="m")]
                made += 1
            paths = [p for p in [*paths, path] if p]
    store.close()
    return [p[-1] for p in paths if len(p) == 2 * TURNS]


def _opened(stack: ExitStack, browser: Any, count: int) -> tuple[Any, list[str]]:
    """A page that shows the tree, and the leaves to click on, shuffled."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    leaves = grow(home, count)
    random.Random(6).shuffle(leaves)
    page = page_of(stack, browser, home, f"&lanes={leaves[-1]}")
    page.wait_for_function(
        f"() => document.querySelectorAll('.transcript .card').length === {2 * TURNS}", timeout=60_000
    )
    page.wait_for_function("() => window.studio?.map?.stats().drawn_nodes > 0", timeout=60_000)
    page.evaluate("studio.map.fit()")
    return page, leaves


def _click(page: Any, leaves: list[str]) -> float:
    page.bring_to_front()
    at = page.evaluate(PICK, leaves)
    assert at, "no node of the map can be clicked"
    leaves.append(leaves.pop(leaves.index(at["id"])))  # last in line next time
    page.evaluate(ARM, at["id"])
    page.mouse.click(at["x"], at["y"])
    milliseconds: float = page.evaluate("clicked")
    assert len(page.query_selector_all(".transcript .card")) == 2 * TURNS
    page.wait_for_timeout(300)  # the inspector's own question comes later, and is no part of this
    return milliseconds
