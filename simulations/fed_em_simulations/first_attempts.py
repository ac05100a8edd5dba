"""How many sums a session opens at the first attempt, as counted and as the binomial distribution has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import RoundRecord, SessionRecord

_TRIED_AGAIN = frozenset({NoticeKind.ROUND_FAILED, NoticeKind.PAUSED, NoticeKind.RESTARTED})


class FirstAttempts:
    """Counts sums of E-steps, and those before which no round failed, the session did not pause and no server crashed. A `Watcher`.

    Attributes:
        sums: How many were opened, without the first, which is of moments.
        clean: How many of these at the first attempt.
    """

    def __init__(self) -> None:
        self.sums = self.clean = 0
        self._begun = self._trouble = False

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to count yet."""

    def noticed(self, notice: Notice) -> None:
        """Count."""
        if notice.kind in _TRIED_AGAIN:
            self._trouble = True
        elif notice.kind is NoticeKind.SUMMED:
            self.sums += self._begun
            self.clean += self._begun and not self._trouble
            self._begun, self._trouble = True, False

    def round_opened(self, record: RoundRecord) -> None:
        """It has been counted already."""

    @property
    def share(self) -> float:
        """Of the sums; NaN if there was none."""
        return self.clean / self.sums if self.sums else float("nan")


def predicted_share(blocks: Sequence[int], dropout: float, survivors: int, quorum: int) -> float:
    """The probability that a sum is opened at the first attempt, if each tenant is gone for the whole of it with one probability.

    It is opened if the blocks that are whole have u_min tenants or more, and a quorum is there to certify it. Without blocks, that
    is P[B ≥ max(u_min, q)] for B ~ Binomial(n, 1 − p).

    Args:
        blocks: How many tenants are in each; ones where sums need not hold blocks whole.
        dropout: p, in [0, 1).
        survivors: u_min.
        quorum: q; 0 where nobody certifies.
    """
    n, there = sum(blocks), 1.0 - dropout
    # By tenants in whole blocks and tenants there.
    chances: NDArray[np.float64] = np.zeros((n + 1, n + 1))
    chances[0, 0] = 1.0
    for size in blocks:
        after = np.zeros_like(chances)
        after[size:, size:] += there**size * chances[: n + 1 - size, : n + 1 - size]
        for present in range(size):
            after[:, present:] += binom.pmf(present, size, there) * chances[:, : n + 1 - present]
        chances = after
    return float(chances[survivors:, quorum:].sum())
