"""The queue of things to judge: what comes next and why, shown blind, voted on, undone. Owns no SQL and no screen.

Blind means: until the vote nothing that leaves here names a model, a judge's score, an id that tells age, or a stable
side. A page sees an item's id and the letters A to D; which reply a letter stands for is drawn from the queue's seed.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from judge import rubric
from studio import StudioError, markdown, ordering, verification, views
from studio.actions import Studio, Undo, rate
from studio.store import Candidate, Item
from studio.tree import Node

LETTERS = "ABCD"
KINDS = {"rate": "Rate replies", "local": "Compare replies", "global": "Compare dialogues"}
RULES = {
    "unrated": "Unrated first", "unsure": "Where the judge is least sure", "teach": "What teaches the judge most a minute",
    "apart": "Where the judge and you differ most", "balanced": "Balanced over dialogues, depth, scenario and model", "random": "In random order",
}  # fmt: skip
PAIRS_A_TREE, ENDS_A_TREE = 6, 40  # pairs of dialogues of one tree, and the dialogues they are drawn from, at most
LONGEST_S, MOST = 3600.0, 1_000_000  # seconds an item may count; items a goal may name
UNSCORED = {
    "unsure": "No judge has said how sure it is of these replies. Train one and score with it, or choose another rule.",
    "apart": "No reply here has both a judge's score and yours. Rate some that a judge has scored, or choose another rule.",
}
SEEN = ("kind", "html", "caption", "missing", "url", "view", "width", "height")  # of a part, before the vote


def plan(studio: Studio, kind: str, rule: str, goal: int, trees: Sequence[str] = (), models: Sequence[str] = (), round: int = 1,
         seed: int | None = None, scenarios: Sequence[str] = ()) -> dict[str, Any]:  # fmt: skip
    """Put everything there is to judge in order and open it as the queue; returns what ``state`` does.

    Raises:
        StudioError: unknown kind or rule, nothing to judge, or no judge for a rule that asks for one.
    """
    if kind not in KINDS or rule not in RULES:
        raise StudioError(
            f"A queue is one of {', '.join(KINDS)} by one of {', '.join(RULES)}; not {kind!r:.20} by {rule!r:.20}."
        )
    who = studio.config.annotator
    found = studio.store.candidates(who, round, "global" if kind == "global" else "local", trees, models, scenarios)
    drawn = random.Random().randrange(2**31) if seed is None else seed
    rng = random.Random(drawn)
    done = studio.store.compared(who, round, kind) if kind != "rate" else set()
    groups = _groups(kind, found, rng, done)
    if not groups:
        raise StudioError(_nothing(kind, bool(trees or models or scenarios)))
    if rule in ordering.HINTS:
        ordered = _by_judge(studio, kind, rule, rng.sample(groups, len(groups)), done, round)
    elif rule == "apart" and not any(c.apart is not None for c in found):
        raise StudioError(UNSCORED["apart"])
    else:
        ordered = _order(groups, rule, rng)
    nodes = [rng.sample(g, len(g)) for g in ([c.id for c in g] for g in ordered)]
    studio.store.plan_queue(
        kind,
        rule,
        {"trees": list(trees), "models": list(models), "scenarios": list(scenarios)},
        drawn,
        who,
        round,
        min(max(1, goal), MOST),
        nodes,
    )
    return state(studio)


def _groups(kind: str, found: list[Candidate], rng: random.Random, done: set[frozenset[str]]) -> list[list[Candidate]]:
    if kind == "rate":
        return [[c] for c in found]
    families: dict[str, list[Candidate]] = defaultdict(list)
    for c in found:
        if kind == "local" or c.leaf:
            families[c.parent_id if kind == "local" else c.tree_id].append(c)
    groups: list[list[Candidate]] = []
    for family in families.values():
        if kind == "local":
            some = rng.sample(family, min(len(family), len(LETTERS)))
            fresh = any(frozenset((a.id, b.id)) not in done for a, b in itertools.combinations(some, 2))
            groups += [some] if len(some) > 1 and fresh else []
        else:
            ends = rng.sample(family, min(len(family), ENDS_A_TREE))
            pairs = [[a, b] for a, b in itertools.combinations(ends, 2) if frozenset((a.id, b.id)) not in done]
            groups += rng.sample(pairs, min(len(pairs), PAIRS_A_TREE))
    return groups


def _by_judge(studio: Studio, kind: str, rule: str, groups: list[list[Candidate]], done: set[frozenset[str]],
              round: int) -> list[list[Candidate]]:  # fmt: skip
    """In the order of a rule that asks the judge: the live one, or where it has scored nothing, the newest that has."""
    level = "global" if kind == "global" else "local"
    codes = [rubric.OVERALL, *(code for code, d in rubric.dimensions().items() if d.level == level)]
    judges = dict.fromkeys([*filter(None, [studio.judge.name]), *(j["name"] for j in studio.store.judges())])
    ids, who = {c.id for g in groups for c in g}, studio.config.annotator
    for judge in judges:
        if ids & (told := studio.store.told(judge, codes)).keys():
            break
    else:
        raise StudioError(UNSCORED["unsure"])
    if rule == "unsure":
        return ordering.unsure(groups, told)
    seconds = ordering.pace(kind, studio.store.work(who, kind))
    rated = studio.store.scores(ids, who, round) if kind == "rate" else {}
    return ordering.teach(groups, kind, told, seconds, rated, done)


def _order(groups: list[list[Candidate]], rule: str, rng: random.Random) -> list[list[Candidate]]:
    shuffled = rng.sample(groups, len(groups))
    if rule == "unrated":
        return sorted(shuffled, key=lambda g: sum(c.rated for c in g))
    if rule == "apart":
        return sorted(shuffled, key=lambda g: -max(c.apart or 0.0 for c in g))
    if rule == "balanced":  # each time the one of whose dialogue, depth, scenario and model the fewest came before
        seen: dict[Any, int] = defaultdict(int)
        ranked = []
        for g in shuffled:
            kinds = (("tree", g[0].tree_id), ("depth", g[0].depth), ("model", g[0].model), ("scenario", g[0].scenario))
            ranked.append((seen[kinds[0]], sum(seen[k] for k in kinds[1:]), g))
            for k in kinds:
                seen[k] += 1
        return [g for *_, g in sorted(ranked, key=lambda r: r[:2])]
    return shuffled


def _nothing(kind: str, filtered: bool) -> str:
    need = {
        "rate": "a reply",
        "local": "a question with two replies or more",
        "global": "a tree with two dialogues or more",
    }[kind]
    return f"There is nothing to judge here: it takes {need}{' that the filters let through' if filtered else ''}. Ask, or import dialogues."


def state(studio: Studio) -> dict[str, Any]:
    """The open queue with its progress, pace and time left, and its next item; ``queue`` None when none is open."""
    queue = studio.store.open_queue(studio.config.annotator)
    choices = {"kinds": KINDS, "rules": RULES, "hints": ordering.hints()}
    if queue is None:
        return {"queue": None, "item": None, **choices}
    seconds = sorted(studio.store.latest_seconds(queue["id"]))
    pace = seconds[len(seconds) // 2] if seconds else None
    left = max(0, min(queue["goal"], queue["total"]) - queue["done"])
    told = {k: queue[k] for k in ("id", "kind", "rule", "goal", "total", "done", "round")}
    told["says"] = (RULES | verification.RULES)[queue["rule"]]
    told["filtered"] = any(queue["filters"].values())
    if queue["rule"] == "second":
        told["verdicts"] = studio.store.verdicts(queue["id"])
    next_item = studio.store.next_item(queue["id"])
    return {"queue": told | {"seconds_each": pace, "seconds_left": None if pace is None else pace * left},
            "item": shown(studio, queue, next_item) if next_item else None, **choices}  # fmt: skip


def shown(studio: Studio, queue: dict[str, Any], item: Item) -> dict[str, Any]:
    """An item as a page may see it before the vote."""
    paths = [studio.store.path(n) for n in item.nodes]
    common = 0
    if len(paths) > 1:
        while all(len(p) > common + 1 and p[common].id == paths[0][common].id for p in paths):
            common += 1
    else:
        common = len(paths[0]) - 1
    sides = [{"letter": letter, "cards": blind(studio, p[common:])} for letter, p in zip(LETTERS, paths, strict=False)]
    scores = {}
    if queue["kind"] == "rate":
        scores = studio.store.scores(item.nodes, studio.config.annotator, queue["round"]).get(item.nodes[0], {})
    again = {"pass": verification.about(studio, queue, item)} if queue["rule"] in verification.RULES else {}
    return {"id": item.id, "kind": queue["kind"], "prefix": blind(studio, paths[0][:common]), "sides": sides, "scores": scores,
            "ends": queue["kind"] == "rate" and studio.store.leaf(item.nodes[0]) == item.nodes[0], **again}  # fmt: skip


def ahead(studio: Studio) -> dict[str, Any]:
    """Addresses of the pictures of the item after the next one, so that a page can fetch them before they are asked for."""
    queue = studio.store.open_queue(studio.config.annotator)
    item = studio.store.next_item(queue["id"], 1) if queue else None
    nodes = {n.id: n for end in (item.nodes if item else ()) for n in studio.store.path(end)}
    return {"pictures": list({p["view"]: 0 for n in nodes.values() for p in views.parts(studio, n) if "view" in p})}


def blind(studio: Studio, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Cards with role, text and pictures; no id, model or time, and not where a picture came from or what its file was called."""
    return [
        {"role": n.role, "parts": [{k: v for k, v in p.items() if k in SEEN} for p in views.parts(studio, n)]}
        for n in nodes
    ]


