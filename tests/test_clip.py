"""CLIP in ONNX: pictures made ready as its authors do, kept in the index piece by piece, found by words and by a picture; bad model files."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from backends import BackendError
from backends.retrieve import clip
from studio import StudioError, api, catalogue, checking, config, downloads, finding, models, retrieving
from studio.actions import Studio
from studio.config import Config
from studio.seeing import GET_IT
from tests import tiny_clip
from tests.conftest import ECHO, wait
from tests.hub import hub
from tests.test_checks import dialogue, kept, settled
from tests.test_retrieve import bomb, finish, names, picture

COLOURS = {"one": "red", "two": "green", "three": "blue"}


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def of_colour(colour: str, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A picture of one colour with a little in it, so that its looks can be compared."""
    return Image.blend(
        picture(len(colour), size), Image.new("RGB", size, {"green": "#00ff00"}.get(colour, colour)), 0.8
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_clip.folder(tmp_path / "clip")


@pytest.fixture
def studio(tmp_path: Path, model: Path) -> Iterator[Studio]:
    """A studio with the tiny CLIP."""
    opened = Studio.open(Config(tmp_path / "home", annotator="ann", models=(ECHO,), retrieve={"clip": str(model)}))
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for name, colour in COLOURS.items():
        of_colour(colour).save(root / f"{name}.png")
    (root / "broken.png").write_bytes(png(picture(1))[:200])
    return root


@pytest.fixture
def seen(studio: Studio, folder: Path) -> retrieving.Retriever:
    """A folder that was looked through to its end, by CLIP too."""
    own = retrieving.of(studio)
    own.add(str(folder))
    finish(own)
    return own


# ---- the encoder


def test_words_and_pictures_lie_in_one_space(model: Path) -> None:
    made = clip.Clip(model)
    pictures = made.pictures([of_colour(c) for c in COLOURS.values()])
    texts = made.texts([f"a picture of {c}" for c in COLOURS.values()])
    assert pictures.shape == texts.shape == (3, 3)
    assert np.allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-5)
    assert (pictures @ texts.T).argmax(1).tolist() == [0, 1, 2]
    assert made.pictures([]).shape == (0, 0)
    assert clip.Clip(model).key == made.key != clip.Clip(changed(model)).key


def changed(model: Path) -> Path:
    """The model with another image encoder."""
    path = model / "onnx/vision_model.onnx"
    path.write_bytes(path.read_bytes() + b"\x12\x00")  # the name of its maker, empty
    return model


@pytest.mark.parametrize(("variant", "length"), [("_quantized", 77), ("_fp16", "tokens")])
def test_other_layouts_give_the_same(tmp_path: Path, model: Path, variant: str, length: int | str) -> None:
    other = tiny_clip.folder(tmp_path / "other", variant, length)
    words = ["a red picture", "", "green " * 500]
    fixed = clip.Clip(other).texts(words)
    assert fixed.shape == (3, 3)
    if length != 77:  # where the length is fixed, this model of sums counts what is filled up too
        assert np.allclose(fixed, clip.Clip(model).texts(words))
    assert (fixed @ clip.Clip(other).pictures([of_colour("green")])[0]).argmax() == 2


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (224, 224), (225, 301), (100, 90), (1000, 37)])
def test_a_picture_is_made_ready_as_transformers_does_it(size: tuple[int, int]) -> None:
    processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    image = picture(7, size)
    theirs = processing.CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"][0]
    said = {"mean": (0.48145466, 0.4578275, 0.40821073), "deviation": (0.26862954, 0.26130258, 0.27577711)}
    ours = clip.Look(224, (224, 224), **said).ready(image)
    assert ours.shape == theirs.shape == (3, 224, 224)
    assert np.abs(ours - theirs).max() < 1e-4


def test_transparency_is_white_and_a_thin_line_is_no_bomb() -> None:
    look = clip.Look(16, (16, 16), (0.5,) * 3, (0.5,) * 3)
    assert look.ready(Image.new("RGBA", (20, 20), (0, 0, 0, 0))).min() == 1
    assert look.ready(Image.new("RGB", (30_000, 1))).shape == (3, 16, 16)


