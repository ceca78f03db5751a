"""Training as a job: a process of its own that outlives the studio, is stopped, killed, goes on; and judges in the list."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from judge import files
from studio import StudioError, api, jobs, judgescreen
from studio.actions import Studio
from tests import teach
from tests.conftest import wait

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_jobs_left")]

LONG = 40.0  # epochs: some hundred steps, so that there is a middle to stop in


def train(studio: Studio, base: Path | str, name: str = "first", epochs: float = 2.0) -> str:
    """Begin a job through the page's door; returns its id."""
    data = {"name": name, "base": str(base), "level": "local", "epochs": epochs, "rank": 4, "rate": 1e-4, "seed": 0}
    answer = api.handle(studio, "judge_train", data)
    assert "error" not in answer, answer
    assert answer["jobs"][0]["status"] == "running"
    return str(answer["jobs"][0]["id"])


def now(studio: Studio, job: str) -> dict[str, Any]:
    return next(j for j in judgescreen.state(studio)["jobs"] if j["id"] == job)


def ended(studio: Studio, job: str) -> dict[str, Any]:
    return wait(lambda: (j := now(studio, job))["status"] != "running" and j, 180, "the end of the job")


def at_step(studio: Studio, job: str, step: int) -> None:
    def there() -> bool:
        found = now(studio, job)
        assert found["status"] == "running", found
        return (found["step"] or 0) >= step

    wait(there, 180, f"step {step}")


def line(studio: Studio, name: str, data: Any) -> str:
    """The one line that a call is answered with."""
    answer = api.handle(studio, name, data)
    assert set(answer) == {"error"}, answer
    assert "\n" not in answer["error"]
    return str(answer["error"])


