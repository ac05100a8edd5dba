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
from fed_em_server.record import Participation, SessionRecord
from fed_em_server.report import write_report
from fed_em_server.report_summary import comparison_table, summary_panel
from fed_em_server.report_words import bytes_in_words, decimal
from tests.views.clinics import tell
from tests.views.conftest import Session

JOINED = NoticeKind.JOINED


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


def up_to(session: Session, kind: NoticeKind, name: str, after: int = 0, there: bool = True) -> int:
    """Number of news up to and including the first notice of a kind that has, or has not, a tenant in it."""
    for place in range(after, len(session.told)):
        news = session.told[place]
        if isinstance(news, Notice) and news.kind is kind and (name in news.tenants) is there:
            return place + 1
    raise AssertionError(f"nobody was told {kind} of {name}")


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
    last = session.record.rounds[-1]
    assert last.log_likelihood is not None
    told = (f"round {last.round}", f"iteration {last.iteration}", decimal(last.log_likelihood))
    for said in ("fed-em", session.record.title, "malicious-server", "from any server", "3 blocks of 3", *told):
        assert said in " ".join(text.split())
    for index, name in enumerate(session.record.tenants):
        line = line_of(lines, name)
        assert " in " in line
        assert str(sum(r.participation[index].value in {"summed", "recovered"} for r in session.record.rounds)) in line
    if width >= 80:
        assert f"↑ {bytes_in_words(sum(r.bytes_up for r in session.record.rounds))}" in text
        assert ": maple missed the cut-off; the sum goes on without it" in text
        assert "recovered" in text


def test_gathering_says_who_is_missing(session: Session) -> None:
    joined = [place for place, news in enumerate(session.told) if isinstance(news, Notice) and news.kind is JOINED]
    view = view_after(session, joined[6] + 1)
    text = "\n".join(drawn(view))
    assert "gathering tenants  7 of 9 are here" in text
    assert "waiting for maple and oak, 0.0 s; at least 3 are needed" in text
    assert "not here yet" in line_of(drawn(view), "oak")


def test_standing_follows_the_notices(session: Session) -> None:
    def standing(count: int, name: str) -> str:
        return line_of(drawn(view_after(session, count)), name)[9:32].strip()

    left = up_to(session, NoticeKind.LEFT, "elm")
    assert standing(left, "elm") == "away"
    silent = up_to(session, NoticeKind.RECOVERING, "elm")
    assert standing(silent, "elm") == "recovered"
    without = up_to(session, NoticeKind.ROUND_STARTED, "elm", silent, there=False)
    assert standing(without, "elm") == "away"
    assert standing(without, "ash") == "waits for its block"
    assert standing(without, "fir") == "in"
    back = up_to(session, JOINED, "elm", silent)
    assert standing(back, "elm") == "waits for next window"
    assert standing(up_to(session, NoticeKind.ROUND_STARTED, "elm", back), "elm") == "in"
    assert standing(up_to(session, NoticeKind.LATE, "maple"), "maple") == "late"


def test_strip_has_a_block_of_its_own_shape_for_each_part(session: Session) -> None:
    blocks = {
        Participation.SUMMED: "▇", Participation.RECOVERED: "◆", Participation.STALE: "▒", Participation.LATE: "▃",
        Participation.AWAY: "·",
    }  # fmt: skip
    opened = session.record.rounds[:40]
    assert {part for r in opened for part in r.participation} == set(Participation)
    lines = drawn(view_after(session, session.told.index(opened[-1]) + 1))
    for index, name in enumerate(session.record.tenants):
        strip = "".join(blocks[r.participation[index]] for r in opened)
        assert line_of(lines, name)[39:] == strip


def test_strip_holds_the_last_rounds(session: Session) -> None:
    lines = drawn(view_after(session, len(session.told)))
    last = [r.participation[session.record.tenants.index("maple")] for r in session.record.rounds[-41:]]
    late = [place for place, part in enumerate(last) if part is Participation.LATE]
    strip = line_of(lines, "maple")[39:]
    assert len(strip) == 41
    assert [place for place, block in enumerate(strip) if block == "▃"] == late


def test_whom_a_round_waits_for_is_told_after_a_while(session: Session) -> None:
    clock = Clock()
    started = up_to(session, NoticeKind.ROUND_STARTED, "ash")
    view = view_after(session, started, clock)
    for name in session.record.tenants[:-1]:
        view.noticed(Notice(NoticeKind.UPLOADED, 1, (name,)))
    assert "waiting for" not in "\n".join(drawn(view))
    clock.now = 3.0
    assert "waiting for oak, 3.0 s" in "\n".join(drawn(view))


