"""Normalisation as modules: over layers, groups, batches, examples; running statistics are buffers."""

from __future__ import annotations

from typing import Any

from ..dtypes import int64
from ..eager.creation import ones, tensor, zeros
from ..errors import explain
from . import functional as F
from . import init
from .linear import weights
from .module import Module


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dims, then weight and bias.

    >>> LayerNorm(4)
    LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)
    """

    def __init__(self, normalized_shape: Any, eps: float = 1e-05, elementwise_affine: bool = True, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", weights(shape, device, dtype) if elementwise_affine else None)
        self.register_parameter("bias", weights(shape, device, dtype) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        reset(self)

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


def reset(module: Any) -> None:
    """Weight 1, bias 0, where there are such."""
    if module.weight is not None:
        init.ones_(module.weight)
    if getattr(module, "bias", None) is not None:
        init.zeros_(module.bias)


class RMSNorm(Module):
    """Over the root mean square of the last dims, then weight."""

    def __init__(self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.register_parameter("weight", weights(shape, device, dtype) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        reset(self)

    def forward(self, input: Any) -> Any:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Mean 0 and variance 1 over groups of channels, then weight and bias for each channel."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-05, affine: bool = True, device: Any = None,
                 dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise explain(ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})"))
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", weights((num_channels,), device, dtype) if affine else None)
        self.register_parameter("bias", weights((num_channels,), device, dtype) if affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        reset(self)

    def forward(self, input: Any) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")


class _Statistics(Module):
    """Base of batch and instance norm: `dims` are the numbers of dimensions of inputs, `words` how torch says them."""

    dims: tuple[int, ...] = ()
    words = ""

    def __init__(self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
                 device: Any, dtype: Any, bias: bool) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", weights((num_features,), device, dtype) if affine else None)
        self.register_parameter("bias", weights((num_features,), device, dtype) if affine and bias else None)
        track = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype) if track else None)
        self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype) if track else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64, device=device) if track else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was averaged."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, no statistics."""
        self.reset_running_stats()
        reset(self)

    def _check(self, input: Any) -> None:
        if input.ndim not in self.dims:
            raise explain(ValueError(f"expected {self.words} input (got {input.ndim}D input)"))

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class _BatchNorm(_Statistics):
    def __init__(self, num_features: int, eps: float = 1e-05, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Any:
        self._check(input)
        if not self.training:
            own = self.running_mean is None and self.running_var is None
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, own, 0.0, self.eps)
        momentum: Any = self.momentum
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if momentum is None:                          # the plain average of all batches
                momentum = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)


class BatchNorm1d(_BatchNorm):
    """Mean 0 and variance 1 in each channel of (N, C) or (N, C, L), over the batch; running statistics in `eval()`."""

    dims, words = (2, 3), "2D or 3D"


class BatchNorm2d(_BatchNorm):
    """Mean 0 and variance 1 in each channel of (N, C, H, W), over the batch; running statistics in `eval()`."""

    dims, words = (4,), "4D"


class BatchNorm3d(_BatchNorm):
    """Mean 0 and variance 1 in each channel of (N, C, D, H, W), over the batch; running statistics in `eval()`."""

    dims, words = (5,), "5D"


class _InstanceNorm(_Statistics):
    def __init__(self, num_features: int, eps: float = 1e-05, momentum: float = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Any:
        self._check(input)
        alone = input.ndim == self.dims[0]
        x = input.unsqueeze(0) if alone else input
        if x.shape[1] != self.num_features and self.affine:
            raise explain(ValueError(f"expected input's size at dim={0 if alone else 1} to match num_features "
                                     f"({self.num_features}), but got: {x.shape[1]}."))
        out = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                              self.training or not self.track_running_stats, self.momentum, self.eps)
        return out.squeeze(0) if alone else out


class InstanceNorm1d(_InstanceNorm):
    """Mean 0 and variance 1 in each channel of each example of (N, C, L) or (C, L)."""

    dims, words = (2, 3), "2D or 3D"


class InstanceNorm2d(_InstanceNorm):
    """Mean 0 and variance 1 in each channel of each example of (N, C, H, W) or (C, H, W)."""

    dims, words = (3, 4), "3D or 4D"


class InstanceNorm3d(_InstanceNorm):
    """Mean 0 and variance 1 in each channel of each example of (N, C, D, H, W) or (C, D, H, W)."""

    dims, words = (4, 5), "4D or 5D"
