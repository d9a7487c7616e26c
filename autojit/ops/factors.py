"""Primitives of linear algebra, and their rules: LAPACK on the host, batched over leading axes.

In: float nodes whose last two axes are matrices.  Out: nodes.  A decomposition is one node that holds all its results in a
row, without a derivative; each result is cut out of it by `factor`, which has one.  So LAPACK is called once, and a rule for
eigenvalues alone never divides by differences of eigenvalues.

Rules: M. Giles, An extended collection of matrix derivative results (2008); for qr S. Walter and L. Lehmann, Algorithmic
differentiation of linear algebra functions (2010); for pinv G. Golub and V. Pereyra (1973); for expm the block triangle of
R. Mathias (1996).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, int32, int64
from ..ir.aval import Aval, aval
from ..ir.graph import Node
from ..ir.primitive import HOST
from .declare import P, cast, full, primitive, quiet, spread, zeros_like
from .elementwise import like
from .index import swap
from .movement import slice_axis
from .triangles import triangle

Cut = Node | None


def _ref(name: str) -> Callable[..., Any]:
    """A reference of `lapack`, which is imported when one first runs."""
    def f(*args: Any) -> Any:
        from . import lapack
        return getattr(lapack, name)(*args)
    return quiet(f)


# ---------------------------------------------------------------- shapes
def _matrix(a: Aval) -> Aval:
    if len(a.shape) < 2 or a.dtype.category < FLOAT or a.dtype.half:
        raise TypeError(f"needs matrices of float32 or float64, got {a}")
    return a


def _square(a: Aval, *params: Any) -> Aval:
    if _matrix(a).shape[-1] != a.shape[-2]:
        raise TypeError(f"needs square matrices, got {a}")
    return a


def _pair(a: Aval, b: Aval, *params: Any) -> Aval:
    if _matrix(b).shape[:-1] != a.shape[:-1] or a.dtype is not b.dtype:
        raise TypeError(f"{a} does not go with {b}")
    return aval((*a.shape[:-2], a.shape[-1], b.shape[-1]), a.dtype, a.device)


def _number(a: Aval, *params: Any) -> Aval:
    return aval(_square(a).shape[:-2], a.dtype, a.device)


def _code(a: Aval, *params: Any) -> Aval:
    return aval(_matrix(a).shape[:-2], int32, a.device)


def _row(count: Callable[..., int]) -> Callable[..., Aval]:
    def infer(a: Aval, *params: Any) -> Aval:
        return aval((*_matrix(a).shape[:-2], count(*a.shape[-2:], *params)), a.dtype, a.device)
    return infer


# ---------------------------------------------------------------- words of rules
def mm(*factors: Node) -> Node:
    """A product of matrices, from left to right."""
    out = factors[0]
    for f in factors[1:]:
        out = P.matmul(out, f)
    return out


def masked(n: Node, offset: int, lower: bool) -> Node:
    """A triangle, zeros elsewhere."""
    return P.where(spread(triangle(n.shape[-2:], offset, lower), n.shape), n, zeros_like(n))


def eye(n: Node) -> Node:
    """The mask of the diagonal of n's matrices."""
    shape = n.shape[-2:]
    return spread(P.eq(P.iota(shape, 0), P.iota(shape, 1)), n.shape)


def identity(n: Node) -> Node:
    """Unit matrices of n's shape."""
    return cast(eye(n), n.dtype)


def wide(n: Node, axis: int, size: int) -> Node:
    """A vector along a new axis (-1 or -2), as a matrix."""
    k = n.shape[-1]
    one, whole = ((k, 1), (k, size)) if axis == -1 else ((1, k), (size, k))
    lead = n.shape[:-1]
    return P.expand(P.reshape(n, (*lead, *one)), (*lead, *whole)) if size != 1 else P.reshape(n, (*lead, *one))


def scaled(n: Node, d: Node) -> Node:
    """Columns times numbers."""
    return P.mul(n, wide(d, -2, n.shape[-2]))


