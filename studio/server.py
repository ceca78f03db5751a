"""The web server around the page: the guard in front, our own scripts, pictures by their hash, then Gradio.

Binds to loopback, sends nothing anywhere. Never serves the home folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import socket
import threading
import webbrowser
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, PlainTextResponse

from backends import BackendError
from judge import rubric
from studio import StudioError, pictures, proposals, retrieving, views, waiting
from studio.actions import Studio
from studio.config import Config
from studio.guard import Guard, check_bind

UPLOAD_CAP = 64 * 2**20
KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}  # a picture's address is its content
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@functools.cache
def asset(name: str) -> str:
    """A text file of the package ``assets``."""
    return files("assets").joinpath(name).read_text(encoding="utf-8")


def boot_script() -> str:
    """What the page's scripts need to know before they run, as data of the window."""
    known = {
        "studioRubric": rubric.document(),
        "studioShortcuts": json.loads(asset("shortcuts.json")),
        "studioSeeds": json.loads(asset("seeds.json")),
    }
    return "".join(f"window.{name} = {json.dumps(value, ensure_ascii=False)};\n" for name, value in known.items())


def web_app(studio: Studio) -> FastAPI:
    """The page and its files, without the guard: ``guarded`` puts that in front."""
    from studio.app import mount

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    proposals.of(studio)  # from now on it watches what replies ask for
    scripts = {p.name for p in files("assets").iterdir() if Path(p.name).suffix in TYPES}

    @app.get("/studio/{name}")
    def script(name: str) -> Response:
        if name == "boot.js":
            return Response(boot_script(), media_type=TYPES[".js"])
        if name not in scripts:
            return PlainTextResponse("There is no such file.", 404)
        return Response(asset(name), media_type=TYPES[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    @app.get("/media/{sha256}")
    def picture(sha256: str) -> Response:
        path = studio.media.path(sha256)
        return FileResponse(path, headers=KEEP) if path else PlainTextResponse("There is no such picture.", 404)

    def smaller(sha256: str, size: int) -> Response:
        if studio.media.path(sha256) is None:
            return PlainTextResponse("There is no such picture.", 404)
        return FileResponse(studio.media.thumbnail(sha256, size), headers=KEEP)

    @app.get("/thumb/{sha256}")
    def thumbnail(sha256: str) -> Response:
        return smaller(sha256, 640)

    @app.get("/view/{sha256}")
    def view(sha256: str) -> Response:
        return smaller(sha256, views.SCREEN)

    @app.get("/found/{key}")
    def found(key: str) -> Response:
        try:
            return Response(retrieving.of(studio).thumb(key), media_type="image/webp", headers=KEEP)
        except (StudioError, BackendError) as error:
            return PlainTextResponse(str(error), 404)

    @app.get("/with-history/{sha256}")
    def with_history(sha256: str) -> Response:
        try:
            data = pictures.copy_with_history(studio, sha256)
        except StudioError as error:
            return PlainTextResponse(str(error), 404)
        name = f'attachment; filename="picture-{sha256[:12]}.png"'
        return Response(data, media_type="image/png", headers={"Content-Disposition": name})

    mount(app, studio, UPLOAD_CAP)
    return app


def serve(config: Config, open_browser: bool = True, allow_remote: bool = False, password: str | None = None) -> None:
    """Open the studio and serve it until Ctrl+C.

    Raises:
        StudioError: the home cannot be used, another studio uses it, the port is taken, the host is not loopback.
    """
    check_bind(config.host, allow_remote, password)
    sock = _bind(config.host, config.port)
    with contextlib.closing(sock), HomeLock(config.home):
        studio = Studio.open(config)
        try:
            _run(studio, sock, open_browser, password)
        finally:
            studio.close()


def _run(studio: Studio, sock: socket.socket, open_browser: bool, password: str | None) -> None:
    interrupted = studio.store.recover()
    waiting.of(studio).recover()
    for line in studio.store.notices:
        print(line)
    if interrupted:
        print(f"{interrupted} replies were growing when the studio was closed; what they had written was kept.")
    host, port = sock.getsockname()[:2]
    secret = password or secrets.token_urlsafe(24)
    app = Guard(web_app(studio), port=port, secret=secret, host=host, max_upload_bytes=UPLOAD_CAP)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    opened = f"{address}?{urlencode({'token': secret})}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none"))
    shown = f"{address}?token=(the password)" if password else opened
    print(f"intermt-studio is open at {shown}\nEverything is kept in {studio.config.home}. Ctrl+C ends it.", flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [opened]).start()
    server.run(sockets=[sock])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen()  # whoever opens the address that is printed waits, and is not refused while the server starts
    except OSError as error:
        sock.close()
        raise StudioError(
            f"Cannot use {host}:{port} ({error.strerror}). Choose another port with --port, or 0 for any free one."
        ) from error
    return sock


class HomeLock:
    """Only one studio at a time writes replies into a home folder; the lock goes with the process, however it ends."""

    def __init__(self, home: Path) -> None:
        self.path = home / "studio.lock"

    def __enter__(self) -> HomeLock:
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StudioError(
                f"Another intermt-studio uses {self.path.parent}. Close it, or choose another folder with --home."
            ) from error
        except OSError as error:
            raise StudioError(
                f"Cannot use the folder {self.path.parent}: {error.strerror}. Choose one you can write to with --home."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
