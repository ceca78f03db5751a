"""The command line: exit codes, one JSON object, one clear line, and the settings file behind it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends import ModelSpec
from studio import StudioError, cli, config
from studio.demo import fill
from studio.store import Store


def test_import_export_doctor(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "h")]
    assert cli.main(["import", str(shared / "crucial_step.json"), *home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] > 300
    assert cli.main(["export", str(tmp_path / "x.zip"), *home]) == 0
    assert "trees" in capsys.readouterr().out
    assert cli.main(["import", str(tmp_path / "x.zip"), "--home", str(tmp_path / "h2"), "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["doctor", *home, "--json"]) in (0, 1)  # 1 where llama-cpp-python is missing
    findings = {f["area"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["database"]["state"] == "ok"
    assert "nodes" in findings["database"]["text"]


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["import", "/no/such/file"], 1, "nothing at /no/such/file"),
    (["import"], 2, "path"),
    (["export", "/no/such/folder/x.zip"], 1, "Cannot write"),
    (["fly"], 2, "unrecognized arguments"),
    (["serve", "--port", "x"], 2, "invalid int"),
    (["serve", "--host", "0.0.0.0"], 1, "--allow-remote"),
    (["import", "x", "--format", "pdf"], 2, "invalid choice"),
])  # fmt: skip
def test_wrong_use(
    arguments: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        got = cli.main(arguments)
    except SystemExit as exit:
        got = exit.code
    out = capsys.readouterr()
    assert got == code
    assert says in out.err
    if code == 1:
        assert out.err.count("\n") == 1


def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "/no/such/file", "--json"]) == 1
    assert "nothing at" in json.loads(capsys.readouterr().out)["error"]


def test_help_and_version_are_quick(tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "studio.cli", "--help"], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout
    assert time.monotonic() - start < 5
    assert (
        "intermt-studio 0"
        in subprocess.run(
            [sys.executable, "-m", "studio.cli", "--version"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_the_studio_starts_and_ends(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "studio.cli",
        "serve",
        "--no-browser",
        "--port",
        "0",
        "--home",
        str(tmp_path / "h"),
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert "is open at http://127.0.0.1:" in first.stdout.readline()
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert "Another intermt-studio uses" in second.stderr
    finally:
        first.terminate()
        first.communicate(timeout=20)


def test_a_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert cli.main(["serve", "--no-browser", "--port", str(taken.getsockname()[1]), "--home", str(tmp_path)]) == 1
    assert "--port" in capsys.readouterr().err


def test_the_demo_has_a_tree_with_drawings(tmp_path: Path) -> None:
    tree_id = fill(tmp_path)
    store = Store(tmp_path)
    tree = store.tree(tree_id)
    assert len(tree.dialogues()) == 3
    assert len(store.images()) == 3
    assert store.scores([n.id for n in tree.walk()], "demo")
    store.close()


def test_settings_keep_comments(tmp_path: Path) -> None:
    file = tmp_path / "studio.toml"
    file.write_text("# who I am\nannotator = 'ann'  # me\n\n[[model]]\nname = 'mine'\nbackend = 'echo'\ndelay_ms = 1\n")
    config.add_model(
        tmp_path, ModelSpec("other", "openai", {"model": "m", "base_url": "http://127.0.0.1:1/v1", "key_env": None})
    )
    assert [m.name for m in config.load(tmp_path).models][:2] == ["mine", "other"]
    config.remove_model(tmp_path, "other")
    assert file.read_text().startswith("# who I am\nannotator = 'ann'  # me\n")
    assert config.load(tmp_path).annotator == "ann"
    assert config.load(tmp_path, port=1).port == 1
    for act, says in (
        (lambda: config.add_model(tmp_path, ModelSpec("mine", "echo")), "already called"),
        (lambda: config.add_model(tmp_path, ModelSpec(" ", "echo")), "needs a name"),
        (lambda: config.remove_model(tmp_path, "nobody"), "nobody"),
    ):
        with pytest.raises(StudioError, match=says):
            act()
    for text in ("[[model]]\nname = 'x'\n", "annotator = ", "\x00"):
        file.write_text(text)
        with pytest.raises(StudioError, match=r"studio\.toml"):
            config.load(tmp_path)


def test_a_reader_that_has_read_enough_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studio.cli", "doctor", "--home", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # as `| true` does
        told = process.stderr.read().decode()
    assert "BrokenPipe" not in told
    assert process.returncode == 0
