"""Components that are held: their moments are not summed, and their parameters stay as they are.

A federation that opened the moments of a component of one record would publish that record, so it asks for the
counts first (`fed_em.component_counts`) and holds the components that are too small. A tenant silences their moments in
its statistics before anything is encoded; the M-step holds them (`ComponentModel.hold`).

What the counts show anyway is not silenced: how many records there are, and how many each component holds. Nor are the
log-likelihood and other scalars of all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.layout import Layout
from fed_em.model import ComponentModel
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics


def check_held(held: Sequence[int], n_components: int) -> None:
    """Raise `CallerError` unless `held` are distinct components, ascending, each in `[0, n_components)`."""
    for k in held:
        if not 0 <= k < n_components:
            raise CallerError(f"component {k} cannot be held: there are {n_components}, counted from 0")
    if any(low >= high for low, high in pairwise(held)):
        raise CallerError("held components must be named once each, in ascending order")


def held_entries(model: ComponentModel, layout: Layout, held: Sequence[int]) -> NDArray[np.intp]:
    """Where the entries of held components stand in a vector of `layout`, ascending.

    Whoever works on encoded vectors needs the places alone: entry e of the statistics is word e of the ring vector.

    Args:
        model: Says which blocks are per component; the first axis of each is the component.
        layout: A layout of the model's statistics.
        held: Distinct components, ascending.

    Raises:
        CallerError: `held` is not admissible, or the layout is of another model.
    """
    check_held(held, model.n_components)
    places: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
    for name in model.component_blocks:
        block = layout[name]
        if block.shape[0] != model.n_components:
            raise CallerError(
                f"statistic '{name}' is of {block.shape[0]} components, the model of {model.n_components}"
            )
        rows = np.arange(block.size, dtype=np.intp).reshape(block.shape[0], -1)
        places.append(layout.offsets[name].start + rows[list(held)].ravel())
    return np.sort(np.concatenate(places))


def silence(model: ComponentModel, statistics: Statistics, held: Sequence[int]) -> Statistics:
    """The statistics with every entry of the held components exactly zero, and all others untouched.

    Raises:
        CallerError: as `held_entries`.
    """
    vector = statistics.vector.copy()
    vector[held_entries(model, statistics.layout, held)] = 0.0
    return Statistics(statistics.layout, vector)


def keep_held(
    before: Parameters, after: Parameters, held: Sequence[int], weights: str, shared: str | None = None
) -> Parameters:
    """`after`, except that what the moments of the `held` components would move is as in `before`.

    Args:
        before: Admissible parameters.
        after: Parameters whose held components need not be admissible. The first axis of each array is the component.
        held: Components, admissible by `check_held`; `after` itself is returned if none is held.
        weights: The array that follows from how much each component holds, and is that of `after`.
        shared: An array that belongs to all components, and stays as it is while any is held; None: there is none.
    """
    if not held:
        return after
    arrays = {name: array.copy() for name, array in after.items()}
    for name, array in arrays.items():
        if name != weights:
            kept = slice(None) if name == shared else list(held)
            array[kept] = before[name][kept]
    return Parameters(arrays)
