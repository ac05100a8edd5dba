"""Commands about tables and fitted models: `fed-em schema`, `estimates`, `predict`, `score`, `impute` and `sample`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from fed_em.model import Rows
    from fed_em.model_file import FittedModel

Model = Annotated[Path, typer.Argument(help="Folder of a fitted model.")]
Data = Annotated[
    Path,
    typer.Argument(help="Rows with the model's columns: a CSV, Parquet or NumPy file, or a folder of CSV and Parquet."),
]
Progress = Annotated[bool, typer.Option(help="Show a bar, on a terminal that nothing else is written to.")]
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


def predict(model: Model, data: Data, output: Output = None, progress: Progress = True) -> None:
    """Component and its probability for each row; tables need not fit into memory."""
    import pyarrow as pa

    from fed_em.model_file import load_model

    fitted = load_model(model)

    def found(rows: Rows) -> pa.Table:
        probabilities = fitted.predict_proba(rows)
        return pa.table({"component": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)})

    _write(map(found, _watched(_blocks(fitted, data), progress and _quiet(output))), output)


def score(model: Model, data: Data, output: Output = None, progress: Progress = True) -> None:
    """Log density of each row, in nats; without --output, the mean over all rows. Tables need not fit into memory."""
    import pyarrow as pa

    from fed_em.model_file import load_model

    fitted = load_model(model)
    if output is not None:
        densities = map(fitted.score_samples, _watched(_blocks(fitted, data), progress and _quiet(output)))
        _write((pa.table({"log_density": each}) for each in densities), output)
        return
    n, total = 0, 0.0
    for each in map(fitted.score_samples, _watched(_blocks(fitted, data), progress)):
        n, total = n + len(each), total + float(each.sum())
    typer.echo(f"{n} rows, mean log density {total / n:.6f} nats in original units")


def impute(
    model: Model,
    data: Data,
    output: Output = None,
    certainty: Annotated[
        bool,
        typer.Option(
            "--certainty",
            help="Besides, for each column, the standard deviation of what was put in, or the probability of its level.",
        ),
    ] = False,
    draw: Annotated[
        int | None,
        typer.Option(
            "--draw",
            min=0,
            help="Draw the missing cells by this seed instead: several seeds make multiple imputations.",
        ),
    ] = None,
    progress: Progress = True,
) -> None:
    """The model's columns of a table, its empty cells filled; tables need not fit into memory."""
    import numpy as np
    import pyarrow as pa

    from fed_em.columns import CategoricalColumn
    from fed_em.errors import CallerError
    from fed_em.model_file import load_model

    if certainty and draw is not None:
        raise CallerError("what is drawn has no certainty of its own", remedy="leave out --certainty or --draw")
    fitted, generator = load_model(model), np.random.default_rng(draw)
    # One type a column in all blocks, whatever happens to be in the first.
    types = {
        column.name: pa.string()
        if isinstance(column, CategoricalColumn)
        else pa.float64()
        if column.kind == "gaussian"
        else pa.int64()
        for column in fitted.schema.columns
    }

    def filled(rows: Rows) -> pa.Table:
        found = fitted.impute(rows, 0 if draw is None else 1, generator)
        cells = fitted.schema.decode(found.rows if draw is None else found.draws[0])
        columns = {name: pa.array(cells[name], type=types[name]) for name in cells}
        if certainty:
            for d, column in enumerate(fitted.schema.columns):
                of_level = column.kind in ("categorical", "bernoulli")
                name, of = ("probability", found.probabilities) if of_level else ("deviation", found.deviations)
                columns[f"{column.name}_{name}"] = pa.array(of[:, d])
        return pa.table(columns)

    _write(map(filled, _watched(_blocks(fitted, data, fitted.columns), progress and _quiet(output))), output)


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
                f"standard errors of {found.records:g} records, {found.shift:.2g} of them from the maximum of the likelihood at most"
            )
        return
    names = ("name", "kind", "component", "column", "level", "value", "error", "remark")
    _write(iter([pa.table({name: [getattr(line, name) for line in found] for name in names})]), output)


