"""The bootstrap by weights: a replicate counts every record as often as a Poisson variable says, drawn for it alone.

Drawing n of n records with replacement counts each of them by a multinomial variable; independent Poisson counts of mean 1 differ from that
in the total alone, and need nobody to know n or any other party's records (Hanley and MacGibbon 2006, "Creating non-parametric bootstrap
samples using Poisson frequencies"; Chamandy et al. 2012, "Estimating uncertainty for massive data streams").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from fed_em.description import read_mapping
from fed_em.draws import check_key, key_of_hex, keyed_generator
from fed_em.errors import CallerError
from fed_em.records import Records

Vector = NDArray[np.float64]

# The largest count, so that ranges of sums can be proved; a Poisson variable of mean 1 is greater once in 12 000 times, and the mean of
# what is drawn is less than 1 by 1e-4.
MOST = 6

_WHAT = "resampled records"

_UP_TO = pdtr(np.arange(MOST), 1.0)


@dataclass(frozen=True)
class Resampled:
    """That each candidate sees a replicate of the records.

    Rows that are summed in parts have positions within their part, and parts keys of their own (`Candidates.of_part`).

    Attributes:
        key: What counts are drawn from; as `fed_em.draws.check_key` admits. Whoever knows it and enough replicates could solve for
            single records: in a federation each party has a secret one of its own, and what is sent has an empty one.

    Raises:
        CallerError: the key is too long.
    """

    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        check_key(_WHAT, self.key)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"key": self.key.hex()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Resampled:
        """What `describe` described. Raises `CallerError` as that, and as the class."""
        read_mapping(_WHAT, description, ("key",))
        return cls(key_of_hex(_WHAT, description["key"]))

    def counts(self, replicate: int, n: int) -> Vector:
        """How often each of n records counts in a replicate, from 0, `(n,)`: whole numbers up to `MOST`."""
        drawn = keyed_generator(self.key + replicate.to_bytes(8, "little")).random(n)
        return np.searchsorted(_UP_TO, drawn, side="right").astype(np.float64)

    def records(self, replicate: int, records: Records) -> Records:
        """The records of a replicate."""
        counts = self.counts(replicate, len(records))
        weights = counts if records.weights is None else counts * records.weights
        return replace(records, weights=weights, weight_bound=MOST * records.weight_bound)


def check_replicates(n: int) -> None:
    """Raise `CallerError` unless so many replicates have a standard deviation."""
    if n < 2:
        raise CallerError(f"a bootstrap has at least 2 replicates, not {n}", remedy="take 50 or more")
