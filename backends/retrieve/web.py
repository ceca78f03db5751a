"""Pictures of open licences from a web provider, and the one way by which anything is fetched for them.

A provider is a small class with a name and a ``search``. Off until somebody switches it on. What a provider answers is
untrusted: addresses that lead into this machine or its network are refused, answers are cut at a size and a time.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

from backends import BackendError
from backends.addresses import check_url, origin
from backends.retrieve.reading import clean

OPENVERSE = "https://api.openverse.org/v1"
MAX_LIST, MAX_THUMB, MAX_PICTURE = 2 * 2**20, 4 * 2**20, 20 * 2**20  # bytes
MAX_REDIRECTS = 3
TIMEOUT_S, WHOLE_S = 15.0, 60.0  # of one wait, of one answer
AGENT = "intermt-studio (a desktop program; one person searches by hand)"
TROUBLE = (OSError, http.client.HTTPException, ValueError)  # URLError and timeouts are OSErrors


@dataclass(frozen=True, slots=True)
class WebPicture:
    """One found picture. ``licence`` as a person writes it, such as CC BY 2.0; ``page_url`` where it is shown with its author."""

    id: str
    title: str
    author: str
    licence: str
    licence_url: str
    page_url: str
    thumb_url: str
    image_url: str
    width: int
    height: int


class Provider(Protocol):
    """Finds pictures of open licences. ``base_url``: an address whose origin may be fetched from, wherever it is."""

    name: str
    base_url: str

    def search(self, words: str, most: int) -> list[WebPicture]:
        """Pictures for some words, best first. Raises BackendError when the provider does not answer as it should."""


class Openverse:
    """openverse.org: about 800 million pictures of open licences, without a key (20 a page, 200 searches a day)."""

    name = "Openverse"

    def __init__(self, base_url: str = OPENVERSE) -> None:
        self.base_url = check_url(base_url)

    def search(self, words: str, most: int = 20) -> list[WebPicture]:
        """See ``Provider``; at most 20."""
        query = urlencode({"q": words[:200], "page_size": min(most, 20), "mature": "false"})
        data = fetch(f"{self.base_url}/images/?{query}", MAX_LIST, self)
        try:
            found = json.loads(data)["results"]
            rows = [picture for row in found[:most] if (picture := self._picture(row))]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BackendError(
                f"{self.name} answered something that is no list of pictures ({str(error)[:60]!r}). Try later."
            ) from error
        if found and not rows:
            raise BackendError(f"{self.name} answered pictures without licence or address. Try other words, or later.")
        return rows

    def _picture(self, row: Any) -> WebPicture | None:
        """One row; None when it lacks what a picture must have to be used: an address and a licence."""
        if not isinstance(row, dict):
            return None
        text = {k: clean(v) if isinstance(v := row.get(k), str) else "" for k in ROW}
        if not (text["id"] and text["url"] and text["license"]):
            return None
        mark = {"cc0": "CC0", "pdm": "Public domain"}.get(text["license"], f"CC {text['license'].upper()}")
        width, height = (v if isinstance(v := row.get(k), int) and 0 <= v < 10**6 else 0 for k in ("width", "height"))
        return WebPicture(text["id"][:80], text["title"][:300], text["creator"][:200], f"{mark} {text['license_version']}".strip(),
                          text["license_url"], text["foreign_landing_url"] or text["url"], text["thumbnail"] or text["url"], text["url"],
                          width, height)  # fmt: skip


ROW = ("id", "title", "creator", "url", "thumbnail", "foreign_landing_url", "license", "license_version", "license_url")
PROVIDERS = {"openverse": Openverse}


def provider(settings: Mapping[str, Any]) -> Provider | None:
    """The one that ``[retrieve]`` of studio.toml switches on with ``web = "openverse"``; None when none is.

    Raises:
        BackendError: an unknown name, or a ``web_url`` that is none.
    """
    name = settings.get("web") or ""
    if not name:
        return None
    if name not in PROVIDERS:
        raise BackendError(
            f"[retrieve] in studio.toml names the web provider {name!r:.40}. Known: {', '.join(PROVIDERS)}."
        )
    return PROVIDERS[name](str(settings["web_url"])) if settings.get("web_url") else PROVIDERS[name]()


def fetch(url: str, most: int, source: Provider) -> bytes:
    """The content at an address: at most ``most`` bytes, ``MAX_REDIRECTS`` redirects and ``WHOLE_S`` seconds.

    Raises:
        BackendError: an address that may not be asked, no answer, an error status, or an answer that is too large.
    """
    deadline = time.monotonic() + WHOLE_S
    for _ in range(MAX_REDIRECTS + 1):
        _allowed(url, source)
        try:
            with contextlib.closing(_opened(url)) as answer:
                if answer.status < 300:
                    return _read(answer, most, deadline, source)
                if answer.status >= 400 or not answer.headers.get("location"):
                    raise BackendError(_refused(source, answer.status))
                url = urljoin(url, answer.headers["location"])
        except TROUBLE as error:
            said = clean(str(getattr(error, "reason", None) or error))
            raise BackendError(
                f"{source.name} cannot be reached ({said[:80] or type(error).__name__}). Is the network there?"
            ) from error
    raise BackendError(
        f"{source.name} sent from one address to the next over {MAX_REDIRECTS} times. Try another picture."
    )


def _refused(source: Provider, status: int) -> str:
    why = {401: "a key is wanted", 403: "not allowed", 404: "it is not there", 429: "too many searches: wait a while"}
    return (
        f"{source.name} answered with status {status} ({why.get(status, 'no picture')}). Try another picture, or later."
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: the answer itself is wanted, so that every next address is checked like the first."""


def _opened(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    try:
        return urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as answer:
        return answer


def _read(answer: Any, most: int, deadline: float, source: Provider) -> bytes:
    promised = answer.headers.get("content-length") or "0"
    data = bytearray()
    if promised.isdecimal() and int(promised) <= most:
        while part := answer.read1(65_536):
            data += part
            if len(data) > most:
                break
            if time.monotonic() > deadline:
                raise BackendError(f"{source.name} was not done after {WHOLE_S:.0f} s. Try again, or another picture.")
        else:
            return bytes(data)
    raise BackendError(f"{source.name} sent over {most // 2**20} MB, which is cut off. Take a smaller picture.")


def _allowed(url: str, source: Provider) -> None:
    """Raise unless this is the provider's own origin, or https somewhere on the public network."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname and origin(url) == origin(source.base_url):
        return
    refusal = BackendError(
        f"{source.name} names the address {url[:80]!r}, which is not asked: only https on the public network is."
    )
    if parts.scheme != "https" or not parts.hostname or parts.username:
        raise refusal
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BackendError(
            f"{parts.hostname[:80]} is not known to the network ({error.strerror or error}). Try another picture."
        ) from error
    if not all(ipaddress.ip_address(str(where[4][0]).partition("%")[0]).is_global for where in found):
        raise refusal
