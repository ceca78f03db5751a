"""``python -m tests.perf.gpu_judge``: a judge that sees, on a CUDA device, in at most ten minutes. No benchmark of ``make perf``.

A backbone of Qwen2.5-VL-3B's shape with random weights in bf16; trees of five turns whose first question shows a picture.
A step of our trainer's loss over a packed tree stands against TRL's way: both sides of each pair as sequences of their own,
padded to the longest, PAIRS_AT_ONCE pairs a forward, pictures read every time, the model's own (sdpa) attention. Printed as
JSON: pairs/s of both, the ratio and its token bound, model FLOP/s as a share of what a plain matrix product reaches here, and how far packed
hidden states are from the model's own. ``--tiny`` runs the same in miniature on a processor, to see that the script works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.perf.bench_vision import with_picture

PAIRS_AT_ONCE = 4
SHAPE: dict[str, Any] = {  # of Qwen/Qwen2.5-VL-3B-Instruct's config.json
    "text": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
             "num_key_value_heads": 2, "mrope_section": [16, 24, 24]},
    "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "window_size": 112,
               "fullatt_block_indexes": [7, 15, 23, 31]},
    "side": 448, "words": 90, "runs": 5,
}  # fmt: skip
TINY: dict[str, Any] = {
    "text": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "mrope_section": [2, 3, 3]},
    "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "window_size": 56,
               "fullatt_block_indexes": [1]},
    "side": 112, "words": 6, "runs": 2,
}  # fmt: skip


def write_backbone(folder: Path, shape: dict[str, Any], dtype: Any, device: str) -> None:
    """A Qwen2.5-VL with random weights and a byte-level tokenizer, saved as a real one would be."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLImageProcessorPil

    from tests.tiny import QWEN_IMAGE, tokenizer

    tok = tokenizer(folder, ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], QWEN_IMAGE)
    names = ("vision_start", "vision_end", "image", "video")
    pads = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    ids = {f"{name}_token_id": tok.convert_tokens_to_ids(pad) for name, pad in zip(names, pads, strict=True)}
    text, vision = dict(shape["text"]), dict(shape["vision"])
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": text.pop("mrope_section")}
    config = Qwen2_5_VLConfig(
        text_config=dict(vocab_size=len(tok), max_position_embeddings=32768, rope_parameters=rope, **text),
        vision_config=dict(out_hidden_size=text["hidden_size"], patch_size=14, spatial_merge_size=2, temporal_patch_size=2, **vision),
        **ids,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLModel._from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)


class Padded:
    """TRL's way: pairs of whole dialogues, padded on the right, each with its picture."""

    def __init__(self, model: Any, example: Any) -> None:
        import torch

        self.model, self.batches, self.tokens = model, [], 0
        encoder = model.encoder
        pairs = example.comparisons
        for i in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[i : i + PAIRS_AT_ONCE]
            paths = [example.tree.path(n) for side in ("left", "right") for n in (getattr(c, side) for c in some)]
            pieces = [[encoder.piece(example.tree.path(n.id), example.images) for n in path] for path in paths]
            rows = [torch.cat([p.ids for p in row]) for row in pieces]
            self.tokens += sum(len(r) for r in rows)
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
            shown = [sha for row in pieces for p in row for sha in p.pictures]
            images = model.placed(encoder.pixels(shown, example.images))
            kinds = (ids == encoder.image_id).long()
            self.batches.append((
                {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device),
                 "mm_token_type_ids": kinds.to(model.device), **images},
                torch.tensor([len(r) - 1 for r in rows]),
            ))  # fmt: skip

    def step(self) -> None:
        """Forward and backward over every pair once."""
        import torch

        from judge.support import own_attention

        with own_attention(self.model.backbone, "sdpa"):
            for inputs, ends in self.batches:
                states = self.model.backbone(use_cache=False, **inputs).last_hidden_state
                rewards = self.model.head(states[torch.arange(len(ends)), ends].float())[:, 0, 0]
                left, right = rewards.chunk(2)
                (-torch.nn.functional.logsigmoid(left - right).sum()).backward()
        self.model.zero_grad()


