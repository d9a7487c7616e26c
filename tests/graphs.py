"""Random graphs over the primitives: small, ragged, with equal extents everywhere, so that axes are easily confused."""

from __future__ import annotations

import random

import numpy as np

from autojit import ops  # noqa: F401
from autojit.autodiff.vjp import reverse
from autojit.dtypes import BOOL, FLOAT, DType, bool_, float32, float64, int64, memory
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, const, placeholder
from autojit.ops.declare import P, back, cast, full, spread

UNARY = ["neg", "abs", "exp", "sin", "cos", "tanh", "sigmoid", "relu", "erf", "floor", "sign", "atan", "expm1"]
BINARY = ["add", "sub", "mul", "maximum", "minimum"]
EXTENTS = [1, 2, 3, 3, 3, 4, 5, 17, 20]


class Maker:
    """Builds one random graph.  Values stay near 1 in size: long chains of exp would compare infinities only."""

    def __init__(self, seed: int, dtype: DType = float32) -> None:
        self.r = random.Random(seed)
        self.dtype = dtype
        self.inputs: list[Node] = []
        self.arrays: list[np.ndarray] = []
        self.rng = np.random.default_rng(seed)

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = self.r.choice([0, 1, 1, 2, 2, 2, 3, 3]) if rank is None else rank
        return tuple(self.r.choice(EXTENTS) for _ in range(rank))

    def input(self, shape: tuple[int, ...], dtype: DType | None = None, high: int = 0) -> Node:
        dtype = dtype or self.dtype
        n = placeholder(aval(shape, dtype))
        self.inputs.append(n)
        if dtype is int64:
            a = self.rng.integers(0, max(high, 1), shape)
        else:
            a = np.round(self.rng.standard_normal(shape), 1) if self.r.random() < 0.3 else self.rng.standard_normal(shape)
        self.arrays.append(memory(a, dtype))
        return n

    def same(self, pool: list[Node], shape: tuple[int, ...]) -> Node:
        """A float value of this shape: one from the pool, a broadcast one, a constant, or a new input."""
        fit = [p for p in pool if p.shape == shape]
        if fit and self.r.random() < 0.7:
            return self.r.choice(fit)
        small = [p for p in pool if len(p.shape) <= len(shape) and all(
            a in (1, b) for a, b in zip(p.shape[::-1], shape[::-1]))]
        if small and self.r.random() < 0.6:
            return spread(self.r.choice(small), shape)
        if self.r.random() < 0.3:
            return full(self.r.choice([0.0, 1.0, -1.0, 2.0, 0.5, 0.3, -1.7]), shape, self.dtype)
        return self.input(shape)

    def tame(self, n: Node) -> Node:
        return P.tanh(n)

    def grow(self, pool: list[Node]) -> Node:
        x = self.r.choice(pool[-6:])
        kind = self.r.choice(["unary", "unary", "binary", "binary", "binary", "reduce", "reduce", "softmax", "where", "move",
                              "move", "slice", "pad", "concat", "matmul", "take", "gather", "cast", "update", "keepdim"])
        return getattr(self, "g_" + kind)(x, pool)

    def g_unary(self, x, pool):
        op = self.r.choice(UNARY)
        return getattr(P, op)(self.tame(x) if op in ("exp", "expm1") else x)

    def g_binary(self, x, pool):
        y = self.same(pool, x.shape)
        if self.r.random() < 0.15:
            return P.div(x, P.add(full(1.5, x.shape, x.dtype), P.mul(y, y)))
        pair = (x, y) if self.r.random() < 0.5 else (y, x)
        out = getattr(P, self.r.choice(BINARY))(*pair)
        return self.tame(out) if self.r.random() < 0.2 else out

    def axes(self, x) -> tuple[int, ...]:
        k = self.r.randint(1, len(x.shape))
        return tuple(sorted(self.r.sample(range(len(x.shape)), k)))

    def g_reduce(self, x, pool):
        if not x.shape:
            return P.sin(x)
        return getattr(P, self.r.choice(["sum", "sum", "sum", "max", "min"]))(self.tame(x), self.axes(x))

    def g_keepdim(self, x, pool):
        if not x.shape:
            return P.cos(x)
        axes = self.axes(x)
        return P.sub(x, back(P.mul(P.sum(x, axes), full(0.2, (), x.dtype)) if len(axes) == len(x.shape)
                             else P.max(x, axes), axes, x.shape))

    def g_softmax(self, x, pool):
        if not x.shape:
            return P.exp(self.tame(x))
        axis = (self.r.randrange(len(x.shape)),)
        e = P.exp(P.sub(x, back(P.max(x, axis), axis, x.shape)))
        return P.div(e, back(P.sum(e, axis), axis, x.shape))

    def g_where(self, x, pool):
        y = self.same(pool, x.shape)
        return P.where(getattr(P, self.r.choice(["gt", "le", "eq", "ne"]))(x, y), self.same(pool, x.shape), x)

    def g_move(self, x, pool):
        how = self.r.choice(["reshape", "permute", "flip", "expand", "flatten"])
        if how == "permute" and len(x.shape) > 1:
            return P.permute(x, tuple(self.r.sample(range(len(x.shape)), len(x.shape))))
        if how == "flip" and x.shape:
            return P.flip(x, self.axes(x))
        if how == "expand" and x.aval.size <= 400:
            n = self.r.choice([2, 3, 5])
            return P.expand(P.reshape(x, (1, *x.shape)), (n, *x.shape)) if self.r.random() < 0.5 else P.expand(
                P.reshape(x, (*x.shape, 1)), (*x.shape, n))
        if how == "reshape" and x.shape:
            size = x.aval.size
            parts = [d for d in (2, 3, 4, 5) if size % d == 0]
            if parts:
                d = self.r.choice(parts)
                return P.reshape(x, (d, size // d) if self.r.random() < 0.5 else (size // d, d))
        return P.reshape(x, (x.aval.size,))

    def box(self, shape):
        starts, limits, steps = [], [], []
        for n in shape:
            a = self.r.randint(0, n - 1)
            b = self.r.randint(a + 1, n)
            starts.append(a), limits.append(b), steps.append(self.r.choice([1, 1, 1, 2]))
        return tuple(starts), tuple(limits), tuple(steps)

    def g_slice(self, x, pool):
        return P.slice(x, *self.box(x.shape)) if x.shape else P.neg(x)

    def g_pad(self, x, pool):
        if not x.shape or x.aval.size > 400:
            return P.neg(x)
        starts = tuple(self.r.randint(0, 2) for _ in x.shape)
        steps = tuple(self.r.choice([1, 1, 2]) for _ in x.shape)
        shape = tuple(s + (n - 1) * c + 1 + self.r.randint(0, 2) for s, n, c in zip(starts, x.shape, steps))
        return P.pad(x, starts, shape, steps)

    def g_update(self, x, pool):
        if not x.shape:
            return P.neg(x)
        starts, limits, steps = self.box(x.shape)
        part = P.slice(x, starts, limits, steps)
        return P.update(x, P.mul(part, full(0.3, part.shape, part.dtype)), starts, steps)

    def g_concat(self, x, pool):
        if not x.shape or x.aval.size > 400:
            return P.sin(x)
        axis = self.r.randrange(len(x.shape))
        other = list(x.shape)
        other[axis] = self.r.choice([1, 2, 3])
        return P.concat([x, self.same(pool, tuple(other)), x][:self.r.choice([2, 3])], axis)

    def g_matmul(self, x, pool):
        if len(x.shape) < 2 or x.aval.size > 600:
            return P.tanh(x)
        n = self.r.choice([1, 3, 4, 17])
        return P.mul(P.matmul(self.tame(x), self.tame(self.same(pool, (*x.shape[:-2], x.shape[-1], n)))),
                     full(0.2, (*x.shape[:-1], n), x.dtype))

    def g_take(self, x, pool):
        if not x.shape:
            return P.cos(x)
        axis = self.r.randrange(len(x.shape))
        return P.take(x, self.input(self.shape(self.r.choice([0, 1])), int64, x.shape[axis]), axis)

    def g_gather(self, x, pool):
        if not x.shape:
            return P.cos(x)
        axis = self.r.randrange(len(x.shape))
        shape = tuple(self.r.choice([1, 3]) if k == axis else n for k, n in enumerate(x.shape))
        return P.gather(x, self.input(shape, int64, x.shape[axis]), axis)

    def g_cast(self, x, pool):
        there = self.r.choice([float64, float32, int64, bool_])
        return cast(cast(self.tame(x) if there.category < FLOAT else x, there), self.dtype)


def random_graph(seed: int, grad: bool = True, size: int = 12, dtype: DType = float32) -> tuple[Graph, list[np.ndarray]]:
    """A graph and arrays for it; with `grad`, gradients of its (summed) last value with respect to its float inputs too."""
    m = Maker(seed, dtype)
    pool = [m.input(m.shape()), m.input(m.shape(2))]
    for _ in range(m.r.randint(3, size)):
        n = m.grow(pool)
        if n.aval.size <= 3000:
            pool.append(n)
    outputs = [pool[-1]]
    if m.r.random() < 0.5:
        outputs.append(m.r.choice(pool))
    if grad:
        top = pool[-1]
        wrt = [i for i in m.inputs if i.dtype.category > BOOL and i.dtype is dtype]
        loss = P.sum(P.mul(top, top), tuple(range(len(top.shape)))) if top.shape else top
        outputs += [g for g in reverse([loss], [const(1, dtype)], wrt) if g is not None]
        outputs.append(loss)
    return Graph(m.inputs, outputs), m.arrays


def agree(got, want, rtol=2e-4, atol=2e-5) -> str | None:
    """None, or what differs: NaN and Inf must stand in the same places, finite values be near in the scale of the array."""
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        if g.shape != w.shape or g.dtype != w.dtype:
            return f"output {k}: {g.dtype}{g.shape} instead of {w.dtype}{w.shape}"
        if g.dtype.kind != "f":
            if not np.array_equal(g, w):
                return f"output {k}: {g} instead of {w}"
            continue
        if not np.array_equal(np.isnan(g), np.isnan(w)) or not np.array_equal(np.isposinf(g), np.isposinf(w)):
            return f"output {k}: non-finite values differ"
        ok = np.isfinite(w)
        scale = np.abs(w[ok]).max(initial=1.0)
        if not np.allclose(g[ok], w[ok], rtol=rtol, atol=atol * scale):
            return f"output {k}: off by {np.abs(g[ok] - w[ok]).max()} at scale {scale}"
    return None
