"""Public ops of statistics: variance, deviation, norms, medians.

In: float nodes.  Out: nodes; the derivative of a deviation or norm at 0 is 0.  Never looks at values.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import FLOAT, DType, int64
from ..errors import explain
from ..ir.graph import Node
from ..ir.primitive import REGISTRY
from .checks import scalar_type
from .declare import P, back, cast, dim_of, dims_of, full, op, unspread, zeros_like
from .elementwise import like, on, side
from .movement import slice_axis
from .reductions import Dim, at_index, count, finish


def safe_sqrt(n: Node) -> Node:
    """Square root whose derivative at 0 is 0, not Inf."""
    zero = P.eq(n, zeros_like(n))
    return P.where(zero, n, P.sqrt(P.where(zero, like(1, n), n)))


def _free(unbiased: bool | None, correction: float | None) -> float:
    if correction is not None:
        return correction
    return 1 if unbiased is None or unbiased else 0


def _dim_first(dim: Dim, unbiased: bool | None) -> tuple[Dim, bool | None]:
    """`x.var(False)` says unbiased, not dim."""
    return (None, dim) if isinstance(dim, bool) else (dim, unbiased)


def _center(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """(mean, x - mean)."""
    s = P.sum(x, axes)
    m = P.div(s, like(count(x.shape, axes), s))
    return m, P.sub(x, back(m, axes, x.shape))


def _variance(input: Node, dim: Dim, unbiased: bool | None,
              correction: float | None) -> tuple[Node, Node, tuple[int, ...]]:
    """(variance, mean, axes)."""
    if input.dtype.category < FLOAT:
        raise explain(RuntimeError("std and var only support floating point and complex dtypes"),
                      hint="convert it first: x.float()")
    dim, unbiased = _dim_first(dim, unbiased)
    axes = dims_of(dim, input.ndim)
    m, d = _center(input, axes)
    s = P.sum(P.mul(d, d), axes)
    n = max(count(input.shape, axes) - _free(unbiased, correction), 0)
    return P.div(s, like(n, s)), m, axes


def _vjp_var(ct: Node, out: Node, input: Node, dim: Dim = None, unbiased: bool | None = None,
             keepdim: bool = False, correction: float | None = None) -> tuple[Node]:
    """2 / n * (x - mean): what the mean contributes sums to zero."""
    dim, unbiased = _dim_first(dim, unbiased)
    axes = dims_of(dim, input.ndim)
    n = max(count(input.shape, axes) - _free(unbiased, correction), 0)
    _, d = _center(input, axes)
    scale = 2 / n if n else math.inf
    return (P.mul(P.mul(back(ct, axes, input.shape), like(scale, input)), d),)


def _vjp_std(ct: Node, out: Node, input: Node, dim: Dim = None, unbiased: bool | None = None,
             keepdim: bool = False, correction: float | None = None) -> tuple[Node]:
    there = P.ne(out, zeros_like(out))
    half = P.div(ct, P.add(out, out))
    return _vjp_var(on(there, half), out, input, dim, unbiased, keepdim, correction)


@op(vjp=_vjp_var)
def var(input: Node, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False,
        correction: float | None = None) -> Node:
    """Variance over dims, by n - correction (1 by default)."""
    out, _, axes = _variance(input, dim, unbiased, correction)
    return finish(out, axes, input.shape, keepdim)


@op(vjp=_vjp_std)
def std(input: Node, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False,
        correction: float | None = None) -> Node:
    """Standard deviation over dims; its derivative where it is 0 is 0."""
    out, _, axes = _variance(input, dim, unbiased, correction)
    return finish(safe_sqrt(out), axes, input.shape, keepdim)


@op(method=False)
def var_mean(input: Node, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False,
             correction: float | None = None) -> tuple[Node, Node]:
    """Variance and mean over dims."""
    v, m, axes = _variance(input, dim, unbiased, correction)
    return finish(v, axes, input.shape, keepdim), finish(m, axes, input.shape, keepdim)


@op(method=False)
def std_mean(input: Node, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False,
             correction: float | None = None) -> tuple[Node, Node]:
    """Standard deviation and mean over dims."""
    v, m, axes = _variance(input, dim, unbiased, correction)
    return (finish(safe_sqrt(v), axes, input.shape, keepdim), finish(m, axes, input.shape, keepdim))


# ---------------------------------------------------------------- norms
def vector_norm(x: Node, p: float, axes: tuple[int, ...]) -> Node:
    """The p-norm over axes; the axes vanish."""
    a = P.abs(x)
    if p == math.inf or p == -math.inf:
        if count(x.shape, axes) == 0:
            raise explain(RuntimeError(f"linalg.vector_norm cannot compute the {p} norm on an empty "
                                       "tensor because the operation does not have an identity"))
        return P.max(a, axes) if p > 0 else P.min(a, axes)
    if p == 0:
        return P.sum(cast(P.ne(x, zeros_like(x)), x.dtype), axes)
    if p == 1:
        return P.sum(a, axes)
    if p == 2:
        return safe_sqrt(P.sum(P.mul(x, x), axes))
    zero = P.eq(a, zeros_like(a))
    powers = P.pow(P.where(zero, like(1, a), a), like(p, a))
    s = P.sum(P.where(zero, like(0.0 if p > 0 else math.inf, a), powers), axes)
    none = P.eq(s, zeros_like(s))
    return P.where(none, s, P.pow(P.where(none, like(1, s), s), like(1 / p, s)))


def _order(p: float | str | None) -> float:
    if p is None or p == "fro":
        return 2.0
    if isinstance(p, str):
        raise explain(RuntimeError(f"Expected 'fro' or a number as the order of the norm, got {p!r}"))
    return float(p)


def _norm(words: str, input: Node, p: float | str | None, dim: Dim, keepdim: bool,
          dtype: DType | None) -> Node:
    x = input if dtype is None else cast(input, dtype)
    if x.dtype.category < FLOAT:
        raise explain(RuntimeError(f"{words}: Expected a floating point or complex tensor as input. "
                                   f"Got {scalar_type(x.dtype)}"), hint="convert it first: x.float()")
    axes = dims_of(dim, x.ndim)
    return finish(vector_norm(x, _order(p), axes), axes, x.shape, keepdim)


def _vjp_norm(ct: Node, out: Node, input: Node, p: float | str | None = "fro", dim: Dim = None,
              keepdim: bool = False, dtype: DType | None = None) -> tuple[Node | None]:
    """Reads input and output, as torch does."""
    order = _order(p)
    if order == 0:
        return (None,)
    x = input if dtype is None else cast(input, dtype)
    axes = dims_of(dim, x.ndim)
    y, g = back(out, axes, x.shape), back(ct, axes, x.shape)
    there = P.ne(y, zeros_like(y))
    if order == 1:
        return (unspread(P.mul(g, side(x)), input),)
    if order == 2:
        return (unspread(on(there, P.mul(x, P.div(g, y))), input),)
    if abs(order) == math.inf:
        hit = P.bitwise_or(P.eq(P.abs(x), y), P.isnan(x))
        share = P.div(g, back(P.sum(cast(hit, x.dtype), axes), axes, x.shape))
        return (unspread(P.mul(side(x), on(hit, share)), input),)
    away = P.bitwise_and(there, P.ne(x, zeros_like(x)))
    ratio = P.div(P.abs(x), P.where(there, y, like(1, y)))
    ratio = P.where(away, ratio, like(1, ratio))
    slope = P.mul(P.sign(x), P.pow(ratio, like(order - 1, ratio)))
    return (unspread(on(away, P.mul(g, slope)), input),)


@op(grad="LinalgVectorNormBackward0", vjp=_vjp_norm)
def norm(input: Node, p: float | str | None = "fro", dim: Dim = None, keepdim: bool = False,
         dtype: DType | None = None) -> Node:
    """(sum |x|**p) ** (1/p) over dims; 'fro' is 2; its derivative at 0 is 0."""
    return _norm("linalg.vector_norm", input, p, dim, keepdim, dtype)


# ---------------------------------------------------------------- medians
def _middle(input: Node, axis: int, ignore_nan: bool) -> Node:
    """The place of the lower median along an axis; the axis vanishes.  A NaN wins, unless ignored."""
    n = input.shape[axis]
    order = P.argsort(input, axis, False)
    shape = (*input.shape[:axis], *input.shape[axis + 1:])
    here = P.reshape(slice_axis(order, axis, (n - 1) // 2, (n - 1) // 2 + 1), shape)
    if input.dtype.category < FLOAT:
        return here
    bad = P.isnan(input)
    if ignore_nan:
        good = P.sum(cast(P.bitwise_not(bad), int64), (axis,))
        half = P.floor_divide(P.sub(good, like(1, good)), like(2, good))
        return at_index(order, P.maximum(half, zeros_like(half)), axis)
    return P.where(P.max(bad, (axis,)), P.argmax(input, axis), here)


def _median_dim(input: Node, dim: int, keepdim: bool, ignore_nan: bool) -> tuple[Node, Node]:
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        return input, full(0, (), int64)
    if input.shape[axis] == 0:
        raise explain(IndexError(f"median(): Expected reduction dim {axis} to have non-zero size."))
    index = _middle(input, axis, ignore_nan)
    value = at_index(input, index, axis)
    return (finish(value, (axis,), input.shape, keepdim), finish(index, (axis,), input.shape, keepdim))


def _median(input: Node, ignore_nan: bool) -> Node:
    n = input.aval.size
    if n == 0:
        return full(math.nan, (), input.dtype)
    flat = P.reshape(input, (n,))
    return at_index(flat, _middle(flat, 0, ignore_nan), 0)


def _vjp_median(ct: Node, out: Node, input: Node) -> tuple[Node]:
    """Elements equal to the median share, as in torch."""
    rule: Any = REGISTRY["max"].vjp
    found: tuple[Node] = rule(ct, out, input, tuple(range(input.ndim)))
    return found


@op(variants={"dim": "median_dim"}, vjp=_vjp_median)
def median(input: Node) -> Node:
    """The middle element, the lower of two; NaN if any is."""
    return _median(input, False)


@op(grad="MedianBackward1", returns=("values", "indices"), method=False, function=False)
def median_dim(input: Node, dim: int, keepdim: bool = False) -> tuple[Node, Node]:
    """The middle element along one dim, the lower of two, and where it stands."""
    return _median_dim(input, dim, keepdim, False)


@op(variants={"dim": "nanmedian_dim"}, vjp=_vjp_median)
def nanmedian(input: Node) -> Node:
    """The middle of what is not NaN."""
    return _median(input, True)


@op(grad="NanmedianBackward1", returns=("values", "indices"), method=False, function=False)
def nanmedian_dim(input: Node, dim: int, keepdim: bool = False) -> tuple[Node, Node]:
    """The middle along one dim of what is not NaN, and where it stands."""
    return _median_dim(input, dim, keepdim, True)
