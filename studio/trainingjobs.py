"""A training as the page draws it: stages with how far each is, what it is doing in words, what can be done with it and why not.

Reads a job's lines and its run's folder. Starts and stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from judge import runs
from studio import jobs, labelcheck, teaching
from studio.actions import Studio

STAGES = {"load": "Load backbone", "check": "Check labels", "train": "Train", "validate": "Validate", "test": "Test",
          "read": "Fit the baseline"}  # fmt: skip
DOING = {"load": "loading the backbone", "check": "checking the labels", "train": "training", "validate": "validating",
         "test": "testing", "read": "reading for the baseline"}  # fmt: skip
TRAINED = ("test", "read")  # stages after the last step: the judge is whole
SHOWN = ("step", "loss", "eval_loss", "eval_longer", "learning_rate")  # of a line of a training, beside the accuracies
MOST_POINTS = 300  # of a curve: as many as a screen has
Row = Mapping[str, Any]


def shown(studio: Studio, job: Row, total: int) -> dict[str, Any]:
    """One training. ``stages``: of each ``label``, ``share`` (0 to 1) and ``eta_s``; ``doing``: a word or two; ``says``: how it
    ended; ``acts``: ``call``, ``label``, ``title`` and, where it cannot work, ``why``. ``total``: labels that count now."""
    lines, answer = job["lines"], job["answer"] or {}
    last = lines[-1] if lines else {}
    rate = next((x["learning_rate"] for x in reversed(lines) if "learning_rate" in x), None)
    return {
        "id": job["id"], "name": job["payload"].get("name"), "status": job["status"], "progress": job["progress"] or 0.0,
        "memory_mb": last.get("memory_mb"), "learning_rate": rate, "message": job["message"], "error": job["error"],
        "started_at": job["started_at"], "curve": _curve(lines), "step": last.get("step"), "steps": last.get("steps"),
        "eta_s": _eta(job), "tokens_per_s": last.get("tokens_per_s"), "stages": stages(job), "doing": doing(studio, job),
        "says": ended(lines, answer) if job["status"] == "done" else "", "acts": acts(studio, job, total),
    }  # fmt: skip


def stages(job: Row) -> list[dict[str, Any]]:
    """The stages in order: those before the present one are full, those after it empty; training by its steps."""
    stage = job["stage"] or {}
    order = list(STAGES)
    at = len(order) if job["status"] == "done" else order.index(stage["stage"]) if stage.get("stage") in order else -1
    told = []
    for i, name in enumerate(order):
        share = 1.0 if i < at else 0.0
        if name == "train" and at < order.index("test"):
            share = _share(job["lines"][-1], "step", "steps") if job["lines"] else 0.0
        elif i == at:
            share = _share(stage, "done", "of")
        told.append(
            {"stage": name, "label": STAGES[name], "share": share, "now": i == at and job["status"] == "running"}
        )
    return told


def doing(studio: Studio, job: Row) -> str:
    """What a running training does now, in a few words; how it stands otherwise."""
    if job["status"] != "running":
        return {"done": "done", "stopped": "paused", "failed": "failed"}[job["status"]]
    stage = job["stage"] or {}
    name, count = stage.get("stage"), f" {stage['done']} of {stage['of']}" if stage.get("of", 0) > 1 else ""
    if name not in TRAINED:
        if _keeps(studio, job):
            return "stopping after this step, then testing the best"
        if job["message"] == jobs.STOPPING:
            return "pausing after this step"
    if name == "train":
        return "training"
    return f"{DOING[name]}{count}" if name in DOING else "starting"


def ended(lines: list[dict[str, Any]], answer: Row) -> str:
    """How a training that is done ended. It got no better only where it waited for that in vain."""
    step, steps = answer.get("steps"), (lines[-1] if lines else {}).get("steps")
    best = answer.get("best_step") or _best(lines)
    at = f"the best step was {best}" if best else "no validation was made"
    kind = answer.get("ended")
    if kind == "stopped, best kept":
        return f"stopped by you at step {step} of {steps}; {at}"
    if kind == "no longer better" and best:
        return f"best at step {best} of {steps}: no better after it, ended at {step}"
    if kind == "finished" and best:
        return f"all {step} steps; {at}"
    return f"{step} of {steps} steps" if step and steps and step < steps else f"{step} steps" if step else ""


def acts(studio: Studio, job: Row, total: int) -> list[dict[str, str]]:
    """What a person can do with a training that is not done."""
    if job["status"] == "running":
        return _running_acts(studio, job)
    if job["status"] == "done":
        return []
    failed = "error" in (job["answer"] or {})
    resume = _act(
        "judge_go_on", "Try again" if failed else "Resume", "Goes on from what it last kept, with the same data"
    )
    if failed:
        resume["title"] = f"It fails again unless this is mended: {job['error']}"
    told = [resume]
    if new := max(0, labelcheck.newer(studio, job, total)):
        ratings = "rating" if new == 1 else "ratings"
        told.append(
            _act(
                "judge_begin_again",
                f"Begin again with the {new:,} new {ratings}",
                "Drops what it has learned until now",
            )
        )
    return [*told, _keep(job, "" if runs.last_whole(_run(studio, job)) else "This training has kept nothing yet")]


def _running_acts(studio: Studio, job: Row) -> list[dict[str, str]]:
    testing = "It is trained; the test is running" if (job["stage"] or {}).get("stage") in TRAINED else ""
    if job["message"] == jobs.STOPPING and not testing:
        pause = _act("judge_stop", "End now", "At once, back to what it last kept")
    else:
        pause = _act("judge_stop", "Pause", "After this step; Resume goes on from there", testing)
    why = testing or ("" if job["lines"] else "No step is done yet")
    if _keeps(studio, job) or job["message"] == jobs.STOPPING:
        why = testing or "It stops after this step"
    return [pause, _keep(job, why)]


def _act(call: str, label: str, title: str, why: str = "") -> dict[str, str]:
    return {"call": call, "label": label, "title": why or title, "why": why}


def _keep(job: Row, why: str) -> dict[str, str]:
    return _act(
        "judge_keep", "Stop and keep the best", "Ends the training; the best step until now becomes the judge", why
    )


def _run(studio: Studio, job: Row) -> Any:
    return runs.folder(teaching.judges_folder(studio.store.home), str(job["payload"].get("name")))


def _keeps(studio: Studio, job: Row) -> bool:
    return runs.to_keep(_run(studio, job))


def _share(line: Row, done: str, of: str) -> float:
    return max(0.0, min(1.0, line.get(done, 0) / max(1, line.get(of) or 1)))


def _eta(job: Row) -> float | None:
    """Seconds to the end of the present stage."""
    stage: Row = job["stage"] or (job["lines"][-1] if job["lines"] else {})
    return stage.get("eta_s") if job["status"] == "running" else None


def _best(lines: list[dict[str, Any]]) -> int | None:
    held = [line for line in lines if "eval_loss" in line]
    return min(held, key=lambda line: line["eval_loss"])["step"] if held else None


def _curve(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    every = max(1, len(lines) // MOST_POINTS)
    kept = [line for i, line in enumerate(lines) if i % every == 0 or "eval_loss" in line or i == len(lines) - 1]
    return [{k: line[k] for k in line if k in SHOWN or k.startswith("eval_accuracy")} for line in kept]
