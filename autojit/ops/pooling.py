"""Public ops that pool: the largest, the mean or a norm of windows.

In: nodes (batch, channels, places...) or without the batch, and static sizes.  Out: nodes.  The gradient of a largest goes to
the first place that has it.  A mean's divisors are counted from the places, never from data.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import FLOAT, int64
from ..errors import explain
from ..ir.graph import Node
from .arithmetic import pow_number
from .checks import floating, no_bool
from .declare import P, cast, full, op, spread, zeros_like
from .elementwise import like
from .movement import slice_axis
from .reductions import at_index
from .windows import Ints, Pads, cut, padded, span, unwindows, windows, words

CHAIN = 16                         # places in a window up to which they are compared one after the other


def sizes(name: str, what: str, value: Any, dims: int) -> Ints:
    """One number for each dim, as pools take them."""
    given = (value,) if isinstance(value, int) else tuple(value)
    if len(given) not in (1, dims):
        count = {1: "one int", 2: "two ints", 3: "three ints"}[dims]
        raise explain(RuntimeError(f"{name}: {what} must either be a single int, or a tuple of {count}"))
    return tuple([int(v) for v in given]) * (dims if len(given) == 1 else 1)


class _Pool:
    """The sizes of one pool, checked: windows start at -padding, and `made` of them are taken."""

    __slots__ = ("x", "batched", "kernel", "stride", "padding", "dilation", "made", "over")

    def __init__(self, name: str, x: Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
                 dims: int) -> None:
        _shape_of(name, x, dims)
        self.batched = x.ndim == dims + 2
        self.x = x if self.batched else P.reshape(x, (1, *x.shape))
        self.kernel = sizes(name, "kernel_size", kernel, dims)
        given = stride is not None and stride != ()
        self.stride = sizes(name, "stride", stride, dims) if given else self.kernel
        self.padding = sizes(name, "padding", padding, dims)
        self.dilation = sizes(name, "dilation", dilation, dims)
        if min(self.kernel) <= 0 or min(self.stride) <= 0:
            raise explain(RuntimeError(f"{name}() stride must be greater than zero, but got {min(self.stride)}" if dims == 1 and
                                       name == "max_pool1d" and min(self.kernel) > 0 else "stride should not be zero"))
        if min(self.dilation) <= 0:
            sides = " ".join([f"dilation{s}: {d}" for s, d in zip("TH W"[-dims:] if dims != 2 else "HW", self.dilation)])
            raise explain(RuntimeError(f"dilation should be greater than zero, but got {sides}"))
        for p, k, d in zip(self.padding, self.kernel, self.dilation):
            if p < 0 or p > (d * (k - 1) + 1) // 2:
                raise explain(RuntimeError("pad should be at most half of effective kernel size, but got "
                                           f"pad={p}, kernel_size={k} and dilation={d}"))
        self._count(name, ceil_mode)

    def _count(self, name: str, ceil_mode: bool) -> None:
        made, over = [], []
        places = self.x.shape[2:]
        for n, r, s, p in zip(places, span(self.kernel, self.dilation), self.stride, self.padding):
            m = (n + 2 * p - r + (s - 1 if ceil_mode else 0)) // s + 1
            if ceil_mode and (m - 1) * s >= n + p:         # the last window would start in what is behind
                m -= 1
            made.append(m)
            over.append(max((m - 1) * s + r - n - p, 0))
        self.made, self.over = tuple(made), tuple(over)
        if min(made) <= 0:
            channels = self.x.shape[1]
            raise explain(RuntimeError(
                f"Given input size: ({words((channels, *places), 'x')}). Calculated output size: "
                f"({words((channels, *[max(m, 0) for m in made]), 'x')}). Output size is too small"))

    def windows(self, value: Any) -> Node:
        """(batch, channels, windows..., places in a window...); outside the input is `value`."""
        n = windows(padded(self.x, self._pads(), value), self.kernel, self.stride, self.dilation)
        for i, m in enumerate(self.made):
            n = n if n.shape[2 + i] == m else slice_axis(n, 2 + i, 0, m)
        return n

    def _pads(self) -> Pads:
        return tuple(zip(self.padding, self.over))

    def scatter(self, n: Node) -> Node:
        """The transpose of `windows`."""
        places = tuple([s + a + b for s, (a, b) in zip(self.x.shape[2:], self._pads())])
        out = cut(unwindows(n, places, self.stride, self.dilation), self._pads())
        return self.finish(out)

    def finish(self, n: Node) -> Node:
        return n if self.batched else P.reshape(n, n.shape[1:])


def _shape_of(name: str, x: Node, dims: int) -> None:
    if x.ndim not in (dims + 1, dims + 2) and name == "avg_pool1d":
        raise explain(RuntimeError(f"Expected 2 to 3 dimensions, but got {x.ndim}-dimensional tensor for argument #1 'self' "
                                   "(while checking arguments for avg_pool1d)"))
    if x.ndim not in (dims + 1, dims + 2) or any([s == 0 for s in x.shape[x.ndim - dims - 1:]]):
        start = "max_pool1d: " if dims == 1 else ""
        raise explain(RuntimeError(f"{start}Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with optional 0 dim batch "
                                   f"size for input, but got:{list(x.shape)}"))


# ---------------------------------------------------------------- the largest
def _lowest(n: Node) -> Any:
    if n.dtype.category == FLOAT:
        return -float("inf")
    import numpy as np
    return int(np.iinfo(n.dtype.np).min)


def _takes_over(value: Node, best: Node) -> Node:
    """Is a later place the largest so far?  Only if it is larger, or not a number."""
    larger = P.gt(value, best)
    return P.bitwise_or(larger, P.isnan(value)) if value.dtype.category == FLOAT else larger


def _flat(pool: _Pool) -> Node:
    n = pool.windows(_lowest(pool.x))
    size = 1
    for k in pool.kernel:
        size *= k
    return P.reshape(n, (*n.shape[:-len(pool.kernel)], size))


def _one(flat: Node, k: int) -> Node:
    return P.reshape(slice_axis(flat, flat.ndim - 1, k, k + 1), flat.shape[:-1])


def _largest(flat: Node, indices: bool) -> tuple[Node, Node | None]:
    """The largest along the last axis, and where it first stands, if that is asked for."""
    if flat.shape[-1] > CHAIN:
        at = P.argmax(flat, flat.ndim - 1)
        return at_index(flat, at, flat.ndim - 1), at
    best = _one(flat, 0)
    place = full(0, best.shape, int64) if indices else None
    for k in range(1, flat.shape[-1]):
        value = _one(flat, k)
        over = _takes_over(value, best)
        best = P.where(over, value, best)
        if place is not None:
            place = P.where(over, full(k, best.shape, int64), place)
    return best, place


def _hits(flat: Node) -> list[Node]:
    """For each place of a window: is it the largest?"""
    best = _one(flat, 0)
    overs = []
    for k in range(1, flat.shape[-1]):
        value = _one(flat, k)
        overs.append(_takes_over(value, best))
        best = P.where(overs[-1], value, best)
    out: list[Node] = []
    none: Node | None = None                             # does no later place take over?
    for over in reversed(overs):
        out.append(over if none is None else P.bitwise_and(over, none))
        none = P.bitwise_not(over) if none is None else P.bitwise_and(none, P.bitwise_not(over))
    out.append(full(True, best.shape, P.gt(best, best).dtype) if none is None else none)
    return out[::-1]


def _max_rule(dims: int) -> Any:
    """The cotangent of each window at its largest place; windows that overlap add up."""
    def vjp(ct: Any, out: Any, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
            ceil_mode: bool = False, return_indices: bool = False) -> tuple[Node | None]:
        if input.dtype.category < FLOAT:
            return (None,)
        pool = _Pool(f"max_pool{dims}d", input, kernel_size, stride, padding, dilation, ceil_mode, dims)
        g = ct[0] if isinstance(ct, tuple) else ct
        g = g if pool.batched else P.reshape(g, (1, *g.shape))
        flat = _flat(pool)
        if flat.shape[-1] > CHAIN:
            at = P.argmax(flat, flat.ndim - 1)
            here = P.eq(P.iota(flat.shape, flat.ndim - 1), spread(P.reshape(at, (*at.shape, 1)), flat.shape))
            g = P.where(here, spread(P.reshape(g, (*g.shape, 1)), flat.shape), zeros_like(flat))
        else:
            parts = [P.reshape(P.where(h, g, zeros_like(g)), (*g.shape, 1)) for h in _hits(flat)]
            g = P.concat(parts, g.ndim) if len(parts) > 1 else parts[0]
        return (pool.scatter(P.reshape(g, g.shape[:-1] + pool.kernel)),)
    return vjp


def _max_pool(name: str, dims: int, input: Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              return_indices: bool) -> Any:
    no_bool(name, input)
    pool = _Pool(name, input, kernel_size, stride, padding, dilation, ceil_mode, dims)
    best, place = _largest(_flat(pool), return_indices)
    if not return_indices or place is None:
        return pool.finish(best)
    return pool.finish(best), pool.finish(_in_plane(pool, place))


def _in_plane(pool: _Pool, place: Node) -> Node:
    """Places in windows as places in the flattened spatial dims of the input."""
    out, rest, step = full(0, place.shape, int64), place, 1
    for i in reversed(range(len(pool.kernel))):
        k = like(pool.kernel[i], rest)
        inside, rest = P.remainder(rest, k), P.floor_divide(rest, k)
        start = P.sub(P.mul(P.iota(place.shape, 2 + i), like(pool.stride[i], place)), like(pool.padding[i], place))
        at = P.add(start, P.mul(inside, like(pool.dilation[i], place)))
        out = P.add(out, P.mul(at, like(step, place)))
        step *= pool.x.shape[2 + i]
    return out


@op(method=False, functional=True, grad="SqueezeBackward1", vjp=_max_rule(1))
def max_pool1d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               dilation: int | Ints = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of windows along the last dim; with `return_indices` also where it first stands."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@op(method=False, functional=True, grad="MaxPool2DWithIndicesBackward0", vjp=_max_rule(2))
def max_pool2d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               dilation: int | Ints = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of windows over the last two dims; with `return_indices` also where it first stands in their plane."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@op(method=False, functional=True, grad="MaxPool3DWithIndicesBackward0", vjp=_max_rule(3))
def max_pool3d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               dilation: int | Ints = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of windows over the last three dims; with `return_indices` also where it first stands in their space."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


# ---------------------------------------------------------------- means
def _divided(total: Node, divisor: Node) -> Node:
    return P.div(total, divisor) if total.dtype.category == FLOAT else P.trunc_divide(total, divisor)


def _covered(pool: _Pool, i: int, whole: bool) -> Node | int:
    """How many places each window has along dim i: inside the input, or (`whole`) inside the input with its padding."""
    n, k, s, p = pool.x.shape[2 + i], pool.kernel[i], pool.stride[i], pool.padding[i]
    if pool.over[i] <= (p if whole else 0) and (whole or p == 0):
        return k
    start = P.iota((pool.made[i],), 0)
    start = P.sub(P.mul(start, like(s, start)), like(p, start))
    end = P.minimum(P.add(start, like(k, start)), like(n + (p if whole else 0), start))
    return P.sub(end, start if whole else P.maximum(start, zeros_like(start)))


def _avg_pool(name: str, dims: int, input: Node, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None = None) -> Node:
    no_bool(name, input)
    if divisor_override == 0:
        raise explain(RuntimeError("divisor must be not zero"))
    pool = _Pool(name, input, kernel_size, stride, padding, 1, ceil_mode, dims)
    total = P.sum(pool.windows(0), tuple(range(2 + dims, 2 + 2 * dims)))
    if divisor_override is not None:
        return pool.finish(_divided(total, like(divisor_override, total)))
    known, counts = 1, None
    for i in range(dims):
        c = _covered(pool, i, count_include_pad)
        if isinstance(c, int):
            known *= c
        else:
            line = spread(P.reshape(c, (c.shape[0],) + (1,) * (dims - 1 - i)), pool.made)
            counts = line if counts is None else P.mul(counts, line)
    if counts is None:
        return pool.finish(_divided(total, like(known, total)))
    divisor = P.mul(counts, like(known, counts))
    return pool.finish(_divided(total, spread(cast(divisor, total.dtype), total.shape)))


@op(method=False, functional=True, grad="SqueezeBackward1")
def avg_pool1d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Node:
    """The mean of windows along the last dim; padding counts as zeros unless `count_include_pad` is False."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


