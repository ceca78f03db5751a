"""Judges side by side: what two or three of them say of one dialogue, where they part, how each agrees with the person so far,
and which of two versions is better on dialogues that neither has seen.

Plain dicts for the page. Reads scores that are rows; ``studio.panelwork`` makes them. In blind mode no score leaves here before
the person has rated the reply.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judge import sidebyside
from judge.examples import ENOUGH, Example, from_dump
from judge.groups import group_of, grouped
from judge.labels import prepare
from studio import StudioError, readings, teaching
from studio import paneldialogue as dialogue
from studio.actions import Studio
from studio.panelwork import Judge, background, export, judges, score

MOST = 3  # columns that can be read side by side, on a phone too
FEW_RESAMPLES, MANY = 200, 4_000  # labels from which an interval takes fewer resamples
Row = dict[str, Any]
Labelled = list[tuple[Example, dict[str, dict[str, dict[str, readings.Score]]]]]  # of each tree: judge, reply, row
Groups = dict[str, str]  # of each tree that anybody rated: what it belongs to
_cache: dict[tuple[str, int, str], tuple[Labelled, Groups]] = {}


def state(studio: Studio, chosen: Sequence[str], tree: str | None, leaf: str | None, blind: bool) -> Row:
    """Who can be chosen, what is at work, and the dialogue ``tree`` as the chosen ones see it, the path to ``leaf`` first."""
    known = judges(studio)
    picked = _picked(known, chosen)
    shown = None
    if tree and (rows := dialogue.rows(studio, tree, leaf)):
        said = {j.name: dialogue.shown(studio, tree, j) for j in picked}
        missing = {j.name: len(_left(studio, j, tree).get(tree, [])) for j in picked}
        for row in rows:
            hidden = dialogue.hidden(row) if blind else set()
            row["said"] = {j: dialogue.seen(row, by.get(row["id"], {}), hidden) for j, by in said.items()}
            row["waits"] = bool(hidden) and any(row["id"] in by for by in said.values())
        shown = {
            "tree": tree,
            "title": studio.store.title(tree),
            "rows": rows,
            "missing": missing,
            "apart": dialogue.apart(rows),
        }
    listed = [{"name": j.name, "label": j.label, "kind": j.kind, "learned": dict(j.learned),
               "derived": dict(dialogue.facts(studio, j).derived_labels), "can": j.kind == "trained" or j.spec is not None}
              for j in known.values()]  # fmt: skip
    return {"judges": listed, "chosen": [j.name for j in picked], "most": MOST, "enough": ENOUGH, "shown": shown,
            "stamp": studio.store.stamp(), **_tasks(studio)}  # fmt: skip


def start(studio: Studio, chosen: Sequence[str], tree: str | None) -> Row:
    """Let the chosen judges score what they have not scored yet: a dialogue, or (None) what the person rated and they have not
    learned from. Returns the tasks.

    Raises:
        StudioError: nobody chosen, nothing left to score, one that is at work or that cannot be asked.
    """
    picked = _picked(judges(studio), chosen)
    if not picked:
        raise StudioError("No judge is chosen. Choose two or three.")
    wanted = {j.name: _left(studio, j, tree) for j in picked}
    if not any(wanted.values()):
        raise StudioError("The chosen judges have scored all of this already.")
    for judge in picked:
        if wanted[judge.name]:
            score(studio, judge, wanted[judge.name])
    return _tasks(studio)


def agreement(studio: Studio, chosen: Sequence[str]) -> Row:
    """How each of the chosen judges agrees with the person so far, on dialogues that it did not learn from.

    Of each: ``rows`` as ``judge.sidebyside.beside_person``, how many dialogues were left out and why, replies not scored yet.

    Raises:
        StudioError: a score that its dimension does not have, a judge's card that cannot be read.
    """
    labelled = _labelled(studio)
    told = []
    for judge in _picked(judges(studio), chosen):
        kept, why = _unseen(studio, judge, [e for e, _ in labelled])
        ids = {e.tree.id for e in kept}
        said, logits = _of(labelled, judge.name, ids), _logits(labelled, judge.name, ids)
        about = dialogue.facts(studio, judge)
        with teaching.judging():
            rows = sidebyside.beside_person(
                _fitting(kept, about), said, _resamples(kept), logits=logits or None, ties=about.ties
            )
        missing = sum(n not in said for e in kept for n in sidebyside.wanted(e))
        told.append({"name": judge.name, "label": judge.label, "kind": judge.kind, "left_out": len(labelled) - len(kept),
                     "why": why, "trees": len(kept), "missing": missing, "rows": rows})  # fmt: skip
    return {"judges": told, "annotator": studio.config.annotator}


def versions(studio: Studio, a: str, b: str) -> Row:
    """Two trained judges on the person's labels in dialogues that neither learned from: rows as ``judge.sidebyside.versus``.

    ``missing``: replies that one of them has not scored yet; ``nothing``: why there is nothing to compare, else ''.

    Raises:
        StudioError: not two different trained judges, a card that cannot be read, a score that its dimension does not have.
    """
    two, labelled = _two(studio, a, b), _labelled(studio)
    kept = [e for e, _ in labelled]
    whys = []
    for judge in two:
        kept, why = _unseen(studio, judge, kept)
        whys += [why] if why else []
    ids = {e.tree.id for e in kept}
    by_a, by_b = (_of(labelled, judge.name, ids) for judge in two)
    both = _both(*(dialogue.facts(studio, judge) for judge in two))
    logits = (_logits(labelled, a, ids) or by_a, _logits(labelled, b, ids) or by_b)
    with teaching.judging():
        rows = sidebyside.versus(_fitting(kept, both), by_a, by_b, _resamples(kept), logits=logits)
    missing = sum((n not in by_a) + (n not in by_b) for e in kept for n in sidebyside.wanted(e))
    nothing = ""
    if not labelled:
        nothing = "You have rated nothing yet that two versions could be held against."
    elif not kept:
        nothing = " ".join(whys) or (
            f"There is no dialogue that you rated and neither of them learned from: all {len(labelled)} were in the training of one. "
            "Rate some new dialogues; versions trained with the same seed share their test dialogues."
        )
    return {"a": a, "b": b, "trees": len(kept), "left_out": len(labelled) - len(kept), "missing": missing,
            "nothing": nothing, "rows": rows}  # fmt: skip


def score_versions(studio: Studio, a: str, b: str) -> Row:
    """Let two versions score the replies that ``versions`` needs. Returns the tasks. Raises as ``versions`` and ``start`` do."""
    two, labelled = _two(studio, a, b), _labelled(studio)
    kept = [e for e, _ in labelled]
    for judge in two:
        kept, _ = _unseen(studio, judge, kept)
    for judge in two:
        if left := _unscored(kept, _of(labelled, judge.name, {e.tree.id for e in kept})):
            score(studio, judge, left)
    return _tasks(studio)


def export_merged(studio: Studio, name: str) -> Row:
    """Begin a merged export; returns the tasks. Raises StudioError as ``panelwork.export`` does."""
    export(studio, name)
    return _tasks(studio)


def cancel(studio: Studio, key: str) -> Row:
    """Cancel a task, or take one that is over off the list; returns the tasks."""
    background(studio).cancel(key)
    return _tasks(studio)


# ---- all that is rated


def _labelled(studio: Studio) -> Labelled:
    """Trees with the person's own labels as they stand now (and the pairs that their scores imply), and what every judge said there."""
    return _rated(studio)[0]


