"""How much is read at once, and when activations are computed twice, from the memory that is free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from judge import backbones, sizes
from judge.settings import Settings, step_tokens
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> backbones.Backbone:
    return backbones.load(backbones.BUILTIN, tmp_path_factory.mktemp("backbones"))


# free MB, what is set -> tokens of a tree, tokens of several trees, tokens over which activations are computed twice,
# whether a sequence of 2,048 tokens needs freed memory back at once
POLICY = [
    (64_000, Settings(), 2048, 1024, 4736, False),
    (22_000, Settings(), 2048, 1024, 1472, False),
    (6_000, Settings(), 2048, 1024, 256, False),
    (3_000, Settings(), 2048, 1024, 64, True),
    (22_000, Settings(checkpointing=True), 2048, 1024, 0, False),
    (64_000, Settings(checkpointing=False), 2048, 1024, None, False),
    (6_000, Settings(checkpointing=False), 1728, 1024, None, True),
    (22_000, Settings(max_tokens=1536), 1536, 1536, 1472, False),
]


@pytest.mark.parametrize(("free", "given", "tokens", "together", "over", "short"), POLICY)
def test_sizes_follow_the_memory(
    builtin: backbones.Backbone, free: float, given: Settings, tokens: int, together: int, over: int | None, short: bool
) -> None:
    s = sizes.resolve(given, builtin, [], lambda line: None, free)
    assert (s.max_tokens, s.pack_tokens, s.checkpoint_over) == (tokens, together, over)
    assert sizes.is_short(builtin, s, tokens, free) == short
    told = sizes.peak(builtin, s, tokens, free)
    assert told["lean"] == short
    assert told["fits"] == (told["mb"] <= free)
    assert told["fits"]


def test_a_step_of_little_data_is_a_sixteenth_of_it_and_packs_no_more() -> None:
    assert step_tokens(Settings(max_tokens=2048, pack_tokens=1024), 8_000) == (500, 500)
    assert step_tokens(Settings(max_tokens=2048, pack_tokens=1024), 10**6) == (4096, 1024)
    assert step_tokens(Settings(max_tokens=2048), 10**6) == (4096, 2048)  # a run begun before there was such a limit


def test_the_most_counts_the_longest_sequence_whose_activations_are_all_kept(builtin: backbones.Backbone) -> None:
    s = Settings(max_tokens=2048, checkpoint_over=1408)
    kept = sizes.peak(builtin, s, 1408, 22_000)
    twice = sizes.peak(builtin, s, 2048, 22_000)
    assert twice["checkpointing"]
    assert not kept["checkpointing"]
    assert twice["mb"] == kept["mb"]  # a sequence of 1,408 tokens may stand beside it and take more


# context, what is set, what training chose, whether a label was cut -> tokens that the judge reads
READS = [
    (8192, None, 512, False, 4096),  # short labels make no short-sighted judge
    (2048, None, 512, False, 2048),
    (8192, None, 6016, False, 6016),
    (8192, None, 1024, True, 1024),  # as it learned
    (8192, 512, 512, False, 512),
]


@pytest.mark.parametrize(("context", "asked", "chosen", "is_cut", "reads"), READS)
def test_a_judge_of_short_labels_reads_long_replies(
    context: int, asked: int | None, chosen: int, is_cut: bool, reads: int
) -> None:
    assert sizes.read_path(Settings(max_path=asked), Settings(max_path=chosen), context, is_cut) == reads


LONG = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
# how a configuration writes its scheme -> tokens that can be read exactly
SCHEMES: list[tuple[dict[str, Any], int]] = [
    ({"rope_scaling": LONG, "original_max_position_embeddings": 640}, 640),  # as it was published
    ({"rope_parameters": {**LONG, "rope_type": "longrope", "rope_theta": 1e4}, "original_max_position_embeddings": 640}, 640),
    ({"model_type": "llama", "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                                                 "original_max_position_embeddings": 640}}, 2560),
    ({}, 2560),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "most"), SCHEMES, ids=["longrope, published", "longrope", "yarn", "plain"])
def test_longrope_stays_within_its_original_length(tmp_path: Path, scheme: dict[str, Any], most: int) -> None:
    import transformers

    size = len(tiny.tokenizer(tmp_path, [], ""))
    shape = {"model_type": "phi3", "vocab_size": size, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1,
             "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 2560, "pad_token_id": 0,
             "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape | scheme))
    transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(shape | scheme))
    backbone = backbones.load(str(tmp_path), tmp_path)
    assert backbone.max_positions == most
    for asked in (None, 2000):
        assert sizes.resolve(Settings(max_path=asked), backbone, [], lambda line: None, 64_000).max_path == min(
            asked or 512, most
        )
    assert sizes.read_path(Settings(), Settings(max_path=512), backbone.max_positions, False) == most
