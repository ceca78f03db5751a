"""What judges beside each other have to do first: score replies, trained ones here, chat models by being asked; and a merged export.

Each is a task of ``studio.background``; every score is a row before the next one is made. Owns no screen and computes no measure.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backends import Backend, BackendError, Message, ModelSpec, Options
from judge import zeroshot
from judge.rubric import Dimension, dimensions
from judge.scoring_client import ScoringProcess
from studio import StudioError, teaching
from studio.actions import Studio, messages_for
from studio.background import Background, Task
from studio.store import now
from studio.store.judges import ZERO_SHOT, score_rows

ASKED_WITH = Options(temperature=0.0, max_tokens=512, seed=0)
AT_ONCE = 16  # replies read and saved together by a trained judge
FAILURES = 2  # so many in a row, and the model is not asked any further: a dead server is told at once
QUOTED = 60  # characters shown of an answer that gave no score
Replies = Mapping[str, Sequence[str]]  # tree -> replies


@dataclass(frozen=True, slots=True)
class Judge:
    """One that can be chosen. ``spec``: the chat model to ask; None for a trained one, and for a model that is gone.
    ``learned``: a trained one's labels by dimension."""

    name: str
    label: str
    kind: str
    spec: ModelSpec | None = None
    learned: Mapping[str, int] = field(default_factory=dict)


def background(studio: Studio) -> Background:
    """The tasks of this run of the studio."""
    worker = studio.workers.setdefault("background", Background())
    assert isinstance(worker, Background)
    return worker


def judges(studio: Studio) -> dict[str, Judge]:
    """Everybody who can judge, by name: trained versions, the configured models, and models that are gone but have judged."""
    folder = teaching.judges_folder(studio.store.home)
    trained = [
        Judge(r["name"], r["name"], "trained", learned=r["metrics"].get("trained") or {})
        for r in studio.store.judges()
        if (folder / r["name"]).is_dir()
    ]
    asked = [Judge(row_name(m), m.name, ZERO_SHOT, m) for m in studio.config.models]
    known = {j.name for j in asked}
    gone = [Judge(r["name"], r["base"], ZERO_SHOT) for r in studio.store.judges(ZERO_SHOT) if r["name"] not in known]
    return {j.name: j for j in (*trained, *asked, *gone)}


def row_name(model: ModelSpec) -> str:
    """The name of a chat model's row: another one when its settings, the rubric or the words of the prompt are others."""
    about = [asdict(d) for d in zeroshot.asked(end=True)]
    identity = [model.name, model.backend, model.settings, zeroshot.VERSION, asdict(ASKED_WITH), about]
    short = re.sub(r"[^A-Za-z0-9]+", "-", model.name).strip("-")[:40] or "model"
    return f"{ZERO_SHOT}-{short}-{hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:8]}"


def score(studio: Studio, judge: Judge, replies: Replies) -> None:
    """Let a judge score these replies, as a task.

    Raises:
        StudioError: it is at work already, or its model is not configured any more.
    """
    if judge.kind == ZERO_SHOT and judge.spec is None:
        raise StudioError(f"The model {judge.label!r:.60} is not among the models any more. Add it under Settings.")
    title = f"{judge.label}: {sum(map(len, replies.values()))} replies"
    work = _ask if judge.spec else _read
    background(studio).start(f"score {judge.name}", title, lambda task: work(studio, task, judge, replies))


def export(studio: Studio, name: str) -> None:
    """Write a trained judge as one model, LoRA folded into its backbone, to ``HOME/exports/NAME-merged``, as a task.

    Raises:
        StudioError: no such judge, or it is being exported.
    """
    judge = judges(studio).get(name)
    if judge is None or judge.kind != "trained":
        raise StudioError(f"There is no trained judge {name!r:.60}. Reload the page.")
    background(studio).start(f"export {name}", f"Merged export of {name}", lambda task: _export(studio, task, name))


# ---- inside the thread


