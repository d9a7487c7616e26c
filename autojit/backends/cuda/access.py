"""What loops touch: which may be dealt to threads, and which element each thread then has.

In: loops of a kernel.  Out: `Facts` of each loop, and the tests that mapping decides by: no two turns of a dealt loop may
write one place, and none may read what another writes.  Never decides how a kernel runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...schedule.index import Range, literal
from ...schedule.loops import Accumulate, At, Begin, Buffer, Index, Init, Let, Loop, Next, Run, Store

IRREGULAR = 1 << 30                # the stride of a place that is data
WORDS = {"f32": 4, "i32": 4, "f64": 2, "i64": 2, "f16": 8, "bf16": 8}      # elements of 16 bytes


@dataclass(slots=True)
class Access:
    """A place that a statement loads from or stores to; `guarded`: a load under conditions."""

    at: At
    store: bool
    guarded: bool


class Facts:
    """What the body of a loop does, at any depth."""

    __slots__ = ("accesses", "ranges", "names", "added", "carried", "flat")

    def __init__(self, body: Sequence[Any]) -> None:
        self.accesses: list[Access] = []
        self.ranges: set[Range] = set()                    # opened inside
        self.names: set[str] = set()                       # defined inside
        self.added: dict[str, Accumulate] = {}             # accumulators of the outside
        self.carried = False                               # does a turn depend on the one before it?
        self.flat = True                                   # are there no loops inside?
        begun: set[str] = set()
        after: list[str] = []
        stack = list(body)[::-1]
        while stack:
            s = stack.pop()
            kind = type(s)
            if kind is Let:
                self.names.add(s.name)
                if s.op == "load":
                    self.accesses.append(Access(s.params[0], False, bool(s.params[1])))
            elif kind is Store:
                self.accesses.append(Access(s.at, True, False))
            elif kind is Loop:
                self.flat = False
                self.ranges.add(s.range)
                stack.extend(s.body[::-1])
            elif kind is Init or kind is Begin:
                self.names.add(s.name)
                begun.add(s.name)
            elif kind is Accumulate:
                self.added[s.name] = s
            elif kind is Next:
                after.append(s.name)
            else:
                assert kind is not Run, "kernels of the device have plain loops"
        self.carried = any([name not in begun for name in after])
        for name in begun:
            self.added.pop(name, None)

    def buffers(self) -> set[str]:
        return {a.at.buffer.name for a in self.accesses}

    def fixed(self, term: Any) -> bool:
        """Is a term of an index the same all through the loop's body?"""
        return term not in self.ranges if type(term) is Range else term not in self.names


def elements(at: At) -> int:
    """Places that an array has, in one chunk."""
    n = 1
    for d in at.shape:
        n *= int(d)
    return n


def stride(at: At, r: Range) -> int:
    """Elements from one turn of r to the next; IRREGULAR where data decide."""
    total, step = 0, 1
    for ix, n in zip(reversed(at.index), reversed(at.shape)):
        for t, c in ix.terms:
            if t is r:
                total += int(c) * step
            elif type(t) is not Range:
                return IRREGULAR
        step *= int(n)
    return total


def apart(at: At, r: Range, facts: Facts) -> bool:
    """Do different turns of r go to different places, whatever the loops inside do?  One dimension must tell them apart."""
    for ix in at.index:
        own = sum([int(c) for t, c in ix.terms if t is r])
        if not own:
            continue
        span = 0
        for t, c in ix.terms:
            if t is not r and not facts.fixed(t):
                if type(t) is not Range:
                    break
                span += abs(int(c)) * (int(t.extent) - 1)
        else:
            if span < abs(own):
                return True
    return False


def tied(places: Sequence[At], r: Range, facts: Facts) -> bool:
    """Do all these places of one buffer show by one dimension which turn of r they belong to?"""
    first = places[0]
    shape = tuple(map(int, first.shape))
    if any([tuple(map(int, p.shape)) != shape for p in places]):
        return False
    for d, ix in enumerate(first.index):
        if any([t is r for t, _ in ix.terms]) and all([t is r or facts.fixed(t) for t, _ in ix.terms]):
            if all([_same(p.index[d], ix) for p in places]):
                return True
    return False


