"""Command `fed-em privacy plan`: what a session would cost, before anyone starts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def plan(
    epsilon: Annotated[float | None, typer.Option("--epsilon", help="ε of the whole session.")] = None,
    delta: Annotated[float | None, typer.Option("--delta", help="δ at which it holds.")] = None,
    sums: Annotated[int | None, typer.Option("--sums", help="How many sums are noised.")] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", help="Noise multiplier: of each sum, relative to its sensitivity.")
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option("--session", help="A session's TOML file, instead of numbers: what it promises, and its noise."),
    ] = None,
) -> None:
    """What a session costs: give three of ε, δ, sums and noise, and see the fourth; or a session's file."""
    from fed_em.errors import CallerError
    from fed_em_protocols.privacy.accounting import Spend, delta_of, epsilon_of, noise_for, sums_for

    if session is not None:
        if any(number is not None for number in (epsilon, delta, sums, noise)):
            raise CallerError("a session's file says all of ε, δ, sums and noise", remedy="give --session alone")
        for heading, words in _of_session(session):
            typer.echo(f"{heading:<10}{words}")
        return
    _require_sensible(epsilon, delta, sums, noise)
    if epsilon is not None and delta is not None and sums is not None and noise is None:
        noise = _rounded_up(noise_for(epsilon, delta, sums))
        typer.echo(f"noise multiplier {noise:.5g}: {sums} sums cost ε = {epsilon:g} at δ = {delta:g}")
    elif epsilon is not None and delta is not None and noise is not None and sums is None:
        sums = sums_for(epsilon, delta, noise)
        typer.echo(f"{sums or 'no'} sums with noise multiplier {noise:g} cost ε = {epsilon:g} at δ = {delta:g} at most")
    elif delta is not None and sums is not None and noise is not None and epsilon is None:
        epsilon = epsilon_of((Spend(noise, sums),), delta)
        typer.echo(f"ε = {epsilon:.4g} at δ = {delta:g}: {sums} sums with noise multiplier {noise:g}")
    elif epsilon is not None and sums is not None and noise is not None and delta is None:
        delta = delta_of((Spend(noise, sums),), epsilon)
        typer.echo(f"δ = {delta:.4g} at ε = {epsilon:g}: {sums} sums with noise multiplier {noise:g}")
    else:
        raise CallerError(
            "three of the four numbers say the fourth",
            remedy="give three of --epsilon, --delta, --sums and --noise, or --session",
        )


def _of_session(path: Path) -> Iterator[tuple[str, str]]:
    """A session's promise, its sums and its noise, by heading."""
    from fed_em.errors import CallerError
    from fed_em_protocols.roster import load_roster
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.session_terms import privacy_plan

    configuration = read_server_configuration(path)
    privacy = configuration.description.privacy
    if privacy is None:
        raise CallerError(
            f"session '{configuration.title}' promises no differential privacy",
            remedy="give it a [privacy] with epsilon and delta",
        )
    yield "promise", privacy.in_words
    said = (f"{number} {kind}" for kind, number in configuration.planned_sums.items() if number)
    yield "sums", f"{', '.join(said)}: {privacy.sums}"
    yield "radius", f"records lie in a ball of {privacy.radius:.3g} standard deviations"
    plan = privacy_plan(configuration.trust, load_roster(configuration.roster), configuration.description)
    if plan is not None:
        yield from plan.lines()


def _require_sensible(epsilon: float | None, delta: float | None, sums: int | None, noise: float | None) -> None:
    from math import inf

    from fed_em.errors import CallerError

    for name, value, most in (
        ("--epsilon", epsilon, inf),
        ("--delta", delta, 1),
        ("--sums", sums, inf),
        ("--noise", noise, inf),
    ):
        if value is not None and not 0 < value < most:
            raise CallerError(
                f"{name} is {value:g}", remedy=f"it is above 0 and below {'infinity' if most == inf else most}"
            )


def _rounded_up(noise: float) -> float:
    """To the five digits that are shown: with less noise, ε would be larger than was wanted."""
    from math import ceil, floor, log10

    scale = 10.0 ** (4 - floor(log10(noise)))
    return ceil(noise * scale) / scale
