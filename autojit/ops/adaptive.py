"""Public ops that pool to a size that is given: the input is cut into that many parts, as even as can be.

In: nodes (batch, channels, places...) or without the batch, and the sizes wanted.  Out: nodes.  Part o of m along n places
reaches from o * n // m to (o + 1) * n / m, rounded up; parts overlap by one place where m does not divide n.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .checks import floating
from .declare import P, full, op, spread
from .elementwise import like
from .reductions import at_index
from .windows import Ints, windows

Wanted = tuple[int | None, ...]


class _Parts:
    """The input as (batch, channels, parts..., places in a part...), and which of these places are real."""

    __slots__ = ("x", "batched", "made", "kernel", "even")

    def __init__(self, name: str, x: Node, output_size: Any, dims: int, colon: str = "") -> None:
        if x.ndim not in (dims + 1, dims + 2):
            raise explain(RuntimeError(
                f"Expected 2 to 3 dimensions, but got {x.ndim}-dimensional tensor for argument #1 'self' (while checking "
                f"arguments for {name})" if dims == 1 else
                f"{name}(): Expected {dims + 1}D or {dims + 2}D tensor, but got{colon} {list(x.shape)}"))
        given = (output_size,) * dims if output_size is None or isinstance(output_size, int) else tuple(output_size)
        if len(given) == 1:
            given *= dims
        if len(given) != dims:
            raise explain(ValueError(f"{name}: output_size must be one number or {dims}, but got {list(given)}"))
        places = x.shape[x.ndim - dims:]
        if min(x.shape[x.ndim - dims - 1:]) == 0:
            raise explain(RuntimeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input "
                                       f"has sizes {list(x.shape)} with dimension {x.shape.index(0, x.ndim - dims - 1)} being "
                                       "empty"))
        self.made: Ints = tuple([n if m is None else int(m) for n, m in zip(places, given)])
        if min(self.made) < 0:
            raise explain(RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0 but received "
                                       f"{{{', '.join(map(str, self.made))}}}"))
        self.batched = x.ndim == dims + 2
        self.x = x if self.batched else P.reshape(x, (1, *x.shape))
        self.even = all([m and n % m == 0 for n, m in zip(places, self.made)])
        self.kernel: Ints = tuple([_longest(n, m) for n, m in zip(places, self.made)])

    def ends(self, i: int) -> tuple[Node, Node]:
        """Where the parts along dim i start and end."""
        n, m = self.x.shape[2 + i], max(self.made[i], 1)
        at = P.iota((self.made[i],), 0)
        start = P.floor_divide(P.mul(at, like(n, at)), like(m, at))
        end = P.add(P.mul(at, like(n, at)), like(n + m - 1, at))
        return start, P.floor_divide(end, like(m, at))

    def places(self) -> Node:
        """(batch, channels, parts..., places...): a part that is shorter repeats its last place."""
        d = len(self.made)
        if self.even:
            return windows(self.x, self.kernel, self.kernel, (1,) * d)
        n = self.x
        for i in range(d):
            start, end = self.ends(i)
            grid = (self.made[i], self.kernel[i])
            a, b = [spread(P.reshape(e, (grid[0], 1)), grid) for e in (start, end)]
            at = P.minimum(P.add(a, P.iota(grid, 1)), P.sub(b, like(1, b)))
            n = P.take(n, at, 2 + 2 * i)
        perm = (0, 1, *range(2, 2 + 2 * d, 2), *range(3, 3 + 2 * d, 2))
        return P.permute(n, perm)

    def real(self, shape: Ints) -> Node | None:
        """Which places are no repetition; None if all are."""
        if self.even:
            return None
        d, out = len(self.made), None
        for i in range(d):
            start, end = self.ends(i)
            grid = (self.made[i], self.kernel[i])
            size = spread(P.reshape(P.sub(end, start), (grid[0], 1)), grid)
            here = P.lt(P.iota(grid, 1), size)
            lined = (1, 1, *[m if k == i else 1 for k, m in enumerate(self.made)],
                     *[m if k == i else 1 for k, m in enumerate(self.kernel)])
            here = spread(P.reshape(here, lined), shape)
            out = here if out is None else P.bitwise_and(out, here)
        return out

    def finish(self, n: Node) -> Node:
        return n if self.batched else P.reshape(n, n.shape[1:])


def _longest(n: int, m: int) -> int:
    """The most places that a part has."""
    return max([-(-(o + 1) * n // m) - o * n // m for o in range(m)], default=1)


def _mean(name: str, dims: int, input: Node, output_size: Any) -> Node:
    parts = _Parts(name, input, output_size, dims)
    floating(name, input)
    n = parts.places()
    real = parts.real(n.shape)
    axes = tuple(range(2 + dims, 2 + 2 * dims))
    if real is None:
        count = 1
        for k in parts.kernel:
            count *= k
        total = P.sum(n, axes)
        return parts.finish(P.div(total, like(count, total)))
    zero = full(0, n.shape, n.dtype)
    total, count_of = P.sum(P.where(real, n, zero), axes), P.sum(P.where(real, full(1, n.shape, n.dtype), zero), axes)
    return parts.finish(P.div(total, count_of))


def _largest(name: str, dims: int, input: Node, output_size: Any, return_indices: bool) -> Any:
    parts = _Parts(name, input, output_size, dims, ":")
    floating(name, input)
    n = parts.places()
    count = 1
    for k in parts.kernel:
        count *= k
    flat = P.reshape(n, (*n.shape[:2 + dims], count))
    at = P.argmax(flat, flat.ndim - 1)
    best = parts.finish(at_index(flat, at, flat.ndim - 1))
    return (best, parts.finish(_in_plane(parts, at))) if return_indices else best


def _in_plane(parts: _Parts, place: Node) -> Node:
    """Places in parts as places in the flattened spatial dims of the input."""
    out, rest, step = full(0, place.shape, place.dtype), place, 1
    for i in reversed(range(len(parts.made))):
        k = like(parts.kernel[i], rest)
        inside, rest = P.remainder(rest, k), P.floor_divide(rest, k)
        lined = (1, 1, *[m if j == i else 1 for j, m in enumerate(parts.made)])
        start = spread(P.reshape(parts.ends(i)[0], lined), place.shape)
        out = P.add(out, P.mul(P.add(start, inside), like(step, place)))
        step *= parts.x.shape[2 + i]
    return out


@op(method=False, functional=True, grad="SqueezeBackward1")
def adaptive_avg_pool1d(input: Node, output_size: int | Ints) -> Node:
    """The means of `output_size` parts of the last dim."""
    return _mean("adaptive_avg_pool1d", 1, input, output_size)


def _mean_name(input: Node, output_size: Any) -> str:
    given = (output_size,) if isinstance(output_size, int) else tuple(output_size)
    return "MeanBackward1" if set(given) == {1} else "AdaptiveAvgPool2DBackward0"


@op(method=False, function=False, functional=True, grad="AdaptiveAvgPool2DBackward0", grad_of=_mean_name)
def adaptive_avg_pool2d(input: Node, output_size: int | Wanted) -> Node:
    """The means of so many parts of the last two dims; None keeps a dim."""
    return _mean("adaptive_avg_pool2d", 2, input, output_size)


@op(method=False, function=False, functional=True, grad="AdaptiveAvgPool3DBackward0")
def adaptive_avg_pool3d(input: Node, output_size: int | Wanted) -> Node:
    """The means of so many parts of the last three dims; None keeps a dim."""
    return _mean("adaptive_avg_pool3d", 3, input, output_size)


@op(method=False, function=False, functional=True, grad="SqueezeBackward1")
def adaptive_max_pool1d(input: Node, output_size: int | Ints, return_indices: bool = False) -> Any:
    """The largest of each of `output_size` parts of the last dim; with `return_indices` also where it first stands."""
    return _largest("adaptive_max_pool1d", 1, input, output_size, return_indices)


@op(method=False, function=False, functional=True, grad="AdaptiveMaxPool2DBackward0")
def adaptive_max_pool2d(input: Node, output_size: int | Wanted, return_indices: bool = False) -> Any:
    """The largest of so many parts of the last two dims, and where it first stands in their plane if that is asked for."""
    return _largest("adaptive_max_pool2d", 2, input, output_size, return_indices)


@op(method=False, function=False, functional=True, grad="AdaptiveMaxPool3DBackward0")
def adaptive_max_pool3d(input: Node, output_size: int | Wanted, return_indices: bool = False) -> Any:
    """The largest of so many parts of the last three dims, and where it first stands in their space if that is asked for."""
    return _largest("adaptive_max_pool3d", 3, input, output_size, return_indices)
