"""What is wrong with a transcript, and where."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em.errors import FedEmError

ENTRIES, CHECKPOINTS, UPLOADS = "entries", "checkpoints", "uploads"


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes:
        file: `ENTRIES`, `CHECKPOINTS`, `UPLOADS`, or a file by name.
        line: From 0; None if it is about the whole.
        field: Of the entry, where one is to be named.
        party: Whose message it is about; "" if nobody's.
    """

    file: str = ENTRIES
    line: int | None = None
    field: str = ""
    party: str = ""

    def __str__(self) -> str:
        parts = [self.file if self.line is None else f"{_ONE.get(self.file, self.file + ' line')} {self.line}"]
        parts += [f"field '{self.field}'"] if self.field else []
        parts += [f"party '{self.party}'"] if self.party else []
        return ", ".join(parts)


_ONE = {ENTRIES: "entry", CHECKPOINTS: "checkpoint"}


class TranscriptFault(FedEmError):
    """A transcript does not hold what it must.

    Args:
        what: In a sentence.
        place: Where.
        proves: What it shows against whom; empty if nothing.
    """

    def __init__(self, what: str, place: Place, proves: str = "") -> None:
        super().__init__(f"{place}: {what}")
        self.what = what
        self.place = place
        self.proves = proves
