"""Functions of networks that draw random numbers, keep statistics, or combine several ops: written with tensors.

In: tensors and options, as torch has them.  Out: tensors.  Running statistics are the one thing changed in place.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import BOOL
from ..eager import functional, functions
from ..eager.creation import full, ones
from ..eager.modes import no_grad
from ..eager.random import dropout, rand
from ..errors import explain

_OPS: dict[str, Any] = {**functions(), **functional()}
_batch_norm, _instance_norm, _softmax = _OPS["batch_norm"], _OPS["instance_norm"], _OPS["softmax"]
_where, _matmul, _einsum = _OPS["where"], _OPS["matmul"], _OPS["einsum"]


# ---------------------------------------------------------------- normalisation with statistics
def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
               momentum: Any = 0.1, eps: float = 1e-05) -> Any:
    """input (N, C, *) brought to mean 0 and variance 1 in each channel: by its own statistics when training (the running ones
    move towards them by `momentum`, with the unbiased variance), else by the running ones."""
    if training:
        each = input.numel() // input.shape[1] if input.ndim > 1 and input.shape[1] else input.numel()
        if each <= 1:
            raise explain(ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}"),
                          hint="a larger batch, or eval()")
        _move(input, running_mean, running_var, momentum, (0, *range(2, input.ndim)))
        return _batch_norm(input, None, None, weight, bias, True, eps)
    return _batch_norm(input, running_mean, running_var, weight, bias, False, eps)


def instance_norm(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: Any = 0.1, eps: float = 1e-05) -> Any:
    """input (N, C, *) brought to mean 0 and variance 1 in each channel of each example; running statistics as in batch_norm."""
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, False, eps)
    if math.prod(input.shape[2:]) <= 1:
        raise explain(ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}"))
    _move(input, running_mean, running_var, momentum, tuple(range(2, input.ndim)))
    return _instance_norm(input, weight, bias, eps)


@no_grad()
def _move(input: Any, running_mean: Any, running_var: Any, momentum: Any, axes: tuple[int, ...]) -> None:
    """Running statistics move towards those of the input (averaged over examples where these have their own)."""
    for running, found in ((running_mean, lambda x: x.mean(axes)), (running_var, lambda x: x.var(axes))):
        if running is not None:
            now = found(input.detach())
            if now.ndim > 1:
                now = now.mean(0)
            running.mul_(1 - momentum).add_(now.to(running.dtype) * momentum)


# ---------------------------------------------------------------- dropout of channels
def _channels(name: str, spatial: int) -> Any:
    def f(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not 0.0 <= p <= 1.0:
            raise explain(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
        if not training or p == 0.0:
            return input
        lead = input.ndim - spatial
        keep = dropout(ones((*input.shape[:lead], *(1,) * spatial), dtype=input.dtype, device=input.device), p)
        return input.mul_(keep) if inplace else input * keep
    f.__name__ = f.__qualname__ = name
    f.__doc__ = "Whole channels 0 with probability p, the others divided by 1 - p; itself where not training."
    return f


dropout1d, dropout2d, dropout3d = [_channels(f"dropout{k}d", k) for k in (1, 2, 3)]


def _self_normalising(name: str, whole: bool) -> Any:
    def f(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
        if not 0.0 <= p <= 1.0:
            raise explain(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
        if not training or p == 0.0:
            return input
        if p == 1.0:
            return input.mul_(0.0) if inplace else input * 0.0
        low = -1.7580993408473766                         # what selu gives far below 0
        a = 1.0 / math.sqrt((1 - p) * (1 + p * low * low))
        shape = (*input.shape[:2], *(1,) * (input.ndim - 2)) if whole else input.shape
        keep = (rand(shape, dtype=input.dtype, device=input.device) >= p).to(input.dtype)  # type: ignore[operator]
        shift = (keep - 1.0) * (-low * a) - p * low * a
        return input.mul_(keep * a).add_(shift) if inplace else input * (keep * a) + shift
    f.__name__ = f.__qualname__ = name
    f.__doc__ = ("Dropout that keeps mean 0 and variance 1: what is dropped becomes the lower limit of selu"
                 f"{', whole channels at once' if whole else ''}.")
    return f


alpha_dropout = _self_normalising("alpha_dropout", False)
feature_alpha_dropout = _self_normalising("feature_alpha_dropout", True)


# ---------------------------------------------------------------- products
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """input1ᵀ A input2 + bias for each matrix A of weight (out, in1, in2)."""
    if input1.shape[:-1] != input2.shape[:-1]:
        raise explain(RuntimeError("bilinear(): input batch dimensions do not match: got "
                                   f"{list(input1.shape[:-1])} and {list(input2.shape[:-1])}"))
    for k, t in ((1, input1), (2, input2)):
        if t.shape[-1] != weight.shape[k]:
            raise explain(RuntimeError(f"bilinear(): input{k} size does not match weight size: got {t.shape[-1]} but expected "
                                       f"{weight.shape[k]}"))
    out = _einsum("...i,oij,...j->...o", input1, weight, input2)
    return out if bias is None else out + bias


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Any:
    """softmax(query keyᵀ · scale + mask) value: (..., L, E), (..., S, E), (..., S, Ev) to (..., L, Ev).

    attn_mask: bool (True: may be looked at) or numbers to add.  is_causal: position i looks at 0 ... i.  scale: 1/√E.
    enable_gqa: query has a multiple of the heads (axis -3) of key and value.  A row that may look at nothing gives 0.
    """
    if is_causal and attn_mask is not None:
        raise explain(RuntimeError("scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"))
    for t in (key, value):
        if t.dtype is not query.dtype:
            raise explain(RuntimeError(
                "Expected query, key, and value to have the same dtype, but got query.dtype: "
                f"{query.dtype} key.dtype: {key.dtype} and value.dtype: {value.dtype} instead."))
    if enable_gqa:
        more = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(more, -3), value.repeat_interleave(more, -3)
    scores = _matmul(query, key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = ones(*scores.shape[-2:], dtype="bool", device=query.device).tril()  # type: ignore[attr-defined]
    if attn_mask is None:
        share = _softmax(scores, -1)
    elif attn_mask.dtype.category == BOOL:
        share = _softmax(_where(attn_mask, scores, full((), float("-inf"), dtype=scores.dtype, device=query.device)), -1)
        if not is_causal:
            share = _where(attn_mask.any(-1, keepdim=True), share, share.new_zeros(()))
    else:
        share = _softmax(scores + attn_mask, -1)
    if dropout_p > 0.0:
        share = dropout(share, dropout_p)
    return _matmul(share, value)


# ---------------------------------------------------------------- in place
def in_place_too(name: str, plain: Any, places: int) -> Any:
    """An activation that also takes `inplace`, after its `places` other arguments."""
    def f(input: Any, *args: Any, inplace: bool = False, **words: Any) -> Any:
        if len(args) >= places:
            inplace, args = args[places - 1], args[:places - 1]
        if not inplace:
            return plain(input, *args, **words)
        return input.copy_(plain(input.clone(), *args, **words))
    f.__name__ = f.__qualname__ = name
    f.__doc__ = plain.__doc__
    return f


__all__ = ["alpha_dropout", "batch_norm", "bilinear", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
           "in_place_too", "instance_norm", "scaled_dot_product_attention"]
