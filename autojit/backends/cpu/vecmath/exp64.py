"""Exponentials, logarithms and hyperbolics of float64, without branches.

In: a float64.  Out: the value of the function, at most 2 ulp off, right at NaN, Inf, -0 and
denormals.  Never branches, never calls libm.  Integers stay in bit patterns: processors without
AVX-512 cannot convert vectors of int64.
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
    shift_right,
)
from autojit.backends.cpu.vecmath.powers import scale, split

INF, NAN = float("inf"), float("nan")
# Adding 1.5 * 2**52 rounds to an integer and leaves it in the low bits of the pattern.
MAGIC = 6755399441055744.0
LOG2_E, LOG2_E_TAIL = 1.4426950408889634, 2.0355273740931033e-17
LN2, LN2_TAIL = 0.6931471805599453, 2.3190468138462996e-17
LOG10_E, LOG10_E_TAIL = 0.4342944819032518, 1.098319650216765e-17
LOG10_2, LOG10_2_TAIL = 0.30102999566398114, 5.270742310347266e-17  # of one sign: n is Inf at the ends
LEAST_NORMAL = 2.2250738585072014e-308
TINY = 2.0**-54

ONE_BITS = 1023 << 52
BIAS = 1022 << 52  # the exponential's polynomials are doubled: e**x = (2 p) * 2**(k - 1)
_TWO_BITS = 1024 << 52
_HALF_BIAS = 1021 << 52
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
MANTISSA = (1 << 52) - 1
INTEGER_BITS = 0x4330000000000000  # of 2**52, whose low bits hold an integer
INTEGER_BIAS = 4503599627370496.0 + 1023.0

_EXP = (
    2.4978034289063653e-08, 2.762517976172318e-07, 2.7557642117923394e-06, 2.480150870191884e-05,
    0.0001984126946465322, 0.0013888888926780413, 0.008333333333500774, 0.04166666666660399,
    0.16666666666666433, 0.5, 1.0, 1.0,
)  # e**r, |r| <= ln2/2
_EXP2 = (
    4.4388665527237816e-10, 7.0732377340441976e-09, 1.0178160267696519e-07, 1.3215438821293425e-06,
    1.5252733633287643e-05, 0.00015403530449049574, 0.0013333558146546819, 0.0096181291076016,
    0.05550410866482172, 0.24022650695910108, 0.6931471805599453, 1.0,
)  # 2**r, |r| <= 1/2
_EXP_DOUBLED = tuple(2.0 * c for c in _EXP)
_EXPM1 = (
    2.0898024570735315e-09, 2.510865606783514e-08, 2.7557315830425793e-07, 2.755724519605176e-06,
    2.4801587294753125e-05, 0.00019841269885351222, 0.0013888888888886832, 0.008333333333321775,
    0.04166666666666669, 0.16666666666666677, 0.5,
)  # (e**r - 1 - r) / r**2
_TANH = (
    5.102072567261387e-05, -0.0002103020719174395, 0.0005791372788586793, -0.0014532170023919824,
    0.0035917197797836952, -0.00886319451861103, 0.021869485976250106, -0.053968253876159174,
    0.13333333333168929, -0.33333333333332316,
)  # (tanh(x) - x) / x**3 in x**2, |x| <= 0.55
_SINH = (
    6.478680333318339e-15, 7.503184374853988e-13, 1.6061339866432714e-10, 2.5052089410222255e-08,
    2.7557319310093907e-06, 0.0001984126984106116, 0.008333333333333573, 0.16666666666666666,
)  # (sinh(x) - x) / x**3 in x**2, |x| <= 1
TWICE_ATANH = (
    0.15367205246039492, 0.15250322473378802, 0.1818634897655118, 0.22222138686062926,
    0.2857142939286079, 0.39999999996176494, 0.6666666666667268,
)  # (2 atanh(s) - 2 s) / s**3 in s**2, |s| <= 1/5


# --------------------------------------------------------------------------------- exponentials
def _reduce(x):
    """(r, k, t) with x = k ln2 + r; k in the low bits of t's pattern."""
    t = fma(x, LOG2_E, MAGIC)
    k = t - MAGIC
    return fma(k, -LN2_TAIL, fma(k, -LN2, x)), k, t


def exp_parts(x):
    """(2 e**r, k << 52) with x = k ln2 + r."""
    r, _, t = _reduce(x)
    return horner(r, _EXP_DOUBLED), bits(t) << 52


def exp_f64(x):
    return exp_nonpositive(select(x > 710.0, 710.0, x))


def exp_nonpositive(x):
    """exp without its upper end."""
    r, k, t = _reduce(select(x < -746.0, -746.0, x))
    return scale(horner(r, _EXP), t, k)


def exp2_sum(x, low):
    """2**(x + low) for a small rest `low`."""
    x = select(x > 1024.25, 1024.25, x)
    x = select(x < -1080.0, -1080.0, x)
    t = x + MAGIC
    k = t - MAGIC
    return scale(horner((x - k) + low, _EXP2), t, k)


