"""Public ops whose index is a tensor: gather, scatter, select, add, fill.  The face checks that indices are in range.

In: nodes; indices are integers.  Out: nodes.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import BOOL, int32, int64
from ..errors import explain
from ..ir.graph import Node
from .checks import same_dtype, scalar_type
from .declare import P, broadcast_shapes, cast, dim_of, full, op, spread, zeros_like
from .elementwise import like
from .movement import slice_axis
from .shapes import as_shape

Bounds = tuple[Any, ...]                                  # see Op.bounds


def _ints(name: str, index: Node) -> Node:
    if index.dtype is not int64 and index.dtype is not int32:
        raise explain(RuntimeError(f"{name}(): Expected dtype int32/int64 for index"),
                      hint="convert the index: i.long()")
    return cast(index, int64)


def _axis(input: Node, dim: int) -> int:
    return dim_of(dim, input.ndim)


def _extent(input: Node, dim: int) -> int:
    return input.shape[_axis(input, dim)] if input.ndim else 1


def along(name: str) -> Any:
    """Bounds of ops with (input, dim, index, ...)."""
    def bounds(input: Node, dim: int, index: Node, *rest: Any) -> Bounds:
        n = _extent(input, dim)
        words = f"index {{value}} is out of bounds for dimension {_axis(input, dim)} with size {n}"
        words = "index out of range in self" if not name else words if name != "index_copy" else f"index_copy_(): {words}"
        return ((index, 0, n, words, RuntimeError if name in ("gather", "scatter", "scatter_add") else IndexError, None),)
    return bounds


def _lifted(*nodes: Node) -> tuple[Node, ...]:
    """Numbers as vectors of one element."""
    return tuple([n if n.ndim else P.reshape(n, (1,)) for n in nodes])


# ---------------------------------------------------------------- elements at places of their own
def _same_ndim(name: str, input: Node, index: Node) -> None:
    if max(input.ndim, 1) != max(index.ndim, 1):
        raise explain(RuntimeError(f"Index tensor must have the same number of dimensions as {name} tensor"))


@op(bounds=along("gather"))
def gather(input: Node, dim: int, index: Node) -> Node:
    """out[.., k, ..] = input[.., index[.., k, ..], ..] along a dim; the result has the shape of the index."""
    i = _ints("gather", index)
    axis = _axis(input, dim)
    _same_ndim("input", input, index)
    a, j = _lifted(input, i)
    return as_shape(P.gather(a, j, axis), index.shape)


def _fits(index: Node, src: Node, input: Node, axis: int) -> None:
    for k, n in enumerate(index.shape):
        if n > src.shape[k] or (k != axis and n > input.shape[k]):
            raise explain(RuntimeError(
                f"Expected index {list(index.shape)} to be no larger than self {list(input.shape)} apart from dimension "
                f"{axis} and to be no larger size than src {list(src.shape)}"))


def _source(input: Node, axis: int, i: Node, src: Node) -> Node:
    """The part of `src` that the index uses."""
    _fits(i, src, input, axis)
    for k, n in enumerate(i.shape):
        if n != src.shape[k]:
            src = slice_axis(src, k, 0, n)
    return src


def scattered(name: str, input: Node, dim: int, index: Node, src: Node) -> tuple[Node, Node, Node, int]:
    i = _ints(name, index)
    axis = _axis(input, dim)
    _same_ndim("self", input, index)
    same_dtype(f"{name}(): Expected self.dtype to be equal to src.dtype", input, src)
    a, j, v = _lifted(input, i, src)
    return a, j, _source(a, axis, j, v), axis


@op(inplace=True, variants={"value": "scatter_value", "src": "scatter_number"}, bounds=along("scatter"))
def scatter(input: Node, dim: int, index: Node, src: Node) -> Node:
    """input with src's elements written along a dim at the index; where places are equal, the last one stays."""
    a, i, v, axis = scattered("scatter", input, dim, index, src)
    return as_shape(P.scatter_set(a, i, v, axis), input.shape)


@op(grad="ScatterBackward1", method=False, function=False, bounds=along("scatter"))
def scatter_value(input: Node, dim: int, index: Node, value: Node) -> Node:
    """input with one number written along a dim at the index."""
    i = _ints("scatter", index)
    _same_ndim("self", input, index)
    a, j = _lifted(input, i)
    v = spread(cast(value, input.dtype), j.shape)
    return as_shape(P.scatter_set(a, j, v, _axis(input, dim)), input.shape)


@op(grad="ScatterBackward1", method=False, function=False, bounds=along("scatter"))
def scatter_number(input: Node, dim: int, index: Node, src: Node) -> Node:
    """scatter_value, for a number that stands in the place of src."""
    return scatter_value(input, dim, index, src)


@op(inplace=True, bounds=along("scatter_add"))
def scatter_add(input: Node, dim: int, index: Node, src: Node) -> Node:
    """input with src's elements added along a dim at the index; equal places accumulate."""
    a, i, v, axis = scattered("scatter_add", input, dim, index, src)
    return as_shape(P.scatter_add(a, i, v, axis), input.shape)


