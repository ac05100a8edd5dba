"""The key chain and the keys of one round: independent, forward only, agreed upon by both ends."""

from __future__ import annotations

import itertools
import pickle

import pytest

from fed_em_protocols.errors import IllegalStep, PeerFault
from fed_em_protocols.keys import agree, agreement_public, derive
from fed_em_protocols.round_keys import (
    AgreementKey,
    KeyChain,
    commitment,
    mask_keys,
    pair_mask_keys,
    pair_secrets,
    self_mask_key,
)
from tests.protocols.uniformity import uniform_p_value

CHAIN = KeyChain(b"k" * 32, 5)


def test_the_chain_says_the_same_whichever_way_it_goes() -> None:
    at_once = CHAIN.advanced(9)
    step_by_step = CHAIN
    for number in range(6, 10):
        step_by_step = step_by_step.advanced(number)
    assert at_once == step_by_step
    assert CHAIN.secrets(5)[4] == at_once.current()
    assert CHAIN.advanced(5) is not CHAIN and CHAIN.advanced(5) == CHAIN


def test_it_never_goes_back() -> None:
    later = CHAIN.advanced(7)
    with pytest.raises(IllegalStep, match="behind this key chain"):
        later.advanced(6)


def test_a_later_chain_key_holds_no_earlier_secret() -> None:
    earlier = CHAIN.current()
    later = CHAIN.advanced(6)
    assert later.key not in {earlier.agreement, earlier.self_seed, CHAIN.key}
    assert CHAIN.key not in {later.current().agreement, later.current().self_seed}


def test_secrets_of_all_rounds_differ_and_look_random() -> None:
    """Bytes of a_t, b_t and of the differences to the round before are uniform; false alarm once in 10^6 (fixed sample)."""
    secrets = KeyChain(b"s" * 32, 1).secrets(400)
    both = [each.agreement + each.self_seed for each in secrets]
    assert len({half for each in secrets for half in (each.agreement, each.self_seed)}) == 800
    assert uniform_p_value(list(b"".join(both)), 256) > 1e-6
    differences = [left ^ right for a, b in itertools.pairwise(both) for left, right in zip(a, b, strict=True)]
    assert uniform_p_value(differences, 256) > 1e-6


def test_the_uniformity_test_sees_related_rounds() -> None:
    first = KeyChain(b"s" * 32, 1).current().agreement
    related = [bytes(byte ^ t % 4 for byte in first) for t in range(400)]
    differences = [left ^ right for a, b in itertools.pairwise(related) for left, right in zip(a, b, strict=True)]
    assert uniform_p_value(differences, 256) < 1e-6


def test_chains_of_different_rounds_are_different() -> None:
    assert KeyChain(b"k" * 32, 5).current() != KeyChain(b"k" * 32, 6).current()


def pair(context: bytes = b"c", low: int = 1, high: int = 4) -> tuple[bytes, bytes]:
    one, other = AgreementKey(low, b"a" * 32), AgreementKey(high, b"b" * 32)
    return (
        one.pair_mask_key(high, other.public, context, "high"),
        other.pair_mask_key(low, one.public, context, "low"),
    )


def test_both_ends_make_the_same_pair_key() -> None:
    left, right = pair()
    assert left == right and len(left) == 16


def test_a_pair_key_is_derived_as_the_design_says() -> None:
    """KDF("pair", dh ‖ pk_min ‖ pk_max, ctx, min, max)."""
    low, high = agreement_public(b"a" * 32), agreement_public(b"b" * 32)
    shared = agree(b"a" * 32, high, "")
    assert pair() == (derive("pair", shared + low + high, 16, b"c", 1, 4),) * 2


OWN = AgreementKey(4, b"o" * 32)
PEERS = {index: (agreement_public(bytes([index]) * 32), f"t{index}") for index in (7, 1, 5, 0)}


def test_keys_of_a_whole_round_are_those_made_one_by_one() -> None:
    keys = pair_mask_keys(OWN, PEERS, b"c")
    assert list(keys) == [0, 1, 5, 7]
    assert keys == {peer: OWN.pair_mask_key(peer, public, b"c", name) for peer, (public, name) in PEERS.items()}


def test_pair_secrets_made_ahead_give_the_same_keys_in_any_context() -> None:
    ahead = pickle.loads(pickle.dumps(pair_secrets(OWN, PEERS)))  # as they come back from another process
    for context in (b"c", b"d"):
        assert mask_keys(ahead, context) == pair_mask_keys(OWN, PEERS, context)
    at_the_peer = AgreementKey(7, bytes([7]) * 32).pair_secret(4, OWN.public, "t4")
    assert ahead[7] == at_the_peer


def test_among_many_peers_a_key_of_small_order_names_its_owner() -> None:
    with pytest.raises(PeerFault) as caught:
        pair_secrets(OWN, {**PEERS, 6: (bytes(32), "mallory")})
    assert caught.value.peer == "mallory"


def test_a_pair_key_belongs_to_one_context_and_one_pair() -> None:
    assert len({pair()[0], pair(b"d")[0], pair(b"c", 1, 5)[0], pair(b"c", 4, 1)[0], pair(b"c", 0, 4)[0]}) == 5


def test_a_self_key_belongs_to_one_context_and_is_no_pair_key() -> None:
    assert (
        len({self_mask_key(b"a" * 32, b"c"), self_mask_key(b"a" * 32, b"d"), self_mask_key(b"b" * 32, b"c"), pair()[0]})
        == 4
    )


def test_mask_keys_use_all_their_bytes() -> None:
    """Over 256 contexts every byte of either key takes at least 128 values; chance gives fewer once in 10^11 times."""
    contexts = [bytes([k]) for k in range(256)]
    for keys in (
        [self_mask_key(b"a" * 32, context) for context in contexts],
        [pair(context)[0] for context in contexts],
    ):
        assert min(len({key[place] for key in keys}) for place in range(16)) >= 128


def test_a_copied_public_key_gives_another_pair_key() -> None:
    """A tenant that advertises another's key shares no mask key with that other's partners."""
    one, victim = AgreementKey(1, b"a" * 32), AgreementKey(2, b"b" * 32)
    assert one.pair_mask_key(2, victim.public, b"c", "") != one.pair_mask_key(3, victim.public, b"c", "")


def test_a_key_of_small_order_names_its_owner() -> None:
    with pytest.raises(PeerFault) as caught:
        AgreementKey(0, b"a" * 32).pair_mask_key(1, bytes(32), b"c", "mallory")
    assert caught.value.peer == "mallory"


def test_commitments_bind_and_nothing_is_shown() -> None:
    assert commitment(b"a" * 32) != commitment(b"b" * 32)
    secrets = CHAIN.current()
    pair_secret = pair_secrets(OWN, PEERS)[1]
    shown = repr(CHAIN) + repr(secrets) + repr(AgreementKey(3, secrets.agreement)) + repr(pair_secret)
    for secret in (CHAIN.key, secrets.agreement, secrets.self_seed, pair_secret.extracted):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown
    assert AgreementKey(3, secrets.agreement).public == agreement_public(secrets.agreement)
