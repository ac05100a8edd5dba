"""What a session over tables in memory is about: the columns that they declare, the model, and every tenant's records.

In a real federation columns are agreed and declared beforehand, as a range or a set of levels says something of whose rows it is. Here,
unless they are given, they are read off all tenants' tables together: ranges, levels, largest counts, and whether cells may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fed_em.columns import Column as DescribedColumn
from fed_em.columns import ColumnSchema, GaussianColumn, PoissonColumn, Table, evidence_of
from fed_em.divergence import Mixture
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.estimators import GaussianMixture
from fed_em.final_components import Simplification
from fed_em.gaussian_mixture import FAMILY as GAUSSIAN_MIXTURE
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_estimators import LatentClass, MixedMixture
from fed_em.mixed_mixture import FAMILY as MIXED_MIXTURE
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.own_model import StartingModel
from fed_em.priors import NONE, GaussianMixturePrior, check_prior_name
from fed_em.records import Records
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.description import Column, LabelsColumn, SessionDescription, WeightsColumn

TenantTable = Table | Records
Target = GaussianMixture | MixedMixture | Mixture | StartingModel

_MODELS = (GaussianMixtureModel, MixedMixtureModel, StartingModel)

_LABELS, _WEIGHTS = "admissible", "weight"

# What an estimator starts from or does behind the fit, and a session does not.
_UNUSABLE = ("weights_init", "means_init", "precisions_init", "warm_start")


@dataclass(frozen=True)
class SessionOfTables:
    """What a session is about, and over which records.

    Attributes:
        description: The columns and the model.
        records: Every tenant's records.
        stopping: When an estimator stops; None if a model is fitted, which says nothing of it.
        optimiser: As an estimator says; likewise.
        final: Which components an estimator leaves out or merges.
    """

    description: SessionDescription
    records: tuple[Records, ...] = field(repr=False)
    stopping: Stopping | None
    optimiser: str | None
    final: Simplification = field(default_factory=Simplification)


def session_of_tables(
    target: Target, names: Sequence[str], tables: Sequence[Any], columns: Sequence[Column] | None, title: str
) -> SessionOfTables:
    """The session that fits `target` to the tables of some tenants.

    Args:
        target: An estimator, whose data and starts are left aside, or a model: its priors and its covariance floor are then in
            standardised coordinates, as everywhere in sessions. An estimator's `reg_covar` is taken for such a floor. A model may be of a
            family of one's own (`fed_em.own_model`) that is registered (`fed_em.families.register`).
        names: Of the tenants, for complaints.
        tables: A table each: `(n, D)`, a data frame, a mapping of columns, or `Records`.
        columns: As in a real session; None to read them off the tables.
        title: Of the session.

    Raises:
        CallerError: there is nothing to fit, a table does not fit the others or its columns, or an estimator asks for something
            that no session does.
    """
    if not isinstance(target, (GaussianMixture, MixedMixture, *_MODELS)):
        raise CallerError(
            f"a federation fits no {type(target).__name__}",
            remedy="give a GaussianMixture, MixedMixture or LatentClass, one of their models, or a model of your own with a `start`",
        )
    tables = [_table_of(name, table) for name, table in zip(names, tables, strict=True)]
    schema = _schema_of(target, tables, columns)
    records = _all_alike(names, [_records_of(name, table, schema) for name, table in zip(names, tables, strict=True)])
    declared = tuple(columns) if columns is not None else _read_off(schema, records)
    bound = max(each.weight_bound for each in records)
    try:
        description = SessionDescription(
            title=title,
            columns=declared,
            model=_model_of(target, schema, records),
            labels=None if records[0].admissible is None else LabelsColumn(column=_LABELS),
            weights=None if records[0].weights is None else WeightsColumn(column=_WEIGHTS, upper=bound),
        )
    except ValidationError as error:
        raise CallerError(f"no session over these tables: {complaint_of(error)}") from None
    for name, each in zip(names, records, strict=True):
        _in_tenant(name, lambda rows=each.rows: description.check_cells(rows))
    records = tuple(Records(each.rows, each.weights, each.admissible, bound) for each in records)
    if isinstance(target, _MODELS):
        return SessionOfTables(description, records, None, None)
    stopping = Stopping(float(target.tol), int(target.max_iter))
    final = Simplification(float(target.least_weight), float(target.least_distance))
    return SessionOfTables(description, records, stopping, target.optimiser, final)


def _table_of(name: str, table: Any) -> TenantTable:
    """A table as `ColumnSchema.encode` takes it."""
    if isinstance(table, Records | Mapping) or hasattr(table, "columns"):
        return cast(TenantTable, table)
    array = np.asarray(table)
    if array.ndim != 2 or not array.size:
        raise CallerError(
            f"the table of tenant '{name}' has the shape {array.shape}",
            remedy="give rows (n, D), a data frame or a mapping of columns; a tenant without rows stays out",
        )
    return array


def _schema_of(target: Target, tables: Sequence[TenantTable], columns: Sequence[Column] | None) -> ColumnSchema:
    if columns is not None:
        return ColumnSchema(tuple(column.described for column in columns))
    given = getattr(target, "schema", None)
    if isinstance(given, ColumnSchema):
        return given
    numbers = isinstance(target, GaussianMixture | GaussianMixtureModel | StartingModel)
    if numbers or any(isinstance(table, Records) for table in tables):
        return ColumnSchema(tuple(map(GaussianColumn, _names_of(tables[0]))))
    seen = [evidence_of(table) for table in tables if not isinstance(table, Records)]
    evidence = {name: reduce(add, [each[name] for each in seen if name in each]) for name in seen[0]}
    return ColumnSchema.of_evidence(
        evidence, dict.fromkeys(evidence, "categorical") if isinstance(target, LatentClass) else None
    )


def _names_of(table: TenantTable) -> list[str]:
    rows = table.rows if isinstance(table, Records) else table
    return [f"x{d}" for d in range(rows.shape[1])] if isinstance(rows, np.ndarray) else [str(name) for name in rows]


def _records_of(name: str, table: TenantTable, schema: ColumnSchema) -> Records:
    if not isinstance(table, Records):
        table = Records(_in_tenant(name, lambda: schema.encode(table)))
    if not len(table):
        raise CallerError(f"tenant '{name}' has no rows", remedy="a tenant without rows stays out of the session")
    _in_tenant(name, lambda: schema.check_rows(table.rows))
    _in_tenant(name, lambda: schema.check_declared(table.rows))
    return table


def _in_tenant(name: str, check: Any) -> Any:
    """What `check` gives; what it complains about is said of a tenant."""
    try:
        return check()
    except CallerError as error:
        raise CallerError(f"tenant '{name}': {error.message}", remedy=error.remedy) from None


def _all_alike(names: Sequence[str], records: Sequence[Records]) -> Sequence[Records]:
    """The records, all of which have weights or none, and so for labels."""
    first = records[0]
    for name, each in zip(names, records, strict=True):
        for what in ("weights", "admissible"):
            if (getattr(each, what) is None) != (getattr(first, what) is None):
                raise CallerError(
                    f"the records of tenants '{names[0]}' and '{name}' do not both have {what}",
                    remedy="give them in all tenants' records or in none; a weight of 1, or all components, says nothing",
                )
    return records


def _read_off(schema: ColumnSchema, records: Sequence[Records]) -> tuple[Column, ...]:
    """The declaration that the cells of all tenants would have needed."""
    return tuple(
        _declared(column, np.concatenate([each.rows[:, d] for each in records]))
        for d, column in enumerate(schema.columns)
    )


def _declared(column: DescribedColumn, cells: NDArray[np.float64]) -> Column:
    missing = bool(np.isnan(cells).any())
    if not isinstance(column, GaussianColumn):
        fields = dict(next(iter(ColumnSchema((column,)).describe())))
        if isinstance(column, PoissonColumn):
            fields["upper"] = int(column.upper)
        return Column(**fields, missing=missing)
    observed = cells[~np.isnan(cells)]
    if not len(observed) or observed.min() == observed.max():
        raise CallerError(
            f"column '{column.name}' has no two values that differ, over all tenants", remedy="leave the column out"
        )
    return Column(name=column.name, low=float(observed.min()), high=float(observed.max()), missing=missing)


def _model_of(target: Target, schema: ColumnSchema, records: Sequence[Records]) -> dict[str, Any]:
    """The model's description without its columns."""
    if isinstance(target, _MODELS):
        of_columns = ("n_columns", "missing", "columns")
        return {name: value for name, value in target.describe().items() if name not in of_columns}
    for name in _UNUSABLE:
        value = getattr(target, name, None)
        if value is not None and value is not False and value != 0:
            raise CallerError(
                f"{name} is no matter of a federation",
                remedy="leave it out: a session starts from the moments, by seed",
            )
    gaussian = isinstance(target, GaussianMixture)
    prior = _prior_of(target, schema, records)
    return {
        "family": GAUSSIAN_MIXTURE if gaussian else MIXED_MIXTURE,
        "n_components": int(target.n_components),
        "covariance": target.covariance_type,
        "covariance_floor": float(target.reg_covar),
        **({} if prior is None else {"prior": prior.describe()}),
    }


def _prior_of(
    target: GaussianMixture | MixedMixture, schema: ColumnSchema, records: Sequence[Records]
) -> GaussianMixturePrior | MixedMixturePrior | None:
    prior = target.prior
    if isinstance(prior, str):
        check_prior_name(prior, f"numbers in a model, not in a {type(target).__name__}")
        if prior == NONE:
            return None
        ones = np.ones(len(schema.columns))
        if isinstance(target, GaussianMixture):
            return GaussianMixturePrior.weakly_informative(target.n_components, (0.0 * ones).tolist(), ones.tolist())
        means = np.nanmean(np.concatenate([each.rows for each in records]), axis=0)
        means[schema.gaussian] = 0.0
        return MixedMixturePrior.weakly_informative(schema, target.n_components, means, ones)
    if prior is None:
        return None
    if isinstance(prior, MixedMixturePrior) and prior.gaussian is None:
        return prior
    raise CallerError(
        "a prior in the units of the rows needs their moments, which a federation does not know beforehand",
        remedy="give a model (GaussianMixtureModel, MixedMixtureModel) with the prior in standardised coordinates",
    )
