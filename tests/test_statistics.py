"""Statistics on a real store, against the same figures worked out by hand or in plain Python; and as HTML."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from statistics import correlation, fmean
from typing import Any
from xml.etree import ElementTree

import pytest

from studio import StudioError, exchange, plots, statistics_section
from studio.actions import Studio
from studio.statistics import figures
from studio.tree import Part
from tests.conftest import plant

HOSTILE = "<script>alert(1)</script>\"'{{7*7}}${7*7}"


class Tags(HTMLParser):
    """Every tag of a page, the attributes that act on events, and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


def siblings(studio: Studio, tree: str, question: str, n: int) -> list[str]:
    return [studio.store.add_node(tree, question, "assistant", [Part("text", f"r{i}")]) for i in range(n)]


def fill(studio: Studio) -> dict[tuple[str, str], dict[str, int]]:
    """Four trees with three sibling replies each, rated by ann and bob; returns (annotator, dimension) -> node -> value."""
    given: dict[tuple[str, str], dict[str, int]] = {}
    for t in range(4):
        [question] = plant(studio, f"q{t}")
        for i, reply in enumerate(siblings(studio, studio.store.node(question).tree_id, question, 3)):
            for who, dimension, value in (
                ("ann", "L1", (t + i) % 4), ("ann", "L2", (t * i + 1) % 4), ("ann", "L3", 3),
                ("bob", "L1", (t + i + (t == 2)) % 4), ("bob", "G5", i - 1),
            ):  # fmt: skip
                studio.store.rate(reply, dimension, value, who)
                given.setdefault((who, dimension), {})[reply] = value
    return given


