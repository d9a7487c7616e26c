"""Arguments and results of transforms: nests of tensors, arrays and numbers.

In: what the user passed.  Out: tensors in a fixed order, the structure that puts results back, and results in the kind of the
arguments: where there were arrays and numbers alone, arrays and numbers.  Checks speak torch's words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import tree
from ..dtypes import FLOAT
from ..eager.binding import function_of
from ..eager.state import state
from ..eager.tensor import Tensor
from ..errors import explain
from ..ops.declare import OPS
from ..tracing.plan import as_tensor, float_beside, run_time


@cache
def public(name: str) -> Callable[..., Any]:
    """A public op as users call it."""
    return function_of(OPS[name])


class Given:
    """Arguments taken apart: `leaves` with tensors in the place of arrays and floats, their structure, the tensors alone, and
    the kind of each: Tensor, numpy.ndarray or float."""

    __slots__ = ("leaves", "structure", "tensors", "kinds")

    def __init__(self, args: Any) -> None:
        flat, self.structure = tree.flatten(args)
        beside = float_beside(flat)
        self.leaves = [as_tensor(x, beside) if run_time(x) else x for x in flat]
        self.tensors = [x for x in self.leaves if isinstance(x, Tensor)]
        self.kinds = [_kind(x) for x in flat if run_time(x)]

    @property
    def kind(self) -> Any:
        """What results are."""
        return kind_of(self.kinds)


def _kind(x: Any) -> Any:
    return Tensor if isinstance(x, Tensor) else np.ndarray if isinstance(x, np.ndarray) else float


def kind_of(kinds: Sequence[Any]) -> Any:
    """Tensors if there is a tensor, else arrays if there is an array, else numbers."""
    return Tensor if Tensor in kinds or not kinds else np.ndarray if np.ndarray in kinds else float


def shown(t: Tensor, kind: Any) -> Any:
    """A result in the kind of the arguments.  Tensors wherever somebody records, or wants its derivative."""
    if kind is Tensor or state.trace is not None or t.requires_grad or t.aval.device != "cpu":
        return t
    return t.item() if kind is float and not t.aval.shape else t.detach().numpy()


def chosen(argnums: Any, given: int) -> tuple[int, ...]:
    """Positions of arguments, counted from the front.  RuntimeError in torch's words."""
    several = isinstance(argnums, (tuple, list))
    if not several and type(argnums) is not int or several and not all([type(k) is int for k in argnums]):
        raise explain(TypeError(f"argnums must be int or tuple of ints, not {argnums!r}"))
    if several and not argnums:
        raise explain(RuntimeError("argnums must be non-empty"))
    ks = tuple(argnums) if several else (argnums,)
    for k in ks:
        if not -given <= k < given:
            raise explain(RuntimeError(f"Got argnum={k}, but only {given} positional inputs"))
    found = tuple([k % given for k in ks])
    if len(set(found)) != len(found):
        raise explain(RuntimeError(f"argnums elements must be unique, got {argnums}"))
    return found


def floating(tensors: Sequence[Any], what: str) -> None:
    """Only floating tensors can be differentiated by."""
    for t in tensors:
        if not isinstance(t, Tensor):
            raise explain(TypeError(f"{what}: only floating numbers, tensors and arrays can be differentiated by, not "
                                    f"{type(t).__name__}"), hint="pass 3.0 instead of 3" if isinstance(t, int) else None)
        if t.aval.dtype.category < FLOAT:
            raise explain(RuntimeError(f"{what}: only Tensors of floating point dtype can be differentiated by, not "
                                       f"{t.aval.dtype}"), hint="convert it with .float()")


def only_tensors(what: str, static: Sequence[Any]) -> None:
    """A transformed function returns tensors."""
    for s in static:
        if s is not None:
            raise explain(RuntimeError(f"{what}: expected the function to return only tensors, got unsupported type "
                                       f"{type(s)}"), hint="return it through has_aux=True, or as a tensor")


def split_aux(out: Any, what: str) -> tuple[Any, Any]:
    """(result, what comes with it) for has_aux."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise explain(RuntimeError(f"{what}: output of the function should be a tuple (output, aux) if has_aux is True"))
    return out[0], out[1]
