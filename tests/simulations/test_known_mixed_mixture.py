"""Known truths over mixed columns have the overlap asked for, the moments they say, and are fitted by every method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.errors import CallerError
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em_simulations.attendance import Attendance
from fed_em_simulations.common_ground import common_ground
from fed_em_simulations.feature_shift import FeatureShift
from fed_em_simulations.fit_measures import in_coordinates, parameter_error
from fed_em_simulations.known_mixed_mixture import KnownMixedMixture
from fed_em_simulations.methods import METHODS
from fed_em_simulations.methods_experiment import MethodsExperiment, rows_of
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.population import Population
from fed_em_simulations.random_streams import stream
from fed_em_simulations.sensitivity_experiment import SensitivityExperiment

ALL_KINDS = {"kind": "mixed", "gaussian": 2, "categorical": (3, 4), "bernoulli": 2, "poisson": 1, "overlap": 0.15}
CLASSES = {"kind": "mixed", "gaussian": 0, "categorical": (2, 3, 3, 4), "overlap": 0.3}


def mixed(**fields: Any) -> KnownMixedMixture:
    return KnownMixedMixture.model_validate(fields)


@pytest.mark.parametrize("fields", [ALL_KINDS, CLASSES])
def test_components_overlap_as_much_as_one_asks(fields: dict[str, Any]) -> None:
    truth = mixed(**fields).truth(3)
    assert isinstance(truth.model, MixedMixtureModel)
    assert truth.model.n_columns == mixed(**fields).columns
    truth.model.validate(truth.parameters)
    assert truth.overlap == pytest.approx(fields["overlap"], rel=1e-9)
    assert truth.parameters.distance(mixed(**fields).truth(3).parameters) == 0.0
    assert truth.parameters.distance(mixed(**fields).truth(4).parameters) > 0.0


def test_moments_are_those_of_drawn_rows() -> None:
    """Nine means and standard deviations within 6 of their standard errors, of 40 000 rows: false alarms below 1e-7."""
    truth, n = mixed(**ALL_KINDS).truth(1), 40_000
    rows, _ = truth.model.sample(truth.parameters, n, np.random.default_rng(0))
    assert (np.abs(rows.mean(axis=0) - truth.mean) < 6 * truth.deviation / math.sqrt(n)).all()
    squares = (rows - truth.mean) ** 2
    assert (np.abs(squares.mean(axis=0) - truth.deviation**2) < 6 * squares.std(axis=0) / math.sqrt(n)).all()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "mixed", "gaussian": 0, "categorical": ()}, "without columns"),
        ({"kind": "mixed", "categorical": (1,)}, "greater than or equal to 2"),
        ({"kind": "mixed", "components": 1}, "greater than or equal to 2"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        mixed(**fields)


def test_an_overlap_that_these_columns_do_not_give_is_refused() -> None:
    with pytest.raises(CallerError, match="no two components"):
        mixed(kind="mixed", gaussian=0, categorical=(2,), components=4, overlap=1e-6).truth(0)


def population(truth: dict[str, Any], **differ: Any) -> Population:
    return Population.model_validate(
        {"tenants": 6, "rows": 600, "held_out": 40, "truth": truth, "heterogeneity": differ}
    )


@pytest.mark.parametrize("truth", [pytest.param(ALL_KINDS, marks=pytest.mark.slow), CLASSES])
def test_every_method_fits_mixed_columns_with_missing_cells(truth: dict[str, Any]) -> None:
    tenants = population(
        truth, mixing={"concentration": 0.5}, missing={"rate": 0.2, "mechanism": "mar", "concentration": 5.0}
    ).draw(2)
    assert np.isnan(tenants.pooled.rows).any() and not np.isnan(tenants.members[0].held_out).any()
    pattern = Attendance(share=0.5).pattern(tenants.names, 20, 2)
    ground = common_ground(MixtureToFit(components=3).over(tenants), tenants, pattern, 3, 2)
    found = {str(row["method"]): row for row in rows_of(ground, METHODS)}
    lost = {name: float(row["loss"] or 0.0) for name, row in found.items()}
    assert lost["pooled"] == 0.0 and abs(lost["increments"]) < 0.002 < lost["averaging"]
    assert lost["increments"] < lost["stepwise"]
    assert all(math.isfinite(float(row["held_out"] or 0.0)) for row in found.values())
    discrete = float(found["increments"]["probabilities_error"] or 0.0)
    assert 0 < discrete < 0.25
    has_numbers = bool(truth["gaussian"])
    assert math.isnan(float(found["increments"]["means_error"] or 0.0)) != has_numbers


def test_the_protocol_ends_where_memory_does() -> None:
    tenants = population(ALL_KINDS, mixing={"concentration": 1.0}).draw(5)
    pattern = Attendance(share=0.7).pattern(tenants.names, 4, 5)
    ground = common_ground(MixtureToFit(components=3).over(tenants), tenants, pattern, 0, 5)
    memory, protocol = rows_of(ground, ("increments", "protocol"))
    assert float(protocol["loss"] or 0.0) == pytest.approx(float(memory["loss"] or 0.0), abs=1e-6)


def test_the_truth_has_no_error_in_other_coordinates() -> None:
    tenants = population(ALL_KINDS).draw(0)
    assert tenants.truth is not None
    ground = common_ground(MixtureToFit(components=3).over(tenants), tenants, (), 1, 0)
    model, moved = in_coordinates(tenants.truth, ground.coordinates)
    error = parameter_error(tenants.truth, model, moved, ground.coordinates)
    assert error is not None
    assert max(error.weights, error.means, error.covariances, error.probabilities, error.rates) < 1e-12


def test_a_site_shifts_what_labels_answers_and_counts_are_drawn_by() -> None:
    """Log-odds and log-rates of all components alike by offsets of one standard deviation; of held-out rows by the same."""
    truth = mixed(**ALL_KINDS).truth(0)
    assert isinstance(truth.model, MixedMixtureModel)
    levels, shift = truth.model.schema.level_slices, FeatureShift(offset=0.5)

    def logits(parameters: Parameters) -> dict[str, np.ndarray]:
        yes = parameters[SUCCESS_PROBABILITIES]
        of_levels = [np.log(parameters[LEVEL_PROBABILITIES][:, part]) for part in levels]
        relative = [each[:, 1:] - each[:, :1] for each in of_levels]
        return {"levels": np.hstack(relative), "yes": np.log(yes / (1 - yes)), "rates": np.log(parameters[RATES])}

    generator, before = stream(0, "sites"), logits(truth.parameters)
    moves: dict[str, list[np.ndarray]] = {name: [] for name in before}
    for _ in range(500):
        site = shift.of_discrete_columns(truth.parameters, levels, generator)
        truth.model.validate(site)
        for name, after in logits(site).items():
            move = after - before[name]
            np.testing.assert_allclose(move, np.tile(move[:1], (3, 1)), atol=1e-9)
            moves[name].append(move[0])
    # Standard deviations within 5 of their standard errors; of two levels' difference it is the square root of two times that of one.
    for name, expected in (("levels", 0.5 * math.sqrt(2)), ("yes", 0.5), ("rates", 0.5)):
        found = np.array(moves[name]).std(axis=0)
        assert (np.abs(found / expected - 1) < 5 / math.sqrt(2 * 500)).all(), name
    assert (
        shift.of_discrete_columns(truth.parameters, levels, stream(1, "s")).distance(
            shift.of_discrete_columns(truth.parameters, levels, stream(1, "s"))
        )
        == 0
    )


def test_shifted_sites_are_drawn_and_fitted() -> None:
    """Numbers move as before, labels and counts by their logits; the truth has room for all counts that came."""
    shifted, plain = (population(ALL_KINDS, **differ).draw(2) for differ in ({"features": {"offset": 1.0}}, {}))
    assert shifted.schema is not None and plain.schema is not None
    numbers = shifted.members[0].held_out[:, :2] - plain.members[0].held_out[:, :2]
    assert np.abs(numbers).max() > 0.1
    spread, alike = (
        np.std([one.held_out.mean(axis=0) for one in tenants.members], axis=0) for tenants in (shifted, plain)
    )
    assert (spread[2:] > 1.2 * alike[2:]).sum() >= 4, "labels, yes and no, and counts differ more"
    uppers = [tenants.schema.columns[-1].upper for tenants in (shifted, plain)]
    assert max(one.records.rows[:, -1].max() for one in shifted.members) <= uppers[0] and uppers[0] >= uppers[1]
    ground = common_ground(MixtureToFit(components=3).over(shifted), shifted, (frozenset(shifted.names),) * 3, 1, 2)
    (row,) = rows_of(ground, ("increments",))
    assert row["failure"] == "" and math.isfinite(float(row["rates_error"] or 0))


def test_there_is_room_for_counts_where_a_site_has_none() -> None:
    few = {"tenants": 8, "rows": 64, "held_out": 2, "truth": {**ALL_KINDS, "poisson": 3}}
    differ = {"features": {"offset": 2.0}, "missing": {"rate": 0.9}}
    holed = 0
    for seed in range(3):
        tenants = Population.model_validate({**few, "heterogeneity": differ}).draw(seed)
        assert tenants.schema is not None
        counts = [one.records.rows[:, -3:] for one in tenants.members]
        holed += sum(np.isnan(each).all(axis=0).any() for each in counts)
        drawn = np.concatenate(counts)
        for k, column in enumerate(tenants.schema.columns[-3:]):
            assert column.upper >= np.max(drawn[:, k], initial=0.0, where=~np.isnan(drawn[:, k]))
    assert holed, "no site lacked a column"


def test_what_labels_do_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="have no scale"):
        population(CLASSES, features={"offset": 1.0, "scale": 0.1})
    with pytest.raises(ValidationError, match="components of other shapes"):
        population(ALL_KINDS, shapes={"strength": 0.1})
    data = {"truth": CLASSES, "heterogeneity": {"missing": {"rate": 0.1}}}
    with pytest.raises(ValidationError, match="give a Gaussian truth"):
        SensitivityExperiment.model_validate({"data": data})


def test_a_report_shows_errors_of_what_there_is() -> None:
    def shown(truth: dict[str, Any]) -> set[str]:
        experiment = MethodsExperiment.model_validate({"data": {"truth": truth}})
        return {chart.column for chart in experiment.charts} & {"means_error", "probabilities_error"}

    assert shown(ALL_KINDS) == {"means_error", "probabilities_error"}
    assert shown(CLASSES) == {"probabilities_error"}
    assert shown({"components": 3}) == {"means_error"}
