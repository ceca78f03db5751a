"""Pictures that replies ask for, as the page sees and calls them: how far each is, what it could be given, what is set.

Plain dicts; decides nothing. No name of a model that made or wrote something is shown where judging is blind: Annotate shows no
proposals at all.
"""

from __future__ import annotations

from typing import Any

from studio import imagetools, proposals, routing
from studio.actions import Studio, Undo, placing
from studio.store.proposals import BROKEN_OFF


def told(studio: Studio, proposal: str) -> dict[str, Any]:
    """How far a proposal is: ``id, state, note, doing``."""
    row, task = studio.store.proposal(proposal), proposals.of(studio).task(proposal)
    if row["state"] == "running" and task is None:  # from another studio's file
        return {"id": row["id"], "state": "failed", "note": BROKEN_OFF, "doing": ""}
    steps = f"step {task.done} of {task.total}" if task and task.total and task.done else task.note if task else ""
    return {"id": row["id"], "state": row["state"], "note": row["note"], "doing": steps}


def options(studio: Studio, node_id: str, place: int, caption: str, source: str | None) -> dict[str, Any]:
    """What a token can be given: ``tools`` (what each lacks, '' nothing), ``earlier`` pictures, ``hits`` of the folders, the
    ``models`` that draw, and ``how`` an edit would be done."""
    node = studio.store.node(node_id)
    before = imagetools.earlier(studio, node, place)
    if not source and before:
        meant = routing.referred(caption, before)
        source = meant.sha256 or imagetools.source_of(studio, node_id, {"after": meant.place})
    seen = {
        e.sha256: {"sha256": e.sha256, "caption": e.caption, "thumb": f"/thumb/{e.sha256}"} for e in before if e.sha256
    }
    hits = [{k: hit[k] for k in ("id", "caption", "name", "thumb")} for hit in imagetools.found(studio, caption)]
    return {"tools": {t: imagetools.lacks(studio, t, caption, source) for t in routing.TOOLS}, "earlier": list(seen.values()), "hits": hits,
            "models": [name for name, _ in imagetools.painters(studio, "generate", "instruct", "edit")], "source": source,
            "how": imagetools.how(studio, "edit", caption, source)}  # fmt: skip


def settings(studio: Studio) -> dict[str, Any]:
    """How pictures are made, who may decide, and what the tools lack."""
    now = studio.config.image_tools
    return {"by_itself": bool(now.get("by_itself")), "model": str(now.get("model") or ""), "models": [m.name for m in studio.config.models],
            "lacks": {t: imagetools.lacks(studio, t, "", "" if t == "edit" else None) for t in routing.TOOLS}}  # fmt: skip


def _done(undo: Undo | None) -> dict[str, Any]:
    return {"undo": {"label": undo.label, "act": undo.act, "args": undo.args}} if undo else {}


def _accept(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    undo = proposals.accept(studio, str(data["proposal"]), data.get("changes"))
    now = told(studio, undo.args["proposal"])
    return now if now["state"] == "failed" else _done(undo) | now


def _back(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    proposals.back(studio, str(data["proposal"]))
    return {"saved": True}


def _options(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return options(studio, str(data["node"]), int(data["place"]), str(data["caption"])[:1000], data.get("source"))


def _attach(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return _done(
        proposals.attach(
            studio, str(data["node"]), int(data["place"]), str(data["sha256"]), str(data.get("caption") or "")
        )
    )


def _picture(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return _done(
        placing.set_picture(
            studio, str(data["node"]), int(data["part"]), data.get("sha256"), str(data.get("caption") or "")
        )
    )


def _without(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    place, part = (None if data.get(k) is None else int(data[k]) for k in ("place", "part"))
    return {"reply": placing.without(studio, str(data["node"]), place, part)}


def _choose(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    proposals.choose(studio, bool(data["by_itself"]), str(data.get("model") or ""))
    return settings(studio)


CALLS = {
    "proposal_make": lambda studio, data: told(
        studio, proposals.propose(studio, str(data["node"]), int(data["place"]))
    ),
    "proposal_accept": _accept,
    "proposal_refuse": lambda studio, data: _done(proposals.refuse(studio, str(data["proposal"]))),
    "proposal_back": _back,
    "proposal_poll": lambda studio, data: {"proposals": [told(studio, str(i)) for i in data["proposals"][:64]]},
    "proposal_options": _options,
    "proposal_attach": _attach,
    "proposal_picture": _picture,
    "proposal_without": _without,
    "proposal_settings": lambda studio, data: settings(studio),
    "proposal_choose": _choose,
}
