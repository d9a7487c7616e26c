"""The reverse pass over nodes: outputs and their cotangents in, cotangents of chosen nodes out, all of it graph.

Walks only what leads from the outputs to what is wanted.  Zeros stay symbolic (None).  Masks travel: a cotangent that is
zero outside a mask stays so through elementwise rules and movement, so that the side of a `where` that was not taken gives
0 and not 0 * inf; reductions, contractions and gathers end a mask.  Never looks at values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import FLOAT
from ..ir.graph import Node, base, is_const, linearise
from ..ir.primitive import ELEMENTWISE
from ..ops.control import set_reverse
from ..ops.declare import P, zeros_like
from ..ops.grouped import GROUPED, group_key, group_pull, set_hook

Cotangent = tuple[Node, Node | None]                      # value, and the mask outside which it is zero

_LINEAR = {"add", "sub", "neg", "cast", "where", "real", "imag", "complex"}  # their rules cannot make NaN out of zero
_MOVED = {"reshape", "permute", "expand", "slice", "flip", "pad", "shear", "unshear"}


def is_zero(n: Node) -> bool:
    """A constant zero of any shape."""
    return is_const(base(n, ("expand", "reshape")), 0)


def masked(g: Node) -> Cotangent:
    """A rule's result, with the mask it carries itself."""
    if g.op == "where" and is_zero(g.inputs[2]):
        return g, g.inputs[0]
    return g, None


def _through(n: Node, mask: Node) -> Node | None:
    """The mask of a movement's operand, from the mask of its result."""
    if n.op == "reshape":
        return P.reshape(mask, n.inputs[0].shape)
    if n.op == "expand":                                  # a place is masked if all its copies are
        shape = n.inputs[0].shape
        axes = tuple([i for i, (a, b) in enumerate(zip(shape, n.shape)) if a != b])
        return P.reshape(P.max(mask, axes), shape) if n.aval.size else None
    (moved,) = n.prim.vjp(mask, n, *n.inputs, *n.params)  # type: ignore[misc]
    return moved


def _pull(n: Node, ct: Cotangent, out: Node) -> list[Cotangent | None]:
    """Cotangents of one node's inputs; `out` is what its rule sees as the node's value."""
    value, mask = ct
    if n.prim.vjp is None:
        return [None] * len(n.inputs)
    if mask is not None and n.prim.kind == ELEMENTWISE and n.op not in _LINEAR:
        bare = value.inputs[1] if value.op == "where" and value.inputs[0] is mask else value
        grads = n.prim.vjp(bare, out, *n.inputs, *n.params)
        return [None if g is None else (P.where(mask, g, zeros_like(g)), mask) for g in grads]
    found: list[Cotangent | None] = []
    for g in n.prim.vjp(value, out, *n.inputs, *n.params):
        if g is None or is_zero(g):
            found.append(None)
        elif mask is not None and (n.op in _MOVED or n.op in _LINEAR and g.shape == mask.shape):
            own, carried = masked(g)
            moved = _through(n, mask) if n.op in _MOVED else carried or mask
            found.append((own, moved))
        else:
            found.append(masked(g))
    return found


def plus(a: Cotangent | None, b: Cotangent) -> Cotangent:
    if a is None:
        return b
    mask = P.bitwise_or(a[1], b[1]) if a[1] is not None and b[1] is not None else None
    return P.add(a[0], b[0]), mask


def reverse(outputs: Sequence[Node], cotangents: Sequence[Node | None], wanted: Sequence[Node]) -> list[Node | None]:
    """Cotangents of `wanted` (nodes of any kind), given those of `outputs`; None where no path leads, or only zeros."""
    cts = [None if c is None else masked(c) for c in cotangents]
    return [None if f is None else f[0] for f in reverse_masked(outputs, cts, wanted, {})]


def reverse_masked(outputs: Sequence[Node], cotangents: Sequence[Cotangent | None], wanted: Sequence[Node],
                   known: dict[Node, Node]) -> list[Cotangent | None]:
    """`reverse` with the masks of cotangents handed in and out.  `known[n]` stands in for n where n's own rule reads its
    result: so that a caller can tell a rule that reads the result from one that computes the same again."""
    order = linearise(outputs)
    live = set(wanted)
    for n in order:
        if n not in live and n.dtype.category >= FLOAT and any((i.real or i) in live for i in n.inputs):
            live.add(n)
    cts: dict[Node, Cotangent | None] = {}
    for o, c in zip(outputs, cotangents):
        o = o.real or o
        if c is not None and o in live:
            cts[o] = plus(cts.get(o), c)
    keep = set(wanted)
    groups = _groups(order)
    for n in reversed(order):
        if n.op in GROUPED:
            _pull_group(n, groups[group_key(n)], cts, live, known)
            continue
        ct = cts.get(n)
        if ct is None or n not in live or not n.inputs:
            continue
        if n not in keep:
            cts[n] = None                                  # its cotangent is spent: let it go
        inputs = [i.real or i for i in n.inputs]
        if not any(i in live for i in inputs):
            continue
        for i, g in zip(inputs, _pull(n, ct, known.get(n, n))):
            if g is not None and i in live:
                cts[i] = plus(cts.get(i), g)
    return [cts.get(w.real or w) for w in wanted]


def _groups(order: Sequence[Node]) -> dict[Any, dict[int, Node]]:
    """The loops: for each its nodes by result, the first of the order first."""
    out: dict[Any, dict[int, Node]] = {}
    for n in order:
        if n.op in GROUPED:
            out.setdefault(group_key(n), {})[n.params[1]] = n
    return out


def _pull_group(n: Node, group: dict[int, Node], cts: dict[Node, Cotangent | None], live: set[Node],
                known: dict[Node, Node]) -> None:
    """A loop's cotangents all at once: when its first node is met, all that follows from any of them is done."""
    if n is not next(iter(group.values())):
        return
    given = {k: cts[m] for k, m in group.items() if cts.get(m) is not None and m in live}
    inputs = [i.real or i for i in n.inputs]
    if not given or not any(i in live for i in inputs):
        return
    found = group_pull(n, [given[k][0] if k in given else None for k in range(len(n.params[0].avals))])  # type: ignore[index]
    if known and n.op == "custom":
        from ..ops.custom import reading  # declared with the first custom op
        found = reading(found, group, known)
    for i, g in zip(inputs, found):
        if g is not None and not is_zero(g) and i in live:
            cts[i] = plus(cts.get(i), masked(g))


set_reverse(reverse)
set_hook("reverse", reverse)
