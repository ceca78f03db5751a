"""The judge moderates in a real browser: best of n, better than this, why, undo, reload, blind, what a score rests on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from studio.steering_run import current
from tests.browser.test_explore import choose, finished, send
from tests.browser.test_judge import judged, scored, shoot, to
from tests.conftest import SLOW, Served, plant, settle, wait
from tests.test_ordering import REPORT

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread", "no_jobs_left")]


def best_of(page: Page, n: int, keep: int = 1, dimension: str = "L4") -> None:
    """Set the line beside the composer."""
    page.get_by_label("Best of").check()
    page.get_by_label("Replies of each model").fill(str(n))
    page.get_by_label("How many to keep").fill(str(keep))
    page.get_by_label("Dimension to choose by").select_option(dimension)


def pruned(served: Served) -> list[str]:
    return [r["id"] for r in served.studio.store.rows("SELECT id FROM nodes WHERE pruned_at IS NOT NULL")]


def over(served: Served) -> Any:
    run = wait(lambda: current(served.studio).run, 10, "a run")
    wait(lambda: not run.going, 60, "its end")
    return run


def back_to_explore(page: Page) -> None:
    """A judge that was made live behind the page's back is noticed when the screen is opened."""
    to(page, "Data")
    to(page, "Explore")


def test_best_of_n_says_why_and_one_undo_brings_them_back(page: Page, served: Served, base: Path) -> None:
    expect(page.locator(".steer-best")).to_have_count(0)  # nobody there to choose
    judged(served, base)
    back_to_explore(page)
    best_of(page, 4)
    shoot(page, "steer-line")
    send(page, "What is an owl?")
    says = page.locator(".steer-says")
    expect(says).to_contain_text("Kept 1 of 4 by L4.", timeout=150_000)
    assert len(pruned(served)) == 3
    rows = page.locator(".steer-table tbody tr")
    expect(rows).to_have_count(4)
    told = steered(served)
    for i, row in enumerate(told["rows"]):
        expect(rows.nth(i)).to_contain_text(f"{row['value']:.2f} ± {row['spread']:.2f}")
        expect(rows.nth(i).locator("td").last).to_have_text(row["fate"])
    expect(page.locator(f'.card[data-id="{told["rows"][0]["id"]}"]')).to_be_visible()
    expect(page.locator(".card.assistant")).to_have_count(1)  # the one that was kept
    shoot(page, "steer-best")
    page.reload()
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    expect(says).to_contain_text("Kept 1 of 4 by L4.")  # the state is the server's
    page.keyboard.press("Control+z")
    expect(page.locator(".toast").last).to_contain_text("Undone: Pruned 3 replies that the judge puts lower")
    assert not pruned(served)
    expect(rows.nth(3).locator("td").last).to_have_text("brought back")
    page.get_by_label("Hide this", exact=True).click()
    expect(page.locator("section.steer-run")).to_have_count(0)


def steered(served: Served) -> dict[str, Any]:
    from studio import steering_view

    return steering_view.state(served.studio, False)["run"]


