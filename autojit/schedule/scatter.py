"""Adding at places that are data: kernels of their own, in an order that never changes.

In: an index_add or scatter_add node.  Out: the goals that lay down the first operand, and those that add the values to
it.  Few indices a row are a select in any kernel instead (`Lowering`).
"""

from __future__ import annotations

from ..ir.graph import Node
from .axes import operands
from .loops import Buffer
from .lower import Lowering
from .stages import Goal
from .tasks import Memory

FEW = 4                            # indices a row up to which a select is better


def is_cut_scatter(n: Node) -> bool:
    if n.op == "index_add":
        return operands(n)[1].aval.size > FEW
    if n.op == "scatter_add":
        a, i, _ = operands(n)
        (axis,) = n.params
        return i.shape[axis] > FEW or any([p != q for d, (p, q) in enumerate(zip(a.shape, i.shape)) if d != axis])
    return False


def scatter_goals(low: Lowering, n: Node, out: Buffer) -> tuple[list[Goal], list[Goal]]:
    """(goals that store the first operand, goals that add the values)."""
    a, i, v = operands(n)
    (axis,) = n.params
    layout = low.frame.layouts[n]
    base: list[Goal] = []
    added: list[Goal] = []
    for point in low.points(layout, range(len(layout.axes)), 0):
        ranges = tuple([t for ix in point for t, _ in ix.terms])
        base.append(Goal(ranges, low.value(a, low.same(n, a, point)), Memory(out, point, layout.extents)))
    if v.aval.size == 0:
        return base, added
    k = len(i.shape)
    spread = n.op == "index_add"
    inner = low.frame.layouts.get(v)
    for point in low.points(inner, range(len(inner.axes)), 0) if inner is not None else [()]:
        if spread:
            spot = low.moved(v, i, point, range(axis, axis + k), {}) if inner is not None else ()
            dims = [d if d < axis else -1 if d == axis else d + k - 1 for d in range(len(n.shape))]
        else:
            spot = low.same(v, i, point)
            dims = [-1 if d == axis else d for d in range(len(n.shape))]
        place = low.place(low.value(i, spot), n.shape[axis])
        places = {axis: place}
        if not spread:
            for d in range(len(n.shape)):
                if d != axis and n.shape[d] != v.shape[d]:
                    places[d], dims[d] = low.along(v, point, d), -1
        index = low.moved(v, n, point, dims, places) if inner is not None else (place,)
        ranges = tuple([t for ix in point for t, _ in ix.terms])
        added.append(Goal(ranges, low.value(v, point), Memory(out, index, layout.extents), "sum"))
    return base, added
