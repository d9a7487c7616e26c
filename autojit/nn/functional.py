"""`autojit.nn.functional`: the functions of networks, torch's names.

In: tensors.  Out: tensors.  Ops that are declared as functional, what is random or changes in place, and for the rest the
public functions of the same names (`relu`, `softmax`, `sigmoid` ...).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..dtypes import int64
from ..eager import functional, functions
from ..eager.binding import function_of
from ..eager.random import dropout
from ..eager.tensor import expect
from ..errors import explain
from ..ops.declare import OPS
from . import composites, criteria

_PUBLIC: dict[str, Any] = {**functions(), **functional(), "dropout": dropout}


def relu(input: Any, inplace: bool = False) -> Any:
    """The input, or 0 where it is negative."""
    expect("relu", input)
    return input.relu_() if inplace else input.relu()


def one_hot(input: Any, num_classes: int = -1) -> Any:
    """A last dim that is 1 at the class and 0 elsewhere; -1: as many classes as the largest asks for."""
    expect("one_hot", input)
    if input.dtype is not int64:
        raise explain(RuntimeError("one_hot is only applicable to index tensor of type LongTensor."))
    if num_classes == -1:
        if input.numel() == 0:
            raise explain(RuntimeError("Can not infer total number of classes from empty tensor."))
        if int(input.min()) < 0:
            raise explain(RuntimeError("Class values must be non-negative."))
        num_classes = int(input.max()) + 1
    return _PUBLIC["one_hot"](input, num_classes)


def unfold(input: Any, kernel_size: int | tuple[int, ...], dilation: int | tuple[int, ...] = 1,
           padding: int | tuple[int, ...] = 0, stride: int | tuple[int, ...] = 1) -> Any:
    """Windows as columns: (batch, channels, rows, columns) → (batch, channels * window, windows)."""
    return function_of(OPS["im2col"])(input, kernel_size, dilation, padding, stride)


def _with_default_dim(name: str) -> Any:
    """A softmax that guesses its dim, with a warning, as torch's does."""
    plain = _PUBLIC[name]

    def f(input: Any, dim: int | None = None, *args: Any, **kwargs: Any) -> Any:
        if dim is None and "axis" not in kwargs:
            expect(name, input)
            warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
                          "argument.", UserWarning, stacklevel=2)
            dim = 0 if input.ndim in (0, 1, 3) else 1
        return plain(input, *(() if dim is None else (dim,)), *[a for a in args if a != 3], **kwargs)
    f.__name__ = f.__qualname__ = name
    f.__doc__ = plain.__doc__
    return f


softmax, log_softmax, softmin = [_with_default_dim(name) for name in ("softmax", "log_softmax", "softmin")]

_IN_PLACE = {"celu": 2, "elu": 2, "hardsigmoid": 1, "hardswish": 1, "hardtanh": 3, "leaky_relu": 2, "mish": 1, "relu6": 1,
             "selu": 1, "silu": 1, "threshold": 3}        # activations and the place of their argument `inplace`

globals().update({name: composites.in_place_too(name, _PUBLIC[name], places) for name, places in _IN_PLACE.items()})
globals().update({name: getattr(composites, name) for name in composites.__all__ if name != "in_place_too"})
globals().update({name: getattr(criteria, name) for name in criteria.__all__})
if TYPE_CHECKING:
    def __getattr__(name: str) -> Any: ...

globals().update({name: f for name, f in _PUBLIC.items() if name not in globals()})
