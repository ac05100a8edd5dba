"""A table of real rows, divided among tenants: by a column, by the labels of a column, by a tilt, or by size alone.

What tenants differ by besides is done to their rows: numbers are measured otherwise at each site, and cells go missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_client.data_files import DataFile, read_data_file
from fed_em_protocols.configuration import Table
from fed_em_simulations.costed_cipher import MOST_TENANTS
from fed_em_simulations.dirichlet_mixing import DirichletMixing
from fed_em_simulations.feature_shift import FeatureShift, SiteShift
from fed_em_simulations.missing_cells import MissingCells
from fed_em_simulations.partitions import Homes, homes_by_label, homes_by_size, homes_by_tilt, homes_by_value
from fed_em_simulations.population import TenantRows, Tenants
from fed_em_simulations.random_streams import stream
from fed_em_simulations.size_skew import SizeSkew

Vector = NDArray[np.float64]


class DividedTable(Table):
    """Columns of a file, numbers or labels; every tenant keeps a share of its rows out of the training."""

    table: Path
    """CSV, Parquet or .npz. In a scenario, relative to its file."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """What the model is of: numbers, or what the next three say; cells may be missing."""
    categorical: tuple[str, ...] = ()
    """Those of the columns whose cells are labels. Its levels are all that anybody has."""
    bernoulli: tuple[str, ...] = ()
    """Those that are 0 or 1."""
    poisson: tuple[str, ...] = ()
    """Those that are counts."""
    by: str | None = None
    """A column with each row's tenant."""
    label: str | None = None
    """A column with each row's class: spread over tenants by `mixing`, and what components are compared with (ARI)."""
    mixing: DirichletMixing | None = None
    """How the rows of each class are spread."""
    tilt: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Spreads rows by what they are: by about how many standard deviations a tenant's mean is off, up to 1 or so (`homes_by_tilt`)."""
    tenants: Annotated[int, Field(ge=1, le=MOST_TENANTS)] = 20
    """How many; without meaning where `by` says who they are."""
    sizes: SizeSkew = SizeSkew()
    """How unlike the sizes of tenants are to be; without meaning where `by` says who they are."""
    features: FeatureShift | None = None
    """Numbers that are measured otherwise at each site. Other kinds of columns are shifted by `tilt`."""
    missing: MissingCells | None = None
    """Cells of rows to train on that go missing, besides those that are."""
    held_out: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2
    """Probability that a row is kept out of the training."""

    @model_validator(mode="after")
    def _is_divided_once(self) -> Self:
        if self.by is not None and (self.mixing or self.tilt or "tenants" in self.model_fields_set):
            raise ValueError("`by` says who the tenants are: leave out tenants, mixing and tilt")
        if self.mixing is not None and self.label is None:
            raise ValueError("mixing spreads labels over tenants: name their column as `label`")
        if self.mixing is not None and self.tilt is not None:
            raise ValueError("rows are spread by their labels or by what they are: leave out mixing or tilt")
        return self

    @model_validator(mode="after")
    def _has_columns_of_one_kind_each(self) -> Self:
        kinds = (*self.categorical, *self.bernoulli, *self.poisson)
        for name in kinds:
            if name not in self.columns:
                raise ValueError(f"a kind is said of a column that there is not: '{name}' is not among the columns")
            if kinds.count(name) > 1:
                raise ValueError(f"the column '{name}' is of two kinds")
        if self.features is not None and len(set(kinds)) == len(self.columns):
            raise ValueError("no column is of numbers, which `features` shifts: spread rows by `tilt`")
        return self

    @property
    def content(self) -> str:
        """What the settings do not say: SHA-256 of the file; empty if it cannot be read, which `draw` says better."""
        try:
            state = self.table.stat()
            return _digest_of(self.table, state.st_mtime_ns, state.st_size)
        except OSError:
            return ""

    def draw(self, seed: int) -> Tenants:
        """The tenants of this seed. Held-out rows with missing cells are left out, and tenants without rows of either kind too.

        Raises:
            CallerError: the file or a column of it is not there, not numeric or of a single level, or no tenant has rows enough.
        """
        found = self._read()
        schema = self._schema(found)
        rows = np.stack([self._cells(found, name, schema) for name in self.columns], axis=1)
        classes = None if self.label is None else np.asarray(_texts(found, self.label))
        homes, names = self._homes(found, rows, classes, seed)
        outside = stream(seed, "held out").random(len(rows)) < self.held_out
        codes = None if classes is None else np.unique(classes, return_inverse=True)[1].reshape(-1).astype(np.int64)
        complete = ~np.isnan(rows).any(axis=1)
        members = []
        for home, name in enumerate(names):
            training, kept = (homes == home) & ~outside, (homes == home) & outside & complete
            if training.any() and kept.any():
                site = self._site(rows, schema, seed, home)
                theirs = None if codes is None else codes[kept]
                members.append(TenantRows(name, Records(site.held(training)), site.measured(kept), theirs))
        if not members:
            raise CallerError(f"no tenant has rows enough of {self.table}", remedy="divide it among fewer tenants")
        return Tenants(tuple(members), schema=schema)

    def _site(self, rows: Vector, schema: ColumnSchema | None, seed: int, home: int) -> _Site:
        """What becomes of rows at one tenant, whoever they are."""
        shift = None
        if self.features is not None:
            mean, deviation = np.nanmean(rows, axis=0), _deviation(rows)
            shift = self.features.draw(mean, deviation, stream(seed, "features", home))
            shift = shift if schema is None else shift.of_columns(schema.gaussian)
        return _Site(rows, shift, self.missing, seed, home)

    def _schema(self, found: DataFile) -> ColumnSchema | None:
        """Of the columns; None if all are numbers."""
        if not (self.categorical or self.bernoulli or self.poisson):
            return None
        return ColumnSchema(tuple(self._column(found, name) for name in self.columns))

    def _column(self, found: DataFile, name: str) -> Column:
        if name in self.categorical:
            return CategoricalColumn(name, tuple(sorted(set(_texts(found, name)) - {""})))
        if name in self.bernoulli:
            _require(found, name, lambda cells: (cells == 0) | (cells == 1), "0 or 1")
            return BernoulliColumn(name)
        if name in self.poisson:
            _require(found, name, lambda cells: (cells >= 0) & (cells == np.floor(cells)), "counts")
            return PoissonColumn(name, max(1.0, float(np.nanmax(_numbers(found, name)))))
        return GaussianColumn(name)

    def _cells(self, found: DataFile, name: str, schema: ColumnSchema | None) -> Vector:
        column = None if schema is None else schema.columns[self.columns.index(name)]
        if not isinstance(column, CategoricalColumn):
            return _numbers(found, name)
        places = {level: float(place) for place, level in enumerate(column.levels)}
        return np.array([places.get(text, np.nan) for text in _texts(found, name)])

    def _read(self) -> DataFile:
        wanted = [name for name in (*self.columns, self.by, self.label) if name is not None]

        def choose(names: Sequence[str]) -> Sequence[str]:
            for name in wanted:
                if name not in names:
                    raise CallerError(f"{self.table} has no column '{name}'", remedy=nearest(name, names))
            return wanted

        of_text = [*self.categorical, *(name for name in (self.by, self.label) if name is not None)]
        return read_data_file(self.table, choose, of_text)

    def _homes(
        self, found: DataFile, rows: Vector, classes: NDArray[np.str_] | None, seed: int
    ) -> tuple[Homes, tuple[str, ...]]:
        if self.by is not None:
            return homes_by_value(np.asarray(_texts(found, self.by)))
        names, generator = tuple(f"t{c}" for c in range(self.tenants)), stream(seed, "division")
        if self.tilt is not None:
            return homes_by_tilt(_z(rows), self._shares(len(rows), seed), self.tilt, generator), names
        if self.mixing is None or classes is None:
            return homes_by_size(len(rows), self.tenants, self.sizes, generator), names
        return homes_by_label(classes, self._shares(len(rows), seed), self.mixing.concentration, generator), names

    def _shares(self, n_rows: int, seed: int) -> Vector:
        """How large tenants are to be."""
        return self.sizes.sizes(n_rows, self.tenants, stream(seed, "sizes")).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Site:
    """One tenant: how it measures, and which cells it lacks."""

    rows: Vector
    shift: SiteShift | None
    missing: MissingCells | None
    seed: int
    home: int

    def measured(self, which: NDArray[np.bool_]) -> Vector:
        """Some of the rows, as they are measured here."""
        rows = self.rows[which]
        return rows if self.shift is None else self.shift.apply(rows)

    def held(self, which: NDArray[np.bool_]) -> Vector:
        """The same with holes."""
        measured = self.measured(which)
        if self.missing is None:
            return measured
        rate = self.missing.rate_of_tenant(stream(self.seed, "rate", self.home))
        return self.missing.apply(measured, _z(self.rows)[which], rate, stream(self.seed, "missing", self.home))


