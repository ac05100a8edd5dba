"""The same fit on rows in one place, in memory or read anew for every sum: what a federation is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fed_em.beginnings import Beginning
from fed_em.bootstrap import bootstrap
from fed_em.coordinates import Coordinates
from fed_em.em import Stopping, Total
from fed_em.errors import CallerError
from fed_em.minibatches import MinibatchTotal
from fed_em.model import Rows, Summand
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM
from fed_em.records import Records
from fed_em.resampling import Resampled
from fed_em.row_stream import RowStream, TableStream, TotalOfStream
from fed_em.standard_errors import standard_errors
from fed_em.standardised_fit import NOBODY, Onlooker, StandardisedFit, TotalFor, fit_standardised
from fed_em.tenant_mixing import has_own_weights
from fed_em.totals import TotalOfRows
from fed_em_protocols.description import SessionDescription


def fit_pooled(
    description: SessionDescription,
    rows: Rows | Records,
    stopping: Stopping,
    seed: int,
    optimiser: str = EM,
    beginning: Beginning | None = None,
) -> tuple[FittedModel, StandardisedFit]:
    """Fit a session's model to rows `(n, D)`, or records, in memory, through the very steps of a federated session.

    Raises:
        CallerError: a column is constant, or the rows do not fit.
    """
    records = Records.of(rows)

    def total_for(model: Summand, coordinates: Coordinates) -> Total:
        there = replace(records, rows=coordinates.apply(records.rows))
        # Labels are of components, and the moments of all records have none.
        if model == description.first_round.model and model is not description.fitted_model:
            return TotalOfRows(model, replace(there, admissible=None))
        if description.stream is None or model is not description.fitted_model:
            return TotalOfRows(model, there)
        minibatches = description.stream.minibatches(_key(seed))
        return description.total_of(model, MinibatchTotal(model, there, minibatches))

    return _fit(description, total_for, stopping, seed, optimiser, beginning, n_rows=len(records))


def _key(seed: int) -> bytes:
    """What rows in one place are drawn by, where those of a session are by its number."""
    return b"pooled" + seed.to_bytes(max(8, -(-seed.bit_length() // 8)), "little")


def needs_memory(description: SessionDescription) -> bool:
    """Whether a fit to rows in one place needs all of them at hand: by weights, labels, [stream], held-out or resampled rows, or mixing."""
    besides = (
        description.labels,
        description.weights,
        description.stream,
        description.selection and description.selection.share,
        description.bootstrap,
    )
    return any(table is not None for table in besides) or has_own_weights(description.fitted_model)


def fit_table(
    description: SessionDescription,
    table: TableStream,
    stopping: Stopping,
    seed: int,
    optimiser: str = EM,
    beginning: Beginning | None = None,
    passed: Callable[[int], None] = lambda _: None,
    onlooker: Onlooker = NOBODY,
) -> tuple[FittedModel, StandardisedFit]:
    """As `fit_pooled`, to a table that need not fit into memory.

    Args:
        description: The session, of which `needs_memory` is false.
        table: With the session's columns, by their names.
        stopping: When to stop.
        seed: Of the start.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.
        beginning: Where EM starts; by default from one draw.
        passed: Told how many more rows were summed.
        onlooker: Told of every round but the first.

    Raises:
        CallerError: as `fit_pooled`, or a value is outside its declared range, or missing where the session does not admit it;
            or all rows are needed at once.
    """
    if needs_memory(description):
        raise CallerError(
            f"session '{description.title}' needs all rows at hand", remedy="read them into memory, and use fit_pooled"
        )
    rows = _Checked(description, table.rows(description.schema_of_columns))

    def total_for(model: Summand, coordinates: Coordinates) -> Total:
        return TotalOfStream(model, coordinates, rows, passed=passed)

    return _fit(description, total_for, stopping, seed, optimiser, beginning, onlooker)


def _fit(
    description: SessionDescription,
    total_for: TotalFor,
    stopping: Stopping,
    seed: int,
    optimiser: str,
    beginning: Beginning | None,
    onlooker: Onlooker = NOBODY,
    n_rows: int | None = None,
) -> tuple[FittedModel, StandardisedFit]:
    model, ranges = description.fitted_model, (description.low, description.high)
    choice = description.choice(_key(seed))
    result = fit_standardised(model, ranges, total_for, stopping, seed, onlooker, optimiser, beginning, choice)
    # Without weights, records are rows.
    n = int(result.fit.iterations[-1].records) if n_rows is None else n_rows
    provenance = {"rows": n, "converged": result.fit.converged}
    errors, products, parameters = None, description.products_of(result.model), result.fit.parameters
    if products is not None:
        errors = standard_errors(products, parameters, total_for(products, result.coordinates)(parameters).statistics)
    replicates = description.replicates_of(result.model)
    if replicates is not None:
        keyed = replace(replicates, resampled=Resampled(_key(seed)))
        records = result.fit.iterations[-1].records
        spread = bootstrap(keyed, total_for(keyed, result.coordinates), parameters, records)
        errors = spread.standard_errors(parameters, records)
    fitted = FittedModel(result.model, result.coordinates, description.names, parameters, provenance, errors)
    return fitted, result


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
            self._check(block)
            yield block

    def _check(self, block: Rows) -> None:
        missing, outside = np.count_nonzero(np.isnan(block), axis=0), self._description.cells_outside(block)
        for d, column in enumerate(self._description.columns):
            if missing[d] and not column.missing:
                raise CallerError(
                    f"column '{column.name}' has {missing[d]} missing cells among {len(block)} rows",
                    remedy="leave such rows out, or declare the column with `missing = true`",
                )
            if outside[d]:
                low, high = column.ends
                raise CallerError(
                    f"column '{column.name}' is outside the session's range [{low:g}, {high:g}] in "
                    f"{outside[d]} of {len(block)} rows",
                    remedy="check units and entries; leave such rows out, or declare a wider range",
                )
