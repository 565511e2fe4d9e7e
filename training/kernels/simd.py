"""Vectors of eight float32 as values inside numba functions, so that a kernel can keep a tile of accumulators in registers.

LLVM maps `Lanes` onto what the CPU has (one AVX register, two NEON or SSE ones). Nothing here knows what is computed.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 8

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_CONTRACT = ("contract",)  # a product and a sum may become one fused instruction


class Lanes(types.Type):  # type: ignore[misc]  # numba is untyped
    """Eight float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _VECTOR)


lanes = Lanes()


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def _splat(builder: Any, scalar: Any) -> Any:
    index = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, index)
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """The eight elements of a flat float32 array from `offset` on."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load(pointer, align=4)

    return lanes(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx, array, offset, vector):  # type: ignore[no-untyped-def]
    """Write eight elements of a flat float32 array from `offset` on."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def element(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """array[offset] without the test for a negative offset, which in an inner loop costs more than the arithmetic."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]))

    return types.float32(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(typingctx, total, scale, vector):  # type: ignore[no-untyped-def]
    """total + scale · vector."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        total, scale, vector = arguments
        product = builder.fmul(_splat(builder, scale), vector, flags=_CONTRACT)
        return builder.fadd(total, product, flags=_CONTRACT)

    return lanes(lanes, types.float32, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def zero(typingctx):  # type: ignore[no-untyped-def]
    """Eight zeros."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return lanes(), generate
