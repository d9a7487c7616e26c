"""The checker of kernels: run on every schedule before anything is compiled.

In: a Schedule.  Out: nothing, or VerifyError with the kernel's statement and the reason.  Checks that every index is in
bounds (by intervals, or by the conditions a load is guarded with), that nothing is loaded that only this kernel could have
stored and has not, that names are defined once and before their use, that no loop stands inside one over the same range,
and that steps write only what is theirs to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import VerifyError
from .index import Range
from .loops import (
    Accumulate,
    At,
    Begin,
    CallStep,
    Condition,
    Const,
    ControlStep,
    GemmStep,
    HostStep,
    Index,
    Init,
    Kernel,
    KernelStep,
    Let,
    Loop,
    Next,
    Operand,
    Run,
    ScanStep,
    Schedule,
    SortStep,
    Store,
    touched,
)

Interval = tuple[float, float]
ANY: Interval = (float("-inf"), float("inf"))


def verify_schedule(schedule: Schedule) -> None:
    """Every kernel alone, then the order of steps: nothing is read before it was written."""
    for name in (*schedule.inputs, *schedule.outputs):
        if name not in schedule.buffers:
            raise VerifyError(f"buffer {name} is not declared")
    if len(set(schedule.outputs)) != len(schedule.outputs):
        raise VerifyError(f"outputs share a buffer: {schedule.outputs}")
    full = set(schedule.inputs)
    for k, step in enumerate(schedule.steps):
        if isinstance(step, KernelStep):
            check = _Kernel(step.kernel, k)
            reads, writes = check.reads, check.writes
            if step.chunks > 1:
                check.parallel()
        elif isinstance(step, GemmStep):
            if step.c in (step.a, step.b):
                raise VerifyError(f"step {k}: a product onto its own operand {step.c}")
            reads, writes = {step.a, step.b} | ({step.c} if step.beta else set()), {step.c}
        elif isinstance(step, HostStep):
            reads, writes = set(step.inputs), {step.output}
        elif isinstance(step, CallStep):
            reads, writes = touched(step)
            if not writes or any([step.buffers.count(name) != 1 for name in writes]):
                raise VerifyError(f"step {k}: a kernel over {step.buffers} writes {step.writes}")
        elif isinstance(step, ControlStep):
            reads, writes = touched(step)
            if writes & reads or len(writes) != len(step.outputs):
                raise VerifyError(f"step {k}: results in each other's place: {step.outputs}")
            for body in step.bodies:
                verify_schedule(body)
        else:
            reads, writes = touched(step)
            if writes & (reads - {step.output}) or isinstance(step, (ScanStep, SortStep)) and step.source == step.output:
                raise VerifyError(f"step {k}: {step.output} is written while it is read")
        for name in reads - full:
            if schedule.buffers[name].size:
                raise VerifyError(f"step {k} reads {name}, which nothing has written")
        for name in writes:
            if schedule.buffers[name].kind == "input":
                raise VerifyError(f"step {k} writes the input {name}")
        full |= writes
    for name in schedule.outputs:
        if name not in full and schedule.buffers[name].size:
            raise VerifyError(f"no step writes the output {name}")


@dataclass(slots=True)
class _Scope:
    """What is known at a place in a kernel: intervals of names and loop variables, and the ranges that are open."""

    bounds: dict[Any, Interval]
    open: tuple[Range, ...] = ()
    run: Run | None = None


class _Kernel:
    """`reads`: buffers loaded before this kernel stores to them; `writes`: buffers it stores to."""

    def __init__(self, kernel: Kernel, step: int) -> None:
        self.kernel, self.step = kernel, step
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.names: set[str] = set()
        self.stores: list[Store] = []
        self.derived: dict[Any, tuple[str, Index, int]] = {}
        self._block(kernel.body, _Scope({}))

    def _fail(self, s: Any, why: str) -> None:
        raise VerifyError(f"step {self.step}: {why}\n  {s}")

    def _block(self, body: Sequence[Any], scope: _Scope) -> None:
        for s in body:
            if type(s) is Let:
                self._let(s, scope)
            elif isinstance(s, Init):
                self._define(s, s.name, ANY, scope)
            elif isinstance(s, Begin):
                self._use(s, s.value, scope)
                self._define(s, s.name, ANY, scope)
            elif isinstance(s, Next):
                self._use(s, s.value, scope)
                self._use(s, s.name, scope)
            elif isinstance(s, Accumulate):
                self._use(s, s.value, scope)
                if s.name not in scope.bounds:
                    self._fail(s, f"{s.name} is not defined")
            elif isinstance(s, Store):
                self._use(s, s.value, scope)
                self._at(s, s.at, (), scope)
                if s.op is not None and s.at.buffer.name not in self.writes:
                    self.reads.add(s.at.buffer.name)
                self.writes.add(s.at.buffer.name)
                self.stores.append(s)
            elif isinstance(s, Run):
                if scope.run is not None or s.span == "chunk" and s.range is not self.kernel.parallel:
                    self._fail(s.range, "runs inside a run, or of a chunk that is not the kernel's")
                self._block(s.body, _Scope({**scope.bounds, s: (0, s.length - 1)}, scope.open, s))
            else:
                self._loop(s, scope)

    def parallel(self) -> None:
        """Chunks write apart: what they share is written in places that move with the parallel range, and what is added to
        in one place of the kernel only."""
        p, added = self.kernel.parallel, set()
        for s in self.stores:
            if s.at.buffer.per_chunk:
                continue
            if p is None or not any([t is p for ix in s.at.index for t, _ in ix.terms]):
                self._fail(s, "chunks write to the same place")
            if s.op is not None or s.at.buffer.name in added:
                if s.at.buffer.name in added:
                    self._fail(s, "chunks may add to the same place")
                added.add(s.at.buffer.name)

    def _loop(self, s: Loop, scope: _Scope) -> None:
        if s.range in scope.open:
            self._fail(s.range, "a loop inside one over the same range")
        if s.span == "run":
            if scope.run is None or scope.run.range is not s.range:
                self._fail(s.range, "a loop over a run of another range")
        elif s.span != "all" and s.range is not self.kernel.parallel:
            self._fail(s.range, f"a loop over the {s.span}, but its range is not the parallel one")
        bounds = dict(scope.bounds)
        bounds[s.range] = (0, int(s.range.extent) - 1)
        self._block(s.body, _Scope(bounds, (*scope.open, s.range), scope.run))

    def _define(self, s: Any, name: str, bounds: Interval, scope: _Scope) -> None:
        if name in self.names:
            self._fail(s, f"{name} is defined twice")
        self.names.add(name)
        scope.bounds[name] = bounds

    def _use(self, s: Any, a: Operand, scope: _Scope) -> None:
        if not isinstance(a, Const) and a not in scope.bounds:
            self._fail(s, f"{a} is not defined here")

    def _let(self, s: Let, scope: _Scope) -> None:
        for a in s.args:
            self._use(s, a, scope)
        bounds = ANY
        if s.op == "load":
            at, guard = s.params
            self._at(s, at, guard, scope)
            if at.buffer.name not in self.writes:
                self.reads.add(at.buffer.name)
        elif s.op == "inside":
            for c in s.params:
                self._interval(s, c.index, scope)
        elif s.op == "index":
            bounds = self._interval(s, s.params[0], scope)
        elif s.op.startswith("index_"):
            bounds = self._derived(s, scope)
        self._define(s, s.name, bounds, scope)

    def _derived(self, s: Let, scope: _Scope) -> Interval:
        of, n = s.params
        self.derived[s.name] = (s.op, of, int(n))
        bounds = self._interval(s, of, scope)
        if s.op != "index_clamp" and bounds[0] < 0 and not self._data(of, scope):
            self._fail(s, f"division of an index that can be {bounds[0]}")
        return _derive(s.op, bounds, int(n))

    def _interval(self, s: Any, ix: Index, scope: _Scope, guard: Sequence[Condition] = ()) -> Interval:
        """What an index can be where the conditions hold."""
        lo = hi = float(ix.const)
        for term, c in ix.terms:
            if term not in scope.bounds:
                self._fail(s, f"{term} is not open here")
            bounds = scope.bounds[term]
            if guard and term in self.derived:
                op, of, n = self.derived[term]
                bounds = _derive(op, self._interval(s, of, scope, guard), n)
            bounds = _guarded(term, bounds, guard, scope.bounds)
            a, b = (float(int(c)) * x for x in bounds)
            lo, hi = lo + min(a, b), hi + max(a, b)
        for test in guard:
            for k, rest in () if test.step else _parts(ix, test.index):     # the condition is not negative
                a, b = self._interval(s, rest, scope)
                lo, hi = (max(lo, a), hi) if k > 0 else (lo, min(hi, b))
        if guard:
            for term, c in ix.terms:
                op, of, n = self.derived.get(term, ("", ix, 0))
                if op == "index_div" and c == 1:
                    below, above = self._interval(s, _numerator(ix, term, of, n), scope, guard)
                    if abs(below) != float("inf") != abs(above):
                        lo, hi = max(lo, below // n), min(hi, above // n)
        return lo, hi

    def _at(self, s: Any, at: At, guard: Sequence[Condition], scope: _Scope) -> None:
        """Each component of the index lies in its dimension: by interval, by a condition, or because it is data."""
        size = 1
        if at.run is not None:                              # counted from the run's first row
            if scope.run is None or at.run not in scope.bounds:
                self._fail(s, "a place in a run, outside of it")
            scope = _Scope({**scope.bounds, at.run: scope.bounds[scope.run]}, scope.open, scope.run)
        for ix, n in zip(at.index, at.shape):
            size *= int(n)
            lo, hi = self._interval(s, ix, scope, guard)
            if not (0 <= lo and hi < n or self._data(ix, scope)):
                self._fail(s, f"{at.buffer.name} has {int(n)} places along a dimension, the index goes from {lo} to {hi}")
        if not at.whole and size > at.buffer.size:
            self._fail(s, f"{at.buffer.name} holds {at.buffer.size} elements, the index counts {size}")

    def _data(self, ix: Index, scope: _Scope) -> bool:
        """An index that was loaded is checked where it enters the program."""
        return any([isinstance(t, str) and scope.bounds[t] == ANY for t, _ in ix.terms])


def _numerator(ix: Index, quotient: Any, of: Index, n: int) -> Index:
    """i with ix = i // n, where `quotient`, one of its terms, is of // n: conditions speak of i, not of what is left of it."""
    terms = {t: n * int(c) for t, c in ix.terms if t != quotient}
    for t, c in of.terms:
        terms[t] = terms.get(t, 0) + int(c)
    return Index(n * int(ix.const) + int(of.const), tuple([(t, c) for t, c in terms.items() if c]))


