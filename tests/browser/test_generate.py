"""The window that generates, in a real browser, over a tiny pipeline of random weights: watch, cancel, reload, inpaint, keep."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw
from playwright.sync_api import Page, expect

from backends import ModelSpec
from studio import generating, pictures
from studio.actions import Studio
from tests.browser.test_axe import faults
from tests.browser.test_picture import drag, noise, place, planted, show, tool
from tests.conftest import Served, new_context, settle, wait, watch

# diffusers 0.42 hands torch's tensors to numpy in a way that numpy 2 warns of
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
STEPS = "120"  # of a hundredth of a second: long enough to be looked at


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of random weights that draws, redraws and inpaints pictures of 32 x 32 pixels."""
    pytest.importorskip("diffusers")
    from tests import tiny_painting

    return tiny_painting.stable(tmp_path_factory.mktemp("painter"))


@pytest.fixture
def painting(served: Served, pipeline: Path, one_thread: None) -> Served:
    """The served studio with that pipeline, at a number of steps that can be watched."""
    spec = ModelSpec("Tiny painter", "diffusers", {"model": str(pipeline), "device": "cpu"})
    served.studio.config = replace(served.studio.config, image_models=(spec,))
    return served


def ready(page: Page) -> None:
    page.wait_for_function(
        "() => window.studio && studio.map && studio.state.view && document.getElementById('generate-open')",
        timeout=60_000,
    )


def window(page: Page) -> Any:
    return page.locator("dialog#generate")


def field(page: Page, name: str) -> Any:
    return window(page).get_by_label(name, exact=True)


def rows(studio: Studio) -> list[dict[str, Any]]:
    return [r for r in studio.store.images().values() if r["origin"] in ("generate", "edit")]


def test_watched_finished_repeated_and_put_into_the_message_by_keyboard(page: Page, painting: Served) -> None:
    studio = painting.studio
    ready(page)
    page.keyboard.press("p")
    expect(field(page, "What it should show")).to_be_focused()
    expect(window(page).locator(".gen-estimate")).to_have_text("How long it takes is known after the first run.")
    page.keyboard.press("Enter")
    expect(window(page).get_by_role("alert").first).to_contain_text("The prompt is empty.")
    page.keyboard.type("a red fox in the snow")
    field(page, "Steps").fill(STEPS)
    field(page, "Variants").fill("2")
    field(page, "Seed").fill("7")
    field(page, "What it should show").press("Enter")
    run = window(page).locator(".gen-run")
    expect(run.locator(".gen-words")).to_have_text(re.compile(rf"Step \d+ of {STEPS}, picture 1 of 2.*s left"))
    expect(run.get_by_role("progressbar")).to_be_visible()
    expect(run.get_by_alt_text(re.compile(r"As it looks at step \d+"))).to_be_visible()
    first = run.locator(".gen-pick")
    expect(first).to_have_count(1)
    expect(run).to_have_attribute("data-state", "running")  # one is there, the other is being drawn
    expect(run).to_have_attribute("data-state", "done", timeout=60_000)
    expect(window(page).locator(".gen-estimate")).to_have_text(re.compile(rf"About .* for {2 * int(STEPS)} steps"))

    window(page).get_by_role("button", name=re.compile("Again with this seed: .* seed 8")).press("Enter")
    assert [field(page, name).input_value() for name in ("Seed", "Variants", "Steps")] == ["8", "1", STEPS]
    page.keyboard.press("Enter")
    expect(run).to_have_count(2)
    expect(run.first).to_have_attribute("data-state", "done", timeout=60_000)
    made = run.locator(".gen-pick").evaluate_all("all => all.map(a => a.dataset.sha256)")
    assert made[0] == made[2] != made[1]

    run.last.locator(".gen-pick").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(window(page)).to_have_count(0)
    expect(page.locator("#composer textarea").first).to_be_focused()
    assert json.loads(page.evaluate("studioPictures.attached()")) == [
        {"sha256": made[1], "caption": "a red fox in the snow"}
    ]
    row = studio.store.images([made[1]])[made[1]]
    assert (row["origin"], row["tool"], row["prompt"]) == ("generate", "Tiny painter", "a red fox in the snow")
    assert (row["params"]["seed"], row["params"]["steps"], row["width"]) == (7, int(STEPS), 32)


