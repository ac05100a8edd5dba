"""A tenant's configuration: one TOML file, written by the tenant. Paths in it are relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table, read_configuration
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands
from fed_em_protocols.roster import Name

LEDGER_HEAD = "ledger-head"


class PrivacyTable(Table):
    """What this tenant demands of differential privacy; see `fed_em_protocols.privacy.demands`."""

    required: bool = False
    """Whether sessions without differential privacy are refused."""
    epsilon: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """What all sessions of a period may spend together, at `delta`."""
    delta: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    period_days: Annotated[int, Field(ge=1, le=36500)] = 365
    """Any so many days in a row."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("a budget is an epsilon and a delta: give both, or neither")
        return self

    def demands(self) -> PrivacyDemands:
        """As the protocol takes them."""
        if self.epsilon is None or self.delta is None:
            return PrivacyDemands(self.required)
        return PrivacyDemands(self.required, EpsilonBudget(self.epsilon, self.delta, self.period_days))


class PolicyTable(Table):
    """What this tenant demands of any session, strictly by default; see `fed_em_protocols.policy.TermsPolicy`."""

    allow_semi_honest: bool = False
    difference_guard: Literal["blocks", "off"] = "blocks"
    """`off` admits sessions whose sums may differ by one tenant, which then give that tenant's statistics away."""
    minimum_cohort: Annotated[int, Field(ge=3)] = 3
    colluders: Annotated[int, Field(ge=0)] | None = None
    mass_floor: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """The least mass, in records, of a component whose moments a session may open."""
    round_cap: Annotated[int, Field(ge=1)] = 1000
    schema_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The pin of a session's description, columns and model, as the server's `fed-em doctor` prints it."""
    privacy: PrivacyTable = PrivacyTable()

    def terms_policy(self) -> TermsPolicy:
        """As the protocol takes it."""
        return TermsPolicy(
            allow_semi_honest=self.allow_semi_honest,
            minimum_cohort=self.minimum_cohort,
            colluders=self.colluders,
            round_cap=self.round_cap,
            difference_guard=self.difference_guard == "blocks",
            mass_floor=self.mass_floor,
            schema=bytes.fromhex(self.schema_hash) if self.schema_hash else None,
        )


class TenantConfiguration(Table):
    """One tenant, as its own operator writes it."""

    name: Name
    server: Address = "127.0.0.1:8443"
    """host:port of the coordinator."""
    roster: Path = Path("roster.json")
    roster_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The pin: the roster that this tenant has approved, as `fed-em roster` printed it."""
    keys: Path = Path("keys")
    """Folder with `identity.key` and `tls.key`, as `fed-em keygen` makes it."""
    state: Path = Path("state")
    """Folder for what must outlive the process: the round marks, the privacy ledger, and the model at the end."""
    ledger_head: Path | None = None
    """File with the head of the privacy ledger, not in `state`, so that an older copy of that folder is found out; by default in `keys`."""
    data: Path | tuple[Path, ...]
    """CSV, Parquet or NumPy (.npy, .npz) file with this tenant's rows, a folder of such files, or a list of either: one table."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that sum the rows; it changes no bit of what they sum to."""
    columns: Annotated[dict[str, str], Field(default_factory=dict)]
    """Session column to data column, where the names differ."""
    policy: PolicyTable = PolicyTable()


def read_tenant_configuration(path: Path) -> TenantConfiguration:
    """Read a tenant's file; relative paths are taken from where it lies. Raises as `read_configuration`."""
    found = read_configuration(path, TenantConfiguration)
    base = path.parent
    data = base / found.data if isinstance(found.data, Path) else tuple(base / part for part in found.data)
    own = {name: base / getattr(found, name) for name in ("roster", "keys", "state")}
    own |= {"ledger_head": base / found.ledger_head} if found.ledger_head else {}
    return found.model_copy(update={**own, "data": data})
