"""Functions of complex numbers, spelled in their parts: exponentials, logarithms, roots, powers, circular and hyperbolic ones.

In: complex nodes (through `FORMS`, which primitives look up).  Out: nodes.  Principal values, with cuts where NumPy and C99
have them; -0.0 counts at a cut.  Each form has finite derivatives of any order wherever the function has.
"""

from __future__ import annotations

import math

import numpy as np

from ..ir.graph import Node
from .complexes import conj, form, im, magnitude, mul, number, pair, re, reciprocal, times_i
from .declare import FORMS, P, zeros_like
from .elementwise import like


# ---------------------------------------------------------------- exponentials and logarithms
@form("exp")
def exp(z: Node) -> Node:
    """e**x (cos y + i sin y); a real number has a real power, even where e**x is infinite."""
    size, y = P.exp(re(z)), im(z)
    flat = P.eq(y, zeros_like(y))
    return pair(P.mul(size, P.cos(y)), P.where(flat, y, P.mul(size, P.sin(y))))


@form("expm1")
def expm1(z: Node) -> Node:
    """Exact near 0: (e**x - 1) cos y - 2 sin(y/2)**2."""
    x, y = re(z), im(z)
    small, half = P.expm1(x), P.sin(P.mul(like(0.5, y), y))
    return pair(P.sub(P.mul(small, P.cos(y)), P.mul(like(2, x), P.mul(half, half))), P.mul(P.exp(x), P.sin(y)))


@form("exp2")
def exp2(z: Node) -> Node:
    return exp(P.mul(z, like(math.log(2), z)))


def angle(z: Node) -> Node:
    return P.atan2(im(z), re(z))


@form("log")
def log(z: Node) -> Node:
    """Exact near size 1: log1p of x**2 + y**2 - 1 there."""
    x, y = re(z), im(z)
    a, b = P.abs(x), P.abs(y)
    big, small = P.maximum(a, b), P.minimum(a, b)
    big = P.where(P.ge(a, b), P.mul(x, P.stop(P.sign(x))), P.mul(y, P.stop(P.sign(y))))
    small = P.where(P.ge(a, b), y, x)
    near = P.bitwise_and(P.gt(big, like(0.5, x)), P.lt(big, like(2, x)))
    d = P.sub(P.where(near, big, like(1, x)), like(1, x))
    s = P.where(near, small, zeros_like(x))
    excess = P.add(P.mul(d, P.add(d, like(2, d))), P.mul(s, s))
    near = P.bitwise_and(near, P.gt(excess, like(-0.5, x)))
    close = P.mul(like(0.5, x), P.log1p(P.where(near, excess, zeros_like(x))))
    return pair(P.where(near, close, P.log(magnitude(z))), angle(z))


@form("log1p")
def log1p(z: Node) -> Node:
    """log(1 + z), exact near 0."""
    x, y = re(z), im(z)
    one = P.add(z, number(1, z))
    near = P.bitwise_and(P.lt(P.abs(x), like(0.5, x)), P.lt(P.abs(y), like(0.5, x)))
    d, s = P.where(near, x, zeros_like(x)), P.where(near, y, zeros_like(x))
    excess = P.add(P.mul(d, P.add(d, like(2, d))), P.mul(s, s))
    found = log(one)
    return pair(P.where(near, P.mul(like(0.5, x), P.log1p(excess)), re(found)), im(found))


def _log_to(base: float, z: Node) -> Node:
    return P.mul(log(z), like(1 / math.log(base), z))


FORMS["log2"] = lambda z: _log_to(2.0, z)
FORMS["log10"] = lambda z: _log_to(10.0, z)


@form("sigmoid")
def sigmoid(z: Node) -> Node:
    return reciprocal(P.add(number(1, z), exp(P.neg(z))))


# ---------------------------------------------------------------- roots and powers
@form("sqrt")
def sqrt(z: Node) -> Node:
    """The root with a real part that is not negative: t = sqrt((|z| + |x|) / 2) is never small beside it."""
    x, y = re(z), im(z)
    r = magnitude(z)
    right = P.bitwise_not(P.lt(x, zeros_like(x)))
    zero = P.eq(r, zeros_like(r))
    a = P.where(right, x, P.neg(x))
    total = P.where(zero, like(1, x), P.mul(like(0.5, x), P.add(r, a)))
    t = P.sqrt(total)
    other = P.div(P.mul(like(0.5, y), y), t)
    turn = P.stop(P.copysign(like(1, y), y))
    flat = P.where(right, t, P.mul(turn, other))
    high = P.where(right, other, P.mul(turn, t))
    endless = P.eq(P.abs(y), like(np.inf, y))
    flat, high = P.where(endless, P.abs(y), flat), P.where(endless, y, high)
    return pair(P.where(zero, zeros_like(x), flat), P.where(zero, y, high))


