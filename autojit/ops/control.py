"""`call`: a sub-graph as one node.  A traced function stands in the graph as such nodes, one for each result.

A node's params are (SubGraph, k): the k-th output of the sub-graph over the node's inputs.  The compiler puts the body in its
place before anything else; the tape and its keys see one node however long the body is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, memory
from ..ir.aval import Aval
from ..ir.graph import Graph, Node, linearise, placeholder, substitute
from ..ir.primitive import HOST
from .declare import P, primitive

Reverse = Callable[[Sequence[Node], Sequence[Node | None], Sequence[Node]], list[Node | None]]
_reverse: list[Reverse] = []


def set_reverse(f: Reverse) -> None:
    """The reverse pass announces itself here: rules live below it."""
    _reverse[:] = [f]


Pull = tuple["SubGraph", list[int], list[int | None]]     # graph, the inputs it reads, which result each input gets


class SubGraph:
    """A Graph that other graphs call, and its reverse graphs, each made once."""

    __slots__ = ("graph", "name", "refuse", "_pulls")

    def __init__(self, graph: Graph, name: str = "call") -> None:
        self.graph, self.name = graph, name
        self.refuse: str | None = None
        self._pulls: dict[int, Pull] = {}

    def pull(self, k: int) -> Pull:
        """The graph (inputs that it reads..., ct of output k) -> cotangents."""
        if self.refuse is not None:
            raise RuntimeError(self.refuse)
        if k not in self._pulls:
            out = self.graph.outputs[k]
            ct = placeholder(out.aval)
            wanted = [i for i in self.graph.inputs if i.dtype.category >= FLOAT]
            grads = _reverse[0]([out], [ct], wanted)
            outs = [g for g in grads if g is not None]
            by_input = dict(zip(wanted, grads))
            place = {id(g): j for j, g in enumerate(outs)}
            where = [None if by_input.get(i) is None else place[id(by_input[i])] for i in self.graph.inputs]
            self.preset_pull(k, self.graph.inputs, ct, outs, where)
        return self._pulls[k]

    def preset_pull(self, k: int, inputs: Sequence[Node], ct: Node, grads: Sequence[Node], where: list[int | None],
                    refuse: str | None = None) -> None:
        """The reverse of output k, perhaps as somebody else derived it: `grads` over the graph's inputs and a cotangent;
        `where`: which of them belongs to each input.  `refuse`: why that reverse itself has no derivative."""
        reached = set(linearise(grads))
        reads = [j for j, i in enumerate(inputs) if i in reached]
        made = SubGraph(Graph([*[inputs[j] for j in reads], ct], grads), self.name + "_vjp")
        made.refuse = refuse
        self._pulls[k] = (made, reads, where)

    def inline(self, inputs: Sequence[Node], build: Any) -> list[Node]:
        """Its outputs over `inputs`."""
        env = dict(zip(self.graph.inputs, inputs))
        return substitute(self.graph.outputs, env, build)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.graph.order)} nodes>"


def _infer(*more: Any) -> Aval:
    *_, body, k = more
    return body.graph.outputs[k].aval  # type: ignore[no-any-return]


def _ref(*more: Any) -> Any:
    *arrays, body, k = more
    values: dict[Node, Any] = dict(zip(body.graph.inputs, arrays))
    for n in body.graph.order:
        if n not in values:
            args = [values[i.real or i] for i in n.inputs]
            values[n] = memory(n.data, n.dtype) if n.op == "const" else n.prim.ref(*args, *n.params)
    return values[body.graph.outputs[k]]


def _vjp(ct: Node, out: Node, *more: Any) -> list[Node | None]:
    *inputs, body, k = more
    reverse_body, reads, where = body.pull(k)
    given = [*[inputs[j] for j in reads], ct]             # no more: what is not read may change before the reverse pass
    return [None if j is None else P.call(given, reverse_body, j) for j in where]


primitive("call", HOST, _infer, _ref, _vjp, doc="Output k of a sub-graph.")

