"""Multiplication by a power of two, with overflow and denormals rounded as they should be.

In: a float and an exponent, a float too.  Out: one instruction for a vector where the processor has it (AVX-512),
integer work on exponent fields elsewhere.  Never branches.
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir

from autojit.backends.cpu.vecmath.core import TYPES, Value, bits, constant, declared, f4, from_bits, i4, select
from autojit.backends.cpu.vecmath.variants import announce, pure

_LANES = {"f32": (4, 8, 16), "f64": (2, 4, 8)}
# (bits of the mantissa, bias of the exponent, steps by which small results are lifted, exponent where they begin)
_FORMATS = {"f32": (23, 127, 64, -124), "f64": (52, 1023, 128, -1018)}
_ALL_LANES, _CURRENT_ROUNDING = -1, 4


@cache
def has_scalef() -> bool:
    """Does the processor scale vectors of every width in one instruction?"""
    from autojit.backends.cpu import target

    found = target.features().split(",")
    return "+avx512f" in found and "+avx512vl" in found


def scale(p: Value, t: Value, k: Value) -> Value:
    """p * 2**k for 1/2 < p < 2; t is k plus 1.5 times the power of two that leaves k in the low bits of t's pattern."""
    if not has_scalef():
        return _by_bits(p, bits(t), k)
    b = p.builder
    name = f"autojit_scale_{p.kind}"
    fn = b.module.globals.get(name) or _declare(b.module, name, p.kind)
    return Value(b, p.kind, b.call(fn, [p.llvm, k.llvm]))


def _by_bits(p: Value, pattern: Value, k: Value) -> Value:
    """In two factors where the result is small, so that denormals are rounded once; k may be one too large."""
    mantissa, bias, lift, small = _FORMATS[p.kind]
    low = k < float(small)

    def exponent(n: int) -> int | object:
        return i4((bias + n) << mantissa) if p.kind == "f32" else (bias + n) << mantissa

    def power(n: int) -> float | object:
        return f4(2.0**n) if p.kind == "f32" else 2.0**n

    first = from_bits((pattern << mantissa) + select(low, exponent(lift - 1), exponent(-1)))  # finite for the largest k
    return (p * 2.0) * first * select(low, power(-lift), power(0))


def _declare(module: ir.Module, name: str, kind: str) -> ir.Function:
    """The function and its forms by name alone: what is inlined before loops are vectorised has no form for vectors."""
    fn = pure(module, name, TYPES[kind])
    announce(fn, [pure(module, f"{name}_v{n}", ir.VectorType(TYPES[kind], n)) for n in _LANES[kind]])
    return fn


def late_module(kind: str) -> ir.Module:
    """What `scale` calls, to be linked and inlined when loops are vectors."""
    module = ir.Module(f"scale_{kind}")
    fn = pure(module, f"autojit_scale_{kind}", TYPES[kind], "alwaysinline")
    builder = ir.IRBuilder(fn.append_basic_block("entry"))
    p, k = (Value(builder, kind, a) for a in fn.args)
    magic = constant(builder, kind, 1.5 * 2.0 ** _FORMATS[kind][0])
    builder.ret(_by_bits(p, bits(k + magic), k).llvm)
    for lanes in _LANES[kind]:
        _define_vector(module, f"{fn.name}_v{lanes}", kind, lanes)
    return module


def _define_vector(module: ir.Module, name: str, kind: str, lanes: int) -> None:
    ty = ir.VectorType(TYPES[kind], lanes)
    width = lanes * (32 if kind == "f32" else 64)
    variant = pure(module, name, ty, "alwaysinline")
    builder = ir.IRBuilder(variant.append_basic_block("entry"))
    mask = ir.IntType(max(lanes, 8))
    rounding = [ir.IntType(32)] if width == 512 else []
    fnty = ir.FunctionType(ty, [ty, ty, ty, mask, *rounding])
    intrinsic = declared(module, f"llvm.x86.avx512.mask.scalef.p{'s' if kind == 'f32' else 'd'}.{width}", fnty)
    more = [r(_CURRENT_ROUNDING) for r in rounding]
    builder.ret(builder.call(intrinsic, [*variant.args, ir.Constant(ty, [0.0] * lanes), mask(_ALL_LANES), *more]))
