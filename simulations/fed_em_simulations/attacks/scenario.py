"""A federation to attack, as a file or options state it: who is in it, how it is protected, and what the adversary has besides the sums."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table, complaint_of, read_toml, validated

_FOLDER = Path(__file__).parent / "scenarios"


class AttackScenario(Table):
    """A federation of tenants with rows of a known mixture, and an adversary who reads all of its sessions."""

    title: Annotated[str, Field(min_length=1)] = "A federation"
    expectation: str = ""
    """What should come of the attacks, in a sentence."""
    seed: Annotated[int, Field(ge=0)] = 0
    tenants: Annotated[int, Field(ge=3, le=64)] = 9
    rows: Annotated[int, Field(ge=4, le=20_000)] = 100
    """Of each tenant."""
    columns: Annotated[int, Field(ge=1, le=20)] = 2
    components: Annotated[int, Field(ge=1, le=20)] = 3
    overlap: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.1
    """Of the true components; see `fed_em_simulations.known_mixture`."""
    extra_components: Annotated[int, Field(ge=0, le=5)] = 0
    """That are fitted beyond the true ones: they find records that stand apart."""
    outliers: Annotated[int, Field(ge=0, le=5)] = 0
    """Records far from all others, one at each of the first tenants."""
    small: Annotated[int, Field(ge=1)] | None = None
    """How many rows the last tenant has, if it has fewer than the others."""
    sessions: Annotated[int, Field(ge=1, le=10)] = 2
    sums: Annotated[int, Field(ge=2, le=100)] = 12
    """Of each session: of the moments, and of the fit."""
    starts: Annotated[int, Field(ge=0, le=100)] = 0
    """As in a session's file: 0 for one draw; more take 18 sums before the fit."""
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.1
    """How likely each tenant is out of each sum of statistics, that of the moments included."""
    blocks: bool = True
    block_size: Annotated[int, Field(ge=2)] | None = None
    colluders: Annotated[int, Field(ge=0)] | None = 1
    """f that the sessions are to withstand."""
    minimum_survivors: Annotated[int, Field(ge=3)] | None = None
    """u_min. Noise is sized for sums of so many: more tenants add more than was promised."""
    mass_floor: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    epsilon: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Of each session, for each record; None: sums without noise."""
    delta: Annotated[FiniteFloat, Field(gt=0, lt=0.01)] = 1e-5
    radius: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Of the ball that records are scaled into, in standardised units; None for the usual one."""
    colluding: Annotated[int, Field(ge=0)] = 1
    """How many tenants, the first ones, give the adversary their tables."""
    canaries: Annotated[int, Field(ge=0, le=400)] = 0
    """Records that a coin puts in or leaves out of the first session; 0: no audit by canaries."""
    candidates: Annotated[int, Field(ge=100, le=5000)] = 500
    """Records that membership is inferred of, and as many of others."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.outliers > self.tenants:
            raise ValueError("there are more outliers than tenants")
        if self.colluding >= self.tenants:
            raise ValueError("if all tenants collude nobody is left to attack")
        if self.epsilon is not None and self.mass_floor and self.dropout:
            raise ValueError(
                "a private session with a mass floor and dropout may fail too often: leave one of them out"
            )
        return self

    def with_changes(self, changes: dict[str, object]) -> AttackScenario:
        """The same with other values of some fields. Raises `CallerError` naming the field that does not admit its value."""
        try:
            return AttackScenario.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise CallerError(
                complaint_of(error), remedy=f"fields of a scenario: {', '.join(AttackScenario.model_fields)}"
            ) from None


def shipped_attacks() -> tuple[tuple[str, str], ...]:
    """Name and title of each scenario that comes with the package."""
    return tuple((path.stem, str(read_toml(path)["title"])) for path in sorted(_FOLDER.glob("*.toml")))


def read_attack(told: str) -> AttackScenario:
    """A scenario by the path of its file, or by the name of a shipped one.

    Raises:
        CallerError: there is neither, or the file is no scenario: names the key.
    """
    shipped, path = _FOLDER / f"{told}.toml", Path(told)
    if shipped.is_file() and path.name == told:
        path = shipped
    elif not path.suffix and not path.exists():
        names = [name for name, _ in shipped_attacks()]
        raise CallerError(f"no scenario '{told}' is shipped, and no such file is there", remedy=nearest(told, names))
    return validated(path, read_toml(path), AttackScenario)
