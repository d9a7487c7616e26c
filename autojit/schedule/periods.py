"""Repeated stretches of a long list: where an unrolled loop of the user's program stands in it, and what its turns share.

In: for each item a number (equal for items that may be one item of a loop's body), the items its operands come from, and
whole numbers that may move from turn to turn.  Out: `Region`s, each with a rule for every operand: the same in all turns,
an item of this turn or of one of the turns before, or a walk through another region's turns.  Items are statements
(`roll.py`) or nodes (`turns.py`); nothing here knows which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERIOD = 400                       # items in a turn at most
TURNS = 6                          # turns that make a loop
SAVED = 60                         # items a loop must save
LAG = 3                            # turns that a value is carried
EDGE = 2                           # turns that a loop may seem to have more at each end
SHORT = 40                         # items of a turn that may be left outside its loop for the sake of another
WHOLE = 3_000                      # items up to which every period is tried
SAMPLES = 24                       # places that say which periods to try
TRIED = 24                         # periods that are tried


@dataclass(slots=True)
class Ref:
    """An operand over the turns.  kind: same (a constant, or item `at` of the list), turn (place `at` of the turn `lag`
    turns before), walk (place `at` of `region` in turn start + step * turn)."""

    kind: str
    at: Any
    lag: int = 0
    region: Region | None = None
    start: int = 0
    step: int = 0


@dataclass(slots=True)
class Part:
    """`period` items of a turn, from place `offset` of it on; the turn `-shift` begins at item `begin`."""

    begin: int
    period: int
    offset: int = 0
    shift: int = 0


@dataclass(slots=True, eq=False)
class Region:
    """Turns first..last-1, each the items of all parts.  `edges`: items from elsewhere that others read as if they were
    values of turns just outside, by (turn, place)."""

    parts: list[Part]
    first: int
    last: int
    refs: list[list[Ref]] = field(default_factory=list)
    steps: list[tuple[int, ...]] = field(default_factory=list)     # how the numbers of an item move from turn to turn
    edges: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def begin(self) -> int:
        return self.parts[0].begin

    @property
    def period(self) -> int:
        return self.parts[-1].offset + self.parts[-1].period

    def place(self, at: int) -> tuple[int, int] | None:
        """(turn, place in it) of an item that the loop has taken."""
        for p in self.parts:
            turn, q = divmod(at - p.begin, p.period)
            if self.first <= turn - p.shift < self.last:
                return turn - p.shift, p.offset + q
        return None

    def part(self, q: int) -> Part:
        """The part that a place belongs to."""
        for p in reversed(self.parts):
            if q >= p.offset:
                return p
        raise AssertionError(q)

    def at(self, turn: int, q: int) -> int:
        p = self.part(q)
        return p.begin + (turn + p.shift) * p.period + q - p.offset

    @property
    def turns(self) -> int:
        return self.last - self.first


class Periods:
    """The regions of a list.  `operands[k]`: for each operand of item k the item it comes from, or anything else that is
    equal for equal constants; `numbers[k]`: what may move; `opens`: the first and last turns may take from anywhere what
    others take from a turn before or from another loop."""

    def __init__(self, signs: np.ndarray, operands: Sequence[Sequence[Any]], numbers: Callable[[int], tuple[int, ...]],
                 opens: bool = False) -> None:
        self.operands, self.numbers, self.opens = operands, numbers, opens
        self.regions: list[Region] = []
        for begin, period, turns in stretches(signs):
            region = self._region(begin, period, turns)
            if region is not None:
                self.regions.append(region)

    def taken(self, at: int) -> tuple[Region, int, int] | None:
        """(region, turn, place) of an item that a loop has taken."""
        for r in self.regions:
            spot = r.place(at)
            if spot is not None:
                return r, *spot
        return None

    def _region(self, begin: int, period: int, turns: int) -> Region | None:
        """The turns of a stretch over which every operand keeps its kind."""
        region = Region([Part(begin, period)], 0, turns)
        lo, hi = 0, turns
        for q in range(period):
            refs: list[Ref] = []
            for i in range(len(self.operands[region.at(0, q)])):
                ref, a, b = self._follow(region, q, i)
                if ref is None:
                    return None
                if not (self.opens and ref.kind == "turn" and ref.lag == a == 1):
                    lo = max(lo, a)
                hi = min(hi, b)
                refs.append(ref)
            region.refs.append(refs)
            steps, a, b = self._moves(region, q)
            lo, hi = max(lo, a), min(hi, b)
            region.steps.append(steps)
        lags = [r.lag for refs in region.refs for r in refs]
        if lo == 0 and not (self.opens and max(lags, default=0) <= 1 and self._alike(region)):
            lo += max(lags, default=0)
        for refs in region.refs:                            # what is the same in all turns stands before them
            for r in refs:
                if r.kind == "same" and isinstance(r.at, int) and r.at >= begin:
                    lo = max(lo, (r.at - begin) // period + 1)
        region.first, region.last = lo, hi
        return region if hi - lo >= TURNS and (hi - lo - 1) * period >= SAVED else None

    def _alike(self, region: Region) -> bool:
        """Does the first turn take each carried value from one item alone?"""
        starts: dict[int, Any] = {}
        for q, refs in enumerate(region.refs):
            for i, r in enumerate(refs):
                if r.kind == "turn" and r.lag == 1:
                    here = self.operands[region.at(0, q)][i]
                    if starts.setdefault(r.at, here) != here:
                        return False
        return True

    def start(self, region: Region, at: int, lag: int) -> Any:
        """Where the value of `lag` turns before the first comes from."""
        turn = region.first - lag
        if turn + region.part(at).shift >= 0:
            return region.at(turn, at)
        for q, refs in enumerate(region.refs):
            for i, r in enumerate(refs):
                if r.kind == "turn" and r.lag == lag == 1 and r.at == at and region.part(q) is region.part(at):
                    return self.operands[region.at(region.first, q)][i]
        return region.edges.get((turn, at))

    def _follow(self, region: Region, q: int, i: int) -> tuple[Ref | None, int, int]:
        """An operand's way through the turns, and the turns over which it keeps to it."""
        operands, period = self.operands, region.period
        middle = (region.last - 1) // 2
        base = region.begin + q
        here, there = operands[base + middle * period][i], operands[base + (middle + 1) * period][i]
        ref = Ref("same", here)
        if here == there:
            def same(turn: int) -> bool:
                return bool(operands[base + turn * period][i] == here)
        elif type(here) is not int or type(there) is not int:
            return None, 0, 0
        elif there - here == period:
            back, place = divmod(here - region.at(middle, 0), period)
            if -back > LAG:
                return None, 0, 0
            ref = Ref("turn", place, -back)
            first = here - middle * period

            def same(turn: int) -> bool:
                return bool(operands[base + turn * period][i] == first + turn * period)
        else:
            walk = self._walk(here, there, middle)
            if walk is None:
                return None, 0, 0
            ref = walk

            def same(turn: int) -> bool:
                return self._walks(walk, operands[base + turn * period][i], turn, region)
        return ref, *_grown(same, middle, region.last)

    # ------------------------------------------------------------------ loops that go along with another
    def merge(self) -> None:
        """A loop that only follows another turn by turn (a sum of what it computes) becomes a part of it."""
        for c in list(self.regions):
            along = [r for refs in c.refs for r in refs if r.kind == "walk" and r.step == 1]
            for b in dict.fromkeys([r.region for r in reversed(along)]):
                assert b is not None
                if self._follows(c, b):
                    self._merge(c, b, max([r.start for r in along if r.region is b]))
                    break

    def _follows(self, c: Region, b: Region) -> bool:
        """May the turns of c run inside those of b?"""
        walks = [r for refs in c.refs for r in refs if r.kind == "walk"]
        starts = [r.start for r in walks if r.region is b]
        if any([r.kind == "same" and type(r.at) is not int for refs in c.refs for r in refs]):
            return False                                    # nobody knows what that depends on
        if any([r.step != 1 for r in walks if r.region is b]) or max(starts) - min(starts) > LAG:
            return False
        shift = max(starts)
        whole = b.first, b.last
        b.first, b.last = max(b.first, c.first + shift), min(b.last, c.last + shift)
        left = whole[1] - whole[0] - b.turns
        if max(b.first - c.first - shift, c.last + shift - b.last) > EDGE:
            b.first, b.last = whole                         # too much of c would stay outside
            return False
        if left and (left > EDGE or b.period > SHORT) or b.turns < TURNS or not self._ready(c, b, shift):
            b.first, b.last = whole
            return False
        return True

    def _ready(self, c: Region, b: Region, shift: int) -> bool:
        """Is all that c needs before its first turn inside of b there without b?"""
        walks = [r for refs in c.refs for r in refs if r.kind == "walk"]
        late = self._after(b)
        needed: list[Any] = [r.at for refs in c.refs for r in refs if r.kind == "same" and type(r.at) is int]
        for other in dict.fromkeys([r.region for r in walks if r.region is not b]):
            assert other is not None
            needed += [other.at(other.first, 0), *other.edges.values()]
        first, c.first = c.first, b.first - shift
        for q, refs in enumerate(c.refs):
            for i, r in enumerate(refs):
                if r.kind == "turn":
                    needed += [self.start(c, r.at, lag) for lag in range(1, r.lag + 1)]
                elif r.kind == "walk" and r.region is b:
                    for lag in range(1, shift - r.start + 1):     # what comes before the first turn is the same for both
                        at = self.start(b, r.at, lag)
                        same = at == self.operands[c.at(c.first + shift - r.start - lag, q)][i]
                        needed.append(at if same else None)
        c.first = first
        return all([type(at) is int and at not in late for at in needed])

    def _after(self, b: Region) -> set[int]:
        """Items that depend on a loop, its own among them."""
        late: set[int] = set()
        for k in range(b.begin, len(self.operands)):
            if b.place(k) is not None or any([type(i) is not int or i in late for i in self.operands[k]]):
                late.add(k)
        return late

    def _merge(self, c: Region, b: Region, shift: int) -> None:
        offset = b.period
        for p in c.parts:
            b.parts.append(Part(p.begin, p.period, p.offset + offset, p.shift - shift))
        for refs in c.refs:
            for r in refs:
                if r.kind == "turn":
                    r.at += offset
                elif r.kind == "walk" and r.region is b:
                    r.kind, r.lag, r.region = "turn", shift - r.start, None
                elif r.kind == "walk":
                    r.start -= r.step * shift
        b.refs += c.refs
        b.steps += c.steps
        self.regions.remove(c)
        for other in self.regions:
            for refs in other.refs:
                for r in refs:
                    if r.kind == "walk" and r.region is c:
                        r.region, r.at, r.start = b, r.at + offset, r.start + shift
        b.edges.update({(turn + shift, q + offset): at for (turn, q), at in c.edges.items()})

    # ------------------------------------------------------------------ following operands
    def _walk(self, here: int, there: int, turn: int) -> Ref | None:
        for other in self.regions:
            a, b = other.place(here), other.place(there)
            if a is not None and b is not None and a[1] == b[1]:
                step = b[0] - a[0]
                return Ref("walk", a[1], region=other, start=a[0] - step * turn, step=step)
        return None

    def _walks(self, walk: Ref, at: Any, turn: int, region: Region) -> bool:
        """Does a walk come to item `at` in this turn?"""
        other = walk.region
        assert other is not None
        if type(at) is not int:
            return False
        spot = walk.start + walk.step * turn, walk.at
        if other.place(at) == spot:
            return True
        outside = other.first - EDGE <= spot[0] < other.first or other.last <= spot[0] < other.last + EDGE
        return self.opens and outside and at < region.begin and other.edges.setdefault(spot, at) == at

    def _moves(self, region: Region, q: int) -> tuple[tuple[int, ...], int, int]:
        """How far each number of an item moves from turn to turn."""
        middle = (region.last - 1) // 2
        start = self.numbers(region.at(middle, q))
        if not start:
            return (), 0, region.last
        steps = tuple([b - a for a, b in zip(start, self.numbers(region.at(middle + 1, q)))])

        def same(turn: int) -> bool:
            return self.numbers(region.at(turn, q)) == tuple([a + c * (turn - middle) for a, c in zip(start, steps)])

        return steps, *_grown(same, middle, region.last)


