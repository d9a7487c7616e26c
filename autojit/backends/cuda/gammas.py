"""lgamma and digamma of float32 in float32 alone.

In: values of `vecmath.core`, float32.  Out: the value of the function, at most 4 ulp off for x > 0; for x < 0, where both have
zeros between the poles, 4 ulp of the larger term of the reflection.  Never branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autojit.backends.cpu.vecmath.core import Value, bits, copysign, fabs, fma, horner, rint, select
from autojit.backends.cpu.vecmath.exp32 import HALF, INF, MAGIC, NAN, ONE, TWO, ZERO, floats, log_f32
from autojit.backends.cpu.vecmath.trig32 import PI, PI_TAIL, slope, wave

_LOW = floats(
    -0.08048998564481735, 0.08580279350280762, -0.021451346576213837, 0.023826630786061287, -0.050937265157699585,
    0.0561494417488575, -0.05846845731139183, 0.06640417873859406, -0.07733137160539627, 0.09225297719240189,
    -0.11514633148908615, 0.1554340422153473, -0.2452513724565506, 0.5772156715393066,
)  # lgamma(x) / ((x - 1) (x - 2)) in x - 1, 1/2 <= x <= 3/2
_HIGH = floats(
    1.5139133211050648e-05, -3.6916429962730035e-05, 6.73598115099594e-05, -0.00016849815438035876,
    0.0004412028065416962, -0.0011423019459471107, 0.003041063202545047, -0.008463891223073006, 0.02526835724711418,
    -0.08588085323572159, 0.399589478969574,
)  # the same in x - 9/4, 3/2 <= x <= 3
_STIRLING = floats(1 / 1260, -1 / 360, 1 / 12)            # in 1 / x**2, times 1 / x, x >= 8
_NEAR = floats(
    -0.0159063171595335, 0.02390907146036625, -0.02604888193309307, 0.03936941921710968, -0.06200706958770752,
    0.09511622041463852, -0.14840224385261536, 0.24053844809532166, -0.42362743616104126, 0.9510558843612671,
)  # digamma(x) / (x - x0) in x - 3/2, 1 <= x <= 2
_MIDDLE = floats(
    -8.078103746811394e-06, 2.4576427676947787e-05, -5.295732626109384e-05, 0.00016412137483712286,
    -0.0005378175410442054, 0.0017212062375620008, -0.005677566863596439, 0.01982266455888748, -0.07705691456794739,
    0.3949340879917145, 0.9227843284606934,
)  # digamma(x) in x - 3, 2 <= x <= 4
_FAR = floats(1 / 240, -1 / 252, 1 / 120, -1 / 12)        # in 1 / x**2, times 1 / x**2, x >= 4
_ROOT, _ROOT_TAIL = floats(1.4616321325302124, 1.2438149938918909e-08)  # digamma's zero
_LOG_PI, _LOG_SQRT_2_PI_LESS_HALF = floats(1.1447298858494002, 0.4189385332046727)
_THREE_HALVES, _NINE_QUARTERS, _THREE, _FOUR, _EIGHT = floats(1.5, 2.25, 3.0, 4.0, 8.0)
_MOST_STEPS = 5                                           # from 8 below 3


def _part(x: Value) -> tuple[Value, Value, Value, Value]:
    """(f, r, rest, n): f is x less the nearest whole number, pi f = r + rest + n pi/2; n in the low bits."""
    f = x - rint(x)
    t = TWO * f + MAGIC
    g = f - HALF * (t - MAGIC)
    r = PI * g
    return f, r, fma(PI, g, -r) + PI_TAIL * g, bits(t)


def lgamma_f32(x: Value) -> Value:
    left = x < ZERO
    y = select(left, ONE - x, x)
    small, large = y < HALF, y >= _EIGHT
    z, product = y, select(small, y, ONE)
    for _ in range(_MOST_STEPS):                          # lgamma(y) = lgamma(y - 1) + log(y - 1)
        far = z >= _THREE
        z = select(far, z - ONE, z)
        product = select(far, product * z, product)
    log = log_f32(select(large, y, product))
    first = select(small, y, z - ONE)                     # lgamma(y) = lgamma(y + 1) - log(y)
    second = select(small, y - ONE, z - TWO)
    fitted = select(small | (z < _THREE_HALVES), horner(first, _LOW), horner(z - _NINE_QUARTERS, _HIGH))
    near = fma(first * second, fitted, select(small, -log, log))
    inverse = ONE / y
    rest = fma(horner(inverse * inverse, _STIRLING), inverse, _LOG_SQRT_2_PI_LESS_HALF)
    result = select(large, fma(y - HALF, log - ONE, rest), near)
    f, r, _, n = _part(x)
    mirrored = (_LOG_PI - log_f32(fabs(wave(r, n)))) - result
    mirrored = select(f == ZERO, INF, mirrored)
    return select(fabs(x) == INF, INF, select(left, mirrored, result))


def digamma_f32(x: Value) -> Value:
    left = x < ZERO
    y = select(left, ONE - x, x)
    small = y < ONE
    z = select(small, y + ONE, y)
    inverse = ONE / y
    near = ((z - _ROOT) - _ROOT_TAIL) * horner(z - _THREE_HALVES, _NEAR)
    near = near - select(small, inverse, ZERO)            # digamma(y) = digamma(y + 1) - 1 / y
    square = inverse * inverse
    far = log_f32(y) + fma(square, horner(square, _FAR), -HALF * inverse)
    result = select(y < TWO, near, select(y < _FOUR, horner(y - _THREE, _MIDDLE), far))
    f, r, rest, n = _part(x)
    mirrored = select(f == ZERO, NAN, result - PI / slope(r, rest, n))
    result = select(left, mirrored, result)
    return select(x == ZERO, copysign(INF, -x), result)


FUNCTIONS: dict[str, Callable[..., Any]] = {"lgamma_f32": lgamma_f32, "digamma_f32": digamma_f32}