@form("powi")
def powi(z: Node, n: int) -> Node:
    if n < 0:
        return reciprocal(powi(z, -n))
    out, power = None, z
    while n:
        if n & 1:
            out = power if out is None else mul(out, power)
        n >>= 1
        power = mul(power, power) if n else power
    return number(1, z) if out is None else out


@form("pow")
def power(z: Node, w: Node) -> Node:
    """exp(w log z); of 0 it is 1 for w = 0, else 0 (NaN where the real part of w is not positive)."""
    r = magnitude(z)
    zero = P.eq(r, zeros_like(r))
    base = P.where(zero, number(1, z), z)
    none = P.bitwise_and(P.eq(re(w), zeros_like(r)), P.eq(im(w), zeros_like(r)))
    nan, one = number(complex(math.nan, math.nan), z), number(1, z)
    at_zero = P.where(none, one, P.where(P.gt(re(w), zeros_like(r)), zeros_like(z), nan))
    return P.where(zero, at_zero, exp(mul(w, log(base))))


# ---------------------------------------------------------------- circular and hyperbolic functions
@form("sinh")
def sinh(z: Node) -> Node:
    x, y = re(z), im(z)
    return pair(P.mul(P.sinh(x), P.cos(y)), P.mul(P.cosh(x), P.sin(y)))


@form("cosh")
def cosh(z: Node) -> Node:
    x, y = re(z), im(z)
    return pair(P.mul(P.cosh(x), P.cos(y)), P.mul(P.sinh(x), P.sin(y)))


@form("tanh")
def tanh(z: Node) -> Node:
    """(sinh x cosh x + i sin y cos y) / (sinh(x)**2 + cos(y)**2); 1 or -1 where that would overflow."""
    x, y = re(z), im(z)
    far = P.gt(P.abs(x), like(20, x))
    near = P.where(far, zeros_like(x), x)
    sh, ch, s, c = P.sinh(near), P.cosh(near), P.sin(y), P.cos(y)
    total = P.add(P.mul(sh, sh), P.where(far, like(1, c), P.mul(c, c)))
    high = P.mul(P.mul(like(4, x), P.mul(s, c)), P.exp(P.mul(like(-2, x), P.abs(x))))
    return pair(P.where(far, P.sign(x), P.div(P.mul(sh, ch), total)), P.where(far, high, P.div(P.mul(s, c), total)))


def _turned(z: Node) -> Node:
    """-i times z."""
    return pair(im(z), P.neg(re(z)))


@form("sin")
def sin(z: Node) -> Node:
    return _turned(sinh(times_i(z)))


@form("cos")
def cos(z: Node) -> Node:
    return cosh(times_i(z))


@form("tan")
def tan(z: Node) -> Node:
    return _turned(tanh(times_i(z)))


# ---------------------------------------------------------------- their inverses
def _roots(z: Node) -> tuple[Node, Node]:
    """sqrt(1 - z), sqrt(1 + z)."""
    one = number(1, z)
    return sqrt(pair(P.sub(re(one), re(z)), P.neg(im(z)))), sqrt(pair(P.add(re(one), re(z)), im(z)))


def _inverse_sinh(x: Node) -> Node:
    """asinh of a real value, by primitives that kernels have."""
    out: Node = P.asinh(x)
    return out


@form("asin")
def asin(z: Node) -> Node:
    """W. Kahan's formulas (1987): exact near the cuts and near 0."""
    minus, plus = _roots(z)
    flat = re(mul(minus, plus))
    return pair(P.atan2(re(z), flat), _inverse_sinh(im(mul(conj(minus), plus))))


@form("acos")
def acos(z: Node) -> Node:
    minus, plus = _roots(z)
    return pair(P.mul(like(2, re(z)), P.atan2(re(minus), re(plus))), _inverse_sinh(im(mul(conj(plus), minus))))


@form("asinh")
def asinh(z: Node) -> Node:
    return _turned(asin(times_i(z)))


@form("acosh")
def acosh(z: Node) -> Node:
    one = number(1, z)
    minus = sqrt(pair(P.sub(re(z), re(one)), im(z)))
    plus = sqrt(pair(P.add(re(z), re(one)), im(z)))
    return pair(_inverse_sinh(re(mul(conj(minus), plus))), P.mul(like(2, re(z)), P.atan2(im(minus), re(plus))))


@form("atanh")
def atanh(z: Node) -> Node:
    """Half of log1p(4x / ((1 - x)**2 + y**2)) / 2, and of the angle between 1 + z and 1 - z."""
    x, y = re(z), im(z)
    one = like(1, x)
    left, right = P.sub(one, x), P.add(one, x)
    square = P.mul(y, y)
    low = P.add(P.mul(left, left), square)
    flat = P.mul(like(0.25, x), P.log1p(P.div(P.mul(like(4, x), x), low)))
    high = P.atan2(P.mul(like(2, y), y), P.sub(P.mul(left, right), square))
    return pair(flat, P.mul(like(0.5, y), high))


@form("atan")
def atan(z: Node) -> Node:
    return _turned(atanh(times_i(z)))
