"""What the screens show, as plain dicts ready for JSON: cards of the current path, the map, the list, what was sent.

Reads the store, writes nothing. All text that reaches a page as HTML has been through ``studio.markdown``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from studio import StudioError, judgeviews, markdown, readings, tokens, wanted
from studio.actions import Studio, sent, spans
from studio.live import Growing
from studio.tree import Node, Part

LOCAL = ("L1", "L2", "L3", "L4")
MAX_LANES = 8
SCREEN = 1600  # pixels of the longer side: as large as a picture is drawn on any screen; the whole file is a click away
KNOWN = {"cannot": "Left out, as it cannot",
         "answered_by": "Answered by", "finish": "Ended by", "reasoning_tokens": "Reasoning tokens", "tokens_of_all": "Tokens of all replies",
         "cost": "Cost", "mean_logprob": "Mean log probability", "left_out": "The server refused",
         "images_elsewhere": "Pictures elsewhere, not fetched"}  # fmt: skip
render = functools.lru_cache(maxsize=1024)(markdown.render)  # finished texts are drawn again at every visit


def opened(
    studio: Studio, tree: str | None = None, node: str | None = None, lanes: Sequence[str] = ()
) -> dict[str, Any]:
    """The view of a tree, of the newest branch through a node, or of exactly these lanes (paths side by side).

    Raises:
        StudioError: no such tree or message, lanes of different trees, or more than ``MAX_LANES``.
    """
    if len(lanes) > MAX_LANES:
        raise StudioError(f"{len(lanes)} lanes do not fit side by side; at most {MAX_LANES} can be shown.")
    if not lanes and not node and tree:
        roots = [r["id"] for r in studio.store.outline(tree) if not r["parent_id"]]
        if not roots:
            return empty() | {"tree": tree, "title": studio.store.tree(tree).title}
        alive = [r for r in roots if not studio.store.node(r).pruned_at]
        node = max(alive or roots)
        lanes = [studio.store.leaf(node)]
        node = lanes[0]
    elif not lanes and node:
        lanes = [studio.store.leaf(node)]
    paths = [studio.store.path(lane) for lane in dict.fromkeys(lanes)]
    if not paths:
        return empty()
    tree_ids = {path[0].tree_id for path in paths}
    studio.judge.look(paths[0][0].tree_id, paths[0][-1].id)
    if len(tree_ids) > 1:
        raise StudioError("Lanes side by side must belong to one tree.")
    return _view(studio, paths, node if node and any(n.id == node for p in paths for n in p) else lanes[0])


def empty() -> dict[str, Any]:
    """The view of a dialogue that has no message yet."""
    return {"tree": None, "title": "", "focus": None, "lanes": [], "shared": [], "columns": [], "growing": []}


def _view(studio: Studio, paths: list[list[Node]], focus: str) -> dict[str, Any]:
    shared = 0
    if len(paths) > 1:
        while all(len(p) > shared and p[shared].id == paths[0][shared].id for p in paths):
            shared += 1
    else:
        shared = len(paths[0])
    every = list({n.id: n for p in paths for n in p}.values())
    cards = {c["id"]: c for c in _cards(studio, every)}
    ends = {p[-1].id for p in paths}
    for path in paths:
        for i, n in enumerate(path):
            cards[n.id] |= {"turn": i // 2 + 1, "end": n.id in ends, "hidden": any(a.pruned_at for a in path[: i + 1])}
    _steps(studio, paths, cards)
    return {
        "tree": paths[0][0].tree_id,
        "title": studio.store.title(paths[0][0].tree_id),
        "focus": focus,
        "lanes": [p[-1].id for p in paths],
        "shared": [cards[n.id] for n in paths[0][:shared]],
        "columns": [[cards[n.id] for n in p[shared:]] for p in paths] if len(paths) > 1 else [],
        "growing": [r.node_id for r in studio.live.growing(paths[0][0].tree_id)],
        **judgeviews.live_judge(studio, paths[0][0].tree_id),
    }


def _cards(studio: Studio, nodes: list[Node]) -> list[dict[str, Any]]:
    ids = [n.id for n in nodes]
    who = studio.config.annotator
    siblings = studio.store.siblings(nodes)
    scores, others = studio.store.scores(ids, who), studio.store.others(ids, who)
    words = studio.store.words(ids, who)
    images = studio.store.images([p.image_sha256 for n in nodes for p in n.parts if p.image_sha256])
    judged = judgeviews.scores(studio, nodes[0].tree_id, [siblings[i] for i in ids]) if nodes else {}
    asked = studio.store.proposals(ids)
    return [
        {
            "id": n.id, "role": n.role, "text": n.text, "parts": [_part(studio, p, images) for p in n.parts],
            "siblings": siblings[n.id][:64], "position": siblings[n.id].index(n.id) + 1, "of": len(siblings[n.id]),
            "model": n.model, "status": n.status, "error": n.error, "starred": n.starred, "pruned": bool(n.pruned_at),
            "tokens": n.completion_tokens, "prompt_tokens": n.prompt_tokens, "first_token_ms": n.first_token_ms,
            "latency_ms": n.latency_ms, "created_at": n.created_at, "reasoning": n.params.get("reasoning", ""), "scores": scores.get(n.id, {}),
            "others": others.get(n.id, []), "judge": judged.get(n.id),
            **_words(n, words.get(n.id, []), images), **wanted.told(n, asked.get(n.id, {})),
        }
        for n in nodes
    ]  # fmt: skip


def said(studio: Studio, node_id: str) -> dict[str, Any]:
    """What the person has said in words of one reply: ``feedback`` on all of it, ``notes`` on places in it."""
    node = studio.store.node(node_id)
    images = studio.store.images([p.image_sha256 for p in node.images if p.image_sha256])
    return _words(node, studio.store.words([node_id], studio.config.annotator).get(node_id, []), images)


def _words(node: Node, rows: list[dict[str, Any]], images: dict[str, dict[str, Any]]) -> dict[str, Any]:
    sizes = {sha256: (r["width"], r["height"]) for sha256, r in images.items()}
    own = {p.image_sha256: sizes[p.image_sha256] for p in node.images if p.image_sha256 and p.image_sha256 in sizes}
    shown = ("id", "level", "kind", "dimension", "text", "annotator", "round", "created_at")
    return {
        "feedback": {
            "-".join(filter(None, (r["level"], r["kind"], r["dimension"]))): r["text"]
            for r in rows
            if r["span"] is None
        },
        "notes": [{k: r[k] for k in shown} | {"span": spans.parsed(node, r["span"], own)} for r in rows if r["span"]],
    }


def _steps(studio: Studio, paths: list[list[Node]], cards: dict[str, dict[str, Any]]) -> None:
    """Give every reply its ``leaf``, the dialogue that a mark on it belongs to, and its ``steps``: number, reason, lane.

    A reply that lanes share has no leaf of its own. A step of a dialogue that went on since is ``earlier``, without a number.
    """
    replies = [[n.id for n in path if n.role == "assistant"] for path in paths]
    known = studio.store.steps({i for ids in replies for i in ids}, studio.config.annotator)
    for lane, ids in enumerate(replies):
        for i in ids:
            alone = all(other == ids or i not in other for other in replies)
            cards[i] |= {"leaf": ids[-1] if alone else None}
            here = {leaf: marked[i] for leaf, marked in known.items() if leaf in ids and i in marked}
            steps = cards[i].setdefault("steps", [])
            if now := here.pop(ids[-1], None):
                number = 1 + sum(other in known[ids[-1]] for other in ids[: ids.index(i)])
                steps.append(now | {"number": number, "lane": lane, "earlier": False})
            elif here:
                steps.append(
                    max(here.values(), key=lambda s: s["created_at"]) | {"number": None, "lane": lane, "earlier": True}
                )


def parts(studio: Studio, node: Node) -> list[dict[str, Any]]:
    """A message's text and pictures, ready to show, and nothing else of it."""
    images = studio.store.images([p.image_sha256 for p in node.parts if p.image_sha256])
    return [_part(studio, p, images) for p in node.parts]


