"""What every action works with: the open studio, how to ask, what takes an act back, and checks that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from backends import Options, Pool
from judge import rubric
from studio import StudioError
from studio.config import Config, load_rubric
from studio.live import Live
from studio.livejudge import LiveJudge
from studio.media import Media
from studio.store import Store
from studio.tree import Node

MAX_MESSAGE = 200_000  # characters: about 50,000 tokens, more than the models here read
MAX_REPLIES = 8


class Worker(Protocol):
    """Something that works in a thread of its own."""

    def close(self) -> None:
        """End the thread; nothing is lost."""


@dataclass
class Studio:
    """Everything one run works with."""

    config: Config
    store: Store
    media: Media
    pool: Pool
    live: Live
    judge: LiveJudge
    workers: dict[str, Worker] = field(default_factory=dict)  # what layers above keep at work, by name

    @classmethod
    def open(cls, config: Config) -> Studio:
        """Open the home folder and its own dimensions. Raises StudioError when they cannot be used."""
        load_rubric(config.home)
        store = Store(config.home)
        store.know_dimensions({code: d.level for code, d in rubric.dimensions().items()})
        pool = Pool()
        media = Media(config.home)
        live = Live(store, pool, media)
        return cls(config, store, media, pool, live, LiveJudge(store, media, live))

    def close(self) -> None:
        """Stop what grows, save it, close the store."""
        for worker in self.workers.values():
            worker.close()
        self.live.close()
        self.judge.close()
        self.pool.close()
        self.store.close()


@dataclass(frozen=True)
class Ask:
    """How to ask: which models, how many replies of each, sampling options and a system prompt."""

    models: tuple[str, ...]
    replies: int = 1
    options: Options = field(default_factory=Options)
    system: str = ""


@dataclass(frozen=True)
class Undo:
    """What takes an act back: a name of ``UNDOS`` and its arguments, ids only. ``label`` says what was done."""

    label: str
    act: str
    args: dict[str, Any]


def a_reply(studio: Studio, node_id: str) -> Node:
    """A reply that is whole. Raises StudioError for a question, or while it grows."""
    node = studio.store.node(node_id)
    if node.role != "assistant":
        raise StudioError("This works on a reply, and that message is a question. Choose a reply.")
    not_growing(node)
    return node


def not_growing(node: Node) -> None:
    """Raise StudioError while a reply grows."""
    if node.status == "streaming":
        raise StudioError("This reply is still growing. Wait for it, or stop it first.")


def checked_text(text: str, allow_empty: bool = False) -> str:
    """What a person wrote, trimmed. Raises StudioError when it is empty or too long; nothing they typed is lost by that."""
    text = text.strip().replace("\x00", "")
    if not text and not allow_empty:
        raise StudioError("The message is empty. Write something or add a picture.")
    if len(text) > MAX_MESSAGE:
        raise StudioError(f"The message has {len(text):,} characters; at most {MAX_MESSAGE:,} can be sent. Shorten it.")
    return text
