"""One row filled by a fitted mixture, in a function of a serverless platform: NumPy and the standard library, and nothing else.

    from fed_em.impute_one import impute_one, read_model

    model = read_model("model/")                     # once, when the function starts; or from any key-value store:
    model = read_model(store, prefix="clinics/")     # a mapping of keys to bytes
    filled = impute_one(model, {"age": 61, "ward": None, "systolic": 142})
    filled.cells["ward"], filled.probabilities["ward"]

A request is one posterior of the component given the observed cells, and the moments of the missing cells given both: exact, no
iteration, and equal to `fed_em.imputation` (`fed_em.row_mixture`).

**Mixing weights of one's own.** A model whose weights are each tenant's own (`fed_em.tenant_mixing`) has shared ones for rows of nobody
in particular, and these are used. Whoever asks row after row of one tenant (a ward, a person) hands in how many of its earlier
rows each component holds, and gets the counts with this row back, to be kept. Then a few steps of EM find the weights π and the row's
responsibilities r together, from N counts of earlier rows and the model's a pseudo-records,

    r_k ∝ π_k p_k(x),     π_k = (N_k + r_k + a/K) / (Σ N + 1 + a),

which is incremental EM with the terms of all other rows as they were (Neal and Hinton 1998): no step lowers the free energy.
The number of steps is bounded, so that the time of a request is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.description import check_real, check_whole_number, nearest
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.named_cells import NamedCells
from fed_em.parameters import Parameters
from fed_em.row_mixture import RowMixture, RowPosterior
from fed_em.strict_json import parse_json
from fed_em.tensor_reader import read_tensors

Vector = NDArray[np.float64]

MANIFEST_KEY, TENSORS_KEY = "manifest.json", "model.safetensors"

# Formats of manifests: without and with standard errors, which are not read here.
_FORMATS = (1, 2)
_STEPS, _MOST_STEPS = 3, 100
_SUM_TOLERANCE = 1e-6
_RESTORE = "save the model again, or restore it from a backup"


class KeyValueStore(Protocol):
    """What holds a model's files as values: a dict, a client of object storage, anything with `get`."""

    def get(self, key: str, /) -> bytes | None:
        """The value of a key; None if there is none."""
        ...


@dataclass(frozen=True, eq=False)
class SmallModel:
    """A fitted mixture, read and checked.

    Attributes:
        version: SHA-256 of its manifest, in hexadecimal.
        family: "gaussian-mixture" or "mixed-mixture".
        columns: Reads and writes cells by name.
        mixture: Its posterior and its moments.
        own_records: Pseudo-records of a tenant's own mixing weights; None if weights are shared.
    """

    version: str
    family: str
    columns: NamedCells
    mixture: RowMixture
    own_records: float | None


@dataclass(frozen=True, eq=False)
class Filled:
    """What a model says of one row.

    Attributes:
        cells: All cells by name, the observed as they are read, the missing as in `fed_em.imputation.Imputation`.
        means, deviations: Mean, not rounded, and standard deviation of each filled Gaussian and Poisson cell, by name.
        probabilities: Of all levels of each filled categorical cell, by name and level, and of "0" and "1" of Bernoulli ones.
        responsibilities: Posterior probability of each component, K.
        log_density: Of the observed cells, in nats, at the mixing weights that were used.
        version: Of the model.
        own_counts: The counts that were handed in with this row added, K; None if none were.
    """

    cells: Mapping[str, float | int | str | None]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    probabilities: Mapping[str, Mapping[str, float]]
    responsibilities: tuple[float, ...]
    log_density: float
    version: str
    own_counts: tuple[float, ...] | None = None


