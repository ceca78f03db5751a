"""Opening a model file with ONNX Runtime: on one core, without a word on the terminal, every way it can fail as one line."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends import BackendError


def session(path: Path, advice: str) -> Any:
    """An ``InferenceSession`` of a file; ``advice`` says what to do when it cannot be had.

    Raises:
        BackendError: no such file, no permission, cut off, or nothing that ONNX Runtime understands.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the page and a model want the other cores
    options.log_severity_level = 4
    try:
        with path.open("rb"):  # a folder, or one without permission, in the words of the system
            pass
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _faults() as error:
        raise BackendError(f"{path.name} cannot be loaded from {path.parent}: {_why(error)}. {advice}") from error


def run(opened: Any, given: Mapping[str, Any], output: str, advice: str) -> Any:
    """One output of a session for some inputs. Raises BackendError where the model cannot compute it."""
    try:
        return opened.run([output], dict(given))[0]
    except _faults() as error:
        raise BackendError(f"The model does not take its input: {_why(error)}. {advice}") from error


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return " ".join(str(error).rpartition("] : ")[2].split())[:160].rstrip(".")


@functools.cache
def _faults() -> tuple[type[Exception], ...]:
    """What ONNX Runtime and the system raise; the classes of the former have nothing in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [c for c in vars(state).values() if isinstance(c, type) and issubclass(c, Exception)]
    return (*found, OSError, RuntimeError, ValueError)
