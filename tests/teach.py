"""What the tests of judges share: a home with something to learn from, and a judge that was never trained."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

from studio.store import Store
from studio.tree import Part


def rate(store: Store, trees: int = 40) -> list[str]:
    """Trees of one question and two replies, rated and compared; the good one says so. Returns the tree ids."""
    rng, made = random.Random(0), []
    with store.write():
        for i in range(trees):
            made.append(store.create_tree(f"tree {i}"))
            asked = store.add_node(made[-1], None, "user", [Part("text", f"Question {rng.random():.6f}")])
            texts = [f"{rng.choice('abcdef') * 4} {w} {rng.choice('uvwxyz')}" for w in ("good", "bad")]
            better, worse = (store.add_node(made[-1], asked, "assistant", [Part("text", t)]) for t in texts)
            store.rate(better, "L4", 3, "ann")
            store.rate(worse, "L4", rng.choice([0, 1]), "ann")
            store.compare("local", "overall", better, worse, "left", "ann")
    return made


def untrained(store: Store, name: str, base: str, rows: dict[str, int], seed: int = 0) -> Path:
    """Put a judge with random weights into the list; ``rows``: how many labels it claims to have learned, by dimension."""
    import torch

    from judge import backbones, files
    from judge.model import JudgeModel, LoraSettings
    from judge.scoring import trained_on
    from judge.training import Settings

    model = JudgeModel(backbones.load(base, store.home / "backbones"), LoraSettings(rank=0), seed=seed)
    with torch.no_grad():  # heads start alike: without training they would be sure of everything
        model.head.weight[1:] += 0.3 * model.head.weight.std() * torch.randn_like(model.head.weight[1:])
    data = {"rows": [{"dimension": d, "level": "local", "train_scores": n} for d, n in rows.items()]}
    settings = asdict(Settings(base=base, lora=LoraSettings(rank=0)))
    card = {"name": name, "base": model.base_card, "model": model.settings, "settings": settings, "data": data}
    folder = store.home / "judges" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    files.save_judge(model, card, folder)
    store.add_judge(name, base, settings, "none", {"trained": trained_on(card)}, f"judges/{name}")
    return folder
