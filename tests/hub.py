"""A hub on loopback: the routes that huggingface_hub asks for, over folders of this machine, with the faults of a real one.

``with hub({"owner/model": folder}) as at:`` and ``HF_ENDPOINT = at.url``. Never contacts the real one.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c0ffee" * 6 + "c0de"
LARGE = (".safetensors", ".gguf")  # kept as LFS files, whose checksum is in the listing


@dataclass
class Hub:
    """A running hub. Change its fields while it runs: what it has, whom it refuses, where it breaks."""

    url: str
    models: dict[str, Path]
    gated: set[str] = field(default_factory=set)  # may be listed; files only with the token
    token: str = "hf_let_me_in"
    cut: dict[str, list[int]] = field(default_factory=dict)  # file name -> after how many bytes each connection breaks
    wrong: set[str] = field(default_factory=set)  # file names that arrive with other bytes than announced
    sizes: dict[str, int] = field(default_factory=dict)  # what the listing says instead, by file name
    whole: bool = False  # ranges are not understood: every answer begins at the first byte
    broken: int | None = None  # a status that answers everything
    pause: threading.Event | None = None  # large files are sent only once it is set
    requests: list[str] = field(default_factory=list)  # "GET /path", in order
    ranges: list[str] = field(default_factory=list)  # what was asked for from the middle


class Handler(BaseHTTPRequestHandler):
    """Answers from the folders of ``server.hub``."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._route(send=False)

    def do_GET(self) -> None:
        self._route(send=True)

    def _route(self, send: bool) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.broken:
            return self._json(hub.broken, {"error": "out of order"})
        asked = path.removeprefix("/api/models/") if path.startswith("/api/models/") else path.removeprefix("/")
        name = "/".join(asked.split("/")[:2])
        if name not in hub.models:
            return self._json(404, {"error": "Repository not found"}, **{"x-error-code": "RepoNotFound"})
        kind, revision, *rest = asked.split("/")[2:] or ["", "main"]
        if revision not in ("main", COMMIT):
            return self._json(404, {"error": "Invalid rev id"}, **{"x-error-code": "RevisionNotFound"})
        if path.startswith("/api/models/"):
            return self._json(
                200,
                _info(name, hub.models[name])
                if kind != "tree"
                else _tree(hub, hub.models[name], "recursive=true" in self.path.lower()),
            )
        if name in hub.gated and self.headers.get("authorization") != f"Bearer {hub.token}":
            return self._json(401, {"error": f"Access to model {name} is restricted"}, **{"x-error-code": "GatedRepo"})
        return self._file(hub, hub.models[name] / "/".join(rest), send)

    def _json(self, code: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        for key, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, hub: Hub, file: Path, send: bool) -> None:
        if not file.is_file():
            return self._json(404, {"error": "Entry not found"}, **{"x-error-code": "EntryNotFound"})
        data = file.read_bytes()
        headers = {"etag": f'"{_digest(data)}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        start = 0
        if asked := None if hub.whole else self.headers.get("range"):
            hub.ranges.append(f"{file.name} {asked}")
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if file.name in hub.wrong:
            data = bytes(b ^ 1 for b in data)
        self.send_response(206 if asked else 200)
        for key, value in {**headers, "content-length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if send:
            self._send(hub, file.name, data[start:])

    def _send(self, hub: Hub, name: str, data: bytes) -> None:
        if hub.pause and name.endswith(LARGE):
            half = len(data) // 2
            self.wfile.write(data[:half])
            self.wfile.flush()
            hub.pause.wait(30)
            data = data[half:]
        end = hub.cut[name].pop(0) if hub.cut.get(name) else None
        self.wfile.write(data[:end])
        if end is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: pytest shows what matters."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _info(name: str, folder: Path) -> dict[str, Any]:
    """What the hub says about a model."""
    files = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*")) if p.is_file()]
    return {"id": name, "modelId": name, "sha": COMMIT, "private": False, "gated": False, "siblings": files, "tags": []}


def _tree(hub: Hub, folder: Path, deep: bool) -> list[dict[str, Any]]:
    """What the hub lists: sizes and checksums; with ``deep`` those in folders too."""
    found = []
    for path in sorted(p for p in (folder.rglob("*") if deep else folder.iterdir()) if p.is_file()):
        data = path.read_bytes()
        entry = {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": hub.sizes.get(path.name, len(data)),
            "oid": _digest(data)[:40],
        }
        if path.name.endswith(LARGE):
            entry["lfs"] = {"oid": _digest(data), "size": entry["size"], "pointerSize": 130}
        found.append(entry)
    return found


@contextmanager
def hub(models: Mapping[str, Path]) -> Iterator[Hub]:
    """A hub that has these models, each the files of a folder, until the block ends."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", dict(models))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        if server.hub.pause:
            server.hub.pause.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def asked(models: Mapping[str, Path], home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The same, asked instead of the real one, without a token; what Hugging Face keeps for a person is under ``home``."""
    with hub(models) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(home / "hf"))
        monkeypatch.setenv("HF_TOKEN_PATH", str(home / "none"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running
