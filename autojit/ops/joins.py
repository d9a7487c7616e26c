"""Public ops that join, repeat, turn and pad tensors: results are new memory.

In: a node or a tuple of nodes, and static sizes.  Out: nodes.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .declare import Nodes, P, broadcast_shapes, cast, common_dtype, dim_of, dims_of, op, spread
from .movement import pad_value, slice_axis
from .shapes import Ints, as_shape, ints


def joined(tensors: Nodes, axis: int) -> Node:
    """Concatenation with torch's promotion; empty 1-D tensors are skipped, as torch still does."""
    d = common_dtype(*tensors)
    some = [n for n in tensors if n.shape != (0,)] or [tensors[0]]
    first = some[0]
    for k, n in enumerate(some):
        if n.ndim != first.ndim:
            raise explain(RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {n.ndim}"))
        for i in range(n.ndim):
            if i != axis and n.shape[i] != first.shape[i]:
                raise explain(RuntimeError(
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {first.shape[i]} but got size "
                    f"{n.shape[i]} for tensor number {k} in the list."))
    return P.concat(tuple([cast(n, d) for n in some]), axis)


def _some(name: str, tensors: Nodes) -> None:
    if not tensors:
        raise explain(RuntimeError(f"{name} expects a non-empty TensorList"))


@op(aliases=("concat", "concatenate"), method=False)
def cat(tensors: Nodes, dim: int = 0) -> Node:
    """The tensors one after the other along a dim that they have."""
    if not tensors:
        raise explain(RuntimeError("torch.cat(): expected a non-empty list of Tensors"))
    for k, n in enumerate(tensors):
        if n.ndim == 0:
            raise explain(RuntimeError(f"zero-dimensional tensor (at position {k}) cannot be concatenated"))
    ndim = max([n.ndim for n in tensors if n.shape != (0,)], default=0)
    if not ndim:                                            # any dim will do for what is empty
        return cast(tensors[0], common_dtype(*tensors))
    return joined(tensors, dim_of(dim, ndim))


@op(method=False)
def stack(tensors: Nodes, dim: int = 0) -> Node:
    """The tensors, all of one shape, along a new dim."""
    _some("stack", tensors)
    shape = tensors[0].shape
    for k, n in enumerate(tensors):
        if n.shape != shape:
            raise explain(RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                                       f"{list(n.shape)} at entry {k}"))
    axis = dim_of(dim, len(shape) + 1)
    d = common_dtype(*tensors)
    wide = (*shape[:axis], 1, *shape[axis:])
    return P.concat(tuple([P.reshape(cast(n, d), wide) for n in tensors]), axis)


def _at_least(n: Node, ndim: int) -> Node:
    if ndim == 3:
        lead = {0: (1, 1, 1), 1: (1, *n.shape, 1), 2: (*n.shape, 1)}
        return P.reshape(n, lead[n.ndim]) if n.ndim < 3 else n
    return n if n.ndim >= ndim else P.reshape(n, (1,) * (ndim - n.ndim) + n.shape)


@op(method=False, grad="CatBackward0")
def hstack(tensors: Nodes) -> Node:
    """Joined along dim 1 (0 for vectors)."""
    _some("hstack", tensors)
    parts = tuple([_at_least(n, 1) for n in tensors])
    return joined(parts, 0 if parts[0].ndim == 1 else 1)


@op(method=False, grad="CatBackward0", aliases=("row_stack",))
def vstack(tensors: Nodes) -> Node:
    """Rows under each other."""
    _some("vstack", tensors)
    return joined(tuple([_at_least(n, 2) for n in tensors]), 0)


@op(method=False, grad="CatBackward0")
def dstack(tensors: Nodes) -> Node:
    """Joined along dim 2."""
    _some("dstack", tensors)
    return joined(tuple([_at_least(n, 3) for n in tensors]), 2)


@op(method=False, grad="CatBackward0")
def column_stack(tensors: Nodes) -> Node:
    """Vectors as columns, matrices side by side."""
    _some("column_stack", tensors)
    return joined(tuple([n if n.ndim >= 2 else P.reshape(n, (n.aval.size, 1)) for n in tensors]), 1)


@op(method=False, loose=True)
def block_diag(tensors: Nodes) -> Node:
    """The matrices along the diagonal of a larger one, zeros elsewhere."""
    d = common_dtype(*tensors)
    parts = [cast(_at_least(n, 2), d) for n in tensors]
    shape = (sum([n.shape[0] for n in parts]), sum([n.shape[1] for n in parts]))
    rows, r, c = [], 0, 0
    for n in parts:
        rows.append(P.pad(n, (0, c), (n.shape[0], shape[1]), (1, 1)))
        r, c = r + n.shape[0], c + n.shape[1]
    return P.concat(tuple(rows), 0)


# ---------------------------------------------------------------- repetition
def tiled(input: Node, counts: Ints) -> Node:
    """`input` laid side by side `counts` times along each of its dims (new dims first)."""
    lead = len(counts) - input.ndim
    shape = (1,) * lead + input.shape
    inner = tuple([x for s in shape for x in (1, s)])
    wide = tuple([x for c, s in zip(counts, shape) for x in (c, s)])
    n = P.expand(P.reshape(input, inner), wide)
    return P.reshape(n, tuple([c * s for c, s in zip(counts, shape)]))


