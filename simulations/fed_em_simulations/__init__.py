"""Federations in one process and virtual time: the real tenants, the real coordinator, the real cryptography.

    from fed_em_simulations import Federation

    outcome = Federation([X1, X2, X3, ...], dropout=0.1, seed=0).fit(GaussianMixture(3))

And what would become of the model, method by method, if some of them lag; or a whole scenario of it, in a notebook or from a file:

    print(compare([X1, X2, X3, ...], n_components=3, attendance=0.5))
    results = simulate(read_scenario("scenario.toml"), jobs=2)

Importing this package is light, as the command line is part of it; its names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_em_simulations.comparison import compare
    from fed_em_simulations.federation import Federation
    from fed_em_simulations.federation_outcome import FederationOutcome
    from fed_em_simulations.results import Results
    from fed_em_simulations.run_scenario import simulate
    from fed_em_simulations.scenario import Scenario, read_scenario

__all__ = ["Federation", "FederationOutcome", "Results", "Scenario", "compare", "read_scenario", "simulate"]

_HOMES = {
    "Federation": "federation",
    "FederationOutcome": "federation_outcome",
    "Results": "results",
    "Scenario": "scenario",
    "compare": "comparison",
    "read_scenario": "scenario",
    "simulate": "run_scenario",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fed_em_simulations' has no attribute '{name}'")
    return getattr(import_module(f"fed_em_simulations.{_HOMES[name]}"), name)
