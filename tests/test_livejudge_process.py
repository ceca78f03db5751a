"""Around the live judge: whom it may be, its own process that may die, older dialogues, and scores that went stale."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from judge import scoring_client
from studio import StudioError, actions, views
from studio.actions import Studio
from studio.livejudge import LiveJudge
from studio.livereader import RESTARTED
from studio.store import now
from studio.store.judges import JudgeScore
from tests.conftest import how, plant, settle, wait
from tests.test_livejudge import LOADS_S, asleep, branchy, judged, looked_at, opened  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def test_no_such_judge_and_no_other_persons_can_be_chosen(asleep: Studio) -> None:  # noqa: F811
    with pytest.raises(StudioError, match="There is no judge 'nobody'"):
        asleep.judge.promote("nobody")
    shutil.rmtree(asleep.store.home / "judges" / "two")
    with pytest.raises(StudioError, match="There is no judge 'two'"):
        asleep.judge.promote("two")
    asleep.store.add_judge("judge-1 (ann)", "base", {}, "hash", {}, "")
    with pytest.raises(StudioError, match=r"'judge-1 \(ann\)' is another person's judge"):
        asleep.judge.promote("judge-1 (ann)")
    assert asleep.judge.name == "one"
    asleep.judge.choice.file.write_text("judge-1 (ann)", encoding="utf-8")  # whatever wrote it there
    assert asleep.judge.name is None


def test_a_process_that_dies_is_started_again_and_scores_go_on(judged: Studio, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    process = judged.judge.process
    assert process
    assert process.pid
    restarts, old = process.restarts, process.pid
    os.kill(old, signal.SIGKILL)
    tree = branchy(judged, 1)
    looked_at(judged, tree)
    assert len(judged.store.judge_scores(tree, "one")) == 2
    assert (process.restarts, judged.judge.process) == (restarts + 1, process)
    assert process.pid != old
    wait(lambda: RESTARTED in judged.judge.state["text"], 30, "the note")

    monkeypatch.setattr(scoring_client, "RESTARTS", 1)  # and again within the minute: it is left alone
    os.kill(process.pid, signal.SIGKILL)
    views.opened(judged, branchy(judged, 1))
    note = wait(lambda: judged.judge.state["state"] == "failed" and judged.judge.note, 60, "the note")
    assert "ended 2 times within a minute" in note
    assert "off and on again" in note
    views.opened(judged, tree)
    assert judged.judge.process is None
    judged.judge.promote("one")
    looked_at(judged, branchy(judged, 1))


def test_older_dialogues_are_scored_in_the_background_and_that_goes_on_after_a_restart(asleep: Studio) -> None:  # noqa: F811
    asleep.judge.look()
    assert asleep.judge.state["state"] == "loading"
    assert "Loading the judge one" in asleep.judge.state["text"]
    (reply,) = actions.ask(asleep, [], "It ends before the judge is there", [], how())
    settle(asleep)
    assert asleep.judge.process is None  # the judge is still loading
    trees = [asleep.store.node(reply).tree_id, *(branchy(asleep, 4) for _ in range(40))]

    def scored() -> list[dict[str, Any]]:
        return asleep.store.rows("SELECT * FROM judge_scores ORDER BY judge, node_id, dimension")

    wait(scored, LOADS_S, "the first scores")
    state = wait(lambda: (s := asleep.judge.state)["state"] == "scoring backlog" and s, 10, "what it is doing")
    assert state["progress"]["of"] >= 200
    assert "older replies" in state["text"]
    asleep.judge.close()
    early = scored()
    assert 0 < len(early) < 2 * 201
    assert not [t for t in threading.enumerate() if t is asleep.judge._thread]
    asleep.judge.look(trees[0])
    assert not asleep.judge._thread.is_alive()  # closed is closed

    asleep.judge = LiveJudge(asleep.store, asleep.media, asleep.live)
    asleep.judge.look()
    wait(lambda: len(scored()) == 2 * 201, LOADS_S, "all scores")
    kept = {(r["node_id"], r["dimension"]): r for r in scored()}
    assert all(kept[r["node_id"], r["dimension"]] == r for r in early)  # none was scored twice
    assert set(asleep.store.judge_scores(trees[0], "one")) == {reply}


def test_what_changes_while_the_judge_reads_stays_stale(studio: Studio) -> None:
    first, above, asked, below = plant(studio, "Q", "R", "And?", "Below")
    tree = studio.store.node(first).tree_id
    studio.store.add_judge("one", "base", {}, "hash", {}, "")
    told = [(n, "L4", 1.0) for n in (above, below)]
    studio.store.save_judge_scores("one", told)
    read_at = now()
    time.sleep(0.002)
    studio.store.mark_stale(asked)
    assert studio.store.unjudged(tree, "one") == [below]
    studio.store.save_judge_scores("one", told, read_at)  # it had read what stood there before
    assert studio.store.unjudged(tree, "one") == [below]
    time.sleep(0.002)
    studio.store.save_judge_scores("one", told, now())
    assert studio.store.unjudged(tree, "one") == []


def test_scores_of_earlier_versions_are_read(studio: Studio) -> None:
    asked, reply = plant(studio, "Q", "R")
    studio.store.add_judge("one", "base", {}, "hash", {"trained": {"L4": 60}}, "")
    studio.store.save_judge_scores("one", [(reply, "L4", 1.5, 0.2)])
    assert studio.store.rows("SELECT logit, heads, stale_at FROM judge_scores") == [
        {"logit": None, "heads": None, "stale_at": None}
    ]
    tree = studio.store.node(asked).tree_id
    assert studio.store.judge_scores(tree, "one") == {reply: {"L4": JudgeScore(1.5, 0.2, None, (), False)}}
    assert studio.store.unjudged(tree, "one") == []


WORK = """
import sys, time
from pathlib import Path
from studio import views
from studio.actions import Studio
from studio.config import load
studio = Studio.open(load(Path(sys.argv[1])))
views.opened(studio, sys.argv[2])
assert studio.judge.settle(180), studio.judge.note
assert studio.store.judge_scores(sys.argv[2], "one")
heavy = sorted({"torch", "transformers", "peft", "safetensors"} & set(sys.modules))
print(heavy, studio.judge.process.memory().threads, studio.judge.process.pid, flush=True)
time.sleep(600)
"""


def test_the_process_computes_alone_and_goes_with_the_studio_that_is_killed(asleep: Studio) -> None:  # noqa: F811
    tree, home = branchy(asleep), asleep.store.home
    command = [sys.executable, "-c", WORK, str(home), tree]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as studio:
        assert studio.stdout
        line = studio.stdout.readline()
        studio.kill()
        assert line, studio.stderr and studio.stderr.read()
    heavy, threads, child = line.rsplit(" ", 2)
    assert heavy == "[]"  # so torch's threads cannot be set in the studio's process
    assert int(threads) == 1
    wait(lambda: gone(int(child)), 10, "the end of the scoring process")


def gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody waited for counts as well)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


LOOK = """
import sys
from pathlib import Path
from studio import judgescreen, views
from studio.actions import Studio
from studio.config import load
studio = Studio.open(load(Path(sys.argv[1])))
view = views.opened(studio, sys.argv[2])
assert len(view["shared"]) == 4
judgescreen.state(studio)
studio.close()
print(sorted({"torch", "transformers", "peft", "safetensors"} & set(sys.modules)))
"""


def test_nothing_heavy_is_loaded_while_no_judge_is_live(asleep: Studio) -> None:  # noqa: F811
    tree = branchy(asleep)
    asleep.judge.choice.choose(None)
    done = subprocess.run([sys.executable, "-c", LOOK, str(asleep.store.home), tree], capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
