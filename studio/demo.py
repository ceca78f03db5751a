"""A home with one dialogue in it, for ``--demo``: to see every screen without a model and without touching one's own data."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from studio.media import Media
from studio.store import Store
from studio.tree import Part


def fill(home: Path) -> str:
    """Grow the tree of ``assets/demo.json`` in ``home``, with its drawings and a few ratings; returns the tree's id."""
    document = json.loads(files("assets").joinpath("demo.json").read_text(encoding="utf-8"))
    store, media = Store(home), Media(home)
    try:
        with store.write():
            tree_id = store.create_tree(document["title"], document["tags"], "demo")
            ids: list[str] = []
            for node in document["nodes"]:
                parts = [_part(store, media, p) for p in node["parts"]]
                parent = ids[node["under"]] if node["under"] is not None else None
                ids.append(
                    store.add_node(
                        tree_id, parent, node["role"], parts, model=node.get("model"), starred=node.get("starred")
                    )
                )
                for dimension, value in node.get("scores", {}).items():
                    store.rate(ids[-1], dimension, value, "demo")
    finally:
        store.close()
    return tree_id


def _part(store: Store, media: Media, part: dict[str, str]) -> Part:
    if "text" in part:
        return Part("text", part["text"])
    kept = media.add(files("assets").joinpath(part["image"]).read_bytes(), part["image"])
    store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "import", licence="CC0-1.0")
    return Part("image", image_sha256=kept.sha256, caption=part["caption"])
