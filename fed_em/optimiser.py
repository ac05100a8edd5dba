"""Optimisers: where to evaluate next. They propose, and the loop (`fed_em.em`) disposes.

The statistics of an E-step give three things at once: the objective, its gradient in any chart (`fed_em.chart`), and the EM point, at which
the objective is no lower. An optimiser is a frozen state that proposes parameters from what was seen. A proposal at which the objective
fell is never gone on from, and the EM point of the best parameters is known without any further sum; so what is gone on from only ever
rises, as with EM itself.

Everything here is about *whole* sums: of everybody, at one θ, with all moments. Of others neither objective nor gradient is known, and the
loop takes EM steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from fed_em.chart import ChartedModel
from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em.evaluation import Evaluation
from fed_em.lbfgs import LBFGS
from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em.squarem import Squarem
from fed_em.tenant_mixing import has_own_weights


class Optimiser(Protocol):
    """A frozen state."""

    @property
    def proposal(self) -> Parameters | None:
        """Admissible parameters to evaluate next; None for the EM point of what has risen last."""
        ...

    def risen(self, seen: Evaluation) -> Optimiser:
        """The state once the last proposal, or an EM point, is what the loop goes on from."""
        ...

    def fallen(self, seen: Evaluation | None) -> Optimiser:
        """The state once the last proposal was refused; None if it could not be evaluated."""
        ...


@dataclass(frozen=True)
class PlainEM:
    """Never proposes anything but EM points. Implements `Optimiser`."""

    proposal: Parameters | None = None

    def risen(self, seen: Evaluation) -> PlainEM:  # noqa: ARG002  as of any optimiser
        """Itself."""
        return self

    def fallen(self, seen: Evaluation | None) -> PlainEM:  # noqa: ARG002
        """Itself."""
        return self


EM, SQUAREM, L_BFGS = "em", "squarem", "lbfgs"

_OF_CHARTED: Mapping[str, Callable[[ChartedModel], Optimiser]] = {SQUAREM: Squarem, L_BFGS: LBFGS}
OPTIMISERS = (EM, *_OF_CHARTED)


def optimiser_for(name: str, model: Model) -> Optimiser:
    """A fresh optimiser, which is plain EM for a model without charts, or whose mixing weights are each tenant's own.

    Args:
        name: One of `OPTIMISERS`.
        model: What is fitted.

    Raises:
        CallerError: no optimiser has this name.
    """
    check_optimiser(name)
    if name == EM or not can_leap(model):
        return PlainEM()
    return _OF_CHARTED[name](model)


def can_leap(model: Model) -> TypeGuard[ChartedModel]:
    """Whether an optimiser may propose anything but EM points of a model."""
    # Own weights are no coordinates: nobody who optimises knows them.
    return isinstance(model, ChartedModel) and not has_own_weights(model)


def check_optimiser(name: str) -> None:
    """Raise `CallerError` unless an optimiser has this name."""
    if name not in OPTIMISERS:
        raise CallerError(f"no optimiser '{name}'", remedy=nearest(str(name), OPTIMISERS))
