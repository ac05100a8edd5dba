"""The report of a simulation: one HTML file that needs nothing else, with charts and all numbers behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fed_em.errors import CallerError
from fed_em_server.report import write_page
from fed_em_simulations.results import Results
from fed_em_simulations.scenario import Scenario

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "simulation.html.j2"


def require_plots() -> None:
    """Raise `CallerError` unless the packages for reports are installed: better before an hour of simulation than after."""
    try:
        import jinja2  # noqa: F401, PLC0415  the same

        import fed_em_simulations.simulation_charts  # noqa: F401, PLC0415  needs an extra
    except ImportError as error:
        raise CallerError(
            f"a report needs the package '{error.name}', which is not installed",
            remedy="pip install 'fed-em[plots]', or go without: --no-report",
        ) from error


def write_simulation_report(folder: Path, scenario: Scenario, results: Results) -> Path:
    """Write `report.html` into a folder, which is made if need be. Equal inputs give equal bytes.

    Args:
        folder: Where to.
        scenario: What was run.
        results: What came of it.

    Returns:
        The path of the report.

    Raises:
        CallerError: the packages for plots are not installed.
        EnvironmentFault: the file cannot be written.
    """
    require_plots()
    return write_page(folder, simulation_page(scenario, results))


def simulation_page(scenario: Scenario, results: Results) -> str:
    """The HTML of a report. Needs the extra `plots`."""
    from markupsafe import Markup  # noqa: PLC0415  needs an extra

    from fed_em_simulations.simulation_charts import (  # noqa: PLC0415  the same
        field_in_words,
        results_chart,
        value_in_words,
    )

    experiment = scenario.experiment
    heading, lines = results.table()
    settings = experiment.model_dump(mode="json", exclude_none=True)
    return (
        page_environment()
        .get_template(_TEMPLATE)
        .render(
            scenario=scenario,
            kind=experiment.experiment,
            notes=[*experiment.notes(results), *([results.failures] if results.failures else [])],
            about=(type(experiment).__doc__ or "").split("\n\n")[0],
            charts=[
                (chart, chart.note_on(results), Markup(results_chart(results, chart, experiment.keys, number)))
                for number, chart in enumerate(experiment.charts)
                if results.keys  # else nothing varies, and the table says all
            ],
            heading=[field_in_words(name) for name in heading],
            n_keys=len(results.keys),
            lines=lines,
            swept=[
                (field_in_words(name), [value_in_words(scenario.labels({name: value})[name]) for value in values])
                for name, values in scenario.sweep.items()
            ],
            settings=json.dumps(settings, indent=2),
        )
    )


def page_environment() -> Environment:
    """Templates of this room's pages, with the style sheet of sessions' reports. Needs the extra `plots`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  the same

    import fed_em_server.report_page  # noqa: PLC0415  needs an extra

    of_sessions = Path(fed_em_server.report_page.__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader([Path(__file__).parent / "templates", of_sessions]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
