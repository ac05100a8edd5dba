"""A registry on a terminal: all versions, one of them with everything it follows from, a stage's history, a difference."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fed_em_server.record import Participation, SessionRecord
from fed_em_server.registry.difference import Difference
from fed_em_server.registry.history import Decided, History, Moved
from fed_em_server.registry.lineage import Lineage, Metrics
from fed_em_server.registry.store import Registry
from fed_em_server.registry.version import SHORT, Version
from fed_em_server.report_words import decimal, names_in_words

_PARTS = {
    Participation.SUMMED: "in the sum",
    Participation.RECOVERED: "in the sum, fell silent behind it",
    Participation.STALE: "with an earlier term",
    Participation.LATE: "late",
    Participation.AWAY: "away",
}


def versions_table(versions: Sequence[Version], history: History) -> Table:
    """All versions, the newest last, with the stages that they are in."""
    table = _table("version", "id", "added", "session", "model", "nats a row", "rounds", "parents", "stages")
    names = {version.id: f"{version.number}" for version in versions}
    for version in versions:
        metrics = version.lineage.metrics
        stages = [stage for stage in sorted(history.stages) if history.current(stage) == version.id]
        table.add_row(
            str(version.number),
            version.id[:SHORT],
            _minute(version.added),
            version.lineage.title or "fitted in one place",
            version.manifest.model,
            "" if metrics.log_likelihood is None else decimal(metrics.log_likelihood),
            str(metrics.rounds or ""),
            ", ".join(names[parent] for parent in version.parents),
            ", ".join(stages),
            style="bold" if stages else None,
        )
    return table


def version_page(registry: Registry, version: Version, history: History) -> RenderableType:
    """Which data made a version, who took part, what came before it, and how all of it is verified."""
    lineage = version.lineage
    stages = [stage for stage in sorted(history.stages) if history.current(stage) == version.id]
    record = registry.record(version)
    parts: list[RenderableType] = [
        Text(f"{version.name}{f', in {names_in_words(stages)}' if stages else ''}", "bold"),
        _grid(_what(version)),
        Text("\nwhat it follows from", "bold"),
        _grid(_hashes(version)),
    ]
    if record is not None:
        parts += [Text(f"\nwho took part in its {len(record.rounds)} sums", "bold"), _participation(lineage, record)]
    parts += [Text("\nwhat it began with", "bold"), _ancestors(registry, version)]
    if lineage.transcript is not None:
        parts += [Text("\nto verify it", "bold"), *_to_verify(version)]
    return Group(*parts)


def _what(version: Version) -> Iterator[tuple[str, str]]:
    lineage = version.lineage
    yield "id", version.id
    yield "model", f"{version.manifest.model}, over {', '.join(version.manifest.columns)}"
    if lineage.session:
        yield "session", f"{lineage.title} of {lineage.federation}, {lineage.session}"
    if lineage.created:
        yield "begun", lineage.created
    yield "added", f"{version.added}{f' from {version.source}' if version.source else ''}"
    yield "made by", f"fed-em {lineage.package}"
    yield "fit", _fit(lineage.metrics)
    if lineage.metrics.epsilon is not None:
        yield "privacy", f"ε = {lineage.metrics.epsilon:g} at δ = {lineage.metrics.delta:g}"


def _fit(metrics: Metrics) -> str:
    said = []
    if metrics.log_likelihood is not None:
        said.append(f"{decimal(metrics.log_likelihood)} nats a row of standardised columns")
    if metrics.records is not None:
        said.append(f"over {metrics.records:g} records")
    if metrics.rounds:
        ended = "converged" if metrics.converged else "not converged"
        said.append(f"in {metrics.rounds} sums and {metrics.iterations} iterations, {ended}")
    return ", ".join(said) or "nothing is known of it"


def _hashes(version: Version) -> Iterator[tuple[str, str]]:
    lineage = version.lineage
    yield "data schema", lineage.data_schema
    if lineage.description is not None:
        yield "description", lineage.description
    if lineage.terms is not None:
        yield "terms", lineage.terms
    if lineage.roster is not None:
        yield "roster", f"{lineage.roster}: {', '.join(lineage.tenants)}"
    if lineage.transcript is not None:
        yield "transcript", f"{lineage.transcript.root} over {lineage.transcript.entries} entries"
    for tenant, commitments in lineage.policies.items():
        yield f"policy of {tenant}", ", ".join(commitments)
    yield from sorted(version.manifest.files.items())


def _participation(lineage: Lineage, record: SessionRecord) -> Table:
    table = _table("tenant", *_PARTS.values())
    for index, tenant in enumerate(lineage.tenants):
        rounds = {part: [r.round for r in record.rounds if r.participation[index] is part] for part in _PARTS}
        table.add_row(tenant, *(in_ranges(rounds[part]) for part in _PARTS))
    return table


def in_ranges(numbers: Iterable[int]) -> str:
    """`1–24, 26` of ascending numbers."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in ranges)


