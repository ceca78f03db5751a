"""What training survives: kills, Ctrl+C, a full disk, divergence, damaged files; and what it refuses, in one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from tqdm import tqdm  # noqa: E402

from judge import files, runs  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.model import LoraSettings  # noqa: E402
from judge.rubric import JudgeError  # noqa: E402
from judge.runs import COMPLETE, last_whole  # noqa: E402
from judge.trainer import WEIGHTS  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402
from tests.conftest import wait  # noqa: E402
from tests.test_training import QUICK, apart, base, dealt, quick, taught  # noqa: E402, F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
ROOT = Path(__file__).resolve().parents[1]
RANDOM: dict[str, Any] = {
    "lora": LoraSettings(rank=4, alpha=8, dropout=0.1)
}  # dropout: the random numbers have to go on too
PROCESSES = multiprocessing.get_context("forkserver")  # torch is read once for all of them
PROCESSES.set_forkserver_preload(["tests.test_training_faults", "peft", "transformers.trainer"])


def work(home: Path, base: Path, pace: float, full_at: int | None) -> None:  # noqa: F811
    """In a process of its own: train the usual judge, and write what came of it. ``full_at``: the disk is full from that
    step on (-1: from the end of the training)."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own one is a semaphore that would outlive a kill
    sys.stderr = (home / "stderr").open("w")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    lines = (home / "lines").open("w", buffering=1)

    def progress(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=lines)
        time.sleep(pace)
        step, summary = line.get("step", 0), line.get("stage") == "train" and not {"loss", "eval_loss"} & line.keys()
        if full_at is not None and (summary if full_at == -1 else step >= full_at):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))

    try:
        made = quick(taught(40), home, base, progress=progress, **RANDOM)
        told = {"outcome": "trained" if made.folder else "interrupted", "step": made.step}
    except JudgeError as error:
        told = {"outcome": "refused", "line": str(error)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    (home / "outcome").write_text(json.dumps(told))


def begin(home: Path, base: Path, pace: float = 0.0, full_at: int | None = None) -> Any:  # noqa: F811
    home.mkdir(exist_ok=True)
    for name in ("lines", "outcome"):
        (home / name).unlink(missing_ok=True)
    process = PROCESSES.Process(target=work, args=(home, base, pace, full_at))
    process.start()
    return process


def steps(home: Path) -> list[int]:
    """The steps that the last process told of."""
    told = (home / "lines").read_text().splitlines() if (home / "lines").exists() else []
    return [line["step"] for line in map(json.loads, told[:-1]) if "loss" in line]


def ended(process: Any, home: Path) -> dict[str, Any]:
    process.join(240)
    assert process.exitcode == 0, (home / "stderr").read_text()
    told: dict[str, Any] = json.loads((home / "outcome").read_text())
    return told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:  # noqa: F811
    home = tmp_path_factory.mktemp("undisturbed")
    assert ended(begin(home, base), home) == {"outcome": "trained", "step": 20}
    return home / "judges" / "a"


def finish(home: Path, base: Path, undisturbed: Path) -> None:  # noqa: F811
    """Call once more: the same judge, and nothing left over."""
    assert ended(begin(home, base), home) == {"outcome": "trained", "step": 20}
    assert apart(home / "judges" / "a", undisturbed) < 1e-6
    assert [p.name for p in (home / "judges").iterdir() if p.suffix != ".lock"] == ["a"]


def test_killed_again_and_again_it_ends_the_same(tmp_path: Path, base: Path, undisturbed: Path) -> None:  # noqa: F811
    run, rng = tmp_path / "judges" / ".a.run", random.Random(4)
    for after in (2, 3, 4, 3):  # told lines, from where it went on
        process = begin(tmp_path, base, pace=0.02)
        wait(lambda n=after: len(steps(tmp_path)) >= n, 120, "some steps")
        time.sleep(rng.random() / 20)
        process.kill()
        process.join()
        assert not (tmp_path / "judges" / "a").exists()
    for delay in (0.0, 0.001, 0.004):
        was = {p.name for p in run.glob("checkpoint-*")}
        process = begin(tmp_path, base)
        while process.is_alive() and {p.name for p in run.glob("checkpoint-*")} <= was:
            pass
        time.sleep(delay)
        process.kill()
        process.join()
        if (tmp_path / "judges" / "a").exists():
            files.load_judge(tmp_path / "judges" / "a", tmp_path)
            shutil.rmtree(tmp_path / "judges" / "a")
    finish(tmp_path, base, undisturbed)


def test_incomplete_checkpoint_is_not_used(tmp_path: Path, base: Path, undisturbed: Path) -> None:  # noqa: F811
    process = begin(tmp_path, base, pace=0.02)
    wait(lambda: len(steps(tmp_path)) >= 7, 120, "some checkpoints")
    process.kill()
    process.join()
    whole = last_whole(tmp_path / "judges" / ".a.run")
    assert whole is not None
    cut = shutil.copytree(whole, whole.with_name("checkpoint-18"))
    (cut / COMPLETE).unlink()
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:1000])
    assert last_whole(whole.parent) == whole
    finish(tmp_path, base, undisturbed)