def _take_bounds(input: Node, index: Node) -> Bounds:
    n = input.aval.size
    return ((index, -n, n, f"out of range: tried to access index {{value}} on a tensor of {n} elements."),)


def _from_end(i: Node, n: int) -> Node:
    return P.where(P.lt(i, zeros_like(i)), P.add(i, like(n, i)), i)


@op(bounds=_take_bounds)
def take(input: Node, index: Node) -> Node:
    """Elements of the flattened tensor; the result has the shape of the index."""
    if index.dtype is not int64:
        raise explain(RuntimeError("take(): Expected a long tensor for index, but got "
                                   f"{scalar_type(index.dtype)}"))
    n = input.aval.size
    return P.take(P.reshape(input, (n,)), _from_end(index, n), 0)


def _wide(input: Node, indices: Node, axis: int) -> tuple[Node, Node]:
    """Both broadcast to one shape, but for the axis."""
    a = tuple([1 if k == axis else s for k, s in enumerate(input.shape)])
    b = tuple([1 if k == axis else s for k, s in enumerate(indices.shape)])
    common = broadcast_shapes(a, b)
    def at(n: Node) -> tuple[int, ...]:
        return (*common[:axis], n.shape[axis], *common[axis + 1:])
    return spread(input, at(input)), spread(indices, at(indices))


def _dim_bounds(input: Node, indices: Node, dim: int | None = None) -> Bounds:
    n = input.aval.size if dim is None else _extent(input, dim)
    return ((indices, -n, n, f"index {{value}} is out of bounds for dimension {dim or 0} with size {n}"),)


@op(grad="GatherBackward0", bounds=_dim_bounds)
def take_along_dim(input: Node, indices: Node, dim: int | None = None) -> Node:
    """gather with broadcasting of the other dims; without a dim, from the flattened tensor."""
    if indices.dtype is not int64:
        raise explain(RuntimeError("take_along_dim(): dtype of indices should be Long but got "
                                   f"{scalar_type(indices.dtype)}"))
    if dim is None:
        flat = P.reshape(input, (input.aval.size,))
        return P.gather(flat, _from_end(P.reshape(indices, (indices.aval.size,)), flat.aval.size), 0)
    if input.ndim != indices.ndim:
        raise explain(RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but "
                                   f"got {input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"))
    axis = _axis(input, dim)
    a, i = _wide(input, indices, axis)
    return P.gather(a, _from_end(i, a.shape[axis]), axis)


# ---------------------------------------------------------------- whole slices
def _line(name: str, index: Node) -> Node:
    if index.ndim > 1:
        raise explain(IndexError(f"{name}(): Index is supposed to be a vector"))
    return _lifted(_ints(name, index))[0]


@op(bounds=along(""))
def index_select(input: Node, dim: int, index: Node) -> Node:
    """The slices of a dim that the index names."""
    axis = _axis(input, dim)
    i = _line("index_select", index)
    return P.take(input, i, axis) if input.ndim else as_shape(P.take(P.reshape(input, (1,)), i, 0), ())


def _unlike(input: Node, source: Node, axis: int) -> None:
    """Refuse the source of an index_copy whose slices are not the input's, in torch's words."""
    if input.ndim and source.ndim and input.ndim != source.ndim:
        raise explain(IndexError("index_copy_(): When source and destination are not scalars, their dimensionality must match. "
                                 f"Source dimensionality ({source.ndim}), destination dimensionality ({input.ndim})"))
    ours, theirs = [" ".join([str(s) for k, s in enumerate(n.shape) if k != axis]) for n in (input, source)]
    if ours != theirs:
        raise explain(RuntimeError(
            "index_copy_(): Source/destination tensor must have same slice shapes. Destination slice shape: "
            f"{ours} at dimension {axis} and source slice shape: {theirs} at dimension 0."))


def sliced(name: str, input: Node, dim: int, index: Node, source: Node) -> tuple[Node, Node, Node, int]:
    axis = _axis(input, dim)
    same_dtype("index_copy_(): self and source expected to have the same dtype, but got (self) {0} and (source) {1}"
               if name == "index_copy" else f"{name}_(): self ({{0}}) and source ({{1}}) must have the same scalar type",
               input, source)
    i = _line(name, index)
    a, v = _lifted(input, source)
    want = (*a.shape[:axis], i.shape[0], *a.shape[axis + 1:])
    if v.shape != want:
        if name == "index_copy":
            _unlike(input, source, axis)
        at = v.shape[axis] if axis < v.ndim else 1
        if name == "index_copy" and at != i.shape[0]:
            raise explain(IndexError(f"index_copy_(): Number of indices ({i.shape[0]}) should be equal to source.size(dim) "
                                     f"({at})"))
        raise explain(RuntimeError(f"{name}_(): Number of indices ({i.shape[0]}) should be equal to source.size(dim): ({at}), "
                                   f"for dim: {axis}" if at != i.shape[0] else
                                   "source tensor shape must match self tensor shape, excluding the specified dimension. Got "
                                   f"self.shape = {list(input.shape)} source.shape = {list(source.shape)}"))
    return a, i, v, axis


