"""Loops of the user's program over tiny values: found again among the nodes, planned once, run as one loop.

In: a graph's nodes in order.  Out: `Turns`, one for each loop that was found: what it reads from memory, and the kernel
that runs its turns.  The body is lowered for one turn, whatever their number.  Values of the turn before are carried in
registers; what other loops read of every turn is kept in arrays by turn; what the rest of the program reads is stored
after the loop.  Only values that are written out anyway take part: tiny constant shapes.  Nothing here can change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir.graph import Node, linearise, placeholder, private
from ..ir.primitive import CONTRACT, ELEMENTWISE, LEAF, REDUCE
from .axes import SMALL, Axes, Frame, Layout, find_uniform, operands
from .index import Ix, Size
from .loops import At, Begin, Buffer, Const, Index, Kernel, KernelStep, Let, Loop, Next, Operand, Store, renamed
from .lower import Guard, Lowering
from .nest import Nest
from .periods import Periods, Ref, Region
from .scalar import E
from .tasks import Memory, Task

LONG = 200                         # nodes from which a graph is looked at
COPIES = 64                        # elements of a value that are written out
TEXT = 3_000                       # elements of all values of a turn
ENDS = 8                           # turns at each end that may take their values from outside of a loop
STRAY = 1_000                      # elements that the rest of the program may read of a loop
MOVES = ("reshape", "permute", "expand", "slice", "pad", "flip")

Place = tuple[Buffer, tuple[Any, ...], tuple[int, ...]]
New = Callable[[str, Any, int], Buffer]


class Unfit(Exception):
    """Why a loop is not run as one."""


class Turns:
    """One loop.  `nodes`: all that its turns compute; `reads`: nodes that must be in memory before it; `wanted`: those of
    its nodes that the rest of the program reads; `arrays`: places in a turn whose values of all turns are kept; `starts`:
    for what is carried, by (place, lag), the node it begins with; `after`: loops it reads from."""

    __slots__ = ("number", "region", "order", "nodes", "reads", "wanted", "arrays", "last", "starts", "after")

    def __init__(self, number: int, region: Region, order: Sequence[Node]) -> None:
        self.number, self.region, self.order = number, region, order
        self.nodes = [order[region.at(turn, q)] for turn in range(region.first, region.last) for q in range(region.period)]
        self.last = self.nodes[-1]
        self.reads: dict[Node, None] = {}
        self.wanted: dict[Node, tuple[int, int]] = {}
        self.arrays: dict[int, None] = {}
        self.starts: dict[tuple[int, int], Node] = {}
        self.after: dict[Turns, None] = {}

    def item(self, at: Any) -> Node:
        """An operand that is not of the loop: an item of the list, or a node that is none."""
        return self.order[at] if type(at) is int else at  # type: ignore[no-any-return]

    def node(self, q: int) -> Node:
        """The node at a place of the first turn."""
        return self.order[self.region.at(self.region.first, q)]


def find_turns(order: Sequence[Node], inputs: Sequence[Node], outputs: Sequence[Node], uniform: set[Node],
               stay: Callable[[Node], bool]) -> list[Turns]:
    """The loops of a graph, in order; `stay`: nodes that are for others to compute.  None at all if one does not fit."""
    if len(order) < LONG:
        return []
    leaves = set(inputs)
    fits = [n not in leaves and n not in uniform and _fits(n) and not stay(n) for n in order]
    if sum(fits) < LONG:
        return []
    seen = [(n, f) for n, f in zip(order, fits) if f or n in leaves or n in uniform or n.prim.kind == LEAF]
    tiny, fits = [n for n, _ in seen], [f for _, f in seen]  # (what lies between the turns does not part them)
    where = {n: k for k, n in enumerate(tiny)}
    found = Periods(_signs(tiny, fits, uniform), [[where.get(i, i) for i in operands(n)] for n in tiny],
                    lambda k: tiny[k].params[0] if tiny[k].op == "slice" and fits[k] else (), opens=True)
    found.merge()
    loops = [Turns(k, r, tiny) for k, r in enumerate(found.regions)]
    try:
        _connect(found, loops, order, where, outputs, uniform)
    except Unfit:
        return []
    return loops


def _fits(n: Node) -> bool:
    kind = n.prim.kind
    known = kind in (ELEMENTWISE, REDUCE, CONTRACT) or n.op in MOVES or n.op == "concat" and len(n.inputs) <= 8
    return known and 0 < n.aval.size <= COPIES and max(n.shape, default=1) <= SMALL and n.op not in ("argmax", "argmin")


def _signs(order: Sequence[Node], fits: Sequence[bool], uniform: set[Node]) -> np.ndarray:
    """A number for each node: equal for nodes that may be one node of a loop's body."""
    numbers: dict[Any, int] = {}
    out = np.empty(len(order), np.int64)
    for k, n in enumerate(order):
        key: Any = k
        if fits[k]:
            params = n.params[2:] if n.op == "slice" else n.params
            key = (n.op, params, n.dtype, n.shape, tuple([i if i in uniform else None for i in operands(n)]))
        out[k] = numbers.setdefault(key, len(numbers))
    return out


