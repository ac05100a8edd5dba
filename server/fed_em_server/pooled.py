"""The same fit on rows in one place, in memory or read anew for every sum: what a federation is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fed_em.coordinates import Coordinates
from fed_em.em import Iteration, Stopping, Total
from fed_em.errors import CallerError
from fed_em.minibatches import MinibatchTotal
from fed_em.model import Model, Rows
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM
from fed_em.records import Records
from fed_em.row_stream import RowStream, TableStream, TotalOfStream
from fed_em.standardised_fit import StandardisedFit, TotalFor, fit_standardised
from fed_em.tenant_mixing import has_own_weights
from fed_em.totals import TotalOfRows
from fed_em_protocols.description import SessionDescription


def fit_pooled(
    description: SessionDescription, rows: Rows | Records, stopping: Stopping, seed: int, optimiser: str = EM
) -> tuple[FittedModel, StandardisedFit]:
    """Fit a session's model to rows `(n, D)`, or records, in memory, through the very steps of a federated session.

    Raises:
        CallerError: a column is constant, or the rows do not fit.
    """
    records = Records.of(rows)

    def total_for(model: Model, coordinates: Coordinates) -> Total:
        there = replace(records, rows=coordinates.apply(records.rows))
        # Labels are of components, and the moments of all records have none.
        if model is not description.fitted_model:
            return TotalOfRows(model, replace(there, admissible=None))
        if description.stream is None:
            return TotalOfRows(model, there)
        minibatches = description.stream.minibatches(b"pooled" + seed.to_bytes(8, "little"))
        return description.total_of(model, MinibatchTotal(model, there, minibatches))

    return _fit(description, total_for, stopping, seed, optimiser, n_rows=len(records))


def needs_memory(description: SessionDescription) -> bool:
    """Whether a fit to rows in one place needs all of them at hand: for weights or labels, minibatches, or one tenant's own weights."""
    besides = (description.labels, description.weights, description.stream)
    return any(table is not None for table in besides) or has_own_weights(description.fitted_model)


def fit_table(
    description: SessionDescription,
    table: TableStream,
    stopping: Stopping,
    seed: int,
    optimiser: str = EM,
    passed: Callable[[int], None] = lambda _: None,
    observe: Callable[[Iteration], None] = lambda _: None,
) -> tuple[FittedModel, StandardisedFit]:
    """As `fit_pooled`, to a table that need not fit into memory.

    Args:
        description: The session, of which `needs_memory` is false.
        table: With the session's columns, by their names.
        stopping: When to stop.
        seed: Of the start.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.
        passed: Told how many more rows were summed.
        observe: Called after every iteration.

    Raises:
        CallerError: as `fit_pooled`, or a value is outside its declared range, or missing where the session does not admit it;
            or all rows are needed at once.
    """
    if needs_memory(description):
        raise CallerError(
            f"session '{description.title}' needs all rows at hand", remedy="read them into memory, and use fit_pooled"
        )
    rows = _Checked(description, table.rows(description.schema_of_columns))

    def total_for(model: Model, coordinates: Coordinates) -> Total:
        return TotalOfStream(model, coordinates, rows, passed=passed)

    return _fit(description, total_for, stopping, seed, optimiser, observe)


def _fit(
    description: SessionDescription,
    total_for: TotalFor,
    stopping: Stopping,
    seed: int,
    optimiser: str,
    observe: Callable[[Iteration], None] = lambda _: None,
    n_rows: int | None = None,
) -> tuple[FittedModel, StandardisedFit]:
    model = description.fitted_model
    result = fit_standardised(
        model, (description.low, description.high), total_for, stopping, seed, observe, optimiser=optimiser
    )
    # Without weights, records are rows.
    n = int(result.fit.iterations[-1].records) if n_rows is None else n_rows
    provenance = {"rows": n, "converged": result.fit.converged}
    return FittedModel(model, result.coordinates, description.names, result.fit.parameters, provenance), result


@dataclass(frozen=True)
class _Checked:
    """Rows that are what a session declares. Implements `fed_em.row_stream.RowStream`."""

    _description: SessionDescription
    _rows: RowStream

    @property
    def n_columns(self) -> int:
        return self._rows.n_columns

    def __iter__(self) -> Iterator[Rows]:
        for block in self._rows:
            self._description.check_cells(block)
            yield block
