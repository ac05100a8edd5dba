"""The record of a session: what happened in every round, as the report and the live view show it.

It holds sums, names and timings: nothing that belongs to one tenant but whether it took part.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from fed_em.em import Step
from fed_em.errors import EnvironmentFault
from fed_em.whole_files import write_whole
from fed_em_client.durable_files import disk_trouble
from fed_em_protocols.configuration import Table
from fed_em_protocols.privacy.promise import Privacy
from fed_em_protocols.terms import Trust

RECORD_FILE = "record.json"


class Participation(Enum):
    """A tenant's part in one round."""

    SUMMED = "summed"
    """In the sum, and opened its own mask."""
    RECOVERED = "recovered"
    """In the sum, fell silent after its upload; its mask was taken off with shares that others held."""
    STALE = "stale"
    """Ready, but its block was not whole: its term of an earlier round stands, if there is one."""
    LATE = "late"
    """Asked, but its upload did not come before the cut-off; or not heard of since it missed one."""
    AWAY = "away"
    """Not linked, or waiting for the next window."""

    @property
    def in_sum(self) -> bool:
        """Whether the tenant's statistics at the round's own parameters are in the sum."""
        return self in {Participation.SUMMED, Participation.RECOVERED}


class RoundRecord(Table):
    """One opened round."""

    round: int
    iteration: Annotated[int, Field(ge=0)]
    """The EM iteration it served; 0 for what comes before: the moments that standardise the columns, and the starts."""
    start: Annotated[int, Field(ge=1)] | None = None
    """Which sum of the start it served; None for the others."""
    candidates: tuple[FiniteFloat | None, ...] = ()
    """The objective of each candidate at its parameters, nats a row; None for one that collapsed or is out. Empty where there is none."""
    left_out: Annotated[int, Field(ge=0)] = 0
    """How many candidates are out, as some tenant could not compute its statistics at some of them (`fed_em.start_sums`)."""
    counted: Annotated[int, Field(ge=1)] | None = None
    """The round of counts before it, that says which components it holds; None without a mass gate."""
    participation: tuple[Participation, ...]
    """By roster index."""
    bases: tuple[Annotated[int, Field(ge=0)], ...]
    """By roster index: the round whose parameters a tenant's term in the total was computed at; 0 if there is none."""
    held: tuple[int, ...] = ()
    """Components whose moments the mass gate kept shut."""
    projected: Annotated[int, Field(ge=0)] = 0
    """In how many components noise made the sum inadmissible, so that it was moved to where an M-step can use it."""
    seconds: float
    """From the last opened sum to this one: gathering, a window's set-up and failed attempts included."""
    bytes_up: int
    bytes_down: int
    """Bytes of messages to and from the server, all tenants together."""
    log_likelihood: float | None = None
    """Nats a row of standardised columns, each row's at the parameters its term belongs to; None for the moments and the starts. Of
    a round of models to pick from, that of the one that was picked in the end; None until then, or if it took no step."""
    objective: FiniteFloat | None = None
    """What the fit climbs (`fed_em.em.Iteration`), nats a row at the same parameters, the prior's part in it; None where there is no
    log-likelihood, of rounds of models to pick from, and in records of older versions."""
    records: FiniteFloat | None = None
    """How many records were summed, weights counted; None likewise."""
    weights: tuple[float, ...] = ()
    """Mixing weights after the M-step."""
    step: Step = Step.EM
    """What the optimiser had to do with the round."""
    fitted_together: tuple[FiniteFloat | None, ...] = ()
    """Of a round of models to pick from: the log-likelihood of each, as above; None of those that took no step."""
    picked: str = ""
    """Which model was picked by this round's sum, and why, in a sentence."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.bases) != len(self.participation) or max(self.bases, default=0) > self.round:
            raise ValueError("bases must be rounds up to this one, one for each tenant")
        return self

    @property
    def complete(self) -> bool:
        """Whether everybody is in the sum, at the round's own parameters."""
        return all(part.in_sum for part in self.participation)

    @property
    def summed(self) -> int:
        """How many tenants are in the sum at the round's own parameters."""
        return sum(part.in_sum for part in self.participation)

    @property
    def stale(self) -> int:
        """Of how many tenants a term of an earlier round stands."""
        return sum(0 < base < self.round for base in self.bases)

    @property
    def missing(self) -> int:
        """Of how many tenants there is no term."""
        return self.bases.count(0)

    @property
    def best_candidate(self) -> float | None:
        """The best of the candidates' objectives; None without candidates."""
        return max((objective for objective in self.candidates if objective is not None), default=None)

    @property
    def first_number(self) -> int:
        """The first of its round numbers: that of its counts, if it has any."""
        return self.counted or self.round


class ErrorRound(Table):
    """The sum after the fit that gave standard errors, or the sums of a bootstrap, or why there are none."""

    round: int = 0
    """The number of the last; 0 if none was opened."""
    sums: int = 1
    """How many there were."""
    replicates: int = 0
    """Of a bootstrap; 0 if the errors are from outer products of scores."""
    tenants: tuple[str, ...] = ()
    """Who is in the last."""
    records: float = 0.0
    """How many records it is of, weights counted."""
    shift: float = 0.0
    """How far the parameters are from the maximum of the likelihood of those records, in standard errors."""
    seconds: float
    bytes_up: int
    bytes_down: int
    failure: str = ""
    """Why there are no standard errors, in a sentence; empty if there are."""


