"""A session in the terminal while it runs: rounds, log-likelihood, who is in, who is late, bytes and time.

Colours never say anything alone: every one comes with a glyph, a height or a word. All of them read on dark and on
light backgrounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from fed_em_server.live_picture import Picture, PictureKeeper, Stage
from fed_em_server.plain_log import PlainLog
from fed_em_server.record import Participation
from fed_em_server.report_words import (
    banner_in_words,
    blocks_in_words,
    bytes_in_words,
    decimal,
    lacking_in_words,
    names_in_words,
    seconds_in_words,
    start_in_words,
    together_in_words,
    told_with_round,
)
from fed_em_server.standings import Standing

FRAMES_A_SECOND = 8

GREEN, BLUE, ORANGE, GREY = "#00a377", "#2b8fd9", "#e07b00", "#8a8a8a"
_BADGE, _WARNING = "bold #1c1c1c on #00c795", "bold #1c1c1c on #ffb000"

_STANDINGS = {
    Standing.EXPECTED: ("○", GREY),
    Standing.WAITING: ("◔", BLUE),
    Standing.IN: ("●", GREEN),
    Standing.BLOCKED: ("◒", GREEN),
    Standing.LATE: ("◐", ORANGE),
    Standing.RECOVERED: ("◆", BLUE),
    Standing.AWAY: ("○", GREY),
    Standing.REFUSED: ("✕", ORANGE),
}
_CELLS = {
    Participation.SUMMED: ("▇", GREEN),
    Participation.RECOVERED: ("◆", BLUE),
    Participation.STALE: ("▒", GREEN),
    Participation.LATE: ("▃", ORANGE),
    Participation.AWAY: ("·", GREY),
}
_LEGEND = {
    Participation.SUMMED: "in",
    Participation.RECOVERED: "recovered",
    Participation.STALE: "stale",
    Participation.LATE: "late",
    Participation.AWAY: "away",
}
_SPARKS = "▁▂▃▄▅▆▇█"

# A strip shows so many rounds if there is room, the sparkline so many iterations.
_STRIP_AT_MOST, _SPARKS_AT_MOST = 60, 30
_HAPPENINGS_AT_MOST = 6
# Lines kept for happenings where not all tenants can be shown anyway.
_HAPPENINGS_AT_LEAST = 3
_STANDING_WIDTH = max(len(standing.value) for standing in Standing)
# From so many lines on, blocks stand apart.
_ROOMY = 30
# What a round waits for is worth telling only when it has waited this long, in seconds.
_PATIENCE = 0.4


def watching(console: Console) -> LiveView | PlainLog:
    """The view that suits a console: live in a terminal that can show it, lines of text anywhere else."""
    live = console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return LiveView(console) if live else PlainLog(console.file)


class LiveView(PictureKeeper):
    """A `fed_em_server.session.Watcher` that draws. Use it as a context manager; its last frame stays on the screen.

    A thread of its own draws, `FRAMES_A_SECOND` times a second.

    Args:
        console: Where to draw; a new one on standard output if None.
        clock: Seconds on a clock that never goes back.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._live = Live(
            console=console or Console(highlight=False),
            get_renderable=self.frame,
            refresh_per_second=FRAMES_A_SECOND,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over()
        self._live.stop()

    def frame(self) -> Frame | Text:
        """What would be drawn now."""
        if self.picture is None:
            return Text("fed-em: the session is being prepared", style=GREY)
        return Frame(self.picture, self.now)


class Frame:
    """A picture at a moment, drawn to fit the console: tenants and happenings give way when lines are few."""

    def __init__(self, picture: Picture, now: float) -> None:
        self._picture = picture
        self._now = picture.now if picture.stage is Stage.OVER else now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, (options.height or console.height) - 1
        air = [Text()] if height >= _ROOMY else []
        top = [*self._title(width), *air, self._progress(), self._curve(width), Text()]
        n = len(self._picture.record.tenants)
        room = max(height - len(top) - 2, 2)
        shown = n if n <= room else max(room - 1 - _HAPPENINGS_AT_LEAST, 1)
        happened = min(_HAPPENINGS_AT_MOST, max(room - min(shown + 1, n), 0))
        lines = [*top, *self._tenants(width, shown), self._now_or_last(), *self._happenings(happened)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line

    def _title(self, width: int) -> Iterator[Text]:
        record = self._picture.record
        title = Text.assemble(("fed-em  ", "bold"), (record.title, f"bold {GREEN}"), (f"  {record.federation}", GREY))
        for more in (blocks_in_words(record), record.model):
            if len(title) + len(more) + 2 <= width:
                title.append(f"  {more}", GREY)
        yield title
        badge = _BADGE if record.certified else _WARNING
        banner = Text.assemble((f" {record.trust} ", badge), f" {banner_in_words(record)}")
        promised = (Text.assemble((" private ", _BADGE), f" {record.privacy.in_words}"),) if record.privacy else ()
        for told in (
            banner,
            *promised,
            *(Text.assemble((" ! ", _WARNING), f" {warning}") for warning in (*record.doubts, *record.warnings)),
        ):
            yield from told.wrap(Console(width=width), width)

    def _progress(self) -> Text:
        picture = self._picture
        rounds = len(picture.rounds)
        up, down = picture.traffic
        line = Text()
        if picture.round:
            last = picture.rounds[-1] if picture.rounds else None
            serves = start_in_words(last) if last and last.start else f"iteration {last.iteration if last else 0}"
            line.append(f"round {picture.round}", "bold").append(f"  {serves}")
        else:
            line.append(picture.stage.value, "bold").append(
                f"  {picture.standings.here} of {len(picture.record.tenants)} are here"
            )
        complete = sum(opened.complete for opened in picture.rounds)
        line.append(f"  complete sums {complete}/{rounds}  ") if rounds else line.append("  ")
        line.append(_clock_face(self._now)).append(f"  ↑ {bytes_in_words(up)}  ↓ {bytes_in_words(down)}", BLUE)
        return line

    def _curve(self, width: int) -> Text:
        curve, rounds = self._picture.log_likelihoods, self._picture.rounds
        if rounds and rounds[-1].fitted_together:
            return Text(together_in_words(rounds[-1]), BLUE)
        line = Text("log-likelihood ")
        if not curve:
            return line.append("comes with the first iteration", GREY)
        line.append(decimal(curve[-1]), "bold").append(" nats a row")
        if len(curve) > 1:
            change = curve[-1] - curve[-2]
            line.append(f"  {decimal(change, 5, signed=True)}", GREEN if change >= 0 else ORANGE)
        room = min(width - len(line) - 2, _SPARKS_AT_MOST)
        return line.append(f"  {sparkline(curve[-room:])}", BLUE) if room > 0 else line

    def _tenants(self, width: int, shown: int) -> Iterator[Text]:
        picture = self._picture
        names = picture.record.tenants
        name_width = min(max(len(name) for name in (*names, "tenant")), 20)
        left = 2 + name_width + 2 + _STANDING_WIDTH + 2 + 4 + 2
        strip = max(min(width - left, _STRIP_AT_MOST), 0)
        heading = Text(f"  {'tenant':<{name_width}}  {'now':<{_STANDING_WIDTH}}  sums  ", f"underline {GREY}")
        yield heading.append_text(_legend()) if strip >= len(_legend()) else heading
        troubled = sorted(range(len(names)), key=lambda i: picture.standings.of[names[i]] is Standing.IN)
        for index in sorted(troubled[:shown]):
            yield self._tenant(index, name_width, strip)
        if shown < len(names):
            yield Text(f"  and {len(names) - shown} more", GREY)

    def _tenant(self, index: int, name_width: int, strip: int) -> Text:
        picture = self._picture
        name = picture.record.tenants[index]
        standing = picture.standings.of[name]
        glyph, colour = _STANDINGS[standing]
        line = Text.assemble((f"{glyph} ", colour), f"{name[:name_width]:<{name_width}}  ")
        line.append(f"{standing.value:<{_STANDING_WIDTH}}", colour).append(f"  {picture.sums_of(index):>4}  ")
        for part in picture.parts_of(index, strip) if strip else ():
            line.append(*_CELLS[part])
        return line

    def _now_or_last(self) -> Text:
        """What is waited for, or else what the last sum lacked."""
        picture, waited = self._picture, self._now - self._picture.since
        if picture.stage is Stage.OVER:
            return Text()
        if picture.stage is Stage.PAUSED:
            whom = picture.waiting_for
            back = f" until {names_in_words(whom)} {'is' if len(whom) == 1 else 'are'} back" if whom else ""
            limit = seconds_in_words(picture.record.pause)
            return Text(f"paused{back}, {waited:.1f} s; the session ends after {limit}", f"bold {ORANGE}")
        if waited < _PATIENCE and picture.stage is not Stage.GATHERING:
            lacking = lacking_in_words(picture.rounds[-1]) if picture.rounds else ""
            return Text(f"in the last sum {lacking}", ORANGE) if lacking else Text()
        missing = f"waiting for {names_in_words(picture.waiting_for)}" if picture.waiting_for else ""
        told = f"{missing or picture.stage.value}, {waited:.1f} s"
        if picture.stage is Stage.GATHERING:
            told += f"; at least {picture.record.minimum_survivors} are needed"
        return Text(told, f"bold {ORANGE}")

    def _happenings(self, at_most: int) -> Iterator[Text]:
        for happening in self._picture.happenings[-at_most:] if at_most else ():
            told = told_with_round(happening)
            yield Text.assemble((f"{_clock_face(happening.second)}  ", GREY), told)


def sparkline(values: Sequence[float]) -> str:
    """Values as blocks of eight heights, the lowest the lowest, the highest the highest."""
    low, high = min(values), max(values)
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[round(steps * (v - low) / (high - low)) if high > low else 0] for v in values)


def _legend() -> Text:
    legend = Text()
    for part, word in _LEGEND.items():
        glyph, colour = _CELLS[part]
        legend.append(glyph, colour).append(f" {word} ", GREY)
    legend.rstrip()
    return legend


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
