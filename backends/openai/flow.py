"""From coroutines to a plain iterator: several sources at once, each called off by its own events.

Owns the loop and its thread. Never knows what flows.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from backends.base import BackendError, Delta

POLL_S = 0.05  # how soon a set stop is seen while every source is silent
Item = tuple[int, Delta]
Piece = TypeVar("Piece")


def flow(sources: Sequence[tuple[AsyncIterator[Piece], Sequence[threading.Event]]]) -> Iterator[Piece]:
    """Yield what the sources give, as it comes; a source ends once all of its events are set.

    One that fails does not disturb the others: its error is raised when all are over.

    Raises:
        BackendError: the first that a source raised.
    """
    arrived: queue.SimpleQueue[tuple[int, Piece | None]] = queue.SimpleQueue()

    async def fetch(number: int, source: AsyncIterator[Piece]) -> None:
        try:
            async for item in source:
                arrived.put((number, item))
        finally:
            arrived.put((number, None))

    going = {k: stops for k, (_, stops) in enumerate(sources) if not _over(stops)}
    errors: list[BackendError] = []
    # a loop in a thread of its own: only a coroutine that waits for a socket can be called off at once, and the
    # caller may have a running loop already (a notebook has)
    with start_blocking_portal() as portal:
        tasks = {k: portal.start_task_soon(fetch, k, sources[k][0]) for k in going}
        try:
            while going:
                with contextlib.suppress(queue.Empty):
                    number, item = arrived.get(timeout=POLL_S)
                    if item is None and going.pop(number, None) is not None:
                        try:
                            tasks[number].result()
                        except BackendError as error:
                            errors.append(error)
                    elif item is not None and number in going and not _over(going[number]):
                        yield item
                for number in [k for k, stops in going.items() if _over(stops)]:
                    del going[number]
                    tasks[number].cancel()
        finally:  # also when the caller closes the generator early
            for task in tasks.values():
                task.cancel()
    if errors:
        raise errors[0]


def _over(stops: Sequence[threading.Event]) -> bool:
    return all(stop.is_set() for stop in stops)
