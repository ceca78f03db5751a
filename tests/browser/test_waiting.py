"""Questions that wait for a reply, in a real browser: seen, changed, taken back, asked in their column, held after a stop, kept over a reload."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from backends import ModelSpec
from studio import actions
from tests.browser.test_explore import choose, send
from tests.browser.test_judge import shoot
from tests.conftest import ECHO, Served, settle, watch
from tests.servers import Answer, Handler, piece, scripted

pytestmark = pytest.mark.browser
SLOW = "Slow one"


def ends_with(gate: threading.Event) -> Answer:
    """A reply whose end comes once the gate is open."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(f"data: {json.dumps(piece('Well, '))}\n\n".encode())
        gate.wait(60)
        for last in (piece("yes."), piece(finish="stop")):
            handler.wfile.write(f"data: {json.dumps(last)}\n\n".encode())
        handler.wfile.write(b"data: [DONE]\n\n")

    return answer


@pytest.fixture
def gate(served: Served) -> Iterator[threading.Event]:
    """A model in the list whose replies end when this is set; use before ``page``."""
    opened = threading.Event()
    with scripted(ends_with(opened)) as server:
        actions.add_model(served.studio, ModelSpec(SLOW, "openai", {"model": "m", "base_url": server.base_url}))
        yield opened
        opened.set()
        settle(served.studio)


def test_waits_changed_taken_back_and_asked(gate: threading.Event, page: Page, served: Served) -> None:
    choose(page, SLOW)
    send(page, "Begin")
    expect(page.locator(".card.growing")).to_contain_text("Well,")
    expect(page.locator("#lane-note")).to_contain_text("waits until the reply above it is done")
    send(page, "The frist **one**")
    first = page.locator(".waiting-card").first
    expect(first).to_contain_text(f"Goes to {SLOW} as soon as the reply above is done.")
    expect(page.locator("#message textarea")).to_have_value("")
    send(page, "Another")
    expect(page.locator(".waiting-card")).to_have_count(2)
    shoot(page, "waiting")
    first.get_by_role("button", name="Change this question").press("Enter")
    expect(first.get_by_role("textbox", name="Change the question")).to_be_focused()
    first.get_by_role("textbox").fill("The first **one**")
    first.get_by_role("button", name="Save").click()
    expect(first).to_contain_text("The first")
    page.locator(".waiting-card").last.get_by_role("button", name="Take this question back").click()
    expect(page.locator(".waiting-card")).to_have_count(1)
    expect(page.locator("#message textarea")).to_have_value("Another")
    page.locator("#toasts button", has_text="Undo").click()
    expect(page.locator(".waiting-card")).to_have_count(2)
    page.reload()
    expect(page.locator(".waiting-card strong")).to_have_text("one")
    gate.set()
    expect(page.locator(".card.user:not(.waiting-card)")).to_have_count(3)  # both were asked, in their order
    expect(page.locator(".rate.local")).to_have_count(3)
    assert page.locator(".card.user .body").all_inner_texts() == ["Begin", "The first one", "Another"]


def test_held_after_a_stop_and_each_column_for_itself(gate: threading.Event, page: Page, served: Served) -> None:
    follows: list[str] = []
    page.on("request", lambda r: follows.append(r.url) if "/queue/join" in r.url else None)
    choose(page, SLOW, ECHO.name)
    send(page, "Begin")
    left, right = page.locator(".lane").nth(0), page.locator(".lane").nth(1)
    expect(right.locator(".rate.local")).to_be_visible()  # it can be judged while the other still grows
    expect(left.locator(".card.growing")).to_be_visible()
    send(page, "Go on")
    expect(left.locator(".waiting-card")).to_be_visible()
    expect(right.locator(".card.user")).to_contain_text("Go on")  # here it was asked at once
    expect(right.locator(".rate.local")).to_have_count(2)
    assert len(follows) == 1  # one stream for all columns, also for what began later
    page.locator("#stop").click()
    card = page.locator(".waiting-card")
    expect(card.get_by_role("alert")).to_contain_text("was stopped, so this was not asked")
    page.set_viewport_size({"width": 390, "height": 844})
    card.scroll_into_view_if_needed()
    shoot(page, "waiting-held-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})
    page.reload()
    gate.set()
    card.get_by_role("button", name="Ask this question now").click()
    expect(left.locator(".card.user:not(.waiting-card)")).to_contain_text("Go on")
    expect(left.locator(".card.assistant .body").last).to_have_text("Well, yes.")
    expect(card).to_have_count(0)
    path = served.studio.store.path(page.evaluate("studio.state.view.lanes[0]"))
    assert [(n.text, n.model) for n in path][2:] == [("Go on", None), ("Well, yes.", SLOW)]


def test_a_second_tab_sees_what_waits(gate: threading.Event, page: Page, served: Served) -> None:
    """Two tabs over one model: what one lets wait, the other takes back, and the first is told of it."""
    choose(page, SLOW)
    send(page, "Begin")
    expect(page.locator(".card.growing")).to_contain_text("Well,")
    other = page.context.new_page()
    troubles = watch(other)
    other.goto(page.url)
    expect(other.locator(".card.growing")).to_contain_text("Well,")
    send(page, "Wait here")
    other.reload()
    other.locator(".waiting-card").get_by_role("button", name="Take this question back").click()
    expect(other.locator(".waiting-card")).to_have_count(0)
    page.locator(".waiting-card").get_by_role("button", name="Change this question").click()
    expect(page.locator(".toast.bad")).to_contain_text("does not wait any more")
    gate.set()
    expect(page.locator(".waiting-card")).to_have_count(0)
    expect(page.locator(".rate.local")).to_have_count(1)
    expect(other.locator(".rate.local")).to_have_count(1)
    assert served.studio.store.counts()["nodes"] == 2
    assert not troubles, troubles
    other.close()
