"""Between the store and the judge: ratings as examples, a trained judge as a row, its scores as rows. No screen.

Imports torch only when a judge is trained or loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.examples import Example, from_dump
from judge.rubric import JudgeError
from studio import StudioError
from studio.media import Media
from studio.store import Store

if TYPE_CHECKING:
    from judge.training import Settings

Progress = Callable[[int, int | None, str], None]
NEEDED = "Judges need torch, transformers and peft. Install them with: pip install -c constraints.txt '.[judge]'"


def examples(store: Store, media: Media, tree_ids: Iterable[str] | None = None) -> list[Example]:
    """Trees with their current judgements and pictures, as a judge reads them."""
    found = []
    for tree_id in store.tree_ids() if tree_ids is None else tree_ids:
        dump = store.dump_tree(tree_id)
        hashes = {p["image_sha256"] for p in dump["parts"] if p["image_sha256"]}
        found.append(from_dump(dump, {h: path for h in sorted(hashes) if (path := media.path(h))}))
    return found


def judges_folder(home: Path) -> Path:
    """Where judges live."""
    return home / "judges"


def backbones_folder(home: Path) -> Path:
    """Where unpacked backbones live."""
    return home / "backbones"


def train(store: Store, media: Media, name: str, settings: Settings, progress: Progress,
          on_line: Callable[[dict[str, Any]], None], stop: threading.Event | None = None) -> dict[str, Any]:  # fmt: skip
    """Train a judge on everything that is rated, test it on trees it never saw, and put it into the list.

    Returns name, folder, steps, whether it was interrupted, the data card, and the report. Under ``accelerate launch``
    every process calls this; the first one writes.

    Raises:
        StudioError: too little data, a taken name, no backbone, no memory, no room: each one line.
    """
    with judging():
        from judge import files, measure, scoring, training

        found = examples(store, media, store.rated_trees())
        home = store.home
        folder = judges_folder(home) / files.check_name(name)
        if folder.is_dir() and name not in {
            row["name"] for row in store.judges()
        }:  # ended between training and its test
            card = files.read_card(folder)
            trained = training.Trained(folder, card, card["steps"])
        else:
            trained = training.train(
                found, name, folder.parent, backbones_folder(home), settings, progress=on_line, stop=stop
            )
        data = trained.card.get("data", trained.card)
        answer: dict[str, Any] = {
            "name": name,
            "steps": trained.step,
            "interrupted": trained.folder is None,
            "data": data,
        }
        if trained.folder is None or int(os.environ.get("RANK", "0")):
            return answer
        try:
            report = measure.assess(
                trained.folder, backbones_folder(home), found, lambda done, of: progress(done, of, "test trees")
            )
        except JudgeError as error:  # it is trained all the same; there was nothing to test it on
            report = {"untested": str(error)}
        card = trained.card
        store.add_judge(
            name,
            card["base"]["name"],
            card["settings"],
            card["data_hash"],
            _short(report) | {"trained": scoring.trained_on(card)},
            str(trained.folder.relative_to(home)),
        )
        return {**answer, "folder": str(trained.folder), "report": report}


def score(store: Store, media: Media, judge: str, tree_ids: list[str], progress: Progress) -> dict[str, Any]:
    """Score every reply of some trees and keep it; returns the readings by node.

    ``value`` is the expected score on the dimension's scale ('overall': 0-3), ``spread`` its standard deviation.

    Raises:
        StudioError: no such judge or tree, a changed backbone, a reply too long.
    """
    with judging():
        from judge.scoring import Scorer

        scorer = Scorer.load(judges_folder(store.home) / judge, backbones_folder(store.home))
        if judge not in {row["name"] for row in store.judges()}:  # its folder was brought here by hand
            _adopt(store, judge)
        nodes: dict[str, Any] = {}
        for done, example in enumerate(examples(store, media, tree_ids), 1):
            read = scorer.tree(example)
            rows = [(n, d, r.expected[d], r.spread[d]) for n, r in read.items() for d in r.expected]
            store.save_judge_scores(judge, rows)
            nodes |= {
                n: {d: {"value": r.expected[d], "spread": r.spread[d], "logit": r.logits[d]} for d in r.expected}
                for n, r in read.items()
            }
            progress(done, len(tree_ids), "trees")
        return {"judge": judge, "trees": len(tree_ids), "replies": len(nodes), "scores": nodes}


def sentence(found: dict[str, Any]) -> str:
    """What ``train`` returns, for a person: every figure with its n, interval and baselines."""
    if found["interrupted"]:
        return f"Stopped after step {found['steps']}. The same command goes on from there."
    report = found.get("report", {})
    lines = [f"The judge {found['name']!r} is trained ({found['steps']} steps) and kept in {found.get('folder')}."]
    pairs = report.get("pairs") or {}
    if pairs.get("n"):
        span = pairs.get("interval")
        between = f", 95 % interval {span[0]:.3f} to {span[1]:.3f}" if span else ""
        lines.append(f"On {pairs['n']} pairs of unseen trees it agrees with people in {pairs['accuracy']:.3f}{between}; a coin in 0.500, "
                     f"the longer reply in {pairs['baselines']['longer']['value']:.3f}.")  # fmt: skip
    elif "untested" in report:
        lines.append(report["untested"])
    return "\n".join(lines)


@contextmanager
def judging() -> Iterator[None]:
    """Turn what the judge raises into what the screens and the command line show."""
    try:
        yield
    except JudgeError as error:
        raise StudioError(str(error)) from error
    except ModuleNotFoundError as error:
        raise StudioError(f"{NEEDED} ({error.name} is missing.)") from error


def _adopt(store: Store, judge: str) -> None:
    from judge.files import read_card
    from judge.scoring import trained_on

    card = read_card(judges_folder(store.home) / judge)
    store.add_judge(
        judge,
        card["base"]["name"],
        card["settings"],
        card["data_hash"],
        {"trained": trained_on(card)},
        f"judges/{judge}",
    )


def _short(report: dict[str, Any]) -> dict[str, Any]:
    return {k: report[k] for k in ("pairs", "scores", "untested") if k in report}
