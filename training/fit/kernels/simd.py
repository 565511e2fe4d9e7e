"""Vectors of eight float32 as values inside numba functions: a kernel can keep a tile of sums in registers.

LLVM maps `Lanes` onto what the CPU has (one AVX register, two of NEON or SSE). Nothing here knows what is computed.
Arrays are flat float32; offsets are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 8

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_CONTRACT = ("contract",)  # a product and a sum may become one fused instruction


class Lanes(types.Type):
    """Eight float32."""

    def __init__(self) -> None:
        super().__init__("Lanes")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _VECTOR)  # type: ignore[no-untyped-call]


lanes = Lanes()
_instruction: Callable[[Callable[..., Any]], Any] = intrinsic  # makes it a function that kernels may call


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


def _vector_address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.bitcast(_address(context, builder, signature, arguments), _VECTOR.as_pointer())


@_instruction
def element(_typing: Any, array: Any, _offset: Any) -> Any:
    """array[offset], without the test for a negative offset, which in an inner loop costs more than the arithmetic."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments))

    return types.float32(array, types.intp), generate


@_instruction
def load(_typing: Any, array: Any, _offset: Any) -> Any:
    """The eight elements from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_vector_address(context, builder, signature, arguments), align=4)

    return lanes(array, types.intp), generate


@_instruction
def store(_typing: Any, array: Any, _offset: Any, _vector: Any) -> Any:
    """Write eight elements from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _vector_address(context, builder, signature, arguments), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_instruction
def add_scaled(_typing: Any, _total: Any, _scale: Any, _vector: Any) -> Any:
    """total + scale · vector."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, scale, vector = arguments
        product = builder.fmul(_splat(builder, scale), vector, flags=_CONTRACT)
        return builder.fadd(total, product, flags=_CONTRACT)

    return lanes(lanes, types.float32, lanes), generate


@_instruction
def zero(_typing: Any) -> Any:
    """Eight zeros."""

    def generate(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return lanes(), generate


def _splat(builder: Any, scalar: Any) -> Any:
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, first)
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
