"""Scalars to loops: one level of a nest decides, then builds, then the next level does.

In: `Task`s (ranges still to be opened, a scalar, where it goes).  Out: statements of the loop IR.  At a level some values
must be ready before a loop opens: reductions closed here (registers), and values kept in arrays.  Each gets a task of its
own; tasks are ordered in passes by what they wait for, and those of one pass that open the same range share the loop.
`decide` (passes.py) says which; this module only builds what was decided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..dtypes import int64
from .index import Ix, Range
from .loops import Accumulate, At, Buffer, Condition, Const, Index, Init, Let, Loop, Operand, Store, conditions
from .lower import Lowering
from .passes import Decider, Pass
from .scalar import E
from .tasks import Memory, Room, Task

Env = dict[E, Any]                 # E → name of a register, or Memory


PARTED = 32                        # turns from which a loop's bounds are taken out of it
LONG = 400                         # statements that are not written twice


class Nest:
    """Builds the statements of one kernel; `simt`: for a GPU, with plain loops only."""

    def __init__(self, low: Lowering, order: dict[int, int], new: Callable[[str, Any, int], Buffer],
                 simt: bool = False) -> None:
        self.low, self.space = low, low.space
        self.room = Room(low.space, order, new)
        self.spans: dict[Range, str] = {}
        self.simt = simt
        self.decider = Decider(self.room, low.scalars, simt)

    # ------------------------------------------------------------------ one level
    def level(self, tasks: list[Task], bound: int, env: Env, out: list[Any]) -> None:
        """Statements for `tasks` where the ranges in `bound` are open; `env`: values that are ready."""
        for p in self.decider.passes(tasks, bound, env):
            if p.range is None:
                for t in p.tasks:
                    self._sink(t, self.emit(t.expr, env, out), env, out)
            else:
                self._loop(p, bound, env, out)

    def _loop(self, p: Pass, bound: int, env: Env, out: list[Any]) -> None:
        r = p.range
        assert r is not None
        self._hoist([t.expr for t in p.tasks], bound, env, out)
        for t in p.tasks:
            if t.red is not None and t.opens:
                out.append(Init(t.name, t.red.params[0], t.red.dtype))
        body: list[Any] = []
        inner = [t.inside() for t in p.tasks]
        self.level(inner, bound | r.bit, dict(env), body)
        innermost = len(body) < LONG and not any([type(s) is Loop for s in body])
        split = innermost and not self.simt and r.usual >= PARTED and bool(conditions(body, r))
        out.append(Loop(r, tuple(body), self.spans.get(r, "all"), split))
        for t in p.tasks:
            if t.red is not None and t.opens:
                env[t.red] = t.name
        for e, memory in p.ready:
            env[e] = memory

    def _hoist(self, roots: list[E], bound: int, env: Env, out: list[Any]) -> None:
        """Whatever does not vary inside the loop is computed before it."""
        seen: set[E] = set()
        stack = roots[::-1]
        while stack:
            e = stack.pop()
            if e in seen or e.op == "const":
                continue
            seen.add(e)
            if not e.free & ~bound:
                self.emit(e, env, out)
            elif e not in env:
                stack.extend(reversed(e.args))

    def _sink(self, t: Task, value: Operand, env: Env, out: list[Any]) -> None:
        if t.memory is not None:
            out.append(Store(self.at(t.memory, env, out), value, t.op))
        elif t.red is not None:
            out.append(Accumulate(t.name, t.red.params[0], t.red.dtype, value))

    # ------------------------------------------------------------------ scalars to statements
    def emit(self, root: E, env: Env, out: list[Any]) -> Operand:
        """The statements that compute a scalar; all its reductions are ready."""
        if root.op == "const":
            return Const(root.params[0], root.dtype)
        stack = [root]
        while stack:
            e = stack[-1]
            known = env.get(e)
            if type(known) is str or e.op == "const":
                stack.pop()
                continue
            if known is not None:
                name = self.room.name("t")
                dtype = known.buffer.dtype
                out.append(Let(name, "load", dtype, (), (self.at(known, env, out), ())))
                if dtype is not e.dtype:                    # sums that are kept wide
                    wide, name = name, self.room.name("t")
                    out.append(Let(name, "cast", e.dtype, (wide,)))
                env[e] = name
                stack.pop()
                continue
            args = e.args
            for a in args:
                if a.op != "const" and type(env.get(a)) is not str:
                    stack += [a for a in args[::-1] if a.op != "const" and type(env.get(a)) is not str]
                    break
            else:
                env[e] = self._statement(e, env, out)
                stack.pop()
        return env[root]  # type: ignore[no-any-return]

    def _statement(self, e: E, env: Env, out: list[Any]) -> str:
        if e.op == "red":
            raise AssertionError(f"{e!r} was not scheduled")
        name = self.room.name("t")
        if e.op == "load":
            buffer, index, shape, guard = e.params
            at = self.at(Memory(buffer, index, shape), env, out)
            if self.simt and buffer.kind == "part":         # all chunks' areas: the chunk is one of the dimensions
                at = replace(at, whole=True)
            out.append(Let(name, "load", e.dtype, (), (at, self.conditions(guard, env, out))))
        elif e.op == "index":
            out.append(Let(name, "index", e.dtype, (), (self.index(e.params[0], env, out),)))
        elif e.op == "inside":
            out.append(Let(name, "inside", e.dtype, (), self.conditions(e.params[0], env, out)))
        else:
            args = tuple([Const(a.params[0], a.dtype) if a.op == "const" else env[a] for a in e.args])
            out.append(Let(name, e.op, e.dtype, args, e.params))
        return name

    def conditions(self, guard: Any, env: Env, out: list[Any]) -> tuple[Condition, ...]:
        return tuple([Condition(self.index(ix, env, out), step) for ix, step in guard])

    def at(self, m: Memory, env: Env, out: list[Any]) -> At:
        return At(m.buffer, tuple([self.index(ix, env, out) for ix in m.index]), m.shape, m.run)

    def index(self, ix: Ix, env: Env, out: list[Any]) -> Index:
        """An affine index over loop variables and names; divisions and data become names first."""
        const = ix.const
        terms: list[tuple[Range | str, int]] = []
        for t, c in ix.terms:
            if type(t) is Range:
                terms.append((t, c))
                continue
            if t.kind == "data":
                found = self.emit(t.of, env, out)
                if isinstance(found, Const):                # one place is left of a counted index
                    const += c * int(found.value)
                    continue
                name = found
            elif t in env:
                name = env[t]
            else:
                of = self.index(t.of, env, out)
                name = env[t] = self.room.name("q")
                out.append(Let(name, f"index_{t.kind}", int64, (), (of, t.n)))
            terms.append((name, c))
        return Index(const, tuple(terms))
