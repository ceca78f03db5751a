"""Base URLs: which ones a server may have.

Owns the rules for addresses. Never looks a name up and never connects.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from backends.base import BackendError


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a host is written as; None for a name."""
    try:
        numeric = host if ":" in host else socket.inet_ntoa(socket.inet_aton(host))  # also 2852039166, 0xA9FEA9FE
        address = ipaddress.ip_address(numeric)
    except (OSError, ValueError):
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine itself."""
    host = urlsplit(url).hostname or ""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def origin(url: str) -> str:
    """Scheme, host and port, always with the port: what a key is bound to. For a URL that ``check_url`` has passed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_url(url: str) -> str:
    """The base URL without a final slash.

    Raises:
        BackendError: not http(s), or an address that no server has: link-local, multicast, unspecified.
    """
    try:
        parts = urlsplit(str(url))
        host, _ = parts.hostname or "", parts.port  # the port raises when it is none
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        shown = re.sub(r"//[^/]*@", "//***@", str(url))[:100]
        raise BackendError(f"{shown!r} is no base URL. Give one like http://127.0.0.1:8000/v1, without a user name.")
    address = _address(host)
    if address and (address.is_link_local or address.is_multicast or address.is_unspecified):
        raise BackendError(f"{url[:100]!r} points at {address}, where no server is. Give the server's own address.")
    return url.rstrip("/")
