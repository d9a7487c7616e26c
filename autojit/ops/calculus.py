"""Public ops over samples of functions: trapezoids, finite differences, Vandermonde matrices.

In: nodes; spacings are numbers, or (trapezoids) nodes.  Out: nodes.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import BOOL, FLOAT, default_float
from ..errors import explain
from ..ir.graph import Node
from .declare import P, arith, cast, dim_of, dims_of, full, ones_like, op
from .elementwise import like
from .joins import joined
from .movement import slice_axis
from .reductions import Dim


# ---------------------------------------------------------------- trapezoids
def _sampled(name: str, y: Node, x: Node | None, dx: float | None, dim: int) -> tuple[Node, int]:
    """The areas between neighbours along the dim, and its number."""
    if y.ndim == 0:
        raise explain(IndexError(f"Dimension specified as {dim} but tensor has no dimensions"))
    axis = dim_of(dim, y.ndim)
    for word, given in (("y", y), ("x", x)):
        if given is not None and given.dtype.category == BOOL:
            raise explain(RuntimeError(f"{name}: received a bool input for `{word}`, but bool is not supported"))
    if x is not None and dx is not None:
        raise explain(RuntimeError(f"{name}: give the spacing as x or as dx, not both"))
    if y.dtype.category < FLOAT:
        y = cast(y, default_float())
    n = y.shape[axis]
    if n < 2:
        return full(0, (*y.shape[:axis], 0, *y.shape[axis + 1:]), y.dtype), axis
    both = P.add(slice_axis(y, axis, 1, n), slice_axis(y, axis, 0, n - 1))
    if x is None:
        return P.mul(both, like(0.5 * (1.0 if dx is None else dx), both)), axis
    if x.ndim == 1 and y.ndim > 1:
        x = P.reshape(x, tuple([x.shape[0] if k == axis else 1 for k in range(y.ndim)]))
    at = axis - y.ndim + x.ndim
    if not 0 <= at < x.ndim or x.shape[at] != n:
        raise explain(RuntimeError(f"{name}: There must be one `x` value for each sample point"))
    step, both = arith(P.sub(slice_axis(x, at, 1, n), slice_axis(x, at, 0, n - 1)), both)
    return P.mul(P.mul(step, both), like(0.5, both)), both.ndim - y.ndim + axis


def _trapezoid_name(y: Node, x: Node | None = None, dx: float | None = None, dim: int = -1) -> str:
    return "MulBackward1" if x is None else "DivBackward1"


@op(method=False, grad="MulBackward1", grad_of=_trapezoid_name, aliases=("trapz",))
def trapezoid(y: Node, x: Node | None = None, dx: float | None = None, dim: int = -1) -> Node:
    """The integral of samples along a dim by trapezoids; their places are x, or dx (1) apart."""
    areas, axis = _sampled("trapezoid", y, x, dx, dim)
    return P.sum(areas, (axis,))


def _running_name(y: Node, x: Node | None = None, dx: float | None = None, dim: int = -1) -> str:
    return "CumsumBackward0" if x is None else "DivBackward1"


@op(method=False, grad="CumsumBackward0", grad_of=_running_name)
def cumulative_trapezoid(y: Node, x: Node | None = None, dx: float | None = None, dim: int = -1) -> Node:
    """The running integral of samples along a dim by trapezoids: one element less."""
    areas, axis = _sampled("cumulative_trapezoid", y, x, dx, dim)
    return P.cumsum(areas, axis)


# ---------------------------------------------------------------- differences
def _slope(f: Node, axis: int, h: float, order: int) -> Node:
    """Central differences inside, one-sided ones of the given order at both ends."""
    n = f.shape[axis]

    def at(i: int) -> Node:
        return slice_axis(f, axis, i, i + 1)

    def times(c: float, x: Node) -> Node:
        return P.mul(like(c, x), x)

    inner = P.sub(slice_axis(f, axis, 2, n), slice_axis(f, axis, 0, n - 2))
    parts = [P.div(inner, like(2 * h, inner))]
    for a, b, c, sign in ((0, 1, 2, 1.0), (n - 1, n - 2, n - 3, -1.0)):
        if order == 1:
            d = P.sub(at(b), at(a))
            end = P.div(d, like(sign * h, d))
        else:
            d = P.sub(P.sub(times(4, at(b)), times(3, at(a))), at(c))
            end = P.div(d, like(sign * 2 * h, d))
        parts = [end, *parts] if sign > 0 else [*parts, end]
    return joined(tuple(parts), axis)


@op(method=False, grad="CatBackward0")
def gradient(input: Node, spacing: Any = 1, dim: Dim = None, edge_order: int = 1) -> tuple[Node, ...]:
    """Slopes of samples along each dim by differences; `spacing` is a number, or one for each dim."""
    if edge_order not in (1, 2):
        raise explain(RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2."))
    axes = dims_of(dim, input.ndim) if dim is None or isinstance(dim, int) else tuple([dim_of(d, input.ndim) for d in dim])
    steps = spacing if isinstance(spacing, tuple) else (spacing,) * len(axes)
    if len(steps) != len(axes):
        raise explain(RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'self.dim() = "
            f"{input.ndim}', since dim argument was not given, but got a list of length {len(steps)}" if dim is None else
            f"torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to have the same "
            f"length, but got a spacing argument of length {len(steps)} and a dim argument of length {len(axes)}."))
    if any([input.shape[k] < edge_order + 1 for k in axes]):
        raise explain(RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1"))
    f = input if input.dtype.category == FLOAT else cast(input, default_float())
    return tuple([_slope(f, k, float(h), edge_order) for k, h in zip(axes, steps)])


# ---------------------------------------------------------------- powers
def _vander_name(input: Node, N: int | None = None, increasing: bool = False) -> str:
    return "FlipBackward0" if not increasing else "CopySlices"


@op("vander", method=False, grad="FlipBackward0", grad_of=_vander_name)
def vander(x: Node, N: int | None = None, increasing: bool = False) -> Node:
    """Rows of powers: x**(N - 1) ... x, 1, or (increasing) the other way round; N is the number of elements."""
    if x.ndim != 1:
        raise explain(RuntimeError("x must be a one-dimensional tensor."))
    count = x.shape[0] if N is None else N
    if count < 0:
        raise explain(RuntimeError("N must be non-negative."))
    if x.dtype.category < FLOAT:
        from ..dtypes import int64
        x = cast(x, int64)
    if not count:
        return full(0, (x.shape[0], 0), x.dtype)
    powers = [ones_like(x)]
    while len(powers) < count:
        powers.append(P.mul(powers[-1], x) if len(powers) > 1 else x)
    columns = [P.reshape(n, (x.shape[0], 1)) for n in (powers if increasing else powers[::-1])]
    return joined(tuple(columns), 1)
