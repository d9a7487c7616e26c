"""Graph to schedule: the one entry, `schedule(graph, target)`.

In: a verified Graph.  Out: `Schedule`, steps over named buffers.  Cuts the graph where a kernel cannot go on (matrix
products for BLAS, host operations, general scatters), decides which values between the cuts are kept in memory, and has
each group in between fused.  Never emits text; never looks at a backend.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from ..dtypes import DType
from ..ir.graph import Graph, Node
from ..ir.primitive import CONTRACT, ELEMENTWISE, HOST, LEAF, REDUCE, SCATTER
from ..ops.grouped import GROUPED, group_key
from .axes import PIECES, Axes, Axis, Frame, find_uniform, operands, pinned
from .calls import call_steps, first_read
from .cost import Target
from .device import INTO, device_step, in_memory, with_words
from .draws import sink
from .gemm import OFTEN, Gemm, is_product
from .index import Range, Size, usual
from .join import joined
from .kept import kept
from .loops import (
    CONTROL_OF,
    Buffer,
    CallStep,
    ControlStep,
    DeviceStep,
    GemmStep,
    HostStep,
    KernelStep,
    Schedule,
)
from .lower import Lowering
from .periods import Region
from .pieces import GROUP, base_goals, concat_goals, grouped, pad_goals, pad_sums
from .scalar import E, TooMuch
from .scatter import first_goals, is_cut_scatter, scatter_goals
from .shifts import find_shifts
from .simt import SimtStager
from .spreads import Spread, find_spreads, spread_goals
from .stages import Goal, Stager
from .tasks import Memory
from .turns import TurnsKernel, Unfit, find_turns, settled
from .unroll import copies, loop_order, unrolled

CHEAP = 4                          # operations up to which a value is computed again rather than kept between kernels
DEEP = 240                         # operations one after the other on arrays in one kernel (240 divides by many periods)
ALONE = 2048                       # elements of a piece from which it is stored by a kernel of its own
ROOM = 512                         # bytes between the areas of two chunks
# what a group may have of places where values are asked for, of scalars, of statements: so many a value, and so many more
BOUNDS = ((10, 500), (40, 5_000), (10, 700))


# what a reduction's loop computes is computed again by the loops after it, and what is put together asks for all its parts:
# chains of them are shorter
_DEPTH: dict[str, int] = {ELEMENTWISE: 1, REDUCE: 16, CONTRACT: 16, "concat": 8, "pad": 4, "update": 4, "unshear": 4}


def _depth(n: Node) -> int:
    """How much a node adds to the depth of a kernel's text."""
    if n.aval.size <= 1 and n.prim.kind != REDUCE:
        return 0
    return _DEPTH.get(n.prim.kind) or _DEPTH.get(n.op, 0)


def schedule(graph: Graph, target: Target | None = None) -> Schedule:
    """The steps that compute a graph's outputs, each output in a buffer of its own."""
    return _Planner(graph, target or Target()).schedule()


