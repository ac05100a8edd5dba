"""The known-answer vectors that are kept are those that the code gives today, and another implementation can follow them."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fed_em_protocols.wire import messages_pb2
from tests.protocols.make_vectors import FILES, FOLDER, text_of
from tests.protocols.second_implementation import digest, kdf, neighbours, ring_of, root_of


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


# --- followed without this implementation, by the second one, signatures and protobuf alone ---


def signed_digest(kind: int, payload: bytes, attachment: bytes) -> bytes:
    return digest("message", kind, payload, sha256(attachment).digest())


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
            signed = signed_digest(envelope.kind, envelope.payload, envelope.attachment)
            assert signed.hex() == case.get("ctx", case.get("digest"))
            assert signs(case["signer"], envelope.signature, signed)


def test_commitments_follow_from_canonical_policies() -> None:
    for case in cases_of("policy"):
        canonical, identity = case["canonical"].encode(), bytes.fromhex(case["identity"])
        policy = sha256(canonical).digest()
        assert (policy.hex(), json.loads(canonical)["round_cap"]) == (case["digest"], 1000)
        salt = kdf("policy", identity, policy, length=32)
        assert (salt.hex(), digest("policy", salt, policy).hex()) == (case["salt"], case["commitment"])


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
        found = digest("roster", *fields)
        if roster["parent"] is not None:
            gone = [
                each[key]
                for each in roster["revoked"]
                for key in ("name", "identity", "tls_key_hash", "reason", "date")
            ]
            found = digest("roster version", found, roster["parent"], *gone)
        statement = digest("roster approval", found)
        assert (found.hex(), statement.hex()) == (case["hash"], case["statement"])
        assert signs(case["signer"], bytes.fromhex(case["approval"]["signature"]), statement)


@pytest.mark.parametrize("name", ["root", "certificate"])
def test_roots_follow_from_the_uploads_evidence(name: str) -> None:
    for case in cases_of(name):
        if "root" in case:
            evidence = bytes.fromhex(case["evidence"])
            uploads = [digest("upload", i, evidence[96 * k : 96 * (k + 1)]) for k, i in enumerate(case["survivors"])]
            assert case["root"] == (root_of(uploads) if uploads else bytes(32)).hex()


def test_certificates_follow_from_their_endorsements() -> None:
    for case in cases_of("certificate"):
        if "endorsement" not in case:
            continue
        payload, envelope = bytes.fromhex(case["endorsement"]), envelope_of(case["certificate"])
        signed = signed_digest(11, payload, b"")
        assert signed.hex() == case["endorsement_digest"]
        statement = messages_pb2.Endorsement.FromString(payload)
        certificate = messages_pb2.Certificate.FromString(envelope.payload)
        for field in ("session", "round", "context", "survivors", "root", "setup"):
            assert getattr(statement, field) == getattr(certificate, field)
        outcome = digest("outcome", statement.context, statement.survivors, statement.root)
        assert outcome.hex() == case["outcome"]
        endorsers = [i for i in range(6) if certificate.endorsers[0] >> i & 1]
        assert len(endorsers) == len(certificate.signatures) >= case["quorum"]
        for index, signature in zip(endorsers, certificate.signatures, strict=True):
            assert signs(case["witness_keys"][index], signature, signed)


def test_rings_follow_from_nonces() -> None:
    """Fisher and Yates, from words of a hashed counter, as the graph's description says."""
    for case in cases_of("graph"):
        if "nonces" not in case:
            continue
        nonces = [bytes.fromhex(nonce) for nonce in case["nonces"]]
        setup = bytes.fromhex(case["setup"])
        assert digest("graph seed", setup, *nonces).hex() == case["seed"]
        ring = ring_of(case["members"], setup, nonces)
        assert ring == case["ring"]
        for member, expected in case["neighbours"].items():
            assert neighbours(ring, case["k"], int(member)) == expected


def test_round_sums_are_those_of_their_survivors() -> None:
    for case in cases_of("round"):
        total = [sum(case["vectors"][i][place] for i in case["survivors"]) % 2**64 for place in range(len(case["sum"]))]
        assert total == case["sum"]
