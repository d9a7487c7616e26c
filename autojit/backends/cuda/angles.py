"""sin, cos and tan without local memory, and of float32 without float64, for angles of any size.

In: values of `vecmath.core`.  Out: the value of the function, at most 2 ulp off.  libdevice's own go through local memory, and
through float64, where angles are large.  Large angles branch here: all threads of a warp wait for the few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from autojit.backends.cpu.vecmath import trig32, trig64
from autojit.backends.cpu.vecmath.core import Value, bits, copysign, f4, fma, from_bits, i4, select
from autojit.backends.cpu.vecmath.exp32 import MAGIC, floats
from autojit.backends.cpu.vecmath.exp64 import MAGIC as MAGIC64
from autojit.backends.cpu.vecmath.rescue import two_over_pi

LIMITS = {"f32": 2.0**18, "f64": 2.0**32}
# pi/2 in three parts, cut and not rounded
_CUTS32 = floats(1.5707962513, 7.54978942e-08, 5.39030253e-15)
_CUTS64 = (1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32)
_SCALED, _SCALED_TAIL = f4(1.5707964 * 2.0**-62), f4(-4.371139e-08 * 2.0**-62)     # pi/2 * 2**-62
_HALF_PI, _HALF_PI_TAIL = 1.5707963267948966, 6.123233995736766e-17
_MAGIC_BITS, _MAGIC_BITS64 = i4(0x4B400000), 0x4338000000000000
_I1, _I32, _I64, _I128 = (ir.IntType(n) for n in (1, 32, 64, 128))
_CONSTANT = 4                                             # an address space of NVVM
_WORDS = {32: 8, 64: 20}                                  # of the table of digits of 2/pi: the first is 0


def _rescued(x: Value, slow: Callable[[Value], Sequence[Value]], *ys: Value) -> list[Value]:
    """ys where x is not large or not finite, else slow(x)."""
    b = x.builder
    size = abs(x)
    far = (size > LIMITS[x.kind]) & (size < float("inf"))
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


def _window(b: ir.IRBuilder, first: Any, bits_of_word: int) -> list[Any]:
    """Three words of binary digits of 2/pi, from place `first` of the table on, the highest first."""
    ty, count = ir.IntType(bits_of_word), _WORDS[bits_of_word]
    module = getattr(b.module, "whole", b.module)
    name = f"autojit_two_over_pi_{bits_of_word}"
    table = module.globals.get(name)
    if table is None:
        digits, mask = two_over_pi(bits_of_word * (count - 1)), (1 << bits_of_word) - 1
        table = ir.GlobalVariable(module, ir.ArrayType(ty, count), name, _CONSTANT)
        table.initializer = ir.Constant(table.value_type, [digits >> bits_of_word * k & mask for k in reversed(range(count))])
        table.global_constant, table.linkage = True, "internal"
    size = first.type(bits_of_word)
    place, shift = b.udiv(first, size), b.urem(first, size)
    words = [b.load(b.gep(table, [_I32(0), b.trunc(b.add(place, place.type(k)), _I32) if place.type == _I64 else
                                  b.add(place, place.type(k))], inbounds=True)) for k in range(4)]
    shift = b.trunc(shift, ty) if shift.type.width > bits_of_word else shift
    left = b.sub(ty(bits_of_word - 1), shift)              # never shifted by a whole word
    return [b.or_(b.shl(high, shift), b.lshr(b.lshr(low, ty(1)), left)) for high, low in zip(words, words[1:], strict=False)]


def _signed(x: Value, r: Value, rest: Value, n: Value, magic: Any) -> tuple[Value, Value, Value]:
    """What was found for |x|, for x; n in the low bits of a float's pattern."""
    one = f4(1.0) if x.kind == "f32" else 1.0
    sign = copysign(one, x)
    n = select(x < one - one, 0 - n, n)
    return sign * r, sign * rest, from_bits((n & 3) + magic)


def _huge32(x: Value) -> tuple[Value, Value, Value]:
    """(r, rest, t): x = r + rest + n pi/2 modulo 2 pi, n in the low bits of t's pattern; Payne and Hanek.

    With |x| = m * 2**s only the digits of 2/pi from place s - 1 on matter: the others give whole turns.
    """
    b = x.builder
    pattern = bits(abs(x)).llvm
    exponent = b.sub(b.lshr(pattern, _I32(23)), _I32(150))
    mantissa = b.zext(b.or_(b.and_(pattern, _I32((1 << 23) - 1)), _I32(1 << 23)), _I64)
    high, middle, low = (b.zext(w, _I64) for w in _window(b, b.add(exponent, _I32(30)), 32))
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
    return _signed(x, r, (product - r) + error, Value(b, "i32", b.trunc(n, _I32)), _MAGIC_BITS)


