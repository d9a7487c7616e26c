"""Sub-graphs put in the place of their calls: what lets a forward and its reverse pass share one schedule.

In: a Graph with `call` nodes (nested too).  Out: the same without.  Never copies a body whose results nobody uses.
"""

from __future__ import annotations

from typing import Any

from ..ir.graph import Graph, Node, node, substitute
from ..ir.primitive import Primitive


def inline(graph: Graph) -> Graph:
    """`graph` with every call replaced by its body; one body over equal inputs is put in once."""
    if not any(n.op == "call" for n in graph.order):
        return graph
    bodies: dict[Any, list[Node]] = {}

    def build(prim: Primitive, ins: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        if prim.name != "call":
            return node(prim, ins, params)
        body, k = params
        key = (id(body), ins)
        if key not in bodies:
            bodies[key] = body.inline(ins, build)
        return bodies[key][k]

    env: dict[Node, Node] = {i: i for i in graph.inputs}
    return Graph(graph.inputs, substitute(graph.outputs, env, build))
