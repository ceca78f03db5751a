"""The picture window in a real browser: exact places at any zoom and density, keyboard and touch, the message, the lineage."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from studio import history, pictures
from studio.actions import Studio
from studio.tree import Part
from tests.browser.test_axe import faults
from tests.conftest import Served, new_context, settle, wait, watch

pytestmark = pytest.mark.browser

WIDE, HIGH = 401, 203


def noise(size: tuple[int, int] = (WIDE, HIGH)) -> Image.Image:
    """No two places alike: a crop that is one pixel off is another picture."""
    return Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)])


def planted(studio: Studio, picture: Image.Image, caption: str = "a quokka") -> tuple[str, str]:
    """A reply that shows a picture; returns its id and the picture's hash."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    kept = studio.media.add(out.getvalue())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
    tree = studio.store.create_tree("Quokkas")
    asked = studio.store.add_node(tree, None, "user", [Part("text", "Show me one.")])
    parts = [Part("text", "Here."), Part("image", image_sha256=kept.sha256, caption=caption)]
    return studio.store.add_node(tree, asked, "assistant", parts, model="m"), kept.sha256


@pytest.fixture(params=[1, 2])
def dense(request: pytest.FixtureRequest, browser: Any, served: Served) -> Iterator[Page]:
    """The page on a screen of one or two dots a CSS pixel, with touch."""
    context = new_context(
        browser, viewport={"width": 1440, "height": 900}, device_scale_factor=request.param, has_touch=True
    )
    opened = context.new_page()
    troubles = watch(opened)
    opened.goto(served.url)
    opened.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    yield opened
    context.close()
    assert not troubles, troubles


def show(page: Page, node: str) -> None:
    """Open the dialogue and its picture's window."""
    page.evaluate("id => studio.open({node: id})", node)
    page.locator(f'.card[data-id="{node}"] .picture img').click()
    shown(page, 0)


def shown(page: Page, edits: int) -> None:
    """Wait until the canvas shows the picture with so many edits."""
    expect(page.locator("dialog#picture")).to_have_attribute("data-shown", str(edits))


def tool(page: Page, name: str) -> None:
    page.locator(".picture-tools-row").get_by_role("button", name=name, exact=True).click()


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a place of the picture is on the page."""
    at: list[float] = page.evaluate(
        """([x, y]) => { const { x: left, y: top, scale } = studioPicture.state.view.view, r = studioPicture.state.canvas.getBoundingClientRect();
        return [r.left + left + x * scale, r.top + top + y * scale]; }""",
        [x, y],
    )
    return at[0], at[1]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag on the canvas from one place of the picture to another."""
    page.mouse.move(*place(page, *start))
    page.mouse.down()
    page.mouse.move(*place(page, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    page.mouse.move(*place(page, *end))
    page.mouse.up()


def applied(page: Page) -> str:
    """Apply, and the hash that is then in the message."""
    page.get_by_role("button", name="Apply and put into the message").click()
    expect(page.locator("dialog#picture")).to_have_count(0)
    expect(page.locator(".picture-chip")).to_have_count(1)
    return str(json.loads(page.evaluate("studioPictures.attached()"))[0]["sha256"])


def pixels(studio: Studio, sha256: str) -> Image.Image:
    path = studio.media.path(sha256)
    assert path
    return Image.open(path).convert("RGB")


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


@pytest.mark.parametrize("zoom", [1.0, 2.7, 0.37])
def test_a_crop_has_exactly_the_pixels_under_the_box(dense: Page, served: Served, zoom: float) -> None:
    picture = noise()
    node, _ = planted(served.studio, picture)
    show(dense, node)
    tool(dense, "Crop")
    if zoom != 1.0:
        dense.evaluate("z => studioPicture.state.view.zoom(z)", zoom)
    drag(dense, (150, 70), (251, 133))
    assert same(pixels(served.studio, applied(dense)), picture.crop((150, 70, 251, 133)))


def test_all_by_keyboard(page: Page, served: Served) -> None:
    picture = noise()
    node, _ = planted(served.studio, picture)
    page.evaluate("id => studio.open({node: id})", node)
    page.get_by_role("button", name="Edit the picture: a quokka").focus()
    page.keyboard.press("Enter")
    shown(page, 0)
    page.locator('[data-tool="crop"]').focus()
    page.keyboard.press("Enter")
    page.locator("dialog#picture canvas").focus()
    for key in (
        "ArrowRight",
        "ArrowRight",
        "Shift+ArrowDown",
        "ArrowUp",
        "Control+ArrowLeft",
        "Control+Shift+ArrowDown",
    ):
        page.keyboard.press(key)  # the first one places the box in the middle
    box = (100 + 1, 51 + 10 - 1, 100 + 1 + 201 - 1, 51 + 10 - 1 + 102 + 10)
    assert page.evaluate("studioPicture.state.view.shape") == {
        "x": box[0],
        "y": box[1],
        "w": box[2] - box[0],
        "h": box[3] - box[1],
    }
    page.keyboard.press("Enter")
    shown(page, 1)
    expect(page.locator(".picture-edits li")).to_have_text(["crop to 200 x 112 at 101, 60"])
    page.keyboard.press("Control+z")
    shown(page, 0)
    page.keyboard.press("Control+Shift+Z")
    shown(page, 1)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".picture-chip")).to_have_count(1)
    made = json.loads(page.evaluate("studioPictures.attached()"))[0]
    assert made["caption"] == "a quokka"
    assert same(pixels(served.studio, made["sha256"]), picture.crop(box))
    expect(page.locator("#composer textarea").first).to_be_focused()


