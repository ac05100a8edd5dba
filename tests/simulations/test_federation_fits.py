"""What a session in memory may do besides one fit from draws: standard errors, streams, labels, picks, models of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from small_tables import tables_of

from fed_em import GaussianMixture, GaussianMixturePrior
from fed_em.chart import Chart
from fed_em.em import Step, Stopping, fit
from fed_em.errors import CallerError
from fed_em.families import FAMILIES, build_model, register
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.labelled_start import LABELLED_ROUNDS
from fed_em.layout import Block, Layout
from fed_em.optimiser import L_BFGS, SQUAREM, optimiser_for
from fed_em.own_model import StartingModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.sphere_chart import from_sphere, sphere_gradient, to_sphere
from fed_em.standard_errors import standard_errors
from fed_em.statistic_products import StatisticProducts
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows
from fed_em_client.configuration import PolicyTable
from fed_em_client.policy_checks import check_description
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.selection import Selection
from fed_em_protocols.stream import Stream
from fed_em_server.configuration import FitTable, ServerConfiguration
from fed_em_server.pooled import fit_pooled
from fed_em_simulations import Federation
from fed_em_simulations.session_of_tables import session_of_tables

Vector = NDArray[np.float64]


def test_standard_errors_are_those_of_all_rows() -> None:
    tables = tables_of(3)
    outcome = Federation(tables, starts=0, standard_errors=True, max_iterations=2).fit(
        GaussianMixture(1, reg_covar=0.0)
    )
    rows, fitted = np.concatenate(tables), outcome.model
    assert fitted.errors is not None and isinstance(fitted.model, GaussianMixtureModel)
    products = StatisticProducts(fitted.model)
    summed = TotalOfRows(products, fitted.coordinates.apply(rows))(fitted.parameters).statistics  # type: ignore[arg-type]
    pooled = standard_errors(products, fitted.parameters, summed)
    np.testing.assert_allclose(fitted.errors.errors["means"], pooled.errors["means"], rtol=1e-5)
    # In standardised columns the mean of n rows has the error 1 / √n, were they of one Gaussian.
    np.testing.assert_allclose(fitted.errors.errors["means"], 1 / np.sqrt(len(rows)), rtol=0.5)


def test_a_stream_takes_a_part_of_all_rows_in_each_round() -> None:
    outcome = Federation(tables_of(4, rows=120), starts=0, stream=Stream(batches=4), max_iterations=4).fit(
        GaussianMixture(2)
    )
    assert outcome.record.stream and len(outcome.rounds) == 5
    # Later sums are averaged with those before.
    assert outcome.rounds[1].records == 120.0


def test_labels_say_where_to_start() -> None:
    tables = tables_of(3)
    nearest = [np.argmin([((rows - c) ** 2).sum(1) for c in ((0, 0), (5, 1), (-4, 4))], axis=0) for rows in tables]
    records = [Records(rows, None, np.eye(3, dtype=bool)[labels]) for rows, labels in zip(tables, nearest, strict=True)]
    outcome = Federation(records, start="labels", max_iterations=1).fit(GaussianMixtureModel(3, 2))
    assert len(outcome.rounds) == 1 + LABELLED_ROUNDS + 1
    # Each label's component is where its rows are: no other order would do.
    assert (outcome.model.predict(np.array([[0.0, 0.0], [5.0, 1.0], [-4.0, 4.0]])) == [0, 1, 2]).all()


def test_one_of_several_models_is_picked() -> None:
    outcome = Federation(
        tables_of(3, rows=60), starts=2, selection=Selection(components=(1, 3), criterion="bic"), max_iterations=3
    ).fit(GaussianMixture(3))
    assert outcome.record.selection is not None and len(outcome.record.selection.candidates) == 2
    assert outcome.model.model.n_components == 3  # type: ignore[attr-defined]


def test_an_estimators_prior_and_what_it_leaves_out_are_the_sessions() -> None:
    crowded = GaussianMixture(5, prior="weak", tol=1e-4, max_iter=60, least_distance=1.5)
    outcome = Federation(tables_of(3, rows=60), starts=0).fit(crowded)
    assert outcome.record.model.startswith("Gaussian mixture with 3 components")
    assert outcome.model.model.prior == GaussianMixturePrior.weakly_informative(5, [0.0] * 2, [1.0] * 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"stream": Stream(batches=2), "standard_errors": True}, "ends at no maximum"),
        ({"start": "labels"}, r"needs \[labels\]"),
        ({"start": "labels", "starts": 3}, "set one of them"),
        ({"bootstrap": 1}, "bootstrap"),
        ({"standard_errors": True, "mass_floor": 2.0, "starts": 0}, "standard errors and a mass floor"),
    ],
)
def test_what_no_session_does_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        Federation(tables_of(3), **fields).fit(GaussianMixture(2))


FAMILY = "rectangular-test-mixture"


@dataclass(frozen=True)
class Exponentials:
    """As in docs/your-own-model.md, with no more than a session asks for."""

    n_components: int
    missing: bool = False

    family = FAMILY
    n_columns = 1

    def describe(self) -> Mapping[str, Any]:
        return {"family": FAMILY, "n_components": self.n_components}

    @property
    def n_free_parameters(self) -> int:
        return 2 * self.n_components - 1

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        k, longest = (self.n_components,), 1.0 if column_bounds is None else float(column_bounds[0])
        blocks = [("count", (), 1.0), ("log_likelihood", (), 1e3), ("entropy", (), 2.0)]
        return Layout(tuple(Block(*each) for each in (*blocks, ("held", k, 1.0), ("time", k, longest))))

    def validate(self, parameters: Parameters) -> None:
        if set(parameters) != {"shares", "rates"}:
            raise CallerError("shares and rates are asked for")

    def _joint(self, parameters: Parameters, rows: Vector) -> Vector:
        return np.log(parameters["shares"] * parameters["rates"]) - rows[:, :1] * parameters["rates"]

    def e_step(self, parameters: Parameters, rows: Vector | Records, layout: Layout | None = None) -> Statistics:
        times = Records.of(rows).rows
        joint = self._joint(parameters, times)
        density = np.logaddexp.reduce(joint, axis=1)
        r = np.exp(joint - density[:, np.newaxis])
        parts = {
            "count": float(len(times)),
            "log_likelihood": float(density.sum()),
            "entropy": float(-(r * np.log(r)).sum()),
            "held": r.sum(axis=0),
            "time": (r * times).sum(axis=0),
        }
        return Statistics.of(self.layout() if layout is None else layout, parts)

    def m_step(self, statistics: Statistics, parameters: Parameters) -> Parameters:
        held = statistics["held"]
        return Parameters({"shares": held / held.sum(), "rates": held / statistics["time"]})

    def free_energy(self, statistics: Statistics, parameters: Parameters) -> float:
        logs = np.log(parameters["shares"] * parameters["rates"])
        return float(
            statistics["held"] @ logs - parameters["rates"] @ statistics["time"] + float(statistics["entropy"])
        )

    def log_prior(self, parameters: Parameters) -> float:
        return 0.0

    def log_prob(self, parameters: Parameters, rows: Vector | Records) -> Vector:
        return np.asarray(np.logaddexp.reduce(self._joint(parameters, Records.of(rows).rows), axis=1))

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator
    ) -> tuple[Vector, NDArray[np.int64]]:
        labels = generator.choice(self.n_components, size=n, p=parameters["shares"])
        return generator.exponential(1 / parameters["rates"][labels])[:, np.newaxis], labels

    def start(self, mean: Vector, covariance: Vector, seed: int) -> Parameters:
        spread = np.random.default_rng(seed).uniform(0.5, 2.0, self.n_components)
        return Parameters({"shares": np.full(self.n_components, 1 / self.n_components), "rates": spread / mean[0]})


@dataclass(frozen=True)
class ExponentialsChart:
    """Shares on a sphere and √w log λ, with w a reference's shares."""

    scales: Vector

    @property
    def size(self) -> int:
        return 2 * len(self.scales)

    def vector(self, parameters: Parameters) -> Vector:
        return np.concatenate([to_sphere(parameters["shares"]), self.scales * np.log(parameters["rates"])])

    def arrays(self, vector: Vector) -> Mapping[str, Vector]:
        points, logs = np.split(vector, 2)
        return {"shares": from_sphere(points), "rates": np.exp(logs / self.scales)}

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        (points, _), held = np.split(vector, 2), statistics["held"]
        along = held - self.arrays(vector)["rates"] * statistics["time"]
        return np.concatenate([sphere_gradient(points, held), along / self.scales])


