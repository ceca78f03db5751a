"""Marking and judging: star, prune, restore, rename, rate, say; and taking such an act back."""

from __future__ import annotations

from typing import Any

from judge import rubric
from studio import StudioError
from studio.actions.asking import stop
from studio.actions.core import Studio, Undo, a_reply, checked_text


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


def say(studio: Studio, node_id: str, level: str, kind: str, text: str) -> None:
    """Keep language feedback on a reply or, with level 'global', on the dialogue it ends. Empty text takes it away."""
    if level not in ("local", "global") or kind not in ("rationale", "critique", "refinement"):
        raise StudioError(
            f"Feedback is a rationale, critique or refinement, local or global; not {level!r:.30} {kind!r:.30}."
        )
    a_reply(studio, node_id)
    studio.store.say(node_id, level, kind, checked_text(text, allow_empty=True), studio.config.annotator)


def withdraw(studio: Studio, comparisons: list[str], item: str) -> None:
    """Take comparisons back and put their item at the head of its queue again."""
    studio.store.withdraw_comparisons([str(c) for c in comparisons])
    studio.store.reopen_item(item)


UNDOS = {
    "restore": lambda studio, args: restore(studio, args["node"]),
    "prune": lambda studio, args: prune(studio, args["node"]),
    "rename": lambda studio, args: rename(studio, args["tree"], args["title"]),
    "rate": lambda studio, args: rate(
        studio, args["node"], args["dimension"], args["value"], int(args.get("round", 1))
    ),
    "withdraw": lambda studio, args: withdraw(studio, args["comparisons"], args["item"]),
    "reopen": lambda studio, args: studio.store.reopen_item(args["item"]),
}


def undo(studio: Studio, act: str, args: dict[str, Any]) -> None:
    """Carry out an ``Undo``. Raises StudioError when it is none of ``UNDOS``, or what it names is not there."""
    try:
        UNDOS[act](studio, args)
    except KeyError as error:
        raise StudioError(f"This cannot be undone: {act!r:.40} lacks {error}.") from error
