"""What kernels cost on a GPU, and how their parallel range becomes groups of threads.

In: scalars, ranges.  Out: `Lanes`, what a kernel parallel over a range costs and how many threads a row of it should have;
how many chunks to cut it into; what is to be in memory before it.  All figures are of a nominal card, whatever the real one
is, so that results never depend on it.  Never builds anything.

A unit of time is what a thread needs for an operation while a multiprocessor has THREADS busy: some 2 ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .cost import DEAR, MULTIPROCESSORS, distance
from .index import Ix, Range, Space
from .layout import Sink
from .scalar import E

THREADS = 512                      # busy threads a multiprocessor that keep it at work
ALL = MULTIPROCESSORS * THREADS
GROUP = 256                        # threads of the one group that small work gets
LAUNCH = 800.0                     # entering one more kernel
TOUCH = 8                          # a load or store of neighbours
FAR, FARTHER = 1 << 22, 24          # points of an array from which it comes from far, and what that adds
WIDE = 128                         # turns of a row's loop from which a block has the row, and its sums in shared memory
NEIGHBOURS = 4                     # elements from one thread's to the next that still are neighbours
APART = 8                          # how much more a jumping one costs, at most
MEET = {1: 0, 8: 10, 16: 13, 32: 16, 256: 60}      # threads of a row → what a reduction costs that they share
RESIDENT = {1: MULTIPROCESSORS * 8, **{w: MULTIPROCESSORS * 1024 // w for w in (8, 16, 32, 256)}}   # chunks, at most
AFTER = 2                          # kernels for a reduction that waits for another
WORSE = 6                          # what kernels cost that are still to be made, the best imaginable costing 1
COLUMNS = 32                       # columns from which a thread takes one of them
LEAST = 8                          # rows of a column that a thread adds up, at least
AREA = 64                          # what a sum in a chunk's area costs, written and read again
LITTLE = 8                         # how many times more terms sums have than values that are kept for them
PARTS = 1 << 24                    # sums in the areas of all chunks together
SHARE = 0.03                       # of a kernel's work that areas may cost


class Lanes:
    """A kernel parallel over p: the best number of threads a row (`width`), how many chunks (`chunks`), its `cost` in units of
    time.  `places`: sums over p that a chunk has of its own.  `columns`, if whole sums over p are made in a chunk one beside
    the other: how many, and how many terms of each a row has; else (0, 1)."""

    def __init__(self, sinks: Sequence[Sink], p: Range, order: dict[int, int], space: Space, places: int,
                 columns: tuple[int, int]) -> None:
        self.space, self.p, self.order = space, p, order
        # (turns of the loop in a row that is dealt to threads, what each costs a thread that has the row alone, and others)
        self.items: list[tuple[int, float, float]] = []
        self.meets = 0                                      # reductions that the threads of a row share
        self.apart = not columns[0] and any([s.summed and bool(s.mask & ~p.bit) for s in sinks])
        self.beside = 0 if self.apart or columns[0] else self._beside(sinks)
        self.rows = p.usual * space.usual(self.beside)
        seen: set[E] = set()
        self.down = bool(columns[0])
        for sink in sinks:
            mask = sink.mask & ~p.bit
            if not sink.summed:
                self._access(mask, sink.index, sink.shape, TOUCH, space.usual(sink.mask))
            elif not columns[0]:
                added = float(TOUCH if mask and self._outer(mask).usual >= WIDE else 3 * TOUCH)    # in shared memory, or not
                self._item(mask, added, added)
            self._walk(sink.expr, seen)
        self.loops = any([turns > 1 for turns, _, _ in self.items])
        work = self.rows * sum([turns * each for turns, _, each in self.items])
        most = 1 << 60
        if self.apart or columns[0]:
            most = min(max(2 * MULTIPROCESSORS, int(SHARE * work / (AREA * max(places, 1)))), max(1, PARTS // max(places, 1)))
        ways = [self._down(work, most, *columns)] if columns[0] else [
            self._across(w, most, places) for w in MEET if not (w == 1 and self.apart)]
        self.cost, self.width, self.chunks = min(ways)

    def _beside(self, sinks: Sequence[Sink]) -> int:
        """Ranges whose turns have nothing in common: with p they make up the rows, if no sum is left to other kernels."""
        mask = sinks[0].mask if sinks else 0
        for sink in sinks:
            mask &= sink.mask
        for e in below([s.expr for s in sinks]):
            if e.op == "red" and e.free & self.p.bit:
                mask &= e.free
        return mask & ~self.p.bit

    def _across(self, width: int, most: int, places: int) -> tuple[float, int, int]:
        """What the kernel costs with so many threads a row, and how many chunks it has then."""
        rows = self.rows
        chunks = min(-(-self.p.usual // GROUP), RESIDENT[1]) if not self.loops else min(self.p.usual, RESIDENT[32])
        groups = min(rows, max(1, ALL // width))
        if self.apart:                                      # a group has the sums of a chunk to itself
            groups = chunks = min(self.p.usual, RESIDENT[width], most)
        busy = max(1.0, groups * width / ALL) / groups
        cost = rows * busy * sum([-(-turns // width) * (lone if width == 1 else each) for turns, lone, each in self.items])
        return cost + self.meets * MEET[width] * busy * rows, width, chunks

    def _down(self, work: float, most: int, columns: int, terms: int) -> tuple[float, int, int]:
        """The same where threads run down columns, or groups do if a row has many terms of each, or there are few."""
        rows, beside = self.p.usual, columns * min(terms, GROUP)
        if beside >= COLUMNS:
            chunks = min(-(-rows // LEAST) if terms < LEAST else rows, max(1, 4 * ALL // beside), most)
            threads = chunks * beside
        else:
            chunks = min(-(-rows // GROUP), RESIDENT[1], most)
            threads = chunks * GROUP
            work = rows * sum([turns * lone for turns, lone, _ in self.items])
        width = GROUP if terms >= LEAST else 1
        return work / min(threads, ALL) + MEET[256] * columns * (terms >= LEAST or beside < COLUMNS) / 8, width, chunks

    def _access(self, mask: int, index: Sequence[Ix], shape: Sequence[int], each: float, all: int) -> None:
        """A load or store at the points of a row in `mask`, `all` in all; neighbours are those of the threads."""
        if all >= FAR:
            each += FARTHER
        mask &= ~self.beside
        lone = self._near(self.space.innermost(self.beside | self.p.bit, self.order), index, shape)
        near = self._near(self.space.innermost(mask, self.order), index, shape) if mask else lone
        self._item(mask, each * lone, each * near)

    def _item(self, mask: int, lone: float, each: float) -> None:
        """Something done at the points of a row in `mask`: the outermost of its loops is dealt to threads."""
        mask &= ~self.beside
        points = self.space.usual(mask)
        turns = self._outer(mask).usual if mask else 1
        self.items.append((turns, points / turns * lone, points / turns * each))

    def _outer(self, mask: int) -> Range:
        return min(self.space.members(mask), key=lambda r: (r.k, self.order.get(r.axis, -1), r.uid))

    def _near(self, r: Range, index: Sequence[Ix], shape: Sequence[int]) -> float:
        step = distance(tuple(index), tuple(shape), r)
        return 0.25 if step == 0 else 1.0 if step <= NEIGHBOURS else float(min(step, APART))

    def _walk(self, root: E, seen: set[E]) -> None:
        stack = [root]
        while stack:
            e = stack.pop()
            if e in seen or e.op == "const":
                continue
            seen.add(e)
            free = e.free & ~self.p.bit
            mask = free
            if shared(e, self.p):                           # will be in memory
                self._item(free, TOUCH, TOUCH)
                continue
            if e.op == "red":
                for r in e.params[1]:
                    mask |= r.bit & ~self.p.bit
                self.meets += not free & ~self.beside and bool(mask)
            if self.down and not e.free & self.p.bit and not (e.op == "red" and self.p in e.params[1]):
                pass                                        # before the loop over the rows
            elif e.op == "load":
                self._access(free, e.params[1], e.params[2], TOUCH, self.space.usual(e.free))
            else:
                own = 1.0 if e.op == "red" else float(e.own)
                self._item(mask, own, own)
            stack.extend(e.args)


def one_group(goals: Iterable[tuple[int, E]], space: Space) -> float:
    """What values cost that one group of threads computes for all points of some ranges, and stores."""
    total, roots = 0.0, []
    for mask, e in goals:
        total += TOUCH * -(-space.usual(mask) // GROUP)
        roots.append(e)
    for e in below(roots):
        mask = e.free
        if e.op == "red":
            for r in e.params[1]:
                mask |= r.bit
            total += 0 if e.free else MEET[256]
        if e.op != "const":
            total += (TOUCH if e.op == "load" else 1 if e.op == "red" else e.own) * -(-space.usual(mask) // GROUP)
    return total


def still(goals: Iterable[tuple[int, E]], done: Iterable[E], space: Space) -> float:
    """What values cost that later kernels are to make, the scalars in `done` being there: the work, and kernels for each
    reduction that waits for another."""
    total, roots = 0.0, []
    for mask, e in goals:
        total += TOUCH * space.usual(mask)
        roots.append(e)
    known = set(done)
    for e in below(roots, known):
        mask = e.free
        if e.op == "red":
            for r in e.params[1]:
                mask |= r.bit
        if e.op != "const":
            total += (TOUCH / 2 if e.op == "load" else 1 if e.op == "red" else e.own) * space.usual(mask)
    return LAUNCH + min(total / GROUP, WORSE * total / ALL + LAUNCH * (1 + AFTER * _chain(roots, known)))


def _chain(roots: Iterable[E], done: set[E]) -> int:
    """How many reductions stand one inside the other above what is done."""
    out: dict[E, int] = dict.fromkeys(done, 0)
    stack = list(roots)
    while stack:
        e = stack[-1]
        if e in out or not e.chain:
            out.setdefault(e, 0)
            stack.pop()
            continue
        todo = [a for a in e.args if a not in out]
        if todo:
            stack.extend(todo)
            continue
        out[e] = max([out[a] for a in e.args], default=0) + (e.op == "red")
        stack.pop()
    return max([out[e] for e in roots], default=0)


def in_rows(roots: Iterable[E], p: Range) -> bool:
    """Does anything that varies with p need a reduction of its own row?"""
    return any([e.op == "red" and bool(e.free & p.bit) for e in below(roots)])


def of_rows(e: E, p: Range, space: Space) -> list[E] | None:
    """What the sum e over p needs of whole rows, if that is much less than its terms: then it can be kept for a kernel that
    has the terms alone."""
    inside = e.args[0]
    depends = _on_rows(inside, p)
    terms = space.usual(inside.free & ~p.bit)
    out: dict[E, None] = {}
    stack = [inside]
    while stack:
        x = stack.pop()
        if not depends[x] or x in out:
            continue
        if x.free & p.bit and LITTLE * space.usual(x.free & ~p.bit) <= terms:
            out[x] = None
        elif x.op == "red":
            return None
        else:
            stack.extend(x.args)
    return list(out)


def least(values: Iterable[E], p: Range) -> list[E]:
    """The values without those that are made of others of them."""
    out = dict.fromkeys(values)
    for e in sorted(out, key=lambda e: -e.id):
        others = out.keys() - {e}
        if not any([x.op == "red" and x.free & p.bit for x in below([e], others)]):
            del out[e]
    return list(out)


def _on_rows(root: E, p: Range) -> dict[E, bool]:
    """Does each scalar below the root need a reduction of a row over which p stands outside?"""
    out: dict[E, bool] = {}
    stack = [root]
    while stack:
        x = stack[-1]
        todo = [a for a in x.args if a not in out]
        if x in out or not todo:
            out.setdefault(x, x.op == "red" and bool(x.free & p.bit) or any([out[a] for a in x.args]))
            stack.pop()
        else:
            stack.extend(todo)
    return out


def shared(e: E, p: Range) -> bool:
    """Is it dear, and the same for all rows?"""
    if e.free & p.bit:
        return False
    return p not in e.params[1] if e.op == "red" else bool(e.free) and e.op != "load" and e.cost >= DEAR


def common(roots: Iterable[E], p: Range, space: Space) -> list[E]:
    """What all rows have in common and each would compute again: worth a kernel before them."""
    out: list[E] = []
    seen: set[E] = set()
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if shared(e, p):
            mask, own = e.free, float(e.cost)
            if e.op == "red":
                for r in e.params[1]:
                    mask |= r.bit
                own = e.args[0].cost + 1.0
            if own * space.usual(mask) * p.usual > LAUNCH * ALL / 4:
                out.append(e)
                continue
        stack.extend(e.args)
    return out


def below(roots: Iterable[E], stop: Iterable[E] = ()) -> list[E]:
    """The scalars that these are computed from, themselves included, down to those in `stop`."""
    seen: dict[E, None] = {}
    known = set(stop)
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e not in seen and e not in known:
            seen[e] = None
            stack.extend(e.args)
    return list(seen)
