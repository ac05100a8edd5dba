"""Watches all that passes between tenants and server, for what must never pass, whatever goes wrong."""

from __future__ import annotations

from fed_em_protocols.envelope import Sealed, unquote, unseal
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Certificate,
    Header,
    Opening,
    Payload,
    Recover,
    SharedSecret,
    Shares,
    Upload,
)


class Auditor:
    """Take every message with `sees`; it raises AssertionError at the first that breaks a rule.

    1. One header and one certificate a round number.
    2. One upload a tenant and round number, of one header: a key never masks two vectors.
    3. A tenant's self seed (or shares of it) and shares of its agreement secret are never both released.
    4. Nothing is released for a round but under its certificate.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._only: dict[tuple[str, int, int], bytes] = {}
        self._survivors: dict[int, frozenset[int]] = {}
        self._released: dict[tuple[int, int], set[SharedSecret]] = {}
        self.uploads = 0

    def sees(self, tenant: int, data: bytes) -> None:
        """One message from or to `tenant`."""
        self._look(tenant, unseal(data, "somebody"))

    def _look(self, tenant: int, sealed: Sealed[Payload]) -> None:
        content = sealed.content
        if isinstance(content, Header):
            self._one("header", content.round, 0, sealed.digest)
        elif isinstance(content, Certificate):
            self._one("certificate", content.round, 0, sealed.digest)
            self._survivors[content.round] = from_bitmap(content.survivors, self._n)
        elif isinstance(content, Recover):
            self._look(tenant, unquote(content.header, Header, "server"))
            self._look(tenant, unquote(content.certificate, Certificate, "server"))
        elif isinstance(content, Upload):
            self.uploads += 1
            self._one("upload", content.round, tenant, sealed.digest)
        elif isinstance(content, Opening):
            self._release(content.round, tenant, SharedSecret.SELF_SEED)
        elif isinstance(content, Shares):
            for share in content.released:
                self._release(content.round, share.dealer, SharedSecret(share.secret))

    def _one(self, what: str, round_number: int, tenant: int, digest: bytes) -> None:
        known = self._only.setdefault((what, round_number, tenant), digest)
        assert known == digest, f"a second {what} of tenant {tenant} in round {round_number}"

    def _release(self, round_number: int, whose: int, secret: SharedSecret) -> None:
        survivors = self._survivors[round_number]
        assert (whose in survivors) == (secret is SharedSecret.SELF_SEED), f"{secret} of tenant {whose}"
        released = self._released.setdefault((round_number, whose), set())
        released.add(secret)
        assert len(released) == 1, f"both secrets of tenant {whose} in round {round_number}"