def halved(n: Node) -> Node:
    """The diagonal halved."""
    return P.where(eye(n), P.mul(n, like(0.5, n)), n)


def plus(a: Cut, b: Cut) -> Cut:
    return b if a is None else a if b is None else P.add(a, b)


def cut(n: Node, axis: int, start: int, stop: int) -> Node:
    return slice_axis(n, n.ndim + axis, start, stop)


def triangular(a: Node, b: Node, upper: bool, unit: bool = False) -> Node:
    return P.solve_triangular(a, b, upper, unit)


def right_triangular(b: Node, a: Node, upper: bool, unit: bool = False) -> Node:
    """X with X a = b."""
    return swap(triangular(swap(a), swap(b), not upper, unit))


# ---------------------------------------------------------------- solutions
def _vjp_solve(ct: Node, out: Node, a: Node, b: Node, words: str) -> tuple[Node, Node]:
    g = P.solve(swap(a), ct, words)
    return P.neg(mm(g, swap(out))), g


def _vjp_triangular(ct: Node, out: Node, a: Node, b: Node, upper: bool, unit: bool) -> tuple[Node, Node]:
    g = triangular(swap(a), ct, not upper, unit)
    offset = (1 if upper else -1) if unit else 0
    return P.neg(masked(mm(g, swap(out)), offset, not upper)), g


def inverse_pull(ct: Node, out: Node) -> Node:
    t = swap(out)
    return P.neg(mm(t, ct, t))


def pinv_pull(ct: Node, x: Node, a: Node) -> Node:
    """For a pseudo-inverse x of a, while the rank stays as it is."""
    t, g = swap(x), swap(ct)
    left = P.sub(g, mm(a, mm(x, g)))
    right = P.sub(mm(t, x, g), mm(mm(t, x, g), x, a))
    return P.add(P.sub(mm(left, x, t), mm(t, ct, t)), right)


def _vjp_lstsq(ct: Node, out: Node, a: Node, b: Node, rcond: float) -> tuple[Node, Node]:
    x = P.pinv(a, 0.0, rcond, False)
    return pinv_pull(mm(ct, swap(b)), x, a), mm(swap(x), ct)


def cholesky_pull(ct: Node, out: Node, upper: bool) -> Node:
    """Symmetric, as torch has it."""
    low, g = (swap(out), swap(ct)) if upper else (out, ct)
    phi = halved(masked(mm(swap(low), masked(g, 0, True)), 0, True))
    inner = triangular(swap(low), phi, True)
    outer = right_triangular(inner, low, False)
    return P.mul(P.add(outer, swap(outer)), like(0.5, outer))


def _vjp_expm(ct: Node, out: Node, a: Node) -> tuple[Node]:
    t, n = swap(a), a.shape[-1]
    top = P.concat([t, ct], a.ndim - 1)
    bottom = P.concat([zeros_like(t), t], a.ndim - 1)
    return (cut(cut(P.expm(P.concat([top, bottom], a.ndim - 2)), -2, 0, n), -1, n, 2 * n),)


primitive("inv", HOST, _square, _ref("inv"), lambda ct, out, a, words: (inverse_pull(ct, out),),
          doc="Inverses.  Its param: the words of a refusal; without them a singular matrix has Inf for an inverse.")
primitive("solve", HOST, _pair, _ref("solve"), _vjp_solve, doc="X with A X = B.  Its param as that of inv.")
primitive("solve_triangular", HOST, _pair, _ref("solve_triangular"), _vjp_triangular,
          doc="X with A X = B, where only a triangle of A is looked at; its diagonal counts as 1 if `unit`.")
primitive("lstsq", HOST, lambda a, b, rcond: aval((*a.shape[:-2], a.shape[-1], b.shape[-1]), a.dtype, a.device),
          _ref("lstsq"), _vjp_lstsq, doc="The smallest X for which A X comes nearest to B.")
primitive("pinv", HOST, lambda a, *p: aval((*_matrix(a).shape[:-2], a.shape[-1], a.shape[-2]), a.dtype, a.device),
          _ref("pinv"), lambda ct, out, a, *params: (pinv_pull(ct, out, a),), doc="Pseudo-inverses.")
