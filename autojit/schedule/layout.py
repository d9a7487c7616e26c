"""Layouts of rows: how a kernel's loops are arranged, and what each way costs.

In: scalars and tasks of a kernel, its parallel range.  Out: `Estimate`, what the kernel costs as plain loops, in blocks or
in lanes, and the cheapest `Layout` that the deciding of `passes.py` asks, or None for plain loops.  Runs are of rows whose
values between passes stand in arrays over the run.

block   first all row reductions of a run, then all its row scalars (which vectorise over the rows), then what has loops
        of its own
lanes   the rows of a run become the innermost loop of everything

What decides is what LLVM can make vectors of: innermost loops of enough turns over neighbouring elements, in which no other
loop stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .cost import DEAR, JUMP, LANES, STRIDED, Target, distance, stride, turns
from .index import Ix, Range, Space, mask_of
from .scalar import E
from .tasks import Task

ROWS = 256                         # rows from which runs pay
LOOP = 6                           # vector operations that a reduction costs beside its terms
GATHER = 16                        # what a place costs that lanes reach one by one
BETTER = 0.9                       # a layout must cost at most this share of the plain loops
CACHE = 1 << 18                    # bytes that the arrays of a run may take


@dataclass(frozen=True, slots=True)
class Layout:
    """kind: block or lanes; `rows`: the range that is cut into runs of `length`."""

    kind: str
    rows: Range
    length: int

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


@dataclass(slots=True)
class Sink:
    """Where a scalar goes: to `index` of an array for all points of `mask`, or added there over the parallel range."""

    mask: int
    expr: E
    index: tuple[Ix, ...] = ()
    shape: tuple[int, ...] = ()
    summed: bool = False


class Estimate:
    """What a kernel parallel over p costs as `plain` loops, in `block`s and in `lanes`: in operations of which a vector does
    LANES at once, so that a loop of perfect vectors costs one for each point."""

    def __init__(self, sinks: Iterable[Sink], p: Range, order: dict[int, int], space: Space, chunks: int) -> None:
        self.space, self.p, self.order, self.chunks = space, p, order, chunks
        self.rows = p.usual
        self.plain = self.block = self.lanes = 0.0
        self.scalars = 0.0                                  # operations on row scalars
        self.bytes = 0                                      # of the arrays of a run, for each of its rows
        self.nested = False                                 # does any loop stand inside that over the rows?
        self._chains: dict[tuple[E, Range], int] = {}
        seen: set[E] = set()
        for sink in sinks:
            self._sink(sink)
            self._walk(sink.expr, seen)
        rows = self.scalars * self.rows
        self._add(rows * (LANES if self.nested else 1), rows * (1 if self.nested else LANES), rows)

    def ways(self, target: Target) -> list[tuple[float, Layout | None]]:
        """The layouts that can be had, None being plain loops, with their costs, the best first."""
        out: list[tuple[float, Layout | None]] = [(BETTER * self.plain, None)]
        if self.rows < ROWS or not self.nested:
            return out
        length = target.run
        while length > 4 * LANES and length * self.bytes > CACHE:
            length //= 2
        if length * self.bytes <= CACHE:                    # a lane pays for entering many short loops
            out.append((self.lanes * (1 + LANES / length), Layout("lanes", self.p, length)))
        out.append((self.block, Layout("block", self.p, target.run)))
        return sorted(out, key=lambda way: way[0])

    @property
    def cost(self) -> float:
        """What the best way costs."""
        return min(self.plain, self.block, self.lanes) if self.rows >= ROWS and self.nested else self.plain

    def _add(self, plain: float, block: float, lanes: float) -> None:
        self.plain, self.block, self.lanes = self.plain + plain, self.block + block, self.lanes + lanes

    def _sink(self, sink: Sink) -> None:
        mask, p = sink.mask & ~self.p.bit, self.p
        points = 2 * self.space.usual(mask) * self.rows
        apart = distance(sink.index, sink.shape, p)
        if not mask:
            near = float(points * (STRIDED if apart > JUMP else 1))
            self._add(near, near, near)
            return
        r = self.space.innermost(mask, self.order)
        each = points * (STRIDED if distance(sink.index, sink.shape, r) > JUMP else turns(r))
        if sink.summed:
            self._add(1.5 * each, 1.5 * each, points / LANES)
        else:
            self._add(each, each, points * (GATHER / 2 if apart > 1 else 1))

    def _walk(self, root: E, seen: set[E]) -> None:
        stack = [root]
        while stack:
            e = stack.pop()
            if e in seen or e.op == "const":
                continue
            seen.add(e)
            mask = e.free
            if e.op == "red":
                mask |= mask_of(e.params[1])
            if not mask & self.p.bit:
                each = float(e.own * self.space.usual(mask) * self.chunks)
                self._add(each, each, each)
            elif mask & ~self.p.bit:
                self._varying(e, mask & ~self.p.bit)
            elif e.op == "load":
                self._add(self.rows, self.rows, self.rows)
            else:
                self.scalars += 1 if e.op == "red" else e.own
            stack.extend(e.args)

    def _varying(self, e: E, inner: int) -> None:
        """A scalar that varies inside a row, or is reduced there."""
        points = self.space.usual(inner) * self.rows
        own = 1 if e.op == "red" else e.own
        r = self.space.innermost(inner, self.order)
        self.nested = True
        if e.op == "load" and not e.args and stride(e, r) > JUMP:
            plain = float(STRIDED * points)
        elif e.op != "red" and e.chain and self._chain(e, r) == e.chain:
            plain = float(own * points * LANES)             # a reduction's loop stands in the loop over r
        else:
            plain = own * points * turns(r)
        if e.op == "red":
            plain += LOOP * LANES * points / r.usual
        self._add(plain, plain, own * points + self._array(e, inner))

    def _array(self, e: E, inner: int) -> float:
        """What lanes pay for a value that goes to an array over the run."""
        if e.op == "red":
            if not e.free & self.p.bit:
                return 0.0
            self.bytes += self.space.usual(e.free & ~self.p.bit) * e.dtype.itemsize
            return 2.0 * self.space.usual(inner) * self.rows
        packed = e.op == "load" and not e.args and stride(e, self.p) > 1
        if not packed and e.own < DEAR:
            return 0.0
        points = self.space.usual(inner)
        self.bytes += points * e.dtype.itemsize
        return float((GATHER if packed else 1) * points * self.rows)

    def _chain(self, root: E, r: Range) -> int:
        """How many reductions stand one inside the other in the deepest one that the scalar needs and r varies."""
        memo, stack = self._chains, [root]
        while stack:
            e = stack[-1]
            if (e, r) in memo:
                stack.pop()
            elif not e.free & r.bit or e.chain == 0:
                memo[e, r] = 0
            elif e.op == "red":
                memo[e, r] = e.chain
            else:
                todo = [a for a in e.args if (a, r) not in memo]
                if not todo:
                    memo[e, r] = max([memo[a, r] for a in e.args])
                stack.extend(todo)
        return memo[root, r]
