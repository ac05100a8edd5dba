"""A tenant's part in a round up to its upload: the header and all that it must agree with, the base of an increment, the masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from fed_em_protocols.certification import outcome_digest, require_certified, statement_of
from fed_em_protocols.envelope import Sealed, seal, seal_to_bytes, unquote
from fed_em_protocols.errors import SERVER, Equivocation, IllegalStep, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import AskBase, Base, Certificate, Header, Mode, Outcome, Upload
from fed_em_protocols.records import replace
from fed_em_protocols.ring import RINGS, ring_of
from fed_em_protocols.round_keys import AgreementKey, pair_mask_keys, self_mask_key
from fed_em_protocols.tenant_state import (
    BaseRound,
    Evaluate,
    GateOpened,
    OwnStatistics,
    RoundMarks,
    TenantRound,
    TenantState,
    TenantStep,
    TenantWindow,
    members_in,
    with_round,
)
from fed_em_protocols.terms import Trust, guarded_units, unit_place
from fed_em_protocols.transitions import RoundStage
from fed_em_protocols.window import Randomness, WindowSetUp


def on_header(state: TenantState, sealed: Sealed[Header], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    header, current = sealed.content, state.round
    known = current is not None and current.context == sealed.digest
    if known and state.round_stage is not RoundStage.ANSWERING:
        return TenantStep(state)  # it came after this tenant had certified the round, or helped to recover it
    accepted = state if known else accept_header(state, sealed, marks)
    assert accepted.round is not None
    if state.me.index not in accepted.round.participants:
        raise OutOfTurn(SERVER, f"asks this tenant for round {header.round} without counting it as a participant")
    if header.held and _known_gate(state, header) is None:
        raise _no_such_gate(header)  # own moments are given behind counts alone that this tenant has recomputed
    if sealed.attachment_digest != header.parameters:
        raise MalformedMessage(SERVER, "sent parameters that its header does not name")
    answering = replace(accepted.round, header=sealed, stage=RoundStage.ANSWERING)
    return _ask_or_evaluate(with_round(accepted, answering))


def _ask_or_evaluate(state: TenantState) -> TenantStep:
    """Evaluate this round's statistics; before that, if they were lost, ask for what those of the base are computed from."""
    current, window = state.round, state.window
    assert current is not None and window is not None
    header = current.header.content
    known = state.vectors.get(current.base[1]) if current.base else None
    if current.base is not None and known is None:
        ask = AskBase(header.session, current.number, current.base[1], current.context)
        return TenantStep(state, (seal(ask, window.secrets.signing_key).to_bytes(),))
    if known is not None:
        _require_same_encoding(header, known.encoding, 8 * known.ring.itemsize, len(known.ring))
    evaluate = Evaluate(
        current.number, header.mode, current.header.attachment, header.encoding, header.length, header.held,
        state.accepted_terms.mass_floor, state.accepted_terms.colluders, header.ring,
        minimum_survivors=state.accepted_terms.minimum_survivors,
    )  # fmt: skip
    return TenantStep(state, evaluate=evaluate)


