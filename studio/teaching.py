"""Between the store and the judge: ratings as examples, a trained judge as a row, its scores as rows. No screen.

Imports torch only when a judge is trained or loaded.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.examples import Example, from_dump
from judge.rubric import JudgeError
from studio import StudioError
from studio.media import Media
from studio.store import Store, now
from studio.store.judges import ZERO_SHOT, score_rows
from studio.verdicts import verdict

if TYPE_CHECKING:
    from judge.training import Settings

STATES = ".states"  # beside the judges: hidden states of frozen backbones
Progress = Callable[[int, int | None, str], None]
NEEDED = "Judges need torch, transformers and peft. Install them with: pip install -c constraints.txt '.[judge]'"


FACTS = ("trained", "derived_labels", "scored", "ties")  # of a judge's rows, in its metrics


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


def train(store: Store, media: Media, name: str, settings: Settings, on_line: Callable[[dict[str, Any]], None],
          stop: threading.Event | None = None, made_by: str = "", begin_again: bool = False) -> dict[str, Any]:  # fmt: skip
    """Train a judge on everything that is rated, test it on trees it never saw, and put it into the list.

    Returns name, folder, steps, how it ended, the data card, and the report. Under ``accelerate launch`` every process
    calls this; the first one writes. ``on_line``: takes every line of progress.

    Raises:
        StudioError: too little data, a taken name, no backbone, no memory, no room: each one line.
    """
    with judging():
        from judge import files, training

        at = now()  # labels given from here on may not be learned from
        rated = examples(store, media, store.rated_trees())
        folder = judges_folder(store.home) / files.check_name(name)
        if folder.is_dir() and name not in {row["name"] for row in store.judges()}:
            card = files.read_card(folder)  # the last call ended between training and its test
            trained = training.Trained(folder, card, card["steps"], card.get("ended", "finished"))
        else:
            trained = training.train(
                rated, name, folder.parent, backbones_folder(store.home), settings,
                progress=on_line, stop=stop, made_by=made_by, begin_again=begin_again, at=at,
            )  # fmt: skip
        answer: dict[str, Any] = {
            "name": name, "steps": trained.step, "interrupted": trained.folder is None, "ended": trained.ended,
            "best_step": trained.card.get("best_step"), "data": trained.card.get("data", trained.card),
        }  # fmt: skip
        if trained.folder is None or int(os.environ.get("RANK", "0")):
            return answer
        report = _tested(store, trained.folder, rated, on_line)
        _list(store, trained.folder, trained.card, report)
        return {**answer, "folder": str(trained.folder), "report": report}


def check(store: Store, media: Media, settings: Settings, on_line: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """What training with these settings would learn from: the data card, with every label that is cut or left out.

    Nothing is trained and no weights are loaded.

    Raises:
        StudioError: too little data, no such backbone.
    """
    with judging():
        from judge import backbones, training
        from judge.check import planned

        rated = examples(store, media, store.rated_trees())
        prepared, parts = training.usable(rated, settings)
        backbone = backbones.load_encoder(settings.base, backbones_folder(store.home))
        return planned(prepared, parts, backbone, settings, on_line).card


def _tested(
    store: Store, folder: Path, rated: list[Example], on_line: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The report of a trained judge, beside the zero-shot judges that have scored its test trees."""
    from judge import files, measure

    zero_shot = {row["name"]: row["base"] for row in store.judges(ZERO_SHOT)}
    rewards: dict[str, dict[str, dict[str, float]]] = {}
    for tree in files.read_card(folder)["split"]["test"] if zero_shot else ():
        for name, base in zero_shot.items():
            for node, rows in store.judge_scores(tree, name).items():
                fresh = {row: score.value for row, score in rows.items() if not score.stale}
                rewards.setdefault(f"{base}, zero-shot", {})[node] = fresh
    try:
        return measure.assess(
            folder, backbones_folder(store.home), rated, on_line, rewards, judges_folder(store.home) / STATES
        )
    except JudgeError as error:  # it is trained all the same; there was nothing to test it on
        return {"untested": str(error)}


def _list(store: Store, folder: Path, card: dict[str, Any], report: dict[str, Any]) -> None:
    """Put a judge into the list, with the short form of its report and what its rows learned from."""
    from judge import files
    from judge.readings import facts_of

    facts = facts_of(card) | {"ties": files.tie_margins(folder, card), "ended": card.get("ended")}
    facts |= {"labels_at": card["data"].get("at")}
    store.add_judge(
        folder.name, card["base"]["name"], card["settings"], card["data_hash"], _short(report) | facts,
        str(folder.relative_to(store.home)), weights_hash=files.weights_hash(folder), made_by=card.get("made_by") or "",
    )  # fmt: skip


