"""A private session whose server dies. What holds of its noise and of its ledgers, whatever step it dies at:

- A sum that was kept stays as it was opened, noise and all; the next process asks nobody for it again.
- A sum that was not kept is asked for anew, by another round with fresh noise. Were the noise the same, the model would be too.
- No tenant draws noise twice for one round, or adds the same noise in two rounds.
- A tenant's ledger has each round that it uploaded for, once, and no other: so also rounds that were lost, whose uploads somebody may
  have seen. Each costs one of the session's `spare_sums`.
- What is not charged at the end is released.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from processes import Crashed, Death, World
from small_federation import clustered_rows, session_toml, write_small_federation

from fed_em.errors import FedEmError
from fed_em.statistics import Statistics
from fed_em_client.privacy_ledger import PrivacyLedger
from fed_em_client.rows_work import RowsWork
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Upload
from fed_em_protocols.privacy.noise import without_silent
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.audit.verify import PRIVACY, Verdict
from fed_em_server.session import SessionOutcome
from fed_em_server.transcript_folder import read_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Fate, MemoryHub, Passing
from fed_em_simulations.volatile_marks import VolatileMarks

SIZES = (150, 140, 130, 120)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0\nallow_semi_honest = true'
# Enough sums for every death of a sweep, and so little noise that it decides nothing.
SPARE = 40
PRIVACY_TABLE = f"\n[privacy]\nepsilon = 30\ndelta = 1e-3\nspare_sums = {SPARE}\n"


def private(fit: str = "max_iterations = 2", more: str = "", spare: int = SPARE) -> str:
    session = session_toml(fit=fit, trust=TRUST + more).replace("[times]", PRIVACY_TABLE + "[times]")
    return session.replace(f"spare_sums = {SPARE}", f"spare_sums = {spare}")


PRIVATE = private()
TRUSTING = private(more='\nmode = "semi-honest"')
GATED = private(more="\nmass_floor = 5")


@dataclass
class Draws:
    """What tenants computed and what they added to it, by tenant and round.

    Attributes:
        again: Whether noise follows from the tenant and what is asked for: a sum that is asked for anew then has the same noise. No
            program may do that; here it tells whether anything else of a session differs.
    """

    again: bool
    noised: dict[tuple[int, int], RingVector] = field(default_factory=dict)
    noises: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def wrap(self, function: Callable[..., RingVector]) -> Callable[..., RingVector]:
        def noised(work: RowsWork, asked: Evaluate, encoding: Encoding, statistics: Statistics) -> RingVector:
            if self.again:
                of = f"{work._index} {asked.mode} {hashlib.sha256(asked.parameters).hexdigest()}"
                work._randomness = Random(of).randbytes
            vector = function(work, asked, encoding, statistics)
            which = work._index, asked.round
            assert which not in self.noised, "noise was drawn twice for one round"
            exact = encoding.encode(without_silent(statistics), work._index)
            self.noised[which], self.noises[which] = vector, (vector - exact).tobytes()
            return vector

        return noised


@dataclass
class PrivateWorld(World):
    """Tenants with their ledgers on disk."""

    works: dict[int, RowsWork] = field(default_factory=dict)
    ledgers: dict[int, PrivacyLedger] = field(default_factory=dict)
    uploads: dict[int, list[int]] = field(default_factory=dict)
    dying: Death | None = None

    def death_in_a_paid_round(self) -> Death:
        """The process is gone when all have uploaded, and hears nothing of what was uploaded last."""
        self.dying = Death("listening")
        return self.dying

    def start(self, index: int, name: str) -> Callable[[], TenantSession]:
        tenant, marks = open_tenant(self.federation.tenant(name)), VolatileMarks()

        def process() -> TenantSession:
            if index in self.ledgers:
                self.ledgers[index].close()
            self.ledgers[index] = tenant.ledger()
            self.works[index] = tenant.work(marks, self.ledgers[index])
            return tenant.session(marks, self.works[index])

        return process

    def listen(self, passing: Passing) -> Fate:
        sealed = unseal(passing.data, "")
        if isinstance(sealed.content, Upload):
            self.uploads.setdefault(passing.tenant, []).append(sealed.content.round)
            everybody = len({tuple(each) for each in self.uploads.values()}) == 1 and len(self.uploads) == len(SIZES)
            if everybody and self.dying is not None:
                self.dying.number = self.dying.counted + 1
        return Fate.DELIVER


def world_of(folder: Path, session: str) -> PrivateWorld:
    federation: FederationFolder = write_small_federation(folder / "f", clustered_rows(SIZES), session, policy=POLICY)
    world = PrivateWorld(federation, MemoryHub([]))
    starts = [world.start(index, name) for index, name in enumerate(federation.tenant_files)]
    world.hub = MemoryHub(starts, interfere=world.listen)
    return world


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    seen = Draws(again=False)
    monkeypatch.setattr(RowsWork, "_noised", seen.wrap(RowsWork._noised))
    return seen


@pytest.fixture
def same_noise(draws: Draws) -> Draws:
    draws.again = True
    return draws


@cache
def undisturbed(session: str) -> SessionOutcome:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        # Whatever is patched for a test already sees nothing of this.
        patched.setattr(RowsWork, "_noised", Draws(again=True).wrap(_NOISED))
        return world_of(Path(folder), session).process()


_NOISED = RowsWork._noised


def assert_nothing_was_spent_twice_or_forgotten(world: PrivateWorld, outcome: SessionOutcome, draws: Draws) -> None:
    session, privacy = bytes.fromhex(outcome.record.session), outcome.record.privacy
    assert privacy is not None
    walked = read_session(world.federation.server.output, world.federation.roster)
    opened = [each.outcome for each in walked.attempts if isinstance(each.outcome, SumOpened)]
    for tenant, ledger in world.ledgers.items():
        spent = ledger.spends.sessions[session]
        assert sorted(spent.charged) == world.uploads[tenant], "each upload is charged once, and nothing else"
        assert spent.plan == privacy.spend
        assert {each.round for each in opened if tenant in each.survivors} <= set(spent.charged)
        world.works[tenant].end(session)
        spent = ledger.spends.sessions[session]
        assert spent.reserved is None and spent.rest == privacy.sums - len(world.uploads[tenant])
    for each in opened:
        expected = sum(draws.noised[tenant, each.round] for tenant in each.survivors)
        np.testing.assert_array_equal(each.vector, expected, f"round {each.round}")
    found = world.verified()
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    answered = max(map(len, world.uploads.values()))
    said = next(check.said for check in found.checks if check.name == PRIVACY)
    assert f"at most {answered} were answered" in said, said


def assert_all_noise_is_fresh(draws: Draws) -> None:
    """Two shares of σ ≥ 2^13 in six integers or more agree with a chance below 2^-80."""
    assert all(np.count_nonzero(np.frombuffer(noise, np.uint64)) >= 6 for noise in draws.noises.values())
    assert len(set(draws.noises.values())) == len(draws.noises)


@pytest.mark.parametrize(
    "session",
    [PRIVATE, pytest.param(TRUSTING, marks=pytest.mark.slow), pytest.param(GATED, marks=pytest.mark.slow)],
    ids=["private", "semi-honest", "gated"],
)
def test_it_comes_to_the_model_that_its_noise_gives(tmp_path: Path, same_noise: Draws, session: str) -> None:
    """The p-th process dies behind its p-th commit: a little farther each time, so most of them in a round that tenants paid for."""
    world = world_of(tmp_path, session)
    outcome = world.until_it_ends(lambda number: Death("after commit", number + 3))
    assert world.processes > 5
    assert_nothing_was_spent_twice_or_forgotten(world, outcome, same_noise)
    expected = undisturbed(session)
    assert outcome.fitted.parameters.distance(expected.fitted.parameters) == 0
    assert max(map(len, world.uploads.values())) > len(expected.record.rounds), "some sums were asked for anew"


def test_no_noise_hides_two_sums(tmp_path: Path, draws: Draws) -> None:
    """Real noise, and a server that dies anywhere: while it listens, in whatever phase of a round or a window that is."""
    world = world_of(tmp_path, PRIVATE)
    outcome = world.until_it_ends(lambda number: Death("listening", 17 * number + 9))
    assert world.processes > 3
    assert_nothing_was_spent_twice_or_forgotten(world, outcome, draws)
    assert_all_noise_is_fresh(draws)


def test_deaths_cost_spare_sums_and_there_are_no_others(tmp_path: Path, draws: Draws) -> None:
    """One more than there are: nobody answers with noise that was not promised, and the server says what is the matter."""
    world = world_of(tmp_path, private(spare=1))
    for _ in range(2):
        with pytest.raises(Crashed):
            world.process(world.death_in_a_paid_round())
        world.links_break()
    world.dying = None
    with pytest.raises(
        SumFailed, match=r"round 5: 4 of 4 tenants could not compute.*all 4 sums.*`spare_sums`"
    ) as failed:
        world.process()
    assert "Close" in world.signed and isinstance(failed.value, FedEmError)
    session = bytes.fromhex(world.watcher.record.session) if world.watcher.record else b""
    for tenant, ledger in world.ledgers.items():
        assert sorted(ledger.spends.sessions[session].charged) == [1, 2, 3, 4]
        assert world.uploads[tenant] == [1, 2, 3, 4, 5], (
            "the fifth is of no statistics, and says only that there are none"
        )
    assert {round_number for _, round_number in draws.noised} == {1, 2, 3, 4}
    assert_all_noise_is_fresh(draws)
