"""Batching over nodes: a graph for one example in, the graph for many out.

What differs from example to example has one more axis, the first; the rest stays as it is.  One rule for each kind of
primitive; what no rule knows is done example by example and laid together.  Never differentiates, never looks at values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT
from ..ir.aval import Aval, aval
from ..ir.graph import Graph, Node, linearise, node, placeholder, substitute
from ..ir.primitive import ELEMENTWISE, HOST, MOVEMENT, PARTS, REDUCE, TRANSFER
from ..ops.declare import P, full
from ..ops.factors import BATCHED
from ..ops.grouped import set_hook
from ..ops.movement import inverse, slice_axis
from ..ops.special import SCALARS
from .loops import LOOPS, batched
from .ruled import Ruled

Inputs = Sequence[Node]
Flags = Sequence[bool]                                    # which of the inputs have the axis


def spread(n: Node, size: int) -> Node:
    """One value for all examples."""
    return P.expand(P.reshape(n, (1, *n.shape)), (size, *n.shape))


def batch(outputs: Sequence[Node], mapped: dict[Node, Node], size: int) -> list[tuple[Node, bool]]:
    """`outputs` for `size` examples, each with whether it has the new first axis.  `mapped`: what differs from example to
    example, and the node that holds all of them along a first axis."""
    values: dict[Node, Node] = dict(mapped)
    many = set(mapped)
    for n in linearise(outputs, stop=mapped):
        if n in values:
            continue
        inputs = [i.real or i for i in n.inputs]
        flags = [i in many for i in inputs]
        if not any(flags):
            values[n] = n
            continue
        values[n] = _rule(n)(n, [values[i] for i in inputs], flags, size)
        many.add(n)
    ends = [o.real or o for o in outputs]
    return [(values[o], o in many) for o in ends]


def _rule(n: Node) -> Callable[[Node, Inputs, Flags, int], Node]:
    if n.op in NAMED:
        return NAMED[n.op]
    if n.prim.kind == HOST and n.prim.emit:               # element by element, without a kernel's word
        return _elementwise
    return KINDS.get(n.prim.kind, _each)


def _all(ins: Inputs, flags: Flags, size: int) -> tuple[Node, ...]:
    return tuple([i if f else spread(i, size) for i, f in zip(ins, flags)])


# ---------------------------------------------------------------- one rule for a kind
def _elementwise(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    return node(n.prim, _all(ins, flags, size), n.params)


def _reduce(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    at, *more = n.params
    later = at + 1 if isinstance(at, int) else tuple([k + 1 for k in at])
    return node(n.prim, tuple(ins), (later, *more))


def _movement(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    params = MOVED.get(n.op)
    if params is None:
        return _each(n, ins, flags, size)
    return node(n.prim, _all(ins, flags, size), params(n, size))


def _up(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple([k + 1 for k in axes])


MOVED: dict[str, Callable[[Node, int], tuple[Any, ...]]] = {
    "reshape": lambda n, size: ((size, *n.shape),),
    "expand": lambda n, size: ((size, *n.shape),),
    "permute": lambda n, size: ((0, *_up(n.params[0])),),
    "flip": lambda n, size: (_up(n.params[0]),),
    "slice": lambda n, size: ((0, *n.params[0]), (size, *n.params[1]), (1, *n.params[2])),
    "pad": lambda n, size: ((0, *n.params[0]), (size, *n.params[1]), (1, *n.params[2])),
    "update": lambda n, size: ((0, *n.params[0]), (1, *n.params[1])),
    "concat": lambda n, size: (n.params[0] + 1,),
    "shear": lambda n, size: (*_up(n.params[:2]), *n.params[2:]),
    "unshear": lambda n, size: (*_up(n.params[:2]), *n.params[2:]),
}


def _along(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    """Primitives whose first param is an axis."""
    axis, *more = n.params
    return node(n.prim, _all(ins, flags, size), (axis % max(n.ndim, 1) + 1, *more))


def _matmul(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    a, b = ins
    if flags == [True, False] and b.ndim == 2:            # one matrix for all examples: one product of all rows
        rows = P.reshape(a, (size * a.shape[1], a.shape[2]))
        return P.reshape(node(n.prim, (rows, b), n.params), (size, a.shape[1], b.shape[1]))
    return node(n.prim, _all(ins, flags, size), n.params)


def _each(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    """Example by example."""
    if size == 0:
        return full(0, (0, *n.shape), n.dtype)

    def row(i: Node, k: int) -> Node:
        return P.reshape(slice_axis(i, 0, k, k + 1), i.shape[1:])

    made = [node(n.prim, tuple([row(i, k) if f else i for i, f in zip(ins, flags)]), n.params) for k in range(size)]
    return P.concat([P.reshape(m, (1, *m.shape)) for m in made], 0)


# ---------------------------------------------------------------- an index that is data
def _first(n: Node, axis: int) -> tuple[Node, tuple[int, ...]]:
    """(examples, ..., axis, ...) with the axis next to the examples and the two made one; and the shape of the others."""
    k = axis + 1
    perm = (0, k, *[j for j in range(1, n.ndim) if j != k])
    moved = P.permute(n, perm)
    rest = moved.shape[2:]
    return P.reshape(moved, (moved.shape[0] * moved.shape[1], *rest)), rest


def _places(i: Node, length: int) -> Node:
    """Places along the axis that `_first` makes."""
    start = P.mul(P.iota(i.shape, 0), full(length, i.shape, i.dtype))
    return P.add(i, start)


def _take(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    (axis,) = n.params
    a, i = ins
    if not flags[1]:
        return P.take(a, i, axis + 1)
    if not flags[0]:                                      # (lead, size, *places, rest)
        made = P.take(a, i, axis)
        return P.permute(made, (axis, *[j for j in range(made.ndim) if j != axis]))
    flat, rest = _first(a, axis)
    made = P.take(flat, _places(i, a.shape[axis + 1]), 0)                     # (size, *places, lead, rest)
    middle = i.ndim - 1
    lead = range(1 + middle, 1 + middle + axis)
    return P.permute(made, (0, *lead, *range(1, 1 + middle), *range(1 + middle + axis, made.ndim)))


def _index_put(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    """index_add, index_set."""
    (axis,) = n.params
    a, i, v = ins
    a, v = a if flags[0] else spread(a, size), v if flags[2] else spread(v, size)
    if not flags[1]:
        return node(n.prim, (a, i, v), (axis + 1,))
    length, middle = a.shape[axis + 1], i.ndim - 1
    flat, rest = _first(a, axis)
    at = range(1 + axis, 1 + axis + middle)
    v = P.permute(v, (0, *at, *range(1, 1 + axis), *range(1 + axis + middle, v.ndim)))
    made = node(n.prim, (flat, _places(i, length), v), (0,))
    perm = (0, axis + 1, *[j for j in range(1, a.ndim) if j != axis + 1])
    return P.permute(P.reshape(made, (size, length, *rest)), inverse(perm))


# ---------------------------------------------------------------- sub-graphs
def _call(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    body, k = n.params
    if isinstance(body, Ruled):
        return P.call(tuple(ins), _batched(body, tuple(flags), size), k)
    own = body.graph.inputs
    (made, many), = batch([body.graph.outputs[k]], {i: v for i, v, f in zip(own, ins, flags) if f}, size)
    env = {i: v for i, v, f in zip(own, ins, flags) if not f}
    (made,) = substitute([made], env | {v: v for v, f in zip(ins, flags) if f})
    return made if many else spread(made, size)


def _loop(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    return batched(n, ins, flags, size, batch, spread)


def _custom(n: Node, ins: Inputs, flags: Flags, size: int) -> Node:
    """A function that the user has compiled: one more axis that it is called over in turn."""
    spec, k = n.params
    given: list[Node] = []
    for i, f, m, a in zip(ins, flags, spec.moving, spec.operands):
        if f and not m and spec.lead:                     # the same for all turns so far
            shape = (size, *(1,) * len(spec.lead), *a.shape)
            i = P.expand(P.reshape(i, shape), (size, *spec.lead, *a.shape))
        given.append(spread(i, size) if m and not f else i)
    moving = tuple([f or m for f, m in zip(flags, spec.moving)])
    return node(n.prim, tuple(given), (spec.led((size, *spec.lead), moving), k))


def _batched(body: Ruled, flags: tuple[bool, ...], size: int) -> Ruled:
    """The body for many examples, with its reverse for many: cotangents of what all examples share are added up."""
    key = (flags, size)
    if key in body.batched:
        return body.batched[key]
    old = body.graph.inputs
    new = [placeholder(_longer(i, size)) if f else i for i, f in zip(old, flags)]
    mapped = {i: m for i, m, f in zip(old, new, flags) if f}
    outs = [o if many else spread(o, size) for o, many in batch(body.graph.outputs, mapped, size)]
    made = Ruled(Graph(new, outs), body.name)
    made.refuse = body.refuse
    for k, o in enumerate(body.graph.outputs):
        if o.dtype.category < FLOAT:
            continue
        pull, _, where = body.pull(k)
        ct = placeholder(outs[k].aval)
        found = batch(pull.graph.outputs, mapped | {pull.graph.inputs[-1]: ct}, size)
        grads: list[Node] = []
        place: list[int | None] = [None] * len(new)
        for i, (j, f) in enumerate(zip(where, flags)):
            if j is not None:
                g, many = found[j]
                place[i] = len(grads)
                g = g if many else spread(g, size)
                grads.append(g if f else P.sum(g, (0,)))
        made.preset_pull(k, new, ct, grads, place, pull.refuse)
    body.batched[key] = made
    return made


def _longer(n: Node, size: int) -> Aval:
    return aval((size, *n.shape), n.dtype, n.aval.device)


KINDS = {ELEMENTWISE: _elementwise, REDUCE: _reduce, MOVEMENT: _movement, TRANSFER: _elementwise, PARTS: _elementwise}
NAMED: dict[str, Callable[[Node, Inputs, Flags, int], Node]] = {
    **dict.fromkeys((*BATCHED, "dft", "rdft", "irdft", "eig", "eigfactor"), _elementwise),   # any leading axes will do
    "take": _take, "gather": _along, "scatter_add": _along, "scatter_set": _along,
    "index_add": _index_put, "index_set": _index_put, "matmul": _matmul, "call": _call,
    "custom": _custom,
    **dict.fromkeys(LOOPS, _loop),
    "cumsum": _along, "cumprod": _along, "logcumsumexp": _along, "cumarg": _along, "sort": _along, "argsort": _along,
    "scatter_fold": _along, **dict.fromkeys(SCALARS, _elementwise),
}
set_hook("batch", batch)