def _high_product(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    """The upper half of the product of two words."""
    return b.trunc(b.lshr(b.mul(b.zext(x, _I128), b.zext(y, _I128)), _I128(64)), _I64)


def _huge64(x: Value) -> tuple[Value, Value, Value]:
    """The same of float64: 126 digits behind the point, and no double comes nearer than 2**-62 to a multiple of pi/2."""
    b = x.builder
    pattern = bits(abs(x)).llvm
    exponent = b.sub(b.lshr(pattern, _I64(52)), _I64(1075))
    mantissa = b.or_(b.and_(pattern, _I64((1 << 52) - 1)), _I64(1 << 52))
    top, middle, low = _window(b, b.add(exponent, _I64(62)), 64)
    part = b.mul(mantissa, middle)
    under = b.add(part, _high_product(b, mantissa, low))
    carry = b.zext(b.icmp_unsigned("<", under, part), _I64)
    over = b.add(b.add(b.mul(mantissa, top), _high_product(b, mantissa, middle)), carry)
    n = b.lshr(b.add(over, _I64(1 << 61)), _I64(62))
    over = b.sub(over, b.shl(n, _I64(62)))
    negative = b.icmp_signed("<", over, _I64(0))
    flipped = b.select(b.icmp_signed("==", under, _I64(0)), b.neg(over), b.not_(over))
    over, under = b.select(negative, flipped, over), b.select(negative, b.neg(under), under)
    r, rest = _times_half_pi(b, over, under)
    sign = Value(b, "f64", b.select(negative, r.llvm.type(-1.0), r.llvm.type(1.0)))
    return _signed(x, sign * r, sign * rest, Value(b, "i64", n), _MAGIC_BITS64)


def _times_half_pi(b: ir.IRBuilder, over: Any, under: Any) -> list[Value]:
    """(over * 2**64 + under) * 2**-126 * pi/2 as a double and a rest, from its 64 leading digits."""
    double = ir.DoubleType()
    far = b.icmp_signed("==", over, _I64(0))
    first, second = b.select(far, under, over), b.select(far, _I64(0), under)
    zeros = b.ctlz(first, _I1(0))
    some = b.and_(zeros, _I64(63))
    top = b.or_(b.shl(first, some), b.lshr(b.lshr(second, _I64(1)), b.sub(_I64(63), some)))
    high = Value(b, "f64", b.uitofp(b.and_(top, _I64(~0x7FF)), double))
    low = Value(b, "f64", b.uitofp(b.and_(top, _I64(0x7FF)), double))
    small = high * _HALF_PI_TAIL + low * _HALF_PI
    angle = fma(high, _HALF_PI, small)
    rest = fma(high, _HALF_PI, -angle) + small
    places = b.add(zeros, b.select(far, _I64(64), _I64(0)))
    scale = from_bits(Value(b, "i64", b.shl(b.sub(_I64(1023 - 62), places), _I64(52))))  # 2**(64 - 126 - zeros)
    return [angle * scale, rest * scale]


def _reduced(x: Value) -> tuple[Value, Value]:
    """(r, n) with x = n pi/2 + r; n in the low bits of a pattern."""
    narrow = x.kind == "f32"
    cut, tail, end = _CUTS32 if narrow else _CUTS64
    magic, turns = (MAGIC, trig32.TWO_OVER_PI) if narrow else (MAGIC64, trig64.TWO_OVER_PI)
    t = fma(x, turns, magic)
    q = t - magic
    r = fma(q, -end, fma(q, -tail, fma(q, -cut, x)))
    r, t = _rescued(x, lambda x: (_huge32 if narrow else _huge64)(x)[::2], r, t)
    return r, bits(t)


def _tangent(x: Value) -> Value:
    narrow = x.kind == "f32"
    cut, tail, end = _CUTS32 if narrow else _CUTS64
    magic, turns = (MAGIC, trig32.TWO_OVER_PI) if narrow else (MAGIC64, trig64.TWO_OVER_PI)
    t = fma(x, turns, magic)
    q = t - magic
    high, low = fma(q, -cut, x), q * tail
    r = high - low
    back = r - high
    rest = (high - (r - back)) - (low + back)             # of the difference (Knuth)
    rest = fma(q, -end, rest - fma(q, tail, -low))
    r, rest, t = _rescued(x, _huge32 if narrow else _huge64, r, rest, t)
    return (trig32 if narrow else trig64).slope(r, rest, bits(t))


def _sine(x: Value) -> Value:
    r, n = _reduced(x)
    return (trig32 if x.kind == "f32" else trig64).wave(r, n)


def _cosine(x: Value) -> Value:
    r, n = _reduced(x)
    return (trig32 if x.kind == "f32" else trig64).wave(r, n + 1)


FUNCTIONS: dict[str, Callable[..., Any]] = {f"{name}_{kind}": function for kind in LIMITS for name, function in (
    ("sin", _sine), ("cos", _cosine), ("tan", _tangent))}
