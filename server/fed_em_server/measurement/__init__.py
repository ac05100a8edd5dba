"""Measurements of fitted models over the fresh rows of a federation: `measure`, by one secure sum and nothing else."""

from fed_em.measurement import Histogram, Measurement, ModelMeasured, PairedDifference
from fed_em_server.measurement.measure import measure
from fed_em_server.measurement.measuring_session import measuring_plan, run_measuring

__all__ = [
    "Histogram",
    "Measurement",
    "ModelMeasured",
    "PairedDifference",
    "measure",
    "measuring_plan",
    "run_measuring",
]
