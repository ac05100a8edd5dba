"""The specification is enough to implement the protocol by: what was written from it alone gives the vectors, and the code's sums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fed_em_protocols.ring import RING_64
from tests.protocols import second_implementation as second
from tests.protocols.drill import Drill
from tests.protocols.make_vectors import FOLDER
from tests.protocols.vectors_of_rounds import SPARSE

_HEX = bytes.fromhex


def cases_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_it_imports_nothing_of_the_project() -> None:
    text = Path(second.__file__).read_text(encoding="utf-8")
    assert "fed_em" not in text.replace("fed-em", "")


def test_digests_and_derived_keys() -> None:
    for case in cases_of("digest"):
        fields = [_HEX(field["hex"]) if isinstance(field, dict) else field for field in case["fields"]]
        assert second.digest(case["domain"], *fields).hex() == case["digest"]
    for case in cases_of("derive"):
        secret = _HEX(case["secret"])
        if "label" in case:
            assert second.kdf(case["label"], secret, *case["context"], length=case["length"]).hex() == case["output"]
        elif "error" in case:
            assert second.dh(secret, _HEX(case["public"])) is None
        else:
            agreed = second.dh(secret, _HEX(case["public"]))
            assert agreed is not None and agreed.hex() == case["agreement"]


def test_keys_of_a_round() -> None:
    for case in cases_of("round_keys"):
        agreement, seed = second.round_secrets(_HEX(case["chain_key"]), case["first_round"], case["round"])
        assert (agreement.hex(), seed.hex()) == (case["agreement"], case["self_seed"])
        assert second.digest("self seed", seed).hex() == case["commitment"]
        assert second.public_of(agreement).hex() == case["public"]
        ctx = _HEX(case["context"])
        assert second.own_mask_key(seed, ctx).hex() == case["self_mask_key"]
        pair = second.pair_mask_key(agreement, case["index"], case["peer"], _HEX(case["peer_public"]), ctx)
        assert pair.hex() == case["pair_mask_key"]


def test_masks_in_both_rings() -> None:
    for case in cases_of("mask"):
        if "mask" in case:
            assert second.prg(_HEX(case["key"]), len(case["mask"])) == case["mask"]
    for case in cases_of("ring"):
        assert second.prg(_HEX(case["key"]), len(case["mask"]), case["bits"]) == case["mask"]


def test_boxes() -> None:
    for case in cases_of("box"):
        if "sender_secret" not in case:
            continue
        setup, sender, recipient = _HEX(case["setup"]), case["from"], case["to"]
        public = second.public_of(_HEX(case["sender_secret"]))
        found = second.opened(setup, sender, recipient, _HEX(case["recipient_secret"]), public, _HEX(case["box"]))
        assert (None if found is None else found.hex()) == case["plaintext"]
        if found is not None:
            other = second.public_of(_HEX(case["recipient_secret"]))
            box = second.sealed(setup, sender, recipient, _HEX(case["sender_secret"]), other, found)
            assert box is not None and box.hex() == case["box"]


def test_shares() -> None:
    seen = 0
    for case in cases_of("shamir"):
        if "coefficients" not in case:
            continue
        found = second.shares(_HEX(case["secret"]), case["threshold"], case["holders"], _HEX(case["coefficients"]))
        assert [share.hex() for share in found] == case["shares"]
        some = dict(list(zip(case["holders"], found, strict=True))[-case["threshold"] :])
        assert second.secret_of(some) == _HEX(case["secret"])
        seen += 1
    assert seen >= 2


def test_encodings() -> None:
    for case in cases_of("encoding"):
        bounds = [float.fromhex(bound) for bound in case["bounds"]]
        bits = [second.fraction_bits(bound, case["row_caps"]) for bound in bounds]
        assert bits == case.get("bits", [None])
        if "ring" in case:
            sizes = [shape[0] if shape else 1 for shape in case["shapes"]]
            fractions = [f for f, size in zip(case["bits"], sizes, strict=True) for _ in range(size)]
            assert second.words_of([float.fromhex(value) for value in case["values"]], fractions, 3) == case["ring"]


def test_the_numbers_of_sparse_graphs_hold_and_smaller_ones_do_not() -> None:
    seen = 0
    for case in cases_of("graph_parameters"):
        if case.get("trust") != "malicious-server" or "error" in case:
            continue
        n, c, d = case["n"], case["corrupt"], case["dropouts"]
        k, h, tau = case["neighbours"], case["side_honest"], case["share_threshold"]
        sigma, eta = case["security_bits"], case["correctness_bits"]
        assert second.malicious_numbers_hold(n, c, d, k, h, tau, sigma, eta)
        assert not second.malicious_numbers_hold(n, c, d, k, h - 1, tau, sigma, eta)
        assert not second.malicious_numbers_hold(n, c, d, k, h, tau - 1, sigma, eta)
        seen += 1
    assert seen >= 4


def survivors_seeds(case: dict[str, Any]) -> dict[int, bytes]:
    """b_t of each survivor: opened by itself, or recovered."""
    seeds = {int(i): _HEX(each["self_seed"]) for i, each in case["opened"].items()}
    return seeds | {int(key.split("/")[0]): _HEX(seed) for key, seed in case["recovered"].items() if key.endswith("/1")}


UNGATED = [case for case in cases_of("round") if "y" in case]


@pytest.mark.parametrize("case", UNGATED, ids=[f"{case['n']} tenants, {case['trust']}" for case in UNGATED])
def test_whole_rounds_with_dropouts_and_silent_survivors(case: dict[str, Any]) -> None:
    ctx = _HEX(case["ctx"])
    uploads = {i: case["y"][i] for i in case["survivors"]}
    own = {i: second.own_mask_key(seed, ctx) for i, seed in survivors_seeds(case).items()}
    assert set(own) == set(uploads)
    pairs = {tuple(map(int, key.split("/"))): _HEX(value) for key, value in case["pair_keys"].items()}
    assert second.unmasked(uploads, own, pairs) == case["sum"]  # type: ignore[arg-type]
    if pairs:
        wrong = dict(list(pairs.items())[1:])
        assert second.unmasked(uploads, own, wrong) != case["sum"]  # type: ignore[arg-type]


# --- what the real tenants send, computed a second time from their secrets ---


def secrets_of(drill: Drill, index: int, round_number: int) -> tuple[bytes, bytes]:
    """(a_t, b_t) of a tenant."""
    chain = drill.secrets[1][index].chain
    return second.round_secrets(chain.key, chain.round, round_number)


@pytest.mark.parametrize(("n", "terms"), [(4, {}), (8, SPARSE)], ids=["complete", "sparse"])
def test_uploads(n: int, terms: dict[str, Any]) -> None:
    drill = Drill(n, length=5, window_rounds=4, **terms)
    drill.run(1)
    secrets, header, setup = {i: secrets_of(drill, i, 2) for i in range(n)}, drill.header(2), drill.fixed
    advertised = [drill.advertisements[i].digest for i in range(n)]
    assert drill.opening is not None
    everybody = (2**n - 1).to_bytes(-(-n // 8), "little")
    assert setup.digest == second.digest("set-up", drill.opening.digest, everybody, *advertised)
    for i in range(n):
        x = RING_64.zeros(5)
        x[:2] = 7 + i, 2**64 - 5
        agreement, seed = secrets[i]
        keys = [(second.own_mask_key(seed, header.digest), 1)]
        for j in setup.neighbours(i):
            other = second.public_of(secrets[j][0])
            table = drill.advertisements[j].attachment  # of four rounds, of which this is the second
            assert (table[32:64], table[160:192]) == (other, second.digest("self seed", secrets[j][1]))
            keys.append((second.pair_mask_key(agreement, i, j, other, header.digest), 1 if i < j else -1))
        expected = [int(word) for word in x]
        for key, sign in keys:
            expected = [e + sign * m for e, m in zip(expected, second.prg(key, 5), strict=True)]
        assert [int(word) for word in drill.upload(i, header, x)] == [word % 2**64 for word in expected]


@pytest.mark.parametrize(("n", "terms"), [(4, {}), (8, SPARSE)], ids=["complete", "sparse"])
def test_deposits(n: int, terms: dict[str, Any]) -> None:
    drill = Drill(n, window_rounds=2, **terms)
    setup, held = drill.fixed, dict[tuple[int, int], bytes]()
    channels = {i: drill.secrets[1][i].channel_secret for i in range(n)}
    for dealer in range(n):
        holders, sealed = setup.neighbours(dealer), drill.deposits[dealer]
        size = len(sealed.attachment) // len(holders)
        assert size == 32 + 2 * 2 * 33 + 16
        for place, holder in enumerate(holders):
            box, mine = sealed.attachment[size * place : size * (place + 1)], channels[holder]
            theirs = channels[dealer]
            assert mine is not None and theirs is not None
            found = second.opened(setup.digest, dealer, holder, mine, second.public_of(theirs), box)
            assert found is not None
            root = second.deposit_root(setup.digest, dealer, holder, found[:32], found[32:])
            assert root == sealed.content.roots[32 * place : 32 * (place + 1)]
            held[dealer, holder] = found[32:]
        enough = holders[-setup.threshold :]
        for leaf, secret in enumerate((*secrets_of(drill, dealer, 1), *secrets_of(drill, dealer, 2))):
            shares = {holder: held[dealer, holder][33 * leaf : 33 * leaf + 33] for holder in enough}
            assert second.secret_of(shares) == secret
