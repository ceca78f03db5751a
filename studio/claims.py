"""What a judge's number rests on: its labels, and its accuracy on dialogues it never saw, with n, interval and baselines.

Reads what was stored when the judge was tested; measures nothing, and calls nothing accuracy that has no unseen dialogues.
"""

from __future__ import annotations

from typing import Any

from judge.examples import ENOUGH
from judge.rubric import row_of
from studio import StudioError, readings, teaching, versions
from studio.actions import Studio
from studio.verdicts import verdict

BASELINES = {"coin": "a coin", "longer": "the longer reply", "majority": "majority class"}


def about(studio: Studio, dimension: str) -> dict[str, Any]:
    """What the live judge's score on a dimension rests on.

    ``measured``: what the figures are of (``tested`` one dimension, or all together where no more was kept), or None and a
    reason in ``untested``. ``since``: labels given after it was trained, of which it knows nothing.
    Shares are 0 to 1, errors in points of score; intervals are 95 % by dialogue.

    Raises:
        StudioError: no judge is live.
    """
    name = studio.judge.name
    row = next((j for j in studio.store.judges() if j["name"] == name), None)
    if row is None:
        raise StudioError("No judge is live any more. Choose one on the Judge screen.")
    facts = readings.facts(row["metrics"])
    report = teaching.report(teaching.judges_folder(studio.store.home) / row["name"]) or row["metrics"]
    pairs, derived, scores = (_of(report, what, dimension) for what in ("pairs", "derived", "scores"))
    told = {"judge": row["name"], "dimension": dimension, "labels": facts.trained.get(dimension, 0),
            "derived_labels": facts.derived_labels.get(dimension, 0), "enough": ENOUGH, "created_at": row["created_at"],
            "since": studio.store.labels_since(versions.labels_at(row)), "verdict": verdict(pairs[0] if pairs else None),
            "pairs": _pairs(*pairs) if pairs else None, "derived": _pairs(*derived) if derived else None,
            "scores": _scores(*scores) if scores else None, "untested": None}  # fmt: skip
    if not pairs and not scores:
        told["untested"] = row["metrics"].get("untested") or (
            f"No unseen dialogue had a label of {dimension}, so nothing is known of its accuracy there. Rate more dialogues, then train again."
        )
    return told


def _of(report: dict[str, Any], what: str, row: str) -> tuple[dict[str, Any], bool] | None:
    """The figures of a row of the judge's head alone and True, or those of all together and False where they were not kept
    apart."""
    apart = report.get(f"{what}_by")
    if apart is not None:
        own = [r for r in apart if r.get("by") == "dimension" and _row_of(r) == row and r.get("n")]
        return (own[0], True) if own else None
    pooled = report.get(what)
    return (pooled, False) if pooled and pooled.get("n") else None


def _row_of(figures: dict[str, Any]) -> str:
    return row_of(figures.get("level", ""), str(figures.get("key")))


def _pairs(found: dict[str, Any], apart: bool) -> dict[str, Any]:
    beside = {BASELINES[k]: b["value"] for k, b in found.get("baselines", {}).items() if k in BASELINES}
    return {"n": found["n"], "trees": found["trees"], "apart": apart, "accuracy": found["accuracy"], "interval": found["interval"],
            "note": found.get("interval_note"), "beside": {k: v for k, v in beside.items() if v is not None}}  # fmt: skip


def _scores(found: dict[str, Any], apart: bool) -> dict[str, Any]:
    beside = {
        versions.CONSTANTS[k]: b["mae"]["value"]
        for k, b in found.get("baselines", {}).items()
        if k in versions.CONSTANTS
    }
    return {"n": found["n"], "trees": found["trees"], "apart": apart, "error": found["mae"]["value"], "interval": found["mae"]["interval"],
            "note": found.get("interval_note"), "beside": {k: v for k, v in beside.items() if v is not None}}  # fmt: skip
