"""Tables of a few tenants around known centres, and federations over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fed_em import GaussianMixture
from fed_em.em import Stopping
from fed_em_server.configuration import TimesTable
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.scene import Trouble

Matrix = NDArray[np.float64]

CENTRES = np.array([[0.0, 0.0], [5.0, 1.0], [-4.0, 4.0]])


def tables_of(n: int, rows: int = 40, seed: int = 0) -> list[Matrix]:
    """`rows` rows a tenant, around three centres alike."""
    generator = np.random.default_rng(seed)
    return [CENTRES[generator.integers(0, 3, rows)] + generator.standard_normal((rows, 2)) for _ in range(n)]


QUICK = TimesTable(patience=0.1, straggler=0.5, upload=2, open=1, set_up=2)


def run(n: int, *trouble: Trouble, sums: int = 4, **fields: object) -> FederationOutcome:
    """A session of `sums` sums, from one draw, blocks of three, one colluder, short deadlines."""
    federation = Federation(
        tables_of(n), trouble=trouble, stopping=Stopping(0.0, sums - 1), deadlines=QUICK, optimiser="em",
        **{"colluders": 1, "starts": 0, **fields},  # type: ignore[arg-type]
    )  # fmt: skip
    return federation.fit(GaussianMixture(2))
