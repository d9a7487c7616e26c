"""Windows that slide along the spatial dims of a tensor: what convolutions, pools and im2col are made of.

In: nodes (batch, channels, places...) and sizes, one for each spatial dim.  Out: nodes whose last dims run through a window,
and the transpose of that.  Nothing is copied: windows are an index map, and whether they are put in memory is the schedule's.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import float32
from ..errors import explain
from ..ir.graph import Node
from .declare import P, cast
from .movement import pad_value, slice_axis

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def each(what: str, value: Any, dims: int) -> Ints:
    """One number for each of `dims` spatial dims, of an int, or of one or `dims` ints.  RuntimeError in torch's words."""
    given = (value,) if isinstance(value, int) else tuple(value)
    if len(given) == 1:
        return tuple([int(given[0])] * dims)
    if len(given) != dims:
        raise explain(RuntimeError(f"expected {what} to be a single integer value or a list of {dims} values to match the "
                                   f"convolution dimensions, but got {what}={list(given)}"))
    return tuple([int(v) for v in given])


def wide(n: Node) -> Node:
    """Halves as float32: for what is to be rounded once, after several sums."""
    return cast(n, float32) if n.dtype.half else n


def span(kernel: Ints, dilation: Ints) -> Ints:
    """How many places a window reaches over."""
    return tuple([d * (k - 1) + 1 for k, d in zip(kernel, dilation)])


def padded(n: Node, pads: Pads, value: float = 0.0) -> Node:
    """`value` before and after each of the last dims."""
    if not any([a or b for a, b in pads]):
        return n
    lead = n.ndim - len(pads)
    starts = (0,) * lead + tuple([a for a, _ in pads])
    shape = n.shape[:lead] + tuple([s + a + b for s, (a, b) in zip(n.shape[lead:], pads)])
    return P.pad(n, starts, shape, (1,) * n.ndim) if value == 0 else pad_value(n, starts, shape, value)


def windows(n: Node, kernel: Ints, stride: Ints, dilation: Ints) -> Node:
    """(lead..., places...) → (lead..., windows..., places in a window...), over the last len(kernel) dims."""
    d = len(kernel)
    lead = n.ndim - d
    counts = tuple([(s - r) // c + 1 for s, r, c in zip(n.shape[lead:], span(kernel, dilation), stride)])
    if _aside(kernel, stride, dilation):
        return _tiles(n, kernel, counts)
    n = P.expand(P.reshape(n, n.shape + (1,) * d), n.shape + kernel)
    for i in range(d):
        if kernel[i] == 1:
            n = slice_axis(n, lead + i, 0, (counts[i] - 1) * stride[i] + 1, stride[i])
        else:
            n = P.shear(n, lead + i, lead + d + i, stride[i], dilation[i], counts[i])
    return n


def _aside(kernel: Ints, stride: Ints, dilation: Ints) -> bool:
    """Do windows lie side by side?"""
    return kernel == stride and all([k == 1 or e == 1 for k, e in zip(kernel, dilation)])


def _tiles(n: Node, kernel: Ints, counts: Ints) -> Node:
    """Windows that lie side by side: another shape."""
    d = len(kernel)
    lead = n.ndim - d
    limits = n.shape[:lead] + tuple([c * k for c, k in zip(counts, kernel)])
    if limits != n.shape:
        n = P.slice(n, (0,) * n.ndim, limits, (1,) * n.ndim)
    n = P.reshape(n, n.shape[:lead] + tuple([s for pair in zip(counts, kernel) for s in pair]))
    perm = (*range(lead), *range(lead, lead + 2 * d, 2), *range(lead + 1, lead + 2 * d, 2))
    return n if d == 1 else P.permute(n, perm)


def columns(n: Node, kernel: Ints, stride: Ints, dilation: Ints) -> Node:
    """(batch, channels, places...) → (channels, places in a window..., batch, windows...): `windows` with what a matrix product
    sums over in front, and in this order in memory if it is put there."""
    d = len(kernel)
    (batch, channels), places = n.shape[:2], n.shape[2:]
    n = P.reshape(P.permute(n, (1, 0, *range(2, 2 + d))), (channels, *(1,) * d, batch, *places))
    n = P.expand(n, (channels, *kernel, batch, *places))
    for i, (size, k, s, e) in enumerate(zip(places, kernel, stride, dilation)):
        count = (size - (k - 1) * e - 1) // s + 1
        n = P.shear(n, d + 2 + i, 1 + i, s, e, count) if k > 1 else slice_axis(n, d + 2 + i, 0, (count - 1) * s + 1, s)
    return n


def unwindows(n: Node, places: Ints, stride: Ints, dilation: Ints) -> Node:
    """The transpose of `windows`: every place of `places` gets the sum of what the windows have there."""
    d = len(places)
    lead = n.ndim - 2 * d
    counts, kernel = n.shape[lead:lead + d], n.shape[lead + d:]
    if _aside(kernel, stride, dilation):
        perm = (*range(lead), *[i for k in range(d) for i in (lead + k, lead + d + k)])
        n = P.reshape(n if d == 1 else P.permute(n, perm), n.shape[:lead] + tuple([c * k for c, k in zip(counts, kernel)]))
        return padded(n, tuple([(0, p - s) for p, s in zip(places, n.shape[lead:])]))
    for i in range(d):
        n = P.unshear(n, lead + i, lead + d + i, stride[i], dilation[i], places[i])
    return P.sum(n, tuple(range(lead + d, lead + 2 * d)))


def cut(n: Node, pads: Pads) -> Node:
    """The last dims without so many places before and after."""
    if not any([a or b for a, b in pads]):
        return n
    lead = n.ndim - len(pads)
    starts = (0,) * lead + tuple([a for a, _ in pads])
    limits = n.shape[:lead] + tuple([s - b for s, (_, b) in zip(n.shape[lead:], pads)])
    return P.slice(n, starts, limits, (1,) * n.ndim)


def words(values: Any, between: str = " x ") -> str:
    """Sizes as torch's messages write them: 3 x 3."""
    return between.join([str(v) for v in values])