@op(method=False, function=False, functional=True, grad="AvgPool2DBackward0")
def avg_pool2d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Node:
    """The mean of windows over the last two dims, or their sum by `divisor_override`."""
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@op(method=False, function=False, functional=True, grad="AvgPool3DBackward0")
def avg_pool3d(input: Node, kernel_size: int | Ints, stride: int | Ints | None = None, padding: int | Ints = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Node:
    """The mean of windows over the last three dims, or their sum by `divisor_override`."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(name: str, dims: int, input: Node, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Node:
    floating(name, input)
    if norm_type in (float("inf"), -float("inf")):
        size = P.abs(input)
        size = size if norm_type > 0 else P.neg(size)
        best = _max_pool(f"max_pool{dims}d", dims, size, kernel_size, stride, 0, 1, ceil_mode, False)
        return best if norm_type > 0 else P.neg(best)  # type: ignore[no-any-return]
    mean = _avg_pool(f"avg_pool{dims}d", dims, pow_number(input, norm_type), kernel_size, stride, 0, ceil_mode, True)
    count = 1
    for k in sizes(name, "kernel_size", kernel_size, dims):
        count *= k
    total = P.mul(P.mul(P.sign(mean), P.relu(P.abs(mean))), like(count, mean))
    return pow_number(total, 1.0 / norm_type)


@op(method=False, function=False, functional=True, grad="PowBackward0")
def lp_pool1d(input: Node, norm_type: float, kernel_size: int | Ints, stride: int | Ints | None = None,
              ceil_mode: bool = False) -> Node:
    """The norm of windows along the last dim: the sum of their p-th powers to the power of 1/p."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


@op(method=False, function=False, functional=True, grad="PowBackward0")
def lp_pool2d(input: Node, norm_type: float, kernel_size: int | Ints, stride: int | Ints | None = None,
              ceil_mode: bool = False) -> Node:
    """The norm of windows over the last two dims."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


@op(method=False, function=False, functional=True, grad="PowBackward0")
def lp_pool3d(input: Node, norm_type: float, kernel_size: int | Ints, stride: int | Ints | None = None,
              ceil_mode: bool = False) -> Node:
    """The norm of windows over the last three dims."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
