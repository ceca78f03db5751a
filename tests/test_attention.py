"""``tree`` attention against each model's OWN attention (transformers', a path at a time), on many random trees; what
cannot be exact is refused by name."""

from __future__ import annotations

import inspect
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

import transformers  # noqa: E402

from judge import attention, backbones, selfcheck, support  # noqa: E402
from judge.attention import Gather, Layout, Reach  # noqa: E402
from judge.model import LoraSettings, with_lora  # noqa: E402
from judge.rubric import JudgeError  # noqa: E402
from tests import tiny  # noqa: E402

TREES = 200
TEXT: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 2048, "pad_token_id": 0}  # fmt: skip
MIXED = ["sliding_attention", "full_attention"]
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**TEXT),
    "gemma3 window 8": lambda: transformers.Gemma3TextConfig(**TEXT, sliding_window=8, layer_types=MIXED),
    "gemma3 window 512": lambda: transformers.Gemma3TextConfig(**TEXT, sliding_window=512, layer_types=MIXED),
    "gemma2 soft-capped": lambda: transformers.Gemma2Config(**TEXT, sliding_window=9, layer_types=MIXED, attn_logit_softcapping=0.5),
    "gpt-oss sinks": lambda: transformers.GptOssConfig(**TEXT, sliding_window=7, layer_types=MIXED, num_local_experts=2,
                                                       num_experts_per_tok=1, attention_dropout=0.0),
}  # fmt: skip


def build(name: str) -> Any:
    """A tiny model with random weights under ``tree`` attention, its layers' reaches written on them."""
    torch.manual_seed(1)
    attention.register()
    config = CONFIGS[name]()
    config._experts_implementation = "eager"  # a grouped product of experts is none of fp64's
    model = transformers.AutoModel.from_config(config).eval().requires_grad_(False)
    with torch.no_grad():
        for k, p in model.named_parameters():
            p.normal_(0, 1.0 if "sinks" in k else 0.3)
    support.check_model(model, torch.tensor([[3, 5, 7]]), torch.arange(3)[None])
    return model


def exact_softmax(model: Any) -> None:
    """Register the model's own eager attention with its softmax in fp64 as ``own``, and let its norms count in fp64:
    transformers' own text, else unchanged. (They round to fp32, which would hide what a comparison to 1e-9 is for.)"""
    own = inspect.getmodule(type(model))
    assert own is not None
    scope = dict(vars(own))
    source = inspect.getsource(own.eager_attention_forward).replace("torch.float32", "torch.float64")
    exec(source, scope)
    for kind in {type(m) for m in model.modules() if type(m).__name__.endswith("RMSNorm")}:
        text = inspect.getsource(kind).replace("torch.float32", "torch.float64")
        exec(text.replace(".float()", ".double()"), scope)
        for m in model.modules():
            if type(m) is kind and next(m.parameters()).dtype == torch.float64:
                m.__class__ = scope[kind.__name__]
    transformers.AttentionInterface.register("own", scope["eager_attention_forward"])
    from transformers.masking_utils import eager_mask

    transformers.AttentionMaskInterface.register("own", eager_mask)


def random_layout(rng: random.Random, first: int = 0) -> Layout:
    """Up to eight segments; the root ``first`` tokens longer."""
    lengths, above = [rng.randint(1, 12) + first], [()]
    for _ in range(rng.randint(1, 7)):
        up = rng.randrange(len(lengths)) if rng.random() < 0.9 else None
        above.append(() if up is None else (*above[up], up))
        lengths.append(rng.randint(1, 12))
    return Layout(tuple(lengths), tuple(above))


def places(layout: Layout) -> tuple[Any, list[Any]]:
    """Positions along the path (T,), and the packed indices of the path to each leaf."""
    starts = [sum(layout.lengths[:i]) for i in range(len(layout.lengths))]
    where = [torch.arange(s, s + n) for s, n in zip(starts, layout.lengths, strict=True)]
    at = torch.cat([torch.arange(n) + sum(layout.lengths[a] for a in up) for n, up in zip(layout.lengths, layout.above, strict=True)])  # fmt: skip
    inner = {a for up in layout.above for a in up}
    leaves = [i for i in range(len(layout.lengths)) if i not in inner]
    return at, [torch.cat([where[a] for a in (*layout.above[i], i)]) for i in leaves]


