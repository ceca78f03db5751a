"""A session of judging with others about: a real Datasette reads all the time, the studio is killed in mid-work, two tabs rate one reply.

Nothing that was acknowledged is lost, nobody is shown a lock error, and Datasette shows the labelled tables and views.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio import annotating, api
from studio.actions import Studio
from studio.config import Config
from studio.tree import Part
from tests.conftest import plant, wait

SCORES, KILLS = 200, 8
VIEWS = ("current_scores", "current_comparisons", "preference_pairs", "dialogues", "turns")


@contextlib.contextmanager
def datasette(file: Path, folder: Path) -> Iterator[str]:
    """A Datasette over the database, in its own process, with our descriptions; gives its address."""
    labels = folder / "labels.json"
    labels.write_text(files("assets").joinpath("datasette.json").read_text(encoding="utf-8"), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "datasette", str(file), "--metadata", str(labels), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            wait(lambda: answers(address), 60, "Datasette's start")
            yield address
        finally:
            process.terminate()


def answers(address: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(address, timeout=10).status_code == 200
    return False


def work(home: Path, out: int | str) -> None:
    """Score the open queue's replies one after the other, over and over, saying each score once it is acknowledged."""
    said = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    opened = Studio.open(Config(home, annotator="ann"))
    for n in itertools.count():
        state = api.handle(opened, "annotate", {})
        dimension, value = f"L{n % 4 + 1}", random.randrange(4)
        answer = api.handle(
            opened, "annotate_score", {"item": state["item"]["id"], "dimension": dimension, "value": value}
        )
        node = opened.store.queue_item(state["item"]["id"]).nodes[0]
        os.write(said, json.dumps([node, dimension, value, answer.get("error")]).encode() + b"\n")
        if n % 4 == 3:
            api.handle(opened, "annotate_finish", {"item": state["item"]["id"], "seconds": 1.0})


@pytest.mark.slow
def test_datasette_reads_while_the_studio_is_killed_in_mid_rating(tmp_path: Path) -> None:
    home, said = tmp_path / "home", tmp_path / "said"
    opened = Studio.open(Config(home, annotator="ann"))
    for i in range(SCORES):
        plant(opened, f"q{i}", f"r{i}")
    annotating.plan(opened, "rate", "random", SCORES, seed=1)
    file = opened.store.file
    opened.close()
    troubles: list[str] = []
    reads, over = itertools.count(), threading.Event()
    with datasette(file, tmp_path) as address:

        def read() -> None:
            for table in itertools.cycle((*VIEWS, "scores", "nodes")):
                if over.is_set():
                    return
                answer = httpx.get(f"{address}/studio/{table}.json?_size=1000", timeout=30)
                next(reads)
                if answer.status_code != 200:
                    troubles.append(f"{table}: {answer.status_code} {answer.text[:200]}")

        reader = threading.Thread(target=read)
        reader.start()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        lines: list[list[Any]] = []
        for _ in range(KILLS):
            process = context.Process(target=work, args=(home, str(said)))
            before = said.stat().st_size if said.exists() else 0
            process.start()
            wait(lambda b=before: said.exists() and said.stat().st_size > b, 30, "the first score")
            wanted = len(lines) + SCORES // KILLS
            wait(lambda w=wanted: said.read_text().count("\n") >= w, 60, "enough scores")
            time.sleep(random.uniform(0, 0.05))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            lines = [json.loads(line) for line in said.read_text().split("\n")[:-1]]
        over.set()
        reader.join()
        page = httpx.get(f"{address}/studio/scores", timeout=30).text
        assert "Every score ever given" in page  # our description, not only a bare table
    assert not troubles
    assert next(reads) > KILLS
    assert [error for *_, error in lines if error] == []
    with contextlib.closing(Studio.open(Config(home, annotator="ann"))) as again:
        assert again.store.check() == "ok"
        last = {(node, dimension): value for node, dimension, value, _ in lines}
        kept = {
            (r["node_id"], r["dimension"]): r["value"]
            for r in again.store.rows("SELECT node_id, dimension, value FROM current_scores")
        }
        # the process may have died between a commit and saying so: at most one score a kill is newer than what was said
        assert set(last) <= set(kept)
        assert sum(kept[key] != value for key, value in last.items()) <= KILLS
        assert len(lines) >= SCORES


def test_two_tabs_rate_one_reply(studio: Studio) -> None:
    tree = studio.store.create_tree("t")
    asked = studio.store.add_node(tree, None, "user", [Part("text", "q")])
    node = studio.store.add_node(tree, asked, "assistant", [Part("text", "r")])
    said: list[list[tuple[str, int]]] = [[], []]
    wrong: list[str] = []

    def tab(own: list[tuple[str, int]], seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            dimension, value = f"L{rng.randrange(1, 5)}", rng.randrange(4)
            answer = api.handle(studio, "rate", {"node": node, "dimension": dimension, "value": value})
            if "error" in answer:
                wrong.append(answer["error"])
            own.append((dimension, value))

    tabs = [threading.Thread(target=tab, args=(own, i)) for i, own in enumerate(said)]
    for t in tabs:
        t.start()
    for t in tabs:
        t.join()
    assert not wrong
    rows = studio.store.rows("SELECT dimension, value, superseded_at FROM scores WHERE node_id = ?", [node])
    current = {r["dimension"]: r["value"] for r in rows if r["superseded_at"] is None}
    assert len([r for r in rows if r["superseded_at"] is None]) == len(current) == 4  # one score of each counts
    for dimension, value in current.items():  # and it is the last one that one of the tabs gave
        assert value in {next(v for d, v in reversed(own) if d == dimension) for own in said}