def _same(a: Index, b: Index) -> bool:
    return int(a.const) == int(b.const) and len(a.terms) == len(b.terms) and all(
        [s is t or s == t and type(s) is str for (s, _), (t, _) in zip(a.terms, b.terms)]) and all(
        [int(c) == int(d) for (_, c), (_, d) in zip(a.terms, b.terms)])


def conflicts(r: Range, facts: Facts, rows: bool) -> set[str]:
    """Buffers for whose sake the turns of r cannot run at once.  `rows`: r is the parallel range, for which the schedule
    has seen to all but the arrays of a chunk."""
    places: dict[str, list[Access]] = {}
    for a in facts.accesses:
        places.setdefault(a.at.buffer.name, []).append(a)
    out: set[str] = set()
    for name, found in places.items():
        stores = [a.at for a in found if a.store]
        if not stores:
            continue
        if rows and not stores[0].buffer.per_chunk:
            if not all([any([t is r for ix in at.index for t, _ in ix.terms]) for at in stores]):
                out.add(name)
        elif not all([apart(at, r, facts) for at in stores]) or len(found) > 1 and not tied([a.at for a in found], r, facts):
            out.add(name)
    return out


def lone(name: str, facts: Facts, everywhere: dict[str, int]) -> bool:
    """Does nothing outside the loop touch a buffer?  Then each turn begins it anew."""
    return sum([a.at.buffer.name == name for a in facts.accesses]) == everywhere[name]


def counted(accesses: Iterable[Access]) -> dict[str, int]:
    """How many statements touch each buffer."""
    out: dict[str, int] = {}
    for a in accesses:
        out[a.at.buffer.name] = out.get(a.at.buffer.name, 0) + 1
    return out


def small(at: At, copies: int, most: int) -> bool:
    """Has the array a size that is a constant of the text, and so few bytes that `copies` fit in `most`?"""
    return all([literal(n) for n in at.shape]) and elements(at) * at.buffer.dtype.itemsize * copies <= most


# ------------------------------------------------------------------------------------------------ vectors
def contiguous(at: At, r: Range, width: int, facts: Facts) -> bool:
    """Do `width` turns of r from a multiple of it on go to neighbours that begin at a multiple of it?"""
    step, const, own = 1, 0, 0
    for ix, n in zip(reversed(at.index), reversed(at.shape)):
        const += int(ix.const) * step
        for t, c in ix.terms:
            if t is r:
                own += int(c) * step
            elif not facts.fixed(t) or int(c) * step % width:
                return False
        step *= int(n)
    return own == 1 and const % width == 0


def moves(at: At, r: Range, facts: Facts) -> bool:
    """Does the place depend on r, or on what is computed from it?"""
    return any([t is r or not facts.fixed(t) for ix in at.index for t, _ in ix.terms])


def vectors(loop: Loop, facts: Facts, housed: Collection[str]) -> int:
    """How many neighbouring turns a thread may take at once by loads and stores of 16 bytes; 1 if there is no use in it.
    `housed`: scratch, in whose banks of shared memory the threads would then meet."""
    if not facts.flat or facts.carried:
        return 1
    widths = [WORDS.get(a.at.buffer.dtype.code, 1) for a in facts.accesses if moves(a.at, loop.range, facts)]
    if not widths or min(widths) == 1:
        return 1
    width = max(2, min(max(widths), 8))
    stored: set[str] = set()
    for s in loop.body:
        at = s.params[0] if type(s) is Let and s.op == "load" else s.at if type(s) is Store else None
        if at is None:
            continue
        name = at.buffer.name
        if name in housed or name in stored or type(s) is Let and s.params[1]:
            return 1
        if moves(at, loop.range, facts):
            if not contiguous(at, loop.range, width, facts) or at.buffer.per_chunk and at.buffer.size % width:
                return 1
        elif type(s) is Store:
            return 1
        if type(s) is Store:
            stored.add(name)
    return width


def buffers_of(facts: Facts, r: Range) -> list[Buffer]:
    """Buffers that a loop in vectors goes through."""
    return list(dict.fromkeys([a.at.buffer for a in facts.accesses if moves(a.at, r, facts)]))
