"""Models that a person names on the hub: downloaded like those of the catalogue, used, tried, taken out, removed, forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio import api, catalogue, config
from studio.actions import Studio
from tests import tiny_chat, tiny_gguf
from tests.conftest import ECHO, wait
from tests.hub import Hub, asked

pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[transformers]'")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: the tests of own models did not run")

WHOLE, QUANTS, PICKLES = "tiny/llama", "tiny/quants", "tiny/pickles"
FILE = f"{QUANTS}/tiny-q8.gguf"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A hub's models: one of transformers, one of GGUF files only, one that could run code."""
    root = tmp_path_factory.mktemp("own")
    for name in ("quants", "pickles"):
        (root / name).mkdir()
    tiny_gguf.text_model(root / "quants" / "tiny-q8.gguf")
    tiny_gguf.projector(root / "quants" / "mmproj-tiny.gguf")
    (root / "pickles" / "config.json").write_text("{}")
    (root / "pickles" / "pytorch_model.bin").write_bytes(b"\x80")
    return {WHOLE: tiny_chat.llama(root / "llama"), QUANTS: root / "quants", PICKLES: root / "pickles"}


@pytest.fixture
def at(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_jobs_left: None) -> Iterator[Hub]:
    with asked(folders, tmp_path, monkeypatch) as running:
        yield running


def add(studio: Studio, path: str, called: str = "", mmproj: str = "") -> dict[str, Any]:
    return api.handle(studio, "models_add", {"path": path, "called": called, "mmproj": mmproj})


def act(studio: Studio, what: str, name: str) -> dict[str, Any]:
    return api.handle(studio, f"models_{what}", {"name": name})


def row(studio: Studio, name: str) -> dict[str, Any] | None:
    return next((r for r in api.handle(studio, "models", {})["catalogue"] if r["name"] == name), None)


def until(studio: Studio, name: str, state: str) -> dict[str, Any]:
    return wait(lambda: (r := row(studio, name)) and r["state"] == state and r, 30, f"{name} {state}")


def test_named_fetched_cancelled_resumed_used_taken_out_and_removed(at: Hub, studio: Studio) -> None:
    at.pause = threading.Event()
    told = add(studio, WHOLE, "Mine")
    assert [(r["name"], r["state"], r["own"]) for r in told["catalogue"]][0] == (WHOLE, "downloading", True)
    assert "is being downloaded already" in add(studio, WHOLE)["error"]
    assert not any(m.name == "Mine" for m in studio.config.models)  # nobody can ask what is not here
    where = catalogue.folder(studio.config.home, WHOLE)
    wait(lambda: any(p.stat().st_size for p in where.glob("model.safetensors.part")), 30, "half of the weights")
    act(studio, "cancel", WHOLE)
    until(studio, WHOLE, "part")
    at.pause.set()
    at.pause = None
    act(studio, "download", WHOLE)
    assert until(studio, WHOLE, "here")["images"] is False
    assert at.ranges  # it went on where it had ended
    assert act(studio, "use", WHOLE)["catalogue"][0]["used_by"] == ["Mine"]
    assert config.load(studio.config.home).models[0].settings == {"model": str(where)}
    act(studio, "test", "Mine")
    found = wait(lambda: (t := _listed(studio, "Mine")["test"]) and t["state"] not in ("waiting", "running") and t, 60)
    assert found["note"].startswith("First token after"), found
    act(studio, "take_out", "Mine")
    assert _listed(studio, "Mine") == {}
    assert row(studio, WHOLE)["state"] == "here"  # type: ignore[index]
    assert "the built-in ones cannot" in act(studio, "take_out", ECHO.name)["error"]
    act(studio, "remove", WHOLE)
    assert row(studio, WHOLE) is None
    assert not where.exists()


def _listed(studio: Studio, name: str) -> dict[str, Any]:
    return next((m for m in api.handle(studio, "models", {})["models"] if m["name"] == name), {})


def test_one_file_of_many_with_its_mmproj(at: Hub, studio: Studio) -> None:
    assert "Give only that name" in add(studio, FILE, mmproj="/home/me/mmproj.gguf")["error"]
    add(studio, FILE, mmproj="mmproj-tiny.gguf")
    assert until(studio, FILE, "here")["images"] is True
    act(studio, "use", FILE)
    where = catalogue.folder(studio.config.home, QUANTS)
    spec = config.load(studio.config.home).models[0]
    assert (spec.name, spec.backend) == (FILE, "llama")
    assert spec.settings == {"path": str(where / "tiny-q8.gguf"), "mmproj": str(where / "mmproj-tiny.gguf")}
    with studio.store.write() as db:  # the job is long forgotten, the files are not
        db.execute("DELETE FROM jobs")
    assert row(studio, FILE)["used_by"] == [FILE]  # type: ignore[index]


REFUSED = {
    "tiny/none": "has no model tiny/none",
    QUANTS: f"{QUANTS} has no safetensors. Give one of its files: {QUANTS}/mmproj-tiny.gguf, {FILE}",
    PICKLES: "Choose a copy of the model that has them",
    f"{QUANTS}/none.gguf": "has no file 'none.gguf'",
}


def test_what_cannot_be_fetched_is_said_in_its_row_and_can_be_forgotten(at: Hub, studio: Studio) -> None:
    for name in REFUSED:
        add(studio, name)
    for name, says in REFUSED.items():
        failed = wait(lambda: (r := row(studio, name)) and r["error"] and r, 30, "the refusal")
        assert says in failed["error"]
        assert failed["state"] == "away"
        act(studio, "remove", name)
        assert row(studio, name) is None


@pytest.mark.parametrize("path", ["models/mine.gguf", "./owner/model", "../owner/model", "owner", "owner/model/x.bin"])
def test_what_looks_like_a_path_is_no_name(studio: Studio, path: str) -> None:
    assert "There is nothing at" in add(studio, path)["error"]
    assert studio.store.jobs() == []


def test_a_name_in_the_list_is_taken(at: Hub, studio: Studio) -> None:
    assert "already called" in add(studio, WHOLE, ECHO.name)["error"]
    assert studio.store.jobs() == []
