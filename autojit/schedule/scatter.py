"""Adding at places that are data: kernels of their own, in an order that never changes.

In: an index_add or scatter_add node.  Out: the goals that lay down the first operand, and those that add the values to
it.  Few indices a row are a select in any kernel instead (`Lowering`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..dtypes import float32, float64
from ..ir.graph import Node
from .axes import operands
from .loops import Buffer
from .lower import Lowering
from .stages import Goal
from .tasks import Memory

MANY = 64                          # values for each place from which they are added up in float64
FEW = 4                            # indices a row up to which a select is better


def is_cut_scatter(n: Node) -> bool:
    if n.op == "index_add":
        return operands(n)[1].aval.size > FEW
    if n.op == "scatter_add":
        a, i, _ = operands(n)
        (axis,) = n.params
        return i.shape[axis] > FEW or any([p != q for d, (p, q) in enumerate(zip(a.shape, i.shape)) if d != axis])
    return False


def scatter_goals(low: Lowering, n: Node, out: Buffer, new: Callable[[str, Any, int], Buffer]) -> list[list[Goal]]:
    """Goals that store the first operand, then goals that add the values.  Where many float32 values share a place, they
    are added up in float64, and a third list stores the sums."""
    a, _, v = operands(n)
    if n.dtype is not float32 or v.aval.size < MANY * n.aval.size:
        return list(_added(low, n, out))
    wide = new("temp", float64, out.size)
    base, added = _added(low, n, wide)
    base = [replace(g, expr=low.scalars.apply("cast", (g.expr,), (), float64)) for g in base]
    added = [replace(g, expr=low.scalars.apply("cast", (g.expr,), (), float64)) for g in added]
    last = []
    for g in base:
        total = low.scalars.load(wide, g.memory.index, g.memory.shape, ())
        last.append(Goal(g.ranges, low.scalars.apply("cast", (total,), (), float32), replace(g.memory, buffer=out)))
    return [base, added, last]


def first_goals(low: Lowering, n: Node, out: Buffer) -> list[Goal]:
    """Goals that store the first operand."""
    a, layout = operands(n)[0], low.frame.layouts[n]
    return [Goal(tuple([t for ix in point for t, _ in ix.terms]), low.value(a, low.same(n, a, point)),
                 Memory(out, point, layout.extents)) for point in low.points(layout, range(len(layout.axes)), 0)]


def _added(low: Lowering, n: Node, out: Buffer) -> tuple[list[Goal], list[Goal]]:
    _, i, v = operands(n)
    (axis,) = n.params
    layout = low.frame.layouts[n]
    base = first_goals(low, n, out)
    added: list[Goal] = []
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
