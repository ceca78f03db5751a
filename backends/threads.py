"""How many threads compute, and how they wait for each other. Never starts one."""

from __future__ import annotations

import os

# For OpenMP, which looks once, while it is loaded. GNU's counts how often a thread looks before it sleeps; others only
# know whether it does. See ``backends.llama.loading`` for what was measured.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def cores() -> int:
    """The cores of this machine: of two threads on one core, one waits where both only compute."""
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1
