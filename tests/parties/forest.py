"""A federation's parties on disk: keys, cards, a roster, and a tenant's and a server's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from fed_em_protocols.party import Card, PartyKeys, create_server_keys, create_tenant_keys, make_roster
from fed_em_protocols.roster import Roster

NAMES = ("ash", "beech", "cedar")
ROW_CAP = 50


@dataclass(frozen=True)
class Parties:
    """Three tenants and a server; every party's keys are in the folder of its name."""

    folder: Path
    cards: dict[str, Card]
    roster: Roster

    @property
    def roster_file(self) -> Path:
        return self.folder / "roster.json"

    def tenant_file(self, name: str = "ash", **changes: str) -> Path:
        """A tenant's configuration with sound rows; `changes` replace whole values, as TOML."""
        rows = self.folder / f"{name}.csv"
        if not rows.exists():
            rows.write_text("age,weight\n30,70.5\n41,80\n")
        values = {
            "name": f'"{name}"',
            "server": '"127.0.0.1:1"',
            "roster": '"roster.json"',
            "roster_hash": f'"{self.roster.digest.hex()}"',
            "keys": f'"{name}"',
            "data": f'"{rows.name}"',
        }
        return self._write(f"{name}.toml", {**values, **changes})

    def server_file(self, **changes: str) -> Path:
        """A session's configuration; `changes` replace whole values, as TOML."""
        values = {
            "title": '"growth"',
            "listen": '"127.0.0.1:0"',
            "roster": '"roster.json"',
            "keys": '"server"',
            "model": '{family = "gaussian-mixture", n_components = 2}',
            "columns": '[{name = "age", low = 0, high = 120}, {name = "weight", low = 0, high = 300}]',
        }
        return self._write("session.toml", {**values, **changes})

    def _write(self, name: str, values: dict[str, str]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
        return path


MakeParties = Callable[..., Parties]


def found_parties(folder: Path, now: datetime) -> Parties:
    """Parties in a new folder, all of whose keys are made at the given time of day."""
    cards = {name: create_tenant_keys(folder / name, name, ROW_CAP, now) for name in NAMES}
    server = create_server_keys(folder / "server", now)
    roster = make_roster("forest", server, cards.values())
    roster.write_new(folder / "roster.json")
    return Parties(folder, {**cards, "server": server}, roster)


def vouched_for(signer: PartyKeys, name: str, host: str) -> tuple[bytes, bytes]:
    """A new key, and a chain in which `signer` vouches for it as `name`'s; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    unsigned = _valid_now(x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()))
    unsigned = unsigned.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, _signed_by(signer, unsigned) + signer.tls_certificate


def as_authority(keys: PartyKeys) -> PartyKeys:
    """The same keys with a certificate that may sign certificates."""
    own = x509.load_pem_x509_certificate(keys.tls_certificate)
    unsigned = _valid_now(x509.CertificateBuilder().subject_name(own.subject).public_key(own.public_key()))
    unsigned = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return replace(keys, tls_certificate=_signed_by(keys, unsigned))


def _valid_now(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    dated = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return dated.serial_number(x509.random_serial_number())


def _signed_by(signer: PartyKeys, unsigned: x509.CertificateBuilder) -> bytes:
    key = load_pem_private_key(signer.tls_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(signer.tls_certificate).subject
    return unsigned.issuer_name(issuer).sign(key, SHA256()).public_bytes(Encoding.PEM)
