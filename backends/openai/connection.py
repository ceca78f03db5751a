"""The connection to one server: its key, its headers, its limits in time, and its list of models.

Owns what leaves this machine beside the request's body. The key goes to the configured origin only: no redirect is
followed, and nothing of the environment is added.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from backends.addresses import is_loopback
from backends.base import BackendError
from backends.failures import Failures
from backends.keys import find
from backends.openai.settings import Settings

NO_KEY = "none"  # local servers want the header, not what is in it
CHAT = "/chat/completions"
MAX_REFUSAL = 2**18  # bytes
# nothing else leaves: the openai package would add what it finds in the environment, and a description of the machine
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent"}


class Connection:
    """How one model's server is reached. Holds no key: it is looked up for each request."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failures = Failures(
            settings.base_url,
            settings.model,
            settings.key_env,
            settings.connect_s,
            settings.timeout_s,
            settings.keyring,
        )

    def key(self) -> str | None:
        """The key for this server's origin. Raises BackendError: an impossible one, or a keyring that does not open."""
        return find(self.settings.base_url, self.settings.key_env, self.settings.keyring)

    @asynccontextmanager
    async def client(self, key: str | None) -> AsyncIterator[Any]:
        """A client of the openai package that sends this key, and nothing of its own accord."""
        import openai

        async def only_ours(request: Any) -> None:
            for name in set(request.headers) - HEADERS:
                del request.headers[name]
            request.headers["authorization"] = f"Bearer {key or NO_KEY}"

        timeout = openai.Timeout(self.settings.timeout_s, connect=self.settings.connect_s)
        plain = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # one would carry the key elsewhere
            trust_env=not is_loopback(self.settings.base_url),  # no proxy between this machine and itself
            event_hooks={"request": [only_ours], "response": [_shorten]},
            timeout=timeout,
        )
        # no retries of its own: they are counted, waited for and shown by backends.openai.patience
        made = openai.AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=self.settings.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=plain,
        )
        async with made as client:
            yield client

    async def begin(self, client: Any, body: dict[str, Any]) -> Any:
        """Send a request; its answer as a stream of JSON values, whatever they are."""
        import openai

        return await client.post(CHAT, body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object])

    async def explain(self, client: Any, error: Exception, key: str | None, arrived: int | None) -> BackendError:
        """The line for an error; where the model is unknown, it names those there are."""
        import openai

        explained = self.failures.explain(error, key, arrived)
        if not isinstance(error, openai.NotFoundError):
            return explained
        try:
            names = await offered(client)
        except (openai.OpenAIError, ValueError):
            return BackendError(f"{explained} Check the base URL too: it often ends in /v1.")
        return BackendError(f"{explained} Choose one that it offers: {', '.join(names[:6]) or 'it names none'}.")


async def _shorten(answer: Any) -> None:
    """Let no more of a refusal be read than a line is made of: it may have no end."""
    if answer.status_code < 400:
        return
    import httpx2  # what the openai package speaks with

    class Short(httpx2.AsyncByteStream):
        def __init__(self, whole: Any) -> None:
            self.whole, self.left = whole, MAX_REFUSAL

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self.whole:
                yield part[: self.left]
                self.left -= len(part)
                if self.left <= 0:
                    return

        async def aclose(self) -> None:
            await self.whole.aclose()

    answer.stream = Short(answer.stream)


async def values(answer: Any) -> AsyncIterator[object]:
    """The JSON values of an answer: those of its stream, or the one of a server that does not stream.

    Raises:
        ValueError: an answer of another kind.
    """
    kind = answer.response.headers.get("content-type", "")
    if "event-stream" in kind:
        async for value in answer:
            yield value
    elif "json" in kind and "choices" in (whole := json.loads(await answer.response.aread()) or {}):
        yield whole
    else:
        raise ValueError(f"it sends {kind or 'something unnamed'}, no stream of events")


async def offered(client: Any) -> list[str]:
    """Names of the server's models. Raises OpenAIError, or ValueError for an answer of another form."""
    found = json.loads(await client.get("/models", cast_to=str))  # models.list() stumbles over any other form
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise ValueError("it sends no list of models")
    return [m["id"] for m in found["data"] if isinstance(m, dict) and isinstance(m.get("id"), str)]
