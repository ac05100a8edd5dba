"""The `[selection]` of a session: several models are fitted side by side, one is picked, and the session goes on with it.

Both sides know from the session's description which models these are, whether rows are held out of their fits, and until which round they
may be asked for. Each tenant holds out its own rows, drawn from a secret of its own and their positions (`fed_em.held_out`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from fed_em.criteria import HELD_OUT
from fed_em.em import GONE_AFTER
from fed_em.held_out import HeldOut
from fed_em_protocols.configuration import Table

_SHARE = 0.2


class Selection(Table):
    """What there is to pick from, and by which criterion (`fed_em.criteria`)."""

    components: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=64)]
    """Numbers of components, in place of `n_components` in [model]."""
    covariances: (
        Annotated[tuple[Literal["full", "tied", "diag", "spherical"], ...], Field(min_length=1, max_length=4)] | None
    ) = None
    """Covariance structures, in place of `covariance` in [model]; by default that one."""
    criterion: Literal["bic", "aic", "icl", "held-out"] = "bic"
    held_out: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    """The share of rows that are held out while models are picked, and scored; a fifth where the criterion needs them, otherwise none."""
    max_iterations: Annotated[int, Field(ge=1, le=1000)] = 100
    """Of each model, before one is picked."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, values in (("components", self.components), ("covariances", self.covariances or ())):
            if len(set(values)) < len(values):
                raise ValueError(f"`{what}` of [selection] names a value twice")
        if len(self.components) * len(self.covariances or ("",)) < 2:
            raise ValueError("[selection] names one model: there is nothing to pick from, leave it out")
        return self

    @property
    def share(self) -> float | None:
        """The held-out share; None if no rows are held out."""
        return _SHARE if self.held_out is None and self.criterion == HELD_OUT else self.held_out

    def held_out_rows(self, key: bytes) -> HeldOut | None:
        """Which rows a key holds out; None if none."""
        return None if self.share is None else HeldOut(self.share, key)

    @property
    def rounds(self) -> int:
        """How many sums of all models are taken at most where none fails."""
        return self.max_iterations + 1 + GONE_AFTER

    def check_model(self, model: Mapping[str, Any]) -> None:
        """Raise `ValueError` if [model] says what [selection] says."""
        for key, given in (("n_components", self.components), ("covariance", self.covariances)):
            if given is not None and key in model:
                raise ValueError(f"`{key}` of [model] is said in [selection]: leave it out of [model]")

    def models(self, model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The descriptions of all models, given what [model] says: structure after structure, each with every number of components."""
        for covariance in self.covariances or (None,):
            of_structure = {} if covariance is None else {"covariance": covariance}
            for n_components in self.components:
                yield {**model, "n_components": n_components, **of_structure}
