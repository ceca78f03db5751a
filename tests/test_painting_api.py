"""Servers with the images interface: what they are asked, what is believed of their answers, and every way in which they fail."""

from __future__ import annotations

import base64
import io
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends import BackendError
from backends.painting import Step, Wish
from backends.painting.api import MAX_ANSWER, ImagesAPI, create
from tests.servers import Answer, Handler, Scripted, scripted, silence, status

MAKE, CHANGE = "/v1/images/generations", "/v1/images/edits"
KEY = "sk-canary-of-pictures"


def png(colour: Any = "red", size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def sent(data: bytes, **more: Any) -> Answer:
    return status(200, {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode(), **more}]})


def drawer(server: Scripted, **settings: Any) -> ImagesAPI:
    return create(
        "Server", **{"model": "pictures-1", "base_url": server.base_url, "retries": 0, "timeout_s": 20, **settings}
    )


def paint(
    painter: ImagesAPI, task: Any = "generate", prompt: str = "a cat", stop: threading.Event | None = None, **wish: Any
) -> list[Step]:
    return list(painter.paint(Wish(task, prompt, **wish), stop or threading.Event()))


def opened(step: Step) -> Image.Image:
    return Image.open(io.BytesIO(step.image))


def test_each_variant_is_a_request_and_arrives_as_a_png() -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 6), "blue").save(jpeg, "JPEG")
    with scripted(paths={MAKE: [sent(png(), revised_prompt="a red cat"), sent(jpeg.getvalue())]}) as server:
        painter = drawer(server, takes=["seed", "steps", "guidance", "negative"])
        steps = paint(painter, width=1024, height=768, seed=5, variants=2, steps=9, guidance=2.5, negative="dogs")
        bodies = [r.body for r in server.requests]
    known = {"model": "pictures-1", "prompt": "a cat", "n": 1, "size": "1024x768", "response_format": "b64_json",
             "num_inference_steps": 9, "guidance_scale": 2.5, "negative_prompt": "dogs"}  # fmt: skip
    assert bodies == [known | {"seed": 5}, known | {"seed": 6}]
    assert [(s.variant, s.seed, bool(s.image)) for s in steps] == [
        (0, 5, False),
        (0, 5, True),
        (1, 6, False),
        (1, 6, True),
    ]
    assert [opened(s).format for s in steps if s.image] == ["PNG", "PNG"]
    assert steps[1].facts["revised_prompt"] == "a red cat"
    assert steps[1].facts["server"] == server.base_url.removesuffix("/v1")


def test_it_says_what_the_server_does_not_take() -> None:
    with scripted(paths={MAKE: [sent(png())]}) as server:
        painter = drawer(server)
        steps = paint(painter, seed=3)
        assert "seed" not in server.requests[0].body
        assert "takes no seed" in steps[-1].facts["notes"][0]
        assert steps[-1].seed is None
        for wish, said in (({"steps": 3}, "takes no steps"), ({"guidance": 2.0}, "takes no guidance"), ({"negative": "x"}, "no negative prompt"),
                           ({"prompt": " "}, "prompt is empty"), ({"width": 30_001, "height": 8}, "30001 pixels"), ({"variants": 0}, "variants = 0"),
                           ({"task": "instruct", "source": png()}, "no 'instruct'"), ({"task": "edit"}, "no picture to change")):  # fmt: skip
            with pytest.raises(BackendError, match=said):
                paint(painter, **wish)
        assert len(server.requests) == 1


def test_an_edit_sends_the_picture_and_a_mask_that_is_clear_where_it_may_change() -> None:
    mask = Image.new("L", (8, 6), 0)
    mask.paste(255, (0, 0, 3, 6))
    out = io.BytesIO()
    mask.save(out, "PNG")
    with scripted(paths={CHANGE: [sent(png("green"))]}) as server:
        (_, step) = paint(drawer(server), "inpaint", source=png("blue"), mask=out.getvalue())
        form = server.requests[0].body
    files = [b"\x89PNG" + part.rpartition(b"\r\n--")[0] for part in form.split(b"\x89PNG")[1:]]
    shown, clear = (Image.open(io.BytesIO(f)) for f in files)
    assert shown.convert("RGB").getpixel((7, 5)) == (0, 0, 255)
    assert [clear.getpixel((x, 2))[3] for x in (0, 2, 3, 7)] == [0, 0, 255, 255]
    assert b'name="prompt"\r\n\r\na cat\r\n' in form
    assert opened(step).getpixel((0, 0)) == (0, 128, 0)


def test_a_word_that_the_server_does_not_know_is_left_out_from_then_on() -> None:
    refusal = status(400, {"error": {"message": "Unknown parameter: 'response_format'.", "code": "unknown_parameter"}})
    with scripted(paths={MAKE: [refusal, sent(png())]}) as server:
        painter = drawer(server)
        assert opened(paint(painter)[-1]).size == (8, 6)
        assert opened(paint(painter)[-1]).size == (8, 6)
        assert ["response_format" in r.body for r in server.requests] == [True, False, False]


