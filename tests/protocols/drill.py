"""A server of the test's own making: it signs whatever it likes and shows it to real tenants, one call at a time.

A test has the keys of everybody: `certificate` makes up what witnesses would sign, `certify` asks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from fed_em_protocols.certification import survivors_root, upload_evidence
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Base,
    Certificate,
    Counted,
    Endorsement,
    Header,
    Mode,
    Opening,
    Outcome,
    Proposal,
    Quoted,
    Recover,
    Upload,
)
from fed_em_protocols.ring import RINGS
from fed_em_protocols.round_keys import self_mask_key
from fed_em_protocols.round_sum import unmasked
from fed_em_protocols.tenant_round import tenant_upload
from fed_em_protocols.window import WindowSetUp
from tests.protocols.drill_window import WindowDrill

NOTHING = bytes(32)
_ENDORSED = frozenset(each.name for each in fields(Endorsement))


class Drill(WindowDrill):
    """n tenants in a window, and a server that runs their rounds.

    Args:
        window: Set a window up with all of them at once.
        length: Integers of a vector.

    Attributes:
        certified: Header and first certificate of each round: what the next header tells.
        uploads: Masked vectors by context, then tenant; `evidence` of each likewise.
    """

    def __init__(self, n: int = 4, window: bool = True, length: int = 4, **options: Any) -> None:
        super().__init__(n, **options)
        self.length = length
        self.certified: dict[int, tuple[Sealed[Header], Sealed[Certificate]]] = {}
        self.uploads: dict[bytes, dict[int, RingVector]] = {}
        self._evidence: dict[tuple[bytes, int], bytes] = {}
        if window:
            self.set_up(range(n))

    def last_certified(self) -> tuple[Quoted, ...]:
        """The last round of `certified` that had survivors, by keys of its own window."""
        for header, certificate in (self.certified[number] for number in sorted(self.certified, reverse=True)):
            if any(certificate.content.survivors) and certificate.content.setup == header.content.setup:
                return header.quoted(), certificate.quoted()
        return ()

    # --- upload ---

    def header(
        self,
        number: int,
        among: Iterable[int] | None = None,
        theta: bytes = b"theta",
        mode: Mode = Mode.WHOLE,
        bases: Sequence[int] = (),
        **changes: Any,
    ) -> Sealed[Header]:
        """A signed header of a round `among` these participants (default: all members); increments start from `bases`."""
        setup = self.fixed
        content = Header(
            session=self.session, terms=self.terms.digest, setup=setup.digest, witnesses=self.bitmap(setup.witnesses),
            round=number, mode=int(mode), parameters=hashlib.sha256(theta).digest(), encoding=NOTHING, length=self.length,
            held=b"", participants=self.bitmap(setup.members if among is None else among), previous_round=number - 1,
            **self._previous(number), previous_sum=NOTHING, base_rounds=tuple(bases), base_contexts=self.contexts(bases),
        )  # fmt: skip
        return self.sealed(replace(content, **changes), theta)

    def _previous(self, number: int) -> dict[str, Any]:
        """How the round before ended. If it never was, nobody can check what is said of it."""
        _, certificate = self.certified.get(number - 1, (None, self._void_of_nothing(number - 1)))
        if number <= 1 or (number - 1 not in self.certified and not self.fixed.certified):
            return {"previous_outcome": int(Outcome.NONE), "previous": ()}
        outcome = Outcome.OPENED if any(certificate.content.survivors) else Outcome.NOT_OPENED
        return {"previous_outcome": int(outcome), "previous": (certificate.quoted(),)}

    def _void_of_nothing(self, number: int) -> Sealed[Certificate]:
        nobody = self.bitmap(())
        return self.sealed(Certificate(self.session, max(0, number), NOTHING, nobody, NOTHING, NOTHING, nobody, ()))

    def contexts(self, bases: Iterable[int]) -> bytes:
        """The contexts of the distinct base rounds, ascending."""
        return b"".join(self.certified[number][0].digest for number in sorted(set(bases) - {0}))

    def upload(self, index: int, header: Sealed[Header], ring: RingVector | None = None) -> RingVector:
        """Show a header to a tenant and let it answer with `ring` (default: zeros); gives the masked vector."""
        self.tell(index, header)
        return self.compute(index, ring)

    def compute(self, index: int, ring: RingVector | None = None) -> RingVector:
        """Let a tenant that has read a header upload."""
        current = self.states[index].round
        assert current is not None
        of = RINGS[current.header.content.ring]
        vector = of.zeros(self.length) if ring is None else ring
        step = tenant_upload(self.states[index], vector, self.marks[index])
        self.states[index] = step.state
        answer = self.answer_in(step)
        assert answer is not None
        masked = of.read(answer.attachment)
        self.uploads.setdefault(current.context, {})[index] = masked
        self._evidence[current.context, index] = upload_evidence(answer)
        return masked

    def evidence(self, header: Sealed[Header], survivors: Iterable[int]) -> bytes:
        """H(y_i) and signature of each survivor's upload; of one that did not answer yet, what it might have signed."""
        return b"".join(self._evidence_of(header, index) for index in sorted(survivors))

    def _evidence_of(self, header: Sealed[Header], index: int) -> bytes:
        known = self._evidence.get((header.digest, index))
        return known or upload_evidence(self.forged_upload(index, header))

    def forged_upload(self, index: int, header: Sealed[Header], **changes: Any) -> Sealed[Upload]:
        """An upload of nothing, signed with a tenant's key of the header's window."""
        content = replace(Upload(self.session, header.content.round, header.digest), **changes)
        return seal(content, self.signing_key(index, header.content.setup))

    # --- certify ---

    def proposal(
        self,
        header: Sealed[Header],
        survivors: Iterable[int],
        keys: WindowSetUp | None = None,
        evidence: bytes | None = None,
    ) -> Sealed[Proposal]:
        """A request to endorse this outcome with the keys of a window (default: the one in use)."""
        whom = frozenset(survivors)
        shown = self.evidence(header, whom) if evidence is None else evidence
        content = Proposal(self.session, header.quoted(), self.bitmap(whom), (keys or self.fixed).digest)
        return self.sealed(content, shown)

    def statement(self, header: Sealed[Header], survivors: Iterable[int], keys: WindowSetUp) -> Endorsement:
        """What a witness signs for this outcome."""
        whom = frozenset(survivors)
        root = survivors_root(whom, self.evidence(header, whom))
        return Endorsement(self.session, header.content.round, header.digest, self.bitmap(whom), root, keys.digest)

    def certificate(
        self,
        header: Sealed[Header],
        survivors: Iterable[int],
        by: Iterable[int] | None = None,
        keys: WindowSetUp | None = None,
        **changes: Any,
    ) -> Sealed[Certificate]:
        """The server's certificate of this outcome, with signatures of witnesses (default: all) whom nobody asked.

        Args:
            by: Whose signatures it carries.
            keys: The window whose keys sign; by default the one in use.
            changes: Of what they sign; `endorsers` and `signatures` change the certificate alone.
        """
        using = keys or self.fixed
        witnesses = from_bitmap(header.content.witnesses, self.roster.n).intersection(using.witnesses)
        signed = {name: value for name, value in changes.items() if name in _ENDORSED}
        statement = replace(self.statement(header, survivors, using), **signed)
        signatures = {
            i: seal(statement, self.signing_key(i, using.digest)).signature
            for i in sorted(witnesses if by is None else by)
        }
        content = self._certificate_of(statement, signatures)
        return self._told(header, replace(content, **{n: v for n, v in changes.items() if n not in _ENDORSED}))

    def _certificate_of(self, statement: Endorsement, signatures: Mapping[int, bytes]) -> Certificate:
        return Certificate(
            statement.session, statement.round, statement.context, statement.survivors, statement.root, statement.setup,
            self.bitmap(signatures), tuple(signatures[i] for i in sorted(signatures)),
        )  # fmt: skip

    def _told(self, header: Sealed[Header], content: Certificate) -> Sealed[Certificate]:
        certificate = self.sealed(content)
        self.certified.setdefault(header.content.round, (header, certificate))
        return certificate

    def certify(
        self,
        header: Sealed[Header],
        survivors: Iterable[int],
        by: Iterable[int] | None = None,
        keys: WindowSetUp | None = None,
    ) -> Sealed[Certificate]:
        """The certificate of this outcome that witnesses (default: all) give when they are asked."""
        using, whom = keys or self.fixed, frozenset(survivors)
        signatures: dict[int, bytes] = {}
        for index in sorted(using.witnesses if by is None else by):
            answer = self.tell(index, self.proposal(header, whom, using))
            assert answer is not None
            signatures[index] = answer.signature
        return self._told(header, self._certificate_of(self.statement(header, whom, using), signatures))

    # --- open and recover ---

    def recover(
        self,
        header: Sealed[Header],
        certificate: Sealed[Certificate],
        silent: Iterable[int] = (),
        dropped: Iterable[int] = (),
    ) -> Sealed[Recover]:
        """A request for shares."""
        content = Recover(
            self.session, header.quoted(), certificate.quoted(), self.bitmap(silent), self.bitmap(dropped)
        )
        return self.sealed(content)

    def openings(self, certificate: Sealed[Certificate]) -> dict[int, Opening]:
        """What the survivors of a certificate release."""
        survivors = from_bitmap(certificate.content.survivors, self.roster.n)
        return {i: self.told(i, certificate) for i in sorted(survivors)}

    def opened_sum(self, header: Sealed[Header], openings: Mapping[int, Opening]) -> RingVector:
        """The sum that a server gets from the uploads of those who opened."""
        total = RINGS[header.content.ring].zeros(self.length)
        for index in openings:
            total += self.uploads[header.digest][index]
        seeds = [opening.self_seed for opening in openings.values()]
        return unmasked(total, seeds, self.pair_keys(header, openings), header.digest)

    def pair_keys(self, header: Sealed[Header], openings: Mapping[int, Opening]) -> dict[tuple[int, int], bytes]:
        """Keys of the masks between those who opened and their dropped neighbours."""
        dropped = from_bitmap(header.content.participants, self.roster.n) - frozenset(openings)
        keys: dict[tuple[int, int], bytes] = {}
        for index, opening in sorted(openings.items()):
            lost = [d for d in self.fixed.neighbours(index) if d in dropped]
            assert len(opening.pair_keys) == MASK_KEY_BYTES * len(lost)
            for place, d in enumerate(lost):
                keys[index, d] = opening.pair_keys[place * MASK_KEY_BYTES : (place + 1) * MASK_KEY_BYTES]
        return keys

    def run(
        self,
        number: int,
        among: Iterable[int] | None = None,
        survivors: Iterable[int] | None = None,
        rings: Mapping[int, RingVector] | None = None,
        by: Iterable[int] | None = None,
        **options: Any,
    ) -> RingVector:
        """A whole round as an honest server runs it; gives the opened sum.

        Args:
            rings: What each of the participants gives; zeros by default.
            by: Which witnesses are asked to certify; all by default.
            options: Of its header.
        """
        whom = tuple(self.fixed.members if among is None else among)
        header = self.header(number, whom, **options)
        for i in whom:
            self.upload(i, header, rings[i] if rings else None)
        certificate = self.certify(header, whom if survivors is None else survivors, by)
        return self.opened_sum(header, self.openings(certificate))

    # --- increments and counts ---

    def base(self, number: int) -> Sealed[Base]:
        """The header and the parameters of a base round."""
        header, _ = self.certified[number]
        return self.sealed(Base(self.session, header.quoted()), header.attachment)

    def counted(
        self, header: Sealed[Header], certificate: Sealed[Certificate], openings: Mapping[int, Opening]
    ) -> Sealed[Counted]:
        """The evidence of an opened sum of counts."""
        keys = self.pair_keys(header, openings)
        shown = b"".join(
            self.uploads[header.digest][i].tobytes()
            + self._evidence_of(header, i)[-64:]
            + self_mask_key(opening.self_seed, header.digest)
            for i, opening in sorted(openings.items())
        )
        ordered = b"".join(keys[pair] for pair in sorted(keys))
        return self.sealed(Counted(self.session, header.content.round, certificate.quoted(), ordered), shown)
