"""The form of a training: what fits into each field, one line for what does not, and the flags that it becomes."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import pytest

from studio import StudioError, trainingform

FIELDS = {f["id"]: f for f in trainingform.fields()}
RANGES = [f for f in trainingform.fields() if f["kind"] in ("number", "whole")]


def filled(**more: Any) -> dict[str, Any]:
    return trainingform.values({"name": "first"} | more)


def refusal(**more: Any) -> str:
    with pytest.raises(StudioError) as raised:
        filled(**more)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_name_alone_is_enough() -> None:
    values = filled()
    assert (values["base"], values["level"], values["epochs"], values["rank"]) == ("builtin", "both", 3, 16)
    assert {k for k, v in values.items() if v is None} == {"max_path", "alpha", "batch_tokens"}  # chosen by the program
    assert filled(rank="", max_path=" ") == values  # what was emptied is as what was never there


@pytest.mark.parametrize("field", RANGES, ids=[f["id"] for f in RANGES])
def test_both_ends_of_a_range_fit_and_nothing_beyond(field: dict[str, Any]) -> None:
    low, high, name = field["low"], field["high"], field["id"]
    assert filled(**{name: low})[name] == low
    assert filled(**{name: str(high)})[name] == high
    for beyond in (low - 1, high + 1, math.inf, math.nan):
        assert f"choose a number, {low:,} to {high:,}." in refusal(**{name: beyond})
    said = refusal(**{name: "many"})
    assert "'many'" in said
    assert f"{low:,} to {high:,}" in said


@pytest.mark.parametrize("name", [f["id"] for f in RANGES if f["kind"] == "whole"])
def test_a_count_is_a_whole_number(name: str) -> None:
    between = FIELDS[name]["low"] + 0.5
    assert "choose a whole number" in refusal(**{name: between})
    value = filled(**{name: float(FIELDS[name]["low"])})[name]
    assert isinstance(value, int)


def test_a_choice_is_one_of_its_choices() -> None:
    assert refusal(level="all") == "The level is 'all'; choose one of both, local, global."
    assert "choose one of auto, on, off" in refusal(checkpointing="maybe")
    assert "choose one of yes, no" in refusal(derived="perhaps")
    assert "at most 1000 fit" in refusal(base="x" * 1001)


@pytest.mark.parametrize("name", ["", "../x", "x" * 65, "-x", "a b", None])
def test_a_name_is_a_folder_of_its_own(name: str | None) -> None:
    assert "A judge cannot be called" in refusal(name=name)


def test_every_field_becomes_its_flag() -> None:
    given = {"base": "-odd", "level": "local", "epochs": 0.5, "rank": 0, "rate": 1e-5, "seed": 7, "max_path": 512, "alpha": 8,
             "dropout": 0.1, "targets": "q_proj,v_proj", "patience": 0, "copies": 4, "batch_tokens": 1024, "checkpointing": "on",
             "head_rate": 0.01, "derived": "no"}  # fmt: skip
    assert given.keys() | {"name"} == FIELDS.keys()
    assert trainingform.arguments(filled(**given)) == [
        "--name=first", "--base=-odd", "--level=local", "--epochs=0.5", "--rank=0", "--rate=1e-05", "--seed=7", "--max-path=512",
        "--alpha=8", "--dropout=0.1", "--targets=q_proj,v_proj", "--patience=0", "--copies=4", "--batch-tokens=1024",
        "--checkpointing=on", "--head-rate=0.01", "--no-derived"]  # fmt: skip
    flags = trainingform.arguments(filled(), ("name",))
    assert not any(f.startswith(("--name", "--max-path", "--alpha", "--no-derived")) for f in flags)


def test_the_command_knows_every_flag() -> None:
    from studio.cli import parser

    given = {f["id"]: f["low"] for f in RANGES} | {"derived": "no", "checkpointing": "off"}
    parsed = vars(parser().parse_args(["train", *trainingform.arguments(filled(**given))]))
    assert (parsed["name"], parsed["max_path"], parsed["copies"], parsed["patience"]) == ("first", 16, 0, 0)
    document = json.loads(files("assets").joinpath("training.json").read_text(encoding="utf-8"))
    assert [f["id"] for f in document["fields"]] == list(FIELDS)
