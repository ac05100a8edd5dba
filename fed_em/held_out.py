"""Rows that are held out of a fit and only scored: which ones follows from a key and their positions, and from nothing else.

Every party holds out its own, and its share of the sum of their log-likelihoods tells nothing of which they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_real, read_mapping
from fed_em.draws import check_key, key_of_hex, keyed_share
from fed_em.errors import CallerError, NotEvaluated
from fed_em.model import LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.records import Records

_WHAT = "held-out rows"


@dataclass(frozen=True)
class HeldOut:
    """A share of the rows, each drawn by itself.

    Rows that are summed in parts have positions within their part, and parts keys of their own (`Candidates.of_part`).

    Attributes:
        share: The probability of each row, in (0, 1).
        key: What they are drawn from; as `fed_em.draws.check_key` admits. Whoever chooses it chooses rows, and whoever knows enough
            of them could solve for single ones: in a federation each party has a secret one of its own, and what is sent has an empty one.

    Raises:
        CallerError: either is out of its range.
    """

    share: float
    key: bytes = b""

    def __post_init__(self) -> None:
        check_real("the held-out share", self.share, 0.0, strict=True)
        if self.share >= 1:
            raise CallerError(f"the held-out share must be below 1, not {self.share}")
        check_key(_WHAT, self.key)

    def describe(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"share": self.share, "key": self.key.hex()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> HeldOut:
        """What `describe` described. Raises `CallerError` as that, and as the class."""
        read_mapping(_WHAT, description, ("share", "key"))
        return cls(description["share"], key_of_hex(_WHAT, description["key"]))

    def of(self, n: int) -> NDArray[np.bool_]:
        """Which of n rows are held out, `(n,)`."""
        return keyed_share(self.key, self.share, n)

    def divide(self, records: Records) -> tuple[Records, Records]:
        """The records to fit to, and those that are held out."""
        held = self.of(len(records))
        return records[~held], records[held]


def summed_log_density(model: Model, parameters: Parameters, records: Records) -> float:
    """Σ w_i log p(x_i) over held-out records, in nats.

    Under a model that finds one of them impossible all count as its declared bound: minus infinity cannot be summed.
    """
    lowest = -model.layout()[LOG_LIKELIHOOD].bound * records.total_weight
    try:
        densities = model.log_prob(parameters, records)
    except NotEvaluated:
        return lowest
    return max(lowest, float(densities.sum() if records.weights is None else records.weights @ densities))
