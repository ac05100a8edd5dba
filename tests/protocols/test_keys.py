"""Signatures, agreement and derivation: known answers of RFC 8032, 7748 and 5869, and keys that are refused."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols.errors import PeerFault
from fed_em_protocols.hashing import digest
from fed_em_protocols.hkdf import extract
from fed_em_protocols.keys import (
    SigningKey,
    agree,
    agreement_key,
    agreement_public,
    derive,
    derive_from,
    is_of_small_order,
    verifies,
)

# RFC 8032, section 7.1, test 2.
SIGNER = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
SIGNER_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE_OF_72 = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)

# RFC 7748, section 5.2 (first vector) and section 6.1.
SCALAR = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
COORDINATE = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
PRODUCT = bytes.fromhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

P = 2**255 - 19
# Points of order 1, 2, 4 and 8 on the curve or its twist, with their non-canonical encodings.
SMALL_ORDER = [
    value
    for u in (
        0,
        1,
        P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
    for value in (u, u + P, u + 2**255, u + P + 2**255)
    if value < 2**256 and (value & (2**255 - 1)) % P == u
]


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 without a salt, written apart from the code."""
    key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    out, block = b"", b""
    for counter in range(1, 2 + length // 32):
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
    return out[:length]


def test_ed25519_known_answer() -> None:
    assert SIGNER.public == SIGNER_PUBLIC
    assert SIGNER.sign(b"\x72") == SIGNATURE_OF_72
    assert verifies(SIGNER_PUBLIC, SIGNATURE_OF_72, b"\x72")


@given(st.integers(0, 8 * 64 - 1))
def test_a_changed_signature_does_not_verify(bit: int) -> None:
    changed = bytearray(SIGNATURE_OF_72)
    changed[bit // 8] ^= 1 << bit % 8
    assert not verifies(SIGNER_PUBLIC, bytes(changed), b"\x72")


def test_other_messages_other_keys_and_no_keys_do_not_verify() -> None:
    assert not verifies(SIGNER_PUBLIC, SIGNATURE_OF_72, b"\x73")
    assert not verifies(SigningKey(bytes(32)).public, SIGNATURE_OF_72, b"\x72")
    assert not verifies(b"\xff" * 32, SIGNATURE_OF_72, b"\x72")
    assert not verifies(SIGNER_PUBLIC[:31], SIGNATURE_OF_72, b"\x72")
    assert not verifies(SIGNER_PUBLIC, SIGNATURE_OF_72[:63], b"\x72")


def test_x25519_known_answer() -> None:
    assert agree(SCALAR, COORDINATE, "peer") == PRODUCT
    assert agreement_public(BOB) == BOB_PUBLIC
    assert agree(BOB, ALICE_PUBLIC, "alice") == SHARED == agree(agreement_key(BOB), ALICE_PUBLIC, "alice")


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_keys_of_small_order_are_refused_by_name(u: int) -> None:
    public = u.to_bytes(32, "little")
    assert is_of_small_order(public)
    with pytest.raises(PeerFault, match="small order") as caught:
        agree(BOB, public, "mallory")
    assert caught.value.peer == "mallory"


@given(st.binary(min_size=32, max_size=32))
def test_small_order_means_that_agreement_is_refused_and_nothing_else(public: bytes) -> None:
    try:
        agree(BOB, public, "peer")
    except PeerFault:
        assert is_of_small_order(public)
    else:
        assert not is_of_small_order(public)


def test_hkdf_known_answer() -> None:
    """RFC 5869, test case 3, holds for the oracle; the code agrees with the oracle."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert hkdf(b"\x0b" * 22, b"", 42).hex() == expected
    for length in (1, 16, 32, 64):
        assert derive("label", b"secret", length, 7, b"c") == hkdf(b"secret", digest("derive/label", 7, b"c"), length)


def test_derivation_depends_on_everything() -> None:
    inputs = [("a", b"s", 1), ("b", b"s", 1), ("a", b"t", 1), ("a", b"s", 2)]
    assert len({derive(label, secret, 32, number) for label, secret, number in inputs}) == len(inputs)
    assert derive("a", b"s", 32) != derive("a", b"s", 32, b"")


@given(st.text(max_size=9), st.binary(max_size=99), st.integers(1, 99), st.lists(st.binary(max_size=40), max_size=3))
def test_many_keys_of_one_secret_are_those_derived_one_by_one(
    label: str, secret: bytes, length: int, context: list[bytes]
) -> None:
    assert derive_from(extract(secret), label, length, *context) == derive(label, secret, length, *context)


def test_a_signing_key_shows_nothing() -> None:
    assert repr(SIGNER) == "SigningKey(…)" == f"{SIGNER}"
