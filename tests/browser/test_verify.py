"""The second look in a real browser: blind, one key each, returned items, conflicts; and an own dimension on both screens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from judge import rubric
from studio import exchange
from studio.actions import Studio
from studio.config import load_rubric
from tests.browser.test_annotate import keys, progress
from tests.browser.test_explore import contrast
from tests.conftest import Served, plant, wait
from tests.test_rubric import TONE, write
from tests.test_verification import rated

pytestmark = pytest.mark.browser


@pytest.fixture
def studio(studio: Studio) -> Iterator[Studio]:
    """No test leaves its own dimensions to the next."""
    yield studio
    rubric.load_own(None)


def go(page: Page) -> None:
    page.get_by_role("tab", name="Annotate").click()
    expect(page.locator("#second-start")).to_be_visible()


def become(served: Served, who: str) -> None:
    served.studio.config = replace(served.studio.config, annotator=who)


def answers(page: Page) -> list[Response]:
    found: list[Response] = []
    page.on("response", lambda r: found.append(r) if r.request.resource_type in ("fetch", "xhr") and "component_server" in r.url else None)  # fmt: skip
    return found


def test_a_second_pass_by_keyboard_is_blind_until_the_own_scores_are_in(page: Page, served: Served) -> None:
    rated(served.studio, 2, "annabel", (0, 0, 0, 0))
    become(served, "bob")
    heard = answers(page)
    go(page)
    expect(page.locator(".verify-setup")).to_contain_text(
        "2 replies are rated in full; 2 of them without a second pass by bob"
    )
    page.locator("#second-share").fill("100")
    page.locator("#second-start").press("Enter")
    progress(page, "0 of 2")
    expect(page.locator(".verify-note")).to_contain_text("Blind")
    keys(page, "3 0 0")
    expect(page.locator(".levels .saved-note.saved")).to_have_text("L3 saved")
    page.keyboard.press("Enter")
    expect(page.locator(".toast.bad").last).to_contain_text("Give your own score on L4 first")
    page.keyboard.press("0")
    expect(page.locator(".levels .saved-note.saved")).to_have_text("L4 saved")
    for text in (page.content(), *(r.text() for r in heard)):
        assert "annabel" not in text
        assert '"first"' not in text
    page.keyboard.press("Enter")
    expect(page.locator(".verify-note")).to_contain_text("You differ on L1")
    expect(page.locator(".both tr.differ")).to_have_text("L1 Image-text fit30")
    expect(page.locator(".both")).to_contain_text("annabel")
    for key in ("2", "Backspace", "Enter", "a"):  # nothing of it changes a blind score or agrees with what differs
        page.keyboard.press(key)
    expect(page.locator(".toast.bad").last).to_contain_text("You and annabel differ on L1")
    assert [b.inner_text() for b in page.locator(".level-row .chosen b").all()] == ["3", "0", "0", "0"]
    page.keyboard.press("c")
    progress(page, "1 of 2")
    keys(page, "0 0 0 0 Enter")
    expect(page.locator(".verify-note")).to_contain_text("You gave the same scores")
    page.keyboard.press("a")
    expect(page.locator(".annotate-item")).to_contain_text("1 agreed, 1 corrected")
    scores = served.studio.store.rows(
        "SELECT annotator, round, sum(value) AS s, count(*) AS n FROM current_scores GROUP BY 1, 2"
    )
    assert scores == [
        {"annotator": "annabel", "round": 1, "s": 0, "n": 8},
        {"annotator": "bob", "round": 2, "s": 3, "n": 8},
    ]


def test_return_with_a_reason_undo_and_the_first_persons_queue(page: Page, served: Served) -> None:
    [reply] = rated(served.studio, 1, "annabel")
    become(served, "bob")
    go(page)
    page.locator("#second-start").click()
    progress(page, "0 of 1")
    keys(page, "3 2 1 3 Enter")
    expect(page.locator(".verify-note")).to_contain_text("You differ on L4")
    keys(page, "r")
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text("Say why")
    page.keyboard.press("Escape")
    expect(page.locator(".verdicts textarea")).to_have_count(0)
    page.keyboard.press("r")
    expect(page.locator(".verdicts textarea")).to_be_focused()
    page.keyboard.type("Read <b>the</b> end again")
    page.keyboard.press("Enter")
    expect(page.locator(".annotate-item")).to_contain_text("1 returned")
    page.keyboard.press("Control+z")
    expect(page.locator(".verdicts")).to_be_visible()
    assert served.studio.store.returned("annabel", 2) == []
    page.keyboard.press("r")
    page.keyboard.type("Read <b>the</b> end again")
    page.keyboard.press("Enter")
    expect(page.locator(".annotate-item")).to_contain_text("1 returned")
    become(served, "annabel")
    page.reload()
    go(page)
    page.locator("#returned-start").click()
    expect(page.locator(".verify-note")).to_contain_text("bob returned it: Read <b>the</b> end again")
    assert page.locator(".level-row .chosen b").all_inner_texts()[:4] == ["3", "2", "1", "0"]
    page.locator('.level-row[data-code="L4"] button[data-value="2"]').click()
    wait(lambda: served.studio.store.scores([reply], "annabel")[reply]["L4"] == 2)
    page.keyboard.press("Enter")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    page.get_by_role("button", name="Another queue").click()
    expect(page.locator("#returned-start")).to_have_text("Returned items (0)")
    expect(page.locator("#returned-start")).to_be_disabled()


def test_conflicts_open_as_a_queue_that_names_the_dimension_and_no_score(page: Page, served: Served) -> None:
    [reply] = rated(served.studio, 1, "annabel")
    served.studio.store.rate(reply, "L4", 3, "bob")
    become(served, "cy")
    heard = answers(page)
    go(page)
    expect(page.locator("#conflicts-start")).to_have_text("Scores of two people 2 or more apart (1)")
    page.locator("#conflicts-start").click()
    expect(page.locator(".verify-note")).to_contain_text("People differ on L4 Text quality")
    assert not [r for r in heard if "annabel" in r.text()]


def test_an_own_dimension_from_explore_and_annotate_to_another_home(page: Page, served: Served, tmp_path: Path) -> None:
    store = served.studio.store
    write(served.studio.config.home, TONE)
    load_rubric(served.studio.config.home)
    first, second = plant(served.studio, "q", "first reply")[1], plant(served.studio, "q2", "second reply")[1]
    page.reload()
    page.wait_for_function("() => window.studio && studio.map && studio.state.view")
    page.evaluate("id => studio.open({node: id})", first)
    row = page.locator('.rate.local [data-code="tone"]').first
    expect(row).to_contain_text("Tone")
    row.locator('button[data-value="6"]').click()
    wait(lambda: store.scores([first], "ann") == {first: {"tone": 6}})
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#queue-start").click()
    expect(page.locator(".rate-side .card .body")).to_have_text("second reply")  # the other one has a score
    keys(page, "3 3 3 3 5")
    expect(page.locator(".levels .saved-note.saved")).to_have_text("tone saved")
    assert store.scores([second], "ann")[second]["tone"] == 5
    file = tmp_path / "own.zip"
    exchange.export_studio(store, served.studio.media, file)
    other = Studio.open(replace(served.studio.config, home=tmp_path / "other"))
    exchange.import_path(other.store, other.media, file)
    assert {n: s["tone"] for n, s in other.store.scores([first, second], "ann").items()} == {first: 6, second: 5}
    other.close()


def test_the_guidelines_open_in_place(page: Page, served: Served) -> None:
    go(page)
    page.locator(".guide summary").click()
    page.get_by_role("button", name="Guidelines with an example").click()
    expect(page.locator(".guidelines h3")).to_have_count(9)
    expect(page.locator(".guidelines")).to_contain_text("six fingers")


WORDS = {"setup": [".verify-setup .soft", ".verify-setup h3", "#second-share"], "decide": [".verify-note p", ".both tr.differ td", ".both th", ".verdicts button", ".verdicts .primary kbd"]}  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("what", list(WORDS))
def test_every_word_can_be_read_and_nothing_sticks_out_of_a_phone(
    page: Page, served: Served, what: str, dark: bool
) -> None:
    rated(served.studio, 1, "annabel")
    become(served, "bob")
    page.evaluate(f"document.body.classList.toggle('dark', {json.dumps(dark)})")
    go(page)
    if what == "decide":
        page.locator("#second-start").click()
        progress(page, "0 of 1")
        keys(page, "3 2 1 3 Enter")
        expect(page.locator(".both")).to_be_visible()
    for selector in WORDS[what]:
        wait(lambda s=selector: contrast(page, s) >= 4.5, 3, f"contrast of {selector}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes: list[Any] = page.evaluate("[...document.querySelectorAll('.annotate *')].map(e => [e.className, e.getBoundingClientRect()]).filter(([, r]) => r.width && (r.left < -1 || r.right > 391)).map(([c]) => c)")  # fmt: skip
    assert boxes == []
