"""What a click does, without a screen: ask, retry, edit, prune, rate, undo. Tests call these directly.

Every action takes the ``Studio`` first, works on ids, leaves the truth in the store, and raises StudioError for what the
person can mend. Replies grow in ``studio.live``; ``follow`` there is the generator that a screen iterates.
"""

from __future__ import annotations

from studio.actions.asking import ask, edit, messages_for, retry, sent, stop
from studio.actions.core import MAX_MESSAGE, MAX_REPLIES, Ask, Studio, Undo
from studio.actions.marking import UNDOS, prune, rate, rename, restore, say, star, undo
from studio.actions.models import add_model, reload_models, remove_model

__all__ = [
    "MAX_MESSAGE", "MAX_REPLIES", "UNDOS", "Ask", "Studio", "Undo", "add_model", "ask", "edit", "messages_for", "prune", "rate",
    "reload_models", "remove_model", "rename", "restore", "retry", "say", "sent", "star", "stop", "undo",
]  # fmt: skip
