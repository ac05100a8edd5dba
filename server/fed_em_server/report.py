"""The report of a session: one HTML file that needs nothing else, and the record it was made from.

The page holds what the record and the model say, and no row of anybody's. Equal inputs give equal bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import FittedModel
from fed_em_server.record import SessionRecord
from fed_em_server.report_clusters import planar_mixture
from fed_em_server.report_findings import (
    comparison_lines,
    exposure_of,
    happenings_told,
    key_figures,
    model_in_words,
    tenant_lines,
)
from fed_em_server.report_words import banner_in_words

if TYPE_CHECKING:
    from markupsafe import Markup

REPORT_FILE = "report.html"
RECORD_FILE = "record.json"

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    folder: Path, record: SessionRecord, fitted: FittedModel, component_images: NDArray[np.float64] | None = None
) -> Path:
    """Write `report.html` and `record.json` into `folder`, which is made if need be.

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
    page = report_page(record, fitted, component_images)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / REPORT_FILE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write a report into '{folder}': {error.strerror}", remedy="check the folder's rights and free space"
        ) from error
    return folder / REPORT_FILE


def report_page(record: SessionRecord, fitted: FittedModel, component_images: NDArray[np.float64] | None = None) -> str:
    """The HTML of a report; raises `CallerError` as `write_report`."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CallerError(
            f"a report needs the package '{error.name}', which is not installed",
            remedy="pip install 'fed-em[plots]'",
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_contents(record, fitted, component_images))


def _contents(record: SessionRecord, fitted: FittedModel, images: NDArray[np.float64] | None) -> dict[str, Any]:
    return {
        "record": record,
        "banner": banner_in_words(record),
        "model": model_in_words(fitted.model, record.model),
        "figures": key_figures(record),
        "tenants": tenant_lines(record),
        "comparison": comparison_lines(record),
        "happenings": happenings_told(record),
        "exposure": exposure_of(record),
        "components": _components(record, images),
        "charts": _charts(record, fitted),
    }


def _charts(record: SessionRecord, fitted: FittedModel) -> dict[str, Markup]:
    """The charts that this record and model allow, by name."""
    from markupsafe import Markup

    from fed_em_server import report_charts as charts

    drawn: dict[str, str] = {}
    if any(opened.log_likelihood is not None for opened in record.rounds):
        drawn["convergence"] = charts.convergence_chart(record.rounds)
    weights = record.rounds[-1].weights if record.rounds else ()
    if weights:
        drawn["weights"] = charts.weights_chart(record.rounds, component_names(len(weights)))
    if record.rounds:
        drawn["participation"] = charts.participation_chart(record)
        drawn["traffic"] = charts.traffic_chart(record.rounds)
        drawn["seconds"] = charts.seconds_chart(record.rounds)
    mixture = planar_mixture(fitted)
    if mixture is not None:
        drawn["clusters"] = charts.clusters_chart(mixture, component_names(len(mixture.weights)))
    return {name: Markup(svg) for name, svg in drawn.items()}


def _components(record: SessionRecord, images: NDArray[np.float64] | None) -> list[dict[str, Any]]:
    """Name, weight, colour and image of every component, at the end of the session."""
    from fed_em_server.report_images import png_of
    from fed_em_server.report_svg import N_PALETTE

    weights = record.rounds[-1].weights if record.rounds else ()
    if images is not None and len(images) != len(weights):
        raise CallerError(f"{len(images)} images for a mixture of {len(weights)} components")
    pictures = [None] * len(weights) if images is None else png_of(images)
    return [
        {"name": name, "weight": weight, "colour": k % N_PALETTE, "image": picture}
        for k, (name, weight, picture) in enumerate(zip(component_names(len(weights)), weights, pictures, strict=True))
    ]


def component_names(n: int) -> tuple[str, ...]:
    """`c0` and so on: the number that `FittedModel.predict` gives, which a letter keeps apart from digits in images."""
    return tuple(f"c{k}" for k in range(n))
