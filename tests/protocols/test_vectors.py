"""The known-answer vectors that are kept are those that the code gives today, and another implementation can follow them."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fed_em_protocols.wire import messages_pb2
from tests.protocols.make_vectors import FILES, FOLDER, text_of


def cases_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", FILES)
def test_vectors_are_what_the_code_gives(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text_of(name)


def test_no_vector_is_left_without_its_maker() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize(
    "name",
    [
        "derive", "shamir", "merkle", "box", "encoding", "envelope", "header", "graph", "graph_parameters", "certificate", "roster",
    ],
)  # fmt: skip
def test_vectors_include_failures(name: str) -> None:
    cases = cases_of(name)
    failing = [case for case in cases if "error" in case or None in case.values() or case.get("valid") is False]
    assert 0 < len(failing) < len(cases)


# --- followed without this implementation: hashing, signatures and protobuf alone ---


def hashed(domain: str, *fields: bytes | str | int) -> bytes:
    """The digest that everything hashed goes through, by its definition."""
    tag = b"fed-em/1/" + domain.encode()
    whole = len(tag).to_bytes(8, "little") + tag + len(fields).to_bytes(8, "little")
    for field in fields:
        text = field.encode() if isinstance(field, str) else field
        part = text.to_bytes(8, "little") if isinstance(text, int) else text
        whole += len(part).to_bytes(8, "little") + part
    return sha256(whole).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = next(power for power in (2**exponent for exponent in count()) if 2 * power >= len(leaves))
    return sha256(b"\1" + tree_root(leaves[:half]) + tree_root(leaves[half:])).digest()


def signed_digest(kind: int, payload: bytes, attachment: bytes) -> bytes:
    return hashed("message", kind, payload, sha256(attachment).digest())


def signs(key: str, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def envelope_of(text: str) -> messages_pb2.Envelope:
    return messages_pb2.Envelope.FromString(bytes.fromhex(text))


@pytest.mark.parametrize("name", ["envelope", "header"])
def test_signed_messages_can_be_verified_from_their_bytes(name: str) -> None:
    for case in cases_of(name):
        if "error" not in case:
            envelope = envelope_of(case["message"])
            digest = signed_digest(envelope.kind, envelope.payload, envelope.attachment)
            assert digest.hex() == case.get("ctx", case.get("digest"))
            assert signs(case["signer"], envelope.signature, digest)


def test_commitments_follow_from_canonical_policies() -> None:
    """HKDF of RFC 5869 with one block of output."""
    for case in cases_of("policy"):
        canonical, identity = case["canonical"].encode(), bytes.fromhex(case["identity"])
        policy = sha256(canonical).digest()
        assert (policy.hex(), json.loads(canonical)["round_cap"]) == (case["digest"], 1000)
        extracted = hmac.digest(bytes(32), identity, "sha256")
        salt = hmac.digest(extracted, hashed("derive/policy", policy) + b"\1", "sha256")
        assert (salt.hex(), hashed("policy", salt, policy).hex()) == (case["salt"], case["commitment"])


def test_versions_of_a_roster_hash_and_are_approved_by_their_fields() -> None:
    for case in cases_of("roster"):
        if "roster" not in case:
            continue
        roster = case["roster"]
        fields = [
            roster["federation"],
            roster["version"],
            roster["server"]["identity"],
            roster["server"]["certificate"],
        ]
        for tenant in roster["tenants"]:
            fields += [tenant[key] for key in ("name", "identity", "certificate", "row_cap", "block")]
            fields.append(int(tenant["witness"]))
        found = hashed("roster", *fields)
        if roster["parent"] is not None:
            gone = [
                each[key]
                for each in roster["revoked"]
                for key in ("name", "identity", "tls_key_hash", "reason", "date")
            ]
            found = hashed("roster version", found, roster["parent"], *gone)
        statement = hashed("roster approval", found)
        assert (found.hex(), statement.hex()) == (case["hash"], case["statement"])
        assert signs(case["signer"], bytes.fromhex(case["approval"]["signature"]), statement)


@pytest.mark.parametrize("name", ["root", "certificate"])
def test_roots_follow_from_the_uploads_evidence(name: str) -> None:
    for case in cases_of(name):
        if "root" in case:
            evidence = bytes.fromhex(case["evidence"])
            leaves = [hashed("upload", i, evidence[96 * k : 96 * (k + 1)]) for k, i in enumerate(case["survivors"])]
            assert case["root"] == (tree_root(leaves) if leaves else bytes(32)).hex()


def test_certificates_follow_from_their_endorsements() -> None:
    for case in cases_of("certificate"):
        if "endorsement" not in case:
            continue
        payload, envelope = bytes.fromhex(case["endorsement"]), envelope_of(case["certificate"])
        digest = signed_digest(11, payload, b"")
        assert digest.hex() == case["endorsement_digest"]
        statement = messages_pb2.Endorsement.FromString(payload)
        certificate = messages_pb2.Certificate.FromString(envelope.payload)
        for field in ("session", "round", "context", "survivors", "root", "setup"):
            assert getattr(statement, field) == getattr(certificate, field)
        outcome = hashed("outcome", statement.context, statement.survivors, statement.root)
        assert outcome.hex() == case["outcome"]
        endorsers = [i for i in range(6) if certificate.endorsers[0] >> i & 1]
        assert len(endorsers) == len(certificate.signatures) >= case["quorum"]
        for index, signature in zip(endorsers, certificate.signatures, strict=True):
            assert signs(case["witness_keys"][index], signature, digest)


def test_rings_follow_from_nonces() -> None:
    """Fisher and Yates, from words of a hashed counter, as the graph's description says."""
    for case in cases_of("graph"):
        if "nonces" not in case:
            continue
        nonces = [bytes.fromhex(nonce) for nonce in case["nonces"]]
        seed = hashed("graph seed", bytes.fromhex(case["setup"]), *nonces)
        assert seed.hex() == case["seed"]
        words = (
            int.from_bytes(hashed("graph ring", seed, block)[start : start + 4], "little")
            for block in count()
            for start in range(0, 32, 4)
        )
        ring = sorted(case["members"])
        for i in range(len(ring) - 1, 0, -1):
            j = next(number for word in words if (number := word % 2 ** i.bit_length()) <= i)
            ring[i], ring[j] = ring[j], ring[i]
        assert ring == case["ring"]
        for member, neighbours in case["neighbours"].items():
            place, half = ring.index(int(member)), case["k"] // 2
            around = [ring[(place + d) % len(ring)] for d in range(-half, half + 1) if d]
            assert sorted(around) == neighbours


def test_round_sums_are_those_of_their_survivors() -> None:
    for case in cases_of("round"):
        total = [sum(case["vectors"][i][place] for i in case["survivors"]) % 2**64 for place in range(len(case["sum"]))]
        assert total == case["sum"]
