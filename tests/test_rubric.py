"""The rubric: the nine as they are, own dimensions beside them, and each mistake of a file in one line."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge import rubric
from judge.rubric import JudgeError
from studio import StudioError, statistics, statistics_section
from studio.actions import Studio, rate
from studio.config import Config
from studio.server import boot_script
from studio.tree import Part
from tests.conftest import ECHO, plant

TONE: dict[str, Any] = {
    "code": "tone", "key": "tone_of_voice", "name": "Tone", "level": "local", "values": [0, 1, 2, 3, 4, 5, 6],
    "asks": "Is the reply friendly?", "levels": {str(v): f"tone {v}" for v in range(7)}, "notes": ["Only words count."],
}  # fmt: skip
SAFE = {
    "code": "X1", "key": "safety", "name": "Safety", "level": "global", "values": [-1, 1, 4], "asks": "Is it harmless?",
    "levels": {"-1": "cannot be told", "1": "harmful", "4": "harmless"},
}  # fmt: skip
NINE = ["L1", "L2", "L3", "L4", "G1", "G2", "G3", "G4", "G5"]


@pytest.fixture(autouse=True)
def nine_again() -> Iterator[None]:
    """No test leaves its own dimensions to the next."""
    yield
    rubric.load_own(None)


def write(folder: Path, *dimensions: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "rubric.json"
    path.write_text(json.dumps({"dimensions": dimensions}))
    return path


def test_without_a_file_there_are_the_nine(tmp_path: Path) -> None:
    rubric.load_own(tmp_path / "rubric.json")
    assert list(rubric.dimensions()) == NINE == list(rubric.the_nine())
    assert rubric.dimensions()["G5"].values == (-1, 0, 1, 2, 3)


def test_own_dimensions_come_after_the_nine_which_stay(tmp_path: Path) -> None:
    before = copy.deepcopy((rubric.document(), rubric.the_nine()))
    rubric.load_own(write(tmp_path, TONE, SAFE))
    assert list(rubric.dimensions()) == [*NINE, "tone", "X1"]
    assert rubric.dimensions()["X1"] == rubric.Dimension(
        "X1", "safety", "Safety", "global", (-1, 1, 4), "Is it harmless?", {-1: "cannot be told", 1: "harmful", 4: "harmless"}, ()
    )  # fmt: skip
    shown = rubric.document()["dimensions"]
    assert [(d["code"], d.get("own", False), len(d["notes"])) for d in shown[-2:]] == [
        ("tone", True, 1),
        ("X1", True, 0),
    ]
    assert shown[:9] == before[0]["dimensions"]
    assert {c: rubric.dimensions()[c] for c in NINE} == before[1]
    rubric.load_own(None)
    assert (rubric.document(), rubric.dimensions()) == before


def test_a_score_is_checked_on_its_own_scale(tmp_path: Path) -> None:
    rubric.load_own(write(tmp_path, TONE, SAFE))
    assert rubric.check("tone", 6).name == "Tone"
    for value in (0, 2, 5):
        with pytest.raises(JudgeError, match="X1 takes one of -1, 1, 4"):
            rubric.check("X1", value)
    with pytest.raises(JudgeError, match=r"The rubric has L1, .*tone, X1"):
        rubric.check("X2", 1)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"code": "L1"}, 'code is "L1"; it must be a code that no other dimension has'),
    ({"code": "g5"}, 'code is "g5"; it must be a code that no other'),
    ({"code": "overall"}, 'code is "overall"'),
    ({"code": "a" * 13}, "1 to 12 letters, digits or _"),
    ({"code": "a-b"}, "1 to 12 letters, digits or _"),
    ({"code": "ä"}, "1 to 12 letters, digits or _"),
    ({"code": None}, "code is null; it must be a text"),
    ({"key": "helpfulness"}, "key is .*no other dimension has"),
    ({"name": ""}, 'name is ""; it must be a text'),
    ({"asks": ["a"]}, "asks is .*must be a text"),
    ({"level": "both"}, 'level is "both"; it must be "local" or "global"'),
    ({"level": []}, r"level is \[\]"),
    ({"values": [1]}, "values is .*2 to 7 whole numbers"),
    ({"values": list(range(8))}, "2 to 7 whole numbers"),
    ({"values": [0, 2, 1]}, "each above the one before"),
    ({"values": [0, True]}, "2 to 7 whole numbers"),
    ({"values": [0, 1.5]}, "2 to 7 whole numbers"),
    ({"values": [0, 10]}, "from -1 to 9"),
    ({"values": {"0": 1}}, "2 to 7 whole numbers"),
    ({"levels": {"0": "only one"}}, "levels is .*one text for each of 0, 1, 2, 3, 4, 5, 6"),
    ({"levels": {str(v): v for v in range(7)}}, "levels is 0; it must be texts"),
    ({"notes": "one"}, "notes is .*a list of texts"),
    ({"note": []}, "no field is called 'note'"),
]


@pytest.mark.parametrize(("change", "line"), WRONG, ids=lambda x: x[:20] if isinstance(x, str) else None)
def test_each_mistake_is_one_line_that_names_file_dimension_and_field(
    tmp_path: Path, change: dict[str, Any], line: str
) -> None:
    rubric.load_own(write(tmp_path / "good", SAFE))
    path = write(tmp_path, SAFE, TONE | change)
    with pytest.raises(JudgeError, match=line) as told:
        rubric.load_own(path)
    assert str(told.value).startswith(f"{path}: dimension 2 (")
    assert "\n" not in str(told.value)
    assert list(rubric.dimensions()) == [*NINE, "X1"]  # what was in force stays


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "is no JSON file"), ("{", "is no JSON file"), ("[]", "no list called"), ('{"dimensions": {}}', "no list called"),
     ("[" * 100_000, "is no JSON file"), (json.dumps({"dimensions": [TONE] * 25}), "25 dimensions; at most 24"),
     (json.dumps({"dimensions": [TONE, TONE]}), "dimension 2 .*code is"), ('{"dimensions": [3]}', "dimension 1: it is 3")],
    ids=["empty", "cut", "list", "object", "deep", "many", "twice", "number"],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "rubric.json").write_text(text)
    with pytest.raises(JudgeError, match=line) as told:
        rubric.load_own(tmp_path / "rubric.json")
    assert "\n" not in str(told.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "rubric.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JudgeError, match="is no JSON file"):
        rubric.load_own(tmp_path / "rubric.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JudgeError, match="Cannot read"):
        rubric.load_own(tmp_path / "folder")


def test_opening_a_studio_loads_its_own_and_only_its_own(tmp_path: Path) -> None:
    write(tmp_path / "mine", TONE)
    studio = Studio.open(Config(tmp_path / "mine", annotator="ann", models=(ECHO,)))
    _, reply = plant(studio, "q", "r")
    rate(studio, reply, "tone", 6)
    assert studio.store.scores([reply], "ann") == {reply: {"tone": 6}}
    assert '"Tone"' in boot_script()
    found = statistics.figures(studio.store, "ann", 20)
    assert [(r["dimension"], r["counts"]) for r in found["distributions"]] == [
        ("tone", dict.fromkeys("012345", 0) | {"6": 1})
    ]
    assert "Tone" in statistics_section.section(found)
    assert not [r for r in found["paper"] if r["n"]]  # the paper's figures are about the nine
    studio.close()
    Studio.open(Config(tmp_path / "plain", models=(ECHO,))).close()
    assert list(rubric.dimensions()) == NINE
    write(tmp_path / "mine", TONE | {"values": [3, 2]})
    with pytest.raises(StudioError, match=r"rubric.json: dimension 1 \(tone\): values is \[3, 2\]"):
        Studio.open(Config(tmp_path / "mine", models=(ECHO,)))


def test_a_reader_never_sees_half_a_rubric(tmp_path: Path) -> None:
    path, torn, done = write(tmp_path, TONE, SAFE), [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if len(rubric.dimensions()) not in (9, 11) or len(rubric.document()["dimensions"]) not in (9, 11):
                torn.append(len(rubric.dimensions()))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(200):
        rubric.load_own(path if i % 2 else None)
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_sql_knows_which_own_dimensions_are_global(tmp_path: Path) -> None:
    write(tmp_path / "mine", TONE, SAFE)
    studio = Studio.open(Config(tmp_path / "mine", models=(ECHO,)))
    try:
        question, better = plant(studio, "q", "a")
        tree = studio.store.node(question).tree_id
        worse = studio.store.add_node(tree, question, "assistant", [Part("text", "b")])
        for code in ("tone", "X1", "L1", "G2"):
            low, high = rubric.dimensions()[code].values[1:3]
            studio.store.rate(better, code, high, "ann")
            studio.store.rate(worse, code, low, "ann")
        pairs = studio.store.rows("SELECT level, dimension FROM preference_pairs ORDER BY dimension")
    finally:
        studio.close()
    assert [(p["level"], p["dimension"]) for p in pairs] == [("local", "L1"), ("local", "tone")]


# ---- a judge of own dimensions


def test_a_judge_learns_an_own_scale_and_keeps_it_when_the_rubric_is_another(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run")
    from judge import files
    from judge.examples import Score
    from judge.model import ROWS, LoraSettings
    from judge.scoring import Scorer
    from judge.training import Settings, train
    from tests import tiny
    from tests.test_training import dealt, taught

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert list(ROWS) == [*NINE, "overall", "overall_global"]
    base = tiny.llama(tmp_path / "base", hidden=24, layers=1)
    settings = Settings(base=str(base), level="local", epochs=6, learning_rate=3e-3, head_learning_rate=3e-2, max_tokens=256, max_path=200,
                        batch_tokens=512, copies=2, patience=0, derived=False, lora=LoraSettings(rank=0))  # fmt: skip
    examples = taught(40, "scores")
    for e in examples:
        e.scores = [Score(s.node, "tone", 6 if s.node == "good" else 2) for s in e.scores]
    with pytest.raises(JudgeError, match=r"None of the 80 labels.*no dimension tone.*take over its rubric.json"):
        train(examples, "none", tmp_path / "judges", tmp_path, settings, parts=dealt(examples))
    rubric.load_own(write(tmp_path, TONE, SAFE))
    train(examples, "mine", tmp_path / "judges", tmp_path, settings, parts=dealt(examples))
    rubric.load_own(None)  # another home, or the file is gone
    model, card = files.load_judge(tmp_path / "judges" / "mine", tmp_path)
    assert card["model"]["rows"] == [*ROWS, "tone", "X1"]
    assert model.head.thresholds().shape == (13, 6)
    assert model.head.scales["X1"] == (-1, 1, 4)
    read = Scorer(model).tree(examples[-1])
    good, bad = (read[n].expected["tone"] for n in ("good", "bad"))
    assert good > bad
    assert 0 <= bad < good <= 6
    low, high = (model.head.expected(torch.full((13,), x))[-1].item() for x in (-50.0, 50.0))
    assert (low, high) == pytest.approx((-1, 4))  # levels that are not one apart count as far as they are

    del card["model"]["scales"]  # as judges of the nine were saved before there were own scales
    plain = {**card["model"], "rows": list(ROWS)}
    from judge.model import NINE as of_the_nine
    from judge.model import scales_of

    assert scales_of(plain) == of_the_nine
    torch.set_num_threads(threads)
