"""Every way in which a server with the OpenAI chat interface fails, as one line that says what to do.

Owns those lines and keeps the key out of them. Never sends anything.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from backends.base import BackendError

TOO_LONG = re.compile(r"context|too long|too many tokens|exceed", re.IGNORECASE)


@dataclass(frozen=True)
class Failures:
    """What the lines name: the server, the model, where its key is, and how long to wait in seconds."""

    base_url: str
    model: str
    key_env: str | None
    connect_s: float
    timeout_s: float
    keyring: bool = False

    def explain(self, error: Exception, key: str | None, arrived: int | None) -> BackendError:
        """The line for an error of the openai package, or ValueError for an answer of another form.

        ``key`` is None where there is none; ``arrived`` counts characters of the reply, None before its stream began.
        """
        import openai

        if isinstance(error, openai.APIStatusError):
            return BackendError(self._status(error, key))
        if isinstance(error, openai.APITimeoutError):
            return BackendError(self._silence(error, arrived))
        if isinstance(error, openai.APIConnectionError):
            if arrived is not None:
                return self.cut(arrived)
            why = _plain(_root(error), key)
            return BackendError(f"Cannot reach {self.base_url} ({why}). Is the server running, and the base URL right?")
        if isinstance(error, openai.APIError) and arrived is not None:
            why = _plain(error.message, key)
            return BackendError(f"{self.base_url} gave up after {arrived} characters ({why}). Retry for a new reply.")
        why = _plain(str(error), key)
        return BackendError(f"{self.base_url} does not answer like an OpenAI server ({why}). Check the base URL.")

    def said(self, error: Any, key: str | None) -> str:
        """What the server wrote about its refusal, in one line without the key."""
        return _plain(_said(error, error.body if isinstance(error.body, dict) else {}), key)

    def cut(self, arrived: int) -> BackendError:
        """The line for a stream that ended in the middle."""
        if not arrived:  # llama-cpp-python's server ends this way when a dialogue is too long
            return BackendError(
                f"{self.base_url} ended the reply before its first word. Look into its log: is the dialogue too long?"
            )
        return BackendError(
            f"{self.base_url} cut the reply off after {arrived} characters; what came is kept. Retry for a new reply."
        )

    def _silence(self, error: Exception, arrived: int | None) -> str:
        if "ConnectTimeout" in type(error.__cause__).__name__:
            return f"{self.base_url} took no connection within {self.connect_s:g} s. Is the server running?"
        came = f" after {arrived} characters of the reply" if arrived else ""
        return f"{self.base_url} was silent for {self.timeout_s:g} s{came}. Retry, or raise timeout_s for this model."

    def _status(self, error: Any, key: str | None) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        code, said = error.status_code, _plain(_said(error, body), key)
        if code in (401, 403):
            return f"{self.base_url} wants a key, and {self._key(key)} ({said}). Set it and start the studio again."
        if code == 404:
            return f"{self.base_url} has no model {self.model!r} ({said})."
        if code == 429:
            wait = error.response.headers.get("retry-after", "")
            when = f"in {wait[:9]} s" if wait.isdecimal() else "later"
            return f"{self.base_url} has had too many requests ({said}). Retry {when}."
        if body.get("code") == "context_length_exceeded" or (code in (400, 413, 422) and TOO_LONG.search(said)):
            return f"The dialogue is too long for {self.model!r} ({said}). Branch from an earlier turn, or shorten it."
        if code == 413:
            return f"{self.base_url} finds the request too large ({said}). Send fewer or smaller pictures, or branch earlier."
        if 300 <= code < 400:
            return f"{self.base_url} points elsewhere (status {code}): the key stays here. Give the final base URL."
        if code >= 500:
            return f"{self.base_url} failed with status {code} ({said}). Look into its log, or retry later."
        return f"{self.base_url} refused the request with status {code} ({said}). Mend what it names, or retry later."

    def _key(self, key: str | None) -> str:
        """What is wrong with the key, in words."""
        where = self.key_env or ("the OS keyring" if self.keyring else "")
        if key:
            return f"the one in {where} was refused" if where else "the one typed under Settings was refused"
        if self.key_env:
            return f"the one in {self.key_env} is not set"
        return "the OS keyring has none for it" if self.keyring else "no key_env names one for this model"


def _said(error: Any, body: dict[str, Any]) -> str:
    """What a server wrote about its refusal; of a web page, its title."""
    if isinstance(said := body.get("message") or body.get("detail"), str):
        return said
    text = error.response.text
    if text.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        return f"a web page{': ' + title[1].strip() if title else ''}"
    return str(error.message)


def _plain(text: str, key: str | None) -> str:
    """One short line without the key."""
    return " ".join((text.replace(key, "***") if key else text).split())[:200]


def _root(error: BaseException) -> str:
    """The innermost cause: 'Connection refused' rather than 'Connection error'."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
