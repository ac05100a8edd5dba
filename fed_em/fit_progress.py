"""A bar that shows how far a long pass or fit is: rows a second, the share of this pass, the iteration, its log-likelihood.

How many rows there are is known after the first pass over them, and the bar has a percentage from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fed_em.em import Iteration
from fed_em.lock_step import RoundOfFits
from fed_em.model import Rows
from fed_em.records import Records
from fed_em.row_stream import RecordStream
from fed_em.selection import Picked
from fed_em.starts import StartRound


@dataclass(frozen=True)
class FitProgress:
    """One fit on the screen, or nowhere."""

    _progress: Progress
    _task: TaskID

    def says(self, said: str) -> None:
        """What is being done, until something else is said."""
        self._progress.update(self._task, said=said, refresh=True)

    def passed(self, n_rows: int) -> None:
        """So many more rows were read."""
        self._progress.advance(self._task, n_rows)
        speed = self._progress.tasks[self._task].speed
        if speed is not None:
            self._progress.update(self._task, rate=f"{speed:,.0f} rows/s")

    def passed_all(self) -> None:
        """The last row was read: another pass begins, over as many."""
        task = self._progress.tasks[self._task]
        self._progress.update(self._task, total=task.total or task.completed, refresh=True)
        self._progress.update(self._task, completed=0)

    def watching(self, stream: RecordStream) -> RecordStream:
        """The same rows, each pass over which is shown."""
        return _Watched(stream, self)

    def started(self, seen: StartRound) -> None:
        """A sum of the start is over."""
        self._progress.update(self._task, completed=0, said=f"start, sum {seen.number}")

    def fitted_together(self, iterations: RoundOfFits) -> None:
        """A round of several models is over."""
        self._progress.update(self._task, completed=0, said=f"{len(iterations)} models still run")

    def picked(self, picked: Picked) -> None:
        """One of them was picked."""
        self._progress.update(
            self._task, completed=0, said=f"model {picked.number + 1} of {len(picked.evidence)} goes on"
        )

    def iterated(self, iteration: Iteration) -> None:
        """An iteration is over."""
        said = f"iteration {iteration.number}, log-likelihood {iteration.log_likelihood:.6f} nats a row"
        # The speed is that of all passes; `reset` would forget it.
        self._progress.update(self._task, completed=0, said=said)


@dataclass(frozen=True)
class _Watched:
    """Implements `fed_em.row_stream.RecordStream`."""

    _stream: RecordStream
    _shown: FitProgress

    @property
    def n_columns(self) -> int:
        return self._stream.n_columns

    def __iter__(self) -> Iterator[Rows | Records]:
        for block in self._stream:
            yield block
            self._shown.passed(len(block))
        self._shown.passed_all()


@contextmanager
def fit_progress(n_rows: int | None, wanted: bool = True, console: Console | None = None) -> Iterator[FitProgress]:
    """A bar for passes over `n_rows` rows (None: not yet known), on standard error; silent where that is no terminal, or not wanted."""
    console = Console(stderr=True) if console is None else console
    columns = (
        TextColumn("{task.fields[said]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not (wanted and console.is_terminal), transient=True) as progress:
        yield FitProgress(progress, progress.add_task("", total=n_rows, said="first look at the rows", rate=""))
