"""What a server cannot get out of uploads: parameters shown differently give noise, and a late upload stays masked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from fed_em_protocols import tenant_round
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import SERVER, Equivocation, OutOfTurn
from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.messages import Header
from fed_em_protocols.ring import RING_64
from fed_em_protocols.round_keys import AgreementKey, self_mask_key
from fed_em_protocols.shamir import combine
from fed_em_protocols.terms import Trust
from tests.protocols.drill import Drill
from tests.protocols.uniformity import uniform_p_value

pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)
either_trust = pytest.mark.parametrize("trust", Trust)


# --- different parameters ---


def two_halves(trust: Trust, halves: bool) -> tuple[Drill, dict[int, Sealed[Header]], RingVector]:
    """Half of the tenants upload at other parameters, if `halves`; and the sum of all that they gave."""
    drill = Drill(length=6, trust=int(trust))
    one, other = drill.header(1), drill.header(1, theta=b"others") if halves else drill.header(1)
    headers = {i: one if i < 2 else other for i in ALL}
    rings = {i: np.array([i, 10 * i, 1, 2, 0, 0], dtype=np.uint64) for i in ALL}
    for i in ALL:
        drill.upload(i, headers[i], rings[i])
    return drill, headers, sum(rings.values(), np.zeros(6, dtype=np.uint64))


@either_trust
@pytest.mark.parametrize("halves", [False, True])
def test_different_parameters_to_two_halves_give_noise(trust: Trust, halves: bool) -> None:
    """Even where the server gets every opening, each under the header that it showed: masks of pairs do not cancel."""
    drill, headers, plain = two_halves(trust, halves)
    total = np.zeros(6, dtype=np.uint64)
    for i, header in headers.items():
        opening = drill.told(i, drill.certificate(header, ALL))
        total += drill.uploads[header.digest][i]
        add_masks(total, subtracted=[self_mask_key(opening.self_seed, header.digest)])
    assert np.array_equal(total, plain) is not halves
    assert RING_64.is_sum(total) is not halves


def test_honest_witnesses_certify_neither_half() -> None:
    """Each half would need the uploads of the other under its own header, and a tenant endorses one header a round."""
    drill, headers, _ = two_halves(Trust.MALICIOUS_SERVER, halves=True)
    for i, header in headers.items():
        other = headers[(i + 2) % 4]
        drill.refused(i, drill.proposal(other, ALL), Equivocation, "two different headers for round 1")
        drill.refused(i, drill.certificate(other, ALL), OutOfTurn, "certificate for another round")
        assert drill.tell(i, drill.proposal(header, ALL)) is not None
    quorum = drill.fixed.quorum
    assert all(sum(header is one for header in headers.values()) < quorum for one in headers.values())


def test_any_tenant_of_one_half_proves_it_with_a_header_of_the_other() -> None:
    drill, headers, _ = two_halves(Trust.MALICIOUS_SERVER, halves=True)
    fault = drill.refused(0, headers[2], Equivocation, "two different headers for round 1")
    assert isinstance(fault, Equivocation) and "keep both headers" in fault.proves
    own = drill.states[0].round
    assert own is not None
    for header in (own.header, headers[2]):
        header.require_signature(drill.roster.server.identity_key, SERVER)
        assert header.content.round == 1 and header.content.session == drill.session
    assert own.header.digest != headers[2].digest


# --- late uploads ---


def residual_of_a_late_upload(length: int, trust: Trust = Trust.MALICIOUS_SERVER) -> RingVector:
    """A dropped tenant's upload, a vector of zeros, less everything that a server can take off it after the opening."""
    drill = Drill(length=length, trust=int(trust))
    header = drill.header(1)
    uploads = {i: drill.upload(i, header) for i in ALL}
    certificate = drill.certify(header, [0, 1, 2])
    shares: dict[int, bytes] = {}
    keys: dict[int, bytes] = {}
    for i in (0, 1, 2):
        keys[i] = drill.told(i, certificate).pair_keys
        shares[i] = drill.told(i, drill.recover(header, certificate, dropped=[3])).released[0].share
    secret = combine(shares, drill.fixed.threshold)
    assert secret is not None
    late = AgreementKey(3, secret)
    for i in (0, 1, 2):
        assert keys[i] == late.pair_mask_key(i, drill.fixed.round_key(i, 1), header.digest, "")
    residual = uploads[3].copy()
    add_masks(residual, added=keys.values())  # the larger index had subtracted
    return residual


@either_trust
def test_a_late_upload_stays_uniform_after_the_opening(trust: Trust) -> None:
    """χ² over the bytes of the residual; false alarm once in 10^6 (the sample is fixed)."""
    residual = residual_of_a_late_upload(8192, trust)
    assert uniform_p_value(residual.view(np.uint8), 256) > 1e-6


def test_the_uniformity_of_a_late_upload_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the defect that tenants leave their own mask out, the same test fails: all of the residual is known."""
    own: set[bytes] = set()

    def remember(seed: bytes, context: bytes) -> bytes:
        key = self_mask_key(seed, context)
        own.add(key)
        return key

    def without_own(vector: RingVector, added: Iterable[bytes], subtracted: Iterable[bytes], out: RingVector) -> None:
        add_masks(vector, [key for key in added if key not in own], subtracted, out=out)

    monkeypatch.setattr(tenant_round, "self_mask_key", remember)
    monkeypatch.setattr(tenant_round, "add_masks", without_own)
    assert uniform_p_value(residual_of_a_late_upload(8192).view(np.uint8), 256) < 1e-6
