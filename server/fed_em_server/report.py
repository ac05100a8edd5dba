"""The report of a session: one HTML file that needs nothing else, and the record it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import FittedModel
from fed_em.whole_files import write_whole
from fed_em_server.record import SessionRecord, write_record

REPORT_FILE = "report.html"


def write_report(
    folder: Path, record: SessionRecord, fitted: FittedModel, component_images: NDArray[np.float64] | None = None
) -> Path:
    """Write `report.html` and `record.json` into `folder`, which is made if need be. Equal inputs give equal bytes.

    Args:
        folder: Where to.
        record: The whole session.
        fitted: The model that it ended with.
        component_images: `(K, h, w)`, each component's mean as an image; without it the components are listed by
            weight alone.

    Returns:
        The path of the report.

    Raises:
        CallerError: the packages for plots are not installed, or there is not one image for each component.
        EnvironmentFault: the files cannot be written.
    """
    try:
        from fed_em_server.report_page import report_page  # noqa: PLC0415  needs an extra
    except ImportError as error:
        raise CallerError(
            f"a report needs the package '{error.name}', which is not installed",
            remedy="pip install 'fed-em[plots]'",
        ) from error
    page = report_page(record, fitted, component_images)
    with writing_into(folder):
        write_record(folder, record)
    return write_page(folder, page)


def write_page(folder: Path, page: str) -> Path:
    """Write the HTML of a report into a folder, which is made if need be: whole, or not at all.

    Returns:
        Its path.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    with writing_into(folder):
        write_whole(folder / REPORT_FILE, page.encode())
    return folder / REPORT_FILE


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder for reports if need be; within, trouble of the disk is an `EnvironmentFault` that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write a report into '{folder}': {error.strerror}",
            remedy="check the folder's rights and free space",
        ) from error
