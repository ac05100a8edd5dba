"""Logs laid side by side: a server that shows two headers is found, one that shows one is not."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fed_em_simulations.attacks.equivocation import equivocations
from fed_em_simulations.attacks.finding import Severity

NAMES = st.sampled_from(["a", "b", "c", "d"])


@dataclass(frozen=True)
class Line:
    """One line of a log."""

    tenant: str
    session: bytes
    round: int
    header: bytes


def test_two_headers_for_one_round() -> None:
    honest = [Line(name, b"s" * 16, t, bytes([t])) for name in "abcd" for t in (1, 2, 3)]
    assert equivocations(honest).severity is Severity.NONE
    assert "In 3 rounds that several of 4 tenants saw" in equivocations(honest).sentence
    forged = [Line("c", b"s" * 16, 2, b"other") if (x.tenant, x.round) == ("c", 2) else x for x in honest]
    found = equivocations(reversed(forged))
    assert found.severity is Severity.EXPOSED
    (conflict,) = found.conflicts
    assert (conflict.round, conflict.sides) == (2, (("a", "b", "d"), ("c",)))
    assert "in round 2 one to a, b, d, another to c" in found.sentence


def test_rounds_of_other_sessions_are_others() -> None:
    assert not equivocations([Line("a", b"s" * 16, 1, b"x"), Line("b", b"t" * 16, 1, b"y")]).conflicts


@given(st.lists(st.tuples(NAMES, st.integers(1, 3), st.integers(0, 2)), max_size=20))
def test_a_round_is_in_conflict_if_and_only_if_two_lines_differ(lines: list[tuple[str, int, int]]) -> None:
    seen = [Line(name, b"s" * 16, t, bytes([h])) for name, t, h in lines]
    expected = {x.round for x in seen for y in seen if x.round == y.round and x.header != y.header}
    assert {conflict.round for conflict in equivocations(seen).conflicts} == expected
