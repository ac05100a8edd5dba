"""The coordinator's rounds: upload, certify, open and, for those who fall silent, recover."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import cast

from fed_em_protocols.certification import (
    admissible_survivors,
    least_quorum,
    outcome_digest,
    signatures_in_order,
    survivors_root,
    upload_evidence,
)
from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    Counts,
    EndedRound,
    Notice,
    NoticeKind,
    Outcomes,
    PreviousRound,
    Round,
    SumOpened,
    SumRequest,
    Unresolved,
    Window,
    endorsers_of,
    fail_request,
    hopeful,
    mark_late,
    still_waiting,
)
from fed_em_protocols.deposits import share_is_dealt
from fed_em_protocols.envelope import Sealed, restored, seal
from fed_em_protocols.errors import Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.growing_map import GrowingMap
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agreement_public
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import (
    AskBase,
    Base,
    Certificate,
    Counted,
    Endorsement,
    Header,
    Mode,
    Opening,
    Outcome,
    Proposal,
    Recover,
    SharedSecret,
    Shares,
    Upload,
)
from fed_em_protocols.records import replace
from fed_em_protocols.round_keys import AgreementKey, commitment, self_mask_key
from fed_em_protocols.round_sum import RoundSum, unmasked
from fed_em_protocols.running_total import RunningTotal, restarted_total
from fed_em_protocols.shamir import combine
from fed_em_protocols.transitions import CoordinatorPhase
from fed_em_protocols.window import WindowSetUp

# Every endorsement of an outcome is held against the same survivors and the same root.
_survivors_bitmap = lru_cache(maxsize=2)(to_bitmap)
_survivors_root = lru_cache(maxsize=2)(survivors_root)


def on_upload(state: CoordinatorState, index: int, sealed: Sealed[Upload], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if index not in current.participants:
        raise OutOfTurn(name, f"uploaded for round {current.number} without being asked")
    sealed.require_signature(window.fixed.window_key(index), name)
    if sealed.content.context != current.header.digest:
        raise OutOfTurn(
            name,
            f"uploaded for another header of round {current.number}",
            proves="somebody showed it another one",
        )
    # Witnesses rebuild the signed bytes from the round's numbers.
    if restored(sealed.content, sealed.attachment_digest, sealed.signature).payload != sealed.payload:
        raise MalformedMessage(name, f"uploaded for round {current.number} in another serialisation than the only one")
    evidence = upload_evidence(sealed)
    if index in current.uploads:
        if current.uploads[index] != evidence:
            raise Equivocation(
                name,
                "uploaded two vectors for one round",
                proves="the tenant masked two vectors with one key",
            )
        return CoordinatorStep(state)
    if state.phase is not CoordinatorPhase.UPLOADING:
        return CoordinatorStep(
            state, notices=(Notice(NoticeKind.LATE, current.number, (name,), "upload after the cut-off"),)
        )
    header = current.header.content
    ring = current.ring
    if len(sealed.attached) != ring.word_bytes * header.length:
        raise MalformedMessage(
            name, f"uploaded {len(sealed.attached)} bytes instead of {ring.word_bytes * header.length}"
        )
    unit = next(unit for unit in state.units if index in unit) if state.terms.content.blocks else frozenset({index})
    vector = ring.read(sealed.attached)
    summed = replace(
        current,
        sum=current.sum.with_upload(index, unit, vector),
        uploads=current.uploads.with_entry(index, evidence),
        vectors=current.vectors.with_entry(index, sealed.attachment) if header.mode == Mode.COUNTS else current.vectors,
    )
    step = CoordinatorStep(
        replace(state, round=summed), notices=(Notice(NoticeKind.UPLOADED, current.number, (name,)),)
    )
    return step.then(lambda s: CoordinatorStep(_start_straggler_clock(s, summed, now)))


def _start_straggler_clock(state: CoordinatorState, current: Round, now: float) -> CoordinatorState:
    enough = max(state.terms.content.minimum_survivors, round(state.timetable.quorum * len(current.participants)))
    if len(current.uploads) != enough or state.cut_off is None:
        return state
    return replace(state, cut_off=min(state.cut_off, now + state.timetable.straggler))


def on_ask_base(state: CoordinatorState, index: int, sealed: Sealed[AskBase], now: float) -> CoordinatorStep:
    """A participant lost what its increment starts from: give it the header and the parameters to compute it again."""
    window, current, total, name = state.window, state.round, state.total, state.name(index)
    if current is None or window is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if index not in current.participants or total is None:
        raise OutOfTurn(name, f"asks for a base in round {current.number} without being asked for an increment")
    sealed.require_signature(window.fixed.window_key(index), name)
    if sealed.content.context != current.header.digest:
        raise OutOfTurn(name, f"asks for a base under another header of round {current.number}")
    base = next((header for header in total.headers.values() if header.digest == sealed.content.base), None)
    if base is None:
        raise OutOfTurn(name, "asks for a base round that nobody named")
    told = seal(Base(state.terms.content.session, base.quoted()), state.identity, base.attachment)
    return CoordinatorStep(state, ((index, told.to_bytes()),))


def start_round(state: CoordinatorState, participants: frozenset[int], now: float) -> CoordinatorStep:
    window, request, terms = cast(Window, state.window), cast(SumRequest, state.request), state.terms
    setup, number, previous = window.fixed, state.last_round + 1, state.previous
    if number > terms.content.round_cap:
        return fail_request(state, f"the session's cap of {terms.content.round_cap} rounds is reached", final=True)
    total = _total_to_add_to(state, request)
    mode = Mode.COUNTS if request.counts else Mode.INCREMENT if total else Mode.WHOLE
    certificate = previous.certificate
    header = Header(
        session=terms.content.session,
        terms=terms.digest,
        setup=setup.digest,
        witnesses=to_bitmap(setup.witnesses, state.roster.n),
        round=number,
        mode=int(mode),
        parameters=hashlib.sha256(request.parameters).digest(),
        encoding=request.encoding,
        length=request.length,
        held=request.held,
        participants=to_bitmap(participants, state.roster.n),
        previous_round=previous.round,
        previous_outcome=int(previous.outcome),
        previous=(certificate.quoted(),) if certificate else (),
        previous_sum=previous.sum,
        base_rounds=total.bases if total else (),
        base_contexts=total.contexts if total else b"",
        ring=request.ring.bits,
    )
    sealed = seal(header, state.identity, request.parameters)
    started = replace(
        state, phase=CoordinatorPhase.UPLOADING, last_round=number, cut_off=now + state.timetable.upload,
        round=Round(sealed, participants, RoundSum.zero(request.ring, request.length)), paused=False,
    )  # fmt: skip
    data = sealed.to_bytes()
    # Unit by unit, for uploads that come together: what has come of an incomplete unit is kept apart.
    asked = (index for unit in state.units for index in sorted(unit & participants))
    notice = Notice(NoticeKind.ROUND_STARTED, number, state.roster.names(participants))
    return CoordinatorStep(started, tuple((index, data) for index in asked), (notice,))


def _total_to_add_to(state: CoordinatorState, request: SumRequest) -> RunningTotal | None:
    """The running total, if increments can go on from it."""
    total = state.total
    if request.whole or request.counts or total is None or total.encoding != request.encoding:
        return None
    return total if min(total.headers) > state.changed_after else None


def uploading_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    if still_waiting(state, now):
        return CoordinatorStep(state)
    current, window = cast(Round, state.round), cast(Window, state.window)
    late = mark_late(state, state.involved)
    uploaded = frozenset(current.uploads)
    survivors = admissible_survivors(uploaded, window.fixed, state.roster)
    missing = state.roster.names(current.participants - uploaded)
    notices: tuple[Notice, ...] = (Notice(NoticeKind.LATE, current.number, missing),) if missing else ()
    least, gated = state.terms.content.minimum_survivors, bool(current.header.content.held)
    if len(survivors) < least or (gated and survivors != current.participants):
        needed = "all that were counted" if gated else f"{least} in whole blocks"
        return _with_notices(notices, fail_request(
            late,
            f"round {current.number}: {len(uploaded)} uploads, needed are {needed}; missing: {', '.join(missing) or 'nobody'}",
            away=missing,
        ))  # fmt: skip
    if survivors < frozenset().union(*(unit for unit in state.units if unit <= uploaded)):
        reason = f"round {current.number}: too many neighbours are missing"
        return _with_notices(notices, fail_request(late, reason, away=missing))
    evidence = b"".join(current.uploads[index] for index in sorted(survivors))
    outcome = Outcomes(survivors, evidence, window.fixed.digest)
    fixed = replace(late, round=replace(current, outcome=outcome))
    notices += (Notice(NoticeKind.SURVIVORS, current.number, state.roster.names(survivors)),)
    if state.certified:
        return _with_notices(notices, propose(fixed, CoordinatorPhase.CERTIFYING, current.header, outcome, now))
    return _with_notices(notices, _ask_to_open(fixed, now))


def _with_notices(notices: tuple[Notice, ...], step: CoordinatorStep) -> CoordinatorStep:
    return replace(step, notices=notices + step.notices)


def propose(
    state: CoordinatorState, phase: CoordinatorPhase, header: Sealed[Header], outcome: Outcomes, now: float
) -> CoordinatorStep:
    """Ask the witnesses to endorse the one outcome of a round."""
    data = proposal_message(state, header, outcome)
    moved = replace(state, phase=phase, cut_off=now + state.timetable.open)
    whom = endorsers_of(state, cast(Window, state.window), header.content).difference(outcome.endorsements)
    return CoordinatorStep(moved, tuple((index, data) for index in sorted(whom) if state.members[index].here))


def proposal_message(state: CoordinatorState, header: Sealed[Header], outcome: Outcomes) -> bytes:
    content = Proposal(
        state.terms.content.session,
        header.quoted(),
        to_bitmap(outcome.survivors, state.roster.n),
        outcome.setup,
    )
    return seal(content, state.identity, outcome.evidence).to_bytes()


def on_endorsement(state: CoordinatorState, index: int, sealed: Sealed[Endorsement], now: float) -> CoordinatorStep:
    window, name = state.window, state.name(index)
    header, outcome = _put_to_witnesses(state)
    if window is None or header is None or outcome is None or sealed.content.round != header.content.round:
        return CoordinatorStep(state)
    content = sealed.content
    if content.setup != outcome.setup:
        return CoordinatorStep(state)
    if index in outcome.endorsements or index not in endorsers_of(state, window, header.content):
        return CoordinatorStep(state)
    sealed.require_signature(window.fixed.window_key(index), name)
    if outcome_digest(content) != outcome_digest(_statement(state, header, outcome)):
        raise OutOfTurn(name, f"endorsed another outcome of round {content.round} than it was asked to")
    if restored(content, sealed.attachment_digest, sealed.signature).payload != sealed.payload:
        raise MalformedMessage(name, f"endorsed round {content.round} in another serialisation than the only one")
    endorsed = replace(outcome, endorsements={**outcome.endorsements, index: sealed.signature})
    if state.round is not None:
        return CoordinatorStep(replace(state, round=replace(state.round, outcome=endorsed)))
    return CoordinatorStep(replace(state, unresolved=Unresolved(header, endorsed)))


def _put_to_witnesses(state: CoordinatorState) -> tuple[Sealed[Header] | None, Outcomes | None]:
    """The round whose outcome is being certified, and that outcome."""
    if state.phase is CoordinatorPhase.CERTIFYING and state.round:
        return state.round.header, state.round.outcome
    if state.phase is CoordinatorPhase.CLOSING and state.unresolved:
        return state.unresolved.header, state.unresolved.outcome
    return None, None


def _statement(state: CoordinatorState, header: Sealed[Header], outcome: Outcomes) -> Endorsement:
    return Endorsement(
        session=state.terms.content.session,
        round=header.content.round,
        context=header.digest,
        survivors=_survivors_bitmap(outcome.survivors, state.roster.n),
        root=_survivors_root(outcome.survivors, outcome.evidence),
        setup=outcome.setup,
    )


def certificate_of(state: CoordinatorState, header: Sealed[Header], outcome: Outcomes) -> Sealed[Certificate]:
    """The certificate of an outcome from the endorsements that came in."""
    statement = _statement(state, header, outcome)
    return seal(
        Certificate(
            statement.session, statement.round, statement.context, statement.survivors, statement.root, statement.setup,
            to_bitmap(outcome.endorsements, state.roster.n), signatures_in_order(outcome.endorsements),
        ),
        state.identity,
    )  # fmt: skip


def certifying_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    current = cast(Round, state.round)
    outcome = cast(Outcomes, current.outcome)
    quorum = least_quorum(state.terms.content, current.header.content, state.roster)
    if len(outcome.endorsements) >= quorum:
        return _ask_to_open(state, now)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    missing = state.involved
    return fail_request(
        mark_late(state, missing),
        f"round {current.number}: {len(outcome.endorsements)} of the {quorum} endorsements that a certificate needs; "
        f"missing: {', '.join(state.roster.names(missing))}",
        away=state.roster.names(missing),
    )


def _ask_to_open(state: CoordinatorState, now: float) -> CoordinatorStep:
    current = cast(Round, state.round)
    certificate = certificate_of(state, current.header, cast(Outcomes, current.outcome))
    opening = replace(
        state, phase=CoordinatorPhase.OPENING, round=replace(current, certificate=certificate),
        cut_off=now + state.timetable.open, draws=state.draws if state.serves_sums else 0,
        last_certified=(replace(current.header, attached=b""), certificate),
    )  # fmt: skip
    data = certificate.to_bytes()
    notice = Notice(NoticeKind.CERTIFIED, current.number, state.roster.names(current.survivors))
    # Not to a process that has started since: it can do nothing with it.
    survivors = current.survivors & cast(Window, state.window).active
    linked = [index for index in sorted(survivors) if state.members[index].here]
    return CoordinatorStep(opening, tuple((index, data) for index in linked), (notice,) if state.certified else ())


def on_opening(state: CoordinatorState, index: int, sealed: Sealed[Opening], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if current.certificate is None or index not in current.survivors:
        raise OutOfTurn(name, f"opened round {current.number} without being asked")
    if index in current.self_seeds:
        return CoordinatorStep(state)
    sealed.require_signature(window.fixed.window_key(index), name)
    content, dropped = sealed.content, dropped_neighbours(window.fixed, current, index)
    if content.context != current.header.digest or len(content.pair_keys) != MASK_KEY_BYTES * len(dropped):
        raise MalformedMessage(name, f"opened round {current.number} with keys that do not fit it")
    if commitment(content.self_seed) != window.fixed.commitment(index, current.number):
        raise PeerFault(
            name,
            "opened a self seed that is not the one it committed to",
            proves="the tenant signed a false opening",
        )
    given = content.pair_keys
    keys = {d: given[k * MASK_KEY_BYTES : (k + 1) * MASK_KEY_BYTES] for k, d in enumerate(dropped)}
    opened = replace(current, openings=current.openings.with_entry(index, sealed))
    return CoordinatorStep(replace(state, round=_with_masks(opened, index, content.self_seed, keys)))


def dropped_neighbours(setup: WindowSetUp, current: Round, index: int) -> list[int]:
    """Dropped participants that share a mask with a survivor, ascending."""
    dropped = current.dropped
    return [neighbour for neighbour in setup.neighbours(index) if neighbour in dropped]


def _with_masks(current: Round, survivor: int, self_seed: bytes, keys: Mapping[int, bytes]) -> Round:
    return replace(
        current,
        self_seeds=current.self_seeds.with_entry(survivor, self_seed),
        keys_given=current.keys_given.with_entry(survivor, keys),
    )


def opening_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    current = cast(Round, state.round)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    silent = current.survivors - current.opened
    if not silent:
        return _finish(state, current, now)
    return _ask_for_shares(mark_late(state, state.involved), current, silent, now)


def _ask_for_shares(state: CoordinatorState, current: Round, silent: frozenset[int], now: float) -> CoordinatorStep:
    """Ask for b of the silent and a of the dropped that share masks with them; for a of all the dropped if nobody is silent."""
    certificate, n, window = (
        cast("Sealed[Certificate]", current.certificate),
        state.roster.n,
        cast(Window, state.window),
    )
    setup = window.fixed
    whose = silent or current.survivors
    dropped = frozenset(d for v in whose for d in dropped_neighbours(setup, current, v))
    content = Recover(
        state.terms.content.session,
        current.header.quoted(),
        certificate.quoted(),
        to_bitmap(silent, n),
        to_bitmap(dropped, n),
    )
    recovery = seal(content, state.identity)
    tied = frozenset(holder for lost in silent | dropped for holder in setup.neighbours(lost))
    holders = (window.active & tied) - silent
    # Answers to an earlier request of the same round may still be under way: they count.
    shares = {**{secret: {} for secret in _asked_for(content, n)}, **current.shares}
    asking = replace(current, recovery=recovery, asked=holders, shares=shares)
    data = recovery.to_bytes()
    moved = replace(state, phase=CoordinatorPhase.RECOVERING, round=asking, cut_off=now + state.timetable.open)
    notice = Notice(NoticeKind.RECOVERING, current.number, state.roster.names(silent))
    linked = [index for index in sorted(holders) if state.members[index].here]
    return CoordinatorStep(moved, tuple((index, data) for index in linked), (notice,))


def _asked_for(content: Recover, n: int) -> list[tuple[int, SharedSecret]]:
    """Whose secrets a request for shares is about, and which."""
    silent, dropped = from_bitmap(content.silent, n), from_bitmap(content.dropped, n)
    return [(v, SharedSecret.SELF_SEED) for v in silent] + [(d, SharedSecret.AGREEMENT) for d in dropped]


def on_shares(state: CoordinatorState, index: int, sealed: Sealed[Shares], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if current.recovery is None:
        raise OutOfTurn(name, f"sent shares of round {current.number} without being asked")
    if index not in window.active:
        return CoordinatorStep(state)
    setup = window.fixed
    sealed.require_signature(setup.window_key(index), name)
    if sealed.content.context != current.header.digest:
        raise OutOfTurn(name, f"sent shares for another header of round {current.number}")
    shares = {secret: dict(by_holder) for secret, by_holder in current.shares.items()}
    for released in sealed.content.released:
        secret = (released.dealer, SharedSecret(released.secret))
        if secret not in shares or index not in setup.neighbours(released.dealer):
            raise OutOfTurn(name, "released a share that nobody asked for")
        if not share_is_dealt(setup, window.deposits[released.dealer], index, released, current.number):
            raise PeerFault(
                name,
                f"released a share of '{state.name(released.dealer)}' that is not the one it was dealt",
                proves="the holder signed a false share: the dealer's signed root does not contain it",
            )
        shares[secret][index] = released.share
    owing = any(
        dealer in window.held[index] and index not in shares[dealer, which]
        for dealer, which in _asked_for(current.recovery.content, state.roster.n)
    )
    answered = replace(current, shares=shares, asked=current.asked if owing else current.asked - {index})
    return CoordinatorStep(replace(state, round=answered))


def recovering_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    window, current = cast(Window, state.window), cast(Round, state.round)
    setup = window.fixed
    asked_for_silent = any(cast("Sealed[Recover]", current.recovery).content.silent)
    if asked_for_silent and current.opened == current.survivors:
        return _finish(state, current, now)  # they spoke after all
    needed = {
        (dealer, which): shares
        for (dealer, which), shares in current.shares.items()
        if which is SharedSecret.AGREEMENT or dealer not in current.opened
    }
    short = {dealer: len(shares) for (dealer, _), shares in needed.items() if len(shares) < setup.threshold}
    if short:
        if still_waiting(state, now):
            return CoordinatorStep(state)
        dealer = min(short, key=lambda index: short[index])
        return fail_request(
            state,
            f"round {current.number}: '{state.name(dealer)}' fell silent and {short[dealer]} of the {setup.threshold} "
            f"shares that would replace it came back",
            away=(state.name(dealer),),
        )
    secrets = {}
    for (dealer, which), shares in needed.items():
        secret = combine(shares, setup.threshold)
        if secret is None or not _is_the_advertised(setup, dealer, which, secret, current.number):
            return _dealt_falsely(state, window, current, dealer)
        secrets[dealer, which] = secret
    recovered, liars = _recovered(state, current, secrets)
    notices = tuple(
        Notice(NoticeKind.FAULT, current.number, (name,), "opened with a false pair key")
        for name in state.roster.names(liars)
    )
    return _with_notices(
        notices, _finish(replace(state, round=recovered), recovered, now, checked=not asked_for_silent)
    )


def _dealt_falsely(state: CoordinatorState, window: Window, current: Round, dealer: int) -> CoordinatorStep:
    """Every share fits the root that the dealer signed, and the secret is wrong: it cannot be replaced, so it leaves the window."""
    fault = f"the shares that '{state.name(dealer)}' dealt do not give back its secret"
    without = replace(state, window=replace(window, active=window.active - {dealer}))
    notice = Notice(NoticeKind.FAULT, current.number, (state.name(dealer),), fault)
    return fail_request(without, f"round {current.number}: {fault}", (notice,))


def _is_the_advertised(setup: WindowSetUp, dealer: int, which: SharedSecret, secret: bytes, number: int) -> bool:
    if which is SharedSecret.SELF_SEED:
        return commitment(secret) == setup.commitment(dealer, number)
    return agreement_public(secret) == setup.round_key(dealer, number)


def _recovered(
    state: CoordinatorState, current: Round, secrets: Mapping[tuple[int, SharedSecret], bytes]
) -> tuple[Round, frozenset[int]]:
    """The masks of the silent from rebuilt secrets; with them every pair key that survivors gave is checked.

    Returns:
        The round with true keys, and the survivors who had given a false one.
    """
    setup = cast(Window, state.window).fixed
    context, number = current.header.digest, current.number
    agreements = {
        dealer: AgreementKey(dealer, secret)
        for (dealer, which), secret in secrets.items()
        if which is SharedSecret.AGREEMENT
    }

    def pair_key(survivor: int, dropped: int) -> bytes:
        public = setup.round_key(survivor, number)
        return agreements[dropped].pair_mask_key(survivor, public, context, state.name(survivor))

    for (dealer, which), secret in secrets.items():
        if which is SharedSecret.SELF_SEED:
            keys = {d: pair_key(dealer, d) for d in dropped_neighbours(setup, current, dealer)}
            current = _with_masks(current, dealer, secret, keys)
    true_keys = {
        v: {d: pair_key(v, d) if d in agreements else key for d, key in given.items()}
        for v, given in current.keys_given.items()
    }
    liars = frozenset(v for v, keys in true_keys.items() if keys != current.keys_given[v])
    return replace(current, keys_given=GrowingMap(true_keys)), liars


def _finish(state: CoordinatorState, current: Round, now: float, checked: bool = False) -> CoordinatorStep:
    """All masks are known: take them off, and hand the sum out if its check words say that it is one."""
    vector = unmasked(current.sum.vector, current.self_seeds.values(), current.pair_keys, current.header.digest)
    if not current.ring.is_sum(vector):
        if current.dropped and not checked:
            return _ask_for_shares(state, current, frozenset(), now)
        return fail_request(
            state,
            f"round {current.number}: the unmasked vector is not a sum; a survivor uploaded something else",
        )
    if current.header.content.mode == Mode.COUNTS:
        return _hand_out_counts(state, current, vector)
    total = _total_after(state, current, vector)
    present = total.members(state.units)
    opened = SumOpened(
        current.number,
        total.vector,
        tuple(sorted(current.survivors)),
        tuple(sorted(present - current.survivors)),
        tuple(index for index in range(state.roster.n) if index not in present),
    )
    ended = EndedRound(current, vector)
    return _done(replace(state, total=total, counts=None), ended, opened, total.digest)


def _total_after(state: CoordinatorState, current: Round, vector: RingVector) -> RunningTotal:
    if current.header.content.mode == Mode.WHOLE:
        return restarted_total(current.header, state.units, current.survivors, vector)
    return cast(RunningTotal, state.total).with_increment(current.header, state.units, current.survivors, vector)


def _hand_out_counts(state: CoordinatorState, current: Round, vector: RingVector) -> CoordinatorStep:
    """Everybody who was asked recomputes the counts: the gate follows from them."""
    survivors, context, setup = sorted(current.survivors), current.header.digest, cast(Window, state.window).fixed
    evidence = {index: current.uploads[index][-64:] for index in survivors}
    keys = {index: self_mask_key(current.self_seeds[index], context) for index in survivors}
    pairs, known = [(v, d) for v in survivors for d in dropped_neighbours(setup, current, v)], current.pair_keys
    content = Counted(
        state.terms.content.session,
        current.number,
        cast("Sealed[Certificate]", current.certificate).quoted(),
        b"".join(known[pair] for pair in pairs),
    )
    shown = b"".join(current.vectors[index] + evidence[index] + keys[index] for index in survivors)
    data = seal(content, state.identity, shown).to_bytes()
    told = sorted(current.participants & state.members.present)
    absent = tuple(index for index in range(state.roster.n) if index not in current.survivors)
    opened = SumOpened(current.number, vector, tuple(survivors), (), absent)
    boots = {index: state.members[index].boot for index in current.survivors & cast(Window, state.window).active}
    counts = Counts(current.number, current.survivors, current.participants, boots, data)
    done = _done(replace(state, counts=counts), EndedRound(current, vector), opened, digest("sum", vector.tobytes()))
    return replace(done, sends=tuple((index, data) for index in told) + done.sends)


def _done(state: CoordinatorState, ended: EndedRound, opened: SumOpened, total: bytes) -> CoordinatorStep:
    current = ended.round
    previous = PreviousRound(current.number, Outcome.OPENED, current.certificate, total)
    done = replace(state, phase=CoordinatorPhase.GATHERING, request=None, round=None, cut_off=None, previous=previous)
    notice = Notice(NoticeKind.SUMMED, current.number, state.roster.names(current.survivors))
    return CoordinatorStep(done, notices=(notice,), result=opened, ended=ended)


def closing_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    """A round without a certificate gets one before the next begins, if need be under the keys of a later window."""
    unresolved = cast(Unresolved, state.unresolved)
    header, outcome = unresolved.header, unresolved.outcome
    if len(outcome.endorsements) >= least_quorum(state.terms.content, header.content, state.roster):
        certificate = certificate_of(state, header, outcome)
        previous = replace(state.previous, certificate=certificate, closed=unresolved)
        closed = replace(state, phase=CoordinatorPhase.GATHERING, unresolved=None, previous=previous, cut_off=None)
        return CoordinatorStep(closed)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    return CoordinatorStep(replace(mark_late(state, state.involved), phase=CoordinatorPhase.GATHERING, cut_off=None))


def close_round(state: CoordinatorState, now: float) -> CoordinatorStep | None:
    """Put the outcome of a round without a certificate to its witnesses, under the window in use; None if too few are in it."""
    unresolved, window = cast(Unresolved, state.unresolved), state.window
    if window is None:
        return None
    outcome = unresolved.outcome
    if outcome.setup != window.fixed.digest:
        outcome = replace(outcome, setup=window.fixed.digest, endorsements={})
    owing = endorsers_of(state, window, unresolved.header.content).difference(outcome.endorsements)
    able = hopeful(state, owing, now) & state.here
    quorum = least_quorum(state.terms.content, unresolved.header.content, state.roster)
    if len(able) + len(outcome.endorsements) < quorum:
        return None
    asked = replace(state, unresolved=Unresolved(unresolved.header, outcome))
    return propose(asked, CoordinatorPhase.CLOSING, unresolved.header, outcome, now)


def pending_round(state: CoordinatorState, index: int) -> bytes | None:
    """What a tenant must be told again when the same process links anew in the middle of a round."""
    current = state.round
    if index not in state.involved:
        return None
    header, outcome = _put_to_witnesses(state)
    if header is not None and outcome is not None:
        return proposal_message(state, header, outcome)
    if current is None:
        return None
    if state.phase is CoordinatorPhase.UPLOADING:
        return current.header.to_bytes()
    if state.phase is CoordinatorPhase.OPENING and current.certificate:
        return current.certificate.to_bytes()
    return current.recovery.to_bytes() if current.recovery else None
