"""The guard on a real port: what a hostile page, program or neighbour sends is refused before the app behind hears of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from studio import StudioError
from studio.guard import HEADERS, POLICY, Guard, check_bind
from tests.conftest import wait

CAP = 100_000
SECRET = "let me in & out"
SHOWN_ONLY = "sandbox; default-src 'none'; frame-ancestors 'none'"  # an uploaded file


@dataclass
class Behind:
    """The app behind the guard, and what it heard: paths that reached it, bodies that were read to their end."""

    app: FastAPI
    paths: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass
class Running:
    guard: Guard
    behind: Behind
    port: int

    def fill(self, text: str) -> str:
        guard = self.guard
        return (
            text.replace("PORT", str(self.port)).replace("NAME", guard.cookie).replace("TOKEN", guard.token)
        )  # the placeholders of the tables below


def behind() -> Behind:
    made = Behind(FastAPI())

    @made.app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        made.bodies.append(len(await request.body()))
        return {"bytes": made.bodies[-1]}

    @made.app.post("/json")
    async def parsed(body: dict[str, Any]) -> dict[str, int]:  # FastAPI reads the body, and takes errors for its own
        made.bodies.append(len(body))
        return {"keys": len(body)}

    @made.app.get("/events")
    async def events() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "data: one\n\n"
            while not made.go_on.is_set():
                await asyncio.sleep(0.01)
            yield "data: two\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    @made.app.api_route("/{path:path}", methods=["GET", "HEAD", "POST"])
    async def anything(path: str) -> Response:
        loose = {"Access-Control-Allow-Origin": "*", "Content-Security-Policy": "default-src *", "X-Own": "kept"}
        return Response(f"<p>{len(path)}</p>", media_type="text/html", headers=loose)

    return made


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = behind()

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            made.paths.append(scope["path"])
        await made.app(scope, receive, send)

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        guard = Guard(recorded, port, SECRET, max_upload_bytes=CAP)
        server = uvicorn.Server(uvicorn.Config(guard, log_level="error", timeout_graceful_shutdown=1, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        wait(lambda: server.started, 20, "the server's start")
        yield Running(guard, made, port)
        server.should_exit = True
        thread.join(10)


@pytest.fixture(autouse=True)
def nothing_heard(running: Running) -> None:
    running.behind.paths.clear()
    running.behind.bodies.clear()
    running.behind.go_on.clear()


# What a browser sends with a click on the real page; the tables say what is different. None leaves a header out.
REAL: dict[str, Any] = {"Host": "127.0.0.1:PORT", "Cookie": "NAME=TOKEN", "Sec-Fetch-Site": "same-origin",
                        "Sec-Fetch-Dest": "empty", "Origin": "http://127.0.0.1:PORT", "Connection": "close"}  # fmt: skip
NO_COOKIE = {"Cookie": None}


def ask(
    running: Running, method: str, target: str, changes: dict[str, Any], body: bytes = b"", version: str = "1.1"
) -> tuple[int, http.client.HTTPMessage, str]:
    """Send these bytes, whatever a client library would think of them; status, headers and text of the answer."""
    lines = [f"{method} {target} HTTP/{version}"]
    for name, value in {**REAL, **changes}.items():
        lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value]) if one is not None]
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        sock.sendall(running.fill("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        answer = http.client.HTTPResponse(sock, method=method)
        answer.begin()
        with answer:
            return answer.status, answer.headers, answer.read().decode()


HOSTILE: list[tuple[int, str, str, dict[str, Any]]] = [
    # the name it was called by: after DNS rebinding the browser believes that the page of evil.com is ours
    *[(421, "GET", "/", {"Host": host, "Origin": f"http://{host}"}) for host in (
        "evil.com", "evil.com:PORT", "evil.com:80", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:0PORT", "127.0.0.1:PORT0",
        "127.0.0.1:", "localhost", "localhost.:PORT", "localhost.evil.com:PORT", "127.0.0.1.evil.com:PORT", "127.0.0.2:PORT",
        "0.0.0.0:PORT", "127.1:PORT", "2130706433:PORT", "0x7f.1:PORT", "[::]:PORT", "[::ffff:127.0.0.1]:PORT", "::1:PORT",
        "127.0.0.1:PORT@evil.com", "evil.com@127.0.0.1:PORT", "user:pass@localhost:PORT", "evil.com#127.0.0.1:PORT",
        "127.0.0.1:PORT.evil.com", "127.0.0.1:PORT/evil.com", "127.0.0.1 :PORT", "LOCALHOST:+PORT", ":PORT", "")],
    (400, "GET", "/", {"Host": None}),
    (400, "GET", "/", {"Host": ["127.0.0.1:PORT", "evil.com"]}),
    (400, "GET", "/", {"Host": ["evil.com", "127.0.0.1:PORT"]}),
    (421, "GET", "/", {"Host": "evil.com:PORT", "X-Forwarded-Host": "127.0.0.1:PORT"}),
    # the page that asks
    *[(403, "POST", "/upload", {"Origin": origin}) for origin in (
        "http://evil.com", "https://evil.com", "null", "http://127.0.0.1:1", "http://127.0.0.1", "https://127.0.0.1:PORT",
        "http://localhost:PORT", "http://127.0.0.1:PORT.evil.com", "http://127.0.0.1:PORT/", "http://evil.com@127.0.0.1:PORT",
        "HTTP://127.0.0.1:PORT", "file://", "chrome-extension://abc", "")],
    (403, "POST", "/upload", {"Origin": ["http://127.0.0.1:PORT", "http://evil.com"]}),
    (403, "GET", "/events", {"Origin": "http://evil.com"}),
    *[(403, method, "/run", {"Origin": None, "Sec-Fetch-Site": site}) for method in ("GET", "POST", "HEAD")
      for site in ("cross-site", "same-site", "unheard-of")],
    (403, "GET", "/", {"Origin": None, "Sec-Fetch-Site": ["same-origin", "cross-site"]}),
    *[(403, "GET", "/", {"Origin": None, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": dest})
      for dest in ("iframe", "frame", "embed", "object", "image", "script", "style", "empty", "")],
    (403, "POST", "/", {"Origin": None, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}),
    (403, "GET", "/media/x", {"Origin": None, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}),
    # methods nobody uses here
    *[(405, method, "/", {}) for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "POSTS")],
    (405, "CONNECT", "evil.com:443", {}),
    (405, "OPTIONS", "*", {}),
    (405, "OPTIONS", "/upload", {"Origin": "http://evil.com", "Access-Control-Request-Method": "POST", **NO_COOKIE}),
    # no token, or another one
    *[(401, "POST", "/upload", {"Cookie": cookie}) for cookie in (
        None, "", "NAME=", "NAME", "NAME=wrong", "NAME=TOKENx", "NAME=xTOKEN", "NAME=\"TOKEN\"", "intermt-studio-1=TOKEN",
        "intermt-studio=TOKEN", "xNAME=TOKEN", "TOKEN", "name=NAME=TOKEN", "NAME=let-me-in", "NAME=TOK\xc9N")],
    *[(401, "GET", target, NO_COOKIE) for target in (
        "/", "/run", "/?token=", "/?token=wrong", "/?Token=let+me+in+%26+out", "/run?token=let+me+in+%26+out",
        "//?token=let+me+in+%26+out", "/?tree=1", "/?%74oken=let", "/monitoring", "/gradio_api/file=/etc/passwd")],
    (401, "POST", "/?token=let+me+in+%26+out", NO_COOKIE),
    (401, "HEAD", "/?token=let+me+in+%26+out", NO_COOKIE),
    (401, "GET", "/", {**NO_COOKIE, "Origin": None, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}),
    (401, "GET", "/", {**NO_COOKIE, "Authorization": "Bearer TOKEN"}),
    # more than it takes, said or not
    *[(413, "POST", "/upload", {"Content-Length": length}) for length in ("100001", "9" * 15, "9" * 16, "9" * 20)],
    *[(400, "POST", "/upload", {"Content-Length": length}) for length in (
        "-1", "+5", "0x10", "1e3", "garbage", "5, 6", "", "9" * 21, ["5", "6"])],
    (400, "POST", "/upload", {"Transfer-Encoding": ["chunked", "identity"]}),
    # routes that are closed, also when spelled oddly
    *[(404, "GET", target, {}) for target in (
        "/gradio_api/proxy=http://evil.com/", "/gradio_api/proxy%3Dhttp://evil.com/", "/proxy=https://evil.com", "/monitoring",
        "/monitoring/summary", "/%6donitoring", "/%256donitoring", "/gradio_api/monitoring/x", "/docs", "/redoc", "/openapi.json",
        "/gradio_api/openapi.json", "/gradio_api/info", "/gradio_api/mcp/sse", "/gradio_api/stream/1/2/3/playlist.m3u8", "/login",
        "/logout", "/vibe-edit/", "/gradio_api/file=http://evil.com/x.png", "/gradio_api/file=HTTPS://evil.com/x.png",
        "/gradio_api/file/https://evil.com/x.png", "/gradio_api/file%3Dhttp%3A//evil.com/x.png")],
    # paths that climb
    *[(404, "GET", target, {}) for target in (
        "/..", "/../studio.db", "/media/../../studio.db", "/media/..", "/media/%2e%2e/studio.db", "/media/%2e%2e%2fstudio.db",
        "/media/%252e%252e%252fstudio.db", "/media/.%2e/studio.db", "/media/..%5c..%5cstudio.db", "/media/..\\studio.db",
        "/media\\x", "/gradio_api/file=../studio.db", "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd", "/media/%00", "/media/x%00.png",
        "/media/%2500", "/studio/%2e%2e%2f%2e%2e%2fpyproject.toml")],
    (404, "GET", "http://evil.com/", {}),
    (404, "GET", "http://127.0.0.1:PORT/", {}),
    # a websocket
    *[(status, "GET", "/queue", {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                 "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **more})
      for status, more in ((403, {"Origin": "http://evil.com"}), (401, NO_COOKIE), (421, {"Host": "evil.com:PORT"}))],
]  # fmt: skip


@pytest.mark.parametrize(("status", "method", "target", "changes"), HOSTILE)
def test_hostile(running: Running, status: int, method: str, target: str, changes: dict[str, Any]) -> None:
    got, headers, line = ask(running, method, target, changes)
    assert got == status
    assert not running.behind.paths
    assert "set-cookie" not in headers
    assert running.guard.token not in line
    if status != 400:  # 400 is the server's own: such bytes never become a request
        assert method == "HEAD" or (line.endswith("\n") and line.count("\n") == 1)
        assert headers["content-security-policy"] in (POLICY, SHOWN_ONLY)
        assert headers["cache-control"] == "no-store"


def test_no_host_in_the_old_protocol(running: Running) -> None:
    assert ask(running, "GET", "/", {"Host": None}, version="1.0")[0] == 421
    assert not running.behind.paths


def chunked(body: bytes, end: bool = True) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + (b"\r\n0\r\n\r\n" if end else b"\r\n")


@pytest.mark.parametrize("target", ["/upload", "/json"])
def test_a_body_that_does_not_say_its_length(running: Running, target: str) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    status, _, line = ask(running, "POST", target, headers, chunked(b" " * (CAP + 1), end=False))
    assert (status, running.behind.bodies) == (413, [])
    assert "were sent at once. Send less" in line
    status, _, _ = ask(running, "POST", target, headers, chunked(b"{}".rjust(CAP)))
    assert (status, len(running.behind.bodies)) == (200, 1)


def call(guard: Guard, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What the guard answers to a server that checks less than ours; in a thread, for a browser test may own this one's loop."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, guard(scope, receive, send)).result(10)
    return sent


@pytest.mark.parametrize(("status", "changes"), [
    (421, {"host": []}),
    (421, {"host": [b"127.0.0.1:PORT", b"127.0.0.1:PORT"]}),
    (421, {"host": [b"\xff\xfe:PORT"]}),
    (413, {"content-length": [b"-1"]}),
    (413, {"content-length": [b"\xb2"]}),  # a digit to Python, no number
    (413, {"content-length": [b"9" * 5000]}),
    (413, {"content-length": [b"5", b"999999999"]}),
    (413, {"content-length": [b""]}),
])  # fmt: skip
def test_behind_a_server_that_checks_nothing(running: Running, status: int, changes: dict[str, list[bytes]]) -> None:
    values = {"host": [b"127.0.0.1:PORT"], "cookie": [b"NAME=TOKEN"], **changes}
    headers = [(name.encode(), running.fill(one.decode("latin-1")).encode("latin-1"))
               for name, all_of in values.items() for one in all_of]  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": "/upload", "query_string": b"", "headers": headers}
    assert call(running.guard, scope)[0]["status"] == status
    assert not running.behind.paths


def test_a_websocket_is_closed(running: Running) -> None:
    headers = [(b"host", running.fill("127.0.0.1:PORT").encode()), (b"cookie", running.fill("NAME=TOKEN").encode())]
    answer = call(running.guard, {"type": "websocket", "path": "/", "headers": headers})
    assert answer == [{"type": "websocket.close", "code": 1008}]
    assert not running.behind.paths


FRIENDLY: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/", {"Origin": None, "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}),
    ("GET", "/?tree=01ABC&node=01DEF", {"Origin": None, "Sec-Fetch-Dest": "document"}),
    ("GET", "/", {"Origin": None, "Sec-Fetch-Site": None, "Sec-Fetch-Dest": None}),  # an older browser
    ("GET", "/assets/index.js", {"Sec-Fetch-Dest": "script"}),
    ("GET", "/media/" + "ab" * 32, {"Origin": None, "Sec-Fetch-Dest": "image"}),
    ("GET", "/", {"Host": "localhost:PORT", "Origin": "http://localhost:PORT"}),
    ("GET", "/", {"Host": "[::1]:PORT", "Origin": "http://[::1]:PORT"}),
    ("HEAD", "/gradio_api/file=/tmp/gradio/a%20b..c.png", {"Origin": None}),
    ("GET", "/gradio_api/startup-events", {}),
    ("POST", "/gradio_api/queue/join", {"Content-Length": "0"}),
    ("GET", "/", {"Cookie": "other={\"a\": [1,2]}; NAME=TOKEN"}),  # what another program of this host may leave behind
    ("GET", "/", {"Cookie": "NAME=old; a=b;NAME=TOKEN"}),
    ("GET", "/", {"Cookie": ["a=b", "NAME=TOKEN"]}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "changes"), FRIENDLY)
def test_friendly(running: Running, method: str, target: str, changes: dict[str, Any]) -> None:
    status, headers, _ = ask(running, method, target, changes)
    assert status == 200
    assert len(running.behind.paths) == 1
    for name, value in HEADERS.items():
        assert headers.get_all(name) == [value]
    assert headers.get_all("content-security-policy") == [SHOWN_ONLY if "/file=" in target else POLICY]
    assert "access-control-allow-origin" not in headers
    assert headers["x-own"] == "kept"
    assert headers["cache-control"] == ("no-store" if target.split("?")[0] == "/" else None)


def test_a_body_under_the_cap(running: Running) -> None:
    status, _, text = ask(running, "POST", "/upload", {"Content-Length": str(CAP)}, b"x" * CAP)
    assert (status, json.loads(text)) == (200, {"bytes": CAP})


def test_the_entrance(running: Running) -> None:
    visit = {**NO_COOKIE, "Origin": None, "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
    status, headers, text = ask(running, "GET", "/?token=let+me+in+%26+out&tree=a%26b&lanes=", visit)
    assert status == 303
    assert headers["location"] == "/?tree=a%26b&lanes="
    name_value, *attributes = headers["set-cookie"].split("; ")
    assert name_value == running.fill("NAME=TOKEN")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert running.guard.token not in text
    assert not running.behind.paths
    assert ask(running, "GET", "/?token=let+me+in+%26+out", visit)[1]["location"] == "/"
    assert ask(running, "GET", headers["location"], {**visit, "Cookie": name_value})[0] == 200


def test_the_entrance_sends_nobody_elsewhere(running: Running) -> None:
    for rest in ("next=//evil.com", "%0d%0aLocation:%20http://evil.com=1", "/=//evil.com"):
        _, headers, _ = ask(running, "GET", f"/?token=let+me+in+%26+out&{rest}", NO_COOKIE)
        assert len(headers.get_all("location") or []) == 1
        assert headers["location"].startswith("/?")


def test_events_pass_as_they_come(running: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/events", headers={"Cookie": running.fill("NAME=TOKEN")})
    with connection.getresponse() as answer:
        assert answer.readline() == b"data: one\n"  # the second does not exist yet
        assert not running.behind.go_on.is_set()
        running.behind.go_on.set()
        assert answer.read() == b"\ndata: two\n\n"
    connection.close()


@pytest.mark.parametrize(("host", "listening", "status"), [
    ("192.168.1.5:PORT", "0.0.0.0", 200), ("[fe80::1]:PORT", "::", 200), ("127.0.0.1:PORT", "0.0.0.0", 200),
    ("[fe80::1]:PORT", "fe80::1", 200), ("mybox.local:PORT", "0.0.0.0", 421), ("evil.com:PORT", "0.0.0.0", 421),
    ("192.168.1.5:PORT", "192.168.1.6", 421), ("192.168.1.5:1", "0.0.0.0", 421),
])  # fmt: skip
def test_names_of_a_studio_that_others_may_reach(host: str, listening: str, status: int) -> None:
    guard = Guard(behind().app, 7860, SECRET, host=listening)
    headers = [(b"host", host.replace("PORT", "7860").encode()), (b"cookie", f"{guard.cookie}={guard.token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": headers}
    assert call(guard, scope)[0]["status"] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.5", "[::1]"])
def test_loopback_may_be_bound(host: str) -> None:
    check_bind(host, False, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "mybox.local", "", "localhost.evil.com", "127.0.0.1.evil.com"]
)
def test_other_hosts_need_a_flag_and_a_password(host: str) -> None:
    for allowed, password, words in (
        (False, None, "add --allow-remote"),
        (False, "long enough to be one", "add --allow-remote"),
        (True, None, "needs a password of 12 characters"),
        (True, "", "needs a password of 12 characters"),
        (True, "elevenchars", "needs a password of 12 characters"),
    ):
        with pytest.raises(StudioError, match=words):
            check_bind(host, allowed, password)
    check_bind(host, True, "twelve chars")
