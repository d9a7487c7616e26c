"""float32 functions that compute in float64, where a few terms of accuracy to spare are cheap.

In: float32.  Out: pow (with every special case of C99), cbrt, hypot and the inverse hyperbolics,
at most 1 ulp off.  Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import (
    bits,
    copysign,
    f4,
    f8,
    fabs,
    floor,
    fma,
    from_bits,
    horner,
    select,
    shift_right,
    sqrt,
    trunc,
)
from autojit.backends.cpu.vecmath.exp32 import HALF, INF, NAN, ONE, ZERO

INF64 = float("inf")
MAGIC64 = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer
LN2_64 = 0.6931471805599453
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_ONE_BITS = 1023 << 52
_MANTISSA = (1 << 52) - 1
_INTEGER_BITS = 0x4330000000000000  # of 2**52, whose low bits hold an integer
_INTEGER_BIAS = 4503599627370496.0 + 1023.0

_LOG2 = (
    -0.0864766905507248, 0.1547576243680902, -0.15682827913357886, 0.15900086082023382,
    -0.17907659328321818, 0.20609904496835693, -0.24050198968331452, 0.2885404003574281,
    -0.36067286746270333, 0.4808983274673707, -0.7213475245433206, 1.4426950408889634,
)  # log2(1 + f) / f to 33 bits, sqrt(1/2) <= 1 + f < sqrt(2)
_EXP2 = (
    1.519612408120001e-05, 0.0001546675556194169, 0.0013333935181146519, 0.009618038134897977,
    0.05550410365874314, 0.24022651066538944, 0.69314718070455, 1.0,
)  # 2**r to 34 bits, |r| <= 1/2


def log2_short(x):
    """log2 of a positive, finite and normal float64, to 33 bits."""
    i = bits(x) + (_ONE_BITS - _SQRT_HALF_BITS)
    n = from_bits(shift_right(i, 52) | _INTEGER_BITS) - _INTEGER_BIAS
    f = from_bits((i & _MANTISSA) + _SQRT_HALF_BITS) - 1.0
    return fma(f, horner(f, _LOG2), n)


def exp2_short(x):
    """2**x to 34 bits, for |x| <= 1000; beyond, the value at the end."""
    x = select(x > 1000.0, 1000.0, x)
    x = select(x < -1000.0, -1000.0, x)
    t = x + MAGIC64
    return horner(x - (t - MAGIC64), _EXP2) * from_bits((bits(t) << 52) + _ONE_BITS)


def pow_f32(x, y):
    size = f8(fabs(x))
    log = select(size < INF64, log2_short(size), size)
    log = select(size == 0.0, -INF64, log)
    # pow(1, y) and pow(x, 0) are 1 whatever the other is, NaN too.
    power = select((size == 1.0) | (y == ZERO), 0.0, f8(y) * log)
    result = f4(exp2_short(power))
    half = y * HALF
    whole = trunc(y) == y
    odd = whole & (floor(half) != half)
    result = select(odd, copysign(result, x), result)
    return select((x < ZERO) & (x > -INF) & (~whole), NAN, result)


def rsqrt_f32(x):
    return ONE / sqrt(x)


_THIRD = 1.0 / 3.0


def cbrt_f32(x):
    size = fabs(x)
    result = f4(exp2_short(log2_short(f8(size)) * _THIRD))
    return copysign(select((size > ZERO) & (size < INF), result, size), x)


def hypot_f32(x, y):
    a, b = f8(x), f8(y)
    result = f4(sqrt(fma(a, a, b * b)))
    return select((fabs(x) == INF) | (fabs(y) == INF), INF, result)


_SMALL = f4(2.0**-13)  # below it asinh and atanh round to their argument


def asinh_f32(x):
    size = fabs(x)
    a = f8(size)
    result = f4(LN2_64 * log2_short(a + sqrt(fma(a, a, 1.0))))
    result = select((size > _SMALL) & (size < INF), result, size)
    return copysign(result, x)


def acosh_f32(x):
    a = f8(x)
    result = f4(LN2_64 * log2_short(a + sqrt(fma(a, a, -1.0))))
    return select(x >= ONE, select(x < INF, result, x), NAN)


def atanh_f32(x):
    size = fabs(x)
    a = f8(size)
    result = f4((0.5 * LN2_64) * log2_short((1.0 + a) / (1.0 - a)))
    result = select(size < ONE, result, select(size == ONE, INF, NAN))
    return copysign(select(size > _SMALL, result, size), x)
