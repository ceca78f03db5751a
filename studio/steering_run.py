"""One run of steering in a thread of its own: what it wants, what it has found so far, and how it ends.

Owns the thread. Knows neither how replies are asked for nor how they are shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from backends import BackendError
from studio import StudioError
from studio.actions import Studio
from studio.uncertainty import Said

UNFORESEEN = "Something unforeseen went wrong; the terminal shows what. The replies that were made are kept."
Phase = Literal["writing", "judging", "done", "cancelled", "failed"]


@dataclass
class Run:
    """One piece of steering. Written by its own thread; any other may read it. Scores are on the dimension's scale."""

    kind: Literal["best", "better"]
    tree: str
    judge: str
    dimension: str
    labels: int  # of this dimension, from which the judge learned
    of: int  # replies to make, at most
    keep: int = 1
    base: str | None = None  # better: than which reply
    margin: float | None = None  # better: by more than this; None until the base's spread is known
    made: list[str] = field(default_factory=list)
    said: dict[str, Said] = field(default_factory=dict)
    found: str | None = None
    pruned: list[str] = field(default_factory=list)
    offered: bool = False  # whether a page has been told how to take the pruning back
    phase: Phase = "writing"
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def going(self) -> bool:
        """Whether its thread still works."""
        return self.phase in ("writing", "judging")

    @property
    def ranked(self) -> list[str]:
        """What the judge has scored, best first; of equal ones the older."""
        return sorted(self.said, key=lambda n: -self.said[n][0])


@dataclass
class Steering:
    """The newest run of a studio and its thread."""

    studio: Studio
    run: Run | None = None
    thread: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # two tabs begin nothing at the same time

    def close(self) -> None:
        """End the thread; what was made stays."""
        if self.run:
            self.run.stop.set()
        if self.thread:
            self.thread.join(10)

    def begin(self, run: Run, work: Callable[[Studio, Run], None]) -> None:
        """Start a run. Raises StudioError when one is going."""
        with self.lock:
            free(self.studio)
            self.run = run
            self.thread = threading.Thread(target=_work, args=(self.studio, run, work), name="steering", daemon=True)
            self.thread.start()


def current(studio: Studio) -> Steering:
    """The steering of a studio, which closes it."""
    found = studio.workers.setdefault("steering", Steering(studio))
    assert isinstance(found, Steering)
    return found


def free(studio: Studio) -> None:
    """Raise StudioError while a run is going."""
    if (run := current(studio).run) and run.going:
        raise StudioError("The judge is still choosing among other replies. Wait for it, or cancel that first.")


def _work(studio: Studio, run: Run, work: Callable[[Studio, Run], None]) -> None:
    phase: Phase = "failed"
    note = UNFORESEEN  # what is left if something else than the person's errors is raised; the log has the traceback
    try:
        work(studio, run)
        phase, note = ("cancelled" if run.stop.is_set() else "done"), ""
    except (StudioError, BackendError) as error:
        note = str(error)
    finally:
        run.note, run.phase = note, phase
