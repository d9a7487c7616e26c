"""What has to look at values: results whose shape depends on data, and answers that are Python values.

In: tensors; pending work runs.  Out: tensors, bools, numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, DType, as_dtype, default_float, float32, float64, int32, int64, memory, of_number
from ..dtypes import promote as promoted
from ..dtypes import result_type as weakest
from ..errors import explain
from ..ops.declare import OPS
from ..ops.declare import broadcast_shapes as common_shape
from . import searching
from .apply import apply
from .binding import function_of, is_number
from .convert import array_of, clone
from .counting import bins, holds, refuse
from .counting import places as places_on_device
from .creation import finish, tensor, whole, zeros
from .indexing import items_of
from .inplace import apply_into
from .placing import named
from .random import dropout
from .state import state
from .template import Rule, scalar_type
from .tensor import Size, Tensor, expect, of_array


def _array(t: Tensor, what: str) -> Any:
    expect(what.removesuffix("()"), t)
    if state.trace is not None:
        raise explain(RuntimeError(f"{what} depends on values: it cannot be traced"),
                      hint="use torch.where, or take it out of the traced function")
    if t.aval.device != "cpu":
        refuse(what, t.aval.device)
    return array_of(t)


def _there(*tensors: Any) -> bool:
    """Are there tensors on a device, whose values may be asked for?"""
    return state.trace is None and any([isinstance(t, Tensor) and t.aval.device != "cpu" for t in tensors])


def _detached(t: Tensor, what: str) -> Any:
    expect(what.removesuffix("()"), t)
    return _array(t.detach(), what)


def _new(a: Any, d: DType | None = None) -> Tensor:
    """A tensor of an array; `d`: its dtype, where its values are not as they lie in memory."""
    return finish(of_array(np.array(a, order="C") if d is None or not d.half else memory(a, d)), False)


# ---------------------------------------------------------------- shapes that depend on data
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Indices of elements that are not zero: one row each, or (as_tuple) one tensor a dimension."""
    expect("nonzero", input)
    places = _places(input, "nonzero()")
    if as_tuple:
        return tuple(places)
    if not input.aval.shape:
        return zeros(len(places[0]), 0, dtype=int64, device=input.aval.device)
    return finish(_stack(places, 1), False)


def _places(t: Tensor, what: str) -> list[Tensor]:
    """Where a tensor is not zero: an index tensor for each dimension (one, where there is none)."""
    if t.aval.device == "cpu" or state.trace is not None:
        return [_new(p.astype(np.int64)) for p in np.nonzero(np.atleast_1d(_array(t, what)))]
    t = t.detach()
    return places_on_device(t if t.aval.shape else t.reshape(1))


def argwhere(input: Tensor) -> Tensor:
    """Indices of elements that are not zero, one row each."""
    return nonzero(input)  # type: ignore[no-any-return]


class _Masked(Rule):
    """`index` under the name that torch gives it in masked_select."""

    __slots__ = ()

    def call(self, nodes: Any, static: Any) -> Any:
        return OPS["index"].call(nodes, static)


