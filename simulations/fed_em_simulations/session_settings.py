"""A session of the real protocol, as a scenario states it: trust, deadlines, and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Stopping
from fed_em.parameters import Parameters
from fed_em_protocols.configuration import Table
from fed_em_protocols.limits import MAX_TENANTS, MAX_WINDOW_ROUNDS
from fed_em_server.configuration import TimesTable
from fed_em_server.session import Watcher
from fed_em_simulations.attendance import WAITING
from fed_em_simulations.common_ground import CommonGround
from fed_em_simulations.cost_settings import CostSettings, OverTenants
from fed_em_simulations.federation import Federation
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.scene import Trouble
from fed_em_simulations.trouble import Stragglers
from fed_em_simulations.trouble_settings import AnyTrouble


class SessionSettings(Table):
    """Fields of `fed_em_simulations.Federation` that a file can state."""

    trust: Literal["malicious-server", "semi-honest"] = "malicious-server"
    colluders: Annotated[int, Field(ge=0)] | None = None
    difference_guard: Literal["blocks", "off"] = "blocks"
    block_size: Annotated[int, Field(ge=2)] | None = None
    minimum_survivors: Annotated[int, Field(ge=3)] | None = None
    dropouts: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    """δ that a sparse graph is made for, of more than 64 tenants."""
    mass_floor: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """In records; 0: no gate."""
    window_rounds: Annotated[int, Field(ge=1, le=MAX_WINDOW_ROUNDS)] = 64
    """W, rounds that one set-up of keys serves."""
    optimiser: Literal["em", "squarem", "lbfgs"] = "em"
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that play the tenants of one session, besides those that play several sessions at a time."""
    times: TimesTable = WAITING
    """How long the server waits, in virtual seconds."""
    stragglers: OverTenants | None = None
    """Seconds by which uploads are late, drawn anew in every sum."""
    trouble: tuple[AnyTrouble, ...] = ()
    """What else happens, in the order in which each draws and twists."""
    costs: CostSettings = CostSettings()
    costed_from: Annotated[int, Field(ge=3, le=MAX_TENANTS + 1)] = MAX_TENANTS + 1
    """With so many tenants or more, cryptography is replaced by what it costs, and report and table say so. With fewer it is real."""

    def cipher_of(self, n: int) -> Literal["real", "costed"]:
        """The cipher of a session of n tenants."""
        return "costed" if n >= self.costed_from else "real"

    def federation(
        self, ground: CommonGround, trouble: Sequence[Trouble] = (), watchers: Sequence[Watcher] = ()
    ) -> Federation:
        """The federation of a common ground's tenants, for as many rounds as its pattern has.

        Raises:
            CallerError: there are too few tenants or too many, or the trust does not suit them.
        """
        late = () if self.stragglers is None else (Stragglers(self.stragglers.distribution()),)
        return Federation(
            {member.name: member.records for member in ground.tenants.members},
            seed=ground.seed,
            trust=self.trust,
            colluders=self.colluders,
            difference_guard=self.difference_guard,
            block_size=self.block_size,
            minimum_survivors=self.minimum_survivors,
            dropouts=self.dropouts,
            mass_floor=self.mass_floor,
            window_rounds=self.window_rounds,
            workers=self.workers,
            deadlines=self.times,
            trouble=(*late, *trouble, *(each.trouble() for each in self.trouble)),
            costs=self.costs.model(),
            cipher=self.cipher_of(len(ground.tenants.members)),
            optimiser=self.optimiser,
            starts=0,
            stopping=Stopping(0.0, len(ground.pattern)),
            watchers=watchers,
        )

    def run(
        self, ground: CommonGround, trouble: Sequence[Trouble] = (), watchers: Sequence[Watcher] = ()
    ) -> FederationOutcome:
        """One session from the ground's start. Raises as `federation`."""
        return self.federation(ground, trouble, watchers).fit(ground.model)


def in_other_coordinates(model: Mixture, parameters: Parameters, here: Coordinates, there: Coordinates) -> Parameters:
    """Parameters of a mixture in other coordinates; spherical covariances need the same scales in both.

    Args:
        model: The mixture.
        parameters: In the coordinates `here`.
        here, there: Two coordinate systems.
    """
    if "means" not in parameters:
        return parameters
    places = model.gaussian_places
    scale, ratio = there.scale[places], here.scale[places] / there.scale[places]
    covariances = parameters["covariances"]
    factors = {1: np.exp(2 * np.log(ratio).mean()), 2: ratio**2, 3: np.outer(ratio, ratio)}
    means = parameters["means"] * ratio + (here.location[places] - there.location[places]) / scale
    return Parameters({**parameters, "means": means, "covariances": covariances * factors[covariances.ndim]})
