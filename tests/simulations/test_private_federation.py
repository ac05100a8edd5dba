"""Sessions with noise in every sum, by the real protocol: what they promise, what they cost, and what is left of the fit."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em import GaussianMixture, LatentClass, MixedMixture
from fed_em.centres import CENTRE_ROUNDS
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.model import Model
from fed_em.starts import ROUNDS
from fed_em_server.configuration import PRIVATE_STOPPING, PrivacyTable
from fed_em_server.record import Participation
from fed_em_simulations import Federation, FederationOutcome

CENTRES = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]])
LITTLE_NOISE = PrivacyTable(epsilon=20.0, delta=1e-3, radius=4.0)


def tables(n: int, tenants: int = 6) -> list[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Rows of three clusters apart, for each tenant."""
    generator = np.random.default_rng(3)
    return [CENTRES[generator.integers(3, size=n)] + generator.normal(size=(n, 2)) for _ in range(tenants)]


def fitted(rows: int, privacy: PrivacyTable | None, **more: object) -> FederationOutcome:
    """Three components, from one draw and by plain EM unless it is said otherwise."""
    said = {"starts": 0, "optimiser": "em", "seed": 5, "stopping": Stopping(0.0, 6), **more}
    return Federation(tables(rows), privacy=privacy, **said).fit(GaussianMixture(3))  # type: ignore[arg-type]


@pytest.mark.slow
def test_with_hardly_any_noise_it_is_hardly_another_model() -> None:
    private, plain = (fitted(1500, noise, starts=6, stopping=Stopping(0.0, 6)) for noise in (LITTLE_NOISE, None))
    fresh = np.concatenate(tables(1000, 1))
    ours, theirs = (model_of(each, fresh) for each in (private, plain))
    assert ours == pytest.approx(theirs, abs=0.02)
    assert ours != theirs
    assert private.record.rounds[-1].log_likelihood == pytest.approx(plain.record.rounds[-1].log_likelihood, abs=0.05)


