"""Models by their name on a hub: download, cache, every refusal; and the same tiny model behind ``transformers serve``."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import BackendError, Delta, Image, Options
from backends.hf import create, files
from backends.openai import create as server_model
from backends.openai import list_models
from tests import tiny_chat, tiny_gguf
from tests.hub import Hub, asked
from tests.servers import free_port
from tests.test_hf import ask, logits, reply, text

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "tiny/llama"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def at(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, asked instead of the real one, and a cache of its own."""
    with asked({NAME: folder}, tmp_path, monkeypatch) as running:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


def located(name: str = NAME, revision: str | None = None, gguf: str | None = None) -> Path:
    return files.locate(name, gguf, revision, threading.Event()).folder


def refusal(name: str = NAME, **more: Any) -> str:
    """What is said instead, in one line."""
    with pytest.raises(BackendError) as caught:
        located(name, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_answers_by_name(at: Hub, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Downloaded once, then neither the hub is asked nor the network needed; nothing is written to the terminal."""
    first = create(NAME, device="cpu")
    assert not at.requests  # not before a reply is wanted
    here = create(str(folder), device="cpu")
    assert text(reply(first, ask("Hi"))) == text(reply(here, ask("Hi")))
    at.requests.clear()
    assert reply(create(NAME, device="cpu"), ask("Hi"))[-1].finish == "length"
    assert not at.requests
    assert capfd.readouterr().err == ""


def test_only_what_is_needed(at: Hub, folder: Path, tmp_path: Path) -> None:
    full = Path(shutil.copytree(folder, tmp_path / "full"))
    for unwanted in (
        "pytorch_model.bin",
        "code.py",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "original/config.json",
    ):
        (full / unwanted).parent.mkdir(exist_ok=True)
        (full / unwanted).write_bytes(b"x")
    at.models["tiny/full"] = full
    found = located("tiny/full")
    assert {p.name for p in found.iterdir()} == {p.name for p in folder.iterdir()}


def test_images_are_known_before_loading(at: Hub, tmp_path: Path) -> None:
    at.models["tiny/smolvlm"] = tiny_chat.smolvlm(tmp_path / "smolvlm")
    assert not create("tiny/smolvlm").capabilities.images_in  # nobody knows yet
    located("tiny/smolvlm")
    assert create("tiny/smolvlm").capabilities.images_in


def test_not_there(at: Hub) -> None:
    assert "The hub has no model tiny/nothing, or it is private" in refusal("tiny/nothing")
    assert "has no revision 'v9'" in refusal(revision="v9")
    assert "has no other.gguf" in refusal(gguf="other.gguf")
    assert "is no name of a model" in refusal("a--b/c..d")


def test_gated(at: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    at.gated.add(NAME)
    assert (
        "tiny/llama is gated: its owner wants terms accepted first. Accept them on its page, then set HF_TOKEN"
        in refusal()
    )
    monkeypatch.setenv("HF_TOKEN", at.token)
    assert (located() / "model.safetensors").is_file()


def test_hub_down(at: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    at.broken = 503
    assert refusal() == "The hub answered 503 for tiny/llama. Try again later."
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "is not on this machine and http://127.0.0.1" in refusal()


def test_no_hub_is_needed_for_what_is_here(at: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = located()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert located() == whole
    (whole / "model.safetensors").unlink()  # as after an interrupted download
    assert "is not on this machine" in refusal()


def test_a_connection_that_breaks(at: Hub, folder: Path) -> None:
    """Once is mended at once. Again and again is said, and the next try goes on."""
    at.cut["model.safetensors"] = [10_000]
    assert (located() / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    at.models["tiny/again"] = folder
    at.cut["model.safetensors"] = [10_000] * 50
    said = refusal("tiny/again")
    assert "The download of tiny/again broke off" in said
    assert "Ask again: what has arrived is kept" in said
    at.cut.clear()
    assert (located("tiny/again") / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_stop_while_downloading(at: Hub, folder: Path) -> None:
    at.pause = threading.Event()
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    threading.Timer(1.0, at.pause.set).start()
    model = create(NAME, device="cpu")
    assert {d.phase for d in reply(model, ask("Hi"), stop)} <= {"downloading"}
    assert not model.describe()["loaded"]
    at.pause = None
    assert reply(model, ask("Hi"))[-1].finish == "length"


def test_how_far_a_download_is(at: Hub) -> None:
    """The bytes are told while they come; then the weights are loaded and the dialogue is read."""
    at.pause = threading.Event()
    deltas: list[Delta] = []
    for delta in create(NAME, device="cpu").stream(ask("Hi"), Options(max_tokens=1), threading.Event()):
        deltas.append(delta)
        if delta.told:
            at.pause.set()
    told = [d.phase for d in deltas if d.phase]
    assert any(re.fullmatch(r"\d\.\d of \d\.\d MB", d.told) for d in deltas)
    assert list(dict.fromkeys(told)) == ["downloading", "loading", "reading"]
    assert deltas[-1].finish == "length"


def test_unloading_ends_a_download(at: Hub) -> None:
    at.pause = threading.Event()
    model = create(NAME, device="cpu")
    replies = model.stream(ask("Hi"), Options(max_tokens=1), threading.Event())
    assert next(replies).phase == "downloading"
    threading.Timer(0.2, at.pause.set).start()
    threading.Thread(target=model.unload).start()
    with pytest.raises(BackendError, match="was unloaded while it answered"):
        list(replies)


def test_a_gguf_scores_as_in_llama_cpp(tmp_path: Path) -> None:
    """One file of eight-bit weights and byte pairs, read by transformers and by llama.cpp: the same tokens, the same scores."""
    numpy = pytest.importorskip("numpy")
    llama = pytest.importorskip("llama_cpp") and importlib.import_module("backends.llama")
    file = tiny_gguf.text_model(tmp_path / "pairs.gguf", pairs=True)
    ours, theirs = create(str(file), device="cpu"), llama.create(str(file))
    asked = ask("Is the inn the thinnest in the town? é 🪁")
    counts = [reply(model, asked, max_tokens=1)[-1].prompt_tokens for model in (ours, theirs)]
    assert counts[0] == counts[1]
    loaded = theirs._speaker.loaded
    row = loaded.lib.llama_get_logits_ith(loaded.context, -1)
    expected = numpy.array(row[: loaded.lib.llama_vocab_n_tokens(loaded.vocab)])
    found = logits(ours, asked).float().numpy().ravel()
    assert numpy.corrcoef(found, expected)[0, 1] > 0.999
    assert found.argmax() == expected.argmax()
    assert ours.unload()
    assert theirs.unload()


@pytest.mark.slow
def test_transformers_serve(tmp_path: Path) -> None:
    """The backend for servers asks transformers' own server about an image; greedy, it says what our backend says."""
    from PIL import Image as Pillow

    folder, port = tiny_chat.llava(tmp_path / "llava"), free_port()
    (tmp_path / "cache").mkdir()
    Pillow.new("RGB", (56, 56), "red").save(tmp_path / "red.png")
    Pillow.effect_noise((56, 56), 90).convert("RGB").save(tmp_path / "noise.png")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu"]  # fmt: skip
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            where = {"base_url": f"http://127.0.0.1:{port}/v1", "model": str(folder)}
            _wait_for(where, server, tmp_path / "log")
            theirs = server_model(**where)
            red, noise = (ask("What?", Image(tmp_path / f"{name}.png")) for name in ("red", "noise"))
            served = [text(reply(theirs, m, max_tokens=12)) for m in (red, noise, red)]
        finally:
            server.kill()
    assert served[0] == served[2]
    assert served[0] != served[1]
    ours = create(str(folder), device="cpu")
    said = [text(reply(ours, m, max_tokens=12)) for m in (red, noise)]
    assert served[:2] == [s.rstrip("\ufffd") for s in said]  # of a character that the end cuts apart it shows nothing


def _wait_for(where: dict[str, str], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        try:
            list_models(where)
            return
        except BackendError:
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve does not answer: {log.read_text(errors='replace')[-1000:]}")