def test_a_wish_that_cannot_be_granted_loses_nothing_typed(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    back_to_explore(page)
    best_of(page, 2, keep=2)
    send(page, "a long question")
    expect(page.locator(".toast.bad")).to_contain_text("Of 2 replies 1 to 1 can be kept, not 2.")
    expect(page.locator("#message textarea")).to_have_value("a long question")
    assert served.studio.store.counts()["nodes"] == 0


def test_better_than_this_by_keyboard_and_cancelled_after_a_reload(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    back_to_explore(page)
    _, b = plant(served.studio, "Why do owls turn their heads?", "Their eyes cannot move in their sockets.")
    scored(page, served, b)
    choose(page, SLOW.name)
    page.locator(f'[data-id="{b}"] .body').click()
    page.keyboard.press("g")
    dialog = page.get_by_role("dialog", name="Regenerate until better")
    expect(dialog.get_by_label("Attempts, at most")).to_have_value("4")
    spread = served.studio.store.judge_scores(served.studio.store.node(b).tree_id, "one")[b]["overall"].spread
    expect(dialog.get_by_label("By more than")).to_have_attribute("placeholder", f"{spread:.2f}, the spread")
    dialog.get_by_label("Better on").select_option("L4")
    dialog.get_by_label("By more than").fill("20")
    dialog.get_by_role("button", name="Begin").press("Enter")
    expect(dialog.locator("form").get_by_role("alert")).to_contain_text(
        "The margin is 0 to 10, not 20"
    )  # and the form stays
    dialog.get_by_label("By more than").fill("3")
    shoot(page, "steer-form")
    dialog.get_by_label("By more than").press("Enter")
    expect(dialog).to_have_count(0)
    panel = page.get_by_label("What the judge chose")
    expect(panel).to_contain_text("Attempt 1 of 4", timeout=60_000)
    shoot(page, "steer-going")
    page.reload()
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    wait(lambda: len(current(served.studio).run.made) >= 2, 60, "the second attempt, with nobody there")
    panel.get_by_role("button", name="Cancel").click()
    expect(panel).to_contain_text("all kept; nothing was pruned.", timeout=60_000)
    run = over(served)
    settle(served.studio)
    assert run.phase == "cancelled"
    assert not pruned(served)
    assert all(served.studio.store.node(n).text or served.studio.store.node(n).status == "stopped" for n in run.made)


def test_a_question_has_best_of_n_on_its_card(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    back_to_explore(page)
    a, b = plant(served.studio, "What is an owl?", "A bird")
    scored(page, served, b)
    page.locator(f'[data-id="{a}"] .steer-tool').click()
    dialog = page.get_by_role("dialog", name="Best of n")
    dialog.get_by_label("Replies of each model").fill("3")
    dialog.get_by_label("Keep").fill("2")
    dialog.get_by_role("button", name="Ask").click()
    expect(page.locator(".steer-says")).to_contain_text("Kept 2 of 3", timeout=150_000)
    expect(page.locator(".lane")).to_have_count(2)
    page.get_by_role("button", name="Bring them back").click()
    expect(page.locator(".lane")).to_have_count(3)
    assert not pruned(served)


def test_blind_refuses_and_says_why(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    _, b = plant(served.studio, "q", "r")
    page.evaluate("localStorage.setItem('studio-blind', 'yes')")
    back_to_explore(page)
    scored(page, served, b)
    expect(page.locator(".steer-best")).to_contain_text("Blind mode hides what the judge says")
    expect(page.get_by_label("Best of")).to_be_disabled()
    page.locator(f'[data-id="{b}"] .body').click()
    page.keyboard.press("g")
    expect(page.locator(".toast.bad")).to_contain_text("Blind mode hides what the judge says")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_score_says_what_it_rests_on_by_keyboard(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    (served.studio.store.home / "judges" / "one" / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    _, b = plant(served.studio, "q", "r")
    scored(page, served, b)
    bars = page.locator(f'[data-judge="{b}"] button.judge-bar')
    bars.nth(1).focus()
    page.keyboard.press("Enter")
    box = page.get_by_role("dialog", name=re.compile("What L4 .+ rests on"))
    expect(box).to_contain_text("Judge one, which learned this from 60 labels.")
    expect(box).to_contain_text("75.0 % of comparisons decided as people did")
    expect(box).to_contain_text("n 24 comparisons of 8 unseen dialogues; 95 % interval 50.0 % to 90.0 %.")
    expect(box).to_contain_text("a coin 50.0 %, the longer reply 60.0 %")
    expect(box).to_contain_text("always 3 0.90")
    shoot(page, "steer-claim")
    page.keyboard.press("2")  # rates nothing while it is open
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(bars.nth(1)).to_be_focused()
    assert not served.studio.store.scores([b], "ann")
    bars.nth(0).click()
    box = page.get_by_role("dialog", name="What Overall rests on")
    expect(box).to_contain_text("That is below 50: too few to trust.")
    expect(box).to_contain_text("No unseen dialogue had a label of overall")


def test_the_rule_of_a_queue_is_on_its_form(page: Page) -> None:
    to(page, "Annotate")
    page.locator("#queue-order").select_option("teach")
    expect(page.locator(".order-hint")).to_contain_text("every dialogue once before any twice")
    shoot(page, "steer-queue")
    page.locator("#queue-order").select_option("random")
    expect(page.locator(".order-hint")).to_have_text("")


def test_on_a_phone(page: Page, served: Served, base: Path) -> None:
    judged(served, base)
    page.set_viewport_size({"width": 390, "height": 844})
    back_to_explore(page)
    page.locator(".pane-switch button", has_text="Chat").click()
    best_of(page, 4, keep=2)
    send(page, "What is an owl?")
    expect(page.locator(".steer-says")).to_contain_text("Kept 2 of 4", timeout=150_000)
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, "steer-phone")
    page.locator("button.judge-bar").first.click()
    expect(page.locator(".claim")).to_be_visible()
    assert page.evaluate(
        "(() => { const r = document.querySelector('.claim').getBoundingClientRect(); return r.left >= 0 && r.right <= 390 && r.bottom <= 844; })()"
    )
    shoot(page, "steer-phone-claim")
