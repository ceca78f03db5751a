"""The commands about judges: what each setting may be, what a check says, and which settings reach the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from studio import cli
from studio.store import Store
from tests import teach

RANGES = {  # option -> what is in no range, and the range in words
    "epochs": (("0", "101", "nan", "-1", "inf"), "0.01 to 100"),
    "rank": (("-1", "257"), "0 to 256"),
    "rate": (("0", "1.5", "nan", "-0.1"), "1e-09 to 1"),
    "seed": (("-1", "4294967296"), "0 to 4.29497e+09"),
    "max-path": (("0", "15", "-5", "1000001"), "16 to 1e+06"),
    "max-tokens": (("0", "15", "1000001"), "16 to 1e+06"),
    "batch-tokens": (("0", "10000001"), "1 to 1e+07"),
    "alpha": (("0", "1025"), "1 to 1024"),
    "dropout": (("-0.1", "0.95", "1", "nan"), "0 to 0.9"),
    "head-rate": (("0", "2", "nan"), "1e-09 to 1"),
    "patience": (("-1", "1001"), "0 to 1000"),
    "copies": (("-1", "65"), "0 to 64"),
}
CASES = [(option, value, words) for option, (values, words) in RANGES.items() for value in values]


@pytest.fixture
def rated(own_home: Path) -> Path:
    store = Store(own_home)
    teach.rate(store, 24)
    store.close()
    return own_home


@pytest.mark.parametrize(("option", "value", "words"), CASES, ids=[f"{o} {v}" for o, v, _ in CASES])
def test_a_number_out_of_range_is_one_line_that_names_the_range(
    option: str, value: str, words: str, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--name", "x", f"--{option}={value}"]) == 1
    out = capsys.readouterr()
    assert out.err.startswith(f"intermt-studio: --{option} is ")
    assert out.err.endswith(f"; choose {words}.\n")
    assert (out.err.count("\n"), out.out) == (1, "")
    assert not (own_home / "judges").exists()


@pytest.mark.parametrize("arguments", [
    ["--name", "x", "--check"], ["--check", "--curve"], [], ["--name", "x", "--checkpointing", "maybe"],
    ["--name", "x", "--copies", "two"], ["--name", "x", "--level", "world"],
])  # fmt: skip
def test_wrong_use_ends_with_two(arguments: list[str], own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *arguments])
    assert ended.value.code == 2
    assert "usage: intermt-studio train" in capsys.readouterr().err


@pytest.mark.parametrize(("settings", "says"), [
    (["--targets", "nobody"], "No linear layer is called nobody. Choose from "),
    (["--targets", " , "], "--targets names no layer; choose all-linear, or names such as q_proj,v_proj."),
    (["--base", "/no/such/folder"], "/no/such/folder"),
])  # fmt: skip
def test_what_does_not_fit_the_backbone_is_one_line(
    settings: list[str], says: str, rated: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--name", "x", "--base", str(base), "--json", *settings]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert says in error
    assert "\n" not in error


def check(base: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert cli.main(["train", "--check", "--base", str(base), "--json", *more]) == 0
    card: dict[str, Any] = json.loads(capsys.readouterr().out)
    return card


def test_a_check_says_what_is_usable_and_trains_nothing(
    rated: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = check(base, capsys)
    labels = card["labels"]
    assert (labels["total"], labels["used"], labels["left_out"]) == (72, 72, 0)  # 24 comparisons, 48 scores
    assert cli.main(["train", "--check", "--base", str(base)]) == 0
    out = capsys.readouterr().out
    assert labels["sentence"] in out.splitlines()
    assert f"{card['trees']['train']} dialogues to train on" in out
    assert f"{card['sizes']['max_path']:,} tokens" in out
    assert not any((rated / "judges").glob("*/judge.safetensors"))


def test_a_check_goes_by_the_longest_path(rated: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(rated)
    tree = teach.rate(store, 1)[0]
    reply = next(n for n in store.tree(tree).walk() if n.role == "assistant")
    with store.write() as db:
        db.execute("UPDATE parts SET text = ? WHERE node_id = ?", ["word " * 400, reply.id])
    store.close()
    assert check(base, capsys)["labels"]["left_out"] == 0
    card = check(base, capsys, "--max-path", "64")
    assert card["sizes"]["max_path"] == 64
    labels = card["labels"]
    assert (labels["total"], labels["used"], labels["left_out"]) == (75, 73, 2)  # its score and its comparison
    (reason,) = {r["reason"] for r in labels["reasons"]}
    assert reason in labels["sentence"]


def test_checkpointing_is_on_off_or_chosen(rated: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = {how: check(base, capsys, "--checkpointing", how)["memory"] for how in ("on", "off", "auto")}
    assert (at["on"]["checkpointing"], at["off"]["checkpointing"]) == (True, False)
    assert at["auto"]["checkpointing"] is False  # so small a model needs none
    assert at["auto"] == check(base, capsys)["memory"] | {"free_mb": at["auto"]["free_mb"]}


def test_what_does_not_fit_the_memory_is_said_before_it_is_tried(
    rated: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = Path(shutil.copytree(base, tmp_path / "huge"))
    (huge / "model.safetensors").unlink()  # a check needs no weights
    config = json.loads((huge / "config.json").read_text())
    shape = {"hidden_size": 2**16, "intermediate_size": 2**18, "num_attention_heads": 512, "head_dim": 128}
    (huge / "config.json").write_text(json.dumps(config | shape))
    told = {}
    for name, path in (("fits", base), ("huge", huge)):
        assert cli.main(["train", "--check", "--base", str(path)]) == 0
        told[name] = [line for line in capsys.readouterr().out.splitlines() if "That does not fit" in line]
    assert told["fits"] == []
    (line,) = told["huge"]
    assert line.endswith("set --checkpointing on, a smaller --max-path or a smaller backbone.")
    memory = check(huge, capsys)["memory"]
    assert memory["mb"] > memory["free_mb"]
    assert not memory["fits"]


def test_every_setting_reaches_the_judge(rated: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = (
        "--epochs 1 --rank 2 --alpha 3 --dropout 0.25 --targets q_proj,v_proj --rate 0.001 --head-rate 0.02 --patience 5 "
        "--copies 3 --batch-tokens 300 --max-path 200 --max-tokens 400 --checkpointing on --no-derived --seed 7 --level local"
    )
    assert cli.main(["train", "--name", "all", "--base", str(base), "--json", *settings.split()]) == 0
    capsys.readouterr()
    card = json.loads((rated / "judges" / "all" / "card.json").read_text())
    kept = card["settings"]
    assert {k: kept["lora"][k] for k in ("rank", "alpha", "dropout", "targets")} == {
        "rank": 2, "alpha": 3, "dropout": 0.25, "targets": ["q_proj", "v_proj"]}  # fmt: skip
    expected = {
        "epochs": 1, "learning_rate": 0.001, "head_learning_rate": 0.02, "patience": 5, "copies": 3, "batch_tokens": 300,
        "max_path": 200, "max_tokens": 400, "checkpointing": True, "derived": False, "seed": 7, "level": "local",
    }  # fmt: skip
    assert {k: kept[k] for k in expected} == expected
    assert not any(row.get("train_derived") for row in card["data"]["rows"])
    tensors = {name for name in _names(rated / "judges" / "all" / "judge.safetensors") if "lora" in name}
    assert tensors
    assert all(".q_proj." in name or ".v_proj." in name for name in tensors)


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())
