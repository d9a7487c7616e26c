"""Public ops that write a part of a tensor, or fold elements into it: select_scatter and its kin, scatter_reduce, renorm.

In: nodes; indices are int64 and in range (the face checks).  Out: nodes.  One primitive: `scatter_fold`, for folds that are
no sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, iinfo, int64
from ..errors import explain
from ..ir.aval import Aval
from ..ir.graph import Node
from ..ir.primitive import HOST
from .checks import scalar_type
from .declare import P, back, cast, dim_of, full, ones_like, op, primitive, zeros_like
from .elementwise import like, on
from .gathering import along, scattered, sliced
from .index import places
from .moments import vector_norm
from .movement import inverse
from .shapes import as_shape, move

_FOLDS = {"max": np.maximum, "min": np.minimum, "mul": np.multiply}


# ---------------------------------------------------------------- the primitive
def _fold_aval(a: Aval, i: Aval, v: Aval, axis: int, how: str) -> Aval:
    if i.dtype is not int64 or v.shape != i.shape or v.dtype is not a.dtype or how not in _FOLDS:
        raise TypeError(f"scatter_fold: {v} at {i} into {a} by {how}")
    return a


def _fold_ref(a: Any, i: Any, v: Any, axis: int, how: str) -> Any:
    out = a.copy()
    with np.errstate(all="ignore"):
        _FOLDS[how].at(out, places(i, axis), v)
    return out


def _vjp_fold(ct: Node, out: Node, a: Node, i: Node, v: Node, axis: int, how: str) -> tuple[Node, None, Node]:
    """Equal extremes share evenly, as in torch; a factor's share is the product of the others, zeros told apart by counting."""
    if how != "mul":
        mine, theirs = P.eq(a, out), P.eq(v, P.gather(out, i, axis))
        count = P.scatter_add(cast(mine, a.dtype), i, cast(theirs, a.dtype), axis)
        share = P.div(ct, P.where(P.eq(count, zeros_like(count)), ones_like(count), count))
        return on(mine, share), None, on(theirs, P.gather(share, i, axis))
    none, zero = P.eq(a, zeros_like(a)), P.eq(v, zeros_like(v))
    x, w = P.where(none, ones_like(a), a), P.where(zero, ones_like(v), v)
    whole = P.scatter_fold(x, i, w, axis, how)
    zeros = P.scatter_add(cast(none, a.dtype), i, cast(zero, a.dtype), axis)
    alone = on(P.eq(zeros, ones_like(zeros)), P.mul(ct, whole))
    g, of = P.mul(ct, out), P.gather(alone, i, axis)
    return P.where(none, alone, P.div(g, x)), None, P.where(zero, of, P.div(P.gather(g, i, axis), w))


primitive("scatter_fold", HOST, _fold_aval, _fold_ref, _vjp_fold, domain=(0.5, 1.5),
          doc="The first operand with elements folded into it along an axis at places of their own: by max, min or mul.")


# ---------------------------------------------------------------- scatter_reduce
_REDUCES = ("sum", "prod", "mean", "amax", "amin")


def _neutral(a: Node, reduce: str) -> Node:
    """What changes nothing."""
    if reduce in ("sum", "mean"):
        return zeros_like(a)
    if reduce == "prod":
        return ones_like(a)
    low = reduce == "amax"
    if a.dtype.category == FLOAT:
        return like(-np.inf if low else np.inf, a)
    if a.dtype.category == BOOL:
        return full(not low, a.shape, a.dtype)
    ends = iinfo(a.dtype)
    return full(ends.min if low else ends.max, a.shape, a.dtype)


