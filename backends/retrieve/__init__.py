"""Pictures that are found: in a folder by words, by meaning and by likeness, or with a web provider of open licences.

Owns reading folders and files, the encoders, ranking, and the one way to the network. Keeps nothing: rows are the caller's.
The parts: ``folder`` (what is there), ``reading`` (what a file says), ``meaning`` and ``clip`` (vectors), ``ranking``, ``web``.
"""

from __future__ import annotations

from backends.retrieve.folder import Listing, check, inside, listing
from backends.retrieve.ranking import Candidate, folded, fused
from backends.retrieve.reading import Facts, Unusable, can_compare, facts, looks, small, whole
from backends.retrieve.web import Openverse, Provider, WebPicture, provider

__all__ = [
    "Candidate", "Facts", "Listing", "Openverse", "Provider", "Unusable", "WebPicture", "can_compare", "check", "facts", "folded",
    "fused", "inside", "listing", "looks", "provider", "small", "whole",
]  # fmt: skip
