"""Rosters, terms and policies: what is refused, and that the refusal names its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fed_em.errors import CallerError
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.limits import MAX_TENANTS
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.roster import Roster, load_roster
from fed_em_protocols.terms import (
    FIRST_SIMULATED_SUITE,
    SUITE,
    Trust,
    certificate_quorum_of,
    default_colluders,
    guarded_units,
    share_threshold_of,
    validate_terms,
    whole_units,
)
from tests.protocols.federation import certificate_of, roster_of, terms_of

Change = Callable[[dict[str, Any]], object]


def changed(change: Change, n: int = 4) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(roster_of(n).to_json())
    change(content)
    return content


def set_at(*path: str | int, value: object) -> Change:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def copy_field(field: str, source: int, target: int) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["tenants"][target][field] = content["tenants"][source][field]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (copy_field("name", 0, 1), "two parties have the same name 't0'"),
        (copy_field("identity", 0, 1), "two parties have the same identity key"),
        (copy_field("certificate", 0, 1), "two parties have the same certificate"),
        (lambda c: c["server"].update(identity=c["tenants"][2]["identity"]), "same identity key"),
        (lambda c: c["server"].update(certificate=c["tenants"][2]["certificate"] + "\n"), "same certificate"),
        (set_at("tenants", 1, "name", value="server"), "two parties have the same name 'server'"),
        (set_at("tenants", 1, "name", value="a b"), "tenants.1.name"),
        (set_at("tenants", 1, "name", value=""), "tenants.1.name"),
        (set_at("tenants", 1, "name", value="../x"), "tenants.1.name"),
        (set_at("tenants", 1, "name", value="x" * 65), "tenants.1.name"),
        (set_at("tenants", 1, "identity", value="AB" * 32), "tenants.1.identity"),
        (set_at("tenants", 1, "identity", value="ab" * 31), "tenants.1.identity"),
        (set_at("tenants", 1, "certificate", value="none"), "tenants.1.certificate"),
        (
            set_at("tenants", 1, "certificate", value=certificate_of("a") + certificate_of("b")),
            "exactly one PEM certificate",
        ),
        (set_at("tenants", 1, "row_cap", value=0), "tenants.1.row_cap"),
        (set_at("tenants", 1, "row_cap", value=2**40 + 1), "tenants.1.row_cap"),
        (set_at("tenants", 1, "colour", value="red"), "tenants.1.colour"),
        (set_at("colour", value="red"), "colour"),
        (set_at("server", "colour", value="red"), "server.colour"),
        (set_at("version", value=0), "version"),
        (lambda c: c["tenants"].__delitem__(slice(2, None)), "tenants: Tuple should have at least 3 items"),
        (lambda c: c.pop("server"), "server: Field required"),
    ],
)
def test_a_roster_that_breaks_a_rule_is_refused(change: Change, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(json.dumps(changed(change)))
    with pytest.raises(CallerError) as caught:
        load_roster(path)
    assert complaint in caught.value.message and str(path) in caught.value.message
    assert "fed-em roster" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff\xfe"])
def test_a_file_that_is_no_roster_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CallerError, match=r"roster\.json"):
        load_roster(path)


def test_a_missing_roster_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="there is no roster at"):
        load_roster(tmp_path / "nothing.json")


def test_a_roster_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    content = json.loads(roster_of(3).to_json())
    content["tenants"] += [{**content["tenants"][0], "name": f"x{k}"} for k in range(MAX_TENANTS - 2)]
    path.write_text(json.dumps(content))
    with pytest.raises(CallerError, match="at most 10000 items"):
        load_roster(path)


def test_blocks_and_witnesses_are_those_that_the_tenants_name() -> None:
    roster = roster_of(7, blocks=2, witnesses=3)
    assert roster.blocks == (frozenset({0, 2, 4, 6}), frozenset({1, 3, 5})) and roster.witnesses == (0, 1, 2)
    content = json.loads(roster_of(4).to_json())
    for index, tenant in enumerate(content["tenants"]):
        tenant.update(block=10 * (3 - index // 2), witness=index == 3)
    odd = Roster.model_validate(content)
    assert odd.blocks == (frozenset({2, 3}), frozenset({0, 1})) and odd.witnesses == (3,)


@pytest.mark.parametrize(
    "change", [set_at("tenants", 1, "block", value=-1), set_at("tenants", 1, "witness", value="perhaps")]
)
def test_a_block_is_a_number_and_a_witness_is_one_or_not(change: Change) -> None:
    with pytest.raises(ValidationError, match=r"tenants\.1"):
        Roster.model_validate(changed(change))


def test_a_roster_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(roster_of(4).to_json())
    loaded = load_roster(path)
    assert loaded == roster_of(4) and loaded.digest == roster_of(4).digest
    assert loaded.index("t2") == 2 and loaded.names({2, 0}) == ("t0", "t2")
    with pytest.raises(CallerError, match="no tenant 'nobody'"):
        loaded.index("nobody")


def test_its_digest_depends_on_every_field() -> None:
    changes: list[Change] = [
        set_at("federation", value="other"),
        set_at("version", value=2),
        set_at("server", "identity", value="ab" * 32),
        set_at("server", "certificate", value=certificate_of("other")),
        set_at("tenants", 1, "name", value="other"),
        set_at("tenants", 1, "identity", value="ab" * 32),
        set_at("tenants", 1, "certificate", value=certificate_of("other")),
        set_at("tenants", 1, "row_cap", value=101),
        set_at("tenants", 1, "block", value=1),
        set_at("tenants", 1, "witness", value=False),
        lambda content: content["tenants"].reverse(),
        lambda content: content["tenants"].pop(),
    ]
    digests = {Roster.model_validate(changed(change)).digest for change in changes}
    assert len(digests | {roster_of(4).digest}) == len(changes) + 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"trust": 0}, "trust 0 is unknown"),
        ({"minimum_cohort": 3, "colluders": 2}, "below colluders + 2 = 4"),
        ({"minimum_survivors": 2, "minimum_cohort": 2, "colluders": 0}, "below the minimum cohort 2 or below 3"),
        ({"minimum_survivors": 3, "minimum_cohort": 4}, "below the minimum cohort 4"),
        ({"minimum_survivors": 8}, "8 survivors cannot come from 7 tenants"),
        ({"round_cap": 0}, "round cap"),
        ({"window_rounds": 0}, "1 to 200 rounds"),
        ({"window_rounds": 201}, "1 to 200 rounds"),
        *(
            ({name: 3}, "derives by rule")
            for name in ("witnesses", "certificate_quorum", "share_threshold", "side_honest")
        ),
        ({"blocks": 2}, "the terms say 2 blocks, the roster has 1"),
        ({"mass_floor": 1000, "trust": int(Trust.SEMI_HONEST)}, "a mass floor needs trust malicious-server"),
    ],
)
def test_terms_that_break_a_rule_are_refused(changes: dict[str, int], complaint: str) -> None:
    refused_both_ways(roster_of(7), changes, complaint)


def refused_both_ways(roster: Roster, changes: dict[str, int], complaint: str) -> None:
    """By the server that would offer the terms, and by any tenant."""
    with pytest.raises(CallerError) as caught:
        validate_terms(terms_of(roster, **changes), roster)
    assert complaint in caught.value.message
    lenient = TermsPolicy(allow_semi_honest=True, colluders=0, minimum_cohort=0, difference_guard=False)
    with pytest.raises(TermsRefused):
        check_terms(lenient, terms_of(roster, **changes), roster)


def test_a_block_with_too_few_tenants_is_refused_by_name() -> None:
    roster = roster_of(7, blocks=2)
    validate_terms(terms_of(roster, blocks=2, colluders=1), roster)
    refused_both_ways(
        roster, {"blocks": 2, "colluders": 2}, "the block of 't1' has 3 tenants, fewer than colluders + 2 = 4"
    )
    refused_both_ways(roster, {"blocks": 1}, "the terms say 1 blocks, the roster has 2")


SPARSE = {
    "colluders": 1, "minimum_survivors": 66, "witnesses": 20, "certificate_quorum": 11, "share_threshold": 2, "neighbours": 12,
    "side_honest": 2,
}  # fmt: skip
SEMI_HONEST = {"trust": int(Trust.SEMI_HONEST), "witnesses": 0, "certificate_quorum": 0, "side_honest": 0}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"neighbours": 0}, "the terms set what the complete graph derives by rule"),
        ({"neighbours": 1}, "1 neighbours are not an even number from 2 to 65"),
        ({"neighbours": 13}, "13 neighbours are not an even number"),
        ({"neighbours": 66}, "66 neighbours are not an even number from 2 to 65"),
        ({"share_threshold": 1}, "share threshold 1 is not between 2 and 12"),
        ({"share_threshold": 13}, "share threshold 13 is not between 2 and 12"),
        ({"side_honest": 0}, "0 neighbours a side do not fit 12 neighbours"),
        ({"side_honest": 7}, "7 neighbours a side do not fit 12 neighbours"),
        ({"witnesses": 19}, "a quorum of 11 out of 19 witnesses does not fit the 20 witnesses of the roster"),
        ({"certificate_quorum": 10}, "a quorum of 10 out of 20"),
        ({"certificate_quorum": 21}, "a quorum of 21 out of 20"),
        ({**SEMI_HONEST, "side_honest": 2}, "2 neighbours a side"),
        ({**SEMI_HONEST, "witnesses": 20}, "a quorum of 0 out of 20"),
        ({**SEMI_HONEST, "certificate_quorum": 11}, "a quorum of 11 out of 0"),
    ],
)
def test_a_sparse_graph_that_breaks_a_rule_is_refused(changes: dict[str, int], complaint: str) -> None:
    roster = roster_of(70, witnesses=20)
    validate_terms(terms_of(roster, **SPARSE), roster)
    refused_both_ways(roster, {**SPARSE, **changes}, complaint)


POLICY = TermsPolicy(difference_guard=False)


@pytest.mark.parametrize(
    ("policy", "changes", "complaint"),
    [
        (POLICY, {"roster": bytes(32)}, "another roster"),
        (POLICY, {"suite": SUITE + 1}, "suite 2"),
        (POLICY, {"suite": FIRST_SIMULATED_SUITE}, "suite 32768"),
        (POLICY, {"trust": int(Trust.SEMI_HONEST)}, "trusts the server"),
        (TermsPolicy(), {}, "waives the difference guard"),
        (replace(POLICY, mass_floor=20.0), {"mass_floor": 19_999}, "opens components of 19.999 records"),
        (replace(POLICY, schema=bytes(32)), {}, "is not the one pinned by this tenant's schema_hash"),
        (replace(POLICY, minimum_cohort=5), {}, "sums of 4 tenants, this tenant's policy says minimum_cohort = 5"),
        (
            POLICY,
            {"colluders": 1, "minimum_survivors": 4},
            "withstands 1 colluding tenants, this tenant's policy demands 2",
        ),
        (replace(POLICY, colluders=3), {}, "this tenant's policy demands 3"),
        (replace(POLICY, round_cap=99), {}, "may take 100 rounds, this tenant's policy says round_cap = 99"),
    ],
)
def test_each_demand_of_a_policy_is_enforced(policy: TermsPolicy, changes: dict[str, Any], complaint: str) -> None:
    roster = roster_of(7)
    with pytest.raises(TermsRefused) as caught:
        check_terms(policy, terms_of(roster, **changes), roster)
    assert complaint in caught.value.message and caught.value.remedy


def test_terms_that_meet_every_demand_pass() -> None:
    roster = roster_of(8, blocks=2)
    terms = terms_of(roster, blocks=2, mass_floor=20_000)
    strict = TermsPolicy(minimum_cohort=4, colluders=2, round_cap=100, mass_floor=20.0, schema=terms.schema)
    check_terms(strict, terms, roster)
    trusting = replace(strict, allow_semi_honest=True, difference_guard=False, mass_floor=0.0)
    check_terms(trusting, terms_of(roster, trust=int(Trust.SEMI_HONEST)), roster)


def test_defaults_are_strict() -> None:
    assert TermsPolicy() == TermsPolicy(
        allow_semi_honest=False, minimum_cohort=3, colluders=None, round_cap=1000, difference_guard=True, mass_floor=0.0,
        schema=None,
    )  # fmt: skip
    assert [default_colluders(n) for n in (3, 4, 6, 7, 10, 64)] == [0, 1, 1, 2, 3, 21]


def test_units_of_the_difference_guard_are_blocks_or_single_tenants() -> None:
    roster = roster_of(6, blocks=2)
    blocks, single = (guarded_units(roster, terms_of(roster, blocks=number)) for number in (2, 0))
    assert blocks == roster.blocks and single == tuple(frozenset({i}) for i in range(6))
    members = frozenset({0, 1, 2, 4})
    assert whole_units(blocks, members) == {0, 2, 4} and whole_units(single, members) == members


@pytest.mark.parametrize("n", range(3, 65))
def test_two_quorums_share_an_honest_witness_and_one_can_be_had(n: int) -> None:
    for colluders in range(n - 1):
        quorum = certificate_quorum_of(n, colluders)
        assert 2 * quorum > n + colluders and quorum <= n
        assert 2 * (quorum - 1) <= n + colluders  # the least such


@pytest.mark.parametrize("n", range(3, 65))
def test_colluders_alone_open_nobody_and_enough_others_can(n: int) -> None:
    """With certificates honest holders all act on one U, so τ need only be beyond f: in the smallest window, of f + 2 members, too."""
    for colluders in range(n - 1):
        threshold = share_threshold_of(n, colluders, Trust.MALICIOUS_SERVER)
        assert max(2, colluders + 1) <= threshold <= n - 1
        assert threshold == colluders + 1 or threshold - 1 <= n // 2


@pytest.mark.parametrize("n", range(3, 65))
def test_no_two_sets_of_holders_can_both_open_one_tenant(n: int) -> None:
    """With τ shares for b_v and τ for a_v among n − 1 holders, of whom f help both: 2τ > (n − 1) + f. And τ holders exist."""
    for colluders in range(n - 1):
        threshold = share_threshold_of(n, colluders, Trust.SEMI_HONEST)
        assert 2 * threshold > n - 1 + colluders
        assert max(2, colluders + 1) <= threshold <= n - 1
