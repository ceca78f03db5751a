"""Shared fixtures: a home in a temporary folder, an open studio, the whole server, a browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends import ModelSpec
from studio.actions import Ask, Studio
from studio.config import Config
from studio.tree import Part

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ECHO = ModelSpec("Echo (no model)", "echo", {"delay_ms": 0})
SLOW = ModelSpec("Slow echo", "echo", {"delay_ms": 60})
BROKEN = ModelSpec("Broken echo", "echo", {"delay_ms": 0, "fail_after": 3})
# the shell is the same browser without its own windows: a page costs it 40 % less
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                  "--disable-sync", "--no-first-run"]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The loop first, then slow files over the first part, so that none is left for the end, and browser tests evenly among the
    others: processes that share the tests rarely all train, or all drive a browser."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [f for f in files if any(item.get_closest_marker("slow") for item in files[f])]
    browser = [f for f in files if f.parent.name == "browser" and f not in slow]
    others = [f for f in files if f not in (*slow, *browser)]
    places = {f: (i + 0.5) / len(own) for own in (browser, others) for i, f in enumerate(own)}
    slow.sort(key=lambda f: f.name != "test_loop.py")
    places |= {f: 0.6 * i / len(slow) for i, f in enumerate(slow)}
    items[:] = [item for f in sorted(files, key=places.__getitem__) for item in files[f]]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test ever touches the home of the person who runs it."""
    monkeypatch.setenv("INTERMT_STUDIO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """An open studio over an empty home, with echoes as models. No job that it started outlives it."""
    opened = Studio.open(Config(tmp_path / "home", annotator="ann", models=(ECHO, SLOW, BROKEN)))
    yield opened
    opened.close()
    end_jobs()


@pytest.fixture
def shared() -> Path:
    """Real InterMT data beside the project, where it is."""
    if not SHARED.is_dir():
        pytest.skip(f"no InterMT data at {SHARED}: this test needs it")
    return SHARED


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text backbone of random weights, a few hundred kB. Nothing writes into it."""
    from tests import tiny

    return tiny.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF of random weights and its mmproj. Nothing writes into them."""
    from tests import tiny_gguf

    folder = tmp_path_factory.mktemp("gguf")
    return tiny_gguf.text_model(folder / "tiny.gguf", context=4096), tiny_gguf.projector(folder / "mmproj.gguf")


@pytest.fixture
def model(ggufs: tuple[Path, Path]) -> Iterator[Any]:
    """A model of llama.cpp over that GGUF. Others than llama.cpp have a ``model`` of their own."""
    from backends.llama import create

    opened = create(str(ggufs[0]), n_ctx=2048)
    yield opened
    assert opened.unload()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that share a tiny model's work only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_jobs_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The processes that a test starts compute with one thread, and none outlives it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    end_jobs()


def end_jobs() -> None:
    """End what jobs were started: the Judge screen begins to check labels by itself."""
    from studio import jobs

    for process in list(jobs.STARTED.values()):
        process.kill()
        process.wait()
    jobs.STARTED.clear()


PATIENCE = 3  # a machine that runs several tests at once is so much slower


def wait(condition: Any, seconds: float = 10.0, what: str = "condition") -> Any:
    """What ``condition()`` returns once it is true; fails after a while, which is longer where other tests run beside it."""
    deadline = time.monotonic() + PATIENCE * seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {PATIENCE * seconds} s")


def settle(studio: Studio) -> None:
    """Wait until nothing grows."""
    wait(lambda: not studio.live.growing(), 60, "the end of all replies")


def plant(studio: Studio, *texts: str) -> list[str]:
    """A dialogue of these texts, question and reply in turn; returns the node ids."""
    tree = studio.store.create_tree(texts[0])
    ids: list[str] = []
    for i, text in enumerate(texts):
        ids.append(
            studio.store.add_node(
                tree,
                ids[-1] if ids else None,
                "assistant" if i % 2 else "user",
                [Part("text", text)],
                model="m" if i % 2 else None,
            )
        )
    return ids


def how(*models: str, **more: Any) -> Ask:
    """An ``Ask`` for some models (the quick echo when none is named)."""
    return Ask(models or (ECHO.name,), **more)


@dataclass
class Served:
    """A studio behind its real server."""

    studio: Studio
    url: str
    port: int


@pytest.fixture(scope="session")
def port() -> int:
    """A free loopback port for one server after the other: so the browser need not fetch and compile Gradio's scripts anew."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def served(studio: Studio, port: int) -> Iterator[Served]:
    """The whole thing on a loopback port: guard, Gradio, media."""
    import uvicorn

    from studio.guard import Guard
    from studio.server import UPLOAD_CAP, web_app

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    guarded = Guard(web_app(studio), port=port, secret="let-me-in", max_upload_bytes=UPLOAD_CAP)
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=1, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    wait(lambda: server.started, 30, "the server's start")
    yield Served(studio, f"http://127.0.0.1:{port}/?token=let-me-in", port)
    studio.live.close()
    server.should_exit = True
    thread.join(10)
    sock.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless Chromium for the session; without one the test is skipped, or fails where it is required."""
    if CHROMIUM is None:
        reason = "no Chromium found: browser tests did not run (apt install chromium)"
        if os.environ.get("STUDIO_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # two browsers share two processors with what they wait for
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield started
        started.close()


def new_context(browser: Any, **options: Any) -> Any:
    """A browser context that is as patient as ``wait``."""
    context = browser.new_context(**options)
    context.set_default_timeout(90_000)
    return context


@pytest.fixture(scope="session")
def profile(browser: Any) -> Iterator[Any]:
    """What the browser keeps from page to page: its cache. Cookies and storage are cleared before each test."""
    context = new_context(browser, viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


# no job begins by itself: the person has ticked off "Check by itself" on the Judge screen, until a test ticks it
QUIET = "if (location.protocol === 'http:') localStorage['studio-check'] ??= 'no'"


@pytest.fixture
def page(profile: Any, served: Served) -> Iterator[Any]:
    """The studio's page, let in and ready; every console error and uncaught exception fails the test."""
    opened = profile.new_page()
    origin = {"origin": f"http://127.0.0.1:{served.port}", "storageTypes": "all"}
    profile.clear_cookies()
    profile.new_cdp_session(opened).send("Storage.clearDataForOrigin", origin)
    troubles = watch(opened)
    opened.add_init_script(QUIET)
    opened.goto(served.url)
    opened.wait_for_selector(".sidebar .tree-list", timeout=60_000)
    opened.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=60_000)
    yield opened
    for left in profile.pages:
        left.close()
    assert not troubles, troubles


def watch(opened: Any) -> list[str]:
    """Collect what goes wrong in a page."""
    troubles: list[str] = []
    gone = "AbortError|Connection errored out|status of 4|ERR_ABORTED"  # what Gradio says when a page is left in mid-stream
    opened.on("pageerror", lambda error: None if re.search(gone, str(error)) else troubles.append(f"uncaught: {error}"))
    opened.on(
        "console",
        lambda m: troubles.append(m.text) if m.type == "error" and not re.search(gone, m.text) else None,
    )
    return troubles
