"""Views whose strides matter: reshape aliases where it can and copies where it must, `view` refuses; shapes changed in place.

In: tensors and shapes.  Out: views (or copies).  Permutations, slices and the like are always views and need nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import explain
from ..ops.declare import OPS
from .apply import apply, caller
from .binding import arrange, sort
from .inplace import bump, check_writable
from .quick import quick_static, written_ints
from .state import disturb, state
from .tape import Record
from .template import Rule, template
from .tensor import Tensor
from .views import is_contiguous, layout_of

MAYBE = ("reshape", "flatten", "ravel", "unflatten")      # views where strides allow it
UNSAFE = Rule("unsafe_view", lambda n, op, static: op.call((n,), static), "UnsafeViewBackward0")


def aliases(t: Tensor, shape: tuple[int, ...]) -> bool:
    """Can this tensor's memory be seen in another shape?"""
    known = None if t.path is None else t.path.layout(t.at)
    if known is None and not t.chain and t.storage.strides is None and t.storage.mem is None:
        return True
    strides, _ = known or layout_of(t)
    if is_contiguous(t.aval.shape, strides):
        return True
    ghost = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), t.aval.shape, strides)
    try:
        np.reshape(ghost, shape, copy=False)
    except ValueError:
        return False
    return True


def reshaped(op: Any, t: Tensor, static: tuple[Any, ...]) -> Any:
    """A view in another shape; where strides do not allow it, a copy."""
    shape = template(op, (t.aval,), static).outs[0].shape
    if aliases(t, shape):
        return apply(op, (t,), static)
    return apply(UNSAFE, (t,), (op, static))


def _method(name: str) -> Any:
    op = OPS[name]

    def f(*args: Any, **kwargs: Any) -> Any:
        found, given = arrange(op, args, kwargs)
        tensors, static, _ = sort(found, given)
        return reshaped(op, tensors[0], static)
    f.__name__ = f.__qualname__ = name
    f.__doc__ = op.doc
    return f


def view(self: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape; refused where strides do not allow it."""
    op = OPS["view"]
    if len(shape) == 1 and not isinstance(shape[0], (tuple, list, int)) and not hasattr(shape[0], "__index__"):
        raise explain(NotImplementedError("view(dtype) is not implemented"), hint="x.to(dtype) converts the values")
    _, given = arrange(op, (self, *shape), {})
    _, static, _ = sort(op, given)
    if not aliases(self, template(op, (self.aval,), static).outs[0].shape):
        raise explain(RuntimeError("view size is not compatible with input tensor's size and stride (at least one "
                                   "dimension spans "
                                   "across two contiguous subspaces). Use .reshape(...) instead."))
    return apply(op, (self,), static)  # type: ignore[no-any-return]


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """The same memory in another tensor's shape."""
    return view(self, *other.aval.shape) if other.aval.shape else view(self, ())


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The same elements in another tensor's shape."""
    return self.reshape(other.aval.shape)  # type: ignore[no-any-return]


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Extents of 1 stretched to another tensor's shape."""
    return self.expand(other.aval.shape)  # type: ignore[no-any-return]


def _reversed(self: Tensor) -> Tensor:
    return apply(OPS["T"], (self,))  # type: ignore[no-any-return]


def _transposed(self: Tensor) -> Tensor:
    return apply(OPS["mT"], (self,))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- shape changes in place
_INPLACE_NAMES = {"UnsqueezeBackward0": "UnsqueezeBackward1", "TransposeBackward0": "TransposeBackward1"}


def change_view(op: Any, t: Tensor, static: tuple[Any, ...]) -> Tensor:
    """The tensor itself becomes a view of what it was: `unsqueeze_`, `t_`."""
    e = t.edge() if state.grad else None
    tmpl = template(op, (t.aval,), static, (True,) if e is not None else ())
    if e is not None:
        check_writable(t)
    assert tmpl.chains is not None
    disturb(t.storage)
    t.chain, t.aval = t.chain + tmpl.chains[0], tmpl.outs[0]
    bump(t)
    t.seen = t.cell.version
    if e is not None:
        record = Record(tmpl, (e,), (), caller())
        record._name = _INPLACE_NAMES.get(tmpl.label)
        t.moved(record)
    return t


def _into(name: str) -> Any:
    op = OPS[name]

    def f(*args: Any, **kwargs: Any) -> Tensor:
        found, given = arrange(op, args, kwargs)
        tensors, static, _ = sort(found, given)
        return change_view(op, tensors[0], static)
    f.__name__ = f.__qualname__ = name + "_"
    f.__doc__ = f"In place: {op.doc}"
    return f


def methods() -> dict[str, Any]:
    """What belongs on Tensor."""
    found: dict[str, Any] = {"view": quick_static(view, written_ints, True), "view_as": view_as, "reshape_as": reshape_as,
                             "expand_as": expand_as,
                             "T": property(_reversed), "mT": property(_transposed)}
    found.update({name: quick_static(_method(name), written_ints, True) for name in MAYBE})
    for op in OPS.values():
        if op.view and op.inplace:
            found.update({name + "_": _into(op.name) for name in (op.name, *op.aliases)})
    return found


def install() -> None:
    for name, f in methods().items():
        setattr(Tensor, name, f)


def functions() -> dict[str, Any]:
    """What belongs in the namespace in place of the plain ops."""
    return {name: getattr(Tensor, name) for name in MAYBE}


__all__: Sequence[str] = ("aliases", "functions", "install", "reshaped")
