"""The formulas of section 10 of protocols/SPEC.md, written a second time from that page: nothing of this project is imported."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import count
from math import comb, prod

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

Field = bytes | str | int
P = 2**256 + 297


def le8(x: int) -> bytes:
    return x.to_bytes(8, "little")


def digest(domain: str, *fields: Field) -> bytes:
    tag = b"fed-em/1/" + domain.encode()
    whole = le8(len(tag)) + tag + le8(len(fields))
    for field in fields:
        data = le8(field) if isinstance(field, int) else field.encode() if isinstance(field, str) else field
        whole += le8(len(data)) + data
    return hashlib.sha256(whole).digest()


def kdf(label: str, secret: bytes, *context: Field, length: int = 16) -> bytes:
    extracted = hmac.digest(bytes(32), secret, "sha256")
    info, block, found = digest("derive/" + label, *context), b"", b""
    for number in count(1):
        if len(found) >= length:
            return found[:length]
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        found += block
    raise AssertionError


def dh(secret: bytes, public: bytes) -> bytes | None:
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # zero
        return None


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def keystream(key: bytes, size: int) -> bytes:
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(size))


def prg(key: bytes, length: int, bits: int = 64) -> list[int]:
    stream, size = keystream(key, length * bits // 8), bits // 8
    return [int.from_bytes(stream[k : k + size], "little") for k in range(0, len(stream), size)]


# --- a tenant's keys of a window ---


def round_secrets(chain_key: bytes, first_round: int, round_number: int) -> tuple[bytes, bytes]:
    """(a_t, b_t)."""
    for _ in range(first_round, round_number):
        chain_key = kdf("next", chain_key, length=32)
    both = kdf("round", chain_key, round_number, length=64)
    return both[:32], both[32:]


def own_mask_key(self_seed: bytes, ctx: bytes) -> bytes:
    return kdf("self", self_seed, ctx)


def pair_mask_key(agreement: bytes, own: int, other: int, other_public: bytes, ctx: bytes) -> bytes:
    shared = dh(agreement, other_public)
    assert shared is not None
    mine = public_of(agreement)
    low, high = (mine, other_public) if own < other else (other_public, mine)
    return kdf("pair", shared + low + high, ctx, min(own, other), max(own, other))


# --- the graph ---


def ring_of(members: Sequence[int], setup: bytes, nonces: Sequence[bytes]) -> list[int]:
    seed = digest("graph seed", setup, *nonces)

    def words() -> Iterator[int]:
        for block in count():
            data = digest("graph ring", seed, block)
            yield from (int.from_bytes(data[k : k + 4], "little") for k in range(0, 32, 4))

    stream, ring = words(), sorted(members)
    for i in range(len(ring) - 1, 0, -1):
        j = next(low for word in stream if (low := word % 2 ** i.bit_length()) <= i)
        ring[i], ring[j] = ring[j], ring[i]
    return ring


def neighbours(ring: Sequence[int], k: int, member: int) -> list[int]:
    place = ring.index(member)
    return sorted(ring[(place + step) % len(ring)] for step in range(-k // 2, k // 2 + 1) if step)


def marked(population: int, of_them: int, sample: int, at_least: int) -> Fraction:
    """P[H(N, M, s) ≥ a]."""
    ways = sum(comb(of_them, a) * comb(population - of_them, sample - a) for a in range(max(at_least, 0), sample + 1))
    return Fraction(ways, comb(population, sample))


def malicious_numbers_hold(n: int, c: int, d: int, k: int, h: int, tau: int, sigma: int, eta: int) -> bool:
    """The inequalities of section 10 against a malicious server."""
    side = n * marked(n, c, k // 2, h)
    tied = 2 * n * marked(n - 1, d, k // 2, k // 2 - h + 1)
    secure, correct = Fraction(1, 2**sigma), Fraction(1, 2**eta)
    return (
        side <= secure
        and side + n * marked(n - 1, c, k, tau) <= secure
        and tied <= correct
        and tied + n * marked(n - 1, d, k, k - tau + 1) <= correct
        and marked(n - 1, c + d, k, k - tau + 1) <= correct
    )


# --- boxes and shares ---


def sealed(setup: bytes, sender: int, recipient: int, secret: bytes, public: bytes, plaintext: bytes) -> bytes | None:
    shared = dh(secret, public)
    if shared is None:
        return None
    cipher = ChaCha20Poly1305(kdf("box", shared, setup, sender, recipient, length=32))
    return cipher.encrypt(bytes(12), plaintext, digest("box", setup, sender, recipient))


def opened(setup: bytes, sender: int, recipient: int, secret: bytes, public: bytes, box: bytes) -> bytes | None:
    shared = dh(secret, public)
    if shared is None:
        return None
    cipher = ChaCha20Poly1305(kdf("box", shared, setup, sender, recipient, length=32))
    try:
        return cipher.decrypt(bytes(12), box, digest("box", setup, sender, recipient))
    except InvalidTag:
        return None


def shares(secret: bytes, threshold: int, holders: Sequence[int], randomness: bytes) -> list[bytes]:
    values = [int.from_bytes(secret, "little")]
    values += [int.from_bytes(randomness[48 * k : 48 * k + 48], "little") % P for k in range(threshold - 1)]
    return [
        (sum(value * (holder + 1) ** power for power, value in enumerate(values)) % P).to_bytes(33, "little")
        for holder in holders
    ]


def secret_of(held: Mapping[int, bytes]) -> bytes | None:
    xs = {holder: holder + 1 for holder in held}
    value = 0
    for holder, share in held.items():
        others = [x for other, x in xs.items() if other != holder]
        weight = prod(others) * pow(prod(x - xs[holder] for x in others), -1, P)
        value += int.from_bytes(share, "little") * weight
    return (value % P).to_bytes(33, "little")[:32] if value % P < 2**256 else None


def root_of(entries: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    half = next(2**e for e in count() if 2 ** (e + 1) >= len(entries))
    return hashlib.sha256(b"\1" + root_of(entries[:half]) + root_of(entries[half:])).digest()


def deposit_root(setup: bytes, dealer: int, holder: int, salt_seed: bytes, table: bytes) -> bytes:
    """Of the shares in one holder's box."""
    parts = [table[k : k + 33] for k in range(0, len(table), 33)]
    salts = keystream(kdf("salts", salt_seed), 16 * len(parts))
    entries = [
        digest("share", setup, dealer, holder, leaf, salts[16 * leaf : 16 * leaf + 16], part)
        for leaf, part in enumerate(parts)
    ]
    return root_of(entries)


