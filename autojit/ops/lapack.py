"""NumPy's and SciPy's linear algebra as references: batches of matrices in, arrays out.

In: arrays whose last two axes are matrices, and static values.  Out: arrays of the first one's dtype.  What torch refuses by
value is refused here, in its words.  SciPy is imported by what needs it, when it runs.  Never sees a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray


class LinAlgError(RuntimeError):
    """A matrix that has no inverse, factor or decomposition.  `torch.linalg.LinAlgError`."""


SINGULAR = "The diagonal element {0} is zero, the inversion could not be completed because the input matrix is singular."
UNSOLVABLE = "The solver failed because the input matrix is singular."
INDEFINITE = ("The factorization could not be completed because the input is not positive-definite (the leading minor of order "
              "{0} is not positive-definite).")
UNUSABLE = ("U[{0},{0}] is zero and using it on lu_solve would result in a division by zero. If you still want to perform the "
            "factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)")
NOT_FINITE = "The algorithm failed to converge because the input matrix contained non-finite values."
ENDLESS = "The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated {0}."


def count(a: Array) -> int:
    """How many matrices."""
    return int(np.prod(a.shape[:-2]))


def rows(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The matrices of several batches, one after the other."""
    return zip(*[a.reshape(count(a), *a.shape[-2:]) for a in arrays])


def refuse(words: str, text: str, a: Array, info: Array) -> None:
    """LinAlgError for the first matrix of `a` whose code in `info` is not 0; for all of them if none has a code."""
    for k, code in enumerate(info.ravel()):
        if code:
            which = f"(Batch element {k}): " if a.ndim > 2 else ""
            raise LinAlgError(f"{words}: {which}{text.format(int(code))}")
    raise LinAlgError(f"{words}: {text.format(a.shape[-1])}")


def _each(f: Callable[..., Any], shape: tuple[int, ...], *arrays: Array) -> Array:
    """f on one matrix after the other; `shape`: of one result."""
    out = np.empty((count(arrays[0]), *shape), arrays[0].dtype)
    for k, row in enumerate(rows(*arrays)):
        out[k] = f(*row)
    return out.reshape(*arrays[0].shape[:-2], *shape)


# ---------------------------------------------------------------- LU
def _getrf(a: Array) -> tuple[Array, Array, Array]:
    """(L and U in one, rows exchanged with from 1, the first zero on U's diagonal from 1 or 0)."""
    from scipy.linalg import lapack
    call = lapack.sgetrf if a.dtype == np.float32 else lapack.dgetrf
    m, n = a.shape[-2:]
    lead, many = a.shape[:-2], count(a)
    out = np.empty((many, m, n), a.dtype)
    pivots, info = np.empty((many, min(m, n)), np.int32), np.zeros(many, np.int32)
    if min(m, n):
        for k, (x,) in enumerate(rows(a)):
            out[k], pivots[k], info[k] = call(x)
            pivots[k] += 1
    return out.reshape(a.shape), pivots.reshape(*lead, min(m, n)), info.reshape(lead)


def lu(a: Array, words: str) -> Array:
    """L below the diagonal, U on it and above.  words: refuse a zero on U's diagonal."""
    out, _, info = _getrf(a)
    for k, code in enumerate(info.ravel()) if words else ():
        if code:
            which = f"(Batch element {k}): " if a.ndim > 2 else ""
            raise RuntimeError(f"{words}: {which}{UNUSABLE.format(int(code))}")
    return out


def lu_pivots(a: Array) -> Array:
    return _getrf(a)[1]


def lu_info(a: Array) -> Array:
    return _getrf(a)[2]


def permutation(pivots: Array, n: int) -> Array:
    """The order of rows that exchanges in turn come to."""
    flat = pivots.reshape(int(np.prod(pivots.shape[:-1])), pivots.shape[-1])
    out = np.tile(np.arange(n), (len(flat), 1))
    for order, row in zip(out, flat):
        for i, j in enumerate(row):
            order[i], order[j - 1] = order[j - 1], order[i]
    return out.reshape(*pivots.shape[:-1], n)


