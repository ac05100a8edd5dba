"""A small federation in memory for tests of the secure sum: known vectors, seeded keys, trouble on request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator import coordinator_start
from fed_em_protocols.coordinator_state import Notice, NoticeKind, SumOpened, SumRequest, Timetable
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import KINDS, Mode
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.ring import RING_64, Ring, ring_of
from fed_em_protocols.roster import Roster, RosterServer, RosterTenant
from fed_em_protocols.tenant_state import Evaluate, TenantSelf
from fed_em_protocols.terms import SUITE, SessionTerms, Trust, default_colluders
from fed_em_protocols.wire import messages_pb2
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import Fate, Interference, MemoryHub
from fed_em_simulations.simulated_parties import seeded_certificate, seeded_randomness

DESCRIPTION = b'{"test": true}'


@cache
def certificate_of(name: str) -> str:
    """A self-signed certificate, the same in every run."""
    return seeded_certificate(name, digest("test certificate", name))


@cache
def identity_of(name: str) -> SigningKey:
    """The long-term key of a party in tests."""
    return SigningKey(digest("test identity", name))


@cache
def roster_of(n: int, row_cap: int = 100, blocks: int = 1, witnesses: int | None = None) -> Roster:
    """Tenants t0 … t(n−1) and a server; tenant i is in block i mod `blocks`, and the first `witnesses` are witnesses."""
    tenants = tuple(
        RosterTenant(
            name=f"t{i}",
            identity=identity_of(f"t{i}").public.hex(),
            certificate=certificate_of(f"t{i}"),
            row_cap=row_cap,
            block=i % blocks,
            witness=witnesses is None or i < witnesses,
        )
        for i in range(n)
    )
    server = RosterServer(identity=identity_of("server").public.hex(), certificate=certificate_of("server"))
    return Roster(federation="test", server=server, tenants=tenants)


def terms_of(roster: Roster, /, **changes: int | bytes) -> SessionTerms:
    """Admissible terms: malicious-server trust without blocks, unless `changes` say otherwise."""
    colluders = int(changes.get("colluders", default_colluders(roster.n)))
    least = max(3, colluders + 2)
    values: dict[str, int | bytes] = {
        "session": bytes(range(16)), "roster": roster.digest, "schema": hashlib.sha256(DESCRIPTION).digest(),
        "suite": SUITE, "trust": int(Trust.MALICIOUS_SERVER), "minimum_cohort": colluders + 2, "minimum_survivors": least,
        "colluders": colluders, "witnesses": 0, "certificate_quorum": 0, "share_threshold": 0, "neighbours": 0,
        "side_honest": 0, "blocks": 0, "mass_floor": 0, "round_cap": 100, "window_rounds": 4,
    }  # fmt: skip
    return SessionTerms(**{**values, **changes})  # type: ignore[arg-type]


class MemoryMarks:
    """Round marks that outlive a tenant's "process", as a disk would."""

    def __init__(self) -> None:
        self._highest: dict[bytes, int] = {}
        self._endorsed: dict[bytes, tuple[int, bytes]] = {}

    def highest(self, session: bytes) -> int:
        return self._highest.get(session, 0)

    def endorsed(self, session: bytes) -> tuple[int, bytes]:
        return self._endorsed.get(session, (0, b""))

    def endorse(self, session: bytes, round_number: int, outcome: bytes) -> None:
        assert round_number > self.endorsed(session)[0]
        self._endorsed[session] = (round_number, outcome)

    def record(self, session: bytes, round_number: int) -> None:
        assert round_number > self.highest(session)
        self._highest[session] = round_number


@dataclass
class KnownVector:
    """A tenant's work: a vector that follows from its seed and the parameters; remembers what it was asked."""

    seed: int
    length: int
    asked: list[Evaluate] = field(default_factory=list)

    def vector_at(self, parameters: bytes, ring: Ring = RING_64) -> RingVector:
        """Uniform in the ring of 64-bit words, but for the tail."""
        stream = hashlib.shake_256(b"%d/" % self.seed + parameters).digest(8 * self.length)
        vector = np.frombuffer(stream, dtype="<u8").copy()
        vector[-ring.tail_words :] = 0
        return vector

    def prepare(self, description: bytes, mass_floor: int) -> None:
        assert description == DESCRIPTION

    def changed(self, session: bytes) -> bool:
        return False

    def evaluate(self, asked: Evaluate) -> RingVector:
        self.asked.append(asked)
        return self.vector_at(asked.parameters, ring_of(64, asked.mode == Mode.COUNTS))

    @property
    def has_counted(self) -> bool:
        """Whether it was ever asked for counts: without its own it has no rule of the gate to apply."""
        return any(asked.mode == Mode.COUNTS for asked in self.asked)

    def held(self, counts: RingVector) -> bytes:
        return gate_of(counts) if self.has_counted else b""


