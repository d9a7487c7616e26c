"""Public ops of linear algebra: inverses, solutions, determinants.  `autojit.linalg` shows them under torch's names.

In: float32 or float64 nodes whose last two dims are matrices.  Out: nodes.  Shapes and dtypes are refused in torch's words;
a singular matrix is refused when it is computed (at the call outside of a trace).
"""

from __future__ import annotations

from ..dtypes import FLOAT, int32
from ..errors import explain
from ..ir.graph import Node
from .checks import scalar_type
from .declare import P, broadcast_shapes, op, spread, unspread, zeros_like
from .elementwise import like
from .factors import identity, lower_of, masked, mm, permuting, upper_of
from .index import swap


# ---------------------------------------------------------------- refusals
def matrices(words: str, *nodes: Node, name: str = "A") -> None:
    for n in nodes:
        if n.ndim < 2:
            raise explain(RuntimeError(f"{words}: The input tensor {name} must have at least 2 dimensions."))


def square(words: str, a: Node) -> None:
    matrices(words, a)
    if a.shape[-1] != a.shape[-2]:
        raise explain(RuntimeError(f"{words}: A must be batches of square matrices, but they are {a.shape[-2]} by "
                                   f"{a.shape[-1]} matrices"))


def precise(words: str, a: Node, kernel: str = "", integers: str = "") -> None:
    """float32 or float64.  kernel: torch's kernel that has no halves; integers: the one that has no integers."""
    kind = scalar_type(a.dtype)
    if a.dtype.category < FLOAT:
        error: Exception = RuntimeError(f"{words}: Expected a floating point or complex tensor as input. Got {kind}")
        if integers:
            error = NotImplementedError(f"\"{integers}\" not implemented for '{kind}'")
        raise explain(error, hint="convert it first: x.float()")
    if a.dtype.half:
        error = RuntimeError(f"{words}: Low precision dtypes not supported. Got {kind}")
        if kernel:
            error = NotImplementedError(f"\"{kernel}\" not implemented for '{kind}'")
        raise explain(error, hint="convert it first: x.float()")


def same(words: str, a: Node, b: Node) -> None:
    if a.dtype is not b.dtype:
        raise explain(RuntimeError(f"{words}: Expected A and B to have the same dtype, but found A of type "
                                   f"{scalar_type(a.dtype)} and B of type {scalar_type(b.dtype)} instead"))


def fitting(words: str, a: Node, b: Node, left: bool) -> None:
    if a.shape[-1] != b.shape[-2 if left else -1]:
        sizes = [f"{n.shape[-2]}x{n.shape[-1]}" for n in (a, b)]
        raise explain(RuntimeError(f"{words}: Incompatible shapes of A and B for the equation {'AX' if left else 'XA'} = B "
                                   f"({sizes[0]} and {sizes[1]})"))


def together(*nodes: Node) -> tuple[Node, ...]:
    """Matrices with their leading dims broadcast."""
    lead = broadcast_shapes(*[n.shape[:-2] for n in nodes])
    return tuple([spread(n, lead + n.shape[-2:]) for n in nodes])


# ---------------------------------------------------------------- inverses
@op(grad="LinalgInvExBackward0", raises=True)
def inverse(input: Node) -> Node:
    """The inverse of each matrix.  LinAlgError: it is singular."""
    square("linalg.inv", input)
    precise("linalg.inv", input)
    return P.inv(input, "linalg.inv")


@op(method=False, function=False, grad="LinalgInvExBackward0", raises=True)
def linalg_inv(A: Node) -> Node:
    """The inverse of each matrix.  LinAlgError: it is singular."""
    return inverse(A)


@op(method=False, function=False, returns=("inverse", "info"), raises=True)
def linalg_inv_ex(A: Node, check_errors: bool = False) -> tuple[Node, Node]:
    """The inverse, and for each matrix the first zero on the diagonal of its U, counted from 1, or 0."""
    square("linalg.inv", A)
    precise("linalg.inv", A)
    return P.inv(A, "linalg.inv_ex" if check_errors else ""), P.lu_info(A)


# ---------------------------------------------------------------- A X = B
def _is_vector(a: Node, b: Node) -> bool:
    return b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])


def _column(n: Node, vector: bool) -> Node:
    return P.reshape(n, (*n.shape, 1)) if vector else n


