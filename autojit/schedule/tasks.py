"""What a nest of loops has to do: tasks, the places in memory they fill, and the order loops stand in.

In: ranges, scalars.  Out: `Task`, `Memory`, and `Room`, which gives a kernel's tasks names, loop order and arrays.  Decides
nothing and builds no statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .index import Ix, Range, Space, mask_of
from .loops import Buffer
from .scalar import E, TooMuch


@dataclass(slots=True, unsafe_hash=True)
class Memory:
    """A place in memory, as scalars are indexed: a value that was kept there, or the target of a store."""

    buffer: Buffer
    index: tuple[Ix, ...]
    shape: tuple[int, ...]
    run: Range | None = None


@dataclass(slots=True, eq=False)
class Task:
    """Loop over `ranges`, compute `expr`, then store it (`memory`, with `op` into what is there), or add it to the register
    `name`, which becomes the value of the reduction `red`, or leave it in a register (neither, no ranges).  `opens`: the
    register begins here.  `own`: the task computes a kept value, `expr` itself."""

    ranges: tuple[Range, ...]
    expr: E
    memory: Memory | None = None
    op: str | None = None
    name: str = ""
    red: E | None = None
    opens: bool = True
    own: bool = False

    def inside(self) -> Task:
        """The task in the loop over its first range."""
        return Task(self.ranges[1:], self.expr, self.memory, self.op, self.name, self.red, False)


class Room:
    """Names, order and arrays of one kernel.  `order`: rank of each axis; `new`: makes a buffer."""

    def __init__(self, space: Space, order: dict[int, int], new: Callable[[str, Any, int], Buffer]) -> None:
        self.space, self.order, self.new = space, order, new
        self.first: Range | None = None                    # the parallel range, outermost
        self.last: Range | None = None                     # rows of a run, innermost
        self.rows: tuple[Range, int] | None = None         # the range cut into runs, and their length
        self.prefix = ""                                   # of all names: two nests of one kernel have different ones
        self.near = 0                                      # elements up to which an array has a literal size, its class's
        self._count: dict[str, int] = {}

    def name(self, prefix: str) -> str:
        k = self._count[prefix] = self._count.get(prefix, 0) + 1
        if k > self.space.most:
            raise TooMuch
        return f"{prefix}{k}{self.prefix}"

    def sort(self, mask: int) -> tuple[Range, ...]:
        """Ranges in the order their loops stand."""
        return tuple(sorted(self.space.members(mask), key=self.place))

    def place(self, r: Range) -> tuple[int, ...]:
        return (-1 if r is self.first else 1 if r is self.last else 0, r.k, self.order.get(r.axis, -1), r.uid)

    def array(self, e: E, mask: int, first: Range | None = None, dtype: Any = None) -> tuple[Memory, tuple[Range, ...]]:
        """Room for a value that varies with the ranges in `mask`; `first` leads their order.  `dtype`: a wider one than e's."""
        ranges = self.sort(mask)
        if first is not None and ranges[0] is not first:
            ranges = (first, *[r for r in ranges if r is not first])
        rows, length = self.rows or (None, 0)
        shape = tuple([length if r is rows else r.extent for r in ranges])
        if self.near and self.space.usual(mask_of(ranges)) <= self.near:
            shape = tuple([r.usual for r in ranges])
        size = 1
        for n in shape:
            size = size * n
        buffer = self.new("scratch", dtype or e.dtype, size)
        return Memory(buffer, tuple([self.space.var(r) for r in ranges]), shape, rows if rows in ranges else None), ranges
