"""Notes on passages, pictures and dimensions, crucial steps and drafts in a real browser, by keyboard where that makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from studio import views
from studio.actions import Studio, marking
from studio.tree import Part
from tests.conftest import SLOW, Served, how, new_context, plant, settle, wait, watch

pytestmark = pytest.mark.browser

REPLY = (
    "# Quokkas\n\nA **quo**kka is a [small](http://a.example/small) 🦘 of Rottnest, where $x^2$ of them live.\n\n"
    "- They are tame.\n- They are **not** toys.\n\n```python\nprint('tame')\n```\n\nThey are tame."
)
SIZES = [(1440, 900), (390, 844)]


def illustrated(studio: Studio, folder: Path) -> tuple[str, str]:
    """A reply of text, a picture of 400 x 200 and text; returns its id and the picture's hash."""
    picture = Image.new("RGB", (400, 200), "#dbeafe")
    ImageDraw.Draw(picture).ellipse((40, 60, 160, 180), fill="#0f766e")
    picture.save(folder / "p.png")
    kept = studio.media.add((folder / "p.png").read_bytes())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
    tree = studio.store.create_tree("Quokkas")
    asked = studio.store.add_node(tree, None, "user", [Part("text", "Show me one, please.")])
    shown = [Part("text", REPLY), Part("image", image_sha256=kept.sha256, caption="a quokka"), Part("text", "There.")]
    return studio.store.add_node(tree, asked, "assistant", shown, model="m"), kept.sha256


def show(page: Page, node: str) -> None:
    page.evaluate("id => studio.open({node: id})", node)
    expect(page.locator(f'.card[data-id="{node}"] .body')).to_be_visible()


def notes(served: Served, node: str) -> list[dict[str, Any]]:
    return views.said(served.studio, node)["notes"]


def select(page: Page, node: str, words: str, nth: int = 0) -> None:
    """Select these words of a card as a person would: they may run over several elements."""
    found = page.evaluate(
        """([id, words, nth]) => {
            const body = document.querySelector(`.card[data-id="${id}"] .body`), nodes = [];
            const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) nodes.push(walker.currentNode);
            const text = nodes.map(n => n.data).join('');
            let at = -1;
            for (let i = 0; i <= nth; i++) at = text.indexOf(words, at + 1);
            if (at < 0) return false;
            const point = (offset, end) => { for (const n of nodes) { if (offset < n.length || (end && offset === n.length)) return [n, offset]; offset -= n.length; } };
            getSelection().setBaseAndExtent(...point(at, false), ...point(at + words.length, true));
            return true;
        }""",
        [node, words, nth],
    )
    assert found, words