def states(model: Any, ids: Any, at: Any, **more: Any) -> Any:
    return model(input_ids=ids[None], position_ids=at[None], use_cache=False, **more).last_hidden_state[0]


def gap(model: Any, layout: Layout, ids: Any, own: str) -> float:
    """The largest relative difference on a path of a packed tree's states from the model's own."""
    at, paths = places(layout)
    packed = states(model, ids, at, gather=Gather.make(layout, ids.device, next(model.parameters()).dtype))
    worst = 0.0
    for path in paths:
        with support.own_attention(model, own):
            theirs = states(model, ids[path], torch.arange(len(path)))
        worst = max(worst, float((packed[path] - theirs).norm() / theirs.norm()))
    return worst


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_trees_equal_the_models_own_attention(name: str, dtype: str) -> None:
    model = build(name).to(getattr(torch, dtype))
    exact_softmax(model)
    rng, worst = random.Random(7), 0.0
    with torch.no_grad():
        for i in range(TREES):
            layout = random_layout(rng, 505 if "512" in name and i % 10 == 0 else 0)
            ids = torch.randint(1, 60, (sum(layout.lengths),), generator=torch.Generator().manual_seed(i))
            worst = max(worst, gap(model, layout, ids, "own" if dtype == "float64" else "eager"))
    assert worst < (1e-9 if dtype == "float64" else 1e-5), worst


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_the_models_own_attention(name: str) -> None:
    model = build(name).double()
    exact_softmax(model)
    tuned = with_lora(model, LoraSettings(rank=2)).double()
    for i, (k, p) in enumerate(tuned.named_parameters()):
        if "lora_B" in k:
            p.data = torch.randn(p.shape, generator=torch.Generator().manual_seed(i)).double() * 0.1
    weights = [p for p in tuned.parameters() if p.requires_grad]
    rng = random.Random(3)
    for i in range(8):
        layout = random_layout(rng, 505 if "512" in name and i == 0 else 0)
        ids = torch.randint(1, 60, (sum(layout.lengths),), generator=torch.Generator().manual_seed(i))
        at, paths = places(layout)
        signs = torch.randn(len(ids), 16, generator=torch.Generator().manual_seed(i)).double()
        packed = states(tuned, ids, at, gather=Gather.make(layout, ids.device, torch.float64))
        ours = torch.autograd.grad(sum((packed[p] * signs[p]).sum() for p in paths), weights)
        with support.own_attention(model, "own"):
            loss = sum((states(tuned, ids[p], torch.arange(len(p))) * signs[p]).sum() for p in paths)
            theirs = torch.autograd.grad(loss, weights)
        norm = torch.cat([g.flatten() for g in theirs]).norm()
        apart = torch.cat([(a - b).flatten() for a, b in zip(ours, theirs, strict=True)]).norm()
        assert norm > 1e-3
        assert float(apart / norm) < 1e-9


def test_a_window_that_is_not_heeded_would_be_seen() -> None:
    model = build("gemma3 window 8")
    assert {m.tree_reach for m in model.modules() if hasattr(m, "tree_reach")} == {Reach(), Reach(window=8)}
    assert selfcheck.relative_gap(model, torch.arange(3, 50), False) < 1e-5
    for m in model.modules():
        if hasattr(m, "tree_reach"):
            m.tree_reach = Reach()
    assert selfcheck.relative_gap(model, torch.arange(3, 50), False) > 1e-2


@pytest.mark.parametrize("reach", [Reach(), Reach(window=5), Reach(window=1), Reach(chunk=4)])
def test_masks_say_what_the_rule_says_and_drop_only_what_nobody_sees(reach: Reach) -> None:
    layout = Layout((3, 4, 2, 6), ((), (0,), (0, 1), (0,)))
    gather = Gather.make(layout, torch.device("cpu"), torch.float32)
    for i, segment in enumerate(gather.segments(reach)):
        path = (*layout.above[i], i)
        total, n = sum(layout.lengths[a] for a in path), layout.lengths[i]
        start = sum(layout.lengths[a] for a in path if a not in segment.path) + segment.dropped
        seen = {(q, start + k) for q in range(n) for k in range(total - start)
                if (segment.mask is None and start + k <= total - n + q) or (segment.mask is not None and segment.mask[q, k] == 0)}  # fmt: skip
        wanted = {(q, k) for q in range(n) for k in range(total) if k <= total - n + q
                  and k >= int(reach.first(torch.tensor(total - n + q)))}  # fmt: skip
        assert seen == wanted
        assert reach.window != 1 or segment.path == (i,)


