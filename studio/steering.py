"""The judge moderates: the best of n replies are kept, or a reply is asked for again until one is better.

The replies themselves are in the store as they grow, so a reload, a stop or an end in mid-work loses none. Never deletes,
never prunes what the judge has not scored, never works blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judge import rubric
from studio import StudioError, actions
from studio.actions import MAX_REPLIES, Ask, Studio
from studio.actions.core import a_reply
from studio.steering_run import Run, current, free
from studio.tree import Part
from studio.uncertainty import Said

WIDEST = rubric.HIGHEST - rubric.LOWEST  # of all scales
SAME = 1e-4  # the same words may be scored this far apart, by how much was read together
MOST = 4  # attempts at something better, where nobody said otherwise


@dataclass(frozen=True)
class Wish:
    """Best of ``n`` replies of each model: keep ``keep`` of them by a dimension."""

    n: int
    keep: int
    dimension: str


# ---- beginning


def checked(studio: Studio, dimension: str, how: Ask, blind: bool) -> str:
    """The live judge's name, if it can steer by this dimension.

    Raises:
        StudioError: blind mode, no live judge, one that is silent on the dimension, temperature 0, a run that is going.
    """
    if blind:
        raise StudioError(
            "Blind mode hides what the judge says until you have rated, and its choice would tell it. Switch blind off on the Judge screen."
        )
    name, trained = studio.judge.name, studio.judge.trained
    if name is None:
        raise StudioError("No judge is live, so nobody can choose. Choose one on the Judge screen, with “Use live”.")
    if not trained.get(dimension):
        known = ", ".join(d for d, n in trained.items() if n) or "nothing"
        raise StudioError(
            f"The judge {name} had no labels of {dimension!r:.40}, so it is silent on it. Choose from: {known}."
        )
    if how.options.temperature == 0:
        raise StudioError("At temperature 0 a model says the same each time. Raise the temperature below the message.")
    free(studio)
    return name


def wish(given: Mapping[str, Any], models: int) -> Wish:
    """A page's wish for the best of n, checked. ``models``: how many will be asked.

    Raises:
        StudioError: no numbers, fewer than two or too many replies, or nothing left to prune.
    """
    try:
        asked = Wish(int(given["n"]), int(given["keep"]), str(given["dimension"]))
    except (TypeError, ValueError, KeyError) as error:
        raise StudioError(f"Best of n takes two whole numbers and a dimension ({error}). Set them again.") from error
    total = asked.n * models
    if asked.n < 1 or not 2 <= total <= MAX_REPLIES:
        raise StudioError(
            f"Best of n takes 2 to {MAX_REPLIES} replies in all; {asked.n} of each of {models} is {total}."
        )
    if not 1 <= asked.keep < total:
        raise StudioError(f"Of {total} replies 1 to {total - 1} can be kept, not {asked.keep}.")
    return asked


def ask(studio: Studio, lanes: Sequence[str], text: str, images: Sequence[Path | Part], how: Ask,
        given: Mapping[str, Any] | None) -> list[str]:  # fmt: skip
    """``actions.ask``, and where a page wishes for the best of n, let the judge choose among the replies.

    Raises:
        StudioError: as ``actions.ask``, ``wish`` and ``checked`` do, or several lanes; nothing is asked then.
    """
    if not given:
        return actions.ask(studio, lanes, text, images, how)
    asked = wish(given, len(how.models))
    if len(lanes) > 1:
        raise StudioError(f"Best of n needs one lane, and {len(lanes)} are open. Choose one with “Only this”.")
    judge = checked(studio, asked.dimension, how, bool(given.get("blind")))
    replies = actions.ask(studio, lanes, text, images, replace(how, replies=asked.n))
    _begin_best(studio, judge, replies, asked)
    return replies


def best(studio: Studio, question: str, given: Mapping[str, Any], how: Ask) -> list[str]:
    """Let the chosen models answer a question ``n`` times each, and the judge keep the best; returns the new replies."""
    if studio.store.node(question).role != "user":
        raise StudioError("Best of n answers a question, and that message is a reply. Choose the question above it.")
    asked = wish(given, len(how.models))
    judge = checked(studio, asked.dimension, how, bool(given.get("blind")))
    replies = actions.retry(studio, question, replace(how, replies=asked.n))
    _begin_best(studio, judge, replies, asked)
    return replies


def _begin_best(studio: Studio, judge: str, replies: list[str], asked: Wish) -> None:
    tree = studio.store.node(replies[0]).tree_id
    run = Run("best", tree, judge, asked.dimension, studio.judge.trained[asked.dimension], len(replies), asked.keep,
              made=replies)  # fmt: skip
    current(studio).begin(run, _best)


def better(studio: Studio, reply: str, dimension: str, how: Ask, most: int = MOST, margin: float | None = None,
           blind: bool = False) -> None:  # fmt: skip
    """Answer again, up to ``most`` times, until the judge scores an answer above this reply by more than ``margin``.

    ``margin`` None: the spread of this reply's own score. Returns at once; all that was made stays, as siblings.

    Raises:
        StudioError: as ``checked`` does; a question, a reply that grows, a number out of range.
    """
    node = a_reply(studio, reply)
    if not 1 <= most <= MAX_REPLIES:
        raise StudioError(f"At most 1 to {MAX_REPLIES} attempts can be made, not {most}.")
    if margin is not None and not 0 <= margin <= WIDEST:
        raise StudioError(f"The margin is 0 to {WIDEST}, not {margin}. Leave it empty for the judge's spread.")
    judge = checked(studio, dimension, how, blind)
    run = Run("better", node.tree_id, judge, dimension, studio.judge.trained[dimension], most, base=node.id,
              margin=margin)  # fmt: skip
    current(studio).begin(run, lambda s, r: _better(s, r, how))


def cancel(studio: Studio) -> bool:
    """Stop the run and the replies it waits for; what they wrote stays, nothing is pruned. Whether one was going."""
    run = current(studio).run
    if run is None or not run.going:
        return False
    run.stop.set()
    actions.stop(studio, run.made)
    return True


# ---- inside the thread


def _best(studio: Studio, run: Run) -> None:
    _written(studio, run, run.made)
    whole = [n for n in run.made if studio.store.node(n).status == "done"]
    if not whole and not run.stop.is_set():
        raise StudioError("None of the replies is whole, so there is nothing to choose from. Retry.")
    run.said = _judged(studio, run, whole)
    if run.stop.is_set():
        return
    if not run.said:
        raise StudioError(
            studio.judge.note or "The judge can read none of the replies, so nothing is chosen or pruned."
        )
    gone_on = {r["parent_id"] for r in studio.store.outline(run.tree)}  # a reply somebody has gone on with is no loser
    lost = [n for n in run.ranked[run.keep :] if n not in gone_on]
    with studio.store.write():
        for node in lost:
            studio.store.prune(node)
    run.pruned = lost


def _better(studio: Studio, run: Run, how: Ask) -> None:
    assert run.base is not None
    run.phase = "judging"
    run.said = _judged(studio, run, [run.base])
    if run.stop.is_set():
        return
    if run.base not in run.said:
        raise StudioError(studio.judge.note or "The judge gave this reply no score, so nothing can be better than it.")
    base = run.said[run.base]
    run.margin = (base[1] or 0.0) if run.margin is None else run.margin
    while len(run.made) < run.of and not run.stop.is_set() and run.found is None:
        (reply,) = actions.retry(studio, run.base, how)
        run.made.append(reply)
        run.phase = "writing"
        _written(studio, run, [reply])
        node = studio.store.node(reply)
        if node.status == "failed":
            raise StudioError(f"Attempt {len(run.made)} failed: {node.error}")
        run.phase = "judging"
        run.said = run.said | _judged(studio, run, [reply])
        if reply in run.said and run.said[reply][0] > base[0] + run.margin + SAME:
            run.found = reply


def _written(studio: Studio, run: Run, replies: Sequence[str]) -> None:
    """Wait until nothing of these grows. A reply that the person stops ends the run: a stop keeps everything."""
    while {r.node_id for r in studio.live.growing(run.tree)} & set(replies):
        if run.stop.wait(0.05):
            actions.stop(studio, list(replies))
            return
    if any(studio.store.node(n).status == "stopped" for n in replies):
        run.stop.set()


def _judged(studio: Studio, run: Run, replies: Sequence[str]) -> dict[str, Said]:
    """What the judge says of whole replies on the run's dimension, waited for; one that it cannot read is absent."""
    if run.stop.is_set():
        return {}
    run.phase = "judging"
    studio.judge.look(run.tree)
    while not run.stop.is_set():
        if studio.judge.name != run.judge:
            raise StudioError(f"The live judge is not {run.judge} any more. Begin again with the one that is live now.")
        settled = studio.judge.settle(0.2)
        told = studio.store.judge_scores(run.tree, run.judge)
        said: dict[str, Said] = {
            n: told[n][run.dimension]
            for n in replies
            if run.dimension in told.get(n, {}) and not told[n][run.dimension].stale
        }
        if settled or len(said) == len(replies):
            return said
    return {}
