"""What becomes of every label, before Train: a job of its own whose answer the page shows, and the estimate beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from studio import api, estimates, jobs, judgescreen, labelcheck
from studio.actions import Studio
from studio.tree import Part
from tests import teach
from tests.conftest import wait

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_jobs_left")]


def check(studio: Studio, **form: Any) -> dict[str, Any]:
    """The check on the screen, once it is done."""
    answer = api.handle(studio, "judge_check", form)
    assert "error" not in answer, answer
    assert answer["check"]["job"]["status"] == "running"

    def over() -> dict[str, Any] | None:
        told = judgescreen.state(studio)["check"]
        return None if told["job"]["status"] == "running" else told

    return wait(over, 180, "the end of the check")


def long_reply(studio: Studio, words: int) -> tuple[str, str, str]:
    """A tree of two replies, one of them long, that are scored and compared; returns the tree, the long reply, the other."""
    store = studio.store
    tree = store.create_tree("long")
    asked = store.add_node(tree, None, "user", [Part("text", "Question of its own")])
    long, short = (store.add_node(tree, asked, "assistant", [Part("text", t)]) for t in ("word " * words, "short"))
    store.rate(long, "L4", 1, "ann")
    store.compare("local", "overall", long, short, "right", "ann")
    return tree, long, short


def test_every_label_is_accounted_for_before_a_training(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    tree, long, short = long_reply(studio, 400)
    assert judgescreen.state(studio)["check"] == {"due": True, "current": False, "job": None}
    told = check(studio, base=str(base), level="local", max_path=64)
    assert (told["job"]["status"], told["job"]["error"]) == ("done", None)
    labels = told["labels"]
    assert labels["total"] == labelcheck.labels(studio) == 122
    assert labels["used"] + labels["left_out"] == 122
    assert (labels["left_out"], labels["cut"]) == (2, 0)
    [reason] = labels["reasons"]
    assert reason["n"] == 2
    assert "tokens" in reason["reason"]
    # each of them opens its tree
    assert {(one["tree"], one["node"]) for one in reason["labels"]} <= {(tree, long), (tree, short)}
    assert {one["dimension"] for one in reason["labels"]} == {"L4", "overall"}
    assert labels["sentence"].startswith("122 labels; ")
    assert told["sizes"]["max_path"] == 64
    assert told["memory"]["fits"]
    assert (told["due"], told["current"]) == (False, True)
    assert judgescreen.state(studio)["jobs"] == []  # it is no training
    studio.store.rate(short, "L4", 3, "ann")
    now = judgescreen.state(studio)["check"]
    assert (now["due"], now["current"], now["labels"]["total"]) == (True, False, 122)  # shown, and said to be old
    # what the check foresaw stands in the estimate
    form = {"base": str(base), "level": "local", "max_path": 64}
    assert api.handle(studio, "judge_estimate", form)["fits"]
    assert "It fits" in api.handle(studio, "judge_estimate", form)["says"]
    assert api.handle(studio, "judge_estimate", form | {"rank": 0})["fits"] is None  # that was not checked
    assert api.handle(studio, "judge_estimate", form | {"max_path": ""})["fits"] is None  # nor were longer dialogues


def test_a_check_that_cannot_be_made_says_why(studio: Studio) -> None:
    teach.rate(studio.store, 8)
    told = check(studio, base="/no/such/folder")
    assert told["job"]["status"] == "failed"
    assert told["job"]["error"].startswith("There is no backbone '/no/such/folder'.")
    assert "labels" not in told
    assert not told["due"]  # it does not begin again by itself, over and over
    assert "The rank is" in api.handle(studio, "judge_check", {"rank": -1})["error"].replace("LoRA rank", "rank")
    assert not [j for j in jobs.refresh(studio.store) if j["status"] == "running"]


def test_one_check_at_a_time_and_training_does_not_wait(studio: Studio, base: Path) -> None:
    teach.rate(studio.store, 8)
    form = {"base": str(base), "level": "local", "max_path": 64}
    api.handle(studio, "judge_check", form)
    assert "are being checked" in api.handle(studio, "judge_check", form)["error"]
    answer = api.handle(studio, "judge_train", form | {"name": "first", "epochs": 1, "rank": 0})
    assert [j["status"] for j in answer["jobs"]] == ["running"]
    assert answer["busy"] == "first is running"


def test_without_labels_nothing_is_due(studio: Studio) -> None:
    assert judgescreen.state(studio)["check"] == {"due": False, "current": False, "job": None}


def test_the_head_alone_is_quicker_and_smaller(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    lora, head = (estimates.estimate(studio, {"base": str(base), "level": "local", "rank": rank}) for rank in (16, 0))
    assert lora["tokens"] == head["tokens"] > 0
    assert head["memory_mb"] < lora["memory_mb"]
    builtin = [estimates.estimate(studio, {"level": "local", "rank": rank}) for rank in (16, 0)]
    assert builtin[1]["minutes"][1] == pytest.approx(builtin[0]["minutes"][1] / 2)


def measured(studio: Studio, base: str, rank: int, speed: float) -> None:
    """A training of this backbone and rank that came far enough to be measured."""
    made = studio.store.add_job("train", {"name": f"r{rank}", "base": base, "rank": rank, "arguments": []})
    studio.store.update_job(made, status="done")
    folder = studio.store.home / "jobs"
    folder.mkdir(exist_ok=True)
    lines = [f'{{"step": {i}, "steps": 3, "loss": 1, "tokens_per_s": {speed}, "memory_mb": 1024}}' for i in (1, 2, 3)]
    (folder / f"{made}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_what_was_measured_is_of_the_same_rank(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    measured(studio, str(base), 16, 50.0)
    form = {"base": str(base), "level": "local", "epochs": 2}
    assert "as the last training" in estimates.estimate(studio, form | {"rank": 8})["says"]
    assert "a guess" in estimates.estimate(studio, form | {"rank": 0})["says"]
    measured(studio, str(base), 0, 500.0)
    lora, head = (estimates.estimate(studio, form | {"rank": rank}) for rank in (16, 0))
    assert lora["minutes"][0] == pytest.approx(10 * head["minutes"][0])
    assert lora["minutes"][0] < lora["tokens"] * 2 / 50 / 60 < lora["minutes"][1]
