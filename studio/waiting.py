"""A question sent while a reply grows waits under it, in the store, and is asked as soon as that reply has ended.

Owns the thread that asks. Nothing is asked by itself after a failure or a stop: then it is held until the person says so, and
told why. A question is claimed before it is asked, so that two tabs, or a kill in between, never ask it twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from backends import BackendError, Options
from studio import StudioError, actions, markdown, steering
from studio.actions import Ask, Studio, Undo
from studio.actions.asking import chosen, own_model, question_parts
from studio.actions.core import checked_text
from studio.live import Growing
from studio.store.waiting import OPEN
from studio.tree import Part

MOST = 20  # waiting under one reply
SETTLE_S, POLL_S = 5.0, 0.02
EDITED = "You were changing this. Ask it now, or take it back."
STOPPED = "The reply above was stopped, so this was not asked. Ask it now, change it, or take it back."
FAILED = "The reply above failed, so this was not asked. Ask it now, change it, or take it back."
PRUNED = "The branch above was pruned, so this was not asked. Restore the branch and ask it, or take it back."
CLOSED = "The studio was closed while this was being asked. See whether it is there already; else ask it now."
log = logging.getLogger(__name__)


class Waiting:
    """The thread that asks what waited: started with the first question that waits."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._ended: SimpleQueue[str | None] = SimpleQueue()
        self._replies: set[str] = set()  # that something waits for
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        studio.live.watchers.append(self._watch)

    def add(self, tree_id: str, reply_id: str, parts: list[dict[str, Any]], how: dict[str, Any]) -> str:
        """Put a question down. Raises StudioError when too many wait already."""
        if len(self.studio.store.waiting([reply_id])) >= MOST:
            raise StudioError(f"{MOST} questions wait for this reply already. Wait until it is done, or take one back.")
        self._replies.add(reply_id)  # first: the reply may end at any moment
        waiting_id = self.studio.store.add_waiting(tree_id, reply_id, parts, how)
        self.look(reply_id)
        return waiting_id

    def look(self, reply_id: str) -> None:
        """See in the thread whether what waits for this reply can be asked; returns at once."""
        with self._lock:
            self._replies.add(reply_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="waiting", daemon=True)
                self._thread.start()
        self._ended.put(reply_id)

    def recover(self) -> None:
        """Take up what an earlier run left. Call once, after ``store.recover``, before anybody asks."""
        for row in self.studio.store.waiting_in(["asking"]):
            self.studio.store.change_waiting(row["id"], only=["asking"], state="held", note=CLOSED)
        for row in self.studio.store.waiting_in(["waiting"]):
            self.look(row["reply_id"])

    def settle(self, tree_id: str) -> None:
        """Wait until nothing in this tree is about to be asked."""
        deadline, node = time.monotonic() + SETTLE_S, self.studio.store.node
        while time.monotonic() < deadline:
            due = [r for r in self.studio.store.waiting_in(["waiting", "asking"]) if r["tree_id"] == tree_id]
            if all(r["state"] == "waiting" and node(r["reply_id"]).status == "streaming" for r in due):
                return
            time.sleep(POLL_S)

    def close(self) -> None:
        """End the thread; what waits stays in the store."""
        self._ended.put(None)
        if self._thread:
            self._thread.join(SETTLE_S)

    # ---- inside the thread

    def _watch(self, run: Growing) -> None:
        if run.over and run.node_id in self._replies:
            self._ended.put(run.node_id)

    def _work(self) -> None:
        while (reply_id := self._ended.get()) is not None:
            try:
                self._look(reply_id)
            except StudioError as error:  # a full disk, say: it still waits, and the next start looks again
                log.error("what waits for %s was not asked: %s", reply_id, error)

    def _look(self, reply_id: str) -> None:
        store = self.studio.store
        rows, path = store.waiting([reply_id], ["waiting"]), store.path(reply_id)
        if not rows or path[-1].status == "streaming":
            return
        self._replies.discard(reply_id)
        why = {"stopped": STOPPED, "failed": FAILED}.get(path[-1].status, "")
        why = PRUNED if any(n.pruned_at for n in path) else why
        if not why:
            self.send(rows[0]["id"])
            return
        for row in rows:
            store.change_waiting(row["id"], only=["waiting"], state="held", note=why)

    def send(self, waiting_id: str) -> list[str]:
        """Ask one question now; what waits behind it goes on waiting under the new replies, whose ids are returned."""
        store = self.studio.store
        if not store.change_waiting(waiting_id, only=OPEN, state="asking", note=""):
            return []
        [row] = store.waiting_by_id([waiting_id])
        try:
            how, parts = _ask(row["how"]), [Part(**p) for p in row["parts"]]
            text = "".join(p.text for p in parts if p.kind == "text")
            replies = actions.ask(self.studio, [row["reply_id"]], text, [p for p in parts if p.kind == "image"], how)
        except (StudioError, BackendError) as error:
            store.change_waiting(waiting_id, only=["asking"], state="held", note=str(error))
            return []
        store.change_waiting(waiting_id, only=["asking"], state="asked", replies=replies)
        for later in store.waiting([row["reply_id"]]):
            if later["id"] > waiting_id:
                self._follow_on(later, replies)
        return replies

    def _follow_on(self, row: dict[str, Any], replies: list[str]) -> None:
        """Let a question wait under each of these replies, with the model of each where there are several."""
        for i, reply in enumerate(replies):
            how = row["how"]
            if len(replies) > 1:
                how = how | {"models": [self.studio.store.node(reply).model], "replies": 1}
            if i == 0:
                self.studio.store.change_waiting(row["id"], only=OPEN, reply_id=reply, how=how)
            else:
                self.studio.store.add_waiting(row["tree_id"], reply, row["parts"], how)
            self.look(reply)


