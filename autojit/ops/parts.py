"""Public ops that cut a tensor into several views.

In: a node and static sizes.  Out: tuples of nodes, each a chain of movements of the first argument.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .declare import P, dim_of, op
from .movement import slice_axis
from .shapes import Ints, ints


def _axis(name: str, input: Node, dim: int) -> int:
    if input.ndim == 0:
        raise explain(RuntimeError(f"{name} expects at least a 1-dimensional tensor"))
    return dim_of(dim, input.ndim)


def _at(input: Node, axis: int, ends: list[int]) -> tuple[Node, ...]:
    """The slices between consecutive ends."""
    n = input.shape[axis]
    out, start = [], 0
    for end in [*ends, n]:
        stop = min(max(end + n if end < 0 else end, 0), n)
        out.append(slice_axis(input, axis, min(start, n), max(stop, min(start, n))))
        start = stop
    return tuple(out)


def _even(input: Node, axis: int, size: int) -> tuple[Node, ...]:
    n = input.shape[axis]
    return tuple([slice_axis(input, axis, i, min(i + size, n)) for i in range(0, n, size)]) or (input,)


def _split_name(split_size_or_sections: Any, dim: int = 0) -> str:
    return "SplitBackward0" if isinstance(split_size_or_sections, int) else "SplitWithSizesBackward0"


@op(view=True, grad=_split_name)
def split(input: Node, split_size_or_sections: int | Ints, dim: int = 0) -> tuple[Node, ...]:
    """Pieces of one size (the last may be smaller), or of the sizes given."""
    axis = _axis("split", input, dim)
    n = input.shape[axis]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or size == 0 and n:
            raise explain(RuntimeError(f"split expects split_size be non-negative, but got split_size={size}" if size < 0
                                       else "split_size can only be 0 if dimension size is 0, but got dimension size of "
                                       f"{n}"))
        return _even(input, axis, max(size, 1))
    sizes = ints(split_size_or_sections)
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise explain(RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                                   f"dimension {axis}), but got split_sizes={list(sizes)}"))
    ends = [sum(sizes[:i + 1]) for i in range(len(sizes) - 1)]
    return _at(input, axis, ends) if sizes else ()


@op(view=True, grad="SplitBackward0")
def chunk(input: Node, chunks: int, dim: int = 0) -> tuple[Node, ...]:
    """At most `chunks` pieces of one size; the last may be smaller."""
    axis = _axis("chunk", input, dim)
    if chunks <= 0:
        raise explain(RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}"))
    n = input.shape[axis]
    if n == 0:
        return (input,) * chunks
    return _even(input, axis, -(-n // chunks))


@op(view=True, grad="SliceBackward0")
def tensor_split(input: Node, indices_or_sections: int | Ints, dim: int = 0) -> tuple[Node, ...]:
    """So many pieces as even as can be, or pieces that end at the indices."""
    axis = _axis("tensor_split", input, dim)
    return _sections(input, indices_or_sections, axis)


def _sections(input: Node, cut: int | Ints, axis: int) -> tuple[Node, ...]:
    n = input.shape[axis]
    if not isinstance(cut, int):
        return _at(input, axis, list(ints(cut)))
    if cut <= 0:
        raise explain(RuntimeError(f"number of sections must be larger than 0, got {cut}"))
    small, extra = divmod(n, cut)
    return _at(input, axis, [i * small + min(i, extra) for i in range(1, cut)])


def _divided(name: str, input: Node, cut: int | Ints, axis: int) -> tuple[Node, ...]:
    if isinstance(cut, int) and cut and input.shape[axis] % cut:
        raise explain(RuntimeError(f"torch.{name} attempted to split along dimension {axis}, but the size of the dimension "
                                   f"{input.shape[axis]} is not divisible by the split_size {cut}!"))
    return _sections(input, cut, axis)


@op(view=True, grad="SliceBackward0")
def hsplit(input: Node, indices_or_sections: int | Ints) -> tuple[Node, ...]:
    """tensor_split along dim 1 (0 for vectors), into equal parts."""
    if input.ndim == 0:
        raise explain(RuntimeError("torch.hsplit requires a tensor with at least 1 dimension, but got a tensor with 0 "
                                   "dimensions!"))
    return _divided("hsplit", input, indices_or_sections, min(1, input.ndim - 1))


@op(view=True, grad="SliceBackward0")
def vsplit(input: Node, indices_or_sections: int | Ints) -> tuple[Node, ...]:
    """tensor_split along dim 0, into equal parts."""
    if input.ndim < 2:
        raise explain(RuntimeError("torch.vsplit requires a tensor with at least 2 dimension, but got a tensor with "
                                   f"{input.ndim} dimensions!"))
    return _divided("vsplit", input, indices_or_sections, 0)


@op(view=True, grad="SliceBackward0")
def dsplit(input: Node, indices_or_sections: int | Ints) -> tuple[Node, ...]:
    """tensor_split along dim 2, into equal parts."""
    if input.ndim < 3:
        raise explain(RuntimeError("torch.dsplit requires a tensor with at least 3 dimension, but got a tensor with "
                                   f"{input.ndim} dimensions!"))
    return _divided("dsplit", input, indices_or_sections, 2)


@op(view=True)
def unbind(input: Node, dim: int = 0) -> tuple[Node, ...]:
    """The slices along a dim, which vanishes."""
    if input.ndim == 0:
        raise explain(IndexError("Dimension specified as 0 but tensor has no dimensions"))
    axis = dim_of(dim, input.ndim)
    shape = (*input.shape[:axis], *input.shape[axis + 1:])
    return tuple([P.reshape(slice_axis(input, axis, i, i + 1), shape) for i in range(input.shape[axis])])
