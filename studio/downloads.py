"""Fetching a model's files from the hub: what ``intermt-studio download`` does, in a process of its own.

Owns the disk check, going on after a cut, and the checksums. What arrives lies in ``HOME/models/<owner>--<name>/``, a file
under its name only once it is whole and verified. Takes weights and text only: never pickles, never code.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import BackendError
from backends.hf import files as hub_files
from backends.hf import hub
from backends.painting import repository as drawing
from studio import StudioError, catalogue

NAME = re.compile(r"(\w+/)?\w[\w.-]*")  # of a file, in a part's folder at most; nothing hidden
SAFE = (
    ".safetensors",
    ".gguf",
    ".json",
    ".txt",
    ".jinja",
    ".model",
    ".onnx",
)  # .model: a tokenizer's words, read as data
SPARE_BYTES = 200 * 2**20  # stays free: a full disk keeps no ratings
TRIES, WAIT_S, TIMEOUT_S = 5, 1.0, 30.0  # after a cut without a new byte
TOLD_S = 0.5

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Remote:
    """A file on the hub. ``sha256`` None: it is small and kept in git, which the hub lists no such sum for."""

    name: str
    size: int
    sha256: str | None


class Meter:
    """How far a download is, told twice a second while it is entered: bytes, bytes a second of this run, seconds left."""

    def __init__(self, total: int, kept: int, tell: Tell) -> None:
        self.total, self.done, self.kept, self.tell = total, kept, kept, tell
        self.began, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="download-meter", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()  # beside the work: a line that hangs is seen to hang
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._tell()

    def _beat(self) -> None:
        self._tell()
        while not self._over.wait(TOLD_S):
            self._tell()

    def _tell(self) -> None:
        pace = max(0, self.done - self.kept) / max(time.monotonic() - self.began, 1e-3)
        left = round((self.total - self.done) / pace, 1) if pace >= 1 else None
        self.tell({"step": self.done, "steps": self.total, "bytes_per_s": round(pace), "eta_s": left})


def fetch(home: Path, repository: str, names: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Fetch the files of that name, or all that transformers or diffusers reads; what is here already is left.

    Asks the hub of HF_ENDPOINT, with HF_TOKEN where that is set.

    Raises:
        StudioError: no such repository or file, no access, no room, a wrong checksum, or no connection; one line.
    """
    where = catalogue.folder(home, repository)
    try:
        commit, remotes = _listed(repository, names)
        where.mkdir(parents=True, exist_ok=True)
        known = catalogue.record(where)
        for remote in remotes:
            (where / remote.name).parent.mkdir(exist_ok=True)
        missing = [r for r in remotes if not _known(where, r, known)]
        kept = sum(_part_bytes(where, r) for r in missing)
        _check_room(repository, where, sum(r.size for r in missing) - kept)
        total = sum(r.size for r in remotes)
        with Meter(total, total - sum(r.size for r in missing) + kept, tell) as meter:
            for remote in missing:
                _receive(repository, commit, where, remote, meter)
                _verify(where, remote)
                known["files"][remote.name] = {"size": remote.size, "sha256": remote.sha256}
                catalogue.write_record(where, known)
        catalogue.write_record(where, known | {"whole": known["whole"] or not names})
    except _hub_errors() as error:
        raise _explained(error, repository) from error
    return {"repository": repository, "folder": str(where), "files": [r.name for r in remotes], "bytes": total}


def _listed(repository: str, names: Sequence[str]) -> tuple[str, list[Remote]]:
    """The commit that is the newest now, and its files that are wanted."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    if not hub_files.HUB_NAME.fullmatch(repository):
        raise StudioError(f"{repository[:80]!r} is no name of a model on the hub. Give one like owner/model.")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    commit = str(api.model_info(repository).sha)
    found = {
        f.path: f
        for f in api.list_repo_tree(repository, recursive=any("/" in n for n in names), revision=commit)
        if isinstance(f, RepoFile)
    }
    if names or drawing.INDEX not in found:
        wanted = list(names) or [n for n in found if any(fnmatch.fnmatch(n, p) for p in hub_files.WANTED)]
    else:
        tree = api.list_repo_tree(repository, recursive=True, revision=commit)
        found = {f.path: f for f in tree if isinstance(f, RepoFile)}
        wanted = _of_pipeline(repository, commit, list(found))
    for name in wanted:
        if not NAME.fullmatch(name) or not name.endswith(SAFE):
            raise StudioError(f"{name[:80]!r} is not fetched: only {', '.join(SAFE)} are, as other files can run code.")
        if name not in found:
            raise StudioError(f"{repository} has no file {name!r}. Look at the names on its page on the hub.")
    if not any(n.endswith((".safetensors", ".gguf", ".onnx")) for n in wanted):
        ggufs = ", ".join(f"{repository}/{n}" for n in sorted(found) if n.endswith(".gguf") and "/" not in n)
        said = (
            f"Give one of its files: {ggufs[:600]}" if ggufs else "Choose a copy of the model that has them, or a GGUF"
        )
        raise StudioError(f"{repository} has no safetensors. {said}.")
    remotes = []
    for name in sorted(wanted):
        large = found[name].lfs
        remotes.append(Remote(name, found[name].size, large.sha256 if large else None))
    return commit, remotes


def _of_pipeline(repository: str, commit: str, names: list[str]) -> list[str]:
    """The files of a pipeline of diffusers: each part in one precision, and nothing else of the repository."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(repository, drawing.INDEX, revision=commit, endpoint=os.environ.get("HF_ENDPOINT"))
    answer = get_session().get(url, headers=build_hf_headers(), timeout=TIMEOUT_S, follow_redirects=True)
    hf_raise_for_status(answer)
    try:
        return drawing.wanted(drawing.parsed(answer.text, repository), names)
    except BackendError as error:
        raise StudioError(str(error)) from error


