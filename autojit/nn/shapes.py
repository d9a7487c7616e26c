"""Modules that pad, shuffle and unfold: the functions of `nn.functional`, with their options held."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _Pad(Module):
    """Base: `places` dims are padded, each before and after, the last first."""

    places, mode = 1, "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self.places) if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """Padded with one value."""

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """Rows and columns padded with one value."""

    places = 2


class ConstantPad3d(ConstantPad1d):
    """Three dims padded with one value."""

    places = 3


class ZeroPad1d(_Pad):
    """Padded with zeros."""


class ZeroPad2d(_Pad):
    """Rows and columns padded with zeros."""

    places = 2


class ZeroPad3d(_Pad):
    """Three dims padded with zeros."""

    places = 3


class ReflectionPad1d(_Pad):
    """Padded with what a mirror at the edge shows."""

    mode = "reflect"


class ReflectionPad2d(ReflectionPad1d):
    """Rows and columns padded with what mirrors at the edges show."""

    places = 2


class ReflectionPad3d(ReflectionPad1d):
    """Three dims padded with what mirrors at the edges show."""

    places = 3


class ReplicationPad1d(_Pad):
    """Padded with the value at the edge."""

    mode = "replicate"


class ReplicationPad2d(ReplicationPad1d):
    """Rows and columns padded with the values at the edges."""

    places = 2


class ReplicationPad3d(ReplicationPad1d):
    """Three dims padded with the values at the edges."""

    places = 3


class CircularPad1d(_Pad):
    """Padded with what stands at the other end."""

    mode = "circular"


class CircularPad2d(CircularPad1d):
    """Rows and columns padded with what stands at the other ends."""

    places = 2


class CircularPad3d(CircularPad1d):
    """Three dims padded with what stands at the other ends."""

    places = 3


class PixelShuffle(Module):
    """(N, C r², H, W) as (N, C, H r, W r)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Any) -> Any:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(N, C, H r, W r) as (N, C r², H, W)."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Any) -> Any:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels of groups, one of each in turn."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Any) -> Any:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class LocalResponseNorm(Module):
    """Each element over a power of the mean square of its neighbouring channels."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class Unfold(Module):
    """Windows of (N, C, H, W) as columns."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Unfold):
    """Columns summed back into (N, C, H, W)."""

    def __init__(self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, " + super().extra_repr()
