"""A CLIP of two small ONNX files that knows three colours: the mean colour of a picture, and the words red, green and blue.

Real files through the real loader, with weights put in by hand, so that what must be found is known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIDE = 16
WORDS = ["<|startoftext|>", "<|endoftext|>", "[UNK]", "red", "green", "blue", "a", "picture", "of"]


def folder(root: Path, variant: str = "", length: int | str = "tokens") -> Path:
    """Write the model as Transformers.js lays it out; ``length`` fixes the number of tokens of the text encoder."""
    (root / "onnx").mkdir(parents=True, exist_ok=True)
    save(root / f"onnx/vision_model{variant}.onnx", *vision())
    save(root / f"onnx/text_model{variant}.onnx", *text(length))
    size = {"shortest_edge": SIDE}
    said = {"size": size, "crop_size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (root / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    tokenizer().save(str(root / "tokenizer.json"))
    return root


def tokenizer() -> Tokenizer:
    """Words in small letters between CLIP's two marks."""
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    start, end = WORDS[:2]
    made.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)])  # fmt: skip
    return made


def vision() -> tuple[list[Any], Any, Any, list[Any]]:
    """The mean of each channel."""
    pool = helper.make_node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0)
    takes = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    return [pool], [takes], helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 3]), []


def text(length: int | str) -> tuple[list[Any], Any, Any, list[Any]]:
    """The sum of what each word stands for: a colour, or a little grey."""
    table = np.full((len(WORDS), 3), 0.01, np.float32)
    table[3:6] = 2 * np.eye(3) - 1
    weights = [numpy_helper.from_array(table, "table")]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["each"]),
             helper.make_node("ReduceSum", ["each", "axes"], ["text_embeds"], keepdims=0)]  # fmt: skip
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    takes = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", length])
    return nodes, [takes], helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["batch", 3]), weights


def save(path: Path, nodes: list[Any], takes: list[Any], gives: Any, weights: list[Any]) -> None:
    """One graph as a file."""
    graph = helper.make_graph(nodes, "g", takes, [gives], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    path.write_bytes(made.SerializeToString())
