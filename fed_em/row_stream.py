"""Rows that are read anew for every sum, block by block, in place of rows in memory.

    statistics = Σ over blocks of model.e_step(parameters, block)

Blocks are cut by the number of rows and columns alone, so neither the files that rows lie in nor their chunks change a bit
of a sum. Besides one block, a fit holds a sample of rows: it starts from there, and goes on over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from fed_em.column_evidence import ColumnEvidence
from fed_em.column_moments import ColumnMoments
from fed_em.columns import ColumnSchema
from fed_em.coordinates import Coordinates
from fed_em.em import Summed
from fed_em.errors import CallerError
from fed_em.layout import Layout
from fed_em.model import Rows, Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import rows_in_block
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

# The fewest rows of a block, of which a fit holds a few copies.
_FEWEST_ROWS = 1024

# Rows of the sample that a fit starts from.
SAMPLE_ROWS = 20_000
# No seed that rows are simulated from: the first numbers of seed 0 are also the labels of many a simulated table.
_SAMPLE_SEED = int.from_bytes(b"rows of a sample")


class RowStream(Protocol):
    """Rows of D columns; every iteration gives the same blocks `(n, D)` in the same order."""

    @property
    def n_columns(self) -> int:
        """D."""
        ...

    def __iter__(self) -> Iterator[Rows]: ...


class RecordStream(Protocol):
    """As `RowStream`, with what may be known of the rows besides."""

    @property
    def n_columns(self) -> int:
        """D."""
        ...

    def __iter__(self) -> Iterator[Rows | Records]: ...


@runtime_checkable
class TableStream(Protocol):
    """A table that is read anew every time; the estimators take it in place of one in memory."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        ...

    def evidence(self, passed: Callable[[int], None] = lambda _: None) -> Mapping[str, ColumnEvidence]:
        """What its columns show, by name: reads all of it, and tells `passed` how many more rows were read."""
        ...

    def rows(self, schema: ColumnSchema) -> RowStream:
        """Its rows in the coding of a schema."""
        ...

    def records(self, schema: ColumnSchema, weights: str | None, labels: str | None, n_components: int) -> RecordStream:
        """The same with weights, and partial labels of so many components, from columns of these names."""
        ...


def block_rows(n_columns: int) -> int:
    """Rows of a block, from the number of columns alone."""
    return rows_in_block(n_columns, _FEWEST_ROWS)


def in_blocks(parts: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The rows of parts `(n, D)` of any sizes, in blocks of `size`; the last one may be shorter."""
    held: list[Rows] = []
    n_held = 0
    for part in parts:
        rest = part
        while n_held + len(rest) >= size:
            cut = size - n_held
            yield _joined([*held, rest[:cut]])
            held, n_held, rest = [], 0, rest[cut:]
        if len(rest):
            held.append(rest)
            n_held += len(rest)
    if held:
        yield _joined(held)


def _joined(parts: Sequence[Rows]) -> Rows:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class TotalOfStream:
    """Sums over rows that are read anew; with it `fed_em.em.fit` is plain EM in bounded memory.

    Attributes:
        model: The model, or what else is summed.
        coordinates: Those of the parameters.
        stream: The rows, or records, in original units.
        layout: The layout of the statistics; the model's own if None.

    Raises:
        CallerError: mixing weights are each tenant's own (`fed_em.tenant_mixing`).
    """

    model: Summand
    coordinates: Coordinates
    stream: RecordStream
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if has_own_weights(self.model):
            raise CallerError(
                "mixing weights of a tenant's own are of all its rows, and not of a block's",
                remedy="read the table into memory, or fit the model with shared weights",
            )

    def __call__(self, parameters: Parameters) -> Summed:
        """The statistics of all rows at `parameters`; nobody is ever missing."""
        total = Statistics.zero(self.model.layout() if self.layout is None else self.layout)
        for block in self.stream:
            total += self.model.e_step(parameters, self._inner(block), total.layout)
        return Summed(total)

    def _inner(self, block: Rows | Records) -> Rows | Records:
        if not isinstance(block, Records):
            return self.coordinates.apply(block)
        return replace(block, rows=self.coordinates.apply(block.rows))


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at all rows tells a fit.

    Attributes:
        n_rows: n.
        moments: Of each column's observed cells, weighted.
        has_missing: Whether any cell is missing.
        sample: min(n, size) records drawn at random without replacement, in their order; always the same.
    """

    n_rows: int
    moments: ColumnMoments
    has_missing: bool
    sample: Records


def survey(stream: RecordStream, size: int = SAMPLE_ROWS) -> Survey:
    """Look at all rows once.

    Every row gets a random number, and the sample is the rows with the least: which rows they are depends on n alone.

    Raises:
        CallerError: there are no rows, or all have weight 0.
    """
    generator = np.random.Generator(np.random.PCG64(_SAMPLE_SEED))
    moments = ColumnMoments.zero(stream.n_columns)
    n_rows, has_missing, weight = 0, False, 0.0
    keys, sample = np.empty(0), Records(np.empty((0, stream.n_columns)))
    for block in map(Records.of, stream):
        moments += ColumnMoments.of(block.rows, block.weights)
        has_missing |= bool(np.isnan(block.rows).any())
        weight += block.total_weight
        keys = np.concatenate((keys, generator.random(len(block))))
        sample = Records.concatenated((sample, block)) if n_rows else block
        n_rows += len(block)
        if len(keys) > size:
            # In the order of the rows again, which the least keys are not in.
            kept = np.sort(np.argpartition(keys, size)[:size])
            keys, sample = keys[kept], sample[kept]
    if not n_rows:
        raise CallerError("the table has no rows", remedy="give at least one row")
    if not weight:
        raise CallerError("every weight of the table is zero", remedy="give at least one row that counts")
    return Survey(n_rows, moments, has_missing, sample)