def _connect(found: Periods, loops: Sequence[Turns], order: Sequence[Node], where: dict[Node, int],
             outputs: Sequence[Node], uniform: set[Node]) -> None:
    """What each loop reads, and what is read of it.  Unfit if that is too much."""
    of = {t.region: t for t in loops}
    inside: set[Node] = set()
    for t in loops:
        inside.update(t.nodes)

    def wanted(n: Node) -> None:
        spot = found.taken(where[n])
        if spot is not None:
            of[spot[0]].wanted[n] = spot[1:]

    for t in loops:
        if sum([t.node(q).aval.size for q in range(t.region.period)]) > TEXT:
            raise Unfit("a long turn")
        for n in _read(found, t):
            if n in uniform:
                continue
            t.reads[n] = None
            if n in where:
                wanted(n)
        for refs in t.region.refs:
            for r in refs:
                if r.kind == "walk":
                    assert r.region is not None
                    of[r.region].arrays[r.at] = None
                    t.after[of[r.region]] = None
    _trim(loops)
    for n in order:
        if n not in inside:
            for i in operands(n):
                if i in inside:
                    wanted(i)
    for n in outputs:
        if n in inside:
            wanted(n)


def _read(found: Periods, t: Turns) -> list[Node]:
    """Nodes that a loop takes from memory."""
    out: list[Node] = []
    for q, refs in enumerate(t.region.refs):
        moving = any(t.region.steps[q])
        for r in refs:
            if r.kind == "same":
                out.append(t.item(r.at))
            elif r.kind == "walk":
                assert r.region is not None
                there = t.order[r.region.at(r.region.first, r.at)]
                out += _alike(there, [t.order[at] for _, at in _edges(t.region, r)])
            elif moving:
                raise Unfit("a slice that moves over what changes")
            elif r.kind == "turn":
                for lag in range(1, r.lag + 1):
                    at = found.start(t.region, r.at, lag)
                    if at is None:
                        raise Unfit("a value from before the first turn")
                    t.starts[r.at, lag], = _alike(t.node(r.at), [t.item(at)])
    return [*out, *t.starts.values()]


def _alike(n: Node, others: list[Node]) -> list[Node]:
    if any([m.aval != n.aval for m in others]):
        raise Unfit("a first or last value of another shape")
    return others


def _edges(region: Region, r: Ref) -> list[tuple[int, int]]:
    """(turn of the other loop, item that stands for its value) where a walk leaves the other loop."""
    other = r.region
    assert other is not None
    lo, hi = min(region.first + ENDS, region.last), max(region.first, region.last - ENDS)
    for turn in (lo, hi - 1) if lo < hi else ():
        if not other.first <= r.start + r.step * turn < other.last:
            raise Unfit("many turns without their like in another loop")
    turns = [r.start + r.step * turn for turn in (*range(region.first, lo), *range(hi, region.last))]
    outside = [turn for turn in dict.fromkeys(turns) if not other.first <= turn < other.last]
    return [(turn, other.edges[turn, r.at] if (turn, r.at) in other.edges else other.at(turn, r.at)) for turn in outside]


def _trim(loops: Sequence[Turns]) -> None:
    """Forget the edges that no walk comes to."""
    used: dict[Region, dict[tuple[int, int], int]] = {t.region: {} for t in loops}
    for t in loops:
        for r in [r for refs in t.region.refs for r in refs if r.kind == "walk"]:
            assert r.region is not None
            used[r.region].update({(turn, r.at): at for turn, at in _edges(t.region, r)})
    for region, edges in used.items():
        region.edges = edges


def settled(order: Sequence[Node], loops: Sequence[Turns]) -> list[Node]:
    """Nodes in evaluation order, those of a loop all together.  Unfit if there is none."""
    if any([sum([n.aval.size for n in t.wanted]) > STRAY for t in loops]):
        raise Unfit("much of one is read from elsewhere")
    of = {n: t for t in loops for n in t.nodes}
    out: list[Node] = []
    done: set[Any] = set()
    begun: set[Any] = set()
    stack = list(reversed(order))
    while stack:
        n = stack.pop()
        t = of.get(n)
        if (t or n) in done:
            continue
        needs = operands(n) if t is None else [*t.reads, *[a.last for a in t.after]]
        todo = [i for i in needs if (of.get(i) or i) not in done]
        if todo:
            if (t or n) in begun:
                raise Unfit("a loop that waits for what waits for it")
            begun.add(t or n)
            stack += [n, *reversed(todo)]
            continue
        done.add(t or n)
        out += [n] if t is None else t.nodes
    return out


