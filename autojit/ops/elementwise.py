"""Primitives that work element by element: arithmetic, comparison, logic, rounding, transcendental functions.

Rules are written in primitives, so derivatives of derivatives need nothing more.  Never broadcasts: operands have one aval.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, INT, DType, memory, readable
from ..ir.aval import Aval, aval
from ..ir.graph import OPERATORS, Node
from ..ir.primitive import ELEMENTWISE, HOST
from .declare import P, arith, elementwise, full, keep_dtype, ones_like, primitive, quiet, same_aval, zeros_like

TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


def like(value: float, n: Node) -> Node:
    return full(value, n.shape, n.dtype)


def on(mask: Node, a: Node) -> Node:
    """`a` where the mask holds, zero elsewhere: the form in which masks travel through the reverse pass."""
    return P.where(mask, a, zeros_like(a))


# ---------------------------------------------------------------- arithmetic
elementwise("add", ref=np.add, emit="{0} + {1}", dtype="same", commutative=True, linear=True,
            vjp=lambda ct, out, a, b: (ct, ct), doc="Sum of two values.")
elementwise("sub", ref=lambda a, b: a ^ b if a.dtype == bool else np.subtract(a, b), emit="{0} - {1}", dtype="same",
            linear=True, vjp=lambda ct, out, a, b: (ct, P.neg(ct)), doc="Difference of two values.")
elementwise("mul", ref=np.multiply, emit="{0} * {1}", dtype="same", commutative=True,
            vjp=lambda ct, out, a, b: (P.mul(ct, b), P.mul(ct, a)), doc="Product of two values.")
elementwise("div", ref=np.divide, emit="{0} / {1}", cost=6, domain=(0.5, 3),
            vjp=lambda ct, out, a, b: (P.div(ct, b), P.neg(P.mul(ct, P.div(P.div(a, b), b)))), doc="Quotient of two floats.")
elementwise("neg", ref=np.negative, emit="-{0}", dtype="same", linear=True,
            vjp=lambda ct, out, a: (P.neg(ct),), doc="The value with its sign turned.")


def _vjp_pow(ct: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    zero, one = zeros_like(a), ones_like(a)
    da = on(P.ne(b, zero), P.mul(b, P.pow(a, P.sub(b, one))))
    at_zero = P.bitwise_and(P.eq(a, zero), P.ge(b, zero))        # 0**b: the limit of 0**b * log(0) is 0
    return P.mul(ct, da), P.where(at_zero, zero, P.mul(ct, P.mul(out, P.log(a))))


elementwise("pow", ref=np.power, emit="pow_{t}({0}, {1})", cost=40, domain=(0.5, 3), vjp=_vjp_pow,
            doc="Power with a real exponent (C99's special cases).")


def _powi(a: Any, n: int) -> Any:
    if n < 0:
        return (1 / _powi(a, -n)).astype(a.dtype)
    out, base = None, a
    while n:
        if n & 1:
            out = base if out is None else out * base
        n >>= 1
        base = base * base if n else base
    return np.ones_like(a) if out is None else out


primitive("powi", ELEMENTWISE, lambda a, n: a, keep_dtype(_powi),
          lambda ct, out, a, n: (None if n == 0 else ct if n == 1 else P.mul(ct, P.mul(like(n, a), P.powi(a, n - 1))),),
          emit="powi_{t}({0}, {p0})", cost=3, doc="Power with a constant integer exponent, by repeated squaring.")


def _int_pow(a: Any, b: Any) -> Any:
    """Wraps as kernels do; a negative exponent leaves 1 for 1, ±1 for -1 and 0 else."""
    down = np.where(a == 1, 1, np.where(a == -1, np.where(b % 2 == 0, 1, -1), 0))
    return np.where(b < 0, down, np.power(a, np.where(b < 0, 0, b))).astype(a.dtype)


primitive("int_pow", HOST, same_aval, quiet(_int_pow), None, emit="int_pow_{t}({0}, {1})", cost=20, doc="Power of integers.")


def _ties(ct: Node, a: Node, b: Node, loses: Node) -> Node:
    """Equal ones share; beside a NaN nobody loses, and both get all, as in torch."""
    return P.where(P.eq(a, b), P.mul(ct, like(0.5, ct)), on(P.bitwise_not(loses), ct))


elementwise("maximum", ref=np.maximum, emit="maximum_{t}({0}, {1})", dtype="same", commutative=True,
            vjp=lambda ct, out, a, b: (_ties(ct, a, b, P.lt(a, b)), _ties(ct, a, b, P.lt(b, a))),
            doc="The larger of two values; NaN if either is.")
elementwise("minimum", ref=np.minimum, emit="minimum_{t}({0}, {1})", dtype="same", commutative=True,
            vjp=lambda ct, out, a, b: (_ties(ct, a, b, P.gt(a, b)), _ties(ct, a, b, P.gt(b, a))),
            doc="The smaller of two values; NaN if either is.")


def _int_safe(f: Any) -> Any:
    """Integer division by zero gives 0 in kernels and here; the eager face raises before it comes to that."""
    def g(a: Any, b: Any) -> Any:
        if a.dtype.kind not in "iu":
            return f(a, b)
        return np.where(b == 0, 0, f(a, np.where(b == 0, 1, b))).astype(a.dtype)
    return g


def _trunc_div(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":
        q = np.floor_divide(a, b)
        return q + ((np.remainder(a, b) != 0) & ((a < 0) != (b < 0)))
    return np.trunc(a / b)


elementwise("floor_divide", ref=_int_safe(np.floor_divide), emit="floordiv_{t}({0}, {1})", dtype="same", cost=20,
            domain=(0.5, 3), vjp=None, doc="Quotient rounded down.")
elementwise("trunc_divide", ref=_int_safe(_trunc_div), emit="truncdiv_{t}({0}, {1})", dtype="same", cost=20,
            domain=(0.5, 3), vjp=None, doc="Quotient rounded towards zero.")
elementwise("remainder", ref=_int_safe(np.remainder), emit="remainder_{t}({0}, {1})", dtype="same", cost=20, domain=(0.5, 3),
            vjp=lambda ct, out, a, b: (ct, P.neg(P.mul(ct, P.floor(P.div(a, b))))),
            doc="What is left of a / b rounded down; has the divisor's sign.")
elementwise("fmod", ref=_int_safe(np.fmod), emit="fmod_{t}({0}, {1})", dtype="same", cost=20, domain=(0.5, 3),
            vjp=lambda ct, out, a, b: (ct, P.neg(P.mul(ct, P.trunc(P.div(a, b))))),
            doc="What is left of a / b rounded towards zero; has the dividend's sign.")

# ---------------------------------------------------------------- comparison and logic
for _name, _ref, _sign in (("lt", np.less, "<"), ("le", np.less_equal, "<="), ("gt", np.greater, ">"),
                           ("ge", np.greater_equal, ">="), ("eq", np.equal, "=="), ("ne", np.not_equal, "!=")):
    elementwise(_name, ref=_ref, emit="{0} " + _sign + " {1}", dtype="bool", vjp=None, doc=f"a {_sign} b, as bool.")


def _where_aval(c: Aval, a: Aval, b: Aval) -> Aval:
    if c.dtype.category != BOOL or c.shape != a.shape or a is not b:
        raise TypeError(f"where needs a bool mask and two equal operands, got {c}, {a}, {b}")
    return a


primitive("where", ELEMENTWISE, _where_aval, np.where,
          lambda ct, out, c, a, b: (None, on(c, ct), on(P.bitwise_not(c), ct)), emit="({1} if {0} else {2})",
          linear=True, doc="a where the mask holds, else b.")


def _bits(*avals: Aval) -> Aval:
    a = avals[0]
    if a.dtype.category > INT:
        raise TypeError(f"bit operations need integers or bools, got {a}")
    return a


for _name, _bit, _sign in (("bitwise_and", np.bitwise_and, "&"), ("bitwise_or", np.bitwise_or, "|"),
                           ("bitwise_xor", np.bitwise_xor, "^")):
    primitive(_name, ELEMENTWISE, _bits, _bit, None, emit="{0} " + _sign + " {1}", commutative=True,
              doc=f"a {_sign} b on integers or bools.")
primitive("bitwise_not", ELEMENTWISE, _bits, np.invert, None, emit="not_{t}({0})", doc="Each bit turned; not, for bools.")


def _shift(a: Any, b: Any, left: bool) -> Any:
    """As torch: a shift by a negative number, or by all bits, leaves 0 (right: the sign)."""
    bits = 8 * a.dtype.itemsize
    far = (b < 0) | (b >= bits)
    by = np.where(far, 0, b).astype(a.dtype)
    if left:
        return np.where(far, 0, np.left_shift(a, by)).astype(a.dtype)
    return np.where(far, np.where(a < 0, -1, 0), np.right_shift(a, by)).astype(a.dtype)


primitive("shift", HOST, lambda a, b, left: _bits(same_aval(a, b)), quiet(_shift), None, emit="shift_{o}({0}, {1}, {p0})",
          cost=4, doc="Bits of a moved by b places, to the left or to the right.")


def _cast_ref(a: Any, dtype: DType) -> Any:
    with np.errstate(all="ignore"):
        return memory(readable(a), dtype) if dtype.half or a.dtype.itemsize == 2 else a.astype(dtype.np)


primitive("cast", ELEMENTWISE, lambda a, dtype: aval(a.shape, dtype, a.device), _cast_ref,
          lambda ct, out, a, dtype: (P.cast(ct, a.dtype) if dtype.category == FLOAT == a.dtype.category else None,),
          emit="to_{o}({0})", linear=True, doc="The value as another dtype.")

elementwise("stop", ref=lambda a: a, emit="{0}", dtype="same", vjp=None, cost=0,
            doc="The value itself, through which no derivative flows: how detach() and no_grad stand in a traced graph.")

# ---------------------------------------------------------------- signs and rounding
def side(n: Node) -> Node:
    """-1, 0 or 1; 0 for NaN: torch's derivative of the magnitude."""
    return P.where(P.isnan(n), zeros_like(n), P.sign(n))


