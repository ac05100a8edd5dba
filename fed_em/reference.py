"""What a fitted model is measured against: edges that follow from the model, and the first measurement after its training.

Rows drawn from the model say where its log-densities and the values of its columns lie. Edges between every so many of them make bins
that the model holds to be about equally full; no tenant's rows move them.

The file stands beside the model (`reference.json`), and a registry's lineage names its hash. Format 1; format 2 says of numbers of a
private session how much of them is noise.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_em.broadcast import Broadcast
from fed_em.columns import BernoulliColumn, CategoricalColumn, Column, PoissonColumn
from fed_em.coordinates import Coordinates
from fed_em.description import check_whole_number, read_mapping
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.measured_models import MeasuredModels
from fed_em.measurement import Measurement
from fed_em.model_file import FittedModel
from fed_em.reference_edges import ReferenceEdges
from fed_em.strict_json import parse_json
from fed_em.whole_files import write_whole

Vector = NDArray[np.float64]

FORMAT, NOISED_FORMAT = 1, 2
REFERENCE_FILE = "reference.json"

BINS = 10

# How many rows are drawn. A quantile of so many is off by a probability of 0.004 at most (one standard error).
_DRAWS = 16384

# The declared range of log-densities, in standard deviations of the drawn ones (at least a nat) from their ends. Below, records are as good
# as impossible, and one of them would outweigh all others in a mean.
_BELOW, _ABOVE = 40.0, 5.0

# In a private measurement noise is as large as the range: it is from the quantile of so many of the drawn ones, less one deviation, to a
# half above the largest. What lies below is clipped, and counted.
_PRIVATE_QUANTILE, _PRIVATE_BELOW, _PRIVATE_ABOVE = 0.001, 1.0, 0.5


def edges_of(fitted: FittedModel, bins: int = BINS, seed: int = 0, private: bool = False) -> ReferenceEdges:
    """The edges that follow from a fitted model.

    Args:
        fitted: The model.
        bins: Of log-densities and of each Gaussian column, at least 2; counts have as many at most, as several cuts may be in one place.
        seed: Of the rows that are drawn from it.
        private: Whether they are for sums with noise, which is the less the narrower the range of log-densities is.
    """
    check_whole_number("bins", bins, 2)
    rows, _ = fitted.sample(_DRAWS, seed)
    densities = fitted.score_samples(rows)
    cuts = np.arange(1, bins) / bins
    spread = max(float(densities.std()), 1.0)
    low, below, above = (
        (float(np.quantile(densities, _PRIVATE_QUANTILE)), _PRIVATE_BELOW, _PRIVATE_ABOVE)
        if private
        else (float(densities.min()), _BELOW, _ABOVE)
    )
    return ReferenceEdges(
        low - below * spread,
        float(densities.max()) + above * spread,
        _quantiles(densities, cuts),
        tuple(_edges_of(column, rows[:, d], cuts) for d, column in enumerate(fitted.schema.columns)),
    )


def _edges_of(column: Column, cells: Vector, cuts: Vector) -> tuple[float, ...]:
    match column:
        case CategoricalColumn(levels=levels):
            return tuple(level + 0.5 for level in range(len(levels) - 1))
        case BernoulliColumn():
            return (0.5,)
        case PoissonColumn():
            return tuple(count + 0.5 for count in _quantiles(np.floor(cells), cuts, "inverted_cdf"))
        case _:
            return _quantiles(cells, cuts)


def _quantiles(values: Vector, cuts: Vector, method: str = "linear") -> tuple[float, ...]:
    return tuple(np.unique(np.quantile(values, cuts, method=method)).tolist())  # type: ignore[call-overload]


def broadcast_of(fitted: Sequence[FittedModel], edges: ReferenceEdges) -> Broadcast:
    """What a measurement of one or two fitted models asks for.

    Raises:
        CallerError: they cannot be measured, or not together.
    """
    if len({each.columns for each in fitted}) > 1:
        raise CallerError("the models that are compared are over columns of different names")
    measured = MeasuredModels(tuple(each.model for each in fitted), edges)  # type: ignore[misc]
    points = measured.joined([(each.coordinates, each.parameters) for each in fitted])
    return Broadcast(measured, Coordinates.identity(measured.n_columns), points)


def model_digest(fitted: FittedModel) -> str:
    """SHA-256 (hex) of a model's tensors: those of `model.safetensors`."""
    data = Broadcast(fitted.model, fitted.coordinates, fitted.parameters).to_bytes()
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Reference:
    """What later measurements of a model are held against.

    Attributes:
        model: SHA-256 (hex) of the model's tensors.
        edges: Of all its measurements.
        measurement: The first one, of this model alone.
    """

    model: str
    edges: ReferenceEdges
    measurement: Measurement

    def require_of(self, fitted: FittedModel) -> None:
        """Raise `CallerError` unless it is of this model."""
        if self.model != model_digest(fitted):
            raise CallerError(
                "the reference is of another model", remedy="measure this model once, and keep that as its reference"
            )

    def to_bytes(self) -> bytes:
        """JSON text; equal references give equal bytes, whose SHA-256 a lineage names."""
        document = {
            "format": NOISED_FORMAT if self.measurement.noise else FORMAT,
            "model": self.model,
            "edges": self.edges.describe(),
            "measurement": self.measurement.describe(),
        }
        return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> Reference:
        """What `to_bytes` wrote. Raises `CallerError` if it is something else, or of a newer format."""
        document = parse_json(data, what)
        number = document.get("format") if isinstance(document, dict) else None
        if type(number) is not int or number not in (FORMAT, NOISED_FORMAT):
            raise CallerError(
                f"{what} has format {number!r}, this version reads formats {FORMAT} and {NOISED_FORMAT}",
                remedy="update fed-em",
            )
        fields = read_mapping(what, document, ("format", "model", "edges", "measurement"))
        return cls(
            str(fields["model"]),
            ReferenceEdges.from_description(fields["edges"]),
            Measurement.from_description(fields["measurement"]),
        )


def save_reference(folder: str | os.PathLike[str], reference: Reference) -> None:
    """Write the file into a model's folder, whole or not at all. Raises `EnvironmentFault` if it cannot be written."""
    path = Path(folder) / REFERENCE_FILE
    try:
        write_whole(path, reference.to_bytes())
    except OSError as error:
        raise EnvironmentFault(f"cannot write '{path}': {error.strerror}", remedy="check its rights") from error


def load_reference(folder: str | os.PathLike[str]) -> Reference | None:
    """The reference in a model's folder; None if there is none.

    Raises:
        CallerError: it is none, or of a newer format.
        EnvironmentFault: it cannot be read.
    """
    path = Path(folder) / REFERENCE_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFault(f"cannot read '{path}': {error.strerror}", remedy="check its rights") from error
    return Reference.from_bytes(data, f"'{path}'")
