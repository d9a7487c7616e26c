"""What a GPU keeps in memory between kernels: little, since memory is what its kernels wait for.

In: nodes in order, which of them are read by later kernels, which are in memory anyway.  Out: those to be kept.  A value that
few operations make of one or two large arrays, and of numbers that rows have in common (sums, maxima), is made again; then
these numbers are kept in its place.  Never decides where kernels begin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..ir.graph import Node
from ..ir.primitive import CONTRACT, REDUCE
from .axes import operands

AGAIN = 40                         # operations up to which a value is made again
MANY = 8                           # arrays of any size from which nothing is made again
ARRAYS = 2                         # large arrays that it may be made of
SMALL = 8                          # how many times less elements a sum has that is kept in place of what is made of it


NONE: frozenset[Node] = frozenset()


class _Making:
    """How a value is made: the nodes on the way (None: too many), the large arrays that it reads, and the sums that stand in
    memory instead of being made."""

    __slots__ = ("way", "arrays", "sums")

    def __init__(self, way: frozenset[Node] | None, arrays: frozenset[Node], sums: frozenset[Node]) -> None:
        self.way, self.arrays, self.sums = way, arrays, sums


def kept(order: Sequence[Node], wanted: Collection[Node], late: Collection[Node], here: Callable[[Node], bool],
         uniform: Collection[Node]) -> list[Node]:
    """The nodes to keep, in order: all that is `wanted`, and what is read `late` and would be dear to make again.  `here`: is
    it in memory without being kept, or never a value of its own?"""
    made: dict[Node, _Making] = {}
    out: set[Node] = set()
    for n in order:
        if n in uniform or here(n):
            made[n] = _Making(NONE, NONE if n in uniform else frozenset((n,)), NONE)
            if n in wanted and not here(n):
                out.add(n)
            continue
        ins = [made[i] for i in operands(n) if i in made]
        way, arrays = _way(n, ins), NONE.union(*[m.arrays for m in ins])
        sums = NONE.union(*[m.sums for m in ins])
        if way is None or len(arrays) > MANY:               # never made again: what it is made of need not be known
            way, arrays, sums = None, NONE, NONE
        reduced = n.prim.kind in (REDUCE, CONTRACT)
        if n in wanted or n in late and (reduced or way is None or _large(arrays, n) > ARRAYS):
            out.add(n)
            made[n] = _Making(NONE, frozenset((n,)), NONE)
        elif reduced:
            small = SMALL * n.aval.size <= max([i.aval.size for i in operands(n)])
            made[n] = _Making(NONE, NONE, frozenset((n,))) if small else _Making(None, arrays, sums)
        else:
            made[n] = _Making(way, arrays, sums)
            if n in late:
                out |= sums
    return [n for n in order if n in out]


def _way(n: Node, ins: Sequence[_Making]) -> frozenset[Node] | None:
    """The nodes that make n, itself included, unless they are too many operations."""
    way = {n}
    for m in ins:
        if m.way is None:
            return None
        way |= m.way
    return frozenset(way) if sum([x.prim.cost for x in way]) <= AGAIN else None


def _large(arrays: Collection[Node], n: Node) -> int:
    return sum([2 * i.aval.size >= n.aval.size for i in arrays])
