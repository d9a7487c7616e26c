"""Exponentials, logarithms and hyperbolics of float32, without branches.

In: a float32.  Out: the value of the function, at most 2 ulp off, right at NaN, Inf, -0 and
denormals.  Never branches, never calls libm.

Coefficients are minimax fits of the named remainder, highest power first (perf/vecmath_fit.py).
"""

from __future__ import annotations

from typing import Any

from autojit.backends.cpu.vecmath.core import (
    bits,
    copysign,
    f4,
    fabs,
    fma,
    from_bits,
    horner,
    i4,
    select,
)
from autojit.backends.cpu.vecmath.powers import scale, split


def floats(*values: float) -> tuple[Any, ...]:
    """float32 constants."""
    return tuple(map(f4, values))


ZERO, HALF, ONE, TWO = floats(0.0, 0.5, 1.0, 2.0)
INF, NAN = floats(float("inf"), float("nan"))
# Adding 1.5 * 2**23 rounds to an integer and leaves it in the low bits of the pattern.
MAGIC = f4(12582912.0)
LOG2_E, LN2, LN2_TAIL = floats(1.442695, 0.6931472, -1.9046542e-09)
LOG2_E_TAIL = f4(1.925963e-08)
LOG10_E, LOG10_E_TAIL = floats(0.4342945, -1.010305e-08)
LOG10_2, LOG10_2_TAIL = floats(0.3010299801826477, 1.5481333548450493e-08)
TINY = f4(2.0**-25)

BIAS = i4(126 << 23)  # the exponential's polynomials are doubled: e**x = (2 p) * 2**(k - 1)
_THREE_QUARTERS_BITS = i4(0x3F400000)
_TWO_BITS = i4(128 << 23)

_EXP = floats(
    0.0014035608619451523, 0.008372287265956402, 0.04166555032134056, 0.16666488349437714, 0.5, 1, 1
)  # e**r, |r| <= ln2/2
_EXP2 = floats(
    0.00015326471475418657, 0.0013390806270763278, 0.009618505835533142, 0.05550359934568405,
    0.24022647738456726, 0.6931471824645996, 1.0,
)  # 2**r, |r| <= 1/2
_EXP_DOUBLED = tuple(TWO * c for c in _EXP)
_EXPM1 = floats(
    0.0013897845055907965, 0.008365971967577934, 0.04166685789823532, 0.16666549444198608, 0.5
)  # (e**r - 1 - r) / r**2
_LOG = floats(
    0.05560334771871567, -0.12114718556404114, 0.1490447074174881, -0.16788719594478607,
    0.1998230218887329, -0.249963641166687, 0.33333471417427063, -0.5,
)  # (log(1 + f) - f) / f**2, 3/4 <= 1 + f < 3/2
_LOG_LONG = floats(
    -0.07641845941543579, 0.12765374779701233, -0.13159087300300598, 0.14201146364212036,
    -0.16623421013355255, 0.20001256465911865, -0.2500081956386566, 0.3333333134651184, -0.5,
)  # the same for sqrt(1/2) <= 1 + f < sqrt(2), a term more
_LOG2 = floats(
    -0.06528345495462418, 0.15120048820972443, -0.18989039957523346, 0.2088325023651123,
    -0.2401617020368576, 0.2884100079536438, -0.3606756925582886, 0.48089995980262756,
    -0.7213475108146667,
)  # (log2(1 + f) - f / ln2) / f**2
_LOG10 = floats(
    0.023521535098552704, -0.05241131782531738, 0.06506748497486115, -0.07305804640054703,
    0.08675995469093323, -0.10854537785053253, 0.14476574957370758, -0.21714749932289124,
)  # (log10(1 + f) - f / ln10) / f**2
_SINH = floats(
    2.782228648356977e-06, 0.0001984289410756901, 0.00833331048488617, 0.1666666716337204
)  # (sinh(x) - x) / x**3 in x**2, |x| <= 1


# --------------------------------------------------------------------------------- exponentials
def _reduce(x):
    """(r, k, t) with x = k ln2 + r; k in the low bits of t's pattern."""
    t = fma(x, LOG2_E, MAGIC)
    k = t - MAGIC
    return fma(k, -LN2_TAIL, fma(k, -LN2, x)), k, t


def exp_parts(x):
    """(2 e**r, k << 23) with x = k ln2 + r."""
    r, _, t = _reduce(x)
    return horner(r, _EXP_DOUBLED), bits(t) << 23


_EXP_HIGH, _EXP_LOW = floats(89.0, -104.0)


def exp_f32(x):
    return exp_nonpositive(select(x > _EXP_HIGH, _EXP_HIGH, x))


def exp_nonpositive(x):
    """exp without its upper end."""
    r, k, t = _reduce(select(x < _EXP_LOW, _EXP_LOW, x))
    return scale(horner(r, _EXP), t, k)


