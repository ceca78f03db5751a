"""Where an unfinished run lives, who works on it, and what a person asks of it from outside. No torch, so a screen may import it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from judge.rubric import JudgeError

KEEP, COMPLETE = "keep-best", "complete.json"  # the second is in a checkpoint that was written to its end


def folder(judges: Path, name: str) -> Path:
    """The folder of the run of a judge that is not done."""
    return judges / f".{name}.run"


@contextmanager
def claim(judges: Path, name: str) -> Iterator[None]:
    """Be the only training of this name; the processes of one launch count as one.

    Raises:
        JudgeError: another training of this name is running, or the folder cannot be written.
    """
    if int(os.environ.get("RANK", "0")):
        yield
        return
    try:
        judges.mkdir(parents=True, exist_ok=True)
        lock = FileLock(judges / f".{name}.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise JudgeError(
            f"Another training of {name!r} is running. Wait until it is done, or choose another name."
        ) from error
    except OSError as error:
        raise JudgeError(
            f"Cannot write to {judges}: {error.strerror}. Free some space, or choose another home."
        ) from error
    try:
        yield
    finally:
        lock.release()


def last_whole(run: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [p.parent for p in run.glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=lambda p: int(p.name.split("-")[1]), default=None)


def ask_to_keep(judges: Path, name: str) -> None:
    """Note that the run is to end with the best it has, now or when it is gone on with. Raises OSError: no such run, no room."""
    (folder(judges, name) / KEEP).touch()


def to_keep(run: Path) -> bool:
    """Whether that was asked of this run."""
    return (run / KEEP).exists()
