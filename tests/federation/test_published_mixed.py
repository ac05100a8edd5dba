"""Published data of mixed kinds through the secure sum: four hospitals' heart patients, and the carcinoma latent classes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from mixed_federation import pooled_from_same_start, records_of, run, write_mixed_federation
from small_federation import session_toml, write_small_federation
from test_equals_pooled import assert_same_path
from test_processes import federate
from typer.testing import CliRunner

from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import load_model, save_model
from fed_em_simulations import command_line
from fed_em_simulations.federation_folder import FederationFolder

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
HEART = (
    ("age", "low = 0\nhigh = 120"),
    ("sex", 'kind = "bernoulli"'),
    ("cp", 'kind = "categorical"\nlevels = [1, 2, 3, 4]'),
    ("trestbps", "low = 50\nhigh = 250\nmissing = true"),
    ("chol", "low = 50\nhigh = 700\nmissing = true"),
    ("fbs", 'kind = "bernoulli"\nmissing = true'),
    ("restecg", 'kind = "categorical"\nlevels = [0, 1, 2]\nmissing = true'),
    ("thalach", "low = 40\nhigh = 250\nmissing = true"),
    ("exang", 'kind = "bernoulli"\nmissing = true'),
    ("oldpeak", "low = -5\nhigh = 10\nmissing = true"),
    ("slope", 'kind = "categorical"\nlevels = [1, 2, 3]\nmissing = true'),
    ("ca", 'kind = "poisson"\nupper = 10\nmissing = true'),
    ("thal", 'kind = "categorical"\nlevels = [3, 6, 7]\nmissing = true'),
)
# With the weak prior of Fraley and Raftery (2007): without it a component shrinks onto an ST depression of exactly 0.
HEART_MODEL = """\
family = "mixed-mixture"
n_components = 2
covariance = "full"
[model.prior]
level_records = 1.0
bernoulli_records = 1.0
[model.prior.gaussian]
mean = [0, 0, 0, 0, 0]
scale = [0.75, 0.75, 0.75, 0.75, 0.75]
mean_precision = 0.01
degrees_of_freedom = 7
"""


def declared(columns: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f'[[columns]]\nname = "{name}"\n{said}' for name, said in columns)


def heart_of(path: Path) -> list[list[str]]:
    """One hospital's cells as it wrote them, but empty for "?", and for a blood pressure or a cholesterol of zero."""
    lines = [line.strip().split(",") for line in path.read_text().splitlines()]
    zeros = {3, 4}
    return [
        ["" if cell == "?" or (d in zeros and float(cell) == 0) else cell for d, cell in enumerate(line)]
        for line in lines
        if line != [""]
    ]


def write_hospitals(folder: Path, shared_data: Callable[[str], Path]) -> FederationFolder:
    """Four tenants with CSV files."""
    session = session_toml(HEART_MODEL, "tolerance = 1e-8\nmax_iterations = 300", columns=declared(HEART))
    federation = write_small_federation(folder, {name: np.zeros((1, 3)) for name in HOSPITALS}, session)
    for name, configuration in federation.tenant_files.items():
        rows = heart_of(shared_data(f"processed.{name}.data"))
        with (configuration.parent / "rows.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[column for column, _ in HEART] + ["num"], *rows])
        configuration.write_text(configuration.read_text().replace("rows.parquet", "rows.csv"))
    return federation


def test_four_hospitals_of_mixed_columns_reach_the_pooled_fit(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    federation = write_hospitals(tmp_path / "f", shared_data)
    records = records_of(federation)
    assert len(records) == 303 + 294 + 123 + 200
    chol, thal = 4, 12
    switzerland = slice(303 + 294, 303 + 294 + 123)
    assert np.isnan(records.rows[switzerland, chol]).all() and np.isnan(records.rows[:, thal]).mean() > 0.5
    outcome = run(federation)
    pooled = pooled_from_same_start(federation, outcome.result)
    assert_same_path(outcome, pooled)
    assert outcome.record.converged
    # Who has the disease, which no column says, is mostly one of the two components.
    lines = [heart_of(shared_data(f"processed.{name}.data")) for name in HOSPITALS]
    ill = np.array([int(line[13]) > 0 for hospital in lines for line in hospital])
    agree = float(np.mean(outcome.fitted.predict(records.rows) == ill))
    assert max(agree, 1 - agree) > 0.7


def carcinoma_of(path: Path) -> dict[str, Mapping[str, Sequence[object]]]:
    """The 118 slides as of four clinics, which have every fourth."""
    with path.open() as file:
        lines = list(csv.DictReader(file))
    return {f"t{k}": {name: [line[name] for line in lines[k::4]] for name in "ABCDEFG"} for k in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize(("n_components", "published"), [(2, -317.256837), (3, -293.704979)])
def test_carcinoma_latent_classes(
    tmp_path: Path, shared_data: Callable[[str], Path], n_components: int, published: float
) -> None:
    """Seven pathologists (Agresti 2002, table 13.1): poLCA (Linzer and Lewis 2011, J. Stat. Soft. 42/10)."""
    tables = carcinoma_of(shared_data("carcinoma.csv"))
    columns = declared([(name, 'kind = "categorical"\nlevels = ["1", "2"]') for name in "ABCDEFG"])
    model = f'family = "mixed-mixture"\nn_components = {n_components}\nprior = "none"'
    session = session_toml(model, "tolerance = 1e-9\nmax_iterations = 200", columns=columns)
    federation = write_mixed_federation(tmp_path / "f", tables, session)
    outcome = run(federation)
    assert outcome.record.converged and isinstance(outcome.fitted.model, MixedMixtureModel)
    save_model(tmp_path / "model", outcome.fitted)
    again = load_model(tmp_path / "model")
    assert again.score_samples(records_of(federation).rows).sum() == pytest.approx(published, abs=2e-6)
    data = str(federation.tenant("t0").data)

    def said(*arguments: str) -> list[str]:
        result = CliRunner().invoke(command_line.app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    assert "30 rows, mean log density" in said("score", str(tmp_path / "model"), data)[0]
    assert len(said("predict", str(tmp_path / "model"), data)) == 31
    drawn = list(csv.DictReader(said("sample", str(tmp_path / "model"), "20")))
    assert {line[name] for line in drawn for name in "ABCDEFG"} == {"1", "2"}


@pytest.mark.slow
def test_four_hospitals_as_processes_over_grpc(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    federation = write_hospitals(tmp_path / "f", shared_data)
    outcome, _ = federate(federation)
    assert outcome.record.converged
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result))
    kept = load_model(federation.tenant("va").state / "model")
    assert kept.parameters.distance(outcome.fitted.parameters) == 0
