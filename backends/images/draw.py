"""How each edit changes the pixels. Works on RGB and RGBA, gives a new picture, leaves the old one; knows no files.

A box covers the pixels from ``round(x)`` up to, not including, ``round(x + w)``, halves rounded up: as the page's canvas does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from backends import BackendError
from backends.images.checks import Edit
from backends.images.files import Find, fits, plain
from backends.images.fonts import font_for

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside
Params = dict[str, Any]
SMOOTH = 4  # a drawn shape is made so many times larger, then shrunk: its edge is smooth
LARGE_MASK = 64_000_000  # pixels of an enlarged shape, at most
TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
FLIPS = {"horizontal": Image.Transpose.FLIP_LEFT_RIGHT, "vertical": Image.Transpose.FLIP_TOP_BOTTOM}
ENHANCERS: dict[str, Callable[[Image.Image], Any]] = {
    "brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "colour": ImageEnhance.Color,
    "sharpen": ImageEnhance.Sharpness,
}  # fmt: skip


def change(picture: Image.Image, edit: Edit, find: Find | None = None, name: str = "The edit") -> Image.Image:
    """One checked edit on a picture. ``name`` begins the line of an error.

    Raises:
        BackendError: the edit leaves nothing, makes over 40 megapixels, lies outside the picture, or needs a picture that
            is not there.
    """
    picture, tool, params = plain(picture), edit["tool"], edit["params"]
    if tool in ENHANCERS:
        return _enhanced(picture, tool, params["amount"])
    if tool == "grid":
        return _grid(picture, params, find, name)
    return DRAWERS[tool](picture, params, name)


# ---- where


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _pixels(p: Params) -> Box:
    return _half_up(p["x"]), _half_up(p["y"]), _half_up(p["x"] + p["w"]), _half_up(p["y"] + p["h"])


def _inside(picture: Image.Image, box: Box, name: str) -> Box:
    """The part of a box that lies in the picture. Raises BackendError when there is none."""
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(picture.width, box[2]), min(picture.height, box[3])
    if left >= right or top >= bottom:
        raise BackendError(
            f"{name}: {box[2] - box[0]} x {box[3] - box[1]} pixels at {box[0]}, {box[1]} hold nothing of this picture of "
            f"{picture.width} x {picture.height}. Draw the box on the picture."
        )
    return left, top, right, bottom


# ---- cutting and hiding


def _crop(picture: Image.Image, p: Params, name: str) -> Image.Image:
    return picture.crop(_inside(picture, _pixels(p), name))


def _within(picture: Image.Image, box: Box, treat: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Only what is in the box, treated with its alpha multiplied in: the colour of a clear pixel must not be seen."""
    clear = picture.mode == "RGBA"
    part = picture.crop(box)
    part = treat(part.convert("RGBa") if clear else part)
    result = picture.copy()
    result.paste(part.convert("RGBA") if clear else part, box)
    return result


def _blur(picture: Image.Image, p: Params, name: str) -> Image.Image:
    box = _inside(picture, _pixels(p), name)
    return _within(picture, box, lambda part: part.filter(ImageFilter.GaussianBlur(p["radius"])))


def _pixelate(picture: Image.Image, p: Params, name: str) -> Image.Image:
    size = p["size"]

    def cells(part: Image.Image) -> Image.Image:
        few = part.reduce(size)  # a cell at the edge is the mean of what it has
        many = few.resize((few.width * size, few.height * size), Image.Resampling.NEAREST)
        return many.crop((0, 0, *part.size))

    return _within(picture, _inside(picture, _pixels(p), name), cells)


def _spotlight(picture: Image.Image, p: Params, name: str) -> Image.Image:
    box = _pixels(p)
    _inside(picture, box, name)
    lit = Image.new("L", picture.size)
    shape, at = _mask(box, picture, "ellipse" if p["shape"] == "ellipse" else "rectangle")
    lit.paste(shape, at)
    dark = picture.convert("RGB").point([_half_up(v * (1 - p["darkness"])) for v in range(256)] * 3)
    result = Image.composite(picture.convert("RGB"), dark, lit)
    return _with_alpha(result, picture)


# ---- drawing