_EXP2_HIGH, _EXP2_LOW = floats(128.25, -150.5)


def exp2_f32(x):
    x = select(x > _EXP2_HIGH, _EXP2_HIGH, x)
    x = select(x < _EXP2_LOW, _EXP2_LOW, x)
    t = x + MAGIC
    k = t - MAGIC
    return scale(horner(x - k, _EXP2), t, k)


def _expm1_parts(x):
    """(e**r - 1, k << 23) with x = k ln2 + r."""
    r, _, t = _reduce(x)
    return fma(r * r, horner(r, _EXPM1), r), bits(t) << 23


_EXPM1_LOW = f4(-18.0)


def expm1_f32(x):
    y = select(x > _EXP_HIGH, _EXP_HIGH, x)
    y = select(y < _EXPM1_LOW, _EXPM1_LOW, y)
    q, k = _expm1_parts(y)
    half = from_bits(k + BIAS)  # 2**(k - 1), finite for k = 128
    return select(fabs(x) < TINY, x, TWO * fma(half, q, half - HALF))


def sigmoid_f32(x):
    e = exp_nonpositive(-fabs(x))
    top = select(x < ZERO, e, ONE)
    return fma(-top, e / (ONE + e), top)


_SQRT_2_LESS_1 = f4(0.41421357)


def softplus_f32(x):
    e = exp_nonpositive(-fabs(x))
    far = e > _SQRT_2_LESS_1  # then 1 + e = 2 (1 + f)
    f = select(far, fma(HALF, e, -HALF), e)
    rest = fma(f * f, horner(f, _LOG_LONG), select(far, LN2_TAIL, ZERO))
    return select(x < ZERO, ZERO, x) + (select(far, LN2, ZERO) + (f + rest))


# ---------------------------------------------------------------------------------- hyperbolics
_TANH_HIGH, _TANH_LOW = floats(18.1, 0.55)  # the former is twice the least x whose tanh is 1
_TANH = floats(
    0.016437973827123642, -0.052672091871500015, 0.133207306265831, -0.3333294689655304
)  # (tanh(x) - x) / x**3 in x**2, |x| <= 0.55


def tanh_f32(x):
    size = fabs(x)
    twice = TWO * size
    double, k = exp_parts(select(twice > _TANH_HIGH, _TANH_HIGH, twice))
    large = ONE - TWO / fma(double, from_bits(k + BIAS), ONE)
    z = x * x
    small = fma(size * z, horner(z, _TANH), size)
    return copysign(select(size < _TANH_LOW, small, large), x)


_SINH_HIGH, _QUARTER = floats(90.0, 0.25)
_HALF_BIAS = i4(125 << 23)


def _half_exp(size):
    """e**size / 2 for size >= 0: finite where sinh and cosh are."""
    double, k = exp_parts(select(size > _SINH_HIGH, _SINH_HIGH, size))
    return double * from_bits(k + _HALF_BIAS)


def sinh_f32(x):
    size = fabs(x)
    h = _half_exp(size)
    z = x * x
    small = fma(size * z, horner(z, _SINH), size)
    return copysign(select(size < ONE, small, h - _QUARTER / h), x)


def cosh_f32(x):
    h = _half_exp(fabs(x))
    return h + _QUARTER / h


# ----------------------------------------------------------------------------------- logarithms
# ln2 and log10(2), cut so that the tails have their sign: n is Inf at the ends
_LOG_2, _LOG_2_TAIL = floats(0.6931471228599548, 5.769998878690785e-08)


def _log_parts(x):
    """(f, n) with x = (1 + f) * 2**n."""
    m, n = split(x)
    return m - ONE, n


def log_join(f, n):
    return fma(n, _LOG_2, f + fma(f * f, horner(f, _LOG), n * _LOG_2_TAIL))


def log_f32(x):
    return log_join(*_log_parts(x))


def log2_f32(x):
    f, n = _log_parts(x)
    return n + fma(f, LOG2_E, f * fma(f, horner(f, _LOG2), LOG2_E_TAIL))


def log10_f32(x):
    f, n = _log_parts(x)
    tail = fma(n, LOG10_2_TAIL, f * fma(f, horner(f, _LOG10), LOG10_E_TAIL))
    return fma(n, LOG10_2, fma(f, LOG10_E, tail))


def log1p_f32(x):
    u = ONE + x
    back = u - ONE
    lost = (x - back) + (ONE - (u - back))
    i = bits(u)
    e = (i - _THREE_QUARTERS_BITS) >> 23
    shift = e << 23
    f = fma(HALF * lost, from_bits(_TWO_BITS - shift), from_bits(i - shift) - ONE)
    y = select(x < INF, log_join(f, f4(e)), x)
    y = select(x > -ONE, y, select(x == -ONE, -INF, NAN))
    return select(fabs(x) < TINY, x, y)