# ---- files that are no CLIP


def truncated(model: Path) -> None:
    path = model / "onnx/vision_model.onnx"
    path.write_bytes(path.read_bytes()[:60])


def empty(model: Path) -> None:
    (model / "onnx/text_model.onnx").write_bytes(b"")


def another(model: Path) -> None:
    """Encoders of another model: a text encoder where the image encoder should be."""
    (model / "onnx/vision_model.onnx").write_bytes((model / "onnx/text_model.onnx").read_bytes())


def pickled(model: Path) -> None:
    (model / "onnx/vision_model.onnx").write_bytes(b"\x80\x04\x95" + bytes(2_000))


def without(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def no_json(model: Path) -> None:
    (model / "tokenizer.json").write_text('{"model": ', encoding="utf-8")


def no_words(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}", encoding="utf-8")


def huge(model: Path) -> None:
    said = json.loads((model / "preprocessor_config.json").read_text())
    (model / "preprocessor_config.json").write_text(json.dumps(said | {"size": 10**9}), encoding="utf-8")


def no_look(model: Path) -> None:
    (model / "preprocessor_config.json").write_text("[]", encoding="utf-8")


def wrong_size(model: Path) -> None:
    said = json.loads((model / "preprocessor_config.json").read_text())
    cut = {"size": 32, "crop_size": 32}
    (model / "preprocessor_config.json").write_text(json.dumps(said | cut), encoding="utf-8")


BAD = {truncated: "vision_model.onnx cannot be loaded", empty: "text_model.onnx cannot be loaded", another: "is no encoder of CLIP",
       pickled: "vision_model.onnx cannot be loaded", without: "has no tokenizer.json", no_json: "tokenizer.json cannot be read",
       no_words: "has no vocabulary", huge: "is not CLIP's", no_look: "preprocessor_config.json cannot be read",
       wrong_size: "does not take its input"}  # fmt: skip


@pytest.mark.parametrize("harm", BAD, ids=lambda harm: harm.__name__)
def test_a_bad_model_is_one_clear_line_and_words_still_find(
    studio: Studio, model: Path, folder: Path, harm: Any
) -> None:
    harm(model)
    with pytest.raises(BackendError, match=BAD[harm]) as caught:
        clip.Clip(model).pictures([picture(1)])
        clip.Clip(model).texts(["x"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    own = retrieving.of(studio)
    own.add(str(folder))
    wait(lambda: own.task and own.task.over, 60, "the end of the look")
    assert names(own.search("three", "words")) == ["three.png"]
    answer = api.handle(studio, "retrieve_search", {"words": "blue", "way": "picture"})
    told = answer.get("error") or answer["note"] or own.task.error  # type: ignore[union-attr]
    assert BAD[harm] in told


def test_a_model_never_reads_outside_its_folder(tmp_path: Path, model: Path) -> None:
    import onnx

    (tmp_path / "secret.bin").write_bytes(bytes(12))
    weights = onnx.TensorProto(name="w", data_type=1, dims=[1, 3], data_location=1)
    for key, value in (("location", "../../secret.bin"), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    nodes, takes, gives, _ = tiny_clip.vision()
    nodes[0].output[0] = "mean"
    nodes.append(onnx.helper.make_node("Add", ["mean", "w"], ["image_embeds"]))
    graph = onnx.helper.make_graph(nodes, "g", takes, [gives], [weights])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (model / "onnx/vision_model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(BackendError, match=r"vision_model\.onnx cannot be loaded"):
        clip.Clip(model).pictures([picture(1)])


def test_a_folder_without_permission_is_one_clear_line(tmp_path: Path, model: Path) -> None:
    code = ("import sys; sys.path.insert(0, sys.argv[1])\nimport os\nfrom pathlib import Path\nfrom backends import BackendError\nfrom backends.retrieve import clip\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: clip.found(Path(sys.argv[2]))\nexcept BackendError as error: print(error)")  # fmt: skip
    for parent in (tmp_path, *tmp_path.parents[:2]):  # pytest's own folders are closed to others
        parent.chmod(0o755)
    model.chmod(0)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), str(model)], capture_output=True, text=True, timeout=60
    )
    model.chmod(0o755)
    assert done.stdout == f"Cannot look into '{model}': Permission denied. {clip.EXPECTED}\n", done.stderr
    for path in (tmp_path / "nowhere", Path("/etc/passwd"), Path("/\x00")):
        with pytest.raises(BackendError, match="folder"):
            clip.found(path)


# ---- the index, and searching


def test_words_find_what_pictures_show(studio: Studio, seen: retrieving.Retriever) -> None:
    for name, colour in COLOURS.items():
        (first, *rest) = seen.search(f"a picture of {colour}", "picture").hits
        assert first["path"] == f"{name}.png"
        assert first["shows"] > 0.9 > max(h["shows"] for h in rest)
        assert seen.search(colour, "words").hits == []  # no word says it
    assert [way for way, _ in finding.state(studio)["ways"]] == ["both", "words", "meaning", "picture"]


def test_only_what_is_new_is_looked_at(studio: Studio, seen: retrieving.Retriever, folder: Path) -> None:
    sight, (state,) = seen.sight, seen.index.folders()
    assert sight.kept.count_unseen(state["id"], sight.model.key) == 0
    of_colour("red", (60, 60)).save(folder / "four.png")
    (folder / "five.png").write_bytes((folder / "one.png").read_bytes())  # the same picture again needs no vector
    seen.look([state["id"]])
    finish(seen)
    assert seen.task
    assert (seen.task.note, seen.task.total) == ("looking at pictures", 1)
    assert len(seen.search("red", "picture").hits) <= 4
    (folder / "one.png").unlink()
    seen.look([state["id"]])
    finish(seen)
    assert "one.png" not in names(seen.search("red", "picture"))


def test_vectors_of_another_model_are_not_mixed_in(studio: Studio, seen: retrieving.Retriever) -> None:
    seen.sight.kept.keep_vectors([("0" * 64, b"\x01\x02\x03\x04")], "another model")
    ids, _, rows = seen.sight.kept.vectors(seen.sight.model.key)
    assert (len(ids), len(rows)) == (3, 9)


def test_a_picture_finds_others_like_it(studio: Studio, seen: retrieving.Retriever) -> None:
    mine = kept(studio, of_colour("blue", (90, 90)))
    (first, *_) = api.handle(studio, "retrieve_search", {"words": "", "like": mine})["hits"]
    assert first["path"] == "three.png"
    data = base64.b64encode(png(of_colour("green", (33, 70)))).decode()
    key = api.handle(studio, "retrieve_drop", {"name": "g.png", "data": data})["like"]
    (first, *_) = api.handle(studio, "retrieve_search", {"words": "", "like": key})["hits"]
    assert first["path"] == "two.png"
    assert list(studio.store.images()) == [mine]  # what was dropped is not kept
    taken = api.handle(studio, "retrieve_take", {"id": first["id"], "words": "", "way": "picture"})
    assert studio.store.images([taken["sha256"]])[taken["sha256"]]["params"]["by"] == "picture"


@pytest.mark.parametrize(("data", "said"), [
    (base64.b64encode(bomb()).decode(), "over 40 megapixels once unpacked"), ("###", "did not arrive whole"),
    (base64.b64encode(b"%PDF").decode(), "no PNG, JPEG, WEBP or GIF"), ("A" * 30_000_000, "over 20 MB"), ("", "no PNG, JPEG, WEBP or GIF"),
], ids=["bomb", "no base64", "pdf", "large", "empty"])  # fmt: skip
def test_what_is_dropped_may_be_anything(studio: Studio, data: str, said: str) -> None:
    error = api.handle(studio, "retrieve_drop", {"name": "x.png", "data": data})["error"]
    assert said in error
    assert "\n" not in error
    for like in ("0" * 64, "../../etc/passwd", "x", 1, ["a"]):
        assert "No picture has the hash" in api.handle(studio, "retrieve_search", {"words": "", "like": like})["error"]


def test_without_a_model_one_line_says_how_to_get_one(tmp_path: Path) -> None:
    opened = Studio.open(Config(tmp_path / "bare", annotator="ann", models=(ECHO,)))
    state = finding.state(opened)
    assert [way for way, _ in state["ways"]] == ["both", "words", "meaning"]
    assert GET_IT in state["notes"]
    assert retrieving.of(opened).search("red", "picture").note == GET_IT
    for name, data in (
        ("retrieve_search", {"words": "", "like": "0" * 64}),
        ("retrieve_drop", {"name": "x", "data": ""}),
    ):
        assert api.handle(opened, name, data) == {"error": GET_IT}
    with pytest.raises(StudioError, match="not set up"):
        finding.of_store(opened, "0" * 64)
    opened.close()


def test_the_catalogue_s_model_is_fetched_used_at_once_and_left_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = [e for e in catalogue.entries() if e.backend == "clip"]
    opened = Studio.open(Config(tmp_path / "fresh", annotator="ann", models=(ECHO,)))
    own = retrieving.of(opened)
    with hub({entry.repository: tiny_clip.folder(tmp_path / "remote", "_quantized")}) as at:
        monkeypatch.setenv("HF_ENDPOINT", at.url)
        downloads.fetch(opened.config.home, entry.repository, entry.files, lambda told: None)
    where = catalogue.folder(opened.config.home, entry.repository)
    assert (where / "onnx/vision_model_quantized.onnx").is_file()
    row = lambda: next(r for r in models.state(opened)["catalogue"] if r["name"] == entry.name)  # noqa: E731
    assert (row()["state"], row()["used_by"], row()["images"]) == ("here", [], None)
    assert checking.measuring.of(opened).trouble == GET_IT
    models.use(opened, entry.name)
    assert row()["used_by"] == ["Find a picture"]
    assert config.load(opened.config.home).retrieve == {"clip": str(where)}
    own.add(str(folder))
    finish(own)
    assert names(own.search("blue", "picture"))[0] == "three.png"
    assert checking.measuring.of(opened).trouble == ""
    models.remove(opened, entry.name)
    assert not where.exists()
    assert config.load(opened.config.home).retrieve == {}
    assert own.search("blue", "picture").note == GET_IT
    opened.close()


# ---- a picture and its words


def test_a_picture_is_compared_with_its_caption_and_its_message(studio: Studio) -> None:
    pytest.importorskip("skimage")
    red, blue = kept(studio, of_colour("red", (64, 64))), kept(studio, of_colour("blue", (64, 64)))
    leaf = dialogue(studio, red, blue)
    with_words = {red: "red", blue: "red"}
    for node in studio.store.path(leaf):
        for part in node.images:
            assert part.image_sha256
            with studio.store.write() as db:
                db.execute(
                    "UPDATE parts SET caption = ? WHERE node_id = ? AND kind = 'image'",
                    [with_words[part.image_sha256], node.id],
                )
    answer = settled(studio, "checks_dialogue", leaf=leaf)
    fits = [{n["key"]: n["value"] for n in p["numbers"]}["similarity"] for p in answer["pictures"]]
    assert fits[0] > 0.9 > 0 > fits[1]
    rows = {row["key"]: row["value"] for row in answer["numbers"]}
    assert rows["apart"] > 1
    notes = [r["note"] for r in checking.picture(studio, red)["numbers"] if r["key"] == "similarity"]
    assert notes[0] == "caption: “red”"
    assert answer["notes"] == []


def test_a_model_that_breaks_leaves_the_other_numbers(studio: Studio, model: Path) -> None:
    pytest.importorskip("skimage")
    truncated(model)
    answer = settled(studio, "checks_picture", sha256=kept(studio, picture(1, (64, 64))))
    assert {row["key"] for row in answer["numbers"]} >= {"quality", "blur"}
    assert any("vision_model.onnx cannot be loaded" in note for note in answer["notes"])
