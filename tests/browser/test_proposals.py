"""Pictures that replies ask for, in a real browser: accepted, changed, refused, undone, made by themselves; by pointer and by keyboard."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from studio import pictures, proposals
from studio.tree import Part
from tests.browser.test_axe import faults
from tests.browser.test_explore import send
from tests.conftest import Served, settle, wait
from tests.test_painting_api import png
from tests.test_retrieve import indexed, put

pytestmark = pytest.mark.browser
COUCH, GREY = "a brown couch in a living room", "the same picture in greyscale"


@pytest.fixture
def folder(served: Served, tmp_path: Path) -> Path:
    """Two pictures that are told apart by what stands beside them, indexed."""
    put(tmp_path / "pictures", "a.jpg", 1, "A brown couch in a living room")
    put(tmp_path / "pictures", "b.jpg", 2, "Two dogs run on a beach")
    indexed(served.studio, tmp_path / "pictures")
    return tmp_path / "pictures"


def reply_of(page: Page, served: Served, words: str, count: int) -> str:
    """Ask the echo, and wait until its reply shows what is proposed."""
    send(page, words)
    settle(served.studio)
    reply = page.locator(".card.assistant").last.get_attribute("data-id") or ""
    wait(lambda: len(served.studio.store.proposals([reply]).get(reply, {})) == count, what="the proposals")
    expect(page.locator(".card.assistant .proposal.proposed")).to_have_count(count, timeout=60_000)
    return reply


def test_accept_change_refuse_and_undo(page: Page, served: Served, folder: Path) -> None:
    words = f"Look: <Image, {COUCH}> then <Image, {GREY}> and <Image, a dragon>"
    reply = reply_of(page, served, words, 3)
    chips = page.locator(".card.assistant .proposal")
    couch = page.get_by_role("group", name=f"Picture: {COUCH}")
    expect(couch).to_contain_text("Find it")
    expect(page.get_by_role("group", name=f"Picture: {GREY}")).to_contain_text("Edit an earlier picture")

    page.locator("#part-transcript .transcript").click(position={"x": 5, "y": 5})  # away from the message box
    page.keyboard.press("t")  # the first one, by keyboard
    expect(couch.get_by_role("button", name="Accept")).to_be_focused()
    page.keyboard.press("Enter")
    figures = page.locator(".card.assistant figure.picture")
    expect(figures).to_have_count(1)
    expect(figures.locator("figcaption")).to_have_text(COUCH)
    expect(page.locator(".card.assistant [data-stood] button").first).to_be_focused()  # the keyboard stays where it was
    page.get_by_role("group", name=f"Picture: {GREY}").get_by_role("button", name="Accept").click()
    expect(figures).to_have_count(2)
    expect(chips).to_have_count(1)  # in order, the words between them kept
    kinds = page.locator(".card.assistant .body > *").evaluate_all("all => all.map(e => e.tagName)")
    assert kinds == ["DIV", "FIGURE", "DIV", "FIGURE", "DIV"]

    page.keyboard.press("t")
    page.keyboard.press("x")  # refuse the dragon
    expect(page.locator(".proposal.refused")).to_be_visible()
    page.keyboard.press("Control+z")
    dragon = page.locator(".proposal.proposed")
    expect(dragon).to_have_count(1)
    dragon.get_by_role("button", name="Accept").click()
    expect(page.locator(".proposal.failed")).to_contain_text("No model that draws")  # and nothing was made up
    page.keyboard.press("c")  # the keyboard is still at this token
    form = page.get_by_role("group", name="Change what is proposed")
    expect(form.get_by_label("Caption of the picture")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("two dogs on a beach")
    form.get_by_label("Tool").select_option("retrieve")
    expect(form.get_by_role("button", name="Two dogs run on a beach")).to_be_visible()
    page.reload()  # nothing typed is lost
    page.wait_for_selector(".proposal-form", timeout=60_000)
    expect(form.get_by_label("Caption of the picture")).to_have_value("two dogs on a beach")
    form.get_by_role("button", name="Two dogs run on a beach").click()
    form.get_by_role("button", name="Make it").click()
    expect(figures).to_have_count(3)
    expect(figures.nth(2).locator("figcaption")).to_have_text("two dogs on a beach")

    page.get_by_role("button", name="Token back").nth(1).click()
    expect(figures).to_have_count(2)
    expect(page.get_by_role("group", name=f"Picture: {GREY}").get_by_role("button", name="Put it here")).to_be_visible()
    assert served.studio.store.node(reply).text.count("<Image,") == 1


def test_what_came_while_a_form_was_open_is_drawn_when_it_is_left(page: Page, served: Served, folder: Path) -> None:
    reply_of(page, served, f"Look: <Image, {COUCH}> and <Image, two dogs on a beach>", 2)
    page.locator("#part-transcript .transcript").click(position={"x": 5, "y": 5})
    page.keyboard.press("t")
    page.keyboard.press("c")
    page.keyboard.type(" at dusk")
    page.evaluate("""async () => {
      const [, dogs] = studio.cards().at(-1).asks;
      await studio.call('proposal_accept', { proposal: dogs.proposal.id });
      await studio.refresh();
    }""")
    form, figures = (
        page.get_by_role("group", name="Change what is proposed"),
        page.locator(".card.assistant figure.picture"),
    )
    expect(form).to_be_visible()
    expect(figures).to_have_count(0)  # what is being typed is not disturbed
    page.keyboard.press("Escape")
    expect(figures).to_have_count(1)
    expect(page.locator(".card.assistant .proposal button").first).to_be_focused()


def test_by_itself_and_what_the_next_model_was_given(page: Page, served: Served, folder: Path) -> None:
    page.get_by_role("button", name="Pictures in replies").click()
    dialog = page.get_by_role("dialog", name="Pictures in replies")
    expect(dialog).to_contain_text("No model that draws")
    box = dialog.get_by_role("checkbox")
    expect(box).not_to_be_checked()
    box.focus()
    page.keyboard.press("Space")
    dialog.get_by_role("button", name="Save").press("Enter")
    expect(dialog).to_have_count(0)
    send(page, f"Show <Image, {COUCH}> please")
    expect(page.locator(".card.assistant figure.picture")).to_have_count(1, timeout=60_000)
    expect(page.locator(".card.assistant .proposal")).to_have_count(0)
    send(page, "And now?")
    expect(page.locator(".card.assistant")).to_have_count(2)
    settle(served.studio)
    expect(page.locator(".card.growing")).to_have_count(0)
    page.get_by_text("What was sent", exact=True).click()
    expect(page.locator(".sent-picture")).to_contain_text(f"<Image, {COUCH}>")
    expect(page.locator(".sent-picture")).to_contain_text("sent as pixels")
    assert proposals.of(served.studio).by_itself
    expect(page.locator(".card.assistant").first.get_by_text(re.compile("Token back"))).to_be_visible()


def test_what_does_not_fit_is_seen_and_mended_by_keyboard(page: Page, served: Served, tmp_path: Path) -> None:
    """As an imported dialogue has it: a token without a picture, one without a token, one without its file."""
    store = served.studio.store
    kite = png("red")
    sha256 = pictures.add(served.studio, "kite", base64.b64encode(kite).decode())["sha256"]
    (tmp_path / "boat.png").write_bytes(png("blue"))
    tree = store.create_tree("Imported")
    asked = store.add_node(tree, None, "user", [Part("text", "Draw.")])
    parts = [
        Part("text", "One <Image, a kite>, two <Image, a boat>."),
        Part("image", "1.png", sha256),
        Part("image", "2.png", None, "a boat"),
    ]
    reply = store.add_node(tree, asked, "assistant", parts)
    page.evaluate(f"studio.open({{ node: '{reply}' }}).then(() => studio.emit('changed'))")
    expect(page.locator(".tree-line")).to_have_count(1)
    card = page.locator(".card.assistant")
    expect(card.get_by_role("note")).to_have_text("1 token without a picture and 1 picture without a token")
    expect(card.locator(".proposal.paired")).to_have_text("picture 2 of this message")
    assert faults(page, "a reply that does not fit") == []

    loose = card.locator("figure").first
    loose.get_by_role("button", name="Caption").press("Enter")
    page.keyboard.type("a kite")
    page.keyboard.press("Enter")
    expect(card.get_by_role("note")).to_have_count(0)
    expect(loose.locator("figcaption")).to_have_text("a kite")
    card.get_by_label("The file of this picture").set_input_files(tmp_path / "boat.png")
    expect(card.locator("figure.missing")).to_have_count(0)
    assert store.missing_images() == []
    page.keyboard.press("Control+z")
    expect(card.locator("figure.missing")).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(card.get_by_role("note")).to_be_visible()

    page.keyboard.press("t")
    page.keyboard.press("c")
    form = card.get_by_role("group", name="Change what is proposed")
    form.get_by_label("Tool").select_option("attach")
    form.get_by_label("A picture from this computer").set_input_files(tmp_path / "boat.png")
    expect(form.get_by_role("button", name="The file that you chose")).to_have_attribute("aria-pressed", "true")
    form.get_by_role("button", name="Put it here").press("Enter")
    expect(card.locator("[data-stood] figcaption")).to_have_text("a kite")
    assert [p.kind for p in store.node(reply).parts] == ["text", "image", "text", "image", "image"]
    card.locator("figure", has_text="No token asks for it").get_by_role("button", name="Remove").press("Enter")
    expect(page.get_by_text("2/2")).to_be_visible()  # a new version; the old one stays
    assert len(store.node(reply).images) == 3
