"""What is told of a session with noise in its sums: the promise, how much it costs, and what it does not wait for."""

from __future__ import annotations

import io
from html import unescape

import numpy as np
import pytest

from fed_em import GaussianMixture
from fed_em_server.configuration import PrivacyTable
from fed_em_server.plain_log import PlainLog
from fed_em_server.report_page import report_page
from fed_em_server.report_words import ending_in_words, starts_in_words
from fed_em_simulations import Federation, FederationOutcome


@pytest.fixture(scope="module")
def told() -> tuple[FederationOutcome, str]:
    """A session that hides whole tenants, and there are three; and its log."""
    generator, stream = np.random.default_rng(0), io.StringIO()
    tables = [generator.normal(size=(60, 2)) for _ in range(3)]
    privacy = PrivacyTable(epsilon=5.0, delta=1e-5, unit="tenant")
    with PlainLog(stream, lambda: 0.0) as log:
        federation = Federation(tables, privacy=privacy, starts=2, max_iterations=2, watchers=[log])
        outcome = federation.fit(GaussianMixture(2))
    return outcome, stream.getvalue()


def test_it_ends_with_its_last_round_and_not_before_convergence(told: tuple[FederationOutcome, str]) -> None:
    assert ending_in_words(told[0].record) == "with noise, to its last round"


def test_starts_are_sets_of_centres_and_no_likelihoods(told: tuple[FederationOutcome, str]) -> None:
    assert starts_in_words(told[0].record).startswith("best of 2 in 6 sums, explaining squares of ")


def test_too_few_tenants_to_hide_one_are_told_of_everywhere(told: tuple[FederationOutcome, str]) -> None:
    outcome, log = told
    (doubt,) = outcome.record.doubts
    assert doubt.startswith("Noise leaves little: ") and "of at most 180 records of all 3 tenants" in doubt
    assert doubt.replace("±", "+-") in log
    assert doubt in unescape(report_page(outcome.record, outcome.model, None))


def test_the_log_spells_greek_letters(told: tuple[FederationOutcome, str]) -> None:
    assert "(epsilon = 5, delta = 1e-05)-differential privacy of each tenant" in told[1]
    assert "?" not in told[1]


def test_the_report_says_what_noise_bounds_instead_of_what_sums_give_away(told: tuple[FederationOutcome, str]) -> None:
    page = " ".join(report_page(told[0].record, told[0].model, None).split())
    assert "with its share of the noise" in page and "by ε = 5 at δ = 1e-05" in page
    for absent in ("publishes that row", "come down to a single row", "never falls", "No noise"):
        assert absent not in page
