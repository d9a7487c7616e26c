"""Goals to kernels: which range is parallel, what is summed privately, what waits for a later kernel.

In: `Goal`s (a scalar for each point of some ranges, and its place in memory).  Out: KernelSteps.  Small work becomes one
serial kernel.  Otherwise the parallel range is the one with the least cost for its kernel *and* for what it leaves over;
reductions over it are privatised (an accumulator for each chunk) and combined by a kernel that is the same for all
programs.  Results never depend on how many threads there really are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..dtypes import float32, float64
from .cost import KERNEL, LEVEL, Target, work
from .index import Range, Size, mask_of
from .layout import Estimate, Layout, Sink
from .loops import At, Buffer, Const, Index, Init, Kernel, KernelStep, Let, Loop, Run, Store, written
from .lower import Lowering
from .nest import Nest
from .roll import roll
from .scalar import E
from .sums import identity
from .tasks import Memory, Task
from .wide import widened

AREA = 1 << 15                     # places of a chunk's sums from which they leave its cache
MOST = 3                           # schedules that a decision may be put to the clock between
NEAR = 32                          # rows that are added up in float32 before they go to float64


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """expr for all points of `ranges`, stored at `memory` (with `op` into what is there)."""

    ranges: tuple[Range, ...]
    expr: E
    memory: Memory
    op: str | None = None

    @property
    def mask(self) -> int:
        return mask_of(self.ranges)


@dataclass(slots=True)
class Choice:
    """A candidate for the parallel range: what its kernel does, what it leaves, what that costs.  For a GPU: how many threads
    a row has (`width`), how many sums over the rows stand side by side if a thread takes whole columns (`columns`), and the
    `chunks`; sums that are left to a kernel of their own (`off`), and the `values` that are kept for it."""

    parallel: Range
    now: list[Goal]
    later: list[Goal]
    shared: list[E]                # reductions over it: privatised
    work: float
    cost: float
    layout: Layout | None
    width: int = 0
    columns: int = 0
    chunks: int = 0
    off: Sequence[E] = ()
    values: Sequence[E] = ()


@dataclass(slots=True)
class Part:
    """A chunk's area for privatised reductions by `op`: each value's place in it, in `order` if it is an array.  They are
    combined into the buffer `to`, which completes `goals`, or else into a temporary.  Sums of float32 have float64 areas;
    `near`: where the rows of a run are added up before they go to such an area."""

    buffer: Buffer
    size: int
    op: str
    order: tuple[Range, ...]
    values: list[tuple[E, Memory]]
    to: Buffer | None
    goals: list[Goal]
    near: Memory | None = None


class Stager:
    """Schedules the goals of one group.  `new(kind, dtype, size)` makes a buffer."""

    def __init__(self, low: Lowering, order: dict[int, int], new: Callable[[str, Any, int], Buffer], target: Target,
                 notes: list[str]) -> None:
        self.low, self.space, self.order, self.new, self.target, self.notes = low, low.space, order, new, target, notes
        self.steps: list[KernelStep] = []

    def run(self, goals: list[Goal]) -> list[KernelStep]:
        while goals:
            total = work([(g.mask, g.expr) for g in goals], self.space)
            best = self._choose(goals) if total >= self.target.serial else None
            if best is None or best.cost >= total:
                self._serial(goals)
                break
            self._refused(best)
            goals = self._parallel(best)
        return self.steps

    def _serial(self, goals: list[Goal]) -> None:
        nest = Nest(self.low, self.order, self.new)
        body: list[Any] = []
        nest.level([Task(nest.room.sort(g.mask), g.expr, g.memory, g.op) for g in goals], 0, {}, body)
        self.steps.append(KernelStep(Kernel(roll(widened(body), self.new)), 1, 1))

    def _refused(self, c: Choice) -> None:
        """Why some goals wait for another kernel."""
        n = c.parallel.hi + 1
        other = [g.memory.buffer.name for g in c.later if c.parallel not in g.ranges and g.expr not in c.shared]
        waiting = [g.memory.buffer.name for g in c.later if c.parallel in g.ranges]
        if waiting:
            self.notes.append(f"{_few(waiting)}: after the kernel over {n}, needing its sums, or adding where it adds")
        if other:
            self.notes.append(f"{_few(other)}: not in the kernel over {n}, whose range they do not loop over")

    # ------------------------------------------------------------------ choice
    def _choose(self, goals: list[Goal]) -> Choice | None:
        added = [g.memory.buffer.name for g in goals if g.op is not None]
        if len(set(added)) < len(added):
            self.notes.append(f"{added[0]} gets several additions: one after the other, serially")
            return None
        ranges: dict[Range, None] = {}
        seen: set[E] = set()
        stack = [g.expr for g in goals]
        while stack:
            e = stack.pop()
            if e in seen:
                continue
            seen.add(e)
            if e.op == "red":
                ranges.update(dict.fromkeys(e.params[1]))
            stack.extend(e.args)
        for g in goals:
            ranges.update(dict.fromkeys(g.ranges))
        choices = [c for r in ranges if r.k == 0 and r.hi > 0 for c in self._choices(goals, r)]
        choices.sort(key=lambda c: c.cost)
        if not choices or self.target.ballot is None:
            return choices[0] if choices else None
        near = [c for c in choices if c.cost <= LEVEL * choices[0].cost][:MOST]
        return near[self.target.ballot.vote(len(near))]

    def _parted(self, goals: list[Goal], p: Range) -> tuple[list[Goal], list[Goal], list[E]]:
        """What a kernel parallel over p completes, what it leaves, and the reductions over p that it has parts of."""
        level: dict[E, int] = {}
        shared: dict[E, None] = {}
        for g in goals:
            self._levels(g.expr, p, level, shared)
        now = [g for g in goals if level[g.expr] == 0 and self._apart(g, p)]
        return now, [g for g in goals if not (level[g.expr] == 0 and self._apart(g, p))], list(shared)

    def _choices(self, goals: list[Goal], p: Range) -> list[Choice]:
        """The kernel parallel over p: a choice for each layout, the best first."""
        now, later, shared = self._parted(goals, p)
        if not now and not shared:
            return []
        t = self.target
        rows = p.usual
        chunks = min(rows, 2 * t.threads)
        estimate = Estimate(self._sinks(now, shared, p), p, self.order, self.space, chunks)
        own = estimate.cost
        for e in shared:
            places = self.space.usual(e.free)
            own += (3 if places < AREA else 12) * chunks * places
        rest = work([(g.mask, g.expr) for g in later], self.space, set(shared))
        if rest > t.serial:
            rest = max(rest * 2 / t.threads, t.serial)
        speed = rows / -(-rows // t.threads) * rows / (rows + t.threads)     # few rows are hard to share evenly
        fixed = own / speed + rest + KERNEL * (1 + bool(later))
        ways = estimate.ways(t)
        return [Choice(p, now, later, shared, own, fixed + (cost - ways[0][0]) / speed, layout) for cost, layout in ways]

    def _apart(self, g: Goal, p: Range) -> bool:
        """Does the goal loop over p, and do different p go to different places?"""
        return p in g.ranges and any([t is p for ix in g.memory.index for t, _ in ix.terms])

    def _levels(self, root: E, p: Range, level: dict[E, int], shared: dict[E, None]) -> None:
        """For each scalar how many reductions over p stand one inside the other below it; `shared`: the innermost ones."""
        stack = [root]
        while stack:
            e = stack[-1]
            if e in level:
                stack.pop()
                continue
            if e.chain == 0:
                level[e] = 0
                continue
            todo = [a for a in e.args if a not in level]
            if todo:
                stack.extend(todo)
                continue
            d = max([level[a] for a in e.args], default=0)
            if e.op == "red" and p in e.params[1]:
                if d == 0:
                    shared[e] = None
                d += 1
            level[e] = d

    def _sinks(self, now: list[Goal], shared: list[E], p: Range) -> list[Sink]:
        """What the kernel parallel over p stores and adds up."""
        sinks = [Sink(g.mask, g.expr, g.memory.index, g.memory.shape, g.op is not None) for g in now]
        for e in shared:
            rest = tuple([r for r in e.params[1] if r is not p])
            inner = self.low.scalars.red_node(e.params[0], rest, e.args[0]) if rest and e.free else e.args[0]
            sinks.append(Sink(e.free | p.bit, inner, summed=True) if e.free else Sink(p.bit, inner))
        return sinks

    # ------------------------------------------------------------------ a parallel kernel
    def _parallel(self, c: Choice) -> list[Goal]:
        """Append the kernel of a choice and its combines; returns what is left, over the combined values."""
        nest = self._nest()
        p = nest.room.first = c.parallel
        nest.spans[p] = "chunk"
        scalars = self.low.scalars
        zero: list[Task] = []
        tasks = [Task(nest.room.sort(g.mask), g.expr, g.memory, g.op) for g in c.now]
        parts = self._registers(c, nest) + [self._area(e, c.later, nest) for e in c.shared if e.free]
        for part in parts:
            for e, memory in part.values:
                op, ranges = e.params
                if not e.free:
                    tasks.append(Task(nest.room.sort(mask_of(ranges)), e.args[0], name=nest.room.name("acc"), red=e))
                    continue
                rest = tuple([r for r in ranges if r is not p])
                inner = scalars.red_node(op, rest, e.args[0]) if rest else e.args[0]
                for place in self._cleared(memory, part.near):
                    dtype = place.buffer.dtype
                    zero.append(Task(part.order, scalars.const(identity(op, dtype), dtype), place))
                tasks.append(Task(nest.room.sort(e.free | p.bit), inner, part.near or memory, op=op))
        body: list[Any] = []
        env: dict[E, Any] = {}
        nest.level(zero, 0, env, body)
        if c.layout is None:
            nest.level(tasks, 0, env, body)
        else:
            self._runs(c.layout, tasks, nest, env, body)
        body = self._handed_on(body, parts, p)
        for part in parts:
            for e, memory in part.values:
                if not e.free:
                    body.append(Store(nest.at(memory, env, body), self._as(part.buffer.dtype, e, env, body)))
        chunks = self._chunks(c, body, parts)
        self.steps.append(KernelStep(Kernel(tuple(self._finished(body)), p), p.hi + 1, chunks))
        return self._combined(c, parts, chunks)

    def _nest(self) -> Nest:
        return Nest(self.low, self.order, self.new)

    def _cleared(self, memory: Memory, near: Memory | None) -> list[Memory]:
        """What is set to the identity of a sum before the rows."""
        return [memory] if near is None else [memory, near]

    def _finished(self, body: list[Any]) -> Sequence[Any]:
        return widened(body)

    def _runs(self, layout: Layout, tasks: list[Task], nest: Nest, env: dict[E, Any], body: list[Any]) -> None:
        """The tasks of a chunk in runs of rows: what does not vary with the rows first, then every run's passes."""
        p = layout.rows
        constants = self._constants(tasks, p, nest)
        nest.level(constants, 0, env, body)
        env.update([(t.expr, t.memory) for t in constants if t.memory is not None])
        for t in tasks:
            if t.red is not None:
                body.append(Init(t.name, t.red.params[0], t.red.dtype))
        nest.decider.layout, nest.room.rows, nest.spans[p] = layout, (p, layout.length), "run"
        if layout.kind == "lanes":
            nest.room.first, nest.room.last = None, p
        inner = [self._in_run(t, layout, nest) for t in tasks]
        inside: list[Any] = []
        nest.level(inner, 0, dict(env), inside)
        body.append(Run(p, layout.length, tuple(inside)))
        for t in tasks:
            if t.red is not None:
                env[t.red] = t.name

    def _in_run(self, t: Task, layout: Layout, nest: Nest) -> Task:
        """A task as a run does it.  Rows innermost: a sum over them in memory is first summed over the run, in a register
        (places that the rows themselves have, at an index that is data, are added to one by one)."""
        if layout.kind == "block":
            return replace(t, opens=False)
        mask = mask_of(t.ranges)
        if t.op is not None and t.memory is not None and not any([ix.free & layout.rows.bit for ix in t.memory.index]):
            over = nest.low.scalars.red_node(t.op, (layout.rows,), t.expr)
            if t.expr.op == "red" and t.expr.params[0] == t.op:
                ranges = tuple(sorted((*t.expr.params[1], layout.rows), key=lambda r: r.uid))
                over = nest.low.scalars.red_node(t.op, ranges, t.expr.args[0])
            return replace(t, ranges=nest.room.sort(mask & ~layout.rows.bit), expr=over, opens=False)
        return replace(t, ranges=nest.room.sort(mask), opens=False)

    def _constants(self, tasks: list[Task], p: Range, nest: Nest) -> list[Task]:
        """Tasks for what the rows share: numbers, and tables of what is dear or lies apart."""
        out: list[Task] = []
        seen: set[E] = set()
        stack = [t.expr for t in tasks]
        while stack:
            e = stack.pop()
            if e in seen or e.op == "const":
                continue
            seen.add(e)
            if e.free & p.bit or e.op == "red" and p in e.params[1]:
                stack.extend(e.args)
            elif not e.free:
                out.append(Task((), e))
            elif nest.decider.tabled(e, p, e.free):
                memory, ranges = nest.room.array(e, e.free)
                out.append(Task(ranges, e, memory))
            else:
                stack.extend(e.args)
        return out

    # ------------------------------------------------------------------ privatised reductions
    def _registers(self, c: Choice, nest: Nest) -> list[Part]:
        """Reductions to single numbers: those of one kind share an area.  If they are the elements of one buffer, they are
        combined straight into it."""
        single = dict.fromkeys([e for e in c.shared if not e.free])
        spots: dict[E, Goal] = {}
        for g in c.later:
            if g.op is None and not g.ranges and g.expr in single:
                spots.setdefault(g.expr, g)
        groups: dict[Any, list[E]] = {}
        for e in single:
            spot = spots[e].memory.buffer.name if e in spots else ""
            groups.setdefault((e.params[0], e.dtype, spot), []).append(e)
        parts: list[Part] = []
        left: dict[Any, list[E]] = {}
        for (op, dtype, name), es in groups.items():
            goals = [spots[e] for e in es] if name else []
            if goals and len(goals) == goals[0].memory.buffer.size:
                goals.sort(key=lambda g: _position(g.memory))
                parts.append(self._packed([g.expr for g in goals], goals[0].memory.buffer, goals))
            else:
                left.setdefault((op, dtype), []).extend(es)
        return parts + [self._packed(es, None, []) for es in left.values()]

    def _wide(self, e: E) -> Any:
        """The dtype of an area."""
        return float64 if e.dtype is float32 and e.params[0] == "sum" else e.dtype

    def _packed(self, es: list[E], to: Buffer | None, goals: list[Goal]) -> Part:
        space, n = self.space, len(es)
        buffer = self.new("part", self._wide(es[0]), n)
        values = [(e, Memory(buffer, (space.const(k),), (n,))) for k, e in enumerate(es)]
        return Part(buffer, n, es[0].params[0], (), values, to, goals)

    def _area(self, e: E, later: list[Goal], nest: Nest) -> Part:
        """A reduction to an array: an area of its own, in the order of the buffer it goes to."""
        order, goal = nest.room.sort(e.free), None
        for g in later:
            if g.expr is e and self._plain(g, e):
                order, goal = tuple([ix.terms[0][0] for ix in g.memory.index]), g
                break
        shape = tuple([r.extent for r in order])
        size = 1
        for n in shape:
            size = size * n
        index = tuple([self.space.var(r) for r in order])
        memory = Memory(self.new("part", self._wide(e), size), index, shape)
        near = Memory(self.new("scratch", e.dtype, size), index, shape) if memory.buffer.dtype is not e.dtype else None
        return Part(memory.buffer, self.space.points(e.free), e.params[0], order, [(e, memory)],
                    goal.memory.buffer if goal is not None else None, [goal] if goal is not None else [], near)

    def _handed_on(self, body: list[Any], parts: list[Part], p: Range) -> list[Any]:
        """The rows in runs, after each of which what was added up near goes to the float64 areas."""
        tasks: list[Task] = []
        scalars = self.low.scalars
        near: set[str] = set()
        for part in parts:
            if part.near is not None:
                near.add(part.near.buffer.name)
                (_, memory), = part.values
                value = scalars.load(part.near.buffer, part.near.index, part.near.shape, ())
                wide = scalars.apply("cast", (value,), (), memory.buffer.dtype)
                tasks += [Task(part.order, wide, memory, "sum"), Task(part.order, scalars.const(0, value.dtype), part.near)]
        if not tasks:
            return body
        nest = Nest(self.low, self.order, self.new)
        flush: list[Any] = []
        nest.room.prefix = "near"
        nest.level(tasks, 0, {}, flush)
        out: list[Any] = []
        for s in body:
            if type(s) is Loop and s.range is p and near & written(s.body):
                s = Run(p, NEAR, (replace(s, span="run"), *flush))
            elif type(s) is Run:
                s = replace(s, body=(*s.body, *flush))
            out.append(s)
        return out

    def _as(self, dtype: Any, e: E, env: dict[E, Any], body: list[Any]) -> str:
        name: str = env[e]
        if dtype is e.dtype:
            return name
        body.append(Let(f"{name}a", "cast", dtype, (name,)))
        return f"{name}a"

    def _plain(self, g: Goal, e: E) -> bool:
        """Does the goal store the value row-major over its ranges?"""
        return g.op is None and g.mask == e.free and len(g.memory.index) == len(g.ranges) and all(
            [len(ix.terms) == 1 and ix.const == 0 and type(ix.terms[0][0]) is Range and int(ix.terms[0][1]) == 1
             and ix.terms[0][0].hi + 1 == n for ix, n in zip(g.memory.index, g.memory.shape)])

    def _chunks(self, c: Choice, body: list[Any], parts: list[Part]) -> int:
        """Enough chunks for balance, but each with work to do, and what every chunk repeats a small share of it."""
        t = self.target
        once = [s for s in body if not isinstance(s, Run) and not (isinstance(s, Loop) and s.span == "chunk")]
        repeated = sum([_statements(s) for s in once]) + sum(
            [2 * (self.space.usual(mask_of(part.order)) if part.order else part.size) for part in parts])
        most = min(c.parallel.usual, 2 * t.threads, int(c.work / t.grain))
        return max(1, min(most, max(4, int(0.1 * c.work / max(repeated, 1)))))

    def _combined(self, c: Choice, parts: list[Part], chunks: int) -> list[Goal]:
        """Append the combining kernels; the goals that are left, over combined values."""
        memo: dict[E, E] = {}
        done: set[Goal] = set()
        for part in parts:
            done.update(part.goals)
            to = part.to or self.new("temp", part.values[0][0].dtype, part.size)
            self.steps.append(self._combine(part.buffer, to, part.op, part.size, chunks))
            for e, memory in part.values:
                memo[e] = self.low.scalars.load(to, memory.index, memory.shape, ())
        return [Goal(g.ranges, self.low.scalars.rewrite(g.expr, memo), g.memory, g.op) for g in c.later if g not in done]

    def _combine(self, part: Buffer, out: Buffer, op: str, size: int, chunks: int) -> KernelStep:
        """out := the parts of all chunks together.  One text for all programs: everything of its own is a slot."""
        rows = Range(-1, 0, Size(size, ("combine", "rows")), 0, 0)
        parts = Range(-2, 0, Size(chunks, ("combine", "chunks")), 0, 0)
        i, k = Index(0, ((rows, 1),)), Index(0, ((parts, 1),))
        wide = part.dtype is not out.dtype
        sums = self.new("temp", part.dtype, size) if wide else out
        to = At(sums, (i,), (rows.extent,))
        of = At(part, (k, i), (parts.extent, Size(part.size, ("combine", "stride"))), whole=True)
        start = Store(to, Const(part.dtype.number(identity(op, part.dtype)), part.dtype))
        add = (Let("t1", "load", part.dtype, (), (of, ())), Store(to, "t1", op))
        body: tuple[Any, ...] = (Loop(rows, (start,), "chunk"), Loop(parts, (Loop(rows, add, "chunk"),)))
        if wide:
            last = (Let("t2", "load", part.dtype, (), (to, ())), Let("t3", "cast", out.dtype, ("t2",)),
                    Store(At(out, (i,), (rows.extent,)), "t3"))
            body = (*body, Loop(rows, last, "chunk"))
        return KernelStep(Kernel(body, rows), size, 1)


def _position(m: Memory) -> int:
    """The element that a constant index means."""
    at, step = 0, 1
    for ix, n in zip(reversed(m.index), reversed(m.shape)):
        at, step = at + int(ix.const) * step, step * int(n)
    return at


def _statements(s: Any) -> float:
    """A rough count of what a statement executes."""
    if isinstance(s, Loop):
        return s.range.usual * sum([_statements(x) for x in s.body])
    return 1


def _few(names: list[str]) -> str:
    """Names for a note, each once: parts of one array have one name, and a training step has hundreds of arrays."""
    each = list(dict.fromkeys(names))
    return ", ".join(each[:6]) + (f" and {len(each) - 6} more" if len(each) > 6 else "")
