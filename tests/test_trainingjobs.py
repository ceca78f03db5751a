"""A training as the page draws it: its stages, what it does, how it ended, and what a person can do with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from judge import runs
from studio import StudioError, jobs, judgescreen, labelcheck, teaching, trainingjobs
from studio.actions import Studio
from tests.conftest import plant

STEPS = [
    {"step": 1, "steps": 7, "loss": 0.7, "learning_rate": 1e-4, "eta_s": 60.0, "stage": "train"},
    {"step": 2, "steps": 7, "loss": 0.6, "learning_rate": 1e-4, "eta_s": 50.0, "stage": "train"},
    {"step": 2, "steps": 7, "eval_loss": 0.65, "stage": "train"},
]


def job(
    studio: Studio, status: str, lines: list[dict[str, Any]], answer: dict[str, Any] | None = None, **row: Any
) -> str:
    """A training's row and the files that its process left."""
    payload = {"name": "first", "arguments": ["train"], "labels": labelcheck.labels(studio)}
    made = studio.store.add_job("train", payload)
    studio.store.update_job(made, status=status, **row)
    folder = studio.store.home / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / f"{made}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    if answer is not None:
        (folder / f"{made}.json").write_text(json.dumps(answer), encoding="utf-8")
    return made


def shown(studio: Studio, made: str) -> dict[str, Any]:
    return next(j for j in judgescreen.state(studio)["jobs"] if j["id"] == made)