def of(studio: Studio) -> Waiting:
    """The one of this studio."""
    worker = studio.workers.get("waiting") or studio.workers.setdefault("waiting", Waiting(studio))
    return cast(Waiting, worker)


def ask(studio: Studio, lanes: Sequence[str], text: str, images: Sequence[Path | Part], how: Ask,
        best: Mapping[str, Any] | None = None) -> list[str]:  # fmt: skip
    """Ask under lanes that are whole, and wait under those that grow; returns the lanes to show.

    Raises:
        StudioError: as ``steering.ask`` does, or best of n under a reply that grows; nothing is kept then.
    """
    growing = [n for n in map(studio.store.node, lanes) if n.role == "assistant" and n.status == "streaming"]
    if not growing:
        return steering.ask(studio, lanes, text, images, how, best)
    if best:
        raise StudioError("Best of n cannot wait: the reply above still grows. Wait for it, or switch best of n off.")
    specs = chosen(studio, how)
    parts = [asdict(p) for p in question_parts(studio, text, images)]
    shown = dict[str, list[str]]()
    for node in growing:
        own = how if len(lanes) == 1 else replace(how, models=(own_model(studio, node, specs[0]).name,), replies=1)
        of(studio).add(node.tree_id, node.id, parts, asdict(own))
        shown[node.id] = [node.id]
    pictures = [Part(**p) for p in parts if p["kind"] == "image"]
    for lane in (lane for lane in lanes if lane not in shown):
        own = replace(how, models=(own_model(studio, studio.store.node(lane), specs[0]).name,), replies=1)
        shown[lane] = actions.ask(studio, [lane], text, pictures, own)
    return [reply for lane in lanes for reply in shown[lane]]


def follow(studio: Studio, tree_id: str) -> Iterator[tuple[list[Growing], bool]]:
    """``live.follow``, and on with what is asked when those end; the flag: nothing more will come."""
    seen: dict[str, Growing] = {}
    while True:
        for runs in studio.live.follow(tree_id):
            seen |= {r.node_id: r for r in runs}
            if not all(r.over for r in runs):
                yield list(seen.values()), False
        of(studio).settle(tree_id)
        if not studio.live.growing(tree_id):
            yield list(seen.values()), True
            return


def moved(studio: Studio, lanes: Sequence[str], known: Sequence[str]) -> list[str]:
    """The lanes, each of which ends at a reply that one of the ``known`` questions waited for gone on to its replies."""
    went = {r["reply_id"]: r["replies"] for r in studio.store.waiting_by_id(known, ["asked"]) if r["replies"]}
    found: list[str] = []
    for lane in lanes:
        on = [lane]
        while any(reply in went for reply in on):  # several may have been asked one after the other
            on = [new for reply in on for new in went.get(reply, [reply])]
        found += on
    return found


