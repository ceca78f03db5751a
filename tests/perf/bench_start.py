"""Start to first page, and the memory of the idle app, against an empty Gradio app. Each start has a new, empty home."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.perf import Row, Server, compare, serving, studio_command

RUNS = 9
SETTLE_S = 1.0
# served as the studio serves its page, so that the difference is the studio alone
EMPTY = """
import os, socket
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio, uvicorn
from fastapi import FastAPI
with gradio.Blocks() as page:
    pass
app = gradio.mount_gradio_app(FastAPI(), page, path="/", ssr_mode=False)
sock = socket.socket()
sock.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{sock.getsockname()[1]}/", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none")).run(sockets=[sock])
"""


def measure() -> list[Row]:
    """Two rows: seconds to the first page, and resident MB a second later."""
    _studio(), _empty()  # the first start of each reads its files from the disk
    ours, peer = [], []
    for i in range(RUNS):
        if i % 2:
            peer.append(_empty())
            ours.append(_studio())
        else:
            ours.append(_studio())
            peer.append(_empty())
    return [
        compare("start to first page / empty Gradio app", [s for s, _ in ours], [s for s, _ in peer], "<= 1.5",
                "{ours:.2f} s / {peer:.2f} s"),
        compare("memory of the idle app / empty Gradio app", [m for _, m in ours], [m for _, m in peer], None,
                "{ours:.0f} MB / {peer:.0f} MB"),
    ]  # fmt: skip


def _studio() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as home, serving(*studio_command(Path(home))) as server:
        return _figures(server)


def _empty() -> tuple[float, float]:
    with serving("-c", EMPTY) as server:
        return _figures(server)


def _figures(server: Server) -> tuple[float, float]:
    time.sleep(SETTLE_S)
    return server.first_page_s, server.resident_mb()
