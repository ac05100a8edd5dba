"""Rows in parts that take turns: which rows a minibatch holds follows from its number and a seed, and from nothing else.

A pass goes over all rows once, in an order of its own; of n rows a batch holds ⌊n / B⌋ or one more. Every party takes the same
share of its rows, so a sum over parties is that of a random part of all rows, to which each contributes by its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_whole_number
from fed_em.draws import keyed_generator
from fed_em.em import Summed
from fed_em.model import Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records


@dataclass(frozen=True)
class Minibatches:
    """B parts of some rows, over and over.

    Attributes:
        batches: B, at least 1.
        seed: Bytes that the orders are drawn from.

    Raises:
        CallerError: `batches` is out of its range.
    """

    batches: int
    seed: bytes = b""

    def __post_init__(self) -> None:
        check_whole_number("the number of batches", self.batches, 1)

    def rows_of(self, number: int, n: int) -> NDArray[np.intp]:
        """Which of n rows batch `number`, from 0, holds: ascending, maybe none if n < B.

        The order of pass p is the permutation that `keyed_generator` draws from the seed and p.
        """
        if self.batches == 1:
            return np.arange(n)
        turn, part = divmod(number, self.batches)
        order = keyed_generator(self.seed + turn.to_bytes(8, "little")).permutation(n)
        return np.sort(order[part :: self.batches])


@dataclass
class MinibatchTotal:
    """Sums over one minibatch of rows in memory after another. Implements `fed_em.em.Total`; use a new one for each fit.

    Attributes:
        model: The model.
        records: All records.
        minibatches: How they are divided.
        number: Of the next batch.
    """

    model: Model
    records: Rows | Records
    minibatches: Minibatches
    number: int = field(default=0)

    def __call__(self, parameters: Parameters) -> Summed:
        """The statistics of the next batch at `parameters`."""
        rows = self.minibatches.rows_of(self.number, len(self.records))
        self.number += 1
        return Summed(self.model.e_step(parameters, self.records[rows]))
