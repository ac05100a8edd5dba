"""A federation in memory in one call: real tenants, the real coordinator, real cryptography, virtual time.

    outcome = Federation([X1, X2, X3, ...], dropout=0.1, seed=0).fit(GaussianMixture(3))
    outcome.model.predict(rows)

Everything follows from the seed, byte by byte, and nobody's keys are worth anything. Nothing is written to disk, but for the
checkpoints of a server that is to crash, which are in a temporary folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from pydantic import ValidationError

from fed_em.broadcast import Broadcast
from fed_em.description import check_real, check_whole_number
from fed_em.em import Stopping
from fed_em.errors import CallerError, FedEmError
from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel
from fed_em.optimiser import EM, L_BFGS, can_leap, check_optimiser
from fed_em.own_model import StartingModel
from fed_em.priors import NONE
from fed_em.reference import edges_of
from fed_em.reference_edges import ReferenceEdges
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.tenant_session import TenantSession, TenantWork
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.description import Column
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.limits import MAX_TENANTS, MIN_TENANTS
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.roster_shape import default_block_size
from fed_em_protocols.selection import Selection
from fed_em_protocols.stream import Stream
from fed_em_protocols.tenant_state import TenantSelf
from fed_em_protocols.terms import Trust
from fed_em_protocols.transcript.recorder import TranscriptStore
from fed_em_server.configuration import (
    PRIVATE_STOPPING,
    FitTable,
    PrivacyTable,
    ServerConfiguration,
    TimesTable,
    TrustTable,
)
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.measurement import measuring_plan, run_measuring
from fed_em_server.session import SessionOutcome, SessionPlan, Summing, Watcher, plan_session, run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.costed_cipher import MOST_TENANTS, WARNING, costed_cipher
from fed_em_simulations.costs import TYPICAL, CostModel
from fed_em_simulations.crashing_server import crashes, require_no_crash, run_with_crashes
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.few_collections import few_collections
from fed_em_simulations.flower_federation import fit_under_flower
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.overheard_sum import Listener, OverheardSum
from fed_em_simulations.records_work import RecordsWork
from fed_em_simulations.scene import Mischief, Mischiefs, Scene, Trouble
from fed_em_simulations.session_memory import Accusation, SessionMemory
from fed_em_simulations.session_of_tables import SessionOfTables, Target, session_of_tables
from fed_em_simulations.shared_reading import shared_reading
from fed_em_simulations.simulated_parties import SimulatedParties
from fed_em_simulations.simulated_suites import COSTED_SUITE, SEEDED_SUITE, admitted
from fed_em_simulations.tenant_host import LocalTenants, TenantHost
from fed_em_simulations.tenant_shards import TenantShards
from fed_em_simulations.trouble import Dropout
from fed_em_simulations.volatile_marks import VolatileMarks
from fed_em_simulations.work import NO_WORK, Measure, Work, counted_work, measured

_DEADLINES = TimesTable()

# The virtual clock's zero, as records write it.
_STARTED = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Federation:
    """Tenants with their tables, and the conditions that they meet under.

    Attributes:
        tables: One table a tenant, at least three, in roster order: rows `(n, D)`, a data frame, a mapping of columns, or `Records`; or
            all of them by name. Kinds of columns, ranges, levels, largest counts and row caps are read off the tables unless `columns`
            are given: in a real federation they are declared.
        dropout: The probability, for each tenant and round, of being gone before it uploads and back for the next.
        seed: Of keys, of randomness, of all trouble and of the fit's start.
        names: The tenants'; t0, t1, … if None.
        columns: Declared columns, as in a session's file; None to read them off.
        title: Of the session.
        trust: As in a session's file; tenants' policies admit it.
        row_cap: The most rows that each tenant may hold, as the roster says; None: as many as the largest table has.
        colluders: f; None for the usual one.
        difference_guard: "blocks" or "off".
        block_size: The least tenants of a block; f + 2 if None.
        minimum_survivors: u_min; None for the usual one.
        dropouts: δ that a sparse graph (more than 64 tenants) is made for; None for the usual one.
        mass_floor: In records; 0: no gate.
        privacy: Differential privacy of all that is opened, as in a session's `[privacy]`; None: sums are opened as they are.
        window_rounds: W.
        deadlines: As in a session's `[times]`; virtual seconds.
        trouble: Whatever else happens; see `fed_em_simulations.trouble`.
        costs: What messages and work cost in virtual time.
        optimiser: "em", "squarem" or "lbfgs"; None for what an estimator says, or a session's usual one.
        starts: How many starts are followed before the best goes on, as in a session's file; 0: one draw.
        start: Where to start instead, likewise: "labels", for the components of labelled rows (`Records.admissible`), or the folder of a
            fitted model.
        selection: Several models to pick one from, as in a session's `[selection]`; None: the one that is fitted.
        stream: Stepwise EM over minibatches, as in a session's `[stream]`; None: every sum is over all rows.
        standard_errors: Whether one more sum gives the fitted model standard errors (`outcome.model.errors`).
        bootstrap: How many replicates of the rows give them instead; None: none do.
        stopping: None for what an estimator says, or a session's usual one.
        max_iterations: In place of that of `stopping`.
        cipher: "real", or "costed": every cryptographic operation is replaced by its cost (`fed_em_simulations.costed_cipher`), which the
            outcome's record says; it admits more tenants than real federations have.
        engine: "memory", or "flower": the same tenants inside the ClientApps of Flower's simulation runtime (the extra `simulation`), in
            real time and with keys of chance. Trouble, costs and ciphers are the memory engine's alone.
        workers: Processes that play the tenants; 1: this one, which also plays the server. No byte depends on it.
        watchers: Told of everything, as by a real server.
        listener: Told of every opened sum, as an adversary reads it (`fed_em_simulations.attacks`); not under Flower.
        transcript: Where the session's transcript goes; None for none. One store holds one session.

    Raises:
        CallerError: a field is out of its range.
    """

    tables: Sequence[Any] | Mapping[str, Any] = field(repr=False)
    dropout: float = 0.0
    seed: int = 0
    names: Sequence[str] | None = None
    columns: Sequence[Column] | None = None
    title: str = "simulation"
    trust: Literal["malicious-server", "semi-honest"] = "malicious-server"
    row_cap: int | None = None
    colluders: int | None = None
    difference_guard: Literal["blocks", "off"] = "blocks"
    block_size: int | None = None
    minimum_survivors: int | None = None
    dropouts: float | None = None
    mass_floor: float = 0.0
    privacy: PrivacyTable | None = None
    window_rounds: int = 64
    deadlines: TimesTable = _DEADLINES
    trouble: Sequence[Trouble] = ()
    costs: CostModel = TYPICAL
    optimiser: Literal["em", "squarem", "lbfgs"] | None = None
    starts: int | None = None
    start: str | None = None
    selection: Selection | None = None
    stream: Stream | None = None
    standard_errors: bool = False
    bootstrap: int | None = None
    stopping: Stopping | None = None
    max_iterations: int | None = None
    cipher: Literal["real", "costed"] = "real"
    engine: Literal["memory", "flower"] = "memory"
    workers: int = 1
    watchers: Sequence[Watcher] = ()
    listener: Listener | None = None
    transcript: TranscriptStore | None = None

    def __post_init__(self) -> None:
        check_whole_number("seed", self.seed, 0)
        check_real("dropout", self.dropout, 0.0)
        check_whole_number("workers", self.workers, 1)
        if self.dropout >= 1:
            raise CallerError(f"dropout = {self.dropout} leaves nobody", remedy="give a probability below 1")
        if isinstance(self.tables, Mapping) and self.names is not None:
            raise CallerError("tables by name have their names already", remedy="leave `names` out")
        if self.names is not None and len(self.names) != len(self.tables):
            raise CallerError(f"{len(self.names)} names do not belong to {len(self.tables)} tables")
        if self.cipher not in ("real", "costed"):
            raise CallerError(f"no cipher '{self.cipher}'", remedy='"real" or "costed"')
        if self.engine not in ("memory", "flower"):
            raise CallerError(f"no engine '{self.engine}'", remedy='"memory" or "flower"')
        if self.engine == "flower":
            self._check_flower()
        most = MAX_TENANTS if self.cipher == "real" else MOST_TENANTS
        if not MIN_TENANTS <= len(self.tables) <= most:
            raise CallerError(
                f"a federation of {len(self.tables)} tenants cannot sum",
                remedy=f'give {MIN_TENANTS} to {most} tables; more than {MAX_TENANTS} take cipher = "costed"',
            )
        if self.listener is not None:
            require_no_crash(self.trouble, "a listener")
        if self.optimiser is not None:
            check_optimiser(self.optimiser)
        if self.starts is not None:
            check_whole_number("starts", self.starts, 0)
        if self.max_iterations is not None:
            check_whole_number("max_iterations", self.max_iterations, 1)
        _ = self.trust_table

    def _check_flower(self) -> None:
        usual: dict[str, object] = {
            "dropout": 0.0,
            "trouble": (),
            "costs": TYPICAL,
            "cipher": "real",
            "workers": 1,
            "watchers": (),
            "listener": None,
            "transcript": None,
        }
        for name, value in usual.items():
            if getattr(self, name) != value:
                raise CallerError(
                    f"{name} is a matter of the memory engine alone", remedy=f"leave {name} out under Flower"
                )

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants' names, in roster order."""
        if isinstance(self.tables, Mapping):
            return tuple(str(name) for name in self.tables)
        return tuple(f"t{k}" for k in range(len(self.tables))) if self.names is None else tuple(self.names)

    @property
    def trust_table(self) -> TrustTable:
        """The trust as a session's file would state it. Raises `CallerError` if none could."""
        try:
            return TrustTable(
                mode=self.trust,
                colluders=self.colluders,
                minimum_survivors=self.minimum_survivors,
                difference_guard=self.difference_guard,
                mass_floor=self.mass_floor,
                dropouts=self.dropouts,
                window_rounds=self.window_rounds,
            )
        except ValidationError as error:
            raise CallerError(f"a federation's trust: {complaint_of(error)}") from None

    def fit(self, target: Target) -> FederationOutcome:
        """Run one session.

        Args:
            target: An estimator or a model; see `fed_em_simulations.session_of_tables`.

        Returns:
            What it came to, also if it came to no model.

        Raises:
            CallerError: tables or target do not suit a session, or each other.
        """
        tables = list(self.tables.values()) if isinstance(self.tables, Mapping) else self.tables
        about = session_of_tables(target, self.tenants, tables, self.columns, self.title)
        if self.engine == "flower":
            if isinstance(target, StartingModel):
                raise CallerError(
                    f"Flower's processes know no family '{target.family}'", remedy='fit it with engine = "memory"'
                )
            return fit_under_flower(
                self._configuration(about), self.tenants, about, self._row_cap(about), self._block_size
            )
        parties = self._parties(about)
        return _Run(self, about, parties, self._plan(about, parties)).outcome()

    def measure(self, models: Sequence[FittedModel], edges: ReferenceEdges | None = None) -> Measurement:
        """Measure one fitted model over the tables, or two side by side, in a session of its own.

        Args:
            models: Over the tables' columns; these are read off the tables where they are not declared.
            edges: Of the reference; by default those that follow from the first model.

        Raises:
            SumFailed: no sum could be opened; tells why.
            CallerError: tables or models do not suit a session, or each other; or the engine is not the memory one.
        """
        if self.engine != "memory":
            raise CallerError("measurements are simulated by the memory engine alone", remedy='set engine = "memory"')
        require_no_crash(self.trouble, "a measurement")
        if not models:
            raise CallerError("there is no model to measure", remedy="give one, or two to be compared")
        tables = list(self.tables.values()) if isinstance(self.tables, Mapping) else self.tables
        target = models[0].model
        about = session_of_tables(target, self.tenants, tables, self.columns, self.title)  # type: ignore[arg-type]
        parties = self._parties(about)
        cut = edges_of(models[0], private=self.privacy is not None) if edges is None else edges
        server = parties.identity(SERVER)
        plan, asked = measuring_plan(self._configuration(about), models, cut, parties.roster, server, "memory")
        return _Run(self, about, parties, self._as_simulated(plan, parties)).measurement(asked)

    def _row_cap(self, about: SessionOfTables) -> int:
        largest = max(len(records) for records in about.records)
        cap = largest if self.row_cap is None else self.row_cap
        if cap < largest:
            raise CallerError(f"a table has {largest} rows, more than row_cap = {cap}", remedy="raise it")
        return cap

    @property
    def _block_size(self) -> int:
        usual = default_block_size(len(self.tables)) if self.colluders is None else self.colluders + 2
        return usual if self.block_size is None else self.block_size

    def _parties(self, about: SessionOfTables) -> SimulatedParties:
        caps = [self._row_cap(about)] * len(self.tables)
        try:
            return SimulatedParties.of("simulation", self.tenants, caps, self._block_size, self.seed)
        except ValidationError as error:
            raise CallerError(f"these names make no roster: {complaint_of(error)}") from None

    def _stopping(self, about: SessionOfTables) -> Stopping:
        usual = PRIVATE_STOPPING if self.privacy else about.stopping or FitTable().stopping
        stopping = self.stopping or usual
        return stopping if self.max_iterations is None else replace(stopping, max_iterations=self.max_iterations)

    def _optimiser(self, about: SessionOfTables) -> str:
        if self.privacy is not None:
            return self.optimiser or EM
        plain = self.stream is not None or not can_leap(about.description.fitted_model)
        return self.optimiser or (EM if plain else about.optimiser or L_BFGS)

    def _configuration(self, about: SessionOfTables) -> ServerConfiguration:
        """The same session as a server's file has it."""
        stopping = self._stopping(about)
        fit = {
            "max_iterations": stopping.max_iterations,
            "seed": self.seed,
            "optimiser": self._optimiser(about),
            "starts": self.starts,
            "start": self.start,
            "standard_errors": self.standard_errors,
            "bootstrap": self.bootstrap,
            "least_weight": about.final.least_weight,
            "least_distance": about.final.least_distance,
        }
        if self.stream is None:
            fit["tolerance"] = stopping.tolerance
        described = about.description.model_dump(exclude_none=True)
        if not isinstance(about.description.fitted_model, StartingModel):
            described["model"] = {**described["model"], "prior": described["model"].get("prior") or NONE}
        if self.selection is not None:
            # What it names is in place of the estimator's own.
            named = {"n_components"} | ({"covariance"} if self.selection.covariances else set())
            described["model"] = {name: said for name, said in described["model"].items() if name not in named}
        try:
            return ServerConfiguration(
                **described,
                listen="127.0.0.1:0",
                selection=self.selection,
                stream=self.stream,
                privacy=self.privacy,
                trust=self.trust_table,
                fit=FitTable.model_validate(fit),
                times=self.deadlines,
            )
        except ValidationError as error:
            raise CallerError(f"a federation's session: {complaint_of(error)}") from None

    def _plan(self, about: SessionOfTables, parties: SimulatedParties) -> SessionPlan:
        plan = plan_session(self._configuration(about), parties.roster, parties.identity(SERVER), "memory")
        return self._as_simulated(plan, parties)

    def _as_simulated(self, plan: SessionPlan, parties: SimulatedParties) -> SessionPlan:
        suite = SEEDED_SUITE if self.cipher == "real" else COSTED_SUITE
        return replace(plan, terms=replace(plan.terms, session=parties.session, suite=suite))


