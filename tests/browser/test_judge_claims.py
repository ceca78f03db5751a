"""What the Judge screen and the bars claim, in a real browser: ranks, own scales, accuracy, the check before a training."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from judge.training import Settings  # noqa: E402
from studio.store.judges import JudgeScoreRow  # noqa: E402
from studio.tree import Part  # noqa: E402
from tests import teach  # noqa: E402
from tests.browser.test_judge import shoot, to  # noqa: E402
from tests.conftest import Served, plant, wait  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread", "no_jobs_left")]


def known(served: Served, name: str, metrics: dict[str, object]) -> None:
    """A judge in the list of which only what was measured is known; its weights are not there."""
    folder = served.studio.store.home / "judges" / name
    folder.mkdir(parents=True)
    settings = asdict(Settings(base="some/backbone"))
    served.studio.store.add_judge(name, "some/backbone", settings, "none", metrics, f"judges/{name}")


def accuracy(value: float, low: float, high: float, longer: float) -> dict[str, object]:
    """Figures of a test on 200 comparisons, as a report has them."""
    baselines = {"coin": {"value": 0.5}, "longer": {"value": longer}, "majority": {"value": 0.51}}
    return {"n": 200, "n_ties": 0, "trees": 60, "accuracy": value, "interval": [low, high], "baselines": baselines}


def siblings(served: Served) -> tuple[str, str, str]:
    """One question with two replies; returns the tree and the replies."""
    asked, b = plant(served.studio, "q", "short")
    tree = served.studio.store.node(asked).tree_id
    c = served.studio.store.add_node(tree, asked, "assistant", [Part("text", "another one")])
    return tree, b, c


def live(served: Served, rows: list[JudgeScoreRow], metrics: dict[str, object]) -> None:
    """A judge that has said this already and is the live one; it cannot be loaded, so nothing is read anew."""
    known(served, "one", metrics)
    served.studio.store.save_judge_scores("one", rows)
    served.studio.judge.promote("one")


def test_a_row_without_scores_shows_rank_and_probability(page: Page, served: Served) -> None:
    tree, b, c = siblings(served)
    rows = [JudgeScoreRow(n, "overall", x, 0.1, x, (x - 0.1, x + 0.1)) for n, x in ((b, 1.2), (c, 0.2))]
    live(served, rows, {"trained": {"overall": 80}, "scored": {}, "ties": {"overall": 0.4}})
    page.evaluate("ids => studio.open({lanes: ids})", [b, c])
    win = 1 / (1 + 2.718281828 ** (0.4 - 1.0))  # Rao and Kupper, with the fitted tie margin
    better, worse = (page.locator(f'[data-judge="{n}"] .judge-bar') for n in (b, c))
    expect(better.locator(".judge-number")).to_have_text(f"1st of 2 · {round(100 * win)} %")
    expect(worse.locator(".judge-number")).to_have_text(re.compile(r"^2nd of 2 · \d+ %$"))
    words = better.locator(".hidden-text").inner_text()
    assert re.search(r"preferred over the other in \d+ %, tie \d+ %; 1\.00 ± 0\.00 above the best other", words)
    assert "of 0 to 3" not in words
    expect(page.locator(".map-low, .map-high")).to_have_text(["judge last", "first"])


def test_g5_is_drawn_on_its_own_scale(page: Page, served: Served) -> None:
    _, b = plant(served.studio, "q", "r")
    live(served, [JudgeScoreRow(b, "G5", 0.5, 0.25, 0.5, ())], {"trained": {"G5": 80}, "scored": {"G5": 80}})
    page.evaluate("id => studio.open({node: id})", b)
    bar = page.locator(f'[data-judge="{b}"] .judge-bar')
    low, high = served_scale()
    expect(bar.locator(".hidden-text")).to_have_text(re.compile(rf"0\.50 ± 0\.25 of {low} to {high};"))
    share = 100 * (0.5 - low) / (high - low)
    assert bar.locator(".judge-fill").get_attribute("style") == f"width: {share:g}%;"


def served_scale() -> tuple[int, int]:
    """The ends of G5's scale, which is not 0 to 3."""
    from judge.rubric import dimensions

    values = dimensions()["G5"].values
    assert (values[0], values[-1]) != (0, 3)
    return values[0], values[-1]


def test_accuracy_has_n_interval_and_baselines_and_a_bad_judge_asks(page: Page, served: Served) -> None:
    known(served, "poor", {"pairs": accuracy(0.469, 0.398, 0.577, 0.635), "derived": None})
    known(served, "fine", {"pairs": accuracy(0.75, 0.68, 0.81, 0.6), "derived": None})
    known(served, "new", {"untested": "No test dialogue had a comparison."})
    to(page, "Judge")
    poor, fine, new = (page.locator(f'[data-version="{n}"]') for n in ("poor", "fine", "new"))
    expect(poor.locator(".judge-accuracy")).to_contain_text(
        "46.9 % (40–58), n 200; longer 63.5 %, coin 50.0 %, majority 51.0 %"
    )
    expect(poor.locator(".judge-accuracy .judge-verdict.bad")).to_have_text("not better than a coin")
    expect(fine.locator(".judge-verdict.bad:not(:empty)")).to_have_count(0)
    expect(new.locator(".judge-accuracy")).to_contain_text("No test dialogue had a comparison.")
    expect(new.locator(".judge-accuracy")).to_contain_text("accuracy unknown")

    poor.get_by_role("button", name="Use live").press("Enter")
    anyway = poor.get_by_role("button", name="Use it anyway")
    expect(anyway).to_be_focused()
    expect(poor.locator(".buttons")).to_contain_text("poor is not better than a coin.")
    assert served.studio.judge.name is None
    shoot(page, "judge-doubt")
    anyway.press("Enter")
    expect(poor.locator(".live")).to_have_text("live")
    for version in (fine, new):  # better than its baselines, or never tested: one press
        version.get_by_role("button", name="Use live").click()
        expect(version.locator(".live")).to_have_text("live")


