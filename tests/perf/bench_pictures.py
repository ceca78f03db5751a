"""The next thing to judge when it is four replies with 12-megapixel photographs, against four pictures of a screen's width."""

from __future__ import annotations

import io
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from studio import annotating, config
from studio.actions import Studio
from studio.tree import Part
from tests.perf import Row, compare
from tests.perf.makings import chromium, page_of

LARGE, SMALL = (4000, 3000), (1024, 768)
ITEMS, WARM_UP, SIDES = 12, 2, 4
READ_MS = 2000  # what a person at least needs for four pictures; the next ones are fetched meanwhile

# from Enter to the second frame after every picture of the next item is there to be drawn
ARM = """() => { window.next = new Promise(done => addEventListener('keydown', event => {
  if (event.key !== 'Enter') return;
  const before = document.querySelector('.sides');
  const look = async () => {
    const sides = document.querySelector('.sides');
    if (!sides || sides === before) return requestAnimationFrame(look);
    await Promise.all([...sides.querySelectorAll('img')].map(i => i.decode()));
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - event.timeStamp)));
  };
  look();
}, true)); }"""


def measure() -> list[Row]:
    """One row: milliseconds from "save and next" to four painted pictures, an item of each kind in turn."""
    with ExitStack() as stack:
        browser = chromium(stack)
        pages = [_opened(stack, browser, size) for size in (LARGE, SMALL)]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ITEMS - 1):
            for side in (0, 1):
                times[side].append(_next(pages[side]))
    name = f"next item with {SIDES} pictures of 12 megapixels / of {SMALL[0]} x {SMALL[1]}"
    return [compare(name, times[0][WARM_UP:], times[1][WARM_UP:], "<= 1.5", "{ours:.0f} ms / {peer:.0f} ms")]


def _opened(stack: ExitStack, browser: Any, size: tuple[int, int]) -> Any:
    """A page with a queue of comparisons of four replies, each with a picture of its own."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    studio = Studio.open(config.load(home))
    rng = random.Random(size[0])
    for i in range(ITEMS):
        tree = studio.store.create_tree(f"Pictures {i}")
        asked = studio.store.add_node(tree, None, "user", [Part("text", "Draw it.")])
        for side in range(SIDES):
            kept = studio.media.add(_photograph(size, rng))
            studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
            studio.store.add_node(tree, asked, "assistant", [Part("image", image_sha256=kept.sha256)], model=f"m{side}")
    annotating.plan(studio, "local", "random", ITEMS, seed=1)
    studio.close()
    page = page_of(stack, browser, home)
    page.get_by_role("tab", name="Annotate").click()
    page.wait_for_selector(".sides img", timeout=60_000)
    return page


def _photograph(size: tuple[int, int], rng: random.Random) -> bytes:
    """A JPEG with as much detail as a photograph has."""
    coarse = Image.frombytes("RGB", (size[0] // 8, size[1] // 8), rng.randbytes(size[0] // 8 * (size[1] // 8) * 3))
    out = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=88)
    return out.getvalue()


def _next(page: Any) -> float:
    page.bring_to_front()
    page.wait_for_timeout(READ_MS)
    page.keyboard.press("1")
    page.keyboard.press("0")  # the others are a tie
    page.evaluate(ARM)
    page.keyboard.press("Enter")
    milliseconds: float = page.evaluate("next")
    return milliseconds
