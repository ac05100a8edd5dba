"""Single-record components: moments of a component that holds one record are that record.

A component of released mass N whose moments are open has the mean first / N. If N is near 1 and the variance about that mean is next to
nothing, the component is one record, and the mean is the record. The mass gate is there to keep such components shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import n_second_moments
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.finding import Figure, Severity, counted
from fed_em_simulations.attacks.overheard import Overheard

Vector = NDArray[np.float64]

# A component of less mass than this is small whatever the session says: fewer records than agencies let stand behind a figure.
SMALL = 10.0

# The mass of one record, give or take what other records' small responsibilities add, and the standard deviation that is next to nothing,
# in standardised units.
_ONE, _SPREAD = (0.75, 1.25), 0.1


@dataclass(frozen=True, eq=False)
class ReadRecord:
    """One record that a sum gave away.

    Attributes:
        round, component: Where.
        mass: Of the component.
        spread: Standard deviation about the mean that is left, in standardised units: how far the reading may be off.
        record: `(D,)`, in original units.
    """

    round: int
    component: int
    mass: float
    spread: float
    record: Vector = field(repr=False)


@dataclass(frozen=True, eq=False)
class SingleRecords:
    """Components that are single records, or few.

    Attributes:
        components: How many components' moments were opened, over all sums.
        small: Of these, how many held less than `SMALL` records.
        least_mass: The least mass of an open component; infinity without one.
        readings: Components that are single records. A record may be read in several rounds.
        records: How many different records that are: readings further apart than their spreads.
    """

    attack: ClassVar[str] = "single-records"

    components: int
    small: int
    least_mass: float
    readings: tuple[ReadRecord, ...] = field(repr=False)
    records: int

    @property
    def severity(self) -> Severity:
        """Exposed if a record is read, bounded if components of few records are open."""
        if self.readings:
            return Severity.EXPOSED
        return Severity.BOUNDED if self.small else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        if self.readings:
            closest = max(min(reading.spread for reading in self.readings), 0.001)
            return (
                f"{counted(self.records, 'record')} can be read off components that hold nothing else, within {closest:.1g} standard "
                "deviations."
            )
        if self.small:
            return f"{self.small} open components held fewer than {SMALL:g} records, the least {self.least_mass:.1f}; none is one record."
        if not self.components:
            return "No component's moments were opened."
        return f"Every open component held {self.least_mass:.1f} records or more."

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {
            "open_components": self.components,
            "small_components": self.small,
            "least_mass": self.least_mass if self.components else None,
            "readings": len(self.readings),
            "records": self.records,
            "least_spread": min((reading.spread for reading in self.readings), default=None),
        }


def single_records(heard: Overheard) -> SingleRecords:
    """Look for components of one record in all sums of Gaussian mixtures; the gate's silenced components are not open."""
    masses, readings = [], []
    for released in heard.moments:
        model = released.broadcast.model
        if not isinstance(model, GaussianMixtureModel) or model.missing or model.n_components < 2:
            continue
        mass, first = released.statistics["responsibilities"], released.statistics["first"]
        open_ = np.flatnonzero(np.abs(first).sum(axis=1) + np.abs(released.statistics["second"]).sum(axis=1) > 0)
        masses += mass[open_].tolist()
        spreads = _spreads(model, released)
        for k in open_[(mass[open_] > _ONE[0]) & (mass[open_] < _ONE[1])].tolist():
            if spreads[k] < _SPREAD:
                record = released.broadcast.coordinates.restore(first[k : k + 1] / mass[k])[0]
                readings.append(ReadRecord(released.round, k, float(mass[k]), float(spreads[k]), record))
    small = sum(_ONE[0] < mass < SMALL for mass in masses)
    least = min((mass for mass in masses if mass > _ONE[0]), default=np.inf)
    return SingleRecords(len(masses), small, float(least), tuple(readings), _different(readings, heard))


def _spreads(model: GaussianMixtureModel, released: ReleasedSum) -> Vector:
    """The largest standard deviation of a column within each component, `(K,)`, in the coordinates of the E-step."""
    d = model.n_columns
    second = released.statistics["second"]
    if n_second_moments(model.covariance, d) != d:
        upper = np.triu_indices(d)
        second = second[:, upper[0] == upper[1]]
    mass = np.maximum(released.statistics["responsibilities"], 1e-12)[:, np.newaxis]
    variances = second / mass - (released.statistics["first"] / mass) ** 2
    return np.asarray(np.sqrt(np.maximum(variances, 0.0)).max(axis=1))


def _different(readings: list[ReadRecord], heard: Overheard) -> int:
    """How many records these are, if those are one that lie within what their spreads allow."""
    if not readings:
        return 0
    scale = heard.moments[-1].broadcast.coordinates.scale
    found: list[ReadRecord] = []
    for reading in sorted(readings, key=lambda each: each.spread):
        near = (
            np.abs((reading.record - each.record) / scale).max() <= 2 * (reading.spread + _SPREAD) for each in found
        )
        if not any(near):
            found.append(reading)
    return len(found)
