"""Tenants drawn from a known truth under the heterogeneity that one asks for: rows to train on, and rows held out, of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from fed_em.columns import ColumnSchema, PoissonColumn
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.records import Records
from fed_em_protocols.configuration import Table
from fed_em_simulations.costed_cipher import MOST_TENANTS
from fed_em_simulations.covariance_shift import CovarianceShift
from fed_em_simulations.dirichlet_mixing import DirichletMixing
from fed_em_simulations.feature_shift import FeatureShift, SiteShift
from fed_em_simulations.known_mixed_mixture import KnownMixedMixture
from fed_em_simulations.known_mixture import KnownMixture, Truth
from fed_em_simulations.label_availability import LabelAvailability
from fed_em_simulations.missing_cells import MissingCells
from fed_em_simulations.random_streams import stream
from fed_em_simulations.size_skew import SizeSkew

Vector = NDArray[np.float64]
Components = NDArray[np.int64]


def _kind(document: Any) -> str:
    kind = document.get("kind") if isinstance(document, dict) else getattr(document, "kind", None)
    return "gaussian" if kind is None else "mixed"


KnownTruth = Annotated[
    Annotated[KnownMixture, Tag("gaussian")] | Annotated[KnownMixedMixture, Tag("mixed")], Discriminator(_kind)
]


@dataclass(frozen=True, eq=False)
class TenantRows:
    """What one tenant holds, and what is known of it in a simulation only.

    Attributes:
        name: The tenant's.
        records: What it trains on: rows `(n, D)` in original units, with NaN and labels where there are any.
        held_out: `(m, D)`, complete rows of the same distribution that nobody trains on.
        components: True components of the held-out rows, `(m,)`; None where no truth is known.
    """

    name: str
    records: Records
    held_out: Vector
    components: Components | None = None


@dataclass(frozen=True, eq=False)
class Tenants:
    """All tenants, and the truth if there is one, with the weights that the components have over all rows to train on.

    `schema` is of the columns, if they are not all Gaussian.
    """

    members: tuple[TenantRows, ...]
    truth: Truth | None = None
    schema: ColumnSchema | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The tenants' names."""
        return tuple(member.name for member in self.members)

    @property
    def parts(self) -> dict[str, Records]:
        """What each trains on, by name."""
        return {member.name: member.records for member in self.members}

    @property
    def pooled(self) -> Records:
        """What all train on, tenant after tenant."""
        return Records.concatenated([member.records for member in self.members])


class Heterogeneity(Table):
    """In what tenants differ; in nothing by default."""

    mixing: DirichletMixing | None = None
    """In the shares of the components."""
    features: FeatureShift | None = None
    """In how they measure numbers, and in what labels, yes and no, and counts are drawn by."""
    shapes: CovarianceShift | None = None
    """In the shapes of the components."""
    sizes: SizeSkew = SizeSkew()
    """In how many rows they have."""
    missing: MissingCells | None = None
    """In which cells they lack."""
    labels: LabelAvailability | None = None
    """In whether they know the components of their rows."""


