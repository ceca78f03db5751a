"""A scorer in a process of its own, for programs that must not compute themselves: no torch here.

``ScoringProcess`` stands where a ``judge.scoring.Scorer`` does for ``reply`` and ``tree``. The process begins with the judge,
computes with few threads, yields to everything else, and ends with whoever started it. One that dies is started again.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from judge.examples import Example
from judge.readings import Reading
from judge.rubric import JudgeError
from studio.tree import Node

THREADS = 1  # of torch: the rest of the machine belongs to the models that answer
LENGTH = struct.Struct(">Q")  # bytes of the message that follows
CLOSE_S = 2.0  # what a process may take to end by itself
RESTARTS, WITHIN_S = 3, 60.0  # a process that ends more often in so many seconds is not started again

NEXT = "Memory may be short: close other programs, then switch the judge off and on again on the Judge screen."
DIED = "The judge's process ended {} times within a minute. " + NEXT
NOT_LOADED = "The judge's process ended while it loaded. " + NEXT


@dataclass(frozen=True)
class Loaded:
    """What a process tells of the judge it holds. ``max_path``: tokens; ``rows``: what it has learned."""

    max_path: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """``kept``: nodes whose keys and values are there; ``mb``: of weights, keys and values; ``threads`` of torch."""

    kept: int
    mb: float
    threads: int


class Ended(Exception):
    """The process is gone: nothing more will be answered."""


class ScoringProcess:
    """A judge at work in another process. One thread at a time; ``close`` may come from any.

    ``restarts``: how often the process died and was started again; ``skipped``: as of ``Scorer``.
    """

    def __init__(self, folder: Path, cache: Path, *, cache_mb: int = 256, threads: int = THREADS) -> None:
        """Start the process and load the judge. Raises JudgeError."""
        self.settings = (folder, cache, {"cache_mb": cache_mb}, threads)
        self.skipped: list[tuple[str, str]] = []
        self.restarts = 0
        self._restarted_at: list[float] = []
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._whole: Example | None = None  # whose tree is being read
        self._example: Example | None = None  # the same without its labels: what travels
        self._known: Example | None = None  # what the process has of it
        self.loaded = self._load()

    @property
    def pid(self) -> int | None:
        """Of the process; None once it was closed."""
        return self._process.pid if self._process else None

    def reply(
        self, path: Sequence[Node], images: dict[str, bytes | Path] | None = None, growing: bool = False
    ) -> Reading:
        """As ``Scorer.reply``. Raises JudgeError."""
        reading: Reading = self._call("reply", list(path), images or {}, growing)
        return reading

    def tree(self, example: Example, nodes: Iterable[str]) -> dict[str, Reading]:
        """As ``Scorer.tree``; the tree itself travels once. Raises JudgeError."""
        readings: dict[str, Reading]
        if example is not self._whole:
            self._whole, self._example = example, Example(example.tree, images=example.images)
        readings, self.skipped = self._call("tree", list(nodes))
        return readings

    def since_restart(self) -> float:
        """Seconds since the process was started again; inf where it never was."""
        return time.monotonic() - self._restarted_at[-1] if self._restarted_at else math.inf

    def memory(self) -> Memory:
        """What the process holds."""
        memory: Memory = self._call("memory")
        return memory

    def close(self) -> None:
        """End the process; a call that waits for it raises JudgeError."""
        self._closed = True
        self._end()

    def _load(self) -> Loaded:
        folder, cache, settings, threads = self.settings
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", "judge.scoring_process"]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        except OSError as error:
            raise JudgeError(f"The judge's process cannot be started ({error.strerror}). Free some memory.") from error
        try:
            loaded: Loaded = self._ask(("load", (folder, cache, settings, threads)))
        except Ended as error:
            self._end()
            raise JudgeError(NOT_LOADED) from error
        except JudgeError:
            self._end()
            raise
        return loaded

    def _call(self, verb: str, *arguments: Any) -> Any:
        """What the process answers; where it died it is started again, and asked again."""
        while True:
            try:
                if verb == "tree" and self._example is not self._known:
                    self._ask(("example", (self._example,)))
                    self._known = self._example
                return self._ask((verb, arguments))
            except Ended as error:
                self._end()
                if self._closed:
                    raise JudgeError("The judge was switched off while it read.") from error
                self._restart(error)

    def _restart(self, error: Ended) -> None:
        """Start the process once more. Raises JudgeError where that was done too often, or it cannot be."""
        at = time.monotonic()
        self._restarted_at = [t for t in self._restarted_at if at - t < WITHIN_S]
        if len(self._restarted_at) >= RESTARTS:
            raise JudgeError(DIED.format(RESTARTS + 1)) from error
        self._restarted_at.append(at)
        self.restarts += 1
        self.loaded = self._load()

    def _ask(self, request: tuple[str, Sequence[Any]]) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise Ended
        try:
            send(process.stdin, request)
            kind, answer = receive(process.stdout)
        except (OSError, EOFError, ValueError) as error:  # ValueError: closed by another thread
            raise Ended from error
        if kind == "error":
            raise JudgeError(answer)
        return answer

    def _end(self) -> None:
        process, self._process, self._known = self._process, None, None
        if process is None:
            return
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(OSError):  # it has ended already, with words on their way to it
            process.stdin.close()  # its sign to end
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message. Raises OSError."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message. Raises EOFError at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # from a process of ours only
