"""Where simulated tenants live: in this process here, in worker processes in `fed_em_simulations.tenant_shards`.

A host starts and ends tenants' processes, hands them messages, and gives what they answer, one by one, when it is asked for: so tenants may
work side by side, and while the server works, and nothing depends on how many of them do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fed_em.errors import FedEmError
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_simulations.work import NO_WORK, Work, measured


@dataclass(frozen=True)
class Answer:
    """What a tenant made of one message, or of a new link.

    Attributes:
        tenant: Roster index.
        messages: To the server.
        work: What it took.
        error: Why the tenant left of its own accord, if it did: it is gone.
        over: Whether the session has ended for it.
    """

    tenant: int
    messages: tuple[bytes, ...] = field(repr=False)
    work: Work = NO_WORK
    error: FedEmError | None = None
    over: bool = False


class TenantHost(Protocol):
    """Tenants by roster index. Calls are answered in their order."""

    def greet(self, tenant: int, anew: bool) -> None:
        """Have a tenant greet the server on a new link; `anew`: its process starts (again) first."""
        ...

    def deliver(self, tenant: int, data: bytes) -> None:
        """Hand a message to a tenant; nothing comes of it if the tenant is gone."""
        ...

    def end(self, tenant: int) -> None:
        """End a tenant's process."""
        ...

    def answer(self) -> Answer:
        """The answer to the first greeting or message whose answer was not taken yet; waits for it."""
        ...

    def close(self) -> None:
        """Let go of all tenants."""
        ...


class LocalTenants:
    """Tenants in this process.

    Args:
        starts: Makes a tenant's session anew each time its process starts.
    """

    def __init__(self, starts: Sequence[Callable[[], TenantSession]]) -> None:
        self._starts = starts
        self._sessions: dict[int, TenantSession] = {}
        self._answers: deque[Answer] = deque()

    def session(self, tenant: int) -> TenantSession | None:
        """The session of a tenant that is alive."""
        return self._sessions.get(tenant)

    def greet(self, tenant: int, anew: bool) -> None:
        """See `TenantHost`."""
        if anew:
            self._sessions[tenant] = self._starts[tenant]()
        self._ask(tenant, lambda session: session.greet())

    def deliver(self, tenant: int, data: bytes) -> None:
        """See `TenantHost`."""
        self._ask(tenant, lambda session: session.handle(data))

    def end(self, tenant: int) -> None:
        """See `TenantHost`."""
        self._sessions.pop(tenant, None)

    def answer(self) -> Answer:
        """See `TenantHost`."""
        return self._answers.popleft()

    def close(self) -> None:
        """See `TenantHost`."""

    def _ask(self, tenant: int, step: Callable[[TenantSession], tuple[bytes, ...]]) -> None:
        session = self._sessions.get(tenant)
        if session is None:
            self._answers.append(Answer(tenant, ()))
            return
        messages: tuple[bytes, ...] = ()
        error: FedEmError | None = None
        with measured() as measure:
            try:
                messages = step(session)
            except FedEmError as fault:
                error, messages = fault, fault.messages if isinstance(fault, SessionLeft) else ()
                self.end(tenant)
        self._answers.append(Answer(tenant, messages, measure.total, error, session.over))