def _read(studio: Studio, task: Task, judge: Judge, replies: Replies) -> None:
    task.total, task.note = sum(map(len, replies.values())), "Loading the judge ..."
    home = studio.store.home
    folder, cache = teaching.judges_folder(home) / judge.name, teaching.backbones_folder(home)
    with teaching.judging(), contextlib.closing(ScoringProcess(folder, cache, cache_mb=64)) as process:
        task.note, skipped = "", list[str]()
        for tree, nodes in replies.items():
            read_at = now()
            (example,) = teaching.examples(studio.store, studio.media, [tree])
            for at in range(0, len(nodes), AT_ONCE):
                if task.stop.is_set():
                    return
                some = nodes[at : at + AT_ONCE]
                readings = process.tree(example, some)
                studio.store.save_judge_scores(judge.name, score_rows(readings), read_at)
                task.done += len(some)
                skipped += [why for _, why in process.skipped]
                if skipped:
                    task.note = f"{len(skipped)} of {task.done} replies could not be scored: {skipped[-1]}"


def _ask(studio: Studio, task: Task, judge: Judge, replies: Replies) -> None:
    assert judge.spec
    nodes = [(tree, node) for tree, found in replies.items() for node in found]
    task.total, task.note = len(nodes), "Opening the model ..."
    backend = studio.pool.get(judge.spec)
    config = {"kind": ZERO_SHOT, "prompt": zeroshot.VERSION, "options": asdict(ASKED_WITH), "rubric": list(dimensions()),
              "backend": judge.spec.backend}  # fmt: skip
    studio.store.add_judge(judge.name, judge.spec.name, config, "", {}, "")
    task.note, odd, in_a_row = "", 0, 0
    for tree, node in nodes:
        while not backend.capabilities.parallel and studio.live.growing() and not task.stop.wait(0.2):
            pass  # a model that can do one thing at a time answers the person first
        about = zeroshot.asked(_ends(studio, tree, node))
        try:
            answer = _answer(studio, backend, node, about, task)
        except BackendError as error:
            in_a_row += 1
            if in_a_row >= min(FAILURES, len(nodes)):
                raise
            task.note = f"One reply was not judged: {error}"
            task.done += 1
            continue
        if task.stop.is_set():
            return  # cut in the middle: half an answer is none
        in_a_row = 0
        if said := zeroshot.parse(answer, about):
            studio.store.save_judge_scores(judge.name, [(node, d, float(v), None) for d, v in said.items()])
        else:
            odd += 1
            task.note = f"{odd} of {len(nodes)} answers gave no score, the last one: {_quoted(answer)}"
        task.done += 1


def _answer(studio: Studio, backend: Backend, node: str, about: Sequence[Dimension], task: Task) -> str:
    with teaching.judging():
        system, content = zeroshot.prompt(messages_for(studio, node, ""), about)
    messages = [Message("system", (system,)), Message("user", content)]
    return "".join(delta.text for delta in backend.stream(messages, ASKED_WITH, task.stop))


def _ends(studio: Studio, tree: str, node: str) -> bool:
    """Whether a dialogue ends at a reply, or the person has scored one that did when they scored it."""
    if all(row["parent_id"] != node or row["pruned_at"] for row in studio.store.outline(tree)):
        return True
    mine = studio.store.scores([node], studio.config.annotator).get(node, {})
    return any(d.level == "global" and d.code in mine for d in dimensions().values())


def _quoted(answer: str) -> str:
    words = " ".join(answer.split())
    return f"“{words[:QUOTED]}{'…' if len(words) > QUOTED else ''}”" if words else "it was empty."


def _export(studio: Studio, task: Task, name: str) -> None:
    home = studio.store.home
    out = home / "exports" / f"{name}-merged"
    if not out.exists():  # a judge never changes: what is there is what it would be
        task.note = "Loading the judge and folding its LoRA into the backbone ..."
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudioError(
                f"Cannot make {out.parent}: {error.strerror}. Free some space, then try again."
            ) from error
        with teaching.judging():
            from judge.files import export_merged

            export_merged(teaching.judges_folder(home) / name, teaching.backbones_folder(home), out)
    task.note = f"It is in {out}: {_size(sum(_sizes(out)))}."


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield os.path.getsize(path)


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
