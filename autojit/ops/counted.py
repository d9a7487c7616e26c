"""`counted`: a graph of loops over a number of turns that is known when it runs.

The reverse of a `while` is such a graph: a loop forward that keeps what the way back reads, and a loop backwards; so is the
reverse of that, to any order.  Inside, what all turns leave has SOME rows (`loops.py`); outside nothing has.  Only loops read
and write such values: they lie in memory made for the number of turns, when that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT
from ..ir.aval import aval
from ..ir.graph import Graph, Node, node, placeholder, substitute
from ..ir.primitive import ELEMENTWISE, HOST, LEAF, REGISTRY
from .declare import P, primitive
from .grouped import SOME, Cotangents, Run, group_key, hooks, programs
from .loops import SCAN, _infer, _ref, _vjp, interned, looks, own, pulled, reached, scan_spec


class Counted:
    """bodies[0]: (number of turns, ...) -> results, none of which has SOME rows."""

    __slots__ = ("bodies", "avals", "takes", "kept")
    base = None

    def __init__(self, graph: Graph) -> None:
        assert graph.inputs[0].shape == ()
        self.bodies = (graph,)
        self.avals = [o.aval for o in graph.outputs]
        self.takes = looks(graph.inputs)
        self.kept: dict[str, list[Run]] = {}

    def over(self, bodies: Sequence[Graph]) -> Counted:
        """The same with another text of its graph."""
        return counted_spec(bodies[0])

    def __repr__(self) -> str:
        return f"<loops of {sum([len(b.order) for b in self._loops()])} nodes>"

    def _loops(self) -> list[Graph]:
        return [s.body for s in dict.fromkeys([n.params[0] for n in self.bodies[0].order if n.op == "scan"])]

    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """All results, by NumPy."""
        return programs(self, "program")[0](arrays)

    def pruned(self, used: Sequence[int]) -> tuple[Counted, list[int], dict[int, int], dict[int, int]]:
        """As for `Scan`."""
        graph = self.bodies[0]
        outs = [graph.outputs[k] for k in used]
        seen = reached(outs)
        takes = [k for k, i in enumerate(graph.inputs) if i in seen or k == 0]
        spec = counted_spec(Graph([graph.inputs[k] for k in takes], outs))
        return spec, takes, {k: j for j, k in enumerate(used)}, {}

    def pull(self, inputs: Sequence[Node], cts: Cotangents) -> list[Node | None]:
        """The reverse of its graph: more loops over as many turns."""
        return pulled(self, COUNTED, inputs, cts)

    def back(self, given: tuple[int, ...]) -> tuple[Counted, list[int]]:
        """See `pulled`."""
        graph = self.bodies[0]
        outs = [graph.outputs[k] for k in given]
        cts = [placeholder(o.aval) for o in outs]
        floats = [k for k, i in enumerate(graph.inputs) if i.dtype.category >= FLOAT]
        found = dict(zip(floats, hooks["reverse"](outs, cts, [graph.inputs[k] for k in floats])))
        places = [k for k in floats if found[k] is not None]
        return counted_spec(Graph([*graph.inputs, *cts], [found[k] for k in places])), places


def counted_spec(graph: Graph) -> Counted:
    """The loops of this graph."""
    graph = _between(graph)
    return interned(("counted", graph.key), lambda: Counted(own(graph)))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- what stands between loops
def _many(n: Node) -> bool:
    """Has it SOME rows?"""
    return SOME in n.shape


def _between(graph: Graph) -> Graph:
    """The same where only loops read and make values of SOME rows: what stood between two loops is computed row by row, in the
    turn that reads it."""
    if not any([_many(n) and n.op != "scan" for n in graph.order]):
        return graph
    env: dict[Node, Node] = {i: i for i in graph.inputs}
    made: dict[Any, Callable[[int], Node]] = {}
    for n in graph.order:
        if n.prim.kind == LEAF:
            env[n] = n
        elif n.op == "scan" and n.params[0].length == SOME:
            key = group_key(n)
            if key not in made:
                made[key] = _reading(n, env)
            env[n] = made[key](n.params[1])
        elif not _many(n):
            env[n] = node(n.prim, tuple([env[i.real or i] for i in n.inputs]), n.params)
    return Graph(graph.inputs, [env[o] for o in graph.outputs])


def _reading(n: Node, env: dict[Node, Node]) -> Callable[[int], Node]:
    """The loop of n, with what its turns compute of the rows they read."""
    spec, ins = n.params[0], [i.real or i for i in n.inputs]
    m, c = spec.consts, spec.carries
    many = m + c
    rows = _Rows()
    slices = dict(zip(spec.body.inputs[many:], [rows.row(i, False) for i in ins[many:]]))
    outs = substitute(spec.body.outputs, dict(slices))
    head = spec.body.inputs
    takes = [*head[:m], *rows.fixed.values(), *head[m:many], *rows.slices.values()]
    loop = scan_spec(Graph(takes, outs), SOME, m + len(rows.fixed), c, spec.reverse)
    given = tuple([env[i] for i in [*ins[:m], *rows.fixed, *ins[m:many], *rows.slices]])
    return lambda k: node(SCAN, given, (loop, k))


class _Rows:
    """One row of values of SOME rows.  slices: the loops' results that it is made of; fixed: what all rows share."""

    def __init__(self) -> None:
        self.slices: dict[Node, Node] = {}
        self.fixed: dict[Node, Node] = {}
        self._known: dict[tuple[Node, bool], Node] = {}

    def row(self, n: Node, second: bool) -> Node:
        """`second`: the rows are its second axis (the first are examples)."""
        n = n.real or n
        key = (n, second)
        if key not in self._known:
            self._known[key] = self._row(n, second)
        return self._known[key]

    def _row(self, n: Node, second: bool) -> Node:
        shape = (*n.shape[:second], *n.shape[second + 1:])
        if n.op == "scan" and not second:
            return self.slices.setdefault(n, placeholder(aval(shape, n.dtype, n.aval.device)))
        ins = [i.real or i for i in n.inputs]
        if n.op == "permute" and n.params[0][:2] == (1, 0) and n.params[0] == (1, 0, *range(2, n.ndim)):
            return self.row(ins[0], not second)
        if n.prim.kind == ELEMENTWISE:
            return node(n.prim, tuple([self.row(i, second) for i in ins]), n.params)
        if n.op == "expand":
            inner = ins[0]
            if _many(inner) and inner.op == "reshape" and second and inner.shape[0] == 1:
                row = self.row(inner.inputs[0], False)
                return P.expand(P.reshape(row, (1, *row.shape)), shape)
            if not _many(inner):
                held = self.fixed.setdefault(inner, placeholder(inner.aval))
                return P.expand(P.reshape(held, (*inner.shape[:second], *inner.shape[second + 1:])), shape)
        raise RuntimeError(f"{n.op} of what all turns of a while_loop leave has no rule")


primitive("counted", HOST, _infer, _ref, _vjp, doc="Result k of loops over a number of turns that is known when they run.")
COUNTED = REGISTRY["counted"]
