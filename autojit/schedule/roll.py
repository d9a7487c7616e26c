"""Long straight programs of scalars rolled into loops: the unrolled Python loop is found again in the statements.

In: the body of a kernel.  Out: the same statements with repeated stretches of Lets as loops.  A stretch
repeats if its ops do, and if each operand is, from turn to turn, the same value, the same statement of this turn or of one
of the turns just before, or walks through another loop's turns.  Values of the turns before are carried in registers, those
that others read are kept in arrays.  Whatever does not fit stays as it was: nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..dtypes import DType
from .index import Range, Size
from .loops import At, Begin, Buffer, Const, Index, Let, Loop, Next, Operand, Store, names_read, renamed

LONG = 200                         # statements from which a body is looked at
PERIOD = 400                       # statements in a turn at most
TURNS = 6                          # turns that make a loop
SAVED = 60                         # statements a loop must save
LAG = 3                            # turns that a value is carried

New = Callable[[str, DType, int], Buffer]


def roll(body: Sequence[Any], new: New) -> tuple[Any, ...]:
    """`body`, rolled where that pays; `new` makes the arrays."""
    if len(body) < LONG:
        return tuple(body)
    return _Roller(list(body), new).rolled()


@dataclass(slots=True)
class _Ref:
    """An operand of a statement over the turns.  kind: same (a constant, or statement `at` of the body), turn (place `at` of
    the turn `lag` turns before), walk (place `at` of `region` in turn start + step * turn)."""

    kind: str
    at: Any
    lag: int = 0
    region: _Region | None = None
    start: int = 0
    step: int = 0


@dataclass(slots=True, eq=False)
class _Region:
    """Turns first..last-1 of `period` statements, turn 0 beginning at statement `begin`."""

    begin: int
    period: int
    first: int
    last: int
    refs: list[list[_Ref]] = field(default_factory=list)
    steps: list[tuple[int, ...]] = field(default_factory=list)     # loads: how their place moves from turn to turn
    arrays: dict[int, Buffer] = field(default_factory=dict)        # place in a turn → the array of its values
    carried: dict[int, int] = field(default_factory=dict)          # place → turns that its value is carried
    range: Any = None

    def place(self, at: int) -> tuple[int, int] | None:
        """(turn, place in it) of a statement that the loop has taken."""
        turn, q = divmod(at - self.begin, self.period)
        return (turn, q) if self.first <= turn < self.last else None

    def at(self, turn: int, q: int) -> int:
        return self.begin + turn * self.period + q


class _Roller:
    def __init__(self, body: list[Any], new: New) -> None:
        self.body, self.new = body, new
        self.where = {s.name: k for k, s in enumerate(body) if isinstance(s, Let)}
        self.regions: list[_Region] = []

    def rolled(self) -> tuple[Any, ...]:
        for begin, period, turns in _stretches(self._signs()):
            region = self._region(begin, period, turns)
            if region is not None:
                self.regions.append(region)
        return tuple(self._build()) if self.regions else tuple(self.body)

    # ------------------------------------------------------------------ what repeats
    def _signs(self) -> np.ndarray:
        """A number for each statement: equal for statements that may be one statement of a loop."""
        numbers: dict[Any, int] = {}
        out = np.empty(len(self.body), np.int64)
        for k, s in enumerate(self.body):
            if isinstance(s, Let) and s.op == "load" and not s.params[1] and not any([ix.terms for ix in s.params[0].index]):
                key: Any = ("load", s.params[0].buffer.name)
            elif isinstance(s, Let) and s.op not in ("load", "index", "inside") and not s.op.startswith("index_") \
                    and all([isinstance(a, Const) or a in self.where for a in s.args]):
                key = (s.op, s.dtype, s.params, tuple([_constant(a) for a in s.args]))
            else:
                key = k + 0.5                               # repeats nothing
            out[k] = numbers.setdefault(key, len(numbers))
        return out

    def _region(self, begin: int, period: int, turns: int) -> _Region | None:
        """The turns of a stretch over which every operand keeps its kind."""
        region = _Region(begin, period, 0, turns)
        lo, hi = 0, turns
        for q in range(period):
            s = self.body[region.at(0, q)]
            refs: list[_Ref] = []
            for i in range(len(s.args)):
                ref, a, b = self._follow(region, q, i)
                if ref is None:
                    return None
                lo, hi = max(lo, a), min(hi, b)
                refs.append(ref)
            region.refs.append(refs)
            steps, a, b = self._moves(region, q)
            lo, hi = max(lo, a), min(hi, b)
            region.steps.append(steps)
        lo += max([r.lag for refs in region.refs for r in refs], default=0) if lo == 0 else 0
        for refs in region.refs:                            # what is the same in all turns stands before them
            for r in refs:
                if r.kind == "same" and isinstance(r.at, int) and r.at >= begin:
                    lo = max(lo, (r.at - begin) // period + 1)
        region.first, region.last = lo, hi
        return region if hi - lo >= TURNS and (hi - lo - 1) * period >= SAVED else None

    def _operand(self, region: _Region, turn: int, q: int, i: int) -> Any:
        """Operand i: a Const, or the statement that defines it."""
        a = self.body[region.at(turn, q)].args[i]
        return a if isinstance(a, Const) else self.where[a]

    def _follow(self, region: _Region, q: int, i: int) -> tuple[_Ref | None, int, int]:
        """An operand's way through the turns, and the turns over which it keeps to it."""
        middle = (region.last - 1) // 2
        here, there = self._operand(region, middle, q, i), self._operand(region, middle + 1, q, i)
        ref = _Ref("same", here)
        if isinstance(here, Const):
            same = lambda turn: _constant(self._operand(region, turn, q, i)) == _constant(here)  # noqa: E731
        elif here == there:
            same = lambda turn: self._operand(region, turn, q, i) == here  # noqa: E731
        elif there - here == region.period:
            back, place = divmod(here - region.at(middle, 0), region.period)
            if -back > LAG:
                return None, 0, 0
            ref = _Ref("turn", place, -back)
            same = lambda turn: self._operand(region, turn, q, i) == region.at(turn + back, place)  # noqa: E731
        else:
            walk = self._walk(here, there, middle)
            if walk is None:
                return None, 0, 0
            ref = walk
            other = walk.region
            assert other is not None

            def same(turn: int) -> bool:
                at = self._operand(region, turn, q, i)
                return not isinstance(at, Const) and other.place(at) == (walk.start + walk.step * turn, walk.at)
        lo = middle
        while lo > 0 and same(lo - 1):
            lo -= 1
        hi = middle + 2 if same(middle + 1) else middle + 1
        while hi < region.last and same(hi):
            hi += 1
        return ref, lo, hi

    def _walk(self, here: int, there: int, turn: int) -> _Ref | None:
        for other in self.regions:
            a, b = other.place(here), other.place(there)
            if a is not None and b is not None and a[1] == b[1]:
                step = b[0] - a[0]
                return _Ref("walk", a[1], region=other, start=a[0] - step * turn, step=step)
        return None

    def _moves(self, region: _Region, q: int) -> tuple[tuple[int, ...], int, int]:
        """For a load: how far each component of its index moves from turn to turn."""
        def index(turn: int) -> tuple[int, ...]:
            return tuple([int(ix.const) for ix in self.body[region.at(turn, q)].params[0].index])

        if self.body[region.at(0, q)].op != "load":
            return (), 0, region.last
        middle = (region.last - 1) // 2
        start = index(middle)
        steps = tuple([b - a for a, b in zip(start, index(middle + 1))])

        def same(turn: int) -> bool:
            return index(turn) == tuple([a + c * (turn - middle) for a, c in zip(start, steps)])

        lo, hi = middle, middle + 2
        while lo > 0 and same(lo - 1):
            lo -= 1
        while hi < region.last and same(hi):
            hi += 1
        return steps, lo, hi

    # ------------------------------------------------------------------ building
    def _build(self) -> list[Any]:
        self.regions.sort(key=lambda r: r.begin)
        self._readers()
        out: list[Any] = []
        names: dict[int, str] = {}                          # statement outside of loops → the name of its value
        k = 0
        starts = {r.at(r.first, 0): r for r in self.regions}
        while k < len(self.body):
            region = starts.get(k)
            if region is not None:
                self._loop(region, names, out)
                k = region.at(region.last, 0)
                continue
            s = self.body[k]
            out.append(renamed(s, {a: self._named(self.where[a], names, out) for a in names_read(s) if a in self.where}))
            if isinstance(s, Let):
                names[k] = s.name
            k += 1
        return out

    def _taken(self, at: int) -> tuple[_Region, int, int] | None:
        for r in self.regions:
            spot = r.place(at)
            if spot is not None:
                return r, *spot
        return None

    def _readers(self) -> None:
        """Which values of loops are read from elsewhere: the last turn's from a register, others from an array."""
        for k, s in enumerate(self.body):
            if self._taken(k) is not None:
                continue
            for a in names_read(s):
                spot = self._taken(self.where[a]) if a in self.where else None
                if spot is not None:
                    self._wanted(*spot)
        for region in self.regions:
            region.range = Range(-100 - len(self.body) - region.begin, 0,
                                 Size(region.last - region.first, ("turns", self.regions.index(region))), 0, 0)
            for refs in region.refs:
                for r in refs:
                    if r.kind == "turn" and r.lag:
                        region.carried[r.at] = max(region.carried.get(r.at, 0), r.lag)
                    elif r.kind == "walk":
                        assert r.region is not None
                        self._array(r.region, r.at)
                    elif r.kind == "same" and isinstance(r.at, int):
                        spot = self._taken(r.at)
                        if spot is not None:
                            self._wanted(*spot)
            for refs in region.refs:                        # the turns before the first, if another loop has taken them
                for r in refs:
                    for lag in range(1, r.lag + 1) if r.kind == "turn" else ():
                        spot = self._taken(region.at(region.first - lag, r.at))
                        if spot is not None:
                            self._wanted(*spot)

    def _wanted(self, region: _Region, turn: int, q: int) -> None:
        if turn == region.last - 1:
            region.carried.setdefault(q, 1)
        else:
            self._array(region, q)

    def _array(self, region: _Region, q: int) -> None:
        if q not in region.arrays:
            dtype = self.body[region.at(0, q)].dtype
            region.arrays[q] = self.new("scratch", dtype, Size(region.last - region.first, ("turns", region.begin)))

    def _named(self, at: int, names: dict[int, str], out: list[Any]) -> str:
        """The name of a value where no loop is open."""
        spot = self._taken(at)
        if spot is None:
            return names[at]
        if at not in names:
            region, turn, q = spot
            if turn == region.last - 1:
                return self._carry(region, q, 1)
            names[at] = f"{self.body[at].name}_again"
            index = Index(Size(turn - region.first, ("turn", self.regions.index(region), len(names))), ())
            out.append(Let(names[at], "load", self.body[at].dtype, (), (self._spot(region, q, index), ())))
        return names[at]

    def _carry(self, region: _Region, q: int, lag: int) -> str:
        """The register that holds the value of `lag` turns before."""
        return f"{self.body[region.at(0, q)].name}_{lag}"

    def _spot(self, region: _Region, q: int, index: Index) -> At:
        return At(region.arrays[q], (index,), (region.range.extent,))

    def _loop(self, region: _Region, names: dict[int, str], out: list[Any]) -> None:
        turns = region.range
        for q, lags in region.carried.items():
            dtype = self.body[region.at(0, q)].dtype
            for lag in range(1, lags + 1):
                at = region.at(region.first - lag, q)
                needed = any([r.kind == "turn" and r.at == q and r.lag >= lag for refs in region.refs for r in refs])
                start = self._named(at, names, out) if needed and at >= 0 else Const(dtype.np.type(0), dtype)
                out.append(Begin(self._carry(region, q, lag), dtype, start))
        same: dict[Any, Operand] = {}
        for refs in region.refs:
            for r in refs:
                if r.kind == "same":
                    same[id(r)] = r.at if isinstance(r.at, Const) else self._named(r.at, names, out)
        body: list[Any] = []
        walked: dict[Any, str] = {}
        local = {q: f"{self.body[region.at(region.first, q)].name}" for q in range(region.period)}
        for q in range(region.period):
            s = self.body[region.at(region.first, q)]
            args = tuple([self._inside(r, region, same, walked, local, body) for r in region.refs[q]])
            params = s.params if s.op != "load" else (self._moving(s.params[0], region, q), ())
            body.append(Let(local[q], s.op, s.dtype, args, params))
            if q in region.arrays:
                body.append(Store(self._spot(region, q, Index(0, ((turns, 1),))), local[q]))
        for q, lags in region.carried.items():
            for lag in range(lags, 0, -1):
                value = local[q] if lag == 1 else self._carry(region, q, lag - 1)
                body.append(Next(self._carry(region, q, lag), self.body[region.at(0, q)].dtype, value))
        out.append(Loop(turns, tuple(body)))

    def _inside(self, r: _Ref, region: _Region, same: dict[Any, Operand], walked: dict[Any, str], local: dict[int, str],
                body: list[Any]) -> Operand:
        """An operand inside the loop."""
        if r.kind == "same":
            return same[id(r)]
        if r.kind == "turn":
            return self._carry(region, r.at, r.lag) if r.lag else local[r.at]
        other = r.region
        assert other is not None
        first = r.start + r.step * region.first - other.first     # the other loop's turn in this loop's first
        key = (id(other), r.at, first, r.step)
        if key not in walked:
            walked[key] = f"{local[0]}_{len(walked)}w"
            origin = Size(first, ("walk", self.regions.index(region), len(walked))) if first else 0
            index = Index(origin, ((region.range, r.step),))
            dtype = self.body[other.at(0, r.at)].dtype
            body.append(Let(walked[key], "load", dtype, (), (self._spot(other, r.at, index), ())))
        return walked[key]

    def _moving(self, at: At, region: _Region, q: int) -> At:
        """A load's place, which moves with the turns."""
        index = list(at.index)
        for d, c in enumerate(region.steps[q]):
            if c:
                index[d] = Index(Size(int(index[d].const), ("moving", region.begin, q, d)), ((region.range, c),))
        return replace(at, index=tuple(index))


def _constant(a: Operand) -> Any:
    return (a.value.tobytes(), a.dtype) if isinstance(a, Const) else None


def _stretches(signs: np.ndarray) -> list[tuple[int, int, int]]:
    """(begin, period, turns) of repeated stretches, in order: the longest first, then what is left on both sides of it."""
    found: list[tuple[int, int, int]] = []
    todo = [(0, len(signs))]
    while todo:
        lo, hi = todo.pop()
        best = (0, 0, 0, 0)
        part = signs[lo:hi]
        for period in range(1, min(PERIOD, (hi - lo) // TURNS) + 1):
            a, b = _longest_run(part[period:] == part[:-period])
            saved = b - a - period
            if saved > max(best[0], SAVED) and (b - a + period) // period >= TURNS:
                best = (saved, lo + a, period, (b - a + period) // period)
        if best[0]:
            _, begin, period, turns = best
            found.append((begin, period, turns))
            todo += [(lo, begin), (begin + period * turns, hi)]
    return sorted(found)


def _longest_run(equal: np.ndarray) -> tuple[int, int]:
    """The longest stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], equal.view(np.int8), [0]))))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    k = int(np.argmax(lengths))
    return int(edges[2 * k]), int(edges[2 * k + 1])