elementwise("abs", ref=np.abs, emit="abs_{t}({0})", dtype="same",
            vjp=lambda ct, out, a: (P.mul(ct, side(a)),), doc="Magnitude.")
elementwise("sign", ref=np.sign, emit="sign_{t}({0})", dtype="same", vjp=None, doc="-1, 0 or 1 (NaN for NaN).")
for _name in ("floor", "ceil", "trunc", "rint"):
    elementwise(_name, ref=getattr(np, _name), emit=_name + "_{t}({0})", vjp=None, doc=f"NumPy's {_name}.")
elementwise("isnan", ref=np.isnan, emit="{0} != {0}", dtype="bool", vjp=None, doc="True where NaN.")
elementwise("copysign", ref=np.copysign, emit="copysign_{t}({0}, {1})", domain=(0.5, 3),
            vjp=lambda ct, out, a, b: (on(P.ne(a, zeros_like(a)), P.mul(ct, P.mul(P.sign(a), P.sign(out)))), None),
            doc="a with the sign of b.")

# ---------------------------------------------------------------- powers, exponentials, logarithms
elementwise("sqrt", ref=np.sqrt, emit="sqrt_{t}({0})", cost=6, domain=(0.2, 4),
            vjp=lambda ct, out, a: (P.div(P.mul(ct, like(0.5, ct)), out),), doc="Square root.")