def test_interrupt_stops_after_the_step_and_goes_on(tmp_path: Path, base: Path, undisturbed: Path) -> None:  # noqa: F811
    process = begin(tmp_path, base, pace=0.05)
    wait(lambda: len(steps(tmp_path)) >= 5, 120, "some steps")
    os.kill(process.pid, signal.SIGINT)
    told = ended(process, tmp_path)
    assert told["outcome"] == "interrupted"
    assert 5 <= told["step"] < 20
    whole = last_whole(tmp_path / "judges" / ".a.run")
    assert whole is not None
    assert whole.name == f"checkpoint-{told['step']}"
    finish(tmp_path, base, undisturbed)
    assert steps(tmp_path)[0] == told["step"] + 1


@pytest.mark.parametrize(("full_at", "kept"), [(5, 4), (-1, 20)])
def test_full_disk_loses_nothing(tmp_path: Path, base: Path, undisturbed: Path, full_at: int, kept: int) -> None:  # noqa: F811
    told = ended(begin(tmp_path, base, full_at=full_at), tmp_path)
    assert told["outcome"] == "refused"
    assert told["line"].startswith("Cannot save")
    assert "Free some space" in told["line"]
    assert "\n" not in told["line"]
    assert not (tmp_path / "judges" / "a").exists()
    whole = last_whole(tmp_path / "judges" / ".a.run")
    assert whole is not None
    assert whole.name == f"checkpoint-{kept}"
    finish(tmp_path, base, undisturbed)


LAUNCHED = """
import os, pickle, psutil, sys, torch
torch.set_num_threads(1)
assert os.environ["WORLD_SIZE"] == "2"
machine = psutil.virtual_memory
if os.environ["RANK"] == os.environ["SHORT_OF_MEMORY"]:
    psutil.virtual_memory = lambda: machine()._replace(available=100 * 2**20)
from judge.training import train
job = pickle.load(open(sys.argv[1], "rb"))
if os.environ["RANK"] == "1":  # it read the labels before some of them were given
    del job["examples"][:3]
made = train(**job)
assert made.folder is not None
"""


