"""Run a scenario: its cells over the cores there are, each finished one kept, none run twice.

    output/
      cells/<key>.json       the rows of one cell, by the hash of all its settings; a run that was cut off goes on from these
      results.parquet        all rows
      report.html            with plots

Cells are independent and seeded, so results do not depend on how many run at once or in which order they end.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits

from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.row_blocks import THREADS_VARIABLE
from fed_em_simulations.experiment import reason_of
from fed_em_simulations.results import FAILURE, REPLICATE, Results, Row
from fed_em_simulations.scenario import Cell, Scenario

RESULTS_FILE = "results.parquet"
_CELLS = "cells"


def simulate(
    scenario: Scenario,
    output: Path | None = None,
    jobs: int = 1,
    fresh: bool = False,
    finished: Callable[[int, int], None] = lambda _done, _total: None,
) -> Results:
    """Run every cell of a scenario that has not been run. One that fails has a row that says so, as it would again.

    Args:
        scenario: What to run.
        output: Where finished cells and results are kept; None keeps nothing.
        jobs: Processes, at least 1; with 1 all runs in this one.
        fresh: Whether what is kept is run again.
        finished: Told how many cells are done, of how many, at the start and whenever one ends.

    Raises:
        CallerError: a swept value is not admissible.
        EnvironmentFault: the output cannot be written, or memory or a file is lacking; what had finished is kept.
        FedEmError: every cell failed; the first one's reason.
    """
    cells = scenario.cells()
    known: dict[str, list[Row]] = {}
    if output is not None and not fresh:
        known = {cell.key: rows for cell in cells if (rows := _kept(output, cell)) is not None}
    missing = list({cell.key: cell for cell in cells if cell.key not in known}.values())
    done = len(cells) - len(missing)
    finished(done, len(cells))
    for cell, rows in _run(missing, jobs):
        known[cell.key] = rows
        if output is not None:
            _keep(output, cell, rows)
        done += 1
        finished(done, len(cells))
    if all(_lost(known[cell.key]) for cell in cells):
        raise CallerError(f"every run failed: {known[cells[0].key][0][FAILURE]}", remedy="change the settings")
    results = Results.of(
        [
            {**scenario.labels(cell.swept), REPLICATE: cell.replicate, **row}
            for cell in cells
            for row in known[cell.key]
        ],
        scenario.keys,
    )
    if output is not None:
        results.write_parquet(output / RESULTS_FILE)
    return results


def _outcome(cell: Cell) -> list[Row]:
    """Its rows, or one with the reason why there are none."""
    try:
        return cell.run()
    except FedEmError as error:
        return [{FAILURE: reason_of(error)}]


def _lost(rows: Sequence[Row]) -> bool:
    return all(set(row) == {FAILURE} for row in rows)


def _run(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, list[Row]]]:
    if jobs <= 1 or len(cells) <= 1:
        for cell in cells:
            yield cell, _outcome(cell)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(cells)), context, initializer=_use_one_thread) as pool:
        running = {pool.submit(_outcome, cell): cell for cell in cells}
        with _cancelling(pool):
            for future in as_completed(running):
                yield running[future], future.result()


@contextmanager
def _cancelling(pool: ProcessPoolExecutor) -> Iterator[None]:
    """Without it an error would be told only when all other cells have been run."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _use_one_thread() -> None:
    """Processes are what cells run in parallel by; threads of each would only wait for the same cores."""
    os.environ[THREADS_VARIABLE] = "1"
    threadpool_limits(1)


def _kept(output: Path, cell: Cell) -> list[Row] | None:
    path = output / _CELLS / f"{cell.key}.json"
    try:
        found: list[Row] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise EnvironmentFault(f"cannot read '{path}': {error.strerror}") from error
    return found


def _keep(output: Path, cell: Cell, rows: Sequence[Row]) -> None:
    folder = output / _CELLS
    path = folder / f"{cell.key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(rows), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write '{path}': {error.strerror}", remedy="check the folder's rights and free space"
        ) from error
