"""The script for a CUDA device works in miniature on a processor, and says so where there is no such device."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.perf.gpu_judge", *arguments],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_without_a_device_it_says_so() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("No CUDA device is here, so nothing was measured.")


@pytest.mark.slow
def test_in_miniature_it_is_exact_and_reads_each_token_once() -> None:
    found = json.loads(run("--tiny").stdout)
    for replies, pairs in ((2, 5), (3, 15)):
        row = found[f"{replies} replies a turn"]
        assert row["relative_gap"] < 1e-5
        assert row["token_bound"] > 2 * pairs / (5 * replies + 5)  # each pair reads both paths anew
