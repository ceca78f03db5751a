"""A session of judging in a real browser: a queue rated and compared by keyboard, blind, and undone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from studio import annotating, exchange
from studio.store.connection import sqlite3
from studio.tree import Part
from tests.conftest import Served, plant, wait

pytestmark = pytest.mark.browser
NAMES = ("zebra-9b", "yak-7b", "xerus-3b")


def siblings(served: Served, n: int, question: str = "Which is best?") -> list[str]:
    """A question with n replies by different models; returns the ids of the replies."""
    store = served.studio.store
    tree = store.create_tree(question)
    asked = store.add_node(tree, None, "user", [Part("text", question)])
    return [
        store.add_node(tree, asked, "assistant", [Part("text", f"Answer {i} to {question}")], model=NAMES[i])
        for i in range(n)
    ]


def annotate(page: Page, what: str | None = None, order: str = "unrated") -> None:
    """Go to the screen; with ``what`` start a queue there. From then on keys are counted."""
    page.get_by_role("tab", name="Annotate").click()
    if what:
        page.locator("#queue-what").select_option(what)
        page.locator("#queue-order").select_option(order)
        page.locator("#queue-start").click()
    expect(page.locator(".annotate-head")).to_be_visible()
    page.evaluate("window.keys = 0; document.addEventListener('keydown', () => { keys += 1; }, true)")


def keys(page: Page, pressed: str) -> None:
    """Press keys one after the other: 'skip' and 'Enter' by name, others by letter."""
    for key in pressed.split():
        page.keyboard.press(key)


def progress(page: Page, said: str) -> None:
    expect(page.locator(".annotate-head .count")).to_have_text(said)


def current(served: Served) -> dict[str, Any]:
    return annotating.state(served.studio)["item"]


def compared(served: Served) -> list[dict[str, Any]]:
    return served.studio.store.rows("SELECT * FROM current_comparisons ORDER BY id")


def shown_nodes(served: Served) -> tuple[str, ...]:
    return served.studio.store.queue_item(current(served)["id"]).nodes


# ---- rating


def test_a_reply_takes_four_keys_and_enter(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "q1", "first reply", "q2", "second reply")
    for dimension in ("L1", "L2", "L3", "L4"):
        served.studio.store.rate(d, dimension, 1, "ann")  # so that it comes last
    annotate(page, "rate")
    expect(page.locator(".rate-side .card .body")).to_have_text("first reply")
    expect(page.locator(".prefix .card")).to_have_text(re.compile("q1"))
    keys(page, "3 2 1 0")
    expect(page.locator(".levels .saved-note.saved")).to_have_text("L4 saved")
    assert served.studio.store.scores([b], "ann") == {b: {"L1": 3, "L2": 2, "L3": 1, "L4": 0}}
    assert page.locator(".level-row .chosen b").all_inner_texts() == ["3", "2", "1", "0"]
    page.keyboard.press("Enter")
    assert page.evaluate("keys") == 5
    expect(page.locator(".rate-side .card .body")).to_have_text("second reply")
    progress(page, "1 of 2")
    [row] = served.studio.store.rows("SELECT * FROM queue_items WHERE state = 'done'")
    assert 0 <= row["seconds"] < 60
    assert page.locator(".level-row.next").get_attribute("data-code") == "G1"  # what is scored already is passed over
    keys(page, "1 1 1 1 - Enter")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    assert served.studio.store.scores([d], "ann")[d]["G5"] == -1


def test_saved_is_said_once_it_is_on_disk(page: Page, served: Served) -> None:
    [a] = siblings(served, 1)
    annotate(page, "rate")
    other = sqlite3.connect(str(served.studio.store.file), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write now
    page.keyboard.press("3")
    expect(page.locator(".levels .saved-note")).to_have_text("Saving…")
    page.wait_for_timeout(600)
    expect(page.locator(".levels .saved-note")).to_have_text("Saving…")
    other.execute("ROLLBACK")
    other.close()
    expect(page.locator(".levels .saved-note.saved")).to_have_text("L1 saved")
    assert served.studio.store.scores([a], "ann") == {a: {"L1": 3}}


def test_undo_of_scores_and_of_going_on(page: Page, served: Served) -> None:
    siblings(served, 2)
    annotate(page, "rate")
    first = current(served)["id"]
    keys(page, "3 2 Enter")
    progress(page, "1 of 2")
    page.keyboard.press("Control+z")
    progress(page, "0 of 2")
    assert current(served)["id"] == first
    assert page.locator(".level-row .chosen b").all_inner_texts() == ["3", "2"]
    page.keyboard.press("Control+z")
    expect(page.locator(".level-row .chosen b")).to_have_text(["3"])
    assert current(served)["scores"] == {"L1": 3}
    keys(page, "1 Backspace 0")  # L2 again, taken back, and given for good
    expect(page.locator(".level-row .chosen b")).to_have_text(["3", "0"])
    wait(lambda: current(served)["scores"] == {"L1": 3, "L2": 0})


def test_enter_judges_nothing_that_was_not_judged(page: Page, served: Served) -> None:
    siblings(served, 3)
    annotate(page, "rate")
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text("Rate it first")
    keys(page, "3 Enter Enter Enter")  # a nervous finger goes on once
    progress(page, "1 of 3")
    page.wait_for_timeout(300)
    progress(page, "1 of 3")
    assert served.studio.store.counts()["scores"] == 1


def test_a_score_that_was_refused_is_not_shown_as_given(page: Page, served: Served) -> None:
    siblings(served, 2)
    annotate(page, "rate")
    annotating.plan(served.studio, "rate", "random", 10)  # in another window
    page.keyboard.press("3")
    expect(page.locator(".levels .saved-note.bad")).to_have_text("L1 not saved")
    expect(page.locator(".level-row .chosen")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".toast.bad").last).to_contain_text("L1 not saved. Give it again")
    assert served.studio.store.counts()["scores"] == 0


def test_skip_comes_back_at_the_end(page: Page, served: Served) -> None:
    siblings(served, 2)
    annotate(page, "rate")
    first = page.locator(".rate-side .card .body").inner_text()
    page.keyboard.press("s")
    expect(page.locator(".rate-side .card .body")).not_to_have_text(first)
    progress(page, "0 of 2")
    keys(page, "3 Enter")
    expect(page.locator(".rate-side .card .body")).to_have_text(first)


def test_an_imported_dialogue_without_the_mouse(page: Page, served: Served, shared: Any) -> None:
    studio = served.studio
    exchange.import_path(studio.store, studio.media, shared / "intermt_examples")
    tree = studio.store.trees()[0].id
    annotating.plan(studio, "rate", "random", 10, trees=[tree])
    page.get_by_role("tab", name="Annotate").press("Enter")
    progress(page, "0 of 5")
    for done in range(1, 6):
        count = page.locator(".level-row").count()
        assert count == (9 if current(served)["ends"] else 4)
        keys(page, " ".join("3210321032"[:count]) + " Enter")
        progress(page, f"{done} of 5")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    assert studio.store.rows("SELECT count(*) AS n FROM current_scores WHERE annotator = 'ann'") == [{"n": 4 * 4 + 9}]


# ---- comparing


def test_a_pair_takes_two_keys_and_is_blind_until_then(page: Page, served: Served) -> None:
    for question in ("One?", "Two?"):
        siblings(served, 2, question)
    answers: list[Response] = []
    page.on("response", lambda r: answers.append(r) if r.request.resource_type in ("fetch", "xhr") and "component_server" in r.url else None)  # fmt: skip
    annotate(page, "local", "random")
    expect(page.locator(".side")).to_have_count(2)
    nodes = shown_nodes(served)
    before = [r.text() for r in answers]
    assert any("Answer 0" in text for text in before)  # what was collected is what the screen got
    for text in [page.content(), *before]:
        assert not [name for name in NAMES if name in text]
        assert not [node for node in nodes if node in text]
    keys(page, "1 Enter")
    assert page.evaluate("keys") == 2
    progress(page, "1 of 2")
    [row] = compared(served)
    assert (row["left_node"], row["right_node"], row["outcome"], row["shown_left"]) == (*nodes, "left", nodes[0])
    assert 0 <= row["seconds"] < 60
    expect(page.locator(".reveal")).to_contain_text(
        " > ".join(str(served.studio.store.node(node).model) for node in nodes)
    )
    keys(page, "0 Enter")
    progress(page, "2 of 2")
    assert [r["outcome"] for r in compared(served)] == ["left", "tie"]


def test_undo_brings_a_pair_back_blind(page: Page, served: Served) -> None:
    for question in ("One?", "Two?"):
        siblings(served, 2, question)
    annotate(page, "local")
    first, cards = current(served)["id"], page.locator(".sides .body").all_inner_texts()
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text("Choose the better one first")
    keys(page, "2 Enter")
    expect(page.locator(".reveal")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(page.locator(".sides .body")).to_have_text(cards)
    assert not [name for name in NAMES if name in page.content()]
    assert current(served)["id"] == first
    assert compared(served) == []
    assert served.studio.store.counts()["comparisons"] == 1
    keys(page, "1 Enter")
    progress(page, "1 of 2")
    assert [r["outcome"] for r in compared(served)] == ["left"]


def test_three_are_placed_in_order_and_the_last_by_itself(page: Page, served: Served) -> None:
    siblings(served, 3)
    annotate(page, "local")
    a, b, c = shown_nodes(served)
    keys(page, "2 1")
    expect(page.locator(".verdict")).to_contain_text("Overall: 2 > 1 > 3")
    page.keyboard.press("Enter")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    assert {(r["left_node"], r["right_node"], r["outcome"]) for r in compared(served)} == {
        (a, b, "right"), (a, c, "left"), (b, c, "left")}  # fmt: skip


def test_d_goes_through_the_dimensions(page: Page, served: Served) -> None:
    siblings(served, 2)
    annotate(page, "local")
    keys(page, "1 d 2 d d 0")
    expect(page.locator(".dimension-row .chosen")).to_contain_text("L3")
    keys(page, "Enter")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    assert [(r["dimension"], r["outcome"]) for r in compared(served)] == [("overall", "left"), ("L1", "right"), ("L3", "tie")]  # fmt: skip


def test_a_vote_that_is_begun_again_counts_when_it_is_whole(page: Page, served: Served) -> None:
    siblings(served, 3)
    annotate(page, "local")
    keys(page, "1 2 3 Enter")  # the 3 begins anew
    expect(page.locator(".toast").last).to_contain_text("Choose the better one first")
    assert compared(served) == []


def test_two_dialogues_stand_turn_by_turn(page: Page, served: Served) -> None:
    [a, b] = siblings(served, 2)
    store = served.studio.store
    for reply, words in ((a, 5), (b, 400)):
        asked = store.add_node(store.node(reply).tree_id, reply, "user", [Part("text", "word " * words)])
        store.add_node(store.node(reply).tree_id, asked, "assistant", [Part("text", "The end.")], model="m")
    annotate(page, "global")
    tops = page.evaluate(
        "[...document.querySelectorAll('.side')].map(s => [...s.querySelectorAll('.card')].map(c => c.getBoundingClientRect().top))"
    )
    assert tops[0] == tops[1]
    assert len(tops[0]) == 3


def test_two_dialogues_show_where_they_part(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "shared question", "r1", "q2", "r2")
    served.studio.store.add_node(served.studio.store.node(a).tree_id, b, "user", [Part("text", "q3")])
    e = served.studio.store.add_node(served.studio.store.node(a).tree_id, c, "assistant", [Part("text", "r3")])
    annotate(page, "global")
    expect(page.locator(".side .card")).to_have_text([re.compile("r[23]")] * 2)
    expect(page.locator(".prefix summary")).to_have_text("2 earlier messages")
    page.locator(".prefix summary").click()
    keys(page, "1")
    expect(page.locator(".prefix .card").first).to_be_visible()  # stays unfolded
    keys(page, "Enter")
    expect(page.locator(".annotate-item")).to_contain_text("All done.")
    assert [{r["left_node"], r["right_node"]} for r in compared(served)] == [{d, e}]
    assert compared(served)[0]["level"] == "global"
