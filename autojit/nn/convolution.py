"""Convolutions and poolings as modules: the functions of `nn.functional`, with weights and options held.

In: (N, C, *) or (C, *) with one, two or three places.  Out: the same with channels made, or windows gathered.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import explain
from . import functional as F
from . import init
from .linear import weights
from .module import Module


def _each(v: Any, n: int) -> Any:
    """An option for each place: a number for all of them."""
    return v if isinstance(v, str) else (v,) * n if isinstance(v, int) else tuple(v)


class _Conv(Module):
    """Base: `places` is the number of dims that are convolved over."""

    places = 1
    transposed = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, output_padding: Any,
                 dilation: Any, groups: int, bias: bool, padding_mode: str, device: Any, dtype: Any) -> None:
        super().__init__()
        if groups <= 0:
            raise explain(ValueError("groups must be a positive integer"))
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise explain(ValueError(f"{name} must be divisible by groups"))
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise explain(ValueError(f"padding_mode must be one of {set(modes)}, but got padding_mode='{padding_mode}'"
                                     if not self.transposed else
                                     f'Only "zeros" padding mode is supported for {type(self).__name__}'))
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise explain(ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}"))
        n = self.places
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size, self.stride, self.dilation = _each(kernel_size, n), _each(stride, n), _each(dilation, n)
        self.padding, self.output_padding = _each(padding, n), _each(output_padding, n)
        if padding == "same" and any(s != 1 for s in self.stride):
            raise explain(ValueError("padding='same' is not supported for strided convolutions"))
        first = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = weights((*first, *self.kernel_size), device, dtype)
        self.register_parameter("bias", weights((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first values anew: within ±1/√(numbers that each output is made of)."""
        init.kaiming_uniform_(self.weight, math.sqrt(5))
        fan_in = math.prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._around(), self.padding_mode), 0
        f = getattr(F, f"conv{self.places}d")
        return f(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _around(self) -> tuple[int, ...]:
        """Padding before and after each place, the last first."""
        out: list[int] = []
        for k in reversed(range(self.places)):
            if isinstance(self.padding, str):
                total = self.dilation[k] * (self.kernel_size[k] - 1) if self.padding == "same" else 0
                out += [total // 2, total - total // 2]
            else:
                out += [self.padding[k]] * 2
        return tuple(out)

    def extra_repr(self) -> str:
        n = self.places
        said = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", (0,) * n), ("dilation", (1,) * n), ("output_padding", (0,) * n), ("groups", 1)):
            if getattr(self, name) != usual:
                said += f", {name}={getattr(self, name)}"
        if self.bias is None:
            said += ", bias=False"
        return said + ("" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}")


class Conv1d(_Conv):
    """Convolution of (N, C, L) or (C, L)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode,
                         device, dtype)


class Conv2d(Conv1d):
    """Convolution of (N, C, H, W) or (C, H, W).

    >>> Conv2d(1, 8, 3, padding=1)(ones(2, 1, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    places = 2


class Conv3d(Conv1d):
    """Convolution of (N, C, D, H, W) or (C, D, H, W)."""

    places = 3


class ConvTranspose1d(_Conv):
    """The transpose of Conv1d."""

    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
                         padding_mode, device, dtype)

    def forward(self, input: Any) -> Any:
        f = getattr(F, f"conv_transpose{self.places}d")
        return f(input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)


class ConvTranspose2d(ConvTranspose1d):
    """The transpose of Conv2d."""

    places = 2


class ConvTranspose3d(ConvTranspose1d):
    """The transpose of Conv3d."""

    places = 3


# ---------------------------------------------------------------- windows
class _MaxPool(Module):
    places = 1

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        f = getattr(F, f"max_pool{self.places}d")
        return f(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The largest of each window of (N, C, L) or (C, L)."""


class MaxPool2d(_MaxPool):
    """The largest of each window of (N, C, H, W) or (C, H, W)."""

    places = 2


class MaxPool3d(_MaxPool):
    """The largest of each window of (N, C, D, H, W) or (C, D, H, W)."""

    places = 3


class AvgPool1d(Module):
    """The mean of each window of (N, C, L) or (C, L)."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        self.kernel_size, self.stride = _each(kernel_size, 1), _each(kernel_size if stride is None else stride, 1)
        self.padding, self.ceil_mode, self.count_include_pad = _each(padding, 1), ceil_mode, count_include_pad

    def forward(self, input: Any) -> Any:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window of (N, C, H, W) or (C, H, W)."""

    places = 2

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        f = getattr(F, f"avg_pool{self.places}d")
        return f(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                 self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool3d(AvgPool2d):
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W)."""

    places = 3


class AdaptiveAvgPool1d(Module):
    """The means of as many parts as are asked for."""

    function = "adaptive_avg_pool1d"

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(AdaptiveAvgPool1d):
    """The means of as many parts of the last two dims as are asked for."""

    function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(AdaptiveAvgPool1d):
    """The means of as many parts of the last three dims as are asked for."""

    function = "adaptive_avg_pool3d"


class AdaptiveMaxPool1d(AdaptiveAvgPool1d):
    """The largest of as many parts as are asked for."""

    function = "adaptive_max_pool1d"

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(AdaptiveMaxPool1d):
    """The largest of as many parts of the last two dims as are asked for."""

    function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(AdaptiveMaxPool1d):
    """The largest of as many parts of the last three dims as are asked for."""

    function = "adaptive_max_pool3d"


class LPPool1d(Module):
    """The norm of each window."""

    function = "lp_pool1d"

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


class LPPool2d(LPPool1d):
    """The norm of each window of two dims."""

    function = "lp_pool2d"


class LPPool3d(LPPool1d):
    """The norm of each window of three dims."""

    function = "lp_pool3d"
