"""The auditor of other tests sees each of the rules broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.messages import Opening, ReleasedShare, SharedSecret, Shares, Upload
from fed_em_protocols.terms import Trust
from tests.protocols.auditor import Auditor
from tests.protocols.drill import Drill

pytestmark = pytest.mark.usefixtures("remembered_keys")

NINE = range(9)


class Watched:
    """Nine tenants in three blocks, and an auditor that has seen their window and a header."""

    def __init__(self, trust: Trust = Trust.MALICIOUS_SERVER) -> None:
        self.drill = Drill(9, blocks=3, colluders=1, trust=int(trust))
        self.auditor = Auditor(9)
        self.shown(0, self.drill.terms)
        self.shown(0, self.drill.setup_message())
        self.shown(0, self.drill.neighbours_message(0))
        self.header = self.drill.header(1)
        self.shown(0, self.header)

    def shown(self, tenant: int, message: Sealed[Any]) -> None:
        self.auditor.sees(tenant, message.to_bytes())

    def given(self, tenant: int, content: Any) -> None:
        """A tenant's message."""
        self.shown(tenant, seal(content, self.drill.signing_key(tenant, self.drill.fixed.digest)))

    def opens(self, tenant: int) -> None:
        self.given(tenant, Opening(self.drill.session, 1, self.header.digest, bytes(32), b""))

    def shares(self, tenant: int, dealer: int, secret: SharedSecret) -> None:
        share = ReleasedShare(dealer, int(secret), bytes(33), bytes(16), b"")
        self.given(tenant, Shares(self.drill.session, 1, self.header.digest, (share,)))


BLOCKS_0_AND_1 = [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize("trust", Trust)
def test_a_good_round_passes(trust: Trust) -> None:
    watched = Watched(trust)
    watched.shown(0, watched.drill.certificate(watched.header, BLOCKS_0_AND_1))
    watched.opens(0)
    watched.shares(0, 1, SharedSecret.SELF_SEED)
    watched.shares(0, 2, SharedSecret.AGREEMENT)


def test_two_headers() -> None:
    watched = Watched()
    with pytest.raises(AssertionError, match="second header"):
        watched.shown(1, watched.drill.header(1, theta=b"others"))


def test_two_uploads() -> None:
    watched = Watched()
    upload = Upload(watched.drill.session, 1, watched.header.digest)
    watched.given(3, upload)
    with pytest.raises(AssertionError, match="second upload of tenant 3"):
        watched.given(3, replace(upload, context=bytes(32)))


def test_two_endorsements_of_one_witness_whatever_window_signs() -> None:
    watched = Watched()
    statement = watched.drill.statement(watched.header, NINE, watched.drill.fixed)
    watched.given(3, statement)
    watched.given(3, replace(statement, setup=bytes(32)))
    watched.given(4, replace(statement, survivors=bytes(2), root=bytes(32)))
    with pytest.raises(AssertionError, match="second endorsement of tenant 3"):
        watched.given(3, replace(statement, survivors=bytes(2), root=bytes(32)))


@pytest.mark.parametrize("where", ["certificate", "recover", "header"])
def test_two_certified_outcomes(where: str) -> None:
    watched = Watched()
    drill, header = watched.drill, watched.header
    watched.shown(0, drill.certificate(header, NINE, by=range(6)))
    watched.shown(1, drill.certificate(header, NINE, by=range(3, 9)))
    other = drill.certificate(header, BLOCKS_0_AND_1)
    second = {
        "certificate": other,
        "recover": drill.recover(header, other, silent=[0]),
        "header": drill.header(2, previous=(other.quoted(),)),
    }
    with pytest.raises(AssertionError, match="second outcome"):
        watched.shown(2, second[where])


def test_releases_without_a_certificate() -> None:
    for by in ([], range(5)):
        watched = Watched()
        watched.shown(0, watched.drill.certificate(watched.header, NINE, by=by))
        with pytest.raises(AssertionError, match="without a certificate"):
            watched.opens(0)
        with pytest.raises(AssertionError, match="without a certificate"):
            watched.shares(0, 1, SharedSecret.SELF_SEED)


def test_releases_under_a_certificate_of_false_signatures() -> None:
    watched = Watched()
    good = watched.drill.certificate(watched.header, NINE)
    others = watched.drill.certificate(watched.header, BLOCKS_0_AND_1)
    watched.shown(0, watched.drill.sealed(replace(good.content, signatures=others.content.signatures)))
    with pytest.raises(AssertionError, match="without a certificate"):
        watched.opens(0)


def test_releases_under_keys_of_another_window() -> None:
    watched = Watched()
    drill, header = watched.drill, watched.header
    drill.set_up(NINE, number=2, first_round=2)
    watched.shown(0, drill.setup_message())
    watched.shown(0, drill.certificate(header, NINE))
    with pytest.raises(AssertionError, match="without a certificate"):
        watched.opens(0)


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize(
    ("survivors", "text"),
    [([*BLOCKS_0_AND_1, 2, 5], "a split block is opened"), ([0, 1], "a split block"), ([], "small")],
)
def test_split_blocks_and_small_sums(trust: Trust, survivors: list[int], text: str) -> None:
    watched = Watched(trust)
    watched.shown(0, watched.drill.certificate(watched.header, survivors))
    with pytest.raises(AssertionError, match=text):
        watched.opens(0)


def test_both_secrets_of_one_tenant() -> None:
    watched = Watched()
    watched.shown(0, watched.drill.certificate(watched.header, BLOCKS_0_AND_1))
    watched.opens(0)
    with pytest.raises(AssertionError, match="of tenant 0"):
        watched.shares(1, 0, SharedSecret.AGREEMENT)
    with pytest.raises(AssertionError, match="of tenant 2"):
        watched.shares(1, 2, SharedSecret.SELF_SEED)
