"""What can go wrong between parties, and whose fault it is.

Caller errors (`fed_em.errors.CallerError`) and peer faults are separate trees: the first is mended here, the second is evidence
against somebody else. A `PeerFault` always names the peer and says what the fault proves.
"""

from __future__ import annotations

from fed_em.errors import CallerError, EnvironmentFault, FedEmError, NotEvaluated
from fed_em_protocols.policy_rules import PolicyRule

SERVER = "server"


class PeerFault(FedEmError):
    """Another party broke the protocol.

    Args:
        peer: The faulty party's roster name, or `SERVER`.
        message: What it did.
        proves: What this shows, and what it does not ("the sender's software or the link is faulty").
    """

    def __init__(self, peer: str, message: str, *, proves: str = "") -> None:
        super().__init__(f"{peer}: {message}")
        self.peer = peer
        self.fault = message
        self.proves = proves

    def diagnostics(self) -> str:
        """The fault for people: who, what, and what it proves."""
        return f"{self.message}\n  proves: {self.proves}" if self.proves else self.message


class MalformedMessage(PeerFault):
    """Bytes that are not a message of this protocol: wrong length, unknown field, oversized, wrong version."""


class BadSignature(PeerFault):
    """A signature does not verify. Proves nothing against the named sender: anyone on the path can do this."""


class OutOfTurn(PeerFault):
    """A message that its sender may not send in this phase. The state is unchanged."""


class AnotherRoster(PeerFault):
    """A tenant runs on another roster than the session. Proves only that one of the two is out of date."""


class Equivocation(PeerFault):
    """Two different signed messages where the protocol allows one. The two signatures together prove it to anybody."""


class TermsRefused(CallerError):
    """This tenant's own policy does not admit what the session asks.

    Args:
        rule: Which of its demands is not met, by default one of [policy.privacy]: for the tenant's own metrics and log, never sent.
    """

    def __init__(self, message: str, *, remedy: str = "", rule: PolicyRule = PolicyRule.PRIVACY) -> None:
        super().__init__(message, remedy=remedy)
        self.rule = rule


class IllegalStep(CallerError):
    """A local event in a phase that does not admit it: a bug in the calling code. The state is unchanged."""


class SumFailed(EnvironmentFault):
    """A round ended without a sum: too few answered, or a share threshold was missed. Nothing was decoded."""


# Sums of a session that may come to nothing as a tenant could not compute its statistics, where the fit can do without them. Each tells the
# server, which chose the parameters, how many tenants cannot compute there: the server ends the session at the next, and if it does not,
# the tenant says in the end what it was asked for.
MOST_NOT_COMPUTED = 10


class NotComputed(SumFailed, NotEvaluated):
    """A sum in which some tenant could not compute its statistics: it is noise. At other parameters there may be one."""
