"""What every benchmark shares: a ratio against a peer measured in the same run, and a server in its own process.

Owns the arithmetic and the rows of ``results.json``. Never measures anything itself: that is ``bench_*.py``.
"""

from __future__ import annotations

import contextlib
import operator
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

GOALS = {"<=": operator.le, ">=": operator.ge}
START_TIMEOUT_S = 60.0


class Unavailable(Exception):
    """A benchmark cannot run here: one line with what is missing and how to get it."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ratio`` is ours over the peer's; ``spread`` its quartiles over ``n`` pairs; ``goal`` like '<= 1.5'."""

    name: str
    ratio: float
    goal: str | None
    n: int
    spread: tuple[float, float]
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the goal; None where there is no goal."""
        if self.goal is None:
            return None
        sign, number = self.goal.split()
        return bool(GOALS[sign](self.ratio, float(number)))

    def record(self) -> dict[str, Any]:
        """The row as it stands in ``results.json``."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return asdict(self) | {"met": self.met, "machine": machine(), "date": date}


class Peak:
    """The most memory that this process takes while the block runs, in MB above what it took before; looked at every 20 ms."""

    def __enter__(self) -> Peak:
        self.process = psutil.Process()
        self.before = self.most = self.process.memory_info().rss
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watch.join()

    def _watch(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, self.process.memory_info().rss)

    @property
    def mb(self) -> float:
        return (self.most - self.before) / 2**20


def compare(name: str, ours: Sequence[float], peer: Sequence[float], goal: str | None, detail: str) -> Row:
    """A row from paired measurements: the median of the ratios pair by pair, and their quartiles.

    Pair i was measured together, so that a machine that is busy for a while slows both. At least two pairs.
    ``detail`` may use ``{ours}`` and ``{peer}`` for the medians, in the unit they were given in.
    """
    pairs = [a / b for a, b in zip(ours, peer, strict=True)]
    low, ratio, high = (round(q, 3) for q in statistics.quantiles(pairs, n=4, method="inclusive"))
    said = detail.format(ours=statistics.median(ours), peer=statistics.median(peer))
    return Row(name, ratio, goal, len(pairs), (low, high), said)


def machine() -> str:
    """The processor, the system and the Python that a figure was measured with."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.+)", info.read_text(encoding="utf-8"))):
        cpu = found[1]
    return f"{psutil.cpu_count()} x {cpu}, {platform.system()}, Python {platform.python_version()}"


@dataclass(frozen=True)
class Server:
    """A server that has answered its first page. ``first_page_s``: from before its process began to the whole page read."""

    process: subprocess.Popen[str]
    address: str
    first_page_s: float

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, in MB of 2**20 bytes."""
        parent = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)]) / 2**20


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """Run ``python arguments``, which prints its address, and get its page as a browser would: redirects followed, cookie kept.

    Raises:
        RuntimeError: it ended before it answered, or gave no page in time.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        address = _address(process)
        _first_page(process, address)
        yield Server(process, address, time.perf_counter() - start)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def studio_command(home: Path) -> list[str]:
    """The arguments that serve the studio over ``home`` on any free port."""
    return ["-m", "studio.cli", "serve", "--no-browser", "--port", "0", "--home", str(home)]


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise RuntimeError(f"the server ended with {process.wait()} and printed no address; its last words are above")


def _first_page(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(follow_redirects=True, trust_env=False, timeout=START_TIMEOUT_S) as client:
        while time.monotonic() < deadline:
            try:
                page = client.get(address).raise_for_status()
            except httpx.ConnectError:  # the port is bound before it listens
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode} before it gave a page") from None
                time.sleep(0.005)
                continue
            if "gradio" not in page.text:
                raise RuntimeError(f"{address} answered something that is no Gradio page: {page.text[:80]!r}")
            return
    raise RuntimeError(f"no page at {address} within {START_TIMEOUT_S:.0f} s")
