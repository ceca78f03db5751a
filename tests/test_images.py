"""Edits of pictures, pixel by pixel: odd sizes, transparency, turned by EXIF, 16 bits, palettes, animations; and what is refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFilter, ImageStat

from backends import BackendError, images
from backends.images import checks, draw

SIZES = [(1, 1), (7, 5), (64, 33), (301, 207)]
BOX = {"x": 10, "y": 5, "w": 31, "h": 22}


def noise(size: tuple[int, int] = (97, 61), mode: str = "RGB") -> Image.Image:
    """A picture without two places alike; with alpha from clear to opaque where the mode has it."""
    picture = Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)])
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(size))
    return picture.convert(mode)


def file(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **settings)
    return out.getvalue()


def result(picture: bytes | Image.Image, tool: str, find: images.Find | None = None, **params: Any) -> Image.Image:
    """The picture in the file that one edit makes."""
    made = images.apply(picture, {"tool": tool, "params": params}, find)
    opened = Image.open(io.BytesIO(made.data))
    opened.load()
    assert (opened.size, Image.MIME[str(opened.format)]) == ((made.width, made.height), made.mime)
    return opened


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()


def outside(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The difference of two pictures without what is in a box."""
    difference = ImageChops.difference(one, other)
    difference.paste(0 if len(difference.getbands()) == 1 else (0,) * len(difference.getbands()), box)
    return difference


# ---- each tool, exactly


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", SIZES)
def test_a_crop_is_these_pixels(size: tuple[int, int], mode: str) -> None:
    picture = noise(size, mode)
    right, low = max(1, size[0] - 2), max(1, size[1] - 3)
    cut = result(picture, "crop", x=0, y=0, w=right, h=low)
    expected = picture.crop((0, 0, right, low))
    if mode == "RGBA" and expected.getchannel("A").getextrema() == (255, 255):
        expected = expected.convert("RGB")
    assert same(cut, expected)


@pytest.mark.parametrize(
    ("x", "w", "left", "right"),
    [(10.4, 20, 10, 30), (10.5, 20, 11, 31), (-5, 20, 0, 15), (90, 50, 90, 97), (10.6, 0.9, 11, 12), (2.5, 2, 3, 5)],
)
def test_halves_go_up_and_the_edge_cuts(x: float, w: float, left: int, right: int) -> None:
    picture = noise()
    assert same(result(picture, "crop", x=x, y=3, w=w, h=10), picture.crop((left, 3, right, 13)))


