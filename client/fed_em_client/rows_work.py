"""A tenant's own work in a session: its rows, and the encoded statistics of them that a round asks for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.ball import into_ball
from fed_em.broadcast import Broadcast
from fed_em.candidates import Candidates
from fed_em.component_counts import LEAST_ROWS, MASS, component_counts
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.imputed_reach import records_beyond_reach
from fed_em.measured_models import MeasuredModels
from fed_em.model import ComponentModel, CountedSummand, Summand
from fed_em.moderate import require_moderate
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.resampling import Resampled
from fed_em.silence import silence
from fed_em.statistic_products import StatisticProducts
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import at_home, has_own_weights
from fed_em_client.configuration import PolicyTable
from fed_em_client.fingerprint import MIXED, fingerprint_of
from fed_em_client.growing_rows import GrowingRows
from fed_em_client.measured_sessions import MeasuredSessions
from fed_em_client.policy_checks import check_description
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.remote_shards import RemoteRecords, RemoteShards, require_for_shards
from fed_em_client.rows import LeftOut, read_records
from fed_em_client.sharded_sums import ShardedSums
from fed_em_protocols.clock import time_of_day
from fed_em_protocols.description import (
    REPLICATE_ROUNDS,
    SessionDescription,
    counts_encoding_of,
    encoding_of,
    require_gateable,
)
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import IllegalStep, TermsRefused
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.masks import RingVector
from fed_em_protocols.mass_gate import held_components, held_from_bitmap, held_to_bitmap, least_supporters
from fed_em_protocols.messages import Mode
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.privacy.noise import noise_of, without_silent
from fed_em_protocols.roster import Roster
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.window import Randomness


class WorkMarks(Protocol):
    """What a tenant remembers of the work that it takes part in a session with; see `fed_em_client.round_marks`."""

    def work(self, session: bytes) -> bytes | None:
        """The fingerprint recorded for a session; None if there is none."""
        ...

    def record_work(self, session: bytes, fingerprint: bytes) -> None:
        """Record a fingerprint durably before returning, in place of an earlier one."""
        ...


class _OwnMemory:
    """Marks that last as long as the work does."""

    def __init__(self) -> None:
        self._works: dict[bytes, bytes] = {}

    def work(self, session: bytes) -> bytes | None:
        return self._works.get(session)

    def record_work(self, session: bytes, fingerprint: bytes) -> None:
        self._works[session] = fingerprint


@dataclass(frozen=True)
class _Session:
    """A session that this tenant's rows fit."""

    offered: tuple[bytes, int]
    description: SessionDescription
    records: Records | RemoteRecords = field(repr=False)


