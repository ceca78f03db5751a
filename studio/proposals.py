"""Pictures that replies ask for, from the token to the picture in its place: proposed as the reply streams, then accepted, changed
or refused by a person, or run by themselves where that is switched on.

Owns the thread that reads what was saved of growing replies, and the runs. The truth is in the store: a page, a studio or a run may
end at any moment, and the token or the picture is still there.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import replace
from typing import Any

from backends import BackendError
from backends import Image as Picture
from studio import StudioError, config, imagetools, routing, tokens
from studio.actions import Studio, Undo, placing
from studio.actions.core import not_growing
from studio.background import Background, Task
from studio.live import Growing
from studio.tree import Node

QUICK_S = 1.5  # so long an answer waits for what is quick, so that the picture comes with it
UNFORESEEN = "Something unforeseen went wrong; the terminal shows what. Run it again."
DECIDED = "This was decided already, perhaps in another window. Reload the page."
VERB = {"generate": "Generate", "edit": "Edit", "retrieve": "Find", "attach": "Attach"}
log = logging.getLogger(__name__)
_opening = threading.Lock()


def of(studio: Studio) -> Proposer:
    """The one of this run of the studio; from its first use on it watches what replies ask for."""
    with _opening:
        found = studio.workers.get("proposals")
        if found is None:
            found = studio.workers["proposals"] = Proposer(studio)
    assert isinstance(found, Proposer)
    return found


class Proposer:
    """What one run of the studio keeps for this: the thread that proposes, and the tasks that make pictures."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._tasks = {slow: Background() for slow in (True, False)}  # a search need not wait for a drawing
        self._seen: dict[str, int] = {}
        self._looks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        studio.store.break_off()
        studio.live.watchers.append(self._saved)
        self._thread = threading.Thread(target=self._work, name="proposals", daemon=True)
        self._thread.start()

    @property
    def by_itself(self) -> bool:
        """Whether pictures are made without asking."""
        return bool(self.studio.config.image_tools.get("by_itself"))

    def close(self) -> None:
        """Stop proposing and end the runs; those are told as broken off at the next start."""
        self._stop.set()
        self.studio.live.watchers.remove(self._saved)
        self._looks.put(None)
        for tasks in self._tasks.values():
            tasks.close()
        self._thread.join(5)

    # ---- while replies grow

    def _saved(self, run: Growing) -> None:
        """Something of a reply was saved: look at it when a token came, and once more when it is whole."""
        count = len(tokens.find(run.text))
        if count > self._seen.get(run.node_id, 0) or (run.over and run.node_id in self._seen):
            self._seen[run.node_id] = count
            self._looks.put(run.node_id)
        if run.over:
            self._seen.pop(run.node_id, None)

    def _work(self) -> None:
        while (node_id := self._looks.get()) is not None and not self._stop.is_set():
            try:
                self.look(node_id)
            except (StudioError, BackendError) as error:  # one reply less; its tokens can still be proposed by hand
                log.warning("pictures of %s were not proposed: %s", node_id, error)

    def look(self, node_id: str) -> None:
        """Propose a tool for every token of a message that has neither a picture nor a proposal, and run it where that is
        switched on; put pictures that were made while the reply grew into their places."""
        node = self.studio.store.node(node_id)
        known = self.studio.store.proposals([node_id]).get(node_id, {})
        for spot in tokens.matched(node.parts).open:
            if spot.place not in known:
                proposal = self.propose(node, spot)
                if self.by_itself and not self.studio.store.proposal(proposal)["note"]:  # else something is lacking
                    self.run(proposal, alone=True)
        self.settle(node_id)

    def settle(self, node_id: str) -> None:
        """Put the pictures that are made into the places of their tokens, unless the message still grows."""
        with self.studio.store.write():  # two runs may end at once
            node = self.studio.store.node(node_id)
            if node.status == "streaming":
                return
            free = {s.place for s in tokens.spots(node.parts) if not s.image}
            for place, row in self.studio.store.proposals([node_id]).get(node_id, {}).items():
                if row["state"] == "done" and place in free:
                    placing.place(self.studio, node_id, place, row["image_sha256"], row["caption"])

    def propose(self, node: Node, spot: tokens.Spot) -> str:
        """Keep what the router says of a token; returns the proposal's id."""
        before, hit = imagetools.earlier(self.studio, node, spot.place), imagetools.best(self.studio, spot.caption)
        call = self._call(node, spot)
        route = routing.by_rules(spot.caption, before, hit, call)
        if (model := self.studio.config.image_tools.get("model")) and not call:
            try:
                chat = self.studio.pool.get(self.studio.config.model(model))
                route = routing.by_model(model, chat, spot.caption, before, hit, threading.Event())
            except (StudioError, BackendError) as error:
                route = replace(route, why=f"{route.why}. By the rules: {error}"[:400])
        params: dict[str, Any] = {}
        if route.source:
            params = {"source": route.source.sha256} if route.source.sha256 else {"after": route.source.place}
        params |= {"hit": hit.id} if hit and route.tool == "retrieve" and routing.close(spot.caption, hit) else {}
        note = imagetools.lacks(self.studio, route.tool, spot.caption, route.source.sha256 if route.source else None)
        return self.studio.store.propose(
            node.id, spot.place, spot.caption, route.tool, route.decided_by, route.why, params, note
        )

    def _call(self, node: Node, spot: tokens.Spot) -> routing.Call | None:
        """The tool that the model called for this token: the first of its calls with this caption that no token before has."""
        growing = {r.node_id: r.facts for r in self.studio.live.growing(node.tree_id)}
        # one that is over by now was saved with its facts
        facts = growing.get(node.id) or self.studio.store.node(node.id).params
        calls = facts.get("image_calls") or []
        before = sum(s.caption == spot.caption and s.place < spot.place for s in tokens.spots(node.parts))
        mine = [c for c in calls if c["caption"] == spot.caption][before : before + 1]
        return routing.Call(mine[0]["tool"], mine[0]["caption"], mine[0]["picture"]) if mine else None

    # ---- running

    def run(self, proposal: str, alone: bool = False) -> Task:
        """Begin to make the picture of a proposal. Raises StudioError when it is at work, done or refused already."""
        row = self.studio.store.proposal(proposal)
        if not self.studio.store.turn_proposal(proposal, "running", ("proposed", "failed")):
            raise StudioError(DECIDED)
        slow = imagetools.drawn(row["tool"], row["caption"])
        try:
            return self._tasks[slow].start(proposal, row["caption"][:80], lambda task: self._make(task, row, alone))
        except StudioError:  # one that was cancelled has not ended yet
            self.studio.store.turn_proposal(proposal, "proposed", ("running",))
            raise

    def _make(self, task: Task, row: dict[str, Any], alone: bool) -> None:
        note = UNFORESEEN  # what is left if something else than the person's errors is raised; the terminal has the traceback
        try:
            made = imagetools.make(self.studio, row, task, alone)
            doubt = self._doubt(row["caption"], made, task) if alone else ""
            note = ""
            self._made(row, made, doubt)
        except (StudioError, BackendError) as error:
            note = str(error)
        finally:
            if note:
                self.studio.store.turn_proposal(row["id"], "failed", ("running",), note)

    def _made(self, row: dict[str, Any], sha256: str, doubt: str) -> None:
        """Keep what came of a run, and put it in its place, or wait for a person where there is doubt, or for the reply's end."""
        if doubt:
            self.studio.store.turn_proposal(row["id"], "proposed", ("running",), doubt, sha256)
        elif self.studio.store.turn_proposal(row["id"], "done", ("running",), "", sha256):
            self.settle(row["node_id"])

    def _doubt(self, caption: str, sha256: str, task: Task) -> str:
        """What the model that checks has against a picture; '' when nothing, or there is no such model."""
        model, path = self.studio.config.image_tools.get("model"), self.studio.media.path(sha256)
        if not model or path is None:
            return ""
        row = self.studio.store.images([sha256])[sha256]
        try:
            chat = self.studio.pool.get(self.studio.config.model(model))
            fits, why = routing.verified(
                model, chat, caption, Picture(path, row["mime"], row["prompt"] or ""), task.stop
            )
        except (StudioError, BackendError) as error:
            return f"It was made, and not checked: {error}"
        return "" if fits else f"{model} says that it does not fit: {why or 'no reason given'}"

    def task(self, proposal: str) -> Task | None:
        """The run of a proposal, under way or over."""
        return next((t for tasks in self._tasks.values() for t in tasks.tasks() if t.key == proposal), None)

    def cancel(self, proposal: str) -> None:
        """Ask the run of a proposal to stop."""
        for tasks in self._tasks.values():
            tasks.cancel(proposal)


