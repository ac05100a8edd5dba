"""Kept triangles are numpy's, and nobody can change them."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.triangles import lower_triangle, upper_triangle


@pytest.mark.parametrize("size", [1, 2, 5])
def test_they_are_numpys_and_stay_so(size: int) -> None:
    for found, known in ((upper_triangle(size), np.triu_indices(size)), (lower_triangle(size), np.tril_indices(size))):
        np.testing.assert_array_equal(found, known)
        with pytest.raises(ValueError, match="read-only"):
            found[0][0] = 1
    assert upper_triangle(size) is upper_triangle(size)
