"""A server by preset in a real browser: listed, tried, added, asked side by side, one stopped, branched, looked at; no key anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from keyring import get_keyring, set_keyring
from keyring.backends import fail
from playwright.sync_api import Page, expect

from backends import keys
from tests.browser.test_explore import choose, finished, send
from tests.conftest import ECHO, Served, wait
from tests.servers import Answer, Handler, events, piece, scripted, status
from tests.test_openai import KEY

pytestmark = pytest.mark.browser
ECHO_OF_HOME = "Echo (no model)"
OFFERED = status(200, {"data": [{"id": "thinker"}, {"id": "talker"}]})


@pytest.fixture(autouse=True)
def no_keyring() -> Iterator[None]:
    """A machine whose keyring cannot be used, as the one that runs the tests may be."""
    before = get_keyring()
    set_keyring(fail.Keyring())
    keys._typed.clear()
    yield
    keys._typed.clear()
    set_keyring(before)


def by_model(**answers: Answer) -> Answer:
    """An answer for each model that is asked for."""

    def answer(handler: Handler) -> None:
        server = handler.server
        answers[server.scripted.requests[-1].body["model"]](handler)  # type: ignore[attr-defined]

    return answer


THINKS = events(
    piece(delta={"reasoning": "<b>Two</b> and two."}),
    piece("Four."),
    piece(finish="stop"),
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "cost": 0.00125}},
)
TALKS = events(*[piece("word ")] * 400, piece(finish="stop"), pause_s=0.05)


def add(page: Page, base_url: str, model: str) -> None:
    """Add one model of the server with the form."""
    page.locator("#server-model input").fill(model)
    page.locator("#server-model input").press("Enter")
    page.locator("#server-add").click()
    expect(page.locator("#server-said textarea")).to_have_value(re.compile(f"Added '{model}'"), timeout=60_000)


def test_from_preset_to_what_was_sent(page: Page, served: Served) -> None:
    with scripted(by_model(thinker=THINKS, talker=TALKS), models=OFFERED) as server:
        page.get_by_role("tab", name="Settings").click()
        page.get_by_label("Server", exact=True).click()
        page.get_by_role("option", name="Ollama").click()
        expect(page.get_by_label("Base URL")).to_have_value("http://127.0.0.1:11434/v1")
        said = page.locator("#server-said textarea")
        expect(said).to_have_value(re.compile("ollama serve"))
        page.get_by_label("Base URL").fill(server.base_url)
        page.get_by_label("Or the key itself").fill(KEY)
        page.locator("#server-list").click()
        expect(said).to_have_value("It offers 2: thinker, talker")
        page.locator("#server-model input").click()
        page.get_by_role("option", name="thinker").click()
        page.get_by_label("May ask for pictures").check()
        page.locator("#server-test").click()
        expect(said).to_have_value(re.compile(r"^It works: .* reasoning, and “Four\.”\.$"), timeout=60_000)
        page.locator("#server-add").click()
        expect(said).to_have_value(re.compile("Added 'thinker'.*until the studio ends"), timeout=60_000)
        expect(page.get_by_label("Or the key itself")).to_have_value("")
        assert "tools" in server.requests[-1].body
        assert served.studio.config.model("thinker").settings["image_tools"] is True
        page.get_by_label("May ask for pictures").uncheck()
        add(page, server.base_url, "talker")
        asked_side_by_side(page, served)
    assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}
    assert KEY not in page.content()
    assert KEY not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, studio.state.view])")
    assert KEY not in (served.studio.config.home / "studio.toml").read_text()
    assert "image_tools" not in served.studio.config.model("talker").settings
    last = [r.body for r in server.requests if r.body][-1]
    assert [m["content"] for m in last["messages"]] == ["Two and two?", "Four.", "And three?"]


def asked_side_by_side(page: Page, served: Served) -> None:
    """Three models of two backends answer; one is stopped, another is asked on, and the inspector has what was sent."""
    streams: list[str] = []
    page.on("request", lambda r: streams.append(r.url) if "/queue/join" in r.url else None)
    page.get_by_role("tab", name="Explore").click()
    choose(page, "thinker", "talker", ECHO_OF_HOME)
    send(page, "Two and two?")
    expect(page.locator(".lane")).to_have_count(3)
    expect(
        page.locator(".lane", has_text=ECHO_OF_HOME).locator(".rate.local")
    ).to_be_visible()  # the slow one holds up nobody
    stopped = page.locator(".lane", has_text="talker").locator(".card.assistant")
    expect(stopped).to_contain_text("word word", timeout=60_000)
    stopped.get_by_role("button", name="Stop").click()
    finished(page, 3)
    expect(stopped.locator(".meta")).to_contain_text("stopped")
    assert len(streams) == 1  # one for all columns
    whole = page.locator(".lane", has_text="thinker").locator(".card.assistant")
    expect(whole.locator(".reasoning")).not_to_have_attribute("open", "")
    whole.locator(".reasoning summary").click()
    expect(whole.locator(".reasoning pre")).to_have_text("<b>Two</b> and two.")  # plain text, whatever it says
    whole.locator("button", has_text="Continue here").click()
    page.wait_for_function("() => studio.state.view.lanes.length === 1")
    choose(page, "thinker")
    send(page, "And three?")
    finished(page, 2)
    wait(lambda: not served.studio.live.growing(), what="the end of the replies")
    for fact in ("Ended by", "Prompt tokens", "First token", "Tokens a second", "Cost"):
        expect(page.locator(".inspector .facts")).to_contain_text(fact)
    expect(page.locator(".inspector .facts")).to_contain_text("0.00125")
    page.locator(".inspector summary", has_text="What was sent").click()
    expect(page.locator(".sent-message pre").last).to_contain_text("And three?")
    page.locator(".inspector summary", has_text="The request beside its messages").click()
    expect(page.locator(".sent > details pre")).to_contain_text('"model": "thinker"')


def test_what_goes_wrong_is_said_beside_the_form(page: Page) -> None:
    with scripted(models=status(200, "<html><title>Router</title>", "text/html")) as server:
        page.get_by_role("tab", name="Settings").click()
        said = page.locator("#server-said textarea")
        page.locator("#server-list").click()
        expect(said).to_have_value(re.compile("needs a base URL"))
        page.get_by_label("Base URL").fill(server.base_url)
        page.locator("#server-list").click()
        expect(said).to_have_value(re.compile("does not answer like an OpenAI server"))
        page.locator("#server-test").click()
        expect(said).to_have_value(re.compile("Which model"))
        expect(page.get_by_label("Base URL")).to_have_value(server.base_url)  # nothing that was typed is lost
    expect(page.locator(f'[data-listed="{ECHO.name}"]')).to_be_visible()
