"""Runs of models that draw: queued, watched, cancelled, kept one by one; models that draw in settings, catalogue and doctor."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from backends import ModelSpec
from studio import StudioError, api, catalogue, config, doctor, downloads, generating, history, pictures
from studio.actions import Studio
from studio.generating import NONE
from studio.generating_run import Pace
from tests.conftest import wait
from tests.hub import hub
from tests.servers import scripted, silence, status
from tests.test_painting_api import CHANGE, MAKE, png, sent

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers", reason="diffusers is not installed; pip install -e '.[images]'")
    from tests import tiny_painting

    return tiny_painting.stable(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture
def drawing(studio: Studio, pipeline: Path) -> Studio:
    spec = ModelSpec("Tiny", "diffusers", {"model": str(pipeline), "device": "cpu", "steps": 3})
    studio.config = replace(studio.config, image_models=(spec,))
    return studio


def call(studio: Studio, what: str, /, **data: Any) -> dict[str, Any]:
    return api.handle(studio, what, data)


def begin(studio: Studio, model: str = "Tiny", **wish: Any) -> str:
    empty = dict.fromkeys(("width", "height", "steps", "guidance", "seed", "strength", "source", "mask"))
    given = {"model": model, "task": "generate", "prompt": "a cat", "negative": "", "variants": 1, **empty, **wish}
    answer = call(studio, "generate_start", **given)
    assert "error" not in answer, answer
    return str(answer["run"]["id"])


def now(studio: Studio, key: str) -> dict[str, Any]:
    run: dict[str, Any] = call(studio, "generate_poll", run=key)["run"]
    return run


def over(studio: Studio, key: str) -> dict[str, Any]:
    generating.of(studio).run(key).wait(60)
    return now(studio, key)


def server(studio: Studio, base_url: str, **settings: Any) -> None:
    spec = ModelSpec("Server", "openai", {"model": "m", "base_url": base_url, "retries": 0, **settings})
    studio.config = replace(studio.config, image_models=(spec,))


def test_without_a_model_it_says_how_to_get_one(studio: Studio) -> None:
    assert call(studio, "generate") == {"models": [], "none": NONE, "runs": []}
    assert (
        "No image model is called 'X'"
        in call(studio, "generate_start", model="X", task="generate", prompt="x")["error"]
    )
    assert not studio.store.images()


def test_a_run_is_watched_and_each_variant_kept_at_once(drawing: Studio) -> None:
    (model,) = call(drawing, "generate")["models"]
    assert (model["tasks"], model["defaults"]["steps"], model["preview"]) == (["generate", "edit", "inpaint"], 3, True)
    key, seen = begin(drawing, variants=2, seed=11, steps=60.0, negative="dogs"), []
    wait(lambda: seen.append(now(drawing, key)) or seen[-1]["state"] not in ("loading", "running"), 60)
    running = [r for r in seen if r["state"] == "running" and 0 < r["step"] < 60]
    assert all(r["steps"] == 60 for r in running)
    assert any(r["preview"].startswith("data:image/webp;base64,") for r in running)
    left = [r["eta_s"] for r in running if r["eta_s"] is not None]
    assert left[0] > left[-1] >= 0
    assert any(len(r["pictures"]) == 1 for r in running)  # the first is there while the second is drawn
    end = seen[-1]
    assert (end["state"], end["error"], end["preview"], end["eta_s"]) == ("done", "", "", None)
    assert [p["seed"] for p in end["pictures"]] == [11, 12]
    row = drawing.store.images([end["pictures"][0]["sha256"]])[end["pictures"][0]["sha256"]]
    assert (row["origin"], row["tool"], row["prompt"], row["source_sha256"]) == ("generate", "Tiny", "a cat", None)
    kept = {"task": "generate", "negative": "dogs", "width": 32, "height": 32, "steps": 60, "seed": 11, "model": "tiny"}
    assert kept.items() <= row["params"].items()
    again = over(drawing, begin(drawing, seed=12, steps=60, negative="dogs"))
    assert again["pictures"][0]["sha256"] == end["pictures"][1]["sha256"]  # the same seed, the same picture
    assert [r["id"] for r in call(drawing, "generate")["runs"]] == [
        again["id"],
        key,
    ]  # what a page that is opened anew finds
    assert call(drawing, "generate")["models"][0]["loaded"]["loaded"]
    assert not call(drawing, "generate_unload", name="Tiny")["models"][0]["loaded"]["loaded"]


def test_an_edit_is_a_child_of_its_source_and_its_file_tells_how_it_was_made(drawing: Studio) -> None:
    source = pictures.add(drawing, "x.png", base64.b64encode(png("green", (40, 32))).decode())["sha256"]
    mask = Image.new("L", (40, 32), 0)
    mask.paste(255, (0, 0, 9, 9))
    out = io.BytesIO()
    mask.save(out, "PNG")
    run = generating.start(
        drawing, "Tiny", "inpaint", "a door", source=source, mask=base64.b64encode(out.getvalue()).decode(), seed=1
    )
    (made,) = run.wait(60).pictures
    row = drawing.store.images([made])[made]
    assert (row["origin"], row["source_sha256"], row["params"]["task"]) == ("edit", source, "inpaint")
    assert [p["sha256"] for p in pictures.lineage(drawing, made)["pictures"]] == [source, made]
    claimed = history.claimed(pictures.copy_with_history(drawing, made))["params"]["history"]
    assert claimed[-1]["prompt"] == "a door"
    assert claimed[-1]["params"]["seed"] == 1


def test_one_at_a_time_in_order_and_cancelled_within_a_step(drawing: Studio) -> None:
    first, second, third = (begin(drawing, steps=400, variants=2, prompt=p) for p in "abc")
    wait(lambda: now(drawing, first)["step"] > 1, 60)
    assert [now(drawing, r)["state"] for r in (second, third)] == ["waiting", "waiting"]
    call(drawing, "generate_cancel", run=second)
    wait(lambda: now(drawing, second)["state"] == "cancelled", 2)
    at = now(drawing, first)["step"]
    call(drawing, "generate_cancel", run=first)
    end = over(drawing, first)
    assert end["state"] == "cancelled"
    assert end["step"] <= at + 30  # the steps of a tiny model are quicker than two calls
    wait(lambda: now(drawing, third)["state"] == "running", 10)
    drawing.close()
    assert generating.of(drawing).runs[third].state == "cancelled"


def test_what_was_finished_stays_when_the_rest_fails(studio: Studio) -> None:
    gone = status(500, {"error": {"message": "out of memory"}})
    with scripted(paths={MAKE: [sent(png("red")), gone]}) as at:
        server(studio, at.base_url)
        run = over(studio, begin(studio, "Server", variants=3))
    assert (run["state"], len(run["pictures"])) == ("failed", 1)
    assert "out of memory" in run["error"]
    row = studio.store.images([run["pictures"][0]["sha256"]]).popitem()[1]
    assert (row["tool"], row["params"]["server"]) == ("Server", at.base_url.removesuffix("/v1"))
    assert studio.media.verify(row["sha256"])


def test_a_server_that_hangs_is_left_at_once(studio: Studio) -> None:
    with scripted(paths={MAKE: [silence], CHANGE: [silence]}) as at:
        server(studio, at.base_url)
        run = begin(studio, "Server")
        wait(lambda: at.requests, 10)
        call(studio, "generate_cancel", run=run)
        assert over(studio, run)["state"] == "cancelled"
        assert at.hung_up.wait(30)


@pytest.mark.parametrize(
    ("wish", "said"),
    [({"prompt": " "}, "prompt is empty"), ({"width": 0}, "width of 0"), ({"width": 30_001}, "30001 pixels"), ({"steps": 2.5}, "steps = 2.5"),
     ({"task": "edit"}, "no picture to change"), ({"task": "edit", "source": "0" * 64}, "No picture has the hash"),
     ({"task": "edit", "source": "../../etc/passwd"}, "No picture has the hash"), ({"mask": "%%%"}, "did not arrive whole"),
     ({"mask": "A" * 30_000_000}, "The mask has over 20 MB"), ({"variants": 1e9}, "variants = 1000000000"), ({"seed": "x"}, "without what it needs")],
)  # fmt: skip
def test_an_impossible_wish_begins_nothing(wish: dict[str, Any], said: str, drawing: Studio) -> None:
    answer = call(drawing, "generate_start", **{"model": "Tiny", "task": "generate", "prompt": "x", **wish})
    assert said in answer["error"]
    assert not call(drawing, "generate")["runs"]


def test_old_runs_are_forgotten_their_pictures_are_not(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "KEPT", 3)
    with scripted(paths={MAKE: [sent(png((i, 0, 0))) for i in range(6)]}) as at:
        server(studio, at.base_url)
        keys = [begin(studio, "Server") for _ in range(5)]
        over(studio, keys[-1])
        over(studio, begin(studio, "Server"))
    assert len(generating.of(studio).runs) == 3 == len(call(studio, "generate")["runs"])
    assert "no longer known" in call(studio, "generate_poll", run=keys[0])["error"]
    assert len(studio.store.images()) == 6


def test_the_estimate_leaves_out_loading_and_the_slow_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.painting import Step
    from studio import generating_run

    clock = [0.0]
    monkeypatch.setattr(generating_run, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    pace = Pace()
    for number, at in enumerate((0.0, 9.0, 11.0, 13.0)):  # seconds
        clock[0] = at
        pace.take(Step(0, number, 10))
    assert pace.eta_s(Step(0, 3, 10), variants=2) == 34.0  # 17 steps of two seconds
    whole = Pace()
    for at, image in ((0.0, b""), (6.0, b"x"), (6.5, b"")):
        clock[0] = at
        whole.take(Step(0, image=image))
    assert whole.eta_s(Step(1), variants=3) == 12.0  # a server tells no steps: two pictures of six seconds


# ---- the models


def test_added_taken_out_and_round_tripped(studio: Studio, pipeline: Path) -> None:
    file = studio.config.home / "studio.toml"
    file.write_text("# mine\n")
    added = call(studio, "generate_models_add", name="Own", backend="diffusers", model=str(pipeline), device="cpu")
    assert [m["name"] for m in added["models"]] == ["Own"]
    assert file.read_text().startswith("# mine\n")
    assert config.load(studio.config.home).image_models == (
        ModelSpec("Own", "diffusers", {"model": str(pipeline), "device": "cpu"}),
    )
    for data, said in (
        ({"name": "Own", "model": str(pipeline)}, "already called 'Own'"), ({"name": "", "model": str(pipeline)}, "needs a name"),
        ({"name": "A", "model": "/nowhere"}, "There is no model at '/nowhere'"), ({"name": "A", "model": str(pipeline), "colour": 1}, "no setting colour"),
        ({"name": "A", "backend": "openai", "model": "m", "base_url": "http://169.254.1.1"}, "where no server is"),
        ({"name": "A", "backend": "magic", "model": "m"}, "No painter is called 'magic'"),
    ):  # fmt: skip
        assert said in call(studio, "generate_models_add", **{"backend": "diffusers", **data})["error"]
    assert call(studio, "generate_models_remove", name="Own")["models"] == []
    assert "names no model 'Own'" in call(studio, "generate_models_remove", name="Own")["error"]


def test_from_the_catalogue_to_a_picture(studio: Studio, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded in parts and folders, used with the catalogue's settings, told by the doctor, removed with its list entry."""
    entry = next(e for e in catalogue.entries() if e.name == "SD-Turbo")
    home, told = studio.config.home, list[dict[str, Any]]()
    with hub({entry.repository: pipeline}) as at:
        monkeypatch.setenv("HF_ENDPOINT", at.url)
        at.cut["diffusion_pytorch_model.safetensors"] = [10_000]
        downloads.fetch(home, entry.repository, [], told.append)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    where = catalogue.folder(home, entry.repository)
    assert (
        told[-1]["step"]
        == told[-1]["steps"]
        == catalogue.kept_bytes(home, entry) - (where / catalogue.RECORD).stat().st_size
    )
    assert catalogue.here(home, entry)
    assert {p.name for p in where.iterdir()} == {
        "model_index.json",
        "unet",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        catalogue.RECORD,
    }
    row = next(r for r in call(studio, "models")["catalogue"] if r["name"] == entry.name)
    assert (row["state"], row["images"], row["does"].split(",")[0]) == ("here", None, "draws from words")
    assert "error" not in call(studio, "models_use", name=entry.name)
    model = call(studio, "generate")["models"][0]
    assert (model["name"], model["defaults"]["steps"], model["defaults"]["guidance"]) == ("SD-Turbo", 2, 0.0)
    run = over(studio, begin(studio, "SD-Turbo", width=32, height=32, negative="dogs"))
    assert (run["state"], run["steps"]) == ("done", 2)
    assert "negative prompt had no effect" in run["note"]
    found = {f.area: f for f in doctor.inspect(home)}
    assert "draws from words" in found["image model SD-Turbo"].text
    assert found["diffusers"].state == "ok"
    call(studio, "models_remove", name=entry.name)
    assert not studio.config.image_models
    assert not where.exists()