# ---------------------------------------------------------------- solutions
def _double(a: Array) -> Array:
    """What NumPy has looked at: it decomposes float32 in float64."""
    return a.astype(np.float64, copy=False)


def _guarded(f: Callable[..., Array], *arrays: Array) -> Array:
    """f on whole batches; one by one where a matrix is singular: that one's result is infinite."""
    def one(*row: Array) -> Any:
        try:
            return f(*row)
        except np.linalg.LinAlgError:
            return np.inf
    try:
        return f(*arrays)
    except np.linalg.LinAlgError:
        return _each(one, arrays[-1].shape[-2:], *arrays)


def inv(a: Array, words: str) -> Array:
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        if words:
            refuse(words, SINGULAR, a, lu_info(_double(a)))
        return _guarded(np.linalg.inv, a)


def solve(a: Array, b: Array, words: str) -> Array:
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if words:
            refuse(words, UNSOLVABLE, a, lu_info(_double(a)))
        return _guarded(np.linalg.solve, a, b)


def solve_triangular(a: Array, b: Array, upper: bool, unit: bool) -> Array:
    """A zero on the diagonal gives Inf and NaN."""
    if not b.size:
        return b.copy()
    from scipy.linalg import blas
    call = blas.strsm if a.dtype == np.float32 else blas.dtrsm
    return _each(lambda x, y: call(1.0, x, y, lower=not upper, diag=unit), b.shape[-2:], a, b)


def lstsq(a: Array, b: Array, rcond: float) -> Array:
    """The smallest of the solutions that come nearest."""
    return _each(lambda x, y: np.linalg.lstsq(x, y, rcond=rcond)[0], (a.shape[-1], b.shape[-1]), a, b)


# ---------------------------------------------------------------- factors
def cholesky_info(a: Array, upper: bool) -> Array:
    """The order of the first leading minor that is not positive, or 0."""
    from scipy.linalg import lapack
    call = lapack.spotrf if a.dtype == np.float32 else lapack.dpotrf
    out = np.zeros(a.shape[:-2], np.int32)
    for k, (x,) in enumerate(rows(a)):
        if len(x):
            out.ravel()[k] = call(x, lower=not upper)[1] or _first_nan(x)
    return out


def _first_nan(x: Array) -> int:
    bad = np.flatnonzero(np.isnan(x.diagonal()))
    return int(bad[0]) + 1 if len(bad) else 0


def cholesky(a: Array, upper: bool, words: str) -> Array:
    given = np.swapaxes(a, -1, -2) if upper else a
    try:
        out = np.linalg.cholesky(given)
        failed = bool(np.isnan(out).any())
    except np.linalg.LinAlgError:
        failed = True
    if failed:
        if words:
            refuse(words, INDEFINITE, a, cholesky_info(_double(a), upper))
        out = _each(_partial, a.shape[-2:], given)
    return np.swapaxes(out, -1, -2) if upper else out


def _partial(x: Array) -> Array:
    from scipy.linalg import lapack
    return np.tril((lapack.spotrf if x.dtype == np.float32 else lapack.dpotrf)(x, lower=True)[0])


def packed(a: Array, *parts: Array) -> Array:
    """Several results of a decomposition in one array: each matrix's numbers in a row."""
    lead = a.shape[:-2]
    return np.concatenate([p.reshape(*lead, int(np.prod(p.shape[len(lead):]))) for p in parts], -1)


def eigh(a: Array, lower: bool) -> Array:
    """Eigenvalues, then eigenvectors; NaN where a matrix is not finite."""
    def one(x: Array) -> Any:
        return packed(x, *np.linalg.eigh(x, "L" if lower else "U")) if np.isfinite(x).all() else np.nan
    n = a.shape[-1]
    try:
        return one(a) if np.isfinite(a).all() else _each(one, (n + n * n,), a)
    except np.linalg.LinAlgError:
        raise LinAlgError("linalg.eigh: " + ENDLESS.format("eigenvalues")) from None


