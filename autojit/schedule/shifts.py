"""Values that one kernel would compute again at many shifted places: kept in memory instead.

In: a graph's nodes in order.  Out: `Shifts`: nodes to be stored, and nodes that then belong to the next kernels.  A stencil's
gradient pads one array seven times, and a second step of a stencil slices the first one seven times; fused, all that lies
below is done seven times over.  Never looks at what is in memory already: it costs the same at each place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.graph import Node
from ..ir.primitive import ELEMENTWISE
from .axes import operands, touched

LARGE = 1 << 14                    # elements from which a kernel more is worth it
WINDOWS = 16                       # windows that are told apart
GAIN = 12                          # operations for each element that must be saved: storing, and loading at every window
DOWN = 3                           # operations that are done at each window rather than stored

Window = tuple[Any, tuple[int, ...]]


class Shifts:
    """`kept`: nodes to be stored for other kernels; `raised`: nodes above them that these other kernels compute."""

    def __init__(self, kept: set[Node], raised: set[Node]) -> None:
        self.kept, self.raised = kept, raised

    def between(self, i: Node, n: Node) -> int:
        """1 if n, which reads i, belongs to a later kernel than i because of a shift."""
        return int(i in self.kept and n in self.raised)


def find_shifts(order: Sequence[Node], outputs: Sequence[Node], free: Callable[[Node], bool]) -> Shifts:
    """`free`: is a node in memory, uniform, or a step of its own?"""
    users: dict[Node, list[Node]] = {}
    for n in order:
        for i in operands(n):
            users.setdefault(i, []).append(n)
    windows = _windows(order, users, set(outputs), free)
    cost: dict[Node, float] = {}
    tops: dict[Node, list[Node]] = {}
    for n in order:
        if free(n):
            continue
        if n.prim.kind == ELEMENTWISE:
            cost[n] = n.prim.cost + sum([cost.get(i, 0) for i in operands(n)])
        elif _shift(n) or n.op in ("reshape", "permute", "expand"):
            cost[n] = sum([cost.get(i, 0) for i in operands(n)])
        if _shift(n):
            (i,) = operands(n)
            if i.aval.size >= LARGE and i.prim.kind == ELEMENTWISE and not free(i):
                times = _repeats(i, windows[i])
                if cost[i] * (times - 1) > GAIN + times:
                    tops.setdefault(i, []).append(n)
    if not tops:
        return Shifts(set(), set())
    return _best(order, users, set(outputs), tops, cost, free)


def _shift(n: Node) -> bool:
    return n.op in ("slice", "pad") and any([touched(n, d) for d in range(len(n.shape))])


def _windows(order: Sequence[Node], users: dict[Node, list[Node]], outputs: set[Node],
             free: Callable[[Node], bool]) -> dict[Node, dict[Window, int]]:
    """At which shifted places each node is wanted, if everything is fused (what it is a part of, where it starts there), and
    how many of its elements there."""
    found: dict[Node, dict[Window, int]] = {}
    for n in reversed(order):
        start, size = (0,) * len(n.shape), n.aval.size
        here: dict[Window, int] = {(n, start): size} if n in outputs else {}
        for c in users.get(n, ()):
            if len(here) >= WINDOWS:
                break
            if free(c) or c.prim.kind != ELEMENTWISE and not _shift(c):
                here[c, start] = size
            elif not _shift(c):
                here.update(found[c])
            elif any([step != 1 for step in c.params[2]]):
                here.update({((c, w), start): min(k, size) for w, k in found[c].items()})
            else:
                sign = 1 if c.op == "slice" else -1
                for (of, at), k in found[c].items():
                    here[of, tuple([o + sign * first for o, first in zip(at, c.params[0])])] = min(k, size)
        found[n] = here
    return found


def _repeats(n: Node, windows: dict[Window, int]) -> float:
    """How often each element is wanted, about."""
    return sum(windows.values()) / max(n.aval.size, 1)


def _best(order: Sequence[Node], users: dict[Node, list[Node]], outputs: set[Node], tops: dict[Node, list[Node]],
          cost: dict[Node, float], free: Callable[[Node], bool]) -> Shifts:
    """Of the shifted nodes themselves and the few operations below them, those that need the fewest arrays stored."""
    choices = [(top, *_below(top, free)) for top in tops]
    best: tuple[int, Shifts] | None = None
    for depth in range(DOWN + 1):
        kept = {c[min(depth, len(c) - 1)] for c in choices}
        shifts = Shifts(kept, _raised(order, users, outputs, kept, {n for ns in tops.values() for n in ns}, free))
        stored = set(kept)
        for n in shifts.raised:
            stored |= {i for i in operands(n) if i not in shifts.raised and not free(i) and cost.get(i, 0) > GAIN}
        if best is None or len(stored) < best[0]:
            best = len(stored), shifts
    assert best is not None
    return best[1]


def _below(top: Node, free: Callable[[Node], bool]) -> list[Node]:
    """The nodes from which a cheap operation on one array leads to the next, down from a node."""
    out: list[Node] = []
    n = top
    while len(out) < DOWN:
        large = {i for i in operands(n) if i.aval.size >= LARGE and not free(i) and i.prim.kind == ELEMENTWISE}
        if n.prim.kind != ELEMENTWISE or n.prim.cost > 1 or len(large) != 1:
            break
        (n,) = large
        out.append(n)
    return out


def _raised(order: Sequence[Node], users: dict[Node, list[Node]], outputs: set[Node], kept: set[Node], shifted: set[Node],
            free: Callable[[Node], bool]) -> set[Node]:
    """Nodes on kept ones that only the shifts and what follows them want; the shifts are among them."""
    late: set[Node] = set()
    for n in order:
        if n in shifted or any([i in late for i in operands(n)]):
            late.add(n)
    above: set[Node] = set()
    for n in order:
        if any([i in kept or i in above for i in operands(n)]):
            above.add(n)
    raised = set(shifted)
    for n in reversed(order):
        mine = users.get(n, ())
        if n in above and n not in kept and n not in outputs and n not in late and not free(n) and mine and \
                all([c in late or c in raised for c in mine]):
            raised.add(n)
    return raised