def runs_still(studio: Studio, made: str) -> None:
    """Give a job a process that lives until the end of the test."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    jobs.STARTED[made] = process
    studio.store.update_job(made, pid=process.pid)


def shares(one: dict[str, Any]) -> dict[str, float]:
    return {s["stage"]: round(s["share"], 3) for s in one["stages"]}


def test_the_stages_say_how_far_each_is(studio: Studio) -> None:
    made = job(studio, "running", [])
    runs_still(studio, made)
    one = shown(studio, made)
    assert one["doing"] == "starting"
    assert set(shares(one).values()) == {0.0}
    path = studio.store.home / "jobs" / f"{made}.jsonl"

    def say(*lines: dict[str, Any]) -> dict[str, Any]:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"\n{json.dumps(line)}" for line in lines)
        return shown(studio, made)

    one = say(
        {"stage": "load", "done": 1, "of": 1, "eta_s": None}, {"stage": "check", "done": 3, "of": 12, "eta_s": 9.0}
    )
    assert (one["doing"], one["eta_s"]) == ("checking the labels 3 of 12", 9.0)
    assert shares(one) == {"load": 1.0, "check": 0.25, "train": 0.0, "validate": 0.0, "test": 0.0, "read": 0.0}
    assert [s["stage"] for s in one["stages"] if s["now"]] == ["check"]
    one = say(*STEPS)
    assert (one["doing"], one["step"], one["steps"]) == ("training", 2, 7)
    assert shares(one) == {"load": 1.0, "check": 1.0, "train": 0.286, "validate": 0.0, "test": 0.0, "read": 0.0}
    one = say({"stage": "test", "done": 4, "of": 8, "eta_s": 3.0})
    assert one["doing"] == "testing 4 of 8"
    assert shares(one)["train"] == 1.0
    assert shares(one)["test"] == 0.5
    assert one["acts"][0]["why"] == "It is trained; the test is running"
    again = say({"stage": "read", "done": 3, "of": 12, "eta_s": 9.0})  # the baseline comes last
    assert again["doing"] == "reading for the baseline 3 of 12"
    assert (shares(again)["train"], shares(again)["test"], shares(again)["read"]) == (1.0, 1.0, 0.25)
    assert again["acts"][0]["why"] == "It is trained; the test is running"
    assert jobs.log(studio.store, made)[-2] == json.dumps({"stage": "test", "done": 4, "of": 8, "eta_s": 3.0})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"steps": 2, "ended": "stopped, best kept", "best_step": 2}, "stopped by you at step 2 of 7; the best step was 2"),
        ({"steps": 2, "ended": "stopped, best kept"}, "stopped by you at step 2 of 7; the best step was 2"),  # by its lines
        ({"steps": 5, "ended": "no longer better", "best_step": 2}, "best at step 2 of 7: no better after it, ended at 5"),
        ({"steps": 7, "ended": "finished", "best_step": 2}, "all 7 steps; the best step was 2"),
        ({"steps": 7}, "7 steps"),  # of a version that did not say how it ended
        ({"steps": 5}, "5 of 7 steps"),
    ],
)  # fmt: skip
def test_how_it_ended_is_what_the_run_said(studio: Studio, answer: dict[str, Any], says: str) -> None:
    one = shown(studio, job(studio, "done", STEPS, answer))
    assert one["says"] == says
    assert ("no better" in one["says"]) == (answer.get("ended") == "no longer better")
    assert set(shares(one).values()) == {1.0}
    assert one["acts"] == []


def test_stopped_before_a_validation_has_no_best_step() -> None:
    says = trainingjobs.ended(STEPS[:1], {"steps": 1, "ended": "stopped, best kept"})
    assert says == "stopped by you at step 1 of 7; no validation was made"


def labels(one: dict[str, Any]) -> dict[str, str]:
    return {a["label"]: a["why"] for a in one["acts"]}


def test_stopping_is_shown_before_it_is_done(studio: Studio) -> None:
    made = job(studio, "running", [])
    runs_still(studio, made)
    assert labels(shown(studio, made)) == {"Pause": "", "Stop and keep the best": "No step is done yet"}
    (studio.store.home / "jobs" / f"{made}.jsonl").write_text("\n".join(map(json.dumps, STEPS)), encoding="utf-8")
    assert labels(shown(studio, made)) == {"Pause": "", "Stop and keep the best": ""}
    studio.store.update_job(made, message=jobs.STOPPING)
    one = shown(studio, made)
    assert one["doing"] == "pausing after this step"
    assert labels(one) == {"End now": "", "Stop and keep the best": "It stops after this step"}
    folder = teaching.judges_folder(studio.store.home)
    runs.folder(folder, "first").mkdir(parents=True)
    runs.ask_to_keep(folder, "first")
    assert shown(studio, made)["doing"] == "stopping after this step, then testing the best"


def test_a_paused_run_can_begin_again_with_what_is_new(studio: Studio) -> None:
    _, reply, _, other = plant(studio, "q", "r", "q2", "r2")
    studio.store.rate(reply, "L4", 2, "ann")
    made = job(studio, "stopped", STEPS)
    assert labels(shown(studio, made)) == {
        "Resume": "", "Stop and keep the best": "This training has kept nothing yet"}  # fmt: skip
    studio.store.rate(other, "L4", 2, "ann")
    assert "Begin again with the 1 new rating" in labels(shown(studio, made))
    studio.store.rate(other, "L1", 1, "ann")
    (begin,) = (a for a in shown(studio, made)["acts"] if a["call"] == "judge_begin_again")
    assert begin["label"] == "Begin again with the 2 new ratings"
    assert begin["title"] == "Drops what it has learned until now"


def test_an_import_of_old_labels_counts_as_new(studio: Studio) -> None:
    _, reply, _, other = plant(studio, "q", "r", "q2", "r2")
    studio.store.rate(reply, "L4", 2, "ann")
    made = job(studio, "stopped", STEPS)
    studio.store.rate(other, "L4", 2, "ann")
    with studio.store.write() as db:
        db.execute("UPDATE scores SET created_at = '2020-01-01T00:00:00.000Z' WHERE node_id = ?", [other])
    assert "Begin again with the 1 new rating" in labels(shown(studio, made))


def test_only_a_whole_checkpoint_can_be_kept(studio: Studio) -> None:
    made = job(studio, "stopped", STEPS)
    folder = teaching.judges_folder(studio.store.home)
    run = runs.folder(folder, "first")
    begun = run / "checkpoint-2"
    begun.mkdir(parents=True)  # killed while it was written
    assert labels(shown(studio, made))["Stop and keep the best"] == "This training has kept nothing yet"
    with pytest.raises(StudioError, match=r"This training has kept nothing yet\. Let it take a few steps"):
        judgescreen.keep(studio, made)
    assert not runs.to_keep(run)
    assert shown(studio, made)["status"] == "stopped"  # it did not begin from the start
    (begun / runs.COMPLETE).write_text("{}")
    assert labels(shown(studio, made))["Stop and keep the best"] == ""


@pytest.mark.usefixtures("no_jobs_left")
def test_beginning_again_drops_the_lines_and_asks_for_it(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    studio.store.rate(reply, "L4", 2, "ann")
    made = studio.store.add_job(
        "train", {"name": "first", "labels": 0, "arguments": ["train", "--name=first", "--base=/nowhere"]}
    )
    studio.store.update_job(made, status="stopped")
    folder = studio.store.home / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / f"{made}.jsonl").write_text(json.dumps(STEPS[0]), encoding="utf-8")
    judgescreen.begin_again(studio, made)
    process = jobs.STARTED[made]
    assert process.args[:3] == [sys.executable, "-m", "studio.cli"]
    assert "--begin-again" in process.args
    (row,) = studio.store.jobs("train")
    assert row["payload"]["labels"] == 1
    assert "--begin-again" not in row["payload"]["arguments"]  # a later Resume goes on, it does not drop again
    assert not any("loss" in line for line in jobs.refresh(studio.store)[0]["lines"])


def test_a_failed_one_says_what_to_mend(studio: Studio) -> None:
    made = job(studio, "failed", [], {"error": "There is no backbone."}, error="There is no backbone.")
    again = shown(studio, made)["acts"][0]
    assert (again["label"], again["title"]) == (
        "Try again",
        "It fails again unless this is mended: There is no backbone.",
    )
