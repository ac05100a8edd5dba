"""Errors that say who is at fault.

Three trees, and nothing outside them is raised on purpose:

* `CallerError`: whoever called this code, or wrote the file it reads, must change something.
* `PeerFault` (in `fed_em_protocols.errors`): another party broke the protocol; it is named, with what is
proved. * `EnvironmentFault`: the machine, the disk or the network failed; trying again may help.

No message and no `diagnostics()` ever carries a secret, a row or a tenant's statistic.
"""

from __future__ import annotations


class FedEmError(Exception):
    """Root of every error raised on purpose.

    Args:
        message: What went wrong, naming the thing.
        remedy: What the reader can do about it, as a sentence; empty where nothing can be said.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def diagnostics(self) -> str:
        """The error for people: the message and, on a second line, the remedy."""
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class CallerError(FedEmError, ValueError):
    """The caller, a configuration file or a data file is wrong; nothing was changed."""


class NotEvaluated(FedEmError):
    """The statistics or the objective at some parameters are not numbers; at others they may be."""


class CollapsedComponent(NotEvaluated):
    """The covariance of a component has become singular: it shrank onto a value, a line or a plane."""


class EnvironmentFault(FedEmError):
    """The machine, the disk or the network is at fault."""
