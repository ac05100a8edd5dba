"""A tenant under watch: it refuses by a `PeerFault` alone, is unchanged then, and takes nothing that was not signed."""

from __future__ import annotations

import copy
from typing import Any

from fed_em.errors import CallerError
from fed_em_client.tenant_session import SessionLeft, TenantSession, TenantWork
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant_state import Evaluate
from tests.fuzz.signatures import Signatures, is_signed
from tests.protocols.auditor import Auditor
from tests.protocols.federation import DESCRIPTION


class PatientWork:
    """A tenant's work, copied, that says so, as it may, when it does not have what is asked for."""

    def __init__(self, work: TenantWork) -> None:
        self._work = copy.deepcopy(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    def prepare(self, description: bytes, mass_floor: int) -> None:
        if description != DESCRIPTION:
            raise CallerError("another description")

    def evaluate(self, asked: Evaluate) -> RingVector:
        vector = self._work.evaluate(asked)
        if vector.shape != (asked.length,) or 8 * vector.itemsize != asked.ring:
            raise CallerError("a vector of another length, or in another ring")
        return vector


class WatchedSession(TenantSession):
    """A tenant in one session, to be told anything by `hears`."""

    def hears(self, data: bytes, index: int, auditor: Auditor, signatures: Signatures) -> tuple[bytes, ...]:
        """Its answers to a message; none if it refuses it or leaves.

        Raises:
            AssertionError: it broke a rule.
        """
        before: Any = self.state
        server = before.me.roster.server.identity_key
        try:
            answers = super().handle(data)
        except PeerFault:
            assert self.state is before, "a tenant that refused a message was changed by it"
            return ()
        except SessionLeft as left:
            assert self.over, "a tenant that left the session is still in it"
            assert is_signed(data, server, signatures), "a tenant left because of a forged message"
            return left.messages
        if answers or self.state is not before:
            assert is_signed(data, server, signatures), "a tenant took a forged message"
            for message in (data, *answers):
                auditor.sees(index, message)
        return answers
