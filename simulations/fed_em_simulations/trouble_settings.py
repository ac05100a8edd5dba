"""Trouble, as a scenario states it: one table for each thing that goes wrong, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fed_em_protocols.configuration import Table
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_simulations.byzantine import Liars, Overstates, PoisonedRows
from fed_em_simulations.dishonest_server import ChangedParameters, InventedTenant, SplitBlock, TwoHeaders
from fed_em_simulations.scene import Trouble
from fed_em_simulations.trouble import Bursts, Dropout, Joins, Leaves, Partition, RegionalOutage, ServerCrash, Step

StepName = Literal["advertise", "reveal", "deposit", "confirm", "upload", "endorse", "open", "recover"]
Indices = tuple[int, ...]


class _Settings(Table):
    """Fields of a trouble; what is left out is as there."""

    made: ClassVar[type[Trouble]]

    def trouble(self) -> Trouble:
        """The trouble. Raises `CallerError` if a field is out of its range: never, once the settings are made."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set - {"kind"}}
        if "step" in given:
            given["step"] = Step[given["step"].upper()]
        if "at" in given:
            given["at"] = NoticeKind(given["at"])
        return self.made(**given)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.trouble()
        return self


class DropoutSettings(_Settings):
    """See `fed_em_simulations.trouble.Dropout`."""

    made = Dropout
    kind: Literal["dropout"]
    probability: float
    step: StepName = "upload"
    tenants: Indices | None = None


class BurstsSettings(_Settings):
    """See `fed_em_simulations.trouble.Bursts`."""

    made = Bursts
    kind: Literal["bursts"]
    leave: float
    come_back: float
    step: StepName = "upload"


class RegionalOutageSettings(_Settings):
    """See `fed_em_simulations.trouble.RegionalOutage`."""

    made = RegionalOutage
    kind: Literal["regional-outage"]
    regions: int
    probability: float
    step: StepName = "upload"


class PartitionSettings(_Settings):
    """See `fed_em_simulations.trouble.Partition`."""

    made = Partition
    kind: Literal["partition"]
    tenants: Indices
    first: int
    sums: int


class LeavesSettings(_Settings):
    """See `fed_em_simulations.trouble.Leaves`."""

    made = Leaves
    kind: Literal["leaves"]
    tenants: Indices
    after: int = 1
    step: StepName = "upload"


class JoinsSettings(_Settings):
    """See `fed_em_simulations.trouble.Joins`."""

    made = Joins
    kind: Literal["joins"]
    tenants: Indices
    after: int = 1


class ServerCrashSettings(_Settings):
    """See `fed_em_simulations.trouble.ServerCrash`."""

    made = ServerCrash
    kind: Literal["server-crash"]
    sum: int
    at: Literal["round-started", "uploaded", "survivors", "certified", "summed"] = "uploaded"
    seconds: float = 5.0


class LiarsSettings(_Settings):
    """See `fed_em_simulations.byzantine.Liars`."""

    made = Liars
    kind: Literal["liars"]
    tenants: Indices
    about: Literal["shares", "opening", "deposit"] = "shares"


class OverstatesSettings(_Settings):
    """See `fed_em_simulations.byzantine.Overstates`."""

    made = Overstates
    kind: Literal["overstates"]
    tenants: Indices
    times: int = 10


class PoisonedRowsSettings(_Settings):
    """See `fed_em_simulations.byzantine.PoisonedRows`."""

    made = PoisonedRows
    kind: Literal["poisoned-rows"]
    tenants: Indices


class TwoHeadersSettings(_Settings):
    """See `fed_em_simulations.dishonest_server.TwoHeaders`."""

    made = TwoHeaders
    kind: Literal["two-headers"]
    tenants: Indices | None = None
    first_round: int = 2
    instead: bool = False


class ChangedParametersSettings(_Settings):
    """See `fed_em_simulations.dishonest_server.ChangedParameters`."""

    made = ChangedParameters
    kind: Literal["changed-parameters"]
    tenants: Indices | None = None
    first_round: int = 2


class InventedTenantSettings(_Settings):
    """See `fed_em_simulations.dishonest_server.InventedTenant`."""

    made = InventedTenant
    kind: Literal["invented-tenant"]
    tenant: int = 0
    tenants: Indices | None = None


class SplitBlockSettings(_Settings):
    """See `fed_em_simulations.dishonest_server.SplitBlock`."""

    made = SplitBlock
    kind: Literal["split-block"]
    tenant: int = 0
    first_round: int = 2


AnyTrouble = Annotated[
    DropoutSettings
    | BurstsSettings
    | RegionalOutageSettings
    | PartitionSettings
    | LeavesSettings
    | JoinsSettings
    | ServerCrashSettings
    | LiarsSettings
    | OverstatesSettings
    | PoisonedRowsSettings
    | TwoHeadersSettings
    | ChangedParametersSettings
    | InventedTenantSettings
    | SplitBlockSettings,
    Field(discriminator="kind"),
]
