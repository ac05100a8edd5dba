"""The live view shows what was told, fits its terminal, and never draws more often than it should."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.live_view import FRAMES_A_SECOND, Frame, LiveView, sparkline, watching
from fed_em_server.plain_log import PlainLog
from fed_em_server.record import SessionRecord
from fed_em_server.report_summary import comparison_table, summary_panel
from tests.views.clinics import tell
from tests.views.conftest import Session


class Clock:
    """Time that stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, record=True, color_system="truecolor",
        legacy_windows=False, highlight=False,
    )  # fmt: skip


def drawn(view: LiveView, width: int = 80, height: int = 24) -> list[str]:
    console = terminal(width, height)
    console.print(view.frame())
    return console.export_text().splitlines()


def line_of(lines: Sequence[str], name: str) -> str:
    return next(line for line in lines if line[2:].startswith(f"{name} "))


def up_to(session: Session, kind: NoticeKind, round_number: int, last: bool = False) -> int:
    """Number of news up to and including the first, or the last, notice of a kind in a round."""
    found = [
        place
        for place, news in enumerate(session.told)
        if isinstance(news, Notice) and news.kind is kind and news.round == round_number
    ]
    return found[-1 if last else 0] + 1


def view_after(session: Session, count: int, clock: Clock | None = None) -> LiveView:
    view = LiveView(terminal(), clock or Clock())
    tell(view, session.told[:count])
    return view


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (120, 40), (200, 60)])
def test_frame_fits_and_tells_everything(session: Session, width: int, height: int) -> None:
    lines = drawn(view_after(session, len(session.told)), width, height)
    text = "\n".join(lines)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    for said in ("fed-em", session.record.title, "semi-honest", "follows the", "round 81", "iteration 80", "−8.3"):
        assert said in text
    for index, name in enumerate(session.record.tenants):
        line = line_of(lines, name)
        assert " in " in line
        assert str(sum(r.participation[index].value in {"summed", "recovered"} for r in session.record.rounds)) in line
    if width >= 80:
        assert "↑ 4.1 MB" in text
        assert "round 40: maple missed the cut-off; the sum goes on without it" in text
        assert "recovered" in text


def test_gathering_says_who_is_missing(session: Session) -> None:
    view = view_after(session, up_to(session, NoticeKind.JOINED, 0) + 6)
    text = "\n".join(drawn(view))
    assert "gathering tenants  7 of 9 are here" in text
    assert "waiting for maple and oak; at least 5 are needed" in text
    assert "not here yet" in line_of(drawn(view), "oak")


@pytest.mark.parametrize(
    ("kind", "number", "name", "standing"),
    [
        (NoticeKind.LEFT, 6, "elm", "away"),
        (NoticeKind.RECOVERING, 6, "elm", "recovered"),
        (NoticeKind.ROUND_STARTED, 7, "elm", "away"),
        (NoticeKind.LATE, 10, "maple", "late"),
        (NoticeKind.JOINED, 10, "elm", "waits for next window"),
        (NoticeKind.ROUND_STARTED, 11, "elm", "in"),
    ],
)
def test_standing_follows_the_notices(
    session: Session, kind: NoticeKind, number: int, name: str, standing: str
) -> None:
    lines = drawn(view_after(session, up_to(session, kind, number)))
    assert f"  {standing}  " in line_of(lines, name)


def test_strip_has_a_block_of_its_own_shape_for_each_part(session: Session) -> None:
    line = line_of(drawn(view_after(session, up_to(session, NoticeKind.ROUND_STARTED, 13))), "elm")
    assert line.split()[-1] == "▇▇▇▇▇◆····▇▇"
    line = line_of(drawn(view_after(session, up_to(session, NoticeKind.ROUND_STARTED, 13))), "maple")
    assert line.split()[-1] == "▇▇▇▇▇▇▇▇▇▃··"


def test_whom_a_round_waits_for_is_told_after_a_while(session: Session) -> None:
    clock = Clock()
    uploaded = up_to(session, NoticeKind.UPLOADED, 3) + 7
    view = view_after(session, uploaded, clock)
    owing = set(session.record.tenants) - {
        news.tenants[0]
        for news in session.told[:uploaded]
        if isinstance(news, Notice) and news.kind is NoticeKind.UPLOADED and news.round == 3
    }
    assert len(owing) == 1
    assert "waiting for" not in "\n".join(drawn(view))
    clock.now = 2.5
    assert f"waiting for {owing.pop()}, 2.50 s" in "\n".join(drawn(view))


def test_many_tenants_give_way_and_those_in_trouble_stay(session: Session) -> None:
    first = session.told[0]
    assert isinstance(first, SessionRecord)
    names = tuple(f"t{i}" for i in range(60))
    view = LiveView(terminal(), Clock())
    view.session_started(first.model_copy(update={"tenants": names}))
    for kind in (NoticeKind.JOINED, NoticeKind.WINDOW_OPENED, NoticeKind.ROUND_STARTED):
        view.noticed(Notice(kind, 1, names))
    view.noticed(Notice(NoticeKind.LATE, 1, ("t57",)))
    lines = drawn(view)
    assert len(lines) < 24
    assert "late" in line_of(lines, "t57")
    assert any("more" in line for line in lines)


class CountedView(LiveView):
    """Counts its frames."""

    frames = 0

    def frame(self) -> Frame | str:  # type: ignore[override]
        self.frames += 1
        return super().frame()  # type: ignore[return-value]


def test_swarms_of_notices_are_not_drawn_one_by_one(session: Session) -> None:
    view = CountedView(terminal(120, 40))
    began = time.monotonic()
    with view:
        tell(view, session.told)
        for _ in range(20):
            tell(view, session.told[1:])
        took = time.monotonic() - began
    assert len(session.told) * 20 > 10_000
    assert view.frames <= FRAMES_A_SECOND * took + 5


def test_last_frame_stays_whatever_happens(session: Session) -> None:
    console = terminal()

    def interrupted() -> None:
        with LiveView(console) as view:
            tell(view, session.told)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "round 81" in console.export_text()


def test_output_that_is_no_terminal_gets_lines() -> None:
    assert isinstance(watching(Console(file=io.StringIO())), PlainLog)
    assert isinstance(watching(terminal()), LiveView)


def test_before_the_session_there_is_something_to_see() -> None:
    assert drawn(LiveView(terminal(), Clock())) == ["fed-em: the session is being prepared"]


def test_sparkline_spans_its_values() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([2.0, 2.0]) == "▁▁"


def test_comparison_and_summary_tell_the_end(session: Session) -> None:
    console = terminal(100, 60)
    console.print(comparison_table(session.record))
    console.print(summary_panel(session.record, Path("result"), ("report.html",)))
    text = console.export_text()
    for line in session.record.comparison:
        assert line.name in text
    assert "81: 50 with every tenant in the sum, 31 with some" in text
    assert "report.html" in text
