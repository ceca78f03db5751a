"""Models of diffusers, tiny ones with random weights: words, edits, masks, instructions, previews, seeds, and every refusal."""

from __future__ import annotations

import gc
import inspect
import io
import json
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageChops

from backends import BackendError, ModelSpec
from backends.hf.files import check_fits
from backends.painting import Painters, Step, Wish, checked, repository
from backends.painting.diffusion import Diffusion, create
from backends.painting.preview import fit
from tests.hub import hub

pytestmark = pytest.mark.usefixtures("one_thread")

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[images]'")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; pip install -e '.[images]'")

SIZE = (48, 40)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One pipeline of each family."""
    from tests import tiny_painting

    home = tmp_path_factory.mktemp("pipelines")
    return {
        "stable": tiny_painting.stable(home / "stable"),
        "instruct": tiny_painting.stable(home / "instruct", "StableDiffusionInstructPix2PixPipeline", 8),
        "inpaint": tiny_painting.stable(home / "inpaint", "StableDiffusionInpaintPipeline", 9),
        "xl": tiny_painting.xl(home / "xl"),
        "flux": tiny_painting.flux(home / "flux"),
    }


@pytest.fixture(scope="module")
def painters(folders: dict[str, Path]) -> Iterator[Any]:
    """What gives the painter of a family."""
    pool = Painters()
    yield lambda family: pool.get(ModelSpec(family, "diffusers", {"model": str(folders[family]), "device": "cpu"}))
    pool.close()


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def source() -> bytes:
    return png(Image.radial_gradient("L").resize(SIZE).convert("RGB"))


@pytest.fixture(scope="module")
def mask() -> bytes:
    """White on the left half."""
    drawn = Image.new("L", SIZE, 0)
    drawn.paste(255, (0, 0, SIZE[0] // 2, SIZE[1]))
    return png(drawn)


def paint(painter: Any, task: Any = "generate", stop: threading.Event | None = None, **wish: Any) -> list[Step]:
    given = {"prompt": "a cat", "steps": 3, "seed": 7, "width": 32, "height": 32, **wish}
    return list(painter.paint(Wish(task, **given), stop or threading.Event()))


def picture(steps: list[Step], variant: int = 0) -> Image.Image:
    (data,) = (s.image for s in steps if s.image and s.variant == variant)
    return Image.open(io.BytesIO(data))


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and ImageChops.difference(a, b).getbbox() is None


def test_each_step_has_a_preview_and_variants_their_own_seeds(painters: Any) -> None:
    painter = painters("stable")
    steps = paint(painter, variants=2, negative="dogs", guidance=5.0)
    running = [s for s in steps if s.phase == "running" and s.step and not s.image]
    assert [(s.variant, s.step, s.steps) for s in running] == [(v, n, 3) for v in (0, 1) for n in (1, 2, 3)]
    assert all(max(Image.open(io.BytesIO(s.preview)).size) == 256 and len(s.preview) < 30_000 for s in running)
    assert picture(steps).size == (32, 32)
    assert [s.seed for s in steps if s.image] == [7, 8]
    facts = next(s.facts for s in steps if s.image)
    assert facts["model"] == "stable"  # the folder's name: an exported file tells no path
    assert (facts["steps"], facts["guidance"], facts["device"], facts["dtype"]) == (3, 5.0, "cpu", "float32")
    alone = paint(painter, seed=8, negative="dogs", guidance=5.0)
    assert same(picture(alone), picture(steps, 1))
    assert not same(picture(steps), picture(steps, 1))
    for change in ({"prompt": "a dog"}, {"negative": "cats"}, {"guidance": 1.0}, {"steps": 4}):
        assert not same(
            picture(paint(painter, seed=8, **{"negative": "dogs", "guidance": 5.0, **change})), picture(alone)
        )


def test_a_preview_has_the_colours_that_its_latents_hold() -> None:
    """Of a chart that the factors were not fitted to, even with a VAE of random weights."""
    torch.manual_seed(0)
    few = {"encoder_block_out_channels": (16, 16), "num_encoder_blocks": (1, 1)}
    vae = diffusers.AutoencoderTiny(**few, decoder_block_out_channels=(16, 16), num_decoder_blocks=(1, 1))
    pipeline = SimpleNamespace(vae=vae)
    chart = (
        torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))
        .repeat_interleave(16, 2)
        .repeat_interleave(16, 3)
    )
    with torch.no_grad():
        latents = vae.encode(chart * 2 - 1).latents * vae.config.scaling_factor
    shown = Image.open(io.BytesIO(fit(pipeline).picture(pipeline, latents, 64, 64))).resize((64, 64))
    got = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8).reshape(64, 64, 3).permute(2, 0, 1) / 255
    fitted, plain = (got - chart[0]).pow(2).mean(), (chart[0] - chart[0].mean((1, 2), keepdim=True)).pow(2).mean()
    assert fitted < 0.6 * plain
    assert fit(SimpleNamespace()) is None
    assert fit(pipeline).picture(pipeline, latents[:, :3], 64, 64) == b""  # latents of another form


@pytest.mark.parametrize(
    ("family", "task", "kind"),
    [("stable", "edit", "StableDiffusionImg2ImgPipeline"), ("xl", "generate", "StableDiffusionXLPipeline"),
     ("xl", "edit", "StableDiffusionXLImg2ImgPipeline"), ("instruct", "instruct", "StableDiffusionInstructPix2PixPipeline"),
     ("flux", "edit", "FluxImg2ImgPipeline"), ("flux", "generate", "FluxPipeline")],
)  # fmt: skip
def test_a_picture_is_changed_by_words(family: str, task: str, kind: str, painters: Any, source: bytes) -> None:
    given = {"source": source, "strength": 0.3, "steps": 10} if task != "generate" else {}
    steps = paint(painters(family), task, **given)
    shown = next(s for s in steps if s.image)
    assert shown.facts["pipeline"] == kind
    assert any(s.preview for s in steps)
    if given:
        other = paint(painters(family), task, **given | {"source": png(Image.new("RGB", SIZE, "blue"))})
        assert not same(picture(steps), picture(other))


@pytest.mark.parametrize("family", ["stable", "inpaint", "flux"])
def test_outside_of_the_mask_every_pixel_stays(family: str, painters: Any, source: bytes, mask: bytes) -> None:
    result = picture(paint(painters(family), "inpaint", source=source, mask=mask))
    before = Image.open(io.BytesIO(source))
    left, right = (0, 0, SIZE[0] // 2, SIZE[1]), (SIZE[0] // 2, 0, *SIZE)
    assert result.size == SIZE
    assert same(result.crop(right), before.crop(right))
    assert not same(result.crop(left), before.crop(left))


def test_the_size_follows_the_source_and_too_few_steps_are_mended(painters: Any) -> None:
    large = png(Image.new("RGB", (400, 100), "green"))
    steps = paint(painters("stable"), "edit", source=large, width=None, height=None, steps=1, strength=0.5)
    shown = next(s for s in steps if s.image)
    assert picture(steps).size == (64, 16)  # as many pixels as the model is used to, in the source's proportions
    assert shown.facts["steps"] == 2
    assert [n.split(" ")[0] for n in shown.facts["notes"]] == ["Worked", "Drawn"]


def test_cancelled_within_a_step(painters: Any) -> None:
    painter, stop, seen = painters("stable"), threading.Event(), []
    for step in painter.paint(Wish("generate", "x", steps=400, width=32, height=32, variants=3), stop):
        seen.append(step)
        if step.step == 2:
            stop.set()
    assert seen[-1].step <= 3
    assert not any(s.image for s in seen)
    left = iter(painter.paint(Wish("generate", "x", steps=400, width=32, height=32), threading.Event()))
    next(left)
    began = time.monotonic()
    left.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    assert picture(paint(painter)).size == (32, 32)  # no hook of a run that was left stops the next one


def test_one_model_at_a_time_and_memory_comes_back(painters: Any) -> None:
    first, second = painters("stable"), painters("instruct")
    paint(first, steps=1)
    assert first.describe()["loaded"]
    assert first.describe()["memory_mb"] >= 1
    weights = weakref.ref(first._loaded.pipeline.unet)
    paint(second, "instruct", source=png(Image.new("RGB", (32, 32))), steps=1)
    gc.collect()
    assert weights() is None
    assert (first.describe()["loaded"], second.describe()["loaded"]) == (False, True)
    assert second.unload()
    assert not second.describe()["loaded"]


def test_unloaded_while_it_draws(painters: Any) -> None:
    painter = painters("stable")
    steps = painter.paint(Wish("generate", "x", steps=400, width=32, height=32), threading.Event())
    with pytest.raises(BackendError, match="was unloaded while it drew"):
        for step in steps:
            if step.step == 1:
                assert not painter.unload(0.01)
    assert not painter.describe()["loaded"]


def test_memory_that_runs_out_is_advice(painters: Any) -> None:
    painter = painters("stable")
    paint(painter, steps=1)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    painter._loaded.pipeline.unet.register_forward_pre_hook(full)  # what torch raises in the middle of a network
    with pytest.raises(BackendError, match=r"ran out of memory at 64 x 32\. Draw a smaller picture"):
        paint(painter, width=64)
    assert not painter.describe()["loaded"]
    assert picture(paint(painter, steps=1)).size == (32, 32)
    with pytest.raises(BackendError, match=r"needs about .* GiB on GPU"):
        check_fits("x", 2**40, 2**30, "GPU")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no words": ({"prompt": "  "}, "The prompt is empty"),
    "no such task": ({"task": "sing"}, "'sing' is nothing a painter does"),
    "cannot": ({"task": "instruct", "source": b"x"}, "it has no 'instruct'"),
    "zero": ({"width": 0}, "A width of 0 pixels"),
    "far too wide": ({"width": 30_001}, "A width of 30001 pixels"),
    "odd": ({"height": 30}, r"takes multiples of 8\. Give 32"),
    "no steps": ({"steps": 0}, "steps = 0"),
    "half a step": ({"steps": 2.5}, "steps = 2.5"),
    "no number": ({"guidance": float("nan")}, "guidance = nan"),
    "too many": ({"variants": 99}, "variants = 99"),
    "backwards": ({"seed": -1}, "seed = -1"),
    "true": ({"seed": True}, "seed = True"),
    "long": ({"prompt": "x" * 30_000}, "30,000 characters is too long"),
    "a source that is not wanted": ({"source": b"x"}, "from words alone"),
    "nothing to change": ({"task": "edit"}, "no picture to change"),
    "not a picture": ({"task": "edit", "source": b"%PDF"}, "no PNG, JPEG, WEBP or GIF"),
    "a mask too many": ({"task": "edit", "source": "source", "mask": b"x"}, "A mask belongs to inpaint"),
    "no mask": ({"task": "inpaint", "source": "source"}, "There is no mask"),
    "an empty mask": ({"task": "inpaint", "source": "source", "mask": png(Image.new("L", SIZE))}, "The mask is empty"),
    "another mask": ({"task": "inpaint", "source": "source", "mask": png(Image.new("L", (9, 9), 255))}, "The mask has 9 x 9 pixels, the picture 48 x 40"),
    "a broken mask": ({"task": "inpaint", "source": "source", "mask": b"x"}, "no PNG, JPEG"),
    "a strip": ({"task": "edit", "source": png(Image.new("1", (31_000, 2)))}, "at most 30,000 a side"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_wish_is_one_line(name: str, painters: Any, source: bytes) -> None:
    given, said = BAD[name]
    wish = {"task": "generate", "prompt": "x"} | {k: source if v == "source" else v for k, v in given.items()}
    with pytest.raises(BackendError, match=said) as caught:
        checked(Wish(**wish), painters("stable").can, "Tiny")
    assert "\n" not in str(caught.value)


def test_no_guidance_no_negative(painters: Any) -> None:
    can = painters("flux").can
    assert (can.guidance, can.negative) == (False, False)  # a distilled FLUX
    with pytest.raises(BackendError, match="takes no guidance"):
        checked(Wish("generate", "x", guidance=2.0), can, "Tiny")
    with pytest.raises(BackendError, match="takes no negative prompt"):
        checked(Wish("generate", "x", negative="y"), can, "Tiny")


# ---- files


def copied(folders: dict[str, Path], to: Path) -> Path:
    return Path(shutil.copytree(folders["stable"], to / "copy"))


def changed(folder: Path, name: str, **values: Any) -> None:
    known = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(known))


def spoil(what: str, folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if what == "pickles":
        weights.rename(weights.with_suffix(".bin"))
    elif what == "cut":
        weights.write_bytes(weights.read_bytes()[:5_000])
    elif what == "code":
        changed(folder, "model_index.json", unet=["unet_of_mine", "Net"])
        (folder / "unet" / "unet_of_mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    elif what == "pipeline code":
        changed(folder, "model_index.json", _class_name=["pipeline", "Mine"])
    elif what == "way out":
        changed(folder, "model_index.json", **{"../other": ["diffusers", "AutoencoderKL"]})
    elif what == "unknown":
        changed(folder, "model_index.json", _class_name="AudioLDM2Pipeline")
    elif what == "no json":
        (folder / "model_index.json").write_text("<html>")
    elif what == "no index":
        (folder / "model_index.json").unlink()
    elif what == "a shard short":
        index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
        (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    else:
        changed(folder, "unet/config.json", cross_attention_dim=64)


@pytest.mark.parametrize(
    ("what", "said"),
    [("pickles", "no safetensors in unet; weights of other forms can run code"), ("cut", "no whole safetensors file"), ("code", "brings code of its own"),
     ("pipeline code", "brings code of its own"), ("way out", "cannot be folders"), ("unknown", "AudioLDM2Pipeline, which is not known here"),
     ("no json", "cannot be read"), ("no index", "no model_index.json"), ("a shard short", "lacks unet/diffusion_pytorch_model-00001"),
     ("misfit", "diffusers cannot load")],
)  # fmt: skip
def test_a_folder_that_cannot_be_read_is_one_line(
    what: str, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders, tmp_path)
    spoil(what, folder)
    with pytest.raises(BackendError, match=said) as caught:
        paint(create("Copy", str(folder), device="cpu"))
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"model": " "}, "needs a folder or a name"), ({"model": "x", "device": "tpu"}, "device = 'tpu'"), ({"model": "x", "colour": 1}, "no setting colour"),
     ({"model": "x", "steps": 0}, "steps = 0"), ({"model": "x", "width": True}, "width = True")],
)  # fmt: skip
def test_impossible_settings(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        create("Tiny", **given)


def test_the_families_are_what_diffusers_has() -> None:
    """Every pipeline of the table exists, calls back, and takes what the table says that it takes."""
    for family in repository.families():
        for name in family.classes:
            known = set(inspect.signature(getattr(diffusers, name).__call__).parameters)
            assert {"prompt", "num_inference_steps", "generator", "callback_on_step_end", family.guides} <= known, name
            assert not family.negative or "negative_prompt" in known, name
            assert ("image" in known) or family.tasks[0] == "generate", name
            assert ("mask_image" in known) == (family.tasks[0] == "inpaint"), name


def test_one_precision_of_each_part_is_enough() -> None:
    index = repository.parsed(json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"],
                                          "tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": [None, None]}), "x")  # fmt: skip
    names = ["model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
             "unet/diffusion_pytorch_model.bin", "unet/deep/x.json", "text_encoder/model-00001-of-00002.safetensors", "text_encoder/model-00002-of-00002.safetensors",
             "text_encoder/model.safetensors.index.json", "text_encoder/model.safetensors.index.fp16.json", "text_encoder/run.py", "tokenizer/vocab.json",
             "tokenizer/merges.txt", "safety_checker/model.safetensors", "vae_1_0/x.safetensors", "README.md"]  # fmt: skip
    assert repository.wanted(index, names) == [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    ]  # fmt: skip


def test_by_its_name_on_the_hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for at the first picture only, in one precision; a gated one and a missing one say so."""
    folder = copied(folders, tmp_path)
    for part in ("unet", "vae"):
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    (folder / "everything.safetensors").write_bytes(b"x" * 1000)
    (folder / "unet" / "run.py").write_text("raise SystemExit")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "config.json").write_text("{}")
    with hub({"me/tiny": folder, "me/gated": folder, "me/chats": tmp_path / "chats"}) as at:
        at.gated.add("me/gated")
        monkeypatch.setenv("HF_ENDPOINT", at.url)
        painter = Diffusion("Tiny", "me/tiny", device="cpu")
        assert "is downloaded at the first picture" in painter.can.needs
        assert not at.requests
        steps = paint(painter)
        assert picture(steps).size == (32, 32)
        assert steps[-1].facts["model"] == "me/tiny"
        assert steps[-1].facts["revision"] == "c0ffee" * 6 + "c0de"
        got = {r.rpartition("/")[2] for r in at.requests if r.startswith("GET")}
        assert "diffusion_pytorch_model.fp16.safetensors" in got
        assert not {"everything.safetensors", "run.py", "diffusion_pytorch_model.safetensors"} & got
        painter.unload()
        asked = len(at.requests)
        assert painter.can.needs == ""
        assert same(picture(paint(Diffusion("Again", "me/tiny", device="cpu"))), picture(steps))
        assert len(at.requests) == asked  # it is here: nobody is asked
        with pytest.raises(BackendError, match="me/gated is gated"):
            paint(Diffusion("Gated", "me/gated", device="cpu"))
        with pytest.raises(BackendError, match=r"me/chats has no model_index\.json on the hub"):
            paint(Diffusion("Chats", "me/chats", device="cpu"))
        with pytest.raises(BackendError, match="no model me/none"):
            paint(Diffusion("None", "me/none", device="cpu"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackendError, match="cannot be reached"):
        paint(Diffusion("Away", "me/away", device="cpu"))
    with pytest.raises(BackendError, match="There is no model at"):
        paint(Diffusion("Nowhere", str(tmp_path / "nowhere"), device="cpu"))
