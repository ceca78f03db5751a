"""The tree map in a real browser: layout, clicks, keys, folds, themes, and how long a click takes to paint."""

import random
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

HARNESS = Path(__file__).with_name("treemap_harness.html").as_uri()
pytestmark = pytest.mark.browser
Nodes = list[dict[str, Any]]


def node(id: str, parent: str | None, role: str, **fields: Any) -> dict[str, Any]:
    plain = {"coverage": 0.0 if role == "assistant" else None, "score": None, "starred": False, "pruned": False}
    rest = {"status": "done", "thumb": None, "model": "echo" if role == "assistant" else None}
    return {"id": id, "parent": parent, "role": role, "label": f"message {id}"} | plain | rest | fields


def small() -> Nodes:
    """q0 -> (r0 -> q1 -> (r2, r3), r1): a question, two replies, and a second turn with two more."""
    return [
        node("q0", None, "user"),
        node("r0", "q0", "assistant", coverage=0.75), node("r1", "q0", "assistant"),
        node("q1", "r0", "user"),
        node("r2", "q1", "assistant"), node("r3", "q1", "assistant"),
    ]  # fmt: skip


def grown(count: int, seed: int, wide: int = 3) -> Nodes:
    """A random tree of ``count`` nodes, at most ``wide`` children each, parents before children."""
    rng = random.Random(seed)
    nodes = [node("n0", None, "user")]
    room = {0: wide}
    while len(nodes) < count:
        # often the newest message, so that there are long dialogues as well as wide turns
        i = max(room) if rng.random() < 0.6 else rng.choice(list(room))
        room[i] -= 1
        if not room[i]:
            del room[i]
        role = "user" if nodes[i]["role"] == "assistant" else "assistant"
        room[len(nodes)] = wide
        nodes.append(node(f"n{len(nodes)}", f"n{i}", role, score=rng.random() * 3 if role == "assistant" else None))
    return nodes


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The map alone in a panel of 320 x 420 pixels, as `map`; any uncaught error of the page fails the test."""
    page = browser.new_page(viewport={"width": 390, "height": 500}, has_touch=True)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(HARNESS)
    yield page
    page.close()
    assert errors == []


def show(page: Page, nodes: Nodes, focus: str, *lanes: str, tree: str = "t") -> None:
    page.evaluate("given => show(...given)", [tree, nodes, focus, list(lanes)])


def place(page: Page, id: str) -> tuple[float, float]:
    """Where a node is, in pixels of the page."""
    at = page.evaluate("id => map.positionOf(id)", id)
    return at["x"], at["y"]


def drawn(page: Page, ids: list[str]) -> list[str]:
    """Those of the ids that no fold hides."""
    return page.evaluate("ids => ids.filter(id => map.positionOf(id))", ids)


def colour(page: Page, x: float, y: float) -> list[int]:
    """Red, green, blue of the canvas at a point of the page."""
    return page.evaluate(
        "async ([x, y]) => { await frame(); const c = document.querySelector('canvas'), d = devicePixelRatio;"
        " return [...c.getContext('2d').getImageData(x * d, y * d, 1, 1).data].slice(0, 3); }",
        [x, y],
    )


def sides(top: str, children: dict[str, list[str]], at: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    """The least and the greatest x of a branch, row by row."""
    left, right, row = [], [], [top]
    while row:
        xs = [at[id][0] for id in row]
        left.append(min(xs))
        right.append(max(xs))
        row = [child for id in row for child in children.get(id, [])]
    return left, right


@pytest.mark.parametrize(("count", "wide", "seed"), [(1, 3, 0), (30, 2, 1), (300, 3, 2), (2000, 8, 3), (2000, 60, 4)])
def test_layout_is_tidy(page: Page, count: int, wide: int, seed: int) -> None:
    nodes = grown(count, seed, wide)
    laid = page.evaluate(
        "nodes => { const p = studioTreeLayout.layout(nodes, new Set());"
        " return {width: p.width, rows: p.rows.map(r => r.map(v => v.id)),"
        " at: Object.fromEntries([...p.at.values()].map(v => [v.id, [v.x, v.y]]))}; }",
        nodes,
    )
    at, rows = laid["at"], laid["rows"]
    assert sum(map(len, rows)) == count
    for row in rows:
        xs = [at[id][0] for id in row]
        assert all(b - a >= 36 - 1e-6 for a, b in pairwise(xs)), "neighbours overlap"
        order = {n["id"]: i for i, n in enumerate(nodes)}
        for parent in {n["parent"] for n in nodes if n["id"] in row}:
            siblings = [id for id in row if nodes[order[id]]["parent"] == parent]
            assert siblings == sorted(siblings, key=order.__getitem__), "siblings out of order"
    children: dict[str, list[str]] = {}
    for n in nodes[1:]:
        children.setdefault(n["parent"], []).append(n["id"])
    for parent, below in children.items():
        assert at[parent][0] == pytest.approx((at[below[0]][0] + at[below[-1]][0]) / 2), "parent not centred"
        assert all(at[child][1] > at[parent][1] for child in below), "child not under its parent"
    for pair in (below for below in children.values() if len(below) == 2):
        (_, right), (left, _) = (sides(child, children, at) for child in pair)
        assert min(b - a for a, b in zip(right, left, strict=False)) == pytest.approx(36), (
            "branches further than need be"
        )
    assert min(x for x, _ in at.values()) == pytest.approx(0)
    assert max(x for x, _ in at.values()) == pytest.approx(laid["width"])


def test_layout_brings_branches_close(page: Page) -> None:
    """A dialogue with three replies a turn, one continued, needs three columns: leaves may stand under other leaves."""
    nodes, parent = [node("q0", None, "user")], "q0"
    for turn in range(20):
        nodes += [node(f"r{turn}.{i}", parent, "assistant") for i in range(3)]
        parent = f"q{turn + 1}"
        nodes.append(node(parent, f"r{turn}.1", "user"))
    assert page.evaluate("nodes => studioTreeLayout.layout(nodes, new Set()).width", nodes) == 72


def test_a_dialogue_of_ten_thousand_messages_is_laid_out_without_recursion(page: Page) -> None:
    nodes = [node(f"n{i}", f"n{i - 1}" if i else None, "assistant" if i % 2 else "user") for i in range(10_000)]
    show(page, nodes, "n9999", "n9999")
    assert page.evaluate("map.stats().drawn_nodes") < 30
    assert place(page, "n9999")[1] < 420


def test_click_selects_and_a_drag_does_not(page: Page) -> None:
    show(page, small(), "q0", "r3")
    page.mouse.click(*place(page, "r2"))
    assert page.evaluate("heard.selected") == ["r2"]
    x, y = place(page, "r1")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y + 20, steps=3)
    page.mouse.up()
    assert page.evaluate("heard.selected") == ["r2"]
    assert place(page, "r1") == pytest.approx((x - 30, y + 20))
    assert page.evaluate("([x, y]) => map.nodeAt(x, y)", [x - 30, y + 20]) == "r1"
    assert page.evaluate("map.nodeAt(2, 418)") is None


def test_double_click_folds_and_the_badge_unfolds(page: Page) -> None:
    show(page, small(), "q0", "r3")
    x, y = place(page, "r0")
    page.mouse.dblclick(x, y)
    assert drawn(page, ["q0", "r0", "r1", "q1", "r2", "r3"]) == ["q0", "r0", "r1"]
    assert page.evaluate("map.folded()") == ["r0"]
    assert place(page, "r0") == pytest.approx((x, y)), "the folded node stays where it was"
    scale = page.evaluate("map.plan.camera.k")
    page.mouse.click(x, y + 19 * min(1.4, scale))
    assert drawn(page, ["q1", "r2", "r3"]) == ["q1", "r2", "r3"]


def test_folds_zoom_and_place_survive_a_change_of_the_tree(page: Page) -> None:
    show(page, small(), "r1", "r1")
    page.evaluate("map.foldToggle('r0'); map.zoom(1.5)")
    before = place(page, "r1")
    show(page, [*small(), node("q2", "r1", "user"), node("r4", "q2", "assistant", status="streaming")], "r1", "r4")
    assert drawn(page, ["q1", "r2", "q2", "r4"]) == ["q2", "r4"]
    assert place(page, "r1") == pytest.approx(before)
    show(page, small(), "r1", "r1", tree="another")
    assert drawn(page, ["q1"]) == ["q1"]


def test_going_to_a_folded_message_unfolds_what_hides_it(page: Page) -> None:
    show(page, small(), "r1", "r1")
    page.evaluate("map.foldToggle('r0'); map.setView({focus: 'r3', lanes: ['r3']})")
    assert drawn(page, ["q1", "r3"]) == ["q1", "r3"]


def test_fold_others_keeps_the_current_path(page: Page) -> None:
    nodes = [*small(), node("q2", "r1", "user"), node("r4", "q2", "assistant")]
    show(page, nodes, "r3", "r3")
    button = page.get_by_role("button", name="Fold the branches off the current path")
    button.click()
    assert drawn(page, [n["id"] for n in nodes]) == ["q0", "r0", "r1", "q1", "r2", "r3"]
    button.click()
    assert drawn(page, ["q2", "r4"]) == ["q2", "r4"]


def test_keys_move_select_zoom_and_fold(page: Page) -> None:
    show(page, small(), "r0", "r2")
    page.focus("canvas")
    for key in ("ArrowUp", "ArrowDown", "ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("heard.selected") == ["q0", "q1", "r1", "r0"], "there is no sibling to the left of r0"
    page.evaluate("map.setView({focus: 'q1', lanes: ['r2']}); map.move('down')")
    page.evaluate("map.setView({focus: 'q1', lanes: ['r1']}); map.move('down')")
    assert page.evaluate("heard.selected.slice(4)") == ["r2", "r3"], "down the current path, else the newest branch"
    scale = page.evaluate("map.plan.camera.k")
    page.keyboard.press("-")
    assert page.evaluate("map.plan.camera.k") < scale
    page.keyboard.press("0")
    assert page.evaluate("map.plan.camera.k") == pytest.approx(scale)
    page.keyboard.press("f")
    assert drawn(page, ["q1", "r2"]) == ["q1"]


def test_the_focus_is_said_in_words(page: Page) -> None:
    show(page, small(), "r0", "r3")
    page.focus("canvas")
    assert (
        page.get_attribute("canvas", "aria-label") == "Tree map. Reply 1 of 2, turn 1, rated 3 of 4. Arrow keys move."
    )
    page.evaluate("map.setView({focus: 'q1', lanes: ['r3']})")
    assert page.inner_text("[aria-live]") == "Question 1 of 1, turn 2"


def test_tooltip_shows_labels_as_text(page: Page) -> None:
    nodes = small()
    nodes[1] |= {"label": "<img src=x onerror=alert(1)>", "model": "<b>m</b>", "starred": True}
    show(page, nodes, "q0", "r3")
    page.mouse.move(*place(page, "r0"))
    assert page.inner_text(".map-tip").split("\n") == [
        "<b>m</b> · Reply 1 of 2 · turn 1 · rated 3 of 4 · starred", "<img src=x onerror=alert(1)>",
    ]  # fmt: skip
    assert page.locator(".map-tip b, .map-tip img").count() == 0
    page.mouse.move(380, 490)
    assert page.is_hidden(".map-tip")
    assert page.evaluate("heard.hovered") == ["r0", None]


def test_wheel_zooms_at_the_pointer(page: Page) -> None:
    show(page, small(), "q0", "r3")
    spot = place(page, "r1")
    page.mouse.move(*spot)
    page.mouse.wheel(0, -200)
    page.evaluate("frame()")
    assert place(page, "r1") == pytest.approx(spot, abs=0.5), "a wheel event's place is in whole pixels"
    assert page.evaluate("map.plan.camera.k") > 1.2


def test_a_finger_taps_and_two_fingers_zoom(page: Page) -> None:
    show(page, small(), "q0", "r3")
    page.touchscreen.tap(*place(page, "r1"))
    assert page.evaluate("heard.selected") == ["r1"]
    scale, touch = page.evaluate("map.plan.camera.k"), page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 30), ("touchMove", 36), ("touchMove", 45)):
        fingers = [{"x": 160 - apart, "y": 200, "id": 1}, {"x": 160 + apart, "y": 200, "id": 2}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("map.plan.camera.k") == pytest.approx(scale * 1.5, rel=0.02)
    assert page.evaluate("heard.selected") == ["r1"]


def test_the_theme_is_read_again_when_it_changes(page: Page) -> None:
    show(page, small(), "q0", "r3")
    x, y = place(page, "r1")
    assert colour(page, x, y) == [255, 255, 255]
    page.evaluate("document.body.classList.add('dark')")
    page.evaluate("frame()")
    assert colour(page, x, y) == [0x0F, 0x17, 0x2A]


def test_the_judge_colours_replies_and_brings_the_ramp(page: Page) -> None:
    nodes = small()
    show(page, nodes, "q0", "r3")
    assert page.is_hidden(".map-ramp")
    nodes[1]["score"], nodes[2]["score"] = 0.0, 3.0
    show(page, nodes, "q0", "r3")
    assert page.is_visible(".map-ramp")
    low, high = colour(page, *place(page, "r0")), colour(page, *place(page, "r1"))
    assert sum(high) > sum(low) + 200, "brighter is better"


def test_it_moves_only_while_a_reply_streams_and_motion_is_welcome(page: Page) -> None:
    def draws(nodes: Nodes) -> int:
        show(page, nodes, "q0", "r3")
        before = page.evaluate("map.stats().draws")
        page.wait_for_timeout(500)
        return page.evaluate("map.stats().draws") - before

    growing = [*small()[:-1], small()[-1] | {"status": "streaming"}]
    assert draws(growing) >= 2
    assert draws(small()) == 0
    page.emulate_media(reduced_motion="reduce")
    assert draws(growing) == 0


def test_an_empty_map_says_so_and_a_destroyed_one_is_gone(page: Page) -> None:
    assert page.inner_text(".map-none") == "The tree appears here as you chat."
    assert page.locator(".map-tools button:visible").count() == 0
    show(page, small(), "q0", "r3")
    assert page.is_hidden(".map-none")
    page.evaluate("map.destroy()")
    assert page.inner_html("#panel") == ""


def test_a_panel_that_opens_later_frames_the_path(page: Page) -> None:
    page.evaluate("document.getElementById('panel').style.display = 'none'")
    show(page, grown(800, 7), "n700", "n700")
    page.evaluate("document.getElementById('panel').style.display = ''")
    page.evaluate("frame()")
    x, y = place(page, "n700")
    assert 0 < x < 320
    assert 0 < y < 420


def test_fit_shows_all_of_five_thousand_nodes(page: Page) -> None:
    nodes = grown(5000, 5)
    show(page, nodes, "n4000", "n4000")
    page.get_by_role("button", name="Show the whole tree").click()
    page.evaluate("frame()")
    spots = page.evaluate("ids => ids.map(id => map.positionOf(id))", [n["id"] for n in nodes])
    assert all(0 <= s["x"] <= 320 and 0 <= s["y"] <= 420 for s in spots)
    stats = page.evaluate("map.stats()")
    print(f"\nfit, 5,000 nodes: {stats['drawn_nodes']} drawn in {stats['last_draw_ms']:.1f} ms")
    assert page.evaluate("map.nodeAt(map.positionOf('n4000').x, map.positionOf('n4000').y)") is not None


def test_a_click_lays_nothing_out_and_draws_only_what_is_in_view(page: Page) -> None:
    nodes = grown(5000, 6)
    show(page, nodes, "n100", "n100")
    before = page.evaluate("map.stats()")
    page.evaluate("async nodes => { for (const i of [200, 4000, 2500]) await click(`n${i}`, nodes); }", nodes)
    after = page.evaluate("map.stats()")
    assert after["layouts"] == before["layouts"]
    assert after["draws"] > before["draws"]
    assert after["drawn_nodes"] < 300


def test_a_click_paints_as_soon_in_a_large_tree_as_in_a_small_one(page: Page) -> None:
    """Prints the table; the ratio is a goal of the benchmarks, not of this test, since machines are shared."""
    rng, table = random.Random(8), {}
    for count in (50, 5000):
        nodes = grown(count, count)
        show(page, nodes, "n1", "n1", tree=str(count))
        ids = [f"n{rng.randrange(count)}" for _ in range(30)]
        rows = page.evaluate(
            "async ([ids, nodes]) => { const r = []; for (const id of ids) r.push(await click(id, nodes)); return r; }",
            [ids, nodes],
        )
        table[count] = {k: statistics.median(r[k] for r in rows) for k in ("painted_ms", "draw_ms")}
        assert page.evaluate("map.stats().drawn_nodes") > 0
    print("\nnodes  setView to painted, ms  of it drawing, ms   (median of 30)")
    for count, row in table.items():
        print(f"{count:5}  {row['painted_ms']:22.2f}  {row['draw_ms']:17.2f}")
    print(f"ratio  {table[5000]['painted_ms'] / table[50]['painted_ms']:22.2f}")
