"""A font for a label: Pillow's own where it has every character, else the first known one of this computer that does."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Pillow looks for these names where the system keeps its fonts
NAMES = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "msgothic.ttc",
         "malgun.ttf", "PingFang.ttc", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
         "NotoSansHebrew-Regular.ttf", "seguiemj.ttf")  # fmt: skip


def font_for(text: str, size: float) -> tuple[Font, str]:
    """A font of ``size`` pixels, and the first character that it lacks: '' when it has all of them."""
    own = ImageFont.load_default(size)
    if not (lacks := missing(own, text)):
        return own, ""
    return next(((font, "") for font in _others(size) if not missing(font, text)), (own, lacks))


def missing(font: Font, text: str) -> str:
    """The first character of a text that the font draws as it draws what it does not know."""
    unknown = bytes(font.getmask("\uffff"))
    return next((c for c in text if not c.isspace() and bytes(font.getmask(c)) == unknown), "")


def _others(size: float) -> Iterator[Font]:
    charts = importlib.util.find_spec("matplotlib")  # carries DejaVu Sans; it is not imported for that
    places = [
        str(Path(p) / "mpl-data/fonts/ttf/DejaVuSans.ttf") for p in (charts and charts.submodule_search_locations) or ()
    ]
    for name in (*places, *NAMES):
        try:
            yield ImageFont.truetype(name, size)
        except OSError:  # not on this computer
            continue
