"""Progress bars of the command line. Never knows what the work is about."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """Progress bars with an estimate on standard error, one for each kind of work; few lines where that is no terminal."""

    bars: dict[str, Any]

    def __call__(self, done: int, total: int | None, what: str) -> None:
        from tqdm import tqdm

        if what not in self.bars:
            pace = 0.2 if sys.stderr.isatty() else 5
            self.bars[what] = tqdm(total=total, unit=f" {what}", file=sys.stderr, mininterval=pace, leave=False)
        bar = self.bars[what]
        bar.update(done - bar.n)
        if total and done >= total:
            self.bars.pop(what).close()

    def close(self) -> None:
        """Take away what is left of the bars."""
        for bar in self.bars.values():
            bar.close()
