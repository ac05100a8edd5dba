"""The command `fed-em measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_em.measurement import Measurement


def measure(
    configuration: Annotated[Path, typer.Argument(help="The TOML file of the session that such models are fitted in.")],
    model: Annotated[Path, typer.Option("--model", help="Folder of the fitted model.")],
    against: Annotated[Path | None, typer.Option("--against", help="Folder of another, to compare it with.")] = None,
    keep_reference: Annotated[
        bool,
        typer.Option(
            "--keep-reference", help="Keep this measurement beside the model, as what later ones are held against."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a fitted model over the fresh rows of all tenants, by one secure sum: how likely it finds them, and histograms."""
    import json
    import sys

    from fed_em.errors import CallerError
    from fed_em.model_file import load_model
    from fed_em.reference import Reference, edges_of, load_reference, model_digest, save_reference
    from fed_em_protocols.process_memory import keep_memory_private
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.measurement import measure as measured
    from fed_em_server.plain_log import PlainLog

    keep_memory_private()
    fitted = load_model(model)
    other = [] if against is None else [load_model(against)]
    reference = load_reference(model)
    if reference is not None:
        reference.require_of(fitted)
    if keep_reference and (reference is not None or other):
        raise CallerError(
            f"{model} has a reference already" if reference else "a reference is of one model alone",
            remedy="leave out --against and measure the model for the first time"
            if other
            else "leave out --keep-reference",
        )
    session = read_server_configuration(configuration)
    edges = edges_of(fitted, private=session.privacy is not None) if reference is None else reference.edges
    log = PlainLog(sys.stderr)
    found = measured(session, [fitted, *other], edges, log)
    if keep_reference:
        save_reference(model, Reference(model_digest(fitted), edges, found))
    typer.echo(json.dumps(found.describe(), indent=1) if as_json else "\n".join(_lines(found)))


def _lines(found: Measurement) -> list[str]:
    """What it came to, for people."""
    hidden = f" ± {found.noise:.3g} of noise" if found.noise else ""
    lines = [
        f"{found.records:g} records{hidden}"
        + (f"; not in the sum: {', '.join(found.missing)}" if found.missing else "")
    ]
    for which, one in zip(("model", "other model"), found.models, strict=False):
        error = one.error(found.records)
        lines.append(
            f"{which}: {one.log_likelihood:.6f} ± {error:.6f} nats a record ({one.clipped:g} outside the range)"
        )
    if found.difference is not None:
        error = found.difference.error(found.records)
        lines.append(f"the other model is better by {found.difference.mean:+.6f} ± {error:.6f} nats a record")
    return lines
