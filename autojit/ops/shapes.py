"""Public ops that are views: chains of movements of one tensor.  Strides, and whether a result can alias, are for the face.

In: a node and static shapes, dims, ranges.  Out: one node, or a tuple of them (split, unbind).
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from .declare import P, dim_of, op
from .movement import slice_axis

Ints = tuple[int, ...]


def move(n: Node, perm: Ints) -> Node:
    """permute, or `n` itself if nothing moves."""
    return n if perm == tuple(range(n.ndim)) else P.permute(n, perm)


def as_shape(n: Node, shape: Shape) -> Node:
    """reshape, or `n` itself if it has the shape."""
    return n if n.shape == shape else P.reshape(n, shape)


def ints(x: Any) -> Ints:
    """A shape or dims given as an int or a sequence."""
    return (int(x),) if isinstance(x, int) else tuple([int(i) for i in x])


# ---------------------------------------------------------------- other shapes
def infer_shape(shape: Ints, size: int) -> Shape:
    """`shape` with its -1 worked out.  RuntimeError in torch's words if it does not fit."""
    known, hole = 1, -1
    for i, s in enumerate(shape):
        if s == -1:
            if hole >= 0:
                raise explain(RuntimeError("only one dimension can be inferred"))
            hole = i
        elif s < 0:
            raise explain(RuntimeError(f"invalid shape dimension {s} at index {i} of shape "
                                       f"[{', '.join(map(str, shape))}]"))
        else:
            known *= s
    if hole >= 0:
        if known == 0:
            if size == 0:
                raise explain(RuntimeError("cannot reshape tensor of 0 elements into shape "
                                           f"{list(shape)} because the unspecified dimension size -1 can "
                                           "be any value and is ambiguous"))
            known = 1
        elif size % known == 0:
            return (*shape[:hole], size // known, *shape[hole + 1:])
    elif known == size:
        return shape
    raise explain(RuntimeError(f"shape '[{', '.join(map(str, shape))}]' is invalid for input of size {size}"),
                  hint="the product of a shape is the number of elements; one -1 is worked out")


@op(view=True, star=True, grad="ViewBackward0")
def reshape(input: Node, shape: Ints) -> Node:
    """The same elements in row-major order in another shape; one -1 is worked out."""
    return as_shape(input, infer_shape(ints(shape), input.aval.size))


@op(view=True, star=True, grad="ViewBackward0", function=False)
def view(input: Node, shape: Ints) -> Node:
    """reshape that never copies: the face refuses strides that do not allow it."""
    return as_shape(input, infer_shape(ints(shape), input.aval.size))


@op(view=True, grad="ViewBackward0", function=False)
def view_as(input: Node, other: Node) -> Node:
    """input in the shape of `other`."""
    return as_shape(input, infer_shape(other.shape, input.aval.size))


@op(view=True, grad="ViewBackward0", function=False)
def reshape_as(input: Node, other: Node) -> Node:
    """input in the shape of `other`."""
    return as_shape(input, infer_shape(other.shape, input.aval.size))


@op(view=True, grad="ViewBackward0")
def ravel(input: Node) -> Node:
    """All elements in one dim."""
    return as_shape(input, (input.aval.size,))


@op(view=True, grad="ViewBackward0")
def flatten(input: Node, start_dim: int = 0, end_dim: int = -1) -> Node:
    """Dims start_dim to end_dim as one."""
    a, b = dim_of(start_dim, input.ndim), dim_of(end_dim, input.ndim)
    if a > b:
        raise explain(RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim"))
    if input.ndim == 0:
        return P.reshape(input, (1,))
    size = 1
    for s in input.shape[a:b + 1]:
        size *= s
    return as_shape(input, (*input.shape[:a], size, *input.shape[b + 1:]))


@op(view=True, grad="ViewBackward0")
def unflatten(input: Node, dim: int, sizes: Ints) -> Node:
    """One dim as several; one -1 is worked out."""
    axis, n = dim_of(dim, input.ndim), input.shape[dim_of(dim, input.ndim)] if input.ndim else 1
    try:
        inner = infer_shape(ints(sizes), n)
    except RuntimeError:
        raise explain(RuntimeError(f"unflatten: Provided sizes {list(ints(sizes))} don't multiply up to the size of "
                                   f"dim {axis} ({n}) in the input tensor")) from None
    return as_shape(input, (*input.shape[:axis], *inner, *input.shape[axis + 1:]))


def _squeeze_name(dim: Any = None) -> str:
    return "SqueezeBackward0" if dim is None else "SqueezeBackward1" if isinstance(dim, int) else "SqueezeBackward2"


@op(view=True, grad=_squeeze_name, inplace=True)
def squeeze(input: Node, dim: int | Ints | None = None) -> Node:
    """Dims of extent 1 dropped: all of them, or those named."""
    drop = range(input.ndim) if dim is None else [dim_of(d, input.ndim) for d in ints(dim)]
    return as_shape(input, tuple([s for i, s in enumerate(input.shape) if s != 1 or i not in drop]))


@op(view=True, inplace=True)
def unsqueeze(input: Node, dim: int) -> Node:
    """A dim of extent 1 put in at `dim`."""
    axis = dim_of(dim, input.ndim + 1)
    return P.reshape(input, (*input.shape[:axis], 1, *input.shape[axis:]))


@op(view=True, grad="UnsqueezeBackward0", method=False)
def atleast_1d(input: Node) -> Node:
    """A number becomes a tensor of one dim."""
    return input if input.ndim else P.reshape(input, (1,))


@op(view=True, grad="UnsqueezeBackward0", method=False)
def atleast_2d(input: Node) -> Node:
    """A number or vector becomes a matrix of one row."""
    return input if input.ndim >= 2 else P.reshape(input, (1,) * (2 - input.ndim) + input.shape)


@op(view=True, grad="UnsqueezeBackward0", method=False)
def atleast_3d(input: Node) -> Node:
    """A number, vector (n) or matrix (m, n) becomes (1, 1, 1), (1, n, 1) or (m, n, 1)."""
    if input.ndim >= 3:
        return input
    return P.reshape(input, {0: (1, 1, 1), 1: (1, *input.shape, 1), 2: (*input.shape, 1)}[input.ndim])


def expanded(input: Node, shape: Ints) -> Node:
    """torch's expand: new leading dims, -1 keeps an extent."""
    lead = len(shape) - input.ndim
    if lead < 0:
        raise explain(RuntimeError(
            f"expand(torch.FloatTensor{{{list(input.shape)}}}, size={list(shape)}): the number of sizes provided "
            f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor ({input.ndim})"))
    out = []
    for i, s in enumerate(shape):
        old = input.shape[i - lead] if i >= lead else 1
        if s == -1 and i < lead:
            raise explain(RuntimeError(f"The expanded size of the tensor ({s}) isn't allowed in a leading, non-existing "
                                       f"dimension {i}"))
        if s != -1 and old not in (1, s):
            raise explain(RuntimeError(
                f"The expanded size of the tensor ({s}) must match the existing size ({old}) at non-singleton dimension "
                f"{i}.  Target sizes: {list(shape)}.  Tensor sizes: {list(input.shape)}"))
        out.append(old if s == -1 else s)
    n = P.reshape(input, (1,) * lead + input.shape) if lead else input
    return n if n.shape == tuple(out) else P.expand(n, tuple(out))


@op(view=True, star=True, function=False)
def expand(input: Node, size: Ints) -> Node:
    """Dims of extent 1 stretched without copying; -1 keeps an extent, new dims come first."""
    return expanded(input, ints(size))


@op(view=True, star=True, grad="ExpandBackward0")
def broadcast_to(input: Node, size: Ints) -> Node:
    """expand."""
    return expanded(input, ints(size))


@op(view=True, grad="ExpandBackward0", function=False)
def expand_as(input: Node, other: Node) -> Node:
    """input stretched to the shape of `other`."""
    return expanded(input, other.shape)


# ---------------------------------------------------------------- other orders of dims
@op(view=True, star=True)
def permute(input: Node, dims: Ints) -> Node:
    """Dims in another order."""
    wanted = ints(dims)
    if len(wanted) != input.ndim:
        raise explain(RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {input.ndim} is not equal to len(dims) = {len(wanted)}"))
    perm = tuple([dim_of(d, input.ndim) for d in wanted])
    if len(set(perm)) != len(perm):
        raise explain(RuntimeError("permute(): duplicate dims are not allowed."))
    return P.permute(input, perm)


def swapped(input: Node, dim0: int, dim1: int) -> Node:
    a, b = dim_of(dim0, input.ndim), dim_of(dim1, input.ndim)
    perm = list(range(input.ndim))
    if perm:
        perm[a], perm[b] = perm[b], perm[a]
    return P.permute(input, tuple(perm))


@op(view=True, inplace=True, aliases=("swapdims",))
def transpose(input: Node, dim0: int, dim1: int) -> Node:
    """Two dims exchanged."""
    return swapped(input, dim0, dim1)


@op(view=True, inplace=True, grad="TransposeBackward0")
def swapaxes(input: Node, axis0: int, axis1: int) -> Node:
    """Two dims exchanged."""
    return swapped(input, axis0, axis1)


@op(view=True, inplace=True)
def t(input: Node) -> Node:
    """A matrix transposed; vectors and numbers as they are."""
    if input.ndim > 2:
        raise explain(RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D"),
                      hint="x.mT transposes the last two dims of a batch")
    return P.permute(input, tuple(reversed(range(input.ndim))))


@op("T", view=True, grad="PermuteBackward0", method=False, function=False)
def all_reversed(input: Node) -> Node:
    """Dims in reversed order: the property `x.T`."""
    return P.permute(input, tuple(reversed(range(input.ndim))))


@op(view=True, grad="TransposeBackward0", method=False, function=False)
def mT(input: Node) -> Node:
    """The last two dims exchanged: the property `x.mT`."""
    if input.ndim < 2:
        raise explain(RuntimeError("tensor.mT is only supported on matrices or batches of matrices. Got "
                                   f"{input.ndim}-D tensor."))
    return swapped(input, -2, -1)


@op(view=True, grad="PermuteBackward0", aliases=("moveaxis",))
def movedim(input: Node, source: int | Ints, destination: int | Ints) -> Node:
    """Dims moved to other places; the others keep their order."""
    src, dst = [[dim_of(d, input.ndim) for d in ints(x)] for x in (source, destination)]
    if len(src) != len(dst):
        raise explain(RuntimeError("movedim: Invalid source or destination dims: source ("
                                   f"{list(ints(source))} dims) should contain the same number of dims as destination "
                                   f"({list(ints(destination))} dims)"))
    for name, dims, given in (("source", src, source), ("destination", dst, destination)):
        if len(set(dims)) != len(dims):
            raise explain(RuntimeError(f"movedim: repeated dim in `{name}` ({list(ints(given))})"))
    rest = iter([i for i in range(input.ndim) if i not in src])
    place = dict(zip(dst, src))
    return P.permute(input, tuple([place[i] if i in place else next(rest) for i in range(input.ndim)]))


# ---------------------------------------------------------------- parts
@op(view=True)
def select(input: Node, dim: int, index: int) -> Node:
    """One place along a dim, which vanishes."""
    if input.ndim == 0:
        raise explain(IndexError("select() cannot be applied to a 0-dim tensor."))
    axis = dim_of(dim, input.ndim)
    n = input.shape[axis]
    if not -n <= index < n:
        raise explain(IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at "
                                 f"dimension {axis}"))
    part = slice_axis(input, axis, index % n, index % n + 1)
    return P.reshape(part, (*input.shape[:axis], *input.shape[axis + 1:]))


@op(view=True, grad="SliceBackward0")
def narrow(input: Node, dim: int, start: int, length: int) -> Node:
    """`length` places along a dim from `start`."""
    if input.ndim == 0:
        raise explain(RuntimeError("narrow() cannot be applied to a 0-dim tensor."))
    axis = dim_of(dim, input.ndim)
    n = input.shape[axis]
    if length < 0:
        raise explain(RuntimeError("narrow(): length must be non-negative."))
    if not -n <= start <= n:
        raise explain(IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n}], but got {start})"))
    start = start + n if start < 0 else start
    if start + length > n:
        raise explain(RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n})."))
    return slice_axis(input, axis, start, start + length)


@op(view=True)
def diagonal(input: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    """The diagonal of two dims, as a last dim in their stead."""
    a, b = dim_of(dim1, input.ndim), dim_of(dim2, input.ndim)
    if a == b:
        raise explain(RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}"))
    rest = tuple([i for i in range(input.ndim) if i not in (a, b)])
    n = move(input, (*rest, a, b))
    lead, (rows, cols) = n.shape[:-2], n.shape[-2:]
    top, left = max(-offset, 0), max(offset, 0)
    k = max(min(rows - top, cols - left), 0)
    if k == 0:
        return P.reshape(slice_axis(n, n.ndim - 1, 0, 0), (*lead, 0)) if rows == 0 else _nothing(n)
    n = slice_axis(slice_axis(n, n.ndim - 2, top, top + k), n.ndim - 1, left, left + k)
    return slice_axis(P.reshape(n, (*lead, k * k)), len(lead), 0, k * k, k + 1)


def _nothing(n: Node) -> Node:
    """An empty diagonal, still a chain of movements."""
    return P.reshape(slice_axis(slice_axis(n, n.ndim - 1, 0, 0), n.ndim - 2, 0, 0), (*n.shape[:-2], 0))
