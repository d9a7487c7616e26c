"""Attention and transformer layers.

In: sequences (L, N, E), or (N, L, E) with `batch_first`, or (L, E).  Out: sequences of the same shape.
"""

from __future__ import annotations

import copy
from typing import Any

from ..dtypes import BOOL
from ..eager.creation import full, zeros
from ..errors import explain
from . import functional as F
from . import init
from .containers import ModuleList
from .dropouts import Dropout
from .linear import Linear, weights
from .module import Module
from .normalisation import LayerNorm


def _added(mask: Any, like: Any) -> Any:
    """A mask as numbers to add: -Inf where a bool one says that nothing may be looked at."""
    if mask is None or mask.dtype.category != BOOL:
        return mask
    off = full((), float("-inf"), dtype=like.dtype, device=like.device)
    return F.where(mask, off, zeros((), dtype=like.dtype, device=like.device))  # type: ignore[attr-defined]


class MultiheadAttention(Module):
    """Several attentions side by side, over projections of queries, keys and values.

    Masks: True (bool) means *not* to be looked at, numbers are added.  Returns (output, weights); the weights, averaged over
    heads or not, only with `need_weights`.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
                 add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise explain(ValueError("embed_dim and num_heads must be greater than 0, got "
                                     f"embed_dim={embed_dim} and num_heads={num_heads} instead"))
        if embed_dim % num_heads:
            raise explain(AssertionError("embed_dim must be divisible by num_heads"))
        if add_bias_kv or add_zero_attn:
            raise explain(NotImplementedError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported"))
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first = dropout, batch_first
        alike = self.kdim == self.vdim == embed_dim
        shapes = {"in_proj_weight": (3 * embed_dim, embed_dim) if alike else None,
                  "q_proj_weight": None if alike else (embed_dim, embed_dim),
                  "k_proj_weight": None if alike else (embed_dim, self.kdim),
                  "v_proj_weight": None if alike else (embed_dim, self.vdim)}
        for name, shape in shapes.items():
            self.register_parameter(name, None if shape is None else weights(shape, device, dtype))
        self.register_parameter("in_proj_bias", weights((3 * embed_dim,), device, dtype) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections in by Xavier's bound, biases 0."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            p = getattr(self, name)
            if p is not None:
                init.xavier_uniform_(p)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def _projected(self, query: Any, key: Any, value: Any) -> list[Any]:
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is None:
            parts = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:               # one product
            return list(F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        else:
            parts = self.in_proj_weight.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), parts, biases)]

    def forward(self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
                attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False) -> Any:
        if is_causal and attn_mask is None:
            raise explain(RuntimeError("Need attn_mask if specifying the is_causal hint."))
        alone = query.ndim == 2
        if query.ndim not in (2, 3):
            raise explain(AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query "
                                         "tensor"))
        q, k, v = self._projected(query, key, value)
        if alone:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        n, length, _ = q.shape
        q, k, v = [t.reshape(n, t.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for t in (q, k, v)]
        mask = self._mask(_added(attn_mask, q), _added(key_padding_mask, q), n, length, k.shape[2])
        p = self.dropout if self.training else 0.0
        share = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim ** -0.5
            share = (scores if mask is None else scores + mask).softmax(-1)
            share = F.dropout(share, p, p > 0)
            out = share @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, p)
        out = self.out_proj(out.transpose(1, 2).reshape(n, length, self.embed_dim))
        if share is not None and average_attn_weights:
            share = share.mean(1)
        if alone:
            return out.squeeze(0), None if share is None else share.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), share

    def _mask(self, mask: Any, padding: Any, n: int, length: int, keys: int) -> Any:
        """Both masks as one, (N or 1, heads or 1, L, S)."""
        if mask is not None:
            if tuple(mask.shape) not in ((length, keys), (n * self.num_heads, length, keys)):
                raise explain(RuntimeError(f"The shape of the attn_mask is {mask.shape}, but should be "
                                           f"{(length, keys)} or {(n * self.num_heads, length, keys)}."))
            mask = mask.reshape((1, 1, length, keys) if mask.ndim == 2 else (n, self.num_heads, length, keys))
        if padding is not None:
            padding = padding.reshape(n, 1, 1, keys)
            mask = padding if mask is None else mask + padding
        return mask


class TransformerEncoderLayer(Module):
    """Self-attention and two linear layers, each beside its input and normalised (before, with `norm_first`)."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
                 layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise explain(RuntimeError(f"activation should be relu/gelu, not {activation}"))
            activation = getattr(F, activation)
        self.activation = activation

    def _attention(self, x: Any, mask: Any, padding: Any) -> Any:
        return self.dropout1(self.self_attn(x, x, x, padding, False, mask)[0])

    def _forward(self, x: Any) -> Any:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        if self.norm_first:
            x = src + self._attention(self.norm1(src), src_mask, src_key_padding_mask)
            return x + self._forward(self.norm2(x))
        x = self.norm1(src + self._attention(src, src_mask, src_key_padding_mask))
        return self.norm2(x + self._forward(x))


class TransformerEncoder(Module):
    """The same layer, copied `num_layers` times, one after another."""

    def __init__(self, encoder_layer: Any, num_layers: int, norm: Any = None, enable_nested_tensor: bool = True,
                 mask_check: bool = True) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None) -> Any:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask)
        return src if self.norm is None else self.norm(src)
