"""Marking and judging: star, prune, restore, rename, rate, say, crucial steps; and taking such an act back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from judge import rubric
from studio import StudioError
from studio.actions import placing, spans
from studio.actions.asking import stop
from studio.actions.core import Studio, Undo, a_reply, checked_text
from studio.tree import Node


def star(studio: Studio, node_id: str, on: bool) -> None:
    """Star a node, or take the star away."""
    studio.store.node(node_id)
    studio.store.star(node_id, on)


def prune(studio: Studio, node_id: str) -> Undo:
    """Hide a node and all below it from the current dialogues; nothing is deleted."""
    node = studio.store.node(node_id)
    below = studio.live.growing(node.tree_id)
    stop(studio, [r.node_id for r in below if any(n.id == node_id for n in studio.store.path(r.node_id))])
    count = studio.store.prune(node_id)
    what = "dialogue" if node.parent_id is None else "message" if count == 1 else f"{count} messages"
    return Undo(f"Pruned {'this ' if count == 1 or not node.parent_id else ''}{what}", "restore", {"node": node_id})


def restore(studio: Studio, node_id: str) -> Undo | None:
    """Show a pruned node again, and everything above it."""
    pruned = [n for n in studio.store.path(node_id) if n.pruned_at]
    studio.store.restore(node_id)
    return Undo("Restored the branch", "prune", {"node": pruned[-1].id}) if pruned else None


def restore_all(studio: Studio, nodes: list[str]) -> None:
    """Show all of these again, or none of them."""
    with studio.store.write():
        for node in nodes:
            studio.store.restore(str(node))


def rename(studio: Studio, tree_id: str, title: str) -> Undo:
    """Give a dialogue another title, at most 200 characters."""
    old = studio.store.tree(tree_id).title
    title = " ".join(title.split())[:200]
    if not title:
        raise StudioError("A title needs at least one character. The old one was kept.")
    studio.store.rename_tree(tree_id, title)
    return Undo("Renamed the dialogue", "rename", {"tree": tree_id, "title": old})


# ---- judging


def rate(studio: Studio, node_id: str, dimension: str, value: int | None, round: int = 1) -> Undo:
    """Make ``value`` the score of a reply on a dimension (None: not judged); durable when this returns.

    Raises:
        StudioError: not a reply, still growing, no such dimension or level.
    """
    try:
        known = rubric.check(dimension, value)
    except rubric.JudgeError as error:
        raise StudioError(str(error)) from error
    node = a_reply(studio, node_id)
    who = studio.config.annotator
    before = studio.store.scores([node.id], who, round).get(node.id, {}).get(dimension)
    studio.store.rate(node.id, dimension, value, who, round)
    said = f"Rated {known.code} {value}" if value is not None else f"Cleared {known.code}"
    return Undo(said, "rate", {"node": node.id, "dimension": dimension, "value": before, "round": round})


def say(studio: Studio, node_id: str, level: str, kind: str, text: str, dimension: str | None = None,
        span: dict[str, Any] | None = None, round: int = 1) -> Undo | None:  # fmt: skip
    """Keep language feedback on a reply or, with level 'global', on the dialogue it ends. Empty text takes it away.

    ``dimension``: about that one alone; ``span``: about a passage or a picture (see ``spans``). None when nothing changed.

    Raises:
        StudioError: no such level, kind or dimension, a place outside the reply, a question, a reply that grows.
    """
    if level not in ("local", "global") or kind not in ("rationale", "critique", "refinement"):
        raise StudioError(
            f"Feedback is a rationale, critique or refinement, local or global; not {level!r:.30} {kind!r:.30}."
        )
    node = a_reply(studio, node_id)
    if dimension is not None:
        _of_level(dimension, level)
    place = spans.canonical(None if span is None else spans.checked(node, span, sizes(studio, node)))
    who, text = studio.config.annotator, checked_text(text, allow_empty=True)
    said = studio.store.words([node.id], who, round).get(node.id, [])
    same = [r for r in said if (r["level"], r["kind"], r["dimension"], r["span"]) == (level, kind, dimension, place)]
    before = same[-1]["text"] if same else ""
    if before == text:
        return None
    studio.store.say(node.id, level, kind, text, who, dimension, round, place)
    return Undo(f"{kind.capitalize()} {'saved' if text else 'taken away'}", "say",
                {"node": node.id, "level": level, "kind": kind, "text": before, "dimension": dimension, "span": span,
                 "round": round})  # fmt: skip


def sizes(studio: Studio, node: Node) -> dict[str, tuple[int, int]]:
    """Width and height in pixels of a message's pictures, by their hash."""
    rows = studio.store.images([p.image_sha256 for p in node.images if p.image_sha256])
    return {sha256: (r["width"], r["height"]) for sha256, r in rows.items()}


