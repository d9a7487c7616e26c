"""Public ops on the diagonals and triangles of matrices.

In: nodes whose last two dims (or two named ones) are matrices.  Out: nodes.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import FLOAT, int64
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from .declare import P, cast, dim_of, full, op, spread, zeros_like
from .shapes import diagonal as diagonal_of
from .shapes import move


def triangle(shape: Shape, offset: int, lower: bool) -> Node:
    """The mask of a triangle of (rows, cols)."""
    rows, cols = P.iota(shape, 0), P.iota(shape, 1)
    edge = P.add(rows, full(offset, shape, int64))
    return P.le(cols, edge) if lower else P.ge(cols, edge)


def _cut(name: str, input: Node, offset: int, lower: bool) -> Node:
    if input.ndim < 2:
        raise explain(RuntimeError(f"{name}: input tensor must have at least 2 dimensions"))
    mask = triangle(input.shape[-2:], offset, lower)
    return P.where(spread(mask, input.shape), input, zeros_like(input))


@op(inplace=True)
def tril(input: Node, diagonal: int = 0) -> Node:
    """The lower triangle; zeros above the diagonal."""
    return _cut("tril", input, diagonal, True)


@op(inplace=True)
def triu(input: Node, diagonal: int = 0) -> Node:
    """The upper triangle; zeros below the diagonal."""
    return _cut("triu", input, diagonal, False)


@op()
def trace(input: Node) -> Node:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise explain(RuntimeError("trace: expected a matrix, but got tensor with dim " + str(input.ndim)))
    n = cast(input, input.dtype if input.dtype.category >= FLOAT else int64)
    return P.sum(diagonal_of(n), (0,))


def embedded(n: Node, offset: int) -> Node:
    """The last axis as the diagonal of two new last axes, zeros elsewhere."""
    *lead, k = n.shape
    shift = abs(offset)
    side = k + shift
    zeros = (0,) * len(lead)
    ones = (1,) * len(lead)
    flat = P.pad(n, (*zeros, 0), (*lead, k * k), (*ones, k + 1)) if k else n
    square = P.reshape(flat, (*lead, k, k))
    if not shift:
        return square
    at = (shift, 0) if offset < 0 else (0, shift)
    return P.pad(square, (*zeros, *at), (*lead, side, side), (*ones, 1, 1))


@op()
def diag_embed(input: Node, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    """The last dim as the diagonal of two new dims."""
    if input.ndim == 0:
        raise explain(IndexError("Dimension out of range (expected to be in range of [-1, 0], but got -2)"))
    ndim = input.ndim + 1
    a, b = dim_of(dim1, ndim), dim_of(dim2, ndim)
    if a == b:
        raise explain(RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}"))
    n = embedded(input, offset)
    rest = iter(range(ndim - 2))
    perm = tuple([ndim - 2 if i == a else ndim - 1 if i == b else next(rest) for i in range(ndim)])
    return move(n, perm)


def _diag_name(input: Any, diagonal: int = 0) -> str:
    return "DiagEmbedBackward0" if input.ndim == 1 else "DiagonalBackward0_copy"


@op(grad="DiagEmbedBackward0", grad_of=_diag_name)
def diag(input: Node, diagonal: int = 0) -> Node:
    """A vector as a matrix's diagonal, or a matrix's diagonal as a vector."""
    if input.ndim not in (1, 2):
        raise explain(RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D"))
    return embedded(input, diagonal) if input.ndim == 1 else diagonal_of(input, diagonal)


@op(grad="DiagEmbedBackward0")
def diagflat(input: Node, offset: int = 0) -> Node:
    """All elements as a matrix's diagonal."""
    return embedded(P.reshape(input, (input.aval.size,)), offset)