def _rated(studio: Studio) -> tuple[Labelled, Groups]:
    """What ``_labelled`` returns, and the groups of all trees that anybody rated: a judge may have learned from any of them."""
    who = studio.config.annotator
    key = (str(studio.store.home), studio.store.stamp(), who)
    if key not in _cache:
        rated, said = [], {}
        with teaching.judging():
            for tree in studio.store.rated_trees():
                dump = studio.store.dump_tree(tree)
                mine = {k: _own(dump[k], who) for k in ("scores", "comparisons")}
                hashes = {p["image_sha256"] for p in dump["parts"] if p["image_sha256"]}
                files: dict[str, bytes | Path] = {h: path for h in sorted(hashes) if (path := studio.media.path(h))}
                rated.append(from_dump(dump | mine, files))
                said[tree] = _by_judge(dump["judge_scores"])
            # all at once: dialogues with one question are one group, and none of them unseen where one was learned
            whole = grouped(rated)
            prepared = prepare(rated).examples
        _cache.clear()
        labelled = [(e, said[e.tree.id]) for e in prepared if e.scores or e.comparisons]
        _cache[key] = labelled, {e.tree.id: group_of(e) for e in whole}
    return _cache[key]


def _own(rows: Iterable[Row], who: str) -> list[Row]:
    """A person's labels with their own corrections, without those of a second pass over what somebody else had judged."""
    things: dict[tuple[Any, ...], list[Row]] = {}
    for r in (r for r in rows if r["annotator"] == who):
        nodes = sorted(r[key] for key in ("node_id", "left_node", "right_node") if r.get(key))
        things.setdefault((*nodes, r.get("level"), r["dimension"]), []).append(r)
    return [r for same in things.values() if any(r["round"] == 1 for r in same) for r in same]


