"""What stands between other web pages (and other people of this computer) and the studio on its loopback port.

A pure ASGI wrapper in front of everything: exact Host, own Origin, a token for this run, a cap on bodies, a content security
policy. Owns no route but the way in (``/?token=...``). Answers in one plain line what was wrong and what to do.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from studio import StudioError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Gradio's page starts with inline scripts and compiles js_on_load with Function(): hence 'unsafe-inline' and 'unsafe-eval'.
# What a model wrote never gets that far: it is sanitised on the server, and connect-src and img-src leave it no way out.
POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
          "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
          "base-uri 'self'; form-action 'self'; frame-ancestors 'none'")  # fmt: skip
HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
           "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY"}  # fmt: skip
METHODS = ("GET", "HEAD", "POST")
# routes of Gradio that the page does not use, and that read other addresses, other files or the server's state
CLOSED = ("/gradio_api/proxy=", "/proxy=", "/gradio_api/stream/", "/monitoring", "/gradio_api/monitoring", "/login", "/logout",
          "/docs", "/redoc", "/openapi.json", "/gradio_api/openapi.json", "/gradio_api/mcp", "/gradio_api/info", "/vibe-")  # fmt: skip
ELSEWHERE = re.compile("/file[=/]https?:", re.IGNORECASE)  # Gradio would fetch that address for the browser


class Refused(Exception):
    """A request that is turned away, with its status and the line to show."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Guard:
    """Wraps an ASGI app. ``secret`` lets a browser in once; the cookie it then gets is good for this run."""

    def __init__(
        self, app: App, port: int, secret: str, host: str = "127.0.0.1", max_upload_bytes: int = 64 * 2**20
    ) -> None:
        self.app, self.port, self.secret, self.max_upload_bytes = app, port, secret, max_upload_bytes
        self.names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
        self.any_address = host in ("0.0.0.0", "::")
        self.cookie = f"intermt-studio-{port}"  # its own name, so that two studios do not throw each other out
        self.token = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # the page uses no websocket
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        late: list[Refused] = []  # said while the app was reading the body; the app may have taken it for its own error

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if late and not started:
                return
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = self._headers(scope, list(message.get("headers", ())))
            await send(message)

        try:
            self._check_source(scope)
            if let_in := self._entrance(scope):
                await _answer(sending, 303, "Opening the studio.", let_in)
                return
            self._check_token(scope)
            self._check_route(scope)
            await self.app(scope, self._capped(receive, late), sending)
        except Refused as refusal:
            late.append(refusal)
        if late and not started:
            status, line = late[0].status, late[0].line
            late.clear()
            await _answer(sending, status, line)

    # ---- the checks, in order

    def _check_source(self, scope: Scope) -> None:
        if scope["method"] not in METHODS:
            raise Refused(405, f"The method {_short(scope['method'])} is not used here; GET and POST are.")
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise Refused(
                421,
                f"This studio is not {_short(', '.join(hosts) or 'a host without a name')}. Open http://127.0.0.1:{self.port}.",
            )
        origins = _values(scope, b"origin")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise Refused(403, f"A page of {_short(', '.join(origins))} may not talk to this studio.")
        site = ", ".join(_values(scope, b"sec-fetch-site")) or "none"
        # following a link to the studio is harmless: without the cookie, which such a visit does not carry, it shows nothing
        visit = scope["method"] == "GET" and scope["path"] == "/" and _values(scope, b"sec-fetch-dest") == ["document"]
        if site not in ("same-origin", "none") and not visit:
            raise Refused(403, f"A {_short(site)} page may not talk to this studio.")

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if not name:
            name, port = host, "80"
        if port != str(self.port):
            return False
        return name in self.names or (
            self.any_address and _is_address(name)
        )  # an address cannot be rebound, a name can

    def _entrance(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """The right secret in the address of the page: the cookie, and the way to the page without the secret."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return None
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not given or not any(_same(value, self.secret) for value in given):
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        return [(b"location", f"/?{rest}".rstrip("?").encode()), (b"set-cookie", cookie.encode())]

    def _check_token(self, scope: Scope) -> None:
        # by hand: http.cookies gives up at a stranger's odd cookie, and all programs of this host share their cookies
        for pair in ";".join(_values(scope, b"cookie")).split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.cookie and _same(value, self.token):
                return
        raise Refused(
            401,
            "This browser has not been let in. Open the address that intermt-studio printed in its terminal (it has a token).",
        )

    def _check_route(self, scope: Scope) -> None:
        path = unquote(scope["path"])
        odd = not path.startswith("/") or "\\" in path or "\x00" in path or ".." in re.split("[/=]", path)
        if odd or path.startswith(CLOSED) or ELSEWHERE.search(path):
            raise Refused(404, f"There is nothing at {_short(path)}.")
        for length in _values(scope, b"content-length"):
            if not re.fullmatch("[0-9]{1,15}", length) or int(length) > self.max_upload_bytes:
                raise self._too_large()

    def _capped(self, receive: Receive, late: list[Refused]) -> Receive:
        """Count the body as it comes, for a sender that does not say its length or lies about it."""
        seen = 0

        async def receiving() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_upload_bytes:
                late.append(self._too_large())
                raise late[-1]
            return message

        return receiving

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"More than {self.max_upload_bytes // 2**20} MB were sent at once. Send less, or import from a folder on this computer.",
        )

    def _headers(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        # an uploaded file is shown, never run: no script, no form, no origin of its own
        policy = (
            "sandbox; default-src 'none'; frame-ancestors 'none'" if re.search("/file[=/]", scope["path"]) else POLICY
        )
        ours = {**HEADERS, "content-security-policy": policy}
        if scope["path"] == "/":
            ours["cache-control"] = "no-store"
        kept = [
            (k, v)
            for k, v in headers
            if k.decode("latin-1").lower() not in (*ours, "server", "access-control-allow-origin")
        ]
        return kept + [(k.encode(), v.encode()) for k, v in ours.items()]


def check_bind(host: str, allow_remote: bool, password: str | None) -> None:
    """Whether the studio may listen on ``host``.

    Raises:
        StudioError: not loopback, and not both allowed and protected by a password of 12 characters or more.
    """
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback):
        return
    if not allow_remote:
        raise StudioError(
            f"{host} can be reached from other computers. Leave --host out, or add --allow-remote and --password-env NAME."
        )
    if not password or len(password) < 12:
        raise StudioError(
            f"Listening on {host} needs a password of 12 characters or more in an environment variable: --password-env NAME."
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _values(scope: Scope, name: bytes) -> list[str]:
    return [v.decode("latin-1") for k, v in scope["headers"] if k.lower() == name]


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _short(text: str) -> str:
    return repr("".join(c if c.isprintable() else "?" for c in text[:80]))


async def _answer(send: Send, status: int, line: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": kind + (headers or [])})
    await send({"type": "http.response.body", "body": f"{line}\n".encode()})