@op(inplace=True, bounds=along("scatter"))
def scatter_reduce(input: Node, dim: int, index: Node, src: Node, reduce: str, include_self: bool = True) -> Node:
    """input with src's elements folded into it along a dim at the index, by 'sum', 'prod', 'mean', 'amax' or 'amin'; without
    include_self, places that the index names start from nothing."""
    if reduce not in _REDUCES:
        raise explain(RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"))
    a, i, v, axis = scattered("scatter", input, dim, index, src)
    return as_shape(_folded(a, i, v, axis, reduce, include_self), input.shape)


def _folded(a: Node, i: Node, v: Node, axis: int, reduce: str, include_self: bool) -> Node:
    """a with v's elements folded into it at places of their own."""
    if not include_self:
        named = P.gt(P.scatter_add(full(0, a.shape, int64), i, full(1, i.shape, int64), axis), full(0, a.shape, int64))
        a = P.where(named, _neutral(a, reduce), a)
    if reduce in ("sum", "mean"):
        out = P.scatter_add(a, i, v, axis)
    else:
        out = P.scatter_fold(a, i, v, axis, {"prod": "mul", "amax": "max", "amin": "min"}[reduce])
    if reduce == "mean":
        first = ones_like(a) if include_self else cast(P.bitwise_not(named), a.dtype)
        count = P.scatter_add(first, i, ones_like(v), axis)
        out = P.div(out, count) if a.dtype.category == FLOAT else P.floor_divide(out, count)
    return out


@op(inplace=True, bounds=along(""))
def index_reduce(input: Node, dim: int, index: Node, source: Node, reduce: str, include_self: bool = True) -> Node:
    """input with source's slices folded into it at the index, by 'prod', 'mean', 'amax' or 'amin'; without include_self, slices
    that the index names start from nothing."""
    if reduce not in _REDUCES[1:]:
        raise explain(RuntimeError("index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got "
                                   f"{reduce}."))
    a, i, v, axis = sliced("index_reduce", input, dim, index, source)
    places_of = P.expand(P.reshape(i, tuple([i.shape[0] if k == axis else 1 for k in range(a.ndim)])), v.shape)
    return as_shape(_folded(a, places_of, v, axis, reduce, include_self), input.shape)


def _put_bounds(input: Node, index: Node, *rest: Any) -> tuple[Any, ...]:
    n = input.aval.size
    return ((index, -n, n, f"out of range: tried to access index {{value}} on a tensor of {n} elements."),)


@op(inplace=True, bounds=_put_bounds)
def put(input: Node, index: Node, source: Node, accumulate: bool = False) -> Node:
    """input with source's elements written (or added) at places of the flattened tensor; of equal places the last one stays."""
    if index.dtype is not int64:
        raise explain(RuntimeError(f"put_(): Expected a long tensor for index, but got {scalar_type(index.dtype)}"),
                      hint="convert the index: i.long()")
    if source.dtype is not input.dtype:
        raise explain(RuntimeError("put_(): self and source expected to have the same dtype, but got self.dtype = "
                                   f"{scalar_type(input.dtype)} and source.dtype = {scalar_type(source.dtype)}"))
    if source.aval.size != index.aval.size:
        raise explain(IndexError("put_(): Expected source and index to have the same number of elements, but got "
                                   f"source.numel() = {source.aval.size}, index.numel() = {index.aval.size}"))
    n = input.aval.size
    flat, i, v = [P.reshape(x, (x.aval.size,)) for x in (input, index, source)]
    i = P.where(P.lt(i, zeros_like(i)), P.add(i, like(n, i)), i)
    return P.reshape(P.index_add(flat, i, v, 0) if accumulate else P.index_set(flat, i, v, 0), input.shape)


# ---------------------------------------------------------------- a part of a tensor
def _fits(src: Node, shape: tuple[int, ...]) -> None:
    if src.shape != shape:
        raise explain(RuntimeError("expected src to have a size equal to the slice of self. src size = "
                                   f"{list(src.shape)}, slice size = {list(shape)}"))


def _written(input: Node, src: Node, axis: int, start: int, step: int = 1) -> Node:
    return P.update(input, cast(src, input.dtype), tuple([start if k == axis else 0 for k in range(input.ndim)]),
                    tuple([step if k == axis else 1 for k in range(input.ndim)]))


@op()
def select_scatter(input: Node, src: Node, dim: int, index: int) -> Node:
    """input with src written over its slice number `index` of a dim."""
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        raise explain(IndexError("select() cannot be applied to a 0-dim tensor."))
    n = input.shape[axis]
    if not -n <= index < n:
        raise explain(IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension "
                                 f"{axis}"))
    _fits(src, (*input.shape[:axis], *input.shape[axis + 1:]))
    return _written(input, P.reshape(src, (*input.shape[:axis], 1, *input.shape[axis + 1:])), axis, index % n)


@op()
def slice_scatter(input: Node, src: Node, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Node:
    """input with src written over input[start:end:step] of a dim."""
    axis = dim_of(dim, input.ndim)
    if step <= 0:
        raise explain(RuntimeError("slice step must be positive"))
    if input.ndim == 0:
        raise explain(RuntimeError("slice() cannot be applied to a 0-dim tensor."))
    first, last, _ = slice(start, end, step).indices(input.shape[axis])
    _fits(src, (*input.shape[:axis], len(range(first, last, step)), *input.shape[axis + 1:]))
    return _written(input, src, axis, min(first, input.shape[axis]), step) if src.aval.size else input


@op()
def diagonal_scatter(input: Node, src: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    """input with src written over the diagonal of two dims, `offset` places above the main one."""
    a, b = dim_of(dim1, input.ndim), dim_of(dim2, input.ndim)
    if a == b:
        raise explain(RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}"))
    perm = (*[k for k in range(input.ndim) if k not in (a, b)], a, b)
    x = move(input, perm)
    rows, columns = x.shape[-2:]
    length = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    _fits(src, (*x.shape[:-2], length))
    if not length:
        return input
    r, c = P.iota(x.shape, x.ndim - 2), P.iota(x.shape, x.ndim - 1)
    there = P.eq(P.sub(c, r), like(offset, r))
    along_it = P.iota((rows,), 0) if offset >= 0 else P.sub(P.iota((rows,), 0), full(-offset, (rows,), int64))
    at = P.minimum(P.maximum(along_it, full(0, (rows,), int64)), full(length - 1, (rows,), int64))
    line = P.take(cast(src, x.dtype), at, src.ndim - 1)
    wide = P.expand(P.reshape(line, (*line.shape, 1)), x.shape)
    return move(P.where(there, wide, x), inverse(perm))


@op(inplace=True)
def renorm(input: Node, p: float, dim: int, maxnorm: float) -> Node:
    """input with each slice of a dim whose p-norm is above maxnorm scaled down to it."""
    if p <= 0:
        raise explain(RuntimeError("renorm: non-positive-norm not supported"))
    if maxnorm < 0:
        raise explain(RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm:g}"))
    if input.ndim < 2:
        raise explain(RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions"))
    axis = dim_of(dim, input.ndim)
    if input.dtype.category < FLOAT:
        raise explain(RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                                   f"{scalar_type(input.dtype)}"), hint="convert it first: x.float()")
    axes = tuple([k for k in range(input.ndim) if k != axis])
    norm = vector_norm(input, float(p), axes)
    above = P.gt(norm, like(maxnorm, norm))
    safe = P.add(P.where(above, norm, like(1, norm)), like(1e-7, norm))
    factor = P.where(above, P.div(like(maxnorm, norm), safe), like(1, norm))
    return P.mul(input, back(factor, axes, input.shape))
