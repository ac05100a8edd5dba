"""A tenant's part in a round after the uploads: endorse its one outcome, open it, help to recover the silent, recompute counts."""

from __future__ import annotations

import hashlib

from fed_em_protocols.certification import (
    EVIDENCE_BYTES,
    outcome_digest,
    require_admissible,
    require_certified,
    require_uploads,
    statement_of,
    survivors_root,
)
from fed_em_protocols.envelope import Sealed, seal, unquote
from fed_em_protocols.errors import SERVER, IllegalStep, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.keys import SIGNATURE_BYTES
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector, add_masks
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Certificate,
    Counted,
    Endorsement,
    Header,
    Mode,
    Opening,
    Proposal,
    Recover,
    SharedSecret,
    Shares,
)
from fed_em_protocols.records import replace
from fed_em_protocols.ring import ring_of
from fed_em_protocols.round_sum import removal
from fed_em_protocols.tenant_round import (
    accept_header,
    pair_keys,
    require_one_header,
    require_one_outcome,
    require_witnesses,
)
from fed_em_protocols.tenant_state import (
    GateOpened,
    RoundMarks,
    TenantRound,
    TenantState,
    TenantStep,
    TenantWindow,
    members_in,
    with_round,
)
from fed_em_protocols.transitions import RoundStage
from fed_em_protocols.window import Randomness, WindowSetUp

# The server asks once when survivors fall silent, and once more if a pair key was false; links may break in between.
_MOST_RECOVERIES = 8