class Population(Table):
    """Tenants to be drawn."""

    tenants: Annotated[int, Field(ge=1, le=MOST_TENANTS)] = 20
    """How many."""
    rows: Annotated[int, Field(ge=1)] = 3000
    """To train on, of all tenants together."""
    held_out: Annotated[int, Field(ge=1)] = 200
    """Rows of each tenant that nobody trains on."""
    truth: KnownTruth = KnownMixture()
    """A Gaussian mixture; with `kind = "mixed"` one over columns of mixed kinds."""
    heterogeneity: Heterogeneity = Heterogeneity()
    """In what tenants differ."""

    @model_validator(mode="after")
    def _has_rows_enough(self) -> Self:
        least = self.heterogeneity.sizes.least * self.tenants
        if self.rows < least:
            raise ValueError(f"{self.rows} rows are too few for {self.tenants} tenants, which need {least}")
        return self

    @model_validator(mode="after")
    def _shifts_what_there_is(self) -> Self:
        truth, differ = self.truth, self.heterogeneity
        if isinstance(truth, KnownMixedMixture):
            if differ.shapes is not None:
                raise ValueError("only a Gaussian mixture has components of other shapes: leave `shapes` out")
            if differ.features is not None and differ.features.scale and not truth.gaussian:
                raise ValueError("labels, yes and no, and counts have no scale: leave `features.scale` out")
        return self

    @property
    def content(self) -> str:
        """What the settings do not say: nothing, all is drawn."""
        return ""

    def draw(self, seed: int) -> Tenants:
        """The tenants of this seed. What one concept draws does not depend on the others.

        Raises:
            CallerError: there is no such truth (`KnownMixture.truth`), or no such missing cells.
        """
        truth, differ = self.truth.truth(seed), self.heterogeneity
        weights = truth.parameters["weights"]
        shares = np.tile(weights, (self.tenants, 1))
        if differ.mixing is not None:
            shares = differ.mixing.shares(self.tenants, weights, stream(seed, "mixing"))
        sizes = differ.sizes.sizes(self.rows, self.tenants, stream(seed, "sizes"))
        labelled = (
            None if differ.labels is None else differ.labels.who(self.tenants, stream(seed, "who has labels")).tolist()
        )
        members = tuple(
            _Site(self, truth, shares[c], seed, c).draw(int(size), None if labelled is None else labelled[c])
            for c, size in enumerate(sizes)
        )
        if isinstance(truth.model, MixedMixtureModel) and differ.features is not None:
            roomy = replace(truth.model, schema=_with_room_for(truth.model.schema, members))
            truth = replace(truth, model=roomy)
        schema = truth.model.schema if isinstance(truth.model, MixedMixtureModel) else None
        return Tenants(members, truth.with_weights(sizes @ shares / sizes.sum()), schema)


def _with_room_for(schema: ColumnSchema, members: Sequence[TenantRows]) -> ColumnSchema:
    """A schema whose largest counts are no less than any that a site came to."""
    rows = np.concatenate([each for one in members for each in (one.records.rows, one.held_out)])
    most = np.max(rows, axis=0, initial=0.0, where=~np.isnan(rows))
    return ColumnSchema(
        tuple(
            replace(column, upper=max(column.upper, float(most[place])))
            if isinstance(column, PoissonColumn)
            else column
            for place, column in enumerate(schema.columns)
        )
    )


@dataclass(frozen=True, eq=False)
class _Site:
    """One tenant while it is drawn."""

    population: Population
    truth: Truth
    share: Vector
    seed: int
    index: int

    def draw(self, size: int, has_labels: bool | None) -> TenantRows:
        rows, components = self._rows("rows", size)
        held_out, theirs = self._rows("held out", self.population.held_out)
        admissible, labels = None, self.population.heterogeneity.labels
        if labels is not None and has_labels is not None:
            n_components = self.truth.model.n_components
            admissible = labels.admissible(components, n_components, has_labels, self._stream("labels"))
        return TenantRows(f"t{self.index}", Records(self._with_holes(rows), None, admissible), held_out, theirs)

    def _stream(self, *path: str) -> np.random.Generator:
        return stream(self.seed, *path, self.index)

    def _rows(self, what: str, n: int) -> tuple[Vector, Components]:
        truth, differ = self._truth_here(), self.population.heterogeneity
        rows, components = truth.model.sample(truth.parameters, n, self._stream(what))
        if differ.shapes is not None:
            means = truth.parameters["means"][components]
            rows = means + (rows - means) @ differ.shapes.draw(rows.shape[1], self._stream("shapes"))
        shift = self._shift()
        return rows if shift is None else shift.apply(rows), components

    def _truth_here(self) -> Truth:
        """What this site's rows are drawn from, before numbers are measured otherwise."""
        truth, features = self.truth.with_weights(self.share), self.population.heterogeneity.features
        if features is None or not isinstance(truth.model, MixedMixtureModel):
            return truth
        levels, generator = truth.model.schema.level_slices, self._stream("discrete features")
        return Truth(truth.model, features.of_discrete_columns(truth.parameters, levels, generator))

    def _shift(self) -> SiteShift | None:
        features, model = self.population.heterogeneity.features, self.truth.model
        if features is None:
            return None
        shift = features.draw(self.truth.mean, self.truth.deviation, self._stream("features"))
        return shift.of_columns(model.schema.gaussian) if isinstance(model, MixedMixtureModel) else shift

    def _with_holes(self, rows: Vector) -> Vector:
        missing = self.population.heterogeneity.missing
        if missing is None:
            return rows
        z = (rows - self.truth.mean) / self.truth.deviation
        return missing.apply(rows, z, missing.rate_of_tenant(self._stream("rate")), self._stream("missing"))
