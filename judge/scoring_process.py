"""The other end of ``judge.scoring_client``: one judge, asked through standard input, answering on standard output.

Ends when its input closes, also in the middle of its work: so none is left over when the studio is killed.
Started by ``python -m judge.scoring_process``; nobody types that.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from judge.examples import Example
from judge.rubric import JudgeError
from judge.scoring_client import Loaded, Memory, receive, send

NICE = 5  # it yields to the person and to the models that answer
NEEDED = "Judges need torch, transformers and peft. Install them with: pip install -c constraints.txt '.[judge]'"
FAULTS = (MemoryError, RuntimeError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError, OSError)
SHORT = "The memory is not enough for this judge. Close other programs, or choose a smaller one."
Request = tuple[str, tuple[Any, ...]]


class Server:
    """One judge and the tree that was sent last."""

    def __init__(self) -> None:
        self.scorer: Any = None
        self.known: Example | None = None

    def load(self, folder: Any, cache: Any, settings: dict[str, Any], threads: int) -> Loaded:
        """Load a judge."""
        import torch

        from judge.scoring import Scorer

        torch.set_num_threads(threads)
        self.scorer = Scorer.load(folder, cache, **settings)
        return Loaded(self.scorer.max_path, tuple(self.scorer.trained))

    def reply(self, path: Any, images: Any, growing: bool) -> Any:
        """Read one reply."""
        return self.scorer.reply(path, images, growing=growing)

    def example(self, example: Example) -> None:
        """Keep a tree for what is asked next."""
        self.known = example

    def tree(self, nodes: list[str]) -> Any:
        """Read replies of that tree; with what could not be read."""
        return self.scorer.tree(self.known, nodes), self.scorer.skipped

    def memory(self) -> Memory:
        """What is held."""
        import torch

        return Memory(len(self.scorer.cache), self.scorer.memory_mb, torch.get_num_threads())


def serve(requests: queue.Queue[Request], out: IO[bytes]) -> None:
    """Answer one request after the other, for ever."""
    server = Server()
    verbs = {verb: getattr(server, verb) for verb in ("load", "reply", "example", "tree", "memory")}
    while True:
        verb, arguments = requests.get()
        try:
            answer = ("answer", verbs[verb](*arguments))
        except JudgeError as error:
            answer = ("error", str(error))
        except ModuleNotFoundError as error:
            answer = ("error", f"{NEEDED} ({error.name} is missing.)")
        except FAULTS as error:  # one reply must not end the judge of all others; our own faults are in the log
            traceback.print_exc()
            answer = ("error", _told(error))
        try:
            send(out, answer)
        except BrokenPipeError:  # nobody waits for it any more
            os._exit(0)


def _told(error: Exception) -> str:
    """What a person reads of an error that nobody foresaw."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error).lower():
        return SHORT
    line = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return f"The judge failed on this ({type(error).__name__}: {line:.200}); the terminal shows where."


def listen(requests: queue.Queue[Request], stream: IO[bytes]) -> None:
    """Take requests until nobody can send any more, then end the process whatever it is doing."""
    with contextlib.suppress(EOFError):
        while True:
            requests.put(receive(stream))
    os._exit(0)


def main() -> None:
    """Keep standard output for answers alone: what libraries print goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if hasattr(os, "nice"):
        os.nice(NICE)
    requests: queue.Queue[Request] = queue.Queue()
    threading.Thread(target=listen, args=(requests, sys.stdin.buffer), daemon=True).start()
    serve(requests, out)


if __name__ == "__main__":
    main()
