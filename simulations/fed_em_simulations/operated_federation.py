"""A simulated federation under operation: measurements and retrains by the real protocol in memory, over rows that change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel, load_model, model_files, save_model
from fed_em.reference import REFERENCE_FILE
from fed_em.reference_edges import ReferenceEdges
from fed_em_server.operate.operations import is_finished
from fed_em_server.record import RECORD_FILE, write_record
from fed_em_server.registry import Lineage, Registry, Version
from fed_em_server.registry.version import MODEL_FOLDER
from fed_em_simulations.federation import Federation
from fed_em_simulations.session_of_tables import Target

_OUTPUT = "session"


@dataclass(frozen=True)
class OperatedFederation:
    """What `fed_em_server.operate` asks of a federation. Implements `fed_em_server.operate.operations.Operations`.

    Attributes:
        fresh: Gives the federation as it is now: with rows that no model was fitted to yet, and a seed of its own.
        target: What a retrain fits, from the model in use.
    """

    fresh: Callable[[], Federation]
    target: Target

    def measure(self, models: Sequence[FittedModel], edges: ReferenceEdges) -> Measurement:
        """See `Operations`."""
        return self.fresh().measure(models, edges)

    def retrain(self, start: Path, folder: Path) -> Path:
        """See `Operations`."""
        output = folder / _OUTPUT
        if not is_finished(output):
            outcome = replace(self.fresh(), start=str(start), starts=None).fit(self.target)
            save_model(output / MODEL_FOLDER, outcome.model)
            write_record(output, outcome.record)
        return output

    def add(self, registry: Registry, output: Path, reason: str) -> Version:
        """See `Operations`; a session in memory left no transcript, and its model has the lineage of one fitted in one place."""
        fitted = load_model(output / MODEL_FOLDER)
        files = {f"{MODEL_FOLDER}/{name}": data for name, data in model_files(fitted).items()}
        files[f"{MODEL_FOLDER}/{REFERENCE_FILE}"] = (output / MODEL_FOLDER / REFERENCE_FILE).read_bytes()
        files[RECORD_FILE] = (output / RECORD_FILE).read_bytes()
        return registry.add_files(fitted, files, Lineage.of_model(fitted, ""), reason=reason)