def test_what_the_last_sum_lacked_is_told_while_nothing_is_waited_for(session: Session) -> None:
    stale = next(opened for opened in session.record.rounds if opened.stale)
    lines = drawn(view_after(session, session.told.index(stale) + 1))
    assert "in the last sum 3 of 9 terms are of earlier rounds" in "\n".join(lines)
    assert "in the last sum" not in "\n".join(drawn(view_after(session, len(session.told))))


def test_a_paused_session_says_for_whom_and_how_long(session: Session) -> None:
    clock = Clock()
    view = view_after(session, up_to(session, NoticeKind.LEFT, "elm"), clock)
    view.noticed(Notice(NoticeKind.PAUSED, 6, ("elm", "oak"), "7 of 9 tenants answer, 9 are needed in whole blocks"))
    clock.now = 12.34
    text = "\n".join(drawn(view, 120, 40))
    assert "paused until elm and oak are back, 12.3 s; the session ends after 10 min 00 s" in text
    assert "round 6: paused until elm and oak are back: 7 of 9 tenants answer, 9 are needed in whole blocks" in text
    view.noticed(Notice(NoticeKind.JOINED, 6, ("elm",)))
    assert "paused until oak is back" in "\n".join(drawn(view))
    view.noticed(Notice(NoticeKind.WINDOW_OPENED, 6, session.record.tenants, "rounds 7 to 70"))
    assert "paused until oak is back" not in "\n".join(drawn(view))


def test_a_window_that_is_set_up_beside_a_round_does_not_interrupt_it(session: Session) -> None:
    clock = Clock()
    view = view_after(session, up_to(session, NoticeKind.ROUND_STARTED, "ash"), clock)
    view.noticed(Notice(NoticeKind.WINDOW_OPENED, 1, session.record.tenants, "rounds 2 to 65"))
    clock.now = 3.0
    assert "waiting for ash, birch, cedar and 6 more, 3.0 s" in "\n".join(drawn(view))


def test_what_the_terms_expose_is_told_at_the_top(exposed: Session) -> None:
    lines = drawn(view_after(exposed, len(exposed.told)))
    assert lines[1].startswith(" semi-honest  Tenants' statistics are hidden from a server that follows")
    assert any(line.startswith(" !  Difference guard: off. Sums over any 5 tenants") for line in lines)
    assert "no blocks" in lines[0]


def test_many_tenants_give_way_and_those_in_trouble_stay(session: Session) -> None:
    first = session.told[0]
    assert isinstance(first, SessionRecord)
    names = tuple(f"t{i}" for i in range(60))
    view = LiveView(terminal(), Clock())
    view.session_started(first.model_copy(update={"tenants": names, "blocks": ()}))
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
    assert f"round {session.record.rounds[-1].round}" in console.export_text()


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
    complete = sum(r.complete for r in session.record.rounds)
    assert f"{len(session.record.rounds)}: {complete} with every tenant in the sum" in text
    assert "report.html" in text
    assert "malicious-server, f = 1, 3 blocks of 3" in text
    stale = sum(0 < opened.bases[0] < opened.round for opened in session.record.rounds)
    assert f"ash, elm and larch in {stale} sums, for elm: the terms that they gave before stood" in text


@pytest.mark.slow
def test_a_lone_best_start_is_warned_of_in_the_summary_and_the_report(session: Session, tmp_path: Path) -> None:
    lone = session.record.model_copy(update={"ends": (-3.0, -3.25, -3.5)})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_panel(lone, Path("result"), ()))
    said, page = console.export_text(), write_report(tmp_path, lone, session.fitted).read_text(encoding="utf-8")
    for text in (said, page):
        assert "one alone found this optimum, and the next best is 0.2500 nats a row below it" in text
    assert "1 of 3 starts that went on ended at this likelihood" in said
    console.print(summary_panel(session.record, Path("result"), ()))
    assert "starts that went on" not in console.export_text()


def test_the_summary_repeats_what_was_exposed(exposed: Session) -> None:
    console = terminal(100, 60)
    console.print(summary_panel(exposed.record, Path("result"), ()))
    text = " ".join(console.export_text().replace("│", "").split())
    assert exposed.record.banner in text
    assert exposed.record.warnings[0] in text
