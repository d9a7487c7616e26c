"""Activations as modules: the functions of `nn.functional` of the same names, with their options held.

In: tensors.  Out: tensors of the same shape (GLU halves a dim).  A class says its function, its options and how they are shown.
"""

from __future__ import annotations

from typing import Any

from ..eager.creation import full
from ..errors import explain
from . import functional as F
from .module import Module
from .parameter import Parameter


class Activation(Module):
    """Base: `function` is the name in `nn.functional`, `options` are its further arguments, by name, with their defaults."""

    function = ""
    options: dict[str, Any] = {}
    bare = False                                          # show values without names

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if len(args) > len(self.options):
            raise explain(TypeError(f"{type(self).__name__}() takes at most {len(self.options)} arguments, got {len(args)}"))
        given = {**dict(zip(self.options, args)), **kwargs}
        for name in given:
            if name not in self.options:
                raise explain(TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{name}'"))
        for name, default in self.options.items():
            if default is REQUIRED and name not in given:
                raise explain(TypeError(f"{type(self).__name__}.__init__() missing a required argument: '{name}'"))
            setattr(self, name, given.get(name, default))

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        said = {name: getattr(self, name) for name in self.options if name != "inplace" or self.inplace}
        return ", ".join([str(v) if self.bare else f"{name}={v}" for name, v in said.items()])


REQUIRED = object()


class ReLU(Activation):
    """max(x, 0)."""

    function, options = "relu", {"inplace": False}


class ReLU6(Activation):
    """min(max(x, 0), 6)."""

    function, options = "relu6", {"inplace": False}

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ELU(Activation):
    """x above 0, alpha (eˣ - 1) below."""

    function, options = "elu", {"alpha": 1.0, "inplace": False}


class CELU(Activation):
    """x above 0, alpha (exp(x / alpha) - 1) below."""

    function, options = "celu", {"alpha": 1.0, "inplace": False}


class SELU(Activation):
    """The scaled ELU that keeps mean 0 and variance 1."""

    function, options = "selu", {"inplace": False}


class SiLU(Activation):
    """x sigmoid(x)."""

    function, options = "silu", {"inplace": False}


class Mish(Activation):
    """x tanh(softplus(x))."""

    function, options = "mish", {"inplace": False}


class Hardsigmoid(Activation):
    """relu6(x + 3) / 6."""

    function, options = "hardsigmoid", {"inplace": False}

    def extra_repr(self) -> str:
        return ""


class Hardswish(Hardsigmoid):
    """x relu6(x + 3) / 6."""

    function = "hardswish"


class LeakyReLU(Activation):
    """x above 0, negative_slope · x below."""

    function, options = "leaky_relu", {"negative_slope": 0.01, "inplace": False}


class Hardtanh(Activation):
    """x within [min_val, max_val]."""

    function, options = "hardtanh", {"min_val": -1.0, "max_val": 1.0, "inplace": False}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.max_val > self.min_val:
            raise explain(AssertionError("max_val must be larger than min_val"))


class Threshold(Activation):
    """x where it is above the threshold, else `value`."""

    function, options = "threshold", {"threshold": REQUIRED, "value": REQUIRED, "inplace": False}


class GELU(Activation):
    """x Φ(x), Φ the normal distribution's function; approximate="tanh" for the older formula."""

    function, options = "gelu", {"approximate": "none"}

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Activation):
    """log(1 + exp(beta x)) / beta."""

    function, options = "softplus", {"beta": 1.0, "threshold": 20.0}


class Hardshrink(Activation):
    """x outside of [-lambd, lambd], else 0."""

    function, options, bare = "hardshrink", {"lambd": 0.5}, True


class Softshrink(Activation):
    """x moved towards 0 by lambd, 0 within."""

    function, options, bare = "softshrink", {"lambd": 0.5}, True


class GLU(Activation):
    """The first half of a dim times sigmoid of the second."""

    function, options = "glu", {"dim": -1}


class Softmax(Activation):
    """exp(x) over its sum along a dim."""

    function, options = "softmax", {"dim": None}


class LogSoftmax(Activation):
    """The logarithm of softmax."""

    function, options = "log_softmax", {"dim": None}


class Softmin(Activation):
    """softmax(-x)."""

    function, options = "softmin", {"dim": None}


class Softmax2d(Module):
    """Softmax over channels: (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Any) -> Any:
        if input.ndim not in (3, 4):
            raise explain(ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead"))
        return F.softmax(input, -3)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function = "sigmoid"


class Tanh(Activation):
    """tanh(x)."""

    function = "tanh"


class LogSigmoid(Activation):
    """log(sigmoid(x))."""

    function = "logsigmoid"


class Softsign(Activation):
    """x / (1 + |x|)."""

    function = "softsign"


class Tanhshrink(Activation):
    """x - tanh(x)."""

    function = "tanhshrink"


class RReLU(Activation):
    """x above 0, a share of it below: drawn between lower and upper when training, else their mean."""

    function, options = "rrelu", {"lower": 1.0 / 8, "upper": 1.0 / 3, "inplace": False}

    def forward(self, input: Any) -> Any:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class PReLU(Module):
    """x above 0, weight · x below; the weight (one, or one a channel) is learned."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(full((num_parameters,), init, device=device, dtype=dtype))

    def forward(self, input: Any) -> Any:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
