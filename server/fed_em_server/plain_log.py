"""A session as lines of plain text: for logs, and wherever output is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_server.report_words import (
    MINUS,
    STEPS,
    blocks_in_words,
    bytes_in_words,
    decimal,
    happening_of,
    lacking_in_words,
    seconds_in_words,
    start_in_words,
    together_in_words,
    told,
)

# Signs that are not ASCII.
_SPELT = {MINUS: "-", "ε": "epsilon", "δ": "delta", "±": "+-"}

# The ordinary course of a round is told by the line of its sum.
ORDINARY = frozenset(
    {NoticeKind.ROUND_STARTED, NoticeKind.UPLOADED, NoticeKind.SURVIVORS, NoticeKind.CERTIFIED, NoticeKind.SUMMED}
)


class PlainLog:
    """A `fed_em_server.session.Watcher` that writes one line for each round and each happening, in ASCII.

    Args:
        stream: Where to; standard output if None.
        clock: Seconds on a clock that never goes back.
    """

    def __init__(self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._last: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def session_started(self, record: SessionRecord) -> None:
        """Say what is trained, by whom, under which trust."""
        self._began = self._clock()
        self._write(f"session {record.session} of {record.federation}: {record.title}, over {record.transport}")
        self._write(f"model: {record.model}; {len(record.columns)} columns, {len(record.tenants)} tenants")
        self._write(
            f"f = {record.colluders}, {blocks_in_words(record)}, sums of {record.minimum_survivors} tenants or more"
        )
        promised = (record.privacy.in_words,) if record.privacy else ()
        for told_once in (record.banner, *promised, *record.doubts, *record.warnings):
            self._write(told_once)

    def noticed(self, notice: Notice) -> None:
        """Tell it, unless it is the ordinary course of a round."""
        if notice.kind not in ORDINARY:
            before = f"round {notice.round}: " if notice.round else ""
            self._write(before + told(happening_of(notice, 0.0)))

    def round_opened(self, record: RoundRecord) -> None:
        """One line: the iteration, its log-likelihood, who is in the sum, bytes and time."""
        traffic = f"up {bytes_in_words(record.bytes_up)}, down {bytes_in_words(record.bytes_down)}"
        lacking = lacking_in_words(record)
        self._write(
            f"round {record.round}: {self._progress(record)}, {record.summed} of {len(record.participation)} tenants"
            f"{f' ({lacking})' if lacking else ''}, {traffic}, {seconds_in_words(record.seconds)}"
        )

    def _progress(self, record: RoundRecord) -> str:
        if record.fitted_together:
            return together_in_words(record)
        if record.start is not None:
            return start_in_words(record)
        if record.log_likelihood is None:
            return "moments of the columns"
        change = "" if self._last is None else f" ({decimal(record.log_likelihood - self._last, 6, signed=True)})"
        if record.step.is_gone_on_from:
            self._last = record.log_likelihood
        step = STEPS.get(record.step, "")
        return f"iteration {record.iteration}, log-likelihood {decimal(record.log_likelihood, 6)}{change}{step}"

    def _write(self, text: str) -> None:
        for sign, spelt in _SPELT.items():
            text = text.replace(sign, spelt)
        line = f"{self._clock() - self._began:8.2f}s  {text}\n"
        self._stream.write(line.encode("ascii", "replace").decode("ascii"))
        self._stream.flush()