def test_every_tool_adds_its_edit(page: Page, served: Served) -> None:
    node, sha256 = planted(served.studio, noise())
    show(page, node)
    count = 0
    for name in ("Box", "Ellipse", "Arrow", "Freehand", "Spotlight", "Blur", "Pixelate"):
        tool(page, name)
        drag(page, (40, 30), (180, 120))
        count += 1
        shown(page, count)
        page.keyboard.press("Enter")
        expect(page.locator(".picture-edits li")).to_have_count(count)
    tool(page, "Label")
    page.get_by_label("Words").fill("Größe")
    page.mouse.click(*place(page, 50, 40))
    shown(page, count := count + 1)
    tool(page, "Adjust")  # what stands is added when another tool is taken
    expect(page.locator(".picture-edits li")).to_have_count(count)
    page.get_by_label("Contrast").fill("1.5")
    shown(page, count := count + 1)
    tool(page, "Turn")
    page.get_by_role("button", name="Right", exact=True).click()
    shown(page, count := count + 1)
    expect(page.locator(".picture-head .soft")).to_contain_text(f"{HIGH} × {WIDE} pixels")
    tool(page, "Resize")
    page.get_by_label("Width, pixels").fill("100")
    shown(page, count + 1)
    row = served.studio.store.images([applied(page)]).popitem()[1]
    tools = [
        "box",
        "ellipse",
        "arrow",
        "freehand",
        "spotlight",
        "blur",
        "pixelate",
        "text",
        "contrast",
        "rotate",
        "resize",
    ]
    assert [e["tool"] for e in row["params"]["edits"]] == tools
    assert (row["width"], row["source_sha256"], row["origin"]) == (100, sha256, "edit")


def test_the_edited_picture_is_asked_about_and_its_lineage_is_drawn(page: Page, served: Served) -> None:
    picture = noise()
    node, source = planted(served.studio, picture)
    show(page, node)
    tool(page, "Crop")
    drag(page, (10, 10), (110, 90))
    made = applied(page)
    page.locator("#message textarea").fill("What is this?")
    page.keyboard.press("Enter")
    expect(page.locator(".picture-chip")).to_have_count(0)
    settle(served.studio)
    uses = wait(lambda: served.studio.store.image_uses([made]))
    question = served.studio.store.node(uses[0]["node_id"])
    assert question.parent_id == node
    assert question.images == [Part("image", image_sha256=made, caption="a quokka")]
    page.locator(f'.card[data-id="{question.id}"] .picture img').click()
    shown(page, 0)
    page.locator(".picture-history summary").click()
    expect(page.locator(".lineage-of svg .at")).to_have_count(2)
    lines = page.locator(".lineage-of ol > li")
    expect(lines.nth(0)).to_contain_text("Source 401 x 203")
    expect(lines.nth(1)).to_contain_text("crop to 100 x 80 at 10, 10")
    expect(lines.nth(1)).to_contain_text("Shown in a question of Quokkas")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save a copy with its history").click()
    assert b"intermt-studio history" in Path(download.value.path()).read_bytes()
    lines.nth(0).get_by_role("button", name="Open").first.click()
    shown(page, 0)
    assert page.evaluate("studioPicture.state.sha256") == source


