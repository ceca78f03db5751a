"""Which backbones ``tree`` attention is exact with: decided by how a model is built and behaves, not by its name.

A packed tree is exact when tokens meet in attention alone, each layer looks its attention function up in transformers'
registry, and each layer's mask is causal, a sliding window or chunks. The model itself is asked: one forward of three
tokens with an attention that answers nothing shows who looks it up, with what mask and what arguments, and whether a
token still reaches another one some other way (recurrent, convolutional and state-space layers do).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from judge import attention
from judge.attention import FULL, Reach
from judge.rubric import JudgeError

PROBE = "tree_probe"
LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention"}
# what an attention layer may pass on beside queries, keys, values and mask; anything else would change what is seen
ARGUMENTS = {"scaling", "dropout", "softcap", "s_aux", "sliding_window", "is_causal", "position_ids", "use_cache", "probe",
             "output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "past_key_values"}  # fmt: skip
INSTEAD = "Choose a model of attention layers alone, such as SmolLM2, Llama, Qwen2.5-VL or Gemma 3."
FARTHEST = 2**17  # tokens: as far as a mask is looked at


@dataclass
class Probe:
    """What the attention layers of a model were seen to ask for: a mask rule and arguments by layer."""

    rules: dict[torch.nn.Module, Any] = field(default_factory=dict)
    arguments: dict[torch.nn.Module, dict[str, Any]] = field(default_factory=dict)


def check_class(config: Any) -> None:
    """Refuse by configuration and class, before any weight is read.

    Raises:
        JudgeError: layers of a kind that keeps a state, shared keys, or an attention that cannot be exchanged.
    """
    from transformers import MODEL_MAPPING

    text = config.get_text_config()
    odd = sorted(set(getattr(text, "layer_types", None) or ()) - LAYER_TYPES)
    if odd:
        raise refusal(config, f"it has layers of kind {', '.join(odd)}, whose state a tree of replies cannot share")
    if getattr(text, "num_kv_shared_layers", 0):
        raise refusal(config, f"{text.num_kv_shared_layers} of its layers take the keys of other layers")
    known = MODEL_MAPPING.get(type(config), None)
    for kind in known if isinstance(known, tuple) else (known,):
        if kind is not None and not kind._can_set_attn_implementation():
            raise refusal(config, f"the layers of {kind.__name__} do not look their attention up, or have none")


def check_model(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> None:
    """Refuse by behaviour, and write each attention layer's ``tree_reach`` on it. ``ids``: three plain tokens (1, 3);
    ``positions``: (1, 3) or (3, 1, 3). Leaves the model with ``tree`` attention.

    Raises:
        JudgeError: a layer without attention, a mask of its own, or tokens that meet outside of attention.
    """
    _register()
    text = model.config.get_text_config()
    with own_attention(model, PROBE), torch.no_grad():
        probe, state = _listen(model, ids, positions)
        other = ids.clone()
        other[0, 0] = ids[0, 1] if ids[0, 0] != ids[0, 1] else ids[0, 2]
        _, again = _listen(model, other, positions)
    if len(probe.rules) != text.num_hidden_layers:
        raise refusal(
            model.config, f"{len(probe.rules)} of its {text.num_hidden_layers} layers look their attention up"
        )
    apart = float((state - again)[1:].norm() / state[1:].norm().clamp_min(1e-12))
    if apart > (1e-4 if state.dtype in (torch.float32, torch.float64) else 3e-2):
        raise refusal(model.config, "its tokens meet outside of attention, in a recurrent or convolutional layer")
    for layer, rule in probe.rules.items():
        odd = {k for k, v in probe.arguments[layer].items() if k not in ARGUMENTS and v is not None}
        if odd or probe.arguments[layer].get("is_causal") is False:
            raise refusal(model.config, f"its attention asks for {', '.join(sorted(odd)) or 'both directions'}")
        layer.tree_reach = _reach(model.config, rule)  # type: ignore[assignment]


def refusal(config: Any, why: str) -> JudgeError:
    """The one line that a person reads."""
    return JudgeError(f"The backbone is a {config.model_type}: {why}, so its scores would not be exact. {INSTEAD}")


class own_attention:
    """For a while the text model attends in another way of transformers'; a vision tower keeps its own."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name

    def __enter__(self) -> None:
        self._set(self.name)

    def __exit__(self, *_: object) -> None:
        self._set(attention.NAME)

    def _set(self, name: str) -> None:
        for config in (self.model.config, self.model.config.get_text_config()):
            config._attn_implementation_internal = name


def _listen(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> tuple[Probe, torch.Tensor]:
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise refusal(model.config, "it takes no positions, so it cannot tell where a reply stands")
    probe = Probe()
    try:
        out = model(input_ids=ids, position_ids=positions, use_cache=False, probe=probe)
    except (TypeError, AttributeError, IndexError) as error:
        raise refusal(model.config, f"it makes masks in a way of its own ({error})") from error
    return probe, out.last_hidden_state[0]


def _deaf(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
          probe: Probe | None = None, **arguments: Any) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention that answers nothing, and notes who asked."""
    assert probe is not None
    probe.rules[module] = getattr(attention_mask, "rule", None)
    probe.arguments[module] = arguments
    b, heads, n, _ = query.shape
    return query.new_zeros(b, n, heads, value.shape[-1]), None


def _marked(batch_size: int, q_length: int, kv_length: int, mask_function: Any, device: Any = None, **_: Any) -> Any:
    """A mask that remembers the rule it stands for."""
    mask = torch.zeros(batch_size, 1, q_length, kv_length, device=device)
    mask.rule = mask_function  # type: ignore[attr-defined]
    return mask


def _reach(config: Any, rule: Any) -> Reach:
    if rule is None:
        raise refusal(config, "a layer of it sees other tokens than its mask says")
    text = config.get_text_config()
    n = min(int(getattr(text, "max_position_embeddings", 0) or 4096), FARTHEST)
    steps = {2**i - d for i in range(18) for d in (0, 1)} | {n - 1}
    query = torch.tensor(sorted(q for q in steps if q < n))[:, None]  # (some, 1)
    key, zero = torch.arange(n)[None], torch.zeros(1, 1, dtype=torch.long)
    try:
        seen = torch.as_tensor(rule(zero, zero, query, key)).expand(len(query), n)
    except (TypeError, RuntimeError, IndexError) as error:
        raise refusal(config, f"a mask of it cannot be read ({error})") from error
    first = int(seen[-1].int().argmax())
    chunk = getattr(text, "attention_chunk_size", None)
    for reach in (FULL, Reach(window=n - first), *([Reach(chunk=int(chunk))] if chunk else [])):
        if bool((seen == ((key <= query) & (key >= reach.first(query)))).all()):
            return reach
    raise refusal(config, "a layer of it sees neither all tokens before, nor a window, nor a chunk of them")


def _register() -> None:
    AttentionInterface.register(PROBE, _deaf)
    AttentionMaskInterface.register(PROBE, _marked)
