"""Numbers and happenings in words."""

from __future__ import annotations

import pytest

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import Participation, RoundRecord
from fed_em_server.report_words import (
    bytes_in_words,
    decimal,
    doubt_of_ends,
    ends_in_words,
    happening_of,
    lacking_in_words,
    names_in_words,
    seconds_in_words,
    told,
    told_with_round,
    with_happening,
)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (35_361, "35.4 kB"), (359_749, "360 kB"), (999_400, "999 kB"),
     (999_600, "1 MB"), (1_250_000, "1.2 MB"), (10**16, "10000 TB")],
)  # fmt: skip
def test_bytes(count: int, expected: str) -> None:
    assert bytes_in_words(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.004, "4 ms"), (0.42, "0.42 s"), (12.34, "12.3 s"), (2.5, "2.5 s"), (5.0, "5 s"), (20.0, "20 s"), (200.0, "3 min 20 s"),
     (7500.0, "2 h 05 min")],
)  # fmt: skip
def test_seconds(seconds: float, expected: str) -> None:
    assert seconds_in_words(seconds) == expected


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [(-1.5, False, "−1.50"), (1.5, False, "1.50"), (1.5, True, "+1.50"), (-0.001, True, "0.00"), (0.0, True, "0.00")],
)
def test_decimals_have_a_true_minus(value: float, signed: bool, expected: str) -> None:
    assert decimal(value, 2, signed=signed) == expected


def test_names() -> None:
    assert names_in_words(()) == "nobody"
    assert names_in_words(("a",)) == "a"
    assert names_in_words(("a", "b", "c", "d")) == "a, b, c and d"
    assert names_in_words(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"


@pytest.mark.parametrize("kind", NoticeKind)
@pytest.mark.parametrize("tenants", [(), ("ash",), ("ash", "elm")])
def test_every_kind_of_notice_can_be_told(kind: NoticeKind, tenants: tuple[str, ...]) -> None:
    sentence = told(happening_of(Notice(kind, 3, tenants, "why"), 1.0))
    assert sentence
    assert not sentence.endswith(".")


def test_sentences() -> None:
    def sentence(kind: NoticeKind, tenants: tuple[str, ...] = ("ash",), text: str = "", number: int = 7) -> str:
        return told_with_round(happening_of(Notice(kind, number, tenants, text), 0.0))

    assert sentence(NoticeKind.JOINED, number=0) == "ash joined the session"
    assert sentence(NoticeKind.LATE, text="x") == (
        "round 7: an upload of ash came after the cut-off; it stays masked for ever"
    )
    assert sentence(NoticeKind.LATE, ("a", "b")) == (
        "round 7: a and b missed the cut-off; the sum goes on without them"
    )
    assert sentence(NoticeKind.ROUND_FAILED, (), "round 7: 2 uploads, 3 are needed") == (
        "round 7: no sum was opened: 2 uploads, 3 are needed"
    )
    assert sentence(NoticeKind.REFUSED, text="policy") == "round 7: ash refused the session (policy)"
    assert sentence(NoticeKind.PAUSED, ("a", "b")) == "round 7: paused until a and b are back"
    assert sentence(NoticeKind.WINDOW_ABANDONED, text="the set-up of a window was not completed") == (
        "round 7: the set-up of a window was not completed"
    )
    assert (
        sentence(NoticeKind.CERTIFIED, ("a", "b", "c")) == "round 7: a quorum certified that the sum is over 3 tenants"
    )


def opened(bases: tuple[int, ...], held: tuple[int, ...] = ()) -> RoundRecord:
    parts = tuple(Participation.SUMMED if base == 7 else Participation.STALE for base in bases)
    return RoundRecord(
        round=7, iteration=5, participation=parts, bases=bases, held=held, seconds=1.0, bytes_up=1, bytes_down=1
    )


def test_what_a_sum_lacks() -> None:
    assert lacking_in_words(opened((7, 7, 7))) == ""
    assert lacking_in_words(opened((7, 6, 7))) == "1 of 3 terms is of earlier rounds"
    assert lacking_in_words(opened((7, 0, 2), (4,))) == (
        "1 of 3 terms is of earlier rounds, 1 tenant has none, 1 component is held"
    )
    assert lacking_in_words(opened((0, 0, 7), (4, 5))) == "2 tenants have none, 2 components are held"


def test_tenants_that_join_together_are_told_together() -> None:
    happenings = with_happening((), happening_of(Notice(NoticeKind.JOINED, 0, ("ash",)), 0.0))
    happenings = with_happening(happenings, happening_of(Notice(NoticeKind.JOINED, 0, ("elm",)), 0.1))
    assert [told(h) for h in happenings] == ["ash and elm joined the session"]
    happenings = with_happening(happenings, happening_of(Notice(NoticeKind.JOINED, 4, ("oak",)), 0.2))
    assert len(happenings) == 2


def test_starts_that_agree_and_one_that_is_alone() -> None:
    assert ends_in_words(()) == ends_in_words((-3.0,)) == doubt_of_ends((-3.0,)) == ""
    assert ends_in_words((-3.1, -3.0, -3.0005)) == "2 of 3 starts that went on ended at this likelihood"
    assert doubt_of_ends((-3.1, -3.0, -3.0005)) == ""
    assert ends_in_words((-3.1, -3.0, -3.05)) == "1 of 3 starts that went on ended at this likelihood"
    assert "the next best is 0.0500 nats a row below it: more starts may find a better one" in doubt_of_ends(
        (-3.1, -3.0, -3.05)
    )