def by(rows: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    [row] = [r for r in rows if all(r[k] == v for k, v in keys.items())]
    return row


def test_an_empty_home_says_what_to_do(studio: Studio) -> None:
    page = statistics_section.section(figures(studio.store, "ann"))
    assert "Nothing has been judged yet. Ask something on Explore" in page
    plant(studio, "q", "r")
    assert "Replies to rate: 1." in statistics_section.section(figures(studio.store, "ann"))


def test_distributions_are_those_of_the_rows(studio: Studio) -> None:
    given = fill(studio)
    found = figures(studio.store, "ann")
    everyone = [v for (_, d), values in given.items() if d == "L1" for v in values.values()]
    row = by(found["distributions"], dimension="L1")
    assert row["n"] == 24
    assert row["mean"] == pytest.approx(fmean(everyone))
    assert row["counts"] == {str(v): Counter(everyone)[v] for v in range(4)}
    assert row["top_share"] == everyone.count(3) / 24
    assert by(found["distributions_mine"], dimension="L1")["counts"] == {
        str(v): list(given["ann", "L1"].values()).count(v) for v in range(4)
    }
    assert by(found["distributions"], dimension="G5")["counts"] == {"-1": 4, "0": 4, "1": 4, "2": 0, "3": 0}
    assert [r["dimension"] for r in found["distributions_mine"]] == ["L1", "L2", "L3"]


def test_a_changed_mind_counts_once(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    for value in (0, 3, 2):
        studio.store.rate(reply, "L1", value, "ann")
    found = figures(studio.store, "ann")
    assert by(found["distributions"], dimension="L1")["counts"] == {"0": 0, "1": 0, "2": 1, "3": 0}
    assert found["pace"]["n"] == 3  # but each was work


def test_correlations_and_a_constant_column(studio: Studio) -> None:
    given = fill(studio)
    found = figures(studio.store, "ann")
    nodes = list(given["ann", "L1"])
    r = correlation([given["ann", "L1"][n] for n in nodes], [given["ann", "L2"][n] for n in nodes])
    row = by(found["correlations"], a="L1", b="L2")
    assert (row["n"], row["pearson"]["value"]) == (12, pytest.approx(r))
    constant = by(found["correlations"], a="L1", b="L3")["pearson"]
    assert constant["value"] is None
    assert "L3" in constant["reason"]
    assert constant["reason"] in statistics_section.section(found)


def test_agreement_stands_beside_always_the_top(studio: Studio) -> None:
    given = fill(studio)
    found = figures(studio.store, "ann")
    [pair] = found["agreement"]["pairs"]
    assert (pair["a"], pair["b"], pair["n"]) == (("ann", 1), ("bob", 1), 12)
    row = by(pair["dimensions"], dimension="L1")
    mine, theirs = given["ann", "L1"], given["bob", "L1"]
    same = sum(mine[n] == theirs[n] for n in mine) / 12
    assert (same, row["agreement"]["value"]) == (0.75, 0.75)
    assert row["constant"]["value"] == list(mine.values()).count(3) / 12
    low, high = row["agreement"]["interval"]
    assert low <= same <= high
    assert by(pair["levels"], dimension="local")["n"] == 12
    page = Tags(statistics_section.section(found)).words
    assert f"75% [{low * 100:.0f}, {high * 100:.0f}] · top 25% · n 12" in page


def test_rounds_of_one_annotator(studio: Studio) -> None:
    ids = [plant(studio, f"q{i}", "r")[1] for i in range(3)]
    for i, reply in enumerate(ids):
        studio.store.rate(reply, "L1", i, "ann")
        studio.store.rate(reply, "L1", min(i, 1), "ann", round=2)
    found = figures(studio.store, "ann")
    [pair] = found["agreement"]["pairs"]
    assert (pair["a"], pair["b"]) == (("ann", 1), ("ann", 2))
    assert by(pair["dimensions"], dimension="L1")["agreement"]["value"] == pytest.approx(2 / 3)
    assert by(found["paper"], what="Raw agreement, local")["ours"] is None  # one person is not two


def test_one_annotator_has_no_agreement(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    studio.store.rate(reply, "L1", 2, "ann")
    found = figures(studio.store, "ann")
    assert found["agreement"] == {"pairs": [], "more": 0}
    assert "This needs replies rated twice" in statistics_section.section(found)


def test_pooled_agreement_counts_each_dimension(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    _, other = plant(studio, "q", "r")
    for node, code, a, b in (
        (reply, "L1", 3, 3),
        (reply, "L2", 2, 3),
        (other, "L1", 1, 1),
        (other, "L4", 0, 0),
        (reply, "G5", -1, 3),
    ):
        studio.store.rate(node, code, a, "ann")
        studio.store.rate(node, code, b, "bob")
    [pair] = figures(studio.store, "ann")["agreement"]["pairs"]
    local, whole = by(pair["levels"], dimension="local"), by(pair["levels"], dimension="global")
    assert (local["n"], local["agreement"]["value"], local["constant"]["value"]) == (4, 0.75, 0.25)
    assert (whole["n"], whole["agreement"]["value"], whole["interval_note"]) == (1, 0, "all from one tree: an interval by tree needs two or more")  # fmt: skip


def test_comparisons_ties_sides_and_pairs(studio: Studio) -> None:
    [question] = plant(studio, "q")
    a, b, c = siblings(studio, studio.store.node(question).tree_id, question, 3)
    store = studio.store
    store.compare("local", "overall", a, b, "left", "ann", shown_left=b, seconds=4)
    store.compare("local", "overall", a, c, "tie", "ann", seconds=6)
    store.compare("local", "overall", b, c, "right", "ann", shown_left=c, seconds=20)
    store.compare("global", "G2", a, c, "right", "bob", shown_left=a)
    for node, value in ((a, 3), (b, 3), (c, 1)):
        store.rate(node, "L4", value, "ann")
    found = figures(store, "ann")
    assert found["comparisons"] == [
        {"level": "local", "dimension": "overall", "left": 1, "right": 1, "tie": 1, "shown": 2, "shown_left": 1},
        {"level": "global", "dimension": "G2", "left": 0, "right": 1, "tie": 0, "shown": 1, "shown_left": 0},
    ]
    assert found["pairs"] == [
        {"level": "local", "dimension": "L4", "explicit": 0, "ties": 0, "derived": 2},
        {"level": "local", "dimension": "overall", "explicit": 2, "ties": 1, "derived": 0},
        {"level": "global", "dimension": "G2", "explicit": 1, "ties": 0, "derived": 0},
    ]
    assert found["times"] == [{"what": "comparison", "kind": "local", "n": 3, "median_seconds": 6}]
    assert (found["scores"], found["judgements"]) == (3, 7)


def test_only_comparisons_are_enough(studio: Studio) -> None:
    [question] = plant(studio, "q")
    a, b = siblings(studio, studio.store.node(question).tree_id, question, 2)
    studio.store.compare("local", "overall", a, b, "tie", "ann")
    words = Tags(statistics_section.section(figures(studio.store, "ann"))).words
    assert "n 1 · ties 1" in words
    assert "0 compared" in words


def test_coverage_by_turn(studio: Studio) -> None:
    first = plant(studio, "q", "r", "q", "r", "q", "r")
    second = plant(studio, "q", "r", "q", "r")
    plant(studio, "never judged", "r")
    studio.store.rate(first[1], "L1", 1, "ann")
    studio.store.rate(first[3], "L1", 1, "bob")
    studio.store.prune(second[2])
    found = figures(studio.store, "ann")
    assert found["coverage"] == [
        {"turn": 1, "replies": 3, "rated": 1, "mine": 1},
        {"turn": 2, "replies": 1, "rated": 1, "mine": 0},
        {"turn": 3, "replies": 1, "rated": 0, "mine": 0},
    ]
    assert found["trees"] == {"trees": 3, "touched": 1, "mine": 1}


def test_drift_in_the_order_given(studio: Studio) -> None:
    ids = [plant(studio, "q", "r")[1] for _ in range(60)]
    with studio.store.write():
        for i, reply in enumerate(ids):
            studio.store.rate(reply, "L1", 3 if i < 50 else 1, "ann")
    rows = figures(studio.store, "ann")["drift"]
    assert [(r["block"], r["n"], r["mean"]["value"], r["earlier_median"]) for r in rows] == [
        (1, 50, 3, None),
        (2, 10, 1, 3),
    ]
    assert 'aria-label="Mean of each 50 scores' in statistics_section.section(figures(studio.store, "ann"))


def test_imported_scores_come_in_whole(studio: Studio, shared: Path) -> None:
    rows = json.loads((shared / "crucial_step.json").read_text())
    report = exchange.import_path(studio.store, studio.media, shared / "crucial_step.json")
    given = Counter(str(row["annotation"]["crucial_step_recognition"]) for row in rows)
    found = figures(studio.store, "ann")
    [row] = found["distributions"]
    assert (len(rows), row["dimension"], row["n"]) == (350, "G3", report.scores)
    assert row["counts"] == {str(v): given[str(v)] for v in range(4)}
    assert sum(row["counts"].values()) == 350 == report.scores
    repeated = {r["node"]: r["round"] for r in studio.store.ratings() if r["round"] > 1}
    assert set(repeated.values()) == {
        2
    }  # two rows are about a dialogue that came before: a second round, not a changed mind
    assert len(repeated) == 2
    assert {r["annotator"] for r in studio.store.ratings()} == {"intermt"}
    assert found["distributions_mine"] == []
    assert (found["pace"]["n"], found["drift"]) == (0, [])  # they carry the time of the import
    assert "G3 Crucial steps" in statistics_section.section(found)


def test_a_name_of_an_annotator_is_only_text(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    _, other = plant(studio, "q", "r")
    for node in (reply, other):
        for who in ("ann", HOSTILE):
            studio.store.rate(node, "L1", 2, who)
            studio.store.rate(node, "<b>own</b>", 4, who)
    page = statistics_section.section(figures(studio.store, HOSTILE))
    found = Tags(page)
    assert set(found.tags) & {"script", "img", "b", "iframe"} == set()
    assert found.handlers == []
    assert f"You ({HOSTILE})" in found.words
    assert "<b>own</b>" in found.words
    assert "{{" not in page
    assert "${" not in page


def test_a_score_that_cannot_be_is_named(studio: Studio) -> None:
    _, reply = plant(studio, "q", "r")
    studio.store.rate(reply, "L1", 9, "ann")
    with pytest.raises(StudioError, match="L1 takes one of 0, 1, 2, 3, not '9'"):
        figures(studio.store, "ann")


def test_figures_can_be_kept_as_json(studio: Studio) -> None:
    fill(studio)
    assert json.loads(json.dumps(figures(studio.store, "ann")))["scores"] == 60


def test_bars_are_as_long_as_their_share() -> None:
    pieces = [plots.Piece(1, ("red", "#fff"), "1", "one"), plots.Piece(3, ("blue", "#fff"), "3", "three")]
    drawing = ElementTree.fromstring(plots.bars("a & b", [plots.Bar("<x>", "n 4", pieces)]))
    assert drawing.attrib["aria-label"] == "a & b"
    space = "{http://www.w3.org/2000/svg}"
    lengths = {e.attrib["fill"]: float(e.attrib["width"]) for e in drawing.iter(f"{space}rect")}
    assert (lengths["red"], lengths["blue"]) == (plots.WIDTH / 4, plots.WIDTH * 3 / 4)
    assert [e.text for e in drawing.iter(f"{space}text")][:2] == ["<x>", "n 4"]
    empty = ElementTree.fromstring(plots.bars("none", [plots.Bar("x", "", [pieces[0]._replace(amount=0)])], scale=0))
    assert [e.attrib["width"] for e in empty.iter(f"{space}rect")] == ["440", "0.0"]
