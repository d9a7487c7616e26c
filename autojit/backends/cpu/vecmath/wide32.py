"""float32 functions that compute in float64, where a few terms of accuracy to spare are cheap.

In: float32.  Out: pow (with every special case of C99), cbrt, hypot and the inverse hyperbolics,
at most 1 ulp off.  Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import (
    by_pairs,
    copysign,
    f4,
    f8,
    fabs,
    floor,
    fma,
    select,
    sqrt,
    trunc,
)
from autojit.backends.cpu.vecmath.exp32 import HALF, INF, NAN, ONE, ZERO
from autojit.backends.cpu.vecmath.powers import scale, split

MAGIC64 = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer
LN2_64 = 0.6931471805599453

_LOG2 = (
    -0.04496924451464734, 0.11551819478381249, -0.15286913447279332, 0.1646520320635258,
    -0.18031374593728242, 0.20582087293797965, -0.2404283345670555, 0.28854600630355387,
    -0.36067435469751785, 0.4808982824385399, -0.7213475169106729, 1.4426950409945367,
)  # log2(1 + f) / f to 33 bits, 3/4 <= 1 + f < 3/2
_EXP2 = (
    1.519612408120001e-05, 0.0001546675556194169, 0.0013333935181146519, 0.009618038134897977,
    0.05550410365874314, 0.24022651066538944, 0.69314718070455, 1.0,
)  # 2**r to 34 bits, |r| <= 1/2


def log2_short(x):
    """log2 of a float64, to 33 bits."""
    m, n = split(x)
    f = m - 1.0
    return fma(f, by_pairs(f, _LOG2), n)


def exp2_short(x):
    """2**x to 34 bits, for |x| <= 1000; beyond, the value at the end."""
    x = select(x > 1000.0, 1000.0, x)
    x = select(x < -1000.0, -1000.0, x)
    t = x + MAGIC64
    k = t - MAGIC64
    return scale(by_pairs(x - k, _EXP2), t, k)


def pow_f32(x, y):
    size = f8(fabs(x))
    log = log2_short(size)
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
