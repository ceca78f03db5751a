"""What a trained judge may claim, in the table and beside a score: with n, interval and baselines, of people's labels first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio import StudioError, claims, judgescreen, versions
from studio.actions import Studio

LONGER = {"value": 0.66, "difference_interval": [-0.05, 0.1]}


def pairs(n: int = 120, **more: Any) -> dict[str, Any]:
    """Figures of some comparisons, as ``judge.evaluation`` gives them."""
    base = {"n": n, "n_ties": 4, "trees": 40, "accuracy": 0.68, "interval": [0.61, 0.75], "interval_note": None,
            "baselines": {"coin": {"value": 0.5}, "longer": LONGER, "majority": {"value": 0.52}}}  # fmt: skip
    return base | more


def scores(n: int = 30) -> dict[str, Any]:
    return {"n": n, "trees": 10, "mae": {"value": 0.8, "interval": [0.6, 1.0]}, "interval_note": None,
            "baselines": {"always_3": {"mae": {"value": 1.1}}, "majority": {"mae": {"value": 0.9}}}}  # fmt: skip


def listed(studio: Studio, metrics: dict[str, Any], report: dict[str, Any] | None = None, live: bool = True) -> Path:
    """A judge in the list, with what its test said; its weights are not needed for that."""
    folder = studio.store.home / "judges" / "first"
    folder.mkdir(parents=True)
    studio.store.add_judge("first", "/somewhere/base", {"level": "local", "epochs": 1}, "none", metrics, "judges/first")
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    if live:
        studio.judge.promote("first")
    return folder


# ---- the verdict


@pytest.mark.parametrize(
    ("figures", "kind", "says"),
    [
        (None, "unsure", "accuracy unknown"),
        (pairs(0), "unsure", "accuracy unknown"),
        (pairs(interval=None), "unsure", "too few dialogues for an interval"),
        (pairs(accuracy=0.4, interval=[0.3, 0.49]), "bad", "worse than a coin"),
        (pairs(accuracy=0.55, interval=[0.45, 0.65]), "bad", "not better than a coin"),
        (pairs(), "unsure", "not better than picking the longer reply"),
        (pairs(accuracy=0.64), "bad", "not better than picking the longer reply"),
        (pairs(baselines={"longer": {"value": 0.8, "difference_interval": [-0.2, -0.04]}}), "bad", "worse than picking the longer reply"),
        (pairs(baselines={"longer": {"value": 0.5, "difference_interval": [0.1, 0.3]}}), "good", ""),
        (pairs(baselines={"longer": {"value": 0.5}}), "good", ""),  # of a report without paired differences: the interval
        (pairs(baselines={"longer": {"value": 0.62}}), "unsure", "not better than picking the longer reply"),
        (pairs(baselines={}), "good", ""),
    ],
)  # fmt: skip
def test_an_accuracy_is_held_against_its_baselines(figures: dict[str, Any] | None, kind: str, says: str) -> None:
    assert versions.verdict(figures) == {"kind": kind, "says": says}


# ---- the table


def test_the_table_has_n_interval_and_baseline_of_every_accuracy(studio: Studio) -> None:
    by_bob = pairs(80, by="annotator", key="bob")
    listed(studio, {"pairs": pairs(), "derived": pairs(300, accuracy=0.9), "trained": {"overall": 400}, "derived_labels": {"L4": 900}},
           {"pairs": pairs(), "derived": pairs(300), "pairs_by": [by_bob]})  # fmt: skip
    (row,) = judgescreen.state(studio)["judges"]
    assert (row["pairs"]["n"], row["pairs"]["interval"], row["pairs"]["baselines"]["longer"]) == (
        120,
        [0.61, 0.75],
        LONGER,
    )
    assert row["derived"]["n"] == 300
    assert (row["labels"], row["derived_labels"]) == (400, 900)
    assert row["verdict"]["says"] == "not better than picking the longer reply"
    assert not row["mixed"]
    # nothing of it is "you": the test was of another person's comparisons
    assert row["own"] is None
    assert row["by"] == ["bob"]


def test_scores_alone_are_a_test_too(studio: Studio) -> None:
    listed(studio, {"pairs": pairs(0), "derived": pairs(0), "scores": scores(), "trained": {"L4": 60}}, live=False)
    (row,) = judgescreen.state(studio)["judges"]
    assert (row["pairs"], row["derived"], row["untested"]) == (None, None, None)
    assert row["scores"] == {"n": 30, "trees": 10, "error": 0.8, "interval": [0.6, 1.0],
                             "beside": {"always 3": 1.1, "always the commonest score": 0.9}}  # fmt: skip
    assert row["verdict"] == {"kind": "unsure", "says": "accuracy unknown"}


def test_pairs_that_scores_imply_have_the_verdict_where_nobody_compared(studio: Studio) -> None:
    listed(studio, {"pairs": pairs(0), "derived": pairs(300, accuracy=0.64), "scores": scores()}, live=False)
    (row,) = judgescreen.state(studio)["judges"]
    assert (row["pairs"], row["derived"]["n"]) == (None, 300)
    assert row["verdict"] == {"kind": "bad", "says": "not better than picking the longer reply"}


def test_agrees_with_you_counts_your_own_labels_alone(studio: Studio) -> None:
    mine = pairs(40, by="annotator", key="ann", accuracy=0.8, interval=[0.7, 0.9])
    listed(studio, {"pairs": pairs(), "derived": None},
           {"pairs": pairs(), "derived": None, "pairs_by": [pairs(80, by="annotator", key="bob"), mine,
                                                            pairs(7, by="dimension", key="ann", level="local")]})  # fmt: skip
    (row,) = judgescreen.state(studio)["judges"]
    assert (row["own"]["n"], row["own"]["accuracy"], row["own"]["interval"]) == (40, 0.8, [0.7, 0.9])
    assert row["pairs"]["n"] == 120
    assert row["by"] == ["bob", "ann"]


def test_an_old_report_is_shown_as_what_it_was(studio: Studio) -> None:
    listed(studio, {"pairs": pairs(), "trained": {"L4": 60, "overall": 40}}, {"pairs": pairs()})
    (row,) = judgescreen.state(studio)["judges"]
    assert row["mixed"]  # derived pairs were among them
    assert (row["own"], row["derived"], row["by"]) == (None, None, [])
    assert row["labels"] == 100


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_report_that_cannot_be_read_leaves_the_short_one(studio: Studio, text: str) -> None:
    folder = listed(studio, {"pairs": pairs(), "derived": None})
    (folder / "report.json").write_text(text, encoding="utf-8")
    (row,) = judgescreen.state(studio)["judges"]
    assert row["pairs"]["n"] == 120
    assert claims.about(studio, "L4")["pairs"]["n"] == 120


# ---- beside a score


def test_learned_from_counts_people_and_derived_apart(studio: Studio) -> None:
    listed(
        studio,
        {"trained": {"L4": 3, "overall": 40}, "derived_labels": {"L4": 900}, "scored": {"L4": 3}, "derived": None},
    )
    about = claims.about(studio, "L4")
    assert (about["labels"], about["derived_labels"]) == (3, 900)
    assert about["labels"] < about["enough"]  # 900 derived pairs do not make it trusted
    assert "No unseen dialogue had a label of L4" in about["untested"]
    assert claims.about(studio, "overall")["labels"] == 40
    assert claims.about(studio, "overall_global")["labels"] == 0


def test_figures_are_of_the_row_and_its_level(studio: Studio) -> None:
    report = {
        "pairs": pairs(120), "derived": pairs(300), "scores": scores(),
        "pairs_by": [pairs(90, by="dimension", key="overall", level="local"),
                     pairs(30, by="dimension", key="overall", level="global", accuracy=0.9),
                     pairs(11, by="turn", key="overall")],
        "derived_by": [pairs(300, by="dimension", key="L4", level="local", accuracy=0.7)],
        "scores_by": [scores(12) | {"by": "dimension", "key": "L4", "level": "local"}],
    }  # fmt: skip
    listed(studio, {"pairs": pairs(), "derived": pairs(300)}, report)
    local, dialogue, l4 = (claims.about(studio, row) for row in ("overall", "overall_global", "L4"))
    assert (local["pairs"]["n"], local["pairs"]["apart"], local["pairs"]["accuracy"]) == (90, True, 0.68)
    assert (dialogue["pairs"]["n"], dialogue["pairs"]["accuracy"]) == (30, 0.9)
    assert local["pairs"]["beside"] == {"a coin": 0.5, "the longer reply": 0.66, "majority class": 0.52}
    assert l4["pairs"] is None  # nobody compared on it
    assert l4["derived"]["n"] == 300
    assert l4["scores"]["beside"] == {"always 3": 1.1, "always the commonest score": 0.9}
    assert l4["untested"] is None
    assert local["derived"] is None
    g1 = claims.about(studio, "G1")
    assert (g1["pairs"], g1["scores"]) == (None, None)
    assert "No unseen dialogue had a label of G1" in g1["untested"]


def test_the_short_form_says_that_it_is_of_all_rows_together(studio: Studio) -> None:
    listed(studio, {"pairs": pairs(), "scores": scores(), "derived": None, "trained": {"L4": 60}})
    about = claims.about(studio, "L4")
    assert (about["pairs"]["n"], about["pairs"]["apart"], about["scores"]["apart"]) == (120, False, False)


def test_the_first_reports_still_open(studio: Studio) -> None:
    first = json.loads((Path(__file__).parent / "report_v1.json").read_text(encoding="utf-8"))
    listed(studio, {"pairs": first.get("pairs"), "scores": first.get("scores"), "trained": {"L4": 60}}, first)
    about = claims.about(studio, "L4")
    assert about["labels"] == 60
    assert about["derived_labels"] == 0
    assert about["verdict"]["kind"] in ("good", "unsure", "bad")
    (row,) = judgescreen.state(studio)["judges"]
    assert row["mixed"] == bool(first.get("pairs"))


def test_why_it_was_not_tested_is_kept(studio: Studio) -> None:
    listed(studio, {"untested": "There was nothing to test on."}, live=False)
    with pytest.raises(StudioError, match="No judge is live any more"):
        claims.about(studio, "L4")
    studio.judge.promote("first")
    assert claims.about(studio, "L4")["untested"] == "There was nothing to test on."
    (row,) = judgescreen.state(studio)["judges"]
    assert row["verdict"] == {"kind": "unsure", "says": "accuracy unknown"}


def test_newer_labels_are_those_given_since_the_data_was_read() -> None:
    row = {"created_at": "2026-01-02", "metrics": {}}
    assert versions.labels_at(row) == "2026-01-02"  # of an earlier version
    assert versions.labels_at(row | {"metrics": {"labels_at": "2026-01-01"}}) == "2026-01-01"
