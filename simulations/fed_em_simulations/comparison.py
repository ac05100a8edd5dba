"""Methods side by side on tables of one's own, in one call.

from fed_em_simulations import compare

results = compare([X1, X2, X3, ...], n_components=3, attendance=0.5)
print(results)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_real, check_whole_number, nearest
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_simulations.attendance import Attendance
from fed_em_simulations.common_ground import common_ground
from fed_em_simulations.methods import METHODS, PROTOCOL, MethodName
from fed_em_simulations.methods_experiment import rows_of
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.population import TenantRows, Tenants
from fed_em_simulations.random_streams import stream
from fed_em_simulations.results import REPLICATE, Results

Vector = NDArray[np.float64]

_SHARE_HELD_OUT = 0.2


def compare(
    tables: Sequence[Vector] | Mapping[str, Vector],
    n_components: int,
    attendance: float = 0.5,
    *,
    rounds: int = 60,
    methods: Sequence[MethodName] = METHODS,
    prior: bool = True,
    starts: int = 10,
    seed: int = 0,
) -> Results:
    """Fit a Gaussian mixture to tenants' rows by each method, when a share of them answers in each round.

    Args:
        tables: Rows `(n, D)` of each tenant, in order or by name; NaN where a cell is missing. A fifth of
            the rows that have none is held out.
        n_components: K.
        attendance: Share of the tenants in each round, drawn anew every time; in (0, 1].
        rounds: How many.
        methods: Some of `fed_em_simulations.methods.METHODS`.
        prior: Whether there is a weak prior.
        starts: Starts that run side by side; every method begins at the best.
        seed: Of everything that is drawn.

    Returns:
        A row for each method, with why it failed if it did; it prints itself as a table.

    Raises:
        CallerError: a table does not fit the others, a number is out of its range, or there is no such method.
    """
    check_whole_number("n_components", n_components, 1)
    check_whole_number("rounds", rounds, 1)
    check_whole_number("starts", starts, 1)
    check_real("attendance", attendance, 0.0, strict=True)
    if attendance > 1:
        raise CallerError(f"attendance is a share of the tenants, not {attendance}", remedy="give at most 1")
    for name in methods:
        if name not in METHODS:
            known = "it has a start of its own: see fed_em_simulations.Federation" if name == PROTOCOL else ""
            raise CallerError(f"no method '{name}' to compare", remedy=known or nearest(name, METHODS))
    tenants = _tenants(tables, seed)
    rows = tenants.pooled.rows
    model = MixtureToFit(components=n_components, prior=prior).model(rows.shape[1], bool(np.isnan(rows).any()))
    pattern = Attendance(share=attendance).pattern(tenants.names, rounds, seed)
    ground = common_ground(model, tenants, pattern, starts, seed)
    return Results(tuple({REPLICATE: 0, **row} for row in rows_of(ground, methods)), ("method",))


def _tenants(tables: Sequence[Vector] | Mapping[str, Vector], seed: int) -> Tenants:
    named = dict(tables) if isinstance(tables, Mapping) else {f"t{k}": table for k, table in enumerate(tables)}
    if not named:
        raise CallerError("there are no tables", remedy="give the rows of each tenant")
    arrays = {name: np.asarray(table, dtype=np.float64) for name, table in named.items()}
    width = next(iter(arrays.values())).shape[-1:]
    members = []
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape[1:] != width:
            raise CallerError(f"the table of tenant '{name}' has the shape {array.shape}", remedy="give rows (n, D)")
        outside = (stream(seed, "held out", name).random(len(array)) < _SHARE_HELD_OUT) & ~np.isnan(array).any(axis=1)
        members.append(TenantRows(name, Records(array[~outside]), array[outside]))
    return Tenants(tuple(members))
