"""What one level of a nest computes when: the deciding half of `nest.py`.

In: the tasks of a level, the ranges already open, the values that are ready.  Out: `Pass`es in order.  Decides which
values are tabulated before a loop that does not vary them, which reductions run with their loop outside, and which dear
values are kept from one pass to the next.  Never emits a statement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..dtypes import float32, float64
from .cost import DEAR, JUMP, stride
from .index import Range, mask_of
from .layout import Layout
from .scalar import E, Scalars
from .sums import identity
from .tasks import Memory, Room, Task

VECTOR = 16                        # turns from which an inner loop vectorises well
MANY = 64                          # float32 terms from which an array of sums is one of float64
VERY = 16                          # an operation from which threads keep values
FEW = 4                            # terms up to which a thread adds up again
PACKED = 32                        # turns of a loop from which packing a strided load before it pays


@dataclass(slots=True)
class Pass:
    """One loop over `range` (None: statements without a loop) shared by `tasks`; after it the arrays in `ready` are full."""

    range: Range | None
    tasks: list[Task]
    ready: list[tuple[E, Memory]] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """A level in the making.  `regs`: reductions closed here; `arrays`: values that a task of their own puts in an array."""

    bound: int
    env: dict[E, Any]
    jobs: list[Task] = field(default_factory=list)
    regs: dict[E, Task] = field(default_factory=dict)
    arrays: dict[E, Task] = field(default_factory=dict)
    fills: dict[Task, E] = field(default_factory=dict)      # the task that completes an array → the value it holds
    first: dict[Task, E] = field(default_factory=dict)      # the task that sets an array to an identity → its value


class Decider:
    """Decides for one kernel; `layout` has wishes of its own.  `simt`: threads compute again what is no reduction."""

    def __init__(self, room: Room, scalars: Scalars, simt: bool = False) -> None:
        self.room, self.scalars, self.space, self.simt = room, scalars, room.space, simt
        self.layout: Layout | None = None

    def passes(self, tasks: list[Task], bound: int, env: dict[E, Any]) -> list[Pass]:
        plan = self._collect(tasks, bound, env)
        depth = self._depths(plan)
        groups: dict[tuple[int, ...], Pass] = {}
        for t in plan.jobs:
            r = t.ranges[0] if t.ranges else None
            key: tuple[int, ...]
            if r is None:
                key = (depth[t.expr][0], 1, 0)
            else:
                group = self.layout.group(t) if self.layout is not None and not bound else 0
                key = (*self._turn(t, plan, depth), *self.room.place(r), group)
            p = groups.get(key)
            if p is None:
                p = groups[key] = Pass(r, [])
            p.tasks.append(t)
            e = plan.fills.get(t)
            if e is not None:
                assert t.memory is not None
                p.ready.append((e, t.memory))
        self._join(groups, depth)
        ordered = [groups[k] for k in sorted(groups)]
        self._keep(ordered, bound, env, plan)
        return ordered

    # ------------------------------------------------------------------ which values this level must have ready
    def _collect(self, tasks: list[Task], bound: int, env: dict[E, Any]) -> Plan:
        plan = Plan(bound, env)
        seen: dict[tuple[Range, ...], set[E]] = {}
        todo = list(reversed(tasks))
        while todo:
            t = todo.pop()
            plan.jobs.append(t)
            if not t.expr.free & ~bound and t.expr.chain == 0:
                continue
            visited = seen.setdefault(t.ranges, set())
            first = t.ranges[0].bit if t.ranges and (self.layout is None or bound) else 0
            stack = list(t.expr.args) if t.own else [t.expr]
            while stack:
                e = stack.pop()
                if e in visited or e.op == "const" or e in env or e in plan.arrays:
                    continue
                visited.add(e)
                inside = e.free & ~bound
                if e.op != "red" and (inside & first or not inside):     # nothing to decide: most values
                    if inside or e.chain:
                        stack.extend(e.args)
                    continue
                more = self._visit(e, t, plan)
                if more is None:
                    stack.extend(e.args)
                else:
                    todo.extend(more)
        return plan

    def _visit(self, e: E, t: Task, plan: Plan) -> list[Task] | None:
        """New tasks if `e` is to be ready before the loop of `t` opens (its arguments are then their business)."""
        inside = e.free & ~plan.bound
        if not inside:
            return self._register(e, plan)
        if not t.ranges:
            raise AssertionError(f"{e!r} varies with ranges that no loop opens")
        r = t.ranges[0]
        wish = self.layout.wish(e, t, inside) if self.layout is not None and not plan.bound else None
        if wish == "table":
            return self.table(e, inside, plan)
        if wish == "accumulate":
            assert self.layout is not None
            wide = float64 if self._many(e, 8 * MANY) else e.dtype
            return self.accumulated(e, inside, plan, outer=inside & ~self.layout.rows.bit, dtype=wide)
        if not inside & r.bit:
            return self.table(e, inside, plan) if self.tabled(e, r, inside) else None
        lanes = self.layout is not None and self.layout.kind == "lanes"
        if e.op == "red" and not lanes and not self.simt and self._inverted(e, t, inside):
            return self.accumulated(e, inside, plan, dtype=float64 if self._many(e, MANY) else e.dtype)
        return None

    def _register(self, e: E, plan: Plan) -> list[Task]:
        if e in plan.regs:
            return []
        t = plan.regs[e] = Task(self.room.sort(mask_of(e.params[1])), e.args[0], name=self.room.name("acc"), red=e)
        return [t]

    def tabled(self, e: E, r: Range, inside: int) -> bool:
        """Does `e`, which the loop over r does not vary, deserve a table made before that loop?"""
        if self.simt:
            return e.op == "red"
        if e.op == "load":
            if r.usual <= PACKED or any([type(t) is not Range for ix in e.params[1] for t, _ in ix.terms]):
                return False
            return min([stride(e, q) for q in self.space.members(inside)]) > 1
        return e.op == "red" or e.cost >= DEAR

    def table(self, e: E, inside: int, plan: Plan) -> list[Task]:
        """A task that computes `e` into an array."""
        memory, ranges = self.room.array(e, inside)
        t = plan.arrays[e] = Task(ranges, e, memory, own=True)
        plan.fills[t] = e
        return [t]

    def _inverted(self, e: E, t: Task, inside: int) -> bool:
        """Should the reduction's loop stand outside the one over which the results lie side by side?"""
        r = t.ranges[0]
        if len(t.ranges) != 1 or inside != r.bit or r.usual < VECTOR:
            return False
        last = self.room.sort(mask_of(e.params[1]))[-1]
        bad = good = 0
        stack, seen = [e.args[0]], set()
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            if x.op == "load":
                a, b = stride(x, last), stride(x, r)
                bad += a > JUMP and b <= 1
                good += b > JUMP and a <= 1
            elif x.op != "red":
                stack.extend(x.args)
        return bad > good

    def _many(self, e: E, least: int) -> bool:
        """Is it a float32 sum of that many terms?"""
        return e.dtype is float32 and e.params[0] == "sum" and self.space.usual(mask_of(e.params[1])) >= least

    def accumulated(self, e: E, inside: int, plan: Plan, outer: int = 0, dtype: Any = None) -> list[Task]:
        """Tasks that compute a reduction by accumulating into an array (of `dtype`, if it is not that of the terms); its own
        loops stand inside those in `outer` only."""
        dtype = dtype or e.dtype
        memory, ranges = self.room.array(e, inside, dtype=dtype)
        op, over = e.params
        start = Task(ranges, self.scalars.const(identity(op, dtype), dtype), memory)
        loops = self.room.sort(outer) + self.room.sort(mask_of(over)) + self.room.sort(inside & ~outer)
        term = self.scalars.apply("cast", (e.args[0],), (), dtype)
        t = plan.arrays[e] = Task(loops, term, memory, op=op)
        plan.first[start], plan.fills[t] = e, e
        return [start, t]

    # ------------------------------------------------------------------ what waits for what
    def _depths(self, plan: Plan) -> dict[E, tuple[int, int]]:
        """(reductions, arrays) that must be ready before each scalar.  An array is filled after the reductions it reads and
        before the next ones: it delays no loop that only reads it."""
        depth: dict[E, tuple[int, int]] = {}
        env, regs, arrays = plan.env, plan.regs, plan.arrays
        for job in plan.jobs:
            stack = [job.expr]
            while stack:
                e = stack[-1]
                if e in depth:
                    stack.pop()
                    continue
                if e.op == "const" or e in env or not arrays and e.chain == 0:
                    depth[e] = (0, 0)
                    continue
                args = e.args
                if len(args) == 1:
                    if args[0] not in depth:
                        stack.append(args[0])
                        continue
                else:
                    todo = [a for a in args if a not in depth]
                    if todo:
                        stack.extend(todo)
                        continue
                d, t = depth[e.args[0]] if len(e.args) == 1 else max([depth[a] for a in e.args], default=(0, 0))
                if e in regs:
                    d, t = d + 1, 0
                elif e in arrays:
                    t += 1 if arrays[e].own else 2
                depth[e] = (d, t)
        return depth

    def _turn(self, t: Task, plan: Plan, depth: dict[E, tuple[int, int]]) -> tuple[int, int, int]:
        """The pass a task with loops belongs to: loops of depth d, statements after them (1), then arrays (2)."""
        e = plan.fills.get(t) or plan.first.get(t)
        if e is not None:
            return (depth[e][0], 2, depth[e][1] - (t in plan.first))
        if t.red is not None and t.red in plan.regs:
            return (depth[t.red][0], 0, 0)
        return (depth[t.expr][0] + 1, 0, 0)

    def _join(self, groups: dict[tuple[int, ...], Pass], depth: dict[E, tuple[int, int]]) -> None:
        """Loops that need not wait share an array's loop over the same range."""
        for key in [k for k in groups if k[1] == 0]:
            ready = 0
            for t in groups[key].tasks:
                d, arrays = depth[t.expr]
                if d == key[0] - 1:
                    ready = max(ready, arrays)
            for other in sorted(groups):
                if other[0] == key[0] - 1 and other[1] == 2 and other[2] > ready and other[3:] == key[3:]:
                    groups[other].tasks += groups.pop(key).tasks
                    break

    def _near(self, e: E, bound: int, r: Range | None) -> bool:
        """Should threads keep what the loop over r computes: a reduction of more than a few terms, or what is very dear and has
        room nearby?"""
        if r is None or not e.free & r.bit:
            return False
        if e.op == "red":
            return self.space.usual(mask_of(e.params[1])) >= FEW
        return e.own >= VERY and self.space.usual(e.free & ~bound) <= self.room.near

    # ------------------------------------------------------------------ kept from pass to pass
    def _keep(self, passes: list[Pass], bound: int, env: dict[E, Any], plan: Plan) -> None:
        """Dear values that vary inside several passes are stored by the first and loaded by the others."""
        loops = [p for p in passes if p.range is not None]
        if len(loops) < 2:
            return
        first: dict[E, int] = {}
        kept: set[E] = set()
        for k, p in enumerate(loops):
            seen: set[E] = set()
            stack = [a for t in p.tasks for a in (t.expr.args if t.own else (t.expr,))]
            while stack:
                e = stack.pop()
                if e in seen or e.op in ("const", "load") or e in env or e in plan.arrays or e in kept or not e.free & ~bound:
                    continue
                seen.add(e)
                j = first.setdefault(e, k)
                if j < k and (self._near(e, bound, loops[j].range) if self.simt else e.own >= DEAR):
                    kept.add(e)
                    memory, ranges = self.room.array(e, e.free & ~bound, first=loops[j].range)
                    loops[j].tasks.append(Task(ranges, e, memory))
                    loops[j].ready.append((e, memory))
                else:
                    stack.extend(e.args)
