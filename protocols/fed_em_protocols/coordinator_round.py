"""The coordinator's rounds: upload, open and, for those who fall silent, recover."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    Notice,
    NoticeKind,
    PreviousRound,
    Round,
    SumOpened,
    SumRequest,
    Window,
    awaited,
    fail_request,
    mark_late,
    still_waiting,
)
from fed_em_protocols.deposits import share_is_dealt
from fed_em_protocols.encoding import check_words_are_zero
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agreement_public
from fed_em_protocols.masks import MASK_KEY_BYTES
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import (
    Certificate,
    Header,
    Mode,
    Opening,
    Outcome,
    Recover,
    SharedSecret,
    Shares,
    Upload,
)
from fed_em_protocols.round_keys import AgreementKey, commitment
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.shamir import combine
from fed_em_protocols.transitions import (
    CoordinatorPhase,
)
from fed_em_protocols.window import WindowSetUp


def on_upload(state: CoordinatorState, index: int, sealed: Sealed[Upload], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or window.setup is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if index not in current.participants:
        raise OutOfTurn(name, f"uploaded for round {current.number} without being asked")
    sealed.require_signature(window.setup.window_key(index), name)
    if sealed.content.context != current.header.digest:
        raise OutOfTurn(
            name,
            f"uploaded for another header of round {current.number}",
            proves="somebody showed it another one",
        )
    if index in current.uploads:
        if current.uploads[index] != sealed.digest:
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
    if len(sealed.attachment) != 8 * current.header.content.length:
        raise MalformedMessage(
            name, f"uploaded {len(sealed.attachment)} bytes instead of {8 * current.header.content.length}"
        )
    vector = np.frombuffer(sealed.attachment, dtype="<u8")
    summed = replace(current, sum=current.sum.with_upload(vector), uploads={**current.uploads, index: sealed.digest})
    step = CoordinatorStep(
        replace(state, round=summed), notices=(Notice(NoticeKind.UPLOADED, current.number, (name,)),)
    )
    return step.then(lambda s: CoordinatorStep(_start_straggler_clock(s, summed, now)))


def _start_straggler_clock(state: CoordinatorState, current: Round, now: float) -> CoordinatorState:
    enough = max(state.terms.content.minimum_survivors, round(state.timetable.quorum * len(current.participants)))
    if len(current.uploads) != enough or state.cut_off is None:
        return state
    return replace(state, cut_off=min(state.cut_off, now + state.timetable.straggler))


def on_opening(state: CoordinatorState, index: int, sealed: Sealed[Opening], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or window.setup is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if current.certificate is None or index not in current.survivors:
        raise OutOfTurn(name, f"opened round {current.number} without being asked")
    if index in current.opened:
        return CoordinatorStep(state)
    sealed.require_signature(window.setup.window_key(index), name)
    content = sealed.content
    dropped = sorted(current.dropped)
    if content.context != current.header.digest or len(content.pair_keys) != MASK_KEY_BYTES * len(dropped):
        raise MalformedMessage(name, f"opened round {current.number} with keys that do not fit it")
    if commitment(content.self_seed) != window.setup.commitment(index, current.number):
        raise PeerFault(
            name,
            "opened a self seed that is not the one it committed to",
            proves="the tenant signed a false opening",
        )
    keys = {peer: content.pair_keys[k * MASK_KEY_BYTES : (k + 1) * MASK_KEY_BYTES] for k, peer in enumerate(dropped)}
    return CoordinatorStep(_unmask(state, current, index, content.self_seed, keys))


def _unmask(
    state: CoordinatorState, current: Round, survivor: int, self_seed: bytes, keys: Mapping[int, bytes]
) -> CoordinatorState:
    lighter = current.sum.without_masks(survivor, self_seed, keys, current.header.digest)
    return replace(state, round=replace(current, sum=lighter, opened=current.opened | {survivor}))


def on_shares(state: CoordinatorState, index: int, sealed: Sealed[Shares], now: float) -> CoordinatorStep:
    window, current, name = state.window, state.round, state.name(index)
    if current is None or window is None or window.setup is None or sealed.content.round != current.number:
        return CoordinatorStep(state)
    if current.recovery is None:
        raise OutOfTurn(name, f"sent shares of round {current.number} without being asked")
    if index not in current.asked:
        return CoordinatorStep(state)
    sealed.require_signature(window.setup.window_key(index), name)
    if sealed.content.context != current.header.digest:
        raise OutOfTurn(name, f"sent shares for another header of round {current.number}")
    shares = {secret: dict(by_holder) for secret, by_holder in current.shares.items()}
    for released in sealed.content.released:
        secret = (released.dealer, SharedSecret(released.secret))
        if secret not in shares or released.dealer == index:
            raise OutOfTurn(name, "released a share that nobody asked for")
        if not share_is_dealt(window.setup, window.deposits[released.dealer], index, released, current.number):
            raise PeerFault(
                name,
                f"released a share of '{state.name(released.dealer)}' that is not the one it was dealt",
                proves="the holder signed a false share: the dealer's signed root does not contain it",
            )
        shares[secret][index] = released.share
    answered = replace(current, shares=shares, asked=current.asked - {index})
    return CoordinatorStep(replace(state, round=answered))


def start_round(state: CoordinatorState, participants: frozenset[int], now: float) -> CoordinatorStep:
    window, request, terms = cast(Window, state.window), cast(SumRequest, state.request), state.terms
    setup, number, previous = cast(WindowSetUp, window.setup), state.last_round + 1, state.previous
    if number > terms.content.round_cap:
        return fail_request(state, f"the session's cap of {terms.content.round_cap} rounds is reached", final=True)
    header = Header(
        session=terms.content.session,
        terms=terms.digest,
        setup=setup.digest,
        round=number,
        mode=int(Mode.WHOLE),
        parameters=hashlib.sha256(request.parameters).digest(),
        encoding=request.encoding,
        length=request.length,
        participants=to_bitmap(participants, state.roster.n),
        previous_round=previous.round,
        previous_outcome=int(previous.outcome),
        previous_certificate=previous.certificate,
        previous_sum=previous.sum,
        base_rounds=(),
    )
    sealed = seal(header, state.identity, request.parameters)
    started = replace(
        state, phase=CoordinatorPhase.UPLOADING, last_round=number, cut_off=now + state.timetable.upload,
        round=Round(sealed, participants, RoundSum.zero(request.length)),
    )  # fmt: skip
    data = sealed.to_bytes()
    notice = Notice(NoticeKind.ROUND_STARTED, number, state.roster.names(participants))
    return CoordinatorStep(started, tuple((index, data) for index in sorted(participants)), (notice,))


def uploading_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    current, least = cast(Round, state.round), state.terms.content.minimum_survivors
    in_time = state.cut_off is not None and now < state.cut_off
    if in_time and awaited(state, now):
        return CoordinatorStep(state)
    late = mark_late(state)
    notices: tuple[Notice, ...] = (
        (Notice(NoticeKind.LATE, current.number, state.roster.names(current.dropped)),) if current.dropped else ()
    )
    if len(current.uploads) < least:
        missing = ", ".join(state.roster.names(current.dropped))
        step = fail_request(
            late,
            f"round {current.number}: {len(current.uploads)} uploads, {least} are needed; missing: {missing}",
        )
        return CoordinatorStep(step.state, notices=notices + step.notices, result=step.result)
    content = Certificate(
        state.terms.content.session, current.number, current.header.digest,
        to_bitmap(current.survivors, state.roster.n), b"", (),
    )  # fmt: skip
    certificate = seal(content, state.identity)
    opening = replace(
        late, phase=CoordinatorPhase.OPENING, round=replace(current, certificate=certificate),
        cut_off=now + state.timetable.open,
    )  # fmt: skip
    data = certificate.to_bytes()
    notices += (Notice(NoticeKind.SURVIVORS, current.number, state.roster.names(current.survivors)),)
    # Not to a process that has started since: it can do nothing with it.
    survivors = current.survivors & cast(Window, state.window).active
    linked = [index for index in sorted(survivors) if state.members[index].here]
    return CoordinatorStep(opening, tuple((index, data) for index in linked), notices)


def opening_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    current = cast(Round, state.round)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    silent = current.survivors - current.opened
    if not silent:
        return _finish(state, current, now)
    return _ask_for_shares(mark_late(state), current, silent, current.dropped, now)


def _ask_for_shares(
    state: CoordinatorState, current: Round, silent: frozenset[int], dropped: frozenset[int], now: float
) -> CoordinatorStep:
    certificate, n = cast("Sealed[Certificate]", current.certificate), state.roster.n
    content = Recover(
        state.terms.content.session,
        current.header.quoted(),
        certificate.quoted(),
        to_bitmap(silent, n),
        to_bitmap(dropped, n),
    )
    recovery = seal(content, state.identity)
    holders = cast(Window, state.window).active - silent
    wanted = [(v, SharedSecret.SELF_SEED) for v in silent] + [(d, SharedSecret.AGREEMENT) for d in dropped]
    asking = replace(current, recovery=recovery, asked=holders, shares={secret: {} for secret in wanted})
    data = recovery.to_bytes()
    moved = replace(state, phase=CoordinatorPhase.RECOVERING, round=asking, cut_off=now + state.timetable.open)
    notice = Notice(NoticeKind.RECOVERING, current.number, state.roster.names(silent))
    linked = [index for index in sorted(holders) if state.members[index].here]
    return CoordinatorStep(moved, tuple((index, data) for index in linked), (notice,))


def recovering_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    window, current = cast(Window, state.window), cast(Round, state.round)
    setup = cast(WindowSetUp, window.setup)
    asked_for_silent = any(which is SharedSecret.SELF_SEED for _, which in current.shares)
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
        )
    secrets = {}
    for (dealer, which), shares in needed.items():
        secret = combine(shares, setup.threshold)
        if secret is None or not _is_the_advertised(setup, dealer, which, secret, current.number):
            return _dealt_falsely(state, window, current, dealer)
        secrets[dealer, which] = secret
    recovered, liars = _take_off(state, current, secrets)
    notices = tuple(
        Notice(NoticeKind.FAULT, current.number, (name,), "opened with a false pair key")
        for name in state.roster.names(liars)
    )
    return CoordinatorStep(recovered, notices=notices).then(
        lambda s: _finish(s, cast(Round, s.round), now, checked=True)
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


def _take_off(
    state: CoordinatorState, current: Round, secrets: Mapping[tuple[int, SharedSecret], bytes]
) -> tuple[CoordinatorState, frozenset[int]]:
    """Take the masks of the silent off the sum, and check every pair key that survivors gave against the rebuilt secrets."""
    setup = cast(WindowSetUp, cast(Window, state.window).setup)
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
            keys = {dropped: pair_key(dealer, dropped) for dropped in current.dropped}
            state = _unmask(state, cast(Round, state.round), dealer, secret, keys)
    unmasked = cast(Round, state.round)
    true_keys = {(v, d): pair_key(v, d) for v, d in unmasked.sum.pair_keys if d in agreements}
    corrected, liars = unmasked.sum.corrected(true_keys)
    return replace(state, round=replace(unmasked, sum=corrected)), liars


def _finish(state: CoordinatorState, current: Round, now: float, checked: bool = False) -> CoordinatorStep:
    """All masks are off: hand the sum out, if its check words say that it is one."""
    if not check_words_are_zero(current.sum.vector):
        if current.dropped and not checked:
            return _ask_for_shares(state, current, frozenset(), current.dropped, now)
        return fail_request(
            state,
            f"round {current.number}: the unmasked vector is not a sum; a survivor uploaded something else",
        )
    certificate = cast("Sealed[Certificate]", current.certificate)
    previous = PreviousRound(
        current.number, Outcome.OPENED, certificate.digest, digest("sum", current.sum.vector.tobytes())
    )
    done = replace(state, phase=CoordinatorPhase.READY, request=None, round=None, cut_off=None, previous=previous)
    survivors = tuple(sorted(current.survivors))
    missing = tuple(index for index in range(state.roster.n) if index not in current.survivors)
    notice = Notice(NoticeKind.SUMMED, current.number, state.roster.names(survivors))
    return CoordinatorStep(
        done, notices=(notice,), result=SumOpened(current.number, current.sum.vector, survivors, missing)
    )
