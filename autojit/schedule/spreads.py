"""What a loop computes in each turn, added into one array at places that move with the turns: the gradient of an input
that is sliced turn by turn.

In: loops and the long sums of pads.  Out: `Spread`s, families of pads that one loop adds; they leave their sum's list of
pads, and what they read need not be copied out of the loop one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..ir.graph import Node
from .axes import SMALL, operands
from .index import Ix, Size
from .loops import Buffer
from .lower import Lowering
from .periods import Region
from .pieces import PadSum
from .stages import Goal
from .tasks import Memory
from .turns import Turns, rows

FEW = 8                            # pads that are no family


class Spread:
    """Pads of the values at place `at` of turns first, first + 1 ...: that of turn k lies at starts + k * moves."""

    __slots__ = ("loop", "at", "first", "count", "pad", "starts", "moves")

    def __init__(self, loop: Turns, at: int, first: int, count: int, pad: Node, moves: tuple[int, ...]) -> None:
        self.loop, self.at, self.first, self.count, self.pad, self.moves = loop, at, first, count, pad, moves
        self.starts: tuple[int, ...] = pad.params[0]


def find_spreads(loops: Sequence[Turns], sums: dict[Node, PadSum], uses: dict[Node, int]) -> dict[Node, list[Spread]]:
    """The families in each sum of pads."""
    spot = {n: (t, *place) for t in loops for n, place in t.wanted.items()}
    out: dict[Node, list[Spread]] = {}
    for root, tree in sums.items():
        families: dict[object, list[tuple[int, Node, Node]]] = {}
        for p in tree.pads:
            x = _bare(p, spot)
            if x in spot:
                t, turn, q = spot[x]
                families.setdefault((t, q, p.params[1:], operands(p)[0].shape), []).append((turn, p, x))
        for members in families.values():
            members.sort(key=lambda m: m[0])
            found = _family(members)
            if found is None:
                continue
            t, _, q = spot[members[0][2]]
            out.setdefault(root, []).append(Spread(t, q, members[0][0], len(members), members[0][1], found))
            t.arrays[q] = None
            gone = {p for _, p, _ in members}
            tree.pads = [p for p in tree.pads if p not in gone]
            for _, p, x in members:
                if uses[x] == 1 and uses[operands(p)[0]] == 1:
                    del t.wanted[x]
    return out


def _bare(p: Node, spot: dict[Node, Any]) -> Node:
    """What a pad pads, whatever its shape."""
    (x,) = operands(p)
    while x not in spot and x.op == "reshape":
        (x,) = operands(x)
    return x


def _family(members: Sequence[tuple[int, Node, Node]]) -> tuple[int, ...] | None:
    """How the places of consecutive turns move; None if they do not move evenly."""
    if len(members) <= FEW:
        return None
    places = np.array([p.params[0] for _, p, _ in members]).reshape(len(members), -1)
    turns = np.array([turn for turn, _, _ in members])
    steps = np.diff(places, axis=0)
    if (np.diff(turns) != 1).any() or (steps != steps[0]).any():
        return None
    return tuple(steps[0].tolist())


def spread_goals(low: Lowering, n: Node, out: Buffer, spreads: Iterable[Spread],
                 arrays: dict[Region, dict[int, Buffer]]) -> list[Goal]:
    """Additions of all members of the families into the sum."""
    goals = []
    space = low.space
    for k, s in enumerate(spreads):
        region = s.loop.region
        first, last = rows(region)
        r = space.range(-2000 - k, 0, Size(s.count, ("spread", k)))
        turn = space.var(r)
        row = space.shift(turn, Size(s.first - first, ("spread row", k)))
        shape = operands(s.pad)[0].shape
        size = int(np.prod(shape, dtype=np.int64))
        held = (Size(last - first, ("rows", region.begin)), size)
        dims = tuple([d if d <= SMALL else Size(d, ("spread axis", k, i)) for i, d in enumerate(n.shape)])
        for e, place in enumerate(np.ndindex(*shape)):
            value = low.scalars.load(arrays[region][s.at], (row, space.const(e)), held, ())
            index = tuple([_along(low, turn, s, k, d, i) for d, i in enumerate(place)])
            goals.append(Goal((r,), value, Memory(out, index, dims), "sum"))
    return goals


def _along(low: Lowering, turn: Ix, s: Spread, k: int, d: int, i: int) -> Ix:
    """The place along one dimension of the sum."""
    space = low.space
    start, step = s.starts[d], s.pad.params[2][d]
    if not s.moves[d]:
        return space.const(start + i * step)
    return space.shift(space.scale(turn, s.moves[d]), Size(start + i * step, ("spread start", k, d, i)))
