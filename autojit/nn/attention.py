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


class _Layer(Module):
    """Base of both layers: attentions, two linear layers, and a norm and a dropout for each of them."""

    attentions: tuple[str, ...] = ("self_attn",)

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
                 layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, device=device,
                                                   dtype=dtype))
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype)
        self.norm_first = norm_first
        parts = range(1, len(self.attentions) + 2)
        for k in parts:
            setattr(self, f"norm{k}", LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype))
        for k in parts:
            setattr(self, f"dropout{k}", Dropout(dropout))
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise explain(RuntimeError(f"activation should be relu/gelu, not {activation}"))
            activation = getattr(F, activation)
        self.activation = activation

    def _linear(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _beside(self, k: int, x: Any, part: Any) -> Any:
        """x and what a part makes of it, with the norm before the part or after the sum."""
        norm, drop = getattr(self, f"norm{k}"), getattr(self, f"dropout{k}")
        return x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention and two linear layers, each beside its input and normalised (before, with `norm_first`)."""

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        x = self._beside(1, src, lambda x: self.self_attn(x, x, x, src_key_padding_mask, False, src_mask)[0])
        return self._beside(2, x, self._linear)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the memory and two linear layers, each beside its input and normalised."""

    attentions = ("self_attn", "multihead_attn")

    def forward(self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
                memory_key_padding_mask: Any = None, tgt_is_causal: bool = False, memory_is_causal: bool = False) -> Any:
        x = self._beside(1, tgt, lambda x: self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask)[0])
        x = self._beside(2, x, lambda x: self.multihead_attn(x, memory, memory, memory_key_padding_mask, False, memory_mask)[0])
        return self._beside(3, x, self._linear)


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


class TransformerDecoder(Module):
    """The same decoder layer, copied `num_layers` times, one after another."""

    def __init__(self, decoder_layer: Any, num_layers: int, norm: Any = None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
                memory_key_padding_mask: Any = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False) -> Any:
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder of the source and a decoder of the target that attends to it."""

    def __init__(self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
                 dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu", custom_encoder: Any = None,
                 custom_decoder: Any = None, layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False,
                 bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        words = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device,
                 dtype)

        def norm() -> Any:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.encoder = custom_encoder or TransformerEncoder(TransformerEncoderLayer(*words), num_encoder_layers, norm())
        self.decoder = custom_decoder or TransformerDecoder(TransformerDecoderLayer(*words), num_decoder_layers, norm())
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(self, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None, memory_mask: Any = None,
                src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None) -> Any:
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise explain(RuntimeError("the feature number of src and tgt must be equal to d_model"))
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        return self.decoder(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Any:
        """A mask to add, by which each position looks at itself and at what came before."""
        return full((sz, sz), float("-inf"), device=device, dtype=dtype).triu(1)  # type: ignore[attr-defined]
