"""Partial labels as cells: the components that may hold a row, "2" or "0|2", counted from 0; missing where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.column_cells import Cells, coded, level_of
from fed_em.errors import CallerError

Flags = NDArray[np.bool_]

BETWEEN_COMPONENTS = "|"


def admissible_components(cells: Cells, n_components: int) -> tuple[Flags, Flags]:
    """What the cells of a column `(n,)` leave open.

    Returns:
        Which components each cell admits, `(n, K)`, all where it is missing or wrong; and which cells `(n,)` are wrong, as they name
        anything else than components from 0 to K − 1.
    """
    known = {str(k): k for k in range(n_components)}
    labels = coded(cells)
    named = [_named(value, known) for value in labels.values]
    # One more for missing cells, whose place is −1.
    admitted, wrong = np.ones((len(named) + 1, n_components), dtype=np.bool_), np.zeros(len(named) + 1, dtype=np.bool_)
    for place, components in enumerate(named):
        if components is None:
            wrong[place] = True
        else:
            admitted[place] = False
            admitted[place, components] = True
    return admitted[labels.places], wrong[labels.places]


def checked_components(what: str, cells: Cells, n_components: int) -> Flags:
    """As `admissible_components`, `(n, K)`.

    Args:
        what: What the cells are called in errors.
        cells: `(n,)`.
        n_components: K.

    Raises:
        CallerError: cells are wrong; their number is told.
    """
    admissible, wrong = admissible_components(cells, n_components)
    if wrong.any():
        raise CallerError(
            f"{wrong.sum()} values of {what} are no components from 0 to {n_components - 1}",
            remedy=f'write "1", or "0{BETWEEN_COMPONENTS}1" for several, and leave the cell empty where nothing is known',
        )
    return admissible


def _named(value: Any, known: Mapping[str, int]) -> list[int] | None:
    parts = value.split(BETWEEN_COMPONENTS) if isinstance(value, str) else [value]
    labels = [level_of(part, known) for part in parts]
    return [known[label] for label in labels] if all(label in known for label in labels) else None
