"""What the coordinator refuses, from callers and from tenants, and that a refusal leaves it exactly as it was."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import pytest

from fed_em.errors import CallerError
from fed_em_protocols import coordinator
from fed_em_protocols.coordinator import (
    coordinator_close,
    coordinator_receive,
    coordinator_request,
    coordinator_start,
    coordinator_tick,
    coordinator_unlinked,
)
from fed_em_protocols.coordinator_state import CoordinatorState, CoordinatorStep, SumRequest, Timetable
from fed_em_protocols.envelope import Sealed, seal, unquote, unseal
from fed_em_protocols.errors import BadSignature, IllegalStep, MalformedMessage, OutOfTurn, PeerFault, SumFailed
from fed_em_protocols.hashing import digest
from fed_em_protocols.messages import (
    KINDS,
    Certificate,
    Close,
    CloseReason,
    Endorsement,
    Header,
    Hello,
    Join,
    Opening,
    Outcome,
    Proposal,
    Recover,
    Upload,
)
from fed_em_protocols.terms import Trust
from fed_em_protocols.transitions import (
    COORDINATOR_HEARS,
    COORDINATOR_MOVES,
    ROUND_TRANSITIONS,
    SET_UP_MOVES,
    CoordinatorPhase,
    RoundStage,
    SetUpPhase,
    require_move,
    require_target,
)
from fed_em_protocols.wire import messages_pb2
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.examples import EXAMPLES
from tests.protocols.federation import (
    DESCRIPTION,
    SHORT_TIMES,
    TestFederation,
    identity_of,
    kind_of,
    roster_of,
    terms_of,
)

pytestmark = pytest.mark.usefixtures("remembered_keys")

REQUEST = SumRequest(b"", bytes(32), 8)


def started(n: int = 4, **terms: int | bytes) -> CoordinatorState:
    roster = roster_of(n)
    return coordinator_start(roster, identity_of("server"), terms_of(roster, **terms), DESCRIPTION, SHORT_TIMES, 0.0)


# --- the caller ---


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"roster": bytes(32)}, "another roster"),
        ({"schema": bytes(32)}, "another description"),
        ({"window_rounds": 0}, "1 to 200 rounds"),
        ({"colluders": 9}, "survivors cannot come from"),
    ],
)
def test_terms_that_do_not_fit_are_the_callers_fault(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(CallerError, match=text):
        started(**changes)


def test_another_servers_key_is_the_callers_fault() -> None:
    roster = roster_of(4)
    with pytest.raises(CallerError, match="identity key is not the one in the roster"):
        coordinator_start(roster, identity_of("t0"), terms_of(roster), DESCRIPTION, SHORT_TIMES, 0.0)


@pytest.mark.parametrize("name", ["gather", "set_up", "upload", "straggler", "open", "pause"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_timetable_has_positive_times(name: str, value: float) -> None:
    with pytest.raises(CallerError, match=f"{name} must be positive"):
        Timetable(**{name: value})


@pytest.mark.parametrize("changes", [{"quorum": 0.0}, {"quorum": 1.1}, {"patience": -1.0}])
def test_quorum_and_patience_have_limits(changes: dict[str, float]) -> None:
    with pytest.raises(CallerError, match="quorum must lie in"):
        Timetable(**changes)


def test_one_request_at_a_time_and_none_after_the_end() -> None:
    asked = coordinator_request(started(), REQUEST, 0.0).state
    with pytest.raises(IllegalStep, match="a sum is being computed"):
        coordinator_request(asked, REQUEST, 0.0)
    closed = coordinator_close(asked, CloseReason.FINISHED).state
    with pytest.raises(IllegalStep, match="session is over"):
        coordinator_request(closed, REQUEST, 0.0)
    assert coordinator_close(closed, CloseReason.FINISHED) == CoordinatorStep(closed)
    assert coordinator_tick(closed, 99.0).state == closed


def test_a_gathering_without_enough_tenants_fails_by_name_when_its_time_is_up() -> None:
    step = coordinator_request(started(), REQUEST, 0.0)
    assert step.result is None and step.state.deadline == SHORT_TIMES.gather
    assert coordinator_tick(step.state, SHORT_TIMES.gather - 0.01).result is None
    failed = coordinator_tick(step.state, SHORT_TIMES.gather)
    assert failed.result is not None and failed.state.deadline is None
    assert "0 of 4 tenants answer, 3 are needed; missing: t0, t1, t2, t3" in str(failed.result)


# --- messages ---


class Recorder(FederatedSum):
    """Keeps one state of every phase that it goes through, and every message that it sends."""

    def record(self) -> None:
        self.phases: dict[CoordinatorPhase, CoordinatorState] = {}
        self.sent: list[Sealed[Any]] = []

    def _take(self, step: CoordinatorStep) -> Any:
        self.phases.setdefault(step.state.phase, step.state)
        self.sent += [unseal(data, "server") for _, data in step.sends]
        return super()._take(step)


def recorded(n: int = 5, rounds: int = 3, **options: Any) -> tuple[TestFederation, Recorder]:
    """Rounds with a death before the upload, one after it, and one that ends without a certificate."""
    killed: set[Any] = set()

    def interfere(passing: Passing) -> Fate:
        kind, number = kind_of(passing.data), federation.server.state.last_round
        to_tenant = passing.direction is Direction.TO_TENANT
        dies = to_tenant and (passing.tenant, kind, number) in {
            (3, Header, 1),
            (4, Certificate, 1),
            (2, Header, 2),
            (3, Proposal, 2),
        }
        if dies and (passing.tenant, number) not in killed:
            killed.add((passing.tenant, number))
            federation.hub.restart(passing.tenant, 0.1)
            return Fate.KILL
        return Fate.DELIVER

    federation = TestFederation(n, interfere=interfere, **options)
    server = federation.server
    server.__class__ = Recorder
    assert isinstance(server, Recorder)
    server.record()
    for _ in range(rounds):
        federation.sum()
    return federation, server


def test_every_message_that_a_phase_does_not_know_is_refused_and_changes_nothing() -> None:
    _, server = recorded()
    closed = coordinator_close(server.state, CloseReason.FINISHED).state
    phases = {**server.phases, CoordinatorPhase.CLOSED: closed}
    assert set(phases) == set(COORDINATOR_HEARS) == set(COORDINATOR_MOVES) == set(CoordinatorPhase)
    refused = 0
    for phase, state in phases.items():
        for content in EXAMPLES:
            if type(content) not in COORDINATOR_HEARS[phase]:
                data = seal(content, identity_of("t0")).to_bytes()
                with pytest.raises(
                    OutOfTurn, match=f"t0: sent {type(content).__name__} while this side is {phase.value}"
                ):
                    coordinator_receive(state, 0, data, 0.0)
                refused += 1
    assert refused == 6 * 12 + 24  # the server's own kinds before the end, and everything after it


def test_messages_before_hello_and_before_join_are_refused() -> None:
    state = started()
    key = identity_of("t0")
    hello = seal(Hello("t0", state.roster.digest, b"b" * 16, "x", bytes(32)), key).to_bytes()
    session = state.terms.content.session
    join = seal(Join(session, state.terms.digest, b"b" * 16, 0, bytes(32)), key).to_bytes()
    upload = seal(Upload(session, 1, bytes(32)), key).to_bytes()
    for data in (join, upload):
        with pytest.raises(OutOfTurn, match="before saying hello"):
            coordinator_receive(state, 0, data, 0.0)
    linked = coordinator_receive(state, 0, hello, 0.0).state
    with pytest.raises(OutOfTurn, match="before accepting the terms"):
        coordinator_receive(linked, 0, upload, 0.0)
    joined = coordinator_receive(linked, 0, join, 0.0).state
    assert joined.members[0].here
    with pytest.raises(OutOfTurn, match="of another session"):
        coordinator_receive(
            joined, 0, seal(Join(bytes(16), state.terms.digest, b"b" * 16, 0, bytes(32)), key).to_bytes(), 0.0
        )
    assert coordinator_receive(joined, 0, upload, 0.0).state.round is None  # late, and of no consequence


def test_another_tenants_message_on_a_link_is_refused() -> None:
    state = started()
    hello = seal(Hello("t1", state.roster.digest, b"b" * 16, "x", bytes(32)), identity_of("t1")).to_bytes()
    with pytest.raises(PeerFault) as caught:
        coordinator_receive(state, 0, hello, 0.0)
    assert caught.value.peer == "t0"


def test_unlinking_twice_is_unlinking_once() -> None:
    state = started()
    assert coordinator_unlinked(state, 0, 1.0) == CoordinatorStep(state)


def test_moves_that_the_tables_do_not_know_are_bugs() -> None:
    require_move(COORDINATOR_MOVES, CoordinatorPhase.OPENING, CoordinatorPhase.OPENING)
    with pytest.raises(IllegalStep, match="from uploading to recovering"):
        require_move(COORDINATOR_MOVES, CoordinatorPhase.UPLOADING, CoordinatorPhase.RECOVERING)
    with pytest.raises(IllegalStep, match="from advertising to confirming"):
        require_move(SET_UP_MOVES, SetUpPhase.ADVERTISING, SetUpPhase.CONFIRMING)
    with pytest.raises(IllegalStep, match="a Certificate led from uploaded to answering"):
        require_target(ROUND_TRANSITIONS, RoundStage.UPLOADED, Certificate, RoundStage.ANSWERING)


def test_a_step_that_goes_astray_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def astray(state: CoordinatorState, _: float) -> CoordinatorStep:
        return CoordinatorStep(replace(state, phase=CoordinatorPhase.RECOVERING))

    monkeypatch.setattr(coordinator, "_STAGES", {**coordinator._STAGES, CoordinatorPhase.GATHERING: astray})
    with pytest.raises(IllegalStep, match="from gathering to recovering"):
        coordinator_request(started(), REQUEST, 0.0)


# --- what it says ---


def sent_of(server: Recorder, kind: type) -> list[Sealed[Any]]:
    found: dict[bytes, Sealed[Any]] = {m.digest: m for m in server.sent if isinstance(m.content, kind)}
    return list(found.values())


def certificate_in(header: Header) -> Certificate | None:
    """The certificate of the round before."""
    return unquote(header.previous[0], Certificate, "server").content if header.previous else None


@pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)
def test_headers_tell_how_the_round_before_ended(trust: Trust) -> None:
    """A chain: each names the round, certificate and outcome of its predecessor, and the total after it."""
    federation, server = recorded(rounds=4, colluders=1, trust=int(trust))
    headers = [header.content for header in sent_of(server, Header)]
    certificates = {sealed.content.round: sealed.content for sealed in sent_of(server, Certificate)}
    assert headers[0].previous_outcome == Outcome.NONE and headers[0].previous == ()
    assert [header.round for header in headers] == list(range(1, len(headers) + 1))
    total = bytes(32)
    for earlier, later in itertools.pairwise(headers):
        assert later.previous_round == earlier.round
        shown = certificate_in(later)
        if later.previous_outcome == Outcome.OPENED:
            assert shown == certificates[earlier.round] and later.previous_sum != total
            total = later.previous_sum
        elif trust is Trust.MALICIOUS_SERVER:
            assert shown is not None and shown.context == sent_of(server, Header)[earlier.round - 1].digest
        assert later.previous_sum == total
    state = federation.server.state
    assert state.previous.round == headers[-1].round
    assert state.total is not None and state.previous.sum == state.total.digest


@pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)
def test_a_round_that_was_certified_and_not_opened_is_told_as_such(trust: Trust) -> None:
    def interfere(passing: Passing) -> Fate:
        dies = passing.tenant != 0 and passing.direction is Direction.TO_TENANT and kind_of(passing.data) is Certificate
        if dies and federation.server.state.last_round == 2:
            federation.hub.restart(passing.tenant, 0.1)
            return Fate.KILL
        return Fate.DELIVER

    federation = TestFederation(4, interfere=interfere, trust=int(trust))
    federation.server.__class__ = Recorder
    server = federation.server
    assert isinstance(server, Recorder)
    server.record()
    federation.sum()
    federation.sum()
    _, second, third = (sealed.content for sealed in sent_of(server, Header))
    assert (third.previous_round, third.previous_outcome) == (2, Outcome.NOT_OPENED)
    assert certificate_in(third) == sent_of(server, Certificate)[1].content
    assert third.previous_sum == second.previous_sum
    assert third.base_rounds == second.base_rounds == (1, 1, 1, 1)


def test_every_round_has_one_header_and_one_certificate_and_recovery_quotes_them() -> None:
    _, server = recorded()
    for kind in (Header, Certificate):
        rounds = [message.content.round for message in sent_of(server, kind)]
        assert rounds and len(set(rounds)) == len(rounds)
    contexts = {header.digest for header in sent_of(server, Header)}
    recoveries = sent_of(server, Recover)
    assert recoveries
    for recovery in recoveries:
        assert unquote(recovery.content.header, Header, "server").digest in contexts


# --- endorsements, openings and shares that do not fit ---


def answering(phase: CoordinatorPhase, kind: type) -> tuple[CoordinatorState, Any]:
    """A server in some phase, and the message of tenant 0 that it waits for, with the key that signs it."""
    found: list[tuple[CoordinatorState, Any]] = []

    def interfere(passing: Passing) -> Fate:
        if passing.tenant == 0 and passing.direction is Direction.TO_SERVER and kind_of(passing.data) is kind:
            session = federation.hub.session_of(0)
            assert session is not None and session.state.window is not None and not found
            found.append(
                (federation.server.state, (unseal(passing.data, "t0"), session.state.window.secrets.signing_key))
            )
        return Fate.DELIVER

    federation = TestFederation(4, interfere=interfere)
    federation.sum()
    assert found[0][0].phase is phase
    return found[0]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"survivors": b"\x07"}, OutOfTurn, "endorsed another outcome of round 1"),
        ({"root": bytes(32)}, OutOfTurn, "endorsed another outcome of round 1"),
        ({"context": bytes(32)}, OutOfTurn, "endorsed another outcome of round 1"),
    ],
)
def test_an_endorsement_of_another_outcome_is_refused(
    change: dict[str, Any], error: type[Exception], text: str
) -> None:
    state, (sealed, key) = answering(CoordinatorPhase.CERTIFYING, Endorsement)
    with pytest.raises(error, match=text):
        coordinator_receive(state, 0, seal(replace(sealed.content, **change), key).to_bytes(), 0.0)
    with pytest.raises(BadSignature):
        coordinator_receive(state, 0, seal(sealed.content, identity_of("t0")).to_bytes(), 0.0)
    for late in ({"round": 7}, {"setup": bytes(32)}):  # of no consequence
        after = coordinator_receive(state, 0, seal(replace(sealed.content, **late), key).to_bytes(), 0.0).state
        assert after.round is not None and after.round == state.round


def test_only_one_serialisation_of_what_others_must_rebuild_is_taken() -> None:
    for phase, kind in ((CoordinatorPhase.UPLOADING, Upload), (CoordinatorPhase.CERTIFYING, Endorsement)):
        state, (sealed, key) = answering(phase, kind)
        # The same fields in another order: protobuf reads them alike.
        wire = getattr(messages_pb2, kind.__name__).FromString(sealed.payload)
        parts = [
            type(wire)(**{entry.name: getattr(wire, entry.name)}).SerializeToString()
            for entry in wire.DESCRIPTOR.fields
        ]
        payload = b"".join(reversed(parts))
        signed = digest("message", KINDS[kind], payload, sealed.attachment_digest)
        data = replace(sealed, payload=payload, signature=key.sign(signed)).to_bytes()
        assert unseal(data, "t0").content == sealed.content
        with pytest.raises(MalformedMessage, match="another serialisation than the only one"):
            coordinator_receive(state, 0, data, 0.0)


def test_a_second_opening_or_endorsement_of_the_same_tenant_changes_nothing() -> None:
    for phase, kind in ((CoordinatorPhase.CERTIFYING, Endorsement), (CoordinatorPhase.OPENING, Opening)):
        state, (sealed, _) = answering(phase, kind)
        once = coordinator_receive(state, 0, sealed.to_bytes(), 0.0).state
        assert once != state
        assert coordinator_receive(once, 0, sealed.to_bytes(), 0.0) == CoordinatorStep(once)


def test_the_rounds_of_a_session_are_capped() -> None:
    federation = TestFederation(3, round_cap=2)
    federation.sum()
    federation.sum()
    with pytest.raises(SumFailed, match="cap of 2 rounds is reached"):
        federation.sum()


def test_the_end_is_told_to_everybody_who_joined_with_the_parameters() -> None:
    federation = TestFederation(4)
    federation.sum()
    federation.server.close(CloseReason.FINISHED, b"final")
    for index in range(4):
        session = federation.hub.session_of(index)
        assert session is not None and session.over and session.closed is not None
        assert session.closed.attachment == b"final" and session.closed.content == Close(
            bytes(range(16)), int(CloseReason.FINISHED), 1
        )


def test_parameters_travel_with_the_header_and_are_bound_to_it() -> None:
    federation = TestFederation(3)
    federation.sum(b"theta")
    assert all(work.asked[0].parameters == b"theta" for work in federation.works)
    current = federation.hub.session_of(0)
    assert current is not None and current.state.round is not None
    assert current.state.round.header.content.parameters == hashlib.sha256(b"theta").digest()
