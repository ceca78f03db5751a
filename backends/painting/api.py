"""Any server with the OpenAI images interface: pictures from words (generations), and pictures changed (edits).

Owns what is asked of it and how much of its answer is believed. The key goes to its origin only, no redirect is followed, and
a picture is fetched from nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
from PIL import Image

from backends.addresses import origin
from backends.base import BackendError
from backends.failures import Failures
from backends.images.files import MAX_BYTES, opened, written
from backends.openai import settings as server
from backends.openai.connection import Connection
from backends.openai.flow import flow
from backends.openai.patience import Patience
from backends.openai.request import REFUSED
from backends.painting.base import Can, Step, Task, Wish
from backends.painting.checks import Checked, checked

TIMEOUT_S = 600.0  # of silence: a server on a processor draws for minutes
MAX_ANSWER = 3 * MAX_BYTES  # base64 takes a third more than the picture, and there are words around it
SERVER = ("model", "base_url", "key_env", "keyring", "timeout_s", "connect_s", "retries", "extra")
TAKES = {"steps": "num_inference_steps", "guidance": "guidance_scale", "seed": "seed", "negative": "negative_prompt",
         "strength": "strength"}  # fmt: skip
CAN: tuple[Task, ...] = ("generate", "edit", "inpaint")
MAKE, CHANGE = "/images/generations", "/images/edits"
OURS = ("prompt", "n", "size", "image", "mask", "response_format")


class Refusals(Failures):
    """The lines of ``Failures`` where a server of pictures means something else by a status than one that chats."""

    def _status(self, error: Any, key: str | None) -> str:
        said = self.said(error, key)
        if error.status_code in (404, 405):
            return f"{self.base_url} makes no pictures, or has no model {self.model!r} ({said}). Check the name, and the base URL (.../v1)."
        if error.status_code == 413:
            return f"{self.base_url} finds the request too large ({said}). Change a smaller picture."
        if error.status_code in (400, 422):
            return f"{self.base_url} refused to draw this ({said}). Change the prompt, or what it names."
        return super()._status(error, key)


class ImagesAPI:
    """One model on one server. Safe to use from several threads."""

    def __init__(
        self, name: str, settings: server.Settings, tasks: tuple[Task, ...], takes: tuple[str, ...], own: dict[str, Any]
    ) -> None:
        self.name, self.settings, self._takes = name, settings, takes
        self._connection = Connection(settings)
        known = self._connection.failures
        self._connection.failures = Refusals(
            known.base_url, known.model, known.key_env, known.connect_s, known.timeout_s, known.keyring
        )
        self._without: set[str] = set()  # what the server refused before, so that it is asked once only
        none = dict.fromkeys(("width", "height", "steps", "guidance", "strength"))
        self.can = Can(tasks, none | own, negative="negative" in takes, guidance="guidance" in takes)

    def paint(self, wish: Wish, stop: threading.Event) -> Iterator[Step]:
        """Yield each variant when it is there; a set ``stop`` closes the connection within 0.1 s.

        Raises:
            BackendError: an impossible wish, no connection, no time, no key, no such model, or an answer that is no picture.
        """
        wanted = checked(wish, self.can, self.name)
        for name in ("steps", "strength"):
            if getattr(wish, name) is not None and name not in self._takes:
                raise BackendError(f"{self.name} takes no {name}. Leave it empty, or add it to takes in studio.toml.")
        for variant in range(wish.variants):
            if stop.is_set():
                return
            yield from flow([(self._variant(wanted, variant), [stop])])

    def unload(self, timeout_s: float = 10.0) -> bool:
        """True: the server's memory is its own."""
        return True

    def describe(self) -> dict[str, Any]:
        """Nothing is in the memory of this machine."""
        return {"loaded": False, "memory_mb": 0, "device": origin(self.settings.base_url)}

    # ---- one request

    async def _variant(self, wanted: Checked, variant: int) -> AsyncGenerator[Step, None]:
        import openai

        wish = wanted.wish
        seed = wish.seed + variant if wish.seed is not None and "seed" in self._takes else None
        yield Step(variant, seed=seed)
        key, patience = self._connection.key(), Patience(self.settings.retries)
        async with self._connection.client(key) as client:
            while True:
                body = {k: v for k, v in self._body(wish, seed).items() if k not in self._without}
                try:
                    answer = await self._asked(client, wanted, body)
                    picture, facts = await self._picture(client, answer)
                    break
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    # a server that always answers in this way may not know the word for it
                    if "response_format" not in body or not (
                        REFUSED.search(str(error)) and "response_format" in str(error)
                    ):
                        raise self._connection.failures.explain(error, key, None) from error
                    self._without.add("response_format")
                except (openai.OpenAIError, ValueError) as error:
                    wait_s = patience.wait_s(error) if isinstance(error, openai.APIStatusError) else None
                    if wait_s is None:
                        raise self._connection.failures.explain(error, key, None) from error
                    await anyio.sleep(wait_s)
        notes = list(facts.pop("notes", ()))
        if wish.seed is not None and seed is None:
            notes.append("This server takes no seed: asking again draws another picture.")
        how = {
            "model": self.settings.model,
            "server": origin(self.settings.base_url),
            "width": picture.width,
            "height": picture.height,
        }
        made = written(picture)
        facts |= how | ({"notes": [*notes, *made.notes]} if notes or made.notes else {})
        yield Step(variant, 1, 1, image=made.data, seed=seed, facts=facts)

    def _body(self, wish: Wish, seed: int | None) -> dict[str, Any]:
        """The request without its pictures. The server decides whatever nobody asked for."""
        asked = {"model": self.settings.model, "prompt": wish.prompt, "n": 1, "response_format": "b64_json",
                 "size": f"{wish.width}x{wish.height}" if wish.width and wish.height else None}  # fmt: skip
        values = {
            "steps": wish.steps,
            "guidance": wish.guidance,
            "seed": seed,
            "negative": wish.negative or None,
            "strength": wish.strength,
        }
        asked |= {TAKES[k]: values[k] for k in self._takes}
        return {k: v for k, v in asked.items() if v is not None} | self.settings.extra

    async def _asked(self, client: Any, wanted: Checked, body: dict[str, Any]) -> dict[str, Any]:
        """The server's answer as JSON. Raises what the openai package does, ValueError for an answer that is none."""
        if wanted.source is None:
            content = await _read(client.post, MAKE, body=body)
        else:
            files = [("image", ("picture.png", _png(wanted.source), "image/png"))]
            if wanted.mask is not None:
                files.append(("mask", ("mask.png", _png(_clear(wanted.source, wanted.mask)), "image/png")))
            form = {"headers": {"Content-Type": "multipart/form-data"}}
            content = await _read(client.post, CHANGE, body=body, files=files, options=form)
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError(f"it sends a {type(found).__name__}, no pictures")
        return found

    async def _picture(self, client: Any, answer: dict[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
        """The first picture of an answer, and what the answer says of it.

        Raises:
            BackendError: a picture elsewhere, or one that cannot be read. ValueError: no picture at all.
        """
        data = answer.get("data")
        if not isinstance(data, list) or not data or not isinstance(data[0], dict):
            raise ValueError("it sends no list of pictures")
        first = data[0]
        encoded, url = first.get("b64_json"), first.get("url")
        if not isinstance(encoded, str) and isinstance(url, str) and url.startswith("data:"):
            encoded = url.partition(",")[2]
        if isinstance(encoded, str):
            content = _decoded(encoded)
        elif isinstance(url, str):
            content = await self._fetched(client, url)
        else:
            raise ValueError("its picture is neither b64_json nor url")
        try:
            picture, _, _ = opened(content)
        except BackendError as error:
            raise BackendError(f"{self.settings.base_url} sent no picture that can be used. {error}") from error
        said = first.get("revised_prompt")
        facts: dict[str, Any] = {"revised_prompt": said[:2000]} if isinstance(said, str) and said else {}
        return picture.convert("RGBA" if picture.mode == "RGBA" else "RGB"), facts

    async def _fetched(self, client: Any, url: str) -> bytes:
        """A picture at an address of the same origin; any other could be anywhere."""
        base = self.settings.base_url
        try:
            same = origin(url) == origin(base)
        except (ValueError, KeyError):
            same = False
        if not same:
            raise BackendError(
                f"{base} names a picture at {url[:80]!r}, which is another server: nothing is fetched from there. Set it to answer with b64_json."
            )
        return await _read(client.get, url)


async def _read(ask: Any, where: str, **what: Any) -> bytes:
    """The body of an answer. Raises BackendError once it is larger than a picture can be: the openai package would read on."""
    import openai

    answer = await ask(where, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object], **what)
    data = bytearray()
    async with answer:
        async for part in answer.response.aiter_bytes():
            data += part
            if len(data) > MAX_ANSWER:
                raise BackendError(
                    f"The server sent over {MAX_ANSWER // 2**20} MB for one picture; the rest was not read. Ask for a smaller one."
                )
    return bytes(data)


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"its b64_json is no base64: {error}") from error


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _clear(source: Image.Image, mask: Image.Image) -> Image.Image:
    """The mask as this interface wants it: the picture, transparent where it may change."""
    shown = source.convert("RGBA")
    shown.putalpha(mask.point(lambda v: 255 - v))
    return shown


