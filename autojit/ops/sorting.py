"""Public ops that order elements.  Values are gathered by the order, so their gradient goes where they came from.

In: nodes and a static dim.  Out: (values, indices), or one of them.
"""

from __future__ import annotations

from ..dtypes import int64
from ..errors import explain
from ..ir.graph import Node
from .declare import P, dim_of, full, op
from .movement import slice_axis
from .reductions import at_index, finish


def _ordered(input: Node, dim: int, descending: bool) -> tuple[Node, Node]:
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        return input, full(0, (), int64)
    order = P.argsort(input, axis, descending)
    return P.gather(input, order, axis), order


@op(returns=("values", "indices"))
def sort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple[Node, Node]:
    """The elements in order along a dim, and where they stood; always stable; NaN counts as largest."""
    return _ordered(input, dim, descending)


@op()
def argsort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> Node:
    """The order that sorts along a dim; always stable; NaN counts as largest."""
    return _ordered(input, dim, descending)[1]


@op(grad="SortBackward0")
def msort(input: Node) -> Node:
    """The elements in order along dim 0."""
    return _ordered(input, 0, False)[0]


@op(returns=("values", "indices"))
def topk(input: Node, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Node, Node]:
    """The k largest (or smallest) along a dim, in order, and where they stand."""
    axis = dim_of(dim, input.ndim)
    n = input.shape[axis] if input.ndim else 1
    if not 0 <= k <= n:
        raise explain(RuntimeError("selected index k out of range"), hint=f"dim {axis} has {n} elements")
    if input.ndim == 0:
        return input, full(0, (), int64)
    first = slice_axis(P.argsort(input, axis, largest), axis, 0, k)
    return P.gather(input, first, axis), first


@op(returns=("values", "indices"))
def kthvalue(input: Node, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Node, Node]:
    """The k-th smallest along a dim (from 1), and where it stands."""
    axis = dim_of(dim, input.ndim)
    n = input.shape[axis] if input.ndim else 1
    if not 1 <= k <= n:
        raise explain(RuntimeError("kthvalue(): selected number k out of range for dimension " + str(axis)))
    if input.ndim == 0:
        return input, full(0, (), int64)
    shape = (*input.shape[:axis], *input.shape[axis + 1:])
    here = P.reshape(slice_axis(P.argsort(input, axis, False), axis, k - 1, k), shape)
    value = at_index(input, here, axis)
    return finish(value, (axis,), input.shape, keepdim), finish(here, (axis,), input.shape, keepdim)
