"""Public ops of exponentials that sum to one, and their logarithms.

In: nodes; integers only with a float `dtype`.  Out: nodes.  The largest element is subtracted first, behind `stop`: the result
does not depend on it, so no derivative may flow through it.
"""

from __future__ import annotations

import math

from ..dtypes import FLOAT, DType
from ..ir.graph import Node
from .checks import floating
from .declare import P, back, cast, dim_of, dims_of, inexact, op, unspread, zeros_like
from .elementwise import like
from .reductions import Dim, finish


def _ready(kernel: str, input: Node, dim: int, dtype: DType | None) -> tuple[Node, tuple[int, ...]]:
    x = input if dtype is None else cast(input, dtype)
    floating(kernel, x)
    axis = dim_of(dim, x.ndim)
    return x, (axis,) if x.ndim else ()


def _shifted(x: Node, axes: tuple[int, ...]) -> Node:
    """`x` less its largest along the axes."""
    if not axes or x.aval.size == 0:
        return P.sub(x, P.stop(x)) if not axes else x
    return P.sub(x, back(P.stop(P.max(x, axes)), axes, x.shape))


def soft(x: Node, axes: tuple[int, ...]) -> Node:
    e = P.exp(_shifted(x, axes))
    return P.div(e, back(P.sum(e, axes), axes, x.shape))


def log_soft(x: Node, axes: tuple[int, ...]) -> Node:
    z = _shifted(x, axes)
    return P.sub(z, back(P.log(P.sum(P.exp(z), axes)), axes, x.shape))


def _vjp_softmax(ct: Node, out: Node, input: Node, dim: int,
                 dtype: DType | None = None) -> tuple[Node]:
    axes = (dim_of(dim, out.ndim),) if out.ndim else ()
    g = P.mul(ct, out)
    return (unspread(P.sub(g, P.mul(out, back(P.sum(g, axes), axes, out.shape))), input),)


def _vjp_log_softmax(ct: Node, out: Node, input: Node, dim: int,
                     dtype: DType | None = None) -> tuple[Node]:
    axes = (dim_of(dim, out.ndim),) if out.ndim else ()
    return (unspread(P.sub(ct, P.mul(P.exp(out), back(P.sum(ct, axes), axes, out.shape))), input),)


def _vjp_softmin(ct: Node, out: Node, input: Node, dim: int,
                 dtype: DType | None = None) -> tuple[Node]:
    return (P.neg(_vjp_softmax(ct, out, input, dim, dtype)[0]),)


@op(vjp=_vjp_softmax, functional=True)
def softmax(input: Node, dim: int, dtype: DType | None = None) -> Node:
    """exp(input) over its sum along a dim."""
    return soft(*_ready("softmax_lastdim_kernel_impl", input, dim, dtype))


@op(vjp=_vjp_log_softmax, functional=True)
def log_softmax(input: Node, dim: int, dtype: DType | None = None) -> Node:
    """The logarithm of softmax, exact where softmax underflows."""
    return log_soft(*_ready("log_softmax_lastdim_kernel_impl", input, dim, dtype))


@op(vjp=_vjp_softmin, functional=True, method=False, function=False, grad="SoftmaxBackward0")
def softmin(input: Node, dim: int, dtype: DType | None = None) -> Node:
    """softmax of -input."""
    x, axes = _ready("softmax_lastdim_kernel_impl", input, dim, dtype)
    return soft(P.neg(x), axes)


def _vjp_logsumexp(ct: Node, out: Node, input: Node, dim: Dim,
                   keepdim: bool = False) -> tuple[Node | None]:
    if input.dtype.category < FLOAT:
        return (None,)
    axes = dims_of(dim, input.ndim)
    low = P.eq(out, like(-math.inf, out))
    top = P.where(low, zeros_like(out), out)             # all -Inf: exp(-Inf - 0) = 0, not NaN
    weights = P.exp(P.sub(input, back(top, axes, input.shape)))
    return (P.mul(back(ct, axes, input.shape), weights),)


@op(vjp=_vjp_logsumexp)
def logsumexp(input: Node, dim: Dim, keepdim: bool = False) -> Node:
    """log(sum(exp(input))) over dims, without overflow; -Inf where all are -Inf."""
    x, = inexact(input)
    axes = dims_of(dim, x.ndim)
    if x.aval.size == 0:
        return finish(P.log(P.sum(P.exp(x), axes)), axes, x.shape, keepdim)
    m = P.stop(P.max(x, axes))
    m = P.where(P.eq(P.abs(m), like(math.inf, m)), zeros_like(m), m)
    s = P.sum(P.exp(P.sub(x, back(m, axes, x.shape))), axes)
    none = P.eq(s, zeros_like(s))
    value = P.where(none, like(-math.inf, s), P.log(P.where(none, like(1, s), s)))
    return finish(P.add(value, m), axes, x.shape, keepdim)