def shown(studio: Studio, node_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a page shows of the questions that wait for these replies."""
    return [
        {
            "id": row["id"], "reply": row["reply_id"], "state": row["state"], "note": row["note"], "models": row["how"]["models"],
            "replies": row["how"]["replies"], "text": (text := "".join(p["text"] for p in row["parts"] if p["kind"] == "text")),
            "html": markdown.render(text), "images": [p["image_sha256"] for p in row["parts"] if p["kind"] == "image"],
        }
        for row in studio.store.waiting(node_ids, [*OPEN, "asking"])
    ]  # fmt: skip


# ---- what the person does with one


def hold(studio: Studio, waiting_id: str) -> dict[str, Any]:
    """Keep a question from being asked while somebody changes it. Raises StudioError when it was asked meanwhile."""
    if not studio.store.change_waiting(waiting_id, only=OPEN, state="held", note=EDITED):
        raise _gone()
    return {"saved": True}


def edit(studio: Studio, waiting_id: str, text: str, again: bool) -> dict[str, Any]:
    """Save the words of a question; ``again``: it waits on, or is asked if its reply has ended as it should.

    Raises:
        StudioError: nothing written, too long, or it was asked meanwhile.
    """
    row = _open(studio, waiting_id)
    pictures = [p for p in row["parts"] if p["kind"] == "image"]
    words = checked_text(text, allow_empty=bool(pictures))
    parts = [*([asdict(Part("text", words))] if words else []), *pictures]
    changes: dict[str, Any] = {"state": "waiting", "note": ""} if again else {}
    if not studio.store.change_waiting(waiting_id, only=OPEN, parts=parts, **changes):
        raise _gone()
    if again:
        of(studio).look(row["reply_id"])
    return {"saved": True}


def take(studio: Studio, waiting_id: str) -> Undo:
    """Take a question back, unasked. Raises StudioError when it was asked meanwhile."""
    if not studio.store.change_waiting(waiting_id, only=OPEN, state="taken"):
        raise _gone()
    return Undo("Took the question back", "waiting_back", {"waiting": waiting_id})


def give_back(studio: Studio, waiting_id: str) -> None:
    """Let a question that was taken back wait again."""
    if studio.store.change_waiting(waiting_id, only=["taken"], state="waiting", note=""):
        [row] = studio.store.waiting_by_id([waiting_id])
        of(studio).look(row["reply_id"])


def ask_now(studio: Studio, waiting_id: str) -> dict[str, Any]:
    """Ask what was held, by the person's own word; returns its replies. Under a reply that grows it waits again.

    Raises:
        StudioError: it was asked meanwhile, or why it cannot be asked; it is still held then.
    """
    row = _open(studio, waiting_id)
    if studio.store.node(row["reply_id"]).status == "streaming":
        studio.store.change_waiting(waiting_id, only=OPEN, state="waiting", note="")
        of(studio).look(row["reply_id"])
        return {"replies": []}
    replies = of(studio).send(waiting_id)
    if not replies:
        raise StudioError(next((r["note"] for r in studio.store.waiting_by_id([waiting_id], OPEN)), str(_gone())))
    return {"replies": replies}


CALLS = {
    "waiting_hold": lambda studio, data: hold(studio, str(data["id"])),
    "waiting_edit": lambda studio, data: edit(studio, str(data["id"]), str(data["text"]), bool(data["again"])),
    "waiting_take": lambda studio, data: {"undo": asdict(take(studio, str(data["id"])))},
    "waiting_ask": lambda studio, data: ask_now(studio, str(data["id"])),
}


def _open(studio: Studio, waiting_id: str) -> dict[str, Any]:
    for row in studio.store.waiting_by_id([waiting_id], OPEN):
        return row
    raise _gone()


def _gone() -> StudioError:
    return StudioError("This question does not wait any more: it was asked or taken back. Look below the reply.")


def _ask(kept: dict[str, Any]) -> Ask:
    known = {f.name for f in fields(Options)}
    options: dict[str, Any] = {
        k: tuple(v) if k == "stop_strings" else v for k, v in kept["options"].items() if k in known
    }
    return Ask(tuple(kept["models"]), int(kept["replies"]), Options(**options), str(kept["system"]))
