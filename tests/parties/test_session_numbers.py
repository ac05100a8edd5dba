"""Numbers that nobody has to choose: block sizes, witnesses, the least sum, the sparse graph, and the terms made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fed_em.errors import CallerError
from fed_em_client.configuration import PolicyTable
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.graph_parameters import malicious_server_parameters, semi_honest_parameters
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.roster import Roster
from fed_em_protocols.roster_shape import (
    dealt_blocks,
    default_block_size,
    default_witnesses,
    drawn_witnesses,
    named_blocks,
)
from fed_em_protocols.session_numbers import ThreatModel, default_survivors, graph_of
from fed_em_protocols.terms import SessionTerms, Trust, default_colluders, validate_terms
from fed_em_server.configuration import TrustTable
from fed_em_server.session_terms import session_terms, warnings_of
from federation import roster_of
from federation import terms_of as admissible
from tests.parties.forest import Parties

GUARDED = ThreatModel(Trust.MALICIOUS_SERVER, 1, guarded=True)
UNGUARDED = replace(GUARDED, guarded=False)


class TestBlocks:
    @pytest.mark.parametrize("n", [*range(3, 70), 100, 1000])
    def test_every_block_is_large_enough_at_the_default_f(self, n: int) -> None:
        blocks = dealt_blocks(n, default_block_size(n))
        sizes = [blocks.count(number) for number in set(blocks)]
        assert len(blocks) == n
        assert max(sizes) - min(sizes) <= 1
        if n >= 2 * (default_colluders(n) + 2):
            assert len(sizes) > 1
            assert min(sizes) >= default_colluders(n) + 2
        else:
            assert len(sizes) == 1

    def test_nine_in_threes(self) -> None:
        assert dealt_blocks(9, 3) == (0, 1, 2, 0, 1, 2, 0, 1, 2)
        assert dealt_blocks(8, 3) == (0, 1, 0, 1, 0, 1, 0, 1)
        assert dealt_blocks(5, 9) == (0,) * 5

    def test_by_name(self) -> None:
        assert named_blocks(("a", "b", "c", "d"), (("d", "a"), ("b", "c"))) == (0, 1, 1, 0)

    @pytest.mark.parametrize(
        ("blocks", "complaint"),
        [
            ((("a", "b"), ("c",)), "'d' is in no block"),
            ((("a", "b"), ("c", "d", "a")), "'a' stands in blocks 1 and 2"),
            ((("a", "b", "e"), ("c", "d")), "block 1 names 'e'"),
        ],
    )
    def test_blocks_that_are_none(self, blocks: tuple[tuple[str, ...], ...], complaint: str) -> None:
        with pytest.raises(CallerError, match=complaint):
            named_blocks(("a", "b", "c", "d"), blocks)


class TestWitnesses:
    def test_everybody_on_the_complete_graph(self) -> None:
        assert [default_witnesses(n) for n in (3, 64, 65, 100, 1000)] == [3, 64, 43, 66, 80]

    @pytest.mark.parametrize("n", [65, 66, 75, 90, 100, 150, 300, 700, 1000, 3000, 10_000])
    def test_the_default_number_certifies_at_every_size(self, n: int) -> None:
        survivors = n - n // 10
        found = malicious_server_parameters(survivors, default_witnesses(n), default_colluders(n), n // 10)
        assert found.neighbours < n // 2

    def test_they_follow_from_the_names_alone(self) -> None:
        names = [f"t{i}" for i in range(100)]
        drawn = drawn_witnesses("f", names, 10)
        assert len(drawn) == 10
        assert drawn == drawn_witnesses("f", names, 10)
        assert drawn < drawn_witnesses("f", names, 11)
        assert drawn != drawn_witnesses("g", names, 10)
        assert drawn != drawn_witnesses("f", ["other", *names[1:]], 10)

    @pytest.mark.parametrize("count", [0, 4])
    def test_there_must_be_so_many(self, count: int) -> None:
        with pytest.raises(CallerError, match=f"{count} witnesses cannot be named among 3"):
            drawn_witnesses("f", ["a", "b", "c"], count)


class TestLeastSum:
    def test_with_blocks_the_cohort_is_enough(self) -> None:
        assert default_survivors(roster_of(9, blocks=3), 3, GUARDED) == 3
        assert default_survivors(roster_of(4, blocks=2), 2, GUARDED) == 3

    def test_one_block_is_everybody(self) -> None:
        assert default_survivors(roster_of(5), 3, GUARDED) == 5

    def test_without_blocks_it_is_half(self) -> None:
        assert default_survivors(roster_of(9, blocks=3), 3, UNGUARDED) == 5
        assert default_survivors(roster_of(9), 7, UNGUARDED) == 7

    def test_of_a_large_roster_a_tenth_may_be_missing(self) -> None:
        assert default_survivors(roster_of(100, blocks=14), 7, GUARDED) == 90
        assert default_survivors(roster_of(100, blocks=14), 7, GUARDED, dropouts=0.25) == 75


def terms_of(roster: Roster, parties: Parties, **trust: object) -> SessionTerms:
    from fed_em_server.configuration import read_server_configuration

    description = read_server_configuration(parties.server_file()).description
    return session_terms(TrustTable.model_validate(trust), roster, description, 100)


class TestTerms:
    @pytest.mark.parametrize(("n", "blocks"), [(3, 1), (5, 1), (6, 2), (9, 2), (64, 2)])
    def test_defaults_are_admissible_to_a_tenant_with_a_default_policy(
        self, parties: Parties, n: int, blocks: int
    ) -> None:
        roster = roster_of(n, blocks=blocks)
        assert roster.blocks == roster_of(n, blocks=len(set(dealt_blocks(n, default_block_size(n))))).blocks
        terms = terms_of(roster, parties)
        assert (terms.trust, terms.blocks) == (Trust.MALICIOUS_SERVER, blocks)
        check_terms(TermsPolicy(), terms, roster)
        assert warnings_of(terms) == ()

    @pytest.mark.parametrize("mode", ["malicious-server", "semi-honest"])
    @pytest.mark.parametrize("n", [65, 100, 1000])
    def test_defaults_of_large_rosters_too(self, parties: Parties, n: int, mode: str) -> None:
        roster = roster_of(n, blocks=n // default_block_size(n), witnesses=default_witnesses(n))
        terms = terms_of(roster, parties, mode=mode)
        assert terms.colluders == n // 20
        check_terms(TermsPolicy(allow_semi_honest=True), terms, roster)

    def test_the_graph_is_that_of_the_smallest_window(self, parties: Parties) -> None:
        roster = roster_of(100, blocks=14, witnesses=66)
        terms = terms_of(roster, parties, dropouts=0.15)
        found = malicious_server_parameters(85, 66, 5, 15)
        assert terms.minimum_survivors == 85
        assert (terms.neighbours, terms.share_threshold, terms.side_honest) == (
            found.neighbours, found.share_threshold, found.side_honest,
        )  # fmt: skip
        assert (terms.witnesses, terms.certificate_quorum) == (66, found.certificate_quorum)
        semi_honest = terms_of(roster, parties, dropouts=0.15, mode="semi-honest")
        assert semi_honest.neighbours == semi_honest_parameters(85, 5, 15).neighbours
        assert (semi_honest.witnesses, semi_honest.certificate_quorum, semi_honest.side_honest) == (0, 0, 0)

    def test_a_graph_that_cannot_be_is_refused_with_what_to_change(self, parties: Parties) -> None:
        roster = roster_of(100, blocks=14, witnesses=50)
        with pytest.raises(CallerError, match="a session of 100 tenants: ") as caught:
            terms_of(roster, parties, dropouts=0.5)
        assert "lower `dropouts`" in caught.value.remedy

    def test_more_witnesses_than_a_window_may_have_tenants(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="names 100 witnesses, and a window may have 90 tenants") as caught:
            terms_of(roster_of(100, blocks=14), parties)
        assert "--witnesses" in caught.value.remedy

    def test_a_mass_gate_takes_two_rounds_a_sum(self, parties: Parties) -> None:
        roster = roster_of(9, blocks=2)
        assert terms_of(roster, parties).round_cap == 101 + 50
        gated = terms_of(roster, parties, mass_floor=2.5)
        assert (gated.mass_floor, gated.round_cap) == (2500, 202 + 101)
        check_terms(TermsPolicy(mass_floor=2.5), gated, roster)
        with pytest.raises(TermsRefused, match=r"mass_floor = 2\.6"):
            check_terms(TermsPolicy(mass_floor=2.6), gated, roster)

    def test_without_the_guard_tenants_must_agree_and_readers_are_warned(self, parties: Parties) -> None:
        roster = roster_of(9, blocks=2)
        terms = terms_of(roster, parties, difference_guard="off")
        assert (terms.blocks, terms.minimum_survivors) == (0, 5)
        assert "Sums over any 5 tenants may be opened" in warnings_of(terms)[0]
        with pytest.raises(TermsRefused, match="difference guard"):
            check_terms(TermsPolicy(), terms, roster)
        check_terms(TermsPolicy(difference_guard=False), terms, roster)

    def test_blocks_that_are_too_small_for_the_colluders(self, parties: Parties) -> None:
        roster = roster_of(9, blocks=3)
        with pytest.raises(CallerError, match=r"block of 't0' has 3 tenants, fewer than colluders \+ 2 = 4"):
            validate_terms(terms_of(roster, parties), roster)
        validate_terms(terms_of(roster, parties, colluders=1), roster)


class TestSafeGraph:
    """A tenant takes nobody's word for k, τ, h and q."""

    roster = roster_of(100, blocks=14, witnesses=66)

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"neighbours": 28}, "neighbours on each side"),
            ({"side_honest": 5}, "neighbours on each side"),
            ({"share_threshold": 5}, "the share threshold 5 of 30 neighbours"),
            ({"certificate_quorum": 34}, "the quorum of 34 witnesses"),
        ],
    )
    def test_one_number_that_is_too_weak(self, parties: Parties, changes: dict[str, int], complaint: str) -> None:
        terms = terms_of(self.roster, parties)
        assert (terms.neighbours, terms.share_threshold, terms.side_honest) == (30, 6, 6)
        check_terms(TermsPolicy(), terms, self.roster)
        weak = replace(terms, **changes)  # type: ignore[arg-type]
        if changes.get("neighbours") == 28:
            weak = replace(weak, side_honest=5)
        validate_terms(weak, self.roster)
        with pytest.raises(TermsRefused, match=complaint):
            check_terms(TermsPolicy(), weak, self.roster)

    def test_smaller_windows_than_the_graph_is_made_for(self, parties: Parties) -> None:
        roster = roster_of(1000, blocks=19, witnesses=80)
        terms = terms_of(roster, parties)
        assert terms.minimum_survivors == 900
        check_terms(TermsPolicy(), terms, roster)
        with pytest.raises(
            TermsRefused, match="does not protect against 50 colluding tenants in windows of 600 tenants"
        ):
            check_terms(TermsPolicy(), replace(terms, minimum_survivors=600), roster)

    def test_terms_that_promise_more_than_their_graph_keeps(self, parties: Parties) -> None:
        terms = terms_of(self.roster, parties, difference_guard="off")
        check_terms(TermsPolicy(difference_guard=False), terms, self.roster)
        promised = replace(terms, colluders=6, minimum_cohort=8)
        with pytest.raises(TermsRefused, match="does not protect against 6 colluding tenants"):
            check_terms(TermsPolicy(difference_guard=False), promised, self.roster)

    def test_too_few_neighbours_of_a_semi_honest_session(self, parties: Parties) -> None:
        terms = terms_of(self.roster, parties, mode="semi-honest")
        policy = TermsPolicy(allow_semi_honest=True)
        check_terms(policy, terms, self.roster)
        with pytest.raises(TermsRefused, match="does not protect"):
            check_terms(policy, replace(terms, neighbours=terms.neighbours - 4), self.roster)
        # Who survives with more missing than any graph can bear is not safe either.
        with pytest.raises(TermsRefused, match="does not protect"):
            check_terms(policy, replace(terms, minimum_survivors=20), self.roster)

    @pytest.mark.parametrize("trust", list(Trust))
    def test_a_small_roster_is_offered_a_sparse_graph(self, trust: Trust) -> None:
        """The terms say which graph it is, and the roster's size nothing: with k = 2, two colluding neighbours would unmask a tenant."""
        certified = trust is Trust.MALICIOUS_SERVER
        witnesses = {"witnesses": 10, "certificate_quorum": 7, "side_honest": 1} if certified else {}
        roster = roster_of(10)
        weak = admissible(roster, trust=int(trust), neighbours=2, share_threshold=2, **witnesses)
        validate_terms(weak, roster)
        policy = TermsPolicy(allow_semi_honest=True, difference_guard=False)
        with pytest.raises(TermsRefused, match="does not protect against 3 colluding tenants in windows of 5 tenants"):
            check_terms(policy, weak, roster)
        if certified:  # with nobody to collude with, the same graph will do
            check_terms(replace(policy, colluders=0), replace(weak, colluders=0), roster)

    @pytest.mark.parametrize("trust", list(Trust))
    def test_the_complete_graph_of_more_than_sixty_four(self, trust: Trust) -> None:
        policy = TermsPolicy(allow_semi_honest=True, difference_guard=False)
        for n in (65, 128):
            check_terms(policy, admissible(roster_of(n), trust=int(trust)), roster_of(n))

    def test_a_tenant_may_demand_more_bits(self, parties: Parties) -> None:
        roster = roster_of(1000, blocks=19, witnesses=80)
        terms = terms_of(roster, parties)
        check_terms(TermsPolicy(), terms, roster)
        demanding = PolicyTable(graph_bits=60).terms_policy()
        with pytest.raises(TermsRefused, match=r"does not protect .* with 60 bits of security") as caught:
            check_terms(demanding, terms, roster)
        assert caught.value.rule is PolicyRule.GRAPH_BITS

    @pytest.mark.parametrize("mode", ["malicious-server", "semi-honest"])
    def test_a_session_may_state_its_bits(self, parties: Parties, mode: str) -> None:
        roster = roster_of(1000, blocks=19, witnesses=80)
        usual, sure, lax = (
            terms_of(roster, parties, mode=mode, **bits)
            for bits in ({}, {"security_bits": 60}, {"security_bits": 30, "correctness_bits": 10})
        )
        assert lax.neighbours < usual.neighbours < sure.neighbours
        policy = TermsPolicy(allow_semi_honest=True)
        check_terms(replace(policy, graph_bits=60), sure, roster)
        for bits, terms in ((60, usual), (40, lax)):
            with pytest.raises(TermsRefused, match="does not protect"):
                check_terms(replace(policy, graph_bits=bits), terms, roster)
        check_terms(replace(policy, graph_bits=30), lax, roster)


class TestCompleteGraph:
    """Of more than 64 tenants, where the operator wants it."""

    @pytest.mark.parametrize("mode", ["malicious-server", "semi-honest"])
    @pytest.mark.parametrize("n", [65, 128])
    def test_terms_that_a_default_policy_admits(self, parties: Parties, n: int, mode: str) -> None:
        roster = roster_of(n, blocks=n // default_block_size(n), witnesses=default_witnesses(n))
        terms = terms_of(roster, parties, mode=mode, graph="complete")
        assert (terms.neighbours, terms.witnesses, terms.share_threshold) == (0, 0, 0)
        # No graph of chance: u_min is as in small rosters.
        assert terms.minimum_survivors == terms.minimum_cohort == n // 20 + 2
        check_terms(TermsPolicy(allow_semi_honest=True, graph_bits=128), terms, roster)

    def test_there_is_none_of_more(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="129 tenants are too many for the complete graph") as caught:
            terms_of(roster_of(129, blocks=8, witnesses=60), parties, graph="complete")
        assert 'graph = "auto"' in caught.value.remedy


def test_graph_of_a_small_roster_follows_by_rule(tmp_path: Path) -> None:
    assert graph_of(roster_of(64, blocks=8), GUARDED, 10) is None
