"""What may be wrong with a GGUF: broken, hostile, too large, without its other half. Each is one line that says what to do."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import BackendError, Message, ModelSpec, Options, Pool
from backends.llama import Llama, create
from backends.llama.loading import available_bytes, check_memory
from backends.llama.template import TEMPLATE_S, Template
from tests import tiny_gguf

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)

HI = [Message("user", ("Hi",))]


def refused(model: Llama) -> str:
    """The line with which it refuses; nothing stays in memory."""
    with pytest.raises(BackendError) as caught:
        list(model.stream(HI, Options(max_tokens=2), threading.Event()))
    assert "\n" not in str(caught.value)
    assert not model.describe()["loaded"]
    return str(caught.value)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.text_model(tmp_path_factory.mktemp("good") / "tiny.gguf")


@pytest.mark.parametrize("keep", [4, 40, 3000, 100_000, -1])
def test_truncated(tmp_path: Path, good: Path, keep: int, capfd: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(good.read_bytes()[:keep])
    assert "llama.cpp cannot load" in refused(create(str(cut)))
    assert capfd.readouterr() == ("", "")


def test_unknown_architecture_is_named(tmp_path: Path, good: Path) -> None:
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(good.read_bytes().replace(b"llama", b"dromx"))
    assert "unknown model architecture: 'dromx'" in refused(create(str(strange)))


def test_no_chat_template(tmp_path: Path) -> None:
    said = refused(create(str(tiny_gguf.text_model(tmp_path / "base.gguf", template=None))))
    assert "no chat template. Choose its instruct version" in said


def test_a_file_larger_than_memory_is_not_loaded(tmp_path: Path) -> None:
    huge = tmp_path / "huge.gguf"
    with huge.open("wb") as file:
        file.write(b"GGUF\x03\x00\x00\x00")
        file.truncate(2**42)  # a hole: takes no disk
    start = time.perf_counter()
    said = refused(create(str(huge)))
    assert said.startswith("huge.gguf needs about 4096.2 GiB of memory; ")
    assert said.endswith("choose a smaller or more strongly quantised GGUF.")
    assert time.perf_counter() - start < 5


def test_a_context_larger_than_memory_is_not_opened(good: Path) -> None:
    assert "lower n_ctx (now 2000000000)" in refused(create(str(good), n_ctx=2_000_000_000))


def test_available_memory_is_read() -> None:
    free = available_bytes()
    assert 0 < free < 2**50
    check_memory("a little", 1, "")


@pytest.mark.parametrize("which", ["text", "noise", "other width", "gone"])
def test_wrong_mmproj(tmp_path: Path, good: Path, which: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mmproj.gguf"
    if which == "text":
        path.write_bytes(good.read_bytes())
    elif which == "noise":
        path.write_bytes(b"GGUF" + os.urandom(64))
    elif which == "other width":
        tiny_gguf.projector(path, width=96)
    said = refused(create(str(good), str(path)))
    assert ("cannot be read: No such file" if which == "gone" else "Choose the mmproj of that very model") in said
    assert capfd.readouterr() == ("", "")


# ---- templates, which are programs of unknown origin


def rendered(source: str) -> Callable[[], str]:
    template = Template("bad.gguf", source, "<s>", "</s>", ["<s>", "</s>"])
    return lambda: template.render([{"role": "user", "content": "Hi"}])


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i * j %}{% endfor %}{% endfor %}"


def test_an_endless_template_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.llama.template.TEMPLATE_S", 1.0)
    start = time.perf_counter()
    with pytest.raises(BackendError, match=r"refuses this dialogue: it ran longer than 1 s\. Choose another model"):
        rendered(ENDLESS)()
    assert time.perf_counter() - start < TEMPLATE_S


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for i in range(10**10) %}x{% endfor %}", "Range too big"),
        ("{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}", "over 4,000,000 characters"),
        ("{{ 'x' * 10000000000 }}", "repeats a text too often"),
        ("{{ 10000000000 * 'x' }}", "repeats a text too often"),
        ("{{ [0] * 10000000000 }}", "repeats a text too often"),
        ("{{ 10 ** 10 ** 10 }}", "too high a power"),
        ("{{ '%9999999999d' % 1 }}", "pads a text too far"),
        ("{{ '%*d' % (999999999, 1) }}", "pads a text too far"),
        ("{{ '{:9999999999}'.format(1) }}", "pads a text too far"),
        ("{{ '{a:9999999999}'.format_map({'a': 1}) }}", "pads a text too far"),
        ("{{ '{:{}}'.format(1, 9999999999) }}", "pads a text too far"),
        ("{{ 'x'.center(9999999999) }}", "pads a text too far"),
        ("{{ 'x'.ljust(width=9999999999) }}", "refuses this dialogue"),
        ("{{ 'x' | center(9999999999) }}", "No filter named 'center'"),
        ("{{ ().__class__.__base__.__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ 1 // 0 }}", "by zero"),
        ("{{ messages[7].content.x }}", "refuses this dialogue"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% for m in messages %}", "is broken"),
        ("{% include '/etc/passwd' %}", "refuses this dialogue"),
    ],
)
def test_hostile_templates_get_one_line(source: str, says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        rendered(source)()
    assert "bad.gguf" in str(caught.value)


def test_what_real_templates_use_works() -> None:
    source = (
        "{%- set ns = namespace(found=false) -%}{% for m in messages %}{% if loop.first and m.role != 'system' %}sys\n{% endif %}"
        "{% generation %}{{ m['role'] | upper }}: {{ m.content | trim }}{% endgeneration %}{% if m.tools is not defined %}{% continue %}{% endif %}"
        "{% endfor %}{{ '=' * 3 }}{{ {'a': 'é'} | tojson }}{{ strftime_now('%Y') | length }}{{ '%s' % 'x' }}{{ '{}'.format(12345) }}{{ eos_token }}"
    )
    assert rendered(source)() == 'sys\nUSER: Hi==={"a": "é"}4x12345</s>'


def test_a_hostile_template_in_a_file(tmp_path: Path) -> None:
    hostile = create(str(tiny_gguf.text_model(tmp_path / "evil.gguf", template="{{ 'x' * 10000000000 }}")))
    with pytest.raises(BackendError, match=r"chat template of evil\.gguf refuses this dialogue: it repeats"):
        list(hostile.stream(HI, Options(), threading.Event()))
    assert hostile.unload()


# ---- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, r'Add path = "….gguf"'),
        ({"path": "x.gguf", "colour": 1}, "no setting colour. It knows path, mmproj"),
        ({"path": "x.gguf", "n_ctx": 0}, r"n_ctx = 0\. Give a whole number above 0"),
        ({"path": "x.gguf", "cache_mb": -1}, r"cache_mb = -1\. Give a whole number from 0"),
        ({"path": "x.gguf", "gpu_layers": True}, "gpu_layers = True"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says):
        Pool().get(ModelSpec("Mine", "llama", settings))


def test_unloading_what_is_not_loaded(good: Path) -> None:
    assert create(str(good)).unload()
