"""The web provider against a recorded server on loopback: what it finds, what is kept of it, and every way it can answer badly."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from backends import BackendError
from backends.retrieve import web
from studio import StudioError, api, config, retrieving
from studio.actions import Studio
from tests.servers import Answer, Handler, status

# One row as Openverse answers it, cut to what is read; {base} is the server's own address.
RECORDED = {
    "id": "36537842-b067-4ca0-ad67-e00ff2e06b2d", "title": "Hedgehog in the grass", "creator": "Jane Doe", "license": "by-sa", "license_version": "2.0",
    "license_url": "https://creativecommons.org/licenses/by-sa/2.0/", "foreign_landing_url": "https://www.flickr.com/photos/1/2",
    "url": "{base}/full.jpg", "thumbnail": "{base}/thumb.jpg", "width": 800, "height": 600, "mature": False, "tags": [{"name": "x"}],
}  # fmt: skip


class Server:
    """A running provider; ``answers`` by path may be changed while it runs, ``asked`` are the addresses that were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.sent = 0
        server = self

        class Handles(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                answer: Callable[[Any], None] = server.answers.get(urlsplit(self.path).path, status(404, "no"))
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handles)
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def found(self, *changes: dict[str, Any]) -> Answer:
        """The recorded list, a row for each set of changes."""
        rows = [RECORDED | change for change in changes or ({},)]
        return status(
            200,
            {
                "results": [
                    {k: v.format(base=self.base) if isinstance(v, str) else v for k, v in r.items()} for r in rows
                ]
            },
        )


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.answers = {
        "/v1/images/": running.found(),
        "/full.jpg": picture((800, 600)),
        "/thumb.jpg": picture((400, 300)),
    }
    yield running
    running.http.shutdown()
    running.http.server_close()


def picture(size: tuple[int, int]) -> Answer:
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, "JPEG")

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(out.tell()))
        handler.end_headers()
        handler.wfile.write(out.getvalue())

    return answer


@pytest.fixture
def own(studio: Studio, server: Server) -> retrieving.Retriever:
    """Finding pictures with the web switched on, at the recorded server."""
    studio.config = replace(studio.config, retrieve={"web": "openverse", "web_url": f"{server.base}/v1"})
    return retrieving.of(studio)


def test_the_web_is_off_until_studio_toml_switches_it_on(studio: Studio) -> None:
    assert 'web = "openverse"' in api.handle(studio, "retrieve_search", {"words": "x", "folder": "web"})["error"]
    state = api.handle(studio, "retrieve", {})
    assert state["web"] is None
    assert state["web_off"]
    home = studio.config.home
    (home / "studio.toml").write_text('[retrieve]\nweb = "openverse"\n', encoding="utf-8")
    on = web.provider(config.load(home).retrieve)
    assert on is not None
    assert on.base_url == web.OPENVERSE
    with pytest.raises(BackendError, match="names the web provider 'flickr'"):
        web.provider({"web": "flickr"})


def test_a_picture_is_found_shown_small_and_taken_with_licence_and_author(
    studio: Studio, own: retrieving.Retriever, server: Server
) -> None:
    answer = api.handle(studio, "retrieve_search", {"words": "hedgehog & grass", "folder": "web"})
    (hit,) = answer["hits"]
    assert (hit["licence"], hit["author"], hit["caption"]) == ("CC BY-SA 2.0", "Jane Doe", "Hedgehog in the grass")
    assert parse_qs(urlsplit(server.asked[0]).query)["q"] == ["hedgehog & grass"]
    assert hit["thumb"].startswith("/found/web-")  # from here, never from there
    small = Image.open(io.BytesIO(own.thumb(hit["thumb"].removeprefix("/found/"))))
    assert (small.format, max(small.size)) == ("WEBP", 256)
    own.thumb(hit["thumb"].removeprefix("/found/"))
    assert server.asked.count("/thumb.jpg") == 1  # kept
    taken = api.handle(studio, "retrieve_take", {"id": hit["id"], "words": "hedgehog", "way": "web"})
    row = studio.store.images([taken["sha256"]])[taken["sha256"]]
    assert (row["origin"], row["tool"], row["prompt"], row["width"]) == ("retrieve", "Openverse", "hedgehog", 800)
    assert (row["licence"], row["source_url"]) == ("CC BY-SA 2.0, by Jane Doe", "https://www.flickr.com/photos/1/2")
    assert row["params"]["author"] == "Jane Doe"


def endless(handler: Handler) -> None:
    """A body that never ends and does not say how long it is."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(2**20))


def promised(handler: Handler) -> None:
    """Ten gigabytes are promised."""
    handler.send_response(200)
    handler.send_header("content-length", str(10 * 2**30))
    handler.end_headers()
    handler.wfile.write(bytes(2**16))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (status(200, "<html>", "text/html"), "something that is no list of pictures"),
        (status(200, "[" * 200_000), "something that is no list of pictures"),
        (status(200, {"results": 7}), "something that is no list of pictures"),
        (status(200, {"results": [{"id": "1"}, 5, None]}), "without licence or address"),
        (status(200, "\x00\xff"), "something that is no list of pictures"),
        (status(429, ""), "too many searches"),
        (status(500, "x" * 10_000), "status 500"),
        (endless, "over 2 MB, which is cut off"),
        (promised, "over 2 MB, which is cut off"),
        (status(302, "", location="/v1/images/"), "from one address to the next over 3 times"),
        (status(302, ""), "status 302"),
        (status(302, "", location="http://169.254.169.254/latest"), "is not asked"),
        (status(302, "", location="file:///etc/passwd"), "is not asked"),
        (status(302, "", location="https://127.0.0.1:1/x"), "is not asked"),
        (status(302, "", location="https://[::1]/x"), "is not asked"),
        (lambda handler: handler.wfile.write(b"rubbish\r\n\r\n"), "cannot be reached"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_one_clear_line(
    studio: Studio, own: retrieving.Retriever, server: Server, answer: Answer, line: str
) -> None:
    server.answers["/v1/images/"] = answer
    said = api.handle(studio, "retrieve_search", {"words": "hedgehog", "folder": "web"})["error"]
    assert line in said
    assert "\n" not in said
    assert len(said) < 300


def test_a_picture_of_ten_gigabytes_or_of_none_is_refused(
    studio: Studio, own: retrieving.Retriever, server: Server
) -> None:
    (hit,) = own.search_web("hedgehog").hits
    for answer in (endless, promised, status(200, "no picture"), status(404, "")):
        server.answers["/full.jpg"] = server.answers["/thumb.jpg"] = answer
        assert "error" in api.handle(studio, "retrieve_take", {"id": hit["id"], "words": "", "way": "web"})
        with pytest.raises((StudioError, BackendError)):
            own.thumb(f"web-{hit['id']}")
    assert studio.store.images() == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x.jpg",
        "file:///etc/passwd",
        "https://10.0.0.1/x.jpg",
        "https://localhost/x",
        "gopher://x",
        "//x",
    ],
)
def test_addresses_inside_are_not_asked_for_a_provider(own: retrieving.Retriever, server: Server, url: str) -> None:
    server.answers["/v1/images/"] = server.found({"thumbnail": url, "url": url})
    (hit,) = own.search_web("hedgehog").hits
    with pytest.raises(BackendError, match="is not asked"):
        own.take(hit["id"], "hedgehog", "web")


def test_a_dead_server_is_one_clear_line(own: retrieving.Retriever, server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(BackendError, match="Openverse cannot be reached"):
        own.search_web("hedgehog")