@pytest.fixture(params=SIZES, ids=["wide", "phone"])
def sized(page: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    page.set_viewport_size({"width": request.param[0], "height": request.param[1]})
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"


def test_a_note_on_a_passage_by_keyboard(sized: Page, served: Served, tmp_path: Path) -> None:
    page = sized
    r, _ = illustrated(served.studio, tmp_path)
    show(page, r)
    select(page, r, "quokka is a small 🦘 of")
    page.keyboard.press("m")
    expect(page.get_by_label("Note", exact=True)).to_be_focused()
    expect(page.locator(".note-form .note-where")).to_contain_text("of")
    expect(page.locator("#about-passage")).to_be_hidden()
    page.get_by_label("Dimension of the note").select_option("L1")
    page.get_by_label("Kind of note").select_option("critique")
    page.get_by_label("Note", exact=True).press_sequentially("Which one?")
    page.get_by_label("Note", exact=True).press("Control+Enter")
    expect(page.locator(".notes li")).to_contain_text("Which one?")
    [note] = notes(served, r)
    quote = "quo**kka is a [small](http://a.example/small) 🦘 of"
    assert note["span"] == {
        "part": 0,
        "start": REPLY.index(quote),
        "end": REPLY.index(quote) + len(quote),
        "quote": quote,
    }
    assert (note["kind"], note["dimension"], note["level"]) == ("critique", "L1", "local")
    marks = "marks => marks.map(m => m.textContent).join('')"
    assert page.locator("mark.noted").evaluate_all(marks) == "quokka is a small 🦘 of"
    page.reload()
    expect(page.locator(".notes li")).to_contain_text("ann, round 1")
    assert page.locator("mark.noted").evaluate_all(marks) == "quokka is a small 🦘 of"
    page.locator("mark.noted").first.click()
    expect(page.locator(".notes li")).to_be_focused()
    page.locator(".notes li").press("Control+z")
    expect(page.locator(".notes li")).to_have_count(0)
    expect(page.locator("mark.noted")).to_have_count(0)
    assert notes(served, r) == []


@pytest.mark.parametrize(
    ("words", "nth", "source"),
    [
        ("They are tame.", 0, "They are tame."),
        ("They are tame.", 1, "They are tame."),
        ("not toys", 0, "not** toys"),
        ("print('tame')", 0, "print('tame')"),
        ("Quokkas", 0, "Quokkas"),
        ("There", 0, "There"),
    ],
)
def test_selected_words_are_found_in_the_source(
    page: Page, served: Served, tmp_path: Path, words: str, nth: int, source: str
) -> None:
    r, _ = illustrated(served.studio, tmp_path)
    show(page, r)
    select(page, r, words, nth)
    page.locator("#about-passage").click()
    page.get_by_label("Note", exact=True).fill("x")
    page.get_by_role("button", name="Save note").click()
    expect(page.locator(".notes li")).to_be_visible()
    [note] = notes(served, r)
    at, text = -1, REPLY if words != "There" else "There."
    for _ in range(nth + 1):
        at = text.index(source, at + 1)
    assert note["span"] == {"part": 0 if text == REPLY else 2, "start": at, "end": at + len(source), "quote": source}
    shown = page.locator("mark.noted").evaluate_all("marks => marks.map(m => m.textContent).join('')")
    assert shown == words


def test_words_can_be_typed_instead_of_selected(page: Page, served: Served, tmp_path: Path) -> None:
    r, _ = illustrated(served.studio, tmp_path)
    show(page, r)
    page.keyboard.press("m")
    expect(page.get_by_label("Which words")).to_be_focused()
    page.keyboard.type("no such words")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".toast.bad").last).to_contain_text("“no such words” are not in this reply")
    page.get_by_label("Which words").fill("of Rottnest")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".toast.bad").last).to_contain_text("Write the note first")
    page.get_by_label("Note", exact=True).fill("an island")
    page.keyboard.press("Control+Enter")
    expect(page.locator("mark.noted")).to_have_text("of Rottnest")
    page.get_by_role("button", name="Change note 1").click()
    page.get_by_label("Note", exact=True).fill("an island in the west")
    page.get_by_role("button", name="Note on this picture").click()
    expect(page.locator(".toast.bad").last).to_contain_text("still being written")  # and what was typed is there
    page.keyboard.press("Control+Enter")
    expect(page.locator(".notes .note-text")).to_have_text("an island in the west")
    page.get_by_role("button", name="Take note 1 away").click()
    expect(page.locator(".notes")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(".notes .note-text")).to_have_text("an island in the west")
    assert [h["value"] for h in served.studio.store.history(r)] == ["an island in the west"] * 2 + ["an island"]


