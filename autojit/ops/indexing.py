"""Indexing, and assignment through an index, as ops with a static key.

In: a node, index nodes, a *canonical key*.  Out: a node.  `canonical` makes the key of what stands between the brackets: a
tuple of ints, (start, stop, step) triples, None, Ellipsis and, for each index tensor, the word "index".  Masks are turned
into index tensors by the face before they come here; so are lists.  Basic items are applied first and index tensors to what
is left, as torch does it (NumPy lets an int stand among the index arrays).
"""

from __future__ import annotations

from typing import Any

from ..dtypes import int64
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from .checks import same_dtype
from .declare import Nodes, P, broadcast_shapes, cast, full, op, spread
from .movement import counts, inverse
from .shapes import Ints, as_shape, move

Key = tuple[Any, ...]
INDEX = "index"


def canonical(key: Any) -> Key:
    """The hashable form of a basic key; whatever is no int, slice, None or Ellipsis counts as an index tensor."""
    items = key if isinstance(key, tuple) else (key,)
    return tuple([_item(k) for k in items])


def _item(k: Any) -> Any:
    if k is None or k is Ellipsis:
        return k
    if isinstance(k, slice):
        return tuple([None if v is None else v.__index__() for v in (k.start, k.stop, k.step)])
    if isinstance(k, int) and not isinstance(k, bool):
        return int(k)
    return INDEX


# ---------------------------------------------------------------- reading a key
class Plan:
    """A key against a shape: the box it cuts (starts, limits, steps), the shape once ints are dropped and None put in, and
    at which axes of that shape index tensors stand."""

    __slots__ = ("starts", "limits", "steps", "shape", "indexed")

    def __init__(self, key: Key, shape: Shape) -> None:
        self.starts: list[int] = []
        self.limits: list[int] = []
        self.steps: list[int] = []
        self.shape: list[int] = []
        self.indexed: list[int] = []
        used = sum([k is not None and k is not Ellipsis for k in key])
        if used > len(shape):
            raise explain(_too_many(key, shape))
        whole = [False]
        for k in key:
            if k is None:
                self.shape.append(1)
            elif k is Ellipsis:
                if whole[0]:
                    raise explain(IndexError("an index can only have a single ellipsis ('...')"))
                whole[0] = True
                for n in shape[len(self.starts):len(self.starts) + len(shape) - used]:
                    self.take(0, n, 1)
            else:
                self.item(k, shape[len(self.starts)])
        for n in shape[len(self.starts):]:
            self.take(0, n, 1)

    def take(self, start: int, limit: int, step: int, keep: bool = True) -> None:
        self.starts.append(start)
        self.limits.append(limit)
        self.steps.append(step)
        if keep:
            self.shape.append(counts((start,), (limit,), (step,))[0])

    def item(self, k: Any, n: int) -> None:
        if type(k) is int:
            if not -n <= k < n:
                raise explain(IndexError(f"index {k} is out of bounds for dimension {len(self.starts)} with size {n}"))
            self.take(k % n, k % n + 1, 1, keep=False)
        elif k == INDEX:
            self.indexed.append(len(self.shape))
            self.take(0, n, 1)
        else:
            start, stop, step = k
            step = 1 if step is None else step
            if step <= 0:
                raise explain(ValueError("step must be greater than zero"), hint="x.flip(0) turns a tensor round")
            a = 0 if start is None else min(max(start + n if start < 0 else start, 0), n)
            b = n if stop is None else min(max(stop + n if stop < 0 else stop, 0), n)
            self.take(a, max(a, b), step)

    @property
    def box(self) -> tuple[Ints, Ints, Ints]:
        return tuple(self.starts), tuple(self.limits), tuple(self.steps)

    def apply(self, n: Node) -> Node:
        """The basic part of the key on a node."""
        starts, limits, steps = self.box
        if limits != n.shape or any(starts) or any([s != 1 for s in steps]):
            n = P.slice(n, starts, limits, steps)
        return as_shape(n, tuple(self.shape))

    def put(self, n: Node, value: Node) -> Node:
        """`n` with what the basic part of the key shows replaced."""
        starts, limits, steps = self.box
        return P.update(n, as_shape(value, counts(starts, limits, steps)), starts, steps)


def _too_many(key: Key, shape: Shape) -> IndexError:
    if not shape and key and type(key[0]) is int:
        return IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to "
                          "convert a 0-dim tensor to a number")
    if not shape:
        return IndexError("slice() cannot be applied to a 0-dim tensor.")
    return IndexError(f"too many indices for tensor of dimension {len(shape)}")


# ---------------------------------------------------------------- basic keys: views
def _getitem_name(input: Any, key: Key) -> str:
    """torch applies item after item, and leaves out slices that take all: the last one gives the name."""
    if len(key) == 1 and isinstance(key[0], tuple):
        return "SliceBackward0"
    name, axis = "AliasBackward0", 0
    used = sum([k is not None and k is not Ellipsis for k in key])
    for k in key:
        if k is None:
            name = "UnsqueezeBackward0"
        elif k is Ellipsis:
            axis += input.ndim - used
        else:
            n = input.shape[axis]
            if type(k) is int:
                name = "SelectBackward0"
            elif (k[0] or 0) != 0 or (k[1] is not None and k[1] < n) or (k[2] or 1) != 1:
                name = "SliceBackward0"
            axis += 1
    return name