def _deviation(rows: Vector) -> Vector:
    """Of each column, `(D,)`; 1 where there is none."""
    deviation = np.nanstd(rows, axis=0)
    return np.asarray(np.where(deviation > 0, deviation, 1.0))


def _z(rows: Vector) -> Vector:
    """Rows in standard deviations from the columns' means, levels counting as their numbers; 0 for missing cells."""
    return np.asarray(np.nan_to_num((rows - np.nanmean(rows, axis=0)) / _deviation(rows)))


@lru_cache(maxsize=16)
def _digest_of(path: Path, changed: int, size: int) -> str:  # noqa: ARG001  of a file as it is: every cell asks
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numbers(found: DataFile, name: str) -> Vector:
    values = found.columns[name].values
    if values is None:
        raise CallerError(f"{found.path}: column '{name}' is of {found.columns[name].kind}, not of numbers")
    return values


def _require(found: DataFile, name: str, holds: Callable[[Vector], NDArray[np.bool_]], what: str) -> None:
    """Raise `CallerError` if a cell that is there is not what its column is said to be."""
    cells = _numbers(found, name)
    if not holds(cells[~np.isnan(cells)]).all():
        raise CallerError(
            f"{found.path}: a cell of column '{name}' is not {what}", remedy="say what kind of column it is"
        )


def _texts(found: DataFile, name: str) -> list[str]:
    texts = found.columns[name].texts
    assert texts is not None
    return ["" if text is None else text for text in texts]
