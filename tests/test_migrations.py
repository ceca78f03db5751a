"""A database of every earlier version opens, with its work, and takes what this version keeps."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from sqlite_utils import Database

from studio.migrations import migrations
from studio.store import Store

LATER = [m.name for m in migrations._migrations[1:]]


@pytest.mark.parametrize("stop_before", LATER)
def test_a_database_of_any_earlier_version_opens(tmp_path: Path, stop_before: str) -> None:
    old = Database(tmp_path / "studio.db")
    migrations.apply(old, stop_before=stop_before)
    old["trees"].insert({"id": "t", "title": "kept", "created_at": "2026"})  # type: ignore[union-attr]
    old["nodes"].insert({"id": "n", "tree_id": "t", "ordinal": 0, "role": "user", "created_at": "2026"})  # type: ignore[union-attr]
    old["judges"].insert({"name": "one", "base": "tiny", "created_at": "2026"})  # type: ignore[union-attr]
    old["judge_scores"].insert(  # type: ignore[union-attr]
        {"judge": "one", "node_id": "n", "dimension": "L1", "value": 1.5, "created_at": "2026"}
    )
    old.close()
    with contextlib.closing(Store(tmp_path)) as store:
        dump = store.dump_tree("t")
        assert [(r["name"], r["weights_hash"], r["made_by"]) for r in dump["judges"]] == [("one", None, None)]
        [score] = dump["judge_scores"]
        assert (score["value"], score["logit"], score["heads"], score["stale_at"]) == (1.5, None, None, None)
        assert store.check() == "ok"
