"""What is measured and what a picture shows, in a real browser: a CLIP that knows colours, a folder searched by it and by a dropped picture,
numbers in the picture window and where the dialogue is rated."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from studio.actions import Studio
from studio.config import Config
from studio.tree import Part
from tests import tiny_clip
from tests.browser.test_axe import faults
from tests.conftest import ECHO, Served
from tests.test_retrieve import picture

pytest.importorskip("skimage")
pytestmark = pytest.mark.browser
COLOURS = {"IMG_1": "#e01010", "IMG_2": "#10d010", "IMG_3": "#1010e0"}  # their names say nothing


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio with a CLIP model in its studio.toml."""
    clip = tiny_clip.folder(tmp_path / "clip")
    opened = Studio.open(Config(tmp_path / "home", annotator="ann", models=(ECHO,), retrieve={"clip": str(clip)}))
    yield opened
    opened.close()


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Three pictures of one colour each, with a little in them."""
    root = tmp_path / "colours"
    root.mkdir()
    for name, colour in COLOURS.items():
        image = Image.blend(picture(int(name[-1])), Image.new("RGB", (96, 64), colour), 0.8)
        image.save(root / f"{name}.png")
    return root


@pytest.fixture
def leaf(studio: Studio) -> str:
    """A dialogue of two turns, each reply with a picture."""
    tree, node = studio.store.create_tree("Two pictures"), None
    for i in (1, 2):
        out = io.BytesIO()
        Image.blend(picture(i, (320, 240)), Image.new("RGB", (320, 240), COLOURS[f"IMG_{i}"]), 0.6).save(out, "PNG")
        stored = studio.media.add(out.getvalue(), "x.png")
        studio.store.add_image(stored.sha256, stored.mime, stored.width, stored.height, stored.bytes, "upload")
        question = studio.store.add_node(tree, node, "user", [Part("text", f"Draw {i}")])
        parts = [Part("text", "Here it is"), Part("image", image_sha256=stored.sha256, caption=("red", "green")[i - 1])]
        node = studio.store.add_node(tree, question, "assistant", parts, model="m")
    assert node
    return node


def test_pictures_are_found_by_what_they_show_and_by_another_picture(page: Page, served: Served, colours: Path) -> None:
    page.keyboard.press("f")
    window = page.locator("dialog#retrieve")
    window.get_by_label("Path of a folder").fill(str(colours))
    window.get_by_label("Path of a folder").press("Enter")
    way, words, first = (
        window.get_by_label("How to search"),
        window.get_by_role("searchbox"),
        window.locator(".found").first,
    )
    way.select_option("picture")
    words.fill("a picture of blue")
    expect(first).to_have_attribute("title", f"{colours}/IMG_3.png", timeout=60_000)
    expect(first).to_contain_text("shows 0.9")
    words.fill("green")
    expect(first).to_have_attribute("title", f"{colours}/IMG_2.png")

    out = io.BytesIO()
    Image.new("RGB", (300, 50), "#ff2020").save(out, "JPEG")
    window.locator("input[type=file]").set_input_files(
        {"name": "red.jpg", "mimeType": "image/jpeg", "buffer": out.getvalue()}
    )
    expect(window.get_by_text("Like this picture")).to_be_visible()
    expect(first).to_have_attribute("title", f"{colours}/IMG_1.png")
    drop(window, base64.b64encode(out.getvalue()[:200]).decode())  # cut off
    expect(page.get_by_role("alert").filter(has_text="cut.jpg: broken, and cannot be read to its end")).to_be_visible()
    expect(first).to_have_attribute("title", f"{colours}/IMG_1.png")  # what was found stays
    out = io.BytesIO()
    Image.new("RGB", (50, 300), "#3030ff").save(out, "PNG")
    drop(window, base64.b64encode(out.getvalue()).decode())
    expect(first).to_have_attribute("title", f"{colours}/IMG_3.png")
    first.press("Enter")
    expect(page.locator(".picture-chip")).to_have_count(1)
    (row,) = served.studio.store.images().values()
    assert (row["params"]["by"], row["params"]["file"]) == ("picture", "IMG_3.png")


def drop(window: object, data: str) -> None:
    """Drop a file into the window."""
    window.evaluate(  # type: ignore[attr-defined]
        """(dialog, data) => {
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), transfer = new DataTransfer();
        transfer.items.add(new File([bytes], 'cut.jpg', { type: 'image/jpeg' }));
        dialog.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""", data)  # fmt: skip


def test_numbers_stand_beside_a_picture_and_where_the_dialogue_is_rated(page: Page, served: Served, leaf: str) -> None:
    page.evaluate("leaf => studio.open({ node: leaf })", leaf)
    fold = page.locator(".dialogue-checks")
    fold.get_by_text("Pictures of this dialogue, measured").press("Enter")
    distances = fold.get_by_role("table", name="Distances between the pictures of this dialogue")
    expect(distances.locator('[data-means="palette"]')).to_contain_text("0 to 1", timeout=60_000)
    expect(distances.locator('[data-means="apart"]')).to_contain_text("0 to 2")
    expect(distances).to_contain_text("The two most alike: pictures 1 and 2")
    expect(fold.locator("table.each tbody tr")).to_have_count(2)
    assert faults(page, "inspector") == []

    fold.get_by_role("button", name="Open picture 1").press("Enter")
    window = page.locator("dialog#picture")
    window.get_by_text("Measured", exact=True).press("Enter")
    table = window.get_by_role("table", name="What is measured of this picture")
    for key, said in {
        "quality": "About 0 to 100, lower is better",
        "blur": "0 to 1",
        "noise": "0 to 255",
        "similarity": "-1 to 1",
    }.items():
        expect(table.locator(f'[data-means="{key}"]').first).to_contain_text(said)
    expect(table).to_contain_text("Caption: “red”")
    expect(table).to_contain_text("Among 1 of the store")
    assert faults(page, "picture") == []
    shown = page.evaluate("studioPicture.state.sha256")
    table.get_by_role("button", name="Open the picture that looks most like this one").press("Enter")
    page.wait_for_function("before => studioPicture.state.sha256 !== before", arg=shown)
    window.get_by_role("button", name="Find others like it").press("Enter")
    expect(page.locator("dialog#retrieve").get_by_text("Like this picture")).to_be_visible()
    assert faults(page, "find a picture") == []
