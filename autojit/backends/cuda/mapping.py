"""From a kernel to threads: which shape of block, who takes which turns of which loop, where scratch lies.

In: a `KernelStep`.  Out: a `Mapping`, pure data.  Ways are tried one after the other and the cheapest is taken (`judge.py`);
then its loops are dealt, accumulators that lanes share are combined, stores that all threads would make are left to one, and
barriers are put in (`barriers.py`).  Never writes text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import CompileError
from ...schedule.index import literal
from ...schedule.loops import Accumulate, At, Init, KernelStep, Let, Loop, Store
from .access import Facts, buffers_of, elements, vectors
from .barriers import Guard
from .deals import Combine, Deal, Home, Mapping, Single, Way
from .judge import Judge, Level, Nest

SHARED = 16 << 10                  # bytes of shared memory for the scratch of a block
ROOM = 40 << 10                    # and of what threads have of their own with it
AREAS = 64 << 20                   # bytes that the areas of a grid of any size may take
MANY = 1 << 17                     # points from which a loop over rows is worth vectors
LONG = 320                         # values that a thread may compute in a turn of vectors
BOUND = (1 << 31) - (1 << 16)        # what 32-bit indices count to, with a last step beyond the end
WHOLE = [Way(t, t, t) for t in (256, 128, 64, 512)]
TEAMS = [*[Way(t, t, w) for t in (256, 128) for w in (32, 16, 8, 4)], Way(64, 64, 32)]
OWNERS = [Way(128, w, w) for w in (32, 16, 8)]
SERIAL = [Way(t, t, t) for t in (256, 32, 64, 128, 512)]
RANK = {"owner": 0, "team": 1, "lane": 2}


def mapped(step: KernelStep) -> Mapping:
    """How the kernel of a step runs."""
    nest = Nest(step)
    judges = [Judge(nest, way, cut) for way in _ways(nest) for cut in _cuts(nest, way)]
    for judge in sorted(judges, key=lambda j: j.cost):
        builder = _Builder(nest, judge)
        if builder.fits():
            mapping = builder.mapping()
            if mapping is not None:
                return mapping
    raise CompileError("a kernel's scratch arrays do not fit into the shared memory of a block")


def _ways(nest: Nest) -> list[Way]:
    if nest.kernel.parallel is None:
        return SERIAL if any([type(s) is Loop for s in nest.kernel.body]) else SERIAL[1:2]
    if nest.whole.flat or all([nest.about(s).flat for s in nest.kernel.body if type(s) is Loop]):
        return WHOLE                                        # nothing inside a row
    scratch = any([a.at.buffer.per_chunk and not a.at.whole for a in nest.whole.accesses])
    return [*WHOLE, *TEAMS, *(OWNERS if scratch else [])]


def _cuts(nest: Nest, way: Way) -> list[str]:
    """Ways to share a chunk between blocks."""
    if not nest.loose or not nest.top or way.team < way.threads:
        return [""]
    return ["", "lanes", "turns"] if len(nest.top) == 1 else ["", "lanes"]


class _Builder:
    """Builds what a judge has decided."""

    def __init__(self, nest: Nest, judge: Judge) -> None:
        self.nest, self.judge, self.way, self.deals = nest, judge, judge.way, judge.deals
        self.homes: dict[str, Home] = {}
        self.rows: list[Deal] = []                          # the loops over the parallel range
        self.began: dict[str, int] = {}                     # accumulator → the rank of the level that begins it
        self.added: dict[str, int] = {}                     # and of the innermost that adds to it

    def fits(self) -> bool:
        """Is there room in shared memory for what threads need for themselves?"""
        self._homes(self.nest.kernel.body)
        dtypes = {a.at.buffer.name: a.at.buffer.dtype for a in self.nest.whole.accesses}
        return sum([h.size * h.copies * dtypes[n].itemsize for n, h in self.homes.items() if h.kind == "shared"]) <= ROOM

    def mapping(self) -> Mapping | None:
        """None if blocks that share a chunk would have to wait for each other."""
        kernel = self.nest.kernel
        self._ranks(kernel.body, "owner")
        body = self._block(kernel.body, "owner")
        grid = len({(d.by, d.lanes, d.ranges) for d in self.rows}) <= 1
        vector: list[str] = []
        body = self._vectors(body, grid, vector, True)
        shared = {n for n in self.nest.stored if self.nest.counts[n] > 1}
        owners = self._owners()
        guarded = Guard(shared, self.homes).guarded(body, self.way.owner)
        if self.judge.cut and not all([type(s) is Let or type(s) is Deal and s.cut for s in guarded]):
            return None
        slices = self._slices(guarded) if self.judge.cut else 0
        wide = self._wide(owners, slices)
        return Mapping(self.way, guarded, self.homes, grid, owners, self.nest.fixed, wide, vector, slices)

    # ------------------------------------------------------------------ scratch
    def _homes(self, body: Sequence[Any]) -> None:
        """Where each scratch array lies: in shared memory if it is small, else in an area of global memory."""
        places: dict[str, At] = {}
        for a in self.nest.whole.accesses:
            if a.at.buffer.kind == "scratch":
                places[a.at.buffer.name] = a.at
        if not places:
            return
        per: dict[str, str] = {}
        self._private(body, "owner", per)
        left = SHARED
        for name, at in places.items():
            who = per.get(name, "owner")
            copies = {"owner": self.way.owners, "team": self.way.threads // self.way.team, "thread": self.way.threads}[who]
            size = copies * elements(at) * at.buffer.dtype.itemsize
            near = who == "thread" or all([literal(n) for n in at.shape]) and size <= left
            left -= size if near else 0
            self.homes[name] = Home("shared" if near else "area", who, elements(at) if near else at.buffer.size, copies)

    def _private(self, body: Sequence[Any], level: Level, per: dict[str, str]) -> None:
        """The arrays that teams or threads have copies of."""
        for s in body:
            if type(s) is Loop:
                deal, depth = self._deal(s, level)
                if deal != "turns":
                    for name in self.nest.owned(s, 0 if deal == "teams" else self.way.threads):
                        per[name] = "team" if deal == "teams" else "thread"
                self._private(self._leaf(s, depth).body, self._inside(deal, level), per)

    # ------------------------------------------------------------------ loops
    def _deal(self, s: Loop, level: Level) -> tuple[str, int]:
        """By whom, and how many loops go together."""
        return ("turns", 1) if level == "lane" else self.deals[id(s)]

    def _leaf(self, s: Loop, depth: int) -> Loop:
        return s if depth == 1 else self.nest.chain(s)[0][depth - 1]

    def _inside(self, deal: str, level: Level) -> Level:
        return {"turns": level, "teams": "team"}.get(deal, "lane")

    def _width(self, level: Level) -> int:
        return {"owner": self.way.owner, "team": self.way.team, "lane": 1}[level]

    def _rank(self, level: Level) -> int:
        return RANK[level] if self.way.team < self.way.owner or level == "lane" else 0

    def _ranks(self, body: Sequence[Any], level: Level) -> None:
        """How far apart threads are where accumulators begin and where they are added to."""
        for s in body:
            if type(s) is Init:
                self.began[s.name] = self._rank(level)
            elif type(s) is Accumulate:
                self.added[s.name] = max(self.added.get(s.name, 0), self._rank(level))
            elif type(s) is Loop:
                deal, depth = self._deal(s, level)
                self._ranks(self._leaf(s, depth).body, self._inside(deal, level))

    def _block(self, body: Sequence[Any], level: Level) -> tuple[Any, ...]:
        """The statements of a block as the threads of a level execute it."""
        out: list[Any] = []
        width = self._width(level)
        last = self._lasts(body, level) if width > 1 else {}
        for k, s in enumerate(body):
            if type(s) is Loop:
                out.append(self._loop(s, level))
            elif width > 1 and (type(s) is Store or type(s) is Accumulate and self.added[s.name] > self.began[s.name]):
                if out and type(out[-1]) is Single:
                    out[-1] = Single((*out[-1].body, s), width)
                else:
                    out.append(Single((s,), width))
            else:
                out.append(s)
            out += [Combine(s.name, s.op, s.dtype, width) for s in last.get(k, ())]
        return tuple(out)

    def _lasts(self, body: Sequence[Any], level: Level) -> dict[int, list[Init]]:
        """After which statement of the block each accumulator that begins here has all its terms, if threads share them."""
        split = {s.name: s for s in body if type(s) is Init and self.added.get(s.name, 0) > self.began[s.name]}
        last: dict[str, int] = {}
        for k, s in enumerate(body):
            names = [s.name] if type(s) is Accumulate else self.nest.about(s).added if type(s) is Loop else ()
            last.update({name: k for name in names if name in split})
        out: dict[int, list[Init]] = {}
        for name, k in last.items():
            out.setdefault(k, []).append(split[name])
        return out

    def _loop(self, s: Loop, level: Level) -> Any:
        deal, depth = self._deal(s, level)
        rows = s.span == "chunk"
        lanes = {"lanes": self._width(level), "teams": self.way.team}.get(deal, 1)
        made = Deal(s.range, self._block(self._leaf(s, depth).body, self._inside(deal, level)), deal, lanes, rows)
        if depth > 1:
            loops, values = self.nest.chain(s)
            made.body = (*[v for v in values if any([v in q.body for q in loops[:depth - 1]])], *made.body)
            last = self.judge.innermost[id(s)] if deal == "lanes" else loops[depth - 1].range
            made.ranges = (*[q.range for q in loops[:depth] if q.range is not last], last)
        made.cut = bool(self.judge.cut) and any([s is q for q in self.nest.top])
        if rows:
            self.rows.append(made)
        return made

    # ------------------------------------------------------------------ vectors
    def _vectors(self, body: Sequence[Any], grid: bool, names: list[str], outer: bool) -> tuple[Any, ...]:
        """The loops that are dealt to lanes take neighbours at once where that is worth it."""
        for s in body:
            if type(s) is not Deal:
                continue
            if s.by in ("turns", "teams") or s.ranges:
                self._vectors(s.body, grid, names, outer and not s.rows)
            elif s.by == "lanes" and (not s.rows or grid and len(self.rows) == 1):
                s.vector = self._vector(s)
                if s.vector > 1:
                    names += [b.name for b in buffers_of(Facts(s.body), s.range) if b.name not in names]
        return tuple(body)

    def _vector(self, s: Deal) -> int:
        if any([type(q) is Deal for q in s.body]):
            return 1
        loop = Loop(s.range, s.body)
        facts = Facts(s.body)
        width = vectors(loop, facts, self.homes)
        if width == 1 or len(s.body) * width > LONG:
            return 1
        if s.rows:
            return width if s.range.usual >= MANY else 1
        return width if s.range.usual >= width * s.lanes and int(s.range.extent) % width == 0 else 1

    # ------------------------------------------------------------------ the grid
    def _owners(self) -> int:
        """Owners in the grid: the chunks, or as many as the rows give work to."""
        if self.nest.fixed or not self.rows:
            return max(1, self.nest.step.chunks if self.nest.fixed else 1)
        most = 1
        for d in self.rows:
            rows = self._count(d)
            each = {"lanes": d.lanes * d.vector, "teams": self.way.owner // self.way.team}.get(d.by, 1)
            most = max(most, self.judge.grid(rows, each))
        dtypes = {a.at.buffer.name: a.at.buffer.dtype for a in self.nest.whole.accesses}
        size = sum([h.size * h.copies * dtypes[n].itemsize for n, h in self.homes.items() if h.kind == "area"])
        return most if not size else max(1, min(most, AREAS // size * self.way.owners))

    def _slices(self, body: Sequence[Any]) -> int:
        """Blocks for each chunk: not more than its loops have work for."""
        turns = max([self._count(d) // d.vector for d in body if type(d) is Deal])
        return min(self.judge.slices, -(-turns // self.way.threads) if self.judge.cut == "lanes" else turns)

    def _wide(self, owners: int, slices: int) -> bool:
        """Are there places, or points and a step more, that 32 bits do not count?"""
        step = owners * max(1, slices) * self.way.owner * 8
        for a in self.nest.whole.accesses:
            b = a.at.buffer
            home = self.homes.get(b.name)
            copies = owners if b.kind == "part" and not a.at.whole else 1
            if home is not None:
                copies = owners if home.per == "owner" else owners * self.way.owner // self.way.team
            if max(b.size, elements(a.at)) * copies >= BOUND:
                return True
        for d in self.rows:
            if self._count(d) + step >= BOUND:
                return True
        return False

    def _count(self, d: Deal) -> int:
        """Turns of a loop, or points."""
        n = self.nest.step.n if d.rows else int(d.range.extent)
        for r in d.ranges:
            n *= int(r.extent) if r is not d.range else 1
        return n

