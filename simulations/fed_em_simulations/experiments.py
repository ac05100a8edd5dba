"""All kinds of experiment, told apart by the field `experiment`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from fed_em_simulations.methods_experiment import MethodsExperiment
from fed_em_simulations.sensitivity_experiment import SensitivityExperiment
from fed_em_simulations.sessions_experiment import SessionsExperiment

AnyExperiment: TypeAlias = Annotated[
    MethodsExperiment | SensitivityExperiment | SessionsExperiment, Field(discriminator="experiment")
]
