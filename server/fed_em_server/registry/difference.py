"""How two versions differ: what they read, who took part, how well they fit, and how far their components are from each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fed_em.alignment import align
from fed_em.columns import ColumnSchema
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.warm_start import gaussians_in
from fed_em_server.registry.version import Version


@dataclass(frozen=True)
class ComponentDifference:
    """One component of a model and the one of another that it was matched with.

    Attributes:
        component: Of the first, from 0; None if it has none to match.
        other: Of the second; None if it has none to match.
        weights: Their mixing weights; 0 where there is none.
        distance: Their Bhattacharyya distance; NaN without a match.
        shift: The farthest that a mean went, in standard deviations of the first; NaN without a match or Gaussian columns.
        column: Of which column; empty if `shift` is NaN.
    """

    component: int | None
    other: int | None
    weights: tuple[float, float]
    distance: float
    shift: float
    column: str


@dataclass(frozen=True)
class Difference:
    """How a second version differs from a first.

    Attributes:
        columns: Sentences about columns that are not in both, or of other kinds.
        joined, left: Tenants that are in one roster only.
        components: Matched one to one by the least sum of distances; empty if the models cannot be compared.
        incomparable: Why they cannot; empty if they can.
    """

    columns: tuple[str, ...]
    joined: tuple[str, ...]
    left: tuple[str, ...]
    components: tuple[ComponentDifference, ...]
    incomparable: str = ""


def difference(first: Version, first_model: FittedModel, second: Version, second_model: FittedModel) -> Difference:
    """Compare two versions and their models."""
    columns = _columns(first_model.columns, first_model.schema, second_model.columns, second_model.schema)
    ours, theirs = first.lineage.tenants, second.lineage.tenants
    incomparable = "" if not columns else "they are over different columns"
    if not all(isinstance(each.model, Mixture) for each in (first_model, second_model)):
        incomparable = "only mixtures with shared mixing weights are compared component by component"
    if not incomparable and type(first_model.model) is not type(second_model.model):
        incomparable = "they are of different families"
    return Difference(
        columns,
        tuple(name for name in theirs if name not in ours),
        tuple(name for name in ours if name not in theirs),
        () if incomparable else _components(first_model, second_model),
        incomparable,
    )


def _columns(
    names: tuple[str, ...], schema: ColumnSchema, other_names: tuple[str, ...], other: ColumnSchema
) -> tuple[str, ...]:
    before, after = (
        {name: {**described, "name": name} for name, described in zip(each, of.describe(), strict=True)}
        for each, of in ((names, schema), (other_names, other))
    )
    said = [f"'{name}' is new" for name in after if name not in before]
    said += [f"'{name}' is gone" for name in before if name not in after]
    said += [f"'{name}' is another one" for name in before if name in after and before[name] != after[name]]
    if not said and names != other_names:
        said = ["they are in another order"]
    return tuple(said)


def _components(first: FittedModel, second: FittedModel) -> tuple[ComponentDifference, ...]:
    model, parameters = _in(first.coordinates, first)
    other_model, other = _in(first.coordinates, second)
    matched = align(model, parameters, other_model, other)
    rows = []
    for k, (place, distance) in enumerate(zip(matched.order.tolist(), matched.distances.tolist(), strict=True)):
        found = None if place < 0 else place
        weight = 0.0 if found is None else float(other["weights"][found])
        shift, column = (np.nan, "") if found is None else _farthest(first, parameters, k, other, found)
        rows.append(ComponentDifference(k, found, (float(parameters["weights"][k]), weight), distance, shift, column))
    left = sorted(set(range(other_model.n_components)) - set(matched.order.tolist()))
    rows += [
        ComponentDifference(None, k, (0.0, float(other["weights"][k])), float("nan"), float("nan"), "") for k in left
    ]
    return tuple(rows)


def _farthest(fitted: FittedModel, parameters: Parameters, k: int, other: Parameters, place: int) -> tuple[float, str]:
    """How far the means of two components are from each other, where they are farthest."""
    if "means" not in parameters:
        return float("nan"), ""
    deviations = np.sqrt(np.diagonal(parameters["covariances"][k]))
    shifts = np.abs(other["means"][place] - parameters["means"][k]) / deviations
    farthest = int(shifts.argmax())
    gaussian = fitted.schema.gaussian
    return float(shifts[farthest]), fitted.columns[int(gaussian[farthest])]


def _in(coordinates: Coordinates, fitted: FittedModel) -> tuple[Mixture, Parameters]:
    """A mixture with full covariances in some coordinates."""
    model, arrays = fitted.model, dict(fitted.parameters)
    assert isinstance(model, Mixture)
    if "means" not in arrays:
        return model, fitted.parameters
    arrays["means"], arrays["covariances"] = gaussians_in(coordinates, fitted)
    return replace(model, covariance="full"), Parameters(arrays)