def model_of(outcome: FederationOutcome, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """Nats a row under the fitted model, in original units."""
    found = outcome.model
    assert isinstance(found.model, Model)
    density = found.model.log_prob(found.parameters, found.coordinates.apply(rows))
    return float(density.mean() + found.coordinates.log_jacobian)


def test_the_same_seed_gives_the_same_noise() -> None:
    first, again = (fitted(100, PrivacyTable(epsilon=8.0, delta=1e-5), stopping=Stopping(0.0, 2)) for _ in range(2))
    assert first.model.parameters.distance(again.model.parameters) == 0


@pytest.mark.slow
def test_one_epsilon_finds_clusters_in_many_rows() -> None:
    """24 000 rows; the usual starts and rounds. Every centre is found within a third of its spread."""
    outcome = Federation(tables(4000), privacy=PrivacyTable(epsilon=1.0, delta=1e-6), seed=2).fit(GaussianMixture(3))
    privacy = outcome.record.privacy
    assert privacy is not None and (privacy.epsilon, privacy.unit) == (1.0, "record")
    assert len(outcome.record.rounds) == 1 + CENTRE_ROUNDS + PRIVATE_STOPPING.max_iterations == privacy.sums - 2
    means = outcome.model.coordinates.restore(outcome.model.parameters["means"])
    distances = np.linalg.norm(CENTRES[:, np.newaxis] - means, axis=2)
    assert distances.min(axis=1).max() < 0.35


@pytest.mark.slow
def test_too_few_rows_still_end_in_a_model_and_say_how_often_noise_was_too_much() -> None:
    outcome = fitted(50, PrivacyTable(epsilon=0.3, delta=1e-6))
    assert sum(opened.projected for opened in outcome.record.rounds) > 0
    assert np.isfinite(outcome.model.parameters["means"]).all()


def test_who_drops_out_leaves_absolute_sums_of_the_others() -> None:
    outcome = fitted(500, PrivacyTable(epsilon=20.0, delta=1e-4, spare_sums=8), dropout=0.15, block_size=2, colluders=0)
    stale = [
        opened for opened in outcome.record.rounds if any(p is not Participation.SUMMED for p in opened.participation)
    ]
    assert stale
    assert all(base in {0, opened.round} for opened in outcome.record.rounds for base in opened.bases)


def test_a_gate_goes_by_counts_with_noise() -> None:
    outcome = fitted(2000, LITTLE_NOISE, mass_floor=50.0)
    assert all(opened.counted for opened in outcome.record.rounds)
    assert outcome.record.privacy is not None
    assert outcome.record.privacy.sums == 2 * 7 + 2


def test_an_optimiser_has_no_place_in_it() -> None:
    with pytest.raises(CallerError, match="takes steps of EM"):
        fitted(50, LITTLE_NOISE, optimiser="lbfgs")


def mixed_tables(n: int, tenants: int = 4) -> list[dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """Two kinds of records, told apart by columns of all kinds."""
    generator = np.random.default_rng(8)
    tables = []
    for _ in range(tenants):
        kind = generator.integers(2, size=n)
        drawn = generator.random(n)
        tables.append(
            {
                "ward": np.array(["north", "south", "west"])[np.where(drawn < 0.8, 2 * kind, 1)],
                "smoker": generator.random(n) < np.where(kind, 0.8, 0.1),
                "visits": generator.poisson(np.where(kind, 8.0, 2.0)),
                "height": np.where(kind, 180.0, 170.0) + 3 * generator.normal(size=n),
            }
        )
    return tables


@pytest.mark.slow
def test_columns_of_all_kinds() -> None:
    privacy = PrivacyTable(epsilon=30.0, delta=1e-4)
    federation = Federation(mixed_tables(1000, 3), privacy=privacy, seed=1, starts=1, max_iterations=3)
    outcome = federation.fit(MixedMixture(2))
    order = np.argsort(outcome.model.parameters["rates"][:, 0])
    np.testing.assert_allclose(outcome.model.parameters["rates"][order, 0], [2.0, 8.0], atol=0.5)
    np.testing.assert_allclose(outcome.model.parameters["success_probabilities"][order, 0], [0.1, 0.8], atol=0.1)
    there = outcome.model.coordinates
    heights = there.location[3] + there.scale[3] * outcome.model.parameters["means"][order, 0]
    np.testing.assert_allclose(heights, [170.0, 180.0], atol=1.0)


@pytest.mark.slow
def test_noise_without_end_leaves_every_level_possible() -> None:
    """At ε = 0.05 the first sum says of levels, answers and counts that nobody has them, and some do."""
    privacy = PrivacyTable(epsilon=0.05, delta=1e-5)
    outcome = Federation(mixed_tables(200, 3), privacy=privacy, seed=1, starts=1, max_iterations=2).fit(MixedMixture(2))
    assert outcome.fitted is not None, outcome.failure
    assert (outcome.model.parameters["level_probabilities"] > 0).all()


@pytest.mark.slow
def test_latent_classes() -> None:
    tables = [{name: table[name] for name in ("ward", "smoker")} for table in mixed_tables(800, 3)]
    privacy = PrivacyTable(epsilon=30.0, delta=1e-4)
    outcome = Federation(tables, privacy=privacy, seed=1, starts=1, max_iterations=3).fit(LatentClass(2))
    assert len(outcome.record.rounds) == 1 + ROUNDS + 3
    found = outcome.model.parameters["level_probabilities"]
    np.testing.assert_allclose(np.sort(found[:, 0]), [0.0, 0.8], atol=0.15)
    np.testing.assert_allclose(np.sort(found[:, -1]), [0.1, 0.8], atol=0.15)


def test_discrete_columns_without_a_prior_are_refused() -> None:
    with pytest.raises(
        CallerError, match=r"needs a prior.*level_records = 1.0, bernoulli_records = 1.0, poisson_records"
    ):
        Federation(mixed_tables(20), privacy=LITTLE_NOISE).fit(MixedMixture(2, prior=None))
