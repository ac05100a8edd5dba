"""The page of a report. It holds what the record and the model say, and no row of anybody's.

Needs the extra `plots`: import it where that may be missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.model_file import FittedModel
from fed_em_server import report_charts as charts
from fed_em_server.record import SessionRecord
from fed_em_server.report_clusters import planar_mixture
from fed_em_server.report_estimates import estimate_lines
from fed_em_server.report_findings import (
    comparison_lines,
    exposure_of,
    happenings_told,
    key_figures,
    tenant_lines,
)
from fed_em_server.report_images import png_of
from fed_em_server.report_participation import participation_chart
from fed_em_server.report_profile import profile_of
from fed_em_server.report_selection import selection_chart, selection_section
from fed_em_server.report_svg import N_PALETTE
from fed_em_server.report_words import banner_in_words, doubt_of_ends, ends_in_words, privacy_in_words, starts_in_words

_TEMPLATES = Path(__file__).parent / "templates"


def report_page(record: SessionRecord, fitted: FittedModel, component_images: NDArray[np.float64] | None = None) -> str:
    """The HTML of a report; see `fed_em_server.report.write_report`.

    Raises:
        CallerError: there is not one image for each component.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_contents(record, fitted, component_images))


def _contents(record: SessionRecord, fitted: FittedModel, images: NDArray[np.float64] | None) -> dict[str, Any]:
    return {
        "record": record,
        "banner": banner_in_words(record),
        "privacy": privacy_in_words(record),
        "model": record.model,
        "figures": key_figures(record),
        "tenants": tenant_lines(record),
        "comparison": comparison_lines(record),
        "happenings": happenings_told(record),
        "exposure": exposure_of(record),
        "components": _components(record, images),
        "profile": profile_of(fitted),
        "selection": None if record.selection is None else selection_section(record.selection),
        "estimates": estimate_lines(fitted),
        "charts": _charts(record, fitted),
        "starts": starts_in_words(record),
        "ends": ends_in_words(record.ends),
        "doubt_of_ends": doubt_of_ends(record.ends),
        "stale_rounds": sum(opened.stale > 0 for opened in record.rounds),
    }


def _charts(record: SessionRecord, fitted: FittedModel) -> dict[str, Markup]:
    """The charts that this record and model allow, by name."""
    drawn: dict[str, str] = {}
    if record.selection is not None and len(record.selection.candidates) > 1:
        drawn["selection"] = selection_chart(record.selection)
    if any(opened.log_likelihood is not None for opened in record.rounds):
        drawn["convergence"] = charts.convergence_chart(record.rounds)
    if any(opened.best_candidate is not None for opened in record.rounds):
        drawn["starts"] = charts.starts_chart(
            record.rounds, "squares explained, a row" if record.centres else "objective, nats a row"
        )
    weights = record.rounds[-1].weights if record.rounds else ()
    if weights:
        drawn["weights"] = charts.weights_chart(record.rounds, component_names(len(weights)))
    if record.rounds:
        drawn["participation"] = participation_chart(record)
        drawn["traffic"] = charts.traffic_chart(record.rounds)
        drawn["seconds"] = charts.seconds_chart(record.rounds)
    mixture = planar_mixture(fitted)
    if mixture is not None:
        drawn["clusters"] = charts.clusters_chart(mixture, component_names(len(mixture.weights)))
    return {name: Markup(svg) for name, svg in drawn.items()}


def _components(record: SessionRecord, images: NDArray[np.float64] | None) -> list[dict[str, Any]]:
    """Name, weight, colour and image of every component, at the end of the session."""
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
