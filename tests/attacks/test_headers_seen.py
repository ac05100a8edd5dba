"""Logs of headers in a simulation: a server that shows two is found by laying them side by side."""

from __future__ import annotations

import pytest
from listening import listen
from small_tables import run, tables_of

from fed_em_simulations.attacks.equivocation import equivocations
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.headers_seen import HeaderLogs
from fed_em_simulations.dishonest_server import TwoHeaders


def test_an_honest_server_shows_everybody_one_header() -> None:
    logs = HeaderLogs()
    listen(tables_of(6), logs, sums=3)
    found = equivocations(logs.lines)
    assert (found.severity, found.rounds, len(found.tenants)) == (Severity.NONE, 3, 6)


@pytest.mark.parametrize("instead", [False, True])
def test_a_server_that_shows_two(instead: bool) -> None:
    logs = HeaderLogs()
    run(6, TwoHeaders((4,), first_round=2, instead=instead), logs, sums=3)
    found = equivocations(logs.lines)
    assert found.severity is Severity.EXPOSED and found.conflicts[0].round == 2
    assert ("t4",) in found.conflicts[0].sides