def test_a_dropped_picture_is_cropped_and_highlighted_and_the_crop_is_asked_about(page: Page, served: Served) -> None:
    out = io.BytesIO()
    noise((64, 48)).save(out, "PNG")
    page.evaluate(
        """bytes => { const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], 'my_own-picture.png', { type: 'image/png' }));
        document.querySelector('#message textarea').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })); }""",
        list(out.getvalue()),
    )
    page.get_by_role("button", name="Edit picture 1 of the message: my own picture").click()
    shown(page, 0)
    tool(page, "Crop")
    drag(page, (4, 6), (60, 42))
    page.keyboard.press("Enter")
    shown(page, 1)
    tool(page, "Box")
    drag(page, (8, 8), (40, 30))
    made = applied(page)
    page.reload()
    expect(page.locator(".picture-chip")).to_have_count(1)
    page.locator("#message textarea").fill("What is in the box?")
    page.keyboard.press("Enter")
    settle(served.studio)
    (use,) = wait(lambda: served.studio.store.image_uses([made]))
    question = served.studio.store.node(use["node_id"])
    assert (question.text, [p.image_sha256 for p in question.images]) == ("What is in the box?", [made])
    row = served.studio.store.images([made])[made]
    assert ([e["tool"] for e in row["params"]["edits"]], row["width"], row["height"]) == (["crop", "box"], 56, 36)


def test_closing_keeps_what_was_not_applied_and_repeat_does_it_elsewhere(page: Page, served: Served) -> None:
    first, _ = planted(served.studio, noise())
    second, other = planted(served.studio, noise((120, 90)))
    show(page, first)
    tool(page, "Box")
    drag(page, (10, 10), (60, 60))
    page.keyboard.press("Enter")
    shown(page, 1)
    page.keyboard.press("Escape")
    expect(page.locator("dialog#picture")).to_have_count(0)
    page.reload()
    page.locator(f'.card[data-id="{first}"] .picture img').click()
    shown(page, 1)
    applied(page)
    page.get_by_role("button", name="Take picture 1 out of the message").click()
    show(page, second)
    page.get_by_role("button", name="Repeat").click()
    shown(page, 1)
    assert served.studio.store.images([applied(page)]).popitem()[1]["source_sha256"] == other


def test_touch_draws(dense: Page, served: Served) -> None:
    picture = noise()
    node, _ = planted(served.studio, picture)
    show(dense, node)
    tool(dense, "Crop")
    session = dense.context.new_cdp_session(dense)
    for kind, at in (("touchStart", (20, 30)), ("touchMove", (60, 60)), ("touchMove", (121, 101)), ("touchEnd", None)):
        x, y = place(dense, *at) if at else (0, 0)
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}] if at else []})
    made = pixels(served.studio, applied(dense))
    assert same(made, picture.crop((20, 30, 121, 101)))


def test_an_edit_that_cannot_be_is_one_line_and_nothing_is_lost(page: Page, served: Served) -> None:
    node, _ = planted(served.studio, noise())
    show(page, node)
    tool(page, "Box")
    drag(page, (10, 10), (60, 60))
    page.keyboard.press("Enter")
    tool(page, "Resize")
    page.get_by_label("Width, pixels").fill("39999")
    expect(page.locator(".toast.bad span").last).to_contain_text("at most 40 are taken")
    expect(page.locator(".picture-edits li")).to_have_count(1)
    assert pictures.lineage(served.studio, page.evaluate("studioPicture.state.sha256"))["pictures"][0]["uses"]


def test_side_by_side_with_another_picture_of_the_dialogue(page: Page, served: Served) -> None:
    first, second = noise((60, 40)), noise((60, 40))
    node, sha256 = planted(served.studio, first)
    out = io.BytesIO()
    second.save(out, "PNG")
    other = pictures.add(served.studio, "other.png", base64.b64encode(out.getvalue()).decode())["sha256"]
    tree = served.studio.store.node(node).tree_id
    parts = [Part("image", image_sha256=other, caption="the other")]
    asked = served.studio.store.add_node(tree, node, "user", parts)
    page.evaluate("id => studio.open({node: id})", asked)
    page.locator(f'.card[data-id="{asked}"]').click(position={"x": 5, "y": 5})
    page.keyboard.press("i")
    shown(page, 0)
    assert page.evaluate("studioPicture.state.sha256") == other
    tool(page, "Side by side")
    page.locator(".picture-others").get_by_role("checkbox").check()
    shown(page, 1)
    made = served.studio.store.images([applied(page)]).popitem()[1]
    assert (made["width"], made["height"]) == (2 * 60 + 3 * 8, 40 + 2 * 8)
    assert made["params"]["edits"][0]["params"]["others"] == [sha256]


