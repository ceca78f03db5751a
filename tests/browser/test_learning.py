"""When to stop rating, in a real browser: measured as a job, through a reload, with numbers beside the plot, light, dark and narrow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from studio import learning  # noqa: E402
from tests import teach  # noqa: E402
from tests.browser.test_judge import shoot, to  # noqa: E402
from tests.conftest import Served  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.usefixtures("no_jobs_left")]


def curve(gain: float = 0.04) -> dict[str, object]:
    """A curve as ``judge.learning`` gives it, with four points."""
    points = [
        {"share": s, "trees": int(200 * s), "ratings": int(600 * s), "accuracy": a, "interval": [a - 0.09, a + 0.08], "interval_note": None,
         "seeds": [a - 0.04, a, a + 0.03] if s < 1 else [a], "spread": 0.035 if s < 1 else None}
        for s, a in ((0.125, 0.56), (0.25, 0.63), (0.5, 0.71), (1.0, 0.71 + gain))
    ]  # fmt: skip
    told = {"value": gain, "interval": [gain - 0.05, gain + 0.05], "interval_note": None, "seeds": [gain]}
    by = [{"level": "local", "dimension": "L4", "n": 90, "accuracy": 0.75, "interval": [0.66, 0.83], "gain": told},
          {"level": "local", "dimension": "overall", "n": 9, "accuracy": 0.7, "interval": [0.4, 0.9], "gain": None}]  # fmt: skip
    return {"base": "builtin", "level": "both", "seed": 0, "orders": 3, "ratings": 180, "trees": {"train": 200, "test": 50}, "points": points,
            "n": 99, "baselines": {"coin": {"value": 0.5, "interval": [0.4, 0.6]}, "longer": {"value": 0.52, "interval": [0.42, 0.62]}},
            "gain": told, "by": by, "verdict": {"kind": "flat", "text": "Flat <b>as far</b> as this test can tell."}, "seconds": 1.0}  # fmt: skip


def keep(served: Served, found: dict[str, object]) -> None:
    path = served.studio.store.home / "judges" / learning.CURVE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found))


def test_measured_through_a_reload(page: Page, served: Served, base: Path) -> None:
    to(page, "Judge")
    expect(page.locator(".judge-learn")).to_contain_text("Too little to draw a curve: 0 dialogues to learn from")
    expect(page.locator("#learn-start")).to_be_disabled()
    teach.rate(served.studio.store, 60)
    expect(page.locator("#learn-start")).to_be_enabled(timeout=60_000)
    expect(page.locator(".judge-data")).to_contain_text("+33 labels, +17 pairs")
    expect(page.locator(".judge-data")).to_contain_text("Measure the curve to estimate the gain.")
    page.locator("#judge-base").fill(str(base))
    page.locator("#learn-start").focus()
    page.keyboard.press("Enter")
    job = page.locator(".judge-learn .judge-job")
    expect(job.get_by_role("status")).to_have_text("measuring")
    page.reload()
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    to(page, "Judge")
    plot = page.locator(".judge-learn svg")
    expect(plot).to_have_attribute(
        "aria-label", re.compile(r"18 ratings .+, 36 .+, 72 .+, 144 ratings"), timeout=240_000
    )
    expect(job).to_have_count(0, timeout=60_000)  # the process ends a moment after it kept the curve
    kept = learning.kept(served.studio.store.home)
    assert kept
    expect(page.locator(".learn-verdict")).to_have_text(kept["verdict"]["text"])
    expect(page.locator(".judge-data")).to_contain_text("read off the last doubling of the curve below")
    expect(page.locator("#learn-start")).to_have_text("Measure again")
    page.locator(".judge-learn summary").click()
    expect(page.locator(".judge-learn tbody tr").nth(3).locator("td").nth(1)).to_have_text(
        f"{100 * kept['points'][3]['accuracy']:.1f} %"
    )


def test_a_wrong_backbone_is_told_where_it_was_asked_for(page: Page, served: Served) -> None:
    teach.rate(served.studio.store, 60)
    to(page, "Judge")
    page.locator("#judge-base").fill("/no/such/folder")
    page.locator("#learn-start").click()
    expect(page.locator(".judge-learn [role=alert]")).to_contain_text(
        "There is no backbone '/no/such/folder'", timeout=120_000
    )
    expect(page.locator("#judge-base")).to_have_value("/no/such/folder")


def test_a_plot_with_its_numbers_light_dark_and_narrow(page: Page, served: Served) -> None:
    keep(served, curve())
    teach.rate(served.studio.store, 70)
    to(page, "Judge")
    expect(page.locator(".learn-verdict")).to_have_text(
        "Flat <b>as far</b> as this test can tell."
    )  # as text, never as markup
    expect(page.locator(".judge-learn svg .interval")).to_have_count(4)
    expect(page.locator(".judge-learn svg .seed")).to_have_count(9)
    expect(page.locator(".judge-learn svg .coin, .judge-learn svg .longer")).to_have_count(2)
    expect(page.locator(".judge-learn")).to_contain_text("You have given 30 ratings since.")
    row = page.locator(".judge-data tr", has_text="L4")
    expect(row).to_contain_text("+33 labels")
    expect(row).to_contain_text(
        re.compile(r"\+1\.2 \(−0\.3 to \+2\.8\)")
    )  # log2(1 + 50/210) doublings of +4 (−1 to +9)
    page.locator(".judge-learn summary").click()
    expect(page.locator(".judge-learn")).to_contain_text("too few pairs")
    expect(page.locator(".judge-learn")).to_contain_text("coin 50.0 %, by chance 40.0 % to 60.0 %; longer reply 52.0 %")
    page.locator(".judge-learn").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('.judge-learn').scrollIntoView()")
    shoot(page, "learning")
    page.evaluate("document.querySelector('.judge').scrollTo(0, 0)")
    shoot(page, "learning-data")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        page.evaluate("(() => { const j = document.querySelector('.judge'); return j.scrollWidth - j.clientWidth; })()")
        <= 0
    )
    page.evaluate("document.querySelector('.judge-learn').scrollIntoView()")
    shoot(page, "learning-phone")
    shown = page.locator(".judge-learn details")
    served.studio.store.rate(
        teach_node(served), "L1", 2, "ann"
    )  # the section is drawn again, and what is open stays so
    expect(page.locator(".judge-learn")).to_contain_text("You have given 31 ratings since.", timeout=60_000)
    expect(shown).to_have_attribute("open", "")


def teach_node(served: Served) -> str:
    """Some reply."""
    row = served.studio.store.rows("SELECT id FROM nodes WHERE role = 'assistant' ORDER BY id LIMIT 1")[0]
    return str(row["id"])