def _by_judge(stored: Iterable[Row]) -> dict[str, dict[str, dict[str, readings.Score]]]:
    """Rows of ``judge_scores`` by judge, reply and row of the head."""
    said: dict[str, dict[str, dict[str, readings.Score]]] = {}
    for r in stored:
        if r["stale_at"] is not None:  # of another dialogue than the one that stands there now
            continue
        one = readings.Score(r["value"], r["spread"], r["logit"])
        said.setdefault(r["judge"], {}).setdefault(r["node_id"], {})[r["dimension"]] = one
    return said


def _fitting(examples: Iterable[Example], about: readings.Facts) -> list[Example]:
    """The labels that a judge can be held against: comparisons, and scores on rows with a scale."""
    return [replace(e, scores=[s for s in e.scores if about.on_scale(s.dimension)]) for e in examples]


def _both(a: readings.Facts, b: readings.Facts) -> readings.Facts:
    """What two judges have in common: scales of rows that both learned from scores."""
    return readings.Facts(scored={row: n for row, n in a.scored.items() if b.on_scale(row)})


def _of(labelled: Labelled, name: str, trees: set[str]) -> dict[str, dict[str, float]]:
    """What a judge said in some trees: by reply and row, in the unit of ``Score.value``."""
    said = _said(labelled, name, trees)
    return {n: {row: one.value for row, one in rows.items()} for n, rows in said.items()}


def _logits(labelled: Labelled, name: str, trees: set[str]) -> dict[str, dict[str, float]]:
    """The same as logits, by which replies compare; nothing where they were not kept, as of a chat model."""
    said = _said(labelled, name, trees)
    if any(one.logit is None for rows in said.values() for one in rows.values()):
        return {}
    return {n: {row: one.logit for row, one in rows.items() if one.logit is not None} for n, rows in said.items()}


def _said(labelled: Labelled, name: str, trees: set[str]) -> dict[str, dict[str, readings.Score]]:
    return {n: rows for e, said in labelled if e.tree.id in trees for n, rows in said.get(name, {}).items()}


def _unseen(studio: Studio, judge: Judge, examples: list[Example]) -> tuple[list[Example], str]:
    """The examples that may be called unseen by a judge; and why none may, where its card does not say what it learned from."""
    if judge.kind != "trained":
        return examples, ""
    card = teaching.judges_folder(studio.store.home) / judge.name / "card.json"
    try:
        split = json.loads(card.read_text(encoding="utf-8")).get("split")
    except (OSError, ValueError, AttributeError) as error:
        raise StudioError(f"The card of the judge {judge.label} cannot be read ({error}). Train it again.") from error
    if not isinstance(split, dict):
        return [], f"The judge {judge.label} does not say which dialogues it learned from, so none counts as unseen."
    return sidebyside.unseen(examples, split, _rated(studio)[1]), ""


def _left(studio: Studio, judge: Judge, tree: str | None) -> dict[str, list[str]]:
    """What a judge has not scored yet, by tree."""
    if tree is None:
        labelled = _labelled(studio)
        kept, _ = _unseen(studio, judge, [e for e, _ in labelled])
        return _unscored(kept, _of(labelled, judge.name, {e.tree.id for e in kept}))
    said = studio.store.judge_scores(tree, judge.name)
    fresh = {node for node, rows in said.items() if not any(score.stale for score in rows.values())}
    left = [r["id"] for r in dialogue.rows(studio, tree, None) if r["id"] not in fresh]
    return {tree: left} if left else {}


def _unscored(examples: Iterable[Example], said: sidebyside.Said) -> dict[str, list[str]]:
    found = {e.tree.id: sorted(sidebyside.wanted(e) - said.keys()) for e in examples}
    return {tree: nodes for tree, nodes in found.items() if nodes}


def _two(studio: Studio, a: str, b: str) -> list[Judge]:
    known = judges(studio)
    two = [known[name] for name in (a, b) if name in known and known[name].kind == "trained"]
    if len(two) != 2 or a == b:
        raise StudioError("Two versions are compared. Choose two different trained judges.")
    return two


def _picked(known: Mapping[str, Judge], chosen: Sequence[str]) -> list[Judge]:
    if len(set(chosen)) > MOST:
        raise StudioError(f"{len(set(chosen))} judges do not fit side by side; choose at most {MOST}.")
    return [known[name] for name in dict.fromkeys(chosen) if name in known]  # one that was removed since is gone


def _resamples(examples: Sequence[Example]) -> int:
    return FEW_RESAMPLES if sum(len(e.scores) + len(e.comparisons) for e in examples) > MANY else 1000


def _tasks(studio: Studio) -> Row:
    return {"tasks": [t.told() for t in background(studio).tasks()]}
