"""Trouble of every kind over several rounds: death and restart, broken links, lost messages, slow tenants, in any pattern."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import Hello
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.auditor import Auditor
from tests.protocols.federation import TestFederation, kind_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

ROUNDS = 4
LONGEST_REQUEST = 3 * (8.0 + 2 * 3 * 2.0 + 3.0 + 1.0 + 1.0)


@dataclass(frozen=True)
class Mishap:
    """What becomes of one message; a tenant that it kills starts anew after `restart` seconds, or never."""

    fate: Fate
    restart: float | None


mishaps = st.builds(
    Mishap,
    st.sampled_from([Fate.KILL, Fate.BREAK, Fate.LOSE]),
    st.one_of(st.none(), st.floats(0.01, 6.0)),
)


class TroubledFederation:
    """A federation in which the numbered messages meet their mishaps, under the eyes of an auditor."""

    def __init__(
        self, n: int, fates: dict[int, Mishap], latency: list[float], seed: int, colluders: int, **terms: int
    ) -> None:
        self.auditor = Auditor(n)
        self.happened: Counter[Fate] = Counter()
        self._fates = fates
        self._count = 0
        self.federation = TestFederation(
            n, 2, seed=seed, interfere=self._interfere, latency=latency, window_rounds=3, colluders=colluders, **terms
        )

    def _interfere(self, passing: Passing) -> Fate:
        self.auditor.sees(passing.tenant, passing.data)
        self._count += 1
        mishap = self._fates.get(self._count)
        if mishap is None:
            return Fate.DELIVER
        if mishap.fate is Fate.LOSE and passing.direction is Direction.TO_SERVER and kind_of(passing.data) is Hello:
            return Fate.DELIVER  # a link on which nothing was ever heard is no link
        self.happened[mishap.fate] += 1
        if mishap.fate is Fate.KILL and mishap.restart is not None:
            self.federation.hub.restart(passing.tenant, mishap.restart)
        return mishap.fate

    def assert_nobody_is_blamed(self) -> None:
        """Trouble is no fault: no honest party takes another for broken."""
        assert self.federation.faults() == []
        for index in range(len(self.federation.works)):
            assert self.federation.hub.error_of(index) is None


@settings(max_examples=60)
@given(st.data())
def test_every_sum_is_exact_or_fails_in_time(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 7), label="n")
    colluders = data.draw(st.integers(0, (n - 1) // 3), label="colluders")
    latency = data.draw(st.lists(st.sampled_from([0.001, 0.01, 0.3, 0.9]), min_size=n, max_size=n), label="latency")
    fates = data.draw(st.dictionaries(st.integers(1, 60 * n), mishaps, max_size=10), label="fates")
    trust = data.draw(st.sampled_from(list(Trust)), label="trust")
    blocks = data.draw(st.sampled_from([0, 1, n // (max(3, colluders + 2))]), label="blocks")
    seed = data.draw(st.integers(0, 3), label="seed")
    troubled = TroubledFederation(n, fates, latency, seed, colluders, trust=int(trust), blocks=blocks)
    federation, sums = troubled.federation, 0
    for _ in range(ROUNDS):
        start = federation.hub.now()
        outcome = federation.try_sum()
        if isinstance(outcome, SumFailed):
            assert outcome.message and outcome.remedy
        else:
            sums += 1
        assert federation.hub.now() - start <= LONGEST_REQUEST
    troubled.assert_nobody_is_blamed()
    event(f"{sums} of {ROUNDS} sums")


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_after_any_trouble_everybody_takes_part_again(data: st.DataObject) -> None:
    """Once every process runs and no message is lost any more, a few rounds bring all tenants back into the sum."""
    n = data.draw(st.integers(3, 6), label="n")
    fates = data.draw(st.dictionaries(st.integers(1, 50 * n), mishaps, max_size=8), label="fates")
    troubled = TroubledFederation(n, fates, [0.001] * n, 0, 0)
    federation = troubled.federation
    for _ in range(2):
        federation.try_sum()
    fates.clear()
    for index in range(n):
        federation.hub.restart(index, 0.0)
    for _ in range(6):
        opened = federation.sum()
    assert opened.missing == ()
    troubled.assert_nobody_is_blamed()
