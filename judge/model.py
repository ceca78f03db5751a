"""A judge as a network: a backbone with LoRA and a score head read at the last token of each reply. Keeps no files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from judge.attention import Gather, Layout
from judge.backbones import Backbone
from judge.losses import expected_score
from judge.packing import Forest
from judge.rubric import OVERALL, OVERALL_GLOBAL, JudgeError, Scales, dimensions, the_nine

NINE: Scales = {
    **{code: d.values for code, d in the_nine().items()},
    OVERALL: (0, 1, 2, 3),
    OVERALL_GLOBAL: (0, 1, 2, 3),
}
ROWS = tuple(NINE)  # the dimensions that every head scores, in order; own ones come after them
LEVELS = 5  # thresholds are kept for at least this many, the longest of the nine (G5 has -1..3): a longer own scale makes it more


@dataclass(frozen=True)
class LoraSettings:
    """What is trained of the backbone. ``targets``: names of linear layers, or 'all-linear'; rank 0: nothing but the head."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    vision: bool = False


class ScoreHead(nn.Module):
    """One linear map from a hidden state to every dimension, with copies that differ by their bootstrap sample.

    ``copies[0]`` is the judge; the spread of the others, each trained on its own resampling of the labels, says how
    sure it is. Thresholds turn the scalar into scores 0-3, tie margins say how close is a tie.
    """

    def __init__(self, hidden_size: int, n_copies: int = 8, scales: Scales = NINE) -> None:
        super().__init__()
        rows = self.rows = tuple(scales)
        self.scales = {row: tuple(values) for row, values in scales.items()}
        self.levels = max(LEVELS, *(len(values) for values in self.scales.values()))
        # all heads start alike, so that their spread is that of the labels and not of the start
        start = torch.randn(1, len(rows), hidden_size) * hidden_size**-0.5
        self.weight = nn.Parameter(start.repeat(1 + n_copies, 1, 1))
        self.first = nn.Parameter(torch.full((len(rows),), -1.5))
        self.steps = nn.Parameter(torch.full((len(rows), self.levels - 2), 0.5413))  # softplus of it is 1
        self.tie = nn.Parameter(torch.full((len(rows),), -2.0))
        values = list(self.scales.values())
        # how far apart neighbouring levels are: 1 on the nine; what is beyond a scale counts nothing
        widths = [[b - a for a, b in pairwise(v)] + [0] * (self.levels - len(v)) for v in values]
        self.register_buffer("lowest", torch.tensor([float(v[0]) for v in values]), persistent=False)
        self.register_buffer("n_levels", torch.tensor([len(v) for v in values]), persistent=False)
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float), persistent=False)
        self.lowest: torch.Tensor
        self.n_levels: torch.Tensor
        self.widths: torch.Tensor

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scalars (n, 1 + copies, rows) of hidden states (n, h). The copies do not teach the backbone."""
        first = F.linear(hidden, self.weight[0])
        copies = torch.einsum("nh,crh->ncr", hidden.detach(), self.weight[1:])
        return torch.cat([first[:, None], copies], dim=1)

    def thresholds(self) -> torch.Tensor:
        """Ascending thresholds (rows, levels - 1); inf beyond a row's own scale."""
        steps = torch.cat([self.first[:, None], F.softplus(self.steps)], dim=1).cumsum(1)
        beyond = torch.arange(steps.shape[1], device=steps.device) >= self.n_levels[:, None] - 1
        return steps.masked_fill(beyond, float("inf"))

    def tie_margins(self) -> torch.Tensor:
        """How close two scalars are when a tie is likely, (rows,), positive."""
        return F.softplus(self.tie) + 1e-4

    def level_probabilities(self, row: str, scalar: float) -> tuple[float, ...]:
        """How probable each level of a row's scale is at this scalar, lowest first; they sum to 1."""
        cuts = self.thresholds()[self.rows.index(row)][: len(self.scales[row]) - 1].detach()
        above = [1.0, *torch.sigmoid(scalar - cuts).tolist(), 0.0]
        return tuple(a - b for a, b in pairwise(above))

    def expected(self, scalars: torch.Tensor) -> torch.Tensor:
        """Expected scores on each row's own scale, of the shape of ``scalars`` (..., rows)."""
        return expected_score(scalars, self.thresholds(), self.lowest, self.widths)