class _Planner:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph, self.target = with_words(graph) if target.simt else graph, target
        self.order = self.graph.order
        self.inputs = set(graph.inputs)
        self.uniform = find_uniform(self.order, graph.inputs)
        self.axes = Axes(self.order, graph.inputs, self.uniform)
        self.buffers: dict[str, Buffer] = {}
        self.memory: dict[Node, Buffer] = {}
        self.steps: list[KernelStep | GemmStep | HostStep | CallStep | ControlStep | DeviceStep] = []
        self.forms: dict[Node, Any] = {}                    # host operation → kernels that a person wrote for it, or None
        self.notes: list[str] = []
        self.place_of: dict[Node, int] = {}
        self.gemms: dict[Node, Gemm] = {}
        self.added: dict[Node, Node] = {}                   # sum → the product (or sum) into whose buffer its product is added

    def buffer(self, kind: str, dtype: DType, size: int) -> Buffer:
        per_chunk = kind in ("scratch", "part")
        if per_chunk and not self.target.simt:              # whole lines, and room so that no two chunks share one
            line = 64 // dtype.itemsize
            size = -(-usual(size) // line) * line + ROOM // dtype.itemsize
        b = Buffer(f"{kind}{len(self.buffers)}", kind, dtype, int(size), per_chunk)
        self.buffers[b.name] = b
        return b

    # ------------------------------------------------------------------ the plan
    def schedule(self) -> Schedule:
        graph = self.graph
        for i in graph.inputs:
            self.memory[i] = self.buffer("input", i.dtype, i.aval.size)
        inputs = [self.memory[i].name for i in graph.inputs]
        uses = self._uses()
        self._find_gemms(uses)
        moved = self._move_products(uses)
        self._turn_matrices()
        self._find_loops(uses)
        self.whole: dict[Node, Node] = {}                   # part of a sum of products → the whole sum
        for n in reversed(list(self.added)):
            self.whole[self.added[n]] = self.whole.get(n, n)
        self.inside = {m for tree in self.sums.values() for m in tree.inside} | moved
        self.inside.update(self.turning)
        self.shifts = find_shifts(self.order, graph.outputs, self._apart)
        if self.shifts.kept:
            self.notes.append(f"{', '.join(map(repr, self.shifts.kept))}: kept, since many shifted places read it")
        level, cuts = self._levels()
        sink(self.order, level, {*cuts, *self.turning}, self.uniform,
             {*graph.outputs, *self.inside, *self.shifts.kept, *self.shifts.raised})
        targets = self._targets(level, cuts)
        outputs = self._outputs()
        top = max(level.values(), default=0)
        groups: list[list[Node]] = [[] for _ in range(top + 1)]
        for n in targets:
            groups[level[n]].append(n)
        steps_at: list[list[Node]] = [[] for _ in range(top + 1)]
        for n in cuts:
            steps_at[level[n]].append(n)
        for l in range(top + 1):
            for n in steps_at[l]:
                self._cut(n)
            self._fuse(groups[l])
        self._copies(outputs)
        if self.turns:
            self.steps = joined(self.steps, self.buffers)
        return Schedule(self.steps, self.buffers, inputs, [b.name for b in outputs], self.notes)

    def _find_loops(self, uses: dict[Node, int]) -> None:
        """The loops over tiny values, and the long sums of pads of what else there is."""
        loops = find_turns(self.order, self.graph.inputs, self.graph.outputs, self.uniform, self.gemms.__contains__)
        self.spreads: dict[Node, list[Spread]] = {}
        if loops:
            turning = {n: t for t in loops for n in t.nodes}
            held = uses | dict.fromkeys(turning, 2)         # nobody else may take a loop's nodes for its own
            self.sums = pad_sums([n for n in self.order if n not in turning], held, self.uniform)
            inside: dict[Node, int] = {}
            for n in turning:
                for i in operands(n):
                    inside[i] = inside.get(i, 0) + 1
            self.spreads = find_spreads(loops, self.sums, {n: uses[n] - inside.get(n, 0) for n in uses})
            try:
                self.order = settled(self.order, loops)
            except Unfit as e:
                self.notes.append(f"loops of tiny values are not run as such: {e}")
                loops, self.spreads = [], {}
        if not loops:
            self.sums = pad_sums(self.order, uses, self.uniform)
        self.turns = {t.last: t for t in loops}
        self.turning = {n: t for t in loops for n in t.nodes}
        self.by_turn: dict[Region, dict[int, Buffer]] = {}

    def _uses(self) -> dict[Node, int]:
        """How many nodes and outputs read each node."""
        uses: dict[Node, int] = dict.fromkeys(self.order, 0)
        for n in self.order:
            for i in operands(n):
                uses[i] += 1
        for o in self.graph.outputs:
            uses[o] += 1
        return uses

    def _find_gemms(self, uses: dict[Node, int]) -> None:
        """Products for BLAS.  The sum of a product over its leading axes is one product with a longer inner axis."""
        for n in self.order:
            if n.prim.kind == CONTRACT and n not in self.uniform and is_product(n, self._runtime(n), self.target.simt):
                self.gemms[n] = Gemm(n, self.inputs, self.uniform)
            elif n.op == "add":
                self._find_added(n, uses)
            elif n.op == "sum":
                (m,) = operands(n)
                if m in self.gemms and uses[m] == 1 and n.params[0] == tuple(range(len(m.shape) - 2)):
                    joined = Gemm(n, self.inputs, self.uniform)
                    if joined.joins():
                        del self.gemms[m]
                        self.gemms[n] = joined

    def _move_products(self, uses: dict[Node, int]) -> set[Node]:
        """Products that are only wanted with their elements moved are stored as they are wanted: what is between then and the
        product itself has no memory."""
        inside: set[Node] = set()
        places = [v.base for g in self.gemms.values() for v in (g.a, g.b)]
        for n in dict.fromkeys([*places, *self.graph.outputs]):
            n = n.real or n
            if n.op not in ("permute", "reshape"):
                continue
            between, m = [], n
            while m.op in ("permute", "reshape") and (m is n or uses[m] == 1):
                (m,) = operands(m)
                between.append(m)
            gemm = self.gemms.get(m)
            if gemm is not None and m is gemm.node is gemm.product and uses[m] == 1 and m not in self.added.values() and \
                    gemm.moves_to(n):
                self.gemms[n] = self.gemms.pop(m)
                inside.update(between)
        return inside

    def _turn_matrices(self) -> None:
        """A transposed matrix that many products of few rows read is turned once."""
        readers: dict[Node, list[Gemm]] = {}
        for g in self.gemms.values():
            if not g.summed and g.turns_again():
                readers.setdefault(operands(g.product)[1], []).append(g)
        for gemms in readers.values():
            if len(gemms) >= OFTEN:
                for g in gemms:
                    g.take_turned()

    def _find_added(self, n: Node, uses: dict[Node, int]) -> None:
        """A sum of products that nobody else needs: each is added into the buffer of the first."""
        a, b = operands(n)
        for first, more in ((a, b), (b, a)):
            if more in self.gemms and more not in self.added and first in self.gemms and uses[first] == uses[more] == 1:
                self.added[n] = first
                self.gemms[n] = self.gemms.pop(more)
                return

    def _runtime(self, n: Node) -> bool:
        for i in operands(n):
            if i not in self.uniform and any([type(a.size) is Size for a in self.axes.flat(i)[0]]):
                return True
        return False

    def _apart(self, n: Node) -> bool:
        """Is the node no part of a fused kernel?"""
        return n in self.inputs or n in self.uniform or n in self.gemms or n in self.inside or n in self.turning or \
            n in self.sums or n.prim.kind in (HOST, LEAF)

    def _levels(self) -> tuple[dict[Node, int], list[Node]]:
        """How many cuts stand one after the other below each node, and the cuts in order.  A chain of operations on arrays is
        cut where it gets too deep for one text; a chain of numbers is not, since its text is rolled into loops."""
        level: dict[Node, int] = {}
        depth: dict[Node, int] = {}
        cuts: list[Node] = []
        deep = False
        for n in self.order:
            if n in self.inputs or n in self.uniform:
                level[n] = depth[n] = 0
                continue
            t = self.turning.get(n)
            if t is not None:
                if n is t.nodes[0]:
                    l = max([level[i] for i in (*t.reads, *[a.last for a in t.after])], default=0) + 1
                    cuts.append(t.last)
                level[n], depth[n] = l, 0
                continue
            cut = self._is_cut(n)
            if cut:
                cuts.append(n)
            l = max([level[i] + self.shifts.between(i, n) for i in operands(n)], default=0) + cut
            counts = _depth(n)
            d = 0 if cut else max([depth[i] for i in operands(n) if level[i] == l], default=0) + counts
            if d > DEEP:
                l, d = l + 1, counts
                deep = True
            level[n], depth[n] = l, d
        if deep:
            self.notes.append(f"chains of more than {DEEP} operations go in several kernels")
        return level, cuts

    def _is_cut(self, n: Node) -> bool:
        if n.aval.size == 0:
            return False
        if n.op in GROUPED:
            return True
        if n.prim.kind == HOST:
            own = self.target.simt or self._byhand(n)
            self.notes.append(f"{n!r} runs {'in kernels of its own' if own else 'on the host: it has no kernel'}")
            return True
        if n in self.gemms:
            return True
        if is_cut_scatter(n):
            self.notes.append(f"{n!r} adds at places that are data: a kernel of its own")
            return True
        if n.op == "concat" and len(n.inputs) > PIECES or n in self.sums:
            self.notes.append(f"{n!r} is put together from many pieces: each is stored by itself")
            return True
        return False

    def _targets(self, level: dict[Node, int], cuts: list[Node]) -> list[Node]:
        """The nodes that must be in memory, in order: outputs, operands of cuts, and what later kernels need and would be
        dear to compute again."""
        cut_set = set(cuts)
        wanted: dict[Node, None] = {}
        for o in self.graph.outputs:
            wanted[o] = None
        late: set[Node] = set()
        for n in self.order:
            if n in cut_set:
                wanted.update(dict.fromkeys(self._operands_in_memory(n)))
                late.update([self._bare(i) for i in operands(n) if n.op == "concat"])
            elif n.prim.kind != LEAF and n not in self.inside:
                late.update([self._bare(i) for i in operands(n) if level[i] < level[n]])
        for tree in self.sums.values():
            late.update([self._bare(operands(p)[0]) for p in tree.pads])
            late.update([self._bare(x) for x in tree.others])
        if self.target.simt:
            here = {*self.inputs, *self.inside, *cut_set}
            return kept(self.order, wanted, late, lambda n: n in here or n.aval.size == 0, self.uniform)
        cost: dict[Node, int] = {}
        out: list[Node] = []
        for n in self.order:
            if n in self.inputs or n.aval.size == 0 or n in self.inside:
                cost[n] = 0                                # (the last node of a loop is a cut, and not to be asked for)
                continue
            if n in self.uniform:
                cost[n] = 0
                if n in wanted:
                    out.append(n)
                continue
            if n in cut_set:
                cost[n] = 1
                continue
            cost[n] = n.prim.cost + sum([cost[i] for i in operands(n)]) if n.prim.kind in (ELEMENTWISE,) else \
                1000 if n.prim.kind == REDUCE else sum([cost[i] for i in operands(n)]) + (n.op == "concat")
            if n in wanted or n in late and (cost[n] > CHEAP or self._joins(n)):
                out.append(n)
                cost[n] = 1
        return out

    def _joins(self, n: Node) -> bool:
        """Does it make one array of several?  Then keeping it lets these go."""
        return n.prim.kind == ELEMENTWISE and sum([i not in self.uniform and i.aval.size > 1 for i in operands(n)]) > 1

    def _bare(self, n: Node) -> Node:
        """What a chain of pure movement starts from."""
        while n.op in ("reshape", "permute", "expand", "slice", "flip", "shear") and n not in self.inputs:
            n = operands(n)[0]
        return n

    def _operands_in_memory(self, n: Node) -> list[Node]:
        if self._by_device(n):
            return in_memory(n)
        if n.prim.kind == HOST:
            return list(operands(n))
        if n in self.turns:
            return list(self.turns[n].reads)
        if n not in self.gemms:
            return []
        gemm = self.gemms[n]
        return [gemm.a.base, gemm.b.base]

    def _outputs(self) -> list[Buffer]:
        """A buffer for each output; those of computed nodes that appear once are written in place."""
        out: list[Buffer] = []
        self.own: dict[Node, Buffer] = {}
        for o in self.graph.outputs:
            b = self.buffer("output", o.dtype, o.aval.size)
            out.append(b)
            if o not in self.inputs and o not in self.own:
                self.own[o] = b
        return out

    def _place(self, n: Node) -> Buffer:
        b = self.own.get(self.whole.get(n, n)) or self.buffer("temp", n.dtype, n.aval.size)
        self.memory[n] = b
        return b

    # ------------------------------------------------------------------ steps
    def _by_device(self, n: Node) -> bool:
        """Is the node a step of its own on a GPU?"""
        return self.target.simt and (n.prim.kind == HOST or n.prim.kind == SCATTER and is_cut_scatter(n))

    def _cut(self, n: Node) -> None:
        if self._by_device(n):
            self._device(n)
        elif n.op in GROUPED:
            if n not in self.memory:
                self._custom(n) if n.op == "custom" else self._loop(n)
        elif n.prim.kind == HOST:
            self._host(n)
        elif n in self.turns:
            if self.target.simt:
                self.notes.append(f"{n!r} ends a loop over tiny values, which one thread runs")
            loop = TurnsKernel(self.turns[n], self.memory, self._place, self.buffer, self.by_turn, self.uniform)
            self.steps.append(loop.step())
        elif n in self.added:
            b = self.memory[n] = self.memory[self.added[n]]
            self.steps += self.gemms[n].steps(self.memory, b, 1.0)
        elif n in self.gemms:
            self.steps += self.gemms[n].steps(self.memory, self._place(n))
        elif n.op == "concat":
            self._concat(n)
        elif n in self.sums:
            self._pad_sum(n)
        else:
            self._scatter(n)

    def _byhand(self, n: Node) -> Any:
        """The kernels that a person wrote for a host operation; None if NumPy runs it."""
        if n not in self.forms:
            find = self.target.byhand
            first = first_read(n, self.order, self.graph.outputs)
            self.forms[n] = find and find(n.prim, tuple([i.aval for i in operands(n)]), n.aval, n.params, first)
        return self.forms[n]

    def _host(self, n: Node) -> None:
        ins, out = operands(n), self._place(n).name
        names = tuple([self.memory[i].name for i in ins])
        host = HostStep(n.prim, names, tuple([i.aval for i in ins]), out, n.params)
        form = self._byhand(n)
        self.steps += call_steps(form, host, self.buffer) if form else [host]

    def _results(self, n: Node) -> list[str]:
        """The buffers of all results of a loop, a branch or a call, read or not."""
        places: dict[int, str] = {}
        for m in self.order:
            if m.op in GROUPED and group_key(m) == group_key(n):
                places[m.params[1]] = self._place(m).name
        avals = n.params[0].avals
        return [places.get(k) or self.buffer("temp", a.dtype, a.size).name for k, a in enumerate(avals)]

    def _custom(self, n: Node) -> None:
        """A call of a function that the user has compiled: it has no text."""
        ins, outs, form = operands(n), self._results(n), self._byhand(n)
        names, avals = tuple([self.memory[i].name for i in ins]), tuple([i.aval for i in ins])
        hosts = [HostStep(n.prim, names, avals, out, (n.params[0], k)) for k, out in enumerate(outs)]
        if not form:
            self.steps += hosts
            return
        (p,) = form.passes
        table = (*[("buffer", name) for name in (*names, *outs)], *p.numbers)
        self.steps.append(CallStep(hosts[0], p.text, table, tuple(outs), p.n, p.chunks, p.address))

    def _loop(self, n: Node) -> None:
        """A loop or branch with all its results, the bodies scheduled as programs of their own."""
        spec, ins, outs = n.params[0], operands(n), self._results(n)
        bodies = tuple([schedule(b, self.target) for b in spec.bodies])
        self.notes += [f"{spec!r}: {note}" for b in bodies for note in b.notes]
        names = tuple([(self.memory[i] if i.aval.size else self.memory.get(i) or self._place(i)).name for i in ins])
        self.steps.append(CONTROL_OF[n.op](spec, bodies, names, tuple(outs), tuple([i.aval for i in ins])))

    def _stage(self, low: Lowering, order: dict[int, int], goals: list[Goal]) -> None:
        stager = SimtStager if self.target.simt else Stager
        self.steps += stager(low, order, self.buffer, self.target, self.notes).run(goals)

    def _lowering(self, targets: Sequence[Node], bounded: bool = False,
                  held: Container[Axis] = ()) -> tuple[Lowering, dict[int, int]]:
        """Values of what leads from memory to the targets; if `bounded`, TooMuch will be raised where they get too many.
        `held`: axes along which something is moved on its way to memory."""
        nodes, moving = self._group(targets)
        frame = Frame(self.axes, nodes, moving, held)
        low = Lowering(frame, self.memory, unrolled(frame, nodes, moving, bounded, self.target.simt))
        if bounded:
            values = sum([copies(frame.layouts[n], low.unrolled) for n in moving if n in frame.layouts])
            low.most, low.scalars.most, low.space.most = (k * values + room for k, room in BOUNDS)
        return low, loop_order(frame, nodes)

    def _group(self, targets: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """The nodes between memory and the targets, in no particular order; and those of them that are computed."""
        seen: dict[Node, None] = {}
        moving: list[Node] = []
        stack = list(targets)
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen[n] = None
            if n not in self.memory and n.prim.kind != LEAF:
                moving.append(n)
                stack.extend(operands(n))
        return list(seen), moving

    def _fuse(self, targets: list[Node]) -> None:
        """Schedule what leads from memory to the targets, and put these in memory.  What would be computed at many more
        places than there are values, again and again, is cut in two: text and work stay linear in the graph."""
        todo: list[tuple[list[Node], bool]] = [(targets, True)]
        while todo:
            targets, may_cut = todo.pop()
            targets = [n for n in targets if n not in self.memory]
            if not targets:
                continue
            made = len(self.buffers)
            try:
                self._fused(targets, may_cut)
            except TooMuch:
                for name in list(self.buffers)[made:]:
                    del self.buffers[name]
                first = self._halfway(targets)
                todo.append((targets, bool(first)))
                todo.append((first, True))
                self.notes.append(f"{targets[0]!r} would be computed again and again: what leads to it is kept halfway")

    def _fused(self, targets: list[Node], bounded: bool) -> None:
        low, order = self._lowering(targets, bounded)
        goals: list[Goal] = []
        places: list[tuple[Node, Buffer]] = []
        for n in targets:
            b = self.own.get(n) or self.buffer("temp", n.dtype, n.aval.size)
            places.append((n, b))
            if n in self.uniform:
                goals.append(self._flat(low, b, low.uniform(n)))
                continue
            layout = low.frame.layouts[n]
            for point in low.points(layout, range(len(layout.axes)), 0):
                ranges = tuple([t for ix in point for t, _ in ix.terms])
                goals.append(Goal(ranges, low.value(n, point), Memory(b, point, layout.extents)))
        self._stage(low, order, goals)
        self.memory.update(places)

    def _halfway(self, targets: list[Node]) -> list[Node]:
        """What the second half of a group's nodes takes from the first; nothing if there is nothing to halve."""
        if not self.place_of:
            self.place_of = {n: k for k, n in enumerate(self.order)}
        nodes = sorted([n for n in self._group(targets)[1] if n not in self.uniform], key=self.place_of.__getitem__)
        first = set(nodes[:len(nodes) // 2])
        wanted: dict[Node, None] = dict.fromkeys([n for n in targets if n in first])
        for n in nodes[len(nodes) // 2:]:
            wanted.update(dict.fromkeys([self._bare(i) for i in operands(n) if i in first]))
        return [n for n in wanted if n in first and n.aval.size]

    def _device(self, n: Node) -> None:
        if n.op in INTO:
            low, order = self._lowering([n])
            self._stage(low, order, first_goals(low, n, self._place(n)))
            if operands(n)[2].aval.size == 0:
                return
        self.steps.append(device_step(n, self.memory, self.memory.get(n) or self._place(n)))

    def _scatter(self, n: Node) -> None:
        low, order = self._lowering([n])
        for goals in scatter_goals(low, n, self._place(n), self.buffer):
            if goals:
                self._stage(low, order, goals)

    def _concat(self, n: Node) -> None:
        out, at = self._place(n), 0
        (axis,) = n.params
        held = pinned(self.axes, [n])
        large = n.aval.size >= ALONE * len(n.inputs)        # many at once would meet in the same lines of the cache
        for pieces in grouped(operands(n), 1 if large else GROUP):
            low, order = self._lowering([n, *pieces], held=held)
            self._stage(low, order, concat_goals(low, n, out, at, pieces))
            at += sum([x.shape[axis] for x in pieces])

    def _pad_sum(self, n: Node) -> None:
        tree = self.sums[n]
        out = self._place(n)
        low, order = self._lowering([n, *tree.others])
        self._stage(low, order, base_goals(low, n, tree, out))
        size = 1 if n.aval.size >= self.target.serial else GROUP
        if n in self.spreads:
            low, order = self._lowering([n])
            goals = spread_goals(low, n, out, self.spreads[n], self.by_turn)
            self._stage(low, order, goals)
        for pads in grouped(tree.pads, size):
            low, order = self._lowering([n, *[operands(p)[0] for p in pads]], held=pinned(self.axes, pads))
            self._stage(low, order, pad_goals(low, n, out, pads))

    def _flat(self, low: Lowering, b: Buffer, value: E | None, source: Buffer | None = None) -> Goal:
        """A whole buffer of one value, or copied from another."""
        space = low.space
        ranges: tuple[Range, ...] = ()
        point, shape = (space.zero,), (1,)
        if b.size > 1:
            r = space.range(-len(space.ranges) - 10, 0, Size(b.size, ("flat", b.name)))
            point, shape, ranges = (space.var(r),), (r.extent,), (r,)
        if source is not None:
            value = low.scalars.load(source, point, shape, ())
        assert value is not None
        return Goal(ranges, value, Memory(b, point, shape))

    def _copies(self, outputs: Sequence[Buffer]) -> None:
        """Outputs that are inputs, or stand there twice."""
        low, order = self._lowering([])
        goals = [self._flat(low, b, None, self.memory[o]) for o, b in zip(self.graph.outputs, outputs)
                 if o.aval.size and self.memory[o] is not b]
        if goals:
            self._stage(low, order, goals)
