"""What differential privacy costs a Gaussian mixture: sessions with noise inside the sum, without any, and with every tenant's own.

All are whole sessions of the real protocol in virtual time, over the same rows, and their models are scored on the same held-out rows of
one known mixture. A tenth of the tenants may collude and a tenth may be missing from a sum, so four fifths of them share the noise, as
each makes up for the others. With local noise a tenant trusts nobody's but its own: each adds all of it, and so its own statistics,
without any secure sum, are as private as the session's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em import GaussianMixture
from fed_em.errors import FedEmError
from fed_em_client.tenant_session import TenantWork
from fed_em_protocols.description import Column
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.configuration import PrivacyTable
from fed_em_simulations import Federation
from fed_em_simulations.known_mixture import KnownMixture, Truth
from fed_em_simulations.scene import Trouble
from tests.bench.figures import Absent, PrivateFit, UtilityFigures
from tests.bench.sizes import PrivateFits

DELTA = 1e-6

# The largest overlap of two components: they are found without noise, and not for the asking.
_OVERLAP = 0.1
# Declared ranges, in standard deviations about the mean.
_RANGE = 6.0
_TRUTH, _ROWS, _HELD_OUT, _SESSION = range(4)

Vector = NDArray[np.float64]


def measure_utility(sizes: PrivateFits) -> tuple[UtilityFigures, ...]:
    """Fits of every number of rows, at every ε."""
    truth = KnownMixture(components=sizes.components, columns=sizes.columns, overlap=_OVERLAP).truth(_TRUTH)
    held_out = drawn(truth, sizes.held_out, _HELD_OUT)
    return tuple(_of_size(sizes, rows, truth, held_out) for rows in sizes.rows)


def drawn(truth: Truth, count: int, seed: int) -> Vector:
    """Rows of the mixture, `(count, D)`, within the declared ranges."""
    rows, _ = truth.model.sample(truth.parameters, count, np.random.default_rng(seed))
    return np.clip(rows, *_ranges(truth))


def federation(sizes: PrivateFits, truth: Truth, rows: Vector) -> Federation:
    """Equally large tenants that sum as they are; the usual session but for who may collude or be missing."""
    low, high = _ranges(truth)
    spared = sizes.tenants // 10
    return Federation(
        np.array_split(rows, sizes.tenants),
        columns=[Column(name=f"x{d}", low=low[d], high=high[d]) for d in range(sizes.columns)],
        colluders=spared,
        minimum_survivors=sizes.tenants - spared,
        # Of differences between sums, too, ε and δ tell what anybody may learn.
        difference_guard="off",
        seed=_SESSION,
    )


def _of_size(sizes: PrivateFits, count: int, truth: Truth, held_out: Vector) -> UtilityFigures:
    plain = federation(sizes, truth, drawn(truth, count, _ROWS))
    return UtilityFigures(
        count,
        sizes.tenants,
        DELTA,
        truth=float(truth.model.log_prob(truth.parameters, held_out).mean()),
        without=_score(plain, sizes.components, held_out),
        private=tuple(_private(plain, sizes.components, held_out, sizes.epsilons)),
    )


def _private(plain: Federation, components: int, held_out: Vector, epsilons: Sequence[float]) -> Iterator[PrivateFit]:
    for epsilon in epsilons:
        inside = replace(plain, privacy=PrivacyTable(epsilon=epsilon, delta=DELTA))
        local = replace(inside, trouble=(AllNoiseOfItsOwn(),))
        yield PrivateFit(epsilon, *(_score(each, components, held_out) for each in (inside, local)))


def _score(session: Federation, components: int, held_out: Vector) -> float | Absent:
    """Nats a held-out row of the session's model."""
    try:
        model = session.fit(GaussianMixture(components)).model
    except FedEmError as error:
        return Absent(error.message)
    return float(model.score_samples(held_out).mean())


def _ranges(truth: Truth) -> tuple[Vector, Vector]:
    reach = _RANGE * truth.deviation
    return truth.mean - reach, truth.mean + reach


class AllNoiseOfItsOwn(Trouble):
    """Every tenant adds as much noise as if nobody else did."""

    def work_of(self, tenant: int, work: TenantWork) -> TenantWork:
        """See `Trouble`."""
        return _Alone(work)


@dataclass(frozen=True)
class _Alone:
    """A tenant's work with all noise of its own. Implements `TenantWork`."""

    _work: TenantWork

    def prepare(self, description: bytes, mass_floor: int) -> None:
        """See `TenantWork`."""
        self._work.prepare(description, mass_floor)

    def changed(self, session: bytes) -> bool:
        """See `TenantWork`."""
        return self._work.changed(session)

    def evaluate(self, asked: Evaluate) -> RingVector:
        """See `TenantWork`. Noise is shared among the fewest survivors that do not collude: here it is one."""
        return self._work.evaluate(replace(asked, minimum_survivors=1, colluders=0))

    def held(self, counts: RingVector) -> bytes:
        """See `TenantWork`."""
        return self._work.held(counts)
