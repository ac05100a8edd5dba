"""What the server keeps of thousands of tenants grows without being changed, and says what a plain dict would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fed_em_protocols.coordinator_state import Attendance, Awaited, Member
from fed_em_protocols.growing_map import GrowingMap

_ENTRIES = st.lists(st.tuples(st.integers(0, 200), st.integers()), max_size=400)


@given(st.dictionaries(st.integers(0, 200), st.integers(), max_size=100), _ENTRIES)
def test_it_is_a_dict_that_leaves_what_was_before(begun: dict[int, int], entries: list[tuple[int, int]]) -> None:
    grown = GrowingMap(begun)
    steps: list[tuple[GrowingMap[int, int], dict[int, int]]] = [(grown, dict(begun))]
    for key, value in entries:
        grown = grown.with_entry(key, value)
        steps.append((grown, {**steps[-1][1], key: value}))
    for each, plain in steps[:: max(1, len(steps) // 8)]:
        assert each == plain and len(each) == len(plain)
        assert list(each.items()) == list(plain.items())
        assert all((key in each) == (key in plain) and each.get(key) == plain.get(key) for key in range(-1, 202))


def test_two_may_grow_from_one() -> None:
    one = GrowingMap({0: "a"}).with_entry(1, "b")
    assert dict(one.with_entry(2, "c")) == {0: "a", 1: "b", 2: "c"}
    assert dict(one.with_entry(2, "d")) == {0: "a", 1: "b", 2: "d"} and dict(one) == {0: "a", 1: "b"}


_MEMBERS = st.builds(
    Member,
    boot=st.sampled_from([b"", b"1", b"2"]),
    linked=st.booleans(),
    joined=st.booleans(),
    late=st.booleans(),
    wait_until=st.sampled_from([0.0, 1.0, 2.5]),
    refusal=st.integers(0, 2),
)


@given(st.lists(_MEMBERS, min_size=1, max_size=6), st.lists(st.tuples(st.integers(0, 5), _MEMBERS), max_size=8))
def test_attendance_keeps_up(members: list[Member], changes: list[tuple[int, Member]]) -> None:
    plain = dict(enumerate(members))
    kept = Attendance(plain)
    for index, member in changes:
        if index in plain:
            plain[index], kept = member, kept.with_member(index, member)
    anew = Attendance(plain)
    assert dict(kept) == plain
    for name in ("absent", "late", "refused", "waits", "present", "prompt"):
        assert getattr(kept, name) == getattr(anew, name), name
    assert kept.present == {index for index, member in plain.items() if member.here}
    assert kept.prompt == {index for index in kept.present if not plain[index].late}
    asked: tuple[dict[int, bytes], ...] = ({0: b"1"}, dict.fromkeys(plain, b"2"), {})
    for boots in (asked[0], *asked, asked[1], *asked):  # two of them are remembered
        same = {index for index, boot in boots.items() if plain[index].boot == boot}
        assert kept.of_processes(boots) == kept.of_processes(boots) == same


@given(st.frozensets(st.integers(0, 9)), st.frozensets(st.integers(0, 9)), st.frozensets(st.integers(0, 9)))
def test_awaited_are_those_expected_that_have_not_answered(
    expected: frozenset[int], answered: frozenset[int], some: frozenset[int]
) -> None:
    awaited = Awaited(expected, answered)
    assert awaited.all == expected - answered and awaited.among(some) == some & expected - answered