def on_base(state: TenantState, sealed: Sealed[Base], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    current = state.round
    assert current is not None
    if current.base is None or current.base[1] in state.vectors:
        return TenantStep(state)
    quoted, header = unquote(sealed.content.header, Header, SERVER), current.header.content
    quoted.require_signature(state.me.roster.server.identity_key, SERVER)
    base = quoted.content
    if quoted.digest != current.base[1] or base.round != current.base[0]:
        raise MalformedMessage(SERVER, "sent another base round than its header names")
    if hashlib.sha256(sealed.attachment).digest() != base.parameters:
        raise MalformedMessage(SERVER, "sent parameters that are not those of the base round")
    if base.mode == Mode.COUNTS:
        raise PeerFault(SERVER, f"lets an increment of round {header.round} start from a round of counts")
    _require_same_encoding(header, base.encoding, base.ring, base.length)
    evaluate = Evaluate(
        base.round, base.mode, sealed.attachment, base.encoding, base.length, base.held,
        state.accepted_terms.mass_floor, state.accepted_terms.colluders, base.ring, recall=True,
        minimum_survivors=state.accepted_terms.minimum_survivors,
    )  # fmt: skip
    return TenantStep(state, evaluate=evaluate)


def _require_same_encoding(header: Header, encoding: bytes, ring: int, length: int) -> None:
    """The difference of integers that mean different things would be none of statistics."""
    if (encoding, ring, length) != (header.encoding, header.ring, header.length):
        raise PeerFault(SERVER, f"lets an increment of round {header.round} start from a round of another encoding")


def tenant_recall(state: TenantState, ring: RingVector) -> TenantStep:
    """Take the encoded statistics of the base round, computed again from the rows, and go on with the round itself."""
    current = state.round
    if current is None or current.stage is not RoundStage.ANSWERING or current.base is None:
        raise IllegalStep("no base is missing")
    recalled = OwnStatistics(current.header.content.encoding, _checked(state, ring))
    return _ask_or_evaluate(replace(state, vectors={**state.vectors, current.base[1]: recalled}))


def tenant_upload(state: TenantState, ring: RingVector, marks: RoundMarks) -> TenantStep:
    """Mask the encoded statistics of the current round and upload them: whole, or as an increment on those of its base.

    The round number is durable before this returns.

    Args:
        ring: The encoded vector, whole, of the header's length. Kept for later increments: nobody may change it afterwards.
    """
    current, window = state.round, state.window
    if current is None or window is None or current.stage is not RoundStage.ANSWERING or current.secrets is None:
        raise IllegalStep("no round is waiting for statistics")
    if current.base is not None and current.base[1] not in state.vectors:
        raise IllegalStep("the base of this increment is missing")
    header, own = current.header.content, state.me.index
    whole = _checked(state, ring)
    sent = whole if current.base is None else whole - state.vectors[current.base[1]].ring
    masked = np.empty_like(sent) if sent is whole else sent
    keys = pair_keys(state, window, current, current.participants.intersection(window.fixed.neighbours(own)))
    add_masks(
        sent,
        out=masked,
        added=[self_mask_key(current.secrets.self_seed, current.context)]
        + [key for peer, key in keys.items() if own < peer],
        subtracted=[key for peer, key in keys.items() if own > peer],
    )
    marks.record(header.session, current.number)
    upload = Upload(header.session, current.number, current.context)
    sends = (seal_to_bytes(upload, window.secrets.signing_key, masked.data.cast("B")),)
    uploaded = replace(current, stage=RoundStage.UPLOADED, answers={**current.answers, current.header.digest: sends})
    return TenantStep(replace(state, round=uploaded, vectors=_remembered(state, current, whole)), sends)


def _checked(state: TenantState, ring: RingVector) -> RingVector:
    assert state.round is not None
    length = state.round.header.content.length
    if ring.shape != (length,):
        raise IllegalStep(f"the header asks for {length} integers, not {ring.shape}")
    wanted = RINGS[state.round.header.content.ring]
    if ring.dtype != wanted.dtype:
        raise IllegalStep(f"masks are added to integers modulo 2^{wanted.bits}, not to {ring.dtype}")
    return ring


def _remembered(state: TenantState, current: TenantRound, whole: RingVector) -> Mapping[bytes, OwnStatistics]:
    """The statistics that a later increment may start from: those of the base, and those of this round."""
    if current.header.content.mode == Mode.COUNTS:
        return state.vectors
    bases = {state.base.context, current.base[1] if current.base else b""}
    kept = {context: vector for context, vector in state.vectors.items() if context in bases}
    return {**kept, current.context: OwnStatistics(current.header.content.encoding, whole)}


def accept_header(state: TenantState, sealed: Sealed[Header], marks: RoundMarks) -> TenantState:
    """The state in a new round: older rounds are forgotten, their keys and shares erased. In use is the window it names.

    Raises:
        PeerFault: names the server.
    """
    header = sealed.content
    window = state.window_of(header.setup)
    _require_fresh_round(state, sealed, marks)
    if window is None or state.terms is None or header.terms != state.terms.digest:
        raise OutOfTurn(SERVER, "sent a header of other terms or of another set-up")
    terms, setup, me = state.terms.content, window.fixed, state.me
    if not setup.covers(header.round) or header.round > terms.round_cap:
        raise PeerFault(SERVER, f"asks for round {header.round}, beyond the window or the session's round cap")
    if header.mode not in set(Mode):
        raise MalformedMessage(SERVER, f"asks for a round of mode {header.mode}, which this version does not know")
    if header.ring not in RINGS:
        raise MalformedMessage(SERVER, f"asks for a sum modulo 2^{header.ring}, which this version does not know")
    if header.length <= ring_of(header.ring, header.mode == Mode.COUNTS).tail_words:
        raise MalformedMessage(SERVER, f"asks for {header.length} integers, of which none would be a statistic")
    require_witnesses(header, setup, me.roster.n)
    participants = members_in(header.participants, me.roster, setup.members, "participants")
    if len(participants) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"asks for a sum of {len(participants)} tenants, the terms say {terms.minimum_survivors} or more",
        )
    base = _base_after(state, sealed)
    start = _increment_start(header, base, state) if me.index in participants else None
    _require_gate(state, header, participants)
    chain = window.secrets.chain.advanced(header.round)
    mine = chain.current() if me.index in participants else None
    kept = {dealer: shares.from_round(header.round) for dealer, shares in window.held.items()}
    secrets = replace(window.secrets, chain=chain.advanced(header.round + 1))
    adopted = window is state.upcoming
    return replace(
        state,
        window=replace(window, secrets=secrets, held=kept, answers={}),
        upcoming=None if adopted else state.upcoming,
        round=TenantRound(sealed, participants, mine, base=start),
        highest_round=header.round,
        base=base,
    )