def _part(studio: Studio, part: Part, images: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if part.kind == "text":
        return {"kind": "text", "html": render(part.text), "length": len(part.text)}
    row = images.get(part.image_sha256 or "")
    shown = {"kind": "image", "caption": part.caption, "missing": row is None, "reference": part.text}
    if row:
        shown |= {"image": row["sha256"], "url": f"/media/{row['sha256']}", "thumb": f"/thumb/{row['sha256']}",
                  "view": f"/{'view' if max(row['width'], row['height']) > SCREEN else 'media'}/{row['sha256']}", "width": row["width"],
                  "height": row["height"], "origin": row["origin"]}  # fmt: skip
    return shown


def growing(studio: Studio, run: Growing) -> dict[str, Any]:
    """One reply on its way: only what changes while it grows."""
    asked = wanted.growing(studio.store.proposals([run.node_id]).get(run.node_id, {})) if "<" in run.text else []
    return {"id": run.node_id, "html": markdown.render(tokens.closed(run.text)) if run.text else "", "phase": run.phase, "told": run.told,
            "error": run.error, "reasoning": run.reasoning, "judge": judgeviews.growing_scores(studio, run.node_id),
            "tokens": run.tokens, "asked": asked, "first_token_ms": run.first_token_ms, "latency_ms": run.latency_ms}  # fmt: skip


def outline(studio: Studio, tree: str) -> dict[str, Any]:
    """Every node of a tree for the map, parents before children: see ``assets/treemap.js`` for the fields."""
    rows = studio.store.outline(tree)
    children: dict[str | None, list[dict[str, Any]]] = {}
    for r in rows:
        children.setdefault(r["parent_id"], []).append(r)
    judged = judgeviews.scores(studio, tree, [[r["id"] for r in family] for family in children.values()])
    nodes, pending = [], [(r, False) for r in reversed(children.get(None, []))]
    while pending:
        r, above = pending.pop()
        pruned = above or bool(r["pruned_at"])
        nodes.append({
            "id": r["id"], "parent": r["parent_id"], "role": r["role"], "label": r["label"] or "",
            "judge": readings.brief(judged[r["id"]]) if r["id"] in judged else None,
            "coverage": r["rated"] / len(LOCAL) if r["role"] == "assistant" else None, "starred": bool(r["starred"]),
            "pruned": pruned, "status": r["status"], "thumb": f"/thumb/{r['image']}" if r["image"] else None,
            "model": r["model"],
        })  # fmt: skip
        pending.extend((c, pruned) for c in reversed(children.get(r["id"], [])))
    return {"tree_id": tree, "nodes": nodes}


def trees(studio: Studio, words: str = "", removed: bool = False) -> dict[str, Any]:
    """The list of dialogues, or with ``words`` what was found on any branch."""
    if words.strip():
        hits = studio.store.search(words)
        return {"hits": [{k: getattr(h, k) for k in h.__dataclass_fields__} for h in hits], "words": words}
    rows = studio.store.trees(removed)
    return {"trees": [{k: getattr(t, k) for k in t.__dataclass_fields__} for t in rows], "removed": removed}


def counted(studio: Studio) -> str:
    """How much there is of everything, as a Markdown table."""
    names = {"trees": "Trees", "nodes": "Questions and replies", "images": "Pictures", "scores": "Scores, changed ones included",
             "comparisons": "Comparisons", "feedback": "Feedback in words"}  # fmt: skip
    found = studio.store.counts()
    return "\n".join(["| | |", "|---|--:|", *(f"| {label} | {found[name]:,} |" for name, label in names.items())])


def inspected(studio: Studio, node_id: str) -> dict[str, Any]:
    """Everything known of one message: its row, what was sent for it, its pictures, every judgement ever made of it."""
    node = studio.store.node(node_id)
    hashes = [p.image_sha256 for p in node.parts if p.image_sha256]
    facts = {
        "Made by": node.model or ("you" if node.role == "user" else "unknown"), "Backend": node.backend, "Status": node.status,
        "Created": node.created_at, "Prompt tokens": node.prompt_tokens, "Reply tokens": node.completion_tokens,
        "First token": node.first_token_ms and f"{node.first_token_ms:.0f} ms",
        "Whole reply": node.latency_ms and f"{node.latency_ms / 1000:.2f} s", "Tokens a second": _pace(node), "Pruned": node.pruned_at, "Id": node.id,
    }  # fmt: skip
    calls = [f"{c['tool']}: {c['caption']}" for c in node.params.get("image_calls", [])]
    facts["Called for pictures"] = "; ".join(calls)
    facts |= {label: _fact(node.params[name]) for name, label in KNOWN.items() if name in node.params}
    return {
        "id": node.id,
        "facts": [[k, v] for k, v in facts.items() if v not in (None, "")],
        "sent": sent(studio, node_id),
        "tools": [f"{c.get('name')}({c.get('arguments')})" for c in node.params.get("tool_calls", [])],
        "images": list(studio.store.images(hashes).values()),
        "history": [_told(row) for row in studio.store.history(node_id)],
    }


def _pace(node: Node) -> str | None:
    """Tokens a second from the first one on, where both times and the count are known."""
    seconds = ((node.latency_ms or 0) - (node.first_token_ms or 0)) / 1000
    count = node.completion_tokens or 0
    return f"{(count - 1) / seconds:.1f}" if count > 1 and seconds > 0 else None


def _fact(value: Any) -> Any:
    """A fact of a reply's params, short enough for a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the history in words: what was judged and of what, by whom and in which round."""
    what, value = row["what"], row["value"]
    other = f" “{' '.join((row['other'] or 'a reply without text').split())}”"
    if row["made"] == "feedback":
        what += (
            f" of {row['dimension']}" if row["dimension"] else " of the dialogue" if row["level"] == "global" else ""
        )
        value = f"{_place(row['span'])}{value}"
    elif row["made"] == "comparison":
        what, value = f"{what} compared", value + other
    elif row["made"] == "step":
        what, value = "crucial step", (value or "marked") + f" (of the dialogue that ends with{other})"
    return row | {"what": what, "value": value, "annotator": f"{row['annotator']}, round {row['round']}"}


def _place(span: str | None) -> str:
    if span is None:
        return ""
    try:
        at = json.loads(span)
        if "quote" in at:
            return f"On “{at['quote'][:80]}”: "
        return f"On {at['w']} × {at['h']} of a picture at {at['x']}, {at['y']}: " if "x" in at else "On a picture: "
    except (ValueError, TypeError, KeyError):  # an imported row may say anything
        return "On a place that cannot be read: "
