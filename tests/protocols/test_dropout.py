"""Tenants that die: every assignment of {never, each step} for few tenants, every subset at one step for more.

A step is "before it reads" or "right after it sent" a message of one kind, in the set-up of a window or in a round. Whatever
happens, the sum is the plain sum of the survivors' vectors, bit for bit, or the request fails and names somebody who died; and
while enough tenants live, it does not fail.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest

from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Header,
    Hello,
    Join,
    Opening,
    OpenWindow,
    Ready,
    Recover,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.federation import TestFederation, kind_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

Step = tuple[Direction, type] | None

NEVER: Step = None
SENT: list[Step] = [
    (Direction.TO_SERVER, kind) for kind in (Hello, Join, Advertise, Deposit, Ready, Upload, Opening, Shares)
]
UNREAD: list[Step] = [
    (Direction.TO_TENANT, kind) for kind in (SessionTerms, OpenWindow, SetUp, Boxes, Header, Certificate, Recover)
]
STEPS: list[Step] = [NEVER, *SENT, *UNREAD]

# Three attempts, each with at most one gathering, two windows and one round.
LONGEST = 3 * (8.0 + 2 * 3 * 2.0 + 3.0 + 1.0 + 1.0)


def name_of(step: Step) -> str:
    return "never" if step is NEVER else f"{'sent' if step[0] is Direction.TO_SERVER else 'unread'}-{step[1].__name__}"


def check(deaths: Sequence[Step], colluders: int) -> None:
    """One federation in which tenant i dies at `deaths[i]`."""

    def interfere(passing: Passing) -> Fate:
        death = deaths[passing.tenant]
        dies = death is not None and passing.direction is death[0] and kind_of(passing.data) is death[1]
        return Fate.KILL if dies else Fate.DELIVER

    federation = TestFederation(len(deaths), 1, interfere=interfere, window_rounds=2, colluders=colluders)
    alive = {index for index, death in enumerate(deaths) if death is NEVER}
    least = federation.server.state.terms.content.minimum_survivors
    outcome = federation.try_sum()
    if isinstance(outcome, SumFailed):
        assert len(alive) < least, f"{deaths}: {outcome}"
        named = [index for index in range(len(deaths)) if f"t{index}" in outcome.message]
        assert named and alive.isdisjoint(named), f"{deaths}: {outcome}"
    else:
        federation.assert_exact(outcome)
        assert alive <= set(outcome.survivors) and len(outcome.survivors) >= least
    assert federation.hub.now() <= LONGEST


def multisets(n: int) -> Iterable[tuple[Step, ...]]:
    """Every way to hand n steps to n tenants, up to who gets which; that is drawn, once for all."""
    draw = random.Random(n)
    for steps in itertools.combinations_with_replacement(STEPS, n):
        yield tuple(draw.sample(steps, n))


@pytest.mark.parametrize("first", STEPS, ids=name_of)
def test_three_tenants_every_assignment(first: Step) -> None:
    for rest in itertools.product(STEPS, repeat=2):
        check((first, *rest), colluders=0)


@pytest.mark.parametrize("colluders", [0, 1])
def test_four_tenants_every_assignment_up_to_order(colluders: int) -> None:
    for steps in multisets(4):
        check(steps, colluders)


@pytest.mark.slow
@pytest.mark.parametrize("colluders", [0, 1])
@pytest.mark.parametrize("first", STEPS, ids=name_of)
def test_four_tenants_every_assignment(first: Step, colluders: int) -> None:
    for rest in itertools.product(STEPS, repeat=3):
        check((first, *rest), colluders)


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("step", STEPS[1:], ids=name_of)
def test_more_tenants_every_subset_at_one_step(n: int, step: Step) -> None:
    for dying in itertools.product((False, True), repeat=n):
        check([step if dies else NEVER for dies in dying], colluders=1)