def test_an_address_is_fetched_from_the_same_origin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURE_KEY", KEY)
    with scripted(paths={"/v1/x.png": [status(200)]}) as elsewhere:

        def answer(handler: Handler) -> None:
            where = f"http://127.0.0.1:{handler.server.server_address[1]}"  # type: ignore[attr-defined, unused-ignore]
            status(200, {"data": [{"url": f"{where}/files/x.png"}]})(handler)

        def picture(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(png("red"))

        moved = status(302, location=f"{elsewhere.base_url}/x.png")
        away = status(200, {"data": [{"url": f"{elsewhere.base_url}/x.png"}]})
        odd = status(200, {"data": [{"url": "file:///etc/passwd"}]})
        data = status(200, {"data": [{"url": "data:image/png;base64," + base64.b64encode(png("red")).decode()}]})
        with scripted(paths={MAKE: [answer, data, away, odd, answer], "/files/x.png": [picture, moved]}) as server:
            painter = drawer(server, key_env="PICTURE_KEY")
            assert opened(paint(painter)[-1]).getpixel((0, 0)) == (255, 0, 0)
            assert opened(paint(painter)[-1]).getpixel((0, 0)) == (255, 0, 0)
            for _ in range(2):
                with pytest.raises(BackendError, match="another server: nothing is fetched"):
                    paint(painter)
            with pytest.raises(BackendError, match="points elsewhere") as caught:
                paint(painter)
        assert not elsewhere.requests
        assert KEY not in str(caught.value)
        assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}


def bomb() -> bytes:
    """A PNG of a few kB that says it is 30,000 x 30,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def endless(code: int) -> Answer:
    """An answer of 10 GB, as far as somebody reads it."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(10 * 2**30))
        handler.end_headers()
        for _ in range(10 * 2**10):
            handler.wfile.write(b" " * 2**20)

    return answer


FAULTS: dict[str, tuple[Answer, str]] = {
    "no key": (status(401, {"error": {"message": f"bad key {KEY}"}}), "wants a key"),
    "no such place": (status(404, {"error": {"message": "no"}}), "makes no pictures, or has no model 'pictures-1'"),
    "against its rules": (status(400, {"error": {"message": "content policy", "code": "content_policy_violation"}}), "refused to draw this \\(content policy"),
    "too many": (status(429, {"error": {"message": "slow down"}}, **{"retry-after": "7"}), "too many requests.*Retry in 7 s"),
    "broken": (status(500, "<html><title>Oops</title>", "text/html"), "failed with status 500 \\(a web page: Oops"),
    "moved": (status(307, location="http://127.0.0.1:9/v1"), "points elsewhere"),
    "a web page": (status(200, "<html>", "text/html"), "does not answer like an OpenAI server"),
    "a list": (status(200, [1]), "does not answer like an OpenAI server"),
    "no pictures": (status(200, {"data": []}), "does not answer like an OpenAI server"),
    "no base64": (status(200, {"data": [{"b64_json": "%%%"}]}), "no base64"),
    "no picture": (sent(b"%PDF-1.4"), "no picture that can be used"),
    "cut": (sent(png(size=(400, 300))[:120]), "no picture that can be used"),
    "a bomb": (sent(bomb()), "far too large once unpacked"),
    "no end": (endless(200), f"over {MAX_ANSWER // 2**20} MB"),
    "a refusal without end": (endless(500), "failed with status 500"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURE_KEY", KEY)
    answer, said = FAULTS[fault]
    with scripted(paths={MAKE: [answer]}) as server, pytest.raises(BackendError, match=said) as caught:
        paint(drawer(server, key_env="PICTURE_KEY"))
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_busy_server_is_asked_again_and_what_was_finished_is_kept() -> None:
    busy = status(503, {"error": {"message": "loading"}}, **{"retry-after": "0"})
    gone = status(500, {"error": {"message": "out of memory"}})
    arrived: list[Step] = []
    with (
        scripted(paths={MAKE: [busy, sent(png()), gone]}) as server,
        pytest.raises(BackendError, match="out of memory"),
    ):
        for step in drawer(server, retries=1).paint(Wish("generate", "x", variants=3), threading.Event()):
            arrived.append(step)  # what came before the error counts
    assert [s.variant for s in arrived if s.image] == [0]


def test_cancelling_closes_the_connection() -> None:
    stop = threading.Event()
    with scripted(paths={MAKE: [silence]}) as server:
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        assert not any(s.image for s in paint(drawer(server), stop=stop))
        assert time.monotonic() - began < 10
        assert server.hung_up.wait(30)


def test_nobody_listens() -> None:
    with pytest.raises(BackendError, match=r"Cannot reach http://127\.0\.0\.1:9"):
        paint(create("Nobody", model="m", base_url="http://127.0.0.1:9/v1"))


@pytest.mark.parametrize(
    ("given", "said"),
    [({"model": ""}, "name of the model"), ({"base_url": "http://169.254.169.254/v1"}, "where no server is"), ({"tasks": ["draw"]}, "tasks"),
     ({"takes": ["size"]}, "takes"), ({"colour": 1}, "no setting colour"), ({"width": 0}, "width = 0"), ({"extra": {"prompt": "x"}}, "without prompt"),
     ({"extra": {"api_key": "x"}}, "may hold no key"), ({"n": True}, "no setting n")],
)  # fmt: skip
def test_impossible_settings(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        create("Server", **{"model": "m", "base_url": "http://127.0.0.1:9/v1", **given})


def test_the_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURE_KEY", KEY)
    with scripted(paths={MAKE: [sent(png())]}) as server:
        step = paint(drawer(server, key_env="PICTURE_KEY"))[-1]
    assert KEY not in repr(step.facts)
    assert KEY.encode() not in step.image
