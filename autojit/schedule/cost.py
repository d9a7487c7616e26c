"""What things cost: the target's figures and the estimates that decisions are taken by.

In: scalars, ranges.  Out: weighted scalar operations (an add being 1).  Never builds anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .index import Range, Space
from .scalar import E

DEAR = 6                           # an operation from which keeping beats computing again
STRIDED = 8                        # an access that jumps costs this much
JUMP = 16                          # a stride in elements from which it does
KERNEL = 5_000                     # entering one more kernel


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a schedule is made for.  `threads` is nominal: results must not depend on the pool's real size."""

    threads: int = 8
    serial: int = 100_000          # weighted operations below which a kernel runs serially
    grain: int = 25_000            # weighted operations a chunk should have at least
    run: int = 128                 # rows in a run
    lanes: int = 32                # inner extents up to this make no good vector loop


def stride(e: E, r: Range) -> int:
    """Elements from one turn of r to the next in a load; a big number if the place is irregular."""
    total, step = 0, 1
    _, index, shape, _ = e.params
    for ix, n in zip(reversed(index), reversed(shape)):
        for t, c in ix.terms:
            if t is r:
                total += int(c) * step
            elif t.free & r.bit:
                return 1 << 30
        step *= int(n)
    return abs(total)


def work(roots: Iterable[tuple[int, E]], space: Space, stop: set[E] = frozenset()) -> float:  # type: ignore[assignment]
    """Work of a DAG when each value is computed once for each point of the ranges it varies with; `roots`: (the ranges of
    its stores, scalar)."""
    total, seen, stack = 0.0, set(stop), []
    for mask, e in roots:
        total += 2 * space.points(mask)
        stack.append(e)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.op == "red":
            mask = e.free
            for r in e.params[1]:
                mask |= r.bit
            total += space.points(mask)
        else:
            total += space.points(e.free) * e.own
        stack.extend(e.args)
    return total