def test_a_box_on_a_picture_by_mouse_and_by_keys(sized: Page, served: Served, tmp_path: Path) -> None:
    page = sized
    r, sha = illustrated(served.studio, tmp_path)
    show(page, r)
    page.locator(".picture img").scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.picture img').complete")
    at = page.locator(".picture img").bounding_box()
    assert at
    scale = 400 / at["width"]
    page.mouse.move(at["x"] + 30, at["y"] + 40)
    page.mouse.down()
    page.mouse.move(at["x"] + 60, at["y"] + 60)
    page.mouse.move(at["x"] + 130, at["y"] + 120)
    page.mouse.up()
    expect(page.locator(".note-form .note-where")).to_contain_text("Region of the picture")
    assert len(page.context.pages) == 1  # the picture was not opened
    page.get_by_label("Note", exact=True).fill("no ears")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".notes li")).to_contain_text("no ears")
    [note] = notes(served, r)
    box = note["span"]
    assert box["image"] == sha
    for value, wanted in zip((box["x"], box["y"], box["w"], box["h"]), (30, 40, 100, 80), strict=True):
        assert abs(value - wanted * scale) <= 4
    page.reload()
    drawn = page.locator(".region").bounding_box()
    image = page.locator(".picture img").bounding_box()
    assert drawn
    assert image
    assert abs(drawn["x"] - image["x"] - 30) <= 3
    assert abs(drawn["width"] - 100) <= 3
    page.get_by_role("button", name="Mark a region").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".region-layer")).to_be_focused()
    for key in ["ArrowLeft"] * 20 + ["ArrowUp"] * 20 + ["Shift+ArrowRight"] * 60 + ["Shift+ArrowDown"] * 60:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator(".note-form .note-where")).to_contain_text("400 × 200 pixels at 0, 0")
    page.keyboard.press("Escape")  # nothing written: the form closes
    expect(page.locator(".note-form")).to_have_count(0)
    page.get_by_role("button", name="Note on this picture").click()
    page.get_by_label("Note", exact=True).fill("grey")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".notes li")).to_have_count(2)
    assert {"image": sha} in [n["span"] for n in notes(served, r)]


def test_feedback_for_one_dimension(page: Page, served: Served) -> None:
    _, r = plant(served.studio, "q", "r")
    show(page, r)
    page.locator(".rate.local summary").click()
    page.get_by_label("Critique (local)").fill("whole")
    page.get_by_label("Feedback about (local)").select_option("L2")
    page.get_by_label("Critique (L2)").fill("of relevance")
    wait(
        lambda: (
            views.said(served.studio, r)["feedback"] == {"local-critique": "whole", "local-critique-L2": "of relevance"}
        )
    )
    page.reload()
    expect(page.get_by_label("Critique (local)")).to_have_value("whole")
    page.get_by_label("Feedback about (local)").select_option("L2")
    expect(page.get_by_label("Critique (L2)")).to_have_value("of relevance")


def test_one_visit_to_a_field_is_one_undo(page: Page, served: Served) -> None:
    _, r = plant(served.studio, "q", "r")
    marking.say(served.studio, r, "local", "critique", "first")
    show(page, r)
    area = page.get_by_label("Critique (local)")
    area.focus()
    for text in ("second", "third"):
        area.fill(text)
        wait(lambda: views.said(served.studio, r)["feedback"] == {"local-critique": text})
        expect(page.locator(".rate.local .feedback .saved-note.saved")).to_be_visible()
    area.press("Escape")
    page.keyboard.press("Control+z")
    wait(lambda: views.said(served.studio, r)["feedback"] == {"local-critique": "first"})
    expect(area).to_have_value("first")
    assert len(served.studio.store.history(r)) == 4


