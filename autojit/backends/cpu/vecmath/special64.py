"""The error function, its complement and its inverse for float64, without branches.

In: a float64.  Out: the value of the function, at most 4 ulp off, down to the denormals of erfc.
Never branches, never calls libm.
"""

from __future__ import annotations

from autojit.backends.cpu.vecmath.core import copysign, fabs, fma, horner, select, sqrt
from autojit.backends.cpu.vecmath.exp64 import INF, NAN, exp_f64, exp_nonpositive, log_f64

_ERF_SMALL = (
    7.884379888655434e-10, 1.3766365240491773e-08, 1.621875999866148e-07, 1.6448678499804701e-06,
    1.4924827673089099e-05, 0.00012055298786976266, 0.0008548326063633676, 0.005223977607689883,
    0.026866170643085188, 0.11283791670942114, 0.3761263890318341, 0.12837916709551256,
)  # erf(x) / x - 1 in -x**2, |x| <= 1
_ERF_LARGE = (
    6.361870698029265e-12, -3.186463014809345e-10, 7.536838686765724e-09, -1.1212297852076911e-07,
    1.1792380006543777e-06, -9.347812246318484e-06, 5.817586559594046e-05, -0.0002925835799453739,
    0.0012160304742427088, -0.004255929370901948, 0.012757963005690152, -0.03328682518539776,
    0.0767339364628283, -0.15830916686634625, 0.29482388614129207, -0.49654475850976243,
    0.7507765748420466, -0.9995550692833848, 1.128294940003864, -0.9999924766829582,
)  # -erfc(x) exp(x**2), 1 <= x <= 6, as exact as erf wants it
_ERFC = (
    -3.895955017757875e-09, -1.6393051816835223e-08, 1.1420453941745893e-08, 1.3166456322055183e-07,
    -8.686249650509967e-08, -8.575541548009e-07, 1.4305391790650045e-06, 4.7030213866543e-06,
    -1.8862794242625485e-05, -3.6390180144128216e-06, 0.0001768130766380326, -0.000455051622561592,
    -0.00028095885976517533, 0.006112055476101097, -0.026370053346247518, 0.07638151492696586,
    -0.17401093723932726, 0.3308515878771198, -0.540853831313255, 0.7732087022652547,
    -0.9765487290808819, 1.095995661000491,
)  # (x + 4) erfc(x) exp(x**2) in (x - 4) / (x + 4), 0 <= x <= 27.3


def _erf_inner(x):
    """erf for |x| <= 1."""
    return fma(x, horner(x * -x, _ERF_SMALL), x)


def _erfc_outer(size):
    """(erfc(size), exp(-size**2)) for size >= 0."""
    a = select(size > 27.5, 27.5, size)  # erfc(27.5) rounds to 0
    square = a * a
    lost = fma(a, a, -square)
    total = a + 4.0
    u = 1.0 / total
    error = fma(-u, a - (total - 4.0), fma(-u, total, 1.0))  # 1 / (a + 4) = u + u * error
    t = fma(-8.0 * u, error, fma(-8.0, u, 1.0))
    scaled = u * horner(t, _ERFC)
    e = exp_nonpositive(-square)
    return e * fma(scaled, error - lost, scaled), e


def erf_f64(x):
    """By exp(x * -x), as in float32."""
    size = fabs(x)
    scaled = horner(select(size > 6.0, 6.0, size), _ERF_LARGE)  # erf(6) rounds to 1
    large = copysign(fma(exp_f64(x * -x), scaled, 1.0), x)
    return select(size < 1.0, _erf_inner(x), large)


def erfc_f64(x):
    size = fabs(x)
    tail, _ = _erfc_outer(size)
    return select(size < 0.75, 1.0 - _erf_inner(x), select(x < 0.0, 2.0 - tail, tail))


_ERFINV = (
    2.8535122798408018e-08, 3.437259842624216e-07, -3.528864361388747e-06, -4.396768805704161e-06,
    0.00021860221946153288, -0.0012537075601461967, -0.004177707806613794, 0.24664072617113766,
    1.5014094216306448,
)  # erfinv(x) / x to 23 bits, in w - 5/2, w = -log(1 - x**2) <= 5
_ERFINV_TAIL = (
    -1.5540089060466099e-06, -5.068776581437459e-07, 3.397863314213137e-05, -7.361786839641497e-05,
    3.2900787360283167e-05, -4.6682481001267094e-05, 0.00033824652668611676, -0.0009169173636574623,
    0.001253516211477025, 1.0095020970256194, 3.839784298790816,
)  # the same to 21 bits, in sqrt(w) - 4, 5 <= w <= 37
_HALF_SQRT_PI = 0.886226925452758


def erfinv_f64(x):
    size = fabs(x)
    w = -log_f64(fma(-x, x, 1.0))
    y = size * select(w < 5.0, horner(w - 2.5, _ERFINV), horner(sqrt(w) - 4.0, _ERFINV_TAIL))
    # One step of third order on erf(y) - |x|, written with erfc where that is exacter.
    tail, e = _erfc_outer(y)
    miss = select(y < 0.75, _erf_inner(y) - size, (1.0 - size) - tail)
    step = miss * _HALF_SQRT_PI / e
    y = y - fma(-step * y, step, step)
    y = select(size < 1.0, y, select(size == 1.0, INF, NAN))
    return copysign(y, x)
