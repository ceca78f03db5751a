"""JSON lines, plain or gzipped, however long the file and however deep a line is nested.

A line is known by its number, for messages, and by its place, to be read again. Knows no format.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from studio import StudioError

GZIP = b"\x1f\x8b"
MAX_LINE = 256 * 2**20  # bytes
SPACE = re.compile(r"[ \t\n\r]*")
_scalar = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # (text, place) -> value, end


def open_lines(path: Path) -> IO[bytes]:
    """A file from which lines can be read at any place; what is gzipped is unpacked to a temporary file.

    Raises StudioError when it cannot be read, or breaks off.
    """
    try:
        file = path.open("rb")
        if file.read(2) != GZIP:
            file.seek(0)
            return file
        with file, gzip.open(path) as packed, contextlib.ExitStack() as whole:
            unpacked = whole.enter_context(tempfile.TemporaryFile(prefix="intermt-studio-"))
            shutil.copyfileobj(packed, unpacked, 2**20)
            unpacked.seek(0)
            whole.pop_all()  # it is all there: whoever reads it closes it
            return unpacked
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise StudioError(f"{path.name} is no whole gzip file ({error}). Was it cut short? Get it again.") from error
    except OSError as error:
        raise StudioError(f"Cannot read {path}: {error.strerror}.") from error


def head(path: Path, most: int) -> bytes:
    """The first bytes of a file, unpacked; fewer where it is shorter or broken."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            return file.read(most)
    try:
        with gzip.open(path) as packed:
            return packed.read(most)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""


def lines(file: IO[bytes], name: str) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), place and bytes of every line that holds something. Raises StudioError: a line is too long."""
    number, place = 0, 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise StudioError(f"{name} line {number} is longer than {MAX_LINE // 2**20} MB. It is none of this format.")
        if line.strip():
            yield number, place, line
        place += len(line)


def read_line(where: str, line: bytes) -> Any:
    """What a line says. Raises StudioError naming ``where`` and the place at which it breaks off."""
    try:
        return loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StudioError(f"{where}: it is no text in UTF-8 (byte {error.start}).") from error
    except json.JSONDecodeError as error:
        raise StudioError(
            f"{where}: it is no whole line of JSON ({error.msg} at character {error.pos + 1}). Was the file cut short? Get it again."
        ) from error


def loads(text: str) -> Any:
    """``json.loads``, also of what is nested deeper than Python's stack. Raises json.JSONDecodeError."""
    try:
        return json.loads(text)
    except RecursionError:
        return _loads_deep(text)


def _loads_deep(text: str) -> Any:
    """The same grammar with a list for a stack; strings and numbers are left to the decoder of the library."""
    holders: list[Any] = []  # lists and objects that are open
    keys: list[str] = []  # of the open objects
    at = _skip(text, 0)
    while True:
        value, at, opened = _value(text, at)
        if opened:
            holders.append(value)
            if text[at : at + 1] not in ("]", "}"):
                at = _key(text, at, holders[-1], keys)
                continue
            holders.pop()
            at = _close(text, at, value)
        while holders:
            holder = holders[-1]
            at = _skip(text, at)
            if isinstance(holder, list):
                holder.append(value)
            else:
                holder[keys.pop()] = value
            if text[at : at + 1] == ",":
                at = _key(text, _skip(text, at + 1), holder, keys)
                break
            value = holders.pop()
            at = _close(text, at, value)
        else:
            at = _skip(text, at)
            if at != len(text):
                raise json.JSONDecodeError("Extra data", text, at)
            return value


def _value(text: str, at: int) -> tuple[Any, int, bool]:
    """A value, where it ends, and whether it is a list or object that has only been opened."""
    if text[at : at + 1] in ("[", "{"):
        return ([] if text[at] == "[" else {}), _skip(text, at + 1), True
    try:
        value, at = _scalar(text, at)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, at) from error
    return value, at, False


def _key(text: str, at: int, holder: Any, keys: list[str]) -> int:
    """Where the next value of a holder begins; of an object the key is read first."""
    if isinstance(holder, list):
        return at
    if text[at : at + 1] != '"':
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
    key, at = _scalar(text, at)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
    keys.append(key)
    return _skip(text, at + 1)


def _close(text: str, at: int, holder: Any) -> int:
    closer = "]" if isinstance(holder, list) else "}"
    if text[at : at + 1] != closer:
        raise json.JSONDecodeError(f"Expecting ',' or '{closer}'", text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at
