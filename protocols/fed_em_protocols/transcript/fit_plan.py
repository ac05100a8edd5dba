"""All that a fit follows from but its sums, as a transcript keeps it: whoever replays the fit begins with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fed_em.beginnings import Beginning, BestCentres, BestOf, FromLabels, FromModel, OneDraw
from fed_em.broadcast import Broadcast
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.roster import Roster
from fed_em_protocols.starts import Starts
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.entries import (
    BestOfBegins,
    CentresBegin,
    FitPlanned,
    LabelsBegin,
    ModelBegins,
    OneDrawBegins,
)
from fed_em_protocols.transcript.walk import WalkedSession


class FitPlan(Protocol):
    """What a session's fit follows from."""

    @property
    def roster(self) -> Roster:
        """Whose rows are summed."""
        ...

    @property
    def description(self) -> SessionDescription:
        """What is fitted."""
        ...

    @property
    def terms(self) -> SessionTerms:
        """How it is summed."""
        ...

    @property
    def stopping(self) -> Stopping:
        """When the loop stops."""
        ...

    @property
    def seed(self) -> int:
        """Of what is drawn."""
        ...

    @property
    def optimiser(self) -> str:
        """What proposes parameters."""
        ...

    @property
    def beginning(self) -> Beginning:
        """Where EM starts."""
        ...


@dataclass(frozen=True)
class RecordedPlan:
    """The plan of a session that is in a transcript. Implements `FitPlan`."""

    roster: Roster
    description: SessionDescription = field(repr=False)
    terms: SessionTerms
    stopping: Stopping
    seed: int
    optimiser: str
    beginning: Beginning


def planned(plan: FitPlan) -> FitPlanned:
    """What the first entry says of the fit.

    Raises:
        CallerError: it begins in a way that no transcript knows.
    """
    return FitPlanned(
        tolerance=plan.stopping.tolerance,
        max_iterations=plan.stopping.max_iterations,
        seed=plan.seed,
        optimiser=plan.optimiser,
        beginning=_begins(plan.beginning),
    )


def _begins(beginning: Beginning) -> OneDrawBegins | BestOfBegins | CentresBegin | LabelsBegin | ModelBegins:
    match beginning:
        case OneDraw():
            return OneDrawBegins()
        case BestOf(n_starts=n):
            return BestOfBegins(n_starts=n)
        case BestCentres(n_starts=n, radius=radius):
            return CentresBegin(n_starts=n, radius=radius)
        case FromLabels():
            return LabelsBegin()
        case FromModel(fitted=fitted):
            start = Broadcast(fitted.model, fitted.coordinates, fitted.parameters)
            return ModelBegins(fitted=start.to_bytes(), columns=fitted.columns)
    raise CallerError(f"a fit that begins with {beginning!r} cannot be replayed")


def recorded_plan(session: WalkedSession) -> RecordedPlan:
    """The plan of a verified session.

    Raises:
        CallerError: a number in it is out of its range.
    """
    fit, description = session.opened.fit, session.description
    beginning: Beginning
    match fit.beginning:
        case OneDrawBegins():
            beginning = OneDraw()
        case BestOfBegins(n_starts=n):
            declared = description.starts or Starts()
            beginning = BestOf(_declared(n, description), declared.generations, declared.finer)
        case CentresBegin(n_starts=n, radius=radius):
            beginning = BestCentres(_declared(n, description), radius)
        case LabelsBegin():
            beginning = FromLabels()
        case ModelBegins(fitted=data, columns=columns):
            start = Broadcast.from_bytes(data, "the model that the fit began with")
            fitted = FittedModel(start.one_model, start.coordinates, columns, start.parameters, {})
            beginning = FromModel(fitted, description.names)
    stopping = Stopping(fit.tolerance, fit.max_iterations)
    return RecordedPlan(
        session.roster, description, session.terms.content, stopping, fit.seed, fit.optimiser, beginning
    )


def _declared(n_starts: int, description: SessionDescription) -> int:
    """As many starts as the description has, whose number is bounded: whoever replays draws them all before it looks at any sum."""
    if description.starts is None or n_starts != description.starts.n:
        raise CallerError(f"the fit begins with {n_starts} starts, and the session's description has others")
    return n_starts
