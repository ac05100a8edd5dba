"""How a quantity differs from tenant to tenant: frozen, and drawn by seed, so that a tenant's value depends on nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_real, check_whole_number
from fed_em.errors import CallerError
from fed_em_protocols.hashing import digest

Vector = NDArray[np.float64]


def generator_of(seed: int, *labels: str | int) -> np.random.Generator:
    """A generator of its own for everything that is drawn under these labels."""
    return np.random.default_rng(int.from_bytes(digest("simulated draws", seed, *labels)[:16], "little"))


class Distribution(Protocol):
    """Of one positive quantity over tenants."""

    def draw(self, n: int, generator: np.random.Generator) -> Vector:
        """One value a tenant, `(n,)`."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same for all."""

    value: float

    def __post_init__(self) -> None:
        check_real("value", self.value, 0.0)

    def draw(self, n: int, generator: np.random.Generator) -> Vector:
        """See `Distribution`."""
        return np.full(n, float(self.value))


@dataclass(frozen=True)
class Lognormal:
    """exp(N(log median, σ²)).

    Attributes:
        median: Positive.
        sigma: σ, at least 0: nine in ten values lie within a factor of exp(1.64 σ) of the median.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        check_real("median", self.median, 0.0, strict=True)
        check_real("sigma", self.sigma, 0.0)

    def draw(self, n: int, generator: np.random.Generator) -> Vector:
        """See `Distribution`."""
        return generator.lognormal(math.log(self.median), self.sigma, n)


@dataclass(frozen=True)
class Pareto:
    """A heavy tail: P[X > x] = (least / x)^α for x ≥ least.

    Attributes:
        least: The smallest value, positive.
        alpha: α, positive; up to 1 there is no mean, up to 2 no variance.
    """

    least: float
    alpha: float

    def __post_init__(self) -> None:
        check_real("least", self.least, 0.0, strict=True)
        check_real("alpha", self.alpha, 0.0, strict=True)

    def draw(self, n: int, generator: np.random.Generator) -> Vector:
        """See `Distribution`."""
        return self.least * (1.0 + generator.pareto(self.alpha, n))


@dataclass(frozen=True)
class OneApart:
    """The same for all but one tenant: one slow machine, one thin line.

    Attributes:
        usual: For the others.
        apart: For the one.
        tenant: Its roster index.
    """

    usual: float
    apart: float
    tenant: int = 0

    def __post_init__(self) -> None:
        check_real("usual", self.usual, 0.0)
        check_real("apart", self.apart, 0.0)
        check_whole_number("tenant", self.tenant, 0)

    def draw(self, n: int, generator: np.random.Generator) -> Vector:
        """See `Distribution`. Raises `CallerError` if there is no such tenant."""
        if self.tenant >= n:
            raise CallerError(f"there is no tenant number {self.tenant} among {n}", remedy="count from 0")
        values = np.full(n, float(self.usual))
        values[self.tenant] = self.apart
        return values
