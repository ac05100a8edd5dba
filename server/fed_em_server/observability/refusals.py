"""What a notice of a refusal says: a code, and no more."""

from __future__ import annotations

from fed_em_protocols.coordinator_state import Notice
from fed_em_protocols.messages import RefusalCode

UNKNOWN = "unknown"

_CODES = frozenset(code.name.lower().replace("_", "-") for code in RefusalCode)


def code_of(notice: Notice) -> str:
    """The code that a tenant refused with, as words of its name; `UNKNOWN` for one of another version of the program."""
    return notice.text if notice.text in _CODES else UNKNOWN
