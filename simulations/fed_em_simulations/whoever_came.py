"""What plain federated EM sums: those who answer now, and nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from fed_em.em import Summed
from fed_em.model import Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics


class WhoeverCame:
    """Sums over those who answer. A baseline: under partial participation the parameters follow the last to answer.

    Implements `fed_em.em.Total`; with `fed_em.stepwise.StepwiseTotal` around it, it is stepwise EM over
    whoever came. A sum over nobody holds no records, which the loop refuses.

    Args:
        model: The model.
        parts: The rows `(n, D)` or records of each party, by name, in the order in which they are added.
        answering: Given the number of the sum, 1 for the first, the names of those who answer it.
    """

    def __init__(
        self, model: Model, parts: Mapping[str, Rows | Records], answering: Callable[[int], Collection[str]]
    ) -> None:
        self._model = model
        self._parts = dict(parts)
        self._answering = answering
        self._sums = 0

    def __call__(self, parameters: Parameters) -> Summed:
        """The sum over those who answer; all others are `missing`."""
        self._sums += 1
        answers = frozenset(self._answering(self._sums))
        terms = [self._model.e_step(parameters, rows) for name, rows in self._parts.items() if name in answers]
        missing = tuple(name for name in self._parts if name not in answers)
        return Summed(sum(terms, start=Statistics.zero(self._model.layout())), missing)