@dataclass(frozen=True)
class ChartedExponentials(Exponentials):
    """The same with a chart, as which it can be optimised."""

    def chart(self, reference: Parameters) -> Chart:
        return Chart((ExponentialsChart(np.sqrt(reference["shares"])),))


@pytest.fixture
def registered() -> Iterator[Exponentials]:
    register(FAMILY, lambda said: Exponentials(said["n_components"]))
    yield Exponentials(2)
    del FAMILIES[FAMILY]


@pytest.fixture
def charted() -> Iterator[ChartedExponentials]:
    register(FAMILY, lambda said: ChartedExponentials(said["n_components"]))
    yield ChartedExponentials(2)
    del FAMILIES[FAMILY]


def times_of(model: Exponentials, n: int, rows: int = 60, slower: float = 0.1) -> list[Vector]:
    truth = Parameters({"shares": np.array([0.7, 0.3]), "rates": np.array([2.0, slower])})
    return [model.sample(truth, rows, np.random.default_rng([7, k]))[0] for k in range(n)]


def test_a_model_of_ones_own_is_fitted_through_the_secure_sum(registered: Exponentials) -> None:
    assert isinstance(registered, StartingModel) and not isinstance(GaussianMixtureModel(2, 1), StartingModel)
    tables = times_of(registered, 5)
    outcome = Federation(tables, seed=4, max_iterations=12, stopping=Stopping(0.0, 12)).fit(registered)
    rows = np.concatenate(tables)
    assert outcome.result is not None
    alone = fit(registered, TotalOfRows(registered, rows), outcome.result.start, Stopping(0.0, 12))
    assert outcome.model.parameters.distance(alone.parameters) < 1e-6
    assert outcome.record.model == FAMILY
    # The start follows from the first sum, in the units of the rows.
    expected = registered.start(rows.mean(axis=0), np.atleast_2d(rows.var()), 4)
    assert outcome.result.start.distance(expected) < 1e-6
    pooled, _ = fit_pooled(
        session_of_tables(registered, "abcde", tables, None, "t").description, rows, Stopping(0.0, 12), 4
    )
    assert pooled.parameters.distance(outcome.model.parameters) < 1e-6


