"""Loops and branches, forward and batched: a loop of tangents is a loop again, a loop of many examples too.

In: a `scan`, `while`, `counted` or `branch` node with tangents, or with what has a batch axis.  Out: nodes of a new loop over
a new body.
The two passes over nodes are handed in (`both`, `batch`), since they call these rules themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import int64
from ..ir.aval import aval
from ..ir.graph import Graph, Node, const, node, placeholder, substitute
from ..ops.counted import Counted, counted_spec
from ..ops.declare import P, full, zeros_like
from ..ops.declare import spread as spread_over
from ..ops.grouped import SOME
from ..ops.loops import BRANCH, Branch, Scan, branch_spec, scan_spec
from ..ops.whiles import While, while_spec

Both = Callable[[Sequence[Node], dict[Node, Node]], tuple[list[Node], list[Node | None]]]
Batch = Callable[[Sequence[Node], dict[Node, Node], int], list[tuple[Node, bool]]]
Spread = Callable[[Node, int], Node]
LOOPS = ("scan", "while", "branch", "counted")
KEPT = 1024                                               # loops that are remembered
_MADE: dict[Any, Any] = {}


def _known(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _MADE:
        if len(_MADE) >= KEPT:
            _MADE.clear()
        _MADE[key] = make()
    return _MADE[key]


# ---------------------------------------------------------------- tangents
def pushed(n: Node, inputs: Sequence[Node], tangents: Sequence[Node | None], both: Both,
           joint: dict[Node, Node] | None) -> Node | None:
    """The tangent of one result of a loop or branch.  `joint` takes down where the loop of tangents gives the value itself."""
    spec, k = n.params
    flags = tuple([t is not None for t in tangents])
    key = ("tangents", spec, flags)
    if isinstance(spec, Branch):
        choice, at = _known(key, lambda: _branch_tangents(spec, flags[1:], both))
        given = [*inputs, *[t for t in tangents if t is not None]]
        return None if k not in at else node(BRANCH, tuple(given), (choice, at[k]))
    if isinstance(spec, Counted):
        both_of, at = _known(key, lambda: _counted_tangents(spec, flags, both))
        given = [*inputs, *[t for t in tangents if t is not None]]
        if joint is not None and at:
            joint[n] = node(n.prim, tuple(given), (both_of, k))
        return None if k not in at else node(n.prim, tuple(given), (both_of, at[k]))
    loop, carried, at = _known(key, lambda: _loop_tangents(spec, flags, both))
    if not at:
        return None
    m, c = spec.consts, spec.carries

    def some(low: int, high: int) -> list[Node]:
        return [*inputs[low:high], *[t for t in tangents[low:high] if t is not None]]

    starts = [_or_zeros(tangents[m + j], inputs[m + j]) for j in carried]
    takes = (*some(0, m), *inputs[m:m + c], *starts, *some(m + c, len(inputs)))
    if joint is not None:
        joint[n] = node(n.prim, takes, (loop, k if k < c else k + len(carried)))
    return node(n.prim, takes, (loop, at[k])) if k in at else None


def _loop_tangents(spec: Scan | While, flags: tuple[bool, ...], both: Both) -> tuple[Scan | While, list[int], dict[int, int]]:
    """The loop that has tangents beside its values; which carries have one; where the tangent of each result stands."""
    body, m, c = _body(spec), spec.consts, spec.carries
    ins, outs = body.inputs, body.outputs
    moving = list(flags)
    while True:
        into = {i: placeholder(i.aval) for i, f in zip(ins, moving) if f}
        values, found = both(outs, into)
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
                 [*values[:c], *ends, *values[c:], *[_or_zeros(found[k], outs[k]) for k in stacked]])
    at = {j: c + i for i, j in enumerate(carried)} | {k: len(outs) + len(carried) + i for i, k in enumerate(stacked)}
    consts = m + sum(flags[:m])
    if isinstance(spec, Scan):
        return scan_spec(made, spec.length, consts, c + len(carried), spec.reverse), carried, at
    test = spec.bodies[0]
    beside = [[placeholder(i.aval) for i in part if i in into] for part in (ins[:m], ins[m:])]
    asked = Graph([*test.inputs[:m], *beside[0], *test.inputs[m:], *beside[1]], test.outputs)
    return while_spec(asked, made, consts), carried, at


def _counted_tangents(spec: Counted, flags: tuple[bool, ...], both: Both) -> tuple[Counted, dict[int, int]]:
    """The loops that give tangents beside their values, and where that of each result stands."""
    body = spec.bodies[0]
    into = {i: placeholder(i.aval) for i, f in zip(body.inputs, flags) if f}
    values, found = both(body.outputs, into)
    there = [k for k, t in enumerate(found) if t is not None]
    graph = Graph([*body.inputs, *into.values()], [*values, *[_or_zeros(found[k], values[k]) for k in there]])
    return counted_spec(graph), {k: len(values) + j for j, k in enumerate(there)}


def _body(spec: Scan | While) -> Graph:
    """One turn."""
    return spec.body if isinstance(spec, Scan) else spec.bodies[1]


def _branch_tangents(spec: Branch, flags: tuple[bool, ...], both: Both) -> tuple[Branch | None, dict[int, int]]:
    """The choice between the tangents of the two sides, and where that of each result stands."""
    sides = []
    for body in spec.bodies:
        into = {i: placeholder(i.aval) for i, f in zip(body.inputs, flags) if f}
        sides.append((body, into, both(body.outputs, into)[1]))
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
    if isinstance(spec, Counted):
        whole, which = _known(key, lambda: _counted_examples(spec, flags, size, batch))
        out = node(n.prim, (_most(ins[0], size) if flags[0] else ins[0], *ins), (whole, k))
        return out if which[k] else spread(out, size)
    if isinstance(spec, Scan) and spec.counts(0) and flags[0]:
        spec, ins, flags = _till_all_end(spec, ins, flags, size)
        k += k >= spec.carries - 1
        key = ("examples", spec, flags, size)
    loop, carried, many = _known(key, lambda: _loop_examples(spec, flags, size, batch, spread))
    m, c = spec.consts, spec.carries
    starts = [spread(i, size) if j in carried and not f else i
              for j, (i, f) in enumerate(zip(ins[m:m + c], flags[m:m + c]))]
    slices = [_swapped(i) if f else i for i, f in zip(ins[m + c:], flags[m + c:])]
    out = node(n.prim, (*ins[:m], *starts, *slices), (loop, k))
    if not many[k]:
        return spread(out, size)
    return out if k < c else _swapped(out)


def _loop_examples(spec: Scan | While, flags: Sequence[bool], size: int, batch: Batch,
                   spread: Spread) -> tuple[Scan | While, set[int], list[bool]]:
    """The loop for many examples; which carries have their axis; which results do.  A `while` whose examples end at different
    turns goes on until all have ended, and those that have stay as they are."""
    body, m, c = _body(spec), spec.consts, spec.carries
    asked = [] if isinstance(spec, Scan) else substitute(spec.bodies[0].outputs, dict(zip(spec.bodies[0].inputs, body.inputs)))
    many = list(flags)
    while True:
        into = {i: placeholder(spread(i, size).aval) for i, f in zip(body.inputs, many) if f}
        found = batch([*body.outputs, *asked], into, size)
        differs = bool(asked) and found[-1][1]
        more = [j for j in range(c) if (found[j][1] or differs) and not many[m + j]]
        if not more:
            break
        for j in more:
            many[m + j] = True
    ends = found[:len(body.outputs)]
    outs = [spread(o, size) if k < c and many[m + k] and not f else o for k, (o, f) in enumerate(ends)]
    ins = [into.get(i, i) for i in body.inputs]
    carried = {j for j in range(c) if many[m + j]}
    results = [many[m + k] if k < c else f for k, (_, f) in enumerate(ends)]
    if isinstance(spec, Scan):
        return scan_spec(Graph(ins, outs), spec.length, m, c, spec.reverse), carried, results
    test = found[-1][0]
    if differs:
        outs = [P.where(_over_all(test, o), o, i) for o, i in zip(outs, ins[m:])]
        test = P.max(test, (0,)) if size else full(False, (), test.dtype)
    return while_spec(Graph(ins, [test]), Graph(ins, outs), m), carried, results


def _counted_examples(spec: Counted, flags: Sequence[bool], size: int, batch: Batch) -> tuple[Counted, list[bool]]:
    """The loops for many examples; which results have their axis."""
    body = spec.bodies[0]
    into = {i: placeholder(aval((size, *i.shape), i.dtype, i.aval.device)) for i, f in zip(body.inputs, flags) if f}
    found = batch(body.outputs, into, size)
    outs, most = [o for o, _ in found], placeholder(aval((), int64))
    if flags[0]:
        outs = substitute(outs, {_most(into[body.inputs[0]], size): most})
    return counted_spec(Graph([most, *[into.get(i, i) for i in body.inputs]], outs)), [f for _, f in found]


def _most(turns: Node, size: int) -> Node:
    """How many turns the example with the most of them has."""
    return P.max(turns, (0,)) if size else full(0, (), int64)


def _till_all_end(spec: Scan, ins: Sequence[Node], flags: Sequence[bool],
                  size: int) -> tuple[Scan, list[Node], tuple[bool, ...]]:
    """A loop whose examples differ in how many turns they have: it has the most of them, and in turns that an example does not
    have its carries stay as they are.  The loop, its inputs, and which of them have the axis of examples."""
    many = spec.consts + spec.carries
    most = _most(ins[0], size)
    first = P.sub(most, const(1, int64)) if spec.reverse else const(0, int64)
    takes = [most, *ins[:many], first, *ins[many:]]
    return _known(("own turns", spec), lambda: _own_turns(spec)), takes, (False, *flags[:many], False, *flags[many:])


def _own_turns(spec: Scan) -> Scan:
    """The loop with one more constant, how many turns are to count, and one more carry, the number of this turn."""
    m, c, ins, outs = spec.consts, spec.carries, spec.body.inputs, spec.body.outputs
    turns, t = [placeholder(aval((), int64)) for _ in range(2)]
    now = P.lt(t, turns)
    kept = [P.where(spread_over(now, o.shape), o, i) for o, i in zip(outs[:c], ins[m:])]
    after = P.add(t, const(-1 if spec.reverse else 1, int64))
    graph = Graph([ins[0], turns, *ins[1:m + c], t, *ins[m + c:]], [*kept, after, *outs[c:]])
    return scan_spec(graph, SOME, m + 1, c + 1, spec.reverse)


def _over_all(mask: Node, n: Node) -> Node:
    """A choice for each example, spread over what it chooses."""
    return P.expand(P.reshape(mask, (n.shape[0],) + (1,) * (n.ndim - 1)), n.shape)


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
    return P.where(_over_all(ins[0], yes), yes, no)


def _over(body: Graph, k: int, fixed: Sequence[Node], into: dict[Node, Node]) -> Node:
    """Output k with the inputs that all examples share in their place."""
    return substitute([body.outputs[k]], {i: into[i] for i in fixed})[0]
