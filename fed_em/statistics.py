"""Sufficient statistics: a vector space with named parts, and the currency of everything in this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.layout import Layout

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Additive statistics of some rows: `statistics(A) + statistics(B) == statistics(A and B)`.

    Attributes:
        layout: Names, shapes and per-record bounds of the parts.
        vector: All parts end to end, shape `(layout.size,)`, float64. Read-only by convention.
    """

    layout: Layout
    vector: Vector

    def __post_init__(self) -> None:
        if self.vector.shape != (self.layout.size,):
            raise CallerError(
                f"a vector of shape {self.vector.shape} does not fit a layout of {self.layout.size} entries"
            )

    @classmethod
    def zero(cls, layout: Layout) -> Statistics:
        """The statistics of no rows at all."""
        return cls(layout, np.zeros(layout.size))

    @classmethod
    def of(cls, layout: Layout, parts: Mapping[str, NDArray[np.float64] | float]) -> Statistics:
        """Lay named arrays end to end. Every block of the layout must be given, in its shape."""
        if parts.keys() != layout.offsets.keys():
            raise CallerError(f"statistics {sorted(parts)} do not match the layout {sorted(layout.offsets)}")
        vector = np.empty(layout.size)
        for block in layout:
            part = np.asarray(parts[block.name], dtype=np.float64)
            if part.shape != block.shape:
                raise CallerError(f"statistic '{block.name}' has shape {part.shape}, its layout says {block.shape}")
            vector[layout.offsets[block.name]] = part.ravel()
        return cls(layout, vector)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """The part called `name`, in its shape (a view)."""
        block = self.layout[name]
        return self.vector[self.layout.offsets[name]].reshape(block.shape)

    def _same_space(self, other: Statistics) -> None:
        if self.layout != other.layout:
            raise CallerError("statistics of two different layouts cannot be added")

    def __add__(self, other: Statistics) -> Statistics:
        self._same_space(other)
        return Statistics(self.layout, self.vector + other.vector)

    def __sub__(self, other: Statistics) -> Statistics:
        self._same_space(other)
        return Statistics(self.layout, self.vector - other.vector)
