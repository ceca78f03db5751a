"""Any server with the OpenAI chat interface: OpenAI, vLLM, SGLang, Ollama, LM Studio, llama.cpp, OpenRouter.

Holds the name of the environment variable with the key, never the key; sends it to the configured origin only, follows no
redirect, and keeps it out of every message.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

from backends.base import BackendError, Capabilities, Content, Delta, Image, Message, Options

POLL_S = 0.05  # how soon a set stop is seen while the server is silent
NO_KEY = "none"  # local servers want the header, not what is in it


class OpenAIChat:
    """One model on one server."""

    def __init__(self, model: str, base_url: str, key_env: str | None, timeout_s: float, images: bool) -> None:
        self.model, self.base_url, self.key_env, self.timeout_s, self.images = model, base_url, key_env, timeout_s, images
        self.capabilities = Capabilities(images_in=images, parallel=True, token_counts=True)

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply as the server sends it; a set ``stop`` closes the connection within 0.1 s, also before the first byte.

        Raises:
            BackendError: no connection, no time, no key, no such model, too many requests, too long, or cut in the middle.
        """
        loop = asyncio.new_event_loop()
        deltas = self._deltas(messages, options)
        try:
            while True:
                step = loop.create_task(anext(deltas, None))
                while not step.done():
                    loop.run_until_complete(asyncio.wait({step}, timeout=POLL_S))
                    if stop.is_set() and not step.done():
                        step.cancel()
                        loop.run_until_complete(asyncio.wait({step}))
                        return
                delta = step.result()
                if delta is None or stop.is_set():
                    return
                yield delta
        finally:
            loop.run_until_complete(deltas.aclose())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def models(self) -> list[str]:
        """Names of the models that the server offers. Raises BackendError as ``stream`` does."""

        async def ask() -> list[str]:
            async with self._client() as client:
                return [m.id async for m in client.models.list()]

        import openai

        try:
            return asyncio.run(ask())
        except openai.OpenAIError as error:
            raise self._explain(error, 0) from error

    # ---- inside

    async def _deltas(self, messages: list[Message], options: Options) -> AsyncIterator[Delta]:
        import httpx
        import openai

        sent = [{"role": m.role, "content": [_part(c) for c in m.content] if self._has_images(m) else m.as_text()} for m in messages]
        arrived = 0
        async with self._client() as client:
            try:
                finish, usage = None, None
                async with await self._begin(client, sent, options) as chunks:
                    async for chunk in chunks:
                        usage = getattr(chunk, "usage", None) or usage
                        choice = chunk.choices[0] if chunk.choices else None
                        if choice is None:
                            continue
                        finish = choice.finish_reason or finish
                        if choice.delta.content:
                            arrived += len(choice.delta.content)
                            yield Delta(choice.delta.content)
                if finish is None:
                    raise BackendError(self._cut(arrived))
            except (openai.OpenAIError, httpx.HTTPError, ValueError) as error:
                raise await self._explained(client, error, arrived) from error
            yield Delta(finish="length" if finish == "length" else "stop", prompt_tokens=getattr(usage, "prompt_tokens", None),
                        completion_tokens=getattr(usage, "completion_tokens", None))  # fmt: skip

    async def _begin(self, client: Any, sent: list[Any], options: Options) -> Any:
        """Start the stream; once more without what a server of another age does not know."""
        import openai

        wanted: dict[str, Any] = {"model": self.model, "messages": sent, "stream": True, "temperature": options.temperature,
                                  "top_p": options.top_p, "max_tokens": options.max_tokens,
                                  "stream_options": {"include_usage": True}}  # fmt: skip
        if options.seed is not None:
            wanted["seed"] = options.seed
        for _ in range(3):
            try:
                return await client.chat.completions.create(**wanted)
            except openai.BadRequestError as error:
                if "max_completion_tokens" in str(error) and "max_tokens" in wanted:
                    wanted["max_completion_tokens"] = wanted.pop("max_tokens")
                elif "stream_options" in str(error) and "stream_options" in wanted:
                    del wanted["stream_options"]
                else:
                    raise
        raise BackendError(f"{self.base_url} refuses every form of the request for {self.model!r}. Is it a chat model?")

    def _client(self) -> Any:
        import httpx
        import openai

        timeout = httpx.Timeout(self.timeout_s, connect=10.0)
        plain = httpx.AsyncClient(follow_redirects=False, timeout=timeout)  # a redirect would carry the key elsewhere
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=self._key(), max_retries=1, http_client=plain, timeout=timeout)

    def _key(self) -> str:
        return (os.environ.get(self.key_env) if self.key_env else None) or NO_KEY

    def _has_images(self, message: Message) -> bool:
        return self.images and any(isinstance(c, Image) and c.path for c in message.content)

    def _cut(self, arrived: int) -> str:
        return f"{self.base_url} cut the reply off after {arrived} characters; what came was kept. Retry makes a new reply."

    async def _explained(self, client: Any, error: Exception, arrived: int) -> BackendError:
        import openai

        explained = self._explain(error, arrived)
        if isinstance(error, openai.NotFoundError):
            try:
                names = [m.id async for m in client.models.list()]
            except (openai.OpenAIError, ValueError):
                return explained
            if names:
                return BackendError(f"{explained} It offers: {', '.join(names[:6])}.")
        return explained

    def _explain(self, error: Exception, arrived: int) -> BackendError:
        """Every way in which a server fails, as one line without the key."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return BackendError(f"{self.base_url} did not answer within {self.timeout_s:.0f} s. Try again, or raise timeout_s for this model.")
        if isinstance(error, openai.APIConnectionError):
            why = self._redacted(str(error.__cause__ or error))
            return BackendError(f"Cannot reach {self.base_url} ({why}). Is the server running, and is this its base URL?")
        if isinstance(error, openai.APIStatusError):
            return BackendError(self._explain_status(error))
        if arrived:
            return BackendError(self._cut(arrived))
        return BackendError(f"{self.base_url} does not answer like an OpenAI server ({self._redacted(str(error))}). Check the base URL.")

    def _explain_status(self, error: Any) -> str:
        code, said = error.status_code, self._redacted(error.message)
        if code in (401, 403):
            variable = self.key_env or "an environment variable, named for this model under Settings"
            state = "is not set" if self._key() == NO_KEY else "was refused"
            return f"{self.base_url} wants a key, and the one from {variable} {state}. Set it and start the studio again."
        if code == 404:
            return f"{self.base_url} has no model {self.model!r} ({said})."
        if code == 429:
            wait = error.response.headers.get("retry-after")
            return f"{self.base_url} has had too many requests{f'; it asks to wait {wait} s' if wait else ''} ({said}). Retry later."
        if code in (400, 413) and any(w in said.lower() for w in ("context", "too long", "maximum", "exceed")):
            return f"The dialogue is too long for {self.model!r} ({said}). Branch from an earlier turn, or shorten the question."
        if 300 <= code < 400:
            return f"{self.base_url} points to another address, which is not followed: it would receive the key. Give the final base URL."
        return f"{self.base_url} refused the request with status {code} ({said})."

    def _redacted(self, text: str) -> str:
        return " ".join(text.replace(self._key(), "***").split())[:200] if self._key() != NO_KEY else " ".join(text.split())[:200]


def _part(content: Content) -> dict[str, Any]:
    if isinstance(content, str):
        return {"type": "text", "text": content}
    if content.path is None:
        return {"type": "text", "text": content.as_text()}
    data = base64.b64encode(content.path.read_bytes()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{content.mime};base64,{data}"}}


def check_url(url: str) -> str:
    """The base URL without a final slash.

    Raises:
        BackendError: not http(s), or an address that no chat server has: link-local, multicast, unspecified.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise BackendError(f"{url[:100]!r} is no base URL. It looks like http://127.0.0.1:8000/v1, without a user name.")
    try:
        numeric = host if ":" in host else socket.inet_ntoa(socket.inet_aton(host))  # also 2852039166, 0xA9FEA9FE
        address = ipaddress.ip_address(numeric)
    except (OSError, ValueError):
        return url.rstrip("/")
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
        raise BackendError(f"{url[:100]!r} points at {mapped}, where no chat server is. Use the address of the server itself.")
    return url.rstrip("/")


def create(model: str = "", base_url: str = "https://api.openai.com/v1", key_env: str | None = None,
           timeout_s: float = 120.0, images: bool = True) -> OpenAIChat:  # fmt: skip
    """A model on a server. ``key_env`` names the variable that holds the key; ``images`` False sends captions instead.

    Raises:
        BackendError: no model, or a base URL that cannot be one.
    """
    if not model:
        raise BackendError("A server model needs the name of the model. Add model = \"...\" to its entry in studio.toml.")
    return OpenAIChat(model, check_url(base_url), key_env, float(timeout_s), bool(images))
