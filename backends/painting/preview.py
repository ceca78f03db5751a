"""What latents look like before they are decoded: a small picture after each step for next to nothing.

A linear map from a latent to the colour of its 8 x 8 pixels says enough to watch a picture come. It is fitted once, by least
squares, to what the model's own VAE makes of a chart of colours, so that it suits every VAE. Never decodes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

CHART, PATCHES = 128, 16  # pixels of the chart's side, and colours along it
SHOWN = 256  # pixels of a preview's longer side
SPREAD = 1.0  # standard deviation of latents without noise


@dataclass(frozen=True)
class Factors:
    """``map``: (channels + 1) x 3, from a latent and a one to RGB in 0-1."""

    map: Any

    def picture(self, pipeline: Any, latents: Any, width: int, height: int) -> bytes:
        """The first of a batch of latents as a WEBP; b"" when they have a form that is not known."""
        import torch

        if latents.ndim == 3 and hasattr(pipeline, "_unpack_latents"):  # packs of 2 x 2, as FLUX has them
            latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
        latents = latents[:1].float().cpu()
        if latents.ndim != 4 or latents.shape[1] != len(self.map) - 1:
            return b""
        latents = latents / max(SPREAD, float(latents.std()))  # noise has a larger spread in some schedulers
        flat = latents[0].permute(1, 2, 0)
        colours = torch.cat([flat, torch.ones_like(flat[..., :1])], -1) @ self.map
        small = Image.fromarray((colours.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        scale = SHOWN / max(width, height)
        shown = small.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
        out = io.BytesIO()
        shown.save(out, "WEBP", quality=75, method=0)
        return out.getvalue()


def fit(pipeline: Any) -> Factors | None:
    """The factors of a pipeline's VAE; None when it has none that encodes, or latents of another form."""
    import torch

    vae = getattr(pipeline, "vae", None)
    if vae is None or not hasattr(vae, "encode") or type(vae).__name__ not in ("AutoencoderKL", "AutoencoderTiny"):
        return None
    chart = torch.rand(1, 3, PATCHES, PATCHES, generator=torch.Generator().manual_seed(0))
    chart = torch.nn.functional.interpolate(chart, size=(CHART, CHART), mode="bicubic").clamp(0, 1)
    weight = next(vae.parameters())
    with torch.no_grad():
        told = vae.encode((chart * 2 - 1).to(weight.device, weight.dtype))
    latents = told.latents if hasattr(told, "latents") else told.latent_dist.mode()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    latents = ((latents.float().cpu() - shift) * vae.config.scaling_factor)[0].flatten(1).T
    side = round(len(latents) ** 0.5)
    colours = torch.nn.functional.adaptive_avg_pool2d(chart, side)[0].flatten(1).T
    given = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    damped = given.T @ given + 1e-2 * torch.eye(given.shape[1])
    return Factors(torch.linalg.solve(damped, given.T @ colours))