def svd(a: Array, full: bool) -> Array:
    """U, S and Vh."""
    if not np.isfinite(a).all():
        bad = np.array([not np.isfinite(x).all() for (x,) in rows(a)])
        refuse("linalg.svd", NOT_FINITE, a, bad)
    try:
        return packed(a, *np.linalg.svd(a, full_matrices=full))
    except np.linalg.LinAlgError:
        raise LinAlgError("linalg.svd: " + ENDLESS.format("singular values")) from None


def qr(a: Array, complete: bool) -> Array:
    """Q and R."""
    m, n = a.shape[-2:]
    if not a.size:
        lead, k = a.shape[:-2], m if complete else min(m, n)
        return packed(a, np.broadcast_to(np.eye(m, k, dtype=a.dtype), (*lead, m, k)), np.zeros((*lead, k, n), a.dtype))
    return packed(a, *np.linalg.qr(a, mode="complete" if complete else "reduced"))


# ---------------------------------------------------------------- determinants
def cofactor(a: Array) -> Array:
    """The gradient of the determinant: right for singular matrices too."""
    u, s, vh, sign = _turned(a)
    n = s.shape[-1]
    others = np.stack([np.prod(np.delete(s, i, -1), -1) for i in range(n)], -1) if n else s
    return np.asarray(sign * ((u * others[..., None, :]) @ vh)).astype(a.dtype)


def det(a: Array) -> Array:
    return np.asarray(np.linalg.det(a))


def logabsdet(a: Array) -> Array:
    return np.asarray(np.linalg.slogdet(a)[1])


def detsign(a: Array) -> Array:
    sign = np.linalg.slogdet(a)[0]
    return np.asarray(np.where(np.isnan(a).any((-1, -2)), 0, sign)).astype(a.dtype)


def _turned(a: Array) -> tuple[Array, Array, Array, Array]:
    """A singular value decomposition, and the determinant of its two rotations."""
    u, s, vh = np.linalg.svd(a)
    return u, s, vh, (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]


def cofactor_along(a: Array, c: Array) -> Array:
    """The derivative of the cofactors in the direction c, for singular matrices too; it is symmetric in its direction."""
    u, s, vh, sign = _turned(a)
    n = s.shape[-1]
    rest = np.zeros(a.shape, a.dtype)
    for i in range(n):
        for j in range(n):
            if i != j:
                rest[..., i, j] = np.prod(np.delete(s, (i, j), -1), -1)
    e = np.swapaxes(u, -1, -2) @ c @ np.swapaxes(vh, -1, -2)
    inner = -rest * np.swapaxes(e, -1, -2)
    inner[..., range(n), range(n)] = (rest @ np.diagonal(e, 0, -2, -1)[..., None])[..., 0]
    return np.asarray(sign * (u @ inner @ vh)).astype(a.dtype)


# ---------------------------------------------------------------- functions of matrices
def pinv(a: Array, atol: float, rtol: float, hermitian: bool) -> Array:
    """Singular values (or eigenvalues' sizes) up to max(atol, rtol * the largest) count as 0."""
    if hermitian:
        w, v = np.linalg.eigh(a)
        size, left, right = np.abs(w), v, np.swapaxes(v, -1, -2)
    else:
        if not np.isfinite(a).all():
            svd(a, False)                                 # which refuses it
        u, w, vh = np.linalg.svd(a, full_matrices=False)
        size, left, right = w, np.swapaxes(vh, -1, -2), np.swapaxes(u, -1, -2)
    top = size.max(-1, keepdims=True) if size.shape[-1] else size
    keep = size > np.maximum(atol, rtol * top)
    scale = np.where(keep, 1 / np.where(keep, w, 1), 0).astype(a.dtype)
    return np.asarray((left * scale[..., None, :]) @ right)


def expm(a: Array) -> Array:
    if not a.size:
        return a.copy()
    from scipy.linalg import expm as call
    finite = np.isfinite(a).all((-1, -2))[..., None, None]
    return np.where(finite, call(np.where(finite, a, 0)), np.nan).astype(a.dtype, copy=False)
