"""Philox4x32-10: random bits as a pure function of (seed, draw number, place), the same on every backend.

In: a seed, the number of the draw, how many.  Out: NumPy arrays.  Never keeps state.  Salmon et al., SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def words(seed: int, draw: int, count: int) -> Any:
    """`count` random 32-bit words of a draw, as uint32.  Word i comes from the counter (i // 4, draw)."""
    blocks = -(-count // 4)
    index = np.arange(blocks, dtype=np.uint64)
    c0, c1 = index & _LOW, index >> _32
    c2 = np.full(blocks, draw & 0xFFFFFFFF, np.uint64)
    c3 = np.full(blocks, (draw >> 32) & 0xFFFFFFFF, np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        a, b = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ np.uint64(k0), b & _LOW, (a >> _32) ^ c3 ^ np.uint64(k1), a & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)[:count]


def uniform32(seed: int, draw: int, count: int) -> Any:
    """float32 in [0, 1): 24 bits of one word each."""
    return (words(seed, draw, count) >> np.uint32(8)).astype(np.float32) * np.float32(2.0 ** -24)


def longs(seed: int, draw: int, count: int) -> Any:
    """Random 64-bit words: two 32-bit ones each, the lower half first."""
    w = words(seed, draw, 2 * count).astype(np.uint64)
    return w[0::2] | (w[1::2] << _32)


def uniform64(seed: int, draw: int, count: int) -> Any:
    """float64 in [0, 1): 53 bits each."""
    return (longs(seed, draw, count) >> np.uint64(11)).astype(np.float64) * 2.0 ** -53


def normal(seed: int, draw: int, count: int, dtype: Any) -> Any:
    """Standard normal numbers by Box and Muller: each from two uniform ones."""
    pairs = -(-count // 2)
    if np.dtype(dtype) == np.float64:
        u = uniform64(seed, draw, 2 * pairs)
    else:
        u = uniform32(seed, draw, 2 * pairs).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log1p(-u[0::2]))           # 1 - u lies in (0, 1]: the logarithm is finite
    angle = 2.0 * np.pi * u[1::2]
    out = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    return out[:count].astype(dtype)


def integers(seed: int, draw: int, count: int, low: int, high: int) -> Any:
    """int64 in [low, high)."""
    return (longs(seed, draw, count) % np.uint64(high - low)).astype(np.int64) + low