def test_a_judge_of_scores_alone_has_its_figures_too(page: Page, served: Served) -> None:
    none = {"n": 0, "n_ties": 0, "trees": 0, "accuracy": None, "interval": None, "baselines": {}}
    scored = {"n": 30, "trees": 10, "mae": {"value": 0.8, "interval": [0.6, 1.0]},
              "baselines": {"always_3": {"mae": {"value": 1.1}}, "majority": {"mae": {"value": 0.9}}}}  # fmt: skip
    known(served, "scored", {"pairs": none, "derived": none, "scores": scored})
    known(served, "implied", {"pairs": none, "derived": accuracy(0.469, 0.398, 0.577, 0.635), "scores": scored})
    to(page, "Judge")
    alone, implied = (page.locator(f'[data-version="{n}"] .judge-accuracy') for n in ("scored", "implied"))
    figures = "Scores: off by 0.80 points (0.60–1.00), n 30; always 3 1.10, always the commonest score 0.90"
    for one in (alone, implied):
        expect(one).to_contain_text(figures)
        expect(one).to_contain_text("No comparison of people among the test dialogues.")
        expect(one).not_to_contain_text("Not tested")
    expect(alone).to_contain_text("accuracy unknown")
    expect(implied).to_contain_text(
        "Pairs derived from scores: 46.9 % (40–58), n 200; longer 63.5 %, coin 50.0 %, majority 51.0 %"
    )
    expect(implied.locator(".judge-verdict.bad")).to_have_text("not better than a coin")


def test_the_check_counts_every_label_and_opens_what_is_left_out(page: Page, served: Served, base: Path) -> None:
    teach.rate(served.studio.store, 6)
    asked, long = plant(served.studio, "q", "word " * 3000)
    served.studio.store.rate(long, "L4", 1, "ann")
    to(page, "Judge")
    expect(page.locator(".judge-data")).to_contain_text("L4")
    page.locator("#judge-base").fill(str(base))
    page.locator("#judge-start").scroll_into_view_if_needed()
    page.locator(".judge-more summary").click()
    page.locator("#judge-max_path").fill("128")
    page.locator("#judge-check").press("Enter")
    place = page.locator(".judge-check").first
    total = served.studio.store.labels_since("")
    expect(place).to_contain_text(re.compile(rf"\d+ of {total} usable, \d+ cut, \d+ left out"), timeout=120_000)
    counts = [int(n) for n in re.findall(r"(\d+) (?:of|cut|left)", place.locator("b").first.inner_text())]
    assert counts[0] + counts[2] == total, counts
    assert counts[1] + counts[2] == 1, counts
    page.locator(".judge-check summary").first.click()
    shoot(page, "judge-check")
    page.locator(".judge-check li button").first.press("Enter")
    expect(page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(page.locator(f'.card.focus[data-id="{long}"]')).to_be_visible()


def test_the_check_begins_by_itself_only_where_that_is_wanted(page: Page, served: Served) -> None:
    teach.rate(served.studio.store, 3)
    to(page, "Judge")
    page.locator("#judge-base").fill("nowhere/at-all")  # it fails at once: nothing is read
    expect(page.get_by_label("Check by itself when this screen is open")).not_to_be_checked()
    page.wait_for_timeout(6_000)
    assert not served.studio.store.jobs("check")
    page.get_by_label("Check by itself when this screen is open").check()
    wait(lambda: served.studio.store.jobs("check"), 30, "the check")
    page.wait_for_timeout(6_000)
    assert len(served.studio.store.jobs("check")) == 1  # once a page


def test_explore_says_what_the_live_judge_is_doing(page: Page, served: Served, base: Path) -> None:
    teach.untrained(served.studio.store, "one", str(base), {"L4": 60})
    _, b = plant(served.studio, "q", "r")
    page.evaluate("id => studio.open({node: id})", b)
    expect(page.locator("#judge-state")).to_be_hidden()
    page.evaluate(SEEN)
    to(page, "Judge")
    page.locator('[data-version="one"]').get_by_role("button", name="Use live").click()
    to(page, "Explore")
    expect(page.locator(f'[data-judge="{b}"] .judge-bar').first).to_be_visible(timeout=150_000)
    assert any("Loading the judge one" in text for text in page.evaluate("seen")), page.evaluate("seen")
    expect(page.locator("#judge-state")).to_be_hidden(timeout=60_000)


def test_a_reply_that_cannot_be_scored_says_so_on_its_card(page: Page, served: Served, base: Path) -> None:
    teach.untrained(served.studio.store, "one", str(base), {"L4": 60})
    asked, short = plant(served.studio, "q", "r")
    tree = served.studio.store.node(asked).tree_id
    long = served.studio.store.add_node(tree, asked, "assistant", [Part("text", "word " * 5000)])
    served.studio.judge.promote("one")
    page.evaluate("ids => studio.open({lanes: ids})", [short, long])
    expect(page.locator(f'[data-judge="{short}"] .judge-bar').first).to_be_visible(timeout=150_000)
    line = page.locator(f'[data-judge="{long}"]')
    expect(line).to_have_text(re.compile(r"^one: Not scored\. A reply of [\d,]+ tokens is longer than the [\d,]+ that"))
    expect(page.locator(f'[data-judge="{short}"]')).not_to_contain_text("Not scored")
    shoot(page, "judge-not-scored")


SEEN = """() => {
  window.seen = [];
  const place = document.getElementById('judge-state');
  new MutationObserver(() => seen.push(place.textContent)).observe(place, {childList: true, subtree: true, attributes: true});
}"""
