"""The memory that a training step is said to take, against what was measured; and memory given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from judge.memory import Facts, available_mb, peak_mb

SMOLLM2 = Facts(layers=30, hidden=576, intermediate=1536, heads=9, key_heads=3, head_dim=64, weights_mb=513.0)
# tokens, checkpointing, freed memory given back, MB: peak resident memory of two and of three steps over a tree of five
# turns, less 380 MB of libraries; glibc 2.36
MEASURED = [
    (512, False, True, 1412), (1024, False, True, 2153), (2048, False, True, 3725), (512, True, True, 775),
    (2048, True, True, 955), (1024, False, False, 3941), (2048, False, False, 6654), (1024, True, False, 1733),
    (2048, True, False, 2923),
]  # fmt: skip


@pytest.mark.parametrize(("tokens", "checkpointing", "lean", "measured"), MEASURED)
def test_peak_is_within_a_quarter_of_what_was_measured(
    tokens: int, checkpointing: bool, lean: bool, measured: int
) -> None:
    assert peak_mb(SMOLLM2, tokens, checkpointing, 16, lean) == pytest.approx(measured, rel=0.25)


# the same of a head alone: tokens, MB
HEAD_ALONE = [(498, 537), (1880, 646)]


def test_available_memory_is_some_of_the_machines() -> None:
    import psutil

    assert 0 < available_mb() <= psutil.virtual_memory().total / 2**20


SCATTER = """
import resource, sys, torch
from judge.memory import give_back_freed
if sys.argv[1] == "back" and not give_back_freed():
    print("skip"); raise SystemExit
def layer(x):
    return torch.tanh(x * 1.5 + torch.sin(x) * 0.5)  # one kept, some freed between
x, kept = torch.randn(2**19), []
for _ in range(100):
    x = layer(x); kept.append(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_freed_tensors_leave_no_holes() -> None:
    scattered, back = (subprocess.run([sys.executable, "-c", SCATTER, how], capture_output=True, text=True, check=True).stdout.strip()
                       for how in ("as it is", "back"))  # fmt: skip
    if back == "skip":
        pytest.skip("this C library has no mallopt: freed memory is its own affair")
    assert int(back) < int(scattered) + 20  # never more; with glibc before 2.38 much less


@pytest.mark.parametrize(("tokens", "measured"), HEAD_ALONE)
def test_a_head_alone_keeps_nothing_of_any_layer(tokens: int, measured: int) -> None:
    ways = {
        peak_mb(SMOLLM2, tokens, checkpointing, 0, lean) for checkpointing in (True, False) for lean in (True, False)
    }
    assert len(ways) == 1  # there is nothing to compute twice, and nothing that leaves holes
    assert ways.pop() == pytest.approx(measured, rel=0.25)