def _mask(box: Box, picture: Image.Image, shape: str, width: float = 0) -> tuple[Image.Image, tuple[int, int]]:
    """A filled shape, or its outline of ``width`` pixels inside the box, as an L mask of what the picture holds of it."""
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(picture.width, box[2]), min(picture.height, box[3])
    much = 1 if shape == "rectangle" else _enlarged(right - left, bottom - top)
    mask = Image.new("L", ((right - left) * much, (bottom - top) * much))
    outline = [(box[0] - left) * much, (box[1] - top) * much, (box[2] - left) * much - 1, (box[3] - top) * much - 1]
    pen = {"outline": 255, "width": max(1, round(width * much))} if width else {"fill": 255}
    getattr(ImageDraw.Draw(mask), shape)(outline, **pen)
    return mask if much == 1 else mask.resize((right - left, bottom - top), Image.Resampling.BOX), (left, top)


def _enlarged(width: int, height: int) -> int:
    return next((n for n in (SMOOTH, 2) if width * n * height * n <= LARGE_MASK), 1)


def _painted(
    picture: Image.Image, mask: Image.Image, at: tuple[int, int], colour: str, opacity: float = 1
) -> Image.Image:
    """A colour laid over the picture where the mask says, also over what is clear there."""
    mask = mask.point([_half_up(v * opacity) for v in range(256)])
    layer = Image.new("RGBA", mask.size, colour)
    layer.putalpha(mask)
    result = picture.convert("RGBA")
    result.alpha_composite(layer, at)
    return result if picture.mode == "RGBA" else result.convert("RGB")


def _outline(shape: str) -> Callable[[Image.Image, Params, str], Image.Image]:
    def draw(picture: Image.Image, p: Params, name: str) -> Image.Image:
        box = _pixels(p)
        _inside(picture, box, name)
        mask, at = _mask(box, picture, shape, 0 if p["filled"] else p["width"])
        return _painted(picture, mask, at, p["colour"], p["opacity"])

    return draw


def _stroke(picture: Image.Image, p: Params, name: str) -> Image.Image:
    return _line(picture, [(x, y) for x, y in p["points"]], p, name, head=False)


def _arrow(picture: Image.Image, p: Params, name: str) -> Image.Image:
    (x, y), (to_x, to_y) = p["points"][0], p["points"][-1]
    return _line(picture, [(x, y), (to_x, to_y)], p, name, head=True)


def arrow_head(x: float, y: float, to_x: float, to_y: float, width: float) -> list[tuple[float, float]]:
    """The triangle at the end of an arrow: 4 pen widths long (half the arrow at most), as wide as long."""
    long = math.hypot(to_x - x, to_y - y) or 1.0
    size = min(max(4 * width, 12.0), long / 2)
    ux, uy = (to_x - x) / long, (to_y - y) / long
    back_x, back_y = to_x - size * ux, to_y - size * uy
    return [
        (to_x, to_y),
        (back_x - size / 2 * uy, back_y + size / 2 * ux),
        (back_x + size / 2 * uy, back_y - size / 2 * ux),
    ]


def _line(picture: Image.Image, line: list[tuple[float, float]], p: Params, name: str, head: bool) -> Image.Image:
    tip = arrow_head(*line[0], *line[-1], p["width"]) if head else []
    if tip:  # the shaft ends in the head: it must not stand out beside the tip
        line = [line[0], ((tip[1][0] + tip[2][0]) / 2, (tip[1][1] + tip[2][1]) / 2)]
    reach = p["width"] / 2 + 1
    xs, ys = [x for x, _ in line + tip], [y for _, y in line + tip]
    left, top, right, bottom = _inside(picture, (math.floor(min(xs) - reach), math.floor(min(ys) - reach),
                                                 math.ceil(max(xs) + reach), math.ceil(max(ys) + reach)), name)  # fmt: skip
    much = _enlarged(right - left, bottom - top)
    mask = Image.new("L", ((right - left) * much, (bottom - top) * much))
    pen, width = ImageDraw.Draw(mask), max(1, round(p["width"] * much))
    # ImageDraw counts the middles of pixels, half a pixel from their edges
    scaled = [((x - left) * much - 0.5, (y - top) * much - 0.5) for x, y in line]
    pen.line(scaled, fill=255, width=width, joint="curve")
    for x, y in (scaled[0], scaled[-1]) if not tip else scaled[:1]:  # round ends
        pen.ellipse((x + 0.5 - width / 2, y + 0.5 - width / 2, x - 0.5 + width / 2, y - 0.5 + width / 2), fill=255)
    if tip:
        pen.polygon([((x - left) * much - 0.5, (y - top) * much - 0.5) for x, y in tip], fill=255)
    mask = mask if much == 1 else mask.resize((right - left, bottom - top), Image.Resampling.BOX)
    return _painted(picture, mask, (left, top), p["colour"], p["opacity"])


