"""Tenants of which only some have labels: a share of them, and there a share of the rows."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from fed_em_protocols.configuration import Table


class LabelAvailability(Table):
    """Who has labels, and of how many rows."""

    tenants: Annotated[FiniteFloat, Field(ge=0, le=1)] = 1.0
    """Share of the tenants, rounded to whole ones."""
    rows: Annotated[FiniteFloat, Field(ge=0, le=1)] = 1.0
    """Probability that a row of theirs has a label."""

    def who(self, n_tenants: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Which of the tenants have labels, `(C,)`."""
        chosen = np.zeros(n_tenants, dtype=bool)
        chosen[: round(self.tenants * n_tenants)] = True
        return np.asarray(generator.permutation(chosen))

    def admissible(
        self, components: NDArray[np.int64], n_components: int, has_labels: bool, generator: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Components that labels leave open, `(n, K)`: the true one of a labelled row, all of another."""
        labelled = generator.random(len(components)) < (self.rows if has_labels else 0.0)
        true = components[:, np.newaxis] == np.arange(n_components)
        return np.asarray(true | ~labelled[:, np.newaxis])
