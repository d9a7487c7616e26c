"""What things cost: the target's figures and the estimates that decisions are taken by.

In: scalars, ranges.  Out: weighted scalar operations (an add being 1).  Never builds anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .index import Ix, Range, Size, Space
from .scalar import E

DEAR = 6                           # an operation from which keeping beats computing again
STRIDED = 8                        # an access that jumps costs this much
JUMP = 8                           # a stride in elements above which it does
KERNEL = 5_000                     # entering one more kernel
LANES = 16                         # numbers in a vector
FEW = 10                           # turns of a loop that LLVM unrolls
MULTIPROCESSORS = 132              # of the nominal GPU that schedules are made for: results are those of no card in particular
LEVEL = 1.3                        # estimates this close say nothing


class Ballot:
    """Decisions between schedules that the estimates put level: the k-th decision takes its `votes[k]`-th cheapest choice, or
    the cheapest.  `near`: how many choices each decision had, filled in by scheduling."""

    __slots__ = ("votes", "near")

    def __init__(self, votes: Sequence[int] = ()) -> None:
        self.votes = tuple(votes)
        self.near: list[int] = []

    def vote(self, choices: int) -> int:
        k = len(self.near)
        self.near.append(choices)
        return min(self.votes[k], choices - 1) if k < len(self.votes) else 0


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a schedule is made for.  `threads` is nominal: results must not depend on the pool's real size.  `simt`: a
    GPU, whose schedules have plain loops and steps of their own (`simt.py`); the figures below are then not asked.  `byhand`:
    (primitive, avals of operands, aval, params, how much of its axis is read) → the kernels that a person wrote for a host
    operation, or None."""

    threads: int = 8
    serial: int = 100_000          # weighted operations below which a kernel runs serially
    grain: int = 25_000            # weighted operations a chunk should have at least
    run: int = 128                 # rows in a run, at most
    simt: bool = False
    ballot: Ballot | None = field(default=None, compare=False)
    byhand: Callable[..., Any] | None = field(default=None, compare=False)


def stride(e: E, r: Range) -> int:
    """Elements from one turn of r to the next in a load; a big number if the place is irregular."""
    return distance(e.params[1], e.params[2], r)


def distance(index: tuple[Ix, ...], shape: tuple[int, ...], r: Range) -> int:
    """Elements from one turn of r to the next at a place in an array; a big number if the place is irregular."""
    total, step = 0, 1
    for ix, n in zip(reversed(index), reversed(shape)):
        for t, c in ix.terms:
            if t is r:
                total += int(c) * step
            elif t.free & r.bit:
                return 1 << 30
        step *= int(n)
    return abs(total)


def turns(r: Range) -> float:
    """What a turn of an innermost loop over r costs, 1 being a lane of a full vector.  The rest goes in half vectors and one
    by one; a loop of constant and few turns LLVM unrolls before it would make vectors."""
    n = r.usual
    if n <= FEW and type(r.extent) is not Size:
        return float(LANES)
    return LANES * (n // LANES + n % LANES // 8 + n % 8) / n


def work(roots: Iterable[tuple[int, E]], space: Space, stop: set[E] = frozenset()) -> float:  # type: ignore[assignment]
    """Work of a DAG when each value is computed once for each point of the ranges it varies with; `roots`: (the ranges of
    its stores, scalar)."""
    total, seen, stack = 0.0, set(stop), []
    for mask, e in roots:
        total += 2 * space.usual(mask)
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
            total += space.usual(mask)
        else:
            total += space.usual(e.free) * e.own
        stack.extend(e.args)
    return total
