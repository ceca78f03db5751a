"""Models of transformers, tiny ones with random weights: replies, images, candidates, reused prefixes, and every refusal."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from backends import BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from backends.hf import Transformers, create
from tests import tiny_chat

pytestmark = pytest.mark.usefixtures("one_thread")

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[transformers]'")
pytest.importorskip("transformers", reason="transformers is not installed; pip install -e '.[transformers]'")

FAMILIES = ("llama", "qwen", "qwen3", "smolvlm", "gemma3", "llava")
WORDS = "words " * 100  # 600 tokens


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What gives the folder of a tiny model by its family; each is made once."""
    home, made = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def get(family: str) -> str:
        if family not in made:
            made[family] = getattr(tiny_chat, family)(home / family)
        return str(made[family])

    return get


@pytest.fixture(scope="module")
def llama(models: Any) -> Transformers:
    return create(models("llama"), device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Noise, and a red one."""
    from PIL import Image as Pillow

    folder = tmp_path_factory.mktemp("pictures")
    Pillow.effect_noise((80, 60), 90).convert("RGB").save(folder / "noise.png")
    Pillow.new("RGB", (80, 60), "red").save(folder / "red.png")
    return [Image(folder / "noise.png", caption="noise"), Image(folder / "red.png", caption="red")]


def ask(*content: Any) -> list[Message]:
    return [Message("user", content)]


def reply(
    model: Transformers, messages: list[Message], stop: threading.Event | None = None, **options: Any
) -> list[Delta]:
    how = Options(**{"max_tokens": 20, "temperature": 0, **options})
    return list(model.stream(messages, how, stop or threading.Event()))


def text(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas)


def candidates(model: Transformers, messages: list[Message], n: int, **options: Any) -> list[list[Delta]]:
    found: list[list[Delta]] = [[] for _ in range(n)]
    how = Options(**{"max_tokens": 20, "temperature": 1.0, **options})
    for i, delta in model.sample(messages, how, n, [threading.Event() for _ in range(n)]):
        found[i].append(delta)
    return found


def logits(model: Transformers, messages: list[Message]) -> Any:
    """What the loaded model scores after a prompt."""
    return model._decoder._read(model._writer.prompt(messages), model._writer)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_tokens_as_generate(family: str, models: Any, pictures: list[Image]) -> None:
    """Read in portions, images in two of them, and written step by step: as transformers' own generate, from the processor's inputs."""
    from PIL import Image as Pillow

    from backends.hf.text import Pieces

    model = create(models(family), device="cpu")
    assert model.capabilities.images_in == (family != "llama")
    shown = [WORDS, pictures[0], WORDS, pictures[1], "and?"] if family != "llama" else [WORDS]
    ours = reply(model, ask(*shown))
    writer, network = model._writer, model._decoder.model
    inputs = {"input_ids": torch.tensor([writer.prompt(ask(*shown)).ids])}
    if family != "llama":
        content = [{"type": "text", "text": c} if isinstance(c, str) else {"type": "image"} for c in shown]
        said = writer.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        seen = [Pillow.open(str(p.path)).convert("RGB") for p in pictures]
        inputs = dict(writer.processor(text=[said], images=seen, return_tensors="pt"))
    with torch.inference_mode():
        out = network.generate(**inputs, max_new_tokens=20, do_sample=False)
        whole = network(**inputs).logits[:, -1]
    theirs = Pieces(writer.tokenizer)
    new = out[0, inputs["input_ids"].shape[1] :].tolist()
    assert text(ours) == "".join(theirs.push(t) for t in new if t not in model._decoder.loaded.ends) + theirs.end()
    assert ours[-1].prompt_tokens == inputs["input_ids"].shape[1]
    assert torch.allclose(logits(model, ask(*shown)), whole, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_images_are_seen(family: str, models: Any, pictures: list[Image]) -> None:
    """Another image has other scores, the same one exactly the same; one without a file is read as its caption."""
    model = create(models(family), device="cpu")
    first = [d for d in reply(model, ask("What?", pictures[0])) if d.phase != "loading"]
    assert reply(model, ask("What?", pictures[0])) == first
    noise, red = (logits(model, ask("What?", p)) for p in pictures)
    assert not torch.allclose(noise, red, atol=1e-3)
    assert torch.equal(noise, logits(model, ask("What?", pictures[0])))
    assert reply(model, ask("What?", Image(None, caption="a kite"))) == reply(model, ask("What?", "<Image, a kite>"))
    assert model.capabilities.images_in


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reused_prefix_changes_nothing(family: str, models: Any, pictures: list[Image]) -> None:
    """Bit for bit, also with another dialogue in between, on an earlier branch, and when only an image differs."""
    shown: list[Any] = [WORDS] if family == "llama" else [WORDS, pictures[0], WORDS]
    branch = [*ask(*shown), Message("assistant", ("Yes.",)), *ask("Why?")]
    other = [*ask("Else: ", *shown)]
    twin = ask(*[pictures[1] if isinstance(c, Image) else c for c in shown])
    cold = create(models(family), device="cpu", cache_mb=0)
    reply(cold, ask("Hi"))
    expected = [logits(cold, m) for m in (ask(*shown), branch, twin)]
    warm = create(models(family), device="cpu")
    for messages in (ask(*shown), other, branch, twin):
        reply(warm, messages, max_tokens=3)
    for messages, scores in zip((ask(*shown), branch, twin), expected, strict=True):
        assert torch.equal(logits(warm, messages), scores)
        assert warm._decoder.reused >= 512
    assert cold._decoder is None  # made room for the other
    prompt = warm._writer.prompt(ask(*shown))
    assert warm._decoder.reused <= len(prompt.ids)


def test_prefixes_are_kept_within_bounds(models: Any) -> None:
    model = create(models("llama"), device="cpu", cache_mb=1)
    for i in range(12):
        reply(model, ask(f"{i} {WORDS}"), max_tokens=1)
        assert model._decoder.store.bytes <= 2**20
    reply(model, ask(f"11 {WORDS}"), max_tokens=1)
    assert model._decoder.reused == 512
    reply(model, ask(f"0 {WORDS}"), max_tokens=1)
    assert model._decoder.reused == 0


def test_counts_and_length(llama: Transformers) -> None:
    deltas = reply(llama, ask("Hello"), max_tokens=7)
    assert deltas[-1].finish == "length"
    assert deltas[-1].completion_tokens == 7
    assert deltas[-1].prompt_tokens == len("user\nHello\n") + 2
    assert [d.phase for d in deltas if d.phase][-1] == "reading"
    assert llama.capabilities.context_length == 4096
    assert not llama.capabilities.parallel
    assert llama.describe() | {"memory_mb": 0} == {"loaded": True, "device": "cpu", "dtype": "float32", "memory_mb": 0}


def test_ends_where_the_model_ends(models: Any, tmp_path: Path) -> None:
    """The first token of a greedy reply, named as the end: an empty reply that stopped."""
    folder = tiny_chat.llama(tmp_path / "short")
    model = create(str(folder), device="cpu")
    reply(model, ask("Hello"))
    first = int(logits(model, ask("Hello")).argmax())
    at = folder / "generation_config.json"
    at.write_text(json.dumps(json.loads(at.read_text()) | {"eos_token_id": [first]}))
    deltas = reply(create(str(folder), device="cpu"), ask("Hello"))
    assert (text(deltas), deltas[-1].finish, deltas[-1].completion_tokens) == ("", "stop", 0)


def test_seeds(llama: Transformers) -> None:
    """Same seed, same reply, whatever came before; nobody else's random numbers are touched."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = text(reply(llama, ask("Go"), temperature=1.0, seed=1))
    assert torch.equal(torch.rand(3), expected)
    assert text(reply(llama, ask("Go"), temperature=1.0, seed=2)) != first
    assert text(reply(llama, ask("Go"), temperature=1.0, seed=1)) == first
    assert text(reply(llama, ask("Go"), temperature=1.0)) != text(reply(llama, ask("Go"), temperature=1.0))


def test_sampling_options(llama: Transformers) -> None:
    greedy = text(reply(llama, ask("Go")))
    for one_left in ({"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1.0}):
        assert text(reply(llama, ask("Go"), temperature=1.0, seed=3, **one_left)) == greedy
    assert text(reply(llama, ask("Go"), temperature=1.0, seed=3)) != greedy
    assert text(reply(llama, ask("Go"), repetition_penalty=5.0)) != greedy
    with pytest.raises(BackendError, match="no grammar"):
        reply(llama, ask("Go"), grammar='root ::= "a"')


def test_candidates_are_those_of_single_replies(llama: Transformers) -> None:
    """Candidate i is the reply with seed + i; the prompt is read once."""
    together = candidates(llama, ask("Go"), 4, seed=10)
    alone = [reply(llama, ask("Go"), temperature=1.0, seed=10 + i) for i in range(4)]
    assert [text(c) for c in together] == [text(a) for a in alone]
    assert [c[-1] for c in together] == [a[-1] for a in alone]
    assert len({text(c) for c in together}) == 4


def test_a_candidate_stops_alone(llama: Transformers) -> None:
    stops = [threading.Event() for _ in range(3)]
    whole = candidates(llama, ask("Go"), 3, seed=1, max_tokens=30)
    found: list[list[Delta]] = [[], [], []]
    for i, delta in llama.sample(ask("Go"), Options(max_tokens=30, temperature=1.0, seed=1), 3, stops):
        found[i].append(delta)
        if sum(d.phase is None for d in found[1]) == 2:
            stops[1].set()
    assert found[1][-1].finish is None
    assert 0 < (found[1][-1].completion_tokens or 0) < 10
    assert text(whole[1]).startswith(text(found[1]).rstrip("\ufffd"))
    assert [text(found[i]) for i in (0, 2)] == [text(whole[i]) for i in (0, 2)]


def test_stop_within_a_token(llama: Transformers) -> None:
    stop, seen, after = threading.Event(), 0, 0
    for delta in llama.stream(ask("Go"), Options(max_tokens=500, temperature=1.0, seed=1), stop):
        after += bool(stop.is_set())
        seen += bool(delta.text)
        if seen == 5:
            stop.set()
    assert after <= 1
    assert delta.finish is None
    assert delta.completion_tokens is not None
    assert delta.completion_tokens < 30


def test_stop_while_reading(llama: Transformers) -> None:
    stop, deltas = threading.Event(), []
    for delta in llama.stream(ask("Stop " * 700), Options(), stop):
        deltas.append(delta)
        stop.set()  # the first piece says that reading begins
    assert [d.phase for d in deltas] == ["reading", None]
    assert deltas[-1].finish is None
    assert deltas[-1].completion_tokens == 0
    reply(llama, ask("Stop " * 700), max_tokens=1)
    assert llama._decoder.reused == 0  # nothing had been read


def test_one_at_a_time_and_stop_while_waiting(llama: Transformers) -> None:
    first: Any = llama.stream(ask("Go"), Options(max_tokens=500), threading.Event())
    next(first)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    start = time.perf_counter()
    assert [d.phase for d in reply(llama, ask("Go"), stop)] == ["waiting"]
    assert 0.15 < time.perf_counter() - start < 2
    first.close()  # a reader who went away leaves the model to the next one
    assert reply(llama, ask("Go"))[-1].finish == "length"


def test_loading_another_frees_the_first(models: Any) -> None:
    pool = Pool()
    one, two = (ModelSpec(f, "transformers", {"model": models(f), "device": "cpu"}) for f in ("llama", "qwen"))
    first: Any = pool.get(one)
    before = text(reply(first, ask("Hi")))
    gone = weakref.ref(first._decoder.model)
    second: Any = pool.get(two)
    reply(second, ask("Hi"))
    gc.collect()
    assert gone() is None
    assert not first.describe()["loaded"]
    assert second.unload()
    assert not second.describe()["loaded"]
    assert text(reply(first, ask("Hi"))) == before
