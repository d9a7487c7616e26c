"""Goals to kernels for a GPU: `stages.py` with what differs there.

In: `Goal`s.  Out: KernelSteps of plain loops.  The parallel range gives groups of threads, the loops inside it are for the
threads of a group.  Small work is one kernel of one group; chunks are as many as a nominal card keeps busy.  Areas of sums
are of the sum's own dtype, and a reduction over the chunks combines them.  Never asks the real card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .index import Range, Size, mask_of
from .lanes import ALL, COLUMNS, LAUNCH, RESIDENT, TOUCH, Lanes, below, common, in_rows, least, of_rows, one_group, still
from .loops import Accumulate, At, Buffer, Index, Init, Kernel, KernelStep, Let, Loop, Store
from .nest import Nest
from .roll import roll
from .scalar import E
from .stages import Choice, Goal, Part, Stager
from .tasks import Memory, Task

NEAR = 8 << 10                     # bytes of sums that a group adds up in its shared memory
ARRAY = 1024                       # elements of an array that has a literal size, so that it can lie there
TWICE = 1.15                       # reading things again must be worth it
ALONE = 1.5                        # how much worse sums in parts are if there is one chunk
LARGE = 1 << 26                    # elements that are kept between kernels so that sums can be made apart from rows, at most
FEW = 8                            # sums that a later kernel puts together from the chunks' on the way


class SimtStager(Stager):
    """Schedules the goals of one group for a GPU."""

    def run(self, goals: list[Goal]) -> list[KernelStep]:
        rounds = _rounds(goals)
        if len(rounds) > 1 and self._alone(goals) > LAUNCH:
            for some in rounds:
                self._run(some)
        else:
            self._run(goals)
        return self.steps

    def _run(self, goals: list[Goal]) -> None:
        while goals:
            several = len(_rounds(goals)) > 1
            best = None if several else self._choose(goals)
            if best is None or best.cost >= self._alone(goals) + LAUNCH:
                self._serial(goals)
                break
            roots = [*[g.expr for g in best.now], *[e.args[0] for e in (*best.shared, *best.off)]]
            early = common(roots, best.parallel, self.space)
            if early:
                goals = self._early(early, goals, best)
                continue
            if best.off:
                self._put_off(best)
            self._refused(best)
            goals = self._parallel(best)

    def _alone(self, goals: list[Goal]) -> float:
        return one_group([(g.mask, g.expr) for g in goals], self.space)

    def _serial(self, goals: list[Goal]) -> None:
        """One kernel of one group: loops one after the other, what is added to one buffer in the order of the goals."""
        nest = self._nest()
        body: list[Any] = []
        for some in _rounds(goals):
            nest.level([Task(nest.room.sort(g.mask), g.expr, g.memory, g.op) for g in some], 0, {}, body)
        self.steps.append(KernelStep(Kernel(roll(body, self.new)), 1, 1))

    def _early(self, values: list[E], goals: list[Goal], c: Choice) -> list[Goal]:
        """Put values that all rows share in memory, and whatever else needs nothing of the rows; the other goals over these."""
        sums = {*c.shared, *c.off}
        others = [g for g in c.later if sums.isdisjoint(below([g.expr]))]
        memo: dict[E, E] = {}
        first: list[Goal] = []
        for e in values:
            goal, memo[e] = self._kept(e, self.new("temp", e.dtype, self._size(e)))
            first.append(goal)
        self._run(first + others)
        return [Goal(g.ranges, self.low.scalars.rewrite(g.expr, memo), g.memory, g.op) for g in goals if g not in others]

    def _kept(self, e: E, buffer: Buffer) -> tuple[Goal, E]:
        """The goal that stores a value for all it varies with, and its load."""
        ranges = tuple(sorted(self.space.members(e.free), key=lambda r: (r.k, self.order.get(r.axis, -1), r.uid)))
        shape: tuple[int, ...] = tuple([r.extent for r in ranges]) or (1,)
        index = tuple([self.space.var(r) for r in ranges]) or (self.space.zero,)
        return Goal(ranges, e, Memory(buffer, index, shape)), self.low.scalars.load(buffer, index, shape, ())

    def _size(self, e: E) -> int:
        size = 1
        for r in self.space.members(e.free):
            size = size * r.extent
        return size

    def _put_off(self, c: Choice) -> None:
        """Make of a choice one whose kernel stores the values that sums over its rows need, and leaves these sums."""
        scalars = self.low.scalars
        memo: dict[E, E] = {}
        for e in c.values:
            goal, memo[e] = self._kept(e, self.new("temp", e.dtype, self._size(e)))
            c.now.append(goal)
        sums = {e: scalars.rewrite(e, memo) for e in c.off}
        c.later = [Goal(g.ranges, scalars.rewrite(g.expr, sums), g.memory, g.op) for g in c.later]

    # ------------------------------------------------------------------ choice
    def _choices(self, goals: list[Goal], p: Range) -> list[Choice]:
        now, later, shared = self._parted(goals, p)
        if not now and not shared:
            return []
        rest = [g for g in later if g.expr not in shared]
        left = still([(g.mask, g.expr) for g in rest], shared, self.space) if rest else 0.0
        out = [self._choice(p, now, later, shared, left)]
        if not out[0].columns:
            out += self._some(p, now, later, shared) + self._split(p, now, later, shared, left)
        return out

    def _choice(self, p: Range, now: list[Goal], later: list[Goal], shared: list[E], left: float) -> Choice:
        """The kernel over p that has parts of these sums, and what is `left` costs so much."""
        columns = self._columns(now, shared, p)
        places = sum([self.space.usual(e.free) for e in shared])
        lanes = Lanes(self._sinks(now, shared, p), p, self.order, self.space, places, columns)
        cost = lanes.cost + LAUNCH * (1 + bool(shared)) + 2 * TOUCH * lanes.chunks * places / ALL
        if places and lanes.chunks == 1:                    # parts that are already the whole
            cost *= ALONE
        choice = Choice(p, now, later, shared, lanes.cost * ALL, cost + left, None)
        choice.width, choice.columns, choice.chunks = lanes.width, columns[0], lanes.chunks
        return choice

    def _some(self, p: Range, now: list[Goal], later: list[Goal], shared: list[E]) -> list[Choice]:
        """Only the sums side by side that are most: they may be columns."""
        frees = {e.free for e in shared if e.free}
        if len(frees) < 2:
            return []
        most = max(frees, key=self.space.usual)
        some = [e for e in shared if e.free in (0, most)]
        rest = [g for g in later if g.expr not in some]
        found = self._choice(p, now, later, some, still([(g.mask, g.expr) for g in rest], some, self.space))
        return [found] if found.columns else []

    def _split(self, p: Range, now: list[Goal], later: list[Goal], shared: list[E], left: float) -> list[Choice]:
        """A kernel that leaves sums side by side to another one, and keeps for it what they need of whole rows."""
        values: dict[E, None] = {}
        off: list[E] = []
        for e in shared:
            needed = of_rows(e, p, self.space) if self.space.usual(e.free) >= COLUMNS else None
            if needed is not None:
                off.append(e)
                values.update(dict.fromkeys(needed))
        values = dict.fromkeys(least(values, p))
        if not off or sum([int(self._size(e)) for e in values]) > LARGE:
            return []
        memo: dict[E, E] = {}
        first = list(now)
        for k, e in enumerate(values):
            goal, memo[e] = self._kept(e, Buffer(f"of rows {k}", "temp", e.dtype, int(self._size(e))))
            first.append(goal)
        groups: dict[int, list[E]] = {}
        for e in off:
            groups.setdefault(e.free, []).append(self.low.scalars.rewrite(e, memo))
        for sums in groups.values():
            left += self._choice(p, [], [], sums, 0.0).cost
        choice = self._choice(p, first, later, [e for e in shared if e not in off], left)
        choice.cost *= TWICE
        choice.now, choice.off, choice.values = list(now), off, list(values)
        return [choice]

    def _columns(self, now: list[Goal], shared: list[E], p: Range) -> tuple[int, int]:
        """How many sums over p stand side by side, if they can be made one by one since nothing needs a whole row first; and
        how many terms of each a row has."""
        sums = [e for e in shared if e.free]
        if len({e.free for e in sums}) != 1 or in_rows([*[g.expr for g in now], *[e.args[0] for e in shared]], p):
            return 0, 1
        terms = min([self.space.usual(mask_of(e.params[1]) & ~p.bit) for e in sums])
        return self.space.usual(sums[0].free), terms

    def _chunks(self, c: Choice, body: list[Any], parts: list[Part]) -> int:
        return min(c.parallel.hi + 1, c.chunks if parts else RESIDENT[32])

    def _wide(self, e: E) -> Any:
        return e.dtype

    # ------------------------------------------------------------------ a parallel kernel
    def _parallel(self, c: Choice) -> list[Goal]:
        self.near = 0 if c.columns else NEAR
        if not c.columns:
            at = len(self.steps)
            left = super()._parallel(c)
            self.steps[at] = replace(self.steps[at], width=c.width)
            return left
        nest = self._nest()
        p = c.parallel
        nest.spans[p] = "chunk"
        if c.now:                                           # the rows innermost, for whatever is stored on the way too
            nest.room.last = p
        else:
            nest.room.first = p
        parts = self._registers(c, nest) + [self._area(e, c.later, nest) for e in c.shared if e.free]
        tasks = [Task(nest.room.sort(g.mask), g.expr, g.memory, g.op) for g in c.now]
        single: list[tuple[E, Memory]] = []
        for part in parts:
            for e, memory in part.values:
                if e.free:
                    tasks.append(Task(part.order, e, memory))
                else:
                    tasks.append(Task(nest.room.sort(mask_of(e.params[1])), e.args[0], name=nest.room.name("acc"), red=e))
                    single.append((e, memory))
        body: list[Any] = []
        env: dict[E, Any] = {}
        nest.level(tasks, 0, env, body)
        for e, memory in single:
            body.append(Store(nest.at(memory, env, body), env[e]))
        count = self._chunks(c, body, parts)
        self.steps.append(KernelStep(Kernel(tuple(body), p), p.hi + 1, count, c.width))
        return self._combined(c, parts, count)

    def _nest(self) -> Nest:
        nest = Nest(self.low, self.order, self.new, simt=True)
        nest.room.near = ARRAY
        return nest

    def _area(self, e: E, later: list[Goal], nest: Nest) -> Part:
        """What rows are added to, if it is small, is an array of literal size: a group has that in its shared memory."""
        part = super()._area(e, later, nest)
        shape = tuple([r.usual for r in part.order])
        size = 1
        for n in shape:
            size *= n
        if size * e.dtype.itemsize <= self.near:
            self.near -= size * e.dtype.itemsize
            (_, memory), = part.values
            part.near = Memory(self.new("scratch", e.dtype, size), memory.index, shape)
        return part

    def _cleared(self, memory: Memory, near: Memory | None) -> list[Memory]:
        return [near or memory]

    def _handed_on(self, body: list[Any], parts: list[Part], p: Range) -> list[Any]:
        """After the rows what was added up near goes to the parts."""
        scalars = self.low.scalars
        tasks = [Task(part.order, scalars.load(part.near.buffer, part.near.index, part.near.shape, ()), memory)
                 for part in parts if part.near is not None for _, memory in part.values]
        if tasks:
            nest = self._nest()
            nest.room.prefix = "near"
            nest.level(tasks, 0, {}, body)
        return body

    def _finished(self, body: list[Any]) -> Sequence[Any]:
        return body

    def _combined(self, c: Choice, parts: list[Part], count: int) -> list[Goal]:
        """What is a buffer of its own is combined into it, many sums into a temporary.  In place of few others stands the sum
        over the chunks: a later kernel makes it."""
        memo: dict[E, E] = {}
        done: set[Goal] = set()
        for part in parts:
            done.update(part.goals)
            to = part.to or (self.new("temp", part.buffer.dtype, part.size) if part.size > FEW else None)
            if to is not None:
                self.steps.append(self._combine(part.buffer, to, part.op, part.size, count))
            for e, memory in part.values:
                if to is not None:
                    memo[e] = self.low.scalars.load(to, memory.index, memory.shape, ())
                    continue
                r = self.space.range(-len(self.space.ranges) - 10, 1, Size(count, ("chunks", part.buffer.name)))
                of = self.low.scalars.load(part.buffer, (self.space.var(r), *memory.index), (r.extent, *memory.shape), ())
                memo[e] = self.low.scalars.red_node(part.op, (r,), of)
        return [Goal(g.ranges, self.low.scalars.rewrite(g.expr, memo), g.memory, g.op) for g in c.later if g not in done]

    def _combine(self, part: Buffer, out: Buffer, op: str, size: int, count: int) -> KernelStep:
        """out := the parts of all chunks together, each element in a register.  One text for all programs."""
        rows = Range(-1, 0, Size(size, ("combine", "rows")), 0, 0)
        parts = Range(-2, 0, Size(count, ("combine", "chunks")), 0, 0)
        i, k = Index(0, ((rows, 1),)), Index(0, ((parts, 1),))
        of = At(part, (k, i), (parts.extent, Size(part.size, ("combine", "stride"))), whole=True)
        inner = Loop(parts, (Let("t1", "load", part.dtype, (), (of, ())), Accumulate("acc1", op, part.dtype, "t1")))
        body = (Init("acc1", op, part.dtype), inner, Store(At(out, (i,), (rows.extent,)), "acc1"))
        return KernelStep(Kernel((Loop(rows, body, "chunk"),), rows), size, size)


def _rounds(goals: list[Goal]) -> list[list[Goal]]:
    """The goals in rounds in none of which two add to one buffer."""
    out: list[list[Goal]] = [[]]
    added: set[str] = set()
    for g in goals:
        if g.op is not None:
            if g.memory.buffer.name in added:
                out.append([])
                added = set()
            added.add(g.memory.buffer.name)
        out[-1].append(g)
    return out
