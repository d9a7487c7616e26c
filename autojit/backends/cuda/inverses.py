"""hypot and the inverse hyperbolics of float32 in float32 alone: what rounding loses is carried along.

In: values of `vecmath.core`, float32.  Out: the value of the function, at most 2 ulp off (libdevice's: 3 and 4), right at NaN,
Inf, -0 and denormals.  Never branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autojit.backends.cpu.vecmath.core import Value, bits, copysign, f4, fabs, fma, from_bits, i4, select, sqrt
from autojit.backends.cpu.vecmath.exp32 import HALF, INF, LN2, NAN, ONE, TINY, TWO, ZERO, floats, log_join

_LARGE, _SMALL = floats(2.0**60, 2.0**-40)
_UP, _DOWN, _FAR_UP, _FAR_DOWN = floats(2.0**70, 2.0**-70, 2.0**100, 2.0**-100)
_FAR = f4(2.0**28)                                        # asinh(x) = acosh(x) = log(2 x) from here on
_THREE_QUARTERS_BITS, _TWO_BITS = i4(0x3F400000), i4(128 << 23)


def _square(x: Value) -> tuple[Value, Value]:
    """x**2, and what it lost."""
    p = x * x
    return p, fma(x, x, -p)


def _sum(high: Value, low: Value) -> tuple[Value, Value]:
    """high + low for |high| >= |low|, and what it lost."""
    total = high + low
    return total, (high - total) + low


def _root(x: Value, more: Value) -> tuple[Value, Value]:
    """sqrt(x + more), and what it lost; of 0 it is 0."""
    s = sqrt(x)
    rest = (fma(-s, s, x) + more) / select(s > ZERO, TWO * s, ONE)
    return s, rest


def _log1p(h: Value, l: Value) -> Value:
    """log(1 + h + l) for h >= 0 and an l that h does not see."""
    u = ONE + h
    back = u - ONE
    lost = ((h - back) + (ONE - (u - back))) + l
    i = bits(u)
    e = (i - _THREE_QUARTERS_BITS) >> 23
    shift = e << 23
    f = fma(HALF * lost, from_bits(_TWO_BITS - shift), from_bits(i - shift) - ONE)
    return select(h < TINY, h + l, log_join(f, f4(e)))


def hypot_f32(x: Value, y: Value) -> Value:
    a, b = fabs(x), fabs(y)
    swap = b > a
    a, b = select(swap, b, a), select(swap, a, b)
    large, small = a > _LARGE, a < _SMALL
    scale = select(large, _DOWN, select(small, _FAR_UP, ONE))
    back = select(large, _UP, select(small, _FAR_DOWN, ONE))
    p, e = _square(a * scale)
    q, f = _square(b * scale)
    s, t = _sum(p, q)
    root, rest = _root(s, t + (e + f))
    result = (root + rest) * back
    return select((fabs(x) == INF) | (fabs(y) == INF), INF, result)


def atanh_f32(x: Value) -> Value:
    a = fabs(x)
    d = ONE - a
    lost = (ONE - d) - a
    q = TWO * a / d
    more = fma(-q, lost, fma(-q, d, TWO * a)) / d
    result = HALF * _log1p(q, more)
    result = select(a < ONE, result, select(a == ONE, INF, NAN))
    return copysign(select(a < TINY, a, result), x)


def asinh_f32(x: Value) -> Value:
    size = fabs(x)
    far = size > _FAR
    a = select(far, ONE, size)
    p, e = _square(a)
    t, lost = _sum(select(p > ONE, p, ONE), select(p > ONE, ONE, p))
    s, rest = _root(t, lost + e)
    d, under = _sum(s, ONE)                    # s >= 1
    under = under + rest
    w = p / d
    more = (fma(-w, d, p) + fma(-w, under, e)) / d        # a**2 / (1 + s)
    h, l = _sum(a, w)
    result = _log1p(select(far, size, h), select(far, ZERO, l + more)) + select(far, LN2, ZERO)
    result = select(size < INF, result, size)
    return copysign(select(size < f4(2.0**-12), fma(size * size, size * f4(-1 / 6), size), result), x)


def acosh_f32(x: Value) -> Value:
    far = x > _FAR
    a = select(far, TWO, x)
    p, e = _square(a)
    v, lost = _sum(p, -ONE)
    v, lost = _sum(v, lost + e)
    s, rest = _root(v, lost)
    t, under = _sum(a, -ONE)
    h, l = _sum(s, t)
    result = _log1p(select(far, x, h), select(far, ZERO, (l + rest) + under)) + select(far, LN2, ZERO)
    return select(x >= ONE, select(x < INF, result, x), NAN)


FUNCTIONS: dict[str, Callable[..., Any]] = {"hypot_f32": hypot_f32, "atanh_f32": atanh_f32, "asinh_f32": asinh_f32,
                                            "acosh_f32": acosh_f32}
