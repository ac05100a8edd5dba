"""Small federations on a sparse graph, and who is whose neighbour in them."""

from __future__ import annotations

from typing import Any

from fed_em_protocols.graph import NeighbourGraph
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Fate, Interference
from tests.protocols.federation import TestFederation


def small(
    trust: Trust = Trust.MALICIOUS_SERVER,
    interfere: Interference = lambda _: Fate.DELIVER,
    n: int = 12,
    **options: Any,
) -> TestFederation:
    """Hand-made: k = 6, τ = 3, h = 1; the first five certify, three are a quorum."""
    values: dict[str, Any] = {
        "colluders": 0, "minimum_survivors": 7, "trust": int(trust), "neighbours": 6, "share_threshold": 3,
    }  # fmt: skip
    if trust is Trust.MALICIOUS_SERVER:
        values |= {"side_honest": 1, "witnesses": 5, "certificate_quorum": 3}
    return TestFederation(n, 1, interfere=interfere, named_witnesses=5, **{**values, **options})


def graph_in_use(federation: TestFederation) -> NeighbourGraph:
    """The graph of the window that serves the present round."""
    window = federation.server.state.window
    assert window is not None and window.fixed.graph is not None
    return window.fixed.graph
