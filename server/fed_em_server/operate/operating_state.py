"""Where an operator is: one file, replaced whole after every step, from which a process that starts anew goes on.

    watching        measures when it is due, and holds what it finds against the reference
    retraining      a session fits the model again, from the one in use
    referencing     the new model is measured alone: its reference
    adding          it goes into the registry, with its reference
    comparing       both models are measured over the same fresh rows
    deciding        the new one is put to use, or kept out

A step that was interrupted is done again: sums may be taken twice, a model is never fitted twice once its session has left its outcome, and
adding and promoting change nothing the second time. Format 1.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

from pydantic import FiniteFloat, ValidationError

from fed_em.errors import CallerError
from fed_em.whole_files import write_whole
from fed_em_client.durable_files import disk_trouble
from fed_em_protocols.configuration import Table, complaint_of
from fed_em_server.operate.trigger import Trigger
from fed_em_server.registry.history import Decision

STATE_FILE = "state.json"


class Phase(Enum):
    """What the operator does next."""

    WATCHING = "watching"
    RETRAINING = "retraining"
    REFERENCING = "referencing"
    ADDING = "adding"
    COMPARING = "comparing"
    DECIDING = "deciding"


class TriggerTable(Table):
    """A `Trigger`, as the file has it."""

    scores: tuple[FiniteFloat, ...] = ()
    alarmed: bool = False
    quiet_until: FiniteFloat = 0.0

    @classmethod
    def of(cls, trigger: Trigger) -> TriggerTable:
        """As it is now."""
        return cls(scores=trigger.scores, alarmed=trigger.alarmed, quiet_until=trigger.quiet_until)

    @property
    def trigger(self) -> Trigger:
        """It again."""
        return Trigger(self.scores, self.alarmed, self.quiet_until)


class OperatingState(Table):
    """All that an operator remembers."""

    format: Literal[1] = 1
    phase: Phase = Phase.WATCHING
    next_at: FiniteFloat = 0.0
    """When the next measurement is due, in seconds since 1970."""
    seen_at: FiniteFloat = 0.0
    """When this was written, likewise."""
    trigger: TriggerTable = TriggerTable()
    model: str = ""
    """The id of the version that the trigger is about, and that a retrain starts from."""
    retrains: int = 0
    """How many retrains were begun: the number of the last one."""
    reason: str = ""
    """Why the last one was."""
    output: str = ""
    """The folder with the outcome of the retrain that is under way, from the state folder."""
    candidate: str = ""
    """The id of its version, once it is in the registry."""
    decision: Decision | None = None
    """What is made of the comparison."""
    decided: str = ""
    """The same in a sentence."""
    last: str = ""
    """What the last measurement, or the last retrain, came to, in a sentence."""


def write_state(folder: Path, state: OperatingState) -> None:
    """Replace the file, durably. Raises `EnvironmentFault` if the disk does not take it."""
    path = folder / STATE_FILE
    with disk_trouble(path, "the operator's state folder must be on a disk that works and has room"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, (state.model_dump_json(indent=1) + "\n").encode())


def read_state(folder: Path) -> OperatingState:
    """What the file says; a new state if there is none.

    Raises:
        CallerError: it is no state, or of a newer format.
        EnvironmentFault: it cannot be read.
    """
    path = folder / STATE_FILE
    with disk_trouble(path, "check its rights"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return OperatingState()
    try:
        return OperatingState.model_validate_json(data)
    except ValidationError as error:
        raise CallerError(
            f"{path} is no state that this version of fed-em reads: {complaint_of(error)}",
            remedy="update fed-em, or move the file away: the operator then begins anew with the model in use",
        ) from None
