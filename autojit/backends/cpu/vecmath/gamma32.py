"""lgamma and digamma of float32, computed in float64 without branches.

In: a float32.  Out: the value of the function, at most 1 ulp off for x > 0; for x < 0, where both
have zeros between the poles, 1 ulp of the larger term of the reflection.  Never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import copysign, f4, f8, fabs, fma, horner, rint, select
from autojit.backends.cpu.vecmath.exp32 import INF, NAN, ONE, TWO, ZERO
from autojit.backends.cpu.vecmath.exp64 import INF as INF64
from autojit.backends.cpu.vecmath.exp64 import log_f64, log_join, split_normal
from autojit.backends.cpu.vecmath.gamma64 import (
    COS_PI,
    LOG_PI,
    LOG_SQRT_2_PI_LESS_HALF,
    PI,
    SIN_PI,
    STIRLING,
)

_ASYMPTOTIC = (
    0.061152035383225424, -0.02056780574273169, 0.0075690187266430195, -0.0041666180311598555,
    0.003968253777180453, -0.008333333332970289, 0.08333333333333309,
)  # (log(x) - 1 / (2 x) - digamma(x)) * x**2 in 1 / x**2, x >= 8


def _log(x):
    """log of a normal float64 > 1, Inf or NaN."""
    f, n, _ = split_normal(x)
    return select(x < INF64, log_join(f, n), x)


def _sin_pi(f):
    return f * horner(f * f, SIN_PI)


def lgamma_f32(x):
    a = f8(x)
    left = a < 0.5
    y = select(left, 1.0 - a, a)
    short = y < 8.0
    z = select(short, y + 8.0, y)
    inverse = 1.0 / z
    rest = horner(inverse * inverse, STIRLING) * inverse
    stirling = (z - 0.5) * (_log(z) - 1.0) + (LOG_SQRT_2_PI_LESS_HALF + rest)
    # gamma(y + 8) / gamma(y) = y (y + 1) ... (y + 7), in pairs of one sum
    w = y * (y + 7.0)
    ratio = select(short, (w * (w + 6.0)) * ((w + 10.0) * (w + 12.0)), 1.0)
    # gamma(a) gamma(1 - a) sin(pi a) = pi
    log = log_f64(ratio / select(left, fabs(_sin_pi(a - rint(a))), 1.0))
    result = f4(select(left, (LOG_PI - stirling) + log, stirling - log))
    result = select((x == ONE) | (x == TWO), ZERO, result)
    return select(fabs(x) == INF, INF, result)


def digamma_f32(x):
    a = f8(x)
    left = a < 0.0
    y = select(left, 1.0 - a, a)
    short = y < 8.0
    z = select(short, y + 8.0, y)
    inverse = 1.0 / z
    square = inverse * inverse
    far = _log(z) - (0.5 * inverse + square * horner(square, _ASYMPTOTIC))
    # 1 / y + ... + 1 / (y + 7) is the logarithmic derivative of y (y + 1) ... (y + 7)
    w = y * (y + 7.0)
    p, q = w * (w + 6.0), (w + 10.0) * (w + 12.0)
    slope = fma(2.0 * w + 6.0, q, p * (2.0 * w + 22.0)) * (2.0 * y + 7.0)
    far = far - select(short, slope / (p * q), 0.0)
    # digamma(a) = digamma(1 - a) - pi / tan(pi a)
    f = a - rint(a)
    mirrored = far - PI * horner(f * f, COS_PI) / _sin_pi(f)
    result = select(f == 0.0, NAN, f4(mirrored))
    result = select(left, result, f4(far))
    return select(x == ZERO, copysign(INF, -x), result)