def test_it_goes_on_over_a_reload_and_ends_within_a_step(page: Page, painting: Served) -> None:
    ready(page)
    button = page.get_by_role("button", name="Generate", exact=True)
    button.click()
    field(page, "What it should show").fill("a lighthouse")
    field(page, "What it should not show").fill("ships")
    field(page, "Steps").fill("500")
    field(page, "Variants").fill("9")
    window(page).get_by_role("button", name="Generate").click()
    expect(window(page).locator(".gen-words")).to_have_text(re.compile(r"Step \d+ of 500"))
    page.reload()
    ready(page)
    expect(page.locator("#generate-open")).to_have_text(re.compile(r"Generating: step \d+ of 500"))
    page.keyboard.press("p")
    assert [
        field(page, name).input_value() for name in ("What it should show", "What it should not show", "Variants")
    ] == ["a lighthouse", "ships", "9"]
    run = window(page).locator(".gen-run")
    expect(run.locator(".gen-words")).to_have_text(re.compile(r"Step \d+ of 500, picture 1 of 9"))
    (task,) = generating.of(painting.studio).runs.values()
    run.get_by_role("button", name="Cancel").press("Enter")
    expect(run).to_have_attribute("data-state", "cancelled")
    at = task.step.step
    assert 0 < at < 500
    assert not task.pictures
    assert not rows(painting.studio)
    expect(run.locator(".gen-words")).to_have_text("Cancelled")
    page.keyboard.press("Escape")
    expect(window(page)).to_have_count(0)
    expect(page.locator("#generate-open")).to_have_text("Generate")
    page.locator("#generate-open").press("Enter")
    expect(field(page, "What it should show")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#generate-open")).to_be_focused()
    assert task.step.step == at


@pytest.fixture
def dense(browser: Any, painting: Served) -> Iterator[Page]:
    """The page on a screen of two dots a CSS pixel."""
    context = new_context(browser, viewport={"width": 1440, "height": 900}, device_scale_factor=2)
    opened = context.new_page()
    troubles = watch(opened)
    opened.goto(painting.url)
    ready(opened)
    yield opened
    context.close()
    assert not troubles, troubles


def stroke_with_a_hole() -> Image.Image:
    """A line with a brush of 8 pixels, and a dot erased from it, as geometry has them."""
    stroke = Image.new("1", (96, 64))
    pen = ImageDraw.Draw(stroke)
    for y in range(64):
        for x in range(60):  # a pixel is in by its middle: 4 around the line, and not 4 around the erased dot
            px, py = x + 0.5, y + 0.5
            near = max(0.0, 20 - px, px - 50) ** 2 + (py - 30) ** 2 < 16
            if near and (px - 35) ** 2 + (py - 30) ** 2 >= 16:
                pen.point((x, y), 1)
    return stroke


def test_a_mask_drawn_at_any_zoom_is_sent_in_pixels_of_the_picture(dense: Page, painting: Served) -> None:
    page, studio = dense, painting.studio
    node, source = planted(studio, noise((96, 64)))
    show(page, node)
    tool(page, "Edit with a model")
    expect(page.get_by_label("Brush, pixels")).to_have_value("8")
    page.evaluate("studioPicture.state.view.zoom(0.61)")
    drag(page, (20, 30), (50, 30))
    page.evaluate("studioPicture.state.view.zoom(3.3)")
    page.get_by_label("Erase").check()
    page.mouse.click(*place(page, 35, 30))  # a click is a dot
    page.get_by_label("Erase").uncheck()
    page.get_by_label("Paint with").select_option("box")
    page.locator("dialog#picture canvas").focus()
    page.keyboard.press("ArrowRight")  # a first box, then its numbers
    for name, value in (("Left", 70), ("Top", 5), ("Width", 11), ("Height", 7)):
        page.locator(".picture-where").get_by_label(name).fill(str(value))
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Add to the mask").press("Enter")
    page.get_by_role("button", name="Invert").click()
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("dialog#picture")).to_have_attribute("data-strokes", "3")
    page.reload()  # what was painted is still there
    ready(page)
    show(page, node)
    tool(page, "Edit with a model")
    page.get_by_role("button", name="Go on with a model").click()
    expect(window(page).get_by_label("What to do")).to_have_value("inpaint")
    expect(window(page).locator(".gen-mask")).to_be_visible()
    field(page, "What it should show").fill("a blue door")
    field(page, "Steps").fill("4")
    with page.expect_request(lambda request: "generate_start" in (request.post_data or "")) as asked:
        page.keyboard.press("Enter")
    expect(window(page).locator(".gen-run")).to_have_attribute("data-state", "done", timeout=60_000)

    (run,) = generating.of(studio).runs.values()
    sent = re.search(r'"mask": ?"([^"]+)"', asked.value.post_data or "")
    assert sent
    mask = Image.open(io.BytesIO(base64.b64decode(sent[1]))).convert("RGB")
    assert mask.size == (96, 64)
    assert {c for _, c in mask.getcolors()} == {(0, 0, 0), (255, 255, 255)}
    mask = mask.convert("1")
    assert mask.crop((60, 0, 96, 64)).getbbox() == (10, 5, 21, 12)
    assert mask.crop((70, 5, 81, 12)).getextrema() == (255, 255)
    apart = ImageChops.logical_xor(mask.crop((0, 0, 60, 64)), stroke_with_a_hole().crop((0, 0, 60, 64)))
    assert apart.convert("L").histogram()[255] <= 8  # only pixels that the round edge halves

    (made,) = run.pictures
    before, after = (Image.open(studio.media.path(h) or "").convert("RGB") for h in (source, made))
    changed = ImageChops.difference(before, after).convert("L").point(lambda v: 255 * (v > 0), "1")
    assert changed.getbbox()
    assert not ImageChops.logical_and(changed, ImageChops.invert(mask)).getbbox()
    row = studio.store.images([made])[made]
    assert (row["origin"], row["source_sha256"], row["params"]["task"]) == ("edit", source, "inpaint")
    window(page).locator(".gen-pick").click()
    page.locator("#message textarea").fill("What is behind the door?")
    page.keyboard.press("Enter")
    settle(studio)
    wait(lambda: studio.store.image_uses([made]))
    assert [p["sha256"] for p in pictures.lineage(studio, made)["pictures"]] == [source, made]


