"""Random numbers are drawn where they are read, not in a kernel of their own before.

In: a graph's nodes in order, and how many cuts stand below each (`level`).  Out: higher levels for draws, and for what is made
of them alone: those of their first readers.  What later kernels read too is kept, as everything that is dear.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ir.graph import Node
from ..ir.primitive import ELEMENTWISE, MOVEMENT
from .axes import operands

DRAWN = "philox"
SMALL = 16                         # elements of what may be read again anywhere: keys of generators


def sink(order: Sequence[Node], level: dict[Node, int], cuts: Collection[Node], uniform: Collection[Node],
         fixed: Collection[Node]) -> None:
    """`cuts`: what finds its operands in memory.  `fixed`: nodes whose level is not to be changed (outputs, parts of steps)."""
    if not any([n.op == DRAWN for n in order]):
        return
    drawn: set[Node] = set()
    light: set[Node] = set()                               # made of indices and numbers, so it can be had anywhere
    for n in order:
        if n in uniform or n.op == "iota" or n.aval.size <= SMALL and level[n] == 0:
            light.add(n)
        elif n.prim.kind in (ELEMENTWISE, MOVEMENT) and level[n] == 0 and n not in fixed and \
                all([i in light or i in drawn for i in operands(n)]):
            (drawn if n.op == DRAWN or any([i in drawn for i in operands(n)]) else light).add(n)
    first: dict[Node, int] = {}
    for n in reversed(order):
        if n in drawn:
            level[n] = first.get(n, 0)
        at = level[n] - (n in cuts)
        for i in operands(n):
            if i in drawn:
                first[i] = min(first.get(i, at), at)
