"""Long work in a process of its own: start, watch, stop, go on. It outlives the page and the studio.

A job writes JSON lines into ``HOME/jobs/<id>.jsonl`` and its answer into ``<id>.json``; whoever looks brings the row in the
table up to date. So nothing is lost when nobody watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from studio import StudioError
from studio.store import Store

NICE = 10  # training yields to the person
STARTED: dict[int, subprocess.Popen[bytes]] = {}  # ours are waited for, or they stay zombies that look alive


def start(store: Store, kind: str, arguments: list[str], payload: dict[str, Any]) -> str:
    """Run ``intermt-studio ARGUMENTS --json`` as a job; returns its id. Raises StudioError when it cannot be started."""
    job_id = store.add_job(kind, payload | {"arguments": arguments})
    _spawn(store, job_id, arguments)
    return job_id


def go_on(store: Store, job_id: str) -> None:
    """Start a stopped or failed job again; what it kept is where it goes on."""
    job = _job(store, job_id)
    if job["status"] == "running":
        raise StudioError("This job is running. Stop it first.")
    store.update_job(job_id, status="running", error=None, message=None, finished_at=None)
    _spawn(store, job_id, job["payload"]["arguments"])


def stop(store: Store, job_id: str) -> None:
    """Ask a job to stop after its step; what it did is kept. Twice: at once."""
    job = _job(store, job_id)
    if job["status"] == "running" and job["pid"] and _alive(job["pid"], job_id):
        os.kill(job["pid"], signal.SIGTERM)
        store.update_job(job_id, message="Stopping after this step ...")


def refresh(store: Store) -> list[dict[str, Any]]:
    """Every job, newest first, with what it has said until now: ``lines`` are its JSON lines, ``answer`` what it ended with."""
    found = []
    for job in store.jobs():
        lines = _lines(_path(store, job["id"], ".jsonl"))
        steps = [line for line in lines if "step" in line]
        if job["status"] == "running":
            job |= _ended(store, job) if not _alive(job["pid"], job["id"]) else _progress(steps)
        found.append(job | {"lines": steps, "answer": _answer(_path(store, job["id"], ".json"))})
    return found


def _spawn(store: Store, job_id: str, arguments: list[str]) -> None:
    folder = store.home / "jobs"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "studio.cli", *arguments, "--home", str(store.home), "--json"]
    try:
        with _path(store, job_id, ".json").open("wb") as out, _path(store, job_id, ".jsonl").open("ab") as err:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env=os.environ | {"INTERMT_STUDIO_JOB": job_id}, preexec_fn=_yield if os.name == "posix" else None,
            )  # fmt: skip
    except OSError as error:
        store.update_job(job_id, status="failed", error=str(error))
        raise StudioError(
            f"The job cannot be started: {error.strerror}. Free some space or memory, then go on with it."
        ) from error
    STARTED[process.pid] = process
    store.update_job(job_id, pid=process.pid)


def _yield() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICE)


def _progress(steps: list[dict[str, Any]]) -> dict[str, Any]:
    if not steps:
        return {"progress": 0.0}
    last = steps[-1]
    return {"progress": last["step"] / max(1, last["steps"]), "eta_s": last.get("eta_s")}


def _ended(store: Store, job: dict[str, Any]) -> dict[str, Any]:
    answer = _answer(_path(store, job["id"], ".json"))
    change: dict[str, Any]
    if answer is None:
        said = _last_words(_path(store, job["id"], ".jsonl"))
        error = (
            f"It ended without an answer: {said}" if said else "It was killed. Go on with it: nothing whole is lost."
        )
        change = {"status": "failed", "error": error}
    elif "error" in answer:
        change = {"status": "failed", "error": answer["error"]}
    elif answer.get("interrupted"):
        change = {"status": "stopped", "message": f"Stopped after step {answer['steps']}."}
    else:
        change = {"status": "done", "progress": 1.0, "message": None}
    store.update_job(job["id"], **change)
    return change


def _alive(pid: int | None, job_id: str) -> bool:
    if not pid:
        return False
    if pid in STARTED:
        if STARTED[pid].poll() is None:
            return True
        del STARTED[pid]
        return False
    try:  # started by a studio that is gone; the number may belong to somebody else by now
        return f"INTERMT_STUDIO_JOB={job_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return not Path("/proc").is_dir()


def _path(store: Store, job_id: str, suffix: str) -> Path:
    return store.home / "jobs" / f"{job_id}{suffix}"


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                if isinstance(read := json.loads(line), dict):
                    found.append(read)
    return found


def _answer(path: Path) -> dict[str, Any] | None:
    lines = _lines(path)
    return lines[-1] if lines else None


def _last_words(path: Path) -> str:
    with contextlib.suppress(OSError):
        words = [
            w
            for w in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if w.strip() and not w.startswith("{")
        ]
        return words[-1][:300] if words else ""
    return ""


def _job(store: Store, job_id: str) -> dict[str, Any]:
    for job in store.jobs():
        if job["id"] == job_id:
            return job
    raise StudioError(f"There is no job {job_id!r:.40}. Reload the page.")
