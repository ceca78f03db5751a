"""What downloads from the hub share: an end that somebody wants, how far they are, and what the hub's errors mean.

Never decides what is downloaded, and imports huggingface_hub only once something is.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

from backends.base import BackendError

POLL_S = 0.5  # how often is told how far a download is
Found = TypeVar("Found")
Piece = TypeVar("Piece")


class Stopped(Exception):
    """The person stopped the reply while something long was under way."""


class Flag(Protocol):
    """What can say that somebody wants an end."""

    def is_set(self) -> bool:
        """Whether it was said."""


class Halt:
    """Several events as one: what is long stops once any is set."""

    def __init__(self, *events: Flag) -> None:
        self.events = events

    def is_set(self) -> bool:
        """Whether any is."""
        return any(e.is_set() for e in self.events)

    def look(self) -> None:
        """Raise Stopped when any is."""
        if self.is_set():
            raise Stopped


class Arrived:
    """How many bytes of a download are here, and of how many as far as the hub told."""

    def __init__(self) -> None:
        self.bars: list[
            Any
        ] = []  # one counts what came over the net, one what is on disk; both learn of one file after the other

    def __str__(self) -> str:
        of = max((int(bar.total or 0) for bar in self.bars), default=0)
        done, digits = max((bar.done for bar in self.bars), default=0), 1 if of < 1e7 else 0
        return f"{done / 1e6:,.{digits}f} of {of / 1e6:,.{digits}f} MB" if of else ""


class Quiet:
    """While it is entered, a library tells only of errors on standard error, which belongs to the command that runs."""

    def __init__(self, library: str) -> None:
        self.log = logging.getLogger(library)

    def __enter__(self) -> None:
        self.before = self.log.level
        self.log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.log.setLevel(self.before)


def fetched(find: Callable[[Arrived], Found], tell: Callable[[str], Piece]) -> Generator[Piece, None, Found]:
    """What ``find`` gives; while it downloads, yields twice a second what ``tell`` makes of how far it is. Nothing for what is here."""
    arrived = Arrived()
    with ThreadPoolExecutor(1, "download") as worker:
        coming = worker.submit(find, arrived)
        while wait([coming], POLL_S).not_done:
            yield tell(str(arrived))
    return coming.result()


def silent(stop: Flag, arrived: Arrived) -> Any:
    """A progress bar that shows nothing, counts the bytes, and ends the download once ``stop`` is set."""
    from tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # of Hugging Face's own bars
            super().__init__(*args, **{**kwargs, "disable": True})
            self.done = 0
            if kwargs.get("unit") == "B":
                arrived.bars.append(self)

        def update(self, n: float | None = 1) -> bool | None:
            if stop.is_set():
                raise OSError("stopped")
            self.done += int(n or 0)
            return super().update(n)

    return Silent


def explain(error: Exception, name: str, revision: str | None) -> BackendError:
    """What the hub's error means for the person."""
    import httpx2
    from huggingface_hub import errors

    cause = error if isinstance(error, (errors.HfHubHTTPError, httpx2.HTTPError)) else error.__cause__ or error
    if isinstance(error, errors.GatedRepoError):
        return BackendError(
            f"{name} is gated: its owner wants terms accepted first. Accept them on its page, then set HF_TOKEN to your token."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return BackendError(
            f"{name} has no revision {revision!r}. Take the setting away, or give a branch, tag or commit."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return BackendError(
            f"The hub has no model {name}, or it is private. Check the name; for a private one set HF_TOKEN."
        )
    if isinstance(error, errors.HFValidationError):
        return BackendError(f"{name!r} is no name of a model on the hub. Give one like owner/model, or a folder.")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return BackendError(
            f"{name} is not on this machine and HF_HUB_OFFLINE forbids asking the hub. Unset it, or give a folder."
        )
    if isinstance(cause, errors.HfHubHTTPError):
        return BackendError(f"The hub answered {cause.response.status_code} for {name}. Try again later.")
    if isinstance(cause, (httpx2.ConnectError, httpx2.TimeoutException)):
        where = os.environ.get("HF_ENDPOINT") or "the hub"
        return BackendError(
            f"{name} is not on this machine and {where} cannot be reached. Check the connection, or give a folder."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BackendError(
            f"The disk is full: {name} could not be downloaded. Free some space; what has arrived is kept."
        )
    said = str(cause).strip().splitlines() or [type(cause).__name__]
    return BackendError(f"The download of {name} broke off ({said[0][:120]}). Ask again: what has arrived is kept.")
