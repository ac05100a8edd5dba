"""What an experiment is: settings that a file can state, a run from a seed, and the charts that show what came of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_protocols.configuration import Table
from fed_em_protocols.errors import SumFailed
from fed_em_simulations.results import Results, Row


@dataclass(frozen=True)
class Chart:
    """Lines of one measured column over the first swept field, one line for each method or such; one panel for each value of a second.

    Attributes:
        column: What is shown.
        title: Above it.
        unit: Of the vertical axis.
        note: How to read it.
        predicted: A column with what is expected of this one, dashed; None if there is none.
        dashed: What that is, told where it is known of any row.
        logarithmic: Whether the vertical axis is; values that are not positive are shown at its foot.
        leave_out: Rows of these methods are not shown.
    """

    column: str
    title: str
    unit: str
    note: str = ""
    predicted: str | None = None
    dashed: str = ""
    logarithmic: bool = False
    leave_out: tuple[str, ...] = ()

    def note_on(self, results: Results) -> str:
        """How to read it where these results are shown."""
        known = self.predicted in results.columns and not math.isnan(results.summary(str(self.predicted)).mean)
        return f"{self.note} Dashed: {self.dashed}.".lstrip() if known and self.dashed else self.note


def reason_of(error: FedEmError) -> str:
    """Why a run failed, and would fail again. Raises a fault of the machine: another time it may be gone."""
    if isinstance(error, EnvironmentFault) and not isinstance(error, SumFailed):
        raise error
    return error.message


class Experiment(Table):
    """The settings of an experiment. Frozen; every field may be swept."""

    keys: ClassVar[tuple[str, ...]] = ()
    """Columns of the results that tell the rows of one run apart, such as the method."""
    every_chart: ClassVar[tuple[Chart, ...]] = ()

    def notes(self, results: Results) -> tuple[str, ...]:  # noqa: ARG002  of experiments that have any
        """What a reader must know of these results, in whole sentences; shown before them."""
        return ()

    @property
    def charts(self) -> tuple[Chart, ...]:
        """What a report shows."""
        return self.every_chart

    @abstractmethod
    def run(self, seed: int) -> list[Row]:
        """Everything once, from this seed: the same seed gives the same rows, whatever runs besides."""
