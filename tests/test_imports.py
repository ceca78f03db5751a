"""What may be loaded when: the page without any model library, ``--help`` without Gradio, a backend without its engine."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import backends

HEAVY = {"torch", "transformers", "llama_cpp", "diffusers", "onnxruntime", "openai"}
BACKENDS = sorted(m.name for m in pkgutil.iter_modules(backends.__path__))
BUILD = """
import sys
from pathlib import Path
import studio.cli, studio.app
from studio.actions import Studio
from studio.config import load
opened = Studio.open(load(Path(sys.argv[1])))
studio.app.build(opened)
opened.close()
"""
HELP = """
import studio.cli
try:
    studio.cli.main(["--help"])
except SystemExit as ended:
    assert ended.code == 0
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """The top-level packages that are loaded after ``code`` ran in a new interpreter."""
    tell = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", code + tell, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_page_loads_no_model_library(tmp_path: Path) -> None:
    found = loaded(BUILD, str(tmp_path / "home"))
    assert "gradio" in found
    assert not found & HEAVY


def test_help_loads_no_gradio() -> None:
    found = loaded(HELP)
    assert "studio" in found
    assert not found & (HEAVY | {"gradio", "fastapi", "numpy", "pandas"})


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_loads_no_engine(name: str) -> None:
    found = loaded(f"import backends.{name}")
    assert "backends" in found
    assert not found & (HEAVY | {"gradio", "numpy", "pandas"})