def _checked_solve(words: str, A: Node, B: Node, left: bool) -> None:
    square(words, A)
    precise(words, A, "lu_cpu")
    same(words, A, B)
    vector = _is_vector(A, B)
    if not left and vector:
        raise explain(RuntimeError(f"{words}: Vector broadcasting of the left hand side is not supported for left=False. In "
                                   "this case linalg.solve is equivalent to B / A.squeeze(-1)"))
    fitting(words, A, _column(B, vector), left)


def _solved(words: str, A: Node, B: Node, left: bool) -> Node:
    _checked_solve("linalg.solve", A, B, left)
    vector = _is_vector(A, B)
    a, b = together(A, _column(B, vector))
    out = P.solve(a, b, words) if left else swap(P.solve(swap(a), swap(b), words))
    return P.reshape(out, out.shape[:-1]) if vector else out


def _vjp_solve(ct: Node, out: Node, A: Node, B: Node, left: bool = True) -> tuple[Node, Node]:
    """Reads A and the result."""
    vector = _is_vector(A, B)
    a, g, x = together(A, _column(ct, vector), _column(out, vector))
    words = "torch.linalg.solve"
    g = P.solve(swap(a), g, words) if left else swap(P.solve(a, swap(g), words))
    ga = P.neg(mm(g, swap(x)) if left else mm(swap(x), g))
    return unspread(ga, A), unspread(P.reshape(g, g.shape[:-1]) if vector else g, B)


@op(method=False, function=False, grad="LinalgSolveExBackward0", vjp=_vjp_solve, raises=True)
def linalg_solve(A: Node, B: Node, left: bool = True) -> Node:
    """X with A X = B (or X A = B), for square A; B may be a vector for each matrix.  LinAlgError: A is singular."""
    return _solved("torch.linalg.solve", A, B, left)


@op(method=False, function=False, returns=("result", "info"), raises=True)
def linalg_solve_ex(A: Node, B: Node, left: bool = True, check_errors: bool = False) -> tuple[Node, Node]:
    """As solve, and for each matrix the first zero on the diagonal of its U, counted from 1, or 0."""
    return _solved("torch.linalg.solve" if check_errors else "", A, B, left), P.lu_info(A)


def _triangular(a: Node, b: Node, upper: bool, left: bool, unit: bool) -> Node:
    if left:
        return P.solve_triangular(a, b, upper, unit)
    return swap(P.solve_triangular(swap(a), swap(b), not upper, unit))


def _vjp_triangular(ct: Node, out: Node, input: Node, B: Node, upper: bool = False, left: bool = True,
                    unitriangular: bool = False) -> tuple[Node, Node]:
    a, g, x = together(input, ct, out)
    g = _triangular(swap(a), g, not upper, left, unitriangular)
    ga = P.neg(mm(g, swap(x)) if left else mm(swap(x), g))
    return unspread(masked(ga, (1 if upper else -1) if unitriangular else 0, not upper), input), unspread(g, B)


@op(method=False, function=False, vjp=_vjp_triangular)
def linalg_solve_triangular(input: Node, B: Node, upper: bool, left: bool = True, unitriangular: bool = False) -> Node:
    """X with A X = B (or X A = B), where one triangle of A counts.  A zero on the diagonal gives Inf."""
    words = "linalg.solve_triangular"
    square(words, input)
    matrices(words, B, name="B")
    same(words, input, B)
    precise(words, input, "triangular_solve_cpu", "triangular_solve_cpu")
    fitting(words, input, B, left)
    a, b = together(input, B)
    return _triangular(a, b, upper, left, unitriangular)


@op(returns=("solution", "cloned_coefficient"))
def triangular_solve(input: Node, A: Node, upper: bool = True, transpose: bool = False,
                     unitriangular: bool = False) -> tuple[Node, Node]:
    """X with A X = input, where one triangle of A counts; and A."""
    words = "triangular_solve"
    if input.ndim < 2 or A.ndim < 2:
        which, n = ("b", input) if input.ndim < 2 else ("A", A)
        raise explain(RuntimeError("torch.triangular_solve: Expected " + which + " to have at least 2 dimensions, but it has "
                                   f"{n.ndim} dimensions instead"))
    square(words, A)
    precise(words, A, "triangular_solve_cpu", "triangular_solve_cpu")
    fitting(words, A, input, True)
    a, b = together(A, input)
    return _triangular(swap(a), b, not upper, True, unitriangular) if transpose else _triangular(
        a, b, upper, True, unitriangular), a


