"""What a page may call: names, checked arguments, plain dicts back. The screen's one door to the actions and views.

Every call is ``handle(studio, name, data)``; what the person can mend comes back as ``{"error": one line}``, never as an exception.
Ids that come from a browser are untrusted: each is looked up before use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from backends import BackendError
from studio import (
    StudioError,
    actions,
    annotating,
    checking,
    claims,
    estimates,
    finding,
    generating,
    jobs,
    judgescreen,
    judgeviews,
    learning,
    modellist,
    models,
    panel,
    pictures,
    proposals,
    proposals_view,
    steering,
    steering_view,
    verification,
    views,
    waiting,
)
from studio.actions import Studio, Undo, marking
from studio.sampling import able, how_to_ask

Call = Callable[[Studio, dict[str, Any]], dict[str, Any]]


def handle(studio: Studio, name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Carry out one call of the page. An unknown name or a malformed argument is an error line too."""
    try:
        if name not in CALLS:
            raise StudioError(f"The page asked for {name!r:.40}, which this studio does not know. Reload the page.")
        return CALLS[name](studio, data)
    except (StudioError, BackendError) as error:
        return {"error": str(error)}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        # the shape of a request is the browser's word: a wrong one must not look like a crash
        return {"error": f"The page sent {name!r:.40} without what it needs ({error!r:.80}). Reload the page."}


def _undoable(undo: Undo | None) -> dict[str, Any]:
    return {"undo": asdict(undo)} if undo else {}


def _quiet(undo: Undo | None) -> dict[str, Any]:
    """For what saves itself while somebody types: the page keeps the undo, and says nothing."""
    return {"takes_back": asdict(undo) if undo else None}


