"""A fitted model and its files: `model.safetensors` and `manifest.json`, and `standard_errors.safetensors` if it has any.

The tensors are those of `fed_em.broadcast.Broadcast.to_bytes`, so they stand by themselves; the manifest says
what they are, in text, with their SHA-256. Each file is replaced atomically, the manifest last: whoever reads
after a crash between the two sees hashes that disagree, and an error, never a mixture of two models.

A manifest of format 1 is of a model without standard errors, one of format 2 of a model with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.broadcast import Broadcast
from fed_em.columns import ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.description import check_whole_number, read_mapping
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.imputation import Imputation, impute_in
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import ComponentModel, Model, Rows
from fed_em.parameters import Parameters
from fed_em.standard_errors import StandardErrors
from fed_em.strict_json import canonical_json, parse_json
from fed_em.whole_files import write_whole

FORMAT, FORMAT_WITH_ERRORS = 1, 2
TENSORS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
ERRORS_FILE = "standard_errors.safetensors"

_SOFTWARE = ("fed-em", "numpy", "scipy", "safetensors")
_RESTORE = "save the model again, or restore the folder from a backup"


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model with its parameters, for use on rows in original units.

    Attributes:
        model: The model.
        coordinates: The coordinates its parameters are in.
        columns: D distinct, non-empty names, in the order of a row's values.
        parameters: Admissible parameters, in `coordinates`.
        provenance: Where the model comes from, as JSON-able values; nothing here reads it.
        errors: Standard errors of the parameters; None if there are none.

    Raises:
        CallerError: the parts do not fit each other.
    """

    model: Model
    coordinates: Coordinates
    columns: tuple[str, ...]
    parameters: Parameters
    provenance: Mapping[str, Any]
    errors: StandardErrors | None = None

    def __post_init__(self) -> None:
        Broadcast(self.model, self.coordinates, self.parameters)
        object.__setattr__(self, "columns", tuple(self.columns))
        for column in self.columns:
            if not isinstance(column, str) or not column:
                raise CallerError(f"a column's name must be a non-empty string, not {column!r}")
        if len(set(self.columns)) != len(self.columns):
            raise CallerError("two columns have the same name")
        if len(self.columns) != self.model.n_columns:
            raise CallerError(f"{len(self.columns)} column names for a model of {self.model.n_columns} columns")
        if not isinstance(self.provenance, Mapping):
            raise CallerError("the provenance must be a mapping of JSON-able values")
        canonical_json(dict(self.provenance))
        if self.errors is not None:
            self.errors.check_fits(self.parameters)

    @property
    def schema(self) -> ColumnSchema:
        """The columns: those that the model is over, all Gaussian where it does not say."""
        if isinstance(self.model, MixedMixtureModel | MixedMomentsModel):
            return self.model.schema
        return ColumnSchema(tuple(map(GaussianColumn, self.columns)))

    def score_samples(self, rows: Rows) -> NDArray[np.float64]:
        """Log density of each row `(n, D)`, of its observed cells if it holds NaN, per original units, `(n,)`, in nats."""
        rows = np.asarray(rows, dtype=np.float64)
        inner = self.model.log_prob(self.parameters, self.coordinates.apply(rows))
        return inner + self.coordinates.log_jacobians(rows)

    def predict_proba(self, rows: Rows) -> NDArray[np.float64]:
        """Posterior probability of each component for each row `(n, D)`, `(n, K)`.

        Raises:
            CallerError: the family has no components, or the rows do not fit.
        """
        if not isinstance(self.model, ComponentModel):
            raise CallerError(f"a model of the family '{self.model.family}' has no components to assign rows to")
        return self.model.responsibilities(self.parameters, self.coordinates.apply(np.asarray(rows, dtype=np.float64)))

    def predict(self, rows: Rows) -> NDArray[np.int64]:
        """The most probable component of each row `(n, D)`, `(n,)`; raises as `predict_proba`."""
        return np.asarray(self.predict_proba(rows).argmax(axis=1), dtype=np.int64)

    def impute(self, rows: Rows, n_draws: int, generator: np.random.Generator) -> Imputation:
        """Rows `(n, D)` with their missing cells filled, and drawn `n_draws` times besides.

        Raises:
            CallerError: the family is none of mixtures, or the rows do not fit.
            FedEmError: no component can show a row.
        """
        rows = np.asarray(rows, dtype=np.float64)
        return impute_in(self.coordinates, self._filling_model, self.parameters, rows, n_draws, generator)

    @cached_property
    def _filling_model(self) -> MixedMixtureModel:
        """The model as a mixture of mixed columns, with the same parameters."""
        match self.model:
            case MixedMixtureModel():
                return self.model
            case GaussianMixtureModel(n_components=k, covariance=structure):
                return MixedMixtureModel(k, self.schema, structure)
        raise CallerError(f"a model of the family '{self.model.family}' fills no cells", remedy="fit a mixture")

    def sample(self, n: int, seed: int) -> tuple[Rows, NDArray[np.int64]]:
        """`n` rows `(n, D)` in original units and the component of each `(n,)`, by PCG64 from `seed`."""
        check_whole_number("n", n, 0)
        check_whole_number("seed", seed, 0)
        rows, labels = self.model.sample(self.parameters, n, np.random.Generator(np.random.PCG64(seed)))
        return self.coordinates.restore(rows), labels


