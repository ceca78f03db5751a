"""OpenAssistant's files: whole trees, one a line, or messages, one a line. Which one is told by what is in the file.

Ranks become comparisons of siblings on the overall dimension, by "oasst"; averages of labels become scores of own dimensions
where asked. Deleted messages come in pruned, with what answers them. What is odd is counted. User ids are not kept.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterator
from itertools import combinations
from pathlib import Path
from typing import IO, Any

from studio import StudioError
from studio.exchange import json_lines, oasst_labels
from studio.exchange.oasst_census import Census
from studio.exchange.oasst_messages import Message, Thread, in_order, message, nested
from studio.exchange.records import ComparisonRecord, NodeRecord, Report, TreeRecord, expect

FINISHED = "ready_for_export"  # the tree_state of what OpenAssistant finished and released
ALL = "all"
ANNOTATOR = "oasst"
HEAD = 2**16  # bytes that are looked at to recognise a file
MAX_RANKED = 1_000  # siblings: their pairs are half a million


def fits(path: Path) -> bool:
    """Whether a file begins as one of OpenAssistant's, in either form."""
    first = json_lines.head(path, HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
    forms = ((b'"message_tree_id"', b'"prompt"'), (b'"message_id"', b'"role"'))
    return first.startswith(b"{") and any(all(key in first for key in form) for form in forms)


class Reader:
    """Reads a file a tree at a time. ``census`` has what was counted once every tree was read."""

    def __init__(
        self, path: Path, states: Collection[str], labels: Collection[str], skip_bad: bool, report: Report
    ) -> None:
        """``states``: tree states to read ("all": every one; none: those that are finished). ``labels``: to keep as scores.

        Raises StudioError: there is no such label.
        """
        self.path, self.skip_bad, self.report = path, skip_bad, report
        self.states = set(states) or {FINISHED}
        self.codes = oasst_labels.chosen(labels)
        self.census = Census()
        self._tree_of: dict[int, int] = {}  # hashes of message ids and of the trees they are in

    def trees(self) -> Iterator[tuple[int, int, str, TreeRecord | None]]:
        """Number and total, where it is in the file, and the tree; None for one that is left out (noted, or by its state).

        Raises StudioError: naming file and line, unless bad rows are skipped.
        """
        with json_lines.open_lines(self.path) as file:
            places = self._index(file)
            for done, rows in enumerate(places, 1):
                where = f"{self.path.name} line {rows[0]}"
                try:
                    record = self._tree(file, rows)
                except StudioError as error:
                    if not self.skip_bad:
                        raise
                    self.report.skipped.append(str(error))
                    record = None
                yield done, len(places), where, record

    def _index(self, file: IO[bytes]) -> list[array[int]]:
        """For each tree the numbers and places of its lines, one after the other: messages may come in any order."""
        by_tree: dict[str, array[int]] = {}
        for number, place, line in json_lines.lines(file, self.path.name):
            where = f"{self.path.name} line {number}"
            try:
                row = json_lines.read_line(where, line)
                key = _tree_id(where, row)
                if "prompt" in row:  # a whole tree; the same one may come twice
                    key = f"{key} {number}"
            except StudioError as error:
                if not self.skip_bad:
                    raise
                self.report.skipped.append(str(error))
                continue
            by_tree.setdefault(key, array("q")).extend((number, place))
        expect(by_tree or self.report.skipped, self.path.name, "it is empty")
        return list(by_tree.values())

    def _tree(self, file: IO[bytes], rows: array[int]) -> TreeRecord | None:
        thread = self._thread(file, rows)
        if thread is None:
            return None
        tree = hash(thread.id)
        for m in thread.messages:
            if self._tree_of.setdefault(hash(m.id), tree) != tree:
                raise StudioError(f"{m.where}: the message {m.id[:40]} is in another tree of this file too.")
        census = Census()
        record = _record(in_order(thread), self.codes, census)
        self.census.add(census)
        return record

    def _thread(self, file: IO[bytes], rows: array[int]) -> Thread | None:
        """The messages of a tree in the order of the file; None when its state is not asked for."""
        messages: list[Message] = []
        met: set[str] = set()
        tree_id = ""
        for number, place in zip(rows[::2], rows[1::2], strict=True):
            file.seek(place)
            where = f"{self.path.name} line {number}"
            row = json_lines.read_line(where, file.readline(json_lines.MAX_LINE))
            tree_id, state = _tree_id(where, row), row.get("tree_state")
            if number == rows[0] and not self._wanted(where, state):
                return None
            if "prompt" in row:
                return Thread(tree_id, nested(where, row["prompt"], bool(self.codes)))
            try:
                one = message(where, row, bool(self.codes))
                expect(one.id not in met, where, f"the message {one.id[:40]} is there twice")
            except StudioError as error:
                if not self.skip_bad:
                    raise
                self.report.skipped.append(str(error))
                continue
            met.add(one.id)
            messages.append(one)
        return Thread(tree_id, messages)

    def _wanted(self, where: str, state: Any) -> bool:
        expect(state is None or isinstance(state, str), where, f"tree_state is {state!r:.40}, which is no text")
        if state is None or ALL in self.states or state in self.states:
            return True
        self.census.states[state] += 1
        return False


def _tree_id(where: str, row: Any) -> str:
    expect(isinstance(row, dict), where, "it is no tree and no message")
    key = row.get("message_tree_id")
    prompt = row.get("prompt")
    if key is None and isinstance(prompt, dict):
        key = prompt.get("message_id")
    expect(isinstance(key, str) and key, where, f"message_tree_id is {key!r:.40}, which is no id")
    return str(key)


def _record(thread: Thread, codes: dict[str, str], census: Census) -> TreeRecord:
    """A tree as the store takes it; its messages come parents first."""
    nodes: list[NodeRecord] = []
    known = {m.id for m in thread.messages}
    placeholders: set[str] = set()
    families: dict[str, list[Message]] = {}
    for m in thread.messages:
        parent = m.parent if m.parent in known else None
        if parent is None and m.role == "assistant":  # its question is not in the file
            parent = m.parent or f"{m.id}:question"
            if parent not in placeholders:
                placeholders.add(parent)
                nodes.append(NodeRecord(_source(parent), None, "user", ""))
        census.meet(m, orphan=(m.parent is not None and m.parent not in known) or parent in placeholders)
        nodes.append(_node(m, parent, codes, census))
        if m.rank is not None and m.role == "assistant" and parent is not None:
            families.setdefault(parent, []).append(m)
    comparisons = [c for family in families.values() for c in _comparisons(family, census)]
    title = next((" ".join(m.text.split())[:60] for m in thread.messages if m.text.strip()), thread.id)
    languages = [thread.messages[0].lang] if thread.messages and thread.messages[0].lang else []
    return TreeRecord(title, "oasst", ["OpenAssistant", *languages], ANNOTATOR, nodes, comparisons)


def _node(m: Message, parent: str | None, codes: dict[str, str], census: Census) -> NodeRecord:
    scores: dict[str, int] = {}
    for label, average in m.labels.items():
        if label in codes and m.role == "assistant":
            scores[codes[label]], rounded = oasst_labels.step(average)
            census.rounded += rounded
    return NodeRecord(
        _source(m.id),
        _source(parent) if parent else None,
        m.role,
        m.text,
        model=m.model,
        scores=scores,
        pruned=m.deleted,
        created_at=m.created_at,
    )


def _comparisons(family: list[Message], census: Census) -> list[ComparisonRecord]:
    """What the ranks of one parent's replies imply. Which reply is left is decided by the ids, which are chance."""
    expect(len(family) <= MAX_RANKED, family[0].where, f"{len(family)} siblings are ranked, over {MAX_RANKED}")
    ranks = sorted(m.rank for m in family if m.rank is not None)
    census.lone += len(ranks) == 1
    census.gaps += len(ranks) > 1 and sorted(set(ranks)) != list(range(len(set(ranks))))
    pairs = []
    for a, b in combinations(sorted(family, key=lambda m: m.id), 2):
        outcome = _outcome(a.rank or 0, b.rank or 0)
        census.ties += outcome == "tie"
        name = hashlib.sha256(f"{a.id}\n{b.id}\n{outcome}".encode()).hexdigest()[:32]
        pairs.append(ComparisonRecord(f"oasst-{name}", _source(a.id), _source(b.id), outcome))
    census.pairs += len(pairs)
    return pairs


def _outcome(left: int, right: int) -> str:
    """Of two ranks the lower is the better."""
    return "tie" if left == right else "left" if left < right else "right"


def _source(message_id: str) -> str:
    return f"oasst:{message_id}"