primitive("cholesky", HOST, _square, _ref("cholesky"),
          lambda ct, out, a, upper, words: (cholesky_pull(ct, out, upper),), doc="L with L L.T = A, or its transpose.")
primitive("cholesky_info", HOST, _code, _ref("cholesky_info"), None, doc="The first leading minor that is not positive.")
primitive("expm", HOST, _square, _ref("expm"), _vjp_expm, doc="Exponentials of matrices.")


# ---------------------------------------------------------------- determinants
def each(n: Node, m: Node) -> Node:
    """A number for each matrix, spread over m."""
    return spread(P.reshape(n, (*n.shape, 1, 1)), m.shape)


def total(a: Node, b: Node) -> Node:
    """The sum of products of elements, for each matrix."""
    return P.sum(P.mul(a, b), (a.ndim - 2, a.ndim - 1))


def _vjp_cofactor(ct: Node, out: Node, a: Node) -> tuple[Node]:
    return (P.cofactor_along(a, ct),)


def _vjp_along(ct: Node, out: Node, a: Node, c: Node) -> tuple[Node, Node]:
    """By (<c, k> k - k c.T k) / d with cofactors k and determinant d: for invertible matrices."""
    k, d = P.cofactor(a), P.det(a)
    quotient = P.div(ct, each(d, ct))
    slope = P.add(P.mul(c, each(total(k, quotient), c)), P.mul(quotient, each(total(c, k), c)))
    slope = P.sub(slope, P.add(mm(quotient, swap(k), c), mm(c, swap(k), quotient)))
    scale = P.neg(total(quotient, out))
    return P.add(P.cofactor_along(a, slope), P.mul(k, each(scale, k))), P.cofactor_along(a, ct)


def log_pull(ct: Node, a: Node) -> Node:
    return P.mul(each(ct, a), swap(P.inv(a, "")))


primitive("det", HOST, _number, _ref("det"), lambda ct, out, a: (P.mul(each(ct, a), P.cofactor(a)),),
          doc="Determinants.")
primitive("cofactor", HOST, _square, _ref("cofactor"), _vjp_cofactor, doc="The gradient of the determinant.")
primitive("cofactor_along", HOST, lambda a, c: _square(a), _ref("cofactor_along"), _vjp_along,
          doc="The derivative of the cofactors of the first operand in the direction of the second.")
primitive("logabsdet", HOST, _number, _ref("logabsdet"),
          lambda ct, out, a: (log_pull(ct, a),), doc="Logarithms of the sizes of determinants.")
primitive("detsign", HOST, _number, _ref("detsign"), None, doc="Signs of determinants.")


# ---------------------------------------------------------------- decompositions: rules
def _skew(n: Node) -> Node:
    return P.sub(n, swap(n))


def eigh_pull(g: Sequence[Cut], w: Node, v: Node) -> Cut:
    """Eigenvalues alone need no difference of eigenvalues: they may be repeated."""
    gw, gv = g
    if gv is None:
        return None if gw is None else mm(scaled(v, gw), swap(v))
    m = _skew(mm(swap(v), gv))
    m = P.mul(m, like(0.5, m))
    n, on = v.shape[-1], eye(m)
    gap = P.sub(wide(w, -2, n), wide(w, -1, n))
    inner = P.where(on, zeros_like(m) if gw is None else wide(gw, -2, n), P.div(m, P.where(on, like(1, gap), gap)))
    return mm(v, inner, swap(v))


