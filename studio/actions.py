"""What a click does, without a screen: ask, retry, edit, prune, rate, undo. Tests call these directly.

Every action takes the ``Studio`` first, works on ids, leaves the truth in the store, and raises StudioError for what the
person can mend. Replies grow in ``studio.live``; ``follow`` there is the generator that a screen iterates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends import Image, Message, ModelSpec, Options, Pool
from judge import rubric
from studio import StudioError, config
from studio.config import Config
from studio.live import Live
from studio.media import Media
from studio.store import Store
from studio.tree import Node, Part

MAX_MESSAGE = 200_000  # characters: about 50,000 tokens, more than the models here read
MAX_REPLIES = 8
TITLE_LENGTH = 60


@dataclass
class Studio:
    """Everything one run works with."""

    config: Config
    store: Store
    media: Media
    pool: Pool
    live: Live

    @classmethod
    def open(cls, config: Config) -> Studio:
        """Open the home folder. Raises StudioError when it cannot be used."""
        store = Store(config.home)
        pool = Pool()
        return cls(config, store, Media(config.home), pool, Live(store, pool))

    def close(self) -> None:
        """Stop what grows, save it, close the store."""
        self.live.close()
        self.store.close()


@dataclass(frozen=True)
class Ask:
    """How to ask: which models, how many replies of each, sampling options and a system prompt."""

    models: tuple[str, ...]
    replies: int = 1
    options: Options = Options()
    system: str = ""


@dataclass(frozen=True)
class Undo:
    """What takes an act back: a name of ``UNDOS`` and its arguments, ids only. ``label`` says what was done."""

    label: str
    act: str
    args: dict[str, Any]


# ---- asking


def ask(studio: Studio, lanes: Sequence[str], text: str, images: Sequence[Path], how: Ask) -> list[str]:
    """Put a question under each lane (none: in a new tree) and let models answer; returns the new reply ids.

    One lane: every chosen model answers ``how.replies`` times, as siblings. Several lanes: each goes on with the model
    that wrote it, so that each keeps its own history.

    Raises:
        StudioError: nothing written, too long, a picture that cannot be used, no model; nothing is saved then.
    """
    specs = _models(studio, how)
    parts = _question(studio, text, images)
    with studio.store.write():
        if not lanes:
            tree_id = studio.store.create_tree(title=_title(parts))
            asked = [(studio.store.add_node(tree_id, None, "user", parts), specs * how.replies)]
        elif len(lanes) == 1:
            leaf = _reply(studio, lanes[0])
            asked = [(studio.store.add_node(leaf.tree_id, leaf.id, "user", parts), specs * how.replies)]
        else:
            leaves = [_reply(studio, lane) for lane in lanes]
            asked = [(studio.store.add_node(n.tree_id, n.id, "user", parts), [_own_model(studio, n, specs[0])]) for n in leaves]
    return [reply for question, answering in asked for reply in _answer(studio, question, answering, how)]


def retry(studio: Studio, node_id: str, how: Ask) -> list[str]:
    """Let the model of a reply answer again, as a new sibling; on a question, let the chosen models answer it."""
    node = studio.store.node(node_id)
    if node.role == "user":
        return _answer(studio, node.id, _models(studio, how) * how.replies, how)
    _not_growing(node)
    assert node.parent_id is not None  # a reply is never a root
    again = replace(how, options=replace(how.options, seed=None))  # the same seed would give the same reply
    return _answer(studio, node.parent_id, [_own_model(studio, node, _models(studio, how)[0])], again)


def edit(studio: Studio, node_id: str, text: str, how: Ask) -> list[str]:
    """Save a changed text as a new sibling with the same pictures. A question is asked again; a reply is kept as written.

    Returns the ids to show: the new replies, or the edited reply.
    """
    node = studio.store.node(node_id)
    _not_growing(node)
    parts = [Part("text", _text(text, bool(node.images)))] if text.strip() else []
    parts += node.images
    if not parts:
        raise StudioError("The message is empty. Write something, or cancel.")
    if parts == node.parts:
        raise StudioError("Nothing was changed, so nothing was saved.")
    if node.role == "assistant":
        params = {"edited_from": node.id}
        return [studio.store.add_node(node.tree_id, node.parent_id, "assistant", parts, model=studio.config.annotator,
                                      backend="person", params=params)]  # fmt: skip
    specs = _models(studio, how)
    question = studio.store.add_node(node.tree_id, node.parent_id, "user", parts)
    return _answer(studio, question, specs * how.replies, how)


def stop(studio: Studio, node_ids: Sequence[str]) -> int:
    """Stop growing replies; what they wrote stays. Returns how many were growing."""
    return studio.live.stop(list(node_ids))


def messages_for(studio: Studio, reply_parent: str, system: str) -> list[Message]:
    """What a model is sent to answer the question ``reply_parent``: the system prompt and the path down to it."""
    path = studio.store.path(reply_parent)
    first = [Message("system", (system,))] if system.strip() else []
    return first + [Message(n.role, tuple(_content(studio, p) for p in n.parts)) for n in path if n.parts]


def sent(studio: Studio, node_id: str) -> dict[str, Any]:
    """What was sent for a reply, rebuilt from the tree: nodes never change, so this is what the model read."""
    node = studio.store.node(node_id)
    if node.role != "assistant" or not node.parent_id or not node.params.get("options"):
        return {}
    messages = messages_for(studio, node.parent_id, node.params.get("system", ""))
    shown = [{"role": m.role, "content": [c if isinstance(c, str) else c.as_text() for c in m.content]} for m in messages]
    return {"backend": node.backend, "model": node.model, "options": node.params["options"], "messages": shown}


# ---- marking, each with its undo


def star(studio: Studio, node_id: str, on: bool) -> None:
    """Star a node, or take the star away."""
    studio.store.node(node_id)
    studio.store.star(node_id, on)


def prune(studio: Studio, node_id: str) -> Undo:
    """Hide a node and all below it from the current dialogues; nothing is deleted."""
    node = studio.store.node(node_id)
    below = studio.live.growing(node.tree_id)
    stop(studio, [r.node_id for r in below if any(n.id == node_id for n in studio.store.path(r.node_id))])
    count = studio.store.prune(node_id)
    what = "dialogue" if node.parent_id is None else "message" if count == 1 else f"{count} messages"
    return Undo(f"Pruned {'this ' if count == 1 or not node.parent_id else ''}{what}", "restore", {"node": node_id})


def restore(studio: Studio, node_id: str) -> Undo | None:
    """Show a pruned node again, and everything above it."""
    pruned = [n for n in studio.store.path(node_id) if n.pruned_at]
    studio.store.restore(node_id)
    return Undo("Restored the branch", "prune", {"node": pruned[-1].id}) if pruned else None


def rename(studio: Studio, tree_id: str, title: str) -> Undo:
    """Give a dialogue another title, at most 200 characters."""
    old = studio.store.tree(tree_id).title
    title = " ".join(title.split())[:200]
    if not title:
        raise StudioError("A title needs at least one character. The old one was kept.")
    studio.store.rename_tree(tree_id, title)
    return Undo("Renamed the dialogue", "rename", {"tree": tree_id, "title": old})


# ---- judging


def rate(studio: Studio, node_id: str, dimension: str, value: int | None) -> Undo:
    """Make ``value`` the score of a reply on a dimension (None: not judged); durable when this returns.

    Raises:
        StudioError: not a reply, still growing, no such dimension or level.
    """
    try:
        known = rubric.check(dimension, value)
    except rubric.JudgeError as error:
        raise StudioError(str(error)) from error
    node = _reply(studio, node_id)
    who = studio.config.annotator
    before = studio.store.scores([node.id], who).get(node.id, {}).get(dimension)
    studio.store.rate(node.id, dimension, value, who)
    said = f"Rated {known.code} {value}" if value is not None else f"Cleared {known.code}"
    return Undo(said, "rate", {"node": node.id, "dimension": dimension, "value": before})


def say(studio: Studio, node_id: str, level: str, kind: str, text: str) -> None:
    """Keep language feedback on a reply or, with level 'global', on the dialogue it ends. Empty text takes it away."""
    if level not in ("local", "global") or kind not in ("rationale", "critique", "refinement"):
        raise StudioError(f"Feedback is a rationale, critique or refinement, local or global; not {level!r:.30} {kind!r:.30}.")
    _reply(studio, node_id)
    studio.store.say(node_id, level, kind, _text(text, allow_empty=True), studio.config.annotator)


UNDOS = {
    "restore": lambda studio, args: restore(studio, args["node"]),
    "prune": lambda studio, args: prune(studio, args["node"]),
    "rename": lambda studio, args: rename(studio, args["tree"], args["title"]),
    "rate": lambda studio, args: rate(studio, args["node"], args["dimension"], args["value"]),
}


def undo(studio: Studio, act: str, args: dict[str, Any]) -> None:
    """Carry out an ``Undo``. Raises StudioError when it is none of ``UNDOS``, or what it names is not there."""
    try:
        UNDOS[act](studio, args)
    except KeyError as error:
        raise StudioError(f"This cannot be undone: {act!r:.40} lacks {error}.") from error


# ---- models


def add_model(studio: Studio, spec: ModelSpec) -> None:
    """Add a model to ``studio.toml`` and to the list."""
    config.add_model(studio.config.home, spec)
    reload_models(studio)


def remove_model(studio: Studio, name: str) -> None:
    """Take a model of ``studio.toml`` out of the list."""
    config.remove_model(studio.config.home, name)
    reload_models(studio)


def reload_models(studio: Studio) -> None:
    """Read the models of ``studio.toml`` again."""
    studio.config = replace(studio.config, models=config.load(studio.config.home).models)


# ---- inside


def _models(studio: Studio, how: Ask) -> list[ModelSpec]:
    if not how.models:
        raise StudioError("No model is chosen. Choose at least one below the message.")
    if not 1 <= how.replies <= MAX_REPLIES:
        raise StudioError(f"{how.replies} replies at once is outside 1 to {MAX_REPLIES}.")
    return [studio.config.model(name) for name in how.models]


def _own_model(studio: Studio, node: Node, otherwise: ModelSpec) -> ModelSpec:
    return next((m for m in studio.config.models if m.name == node.model), otherwise)


def _reply(studio: Studio, node_id: str) -> Node:
    node = studio.store.node(node_id)
    if node.role != "assistant":
        raise StudioError("This works on a reply, and that message is a question. Choose a reply.")
    _not_growing(node)
    return node


def _not_growing(node: Node) -> None:
    if node.status == "streaming":
        raise StudioError("This reply is still growing. Wait for it, or stop it first.")


def _text(text: str, allow_empty: bool = False) -> str:
    text = text.strip().replace("\x00", "")
    if not text and not allow_empty:
        raise StudioError("The message is empty. Write something or add a picture.")
    if len(text) > MAX_MESSAGE:
        raise StudioError(f"The message has {len(text):,} characters; at most {MAX_MESSAGE:,} can be sent. Shorten it.")
    return text


def _question(studio: Studio, text: str, images: Sequence[Path]) -> list[Part]:
    words = _text(text, allow_empty=bool(images))
    stored = []
    for path in images:
        try:
            stored.append((path, studio.media.add(path.read_bytes(), path.name)))
        except OSError as error:
            raise StudioError(f"Cannot read the picture {path.name!r}: {error.strerror}. Add it again.") from error
    for _, file in stored:
        studio.store.add_image(file.sha256, file.mime, file.width, file.height, file.bytes, "upload")
    parts = [Part("text", words)] if words else []
    return parts + [Part("image", image_sha256=file.sha256, caption=_caption(path)) for path, file in stored]


def _caption(path: Path) -> str:
    """A file's name as words: what a model that reads text only is told about the picture."""
    return re.sub(r"[_\-\s]+", " ", path.stem).strip()[:200]


