"""Long straight programs of scalars rolled into loops: the unrolled Python loop is found again in the statements.

In: the body of a kernel.  Out: the same statements with repeated stretches of Lets as loops.  A stretch
repeats if its ops do, and if each operand is, from turn to turn, the same value, the same statement of this turn or of one
of the turns just before, or walks through another loop's turns.  Values of the turns before are carried in registers, those
that others read are kept in arrays.  Whatever does not fit stays as it was: nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..dtypes import DType
from .index import Range, Size
from .loops import At, Begin, Buffer, Const, Index, Let, Loop, Next, Operand, Store, names_read, renamed
from .periods import Periods, Ref, Region

LONG = 200                         # statements from which a body is looked at

New = Callable[[str, DType, int], Buffer]


def roll(body: Sequence[Any], new: New) -> tuple[Any, ...]:
    """`body`, rolled where that pays; `new` makes the arrays."""
    if len(body) < LONG:
        return tuple(body)
    return _Roller(list(body), new).rolled()


class _Roller:
    def __init__(self, body: list[Any], new: New) -> None:
        self.body, self.new = body, new
        self.where = {s.name: k for k, s in enumerate(body) if isinstance(s, Let)}
        operands = [self._operands(s) for s in body]
        self.periods = Periods(self._signs(), operands, self._numbers)
        self.regions = self.periods.regions
        self.arrays: dict[Region, dict[int, Buffer]] = {r: {} for r in self.regions}     # place in a turn → its values
        self.carried: dict[Region, dict[int, int]] = {r: {} for r in self.regions}       # place → turns it is carried
        self.ranges: dict[Region, Range] = {}

    def rolled(self) -> tuple[Any, ...]:
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

    def _operands(self, s: Any) -> list[Any]:
        """For each operand the statement that defines it, or the constant."""
        if not isinstance(s, Let):
            return []
        return [_constant(a) if isinstance(a, Const) else self.where.get(a, a) for a in s.args]

    def _numbers(self, k: int) -> tuple[int, ...]:
        """The place of a load."""
        s = self.body[k]
        return tuple([int(ix.const) for ix in s.params[0].index]) if s.op == "load" else ()

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

    def _readers(self) -> None:
        """Which values of loops are read from elsewhere: the last turn's from a register, others from an array."""
        for k, s in enumerate(self.body):
            if self.periods.taken(k) is not None:
                continue
            for a in names_read(s):
                spot = self.periods.taken(self.where[a]) if a in self.where else None
                if spot is not None:
                    self._wanted(*spot)
        for region in self.regions:
            turns = Size(region.turns, ("turns", self.regions.index(region)))
            self.ranges[region] = Range(-100 - len(self.body) - region.begin, 0, turns, 0, 0)
            for refs in region.refs:
                for r in refs:
                    if r.kind == "turn" and r.lag:
                        self.carried[region][r.at] = max(self.carried[region].get(r.at, 0), r.lag)
                    elif r.kind == "walk":
                        assert r.region is not None
                        self._array(r.region, r.at)
                    elif r.kind == "same" and isinstance(r.at, int):
                        spot = self.periods.taken(r.at)
                        if spot is not None:
                            self._wanted(*spot)
            for refs in region.refs:                        # the turns before the first, if another loop has taken them
                for r in refs:
                    for lag in range(1, r.lag + 1) if r.kind == "turn" else ():
                        spot = self.periods.taken(region.at(region.first - lag, r.at))
                        if spot is not None:
                            self._wanted(*spot)

    def _wanted(self, region: Region, turn: int, q: int) -> None:
        if turn == region.last - 1:
            self.carried[region].setdefault(q, 1)
        else:
            self._array(region, q)

    def _array(self, region: Region, q: int) -> None:
        if q not in self.arrays[region]:
            dtype = self.body[region.at(0, q)].dtype
            self.arrays[region][q] = self.new("scratch", dtype, Size(region.last - region.first, ("turns", region.begin)))

    def _named(self, at: int, names: dict[int, str], out: list[Any]) -> str:
        """The name of a value where no loop is open."""
        spot = self.periods.taken(at)
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

    def _carry(self, region: Region, q: int, lag: int) -> str:
        """The register that holds the value of `lag` turns before."""
        return f"{self.body[region.at(0, q)].name}_{lag}"

    def _spot(self, region: Region, q: int, index: Index) -> At:
        return At(self.arrays[region][q], (index,), (self.ranges[region].extent,))

    def _loop(self, region: Region, names: dict[int, str], out: list[Any]) -> None:
        turns = self.ranges[region]
        for q, lags in self.carried[region].items():
            dtype = self.body[region.at(0, q)].dtype
            for lag in range(1, lags + 1):
                at = region.at(region.first - lag, q)
                needed = any([r.kind == "turn" and r.at == q and r.lag >= lag for refs in region.refs for r in refs])
                start = self._named(at, names, out) if needed and at >= 0 else Const(dtype.number(0), dtype)
                out.append(Begin(self._carry(region, q, lag), dtype, start))
        same: dict[Any, Operand] = {}
        for q, refs in enumerate(region.refs):
            for r, a in zip(refs, self.body[region.at(region.first, q)].args):
                if r.kind == "same":
                    same[id(r)] = a if isinstance(a, Const) else self._named(r.at, names, out)
        body: list[Any] = []
        walked: dict[Any, str] = {}
        local = {q: f"{self.body[region.at(region.first, q)].name}" for q in range(region.period)}
        for q in range(region.period):
            s = self.body[region.at(region.first, q)]
            args = tuple([self._inside(r, region, same, walked, local, body) for r in region.refs[q]])
            params = s.params if s.op != "load" else (self._moving(s.params[0], region, q), ())
            body.append(Let(local[q], s.op, s.dtype, args, params))
            if q in self.arrays[region]:
                body.append(Store(self._spot(region, q, Index(0, ((turns, 1),))), local[q]))
        for q, lags in self.carried[region].items():
            for lag in range(lags, 0, -1):
                value = local[q] if lag == 1 else self._carry(region, q, lag - 1)
                body.append(Next(self._carry(region, q, lag), self.body[region.at(0, q)].dtype, value))
        out.append(Loop(turns, tuple(body)))

    def _inside(self, r: Ref, region: Region, same: dict[Any, Operand], walked: dict[Any, str], local: dict[int, str],
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
            index = Index(origin, ((self.ranges[region], r.step),))
            dtype = self.body[other.at(0, r.at)].dtype
            body.append(Let(walked[key], "load", dtype, (), (self._spot(other, r.at, index), ())))
        return walked[key]

    def _moving(self, at: At, region: Region, q: int) -> At:
        """A load's place, which moves with the turns."""
        index = list(at.index)
        for d, c in enumerate(region.steps[q]):
            if c:
                index[d] = Index(Size(int(index[d].const), ("moving", region.begin, q, d)), ((self.ranges[region], c),))
        return replace(at, index=tuple(index))


def _constant(a: Operand) -> Any:
    return (a.value.tobytes(), a.dtype) if isinstance(a, Const) else None