def test_two_fingers_zoom_and_draw_nothing(dense: Page, served: Served) -> None:
    node, _ = planted(served.studio, noise())
    show(dense, node)
    tool(dense, "Box")
    before = dense.evaluate("studioPicture.state.view.view.scale")
    (x, y), session = place(dense, WIDE / 2, HIGH / 2), dense.context.new_cdp_session(dense)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", 0)):
        fingers = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}] if apart else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    assert dense.evaluate("studioPicture.state.view.view.scale") == pytest.approx(4 * before, rel=0.05)
    assert dense.evaluate("studioPicture.state.view.shape") is None
    middle = place(dense, WIDE / 2, HIGH / 2)
    assert middle == (pytest.approx(x, abs=2), pytest.approx(y, abs=2))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_window(browser: Any, served: Served, scheme: str) -> None:
    node, sha256 = planted(served.studio, noise())
    made = pictures.apply_to(served.studio, sha256, [{"tool": "flip", "params": {"direction": "vertical"}}])
    context = new_context(browser, viewport={"width": 390, "height": 844}, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(served.url)
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    show(page, node)
    found = []
    for name in ("Box", "Label", "Adjust", "Side by side"):
        tool(page, name)
        found += faults(page, name)
    page.evaluate("sha256 => studioPicture.open(sha256, { history: true })", made)
    expect(page.locator(".lineage-of svg .at")).to_have_count(2)
    found += faults(page, "lineage")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Put into the message").click()
    expect(page.locator(".picture-chip")).to_have_count(1)
    found += faults(page, "message")
    context.close()
    assert not found, "\n".join(found)


def test_what_a_file_says_of_itself_is_only_text(page: Page, served: Served) -> None:
    _, sha256 = planted(served.studio, noise())
    hostile = "<img src=x onerror=\"document.title='run'\">"
    flipped = pictures.apply_to(served.studio, sha256, [{"tool": "flip", "params": {"direction": "vertical"}}])
    claims = {"params": {"history": [history.step(words=hostile, tool=hostile, origin="edit")]}}
    with served.studio.store.write() as db:
        db.execute("UPDATE images SET params = ? WHERE sha256 = ?", [json.dumps(claims["params"]), sha256])
    page.evaluate("sha256 => studioPicture.open(sha256, { history: true })", flipped)
    expect(page.locator(".lineage-of svg .at")).to_have_count(3)
    expect(page.locator(".lineage-of ol > li").first).to_contain_text(f"unchecked: {hostile}")
    assert page.locator(".lineage-of img").count() == 0
    assert page.title() != "run"


def test_a_copy_of_no_picture_is_refused_in_one_line(page: Page, served: Served) -> None:
    for sha256 in ("0" * 64, "..%2f..%2fetc%2fpasswd", "x"):
        answer = page.request.get(f"{served.url.split('/?')[0]}/with-history/{sha256}")
        assert answer.status == 404
        assert len(answer.text()) < 120


def test_from_annotate_a_picture_opens_without_telling_who_made_it(page: Page, served: Served) -> None:
    store, picture = served.studio.store, noise()
    node, source = planted(served.studio, picture, "a secret quokka")
    made = pictures.apply_to(served.studio, source, [{"tool": "flip", "params": {"direction": "vertical"}}])
    with store.write() as db:
        db.execute(
            "UPDATE images SET origin = 'generate', tool = 'secret-painter', prompt = 'secret words' WHERE sha256 = ?",
            [source],
        )
    question = store.node(node).parent_id
    for i in range(2):
        parts = [Part("image", image_sha256=made, caption="a quokka")]
        store.add_node(store.node(node).tree_id, question, "assistant", parts, model=f"secret-model-{i}")
    store.prune(node)
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#queue-what").select_option("local")
    page.locator("#queue-start").click()
    link = page.locator(".sides .picture > a").first
    with page.expect_response(lambda r: "picture_preview" in (r.request.post_data or "")):
        link.press("Enter")
    shown(page, 0)
    window = page.locator("dialog#picture")
    expect(window.locator(".picture-tools-row, .picture-save")).to_have_count(0)
    window.get_by_text("Where it comes from").click()
    expect(window.locator(".lineage-of svg .at")).to_have_count(2)
    expect(window.locator(".lineage-of ol > li")).to_contain_text(["hidden until you have voted", "flip vertical"])
    assert "secret" not in window.inner_html()
    page.keyboard.press("Escape")
    expect(link).to_be_focused()
