"""The curve in the studio: its command, its job in a process of its own, what is kept, and the estimate for more ratings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from studio import api, cli, learning
from studio.actions import Studio
from studio.store import Store
from tests import teach
from tests.conftest import wait

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_jobs_left")]


def screen(studio: Studio) -> dict[str, Any]:
    found: dict[str, Any] = api.handle(studio, "judge", {})["learning"]
    return found


def start(studio: Studio, base: Path, **more: Any) -> dict[str, Any]:
    return api.handle(studio, "learning_start", {"base": str(base), "level": "local", "seed": 0} | more)


def ended(studio: Studio) -> dict[str, Any]:
    def over() -> Any:
        found = screen(studio)
        return found["job"]["status"] != "running" and found

    found: dict[str, Any] = wait(over, 180, "the end of the job")
    return found


def test_the_job_measures_a_curve_and_the_screen_keeps_it(studio: Studio, base: Path) -> None:
    teach.rate(studio.store, 60)
    assert screen(studio)["curve"] is None
    assert screen(studio)["missing"] is None
    assert screen(studio)["next"]["total"] == {"ratings": 180, "gain": None}
    answer = start(studio, base)
    assert answer["learning"]["job"]["status"] == "running"
    found = ended(studio)
    assert (found["job"]["status"], found["job"]["error"], found["job"]["progress"]) == ("done", None, 1.0)
    assert found["job"]["verdict"] == found["curve"]["verdict"]["text"]
    curve = found["curve"]
    assert [p["trees"] for p in curve["points"]] == [6, 12, 24, 48]
    assert (curve["ratings"], curve["n"], curve["trees"]["test"]) == (180, 12, 12)
    gain = found["next"]["total"]["gain"]
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    rows = {r["dimension"]: r for r in found["next"]["rows"]}
    assert (rows["L4"]["labels"], rows["overall"]["labels"]) == (33, 17)  # two scores for each comparison
    assert api.handle(studio, "judge", {})["jobs"] == []  # it is no training

    teach.rate(studio.store, 1)
    assert screen(studio)["curve"] == curve  # more ratings leave it as it was measured
    assert screen(studio)["next"]["total"]["ratings"] == 183
    assert "is done" in api.handle(studio, "judge_go_on", {"job": found["job"]["id"]})["error"]


def test_a_curve_that_was_stopped_goes_on(studio: Studio, base: Path) -> None:
    teach.rate(studio.store, 90)
    job = start(studio, base)["learning"]["job"]["id"]
    states = studio.store.home / "judges" / learning.STATES
    wait(lambda: len(list(states.glob("*.safetensors"))) >= 3, 120, "some dialogues read")
    assert "learning curve" in start(studio, base)["error"]  # one at a time
    api.handle(studio, "judge_stop", {"job": job})
    assert ended(studio)["job"]["status"] == "stopped"
    before = {p: p.stat().st_mtime_ns for p in states.glob("*.safetensors")}
    assert 3 <= len(before) < 90
    api.handle(studio, "judge_go_on", {"job": job})
    found = ended(studio)
    assert (found["job"]["status"], len(found["curve"]["points"])) == ("done", 4)
    assert all(p.stat().st_mtime_ns == at for p, at in before.items())  # nothing was read twice


def test_a_job_that_cannot_be_done_says_why(studio: Studio) -> None:
    teach.rate(studio.store, 60)
    start(studio, Path("/no/such/folder"))
    found = ended(studio)
    assert found["job"]["status"] == "failed"
    assert "There is no backbone '/no/such/folder'." in found["job"]["error"]


@pytest.mark.parametrize(("change", "words"), [
    ({"level": "sideways"}, "not 'sideways'"), ({"seed": -1}, "The seed is -1"), ({"seed": "x"}, "without what it needs"),
])  # fmt: skip
def test_a_wrong_wish_is_one_line(studio: Studio, base: Path, change: dict[str, Any], words: str) -> None:
    assert words in start(studio, base, **change)["error"]


def test_the_command_line_draws_it_too(own_home: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(own_home)
    teach.rate(store, 12)
    assert cli.main(["train", "--curve", "--base", str(base), "--json"]) == 0
    few = json.loads(capsys.readouterr().out)
    assert few["points"] == []
    assert "Too little to draw a curve: 10 dialogues to learn from (it takes 16)" in few["verdict"]["text"]
    assert learning.kept(own_home) is None
    teach.rate(store, 60)
    store.close()
    assert cli.main(["train", "--curve", "--base", str(base)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 7
    assert said[5] == "Labels: 216 labels, all usable."
    assert [re.match(r" +\d+ ratings of \d+ dialogues: [01]\.\d{3}, 95 % interval [01]\.\d{3} to [01]\.\d{3}", line) is not None
            for line in said[:4]] == [True] * 4  # fmt: skip
    assert "a coin is right in 0.500, the longer reply in " in said[4]
    kept = learning.kept(own_home)
    assert kept
    assert said[6] == kept["verdict"]["text"]


def test_a_judge_or_a_curve_but_not_both_or_neither(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["train"], ["train", "--name", "x", "--curve"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "one of the arguments --name --check --curve is required" in said
    assert "argument --curve: not allowed with argument --name" in said


def test_a_curve_that_was_cut_short_is_no_curve(studio: Studio) -> None:
    path = studio.store.home / "judges" / learning.CURVE
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", "{}", '{"points": []}'):
        path.write_text(text)
        assert screen(studio)["curve"] is None