elementwise("reciprocal", ref=keep_dtype(lambda a: 1 / a), emit="to_{t}(1) / {0}", cost=6, domain=(0.5, 3),
            vjp=lambda ct, out, a: (P.neg(P.mul(ct, P.mul(out, out))),), doc="1 / a.")
elementwise("relu", ref=lambda a: np.where(a < 0, a.dtype.type(0), a), emit="(to_{t}(0) if {0} < to_{t}(0) else {0})",
            vjp=lambda ct, out, a: (on(P.bitwise_not(P.le(out, zeros_like(out))), ct),), dtype="same",
            doc="a, or 0 where a is negative; NaN and -0.0 stay.")
elementwise("exp", ref=np.exp, emit="exp_{t}({0})", cost=12, vjp=lambda ct, out, a: (P.mul(ct, out),), doc="e to the a.")
elementwise("exp2", ref=np.exp2, emit="exp2_{t}({0})", cost=12,
            vjp=lambda ct, out, a: (P.mul(ct, P.mul(out, like(math.log(2), a))),), doc="2 to the a.")
elementwise("expm1", ref=np.expm1, emit="expm1_{t}({0})", cost=18,
            vjp=lambda ct, out, a: (P.mul(ct, P.add(out, ones_like(out))),), doc="exp(a) - 1, exact near 0.")
