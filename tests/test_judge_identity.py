"""A judge is its name and the hash of its weights: another person's never takes the name, the place or the scores of mine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio import StudioError, exchange
from studio.actions import Studio
from studio.store.identity import WEIGHTS, ZERO_SHOT
from studio.tree import Part

JUDGE = "judge-1"
SCORE = 1.5


@pytest.fixture
def mine(studio: Studio) -> Studio:
    """A studio of bob's with a dialogue, and no judge yet."""
    studio.config = replace(studio.config, annotator="bob")
    tree = studio.store.create_tree("t", id="tree")
    studio.store.add_node(tree, None, "user", [Part("text", "q")], id="q")
    for name in ("a", "b"):
        studio.store.add_node(tree, "q", "assistant", [Part("text", name)], id=name)
    return studio


@pytest.fixture
def ann(mine: Studio, tmp_path: Path) -> Iterator[Studio]:
    """Ann's studio with the same dialogue."""
    opened = copy_of(mine, tmp_path / "ann", "ann")
    yield opened
    opened.close()


def copy_of(studio: Studio, home: Path, annotator: str) -> Studio:
    opened = Studio.open(replace(studio.config, home=home, annotator=annotator))
    give(studio, opened)
    return opened


def give(giver: Studio, taker: Studio, change: Any = None) -> None:
    """Everything that one studio has into the other, through a file; ``change`` may alter the judges' rows in it."""
    out = giver.store.home / "out"
    exchange.export_studio(giver.store, giver.media, out, force=True, annotator=giver.config.annotator)
    file = out / "studio.jsonl"
    if change:
        header, *dumps = [json.loads(line) for line in file.read_text().splitlines()]
        for dump in dumps:
            for row in dump["judges"]:
                change(row, header)
        file.write_text("".join(json.dumps(row) + "\n" for row in (header, *dumps)))
    exchange.import_path(taker.store, taker.media, out, annotator=taker.config.annotator)


def trained(studio: Studio, weights: bytes | None, name: str = JUDGE, value: float = SCORE, **more: Any) -> None:
    """A judge of this home with a score on one reply; ``weights``: what its file holds, None: it has none here."""
    if weights is not None:
        folder = studio.store.home / "judges" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
    row: dict[str, Any] = {
        "base": "tiny",
        "config": {},
        "data_hash": "d",
        "metrics": {},
        "path": f"judges/{name}",
    } | more
    studio.store.add_judge(name, **row)
    studio.store.save_judge_scores(name, [("a", "L4", value, 0.1)])


def said(studio: Studio) -> dict[str, float]:
    """What every judge in the store says of the reply."""
    rows = studio.store.rows("SELECT judge, value FROM judge_scores ORDER BY judge")
    assert {r["judge"] for r in rows} <= {r["name"] for r in studio.store.rows("SELECT name FROM judges")}
    return {r["judge"]: r["value"] for r in rows}


def row_of(studio: Studio, name: str) -> dict[str, Any]:
    [row] = studio.store.rows("SELECT * FROM judges WHERE name = ?", [name])
    return row


def test_another_persons_judge_gets_that_persons_name_and_keeps_its_scores(mine: Studio, ann: Studio) -> None:
    trained(mine, b"mine", value=3)
    trained(ann, b"ann's", made_by="ann")
    give(ann, mine)
    assert said(mine) == {JUDGE: 3, "judge-1 (ann)": SCORE}
    theirs = row_of(mine, "judge-1 (ann)")
    assert theirs["weights_hash"] == hashlib.sha256(b"ann's").hexdigest()
    assert (theirs["made_by"], theirs["path"]) == ("ann", None)
    assert row_of(mine, JUDGE)["weights_hash"] == hashlib.sha256(b"mine").hexdigest()
    give(ann, mine)  # once more adds nothing
    assert said(mine) == {JUDGE: 3, "judge-1 (ann)": SCORE}


def test_it_gets_that_name_where_mine_does_not_exist_yet(mine: Studio, ann: Studio) -> None:
    trained(ann, b"ann's", made_by="ann")
    give(ann, mine)
    assert said(mine) == {"judge-1 (ann)": SCORE}
    assert mine.store.judges() == []  # no judge that could be live, or whose folder could be asked for
    with pytest.raises(StudioError, match="is another person's judge: its scores are here, its weights are not"):
        mine.judge.promote("judge-1 (ann)")
    assert mine.judge.name is None


def test_the_sender_is_who_made_it_where_the_row_names_nobody(mine: Studio, ann: Studio) -> None:
    trained(ann, b"ann's")
    give(ann, mine)
    assert said(mine) == {"judge-1 (ann)": SCORE}
    assert row_of(mine, "judge-1 (ann)")["made_by"] == "ann"


def test_a_second_judge_of_hers_with_that_name_is_numbered(mine: Studio, ann: Studio, tmp_path: Path) -> None:
    trained(ann, b"first", made_by="ann")
    give(ann, mine)
    other = copy_of(ann, tmp_path / "other", "ann")
    with other.store.write() as db:
        db.execute("DELETE FROM judge_scores")
        db.execute("DELETE FROM judges")
    trained(other, b"second", value=0.5, made_by="ann")
    give(other, mine)
    assert said(mine) == {"judge-1 (ann)": SCORE, "judge-1 (ann 2)": 0.5}
    give(ann, mine)
    give(other, mine)
    assert said(mine) == {"judge-1 (ann)": SCORE, "judge-1 (ann 2)": 0.5}
    other.close()