def test_the_doctor_on_models_that_do_not_work(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name, backend, settings in (("Gone", "diffusers", {"model": "/gone"}), ("Away", "diffusers", {"model": "me/away"}),
                                    ("Server", "openai", {"model": "m", "base_url": "http://127.0.0.1:9/v1"})):  # fmt: skip
        config.add_model(home, ModelSpec(name, backend, settings), "image_model")
    found = {f.area: f for f in doctor.inspect(home)}
    assert "There is no model at '/gone'" in found["image model Gone"].text
    assert "is not on this machine" in found["image model Away"].text
    assert "does not answer" in found["image model Server"].text


def test_studio_toml_that_names_no_backend_says_so(tmp_path: Path) -> None:
    (tmp_path / "studio.toml").write_text('[[image_model]]\nname = "x"\n')
    with pytest.raises(StudioError, match=r"Each \[\[image_model\]\] .* needs a name and a backend"):
        config.load(tmp_path)


@pytest.mark.parametrize("name", [n for n in generating.CALLS if n != "generate"])
@pytest.mark.parametrize(
    "data", [{}, [], {"run": None, "name": "../x", "backend": {}}, {"model": None, "task": [], "prompt": None}]
)
def test_rubbish_from_a_page_is_one_line(name: str, data: Any, studio: Studio) -> None:
    assert set(api.handle(studio, name, data)) == {"error"}