@pytest.mark.parametrize("tool", ["box", "ellipse", "blur", "pixelate"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_nothing_outside_the_box_changes(tool: str, mode: str) -> None:
    picture = noise(mode=mode)
    made = result(picture, tool, **BOX)
    assert outside(made, picture, (10, 5, 41, 27)).getbbox(alpha_only=False) is None
    assert not same(made, picture)


def test_a_box_is_its_outline_and_filled_it_hides() -> None:
    picture = noise()
    made = result(picture, "box", **BOX, colour="#0000ff", width=3)
    expected = picture.copy()
    for edge in ((10, 5, 41, 8), (10, 24, 41, 27), (10, 5, 13, 27), (38, 5, 41, 27)):
        expected.paste((0, 0, 255), edge)
    assert same(made, expected)
    expected.paste((0, 0, 255), (10, 5, 41, 27))
    assert same(result(picture, "box", **BOX, colour="#0000ff", filled=True), expected)


def test_a_box_over_the_edge_is_drawn_as_far_as_the_picture_goes() -> None:
    picture = noise()
    made = result(picture, "box", x=-10, y=-10, w=30, h=30, width=2, colour="#00ff00")
    expected = picture.copy()
    expected.paste((0, 255, 0), (18, 0, 20, 20))
    expected.paste((0, 255, 0), (0, 18, 20, 20))
    assert same(made, expected)


def test_ink_covers_what_is_clear_and_half_ink_half_of_it() -> None:
    clear = Image.new("RGBA", (20, 20), (9, 9, 9, 0))
    assert result(clear, "box", x=2, y=2, w=8, h=8, filled=True, colour="#ff0000").getpixel((5, 5)) == (255, 0, 0, 255)
    half = result(Image.new("RGB", (20, 20)), "box", x=2, y=2, w=8, h=8, filled=True, colour="#ffffff", opacity=0.5)
    assert half.getpixel((5, 5)) == (128, 128, 128)


def test_an_ellipse_touches_its_box_and_has_a_smooth_edge() -> None:
    made = result(Image.new("RGB", (60, 40)), "ellipse", x=10, y=10, w=41, h=21, filled=True, colour="#ffffff").convert(
        "L"
    )
    assert made.getbbox() == (10, 10, 51, 31)
    assert made.getpixel((30, 20)) == 255
    assert made.getpixel((10, 10)) == 0
    assert len(made.getcolors() or []) > 4
    area = ImageStat.Stat(made).sum[0] / 255
    assert area == pytest.approx(3.14159 / 4 * 41 * 21, rel=0.02)


def test_an_arrow_runs_from_tail_to_tip() -> None:
    black = Image.new("RGB", (120, 60))
    made = result(black, "arrow", points=[[10, 30], [100, 30]], width=4, colour="#ffffff").convert("L")
    assert draw.arrow_head(10, 30, 100, 30, 4) == [(100, 30), (84, 38), (84, 22)]
    solid = made.point([0] * 128 + [255] * 128)  # without the soft edge
    assert solid.getbbox() == (8, 22, 99, 38)  # a round tail, half a line in front; the tip thins out to its point
    shaft = [made.getpixel((50, y)) for y in range(26, 34)]
    assert shaft == [0, 0, 255, 255, 255, 255, 0, 0]


def test_a_freehand_line_goes_through_its_points() -> None:
    black = Image.new("RGB", (80, 60))
    line = [[10, 10], [60, 10], [60, 50]]
    made = result(black, "freehand", points=line, width=6, colour="#ffffff").convert("L")
    assert made.getbbox() == (7, 7, 63, 53)
    assert [made.getpixel((30, y)) for y in range(5, 15)] == [0, 0, *[255] * 6, 0, 0]
    assert [made.getpixel((x, 30)) for x in range(55, 65)] == [0, 0, *[255] * 6, 0, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_spotlight_darkens_only_around_it(mode: str) -> None:
    picture = noise(mode=mode)
    made = result(picture, "spotlight", **BOX, shape="box", darkness=0.5)
    assert same(made.crop((10, 5, 41, 27)), picture.crop((10, 5, 41, 27)))
    dark = picture.convert("RGB").point([int(v / 2 + 0.5) for v in range(256)] * 3)
    if mode == "RGBA":
        dark.putalpha(picture.getchannel("A"))
    assert outside(made, dark, (10, 5, 41, 27)).getbbox(alpha_only=False) is None


def test_squares_are_the_mean_of_what_they_cover() -> None:
    picture = noise((50, 40))
    made = result(picture, "pixelate", x=4, y=4, w=21, h=10, size=8)
    for left, top, right, bottom in ((4, 4, 12, 12), (12, 4, 20, 12), (20, 12, 25, 14)):  # the last one is cut short
        square = made.crop((left, top, right, bottom))
        assert len(square.getcolors() or []) == 1
        mean = ImageStat.Stat(picture.crop((left, top, right, bottom))).mean
        assert all(abs(a - b) <= 1 for a, b in zip(square.getpixel((0, 0)), mean, strict=True))  # type: ignore[arg-type]


def test_blur_is_of_the_region_alone_and_clear_colours_stay_unseen() -> None:
    picture = noise()
    made = result(picture, "blur", **BOX, radius=4)
    assert same(made.crop((10, 5, 41, 27)), picture.crop((10, 5, 41, 27)).filter(ImageFilter.GaussianBlur(4)))
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))  # red, but fully clear
    clear.paste((0, 0, 255, 255), (20, 0, 40, 40))
    for tool in ("blur", "pixelate"):
        part = result(clear, tool, x=0, y=0, w=40, h=40).convert("RGBA")
        seen = [p for p in part.get_flattened_data() if p[3] > 8]  # type: ignore[index, operator]
        assert max(p[0] for p in seen) <= 24, tool  # type: ignore[index]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degrees", [90, 180, 270, -90, 360, 0])
def test_quarter_turns_lose_nothing(size: tuple[int, int], degrees: int) -> None:
    picture = noise(size)
    turned = result(picture, "rotate", degrees=degrees)
    expected = picture.rotate(-degrees, expand=True)
    assert same(turned, expected)
    assert same(result(turned, "rotate", degrees=-degrees), picture)


def test_other_turns_have_clear_corners() -> None:
    turned = result(Image.new("RGB", (100, 60), "#123456"), "rotate", degrees=30)
    assert turned.mode == "RGBA"
    assert turned.getpixel((0, 0)) == (0, 0, 0, 0)
    assert turned.getpixel((turned.width // 2, turned.height // 2)) == (0x12, 0x34, 0x56, 255)
    tip = result(Image.new("RGB", (100, 60), "#000000"), "rotate", degrees=30).getchannel("A").getbbox()
    assert tip
    assert tip[2] - tip[0] == pytest.approx(100 * 0.866 + 60 * 0.5, abs=2)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_a_flip_twice_is_nothing(direction: str) -> None:
    picture = noise(mode="RGBA")
    once = result(picture, "flip", direction=direction)
    corner = (picture.width - 1, 0) if direction == "horizontal" else (0, picture.height - 1)
    assert once.getpixel(corner) == picture.getpixel((0, 0))
    assert same(result(once, "flip", direction=direction), picture)


def test_one_side_keeps_the_shape() -> None:
    picture = noise((97, 61))
    assert result(picture, "resize", width=33).size == (33, 21)
    assert result(picture, "resize", height=122).size == (194, 122)
    assert result(noise((500, 3)), "resize", width=10).size == (10, 1)
    assert same(result(picture, "resize", width=40, height=11), picture.resize((40, 11), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("tool", ["brightness", "contrast", "colour", "sharpen"])
def test_one_is_unchanged_and_alpha_is_kept(tool: str) -> None:
    picture = noise(mode="RGBA")
    assert same(result(picture, tool, amount=1), picture)
    changed = result(picture, tool, amount=1.7)
    assert not same(changed, picture)
    assert same(changed.getchannel("A"), picture.getchannel("A"))


def test_light_and_colour_go_the_right_way() -> None:
    picture = Image.new("RGB", (9, 9), (100, 60, 40))
    assert result(picture, "brightness", amount=2).getpixel((0, 0)) == (200, 120, 80)
    grey = result(picture, "colour", amount=0).getpixel((0, 0))
    assert len(set(grey)) == 1  # type: ignore[arg-type]
    even = ImageStat.Stat(result(noise(), "contrast", amount=0)).stddev
    assert max(even) < 1


def test_a_label_is_where_it_was_put() -> None:
    made = result(Image.new("RGB", (200, 80)), "text", x=20, y=10, text="Ag\nzwei", size=24, colour="#ffffff").convert(
        "L"
    )
    left, top, _, bottom = made.getbbox() or (0, 0, 0, 0)
    assert 20 <= left <= 24
    assert 10 <= top <= 20
    assert bottom > 40
    plate = result(
        Image.new("RGB", (200, 80)), "text", x=20, y=10, text="Ag", size=24, colour="#000000", background="#ffffff"
    ).convert("L")
    assert plate.getbbox()[:2] == (20, 10)
    assert plate.getpixel((20, 10)) == 255


def test_a_grid_has_every_picture_in_its_cell() -> None:
    first, second, large = noise((40, 30)), noise((20, 10)), noise((80, 30))
    others = {"a" * 64: second, "b" * 64: large}
    made = result(first, "grid", others.__getitem__, others=list(others), columns=2, gap=5, background="#00ff00")
    assert made.size == (2 * 40 + 15, 2 * 30 + 15)
    assert same(made.crop((5, 5, 45, 35)), first)
    assert same(made.crop((60, 15, 80, 25)), second)  # in the middle, not enlarged
    assert same(made.crop((5, 47, 45, 62)), large.resize((40, 15), Image.Resampling.LANCZOS, reducing_gap=2.0))
    assert made.getpixel((60, 60)) == (0, 255, 0)


def test_a_list_is_one_after_the_other_and_repeats_on_another_picture() -> None:
    edits = [{"tool": "crop", "params": {"x": 5, "y": 5, "w": 40, "h": 30}}, {"tool": "rotate", "params": {"degrees": 90}},
             {"tool": "box", "params": {"x": 0, "y": 0, "w": 10, "h": 10, "filled": True}}]  # fmt: skip
    for picture in (noise(), noise((50, 50), "RGBA")):
        before = picture.tobytes()
        made = images.apply(picture, edits)
        assert (made.width, made.height) == (30, 40)
        step = picture
        for edit in edits:
            step = images.edited(step, [edit])
        assert Image.open(io.BytesIO(made.data)).convert("RGBA").tobytes() == step.convert("RGBA").tobytes()
        assert picture.tobytes() == before


# ---- every kind of file


def test_exif_turns_first_then_the_edit() -> None:
    upright = noise((60, 40))
    for orientation, turned in (
        (6, upright.transpose(Image.Transpose.ROTATE_90)),
        (3, upright.rotate(180)),
        (5, upright.transpose(Image.Transpose.TRANSPOSE)),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        cut = result(file(turned, "PNG", exif=exif), "crop", x=3, y=4, w=20, h=10)
        assert same(cut, upright.crop((3, 4, 23, 14))), orientation
        assert not cut.getexif()


def test_sixteen_bits_keep_the_high_ones() -> None:
    values = [i * 257 for i in range(256)]
    deep = Image.frombytes("I;16", (16, 16), struct.pack("<256H", *values))
    made = images.apply(file(deep), {"tool": "crop", "params": {"x": 0, "y": 0, "w": 16, "h": 15}})
    assert list(Image.open(io.BytesIO(made.data)).convert("L").tobytes()) == list(range(240))
    assert made.notes == ("Its 16 bits a channel became 8.",)


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "CMYK"])
def test_other_modes_keep_their_colours(mode: str) -> None:
    picture = noise().convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = file(picture, kind, **({"quality": 100, "subsampling": 0} if mode == "CMYK" else {}))
    cut = result(data, "crop", x=1, y=1, w=30, h=20)
    expected = Image.open(io.BytesIO(data)).convert("RGB").crop((1, 1, 31, 21))
    difference = ImageStat.Stat(ImageChops.difference(cut.convert("RGB"), expected)).mean
    assert max(difference) < (6 if mode == "CMYK" else 0.001)  # noise is the hardest for a JPEG


def test_a_clear_colour_of_a_palette_stays_clear() -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(0, (0, 0, 4, 8))
    cut = result(file(picture, transparency=0), "crop", x=2, y=0, w=4, h=8)
    assert cut.getpixel((0, 0))[3] == 0
    assert cut.getpixel((3, 0)) == (0, 0, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_and_it_says_so(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), c) for c in ("#ff0000", "#00ff00", "#0000ff")]
    data = file(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    made = images.apply(data, {"tool": "crop", "params": {"x": 0, "y": 0, "w": 5, "h": 5}})
    assert made.notes == ("Only the first of 3 frames was taken.",)
    assert Image.open(io.BytesIO(made.data)).convert("RGB").getpixel((2, 2)) == (255, 0, 0)


def test_a_jpeg_stays_a_jpeg_until_it_has_something_clear() -> None:
    photo = file(noise(), "JPEG")
    assert images.apply(photo, {"tool": "flip", "params": {"direction": "vertical"}}).mime == "image/jpeg"
    assert images.apply(photo, {"tool": "rotate", "params": {"degrees": 10}}).mime == "image/png"
    assert (
        images.apply(file(noise(), "WEBP"), {"tool": "flip", "params": {"direction": "vertical"}}).mime == "image/png"
    )


def test_30000_pixels_wide() -> None:
    wide = Image.linear_gradient("L").resize((30_000, 40)).convert("RGB")
    made = images.apply(file(wide), [{"tool": "box", "params": {"x": 29_000, "y": 5, "w": 900, "h": 30}}])
    assert (made.width, made.height) == (30_000, 40)
    assert result(wide, "crop", x=29_990, y=0, w=500, h=40).size == (10, 40)


def test_what_is_over_20_mb_is_written_more_tightly_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.images.files.MAX_BYTES", 30_000)
    made = images.apply(noise((150, 100)), {"tool": "flip", "params": {"direction": "vertical"}})
    assert made.mime == "image/webp"
    assert len(made.data) <= 30_000
    assert made.notes == ("Kept as WEBP of quality 95: larger than 20 MB otherwise.",)
    with pytest.raises(BackendError, match="over 0 MB however it is written"):
        images.apply(noise((500, 400)), {"tool": "flip", "params": {"direction": "vertical"}})


# ---- what is refused, in one line


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises a huge picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_bad_files_are_refused_before_they_are_unpacked() -> None:
    crop = {"tool": "crop", "params": BOX}
    cases = [
        (bomb(20_000, 20_000), "at most 40 are taken|far too large"), (bomb(60_000, 60_000), "far too large"), (bomb(300, 300), "broken"),
        (file(noise((300, 300)))[:900], "broken"), (b"", "no PNG, JPEG, WEBP or GIF"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG"),
        (file(noise(), "TIFF"), "no PNG"),
    ]  # fmt: skip
    tracemalloc.start()
    for data, message in cases:
        with pytest.raises(BackendError, match=message) as refusal:
            images.apply(data, crop)
        assert "\n" not in str(refusal.value)
    assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("tool", "params", "message"),
    [
        ("crop", {**BOX, "w": 0}, "0 x 22 pixels at 10, 5 hold nothing"),
        ("crop", {**BOX, "x": 97}, "hold nothing of this picture of 97 x 61"),
        ("crop", {**BOX, "w": -3}, "w is -3, and must be a number from 0"),
        ("crop", {**BOX, "w": float("nan")}, "w is nan"),
        ("crop", {**BOX, "x": "3"}, "x is '3'"),
        ("crop", {**BOX, "x": True}, "x is True"),
        ("crop", {"x": 1, "y": 1, "w": 3}, "crop needs h"),
        ("crop", {**BOX, "z": 1}, "crop has no parameter 'z'"),
        ("crop", [1], "crop needs named parameters"),
        ("blur", {**BOX, "y": 61}, "hold nothing"),
        ("box", {**BOX, "colour": "red"}, "colour is 'red', and must be a colour such as"),
        ("arrow", {"points": [[1, 2]]}, "points is .* 2 to 5000 points"),
        ("arrow", {"points": [[1, 2], [3]]}, "2 to 5000 points"),
        ("arrow", {"points": [[500, 500], [600, 600]]}, "hold nothing"),
        ("text", {"x": 1, "y": 1, "text": "  "}, "1 to 500 characters"),
        ("text", {"x": 1, "y": 1, "text": "\U0010fffd"}, "no font of this computer has"),
        ("resize", {}, "resize needs a width, a height, or both"),
        ("resize", {"width": 50_000}, "at most 40 are taken"),
        ("resize", {"width": 3.5}, "a whole number"),
        ("rotate", {"degrees": 400}, "a number from -360 to 360"),
        ("flip", {"direction": "sideways"}, "one of horizontal, vertical"),
        ("grid", {"others": ["../../etc/passwd"]}, "each by its hash"),
        ("grid", {"others": ["a" * 64]}, "not at hand here"),
        ("sepia", {}, "No edit is called 'sepia'. Known: crop"),
        (None, {}, "No edit is called None"),
    ],
)
def test_an_edit_that_cannot_be(tool: Any, params: Any, message: str) -> None:
    with pytest.raises(BackendError, match=message) as refusal:
        images.apply(noise(), {"tool": tool, "params": params})
    assert "\n" not in str(refusal.value)


def test_a_list_that_is_none() -> None:
    for bad in ([], "crop", [{}] * (checks.MAX_EDITS + 1)):
        with pytest.raises(BackendError, match="A list of 1 to 100 edits"):
            images.edited(noise(), bad)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=r"Edit 2 \(crop\): 31 x 22 pixels"):
        images.edited(noise(), [{"tool": "crop", "params": BOX}, {"tool": "crop", "params": {**BOX, "x": 70}}])


def test_every_tool_has_words(tmp_path: Path) -> None:
    others = {
        "points": [[1, 2], [30, 40]],
        "others": ["a" * 64],
        "amount": 1.5,
        "degrees": 5,
        "direction": "vertical",
        "width": 30,
        "text": "a\nb",
    }
    for tool, known in checks.TOOLS.items():
        edit = checks.checked({"tool": tool, "params": {k: v for k, v in (BOX | others).items() if k in known}})
        line = images.words(edit)
        assert "\n" not in line
        assert len(line) > len(tool)
        assert images.edited(noise(), [edit], lambda _: noise()).mode in ("RGB", "RGBA")
