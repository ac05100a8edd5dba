"""Commands about tables and fitted models: `fed-em schema`, `estimates`, `predict`, `score` and `sample`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from fed_em.model import Rows
    from fed_em.model_file import FittedModel

Model = Annotated[Path, typer.Argument(help="Folder of a fitted model.")]
Data = Annotated[Path, typer.Argument(help="Rows: CSV, Parquet or NumPy, with the model's columns.")]
Output = Annotated[Path | None, typer.Option("--output", help="CSV or Parquet file; standard output by default.")]


def schema(
    data: Annotated[list[Path], typer.Argument(help="CSV and Parquet files of one table, or folders of them.")],
    output: Annotated[Path | None, typer.Option("--output", help="TOML file; standard output by default.")] = None,
) -> None:
    """The kinds of a table's columns, as they follow from its cells: TOML to be looked at and edited."""
    from fed_em.errors import EnvironmentFault
    from fed_em.schema_file import inferred_toml
    from fed_em.table_files import open_table

    text = inferred_toml(open_table(data).evidence())
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"cannot write {output}: {error.strerror}") from None


def predict(model: Model, data: Data, output: Output = None) -> None:
    """Component and its probability for each row."""
    import pyarrow as pa

    fitted, rows = _load(model, data)
    probabilities = fitted.predict_proba(rows)
    table = {"component": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)}
    _write(pa.table(table), output)


def score(model: Model, data: Data, output: Output = None) -> None:
    """Log density of each row, in nats; without --output, the mean over all rows."""
    import pyarrow as pa

    fitted, rows = _load(model, data)
    densities = fitted.score_samples(rows)
    if output is None:
        typer.echo(f"{len(rows)} rows, mean log density {densities.mean():.6f} nats in original units")
    else:
        _write(pa.table({"log_density": densities}), output)


def estimates(model: Model, output: Output = None) -> None:
    """The model's parameters in the units of the table, with their standard errors if it has any; as a table with --output."""
    import pyarrow as pa

    from fed_em.estimates import Estimates
    from fed_em.model_file import load_model

    found = Estimates.of(load_model(model))
    if output is None:
        typer.echo(str(found))
        if found.records is not None:
            typer.echo(
                f"standard errors of {found.records:g} records, {found.shift:.2g} of them from the maximum at most"
            )
        return
    names = ("name", "kind", "component", "column", "level", "value", "error", "remark")
    _write(pa.table({name: [getattr(line, name) for line in found] for name in names}), output)


def sample(
    model: Model,
    n: Annotated[int, typer.Argument(min=1, help="How many rows.")],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    output: Output = None,
) -> None:
    """Rows drawn from the model, with their component."""
    import pyarrow as pa

    from fed_em.mixed_mixture import MixedMixtureModel
    from fed_em.model_file import load_model

    fitted = load_model(model)
    rows, components = fitted.sample(n, seed)
    columns: dict[str, Any] = {name: rows[:, k] for k, name in enumerate(fitted.columns)}
    if isinstance(fitted.model, MixedMixtureModel):
        columns = fitted.model.schema.decode(rows)
    _write(pa.table({**columns, "component": components}), output)


def _load(model: Path, data: Path) -> tuple[FittedModel, Rows]:
    from fed_em.gaussian_mixture import GaussianMixtureModel
    from fed_em.mixed_mixture import MixedMixtureModel
    from fed_em.model_file import load_model
    from fed_em_client.rows import read_columns

    fitted = load_model(model)
    complete = isinstance(fitted.model, GaussianMixtureModel) and not fitted.model.missing
    schema = fitted.model.schema if isinstance(fitted.model, MixedMixtureModel) else None
    return fitted, read_columns(data, fitted.columns, {}, () if complete else fitted.columns, schema)


def _write(table: pa.Table, output: Path | None) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    from fed_em.errors import CallerError, EnvironmentFault

    try:
        if output is None:
            pyarrow.csv.write_csv(table, sys.stdout.buffer)
            sys.stdout.flush()
        elif output.suffix == ".parquet":
            pyarrow.parquet.write_table(table, output)
        elif output.suffix == ".csv":
            pyarrow.csv.write_csv(table, output)
        else:
            raise CallerError(f"cannot write '{output.suffix}' files", remedy="end the name in .csv or .parquet")
    except BrokenPipeError:
        # Whoever read has enough; Python would complain once more when it flushes on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise EnvironmentFault(f"cannot write {output}: {error.strerror}") from None
