"""The checker of graphs: run between the stages.  Raises VerifyError with the node and the reason; changes nothing."""

from __future__ import annotations

from ..errors import VerifyError
from .graph import Graph, infer
from .primitive import LEAF
from .text import graph_text


def verify_graph(graph: Graph, stage: str) -> None:
    """Every node's aval is what its primitive infers, inputs come before users, every leaf reached is an input."""
    inputs, seen = set(graph.inputs), set()
    for n in graph.order:
        if n.prim.kind == LEAF:
            if n.op != "const" and n not in inputs:
                raise VerifyError(f"after {stage}: {n!r} is no input of the graph\n{graph_text(graph)}")
        else:
            for i in n.inputs:
                if (i.real or i) not in seen:
                    raise VerifyError(f"after {stage}: {n!r} stands before its input {i!r}")
            a = infer(n.prim, n.inputs, n.params)
            if a is not n.aval:
                raise VerifyError(f"after {stage}: {n!r} says {n.aval}, its primitive infers {a}")
        seen.add(n)
