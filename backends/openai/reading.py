"""What a server streams, piece by piece, as deltas of one or several replies.

Owns the many places in which servers put text, reasoning, pictures and counts; all of it is untrusted and may be missing, null
or of another type. Never connects: it takes what JSON gave.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from backends.base import Delta

REASONING = ("reasoning_content", "reasoning", "thinking")  # DeepSeek and SGLang; OpenRouter, vLLM and Ollama; others
MAX_TOOL_CALLS = 64


@dataclass
class Choice:
    """One reply on its way: how much came, how it ended, and what is known of it. ``logprobs``: their sum and number."""

    arrived: int = 0
    finish: str | None = None
    logprobs: tuple[float, int] = (0.0, 0)
    tools: dict[int, dict[str, str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    elsewhere: list[str] = field(default_factory=list)


class Reading:
    """The choices of one request, by index."""

    def __init__(self, n: int = 1) -> None:
        self.n, self.choices, self.usage, self.model = n, dict[int, Choice](), dict[str, Any](), ""

    def take(self, chunk: object) -> Iterator[tuple[int, Delta]]:
        """What one piece of the stream adds, with the number of its reply."""
        if not isinstance(chunk, dict):
            return
        self.usage = _dict(chunk.get("usage")) or self.usage
        self.model = chunk["model"] if isinstance(chunk.get("model"), str) else self.model
        for found in _dicts(chunk.get("choices")):
            i = found.get("index") or 0
            if type(i) is not int or not 0 <= i < self.n:
                continue
            choice = self.choices.setdefault(i, Choice())
            for delta in _pieces(choice, _dict(found.get("delta")) or _dict(found.get("message"))):
                choice.arrived += len(delta.text)
                yield i, delta
            choice.logprobs = _logprobs(choice.logprobs, found.get("logprobs"))
            if isinstance(found.get("finish_reason"), str):
                choice.finish = found["finish_reason"]

    @property
    def arrived(self) -> int:
        """Characters of all replies."""
        return sum(c.arrived for c in self.choices.values())

    def last(self, choice: Choice, prices: tuple[float | None, float | None]) -> Delta:
        """The last piece of a reply that ended: counts, and what else is known.

        A server counts the tokens of all replies of a request together: one among several has no count of its own, and
        an equal share of the cost. ``prices``: per million tokens, in and out.
        """
        read, written = _count(self.usage.get("prompt_tokens")), _count(self.usage.get("completion_tokens"))
        total, number = choice.logprobs
        thought = _count(_dict(self.usage.get("completion_tokens_details")).get("reasoning_tokens"))
        known = {
            "finish": choice.finish,
            "answered_by": self.model,
            "cost": self._cost(read, written, prices),
            "tokens_of_all": written if self.n > 1 else None,
            "reasoning_tokens": thought if self.n == 1 else None,
            "mean_logprob": total / number if number else None,
            "images_elsewhere": choice.elsewhere,
        }
        return Delta(
            finish="length" if choice.finish == "length" else "stop",
            prompt_tokens=read,
            completion_tokens=written if self.n == 1 else None,
            facts={k: v for k, v in known.items() if v not in (None, "", [])},
            last=True,
        )

    def _cost(self, read: int | None, written: int | None, prices: tuple[float | None, float | None]) -> float | None:
        named = self.usage.get("cost")  # OpenRouter names its own
        if prices == (None, None):
            return named / self.n if isinstance(named, (int, float)) and named >= 0 else None
        if read is None or written is None:
            return None
        return (read * (prices[0] or 0) + written * (prices[1] or 0)) / 1e6 / self.n


def _pieces(choice: Choice, piece: dict[str, Any]) -> Iterator[Delta]:
    """Reasoning, text and pictures of one piece, in their order; tool calls are gathered."""
    reasoning = next((t for name in REASONING if isinstance(t := piece.get(name), str) and t), "")
    if reasoning:
        yield Delta(reasoning=reasoning)
    content = piece.get("content")
    for part in [content] if isinstance(content, str) else content if isinstance(content, list) else []:
        yield from _part(choice, part)
    if isinstance(refusal := piece.get("refusal"), str) and refusal:
        yield Delta(refusal)
    for item in _dicts(piece.get("images")):
        yield from _picture(choice, item)
    for call in _dicts(piece.get("tool_calls")):
        _gather(choice, call)


def _part(choice: Choice, part: Any) -> Iterator[Delta]:
    if isinstance(part, str):
        yield from [Delta(part)] if part else []
    elif isinstance(part, dict) and part.get("type") in REASONING:
        said = part.get("thinking") or part.get("text")  # Mistral: a list of parts within the part
        text = said if isinstance(said, str) else "".join(str(t.get("text") or "") for t in _dicts(said))
        yield from [Delta(reasoning=text)] if text else []
    elif isinstance(part, dict) and isinstance(part.get("text"), str):
        yield from [Delta(part["text"])] if part["text"] else []
    elif isinstance(part, dict):
        yield from _picture(choice, part)


def _picture(choice: Choice, item: dict[str, Any]) -> Iterator[Delta]:
    """A picture that is in the answer itself, once. One at an address elsewhere is noted, and nobody is asked for it."""
    link = item.get("image_url") or item.get("url")
    url = link.get("url") if isinstance(link, dict) else link
    encoded = item.get("b64_json") or item.get("image_base64")
    if isinstance(url, str) and url.startswith("data:"):
        encoded = url.partition(",")[2]
    elif isinstance(url, str):
        choice.elsewhere.append(url[:500])
    if not isinstance(encoded, str) or not encoded:
        return
    digest = hashlib.sha256(encoded.encode()).hexdigest()  # some servers send the whole again with their last piece
    if digest not in choice.seen:
        choice.seen.add(digest)
        yield Delta(image=base64.b64decode(encoded))  # ValueError: no base64, so no answer of this interface


def _gather(choice: Choice, call: dict[str, Any]) -> None:
    index = call.get("index")
    at = index if type(index) is int else len(choice.tools)
    if at not in choice.tools and len(choice.tools) >= MAX_TOOL_CALLS:
        return
    mine, said = choice.tools.setdefault(at, {"name": "", "arguments": ""}), _dict(call.get("function"))
    for name in mine:
        value = said.get(name)
        if isinstance(value, dict):  # Ollama: not yet text
            value = json.dumps(value, ensure_ascii=False)
        mine[name] += value if isinstance(value, str) else ""


def _logprobs(so_far: tuple[float, int], found: Any) -> tuple[float, int]:
    total, number = so_far
    for token in _dicts(_dict(found).get("content")):
        if isinstance(value := token.get("logprob"), (int, float)):
            total, number = total + value, number + 1
    return total, number


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
