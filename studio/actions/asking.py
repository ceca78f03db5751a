"""Asking: a question under one path or several, again, or in other words. Replies grow in ``studio.live``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from backends import BackendError, Image, Message, ModelSpec, Options
from studio import StudioError, history, tokens
from studio.actions.core import MAX_REPLIES, Ask, Studio, a_reply, checked_text, not_growing
from studio.tree import Node, Part

TITLE_LENGTH = 60


def ask(studio: Studio, lanes: Sequence[str], text: str, images: Sequence[Path | Part], how: Ask) -> list[str]:
    """Put a question under each lane (none: in a new tree) and let models answer; returns the new reply ids.

    One lane: every chosen model answers ``how.replies`` times, as siblings. Several lanes: each goes on with the model
    that wrote it, so that each keeps its own history.

    Raises:
        StudioError: nothing written, too long, a picture that cannot be used, no model; nothing is saved then.
    """
    specs = chosen(studio, how)
    parts = question_parts(studio, text, images)
    with studio.store.write():
        if not lanes:
            tree_id = studio.store.create_tree(title=_title(parts))
            asked = [(studio.store.add_node(tree_id, None, "user", parts), specs * how.replies)]
        elif len(lanes) == 1:
            leaf = a_reply(studio, lanes[0])
            asked = [(studio.store.add_node(leaf.tree_id, leaf.id, "user", parts), specs * how.replies)]
        else:
            leaves = [a_reply(studio, lane) for lane in lanes]
            asked = [
                (studio.store.add_node(n.tree_id, n.id, "user", parts), [own_model(studio, n, specs[0])])
                for n in leaves
            ]
    return [reply for question, answering in asked for reply in _answer(studio, question, answering, how)]


def retry(studio: Studio, node_id: str, how: Ask) -> list[str]:
    """Let the model of a reply answer again, as a new sibling; on a question, let the chosen models answer it."""
    node = studio.store.node(node_id)
    if node.role == "user":
        return _answer(studio, node.id, chosen(studio, how) * how.replies, how)
    not_growing(node)
    assert node.parent_id is not None  # a reply is never a root
    again = replace(how, options=replace(how.options, seed=None))  # the same seed would give the same reply
    return _answer(studio, node.parent_id, [own_model(studio, node, chosen(studio, how)[0])], again)


def edit(studio: Studio, node_id: str, text: str, how: Ask) -> list[str]:
    """Save a changed text as a new sibling with the same pictures. A question is asked again; a reply is kept as written.

    Returns the ids to show: the new replies, or the edited reply.
    """
    node = studio.store.node(node_id)
    not_growing(node)
    parts = tokens.recomposed(checked_text(text, bool(node.images)) if text.strip() else "", node.parts)
    if not parts:
        raise StudioError("The message is empty. Write something, or cancel.")
    if parts == node.parts:
        raise StudioError("Nothing was changed, so nothing was saved.")
    if node.role == "assistant":
        params = {"edited_from": node.id}
        return [studio.store.add_node(node.tree_id, node.parent_id, "assistant", parts, model=studio.config.annotator,
                                      backend="person", params=params)]  # fmt: skip
    specs = chosen(studio, how)
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
    """What was sent for a reply, rebuilt from the tree: texts never change, and ``given`` says of each picture how the model had it
    (see ``_given``)."""
    node = studio.store.node(node_id)
    if node.role != "assistant" or not node.parent_id or not node.params.get("options"):
        return {}
    messages = messages_for(studio, node.parent_id, node.params.get("system", ""))
    shown = [
        {"role": m.role, "content": [c if isinstance(c, str) else c.as_text() for c in m.content]}
        | _given(m, node.params.get("seen")) for m in messages
    ]  # fmt: skip
    plain = asdict(Options())
    always = ("temperature", "max_tokens", "seed")
    options = {k: v for k, v in node.params["options"].items() if k in always or v not in (plain.get(k), [])}
    return {"backend": node.backend, "model": node.model, "options": options, "messages": shown,
            "request": node.params.get("request")}  # fmt: skip


# ---- inside


def _given(message: Message, seen: dict[str, str] | None) -> dict[str, list[str | None]]:
    """``given``, where a message has pictures: how the model had each (None: a text): pixels or caption; 'later' when it came
    into its place only afterwards; '' unknown."""

    def how(image: Image) -> str:
        if image.path is None:
            return "caption"
        return "" if seen is None else seen.get(image.path.stem, "later")

    given = [None if isinstance(c, str) else how(c) for c in message.content]
    return {"given": given} if any(g is not None for g in given) else {}


def chosen(studio: Studio, how: Ask) -> list[ModelSpec]:
    """The models that are to answer. Raises StudioError when none is chosen, or too many replies are wanted."""
    if not how.models:
        raise StudioError("No model is chosen. Choose at least one below the message.")
    if not 1 <= how.replies <= MAX_REPLIES:
        raise StudioError(f"{how.replies} replies at once is outside 1 to {MAX_REPLIES}.")
    return [studio.config.model(name) for name in how.models]


def own_model(studio: Studio, node: Node, otherwise: ModelSpec) -> ModelSpec:
    """The model that wrote a reply, where it is still in the list."""
    return next((m for m in studio.config.models if m.name == node.model), otherwise)


def question_parts(studio: Studio, text: str, images: Sequence[Path | Part]) -> list[Part]:
    """A question as parts, its uploads in the store. Raises StudioError for what cannot be asked; nothing is kept then."""
    words = checked_text(text, allow_empty=bool(images))
    pictures, uploads = [], []
    for image in images:
        if isinstance(image, Part):  # in the store already
            pictures.append(image)
            continue
        try:
            data = image.read_bytes()
        except OSError as error:
            raise StudioError(f"Cannot read the picture {image.name!r}: {error.strerror}. Add it again.") from error
        file = studio.media.add(data, image.name)
        uploads.append((file, history.claimed(data)))
        pictures.append(Part("image", image_sha256=file.sha256, caption=_caption(image)))
    for file, claims in uploads:  # only now: one that cannot be used leaves none behind
        studio.store.add_image(file.sha256, file.mime, file.width, file.height, file.bytes, "upload", **claims)
    return [Part("text", words), *pictures] if words else pictures


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
    mime = (
        studio.store.images([part.image_sha256])[part.image_sha256]["mime"]
        if path and part.image_sha256
        else "image/png"
    )
    return Image(path, mime, part.caption)


def _answer(studio: Studio, question_id: str, specs: Sequence[ModelSpec], how: Ask) -> list[str]:
    """Make one growing reply a model under a question, all in one transaction, and start them."""
    tree_id = studio.store.node(question_id).tree_id
    messages = messages_for(studio, question_id, how.system)
    plans = []
    able = {spec.name: _within(studio, spec, how.options) for spec in specs}
    with studio.store.write():
        for i, spec in enumerate(specs):
            options, lost = able[spec.name]
            options = options.candidate(specs[:i].count(spec))
            params = {"options": {k: getattr(options, k) for k in options.__dataclass_fields__}, "system": how.system}
            params |= {"cannot": lost} if lost else {}
            reply = studio.store.add_node(tree_id, question_id, "assistant", status="streaming", backend=spec.backend,
                                          model=spec.name, params=json.loads(json.dumps(params)))  # fmt: skip
            plans.append((reply, spec))
    for spec in {spec.name: spec for spec in specs}.values():
        mine = [reply for reply, asked in plans if asked == spec]
        studio.live.start(mine, tree_id, spec, messages, able[spec.name][0])
    return [reply for reply, _ in plans]


def _within(studio: Studio, spec: ModelSpec, options: Options) -> tuple[Options, list[str]]:
    """What a model can follow of the options, and what is left out for it: one question may go to several models."""
    try:
        return options.within(studio.pool.get(spec).capabilities.sampling)
    except BackendError:  # it cannot be opened, and its reply will say why
        return options, []
