"""`autojit.nn.init`: first values of parameters, written into them in place, torch's names and bounds.

In: a tensor and the parameters of a distribution.  Out: the same tensor, overwritten, without history.  Draws from this
package's generator: the distributions are torch's, the numbers are not.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..eager.creation import tensor as make
from ..eager.modes import no_grad
from ..eager.random import Generator, default_generator, randn, randperm
from ..errors import explain

_ONE = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid")


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """What a nonlinearity asks the standard deviation to be multiplied by.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity in _ONE:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise explain(ValueError(f"negative_slope {param} not a valid number"))
        return math.sqrt(2.0 / (1 + slope ** 2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise explain(ValueError(f"Unsupported nonlinearity {nonlinearity}"))


def _fans(t: Any) -> tuple[int, int]:
    """How many numbers go into, and come out of, each element of what the weight makes."""
    if t.ndim < 2:
        raise explain(ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"))
    field = math.prod(t.shape[2:])
    return t.shape[1] * field, t.shape[0] * field


def _fan(t: Any, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise explain(ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']"))
    return _fans(t)[mode == "fan_out"]


@no_grad()
def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Any:
    """Uniform in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Any:
    """Normal with this mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Any:
    """Normal, but all of it within [a, b]."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be "
                      "incorrect.", stacklevel=2)

    def below(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0
    low, high = below((a - mean) / std), below((b - mean) / std)
    tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
    return tensor.copy_((tensor.erfinv() * (std * math.sqrt(2.0)) + mean).clamp(a, b))


@no_grad()
def constant_(tensor: Any, val: float) -> Any:
    """One value everywhere."""
    return tensor.fill_(val)


@no_grad()
def ones_(tensor: Any) -> Any:
    """1 everywhere."""
    return tensor.fill_(1.0)


@no_grad()
def zeros_(tensor: Any) -> Any:
    """0 everywhere."""
    return tensor.zero_()


def _put(t: Any, values: Any) -> Any:
    return t.copy_(make(values, dtype=t.dtype))


@no_grad()
def eye_(tensor: Any) -> Any:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise explain(ValueError("Only tensors with 2 dimensions are supported"))
    return _put(tensor, np.eye(*tensor.shape))


@no_grad()
def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Convolutions that give back their input channels."""
    if tensor.ndim not in (3, 4, 5):
        raise explain(ValueError("Only tensors with 3, 4, or 5 dimensions are supported"))
    if tensor.shape[0] % groups:
        raise explain(ValueError("dim 0 must be divisible by groups"))
    values, per = np.zeros(tensor.shape), tensor.shape[0] // groups
    middle = tuple([n // 2 for n in tensor.shape[2:]])
    for g in range(groups):
        for d in range(min(per, tensor.shape[1])):
            values[(g * per + d, d, *middle)] = 1.0
    return _put(tensor, values)


@no_grad()
def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """Uniform within ±gain √(6 / (fan in + fan out))."""
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return tensor.uniform_(-bound, bound, generator=generator)


@no_grad()
def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """Normal with standard deviation gain √(2 / (fan in + fan out))."""
    return tensor.normal_(0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator=generator)


def _nothing(t: Any) -> bool:
    if 0 in t.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return True
    return False


@no_grad()
def kaiming_uniform_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Any:
    """Uniform within ±gain √(3 / fan)."""
    if _nothing(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return tensor.uniform_(-bound, bound, generator=generator)


@no_grad()
def kaiming_normal_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Any:
    """Normal with standard deviation gain / √fan."""
    if _nothing(tensor):
        return tensor
    return tensor.normal_(0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator=generator)


@no_grad()
def orthogonal_(tensor: Any, gain: float = 1, generator: Generator | None = None) -> Any:
    """Rows (or, where there are fewer, columns) at right angles to each other, of length gain."""
    if tensor.ndim < 2:
        raise explain(ValueError("Only tensors with 2 or more dimensions are supported"))
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    z = randn(rows, tensor.numel() // rows, dtype="float64", generator=generator or default_generator).numpy()  # type: ignore[attr-defined]
    q, r = np.linalg.qr(z.T if z.shape[0] < z.shape[1] else z)
    q = q * np.sign(np.diag(r))
    return _put(tensor, (q.T if z.shape[0] < z.shape[1] else q).reshape(tensor.shape) * gain)


@no_grad()
def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Any:
    """Normal, with this share of each column 0."""
    if tensor.ndim != 2:
        raise explain(ValueError("Only tensors with 2 dimensions are supported"))
    rows, columns = tensor.shape
    values = randn(rows, columns, dtype="float64", generator=generator).numpy() * std  # type: ignore[attr-defined]
    for k in range(columns):
        values[randperm(rows, generator=generator).numpy()[:math.ceil(sparsity * rows)], k] = 0.0  # type: ignore[attr-defined]
    return _put(tensor, values)


__all__ = ["calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
           "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_"]
