"""Sessions that are listened to, and sums that an honest sum in one place would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small_tables import QUICK

from fed_em import GaussianMixture
from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.em import Stopping
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.attacks.ear import Ear
from fed_em_simulations.attacks.overheard import Overheard
from fed_em_simulations.scene import Trouble

Matrix = NDArray[np.float64]


def listen(
    tables: Sequence[Matrix], *trouble: Trouble, sums: int = 6, target: Any = None, **fields: Any
) -> tuple[Overheard, FederationOutcome]:
    """A session of the real protocol, plain EM from one draw; blocks of three and one colluder unless told otherwise."""
    ear = Ear()
    federation = Federation(
        tables, trouble=trouble, stopping=Stopping(0.0, sums - 1), deadlines=QUICK, optimiser="em", listener=ear,
        **{"colluders": 1, "starts": 0, **fields},
    )  # fmt: skip
    outcome = federation.fit(GaussianMixture(2) if target is None else target)
    assert not outcome.failure
    return ear.overheard, outcome


def summed(
    model: GaussianMixtureModel,
    parameters: Sequence[Parameters],
    tables: Sequence[Matrix],
    noise: Mapping[str, float] | None = None,
    generator: np.random.Generator | None = None,
    session: bytes = bytes(16),
) -> list[ReleasedSum]:
    """What a sum of these tables releases at each of some parameters, with Gaussian noise of so much on each block."""
    coordinates, found = Coordinates.identity(model.n_columns), []
    for number, point in enumerate(parameters, start=1):
        terms = [model.e_step(point, rows) for rows in tables]
        total = sum(terms[1:], start=terms[0])
        if noise is not None and generator is not None:
            sigma = np.concatenate([np.full(block.size, noise[block.name]) for block in total.layout])
            total = Statistics(total.layout, total.vector + sigma * generator.standard_normal(len(total.vector)))
        found.append(
            ReleasedSum(session, number, "whole", (number,) * len(tables), Broadcast(model, coordinates, point), total)
        )
    return found
