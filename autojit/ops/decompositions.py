"""Public ops of linear algebra: factors of matrices.  `autojit.linalg` shows them under torch's names.

In: float32 or float64 nodes whose last two dims are matrices.  Out: nodes.  Rules read the results, not the input, as
torch's do.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .declare import P, full, op
from .factors import (
    Cut,
    cholesky_pull,
    cut,
    decomposed,
    eigh_pull,
    lower_of,
    lu_pull,
    lu_rows,
    mm,
    permuting,
    qr_pull,
    svd_pull,
    upper_of,
)
from .index import swap
from .linear import matrices, precise, square


# ---------------------------------------------------------------- cholesky
def _factor(a: Node, upper: bool, words: str) -> Node:
    square("linalg.cholesky", a)
    precise("linalg.cholesky", a, "cholesky_cpu")
    return P.cholesky(a, upper, words)


@op(grad="CholeskyBackward0", raises=True)
def cholesky(input: Node, upper: bool = False) -> Node:
    """L with L L.T = A for positive-definite A, or its transpose.  LinAlgError: A is not positive-definite."""
    square("cholesky", input)
    precise("cholesky", input, "cholesky_cpu", "cholesky_cpu")
    return P.cholesky(input, upper, "cholesky")


@op(method=False, function=False, grad="LinalgCholeskyExBackward0", raises=True)
def linalg_cholesky(input: Node, upper: bool = False) -> Node:
    """L with L L.T = A for positive-definite A, or its transpose.  LinAlgError: A is not positive-definite."""
    return _factor(input, upper, "linalg.cholesky")


def _vjp_cholesky_ex(ct: Any, out: Any, input: Node, upper: bool = False, check_errors: bool = False) -> tuple[Cut]:
    return (None if ct[0] is None else cholesky_pull(ct[0], out[0], upper),)


@op(method=False, function=False, returns=("L", "info"), vjp=_vjp_cholesky_ex, raises=True)
def linalg_cholesky_ex(input: Node, upper: bool = False, check_errors: bool = False) -> tuple[Node, Node]:
    """As cholesky, and for each matrix the first leading minor that is not positive, or 0."""
    return _factor(input, upper, "linalg.cholesky_ex" if check_errors else ""), P.cholesky_info(input, upper)


# ---------------------------------------------------------------- eigenvalues of symmetric matrices
def _lower(UPLO: str) -> bool:
    if UPLO.upper() not in ("L", "U"):
        raise explain(RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}"))
    return UPLO.upper() == "L"


def _symmetric(a: Node, UPLO: str) -> tuple[Node, ...]:
    square("linalg.eigh", a)
    lower = _lower(UPLO)
    precise("linalg.eigh", a, "linalg_eigh_cpu", "linalg_eigh_cpu")
    return decomposed(a, "eigh", lower)


def _vjp_eigh(ct: Any, out: Any, input: Node, UPLO: str = "L") -> tuple[Cut]:
    return (eigh_pull(ct, *out),)


@op(method=False, function=False, returns=("eigenvalues", "eigenvectors"), vjp=_vjp_eigh, raises=True)
def linalg_eigh(input: Node, UPLO: str = "L") -> tuple[Node, ...]:
    """Eigenvalues in ascending order and eigenvectors (columns) of symmetric matrices; one triangle counts."""
    return _symmetric(input, UPLO)


@op(method=False, function=False, grad="LinalgEighBackward0", raises=True)
def linalg_eigvalsh(input: Node, UPLO: str = "L") -> Node:
    """Eigenvalues of symmetric matrices in ascending order; their derivative exists where they are repeated."""
    return _symmetric(input, UPLO)[0]


# ---------------------------------------------------------------- singular values
def _singular(a: Node, full: bool, driver: str | None) -> tuple[Node, ...]:
    matrices("linalg.svd", a)
    if driver is not None:
        raise explain(RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with "
                                   "cuSOLVER backend."))
    precise("linalg.svd", a, "linalg_svd_cpu")
    return decomposed(a, "svd", full)


def _vjp_svd(ct: Any, out: Any, A: Node, *static: Any) -> tuple[Cut]:
    return (svd_pull(ct, *out),)


@op(method=False, function=False, returns=("U", "S", "Vh"), vjp=_vjp_svd, raises=True)
def linalg_svd(A: Node, full_matrices: bool = True, driver: str | None = None) -> tuple[Node, ...]:
    """U, S and Vh with A = U diag(S) Vh, singular values in descending order."""
    return _singular(A, full_matrices, driver)


@op(method=False, function=False, grad="LinalgSvdBackward0", raises=True)
def linalg_svdvals(A: Node, driver: str | None = None) -> Node:
    """Singular values in descending order; their derivative exists where they are repeated."""
    return _singular(A, False, driver)[1]


@op(returns=("U", "S", "V"), grad="LinalgSvdBackward0", raises=True)
def svd(input: Node, some: bool = True, compute_uv: bool = True) -> tuple[Node, ...]:
    """U, S and V with A = U diag(S) V.T; without compute_uv U and V are zeros."""
    u, s, vh = _singular(input, not some, None)
    if not compute_uv:
        m, n = input.shape[-2:]
        lead = input.shape[:-2]
        return full(0, (*lead, m, m), s.dtype), s, full(0, (*lead, n, n), s.dtype)
    return u, s, swap(vh)


# ---------------------------------------------------------------- Q R
def _orthogonal(a: Node, complete: bool) -> tuple[Node, Node]:
    """Of more columns than rows the first ones are factored, and the others turned: so the rule is one for all."""
    matrices("linalg.qr", a)
    precise("linalg.qr", a, "geqrf_cpu")
    m, n = a.shape[-2:]
    if n <= m:
        q, r = decomposed(a, "qr", complete)
        return q, r
    q, r = decomposed(cut(a, -1, 0, m), "qr", False)
    return q, P.concat([r, mm(swap(q), cut(a, -1, m, n))], a.ndim - 1)


def _vjp_qr(ct: Any, out: Any, A: Node, mode: str = "reduced") -> tuple[Cut]:
    (gq, gr), (q, r) = ct, out
    m, n = A.shape[-2:]
    if mode == "r":
        raise explain(RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use "
                                   "linalg.qr(A, mode='reduced') if you are going to differentiate through linalg.qr."))
    if mode == "complete" and m > n:
        raise explain(RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols."))
    if n <= m:
        return (qr_pull((gq, gr), q, r),)
    if gr is None:
        first = qr_pull((gq, None), q, cut(r, -1, 0, m))
        return (None if first is None else P.pad(first, (0,) * A.ndim, A.shape, (1,) * A.ndim),)
    right = cut(gr, -1, m, n)
    turned = mm(mm(q, cut(r, -1, m, n)), swap(right))
    first = qr_pull((turned if gq is None else P.add(gq, turned), cut(gr, -1, 0, m)), q, cut(r, -1, 0, m))
    assert first is not None
    return (P.concat([first, mm(q, right)], A.ndim - 1),)


@op(method=False, function=False, returns=("Q", "R"), vjp=_vjp_qr)
def linalg_qr(A: Node, mode: str = "reduced") -> tuple[Node, Node]:
    """Q and R with A = Q R; mode 'complete' gives all of Q, 'r' none of it."""
    if mode not in ("reduced", "complete", "r"):
        raise explain(RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or "
                                   "'complete'"))
    q, r = _orthogonal(A, mode == "complete")
    if mode == "r":
        return full(0, (0,), A.dtype), r
    return q, r


def _vjp_old_qr(ct: Any, out: Any, input: Node, some: bool = True) -> tuple[Cut]:
    return _vjp_qr(ct, out, input, "reduced" if some else "complete")


@op(returns=("Q", "R"), grad="LinalgQrBackward0", vjp=_vjp_old_qr)
def qr(input: Node, some: bool = True) -> tuple[Node, Node]:
    """Q and R with A = Q R; all of Q if not some."""
    return _orthogonal(input, not some)


# ---------------------------------------------------------------- L U
def _pivoted(words: str, a: Node, pivot: bool) -> None:
    if a.ndim < 2:
        extent = a.shape[0] if a.shape else ""
        raise explain(RuntimeError(f"{words}: Expected tensor with 2 or more dimensions. Got size: [{extent}] instead"))
    if not pivot:
        raise explain(RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU"))
    precise(words, a, "lu_cpu", "lu_cpu")


def _vjp_lu(ct: Any, out: Any, A: Node, pivot: bool = True) -> tuple[Cut]:
    g = lu_pull(ct[1:], *out[1:])
    return (None if g is None else mm(out[0], g),)


@op(method=False, function=False, returns=("P", "L", "U"), vjp=_vjp_lu)
def linalg_lu(A: Node, pivot: bool = True) -> tuple[Node, Node, Node]:
    """P, L and U with A = P L U."""
    _pivoted("linalg.lu", A, pivot)
    lu = P.lu(A, "")
    return permuting(P.permutation(P.lu_pivots(A), A.shape[-2]), A), lower_of(lu), upper_of(lu)


def _vjp_lu_factor(ct: Any, out: Any, A: Node, *static: Any) -> tuple[Cut]:
    return (None if ct[0] is None else lu_rows(ct[0], out[0], out[1]),)


@op(method=False, function=False, returns=("LU", "pivots"), grad="LinalgLuFactorExBackward0", vjp=_vjp_lu_factor, raises=True)
def linalg_lu_factor(A: Node, pivot: bool = True) -> tuple[Node, Node]:
    """L and U in one matrix, and the row (from 1) that each row was exchanged with."""
    _pivoted("torch.lu_factor", A, pivot)
    return P.lu(A, "torch.linalg.lu_factor"), P.lu_pivots(A)


@op(method=False, function=False, returns=("LU", "pivots", "info"), vjp=_vjp_lu_factor, raises=True)
def linalg_lu_factor_ex(A: Node, pivot: bool = True, check_errors: bool = False) -> tuple[Node, Node, Node]:
    """As lu_factor, and for each matrix the first zero on U's diagonal, counted from 1, or 0."""
    _pivoted("torch.lu_factor", A, pivot)
    return P.lu(A, "torch.linalg.lu_factor" if check_errors else ""), P.lu_pivots(A), P.lu_info(A)


@op(grad="LinalgLuFactorExBackward0", vjp=_vjp_lu_factor)
def lu(input: Node, pivot: bool = True) -> tuple[Node, Node]:
    """L and U in one matrix, and the row (from 1) that each row was exchanged with."""
    _pivoted("torch.lu_factor", input, pivot)
    return P.lu(input, ""), P.lu_pivots(input)


@op(method=False, returns=("P", "L", "U"))
def lu_unpack(LU_data: Node, LU_pivots: Node, unpack_data: bool = True, unpack_pivots: bool = True) -> tuple[Node, Node, Node]:
    """P, L and U of what lu_factor gives."""
    none = full(0, (0,), LU_data.dtype)
    p = permuting(P.permutation(LU_pivots, LU_data.shape[-2]), LU_data) if unpack_pivots else none
    return (p, lower_of(LU_data), upper_of(LU_data)) if unpack_data else (p, none, none)
