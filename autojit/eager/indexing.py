"""`x[key]` and `x[key] = v`.

In: ints, slices with steps, None, Ellipsis, boolean masks, integer tensors and lists, mixed.  Out: views where the key says
only where to look, copies where it holds data; writes through either.  What a key means is `ops.indexing`'s business; here
masks and lists become index tensors (which makes pending masks run).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, int64, uint8
from ..errors import explain
from ..ir.aval import Shape
from ..ops.declare import OPS
from ..ops.indexing import canonical
from .apply import apply
from .binding import is_number, number
from .checks import check_bounds
from .convert import TO_COPY, array_of
from .counting import places
from .creation import tensor
from .inplace import COPY, FILL, apply_into
from .quick import quick_static, written_key
from .state import state
from .template import Rule, lasting, scalar_type
from .tensor import Tensor, of_array

MASKED = Rule("index_put", OPS["masked_fill"].fn, "IndexPutBackward0")
_VALID = "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices"


def _is_bool(k: Any) -> bool:
    """A single truth value: an axis of extent 1 or 0."""
    return isinstance(k, (bool, np.bool_)) or (_mask(k) and not k.aval.shape)


def _mask(k: Any) -> bool:
    return isinstance(k, Tensor) and (k.aval.dtype.category == BOOL or k.aval.dtype is uint8)


def _consumed(k: Any) -> int:
    """How many dimensions an item of a key uses up."""
    if k is None or k is Ellipsis:
        return 0
    return len(k.aval.shape) if _mask(k) else 1


def items_of(shape: Shape, key: Any) -> tuple[list[Any], list[Tensor]]:
    """(items: ints, slices, None, Ellipsis and index tensors; the index tensors in order)."""
    parts = [_tensor_of(k) for k in key] if type(key) is tuple else [_tensor_of(key)]
    used = sum([_consumed(k) for k in parts])
    items: list[Any] = []
    axis = 0
    for k in parts:
        if k is Ellipsis:
            axis += len(shape) - used
        elif isinstance(k, slice):
            _check_slice(k)
            axis += 1
        elif isinstance(k, Tensor):
            if _mask(k):
                items += _places(k, axis, shape)
                axis += len(k.aval.shape)
                continue
            k = _integers(k)
            axis += 1
        elif k is not None:
            k = _integer(k)
            axis += 1
        items.append(k)
    return items, [k for k in items if isinstance(k, Tensor)]


def _listed(key: Any) -> Any:
    """A short list that holds more than numbers is a tuple, as in torch: `x[[[0, 1], [1, 2]]]` is `x[[0, 1], [1, 2]]`."""
    if type(key) is list and len(key) < 32 and any(
            k is None or k is Ellipsis or isinstance(k, (list, tuple, slice, Tensor, np.ndarray)) for k in key):
        return tuple(key)
    return key


def _tensor_of(k: Any) -> Any:
    """Lists, ranges and arrays as tensors; everything else as it is."""
    if isinstance(k, (list, range, np.ndarray, tuple)):
        t = tensor(k if isinstance(k, np.ndarray) else list(k))
        return t if t.aval.size else tensor(np.zeros(t.aval.shape, np.int64))
    return k


def _check_slice(k: slice) -> None:
    for v in (k.start, k.stop, k.step):
        if v is not None and not hasattr(v, "__index__"):
            raise explain(TypeError("slice indices must be integers or None or have an __index__ method"))


def _integer(k: Any) -> int:
    if type(k) is int:
        return k
    if isinstance(k, str):
        raise explain(TypeError("new(): invalid data type 'str'"))
    if isinstance(k, float):
        raise explain(IndexError(f"{_VALID} (got float)"))
    try:
        return int(k.__index__())
    except (AttributeError, TypeError):
        raise explain(IndexError(f"{_VALID} (got {type(k).__name__})")) from None


def _integers(k: Tensor) -> Any:
    """An index tensor as int64; one without dimensions as a Python int, where its value may be looked at."""
    if k.aval.dtype.category >= FLOAT:
        raise explain(IndexError("tensors used as indices must be long, int, byte or bool tensors"))
    if not k.aval.shape and state.trace is None:
        return int(array_of(k))
    k = k.detach()
    return k if k.aval.dtype is int64 else apply(TO_COPY, (k,), (int64,))


def _places(mask: Tensor, axis: int, shape: Shape) -> list[Tensor]:
    """Where a mask holds: one index tensor for each of its dimensions."""
    check_mask(mask, axis, shape)
    if state.trace is not None:
        raise explain(RuntimeError("indexing with a mask has a shape that depends on data: it cannot be traced"),
                      hint="use torch.where(mask, x, other)")
    if mask.aval.device != "cpu":
        return places(mask.detach())
    return [of_array(place.astype(np.int64)) for place in np.nonzero(array_of(mask))]


def check_mask(mask: Tensor, axis: int, shape: Shape) -> None:
    if axis + len(mask.aval.shape) > len(shape):
        raise explain(IndexError(f"too many indices for tensor of dimension {len(shape)}"))
    for i, m in enumerate(mask.aval.shape):
        if m != shape[axis + i]:
            raise explain(IndexError(f"The shape of the mask {list(mask.aval.shape)} at index {i} does not match the "
                                     "shape of the "
                                     f"indexed tensor {list(shape)} at index {axis + i}"))


def _without_bools(self: Tensor, key: Any) -> tuple[Tensor, Any]:
    """True and False in a key: a new axis each, indexed with one place or none."""
    parts = key if type(key) is tuple else (key,)
    if not any(_is_bool(k) for k in parts):
        return self, key
    first: list[Any] = []
    for k in parts:
        first += [None] if _is_bool(k) else [Ellipsis] if k is Ellipsis else [slice(None)] * _consumed(_tensor_of(k))
    second = tuple([tensor([0] if bool(k) else np.zeros(0, np.int64)) if _is_bool(k) else k for k in parts])
    return apply(OPS["getitem"], (self,), (canonical(tuple(first)),)), second


# ---------------------------------------------------------------- reading
_PLAIN: dict[Any, tuple[Any, ...]] = {}                    # keys that hold no data, as the op takes them


def getitem(self: Tensor, key: Any) -> Tensor:
    """x[key]: a view for ints, slices, None and Ellipsis; a copy for masks and integer tensors."""
    plain = written_key((key,))
    known = _PLAIN.get(plain)
    if known is not None:
        return apply(OPS["getitem"], (self,), known)  # type: ignore[no-any-return]
    self, key = _without_bools(self, _listed(key))
    items, indices = items_of(self.aval.shape, key)
    spec = canonical(tuple(items))
    if not indices:
        static: tuple[Any, ...] = (spec,)
        if plain is not None and len(_PLAIN) < 10_000:
            static = _PLAIN[plain] = lasting(static)
        return apply(OPS["getitem"], (self,), static)  # type: ignore[no-any-return]
    check_bounds(OPS["index"], (self, *indices), (spec,))
    return apply(OPS["index"], (self, *indices), (spec,))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- writing
def setitem(self: Tensor, key: Any, v: Any) -> None:
    """x[key] = v: through the view, or at the places that masks and integer tensors name."""
    v = _value(self, v)
    if isinstance(key, Tensor) and _mask(key) and key.aval.shape and (not isinstance(v, Tensor) or v.aval.size == 1):
        apply_into(MASKED, (self, _mask_for(self, key), v.reshape(()) if isinstance(v, Tensor) else v))
        return
    target, key = _without_bools(self, _listed(key))
    items, indices = items_of(target.aval.shape, key)
    spec = canonical(tuple(items))
    if indices:
        check_bounds(OPS["index_put"], (target, v, *indices), (spec,))
        apply_into(OPS["index_put"], (target, v, *indices), (spec,))
        return
    part = _target(target, spec)
    apply_into(COPY if isinstance(v, Tensor) else FILL, (part, _fitting(v, part.aval.shape)))


def _target(self: Tensor, spec: Any) -> Tensor:
    """The view that an assignment writes to: it may be written if its tensor may."""
    grad, state.grad = state.grad, False
    try:
        part: Tensor = apply(OPS["getitem"], (self,), (spec,))
    finally:
        state.grad = grad
    part.blind, part.several = self.blind, self.several
    part.seen = -1                                        # its place in the tape is found when asked for
    return part


def _value(self: Tensor, v: Any) -> Any:
    if isinstance(v, Tensor):
        return v
    if is_number(v):
        return number(int(v) if self.aval.dtype.category < FLOAT and isinstance(v, float) else v, (self,))
    if isinstance(v, np.ndarray):
        return tensor(v)
    raise explain(TypeError(f"can't assign a {type(v).__name__} to a torch.{scalar_type(self.aval.dtype)}Tensor"),
                  hint="make it a tensor: torch.tensor(values)")


def _mask_for(self: Tensor, mask: Tensor) -> Tensor:
    """A mask over leading dimensions, with the others as extents of 1."""
    check_mask(mask, 0, self.aval.shape)
    if mask.aval.dtype is uint8:
        mask = mask != 0
    return mask.reshape(*mask.aval.shape, *[1] * (len(self.aval.shape) - len(mask.aval.shape)))  # type: ignore[no-any-return]


def _fitting(v: Any, shape: Shape) -> Any:
    """A value without the leading extents of 1 that the place does not have."""
    if not isinstance(v, Tensor):
        return v
    given, kind = v.aval.shape, scalar_type(v.aval.dtype)
    lead = 0
    while len(given) - lead > len(shape) and given[lead] == 1:
        lead += 1
    if len(given) - lead > len(shape):
        raise explain(RuntimeError(f"expand(torch.{kind}Tensor{{{list(given)}}}, size={list(shape)}): the number of sizes "
                                   "provided "
                                   f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
                                   f"({len(given)})"))
    offset = len(shape) - len(given) + lead
    for k, m in enumerate(given[lead:]):
        n = shape[offset + k]
        if m != n and m != 1:
            raise explain(RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({m}) at "
                                       "non-singleton "
                                       f"dimension {offset + k}.  Target sizes: {list(shape)}.  Tensor sizes: {list(given)}"))
    return v.reshape(given[lead:]) if lead else v


def install() -> None:
    Tensor.__getitem__ = quick_static(getitem, written_key)  # type: ignore[method-assign]
    Tensor.__setitem__ = setitem  # type: ignore[method-assign]


__all__: Sequence[str] = ("getitem", "install", "setitem")
