"""What the Models screen shows and does: the catalogue and its downloads, own files, and every model in the list.

Plain dicts for the page. Owns no file of a model: ``studio.catalogue`` and ``studio.downloads`` do; backends are the pool's.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends import ModelSpec, Pool, painting
from backends.hf import files as hub_files
from backends.llama.loading import check_file
from backends.painting import repository as drawing
from studio import StudioError, actions, catalogue, clipmodel, generating, jobs, modellist
from studio.actions import Studio
from studio.catalogue import Entry

# owner/model, or one file of it; what looks like a path of this machine is none
HUB = re.compile(r"(\w[\w.-]*/\w[\w.-]*(?<!\.gguf))(?:/(\w[\w.-]*\.gguf))?")
HUB_FILE = re.compile(r"\w[\w.-]*\.gguf")


def state(studio: Studio) -> dict[str, Any]:
    """Everything the screen needs; called every second while something is downloaded or tested."""
    home, found = studio.config.home, [j for j in jobs.refresh(studio.store) if j["kind"] == "download"]
    return {
        "catalogue": [_row(studio, entry, found) for entry in [*_own(studio, found), *catalogue.entries()]],
        "models": [modellist.configured(studio, spec) for spec in studio.config.models],
        "memory_bytes": catalogue.machine_bytes(), "free_bytes": shutil.disk_usage(home).free,
        "folder": str(home / "models"), "file": str(home / "studio.toml"),
    }  # fmt: skip


def download(studio: Studio, name: str) -> dict[str, Any]:
    """Begin to download a model of the catalogue as a job, or go on with it; returns the state.

    Raises:
        StudioError: no such model, it is here or on its way, or the process cannot be started.
    """
    return _download(studio, _entry(studio, name))


def _download(studio: Studio, entry: Entry) -> dict[str, Any]:
    name = entry.name
    if catalogue.here(studio.config.home, entry):
        raise StudioError(f"{name} is on this machine already. Use it, or remove its files first.")
    with jobs.LOCK:
        if (job := _job(entry, jobs.refresh(studio.store))) and job["status"] == "running":
            raise StudioError(f"{name} is being downloaded already. Wait for it, or cancel it.")
        payload = {"name": name, "repository": entry.repository, "files": list(entry.files), "called": entry.called}
        jobs.start(studio.store, "download", ["download", entry.repository, *entry.files], payload)
    return state(studio)


def cancel(studio: Studio, name: str) -> dict[str, Any]:
    """End a download; what has arrived stays, and downloading again goes on from there."""
    if job := _job(_entry(studio, name), jobs.refresh(studio.store)):
        jobs.stop(studio.store, job["id"])
    return state(studio)


def use(studio: Studio, name: str) -> dict[str, Any]:
    """Put a downloaded model into ``studio.toml`` and the list.

    Raises:
        StudioError: it is not on this machine, or its name is taken.
    """
    entry = _entry(studio, name)
    if not catalogue.here(studio.config.home, entry):
        raise StudioError(f"{name} is not on this machine yet. Download it first.")
    where = catalogue.folder(studio.config.home, entry.repository)
    if entry.backend == "clip":
        clipmodel.choose(studio, where)
        return state(studio)
    if entry.backend == "llama":
        settings = {"path": str(where / entry.file)} | ({"mmproj": str(where / entry.mmproj)} if entry.mmproj else {})
    elif (where / drawing.INDEX).is_file():
        made = ModelSpec(entry.called or name, "diffusers", {"model": str(where), **entry.defaults})
        actions.add_model(studio, made, "image_model")
        return state(studio)
    else:
        settings = {"model": str(where)}
    actions.add_model(studio, ModelSpec(entry.called or name, entry.backend, settings))
    return state(studio)


def remove(studio: Studio, name: str) -> dict[str, Any]:
    """Remove the files of a downloaded model, parts too, and take the models that need them out of the list; one that the
    person named is forgotten then.

    Raises:
        StudioError: it is being downloaded, it still answers, or the files cannot be removed.
    """
    entry = _entry(studio, name)
    if (job := _job(entry, jobs.refresh(studio.store))) and job["status"] == "running":
        raise StudioError(f"{name} is being downloaded. Cancel that first.")
    if job and job["status"] == "failed":
        studio.store.update_job(job["id"], status="stopped")
    where = catalogue.folder(studio.config.home, entry.repository)
    for spec in _using(studio, where, entry):
        if spec in studio.config.image_models:
            generating.remove(studio, spec.name)
            continue
        modellist.unload(studio, spec.name)
        actions.remove_model(studio, spec.name)
    clipmodel.leave(studio, where)
    try:
        _remove_files(where, entry)
    except OSError as error:
        raise StudioError(f"The files in {where} cannot be removed: {error.strerror}. Remove them yourself.") from error
    return state(studio)


def add_own(studio: Studio, name: str, path: str, mmproj: str) -> dict[str, Any]:
    """Put a GGUF (with its mmproj) or a folder of transformers into the list; begin to download what is named on the hub.

    Raises:
        StudioError: nothing is there, it is no model, or the name is taken. BackendError: a file that is no GGUF.
    """
    if not path:
        raise StudioError(
            "Which model? Type the path of a .gguf file or of a folder, or a name on the hub like owner/model."
        )
    place = Path(path).expanduser().absolute()
    if not place.exists() and (named := HUB.fullmatch(path)):
        return _from_hub(studio, named[1], named[2] or "", mmproj, name)
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
    else:
        raise StudioError(
            f"There is nothing at {path[:200]!r}. Check the path, or give a name on the hub like owner/model."
        )
    studio.pool.get(spec)  # a missing package is said now, not at the first question
    actions.add_model(studio, spec)
    return state(studio)


def _from_hub(studio: Studio, repository: str, file: str, mmproj: str, called: str) -> dict[str, Any]:
    """Begin to download a model by its name on the hub; it is used, cancelled and removed like one of the catalogue."""
    if mmproj and not (file and HUB_FILE.fullmatch(mmproj)):
        raise StudioError(
            "The mmproj of a model on the hub is the name of a .gguf file beside it. Give only that name."
        )
    entry = catalogue.own(repository, file, mmproj, called)
    same = [e for e in catalogue.entries() if (e.repository, e.files) == (entry.repository, entry.files)]
    entry = replace(same[0], called=called) if same else entry
    if called and called in {spec.name for spec in studio.config.models}:
        raise StudioError(f"A model is already called {called!r}. Choose another name.")
    pick = {"path": "x.gguf"} if file else {"model": repository}
    Pool().get(ModelSpec(entry.name, entry.backend, pick))  # a missing package is said before gigabytes are fetched
    return _download(studio, entry)


# ---- the catalogue


def _own(studio: Studio, found: list[dict[str, Any]]) -> list[Entry]:
    """What the person named on the hub: on its way, failed, or here in part or whole; newest first."""
    home, listed = (
        studio.config.home,
        {(e.repository, e.files): e for e in reversed(catalogue.fetched(studio.config.home))},
    )
    known = {(e.repository, e.files) for e in catalogue.entries()}
    for job in reversed(found):
        payload = job["payload"]
        repository, names = payload.get("repository", ""), tuple(payload.get("files") or ())
        if job["kind"] != "download" or (repository, names) in known:
            continue
        file, mmproj, *_ = (*names, "", "")
        entry = catalogue.own(repository, file, mmproj, payload.get("called", ""))
        listed.pop((entry.repository, entry.files), None)
        if job["status"] in ("running", "failed") or catalogue.kept_bytes(home, entry):
            listed[entry.repository, entry.files] = entry
    return list(reversed(listed.values()))


def _entry(studio: Studio, name: str) -> Entry:
    for entry in [*catalogue.entries(), *_own(studio, jobs.refresh(studio.store))]:
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
        "name": entry.name, "own": entry not in catalogue.entries(), "repository": entry.repository,
        "backend": "diffusers" if (catalogue.folder(home, entry.repository) / drawing.INDEX).is_file() else entry.backend,
        "images": _sees(home, entry), "does": _does(entry), "context": entry.context, "licence": entry.licence,
        "size_bytes": entry.size_bytes or (kept if is_here else None),
        "needed_bytes": needed, "fit": catalogue.fit(needed, catalogue.machine_bytes()), "kept_bytes": kept,
        "state": "downloading" if running else "here" if is_here else "part" if kept else "away",
        "download": _progress(job) if job and running else None,
        "error": job["error"] if job and job["status"] == "failed" and not is_here else None,
        "used_by": _used_by(studio, catalogue.folder(home, entry.repository), entry),
    }  # fmt: skip


def _does(entry: Entry) -> str:
    """What a model does that answers nobody."""
    return clipmodel.DOES if entry.backend == "clip" else ", ".join(painting.DOES[t] for t in entry.tasks)


def _used_by(studio: Studio, where: Path, entry: Entry) -> list[str]:
    return [s.name for s in _using(studio, where, entry)] + (
        ["Find a picture"] if clipmodel.used(studio, where) else []
    )


def _sees(home: Path, entry: Entry) -> bool | None:
    """Whether a model reads images; None: nobody knows before its files are here, or it draws."""
    if _does(entry):
        return None
    if entry in catalogue.entries() or entry.backend == "llama":
        return entry.images
    return hub_files.sees(catalogue.folder(home, entry.repository)) if catalogue.here(home, entry) else None


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
    both = (*studio.config.models, *studio.config.image_models)
    return [s for s in both if path in (s.settings.get("path"), s.settings.get("model"))]


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
