"""Eight float64 numbers side by side, as a value of numba's: for loops whose running sums have to stay in registers.

A compiler that vectorises a loop over rows keeps sums over *another* index in memory, and loads and stores cost as much as the
arithmetic. Lanes are the vectors of LLVM's language, which it maps to whatever registers the processor has: one of 512 bits, two of
256, four of 128.

These functions exist inside of compiled code only, where they are given contiguous arrays. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

LANES = 8

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_ALIGNMENT = 8  # of the numbers, in bytes: arrays begin anywhere


class _Lanes(types.Type):
    """The type of eight numbers."""

    def __init__(self) -> None:
        super().__init__(name=f"float64 x {LANES}")


class _LanesModel(PrimitiveModel):
    """How such a value is held: as LLVM's vector."""

    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _VECTOR)  # type: ignore[no-untyped-call]


_lanes = _Lanes()
register_model(_Lanes)(_LanesModel)

Generated = tuple[Any, Callable[..., Any]]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _load(_: Any, array: Any, index: Any) -> Generated:
    """The entries from `index` on of an array, flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=_ALIGNMENT)

    return _lanes(array, types.intp), generate


def _store(_: Any, array: Any, index: Any, value: Any) -> Generated:
    """Write eight numbers from `index` on of an array, flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature.args[0], *arguments[:2]), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


def _spread(_: Any, number: Any) -> Generated:
    """One number, eight times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined, index = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(index, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))

    return _lanes(types.float64), generate


def _add_product(_: Any, total: Any, left: Any, right: Any) -> Generated:
    """`total + left * right`, fused where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        summed, one, other = arguments
        product = builder.fmul(one, other, flags=("contract",))
        return builder.fadd(summed, product, flags=("contract",))

    return _lanes(_lanes, _lanes, _lanes), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
spread: Any = intrinsic(_spread)
add_product: Any = intrinsic(_add_product)