def score(studio: Studio, item_id: str, dimension: str, value: int | None) -> dict[str, Any]:
    """Score the reply of an item.

    Raises:
        StudioError: as ``actions.rate`` does; an item that is a comparison; the first scores have been shown.
    """
    item = studio.store.queue_item(item_id)
    queue = _queue(studio, item, "rate")
    if item.revealed:
        raise StudioError("You have seen the first scores: yours stay as you gave them. Agree, correct or return.")
    undo = rate(studio, item.nodes[0], dimension, value, queue["round"])
    scores = studio.store.scores(item.nodes, studio.config.annotator, queue["round"]).get(item.nodes[0], {})
    # an undo of a blind score could come after the first ones were shown, so there is none: it is given anew until then
    return {"scores": scores} if queue["rule"] == "second" else {"scores": scores, "undo": undo}


def vote(
    studio: Studio, item_id: str, ranking: Sequence[Sequence[str]], dimension: str, seconds: float | None
) -> dict[str, Any]:
    """Keep a ranking of an item's letters, best first, letters of one rank being ties; every pair becomes a comparison.

    Returns the undo and, now that the vote is in, who is who.

    Raises:
        StudioError: a letter missing, twice or unknown; no such dimension on this level; an item that is no comparison.
    """
    item = studio.store.queue_item(item_id)
    queue = _queue(studio, item, "local", "global")
    nodes = dict(zip(LETTERS, item.nodes, strict=False))
    letters = [letter for rank in ranking for letter in rank]
    if sorted(letters) != sorted(nodes):
        raise StudioError(
            f"A ranking places each of {', '.join(nodes)} once; this one has {', '.join(letters) or 'none'!r:.40}."
        )
    if dimension != "overall":
        _known(dimension, queue["kind"])
    place = {letter: i for i, rank in enumerate(ranking) for letter in rank}
    kept = []
    with studio.store.write():
        for a, b in itertools.combinations(nodes, 2):
            outcome = "tie" if place[a] == place[b] else "left" if place[a] < place[b] else "right"
            kept.append(studio.store.compare(queue["kind"], dimension, nodes[a], nodes[b], outcome, studio.config.annotator,
                                             queue["round"], shown_left=nodes[a], seconds=clamped(seconds)))  # fmt: skip
    return {
        "undo": Undo("Compared", "withdraw", {"comparisons": kept, "item": item_id}),
        "revealed": reveal(studio, item),
    }