def no_hash(row: dict[str, Any], header: dict[str, Any]) -> None:
    """The file of an earlier version."""
    row.pop("weights_hash")
    row.pop("made_by")
    header.pop("annotator", None)


def test_a_file_that_says_no_hash_never_joins_a_judge_made_otherwise(mine: Studio, ann: Studio) -> None:
    trained(mine, b"mine", value=3)
    trained(ann, b"ann's", data_hash="of other data")
    give(ann, mine, no_hash)
    assert said(mine) == {JUDGE: 3, "judge-1 (imported)": SCORE}
    give(ann, mine, no_hash)
    assert said(mine) == {JUDGE: 3, "judge-1 (imported)": SCORE}


def test_a_hash_that_is_none_is_unknown(mine: Studio, ann: Studio) -> None:
    trained(mine, b"mine", value=3)
    trained(ann, b"ann's", data_hash="of other data")
    give(ann, mine, lambda row, header: row.update(weights_hash="nothing like a hash", made_by=None))
    assert said(mine) == {JUDGE: 3, "judge-1 (ann)": SCORE}


def test_one_judge_by_its_hash_is_one_whatever_else_differs(mine: Studio, ann: Studio) -> None:
    trained(mine, b"the same", value=3)
    trained(ann, b"the same", made_by="ann")  # trained at another moment: only the hash is equal
    give(ann, mine)
    assert said(mine) == {JUDGE: 3}
    assert [r["name"] for r in mine.store.judges()] == [JUDGE]


def test_my_own_judge_keeps_its_name_on_a_new_machine_and_back(mine: Studio, tmp_path: Path) -> None:
    trained(mine, b"mine", made_by="bob")
    other = copy_of(mine, tmp_path / "new", "bob")
    assert said(other) == {JUDGE: SCORE}
    other.store.save_judge_scores(JUDGE, [("b", "L4", 0.5)])
    give(other, mine)
    assert [r["name"] for r in mine.store.rows("SELECT name FROM judges")] == [JUDGE]
    assert mine.store.judge_scores("tree", JUDGE)["b"]["L4"].value == 0.5
    other.close()


def test_a_judge_that_went_through_another_home_is_known_again(mine: Studio, ann: Studio) -> None:
    trained(mine, b"mine", made_by="bob")
    give(mine, ann)
    assert said(ann) == {"judge-1 (bob)": SCORE}
    give(ann, mine)
    assert said(mine) == {JUDGE: SCORE}


def test_a_folder_without_a_row_is_not_claimed(mine: Studio, ann: Studio) -> None:
    folder = mine.store.home / "judges" / JUDGE
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"mine, trained just now")
    mine.config = replace(mine.config, annotator="ann")  # she sits at this machine too
    trained(ann, b"ann's", made_by="ann")
    give(ann, mine)
    assert said(mine) == {"judge-1 (ann)": SCORE}


def test_a_new_judge_here_moves_one_of_a_file_aside(mine: Studio, ann: Studio) -> None:
    trained(ann, b"ann's", made_by="ann")
    mine.config = replace(mine.config, annotator="")  # nobody's name: the row comes in as it is
    give(ann, mine)
    assert said(mine) == {JUDGE: SCORE}
    trained(mine, b"mine", value=3, data_hash="of other data")
    assert said(mine) == {JUDGE: 3, "judge-1 (ann)": SCORE}
    assert row_of(mine, "judge-1 (ann)")["path"] is None
    assert [r["name"] for r in mine.store.judges()] == [JUDGE]
    mine.store.add_judge(JUDGE, "tiny", {}, "of other data", {}, f"judges/{JUDGE}")  # known: keeps its row
    assert said(mine) == {JUDGE: 3, "judge-1 (ann)": SCORE}


@pytest.mark.parametrize(("prompt", "names"), [(1, ["zero-shot-m"]), (2, ["zero-shot-m", "zero-shot-m (ann)"])])
def test_a_judge_that_was_never_trained_is_its_model_and_how_it_is_asked(
    mine: Studio, ann: Studio, prompt: int, names: list[str]
) -> None:
    for home, version in ((mine, 1), (ann, prompt)):
        config = {"kind": ZERO_SHOT, "prompt": version}
        trained(home, None, "zero-shot-m", base="m", config=config, data_hash="", path="")
    give(ann, mine)
    assert list(said(mine)) == names
    with mine.store.write() as db:
        db.execute("DELETE FROM judge_scores")
        db.execute("DELETE FROM judges")
    give(ann, mine)  # where nobody objects it keeps its name: that holds a hash of all that it is
    assert list(said(mine)) == ["zero-shot-m"]


@pytest.mark.parametrize("maker", ["", "  ", "(x)", "ann (evil)\n", "a" * 500, 7])
def test_a_makers_name_may_be_anything(mine: Studio, ann: Studio, maker: Any) -> None:
    trained(mine, b"mine", value=3)
    trained(ann, b"ann's")
    give(ann, mine, lambda row, header: row.update(made_by=maker))
    [theirs] = set(said(mine)) - {JUDGE}
    assert theirs.startswith("judge-1 (")
    assert theirs.count("(") == theirs.count(")") == 1
    assert len(theirs) < 90
    assert "\n" not in theirs
    give(ann, mine, lambda row, header: row.update(made_by=maker))
    assert set(said(mine)) == {JUDGE, theirs}
