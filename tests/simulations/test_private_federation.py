"""Sessions with noise in every sum, by the real protocol: what they promise, what they cost, and what is left of the fit."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em import GaussianMixture
from fed_em.centres import CENTRE_ROUNDS
from fed_em.em import Stopping
from fed_em.model import Model
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


def test_one_epsilon_finds_clusters_in_many_rows() -> None:
    """24 000 rows; the usual starts and rounds. Every centre is found within a third of its spread."""
    outcome = Federation(tables(4000), privacy=PrivacyTable(epsilon=1.0, delta=1e-6), seed=2).fit(GaussianMixture(3))
    privacy = outcome.record.privacy
    assert privacy is not None and (privacy.epsilon, privacy.unit) == (1.0, "record")
    assert len(outcome.record.rounds) == 1 + CENTRE_ROUNDS + PRIVATE_STOPPING.max_iterations == privacy.sums - 2
    means = outcome.model.coordinates.restore(outcome.model.parameters["means"])
    distances = np.linalg.norm(CENTRES[:, np.newaxis] - means, axis=2)
    assert distances.min(axis=1).max() < 0.35


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
    with pytest.raises(ValidationError, match="takes steps of EM"):
        fitted(50, LITTLE_NOISE, optimiser="lbfgs")
