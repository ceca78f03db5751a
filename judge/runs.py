"""Where an unfinished run lives and what a person asks of it from outside. Standard library only, so a screen may import it."""

from __future__ import annotations

from pathlib import Path

KEEP = "keep-best"


def folder(judges: Path, name: str) -> Path:
    """The folder of the run of a judge that is not done."""
    return judges / f".{name}.run"


def ask_to_keep(judges: Path, name: str) -> None:
    """Note that the run is to end with the best it has, now or when it is gone on with. Raises OSError: no such run, no room."""
    (folder(judges, name) / KEEP).touch()


def to_keep(run: Path) -> bool:
    """Whether that was asked of this run."""
    return (run / KEEP).exists()
