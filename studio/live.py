"""Replies that are growing: one thread for those that are written together, each saved before it is shown.

Owns the threads and their stop events. Never knows who watches: a browser may come and go.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from backends import Backend, BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from studio import StudioError
from studio.media import Media
from studio.store import Store
from studio.tree import Part

SAVE_EVERY_S = 0.08  # what is shown is what was saved, so this is also the pace of the screen
log = logging.getLogger(__name__)


@dataclass
class Growing:
    """One reply on its way. ``phase``: those of ``Delta`` (``told``: how far), writing, thinking, then done | stopped | failed.

    ``text`` and ``reasoning`` are what was saved; ``came`` and ``thought`` what the model has sent; ``pictures`` it made, each
    with the number of characters before it; ``facts`` go into the node's params. Times in milliseconds.
    """

    node_id: str
    tree_id: str
    model: str
    text: str = ""
    reasoning: str = ""
    phase: str = "loading"
    told: str = ""
    error: str | None = None
    tokens: int = 0
    first_token_ms: float | None = None
    latency_ms: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    came: str = ""
    thought: str = ""
    pictures: list[tuple[int, Part]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in ("done", "stopped", "failed")


class Live:
    """Starts, watches and stops growing replies."""

    def __init__(self, store: Store, pool: Pool, media: Media) -> None:
        self.store, self.pool, self.media = store, pool, media
        self._runs: dict[str, Growing] = {}
        self._threads: set[threading.Thread] = set()
        self._changed = threading.Condition()
        self.watchers: list[
            Callable[[Growing], None]
        ] = []  # told of whatever was saved, in the reply's thread: to be quick

    def start(
        self, node_ids: Sequence[str], tree_id: str, spec: ModelSpec, messages: list[Message], options: Options
    ) -> None:
        """Let one model answer into these nodes, reply i with seed + i, in threads of their own; returns at once."""
        runs = [Growing(node_id, tree_id, spec.name) for node_id in node_ids]
        with self._changed:
            self._runs |= {run.node_id: run for run in runs}
        self._thread(self._begin, runs, spec, messages, options)

    def growing(self, tree_id: str | None = None) -> list[Growing]:
        """What grows now, in one tree or in all."""
        with self._changed:
            return [r for r in self._runs.values() if tree_id in (None, r.tree_id)]

    def follow(self, tree_id: str) -> Iterator[list[Growing]]:
        """Yield everything that grows in a tree whenever some of it changed, until all is over. The end is yielded too."""
        seen: dict[str, Growing] = {}
        last: list[tuple[str, int, str, str]] = []
        while True:
            with self._changed:
                seen |= {r.node_id: r for r in self._runs.values() if r.tree_id == tree_id}
                state = [(r.node_id, len(r.text) + len(r.reasoning), r.phase, r.told) for r in seen.values()]
                over = all(r.over for r in seen.values())
                if state == last and not over:
                    self._changed.wait(1.0)
                    continue
            last = state
            yield list(seen.values())
            if over:
                return

    def stop(self, node_ids: list[str]) -> int:
        """Ask replies to stop; returns how many were growing. What they wrote stays."""
        with self._changed:
            runs = [self._runs[i] for i in node_ids if i in self._runs]
        for run in runs:
            run.stop.set()
        return len(runs)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop everything and wait until it is saved."""
        self.stop([r.node_id for r in self.growing()])
        deadline = time.monotonic() + timeout_s
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    # ---- inside a thread of replies

    def _thread(self, target: Callable[..., None], runs: list[Growing], *more: object) -> None:
        def work() -> None:
            try:
                target(runs, *more)
            finally:
                with self._changed:
                    self._threads.discard(thread)

        thread = threading.Thread(target=work, name=f"reply-{runs[0].node_id}", daemon=True)
        with self._changed:
            self._threads.add(thread)
        thread.start()

    def _begin(self, runs: list[Growing], spec: ModelSpec, messages: list[Message], options: Options) -> None:
        """Write all of these together where the model can, else each in its thread."""
        together = False
        with contextlib.suppress(BackendError):  # each reply will say it
            together = len(runs) == 1 or self.pool.get(spec).capabilities.together
        if not together:
            for i, run in enumerate(runs[1:], 1):
                self._thread(self._run, [run], spec, messages, options.candidate(i))
        self._run(runs if together else runs[:1], spec, messages, options)

    def _run(self, runs: list[Growing], spec: ModelSpec, messages: list[Message], options: Options) -> None:
        # what is left if something unforeseen raises; the log then has the traceback
        error: str | None = "Something unforeseen went wrong; the terminal shows what. Retry makes a new reply."
        try:
            self._stream(runs, spec, messages, options)
            error = None
        except (BackendError, StudioError) as problem:
            error = str(problem)
        finally:
            for run in runs:
                if not run.over:
                    self._finish(run, error)

    def _stream(self, runs: list[Growing], spec: ModelSpec, messages: list[Message], options: Options) -> None:
        start = saved = time.perf_counter()
        backend = self.pool.get(spec)
        seen = _seen(messages, backend.capabilities.images_in)
        for run in runs:
            run.facts["seen"] = seen
            if backend.describe().get("loaded") is not False:  # else the backend says when it is at it
                self._publish(run, phase="reading")
        going = list(runs)
        saving: Future[None] | None = None
        with ThreadPoolExecutor(
            1, f"save-{runs[0].node_id}"
        ) as saver:  # the model goes on while the disk is waited for
            for i, delta in _pieces(backend, messages, options, runs):
                run, at = runs[i], time.perf_counter()
                if delta.phase:
                    self._publish(run, phase=delta.phase, told=delta.told)
                    continue
                _take(run, delta, (at - start) * 1000)
                if delta.image:
                    self._keep(run, delta.image, messages)
                if len(runs) > 1 and (delta.last or delta.completion_tokens is not None):  # the others go on
                    going.remove(run)
                    saver.submit(self._finish, run, None)
                elif (saving is None or saving.done()) and _due(going, at - saved):
                    if saving:
                        saving.result()  # a full disk ends the reply
                    saving, saved = saver.submit(self._save, [(r, r.came, r.thought) for r in going if _new(r)]), at
            if saving:
                saving.result()

    def _save(self, grown: list[tuple[Growing, str, str]]) -> None:
        with self.store.write():  # one for all: the disk is waited for once
            for run, text, reasoning in grown:
                facts = {"reasoning": reasoning} if reasoning else {}
                self.store.grow(run.node_id, _parts(text, run.pictures), facts)
        for run, text, reasoning in grown:
            self._publish(run, phase="writing" if text else "thinking", text=text, reasoning=reasoning)

    def _keep(self, run: Growing, image: bytes, messages: list[Message]) -> None:
        """Store a picture that a model made: a part of its reply, with the question as its prompt."""
        question = next((m for m in reversed(messages) if m.role == "user"), Message("user", ()))
        prompt = " ".join(c for c in question.content if isinstance(c, str)).strip()
        file = self.media.add(image, f"The picture that {run.model} made")
        self.store.add_image(file.sha256, file.mime, file.width, file.height, file.bytes, "generate", tool=run.model,
                             prompt=prompt)  # fmt: skip
        run.pictures.append((len(run.came), Part("image", image_sha256=file.sha256, caption=prompt[:200])))

    def _finish(self, run: Growing, error: str | None) -> None:
        """Save the whole reply and how it ended; ``error`` None: as it should."""
        if error is None and not run.came and not run.pictures and not run.stop.is_set():
            error = f"{run.model} answered nothing. Retry, or raise the temperature or the token limit."
        status = "failed" if error else "stopped" if run.stop.is_set() else "done"
        text = run.text
        try:
            facts = run.facts | ({"reasoning": run.thought} if run.thought else {})
            self.store.grow(run.node_id, _parts(run.came, run.pictures), facts, status=status, error=error, first_token_ms=run.first_token_ms,
                            latency_ms=run.latency_ms, **run.counts)  # fmt: skip
            text = run.came
        except StudioError as problem:  # a full disk, say: the screen must not call it saved
            status, error = "failed", str(problem)
            log.error("reply %s was not saved: %s", run.node_id, problem)
        finally:
            self._publish(run, phase=status, error=error, text=text, reasoning=run.thought)
            with self._changed:
                self._runs.pop(run.node_id, None)
                self._changed.notify_all()

    def _publish(self, run: Growing, **changes: str | None) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(run, name, value)
            self._changed.notify_all()
        for watch in self.watchers:
            watch(run)


