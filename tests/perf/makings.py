"""What several benchmarks are made of: words to write with, and the studio in a browser.

Owns no figures and measures nothing.
"""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conftest import CHROMIUM, CHROMIUM_FLAGS
from tests.perf import Unavailable, serving, studio_command

# what a question and a reply about a drawing are written with
VOCABULARY = ("draw", "the", "owl", "with", "soft", "feathers", "then", "colour", "its", "wings", "grey", "and", "brown", "before",
              "you", "add", "a", "moon", "over", "pine", "trees")  # fmt: skip
THINGS = ("bicycle", "teapot", "lighthouse", "violin", "cactus", "sailboat", "typewriter", "umbrella", "windmill", "lantern")  # fmt: skip


def need(*modules: str, how: str = "make perf installs it") -> None:
    """Raise Unavailable for the first of these modules that is not installed; ``how`` says how to get it."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise Unavailable(f"{error.name} is not installed; {how}") from error


def chromium(stack: ExitStack) -> Any:
    """A browser, closed with the stack. Raises Unavailable where there is none."""
    if CHROMIUM is None:
        raise Unavailable("no Chromium found: apt install chromium")
    from playwright.sync_api import sync_playwright

    browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
    stack.callback(browser.close)
    return browser


def page_of(stack: ExitStack, browser: Any, home: Path, query: str = "") -> Any:
    """A page of a studio over ``home`` in a process of its own, both closed with the stack; ``query`` like '&lanes=id'."""
    server = stack.enter_context(serving(*studio_command(home)))
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    stack.callback(context.close)
    page = context.new_page()
    page.goto(server.address + query)
    return page