# --- the sum, and what is summed ---


def fraction_bits(bound: float, row_caps: Sequence[int], bits: int = 64) -> int | None:
    for f in range(52, 19, -1):
        if sum(round(cap * bound * (1 + 2.0**-20) * 2.0**f) for cap in row_caps) < 2 ** (bits - 1):
            return f
    return None


def words_of(values: Sequence[float], fractions: Sequence[int], tail: int, bits: int = 64) -> list[int]:
    return [round(Fraction(value) * 2**f) % 2**bits for value, f in zip(values, fractions, strict=True)] + [0] * tail


def unmasked(
    uploads: Mapping[int, Sequence[int]],
    own_keys: Mapping[int, bytes],
    pair_keys: Mapping[tuple[int, int], bytes],
    bits: int = 64,
) -> list[int]:
    """The sum over the survivors, whose uploads and own keys are given, and the key of each pair of one and a missing neighbour."""
    length = len(next(iter(uploads.values())))
    total = [sum(upload[k] for upload in uploads.values()) for k in range(length)]
    for key in own_keys.values():
        total = [t - m for t, m in zip(total, prg(key, length, bits), strict=True)]
    for (survivor, missing), key in pair_keys.items():
        sign = 1 if survivor < missing else -1
        total = [t - sign * m for t, m in zip(total, prg(key, length, bits), strict=True)]
    return [t % 2**bits for t in total]
