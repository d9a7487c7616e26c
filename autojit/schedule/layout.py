"""Layouts of short rows: how a kernel's rows are arranged where their own loops are too short to vectorise.

In: the tasks of a kernel and its parallel range.  Out: a `Layout` that the deciding of `passes.py` asks, or None.  Both
kinds work on runs of rows whose values between passes stand in arrays over the run.

block   row ends in dear scalars: first all row reductions of a run, then all its row scalars (which vectorise over the
        rows), then what has loops of its own
lanes   every inner loop is tiny: the rows of a run become the innermost loop of everything
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cost import DEAR, Target, stride
from .index import Range
from .scalar import E

if TYPE_CHECKING:
    from .nest import Task
    from .passes import Decider, Plan

ROWS = 1024                        # rows from which runs pay
SHORT = 256                        # turns of all inner loops together up to which a row counts as short


@dataclass(frozen=True, slots=True)
class Layout:
    """kind: block or lanes; `rows`: the range that is cut into runs."""

    kind: str
    rows: Range

    def visit(self, e: E, t: Task, inside: int, plan: Plan, decider: Decider) -> list[Task] | None:
        """The tasks that compute `e` into an array before `t` needs it; None if it takes its ordinary way."""
        if not inside & self.rows.bit:
            return None
        if self.kind == "lanes":
            if e.op == "red":
                return decider.accumulated(e, inside, plan, outer=inside & ~self.rows.bit)
            if e.op == "load" and stride(e, self.rows) > 1 and not e.args:
                return decider.table(e, inside, plan)
            return None
        if inside != self.rows.bit or e.op in ("load", "index", "inside"):
            return None
        deep = len(t.ranges) > 1 or t.own and t.expr.op == "red"
        return decider.table(e, inside, plan) if e.op == "red" or deep else None

    def group(self, t: Task) -> int:
        """Tasks of different groups do not share a loop over the rows."""
        return int(self.kind == "block" and (len(t.ranges) > 1 or t.own and t.expr.op == "red"))


def choose(tasks: list[Task], p: Range, decider: Decider, target: Target) -> Layout | None:
    """The layout for a kernel with these tasks, parallel over p."""
    if p.hi + 1 < ROWS:
        return None
    inner, dear, seen = 0, False, set()
    stack = [t.expr for t in tasks]
    for t in tasks:
        for r in t.ranges:
            inner |= r.bit
    while stack:
        e = stack.pop()
        if e in seen or not e.free & p.bit and not (e.op == "red" and p in e.params[1]):
            continue
        seen.add(e)
        inner |= e.free
        if e.op == "red":
            for r in e.params[1]:
                inner |= r.bit
        elif e.free == p.bit and e.own >= DEAR:
            dear = True
        stack.extend(e.args)
    inner &= ~p.bit
    if not dear or not inner:
        return None
    if max([r.hi + 1 for r in decider.space.members(inner)]) <= target.lanes:
        return Layout("lanes", p)
    return Layout("block", p) if decider.space.points(inner) <= SHORT else None
