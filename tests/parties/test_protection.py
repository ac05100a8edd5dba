"""What the doctor says of a session's protection is what the protocol does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fed_em.errors import CallerError
from fed_em_protocols.checks import Finding
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import Certificate, Upload
from fed_em_protocols.protection import Losses, check_protection, losses_survived, stale_share
from fed_em_protocols.session_numbers import ThreatModel
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Direction, Fate, Interference, Passing
from federation import TestFederation, roster_of

MALICIOUS, SEMI_HONEST = Trust.MALICIOUS_SERVER, Trust.SEMI_HONEST


class TestLosses:
    @pytest.mark.parametrize("trust", Trust)
    @pytest.mark.parametrize(("n", "f"), [(3, 0), (3, 1), (4, 0), (4, 1), (5, 1), (6, 1), (7, 0), (7, 2)])
    def test_a_round_survives_so_many_and_no_more(self, n: int, f: int, trust: Trust) -> None:
        """Against the protocol itself: tenants that die right after their upload."""
        survived = losses_survived(n, f, trust).uploaded
        assert rounds_that_open(n, f, trust, dying_after_upload(survived)) == 1
        assert rounds_that_open(n, f, trust, dying_after_upload(survived + 1)) != 1

    @pytest.mark.parametrize(("n", "f"), [(3, 0), (3, 1), (5, 1), (6, 1), (7, 2)])
    def test_once_it_is_certified_it_survives_as_many_as_shares_allow(self, n: int, f: int) -> None:
        survived = losses_survived(n, f, MALICIOUS).certified
        assert survived >= losses_survived(n, f, MALICIOUS).uploaded
        assert rounds_that_open(n, f, MALICIOUS, dying_before_opening(survived)) == 1
        assert rounds_that_open(n, f, MALICIOUS, dying_before_opening(survived + 1)) != 1

    def test_known_cases(self) -> None:
        assert losses_survived(3, 1, MALICIOUS) == Losses(0, 1)
        assert losses_survived(3, 1, SEMI_HONEST) == Losses(1, 1)
        assert losses_survived(9, 1, MALICIOUS) == Losses(3, 4)
        assert losses_survived(9, 2, MALICIOUS) == Losses(3, 4)
        assert losses_survived(9, 2, SEMI_HONEST) == Losses(3, 3)

    @pytest.mark.parametrize(("n", "f"), [(3, 2), (4, 3), (5, 4)])
    def test_a_secret_without_enough_holders(self, n: int, f: int) -> None:
        with pytest.raises(CallerError, match=f"n = {n}, f = {f}: a secret needs"):
            losses_survived(n, f, SEMI_HONEST)

    def test_a_secret_without_enough_holders_against_any_server(self) -> None:
        with pytest.raises(CallerError, match="n = 3, f = 3: a secret needs τ = 4 holders, and has 2"):
            losses_survived(3, 3, MALICIOUS)


def rounds_that_open(n: int, f: int, trust: Trust, interfere: Interference) -> int:
    """The number of the round that opened; 0 if none did."""
    federation = TestFederation(n, colluders=f, trust=int(trust), interfere=interfere)
    try:
        return federation.sum().round
    except SumFailed:
        return 0


def dying_after_upload(losses: int) -> Interference:
    return _dying(losses, lambda passing: _is(passing, Direction.TO_SERVER, Upload))


def dying_before_opening(losses: int) -> Interference:
    return _dying(losses, lambda passing: _is(passing, Direction.TO_TENANT, Certificate))


def _dying(losses: int, when: Callable[[Passing], bool]) -> Interference:
    return lambda passing: Fate.KILL if passing.tenant < losses and when(passing) else Fate.DELIVER


def _is(passing: Passing, direction: Direction, kind: type) -> bool:
    return passing.direction is direction and isinstance(unseal(passing.data, "").content, kind)


def told(n: int, survivors: int, blocks: int = 1, witnesses: int | None = None, **changes: object) -> list[Finding]:
    threats = {"trust": MALICIOUS, "colluders": 1, "guarded": True, **changes}
    roster = roster_of(n, blocks=blocks, witnesses=witnesses)
    return list(check_protection(roster, ThreatModel(**threats), survivors))  # type: ignore[arg-type]


class TestWords:
    def test_three_tenants_and_one_colluder_survive_nothing_before_the_certificate(self) -> None:
        losses = next(f.detail for f in told(3, 3) if f.what == "losses")
        assert "τ = 2 shares, q = 3 of 3 witnesses" in losses
        assert (
            "survives the loss of no tenant between upload and certificate, 1 between certificate and opening" in losses
        )

    def test_blocks_of_three_cost_27_percent(self) -> None:
        blocks = next(f.detail for f in told(9, 3, blocks=3) if f.what == "blocks")
        assert blocks.startswith("3 of 3 tenants: ")
        assert "2 may be out of a sum, and with one tenant in ten away, 27 % of the contributions" in blocks

    def test_uneven_blocks(self) -> None:
        blocks = next(f.detail for f in told(10, 8, blocks=3) if f.what == "blocks")
        assert blocks.startswith("3 of 3 to 4 tenants: ")
        assert "none may be out of a sum" in blocks

    def test_one_block(self) -> None:
        assert "whoever drops out pauses the session" in next(f.detail for f in told(5, 5) if f.what == "blocks")

    def test_a_large_roster_tells_its_graph(self) -> None:
        findings = told(100, 90, blocks=14, witnesses=66, colluders=5)
        assert [f.what for f in findings] == ["trust", *["graph"] * (len(findings) - 2), "blocks"]
        assert len(findings) > 5
        assert not any(f.failed for f in findings)
        assert "every tenant has k = 30 neighbours" in findings[1].detail
        assert any("of 66 witnesses" in f.detail for f in findings)
        assert "1 may be out of a sum" in findings[-1].detail

    def test_the_bits_that_were_stated(self) -> None:
        findings = told(100, 90, blocks=14, witnesses=66, colluders=5, security_bits=48, correctness_bits=10)
        assert "chosen for 48 bits of security and 10 of correctness" in findings[1].detail

    def test_a_large_roster_with_the_complete_graph(self) -> None:
        findings = told(100, 7, blocks=14, witnesses=66, colluders=5, complete=True)
        assert [f.what for f in findings] == ["trust", "losses", "blocks"]
        assert "τ = 51 shares, q = 53 of 100 witnesses" in findings[1].detail
        (failed,) = (f for f in told(129, 8, blocks=14, witnesses=66, colluders=6, complete=True) if f.failed)
        assert failed.what == "losses" and "129 tenants are too many" in failed.detail

    def test_a_large_roster_without_a_graph(self) -> None:
        failed = [f for f in told(100, 50, blocks=14, witnesses=50, colluders=5) if f.failed]
        assert [f.what for f in failed] == ["graph"]
        assert "lower `dropouts`" in failed[0].remedy


@pytest.mark.parametrize(("n", "blocks", "expected"), [(9, 3, 1 - 0.9**3), (9, 9, 0.1), (9, 1, 1 - 0.9**9)])
def test_share_of_stale_contributions(n: int, blocks: int, expected: float) -> None:
    assert stale_share(roster_of(n, blocks=blocks), 0.1) == pytest.approx(expected)
    assert stale_share(roster_of(n, blocks=blocks), 0.0) == 0