@dataclass(frozen=True)
class _Setting:
    """What stays the same from round to round: all but the parameters.

    Attributes:
        asked: What is asked for.
        model: What is evaluated: the same, but that replicates are drawn by this tenant's own key.
        coordinates: The coordinates of its E-step.
        moments: Whether it is the first round's, whose moments standardise the columns.
        candidates: Whether it is of several models side by side, before the session has one.
        encoding: The encoding of its statistics.
        column_bounds: The largest |x_d| that its columns admit there, `(D,)`.
        records: The records in those coordinates; without labels, which are of components, for the moments.
    """

    asked: Summand
    model: Summand
    coordinates: Coordinates
    moments: bool
    candidates: bool
    encoding: Encoding
    column_bounds: NDArray[np.float64]
    records: Records | RemoteRecords = field(repr=False)

    @property
    def replicates(self) -> bool:
        """Whether it is of the replicates of a bootstrap."""
        return isinstance(self.asked, Candidates) and self.asked.resampled is not None

    def serves(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast differs in its parameters only."""
        return broadcast.coordinates == self.coordinates and broadcast.model.describe() == self.asked.describe()


@dataclass(frozen=True)
class _Counting:
    """The last round of counts: what a gate follows from, and binds.

    Attributes:
        parameters: The broadcast that was counted at.
        encoding: Of the counts.
        mass_floor, least_tenants: Of the rule.
    """

    parameters: bytes = field(repr=False)
    encoding: Encoding
    mass_floor: int
    least_tenants: int


@dataclass(frozen=True)
class _Batch:
    """The minibatch that was evaluated last, by its number, and at which parameters."""

    number: int
    parameters: bytes = field(repr=False)


class RowsWork:
    """The work behind a tenant's session. Implements `fed_em_client.tenant_session.TenantWork`.

    Args:
        data: File with the rows, folder of such files, or several of either; read once a session, before joining it.
        columns: Session column to data column, where the names differ.
        roster: The pinned roster.
        index: This tenant's place in it.
        marks: What outlives the process; without them, nothing does.
        workers: Processes that sum the rows.
        secret: What minibatches, held-out rows and the counts of a bootstrap are drawn from, the same whenever this tenant starts; by
            default one that lasts as long as this object.
        budget: What sessions may spend of its rows' privacy; by default anything, counted for as long as this object lasts.
        randomness: Secret uniform bytes, for the noise of private sessions.
        policy: What a session may be about.
        fresh: As `data`, for sessions that measure; by default what is fitted to.
        shards: Who holds the rows, in place of `data`.
        measured: What sessions have measured models over the rows; by default none, remembered for as long as this object lasts.
        growing: Whether rounds of a stream take up rows that were appended (`fed_em_client.growing_rows`).
        report: Told, for this tenant's own eyes, of these, and of rows that count for nothing in a private session.
    """

    def __init__(
        self,
        data: Path | Sequence[Path],
        columns: Mapping[str, str],
        roster: Roster,
        index: int,
        marks: WorkMarks | None = None,
        workers: int = 1,
        secret: bytes = b"",
        budget: PrivacyAccount | None = None,
        randomness: Randomness = secrets.token_bytes,
        policy: PolicyTable | None = None,
        fresh: Path | Sequence[Path] | None = None,
        shards: RemoteShards | None = None,
        measured: MeasuredSessions | None = None,
        growing: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._growing = GrowingRows(data, report) if growing else None
        self._fresh = fresh
        self._report = report
        self._shards = shards
        self._budget = PrivacyAccount() if budget is None else budget
        self._randomness = randomness
        self._policy = PolicyTable() if policy is None else policy
        self._measured = MeasuredSessions(self._policy.measuring, time_of_day) if measured is None else measured
        self._secret = secret or secrets.token_bytes(KEY_BYTES)
        self._data = data
        self._columns = dict(columns)
        self._roster = roster
        self._index = index
        self._marks = _OwnMemory() if marks is None else marks
        self._sums = ShardedSums(workers)
        self._number: bytes | None = None
        self._session: _Session | None = None
        self._setting: _Setting | None = None
        self._coordinates: Coordinates | None = None
        self._picked: Summand | None = None
        self._counting: _Counting | None = None
        self._products_at: bytes | None = None
        self._first_of_replicates: int | None = None
        self._batch: _Batch | None = None
        self._first_process = True
        self._last_noised = 0

    def prepare(self, description: bytes, mass_floor: int) -> None:
        """Read the rows and check them against a session's description (JSON). The same offer again costs nothing.

        Args:
            description: As the terms name it.
            mass_floor: Of the terms, in thousandths of a record; 0: no gate.

        Raises:
            TermsRefused: the policy does not admit what the session is about.
            CallerError: the description is not valid or does not suit a mass gate, or the rows do not fit it, or are too few for
                the batches of a stream or to hold some out.
            EnvironmentFault: the data file cannot be read.
        """
        if self._session is not None and self._session.offered == (description, mass_floor):
            return
        parsed = SessionDescription.from_json(description)
        check_description(self._policy, parsed)
        require_gateable(parsed, mass_floor)
        if self._shards is not None:
            require_for_shards(parsed, mass_floor)
        if parsed.privacy is not None:
            parsed.privacy.require_kept()
        if self._growing is not None:
            self._growing.began()
        records = self.read(parsed)
        _require_batches(parsed, len(records))
        _require_held_out(parsed, len(records))
        self._session = _Session((description, mass_floor), parsed, records)
        self._forget_rounds()

    @property
    def components_asked(self) -> int:
        """How many components, of all candidates together, the last request was about; raises `IllegalStep` before the first."""
        if self._setting is None:
            raise IllegalStep("nothing was asked")
        model = self._setting.model
        models = model.models if isinstance(model, Candidates) else (model,)
        return sum(getattr(each, "n_components", 1) for each in models)

    def read(self, description: SessionDescription) -> Records | RemoteRecords:
        """The records that a session is about. Raises as `fed_em_client.rows.read_records`, and as `RemoteShards.read`."""
        row_cap = self._roster.row_caps[self._index]
        fresh = self._fresh if description.measured is not None else None
        if self._shards is not None and fresh is None:
            return self._shards.read(description, self._columns, row_cap)
        left_out = LeftOut()
        data = self._data if fresh is None else fresh
        records = read_records(data, description, self._columns, row_cap, left_out)
        if left_out.in_words:
            self._report(left_out.in_words)
        return records

    @property
    def description(self) -> SessionDescription:
        """The session that was prepared for. Raises `IllegalStep` before the first."""
        return self._prepared().description

    def changed(self, session: bytes) -> bool:
        """Whether rows or code changed since an earlier process of this tenant took part in the session with this number.

        Once they have, the answer is yes for the rest of the session: which of them the server's running total holds is
        known only after a round that this process need not live to see. In a private session no total holds any, and the answer is no,
        as no noise hides it.

        What the session may cost is reserved here, before anything is answered.

        Raises:
            TermsRefused: it may cost more than this tenant has left, or has none of the privacy that this tenant requires, or measures
                more than its policy admits in a period, or, without noise, other rows than when it was first joined.
        """
        if session != self._number:
            self._number = session
            self._first_process = self._marks.work(session) is None
            self._forget_rounds()
        prepared = self._prepared()
        privacy, measures = prepared.description.privacy, prepared.description.measured
        names = prepared.description.file_columns
        records = prepared.records
        now = records.fingerprint if isinstance(records, RemoteRecords) else fingerprint_of(records, names)
        before = self._marks.work(session)
        changed = before not in {None, now}
        if measures is not None:
            if (
                changed and privacy is None
            ):  # a number that is used again would measure them as often as rows come, and count once
                raise TermsRefused(
                    f"the rows or the code are not those that session {session.hex()} was first joined with, and it measures once",
                    remedy="ask the server's operator for another measurement",
                    rule=PolicyRule.MEASURING,
                )
            self._measured.admit(session, measures.point)
        self._budget.reserve(session, None if privacy is None else privacy.spend)
        self._marks.record_work(session, MIXED if changed else now)
        return changed and privacy is None

    def end(self, session: bytes) -> None:
        """Give back what was reserved for a session that its server has ended, and was not charged."""
        self._budget.release(session)

    def evaluate(self, asked: Evaluate) -> RingVector:
        """The encoded statistics of the rows, or their counts, at the parameters that the server asks for.

        Raises:
            CallerError: the session or its mass gate does not admit the request, both sides derive different encodings, or
                the statistics cannot be computed or are beyond their bounds.
        """
        if asked.mode == Mode.COUNTS:
            self._counting = None
        broadcast = Broadcast.from_bytes(asked.parameters, f"the server's request of round {asked.round}")
        setting = self._grown(self._setting_of(broadcast), broadcast)
        description = self._prepared().description
        _require_sound(
            asked,
            description.stream is not None,
            setting.candidates and description.takes_whole_vectors(setting.asked),
            description.privacy is not None,
        )
        if setting.candidates and asked.round > description.last_candidate_round:
            raise _not_agreed(asked, f"candidates later than in round {description.last_candidate_round}")
        if setting.replicates:
            self._require_few_replicates(asked)
        if isinstance(setting.model, StatisticProducts | MeasuredModels):
            self._require_one_point(asked)
        radius = description.radius_of(setting.model, setting.coordinates)
        if radius is not None:
            require_moderate(setting.model, broadcast.parameters, radius)
        of_asked = self._counted if asked.mode == Mode.COUNTS else self._summed
        try:
            encoding, statistics = of_asked(asked, setting, broadcast.parameters)
        except (CallerError, EnvironmentFault):
            raise
        except FedEmError as error:
            raise CallerError(f"round {asked.round}: {error.message}", remedy=error.remedy) from error
        privacy = description.privacy
        return (
            encoding.encode(statistics, self._index) if privacy is None else self._noised(asked, encoding, statistics)
        )

    def _noised(self, asked: Evaluate, encoding: Encoding, statistics: Statistics) -> RingVector:
        """The encoded statistics and this tenant's share of the noise, paid for before anybody sees them."""
        privacy = self._prepared().description.privacy
        assert privacy is not None
        if asked.round <= self._last_noised:
            raise _not_agreed(asked, "a round again, which would have other noise")
        noise = noise_of(encoding, privacy, asked.minimum_survivors - asked.colluders)
        vector = encoding.encode(without_silent(statistics), self._index)
        self._budget.charge(self._number or b"", asked.round)
        self._last_noised = asked.round
        return noise.added(vector, self._randomness)

    def held(self, counts: RingVector) -> bytes:
        """Bitmap of the components that stay shut by the mass gate's rule, from the opened sum of the counts last asked for.

        Empty, which fits no gate, if they were not admissible or some tenant could not count: nothing opens behind them.
        """
        rule = self._counting
        if rule is None or rule.encoding.ring.faults_in(counts):
            return b""
        summed = rule.encoding.decode(counts)
        return held_to_bitmap(held_components(summed, rule.mass_floor, rule.least_tenants), len(summed[MASS]))

    def at_home(self, final: Broadcast) -> Broadcast | None:
        """A session's final model with the mixing weights of this tenant's own rows; None if all tenants share theirs.

        Raises:
            FedEmError: a row has no density at its parameters.
        """
        if not has_own_weights(final.model):
            return None
        records = _held_here(self._prepared().records)
        there = replace(records, rows=final.coordinates.apply(records.rows))
        return replace(final, parameters=at_home(final.model, final.parameters, there))

    def _forget_rounds(self) -> None:
        self._setting, self._coordinates, self._picked = None, None, None
        self._counting, self._products_at, self._first_of_replicates = None, None, None
        self._batch = None
        self._last_noised = 0

    def _prepared(self) -> _Session:
        if self._session is None:
            raise IllegalStep("no session was prepared")
        return self._session

    def _setting_of(self, broadcast: Broadcast) -> _Setting:
        session = self._prepared()
        if self._setting is None or not self._setting.serves(broadcast):
            moments = session.description.asks_for_moments(broadcast) and self._coordinates is None
            candidates = session.description.asks_for_candidates(broadcast)
            if not moments:
                self._require_the_model(session.description, broadcast, candidates)
            encoding = encoding_of(session.description, broadcast, self._roster.row_caps)
            bounds = broadcast.coordinates.bounds(session.description.low, session.description.high)
            records = _placed(session, broadcast, moments)
            self._setting = _Setting(
                broadcast.model,
                self._with_own_key(broadcast.model),
                broadcast.coordinates,
                moments,
                candidates,
                encoding,
                bounds,
                records,
            )
        return self._setting

    def _grown(self, setting: _Setting, broadcast: Broadcast) -> _Setting:
        """With the rows that came since the last round, in a stream's rounds of the model."""
        session = self._prepared()
        if self._growing is None or session.description.stream is None or setting.moments or setting.candidates:
            return setting
        records = self._growing.taken_up(
            _held_here(session.records), lambda: _held_here(self.read(session.description))
        )
        if records is not session.records:
            self._session = session = replace(session, records=records)
            self._setting = setting = replace(setting, records=_placed(session, broadcast, moments=False))
        return setting

    def _require_the_model(self, description: SessionDescription, broadcast: Broadcast, candidates: bool) -> None:
        """Moments first, then the session's candidates, its model or tracks of it, and its products, in one system of coordinates, or
        the one point of a measurement: nothing else is ever answered.
        """
        if not (
            candidates
            or description.asks_for_the_model(broadcast)
            or description.asks_for_tracks(broadcast)
            or description.asks_for_standard_errors(broadcast)
            or description.asks_for_replicates(broadcast)
            or description.asks_to_measure(broadcast)
        ):
            raise CallerError(
                f"the server asks for a model that session '{description.title}' is not about, or for its moments again",
                remedy="ask the server's operator; this tenant answers for the agreed model only",
            )
        of = None if candidates else _one_model_of(broadcast.model)
        if of is not None and self._picked is not None and not description.may_go_on(self._picked, of):
            raise CallerError(
                f"the server asks for another model than the one that it picked in session '{description.title}'",
                remedy="ask the server's operator; once a model is picked, this tenant answers for that one only",
            )
        if self._coordinates is not None and self._coordinates != broadcast.coordinates:
            raise CallerError(
                f"the server changed the coordinates in the middle of session '{description.title}'",
                remedy="ask the server's operator; coordinates are fixed by the session's first round",
            )
        self._coordinates = broadcast.coordinates
        self._picked = of or self._picked

    def _with_own_key(self, model: Summand) -> Summand:
        """Candidates by draws that nobody else knows: they follow from this tenant's secret and the session."""
        if not isinstance(model, Candidates):
            return model
        if model.held_out is not None:
            return replace(model, held_out=replace(model.held_out, key=self._own_key("held-out rows")))
        return (
            model if model.resampled is None else replace(model, resampled=Resampled(self._own_key("resampled rows")))
        )

    def _own_key(self, label: str) -> bytes:
        """Of one session and purpose. Were draws known, sums at one θ were known combinations of rows, and enough of them every row.

        And of what the session is: were they the same for two shares of held-out rows, or numbers of batches, that a server describes under
        one session's number, their sums would differ by few rows, or one.
        """
        described = hashlib.sha256(self._prepared().offered[0]).digest()
        return derive(label, self._secret, KEY_BYTES, self._number or b"", described)

    def _require_one_point(self, asked: Evaluate) -> None:
        """Products for standard errors, and measurements, are given whole, and at one point, however often it is asked for."""
        if asked.mode == Mode.INCREMENT:
            raise _not_agreed(asked, "an increment of what standard errors, or a measurement, follow from")
        if self._products_at not in (None, asked.parameters):
            raise _not_agreed(asked, "standard errors, or a measurement, at a second point of the parameters")
        self._products_at = asked.parameters

    def _require_few_replicates(self, asked: Evaluate) -> None:
        """A round of R replicates is worth R of the model to a server that is after more than the fit, as is one of candidates."""
        first = self._first_of_replicates
        self._first_of_replicates = first = asked.round if first is None else min(first, asked.round)
        if asked.round >= first + REPLICATE_ROUNDS:
            raise _not_agreed(asked, f"replicates in more than {REPLICATE_ROUNDS} rounds")

    def _counted(self, asked: Evaluate, setting: _Setting, parameters: Parameters) -> tuple[Encoding, Statistics]:
        """How much each component holds."""
        privacy = self._prepared().description.privacy
        encoding = counts_encoding_of(setting.model, self._roster.row_caps, privacy)
        _check_same_encoding(encoding, asked)
        supporters = least_supporters(asked.colluders, privacy is not None)
        self._counting = _Counting(asked.parameters, encoding, asked.mass_floor, supporters)
        records = _held_here(setting.records)
        own = at_home(setting.model, parameters, records)
        return encoding, component_counts(_counted_of(setting.model), own, records, encoding.layout)

    def _summed(self, asked: Evaluate, setting: _Setting, parameters: Parameters) -> tuple[Encoding, Statistics]:
        """The statistics, without the moments of held components."""
        _check_same_encoding(setting.encoding, asked)
        held = self._held_by(asked, setting)
        records = self._records_of(asked, setting)
        layout = setting.encoding.layout
        if isinstance(records, RemoteRecords):
            statistics = records.e_step(setting.model, parameters, layout)
        else:
            statistics = self._sums.e_step(setting.model, parameters, records, layout)
        # Behind the E-step: whoever is at fault answers no sooner than others.
        self._require_within_reach(setting, parameters, records)
        if held:
            statistics = silence(_components_of(setting.model), statistics, held)
        return setting.encoding, statistics

    def _records_of(self, asked: Evaluate, setting: _Setting) -> Records | RemoteRecords:
        """The records that a round is over: all, or in a stream's rounds of the model this tenant's next minibatch."""
        stream = self._prepared().description.stream
        if stream is None or setting.moments or setting.candidates:
            return setting.records
        minibatches = stream.minibatches(self._own_key("minibatches"))
        return _held_here(setting.records)[minibatches.rows_of(self._batch_of(asked).number, len(setting.records))]

    def _batch_of(self, asked: Evaluate) -> _Batch:
        """The minibatch of a round: the next, or, at the parameters of the round before, the same again.

        A round that failed, or whose server died, is asked for anew by another number, and its minibatch is not passed over. An earlier
        process of this tenant took fewer minibatches than there were rounds, so what follows the round's number is new.
        """
        if self._batch is None:
            self._batch = _Batch(0 if self._first_process else asked.round, asked.parameters)
        elif self._batch.parameters != asked.parameters:
            self._batch = _Batch(self._batch.number + 1, asked.parameters)
        return self._batch

    def _require_within_reach(
        self, setting: _Setting, parameters: Parameters, records: Records | RemoteRecords
    ) -> None:
        """Every record is to keep the bounds of the layout, also by what is expected of its missing cells."""
        bounds, layout = setting.column_bounds, setting.encoding.layout
        if isinstance(records, RemoteRecords):
            beyond = records.beyond_reach(setting.model, parameters, bounds, layout)
        else:
            beyond = records_beyond_reach(setting.model, parameters, records, bounds, layout)
        for d in np.flatnonzero(beyond):
            raise CallerError(
                f"at the server's parameters {beyond[d]} of {len(records)} rows expect their missing cell of column "
                f"'{self._prepared().description.names[d]}' beyond the reach of the session's encoding",
                remedy="ask the server's operator; a wider range of the column, or a prior on the covariances, gives more room",
            )

    def _held_by(self, asked: Evaluate, setting: _Setting) -> tuple[int, ...]:
        if not asked.held:
            return ()
        if self._counting is None or self._counting.parameters != asked.parameters:
            raise _not_agreed(asked, "moments at other parameters than those whose counts were taken")
        try:
            held = held_from_bitmap(asked.held, _counted_of(setting.model).n_components)
        except ValueError as error:
            raise _not_agreed(asked, f"moments behind {error}") from None
        if held and (setting.moments or isinstance(setting.model, MeasuredModels)):
            what = "the moments of the columns" if setting.moments else "a measurement"
            raise _not_agreed(asked, f"{what} behind counts of too few records or observed cells")
        return held


def _placed(session: _Session, broadcast: Broadcast, moments: bool) -> Records | RemoteRecords:
    """A session's records in the coordinates of a request, without labels for the moments; those of a private session in its ball."""
    description, coordinates = session.description, broadcast.coordinates
    radius = description.radius_of(broadcast.model, coordinates)
    if isinstance(session.records, RemoteRecords):
        return session.records.at(coordinates, not moments, radius)
    rows = coordinates.apply(session.records.rows)
    rows = rows if radius is None else into_ball(rows, radius, description.schema_of_columns)
    return replace(session.records, rows=rows, admissible=None if moments else session.records.admissible)


def _held_here(records: Records | RemoteRecords) -> Records:
    """Records that more is asked of than sums: `require_for_shards` has refused that of any others."""
    assert isinstance(records, Records)
    return records


def _one_model_of(summand: Summand) -> Summand:
    """The one model that products, replicates or tracks are of, or the model itself."""
    if isinstance(summand, StatisticProducts):
        return summand.model
    return summand.models[0] if isinstance(summand, Candidates) else summand


def _counted_of(model: Summand) -> CountedSummand:
    if not isinstance(model, CountedSummand):
        raise CallerError(f"a model of the family '{model.family}' has no components to count")
    return model


def _require_batches(description: SessionDescription, n: int) -> None:
    """In a stream a round's sum hides a tenant's rows of one batch, not all of its rows: there must be some to hide among."""
    stream = description.stream
    if stream is not None and stream.batches > 1 and n // stream.batches < LEAST_ROWS:
        raise CallerError(
            f"session '{description.title}' is a stream of {stream.batches} batches, and {n} rows leave fewer than {LEAST_ROWS} in one",
            remedy=f"ask the server's operator for fewer batches, or stay out below {LEAST_ROWS * stream.batches} rows",
        )


def _require_held_out(description: SessionDescription, n: int) -> None:
    """Scores are of held-out rows alone, and differences of sums as well: there must be some to hide among, and so of the others."""
    share = None if description.selection is None else description.selection.share
    if share is not None and min(share, 1 - share) * n < LEAST_ROWS:
        raise CallerError(
            f"session '{description.title}' holds out a share of {share:g}, and of {n} rows that leaves fewer than {LEAST_ROWS} held out, "
            "or to fit to",
            remedy="ask the server's operator for a share nearer to a half, or for a criterion without held-out rows",
        )


def _components_of(model: Summand) -> ComponentModel:
    if not isinstance(model, ComponentModel):
        raise CallerError(f"a model of the family '{model.family}' has no components to hold")
    return model


def _require_sound(asked: Evaluate, stream: bool, starts: bool, private: bool) -> None:
    """Refuse what the session's terms do not admit: with a mass gate each sum is two, counts and then moments.

    The rounds of a stream are over different rows, so its vectors are whole; so are those of starts, of which no total is kept, and of
    private sessions: what is computed again would have other noise.
    """
    counts, gated = asked.mode == Mode.COUNTS, asked.mass_floor > 0
    refusals = (
        (counts and not gated, "counts, in a session without a mass gate"),
        (asked.held and not gated, "moments behind a gate, in a session without one"),
        (counts and asked.held, "counts behind a gate"),
        (gated and not (counts or asked.held), "moments without the mass gate that the session's terms promise"),
        (gated and asked.mode == Mode.INCREMENT, "an increment, in a session with a mass gate"),
        (stream and asked.mode == Mode.INCREMENT, "an increment, in a stream"),
        (starts and asked.mode == Mode.INCREMENT, "an increment of candidates"),
        (private and (asked.recall or asked.mode == Mode.INCREMENT), "an increment, in a private session"),
    )
    for refused, what in refusals:
        if refused:
            raise _not_agreed(asked, what)


def _not_agreed(asked: Evaluate, what: str) -> CallerError:
    return CallerError(
        f"round {asked.round}: the server asks for {what}",
        remedy="ask the server's operator; this tenant answers for what the session's terms say only",
    )


def _check_same_encoding(encoding: Encoding, asked: Evaluate) -> None:
    if (encoding.digest, encoding.length, encoding.ring.bits) != (asked.encoding, asked.length, asked.ring):
        raise CallerError(
            f"round {asked.round}: the server and this tenant derive different encodings of the same statistics "
            f"(the server's has {asked.length} integers, this tenant's {encoding.length})",
            remedy="run the same version of fed-em on both sides; `fed-em doctor` shows it",
        )
