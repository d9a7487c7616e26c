"""The error function, its complement and its inverse for float32, without branches.

In: a float32.  Out: the value of the function, at most 4 ulp off, down to the denormals of erfc.
Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import copysign, fabs, fma, from_bits, horner, select, sqrt
from autojit.backends.cpu.vecmath.exp32 import (
    BIAS,
    INF,
    NAN,
    ONE,
    TWO,
    ZERO,
    exp_nonpositive,
    exp_parts,
    floats,
    log_f32,
)

_ERF_SMALL = floats(
    -0.0006020797300152481, 0.004998959135264158, -0.026770493015646935, 0.11281921714544296,
    -0.3761250376701355, 0.12837915122509003,
)  # erf(x) / x - 1 in x**2, |x| <= 0.9
_ERF_LARGE = floats(
    -0.00019822013564407825, 0.0030654973816126585, -0.022315237671136856, 0.10411371290683746,
    0.6369760632514954, 1.127797245979309, 0.00016644809511490166,
)  # -log(1 - erf(x)), 0.9 <= x <= 4
_ERF_BORDER, _ERF_HIGH = floats(0.9, 4.0)  # erf(4) rounds to 1


def erf_f32(x):
    size = fabs(x)
    double, k = exp_parts(-horner(select(size > _ERF_HIGH, _ERF_HIGH, size), _ERF_LARGE))
    large = copysign(fma(-double, from_bits(k + BIAS), ONE), x)
    small = fma(x, horner(x * x, _ERF_SMALL), x)
    return select(size < _ERF_BORDER, small, large)


_ERFC = floats(
    -0.00031272435444407165, -0.0004677149700000882, 0.003068709746003151, -0.0012429357739165425,
    -0.02683689072728157, 0.11953428387641907, -0.3104662597179413, 0.5902277827262878,
    -0.8833944797515869, 1.0740069150924683,
)  # (x + 3) erfc(x) exp(x**2) in (x - 3) / (x + 3), 0 <= x <= 10.1
_ERFC_HIGH, _ERFC_BORDER, _THREE, _SIX = floats(10.5, 0.75, 3.0, 6.0)  # erfc(10.5) rounds to 0


def erfc_f32(x):
    size = fabs(x)
    a = select(size > _ERFC_HIGH, _ERFC_HIGH, size)
    square = a * a
    lost = fma(a, a, -square)
    total = a + _THREE
    u = ONE / total
    error = fma(-u, a - (total - _THREE), fma(-u, total, ONE))  # 1 / (a + 3) = u + u * error
    t = fma(-_SIX * u, error, fma(-_SIX, u, ONE))
    scaled = u * horner(t, _ERFC)
    tail = exp_nonpositive(-square) * fma(scaled, error - lost, scaled)
    inner = ONE - fma(x, horner(x * x, _ERF_SMALL), x)
    return select(size < _ERFC_BORDER, inner, select(x < ZERO, TWO - tail, tail))


_ERFINV = floats(
    2.8492571857441362e-08, 3.440321734160534e-07, -3.5280390875414014e-06, -4.4005009840475395e-06,
    0.00021859670232515782, -0.0012536939466372132, -0.004177693743258715, 0.24664071202278137,
    1.5014094114303589,
)  # erfinv(x) / x in w - 5/2, w = -log(1 - x**2) <= 5
_ERFINV_TAIL = floats(
    -0.0002067845343844965, 0.00010162925173062831, 0.0013620429672300816, -0.0036738310009241104,
    0.005731446202844381, -0.007622641045600176, 0.009440699592232704, 1.0016741752624512,
    2.832976818084717,
)  # the same in sqrt(w) - 3, 5 <= w <= 16
_FIVE, _MIDDLE = floats(5.0, 2.5)


def erfinv_f32(x):
    w = -log_f32(fma(-x, x, ONE))
    inner = horner(w - _MIDDLE, _ERFINV)
    outer = horner(sqrt(w) - _THREE, _ERFINV_TAIL)
    y = x * select(w < _FIVE, inner, outer)
    size = fabs(x)
    return select(size < ONE, y, select(size == ONE, copysign(INF, x), NAN))
