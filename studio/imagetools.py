"""The three image tools as a message uses them: what each has to work with, what it lacks, and a picture made with one.

Joins folders, edits and painters behind one call. Never shows a picture that no tool made: what is missing is said instead.
"""

from __future__ import annotations

import contextlib
from typing import Any

from backends import BackendError, images
from studio import StudioError, generating, pictures, retrieving, routing, tokens
from studio.actions import Studio
from studio.background import Task
from studio.tree import Node

SHOWN = 8  # pictures of the folders to choose from
POLL_S = 0.1  # how soon a wait for a drawing sees that it was cancelled
NO_FOLDER = "No folder with pictures is on the list. “Find a picture” above the message adds one."
NO_SOURCE = "No picture stands before it that could be edited. Attach one by hand, or choose another tool."
NOT_YET = "The picture that this one changes is not there yet. Accept that one first, or choose another with Change."
NO_EDITOR = (
    "Such a change needs a model that edits, and none is set up. Edit the picture by hand and attach the result, or add a model on "
    "Settings."
)


def earlier(studio: Studio, node: Node, place: int) -> list[routing.Earlier]:
    """The pictures before a token, the oldest first: on its path, in its own message, and those that tokens there ask for."""
    above = [p for n in studio.store.path(node.id)[:-1] for p in n.parts]
    found = [routing.Earlier(p.image_sha256, p.caption) for p in above if p.kind == "image" and p.image_sha256]
    spots = tokens.spots(node.parts)
    here = next((s.part for s in spots if s.place == place), len(node.parts))
    waiting = {s.place for s in tokens.matched(node.parts).open if s.place < place}
    for i, p in enumerate(node.parts[: here + 1]):
        if p.kind == "text":
            found += [routing.Earlier("", s.caption, s.place) for s in spots if s.part == i and s.place in waiting]
        elif p.image_sha256 and i < here:
            found.append(routing.Earlier(p.image_sha256, p.caption))
    return found


def source_of(studio: Studio, node_id: str, params: dict[str, Any]) -> str | None:
    """The picture that an edit starts from: the one that was chosen, or what came of the token ``after`` which it is; None: nothing
    came of that yet."""
    if params.get("source") or params.get("after") is None:
        return params.get("source")
    spots = tokens.spots(studio.store.node(node_id).parts)
    placed = next((s.image for s in spots if s.place == params["after"]), None)
    row = studio.store.proposals([node_id]).get(node_id, {}).get(params["after"])
    return placed or (row["image_sha256"] if row and row["state"] == "done" else None)


def found(studio: Studio, caption: str) -> list[dict[str, Any]]:
    """The best pictures of the folders for a caption, as ``Retriever.search`` tells them; none without folders."""
    own = retrieving.of(studio)
    return own.search(caption).hits[:SHOWN] if own.index.folders() else []


def best(studio: Studio, caption: str) -> routing.Hit | None:
    """The best picture of the folders for a caption; None when there is none, or it cannot be looked for."""
    with contextlib.suppress(StudioError, BackendError):  # the proposal does not need it
        for hit in found(studio, caption):
            return routing.Hit(hit["id"], hit["caption"] or hit["name"], hit["meaning"])
    return None


def painters(studio: Studio, *tasks: str) -> list[tuple[str, str]]:
    """The image models that can do one of these tasks, each with the first of them that it can."""
    able = [m for m in generating.state(studio)["models"] if not m["problem"]]
    return [(m["name"], next(t for t in tasks if t in m["tasks"])) for m in able if set(tasks) & set(m["tasks"])]


def drawn(tool: str, caption: str) -> bool:
    """Whether a model draws the picture, which takes its time; else folders or plain edits give it at once."""
    plain = bool(routing.edits_for(caption, 2, 2)) or routing.unchanged(caption)
    return tool == "generate" or (tool == "edit" and not plain)