MASKED_SELECT = _Masked("masked_select", None, "MaskedSelectBackward0")


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """Elements where the mask holds, as a vector; both broadcast."""
    if mask.aval.dtype.category != BOOL:
        raise explain(RuntimeError("masked_select: expected BoolTensor for mask"))
    shape = common_shape(input.aval.shape, mask.aval.shape)
    wide = input if input.aval.shape == shape else input.expand(shape)
    places = _places(mask if mask.aval.shape == shape else mask.expand(shape), "masked_select()")
    if not shape:
        wide = wide.reshape(1)
    return apply(MASKED_SELECT, (wide, *places), (("index",) * max(len(shape), 1),))  # type: ignore[no-any-return]


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """Distinct elements (or slices along `dim`), sorted; on request where each came from and how often."""
    if _there(input) and dim is None:
        return _chosen(searching.unique(input.detach()), return_inverse, return_counts)
    a = _detached(input, "unique()")
    found = np.unique(a, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    inverse = found[1].reshape(a.shape if dim is None else -1)
    return _parts(input, found[0], inverse, found[2], return_inverse, return_counts)


def _chosen(found: Sequence[Any], return_inverse: bool, return_counts: bool) -> Any:
    out = [t for t, wanted in zip(found, (True, return_inverse, return_counts)) if wanted]
    return out[0] if len(out) == 1 else tuple(out)


def _parts(input: Tensor, values: Any, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool) -> Any:
    found = (_new(values, input.aval.dtype), _new(inverse.astype(np.int64)), _new(counts.astype(np.int64)))
    return _chosen(found, return_inverse, return_counts)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """Elements (or slices along `dim`) that differ from the one before."""
    if _there(input) and dim is None:
        found = searching.runs(input.detach().reshape(-1))  # type: ignore[attr-defined]
        places = found[1].reshape(input.aval.shape)  # type: ignore[attr-defined]
        return _chosen((found[0], places, found[2]), return_inverse, return_counts)
    a = _detached(input, "unique_consecutive()")
    axis = 0 if dim is None else dim
    rows = a.reshape(-1) if dim is None else a
    if rows.shape[axis] == 0:
        return _parts(input, rows, np.zeros(0), np.zeros(0), return_inverse, return_counts)
    lead = np.moveaxis(rows, axis, 0)
    flat = lead.reshape(len(lead), -1)
    first = np.concatenate([[True], (flat[1:] != flat[:-1]).any(axis=1)])
    starts = np.flatnonzero(first)
    inverse = np.cumsum(first) - 1
    counts = np.diff(np.append(starts, len(lead)))
    return _parts(input, np.moveaxis(lead[starts], 0, axis), inverse.reshape(a.shape) if dim is None else inverse, counts,
                  return_inverse, return_counts)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs (or the sum of its weights)."""
    expect("bincount", input)
    on_device = input.aval.device != "cpu" and state.trace is None
    a = input if on_device else _array(input, "bincount()")
    if minlength < 0:
        raise explain(RuntimeError("minlength should be >= 0"))
    if a.ndim == 1 and input.aval.dtype.category >= FLOAT:
        raise explain(NotImplementedError(f"\"bincount_cpu\" not implemented for '{scalar_type(input.aval.dtype)}'"))
    if a.ndim != 1 or (not on_device and a.size and a.min() < 0):
        raise explain(RuntimeError("bincount only supports 1-d non-negative integral inputs."))
    if on_device:
        if weights is not None and weights.aval.shape != input.aval.shape:
            raise explain(RuntimeError("weights should be 1-d and have the same length as input"))
        kind = int64 if weights is None else float32 if weights.aval.dtype is float32 else float64
        return bins(input, weights, minlength, kind)
    if weights is None:
        return _new(np.bincount(a, minlength=minlength).astype(np.int64))
    w = array_of(weights.detach())
    if w.shape != a.shape:
        raise explain(RuntimeError("weights should be 1-d and have the same length as input"))
    return _new(np.bincount(a, w, minlength).astype(np.float32 if weights.aval.dtype is float32 else np.float64))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal intervals from min to max (of the data, if both are 0)."""
    there = _there(input)
    a: Any = input.detach() if there else _detached(input, "histc()")
    if input.aval.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"histogram_cpu\" not implemented for '{scalar_type(input.aval.dtype)}'"))
    if bins <= 0:
        raise explain(RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0"))
    lo, hi = (float(a.min()), float(a.max())) if min == max == 0 and input.aval.size else (min, max)
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise explain(RuntimeError(f"torch.histc: range of [{lo:g}, {hi:g}] is not finite"))
    if lo > hi:
        raise explain(RuntimeError("torch.histc: max must be larger than min"))
    if lo == hi:
        lo, hi = lo - 1, hi + 1
    if there:
        return searching.histogram(a, bins, lo, hi)
    return _new(np.histogram(a, bins, (lo, hi))[0].astype(a.dtype), input.aval.dtype)


_repeated = function_of(OPS["repeat_interleave"])


def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element so many times in a row along a dim, or of the flattened tensor: one count, or one for each element.
    Alone: the number of each count, so many times.

    >>> repeat_interleave(tensor([5, 6]), tensor([1, 2]))
    tensor([5, 6, 6])
    """
    expect("repeat_interleave", input)
    if repeats is None:
        return _numbers(input)
    if not isinstance(repeats, Tensor):
        return _repeated(input, repeats, dim)  # type: ignore[no-any-return]
    t = input.reshape(-1) if dim is None else input
    axis, size = dim or 0, repeats.aval.size
    if size == 1:
        return _repeated(t, int(_counts(repeats).reshape(())), axis)  # type: ignore[no-any-return]
    if size != t.shape[axis]:
        _counts(repeats)
        raise explain(RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                                   f"{size} and input.size({axis}) = {t.shape[axis]}"))
    return t.index_select(axis, _numbers(repeats))  # type: ignore[no-any-return]


def _numbers(repeats: Tensor) -> Tensor:
    """The number of each count, so many times."""
    counts = _counts(repeats)
    return searching.repeated(counts) if isinstance(counts, Tensor) else _new(np.repeat(np.arange(len(counts)), counts))


def _counts(t: Tensor) -> Any:
    """Counts as an array, or on a device as they are."""
    if t.aval.dtype not in (int32, int64):
        raise explain(NotImplementedError(f"\"repeat_interleave_cpu\" not implemented for '{scalar_type(t.aval.dtype)}'"))
    if _there(t):
        return t.detach()
    counts = _array(t, "repeat_interleave()")
    if (counts < 0).any():
        raise explain(RuntimeError("repeats can not be negative"))
    return counts


def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: Tensor | None = None) -> Tensor:
    """Where each value would be put into a sorted sequence (one for each row of leading dims) to keep it sorted: before equal
    elements, or (right) behind them.

    >>> searchsorted(tensor([1, 3, 5]), tensor([3, 4]))
    tensor([1, 2])
    """
    expect("searchsorted", sorted_sequence)
    there, a, v = _there(sorted_sequence, input), sorted_sequence, input
    if isinstance(v, Tensor) and v.aval.device != a.aval.device:
        raise explain(RuntimeError(
            "torch.searchsorted(): boundaries and input value tensors should have same device type, but got boundaries tensor "
            f"device type {a.device.type} and input value tensor device type {v.device.type}"), hint="move one of them")
    if not there:
        a = _detached(a, "searchsorted()")
        v = _detached(v, "searchsorted()") if isinstance(v, Tensor) else np.asarray(v)
    else:
        a, v = a.detach(), v.detach() if isinstance(v, Tensor) else tensor(v, device=a.aval.device)
    if side not in (None, "left", "right"):
        raise explain(RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}"))
    if a.ndim != 1 and a.shape[:-1] != v.shape[:-1]:
        raise explain(RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
            f"and input value tensor must match, but we got boundaries tensor {list(a.shape)} and input value tensor "
            f"{list(v.shape)}"))
    behind = right or side == "right"
    if there:
        return searching.searched(a if sorter is None else a.gather(-1, sorter), v, behind, out_int32)
    if sorter is not None:
        a = np.take_along_axis(a, _detached(sorter, "searchsorted()"), -1)
    at: Any = "right" if behind else "left"
    if a.ndim == 1:
        out = np.searchsorted(a, v, at)
    else:
        rows = [np.searchsorted(x, y, at) for x, y in zip(a.reshape(-1, a.shape[-1]), v.reshape(-1, v.shape[-1]))]
        out = np.reshape(rows, v.shape)
    return _new(np.asarray(out).astype(np.int32 if out_int32 else np.int64))


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the interval between sorted boundaries in which each value lies."""
    expect("bucketize", boundaries)
    if boundaries.ndim != 1:
        raise explain(RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})"))
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which elements occur in the second tensor."""
    if _there(elements, test_elements):
        found: Any = searching.occurs(*[v.detach() if isinstance(v, Tensor) else tensor(v, device="cuda")
                                        for v in (elements, test_elements)])
        return ~found if invert else found  # type: ignore[no-any-return]
    a, b = [_array(v.detach(), "isin()") if isinstance(v, Tensor) else np.asarray(v) for v in (elements, test_elements)]
    return _new(np.isin(a, b, invert=invert))


def where(condition: Tensor, *branches: Any, **words: Any) -> Any:
    """input where the condition holds, else other; alone, the places where it holds."""
    if not branches and not words:
        return nonzero(condition, as_tuple=True)
    return _where(condition, *branches, **words)


_where = function_of(OPS["where"])
_close = function_of(OPS["isclose"])
_stack = function_of(OPS["stack"])


# ---------------------------------------------------------------- answers
def _both(name: str, a: Any, b: Any) -> None:
    for k, t in enumerate((a, b)):
        if not isinstance(t, Tensor):
            raise explain(TypeError(f"{name}(): argument '{('input', 'other')[k]}' (position {k + 1}) must be Tensor, not "
                                    f"{type(t).__name__}"))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """|input - other| <= atol + rtol * |other| everywhere?"""
    _both("allclose", input, other)
    if input.aval.dtype is not other.aval.dtype:
        raise explain(RuntimeError(f"{scalar_type(input.aval.dtype)} did not match {scalar_type(other.aval.dtype)}"))
    common_shape(input.aval.shape, other.aval.shape)
    if state.trace is not None:
        return bool(_close(input, other, rtol, atol, equal_nan).all())
    if input.aval.device != "cpu" or other.aval.device != "cpu":
        return holds(_close(input.detach(), other.detach(), rtol, atol, equal_nan))
    return bool(np.allclose(array_of(input.detach()), array_of(other.detach()), rtol, atol, equal_nan))


def equal(input: Tensor, other: Tensor) -> bool:
    """Same shape and elements?"""
    _both("equal", input, other)
    if state.trace is not None:
        return input.aval.shape == other.aval.shape and bool((input == other).all())
    if input.aval.device != "cpu" or other.aval.device != "cpu":
        return input.aval.shape == other.aval.shape and holds(input.detach() == other.detach())
    return bool(np.array_equal(array_of(input.detach()), array_of(other.detach())))


def is_tensor(obj: Any) -> bool:
    """Is it a tensor?"""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """How many elements there are."""
    expect("numel", input)
    return input.aval.size


def is_nonzero(input: Tensor) -> bool:
    """The truth of a single element."""
    return bool(input)


def result_type(*tensors: Any) -> DType:
    """The dtype that arithmetic on these tensors and numbers gives."""
    dims = zerod = weak = None
    for t in tensors:
        if isinstance(t, Tensor):
            d = t.aval.dtype
            if t.aval.shape:
                dims = d if dims is None else promoted(dims, d)
            else:
                zerod = d if zerod is None else promoted(zerod, d)
        else:
            weak = of_number(t) if weak is None else promoted(weak, of_number(t))
    return weakest(dims, zerod, weak)


def promote_types(type1: Any, type2: Any) -> DType:
    """The smallest dtype that holds both."""
    return promoted(as_dtype(type1), as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """May a result of the first dtype be written to the second (floats not to integers, integers not to bool)?"""
    return as_dtype(from_).category <= as_dtype(to).category


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that all of these broadcast to."""
    return Size(common_shape(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes]))