def gate_of(counts: RingVector) -> bytes:
    """A rule for eight components: which are held changes with every sum of counts."""
    return hashlib.sha256(counts.tobytes()).digest()[:1]


def kind_of(data: bytes) -> type:
    """The kind of a message on its way."""
    return _KIND_OF_NUMBER[messages_pb2.Envelope.FromString(data).kind]


_KIND_OF_NUMBER = {number: kind for kind, number in KINDS.items()}

SHORT_TIMES = Timetable(
    gather=8.0, patience=0.5, set_up=2.0, upload=3.0, quorum=0.75, straggler=1.0, open=1.0, pause=8.0
)


class TestFederation:
    """n tenants with random ring vectors of some length (check words zero), a hub, and a `FederatedSum`."""

    __test__ = False

    def __init__(
        self,
        n: int,
        length: int = 6,
        seed: int = 0,
        interfere: Interference = lambda _: Fate.DELIVER,
        timetable: Timetable = SHORT_TIMES,
        latency: float | Sequence[float] = 0.001,
        sessions: Mapping[int, type[TenantSession]] | None = None,
        named_witnesses: int | None = None,
        **terms: int | bytes,
    ) -> None:
        self.roster = roster_of(n, blocks=int(terms.get("blocks", 0)) or 1, witnesses=named_witnesses)
        self.length = length + RING_64.tail_words
        self.works = [KnownVector(1000 * seed + i, self.length) for i in range(n)]
        # What the running total must hold of each tenant.
        self.terms_in_total: dict[int, RingVector] = {}
        self.marks = [MemoryMarks() for _ in range(n)]
        self._lives = 0
        self._asked = 0
        self.seed = seed
        self.notices: list[Notice] = []
        self._sessions = sessions or {}
        self.hub = MemoryHub([lambda i=i: self._start(i) for i in range(n)], latency, interfere)  # type: ignore[misc]
        state = coordinator_start(
            self.roster, identity_of("server"), terms_of(self.roster, **terms), DESCRIPTION, timetable, 0.0
        )
        self.server = FederatedSum(state, self.hub, self.notices.append)

    def _start(self, index: int) -> TenantSession:
        self._lives += 1
        me = TenantSelf(
            self.roster,
            index,
            identity_of(f"t{index}"),
            TermsPolicy(allow_semi_honest=True, colluders=0, difference_guard=False, graph_bits=0),
            "test",
        )
        randomness = seeded_randomness(1000 * self.seed + self._lives)
        kind = self._sessions.get(index, TenantSession)
        return kind(me, self.works[index], self.marks[index], randomness)

    def sum(self, parameters: bytes | None = None, whole: bool = False) -> SumOpened:
        """A sum, at parameters of its own unless some are given; checked against the plain sum, integer for integer."""
        self._asked += 1
        at = parameters if parameters is not None else b"parameters %d" % self._asked
        opened = self.server.sum(SumRequest(at, bytes(32), self.length, whole=whole))
        self._assert_exact(opened, at)
        return opened

    def try_sum(self) -> SumOpened | SumFailed:
        """A sum, or why there is none."""
        try:
            return self.sum()
        except SumFailed as failed:
            return failed

    def faults(self) -> list[tuple[tuple[str, ...], str]]:
        """Who was told to be at fault so far, and why."""
        return [(notice.tenants, notice.text) for notice in self.notices if notice.kind is NoticeKind.FAULT]

    def _assert_exact(self, opened: SumOpened, parameters: bytes) -> None:
        """The total is the survivors' vectors at these parameters and the stale ones' at those they were last summed at."""
        for index in opened.survivors:
            self.terms_in_total[index] = self.works[index].vector_at(parameters)
        self.terms_in_total = {i: v for i, v in self.terms_in_total.items() if i not in opened.missing}
        assert set(opened.survivors) | set(opened.stale) == set(self.terms_in_total)
        assert not set(opened.survivors) & set(opened.stale)
        assert np.array_equal(opened.vector, self._plain_total())

    def _plain_total(self) -> RingVector:
        total = np.zeros(self.length, dtype=np.uint64)
        for vector in self.terms_in_total.values():
            total += vector
        return total