def svd_pull(g: Sequence[Cut], u: Node, s: Node, vh: Node) -> Cut:
    """Of full matrices only the columns that belong to a singular value have a derivative."""
    gu, gs, gv = g
    m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
    u, vh = cut(u, -1, 0, k), cut(vh, -2, 0, k)
    gu = None if gu is None else cut(gu, -1, 0, k)
    gv = None if gv is None else cut(gv, -2, 0, k)
    if gu is None and gv is None:
        return None if gs is None else mm(scaled(u, gs), vh)
    square = P.mul(s, s)
    gap = P.sub(wide(square, -2, k), wide(square, -1, k))
    on = eye(gap)
    gap = P.where(on, like(1, gap), gap)
    inner: Cut = None
    if gu is not None:
        inner = scaled(P.div(_skew(mm(swap(u), gu)), gap), s)
    if gv is not None:
        inner = plus(inner, P.mul(wide(s, -1, k), P.div(_skew(mm(vh, swap(gv))), gap)))
    assert inner is not None
    if gs is not None:
        inner = P.where(on, wide(gs, -2, k), inner)
    left = mm(u, inner)
    if gu is not None and m > k:
        beside = P.div(gu, wide(s, -2, m))
        left = P.add(left, P.sub(beside, mm(u, mm(swap(u), beside))))
    out = mm(left, vh)
    if gv is not None and n > k:
        beside = P.div(gv, wide(s, -1, n))
        out = P.add(out, mm(u, P.sub(beside, mm(mm(beside, swap(vh)), vh))))
    return out


def qr_pull(g: Sequence[Cut], q: Node, r: Node) -> Cut:
    """For at least as many rows as columns."""
    gq, gr = g
    inner: Cut = None if gr is None else mm(gr, swap(r))
    if gq is not None:
        inner = P.sub(zeros_like(r) if inner is None else inner, mm(swap(q), gq))
    if inner is None:
        return None
    upper = masked(inner, 0, False)
    both = halved(P.add(upper, swap(upper)))
    return right_triangular(plus(gq, mm(q, both)), swap(r), False)  # type: ignore[arg-type]


def lu_pull(g: Sequence[Cut], low: Node, up: Node) -> Cut:
    """The cotangent of the rows in the order of the factors, which is that of P.T A."""
    gl, gu = g
    if gl is None and gu is None:
        return None
    gl = zeros_like(low) if gl is None else gl
    gu = zeros_like(up) if gu is None else gu
    m, n = low.shape[-2], up.shape[-1]
    k = min(m, n)
    beside: Cut = None
    if m > k:                                             # the rows below are B U^-1
        tall = right_triangular(cut(gl, -2, k, m), swap(up), False)
        gu, beside = P.sub(gu, mm(swap(cut(low, -2, k, m)), tall)), tall
    elif n > k:                                           # the columns beside are L^-1 B
        tall = triangular(swap(low), cut(gu, -1, k, n), True, True)
        gl, beside = P.sub(gl, mm(tall, swap(cut(up, -1, k, n)))), tall
    square_l, square_u = cut(low, -2, 0, k), cut(up, -1, 0, k)
    inner = P.add(masked(mm(swap(square_l), cut(gl, -2, 0, k)), -1, True),
                  masked(mm(cut(gu, -1, 0, k), swap(square_u)), 0, False))
    out = triangular(swap(square_l), right_triangular(inner, swap(square_u), False), True, True)
    return out if beside is None else P.concat([out, beside], out.ndim - (2 if m > k else 1))


# ---------------------------------------------------------------- decompositions: nodes
primitive("eigh", HOST, _row(lambda m, n, lower: n + n * n), _ref("eigh"), None,
          doc="Eigenvalues and eigenvectors of a symmetric matrix in a row.")
primitive("svd", HOST, _row(lambda m, n, full: min(m, n) + (m * m + n * n if full else min(m, n) * (m + n))),
          _ref("svd"), None, doc="U, S and Vh in a row.")
primitive("qr", HOST, _row(lambda m, n, full: m * (m + n) if full else min(m, n) * (m + n)), _ref("qr"), None,
          doc="Q and R in a row.")
primitive("lu", HOST, lambda a, words: _matrix(a), _ref("lu"), lambda ct, out, a, words: (_lu_rows(ct, out, a),),
          doc="L without its diagonal and U in one matrix, of rows in the order that pivots say.")
