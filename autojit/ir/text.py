"""A graph as text: one line a node, stable from run to run, so that it can stand in a test."""

from __future__ import annotations

from typing import Any

from .graph import Graph
from .primitive import LEAF


def _param(p: Any) -> str:
    return repr(p).replace(" ", "")


def graph_text(graph: Graph) -> str:
    """``%2 = mul %0 %1 : f32[3]`` for each node; inputs first, results last."""
    number = {n: k for k, n in enumerate(graph.order)}
    lines = []
    for n in graph.order:
        if n.op == "const":
            what = f"const {n.data!r}"
        elif n.prim.kind == LEAF:
            what = "input" if n in graph.inputs else n.op
        else:
            words = [n.op, *[f"%{number[i.real or i]}" for i in n.inputs], *map(_param, n.params)]
            what = " ".join(words)
        lines.append(f"%{number[n]} = {what} : {n.aval}")
    lines.append("return " + " ".join([f"%{number[o]}" for o in graph.outputs]))
    return "\n".join(lines)