@op(star=True, function=False)
def repeat(input: Node, repeats: Ints) -> Node:
    """The tensor laid side by side so many times along each dim; new dims come first."""
    counts = ints(repeats)
    if len(counts) < input.ndim:
        raise explain(RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of "
                                   "tensor"))
    sizes = [c * n for c, n in zip(counts, (1,) * (len(counts) - input.ndim) + tuple(input.shape))]
    if min(sizes, default=0) < 0:
        raise explain(RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {sizes}"))
    return tiled(input, tuple([max(c, 0) for c in counts]))


@op(star=True, grad="RepeatBackward0")
def tile(input: Node, dims: Ints) -> Node:
    """repeat, with missing leading counts taken as 1."""
    counts = ints(dims)
    return tiled(input, (1,) * (input.ndim - len(counts)) + counts)


@op(grad="ViewBackward0")
def repeat_interleave(input: Node, repeats: int, dim: int | None = None) -> Node:
    """Each element so many times in a row along a dim, or of the flattened tensor."""
    if repeats < 0:
        raise explain(RuntimeError("repeats can not be negative"))
    n = as_shape(input, (input.aval.size,)) if dim is None else input
    axis = dim_of(dim or 0, n.ndim)
    if n.ndim == 0:
        n = P.reshape(n, (1,))
    shape = n.shape
    inner = P.reshape(n, (*shape[:axis + 1], 1, *shape[axis + 1:]))
    wide = P.expand(inner, (*shape[:axis + 1], repeats, *shape[axis + 1:]))
    return P.reshape(wide, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1:]))


# ---------------------------------------------------------------- turning round
@op(star=True)
def flip(input: Node, dims: Ints) -> Node:
    """The order of some dims turned round."""
    given = ints(dims)
    axes = dims_of(given, input.ndim) if given else ()
    return P.flip(input, axes) if axes else input


@op(grad="FlipBackward0")
def fliplr(input: Node) -> Node:
    """Dim 1 turned round."""
    if input.ndim < 2:
        raise explain(RuntimeError("Input must be >= 2-d."))
    return P.flip(input, (1,))


@op(grad="FlipBackward0")
def flipud(input: Node) -> Node:
    """Dim 0 turned round."""
    if input.ndim < 1:
        raise explain(RuntimeError("Input must be >= 1-d."))
    return P.flip(input, (0,))


def rolled(n: Node, shift: int, axis: int) -> Node:
    """Elements moved on by `shift`, the last ones to the front."""
    size = n.shape[axis]
    k = shift % size if size else 0
    return n if k == 0 else P.concat((slice_axis(n, axis, size - k, size), slice_axis(n, axis, 0, size - k)), axis)