def _text(picture: Image.Image, p: Params, name: str) -> Image.Image:
    font, lacking = font_for(p["text"], p["size"])
    if lacking:
        raise BackendError(f"{name}: no font of this computer has “{lacking}”. Write the label without it.")
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    size = measure.multiline_textbbox((0, 0), p["text"], font=font)
    pad = _half_up(p["size"] / 4) if "background" in p else 0
    x, y = _half_up(p["x"]), _half_up(p["y"])
    box = (x, y, x + math.ceil(size[2]) + 2 * pad, y + math.ceil(size[3]) + 2 * pad)
    left, top, right, bottom = _inside(picture, box, name)
    if pad:
        picture = _painted(picture, Image.new("L", (right - left, bottom - top), 255), (left, top), p["background"])
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).multiline_text((x + pad - left, y + pad - top), p["text"], fill=255, font=font)
    return _painted(picture, mask, (left, top), p["colour"])


# ---- turning, sizing, light


def _rotate(picture: Image.Image, p: Params, name: str) -> Image.Image:
    """Clockwise. Quarter turns are exact; at other angles the corners become transparent."""
    degrees = p["degrees"] % 360
    if degrees == 0:
        return picture.copy()
    if degrees in TURNS:
        return picture.transpose(TURNS[degrees])
    turn = math.radians(degrees)
    wide, high = abs(math.cos(turn)), abs(math.sin(turn))
    fits(
        math.ceil(picture.width * wide + picture.height * high),
        math.ceil(picture.width * high + picture.height * wide),
        name,
    )
    return picture.convert("RGBA").rotate(-degrees, Image.Resampling.BICUBIC, expand=True)


def _flip(picture: Image.Image, p: Params, name: str) -> Image.Image:
    return picture.transpose(FLIPS[p["direction"]])


def _resize(picture: Image.Image, p: Params, name: str) -> Image.Image:
    """To a width and a height; one of them alone keeps the shape."""
    width = p.get("width") or max(1, _half_up(picture.width * p["height"] / picture.height))
    height = p.get("height") or max(1, _half_up(picture.height * p["width"] / picture.width))
    fits(width, height, name)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _enhanced(picture: Image.Image, tool: str, amount: float) -> Image.Image:
    opaque = picture if picture.mode == "RGB" else picture.convert("RGB")
    return _with_alpha(ENHANCERS[tool](opaque).enhance(amount), picture)


def _with_alpha(result: Image.Image, source: Image.Image) -> Image.Image:
    if source.mode == "RGBA":
        result.putalpha(source.getchannel("A"))
    return result


# ---- several pictures


def _grid(picture: Image.Image, p: Params, find: Find | None, name: str) -> Image.Image:
    """Pictures row by row, each in the middle of a cell; larger ones are shrunk into the size of the first, none enlarged."""
    if find is None:
        raise BackendError(f"{name}: the other pictures are not at hand here. Give a way to find them by hash.")
    tiles = [picture, *(plain(find(sha256)) for sha256 in p["others"])]
    columns, gap = min(p["columns"], len(tiles)), p["gap"]
    rows = math.ceil(len(tiles) / columns)
    width, height = picture.size
    whole = columns * width + (columns + 1) * gap, rows * height + (rows + 1) * gap
    fits(*whole, name)
    clear = any(t.mode == "RGBA" for t in tiles)
    sheet = Image.new("RGB", whole, p["background"]).convert("RGBA" if clear else "RGB")
    for i, tile in enumerate(tiles):
        if tile.width > width or tile.height > height:
            tile = tile.copy()
            tile.thumbnail((width, height), Image.Resampling.LANCZOS)
        at = (
            gap + i % columns * (width + gap) + (width - tile.width) // 2,
            gap + i // columns * (height + gap) + (height - tile.height) // 2,
        )
        if tile.mode == "RGBA":
            sheet.alpha_composite(tile, at)
        else:
            sheet.paste(tile, at)
    return sheet


DRAWERS: dict[str, Callable[[Image.Image, Params, str], Image.Image]] = {
    "crop": _crop, "blur": _blur, "pixelate": _pixelate, "spotlight": _spotlight, "box": _outline("rectangle"),
    "ellipse": _outline("ellipse"), "arrow": _arrow, "freehand": _stroke, "text": _text, "rotate": _rotate, "flip": _flip,
    "resize": _resize,
}  # fmt: skip
