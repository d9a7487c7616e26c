"""Results whose shape depends on data, of tensors on a device: computed there; only how many there are is copied to the host.

In: tensors on a device.  Out: index tensors, counts.  What has no kernel is refused by name (`refuse`).
"""

from __future__ import annotations

from ..backends.devices import backend
from ..dtypes import DType, int64
from ..errors import explain
from ..ir.aval import aval
from ..ir.graph import Node, buffer
from ..ops.declare import P, cast, full, truth
from ..ops.placement import sent
from .checks import ends_on_device, everywhere, remember
from .evaluate import realise_all
from .tensor import Tensor, value, wrap


def refuse(what: str, device: str) -> None:
    """NotImplementedError for what has no kernel on a device."""
    raise explain(NotImplementedError(f"{what} has no kernel on {device}"), hint="compute it on the CPU: x.cpu()")


def places(t: Tensor) -> list[Tensor]:
    """Where a tensor of one dimension or more is not zero: one index tensor for each dimension."""
    shape, size, device = t.aval.shape, t.aval.size, t.aval.device
    here = truth(P.reshape(value(t), (size,)))
    if not size:
        return [wrap(full(0, (0,), int64, device)) for _ in shape]
    ends = P.cumsum(cast(here, int64), 0)
    to = P.where(here, P.sub(ends, full(1, (size,), int64)), full(size, (size,), int64))
    room = full(0, (size + 1,), int64, device)            # the last place takes what is not wanted
    found = P.index_set(room, to, sent(P.iota((size,), 0), device), 0)
    array, last = realise_all([found, P.slice(ends, (size - 1,), (size,), (1,))])
    at = backend(device)
    count = int(at.to_host(last)[0])
    flat = buffer(at.part(array, 0, (count,)), aval((count,), int64, device))
    return _by_dimension(flat, shape)


def _by_dimension(flat: Node, shape: tuple[int, ...]) -> list[Tensor]:
    found, step = [], 1
    for n in reversed(shape):
        part = P.floor_divide(flat, full(step, flat.shape, int64)) if step > 1 else flat
        found.append(P.remainder(part, full(n, flat.shape, int64)))
        step *= n
    found.reverse()
    out = []
    for n, array in zip(shape, realise_all(found)):
        b = buffer(array, flat.aval)
        remember(b, 0, n - 1)
        out.append(wrap(b))
    return out


def bins(t: Tensor, weights: Tensor | None, minlength: int, dtype: DType) -> Tensor:
    """How often each number from 0 on occurs, or the sum of its weights.  RuntimeError for a negative one."""
    n, device = value(t), t.aval.device
    ends = ends_on_device(n, None) or (0, -1)
    if ends[0] < 0:
        raise explain(RuntimeError("bincount only supports 1-d non-negative integral inputs."))
    size = max(minlength, ends[1] + 1)
    more = full(1, n.shape, dtype, device) if weights is None else cast(value(weights), dtype)
    return wrap(P.index_add(full(0, (size,), dtype, device), cast(n, int64), more, 0))


def holds(t: Tensor) -> bool:
    """Is a tensor of bools true everywhere?"""
    return everywhere(value(t))
