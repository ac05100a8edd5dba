"""`fed-em operate`: an operator opened from its file, alone in its state folder, and run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fed_em.errors import CallerError
from fed_em.measurement import Measurement
from fed_em_client.durable_files import locked
from fed_em_client.observability.endpoint import MetricsEndpoint
from fed_em_protocols.clock import time_in_words
from fed_em_protocols.roster import load_roster
from fed_em_server.configuration import read_server_configuration
from fed_em_server.measurement.measuring_session import require_measurable
from fed_em_server.operate.drift import Drift
from fed_em_server.operate.operate_file import OperateFile
from fed_em_server.operate.operating_state import Phase, read_state
from fed_em_server.operate.operations import Operations, SessionOperations
from fed_em_server.operate.operator import Operator, OperatorWatchers, Retrained
from fed_em_server.operate.operator_metrics import OperatorMetrics
from fed_em_server.registry import Registry, Version
from fed_em_server.registry.canary import decide
from fed_em_server.registry.history import Decision
from fed_em_server.session import Watcher

MEASUREMENTS_FOLDER, LOCK_FILE = "sessions", "lock"


@dataclass(frozen=True)
class PlainLines:
    """Writes a line with its time for each thing that is done. Implements `OperatorWatcher`.

    Attributes:
        write: Takes each line.
    """

    write: Callable[[str], None]

    def said(self, line: str) -> None:
        """A line."""
        self.write(f"{time_in_words()} {line}")

    def measured(self, drift: Drift, score: float) -> None:
        """Nothing more: what it came to is said."""

    def retraining(self, planned: bool) -> None:
        """A line at either end."""
        self.said(f"planned retrain {'begins: hold alerts on it back' if planned else 'is over'}")

    def compared(self, decision: Decision) -> None:
        """Nothing more: what it came to is said."""

    def retrained(self, outcome: Retrained) -> None:
        """Nothing more: what became of it is said."""


@contextmanager
def operating(
    file: OperateFile,
    write: Callable[[str], None],
    watcher: Watcher,
    operations: Operations | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Operator]:
    """The operator of a file; no other process has it meanwhile.

    Args:
        file: The configuration.
        write: Takes lines on what is done.
        watcher: Of the sessions.
        operations: What the federation does; by default sessions over gRPC.
        clock: Seconds since 1970.

    Raises:
        CallerError: another process operates this model, a file is missing or wrong, or models of the session are never measured.
        EnvironmentFault: a file cannot be read or written, or metrics cannot be served where it says.
    """
    session = read_server_configuration(file.session)
    require_measurable(session)
    tenants = load_roster(session.roster).n

    def judge(measurement: Measurement, before: Version, candidate: Version) -> tuple[Decision, str]:
        verdict = decide(session.canary, measurement, tenants)
        return verdict.decision(before, candidate), verdict.reason

    try:
        lock = locked(file.state / LOCK_FILE)
    except CallerError:
        raise CallerError(
            f"another process operates this model, with its state in {file.state}",
            remedy="let it; `fed-em operate --status` shows what it does",
        ) from None
    try:
        federation = operations or SessionOperations(
            session, file.state / MEASUREMENTS_FOLDER, watcher, file.retrain.warm, write
        )
        registry = Registry(file.registry)
        plan = replace(file.plan, private=session.privacy is not None)
        with _watching(file, write) as watchers:
            yield Operator(plan, file.state, registry, federation, judge, watchers, clock)
    finally:
        os.close(lock)


@contextmanager
def _watching(file: OperateFile, write: Callable[[str], None]) -> Iterator[OperatorWatchers]:
    """Lines, and metrics where the file asks for them."""
    lines, settings = PlainLines(write), file.metrics
    if settings.listen is None and settings.textfile is None:
        yield OperatorWatchers((lines,))
        return
    metrics = OperatorMetrics(file.state, settings.textfile)
    with ExitStack() as stack:
        if settings.listen is not None:
            lines.said(f"metrics are at {stack.enter_context(MetricsEndpoint(metrics.metrics, settings.listen)).url}")
        yield OperatorWatchers((lines, metrics))


def status_of(file: OperateFile, now: float) -> list[str]:
    """What the state file says, in sentences. Raises as `read_state`."""
    state = read_state(file.state)
    trigger = state.trigger.trigger
    lines = [f"model: {state.model or 'none yet'}"]
    if state.phase is Phase.WATCHING:
        due = "now" if now >= state.next_at else _moment(state.next_at)
        lines.append(f"watching; the next measurement is due {due}")
    else:
        lines.append(f"{state.phase.value}: retrain {state.retrains}, because of {state.reason}")
    scores = ", ".join(f"{score:.3g}" for score in trigger.scores) or "none"
    lines.append(f"drift: {'alarmed' if trigger.alarmed else 'quiet'}; last scores {scores}")
    if trigger.quiet_until > now:
        lines.append(f"no retrain before {_moment(trigger.quiet_until)}")
    lines.append(f"retrains so far: {state.retrains}")
    if state.last:
        lines.append(f"last: {state.last}")
    return lines


def _moment(seconds: float) -> str:
    return time_in_words(datetime.fromtimestamp(seconds, UTC))
