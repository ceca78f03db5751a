"""Which judge is live: a name in ``HOME/judges/.live``, and what that judge learned from. Loads no judge."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judge.examples import NAME
from studio import StudioError, teaching
from studio.store import Store


@dataclass
class LiveChoice:
    """The judge that somebody has chosen in a home, or none."""

    store: Store
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the choice is kept."""
        return teaching.judges_folder(self.store.home) / ".live"  # no judge can have this name

    @property
    def name(self) -> str | None:
        """The live judge's name; None without one."""
        try:
            name = self.file.read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return name if NAME.fullmatch(name) else None  # a name is a folder: nobody else's judge is live

    @property
    def facts(self) -> dict[str, Any]:
        """``trained``, ``derived_labels``, ``scored`` and ``ties`` of the live judge, by row; {} for what is not known."""
        name = self.name
        if name is None:
            return {key: {} for key in teaching.FACTS}
        if name not in self._facts:
            row = next((j for j in self.store.judges() if j["name"] == name), None)
            self._facts[name] = teaching.facts(self.store.home, name, (row or {}).get("metrics", {}))
        return self._facts[name]

    def choose(self, name: str | None) -> None:
        """Write down the live judge, or none. Raises StudioError: no such judge, another person's, or no room to note it."""
        folder = self.file.parent
        if name is not None and not NAME.fullmatch(name):
            raise StudioError(
                f"{name!r:.60} is another person's judge: its scores are here, its weights are not. "
                "Ask for its folder, or train one of your own."
            )
        if name is not None and (name not in {j["name"] for j in self.store.judges()} or not (folder / name).is_dir()):
            raise StudioError(f"There is no judge {name!r:.60}. Train one first.")
        temp = self.file.with_name(f".live.{os.getpid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temp.write_text(name or "", encoding="utf-8")
            os.replace(temp, self.file)
        except OSError as error:
            raise StudioError(
                f"Cannot write to {folder}: {error.strerror}. Free some space, then try again."
            ) from error
        self._facts.clear()