def _ancestors(registry: Registry, version: Version) -> RenderableType:
    """The versions before it, up to those that began with none."""
    tree = Tree(_in_a_line(version))

    def grow(branch: Tree, child: Version) -> None:
        for parent in child.parents:
            found = registry.version(parent)
            grow(branch.add(_in_a_line(found)), found)
        if not child.parents:
            started = child.lineage.started_from
            outside = f"a model that is not in this registry, with the tensors {started}"
            branch.add(Text("no model: a fresh start" if started is None else outside, "dim"))

    grow(tree, version)
    return tree


def _in_a_line(version: Version) -> Text:
    lineage = version.lineage
    title = f", {lineage.title} of {len(lineage.tenants)} tenants" if lineage.session else ", fitted in one place"
    return Text(f"{version.name}{title}, added {_minute(version.added)}")


def _to_verify(version: Version) -> Iterator[RenderableType]:
    """The command, and what its result is to be held against."""
    lineage = version.lineage
    assert lineage.transcript is not None
    command = shlex.join(["fed-em", "audit", "verify", version.source or "OUTPUT", "--roster", "ROSTER"])
    yield Text(f"  {command}", "cyan", overflow="fold")
    yield Text(
        "  replays the session. ROSTER is the file whose hash is above; the last line of checkpoints.jsonl must have the root above, "
        f"over {lineage.transcript.entries} entries. `fed-em registry verify` holds all files against their hashes."
    )


def history_table(entries: Sequence[Moved | Decided], versions: Sequence[Version]) -> Table:
    """What became of a stage: when, what, from where to where, who and why."""
    table = _table("time", "what", "from", "to", "who", "why")
    names = {version.id: str(version.number) for version in versions}

    def named(version: str | None) -> str:
        return "" if version is None else f"{names.get(version, 'removed')} ({version[:SHORT]})"

    for entry in entries:
        if isinstance(entry, Moved):
            what: str = entry.kind
            before, after = entry.before, entry.after
        else:
            what = f"decided: {entry.decision.outcome}"
            before, after = entry.decision.baseline, entry.decision.candidate
        table.add_row(entry.time, what, named(before), named(after), entry.who, entry.reason)
    return table


def difference_page(first: Version, second: Version, found: Difference) -> RenderableType:
    """How two versions differ."""
    ours, theirs = first.lineage, second.lineage
    same = "the same" if ours.data_schema == theirs.data_schema else "another"
    lines = [("data schema", f"{same}{'; column ' + ', '.join(found.columns) if found.columns else ''}")]
    roster = "the same" if ours.roster == theirs.roster else "another"
    joined = f"; {names_in_words(found.joined)} joined" if found.joined else ""
    left = f"; {names_in_words(found.left)} left" if found.left else ""
    lines.append(("roster", f"{roster}{joined}{left}"))
    lines += [("fit", f"{_fit(ours.metrics)}"), ("", f"{_fit(theirs.metrics)}")]
    if ours.metrics.log_likelihood is not None and theirs.metrics.log_likelihood is not None:
        gain = theirs.metrics.log_likelihood - ours.metrics.log_likelihood
        lines.append(
            (
                "",
                f"{decimal(gain, 6, signed=True)} nats a row, each in its own standardised columns and of its own records",
            )
        )
    heading = Text(f"from {first.name} to {second.name}", "bold")
    if found.incomparable:
        return Group(heading, _grid([*lines, ("components", f"not compared: {found.incomparable}")]))
    return Group(heading, _grid(lines), _components(found))


def _components(found: Difference) -> Table:
    table = _table("component", "became", "weight", "then", "distance", "mean moved, σ", "along")
    for row in found.components:
        table.add_row(
            "" if row.component is None else str(row.component),
            "none" if row.other is None else str(row.other),
            f"{row.weights[0]:.4f}" if row.component is not None else "",
            f"{row.weights[1]:.4f}" if row.other is not None else "",
            "" if np.isnan(row.distance) else f"{row.distance:.4g}",
            "" if np.isnan(row.shift) else f"{row.shift:.4g}",
            row.column,
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _grid(lines: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines:
        grid.add_row(Text(name, "dim"), Text(value, overflow="fold"))
    return grid


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
