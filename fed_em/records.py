"""Records with what may be known besides their rows: how much each counts for, and which components may hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_real
from fed_em.errors import CallerError

Vector = NDArray[np.float64]

# A slack for weights that were divided by their largest one.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Records:
    """Rows with weights and partial labels; every E-step takes it in place of bare rows.

    A weight w counts as w equal rows would: it multiplies the record's responsibilities, its log-likelihood and its entropy.
    The admissible components of a record are all that its label leaves open: the posterior of the others is 0, and the
    likelihood is that of the row *and* its label, Σ_{k admissible} w_k p_k(x). One admissible component is a label, all of
    them is none.

    The bounds of a layout are of one record of weight one. With a largest weight w_max they hold times w_max; divide
    all weights by it where the bounds matter, as they do for encoded sums.

    Attributes:
        rows: `(n, D)`; NaN where a value is missing.
        weights: `(n,)`, in [0, `weight_bound`]; None for ones.
        admissible: `(n, K)`, whether the component may hold the record; None if any may.
        weight_bound: w_max, the declared largest weight; positive.

    Raises:
        CallerError: shapes do not fit each other, a weight is out of its range, or no component may hold some records (their
            number is told, nothing of their content).
    """

    rows: Vector
    weights: Vector | None = None
    admissible: NDArray[np.bool_] | None = None
    weight_bound: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.asarray(self.rows, dtype=np.float64))
        if self.rows.ndim != 2:
            raise CallerError(f"rows of shape {self.rows.shape} are not a table", remedy="give shape (n, D)")
        check_real("weight_bound", self.weight_bound, 0.0, strict=True)
        if self.weights is not None:
            object.__setattr__(self, "weights", self._checked_weights(self.weights))
        if self.admissible is not None:
            object.__setattr__(self, "admissible", self._checked_admissible(self.admissible))

    def _checked_weights(self, weights: Vector) -> Vector:
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (len(self.rows),):
            raise CallerError(f"weights of shape {weights.shape} do not fit {len(self.rows)} rows")
        wrong = int(np.sum(~((weights >= 0) & (weights <= self.weight_bound * (1 + _ROUNDING)))))
        if wrong:
            raise CallerError(
                f"{wrong} weights are not between 0 and {self.weight_bound}", remedy="declare a greater weight_bound"
            )
        return weights

    def _checked_admissible(self, admissible: NDArray[np.bool_]) -> NDArray[np.bool_]:
        admissible = np.asarray(admissible)
        if admissible.dtype != np.bool_ or admissible.ndim != 2 or len(admissible) != len(self.rows):
            raise CallerError(
                f"admissible components of type {admissible.dtype} and shape {admissible.shape} do not fit "
                f"{len(self.rows)} rows",
                remedy="give an array of booleans, (n, K)",
            )
        empty = int(np.sum(~admissible.any(axis=1)))
        if empty:
            raise CallerError(f"{empty} records admit no component at all", remedy="admit at least one for each")
        return admissible

    @classmethod
    def of(cls, rows: Vector | Records) -> Records:
        """`rows` itself if it is records already; else records of weight one without labels."""
        return rows if isinstance(rows, Records) else cls(rows)

    @classmethod
    def concatenated(cls, parts: Sequence[Records]) -> Records:
        """The records of all parts, in their order.

        Args:
            parts: At least one. All have weights or none has, and so for labels.
        """
        weights = [part.weights for part in parts if part.weights is not None]
        admissible = [part.admissible for part in parts if part.admissible is not None]
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate(weights) if weights else None,
            np.concatenate(admissible) if admissible else None,
            max(part.weight_bound for part in parts),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bare(self) -> bool:
        """Whether there is nothing but rows."""
        return self.weights is None and self.admissible is None

    def __getitem__(self, part: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Records:
        return replace(
            self,
            rows=self.rows[part],
            weights=None if self.weights is None else self.weights[part],
            admissible=None if self.admissible is None else self.admissible[part],
        )

    def blocks(self, size: int) -> Iterator[tuple[slice, Records]]:
        """The records in parts of at most `size`, and where each part stands."""
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            yield part, self[part]

    def of_positive_weight(self) -> Records:
        """The records that count at all."""
        return self if self.weights is None or (self.weights > 0).all() else self[self.weights > 0]

    def check_labels(self, n_components: int) -> None:
        """Raise `CallerError` unless the labels, if any, are of so many components."""
        if self.admissible is not None and self.admissible.shape[1] != n_components:
            raise CallerError(f"the labels are of {self.admissible.shape[1]} components, the model of {n_components}")

    @property
    def total_weight(self) -> float:
        """Σ_i w_i: how many records they count for."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    def log_prior_joint(self, weights: Vector) -> Vector:
        """log w_k for every record, -inf where its label excludes the component: `(K, n)`, fresh memory.

        Args:
            weights: `(K,)`, of the mixture.

        Raises:
            CallerError: the labels are of another number of components.
        """
        self.check_labels(len(weights))
        with np.errstate(divide="ignore"):
            joint = np.repeat(np.log(weights)[:, np.newaxis], len(self), axis=1)
        if self.admissible is not None:
            joint[~self.admissible.T] = -np.inf
        return joint


def weighted_sum(values: Vector, weights: Vector | None) -> float:
    """Σ_i w_i v_i; None for weights of one."""
    return float(values.sum() if weights is None else values @ weights)