def _open(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    lanes = waiting.moved(
        studio, [str(i) for i in data.get("lanes") or ()], [str(i) for i in data.get("waiting") or ()]
    )
    view = views.opened(studio, data.get("tree"), data.get("node"), lanes)
    cards = [*view["shared"], *(card for column in view["columns"] for card in column)]
    return view | {"waiting": waiting.shown(studio, [card["id"] for card in cards])}


def _rate(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    undo = actions.rate(studio, data["node"], data["dimension"], data["value"])
    return _undoable(undo) | {
        "scores": studio.store.scores([data["node"]], studio.config.annotator).get(data["node"], {})
    }


def _say(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    undo = marking.say(
        studio, data["node"], data["level"], data["kind"], data["text"], data.get("dimension"), data.get("span")
    )
    return _quiet(undo) | views.said(studio, data["node"])


def _step(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return {"saved": True} | _quiet(marking.step(studio, data["leaf"], data["node"], data["reason"]))


def _star(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    actions.star(studio, data["node"], bool(data["on"]))
    return {"saved": True}


def _retry(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return {"replies": actions.retry(studio, data["node"], how_to_ask(**data["how"]))}


def _edit(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return {"replies": actions.edit(studio, data["node"], data["text"], how_to_ask(**data["how"]))}


def _undo(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    if data["act"] == "judge_back":
        judgescreen.bring_back(studio, str(data["args"]["judge"]))
        return {"saved": True}
    if data["act"] == "verify_back":
        verification.take_back(studio, str(data["args"]["item"]))
        return {"saved": True}
    if data["act"] == "proposal_back":
        proposals.back(studio, str(data["args"]["proposal"]))
        return {"saved": True}
    if data["act"] == "waiting_back":
        waiting.give_back(studio, str(data["args"]["waiting"]))
        return {"saved": True}
    actions.undo(studio, data["act"], data["args"])
    return {"saved": True}


def _poll(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    """Whether anything was written since ``seen``: how a second tab notices the first."""
    tree = data.get("tree")
    return {"seen": studio.store.stamp(), "judge": judgeviews.state(studio, tree),
            "growing": [r.node_id for r in studio.live.growing(tree)] if tree else []}  # fmt: skip


def _plan(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return annotating.plan(studio, data["kind"], data["rule"], int(data["goal"]), [str(t) for t in data.get("trees") or ()],
                           [str(m) for m in data.get("models") or ()], scenarios=[str(s) for s in data.get("scenarios") or ()])  # fmt: skip


def _seconds(data: dict[str, Any]) -> float | None:
    return None if data.get("seconds") is None else float(data["seconds"])


def _form(data: dict[str, Any]) -> dict[str, Any]:
    """What a form of training holds. Raises KeyError without its name, as a page that is older than the studio sends."""
    return {**data, "name": data["name"]}


def _learning_start(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    learning.start(studio, str(data["base"]).strip(), data["level"], int(data["seed"]))
    return judgescreen.state(studio)


def _remove_judge(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return _undoable(judgescreen.remove(studio, str(data["judge"]))) | judgescreen.state(studio)


def _chosen(data: dict[str, Any]) -> list[str]:
    return [str(name) for name in data.get("chosen") or ()]


def _panel(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    tree, leaf = (str(data[k]) if data.get(k) else None for k in ("tree", "leaf"))
    return panel.state(studio, _chosen(data), tree, leaf, bool(data.get("blind")))


def _verify_plan(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    verification.plan(studio, str(data["rule"]), int(data.get("share", 10)))
    return annotating.state(studio)


def _verify_compare(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    verification.compare(studio, data["item"])
    return annotating.state(studio)


def _verify_decide(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    undo = verification.decide(
        studio, data["item"], data["verdict"], str(data.get("reason") or ""), annotating.clamped(_seconds(data))
    )
    return annotating.state(studio) | _undoable(undo)


def _steer_better(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    margin = None if data.get("margin") in (None, "") else float(data["margin"])
    steering.better(
        studio,
        str(data["node"]),
        str(data["dimension"]),
        how_to_ask(**data["how"]),
        int(data["most"]),
        margin,
        bool(data["blind"]),
    )
    return steering_view.state(studio, bool(data["blind"]))


def _of_model(act: Callable[[Studio, str], None]) -> Call:
    """A call that does something with the model of a name, and answers with the whole screen."""

    def call(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
        act(studio, str(data["name"]))
        return models.state(studio)

    return call


def _asdict(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | _undoable(answer.get("undo"))


def _picture_apply(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    return pictures.shown(studio, pictures.apply_to(studio, str(data["sha256"]), data["edits"]))


CALLS: dict[str, Call] = {
    "open": _open,
    "outline": lambda studio, data: views.outline(studio, data["tree"]),
    "trees": lambda studio, data: views.trees(studio, str(data.get("words") or ""), bool(data.get("removed"))),
    "inspect": lambda studio, data: views.inspected(studio, data["node"]),
    "rate": _rate,
    "say": _say,
    "step": _step,
    "star": _star,
    "prune": lambda studio, data: _undoable(actions.prune(studio, data["node"])),
    "restore": lambda studio, data: _undoable(actions.restore(studio, data["node"])),
    "rename": lambda studio, data: _undoable(actions.rename(studio, data["tree"], str(data["title"]))),
    "retry": _retry,
    "edit": _edit,
    "stop": lambda studio, data: {"stopped": actions.stop(studio, [str(n) for n in data["nodes"]])},
    "undo": _undo,
    "poll": _poll,
    "judge": lambda studio, data: judgescreen.state(studio),
    "judge_train": lambda studio, data: judgescreen.train(studio, _form(data)),
    "judge_check": lambda studio, data: judgescreen.check(studio, data),
    "judge_begin_again": lambda studio, data: judgescreen.begin_again(studio, str(data["job"])),
    "judge_log": lambda studio, data: {"lines": jobs.log(studio.store, str(data["job"]))},
    "learning_start": _learning_start,
    "judge_stop": lambda studio, data: judgescreen.stop(studio, str(data["job"])),
    "judge_go_on": lambda studio, data: judgescreen.go_on(studio, str(data["job"])),
    "judge_keep": lambda studio, data: judgescreen.keep(studio, str(data["job"])),
    "judge_estimate": lambda studio, data: estimates.estimate(studio, data),
    "judge_promote": lambda studio, data: judgescreen.promote(studio, data["judge"]),
    "judge_remove": _remove_judge,
    "judge_find": lambda studio, data: judgescreen.find(studio, str(data["tree"]), data["what"]),
    "judge_about": lambda studio, data: claims.about(studio, str(data["dimension"])),
    "steer": lambda studio, data: steering_view.state(studio, bool(data["blind"])),
    "steer_best": lambda studio, data: {
        "replies": steering.best(studio, str(data["node"]), data["wish"], how_to_ask(**data["how"]))
    },
    "steer_better": _steer_better,
    "steer_cancel": lambda studio, data: {"cancelled": steering.cancel(studio)},
    "panel": _panel,
    "panel_start": lambda studio, data: panel.start(
        studio, _chosen(data), str(data["tree"]) if data.get("tree") else None
    ),
    "panel_agreement": lambda studio, data: panel.agreement(studio, _chosen(data)),
    "panel_versions": lambda studio, data: panel.versions(studio, str(data["a"]), str(data["b"])),
    "panel_score_versions": lambda studio, data: panel.score_versions(studio, str(data["a"]), str(data["b"])),
    "panel_export": lambda studio, data: panel.export_merged(studio, str(data["judge"])),
    "panel_cancel": lambda studio, data: panel.cancel(studio, str(data["key"])),
    "annotate": lambda studio, data: annotating.state(studio),
    "annotate_plan": _plan,
    "annotate_ahead": lambda studio, data: annotating.ahead(studio),
    "annotate_filters": lambda studio, data: studio.store.queue_filters(),
    "annotate_score": lambda studio, data: _asdict(
        annotating.score(studio, data["item"], data["dimension"], data["value"])
    ),
    "annotate_vote": lambda studio, data: _asdict(
        annotating.vote(studio, data["item"], data["ranking"], data["dimension"], _seconds(data))
    ),
    "annotate_finish": lambda studio, data: _asdict(annotating.finish(studio, data["item"], _seconds(data))),
    "verify": lambda studio, data: verification.overview(studio),
    "verify_plan": _verify_plan,
    "verify_compare": _verify_compare,
    "verify_decide": _verify_decide,
    "models": lambda studio, data: models.state(studio),
    "models_download": lambda studio, data: models.download(studio, str(data["name"])),
    "models_cancel": lambda studio, data: models.cancel(studio, str(data["name"])),
    "models_use": lambda studio, data: models.use(studio, str(data["name"])),
    "models_remove": lambda studio, data: models.remove(studio, str(data["name"])),
    "models_add": lambda studio, data: models.add_own(
        studio, str(data["called"]).strip(), str(data["path"]).strip(), str(data["mmproj"]).strip()
    ),
    "models_take_out": _of_model(modellist.take_out),
    "models_test": _of_model(modellist.test),
    "models_stop": _of_model(modellist.stop_test),
    "models_unload": _of_model(modellist.unload),
    "sampling": lambda studio, data: {"models": able(studio)},
    "picture_add": lambda studio, data: pictures.add(studio, str(data["name"]), str(data["data"])),
    "picture_apply": _picture_apply,
    "picture_lineage": lambda studio, data: pictures.lineage(studio, str(data["sha256"]), bool(data.get("blind"))),
    "picture_preview": lambda studio, data: pictures.preview(studio, str(data["sha256"]), data["edits"]),
    **finding.CALLS,
    **checking.CALLS,
    **generating.CALLS,
    **waiting.CALLS,
    **proposals_view.CALLS,
    "guidelines": lambda studio, data: {"html": annotating.guidelines()},
    "annotate_skip": lambda studio, data: annotating.skip(studio, data["item"]),
}