def sample(
    model: Model,
    n: Annotated[int, typer.Argument(min=1, help="How many rows.")],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    output: Output = None,
) -> None:
    """Rows drawn from the model, with their component."""
    import pyarrow as pa

    from fed_em.model_file import load_model

    fitted = load_model(model)
    rows, components = fitted.sample(n, seed)
    _write(iter([pa.table({**fitted.schema.decode(rows), "component": components})]), output)


def _blocks(fitted: FittedModel, data: Path, may_be_missing: tuple[str, ...] | None = None) -> Iterator[Rows]:
    """The rows of a table, block by block, of one block or more; those of NumPy's files are one.

    Args:
        fitted: Whose columns are read.
        data: Where.
        may_be_missing: Columns whose cells may be; those of the model if None.
    """
    import numpy as np

    from fed_em.columns import CategoricalColumn
    from fed_em.errors import CallerError
    from fed_em.model import CountedModel
    from fed_em.table_files import open_table
    from fed_em_client.rows import read_columns

    schema = fitted.schema
    if may_be_missing is None:
        may_be_missing = fitted.columns if isinstance(fitted.model, CountedModel) and fitted.model.missing else ()
    if data.suffix.lower() in (".npy", ".npz"):
        yield read_columns(data, fitted.columns, {}, may_be_missing, schema)
        return
    labelled = [column.name for column in schema.columns if isinstance(column, CategoricalColumn)]
    seen = False
    for block in open_table(data, fitted.columns, text=labelled).rows(schema):
        missing = np.isnan(block).sum(axis=0)
        if missing.any() and not may_be_missing:
            d = int(missing.argmax())
            raise CallerError(
                f"column '{fitted.columns[d]}' has {missing[d]} missing cells among {len(block)} rows of {data}",
                remedy="the model takes complete rows: leave such rows out, or fit one that admits missing cells",
            )
        seen = True
        yield block
    if not seen:
        raise CallerError(f"{data} has no rows", remedy="give at least one row")


def _quiet(output: Path | None) -> bool:
    """Whether what is written leaves a terminal alone."""
    return output is not None or not sys.stdout.isatty()


def _watched(blocks: Iterator[Rows], wanted: bool) -> Iterator[Rows]:
    """The same blocks, and a bar that shows how many rows went by."""
    from fed_em.fit_progress import fit_progress

    with fit_progress(None, wanted) as shown:
        shown.says("rows read")
        for block in blocks:
            yield block
            shown.passed(len(block))


def _write(tables: Iterator[pa.Table], output: Path | None) -> None:
    """Write one table, in parts: to standard output, or to a file that is there once all of it is."""
    from fed_em.errors import CallerError, EnvironmentFault

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise CallerError(f"cannot write '{output.suffix}' files", remedy="end the name in .csv or .parquet")
    try:
        if output is None:
            _write_csv(tables, sys.stdout.buffer)
        else:
            _write_file(tables, output)
    except OSError as error:
        raise EnvironmentFault(f"cannot write {output or 'to standard output'}: {error.strerror}") from None


def _write_file(tables: Iterator[pa.Table], output: Path) -> None:
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with partial.open("xb") as file:
            (_write_csv if output.suffix == ".csv" else _write_parquet)(tables, file)
        partial.replace(output)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _write_csv(tables: Iterator[pa.Table], sink: BinaryIO) -> None:
    import pyarrow.csv

    try:
        first = next(tables)
        with pyarrow.csv.CSVWriter(sink, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
        sink.flush()
    except BrokenPipeError:
        # Whoever read has enough; Python would complain once more when it flushes on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_parquet(tables: Iterator[pa.Table], sink: BinaryIO) -> None:
    import pyarrow.parquet

    first = next(tables)
    with pyarrow.parquet.ParquetWriter(sink, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
