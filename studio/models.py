"""What the Models screen shows and does: the catalogue and its downloads, own files, and every model in the list.

Plain dicts for the page. Owns no file of a model: ``studio.catalogue`` and ``studio.downloads`` do; backends are the pool's.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends import Backend, BackendError, Message, ModelSpec, Options
from backends.hf.files import HUB_NAME
from backends.llama.loading import check_file
from studio import StudioError, actions, catalogue, jobs
from studio.actions import Studio
from studio.background import Background, Task
from studio.catalogue import Entry

QUESTION = "What is the capital of France? Answer with one word."
TEST_TOKENS = 48
SHOWN = 300  # characters of what a test brought back
UNLOAD_S = 10.0


def state(studio: Studio) -> dict[str, Any]:
    """Everything the screen needs; called every second while something is downloaded or tested."""
    home, found = studio.config.home, [j for j in jobs.refresh(studio.store) if j["kind"] == "download"]
    return {
        "catalogue": [_row(studio, entry, found) for entry in catalogue.entries()],
        "models": [_configured(studio, spec) for spec in studio.config.models],
        "memory_bytes": catalogue.machine_bytes(), "free_bytes": shutil.disk_usage(home).free,
        "folder": str(home / "models"), "file": str(home / "studio.toml"),
    }  # fmt: skip


def download(studio: Studio, name: str) -> dict[str, Any]:
    """Begin to download a model of the catalogue as a job, or go on with it; returns the state.

    Raises:
        StudioError: no such model, it is here or on its way, or the process cannot be started.
    """
    entry = _entry(name)
    if catalogue.here(studio.config.home, entry):
        raise StudioError(f"{name} is on this machine already. Use it, or remove its files first.")
    with jobs.LOCK:
        if (job := _job(entry, jobs.refresh(studio.store))) and job["status"] == "running":
            raise StudioError(f"{name} is being downloaded already. Wait for it, or cancel it.")
        payload = {"name": name, "repository": entry.repository, "files": list(entry.files)}
        jobs.start(studio.store, "download", ["download", entry.repository, *entry.files], payload)
    return state(studio)


def cancel(studio: Studio, name: str) -> dict[str, Any]:
    """End a download; what has arrived stays, and downloading again goes on from there."""
    if job := _job(_entry(name), jobs.refresh(studio.store)):
        jobs.stop(studio.store, job["id"])
    return state(studio)


def use(studio: Studio, name: str) -> dict[str, Any]:
    """Put a downloaded model into ``studio.toml`` and the list.

    Raises:
        StudioError: it is not on this machine, or its name is taken.
    """
    entry = _entry(name)
    if not catalogue.here(studio.config.home, entry):
        raise StudioError(f"{name} is not on this machine yet. Download it first.")
    where = catalogue.folder(studio.config.home, entry.repository)
    if entry.backend == "llama":
        settings = {"path": str(where / entry.file)} | ({"mmproj": str(where / entry.mmproj)} if entry.mmproj else {})
    else:
        settings = {"model": str(where)}
    actions.add_model(studio, ModelSpec(name, entry.backend, settings))
    return state(studio)


def remove(studio: Studio, name: str) -> dict[str, Any]:
    """Remove the files of a model of the catalogue, parts too, and take the models that need them out of the list.

    Raises:
        StudioError: it is being downloaded, it still answers, or the files cannot be removed.
    """
    entry = _entry(name)
    if (job := _job(entry, jobs.refresh(studio.store))) and job["status"] == "running":
        raise StudioError(f"{name} is being downloaded. Cancel that first.")
    where = catalogue.folder(studio.config.home, entry.repository)
    for spec in _using(studio, where, entry):
        unload(studio, spec.name)
        actions.remove_model(studio, spec.name)
    try:
        _remove_files(where, entry)
    except OSError as error:
        raise StudioError(f"The files in {where} cannot be removed: {error.strerror}. Remove them yourself.") from error
    return state(studio)


def add_own(studio: Studio, name: str, path: str, mmproj: str) -> dict[str, Any]:
    """Put a GGUF (with its mmproj), a folder of transformers, or a name on the hub into the list.

    Raises:
        StudioError: nothing is there, it is no model, or the name is taken. BackendError: a file that is no GGUF.
    """
    if not path:
        raise StudioError(
            "Which model? Type the path of a .gguf file or of a folder, or a name on the hub like owner/model."
        )
    place = Path(path).expanduser().absolute()
    if mmproj and place.suffix != ".gguf":
        raise StudioError("Only a .gguf file takes an mmproj beside it. Leave that field empty.")
    if place.is_file():
        files = [place, *([Path(mmproj).expanduser().absolute()] if mmproj else [])]
        for file in files:
            check_file(file)
        settings = dict(zip(("path", "mmproj"), map(str, files), strict=False))
        spec = ModelSpec(name or place.stem, "llama", settings)
    elif place.is_dir():
        if not (place / "config.json").is_file() or not any(place.glob("model*.safetensors")):
            raise StudioError(
                f"The folder {place} has no config.json with safetensors: it is no model of transformers."
            )
        spec = ModelSpec(name or place.name, "transformers", {"model": str(place)})
    elif HUB_NAME.fullmatch(path):
        spec = ModelSpec(name or path, "transformers", {"model": path})
    else:
        raise StudioError(
            f"There is nothing at {path[:200]!r}. Check the path, or give a name on the hub like owner/model."
        )
    studio.pool.get(spec)  # a missing package is said now, not at the first question
    actions.add_model(studio, spec)
    return state(studio)


def test(studio: Studio, name: str) -> dict[str, Any]:
    """Ask a model one short question in a thread; the state tells how it goes. Raises StudioError when it is under way."""
    spec = studio.config.model(name)
    _tests(studio).start(name, name, _asking(studio, spec))
    return state(studio)


def stop_test(studio: Studio, name: str) -> dict[str, Any]:
    """Stop the test of a model."""
    if any(t.key == name and not t.over for t in _tests(studio).tasks()):
        _tests(studio).cancel(name)
    return state(studio)


def unload(studio: Studio, name: str) -> dict[str, Any]:
    """Free the memory of a model; the next question loads it again.

    Raises:
        StudioError: it answers and did not stop in time.
    """
    backend = studio.pool.opened().get(name)
    if backend and not backend.unload(UNLOAD_S):
        raise StudioError(f"{name} still answers after {UNLOAD_S:.0f} s. Stop its replies, then unload it.")
    return state(studio)


# ---- the catalogue


def _entry(name: str) -> Entry:
    for entry in catalogue.entries():
        if entry.name == name:
            return entry
    raise StudioError(f"The catalogue has no model {name[:80]!r}. Reload the page.")


def _job(entry: Entry, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest download of these files."""
    wanted = (entry.repository, list(entry.files))
    for job in found:
        if job["kind"] == "download" and (job["payload"].get("repository"), job["payload"].get("files")) == wanted:
            return job
    return None


