"""sin, cos and tan of float32 in float32 and integers alone, for angles of any size.

In: values of `vecmath.core`, float32.  Out: the value of the function, at most 2 ulp off.  libdevice's own go through
float64 and local memory where angles are large.  Large angles branch here: all threads of a warp wait for the few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from autojit.backends.cpu.vecmath import trig32
from autojit.backends.cpu.vecmath.core import Value, bits, copysign, f4, fma, from_bits, i4, select
from autojit.backends.cpu.vecmath.exp32 import MAGIC, ONE, floats

LIMIT = 2.0**18
_CUT, _CUT_TAIL, _CUT_REST = floats(1.5707962513, 7.54978942e-08, 5.39030253e-15)  # pi/2, cut and not rounded
_SCALED, _SCALED_TAIL = f4(1.5707964 * 2.0**-62), f4(-4.371139e-08 * 2.0**-62)     # pi/2 * 2**-62
_MAGIC_BITS = i4(0x4B400000)
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_CONSTANT = 4                                             # an address space of NVVM
# binary digits of 2/pi behind 32 zeros, the highest first
_DIGITS = (0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB)


def _rescued(x: Value, slow: Callable[[Value], Sequence[Value]], *ys: Value) -> list[Value]:
    """ys where |x| <= LIMIT or x is not finite, else slow(x)."""
    b = x.builder
    size = abs(x)
    far = (size > LIMIT) & (size < float("inf"))
    before = b.block
    with b.if_then(far.llvm, likely=False):
        found = [z.llvm for z in slow(x)]
        inner = b.block
    out = []
    for y, z in zip(ys, found, strict=True):
        phi = b.phi(y.llvm.type)
        phi.add_incoming(y.llvm, before)
        phi.add_incoming(z, inner)
        out.append(Value(b, y.kind, phi))
    return out


def _huge(x: Value) -> tuple[Value, Value, Value]:
    """(r, rest, t): x = r + rest + n pi/2 modulo 2 pi, n in the low bits of t's pattern; Payne and Hanek.

    With |x| = m * 2**s only the digits of 2/pi from place s - 1 on matter: the others give whole turns.
    """
    b = x.builder
    pattern = bits(abs(x)).llvm
    exponent = b.sub(b.lshr(pattern, _I32(23)), _I32(150))
    mantissa = b.zext(b.or_(b.and_(pattern, _I32((1 << 23) - 1)), _I32(1 << 23)), _I64)
    high, middle, low = _window(b, b.add(exponent, _I32(30)))
    turns = b.add(b.shl(b.mul(mantissa, high), _I64(32)),
                  b.add(b.mul(mantissa, middle), b.lshr(b.mul(mantissa, low), _I64(32))))  # 62 digits behind the point
    n = b.lshr(b.add(turns, _I64(1 << 61)), _I64(62))
    fraction = b.sub(turns, b.shl(n, _I64(62)))
    near = b.sitofp(fraction, ir.FloatType())
    left = Value(b, "f32", b.sitofp(b.sub(fraction, b.fptosi(near, _I64)), ir.FloatType()))
    f = Value(b, "f32", near)
    product = f * _SCALED
    error = fma(f, _SCALED, -product) + fma(f, _SCALED_TAIL, left * _SCALED)
    r = product + error
    rest = (product - r) + error
    quadrant = Value(b, "i32", b.trunc(n, _I32))
    negative = x < f4(0.0)
    quadrant = select(negative, 0 - quadrant, quadrant)
    sign = copysign(ONE, x)
    return sign * r, sign * rest, from_bits((quadrant & 3) + _MAGIC_BITS)


def _window(b: ir.IRBuilder, first: Any) -> list[Any]:
    """96 digits from place `first` of the table on: three words as int64."""
    module = getattr(b.module, "whole", b.module)
    name = "autojit_two_over_pi_f32"
    table = module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(module, ir.ArrayType(_I32, len(_DIGITS)), name, _CONSTANT)
        table.initializer = ir.Constant(table.value_type, list(_DIGITS))
        table.global_constant, table.linkage = True, "internal"
    place, shift = b.lshr(first, _I32(5)), b.zext(b.and_(first, _I32(31)), _I64)
    words = [b.zext(b.load(b.gep(table, [_I32(0), b.add(place, _I32(k))], inbounds=True)), _I64) for k in range(4)]
    out = []
    for upper, lower in zip(words, words[1:], strict=False):
        pair = b.or_(b.shl(upper, _I64(32)), lower)
        out.append(b.and_(b.lshr(b.shl(pair, shift), _I64(32)), _I64((1 << 32) - 1)))
    return out


def _reduce(x: Value) -> tuple[Value, Value]:
    """(r, n) with x = n pi/2 + r; n in the low bits of a pattern."""
    t = fma(x, trig32.TWO_OVER_PI, MAGIC)
    q = t - MAGIC
    r = fma(q, -_CUT_REST, fma(q, -_CUT_TAIL, fma(q, -_CUT, x)))
    r, t = _rescued(x, lambda x: _huge(x)[::2], r, t)
    return r, bits(t)


def sin_f32(x: Value) -> Value:
    r, n = _reduce(x)
    return trig32.wave(r, n)


def cos_f32(x: Value) -> Value:
    r, n = _reduce(x)
    return trig32.wave(r, n + 1)


def tan_f32(x: Value) -> Value:
    t = fma(x, trig32.TWO_OVER_PI, MAGIC)
    q = t - MAGIC
    high, low = fma(q, -_CUT, x), q * _CUT_TAIL
    r = high - low
    back = r - high
    rest = (high - (r - back)) - (low + back)             # of the difference (Knuth)
    rest = fma(q, -_CUT_REST, rest - fma(q, _CUT_TAIL, -low))
    r, rest, t = _rescued(x, _huge, r, rest, t)
    return trig32.slope(r, rest, bits(t))


FUNCTIONS: dict[str, Callable[..., Any]] = {"sin_f32": sin_f32, "cos_f32": cos_f32, "tan_f32": tan_f32}