def exp2_f64(x):
    return exp2_sum(x, 0.0)


def expm1_f64(x):
    y = select(x > 710.0, 710.0, x)
    y = select(y < -38.0, -38.0, y)
    r, _, t = _reduce(y)
    q = fma(r * r, horner(r, _EXPM1), r)
    half = from_bits((bits(t) << 52) + BIAS)  # 2**(k - 1), finite for k = 1024
    return select(fabs(x) < TINY, x, 2.0 * fma(half, q, half - 0.5))


def sigmoid_f64(x):
    e = exp_nonpositive(-fabs(x))
    top = select(x < 0.0, e, 1.0)
    return fma(-top, e / (1.0 + e), top)


def softplus_f64(x):
    e = exp_nonpositive(-fabs(x))
    far = e > 0.41421356237309503  # then 1 + e = 2 (1 + f)
    f = select(far, fma(0.5, e, -0.5), e)
    return select(x < 0.0, 0.0, x) + log_join(f, select(far, 1.0, 0.0))


# ---------------------------------------------------------------------------------- hyperbolics
def tanh_f64(x):
    size = fabs(x)
    twice = 2.0 * size
    double, k = exp_parts(select(twice > 40.0, 40.0, twice))  # tanh(20) rounds to 1
    large = 1.0 - 2.0 / fma(double, from_bits(k + BIAS), 1.0)
    z = x * x
    small = fma(size * z, horner(z, _TANH), size)
    return copysign(select(size < 0.55, small, large), x)


def _half_exp(size):
    """e**size / 2 for size >= 0: finite where sinh and cosh are."""
    double, k = exp_parts(select(size > 711.0, 711.0, size))
    return double * from_bits(k + _HALF_BIAS)


def sinh_f64(x):
    size = fabs(x)
    h = _half_exp(size)
    z = x * x
    small = fma(size * z, horner(z, _SINH), size)
    return copysign(select(size < 1.0, small, h - 0.25 / h), x)


def cosh_f64(x):
    h = _half_exp(fabs(x))
    return h + 0.25 / h


# ----------------------------------------------------------------------------------- logarithms
def split_normal(x):
    """(f, n, i) with x = (1 + f) * 2**n, for normal x > 0; i carries n in its exponent field."""
    i = bits(x) + (ONE_BITS - SQRT_HALF_BITS)
    n = from_bits(shift_right(i, 52) | INTEGER_BITS) - INTEGER_BIAS
    return from_bits((i & MANTISSA) + SQRT_HALF_BITS) - 1.0, n, i


def _log_parts(x):
    """(f, n) with x = (1 + f) * 2**n."""
    m, n = split(x)
    return m - 1.0, n


def _log_terms(f):
    """(f**2 / 2, s, q): log(1 + f) = f - (f**2 / 2 - s q), s = f / (2 + f)."""
    s = f / (2.0 + f)
    half_square = 0.5 * f * f
    z = s * s
    return half_square, s, half_square + z * horner(z, TWICE_ATANH)


def log_join(f, n):
    """log(1 + f) + n ln2."""
    half_square, s, q = _log_terms(f)
    return fma(n, LN2, f - (half_square - fma(s, q, n * LN2_TAIL)))


def log_f64(x):
    return log_join(*_log_parts(x))


def log2_f64(x):
    f, n = _log_parts(x)
    half_square, s, q = _log_terms(f)
    high = f - half_square
    low = fma(s, q, (f - high) - half_square)
    tail = fma(low, LOG2_E, high * LOG2_E_TAIL)
    return n + fma(high, LOG2_E, tail)


def log10_f64(x):
    f, n = _log_parts(x)
    half_square, s, q = _log_terms(f)
    high = f - half_square
    low = fma(s, q, (f - high) - half_square)
    tail = fma(low, LOG10_E, fma(high, LOG10_E_TAIL, n * LOG10_2_TAIL))
    return fma(n, LOG10_2, fma(high, LOG10_E, tail))


def log_sum(u, lost, more):
    """log(u + lost) + more ln2 for u > 2**-60 and a small rest `lost`, 0 where u > 2**60."""
    f, n, i = split_normal(u)
    up = from_bits(_TWO_BITS - ((i & ~MANTISSA) - ONE_BITS))  # 2**(1 - n)
    return log_join(fma(0.5 * lost, up, f), n + more)


def one_plus(x):
    """(u, lost): 1 + x = u + lost exactly (Knuth)."""
    u = 1.0 + x
    back = u - 1.0
    return u, (x - back) + (1.0 - (u - back))


def log1p_f64(x):
    u, lost = one_plus(x)
    y = log_sum(u, lost, 0.0)
    y = select(x > -1.0, select(x < INF, y, x), select(x == -1.0, -INF, NAN))
    return select(fabs(x) < TINY, x, y)
