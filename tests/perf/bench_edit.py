"""A picture of 40 megapixels is edited while somebody clicks: how long a click then waits, against clicks when nothing is made."""

from __future__ import annotations

import base64
import io
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from PIL import Image

from studio import api, config, pictures
from studio.actions import Studio
from tests.conftest import plant
from tests.perf import Peak, Row, compare

SIZE = (8000, 5000)
EDITS = [{"tool": "blur", "params": {"x": 1000, "y": 1000, "w": 3000, "h": 2000}},
         {"tool": "contrast", "params": {"amount": 1.3}}, {"tool": "rotate", "params": {"degrees": 90}}]  # fmt: skip
CALM_S = 2.0
PAUSE_S = 0.02  # between two clicks of an impatient person
ROUNDS = 4


def measure() -> list[Row]:
    """One row: milliseconds from a click on a message to its view, while a picture is edited and while none is."""
    with tempfile.TemporaryDirectory() as folder, closing(Studio.open(config.load(Path(folder)))) as studio:
        node, sha256 = plant(studio, *(f"message {i}" for i in range(10)))[-1], _photo(studio)
        _clicks(studio, node, threading.Timer(0.5, int))  # warm
        busy: list[float] = []
        calm: list[float] = []
        edited_s = 0.0
        with Peak() as peak:
            for number in range(ROUNDS):
                calm += _clicks(studio, node, threading.Timer(CALM_S, int))
                edits = [*EDITS, {"tool": "brightness", "params": {"amount": 1 + number / 50}}]
                begin = time.perf_counter()
                busy += _clicks(studio, node, threading.Thread(target=pictures.apply_to, args=(studio, sha256, edits)))
                edited_s += (time.perf_counter() - begin) / ROUNDS
        n = min(len(busy), len(calm))
    note = f"the worst {max(busy):.0f} ms; each edited in {edited_s:.1f} s with {peak.mb:.0f} MB"
    name = "click while 40 megapixels are edited / when nothing is"
    return [compare(name, busy[:n], calm[:n], "<= 2", "{ours:.1f} ms / {peer:.1f} ms; " + note)]


def _clicks(studio: Studio, node: str, meanwhile: threading.Thread) -> list[float]:
    """Milliseconds of each click as long as a thread runs, which is started here."""
    waits = []
    meanwhile.start()
    while meanwhile.is_alive():
        start = time.perf_counter()
        answer = api.handle(studio, "open", {"node": node})
        waits.append(1000 * (time.perf_counter() - start))
        assert answer["focus"] == node
        time.sleep(PAUSE_S)
    return waits


def _photo(studio: Studio) -> str:
    """A JPEG of 40 megapixels in the store; returns its hash."""
    out = io.BytesIO()
    grain = Image.effect_noise((800, 500), 40).resize(SIZE, Image.Resampling.BICUBIC)
    grain.convert("RGB").save(out, "JPEG", quality=85)
    return str(pictures.add(studio, "photo.jpg", base64.b64encode(out.getvalue()).decode())["sha256"])
