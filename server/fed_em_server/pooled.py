"""The same fit on rows in one place, in memory or read anew for every sum: what a federation is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.beginnings import Beginning
from fed_em.bootstrap import bootstrap
from fed_em.coordinates import Coordinates
from fed_em.em import Stopping, Total
from fed_em.errors import CallerError
from fed_em.minibatches import MinibatchTotal
from fed_em.model import ComponentModel, Rows, Summand
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM
from fed_em.records import Records
from fed_em.resampling import Resampled
from fed_em.row_stream import RecordStream, TableStream, TotalOfStream
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
        if not _has_labels(description, model):
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
    """Whether a fit to rows in one place needs them all at hand: for minibatches, rows held out or resampled, or a tenant's own weights."""
    drawn = (description.stream, description.selection and description.selection.share, description.bootstrap)
    return any(part is not None for part in drawn) or has_own_weights(description.fitted_model)


def fit_table(
    description: SessionDescription,
    table: TableStream,
    stopping: Stopping,
    seed: int,
    optimiser: str = EM,
    beginning: Beginning | None = None,
    watching: Callable[[RecordStream], RecordStream] = lambda rows: rows,
    onlooker: Onlooker = NOBODY,
) -> tuple[FittedModel, StandardisedFit]:
    """As `fit_pooled`, to a table that need not fit into memory.

    Args:
        description: The session, of which `needs_memory` is false.
        table: With the session's columns, those of labels and weights included, by their names.
        stopping: When to stop.
        seed: Of the start.
        optimiser: One of `fed_em.optimiser.OPTIMISERS`.
        beginning: Where EM starts; by default from one draw.
        watching: Given the rows, gives rows whose passes it sees.
        onlooker: Told of every round but the first.

    Raises:
        CallerError: as `fit_pooled`, or a value is outside its declared range, or missing where the session does not admit it;
            or all rows are needed at once.
    """
    if needs_memory(description):
        raise CallerError(
            f"session '{description.title}' needs all rows at hand", remedy="read them into memory, and use fit_pooled"
        )
    stream = watching(_stream_of(description, table))

    def total_for(model: Summand, coordinates: Coordinates) -> Total:
        rows = _Checked(description, stream, _has_labels(description, model))
        return TotalOfStream(model, coordinates, rows)

    n_rows = None if description.weights is None else sum(map(len, stream))
    return _fit(description, total_for, stopping, seed, optimiser, beginning, onlooker, n_rows)


def _stream_of(description: SessionDescription, table: TableStream) -> RecordStream:
    schema, weights, labels = description.schema_of_columns, description.weights, description.labels
    if weights is None and labels is None:
        return table.rows(schema)
    model = description.fitted_model
    assert isinstance(model, ComponentModel)
    of_weights, of_labels = (None if column is None else column.column for column in (weights, labels))
    return table.records(schema, of_weights, of_labels, model.n_components)


def _has_labels(description: SessionDescription, model: Summand) -> bool:
    """Whether labels count in a sum: they are of components, and the moments of all records have none."""
    return model is description.fitted_model or model != description.first_round.model


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
    result = fit_standardised(
        model,
        ranges,
        total_for,
        stopping,
        seed,
        onlooker,
        optimiser,
        beginning,
        choice,
        description.tracks or 1,
        description.final,
    )
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
        errors = spread.standard_errors(parameters)
    fitted = FittedModel(result.model, result.coordinates, description.names, parameters, provenance, errors)
    return fitted, result


@dataclass(frozen=True)
class _Checked:
    """Rows, or records, that are what a session declares. Implements `fed_em.row_stream.RecordStream`.

    Attributes:
        labelled: Whether labels count.
    """

    _description: SessionDescription
    _rows: RecordStream
    labelled: bool

    @property
    def n_columns(self) -> int:
        return self._rows.n_columns

    def __iter__(self) -> Iterator[Records]:
        for block in map(Records.of, self._rows):
            self._description.check_cells(block.rows)
            if block.weights is not None:
                self._check_weights(block.weights)
            admissible = block.admissible if self.labelled else None
            yield replace(block, admissible=admissible, weight_bound=self._description.weight_bound)

    def _check_weights(self, weights: NDArray[np.float64]) -> None:
        bound = self._description.weight_bound
        if wrong := int((weights > bound).sum()):
            raise CallerError(
                f"{wrong} of {len(weights)} rows have weights above the session's largest, {bound:g}",
                remedy="scale the weights, or declare a larger `upper` in [weights]",
            )
