"""The judges that were trained here, each with what it can claim: accuracy with n, interval and baselines, and a verdict.

Plain dicts. Reads the rows and the reports that were made when a judge was tested; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio import readings, teaching
from studio.actions import Studio
from studio.verdicts import verdict

Row = dict[str, Any]
CONSTANTS = {"always_3": "always 3", "always_top": "always the top score", "majority": "always the commonest score"}
FIGURES = ("n", "n_ties", "trees", "accuracy", "interval", "interval_note", "baselines")


def rows(studio: Studio, live: str | None) -> list[Row]:
    """Every trained judge whose weights are here, newest first."""
    folder = teaching.judges_folder(studio.store.home)
    return [_row(studio, j, live, folder / j["name"]) for j in studio.store.judges() if (folder / j["name"]).is_dir()]


def own(full: Row, annotator: str) -> Row | None:
    """The figures of the configured annotator's own comparisons alone; None where the report does not keep them apart."""
    return next(
        (r for r in full.get("pairs_by") or () if r.get("by") == "annotator" and r.get("key") == annotator), None
    )


def labels_at(row: Row) -> str:
    """When the labels were read that a judge learned from; what was given later it does not know."""
    return str(row["metrics"].get("labels_at") or row["created_at"])


def _row(studio: Studio, row: Row, live: str | None, folder: Path) -> Row:
    config, metrics, full = row["config"], row["metrics"], teaching.report(folder)
    people = metrics.get("pairs") or full.get("pairs")
    # the first reports counted pairs that follow from scores among the comparisons
    mixed = bool(people) and "derived" not in metrics and "derived" not in full
    mine, facts = own(full, studio.config.annotator), readings.facts(metrics)
    return {
        "name": row["name"], "base": Path(row["base"]).name, "level": config.get("level"), "epochs": config.get("epochs"),
        "rank": (config.get("lora") or {}).get("rank"), "created_at": row["created_at"], "live": row["name"] == live,
        "since": studio.store.labels_since(labels_at(row)), "made_by": row.get("made_by"),
        "pairs": _figures(people), "own": _figures(mine), "mixed": mixed, "derived": _figures(metrics.get("derived")),
        "scores": _scores(metrics.get("scores")), "verdict": verdict(people if people and people.get("n") else metrics.get("derived")),
        "by": _people(full), "untested": metrics.get("untested"),
        "labels": sum(facts.trained.values()), "derived_labels": sum(facts.derived_labels.values()),
        "report": (folder / "report.html").is_file(),
    }  # fmt: skip


def _figures(pairs: Row | None) -> Row | None:
    return {k: pairs.get(k) for k in FIGURES} if pairs and pairs.get("n") else None


def _scores(found: Row | None) -> Row | None:
    """How far off it is on people's scores, beside who always says the same."""
    if not found or not found.get("n"):
        return None
    beside = {CONSTANTS[k]: b["mae"]["value"] for k, b in found.get("baselines", {}).items() if k in CONSTANTS}
    return {"n": found["n"], "trees": found["trees"], "error": found["mae"]["value"], "interval": found["mae"]["interval"],
            "beside": {k: v for k, v in beside.items() if v is not None}}  # fmt: skip


def _people(full: Row) -> list[str]:
    """Whose comparisons the test was of; a few of many."""
    names = [str(r["key"]) for r in full.get("pairs_by") or () if r.get("by") == "annotator" and r.get("n")]
    return names[:4]
