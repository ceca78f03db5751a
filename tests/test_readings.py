"""A judge's scores as the page shows them: own scales, ranks and probabilities, from tables with known answers."""

from __future__ import annotations

import math

import pytest

from studio import readings
from studio.readings import Facts, Score

SCORED = Facts(trained={"G5": 60, "overall": 40}, scored={"G5": 60}, ties={"overall": 0.5})


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_row_that_saw_scores_is_on_its_own_scale() -> None:
    told = readings.shown({"G5": Score(1.7, 0.3)}, [], SCORED)["G5"]
    assert (told["low"], told["high"], told["value"], told["spread"]) == (-1, 3, 1.7, 0.3)
    assert told["share"] == pytest.approx(2.7 / 4)
    assert "rank" not in told


def test_a_row_that_never_saw_a_score_has_no_scale() -> None:
    rows = {"overall": Score(2.0, 0.4, 2.0, (1.8, 2.2))}
    others = [{"overall": Score(1.0, 0.4, 1.0, (0.9, 1.1))}, {"overall": Score(3.0, 0.4, 3.0, (2.8, 3.4))}]
    told = readings.shown(rows, others, SCORED)["overall"]
    assert "value" not in told
    assert (told["rank"], told["of"]) == (2, 3)
    assert told["win"] == pytest.approx((sigma(1 - 0.5) + sigma(-1 - 0.5)) / 2)
    tie = [1 - sigma(d - 0.5) - sigma(-d - 0.5) for d in (1, -1)]
    assert told["tie"] == pytest.approx(sum(tie) / 2)
    assert told["share"] == told["win"]
    assert told["lead"] == pytest.approx(-1.0)
    assert told["lead_spread"] == pytest.approx(0.1414, abs=1e-3)  # of -1.0 and -1.2, paired


def test_alone_without_a_scale_there_is_nothing_to_compare() -> None:
    told = readings.shown({"overall": Score(2.0, 0.4, 2.0)}, [], SCORED)["overall"]
    assert "rank" not in told
    assert "share" not in told


def test_scores_of_the_first_versions_have_ranks_and_no_probability() -> None:
    old = readings.facts({"trained": {"L4": 60, "overall": 40}})
    assert old.on_scale("L4")
    assert not old.on_scale("overall")
    told = readings.shown({"overall": Score(2.0, 0.1)}, [{"overall": Score(2.5, 0.1)}], old)["overall"]
    assert (told["rank"], told["of"], told["share"]) == (2, 2, 0.0)
    assert "win" not in told


def test_families_leave_out_who_has_no_score() -> None:
    scores = {n: {"overall": Score(v, None, v)} for n, v in (("a", 1.0), ("b", 2.0))}
    read = readings.of_families(scores, [["a", "b", "c"]], SCORED)
    assert {n: r["overall"]["rank"] for n, r in read.items()} == {"a": 2, "b": 1}
    assert readings.brief(read["a"])["overall"][2:4] == [2, 2]


def test_stale_scores_say_so() -> None:
    assert readings.shown({"G5": Score(1.0, 0.1, stale=True)}, [], SCORED)["G5"]["stale"]
