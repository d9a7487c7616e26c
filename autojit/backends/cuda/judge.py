"""What a kernel costs as a block of some shape runs it, and which loops are then dealt to whom.

In: a kernel and a `Way`.  Out: `Judge`, whose `cost` is in steps of a thread (an addition being 1) on a card of usual size, and
whose `deals` say for each loop who takes its turns.  Counts with usual extents, so that all sizes of a class are dealt alike.
Never asks the real card: results must not depend on it.

A loop is dealt to lanes where that is cheapest and lawful (`access.conflicts`); on each way from the kernel to a leaf this
happens once, since inside every thread is on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ir.primitive import REGISTRY
from ...schedule.cost import MULTIPROCESSORS
from ...schedule.index import Range
from ...schedule.loops import At, Init, Kernel, KernelStep, Let, Loop, Store
from .access import Facts, conflicts, counted, elements, lone, moves, small, stride, vectors
from .deals import Way

BUSY = 1024                        # threads a multiprocessor from which more threads make nothing faster
RESIDENT = 2048                    # threads a multiprocessor has room for
TOUCH = 4                          # a load or store
NEAR = 1.5                         # or for each of neighbours that go together
SECTOR = 8                         # neighbours that come from memory together
CACHED = 4                         # what neighbours far apart cost if caches have the rest
TURN = 2                           # the turn of a loop
FIRST = 96 << 10                   # bytes of a multiprocessor's own cache
SECOND = 32 << 20                  # of the cache of all
LATER = 10.0                       # steps that an element costs beside its load if it comes from that
FAR = 32.0                         # or from memory
DIVIDE = 12                        # a point's index taken apart, for each loop but the first
MEETING = 80.0                     # a reduction over the threads of a block
SHUFFLE = 6.0                      # a step of one over lanes
PRIVATE = 12 << 10                 # bytes of shared memory for the arrays that each thread has of its own in a loop
IMPOSSIBLE = 1e30
INDEXED = {"index": 1, "inside": 2, "index_div": DIVIDE, "index_mod": DIVIDE, "index_clamp": 1}

Level = str                        # owner: its threads together; team: those of a row; lane: each on its own


class Nest:
    """A kernel looked at once for all ways: facts of its loops, and whether its chunks have anything of their own."""

    def __init__(self, step: KernelStep) -> None:
        self.step = step
        self.kernel: Kernel = step.kernel
        self.facts: dict[int, Facts] = {}
        self._conflicts: dict[int, set[str]] = {}
        self._chains: dict[int, tuple[list[Loop], list[Let]]] = {}
        self._vectors: dict[int, tuple[int, float]] = {}
        self._straight: dict[int, Straight] = {}
        self._again: dict[int, tuple[int, int]] = {}
        self._touches: dict[Any, float] = {}
        self.whole = Facts(self.kernel.body)
        self.counts = counted(self.whole.accesses)
        self.scratch = {a.at.buffer.name for a in self.whole.accesses if a.at.buffer.kind == "scratch"}
        self.stored = {a.at.buffer.name for a in self.whole.accesses if a.store}
        self.fixed = self._fixed(self.kernel.body)          # do its chunks store anything of their own?
        self.top = [s for s in self.kernel.body if type(s) is Loop]
        self.loose = self.fixed and all(map(self._alone, self.kernel.body))     # are chunks free to be cut once more?
        self.linked = self._linked(self.kernel.body)        # does a loop over rows read what is stored in one before it?

    def _fixed(self, body: Sequence[Any]) -> bool:
        for s in body:
            if type(s) is Store and s.at.buffer.kind != "scratch":
                return True
            if type(s) is Loop and (s.span != "chunk" and self._fixed(s.body) or s.span == "chunk" and any(
                    [a.store and a.at.buffer.kind == "part" for a in self.about(s).accesses])):
                return True
        return False

    def _linked(self, body: Sequence[Any]) -> bool:
        for s in body:
            if type(s) is Loop and s.span != "chunk" and self._linked(s.body):
                return True
            if type(s) is Loop and s.span == "chunk":
                for a in self.about(s).accesses:
                    if a.store and a.at.buffer.kind != "part" and not lone(a.at.buffer.name, self.about(s), self.counts):
                        return True
        return False

    def _alone(self, s: Any) -> bool:
        """Is a statement of a chunk a value, or a loop whose turns have nothing to do with each other?"""
        if type(s) is not Loop:
            return type(s) is Let
        return s.span != "chunk" and not self.against(s) and not self.about(s).carried and not self.about(s).added

    def about(self, s: Loop) -> Facts:
        found = self.facts.get(id(s))
        if found is None:
            found = self.facts[id(s)] = Facts(s.body)
        return found

    def against(self, s: Loop) -> set[str]:
        """Buffers that keep a loop from being dealt."""
        found = self._conflicts.get(id(s))
        if found is None:
            found = self._conflicts[id(s)] = conflicts(s.range, self.about(s), s.span == "chunk")
        return found

    def owned(self, s: Loop, copies: int) -> set[str]:
        """Those of the conflicting buffers that each thread, or team, can have a copy of: scratch that is begun anew in each
        turn, and small if `copies` of it are to stand in shared memory (0: it may lie anywhere)."""
        places: dict[str, At] = {a.at.buffer.name: a.at for a in self.about(s).accesses}
        left, out = PRIVATE, set()
        for name in sorted(self.against(s)):
            at = places[name]
            if at.buffer.kind != "scratch" or not lone(name, self.about(s), self.counts):
                continue
            if not copies or small(at, copies, left):
                left -= elements(at) * at.buffer.dtype.itemsize * copies
                out.add(name)
        return out

    def dealable(self, s: Loop, copies: int) -> bool:
        return not self.about(s).carried and self.against(s) <= self.owned(s, copies)

    def chain(self, s: Loop) -> tuple[list[Loop], list[Let]]:
        """The loops from s inwards that have nothing but each other and cheap values of the outer ones in them, whose points
        may all run at once; and these values."""
        found = self._chains.get(id(s))
        if found is None:
            loops, values = [s], []
            while self.dealable(loops[-1], 1 << 20):
                inner = [q for q in loops[-1].body if type(q) is Loop]
                lets = [q for q in loops[-1].body if type(q) is Let]
                if len(inner) != 1 or len(lets) + 1 != len(loops[-1].body) or loops[-1].body[-1] is not inner[0]:
                    break
                if inner[0].span == "chunk" or not self.dealable(inner[0], 1 << 20) or sum(map(weight, lets)) > DIVIDE:
                    break
                loops.append(inner[0])
                values += lets
            found = self._chains[id(s)] = (loops, values)
        return found

    def vector(self, s: Loop) -> tuple[int, float]:
        """How many neighbours a lane may take at once in a loop, and what each of them saves by it."""
        found = self._vectors.get(id(s))
        if found is None:
            width = vectors(s, self.about(s), self.scratch)
            near = [a for a in self.about(s).accesses if moves(a.at, s.range, self.about(s))]
            found = self._vectors[id(s)] = (width, (TOUCH - NEAR) * len(near))
        return found

    def straight(self, body: Sequence[Any]) -> Straight:
        """The statements of a block, added up."""
        found = self._straight.get(id(body))
        if found is None:
            found = self._straight[id(body)] = Straight(body)
        return found

    def touches(self, body: Sequence[Any], lane: Range | None, inner: Range | None, teams: bool) -> float:
        """What the loads and stores of a block cost.  `teams`: do neighbouring rows stand in one block?"""
        key = (id(body), lane, inner, teams)
        found = self._touches.get(key)
        if found is None:
            near = self.kernel.parallel if teams and self.kernel.parallel is not lane else None
            places = self.straight(body).places
            found = self._touches[key] = sum([pieces(at, lane, inner, near) * count for at, count in places])
        return found

    def again(self, body: Sequence[Any]) -> tuple[int, int]:
        """What the loops of a row read more than once: how many bytes, and how many elements the later ones read."""
        found = self._again.get(id(body))
        if found is None:
            points: dict[str, list[int]] = {}
            sizes: dict[str, int] = {}
            stack = [(body, 1, False)]
            while stack:
                block, n, inside = stack.pop()
                look = self.straight(block)
                for name in {at.buffer.name for at, _ in look.places if inside and self._of_row(at)}:
                    points.setdefault(name, []).append(n)
                sizes.update({at.buffer.name: at.buffer.dtype.itemsize for at, _ in look.places})
                stack += [(q.body, n * q.range.usual, True) for q in look.loops]
            often = {name: ns for name, ns in points.items() if len(ns) > 1}
            found = self._again[id(body)] = (sum([max(ns) * sizes[name] for name, ns in often.items()]),
                                             sum([sum(ns) - max(ns) for ns in often.values()]))
        return found

    def _of_row(self, at: At) -> bool:
        return any([t is self.kernel.parallel for ix in at.index for t, _ in ix.terms])


class Straight:
    """A block: steps of its values, its places and how often each is touched, its accumulators, its loops."""

    __slots__ = ("fixed", "places", "sums", "loops")

    def __init__(self, body: Sequence[Any]) -> None:
        self.fixed, self.sums = 0.0, 0
        self.places: list[tuple[At, int]] = []
        self.loops: list[Loop] = []
        for s in body:
            if type(s) is Let and s.op == "load":
                self.places.append((s.params[0], 1))
            elif type(s) is Let:
                self.fixed += weight(s)
            elif type(s) is Store:
                self.places.append((s.at, 2 if s.op else 1))
            elif type(s) is Loop:
                self.loops.append(s)
            elif type(s) is Init:
                self.sums += 1
            else:
                self.fixed += 1


def pieces(at: At, lane: Range | None, inner: Range | None, near: Range | None) -> float:
    """What a load or store costs: how many pieces of memory neighbouring threads need.  Up to CACHED if the rest of a piece is
    what the next turns of `inner` read, or the rows of `near` that others of the block have."""
    if lane is None:
        return TOUCH
    count = max(1, min(abs(stride(at, lane)), SECTOR))
    if count > CACHED and (inner is not None and inner is not lane and abs(stride(at, inner)) == 1
                           or near is not None and abs(stride(at, near)) == 1):
        count = CACHED
    return float(TOUCH * count)


def weight(s: Let) -> float:
    """Steps that a value costs, memory apart."""
    return INDEXED.get(s.op) or REGISTRY[s.op].cost if s.op != "load" else TOUCH


class Judge:
    """One way for one kernel.  `cut`: several blocks share a chunk, whose loops they deal among their "lanes", or whose one
    loop in whole "turns"; "" if a block has all of it."""

    def __init__(self, nest: Nest, way: Way, cut: str = "") -> None:
        self.nest, self.way, self.cut = nest, way, cut
        self.deals: dict[int, tuple[str, int]] = {}         # loop → by whom, and how many loops go together as points
        self.innermost: dict[int, Range] = {}               # of the points of a loop: what moves from thread to thread
        self.chunks = nest.step.chunks if nest.fixed else 0
        self.slices = self._slices() if cut else 1          # blocks that share a chunk
        self.cost = self._body(nest.kernel.body, "owner", None, None)
        if self.chunks:
            self.cost *= self._slow(self.chunks * self.slices)

    def _width(self, level: Level) -> int:
        return {"owner": self.way.owner, "team": self.way.team, "lane": 1}[level]

    def _slices(self) -> int:
        """How many blocks a chunk is enough for."""
        threads = self.way.threads
        turns = max([s.range.usual for s in self.nest.top])
        return max(1, min(-(-turns // threads) if self.cut == "lanes" else turns,
                          MULTIPROCESSORS * RESIDENT // (threads * self.chunks)))

    def _slow(self, owners: int) -> float:
        """How much slower each of many owners runs than one alone."""
        blocks = -(-owners // self.way.owners)
        each = owners * self.way.owner / min(blocks, MULTIPROCESSORS)
        return max(1.0, each / BUSY) * (1.0 + each / (8 * BUSY))

    def _body(self, body: Sequence[Any], level: Level, lane: Range | None, inner: Range | None) -> float:
        """One execution of some statements.  `lane`: the range that was dealt to lanes; `inner`: the loop they stand in."""
        look = self.nest.straight(body)
        total = look.fixed + self.nest.touches(body, lane, inner, self.way.team < self.way.owner)
        if look.sums:
            total += look.sums * self._meeting(self._width(level))
        for s in look.loops:
            total += self._loop(s, level, lane)
        return total

    def _meeting(self, width: int) -> float:
        """What it costs to combine the shares of so many threads in an accumulator."""
        return MEETING if width > 32 else SHUFFLE * (width - 1).bit_length()

    # ------------------------------------------------------------------ loops
    def _loop(self, s: Loop, level: Level, lane: Range | None) -> float:
        if level == "lane":
            turns = self._share(s.range.usual, 1)[0] if s.span == "chunk" else float(s.range.usual)
            return turns * (self._body(s.body, level, lane, s.range) + TURN)
        ways = self._rows(s) if s.span == "chunk" else self._plain(s, level)
        cost, depth, by = min(ways)
        self.deals[id(s)] = by, depth
        return cost

    def _plain(self, s: Loop, level: Level) -> list[tuple[float, int, str]]:
        width, n = self._width(level), s.range.usual
        cut = self.cut if any([s is q for q in self.nest.top]) else ""
        ways = []
        if width > 1 and self.nest.dealable(s, self.way.threads):
            for depth in self._depths(s, level="lane"):
                points, each = self._points(s, depth, "lane")
                threads = width * (self.slices if cut else 1)
                ways.append((self._turns(s, points, threads, each, depth), depth, "lanes"))
        if cut == "lanes":
            return ways or [(IMPOSSIBLE, 1, "turns")]
        each = self._body(s.body, level, None, s.range) + TURN
        turns = (float(-(-n // self.slices) if cut else n) * each, 1, "turns")
        return [turns] if cut else [*ways, turns]

    def _turns(self, s: Loop, points: int, threads: int, each: float, depth: int) -> float:
        """What a thread's share of a loop costs, one by one or in vectors."""
        width, saved = self.nest.vector(s)
        if depth == 1 and width > 1 and points >= width * threads and (s.span == "chunk" or int(s.range.extent) % width == 0):
            return -(-points // (threads * width)) * width * (each - saved)
        return -(-points // threads) * each

    def _depths(self, s: Loop, level: Level) -> list[int]:
        """How many nested loops may go together."""
        depth = len(self.nest.chain(s)[0])
        return sorted({1, depth}) if level == "lane" else list(range(1, depth + 1))

    def _points(self, s: Loop, depth: int, level: Level) -> tuple[int, float]:
        """How many points some nested loops have, and what one of them costs to those that share them."""
        loops, values = self.nest.chain(s)
        leaf, n = loops[depth - 1], 1
        for q in loops[:depth]:
            n *= q.range.usual
        each = float(TURN + DIVIDE * (depth - 1)) + (self._again(leaf, n, self._width(level)) if s.span == "chunk" else 0.0)
        each += sum([weight(v) for v in values if any([v in q.body for q in loops[:depth - 1]])])
        if level != "lane":
            return n, each + self._body(leaf.body, level, None, leaf.range)
        costs = [(self._body(leaf.body, level, q.range, q.range), -k) for k, q in enumerate(loops[:depth])]
        cost, k = min(costs)
        if depth > 1:
            self.innermost[id(s)] = loops[-k].range
            cost *= 1.0 + 2.0 / max(8, loops[-k].range.usual)   # neighbours in different rows touch a little more memory
        return n, each + cost

    def _again(self, leaf: Loop, rows: int, width: int) -> float:
        """What it costs that loops read once more what other rows have pushed out of the caches since."""
        bytes_, count = self.nest.again(leaf.body)
        near = max(1, min(RESIDENT // width, rows // MULTIPROCESSORS)) * bytes_
        return 0.0 if near <= FIRST else count / width * (LATER if near * MULTIPROCESSORS <= SECOND else FAR)

    def _rows(self, s: Loop) -> list[tuple[float, int, str]]:
        """The parallel range: a row for each lane, for each team, or for the owner; or a point of it and loops inside."""
        way, ways = self.way, []

        def depths(level: Level) -> list[int]:
            return [1] if self.nest.linked else self._depths(s, level)

        if way.team == way.owner > 1 and self.nest.dealable(s, way.threads):
            ways += [self._dealt(s, depth, "lane", way.owner, "lanes") for depth in depths("lane")]
            if self.nest.about(s).flat:
                return ways                                 # nothing in a row that several threads could share
        if way.team < way.owner and self.nest.dealable(s, 0):
            ways += [self._dealt(s, depth, "team", way.owner // way.team, "teams") for depth in depths("team")]
        if way.team == way.owner or not ways:
            free = self.nest.dealable(s, 0)
            ways += [self._dealt(s, depth, "owner", 1, "turns") for depth in (depths("owner") if free else [1])]
        return ways

    def _dealt(self, s: Loop, depth: int, level: Level, each: int, by: str) -> tuple[float, int, str]:
        points, cost = self._points(s, depth, level)
        turns, slow = self._share(points, each)
        return slow * turns * cost, depth, by

    def _share(self, rows: int, each: int) -> tuple[float, float]:
        """How many rows a thread comes by if an owner takes `each` at once, and how much slower it runs among the others."""
        if self.chunks:
            return float(max(1, -(-rows // (self.chunks * each)))), 1.0
        owners = self.grid(rows, each)
        return float(-(-rows // (owners * each))), self._slow(owners)

    def grid(self, rows: int, each: int) -> int:
        """Owners in a grid that may be of any size."""
        most = MULTIPROCESSORS * RESIDENT // self.way.threads * self.way.owners
        return max(1, min(-(-rows // each), most))