@op(view=True, grad="SliceBackward0", grad_of=_getitem_name, method=False, function=False)
def getitem(input: Node, key: Key) -> Node:
    """input[key] for a key of ints, slices, None and Ellipsis: a view."""
    return Plan(key, input.shape).apply(input)


def _fit(value: Node, shape: Shape, like: Node) -> Node:
    """`value` as the target's dtype, stretched to a shape; leading dims of extent 1 may be too many."""
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = P.reshape(value, value.shape[1:])
    if value.ndim > len(shape) or broadcast_shapes(shape, value.shape) != shape:
        raise explain(RuntimeError(f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing "
                                   f"result of shape {list(shape)}"))
    return spread(cast(value, like.dtype), shape)


@op(grad="CopySlices", method=False, function=False)
def setitem(input: Node, value: Node, key: Key) -> Node:
    """input with `value` (broadcast) where a basic key points."""
    plan = Plan(key, input.shape)
    return plan.put(input, _fit(value, tuple(plan.shape), input))


# ---------------------------------------------------------------- index tensors
class Places:
    """Index tensors against what the basic part of a key has left: those axes merged into one, and the index into it."""

    __slots__ = ("perm", "merged", "at", "index", "result")

    def __init__(self, shape: Shape, axes: list[int], indices: list[Node]) -> None:
        try:
            grid = broadcast_shapes(*[i.shape for i in indices])
        except RuntimeError:
            shapes = ", ".join([str(list(i.shape)) for i in indices])
            raise explain(IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                                     f"{shapes}")) from None
        rest = [i for i in range(len(shape)) if i not in axes]
        adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
        self.at = axes[0] if adjacent else 0               # else torch puts the indexed axes first
        self.perm = tuple([*rest[:self.at], *axes, *rest[self.at:]])
        size = 1
        for i in axes:
            size *= shape[i]
        kept = [shape[i] for i in rest]
        self.merged = (*kept[:self.at], size, *kept[self.at:])
        self.index = self._flat([shape[i] for i in axes], indices, grid)
        self.result = (*kept[:self.at], *grid, *kept[self.at:])

    def _flat(self, extents: list[int], indices: list[Node], grid: Shape) -> Node:
        flat: Node | None = None
        for n, i in zip(extents, indices):
            place = spread(_wrapped(i, n), grid)
            flat = place if flat is None else P.add(P.mul(flat, full(n, grid, place.dtype)), place)
        assert flat is not None
        return flat

    def merge(self, n: Node) -> Node:
        return as_shape(move(n, self.perm), self.merged)

    def split(self, n: Node, shape: Shape) -> Node:
        return move(as_shape(n, tuple([shape[i] for i in self.perm])), inverse(self.perm))


def _wrapped(i: Node, n: int) -> Node:
    """An index counted from either end, as int64."""
    i = cast(i, int64)
    if i.op in ("const", "iota"):
        return i
    return P.where(P.lt(i, full(0, i.shape, int64)), P.add(i, full(n, i.shape, int64)), i)


def _bounds(tensors: Any, spec: Key, skip: int = 1) -> list[tuple[Any, int, int, str]]:
    shape = tensors[0].shape
    found, axis = [], 0
    indices = iter(tensors[skip:])
    used = sum([k is not None and k is not Ellipsis for k in spec])
    if used > len(shape):
        return []                                          # the op says so itself
    for k in spec:
        if k is Ellipsis:
            axis += len(shape) - used
        elif k is not None:
            if k == INDEX:
                n = shape[axis]
                words = f"index {{value}} is out of bounds for dimension {axis} with size {n}"
                found.append((next(indices), -n, n, words))
            axis += 1
    return found


@op(grad="IndexBackward0", method=False, function=False, bounds=lambda tensors, spec: _bounds(tensors, spec))
def index(tensors: Nodes, spec: Key) -> Node:
    """tensors[0] at a key with index tensors, which are tensors[1:] in the order of the key's "index" items."""
    plan = Plan(spec, tensors[0].shape)
    base = plan.apply(tensors[0])
    p = Places(base.shape, plan.indexed, list(tensors[1:]))
    return P.take(p.merge(base), p.index, p.at)


@op(grad="IndexPutBackward0", method=False, function=False,
    bounds=lambda tensors, spec, accumulate=False: _bounds(tensors, spec, 2))
def index_put(tensors: Nodes, spec: Key, accumulate: bool = False) -> Node:
    """tensors[0] with tensors[1] (broadcast) written, or added, at a key whose index tensors are tensors[2:]."""
    whole, value = tensors[0], tensors[1]
    plan = Plan(spec, whole.shape)
    base = plan.apply(whole)
    p = Places(base.shape, plan.indexed, list(tensors[2:]))
    if value.shape:
        same_dtype("Index put requires the source and destination dtypes match, got {0} for the destination and {1} for the "
                   "source.", whole, value)
    v = _fit(value, p.result, base)
    write = P.index_add if accumulate else P.index_set
    out = p.split(write(p.merge(base), p.index, v, p.at), base.shape)
    return out if base is whole else plan.put(whole, out)
