"""Nine tenants that fit a mixture to handwritten digits in virtual time, with trouble: what the views are tested on.

Everything in the record comes from `run_session` over the memory hub; nothing in it is made up.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fed_em.broadcast import Broadcast
from fed_em.em import Stopping
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import Notice, Timetable
from fed_em_protocols.description import Column, SessionDescription, encoding_of
from fed_em_protocols.envelope import unseal
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Upload
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.roster import Roster, RosterServer, RosterTenant
from fed_em_protocols.tenant_state import Evaluate, TenantSelf
from fed_em_protocols.terms import SUITE, SessionTerms, Trust
from fed_em_server.hub import Arrived
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import Comparison, RoundRecord, SessionRecord
from fed_em_server.session import SessionOutcome, SessionPlan, Watcher, run_session
from fed_em_simulations.digits import COLUMNS, DigitsFederation, digits_federation
from fed_em_simulations.memory_hub import Direction, Fate, MemoryHub, Passing
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.protocols.federation import MemoryMarks, certificate_of, identity_of

BLOCKS = 3

TIMES = Timetable(gather=8.0, patience=0.005, set_up=2.0, upload=3.0, quorum=0.75, straggler=0.02, open=0.05)


@dataclass
class MatrixWork:
    """A tenant's work on rows in memory."""

    roster: Roster
    index: int
    rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    description: SessionDescription | None = None

    def prepare(self, description: bytes, mass_floor: int) -> None:
        self.description = SessionDescription.from_json(description)

    def changed(self, session: bytes) -> bool:
        return False

    def held(self, counts: RingVector) -> bytes:
        raise AssertionError("no session here has a mass gate")

    def evaluate(self, asked: Evaluate) -> RingVector:
        assert self.description is not None
        broadcast = Broadcast.from_bytes(asked.parameters)
        encoding = encoding_of(self.description, broadcast, self.roster.row_caps)
        rows = broadcast.coordinates.apply(self.rows)
        return encoding.encode(broadcast.model.e_step(broadcast.parameters, rows, encoding.layout), self.index)


KILLED = "killed"

Trouble = Mapping[tuple[str, int], float | str]
"""What happens to a tenant's nth upload, counted from 1: it comes so many seconds late, or the tenant is `KILLED` right
after it has written it, and started again a little later."""


class TroubledHub(MemoryHub):
    """A memory hub on which uploads meet trouble."""

    def __init__(self, federation: Federation, trouble: Trouble) -> None:
        self._federation = federation
        self._trouble = trouble
        self._uploads: Counter[int] = Counter()
        n = federation.roster.n
        super().__init__([lambda i=i: federation.start(i) for i in range(n)], 0.001, self._happens)  # type: ignore[misc]

    def _happens(self, passing: Passing) -> Fate:
        name = self._federation.roster.tenants[passing.tenant].name
        if passing.direction is not Direction.TO_SERVER or type(unseal(passing.data, name).content) is not Upload:
            return Fate.DELIVER
        self._uploads[passing.tenant] += 1
        meets = self._trouble.get((name, self._uploads[passing.tenant]))
        if isinstance(meets, float):
            self._at(passing.time + meets, lambda: Arrived(passing.tenant, passing.data))
            return Fate.LOSE
        if meets == KILLED:
            self.restart(passing.tenant, 0.04)
            return Fate.KILL
        return Fate.DELIVER


class Federation:
    """The tenants' processes, over a roster with seeded keys."""

    def __init__(self, data: DigitsFederation) -> None:
        self.data = data
        self.roster = _roster_of({name: len(rows) for name, rows in data.tenants.items()})
        self._marks = [MemoryMarks() for _ in data.tenants]
        self._lives = 0

    def start(self, index: int) -> TenantSession:
        name = self.roster.tenants[index].name
        self._lives += 1
        policy = TermsPolicy(allow_semi_honest=True, colluders=0, difference_guard=False)
        me = TenantSelf(self.roster, index, identity_of(name), policy, "test")
        work = MatrixWork(self.roster, index, self.data.tenants[name])
        return TenantSession(me, work, self._marks[index], seeded_randomness(self._lives))