def typename(obj: Any) -> str:
    """torch's name of an object's type."""
    if isinstance(obj, Tensor):
        return obj.type()  # type: ignore[attr-defined, no-any-return]
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None) or type(obj).__name__
    return f"{module}.{name}" if module not in (None, "builtins") else str(name)


# ---------------------------------------------------------------- small things that need several ops
def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over what broadcasting from `size` would repeat."""
    shape = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    own = self.aval.shape
    lead = len(own) - len(shape)
    if lead < 0 or any(m not in (1, n) for m, n in zip(shape, own[lead:])):
        raise explain(RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(own)}}}."))
    dims = [k for k in range(len(own)) if k < lead or (shape[k - lead] == 1 and own[k] != 1)]
    out = self.sum(dims, keepdim=True) if dims else self
    return out.reshape(shape) if lead else out


def index_put_(self: Tensor, indices: Sequence[Tensor], values: Any, accumulate: bool = False) -> Tensor:
    """Overwrite (or add to) the places that index tensors name."""
    items, found = items_of(self.aval.shape, tuple(indices))
    if is_number(values):
        values = tensor(values, dtype=self.aval.dtype)
    spec = tuple(["index" if isinstance(k, Tensor) else (None, None, None) for k in items])
    return apply_into(OPS["index_put"], (self, values, *found), (spec, accumulate))


def index_put(self: Tensor, indices: Sequence[Tensor], values: Any, accumulate: bool = False) -> Tensor:
    """A copy with the places that index tensors name overwritten (or added to)."""
    return index_put_(clone(self), indices, values, accumulate)


def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Overwrite the diagonal with a number."""
    self.diagonal().fill_(fill_value)
    return self


