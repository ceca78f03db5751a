"""Long work in a process of its own: start, watch, stop, go on. It outlives the page and the studio.

A job writes JSON lines into ``HOME/jobs/<id>.jsonl`` and its answer into ``<id>.json``; whoever looks brings the row in the
table up to date. So nothing is lost when nobody watches. Never knows what the work is about.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from backends.threads import waiting
from studio import StudioError
from studio.store import Store
from studio.store.connection import now

NICE = 10  # training yields to the person
BESIDE = ("download", "check")  # kinds that need hardly a processor: they run beside others
STOPPING = "Pausing after this step ..."
LOG_LINES = 40  # of a job's log that a screen shows
STARTED: dict[str, subprocess.Popen[bytes]] = {}  # by job: ours are waited for, or they stay zombies
LOCK = threading.RLock()  # a job between its row and its process must not look dead to who watches


def start(store: Store, kind: str, arguments: list[str], payload: dict[str, Any]) -> str:
    """Run ``intermt-studio ARGUMENTS --json`` as a job; returns its id.

    Raises:
        StudioError: another job is running that this one does not run beside, or the process cannot be started.
    """
    with LOCK:
        _check_free(store, kind)
        job_id = store.add_job(kind, payload | {"arguments": arguments})
        _spawn(store, job_id, arguments)
    return job_id


def go_on(store: Store, job_id: str, payload: dict[str, Any] | None = None, more: tuple[str, ...] = ()) -> None:
    """Start a stopped or failed job again; what it kept is where it goes on.

    ``more``: arguments of this time alone. ``payload``: what is known of it from now on; given, it begins anew: what it
    wrote of its steps until now is dropped.

    Raises:
        StudioError: no such job, it is done, a job is running, or the process cannot be started.
    """
    with LOCK:
        job = _job(store, job_id)
        _check_free(store, job["kind"])
        if job["status"] == "done":
            raise StudioError("This job is done; there is nothing to resume. Start a new one.")
        anew: dict[str, Any] = {}
        if payload is not None:
            anew = {"payload": json.dumps(job["payload"] | payload), "started_at": now(), "progress": 0.0}
            _path(store, job_id, ".jsonl").unlink(missing_ok=True)
        store.update_job(job_id, status="running", pid=None, error=None, message=None, finished_at=None, **anew)
        _spawn(store, job_id, [*job["payload"]["arguments"], *more])


def stop(store: Store, job_id: str) -> None:
    """Ask a job to stop after its step; what it did is kept. Twice: at once, back to what it last kept."""
    with LOCK:
        job = _job(store, job_id)
        if job["status"] != "running" or not _alive(job):
            return
        again = job["message"] == STOPPING
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            os.kill(job["pid"], getattr(signal, "SIGKILL", signal.SIGTERM) if again else signal.SIGTERM)
        store.update_job(job_id, message=STOPPING)


def refresh(store: Store) -> list[dict[str, Any]]:
    """Every job, newest first, with what it wrote until now: ``lines`` are its steps in order, ``answer`` what it ended
    with, ``stage`` the line that tells its present stage (``{"stage", "done", "of", "eta_s"}``; None before the first)."""
    found = []
    with LOCK:
        for job in store.jobs():
            steps = _steps(_path(store, job["id"], ".jsonl"))
            if job["status"] == "running":
                job |= _progress(steps) if _alive(job) else _ended(store, job)
            stage = _stage(_path(store, job["id"], ".jsonl"))
            found.append(job | {"lines": steps, "stage": stage, "answer": _answer(_path(store, job["id"], ".json"))})
    return found


def log(store: Store, job_id: str) -> list[str]:
    """The last lines that a job wrote, oldest first, as they are. Raises StudioError when there is no such job."""
    path = _path(store, _job(store, job_id)["id"], ".jsonl")
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400 * LOG_LINES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line[:400] for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _check_free(store: Store, kind: str) -> None:
    for job in refresh(store) if kind not in BESIDE else ():
        if job["status"] == "running" and job["kind"] not in BESIDE:
            name = job["payload"].get("name", job["kind"])
            raise StudioError(f"{name!r:.60} is still running. Stop it, or wait until it is done.")


def _spawn(store: Store, job_id: str, arguments: list[str]) -> None:
    folder = store.home / "jobs"
    command = [sys.executable, "-m", "studio.cli", *arguments, "--home", str(store.home), "--json"]
    try:
        folder.mkdir(exist_ok=True)
        # threads that wait do not burn the processors that the person's models need
        with _path(store, job_id, ".json").open("wb") as out, _path(store, job_id, ".jsonl").open("ab") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                                       env={**os.environ, **waiting(), "INTERMT_STUDIO_JOB": job_id})  # fmt: skip
    except OSError as error:
        line = f"The job cannot be started: {error.strerror}. Free some space or memory, then resume it."
        store.update_job(job_id, status="failed", error=line)
        raise StudioError(line) from error
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it has ended already, or may not be made nicer
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    STARTED[job_id] = process
    store.update_job(job_id, pid=process.pid)


def _progress(steps: list[dict[str, Any]]) -> dict[str, Any]:
    if not steps:
        return {"progress": 0.0}
    last = steps[-1]
    return {"progress": last["step"] / max(1, last["steps"]), "eta_s": last.get("eta_s")}


def _ended(store: Store, job: dict[str, Any]) -> dict[str, Any]:
    """How a job ended that was running, by its answer; written to its row."""
    answer = _answer(_path(store, job["id"], ".json"))
    change: dict[str, Any] = {"message": None}
    if answer is None and job["message"] == STOPPING:
        change |= {"status": "stopped", "message": "Paused. Resume: it goes on from what it last kept."}
    elif answer is None:
        said = _last_words(_path(store, job["id"], ".jsonl"))
        words = f" Its last words: {said}" if said else ""
        change |= {"status": "failed", "error": f"It was killed or broke off. Resume: it goes on from what it last kept.{words}"}  # fmt: skip
    elif "error" in answer:
        change |= {"status": "failed", "error": answer["error"]}
    elif answer.get("interrupted"):
        change |= {"status": "stopped", "message": f"Paused after step {answer['steps']}."}
    else:
        change |= {"status": "done", "progress": 1.0}
    store.update_job(job["id"], **change)
    return change


def _alive(job: dict[str, Any]) -> bool:
    """Whether a job's own process runs; another one that was given the same number does not count."""
    pid, job_id = job["pid"], job["id"]
    if job_id in STARTED:
        if STARTED[job_id].poll() is None:
            return True
        del STARTED[job_id]
        return False
    if not pid or os.name != "posix":  # elsewhere signal 0 would end it
        return False
    if Path(
        "/proc/self/environ"
    ).exists():  # started by a studio that is gone; the number may be somebody else's by now
        with contextlib.suppress(OSError):
            return f"INTERMT_STUDIO_JOB={job_id}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True