# ---- what a person does


def propose(studio: Studio, node_id: str, place: int) -> str:
    """Propose a tool for a token, again or for the first time; returns the proposal's id."""
    node = studio.store.node(node_id)
    return of(studio).propose(node, _spot(node, place))


def accept(studio: Studio, proposal: str, changes: dict[str, Any] | None = None) -> Undo:
    """Make the picture of a proposal, with what the person changed (``tool, caption, source, hit, model``), and put it in the place
    of the token. One that is made already only goes there. What is quick is over when this returns.

    Raises:
        StudioError: it was decided already, or no such tool or picture.
    """
    row = studio.store.proposal(proposal)
    changed = {k: v for k, v in (changes or {}).items() if v not in (None, "")}
    if changed:
        row = studio.store.proposal(_changed(studio, row, changed))
    undo = Undo(f"{VERB[row['tool']]}: {row['caption'][:60]}", "proposal_back", {"proposal": row["id"]})
    if row["image_sha256"] and not changed:
        if not studio.store.turn_proposal(row["id"], "done", ("proposed",)):
            raise StudioError(DECIDED)
        of(studio).settle(row["node_id"])
    else:
        task = of(studio).run(row["id"])
        task.ended.wait(QUICK_S)
    return undo


def refuse(studio: Studio, proposal: str) -> Undo:
    """No picture for this token. Raises StudioError when it was decided already."""
    of(studio).cancel(proposal)
    if not studio.store.turn_proposal(proposal, "refused", ("proposed", "failed", "running")):
        raise StudioError(DECIDED)
    return Undo("Refused a picture", "proposal_back", {"proposal": proposal})


