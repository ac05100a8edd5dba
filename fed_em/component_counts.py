"""How much each component holds of some rows, without a moment: what is summed before any moment is opened.

For responsibilities r_ik of rows i and components k these counts are

    mass           N_k = Σ_i r_ik                records that the component holds
    supporting     S_k = 1 if N_k ≥ `LEAST_ROWS`, else 0

Summed over tenants, S_k is the number of tenants that the component rests on. A tenant with fewer than `LEAST_ROWS` rows
supports no component.

There is no effective number of records here, such as Kish's N_k² / Σ_i r_ik² (1965, "Survey Sampling", section 11.7). As
r_ik ≤ 1 it is never less than N_k: a bound from below on the mass bounds it as well, and says more.
"""

from __future__ import annotations

import numpy as np

from fed_em.layout import Block, Layout
from fed_em.model import COUNT, ComponentModel, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics

MASS = "mass"
SUPPORTING = "supporting"

# Records that a tenant has in a component that it supports. A component is opened only with f + 2 supporting tenants. The
# f that may collude subtract their own rows, and the two that are left then hide among 2 · 5 = 10 records: the least
# number that statistical agencies let stand behind a published figure (the "rule of ten", for instance of the Australian
# Bureau of Statistics' DataLab). Rows of responsibility ½ or more would be a stricter measure. It holds many components
# that overlap, in which nobody is alone: that costs far more of the fit than it protects.
LEAST_ROWS = 5

# Responsibilities held in memory at one time, in float64 entries (8 MiB), and the fewest rows that are worth a call.
_CHUNK_ENTRIES = 2**20
_FEWEST_ROWS = 1024


def counts_layout(model: ComponentModel) -> Layout:
    """The layout of the counts: one record adds at most 1 to every entry.

    That holds for `supporting` too, as a tenant that adds its 1 has more than one record.
    """
    shape = (model.n_components,)
    return Layout((Block(COUNT, (), 1.0), Block(MASS, shape, 1.0), Block(SUPPORTING, shape, 1.0)))


def component_counts(
    model: ComponentModel, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None
) -> Statistics:
    """The counts of one tenant's rows at `parameters`. Deterministic.

    `supporting` is 0 or 1 for all rows of a tenant together, so unlike other statistics the counts of two halves of
    its rows do not add up to the counts of the whole; those of two tenants do.

    Args:
        model: The model.
        parameters: As its `validate` admits them.
        rows: `(n, D)`, all rows of the tenant, or its records, which count by their weights and labels; n may be 0.
            They are treated in parts, so memory does not grow with n.
        layout: The layout to carry; `counts_layout(model)` if None.

    Raises:
        FedEmError: as `model.responsibilities` does.
    """
    mass = np.zeros(model.n_components)
    size = max(_CHUNK_ENTRIES // model.n_components, _FEWEST_ROWS)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        responsibilities = model.responsibilities(parameters, part)
        weights = part.weights if isinstance(part, Records) else None
        mass += responsibilities.sum(axis=0) if weights is None else weights @ responsibilities
    records = rows.total_weight if isinstance(rows, Records) else float(len(rows))
    supporting = (mass >= LEAST_ROWS).astype(np.float64)
    return Statistics.of(
        counts_layout(model) if layout is None else layout,
        {COUNT: records, MASS: mass, SUPPORTING: supporting},
    )
