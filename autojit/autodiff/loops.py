"""Loops and branches, forward and batched: a loop of tangents is a loop again, a loop of many examples too.

In: a `scan` or `branch` node with tangents, or with what has a batch axis.  Out: nodes of a new loop over a new body.  The two
passes over nodes are handed in (`forward`, `batch`), since they call these rules themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.graph import Graph, Node, node, placeholder, substitute
from ..ops.declare import P, zeros_like
from ..ops.loops import BRANCH, SCAN, Branch, Scan, branch_spec, scan_spec

Forward = Callable[[Sequence[Node], dict[Node, Node]], list[Node | None]]
Batch = Callable[[Sequence[Node], dict[Node, Node], int], list[tuple[Node, bool]]]
Spread = Callable[[Node, int], Node]
LOOPS = ("scan", "branch")
KEPT = 1024                                               # loops that are remembered
_MADE: dict[Any, Any] = {}


def _known(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _MADE:
        if len(_MADE) >= KEPT:
            _MADE.clear()
        _MADE[key] = make()
    return _MADE[key]


# ---------------------------------------------------------------- tangents
def pushed(n: Node, inputs: Sequence[Node], tangents: Sequence[Node | None], forward: Forward) -> Node | None:
    """The tangent of one result of a loop or branch."""
    spec, k = n.params
    flags = tuple([t is not None for t in tangents])
    key = ("tangents", spec, flags)
    if isinstance(spec, Branch):
        both, at = _known(key, lambda: _branch_tangents(spec, flags[1:], forward))
        given = [*inputs, *[t for t in tangents if t is not None]]
        return None if k not in at else node(BRANCH, tuple(given), (both, at[k]))
    loop, carried, at = _known(key, lambda: _scan_tangents(spec, flags, forward))
    if k not in at:
        return None
    m, c = spec.consts, spec.carries

    def some(low: int, high: int) -> list[Node]:
        return [*inputs[low:high], *[t for t in tangents[low:high] if t is not None]]

    starts = [_or_zeros(tangents[m + j], inputs[m + j]) for j in carried]
    takes = (*some(0, m), *inputs[m:m + c], *starts, *some(m + c, len(inputs)))
    return node(SCAN, takes, (loop, at[k]))


def _scan_tangents(spec: Scan, flags: tuple[bool, ...], forward: Forward) -> tuple[Scan, list[int], dict[int, int]]:
    """The loop that has tangents beside its values; which carries have one; where the tangent of each result stands."""
    body, m, c = spec.body, spec.consts, spec.carries
    ins, outs = body.inputs, body.outputs
    moving = list(flags)
    while True:
        into = {i: placeholder(i.aval) for i, f in zip(ins, moving) if f}
        found = forward(outs, into)
        more = [j for j in range(c) if found[j] is not None and not moving[m + j]]
        if not more:
            break
        for j in more:
            moving[m + j] = True

    def some(low: int, high: int) -> list[Node]:
        return [*ins[low:high], *[into[i] for i in ins[low:high] if i in into]]

    carried = [j for j in range(c) if moving[m + j]]
    stacked = [k for k in range(c, len(outs)) if found[k] is not None]
    ends = [_or_zeros(found[j], outs[j]) for j in carried]
    made = Graph([*some(0, m), *some(m, m + c), *some(m + c, len(ins))],
                 [*outs[:c], *ends, *outs[c:], *[_or_zeros(found[k], outs[k]) for k in stacked]])
    at = {j: c + i for i, j in enumerate(carried)} | {k: len(outs) + len(carried) + i for i, k in enumerate(stacked)}
    loop = scan_spec(made, spec.length, m + sum(flags[:m]), c + len(carried), spec.reverse)
    return loop, carried, at


def _branch_tangents(spec: Branch, flags: tuple[bool, ...], forward: Forward) -> tuple[Branch | None, dict[int, int]]:
    """The choice between the tangents of the two sides, and where that of each result stands."""
    sides = []
    for body in spec.bodies:
        into = {i: placeholder(i.aval) for i, f in zip(body.inputs, flags) if f}
        sides.append((body, into, forward(body.outputs, into)))
    there = [k for k in range(len(spec.avals)) if any([found[k] is not None for _, _, found in sides])]
    if not there:
        return None, {}
    graphs = [Graph([*body.inputs, *into.values()], [_or_zeros(found[k], body.outputs[k]) for k in there])
              for body, into, found in sides]
    return branch_spec(*graphs), {k: j for j, k in enumerate(there)}


def _or_zeros(t: Node | None, n: Node) -> Node:
    return zeros_like(n) if t is None else t


# ---------------------------------------------------------------- many examples
def _swapped(n: Node) -> Node:
    """The first two axes exchanged: turns and examples."""
    return P.permute(n, (1, 0, *range(2, n.ndim)))


def batched(n: Node, ins: Sequence[Node], flags: Sequence[bool], size: int, batch: Batch, spread: Spread) -> Node:
    """One result of a loop or branch for many examples, with their axis first."""
    spec, k = n.params
    key = ("examples", spec, tuple(flags), size)
    if isinstance(spec, Branch):
        if flags[0]:
            return _chosen(spec, k, ins, flags, size, batch, spread)
        both = _known(key, lambda: _branch_examples(spec, flags[1:], size, batch, spread))
        return node(BRANCH, tuple(ins), (both, k))
    loop, carried, many = _known(key, lambda: _scan_examples(spec, flags, size, batch, spread))
    m, c = spec.consts, spec.carries
    starts = [spread(i, size) if j in carried and not f else i
              for j, (i, f) in enumerate(zip(ins[m:m + c], flags[m:m + c]))]
    slices = [_swapped(i) if f else i for i, f in zip(ins[m + c:], flags[m + c:])]
    out = node(SCAN, (*ins[:m], *starts, *slices), (loop, k))
    if not many[k]:
        return spread(out, size)
    return out if k < c else _swapped(out)


def _scan_examples(spec: Scan, flags: Sequence[bool], size: int, batch: Batch,
                   spread: Spread) -> tuple[Scan, set[int], list[bool]]:
    """The loop for many examples; which carries have their axis; which results do."""
    body, m, c = spec.body, spec.consts, spec.carries
    many = list(flags)
    while True:
        into = {i: placeholder(spread(i, size).aval) for i, f in zip(body.inputs, many) if f}
        found = batch(body.outputs, into, size)
        more = [j for j in range(c) if found[j][1] and not many[m + j]]
        if not more:
            break
        for j in more:
            many[m + j] = True
    outs = [spread(o, size) if k < c and many[m + k] and not f else o for k, (o, f) in enumerate(found)]
    loop = scan_spec(Graph([into.get(i, i) for i in body.inputs], outs), spec.length, m, c, spec.reverse)
    return loop, {j for j in range(c) if many[m + j]}, [many[m + k] if k < c else f for k, (_, f) in enumerate(found)]


def _sides(spec: Branch, flags: Sequence[bool], size: int, batch: Batch, spread: Spread) -> list[tuple[list[Node], list[Node]]]:
    """Inputs and outputs of the two sides for many examples."""
    sides = []
    for body in spec.bodies:
        into = {i: placeholder(spread(i, size).aval) for i, f in zip(body.inputs, flags) if f}
        outs = [o if f else spread(o, size) for o, f in batch(body.outputs, into, size)]
        sides.append(([into.get(i, i) for i in body.inputs], outs))
    return sides


def _branch_examples(spec: Branch, flags: Sequence[bool], size: int, batch: Batch, spread: Spread) -> Branch:
    return branch_spec(*[Graph(i, o) for i, o in _sides(spec, flags, size, batch, spread)])


def _chosen(spec: Branch, k: int, ins: Sequence[Node], flags: Sequence[bool], size: int, batch: Batch,
            spread: Spread) -> Node:
    """Where examples differ in which side they take both are computed."""
    found = []
    for body in spec.bodies:
        into = dict(zip(body.inputs, ins[1:]))
        (out, many), = batch([_over(body, k, [i for i, f in zip(body.inputs, flags[1:]) if not f], into)],
                             {i: into[i] for i, f in zip(body.inputs, flags[1:]) if f}, size)
        found.append(out if many else spread(out, size))
    yes, no = found
    pred = P.reshape(ins[0], (size,) + (1,) * (yes.ndim - 1))
    return P.where(P.expand(pred, yes.shape), yes, no)


def _over(body: Graph, k: int, fixed: Sequence[Node], into: dict[Node, Node]) -> Node:
    """Output k with the inputs that all examples share in their place."""
    return substitute([body.outputs[k]], {i: into[i] for i in fixed})[0]
