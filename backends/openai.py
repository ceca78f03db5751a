"""Any server with the OpenAI chat interface: OpenAI, vLLM, SGLang, Ollama, LM Studio, llama.cpp, OpenRouter.

Owns the request and its connection. Holds the name of the environment variable with the key, never the key: that goes
to the configured origin only, follows no redirect, and stays out of every message.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from anyio.from_thread import start_blocking_portal

from backends.addresses import check_url, is_loopback
from backends.base import Backend, BackendError, Capabilities, Content, Delta, Image, Message, Options
from backends.failures import Failures

POLL_S = 0.05  # how soon a set stop is seen while the server is silent
CONNECT_S = 10.0
NO_KEY = "none"  # local servers want the header, not what is in it
SETTINGS = ("model", "base_url", "key_env", "timeout_s", "images")
# nothing else leaves: the openai package would add what it finds in the environment, and a description of the machine
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent"}


class OpenAIChat(Backend):
    """One model on one server. Safe to stream from several threads: each reply has its own connection."""

    def __init__(self, model: str, base_url: str, key_env: str | None, timeout_s: float, images: bool) -> None:
        self.model, self.base_url, self.key_env = model, base_url, key_env
        self.timeout_s, self.images = timeout_s, images
        self._failures = Failures(base_url, model, key_env, CONNECT_S, timeout_s)
        self.capabilities = Capabilities(images_in=images, parallel=True, token_counts=True)

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply as the server sends it; a set ``stop`` closes the connection within 0.1 s.

        Raises:
            BackendError: no connection, no time, no key, no such model, too many requests, too long, or cut off. What
                came until then has been yielded.
        """
        arrived: queue.SimpleQueue[Delta | None] = queue.SimpleQueue()

        async def fetch() -> None:
            try:
                async for delta in self._deltas(messages, options):
                    arrived.put(delta)
            finally:
                arrived.put(None)

        # a loop in a thread of its own: only a coroutine that waits for a socket can be called off at once, and the
        # caller may have a running loop already (a notebook has)
        with start_blocking_portal() as portal:
            task = portal.start_task_soon(fetch)
            try:
                while not stop.is_set():
                    with contextlib.suppress(queue.Empty):
                        if (delta := arrived.get(timeout=POLL_S)) is None:
                            return task.result()
                        yield delta
            finally:  # also when the caller closes the generator early
                task.cancel()

    def models(self) -> list[str]:
        """Names of the models that the server offers. Raises BackendError as ``stream`` does."""
        import openai

        async def ask() -> list[str]:
            async with self._client() as client:
                try:
                    return await _offered(client)
                except (openai.OpenAIError, ValueError) as error:
                    raise self._failures.explain(error, self._key(), None) from error

        with start_blocking_portal() as portal:
            return portal.call(ask)

    # ---- the request

    async def _deltas(self, messages: list[Message], options: Options) -> AsyncGenerator[Delta, None]:
        import openai

        arrived, finish, usage = None, None, None  # arrived: characters of the reply, None before its stream began
        async with self._client() as client:
            try:
                async with await self._begin(client, self._sent(messages), options) as chunks:
                    _check_stream(chunks.response)
                    arrived = 0
                    async for chunk in chunks:
                        text, ended = _read(chunk)
                        finish, usage = ended or finish, getattr(chunk, "usage", None) or usage
                        if text:
                            arrived += len(text)
                            yield Delta(text)
            except (openai.OpenAIError, ValueError) as error:
                raise await self._explain(client, error, arrived) from error
        if finish is None:
            raise self._failures.cut(arrived or 0)
        yield Delta(
            finish="length" if finish == "length" else "stop",
            prompt_tokens=getattr(usage, "prompt_tokens", None),
            completion_tokens=getattr(usage, "completion_tokens", None),
        )

    async def _begin(self, client: Any, sent: list[dict[str, Any]], options: Options) -> Any:
        """Start the stream; once more without what a server of another age does not know."""
        import openai

        wanted: dict[str, Any] = {
            "model": self.model,
            "messages": sent,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
            "top_p": options.top_p,
            "max_tokens": options.max_tokens,
        }
        if options.seed is not None:
            wanted["seed"] = options.seed
        while True:
            try:
                return await client.chat.completions.create(**wanted)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "max_completion_tokens" in str(error) and "max_tokens" in wanted:
                    wanted["max_completion_tokens"] = wanted.pop("max_tokens")
                elif "stream_options" in str(error) and "stream_options" in wanted:
                    del wanted["stream_options"]
                else:
                    raise

    def _sent(self, messages: list[Message]) -> list[dict[str, Any]]:
        """The messages in the server's form. It takes images from users only: a reply's go with the next question."""
        sent: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = []
        for message in messages:
            parts = [_part(c, self.images) for c in message.content]
            images = [p for p in parts if p["type"] == "image_url"]
            content: str | list[dict[str, Any]] = message.as_text()
            if message.role != "user":
                waiting += images
            elif waiting or images:
                content, waiting = [*waiting, *parts], []
            sent.append({"role": message.role, "content": content})
        return sent

    def _client(self) -> Any:
        import openai

        key = self._key() or NO_KEY

        async def only_ours(request: Any) -> None:
            for name in set(request.headers) - HEADERS:
                del request.headers[name]
            request.headers["authorization"] = f"Bearer {key}"

        timeout = openai.Timeout(self.timeout_s, connect=CONNECT_S)
        plain = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # one would carry the key elsewhere
            trust_env=not is_loopback(self.base_url),  # no proxy between this machine and itself
            event_hooks={"request": [only_ours]},
            timeout=timeout,
        )
        # no retries: they would keep a person waiting unawares, and pay twice for a reply that came too late
        return openai.AsyncOpenAI(
            api_key=key, base_url=self.base_url, max_retries=0, timeout=timeout, http_client=plain
        )

    def _key(self) -> str | None:
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if not (key.isascii() and key.isprintable()):
            raise BackendError(f"The key in {self.key_env} has characters that no key has. Set it again, just the key.")
        return key or None

    async def _explain(self, client: Any, error: Exception, arrived: int | None) -> BackendError:
        import openai

        explained = self._failures.explain(error, self._key(), arrived)
        if not isinstance(error, openai.NotFoundError):
            return explained
        try:
            names = await _offered(client)
        except (openai.OpenAIError, ValueError):
            return BackendError(f"{explained} Check the base URL too: it often ends in /v1.")
        return BackendError(f"{explained} Choose one that it offers: {', '.join(names[:6]) or 'it names none'}.")


