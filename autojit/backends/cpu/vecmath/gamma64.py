"""lgamma and digamma of float64, without branches.

In: a float64.  Out: the value of the function, at most 4 ulp off for x > 0; for x < 0, where both
have zeros between the poles, 4 ulp of the larger term of the reflection.  Never calls libm.
"""

from __future__ import annotations

from typing import Any

from autojit.backends.cpu.vecmath.core import fabs, floor, horner, select
from autojit.backends.cpu.vecmath.exp64 import INF, NAN, log_f64

PI, LOG_PI = 3.141592653589793, 1.1447298858494002
LOG_SQRT_2_PI_LESS_HALF = 0.4189385332046727  # log(2 pi) / 2 - 1/2
SIN_PI = (
    5.565275919937723e-07, -2.1687341985754125e-05, 0.00046621062963870445, -0.007370411296453789,
    0.0821458842738125, -0.5992645291688872, 2.550164039872466, -5.16771278004991, 3.141592653589793,
)  # sin(pi f) / f in f**2, |f| <= 1/2
COS_PI = (
    4.147352005721995e-06, -0.00010456457025046422, 0.0019295555759332248, -0.025806888617290493,
    0.23533063011953226, -1.3352627688431515, 4.058712126416504, -4.934802200544677, 1.0,
)  # cos(pi f) in f**2

_NEAR_1 = (
    0.012184879387448732, -0.03501588600125829, 0.04702743216707186, -0.04744923311093132,
    0.049478913873341385, -0.05360053625565135, 0.05623841649984646, -0.05873018319935696,
    0.06234236202914788, -0.06665634271755834, 0.07144953100567222, -0.07693537789546577,
    0.08335291078050998, -0.09095379435278282, 0.10009948625885534, -0.11133427471824851,
    0.1255096690629788, -0.14404989658213968, 0.16955717700056927, -0.20738555103060177,
    0.270580808427781, -0.4006856343865238, 0.8224670334241132, -0.5772156649015329,
)  # lgamma(1 + t) / t, -0.3 <= t <= 0.5
_NEAR_2 = (
    -6.34567678469614e-08, 2.581942197834277e-07, -5.172595998671266e-07, 9.4098053052634e-07,
    -2.000323771542596e-06, 4.375995433722349e-06, -9.450824003047616e-06, 2.0507494134633397e-05,
    -4.4924348166290996e-05, 9.945743993444234e-05, -0.00022315494186919346, 0.0005096695313569049,
    -0.0011927539017214642, 0.0028905103304744154, -0.007385551028946243, 0.02058080842778876,
    -0.06735230105319523, 0.3224670334241132, 0.42278433509846713,
)  # lgamma(2 + t) / t, |t| <= 1/2
STIRLING = (
    0.004930453085991161, -0.0018834496394381495, 0.000841333713548381, -0.0005952353022143403,
    0.0007936507839719613, -0.002777777777763391, 0.08333333333333333,
)  # (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi) / 2) * x in 1 / x**2, x >= 8


def _sine(part):
    """sin(pi part) for 0 <= part <= 1/2."""
    return part * horner(part * part, SIN_PI)


def _lgamma_positive(x):
    """lgamma for x > 0: by polynomials around 1 and 2, between them and 8 after steps down, beyond by Stirling's series."""
    low, near_1, large = x < 0.7, x < 1.5, x >= 8.0
    y: Any = x
    product: Any = 1.0
    for _ in range(6):
        far = y > 2.5
        y = select(far, y - 1.0, y)
        product = product * select(far, y, 1.0)
    # gamma(x) = gamma(x + 1) / x below 0.7
    z = select(x < 0.5, x, x - 1.0)
    around_1 = select(x < 2.0**-60, -0.0, z * horner(z, _NEAR_1))
    z = select(low, x, y - 1.0) - 1.0
    around_2 = z * horner(z, _NEAR_2)
    near = select(near_1 & ((x < 0.5) | (x >= 0.7)), around_1, around_2)
    log = log_f64(select(low | large, x, select(near_1, 1.0, product)))
    near = near + select(low, -log, log)  # 0 at 1 and 2, not -0
    rest = horner(1.0 / (x * x), STIRLING) / x
    return select(large, (x - 0.5) * (log - 1.0) + (LOG_SQRT_2_PI_LESS_HALF + rest), near)


def lgamma_f64(x):
    size = fabs(x)
    y = _lgamma_positive(size)
    # gamma(x) gamma(1 - x) sin(pi x) = pi
    part = size - floor(size)
    whole = ~(part > 0.0)
    part = select(part < 0.5, part, 1.0 - part)
    mirrored = LOG_PI - log_f64(_sine(part) * size) - y
    mirrored = select(size < 2.0**-60, y, select(whole, INF, mirrored))
    return select(size < INF, select(x > 0.0, y, mirrored), size)


_ROOT, _ROOT_TAIL = 1.4616321449683622, 9.549995429965697e-17  # digamma's only positive zero
_DIGAMMA = (
    -0.0001891390580967806, 0.00029664208782526937, -0.00013180650877374608, 0.00018156803513884147,
    -0.0004924573937146086, 0.0007472782903537612, -0.001034682993334315, 0.0015496862928441643,
    -0.0023457805709673446, 0.003520221476779164, -0.005279909916002883, 0.0079268133406532,
    -0.011908221573512824, 0.017907261057465172, -0.026975796623389742, 0.04076083348845793,
    -0.061922133275554604, 0.0949887244611042, -0.1484049230538909, 0.24054248424072894,
    -0.4236274212814605, 0.951055876031833,
)  # digamma(x) / (x - root) in x - 3/2, 1 <= x <= 2
_ASYMPTOTIC = (
    0.0671189484511032, -0.020824488521553552, 0.007573380932198641, -0.00416665489652972,
    0.003968253936623856, -0.00833333333329232, 0.08333333333333331,
)  # (log(x) - 1 / (2 x) - digamma(x)) * x**2 in 1 / x**2, x >= 10


def _digamma_small(x):
    """digamma for 0 < x < 10: down to [1, 2], two steps at once."""
    total: Any = 0.0
    for _ in range(4):
        first, second = x > 2.0, x > 3.0
        a, b = x - 1.0, x - 2.0
        above = select(first, select(second, a + b, 1.0), 0.0)
        total = above / select(second, a * b, select(first, a, 1.0)) + total
        x = select(second, b, select(first, a, x))
    below = x < 1.0
    total = select(below, -1.0 / x, total)
    # x + 1 - root, without rounding x + 1
    away = x - select(below, _ROOT - 1.0, _ROOT) - _ROOT_TAIL
    return total + away * horner(x - select(below, 0.5, 1.5), _DIGAMMA)


def _digamma_positive(x):
    inverse = 1.0 / x
    square = inverse * inverse
    large = log_f64(x) - (0.5 * inverse + square * horner(square, _ASYMPTOTIC))
    return select(x < 10.0, _digamma_small(x), large)


def digamma_f64(x):
    left = x < 0.0
    size = fabs(x)
    y = _digamma_positive(select(left, 1.0 + size, size))
    # digamma(x) = digamma(1 - x) - pi / tan(pi x)
    part = size - floor(size)
    whole = ~(part > 0.0)
    part = select(part < 0.5, part, part - 1.0)
    mirrored = y + PI * horner(part * part, COS_PI) / _sine(part)
    y = select(left, select(whole, NAN, mirrored), y)
    y = select(x == 0.0, -1.0 / x, y)
    return select(x < INF, y, x)