@op()
def roll(input: Node, shifts: int | Ints, dims: int | Ints | None = None) -> Node:
    """Elements moved on along dims, the last ones to the front; without dims, of the flattened tensor."""
    moves = ints(shifts)
    if dims is None or dims == ():
        if len(moves) != 1:
            raise explain(RuntimeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:0"))
        return as_shape(rolled(as_shape(input, (input.aval.size,)), moves[0], 0), input.shape)
    where = ints(dims)
    if len(where) != len(moves):
        raise explain(RuntimeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(where)}"))
    n = input
    for k, d in zip(moves, where):
        n = rolled(n, k, dim_of(d, n.ndim))
    return n


@op(grad="Rot90Backward0")
def rot90(input: Node, k: int = 1, dims: Ints = (0, 1)) -> Node:
    """A quarter turn, k times, from dims[0] towards dims[1]."""
    if len(dims) != 2:
        raise explain(RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}"))
    if input.ndim < 2:
        raise explain(RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}"))
    a, b = dim_of(dims[0], input.ndim), dim_of(dims[1], input.ndim)
    if a == b:
        raise explain(RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"))
    turns = k % 4
    if turns == 0:
        return input
    if turns == 2:
        return P.flip(input, tuple(sorted((a, b))))
    perm = list(range(input.ndim))
    perm[a], perm[b] = b, a
    return P.permute(P.flip(input, (b,)), tuple(perm)) if turns == 1 else P.flip(P.permute(input, tuple(perm)), (b,))


# ---------------------------------------------------------------- padding
_PADS = {"constant": "ConstantPadNdBackward0", "circular": "CopySlices"}


def _pad_name(input: Node, pad: Ints, mode: str = "constant", value: float | None = None) -> str:
    kind = {"reflect": "Reflection", "replicate": "Replication"}.get(mode)
    return f"{kind}Pad{len(pad) // 2}DBackward0" if kind else _PADS[mode]


def _constant(n: Node, amounts: dict[int, tuple[int, int]], value: float) -> Node:
    for axis, (a, b) in amounts.items():                  # negative amounts cut
        size = n.shape[axis]
        if size + a + b < 0:
            raise explain(RuntimeError(f"The input size {size}, plus negative padding {a} and {b} resulted in a negative "
                                       f"output size, which is invalid. Check dimension {axis} of your input."))
        if a < 0 or b < 0:
            n = slice_axis(n, axis, max(-a, 0), size + min(b, 0))
    starts = tuple([max(amounts.get(i, (0, 0))[0], 0) for i in range(n.ndim)])
    shape = tuple([s + max(amounts.get(i, (0, 0))[0], 0) + max(amounts.get(i, (0, 0))[1], 0) for i, s in enumerate(n.shape)])
    if shape == n.shape:
        return n
    return P.pad(n, starts, shape, (1,) * n.ndim) if value == 0 else pad_value(n, starts, shape, value)


def _edges(n: Node, axis: int, a: int, b: int, mode: str) -> Node:
    """One axis made longer with elements of its own."""
    size = n.shape[axis]
    if mode == "reflect" and max(a, b) >= size or mode == "circular" and max(a, b) > size:
        raise explain(RuntimeError(
            f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({a}, {b}) "
            f"at dimension {axis} of input {list(n.shape)}" if mode == "reflect" else
            "Padding value causes wrapping around more than once."))
    parts = []
    if a > 0:
        parts.append({"reflect": lambda: P.flip(slice_axis(n, axis, 1, a + 1), (axis,)),
                      "circular": lambda: slice_axis(n, axis, size - a, size),
                      "replicate": lambda: _copies(slice_axis(n, axis, 0, 1), axis, a)}[mode]())
    parts.append(slice_axis(n, axis, max(-a, 0), size + min(b, 0)) if a < 0 or b < 0 else n)
    if b > 0:
        parts.append({"reflect": lambda: P.flip(slice_axis(n, axis, size - 1 - b, size - 1), (axis,)),
                      "circular": lambda: slice_axis(n, axis, 0, b),
                      "replicate": lambda: _copies(slice_axis(n, axis, size - 1, size), axis, b)}[mode]())
    return P.concat(tuple(parts), axis) if len(parts) > 1 else parts[0]


def _copies(n: Node, axis: int, times: int) -> Node:
    return P.expand(n, tuple([times if i == axis else s for i, s in enumerate(n.shape)]))


@op(method=False, function=False, functional=True, grad="ConstantPadNdBackward0", grad_of=_pad_name)
def pad(input: Node, pad: Ints, mode: str = "constant", value: float | None = None) -> Node:
    """The tensor made longer: (before, after) of the last dim, then of the one before it, and so on; negative cuts."""
    if len(pad) % 2:
        raise explain(RuntimeError("Padding length must be divisible by 2"))
    if len(pad) // 2 > input.ndim:
        raise explain(RuntimeError(f"Padding length should be less than or equal to two times the input dimension but got "
                                   f"padding length {len(pad)} and input of dimension {input.ndim}"))
    amounts = {input.ndim - 1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}
    if mode == "constant":
        return _constant(input, amounts, value or 0)
    if mode not in ("reflect", "replicate", "circular"):
        raise explain(NotImplementedError(f"Unrecognised padding mode {mode}"))
    if value is not None:
        raise explain(ValueError(f'Padding mode "{mode}" doesn\'t take in value argument'))
    n = input
    for axis, (a, b) in sorted(amounts.items()):
        n = _edges(n, axis, a, b, mode)
    return n


# ---------------------------------------------------------------- grids
@op(method=False, loose=True, grad="ExpandBackward0")
def meshgrid(tensors: Nodes, indexing: str = "ij") -> tuple[Node, ...]:
    """Grids of coordinates: the k-th tensor along the k-th dim; 'xy' exchanges the first two."""
    if indexing not in ("ij", "xy"):
        raise explain(RuntimeError('torch.meshgrid: indexing must be one of "xy" or "ij", but received: ' + indexing))
    for n in tensors:
        if n.ndim > 1:
            raise explain(RuntimeError("torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: "
                                       f"{' '.join([f'{c!s:>2}' for c in n.shape])}"))
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    place = {k: i for i, k in enumerate(order)}
    shape = tuple([tensors[k].aval.size for k in order])
    lines = [P.reshape(n, tuple([s if i == place[k] else 1 for i, s in enumerate(shape)])) for k, n in enumerate(tensors)]
    return tuple([P.expand(n, shape) for n in lines])


@op(method=False, loose=True, grad="ExpandBackward0")
def broadcast_tensors(tensors: Nodes) -> tuple[Node, ...]:
    """All tensors stretched to their common shape."""
    shape = broadcast_shapes(*[n.shape for n in tensors])
    return tuple([spread(n, shape) for n in tensors])


@op(method=False, loose=True, grad="StackBackward0")
def cartesian_prod(tensors: Nodes) -> Node:
    """All combinations of the vectors' elements, one a row."""
    if len(tensors) == 1:
        return tensors[0]
    grids: Any = meshgrid(tensors)
    size = grids[0].aval.size
    return P.concat(tuple([P.reshape(g, (size, 1)) for g in grids]), 1)
