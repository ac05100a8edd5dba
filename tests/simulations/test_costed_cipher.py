"""The cipher that is a price list: the same sums, the same bytes and times, no secrets."""

from __future__ import annotations

import numpy as np
import pytest
from small_tables import run, tables_of

from fed_em.errors import CallerError
from fed_em_protocols.limits import MAX_TENANTS
from fed_em_simulations import Federation
from fed_em_simulations.costed_cipher import WARNING
from fed_em_simulations.simulated_parties import SimulatedParties
from fed_em_simulations.trouble import Dropout, Leaves, Step


@pytest.mark.parametrize(
    "trouble",
    [pytest.param((), marks=pytest.mark.slow), (Dropout(0.4),), (Leaves([2], after=1, step=Step.OPEN),)],
)
def test_sums_bytes_times_and_work_are_those_of_the_real_suite(trouble: tuple[Dropout | Leaves, ...]) -> None:
    real, costed = run(6, *trouble), run(6, *trouble, cipher="costed")
    assert not costed.failure and not costed.accusations
    assert costed.model.parameters.distance(real.model.parameters) < 1e-12
    assert costed.bytes_up == real.bytes_up
    assert costed.bytes_down == real.bytes_down
    assert costed.seconds == pytest.approx(real.seconds, rel=0.02)
    for kind in ("agreements", "signatures", "verifications", "masks", "mask_bytes", "densities"):
        assert getattr(costed.tenant_work, kind) == pytest.approx(getattr(real.tenant_work, kind), rel=0.02), kind
    assert costed.tenant_work.derivations == pytest.approx(real.tenant_work.derivations, rel=0.05)


def test_the_outcome_says_so_and_the_real_one_does_not() -> None:
    assert WARNING in run(3, sums=2, cipher="costed").record.warnings
    assert WARNING not in run(3, sums=2).record.warnings


def test_nothing_of_it_is_left_behind() -> None:
    before = run(3, sums=2).model.parameters
    run(3, sums=2, cipher="costed")
    after = run(3, sums=2)
    assert after.model.parameters.distance(before) == 0
    assert after.server_work.verifications > 0


def test_only_it_admits_more_tenants_than_a_real_federation_may_have() -> None:
    many = [np.zeros((1, 1))] * (MAX_TENANTS + 1)
    with pytest.raises(CallerError, match=f'more than {MAX_TENANTS} take cipher = "costed"'):
        Federation(many)
    assert len(Federation(many, cipher="costed").tenants) == MAX_TENANTS + 1
    with pytest.raises(CallerError, match="no cipher 'none'"):
        Federation(tables_of(3), cipher="none")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_roster_beyond_the_limit_has_a_digest_and_terms() -> None:
    names = [f"t{k}" for k in range(MAX_TENANTS + 1)]
    parties = SimulatedParties.of("many", names, [5] * len(names), 3, 0)
    assert parties.roster.n == MAX_TENANTS + 1 and len(parties.roster.digest) == 32
