"""Values that are put together from many pieces: long concats, and long sums of pads (the gradient of taking slices).

In: a graph's nodes.  Out: which nodes are better stored piece by piece, and the goals of each piece.  As one expression
every element would ask every piece; as stores each piece is visited once.  Pieces go a few to a kernel, so that a longer
loop in the user's program gives more steps and not another text.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import FLOAT
from ..ir.graph import Node
from .axes import PIECES, operands
from .index import Ix, Size
from .loops import Buffer
from .lower import Lowering
from .scalar import E
from .stages import Goal
from .tasks import Memory

GROUP = 8                          # pieces in one kernel


class PadSum:
    """A tree of additions with many pads among its leaves.  `inside`: its nodes that nobody else needs."""

    __slots__ = ("pads", "others", "inside")

    def __init__(self, root: Node, uses: dict[Node, int], uniform: set[Node]) -> None:
        self.pads: list[Node] = []
        self.others: list[Node] = []
        self.inside: list[Node] = []
        stack = [root]
        while stack:
            n = stack.pop()
            if n is not root and uses[n] > 1 or n.op not in ("add", "pad") or n.op == "pad" and operands(n)[0] in uniform:
                self.others.append(n)
                continue
            if n is not root:
                self.inside.append(n)
            if n.op == "pad":
                self.pads.append(n)
            else:
                stack += reversed(operands(n))


def pad_sums(order: Sequence[Node], uses: dict[Node, int], uniform: set[Node]) -> dict[Node, PadSum]:
    """The long sums of pads, by the node that is the whole sum."""
    count: dict[Node, int] = {}
    joined: set[Node] = set()
    for n in order:
        if n.op != "add" or n.dtype.category != FLOAT or n in uniform:
            continue
        total = 0
        for i in operands(n):
            if uses[i] == 1 and (i in count or i.op == "pad"):
                total += count.get(i, 1)
                joined.add(i)
        if total:
            count[n] = total
    return {n: PadSum(n, uses, uniform) for n, c in count.items() if c > PIECES and n not in joined}


def grouped(pieces: Sequence[Node], size: int = GROUP) -> list[Sequence[Node]]:
    return [pieces[k:k + size] for k in range(0, len(pieces), size)]


def concat_goals(low: Lowering, n: Node, out: Buffer, first: int, pieces: Sequence[Node]) -> list[Goal]:
    """Stores of some operands of a concat; the first of them lies at `first`."""
    (axis,) = n.params
    goals, at = [], first
    for k, x in enumerate(pieces):
        if x.aval.size:
            goals += _piece(low, x, n, out, {axis: (Size(at, ("piece", k)), 1)}, None)
        at += x.shape[axis]
    return goals


def base_goals(low: Lowering, n: Node, tree: PadSum, out: Buffer) -> list[Goal]:
    """What is not a pad, or zero, everywhere."""
    layout = low.frame.layouts[n]
    goals = []
    for point in low.points(layout, range(len(layout.axes)), 0):
        value: E = low.scalars.const(0, n.dtype)
        for k, x in enumerate(tree.others):
            v = low.value(x, low.same(n, x, point))
            value = low.scalars.add(value, v) if k else v
        goals.append(Goal(_ranges(point), value, Memory(out, point, layout.extents)))
    return goals


def pad_goals(low: Lowering, n: Node, out: Buffer, pads: Sequence[Node]) -> list[Goal]:
    """Additions of some pads into the sum."""
    goals = []
    for k, p in enumerate(pads):
        (x,) = operands(p)
        starts, shape, steps = p.params
        if x.aval.size:
            places = {d: (Size(starts[d], ("piece", k, d)) if starts[d] else 0, steps[d]) for d in range(len(shape))
                      if x.shape[d] != shape[d]}
            goals += _piece(low, x, n, out, places, "sum")
    return goals


def _piece(low: Lowering, x: Node, n: Node, out: Buffer, moved: dict[int, tuple[int, int]], op: str | None) -> list[Goal]:
    """x stored into n's buffer, along the dimensions in `moved` from a start by a step."""
    layout, goals = low.frame.layouts[x], []
    dims = [-1 if d in moved else d for d in range(len(n.shape))]
    for point in low.points(layout, range(len(layout.axes)), 0):
        places = {d: low.space.shift(low.space.scale(low.along(x, point, d), step), start)
                  for d, (start, step) in moved.items()}
        index = low.moved(x, n, point, dims, places)
        goals.append(Goal(_ranges(point), low.value(x, point), Memory(out, index, low.frame.layouts[n].extents), op))
    return goals


def _ranges(point: Sequence[Ix]) -> tuple:
    return tuple([t for ix in point for t, _ in ix.terms])
