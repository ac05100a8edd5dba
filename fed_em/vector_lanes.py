"""Eight float64 numbers side by side, as a value of numba's: for loops whose running values have to stay in registers.

A compiler that vectorises a loop over rows keeps sums over *another* index in memory, and loads and stores cost as much as the
arithmetic. Lanes are the vectors of LLVM's language, which it maps to whatever registers the processor has: one of 512 bits, two of
256, four of 128.

These functions and the operators +, − and * exist inside of compiled code only; where one operand is a number, it stands for eight of
it. A product and a sum may be fused, nothing else is assumed: what is infinite or not a number stays so. `bits` of lanes are eight
int64 with the operators +, −, << and >>, the last of which fills with zeros.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model
from numpy.typing import NDArray

LANES = 8

_ALIGNMENT = 8  # of the numbers, in bytes: arrays begin anywhere
_FUSED = ("contract",)


def filled_up(arrays: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """A copy of a few arrays `(m, at most n)` with zeros behind, `(m, n)`. Outside of compiled code, of what fills no lanes."""
    out = np.zeros((len(arrays), n))
    out[:, : arrays.shape[1]] = arrays
    return out


class _Lanes(types.Type):
    """The type of eight numbers."""

    def __init__(self, of: types.Number, vector: ir.VectorType) -> None:
        self.of, self.vector = of, vector
        super().__init__(name=f"{of} x {LANES}")


class _LanesModel(PrimitiveModel):
    """How such a value is held: as LLVM's vector."""

    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, of.vector)  # type: ignore[no-untyped-call]


register_model(_Lanes)(_LanesModel)
_numbers = _Lanes(types.float64, ir.VectorType(ir.DoubleType(), LANES))
_integers = _Lanes(types.int64, ir.VectorType(ir.IntType(64), LANES))

Generated = tuple[Any, Callable[..., Any]]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _numbers.vector.as_pointer())


def _load(_: Any, array: Any, index: Any) -> Generated:
    """The entries from `index` on of a contiguous array, flat. Indices are not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=_ALIGNMENT)

    return _numbers(array, types.intp), generate


def _store(_: Any, array: Any, index: Any, value: Any) -> Generated:
    """Write eight numbers from `index` on of a contiguous array, flat. Indices are not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature.args[0], *arguments[:2]), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, _numbers), generate


def _eight_times(builder: Any, number: Any, vector: Any) -> Any:
    undefined, index = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, number, ir.Constant(index, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))


def _spread(_: Any, number: Any) -> Generated:
    """One number, eight times; of integers as `bits`."""
    lanes = _integers if isinstance(number, types.Integer) else _numbers

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _eight_times(builder, arguments[0], lanes.vector)

    return lanes(lanes.of), generate


def _larger(_: Any, left: Any, right: Any) -> Generated:
    """Of each two numbers the larger; the right one where either is not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return _numbers(left, right), generate


def _bits(_: Any, numbers: Any) -> Generated:
    """The 64 bits of each number, as an integer."""
    return _integers(numbers), lambda context, builder, signature, arguments: builder.bitcast(
        *arguments, _integers.vector
    )


def _of_bits(_: Any, integers: Any) -> Generated:
    """The numbers that have these bits."""
    return _numbers(integers), lambda context, builder, signature, arguments: builder.bitcast(
        *arguments, _numbers.vector
    )


def _summed(_: Any, numbers: Any) -> Generated:
    """The sum of the eight numbers, of halves and their halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, n = arguments[0], LANES
        while n > 1:
            n //= 2
            left, right = (
                builder.shuffle_vector(
                    value, value, ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(start, start + n)))
                )
                for start in (0, n)
            )
            value = builder.fadd(left, right)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float64(numbers), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
spread: Any = intrinsic(_spread)
larger: Any = intrinsic(_larger)
summed: Any = intrinsic(_summed)
bits: Any = intrinsic(_bits)
of_bits: Any = intrinsic(_of_bits)


def _define(operation: Any, lanes: _Lanes, instruction: str, flags: tuple[str, ...] = ()) -> None:
    """Give an operator a meaning between such lanes, and between them and one number."""

    class Typed(AbstractTemplate):
        def generic(self, arguments: Any, _: Any) -> Any:
            given = tuple(types.unliteral(argument) for argument in arguments)  # type: ignore[no-untyped-call]
            return signature(lanes, *given) if given in admitted else None  # type: ignore[no-untyped-call]

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        both = (
            value if of == lanes else _eight_times(builder, value, lanes.vector)
            for of, value in zip(signature.args, arguments, strict=True)
        )
        return getattr(builder, instruction)(*both, flags=flags)

    admitted = ((lanes, lanes), (lanes, lanes.of), (lanes.of, lanes))
    infer_global(operation)(Typed)  # type: ignore[no-untyped-call]
    for operands in admitted:
        lower_builtin(operation, *operands)(generate)  # type: ignore[no-untyped-call]


_define(operator.add, _numbers, "fadd", _FUSED)
_define(operator.sub, _numbers, "fsub", _FUSED)
_define(operator.mul, _numbers, "fmul", _FUSED)
_define(operator.truediv, _numbers, "fdiv")
_define(operator.add, _integers, "add")
_define(operator.sub, _integers, "sub")
_define(operator.lshift, _integers, "shl")
_define(operator.rshift, _integers, "lshr")
