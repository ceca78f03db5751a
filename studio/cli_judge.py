"""The commands about judges: train, train --check, train --curve, score. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from typing import Any

from studio import StudioError
from studio.bar import Bar
from studio.config import home_folder, load, load_rubric

Answer = dict[str, Any]
STAGES = {
    "check": "trees checked",
    "load": "backbone",
    "read": "trees read",
    "validate": "validation batches",
    "test": "test trees",
}


def train_options(train: argparse.ArgumentParser) -> None:
    """What ``train`` takes."""
    asked = train.add_mutually_exclusive_group(required=True)
    asked.add_argument("--name", help="what the judge is called; judges never change, so each has its own")
    asked.add_argument(
        "--check", action="store_true", help="train nothing: say which labels are usable, cut or left out, and why"
    )
    asked.add_argument(
        "--curve", action="store_true",
        help="train no judge: measure accuracy against the number of ratings, with --base, --level and --seed",
    )  # fmt: skip
    train.add_argument(
        "--base", default="builtin", help="backbone: builtin (SmolLM2-135M), a folder, a .gguf file, or owner/model"
    )
    train.add_argument("--level", default="both", choices=("local", "global", "both"))
    train.add_argument("--epochs", type=float, default=3.0)
    train.add_argument(
        "--seed", type=int, default=0, help="deals trees into training, validation and test; orders them"
    )
    train.add_argument("--rank", type=int, default=16, help="of LoRA; 0 trains the score head alone")
    train.add_argument("--rate", type=float, default=2e-4, help="learning rate of LoRA")
    more = train.add_argument_group("more", "what is left open is chosen from the backbone, the data and the memory")
    more.add_argument("--max-path", type=int, help="tokens of a dialogue that are read; its beginning is cut first")
    more.add_argument("--max-tokens", type=int, help="of a packed sequence: less needs less memory")
    more.add_argument("--batch-tokens", type=int, help="of one step of the optimizer")
    more.add_argument("--checkpointing", default="auto", choices=("auto", "on", "off"),
                      help="compute activations twice: half the memory, more time")  # fmt: skip
    more.add_argument("--alpha", type=int, help="of LoRA; twice the rank unless set")
    more.add_argument("--dropout", type=float, default=0.0, help="of LoRA")
    more.add_argument("--targets", default="all-linear", help="linear layers that get LoRA, separated by commas")
    more.add_argument("--head-rate", type=float, default=1e-3, help="learning rate of the score head")
    more.add_argument("--patience", type=int, default=3, help="validations without progress before it ends; 0: never")
    more.add_argument("--copies", type=int, default=8, help="heads on resampled labels, for the spread of each score")
    more.add_argument("--no-derived", action="store_true", help="do not learn from pairs that scores imply")
    more.add_argument(
        "--begin-again", action="store_true", help="drop an interrupted run of this name; take all labels"
    )


def score_options(score: argparse.ArgumentParser) -> None:
    """What ``score`` takes."""
    score.add_argument("--judge", required=True, help="name of a trained judge")
    score.add_argument("--tree", help="id of one tree; without it, all")


def train(args: argparse.Namespace) -> tuple[Answer | None, int]:
    """Train a judge, or with ``--check`` or ``--curve`` say something about the labels. Raises StudioError."""
    if args.curve:
        return _curve(args)
    from studio import teaching
    from studio.media import Media
    from studio.store import Store

    home = home_folder(args.home)
    load_rubric(home)
    store = Store(home)
    with closing(store), closing(Bar({})) as bar, teaching.judging():
        settings = _settings(args)

        def line(told: Answer) -> None:
            if args.json:
                print(json.dumps(told), file=sys.stderr, flush=True)
            elif "step" in told:
                bar(told["step"], told["steps"], "steps")
            elif "data" in told:
                print("\n".join(_data_lines(told["data"])), file=sys.stderr)
            elif "of" in told:
                bar(told["done"], told["of"], STAGES[told["stage"]])

        if args.check:
            card = teaching.check(store, Media(home), settings, line)
            if not args.json:
                print("\n".join(_data_lines(card)))
            return card, 0
        answer = teaching.train(
            store, Media(home), args.name, settings, line, made_by=load(home).annotator, begin_again=args.begin_again
        )
    if int(os.environ.get("RANK", "0")):  # one of several processes: the first one speaks for all
        return None, 0
    if not args.json:
        print(teaching.sentence(answer))
    return answer, 130 if answer["interrupted"] else 0


def score(args: argparse.Namespace) -> tuple[Answer, int]:
    """Score replies and keep the scores. Raises StudioError: no such judge or tree."""
    from studio import teaching
    from studio.media import Media
    from studio.store import Store

    load_rubric(home_folder(args.home))
    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:
        trees = [args.tree] if args.tree else store.tree_ids()
        found = teaching.score(store, Media(store.home), args.judge, trees, bar)
    if not args.json:
        print(f"{found['replies']} replies of {found['trees']} trees are scored by {args.judge}.")
        if found["note"]:
            print(found["note"], file=sys.stderr)
    return found, 0


def _curve(args: argparse.Namespace) -> tuple[Answer, int]:
    from judge.learning import Plan
    from studio import learning
    from studio.media import Media
    from studio.store import Store

    load_rubric(home_folder(args.home))
    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:

        def step(done: int, total: int, left: float | None) -> None:
            if args.json:
                line = {"step": done, "steps": total, "eta_s": None if left is None else round(left, 1)}
                print(json.dumps(line), file=sys.stderr, flush=True)
            else:
                bar(done, total, "steps")

        how = Plan(args.base, args.level, args.seed, max_path=args.max_path, derived=not args.no_derived)
        found = learning.draw(store, Media(store.home), how, step)
    if not args.json:
        print(learning.sentences(found))
    return found, 0


def _settings(args: argparse.Namespace) -> Any:
    """The settings of a training, checked. Raises StudioError for a number out of range."""
    from judge.model import LoraSettings
    from judge.training import Settings

    _check_ranges(args)
    names = tuple(t.strip() for t in args.targets.split(",") if t.strip())
    if not names:
        raise StudioError("--targets names no layer; choose all-linear, or names such as q_proj,v_proj.")
    targets = "all-linear" if names == ("all-linear",) else names
    lora = LoraSettings(args.rank, 2 * args.rank if args.alpha is None else args.alpha, args.dropout, targets)
    return Settings(
        base=args.base, level=args.level, epochs=args.epochs, learning_rate=args.rate, head_learning_rate=args.head_rate,
        max_tokens=args.max_tokens, max_path=args.max_path, batch_tokens=args.batch_tokens, patience=args.patience,
        copies=args.copies, derived=not args.no_derived, seed=args.seed,
        checkpointing={"auto": None, "on": True, "off": False}[args.checkpointing], lora=lora,
    )  # fmt: skip


def _check_ranges(args: argparse.Namespace) -> None:
    ranges = {
        "epochs": (args.epochs, 0.01, 100), "rank": (args.rank, 0, 256), "rate": (args.rate, 1e-9, 1),
        "seed": (args.seed, 0, 2**32 - 1), "max-path": (args.max_path, 16, 10**6), "max-tokens": (args.max_tokens, 16, 10**6),
        "batch-tokens": (args.batch_tokens, 1, 10**7), "alpha": (args.alpha, 1, 1024), "dropout": (args.dropout, 0, 0.9),
        "head-rate": (args.head_rate, 1e-9, 1), "patience": (args.patience, 0, 1000), "copies": (args.copies, 0, 64),
    }  # fmt: skip
    for name, (value, low, high) in ranges.items():
        if value is not None and not low <= value <= high:  # NaN is in no range
            raise StudioError(f"--{name} is {value}; choose {low:g} to {high:g}.")


def _data_lines(card: Answer) -> list[str]:
    """What a training learns from, in words, before it begins."""
    trees, sizes, memory = card["trees"], card.get("sizes"), card.get("memory")
    lines = [
        f"{trees['train']} dialogues to train on, {trees['validation']} for validation, {trees['test']} for the test."
    ]
    if "labels" in card:
        lines.append(card["labels"]["sentence"])
    if sizes:
        lines.append(f"Dialogues are read up to {sizes['max_path']:,} tokens, {sizes['max_tokens']:,} at once.")
    if memory:
        twice = ", computing activations twice" if memory["checkpointing"] else ""
        lines.append(f"At most about {memory['mb']:,} MB of memory{twice}; {memory['free_mb']:,} MB are free.")
        if not memory["fits"]:
            lines.append(
                "That does not fit: close other programs, or set --checkpointing on, a smaller --max-path or a smaller backbone."
            )
    return [*lines, *card["warnings"]]
