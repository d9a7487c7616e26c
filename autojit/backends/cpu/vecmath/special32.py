"""The error function, its complement and its inverse for float32, without branches.

In: a float32.  Out: the value of the function, at most 4 ulp off, down to the denormals of erfc.
Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import copysign, f4, fabs, fma, horner, select, sqrt
from autojit.backends.cpu.vecmath.exp32 import (
    INF,
    NAN,
    ONE,
    TWO,
    ZERO,
    exp_f32,
    exp_nonpositive,
    floats,
    log_f32,
)

_ERF_SMALL = floats(
    0.000561912078410387, 0.004914787132292986, 0.026709159836173058, 0.11280112713575363,
    0.37612318992614746, 0.12837912142276764,
)  # erf(x) / x - 1 in -x**2, |x| <= 1
_ERF_LARGE = floats(
    0.00039378090878017247, -0.006065657362341881, 0.04131156578660011, -0.16501478850841522,
    0.43313315510749817, -0.7940024137496948, 1.0489521026611328, -0.9862912893295288,
)  # -erfc(x) exp(x**2), 1 <= x <= 4, as exact as erf wants it
_ERF_HIGH = f4(4.0)  # erf(4) rounds to 1


def erf_f32(x):
    """By exp(x * -x), which is how LLVM writes the exponential in the derivative: a kernel with both computes it once."""
    size = fabs(x)
    square = x * -x
    scaled = horner(select(size > _ERF_HIGH, _ERF_HIGH, size), _ERF_LARGE)
    large = copysign(fma(exp_f32(square), scaled, ONE), x)
    small = fma(x, horner(square, _ERF_SMALL), x)
    return select(size < ONE, small, large)


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
    inner = ONE - fma(x, horner(x * -x, _ERF_SMALL), x)
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