def back(studio: Studio, proposal: str) -> None:
    """Undo: the token stands in its place again and the proposal is open. A picture that was made stays with it."""
    row = studio.store.proposal(proposal)
    of(studio).cancel(proposal)
    with studio.store.write():
        turned = studio.store.turn_proposal(proposal, "proposed", ("running", "done", "refused", "failed"))
        if turned and studio.store.node(row["node_id"]).status != "streaming":
            placing.give_back(studio, row["node_id"], row["place"])


def attach(studio: Studio, node_id: str, place: int, sha256: str, caption: str = "") -> Undo:
    """Put a stored picture that a person chose in the place of a token. Raises StudioError when there is none, of either."""
    node = studio.store.node(node_id)
    not_growing(node)
    spot = _spot(node, place)
    if sha256 not in studio.store.images([sha256]):
        raise StudioError(f"No picture has the hash {sha256[:16]!r} here. Add it again, or choose another.")
    caption = tokens.without_signs(caption) or spot.caption
    with studio.store.write():
        proposal = studio.store.propose(node_id, place, caption, "attach", "person", "Attached by hand")
        studio.store.turn_proposal(proposal, "done", ("proposed",), "", sha256)
        placing.place(studio, node_id, place, sha256, caption)
    return Undo(f"Attached: {caption[:60]}", "proposal_back", {"proposal": proposal})


def choose(studio: Studio, by_itself: bool, model: str) -> None:
    """Set whether pictures are made without asking, and which model of the list decides and checks ('': the rules alone)."""
    if model:
        studio.config.model(model)
    config.set_image_tools(studio.config.home, by_itself, model)
    studio.config = replace(studio.config, image_tools={"by_itself": by_itself, "model": model})


# ---- inside


def _spot(node: Node, place: int) -> tokens.Spot:
    spot = next((s for s in tokens.spots(node.parts) if s.place == place and not s.image), None)
    if spot is None:
        raise StudioError("No token stands there any more. Reload the page.")
    return spot


def _changed(studio: Studio, row: dict[str, Any], changed: dict[str, Any]) -> str:
    """A new proposal with what a person changed, in the place of the old one."""
    tool, source = str(changed.get("tool") or row["tool"]), changed.get("source")
    if tool not in routing.TOOLS:
        raise StudioError(f"No tool is called {tool!r:.40}. Choose generate, edit or retrieve.")
    if source and source not in studio.store.images([source]):
        raise StudioError(f"No picture has the hash {str(source)[:16]!r} here. Choose another.")
    caption = tokens.without_signs(str(changed.get("caption") or row["caption"]))
    params = {"source": str(source or row["params"].get("source") or "") or None, "model": changed.get("model")}
    params |= {} if params["source"] or tool != "edit" else {"after": row["params"].get("after")}
    params |= {"hit": int(changed["hit"])} if tool == "retrieve" and "hit" in changed else {}
    params = {k: v for k, v in params.items() if v is not None}
    with studio.store.write():
        if studio.store.proposal(row["id"])["state"] not in ("proposed", "failed", "refused"):
            raise StudioError(DECIDED)
        return studio.store.propose(row["node_id"], row["place"], caption, tool, "person", "You chose it", params)
