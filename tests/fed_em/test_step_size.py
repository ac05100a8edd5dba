"""Step sizes: their formulas, and what they refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em.step_size import ConstantStep, DecayingStep, step_size_of


def test_the_formulas() -> None:
    assert [DecayingStep(1.0).at(t) for t in (1, 2, 4)] == [1.0, 0.5, 0.25]
    assert DecayingStep(0.75, 15.0).at(1) == 16**-0.75
    assert [ConstantStep(0.3).at(t) for t in (1, 1000)] == [0.3, 0.3]


@given(st.floats(0.5, 1.0, exclude_min=True), st.floats(0, 100), st.integers(1, 10**6))
def test_decaying_steps_are_shares_that_shrink(exponent: float, offset: float, step: int) -> None:
    steps = DecayingStep(exponent, offset)
    assert 0 < steps.at(step + 1) < steps.at(step) <= 1


@pytest.mark.parametrize("exponent", [0.5, 0.0, 1.01, -1.0, math.nan, math.inf, "0.7", True])
def test_exponents_that_do_not_converge_are_refused(exponent: float) -> None:
    with pytest.raises(CallerError, match="exponent"):
        DecayingStep(exponent)


@pytest.mark.parametrize("offset", [-0.1, math.nan])
def test_offsets_are_not_negative(offset: float) -> None:
    with pytest.raises(CallerError, match="offset"):
        DecayingStep(0.7, offset)


@pytest.mark.parametrize("size", [0.0, -0.1, 1.1, math.nan, "1"])
def test_constant_steps_are_shares(size: float) -> None:
    with pytest.raises(CallerError, match="step size"):
        ConstantStep(size)


def test_users_may_give_a_number_or_nothing() -> None:
    assert step_size_of(None) == DecayingStep()
    assert step_size_of(0.25) == ConstantStep(0.25)
    assert step_size_of(1) == ConstantStep(1)
    assert step_size_of(DecayingStep(0.9)) == DecayingStep(0.9)
    for wrong in ("0.7", 0, 2, True, [0.5]):
        with pytest.raises(CallerError, match="step size"):
            step_size_of(wrong)
