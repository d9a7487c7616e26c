"""Angles in float32: sin, cos, tan and the inverses, without branches.

In: float32.  Out: the value of the function, at most 2 ulp off, for every argument: those beyond
2**18 are reduced exactly by a rescue (see `rescue`).  sin and cos of one argument share the
reduction, its rescue and both polynomials: after inlining LLVM finds the common expressions.  Never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import (
    bits,
    copysign,
    f4,
    f8,
    fabs,
    fma,
    from_bits,
    horner,
    i4,
    select,
    sqrt,
)
from autojit.backends.cpu.vecmath.exp32 import HALF, INF, MAGIC, ONE, TWO, ZERO, floats
from autojit.backends.cpu.vecmath.rescue import huge_angle, rescue

TWO_OVER_PI = f4(0.63661975)
# pi/2 in three parts, each cut and not rounded: all have one sign, so that -0 reduces to -0. With
# fused products the first step of the reduction is exact and the others lose half an ulp.
_CUT, _CUT_TAIL, _CUT_REST = floats(1.5707962513, 7.54978942e-08, 5.39030253e-15)
HALF_PI, HALF_PI_TAIL = floats(1.5707964, -4.371139e-08)
LIMIT = 2.0**18

_SIN = floats(-0.00019506693934090436, 0.008332100696861744, -0.16666653752326965)
_COS = floats(2.4428762117167935e-05, -0.0013887290842831135, 0.04166664555668831, -0.5, 1.0)
_TAN = floats(
    0.004567430354654789, -0.000295293633826077, 0.011136718094348907, 0.021167360246181488,
    0.054081860929727554, 0.1333247274160385, 0.3333335518836975,
)  # (tan(r) - r) / r**3 in r**2, |r| <= pi/4
_ASIN = floats(
    0.04215814545750618, 0.024184858426451683, 0.045469142496585846, 0.074953094124794,
    0.16666752099990845,
)  # (asin(x) - x) / x**3 in x**2, |x| <= 1/2
_ATAN = floats(
    0.002920102793723345, -0.016365448012948036, 0.04320762678980827, -0.07551839202642441,
    0.1066582202911377, -0.14211007952690125, 0.19993767142295837, -0.33333153152532577515,
)  # (atan(x) - x) / x**3 in x**2, |x| <= 1


_MAGIC_BITS = i4(0x4B400000)


def _huge(x):
    """(r, rest, t) as `_reduce` has them, for any x that is large and finite."""
    r, _, n = huge_angle(f8(abs(x)))
    sign = copysign(ONE, x)
    n = i4(select(x < ZERO, 0 - n, n))
    return sign * f4(r), sign * f4(r - f8(f4(r))), from_bits((n & 3) + _MAGIC_BITS)


_fix = rescue("autojit_angle_f32", lambda x: _huge(x)[::2], LIMIT)
_fix_long = rescue("autojit_long_angle_f32", _huge, LIMIT)


def _reduce(x):
    """(r, n) with x = n pi/2 + r; n in the low bits of a pattern."""
    t = fma(x, TWO_OVER_PI, MAGIC)
    q = t - MAGIC
    r = fma(q, -_CUT_REST, fma(q, -_CUT_TAIL, fma(q, -_CUT, x)))
    r, t = _fix(x, r, t)
    return r, bits(t)


def wave(r, n):
    """sin(r + n pi/2)."""
    z = r * r
    sine = copysign(fma(r * z, horner(z, _SIN), r), r)  # of -0 it is -0
    y = select((n & 1) == 0, sine, horner(z, _COS))
    return from_bits(bits(y) ^ ((n & 2) << 30))


_SLOPE, _NEGATIVE_ZERO = floats(1.5, -0.0)


def slope(r, rest, n):
    """tan(r + rest + n pi/2)."""
    z = r * r
    # The rest counts 1 + tan(r)**2 times; 1 + 1.5 z is near enough.
    more = fma(r * z, horner(z, _TAN), fma(rest * z, _SLOPE, rest))
    y = copysign(r + more, r)
    even = (n & 1) == 0
    lost = select(even, _NEGATIVE_ZERO, (r - y) + more)  # it matters to the reciprocal only
    quotient = select(even, y, -ONE) / select(even, ONE, y)
    return fma(quotient * quotient, lost, quotient)


def sin_f32(x):
    r, n = _reduce(x)
    return wave(r, n)


def cos_f32(x):
    r, n = _reduce(x)
    return wave(r, n + 1)


def tan_f32(x):
    t = fma(x, TWO_OVER_PI, MAGIC)
    q = t - MAGIC
    high, low = fma(q, -_CUT, x), q * _CUT_TAIL
    r = high - low
    back = r - high
    rest = (high - (r - back)) - (low + back)  # of the difference (Knuth)
    rest = fma(q, -_CUT_REST, rest - fma(q, _CUT_TAIL, -low))
    r, rest, t = _fix_long(x, r, rest, t)
    return slope(r, rest, bits(t))


# ------------------------------------------------------------------------------------- inverses
PI, PI_TAIL, QUARTER_PI = floats(3.1415927, -8.742278e-08, 0.7853982)


def _asin_parts(x):
    """(outer, s, t): asin(s) = s + t, where s = sqrt((1 - |x|) / 2) if outer = |x| > 1/2, else |x|."""
    size = fabs(x)
    outer = size > HALF
    z = select(outer, fma(-HALF, size, HALF), x * x)
    s = select(outer, sqrt(z), size)
    return outer, s, s * z * horner(z, _ASIN)


def asin_f32(x):
    outer, s, t = _asin_parts(x)
    far = QUARTER_PI + (fma(-TWO, s, QUARTER_PI) + fma(-TWO, t, HALF_PI_TAIL))
    return copysign(select(outer, far, s + t), x)


def acos_f32(x):
    outer, s, t = _asin_parts(x)
    near = HALF_PI - (copysign(s, x) + (copysign(t, x) - HALF_PI_TAIL))
    far = select(x < ZERO, fma(-TWO, s, PI) + fma(-TWO, t, PI_TAIL), TWO * (s + t))
    return select(outer, far, near)


def atan_f32(x):
    size = fabs(x)
    far = size > ONE
    a = select(far, -ONE, size) / select(far, size, ONE)
    z = a * a
    rest = fma(a * z, horner(z, _ATAN), select(far, HALF_PI_TAIL, ZERO))
    return copysign(select(far, HALF_PI, ZERO) + (a + rest), x)


def atan2_f32(y, x):
    high, low = fabs(x), fabs(y)
    steep = low > high
    high, low = select(steep, low, high), select(steep, high, low)
    both = (low == INF) & (high == INF)
    a = select(both, ONE, low) / select(both | (high == ZERO), ONE, high)
    z = a * a
    angle = a + a * z * horner(z, _ATAN)
    angle = select(steep, HALF_PI - (angle - HALF_PI_TAIL), angle)
    left = copysign(ONE, x) < ZERO
    angle = select(left, PI - (angle - PI_TAIL), angle)
    return copysign(angle, y)
