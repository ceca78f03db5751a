"""Real dialogues in, everything out and in again without loss, and files that are not as they should be."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio import StudioError, actions, exchange
from studio.actions import Studio
from studio.config import Config
from studio.exchange.records import Folder
from tests.conftest import ECHO, how, settle


def turn(n: str, prompt: str = "p", images: list[str] | None = None, response: str = "r") -> dict[str, Any]:
    return {
        "prompt": prompt,
        "prompt_uuid": f"{n}-q",
        "prompt_images": images or [""],
        "response": response,
        "response_uuid": f"{n}-r",
        "response_images": [""],
    }


def bench(path: Path, *rows: list[dict[str, Any]], score: int = 2) -> Path:
    path.write_text(
        json.dumps(
            [
                {
                    "id": i,
                    "conversations": r,
                    "annotation": {"crucial_step_recognition": score, "reason_crucial_step_recognition": "why"},
                }
                for i, r in enumerate(rows)
            ]
        )
    )
    return path


def take(studio: Studio, path: Path, **more: Any) -> exchange.Report:
    return exchange.import_path(studio.store, studio.media, path, **more)


def png(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), colour).save(path)
    return path


def other_studio(tmp_path: Path) -> Studio:
    return Studio.open(Config(tmp_path / "other", annotator="bob", models=(ECHO,)))


def test_the_web_examples(studio: Studio, shared: Path) -> None:
    report = take(studio, shared / "intermt_examples")
    referred = set()
    for file in (shared / "intermt_examples").rglob("*.json"):
        for row in json.loads(file.read_text()):
            for value in (row["imageP"], row["imageR"]):
                referred |= {v for v in (value if isinstance(value, list) else [value]) if v != "#"}
    assert (report.trees, report.nodes, report.images, report.missing) == (15, 150, len(referred), 0)
    assert {t["turns"] for t in studio.store.rows("SELECT turns FROM dialogues")} == {5}
    again = take(studio, shared / "intermt_examples")
    assert (again.trees, again.nodes, again.images, again.known) == (0, 0, 0, 150)


def test_the_bench_rows_share_prefixes(studio: Studio, shared: Path) -> None:
    rows = json.loads((shared / "crucial_step.json").read_text())
    uuids = {t[k] for r in rows for t in r["conversations"] for k in ("prompt_uuid", "response_uuid")}
    roots = {r["conversations"][0]["prompt_uuid"] for r in rows}
    report = take(studio, shared / "crucial_step.json")
    assert (report.trees, report.nodes) == (len(roots), len(uuids))
    scored = {
        r["node_id"]: r["value"]
        for r in studio.store.rows("SELECT node_id, value FROM current_scores WHERE dimension = 'G3'")
    }
    ends = studio.store.by_source(f"intermt:{r['conversations'][-1]['response_uuid']}" for r in rows)
    assert set(scored) == set(ends.values())
    before = studio.store.counts()
    take(studio, shared / "crucial_step.json")
    assert studio.store.counts() == before


def test_real_work_goes_out_and_in_without_loss(studio: Studio, shared: Path, tmp_path: Path) -> None:
    take(studio, shared / "intermt_examples")
    tree = studio.store.trees()[0].id
    leaf = studio.store.tree(tree).dialogues()[0]
    replies = [actions.ask(studio, [leaf], f"Go on, way {i}", [], how())[0] for i in range(2)]
    settle(studio)
    actions.rate(studio, replies[0], "L1", 3)
    actions.rate(studio, replies[0], "L1", 1)
    actions.say(studio, replies[0], "local", "critique", "short")
    actions.prune(studio, replies[1])
    actions.star(studio, replies[0], True)
    studio.store.compare("global", "overall", *replies, "left", "ann", seconds=3.5)
    out = tmp_path / "all.zip"
    exchange.export_studio(studio.store, studio.media, out)
    for target in (out, tmp_path / "folder"):
        if target != out:
            exchange.export_studio(studio.store, studio.media, target)
        copy = other_studio(tmp_path)
        take(copy, target)
        assert copy.store.counts() == studio.store.counts()
        assert [copy.store.dump_tree(t) for t in copy.store.tree_ids()] == [
            studio.store.dump_tree(t) for t in studio.store.tree_ids()
        ]
        assert all(copy.media.verify(h) for h in studio.store.images())
        again = take(copy, target)
        assert (again.trees, again.nodes, again.scores) == (0, 0, 0)
        copy.close()
        shutil.rmtree(tmp_path / "other")


def test_what_is_new_is_merged(studio: Studio, tmp_path: Path) -> None:
    take(studio, bench(tmp_path / "b.json", [turn("a"), turn("b")]))
    exchange.export_studio(studio.store, studio.media, tmp_path / "1.zip")
    copy = other_studio(tmp_path)
    take(copy, tmp_path / "1.zip")
    [leaf] = copy.store.tree(copy.store.tree_ids()[0]).dialogues()
    actions.rate(copy, leaf, "L1", 2)
    actions.ask(copy, [leaf], "more", [], how())
    settle(copy)
    exchange.export_studio(copy.store, copy.media, tmp_path / "2.zip")
    report = take(studio, tmp_path / "2.zip")
    assert (report.trees, report.nodes, report.scores) == (0, 2, 1)
    assert studio.store.counts() == copy.store.counts()
    copy.close()


def test_missing_pictures_are_filled_in_later(studio: Studio, tmp_path: Path) -> None:
    name = "8f31ac56-f1d4-4e2e-a4e6-1f43a5e5cf05"
    file = bench(tmp_path / "b.json", [turn("a", "look <Image, a kite>", [f"images/{name}.png"])])
    assert take(studio, file).missing == 1
    part = studio.store.rows("SELECT image_sha256, caption, text FROM parts WHERE kind = 'image'")
    assert part == [{"image_sha256": None, "caption": "a kite", "text": f"images/{name}.png"}]
    png(tmp_path / "later" / "deep" / f"{name}.png")
    report = take(studio, file, images=tmp_path / "later")
    assert (report.filled, report.missing, report.nodes) == (1, 0, 0)


def test_a_short_name_is_not_guessed(tmp_path: Path) -> None:
    png(tmp_path / "b" / "images" / "3.png")
    folder = Folder(tmp_path)
    assert folder.find("/site/a/images/3.png") is None
    assert folder.find("/site/b/images/3.png") == tmp_path / "b" / "images" / "3.png"
    assert folder.find("../../etc/passwd") is None
    assert Folder(tmp_path / "b").find("/site/b/images/3.png") == tmp_path / "b" / "images" / "3.png"


def damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    good = json.dumps([{"id": 0, "conversations": [turn("a")], "annotation": {}}])
    files = {
        "truncated": (good[: len(good) // 2], "cut short"),
        "no-list.json": ('{"a": 1}', "none of the formats"),
        "no-turns.json": ('[{"conversations": [], "annotation": {}}]', "row 0: it has no conversations"),
        "no-text.json": (
            json.dumps([{"conversations": [turn("a") | {"prompt": 7}], "annotation": {}}]),
            "row 0: 'prompt'",
        ),
        "bad-score.json": (
            json.dumps([{"conversations": [turn("a")], "annotation": {"crucial_step_recognition": 9}}]),
            "is 9",
        ),
        "half.jsonl": ('{"format": "intermt-studio", "version": 1}\n{"tree": {"id": ', "line 2"),
        "future.jsonl": ('{"format": "intermt-studio", "version": 99, "made_by": "9.9"}\n', "newer intermt-studio"),
        "orphan.jsonl": (
            '{"format": "intermt-studio", "version": 1}\n'
            + json.dumps(
                {
                    "tree": {"id": "t", "created_at": "x"},
                    "nodes": [
                        {
                            "id": "n",
                            "tree_id": "t",
                            "parent_id": "gone",
                            "ordinal": 0,
                            "role": "user",
                            "created_at": "x",
                        }
                    ],
                }
            ),
            "not there",
        ),
        "cut.zip": ("PK\x03\x04 and no more", "no whole zip"),
    }
    found = {}
    for name, (text, says) in files.items():
        (tmp_path / name).write_text(text)
        found[name] = (tmp_path / name, says)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "truncated",
        "no-list.json",
        "no-turns.json",
        "no-text.json",
        "bad-score.json",
        "half.jsonl",
        "future.jsonl",
        "orphan.jsonl",
        "cut.zip",
    ],
)
def test_a_bad_file_gets_one_line_and_leaves_nothing(studio: Studio, tmp_path: Path, name: str) -> None:
    path, says = damaged(tmp_path)[name]
    with pytest.raises(StudioError, match=says) as caught:
        take(studio, path)
    assert "\n" not in str(caught.value)
    assert studio.store.counts()["nodes"] == 0


def test_bad_rows_can_be_left_out(studio: Studio, tmp_path: Path) -> None:
    path = bench(tmp_path / "b.json", [turn("a")], [turn("b") | {"response": None}], [turn("c")])
    with pytest.raises(StudioError, match="row 1"):
        take(studio, path)
    report = take(studio, path, skip_bad=True)
    assert (report.trees, len(report.skipped)) == (2, 1)


def test_a_hostile_zip_writes_nowhere(studio: Studio, tmp_path: Path) -> None:
    header = '{"format": "intermt-studio", "version": 1}\n'
    sha = "a" * 64
    tree = {
        "tree": {"id": "t", "created_at": "x"},
        "images": [
            {
                "sha256": sha,
                "mime": "image/png",
                "width": 1,
                "height": 1,
                "bytes": 1,
                "origin": "import",
                "created_at": "x",
            }
        ],
    }
    for entry, content in (
        ("../evil.png", b"x"),
        ("/abs.png", b"x"),
        (f"media/{sha}.png", b"not that hash"),
        (f"media/{sha}.png", b"\0" * (21 * 2**20)),
    ):
        with zipfile.ZipFile(tmp_path / "h.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("studio.jsonl", header + json.dumps(tree))
            archive.writestr(entry, content)
        if entry.startswith("media"):
            with pytest.raises(StudioError, match=r"damaged|unpacks to"):
                take(studio, tmp_path / "h.zip")
        else:
            take(studio, tmp_path / "h.zip")
        assert not list(tmp_path.rglob("evil.png"))
        assert not studio.media.path(sha)


def test_an_export_is_not_overwritten_unasked(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"mine")
    with pytest.raises(StudioError, match="--force"):
        exchange.export_studio(studio.store, studio.media, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == b"mine"
    exchange.export_studio(studio.store, studio.media, tmp_path / "x.zip", force=True)
    assert zipfile.ZipFile(io.BytesIO((tmp_path / "x.zip").read_bytes())).namelist() == ["studio.jsonl"]
    with pytest.raises(StudioError, match="Cannot write"):
        exchange.export_studio(studio.store, studio.media, tmp_path / "no" / "such" / "x.zip")
