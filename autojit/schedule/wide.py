"""Sums of many float32 numbers that keep their digits: partial sums of some hundred terms, added up in float64.

In: the statements of a kernel.  Out: the same, in which a register that more than MANY float32 terms would be added to gets
the sums of at most MOST of them.  A partial sum begins and ends where a loop begins and ends anyway, else the loop is cut
into runs.  The terms of one partial sum are spread over 64 lanes, so each goes through some twenty roundings, whatever they
are.  Never touches other reductions, and never the order of anything but these sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import float32, float64
from .loops import Accumulate, Init, Let, Loop, Run

MANY = 4096                        # terms from which a sum is made of partial sums
MOST = 1024                        # terms of a partial sum
LENGTH = 1024                      # turns of a run, where a loop is cut
LEAST = 64                         # terms that make a partial sum worth its ending


def widened(body: Sequence[Any]) -> list[Any]:
    """The statements with long sums in partial sums."""
    return _Wide().block(body, None)


def _turns(s: Any, run: Run | None) -> int:
    if type(s) is Run:
        return -(-max(s.range.usual, MANY if s.span == "chunk" else 1) // s.length)
    if s.span == "run" and run is not None:
        return run.length
    return max(s.range.usual, MANY) if s.span == "chunk" else s.range.usual    # the same text for every batch


def _count(s: Any, run: Run | None, counts: dict[str, int]) -> dict[str, int]:
    """How many float32 terms a statement adds to each register, those in its body included."""
    if type(s) is Accumulate:
        if s.op == "sum" and s.dtype is float32:
            counts[s.name] = counts.get(s.name, 0) + 1
    elif type(s) is Loop or type(s) is Run:
        inner: dict[str, int] = {}
        for q in s.body:
            _count(q, s if type(s) is Run else run, inner)
        n = _turns(s, run)
        for name, k in inner.items():
            counts[name] = counts.get(name, 0) + k * n
    return counts


class _Wide:
    """Rewrites one kernel.  `run`: the run that a statement stands in."""

    def __init__(self) -> None:
        self.made = 0                                       # partial sums so far: each has a name of its own

    def block(self, body: Sequence[Any], run: Run | None) -> list[Any]:
        """A block in which some sums begin: long ones get a float64 register, which their name stands for at the end."""
        begun = {s.name for s in body if type(s) is Init and s.op == "sum" and s.dtype is float32}
        last: dict[str, int] = {}
        for k, s in enumerate(body):
            if type(s) is Loop or type(s) is Run:
                for name, n in _count(s, run, {}).items():
                    if name in begun and n >= MANY:
                        last[name] = k
        out: list[Any] = []
        for k, s in enumerate(body):
            if type(s) is Init and s.name in last:
                out.append(Init(f"{s.name}w", "sum", float64))
            elif type(s) is Loop or type(s) is Run:
                names = {name for name, n in _count(s, run, {}).items() if name in last}
                out += self.loop(s, run, names)
                out += [Let(name, "cast", float32, (f"{name}w",)) for name, at in last.items() if at == k]
            elif type(s) is Accumulate and s.name in last:
                out += self.added(s.name, s.value)
            else:
                out.append(s)
        return out

    def loop(self, s: Any, run: Run | None, names: set[str]) -> list[Any]:
        """A loop whose terms for `names` all go to the wide registers."""
        body = self.block(s.body, s if type(s) is Run else run)
        if not names:
            return [_with(s, body)]
        each: dict[str, int] = {}
        for q in body:
            _count(q, s if type(s) is Run else run, each)
        few = {name for name in names if each[name] < LEAST}
        if few and type(s) is Loop and run is None and not any([_cut(q) for q in body]):
            length = (LENGTH if _near(s) else LEAST) // max([each[name] for name in few])
            inner = Loop(s.range, tuple(self.turn(body, None, names - few)), "run", s.split)
            return [Run(s.range, length, tuple(self.partial(few, [inner])), s.span)]
        return [_with(s, self.turn(body, s if type(s) is Run else run, names))]

    def turn(self, body: Sequence[Any], run: Run | None, names: set[str]) -> list[Any]:
        """One turn of a loop: as a partial sum, or, where that would be long, with partial sums further in."""
        each: dict[str, int] = {}
        for s in body:
            _count(s, run, each)
        deep = {name for name in names if each[name] > MOST}
        out: list[Any] = []
        for s in body:
            if type(s) is Accumulate and s.name in deep:
                out += self.added(s.name, s.value)
            elif deep and (type(s) is Loop or type(s) is Run):
                counts = _count(s, run, {})
                long = {name for name in deep if counts.get(name, 0) > MOST}
                out += self.partial(deep & counts.keys() - long, self.loop(s, run, long) if long else [s])
            else:
                out.append(s)
        return self.partial(names - deep, out)

    def partial(self, names: set[str], body: list[Any]) -> list[Any]:
        """The body, which adds to the registers, as a partial sum of each."""
        if not names:
            return body
        self.made += 1
        new = {name: f"{name}p{self.made}" for name in sorted(names)}
        out: list[Any] = [Init(part, "sum", float32) for part in new.values()]
        out += [_renamed(s, new) for s in body]
        for name, part in new.items():
            out += self.added(name, part)
        return out

    def added(self, name: str, value: Any) -> list[Any]:
        """Statements that add a float32 value to a wide register."""
        self.made += 1
        wide = f"v{self.made}{name}"                       # vacc11 + 3 and vacc1 + 13 would be one name
        return [Let(wide, "cast", float64, (value,)), Accumulate(f"{name}w", "sum", float64, wide)]


def _cut(s: Any) -> bool:
    """Is there a loop over a run in the statement?"""
    return type(s) is Run or type(s) is Loop and (s.span == "run" or any([_cut(q) for q in s.body]))


def _near(s: Loop) -> bool:
    """Does the loop read neighbours?  Else LLVM makes no vectors of it, and every term goes to one lane."""
    for q in s.body:
        if type(q) is Let and q.op == "load":
            at, step, jump = q.params[0], 1, 0
            for ix, n in zip(reversed(at.index), reversed(at.shape)):
                jump += sum([int(c) for t, c in ix.terms if t is s.range]) * step
                step *= int(n)
            if abs(jump) > 1:
                return False
    return True


def _with(s: Any, body: list[Any]) -> Any:
    return Run(s.range, s.length, tuple(body), s.span) if type(s) is Run else Loop(s.range, tuple(body), s.span, s.split)


def _renamed(s: Any, new: dict[str, str]) -> Any:
    """The statement with what it adds to these registers added to others."""
    if type(s) is Loop or type(s) is Run:
        return _with(s, [_renamed(q, new) for q in s.body])
    if type(s) is Accumulate and s.name in new:
        return Accumulate(new[s.name], s.op, s.dtype, s.value)
    return s