def _of_level(dimension: str, level: str) -> None:
    try:
        known = rubric.check(dimension, None)
    except rubric.JudgeError as error:
        raise StudioError(str(error)) from error
    if known.level != level:
        raise StudioError(f"{known.code} is a {known.level} dimension; this feedback is {level}. Choose another.")


def step(studio: Studio, leaf_id: str, node_id: str, reason: str | None, round: int = 1) -> Undo | None:
    """Mark a reply as a crucial step of the dialogue that ends at ``leaf_id``, and why (None: it is none; '': no reason given).

    Raises:
        StudioError: a question, a reply that grows, or a reply that is not on the way to that last one.
    """
    node, leaf = a_reply(studio, node_id), a_reply(studio, leaf_id)
    if node.id not in {n.id for n in studio.store.path(leaf.id)}:
        raise StudioError("This reply is not part of the dialogue that ends there. Open the dialogue that it is on.")
    who = studio.config.annotator
    before = studio.store.steps([leaf.id], who, round).get(leaf.id, {}).get(node.id)
    text = None if reason is None else checked_text(reason, allow_empty=True)
    if (before and before["reason"]) == text:
        return None
    studio.store.mark_step(leaf.id, node.id, text, who, round)
    said = "Unmarked a crucial step" if text is None else "Reason saved" if before else "Marked a crucial step"
    args = {"leaf": leaf.id, "node": node.id, "reason": before and before["reason"], "round": round}
    return Undo(said, "step", args)


def withdraw(studio: Studio, comparisons: list[str], item: str) -> None:
    """Take comparisons back and put their item at the head of its queue again."""
    studio.store.withdraw_comparisons([str(c) for c in comparisons])
    studio.store.reopen_item(item)


UNDOS: dict[str, Callable[[Studio, dict[str, Any]], object]] = {
    "restore": lambda studio, args: restore(studio, args["node"]),
    "prune": lambda studio, args: prune(studio, args["node"]),
    "restore_all": lambda studio, args: restore_all(studio, args["nodes"]),
    "rename": lambda studio, args: rename(studio, args["tree"], args["title"]),
    "rate": lambda studio, args: rate(
        studio, args["node"], args["dimension"], args["value"], int(args.get("round", 1))
    ),
    "say": lambda studio, args: say(
        studio,
        args["node"],
        args["level"],
        args["kind"],
        args["text"],
        args.get("dimension"),
        args.get("span"),
        int(args.get("round", 1)),
    ),
    "step": lambda studio, args: step(studio, args["leaf"], args["node"], args["reason"], int(args.get("round", 1))),
    "withdraw": lambda studio, args: withdraw(studio, args["comparisons"], args["item"]),
    "set_picture": lambda studio, args: placing.set_picture(
        studio, str(args["node"]), int(args["part"]), args["sha256"], str(args["caption"])
    ),
    "reopen": lambda studio, args: studio.store.reopen_item(args["item"]),
}


def undo(studio: Studio, act: str, args: dict[str, Any]) -> None:
    """Carry out an ``Undo``. Raises StudioError when it is none of ``UNDOS``, or what it names is not there."""
    try:
        UNDOS[act](studio, args)
    except KeyError as error:
        raise StudioError(f"This cannot be undone: {act!r:.40} lacks {error}.") from error
