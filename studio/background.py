"""Work that takes minutes, in a thread beside the screen: one at a time, with progress, a way to cancel, and its error as one line.

What a task finishes it saves itself, piece by piece: this keeps only how far it is. Never knows what the work is about;
what must outlive the studio is a job (``studio.jobs``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backends import BackendError
from studio import StudioError

POLL_S = 0.1  # how soon a task that waits for its turn sees that it was cancelled
UNFORESEEN = "Something unforeseen went wrong; the terminal shows what. What was finished is kept."


@dataclass
class Task:
    """One piece of work. ``state``: waiting, running, done, cancelled or failed; ``total`` None: nobody knows how much it is."""

    key: str
    title: str
    done: int = 0
    total: int | None = None
    note: str = ""
    error: str = ""
    state: str = "waiting"
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)  # set once it is over

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "cancelled", "failed")

    def told(self) -> dict[str, Any]:
        """What a screen shows of it."""
        return {k: getattr(self, k) for k in ("key", "title", "done", "total", "note", "error", "state")}


Work = Callable[[Task], None]


class Background:
    """Starts, tells and cancels tasks, in the order in which they were started. Thread-safe."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)

    def start(self, key: str, title: str, work: Work) -> Task:
        """Run ``work(task)`` when its turn comes; it returns early, soon after ``task.stop`` is set.

        Raises:
            StudioError: the task of this key is under way.
        """
        with self._lock:
            if key in self._tasks and not self._tasks[key].over:
                raise StudioError(f"“{self._tasks[key].title}” is under way already. Wait for it, or cancel it.")
            self._tasks.pop(key, None)
            task = self._tasks[key] = Task(key, title)
            thread = threading.Thread(target=self._run, args=(task, work), name=f"background-{key}", daemon=True)
            self._threads.add(thread)
        thread.start()
        return task

    def tasks(self) -> list[Task]:
        """Every task of this run of the studio, oldest first; the last one of each key."""
        with self._lock:
            return list(self._tasks.values())

    def cancel(self, key: str) -> None:
        """Ask a task to stop; what it finished is kept. A task that is over is taken off the list."""
        with self._lock:
            task = self._tasks.get(key)
            if task and task.over:
                del self._tasks[key]
            elif task:
                task.stop.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel everything and wait for it."""
        for task in self.tasks():
            task.stop.set()
        for thread in list(self._threads):
            thread.join(timeout_s)

    def _run(self, task: Task, work: Work) -> None:
        # what is left if something unforeseen raises; the terminal then has the traceback
        end, error = "failed", UNFORESEEN
        try:
            with self._lock:
                while not task.stop.is_set() and next(t for t in self._tasks.values() if not t.over) is not task:
                    self._ended.wait(POLL_S)
                if not task.stop.is_set():
                    task.state = "running"
            if not task.stop.is_set():
                work(task)
            end, error = ("cancelled" if task.stop.is_set() else "done"), ""
        except (StudioError, BackendError) as problem:
            error = str(problem)
        finally:
            with self._lock:
                task.error, task.state = error, end
                self._threads.discard(threading.current_thread())
                self._ended.notify_all()
            task.ended.set()
