"""The prior of a session's model where its file names none, or names it: weak, or none at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_federation import session_toml

from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.pooled import fit_pooled

TWO = 'family = "gaussian-mixture"\nn_components = 2'
KINDS = """
[[columns]]
name = "ward"
kind = "categorical"
levels = ["north", "south"]

[[columns]]
name = "visits"
kind = "poisson"
upper = 50

[[columns]]
name = "weight"
low = 0
high = 200
"""


def described(folder: Path, text: str) -> ServerConfiguration:
    (folder / "session.toml").write_text(text)
    return read_server_configuration(folder / "session.toml")


@pytest.mark.parametrize("said", ["", '\nprior = "weak"'])
def test_it_is_the_weak_one_of_standardised_columns(tmp_path: Path, said: str) -> None:
    found = described(tmp_path, session_toml(TWO + said)).description
    n = len(found.columns)
    assert found.model["prior"] == GaussianMixturePrior.weakly_informative(2, [0.0] * n, [1.0] * n).describe()
    assert isinstance(found.fitted_model, GaussianMixtureModel)
    assert found.fitted_model.prior is not None


def test_there_is_none_where_none_is_asked_for(tmp_path: Path) -> None:
    found = described(tmp_path, session_toml(TWO + '\nprior = "none"')).description
    assert "prior" not in found.model
    assert isinstance(found.fitted_model, GaussianMixtureModel)
    assert found.fitted_model.prior is None


def test_a_name_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no prior 'strong'.*'weak', 'none'"):
        described(tmp_path, session_toml(TWO + '\nprior = "strong"'))


def test_models_that_one_is_picked_from_share_that_of_the_largest(tmp_path: Path) -> None:
    text = session_toml('family = "gaussian-mixture"\n\n[selection]\ncomponents = [2, 3, 5]')
    found = described(tmp_path, text).description
    n = len(found.columns)
    weak = GaussianMixturePrior.weakly_informative(5, [0.0] * n, [1.0] * n)
    assert [model.prior for model in found.models if isinstance(model, GaussianMixtureModel)] == [weak] * 3


@pytest.mark.parametrize(("mixing", "concentration"), [("", 1.5), ('\nmixing = "tenant"', 1.0)])
def test_other_columns_have_a_pseudo_record_each(tmp_path: Path, mixing: str, concentration: float) -> None:
    text = session_toml(f'family = "mixed-mixture"\nn_components = 2{mixing}', columns=KINDS)
    model = described(tmp_path, text).description.fitted_model
    assert isinstance(model, MixedMixtureModel)
    assert model.prior is not None
    assert (model.prior.level_records, model.prior.poisson_records, model.prior.poisson_rates) == (1.0, 1.0, (1.0,))
    assert model.prior.weight_concentration == concentration
    assert model.prior.gaussian == GaussianMixturePrior.weakly_informative(2, [0.0], [1.0])


def test_no_component_shrinks_onto_a_value_that_many_records_share(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    rows = np.concatenate((np.zeros((60, 3)), generator.normal(3.0, 1.0, (140, 3))))
    spreads = {}
    for name in ("weak", "none"):
        session = described(tmp_path, session_toml(f'{TWO}\nprior = "{name}"'))
        fitted, _ = fit_pooled(
            session.description, Records(rows), Stopping(1e-9, 200), 0, session.optimiser, session.beginning()
        )
        spreads[name] = float(np.linalg.eigvalsh(fitted.parameters["covariances"]).min())
    assert spreads["none"] < 1e-5  # the floor
    assert spreads["weak"] > 1e-3
