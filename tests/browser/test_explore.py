"""A day's work in a real browser: ask, stop, branch, rate by keyboard, undo, search, reload, two tabs, dark, narrow."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import assets
from studio import actions
from studio.tree import Part
from tests.conftest import ECHO, SLOW, Served, how, plant, settle, wait, watch

pytestmark = pytest.mark.browser


def send(page: Page, text: str) -> None:
    page.locator("#message textarea").fill(text)
    page.locator("#message textarea").press("Enter")


def choose(page: Page, *names: str) -> None:
    """Choose exactly these models in the composer."""
    while page.locator("#models .token-remove:not(.remove-all)").count():
        page.locator("#models .token-remove:not(.remove-all)").first.click()
    for name in names:
        page.locator("#models input").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def finished(page: Page, replies: int = 1) -> None:
    page.wait_for_function(
        f"() => !document.querySelector('.card.growing') && document.querySelectorAll('.rate.local').length >= {replies}",
        timeout=60_000,
    )


def test_a_new_dialogue(page: Page, served: Served) -> None:
    expect(page.locator(".welcome h2")).to_be_visible()
    send(page, "What is a **quokka**? $x^2$")
    finished(page)
    expect(page.locator(".card.user strong")).to_have_text("quokka")
    expect(page.locator(".card.user math")).to_be_visible()
    expect(page.locator(".card.assistant")).to_contain_text("This is an echo")
    expect(page.locator(".card.assistant .meta")).to_contain_text("tokens/s")
    expect(page.locator(".tree-line.current .tree-title")).to_contain_text("What is a")
    expect(page.locator("#message textarea")).to_have_value("")
    assert re.search(r"tree=\w+&lanes=\w+", page.url)
    assert "token" not in page.url
    assert studio_nodes(served) == 2
    page.locator(".inspector summary", has_text="What was sent").click()
    expect(page.locator(".sent-message pre").last).to_contain_text("quokka")


def studio_nodes(served: Served) -> int:
    return served.studio.store.counts()["nodes"]


def test_a_seed_question_fills_the_composer(page: Page) -> None:
    page.locator(".seeds button").first.click()
    expect(page.locator("#message textarea")).to_have_value(re.compile("hedgehog"))


def test_stop_in_mid_reply(page: Page, served: Served) -> None:
    choose(page, SLOW.name)
    send(page, f"one {'and on ' * 300}twelve")
    expect(page.locator(".card.growing .markdown")).to_contain_text("one")
    page.locator("#stop").click()
    expect(page.locator(".card.assistant .meta")).to_contain_text("stopped")
    settle(served.studio)
    reply = served.studio.store.rows("SELECT id FROM nodes WHERE role = 'assistant'")[0]["id"]
    text = served.studio.store.node(reply).text
    assert text
    assert "twelve" not in text
    assert text.split()[-1] in page.locator(".card.assistant .body").inner_text()


def test_several_models_side_by_side(page: Page, served: Served) -> None:
    choose(page, ECHO.name, SLOW.name)
    send(page, "Hello there")
    expect(page.locator(".lane")).to_have_count(2)
    finished(page, 2)
    expect(page.locator("#lane-note")).to_contain_text("2 lanes")
    send(page, "And then?")
    page.wait_for_function("() => document.querySelectorAll('.lane .card.user').length === 2")
    finished(page, 4)
    models = [
        n.model
        for lane in page.evaluate("studio.state.view.lanes")
        for n in served.studio.store.path(lane)
        if n.role == "assistant"
    ]
    assert models == [ECHO.name, ECHO.name, SLOW.name, SLOW.name]
    page.locator(".lane-head .tool").first.click()
    expect(page.locator(".lane")).to_have_count(0)


def test_retry_edit_and_arrows(page: Page, served: Served) -> None:
    send(page, "First words")
    finished(page)
    page.locator(".card.assistant").get_by_role("button", name=re.compile("Answer again")).click()
    expect(page.locator(".card.assistant .siblings")).to_contain_text("2/2")
    finished(page)
    page.locator(".card.assistant").get_by_role("button", name="Previous version").click()
    expect(page.locator(".card.assistant .siblings")).to_contain_text("1/2")
    page.locator(".card.user").get_by_role("button", name=re.compile("^Edit")).click()
    page.locator(".editor textarea").fill("Other words")
    page.locator(".editor .primary").click()
    expect(page.locator(".card.user .body")).to_contain_text("Other words")
    finished(page)
    expect(page.locator(".card.user .siblings")).to_contain_text("2/2")
    page.keyboard.press("Escape")
    page.locator(".card.user .body").click()
    page.keyboard.press("Alt+ArrowLeft")
    expect(page.locator(".card.user .body")).to_contain_text("First words")
    assert len(served.studio.store.rows("SELECT 1 FROM nodes")) == 5  # nothing was lost


def test_the_tree_answers_to_clicks_and_keys(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "q1", "r1", "q2", "r2")
    tree = served.studio.store.node(a).tree_id
    other = served.studio.store.add_node(tree, a, "assistant", [Part("text", "another reply")])
    page.evaluate("id => studio.open({tree: id})", tree)
    expect(page.locator(".card")).to_have_count(4)
    page.wait_for_function("id => { try { return !!studio.map.positionOf(id); } catch { return false; } }", arg=other)
    at = page.evaluate("id => studio.map.positionOf(id)", other)
    page.mouse.click(at["x"], at["y"])
    expect(page.locator(".card.focus")).to_contain_text("another reply")
    expect(page.locator(".card")).to_have_count(2)
    for key, text in (("Alt+ArrowLeft", "r1"), ("Alt+ArrowDown", "q2"), ("Alt+ArrowDown", "r2"), ("Alt+ArrowUp", "q2")):
        page.keyboard.press(key)
        expect(page.locator(".card.focus .body")).to_have_text(text)
    page.mouse.move(at["x"], at["y"])
    expect(page.locator(".map-tip")).to_contain_text("another reply")


def test_rating_takes_four_keys(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "q1", "r1", "q2", "r2")
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    page.locator(".card.assistant .body").first.click()
    for key in "3210":
        page.keyboard.press(key)
    wait(lambda: served.studio.store.scores([b], "ann").get(b) == {"L1": 3, "L2": 2, "L3": 1, "L4": 0})
    expect(page.locator(f'[data-rate="{b}"] .saved-note.saved')).to_be_visible()
    expect(page.locator(f'[data-rate="{b}"] .chosen')).to_have_text(["3", "2", "1", "0"])
    page.keyboard.press("Enter")  # goes on to the next reply
    expect(page.locator(".card.focus .body")).to_have_text("r2")
    for key in "1111" + "2222" + "-":
        page.keyboard.press(key)
    wait(lambda: served.studio.store.scores([d], "ann").get(d, {}).get("G5") == -1)
    assert len(served.studio.store.scores([d], "ann")[d]) == 9
    page.keyboard.press("Control+z")
    wait(lambda: "G5" not in served.studio.store.scores([d], "ann")[d])
    page.keyboard.press("Backspace")
    expect(page.locator(".toast").last).to_contain_text("Undone")


def test_who_went_on_to_another_dialogue_stays_there(page: Page, served: Served) -> None:
    asked, _ = plant(served.studio, "One?", "Yes.")
    page.evaluate("id => studio.open({node: id})", asked)
    expect(page.locator(".card.user .body")).to_have_text("One?")
    page.locator("#message textarea").fill("And two?")
    with served.studio.store.write():  # what is asked waits until this block ends
        with page.expect_request(lambda request: "And two?" in (request.post_data or "")):
            page.locator("#message textarea").press("Enter")
        page.get_by_role("button", name="New dialogue").click()
        expect(page.locator(".card.user")).to_have_count(0)
    expect(page.locator(".toast")).to_contain_text("asked in the dialogue that you left")
    expect(page.locator(".card.user")).to_have_count(0)
    page.get_by_role("button", name="Go there").click()
    expect(page.locator(".card.user .body").last).to_have_text("And two?")


def test_refreshes_that_wait_are_one_and_come_after_what_is_on_its_way(page: Page, served: Served) -> None:
    one, _ = plant(served.studio, "One?", "Yes.")
    two, _ = plant(served.studio, "Two?", "Yes.")
    page.evaluate("id => studio.open({node: id})", one)
    shown = """async ([one, two]) => {
      const seen = [];
      studio.on('view', ({ view }) => seen.push(view.focus));
      const slow = studio.open({ node: one });
      await Promise.all([studio.open({ node: two }), ...Array.from({ length: 5 }, () => studio.refresh()), slow]);
      return seen;
    }"""
    assert page.evaluate(shown, [one, two]) == [two, two]
    assert (
        page.evaluate(
            "() => { const late = studio.refresh(); studio.fresh(); return late.then(() => studio.state.view.tree); }"
        )
        is None
    )


def test_a_page_that_is_drawn_anew_while_somebody_rates_moves_no_score(page: Page, served: Served) -> None:
    ids = plant(served.studio, *(text for i in range(6) for text in (f"q{i}", f"r{i}")))
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(ids[0]).tree_id)
    for reply in ids[1::2]:
        page.locator(f'[data-id="{reply}"] .body').click()
        for key in "3210":
            page.evaluate("() => { studio.refresh(); }")  # asked for before this key, drawn after it
            page.keyboard.press(key)
            page.wait_for_timeout(40)
    wait(lambda: all(len(s) == 4 for s in served.studio.store.scores(ids[1::2], "ann").values()), 20, "all scores")
    for reply in ids[1::2]:
        assert served.studio.store.scores([reply], "ann")[reply] == {"L1": 3, "L2": 2, "L3": 1, "L4": 0}
        expect(page.locator(f'[data-rate="{reply}"].local .chosen')).to_have_text(["3", "2", "1", "0"])
    assert served.studio.store.rows("SELECT count(*) AS n FROM scores") == [{"n": 24}]


def test_meaning_and_history_of_a_score(page: Page, served: Served) -> None:
    a, b = plant(served.studio, "q", "r")
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    row = page.locator('[data-code="L1"]').first
    row.locator("button").nth(2).hover()
    expect(page.locator(".rate.local .rate-hint")).to_contain_text("Right, with a small slip")
    row.locator("button").nth(2).click()
    row.locator("button").nth(1).focus()
    expect(page.locator(".rate.local .rate-hint")).to_contain_text("clear errors")
    row.locator("button").nth(1).click()
    expect(page.locator(".history tr.old")).to_have_count(1)
    expect(page.locator(".history tr:not(.old) td").nth(1)).to_have_text("1")


def test_feedback_is_saved_as_it_is_written(page: Page, served: Served) -> None:
    a, b = plant(served.studio, "q", "r")
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    page.locator(".rate.local summary").click()
    page.get_by_label("Critique (local)").fill("Too short.")
    expect(page.locator(".rate.local .feedback .saved-note.saved")).to_be_visible()
    assert served.studio.store.feedback([b], "ann")[b] == {("local", "critique"): "Too short."}
    page.reload()
    expect(page.get_by_label("Critique (local)")).to_have_value("Too short.")


def test_prune_restore_and_undo(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "q1", "r1", "q2", "r2")
    tree = served.studio.store.node(a).tree_id
    other = served.studio.store.add_node(tree, a, "assistant", [Part("text", "another reply")])
    page.evaluate("id => studio.open({tree: id})", tree)
    page.locator(".card.assistant").first.get_by_role("button", name=re.compile("^Prune: Hide this branch")).click()
    expect(page.locator(".card.assistant")).to_have_count(1)
    expect(page.locator(".card.assistant .body")).to_have_text("another reply")
    assert served.studio.store.node(b).pruned_at
    page.locator(".toast button", has_text="Undo").click()
    wait(lambda: not served.studio.store.node(b).pruned_at)
    page.locator(".tree-line").hover()
    page.get_by_role("button", name="Remove q1").click()
    expect(page.locator(".tree-line")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(".tree-line")).to_have_count(1)
    assert other


def test_search_goes_to_any_branch(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "the first question", "a reply", "about penguins", "cold birds")
    served.studio.store.add_node(served.studio.store.node(a).tree_id, a, "assistant", [Part("text", "newer reply")])
    page.keyboard.press("/")
    page.keyboard.type("pengu")
    expect(page.locator(".hit mark")).to_have_text("penguins")
    page.locator(".hit").click()
    expect(page.locator(".card.focus .body")).to_have_text("about penguins")
    page.locator(".sidebar input[type=search]").fill("nothing has this")
    expect(page.locator(".tree-list")).to_contain_text("Nothing on any branch")


def test_reload_in_mid_reply_loses_nothing(page: Page, served: Served) -> None:
    choose(page, SLOW.name)
    send(page, "one two three four five six seven eight nine ten")
    expect(page.locator(".card.growing .markdown")).to_contain_text("one")
    shown = page.locator(".card.growing .body").inner_text()
    page.reload()
    expect(page.locator(".card.growing, .card.assistant")).to_contain_text(shown.split("\n")[0][:20])
    finished(page)
    expect(page.locator(".card.assistant .body")).to_contain_text("nine ten")


def test_a_second_tab_sees_what_the_first_does(page: Page, served: Served) -> None:
    a, b = plant(served.studio, "q", "r")
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    second = page.context.new_page()
    troubles = watch(second)
    second.goto(page.url)
    expect(second.locator(".card")).to_have_count(2)
    page.locator(".card.assistant .body").click()
    page.keyboard.press("3")
    expect(second.locator(f'[data-rate="{b}"] .chosen')).to_have_text("3", timeout=60_000)
    send(page, "More?")
    finished(page, 2)
    expect(second.locator(".tree-line .soft")).to_contain_text("2 replies", timeout=60_000)
    assert not troubles


def test_dark_mode_stays_and_is_readable(page: Page) -> None:
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.reload()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    for selector in (".welcome h2", ".welcome p", ".tree-list .empty", "#message textarea", ".map-none"):
        page.wait_for_selector(selector, state="attached")  # the body is dark before the page is there
        wait(lambda s=selector: contrast(page, s) >= 4.5, 3, f"contrast of {selector}")  # colours fade in


def contrast(page: Page, selector: str) -> float:
    """WCAG contrast of an element's text against the first opaque colour behind it."""
    colours = page.evaluate(
        """s => { const e = document.querySelector(s); let b = e, back = 'rgba(0, 0, 0, 0)';
        while (b && /, 0\\)$/.test(back)) { back = getComputedStyle(b).backgroundColor; b = b.parentElement; }
        const rgb = c => { const x = document.createElement('canvas').getContext('2d'); x.fillStyle = c; x.fillRect(0, 0, 1, 1); return [...x.getImageData(0, 0, 1, 1).data]; };
        return [rgb(getComputedStyle(e).color), rgb(back)]; }""",
        selector,
    )

    def light(rgb: list[int]) -> float:
        linear = [(v / 255 / 12.92) if v / 255 <= 0.03928 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, two = sorted((light(c) for c in colours), reverse=True)
    return (one + 0.05) / (two + 0.05)


def test_on_a_phone(page: Page, served: Served) -> None:
    a, b = plant(served.studio, "q", "a long reply " * 40)
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    for pane, shows in (("Dialogues", ".tree-line"), ("Tree", ".map-canvas"), ("Chat", ".card.assistant")):
        page.locator(".pane-switch button", has_text=pane).click()
        expect(page.locator(shows).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#message").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_pictures_are_pasted_and_shown(page: Page, served: Served) -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(drawn, "PNG")
    page.locator("#message input[type=file]").set_input_files(
        {"name": "a teal card.png", "mimeType": "image/png", "buffer": drawn.getvalue()}
    )
    page.wait_for_function("() => document.querySelector('#message .thumbnail-item, #message img')", timeout=60_000)
    send(page, "What colour?")
    finished(page)
    expect(page.locator(".card.user figure img")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.card.user figure img').naturalWidth > 0")
    expect(page.locator(".card.assistant .body")).to_contain_text("a teal card")


def test_errors_reach_the_person_and_the_text_stays(page: Page, served: Served) -> None:
    before = studio_nodes(served)
    page.locator("#message textarea").fill("x" * 2_000_000)
    page.locator("#message textarea").press("Enter")
    expect(page.locator(".toast.bad")).to_contain_text("2,000,000 characters", timeout=60_000)
    assert page.evaluate("document.querySelector('#message textarea').value.length") >= 200_000
    assert studio_nodes(served) == before


def test_screens_switch_and_shortcuts_list(page: Page, served: Served) -> None:
    page.locator("body").press("?")
    expect(page.locator("dialog#shortcuts")).to_contain_text("Go to the message above")
    told = set(page.locator("dialog#shortcuts kbd").all_inner_texts())
    bound = re.findall(
        r"onKey\('(\w)'", "".join(p.read_text(encoding="utf-8") for p in Path(assets.__file__).parent.glob("*.js"))
    )
    assert len(bound) >= 5
    assert {key.upper() for key in bound} <= told
    assert page.locator("dialog#shortcuts").evaluate("e => e.scrollTop") == 0  # its top is read first
    page.keyboard.press("Escape")
    expect(page.locator("dialog#shortcuts")).to_have_count(0)
    page.get_by_role("tab", name="Data").click()
    expect(page.get_by_role("button", name="Import", exact=True).last).to_be_visible()
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator(".models-list").first).to_contain_text("Echo")
    page.get_by_role("tab", name="Explore").click()
    plant(served.studio, "q", "r")
    page.keyboard.press("n")
    expect(page.locator("#message textarea")).to_be_focused()


def test_import_and_export_on_the_screen(page: Page, served: Served, shared: Any) -> None:
    page.get_by_role("tab", name="Data").click()
    page.get_by_label("Or a file or folder on this computer").fill(str(shared / "intermt_examples"))
    page.locator("#import-button").click()
    expect(page.locator("#import-report")).to_contain_text("15 new trees, 150 messages", timeout=60_000)
    page.get_by_role("button", name="Make the file").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("^Download")).click(timeout=60_000)
    assert download.value.path().stat().st_size > 1_000_000
    page.get_by_role("tab", name="Explore").click()
    expect(page.locator(".tree-line")).to_have_count(15)


def test_continue_here_asks_under_an_earlier_reply(page: Page, served: Served) -> None:
    a, b, c, d = plant(served.studio, "q1", "r1", "q2", "r2")
    page.evaluate("id => studio.open({tree: id})", served.studio.store.node(a).tree_id)
    page.locator(".card.assistant").first.get_by_role(
        "button", name=re.compile("^Continue here: Ask the next question")
    ).click()
    expect(page.locator(".card")).to_have_count(2)
    send(page, "another way")
    finished(page, 2)
    asked = served.studio.store.rows("SELECT parent_id FROM nodes WHERE role = 'user' ORDER BY id DESC LIMIT 1")[0][
        "parent_id"
    ]
    assert asked == b
    actions.retry(served.studio, b, how())
    settle(served.studio)
