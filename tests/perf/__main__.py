"""``python -m tests.perf [name...]``: measure, print one table, write ``tests/perf/results.json``.

Every figure is a ratio against a peer in the same run. A missed goal is printed as missed; it is no error.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from tests.perf import Row, Unavailable

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
NAMES = sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
LINE = "{:44} {:>7} {:>8} {:>5} {:>4} {:>15}  {}"


def main() -> None:
    """Run the named benchmarks, or all; keep what each found as soon as it is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"all, or some of: {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    rows: list[Row] = []
    try:
        for name in names:
            print(f"measuring {name} ...", flush=True)
            rows += measured(name)
    finally:  # a benchmark that breaks takes no other's figures with it
        print(table(rows))


def measured(name: str) -> list[Row]:
    """The rows of one benchmark, kept; none where it cannot run here, which is said."""
    try:
        found: list[Row] = importlib.import_module(f"tests.perf.bench_{name}").measure()
    except Unavailable as reason:
        print(f"left out {name}: {reason}")
        return []
    keep(found)
    return found


def keep(rows: list[Row]) -> None:
    """Put the rows into ``results.json`` in place of older ones of the same name."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    new = [row.record() for row in rows]
    kept = [r for r in old if r["name"] not in {row.name for row in rows}]
    RESULTS.write_text(json.dumps(kept + new, indent=2) + "\n", encoding="utf-8")


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [LINE.format("what", "ratio", "goal", "met", "n", "spread", "medians")]
    for r in rows:
        met = {True: "yes", False: "NO", None: "-"}[r.met]
        spread = f"{r.spread[0]:.3f}-{r.spread[1]:.3f}"
        lines.append(LINE.format(r.name, f"{r.ratio:.3f}", r.goal or "-", met, r.n, spread, r.detail))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
