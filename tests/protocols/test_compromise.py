"""What the whole state of a tenant gives away in the middle of a window: its later rounds in that window, and no earlier one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.messages import Header, SharedSecret
from fed_em_protocols.round_keys import AgreementKey, RoundSecrets, self_mask_key
from fed_em_protocols.shamir import combine
from fed_em_protocols.tenant_state import TenantState
from fed_em_protocols.window import WindowSetUp
from tests.protocols.drill import Drill
from tests.protocols.federation import KnownVector
from tests.protocols.test_secrecy import holds, newest_window, round_secrets, shares_of

pytestmark = pytest.mark.usefixtures("remembered_keys")


def statistics_of(index: int, number: int) -> RingVector:
    return KnownVector(100 * index, 6).vector_at(b"%d" % number)


def some_rounds() -> tuple[Drill, dict[int, Sealed[Header]], list[list[TenantState]]]:
    """Four rounds of a window and one of the next; states of all tenants after each round, the first before any."""
    drill = Drill(5, length=6)
    headers: dict[int, Sealed[Header]] = {}
    seen = [list(drill.states)]
    for number in range(1, 6):
        if number == 5:
            drill.set_up(range(5), number=2, first_round=5)
        drill.run(number, rings={i: statistics_of(i, number) for i in range(5)})
        headers[number] = drill.certified[number][0]
        seen.append(list(drill.states))
    return drill, headers, seen


def unmasked_with(
    drill: Drill, index: int, secrets: RoundSecrets, header: Sealed[Header], setup: WindowSetUp
) -> RingVector:
    """What an upload hides from somebody who has both of its tenant's secrets of the round."""
    own = AgreementKey(index, secrets.agreement)
    number = header.content.round
    pairs = {
        peer: own.pair_mask_key(peer, setup.round_key(peer, number), header.digest, "")
        for peer in setup.neighbours(index)
    }
    clear = drill.uploads[header.digest][index].copy()
    add_masks(
        clear,
        added=[key for peer, key in pairs.items() if peer < index],
        subtracted=[
            self_mask_key(secrets.self_seed, header.digest),
            *(key for peer, key in pairs.items() if index < peer),
        ],
    )
    return clear


def own_secrets(state: TenantState, header: Sealed[Header]) -> RoundSecrets:
    """A tenant's secrets of a round, from its whole state. Raises `IllegalStep` if they are gone."""
    if state.round is not None and state.round.context == header.digest and state.round.secrets is not None:
        return state.round.secrets
    assert state.window is not None
    return state.window.secrets.chain.advanced(header.content.round).current()


def test_a_whole_state_in_mid_window_opens_the_uploads_of_its_round_and_of_all_later_ones() -> None:
    """What the compromise of a tenant exposes: its uploads from now to the end of the window. The documents say so."""
    drill, headers, seen = some_rounds()
    window = seen[1][0].window
    assert window is not None
    for now in (1, 2, 3, 4):
        for number in range(now, 5):
            clear = unmasked_with(drill, 0, own_secrets(seen[now][0], headers[number]), headers[number], window.fixed)
            assert np.array_equal(clear, statistics_of(0, number))


def test_a_whole_state_in_mid_window_opens_no_earlier_upload() -> None:
    drill, headers, seen = some_rounds()
    window = seen[1][0].window
    assert window is not None
    chain = drill.secrets[1][0].chain
    for number, now in itertools.combinations(range(1, 5), 2):
        state, header = seen[now][0], headers[number]
        with pytest.raises(IllegalStep, match="behind this key chain"):
            own_secrets(state, header)
        gone = round_secrets(chain, number)
        own = AgreementKey(0, gone["a_t"])
        for peer in window.fixed.neighbours(0):
            key = own.pair_mask_key(peer, window.fixed.round_key(peer, number), header.digest, "")
            gone[f"pair key with {peer}"] = key
        gone["self key"] = self_mask_key(gone["b_t"], header.digest)
        gone["ck"] = chain.advanced(number).key
        for name, secret in {**gone, **shares_of(seen[0][0], number)}.items():
            assert not holds(state, secret), f"{name} of round {number} in round {now}"


def test_holders_that_are_compromised_together_open_a_tenants_later_uploads_and_no_earlier_one() -> None:
    """τ of them hold shares of every round that is still to come: more than f, and a share of none that is over."""
    drill, headers, seen = some_rounds()
    victim = 4
    setup = newest_window(seen[2][victim]).fixed
    holders = range(setup.threshold)
    for number in (2, 3, 4):
        found = [shared(seen[2][h], victim, number) for h in holders]
        secrets = RoundSecrets(
            *(
                combined({h: pair[which] for h, pair in zip(holders, found, strict=True)}, setup)
                for which in SharedSecret
            )
        )
        assert np.array_equal(
            unmasked_with(drill, victim, secrets, headers[number], setup), statistics_of(victim, number)
        )
    for state in seen[2]:
        assert all(held.first_round == 2 for held in newest_window(state).held.values())


def shared(state: TenantState, dealer: int, number: int) -> list[bytes]:
    held = newest_window(state).held[dealer]
    return [held.share(number, which) for which in SharedSecret]


def combined(shares: dict[int, bytes], setup: WindowSetUp) -> bytes:
    secret = combine(shares, setup.threshold)
    assert secret is not None
    return secret


def test_a_state_of_one_window_says_nothing_on_the_next() -> None:
    """Keys are fresh: a compromise is healed with the window."""
    drill, headers, seen = some_rounds()
    later = drill.secrets[2][0]
    state = seen[4][0]
    for secret in (later.chain.key, later.signing_key.seed, *round_secrets(later.chain, 5).values()):
        assert not holds(state, secret)
    assert own_secrets(seen[5][0], headers[5]) != own_secrets(state, headers[5])
    clear = unmasked_with(drill, 0, own_secrets(state, headers[5]), headers[5], drill.fixed)
    assert not np.array_equal(clear, statistics_of(0, 5))
