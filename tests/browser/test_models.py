"""The Models screen in a real browser: download, use, test, unload, remove; own files; a download that is cut; narrow and by keyboard."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: the tests of downloaded models did not run")

from studio import catalogue, config, jobs
from tests import tiny_gguf
from tests.browser.test_judge import shoot, to
from tests.conftest import ECHO, Served, wait
from tests.hub import Hub, asked

pytestmark = pytest.mark.browser
ENTRY = catalogue.entries()[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model under the names that the first entry of the catalogue has on the hub."""
    folder = tmp_path_factory.mktemp("hub")
    tiny_gguf.text_model(folder / ENTRY.file)
    tiny_gguf.projector(folder / ENTRY.mmproj)
    return folder


@pytest.fixture
def at(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_jobs_left: None) -> Iterator[Hub]:
    with asked({ENTRY.repository: files}, tmp_path, monkeypatch) as running:
        yield running


def test_download_use_test_unload_remove(at: Hub, page: Page, served: Served) -> None:
    at.pause = threading.Event()
    to(page, "Settings")
    row = page.locator(f'[data-model="{ENTRY.name}"]')
    expect(row).to_contain_text("not here")
    expect(row).to_contain_text("images and text")
    shoot(page, "models")
    row.get_by_role("button", name="Download").press("Enter")
    expect(row.get_by_role("button", name="Cancel")).to_be_focused()  # the keyboard stays in its row
    expect(row).to_contain_text(re.compile(r"downloading [1-9]"), timeout=60_000)  # of two files half of one has come
    row.scroll_into_view_if_needed()
    shoot(page, "models-downloading")
    at.pause.set()
    expect(row.locator(".model-state")).to_have_text("here", timeout=60_000)
    row.get_by_role("button", name="Use").click()
    expect(row.locator(".model-state")).to_have_text("here, in the list")
    assert config.load(served.studio.config.home).models[0].name == ENTRY.name

    listed = page.locator(f'[data-listed="{ENTRY.name}"]')
    expect(listed).to_contain_text("not loaded")
    listed.get_by_role("button", name="Test").click()
    expect(listed.locator(".model-test")).to_contain_text("First token after", timeout=60_000)
    expect(listed.locator(".model-loaded")).to_contain_text("on llama.cpp")
    listed.scroll_into_view_if_needed()
    shoot(page, "models-tested")
    listed.get_by_role("button", name="Unload").click()
    expect(listed).to_contain_text("not loaded")
    expect(listed.locator(".model-settings")).to_contain_text(f"{ENTRY.file} · mmproj = ")
    listed.get_by_role("button", name="Take out").press("Enter")
    expect(listed).to_contain_text("Take it out of the list? Its files stay.")
    listed.get_by_role("button", name="Yes, take out").click()
    expect(listed).to_have_count(0)
    expect(page.locator(f'[data-listed="{ECHO.name}"]')).to_be_visible()
    assert all(m.name != ENTRY.name for m in config.load(served.studio.config.home).models)
    row.get_by_role("button", name="Use").click()
    expect(listed).to_be_visible()

    row.get_by_role("button", name="Remove files").click()
    expect(row).to_contain_text("of files and take it out of the list?")
    row.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Remove files").click()
    row.get_by_role("button", name="Yes, remove").click()
    expect(row.locator(".model-state")).to_have_text("not here")
    expect(listed).to_have_count(0)
    assert not catalogue.folder(served.studio.config.home, ENTRY.repository).exists()


def test_named_cancelled_and_resumed(at: Hub, page: Page, served: Served) -> None:
    """A file of the hub that no catalogue has: typed, cancelled, gone on with, used under its own name."""
    at.pause = threading.Event()
    at.models["tiny/own"] = at.models[ENTRY.repository]
    to(page, "Settings")
    row = page.locator(f'[data-model="tiny/own/{ENTRY.file}"]')
    page.locator("#models-path").fill(f"tiny/own/{ENTRY.file}")
    page.locator("#models-mmproj").fill(ENTRY.mmproj)
    page.locator("#models-called").fill("My own")
    page.locator("#models-called").press("Enter")
    expect(row).to_contain_text(re.compile(r"downloading [1-9]"), timeout=60_000)
    row.get_by_role("button", name="Cancel").click()
    expect(row.get_by_role("button", name="Resume")).to_be_visible(timeout=60_000)
    at.pause.set()
    at.pause = None
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".model-state")).to_have_text("here", timeout=60_000)
    row.get_by_role("button", name="Use").click()
    expect(page.locator('[data-listed="My own"]')).to_contain_text("images and text")
    assert any(line.startswith(ENTRY.file) or line.startswith(ENTRY.mmproj) for line in at.ranges)
    wait(lambda: all(j["status"] != "running" for j in jobs.refresh(served.studio.store)))


def test_what_went_wrong_stays_in_the_row(at: Hub, page: Page) -> None:
    at.wrong.add(ENTRY.file)
    to(page, "Settings")
    row = page.locator(f'[data-model="{ENTRY.name}"]')
    row.get_by_role("button", name="Download").click()
    expect(row.get_by_role("alert")).to_contain_text(f"{ENTRY.file} arrived damaged", timeout=60_000)


def test_own_file_on_a_phone(files: Path, page: Page, served: Served) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    to(page, "Settings")
    path = page.locator("#models-path")
    path.fill("/no/such/model.gguf")
    page.locator("#models-called").fill("Mine")
    page.locator(".models-own button").click()
    expect(page.locator(".toast.bad")).to_contain_text("There is nothing at '/no/such/model.gguf'")
    expect(path).to_have_value("/no/such/model.gguf")  # nothing typed is lost
    path.fill(str(files / ENTRY.file))
    page.locator("#models-mmproj").fill(str(files / ENTRY.mmproj))
    page.locator("#models-mmproj").press("Enter")
    expect(page.locator('[data-listed="Mine"]')).to_contain_text("images and text")
    expect(path).to_have_value("")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.querySelector('.models-known').scrollIntoView()")
    shoot(page, "models-phone")
    path.scroll_into_view_if_needed()
    shoot(page, "models-phone-form")
