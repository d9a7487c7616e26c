"""Eigenvalues and eigenvectors of matrices that need not be symmetric: complex numbers, of real matrices too.

In: nodes, real or complex.  Out: complex nodes.  As for other decompositions one host primitive has both results in one row,
and a second one cuts each out of it and has the derivative, so that eigenvalues alone may be repeated.  Complex numbers are
pairs along a last axis of 2 here.  Eigenvectors have length 1 and are otherwise free up to a factor of size 1: a loss that
depends on it has no gradient, and none is refused here for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FLOAT
from ..errors import explain
from ..ir.aval import Aval, aval
from ..ir.graph import Node
from ..ir.primitive import HOST
from .checks import scalar_type
from .complexes import conj, im, is_complex, pair, re
from .declare import P, back, full, op, primitive, zeros_like
from .factors import eye
from .index import swap
from .linear import square
from .movement import slice_axis


def _row(a: Aval, paired: bool) -> Aval:
    lead, n = a.shape[:-2 - paired], a.shape[-1 - paired]
    return aval((*lead, n + n * n, 2), a.dtype, a.device)


def _eig_ref(a: Any, paired: bool) -> Any:
    """Eigenvalues, then eigenvectors row by row."""
    if not np.isfinite(a).all():
        raise explain(RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs."))
    kind = np.result_type(a.dtype, np.complex64)
    z = np.ascontiguousarray(a).view(kind)[..., 0] if paired else a
    if not z.size:
        return np.zeros((*z.shape[:-2], z.shape[-1] * (z.shape[-1] + 1), 2), a.dtype)
    values, vectors = np.linalg.eig(z)
    flat = np.concatenate([values, vectors.reshape(*values.shape[:-1], -1)], -1).astype(kind)
    return flat.view(a.dtype).reshape(*flat.shape, 2)


primitive("eig", HOST, _row, _eig_ref, None, doc="Eigenvalues and eigenvectors of each matrix, in one row of pairs.")


def _parts(a: Node, paired: bool) -> tuple[Node, Node]:
    """Both as pairs, without derivatives."""
    row = P.eig(a, paired)
    n = a.shape[-1 - paired]
    lead, axis = row.shape[:-2], row.ndim - 2
    return slice_axis(row, axis, 0, n), P.reshape(slice_axis(row, axis, n, n + n * n), (*lead, n, n, 2))


def _decomposed(a: Node, paired: bool) -> list[Node]:
    return [P.as_complex(P.eigfactor(p, a, k, paired)) for k, p in enumerate(_parts(a, paired))]


def _solved(a: Node, b: Node) -> Node:
    """X with A X = B, complex, by real matrices of twice the size."""
    n = a.shape[-1]
    last = a.ndim - 1
    upper, lower = P.concat([re(a), P.neg(im(a))], last), P.concat([im(a), re(a)], last)
    x = P.solve(P.concat([upper, lower], last - 1), P.concat([re(b), im(b)], last - 1), "linalg.solve")
    return pair(slice_axis(x, last - 1, 0, n), slice_axis(x, last - 1, n, 2 * n))


def _rows(n: Node, shape: tuple[int, ...]) -> Node:
    """One number a column, in every row."""
    return back(n, (len(shape) - 2,), shape)


def _pull(ct: Node, out: Node, part: Node, a: Node, k: int, paired: bool) -> tuple[None, Node]:
    """torch's rule: V^-H (diag(gL) + (V^H gV - V^H V diag(Re V^H gV)) / conj(Lj - Li)) V^H."""
    values, vectors = _decomposed(a, paired)
    g, vh = P.as_complex(ct), conj(swap(vectors))
    diagonal = eye(vectors)
    if k == 0:
        inner = P.where(diagonal, _rows(g, vectors.shape), zeros_like(vectors))
    else:
        turned = P.matmul(vh, g)
        own = P.sum(P.where(diagonal, re(turned), zeros_like(re(turned))), (vectors.ndim - 2,))
        free = P.sub(turned, P.mul(P.matmul(vh, vectors), _rows(pair(own, zeros_like(own)), vectors.shape)))
        gap = P.sub(_rows(values, vectors.shape), back(values, (vectors.ndim - 1,), vectors.shape))
        gap = P.where(diagonal, full(1, gap.shape, gap.dtype), conj(gap))
        inner = P.where(diagonal, zeros_like(free), P.div(free, gap))
    found = _solved(vh, P.matmul(inner, vh))
    return None, P.as_real(found) if paired else re(found)


primitive("eigfactor", HOST, lambda part, a, *params: part, lambda part, a, *params: part, _pull,
          doc="One result of `eig` of the second operand: the first operand, with a derivative.")


def _both(words: str, A: Node) -> list[Node]:
    square(words, A)
    if A.dtype.category < FLOAT:
        raise explain(RuntimeError(f"Unknown Complex ScalarType for {scalar_type(A.dtype)}"),
                      hint="convert it first: x.float()")
    if A.dtype.half:
        raise explain(NotImplementedError(f"\"linalg_eig_out_cpu\" not implemented for '{scalar_type(A.dtype)}'"),
                      hint="convert it first: x.float()")
    return _decomposed(P.as_real(A), True) if is_complex(A) else _decomposed(A, False)


@op(method=False, function=False, returns=("eigenvalues", "eigenvectors"), raises=True)
def linalg_eig(A: Node) -> tuple[Node, ...]:
    """Eigenvalues and eigenvectors of each matrix, complex; the vectors are columns of length 1."""
    return tuple(_both("linalg.eig", A))


@op(method=False, function=False, grad="LinalgEigBackward0", raises=True)
def linalg_eigvals(A: Node) -> Node:
    """The eigenvalues of each matrix, complex."""
    return _both("linalg.eigvals", A)[0]
