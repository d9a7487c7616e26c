"""Angles in float64: sin, cos, tan and the inverses, without branches.

In: float64.  Out: the value of the function, at most 2 ulp off, for every argument: those beyond
2**32 are reduced exactly by a rescue (see `rescue`).  sin and cos of one argument share the
reduction and both polynomials: after inlining LLVM finds the common expressions.  Never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import (
    bits,
    copysign,
    fabs,
    fma,
    from_bits,
    horner,
    select,
    sqrt,
)
from autojit.backends.cpu.vecmath.exp64 import INF, MAGIC
from autojit.backends.cpu.vecmath.rescue import huge_angle, rescue

TWO_OVER_PI = 0.6366197723675814
# pi/2 in three parts, each cut and not rounded: all have one sign, so that -0 reduces to -0. With
# fused products the first step of the reduction is exact and the others lose half an ulp.
_CUT, _CUT_TAIL, _CUT_REST = 1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32
HALF_PI, HALF_PI_TAIL = 1.5707963267948966, 6.123233995736766e-17
PI, PI_TAIL = 3.141592653589793, 1.2246467991473532e-16
QUARTER_PI = 0.7853981633974483
LIMIT = 2.0**32

_SIN = (
    1.5895417679537349e-10, -2.505073421467217e-08, 2.7557313537887214e-06, -0.00019841269829357807,
    0.00833333333332184, -0.1666666666666663,
)  # (sin(r) - r) / r**3 in r**2, |r| <= pi/4
_COS = (
    -1.1358737732834671e-11, 2.0875705201993405e-09, -2.755731421588036e-07, 2.4801587288999267e-05,
    -0.001388888888887334, 0.041666666666666595, -0.5, 1.0,
)  # cos(r) in r**2
_TAN = (
    2.0854309173449782e-05, -4.483876197174086e-05, 8.938102402706898e-05, -2.6306852055302706e-05,
    0.00013646775116289017, 0.0002224088081318912, 0.0005950544962039591, 0.0014547605249687478,
    0.0035922886333667743, 0.008863219216958367, 0.021869489604951158, 0.05396825392685507,
    0.1333333333341417, 0.3333333333333278,
)  # (tan(r) - r) / r**3 in r**2
_ASIN = (
    0.03191333015495129, -0.01622589997575736, 0.019529372135426257, 0.006527552518427812,
    0.012169312925978564, 0.013885219625220678, 0.01735970639341503, 0.022371757941873707,
    0.030381959141449363, 0.04464285682822256, 0.07500000000337137, 0.16666666666665408,
)  # (asin(x) - x) / x**3 in x**2, |x| <= 1/2
_ATAN = (
    -2.0260062860333735e-05, 0.00022303677724025552, -0.0011641348645873228, 0.0038561442201153653,
    -0.009184869738071779, 0.016978448296388577, -0.0258272067976659, 0.03406812187613269,
    -0.040926563882258335, 0.04673957804984608, -0.052392358496154874, 0.0587730852701956,
    -0.06665860514096177, 0.07692212952728039, -0.09090901237713092, 0.11111110678912743,
    -0.14285714271342018, 0.1999999999975519, -0.3333333333333186,
)  # (atan(x) - x) / x**3 in x**2, |x| <= 1


_MAGIC_BITS = 0x4338000000000000


def _huge(x):
    """(r, rest, t) as `_reduce` has them, for any x that is large and finite."""
    r, rest, n = huge_angle(abs(x))
    sign = copysign(1.0, x)
    n = select(x < 0.0, 0 - n, n)
    return sign * r, sign * rest, from_bits((n & 3) + _MAGIC_BITS)


_fix = rescue("autojit_angle_f64", lambda x: _huge(x)[::2], LIMIT)
_fix_long = rescue("autojit_long_angle_f64", _huge, LIMIT)


def _reduce(x):
    """(r, n) with x = n pi/2 + r; n in the low bits of a pattern."""
    t = fma(x, TWO_OVER_PI, MAGIC)
    q = t - MAGIC
    r, t = _fix(x, fma(q, -_CUT_REST, fma(q, -_CUT_TAIL, fma(q, -_CUT, x))), t)
    return r, bits(t)


def wave(r, n):
    """sin(r + n pi/2)."""
    z = r * r
    sine = copysign(fma(r * z, horner(z, _SIN), r), r)  # of -0 it is -0
    y = select((n & 1) == 0, sine, horner(z, _COS))
    return from_bits(bits(y) ^ ((n & 2) << 62))


def slope(r, rest, n):
    """tan(r + rest + n pi/2)."""
    z = r * r
    # The rest counts 1 + tan(r)**2 times; 1 + 1.5 z is near enough.
    more = fma(r * z, horner(z, _TAN), fma(rest * z, 1.5, rest))
    y = copysign(r + more, r)
    even = (n & 1) == 0
    lost = select(even, -0.0, (r - y) + more)  # it matters to the reciprocal only
    quotient = select(even, y, -1.0) / select(even, 1.0, y)
    return fma(quotient * quotient, lost, quotient)


def sin_f64(x):
    r, n = _reduce(x)
    return wave(r, n)


def cos_f64(x):
    r, n = _reduce(x)
    return wave(r, n + 1)


def tan_f64(x):
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
def _asin_parts(x):
    """(outer, s, t): asin(s) = s + t, where s = sqrt((1 - |x|) / 2) if outer = |x| > 1/2, else |x|."""
    size = fabs(x)
    outer = size > 0.5
    z = select(outer, fma(-0.5, size, 0.5), x * x)
    s = select(outer, sqrt(z), size)
    return outer, s, s * z * horner(z, _ASIN)


def asin_f64(x):
    outer, s, t = _asin_parts(x)
    far = QUARTER_PI + (fma(-2.0, s, QUARTER_PI) + fma(-2.0, t, HALF_PI_TAIL))
    return copysign(select(outer, far, s + t), x)


def acos_f64(x):
    outer, s, t = _asin_parts(x)
    near = HALF_PI - (copysign(s, x) + (copysign(t, x) - HALF_PI_TAIL))
    far = select(x < 0.0, fma(-2.0, s, PI) + fma(-2.0, t, PI_TAIL), 2.0 * (s + t))
    return select(outer, far, near)


def atan_f64(x):
    size = fabs(x)
    far = size > 1.0
    a = select(far, -1.0, size) / select(far, size, 1.0)
    z = a * a
    rest = fma(a * z, horner(z, _ATAN), select(far, HALF_PI_TAIL, 0.0))
    return copysign(select(far, HALF_PI, 0.0) + (a + rest), x)


def atan2_f64(y, x):
    high, low = fabs(x), fabs(y)
    steep = low > high
    high, low = select(steep, low, high), select(steep, high, low)
    both = (low == INF) & (high == INF)
    a = select(both, 1.0, low) / select(both | (high == 0.0), 1.0, high)
    z = a * a
    angle = a + a * z * horner(z, _ATAN)
    angle = select(steep, HALF_PI - (angle - HALF_PI_TAIL), angle)
    angle = select(copysign(1.0, x) < 0.0, PI - (angle - PI_TAIL), angle)
    return copysign(angle, y)
