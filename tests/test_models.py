"""The Models screen without a page: downloads with every fault, jobs killed and gone on with, own files, tests, what is loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import painting
from studio import StudioError, api, catalogue, cli, config, doctor, downloads, jobs
from studio.actions import Studio
from studio.catalogue import Entry
from tests import tiny_gguf
from tests.conftest import BROKEN, ECHO, SLOW, wait
from tests.hub import Hub, asked
from tests.servers import free_port

pytest.importorskip("huggingface_hub", reason="huggingface-hub is not installed: the tests of downloads did not run")

SMALL, FOLDER = catalogue.entries()[0], next(e for e in catalogue.entries() if e.backend == "transformers")
ONE = "tiny/one"
WEIGHTS = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a hub: tiny files under the names that the catalogue knows, and one with much that is not wanted."""
    root = tmp_path_factory.mktemp("hub")
    small, one = root / "small", root / "one"
    small.mkdir()
    tiny_gguf.text_model(small / SMALL.file)
    tiny_gguf.projector(small / SMALL.mmproj)
    one.mkdir()
    (one / "model.safetensors").write_bytes(WEIGHTS)
    for name in (
        "config.json",
        "tokenizer.json",
        "merges.txt",
        "modeling.py",
        "pytorch_model.bin",
        "training_args.bin",
    ):
        (one / name).write_text("{}")
    return {SMALL.repository: small, ONE: one, FOLDER.repository: one}


@pytest.fixture
def at(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_jobs_left: None) -> Iterator[Hub]:
    with asked(files, tmp_path, monkeypatch) as running:
        yield running


def fetch(home: Path, repository: str = ONE, *names: str) -> list[dict[str, Any]]:
    """Fetch; returns what was told on the way."""
    told: list[dict[str, Any]] = []
    downloads.fetch(home, repository, names, told.append)
    return told