def packed_step(model: Any, data: Any) -> None:
    """Forward and backward over every packed sequence once, by the judge's own loss."""
    from judge.losses import label_losses

    for i in range(len(data)):
        batch = data[i]
        labels = {k: v.to(model.device) for k, v in batch.items() if k in LABELS}
        label_losses(model.head, model(batch), {**batch, **labels}).sum().backward()
    model.zero_grad()


LABELS = ("scores", "pairs", "margins", "score_weights", "pair_weights")


def seconds(run: Any, runs: int, device: str) -> float:
    """Median seconds of ``runs`` calls after one that does not count."""
    import torch

    taken = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def matmul_rate(dtype: Any, device: str) -> float:
    """FLOP/s of one large matrix product: the ceiling that the share is of."""
    import torch

    n = 8192 if device == "cuda" else 512
    a = torch.randn(n, n, dtype=dtype, device=device)
    return 2.0 * n**3 / seconds(lambda: a @ a, 10, device)


def gap(model: Any, example: Any) -> float:
    """The largest relative difference of packed last hidden states from the model's own, path by path."""
    import torch

    from judge.packing import bundle, pack, plan
    from judge.support import own_attention

    def piece(node: str) -> Any:
        return model.encoder.piece(example.tree.path(node), example.images)

    ends = [n.id for n in example.tree.walk() if n.role == "assistant"]
    (group,) = bundle(plan(example.tree, [(n,) for n in ends], piece, 10**6, 10**6), 10**6)
    forest = pack(group, lambda tree, node: piece(node))
    worst = 0.0
    with torch.no_grad():
        states = model.hidden(
            forest.ids, forest.positions, forest.layout, model.encoder.pixels(forest.pictures, example.images)
        )
        for node in ends:
            pieces = [piece(n.id) for n in example.tree.path(node)]
            ids = torch.cat([p.ids for p in pieces])[None].to(model.device)
            images = model.placed(model.encoder.pixels([s for p in pieces for s in p.pictures], example.images))
            kinds = (ids == model.encoder.image_id).long()
            with own_attention(model.backbone, "eager"):
                own = model.backbone(
                    input_ids=ids, mm_token_type_ids=kinds, use_cache=False, **images
                ).last_hidden_state[0, -1]
            worst = max(worst, float((states[forest.ends[0][node]] - own).float().norm() / own.float().norm()))
    return worst


def main() -> None:
    """Measure two and three replies a turn; print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.gpu_judge", description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="in miniature, on a processor")
    tiny = parser.parse_args().tiny
    import torch

    from judge import backbones
    from judge.batches import Forests
    from judge.model import JudgeModel, LoraSettings

    if not tiny and not torch.cuda.is_available():
        raise SystemExit(
            "No CUDA device is here, so nothing was measured. Add --tiny to try the script on a processor."
        )
    device, dtype, shape = ("cpu", torch.float32, TINY) if tiny else ("cuda", torch.bfloat16, SHAPE)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "dtype": str(dtype)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base").mkdir()
        write_backbone(folder / "base", shape, dtype, device)
        model = JudgeModel(backbones.load(str(folder / "base"), folder, device, dtype), LoraSettings(16, 32), 0)
        weights = sum(p.numel() for n, p in model.backbone.named_parameters() if "visual" not in n and "embed" not in n)
        ceiling = matmul_rate(dtype, device)
        for replies in (2, 3):
            example = with_picture(folder, replies, shape["side"], shape["words"])
            data = Forests([example], model.encoder, model.head.scales, max_tokens=10**6, max_path=10**6)
            padded, n = Padded(model, example), len(example.comparisons)
            ours = seconds(lambda data=data: packed_step(model, data), shape["runs"], device)  # type: ignore[misc]
            theirs = seconds(padded.step, shape["runs"], device)
            bound = padded.tokens / data.tokens
            found[f"{replies} replies a turn"] = {
                "pairs_per_s": n / ours, "padded_pairs_per_s": n / theirs, "ratio": theirs / ours, "token_bound": bound,
                "share_of_bound": theirs / ours / bound, "tokens": data.tokens,
                # frozen weights need no gradient of their own: 2 forward and 2 backward a weight and token (text layers only)
                "share_of_matmul": 4.0 * weights * data.tokens / ours / ceiling, "relative_gap": gap(model, example),
            }  # fmt: skip
        if device == "cuda":
            found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