def score(store: Store, media: Media, judge: str, tree_ids: list[str], progress: Progress) -> dict[str, Any]:
    """Score every reply of some trees and keep it; returns the readings by node, and who could not be read and why.

    ``value`` is the expected score where the judge learned from scores, else its logit; ``spread`` in the same unit.

    Raises:
        StudioError: no such judge or tree, a changed backbone.
    """
    with judging():
        from judge.scoring import Scorer

        scorer = Scorer.load(judges_folder(store.home) / judge, backbones_folder(store.home))
        if judge not in {row["name"] for row in store.judges()}:  # its folder was brought here by hand
            _adopt(store, judge)
        nodes: dict[str, Any] = {}
        skipped: list[dict[str, str]] = []
        for done, tree_id in enumerate(tree_ids, 1):
            read_at = now()
            (example,) = examples(store, media, [tree_id])
            readings = scorer.tree(example)
            store.save_judge_scores(judge, score_rows(readings), read_at)
            skipped += [{"tree": tree_id, "node": node, "reason": why} for node, why in scorer.skipped]
            nodes |= {
                n: {d: {"value": r.value(d), "spread": r.spread[d], "logit": r.logits[d]} for d in r.logits}
                for n, r in readings.items()
            }
            progress(done, len(tree_ids), "trees")
        answer = {"judge": judge, "trees": len(tree_ids), "replies": len(nodes), "skipped": skipped, "scores": nodes}
        return answer | {"note": skipped_line(len(skipped), len(nodes) + len(skipped), skipped)}


def skipped_line(n: int, of: int, skipped: list[dict[str, str]]) -> str:
    """How many replies could not be scored, and the first reasons; "" where there is none."""
    reasons = "; ".join(dict.fromkeys(s["reason"] for s in skipped[:3]))
    return f"{n:,} of {of:,} replies could not be scored: {reasons}" if n else ""


def facts(home: Path, name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a judge's rows learned from: ``FACTS``, {} for what nobody knows. Judges of earlier versions: from their card."""
    known = {key: metrics.get(key) or {} for key in FACTS}
    if "scored" in metrics:
        return known
    from judge.readings import facts_of

    try:
        card = json.loads((judges_folder(home) / name / "card.json").read_text(encoding="utf-8"))
        return known | facts_of(card)
    except (OSError, ValueError, KeyError, TypeError):  # no card, or none that can be read: what the row says is left
        return known


def sentence(answer: dict[str, Any]) -> str:
    """What ``train`` returns, for a person: every figure with its n, interval and baselines."""
    labels = answer["data"].get("labels", {}).get("sentence")
    if answer["interrupted"]:
        return f"Stopped after step {answer['steps']}. The same command (without --begin-again) goes on from there, with the same data."
    best = f", the best step was {answer['best_step']}" if answer.get("best_step") else ""
    lines = [
        f"The judge {answer['name']!r} is trained ({answer['steps']} steps, {answer['ended']}{best}) and kept in {answer.get('folder')}.",
        *([f"Labels: {labels}"] if labels else []),
    ]
    report = answer.get("report", {})
    for kind, words in (("pairs", "comparisons of people in"), ("derived", "pairs that scores imply in")):
        if (pairs := report.get(kind) or {}).get("n"):
            lines.append(
                f"On {pairs['n']} {words} {pairs['trees']} unseen dialogues it is right in {_estimate(pairs)}."
            )
            lines.append(f"Beside it: {_beside(pairs)}.")
            if says := verdict(pairs)["says"]:
                lines.append(f"That is {says}." if "than" in says else f"There are {says}.")
    if (scores := report.get("scores") or {}).get("n"):
        lines.append(
            f"On {scores['n']} scores in {scores['trees']} unseen dialogues it is off by {_estimate(scores['mae'])} points on average."
        )
        lines.append(f"Beside it: {_constants(scores)}.")
    lines += [report[key] for key in ("untested", "baseline_failed") if key in report]
    return "\n".join(lines)


def _estimate(pairs: dict[str, Any]) -> str:
    value = pairs["accuracy"] if "accuracy" in pairs else pairs["value"]
    span = pairs.get("interval")
    return f"{value:.3f}" + (f" ({span[0]:.3f} to {span[1]:.3f})" if span else "")


def _beside(pairs: dict[str, Any]) -> str:
    words = {"coin": "a coin", "majority": "always the commoner side", "longer": "the longer one"}
    rows = [
        f"{words.get(name, name)} {_estimate(row)}"
        for name, row in pairs["baselines"].items()
        if row["value"] is not None
    ]
    rows += [
        f"{name} {_estimate(row)}" for name, row in pairs.get("others", {}).items() if row.get("value") is not None
    ]
    if ceiling := pairs.get("ceiling"):
        rows.append(f"people among themselves {_estimate(ceiling)} on {ceiling['n']} that were judged twice")
    return "; ".join(rows)


def _constants(scores: dict[str, Any]) -> str:
    """How far off who always says the same is."""
    words = {"always_3": "always 3", "always_top": "always the top score", "majority": "always the commonest score"}
    return "; ".join(f"{words.get(name, name)} {_estimate(row['mae'])}" for name, row in scores["baselines"].items()
                     if row["mae"]["value"] is not None)  # fmt: skip


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

    folder = judges_folder(store.home) / judge
    _list(store, folder, read_card(folder), report(folder))


def report(folder: Path) -> dict[str, Any]:
    """The whole report of a judge's test, beside its weights; {} when there is none that can be read."""
    try:
        read = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # tested elsewhere, or not at all: the row in the store then has the short form
        return {}
    return read if isinstance(read, dict) else {}


def _short(report: dict[str, Any]) -> dict[str, Any]:
    return {k: report[k] for k in ("pairs", "derived", "scores", "untested") if k in report}