def impute_one(
    model: SmallModel, cells: Mapping[str, Any], own_counts: tuple[float, ...] | None = None, steps: int = _STEPS
) -> Filled:
    """Fill the missing cells of one row.

    Args:
        model: As read.
        cells: By column's name, in natural units (`fed_em.named_cells`); None, NaN or absent where missing.
        own_counts: How many earlier rows of one tenant each component holds, K numbers of at least 0; zeros for its first row.
        steps: Of EM with own counts, from 1 to 100.

    Raises:
        CallerError: a cell does not fit, naming its column and no value; or own counts do not fit.
        NotEvaluated: no component can show the row.
    """
    row, mixture = model.columns.row(cells), model.mixture
    if own_counts is None:
        posterior, counts = mixture.posterior(row), None
    else:
        posterior, counts = _at_own_weights(model, row, own_counts, steps)
    done, names = mixture.impute(row, posterior.responsibilities), mixture.schema.names
    return Filled(
        model.columns.cells(done.row),
        {names[d]: mean for d, mean in done.means.items()},
        {names[d]: deviation for d, deviation in done.deviations.items()},
        {names[d]: mixture.schema.levels_of(d, shares) for d, shares in done.probabilities.items()},
        tuple(posterior.responsibilities.tolist()),
        posterior.log_density,
        model.version,
        counts,
    )


def _at_own_weights(
    model: SmallModel, row: Vector, own_counts: tuple[float, ...], steps: int
) -> tuple[RowPosterior, tuple[float, ...]]:
    """The row's posterior at its tenant's weights, and the counts with it."""
    if model.own_records is None:
        raise CallerError("the model's mixing weights are shared", remedy="leave own_counts out")
    check_whole_number("steps", steps, 1)
    counts, k = np.asarray(own_counts, dtype=np.float64), model.mixture.n_components
    if steps > _MOST_STEPS or counts.shape != (k,) or not (np.isfinite(counts) & (counts >= 0)).all():
        raise CallerError(
            f"own_counts must be {k} numbers of at least 0, and steps at most {_MOST_STEPS}",
            remedy="hand in what the request before gave back, or zeros for a tenant's first row",
        )
    pseudo, log_densities = model.own_records, model.mixture.log_densities(row)
    total = counts.sum() + pseudo
    weights = (counts + pseudo / k) / total if total > 0 else np.full(k, 1.0 / k)
    for _ in range(steps):
        with np.errstate(divide="ignore"):
            posterior = model.mixture.posterior_of(log_densities, np.log(weights))
        weights = (counts + posterior.responsibilities + pseudo / k) / (total + 1.0)
    return posterior, tuple((counts + posterior.responsibilities).tolist())


def read_model(place: str | os.PathLike[str] | KeyValueStore, prefix: str = "") -> SmallModel:
    """Read a model that `fed_em.save_model` or a session wrote, trusting nothing.

    Args:
        place: Its folder, or a store with the folder's files as values.
        prefix: Of the keys in a store, before "manifest.json" and "model.safetensors".

    Raises:
        CallerError: a file is missing, damaged, of a newer format, or of another model; or the family is none of mixtures.
        EnvironmentFault: a file cannot be read.
    """
    manifest_bytes = _value(place, prefix, MANIFEST_KEY)
    manifest = parse_json(manifest_bytes, f"'{MANIFEST_KEY}'")
    if not isinstance(manifest, dict) or manifest.get("format") not in _FORMATS:
        raise CallerError(f"'{MANIFEST_KEY}' is of no format that this version reads", remedy="update fed-em")
    data = _value(place, prefix, TENSORS_KEY)
    if hashlib.sha256(data).hexdigest() != manifest.get("tensors_sha256"):
        raise CallerError(f"'{TENSORS_KEY}' is not the file that '{MANIFEST_KEY}' describes", remedy=_RESTORE)
    arrays, metadata = read_tensors(data, f"'{TENSORS_KEY}'")
    document = parse_json(metadata.get("fed_em", ""), f"the metadata of '{TENSORS_KEY}'")
    if not isinstance(document, dict) or document.get("model") != manifest.get("model"):
        raise CallerError(f"'{MANIFEST_KEY}' describes another model than '{TENSORS_KEY}' holds", remedy=_RESTORE)
    parameters = {name.removeprefix("parameters."): array for name, array in arrays.items()}
    if "coordinates.location" not in parameters or "coordinates.scale" not in parameters:
        raise CallerError(f"'{TENSORS_KEY}' holds no coordinates", remedy=_RESTORE)
    coordinates = Coordinates(parameters.pop("coordinates.location"), parameters.pop("coordinates.scale"))
    return _built(hashlib.sha256(manifest_bytes).hexdigest(), manifest, coordinates, Parameters(parameters))


