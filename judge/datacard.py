"""The data card of a judge: how much there is of what, in which set, and what is too little. Plain data in and out."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from judge.examples import ENOUGH
from judge.groups import SETS, Split, group_of
from judge.labels import Prepared, counts_by_row, summary

LEAST_TEST = 5  # groups of trees in the test below which an interval says little
PEOPLE = ("scores", "pairs", "ties")  # kinds of labels that a person gave; "derived" ones follow from scores


def data_card(prepared: Prepared, parts: Split) -> dict[str, Any]:
    """Counts of trees, scores, comparisons, ties and derived pairs by level and dimension, and what is too little.

    ``warnings`` are sentences for a person; more than nothing in ``rows`` can still be too little to trust. Pairs that
    follow from scores never count as labels. ``skipped``: labels left out before any token was looked at.
    """
    examples = prepared.examples
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part in SETS:
        for key, counts in counts_by_row(parts.of(examples, part)).items():
            rows[key].update({f"{part}_{kind}": n for kind, n in counts.items()})
    trees = {part: len(getattr(parts, part)) for part in SETS}
    groups = {part: len({group_of(e) for e in parts.of(examples, part)}) for part in SETS}
    listed = [
        {"level": level, "dimension": dimension, **dict(sorted(counts.items()))}
        for (level, dimension), counts in sorted(rows.items())
    ]
    return {
        "trees": trees, "groups": groups, "rows": listed, "warnings": _warnings(rows, groups["test"]),
        "groups_with_test_pairs": len({group_of(e) for e in parts.of(examples, "test") if any(c.outcome != "tie" for c in e.comparisons)}),
        "seed": prepared.seed, "skipped": summary(people(rows) + len(prepared.left_out), prepared.left_out),
    }  # fmt: skip


def people(rows: dict[tuple[str, str], Counter[str]]) -> int:
    """Labels of people in all sets."""
    return sum(counts[f"{part}_{kind}"] for counts in rows.values() for part in SETS for kind in PEOPLE)


def _warnings(rows: dict[tuple[str, str], Counter[str]], test_groups: int) -> list[str]:
    warnings = []
    for (level, dimension), counts in sorted(rows.items()):
        given = sum(counts[f"train_{kind}"] for kind in PEOPLE)
        if given < ENOUGH:
            warnings.append(
                f"{dimension} ({level}) has {given} labels of people to train on; "
                f"below {ENOUGH} its numbers mean little."
            )
        if not any(n for kind, n in counts.items() if kind.startswith("test")):
            warnings.append(f"{dimension} ({level}) has no label in the test trees: its accuracy is unknown.")
    if test_groups < LEAST_TEST:
        noun = "dialogue" if test_groups == 1 else "dialogues"
        warnings.append(
            f"The test has {test_groups} independent {noun}: an interval over so few says little. Rate more dialogues."
        )
    return warnings