@op(inplace=True, bounds=along(""))
def index_add(input: Node, dim: int, index: Node, source: Node, alpha: float = 1) -> Node:
    """input with alpha * source's slices added at the index; equal places accumulate."""
    a, i, v, axis = sliced("index_add", input, dim, index, source)
    if alpha != 1:
        v = P.mul(v, like(alpha, v))
    return as_shape(P.index_add(a, i, v, axis), input.shape)


@op(inplace=True, bounds=along("index_copy"))
def index_copy(input: Node, dim: int, index: Node, source: Node) -> Node:
    """input with source's slices written at the index."""
    a, i, v, axis = sliced("index_copy", input, dim, index, source)
    return as_shape(P.index_set(a, i, v, axis), input.shape)


@op(inplace=True, bounds=along(""))
def index_fill(input: Node, dim: int, index: Node, value: Node) -> Node:
    """input with a number written at the slices that the index names."""
    axis = _axis(input, dim)
    i = _line("index_fill", index)
    a, = _lifted(input)
    shape = (*a.shape[:axis], i.shape[0], *a.shape[axis + 1:])
    return as_shape(P.index_set(a, i, spread(cast(value, a.dtype), shape), axis), input.shape)


def _embedding_bounds(input: Node, weight: Node, padding_idx: int | None = None) -> Bounds:
    return ((input, 0, weight.shape[0], "index out of range in self"),)


def _vjp_embedding(ct: Node, out: Node, input: Node, weight: Node,
                   padding_idx: int | None = None) -> tuple[Node | None, Node]:
    """The row of the padding index gets no gradient."""
    if padding_idx is not None:
        pad = full(padding_idx % weight.shape[0], input.shape, int64)
        kept = P.reshape(P.ne(cast(input, int64), pad), (*input.shape, 1))
        ct = P.where(spread(kept, ct.shape), ct, zeros_like(ct))
    return None, P.index_add(zeros_like(weight), cast(input, int64), ct, 0)


@op(method=False, function=False, functional=True, vjp=_vjp_embedding, bounds=_embedding_bounds)
def embedding(input: Node, weight: Node, padding_idx: int | None = None) -> Node:
    """The rows of `weight` that the input names."""
    if weight.ndim != 2:
        raise explain(RuntimeError("'weight' must be 2-D"))
    if input.dtype is not int64 and input.dtype is not int32:
        raise explain(RuntimeError("Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, "
                                   f"Int; but got torch.{scalar_type(input.dtype)}Tensor instead (while checking arguments for "
                                   "embedding)"), hint="convert the index: i.long()")
    return P.take(weight, cast(input, int64), 0)


def _class_bounds(input: Node, num_classes: int) -> Bounds:
    return ((input, 0, num_classes, "Class values must be smaller than num_classes.", RuntimeError, None),)


@op(method=False, function=False, functional=True, bounds=_class_bounds)
def one_hot(input: Node, num_classes: int) -> Node:
    """A last dim that is 1 at the class and 0 elsewhere, as int64."""
    if input.dtype is not int64:
        raise explain(RuntimeError("one_hot is only applicable to index tensor of type LongTensor."))
    if num_classes <= 0:
        raise explain(RuntimeError("num_classes should be positive"))
    shape = (*input.shape, num_classes)
    here = P.expand(P.reshape(input, (*input.shape, 1)), shape)
    return cast(P.eq(here, P.iota(shape, input.ndim)), int64)


@op(inplace=True)
def masked_scatter(input: Node, mask: Node, source: Node) -> Node:
    """input with source's elements, in their order, written where the mask holds."""
    if mask.dtype.category != BOOL:
        raise explain(RuntimeError("masked_scatter only supports boolean masks, but got mask with dtype "
                                   f"{scalar_type(mask.dtype)}"))
    same_dtype("masked_scatter: expected self and source to have same dtypes but got{0} and {1}", input, source)
    shape = broadcast_shapes(input.shape, mask.shape)
    a, m = spread(input, shape), spread(mask, shape)
    flat = P.reshape(cast(m, int64), (m.aval.size,))
    turn = P.cumsum(flat, 0)
    at = P.reshape(P.maximum(P.sub(turn, like(1, turn)), zeros_like(turn)), shape)
    last = like(max(source.aval.size - 1, 0), at)
    return P.where(m, P.take(P.reshape(source, (source.aval.size,)), P.minimum(at, last), 0), a)


@op(grad="UnfoldBackward0", function=False)
def unfold(input: Node, dimension: int, size: int, step: int) -> Node:
    """Windows of `size` along a dim, `step` apart, as a last dim."""
    if input.ndim == 0:
        input = P.reshape(input, (1,))
    axis = _axis(input, dimension)
    n = input.shape[axis]
    if size > n:
        raise explain(RuntimeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}"))
    if step <= 0:
        raise explain(RuntimeError(f"step is {step} but must be > 0"))
    windows = (n - size) // step + 1
    grid = (windows, size)
    at = P.add(P.mul(P.iota(grid, 0), full(step, grid, int64)), P.iota(grid, 1))
    out = P.take(input, at, axis)
    perm = (*[i for i in range(out.ndim) if i != axis + 1], axis + 1)
    return P.permute(out, perm)
