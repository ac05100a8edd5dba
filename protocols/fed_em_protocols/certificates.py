"""Self-signed TLS certificates: the link between two parties trusts exactly the certificates of the roster.

Each certificate is its own trust anchor, so it must not be able to vouch for another: a tenant that could sign
certificates would pass for any other tenant. `cA = FALSE` alone does not stop that (BoringSSL, within gRPC, takes any
anchor as an issuer unless it has a key usage without `keyCertSign`); both are set.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fed_em.errors import CallerError

VALIDITY = timedelta(days=825)

# Clocks of different organisations differ: a new certificate counts as valid an hour back.
_BACKDATED = timedelta(hours=1)


def self_signed(key: ec.EllipticCurvePrivateKey, name: str, host: str, now: datetime) -> bytes:
    """A certificate for both ends of TLS, PEM.

    Args:
        key: ECDSA P-256.
        name: The party's name, the certificate's common name; at most 64 characters.
        host: The DNS name that whoever connects must ask for.
        now: Time of day with its zone; validity starts an hour before and lasts 825 days.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    start = now - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNATURES_OF_TLS_ONLY, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


_SIGNATURES_OF_TLS_ONLY = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def vouches_for_nobody(certificate: x509.Certificate) -> bool:
    """Whether a certificate says, as those of `self_signed` do, that no other can be signed by its key."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return not basic.ca and not usage.key_cert_sign


def check_validity(certificate: x509.Certificate, party: str, now: datetime) -> None:
    """Raise `CallerError`, naming `party`, unless its certificate is valid at `now` (time of day with its zone)."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        raise CallerError(
            f"the certificate of '{party}' is not valid before {start:%Y-%m-%d %H:%M} UTC, and here it is "
            f"{now.astimezone(UTC):%Y-%m-%d %H:%M}",
            remedy=f"set this machine's clock; if it is right, that of '{party}' was not, and it makes new keys",
        )
    if now > end:
        raise CallerError(
            f"the certificate of '{party}' expired on {end:%Y-%m-%d %H:%M} UTC, and here it is {now.astimezone(UTC):%Y-%m-%d %H:%M}",
            remedy=f"'{party}' makes new keys with `fed-em keygen`, and a new version of the roster lists its new card",
        )