elementwise("log", ref=np.log, emit="log_{t}({0})", cost=14, domain=(0.2, 4),
            vjp=lambda ct, out, a: (P.div(ct, a),), doc="Natural logarithm.")
elementwise("log2", ref=np.log2, emit="log2_{t}({0})", cost=14, domain=(0.2, 4),
            vjp=lambda ct, out, a: (P.div(ct, P.mul(a, like(math.log(2), a))),), doc="Logarithm to base 2.")
elementwise("log10", ref=np.log10, emit="log10_{t}({0})", cost=14, domain=(0.2, 4),
            vjp=lambda ct, out, a: (P.div(ct, P.mul(a, like(math.log(10), a))),), doc="Logarithm to base 10.")
elementwise("log1p", ref=np.log1p, emit="log1p_{t}({0})", cost=18, domain=(-0.5, 3),
            vjp=lambda ct, out, a: (P.div(ct, P.add(a, ones_like(a))),), doc="log(1 + a), exact near 0.")


def _sigmoid(a: Any) -> Any:
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e))


elementwise("sigmoid", ref=keep_dtype(_sigmoid), emit="sigmoid_{t}({0})", cost=20,
            vjp=lambda ct, out, a: (P.mul(ct, P.mul(out, P.sub(ones_like(out), out))),), doc="1 / (1 + exp(-a)).")

elementwise("softplus", ref=keep_dtype(lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))), cost=30,
            emit="maximum_{t}({0}, to_{t}(0)) + log1p_{t}(exp_{t}(-abs_{t}({0})))",
            vjp=lambda ct, out, a: (P.mul(ct, P.sigmoid(a)),), doc="log(1 + exp(a)), exact on both sides.")

# ---------------------------------------------------------------- circular and hyperbolic functions
elementwise("sin", ref=np.sin, emit="sin_{t}({0})", cost=14, vjp=lambda ct, out, a: (P.mul(ct, P.cos(a)),),
            doc="Sine (radians).")
elementwise("cos", ref=np.cos, emit="cos_{t}({0})", cost=14, vjp=lambda ct, out, a: (P.neg(P.mul(ct, P.sin(a))),),
            doc="Cosine (radians).")
elementwise("tan", ref=np.tan, emit="tan_{t}({0})", cost=20, domain=(-1.2, 1.2),
            vjp=lambda ct, out, a: (P.mul(ct, P.add(ones_like(out), P.mul(out, out))),), doc="Tangent (radians).")
elementwise("asin", ref=np.arcsin, emit="asin_{t}({0})", cost=20, domain=(-0.8, 0.8),
            vjp=lambda ct, out, a: (P.div(ct, P.sqrt(P.sub(ones_like(a), P.mul(a, a)))),), doc="Inverse sine.")
elementwise("acos", ref=np.arccos, emit="acos_{t}({0})", cost=20, domain=(-0.8, 0.8),
            vjp=lambda ct, out, a: (P.neg(P.div(ct, P.sqrt(P.sub(ones_like(a), P.mul(a, a))))),), doc="Inverse cosine.")
elementwise("atan", ref=np.arctan, emit="atan_{t}({0})", cost=20,
            vjp=lambda ct, out, a: (P.div(ct, P.add(ones_like(a), P.mul(a, a))),), doc="Inverse tangent.")
elementwise("sinh", ref=np.sinh, emit="sinh_{t}({0})", cost=20, vjp=lambda ct, out, a: (P.mul(ct, P.cosh(a)),),
            doc="Hyperbolic sine.")
elementwise("cosh", ref=np.cosh, emit="cosh_{t}({0})", cost=20, vjp=lambda ct, out, a: (P.mul(ct, P.sinh(a)),),
            doc="Hyperbolic cosine.")
elementwise("tanh", ref=np.tanh, emit="tanh_{t}({0})", cost=20,
            vjp=lambda ct, out, a: (P.mul(ct, P.sub(ones_like(out), P.mul(out, out))),), doc="Hyperbolic tangent.")
elementwise("asinh", ref=np.arcsinh, emit="asinh_{t}({0})", cost=24,
            vjp=lambda ct, out, a: (P.div(ct, P.sqrt(P.add(P.mul(a, a), ones_like(a)))),), doc="Inverse hyperbolic sine.")
