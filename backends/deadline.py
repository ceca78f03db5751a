"""A limit of time for Python code that somebody else wrote, such as a chat template. Owns nothing else."""

from __future__ import annotations

import sys
import time
from typing import Any


class Deadline:
    """Ends Python code of this thread with TimeoutError once it took too long; looks at every line it runs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.end, self.before = time.monotonic() + self.seconds, sys.gettrace()
        sys.settrace(self._look)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def _look(self, *_: object) -> Any:
        if time.monotonic() > self.end:
            raise TimeoutError(f"it ran longer than {self.seconds:g} s")
        return self._look
