"""Public ops of one operand, and the special functions of two: rounding, powers, logarithms, circles, gamma.

In: nodes; integers become the default float unless rounding keeps them.  Out: nodes.  Never looks at values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..dtypes import BOOL, FLOAT, bool_
from ..errors import explain
from ..ir.graph import Node
from .checks import floating, same_dtype
from .declare import P, arith, full, inexact, op, unspread, zeros_like
from .elementwise import like, on


def _unary(name: str, doc: str, *aliases: str, grad: str | None = None,
           build: Callable[[Node], Node] | None = None, vjp: Callable[..., tuple[Node]] | None = None) -> None:
    """An in-place-able function of one float operand; by default the primitive of its name."""
    def fn(input: Node) -> Node:
        x, = inexact(input)
        return getattr(P, name)(x) if build is None else build(x)

    fn.__doc__ = doc
    op(name, inplace=True, aliases=aliases, grad=grad, functional=name in ("sigmoid", "tanh"), vjp=vjp)(fn)


_unary("sqrt", "Square root; NaN below 0.")
_unary("reciprocal", "1 / input.")
_unary("exp", "e to the input.")
_unary("exp2", "2 to the input.")
_unary("expm1", "exp(input) - 1, exact near 0.")
_unary("log", "Natural logarithm.")
_unary("log2", "Logarithm to base 2.")
_unary("log10", "Logarithm to base 10.")
_unary("log1p", "log(1 + input), exact near 0.", grad="Log1PBackward0")
_unary("sin", "Sine of radians.")
_unary("cos", "Cosine of radians.")
_unary("tan", "Tangent of radians.")
_unary("asin", "Inverse sine.", "arcsin")
_unary("acos", "Inverse cosine.", "arccos")
_unary("atan", "Inverse tangent.", "arctan")
_unary("sinh", "Hyperbolic sine.")
_unary("cosh", "Hyperbolic cosine.")
_unary("tanh", "Hyperbolic tangent.")
_unary("asinh", "Inverse hyperbolic sine.", "arcsinh")
_unary("acosh", "Inverse hyperbolic cosine.", "arccosh")
_unary("atanh", "Inverse hyperbolic tangent.", "arctanh")
_unary("sigmoid", "1 / (1 + exp(-input)).")
_unary("erf", "Error function.")
_unary("erfc", "1 - erf(input), exact for large input.")
_unary("erfinv", "Inverse of the error function.")
_unary("lgamma", "Logarithm of the gamma function's magnitude.")
_unary("digamma", "Derivative of lgamma.")
_unary("rad2deg", "Radians to degrees.", grad="Rad2DegBackward0",
       build=lambda x: P.mul(x, like(180 / math.pi, x)))
_unary("deg2rad", "Degrees to radians.", grad="Deg2RadBackward0",
       build=lambda x: P.mul(x, like(math.pi / 180, x)))


def _sinc(x: Node) -> Node:
    zero = P.eq(x, zeros_like(x))
    p = P.mul(like(math.pi, x), P.where(zero, like(1, x), x))
    return P.where(zero, like(1, x), P.div(P.sin(p), p))


def _vjp_sinc(ct: Node, out: Node, input: Node) -> tuple[Node]:
    """(cos(pi x) - sinc(x)) / x, as torch writes it; 0 where x * x vanishes."""
    p = P.mul(like(math.pi, input), input)
    square = P.mul(p, input)
    there = P.ne(square, zeros_like(square))
    slope = P.div(P.sub(P.mul(p, P.cos(p)), P.sin(p)), P.where(there, square, like(1, square)))
    return (on(there, P.mul(ct, slope)),)


_unary("sinc", "sin(pi x) / (pi x), and 1 at 0.", build=_sinc, vjp=_vjp_sinc)


@op(function=False, inplace=True)
def polygamma(input: Node, n: int) -> Node:
    """The n-th derivative of digamma."""
    if n < 0:
        raise explain(RuntimeError("polygamma(n, x) does not support negative n."))
    x, = inexact(input)
    return P.digamma(x) if n == 0 else P.polygamma(x, n)


def _vjp_rsqrt(ct: Node, out: Node, input: Node) -> tuple[Node]:
    return (P.mul(P.mul(ct, like(-0.5, out)), P.mul(out, P.mul(out, out))),)


@op(inplace=True, vjp=_vjp_rsqrt)
def rsqrt(input: Node) -> Node:
    """1 / sqrt(input)."""
    x, = inexact(input)
    return P.reciprocal(P.sqrt(x))


def _vjp_logit(ct: Node, out: Node, input: Node, eps: float | None = None) -> tuple[Node]:
    one = like(1, input)
    g = P.div(ct, P.mul(input, P.sub(one, input)))
    if eps is None:
        return (g,)
    inside = P.bitwise_and(P.ge(input, like(eps, input)), P.le(input, like(1 - eps, input)))
    return (P.where(inside, g, zeros_like(g)),)


@op(inplace=True, vjp=_vjp_logit)
def logit(input: Node, eps: float | None = None) -> Node:
    """log(input / (1 - input)), the inverse of sigmoid; `eps` holds the input between eps and 1 - eps."""
    x, = inexact(input)
    if eps is not None:
        lo, hi = like(eps, x), like(1 - eps, x)
        x = P.where(P.lt(x, lo), lo, P.where(P.gt(x, hi), hi, x))
    return P.log(P.div(x, P.sub(like(1, x), x)))


# ---------------------------------------------------------------- rounding
def _rounding(name: str, primitive: str, doc: str, *aliases: str) -> None:
    def fn(input: Node) -> Node:
        if input.dtype.category == BOOL:
            floating(f"{name}_vml_cpu", input)
        x: Node = getattr(P, primitive)(input) if input.dtype.category == FLOAT else input
        return x

    fn.__doc__ = doc
    op(name, inplace=True, aliases=aliases)(fn)


_rounding("floor", "floor", "The largest integer not above.")
_rounding("ceil", "ceil", "The smallest integer not below.")
_rounding("trunc", "trunc", "The integer part.", "fix")


@op("round", inplace=True, grad=lambda decimals=0: f"RoundBackward{int(decimals != 0)}")
def round_(input: Node, decimals: int = 0) -> Node:
    """The nearest integer, halves to even; or the nearest multiple of 10**-decimals."""
    if input.dtype.category < FLOAT:
        if decimals or input.dtype.category == BOOL:
            floating("round_cpu" if decimals else "round_vml_cpu", input)
        return input
    if decimals == 0:
        return P.rint(input)
    scale = like(10.0 ** abs(decimals), input)
    if decimals > 0:
        return P.div(P.rint(P.mul(input, scale)), scale)
    return P.mul(P.rint(P.div(input, scale)), scale)


@op(inplace=True)
def frac(input: Node) -> Node:
    """input - trunc(input)."""
    floating("frac_cpu", input)
    return P.sub(input, P.trunc(input))


# ---------------------------------------------------------------- what kind of number
@op()
def isnan(input: Node) -> Node:
    """True where NaN."""
    return P.isnan(input) if input.dtype.category >= FLOAT else full(False, input.shape, bool_)


@op()
def isinf(input: Node) -> Node:
    """True where infinite."""
    if input.dtype.category < FLOAT:
        return full(False, input.shape, bool_)
    return P.eq(P.abs(input), like(math.inf, input))


@op()
def isposinf(input: Node) -> Node:
    """True where +Inf."""
    if input.dtype.category < FLOAT:
        return full(False, input.shape, bool_)
    return P.eq(input, like(math.inf, input))


@op()
def isneginf(input: Node) -> Node:
    """True where -Inf."""
    if input.dtype.category < FLOAT:
        return full(False, input.shape, bool_)
    return P.eq(input, like(-math.inf, input))


@op()
def isfinite(input: Node) -> Node:
    """True where neither infinite nor NaN."""
    if input.dtype.category < FLOAT:
        return full(True, input.shape, bool_)
    return P.lt(P.abs(input), like(math.inf, input))


@op()
def signbit(input: Node) -> Node:
    """True where negative; -0.0 is."""
    if input.dtype.category < FLOAT:
        if input.dtype.category == BOOL:
            return full(False, input.shape, bool_)
        return P.lt(input, zeros_like(input))
    return P.lt(P.copysign(like(1, input), input), zeros_like(input))


@op()
def isclose(input: Node, other: Node, rtol: float = 1e-05, atol: float = 1e-08,
            equal_nan: bool = False) -> Node:
    """|input - other| <= atol + rtol * |other|; infinities are close to themselves."""
    same_dtype("{0} did not match {1}", input, other)
    if rtol < 0 or atol < 0:
        which, value = ("rtol", rtol) if rtol < 0 else ("atol", atol)
        raise explain(RuntimeError(f"{which} must be greater than or equal to zero, but got {value}"))
    a, b = arith(input, other)
    same = P.eq(a, b)
    if a.dtype.category == FLOAT and equal_nan:
        same = P.bitwise_or(same, P.bitwise_and(P.isnan(a), P.isnan(b)))
    if a.dtype.category == BOOL:
        return same
    x, y = inexact(a, b)
    room = P.add(like(atol, y), P.abs(P.mul(like(rtol, y), y)))
    gap = P.abs(P.sub(x, y))
    near = P.bitwise_and(P.le(gap, room), P.lt(gap, like(math.inf, gap)))
    return P.bitwise_or(same, near)


# ---------------------------------------------------------------- two operands
@op(inplace=True, aliases=("arctan2",))
def atan2(input: Node, other: Node) -> Node:
    """The angle of the point (other, input)."""
    return P.atan2(*inexact(input, other))


def _vjp_hypot(ct: Node, out: Node, input: Node, other: Node) -> tuple[Node, Node]:
    """input / out: no power of a tiny or large number; 0 at the origin."""
    there = P.ne(out, zeros_like(out))
    g = P.where(there, out, like(1, out))
    a, b = arith(input, other)
    return (unspread(on(there, P.mul(ct, P.div(a, g))), input), unspread(on(there, P.mul(ct, P.div(b, g))), other))


@op(inplace=True, vjp=_vjp_hypot)
def hypot(input: Node, other: Node) -> Node:
    """sqrt(input**2 + other**2), without overflow on the way."""
    x, y = arith(input, other)
    floating("hypot_cpu", x)
    a, b = P.abs(x), P.abs(y)
    big, small = P.maximum(a, b), P.minimum(a, b)
    top = like(math.inf, big)
    endless = P.bitwise_or(P.eq(a, top), P.eq(b, top))    # even beside a NaN
    plain = P.bitwise_or(P.eq(big, zeros_like(big)), endless)
    r = P.div(small, P.where(plain, like(1, big), big))
    long = P.mul(big, P.sqrt(P.add(like(1, r), P.mul(r, r))))
    return P.where(endless, top, P.where(plain, big, long))


@op(inplace=True, grad_number="XlogyBackward2")
def xlogy(input: Node, other: Node) -> Node:
    """input * log(other), and 0 where input is 0 (unless other is NaN)."""
    a, b = inexact(input, other)
    zero = zeros_like(a)
    bad = P.bitwise_or(P.le(b, zero), P.eq(b, like(math.inf, b)))
    off = P.bitwise_and(P.eq(a, zero), bad)
    return P.mul(a, P.where(off, zero, P.log(b)))


def _log_sum(a: Node, b: Node) -> Node:
    """log(exp(a) + exp(b))."""
    same = P.bitwise_and(P.eq(a, b), P.eq(P.abs(a), like(math.inf, a)))
    gap = P.abs(P.sub(a, P.where(same, zeros_like(b), b)))
    return P.where(same, a, P.add(P.maximum(a, b), P.softplus(P.neg(gap))))


def _shares(a: Node, b: Node) -> tuple[Node, Node]:
    """exp(a) and exp(b) over their sum; halves where both are the same infinity."""
    same = P.eq(a, b)
    gap = P.where(same, zeros_like(a), P.sub(a, b))
    return P.sigmoid(gap), P.sigmoid(P.neg(gap))


def _vjp_logaddexp(ct: Node, out: Node, input: Node, other: Node) -> tuple[Node, Node]:
    p, q = _shares(*arith(input, other))
    return unspread(P.mul(ct, p), input), unspread(P.mul(ct, q), other)


def _vjp_logaddexp2(ct: Node, out: Node, input: Node, other: Node) -> tuple[Node, Node]:
    a, b = arith(input, other)
    c = like(math.log(2), a)
    p, q = _shares(P.mul(a, c), P.mul(b, c))
    return unspread(P.mul(ct, p), input), unspread(P.mul(ct, q), other)


@op(vjp=_vjp_logaddexp)
def logaddexp(input: Node, other: Node) -> Node:
    """log(exp(input) + exp(other)), without overflow."""
    a, b = arith(input, other)
    floating("logaddexp_cpu", a)
    return _log_sum(a, b)


@op(vjp=_vjp_logaddexp2)
def logaddexp2(input: Node, other: Node) -> Node:
    """log2(2**input + 2**other), without overflow."""
    a, b = arith(input, other)
    floating("logaddexp2_cpu", a)
    c = like(math.log(2), a)
    return P.div(_log_sum(P.mul(a, c), P.mul(b, c)), c)
