"""Random numbers as nodes: a pure function of a key (seed, number of the draw) and of the place in the array.

In: a key, an int64 node of two (seed and draw); a shape.  Out: nodes that are computed element by element, so they fuse with
what reads them, and are drawn again rather than kept wherever that is cheaper.  The numbers are those of `philox.py`, the
same in every program and on every device; normal ones within 4 ulp.  Never draws a key: who calls knows its generator.
"""

from __future__ import annotations

from math import pi, prod

import numpy as np

from ..dtypes import DType, bfloat16, float16, float32, float64, int64
from ..ir.aval import Aval, Shape, aval
from ..ir.graph import Node
from ..ir.primitive import ELEMENTWISE
from . import philox
from .declare import P, cast, full, primitive, same_aval, spread

DIGITS = {float16: 1 << 11, bfloat16: 1 << 8}             # whole numbers up to which halves know each


def _infer(place: Aval, seed: Aval, draw: Aval, dtype: DType) -> Aval:
    a = same_aval(place, seed, draw)
    if a.dtype is not int64 or dtype not in (int64, float32, float64):
        raise TypeError(f"philox makes int64, float32 and float64 of int64, not {dtype} of {a.dtype}")
    return aval(a.shape, dtype, a.device)


primitive("philox", ELEMENTWISE, _infer, lambda place, seed, draw, dtype: philox.at(place, seed, draw, dtype.code), None,
          emit="philox_{o}({0}, {1}, {2})", cost=40,
          doc="The random number at a place of a draw: 64 bits as int64, or a float in [0, 1).")


def _halves(key: Node) -> list[Node]:
    return [P.reshape(P.slice(key, (k,), (k + 1,), (1,)), ()) for k in range(2)]


def _numbers(place: Node, key: Node, dtype: DType) -> Node:
    seed, draw = [spread(k, place.shape) for k in _halves(key)]
    return P.philox(place, seed, draw, dtype)


def split(key: Node, numbers: Node) -> Node:
    """A key for each number (of a turn, of an example), along a last axis of two: the seed is drawn, the draw is the same."""
    shape = (*numbers.shape, 1)
    return P.concat([P.reshape(_numbers(numbers, key, int64), shape), spread(_halves(key)[1], shape)], len(shape) - 1)


def _places(shape: Shape) -> Node:
    return P.reshape(P.iota((prod(shape),), 0), shape)


def bits(key: Node, shape: Shape) -> Node:
    """64 random bits each, as int64."""
    return _numbers(_places(shape), key, int64)


def uniform(key: Node, shape: Shape, d: DType) -> Node:
    """Numbers in [0, 1); for halves with as many binary digits as they have, so that none becomes 1."""
    u = _numbers(_places(shape), key, float64 if d is float64 else float32)
    if d.half:
        steps = full(DIGITS[d], shape, float32)
        u = P.div(P.floor(P.mul(u, steps)), steps)
    return cast(u, d)


def normal(key: Node, shape: Shape, d: DType) -> Node:
    """Standard normal numbers by Box and Muller, in float64: each two from two uniform ones."""
    count = prod(shape)
    pairs = (-(-count // 2),)
    first = P.mul(P.iota(pairs, 0), full(2, pairs, int64))
    u, v = [cast(_numbers(place, key, float64 if d is float64 else float32), float64)
            for place in (first, P.add(first, full(1, pairs, int64)))]
    radius = P.sqrt(P.mul(full(-2.0, pairs, float64), P.log1p(P.neg(u))))      # 1 - u lies in (0, 1]: its logarithm is finite
    angle = P.mul(full(2.0 * pi, pairs, float64), v)
    both = [P.reshape(P.mul(radius, f(angle)), (*pairs, 1)) for f in (P.cos, P.sin)]
    flat = P.reshape(P.concat(both, 1), (2 * pairs[0],))
    if count % 2:
        flat = P.slice(flat, (0,), (count,), (1,))
    return P.reshape(cast(cast(flat, float32) if d.half else flat, d), shape)


def permutation(key: Node, count: int) -> Node:
    """The numbers below `count` in random order: that of 64 unsigned bits each."""
    n = bits(key, (count,))
    return P.argsort(P.bitwise_xor(n, full(-(1 << 63), n.shape, int64)), 0, False)


def integers(key: Node, shape: Shape, low: int, high: int) -> Node:
    """int64 in [low, high): 64 bits modulo the span, as unsigned numbers."""
    n, span = bits(key, shape), high - low

    def number(value: int) -> Node:
        return full(int(np.uint64(value & 0xFFFFFFFFFFFFFFFF).view(np.int64)), shape, int64)

    if span & (span - 1) == 0:
        rest = P.bitwise_and(n, number(span - 1))
    elif span >= 1 << 63:                                 # no two spans fit: taken away once, where there is one
        least = number(1 << 63)
        below = P.lt(P.bitwise_xor(n, least), P.bitwise_xor(number(span), least))
        rest = P.where(below, n, P.sub(n, number(span)))
    else:                                                 # of n // 2 first, which has a sign bit to spare; then of all of it
        half = P.bitwise_and(P.floor_divide(n, number(2)), number((1 << 63) - 1))
        t = P.remainder(half, number(span))
        left = P.sub(number(span), t)
        twice = P.where(P.ge(t, left), P.sub(t, left), P.add(t, t))
        odd = P.add(twice, P.bitwise_and(n, number(1)))
        rest = P.where(P.ge(odd, number(span)), P.sub(odd, number(span)), odd)
    return P.add(rest, number(low))
