"""The pictures of the README, taken from the running program with the demo dialogue: ``make screenshots``.

Writes docs/*.png at 1440 x 900 and 390 x 844, light and dark.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from studio import teaching
from studio.demo import fill
from studio.livechoice import LiveChoice
from studio.media import Media
from studio.store import Store
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS

OUT = Path(__file__).resolve().parents[2] / "docs"
SIZES = {"wide": (1440, 900), "phone": (390, 844)}


def shoot(page: Page, name: str) -> None:
    """Save what the page shows; a moment first, since colours fade in."""
    page.wait_for_timeout(700)
    page.screenshot(path=OUT / f"{name}.png")
    print(OUT / f"{name}.png")


def explore(page: Page, size: str, scheme: str) -> None:
    """The demo dialogue, its first reply in focus; then two replies side by side."""
    page.wait_for_selector(".tree-open", state="attached")  # on a phone the list is another pane
    page.evaluate("studio.open({tree: document.querySelector('.tree-line').dataset.tree})")
    page.wait_for_selector(".card.assistant")
    page.evaluate("studio.open({node: studio.state.view.shared[1].siblings[0]})")  # the reply with pictures
    page.wait_for_selector(".card.assistant .picture img")
    page.wait_for_function(
        "!/Loading/.test(document.getElementById('judge-state')?.textContent || '')", timeout=120_000
    )
    page.wait_for_timeout(500)
    page.evaluate("document.querySelector('.transcript').scrollTop = 0")
    shoot(page, f"explore-{size}-{scheme}")
    if size == "wide":
        page.evaluate(
            "studio.open({lanes: studio.state.view.shared[1].siblings, node: studio.state.view.shared[1].id})"
        )
        page.wait_for_selector(".lane")
        shoot(page, f"side-by-side-{scheme}")
    else:
        page.locator(".pane-switch button", has_text="Tree").click()
        shoot(page, f"tree-{size}-{scheme}")
        page.locator(".pane-switch button", has_text="Chat").click()


def other_screens(page: Page, size: str, scheme: str) -> None:
    """The other screens."""
    for tab, ready in (
        ("Annotate", ".annotate-setup, .sides"),
        ("Judge", ".judge-form, .judge .problem"),
        ("Data", ".page:visible"),
        ("Settings", "#models-path"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(ready)
        if (
            tab == "Annotate" and page.locator("#queue-start").is_visible()
        ):  # the queue stays open for the pictures after it
            page.select_option("#queue-what", "local")
            page.click("#queue-start")
            page.wait_for_selector(".sides")
        shoot(page, f"{tab.lower()}-{size}-{scheme}")


def judged(home: Path, judge: Path) -> None:
    """The demo dialogue in a new home, scored by a trained judge (its folder), which is live."""
    fill(home)
    shutil.copytree(judge, home / "judges" / judge.name)
    store = Store(home)
    with closing(store):
        teaching.score(store, Media(home), judge.name, store.tree_ids(), lambda done, of, what: None)
        LiveChoice(store).choose(judge.name)


def main() -> None:
    """Start the studio with the demo dialogue, take every picture, end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=main.__doc__)
    parser.add_argument("--judge", type=Path, help="folder of a trained judge that is live in the pictures")
    judge = parser.parse_args().judge
    OUT.mkdir(exist_ok=True)
    if CHROMIUM is None:
        sys.exit("No Chromium found: apt install chromium, or set one on the PATH.")
    with tempfile.TemporaryDirectory() as home:
        if judge:
            judged(Path(home), judge)
        command = [
            sys.executable,
            "-u",
            "-m",
            *["studio.cli", "serve", "--no-browser", "--port", "0", "--home", home],
            *([] if judge else ["--demo"]),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served, sync_playwright() as playwright:
            assert served.stdout
            found = re.search(r"http://\S+", served.stdout.readline())
            assert found
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            for size, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                    page = context.new_page()
                    page.goto(found[0])
                    explore(page, size, scheme)
                    other_screens(page, size, scheme)
                    context.close()
            browser.close()
            served.terminate()


if __name__ == "__main__":
    main()
