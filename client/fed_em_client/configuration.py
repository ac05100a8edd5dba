"""A tenant's configuration: one TOML file, written by the tenant. Paths in it are relative to the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, PrivateAttr, model_validator

from fed_em_client.hours import Span, zone_of
from fed_em_client.object_files import check_uri
from fed_em_client.observability.settings import LogTable, MetricsTable, TracesTable
from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table, read_configuration, read_toml, validated
from fed_em_protocols.graph_parameters import SECURITY_BITS
from fed_em_protocols.limits import MAX_GRAPH_BITS
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands
from fed_em_protocols.roster import HexKey, Name


def _each_once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _of_any_kind(columns: object) -> object:
    """Names alone admit a column as whatever a session takes it as."""
    return dict.fromkeys(columns, "any") if isinstance(columns, (list, tuple)) else columns


def _in_one_way(hours: Iterable[str]) -> tuple[str, ...]:
    return _each_once(str(Span.parse(text)) for text in hours)


def _known_zone(name: str) -> str:
    zone_of(name)
    return name


# What a session may take a column as: a kind of value, or the labels or weights of rows.
_Kind = Literal["any", "gaussian", "categorical", "bernoulli", "poisson", "labels", "weights"]

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


class MeasuringTable(Table):
    """How often sessions may measure fitted models over this tenant's rows; see `fed_em_client.measured_sessions`."""

    sessions: Annotated[int, Field(ge=1)] = 40
    """In a period, at most."""
    points: Annotated[int, Field(ge=1)] = 8
    """How many of them may differ in models or edges: a retrain takes two, its reference and its comparison."""
    period_days: Annotated[int, Field(ge=1, le=36500)] = 30
    """Any so many days in a row."""


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
    graph_bits: Annotated[int, Field(ge=1, le=MAX_GRAPH_BITS)] = SECURITY_BITS
    """σ that the sparse graph of more than 64 tenants must reach: each draw of it may be unsafe with a probability of 2^−σ."""
    schema_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The pin of a session's description, columns and model, as the server's `fed-em doctor` prints it."""
    privacy: PrivacyTable = PrivacyTable()

    models: Annotated[tuple[Literal["gaussian-mixture", "mixed-mixture"], ...], AfterValidator(_each_once)] = ()
    """Families that a session may fit; none named: any."""
    components: Annotated[int, Field(ge=1)] | None = None
    """The most components of a session's models."""
    columns: Annotated[dict[str, _Kind], BeforeValidator(_of_any_kind)] = Field(default_factory=dict)
    """Columns that a session may read, by the session's names, with what it may take them as; none named: any."""
    rosters: Annotated[tuple[HexKey, ...], AfterValidator(_each_once)] = ()
    """Hashes of rosters that may be pinned; none named: whichever is."""
    hours: Annotated[tuple[str, ...], BeforeValidator(_several), AfterValidator(_in_one_way)] = ()
    """When a session is joined and uploads leave, as `Span.parse` reads them; none named: always."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """Whose clock `hours` are by, such as "Europe/Berlin"."""
    measurements: bool = False
    """Whether sessions may measure fitted models over this tenant's rows: log-likelihoods, and histograms of every column."""
    measuring: MeasuringTable = MeasuringTable()
    """How often, where they may."""

    @property
    def canonical(self) -> bytes:
        """All that is in force, defaults included, in one order: comments, order and spelling of the file leave it as it is."""
        stated = self.model_dump(mode="json")
        # As before these could be stated: the digest of a policy that does not stays what it was.
        if not self.measurements:
            del stated["measurements"]
        if self.measuring == MeasuringTable():
            del stated["measuring"]
        if self.graph_bits == SECURITY_BITS:
            del stated["graph_bits"]
        return json.dumps(stated, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical).digest()

    def terms_policy(self) -> TermsPolicy:
        """As the protocol takes it."""
        return TermsPolicy(
            allow_semi_honest=self.allow_semi_honest,
            minimum_cohort=self.minimum_cohort,
            colluders=self.colluders,
            round_cap=self.round_cap,
            difference_guard=self.difference_guard == "blocks",
            mass_floor=self.mass_floor,
            graph_bits=self.graph_bits,
            schema=bytes.fromhex(self.schema_hash) if self.schema_hash else None,
            rosters=tuple(bytes.fromhex(each) for each in self.rosters),
            digest=self.digest,
        )


class FlowerTable(Table):
    """What belongs to this tenant's SuperNode, where there is one."""

    trusted_entities: Path | None = None
    """The file that its `--trusted-entities` names. With it, a tenant does not serve behind a SuperNode that runs any bundle."""


