"""A start from labels: the moments of the records whose labels leave one component open, by two sums of the model itself.

Where all components have one density, a record's responsibilities are the weights of the components that its label admits. With nearly
all weight on component 0, those that no label speaks of are its, and every other component holds the records that are labelled as its
own. With nearly all weight on component 1, so does component 0. The M-step is that of the starts (`fed_em.starts`), under a prior.
Components without labels, and those that a mass gate holds, stay as they were drawn.

Terms at other weights hold other records: the two sums share no average, and where some are stale a sum is taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fed_em.divergence import Mixture
from fed_em.em import GONE_AFTER, Summed, Total
from fed_em.errors import CallerError
from fed_em.lloyd import drawn, guarded, together
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

LABELLED_ROUNDS = 2

# The weight of the components that get no record without a label.
_SMALL = 1e-9

# Labelled records of a component below which it stays as it was drawn.
_FEWEST = 0.5

_COUNTS = "responsibilities"


# The sums of several models side by side, given where each is to be evaluated.
SumsApart = Callable[[Sequence[Parameters]], Sequence[Summed]]


def labelled_start(model: Mixture, new_total: Callable[[], Total], moments: Parameters, seed: int) -> Parameters:
    """`labelled_starts` of one model, by sums of the model itself.

    Args:
        model, moments, seed: As there.
        new_total: Makes a total of the model, over records with labels, that has summed nothing yet.
    """

    def new_sums() -> SumsApart:
        total = new_total()
        return lambda points: [total(points[0])]

    return labelled_starts((model,), new_sums, moments, seed)[0]


def labelled_starts(
    models: Sequence[Mixture], new_sums: Callable[[], SumsApart], moments: Parameters, seed: int
) -> list[Parameters]:
    """The components of the labelled records, of several models by as many sums as of one.

    Components of which terms are stale after `GONE_AFTER` more sums stay as they were drawn.

    Args:
        models: At least two components each.
        new_sums: Makes what sums the models, over records with labels, and has summed nothing yet.
        moments: As `fed_em.starts.best_starts`.
        seed: Of components without labels.

    Raises:
        CallerError: no component has labelled records of its own, or a model has one component only, or tenants' own weights.
    """
    for model in models:
        _require_suited(model)
    without_first, of_first = (
        _fresh(new_sums(), [_leaning(model, moments, component) for model in models])
        for component in range(LABELLED_ROUNDS)
    )
    apart = zip(models, without_first, of_first, strict=True)
    return [_start_of(model, moments, seed, *sums) for model, *sums in apart]


def _require_suited(model: Mixture) -> None:
    if model.n_components < 2:
        raise CallerError("a mixture of one component has no use for labels", remedy="leave the start out")
    if has_own_weights(model):
        raise CallerError(
            "mixing weights of each tenant's own do not lean", remedy='leave start = "labels" out of [fit]'
        )


def _start_of(model: Mixture, moments: Parameters, seed: int, without_first: Summed, of_first: Summed) -> Parameters:
    labelled = _of_labelled(model, without_first.statistics, of_first.statistics)
    counts = labelled[_COUNTS].copy()
    for summed, components in ((without_first, slice(1, None)), (of_first, slice(1))):
        counts[list(summed.held)] = 0.0
        if summed.stale:
            counts[components] = 0.0
    if counts.max() < _FEWEST:
        raise CallerError(
            "no component has records that are labelled as its own, or the mass gate holds those that have, or tenants are away",
            remedy='leave start = "labels" out of [fit]',
        )
    unknown = tuple(np.flatnonzero(counts < _FEWEST).tolist())
    return guarded(model, moments).m_step(labelled, drawn(model, moments, seed), held=unknown)


def _fresh(sums: SumsApart, points: Sequence[Parameters]) -> Sequence[Summed]:
    """The sums there of everybody who answers, if those of earlier ones come back in time."""
    for _ in range(GONE_AFTER):
        summed = sums(points)
        if not summed[0].stale:
            return summed
    return sums(points)


def _leaning(model: Mixture, moments: Parameters, component: int) -> Parameters:
    weights = np.full(model.n_components, _SMALL)
    weights[component] = 1.0 - _SMALL * (model.n_components - 1)
    return Parameters({**together(model, moments), "weights": weights})


def _of_labelled(model: Mixture, without_first: Statistics, of_first: Statistics) -> Statistics:
    """Component 0 of the second, all others of the first."""
    layout = without_first.layout
    parts = {block.name: without_first[block.name].copy() for block in layout}
    for name in (_COUNTS, *model.component_blocks):
        parts[name][0] = of_first[name][0]
    parts[COUNT] = np.asarray(max(float(parts[_COUNTS].sum()), 0.0))
    return Statistics.of(layout, parts)
