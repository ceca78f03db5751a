"""Computing numbers of pictures beside the screen: what was asked for first, then how the rest of the store looks.

Keeps what it computes in the index; makes no row of a screen. One picture at a time, in one thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from backends import BackendError, checks, retrieve
from studio import StudioError, finding, retrieving, seeing
from studio.actions import Studio
from studio.background import Background, Task

PIECE = 32  # pictures of the store whose looks are kept together
UNSEEN = "Fit to the words and distance in content are not measured."
_opening = threading.Lock()


class Known:
    """What is known of some pictures and texts at one moment, by the content's hash: ``numbers``, ``looks`` (of the whole store) and
    ``directions`` (CLIP's vectors; None where none could be made). ``waiting``: more will come; ``notes``: what is missing."""

    def __init__(self, checker: Checker, hashes: Sequence[str], texts: Sequence[str]) -> None:
        self.numbers = checker.kept.numbers(hashes, checks.VERSION)
        self.looks = checker.kept.looks()
        self.directions = checker.directions(hashes)
        self.sight = checker.sight
        self.left = [h for h in hashes if not self._done(checker, h)]
        self.unread = [t for t in dict.fromkeys(texts) if not checker.trouble and not self.sight.knows(t)]
        self.waiting = bool(self.left or self.unread)
        blind = checker.trouble and f"{UNSEEN} {checker.trouble}"
        broken = [checker.failed[h] for h in hashes if h in checker.failed]
        self.notes = [line for line in (checker.lacks, blind, *broken) if line]

    def _done(self, checker: Checker, sha256: str) -> bool:
        measured = bool(checker.lacks) or (sha256 in self.numbers and sha256 in self.looks)
        return sha256 in checker.failed or (measured and (bool(checker.trouble) or sha256 in self.directions))

    def fit(self, sha256: str, text: str) -> float | None:
        """The cosine of a picture and a text; None while it is not known."""
        if not text or not self.sight.knows(text):
            return None
        return seeing.cosine(self.directions.get(sha256), self.sight.of_text(text))


class Checker:
    """Computes what screens asked for. ``lacks``: the packages that are missing; ``trouble``: why CLIP cannot be used; '' when all is well."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.tasks = studio, Background()
        self.sight = retrieving.of(studio).sight
        self.kept, self.trouble = self.sight.kept, self.sight.trouble
        lacking = checks.missing()
        self.lacks = f"Measuring needs {', '.join(lacking)}. Get it with: {checks.GET_IT}" if lacking else ""
        self.failed: dict[str, str] = {}
        self._lock, self._working, self._runs = threading.Lock(), False, itertools.count()
        self._pictures: dict[str, None] = {}
        self._texts: dict[str, None] = {}

    def close(self) -> None:
        """End the work under way; what is done is kept."""
        self.tasks.close()

    def known(self, hashes: Sequence[str], texts: Sequence[str]) -> Known:
        """What is known now; the rest is begun."""
        now = Known(self, hashes, texts)
        if now.waiting:
            self._want(now.left, now.unread)
        return now

    def directions(self, hashes: Sequence[str]) -> dict[str, Any]:
        """CLIP's vectors of those pictures that have one."""
        if self.trouble or not hashes:
            return {}
        try:
            key = self.sight.model.key
        except BackendError as error:
            self.trouble = str(error)
            return {}
        return {sha256: seeing.direction(v) for sha256, v in self.kept.vectors_of(hashes, key).items()}

    def _want(self, hashes: Iterable[str], texts: Iterable[str]) -> None:
        with self._lock:
            self._pictures |= dict.fromkeys(hashes)
            self._texts |= dict.fromkeys(texts)
            if self._working:
                return
            self._working = True
        for old in self.tasks.tasks():
            self.tasks.cancel(old.key)  # off the list: it is over
        self.tasks.start(f"checks {next(self._runs)}", "measuring pictures", self._work)

    def _work(self, task: Task) -> None:
        try:
            while not self._ended(task):
                while not task.stop.is_set() and self._one():
                    pass
                self._rest(task)
        except BaseException:
            self._working = False
            raise

    def _ended(self, task: Task) -> bool:
        with self._lock:  # what is asked for from here on starts a run of its own
            self._working = not task.stop.is_set() and bool(self._pictures or self._texts)
            return not self._working

    def _one(self) -> bool:
        """Compute one thing that was asked for; False when there is none."""
        with self._lock:
            sha256, text = next(iter(self._pictures), None), next(iter(self._texts), None)
        if sha256 is not None:
            try:
                if not self.lacks:
                    measured(self.studio, sha256)
                self._see(lambda: finding.of_store(self.studio, sha256))
            except (BackendError, StudioError, OSError) as error:
                self.failed[sha256] = f"A picture is not measured: {error}"
            finally:
                self._pictures.pop(sha256, None)
        elif text is not None:
            self._see(lambda: self.sight.of_text(text))
            self._texts.pop(text, None)
        return sha256 is not None or text is not None

    def _see(self, act: Callable[[], Any]) -> None:
        if self.trouble:
            return
        try:
            act()
        except BackendError as error:  # the model's fault, not the picture's: none of the others is tried
            self.trouble = str(error)

    def _rest(self, task: Task) -> None:
        """Keep how the other pictures of the store look, so that copies among them are found; ends when something is asked for."""
        known = self.kept.looks()
        if not retrieve.can_compare() or len(known) >= self.studio.store.counts()["images"]:
            return
        rest = list(self.studio.store.images().keys() - known.keys())
        for start in range(0, len(rest), PIECE):
            if task.stop.is_set() or self._pictures or self._texts:
                return
            self.kept.keep_looks([(sha256, _looks(self.studio, sha256)) for sha256 in rest[start : start + PIECE]])


def of(studio: Studio) -> Checker:
    """The one of this run of the studio."""
    with _opening:
        if "checks" not in studio.workers:
            studio.workers["checks"] = Checker(studio)
        found = studio.workers["checks"]
    assert isinstance(found, Checker)
    return found


def measured(studio: Studio, sha256: str) -> dict[str, Any]:
    """Measure a picture of the store now, and keep its numbers and its looks.

    Raises:
        StudioError: no such picture. BackendError: a package is missing, or it cannot be read. OSError: its file is gone.
    """
    data, kept = path(studio, sha256).read_bytes(), retrieving.of(studio).sight.kept
    numbers = checks.measured(data)
    kept.keep_numbers(sha256, checks.VERSION, numbers)
    kept.keep_looks([(sha256, retrieve.looks(data))])
    return numbers


def path(studio: Studio, sha256: str) -> Path:
    """The file of a picture of the store. Raises StudioError when there is none."""
    found = studio.media.path(sha256) if sha256 in studio.store.images([sha256]) else None
    if found is None:
        raise StudioError(f"No picture has the hash {sha256[:16]!r} here. Import it again, or choose another.")
    return found


def _looks(studio: Studio, sha256: str) -> int | None:
    try:
        return retrieve.looks(path(studio, sha256).read_bytes())
    except (StudioError, BackendError, OSError):  # gone or broken: nothing looks like it
        return None
