"""Replies that are growing: one thread each, written to the store before they are shown.

Owns the threads and their stop events. Never knows who watches: a browser may come and go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from backends import BackendError, Message, ModelSpec, Options, Pool
from studio import StudioError
from studio.store import Store
from studio.tree import Part, Status

SAVE_EVERY_S = 0.08  # what is shown is what was saved, so this is also the pace of the screen
log = logging.getLogger(__name__)


@dataclass
class Growing:
    """One reply on its way. ``phase``: loading, reading, writing, then done | stopped | failed. Times in milliseconds."""

    node_id: str
    tree_id: str
    model: str
    text: str = ""
    phase: str = "loading"
    error: str | None = None
    tokens: int = 0
    first_token_ms: float | None = None
    latency_ms: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in ("done", "stopped", "failed")


class Live:
    """Starts, watches and stops growing replies."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self.store, self.pool = store, pool
        self._runs: dict[str, Growing] = {}
        self._threads: set[threading.Thread] = set()
        self._changed = threading.Condition()

    def start(self, node_id: str, tree_id: str, spec: ModelSpec, messages: list[Message], options: Options) -> Growing:
        """Let a model answer into the node ``node_id``, in a thread of its own; returns at once."""
        run = Growing(node_id, tree_id, spec.name)
        thread = threading.Thread(
            target=self._run, args=(run, spec, messages, options), name=f"reply-{node_id}", daemon=True
        )
        with self._changed:
            self._runs[node_id] = run
            self._threads.add(thread)
        thread.start()
        return run

    def growing(self, tree_id: str | None = None) -> list[Growing]:
        """What grows now, in one tree or in all."""
        with self._changed:
            return [r for r in self._runs.values() if tree_id in (None, r.tree_id)]

    def follow(self, tree_id: str) -> Iterator[list[Growing]]:
        """Yield everything that grows in a tree whenever some of it changed, until all is over. The end is yielded too."""
        seen: dict[str, Growing] = {}
        last: list[tuple[str, int, str]] = []
        while True:
            with self._changed:
                seen |= {r.node_id: r for r in self._runs.values() if r.tree_id == tree_id}
                state = [(r.node_id, len(r.text), r.phase) for r in seen.values()]
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

    # ---- inside a reply's thread

    def _run(self, run: Growing, spec: ModelSpec, messages: list[Message], options: Options) -> None:
        status: Status = "failed"  # what is left if something unforeseen raises; the log then has the traceback
        run_error: str | None = "Something unforeseen went wrong; the terminal shows what. Retry makes a new reply."
        counts: dict[str, int | None] = {}
        try:
            counts = self._stream(run, spec, messages, options)
            status, run_error = ("stopped" if run.stop.is_set() else "done"), None
        except (BackendError, StudioError) as error:
            run_error = str(error)
        finally:
            self._finish(run, status, run_error, counts)

    def _stream(
        self, run: Growing, spec: ModelSpec, messages: list[Message], options: Options
    ) -> dict[str, int | None]:
        start = saved = time.perf_counter()
        backend = self.pool.get(spec)
        self._publish(run, phase="reading")
        text = ""
        counts: dict[str, int | None] = {"prompt_tokens": None, "completion_tokens": None}
        saving: Future[None] | None = None
        with ThreadPoolExecutor(1, f"save-{run.node_id}") as saver:  # the model goes on while the disk is waited for
            try:
                for delta in backend.stream(messages, options, run.stop):
                    at = time.perf_counter()
                    run.latency_ms = (at - start) * 1000
                    if delta.text:
                        text += delta.text
                        run.tokens += 1
                        run.first_token_ms = run.first_token_ms or run.latency_ms
                    for name in counts:
                        counts[name] = getattr(delta, name) or counts[name]
                    if (saving is None and text) or (saving and saving.done() and at - saved >= SAVE_EVERY_S):
                        if saving:
                            saving.result()  # a full disk ends the reply
                        saving, saved = saver.submit(self._save, run, text), at
            finally:  # a stream cut in the middle keeps what came
                if saving:
                    saving.result()
                if text != run.text:
                    self._save(run, text)
        if not text and not run.stop.is_set():
            raise BackendError(f"{spec.name} answered nothing. Retry, or raise the temperature or the token limit.")
        return counts

    def _save(self, run: Growing, text: str) -> None:
        self.store.grow(run.node_id, [Part("text", text)])
        self._publish(run, phase="writing", text=text)

    def _finish(self, run: Growing, status: Status, error: str | None, counts: dict[str, int | None]) -> None:
        try:
            parts = [Part("text", run.text)] if run.text else []
            self.store.grow(run.node_id, parts, status=status, error=error, first_token_ms=run.first_token_ms,
                            latency_ms=run.latency_ms, **counts)  # fmt: skip
        except StudioError as problem:  # a full disk, say: the screen must not call it saved
            status, error = "failed", str(problem)
            log.error("reply %s was not saved: %s", run.node_id, problem)
        finally:
            self._publish(run, phase=status, error=error)
            with self._changed:
                self._runs.pop(run.node_id, None)
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _publish(self, run: Growing, **changes: str | None) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(run, name, value)
            self._changed.notify_all()
