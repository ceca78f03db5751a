"""The report's page: it shows the numbers, says what is missing, and still draws what the last version wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judge.evaluation import evaluate
from judge.report import write
from judge.rubric import JudgeError
from tests.scored import full_report, pair

OLD = Path(__file__).with_name("report_v1.json")  # written by the version before


def drawn(report: object, folder: Path, title: str = "Judge") -> str:
    write(json.loads(json.dumps(report)), folder / "page.html", title)
    return (folder / "page.html").read_text(encoding="utf-8")


def test_page_shows_the_numbers_and_calls_nobody(tmp_path: Path) -> None:
    found = full_report()
    page = drawn(found, tmp_path, "Judge <one>")
    other = found["pairs"]["others"]["zero-shot"]
    [ordinal, *_] = found["ordinal_calibration"]
    for value in (found["pairs"]["accuracy"], found["derived"]["accuracy"], found["calibration"]["ece"], found["scores"]["mae"]["value"],
                  found["pairs"]["ceiling"]["value"], other["value"], ordinal["rps"]["value"], ordinal["ece"],
                  *found["pairs"]["interval"], *(r["accuracy"] for r in found["pairs_by"] if r["by"] in ("dimension", "turn", "cut")),
                  *(r["ece"] for r in found["calibration_by"]), *(r["error"]["value"] for r in found["sure"]["rows"])):  # fmt: skip
        assert f"{value:.3f}" in page
    assert "<h1>Judge &lt;one&gt;</h1>" in page
    assert "untrained &amp; raw" in page
    assert "<L0>" not in page
    assert page.count('role="img" aria-label="') == page.count("<svg") > 4
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "#0100" not in page  # every stand-in colour became one of the page's


def test_sections_are_ordered_by_what_matters(tmp_path: Path) -> None:
    page = drawn(full_report(), tmp_path)
    headings = ("Comparisons by people", "Overall (dialogue)", "Pairs that follow from scores", "Reliability", "Where it is sure",
                "Scores", "Do the scores", "Human and judge", "Dialogues that were cut", "Accuracy by turn")  # fmt: skip
    places = [page.index(f">{heading}") for heading in headings]
    assert places == sorted(places)


def test_labels_that_were_cut_or_left_out_are_listed(tmp_path: Path) -> None:
    reasons = [{"reason": "reply of 2,328 tokens", "n": 1, "labels": [{"tree": "T<1>", "node": "n", "other": None}]}]
    labels = {"sentence": "412 labels; 1 left out: reply of 2,328 tokens.", "reasons": reasons}
    page = drawn({**full_report(), "data": {"labels": labels}}, tmp_path)
    assert "412 labels; 1 left out: reply of 2,328 tokens." in page
    assert "T&lt;1&gt;" in page
    assert page.index("412 labels") < page.index("Comparisons by people")
    assert "All usable." in drawn(
        {**full_report(), "data": {"labels": {"sentence": "All usable.", "reasons": []}}}, tmp_path
    )


def test_each_scale_is_drawn_on_its_own(tmp_path: Path) -> None:
    page = drawn(full_report(), tmp_path)
    assert page.count("Human and judge: ") == 2  # -1..3 and 0..3


def test_a_report_of_the_version_before_is_still_drawn(tmp_path: Path) -> None:
    old = json.loads(OLD.read_text(encoding="utf-8"))
    page = drawn(old, tmp_path)
    others = old["others"]["untrained backbone"]
    for value in (
        old["pairs"]["accuracy"],
        others["accuracy"],
        old["scores"]["mae"]["value"],
        old["calibration"]["ece"],
    ):
        assert f"{value:.3f}" in page
    assert "always 3" in page
    assert "not kept apart" in page  # what people compared and what follows from scores


def test_page_of_nothing_says_so(tmp_path: Path) -> None:
    page = drawn(evaluate([], []), tmp_path)
    assert page.count("Nothing to show") == 4
    assert "<svg" not in page
    with pytest.raises(JudgeError, match="Cannot write the report"):
        write(evaluate([], []), tmp_path / "missing" / "page.html", "Nowhere")


def test_page_of_certainty_is_doubted(tmp_path: Path) -> None:
    page = drawn(evaluate([pair("left", 1, 0, f"{i}") for i in range(12)], [], n_boot=50), tmp_path)
    assert "1.000 [1.000, 1.000] (no width: all trees alike)" in page


@pytest.mark.browser
def test_page_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    drawn(full_report(), tmp_path)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    try:
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # tables scroll within their own boxes
    finally:
        page.close()
