"""Parties whose keys, certificates and randomness follow from a seed: for simulations, where a run is to be repeated, and nowhere else.

Whoever knows the seed knows every secret of such a federation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fed_em_protocols.errors import SERVER
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import MAX_TENANTS
from fed_em_protocols.roster import Roster, RosterServer, RosterTenant
from fed_em_protocols.roster_shape import dealt_blocks, default_witnesses, drawn_witnesses
from fed_em_protocols.window import Randomness

_BORN, _DAYS = datetime(2026, 1, 1, tzinfo=UTC), 3650


def seeded_randomness(seed: int | str) -> Randomness:
    """Reproducible bytes: the k-th draw is SHAKE-256 of the seed and k."""
    counter = 0

    def draw(length: int) -> bytes:
        nonlocal counter
        counter += 1
        return hashlib.shake_256(f"{seed}/{counter}".encode()).digest(length)

    return draw


def seeded_certificate(name: str, key_seed: bytes) -> str:
    """A self-signed certificate (PEM) of the Ed25519 key with this 32-byte seed, the same in every run; valid 2026 to 2035."""
    key = Ed25519PrivateKey.from_private_bytes(key_seed)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_BORN)
        .not_valid_after(_BORN + timedelta(days=_DAYS))
        .sign(key, None)
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class SimulatedParties:
    """All parties of a simulated federation.

    Attributes:
        seed: Of every secret.
        roster: Who they are.
    """

    seed: int
    roster: Roster

    @classmethod
    def of(
        cls, federation: str, names: Sequence[str], row_caps: Sequence[int], block_size: int, seed: int
    ) -> SimulatedParties:
        """Parties with these names, in as many blocks as can have `block_size` tenants, and the usual witnesses.

        Raises:
            ValidationError: the names make no roster.
        """
        n = len(names)
        witnesses = drawn_witnesses(federation, names, default_witnesses(n))
        tenants = tuple(
            RosterTenant(
                name=name,
                identity=_identity(seed, name).public.hex(),
                certificate=seeded_certificate(name, digest("simulated certificate", seed, name)),
                row_cap=cap,
                block=block,
                witness=index in witnesses,
            )
            for index, (name, cap, block) in enumerate(zip(names, row_caps, dealt_blocks(n, block_size), strict=True))
        )
        server = RosterServer(
            identity=_identity(seed, SERVER).public.hex(),
            certificate=seeded_certificate(SERVER, digest("simulated certificate", seed, SERVER)),
        )
        if n > MAX_TENANTS:
            # A roster that no real federation could have: its own rules are those of rosters that could be.
            return cls(seed, Roster.model_construct(federation=federation, version=1, server=server, tenants=tenants))
        return cls(seed, Roster(federation=federation, server=server, tenants=tenants))

    def identity(self, name: str) -> SigningKey:
        """The long-term key of a tenant, or of `SERVER`."""
        return _identity(self.seed, name)

    def randomness(self, name: str, life: int) -> Randomness:
        """What the process of a tenant draws that was started for the `life`-th time."""
        return seeded_randomness(f"{self.seed}/{name}/{life}")

    @property
    def session(self) -> bytes:
        """The number of their session, 16 bytes."""
        return digest("simulated session", self.seed)[:16]


def _identity(seed: int, name: str) -> SigningKey:
    return SigningKey(digest("simulated identity", seed, name))