def require_witnesses(header: Header, setup: WindowSetUp, n: int) -> None:
    """Raise `MalformedMessage` naming the server if a header's witnesses are not those of its window."""
    if header.witnesses != to_bitmap(setup.witnesses, n):
        raise MalformedMessage(SERVER, "names other witnesses than the window's")


def require_one_header(current: TenantRound, sealed: Sealed[Header]) -> None:
    """Raise `Equivocation` if this header, signed by the server, is another one than that of the round this tenant is in."""
    if sealed.content.round == current.number and sealed.digest != current.context:
        raise Equivocation(
            SERVER,
            f"signed two different headers for round {current.number}",
            proves="the server showed different rounds to different tenants; keep both headers",
        )


def _require_fresh_round(state: TenantState, sealed: Sealed[Header], marks: RoundMarks) -> None:
    header = sealed.content
    if state.round is not None:
        require_one_header(state.round, sealed)
    passed = max(state.highest_round, marks.highest(header.session), marks.endorsed(header.session)[0])
    if header.round <= passed:
        raise OutOfTurn(SERVER, f"asks for round {header.round} again, which this tenant has passed")


def _base_after(state: TenantState, sealed: Sealed[Header]) -> BaseRound:
    """Hold a header against the round before it, and follow the base through that round's outcome.

    Once a round is certified or endorsed, this tenant cannot be told otherwise.
    """
    header, previous = sealed.content, state.round
    if header.previous_round != header.round - 1 or header.previous_outcome not in set(Outcome):
        raise MalformedMessage(
            SERVER, f"sent a header for round {header.round} that does not continue the chain of rounds"
        )
    certificate = _previous_certificate(state, header)
    if previous is None or previous.number != header.previous_round:
        return replace(state.base, certain=header.round == 1)
    if certificate is None:
        if previous.outcome is not None or previous.endorsed is not None:
            raise _two_outcomes(previous)
        return state.base
    survivors = _survivors_told(state, previous, certificate)
    if header.previous_outcome != Outcome.OPENED or previous.header.content.mode == Mode.COUNTS:
        return state.base
    # Whatever this process has missed before: what was opened last is the base, and a base round leaves no older one.
    if state.me.index in survivors:
        return BaseRound(previous.number, previous.context, certain=True)
    return BaseRound(certain=True) if previous.header.content.mode == Mode.WHOLE else state.base


def _previous_certificate(state: TenantState, header: Header) -> Sealed[Certificate] | None:
    certified = state.accepted_terms.trust == Trust.MALICIOUS_SERVER
    if not header.previous:
        if header.previous_outcome == Outcome.OPENED or (certified and header.round > 1):
            raise PeerFault(
                SERVER,
                f"asks for round {header.round} without the certificate of round {header.previous_round}",
                proves="every round ends in one certificate before the next begins",
            )
        return None
    certificate = unquote(header.previous[0], Certificate, SERVER)
    certificate.require_signature(state.me.roster.server.identity_key, SERVER)
    if certificate.content.round != header.previous_round or certificate.content.session != header.session:
        raise MalformedMessage(SERVER, "shows the certificate of another round than the one before")
    if header.previous_outcome == Outcome.OPENED and not any(certificate.content.survivors):
        raise MalformedMessage(SERVER, f"says that round {header.previous_round}, which is void, was opened")
    return certificate