def rows(region: Region) -> tuple[int, int]:
    """The turns whose values are kept in arrays: those of the loop, and what others take for such."""
    turns = [turn for turn, _ in region.edges]
    return min([region.first, *turns]), max([region.last, *[turn + 1 for turn in turns]])


# ------------------------------------------------------------------------------------------------ the loop
class _Body(Lowering):
    """Values of one turn.  `places`: nodes that stand for memory, each with indices that lead its own, and their extents."""

    def __init__(self, frame: Frame, unrolled: set[int]) -> None:
        super().__init__(frame, {}, unrolled)
        self.places: dict[Node, Place] = {}
        self.sliced: dict[Node, tuple[Buffer, tuple[int, ...], Callable[[int, Ix], Ix]]] = {}

    def _ready(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> E | None:
        place = self.places.get(n)
        if place is not None:
            buffer, lead, extents = place
            return self.scalars.load(buffer, (*lead, *ix), (*extents, *self.frame.layouts[n].extents), guard)
        sliced = self.sliced.get(n)
        if sliced is not None:
            buffer, shape, at = sliced
            rest = int(self.linear(ix, self.frame.layouts[n].extents).const)      # all axes are written out
            dims: list[int] = []
            for size in reversed(n.shape):
                rest, i = divmod(rest, size)
                dims.append(i)
            index = tuple([at(d, self.space.const(i)) for d, i in enumerate(reversed(dims))])
            return self.scalars.load(buffer, index, shape, guard)
        return super()._ready(n, ix, guard)


class TurnsKernel:
    """Makes the kernel of one loop.  `memory`: where nodes are; `place`: a buffer for a node; `new`: makes a buffer;
    `arrays`: for each loop that has run, the arrays of its values by place."""

    def __init__(self, t: Turns, memory: dict[Node, Buffer], place: Callable[[Node], Buffer], new: New,
                 arrays: dict[Region, dict[int, Buffer]], uniform: set[Node]) -> None:
        self.t, self.memory, self.place, self.new = t, memory, place, new
        self.arrays, self.uniform = arrays, uniform
        self.region = t.region
        self.stand: dict[Any, Node] = {}                    # what a placeholder of the body stands for → the placeholder
        self.build = private()
        self.body = self._nodes()
        self.low = self._lowering()
        turns = Size(self.region.turns, ("turns", t.number))
        self.range = self.low.space.range(-1000 - t.number, 0, turns)
        self.turn = self.low.space.var(self.range)
        self.carried: dict[str, tuple[int, int]] = {}       # buffer that stands for registers → (place, lag)
        self.next: dict[str, int] = {}                      # buffer that stands for their next values → place

    # ------------------------------------------------------------------ the body, over placeholders
    def _nodes(self) -> list[Node]:
        """The nodes of one turn, over placeholders for all that is not of this turn."""
        out: list[Node] = []
        for q, refs in enumerate(self.region.refs):
            n = self.t.node(q)
            if any(self.region.steps[q]):
                out.append(self._for(("slice", q), n))
                continue
            ins = [self._operand(r, i, out) for r, i in zip(refs, operands(n))]
            out.append(self.build(n.prim, tuple(ins), n.params))
        return out

    def _operand(self, r: Ref, real: Node, out: list[Node]) -> Node:
        if r.kind == "same":
            return real if real in self.uniform else self._for(("same", r.at), real)
        if r.kind == "turn":
            return out[r.at] if not r.lag else self._for(("turn", r.at, r.lag), real)
        return self._for(("walk", r.region, r.at, r.start, r.step), real)

    def _for(self, key: Any, real: Node) -> Node:
        if key not in self.stand:
            self.stand[key] = placeholder(real.aval, len(self.stand))
        return self.stand[key]

    def _lowering(self) -> _Body:
        leaves = list(self.stand.values())
        order = linearise([*leaves, *self.body])
        uniform = find_uniform(order, leaves)
        axes = Axes(order, leaves, uniform)
        axes.constant()
        frame = Frame(axes, order, [n for n in order if n.prim.kind != LEAF])
        return _Body(frame, {a for layout in frame.layouts.values() for a in layout.axes})

    # ------------------------------------------------------------------ memory
    def _places(self) -> None:
        """Tell the lowering where what the placeholders stand for is found in each turn."""
        space, low, region = self.low.space, self.low, self.region
        for key, n in self.stand.items():
            if key[0] == "same":
                low.places[n] = (self.memory[self.t.item(key[1])], (), ())
            elif key[0] == "turn":
                b = Buffer(f"carried{self.t.number}_{key[1]}_{key[2]}", "scratch", n.dtype, n.aval.size * region.turns)
                self.carried[b.name] = key[1:]
                low.places[n] = (b, (self.turn,), (self.range.extent,))
            elif key[0] == "walk":
                _, other, at, start, step = key
                first = start + step * region.first - rows(other)[0]
                lead = space.shift(space.scale(self.turn, step), Size(first, ("walk", self.t.number, len(low.places))))
                low.places[n] = (self.arrays[other][at], (lead,), (self._count(other),))
            else:
                self._sliced(key[1], n)

    def _sliced(self, q: int, n: Node) -> None:
        """A slice that moves with the turns, straight from the memory of what it is taken from."""
        space, real = self.low.space, self.t.node(q)
        (x,) = operands(real)
        starts, _, steps = real.params
        moves = self.region.steps[q]

        def at(d: int, ix: Ix) -> Ix:
            ix = space.scale(ix, steps[d])
            if not moves[d]:
                return space.shift(ix, starts[d])
            ix = space.add(ix, space.scale(self.turn, moves[d]))
            return space.shift(ix, Size(starts[d], ("moving", self.t.number, q, d)))

        shape = tuple([s if s <= SMALL else Size(s, ("sliced", self.t.number, q, d)) for d, s in enumerate(x.shape)])
        self.low.sliced[n] = (self.memory[x], shape, at)

    # ------------------------------------------------------------------ the kernel
    def step(self) -> KernelStep:
        """The loop, between the loads of what it carries and the stores of what others want of it."""
        self._places()
        tasks = self._tasks()
        nest = Nest(self.low, {}, self.new)
        out: list[Any] = []
        nest.level(tasks, 0, {}, out)
        loop = out.pop()
        if not isinstance(loop, Loop) or any([isinstance(s, Loop) for s in out]):
            raise AssertionError("one loop over the turns was expected")
        return KernelStep(Kernel((*self._fills(), *out, *self._begins(), self._loop(loop), *self._after())), 1, 1)

    def _tasks(self) -> list[Task]:
        """Stores: of what is kept by turn, and of what registers are to hold in the next turn."""
        tasks: list[Task] = []
        arrays = self.arrays[self.region] = {}
        self.registers = set(self.t.starts)
        kept = dict(self.t.arrays)
        for turn, q in self.t.wanted.values():
            if turn == self.region.last - 1:
                self.registers.add((q, 1))
            else:
                kept[q] = None
        first, last = rows(self.region)
        lead = self.low.space.shift(self.turn, self._row(self.region.first, 0))
        for q in kept:
            n = self.body[q]
            arrays[q] = self.new("temp", n.dtype, (last - first) * n.aval.size)
            tasks += self._stores(q, arrays[q], (lead,), (self._count(self.region),))
        for q in dict.fromkeys(sorted([at for at, _ in self.registers])):
            n = self.body[q]
            b = Buffer(f"next{self.t.number}_{q}", "scratch", n.dtype, n.aval.size * self.region.turns)
            self.next[b.name] = q
            tasks += self._stores(q, b, (self.turn,), (self.range.extent,))
        return tasks

    def _count(self, region: Region) -> Size:
        """The rows of a loop's arrays."""
        first, last = rows(region)
        return Size(last - first, ("rows", region.begin))

    def _row(self, turn: int, k: int) -> int:
        """The row of a turn in this loop's arrays."""
        row = turn - rows(self.region)[0]
        return Size(row, ("row", self.t.number, k)) if row else 0

    def _fills(self) -> list[Any]:
        """Values from elsewhere that this loop reads as if they were of another loop's turns."""
        out: list[Any] = []
        done: set[tuple[Region, int, int]] = set()
        for r in [r for refs in self.region.refs for r in refs if r.kind == "walk"]:
            for turn, at in _edges(self.region, r):
                assert r.region is not None
                if (r.region, turn, r.at) in done:
                    continue
                done.add((r.region, turn, r.at))
                n = self.t.order[at]
                row = Index(Size(turn - rows(r.region)[0], ("edge", self.t.number, len(done))), ())
                for c in range(n.aval.size):
                    value = self._element(n, f"e{self.t.number}_{len(out)}", c, out)
                    spot = At(self.arrays[r.region][r.at], (row, Index(c, ())), (self._count(r.region), n.aval.size))
                    out.append(Store(spot, value))
        return out

    def _layout(self, q: int) -> Layout | None:
        return self.low.frame.layouts.get(self.body[q])

    def _stores(self, q: int, b: Buffer, lead: tuple[Ix, ...], extents: tuple[int, ...]) -> list[Task]:
        n, layout = self.body[q], self._layout(q)
        if layout is None:
            raise AssertionError(f"{n!r} has one value everywhere")
        out = []
        for point in self.low.points(layout, range(len(layout.axes)), 0):
            memory = Memory(b, (*lead, *point), (*extents, *layout.extents))
            out.append(Task((self.range,), self.low.value(n, point), memory))
        return out

    def _name(self, q: int, lag: int, c: int) -> str:
        return f"s{self.t.number}_{q}_{lag}_{c}"

    def _begins(self) -> list[Any]:
        """Registers, with the values of the turns before the first."""
        out: list[Any] = []
        for q, lag in sorted(self.registers):
            n = self.body[q]
            for c in range(n.aval.size):
                start: Operand = Const(n.dtype.number(0), n.dtype)
                if (q, lag) in self.t.starts:
                    start = self._start(q, lag, c, out)
                out.append(Begin(self._name(q, lag, c), n.dtype, start))
        return out

    def _start(self, q: int, lag: int, c: int, out: list[Any]) -> Operand:
        return self._element(self.t.starts[q, lag], f"b{self.t.number}_{q}_{lag}_{c}", c, out)

    def _element(self, n: Node, name: str, c: int, out: list[Any]) -> Operand:
        """Element c of a node, loaded as `name` if it is no constant."""
        if n in self.uniform:
            e = self.low.uniform(n)
            return Const(e.params[0], e.dtype)
        out.append(Let(name, "load", n.dtype, (), (At(self.memory[n], (Index(c, ()),), (n.aval.size,)), ())))
        return name

    def _loop(self, loop: Loop) -> Loop:
        """The loop with registers in the place of the buffers that stood for them."""
        names: dict[str, str] = {}
        body: list[Any] = []
        ends: dict[str, Next] = {}
        for s in loop.body:
            if type(s) is Let and s.op == "load" and s.params[0].buffer.name in self.carried:
                q, lag = self.carried[s.params[0].buffer.name]
                names[s.name] = self._name(q, lag, _element(s.params[0]))
            elif type(s) is Store and s.at.buffer.name in self.next:
                q = self.next[s.at.buffer.name]
                value = names.get(s.value, s.value) if isinstance(s.value, str) else s.value
                self._ends(q, _element(s.at), value, s.at.buffer, ends)
            else:
                body.append(renamed(s, names))
        return Loop(loop.range, (*body, *_ordered(ends)), loop.span)

    def _ends(self, q: int, c: int, value: Operand, b: Buffer, ends: dict[str, Next]) -> None:
        for lag in [lag for at, lag in self.registers if at == q]:
            name = self._name(q, lag, c)
            ends[name] = Next(name, b.dtype, value if lag == 1 else self._name(q, lag - 1, c))

    def _after(self) -> list[Any]:
        """Stores of what the rest of the program wants of the loop."""
        out: list[Any] = []
        for n, (turn, q) in self.t.wanted.items():
            to = self.place(n)
            for c in range(n.aval.size):
                value = self._name(q, 1, c)
                if turn != self.region.last - 1:
                    value = f"a{self.t.number}_{len(out)}"
                    at = Index(self._row(turn, len(out) + 1), ())
                    spot = At(self.arrays[self.region][q], (at, Index(c, ())), (self._count(self.region), n.aval.size))
                    out.append(Let(value, "load", n.dtype, (), (spot, ())))
                out.append(Store(At(to, (Index(c, ()),), (n.aval.size,)), value))
        return out


def _element(at: At) -> int:
    """The element of a value that a place in a buffer by turn means."""
    c, step = 0, 1
    for ix, n in zip(reversed(at.index[1:]), reversed(at.shape[1:])):
        c, step = c + int(ix.const) * step, step * int(n)
    return c


def _ordered(ends: dict[str, Next]) -> list[Next]:
    """New values of registers, each after those that read its old one.  Unfit if they go round."""
    left, out = dict(ends), []
    while left:
        free = [name for name in left if not any([s.value == name for other, s in left.items() if other != name])]
        if not free:
            raise Unfit("values that change places")
        for name in free:
            out.append(left.pop(name))
    return out