def _seen(messages: list[Message], eyes: bool) -> dict[str, str]:
    """How the model is given each picture that has a file, by its hash: as pixels, or as its caption in the text."""
    files = [c.path for m in messages for c in m.content if isinstance(c, Image) and c.path]
    return {path.stem: "pixels" if eyes else "caption" for path in files}


def _pieces(
    backend: Backend, messages: list[Message], options: Options, runs: list[Growing]
) -> Iterator[tuple[int, Delta]]:
    """Each piece with the number of its reply."""
    if len(runs) > 1:
        return backend.sample(messages, options, len(runs), [run.stop for run in runs])
    return ((0, delta) for delta in backend.stream(messages, options, runs[0].stop))


def _take(run: Growing, delta: Delta, latency_ms: float) -> None:
    run.latency_ms = latency_ms
    if delta.text or delta.reasoning:
        run.came, run.thought = run.came + delta.text, run.thought + delta.reasoning
        run.tokens += 1
        run.first_token_ms = run.first_token_ms or latency_ms
    for name in ("prompt_tokens", "completion_tokens"):
        if (count := getattr(delta, name)) is not None:
            run.counts[name] = count
    run.facts |= {"finish": delta.finish} if delta.finish else {}
    run.facts |= delta.facts or {}


def _parts(text: str, pictures: list[tuple[int, Part]]) -> list[Part]:
    """A reply's text with its pictures where they came."""
    found, at = list[Part](), 0
    for before, picture in [*pictures, (len(text), None)]:
        found += [Part("text", text[at:before])] if text[at:before].strip() else []
        found += [picture] if picture else []
        at = before
    return found


def _new(run: Growing) -> bool:
    return (run.came, run.thought) != (run.text, run.reasoning)


def _due(runs: list[Growing], seconds: float) -> bool:
    """Whether it is time to save: a first word at once, what follows at the screen's pace."""
    new = [r for r in runs if _new(r)]
    first = any(bool(r.came) != bool(r.text) or not (r.text or r.reasoning) for r in new)
    return first or (bool(new) and seconds >= SAVE_EVERY_S)
