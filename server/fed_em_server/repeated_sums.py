"""A sum that is asked for until it is opened, a few times: over a federation, or over the transcript of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from fed_em_protocols.coordinator_state import Notice, NoticeKind, SumNotOpened, SumOpened, SumRequest
from fed_em_protocols.errors import SumFailed

# A sum is attempted this often; who fell silent is late by then, and not waited for.
ATTEMPTS = 3


class RepeatedSums(ABC):
    """Sums of the tenants' encoded vectors, one at a time.

    Attributes:
        essential: Whether the session comes to nothing without the sums that are asked for next.
        not_computed: How many opened sums had tenants in them that could not compute their statistics.
        noisy: Whether the last one had: what these sent is in the running total until they answer again.
    """

    essential = True
    not_computed = 0
    noisy = False

    def count_faults(self, opened: SumOpened, said: str) -> None:
        """Take note of the last opened sum.

        Args:
            opened: The sum.
            said: How many tenants could not compute their statistics; empty if all could.
        """
        self.noisy = bool(said)
        if said:
            self.not_computed += 1
            self._noted(Notice(NoticeKind.NOT_COMPUTED, opened.round, text=said))

    def _noted(self, notice: Notice) -> None:  # noqa: B027  nobody watches a transcript
        """Tell whoever watches, if anybody does."""

    @abstractmethod
    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        """Ask for a sum once."""

    def sum(self, request: SumRequest) -> SumOpened:
        """The exact sum over everybody who answered in time.

        All attempts together wait for tenants who are not here as long as the timetable says, and no longer.

        Raises:
            SumFailed: no sum could be opened in three attempts, or one was final; the message says why. An attempt that the end of the
                server's process interrupted is none of them.
        """
        return self._repeated(lambda: self._attempt(request))

    def sum_behind_gate(self, counts: SumRequest, moments: Callable[[SumOpened], SumRequest]) -> SumOpened:
        """A sum of moments over exactly the tenants that were counted just before; if one of them goes away, they are counted anew.

        Args:
            counts: The sum of counts.
            moments: Given the opened counts, the request for the moments.

        Returns:
            The sum of moments.

        Raises:
            SumFailed: as `sum`, of three attempts at both; or what `moments` raises.
        """

        def pair() -> SumOpened | SumNotOpened:
            counted = self._attempt(counts)
            return self._attempt(moments(counted)) if isinstance(counted, SumOpened) else counted

        return self._repeated(pair)

    def _repeated(self, attempt: Callable[[], SumOpened | SumNotOpened]) -> SumOpened:
        failed, reason = 0, ""
        while failed < ATTEMPTS:
            outcome = attempt()
            if isinstance(outcome, SumOpened):
                return outcome
            if outcome.interrupted:
                continue
            failed, reason = failed + 1, outcome.reason
            if outcome.final:
                break
        raise SumFailed(
            reason,
            remedy="ask those who are missing or refuse; [times] in the session's file says how long the server waits",
        )
