"""Parameters by name with their standard errors, of estimators and in model files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em import ColumnSchema, FittedModel, GaussianMixture, MixedMixture, load_model, open_table, save_model
from fed_em.columns import CategoricalColumn, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.errors import CallerError
from fed_em.estimates import Estimates
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_estimators import LatentClass
from fed_em.model_file import ERRORS_FILE, MANIFEST_FILE
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standard_errors import Remark, standard_errors
from fed_em.statistic_products import StatisticProducts


def two_clusters(n: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, 2))
    rows[: n // 3] += [4.0, 1.0]
    return rows * [2.0, 10.0] + [100.0, -3.0]


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_units_of_the_table_do_not_matter(structure: str) -> None:
    """The same mixture described in standardised coordinates and in the units of the table."""
    rows = two_clusters(300, 1)
    scale, location = np.array([3.0, 0.5]), np.array([90.0, 4.0])
    if structure == "spherical":
        scale[:] = 3.0
    model = GaussianMixtureModel(2, 2, structure, covariance_floor=0.0)  # type: ignore[arg-type]
    there = Coordinates(location, scale)
    means, spreads = np.array([[100.0, -3.0], [108.0, 7.0]]), np.array([[4.0, 5.0], [5.0, 90.0]])
    both = {
        "full": (np.stack([spreads, spreads]), np.stack([spreads / np.outer(scale, scale)] * 2)),
        "tied": (spreads, spreads / np.outer(scale, scale)),
        "diag": (np.tile(np.diag(spreads), (2, 1)), np.tile(np.diag(spreads) / scale**2, (2, 1))),
        "spherical": (np.full(2, 40.0), np.full(2, 40.0 / 9.0)),
    }
    in_units, in_coordinates = both[structure]
    weights = np.array([0.6, 0.4])
    told = []
    for coordinates, arrays in (
        (Coordinates.identity(2), {"means": means, "covariances": in_units}),
        (there, {"means": there.apply(means), "covariances": in_coordinates}),
    ):
        parameters, products = Parameters({"weights": weights, **arrays}), StatisticProducts(model)
        errors = standard_errors(products, parameters, products.e_step(parameters, coordinates.apply(rows)))
        told.append(Estimates.of(FittedModel(model, coordinates, ("a", "b"), parameters, {}, errors)))
    for one, other in zip(*told, strict=True):
        assert one.name == other.name
        assert one.value == pytest.approx(other.value)
        assert one.error == pytest.approx(other.error, rel=1e-6)


def test_an_estimator_names_its_parameters() -> None:
    mixture = GaussianMixture(2, tol=1e-9, max_iter=500, random_state=0).fit(two_clusters(600, 2))
    found = mixture.standard_errors(two_clusters(600, 2))
    k = int(mixture.weights_.argmax())
    assert found[f"mean of x0 in c{k}"].value == pytest.approx(mixture.means_[k, 0])
    assert found[f"mean of x0 in c{k}"].error == pytest.approx(2.0 / np.sqrt(400), rel=0.3)
    assert found[f"covariance of x0, x1 in c{k}"].value == pytest.approx(mixture.covariances_[k, 0, 1])
    assert len(found) == 2 + 4 + 6
    assert found.records == 600
    assert found.shift is not None
    assert found.shift < 0.01
    assert f"weight in c{k}" in str(found)
    with pytest.raises(CallerError, match="names are as"):
        found["mean of nothing"]


def test_missing_cells_weights_and_labels_count_as_in_fit() -> None:
    rows = two_clusters(300, 3)
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    holes = rows.copy()
    holes[::5, 1] = np.nan
    weights = np.random.default_rng(4).uniform(0.5, 2.0, 300)
    admissible = np.ones((300, 2), dtype=np.bool_)
    admissible[:20] = [True, False]
    found = mixture.standard_errors(holes, weights, admissible)
    fitted = mixture.to_fitted_model()
    products = StatisticProducts(replace(fitted.model, missing=True))  # type: ignore[type-var]
    records = Records(fitted.coordinates.apply(holes), weights, admissible, 2.0)
    errors = standard_errors(products, fitted.parameters, products.e_step(fitted.parameters, records))
    assert found["mean of x1 in c0"].error == pytest.approx(errors.errors["means"][0, 1])
    assert found.records == pytest.approx(weights.sum())


def test_tables_that_are_read_anew(tmp_path: Path) -> None:
    pyarrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    table = {"a": two_clusters(300, 5)[:, 0], "b": np.random.default_rng(6).choice(["yes", "no"], 300)}
    csv.write_csv(pyarrow.table(table), tmp_path / "rows.csv")
    schema = ColumnSchema((GaussianColumn("a"), CategoricalColumn("b", ("no", "yes"))))
    mixture = MixedMixture(2, schema=schema, random_state=0, n_init=2).fit(table)
    in_memory, streamed = mixture.standard_errors(table), mixture.standard_errors(open_table(tmp_path / "rows.csv"))
    for one, other in zip(in_memory, streamed, strict=True):
        assert one.name == other.name
        assert one.error == pytest.approx(other.error, rel=1e-6)


def test_classes_of_categorical_columns() -> None:
    generator = np.random.default_rng(7)
    sick = generator.random(800) < 0.4
    table = {name: np.where(generator.random(800) < np.where(sick, 0.8, 0.15), "yes", "no") for name in "abcd"}
    classes = LatentClass(2, random_state=0, prior=None, tol=1e-9, max_iter=3000).fit(table)
    found = classes.standard_errors(table)
    yes, no = found["probability of a = yes in c0"], found["probability of a = no in c0"]
    assert yes.value + no.value == pytest.approx(1.0)
    assert yes.error == pytest.approx(no.error)
    assert yes.error is not None
    assert 0.01 < yes.error < 0.06


def test_a_model_file_keeps_them(tmp_path: Path) -> None:
    mixture, rows = GaussianMixture(2, random_state=0).fit(two_clusters(200, 8)), two_clusters(200, 8)
    fitted, products = mixture.to_fitted_model(), StatisticProducts(GaussianMixtureModel(2, 2))
    statistics = products.e_step(fitted.parameters, fitted.coordinates.apply(rows))
    errors = standard_errors(products, fitted.parameters, statistics)
    remarks = {name: array.copy() for name, array in errors.remarks.items()}
    remarks["weights"][1] = Remark.BOUNDARY
    errors = replace(errors, remarks=remarks)
    save_model(tmp_path, replace(fitted, errors=errors))
    assert json.loads((tmp_path / MANIFEST_FILE).read_text())["format"] == 2
    read = load_model(tmp_path)
    assert read.errors is not None
    assert (read.errors.records, read.errors.shift) == (errors.records, errors.shift)
    np.testing.assert_array_equal(read.errors.errors["means"], errors.errors["means"])
    np.testing.assert_array_equal(read.errors.remarks["weights"], remarks["weights"])
    assert np.isnan(read.errors.errors["weights"][1])
    assert Estimates.of(read)["weight in c1"].remark == "on the boundary"

    data = (tmp_path / ERRORS_FILE).read_bytes()
    (tmp_path / ERRORS_FILE).write_bytes(data[:-8] + b"\x00" * 8)
    with pytest.raises(CallerError, match="is not the file"):
        load_model(tmp_path)
    save_model(tmp_path, fitted)
    assert not (tmp_path / ERRORS_FILE).exists()
    assert json.loads((tmp_path / MANIFEST_FILE).read_text())["format"] == 1
    assert load_model(tmp_path).errors is None


def test_errors_of_other_parameters_are_refused() -> None:
    fitted = GaussianMixture(2, random_state=0).fit(two_clusters(60, 9)).to_fitted_model()
    products = StatisticProducts(GaussianMixtureModel(1, 2))
    parameters = Parameters({"weights": np.ones(1), "means": np.zeros((1, 2)), "covariances": np.eye(2)[np.newaxis]})
    errors = standard_errors(products, parameters, products.e_step(parameters, np.eye(2)))
    with pytest.raises(CallerError, match="other parameters"):
        replace(fitted, errors=errors)
