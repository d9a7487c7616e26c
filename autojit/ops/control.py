"""`call`: a sub-graph as one node.  A traced function stands in the graph as such nodes, one for each result.

A node's params are (SubGraph, k): the k-th output of the sub-graph over the node's inputs.  The compiler puts the body in its
place before anything else; the tape and its keys see one node however long the body is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOAT
from ..ir.aval import Aval
from ..ir.graph import Graph, Node, placeholder, substitute
from ..ir.primitive import HOST
from .declare import P, primitive

Reverse = Callable[[Sequence[Node], Sequence[Node | None], Sequence[Node]], list[Node | None]]
_reverse: list[Reverse] = []


def set_reverse(f: Reverse) -> None:
    """The reverse pass announces itself here: rules live below it."""
    _reverse[:] = [f]


class SubGraph:
    """A Graph that other graphs call, and its reverse graphs, each made once."""

    __slots__ = ("graph", "name", "refuse", "_pulls")

    def __init__(self, graph: Graph, name: str = "call") -> None:
        self.graph, self.name = graph, name
        self.refuse: str | None = None
        self._pulls: dict[int, tuple[SubGraph, list[int | None]]] = {}

    def pull(self, k: int) -> tuple[SubGraph, list[int | None]]:
        """The graph (inputs..., ct of output k) -> cotangents, and which of its outputs belongs to each input."""
        if self.refuse is not None:
            raise RuntimeError(self.refuse)
        found = self._pulls.get(k)
        if found is None:
            out = self.graph.outputs[k]
            ct = placeholder(out.aval)
            wanted = [i for i in self.graph.inputs if i.dtype.category >= FLOAT]
            grads = _reverse[0]([out], [ct], wanted)
            outs = [g for g in grads if g is not None]
            by_input = dict(zip(wanted, grads))
            place = {id(g): j for j, g in enumerate(outs)}
            where = [None if by_input.get(i) is None else place[id(by_input[i])] for i in self.graph.inputs]
            found = self._pulls[k] = (SubGraph(Graph([*self.graph.inputs, ct], outs), self.name + "_vjp"), where)
        return found

    def preset_pull(self, k: int, inputs: Sequence[Node], grads: Sequence[Node], where: list[int | None],
                    refuse: str | None = None) -> None:
        """The reverse of output k as somebody else derived it: over the graph's inputs and a cotangent.  `refuse`: why that
        reverse itself has no derivative."""
        made = SubGraph(Graph(inputs, grads), self.name + "_vjp")
        made.refuse = refuse
        self._pulls[k] = (made, where)

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
            values[n] = np.asarray(n.data) if n.op == "const" else n.prim.ref(*args, *n.params)
    return values[body.graph.outputs[k]]


def _vjp(ct: Node, out: Node, *more: Any) -> list[Node | None]:
    *inputs, body, k = more
    reverse_body, where = body.pull(k)
    return [None if j is None else P.call([*inputs, ct], reverse_body, j) for j in where]


primitive("call", HOST, _infer, _ref, _vjp, doc="Output k of a sub-graph.")

