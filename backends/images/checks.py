"""What an edit may say: the tools with their parameters, and one clear line for whatever does not fit.

Owns names, ranges and defaults; touches no picture. The lists that come in may be anybody's: nothing in them is trusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backends import BackendError

Edit = dict[str, Any]  # {"tool": str, "params": dict}, checked
Check = Callable[[Any], Any]  # gives the value back in its final form, or raises ValueError with what it must be

MAX_EDITS = 100
MAX_POINTS = 5_000
MAX_LABEL = 500  # characters
MAX_TILES = 16
FAR = 100_000  # pixels: further out than any picture reaches
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
HASH = re.compile(r"[0-9a-f]{64}")


def number(low: float, high: float) -> Check:
    """A finite number from ``low`` to ``high``."""

    def check(value: Any) -> float:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return check


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""
    inside = number(low, high)

    def check(value: Any) -> int:
        if inside(value) != int(value):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return check


def choice(*names: str) -> Check:
    """One of these words."""

    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(value)

    return check


def colour(value: Any) -> str:
    """A colour as #rrggbb."""
    if not isinstance(value, str) or not COLOUR.fullmatch(value):
        raise ValueError("a colour such as #d97706")
    return value.lower()


def yes_or_no(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def label(value: Any) -> str:
    """Words to write on a picture."""
    text = value.replace("\x00", "").strip() if isinstance(value, str) else ""
    if not text or len(text) > MAX_LABEL:
        raise ValueError(f"1 to {MAX_LABEL} characters")
    return text


def points(value: Any) -> list[list[float]]:
    """A line through two points or more, each [x, y]."""
    at = number(-FAR, FAR)
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_POINTS or any(len(p) != 2 for p in value):
        raise ValueError(f"2 to {MAX_POINTS} points [x, y]")
    return [[at(x), at(y)] for x, y in value]


def hashes(value: Any) -> list[str]:
    """Hashes of stored pictures."""
    if (
        not isinstance(value, list)
        or not 1 <= len(value) < MAX_TILES
        or not all(isinstance(v, str) and HASH.fullmatch(v) for v in value)
    ):
        raise ValueError(f"1 to {MAX_TILES - 1} other pictures, each by its hash")
    return value


POSITION, LENGTH = number(-FAR, FAR), number(0, FAR)
BOX: dict[str, Check] = {"x": POSITION, "y": POSITION, "w": LENGTH, "h": LENGTH}
PEN: dict[str, Check] = {"colour": colour, "width": number(1, 500), "opacity": number(0.05, 1)}
PEN_AS_A_RULE = {"colour": "#dc2626", "width": 6, "opacity": 1}
FACTOR = {"amount": number(0, 4)}
TOOLS: dict[str, dict[str, Check]] = {
    "crop": BOX,
    "box": {**BOX, **PEN, "filled": yes_or_no},
    "ellipse": {**BOX, **PEN, "filled": yes_or_no},
    "arrow": {"points": points, **PEN},
    "freehand": {"points": points, **PEN},
    "spotlight": {**BOX, "shape": choice("ellipse", "box"), "darkness": number(0.05, 1)},
    "blur": {**BOX, "radius": number(1, 200)},
    "pixelate": {**BOX, "size": whole(2, 1000)},
    "text": {
        "x": POSITION,
        "y": POSITION,
        "text": label,
        "size": number(4, 1000),
        "colour": colour,
        "background": colour,
    },
    "rotate": {"degrees": number(-360, 360)},
    "flip": {"direction": choice("horizontal", "vertical")},
    "resize": {"width": whole(1, FAR), "height": whole(1, FAR)},
    "brightness": FACTOR,
    "contrast": FACTOR,
    "colour": FACTOR,
    "sharpen": FACTOR,
    "grid": {"others": hashes, "columns": whole(1, MAX_TILES), "gap": whole(0, 500), "background": colour},
}
DEFAULTS: dict[str, dict[str, Any]] = {  # what is left out; a parameter in neither place must be given
    "box": {**PEN_AS_A_RULE, "filled": False},
    "ellipse": {**PEN_AS_A_RULE, "filled": False},
    "arrow": PEN_AS_A_RULE,
    "freehand": PEN_AS_A_RULE,
    "spotlight": {"shape": "ellipse", "darkness": 0.6},
    "blur": {"radius": 12},
    "pixelate": {"size": 16},
    "text": {"size": 32, "colour": "#dc2626", "background": None},
    "resize": {"width": None, "height": None},
    "grid": {"columns": MAX_TILES, "gap": 8, "background": "#ffffff"},
}


def checked(edit: Mapping[str, Any]) -> Edit:
    """An edit with every parameter in its range, and what was left out filled in.

    Raises:
        BackendError: no such tool, an unknown or missing parameter, or a value outside its range.
    """
    tool = edit.get("tool") if isinstance(edit, Mapping) else None
    if not isinstance(tool, str) or tool not in TOOLS:
        raise BackendError(f"No edit is called {tool!r:.40}. Known: {', '.join(TOOLS)}.")
    given, known = edit.get("params") or {}, TOOLS[tool]
    if not isinstance(given, Mapping) or (strange := set(given) - set(known)):
        said = (
            f"has no parameter {sorted(map(str, strange))[0]!r:.40}"
            if isinstance(given, Mapping)
            else "needs named parameters"
        )
        raise BackendError(f"{tool} {said}. It takes: {', '.join(known)}.")
    params = {name: DEFAULTS.get(tool, {}).get(name) for name in known}
    for name, check in known.items():
        if name in given and (given[name] is not None or name not in DEFAULTS.get(tool, {})):
            try:
                params[name] = check(given[name])
            except (ValueError, TypeError, OverflowError) as error:
                raise BackendError(f"{tool}: {name} is {given[name]!r:.60}, and must be {error}.") from error
        elif name not in DEFAULTS.get(tool, {}):
            raise BackendError(f"{tool} needs {name}. It takes: {', '.join(known)}.")
    if tool == "resize" and params["width"] is None and params["height"] is None:
        raise BackendError("resize needs a width, a height, or both, in pixels.")
    return {"tool": tool, "params": {k: v for k, v in params.items() if v is not None}}


def checked_all(edits: Sequence[Mapping[str, Any]]) -> list[Edit]:
    """A list of edits, each checked.

    Raises:
        BackendError: none, over ``MAX_EDITS``, no list, or what ``checked`` raises.
    """
    if not isinstance(edits, list | tuple) or not 1 <= len(edits) <= MAX_EDITS:
        count = len(edits) if isinstance(edits, list | tuple) else "something else"
        raise BackendError(f"A list of 1 to {MAX_EDITS} edits is needed, not {count}. Choose a tool first.")
    return [checked(edit) for edit in edits]


def words(edit: Mapping[str, Any]) -> str:
    """An edit in one short line for a person, such as ``crop to 40 x 30 at 10, 5``."""
    tool, p = edit["tool"], edit["params"]
    if tool == "text":
        return f"label “{' '.join(p['text'].split())[:60]}” at {p['x']:g}, {p['y']:g}"
    if "w" in p:
        more = {"blur": "radius", "pixelate": "size", "spotlight": "darkness"}.get(tool)
        return f"{tool}{' to' if tool == 'crop' else ''} {p['w']:g} x {p['h']:g} at {p['x']:g}, {p['y']:g}" + (
            f", {more} {p[more]:g}" if more else ""
        )
    if tool in ("arrow", "freehand"):
        (x, y), (to_x, to_y) = p["points"][0], p["points"][-1]
        return f"{tool} from {x:g}, {y:g} to {to_x:g}, {to_y:g}"
    if tool == "rotate":
        return f"rotate by {p['degrees']:g}°"
    if tool == "flip":
        return f"flip {p['direction']}"
    if tool == "resize":
        return f"resize to {p.get('width', 'any')} x {p.get('height', 'any')}"
    return f"grid with {len(p['others'])} more" if tool == "grid" else f"{tool} × {p['amount']:g}"