def test_crucial_steps_by_keyboard(sized: Page, served: Served) -> None:
    page = sized
    a, b, _, d, _, f = plant(served.studio, "q1", "r1", "q2", "r2", "q3", "r3")
    show(page, f)

    def badges() -> list[str]:
        return page.locator(".crucial-badge [aria-hidden]").all_inner_texts()

    page.evaluate("id => studio.focus(id)", d)
    page.keyboard.press("k")
    expect(page.get_by_label("Why this step is crucial")).to_be_focused()
    page.keyboard.type("It changed the subject.")
    wait(lambda: served.studio.store.steps([f], "ann").get(f, {}).get(d, {}).get("reason") == "It changed the subject.")
    page.keyboard.press("Escape")
    page.evaluate("id => studio.focus(id)", b)
    page.keyboard.press("k")
    expect(page.locator(".crucial-badge")).to_have_count(2)
    assert badges() == ["1", "2"]  # in the order of the path, not of marking
    assert (
        page.locator(f'[data-id="{d}"] .crucial-badge').get_attribute("title")
        == "Crucial step 2: It changed the subject."
    )
    page.reload()
    expect(page.locator(f'[data-id="{d}"]').get_by_label("Why this step is crucial")).to_have_value(
        "It changed the subject."
    )
    page.evaluate("id => studio.focus(id)", b)
    page.keyboard.press("k")
    expect(page.locator(".crucial-badge")).to_have_count(1)
    assert badges() == ["1"]
    page.keyboard.press("Control+z")
    expect(page.locator(".crucial-badge")).to_have_count(2)
    page.evaluate("id => studio.focus(id)", a)
    page.keyboard.press("k")
    expect(page.locator(".toast.bad").last).to_contain_text("that message is a question")
    page.locator(f'[data-id="{f}"]').get_by_role("button", name="Crucial").click()
    expect(page.locator(".crucial-badge")).to_have_count(3)
    assert set(served.studio.store.steps([f], "ann")[f]) == {b, d, f}


def test_what_is_typed_survives_a_reload(page: Page, served: Served, tmp_path: Path) -> None:
    r, _ = illustrated(served.studio, tmp_path)
    marking.step(served.studio, r, r, "")
    show(page, r)
    page.locator(".rate.local summary").click()
    # a server that does not answer: nothing of it is saved
    page.route("**/component_server**", lambda route: route.abort("aborted"))
    page.get_by_label("Refinement (local)").fill("Say which species.")
    page.get_by_label("Why this step is crucial").fill("It begins here.")
    expect(page.locator(".saved-note.bad")).to_have_count(2)
    select(page, r, "of Rottnest")
    page.keyboard.press("m")  # still in a text field: nothing opens
    expect(page.locator(".note-form")).to_have_count(0)
    page.get_by_label("Why this step is crucial").press("Escape")
    select(page, r, "of Rottnest")
    page.keyboard.press("m")
    page.get_by_label("Note", exact=True).fill("an island")
    page.get_by_role("button", name="Save note").click()
    page.unroute("**/component_server**")
    assert views.said(served.studio, r) == {"feedback": {}, "notes": []}
    page.reload()
    expect(page.get_by_label("Refinement (local)")).to_have_value("Say which species.")
    expect(page.get_by_label("Why this step is crucial")).to_have_value("It begins here.")
    expect(page.get_by_label("Note", exact=True)).to_have_value("an island")
    expect(page.locator("mark.noted.pending")).to_have_text("of Rottnest")
    for label in ("Refinement (local)", "Why this step is crucial"):
        page.get_by_label(label).focus()
        page.get_by_label(label).blur()
    page.get_by_role("button", name="Save note").click()
    expect(page.locator(".notes .note-text")).to_have_text("an island")
    wait(lambda: views.said(served.studio, r)["feedback"] == {"local-refinement": "Say which species."})
    wait(lambda: served.studio.store.steps([r], "ann")[r][r]["reason"] == "It begins here.")
    page.wait_for_function("() => !Object.keys(localStorage).some(key => key.startsWith('studio-draft'))")


def test_the_inspector_tells_who_when_and_which_round(page: Page, served: Served, tmp_path: Path) -> None:
    r, _ = illustrated(served.studio, tmp_path)
    other = served.studio.store.add_node(
        served.studio.store.node(r).tree_id, served.studio.store.node(r).parent_id, "assistant", [Part("text", "Other")]
    )
    served.studio.store.compare("local", "overall", r, other, "left", "bob", round=2)
    marking.step(served.studio, r, r, "because")
    show(page, r)
    history = page.locator(".history")
    expect(history).to_contain_text("overall compared")
    expect(history).to_contain_text("better than “Other”")
    expect(history).to_contain_text("bob, round 2")
    page.get_by_label("Why this step is crucial").fill("because of this")
    expect(history.locator("tr.old")).to_contain_text("because")
    select(page, r, "of Rottnest")
    page.locator("#about-passage").click()
    page.get_by_label("Note", exact=True).fill("an island")
    page.keyboard.press("Control+Enter")
    expect(history).to_contain_text("On “of Rottnest”: an island")


