"""What a coordinator sends out to be evaluated: the model, its coordinates and the parameters."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em import tensors
from fed_em.candidates import Candidates
from fed_em.coordinates import Coordinates
from fed_em.description import read_mapping
from fed_em.errors import CallerError
from fed_em.families import build_summand
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import Model, Summand
from fed_em.parameters import Parameters

FORMAT = 1

_PARAMETERS, _COORDINATES = "parameters.", "coordinates."


@dataclass(frozen=True, eq=False)
class Broadcast:
    """A point of evaluation, complete in itself.

    Attributes:
        model: The model, or several candidates.
        coordinates: The coordinates of the E-step, of the model's D columns.
        parameters: Admissible parameters, in those coordinates.

    Raises:
        CallerError: the three do not fit each other.
    """

    model: Summand
    coordinates: Coordinates
    parameters: Parameters

    def __post_init__(self) -> None:
        if self.coordinates.n_columns != self.model.n_columns:
            raise CallerError(
                f"the model has {self.model.n_columns} columns, the coordinates {self.coordinates.n_columns}"
            )
        for model in self.model.models if isinstance(self.model, Candidates) else (self.model,):
            if isinstance(model, MixedMixtureModel | MixedMomentsModel):
                model.schema.check_coordinates(self.coordinates)
        self.model.validate(self.parameters)

    @property
    def one_model(self) -> Model:
        """The model. Raises `CallerError` if it is several candidates."""
        if not isinstance(self.model, Model):
            raise CallerError("several candidates are no one model", remedy="give the parameters of one of them")
        return self.model

    def to_bytes(self) -> bytes:
        """Safetensors bytes; equal contents give equal bytes.

        The arrays are float64 and named `parameters.*`, `coordinates.location` and `coordinates.scale`; the
        document holds `format` (1) and `model` (`Summand.describe()`).
        """
        arrays = {_PARAMETERS + name: array for name, array in self.parameters.items()}
        arrays[_COORDINATES + "location"] = self.coordinates.location
        arrays[_COORDINATES + "scale"] = self.coordinates.scale
        return tensors.encode(arrays, {"format": FORMAT, "model": self.model.describe()})

    @classmethod
    def from_bytes(cls, data: bytes, what: str = "a broadcast") -> Broadcast:
        """What `to_bytes` wrote, with the same parameters bit for bit.

        Args:
            data: The bytes; they may come from anyone.
            what: What they are, for messages.

        Raises:
            CallerError: garbage or truncated bytes, another format, an array unknown, missing, or of the
                wrong shape or dtype, a value that is not finite, parameters that are not admissible.
        """
        arrays, document = tensors.decode(data, what)
        fields = read_mapping(f"the metadata of {what}", document, ("format", "model"))
        if type(fields["format"]) is not int or fields["format"] != FORMAT:
            raise CallerError(
                f"{what} has format {fields['format']!r}, this version reads format {FORMAT}",
                remedy="use the same version of fed-em on both sides",
            )
        read_mapping(
            f"the arrays of {what}",
            arrays,
            (_COORDINATES + "location", _COORDINATES + "scale"),
            [name for name in arrays if name.startswith(_PARAMETERS)],
        )
        parameters = {
            name.removeprefix(_PARAMETERS): array for name, array in arrays.items() if name.startswith(_PARAMETERS)
        }
        coordinates = Coordinates(arrays[_COORDINATES + "location"], arrays[_COORDINATES + "scale"])
        return cls(build_summand(fields["model"]), coordinates, Parameters(parameters))
