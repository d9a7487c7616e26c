"""Algebra on the graph that is exact: what leaves every bit of every value as it was, NaN, Inf and -0.0 included.

A rule looks at one node about to be built and returns a simpler one, or None.  Rules stand in one table by primitive.
`x + 0` stays (-0.0 + 0 is 0), `x * 0` stays (NaN), `x * 1` goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import FLOAT, float32
from ..ir.graph import Graph, Node, base, const, is_const, node, substitute
from ..ir.primitive import ELEMENTWISE, REGISTRY, Primitive
from ..ops.declare import P, spread
from ..ops.movement import stretched

Inputs = tuple[Node, ...]
Params = tuple[Any, ...]
RULES: dict[str, Callable[[Inputs, Params], Node | None]] = {}


def rule(*names: str) -> Callable[[Callable[[Inputs, Params], Node | None]], Callable[[Inputs, Params], Node | None]]:
    def declare(f: Callable[[Inputs, Params], Node | None]) -> Callable[[Inputs, Params], Node | None]:
        for name in names:
            RULES[name] = f
        return f
    return declare


def constant(n: Node) -> Node | None:
    """The 0-d constant that fills `n`, if one does."""
    n = base(n, ("expand", "reshape", "permute", "slice", "flip"))
    return n if n.op == "const" else None


def fill(value: Any, like: Node | Any) -> Node:
    return spread(const(value, like.dtype), like.shape)


@rule("reshape")
def _reshape(ins: Inputs, params: Params) -> Node | None:
    x, (shape,) = ins[0], params
    if x.shape == shape:
        return x
    if x.op == "reshape":
        return build(x.prim, x.inputs, params)
    c = constant(x)
    return None if c is None or len(c.shape) or x is c else spread(c, shape)


@rule("expand")
def _expand(ins: Inputs, params: Params) -> Node | None:
    x, (shape,) = ins[0], params
    if x.shape == shape:
        return x
    return build(x.prim, x.inputs, params) if x.op == "expand" else None


@rule("permute")
def _permute(ins: Inputs, params: Params) -> Node | None:
    x, (perm,) = ins[0], params
    if perm == tuple(range(len(perm))):
        return x
    if x.op == "permute":
        return build(x.prim, x.inputs, (tuple([x.params[0][p] for p in perm]),))
    c = constant(x)
    return None if c is None else spread(c, tuple([x.shape[p] for p in perm]))


@rule("slice")
def _slice(ins: Inputs, params: Params) -> Node | None:
    x, (starts, limits, steps) = ins[0], params
    if starts == (0,) * len(starts) and limits == x.shape and steps == (1,) * len(steps):
        return x
    if x.op == "slice":
        s0, _, c0 = x.params
        starts = tuple([a + b * c for a, b, c in zip(s0, starts, c0)])
        limits = tuple([min(a + b * c, n) for a, b, c, n in zip(s0, limits, c0, x.inputs[0].shape)])
        limits = tuple([max(a, b) for a, b in zip(starts, limits)])
        return build(x.prim, x.inputs, (starts, limits, tuple([a * b for a, b in zip(c0, steps)])))
    c = constant(x)
    return None if c is None else spread(c, tuple([max(0, -(-(b - a) // k)) for a, b, k in zip(starts, limits, steps)]))


@rule("pad")
def _pad(ins: Inputs, params: Params) -> Node | None:
    x = ins[0]
    if params[1] == x.shape:
        return x
    c = constant(x)
    return spread(c, params[1]) if c is not None and is_const(c, 0) and not np.signbit(c.data) else None


@rule("update")
def _update(ins: Inputs, params: Params) -> Node | None:
    a, v = ins
    if v.aval.size == 0:
        return a
    if a.shape == v.shape and params[1] == (1,) * len(a.shape):
        return v
    c = constant(a)
    if c is not None and is_const(c, 0) and not np.signbit(c.data):
        return P.pad(v, params[0], a.shape, params[1])  # type: ignore[no-any-return]
    return None


@rule("concat")
def _concat(ins: Inputs, params: Params) -> Node | None:
    keep = tuple([i for i in ins if i.shape[params[0]]])
    if len(keep) == 1:
        return keep[0]
    return P.concat(keep, *params) if 0 < len(keep) < len(ins) else None


@rule("cast")
def _cast(ins: Inputs, params: Params) -> Node | None:
    x, (dtype,) = ins[0], params
    if x.dtype is dtype:
        return x
    return x.inputs[0] if dtype.half and x.op == "cast" and x.inputs[0].dtype is dtype and x.dtype is float32 else None


@rule("stop", "factor")
def _stop(ins: Inputs, params: Params) -> Node | None:
    return ins[0]                                         # derivatives are taken by now


@rule("neg")
def _neg(ins: Inputs, params: Params) -> Node | None:
    return ins[0].inputs[0] if ins[0].op == "neg" else None


def _is(n: Node, value: float) -> bool:
    c = constant(n)
    return c is not None and is_const(c, value)


@rule("mul")
def _mul(ins: Inputs, params: Params) -> Node | None:
    for a, b in (ins, ins[::-1]):
        if _is(b, 1):
            return a
        if _is(b, -1) and a.dtype.category >= FLOAT:
            return build(REGISTRY["neg"], (a,), ())
    return None


@rule("div")
def _div(ins: Inputs, params: Params) -> Node | None:
    return ins[0] if _is(ins[1], 1) else None


@rule("sub")
def _sub(ins: Inputs, params: Params) -> Node | None:
    c = constant(ins[1])
    return ins[0] if c is not None and is_const(c, 0) and not np.signbit(c.data) else None


@rule("add")
def _add(ins: Inputs, params: Params) -> Node | None:
    for a, b in (ins, ins[::-1]):
        c = constant(b)
        if c is not None and is_const(c, 0) and (c.dtype.category < FLOAT or np.signbit(c.data)):
            return a
        if b.op == "neg":
            return P.sub(a, b.inputs[0])  # type: ignore[no-any-return]
    return None


@rule("powi")
def _powi(ins: Inputs, params: Params) -> Node | None:
    return {1: ins[0]}.get(params[0])


@rule("where")
def _where(ins: Inputs, params: Params) -> Node | None:
    m, a, b = ins
    if a is b:
        return a
    c = constant(m)
    if c is not None:
        return a if c.data else b
    if a.op == "where" and a.inputs[0] is m:
        return P.where(m, a.inputs[1], b)  # type: ignore[no-any-return]
    if b.op == "where" and b.inputs[0] is m:
        return P.where(m, a, b.inputs[2])  # type: ignore[no-any-return]
    return None


@rule("max", "min", "prod")
def _reduce(ins: Inputs, params: Params) -> Node | None:
    x, (axes,) = ins[0], params
    if all(x.shape[a] == 1 for a in axes):
        return P.reshape(x, tuple([n for i, n in enumerate(x.shape) if i not in axes]))  # type: ignore[no-any-return]
    return None


@rule("sum")
def _sum(ins: Inputs, params: Params) -> Node | None:
    """A sum over copies is a product with their number; the sum of a constant likewise."""
    x, (axes,) = ins[0], params
    shape = tuple([n for i, n in enumerate(x.shape) if i not in axes])
    c = constant(x)
    count = 1
    for a in axes:
        count *= x.shape[a]
    if c is not None and x.dtype.category >= FLOAT:
        with np.errstate(all="ignore"):
            return spread(const(c.data * c.dtype.np.type(count) + c.dtype.np.type(0), c.dtype), shape)   # a sum is never -0
    if x.op == "expand":
        copied = [a for a in stretched(x.inputs[0].shape, x.shape) if a in axes]
        if copied and len(copied) == len(axes) and x.dtype.category >= FLOAT and count:
            inner = P.reshape(x.inputs[0], tuple([n for i, n in enumerate(x.inputs[0].shape) if i not in axes]))
            return P.mul(spread(inner, shape), spread(const(count, x.dtype), shape))  # type: ignore[no-any-return]
    if x.dtype.category < FLOAT or _plus_zero(x):
        return _reduce(ins, params)
    if all(x.shape[a] == 1 for a in axes):
        return P.add(P.reshape(x, shape), spread(const(0, x.dtype), shape))   # of one -0 the sum is 0
    return None


def _plus_zero(x: Node) -> bool:
    """Is x never -0?  Sums and exponentials are not; what only moves them neither."""
    return base(x, ("reshape", "permute", "expand", "slice")).op in ("sum", "exp", "sigmoid", "abs")


def _fold(prim: Primitive, ins: Inputs, params: Params) -> Node | None:
    """An elementwise primitive over constants is a constant (computed by the oracle, as the kernels would)."""
    found = [constant(i) for i in ins]
    if not ins or any(c is None for c in found):
        return None
    assert prim.ref is not None
    a = prim.infer(*[i.aval for i in ins], *params)
    if a.dtype.half:                                       # no half constants: kernels round what is float32
        return None
    value = np.asarray(prim.ref(*[np.asarray(c.data) for c in found if c is not None], *params)).astype(a.dtype.np)
    return spread(const(value[()], a.dtype), a.shape)


def build(prim: Primitive, ins: Inputs, params: Params) -> Node:
    """The node, or something simpler that is equal bit for bit."""
    if prim.kind == ELEMENTWISE:
        folded = _fold(prim, ins, params)
        if folded is not None:
            return folded
    f = RULES.get(prim.name)
    simpler = f(ins, params) if f is not None else None
    return node(prim, ins, params) if simpler is None else simpler


def simplify(graph: Graph) -> Graph:
    """One pass from the inputs up; each rule sees inputs that are already simple."""
    env: dict[Node, Node] = {i: i for i in graph.inputs}
    return Graph(graph.inputs, substitute(graph.outputs, env, build))