def test_without_a_model_it_says_so_and_leads_to_where_one_is_added(page: Page, served: Served) -> None:
    ready(page)
    page.keyboard.press("p")
    expect(window(page)).to_contain_text("No model that draws is set up yet")
    expect(window(page).locator("img")).to_have_count(0)
    button = window(page).get_by_role("button", name="Open Settings")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    field = page.locator("#image-model-model")
    expect(field).to_be_focused()
    page.locator("#image-model-kind").select_option("openai")
    page.locator("#image-model-model").fill("pictures-1")
    page.locator("#image-model-url").fill("http://169.254.1.1/v1")
    page.locator("#image-model-url").press("Enter")
    expect(page.locator("#part-image-models").get_by_role("alert")).to_contain_text("169.254.1.1")
    expect(field).to_have_value("pictures-1")  # nothing typed is lost
    page.locator("#image-model-url").fill("http://127.0.0.1:9/v1")
    page.locator("#image-model-url").press("Enter")
    expect(page.locator('[data-image-model="pictures-1"]')).to_contain_text("draws from words")
    page.get_by_role("button", name="Take out pictures-1").click()
    expect(page.locator('[data-image-model="pictures-1"]')).to_have_count(0)
    assert not served.studio.config.image_models
    page.get_by_role("tab", name="Explore").click()
    show(page, planted(served.studio, noise())[0])
    tool(page, "Edit with a model")
    expect(page.locator(".picture-panel").get_by_role("status")).to_contain_text("No model that draws is set up yet")
    expect(page.get_by_role("button", name="Go on with a model")).to_have_count(0)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_axe_finds_nothing_serious_in_the_window(browser: Any, painting: Served, scheme: str, width: int) -> None:
    context = new_context(
        browser, viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(painting.url)
    ready(page)
    page.keyboard.press("p")
    field(page, "What it should show").fill("a teapot")
    field(page, "Steps").fill("500")
    page.keyboard.press("Enter")
    expect(window(page).locator(".gen-preview")).to_be_visible()
    found = faults(page, "running")
    window(page).get_by_role("button", name="Cancel").click()
    field(page, "Steps").fill("2")
    field(page, "Steps").press("Enter")
    window(page).get_by_role("button", name="Use as source").click()
    expect(window(page).get_by_alt_text("The picture that is changed")).to_be_visible()
    found += faults(page, "finished, with a source")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    window(page).get_by_role("button", name="Paint a mask").click()
    expect(page.get_by_role("button", name="Go on with a model")).to_be_visible()
    found += faults(page, "mask")
    context.close()
    assert not found, "\n".join(found)