def _parts(ix: Index, condition: Index) -> list[tuple[int, Index]]:
    """(k, rest) with ix = k * condition + rest, for each k that takes a term of the condition out of ix."""
    of = {t: int(c) for t, c in condition.terms}
    ratios = {int(c) // of[t] for t, c in ix.terms if of.get(t) and int(c) % of[t] == 0}
    parts = []
    for k in sorted(ratios):
        rest = {t: int(c) for t, c in ix.terms}
        for t, c in of.items():
            rest[t] = rest.get(t, 0) - k * c
        const = int(ix.const) - k * int(condition.const)
        parts.append((k, Index(const, tuple([(t, c) for t, c in rest.items() if c]))))
    return parts


def _guarded(term: Any, bounds: Interval, guard: Sequence[Condition], known: dict[Any, Interval]) -> Interval:
    """What a term can be, given the conditions that speak of it and of other terms that are `known`."""
    lo, hi = bounds
    for test in guard:
        if test.step or all([t != term for t, _ in test.index.terms]):
            continue
        c, most = 0, float(test.index.const)                # c * term + most >= 0
        for t, k in test.index.terms:
            if t == term:
                c = int(k)
            else:
                most += max([int(k) * x for x in known.get(t, ANY)])
        if c and abs(most) != float("inf"):
            lo, hi = (max(lo, -(most // c)), hi) if c > 0 else (lo, min(hi, most // -c))
    return lo, hi


def _derive(op: str, bounds: Interval, n: int) -> Interval:
    lo, hi = max(bounds[0], 0), max(bounds[1], 0)
    if op == "index_clamp":
        return lo, hi
    return (lo // n, hi // n) if op == "index_div" else (0, min(n - 1, hi))
