"""The store: trees, nodes, images and judgements in ``HOME/studio.db``. Only this package and the migrations contain SQL.

``Store(home)`` is the whole interface; its parts are the mixins below, one file each.
"""

from __future__ import annotations

from studio.store.connection import Connection, new_id, now
from studio.store.figures import Figures
from studio.store.images import Images
from studio.store.jobs import Jobs
from studio.store.judgements import Judgements
from studio.store.judges import Judges
from studio.store.lessons import Lessons
from studio.store.proposals import Proposals
from studio.store.queues import Candidate, Item, Queues
from studio.store.search import Hit, Search
from studio.store.second import APART, Second
from studio.store.steps import Steps
from studio.store.transfer import Transfer
from studio.store.trees import TreeRow, Trees
from studio.store.waiting import Waiting

__all__ = ["APART", "Candidate", "Hit", "Item", "Store", "TreeRow", "new_id", "now"]


class Store(
    Proposals,
    Trees,
    Search,
    Judgements,
    Steps,
    Judges,
    Jobs,
    Queues,
    Lessons,
    Second,
    Figures,
    Images,
    Transfer,
    Waiting,
    Connection,
):
    """Everything that is kept. Safe to use from many threads; writes are queued and durable when a call returns."""