class Happening(Table):
    """Something worth telling apart from the rounds: a window, a fault, a tenant that left or came back."""

    second: float
    round: int
    kind: str
    tenants: tuple[str, ...]
    text: str


class CandidateRecord(Table):
    """One of several models to pick from, at its fitted parameters."""

    model: str
    """In words."""
    components: int
    covariance: str | None = None
    """Its covariance structure; None if no column is Gaussian."""
    parameters: int
    """How many are free."""
    converged: bool
    criteria: dict[str, FiniteFloat]
    """By the names of `fed_em.criteria.CRITERIA`, of rows in standardised columns; empty if a component collapsed."""


class SelectionRecord(Table):
    """The pick of a session's model."""

    criterion: str
    held_out: float | None = None
    """The share of rows that was held out of the fits; None if none."""
    rows: float
    """How many the fits were of."""
    candidates: tuple[CandidateRecord, ...]
    picked: Annotated[int, Field(ge=0)]
    complete: bool
    """Whether the criteria are of all tenants' rows at the fitted parameters."""

    @model_validator(mode="after")
    def _one_is_picked(self) -> Self:
        if self.picked >= len(self.candidates) or self.criterion not in self.candidates[self.picked].criteria:
            raise ValueError("the picked model must be a candidate that the criterion is known of")
        return self


class Comparison(Table):
    """One line of the table that compares models by their held-out rows."""

    name: str
    rows: int
    """Rows it was trained on."""
    held_out_log_likelihood: float
    """Nats a row, in original units."""


class SessionRecord(Table):
    """A whole session."""

    title: str
    federation: str
    session: str
    started: str
    """ISO 8601, UTC."""
    transport: str
    trust: str
    banner: str
    """What a reader must know about the trust of this session, in one sentence."""
    warnings: tuple[str, ...] = ()
    """What the session's terms expose that others would not, a sentence each."""
    tenants: tuple[str, ...]
    blocks: tuple[Annotated[int, Field(ge=0)], ...]
    """By roster index: the tenant's block, numbered from 0; empty if the difference guard is off."""
    columns: tuple[str, ...]
    model: str
    """The model in words."""
    colluders: int
    minimum_survivors: int
    pause: float = 600.0
    """Seconds for which a session waits for tenants without whom there is no sum."""
    mass_floor: float = 0.0
    """The least mass of an opened component, in records; 0 without a gate."""
    privacy: Privacy | None = None
    """What noise in every sum promises; None if sums are opened as they are."""
    centres: bool = False
    """Whether candidates of the start are sets of centres: their objective is the mean square that they explain."""
    doubts: tuple[str, ...] = ()
    """Why noise may leave little of the fit, a sentence each."""
    stream: bool = False
    """Whether sums were of minibatches and averaged: then nothing converges, and log-likelihoods are of the newest batch."""
    tolerance: float | None = None
    """The gain of the objective below which the fit has converged, nats a row; None in records of older versions."""
    rounds: tuple[RoundRecord, ...] = ()
    happenings: tuple[Happening, ...] = ()
    standard_errors: ErrorRound | None = None
    """None if the session was to have none."""
    converged: bool = False
    ends: tuple[FiniteFloat, ...] = ()
    """The objective that the fit from each of several starts led to, nats a row; empty where it went on from one."""
    seconds: float = 0.0
    comparison: tuple[Comparison, ...] = ()
    selection: SelectionRecord | None = None
    """None if the session had one model."""

    @property
    def certified(self) -> bool:
        """Whether a quorum of witnesses certified every round."""
        return self.trust == Trust.MALICIOUS_SERVER.label

    @property
    def start_rounds(self) -> tuple[RoundRecord, ...]:
        """The rounds that the start took."""
        return tuple(opened for opened in self.rounds if opened.start is not None)

    @property
    def n_blocks(self) -> int:
        """Number of blocks; 0 if the difference guard is off."""
        return len(set(self.blocks))

    def block_members(self) -> tuple[tuple[int, ...], ...]:
        """Roster indices by block; the whole roster as one if the difference guard is off."""
        blocks = self.blocks or (0,) * len(self.tenants)
        return tuple(
            tuple(index for index, block in enumerate(blocks) if block == number) for number in sorted(set(blocks))
        )


def write_record(folder: Path, record: SessionRecord) -> None:
    """Write `record.json`, whole or not at all, into a folder that is there. Raises `EnvironmentFault` if the disk does not take it."""
    with disk_trouble(folder / RECORD_FILE, "check the folder's rights and free space, and start the server again"):
        write_whole(folder / RECORD_FILE, (record.model_dump_json(indent=2) + "\n").encode())


def read_record(folder: Path) -> SessionRecord:
    """The record in a folder. Raises `EnvironmentFault` if it cannot be read, or is none."""
    path, remedy = folder / RECORD_FILE, "put it back as the server wrote it"
    with disk_trouble(path, remedy):
        data = path.read_bytes()
    try:
        return SessionRecord.model_validate_json(data)
    except ValidationError:
        raise EnvironmentFault(f"{path} is no record of a session", remedy=remedy) from None