def reveal(studio: Studio, item: Item) -> list[dict[str, Any]]:
    """Who is who in an item that has been voted on: letter, id, model, the newest judge's overall score."""
    judges = studio.store.judges()
    told = []
    for letter, node_id in zip(LETTERS, item.nodes, strict=False):
        node = studio.store.node(node_id)
        said = studio.store.judge_scores(node.tree_id, judges[0]["name"]).get(node_id, {}) if judges else {}
        told.append({"letter": letter, "id": node_id, "model": node.model, "judge": said.get("overall", (None,))[0]})
    return told


def finish(studio: Studio, item_id: str, seconds: float | None) -> dict[str, Any]:
    """Done with an item; returns the state with the next one. What takes it back comes with the vote, or here for a rating."""
    queue = _queue(studio, studio.store.queue_item(item_id))
    if queue["rule"] == "second":
        raise StudioError("An item of a second pass ends with agree, correct or return. Compare first.")
    studio.store.finish_item(item_id, clamped(seconds))
    undo = {"undo": Undo("Went on to the next item", "reopen", {"item": item_id})} if queue["kind"] == "rate" else {}
    return state(studio) | undo


def skip(studio: Studio, item_id: str) -> dict[str, Any]:
    """Leave an item for the end of the queue; returns the state with the next one."""
    _queue(studio, studio.store.queue_item(item_id))
    studio.store.skip_item(item_id)
    return state(studio)


def guidelines() -> str:
    """The page ``docs/guidelines.md`` (linked into the package's assets) as safe HTML."""
    return markdown.render(files("assets").joinpath("guidelines.md").read_text(encoding="utf-8"))


def clamped(seconds: float | None) -> float | None:
    """Seconds at work as they may count."""
    return seconds if seconds is None else max(0.0, min(seconds, LONGEST_S))


def _known(dimension: str, level: str) -> None:
    try:
        known = rubric.check(dimension, None)
    except rubric.JudgeError as error:
        raise StudioError(str(error)) from error
    if known.level != level:
        raise StudioError(f"{known.code} is {known.level}, and this comparison is {level}. Choose another dimension.")


def _queue(studio: Studio, item: Item, *kinds: str) -> dict[str, Any]:
    """The open queue, to which this item must belong; of one of these kinds, where some are named."""
    _, queue = studio.store.item_at_hand(item.id, studio.config.annotator)
    if kinds and queue["kind"] not in kinds:
        raise StudioError(f"This item belongs to “{KINDS[queue['kind']]}”, where this cannot be done. Reload the page.")
    return queue
