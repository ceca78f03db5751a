"""One message of OpenAssistant, checked, and the messages of a tree with parents first. However deep, nothing recurses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from studio import StudioError
from studio.exchange import oasst_labels
from studio.exchange.records import expect
from studio.store.checks import whole
from studio.tree import Role

ROLES: Mapping[Any, Role] = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Message:
    """``rank``: 0 is the best of its siblings. ``labels``: averages over raters, 0 to 1. ``created_at``: UTC ISO 8601."""

    where: str
    id: str
    parent: str | None
    role: Role
    text: str
    rank: int | None
    deleted: bool
    rejected: bool
    synthetic: bool
    lang: str
    model: str | None
    created_at: str | None
    labels: dict[str, float]


@dataclass(frozen=True, slots=True)
class Thread:
    """One tree: its id and its messages."""

    id: str
    messages: list[Message]


def message(where: str, row: Any, with_labels: bool) -> Message:
    """One message, without its replies. Raises StudioError naming ``where`` and the field that is wrong."""
    expect(isinstance(row, dict), where, "a message is no object")
    name = row.get("message_id")
    expect(isinstance(name, str) and name, where, f"message_id is {name!r:.40}, which is no id")
    here = f"{where}: message {name[:40]}"
    parent, rank = row.get("parent_id"), row.get("rank")
    expect(parent is None or isinstance(parent, str), here, f"parent_id is {parent!r:.40}, which is no id")
    expect(
        row.get("role") in ("prompter", "assistant"),
        here,
        f"role is {row.get('role')!r:.40}, not prompter or assistant",
    )
    text = row.get("text")
    expect(isinstance(text, str), here, f"text is {text!r:.40}, which is no text")
    number = whole(rank)
    expect(
        rank is None or (number is not None and number >= 0), here, f"rank is {rank!r:.40}, not a whole number from 0"
    )
    for flag in ("deleted", "synthetic", "review_result"):
        value = row.get(flag)
        expect(value is None or isinstance(value, bool), here, f"{flag} is {value!r:.40}, not true or false")
    model, lang = row.get("model_name"), row.get("lang")
    return Message(
        where,
        name,
        parent or None,
        ROLES[row["role"]],
        _whole_characters(text),
        number,
        bool(row.get("deleted")),
        row.get("review_result") is False,
        bool(row.get("synthetic")),
        lang if isinstance(lang, str) else "",
        model if isinstance(model, str) and model not in ("", "null") else None,
        _time(row.get("created_date")),
        oasst_labels.averages(here, row.get("labels")) if with_labels else {},
    )


def nested(where: str, prompt: Any, with_labels: bool) -> list[Message]:
    """The messages of a whole tree, parents first. Raises StudioError: a message is wrong, or there twice."""
    messages: list[Message] = []
    met: set[str] = set()
    pending: list[tuple[Any, str | None]] = [(prompt, None)]
    while pending:
        row, parent = pending.pop()
        one = message(where, row, with_labels)
        expect(one.id not in met, where, f"the message {one.id[:40]} is there twice")
        met.add(one.id)
        if parent is not None:
            expect(
                one.parent in (None, parent), where, f"the message {one.id[:40]} names another parent than it hangs on"
            )
            one = replace(one, parent=parent)
        messages.append(one)
        replies = row.get("replies")
        expect(replies is None or isinstance(replies, list), where, f"the replies of {one.id[:40]} are no list")
        pending += [(reply, one.id) for reply in reversed(replies or [])]
    return messages


def in_order(thread: Thread) -> Thread:
    """The same messages, parents first and siblings as they came.

    Raises StudioError: a message is among its own ancestors, or answers one of its own role.
    """
    by_id = {m.id: m for m in thread.messages}
    children: dict[str | None, list[Message]] = {}
    for m in thread.messages:
        children.setdefault(m.parent if m.parent in by_id else None, []).append(m)
    ordered: list[Message] = []
    pending = list(reversed(children.get(None, [])))
    while pending:
        m = pending.pop()
        above = by_id.get(m.parent or "")
        if above is not None and above.role == m.role:
            raise StudioError(f"{m.where}: the message {m.id[:40]} answers one of the same role ({above.id[:40]}).")
        ordered.append(m)
        pending += reversed(children.get(m.id, []))
    if len(ordered) < len(thread.messages):
        rooted = {m.id for m in ordered}
        lost = _in_cycle(next(m for m in thread.messages if m.id not in rooted), by_id)
        raise StudioError(f"{lost.where}: the message {lost.id[:40]} is among its own ancestors.")
    return Thread(thread.id, ordered)


def _in_cycle(start: Message, by_id: Mapping[str, Message]) -> Message:
    met: set[str] = set()
    at = start
    while at.id not in met:
        met.add(at.id)
        at = by_id[at.parent or ""]
    return at


def _whole_characters(text: str) -> str:
    """Half of a character (a lone surrogate, which JSON may hold) becomes a mark; nothing else changes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _time(value: Any) -> str | None:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)).isoformat(timespec="milliseconds")
