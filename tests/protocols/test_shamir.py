"""Secret sharing: any threshold gives the secret back, fewer say nothing, and what is wrong is refused."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_protocols import shamir
from fed_em_protocols.polynomials import values_at
from fed_em_protocols.shamir import PRIME, SHARE_BYTES, combine, split, split_many
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.protocols.uniformity import uniform_p_value

SECRET = bytes(range(32))


def split_with_defect(secret: bytes, threshold: int, holders: list[int]) -> tuple[bytes, ...]:
    """A broken sharing: its coefficients are small, so that a share lies close to the secret."""
    return split(secret, threshold, holders, lambda length: b"".join(b"\x01" + bytes(47) for _ in range(length // 48)))


@given(st.data())
def test_any_threshold_of_holders_gives_the_secret_back(data: st.DataObject) -> None:
    secret = data.draw(st.binary(min_size=32, max_size=32))
    holders = data.draw(st.lists(st.integers(0, 63), min_size=2, max_size=9, unique=True))
    threshold = data.draw(st.integers(2, len(holders)))
    shares = dict(zip(holders, split(secret, threshold, holders, secrets.token_bytes), strict=True))
    assert all(len(share) == SHARE_BYTES for share in shares.values())
    chosen = data.draw(st.lists(st.sampled_from(holders), min_size=threshold, unique=True))
    assert combine({holder: shares[holder] for holder in chosen}, threshold) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_the_extreme_secrets_survive_every_choice_of_holders(secret: bytes) -> None:
    shares = split(secret, 3, range(5), seeded_randomness(1))
    for chosen in itertools.combinations(range(5), 3):
        assert combine({holder: shares[holder] for holder in chosen}, 3) == secret


@pytest.fixture(autouse=True, scope="module")
def few_secrets_are_shared_as_many_are() -> Iterator[None]:
    """Small examples go through the products that are made for a window's secrets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shamir, "_LEAST_TERMS_IN_A_PRODUCT", 0)
        yield


def one_by_one(tables: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    """The shares of each secret, as `split` gives them, from the tables of all holders."""
    return list(zip(*([t[k : k + SHARE_BYTES] for k in range(0, len(t), SHARE_BYTES)] for t in tables), strict=True))


@given(st.data())
def test_many_secrets_are_split_as_one_after_the_other(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5))
    holders = data.draw(st.lists(st.integers(0, 63) | st.integers(0, 10_000), min_size=2, max_size=40, unique=True))
    threshold = data.draw(st.integers(2, len(holders)))
    seed = data.draw(st.integers(0, 2**32))
    tables = split_many(secrets, threshold, holders, seeded_randomness(seed))
    randomness = seeded_randomness(seed)
    shares = one_by_one(tables)
    assert shares == [split(secret, threshold, holders, randomness) for secret in secrets]
    chosen = data.draw(st.lists(st.sampled_from(range(len(holders))), min_size=threshold, unique=True))
    for secret, of_all in zip(secrets, shares, strict=True):
        assert combine({holders[k]: of_all[k] for k in chosen}, threshold) == secret


@pytest.mark.parametrize(
    "fill", [b"\0", b"\xff", b"\xff\0", b"\0\xff", b"\xff" * 32 + b"\0" * 16, b"\0" * 32 + b"\xff" * 16]
)
@pytest.mark.parametrize("holders", [range(92), [0, 1, 2**14, 2**64, PRIME - 2]], ids=["neighbours", "far"])
def test_extreme_coefficients_and_secrets_are_split_exactly(fill: bytes, holders: list[int]) -> None:
    """The largest products and sums that there can be, and carries through all limbs."""
    threshold = 1 + len(holders) // 2

    def constant_bytes(length: int) -> bytes:
        return (fill * length)[:length]

    secrets = [bytes(32), b"\xff" * 32, (1).to_bytes(32, "little"), SECRET]
    tables = split_many(secrets, threshold, holders, constant_bytes)
    assert one_by_one(tables) == [split(secret, threshold, holders, constant_bytes) for secret in secrets]


# Around 0, 2^256 and p, where a number modulo p has two forms in 257 bits, or a carry runs through.
EDGES = [0, 1, 296, 297, 298, 2**256 - 298, 2**256 - 297, 2**256 - 1, 2**256, 2**256 + 295, 2**256 + 296]


@pytest.mark.parametrize("value", EDGES)
def test_shares_at_the_edges_of_the_field_are_reduced(value: int) -> None:
    for secret in (bytes(32), SECRET, b"\xff" * 32):
        slope = (value - int.from_bytes(secret, "little")) % PRIME
        first, _ = split_many([secret] * 2, 2, [0, 1], partial(slope.to_bytes, byteorder="little"))
        assert first == value.to_bytes(SHARE_BYTES, "little") * 2