def two_processes(home: Path, base: Path, examples: list[Example], short: str = "", **settings: Any) -> dict[str, Any]:  # noqa: F811
    """The card of the judge 'two' that two processes trained; the machine of the process ``short`` has little memory."""
    job = {"examples": examples, "name": "two", "judges": home / "judges", "cache": home / "cache",
           "settings": replace(QUICK, base=str(base), **settings), "parts": dealt(examples, 4)}  # fmt: skip
    (home / "job").write_bytes(pickle.dumps(job))
    (home / "script.py").write_text(LAUNCHED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(home / "script.py"), str(home / "job")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SHORT_OF_MEMORY": short},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return files.read_card(home / "judges" / "two")


def test_two_processes_equal_one(tmp_path: Path, base: Path) -> None:  # noqa: F811
    examples = taught(20)
    even: dict[str, Any] = {"batch_tokens": 340, "epochs": 2}  # a step of two sequences: one each
    one = quick(examples, tmp_path, base, "one", 4, **even)
    two = two_processes(tmp_path, base, examples, **even)
    assert one.folder is not None
    assert apart(one.folder, tmp_path / "judges" / "two") < 1e-5
    assert two["steps"] == one.step
    assert sorted(p.name for p in (tmp_path / "judges").glob("[!.]*")) == ["one", "two"]


@pytest.mark.parametrize("short", ["0", "1"])
def test_two_processes_choose_the_same_sizes_whatever_memory_each_sees(tmp_path: Path, base: Path, short: str) -> None:  # noqa: F811
    examples = taught(20)
    long = [replace(n, parts=[Part("text", "word " * 150)]) if n.id == "bad" else n for n in examples[0].tree.walk()]
    examples[0] = replace(examples[0], tree=Tree("t000", nodes=long))
    card = two_processes(tmp_path, base, examples, short, epochs=1, max_path=None, max_tokens=None)
    assert card["settings"]["max_path"] == 512  # the least: what the process with little memory can hold
    assert card["data"]["labels"]["left_out"] == 1


def refused(match: str, *args: Any, **more: Any) -> None:
    """Training says no in one line that names the next step."""
    with pytest.raises(JudgeError, match=match) as raised:
        quick(*args, **more)
    assert "\n" not in str(raised.value)


def test_refuses_too_little(tmp_path: Path, base: Path) -> None:  # noqa: F811
    bare = [replace(e, comparisons=[]) for e in taught(3)]
    ties = [replace(e, comparisons=[replace(c, outcome="tie") for c in e.comparisons]) for e in taught(3)]
    same = [replace(e, comparisons=[], scores=[Score("good", "L1", 2), Score("bad", "L1", 2)]) for e in taught(3)]
    refused("nothing to learn from.*Rate some replies", bare, tmp_path, base)
    refused("One label that says what is better is too little.*Rate more", taught(1), tmp_path, base, validation=0)
    for alike in (ties, same):
        refused("all alike.*Rate replies that differ", alike, tmp_path, base, validation=0)
    assert not (tmp_path / "judges").exists()


def test_refuses_names_and_settings(tmp_path: Path, base: Path) -> None:  # noqa: F811
    few = taught(6)
    for name in ("../x", "", ".hidden", "a/b", "x" * 65):
        refused("cannot be called.*use up to 64 letters", few, tmp_path, base, name)
    refused("not 'every'", few, tmp_path, base, level="every")
    refused("There is no backbone.*Give 'builtin', a folder", few, tmp_path, tmp_path / "nowhere", "b", 0)
    made = quick(few, tmp_path, base, "b", 0, epochs=1)  # the name is still free
    refused("There is a judge 'b' already.*another name", few, tmp_path, base, "b")
    assert made.folder is not None
    odd = replace(few[0], scores=[Score("good", "L1", 7)])
    lost = replace(few[1], comparisons=[Comparison("good", "gone", "L1", "local", "left")])
    labels = quick([odd, lost, *few[2:]], tmp_path, base, "c", 0, epochs=1).card["data"]["labels"]
    assert (labels["total"], labels["used"], labels["left_out"]) == (7, 5, 2)
    assert {r["reason"] for r in labels["reasons"]} == {
        "a score off the scale of L1",
        "a reply that is not in its tree",
    }


def test_refuses_to_mix_an_unfinished_run(tmp_path: Path, base: Path) -> None:  # noqa: F811
    stop = threading.Event()
    stop.set()
    assert quick(taught(6), tmp_path, base, validation=0, stop=stop).step == 1
    refused(r"other settings \(seed\). Choose another name, or begin again", taught(6), tmp_path, base, "a", 0, seed=5)
    lines: list[dict[str, Any]] = []
    made = quick(taught(7), tmp_path, base, validation=0, progress=lines.append)  # rated since: not thrown away for it
    assert next(line["step"] for line in lines if "step" in line) == 2
    assert made.folder is not None
    assert made.card["data"]["trees"]["train"] == 6
    assert quick(taught(6), tmp_path, base, "b", validation=0, stop=stop).step == 1
    again = quick(taught(7), tmp_path, base, "b", validation=0, progress=lines.append, begin_again=True)
    assert again.card["data"]["trees"]["train"] == 7


def test_one_training_of_a_name_at_a_time(tmp_path: Path, base: Path) -> None:  # noqa: F811
    with runs.claim(tmp_path / "judges", "a"):
        refused("Another training of 'a' is running. Wait", taught(6), tmp_path, base, "a", 0)
        assert quick(taught(6), tmp_path, base, "b", validation=0, epochs=1).folder is not None


def test_a_moved_home_finds_its_best_checkpoint(tmp_path: Path, base: Path) -> None:  # noqa: F811
    stop, reached = threading.Event(), [0]

    def a_few_steps(line: dict[str, Any]) -> None:
        reached.append(line.get("step", 0))
        if reached[-1] >= 6:
            stop.set()

    home = tmp_path / "old"
    common: dict[str, Any] = {"evals_per_epoch": 20, "learning_rate": 3e-2}
    quick(taught(20), home, base, "a", 4, stop=stop, progress=a_few_steps, **common)
    shutil.move(home, tmp_path / "new")
    run = tmp_path / "new" / "judges" / ".a.run"
    runs.ask_to_keep(tmp_path / "new" / "judges", "a")
    made = quick(taught(20), tmp_path / "new", base, "a", 4, **common)
    assert made.folder is not None
    assert made.ended == "stopped, best kept"
    assert 0 < made.card["best_step"] <= max(reached) < 4 * 20  # one that was written before the move
    assert not run.exists()


def test_divergence_is_told_and_never_saved(tmp_path: Path, base: Path) -> None:  # noqa: F811
    wild: dict[str, Any] = {"learning_rate": 1e30, "head_learning_rate": 1e30, "warmup": 0.0}
    refused("diverged.*Lower the learning rate", taught(20), tmp_path, base, "a", 4, **wild)
    refused("diverged.*Lower the learning rate", taught(6), tmp_path, base, "b", 0, **wild)
    assert not list((tmp_path / "judges").glob("[!.]*"))
    for name in ("a", "b"):
        whole = last_whole(tmp_path / "judges" / f".{name}.run")
        assert whole is None or all(v.isfinite().all() for v in files.load_file(whole / WEIGHTS).values())


def test_lost_picture_is_read_as_its_caption(tmp_path: Path) -> None:
    seeing = tiny.qwen(tmp_path, hidden=48, layers=1)
    asked = Node("q", "t", None, 0, "user", [Part("text", "What is it?"), Part("image", "", "f" * 64, "an owl")])
    said = [Node(n, "t", "q", i, "assistant", [Part("text", n)]) for i, n in enumerate(("owl", "cat"))]
    labels = [Comparison("owl", "cat", d, "local", "left") for d in ("L1", "L2")]
    made = quick([Example(Tree("t", nodes=[asked, *said]), comparisons=labels)], tmp_path, seeing, validation=0)
    assert made.folder is not None
    assert made.card["sees_images"]


def test_damage_and_changed_backbones_are_told(tmp_path: Path, base: Path) -> None:  # noqa: F811
    from transformers import LlamaModel

    own = Path(shutil.copytree(base, tmp_path / "base"))
    made = quick(taught(6), tmp_path, own, validation=0, epochs=1)
    assert made.folder is not None
    tensors = made.folder / files.TENSORS
    kept = tensors.read_bytes()
    for damaged in (kept[: len(kept) // 2], b"", b"\xff" * 100):
        tensors.write_bytes(damaged)
        with pytest.raises(JudgeError, match=r"Cannot read the weights.*Train again"):
            files.load_judge(made.folder, tmp_path)
    tensors.write_bytes(kept)
    files.load_judge(made.folder, tmp_path)
    model = LlamaModel.from_pretrained(own)
    with torch.no_grad():
        model.norm.weight.add_(0.1)
    model.save_pretrained(own)
    with pytest.raises(JudgeError, match=r"is not the one that judge 'a' was trained on. Give the old one back"):
        files.load_judge(made.folder, tmp_path)
