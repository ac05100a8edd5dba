"""The verification of a transcript, as lines of a report."""

from __future__ import annotations

from fed_em_server.audit.verify import Verification
from fed_em_simulations.audit_report.contents import CheckLine


def check_lines(found: Verification) -> tuple[CheckLine, ...]:
    """One line for each check."""
    return tuple(
        CheckLine(
            check=check.name,
            verdict=check.verdict.value,
            said=check.said,
            place="" if check.place is None else str(check.place),
            proves=check.proves,
        )
        for check in found.checks
    )