class ShardsTable(Table):
    """Rows in an object store, read and summed by processes elsewhere in the tenant's house (`fed-em shard`), which dial this one."""

    listen: Address
    """host:port for them; nobody outside the house needs to reach it."""
    keys: Path = Path("shard-keys")
    """Folder with the key that they and this process have, as `fed-em shard-keys` makes it."""
    count: Annotated[int, Field(ge=1, le=1024)]
    """How many they are, numbered from 0."""
    data: Annotated[
        tuple[Annotated[str, AfterValidator(check_uri)], ...], BeforeValidator(_several), Field(min_length=1)
    ]
    """URI of a CSV or Parquet file, of a folder of them, or several: one table."""
    patience: Annotated[FiniteFloat, Field(gt=0)] = 300.0
    """Seconds to wait for one that is not there."""
    silence: Annotated[FiniteFloat, Field(gt=0)] = 600.0
    """Seconds that one may take for what it is asked for, before it counts as lost."""


class TenantConfiguration(Table):
    """One tenant, as its own operator writes it."""

    name: Name
    server: Address = "127.0.0.1:8443"
    """host:port of the coordinator."""
    roster: Path = Path("roster.json")
    roster_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The pin: the roster that this tenant has approved, as `fed-em roster new` printed it."""
    keys: Path = Path("keys")
    """Folder with `identity.key` and `tls.key`, as `fed-em keygen` makes it."""
    state: Path = Path("state")
    """Folder for what must outlive the process: the round marks, the privacy ledger, and the model at the end."""
    ledger_head: Path | None = None
    """File with the head of the privacy ledger, not in `state`, so that an older copy of that folder is found out; by default in `keys`."""
    data: Path | tuple[Path, ...] = ()
    """CSV, Parquet or NumPy (.npy, .npz) file with this tenant's rows, a folder of such files, or a list of either: one table."""
    growing: bool = False
    """Whether rows are appended to `data` while a session with a [stream] goes on: its rounds then take up what came, once it is five
    rows or more."""
    fresh: Path | tuple[Path, ...] | None = None
    """As `data`: the rows that sessions measure models over, best those that no model was fitted to; by default `data`."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that sum the rows; it changes no bit of what they sum to."""
    shards: ShardsTable | None = None
    """In place of `data`."""
    columns: Annotated[dict[str, str], Field(default_factory=dict)]
    """Session column to data column, where the names differ."""
    metrics: MetricsTable = MetricsTable()
    log: LogTable = LogTable()
    traces: TracesTable = TracesTable()
    policy: PolicyTable = PolicyTable()
    """In the file, a table or the path of a TOML file of its own with the same keys."""
    flower: FlowerTable = FlowerTable()
    _source: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _rows_in_one_place(self) -> Self:
        if (self.data == ()) == (self.shards is None):
            raise ValueError("the rows are in `data`, or in [shards]: give one of them")
        if self.growing and self.shards is not None:
            raise ValueError("rows that [shards] hold do not stream: leave `growing` out")
        return self

    def policy_now(self) -> PolicyTable:
        """The policy as the file that this was read from now says it. Raises as `read_configuration`."""
        return read_tenant_configuration(self._source).policy if self._source else self.policy


def read_tenant_configuration(path: Path) -> TenantConfiguration:
    """Read a tenant's file, and its policy's; relative paths are taken from where it lies. Raises as `read_configuration`."""
    document, base = _with_policy(path), path.parent
    found = validated(path, document, TenantConfiguration)
    found._source = path
    data = _from(base, found.data)
    fresh = None if found.fresh is None else _from(base, found.fresh)
    own: dict[str, Any] = {name: base / getattr(found, name) for name in ("roster", "keys", "state")}
    own |= {"ledger_head": base / found.ledger_head} if found.ledger_head else {}
    if found.shards is not None:
        own["shards"] = found.shards.model_copy(update={"keys": base / found.shards.keys})
    trusted = found.flower.trusted_entities
    own |= {"flower": FlowerTable(trusted_entities=base / trusted)} if trusted else {}
    return found.model_copy(update={**own, "data": data, "fresh": fresh})


def _from(base: Path, data: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
    return base / data if isinstance(data, Path) else tuple(base / part for part in data)


def read_policy(path: Path) -> PolicyTable:
    """Read a policy from its own file, or from a tenant's. Raises as `read_configuration`."""
    document = _with_policy(path)
    return validated(path, document.get("policy", document), PolicyTable)


def _with_policy(path: Path) -> dict[str, Any]:
    """A TOML file with the policy in it, where it names the policy's file."""
    document = read_toml(path)
    if isinstance(document.get("policy"), str):
        document["policy"] = read_configuration(path.parent / document["policy"], PolicyTable)
    return document
