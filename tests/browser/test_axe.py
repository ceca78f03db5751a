"""axe-core on every screen, light and dark, wide and on a phone: nothing serious. And: no motion for who wants none."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from studio.demo import fill
from tests.conftest import Served, new_context

pytestmark = pytest.mark.browser
SIZES = {"wide": (1440, 900), "phone": (390, 844)}
RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(' ')}: ${n.failureSummary.split('\\n').slice(1).join(';')}`))"""


@pytest.fixture
def looked_at(browser: Any, served: Served, request: pytest.FixtureRequest) -> Any:
    """The studio with the demo dialogue, in a window of the asked size and colours."""
    size, scheme = request.param
    fill(served.studio.store.home)
    width, height = SIZES[size]
    context = new_context(
        browser, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(served.url)
    page.wait_for_selector(".tree-open", state="attached", timeout=60_000)
    page.evaluate("studio.open({tree: document.querySelector('.tree-line').dataset.tree})")
    page.wait_for_selector(".card.assistant")
    yield page
    context.close()


def faults(page: Page, where: str) -> list[str]:
    """What axe-core finds serious or critical here."""
    page.wait_for_timeout(300)  # Gradio's tabs fade in
    page.wait_for_function("() => !document.querySelector('.pending')")
    page.evaluate(AXE_SCRIPT)
    return [f"{where}: {line}" for line in page.evaluate(RUN)]


@pytest.mark.parametrize(
    "looked_at",
    [(size, scheme) for size in SIZES for scheme in ("light", "dark")],
    indirect=True,
    ids=lambda p: "-".join(p),
)
def test_axe_finds_nothing_serious(looked_at: Page) -> None:
    page = looked_at
    found = faults(page, "explore")
    for key, dialog in (("f", "#retrieve"), ("p", "#generate")):
        page.keyboard.press(key)
        page.wait_for_selector(f"dialog{dialog}")
        found += faults(page, dialog)
        page.keyboard.press("Escape")
    for tab, ready in (
        ("Annotate", ".annotate-setup"),
        ("Judge", ".judge-form, .judge .problem"),
        ("Data", ".page:visible"),
        ("Settings", ".page:visible"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(ready)
        found += faults(page, tab.lower())
        if tab == "Annotate":
            for what, shown in (("rate", ".rate-side"), ("local", ".sides")):
                page.select_option("#queue-what", what)
                page.click("#queue-start")
                page.wait_for_selector(shown)
                found += faults(page, f"annotate {what}")
                page.get_by_role("button", name="Another queue").click()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("looked_at", [("wide", "light")], indirect=True, ids=["wide"])
def test_nothing_moves_for_who_wants_no_motion(looked_at: Page) -> None:
    moving = looked_at.evaluate(
        """() => [...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);
          return [...s.transitionDuration.split(','), ...s.animationDuration.split(',')].some(d => parseFloat(d) > 0.011); })
          .map(e => `${e.tagName}.${e.className}`).slice(0, 5)"""
    )
    assert moving == []
