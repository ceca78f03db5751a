"""What becomes of every label, before a training: ``intermt-studio train --check`` as a job, and its answer for the page.

Starts the job and reads its answer. Never trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio import StudioError, jobs, trainingform
from studio.actions import Studio

KIND = "check"  # of the job
WITHOUT = ("name",)  # fields of the form that say nothing about the data


def start(studio: Studio, data: Mapping[str, Any]) -> str:
    """Begin to check the labels for what is chosen on the form; returns the job's id.

    Raises:
        StudioError: a value that does not fit, or a check that is running.
    """
    if any(j["kind"] == KIND and j["status"] == "running" for j in jobs.refresh(studio.store)):
        raise StudioError("The labels are being checked. Wait until that is done.")
    filled = trainingform.values({**data, "name": "check"})
    about = {k: filled[k] for k in ("base", "level", "rank", "max_path")}
    arguments = ["train", "--check", *trainingform.arguments(filled, WITHOUT)]
    return jobs.start(studio.store, KIND, arguments, {"name": "check", "labels": labels(studio), **about})


def labels(studio: Studio) -> int:
    """How many scores and comparisons count now."""
    return studio.store.labels_since("")


def newer(studio: Studio, job: Mapping[str, Any], total: int) -> int:
    """Labels that were given since a job began: by their dates, and by how many there are, for an import brings old dates."""
    grown = total - job["payload"].get("labels", total)
    return max(studio.store.labels_since(job["started_at"]), grown)


def state(studio: Studio, all_jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The newest check for the page, and ``due``: whether one should begin by itself (there are labels, nothing runs, and no
    check was made of them)."""
    total = labels(studio)
    newest = next((j for j in all_jobs if j["kind"] == KIND), None)
    current = newest is not None and newest["payload"].get("labels") == total and not newer(studio, newest, total)
    runs = any(j["status"] == "running" for j in all_jobs)
    told: dict[str, Any] = {"due": bool(total) and not current and not runs, "current": current, "job": None}
    if newest is None:
        return told
    answer = newest["answer"] or {}
    told["job"] = {"id": newest["id"], "status": newest["status"], "error": newest["error"], "stage": newest["stage"],
                   **{k: newest["payload"].get(k) for k in ("base", "level", "rank", "max_path")}}  # fmt: skip
    if newest["status"] == "done" and "labels" in answer:
        told |= {k: answer.get(k) for k in ("labels", "sizes", "memory")}
    return told


def memory(studio: Studio, base: str, level: str, rank: int, max_path: int | None) -> dict[str, Any] | None:
    """The peak memory that the newest check of this backbone, level, rank and longest path foresaw: ``mb``, ``free_mb``, ``fits``."""
    for job in jobs.refresh(studio.store):
        asked, answer = job["payload"], job["answer"] or {}
        if job["kind"] == KIND and answer.get("memory"):
            about = (asked.get("base"), asked.get("level"), bool(asked.get("rank")), asked.get("max_path"))
            same = about == (base, level, bool(rank), max_path)
            return dict(answer["memory"]) if same else None
    return None
