"""Numbers of pictures: in order on real pictures and their damaged copies, right at the edges, kept once, and shown with what they mean."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from backends import BackendError, checks
from studio import StudioError, api, checking, doctor, measuring
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import wait
from tests.test_retrieve import bomb, picture

pytest.importorskip("skimage")
Damage = Callable[[Image.Image], Image.Image]


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(2))


def noisy(image: Image.Image) -> Image.Image:
    exact = np.asarray(image, np.float64)
    return Image.fromarray(
        np.clip(exact + np.random.default_rng(0).normal(0, 20, exact.shape), 0, 255).astype(np.uint8)
    )


def compressed(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=15)
    return Image.open(out).convert("RGB")


DAMAGES: dict[str, Damage] = {"blur": blurred, "noise": noisy, "jpeg": compressed}


# ---- the measures


def test_quality_and_each_damage_order_the_64_examples_rightly(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from backends.checks import brisque, damage

    files = sorted((shared / "intermt_examples").glob("*/images/*.jpg"))
    own: dict[str, Callable[[Any], float]] = {
        "blur": damage.blur,
        "noise": damage.noise,
        "jpeg": lambda grey: -damage.blocks(grey),
    }
    worse = {(key, by): 0 for key in DAMAGES for by in ("quality", key)}
    for path in files:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        left, top = ((side - min(side, 256)) // 2 for side in image.size)
        image = image.crop((left, top, left + 256, top + 256))  # the middle of each: a sixth of the time
        grey = damage.greys(image)
        before = {"quality": brisque.score(grey)} | {key: measure(grey) for key, measure in own.items()}
        for key, act in DAMAGES.items():
            after = damage.greys(act(image))
            worse[key, "quality"] += brisque.score(after) > before["quality"]
            worse[key, key] += own[key](after) > before[key]
    with capsys.disabled():
        print()
        for (key, by), count in worse.items():
            print(f"InterMT examples: {key} makes {by} worse in {count} of {len(files)} pairs")
    assert len(files) == 64
    assert all(count >= 58 for count in worse.values()), worse  # nine of ten


def test_more_damage_is_a_worse_number() -> None:
    image = picture(3, (160, 120))
    draw = ImageDraw.Draw(image)
    for i in range(0, 160, 8):
        draw.line((i, 0, 160 - i, 120), fill=(i % 256, 40, 200))
    blurs = [checks.measured(png(image.filter(ImageFilter.GaussianBlur(r))))["blur"] for r in (0, 1, 3, 6)]
    assert blurs == sorted(blurs)
    exact = np.asarray(image, np.float64)
    rng = np.random.default_rng(1)
    noises = [checks.measured(png(Image.fromarray(np.clip(exact + rng.normal(0, s, exact.shape), 0, 255).astype(np.uint8))))["noise"]
              for s in (1, 10, 40)]  # fmt: skip
    assert noises == sorted(noises)


def test_noise_is_in_steps_of_grey() -> None:
    """The one measure whose right answer is known: grain of a deviation that was put in."""
    from backends.checks import damage

    grain = np.random.default_rng(0).normal(128, 12, (256, 256))
    assert damage.noise(grain) == pytest.approx(12, rel=0.05)


def test_the_model_of_quality_is_the_one_that_was_released() -> None:
    from backends.checks import brisque

    low, high, weights, vectors = brisque._model()
    assert (low.shape, high.shape, weights.shape, vectors.shape) == ((36,), (36,), (770,), (770, 36))
    assert (low[0], high[0], vectors[0, 0], weights[0]) == (0.336999, 9.999411, -0.597198, -1024)


def test_the_shapes_of_known_distributions_are_found() -> None:
    from backends.checks import brisque

    rng = np.random.default_rng(0)
    assert brisque._symmetric(rng.normal(0, 3, (400, 400))) == [pytest.approx(2, abs=0.05), pytest.approx(9, rel=0.02)]
    assert brisque._symmetric(rng.laplace(0, 1, (400, 400)))[0] == pytest.approx(1, abs=0.05)
    sides = np.abs(rng.normal(0, 1, (400, 400))) * np.where(
        rng.random((400, 400)) < 1 / 3, -1, 2
    )  # twice as wide, twice as often
    shape, mean, left, right = brisque._asymmetric(sides)
    assert (shape, left, right) == (pytest.approx(2, abs=0.1), pytest.approx(1, rel=0.03), pytest.approx(4, rel=0.03))
    assert mean == pytest.approx(sides.mean(), rel=0.05)


@pytest.mark.parametrize(
    ("size", "colour"), [((200, 200), "red"), ((1, 1), "white"), ((3000, 40), "black"), ((40, 3000), (0, 0, 0, 0))]
)
def test_a_blank_picture_is_of_one_colour_and_no_more_is_said(size: tuple[int, int], colour: Any) -> None:
    found = checks.measured(png(Image.new("RGBA" if isinstance(colour, tuple) else "RGB", size, colour)))
    assert found["flat"] == 1
    assert set(found) == {"flat", "style"}


def test_one_colour_is_a_share() -> None:
    image = picture(1, (100, 100))
    image.paste((10, 200, 30), (0, 0, 100, 80))
    assert checks.measured(png(image))["flat"] == pytest.approx(0.8, abs=0.02)
    assert checks.measured(png(picture(1)))["flat"] < 0.1


def test_style_is_nearer_within_a_picture_than_between_two(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halves = []
    for path in sorted((shared / "intermt_examples").glob("*/images/*.jpg")):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image.thumbnail((256, 256))
        middle = image.width // 2
        halves.append([checks.style_of(image.crop((x, 0, x + middle, image.height))) for x in (0, middle)])
    right = {"palette": 0, "texture": 0}
    pairs = [(a, (a + step) % len(halves)) for a in range(len(halves)) for step in (1, 5, 17, 29)]
    for a, b in pairs:
        own, other = checks.apart(*halves[a]), checks.apart(halves[a][0], halves[b][1])
        for key in right:
            right[key] += own[key] < other[key]
    with capsys.disabled():
        print()
        for key, count in right.items():
            print(
                f"InterMT examples: {key} of two halves of a picture nearer than of two pictures in {count} of {len(pairs)}"
            )
    assert all(count > 0.85 * len(pairs) for count in right.values()), right


def test_a_distance_is_none_from_itself_and_whole_between_black_and_white() -> None:
    red, same, blue = (
        checks.measured(png(Image.new("RGB", (64, 64), c)))["style"] for c in ("#ff0000", "#ff0000", "#0000ff")
    )
    assert checks.apart(red, same) == {"palette": 0, "texture": 0}
    assert checks.apart(red, blue)["palette"] > 0.95
    assert checks.bits(-1, 0) == 64
    assert checks.bits(5, 5) == 0


def test_every_measure_says_what_it_is() -> None:
    known = checks.measures()
    assert {*checking.ALONE, "nearest", "similarity", "palette", "texture", "apart"} == set(known)
    for measure in known.values():
        assert measure.low < measure.high
        assert measure.name
        assert measure.means.endswith(".")
    assert known["quality"].range == "about 0 to 100, lower is better"
    assert known["nearest"].range == "0 to 64"


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", bomb(), png(picture(1))[:300]], ids=["empty", "pdf", "bomb", "cut"])
def test_bad_bytes_are_one_clear_line(data: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        checks.measured(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


# ---- of the store


def kept(studio: Studio, image: Image.Image) -> str:
    """A picture in the store."""
    stored = studio.media.add(png(image), "x.png")
    studio.store.add_image(stored.sha256, stored.mime, stored.width, stored.height, stored.bytes, "upload")
    return stored.sha256


def settled(studio: Studio, name: str, **data: Any) -> dict[str, Any]:
    """What a call of the page says once nothing more will come."""
    answer: dict[str, Any] = wait(
        lambda: (a := api.handle(studio, name, data)) and not a.get("waiting") and a, 60, "the numbers"
    )
    return answer


def dialogue(studio: Studio, *images: str) -> str:
    """A dialogue that shows these pictures, each in a reply of its own; returns its last node."""
    node = None
    tree = studio.store.create_tree("t")
    for i, sha256 in enumerate(images):
        question = studio.store.add_node(tree, node, "user", [Part("text", f"question {i}")])
        node = studio.store.add_node(tree, question, "assistant", [Part("text", "Here"), Part("image", image_sha256=sha256, caption=f"caption {i}")], model="m")  # fmt: skip
    assert node
    return node


def test_a_picture_is_measured_beside_the_screen_and_only_once(studio: Studio) -> None:
    image = picture(1, (300, 200))
    mine, copy, other = (
        kept(studio, image),
        kept(studio, image.resize((150, 100))),
        kept(studio, picture(2, (300, 200))),
    )
    first = api.handle(studio, "checks_picture", {"sha256": mine})
    assert (first["waiting"], first["numbers"]) == (True, [])
    answer = settled(studio, "checks_picture", sha256=mine)
    assert [row["key"] for row in answer["numbers"]][:5] == list(checking.ALONE)
    nearest = wait(
        lambda: [
            r for r in checking.picture(studio, mine)["numbers"] if r["key"] == "nearest" and "among 2" in r["note"]
        ],
        20,
        "all looks",
    )
    assert nearest[0]["other"] == copy != other
    assert nearest[0]["value"] <= 6
    assert checking.measure(studio, [mine])[mine]["quality"] == answer["numbers"][0]["value"]
    studio.media.path(mine).unlink()  # type: ignore[union-attr]
    assert checking.measure(studio, [mine])[mine]["quality"] == answer["numbers"][0]["value"]  # from what is kept


def test_numbers_of_another_version_are_measured_again(studio: Studio) -> None:
    sha256 = kept(studio, picture(1, (64, 64)))
    measuring.of(studio).kept.keep_numbers(sha256, checks.VERSION - 1, {"quality": -1000})
    assert checking.measure(studio, [sha256])[sha256]["quality"] > -1000


def test_a_dialogue_has_distances_with_the_furthest_and_the_most_alike(studio: Studio) -> None:
    red, dark = Image.new("RGB", (96, 64), "red"), picture(5, (96, 64))
    leaf = dialogue(studio, kept(studio, dark), kept(studio, red), kept(studio, dark.resize((192, 128))))
    answer = settled(studio, "checks_dialogue", leaf=leaf)
    rows = {row["key"]: row for row in answer["numbers"]}
    assert [p["n"] for p in answer["pictures"]] == [1, 2, 3]
    assert rows["nearest"]["note"] == "the two most alike: pictures 1 and 3"
    assert rows["nearest"]["value"] <= 6
    assert rows["palette"]["note"].startswith("mean of 3 pairs; furthest apart are pictures ")
    assert 0 < rows["texture"]["value"] <= 1
    assert any("By what a picture shows: not set up" in note for note in answer["notes"])


def test_the_same_picture_twice_differs_in_no_bit(studio: Studio) -> None:
    sha256 = kept(studio, picture(1))
    answer = settled(studio, "checks_dialogue", leaf=dialogue(studio, sha256, sha256))
    assert {row["key"]: row["value"] for row in answer["numbers"]} == {"palette": 0, "texture": 0, "nearest": 0}
    assert settled(studio, "checks_dialogue", leaf=dialogue(studio, sha256))["numbers"] == []  # one has no pair


def test_a_picture_whose_file_is_gone_is_told_and_holds_nothing_up(studio: Studio) -> None:
    gone, there = kept(studio, picture(1)), kept(studio, picture(2))
    studio.media.path(gone).write_bytes(b"no picture any more")  # type: ignore[union-attr]
    answer = settled(studio, "checks_dialogue", leaf=dialogue(studio, gone, there))
    assert [len(p["numbers"]) for p in answer["pictures"]] == [0, 2]
    assert any(note.startswith("A picture is not measured: ") for note in answer["notes"])
    for sha256 in ("0" * 64, "../../etc/passwd", "", "nothing"):
        assert "No picture has the hash" in api.handle(studio, "checks_picture", {"sha256": sha256})["error"]
    with pytest.raises(StudioError):
        checking.measure(studio, ["0" * 64])


def test_the_doctor_says_what_can_be_measured(tmp_path: Path) -> None:
    found = {f.area: f for f in doctor.inspect(tmp_path)}
    assert found["measures"].state == "ok"
    assert "BRISQUE" in found["measures"].text
    assert found["CLIP"].state == "ok"  # none is needed
    assert "clip = " in found["CLIP"].next_step
