"""What an accuracy says beside its baselines, in a few words. Plain dicts; measures nothing."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def verdict(pairs: Row | None) -> Row:
    """What an accuracy says beside its baselines. ``kind``: good, unsure (amber) or bad (red); ``says``: a few words.

    A judge beats a baseline where the 95 % interval of the difference, or else of its accuracy, lies above it.
    """
    if not pairs or not pairs.get("n"):
        return {"kind": "unsure", "says": "accuracy unknown"}
    if not pairs.get("interval"):
        return {"kind": "unsure", "says": "too few dialogues for an interval"}
    low, high = pairs["interval"]
    longer = (pairs.get("baselines") or {}).get("longer") or {}
    rival = longer.get("value")
    if high < 0.5:
        return {"kind": "bad", "says": "worse than a coin"}
    if low <= 0.5:
        return {"kind": "bad", "says": "not better than a coin"}
    if rival is None:
        return {"kind": "good", "says": ""}
    gap = longer.get("difference_interval") or [low - rival, high - rival]
    if gap[1] < 0:
        return {"kind": "bad", "says": "worse than picking the longer reply"}
    if gap[0] <= 0:
        worse = pairs["accuracy"] <= rival
        return {"kind": "bad" if worse else "unsure", "says": "not better than picking the longer reply"}
    return {"kind": "good", "says": ""}