primitive("lu_info", HOST, _code, _ref("lu_info"), None, doc="The first zero on U's diagonal.")
primitive("lu_pivots", HOST, lambda a: aval((*_matrix(a).shape[:-2], min(a.shape[-2:])), int32, a.device),
          _ref("lu_pivots"), None, doc="The row, from 1, that each row was exchanged with.")
primitive("permutation", HOST, lambda p, n: aval((*p.shape[:-1], n), int64, p.device), _ref("permutation"), None,
          doc="The order of n rows after exchanges in turn.")


def _split(row: Node, shapes: Sequence[tuple[int, ...]]) -> list[Node]:
    """Results of a decomposition cut out of its row."""
    out, start, lead = [], 0, row.shape[:-1]
    for shape in shapes:
        size = 1
        for s in shape:
            size *= s
        out.append(P.reshape(slice_axis(row, row.ndim - 1, start, start + size), (*lead, *shape)))
        start += size
    return out


def _parts(a: Node, kind: str, flag: bool) -> list[Node]:
    """The results without derivatives."""
    m, n = a.shape[-2:]
    k = min(m, n)
    if kind == "eigh":
        return _split(P.eigh(a, flag), [(n,), (n, n)])
    if kind == "svd":
        return _split(P.svd(a, flag), [(m, m if flag else k), (k,), (n if flag else k, n)])
    return _split(P.qr(a, flag), [(m, m if flag else k), (m if flag else k, n)])


_PULLS: dict[str, Callable[..., Cut]] = {"eigh": eigh_pull, "svd": svd_pull, "qr": qr_pull}


def decomposed(a: Node, kind: str, flag: bool) -> tuple[Node, ...]:
    """(eigenvalues, eigenvectors), (U, S, Vh) or (Q, R); flag: the lower triangle counts, full matrices."""
    return tuple([P.factor(p, a, kind, k, flag) for k, p in enumerate(_parts(a, kind, flag))])


def _vjp_factor(ct: Node, out: Node, part: Node, a: Node, kind: str, k: int, flag: bool) -> tuple[Cut, Cut]:
    parts = decomposed(a, kind, flag)
    return None, _PULLS[kind]([ct if j == k else None for j in range(len(parts))], *parts)


primitive("factor", HOST, lambda part, a, *params: part, lambda part, a, *params: part, _vjp_factor,
          doc="One result of the decomposition of the second operand: the first operand, with a derivative.")


def lower_of(lu: Node) -> Node:
    """L of an LU."""
    k = min(lu.shape[-2:])
    square = cut(lu, -1, 0, k)
    return P.where(eye(square), full(1, square.shape, square.dtype), masked(square, 0, True))


def upper_of(lu: Node) -> Node:
    """U of an LU."""
    return masked(cut(lu, -2, 0, min(lu.shape[-2:])), 0, False)


def permuting(order: Node, like_: Node) -> Node:
    """The matrix P with A = P L U."""
    n = order.shape[-1]
    shape = (*order.shape[:-1], n, n)
    return cast(P.eq(P.iota(shape, len(shape) - 2), wide(order, -2, n)), like_.dtype)


def lu_rows(ct: Node, lu: Node, pivots: Node) -> Node:
    """The cotangent of A from that of its LU in one."""
    k = min(lu.shape[-2:])
    g = lu_pull((masked(cut(ct, -1, 0, k), -1, True), masked(cut(ct, -2, 0, k), 0, False)), lower_of(lu), upper_of(lu))
    assert g is not None
    return mm(permuting(P.permutation(pivots, lu.shape[-2]), lu), g)


def _lu_rows(ct: Node, out: Node, a: Node) -> Node:
    return lu_rows(ct, out, P.lu_pivots(a))


# what works on leading axes as on none: batching only has to put one more there
BATCHED = ("inv", "solve", "solve_triangular", "lstsq", "pinv", "cholesky", "cholesky_info", "expm", "det", "cofactor",
           "cofactor_along", "logabsdet", "detsign", "eigh", "svd", "qr", "lu", "lu_info", "lu_pivots", "permutation", "factor")