def _built(version: str, manifest: Mapping[str, Any], coordinates: Coordinates, parameters: Parameters) -> SmallModel:
    description: Any = manifest.get("model")
    schema = _schema_of(description, manifest.get("columns"))
    structure = description.get("covariance", "full")
    _check_shapes(schema, structure, coordinates, parameters)
    _check_ranges(schema, structure, parameters)
    mixture = RowMixture(schema, structure, coordinates, parameters)
    own = None
    if description.get("mixing") == "tenant":
        own = description.get("mixing_records", 1.0)
        check_real("mixing_records", own, 0.0)
    model = SmallModel(version, description["family"], NamedCells(schema), mixture, own)
    mixture.log_densities(np.zeros(len(schema.columns)))  # a covariance that is not positive definite is found now
    return model


def _check_ranges(schema: ColumnSchema, structure: str, parameters: Parameters) -> None:
    """What `fed_em.mixed_mixture.MixedMixtureModel.validate` demands; of covariances the rest shows when they are factorised."""
    shares = [("weights", parameters["weights"][np.newaxis])]
    shares += [("level_probabilities", parameters["level_probabilities"][:, each]) for each in schema.level_slices]
    wrong = [name for name, each in shares if (each < 0).any() or np.abs(each.sum(axis=1) - 1).max() > _SUM_TOLERANCE]
    if len(schema.bernoulli) and ((yes := parameters["success_probabilities"]) * (1 - yes) < 0).any():
        wrong.append("success_probabilities")
    if len(schema.poisson) and (parameters["rates"] < 0).any():
        wrong.append("rates")
    if len(schema.gaussian) and structure in ("diag", "spherical") and (parameters["covariances"] <= 0).any():
        wrong.append("covariances")
    for name in wrong:
        raise CallerError(f"parameter '{name}' is out of its range", remedy=_RESTORE)


def _schema_of(description: object, columns: object) -> ColumnSchema:
    """The columns of a mixture from its description and, where that has no kinds, their names.

    Raises:
        CallerError: it is no mixture.
    """
    if not isinstance(description, Mapping):
        raise CallerError(f"'{MANIFEST_KEY}' describes no model", remedy=_RESTORE)
    family = description.get("family")
    if family == "mixed-mixture":
        return ColumnSchema.from_description(description.get("columns"))
    if family != "gaussian-mixture":
        known = ("gaussian-mixture", "mixed-mixture")
        raise CallerError(f"a model of the family '{family}' fills no cells", remedy=nearest(str(family), known))
    if not isinstance(columns, list):
        raise CallerError(f"'columns' in '{MANIFEST_KEY}' is not a list of names", remedy=_RESTORE)
    return ColumnSchema(tuple(map(GaussianColumn, columns)))


def _check_shapes(schema: ColumnSchema, structure: object, coordinates: Coordinates, parameters: Parameters) -> None:
    k, g = len(parameters["weights"]), len(schema.gaussian)
    covariances = {"full": (k, g, g), "tied": (g, g), "diag": (k, g), "spherical": (k,)}
    if not isinstance(structure, str) or structure not in covariances:
        raise CallerError(f"no covariance structure {structure!r}", remedy=nearest(str(structure), covariances))
    shapes: dict[str, tuple[int, ...]] = {"weights": (k,)}
    if g:
        shapes |= {"means": (k, g), "covariances": covariances[structure]}
    sizes = (schema.n_levels, len(schema.bernoulli), len(schema.poisson))
    for name, size in zip(("level_probabilities", "success_probabilities", "rates"), sizes, strict=True):
        shapes |= {name: (k, size)} if size else {}
    schema.check_coordinates(coordinates)
    for name, shape in shapes.items():
        if parameters[name].shape != shape or not np.isfinite(parameters[name]).all():
            raise CallerError(f"parameter '{name}' is not {shape} finite numbers", remedy=_RESTORE)


def _value(place: str | os.PathLike[str] | KeyValueStore, prefix: str, key: str) -> bytes:
    if not isinstance(place, str | os.PathLike):
        value = place.get(prefix + key)
        if value is None:
            raise CallerError(
                f"the store has no '{prefix}{key}'", remedy="store the files of a model's folder under it"
            )
        return bytes(value)
    path = Path(place) / key
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CallerError(f"there is no file '{path}'", remedy="name the folder that a model was saved to") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read '{path}': {error.strerror}", remedy="check its rights") from None
