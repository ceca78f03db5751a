"""The judge in a real browser: is there enough, train and watch, stop and go on, live scores, blind, by keyboard, narrow."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from studio.tree import Part  # noqa: E402
from tests import teach  # noqa: E402
from tests.browser.test_explore import choose, finished, send  # noqa: E402
from tests.conftest import SLOW, Served, plant, wait  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.usefixtures("one_thread", "no_jobs_left")]
PICTURES = os.environ.get("STUDIO_PICTURES")  # a folder: keep screenshots for somebody's own eyes


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the page, light and dark, where somebody asked for it."""
    if not PICTURES:
        return
    for scheme in ("light", "dark"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        page.wait_for_timeout(500)
        page.screenshot(path=Path(PICTURES) / f"{name}-{scheme}.png")
    page.evaluate("document.body.classList.remove('dark')")


def to(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def judged(served: Served, base: Path, **rows: int) -> None:
    """A judge with random weights, live; ``rows``: labels it claims to have learned."""
    teach.untrained(served.studio.store, "one", str(base), rows or {"L4": 60, "overall": 40})
    served.studio.judge.promote("one")


def scored(page: Page, served: Served, node: str) -> str:
    """Open the tree of a node and wait until the judge has scored it and the page shows it; returns the tree's id."""
    tree = served.studio.store.node(node).tree_id
    page.evaluate("id => studio.open({tree: id})", tree)
    wait(lambda: not served.studio.store.unjudged(tree, "one"), 150, "the scores")
    page.evaluate("id => studio.open({tree: id})", tree)
    return tree


def use(page: Page, name: str) -> None:
    """Make a judge the live one, whatever it can claim."""
    version = page.locator(f'[data-version="{name}"]')
    version.get_by_role("button", name="Use live").click()
    anyway = version.get_by_role("button", name="Use it anyway")
    if version.locator(".judge-accuracy .judge-verdict.bad").count():
        anyway.click()
    expect(version.locator(".live")).to_have_text("live")


def plant_rated(served: Served) -> None:
    """One more rated reply."""
    _, b = plant(served.studio, "another question", "another reply")
    served.studio.store.rate(b, "L4", 2, "ann")


# counts the frames in which a node of the map has no colour or its card no bar
WATCH = """id => {
  window.watched = {gone: 0, seen: false};
  const look = () => {
    const said = studio.map.plan.at(id)?.node.score, bars = document.querySelectorAll(`[data-judge="${id}"] .judge-bar`);
    watched.seen ||= said != null;
    if (said == null || !bars.length) watched.gone += 1;
    requestAnimationFrame(look);
  };
  look();
}"""


def test_an_empty_home_says_what_is_missing(page: Page, served: Served) -> None:
    to(page, "Judge")
    expect(page.locator(".judge-data")).to_contain_text("Nothing is rated yet")
    expect(page.locator(".judge-judges")).to_contain_text("No judge yet")
    a, b = plant(served.studio, "q", "r")
    served.studio.store.rate(b, "L1", 2, "ann")
    expect(page.locator(".judge-data")).to_contain_text("L1", timeout=60_000)
    expect(page.locator(".judge-data")).to_contain_text("below 50")
    page.locator("#judge-name").fill("mine")
    page.locator("#judge-rank").fill("1000")
    page.locator("#judge-start").click()
    expect(page.locator(".toast.bad").last).to_contain_text(re.compile("The LoRA rank is '1000'; choose .*0 to 256"))
    expect(page.locator("#judge-name")).to_have_value("mine")  # what was typed stays


def test_train_reload_stop_go_on_use_live_and_remove(page: Page, served: Served, base: Path) -> None:
    teach.rate(served.studio.store)
    to(page, "Judge")
    expect(page.locator(".judge-data")).to_contain_text("28 dialogues to train on")
    for name, value in (("base", str(base)), ("epochs", "40"), ("rank", "4"), ("name", "first")):
        page.locator(f"#judge-{name}").fill(value)
    page.locator("#judge-start").click()
    job = page.locator(".judge-job")
    expect(job.get_by_role("status")).to_have_text(re.compile("starting|checking|loading|reading"), timeout=60_000)
    page.locator("#judge-seed").focus()
    expect(job).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=120_000)
    expect(job.get_by_role("status")).to_have_text(re.compile("^(training|validating)"))
    expect(job.locator(".stage.now small")).to_have_text(re.compile("Train|Validate"))
    expect(job.locator("svg").first).to_have_attribute("aria-label", re.compile(r"Loss from \d"), timeout=60_000)
    expect(page.locator("#judge-seed")).to_be_focused()  # a new step disturbs nobody who types
    shoot(page, "judge-training")
    page.reload()
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    to(page, "Judge")
    expect(job.get_by_role("status")).to_have_text(re.compile("^(training|validating)"))
    job.get_by_role("button", name="Pause").click()
    expect(job.get_by_role("status")).to_have_text("paused", timeout=60_000)
    expect(job).to_contain_text(re.compile(r"Paused after step \d+\."))
    assert 0 < float(job.get_by_role("progressbar").get_attribute("aria-valuenow") or "0") < 100  # not emptied
    expect(job.get_by_role("button", name="Begin again")).to_have_count(0)  # nothing new was rated
    plant_rated(served)
    again = job.get_by_role("button", name="Begin again with the 1 new rating")
    expect(again).to_be_visible(timeout=60_000)
    shoot(page, "judge-paused")
    job.get_by_role("button", name="Resume").click()
    expect(job.get_by_role("status")).to_have_text("done", timeout=180_000)
    version = page.locator('[data-version="first"]')
    told = version.locator(".judge-accuracy")
    expect(told).to_contain_text(  # of unseen dialogues: n, the interval, and both baselines beside it
        re.compile(r"You: [\d.]+ % \(\d+–\d+\), n \d+; longer [\d.]+ %, coin 50\.0 %")
    )
    expect(job.locator("svg").nth(1)).to_have_attribute(
        "aria-label",
        re.compile(r"Accuracy on validation pairs at step \d+: All dimensions [\d.]+, .*coin 0.50, longer reply"),
    )
    shoot(page, "judge-done")

    watched_while_it_grows(page, served)

    to(page, "Judge")
    version.get_by_role("button", name="Remove").click()
    expect(version).to_have_count(0)
    page.locator(".toast button", has_text="Undo").click()
    expect(version).to_have_count(1)
    expect(version.locator(".live")).to_have_count(0)


def watched_while_it_grows(page: Page, served: Served) -> None:
    """Make the judge ``first`` live; a reply has its score from its first words on, on its card and on the map."""
    use(page, "first")
    wait(lambda: served.studio.judge.state["state"] in ("ready", "scoring backlog"), 120, "the judge's process")
    page.get_by_label("Colour of the tree map").select_option("L4")
    to(page, "Explore")
    choose(page, SLOW.name)
    send(
        page,
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
    )
    expect(page.locator(".card.growing .judge-bar").first).to_be_visible(timeout=60_000)
    node = page.locator(".card.growing").get_attribute("data-id") or ""
    page.evaluate(WATCH, node)  # from here on neither the map nor the card is without what the judge says
    assert page.evaluate("id => studio.map.plan.at(id).node.said", node)
    finished(page)
    wait(lambda: not served.studio.store.unjudged(served.studio.store.node(node).tree_id, "first"), 150, "the score")
    expect(page.locator(f'[data-judge="{node}"]:not(.earlier) .judge-bar').first).to_be_visible()
    assert page.evaluate("watched") == {"gone": 0, "seen": True}
    expect(page.locator(".card.assistant .judge-line")).to_contain_text("L4")
    expect(page.locator(".map-ramp")).to_be_visible()
    shoot(page, "judge-explore")


def test_scores_have_words_and_say_what_they_rest_on(page: Page, served: Served, base: Path) -> None:
    judged(served, base, L4=60, overall=40)
    _, b = plant(served.studio, "q", "r")
    scored(page, served, b)
    bars = page.locator(f'[data-judge="{b}"] .judge-bar')
    expect(bars).to_have_count(2)
    words = [bars.nth(i).locator(".hidden-text").inner_text() for i in range(2)]
    assert re.search(r"Overall: \d\.\d\d ± \d\.\d\d of 0 to 3; learned from 40 labels, too few to trust$", words[0])
    assert re.search(r"L4 .+: \d\.\d\d ± \d\.\d\d of 0 to 3; learned from 60 labels$", words[1])
    expect(bars.nth(0)).to_have_class(re.compile("few"))
    value = served.studio.store.judge_scores(served.studio.store.node(b).tree_id, "one")[b]["L4"].value
    expect(bars.nth(1).locator(".judge-number")).to_have_text(f"{value:.1f}")
    expect(page.locator(".map-ramp")).to_be_visible()


def test_siblings_side_by_side_are_ranked(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    a, b = plant(served.studio, "q", "short")
    tree = served.studio.store.node(a).tree_id
    c = served.studio.store.add_node(tree, a, "assistant", [Part("text", "another one that says more")])
    scored(page, served, b)
    page.evaluate("ids => studio.open({lanes: ids})", [b, c])
    said = served.studio.store.judge_scores(tree, "one")
    order = sorted((b, c), key=lambda n: -said[n]["overall"].value)
    for i, node in enumerate((b, c)):
        place = ("1st", "2nd")[order.index(node)]
        expect(page.locator(".lane-head b").nth(i)).to_have_text(f"Lane {i + 1} · one: {place} of 2")
    shoot(page, "judge-lanes")


def test_blind_hides_all_until_the_four_scores_are_given(page: Page, served: Served, base: Path) -> None:
    judged(served, base, L4=60, overall=60, G1=60)
    a, b = plant(served.studio, "q", "short")
    tree = served.studio.store.node(a).tree_id
    c = served.studio.store.add_node(tree, a, "assistant", [Part("text", "another one that says more")])
    scored(page, served, b)
    to(page, "Judge")
    page.get_by_label("Blind: hide the judge until I have rated").check()
    to(page, "Explore")
    page.evaluate("ids => studio.open({lanes: ids})", [b, c])
    expect(page.locator(".judge-line")).to_have_text(["The judge waits until you have rated this reply."] * 2)
    expect(page.locator(".judge-bar")).to_have_count(0)
    expect(page.locator(".lane-head b")).to_have_text(["Lane 1", "Lane 2"])
    expect(page.locator(".map-ramp")).to_be_hidden()
    page.keyboard.press("b")
    expect(page.locator(".toast").last).to_contain_text("Blind mode hides what the judge likes")

    for i, node in enumerate((b, c)):
        page.locator(f'[data-id="{node}"] .body').click()
        for key in "321":
            page.keyboard.press(key)
        wait(lambda n=node: len(served.studio.store.scores([n], "ann").get(n, {})) == 3)
        expect(page.locator(f'[data-judge="{node}"] .judge-bar')).to_have_count(0)
        page.keyboard.press("0")
        expect(page.locator(f'[data-judge="{node}"] .judge-bar')).to_have_count(
            2
        )  # what it says of the dialogue waits on
        expect(page.locator(".lane-head b").nth(i)).to_have_text(re.compile("one: " if i else "^Lane 1$"))
    expect(page.locator(".map-ramp")).to_be_visible()
    page.locator(f'[data-id="{c}"] .body').click()
    for key in "11111":
        page.keyboard.press(key)
    expect(page.locator(f'[data-judge="{c}"] .judge-bar')).to_have_count(3)


def test_keys_jump_to_what_the_judge_says(page: Page, served: Served, base: Path) -> None:
    page.keyboard.press("b")  # nothing is open: nothing happens
    judged(served, base)
    a, b, _, d = plant(served.studio, "q", "short", "more?", "a second reply of some words")
    tree = served.studio.store.node(a).tree_id
    c = served.studio.store.add_node(tree, a, "assistant", [Part("text", "another one that says more")])
    page.evaluate("id => studio.open({tree: id})", tree)
    scored(page, served, b)
    said = served.studio.store.judge_scores(tree, "one")
    worth = {n: s["overall"].value for n, s in said.items()}
    unsure = {n: sum(one.spread or 0 for one in s.values()) for n, s in said.items()}
    best, worst = max((c, d), key=worth.__getitem__), min(worth, key=worth.__getitem__)
    for key, node, words in (("b", best, "the best dialogue"), ("w", worst, "the worst reply"),
                             ("u", max(unsure, key=unsure.__getitem__), "where the judge is least sure")):  # fmt: skip
        page.keyboard.press(key)
        expect(page.locator(".toast").last).to_contain_text(words)
        expect(page.locator(f'.card.focus[data-id="{node}"]')).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator(".toast.bad")).to_contain_text("You have rated nothing here")
    far = 0 if said[b]["L4"].value > 1.5 else 3
    served.studio.store.rate(b, "L4", far, "ann")
    page.keyboard.press("x")
    expect(page.locator(".toast").last).to_contain_text("where you and the judge differ most")
    expect(page.locator(f'.card.focus[data-id="{b}"]')).to_be_visible()


def test_a_broken_judge_is_told_on_the_screen(page: Page, served: Served, base: Path) -> None:
    folder = teach.untrained(served.studio.store, "one", str(base), {"L4": 60})
    (folder / "judge.safetensors").write_bytes(b"cut short")
    to(page, "Judge")
    page.locator('[data-version="one"]').get_by_role("button", name="Use live").click()
    expect(page.locator(".judge-note")).to_contain_text("Cannot read the weights", timeout=120_000)
    to(page, "Explore")
    expect(page.locator("#judge-state.bad")).to_contain_text("Cannot read the weights", timeout=60_000)
    send(page, "hello")
    finished(page)


def test_on_a_phone(page: Page, served: Served, base: Path) -> None:
    judged(served, base, **dict.fromkeys(("L1", "L2", "L3", "L4", "G1", "G2", "G3", "G4", "G5", "overall"), 60))
    teach.rate(served.studio.store, 3)
    _, b = plant(served.studio, "q", "r")
    page.set_viewport_size({"width": 390, "height": 844})
    scored(page, served, b)
    page.locator(".pane-switch button", has_text="Chat").click()
    expect(page.locator(".judge-bar")).to_have_count(10)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, "judge-phone-chat")
    to(page, "Judge")
    expect(page.locator('[data-version="one"]')).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        page.evaluate("(() => { const j = document.querySelector('.judge'); return j.scrollWidth - j.clientWidth; })()")
        <= 0
    )
    shoot(page, "judge-phone")
