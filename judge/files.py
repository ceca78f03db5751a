"""A judge on disk: ``judge.safetensors`` with what was trained, ``card.json`` that says from what and how. Written whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from judge import backbones
from judge.examples import NAME
from judge.model import JudgeModel, LoraSettings, scales_of
from judge.rubric import JudgeError

TENSORS, CARD = "judge.safetensors", "card.json"
DATA, PICTURES = "data.json", "pictures"  # the snapshot of what it learned from


def check_name(name: str) -> str:
    """The name, if it can be a folder's. Raises JudgeError."""
    if not NAME.fullmatch(name):
        raise JudgeError(
            f"A judge cannot be called {name[:40]!r}: use up to 64 letters, digits, dots, dashes and underscores."
        )
    return name


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)


def save_tensors(state: dict[str, torch.Tensor], path: Path) -> None:
    """Tensors as safetensors, on the disk when this returns. Raises OSError or SafetensorError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().cpu() for k, v in state.items()}, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Every file of a folder on the disk when this returns. Raises OSError."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def load_into(model: JudgeModel, path: Path) -> None:
    """Put saved weights into a model. Raises JudgeError: not readable, or of another backbone."""
    try:
        model.load_trained(load_file(path))
    except (OSError, SafetensorError) as error:
        raise JudgeError(f"Cannot read the weights {path}: {error}. Was the file cut short? Train again.") from error


def save_judge(model: JudgeModel, card: dict[str, Any], folder: Path, beside: Path | None = None) -> None:
    """Write a judge's folder in one rename, with the snapshot of its data that lies in ``beside``.

    Raises JudgeError when it cannot be written, leaving nothing behind.
    """
    temp = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temp, ignore_errors=True)  # of a process that was killed here
    try:
        save_tensors(model.trained_state(), temp / TENSORS)
        write_whole(temp / CARD, json.dumps(card, indent=1, default=list).encode())
        if beside and (beside / DATA).is_file():
            shutil.copy2(beside / DATA, temp / DATA)
            if (beside / PICTURES).is_dir():
                shutil.copytree(beside / PICTURES, temp / PICTURES)
        os.replace(temp, folder)
    except (OSError, SafetensorError) as error:
        raise JudgeError(
            f"Cannot save the judge in {folder}: {error}. Free some space and train again: it goes on."
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def weights_hash(folder: Path) -> str:
    """SHA-256 of a judge's weights: with its name, what a judge is. Raises OSError."""
    with (folder / TENSORS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tie_margins(folder: Path, card: dict[str, Any]) -> dict[str, float]:
    """A judge's tie margin by row, as ``ScoreHead.tie_margins``, without its backbone. Raises JudgeError: no such weights."""
    try:
        with safe_open(folder / TENSORS, "pt") as tensors:
            raw = tensors.get_tensor("head.tie")
    except (OSError, SafetensorError) as error:
        raise JudgeError(f"Cannot read the weights of {folder.name!r}: {error}. Train it again.") from error
    margins = torch.nn.functional.softplus(raw.float()) + 1e-4
    return dict(zip(scales_of(card["model"]), margins.tolist(), strict=True))


def read_card(folder: Path) -> dict[str, Any]:
    """A judge's card. Raises JudgeError when there is none."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        others = sorted(p.parent.name for p in folder.parent.glob(f"[!.]*/{CARD}"))
        raise JudgeError(
            f"There is no judge {folder.name!r}. {'There is ' + ', '.join(others) if others else 'Train one first'}."
        ) from error
    except (OSError, ValueError) as error:
        raise JudgeError(f"The card of judge {folder.name!r} cannot be read ({error}). Train it again.") from error
    return card


def load_judge(folder: Path, cache: Path, device: str | None = None) -> tuple[JudgeModel, dict[str, Any]]:
    """A judge ready to score, and its card.

    Raises:
        JudgeError: no such judge, no backbone, or a backbone other than the one that it was trained on.
    """
    card = read_card(folder)
    backbone = backbones.load(card["base"]["name"], cache, device)
    if backbone.fingerprint != card["base"]["fingerprint"]:
        raise JudgeError(
            f"The backbone {card['base']['name']!r} is not the one that judge {folder.name!r} was trained on. "
            "Give the old one back, or train again."
        )
    lora = card["model"]["lora"]
    targets = lora["targets"] if isinstance(lora["targets"], str) else tuple(lora["targets"])
    model = JudgeModel(
        backbone, LoraSettings(**{**lora, "targets": targets}), card["model"]["copies"], scales=scales_of(card["model"])
    )
    load_into(model, folder / TENSORS)
    return model.eval().requires_grad_(False), card


def export_merged(folder: Path, cache: Path, out: Path) -> None:
    """The backbone with LoRA folded in, its tokenizer, and the head beside it, for use without this program.

    Raises:
        JudgeError: as ``load_judge``, or ``out`` exists or cannot be written.
    """
    if out.exists():
        raise JudgeError(f"{out} exists already. Choose another place.")
    model, card = load_judge(folder, cache)
    temp = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        merged: Any = model.backbone
        if card["model"]["lora"]["rank"]:
            merged = merged.merge_and_unload()
        merged.save_pretrained(temp)
        model.encoder.tokenizer.save_pretrained(temp)
        if hasattr(model.encoder, "processor"):
            model.encoder.processor.save_pretrained(temp)
        save_tensors(model.head.state_dict(), temp / "score_head.safetensors")
        write_whole(temp / CARD, json.dumps(card, indent=1).encode())
        os.replace(temp, out)
    except (OSError, SafetensorError) as error:
        raise JudgeError(f"Cannot write {out}: {error}. Free some space, or choose another place.") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def versions() -> dict[str, str]:
    """What the judge was trained with."""
    found = {}
    for package in ("intermt-studio", "torch", "transformers", "peft", "accelerate"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
