"""Federations in one process and virtual time: the real tenants, the real coordinator, the real cryptography.

    from fed_em_simulations import Federation

    outcome = Federation([X1, X2, X3, ...], dropout=0.1, seed=0).fit(GaussianMixture(3))

Importing this package is light, as the command line is part of it; its names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_em_simulations.federation import Federation, FederationOutcome

__all__ = ["Federation", "FederationOutcome"]

_HOMES = {
    "Federation": "federation",
    "FederationOutcome": "federation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fed_em_simulations' has no attribute '{name}'")
    return getattr(import_module(f"fed_em_simulations.{_HOMES[name]}"), name)
