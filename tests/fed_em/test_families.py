"""Descriptions are read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.columns import BernoulliColumn, ColumnSchema, GaussianColumn
from fed_em.errors import CallerError
from fed_em.families import FAMILIES, build_model
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.priors import GaussianMixturePrior

PRIOR = GaussianMixturePrior.weakly_informative(2, [0.0] * 3, [1.0] * 3)
GOOD = GaussianMixtureModel(2, 3, "tied", 0.0, PRIOR).describe()


def test_left_out_fields_take_their_defaults() -> None:
    description = {"family": "gaussian-mixture", "n_components": 2, "n_columns": 3}
    assert build_model(description) == GaussianMixtureModel(2, 3)


EVERY_FAMILY: Mapping[str, Mapping[str, Any]] = {
    "gaussian-mixture": GOOD,
    "mixed-mixture": MixedMixtureModel(2, ColumnSchema((GaussianColumn("age"), BernoulliColumn("ill")))).describe(),
    "mixed-moments": MixedMomentsModel(ColumnSchema((GaussianColumn("age"), BernoulliColumn("ill")))).describe(),
    "observed-moments": ObservedMomentsModel(4).describe(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_described_by_its_registered_name(family: str) -> None:
    assert build_model(EVERY_FAMILY[family]).family == family


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        ({"family": "gausian-mixture"}, "gausian-mixture", "'gaussian-mixture'"),
        ({"family": 3}, "3", "gaussian-mixture"),
        ({"family": ["gaussian-mixture"]}, "gaussian-mixture", "gaussian-mixture"),
        ({"n_component": 3}, "no 'n_component'", "'n_components'"),
        ({"covariance": "Diag"}, "Diag", "'diag'"),
        ({"prior": {"mean": [0.0]}}, "lacks 'scale'", "scale"),
        ({"prior": {**PRIOR.describe(), "means": [0.0]}}, "no 'means'", "'mean'"),
        ({"prior": 5}, "mapping", ""),
        ({"prior": 0}, "mapping", ""),
        ({"prior": {}}, "lacks 'mean'", "mean"),
        ({"n_components": "2"}, "n_components", ""),
        ({"n_components": 2.0}, "n_components", ""),
        ({"covariance_floor": None}, "covariance_floor", ""),
        ({"missing": 1}, "missing", ""),
    ],
)
def test_a_wrong_description_is_named_with_the_nearest_right_one(
    change: Mapping[str, Any], message: str, remedy: str
) -> None:
    with pytest.raises(CallerError, match=message) as caught:
        build_model({**GOOD, **change})
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("key", ["family", "n_components", "n_columns"])
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(CallerError, match=f"lacks '{key}'"):
        build_model({name: value for name, value in GOOD.items() if name != key})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "columns", "x"]), json_values), json_values)
def test_any_json_gives_a_model_or_a_caller_error(change: dict[str, Any], other: object) -> None:
    for description in ({**GOOD, **change}, {**EVERY_FAMILY["mixed-mixture"], **change}, change, other):
        try:
            model = build_model(description)  # type: ignore[arg-type]
        except CallerError:
            continue
        assert build_model(model.describe()) == model
