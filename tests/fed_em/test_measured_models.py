"""Measurements: sums against loops over records, bounds of what one record adds, and references."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.broadcast import Broadcast
from fed_em.columns import CategoricalColumn
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model
from fed_em.measured_models import MeasuredModels
from fed_em.measurement import Histogram, Measurement, ModelMeasured, PairedDifference, measurement_of
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import CountedSummand, Summand
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.reference import Reference, broadcast_of, edges_of, load_reference, model_digest, save_reference
from fed_em.reference_edges import ReferenceEdges
from fed_em.row_mixture import RowMixture
from fed_em.statistics import Statistics
from tests.fed_em.summands import MODELS, random_parameters, random_rows

KINDS = ("gaussian, full", "gaussian, missing", "gaussian, one column", "mixed, full", "discrete")


def fitted(kind: str, generator: np.random.Generator) -> FittedModel:
    """With random parameters, in random coordinates of its Gaussian columns."""
    model = MODELS[kind]
    d = model.n_columns
    location, scale = generator.normal(size=d), generator.uniform(0.2, 4.0, d)
    if isinstance(model, MixedMixtureModel):
        others = np.setdiff1d(np.arange(d), model.schema.gaussian)
        location[others], scale[others] = 0.0, 1.0
    names = tuple(f"x{k}" for k in range(d))
    return FittedModel(model, Coordinates(location, scale), names, random_parameters(model, generator), {})


def rows_of(model: FittedModel, n: int, generator: np.random.Generator) -> Records:
    """In units of the rows, near the model and far from it, with holes where it admits them; of weights or not."""
    rows = model.coordinates.restore(random_rows(model.model, n, 3.0, generator))
    if isinstance(model.model, GaussianMixtureModel):
        rows[generator.random(n) < 0.1] *= 1e4
        if model.model.missing:
            rows[generator.random(rows.shape) < 0.2] = np.nan
    weights = generator.uniform(0.0, 1.0, n) if generator.random() < 0.5 else None
    return Records(rows, weights)


def brute_force(models: Sequence[FittedModel], edges: ReferenceEdges, records: Records) -> Measurement:
    """Record by record, in exact sums of floats."""
    weights = np.ones(len(records)) if records.weights is None else records.weights
    n, columns = math.fsum(weights), models[0].columns

    def clipped(model: FittedModel, row: np.ndarray) -> tuple[float, bool]:
        density = float(model.score_samples(row[np.newaxis])[0])
        inside = min(max(density, edges.low), edges.high)
        return inside, inside != density

    def moments(values: Sequence[float]) -> tuple[float, float]:
        mean = math.fsum(w * v for w, v in zip(weights, values, strict=True)) / n
        spread = math.fsum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / n
        return mean, spread * n / (n - 1) if n > 1 else spread

    def counted(cut: Sequence[float], values: Sequence[float]) -> Histogram:
        counts = [0.0] * (len(cut) + 1)
        for w, value in zip(weights, values, strict=True):
            if not math.isnan(value):
                counts[bisect_right(cut, value)] += w
        return Histogram(tuple(cut), tuple(counts))

    measured, all_values = [], []
    for model in models:
        found = [clipped(model, row) for row in records.rows]
        values = [value for value, _ in found]
        outside = math.fsum(w for w, (_, was) in zip(weights, found, strict=True) if was)
        measured.append((*moments(values), counted(edges.densities, values), outside))
        all_values.append(values)
    pair = None
    if len(models) == 2:
        pair = moments([b - a for a, b in zip(*all_values, strict=True)])
    return Measurement.from_description(
        {
            "records": n,
            "models": [
                {"log_likelihood": a, "variance": b, "histogram": c.describe(), "clipped": d} for a, b, c, d in measured
            ],
            "columns": {
                name: counted(edges.columns[d], records.rows[:, d].tolist()).describe()
                for d, name in enumerate(columns)
            },
            "missing": [],
            "missing_cells": {name: float(weights @ np.isnan(records.rows[:, d])) for d, name in enumerate(columns)},
            "difference": None if pair is None else {"mean": pair[0], "variance": pair[1]},
        }
    )


def assert_alike(found: object, expected: object, scale: float) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict) and set(found) == set(expected)
        for name in expected:
            assert_alike(found[name], expected[name], scale**2 if name == "variance" else scale)
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other, scale)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)
    else:
        assert found == expected


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.booleans(), st.integers(1, 12))
def test_the_sum_is_that_of_a_loop_over_records_in_whatever_parts(kind: str, seed: int, two: bool, n: int) -> None:
    generator = np.random.default_rng(seed)
    models = [fitted(kind, generator) for _ in range(1 + two)]
    models = [replace(each, columns=models[0].columns) for each in models]
    edges = edges_of(models[0], bins=4, seed=seed)
    asked = broadcast_of(models, edges)
    records = rows_of(models[0], n, generator)
    measured = asked.model
    assert isinstance(measured, MeasuredModels)
    cut = int(generator.integers(0, n + 1))
    parts = [measured.e_step(asked.parameters, records[part]) for part in (slice(None, cut), slice(cut, None))]
    found = measurement_of(measured, models[0].columns, parts[0] + parts[1])
    assert_alike(found.describe(), brute_force(models, edges, records).describe(), edges.high - edges.low)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_one_record_adds_no_more_than_bounds_and_norms_say(kind: str, seed: int) -> None:
    """Also to models that have nothing to do with it, which a server may have made up."""
    generator = np.random.default_rng(seed)
    models = [fitted(kind, generator) for _ in range(2)]
    edges = replace(edges_of(models[0], bins=3), low=-5.0, high=-1.0)
    asked = broadcast_of(models, edges)
    records = rows_of(models[0], 8, generator)
    for k in range(len(records)):
        one = asked.model.e_step(asked.parameters, records[slice(k, k + 1)])
        for block in one.layout:
            part = one[block.name].ravel()
            assert np.abs(part).max() <= block.bound
            assert np.linalg.norm(part) <= block.norm * (1 + 1e-12)


def test_a_record_that_a_model_finds_impossible_counts_at_the_low_end() -> None:
    generator = np.random.default_rng(0)
    one = fitted("discrete", generator)
    columns = one.schema.level_slices[0]
    probabilities = one.parameters["level_probabilities"].copy()
    probabilities[:, columns] = [[0.5, 0.5, 0.0]] * 3
    one = replace(one, parameters=Parameters({**one.parameters, "level_probabilities": probabilities}))
    rows = np.nan_to_num(random_rows(one.model, 9, 1.0, generator), nan=0.0)
    rows[:, 0] = [0, 1, 2, 2, 0, 1, 0, 1, 0]
    asked = broadcast_of([one], edges_of(one))
    assert isinstance(asked.model, MeasuredModels)
    found = measurement_of(asked.model, one.columns, asked.model.e_step(asked.parameters, rows))
    possible = one.score_samples(np.delete(rows, [2, 3], axis=0))
    assert found.models[0].clipped == 2
    assert found.models[0].log_likelihood == pytest.approx((possible.sum() + 2 * asked.model.edges.low) / 9)


@pytest.mark.parametrize(
    "kind", ["gaussian, full", "gaussian, tied", "gaussian, missing", "mixed, full", "mixed, diag", "discrete"]
)
def test_no_bit_of_a_records_density_depends_on_the_others(kind: str) -> None:
    """A bin is a step: a last digit that moved with the other records would move a whole record, and noise reckons with one alone."""
    generator = np.random.default_rng(3)
    one = fitted(kind, generator)
    rows = rows_of(one, 400, generator).rows
    found = mixture_of(one).log_densities_of_rows(rows)
    shuffled = generator.permutation(400)
    assert np.array_equal(mixture_of(one).log_densities_of_rows(rows[shuffled]), found[shuffled])
    for n in (1, 2, 3, 7, 16, 129):
        chosen = generator.choice(400, n, replace=False)
        assert np.array_equal(mixture_of(one).log_densities_of_rows(rows[chosen]), found[chosen])
    np.testing.assert_allclose(found, one.score_samples(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian, full", "gaussian, tied", "mixed, diag"])
def test_rows_that_no_component_can_show_have_no_density_and_the_others_theirs(kind: str) -> None:
    generator = np.random.default_rng(3)
    one = fitted(kind, generator)
    rows = one.coordinates.restore(random_rows(one.model, 60, 1.0, generator))
    expected = one.score_samples(rows)
    far = generator.random(60) < 0.7
    rows[far, one.schema.gaussian[0]], expected[far] = 1e200, -np.inf
    np.testing.assert_allclose(mixture_of(one).log_densities_of_rows(rows), expected, rtol=1e-9)


def mixture_of(one: FittedModel) -> RowMixture:
    assert isinstance(one.model, GaussianMixtureModel | MixedMixtureModel)
    return RowMixture(one.schema, one.model.covariance, one.coordinates, one.parameters)


def test_edges_of_a_model_cut_its_own_rows_into_equal_parts() -> None:
    """16384 rows drawn for the edges and as many to look at: each share is off by less than five standard errors of their difference, which
    happens by chance once in 10^6 times for one bin.
    """
    one = fitted("mixed, full", np.random.default_rng(3))
    edges, n = edges_of(one, bins=8), 16384
    rows, _ = one.sample(n, seed=1)
    slack = 5 * math.sqrt(2 * 0.125 * 0.875 / n)
    for cut, values in [(edges.densities, one.score_samples(rows))] + [
        (edges.columns[d], rows[:, d])
        for d in one.model.schema.gaussian  # type: ignore[attr-defined]
    ]:
        shares = np.bincount(np.searchsorted(cut, values, side="right"), minlength=8) / n
        assert len(cut) == 7
        assert np.abs(shares - 0.125).max() < slack
    assert edges.low < one.score_samples(rows).min() and one.score_samples(rows).max() < edges.high
    assert edges.columns[one.columns.index("x1")] == (0.5, 1.5)  # three levels
    assert edges.columns[one.columns.index("x2")] == (0.5,)
    assert all(edge % 1 == 0.5 for edge in edges.columns[4])


def test_what_is_measured_survives_the_wire_and_a_mass_gate_sees_one_component() -> None:
    generator = np.random.default_rng(0)
    models = [fitted("gaussian, full", generator) for _ in range(2)]
    asked = broadcast_of(models, edges_of(models[0]))
    again = Broadcast.from_bytes(asked.to_bytes())
    assert again.model == asked.model and again.to_bytes() == asked.to_bytes()
    assert isinstance(again.model, CountedSummand) and again.model.n_components == 1
    assert np.array_equal(again.model.responsibilities(again.parameters, np.zeros((4, 3))), np.ones((4, 1)))


def test_what_cannot_be_measured_is_refused() -> None:
    generator = np.random.default_rng(0)
    one, other = fitted("gaussian, full", generator), fitted("gaussian, one column", generator)
    edges = edges_of(one)
    with pytest.raises(CallerError, match="different names"):
        broadcast_of([one, other], edges)
    with pytest.raises(CallerError, match="edges of 1 columns"):
        broadcast_of([one], edges_of(other))
    with pytest.raises(CallerError, match="not 3"):
        broadcast_of([one, one, one], edges)
    with pytest.raises(CallerError, match="is not measured"):
        MeasuredModels((moments_model(3), _not_a_mixture()), edges)  # type: ignore[arg-type]
    asked = broadcast_of([one], edges)
    for name, array in (("1.parameters.means", np.zeros((3, 3))), ("means", np.zeros((3, 3)))):
        with pytest.raises(CallerError, match="none of 1"):
            asked.model.validate(Parameters({**asked.parameters, name: array}))
    with pytest.raises(CallerError, match="measured model 0"):
        asked.model.validate(Parameters({**asked.parameters, "0.coordinates.scale": np.zeros(3)}))
    for wrong in ({"low": 3.0, "high": 3.0}, {"densities": (1.0, 1.0)}, {"columns": ((0.0, math.nan),)}):
        with pytest.raises(CallerError, match=r"log-densities|column"):
            replace(edges, **wrong)
    with pytest.raises(CallerError, match="no records"):
        measurement_of(asked.model, one.columns, asked.model.e_step(asked.parameters, np.empty((0, 3))))  # type: ignore[arg-type]


def test_nobody_is_asked_for_so_many_bins_that_they_are_the_values_of_records() -> None:
    generator = np.random.default_rng(0)
    one, mixed = fitted("gaussian, full", generator), fitted("mixed, full", generator)
    many = tuple(float(edge) for edge in range(64))
    edges = edges_of(one)
    broadcast_of([one], replace(edges, densities=many[:63], columns=(many[:63], *edges.columns[1:])))
    with pytest.raises(CallerError, match="log-densities: 64 edges make more than 64 bins"):
        replace(edges, densities=many)
    with pytest.raises(CallerError, match="column 0: 64 edges make more than the 64 bins"):
        broadcast_of([one], replace(edges, columns=(many, *edges.columns[1:])))
    own = edges_of(mixed)
    for d, column in enumerate(mixed.schema.columns):
        most = len(column.levels) if isinstance(column, CategoricalColumn) else 64
        for n in (most - 1, most):
            asked = replace(own, columns=(*own.columns[:d], many[:n], *own.columns[d + 1 :]))
            with pytest.raises(CallerError, match=f"column {d}") if n == most else nullcontext():
                broadcast_of([mixed], asked)


@pytest.mark.parametrize(("low", "high"), [(-1.7e308, 1.7e308), (0.0, 5e-324)])
def test_a_range_without_a_half_is_none(low: float, high: float) -> None:
    with pytest.raises(CallerError, match="cannot be clipped"):
        ReferenceEdges(low, high, (), ())


def _not_a_mixture() -> Summand:
    return MODELS["observed moments"]


def test_numbers_of_a_noised_sum_are_off_by_as_much_as_they_say() -> None:
    """1000 draws of noise: what a number is off by has the standard deviation that it states, within 5 standard errors (1e-6) and a tenth
    for what is linear only nearly.
    """
    generator = np.random.default_rng(1)
    models = [fitted("gaussian, full", generator) for _ in range(2)]
    asked = broadcast_of(models, edges_of(models[0], private=True))
    assert isinstance(asked.model, MeasuredModels)
    rows = np.concatenate([each.sample(400, 1)[0] for each in models])
    exact, names = asked.model.e_step(asked.parameters, rows), models[0].columns
    noise = {block.name: 4.0 + 0.5 * place for place, block in enumerate(exact.layout)}
    deviations = np.concatenate([np.full(block.size, noise[block.name]) for block in exact.layout])
    truth, off = measurement_of(asked.model, names, exact), []
    for _ in range(1000):
        noised = Statistics(exact.layout, exact.vector + deviations * generator.standard_normal(len(deviations)))
        found = measurement_of(asked.model, names, noised, noise=noise)
        assert found.difference is not None and truth.difference is not None
        pairs = [*zip(found.models, truth.models, strict=True), (found.difference, truth.difference)]
        off.append([(mean(one) - mean(other)) / one.noise for one, other in pairs])  # type: ignore[attr-defined]
        off[-1] += [(one.variance - other.variance) / one.variance_noise for one, other in pairs]  # type: ignore[attr-defined]
    assert np.abs(np.std(off, axis=0) - 1.0).max() < 0.1 + 5 / math.sqrt(2 * 1000)
    assert Measurement.from_description(found.describe()) == found
    assert found.noise == noise["count"] and found.columns[names[0]].noise == noise["column.0"]
    assert found.models[0].error(found.records) > truth.models[0].error(truth.records)
    with pytest.raises(CallerError, match="hides whether there are any"):
        measurement_of(asked.model, names, exact, noise={**noise, "count": 300.0})


def mean(one: ModelMeasured | PairedDifference) -> float:
    return one.log_likelihood if isinstance(one, ModelMeasured) else one.mean


def test_a_reference_is_read_back_and_is_of_one_model(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    one, other = fitted("gaussian, full", generator), fitted("gaussian, full", generator)
    asked = broadcast_of([one], edges_of(one))
    assert isinstance(asked.model, MeasuredModels)
    statistics = asked.model.e_step(asked.parameters, rows_of(one, 20, generator))
    reference = Reference(model_digest(one), asked.model.edges, measurement_of(asked.model, one.columns, statistics))
    assert load_reference(tmp_path) is None
    save_reference(tmp_path, reference)
    read = load_reference(tmp_path)
    assert read == reference and read.digest == reference.digest
    reference.require_of(one)
    with pytest.raises(CallerError, match="another model"):
        reference.require_of(other)
    for wrong in (b"{}", b'{"format": 3}', b"nothing", reference.to_bytes().replace(b'"high"', b'"hi"')):
        with pytest.raises(CallerError):
            Reference.from_bytes(wrong, "it")
