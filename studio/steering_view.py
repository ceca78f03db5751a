"""What the screen shows of steering: progress with an estimate, the candidates with score and spread, how sure the choice is.

Reads a run, and notes only that its undo was offered. In blind mode no score leaves here, nor which reply was kept.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from judge.examples import ENOUGH
from studio import steering
from studio.actions import MAX_REPLIES, Studio, Undo
from studio.steering_run import Run, current
from studio.tree import Node
from studio.uncertainty import gap

BLIND = "Blind mode hides what the judge says of these until you have rated them."
WORDS = {"failed": "failed", "stopped": "stopped", "streaming": "being written", "done": "not scored"}


def state(studio: Studio, blind: bool) -> dict[str, Any]:
    """What can be steered by, and the newest run; once after its end also the ``undo`` of what it pruned."""
    run = current(studio).run
    shown = {"judge": studio.judge.name, "trained": studio.judge.trained, "most": steering.MOST, "replies": MAX_REPLIES,
             "run": _shown(studio, run, blind) if run else None}  # fmt: skip
    if run and run.pruned and not run.going and not run.offered:
        run.offered = True
        shown["undo"] = asdict(_undo(run))
    return shown


def _undo(run: Run) -> Undo:
    n = len(run.pruned)
    what = "a reply" if n == 1 else f"{n} replies"
    return Undo(f"Pruned {what} that the judge puts lower", "restore_all", {"nodes": run.pruned})


def _shown(studio: Studio, run: Run, blind: bool) -> dict[str, Any]:
    nodes = {n: studio.store.node(n) for n in dict.fromkeys([*filter(None, [run.base]), *run.made])}
    done = sum(nodes[n].status != "streaming" for n in run.made)
    back = [n for n in run.pruned if nodes[n].pruned_at]
    shown = {"kind": run.kind, "tree": run.tree, "judge": run.judge, "dimension": run.dimension, "going": run.going,
             "phase": run.phase, "made": run.made, "done": done, "of": run.of, "left_s": _left(run, nodes, done)}  # fmt: skip
    if blind:
        return shown | {"says": BLIND if not run.note else run.note, "rows": [], "show": [], "back": None}
    kept = [n for n in run.made if n not in run.pruned] if run.kind == "best" else [run.found or run.base]
    return shown | {"says": _says(run, done), "rows": _rows(run, nodes), "show": [n for n in run.ranked if n in kept],
                    "back": asdict(_undo(run)) if back else None}  # fmt: skip


def _left(run: Run, nodes: dict[str, Node], done: int) -> float | None:
    """Seconds until it is over, at most, from the replies made so far; before there is one, from the reply to beat."""
    if not run.going:
        return None
    passed = time.monotonic() - run.began
    if done:
        return passed / done * (run.of - done)
    first = nodes[run.base].latency_ms if run.base else None
    return max(0.0, first / 1000 * run.of - passed) if first else None


def _rows(run: Run, nodes: dict[str, Node]) -> list[dict[str, Any]]:
    """The candidates, best first, each with how far it is above the next one; then those without a score, as they came."""
    rows = []
    for place, n in enumerate(ranked := run.ranked):
        below = None
        if place + 1 < len(ranked):
            difference, spread = gap(run.said[n], run.said[ranked[place + 1]])
            below = {"difference": difference, "spread": spread, "close": difference <= spread if spread else None}
        rows.append(_row(run, nodes[n]) | {"value": run.said[n][0], "spread": run.said[n][1], "above_next": below})
    unscored = [n for n in nodes if n not in run.said]
    return rows + [_row(run, nodes[n]) | {"value": None, "spread": None, "above_next": None} for n in unscored]


def _row(run: Run, node: Node) -> dict[str, Any]:
    if node.id == run.base:
        fate = "the one to beat"
    elif node.id not in run.said:
        fate = WORDS[node.status]
    elif run.kind == "better":
        fate = "better" if node.id == run.found else "kept beside it"
    elif run.going or run.phase != "done":
        fate = "scored"
    else:
        fate = "pruned" if node.pruned_at else "brought back" if node.id in run.pruned else "kept"
    number = run.made.index(node.id) + 1 if node.id in run.made else None
    return {"id": node.id, "number": number, "model": node.model, "fate": fate}


# ---- in words


def _says(run: Run, done: int) -> str:
    made = "1 reply" if done == 1 else f"{done} replies"
    if run.going:
        return _doing(run, done)
    if run.phase == "cancelled":
        return f"Cancelled. {made} of {run.of} made, all kept; nothing was pruned."
    if run.phase == "failed":
        return f"{run.note} {made} of {run.of} made, all kept; nothing was pruned."
    few = ""
    if run.labels < ENOUGH:
        few = f" The judge learned from {run.labels} labels of {run.dimension}, below {ENOUGH}: too few to trust."
    return (_best(run) if run.kind == "best" else _better(run)) + few


def _doing(run: Run, done: int) -> str:
    reads = run.phase == "judging"
    if run.kind == "best":
        return "All are written; the judge reads them …" if reads else f"{done} of {run.of} written …"
    if not run.made:
        return "The judge reads the one to beat …"
    return f"Attempt {len(run.made)} of {run.of} {'is read by the judge' if reads else 'is being written'} …"


def _best(run: Run) -> str:
    silent = len(run.made) - len(run.said)
    left = f" {silent} had no score and stayed." if silent else ""
    ranked = run.ranked
    if len(ranked) <= run.keep:
        return f"Kept all {len(ranked)} that could be scored.{left}"
    last, first = run.said[ranked[run.keep - 1]], run.said[ranked[run.keep]]
    difference, spread = gap(last, first)
    who = "It is" if run.keep == 1 else "The last kept is"
    return f"Kept {run.keep} of {len(run.made)} by {run.dimension}. {who} {difference:.2f} above the next: {_sureness(difference, spread)}.{left}"


def _sureness(difference: float, spread: float) -> str:
    if not spread:
        return "this judge tells no spread, so how sure that is cannot be said"
    if difference <= spread:
        return f"within the spread of the difference, {spread:.2f}, too close to call"
    return f"beyond the spread of the difference, {spread:.2f}"


def _better(run: Run) -> str:
    assert run.base is not None
    base, margin = run.said[run.base], run.margin or 0.0
    if run.found:
        value = run.said[run.found]
        return (f"Attempt {len(run.made)} of {run.of} has {value[0]:.2f} on {run.dimension}, more than {margin:.2f} above "
                f"{base[0]:.2f}: {_sureness(*gap(value, base))}.")  # fmt: skip
    others = [run.said[n][0] for n in run.made if n in run.said]
    top = f" The best has {max(others):.2f}." if others else " None of them could be scored."
    return f"None of {len(run.made)} is more than {margin:.2f} above {base[0]:.2f} on {run.dimension}.{top}"
