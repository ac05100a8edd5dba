"""What an operator has done by the federation: measurements and retrains. Over gRPC here, in memory in simulations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fed_em.errors import FedEmError
from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel, load_model
from fed_em.reference_edges import ReferenceEdges
from fed_em_protocols.roster import load_roster
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.measurement.measure import measure
from fed_em_server.observability.observed_session import observing_session
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.registry import Registry, Version
from fed_em_server.registry.session_lineage import add_output
from fed_em_server.serve import MODEL_FOLDER, goes_on, serve
from fed_em_server.session import Watcher
from fed_em_server.watchers import Watchers

# Folders of a retrain's attempts, numbered from 1.
_ATTEMPT = "attempt-"


class Operations(Protocol):
    """What the operator asks for; each may fail as any session may, and is then asked for again later."""

    def measure(self, models: Sequence[FittedModel], edges: ReferenceEdges) -> Measurement:
        """Measure one model, or two side by side, over fresh rows. Raises `FedEmError` if there is no sum."""
        ...

    def retrain(self, start: Path, folder: Path) -> Path:
        """Fit the model again, and keep the outcome. Once there is one in `folder`, it is that, and nothing is fitted.

        Args:
            start: The folder of the model to start from.
            folder: Of this retrain alone, for as many attempts as it takes.

        Returns:
            The folder of the outcome, with the model in `model`.

        Raises:
            FedEmError: the session ended without a model.
        """
        ...

    def add(self, registry: Registry, output: Path, reason: str) -> Version:
        """Add the outcome of a retrain to the registry; the second time nothing is added. Raises as `Registry.add`."""
        ...


@dataclass(frozen=True)
class SessionOperations:
    """Sessions over gRPC, from a session's file. Implements `Operations`.

    Attributes:
        configuration: The session's.
        scratch: Folder for the transcripts of measurements.
        watcher: Who looks on.
        warm: Whether a retrain starts from the model in use.
        report: Told where the metrics of a retrain are served.
    """

    configuration: ServerConfiguration
    scratch: Path
    watcher: Watcher
    warm: bool = True
    report: Callable[[str], None] = lambda _: None

    def measure(self, models: Sequence[FittedModel], edges: ReferenceEdges) -> Measurement:
        """See `Operations`."""
        return measure(self.configuration.model_copy(update={"output": self.scratch}), models, edges, self.watcher)

    def retrain(self, start: Path, folder: Path) -> Path:
        """See `Operations`. Each attempt has a folder of its own, as a session's outcome has; one whose process died goes on.

        Metrics, log and traces are those of the session's file, the metrics with the mark of a planned retrain.
        """
        attempts = _attempts_in(folder)
        for attempt in attempts.values():
            if is_finished(attempt):
                return attempt
        last = max(attempts, default=0)
        session = self._session(start, attempts[last]) if attempts else None
        if session is None or not goes_on(session):
            session = self._session(start, folder / f"{_ATTEMPT}{last + 1}")
        with observing_session(session, self.report) as observers:
            outcome, _ = serve(session, Watchers((self.watcher, observers)), report=self.report)
            observers.finished(outcome.record)
        return session.output

    def _session(self, start: Path, output: Path) -> ServerConfiguration:
        fit = self.configuration.fit
        warm = {"start": str(start), "starts": None} if self.warm and self.configuration.selection is None else {}
        metrics = self.configuration.metrics.model_copy(update={"planned_retrain": True})
        changes = {"output": output, "fit": fit.model_copy(update=warm), "metrics": metrics}
        return self.configuration.model_copy(update=changes)

    def add(self, registry: Registry, output: Path, reason: str) -> Version:
        """See `Operations`."""
        return add_output(registry, output, load_roster(self.configuration.roster), reason)


def _attempts_in(folder: Path) -> dict[int, Path]:
    found = ((each.name.removeprefix(_ATTEMPT), each) for each in folder.glob(f"{_ATTEMPT}*"))
    return dict(sorted((int(number), each) for number, each in found if number.isdecimal()))


def is_finished(output: Path) -> bool:
    """Whether a session's output folder has a whole model and a whole record."""
    try:
        load_model(output / MODEL_FOLDER)
        SessionRecord.model_validate_json((output / RECORD_FILE).read_bytes())
    except (FedEmError, OSError, ValueError):
        return False
    return True