def _known(where: Path, remote: Remote, known: dict[str, Any]) -> bool:
    """Whether this very file was verified here; without a checksum, of the same size."""
    return catalogue.verified(where, remote.name, known) and known["files"][remote.name] == {
        "size": remote.size,
        "sha256": remote.sha256,
    }


def _part(where: Path, remote: Remote) -> Path:
    return where / f"{remote.name}{catalogue.PART}"


def _part_bytes(where: Path, remote: Remote) -> int:
    part = _part(where, remote)
    size = part.stat().st_size if part.is_file() else 0
    if size > remote.size:  # of another version
        part.unlink()
        return 0
    return size


def _check_room(repository: str, where: Path, needed: int) -> None:
    free = shutil.disk_usage(where).free
    if needed + SPARE_BYTES > free:
        raise StudioError(
            f"{repository} needs {needed / 1e9:,.1f} GB more on the disk of {where.parent}, where {free / 1e9:,.1f} GB are "
            "free. Free some space, choose a smaller model, or another folder with --home."
        )


def _receive(repository: str, commit: str, where: Path, remote: Remote, meter: Meter) -> None:
    """Bring the part of a file to its whole size, going on where it ended; a cut is tried again, and what came stays."""
    import httpx2  # what huggingface_hub speaks with

    tries = TRIES
    while (have := _part_bytes(where, remote)) < remote.size or not _part(where, remote).is_file():
        try:
            _read_on(repository, commit, where, remote, have, meter)
        except httpx2.TransportError as error:
            tries = TRIES if _part_bytes(where, remote) > have else tries - 1
            if tries <= 0 or isinstance(error, httpx2.ConnectError):
                raise
            time.sleep(WAIT_S)


def _read_on(repository: str, commit: str, where: Path, remote: Remote, have: int, meter: Meter) -> None:
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(repository, remote.name, revision=commit, endpoint=os.environ.get("HF_ENDPOINT"))
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with (
        get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as answer,
        _part(where, remote).open("ab") as file,
    ):
        hf_raise_for_status(answer)
        if have and answer.status_code != 206:  # it sends the whole file again
            file.truncate(0)
            meter.done -= have
            have = 0
        for chunk in answer.iter_bytes():
            file.write(chunk)
            meter.done += len(chunk)
            have += len(chunk)
            if have > remote.size:  # more than announced: not whole, and said so when it is verified
                break


def _verify(where: Path, remote: Remote) -> None:
    """Give a whole part its name; one with another size or checksum than the hub's is removed."""
    part = _part(where, remote)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if remote.sha256 else None
    if found != remote.sha256 or part.stat().st_size != remote.size:
        part.unlink()
        raise StudioError(
            f"{remote.name} arrived damaged: its checksum is not the hub's. It was removed; download it again."
        )
    os.replace(part, where / remote.name)


def _hub_errors() -> tuple[type[Exception], ...]:
    try:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError as error:
        raise StudioError(
            f"Downloading needs {error.name}: pip install 'intermt-studio[transformers]', or fetch the files yourself "
            "and add them by their path."
        ) from error
    return (OSError, HfHubHTTPError, HFValidationError, httpx2.HTTPError)


def _explained(error: Exception, repository: str) -> StudioError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StudioError(f"The disk is full: {repository} is not whole yet. Free some space, then resume: what has arrived is kept.")  # fmt: skip
    if isinstance(error, OSError) and error.errno is not None and error.filename:
        return StudioError(
            f"{repository} cannot be kept in {error.filename}: {error.strerror}. Mend that, then resume."
        )
    return StudioError(str(hub.explain(error, repository, None)).replace("Ask again:", "Resume:"))
