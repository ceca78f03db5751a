"""Servers for tests, on loopback: one that says what a script tells it to, and a real one that runs the packaged GGUF.

Owns starting, recording and stopping them. Never answers anything a test did not write down.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHAT, MODELS = "/v1/chat/completions", "/v1/models"


@dataclass
class Request:
    """What arrived: header names in lower case, the body read as JSON (None when there is none), or as bytes when it is a form."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """A running server. ``hung_up`` is set when a client closes a connection before the answer is complete."""

    base_url: str
    requests: list[Request] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """Answers a path from its list of answers, the last one again and again; a path without any with 404."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._answer(json.loads(body) if "json" in self.headers["content-type"] else body)

    def _answer(self, body: Any) -> None:
        server: Any = self.server
        seen = sum(r.path == self.path for r in server.scripted.requests)
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.scripted.requests.append(Request(self.path, headers, body))
        answers = server.answers.get(self.path) or [status(404, {"error": {"message": "Not Found"}})]
        try:
            answers[min(seen, len(answers) - 1)](self)
        except (BrokenPipeError, ConnectionResetError):
            server.scripted.hung_up.set()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: pytest shows what matters."""


Answer = Callable[[Handler], None]


def status(code: int, body: Any = "", content_type: str = "application/json", **headers: str) -> Answer:
    """An answer with a status; ``body`` as it is when text, else as JSON. ``_`` in header names means ``-``."""

    def answer(handler: Handler) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        handler.send_response(code)
        for name, value in {"content-type": content_type, "content-length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def piece(
    text: str = "", finish: str | None = None, index: int = 0, delta: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """One chunk of a streamed chat completion. ``delta``: all of it, instead of ``text``; ``logprobs`` belong to the choice."""
    choice = {"index": index, "delta": {"content": text} if delta is None else delta, "finish_reason": finish}
    choice |= {"logprobs": more.pop("logprobs")} if "logprobs" in more else {}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def events(*pieces: dict[str, Any] | str, done: bool = True, promised: int = 0, pause_s: float = 0) -> Answer:
    """A stream of server-sent events; a piece that is text goes as it is. ``promised`` more bytes never come."""

    def answer(handler: Handler) -> None:
        lines = [f"data: {p if isinstance(p, str) else json.dumps(p)}\n\n".encode() for p in pieces]
        lines += [b"data: [DONE]\n\n"] * done
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        if promised:
            handler.send_header("content-length", str(sum(map(len, lines)) + promised))
        handler.end_headers()
        for line in lines:
            handler.wfile.write(line)
            time.sleep(pause_s)

    return answer


def killed(*pieces: dict[str, Any]) -> Answer:
    """A stream of a server that dies in the middle: the connection is reset, as by a process that was killed."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for p in pieces:
            handler.wfile.write(f"data: {json.dumps(p)}\n\n".encode())
        handler.wfile.flush()
        time.sleep(0.2)  # a reset overtakes what was not read yet
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True

    return answer


def silence(handler: Handler) -> None:
    """No answer at all, until the client goes away or 30 s have passed."""
    handler.connection.settimeout(30)
    if handler.connection.recv(1) == b"":
        raise ConnectionResetError


@contextmanager
def scripted(
    *chat: Answer, models: Answer | None = None, paths: dict[str, list[Answer]] | None = None
) -> Iterator[Scripted]:
    """A server that gives the answers ``chat`` in turn, ``models`` to who asks for its models, and others at other ``paths``."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # closing waits for every answer to be over
    server.answers = {CHAT: list(chat), MODELS: [models] if models else []} | (paths or {})
    server.scripted = Scripted(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """A port of loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def llama_server(gguf: Path, log: Path, n_ctx: int = 1024, wait_s: float = 60) -> Iterator[str]:
    """A llama-cpp-python server with one model; gives its base URL once it answers, and ends it afterwards.

    Raises:
        RuntimeError: it ended, or did not answer within ``wait_s`` seconds; with the end of its log.
    """
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "smollm2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", str(n_ctx), "--verbose", "false"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            base_url = f"http://127.0.0.1:{port}/v1"
            _wait(f"{base_url}/models", process, log, time.monotonic() + wait_s)
            yield base_url
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the llama.cpp server does not answer: {log.read_text(errors='replace')[-1000:]}")
