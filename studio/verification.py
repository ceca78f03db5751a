"""The second look at what is rated: a blind second pass, what came back from one, and where two people differ.

Says which replies these queues hold, what a page may see of an item at which stage, and what becomes of it. Contains no SQL,
draws nothing, and never shows a first score before the second person's own are in.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from judge import rubric
from studio import StudioError
from studio.actions import Studio, Undo
from studio.actions.core import checked_text
from studio.store import APART, Item, Store

RULES = {"second": "Second pass", "returned": "Returned to you", "conflicts": "Where people differ"}
FIRST, SECOND = 1, 2  # rounds
LEAST, MOST = 5, 100  # per cent of what is rated that a second pass takes
VERDICTS = {"agreed": "Agreed", "corrected": "Corrected", "returned": "Returned"}


@dataclass(frozen=True)
class FirstPass:
    """Whose scores a second pass checks, and on which dimensions (in the rubric's order)."""

    who: str
    dimensions: tuple[str, ...]


def first_passes(studio: Studio, nodes: list[str] | None = None) -> dict[str, FirstPass]:
    """Replies that somebody has rated in full on a level of the nine in round 1; somebody else rather than oneself."""
    needed = [{c for c, d in rubric.the_nine().items() if d.level == level} for level in ("local", "global")]
    known = rubric.dimensions()
    found = {}
    for node, people in studio.store.scored(FIRST, nodes).items():
        full = {who: [n for n in needed if n <= given] for who, given in people.items()}
        whole = [who for who, levels in full.items() if levels]
        if whole:
            # others first, then who rated more levels; sorted() keeps the order of age
            who = sorted(whole, key=lambda w: (w == studio.config.annotator, -len(full[w])))[0]
            levels = {known[next(iter(n))].level for n in full[who]}
            asked = (c for c, d in known.items() if d.level in levels and c in people[who])
            found[node] = FirstPass(who, tuple(asked))
    return found


def conflicts(store: Store, tree_ids: list[str] | None = None) -> list[dict[str, Any]]:
    """Where people's scores lie ``APART`` or more apart, widest first: node, tree, dimension, ``scores`` by annotator, gap.

    Each person's latest round counts; pruned branches do not.
    """
    return store.conflicts(tree_ids)


def overview(studio: Studio) -> dict[str, Any]:
    """What there is to look at again: replies rated in full, those not yet checked, returned ones, conflicts."""
    pool = first_passes(studio)
    return {
        "annotator": studio.config.annotator, "rated": len(pool), "left": len(_fresh(studio, pool)),
        "returned": len({r["node_id"] for r in studio.store.returned(studio.config.annotator, SECOND)}),
        "conflicts": len(conflicts(studio.store)), "gap": APART,
    }  # fmt: skip


def plan(studio: Studio, rule: str, share: int = 10, seed: int | None = None) -> None:
    """Open a queue: a second pass over ``share`` per cent of what is rated in full, what was returned, or the conflicts.

    Raises:
        StudioError: no such queue, a share out of range, nothing to put into it.
    """
    drawn = random.Random().randrange(2**31) if seed is None else seed
    if rule == "second":
        nodes = _drawn(studio, share, random.Random(drawn))
    elif rule == "returned":
        rows = studio.store.returned(studio.config.annotator, SECOND)
        nodes = list(dict.fromkeys(r["node_id"] for r in rows))
    elif rule == "conflicts":
        nodes = list(dict.fromkeys(r["node"] for r in conflicts(studio.store)))
    else:
        raise StudioError(f"There is no queue {rule!r:.20}; choose from {', '.join(RULES)}.")
    if not nodes:
        raise StudioError("Nothing was returned to you." if rule == "returned" else
                          f"Nobody differs by {APART} or more. Import another person's ratings to compare.")  # fmt: skip
    filters = {"share": share} if rule == "second" else {}
    studio.store.plan_queue("rate", rule, filters, drawn, studio.config.annotator, SECOND if rule == "second" else FIRST,
                            len(nodes), [[n] for n in nodes])  # fmt: skip


def _drawn(studio: Studio, share: int, rng: random.Random) -> list[str]:
    if not LEAST <= share <= MOST:
        raise StudioError(f"A second pass takes {LEAST} to {MOST} % of what is rated, not {share} %.")
    pool = first_passes(studio)
    if not pool:
        raise StudioError(
            "Nothing is rated in full yet: a second pass needs replies with all of L1 to L4, or dialogues with all of G1 to G5."
        )
    fresh = _fresh(studio, pool)
    if not fresh:
        raise StudioError(
            f"You have been through all {len(pool)} that are rated in full. Rate more, or let another annotator look."
        )
    return rng.sample(fresh, min(len(fresh), math.ceil(len(pool) * share / 100)))


def _fresh(studio: Studio, pool: dict[str, FirstPass]) -> list[str]:
    mine = studio.store.scored(SECOND)
    who = studio.config.annotator
    return sorted(n for n, first in pool.items() if not set(first.dimensions) <= mine.get(n, {}).get(who, set()))


# ---- one item


def about(studio: Studio, queue: dict[str, Any], item: Item) -> dict[str, Any]:
    """What the page may know of an item of these queues beyond the reply itself; first scores only once they were asked for."""
    node, rule = item.nodes[0], queue["rule"]
    if rule == "returned":
        rows = studio.store.returned(studio.config.annotator, SECOND, node)
        return {"rule": rule, "reasons": [{"who": r["annotator"], "text": r["text"]} for r in rows]}
    if rule == "conflicts":
        here = conflicts(studio.store, [studio.store.node(node).tree_id])
        return {"rule": rule, "differ": [r["dimension"] for r in here if r["node"] == node]}
    first = first_passes(studio, [node]).get(node)
    told: dict[str, Any] = {"rule": rule, "stage": "own", "dimensions": list(first.dimensions) if first else []}
    if first and item.revealed:
        theirs, mine = _both(studio, node, first)
        told |= {
            "stage": "decide",
            "who": first.who,
            "first": theirs,
            "differ": [d for d in theirs if theirs[d] != mine.get(d)],
        }
    return told


def compare(studio: Studio, item_id: str) -> None:
    """Show the first scores of an item from now on; its own ones are fixed with that.

    Raises:
        StudioError: an own score is missing, or the first ones were taken back.
    """
    item, first = _second(studio, item_id)
    _, mine = _both(studio, item.nodes[0], first)
    missing = [d for d in first.dimensions if d not in mine]
    if missing:
        raise StudioError(f"Give your own score on {', '.join(missing)} first: then the first ones are shown.")
    studio.store.reveal_item(item_id)


def decide(studio: Studio, item_id: str, verdict: str, reason: str = "", seconds: float | None = None) -> Undo:
    """Done with an item: the two agree; they differ and the second scores stand; or it goes back with a reason.

    The reason is feedback of round 2 (kind 'rationale'), so that it travels with an export. The scores stay as given blind.

    Raises:
        StudioError: not compared yet, a verdict that does not fit the scores, no reason for what is returned.
    """
    item, first = _second(studio, item_id)
    if not item.revealed:
        raise StudioError("Compare with the first scores before you decide.")
    if verdict not in VERDICTS:
        raise StudioError(f"An item is {', '.join(VERDICTS)}; not {str(verdict)!r:.20}.")
    theirs, mine = _both(studio, item.nodes[0], first)
    differ = [d for d in theirs if theirs[d] != mine.get(d)]
    if verdict == "agreed" and differ:
        raise StudioError(f"You and {first.who} differ on {', '.join(differ)}: correct it, or return it with a reason.")
    if verdict == "corrected" and not differ:
        raise StudioError(f"You and {first.who} gave the same scores: there is nothing to correct.")
    if verdict == "returned" and not reason.strip():
        raise StudioError(f"Say why it goes back to {first.who}: a line in words.")
    text = checked_text(reason) if verdict == "returned" else ""
    with studio.store.write():
        _say(studio, item, first, text)
        studio.store.finish_item(item_id, seconds, verdict)
    return Undo(VERDICTS[verdict], "verify_back", {"item": item_id})


def take_back(studio: Studio, item_id: str) -> None:
    """Undo of ``decide``: the item comes again, compared as it was, and nothing is returned."""
    item, first = _second(studio, item_id)
    with studio.store.write():
        _say(studio, item, first, "")
        studio.store.reopen_item(item_id)


def _say(studio: Studio, item: Item, first: FirstPass, text: str) -> None:
    level = "local" if any(rubric.dimensions()[d].level == "local" for d in first.dimensions) else "global"
    studio.store.say(item.nodes[0], level, "rationale", text, studio.config.annotator, round=SECOND)


def _both(studio: Studio, node: str, first: FirstPass) -> tuple[dict[str, int], dict[str, int]]:
    """The first scores, and one's own of round 2, on what is checked."""
    theirs = studio.store.scores([node], first.who, FIRST).get(node, {})
    mine = studio.store.scores([node], studio.config.annotator, SECOND).get(node, {})
    return {d: theirs[d] for d in first.dimensions}, {d: mine[d] for d in first.dimensions if d in mine}


def _second(studio: Studio, item_id: str) -> tuple[Item, FirstPass]:
    item, queue = studio.store.item_at_hand(item_id, studio.config.annotator)
    if queue["rule"] != "second":
        raise StudioError("This item is of no second pass. Reload the page.")
    first = first_passes(studio, [item.nodes[0]]).get(item.nodes[0])
    if first is None:
        raise StudioError("The first scores of this reply were taken back since. Skip it.")
    return item, first
