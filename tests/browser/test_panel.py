"""Judges side by side in a real browser: chosen by keyboard, columns, where they part, two versions, a merged export, blind, narrow."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from backends import ModelSpec  # noqa: E402
from studio.tree import Part  # noqa: E402
from tests import servers, teach  # noqa: E402
from tests.conftest import ECHO, Served, plant  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
PICTURES = os.environ.get("STUDIO_PICTURES")  # a folder: keep screenshots for somebody's own eyes
LEARNED = {"L4": 20, "overall": 60, "G1": 60}
ANSWER = '{"overall": 2, "L1": 3, "L2": 1, "L3": 2, "L4": 0, "G1": 3, "G5": -1}'


def judge(served: Served, base: Path, name: str, seed: int, train: list[str]) -> None:
    folder = teach.untrained(served.studio.store, name, str(base), LEARNED, seed=seed)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"split": {"train": train, "validation": [], "test": []}}))


def rated(served: Served, base: Path) -> str:
    """Twenty rated trees, two versions, and an open dialogue of three replies; returns the first of these."""
    trees = teach.rate(served.studio.store, 20)
    judge(served, base, "first", 0, trees[:4])
    judge(served, base, "second", 1, trees[2:5])
    asked, a = plant(served.studio, "Draw me an owl", "An owl is a bird of the night. <b>Here</b> it is.")
    tree = served.studio.store.node(asked).tree_id
    served.studio.store.add_node(tree, asked, "assistant", [Part("text", "No.")])
    again = served.studio.store.add_node(tree, a, "user", [Part("text", "And at night?")])
    served.studio.store.add_node(tree, again, "assistant", [Part("text", "Dark, with a moon above the barn " * 4)])
    return a


def show(page: Page, node: str) -> None:
    page.evaluate("id => studio.open({node: id})", node)
    page.get_by_role("tab", name="Judge", exact=True).click()
    expect(page.locator(".panel fieldset")).to_be_visible(timeout=180_000)


def shoot(page: Page, name: str, at: str) -> None:
    """Keep pictures of the page with a part of it at the top, light and dark, where somebody asked for it."""
    if not PICTURES:
        return
    for scheme in ("light", "dark"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        page.locator(at).first.evaluate("e => e.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(400)
        page.screenshot(path=Path(PICTURES) / f"{name}-{scheme}.png")
    page.evaluate("document.body.classList.remove('dark')")


def test_choose_score_and_see_where_they_part(page: Page, served: Served, base: Path) -> None:
    first = rated(served, base)
    answer = servers.events(servers.piece(ANSWER), servers.piece(finish="stop"))
    with servers.scripted(answer) as server:
        spec = ModelSpec("Clever", "openai", {"model": "m", "base_url": server.base_url})
        served.studio.config = replace(served.studio.config, models=(spec, ECHO))
        show(page, first)
        panel = page.locator(".panel")
        expect(panel).to_contain_text("Select judges.")
        for name in ("second", "first", "Clever (zero-shot)"):
            panel.get_by_label(name, exact=True).press("Space")
            expect(panel.get_by_label(name, exact=True)).to_be_checked()
            expect(panel.get_by_label(name, exact=True)).to_be_focused()
        expect(panel.get_by_label("Echo (no model) (zero-shot)")).to_be_disabled()  # three are enough
        expect(panel.locator("tbody tr").first).to_contain_text("An owl is a bird")
        expect(panel.locator("tr.on-path")).to_have_count(2)
        panel.get_by_role("button", name="Score this dialogue (9 to do)").press("Enter")
        expect(panel.get_by_role("button", name="Score this dialogue (0 to do)")).to_be_visible(timeout=180_000)
    expect(panel.locator(".panel-task")).to_have_count(0)  # what went well shows in the table
    row = panel.locator(f'tr[data-reply="{first}"]')
    expect(row.locator(".score")).to_have_count(3)
    asked = served.studio.store.node(first).parent_id
    tree = served.studio.store.tree(served.studio.store.node(first).tree_id)
    told = served.studio.store.judge_scores(tree.id, "second")
    (other,) = (n.id for n in tree.walk() if n.parent_id == asked and n.id != first)
    place = "1st" if told[first]["overall"].value > told[other]["overall"].value else "2nd"
    expect(row.locator(".score").nth(0)).to_contain_text(re.compile(rf"^{place} of 2 · \d+ %"))  # it never saw a score
    expect(row.locator(".score").nth(2)).to_contain_text("2 Overall: 2.00 of 0 to 3")
    panel.get_by_label("Dimension shown").select_option("L4")
    expect(row.locator(".score").nth(0)).to_have_text(
        re.compile(r"^\d\.\d\? L4 .+: \d\.\d\d ± .+; learned from 20 labels, too few to trust$")
    )
    panel.get_by_label("Dimension shown").select_option("all")
    expect(row).to_contain_text("L1 3")
    expect(row).not_to_contain_text("G1 3")  # it goes on: what they say of the dialogue is at its end
    shoot(page, "panel-columns", ".panel h2")

    parted = panel.locator(".panel-apart li")
    gaps = [float(re.search(r"\((\d+) % of the range apart", t).group(1)) for t in parted.all_inner_texts()]  # type: ignore[union-attr]
    assert len(gaps) == 3
    assert gaps == sorted(gaps, reverse=True)
    opens = parted.first.get_by_role("button")
    opens.press("Enter")
    expect(page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".card.focus")).to_be_visible()
    page.reload()  # nothing is lost: neither who was chosen nor what they said
    page.wait_for_function("() => window.studio && studio.map && studio.state.view", timeout=180_000)
    page.get_by_role("tab", name="Judge", exact=True).click()
    expect(page.locator(f'.panel tr[data-reply="{first}"]')).to_contain_text("L1 3", timeout=180_000)


def test_agreement_and_two_versions(page: Page, served: Served, base: Path) -> None:
    first = rated(served, base)
    show(page, first)
    panel = page.locator(".panel")
    for name in ("first", "second"):
        panel.get_by_label(name, exact=True).check()
    expect(panel.locator(".panel-agreement")).to_contain_text(
        "Training trees left out: 4. Not scored yet: 32 replies.", timeout=180_000
    )
    expect(panel.locator(".panel-duel")).to_contain_text("They have not scored these dialogues yet.")
    panel.get_by_role("button", name="Score what both need (60 to do)").click()
    duel = panel.locator("[data-versus=local-L4]")
    expect(duel).to_contain_text(re.compile(r"n 30, 15 dialogues"), timeout=180_000)
    expect(duel).to_contain_text(re.compile("is better|may be chance"))
    expect(panel.locator("[data-versus=local-overall]")).to_contain_text("n 15, 15 dialogues")
    expect(panel.locator(".panel-duel")).to_contain_text("neither learned from; training trees left out: 5")
    expect(panel.locator(".panel-agreement")).to_contain_text(re.compile(r"always 3: 50\.0 %"))
    expect(panel.locator(".panel-agreement")).to_contain_text("coin 50.0 %")
    shoot(page, "panel-agreement", ".panel-agreement")
    shoot(page, "panel-versions", ".panel-pairing")
    panel.get_by_label("First version").select_option("first")
    expect(panel.get_by_label("Second version")).to_have_value("second")
    expect(panel.locator(".panel-duel")).to_contain_text("first minus second")


def test_versions_without_a_common_unseen_dialogue_say_so(page: Page, served: Served, base: Path) -> None:
    trees = teach.rate(served.studio.store, 4)
    judge(served, base, "first", 0, trees[:2])
    judge(served, base, "second", 1, trees[2:])
    page.get_by_role("tab", name="Judge", exact=True).click()
    expect(page.locator(".panel-duel")).to_contain_text(
        "There is no dialogue that you rated and neither of them learned from", timeout=180_000
    )
    expect(page.locator(".panel-columns")).to_contain_text("Select judges.")


def test_a_merged_export_tells_its_folder(page: Page, served: Served, base: Path) -> None:
    judge(served, base, "first", 0, [])
    page.get_by_role("tab", name="Judge", exact=True).click()
    page.locator('[data-version="first"]').get_by_role("button", name="Export merged").click()
    folder = served.studio.store.home / "exports" / "first-merged"
    task = page.locator('[data-task="export first"]')
    expect(task).to_contain_text(f"It is in {folder}", timeout=180_000)
    expect(task).to_contain_text(re.compile(r"[\d.]+ MB"))
    task.get_by_role("button", name="Dismiss Merged export of first").click()
    expect(task).to_have_count(0)


def test_a_dead_server_is_told_and_nothing_is_lost(page: Page, served: Served, base: Path) -> None:
    first = rated(served, base)
    spec = ModelSpec("Gone", "openai", {"model": "m", "base_url": f"http://127.0.0.1:{servers.free_port()}/v1"})
    served.studio.config = replace(served.studio.config, models=(spec,))
    show(page, first)
    page.get_by_label("Gone (zero-shot)").check()
    page.get_by_role("button", name="Score this dialogue (3 to do)").click()
    expect(page.locator(".panel-task .problem")).to_contain_text("Cannot reach", timeout=180_000)
    expect(page.get_by_label("Gone (zero-shot)")).to_be_checked()
    expect(page.get_by_role("button", name="Score this dialogue (3 to do)")).to_be_enabled()


def test_blind_shows_no_score_before_the_vote(page: Page, served: Served, base: Path) -> None:
    first = rated(served, base)
    store = served.studio.store
    for name, value in (("first", 3.0), ("second", 0.5)):
        store.save_judge_scores(name, [(first, d, value, 0.1) for d in ("L4", "overall")])
    show(page, first)
    for name in ("first", "second"):
        page.get_by_label(name, exact=True).check()
    row = page.locator(f'.panel tr[data-reply="{first}"]')
    expect(row.locator(".score")).to_have_count(2)
    expect(page.locator(".panel-apart li")).to_have_count(1)
    page.get_by_label("Blind: hide the judge until I have rated").check()
    expect(row).to_contain_text("waits for your rating")
    expect(row.locator(".score")).to_have_count(0)
    expect(page.locator(".panel-apart li")).to_have_count(0)
    for dimension in ("L1", "L2", "L3", "L4"):
        store.rate(first, dimension, 2, "ann")
    expect(row.locator(".score")).to_have_count(2, timeout=180_000)
    expect(page.locator(".panel-apart li")).to_have_count(1)


def test_on_a_phone_only_tables_scroll(page: Page, served: Served, base: Path) -> None:
    first = rated(served, base)
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, first)
    for name in ("first", "second"):
        page.get_by_label(name, exact=True).check()
    page.get_by_role("button", name="Score this dialogue (6 to do)").click()
    expect(page.get_by_role("button", name="Score this dialogue (0 to do)")).to_be_visible(timeout=180_000)
    page.get_by_role("button", name=re.compile("Score what both need")).click()
    expect(page.locator("[data-versus=local-L4]")).to_be_visible(timeout=180_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "(() => { const j = document.querySelector('.judge'); return j.scrollWidth - j.clientWidth; })()"
    assert page.evaluate(wide) <= 0
    shoot(page, "panel-phone-columns", ".panel h2")
    shoot(page, "panel-phone-apart", ".panel-apart")
    shoot(page, "panel-phone-versions", ".panel-pairing")