def _row(studio: Studio, entry: Entry, found: list[dict[str, Any]]) -> dict[str, Any]:
    home, job = studio.config.home, _job(entry, found)
    is_here, kept = catalogue.here(home, entry), catalogue.kept_bytes(home, entry)
    needed = catalogue.needed_bytes(home, entry)
    running = job is not None and job["status"] == "running"
    return {
        "name": entry.name, "repository": entry.repository, "backend": entry.backend, "images": entry.images,
        "context": entry.context, "licence": entry.licence, "size_bytes": entry.size_bytes or (kept if is_here else None),
        "needed_bytes": needed, "fit": catalogue.fit(needed, catalogue.machine_bytes()), "kept_bytes": kept,
        "state": "downloading" if running else "here" if is_here else "part" if kept else "away",
        "download": _progress(job) if job and running else None,
        "error": job["error"] if job and job["status"] == "failed" and not is_here else None,
        "used_by": [s.name for s in _using(studio, catalogue.folder(home, entry.repository), entry)],
    }  # fmt: skip


def _progress(job: dict[str, Any]) -> dict[str, Any]:
    """Bytes, pace and seconds left of a download, as its last line told; nothing yet while it asks the hub."""
    last = job["lines"][-1] if job["lines"] else {}
    return {
        "bytes": last.get("step", 0),
        "total": last.get("steps"),
        "bytes_per_s": last.get("bytes_per_s"),
        "eta_s": last.get("eta_s"),
        "stopping": job["message"] is not None,
    }


def _using(studio: Studio, where: Path, entry: Entry) -> list[ModelSpec]:
    """The models of ``studio.toml`` that are these files."""
    path = str(where / entry.file) if entry.file else str(where)
    return [s for s in studio.config.models if path in (s.settings.get("path"), s.settings.get("model"))]


def _remove_files(where: Path, entry: Entry) -> None:
    known = catalogue.record(where)
    if not where.is_dir():
        return
    if not entry.files:
        shutil.rmtree(where)
        return
    for name in entry.files:
        known["files"].pop(name, None)
        for file in (where / name, where / f"{name}{catalogue.PART}"):
            file.unlink(missing_ok=True)
    catalogue.write_record(where, known)
    if not known["files"]:
        shutil.rmtree(where)


# ---- the models in the list


def _configured(studio: Studio, spec: ModelSpec) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": spec.name,
        "backend": spec.backend,
        "settings": {k: str(v) for k, v in spec.settings.items()},
    }
    tested = next((t for t in _tests(studio).tasks() if t.key == spec.name), None)
    told |= {"test": tested.told() if tested else None}
    try:
        backend = studio.pool.get(spec)
    except BackendError as error:
        return told | {"problem": str(error)}
    can = backend.capabilities
    return told | {
        "images": can.images_in, "draws": can.images_out, "together": can.together, "context": can.context_length,
        "loaded": backend.describe(),
    }  # fmt: skip


def _tests(studio: Studio) -> Background:
    worker = studio.workers.setdefault("tests", Background())
    assert isinstance(worker, Background)
    return worker


def _asking(studio: Studio, spec: ModelSpec) -> Callable[[Task], None]:
    def ask(task: Task) -> None:
        task.note = answer(studio.pool.get(spec), task.stop)

    return ask


def answer(backend: Backend, stop: threading.Event) -> str:
    """How one short question went: the time to the first token, tokens a second, what came. Raises BackendError."""
    began, text, first, tokens = time.monotonic(), "", None, None
    options = Options(temperature=0.0, max_tokens=TEST_TOKENS)
    with contextlib.closing(iter(backend.stream([Message("user", (QUESTION,))], options, stop))) as deltas:  # type: ignore[type-var]
        for delta in deltas:
            if first is None and (delta.text or delta.reasoning):
                first = time.monotonic() - began
            text += delta.text
            tokens = delta.completion_tokens if delta.completion_tokens is not None else tokens
    if first is None:
        return "" if stop.is_set() else "It answered with no word. Check that it is a chat model."
    rest = time.monotonic() - began - first
    pace = f", {(tokens - 1) / rest:.1f} tokens/s" if tokens and tokens > 1 and rest > 0 else ""
    said = text.strip()[:SHOWN] or "(only reasoning, no reply yet)"
    return f"First token after {first:.2f} s{pace}. It said: {said}"
