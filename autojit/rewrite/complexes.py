"""Complex values as pairs of real ones: after `in_pairs` no node of a graph is complex.

In: a Graph.  Out: a Graph whose complex inputs and outputs are real ones with a last axis of 2, as they lie in memory; what
is between is a real and an imaginary part, each a value of its own, so that kernels fuse them as any others.  Never changes
what is computed: arithmetic on complex values was spelled in their parts when it was recorded (`ops.complexes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import COMPLEX
from ..ir.aval import aval
from ..ir.graph import Graph, Node, const, node, placeholder
from ..ir.primitive import LEAF
from ..ops.declare import P
from ..ops.grouped import GROUPED
from ..ops.movement import slice_axis
from .loops import settled


def _complex(n: Node) -> bool:
    return n.aval.dtype.category == COMPLEX


class _Pairs:
    """plain: the real nodes.  parts: complex ones as (real, imaginary).  whole: complex ones as they lie in memory.  A complex
    value has one of the two forms and is given the other when somebody asks for it."""

    def __init__(self) -> None:
        self.plain: dict[Node, Node] = {}
        self.parts: dict[Node, tuple[Node, Node]] = {}
        self.whole: dict[Node, Node] = {}
        self.specs: dict[Any, Any] = {}                   # of loops

    def pair(self, n: Node) -> tuple[Node, Node]:
        found = self.parts.get(n)
        if found is None:
            w, last = self.whole[n], n.ndim
            x, y = [P.reshape(slice_axis(w, last, k, k + 1), n.shape) for k in (0, 1)]
            found = self.parts[n] = x, y
        return found

    def memory(self, n: Node) -> Node:
        found = self.whole.get(n)
        if found is None:
            both = [P.reshape(x, (*n.shape, 1)) for x in self.parts[n]]
            found = self.whole[n] = P.concat(both, n.ndim)
        return found

    def visit(self, n: Node) -> None:
        inputs = [i.real or i for i in n.inputs]
        if n.prim.kind == LEAF:
            self._leaf(n)
        elif n.op in GROUPED:
            self._turned(n, inputs)
        elif n.op == "as_real":
            self.plain[n] = self.memory(inputs[0])
        elif n.op == "as_complex":
            self.whole[n] = self.plain[inputs[0]]
        elif n.op in ("real", "imag"):
            self.plain[n] = self.pair(inputs[0])[n.op == "imag"]
        elif n.op == "complex":
            self.parts[n] = self.plain[inputs[0]], self.plain[inputs[1]]
        elif not _complex(n):
            self.plain[n] = node(n.prim, tuple([self.plain[i] for i in inputs]), n.params)
        else:
            self._moved(n, inputs)

    def _turned(self, n: Node, inputs: Sequence[Node]) -> None:
        """What goes through a loop or branch does so as it lies in memory."""
        spec, k = n.params
        if spec not in self.specs:
            self.specs[spec] = spec.over([in_pairs(b) for b in spec.bodies])
        out = node(n.prim, tuple([self.memory(i) if _complex(i) else self.plain[i] for i in inputs]), (self.specs[spec], k))
        (self.whole if _complex(n) else self.plain)[n] = out

    def _leaf(self, n: Node) -> None:
        if not _complex(n):
            self.plain[n] = n
        elif n.op == "const":
            part = n.dtype.part
            self.parts[n] = const(n.data.real, part, n.aval.device), const(n.data.imag, part, n.aval.device)
        else:
            self.whole[n] = placeholder(aval((*n.shape, 2), n.dtype.part, n.aval.device))

    def _moved(self, n: Node, inputs: Sequence[Node]) -> None:
        """What moves, adds or chooses does the same to both parts."""
        ends = [self.pair(i) if _complex(i) else (self.plain[i],) * 2 for i in inputs]
        x, y = [node(n.prim, tuple([e[k] for e in ends]), n.params) for k in (0, 1)]
        self.parts[n] = x, y


def in_pairs(graph: Graph) -> Graph:
    """`graph` without complex nodes; itself if it has none."""
    if not any([_complex(n) for n in graph.order]):
        return graph
    graph = settled(graph)                                # loops that stand in for others are found by their complex bodies
    p = _Pairs()
    for n in graph.order:
        p.visit(n)

    def end(n: Node) -> Node:
        return p.memory(n) if _complex(n) else p.plain[n]

    return Graph([p.whole[i] if _complex(i) else i for i in graph.inputs], [end(o) for o in graph.outputs])