def refusal(home: Path, repository: str = ONE, *names: str) -> str:
    with pytest.raises(StudioError) as caught:
        fetch(home, repository, *names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def row(studio: Studio, entry: Entry = SMALL) -> dict[str, Any]:
    return next(r for r in api.handle(studio, "models", {})["catalogue"] if r["name"] == entry.name)


def act(studio: Studio, name: str, model: str = SMALL.name) -> dict[str, Any]:
    return api.handle(studio, name, {"name": model})


def until(studio: Studio, state: str, entry: Entry = SMALL) -> dict[str, Any]:
    return wait(lambda: (r := row(studio, entry))["state"] == state and r, 30, f"{entry.name} {state}")


# ---- fetching


def test_weights_and_text_only(at: Hub, tmp_path: Path) -> None:
    told = fetch(tmp_path)
    where = catalogue.folder(tmp_path, ONE)
    assert where == tmp_path / "models" / "tiny--one"
    assert {p.name for p in where.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "merges.txt",
        ".studio.json",
    }
    assert (where / "model.safetensors").read_bytes() == WEIGHTS
    assert told[-1]["step"] == told[-1]["steps"] == len(WEIGHTS) + 6
    at.requests.clear()
    fetch(tmp_path)
    assert not [r for r in at.requests if "/resolve/" in r]  # all of it is here


def test_a_cut_is_gone_on_with(at: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "WAIT_S", 0.01)
    at.cut["model.safetensors"] = [300_000, 200_000]
    fetch(tmp_path)
    assert at.ranges == ["model.safetensors bytes=300000-", "model.safetensors bytes=500000-"]
    assert (catalogue.folder(tmp_path, ONE) / "model.safetensors").read_bytes() == WEIGHTS


def test_cut_again_and_again_keeps_what_came(at: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "WAIT_S", 0.01)
    at.cut["model.safetensors"] = [300_000] + [0] * 50
    said = refusal(tmp_path)
    assert "broke off" in said
    assert said.endswith("Resume: what has arrived is kept.")
    where = catalogue.folder(tmp_path, ONE)
    assert (where / "model.safetensors.part").stat().st_size == 300_000
    assert not (where / "model.safetensors").exists()
    at.cut.clear()
    at.whole = True  # a mirror that begins anew
    fetch(tmp_path)
    assert (where / "model.safetensors").read_bytes() == WEIGHTS
    assert not (where / "model.safetensors.part").exists()


def test_a_wrong_checksum_leaves_nothing(at: Hub, tmp_path: Path) -> None:
    at.wrong.add("model.safetensors")
    assert refusal(tmp_path) == (
        "model.safetensors arrived damaged: its checksum is not the hub's. It was removed; download it again."
    )
    where = catalogue.folder(tmp_path, ONE)
    assert not [p for p in where.iterdir() if p.name.startswith("model")]
    at.wrong.clear()
    fetch(tmp_path)
    assert (where / "model.safetensors").read_bytes() == WEIGHTS


def test_a_disk_that_is_too_small(at: Hub, tmp_path: Path) -> None:
    at.sizes["model.safetensors"] = 10**15
    said = refusal(tmp_path)
    assert said.startswith("tiny/one needs 1,000,000.0 GB more on the disk of ")
    assert "Free some space" in said
    assert not [r for r in at.requests if "/resolve/" in r]


def test_refusals(at: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The hub has no model tiny/none, or it is private" in refusal(tmp_path, "tiny/none")
    assert "tiny/one has no file 'x.gguf'" in refusal(tmp_path, ONE, "x.gguf")
    for name in ("modeling.py", "pytorch_model.bin", "../config.json", ".gguf"):
        assert "is not fetched" in refusal(tmp_path, ONE, name)
    assert "is no name of a model" in refusal(tmp_path, "../one")
    assert "has no safetensors" in refusal(tmp_path, SMALL.repository)
    at.gated.add(ONE)
    assert "is gated" in refusal(tmp_path)
    monkeypatch.setenv("HF_TOKEN", at.token)
    fetch(tmp_path)
    at.broken = 503
    assert refusal(tmp_path) == "The hub answered 503 for tiny/one. Try again later."
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in refusal(tmp_path)


def test_a_folder_that_cannot_be_written(at: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    assert "cannot be kept in" in refusal(tmp_path)


def test_the_command(at: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path)]
    assert cli.main(["download", SMALL.repository, SMALL.file, SMALL.mmproj, *home, "--json"]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["files"] == sorted([SMALL.file, SMALL.mmproj])
    assert json.loads(told.err.splitlines()[-1])["step"] == answer["bytes"]
    assert cli.main(["download", "tiny/none", *home]) == 1
    assert "has no model tiny/none" in capsys.readouterr().err
    found = {f.area: f for f in doctor.inspect(tmp_path)}
    assert found["catalogue"].text.startswith(f"1 of {len(catalogue.entries())} models are downloaded, ")
    assert SMALL.name in found["catalogue"].text


# ---- as jobs


def test_killed_and_resumed_used_and_removed(at: Hub, studio: Studio, files: dict[str, Path]) -> None:
    at.pause = threading.Event()
    assert row(studio)["state"] == "away"
    assert act(studio, "models_download")["catalogue"][0]["state"] == "downloading"
    assert "is being downloaded already" in act(studio, "models_download")["error"]
    assert "Cancel that first" in act(studio, "models_remove")["error"]
    wait(lambda: row(studio)["kept_bytes"] > 10_000, 30, "half of the file")
    os.kill(studio.store.jobs()[0]["pid"], signal.SIGKILL)
    killed = until(studio, "part")
    assert "Resume" in killed["error"]
    at.pause.set()
    act(studio, "models_download")
    done = until(studio, "here")
    assert done["error"] is None
    assert at.ranges  # the second process went on where the first one ended
    where = catalogue.folder(studio.config.home, SMALL.repository)
    for name in SMALL.files:
        assert (where / name).read_bytes() == (files[SMALL.repository] / name).read_bytes()
    assert "on this machine already" in act(studio, "models_download")["error"]
    assert act(studio, "models_use")["catalogue"][0]["used_by"] == [SMALL.name]
    assert "already called" in act(studio, "models_use")["error"]
    spec = config.load(studio.config.home).models[0]
    assert (spec.backend, spec.settings) == (
        "llama",
        {"path": str(where / SMALL.file), "mmproj": str(where / SMALL.mmproj)},
    )
    assert (studio.config.home / "studio.toml").read_text(encoding="utf-8").startswith("# Settings of intermt-studio.")
    assert act(studio, "models_remove")["catalogue"][0]["state"] == "away"
    assert not where.exists()
    assert all(m.name != SMALL.name for m in studio.config.models)


def test_cancelled_and_resumed(at: Hub, studio: Studio) -> None:
    at.pause = threading.Event()
    act(studio, "models_download", FOLDER.name)
    wait(lambda: row(studio, FOLDER)["kept_bytes"] > 10_000, 30, "half of the file")
    act(studio, "models_cancel", FOLDER.name)
    stopped = until(studio, "part", FOLDER)
    assert stopped["error"] is None
    at.pause.set()
    act(studio, "models_download", FOLDER.name)
    assert until(studio, "here", FOLDER)["needed_bytes"] > len(WEIGHTS)
    act(studio, "models_use", FOLDER.name)
    where = catalogue.folder(studio.config.home, FOLDER.repository)
    assert config.load(studio.config.home).models[0].settings == {"model": str(where)}
    act(studio, "models_remove", FOLDER.name)
    assert not where.exists()


def test_a_download_runs_beside_a_training(at: Hub, studio: Studio) -> None:
    at.pause = threading.Event()
    act(studio, "models_download")
    job = jobs.start(studio.store, "train", ["doctor"], {"name": "first"})  # a command that takes a moment
    with pytest.raises(StudioError, match="'first' is still running"):
        jobs.start(studio.store, "train", ["doctor"], {"name": "second"})
    act(studio, "models_download", FOLDER.name)
    assert row(studio, FOLDER)["state"] == row(studio)["state"] == "downloading"
    at.pause.set()
    until(studio, "here")
    until(studio, "here", FOLDER)
    wait(lambda: next(j for j in jobs.refresh(studio.store) if j["id"] == job)["status"] == "done", 60)


def test_a_failed_download_says_why(at: Hub, studio: Studio) -> None:
    at.gated.add(SMALL.repository)
    act(studio, "models_download")
    failed = wait(lambda: (r := row(studio))["error"] and r, 30)
    assert "is gated: its owner wants terms accepted first" in failed["error"]
    assert failed["state"] == "away"


# ---- own files, tests, memory


def test_own_files(studio: Studio, files: dict[str, Path], tmp_path: Path) -> None:
    def add(path: str, called: str = "", mmproj: str = "") -> dict[str, Any]:
        return api.handle(studio, "models_add", {"path": path, "called": called, "mmproj": mmproj})

    small, one = files[SMALL.repository], files[ONE]
    (tmp_path / "no.gguf").write_text("text")
    for path, mmproj, said in (
        ("", "", "Which model?"),
        ("/no/such", "", "There is nothing at '/no/such'"),
        (str(tmp_path / "no.gguf"), "", "is no GGUF file"),
        (str(one), "x.gguf", "Only a .gguf file takes an mmproj"),
        (str(tmp_path), "", "it is no model of transformers"),
        (str(small / SMALL.file), str(tmp_path / "none.gguf"), "cannot be read"),
    ):
        assert said in add(path, mmproj=mmproj)["error"]
    pytest.importorskip("llama_cpp")
    told = add(str(small / SMALL.file), "Mine", str(small / SMALL.mmproj))
    mine = next(m for m in told["models"] if m["name"] == "Mine")
    assert (mine["images"], mine["own"], mine["settings"]["path"]) == (True, True, str(small / SMALL.file))
    assert "already called" in add(str(small / SMALL.file), "Mine")["error"]
    pytest.importorskip("torch")
    add(str(one), "Folder")
    assert [(m.name, m.settings.get("model")) for m in studio.config.models if m.backend == "transformers"] == [
        ("Folder", str(one))]  # fmt: skip


def listed(studio: Studio, name: str) -> dict[str, Any]:
    return next(m for m in api.handle(studio, "models", {})["models"] if m["name"] == name)


def trial(studio: Studio, name: str) -> dict[str, Any]:
    act(studio, "models_test", name)
    return wait(lambda: (t := listed(studio, name)["test"]) and t["state"] not in ("waiting", "running") and t, 60)


def test_a_test_tells_times_or_the_error(studio: Studio) -> None:
    quick = trial(studio, ECHO.name)
    assert quick["state"] == "done"
    assert quick["note"].startswith("First token after 0.")
    assert "capital of France" in quick["note"]
    slow = trial(studio, SLOW.name)
    pace = float(slow["note"].split(", ")[1].split(" tokens/s")[0])
    assert 5 < pace < 17  # a word every 60 ms
    assert "fail after 3 words" in trial(studio, BROKEN.name)["error"]
    act(studio, "models_test", SLOW.name)
    assert "under way already" in act(studio, "models_test", SLOW.name)["error"]
    act(studio, "models_stop", SLOW.name)
    assert wait(lambda: (t := listed(studio, SLOW.name)["test"])["state"] == "cancelled" and t, 10)
    assert "No model is called 'x'" in act(studio, "models_test", "x")["error"]


def test_what_is_loaded_and_unloaded(studio: Studio, files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    copy = shutil.copy(files[SMALL.repository] / SMALL.file, tmp_path / "copy.gguf")
    api.handle(studio, "models_add", {"path": str(copy), "called": "Mine", "mmproj": ""})
    assert not listed(studio, "Mine")["loaded"]["loaded"]
    assert trial(studio, "Mine")["note"].startswith("First token after")
    assert listed(studio, "Mine")["loaded"]["loaded"]
    assert listed(studio, "Mine")["context"] == 512  # certain now
    act(studio, "models_unload", "Mine")
    assert not listed(studio, "Mine")["loaded"]["loaded"]
    Path(copy).unlink()
    assert "cannot be read" in trial(studio, "Mine")["error"]
    found = {f.area: f for f in doctor.inspect(studio.config.home)}
    assert (found["model Mine"].state, found["model Mine"].text) == ("warn", f"{copy} is not there")


# ---- the catalogue and the file


def test_the_catalogue_is_sound(tmp_path: Path) -> None:
    entries = catalogue.entries()
    assert len({e.name for e in entries}) == len(entries)
    for e in entries:
        assert e.backend in ("llama", "transformers", "diffusers", "clip")
        assert bool(e.tasks) == (e.backend == "diffusers")
        assert set(e.tasks) <= set(painting.TASKS)
        assert bool(e.file) == (e.backend == "llama")
        assert all(
            downloads.NAME.fullmatch(f) and f.endswith(".gguf" if e.file else (".onnx", ".json")) for f in e.files
        )
        assert not e.memory_bytes or e.memory_bytes > (e.size_bytes or 0)
    assert [catalogue.fit(n, 10) for n in (7, 8, 9, 10, None)] == ["fits", "tight", "tight", "does not fit", ""]
    where = catalogue.folder(tmp_path, SMALL.repository)
    where.mkdir(parents=True)
    for text in ("", "[]", '{"files": 3}', '{"files": {"x": 1}, "whole": true}'):  # somebody else wrote into it
        (where / catalogue.RECORD).write_text(text)
        assert not catalogue.here(tmp_path, SMALL)


def test_a_file_of_comments_only_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "studio.toml").write_text("# mine\n")
    config.add_model(tmp_path, ECHO.__class__("A", "echo", {"delay_ms": 1}))
    text = (tmp_path / "studio.toml").read_text()
    assert text.startswith("# mine\n")
    assert "Settings of" not in text


@pytest.mark.parametrize("name", [n for n in api.CALLS if n.startswith("models_")])
@pytest.mark.parametrize("data", [{}, [], {"name": "../x", "path": "\0", "called": "", "mmproj": ""}, {"name": None}])
def test_what_a_page_sends_is_checked(studio: Studio, name: str, data: Any) -> None:
    answer = api.handle(studio, name, data)
    if name not in ("models_stop", "models_unload") or "name" not in data:
        assert set(answer) == {"error"}
    assert not (studio.config.home / "models").exists()
