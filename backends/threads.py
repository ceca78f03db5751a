"""How threads that compute wait for each other. Never starts one."""

from __future__ import annotations

import os

# For OpenMP, which looks once, while it is loaded. GNU's counts how often a thread looks before it sleeps; others only
# know whether it does. See ``backends.llama.loading`` for what was measured.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def waiting() -> dict[str, str]:
    """What to add to the environment: ``WAITING``, or nothing where the person has decided."""
    return {} if os.environ.keys() & WAITING.keys() else WAITING
