"""What becomes of the components of a session's fit at its end, as both sides know it from the session's description."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field, FiniteFloat

from fed_em.divergence import Mixture
from fed_em.final_components import Simplification
from fed_em.model import Summand
from fed_em_protocols.configuration import Table


class FinalComponents(Table):
    """Components are numbered in canonical order (`fed_em.alignment`). Before, those that are too light or too near go, if any are."""

    least_weight: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    """Components of less weight are left out, and the fit goes on."""
    least_distance: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Components nearer than this Bhattacharyya distance are merged, likewise."""

    @property
    def simplification(self) -> Simplification:
        """As the fit takes it."""
        return Simplification(self.least_weight, self.least_distance)


def has_fewer_components(model: Summand, whole: Summand) -> bool:
    """Whether a model is a mixture with fewer components than another, and the same in all else."""
    if not (isinstance(model, Mixture) and isinstance(whole, Mixture)) or model.n_components >= whole.n_components:
        return False
    return replace(model, n_components=whole.n_components) == whole
