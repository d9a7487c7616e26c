"""Memory of a device that other libraries see too, in both directions, without a copy.

In: tensors, and objects that show `__cuda_array_interface__` or DLPack.  Out: a device's array for others; tensors over theirs.
Never copies, but where nodes that wait still read what the memory holds now.
"""

from __future__ import annotations

from typing import Any

from ..backends.devices import backend
from ..errors import explain
from ..ir.aval import aval
from .placing import named
from .state import state
from .storage import Lent, Storage, lend
from .tensor import Tensor, new
from .views import is_contiguous, layout_of


def lent(t: Tensor) -> Any:
    """The memory of a tensor on a device, as its backend's array, which has the protocols; in row-major order only."""
    if t.requires_grad:
        raise explain(RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't "
                                   "required, use var.detach() to get Variable that doesn't require grad."))
    array = lend(t.storage, t)
    if not t.chain:
        return array
    strides, start = layout_of(t)
    if not is_contiguous(t.aval.shape, strides):
        raise explain(RuntimeError("only memory in row-major order can be lent to others"), hint="lend x.contiguous()")
    return backend(t.aval.device).part(array, start, t.aval.shape)


def borrowed(data: Any) -> Tensor:
    """A tensor over memory of a device that another library's array shows."""
    array = backend(named("cuda")).from_others(data)
    a = aval(array.shape, array.dtype, "cuda")
    t = new(Storage(None, Lent(array, a)), a)
    t.frozen = state.inference
    return t