SMALL = {k: v for k, v in TEXT.items() if k != "head_dim"}
REFUSED = {
    "qwen3_next": (lambda: transformers.Qwen3NextConfig(**SMALL, layer_types=["linear_attention", "full_attention"]), "linear_attention"),
    "lfm2": (lambda: transformers.Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]), "conv"),
    "granitemoehybrid": (lambda: transformers.GraniteMoeHybridConfig(**SMALL, layer_types=["mamba", "attention"], mamba_n_heads=4, mamba_d_head=8), "linear_attention"),
    "mamba": (lambda: transformers.MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2), "attention"),
    "bloom": (lambda: transformers.BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=2), "attention"),
    "rwkv": (lambda: transformers.RwkvConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2), "attention"),
    "gemma3n_text": (lambda: transformers.Gemma3nTextConfig(num_hidden_layers=4, num_kv_shared_layers=2), "keys of other layers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name_before_weights_are_read(kind: str, tmp_path: Path) -> None:
    make, why = REFUSED[kind]
    make().save_pretrained(tmp_path)
    tiny.tokenizer(tmp_path, [], "")
    with pytest.raises(JudgeError) as refused:
        backbones.load(str(tmp_path), tmp_path / "cache")
    line = str(refused.value)
    assert kind in line
    assert why in line
    assert "Choose a model of attention layers alone" in line
    assert "\n" not in line


class Blurred(torch.nn.Module):
    """A layer's MLP that also reads the token before."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x + 0.5 * torch.roll(x, 1, dims=1))


def test_tokens_that_meet_outside_of_attention_are_noticed() -> None:
    model = build("llama")
    model.layers[1].mlp = Blurred(model.layers[1].mlp)
    with pytest.raises(JudgeError, match="llama: its tokens meet outside of attention"):
        support.check_model(model, torch.tensor([[3, 5, 7]]), torch.arange(3)[None])
    assert selfcheck.relative_gap(model, torch.arange(3, 50), False) > 1e-2


def test_a_backbone_that_differs_from_itself_is_refused_and_a_right_one_is_checked_once(tmp_path: Path) -> None:
    model, ids = build("llama"), torch.arange(3, 50)
    assert selfcheck.ensure(model, ids, False, tmp_path, "right") is not None
    assert selfcheck.ensure(model, ids, False, tmp_path, "right") is None
    model.layers[0].self_attn.tree_reach = Reach(window=2)
    with pytest.raises(JudgeError, match="packed, its hidden states differ from its own by"):
        selfcheck.ensure(model, ids, False, tmp_path, "wrong")


def test_keys_from_a_cache_are_windowed_too() -> None:
    model = build("gemma3 window 8").double()
    exact_softmax(model)
    ids, at, past = torch.arange(1, 41), torch.arange(40), transformers.DynamicCache()
    parts = [model(input_ids=ids[None, s], position_ids=at[None, s], past_key_values=past, use_cache=True).last_hidden_state[0]
             for s in (slice(0, 17), slice(17, 18), slice(18, 40))]  # fmt: skip
    with support.own_attention(model, "own"):
        own = states(model, ids, at)
    assert float((torch.cat(parts) - own).norm() / own.norm()) < 1e-9
    assert past.layers[0].keys.shape[2] == 40  # nothing was dropped: a sibling's start needs it


def test_two_gguf_files_that_differ_in_a_late_byte_have_two_keys(tmp_path: Path) -> None:
    data = bytearray(2**21)
    (tmp_path / "a.gguf").write_bytes(data)
    data[-5] = 1
    (tmp_path / "b.gguf").write_bytes(data)
    some, other = (backbones._whole_hash(tmp_path / f"{n}.gguf", tmp_path / "cache") for n in "ab")
    assert some != other
    assert backbones._whole_hash(tmp_path / "a.gguf", tmp_path / "cache") == some
    assert len(list((tmp_path / "cache" / "hashed").iterdir())) == 2