def test_questions_and_growing_replies_take_no_notes(page: Page, served: Served, tmp_path: Path) -> None:
    from studio import actions

    r, _ = illustrated(served.studio, tmp_path)
    show(page, r)
    question = served.studio.store.path(r)[0].id
    select(page, question, "Show me")
    page.evaluate("() => studio.refresh()")  # as a score that arrives does
    expect(page.locator("#about-passage")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.locator(".toast.bad").last).to_contain_text("that message is a question")
    [grows] = actions.ask(
        served.studio, [r], "one two three four five six seven eight nine ten eleven twelve", [], how(SLOW.name)
    )
    show(page, grows)
    page.evaluate("id => { getSelection().removeAllRanges(); studio.focus(id); }", grows)
    page.keyboard.press("m")
    expect(page.locator(".toast.bad").last).to_contain_text("still growing")
    page.keyboard.press("k")
    expect(page.locator(".toast.bad").last).to_contain_text("still growing")
    actions.stop(served.studio, [grows])
    settle(served.studio)
    expect(page.locator(f'[data-id="{grows}"] .crucial-tool')).to_be_visible()


def test_side_by_side_each_dialogue_has_its_own_steps(page: Page, served: Served) -> None:
    _, b, c, d = plant(served.studio, "q1", "r1", "q2", "r2")
    store = served.studio.store
    other = store.add_node(store.node(b).tree_id, c, "assistant", [Part("text", "else")])
    page.evaluate("ids => studio.open({lanes: ids, node: ids[1]})", [d, other])
    page.wait_for_selector(".lane")
    page.keyboard.press("k")
    wait(lambda: set(store.steps([d, other], "ann")) == {other})
    page.keyboard.press("Escape")
    page.evaluate("id => studio.focus(id)", b)
    page.keyboard.press("k")
    expect(page.locator(".toast.bad").last).to_contain_text("several dialogues side by side")


def test_light_and_dark(browser: Any, served: Served, tmp_path: Path) -> None:
    """In both schemes what is drawn differs from its ground, and nothing is said on the console."""
    r, sha = illustrated(served.studio, tmp_path)
    quote = "They are tame."
    at = REPLY.index(quote)
    marking.say(
        served.studio,
        r,
        "local",
        "critique",
        "Says who?",
        "L1",
        {"part": 0, "start": at, "end": at + 14, "quote": quote},
    )
    marking.say(
        served.studio, r, "local", "critique", "Green?", span={"image": sha, "x": 40, "y": 60, "w": 120, "h": 120}
    )
    marking.say(served.studio, r, "local", "rationale", "A drawing.", span={"image": sha})
    marking.step(served.studio, r, r, "It begins here.")
    for scheme in ("light", "dark"):
        context = new_context(browser, color_scheme=scheme, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        troubles = watch(page)
        page.goto(served.url)
        page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
        show(page, r)
        ground, marked = (
            page.locator(where).first.evaluate("e => getComputedStyle(e).backgroundColor")
            for where in (f'[data-id="{r}"]', "mark.noted")
        )
        assert ground != marked
        ink = page.locator("mark.noted").first.evaluate("e => getComputedStyle(e).color")
        assert ink == page.locator(".markdown").nth(1).evaluate("e => getComputedStyle(e).color")
        expect(page.locator(".notes li")).to_have_count(3)
        expect(page.locator(".region")).to_have_count(2)
        context.close()
        assert not troubles, troubles
