"""Who may import what: arrows go down, and heavy or outer libraries stay in their corner."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for folder in ("studio", "components", "backends", "judge") for p in (ROOT / folder).rglob("*.py"))
LEVELS = {  # a module imports only from lower levels, or from its own package
    "studio.cli": 10, "studio.cli_judge": 9, "studio.server": 9, "studio.demo": 9, "studio.app": 8, "components": 7, "studio.api": 7, "studio.annotating": 6, "studio.uncertainty": 2.2, "studio.ordering": 3, "studio.claims": 5, "studio.estimates": 5.5, "studio.steering": 5, "studio.steering_run": 4.5, "studio.steering_view": 6, "studio.verification": 5.5, "studio.guard": 1,
    "studio.teaching": 2.5, "studio.livejudge": 3.5, "studio.livereader": 3.2, "studio.livechoice": 3.1, "studio.jobs": 2.5, "studio.judgescreen": 6, "studio.learning": 5, "studio.panel": 6, "studio.panelwork": 5, "studio.pictures": 5, "studio.retrieving": 5, "studio.seeing": 4.5, "studio.finding": 5.5, "studio.measuring": 5.6, "studio.clipmodel": 5.6, "studio.checking": 5.7, "studio.generating_run": 5, "studio.generating": 5.8, "studio.indexing": 3, "studio.history": 3, "studio.background": 2, "studio.views": 5, "studio.readings": 2, "studio.paneldialogue": 5.5, "studio.judgeviews": 4.5, "studio.labelcheck": 5, "studio.trainingform": 3, "studio.trainingjobs": 5.3, "studio.versions": 4.7,
    "studio.statistics": 5, "studio.statistics_section": 6, "studio.plots": 1, "studio.exchange": 5, "studio.actions": 4, "studio.doctor": 5, "studio.live": 3, "studio.config": 2,
    "studio.store": 2, "studio.media": 2, "studio.migrations": 1, "studio.markdown": 1, "judge": 1, "backends": 1, "studio.tree": 0, "studio.tokens": 0.5, "studio.wanted": 1, "studio.routing": 3, "studio.imagetools": 6.2, "studio.proposals": 6.5, "studio.proposals_view": 6.7, "studio": 0,
    "studio.bar": 1, "studio.catalogue": 2, "studio.downloads": 2.5, "studio.models": 6, "studio.modellist": 5, "studio.sampling": 5, "studio.waiting": 5.5,
}  # fmt: skip
HEAVY = {"torch", "transformers", "diffusers", "llama_cpp", "onnxruntime", "openai", "peft", "safetensors"}
LIGHT = (
    "judge",
    "judge.rubric",
    "judge.examples",
    "judge.standing",
    "judge.groups",
    "judge.labels",
    "judge.datacard",
    "judge.runs",
    "judge.evaluation",
    "judge.results",
    "judge.readings",
    "judge.scoring_client",
    "judge.resampling",
    "judge.baselines",
    "judge.calibration",
    "judge.page",
    "judge.report_trust",
    "judge.report",
    "judge.agreement",
    "judge.learning",
    "judge.sidebyside",
    "judge.zeroshot",
)  # of the judge


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(name: str) -> tuple[str, int]:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (key := ".".join(parts[:end])) in LEVELS:
            return key, LEVELS[key]
    raise AssertionError(f"{name} has no layer: give it one")


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, at top level) for every import in a file; `from studio import actions` counts as studio.actions."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) in top) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            deeper = [f"{node.module}.{a.name}" for a in node.names]
            found += [(d if d in LEVELS else node.module, id(node) in top) for d in deeper]
    return found


@pytest.mark.parametrize("path", FILES, ids=module)
def test_arrows_go_down(path: Path) -> None:
    mine, level = layer(module(path))
    for name, _ in imports(path):
        if name.split(".")[0] in ("studio", "components", "backends", "judge", "assets", "tests"):
            theirs, below = layer(name)
            assert theirs == mine or below < level, f"{module(path)} (level {level}) imports {name} (level {below})"


def heavy(name: str) -> bool:
    """Whether a module is one of the judge's that need torch: nobody else imports those before they are used."""
    return name.startswith("judge.") and name not in LIGHT and not name.startswith(tuple(f"{m}." for m in LIGHT[1:]))


@pytest.mark.parametrize("path", FILES, ids=module)
def test_libraries_stay_in_their_corner(path: Path) -> None:
    name = module(path)
    for imported, top in imports(path):
        package = imported.split(".")[0]
        if package == "gradio":
            assert name.startswith("components") or name == "studio.app", f"{name} imports gradio"
        if package in ("sqlite3", "pysqlite3"):
            assert name == "studio.doctor", f"{name} imports {package}"
        if package in HEAVY:
            assert not top or heavy(name), f"{name} imports {package} before it is needed"
        assert not (heavy(imported) and top and not heavy(name)), f"{name} imports {imported} before it is needed"
        if name.startswith("judge") and imported.split(".")[:2] != ["studio", "tree"]:
            assert package not in ("gradio", "studio", "components"), f"{name} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_sql_stays_in_the_store(path: Path) -> None:
    name = module(path)
    if name.startswith(("studio.store", "studio.migrations")):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.lstrip().startswith(("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "PRAGMA ")), (
                f"{name}: {node.value[:60]}"
            )


@pytest.mark.parametrize("path", FILES, ids=module)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300, f"{module(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{module(path)}.{node.name} has {length} lines"
