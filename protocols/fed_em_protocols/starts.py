"""The `[starts]` of a session: before the rounds of the model, several starts are evaluated side by side, and the best goes on.

Both sides know from the session's description which candidates these rounds are of (`fed_em.starts`), and until which round they
may be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from fed_em.centres import CENTRE_ROUNDS
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import Model, Summand
from fed_em.starts import rounds_of
from fed_em_protocols.configuration import Table
from fed_em_protocols.limits import MAX_VECTOR_LENGTH

MAX_STARTS = 256

# With all of them starts take 318 sums.
MAX_GENERATIONS = 20


def most_candidates(model: Summand) -> int:
    """How many copies of a model, or of candidates, a round may be of: all parameters are in one message, and so are all statistics.

    A full covariance is broadcast whole, and its moments are summed without what stands twice.
    """
    return MAX_VECTOR_LENGTH // (2 * model.layout().size)


def starts_by_centres(models: Sequence[Model], private: bool) -> bool:
    """Whether starts are sets of centres (`fed_em.centres`): of one Gaussian mixture, where sums have noise."""
    return private and len(models) == 1 and isinstance(models[0], GaussianMixtureModel)


class Starts(Table):
    """How many starts are drawn; one more is split, and drawn by nobody. And how often moves take the place of the worse ones."""

    n: Annotated[int, Field(ge=1, le=MAX_STARTS)] = 20
    generations: Annotated[int, Field(ge=0, le=MAX_GENERATIONS)] = 0
    finer: bool = False
    """Whether they begin with `fed_em.starts.FINER` times as many components, and as many times fewer."""

    @model_serializer(mode="wrap")
    def _what_is_declared(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Starts without generations, or that are not finer, are described as they were before there were any."""
        described: dict[str, Any] = fields(self)
        return {name: value for name, value in described.items() if name == "n" or value}

    def rounds(self, by_centres: bool) -> int:
        """How many sums of candidates, or of centres, a session takes where none fails."""
        return CENTRE_ROUNDS if by_centres else rounds_of(self.generations)
