"""The simplest totals: rows in memory, of everybody or of parties that answer now and then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from fed_em.em import Summed
from fed_em.errors import CallerError
from fed_em.layout import Layout
from fed_em.model import Rows, Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics


@dataclass(frozen=True, eq=False)
class TotalOfRows:
    """Sums over rows in memory; with it `fed_em.em.fit` is plain EM.

    Attributes:
        model: The model, or candidates of one.
        rows: `(n, D)`, in the coordinates of the parameters, or records of such rows.
        layout: The layout of the statistics; the model's own if None.
    """

    model: Summand
    rows: Rows | Records
    layout: Layout | None = None

    def __call__(self, parameters: Parameters) -> Summed:
        """The statistics of all rows at `parameters`; nobody is ever missing."""
        return Summed(self.model.e_step(parameters, self.rows, self.layout))


class IncrementalTotal:
    """Sums over parties of which only some answer each time; of the others the last terms stand.

    With it `fed_em.em.fit` is incremental EM (Neal and Hinton 1998, section 4): what a federation does under partial
    participation, and what large data in parts can gain from. The parties are added in one fixed order, so if all
    answer every time this is batch EM over the same parts, bit for bit.

    It remembers the last statistics of every party: use a new one for each fit.

    Args:
        model: The model, or candidates of one.
        parts: The rows `(n, D)` or records of each party, by name, in the order in which they are added.
        answering: Given the number of the sum, 1 for the first, the names of those who answer it.
        layout: The layout of the statistics; the model's own if None.
    """

    def __init__(
        self,
        model: Summand,
        parts: Mapping[str, Rows | Records],
        answering: Callable[[int], Collection[str]],
        layout: Layout | None = None,
    ) -> None:
        self._model = model
        self._parts = dict(parts)
        self._answering = answering
        self._layout = model.layout() if layout is None else layout
        self._terms: dict[str, Statistics] = {}
        self._sums = 0

    def __call__(self, parameters: Parameters) -> Summed:
        """The sum over all who ever answered; those who never did are `missing`, those who did not now `stale`.

        Raises:
            CallerError: one who answers is not among the parties.
        """
        self._sums += 1
        answering = frozenset(self._answering(self._sums))
        for name in sorted(answering - set(self._parts)):
            raise CallerError(f"'{name}' answers and is not among the parties")
        fresh = {name: rows for name, rows in self._parts.items() if name in answering}
        self._terms |= {name: self._model.e_step(parameters, rows, self._layout) for name, rows in fresh.items()}
        terms = [self._terms[name] for name in self._parts if name in self._terms]
        return Summed(
            sum(terms, start=Statistics.zero(self._layout)),
            missing=tuple(name for name in self._parts if name not in self._terms),
            stale=tuple(name for name in self._parts if name in self._terms and name not in answering),
        )
