"""Parameters of a model: named arrays, frozen, and nothing about where they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError


@dataclass(frozen=True, eq=False)
class Parameters(Mapping[str, NDArray[np.float64]]):
    """Named float64 arrays, C-contiguous and read-only, in the shapes that their model documents."""

    arrays: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        frozen: dict[str, NDArray[np.float64]] = {}
        for name, array in self.arrays.items():
            copy = np.array(array, dtype=np.float64, order="C")
            copy.flags.writeable = False
            frozen[name] = copy
        object.__setattr__(self, "arrays", MappingProxyType(frozen))

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        try:
            return self.arrays[name]
        except KeyError:
            raise CallerError(f"no parameter '{name}' (there are {', '.join(self.arrays)})") from None

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __reduce__(self) -> tuple[type[Parameters], tuple[dict[str, NDArray[np.float64]]]]:
        # A mapping proxy can be neither copied nor sent to a worker process.
        return Parameters, (dict(self.arrays),)

    def distance(self, other: Parameters) -> float:
        """Largest normwise relative difference over the arrays: max over arrays of ‖a − b‖∞ / ‖b‖∞.

        An array that is zero in `other` counts with its absolute difference.
        """
        if set(self) != set(other):
            raise CallerError("parameters of two different models cannot be compared")
        worst = 0.0
        for name, array in self.items():
            difference = float(np.max(np.abs(array - other[name]), initial=0.0))
            scale = float(np.max(np.abs(other[name]), initial=0.0))
            worst = max(worst, difference / scale if scale > 0 else difference)
        return worst
