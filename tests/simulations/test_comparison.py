"""Methods on tables of one's own, as in a notebook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_tables import tables_of

from fed_em.errors import CallerError
from fed_em_simulations import compare

METHODS = ("pooled", "increments", "alone")


def test_it_is_readable() -> None:
    results = compare(tables_of(4), 3, methods=METHODS, rounds=8, starts=2)
    lines = str(results).splitlines()
    assert lines[0].split()[:3] == ["method", "loss", "held_out"]
    assert [line.split()[0] for line in lines[1:]] == list(METHODS)
    assert repr(results) == str(results)
    assert abs(results.mean("loss", method="increments")) < 0.01 < results.mean("cohort", method="increments") == 2


def test_tables_by_name_with_holes() -> None:
    tables = {f"site {k}": table for k, table in enumerate(tables_of(3))}
    tables["site 1"][::4, 1] = np.nan
    assert compare(tables, 3, methods=("pooled",), rounds=1, starts=1).mean("lacking") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"tables": []}, "no tables"),
        ({"tables": [np.ones((3, 2)), np.ones((3, 1))]}, "tenant 't1'"),
        ({"attendance": 1.5}, "attendance"),
        ({"attendance": 0.0}, "attendance"),
        ({"methods": ["incremental"]}, "did you mean 'increments'"),
        ({"methods": ["protocol"]}, "Federation"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        compare(**{"tables": tables_of(3), "n_components": 2, **arguments})
