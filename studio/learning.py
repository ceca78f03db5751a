"""When to stop rating, on the screen: the curve of accuracy against ratings as a job, and what the next fifty would add.

The curve itself is ``judge.learning``'s; here are its data, its place in the home, and plain dicts for the page. Owns no
process and no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from judge import learning
from studio import StudioError, jobs, teaching
from studio.actions import Studio
from studio.media import Media
from studio.store import Store

KIND = "curve"  # of the job
LEVELS = ("local", "global", "both")
CURVE, STATES = ".learning-curve.json", ".states"  # beside the judges; no judge's name begins with a dot
Progress = Callable[[int, int, float | None], None]


def state(studio: Studio, all_jobs: Sequence[dict[str, Any]], card: dict[str, Any]) -> dict[str, Any]:
    """The newest job, the last curve, why none can be drawn, and what more ratings would add. ``card``: of what is rated."""
    found = kept(studio.store.home)
    newest = next((j for j in all_jobs if j["kind"] == KIND), None)
    return {"job": _job(newest) if newest else None, "curve": found, "missing": learning.too_little(card),
            "next": learning.next_ratings(card, found)}  # fmt: skip


def start(studio: Studio, base: str, level: str, seed: int) -> str:
    """Begin to draw the curve as a job; returns its id.

    Raises:
        StudioError: an unknown level, a seed out of range, another job that runs.
    """
    if level not in LEVELS:
        raise StudioError(f"A curve is of level local, global or both, not {level!r:.20}.")
    if not 0 <= seed < 2**32:
        raise StudioError(f"The seed is {seed}; choose one 0 to 4294967295.")
    arguments = ["train", "--curve", f"--base={base or 'builtin'}", "--level", level, "--seed", str(seed)]
    return jobs.start(studio.store, KIND, arguments, {"name": "learning curve", "base": base, "level": level})


def draw(store: Store, media: Media, how: learning.Plan, progress: Progress) -> dict[str, Any]:
    """Measure the curve of what is rated, and keep it for the screen; a reading that was interrupted goes on.

    Raises:
        StudioError: no such backbone, a reply too long, no room: each one line.
    """
    folder = teaching.judges_folder(store.home)
    with teaching.judging():
        from judge import files

        rated = teaching.examples(store, media, store.rated_trees())
        found = learning.curve(
            rated, teaching.backbones_folder(store.home), how, kept=folder / STATES, progress=progress
        )
    if found["points"]:  # too little to draw takes no older curve away
        try:
            files.write_whole(folder / CURVE, json.dumps(found).encode())
        except OSError as error:
            raise StudioError(
                f"Cannot keep the curve in {folder}: {error.strerror}. Free some space, then go on."
            ) from error
    return found


def kept(home: Path) -> dict[str, Any] | None:
    """The last curve that was drawn here; None where there is none that can be read."""
    try:
        found = json.loads((teaching.judges_folder(home) / CURVE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("points") else None


def sentences(found: dict[str, Any]) -> str:
    """What ``draw`` returns, for a person: a line a point, and the verdict."""
    lines = []
    for p in found["points"]:
        span = p["interval"] and "95 % interval {:.3f} to {:.3f}".format(*p["interval"])
        spread = "" if p["spread"] is None else f", {len(p['seeds'])} orders apart by {p['spread']:.3f}"
        lines.append(f"{p['ratings']:>7} ratings of {p['trees']} dialogues: {p['accuracy']:.3f}, "
                     f"{span or 'no interval'}{spread}")  # fmt: skip
    if lines:
        longer = found["baselines"]["longer"]["value"]  # None where no reply has words
        beside = "" if longer is None else f", the longer reply in {longer:.3f}"
        lines.append(f"On {found['n']} pairs of {found['trees']['test']} unseen dialogues; a coin is right in 0.500{beside}. "
                     "A quick judge, whose backbone stays as it is.")  # fmt: skip
    lines.append(f"Labels: {found['skipped']['sentence']}")
    return "\n".join([*lines, found["verdict"]["text"]])


def _job(job: dict[str, Any]) -> dict[str, Any]:
    last, answer = (job["lines"] or [{}])[-1], job["answer"] or {}
    return {"id": job["id"], "status": job["status"], "progress": job["progress"] or 0.0, "message": job["message"], "error": job["error"],
            "step": last.get("step"), "steps": last.get("steps"), "eta_s": last.get("eta_s"),
            "verdict": answer.get("verdict", {}).get("text")}  # fmt: skip
