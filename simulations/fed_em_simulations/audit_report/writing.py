"""An audit's report on disk: `audit.html` and `audit.json`."""

from __future__ import annotations

from pathlib import Path

from fed_em_server.report import writing_into
from fed_em_simulations.audit_report.contents import AuditReport
from fed_em_simulations.simulation_report import require_plots

PAGE_FILE, JSON_FILE = "audit.html", "audit.json"


def write_audit_report(folder: Path, report: AuditReport) -> tuple[Path, Path]:
    """Write both files into a folder, which is made if need be. Equal reports give equal bytes.

    Returns:
        The paths of the page and of the JSON.

    Raises:
        CallerError: the packages for plots are not installed.
        EnvironmentFault: a file cannot be written.
    """
    require_plots()
    from fed_em_simulations.audit_report.page import audit_page  # noqa: PLC0415  needs an extra

    page, data = folder / PAGE_FILE, folder / JSON_FILE
    text = audit_page(report)
    with writing_into(folder):
        page.write_text(text, encoding="utf-8")
        data.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return page, data
