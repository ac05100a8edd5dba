"""Where the tenants' rows come from: a population that is drawn, or a table that is divided."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from fed_em_simulations.divided_table import DividedTable
from fed_em_simulations.population import Population


def _source(document: Any) -> str:
    named = document.get("table") if isinstance(document, dict) else getattr(document, "table", None)
    return "drawn" if named is None else "divided"


Data = Annotated[
    Annotated[Population, Tag("drawn")] | Annotated[DividedTable, Tag("divided")],
    Discriminator(_source),
]