def _roster_of(rows: Mapping[str, int]) -> Roster:
    tenants = tuple(
        RosterTenant(
            name=name,
            identity=identity_of(name).public.hex(),
            certificate=certificate_of(name),
            row_cap=2 * count,
            block=place % BLOCKS,
        )
        for place, (name, count) in enumerate(rows.items())
    )
    server = RosterServer(identity=identity_of("server").public.hex(), certificate=certificate_of("server"))
    return Roster(federation="nine-clinics", server=server, tenants=tenants)


def plan_of(federation: Federation, iterations: int, **changes: int) -> SessionPlan:
    low, high = federation.data.projection.ranges()
    columns = tuple(Column(name=n, low=a, high=b) for n, a, b in zip(COLUMNS, low, high, strict=True))
    model = {"family": "gaussian-mixture", "n_components": 10, "covariance": "full", "covariance_floor": 1e-3}
    description = SessionDescription(title="handwritten-digits", columns=columns, model=model)
    roster = federation.roster
    terms = SessionTerms(
        session=bytes(range(16)), roster=roster.digest, schema=hashlib.sha256(description.to_json()).digest(),
        suite=SUITE, trust=int(Trust.MALICIOUS_SERVER), minimum_cohort=3, minimum_survivors=3, colluders=1, witnesses=0,
        certificate_quorum=0, share_threshold=0, neighbours=0, side_honest=0, blocks=BLOCKS, mass_floor=0,
        round_cap=3 * (iterations + 1), window_rounds=64,
    )  # fmt: skip
    terms = replace(terms, **changes)
    return SessionPlan(
        roster, identity_of("server"), description, terms, TIMES, Stopping(1e-4, iterations), 3, "memory"
    )


TROUBLE: Trouble = {
    ("elm", 6): KILLED,
    ("hazel", 21): KILLED,
    ("maple", 10): 0.05,
    ("maple", 12): 0.05,
    ("maple", 30): 0.05,
}


# Terms without the difference guard, under a server that is trusted: sums may differ by one tenant.
EXPOSED = {"trust": int(Trust.SEMI_HONEST), "blocks": 0, "minimum_survivors": 5}


def train(watcher: Watcher, iterations: int = 80, trouble: Trouble = TROUBLE, **terms: int) -> SessionOutcome:
    """A session with two tenants that are killed and come back, and one that lags."""
    federation = Federation(digits_federation())
    return run_session(plan_of(federation, iterations, **terms), TroubledHub(federation, trouble), watcher)


class Onlooker:
    """A watcher that keeps what it is told, to tell it again."""

    def __init__(self) -> None:
        self.told: list[SessionRecord | Notice | RoundRecord] = []

    def session_started(self, record: SessionRecord) -> None:
        self.told.append(record)

    def noticed(self, notice: Notice) -> None:
        self.told.append(notice)

    def round_opened(self, record: RoundRecord) -> None:
        self.told.append(record)


def tell(watcher: Watcher, told: Sequence[SessionRecord | Notice | RoundRecord]) -> None:
    """Tell a watcher what an onlooker was told."""
    for news in told:
        if isinstance(news, SessionRecord):
            watcher.session_started(news)
        elif isinstance(news, Notice):
            watcher.noticed(news)
        else:
            watcher.round_opened(news)


def compared(outcome: SessionOutcome) -> SessionRecord:
    """The session's record with the federated, the pooled and the tenants' own models compared on held-out rows."""
    data, iterations = digits_federation(), 80
    description = plan_of(Federation(data), iterations).description
    stopping = Stopping(1e-4, iterations)
    pooled, _ = fit_pooled(description, data.pooled, stopping, 3)
    models = {"federated": (outcome.fitted, data.pooled), "pooled": (pooled, data.pooled)}
    for name, rows in data.tenants.items():
        models[f"{name} alone"] = (fit_pooled(description, rows, stopping, 3)[0], rows)
    comparison = tuple(
        Comparison(name=name, rows=len(rows), held_out_log_likelihood=float(fitted.score_samples(data.held_out).mean()))
        for name, (fitted, rows) in models.items()
    )
    return outcome.record.model_copy(update={"comparison": comparison})
