"""Keys: where they come from, the one origin each may go to, and everywhere they must not be found."""

from __future__ import annotations

import importlib.util
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from keyring import get_keyring, set_keyring
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError

from backends import BackendError, ModelSpec, keys
from backends.openai import create, list_models
from backends.openai.connection import Connection
from backends.openai.settings import checked
from backends.servers import presets
from studio import StudioError, actions, doctor, exchange
from studio.actions import Studio, servers
from studio.config import add_model
from tests.conftest import how, settle
from tests.servers import events, piece, scripted, status
from tests.test_openai import HELLO, KEY, reply

OTHER = "sk-other-9876543210"


class Memory(KeyringBackend):
    """A keyring of the keyring package's own kind, for one test."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("Failed to unlock the collection!")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringLocked("Failed to unlock the collection!")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise PasswordDeleteError("none")
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def memory() -> Iterator[Memory]:
    """A keyring that opens, and nothing typed before."""
    before, made = get_keyring(), Memory()
    set_keyring(made)
    keys._typed.clear()
    yield made
    keys._typed.clear()
    set_keyring(before)


def sent(server: object) -> list[str]:
    return [r.headers["authorization"].removeprefix("Bearer ") for r in server.requests]  # type: ignore[attr-defined]


def test_a_kept_key_goes_to_its_origin_and_to_no_other(memory: Memory) -> None:
    with scripted(HELLO) as one, scripted(HELLO) as two:
        keys.keep(one.base_url, f" {KEY} ")
        keys._typed.clear()  # as after a start
        reply(create("m", one.base_url, keyring=True))
        reply(create("m", two.base_url, keyring=True))
        reply(create("m", one.base_url))  # not told to look there
        assert (sent(one), sent(two)) == ([KEY, "none"], ["none"])
        assert list(memory.kept) == [("intermt-studio", one.base_url.removesuffix("/v1"))]
        keys.forget(one.base_url)
        keys.forget(one.base_url)
        assert memory.kept == {}
        reply(create("m", one.base_url, keyring=True))
        assert sent(one)[-1] == "none"


def test_an_origin_is_scheme_host_and_port() -> None:
    keys.use("https://a.example/v1", KEY)
    assert keys.find("https://A.example:443/other", None, False) == KEY
    for elsewhere in (
        "http://a.example/v1",
        "https://a.example:8443/v1",
        "https://b.a.example/v1",
        "https://a.example.b/v1",
    ):
        assert keys.find(elsewhere, None, False) is None


def test_a_typed_key_comes_before_the_variable_and_the_variable_before_the_keyring(
    monkeypatch: pytest.MonkeyPatch, memory: Memory
) -> None:
    url = "https://a.example/v1"
    memory.kept["intermt-studio", "https://a.example:443"] = "from-keyring"
    assert keys.find(url, "MY_KEY", True) == "from-keyring"
    monkeypatch.setenv("MY_KEY", "from-variable")
    assert keys.find(url, "MY_KEY", True) == "from-variable"
    keys.use(url, "typed")
    assert keys.find(url, "MY_KEY", True) == "typed"


def test_a_well_known_variable_goes_to_its_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with scripted(HELLO) as server:
        line = f"The key in OPENAI_API_KEY is for https://api.openai.com:443 and stays there; this model is at {server.base_url[:-3]}"
        with pytest.raises(BackendError, match=line):
            list_models({"base_url": server.base_url, "key_env": "OPENAI_API_KEY"})
    assert server.requests == []
    create("m", "https://api.openai.com/v1/", key_env="OPENAI_API_KEY")


def test_a_redirect_takes_no_kept_key_along() -> None:
    with (
        scripted(HELLO) as elsewhere,
        scripted(status(307, location=f"{elsewhere.base_url}/chat/completions")) as server,
    ):
        keys.use(server.base_url, KEY)
        with pytest.raises(BackendError, match="points elsewhere"):
            reply(create("m", server.base_url))
        assert sent(server) == [KEY]
    assert elsewhere.requests == []


@pytest.mark.parametrize("missing", [fail.Keyring, null.Keyring])
def test_no_keyring_here_is_said(missing: type[KeyringBackend]) -> None:
    set_keyring(missing())
    assert "no OS keyring that can be used" in keys.trouble()
    with pytest.raises(BackendError, match=r"no OS keyring.* works for http://127\.0\.0\.1:9 until the studio ends"):
        keys.keep("http://127.0.0.1:9/v1", KEY)
    assert keys.find("http://127.0.0.1:9/v1", None, True) == KEY  # until then
    with pytest.raises(BackendError, match=r"should be in the OS keyring.*name a variable with key_env"):
        keys.find("http://127.0.0.1:10/v1", None, True)
    keys.forget("http://127.0.0.1:9/v1")


def test_keyring_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keyring" else found(name))
    assert keys.trouble() == "The package keyring is not installed: pip install 'intermt-studio[keyring]'."


def test_a_locked_keyring_is_said(memory: Memory) -> None:
    memory.locked = True
    with pytest.raises(BackendError, match=r"does not open \(Failed to unlock the collection!\). Unlock it and retry"):
        reply(create("m", "http://127.0.0.1:9/v1", keyring=True))
    with pytest.raises(BackendError, match="did not take the key"):
        keys.keep("http://127.0.0.1:9/v1", KEY)


def test_refusals_say_where_the_key_is(memory: Memory) -> None:
    def line(url: str, **settings: object) -> str:
        with pytest.raises(BackendError) as caught:
            reply(create("m", url, **settings))
        assert KEY not in str(caught.value)
        return str(caught.value)

    with scripted(status(401, {"error": {"message": "No"}})) as server:
        assert "the OS keyring has none for it (No)" in line(server.base_url, keyring=True)
    with scripted(status(401, {"error": {"message": f"No: {KEY}"}})) as server:
        keys.keep(server.base_url, KEY)
        assert "the one in the OS keyring was refused (No: ***)" in line(server.base_url, keyring=True)
        assert "the one typed under Settings was refused" in line(server.base_url)


def test_impossible_keys_and_extra_that_would_hold_one() -> None:
    with pytest.raises(BackendError, match="The key typed has characters that no key has"):
        keys.use("http://127.0.0.1:9/v1", "sk-\u20ac")
    with pytest.raises(BackendError, match="so it may hold no key"):
        create("m", "http://127.0.0.1:9/v1", extra={"api_key": KEY})


def test_presets_are_servers_that_can_be_added() -> None:
    names = [p.name for p in presets()]
    assert names == [
        "OpenAI",
        "OpenRouter",
        "vLLM",
        "SGLang",
        "Ollama",
        "LM Studio",
        "llama.cpp server",
        "transformers serve",
    ]
    for p in presets():
        settings = checked({"model": "m", "base_url": p.base_url, "key_env": p.key_env, **p.settings})
        assert Connection(settings).settings.base_url == p.base_url


# ---- the form, and everywhere a key must not be


def test_form_lists_tries_and_adds(studio: Studio, memory: Memory) -> None:
    offered = status(200, {"data": [{"id": "small"}, {"id": "large"}]})
    with scripted(
        events(piece(delta={"reasoning": "Hm."}), piece("Paris"), piece(finish="stop")), models=offered
    ) as server:
        where = servers.form("Ollama", server.base_url + "/", "", KEY)
        assert servers.listed(where) == ["small", "large"]
        said = servers.tried(where, "small")
        assert "it sent 3 characters of reasoning, and “Paris”" in said
        assert said.startswith("It works: 0.")
        assert servers.add(studio, where, "small", "", KEY).startswith("Added 'small'. Its key is in the OS keyring.")
    assert studio.config.model("small").settings == {
        "model": "small", "n": False, "sampling": ["top_p", "stop_strings", "json_schema"], "base_url": server.base_url,
        "keyring": True}  # fmt: skip
    assert set(sent(server)) == {KEY}
    with pytest.raises(StudioError, match="already called 'small'"):
        servers.add(studio, where, "small", "", "")
    with pytest.raises(StudioError, match="Which model"):
        servers.tried(where, " ")
    with pytest.raises(StudioError, match="needs a base URL"):
        servers.form("Another one", " ", "", "")


def test_form_without_a_keyring_adds_and_says_for_how_long(studio: Studio) -> None:
    set_keyring(fail.Keyring())
    where = servers.form("Another one", "http://127.0.0.1:9/v1", "", KEY)
    assert "until the studio ends" in servers.add(studio, where, "m", "mine", KEY)


def test_a_server_without_models_says_so() -> None:
    with scripted(models=status(200, {"data": []})) as server, pytest.raises(StudioError, match="offers no model"):
        servers.listed({"base_url": server.base_url})


def test_keys_are_found_nowhere(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the database, studio.toml, any other file of the home, the log, or an export; not even when a server repeats it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", OTHER)
    repeats = [status(401, {"error": {"message": f"Wrong: {key}"}}) for key in (KEY, OTHER)]
    with scripted(events(piece("Hi"), piece(finish="stop")), *repeats) as server:
        where = servers.form("Another one", server.base_url, "", KEY)
        servers.add(studio, where, "m", "typed", KEY)
        for _ in range(2):
            actions.ask(studio, [], "Hi", [], how("typed"))
            settle(studio)
        keys.forget(server.base_url)
        spec = ModelSpec("variable", "openai", {"model": "m", "base_url": server.base_url, "key_env": "MY_KEY"})
        actions.add_model(studio, spec)
        actions.ask(studio, [], "Hi", [], how("variable"))
        settle(studio)
    assert sent(server) == [KEY, KEY, OTHER]
    out = tmp_path / "out.zip"
    exchange.export_studio(studio.store, studio.media, out)
    with zipfile.ZipFile(out) as archive:
        exported = b"".join(archive.read(name) for name in archive.namelist())
    studio.store.close()
    home = b"".join(p.read_bytes() for p in studio.config.home.rglob("*") if p.is_file())
    assert b"typed" in home
    assert b"base_url" in home
    assert b"Wrong: ***" in home
    everywhere = home + exported + caplog.text.encode()
    assert not [key for key in (KEY, OTHER) if key.encode() in everywhere]


def test_doctor_says_when_a_key_cannot_be_had(tmp_path: Path) -> None:
    add_model(tmp_path, ModelSpec("far", "openai", {"model": "m", "base_url": "https://a.example/v1", "keyring": True}))
    assert {f.area: f for f in doctor.inspect(tmp_path)}["model far"].state == "ok"
    set_keyring(fail.Keyring())
    found = {f.area: f for f in doctor.inspect(tmp_path)}["model far"]
    assert (found.state, found.text) == ("warn", "https://a.example/v1, key from the OS keyring")
