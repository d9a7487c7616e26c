"""Layouts of short rows: how a kernel's rows are arranged where their own loops are too short to vectorise.

In: the tasks of a kernel and its parallel range.  Out: a `Layout` that the deciding of `passes.py` asks, or None.  Both
kinds work on runs of rows whose values between passes stand in arrays over the run.

block   row ends in dear scalars: first all row reductions of a run, then all its row scalars (which vectorise over the
        rows), then what has loops of its own
lanes   every inner loop is tiny: the rows of a run become the innermost loop of everything
"""

from __future__ import annotations

from dataclasses import dataclass

from .cost import DEAR, Target, stride
from .index import Range, Space
from .scalar import E
from .tasks import Task, mask_of

ROWS = 1024                        # rows from which runs pay
SHORT = 256                        # turns of all inner loops together up to which a row counts as short


@dataclass(frozen=True, slots=True)
class Layout:
    """kind: block or lanes; `rows`: the range that is cut into runs."""

    kind: str
    rows: Range

    def wish(self, e: E, t: Task, inside: int) -> str | None:
        """How a value that `t` needs gets into an array of the run before: "table" (computed), "accumulate" (summed up there),
        or None if it takes its ordinary way."""
        if not inside & self.rows.bit:
            return None
        if self.kind == "lanes":
            if e.op == "red":
                return "accumulate"
            return "table" if e.op == "load" and not e.args and stride(e, self.rows) > 1 else None
        if inside != self.rows.bit or e.op in ("load", "index", "inside"):
            return None
        return "table" if e.op == "red" or self._deep(t) else None

    def group(self, t: Task) -> int:
        """Tasks of different groups do not share a loop over the rows."""
        return int(self.kind == "block" and self._deep(t))

    def _deep(self, t: Task) -> bool:
        """Has the task loops inside a row?"""
        return len(t.ranges) > 1 or t.own and t.expr.op == "red"


def choose(tasks: list[Task], p: Range, space: Space, target: Target) -> Layout | None:
    """The layout for a kernel with these tasks, parallel over p."""
    if p.hi + 1 < ROWS:
        return None
    inner, dear, seen = 0, False, set()
    stack = [t.expr for t in tasks]
    for t in tasks:
        inner |= mask_of(t.ranges)
    while stack:
        e = stack.pop()
        if e in seen or not e.free & p.bit and not (e.op == "red" and p in e.params[1]):
            continue
        seen.add(e)
        inner |= e.free
        if e.op == "red":
            inner |= mask_of(e.params[1])
        elif e.free == p.bit and e.own >= DEAR:
            dear = True
        stack.extend(e.args)
    inner &= ~p.bit
    if not dear or not inner:
        return None
    if max([r.hi + 1 for r in space.members(inner)]) <= target.lanes:
        return Layout("lanes", p)
    return Layout("block", p) if space.points(inner) <= SHORT else None