class _Run:
    """One session of a federation."""

    def __init__(
        self, federation: Federation, about: SessionOfTables, parties: SimulatedParties, plan: SessionPlan
    ) -> None:
        self._federation = federation
        self._about = about
        self._parties = parties
        self._plan = plan
        self._server = Measure()
        self._amounts: tuple[int, ...] = ()
        self._done = NO_WORK

    def outcome(self) -> FederationOutcome:
        """Run it."""
        with self._staged() as (hub, memory):
            return self._summary(hub, memory, *self._session(hub, memory))

    def measurement(self, asked: Broadcast) -> Measurement:
        """Run it, where it measures. Raises as `run_measuring`."""
        with self._staged() as (hub, memory):
            watchers = Watchers([memory, *self._federation.watchers])
            return run_measuring(self._plan, asked, hub, watchers, self._summing, self._federation.transcript)

    @contextmanager
    def _staged(self) -> Iterator[tuple[MemoryHub, SessionMemory]]:
        """All tenants, and who remembers."""
        with ExitStack() as stack:
            stack.enter_context(admitted(self._plan.terms.suite))
            if self._federation.cipher == "costed":
                stack.enter_context(costed_cipher())
            # Workers are forks: what is counted and shared here would be so twice there.
            host = self._host(stack)
            stack.enter_context(few_collections())
            if self._federation.workers == 1:  # a server that plays no tenant is sent nothing twice
                stack.enter_context(shared_reading())
            stack.enter_context(counted_work())
            stack.enter_context(measured(self._server))
            prices = self._federation.costs.of_federation(self._plan.roster.n, self._federation.seed)
            mischiefs = Mischiefs()
            hub = MemoryHub(host, prices, mischiefs, self._served)
            mischiefs.mischiefs = self._mischiefs(hub)
            yield hub, SessionMemory(hub.now, mischiefs.noticed)

    def _served(self) -> Work:
        """What the server has done. Asked for at every message, several times: the same record until there is more."""
        amounts = tuple(vars(self._server).values())
        if amounts != self._amounts:
            self._amounts, self._done = amounts, self._server.total
        return self._done

    def _mischiefs(self, hub: MemoryHub) -> list[Mischief]:
        federation, roster = self._federation, self._plan.roster
        dropout = [Dropout(federation.dropout)] if federation.dropout else []
        troubles = (*dropout, *federation.trouble)
        return [
            each.begin(Scene(hub, roster, self._plan.identity, federation.seed, number))
            for number, each in enumerate(troubles)
        ]

    def _session(self, hub: MemoryHub, memory: SessionMemory) -> tuple[SessionOutcome | None, str]:
        """What it gave, or why it gave nothing."""
        watchers = Watchers([memory, *self._federation.watchers])
        try:
            finished = self._finished(hub, watchers)
        except FedEmError as error:
            # What is wrong with the caller's own fields comes to light before there is any sum.
            if isinstance(error, CallerError) and not memory.record.rounds:
                raise
            return None, error.diagnostics()
        finally:
            memory.finished()
        return finished, ""

    def _finished(self, hub: MemoryHub, watchers: Watcher) -> SessionOutcome:
        transcript = self._federation.transcript
        if crashes(self._federation.trouble):
            return run_with_crashes(self._plan, hub, watchers, transcript)
        return run_session(self._plan, hub, watchers, self._summing, transcript)

    @property
    def _summing(self) -> Summing:
        listener = self._federation.listener
        return FederatedSum if listener is None else partial(OverheardSum, listener, self._plan.description)

    def _host(self, stack: ExitStack) -> tuple[TenantHost, int]:
        starts, workers = [self._start(index) for index in range(self._plan.roster.n)], self._federation.workers
        host: TenantHost = LocalTenants(starts) if workers == 1 else TenantShards(starts, workers)
        stack.callback(host.close)
        return host, len(starts)

    def _start(self, index: int) -> Callable[[], TenantSession]:
        roster, terms = self._plan.roster, self._plan.terms
        name, marks, budget, lives = roster.tenants[index].name, VolatileMarks(), PrivacyAccount(), 0
        policy = TermsPolicy(
            allow_semi_honest=terms.trust == Trust.SEMI_HONEST,
            colluders=terms.colluders,
            round_cap=terms.round_cap,
            difference_guard=terms.blocks > 0,
            mass_floor=terms.mass_floor / 1000,
        )
        me = TenantSelf(roster, index, self._parties.identity(name), policy, "simulated")

        troubles = self._federation.trouble
        kinds = [kind for kind in (each.session_of(index) for each in troubles) if kind is not None]
        if len(kinds) > 1:
            raise CallerError(f"two troubles say how '{name}' lies", remedy="let each tenant lie about one thing")
        session_kind = kinds[0] if kinds else TenantSession

        def start() -> TenantSession:
            nonlocal lives
            lives += 1
            noise = self._parties.randomness(f"{name}/noise", lives)
            work: TenantWork = RecordsWork(self._about.records[index], roster, index, marks, budget, noise)
            for each in troubles:
                work = each.work_of(index, work)
            return session_kind(me, work, marks, self._parties.randomness(name, lives))

        return start

    def _summary(
        self, hub: MemoryHub, memory: SessionMemory, finished: SessionOutcome | None, failure: str
    ) -> FederationOutcome:
        names = self._federation.tenants
        traffic = [hub.traffic_of(index) for index in range(len(names))]
        errors = {name: hub.error_of(index) for index, name in enumerate(names)}
        record = memory.record if finished is None else finished.record
        warnings = (WARNING, *record.warnings) if self._federation.cipher == "costed" else record.warnings
        return FederationOutcome(
            record=record.model_copy(update={"started": _STARTED, "warnings": warnings}),
            terms=self._plan.terms,
            failure=failure,
            seconds=sum(memory.seconds.values()),
            seconds_to_last_sum=memory.seconds_to_last_sum,
            seconds_by_phase=memory.seconds,
            bytes_up=tuple(up for up, _ in traffic),
            bytes_down=tuple(down for _, down in traffic),
            tenant_work=hub.tenants_work(),
            server_work=self._server.total,
            accusations=(
                *memory.accusations,
                *(
                    Accusation(name, error.peer, error.fault, error.proves)
                    for name, error in errors.items()
                    if isinstance(error, PeerFault)
                ),
            ),
            left={
                name: error.message
                for name, error in errors.items()
                if error is not None and not isinstance(error, PeerFault)
            },
            result=None if finished is None else finished.result,
            fitted=None if finished is None else finished.fitted,
            roster=self._plan.roster,
        )