def _grown(same: Callable[[int], bool], middle: int, last: int) -> tuple[int, int]:
    """The turns around the middle that are like it."""
    lo = middle
    while lo > 0 and same(lo - 1):
        lo -= 1
    hi = middle + 1
    while hi < last and same(hi):
        hi += 1
    return lo, hi


# ------------------------------------------------------------------------------------------------ what repeats
def stretches(signs: np.ndarray) -> list[tuple[int, int, int]]:
    """(begin, period, turns) of repeated stretches, in order: the longest first, then what is left on both sides of it."""
    found: list[tuple[int, int, int]] = []
    todo = [(0, len(signs))]
    while todo:
        lo, hi = todo.pop()
        best = (0, 0, 0, 0)
        part = signs[lo:hi]
        for period in _periods(part):
            a, b = _longest_run(part[period:] == part[:-period])
            saved = b - a - period
            if saved > max(best[0], SAVED) and (b - a + period) // period >= TURNS:
                best = (saved, lo + a, period, (b - a + period) // period)
        if best[0]:
            _, begin, period, turns = best
            found.append((begin, period, turns))
            todo += [(lo, begin), (begin + period * turns, hi)]
    return sorted(found)


def _periods(part: np.ndarray) -> Sequence[int]:
    """Periods to try: all of them, or those that many places of a long list have in common."""
    most = min(PERIOD, len(part) // TURNS)
    if len(part) <= WHOLE:
        return range(1, most + 1)
    votes: Counter[int] = Counter()
    for at in np.linspace(0, len(part) - most - 1, SAMPLES).astype(int):
        votes.update((np.flatnonzero(part[at + 1:at + 1 + most] == part[at]) + 1).tolist())
    chosen: list[int] = []
    for p, _ in sorted(votes.items(), key=lambda v: (-v[1], v[0])):
        if not any([p % q == 0 for q in chosen if votes[q] >= votes[p]]):     # what repeats once repeats twice
            chosen.append(p)
        if len(chosen) == TRIED:
            break
    return sorted({d for p in chosen for d in range(1, p + 1) if p % d == 0})


def _longest_run(equal: np.ndarray) -> tuple[int, int]:
    """The longest stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], equal.view(np.int8), [0]))))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    k = int(np.argmax(lengths))
    return int(edges[2 * k]), int(edges[2 * k + 1])