def _survivors_told(state: TenantState, previous: TenantRound, certificate: Sealed[Certificate]) -> frozenset[int]:
    """The survivors of the round before, by a certificate that agrees with all that this tenant knows of it."""
    content = certificate.content
    require_one_outcome(previous, outcome_digest(statement_of(content)))
    keys = state.window_of(content.setup)
    if content.context != previous.context or keys is None:
        raise MalformedMessage(SERVER, "shows a certificate under keys that this tenant does not know")
    require_certified(certificate, previous.header, keys.fixed, state.me.roster)
    return from_bitmap(content.survivors, state.me.roster.n)


def require_one_outcome(current: TenantRound, outcome: bytes) -> None:
    """Raise `Equivocation` unless an outcome is the one that this tenant has seen certified, or endorsed."""
    if current.outcome not in {None, outcome} or current.endorsed not in {None, outcome}:
        raise _two_outcomes(current)


def _two_outcomes(current: TenantRound) -> Equivocation:
    return Equivocation(
        SERVER,
        f"named two different outcomes of round {current.number}",
        proves="two openings of one round would give a single tenant's statistics away; nothing was released for the second",
    )


def _increment_start(header: Header, base: BaseRound, state: TenantState) -> tuple[int, bytes] | None:
    """What this tenant's increment starts from: the header binds one round and one context for its whole unit."""
    if header.mode != Mode.INCREMENT:
        if header.base_rounds or header.base_contexts:
            raise MalformedMessage(SERVER, "names base rounds where whole vectors are asked for")
        return None
    units, rounds = guarded_units(state.me.roster, state.accepted_terms), header.distinct_bases
    if len(header.base_rounds) != len(units) or len(header.base_contexts) != DIGEST_BYTES * len(rounds):
        raise MalformedMessage(SERVER, "names base rounds that do not fit the roster's blocks")
    if rounds and rounds[-1] >= header.round:
        raise MalformedMessage(SERVER, "names a base round that is not over")
    number = header.base_rounds[unit_place(state.me.roster, state.accepted_terms, state.me.index)]
    place = DIGEST_BYTES * rounds.index(number) if number else 0
    context = header.base_contexts[place : place + DIGEST_BYTES] if number else b""
    if base.certain and (number, context) != (base.round, base.context):
        raise PeerFault(
            SERVER,
            f"lets this tenant's increment start from round {number or 'nothing'}; by the certified rounds it is "
            f"{base.round or 'nothing'}",
            proves="the server lost its running total, or tried to mix the bases of one block",
        )
    return (number, context) if number else None


def _require_gate(state: TenantState, header: Header, participants: frozenset[int]) -> None:
    """A gate follows by rule from the round of counts just before, and binds the tenants that were counted.

    Whoever did not see the counts leaves it to those whose moments are asked for. It may be one of them: if its link broke before
    it was told, it gives nothing, and can still certify that the round is void.
    """
    gate = _known_gate(state, header)
    if header.held and gate is not None and (gate.survivors != participants or gate.held != header.held):
        raise _no_such_gate(header)


def _known_gate(state: TenantState, header: Header) -> GateOpened | None:
    """What the counts of the round before a header say, if this tenant has recomputed them."""
    return state.gate if state.gate and state.gate.round == header.round - 1 else None


def _no_such_gate(header: Header) -> PeerFault:
    return PeerFault(
        SERVER,
        f"asks for moments behind a gate that the counts of round {header.round - 1} do not give",
        proves="the server tried to open a component that may hold too few records",
    )


def pair_keys(state: TenantState, window: TenantWindow, current: TenantRound, peers: Iterable[int]) -> dict[int, bytes]:
    """Keys of the masks shared with some neighbours in a round, by roster index, ascending."""
    assert current.secrets is not None
    setup, tenants = window.fixed, state.me.roster.tenants
    own = AgreementKey(state.me.index, current.secrets.agreement)
    keys = {peer: (setup.round_key(peer, current.number), tenants[peer].name) for peer in peers}
    return pair_mask_keys(own, keys, current.context)