def test_a_model_of_ones_own_under_dropout(registered: Exponentials) -> None:
    tables = times_of(registered, 6, 30)
    outcome = Federation(tables, dropout=0.2, seed=1, colluders=1, stopping=Stopping(0.0, 6)).fit(registered)
    assert not outcome.failure and len(outcome.rounds) == 7


def test_one_with_a_chart_is_fitted_by_l_bfgs_in_fewer_rounds(charted: ChartedExponentials) -> None:
    tables = times_of(charted, 3, rows=200, slower=0.4)
    rows, stopping = np.concatenate(tables), Stopping(1e-9, 3000)
    outcome = Federation(tables, stopping=stopping, colluders=1).fit(charted)
    assert outcome.result is not None and outcome.result.fit.converged
    start = outcome.result.start
    alone = fit(charted, TotalOfRows(charted, rows), start, stopping, optimiser=optimiser_for(L_BFGS, charted))
    assert any(each.step is Step.LEAP for each in outcome.result.fit.iterations)
    assert outcome.model.parameters.distance(alone.parameters) < 1e-6
    by_em = fit(charted, TotalOfRows(charted, rows), start, stopping)
    assert 3 * len(alone.iterations) < len(by_em.iterations)
    assert alone.iterations[-1].objective >= by_em.iterations[-1].objective - 1e-7


def test_one_with_a_chart_has_one_track(charted: ChartedExponentials) -> None:
    about = session_of_tables(charted, "abc", times_of(charted, 3), None, "t").description.model_dump(exclude_none=True)
    session = ServerConfiguration(**about)
    assert (session.optimiser, session.n_tracks, session.n_starts) == (L_BFGS, 1, 0)
    assert ServerConfiguration(**about, fit=FitTable(optimiser="squarem")).optimiser == SQUAREM
    with pytest.raises(ValidationError, match="cannot have tracks of its fit"):
        ServerConfiguration(**about, fit=FitTable(tracks=2)).description  # noqa: B018  what tenants are told


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"standard_errors": True}, "cannot have standard errors"),
        ({"bootstrap": 4}, "cannot have a bootstrap"),
        ({"starts": 3}, "cannot have starts"),
        ({"optimiser": "lbfgs"}, "a model without a `chart` takes steps of EM"),
        ({"mass_floor": 2.0}, "no components to count"),
        ({"engine": "flower"}, "Flower's processes know no family"),
    ],
)
def test_what_is_worked_out_for_mixtures_alone_is_refused(
    registered: Exponentials, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CallerError, match=complaint):
        Federation(times_of(registered, 3), **fields).fit(registered)


def test_rows_that_a_model_of_ones_own_does_not_read_are_refused(registered: Exponentials) -> None:
    tables = times_of(registered, 3)
    weighted = [Records(rows, np.ones(len(rows))) for rows in tables]
    with pytest.raises(CallerError, match="cannot have weights"):
        Federation(weighted).fit(registered)
    tables[0][0] = np.nan
    with pytest.raises(CallerError, match="admits no missing cells"):
        Federation(tables).fit(registered)


def test_an_unknown_family_is_named_and_one_in_the_box_is_not_replaced(registered: Exponentials) -> None:
    assert build_model({"family": FAMILY, "n_components": 2, "n_columns": 1}) == registered
    with pytest.raises(CallerError, match="in the box already"):
        register("gaussian-mixture", Exponentials)
    about = session_of_tables(registered, "abc", times_of(registered, 3), None, "t").description
    with pytest.raises(TermsRefused, match=FAMILY):
        check_description(PolicyTable(models=("gaussian-mixture",)), about)
    check_description(PolicyTable(components=2), about)
    with pytest.raises(TermsRefused, match="fits 2 components"):
        check_description(PolicyTable(components=1), about)
