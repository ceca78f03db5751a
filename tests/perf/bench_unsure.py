"""Does the queue of what the judge is least sure of teach it sooner than a random one? A simulation with known labels, told whatever it is.

Real dialogues, damaged copies, the built-in backbone as it is (``judge.experiments.queue``): minutes, mostly of reading.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.perf import Row, Unavailable

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "crucial_step.json"


def measure() -> list[Row]:
    """One row, without a goal: accuracy with the unsure queue over that with the random one, mean of the rounds, seed by seed."""
    if not DATA.is_file():
        raise Unavailable(f"no dialogues at {DATA}")
    try:
        from judge.experiments import queue
        from judge.rubric import JudgeError
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed; make perf installs it") from error
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            found = queue.simulate(_examples(home), queue.Recipe(), home / "backbones")
        except JudgeError as error:
            raise Unavailable(str(error)) from error
    print("\n".join(queue.lines(found)), file=sys.stderr)
    by_seed = [statistics.mean(u[1:]) / statistics.mean(r[1:])
               for u, r in zip(found["runs"]["unsure"], found["runs"]["random"], strict=True)]  # fmt: skip
    low, middle, high = statistics.quantiles(by_seed, n=4, method="inclusive")
    whole = found["rows"][-1]
    span = whole["difference"]["interval"]
    detail = (f"{whole['unsure']['mean']:.3f} / {whole['random']['mean']:.3f} accuracy, mean of {found['recipe']['rounds']} rounds; "
              f"difference {whole['difference']['mean']:+.3f} [{span[0]:+.3f}, {span[1]:+.3f}]")  # fmt: skip
    name = "unsure queue / random queue, accuracy in a simulation"
    return [Row(name, round(middle, 3), None, len(by_seed), (round(low, 3), round(high, 3)), detail)]


def _examples(home: Path) -> list[Any]:
    from studio import exchange, teaching
    from studio.media import Media
    from studio.store import Store

    store = Store(home)
    try:
        exchange.import_path(store, Media(home), DATA, skip_bad=True)
        return teaching.examples(store, Media(home))
    finally:
        store.close()
