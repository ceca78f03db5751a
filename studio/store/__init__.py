"""The store: trees, nodes, images and judgements in ``HOME/studio.db``. Only this package and the migrations contain SQL.

``Store(home)`` is the whole interface; its parts are ``connection``, ``trees``, ``judgements``, ``judges``, ``queues``, ``images`` and ``transfer``.
"""

from __future__ import annotations

from studio.store.connection import Connection, new_id, now
from studio.store.images import Images
from studio.store.judgements import Judgements
from studio.store.judges import Judges
from studio.store.queues import Candidate, Item, Queues
from studio.store.search import Hit, Search
from studio.store.transfer import Transfer
from studio.store.trees import TreeRow, Trees

__all__ = ["Candidate", "Hit", "Item", "Store", "TreeRow", "new_id", "now"]


class Store(Trees, Search, Judgements, Judges, Queues, Images, Transfer, Connection):
    """Everything that is kept. Safe to use from many threads; writes are queued and durable when a call returns."""