def create(name: str, **given: Any) -> ImagesAPI:
    """A model on a server. Connects to nothing yet.

    ``tasks``: what it does, of generate, edit and inpaint. ``takes``: what else it knows, of steps, guidance, seed, negative and
    strength. ``width`` and ``height``: the size to begin with. The others as for servers that chat.

    Raises:
        BackendError: no model, an unknown or impossible setting, or a base URL that cannot be one.
    """
    own: dict[str, Any] = {k: given.pop(k) for k in ("width", "height") if k in given}
    tasks, takes = given.pop("tasks", list(CAN)), given.pop("takes", [])
    for what, values, known in (("tasks", tasks, CAN), ("takes", takes, tuple(TAKES))):
        if not isinstance(values, list) or any(v not in known for v in values) or (what == "tasks" and not values):
            raise BackendError(f"{what} = {values!r:.80} is no list of {', '.join(known)}. Mend it in studio.toml.")
    if unknown := set(given) - set(SERVER):
        raise BackendError(
            f"A server that draws has no setting {', '.join(sorted(unknown))}. It knows {', '.join((*SERVER, 'tasks', 'takes', 'width', 'height'))}."
        )
    for key, value in own.items():
        if type(value) is not int or value < 1:
            raise BackendError(
                f"A server that draws cannot begin with {key} = {value!r}. Give pixels, or leave it out."
            )
    settings = server.checked({"timeout_s": TIMEOUT_S, **given})
    if any(k in settings.extra for k in OURS):
        raise BackendError(
            f"extra is a table of more for the request, without {', '.join(OURS)}. Mend it in studio.toml."
        )
    return ImagesAPI(name, settings, tuple(tasks), tuple(takes), own)
