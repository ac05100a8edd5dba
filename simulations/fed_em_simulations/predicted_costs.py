"""What a session costs by formula, if everybody is there: the units of the protocol, step by step, times their prices.

Of n tenants with k neighbours, W rounds a window, R sums of L words (tail included), w witnesses and a quorum of q (up to 64 tenants all
are witnesses; under semi-honest trust nobody):

    a tenant's window   W + k + 1 agreements: its public keys and its boxes' keys; 2 W k shares; k advertisements and k deposits verified,
                        and the advertisements of w witnesses; 4 W keys derived, for advertising and for dealing
                        64 W bytes up of keys; k boxes of 66 W + 48 bytes, with k roots of 32, up; the boxes of k neighbours, with all roots
                        of each, and their keys, 64 W, down; n hashes of 32 and what witnesses and neighbours advertise, of 288, down
    a tenant's round    k agreements; k + 1 keystreams of 8 L bytes; q signatures of a certificate verified, and again as the next header
                        carries it; n of uploads verified by a witness
                        8 L bytes up; twice 64 q of a certificate down, and 96 n of a proposal to a witness
    the server          n keystreams of 8 L bytes a round, by n derived keys; n uploads, n openings and w endorsements verified a round, and
                        n advertisements, n deposits, n confirmations and, of a sparse graph, w nonces a window; 2 n signatures

These are the terms that grow; envelopes, headers and what little else is signed are left out, so what is counted is a little more. Machines
count what they do (`fed_em_simulations.work`), and this page knows none of their code: it is a second account, to be held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import KEY_BYTES, SIGNATURE_BYTES
from fed_em_protocols.shamir import SHARE_BYTES
from fed_em_protocols.terms import SessionTerms, Trust, certificate_quorum_of
from fed_em_simulations.work import Work

_WORD_BYTES = 8

# Of a box, behind its shares: the seed of its salts, and the cipher's tag.
_BOX_BYTES = DIGEST_BYTES + 16

# A tenant's own key or commitment of a round, and a line of a proposal: hash and signature of an upload.
_TABLE_BYTES, _EVIDENCE_BYTES = 2 * KEY_BYTES, DIGEST_BYTES + SIGNATURE_BYTES

# Of an advertisement that is quoted: two numbers of 16 bytes, five keys and hashes, the hash of its table, a signature.
_ADVERTISEMENT_BYTES = 2 * 16 + 6 * DIGEST_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True)
class PredictedCosts:
    """Of a session without trouble.

    Attributes:
        tenants: n.
        neighbours: k.
        witnesses, quorum: w and q; 0 and 1 where the server certifies alone.
        window_rounds: W.
        sums: R.
        words: Of all sums together, tails included.
        parameters: Numbers that headers bring a tenant, of all sums together.
        densities, statistics: Of all tenants together, as `Work` has them.
    """

    tenants: int
    neighbours: int
    witnesses: int
    quorum: int
    window_rounds: int
    sums: int
    words: int
    parameters: int = 0
    densities: int = 0
    statistics: int = 0

    @classmethod
    def of_terms(cls, terms: SessionTerms, tenants: int, sums: int, words: int, **others: int) -> PredictedCosts:
        """Of a session under these terms."""
        certified, sparse = terms.trust == Trust.MALICIOUS_SERVER, terms.neighbours > 0
        witnesses, quorum = terms.witnesses, terms.certificate_quorum
        if not sparse:
            witnesses, quorum = tenants, certificate_quorum_of(tenants, terms.colluders)
        return cls(
            tenants=tenants,
            neighbours=terms.neighbours if sparse else tenants - 1,
            witnesses=witnesses if certified else 0,
            quorum=quorum if certified else 1,
            window_rounds=terms.window_rounds,
            sums=sums,
            words=words,
            **others,
        )

    @property
    def _windows(self) -> int:
        return ceil(self.sums / self.window_rounds)

    @property
    def tenants_work(self) -> Work:
        """Of all tenants together."""
        n, k, windows, sums = self.tenants, self.neighbours, self._windows, self.sums
        certificates = (2 * sums - 1) * self.quorum
        return Work(
            agreements=n * (windows * (self.window_rounds + k + 1) + sums * k),
            signatures=n * sums + self.witnesses * sums,
            verifications=n * (certificates + self.witnesses * sums + windows * (self._told + k)),
            derivations=n * (windows * (4 * self.window_rounds + 4 * k) + sums * (k + 1)),
            masks=n * sums * (k + 1),
            mask_bytes=n * (k + 1) * _WORD_BYTES * self.words,
            shares=n * windows * 2 * self.window_rounds * k,
            densities=self.densities,
            statistics=self.statistics,
        )

    @property
    def server_work(self) -> Work:
        """Of the server."""
        n = self.tenants
        nonces = self.witnesses if self.neighbours < n - 1 else 0
        return Work(
            signatures=2 * n * self._windows,
            derivations=n * self.sums,
            verifications=self.sums * (2 * n + self.witnesses) + self._windows * (3 * n + nonces),
            masks=n * self.sums,
            mask_bytes=n * _WORD_BYTES * self.words,
        )

    @property
    def _told(self) -> int:
        """Whose advertisements a tenant is told: witnesses' and neighbours'."""
        return min(self.tenants - 1, self.witnesses + self.neighbours)

    @property
    def _boxes(self) -> int:
        return self.neighbours * (_BOX_BYTES + 2 * SHARE_BYTES * self.window_rounds)

    @property
    def bytes_up(self) -> int:
        """Of one tenant, of the whole session."""
        window = _TABLE_BYTES * self.window_rounds + self._boxes + DIGEST_BYTES * self.neighbours
        return self._windows * window + _WORD_BYTES * self.words

    @property
    def bytes_down(self) -> int:
        """The same to a tenant: the mean, as witnesses get more."""
        n, k = self.tenants, self.neighbours
        deposits = self._boxes + k * DIGEST_BYTES * k
        window = _TABLE_BYTES * self.window_rounds * k + deposits + DIGEST_BYTES * n + _ADVERTISEMENT_BYTES * self._told
        certificates = (2 * self.sums - 1) * SIGNATURE_BYTES * self.quorum
        proposals = _EVIDENCE_BYTES * self.witnesses * self.sums
        return self._windows * window + certificates + proposals + _WORD_BYTES * self.parameters