# ---------------------------------------------------------------- with factors that are there
def _by_cholesky(b: Node, factor: Node, upper: bool) -> Node:
    inner = P.solve_triangular(swap(factor) if upper else factor, b, False, False)
    return P.solve_triangular(factor if upper else swap(factor), inner, True, False)


@op()
def cholesky_solve(input: Node, L: Node, upper: bool = False) -> Node:
    """X with A X = input, for the factor L of A (or U, its transpose, if upper)."""
    if input.ndim < 2 or L.ndim < 2:
        which, n = ("b", input) if input.ndim < 2 else ("u", L)
        raise explain(RuntimeError(f"{which} should have at least 2 dimensions, but has {n.ndim} dimensions instead"))
    square("cholesky_solve", L)
    precise("cholesky_solve", L, "cholesky_solve_cpu", "cholesky_solve_cpu")
    same("cholesky_solve", L, input)
    fitting("cholesky_solve", L, input, True)
    b, factor = together(input, L)
    return _by_cholesky(b, factor, upper)


@op()
def cholesky_inverse(input: Node, upper: bool = False) -> Node:
    """The inverse of A, for its factor L (or U, its transpose, if upper)."""
    square("cholesky_inverse", input)
    precise("cholesky_inverse", input, "cholesky_inverse", "cholesky_inverse")
    return _by_cholesky(identity(input), input, upper)


def _by_lu(lu: Node, pivots: Node, b: Node, adjoint: bool) -> Node:
    a, b = together(lu, b)
    order = P.permutation(pivots, lu.shape[-2])
    exchange = permuting(spread(order, (*a.shape[:-2], order.shape[-1])), a)
    low, up = lower_of(a), upper_of(a)
    if adjoint:
        inner = P.solve_triangular(swap(up), b, False, False)
        return mm(exchange, P.solve_triangular(swap(low), inner, True, True))
    return P.solve_triangular(up, P.solve_triangular(low, mm(swap(exchange), b), False, True), True, False)


def lu_solved(LU: Node, pivots: Node, B: Node, left: bool, adjoint: bool) -> Node:
    words = "linalg.lu_solve"
    square(words, LU)
    matrices(words, B, name="B")
    precise(words, LU, "lu_solve_cpu")
    same(words, LU, B)
    if pivots.dtype is not int32:
        raise explain(RuntimeError(f"{words}: pivots should be a Tensor of scalar type torch.int32"))
    fitting(words, LU, B, left)
    return _by_lu(LU, pivots, B, adjoint) if left else swap(_by_lu(LU, pivots, swap(B), not adjoint))


@op(method=False, function=False)
def linalg_lu_solve(LU: Node, pivots: Node, B: Node, left: bool = True, adjoint: bool = False) -> Node:
    """X with A X = B (X A = B, A.T X = B), for what lu_factor made of A."""
    return lu_solved(LU, pivots, B, left, adjoint)


@op(grad="LinalgLuSolveBackward0")
def lu_solve(input: Node, LU_data: Node, LU_pivots: Node) -> Node:
    """X with A X = input, for what lu_factor made of A."""
    return lu_solved(LU_data, LU_pivots, input, True, False)


# ---------------------------------------------------------------- determinants
@op(grad="LinalgDetBackward0")
def det(input: Node) -> Node:
    """The determinant of each matrix; its derivative is that of a polynomial, for singular matrices too."""
    square("linalg.det", input)
    precise("linalg.det", input, "lu_cpu")
    return P.det(input)


@op(method=False, function=False)
def linalg_det(A: Node) -> Node:
    """The determinant of each matrix."""
    return det(A)


def _slogdet(a: Node) -> tuple[Node, Node]:
    square("linalg.slogdet", a)
    precise("linalg.slogdet", a)
    return P.detsign(a), P.logabsdet(a)


@op(returns=("sign", "logabsdet"), grad="LinalgSlogdetBackward0")
def slogdet(input: Node) -> tuple[Node, Node]:
    """Sign, and logarithm of the size, of each determinant."""
    return _slogdet(input)


@op(method=False, function=False, returns=("sign", "logabsdet"))
def linalg_slogdet(A: Node) -> tuple[Node, Node]:
    """Sign, and logarithm of the size, of each determinant."""
    return _slogdet(A)


@op()
def logdet(input: Node) -> Node:
    """The logarithm of each determinant; NaN where it is negative."""
    square("logdet", input)
    precise("logdet", input)
    sign, size_of = P.detsign(input), P.logabsdet(input)
    return P.where(P.lt(sign, zeros_like(sign)), like(float("nan"), size_of), size_of)