elementwise("acosh", ref=np.arccosh, emit="acosh_{t}({0})", cost=24, domain=(1.3, 4),
            vjp=lambda ct, out, a: (P.div(ct, P.sqrt(P.sub(P.mul(a, a), ones_like(a)))),), doc="Inverse hyperbolic cosine.")
elementwise("atanh", ref=np.arctanh, emit="atanh_{t}({0})", cost=24, domain=(-0.8, 0.8),
            vjp=lambda ct, out, a: (P.div(ct, P.sub(ones_like(a), P.mul(a, a))),), doc="Inverse hyperbolic tangent.")


def _vjp_atan2(ct: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    square = P.add(P.mul(a, a), P.mul(b, b))
    there = P.ne(square, zeros_like(square))              # 0 at the origin, as in torch
    scale = on(there, P.div(ct, P.where(there, square, ones_like(square))))
    return P.mul(scale, b), P.neg(P.mul(scale, a))


elementwise("atan2", ref=np.arctan2, emit="atan2_{t}({0}, {1})", cost=24, domain=(0.5, 3), vjp=_vjp_atan2,
            doc="Angle of the point (b, a).")


# ---------------------------------------------------------------- special functions
def _special(name: str) -> Any:
    def ref(a: Any) -> Any:
        import scipy.special  # 0.1 s: only when somebody asks for one
        return np.asarray(getattr(scipy.special, name)(a)).astype(a.dtype)
    return ref


def _erfinv(a: Any) -> Any:
    import scipy.special
    return np.copysign(scipy.special.erfinv(a), a).astype(a.dtype)


def _lgamma(a: Any) -> Any:
    """SciPy's has the wrong sign at -Inf, and Inf next to 0."""
    import scipy.special
    with np.errstate(all="ignore"):
        tiny = (np.abs(a) < 1e-30) & (a != 0)
        return np.where(tiny, -np.log(np.abs(a)), np.where(np.isinf(a), np.inf, scipy.special.gammaln(a))).astype(a.dtype)


def _gauss(a: Node) -> Node:
    return P.mul(like(TWO_OVER_SQRT_PI, a), P.exp(P.neg(P.mul(a, a))))


elementwise("erf", ref=_special("erf"), emit="erf_{t}({0})", cost=20,
            vjp=lambda ct, out, a: (P.mul(ct, _gauss(a)),), doc="Error function.")
elementwise("erfc", ref=_special("erfc"), emit="erfc_{t}({0})", cost=24,
            vjp=lambda ct, out, a: (P.neg(P.mul(ct, _gauss(a))),), doc="1 - erf(a), exact for large a.")
elementwise("erfinv", ref=_erfinv, emit="erfinv_{t}({0})", cost=40, domain=(-0.8, 0.8),
            vjp=lambda ct, out, a: (P.div(ct, _gauss(out)),), doc="Inverse of the error function.")
elementwise("lgamma", ref=_lgamma, emit="lgamma_{t}({0})", cost=60, domain=(0.5, 4),
            vjp=lambda ct, out, a: (P.mul(ct, P.digamma(a)),), doc="Logarithm of the gamma function's magnitude.")
elementwise("digamma", ref=_special("psi"), emit="digamma_{t}({0})", cost=60, domain=(0.5, 4),
            vjp=lambda ct, out, a: (P.mul(ct, P.polygamma(a, 1)),), doc="Derivative of lgamma.")


def _polygamma(a: Any, n: int) -> Any:
    import scipy.special
    return np.asarray(scipy.special.polygamma(n, a)).astype(a.dtype)


primitive("polygamma", HOST, lambda a, n: a, _polygamma, lambda ct, out, a, n: (P.mul(ct, P.polygamma(a, n + 1)),),
          emit="polygamma_{t}({0}, {p0})", cost=80, domain=(0.5, 4), doc="n-th derivative of digamma.")


# ---------------------------------------------------------------- operators of Node
def _lift(v: Any, other: Node) -> Node:
    return v if type(v) is Node else full(v, (), other.dtype)


def _operator(name: str) -> Any:
    def f(a: Any, b: Any) -> Node:
        if type(a) is not Node:
            a = _lift(a, b)
        elif type(b) is not Node:
            b = _lift(b, a)
        out: Node = getattr(P, name)(*arith(a, b))
        return out
    return f


OPERATORS.update({name: _operator(name) for name in ("add", "sub", "mul", "div")})
OPERATORS["neg"] = lambda a: P.neg(a)
