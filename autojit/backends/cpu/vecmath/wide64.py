"""float64 functions that need more than 53 bits on the way: pow, cbrt, hypot, inverse hyperbolics.

In: float64.  Out: pow (with every special case of C99) at most 1 ulp off, the others at most 2.
Values of twice the precision are pairs (high, low).  Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import (
    bits,
    copysign,
    fabs,
    floor,
    fma,
    from_bits,
    horner,
    select,
    sqrt,
    trunc,
)
from autojit.backends.cpu.vecmath.exp64 import (
    INF,
    LEAST_NORMAL,
    NAN,
    TWICE_ATANH,
    exp2_sum,
    log_sum,
    one_plus,
    split_normal,
)
from autojit.backends.cpu.vecmath.wide32 import exp2_short, log2_short

# log2((1 + s) / (1 - s)) = s * (_C1 + s**2 * (_C3 + s**2 * horner(s**2, _C5)))
_C1, _C1_TAIL = 2.8853900817779268, 4.0710547481862066e-17
_C3, _C3_TAIL = 0.9617966939259756, 5.0577616648125907e-17
_C5 = (
    0.19039993224920898, 0.19125368637130902, 0.22198405691644116, 0.26230769994071196,
    0.32059890228585913, 0.4121985830918787, 0.5770780163556181,
)


def _log2_pair(f):
    """log2(1 + f) as (high, low), about 2**-64 off."""
    total = 2.0 + f
    inverse = 1.0 / total
    s = f * inverse
    s_low = fma(-s, f - (total - 2.0), fma(-s, total, f)) * inverse
    z = s * s
    z_low = fma(s, s, -z) + 2.0 * s * s_low
    tail = z * horner(z, _C5)
    c = _C3 + tail
    c_low = ((_C3 - c) + tail) + _C3_TAIL
    p = z * c
    p_low = fma(z, c, -p) + fma(z, c_low, z_low * c)
    d = _C1 + p
    d_low = ((_C1 - d) + p) + (p_low + _C1_TAIL)
    high = s * d
    return high, fma(s, d, -high) + fma(s, d_low, s_low * d)


def pow_f64(x, y):
    size = fabs(x)
    tiny = size < LEAST_NORMAL
    f, n, _ = split_normal(select(tiny, size * 2.0**52, size))
    n = n - select(tiny, 52.0, 0.0)
    high, low = _log2_pair(f)
    log = n + high
    low = ((n - log) + high) + low
    log = select(size < INF, log, size)
    log = select(size == 0.0, -INF, log)
    power = y * log
    low = fma(y, log, -power) + y * low
    # pow(1, y) and pow(x, 0) are 1 whatever the other is, NaN too.
    power = select((size == 1.0) | (y == 0.0), 0.0, power)
    result = exp2_sum(power, select((fabs(power) < 2000.0) & (power != 0.0), low, 0.0))
    half = 0.5 * y
    whole = trunc(y) == y
    odd = whole & (floor(half) != half)
    result = select(odd, copysign(result, x), result)
    return select((x < 0.0) & (x > -INF) & (~whole), NAN, result)


def rsqrt_f64(x):
    return 1.0 / sqrt(x)


_THIRD = 1.0 / 3.0


def cbrt_f64(x):
    size = fabs(x)
    small, large = size < 1e-200, size > 1e200
    a = size * select(small, 2.0**300, select(large, 2.0**-300, 1.0))
    y = exp2_short(log2_short(a) * _THIRD)  # 33 good bits; one step of Newton's method follows
    square = y * y
    cube = square * y
    lost = fma(square, y, -cube) + fma(y, y, -square) * y
    y = fma((a - cube) - lost, _THIRD / square, y)
    y = y * select(small, 2.0**-100, select(large, 2.0**100, 1.0))
    return copysign(select((size > 0.0) & (size < INF), y, size), x)


_EXPONENT, _EXPONENT_HIGH, _EXPONENT_LOW = 0x7FF << 52, 2000 << 52, 1 << 52
_TWICE_BIAS = 2046 << 52


def hypot_f64(x, y):
    a, b = fabs(x), fabs(y)
    exponent = bits(select(a > b, a, b)) & _EXPONENT
    exponent = select(exponent > _EXPONENT_HIGH, _EXPONENT_HIGH, exponent)
    exponent = select(exponent < _EXPONENT_LOW, _EXPONENT_LOW, exponent)
    down = from_bits(_TWICE_BIAS - exponent)
    p, q = a * down, b * down
    result = sqrt(fma(p, p, q * q)) * from_bits(exponent)
    return select((a == INF) | (b == INF), INF, result)


# --------------------------------------------------------------------------- inverse hyperbolics
_LARGE = 2.0**28  # beyond it asinh(x) and acosh(x) round to log(2 x)


def _log1p_or_log_twice(t, low, large, x):
    """log(1 + t + low), or log(2 x) where x is large."""
    u, lost = one_plus(t)
    return log_sum(select(large, x, u), select(large, 0.0, lost + low), select(large, 1.0, 0.0))


def asinh_f64(x):
    size = fabs(x)
    a = select(size > _LARGE, _LARGE, size)
    square = a * a
    t = a + square / (1.0 + sqrt(1.0 + square))
    y = _log1p_or_log_twice(t, 0.0, size > _LARGE, size)
    return copysign(select((size > 2.0**-28) & (size < INF), y, size), x)


def acosh_f64(x):
    t = select(x > _LARGE, _LARGE, x) - 1.0
    square = fma(t, t, 2.0 * t)
    lost = fma(t, t, 2.0 * t - square)
    root = sqrt(square)
    lost = 0.5 * (fma(-root, root, square) + lost) / select(root > 0.0, root, 1.0)
    total = root + t
    y = _log1p_or_log_twice(total, (root - total) + t + lost, x > _LARGE, x)
    return select(x >= 1.0, select(x < INF, y, x), NAN)


def atanh_f64(x):
    size = fabs(x)
    z = x * x
    inner = fma(size * z, 0.5 * horner(z, TWICE_ATANH), size)
    # log((1 + a) / (1 - a)) = log(1 + 2 a / (1 - a))
    a = select(size < 1.0, size, 0.0)
    rest = 1.0 - a
    inverse = 1.0 / rest
    t = 2.0 * a * inverse
    low = fma(-t, (1.0 - rest) - a, fma(-t, rest, 2.0 * a)) * inverse
    u, lost = one_plus(t)
    outer = 0.5 * log_sum(u, lost + low, 0.0)
    y = select(size < 0.171, inner, outer)
    return copysign(select(size < 1.0, y, select(size == 1.0, INF, NAN)), x)
