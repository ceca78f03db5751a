"""A backend that answers with nothing installed: it restates the question. For demos and tests; never presented as a model."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from backends.base import BackendError, Capabilities, Delta, Image, Message, Options

OPENINGS = ("You wrote", "Your message was", "I read", "Here is your message again", "What you sent")
REMARKS = ("Another reply starts with other words.", "A real model would answer here.", "Add a model under Settings to get an answer.")


class Echo:
    """Restates the last question, its pictures and how much came before. The seed varies the wording, nothing else."""

    def __init__(self, delay_ms: float = 15.0, fail_after: int | None = None) -> None:
        self.capabilities = Capabilities(images_in=True, parallel=True, token_counts=True)
        self.delay_ms, self.fail_after = delay_ms, fail_after

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """One word at a time, ``delay_ms`` apart; a word counts as a token. Raises BackendError after ``fail_after`` words."""
        words = self._reply(messages, options.seed).split(" ")
        prompt = sum(len(m.as_text().split()) for m in messages)
        for i, word in enumerate(words[: options.max_tokens]):
            if i == self.fail_after:
                raise BackendError(f"The echo was told to fail after {i} words. Nothing is wrong; retry makes a new reply.")
            if stop.wait(self.delay_ms / 1000):
                yield Delta(prompt_tokens=prompt, completion_tokens=i)
                return
            yield Delta(word if i == 0 else f" {word}")
        finish = "length" if len(words) > options.max_tokens else "stop"
        yield Delta(finish=finish, prompt_tokens=prompt, completion_tokens=min(len(words), options.max_tokens))

    def _reply(self, messages: list[Message], seed: int | None) -> str:
        question = next((m for m in reversed(messages) if m.role == "user"), Message("user", ("nothing",)))
        turns = sum(m.role == "assistant" for m in messages)
        wording = random.Random(seed)
        text = " ".join(c for c in question.content if isinstance(c, str))
        pictures = [c.caption or "no caption" for c in question.content if isinstance(c, Image)]
        lines = [f"**This is an echo, not a model.** {wording.choice(OPENINGS)}:", f"> {text or '(no words)'}".replace("\n", "\n> ")]
        if pictures:
            lines.append(f"With {len(pictures)} picture{'s' * (len(pictures) > 1)}: {', '.join(pictures)}.")
        came = "Nothing came before it." if not turns else f"{turns} repl{'y' if turns == 1 else 'ies'} came before it."
        return "\n\n".join([*lines, f"{came} {wording.choice(REMARKS)}"])


def create(delay_ms: float = 15.0, fail_after: int | None = None) -> Echo:
    """An echo; ``delay_ms`` between words, ``fail_after`` words for tests of failure."""
    return Echo(float(delay_ms), fail_after)
