"""What is around the judging: reload, help and the keys of the other screen, a phone, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_annotate import NAMES, annotate, keys, progress, siblings
from tests.browser.test_explore import contrast
from tests.conftest import Served, wait

pytestmark = pytest.mark.browser


def test_a_reload_keeps_the_queue_and_the_item(page: Page, served: Served) -> None:
    for question in ("One?", "Two?", "Three?"):
        siblings(served, 2, question)
    annotate(page, "local")
    keys(page, "1 Enter")
    progress(page, "1 of 3")
    shown = page.locator(".sides .body").all_inner_texts()
    page.reload()
    annotate(page)
    progress(page, "1 of 3")
    expect(page.locator(".sides .body")).to_have_text(shown)
    keys(page, "Control+z")  # what can be undone is kept too
    progress(page, "0 of 3")


def test_a_queue_of_only_some(page: Page, served: Served, tmp_path: Path) -> None:
    siblings(served, 3, "One?")
    served.studio.store.create_tree("empty", ["maps"])
    annotate(page, "rate")
    progress(page, "0 of 3")
    page.get_by_role("button", name="Another queue").press("Enter")
    page.locator(".only summary").press("Enter")
    page.get_by_label(NAMES[1]).press("Space")
    page.screenshot(path=tmp_path / "only.png")
    page.locator("#queue-start").press("Enter")
    progress(page, "0 of 1")
    expect(page.locator(".annotate-head")).to_contain_text("Unrated first, of those chosen")
    assert NAMES[1] not in page.locator(".annotate").inner_text()  # the head does not tell who is shown


def test_nothing_to_judge_is_said(page: Page) -> None:
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#queue-start").click()
    expect(page.locator(".toast.bad")).to_contain_text("There is nothing to judge here")
    expect(page.locator("#queue-start")).to_be_visible()


def test_help_lists_the_keys_and_explore_keeps_its_own(page: Page, served: Served) -> None:
    [a] = siblings(served, 1)
    annotate(page, "rate")
    page.keyboard.press("?")
    for does in ("the next dimension", "save and next", "0 is a tie"):
        expect(page.locator("dialog#shortcuts")).to_contain_text(does)
    keys(page, "3 Escape")
    expect(page.locator("dialog#shortcuts")).to_have_count(0)
    page.get_by_role("tab", name="Explore").click()
    page.evaluate("id => studio.open({node: id})", a)
    page.locator(".card.assistant .body").first.click()
    keys(page, "2 s")  # here S is a star, and 2 is a score
    wait(lambda: served.studio.store.node(a).starred)
    wait(lambda: served.studio.store.scores([a], "ann") == {a: {"L1": 2}})
    page.get_by_role("tab", name="Annotate").click()
    expect(page.locator(".level-row .chosen b")).to_have_text(["2"])  # and what was rated there is seen here
    progress(page, "0 of 1")
    keys(page, "1")
    wait(lambda: served.studio.store.scores([a], "ann") == {a: {"L1": 2, "L2": 1}})


@pytest.mark.parametrize("what", ["setup", "rate", "local"])
def test_on_a_phone_nothing_sticks_out(page: Page, served: Served, what: str) -> None:
    siblings(served, 3, "a_very_long_word_" * 20)
    page.set_viewport_size({"width": 390, "height": 844})
    if what == "setup":
        page.get_by_role("tab", name="Annotate").click()
        expect(page.locator("#queue-start")).to_be_visible()
    else:
        annotate(page, what)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = page.evaluate("[...document.querySelectorAll('.annotate *')].map(e => [e.className, e.getBoundingClientRect()]).filter(([, r]) => r.width && (r.left < -1 || r.right > 391)).map(([c]) => c)")  # fmt: skip
    assert boxes == []


WORDS = {
    "setup": [".annotate-setup h2", ".annotate-setup .soft", "#queue-what", "#queue-goal", ".guide summary", "#queue-start"],
    "rate": [".annotate-head .soft", ".level-row.next .soft", ".level-row .chosen", ".level-row.next button", ".saved-note"],
    "local": [".side[data-rank='1'] .side-pick", ".verdict", ".dimension-row .chosen", ".dimension-row button:not(.chosen)"],
}  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("what", list(WORDS))
def test_every_word_can_be_read(page: Page, served: Served, what: str, dark: bool) -> None:
    siblings(served, 2)
    page.evaluate(f"document.body.classList.toggle('dark', {str(dark).lower()})")
    if what == "setup":
        page.get_by_role("tab", name="Annotate").click()
    else:
        annotate(page, what)
        page.keyboard.press("2")
    for selector in WORDS[what]:
        expect(page.locator(selector).first).to_be_visible()
        wait(lambda s=selector: contrast(page, s) >= 4.5, 3, f"contrast of {selector}")  # colours fade in
