"""A table of real rows, divided among tenants: by a column, by the labels of a column, or by size alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn
from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_client.data_files import DataFile, read_data_file
from fed_em_protocols.configuration import Table
from fed_em_simulations.costed_cipher import MOST_TENANTS
from fed_em_simulations.dirichlet_mixing import DirichletMixing
from fed_em_simulations.partitions import Homes, homes_by_label, homes_by_size, homes_by_value
from fed_em_simulations.population import TenantRows, Tenants
from fed_em_simulations.random_streams import stream
from fed_em_simulations.size_skew import SizeSkew

Vector = NDArray[np.float64]


class DividedTable(Table):
    """Columns of a file, numbers or labels; every tenant keeps a share of its rows out of the training."""

    table: Path
    """CSV, Parquet or .npz. In a scenario, relative to its file."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """What the model is of: numbers, or labels where `categorical` says so; cells may be missing."""
    categorical: tuple[str, ...] = ()
    """Those of the columns whose cells are labels. Its levels are all that anybody has."""
    by: str | None = None
    """A column with each row's tenant."""
    label: str | None = None
    """A column with each row's class: spread over tenants by `mixing`, and what components are compared with (ARI)."""
    mixing: DirichletMixing | None = None
    tenants: Annotated[int, Field(ge=1, le=MOST_TENANTS)] = 20
    """How many; without meaning where `by` says who they are."""
    sizes: SizeSkew = SizeSkew()
    held_out: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _is_divided_once(self) -> Self:
        if self.by is not None and (self.mixing is not None or "tenants" in self.model_fields_set):
            raise ValueError("`by` says who the tenants are: leave out tenants and mixing")
        if self.mixing is not None and self.label is None:
            raise ValueError("mixing spreads labels over tenants: name their column as `label`")
        other = next((name for name in self.categorical if name not in self.columns), None)
        if other is not None:
            raise ValueError(f"the categorical column '{other}' is not among the columns")
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
                theirs = None if codes is None else codes[kept]
                members.append(TenantRows(name, Records(rows[training]), rows[kept], theirs))
        if not members:
            raise CallerError(f"no tenant has rows enough of {self.table}", remedy="divide it among fewer tenants")
        return Tenants(tuple(members), schema=schema)

    def _schema(self, found: DataFile) -> ColumnSchema | None:
        """Of the columns; None if all are numbers."""
        if not self.categorical:
            return None
        return ColumnSchema(
            tuple(
                CategoricalColumn(name, tuple(sorted(set(_texts(found, name)) - {""})))
                if name in self.categorical
                else GaussianColumn(name)
                for name in self.columns
            )
        )

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
        if self.mixing is None or classes is None:
            return homes_by_size(len(rows), self.tenants, self.sizes, generator), names
        sizes = self.sizes.sizes(len(rows), self.tenants, stream(seed, "sizes"))
        return homes_by_label(classes, sizes.astype(np.float64), self.mixing.concentration, generator), names


@lru_cache(maxsize=16)
def _digest_of(path: Path, changed: int, size: int) -> str:  # noqa: ARG001  of a file as it is: every cell asks
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numbers(found: DataFile, name: str) -> Vector:
    values = found.columns[name].values
    if values is None:
        raise CallerError(f"{found.path}: column '{name}' is of {found.columns[name].kind}, not of numbers")
    return values


def _texts(found: DataFile, name: str) -> list[str]:
    texts = found.columns[name].texts
    assert texts is not None
    return ["" if text is None else text for text in texts]