def model_files(fitted: FittedModel) -> dict[str, bytes]:
    """The files of a model by name, the manifest last: what `save_model` writes."""
    tensors = Broadcast(fitted.model, fitted.coordinates, fitted.parameters).to_bytes()
    errors = None if fitted.errors is None else fitted.errors.to_bytes()
    manifest = {
        "format": FORMAT if errors is None else FORMAT_WITH_ERRORS,
        "model": fitted.model.describe(),
        "columns": list(fitted.columns),
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        **({} if errors is None else {"errors_sha256": hashlib.sha256(errors).hexdigest()}),
        "software": {"python": platform.python_version(), **{name: _version(name) for name in _SOFTWARE}},
        "provenance": dict(fitted.provenance),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    of_errors = {} if errors is None else {ERRORS_FILE: errors}
    return {TENSORS_FILE: tensors, **of_errors, MANIFEST_FILE: text.encode("utf-8")}


def save_model(folder: str | os.PathLike[str], fitted: FittedModel) -> None:
    """Write the files into `folder`, which is made if need be; a model already there is replaced.

    Raises:
        EnvironmentFault: the files cannot be written.
    """
    folder = Path(folder)
    files = model_files(fitted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data)
        if ERRORS_FILE not in files:
            (folder / ERRORS_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write a model into '{folder}': {error.strerror}",
            remedy="check the folder's rights and free space",
        ) from error


def load_model(folder: str | os.PathLike[str]) -> FittedModel:
    """Read what `save_model` wrote, trusting nothing.

    Raises:
        CallerError: a file is missing, not what it should be, of a newer format, or does not match the other.
        EnvironmentFault: a file is there but cannot be read.
    """
    folder = Path(folder)
    manifest_path, tensors_path = folder / MANIFEST_FILE, folder / TENSORS_FILE
    manifest = _checked_manifest(manifest_path)
    data = _described(tensors_path, manifest["tensors_sha256"], manifest_path)
    broadcast = Broadcast.from_bytes(data, f"'{tensors_path}'")
    if canonical_json(manifest["model"]) != canonical_json(broadcast.model.describe()):
        raise CallerError(f"'{manifest_path}' describes another model than '{tensors_path}' holds", remedy=_RESTORE)
    columns, provenance = manifest["columns"], manifest["provenance"]
    if not isinstance(columns, Sequence) or isinstance(columns, str):
        raise CallerError(f"'columns' in '{manifest_path}' is not a list of names", remedy=_RESTORE)
    errors = None
    if "errors_sha256" in manifest:
        path = folder / ERRORS_FILE
        errors = StandardErrors.from_bytes(_described(path, manifest["errors_sha256"], manifest_path), f"'{path}'")
    return FittedModel(
        broadcast.one_model, broadcast.coordinates, tuple(columns), broadcast.parameters, provenance, errors
    )


def _described(path: Path, sha256: object, manifest: Path) -> bytes:
    """The bytes of a file that a manifest describes."""
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CallerError(f"'{path}' is not the file that '{manifest}' describes", remedy=_RESTORE)
    return data


def _checked_manifest(path: Path) -> Mapping[str, Any]:
    document = parse_json(_read(path), f"'{path}'")
    what = f"the manifest '{path}'"
    # The format first: the keys of a newer one are not ours to judge.
    number = document["format"] if isinstance(document, dict) and "format" in document else FORMAT
    if type(number) is not int or number not in (FORMAT, FORMAT_WITH_ERRORS):
        raise CallerError(
            f"{what} has format {number!r}, this version reads formats {FORMAT} and {FORMAT_WITH_ERRORS}",
            remedy="update fed-em, or save the model with this version",
        )
    keys = ("format", "model", "columns", "tensors_sha256", "software", "provenance")
    return read_mapping(what, document, (*keys, "errors_sha256") if number == FORMAT_WITH_ERRORS else keys)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise CallerError(f"there is no file '{path}'", remedy="name the folder that a model was saved to") from error
    except OSError as error:
        raise EnvironmentFault(f"cannot read '{path}': {error.strerror}", remedy="check its rights") from error