def _triangle(f: Any) -> Any:
    def g(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
        d = int64 if dtype is None else as_dtype(dtype)
        for word, k in (("row", row), ("col", col)):
            if whole(f.__name__, word, k) < 0:
                raise explain(RuntimeError(f"{word} must be non-negative, got{k}"))
        return _new(np.stack(f(row, offset, col)).astype(d.number), d).to(named(device))  # type: ignore[no-any-return]
    g.__doc__ = "Row and column numbers of a triangle of a matrix."
    return g


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor; floating by default."""
    return tensor(s, dtype=default_float() if dtype is None else dtype, device=device, requires_grad=requires_grad)


FUNCTIONS: dict[str, Any] = {
    "nonzero": nonzero, "argwhere": argwhere, "masked_select": masked_select, "unique": unique,
    "unique_consecutive": unique_consecutive, "bincount": bincount, "histc": histc, "isin": isin,
    "repeat_interleave": repeat_interleave, "searchsorted": searchsorted, "bucketize": bucketize, "where": where,
    "allclose": allclose, "equal": equal, "is_tensor": is_tensor, "numel": numel, "is_nonzero": is_nonzero,
    "result_type": result_type, "promote_types": promote_types, "can_cast": can_cast, "broadcast_shapes": broadcast_shapes,
    "typename": typename, "index_put": index_put, "tril_indices": _triangle(np.tril_indices),
    "triu_indices": _triangle(np.triu_indices), "scalar_tensor": scalar_tensor, "clone": clone, "dropout": dropout,
    "detach": lambda input: input.detach(), "is_floating_point": lambda input: input.is_floating_point(),
    "is_complex": lambda input: input.is_complex(),
}
METHODS: dict[str, Any] = {
    **{name: FUNCTIONS[name] for name in ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount",
                                          "histc", "repeat_interleave", "allclose", "equal", "is_nonzero", "index_put")},
    "where": lambda self, condition, other: _where(condition, self, other),
    "index_put_": index_put_, "fill_diagonal_": fill_diagonal_, "sum_to_size": sum_to_size,
    "type_as": lambda self, other: self.to(other),
    "is_same_size": lambda self, other: self.aval.shape == other.aval.shape,
}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)
