"""The families of models, by the names that descriptions use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fed_em import (
    candidates,
    centres,
    gaussian_mixture,
    measured_models,
    mixed_mixture,
    mixed_moments,
    observed_moments,
    statistic_products,
)
from fed_em.candidates import Candidates
from fed_em.centres import Centres
from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.measured_models import MeasuredModels
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import Model, Summand
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.statistic_products import StatisticProducts

Builder = Callable[[Mapping[str, Any]], Model]

FAMILIES: dict[str, Builder] = {
    gaussian_mixture.FAMILY: GaussianMixtureModel.from_description,
    mixed_mixture.FAMILY: MixedMixtureModel.from_description,
    mixed_moments.FAMILY: MixedMomentsModel.from_description,
    observed_moments.FAMILY: ObservedMomentsModel.from_description,
}

_IN_THE_BOX = frozenset(
    (*FAMILIES, candidates.FAMILY, centres.FAMILY, measured_models.FAMILY, statistic_products.FAMILY)
)


def register(family: str, build: Builder) -> None:
    """Make a family of one's own known to this process, by the name that its models' descriptions have; again, in place of the last.

    Code never travels: a party of a session knows the families that its own process registered.

    Args:
        family: Its name.
        build: Makes a model of its description; `build(model.describe()) == model`. In a session the description also has `n_columns`, and
            `missing` where cells may be missing.

    Raises:
        CallerError: the name is that of a family in the box.
    """
    if family in _IN_THE_BOX:
        raise CallerError(f"the family '{family}' is in the box already", remedy="give yours another name")
    FAMILIES[family] = build


def build_model(description: Mapping[str, Any]) -> Model:
    """The model that `Model.describe` described: `build_model(model.describe()) == model`.

    Raises:
        CallerError: the family or a key is unknown (naming the nearest that exists), a key is missing, or a
            value is out of its range.
    """
    if not isinstance(description, Mapping):
        raise CallerError(f"a model's description must be a mapping, not {type(description).__name__}")
    if "family" not in description:
        raise CallerError("a model's description lacks 'family'", remedy=f"one of {', '.join(sorted(FAMILIES))}")
    family = description["family"]
    if not isinstance(family, str) or family not in FAMILIES:
        raise CallerError(f"no family of models '{family}'", remedy=nearest(str(family), FAMILIES))
    return FAMILIES[family](description)


def build_summand(description: Mapping[str, Any]) -> Summand:
    """The model, or what is made of models, that `Summand.describe` described. Raises as `build_model`."""
    if isinstance(description, Mapping) and description.get("family") == candidates.FAMILY:
        return Candidates.from_description(description, build_model)
    if isinstance(description, Mapping) and description.get("family") == statistic_products.FAMILY:
        return StatisticProducts.from_description(description, build_model)
    if isinstance(description, Mapping) and description.get("family") == centres.FAMILY:
        return Centres.from_description(description)
    if isinstance(description, Mapping) and description.get("family") == measured_models.FAMILY:
        return MeasuredModels.from_description(description, build_model)
    return build_model(description)
