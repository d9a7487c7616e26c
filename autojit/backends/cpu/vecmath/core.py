"""Building blocks of the vectorisable math: selects, bit casts, fused multiply-adds, polynomials.

In: Numba scalars (float32, float64, int32, int64).  Out: LLVM instructions without branches, so
that a loop around them vectorises.  Nothing here carries fast-math flags: what is fused is fused
by name, so results do not depend on what LLVM makes of the loop.  Never calls libm (except for
`fma` on processors that have no such instruction).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

inline = njit(forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorator of branch-free functions: kernels inline them, and loops around them vectorise."""

scalar = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorator of functions with branches or loops: kernels may call them, one element at a time."""

_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_BITS = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {integer: floating for floating, integer in _BITS.items()}


# ------------------------------------------------------------------------------ choice and bits
@intrinsic
def select(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes if condition else no` with both sides evaluated: never a branch."""
    if condition != types.boolean or yes != no:
        return None
    return yes(condition, yes, no), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def bits(typingctx: Any, x: Any) -> Any:
    """The bit pattern of a float, as a signed integer of its width."""
    integer = ir.IntType(_BITS[x].bitwidth)
    return _BITS[x](x), lambda context, builder, sig, args: builder.bitcast(args[0], integer)


@intrinsic
def from_bits(typingctx: Any, i: Any) -> Any:
    """The float that has this bit pattern."""
    floating = _LLVM[_FLOAT[i]]
    return _FLOAT[i](i), lambda context, builder, sig, args: builder.bitcast(args[0], floating)


@intrinsic
def shift_right(typingctx: Any, i: Any, count: Any) -> Any:
    """Shift an int64 right and fill with zeros (`>>` fills with the sign)."""
    if i != types.int64 or types.unliteral(count) != types.int64:
        return None
    return i(i, types.int64), lambda context, builder, sig, args: builder.lshr(*args)


# ---------------------------------------------------------------------- instructions LLVM names
def _call(builder: ir.IRBuilder, name: str, args: list[Any]) -> Any:
    """``llvm.<name>.<type>`` on arguments of one float type."""
    ty = args[0].type
    fnty = ir.FunctionType(ty, [ty] * len(args))
    full = f"llvm.{name}.{ty.intrinsic_name}"
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, full), args)


def _unary(name: str) -> Any:
    @intrinsic
    def word(typingctx: Any, x: Any) -> Any:
        if x not in _LLVM:
            return None
        return x(x), lambda context, builder, sig, args: _call(builder, name, args)

    return word


fabs = _unary("fabs")
sqrt = _unary("sqrt")
floor = _unary("floor")
trunc = _unary("trunc")
rint = _unary("rint")


@intrinsic
def copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """`magnitude` with the sign bit of `sign`."""
    if magnitude not in _LLVM or magnitude != sign:
        return None
    result = magnitude(magnitude, sign)
    return result, lambda context, builder, sig, args: _call(builder, "copysign", args)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a*b + c, rounded once.  Argument reductions rely on it."""
    if a not in _LLVM or not a == b == c:
        return None
    return a(a, a, a), lambda context, builder, sig, args: _call(builder, "fma", args)


@intrinsic
def horner(typingctx: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial with these coefficients, highest power first, a constant tuple of x's type."""
    if x not in _LLVM or not isinstance(coefficients, types.UniTuple) or coefficients.dtype != x:
        return None

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        point, values = args
        result, *rest = cgutils.unpack_tuple(builder, values)
        for coefficient in rest:
            result = _call(builder, "fmuladd", [result, point, coefficient])
        return result

    return x(x, coefficients), emit
