"""Why a request gets no answer, and how each way of carrying requests says so. Nothing here ever holds a value of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fed_em.errors import CallerError, EnvironmentFault, FedEmError, NotEvaluated
from fed_em.named_cells import WrongCell

RETRY_SECONDS = 1


class TooLarge(CallerError):
    """A request is beyond a limit by itself: it must be divided."""


class Overloaded(FedEmError):
    """Too many requests at once."""


class DeadlinePassed(FedEmError):
    """The time of a request is up."""


class NoModel(EnvironmentFault):
    """There is no model that could answer, or the server is about to stop."""


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it.

    Attributes:
        code: The name of gRPC's status code.
        status: HTTP's.
        outcome: For metrics: "refused" if it was the request's own fault or too much at once, else "failed".
        message, remedy: For people.
        retry_after: Seconds after which the same request may succeed; None if it never will.
        row, column: Where in the request, if it is there.
    """

    code: str
    status: int
    outcome: str
    message: str
    remedy: str
    retry_after: int | None = None
    row: int | None = None
    column: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Refusal:
        """What is said of an error; of one that nobody foresaw nothing but that."""
        for kind, code, status, retry in _KINDS:
            if isinstance(error, kind):
                row, column = (error.row, error.column) if isinstance(error, WrongCell) else (None, None)
                retry_after = RETRY_SECONDS if retry else None
                outcome = "failed" if issubclass(kind, EnvironmentFault) else "refused"
                return cls(code, status, outcome, error.message, error.remedy, retry_after, row, column)
        return cls("INTERNAL", 500, "failed", "the server failed", "see its log")

    def describe(self) -> Mapping[str, Any]:
        """As JSON-able values; what is not known is left out."""
        fields = {
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy or None,
            "row": self.row,
            "column": self.column,
            "retry_after": self.retry_after,
        }
        return {"error": {name: value for name, value in fields.items() if value is not None}}


# The first that fits: class, code of gRPC, status of HTTP, whether it is worth another try.
_KINDS: tuple[tuple[type[FedEmError], str, int, bool], ...] = (
    (TooLarge, "INVALID_ARGUMENT", 413, False),
    (Overloaded, "RESOURCE_EXHAUSTED", 429, True),
    (DeadlinePassed, "DEADLINE_EXCEEDED", 504, False),
    (NoModel, "UNAVAILABLE", 503, True),
    (CallerError, "INVALID_ARGUMENT", 400, False),
    (NotEvaluated, "FAILED_PRECONDITION", 422, False),
)
