"""Philox4x32-10: random bits as a pure function of (seed, draw number, place), the same on every backend.

In: a seed, the number of the draw, how many or which places.  Out: NumPy arrays.  Never keeps state.  Salmon et al., SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def _rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds over 32-bit words, each in an uint64."""
    for _ in range(10):
        a, b = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def words(seed: int, draw: int, count: int) -> Any:
    """`count` random 32-bit words of a draw, as uint32.  Word i comes from the counter (i // 4, draw)."""
    blocks = -(-count // 4)
    index = np.arange(blocks, dtype=np.uint64)
    high = [np.array([n & 0xFFFFFFFF], np.uint64) for n in (draw, draw >> 32, seed, seed >> 32)]
    found = _rounds(index & _LOW, index >> _32, *high)
    return np.stack(found, axis=1).astype(np.uint32).reshape(-1)[:count]


def _run(place: Any, seed: Any, draw: Any, kind: str) -> Any:
    """As `at`, where places are an unbroken run of one draw, or every other one: no word is computed four times.  Else None."""
    flat = np.reshape(place, -1)
    if flat.size < 64 or any(np.asarray(seed).strides) or any(np.asarray(draw).strides):
        return None
    first, step, end = int(flat[0]), int(flat[1]) - int(flat[0]), int(flat[-1]) + 1
    if not 0 <= first < step <= 2 or end > 2 * flat.size or (flat != np.arange(first, end, step)).any():
        return None
    number = {"f32": uniform32, "f64": uniform64, "i64": longs}[kind]
    found = number(int(np.reshape(seed, -1)[0]), int(np.reshape(draw, -1)[0]), end)[first::step].reshape(np.shape(place))
    return found.view(np.int64) if kind == "i64" else found


def at(place: Any, seed: Any, draw: Any, kind: str) -> Any:
    """Numbers at any places of any draws (int64 arrays of one shape): "i64" all bits of `longs`, "f32" `uniform32`, "f64"
    `uniform64`.

    >>> import numpy as np
    >>> bool((at(np.arange(5), np.full(5, 7), np.full(5, 3), "f32") == uniform32(7, 3, 5)).all())
    True
    """
    run = _run(place, seed, draw, kind)
    if run is not None:
        return run
    place, seed, draw = [np.asarray(a, np.int64).view(np.uint64) for a in (place, seed, draw)]
    two, one = np.uint64(2), np.uint64(1)
    counter = place >> two if kind == "f32" else place >> one
    c0, c1, c2, c3 = _rounds(counter & _LOW, counter >> _32, draw & _LOW, draw >> _32, seed & _LOW, seed >> _32)
    odd = (place & one).astype(bool)
    if kind == "f32":
        w = np.where((place & two).astype(bool), np.where(odd, c3, c2), np.where(odd, c1, c0))
        return (w >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24)
    w = np.where(odd, c2 | c3 << _32, c0 | c1 << _32)
    return (w >> np.uint64(11)).astype(np.float64) * 2.0 ** -53 if kind == "f64" else w.view(np.int64)


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