def test_few_secrets_are_shared_to_the_same_shares_in_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    together = split_many([SECRET, bytes(32)], 3, [0, 2, 5, 6], seeded_randomness(7))
    monkeypatch.setattr(shamir, "_LEAST_TERMS_IN_A_PRODUCT", 25)
    monkeypatch.setattr(shamir, "values_at", None)
    assert split_many([SECRET, bytes(32)], 3, [0, 2, 5, 6], seeded_randomness(7)) == together
    assert split_many([], 2, [3, 4, 5], secrets.token_bytes) == (b"", b"", b"")
    with pytest.raises(TypeError):
        split_many([SECRET] * 3, 3, [0, 2, 5, 6], seeded_randomness(7))


def test_no_secrets_have_no_shares() -> None:
    assert split_many([], 2, [3, 4, 5], secrets.token_bytes) == (b"", b"", b"")


def low_bytes(values: list[bytes]) -> list[int]:
    return [value[0] for value in values]


def test_fewer_than_the_threshold_say_nothing() -> None:
    """One share of two, for one fixed secret, is uniform: false alarm once in 10^6 samples (the sample here is fixed)."""
    randomness = seeded_randomness(2)
    sample = [split(SECRET, 2, [0, 1], randomness)[1] for _ in range(8192)]
    assert uniform_p_value(low_bytes(sample), 256) > 1e-6
    assert uniform_p_value([share[31] for share in sample], 256) > 1e-6


def test_fewer_than_the_threshold_fit_every_secret_equally() -> None:
    """For two shares of three and any secret there is exactly one third share that fits: the two rule none out."""
    shares = split(SECRET, 3, [0, 1, 2], seeded_randomness(3))
    for wanted in (SECRET, bytes(32), b"\xff" * 32):
        # Lagrange at x = 0 over x = 1, 2, 3 has the weights 3, −3, 1.
        first, second = (int.from_bytes(share, "little") for share in shares[:2])
        third = (int.from_bytes(wanted, "little") - 3 * first + 3 * second) % PRIME
        completed = {0: shares[0], 1: shares[1], 2: third.to_bytes(SHARE_BYTES, "little")}
        assert combine(completed, 3) == wanted


def test_fewer_than_the_threshold_say_nothing_of_many_secrets() -> None:
    """As for one secret: the shares of one holder of a threshold of two, for one secret shared over and over."""
    _, second = split_many([SECRET] * 8192, 2, [0, 1], seeded_randomness(6))
    for place in (0, 15, 31):
        assert uniform_p_value(list(second[place::SHARE_BYTES]), 256) > 1e-6


def test_the_uniformity_test_sees_a_broken_sharing() -> None:
    sample = [split_with_defect(SECRET, 2, [0, 1])[1] for _ in range(8192)]
    assert uniform_p_value(low_bytes(sample), 256) < 1e-6


@given(st.integers(0, 2), st.integers(0, 8 * 32 - 1))
def test_a_corrupted_share_changes_the_secret(which: int, bit: int) -> None:
    shares = list(split(SECRET, 3, range(3), seeded_randomness(4)))
    changed = int.from_bytes(shares[which], "little") ^ 1 << bit
    shares[which] = changed.to_bytes(SHARE_BYTES, "little")
    assert combine(dict(enumerate(shares)), 3) != SECRET


def test_a_polynomial_whose_secret_has_33_bytes_is_none() -> None:
    value = (2**256).to_bytes(SHARE_BYTES, "little")
    assert combine({0: value, 1: value}, 2) is None


@pytest.mark.parametrize(
    ("secret", "threshold", "holders"),
    [
        (SECRET, 1, [0, 1, 2]),
        (SECRET, 0, [0, 1, 2]),
        (SECRET, 4, [0, 1, 2]),
        (SECRET, 2, [0, 0, 1]),
        (SECRET, 2, [-1, 0, 1]),
        (SECRET[:31], 2, [0, 1, 2]),
    ],
)
def test_a_sharing_that_is_none_is_refused(secret: bytes, threshold: int, holders: list[int]) -> None:
    with pytest.raises(CallerError):
        split(secret, threshold, holders, secrets.token_bytes)
    with pytest.raises(CallerError):
        split_many([SECRET, secret], threshold, holders, secrets.token_bytes)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=60, unique=True), st.integers(0, PRIME - 1))
def test_kept_weights_are_those_of_lagrange(holders: list[int], slope: int) -> None:
    """On a line through any secret, whoever holds the shares and in whatever order they come, once or again."""
    line = {k: (int.from_bytes(SECRET, "little") + slope * (k + 1)) % PRIME for k in holders}
    shares = {k: value.to_bytes(SHARE_BYTES, "little") for k, value in line.items()}
    assert combine(shares, len(holders)) == SECRET == combine(dict(reversed(shares.items())), len(holders))


def test_too_few_or_misshapen_shares_are_refused() -> None:
    shares = split(SECRET, 2, range(3), seeded_randomness(5))
    with pytest.raises(CallerError, match="threshold of 2"):
        combine({0: shares[0]}, 2)
    with pytest.raises(CallerError, match="threshold of 1"):
        combine({0: shares[0]}, 1)
    with pytest.raises(CallerError, match="65536 terms"):
        values_at(np.zeros((16, 65_537, 1), dtype=np.uint16), [1])
    with pytest.raises(CallerError, match="33 bytes"):
        combine({0: shares[0], 1: shares[1][:32]}, 2)
