"""Any server with the OpenAI chat interface: OpenAI, vLLM, SGLang, Ollama, LM Studio, llama.cpp, OpenRouter.

Owns how replies are asked for: one, several in one request, or several requests at once; and asking again when a server is
busy. Holds no key: that is looked up for each request, goes to its origin only, and stays out of every message.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from backends.base import Backend, BackendError, Capabilities, Delta, Message, Options
from backends.openai.connection import Connection, offered, values
from backends.openai.flow import Item, flow
from backends.openai.patience import Patience
from backends.openai.reading import Reading
from backends.openai.request import body, refused
from backends.openai.settings import Settings, checked
from backends.openai.tools import as_tokens, split


class OpenAIChat(Backend):
    """One model on one server. Safe to stream from several threads: each request has its own connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self._connection = settings, Connection(settings)
        self._without: set[str] = set()  # what the server refused before, so that it is asked once only
        self.capabilities = Capabilities(
            images_in=settings.images,
            images_out=settings.images_out,
            parallel=True,
            token_counts=True,
            together=settings.n is not False,
            sampling=tuple(settings.sampling),
        )

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply as the server sends it; a set ``stop`` closes the connection within 0.1 s.

        Raises:
            BackendError: no connection, no time, no key, no such model, too many requests, too long, or cut off. What
                came until then has been yielded.
        """
        for _, delta in flow([(self._request(messages, options), [stop])]):
            yield delta

    def sample(
        self, messages: list[Message], options: Options, n: int, stop: Sequence[threading.Event]
    ) -> Iterator[Item]:
        """Yield the pieces of ``n`` candidates: of one request where the server can, else of as many at once.

        A seed belongs to one reply, so that candidates with seeds are requests of their own. One that was stopped goes on
        unseen as long as another one of its request does.

        Raises:
            BackendError: as ``stream``; candidates in requests of their own are complete before.
        """
        over: set[int] = set()
        if n > 1 and options.seed is None and self.capabilities.together:
            for i, delta in flow([(self._request(messages, options, n), stop)]):
                if delta.last:
                    over.add(i)
                if not stop[i].is_set() or delta.last:
                    yield i, delta
            left = [i for i in range(n) if i not in over and not stop[i].is_set()]
            if left:  # it answered with fewer: from now on each gets a request
                self.capabilities = replace(self.capabilities, together=False)
        else:
            left = list(range(n))
        yield from flow([(self._request(messages, options.candidate(i), first=i), [stop[i]]) for i in left])

    def models(self) -> list[str]:
        """Names of the models that the server offers. Raises BackendError as ``stream`` does."""
        import openai

        key = self._connection.key()

        async def ask() -> list[str]:
            async with self._connection.client(key) as client:
                try:
                    return await offered(client)
                except (openai.OpenAIError, ValueError) as error:
                    raise self._connection.failures.explain(error, key, None) from error

        with start_blocking_portal() as portal:
            return portal.call(ask)

    # ---- one request

    async def _request(
        self, messages: list[Message], options: Options, n: int = 1, first: int = 0
    ) -> AsyncGenerator[Item, None]:
        """The pieces of one request for ``n`` replies, numbered from ``first``. Nothing at all where ``n`` is refused."""
        import openai

        key, reading, begun = self._connection.key(), Reading(n), False
        patience, wanted = Patience(self.settings.retries), body(self.settings, messages, options, n, self._without)
        async with self._connection.client(key) as client:
            try:
                while not begun:
                    try:
                        answer = await self._connection.begin(client, wanted)
                        begun = True
                    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                        if not (name := refused(wanted, str(error))) or name in self._without:
                            raise
                        self._without.add(name)
                        if name == "n":
                            return
                        wanted = body(self.settings, messages, options, n, self._without)
                    except openai.APIStatusError as error:
                        if (wait_s := patience.wait_s(error)) is None:
                            raise
                        for i in range(n):
                            yield first + i, Delta(phase="server")
                        await anyio.sleep(wait_s)
                async with answer:
                    async for value in values(answer):
                        for i, delta in reading.take(value):
                            yield first + i, delta
            except (openai.OpenAIError, ValueError) as error:
                arrived = reading.arrived if begun else None
                raise await self._connection.explain(client, error, key, arrived) from error
        for item in self._ends(reading, wanted, first):
            yield item

    def _ends(self, reading: Reading, wanted: dict[str, Any], first: int) -> Iterator[Item]:
        """The last pieces of the replies of a request. Raises BackendError when one was cut off, or is no reply."""
        settings = self.settings
        request = {k: v for k, v in wanted.items() if k != "messages"}
        left_out = sorted(self._without - {"n", "max_tokens", "stream_options"})
        for i, choice in sorted(reading.choices.items()):
            if choice.finish is not None:
                others = [choice.tools[at] for at in sorted(choice.tools)]
                calls, others = split(others) if settings.image_tools else ([], others)
                if calls:
                    yield first + i, Delta(as_tokens(calls, choice.arrived > 0), facts={"image_calls": calls})
                known: dict[str, Any] = {"request": request} | ({"left_out": left_out} if left_out else {})
                last = reading.last(choice, (settings.price_in, settings.price_out))
                known |= (last.facts or {}) | ({"tool_calls": others} if others else {})
                yield first + i, replace(last, facts=known)
                if others and not calls and not choice.arrived and reading.n == 1:
                    names = ", ".join(call["name"] for call in others)
                    raise BackendError(
                        f"{settings.model} asked for a tool ({names[:80]}) instead of answering; the studio runs none. "
                        "Say in the question that it should answer by itself."
                    )
        if not reading.choices or any(c.finish is None for c in reading.choices.values()):
            raise self._connection.failures.cut(reading.arrived)


def list_models(settings: dict[str, Any]) -> list[str]:
    """Names of the models at ``settings['base_url']``; ``model`` may be missing.

    Raises:
        BackendError: impossible settings, or what the server answers instead.
    """
    return create(**{**settings, "model": settings.get("model") or "any"}).models()


def create(model: str = "", base_url: str | None = None, **more: Any) -> OpenAIChat:
    """A model on a server; ``more`` are the other settings, see ``backends.openai.settings``. Connects to nothing yet.

    Raises:
        BackendError: no model, an unknown or impossible setting, or a base URL that cannot be one.
    """
    given = {"model": model, "base_url": base_url, **more}
    return OpenAIChat(checked({k: v for k, v in given.items() if k != "base_url" or v is not None}))