class JudgeModel(nn.Module):
    """Backbone, LoRA and head. ``forward`` scores every reply of a forest in one pass."""

    def __init__(self, backbone: Backbone, lora: LoraSettings | None = None, n_copies: int = 8, seed: int = 0,
                 scales: Scales = NINE) -> None:  # fmt: skip
        """Raises JudgeError when no layer of the backbone matches the targets."""
        super().__init__()
        self.encoder, self.base_card = backbone.encoder, backbone.card
        self.lora = lora or LoraSettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = ScoreHead(backbone.hidden_size, n_copies, scales).to(_device(backbone.model))
            self.backbone = with_lora(backbone.model, self.lora) if self.lora.rank else backbone.model

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.backbone.parameters()).dtype

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, layout: Layout, images: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Last hidden states (T, h) of a packed sequence. Shapes as in ``Forest``."""
        out = self.backbone(
            input_ids=ids.to(self.device),
            position_ids=positions.to(self.device),
            use_cache=False,
            gather=Gather.make(layout, self.device, self.dtype),
            **self.placed(images),
        )
        states: torch.Tensor = out.last_hidden_state[0]
        return states

    def placed(self, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Pixels where the model is, in its precision; grids and masks as they are."""
        return {k: v.to(self.device, self.dtype if v.is_floating_point() else None) for k, v in images.items()}

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalars (n, 1 + copies, rows), fp32, at the ``ends`` of a batch; see ``judge.batches`` for what it holds.

        Several sequences (``more``) are read one after another: their activations are computed again for the gradient, so
        that the memory holds those of one sequence at a time.
        """
        sequences = [batch, *batch.get("more", ())]
        if len(sequences) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._scalars(one) for one in sequences])
        again = [checkpoint(self._scalars, one, use_reentrant=False) for one in sequences]
        return torch.cat(again)

    def _scalars(self, sequence: dict[str, Any]) -> torch.Tensor:
        states = self.hidden(sequence["ids"], sequence["positions"], sequence["layout"], sequence["images"])
        scalars: torch.Tensor = self.head(states[sequence["ends"].to(self.device)].float())
        return scalars

    def read(self, forest: Forest, at: Sequence[int]) -> torch.Tensor:
        """The same for the tokens ``at`` of a forest."""
        return self({**vars(forest), "ends": torch.as_tensor(at)})

    def trained_state(self) -> dict[str, torch.Tensor]:
        """The weights that training changes, by name: adapters and head."""
        return {k: p.detach() for k, p in self.named_parameters() if p.requires_grad}

    def load_trained(self, state: dict[str, torch.Tensor]) -> None:
        """Put trained weights back. Raises JudgeError when they are of another backbone or other settings."""
        own = dict(self.named_parameters())
        wanted = {k for k, p in own.items() if p.requires_grad}
        odd = wanted ^ set(state) or {k for k in wanted if own[k].shape != state[k].shape}
        if odd:
            raise JudgeError(
                f"The judge does not fit its backbone {self.base_card['name']!r}: {len(odd)} weights differ, such as {min(odd)}. "
                "Was the backbone replaced? Train again, or give the old one back."
            )
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def reset(self, seed: int) -> None:
        """Back to before the first step of training: LoRA that changes nothing, the head's first weights for ``seed``."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            first = ScoreHead(self.head.weight.shape[2], self.head.weight.shape[0] - 1, self.head.scales)
            self.head.load_state_dict(first.state_dict())
            for name, p in self.backbone.named_parameters():
                if "lora_B" in name:
                    p.zero_()

    @property
    def settings(self) -> dict[str, Any]:
        """What is needed to build the same network again."""
        return {"lora": asdict(self.lora), "copies": self.head.weight.shape[0] - 1, "rows": list(self.head.rows),
                "scales": {row: list(values) for row, values in self.head.scales.items()}}  # fmt: skip


def scales_now() -> Scales:
    """The rows of a judge that begins to learn now: the nine and overall, then own dimensions."""
    return {**NINE, **{code: d.values for code, d in dimensions().items() if code not in NINE}}


def scales_of(settings: Mapping[str, Any]) -> Scales:
    """The rows of a saved judge by ``JudgeModel.settings``, whatever the rubric has now; the first judges kept no scales."""
    kept = settings.get("scales", {})
    return {row: kept.get(row) or NINE[row] for row in settings.get("rows", ROWS)}


def with_lora(model: nn.Module, lora: LoraSettings) -> nn.Module:
    """Add LoRA to a backbone's linear layers; the vision tower stays as it is unless ``lora.vision``."""
    import peft

    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and (lora.vision or not _sees(n))}
    wanted = linear if lora.targets == "all-linear" else {n for n in linear if n.split(".")[-1] in lora.targets}
    if not wanted:
        raise JudgeError(
            f"No linear layer is called {', '.join(lora.targets)}. Choose from {', '.join(sorted({n.split('.')[-1] for n in linear}))}."
        )
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=sorted(wanted), bias="none"
    )
    with warnings.catch_warnings():  # peft asks transformers by a name that is deprecated there
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return peft.PeftModel(model, config, autocast_adapter_dtype=True)


def _sees(name: str) -> bool:
    return any(part in ("visual", "vision_model", "vision_tower", "connector") for part in name.split("."))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
