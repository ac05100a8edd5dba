"""Measurements, side by side in one run: `make bench`. The figures are printed, and kept as JSON and Markdown in `bench-result/`.

python -m tests.bench [--section NAME]… [--full]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console

from tests.bench.run import SECTIONS, run_bench
from tests.bench.sizes import ordinary
from tests.bench.tables import print_bench

RESULT = Path("bench-result")
# The widest table needs so much.
_WIDTH = 150


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--section", action="append", choices=tuple(SECTIONS), help="only this one; may be repeated")
    parser.add_argument("--full", action="store_true", help="also what takes hours: Flower's longest sums")
    asked = parser.parse_args()
    console = Console(width=max(_WIDTH, Console().width))
    bench = run_bench(ordinary(asked.full), RESULT, lambda part: console.print(f"[dim]… {part}[/]"), asked.section)
    print_bench(bench, console)
    kept = RESULT / "bench.json"
    kept.write_text(json.dumps(dataclasses.asdict(bench), indent=1) + "\n", encoding="utf-8")
    with (RESULT / "bench.md").open("w", encoding="utf-8") as page:
        print_bench(bench, Console(file=page, width=_WIDTH), markdown=True)
    console.print(f"Kept in {kept} and {page.name}.")


if __name__ == "__main__":
    main()