def _title(parts: Sequence[Part]) -> str:
    words = " ".join(p.text or p.caption for p in parts).split()
    title = " ".join(words)
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1].rstrip() + "…"


def _content(studio: Studio, part: Part) -> str | Image:
    if part.kind == "text":
        return part.text
    path = studio.media.path(part.image_sha256) if part.image_sha256 else None
    mime = studio.store.images([part.image_sha256])[part.image_sha256]["mime"] if path and part.image_sha256 else "image/png"
    return Image(path, mime, part.caption)


def _answer(studio: Studio, question_id: str, specs: Sequence[ModelSpec], how: Ask) -> list[str]:
    """Make one growing reply a model under a question, all in one transaction, and start them."""
    tree_id = studio.store.node(question_id).tree_id
    messages = messages_for(studio, question_id, how.system)
    plans = []
    with studio.store.write():
        for i, spec in enumerate(specs):
            seed = None if how.options.seed is None else how.options.seed + specs[:i].count(spec)
            options = replace(how.options, seed=seed)
            params = {"options": {k: getattr(options, k) for k in options.__dataclass_fields__}, "system": how.system}
            reply = studio.store.add_node(tree_id, question_id, "assistant", status="streaming", backend=spec.backend,
                                          model=spec.name, params=json.loads(json.dumps(params)))  # fmt: skip
            plans.append((reply, spec, options))
    for reply, spec, options in plans:
        studio.live.start(reply, tree_id, spec, messages, options)
    return [reply for reply, *_ in plans]
