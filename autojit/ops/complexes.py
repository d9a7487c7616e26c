"""Complex numbers: the primitives that take them apart and put them together, and arithmetic spelled in their parts.

In: complex nodes.  Out: nodes.  No kernel knows a complex number.  A node may be complex where it only moves (`CARRIED`);
arithmetic is that of two real values, written here and in `analytic`.  So gradients need no rule of their own, and a
cotangent is dL/dRe + i dL/dIm, torch's convention.  What has no form is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import BOOL, COMPLEX, FLOAT, DType, paired
from ..ir.aval import Aval, aval
from ..ir.graph import Node, base
from ..ir.primitive import PARTS
from .declare import FORMS, P, cast, full, primitive, same_aval, zeros_like
from .elementwise import like


# ---------------------------------------------------------------- primitives
def _parts_aval(a: Aval) -> Aval:
    if a.dtype.category != COMPLEX:
        raise TypeError(f"needs a complex value, got {a}")
    return aval(a.shape, a.dtype.part, a.device)


def _paired_aval(*avals: Aval) -> Aval:
    a = same_aval(*avals)
    if a.dtype.category != FLOAT or a.dtype.half:
        raise TypeError(f"parts of a complex value are float32 or float64, got {a}")
    return aval(a.shape, paired(a.dtype), a.device)


def _joined(re: Any, im: Any) -> Any:
    out = np.empty(re.shape, np.result_type(re.dtype, np.complex64))
    out.real, out.imag = re, im
    return out


primitive("real", PARTS, _parts_aval, lambda a: a.real, lambda ct, out, a: (P.complex(ct, zeros_like(ct)),), linear=True,
          doc="The real part.")
primitive("imag", PARTS, _parts_aval, lambda a: a.imag, lambda ct, out, a: (P.complex(zeros_like(ct), ct),), linear=True,
          doc="The imaginary part.")
primitive("complex", PARTS, _paired_aval, _joined, lambda ct, out, a, b: (re(ct), im(ct)), linear=True,
          doc="The complex value of a real and an imaginary part.")


def _as_real(a: Aval) -> Aval:
    _parts_aval(a)
    return aval((*a.shape, 2), a.dtype.part, a.device)


def _as_real_ref(a: Any) -> Any:
    return a[..., None].view(a.real.dtype)


def _as_complex(a: Aval) -> Aval:
    if not a.shape or a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return _paired_aval(aval(a.shape[:-1], a.dtype, a.device))


def _as_complex_ref(a: Any) -> Any:
    if a.strides[-1] != a.itemsize:
        a = np.ascontiguousarray(a)
    return a.view(np.result_type(a.dtype, np.complex64))[..., 0]


primitive("as_real", PARTS, _as_real, _as_real_ref, lambda ct, out, a: (P.as_complex(ct),), linear=True, cost=0,
          doc="Real and imaginary parts along a new last axis: the same memory.")
primitive("as_complex", PARTS, _as_complex, _as_complex_ref, lambda ct, out, a: (P.as_real(ct),), linear=True, cost=0,
          doc="The complex values whose parts lie along the last axis: the same memory.")


# ---------------------------------------------------------------- parts of nodes
def is_complex(n: Node) -> bool:
    return n.dtype.category == COMPLEX


def _number(n: Node, part: str) -> Node | None:
    """The part of a constant of any shape."""
    number = base(n, ("expand", "reshape"))
    return full(getattr(number.data, part), n.shape, n.dtype.part, number.aval.device) if number.op == "const" else None


def re(n: Node) -> Node:
    """The real part; of a real value, itself."""
    if not is_complex(n):
        return n
    if n.op == "complex":
        return n.inputs[0].real or n.inputs[0]
    return _number(n, "real") or P.real(n)


def im(n: Node) -> Node:
    """The imaginary part; of a real value, zeros."""
    if not is_complex(n):
        return zeros_like(n)
    if n.op == "complex":
        return n.inputs[1].real or n.inputs[1]
    return _number(n, "imag") or P.imag(n)


def pair(x: Node, y: Node) -> Node:
    """x + iy."""
    out: Node = P.complex(x, y)
    return out


def conj(n: Node) -> Node:
    return pair(re(n), P.neg(im(n))) if is_complex(n) else n


def is_real(n: Node) -> bool:
    """Is it known to have no imaginary part: a real number or tensor that was cast?"""
    number = base(im(n), ("expand", "reshape"))
    return number.op == "const" and number.data == 0


def form(*names: str) -> Callable[[Any], Any]:
    """The primitives of these names on complex operands."""
    def declare(f: Any) -> Any:
        FORMS.update(dict.fromkeys(names, f))
        return f
    return declare


def recast(n: Node, dtype: DType) -> Node:
    """A cast to or from a complex dtype; the imaginary part is dropped where there is no place for it."""
    if dtype.category == COMPLEX:
        return pair(cast(re(n), dtype.part), cast(im(n), dtype.part)) if is_complex(n) else \
            pair(cast(n, dtype.part), full(0, n.shape, dtype.part, n.aval.device if n.op == "const" else "cpu"))
    if dtype.category == BOOL:
        return P.bitwise_or(P.ne(re(n), zeros_like(re(n))), P.ne(im(n), zeros_like(im(n))))
    return cast(re(n), dtype)


FORMS["cast"] = recast


# ---------------------------------------------------------------- arithmetic
@form("mul")
def mul(a: Node, b: Node) -> Node:
    if is_real(a):
        a, b = b, a
    x, y = re(a), im(a)
    if is_real(b):                                        # a factor without imaginary part scales
        c = re(b)
        return pair(P.mul(x, c), P.mul(y, c))
    c, d = re(b), im(b)
    return pair(P.sub(P.mul(x, c), P.mul(y, d)), P.add(P.mul(x, d), P.mul(y, c)))


def _size(x: Node, y: Node) -> tuple[Node, Node]:
    """(the larger magnitude, or 1 where it is 0 or infinite; is it one of these), through which no derivative flows."""
    x, y = P.stop(P.abs(x)), P.stop(P.abs(y))
    m = P.maximum(x, y)
    odd = P.bitwise_or(P.eq(m, zeros_like(m)), P.eq(m, like(np.inf, m)))
    return P.where(odd, like(1, m), m), odd


@form("div")
def div(a: Node, b: Node) -> Node:
    if is_real(b):
        c = re(b)
        return pair(P.div(re(a), c), P.div(im(a), c))
    x, y, c, d = re(a), im(a), re(b), im(b)
    m, _ = _size(c, d)
    c, d = P.div(c, m), P.div(d, m)
    x, y = P.div(x, m), P.div(y, m)
    square = P.add(P.mul(c, c), P.mul(d, d))
    return pair(P.div(P.add(P.mul(x, c), P.mul(y, d)), square), P.div(P.sub(P.mul(y, c), P.mul(x, d)), square))


@form("reciprocal")
def reciprocal(a: Node) -> Node:
    return div(like(1, a), a)


@form("abs")
def magnitude(a: Node) -> Node:
    """Without overflow on the way; 0 has the derivative 0.  What the parts are divided by counts as a number, to all orders."""
    x, y = re(a), im(a)
    m, odd = _size(x, y)
    u, v = P.div(x, m), P.div(y, m)
    square = P.where(odd, like(1, u), P.add(P.mul(u, u), P.mul(v, v)))
    ends = P.stop(P.maximum(P.abs(x), P.abs(y)))
    endless = P.stop(P.bitwise_or(P.eq(P.abs(x), like(np.inf, x)), P.eq(P.abs(y), like(np.inf, y))))
    found = P.where(odd, ends, P.mul(m, P.sqrt(square)))
    return P.where(endless, like(np.inf, x), found)


@form("sign")
def sign(a: Node) -> Node:
    """The number of size 1 in the same direction; 0 for 0."""
    r = magnitude(a)
    zero = P.eq(r, zeros_like(r))
    r = P.where(zero, like(1, r), r)
    return P.where(zero, zeros_like(a), pair(P.div(re(a), r), P.div(im(a), r)))


@form("eq")
def eq(a: Node, b: Node) -> Node:
    return P.bitwise_and(P.eq(re(a), re(b)), P.eq(im(a), im(b)))


@form("ne")
def ne(a: Node, b: Node) -> Node:
    return P.bitwise_not(eq(a, b))


@form("isnan")
def isnan(a: Node) -> Node:
    return P.bitwise_or(P.isnan(re(a)), P.isnan(im(a)))


@form("matmul")
def matmul(a: Node, b: Node, *dtype: Any) -> Node:
    if is_real(a) and is_real(b):
        out = P.matmul(re(a), re(b))
        return pair(out, zeros_like(out))
    if is_real(b):
        return pair(P.matmul(re(a), re(b)), P.matmul(im(a), re(b)))
    if is_real(a):
        return pair(P.matmul(re(a), re(b)), P.matmul(re(a), im(b)))
    x, y, c, d = re(a), im(a), re(b), im(b)
    return pair(P.sub(P.matmul(x, c), P.matmul(y, d)), P.add(P.matmul(x, d), P.matmul(y, c)))


@form("prod")
def prod(a: Node, axes: tuple[int, ...]) -> Node:
    """Halves multiplied with each other, so that a long product is as exact as a short one."""
    rest = [k for k in range(a.ndim) if k not in axes]
    n = P.permute(a, (*rest, *axes))
    lead = tuple([a.shape[k] for k in rest])
    count = 1
    for k in axes:
        count *= a.shape[k]
    n = P.reshape(n, (*lead, count))
    if not count:
        return full(1, lead, a.dtype)
    while count > 1:
        half, odd = count // 2, count % 2
        first, second, left = [P.slice(n, (0,) * len(lead) + (start,), (*lead, stop), (1,) * n.ndim)
                               for start, stop in ((0, half), (half, 2 * half), (2 * half, count))]
        n = P.mul(first, second)
        n = P.concat([n, left], len(lead)) if odd else n
        count = half + odd
    return P.reshape(n, lead)


def _by_part(name: str) -> None:
    """A primitive that is linear in its complex operands."""
    def f(*args: Any) -> Node:
        def part(of: Any) -> Node:
            out: Node = getattr(P, name)(*[of(a) if type(a) is Node and is_complex(a) else a for a in args])
            return out
        return pair(part(re), part(im))
    FORMS[name] = f


for _name in ("cumsum", "index_set", "scatter_set"):
    _by_part(_name)


@form("again")
def again(a: Node, b: Node) -> Node:
    return pair(P.again(re(a), re(b)), P.again(im(a), re(b)))


def times_i(n: Node) -> Node:
    """i times a complex value: no arithmetic but a sign."""
    return pair(P.neg(im(n)), re(n))


def number(z: complex, n: Node) -> Node:
    """A complex constant of the aval of a complex node."""
    return full(z, n.shape, n.dtype)


_plain_cast = P.cast


def _cast(n: Node, dtype: DType) -> Node:
    return recast(n, dtype) if dtype.category == COMPLEX else _plain_cast(n, dtype)


P.cast = _cast