def _check_stream(response: Any) -> None:
    kind = response.headers.get("content-type", "")
    if "event-stream" not in kind:
        raise ValueError(f"it sends {kind or 'something unnamed'}, no stream of events")


async def _offered(client: Any) -> list[str]:
    """Names of the server's models. Raises OpenAIError, or ValueError for an answer of another form."""
    found = json.loads(await client.get("/models", cast_to=str))  # models.list() stumbles over any other form
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise ValueError("it sends no list of models")
    return [m["id"] for m in found["data"] if isinstance(m, dict) and isinstance(m.get("id"), str)]


def _read(chunk: Any) -> tuple[str, str | None]:
    """Text and finish reason of a piece; servers leave out, or null, all that this looks at."""
    choices = getattr(chunk, "choices", None)
    if not isinstance(choices, list) or not choices:
        return "", None
    text = getattr(getattr(choices[0], "delta", None), "content", None)
    return text if isinstance(text, str) else "", getattr(choices[0], "finish_reason", None)


def _part(content: Content, images: bool) -> dict[str, Any]:
    if isinstance(content, str):
        return {"type": "text", "text": content}
    data = _read_image(content) if images else None
    if data is None:
        return {"type": "text", "text": content.as_text()}
    url = f"data:{content.mime};base64,{base64.b64encode(data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _read_image(image: Image) -> bytes | None:
    try:
        return image.path.read_bytes() if image.path else None
    except OSError:  # deleted since: the caption goes instead, as for an image that never had a file
        return None


def list_models(settings: dict[str, Any]) -> list[str]:
    """Names of the models at ``settings['base_url']``; ``model`` may be missing.

    Raises:
        BackendError: impossible settings, or what the server answers instead.
    """
    return create(**{**settings, "model": settings.get("model") or "any"}).models()


def create(
    model: str = "",
    base_url: str = "https://api.openai.com/v1",
    key_env: str | None = None,
    timeout_s: float = 120.0,
    images: bool = True,
    **unknown: Any,
) -> OpenAIChat:
    """A model on a server. ``key_env`` names the variable that holds the key; ``images`` False sends captions instead.

    ``timeout_s``: seconds of silence until it counts as lost. Connects to nothing yet.

    Raises:
        BackendError: no model, an unknown or impossible setting, or a base URL that cannot be one.
    """
    if unknown:
        raise BackendError(f"A server model has no setting {', '.join(unknown)}. It knows {', '.join(SETTINGS)}.")
    if not isinstance(model, str) or not model:
        raise BackendError('A server model needs the name of the model. Add model = "..." to its entry in studio.toml.')
    if type(timeout_s) not in (int, float) or not timeout_s > 0:
        raise BackendError(f"A server model cannot wait timeout_s = {timeout_s!r}. Give seconds, more than 0.")
    if key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key_env)):
        raise BackendError("key_env is the name of an environment variable, such as OPENAI_API_KEY, never the key.")
    return OpenAIChat(model, check_url(base_url), key_env or None, float(timeout_s), bool(images))