def test_a_job_outlives_the_studio_and_ends_as_a_judge(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    state = judgescreen.state(studio)
    assert any("below 50" in w for w in state["data"]["warnings"])
    job = train(studio, base)
    assert judgescreen.state(studio)["suggested"] != "first"
    assert "still running" in line(studio, "judge_train", {"name": "second", "base": str(base), "level": "both", "epochs": 1,
                                                           "rank": 0, "rate": 0.001, "seed": 0})  # fmt: skip
    assert [j["name"] for j in judgescreen.state(studio)["jobs"]] == ["first"]
    forgotten = jobs.STARTED.pop(job)  # as a studio that is closed forgets it
    config = studio.config
    studio.close()
    again = Studio.open(config)
    try:
        assert now(again, job)["status"] == "running"
        assert "still running" in line(again, "judge_go_on", {"job": job})
        done = ended(again, job)
        assert (done["status"], done["progress"], done["error"]) == ("done", 1.0, None)
        losses = [p for p in done["curve"] if "loss" in p]
        assert len(losses) >= 10
        assert any("eval_loss" in p for p in done["curve"])
        assert [p["step"] for p in done["curve"]] == sorted(p["step"] for p in done["curve"])
        (judge,) = judgescreen.state(again)["judges"]
        assert (judge["name"], judge["level"], judge["rank"], judge["live"]) == ("first", "local", 4, False)
        assert judge["pairs"]["n"] == 8
        (row,) = again.store.judges()
        assert row["metrics"]["trained"]["L4"] == 56
        assert "There is a judge 'first' already" in line(again, "judge_train", {"name": "first", "base": str(base), "level": "both",
                                                                               "epochs": 1, "rank": 0, "rate": 0.001, "seed": 0})  # fmt: skip
    finally:
        forgotten.wait(60)
        again.close()


def test_killed_stopped_and_gone_on_with(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    job = train(studio, base, epochs=LONG)
    at_step(studio, job, 20)  # by then a checkpoint is whole
    (row,) = studio.store.jobs()
    os.kill(row["pid"], signal.SIGKILL)
    failed = ended(studio, job)
    assert failed["status"] == "failed"
    assert "Resume: it goes on from what it last kept." in failed["error"]
    assert "\n" not in failed["error"]

    api.handle(studio, "judge_go_on", {"job": job})
    at_step(studio, job, failed["step"] + 3)
    assert "error" not in api.handle(studio, "judge_stop", {"job": job})
    stopped = ended(studio, job)
    assert (stopped["status"], stopped["error"]) == ("stopped", None)
    at = int(re.fullmatch(r"Paused after step (\d+)\.", stopped["message"])[1])
    assert at >= stopped["step"] > failed["step"]
    assert not studio.store.judges()

    api.handle(studio, "judge_go_on", {"job": job})
    done = ended(studio, job)
    assert (done["status"], done["message"]) == ("done", None), done
    steps = [p["step"] for p in jobs.refresh(studio.store)[0]["lines"] if "loss" in p]
    assert len(steps) == len(set(steps))  # what was done again counts once
    assert set(range(1, steps[-1] + 1)) - set(steps) <= {at}  # the step of the stop is not told
    assert [j["name"] for j in judgescreen.state(studio)["judges"]] == ["first"]
    assert "is done" in line(studio, "judge_go_on", {"job": job})


@pytest.mark.parametrize("first", ["running", "paused", "killed"])
def test_stop_and_keep_the_best(studio: Studio, base: Path, first: str) -> None:
    teach.rate(studio.store)
    job = train(studio, base, epochs=LONG)
    at_step(studio, job, 20)
    if first == "paused":
        api.handle(studio, "judge_stop", {"job": job})
    elif first == "killed":
        os.kill(studio.store.jobs()[0]["pid"], signal.SIGKILL)
    if first != "running":
        ended(studio, job)
        node = next(r["node_id"] for r in studio.store.rows("SELECT node_id FROM current_scores LIMIT 1"))
        studio.store.rate(node, "L4", 1, "later")  # rated since: the judge is made of what it learned from all the same
    assert "error" not in api.handle(studio, "judge_keep", {"job": job})
    assert ended(studio, job)["status"] == "done"
    [judge] = judgescreen.state(studio)["judges"]
    card = files.read_card(studio.store.home / "judges" / judge["name"])
    assert card["cut_short"]
    held = [e["eval_loss"] for e in card["log"] if "eval_loss" in e]
    assert card["best"] == pytest.approx(min(held))  # of those until it was ended
    assert not list((studio.store.home / "judges").glob(".*run"))


def test_nothing_to_keep_yet(studio: Studio) -> None:
    assert "kept nothing yet" in line(studio, "judge_keep", {"job": "none"})


def test_an_estimate_before_it_starts(studio: Studio, base: Path) -> None:
    asked = {"base": str(base), "level": "local", "epochs": 2}
    assert "nothing of this level" in api.handle(studio, "judge_estimate", asked)["says"]
    teach.rate(studio.store)
    guessed = api.handle(studio, "judge_estimate", asked)
    assert guessed["minutes"]
    assert "a guess" in guessed["says"]
    ended(studio, train(studio, base))
    measured = api.handle(studio, "judge_estimate", asked)
    assert "as the last training of this backbone went" in measured["says"]
    read = [p["tokens_per_s"] for p in jobs.refresh(studio.store)[0]["lines"] if "loss" in p][-1]
    low, high = measured["minutes"]
    assert low < measured["tokens"] * 2 / read / 60 < high
    unknown = api.handle(studio, "judge_estimate", asked | {"base": "some/model"})
    assert unknown["minutes"] is None
    assert "once the backbone is here" in unknown["says"]
    assert "The epochs is 0" in line(studio, "judge_estimate", asked | {"epochs": 0})


def test_stopped_before_the_first_step_is_stopped(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    job = train(studio, base)
    api.handle(studio, "judge_stop", {"job": job})
    assert now(studio, job)["message"]
    stopped = ended(studio, job)
    assert (stopped["status"], stopped["error"]) == ("stopped", None)


def test_a_base_that_is_not_there_is_the_line_of_the_command(studio: Studio) -> None:
    teach.rate(studio.store)
    failed = ended(studio, train(studio, "/no/such/folder"))
    assert failed["status"] == "failed"
    assert failed["error"].startswith("There is no backbone '/no/such/folder'.")


def test_trained_but_killed_before_its_test_goes_on_there(studio: Studio, base: Path) -> None:
    teach.rate(studio.store)
    folder = teach.untrained(studio.store, "other", str(base), {"L4": 60})
    os.replace(folder, folder.with_name("first"))  # whole on the disk, not in the list
    card = (folder.with_name("first") / "card.json").read_text(encoding="utf-8")
    assert '"steps"' not in card
    (folder.with_name("first") / "card.json").write_text(
        card.replace('"name": "other"', '"name": "first", "steps": 7, "data_hash": "none", "split": {"train": [], "validation": [], "test": [], "seed": 0}'),
        encoding="utf-8",
    )  # fmt: skip
    job = studio.store.add_job("train", {"name": "first", "arguments": ["train", "--name", "first", f"--base={base}"]})
    studio.store.update_job(job, status="failed", error="killed")
    jobs.go_on(studio.store, job)
    assert ended(studio, job)["status"] == "done"
    first = next(j for j in studio.store.judges() if j["name"] == "first")
    assert first["metrics"]["trained"] == {"L4": 60}


def test_another_process_with_the_same_number_is_not_the_job(studio: Studio) -> None:
    job = studio.store.add_job("train", {"name": "old", "arguments": []})
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=os.environ | {"INTERMT_STUDIO_JOB": f"{job}0"}
    )
    with other:
        studio.store.update_job(job, pid=other.pid)
        api.handle(studio, "judge_stop", {"job": job})
        assert now(studio, job)["status"] == "failed"
        assert other.poll() is None  # nor was it stopped
        other.communicate(b"\n")
    assert other.returncode == 0


def test_who_watches_never_sees_a_job_die_that_has_only_begun(studio: Studio) -> None:
    seen, over = [], threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.extend(j["status"] for j in jobs.refresh(studio.store))

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for w in watchers:
        w.start()
    for _ in range(3):
        job = jobs.start(studio.store, "doctor", ["doctor"], {})
        wait(lambda j=job: next(r for r in studio.store.jobs() if r["id"] == j)["status"] != "running", 60)
    over.set()
    for w in watchers:
        w.join()
    assert set(seen) == {"running", "done"}


def test_judges_are_removed_brought_back_and_chosen(studio: Studio, base: Path) -> None:
    folder = teach.untrained(studio.store, "one", str(base), {"L4": 60})
    api.handle(studio, "judge_promote", {"judge": "one"})
    assert judgescreen.state(studio)["live"] == "one"
    answer = api.handle(studio, "judge_remove", {"judge": "one"})
    assert (answer["judges"], answer["live"]) == ([], None)
    assert not folder.exists()
    assert "There is no judge 'one'" in line(studio, "judge_promote", {"judge": "one"})  # its folder is away
    assert "Judges never change" in line(studio, "judge_train", {"name": "one", "base": "", "level": "both", "epochs": 1, "rank": 0, "rate": 0.1, "seed": 0})  # fmt: skip
    undo = answer["undo"]
    assert api.handle(studio, "undo", {"act": undo["act"], "args": undo["args"]}) == {"saved": True}
    assert [j["name"] for j in judgescreen.state(studio)["judges"]] == ["one"]
    assert "cannot be brought back" in line(studio, "undo", {"act": undo["act"], "args": undo["args"]})
    assert "There is no judge 'nobody'" in line(studio, "judge_promote", {"judge": "nobody"})


def test_a_judge_that_came_back_by_hand_is_removed_again(studio: Studio, base: Path, tmp_path: Path) -> None:
    folder = teach.untrained(studio.store, "one", str(base), {"L4": 60})
    shutil.copytree(folder, tmp_path / "copy")
    assert "error" not in api.handle(studio, "judge_remove", {"judge": "one"})
    shutil.move(tmp_path / "copy", folder)
    (folder / "second").touch()
    answer = api.handle(studio, "judge_remove", {"judge": "one"})
    assert answer["judges"] == []
    assert len(list((folder.parent / judgescreen.TRASH).iterdir())) == 2  # the first one is still there
    undo = answer["undo"]
    assert api.handle(studio, "undo", {"act": undo["act"], "args": undo["args"]}) == {"saved": True}
    assert (folder / "second").exists()


GOOD = {"name": "x", "base": "", "level": "both", "epochs": 1, "rank": 0, "rate": 0.1, "seed": 0}
BAD = [
    ("judge_train", {}, "without what it needs"),
    *[("judge_train", GOOD | {k: v}, said) for k, v, said in (
        ("name", "../x", "cannot be called '../x'"), ("name", "", "cannot be called"), ("name", "x" * 65, "cannot be called"),
        ("epochs", 0, "The epochs is 0; choose a number, 0.01 to 100."), ("epochs", "many", "The epochs is 'many'"), ("rank", 1000, "The LoRA rank is 1000"),
        ("rate", 2, "The learning rate is 2;"), ("seed", -1, "The seed is -1"), ("level", ["local"], "choose one of both, local, global"),
        ("rank", 1.5, "choose a whole number, 0 to 256"), ("epochs", float("nan"), "The epochs is nan"))],
    ("judge_stop", {"job": "nothing"}, "There is no job 'nothing'"),
    ("judge_go_on", {"job": 7}, "There is no job '7'"),
    ("judge_go_on", [], "without what it needs"),
    ("judge_promote", {}, "without what it needs"),
    ("judge_promote", {"judge": ["x"]}, "without what it needs"),
    ("judge_promote", {"judge": 5}, "without what it needs"),
    ("judge_remove", {"judge": "../media"}, "There is no judge '../media'"),
    ("judge_remove", {"judge": ""}, "There is no judge ''"),
    ("judge_find", {"tree": "nowhere", "what": "best"}, "No judge has scored this dialogue"),
    ("judge_find", {"tree": "nowhere", "what": "everything"}, "it can find"),
    ("undo", {"act": "judge_back", "args": {"judge": "../../x"}}, "There is no judge '../../x'"),
    ("undo", {"act": "judge_back", "args": {}}, "without what it needs"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "said"), BAD, ids=[f"{name}-{i}" for name, i in zip((b[0] for b in BAD), itertools.count())]
)
def test_what_a_page_sends_is_checked(studio: Studio, name: str, data: Any, said: str) -> None:
    before = sorted(p.name for p in studio.store.home.iterdir())
    assert said in line(studio, name, data)
    assert sorted(p.name for p in studio.store.home.iterdir() if p.name != "judges") == before


def test_no_room_for_the_process_is_one_line(studio: Studio) -> None:
    (studio.store.home / "jobs").write_text("in the way", encoding="utf-8")
    with pytest.raises(StudioError, match="cannot be started"):
        jobs.start(studio.store, "doctor", ["doctor"], {})
    assert jobs.refresh(studio.store)[0]["status"] == "failed"