def lacks(studio: Studio, tool: str, caption: str, source: str | None) -> str:
    """Why a tool cannot make this picture now, and what would help; '' when it can. ``source`` '': a picture yet to come."""
    if tool == "generate" and not painters(studio, "generate"):
        broken = [m["problem"] for m in generating.state(studio)["models"] if m["problem"]]
        return broken[0] if broken else generating.NONE
    if tool == "edit" and source is None:
        return NO_SOURCE
    if tool == "edit" and drawn(tool, caption) and not painters(studio, "instruct", "edit"):
        return NO_EDITOR
    own = retrieving.of(studio)
    if tool == "retrieve" and not own.index.folders() and own.provider is None:
        return NO_FOLDER
    return ""


def how(studio: Studio, tool: str, caption: str, source: str | None) -> str:
    """What an edit will do, in a few words, where that is known before."""
    if tool != "edit" or source is None:
        return ""
    if edits := _edits(studio, caption, source):
        return "; ".join(images.words(edit) for edit in images.checked_all(edits))
    return "the same picture again" if routing.unchanged(caption) else ""


def make(studio: Studio, row: dict[str, Any], task: Task, alone: bool) -> str:
    """The picture of a proposal, made with its tool; returns the hash. ``alone``: nobody looks, so only folders are searched,
    never the web, and what they have must be close.

    Raises:
        StudioError: the tool lacks something, found nothing, or was cancelled. BackendError: as it fails.
    """
    caption, params = row["caption"], row["params"]
    source = _waited(studio, row, task) if row["tool"] == "edit" else None
    if why := lacks(studio, row["tool"], caption, source):
        raise StudioError(why)
    if row["tool"] == "retrieve":
        return _retrieved(studio, caption, params.get("hit"), alone)
    if source and not drawn("edit", caption):
        edits = _edits(studio, caption, source)
        return pictures.apply_to(studio, source, edits) if edits else source
    tasks = ("generate",) if row["tool"] == "generate" else ("instruct", "edit")
    able = painters(studio, *tasks)
    model, doing = next((p for p in able if p[0] == params.get("model")), able[0])
    return _drawn(studio, model, doing, caption, source, task)


def _waited(studio: Studio, row: dict[str, Any], task: Task) -> str | None:
    """The picture that an edit starts from, once what is making it is over. Raises StudioError when nothing came of it."""
    node, after = row["node_id"], row["params"].get("after")
    while (source := source_of(studio, node, row["params"])) is None and after is not None:
        other = studio.store.proposals([node]).get(node, {}).get(after)
        if other is None or other["state"] != "running" or task.stop.wait(POLL_S):
            raise StudioError(NOT_YET)
    return source


def _retrieved(studio: Studio, caption: str, hit: int | None, alone: bool) -> str:
    own = retrieving.of(studio)
    if hit is None and own.index.folders():
        one = best(studio, caption)
        if alone and one and not routing.close(caption, one):
            raise StudioError(
                f"The best picture of the folders, “{one.caption[:80]}”, is not close. Choose one with Change."
            )
        hit = one.id if one else None
    if hit is not None:
        return str(own.take(hit, caption, "both")["sha256"])
    hits = own.search_web(caption).hits if own.provider and not alone else []
    if not hits:
        raise StudioError("No folder has a picture for these words. Change the words, or choose another tool.")
    return str(own.take(hits[0]["id"], caption, "web")["sha256"])


def _drawn(studio: Studio, model: str, doing: str, caption: str, source: str | None, task: Task) -> str:
    run = generating.start(studio, model, doing, caption, source=source)
    while not run.task.over:
        if task.stop.is_set():
            run.task.stop.set()
        told = run.told()
        task.done, task.total, task.note = told["step"], told["steps"] or None, told["state"]
        run.wait(POLL_S)
    if task.stop.is_set():
        raise StudioError("Cancelled.")
    if not run.pictures:
        raise StudioError(run.task.error or f"{model} made no picture. Run it again.")
    return run.pictures[0]


def _edits(studio: Studio, caption: str, source: str | None) -> list[dict[str, Any]]:
    row = studio.store.images([source]).get(source) if source else None
    return routing.edits_for(caption, row["width"], row["height"]) if row else []