def on_proposal(state: TenantState, sealed: Sealed[Proposal], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    """Endorse what becomes of a round: once, whatever window's key signs."""
    content, roster = sealed.content, state.me.roster
    header = unquote(content.header, Header, SERVER)
    header.require_signature(roster.server.identity_key, SERVER)
    keys = state.window_of(content.setup)
    if header.content.session != state.accepted_terms.session or keys is None or not keys.fixed.certified:
        raise OutOfTurn(SERVER, "asks for an endorsement of another session, of another window, or where none is due")
    if header.content.round > state.accepted_terms.round_cap:
        raise PeerFault(
            SERVER, f"asks for an endorsement of round {header.content.round}, beyond the session's round cap"
        )
    current = _round_of(state, header, marks)
    survivors, evidence = _read_proposal(sealed, state)
    _require_outcome(header, survivors, evidence, state)
    endorsement = Endorsement(
        session=header.content.session,
        round=header.content.round,
        context=header.digest,
        survivors=content.survivors,
        root=survivors_root(survivors, evidence),
        setup=content.setup,
    )
    outcome = outcome_digest(endorsement)
    helping = current or state
    if helping.round is not None and helping.round.context == header.digest:
        require_one_outcome(helping.round, outcome)
        helping = with_round(helping, replace(helping.round, endorsed=outcome))
    _record_endorsement(header.content, outcome, marks)
    sends = (seal(endorsement, keys.secrets.signing_key).to_bytes(),)
    reached = max(helping.highest_round, header.content.round)
    return TenantStep(replace(helping, highest_round=reached), sends)


def _round_of(state: TenantState, header: Sealed[Header], marks: RoundMarks) -> TenantState | None:
    """The state in the round of a header, if this process is in the window of the round; None if it can only close it."""
    if state.round is not None and header.digest == state.round.context:
        return state
    if state.round is not None and header.content.round <= state.round.number:
        require_one_header(state.round, header)
        raise OutOfTurn(
            SERVER, f"asks for an endorsement of round {header.content.round}, which this tenant has passed"
        )
    window = state.window_of(header.content.setup)
    if window is None or header.content.round <= state.highest_round:
        return None
    return accept_header(state, header, marks)


def _read_proposal(sealed: Sealed[Proposal], state: TenantState) -> tuple[frozenset[int], bytes]:
    survivors = members_in(sealed.content.survivors, state.me.roster, range(state.me.roster.n), "survivors")
    if len(sealed.attachment) != EVIDENCE_BYTES * len(survivors):
        raise MalformedMessage(SERVER, f"shows uploads that do not belong to {len(survivors)} survivors")
    return survivors, sealed.attachment


def _require_outcome(header: Sealed[Header], survivors: frozenset[int], evidence: bytes, state: TenantState) -> None:
    """Check U and its uploads, as far as this tenant knows the round's window; and that it is one of the round's witnesses."""
    roster, window = state.me.roster, state.window_of(header.content.setup)
    try:
        witnesses = from_bitmap(header.content.witnesses, roster.n)
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None
    if state.me.index not in witnesses:
        raise OutOfTurn(SERVER, "asks for an endorsement by a tenant that is no witness of the round")
    if window is not None:
        require_witnesses(header.content, window.fixed, roster.n)
    if survivors and window is not None:
        participants = members_in(header.content.participants, roster, window.fixed.members, "participants")
        require_admissible(survivors, header.content, participants, window.fixed, roster)
        require_uploads(header, survivors, evidence, window.fixed, roster)


def _record_endorsement(header: Header, outcome: bytes, marks: RoundMarks) -> None:
    """Durable before the signature leaves; a second, different outcome of one round is refused for ever."""
    number, known = marks.endorsed(header.session)
    if header.round < number or (header.round == number and outcome != known):
        raise OutOfTurn(SERVER, f"asks for another endorsement of round {header.round}: this tenant has signed one")
    if header.round > number:
        marks.endorse(header.session, header.round, outcome)


def on_certificate(
    state: TenantState, sealed: Sealed[Certificate], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    current, window = state.round, state.window
    assert current is not None and window is not None and current.secrets is not None
    certified = _accept_certificate(state, current, window, sealed)
    survivors = certified.survivors or frozenset()
    if state.me.index not in survivors:
        raise OutOfTurn(SERVER, "asks this tenant to open a sum that does not hold its upload")
    dropped = current.participants.intersection(window.fixed.neighbours(state.me.index)) - survivors
    keys = pair_keys(state, window, current, dropped)
    opening = Opening(
        session=state.accepted_terms.session,
        round=current.number,
        context=current.context,
        self_seed=current.secrets.self_seed,
        pair_keys=b"".join(keys[peer] for peer in sorted(keys)),
    )
    sends = (seal(opening, window.secrets.signing_key).to_bytes(),)
    return TenantStep(with_round(state, replace(certified, stage=RoundStage.OPENED)), sends)


def _accept_certificate(
    state: TenantState, current: TenantRound, window: TenantWindow, sealed: Sealed[Certificate]
) -> TenantRound:
    """Bind the round to its one set of survivors, or refuse a second one."""
    content, roster = sealed.content, state.me.roster
    if content.round != current.number or content.context != current.context:
        raise OutOfTurn(SERVER, f"sent a certificate for another round than {current.number}")
    outcome = outcome_digest(statement_of(content))
    require_one_outcome(current, outcome)
    if current.outcome == outcome:
        return current
    survivors = members_in(content.survivors, roster, current.participants, "survivors")
    require_admissible(survivors, current.header.content, current.participants, window.fixed, roster)
    require_certified(sealed, current.header, window.fixed, roster)
    return replace(current, survivors=survivors, outcome=outcome)


def on_recover(state: TenantState, sealed: Sealed[Recover], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    me, terms = state.me, state.accepted_terms
    header = unquote(sealed.content.header, Header, SERVER)
    header.require_signature(me.roster.server.identity_key, SERVER)
    certificate = unquote(sealed.content.certificate, Certificate, SERVER)
    certificate.require_signature(me.roster.server.identity_key, SERVER)
    if header.content.session != terms.session or certificate.content.session != terms.session:
        raise OutOfTurn(SERVER, "asks for shares of another session")
    helping = state
    if state.round is None or header.digest != state.round.context:
        helping = accept_header(state, header, marks)
    current, window = helping.round, helping.window
    assert current is not None and window is not None
    if current.recoveries >= _MOST_RECOVERIES:
        raise OutOfTurn(SERVER, f"asks for shares of round {current.number} again and again")
    certified = _accept_certificate(helping, current, window, certificate)
    survivors = certified.survivors or frozenset()
    silent = members_in(sealed.content.silent, me.roster, survivors, "silent survivors")
    dropped = members_in(sealed.content.dropped, me.roster, certified.participants - survivors, "dropped participants")
    wanted = [(dealer, SharedSecret.SELF_SEED) for dealer in sorted(silent)]
    wanted += [(dealer, SharedSecret.AGREEMENT) for dealer in sorted(dropped)]
    released = tuple(
        window.held[dealer].release(window.fixed, certified.number, secret)
        for dealer, secret in wanted
        if dealer in window.held
    )
    shares = Shares(terms.session, certified.number, certified.context, released)
    sends = (seal(shares, window.secrets.signing_key).to_bytes(),)
    return TenantStep(with_round(helping, replace(certified, recoveries=current.recoveries + 1)), sends)


def on_counted(state: TenantState, sealed: Sealed[Counted], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    """Recompute an opened sum of counts from the masked uploads and the keys of their masks."""
    current, window = state.round, state.window
    if current is None or window is None or sealed.content.round != current.number:
        return TenantStep(state)  # of a round that this tenant was not asked in
    if current.header.content.mode != Mode.COUNTS:
        raise OutOfTurn(SERVER, f"sent the counts of round {current.number}, which counted nothing")
    certificate = unquote(sealed.content.certificate, Certificate, SERVER)
    certificate.require_signature(state.me.roster.server.identity_key, SERVER)
    certified = _accept_certificate(state, current, window, certificate)
    if current.stage is RoundStage.NONE:
        return TenantStep(with_round(state, certified))  # it counted nothing itself: the gate is for those who did
    counts = _recomputed(certified, certificate.content, sealed, window.fixed)
    return TenantStep(with_round(state, certified), counts=counts)


def _recomputed(
    current: TenantRound, certificate: Certificate, sealed: Sealed[Counted], setup: WindowSetUp
) -> RingVector:
    length, survivors = current.header.content.length, sorted(current.survivors or ())
    ring = ring_of(current.header.content.ring, counts=True)
    size = ring.word_bytes * length
    entry = size + SIGNATURE_BYTES + MASK_KEY_BYTES
    dropped = current.participants - frozenset(survivors)
    pairs = [(v, d) for v in survivors for d in setup.neighbours(v) if d in dropped]
    if len(sealed.attachment) != entry * len(survivors) or len(sealed.content.pair_keys) != MASK_KEY_BYTES * len(pairs):
        raise MalformedMessage(SERVER, "sent counts that do not fit their round")
    evidence, self_keys, total = [], [], ring.zeros(length)
    for place in range(len(survivors)):
        one = sealed.attachment[place * entry : (place + 1) * entry]
        vector, signature = one[:size], one[size : size + SIGNATURE_BYTES]
        evidence.append(hashlib.sha256(vector).digest() + signature)
        self_keys.append(one[-MASK_KEY_BYTES:])
        total += ring.read(vector)
    if survivors_root(survivors, b"".join(evidence)) != certificate.root:
        raise PeerFault(SERVER, "shows other uploads of counts than those that were certified")
    keys = sealed.content.pair_keys
    added, subtracted = removal(
        (v, d, keys[k * MASK_KEY_BYTES : (k + 1) * MASK_KEY_BYTES]) for k, (v, d) in enumerate(pairs)
    )
    add_masks(total, added=added, subtracted=[*self_keys, *subtracted])
    if not ring.is_sum(total):
        raise PeerFault(
            SERVER,
            "shows keys that do not open the certified counts",
            proves="the server wanted another gate than the counts give",
        )
    return total


def tenant_gate(state: TenantState, held: bytes) -> TenantStep:
    """Take what the verified counts say of the next round: `held`, the bitmap of components that stay shut."""
    if state.round is None or state.round.survivors is None:
        raise IllegalStep("no counts were opened")
    gate = GateOpened(state.round.number, state.round.survivors, held)
    return TenantStep(replace(state, gate=gate))
