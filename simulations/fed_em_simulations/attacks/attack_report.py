"""What all attacks on some sessions came to, together: for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fed_em_simulations.attacks.finding import Figure, Finding, Severity

_STYLES = {Severity.NONE: "green", Severity.BOUNDED: "yellow", Severity.EXPOSED: "bold red"}

_WORDS = {
    Severity.NONE: "nothing beyond what the sums are for",
    Severity.BOUNDED: "something about groups or by chance, about no single table or record",
    Severity.EXPOSED: "a tenant's statistics, a record, or more than was promised",
}


@dataclass(frozen=True)
class AttackReport:
    """What attacks came to.

    Attributes:
        title: Of what was attacked.
        expectation: What should come of it; may be empty.
        protection: How the sessions were protected, line by line.
        findings: One for each attack.
        not_run: Attacks that were not run, and why.
    """

    title: str
    expectation: str
    protection: tuple[str, ...]
    findings: tuple[Finding, ...]
    not_run: Mapping[str, str]

    @property
    def severity(self) -> Severity:
        """The worst of all."""
        order = list(Severity)
        return max((finding.severity for finding in self.findings), key=order.index, default=Severity.NONE)

    def to_json(self) -> dict[str, Figure]:
        """The same, JSON-able; it holds no row and no statistic of anybody."""
        findings: list[Figure] = [
            {
                "attack": finding.attack,
                "severity": finding.severity.value,
                "sentence": finding.sentence,
                "figures": dict(finding.figures),
            }
            for finding in self.findings
        ]
        return {
            "title": self.title,
            "expectation": self.expectation,
            "protection": list(self.protection),
            "severity": self.severity.value,
            "findings": findings,
            "not_run": dict(self.not_run),
        }

    def __rich__(self) -> Group:
        """A table that fits 100 columns."""
        table = Table(box=box.SIMPLE_HEAD, title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("attack", no_wrap=True)
        table.add_column("got", no_wrap=True)
        table.add_column("in plain words", overflow="fold")
        for finding in self.findings:
            table.add_row(
                finding.attack,
                Text(finding.severity.value, _STYLES[finding.severity]),
                Text(finding.sentence),
                end_section=True,
            )
        for attack, why in self.not_run.items():
            table.add_row(attack, Text("not run", "dim"), Text(why, "dim"), end_section=True)
        meanings = [
            Text.assemble((f"{each.value}: ", _STYLES[each]), _WORDS[each])
            for each in Severity
            if any(finding.severity is each for finding in self.findings)
        ]
        head = [Text(self.title, "bold"), *map(Text, self.protection)]
        expected = [Text(f"expected: {self.expectation}", "italic")] if self.expectation else []
        return Group(*head, *expected, Text(), table, Text(), *meanings)
