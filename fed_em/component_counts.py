"""How much each component holds of some rows, without a moment: what is summed before any moment is opened.

For responsibilities r_ik of rows i and components k these counts are

    mass           N_k = Σ_i r_ik                records that the component holds
    supporting     S_k = 1 if N_k ≥ `LEAST_ROWS`, else 0

and, where cells may be missing, for each column c of D too

    observed mass         N_kc = Σ_i r_ik [cell (i, c) is observed]
    observed supporting   S_kc = 1 if N_kc ≥ `LEAST_ROWS`, else 0

as of a column the observed cells alone tell something. Summed over tenants, S_k is the number of tenants that the component
rests on, and S_kc of those that its column c does. A tenant with fewer than `LEAST_ROWS` rows supports no component.

There is no effective number of records here, such as Kish's N_k² / Σ_i r_ik² (1965, "Survey Sampling", section 11.7). As
r_ik ≤ 1 it is never less than N_k: a bound from below on the mass bounds it as well, and says more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.model import COUNT, CountedSummand, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import rows_in_block
from fed_em.statistics import Statistics

MASS = "mass"
SUPPORTING = "supporting"
OBSERVED_MASS = "observed_mass"
OBSERVED_SUPPORTING = "observed_supporting"

# Records that a tenant has in a component that it supports. A component is opened only with f + 2 supporting tenants. The
# f that may collude subtract their own rows, and the two that are left then hide among 2 · 5 = 10 records: the least
# number that statistical agencies let stand behind a published figure (the "rule of ten", for instance of the Australian
# Bureau of Statistics' DataLab). Rows of responsibility ½ or more would be a stricter measure. It holds many components
# that overlap, in which nobody is alone: that costs far more of the fit than it protects.
LEAST_ROWS = 5

# The fewest rows that are worth a call.
_FEWEST_ROWS = 1024


def counts_layout(model: CountedSummand) -> Layout:
    """The layout of the counts: one record adds at most 1 to every entry.

    That holds for what supports too, as a tenant that adds its 1 has more than one record.

    Norms: ‖r‖₂ ≤ 1 for the mass, and so √D for that of D columns. But one record of which each component has a part can take all of them
    over `LEAST_ROWS` at once: √K and √(K D) for what supports.
    """
    shape = (model.n_components,)
    blocks: tuple[Block, ...] = (
        Block(COUNT, (), 1.0),
        Block(MASS, shape, 1.0, norm=1.0),
        Block(SUPPORTING, shape, 1.0),
    )
    if model.missing:
        of_columns = (model.n_components, model.n_columns)
        of_mass = Block(OBSERVED_MASS, of_columns, 1.0, norm=math.sqrt(model.n_columns))
        blocks += (of_mass, Block(OBSERVED_SUPPORTING, of_columns, 1.0))
    return Layout(blocks)


def component_counts(
    model: CountedSummand, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None
) -> Statistics:
    """The counts of one tenant's rows at `parameters`. Deterministic.

    What supports is 0 or 1 for all rows of a tenant together, so unlike other statistics the counts of two halves of
    its rows do not add up to the counts of the whole; those of two tenants do.

    Args:
        model: The model.
        parameters: As its `validate` admits them.
        rows: `(n, D)`, all rows of the tenant, or its records, which count by their labels; n may be 0.
            They are treated in parts, so memory does not grow with n.
        layout: The layout to carry; `counts_layout(model)` if None.

    Raises:
        CallerError: the records have weights.
        FedEmError: as `model.responsibilities` does.
    """
    records = Records.of(rows)
    if records.weights is not None:
        raise CallerError("records with weights cannot be counted: a weight singles records out")
    mass, observed = np.zeros(model.n_components), np.zeros((model.n_components, model.n_columns))
    width = max(model.n_components, model.n_columns if model.missing else 1)
    for _, part in records.blocks(rows_in_block(width, _FEWEST_ROWS)):
        responsibilities = model.responsibilities(parameters, part)
        mass += responsibilities.sum(axis=0)
        if model.missing:
            observed += _of_observed_cells(responsibilities, part.rows)
    counts: dict[str, NDArray[np.float64] | float] = {
        COUNT: float(len(records)),
        MASS: mass,
        SUPPORTING: _supports(mass),
    }
    if model.missing:
        counts |= {OBSERVED_MASS: observed, OBSERVED_SUPPORTING: _supports(observed)}
    return Statistics.of(counts_layout(model) if layout is None else layout, counts)


def _supports(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    return (mass >= LEAST_ROWS).astype(np.float64)


def _of_observed_cells(responsibilities: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """Σ_i r_ik over the rows that show column c, `(K, D)`."""
    with one_blas_thread():
        return np.asarray(responsibilities.T @ (~np.isnan(rows)).astype(np.float64))
