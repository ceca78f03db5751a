"""The statistics on the Data screen in a real browser: light and dark, wide and narrow, saved plots, hostile names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from studio.actions import Studio
from studio.tree import Part
from tests.conftest import Served, new_context, plant, watch

pytestmark = pytest.mark.browser

HOSTILE = "{{1+1}}${2+2}<img src=x onerror='window.struck=1'>"
TREES = 14  # the drift of a measure shows from 51 scores on a dimension
SIZES = {"wide": (1440, 900), "phone": (390, 844)}


def fill(studio: Studio) -> None:
    """Fourteen trees of three turns, rated by two people, some twice; comparisons; times on several days."""
    store = studio.store
    planted = [
        plant(studio, f"question {t}", "reply", "and then?", "another", "and last?", "the end") for t in range(TREES)
    ]
    trees = [store.node(nodes[0]).tree_id for nodes in planted]
    with store.write() as db:
        for t, (tree, nodes) in enumerate(zip(trees, planted, strict=True)):
            replies = nodes[1::2]
            other = store.add_node(tree, nodes[0], "assistant", [Part("text", "other")])
            for i, reply in enumerate([*replies, other]):
                for d, code in enumerate(("L1", "L2", "L3", "L4")):
                    store.rate(reply, code, 3 - (t * 5 + i * 3 + d) % 7 // 2, "ann")
                    store.rate(reply, code, 3 - (t * 5 + i * 3 + d + t % 3) % 7 // 2, "bob" if t % 2 else HOSTILE)
            for d, code in enumerate(("G1", "G2", "G3", "G4", "G5")):
                store.rate(replies[-1], code, (t * 3 + d) % 4 - (code == "G5" and t == 3), "ann")
            outcome = ("left", "right", "tie")[t % 3]
            store.compare("local", "overall", replies[0], other, outcome, "ann", seconds=4.0 + t)
        db.execute(
            "UPDATE scores SET created_at = '2025-06-0' || (1 + rowid % 7) || 'T10:' || (10 + rowid % 50) || ':00.000+00:00'"
        )


def show(page: Page) -> None:
    page.wait_for_selector("#screens [role=tab]", timeout=60_000)
    tab = page.get_by_role("tab", name="Data")
    if not tab.is_visible():  # on a phone the last tabs are behind a menu
        page.locator("#screens .overflow-menu > button").click()
        tab = page.locator("#screens .overflow-dropdown button", has_text="Data")
    tab.click()
    page.wait_for_selector("#statistics .stats", timeout=60_000)


def no_overflow(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    wide = """() => [...document.querySelectorAll('.stats *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide) == []


def contrast(page: Page, selector: str) -> float:
    """The WCAG contrast of an element's text with what is behind the page."""
    script = """selector => {
      const light = css => { const [r, g, b] = css.match(/[\\d.]+/g).map(Number).map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
      let behind = document.querySelector(selector);
      while (behind && /rgba\\(.*, 0\\)/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
      const style = getComputedStyle(document.querySelector(selector));
      const pair = [light(selector.includes('svg') ? style.fill : style.color), light(getComputedStyle(behind || document.body).backgroundColor)];
      return (Math.max(...pair) + .05) / (Math.min(...pair) + .05); }"""
    return float(page.evaluate(script, selector))


def test_an_empty_home_says_what_to_do(page: Page) -> None:
    show(page)
    expect(page.locator("#statistics .none")).to_contain_text("Nothing has been judged yet")


def test_refresh_shows_what_is_new(page: Page, served: Served) -> None:
    show(page)
    fill(served.studio)
    page.locator("#statistics-refresh").click()
    expect(page.locator("#statistics dd").first).to_have_text(str(TREES * (4 * 4 * 2 + 5)))
    expect(page.locator(".stats svg[role=img]")).to_have_count(11)


def test_a_plot_is_saved_as_a_whole_file(page: Page, served: Served, tmp_path: Path) -> None:
    fill(served.studio)
    show(page)
    with page.expect_download() as saved:
        page.locator(".stats .save").first.click()
    assert saved.value.suggested_filename == "scores-all.svg"
    saved.value.save_as(tmp_path / "plot.svg")
    drawing = ElementTree.parse(tmp_path / "plot.svg").getroot()
    words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "L1 Image-text fit" in words
    assert "background:#fff" in drawing.attrib["style"]


def test_a_name_is_only_text(page: Page, served: Served) -> None:
    fill(served.studio)
    show(page)
    for details in page.locator(".stats details").all():
        details.locator("summary").click()
    expect(page.locator(".stats figcaption", has_text=HOSTILE)).to_have_count(1)
    expect(page.locator(".stats img")).to_have_count(0)
    assert page.evaluate("window.struck") is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_can_be_read(browser: Any, served: Served, size: str, scheme: str, tmp_path: Path) -> None:
    fill(served.studio)
    width, height = SIZES[size]
    context = new_context(browser, viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    troubles = watch(page)
    page.goto(served.url)
    show(page)
    no_overflow(page)
    page.wait_for_timeout(300)
    shot = Path(os.environ.get("STUDIO_SHOTS", tmp_path)) / f"statistics-{size}-{scheme}.png"
    page.locator("#statistics").screenshot(path=shot)
    assert len(Image.open(shot).convert("RGB").resize((64, 64)).getcolors(64 * 64) or ()) > 20  # drawn, not blank
    for details in page.locator(".stats details").all():
        details.locator("summary").click()
    no_overflow(page)
    for selector in (".stats h3", ".stats .note", ".stats svg text", ".stats .save", ".stats th"):
        assert contrast(page, selector) >= 4.5, selector
    assert page.locator(".stats svg").first.bounding_box()["width"] > 300  # type: ignore[index]
    context.close()
    assert not troubles, troubles