def _path(store: Store, job_id: str, suffix: str) -> Path:
    return store.home / "jobs" / f"{job_id}{suffix}"


def _steps(path: Path) -> list[dict[str, Any]]:
    """What was said of each step, in order; a step that was done again after a kill counts as it went the last time."""
    steps: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in _lines(path):
        if "step" in line:
            steps[line["step"], "eval_loss" in line] = line
    return [steps[key] for key in sorted(steps)]


def _stage(path: Path) -> dict[str, Any] | None:
    """The last line that tells a stage and how far it is."""
    told = (line for line in reversed(_lines(path)) if "stage" in line and ("of" in line or "step" in line))
    return next(told, None)


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)  # a screen asks every second for jobs that ended long ago
def _read(path: Path, size: int, changed_ns: int) -> tuple[dict[str, Any], ...]:
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # words, or a line that is being written
                if isinstance(read := json.loads(line), dict):
                    found.append(read)
    return tuple(found)


def _answer(path: Path) -> dict[str, Any] | None:
    lines = _lines(path)
    return lines[-1] if lines else None


def _last_words(path: Path) -> str:
    """The last line that is no JSON after the last step: what a traceback ends with, not an old warning."""
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines and lines[-1].strip() and not lines[-1].startswith("{"):
            return lines[-1].strip()[:300]
    return ""


def _job(store: Store, job_id: str) -> dict[str, Any]:
    for job in store.jobs():
        if job["id"] == job_id:
            return job
    raise StudioError(f"There is no job {job_id!r:.40}. Reload the page.")
