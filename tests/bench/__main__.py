"""Measurements, side by side in one run: `make bench`. The figures are printed, and kept as JSON in `bench-result/`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console

from tests.bench.run import run_bench
from tests.bench.sizes import FULL
from tests.bench.tables import print_bench

RESULT = Path("bench-result")
# The widest table needs so much.
_WIDTH = 130

if __name__ == "__main__":
    terminal = Console()
    console = Console(width=max(_WIDTH, terminal.width))
    bench = run_bench(FULL, RESULT, lambda part: console.print(f"[dim]… {part}[/]"))
    print_bench(bench, console)
    file = RESULT / "bench.json"
    file.write_text(json.dumps(dataclasses.asdict(bench), indent=1) + "\n", encoding="utf-8")
    console.print(f"Kept in {file}.")
