"""Watches all that passes between tenants and server, for what must never pass, whatever goes wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from fed_em_protocols import certification, envelope
from fed_em_protocols.certification import outcome_digest, statement_of
from fed_em_protocols.envelope import Sealed, unquote, unseal
from fed_em_protocols.hashing import NO_BYTES_DIGEST
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Certificate,
    Counted,
    Endorsement,
    Header,
    Mode,
    Neighbours,
    Opening,
    Proposal,
    Quoted,
    Recover,
    SetUp,
    SharedSecret,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms, Trust, guarded_units, whole_units
from fed_em_protocols.window import quorum_of
from tests.protocols.federation import identity_of, roster_of


class Auditor:
    """Take every message with `sees`; it raises AssertionError at the first that breaks a rule.

    1. One header a round number.
    2. One upload a tenant and round number, of one header: a key never masks two vectors.
    3. One endorsed outcome a witness and round number, in whatever window, before and after restarts.
    4. One certified outcome a round number, whatever signatures carry it.
    5. A tenant's self seed (or shares of it) and shares of its agreement secret are never both released.
    6. Nothing is released for a round but under its certificate: a quorum of true signatures of its witnesses, with the keys of
       its own window, for survivors who hold each block whole or not at all and are as many as the terms say.
    7. Nothing is released for moments behind a mass gate but of all its participants, who are those counted in the round before.

    Rosters are those of `federation.roster_of`.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._units: tuple[frozenset[int], ...] = ()
        self._terms: SessionTerms | None = None
        self._keys: dict[int, set[bytes]] = defaultdict(set)
        self._headers: dict[bytes, Header] = {}
        self._certified: dict[bytes, frozenset[int]] = {}
        # Certificates that were found true: the same bytes again, to and from everybody, say nothing new.
        self._true: set[bytes] = set()
        self._only: dict[tuple[str, int, int], bytes] = {}
        self._released: dict[tuple[int, int], set[SharedSecret]] = {}
        self.uploads = 0

    def sees(self, tenant: int, data: bytes) -> None:
        """One message from or to `tenant`."""
        sealed = unseal(data, "somebody")
        look = _LOOKS.get(type(sealed.content))
        if look is not None:
            look(self, tenant, sealed)

    def _see_terms(self, tenant: int, sealed: Sealed[SessionTerms]) -> None:
        self._terms = sealed.content
        self._units = guarded_units(roster_of(self._n, blocks=sealed.content.blocks or 1), sealed.content)

    # --- keys of windows ---

    def _see_advertise(self, tenant: int, sealed: Sealed[Advertise]) -> None:
        self._keys[tenant].add(sealed.content.window_key)

    def _see_quoting(self, tenant: int, sealed: Sealed[Any]) -> None:
        for quoted in sealed.content.advertisements:
            self._learn(quoted)

    def _learn(self, quoted: Quoted) -> None:
        advertise = unquote(quoted, Advertise, "somebody")
        if any(advertise.content.window_key in known for known in self._keys.values()):
            return
        for index in range(self._n):
            if envelope.verifies(identity_of(f"t{index}").public, advertise.signature, advertise.digest):
                self._keys[index].add(advertise.content.window_key)

    # --- headers and outcomes ---

    def _see_header(self, tenant: int, sealed: Sealed[Header]) -> None:
        self._one("header", sealed.content.round, 0, sealed.digest)
        self._headers[sealed.digest] = sealed.content
        if self._trust is Trust.MALICIOUS_SERVER:
            for quoted in sealed.content.previous:
                self._see_certificate(tenant, unquote(quoted, Certificate, "server"))

    def _see_proposal(self, tenant: int, sealed: Sealed[Proposal]) -> None:
        header = unquote(sealed.content.header, Header, "server")
        self._headers[header.digest] = header.content

    def _see_certificate(self, tenant: int, sealed: Sealed[Certificate]) -> None:
        content, header = sealed.content, self._headers.get(sealed.content.context)
        if header is None or sealed.digest in self._true or not self._is_certified(content, header):
            return
        self._true.add(sealed.digest)
        self._one("outcome", content.round, 0, outcome_digest(statement_of(content)))
        if content.setup == header.setup:
            self._certified[content.context] = from_bitmap(content.survivors, self._n)

    def _see_quoted_certificate(self, tenant: int, sealed: Sealed[Any]) -> None:
        if isinstance(sealed.content, Recover):
            self._see_header(tenant, unquote(sealed.content.header, Header, "server"))
        self._see_certificate(tenant, unquote(sealed.content.certificate, Certificate, "server"))

    @property
    def _trust(self) -> Trust:
        assert self._terms is not None, "a round before the terms"
        return Trust(self._terms.trust)

    def _is_certified(self, content: Certificate, header: Header) -> bool:
        """Whether enough different witnesses of the header signed this outcome, with a key of any window."""
        assert self._terms is not None
        witnesses = from_bitmap(header.witnesses, self._n)
        endorsers = sorted(from_bitmap(content.endorsers, self._n))
        if len(endorsers) != len(content.signatures) or not witnesses.issuperset(endorsers):
            return False
        signed = envelope.restored(statement_of(content), NO_BYTES_DIGEST, b"").digest
        true = [
            any(certification.verifies(key, signature, signed) for key in self._keys[index])
            for index, signature in zip(endorsers, content.signatures, strict=True)
        ]
        return all(true) and len(true) >= quorum_of(self._terms, len(witnesses))

    # --- what tenants give ---

    def _see_upload(self, tenant: int, sealed: Sealed[Upload]) -> None:
        self.uploads += 1
        self._one("upload", sealed.content.round, tenant, sealed.digest)

    def _see_endorsement(self, tenant: int, sealed: Sealed[Endorsement]) -> None:
        self._one("endorsement", sealed.content.round, tenant, outcome_digest(sealed.content))

    def _see_opening(self, tenant: int, sealed: Sealed[Opening]) -> None:
        self._release(sealed.content.context, sealed.content.round, tenant, SharedSecret.SELF_SEED)

    def _see_shares(self, tenant: int, sealed: Sealed[Shares]) -> None:
        content = sealed.content
        for share in content.released:
            self._release(content.context, content.round, share.dealer, SharedSecret(share.secret))

    def _one(self, what: str, round_number: int, tenant: int, digest: bytes) -> None:
        known = self._only.setdefault((what, round_number, tenant), digest)
        assert known == digest, f"a second {what} of tenant {tenant} in round {round_number}"

    def _release(self, context: bytes, round_number: int, whose: int, secret: SharedSecret) -> None:
        survivors = self._certified.get(context)
        assert survivors is not None, f"{secret} of tenant {whose} without a certificate of round {round_number}"
        self._require_admissible(survivors, round_number)
        self._require_gate(survivors, self._headers[context])
        assert (whose in survivors) == (secret is SharedSecret.SELF_SEED), f"{secret} of tenant {whose}"
        released = self._released.setdefault((round_number, whose), set())
        released.add(secret)
        assert len(released) == 1, f"both secrets of tenant {whose} in round {round_number}"

    def _require_admissible(self, survivors: frozenset[int], round_number: int) -> None:
        assert self._terms is not None
        assert whole_units(self._units, survivors) == survivors, f"a split block is opened in round {round_number}"
        assert len(survivors) >= self._terms.minimum_survivors, f"a small sum is opened in round {round_number}"

    def _require_gate(self, survivors: frozenset[int], header: Header) -> None:
        if not header.held:
            return
        counts = unquote(header.previous[0], Certificate, "server").content
        assert self._headers[counts.context].mode == Mode.COUNTS, (
            f"no counts before the moments of round {header.round}"
        )
        counted, asked = self._certified[counts.context], from_bitmap(header.participants, self._n)
        assert survivors == asked == counted, f"moments of others than were counted in round {header.round}"


_LOOKS: Mapping[type, Callable[[Auditor, int, Sealed[Any]], None]] = {
    SessionTerms: Auditor._see_terms,
    Advertise: Auditor._see_advertise,
    SetUp: Auditor._see_quoting,
    Neighbours: Auditor._see_quoting,
    Header: Auditor._see_header,
    Proposal: Auditor._see_proposal,
    Certificate: Auditor._see_certificate,
    Recover: Auditor._see_quoted_certificate,
    Counted: Auditor._see_quoted_certificate,
    Upload: Auditor._see_upload,
    Endorsement: Auditor._see_endorsement,
    Opening: Auditor._see_opening,
    Shares: Auditor._see_shares,
}
