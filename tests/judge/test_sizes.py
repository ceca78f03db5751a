"""How much is read at once, and when activations are computed twice, from the memory that is free."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from judge import backbones, sizes
from judge.settings import Settings, step_tokens

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
