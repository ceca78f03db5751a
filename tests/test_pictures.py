"""Pictures that are kept: edited without a browser, put into messages by hash, followed back, saved with their history."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backends import BackendError
from studio import StudioError, actions, api, history, pictures
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import how, settle
from tests.test_images import file, noise, same

CROP = {"tool": "crop", "params": {"x": 10, "y": 5, "w": 31, "h": 22}}
BOX = {"tool": "box", "params": {"x": 2, "y": 2, "w": 9, "h": 9, "filled": True}}


def kept(studio: Studio, picture: Image.Image, kind: str = "PNG", **settings: Any) -> str:
    """Put a picture into the store as somebody who drops it would; returns its hash."""
    data = base64.b64encode(file(picture, kind, **settings)).decode()
    return str(pictures.add(studio, f"picture.{kind.lower()}", data)["sha256"])


def opened(studio: Studio, sha256: str) -> Image.Image:
    path = studio.media.path(sha256)
    assert path
    picture = Image.open(path)
    picture.load()
    return picture


def row(studio: Studio, sha256: str) -> dict[str, Any]:
    return studio.store.images([sha256])[sha256]


def shown_in(studio: Studio, sha256: str, title: str = "Quokkas") -> str:
    """A question that shows a picture; returns its id."""
    tree = studio.store.create_tree(title)
    return studio.store.add_node(tree, None, "user", [Part("image", image_sha256=sha256)])


# ---- editing


def test_a_result_is_a_new_row_that_tells_how_it_was_made(studio: Studio) -> None:
    source = noise()
    sha256 = kept(studio, source)
    made = pictures.apply_to(studio, sha256, [CROP, BOX])
    found = row(studio, made)
    assert (found["origin"], found["tool"], found["source_sha256"]) == ("edit", "crop, box", sha256)
    assert (found["width"], found["height"], found["mime"]) == (31, 22, "image/png")
    assert [e["tool"] for e in found["params"]["edits"]] == ["crop", "box"]
    assert found["params"]["edits"][1]["params"]["colour"] == "#dc2626"  # what was left out is written down too
    expected = source.crop((10, 5, 41, 27))
    expected.paste((0xDC, 0x26, 0x26), (2, 2, 11, 11))
    assert same(opened(studio, made), expected)
    assert same(opened(studio, sha256), source)  # the source stays as it was


def test_the_list_of_a_result_makes_the_same_of_another_picture(studio: Studio) -> None:
    first, second = kept(studio, noise()), kept(studio, noise((80, 50)))
    edits = row(studio, pictures.apply_to(studio, first, [CROP]))["params"]["edits"]
    again = pictures.apply_to(studio, second, edits)
    assert same(opened(studio, again), opened(studio, second).crop((10, 5, 41, 27)))
    assert pictures.apply_to(studio, second, edits) == again  # the same edit is the same picture


def test_a_turned_photo_is_edited_as_it_is_seen(studio: Studio) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    sha256 = kept(studio, upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    made = opened(
        studio, pictures.apply_to(studio, sha256, [{"tool": "crop", "params": {"x": 0, "y": 0, "w": 60, "h": 10}}])
    )
    assert made.format == "JPEG"
    assert made.size == (60, 10)
    assert made.convert("L").getextrema()[1] < 80  # the dark end of the upright picture


def test_a_grid_was_made_of_all_its_pictures(studio: Studio) -> None:
    first, second = kept(studio, noise((40, 30))), kept(studio, noise((40, 30)))
    made = pictures.apply_to(studio, first, [{"tool": "grid", "params": {"others": [second]}}])
    told = {p["sha256"]: p for p in pictures.lineage(studio, made)["pictures"]}
    assert told[made]["from"] == [first, second]
    assert {told[first]["depth"], told[second]["depth"]} == {-1}
    onward = [p["sha256"] for p in pictures.lineage(studio, second)["pictures"] if p["depth"] == 1]
    assert onward == [made]


def test_what_cannot_be_edited_leaves_nothing(studio: Studio) -> None:
    sha256 = kept(studio, noise())
    for picture, edits, message in (
        ("0" * 64, [CROP], "No picture has the hash"), ("../../etc/passwd", [CROP], "No picture has the hash"),
        (sha256, [], "A list of 1 to 100 edits"), (sha256, [{**CROP, "params": {"x": 0, "y": 0, "w": 0, "h": 9}}], "hold nothing"),
        (sha256, [{"tool": "grid", "params": {"others": ["0" * 64]}}], "No picture has the hash"),
    ):  # fmt: skip
        with pytest.raises((StudioError, BackendError), match=message):
            pictures.apply_to(studio, picture, edits)
    assert list(studio.store.images()) == [sha256]


def test_the_preview_is_what_will_be_made(studio: Studio) -> None:
    sha256 = kept(studio, noise())
    assert pictures.preview(studio, sha256, []) == {"url": "", "width": 97, "height": 61, "how": []}
    seen = pictures.preview(studio, sha256, [CROP, BOX])
    assert (seen["width"], seen["height"], len(seen["how"])) == (31, 22, 2)
    exact = Image.open(io.BytesIO(base64.b64decode(seen["url"].removeprefix("data:image/png;base64,"))))
    assert same(exact, opened(studio, pictures.apply_to(studio, sha256, [CROP, BOX])))
    large = pictures.preview(studio, kept(studio, noise((3000, 900))), [BOX])
    assert (large["width"], large["height"]) == (3000, 900)
    assert Image.open(io.BytesIO(base64.b64decode(large["url"].split(",")[1]))).size == (pictures.PREVIEW, 480)


def test_calls_of_the_page_answer_with_one_line(studio: Studio) -> None:
    sha256 = kept(studio, noise())
    good = api.handle(studio, "picture_apply", {"sha256": sha256, "edits": [CROP]})
    assert (good["width"], good["height"], good["notes"]) == (31, 22, [])
    for name, data, message in (
        ("picture_apply", {"sha256": sha256, "edits": [{"tool": "sepia"}]}, "No edit is called 'sepia'"),
        ("picture_apply", {"sha256": sha256}, "without what it needs"),
        ("picture_preview", {"sha256": sha256, "edits": 3}, "A list of 1 to 100 edits"),
        ("picture_lineage", {"sha256": 3}, "No picture has the hash '3'"),
        ("picture_add", {"name": "a.png", "data": "%%%"}, "did not arrive whole"),
        ("picture_add", {"name": "a.png", "data": base64.b64encode(b"<svg/>").decode()}, "no PNG, JPEG, WEBP or GIF"),
        ("picture_add", {"name": "a.png", "data": "A" * 29_000_000}, "has over 20 MB"),
    ):
        assert message in api.handle(studio, name, data)["error"]


def test_40_megapixels_are_edited_while_others_go_on(studio: Studio) -> None:
    photo = Image.effect_noise((800, 500), 40).resize((8000, 5000), Image.Resampling.BICUBIC).convert("RGB")
    sha256 = kept(studio, photo, "JPEG", quality=85)
    del photo
    edits = [
        {"tool": "blur", "params": {"x": 1000, "y": 1000, "w": 3000, "h": 2000}},
        {"tool": "contrast", "params": {"amount": 1.3}},
    ]
    made: list[str] = []
    worker = threading.Thread(target=lambda: made.append(pictures.apply_to(studio, sha256, edits)))
    waits = []
    worker.start()
    while worker.is_alive():
        start = time.perf_counter()
        studio.store.trees()
        time.sleep(0.002)
        waits.append(time.perf_counter() - start)
    worker.join()
    found = row(studio, made[0])
    assert (found["width"], found["height"], found["mime"]) == (8000, 5000, "image/jpeg")
    assert len(waits) > 20
    assert sorted(waits)[int(len(waits) * 0.95)] < 0.25  # a click in the meantime is answered


# ---- in a message


def test_a_stored_picture_goes_into_a_message_by_its_hash(studio: Studio) -> None:
    sha256 = pictures.apply_to(studio, kept(studio, noise()), [CROP])
    parts = pictures.attached(studio, json.dumps([{"sha256": sha256, "caption": "a crop"}]))
    replies = actions.ask(studio, [], "What is it?", parts, how())
    settle(studio)
    question = studio.store.path(replies[0])[0]
    assert question.parts == [Part("text", "What is it?"), Part("image", image_sha256=sha256, caption="a crop")]
    assert actions.ask(studio, [], "", parts, how())  # a picture alone is a question too
    settle(studio)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "cannot be read"),
        ('[{"caption": "x"}]', "cannot be read"),
        ("[3]", "cannot be read"),
        ('{"a": 1}', "cannot be read"),
        (json.dumps([{"sha256": "0" * 64}]), "No picture has the hash"),
        (json.dumps([{"sha256": "0" * 64}] * 17), "17 pictures are too many"),
    ],
)
def test_what_is_no_stored_picture_is_refused(studio: Studio, given: str, message: str) -> None:
    with pytest.raises(StudioError, match=message):
        pictures.attached(studio, given)


# ---- where it came from


def test_the_lineage_goes_both_ways_and_names_the_messages(studio: Studio) -> None:
    source = kept(studio, noise())
    middle = pictures.apply_to(studio, source, [CROP])
    end = pictures.apply_to(studio, middle, [BOX])
    question = shown_in(studio, middle)
    told = pictures.lineage(studio, middle)["pictures"]
    assert [(p["sha256"], p["depth"], p["from"]) for p in told] == [
        (source, -1, []),
        (middle, 0, [source]),
        (end, 1, [middle]),
    ]
    assert [p["how"] for p in told] == [["upload"], ["crop to 31 x 22 at 10, 5"], ["box 9 x 9 at 2, 2"]]
    assert [[u["node_id"] for u in p["uses"]] for p in told] == [[], [question], []]
    assert told[1]["uses"][0]["title"] == "Quokkas"
    json.dumps(told)


def test_a_long_or_wide_lineage_is_cut_not_endless(studio: Studio) -> None:
    source = kept(studio, noise((20, 20)))
    for i in range(pictures.MAX_FOLLOWED + 5):
        pictures.apply_to(studio, source, [{"tool": "brightness", "params": {"amount": 0.5 + i / 100}}])
    assert len(pictures.lineage(studio, source)["pictures"]) == pictures.MAX_FOLLOWED + 1


def test_a_saved_copy_tells_its_history_to_another_studio(studio: Studio, tmp_path: Any) -> None:
    source = kept(studio, noise())
    made = pictures.apply_to(studio, pictures.apply_to(studio, source, [CROP]), [BOX])
    copy = pictures.copy_with_history(studio, made)
    assert same(Image.open(io.BytesIO(copy)), opened(studio, made))
    assert (
        pictures.add(studio, "copy.png", base64.b64encode(copy).decode())["sha256"] == made
    )  # known here: no second row
    assert row(studio, made)["origin"] == "edit"

    other = Studio.open(studio.config.__class__(tmp_path / "other", annotator="bob", models=studio.config.models))
    try:
        (tmp_path / "copy.png").write_bytes(copy)
        replies = actions.ask(other, [], "Look", [tmp_path / "copy.png"], how())
        settle(other)
        sha256 = other.store.path(replies[0])[0].images[0].image_sha256
        assert sha256
        assert b"history" not in (other.media.path(sha256) or tmp_path).read_bytes()  # the stored file has pixels only
        found = pictures.lineage(other, sha256)["pictures"][0]
        assert found["origin"] == "upload"
        assert [s["words"] for s in found["claimed"]] == ["upload", "crop to 31 x 22 at 10, 5", "box 9 x 9 at 2, 2"]
        again = pictures.copy_with_history(
            other, pictures.apply_to(other, sha256, [{"tool": "flip", "params": {"direction": "vertical"}}])
        )
        steps = history.claimed(again)["params"]["history"]
        assert [s["origin"] for s in steps] == ["upload", "edit", "edit", "upload", "edit"]  # it goes on from there
    finally:
        other.close()


def with_text(text: str) -> bytes:
    chunks = PngInfo()
    chunks.add_itxt(history.KEY, text, zip=True)
    return file(noise((9, 9)), "PNG", pnginfo=chunks)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        "{}",
        "[]",
        "[3, null]",
        "[{}]",
        '[{"words": 3}]',
        "[" * 100_000,
        "null",
        '[{"strange": "x"}]',
    ],
)
def test_nonsense_is_no_history(studio: Studio, text: str) -> None:
    data = with_text(text)
    assert history.claimed(data) == {}
    assert pictures.add(studio, "x.png", base64.b64encode(data).decode())["width"] == 9


def test_a_claim_is_cut_to_short_plain_texts() -> None:
    step = {"words": "<script>\x00\x1b[31m" + "a" * 5000, "origin": "edit", "run": "rm"}
    said = [step | {"params": {"a": "b" * 30_000}}] + [step] * 100
    steps = history.claimed(with_text(json.dumps(said)))["params"]["history"]
    assert len(steps) == history.MAX_STEPS
    assert set(steps[0]) == {"words", "origin"}
    assert steps[0]["words"].startswith("<script>[31m")
    assert len(steps[0]["words"]) <= history.MAX_TEXT


def test_a_bomb_of_text_is_refused() -> None:
    assert history.claimed(with_text("A" * 3_000_000)) == {}


def test_other_files_claim_nothing() -> None:
    assert history.claimed(file(noise(), "JPEG")) == history.claimed(b"") == history.claimed(with_text("[]")[:60]) == {}
    with pytest.raises(TypeError, match="a step has no"):
        history.step(command="x")


def test_before_a_vote_a_lineage_names_no_model_place_time_or_message(studio: Studio) -> None:
    source = kept(studio, noise((60, 40)))
    made = pictures.apply_to(studio, source, [CROP])
    with studio.store.write() as db:
        db.execute("UPDATE images SET origin = 'generate', tool = 'secret', prompt = 'secret', licence = 'secret', params = ? WHERE sha256 = ?",
                   [json.dumps({"model": "secret", "history": [{"tool": "secret"}]}), source])  # fmt: skip
    tree = studio.store.create_tree("secret")
    studio.store.add_node(tree, None, "user", [Part("image", image_sha256=made, caption="secret")])
    assert "secret" in json.dumps(pictures.lineage(studio, made))
    told = api.handle(studio, "picture_lineage", {"sha256": made, "blind": True})
    assert "secret" not in json.dumps(told)
    first, second = told["pictures"]
    assert (first["how"], second["how"], second["from"]) == (
        ["hidden until you have voted"],
        ["crop to 31 x 22 at 10, 5"],
        [source],
    )
