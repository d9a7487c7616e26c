"""Public ops of linear algebra: norms, conditions, ranks, pseudo-inverses, powers and products of matrices.

In: nodes whose last two dims (or two named ones) are matrices.  Out: nodes.  Everything here is made of the primitives of
`factors` and of other public ops.
"""

from __future__ import annotations

import math

from ..dtypes import FLOAT, DType, finfo, int64
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from .checks import scalar_type
from .contraction import cross as crossed
from .declare import Nodes, P, back, broadcast, cast, dim_of, full, op, unspread, zeros_like
from .elementwise import like
from .factors import decomposed, identity, mm, pinv_pull, wide
from .index import swap
from .linear import matrices, precise, square
from .matrices import multiply
from .moments import _norm, _vjp_norm
from .moments import vector_norm as norm_over
from .reductions import Dim, finish
from .shapes import diagonal, move

Order = float | str | None


# ---------------------------------------------------------------- norms
def _vjp_vector(ct: Node, out: Node, x: Node, ord: float = 2, dim: Dim = None, keepdim: bool = False,
                dtype: DType | None = None) -> tuple[Node | None]:
    return _vjp_norm(ct, out, x, ord, dim, keepdim, dtype)


@op(method=False, function=False, vjp=_vjp_vector)
def linalg_vector_norm(x: Node, ord: float = 2, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """(sum |x|**ord) ** (1/ord) over dims (all by default)."""
    if x.aval.size == 0 and dim is None and ord < 0:
        raise explain(RuntimeError(f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation "
                                   "does not have an identity"))
    return _norm("linalg.vector_norm", x, ord, dim, keepdim, dtype)


def _plane(a: Node, dim: Dim) -> tuple[int, int]:
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if len(dims) != 2:
        raise explain(RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {' '.join(map(str, dims))}"))
    first, second = dim_of(dims[0], a.ndim), dim_of(dims[1], a.ndim)
    if first == second:
        raise explain(RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dims[0]}, {dims[1]})"))
    return first, second


def _spectral(a: Node, axes: tuple[int, int], order: float | str) -> Node:
    rest = tuple([i for i in range(a.ndim) if i not in axes])
    s = decomposed(move(a, (*rest, *axes)), "svd", False)[1]
    last = (s.ndim - 1,)
    return P.sum(s, last) if order == "nuc" else P.max(s, last) if order == 2 else P.min(s, last)


def _by_svd(ord: Order = None, *rest: object) -> bool:
    return ord in ("nuc", 2, -2)


def matrix_norm(a: Node, ord: float | str, dim: Dim, keepdim: bool, dtype: DType | None) -> Node:
    matrices("linalg.matrix_norm", a)
    a = a if dtype is None else cast(a, dtype)
    if a.dtype.category < FLOAT:
        raise explain(RuntimeError("linalg.matrix_norm: Expected a floating point or complex tensor as input. Got "
                                   f"{scalar_type(a.dtype)}"), hint="convert it first: x.float()")
    axes = _plane(a, dim)
    if ord not in (("fro", "nuc") if isinstance(ord, str) else (1, -1, 2, -2, math.inf, -math.inf)):
        raise explain(RuntimeError(f"linalg.matrix_norm: Order {ord} not supported."))
    kept = tuple(sorted(axes))
    if ord == "fro":
        out = norm_over(a, 2.0, kept)
    elif ord in ("nuc", 2, -2):
        precise("linalg.svd", a, "linalg_svd_cpu")
        out = _spectral(a, axes, ord)
    else:
        summed, other = axes if abs(float(ord)) == 1 else (axes[1], axes[0])
        sums = P.sum(P.abs(a), (summed,))
        last = (other - (summed < other),)
        out = P.max(sums, last) if float(ord) > 0 else P.min(sums, last)
        if out.dtype.half:                                # the rule looks for the sum itself, not for what it is rounded to
            out = P.add(out, zeros_like(out))
    return finish(out, kept, a.shape, keepdim)


@op(method=False, function=False, grad="LinalgVectorNormBackward0", raises=_by_svd)
def linalg_matrix_norm(A: Node, ord: float | str = "fro", dim: Dim = (-2, -1), keepdim: bool = False,
                       dtype: DType | None = None) -> Node:
    """The norm of matrices: 'fro', 'nuc', 1, -1, 2, -2, inf or -inf."""
    return matrix_norm(A, ord, dim, keepdim, dtype)


@op(method=False, function=False, grad="LinalgVectorNormBackward0", raises=_by_svd)
def linalg_norm(input: Node, ord: Order = None, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """The norm of vectors (one dim) or matrices (two dims); without ord the root of the sum of squares over all dims."""
    dims = (dim,) if isinstance(dim, int) else None if dim is None else tuple(dim)
    if dims is not None and ord is not None and len(dims) not in (1, 2):
        raise explain(RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}"))
    if dims is None and ord is not None and input.ndim not in (1, 2):
        raise explain(RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                                   f"{input.ndim}D."))
    planar = len(dims) == 2 if dims is not None else input.ndim == 2
    if ord is not None and (planar or isinstance(ord, str)):
        return matrix_norm(input, ord, (0, 1) if dims is None else dims, keepdim, dtype)
    return _norm("linalg.vector_norm", input, 2.0 if ord is None else ord, dim, keepdim, dtype)


@op(method=False, function=False, grad="DivBackward0", raises=True)
def linalg_cond(A: Node, p: Order = None) -> Node:
    """The norm of each matrix times that of its inverse; by default the ratio of its extreme singular values."""
    if A.ndim < 2:
        raise explain(RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions."))
    if p not in (None, 2, -2, "fro", "nuc", 1, -1, math.inf, -math.inf):
        raise explain(RuntimeError(f"linalg.cond got an invalid norm type: {p}"))
    if p is None or p in (2, -2):
        precise("linalg.svd", A, "linalg_svd_cpu")
        s = decomposed(A, "svd", False)[1]
        last = (s.ndim - 1,)
        big, small = P.max(s, last), P.min(s, last)
        return P.div(small, big) if p == -2 else P.div(big, small)
    square(f"linalg.cond(ord={p})", A)
    precise("linalg.inv", A)
    return P.mul(*[matrix_norm(n, p, (-2, -1), False, None) for n in (A, P.inv(A, ""))])


# ---------------------------------------------------------------- ranks and pseudo-inverses
def _least(a: Node, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """Below which size, absolute or as a part of the largest, a singular value counts as 0."""
    if rtol is None:
        rtol = 0.0 if atol is not None and atol > 0 else finfo(a.dtype).eps * max(a.shape[-2:])
    return atol or 0.0, rtol


@op(method=False, function=False, grad="SumBackward1", raises=True)
def linalg_matrix_rank(input: Node, tol: float | None = None, hermitian: bool = False, atol: float | None = None,
                       rtol: float | None = None) -> Node:
    """How many singular values (or eigenvalues, by their size) are more than max(atol, rtol * the largest)."""
    if input.ndim < 2:
        raise explain(RuntimeError("torch.linalg.matrix_rank: The input tensor input must have at least 2 dimensions."))
    if input.dtype.category < FLOAT or input.dtype.half:
        raise explain(RuntimeError("This function doesn't handle types other than float and double"))
    least, part = _least(input, atol, rtol) if tol is None else (tol, 0.0)
    if hermitian:
        square("linalg.eigh", input)
    s = P.abs(decomposed(input, "eigh", True)[0]) if hermitian else decomposed(input, "svd", False)[1]
    return _count(s, least, part)


def _count(s: Node, least: float, part: float) -> Node:
    last = (s.ndim - 1,)
    if s.shape[-1] == 0:
        return full(0, s.shape[:-1], int64)
    top = P.max(s, last)
    limit = P.maximum(P.mul(top, like(part, top)), like(least, top))
    return P.sum(cast(P.gt(s, back(limit, last, s.shape)), int64), last)


def _inverted(a: Node, atol: float | None, rtol: float | None, hermitian: bool) -> Node:
    if a.ndim < 2 or a.dtype.category < FLOAT or a.dtype.half:
        shape = ", ".join(map(str, a.shape))
        raise explain(RuntimeError(f"linalg.pinv({scalar_type(a.dtype)}{{[{shape}]}}): expected a tensor with 2 or more "
                                   "dimensions of float, double, cfloat or cdouble types"))
    if hermitian:
        square("linalg.eigh", a)
    return P.pinv(a, *_least(a, atol, rtol), hermitian)


@op(method=False, function=False, raises=True)
def linalg_pinv(A: Node, rcond: float | None = None, hermitian: bool = False, atol: float | None = None,
                rtol: float | None = None) -> Node:
    """The pseudo-inverse; singular values up to max(atol, rtol * the largest) count as 0."""
    return _inverted(A, atol, rtol if rcond is None else rcond, hermitian)


@op(grad="LinalgPinvBackward0", raises=True)
def pinverse(input: Node, rcond: float = 1e-15) -> Node:
    """The pseudo-inverse; singular values up to rcond times the largest count as 0."""
    return _inverted(input, None, rcond, False)


def _vjp_lstsq(ct: tuple[Node | None, ...], out: tuple[Node, ...], A: Node, B: Node, rcond: float | None = None,
               driver: str | None = None) -> tuple[Node | None, Node | None]:
    (g, residue), vector = ct[:2], B.ndim == A.ndim - 1
    x, b = [P.reshape(n, (*n.shape, 1)) if vector else n for n in (out[0], B)]
    ga: Node | None = None
    gb: Node | None = None
    if g is not None:
        g = P.reshape(g, (*g.shape, 1)) if vector else g
        inverse = P.pinv(A, *_least(A, None, rcond), False)
        ga, gb = pinv_pull(mm(g, swap(b)), inverse, A), mm(swap(inverse), g)
    if residue is not None and out[1].ndim == b.ndim - 1:
        slope = P.mul(like(2.0, b), P.mul(P.sub(mm(A, x), b), wide(residue, -2, b.shape[-2])))
        ga = _sum(ga, mm(slope, swap(x)))
        gb = _sum(gb, P.neg(slope))
    return ga, None if gb is None else unspread(P.reshape(gb, B.shape), B)


def _sum(a: Node | None, b: Node) -> Node:
    return b if a is None else P.add(a, b)


@op(method=False, function=False, returns=("solution", "residuals", "rank", "singular_values"), raises=True)
def linalg_lstsq(A: Node, B: Node, rcond: float | None = None, driver: str | None = None) -> tuple[Node, Node, Node, Node]:
    """The smallest X for which A X comes nearest to B.  Residuals come for more rows than columns and a driver other than
    'gelsy' (the default), ranks by all but 'gels', singular values by 'gelsd' and 'gelss'."""
    words = "torch.linalg.lstsq"
    if A.ndim < 2:
        raise explain(RuntimeError(f"{words}: input must have at least 2 dimensions."))
    if B.ndim < 1:
        raise explain(RuntimeError(f"{words}: other must have at least 1 dimension."))
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise explain(RuntimeError(f"{words}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)"))
    precise("linalg.lstsq", A)
    vector = B.ndim == A.ndim - 1
    b = P.reshape(B, (*B.shape, 1)) if vector else B
    if b.shape[-2] != A.shape[-2]:
        which = "-1" if vector else "-2"
        raise explain(RuntimeError(f"{words}: input.size(-2) should match other.size({which})"))
    if A.dtype is not B.dtype:
        raise explain(RuntimeError(f"{words}: Expected input and other to have the same dtype, but got input's dtype "
                                   f"{scalar_type(A.dtype)} and other's dtype {scalar_type(B.dtype)}"))
    least = _least(A, None, rcond)
    x = P.lstsq(A, b, least[1])
    none, ranks = full(0, (0,), A.dtype), full(0, (0,), int64)
    residuals = values = none
    if A.shape[-2] > A.shape[-1] and driver not in (None, "gelsy"):
        d = P.sub(mm(A, x), b)
        residuals = P.sum(P.mul(d, d), (d.ndim - 2,))
    if driver != "gels":
        s = decomposed(A, "svd", False)[1]
        ranks = _count(s, *least)
        values = s if driver in ("gelsd", "gelss") else none
    return P.reshape(x, x.shape[:-1]) if vector else x, residuals, ranks, values


# ---------------------------------------------------------------- powers and exponentials
def _power(words: str, a: Node, n: int) -> Node:
    square(words, a)
    if n == 0:
        return identity(a)
    if n < 0:
        precise("linalg.inv", a)
        a, n = P.inv(a, "linalg.inv"), -n
    out: Node | None = None
    while n:
        if n & 1:
            out = a if out is None else mm(out, a)
        n >>= 1
        if n:
            a = mm(a, a)
    assert out is not None
    return out


@op(grad="MmBackward0", raises=True)
def matrix_power(input: Node, n: int) -> Node:
    """The n-th power of each matrix, of its inverse for negative n, by repeated squaring."""
    return _power("linalg.matrix_power", input, n)


@op(method=False, function=False, grad="MmBackward0", raises=True)
def linalg_matrix_power(input: Node, n: int) -> Node:
    """The n-th power of each matrix, of its inverse for negative n, by repeated squaring."""
    return _power("linalg.matrix_power", input, n)


def _exponential(a: Node) -> Node:
    square("linalg.matrix_exp", a)
    precise("linalg.matrix_exp", a)
    return P.expm(a)


@op(grad="LinalgMatrixExpBackward0")
def matrix_exp(input: Node) -> Node:
    """The exponential of each matrix."""
    return _exponential(input)


@op(method=False, function=False)
def linalg_matrix_exp(input: Node) -> Node:
    """The exponential of each matrix."""
    return _exponential(input)


# ---------------------------------------------------------------- products
def _cheapest(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split each run of a chain of matrices; `sizes`: rows of the first, then columns of each."""
    n = len(sizes) - 1
    cost: dict[tuple[int, int], int] = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            price, at = min([(cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)])
            cost[i, j], split[i, j] = price, at
    return split


def _chain(tensors: Nodes) -> Node:
    if len(tensors) < 2:
        raise explain(RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}"))
    for which, n in (("first", tensors[0]), ("last", tensors[-1])):
        if n.ndim not in (1, 2):
            raise explain(RuntimeError(f"multi_dot(): the {which} tensor must be 1D or 2D but got {n.ndim}D"))
    for k, n in enumerate(tensors[1:-1], 1):
        if n.ndim != 2:
            raise explain(RuntimeError(f"multi_dot(): tensor {k} must be 2D but got {n.ndim}D"))
    for k, (a, b) in enumerate(zip(tensors, tensors[1:])):
        if a.shape[-1] != b.shape[0]:
            raise explain(RuntimeError(f"multi_dot(): tensors {k} and {k + 1} with shapes {list(a.shape)} and {list(b.shape)} "
                                       "cannot be multiplied"))
        if a.dtype is not b.dtype:
            raise explain(RuntimeError("multi_dot(): all tensors must have be the same dtype"))
    first = tensors[0].shape[0] if tensors[0].ndim == 2 else 1
    split = _cheapest([first, *[n.shape[-1] if n.ndim == 2 else n.shape[0] if k == 0 else 1 for k, n in enumerate(tensors)]])

    def part(i: int, j: int) -> Node:
        return tensors[i] if i == j else multiply(part(i, split[i, j]), part(split[i, j] + 1, j))
    return part(0, len(tensors) - 1)


@op(method=False, function=False, grad="MmBackward0")
def linalg_multi_dot(tensors: Nodes) -> Node:
    """The product of a chain of matrices (vectors at its ends), in the order that costs least."""
    return _chain(tensors)


@op(method=False, function=False)
def linalg_cross(input: Node, other: Node, dim: int = -1) -> Node:
    """The vector product along a dim of extent 3."""
    if input.ndim != other.ndim:
        raise explain(RuntimeError("linalg.cross: inputs must have the same number of dimensions."))
    return crossed(input, other, dim)


@op(method=False, function=False, grad="SumBackward1")
def linalg_vecdot(x: Node, y: Node, dim: int = -1) -> Node:
    """The sums of products along a dim."""
    if x.dtype is not y.dtype:
        raise explain(RuntimeError("linalg.vecdot: Expected vectors with same dtype, but found "
                                   f"{scalar_type(x.dtype)} and {scalar_type(y.dtype)}"))
    a, b = broadcast(x, y)
    return P.sum(P.mul(a, b), (dim_of(dim, a.ndim),))


@op(method=False, function=False, view=True, grad="DiagonalBackward0")
def linalg_diagonal(A: Node, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    """The diagonal of two dims, as a last dim in their stead."""
    return diagonal(A, offset, dim1, dim2)


@op(method=False, function=False, grad="CatBackward0")
def linalg_vander(x: Node, N: int | None = None) -> Node:
    """The powers 0, 1 ... N - 1 of each element, in rows."""
    n = N if N is not None else x.shape[-1] if x.ndim else 1
    if n <= 1:
        raise explain(RuntimeError("N must be greater than 1."))
    if x.dtype.half:
        raise explain(RuntimeError("linalg.vander supports floating point, complex, and integer tensors, but got "
                                   f"{scalar_type(x.dtype)}"), hint="convert it first: x.float()")
    a = x if x.dtype.category == FLOAT else cast(x, int64)
    one, column = full(1, (*a.shape, 1), a.dtype), P.reshape(a, (*a.shape, 1))
    return P.concat([one, P.cumprod(P.concat([column] * (n - 1), a.ndim), a.ndim)], a.ndim)


# ---------------------------------------------------------------- tensors as matrices
def _size(shape: Shape) -> int:
    out = 1
    for s in shape:
        out *= s
    return out


@op(method=False, function=False, grad="ViewBackward0", raises=True)
def linalg_tensorinv(input: Node, ind: int = 2) -> Node:
    """The inverse of a tensor that is a matrix by its first `ind` dims and the others."""
    if ind <= 0:
        raise explain(RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}"))
    first, second = input.shape[:ind], input.shape[ind:]
    if _size(first) != _size(second):
        raise explain(RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), "
                                   f"but got {_size(second)} != {_size(first)}"))
    precise("linalg.inv", input)
    return P.reshape(P.inv(P.reshape(input, (_size(first), _size(second))), "linalg.inv"), second + first)


@op(method=False, function=False, grad="ViewBackward0", raises=True)
def linalg_tensorsolve(A: Node, B: Node, dims: tuple[int, ...] | None = None) -> Node:
    """X with tensordot(A, X, X.ndim) = B."""
    if dims:
        last = [dim_of(d, A.ndim) for d in dims]
        A = move(A, (*[i for i in range(A.ndim) if i not in last], *last))
    rest = A.shape[B.ndim:]
    if _size(rest) != _size(A.shape[:B.ndim]):
        raise explain(RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                                   f"prod(self.shape[:other.ndim]), but got {_size(rest)} != {_size(A.shape[:B.ndim])}"))
    precise("linalg.solve", A, "lu_cpu")
    n = _size(rest)
    return P.reshape(P.solve(P.reshape(A, (n, n)), P.reshape(B, (n, 1)), "torch.linalg.solve"), rest)
