"""Special functions beyond erf and gamma: Bessel, zeta, incomplete gamma, normal distribution, common divisors, next numbers.

In: nodes.  Out: nodes.  The primitives here have SciPy's references and no word for kernels: the CPU has a kernel by hand for
each, a GPU refuses them by name.  Names that begin with `special_` stand in `autojit.special` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, INT, float32, float64, int32
from ..errors import explain
from ..ir.aval import Aval
from ..ir.graph import Node
from ..ir.primitive import HOST
from .checks import floating, scalar_type
from .declare import P, arith, cast, inexact, keep_dtype, ones_like, op, primitive, same_aval, zeros_like
from .elementwise import like, on, side

ROOT2, ROOTPI = math.sqrt(2.0), math.sqrt(math.pi)
SCALARS = ("i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "erfcx", "ndtri", "zeta", "igamma", "igammac", "nextafter", "gcd")


# ---------------------------------------------------------------- primitives
def _float(*avals: Aval) -> Aval:
    a = same_aval(*avals)
    if a.dtype.category < FLOAT:
        raise TypeError(f"needs floating point, got {a}")
    return a


def _whole(*avals: Aval) -> Aval:
    a = same_aval(*avals)
    if a.dtype.category != INT:
        raise TypeError(f"needs integers, got {a}")
    return a


def _scipy(name: str) -> Callable[..., Any]:
    def ref(*a: Any) -> Any:
        import scipy.special
        return getattr(scipy.special, name)(*[x.astype(np.float64) for x in a])
    return keep_dtype(ref)


def _host(name: str, vjp: Callable[..., Any] | None, doc: str, ref: Callable[..., Any] | None = None,
          domain: tuple[float, float] = (0.5, 3)) -> None:
    primitive(name, HOST, _float, ref or _scipy(name), vjp, cost=80, domain=domain, doc=doc)


def _vjp_i1(ct: Node, out: Node, a: Node) -> tuple[Node]:
    zero = P.eq(a, zeros_like(a))
    slope = P.sub(P.i0(a), P.div(out, P.where(zero, like(1, a), a)))
    return (P.mul(ct, P.where(zero, like(0.5, a), slope)),)


def _vjp_i1e(ct: Node, out: Node, a: Node) -> tuple[Node]:
    zero = P.eq(a, zeros_like(a))
    slope = P.sub(P.i0e(a), P.mul(out, P.add(side(a), P.reciprocal(P.where(zero, like(1, a), a)))))
    return (P.mul(ct, P.where(zero, like(0.5, a), slope)),)


def _vjp_j1(ct: Node, out: Node, a: Node) -> tuple[Node]:
    zero = P.eq(a, zeros_like(a))
    slope = P.sub(P.j0(a), P.div(out, P.where(zero, like(1, a), a)))
    return (P.mul(ct, P.where(zero, like(0.5, a), slope)),)


_host("i0", lambda ct, out, a: (P.mul(ct, P.i1(a)),), "Modified Bessel function of order 0.")
_host("i1", _vjp_i1, "Modified Bessel function of order 1.")
_host("i0e", lambda ct, out, a: (P.mul(ct, P.sub(P.i1e(a), P.mul(side(a), out))),), "i0 times exp(-|a|).")
_host("i1e", _vjp_i1e, "i1 times exp(-|a|).")
_host("j0", lambda ct, out, a: (P.neg(P.mul(ct, P.j1(a))),), "Bessel function of order 0.")
_host("j1", _vjp_j1, "Bessel function of order 1.")
_host("y0", lambda ct, out, a: (P.neg(P.mul(ct, P.y1(a))),), "Bessel function of the second kind, of order 0.")
_host("y1", lambda ct, out, a: (P.mul(ct, P.sub(P.y0(a), P.div(out, a))),), "Bessel function of the second kind, of order 1.")
_host("erfcx", lambda ct, out, a: (P.mul(ct, P.sub(P.mul(like(2, a), P.mul(a, out)), like(2 / ROOTPI, a))),),
      "erfc times exp(a**2).", domain=(-2, 2))
_host("ndtri", lambda ct, out, a: (P.mul(ct, P.exp(P.add(like(0.5 * math.log(2 * math.pi), a),
                                                         P.mul(like(0.5, a), P.mul(out, out))))),),
      "The inverse of the normal distribution function.", domain=(0.1, 0.9))
_host("zeta", lambda ct, out, a, b: (None, P.neg(P.mul(ct, P.mul(a, P.zeta(P.add(a, like(1, a)), b))))),
      "Hurwitz's zeta function: the sum of (k + b) ** -a; no derivative in a.", domain=(1.5, 4))


def _density(a: Node, x: Node) -> Node:
    """x ** (a - 1) * exp(-x) / gamma(a)."""
    return P.exp(P.sub(P.sub(P.mul(P.sub(a, like(1, a)), P.log(x)), x), P.lgamma(a)))


_host("igamma", lambda ct, out, a, x: (None, P.mul(ct, _density(a, x))),
      "Lower incomplete gamma function over gamma(a); no derivative in a.", _scipy("gammainc"))
_host("igammac", lambda ct, out, a, x: (None, P.neg(P.mul(ct, _density(a, x)))),
      "Upper incomplete gamma function over gamma(a); no derivative in a.", _scipy("gammaincc"))
primitive("nextafter", HOST, _float, np.nextafter, None, cost=10, doc="The number next to a on the way to b.")
primitive("gcd", HOST, _whole, np.gcd, None, cost=40, doc="The greatest common divisor.")


# ---------------------------------------------------------------- public, on tensors and in special
@op(inplace=True)
def i0(input: Node) -> Node:
    """The modified Bessel function of the first kind, of order 0."""
    return P.i0(*inexact(input))


@op(inplace=True)
def igamma(input: Node, other: Node) -> Node:
    """The regularised lower incomplete gamma function P(input, other); differentiable in other."""
    a, x = arith(input, other)
    floating("igamma_cpu", a)
    return P.igamma(a, x)


@op(inplace=True)
def igammac(input: Node, other: Node) -> Node:
    """The regularised upper incomplete gamma function Q(input, other); differentiable in other."""
    a, x = arith(input, other)
    floating("igammac_cpu", a)
    return P.igammac(a, x)


@op(inplace=True)
def mvlgamma(input: Node, p: int) -> Node:
    """The logarithm of the multivariate gamma function of dimension p."""
    if p < 1:
        raise explain(RuntimeError("p has to be greater than or equal to 1"))
    x, = inexact(input)
    out = like(p * (p - 1) / 4 * math.log(math.pi), x)
    for j in range(p):
        out = P.add(out, P.lgamma(P.sub(x, like(j / 2, x)) if j else x))
    return out


@op(inplace=True)
def ldexp(input: Node, other: Node) -> Node:
    """input * 2**other."""
    x, e = inexact(input, other)
    return P.mul(x, P.exp2(e))


@op(returns=("mantissa", "exponent"))
def frexp(input: Node) -> tuple[Node, Node]:
    """The mantissa, at least 0.5 and less than 1 in size, and the exponent (int32) with input = mantissa * 2**exponent; what is
    0, infinite or NaN is its own mantissa."""
    if input.dtype.category != FLOAT:
        raise explain(RuntimeError("torch.frexp() only supports floating-point dtypes"))
    x = input if input.dtype in (float32, float64) else cast(input, float32)
    size, nothing = P.abs(x), zeros_like(x)
    plain = P.bitwise_and(P.gt(size, nothing), P.lt(size, like(math.inf, x)))
    tiny = P.lt(size, like(2.0 ** -100, x))               # a denormal's logarithm would be that of 0
    y = P.where(tiny, P.mul(x, like(2.0 ** 100, x)), x)
    y = P.where(tiny, P.mul(y, like(2.0 ** 100, x)), y)
    y = P.where(plain, y, ones_like(x))
    e = P.add(P.floor(P.log2(P.abs(y))), ones_like(x))
    half = P.trunc(P.mul(e, like(0.5, x)))                # 2**-e may be too small or too large for one number
    m = P.mul(P.mul(y, P.exp2(P.neg(half))), P.exp2(P.sub(half, e)))
    big, small = P.ge(P.abs(m), ones_like(x)), P.lt(P.abs(m), like(0.5, x))
    m = P.mul(m, P.where(big, like(0.5, x), P.where(small, like(2.0, x), ones_like(x))))
    e = P.add(P.sub(P.add(e, cast(big, x.dtype)), cast(small, x.dtype)), P.where(tiny, like(-200.0, x), nothing))
    return cast(P.where(plain, m, x), input.dtype), cast(P.where(plain, e, nothing), int32)


@op(inplace=True)
def nextafter(input: Node, other: Node) -> Node:
    """The number next to the input on the way to other."""
    a, b = arith(input, other)
    floating("nextafter_cpu", a)
    return P.nextafter(a, b)


def _integers(name: str, input: Node, other: Node) -> tuple[Node, ...]:
    a, b = arith(input, other)
    if a.dtype.category == BOOL or a.dtype.category == FLOAT:
        raise explain(NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_type(a.dtype)}'"))
    return a, b


@op(inplace=True)
def gcd(input: Node, other: Node) -> Node:
    """The greatest common divisor of integers; not negative."""
    return P.gcd(*_integers("gcd", input, other))


@op(inplace=True)
def lcm(input: Node, other: Node) -> Node:
    """The least common multiple of integers; not negative unless it overflows, 0 beside 0."""
    a, b = _integers("lcm", input, other)
    d = P.gcd(a, b)
    none = P.eq(d, zeros_like(d))
    return on(P.bitwise_not(none), P.mul(P.floor_divide(P.abs(a), P.where(none, like(1, d), d)), P.abs(b)))


# ---------------------------------------------------------------- in special alone
def _only(name: str, doc: str, build: Callable[[Node], Node], grad: str | None = None) -> None:
    def fn(input: Node) -> Node:
        return build(*inexact(input))

    fn.__doc__ = doc
    op(f"special_{name}", method=False, function=False, grad=grad)(fn)


def _entropy(x: Node) -> Node:
    zero, one = zeros_like(x), like(1, x)
    inside = P.neg(P.mul(x, P.log(P.where(P.gt(x, zero), x, one))))
    below = P.where(P.lt(x, zero), like(-math.inf, x), zero)
    return P.where(P.isnan(x), x, P.where(P.gt(x, zero), inside, below))


def _normal(x: Node) -> Node:
    return P.mul(like(0.5, x), P.erfc(P.mul(x, like(-1 / ROOT2, x))))


def _log_normal(x: Node) -> Node:
    far = P.lt(x, like(-1, x))
    z = P.mul(x, like(-1 / ROOT2, x))
    left = P.where(far, z, like(1, x))
    low = P.sub(P.log(P.mul(P.erfcx(left), like(0.5, x))), P.mul(left, left))
    high = P.log1p(P.mul(P.erfc(P.where(far, like(0, x), P.neg(z))), like(-0.5, x)))
    return P.where(far, low, high)


_only("i0e", "i0 times exp(-|input|).", lambda x: P.i0e(x), "SpecialI0EBackward0")
_only("i1", "The modified Bessel function of the first kind, of order 1.", lambda x: P.i1(x))
_only("i1e", "i1 times exp(-|input|).", lambda x: P.i1e(x), "SpecialI1EBackward0")
_only("bessel_j0", "The Bessel function of the first kind, of order 0.", lambda x: P.j0(x))
_only("bessel_j1", "The Bessel function of the first kind, of order 1.", lambda x: P.j1(x))
_only("bessel_y0", "The Bessel function of the second kind, of order 0.", lambda x: P.y0(x))
_only("bessel_y1", "The Bessel function of the second kind, of order 1.", lambda x: P.y1(x))
_only("erfcx", "erfc(input) * exp(input**2), without overflow.", lambda x: P.erfcx(x))
_only("ndtr", "The normal distribution function.", _normal, "MulBackward1")
_only("ndtri", "The inverse of ndtr.", lambda x: P.ndtri(x))
_only("log_ndtr", "The logarithm of ndtr, exact far from 0.", _log_normal)
_only("entr", "-input * log(input); 0 at 0, -Inf below.", _entropy)


@op(method=False, function=False, grad_number="SpecialXlog1PyBackward2", grad="SpecialXlog1PyBackward0")
def special_xlog1py(input: Node, other: Node) -> Node:
    """input * log1p(other), and 0 where input is 0 (unless other is NaN)."""
    a, b = inexact(input, other)
    off = P.bitwise_and(P.eq(a, zeros_like(a)), P.bitwise_not(P.isnan(b)))
    return P.mul(a, P.log1p(P.where(off, zeros_like(b), b)))


@op(method=False, function=False, grad_number="SpecialZetaBackward2")
def special_zeta(input: Node, other: Node) -> Node:
    """Hurwitz's zeta function: the sum of (k + other) ** -input over k >= 0; differentiable in other."""
    return P.zeta(*inexact(input, other))
