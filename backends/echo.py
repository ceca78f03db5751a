"""A backend that answers with nothing installed: it restates the question. For demos and tests.

Owns its own wording and never anything else: no file, no network, no model, and its text says so.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

from backends.base import Backend, BackendError, Capabilities, Delta, Image, Message, Options

OPENINGS = ("You wrote", "Your message was", "I read", "Here is your message again", "What you sent")
REMARKS = (
    "Another reply starts with other words.",
    "A real model would answer here.",
    "Add a model under Settings to get an answer.",
)
SETTINGS = ("delay_ms", "fail_after")


class Echo(Backend):
    """Restates the last question, its images and how much came before. The seed varies the wording, nothing else."""

    def __init__(self, delay_ms: float = 15.0, fail_after: int | None = None) -> None:
        self.capabilities = Capabilities(images_in=True, parallel=True, token_counts=True, sampling=())
        self.delay_ms, self.fail_after = delay_ms, fail_after

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield one word at a time, ``delay_ms`` apart; a word counts as a token; ``stop`` cuts a pause short.

        Raises:
            BackendError: after ``fail_after`` words, where that was asked for.
        """
        words = self._reply(messages, options.seed).split(" ")
        prompt = sum(len(m.as_text().split()) for m in messages)
        for i, word in enumerate(words[: max(options.max_tokens, 0)]):
            if i == self.fail_after:
                raise BackendError(f"The echo was told to fail after {i} words. Retry, or ask a model.")
            if stop.wait(self.delay_ms / 1000):
                yield Delta(prompt_tokens=prompt, completion_tokens=i)
                return
            yield Delta(word if i == 0 else f" {word}")
        count = min(len(words), max(options.max_tokens, 0))
        yield Delta(finish="length" if count < len(words) else "stop", prompt_tokens=prompt, completion_tokens=count)

    def _reply(self, messages: list[Message], seed: int | None) -> str:
        question = next((m for m in reversed(messages) if m.role == "user"), Message("user", ()))
        turns = sum(m.role == "assistant" for m in messages)
        text = "\n".join(c for c in question.content if isinstance(c, str))
        captions = [c.caption or "no caption" for c in question.content if isinstance(c, Image)]
        # seeds in a row give different words, so that sibling replies can be told apart
        wording = random.randrange(len(OPENINGS) * len(REMARKS)) if seed is None else seed
        opening, remark = OPENINGS[wording % len(OPENINGS)], REMARKS[wording // len(OPENINGS) % len(REMARKS)]
        quoted = (text or "(no words)").replace("\n", "\n> ")
        lines = [f"**This is an echo, not a model.** {opening}:", f"> {quoted}"]
        if captions:
            lines.append(f"With {len(captions)} image{'s' * (len(captions) > 1)}: {', '.join(captions)}.")
        came = "Nothing came before it." if not turns else f"{turns} turn{'s' * (turns > 1)} came before it."
        return "\n\n".join([*lines, f"{came} {remark}"])


def create(delay_ms: float = 15.0, fail_after: int | None = None, **unknown: Any) -> Echo:
    """An echo; ``delay_ms`` between words, ``fail_after`` words for tests of failure.

    Raises:
        BackendError: an unknown or impossible setting.
    """
    if unknown:
        raise BackendError(f"The echo has no setting {', '.join(unknown)}. It knows {', '.join(SETTINGS)}.")
    if type(delay_ms) not in (int, float) or not 0 <= delay_ms <= 60_000:
        raise BackendError(f"The echo cannot wait {delay_ms!r} ms between words. Give delay_ms from 0 to 60000.")
    if fail_after is not None and (type(fail_after) is not int or fail_after < 0):
        raise BackendError(f"The echo cannot fail after {fail_after!r} words. Give fail_after as a whole number.")
    return Echo(float(delay_ms), fail_after)
