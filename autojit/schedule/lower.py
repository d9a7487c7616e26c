"""The value of a node at an index: graph to scalar DAG.

In: a group of nodes, and which of them are already in memory.  Out: `E` scalars (`value`) and the places of stores.
Movement becomes index arithmetic, padding becomes guards on loads, a reduction a fresh canonical range, a gather an index
that is data.  An explicit stack takes the place of recursion.  Never decides loops or kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, bool_, int64
from ..ir.graph import Node
from ..ir.primitive import CONTRACT, ELEMENTWISE, REDUCE
from .axes import Frame, Layout, operands, touched
from .index import Ix, Range, Size, Space
from .loops import Buffer
from .scalar import E, Scalars, TooMuch
from .sums import combine, identity, reduce

Guard = tuple[tuple[Ix, int], ...]
Key = tuple[Node, tuple[Ix, ...], Guard]
Rule = tuple[Sequence[Key], Callable[[list[E]], Any]]


class Lowering:
    """Values of the nodes of one `Frame`.  `memory`: nodes that are in a buffer; `unrolled`: axes without a loop."""

    def __init__(self, frame: Frame, memory: dict[Node, Buffer], unrolled: set[int]) -> None:
        self.frame, self.memory, self.unrolled = frame, memory, unrolled
        self.space = Space()
        self.scalars = Scalars(self.space)
        self._memo: dict[Key, E] = {}
        self.most = 1 << 60                                # values at places, above which TooMuch is raised
        self._maps: dict[Any, list[int]] = {}
        self._uniform: dict[Node, E] = {}
        self._forms: dict[Node, tuple[list[tuple[Node, bool]], Callable[[list[E]], E]]] = {}
        self._starts: dict[tuple[Node, int, int], int] = {}

    # ------------------------------------------------------------------ the driver
    def value(self, n: Node, index: tuple[Ix, ...], guard: Guard = ()) -> E:
        """The scalar at `index` (one component for each long axis of n); only good where `guard` holds."""
        memo = self._memo
        root = (n, index, guard)
        stack: list[list[Any]] = [[root, None, None]]
        while stack:
            frame = stack[-1]
            if frame[1] is None:
                if frame[0] in memo:
                    stack.pop()
                    continue
                if len(memo) > self.most:
                    raise TooMuch
                frame[1], frame[2] = self._rule(*frame[0])
            values: list[E] = []
            for k in frame[1]:
                e = memo.get(k)
                if e is None:
                    e = self._ready(*k)
                    if e is None:
                        break
                    memo[k] = e
                values.append(e)
            else:
                result = frame[2](values)
                if type(result) is tuple:                  # the rule needs more
                    frame[1], frame[2] = result
                    continue
                memo[frame[0]] = result
                stack.pop()
                continue
            stack += [[k, None, None] for k in frame[1][:len(values) - len(frame[1]) - 1:-1] if k not in memo]
        return memo[root]

    def _ready(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> E | None:
        """The value of a node that is a constant or in memory."""
        if n in self.frame.axes.uniform:
            return self.uniform(n)
        buffer = self.memory.get(n)
        return None if buffer is None else self.scalars.load(buffer, ix, self.frame.layouts[n].extents, guard)

    def _rule(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        e = self._ready(n, ix, guard)
        if e is not None:
            return (), lambda _: e
        kind = n.prim.kind
        if kind == ELEMENTWISE:
            form = self._forms.get(n) or self._form(n)
            keys = [(x, ix if like else self.same(n, x, ix), guard) for x, like in form[0]]
            return keys, form[1]
        if kind == REDUCE:
            return self._reduce(n, ix, guard)
        if kind == CONTRACT:
            return self._product(n, ix, guard)
        return getattr(self, "_" + n.op)(n, ix, guard)  # type: ignore[no-any-return]

    def _form(self, n: Node) -> tuple[list[tuple[Node, bool]], Callable[[list[E]], E]]:
        """What all elements of an elementwise node share: its operands, whether each has the node's own axes, what is done."""
        layouts, uniform, op, dtype, s = self.frame.layouts, self.frame.axes.uniform, n.op, n.dtype, self.scalars
        params = () if op == "cast" else n.params
        like = [(x, x not in uniform and layouts[x].axes is layouts[n].axes) for x in operands(n)]
        form = self._forms[n] = like, lambda values: s.apply(op, values, params, dtype)
        return form

    def uniform(self, n: Node) -> E:
        """The value of a node that is a constant everywhere."""
        e = self._uniform.get(n)
        if e is None:
            stack = [n]
            while stack:
                m = stack[-1]
                todo = [i for i in operands(m)[:None if m.prim.kind == ELEMENTWISE else 1] if i not in self._uniform]
                if todo:
                    stack.extend(todo)
                    continue
                if m.op == "const":
                    self._uniform[m] = self.scalars.const(m.data, m.dtype)
                elif m.prim.kind == ELEMENTWISE:
                    args = [self._uniform[i] for i in operands(m)]
                    self._uniform[m] = self.scalars.apply(m.op, args, () if m.op == "cast" else m.params, m.dtype)
                else:
                    self._uniform[m] = self._uniform[operands(m)[0]]
                stack.pop()
            e = self._uniform[n]
        return e

    # ------------------------------------------------------------------ index maps
    def same(self, n: Node, x: Node, ix: tuple[Ix, ...]) -> tuple[Ix, ...]:
        """The index of x for the same place in row-major order as `ix` in n."""
        if x in self.frame.axes.uniform:
            return ()
        a, b = self.frame.layouts[n], self.frame.layouts[x]
        return ix if a.axes is b.axes else self.remap(a, b, ix)

    def remap(self, a: Layout, b: Layout, ix: tuple[Ix, ...]) -> tuple[Ix, ...]:
        """The same place under other axes: common outer and inner axes stay, what is between is counted through."""
        m, n = len(a.axes), len(b.axes)
        head = tail = 0
        while head < min(m, n) and a.axes[head] == b.axes[head] and a.extents[head] == b.extents[head]:
            head += 1
        while tail < min(m, n) - head and a.axes[m - 1 - tail] == b.axes[n - 1 - tail] \
                and a.extents[m - 1 - tail] == b.extents[n - 1 - tail]:
            tail += 1
        place = self.linear(ix[head:m - tail], a.extents[head:m - tail])
        return ix[:head] + self.spread(place, b.extents[head:n - tail]) + ix[m - tail:]

    def linear(self, ix: Sequence[Ix], extents: Sequence[int]) -> Ix:
        space, out = self.space, self.space.zero
        stride = 1
        for i, n in zip(reversed(ix), reversed(extents)):
            out = space.add(out, space.scale(i, stride))
            stride = stride * n
        return out

    def spread(self, place: Ix, extents: Sequence[int]) -> tuple[Ix, ...]:
        if not extents:
            return ()
        out = []
        if len(extents) > 1:
            place = self.space.clamp(place)
        for n in reversed(extents[1:]):
            place, low = self.space.divmod(place, n)
            out.append(low)
        return (place, *reversed(out))

    def mapped(self, n: Node, x: Node, dims: Sequence[int]) -> list[int]:
        """For each long axis of x the component of n's index it is, -1 if none; `dims`: dimension of x → of n, or -1."""
        found = self._maps.get((n, x, tuple(dims)))
        if found is None:
            a, b = self.frame.layouts[n], self.frame.layouts[x]
            found, d = [], 0
            for p in b.firsts:
                while b.starts[d + 1] <= p:
                    d += 1
                found.append(-1 if dims[d] < 0 else a.at[a.starts[dims[d]] + p - b.starts[d]])
            self._maps[n, x, tuple(dims)] = found
        return found

    def along(self, n: Node, ix: Sequence[Ix], d: int) -> Ix:
        """The index along one dimension of n."""
        ks = self.components(n, d)
        extents = self.frame.layouts[n].extents
        return self.linear([ix[k] for k in ks], [extents[k] for k in ks])

    def components(self, n: Node, d: int) -> list[int]:
        a = self.frame.layouts[n]
        return [a.at[p] for p in range(a.starts[d], a.starts[d + 1]) if p in a.at]

    def extent(self, n: Node, d: int) -> int:
        """A dimension's extent, as a size that knows its axis."""
        size = 1
        for k in self.components(n, d):
            size = size * self.frame.layouts[n].extents[k]
        return size

    def moved(self, n: Node, x: Node, ix: Sequence[Ix], dims: Sequence[int], places: dict[int, Ix]) -> tuple[Ix, ...]:
        """The index of x: components of n's index, and along the dimensions in `places` what is given there."""
        if x in self.frame.axes.uniform:
            return ()
        out: list[Any] = [None if k < 0 else ix[k] for k in self.mapped(n, x, dims)]
        layout = self.frame.layouts[x]
        for d, place in places.items():
            ks = self.components(x, d)
            for k, i in zip(ks, self.spread(place, [layout.extents[k] for k in ks])):
                out[k] = i
        return tuple(out)

    def start(self, n: Node, d: int, value: int) -> int:
        """A number from a node's parameters: a slot of its own, unless the axis is a constant one."""
        x = operands(n)[0]
        ks = self.components(x, d) if x not in self.frame.axes.uniform else []
        if type(value) is Size or value == 0 or not ks or type(self.frame.layouts[x].extents[ks[0]]) is not Size:
            return value
        uid = self._starts.setdefault((n, d, value), len(self._starts))
        return Size(value, ("start", uid))

    # ------------------------------------------------------------------ points and ranges
    def points(self, layout: Layout, ks: Sequence[int], used: int) -> list[tuple[Ix, ...]]:
        """All index tuples over some long axes: constants where the axis is unrolled, else canonical ranges."""
        space = self.space
        out: list[tuple[Ix, ...]] = [()]
        for k in ks:
            axis, n = layout.axes[k], layout.extents[k]
            if axis in self.unrolled:
                consts = [space.const(c) for c in range(n)]
                out = [(*p, c) for p in out for c in consts]
            else:
                r = space.fresh(axis, n, used)
                used |= r.bit
                v = space.var(r)
                out = [(*p, v) for p in out]
        return out

    def guard_free(self, guard: Guard) -> int:
        free = 0
        for ix, _ in guard:
            free |= ix.free
        return free

    def over(self, n: Node, x: Node, ix: Sequence[Ix], dims: Sequence[int],
             guard: Guard) -> list[tuple[tuple[Ix, ...], tuple[Range, ...]]]:
        """Indices of x with n's components fixed: one for each point of what is reduced, with its ranges."""
        layout = self.frame.layouts[x]
        known: list[Any] = [None if k < 0 else ix[k] for k in self.mapped(n, x, dims)]
        todo = [k for k, i in enumerate(known) if i is None]
        used = self.guard_free(guard)
        for i in known:
            if i is not None:
                used |= i.free
        out = []
        for point in self.points(layout, todo, used):
            full = list(known)
            for k, i in zip(todo, point):
                full[k] = i
            out.append((tuple(full), tuple([t for i in point for t, _ in i.terms])))
        return out

    # ------------------------------------------------------------------ reductions
    def _reduce(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        s, op = self.scalars, n.op
        if op in ("argmax", "argmin"):
            return self._arg(n, x, ix, guard)
        if x.aval.size == 0:
            e = s.const(identity(op, n.dtype), n.dtype)
            return (), lambda _: e
        if x in self.frame.axes.uniform:
            count = 1
            for a in n.params[0]:
                count *= x.shape[a]
            v = self.uniform(x)
            if op == "sum":
                e = s.mul(v, s.const(count, n.dtype)) if n.dtype is not bool_ else v
            else:
                e = s.apply("powi", (v,), (count,), n.dtype) if op == "prod" and n.dtype is not bool_ else v
            return (), lambda _: e
        dims, k = [], 0
        for d in range(len(x.shape)):
            dims.append(-1 if d in n.params[0] else k)
            k += d not in n.params[0]
        points = self.over(n, x, ix, dims, guard)

        def build(values: list[E]) -> E:
            total = values[0]
            for v in values[1:]:
                total = combine(s, op, total, v)
            return reduce(s, op, points[0][1], total)

        return [(x, point, guard) for point, _ in points], build

    def _arg(self, n: Node, x: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        """The first place whose value is the extreme one; NaN is the most extreme."""
        s = self.scalars
        (axis,) = n.params
        if x in self.frame.axes.uniform:
            e = s.const(0, int64)
            return (), lambda _: e
        dims = [d - (d > axis) if d != axis else -1 for d in range(len(x.shape))]
        points = self.over(n, x, ix, dims, guard)
        extent = x.shape[axis]

        def build(values: list[E]) -> E:
            op = "max" if n.op == "argmax" else "min"
            best = values[0]
            for v in values[1:]:
                best = combine(s, op, best, v)
            best = reduce(s, op, points[0][1], best)
            first = None
            for (point, _), v in zip(points, values):
                hit = s.apply("eq", (v, best), (), bool_)
                if v.dtype.category == FLOAT:
                    hit = s.apply("bitwise_or", (hit, s.apply("isnan", (v,), (), bool_)), (), bool_)
                place = s.where(hit, s.index(self.along(x, point, axis)), s.const(extent, int64))
                first = place if first is None else combine(s, "min", first, place)
            assert first is not None
            return reduce(s, "min", points[0][1], first)

        return [(x, point, guard) for point, _ in points], build

    def _product(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        """A matrix product as a sum of products: for vectors and tiny matrices."""
        a, b = operands(n)
        s, nd = self.scalars, len(n.shape)
        if a.aval.size == 0 or b.aval.size == 0:
            e = s.const(0, n.dtype)
            return (), lambda _: e
        dims_a, dims_b = [*range(nd - 1), -1], [*range(nd - 2), -1, nd - 1]
        known = 0
        for i in ix:
            known |= i.free
        for x, d in ((a, nd - 1), (b, nd - 2)):
            if x not in self.frame.axes.uniform:
                layout = self.frame.layouts[x]
                ks = self.components(x, d)
                points = self.points(layout, ks, known | self.guard_free(guard))
                inner = [layout.extents[k] for k in ks]
                break
        else:
            e = s.mul(s.mul(self.uniform(a), self.uniform(b)), s.const(a.shape[-1], n.dtype))
            return (), lambda _: e
        keys: list[Key] = []
        for point in points:
            k = self.linear(point, inner)
            for x, dims, d in ((a, dims_a, nd - 1), (b, dims_b, nd - 2)):
                keys.append((x, self.moved(n, x, ix, dims, {d: k}), guard))
        ranges = tuple([t for i in points[0] for t, _ in i.terms])

        def build(values: list[E]) -> E:
            total = s.mul(values[0], values[1])
            for p in range(2, len(values), 2):
                total = s.add(total, s.mul(values[p], values[p + 1]))
            return reduce(s, "sum", ranges, total)

        return keys, build

    # ------------------------------------------------------------------ movement
    def _reshape(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        return [(x, self.same(n, x, ix), guard)], _only

    def _permute(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        dims = [n.params[0].index(d) for d in range(len(x.shape))]
        return [(x, self.moved(n, x, ix, dims, {}), guard)], _only

    def _expand(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        return [(x, self.moved(n, x, ix, range(len(x.shape)), {}), guard)], _only

    def _slice(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        starts, _, steps = n.params
        dims, places = list(range(len(x.shape))), {}
        for d in dims:
            if touched(n, d):
                places[d] = self.space.shift(self.space.scale(self.along(n, ix, d), steps[d]), self.start(n, d, starts[d]))
        return [(x, self.moved(n, x, ix, [-1 if d in places else d for d in dims], places), guard)], _only

    def _flip(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        dims, places = list(range(len(x.shape))), {}
        for d in dims:
            if touched(n, d) and x.shape[d] > 1:
                last = self.space.const(self.extent(n, d) - 1)
                places[d] = self.space.add(last, self.along(n, ix, d), -1)
        return [(x, self.moved(n, x, ix, [-1 if d in places else d for d in dims], places), guard)], _only

    def _box(self, n: Node, x: Node, ix: tuple[Ix, ...], starts: Sequence[int], steps: Sequence[int],
             guard: Guard) -> tuple[tuple[Ix, ...], Guard, Guard] | None:
        """Where x lies in n from `starts` by `steps`: its index, the guard for its loads and the test for being inside;
        None if `ix` is never inside."""
        space, places = self.space, {}
        test: list[tuple[Ix, int]] = []
        for d in range(len(n.shape)):
            if x.shape[d] == n.shape[d]:
                continue
            i = self._within(space.shift(self.along(n, ix, d), -self.start(n, d, starts[d])), x, d, steps[d], test)
            if i is None:
                return None
            places[d] = i
        inner = self.moved(n, x, ix, [-1 if d in places else d for d in range(len(n.shape))], places)
        more = [t for t in test if t not in guard]
        return inner, (*guard, *more), tuple(test)

    def _within(self, i: Ix, x: Node, d: int, step: int, test: list[tuple[Ix, int]]) -> Ix | None:
        """The place along dimension d of x that lies at i, if places lie `step` apart from 0 on; adds to `test` what is to be
        asked of i.  None if nothing ever lies there."""
        space, last = self.space, (x.shape[d] - 1) * step
        if i.hi < 0 or i.lo > last or x.shape[d] == 0:
            return None
        if i.lo < 0 or i.data:
            test.append((i, 0))
        if i.hi > last or i.data:
            size = self.extent(x, d) if x not in self.frame.axes.uniform else x.shape[d]
            test.append((space.add(space.const((size - 1) * step), i, -1), 0))
        if step == 1:
            return i
        if i.terms:
            test.append((i, step))
            return space.divmod(space.clamp(i), step)[0]
        return None if int(i.const) % step else space.const(int(i.const) // step)

    def _pad(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        s = self.scalars
        zero = s.const(0, n.dtype)
        box = self._box(n, x, ix, n.params[0], n.params[2], guard) if x.aval.size else None
        if box is None:
            return (), lambda _: zero
        inner, inside, test = box
        if not test:
            return [(x, inner, inside)], _only
        return [(x, inner, inside)], lambda values: s.where(s.inside(test), values[0], zero)

    def _update(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        a, v = operands(n)
        s = self.scalars
        base = (a, self.same(n, a, ix), guard)
        box = self._box(n, v, ix, n.params[0], n.params[1], guard) if v.aval.size else None
        if box is None:
            return [base], _only
        inner, inside, test = box
        if not test:
            return [(v, inner, inside)], _only
        return [base, (v, inner, inside)], lambda values: s.where(s.inside(test), values[1], values[0])

    def _shear(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        axis, of, step, dilation, _ = n.params
        space = self.space
        place = space.add(space.scale(self.along(n, ix, axis), step), space.scale(self.along(n, ix, of), dilation))
        dims = [-1 if d == axis else d for d in range(len(n.shape))]
        return [(x, self.moved(n, x, ix, dims, {axis: place}), guard)], _only

    def _unshear(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        (x,) = operands(n)
        axis, of, step, dilation, _ = n.params
        space, s = self.space, self.scalars
        zero = s.const(0, n.dtype)
        test: list[tuple[Ix, int]] = []
        i = space.add(self.along(n, ix, axis), space.scale(self.along(n, ix, of), dilation), -1)
        place = self._within(i, x, axis, step, test) if x.aval.size else None
        if place is None:
            return (), lambda _: zero
        inner = self.moved(n, x, ix, [-1 if d == axis else d for d in range(len(n.shape))], {axis: place})
        inside = (*guard, *[t for t in test if t not in guard])
        if not test:
            return [(x, inner, inside)], _only
        return [(x, inner, inside)], lambda values: s.where(s.inside(tuple(test)), values[0], zero)

    def _concat(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        s, (axis,) = self.scalars, n.params
        keys: list[Key] = []
        tests: list[Guard] = []
        at = 0
        for x in operands(n):
            starts = [at if d == axis else 0 for d in range(len(n.shape))]
            box = self._box(n, x, ix, starts, (1,) * len(n.shape), guard) if x.aval.size else None
            at += x.shape[axis]
            if box is not None:
                keys.append((x, box[0], box[1]))
                tests.append(box[2])

        def build(values: list[E]) -> E:
            out = values[-1]
            for v, test in zip(values[-2::-1], tests[-2::-1]):
                out = s.where(s.inside(test), v, out)
            return out

        return keys, build

    # ------------------------------------------------------------------ creation, gather, scatter
    def _iota(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        e = self.scalars.index(self.along(n, ix, n.params[1]))
        return (), lambda _: e

    def place(self, e: E, extent: int) -> Ix:
        """A scalar that says where to read or write."""
        if e.op == "index":
            return e.params[0]  # type: ignore[no-any-return]
        if e.op == "const":
            return self.space.const(int(e.params[0]))
        return self.space.data(e, extent)

    def _take(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        a, i = operands(n)
        (axis,) = n.params
        k = len(i.shape)
        nd = len(a.shape)
        at = self.moved(n, i, ix, range(axis, axis + k), {})

        def build(values: list[E]) -> Any:
            dims = [d if d < axis else -1 if d == axis else d + k - 1 for d in range(nd)]
            place = self.place(values[0], a.shape[axis])
            return [(a, self.moved(n, a, ix, dims, {axis: place}), guard)], _only

        return [(i, at, guard)], build

    def _gather(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        a, i = operands(n)
        (axis,) = n.params

        def build(values: list[E]) -> Any:
            dims, places = list(range(len(a.shape))), {axis: self.place(values[0], a.shape[axis])}
            for d in dims:
                if d != axis and a.shape[d] != n.shape[d]:
                    places[d] = self.along(n, ix, d)
            return [(a, self.moved(n, a, ix, [-1 if d in places else d for d in dims], places), guard)], _only

        return [(i, self.same(n, i, ix), guard)], build

    def _scatter_add(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        """Few indices a row: a select for each of them."""
        a, i, v = operands(n)
        (axis,) = n.params
        few = i.shape[axis]
        dims = list(range(len(a.shape)))
        keys: list[Key] = [(a, self.same(n, a, ix), guard)]
        for k in range(few):
            for x in (i, v):
                spot = self.moved(n, x, ix, [-1 if d == axis else d for d in dims], {axis: self.space.const(k)})
                keys.append((x, spot, guard))
        return keys, self._selects(self.along(n, ix, axis))

    def _index_add(self, n: Node, ix: tuple[Ix, ...], guard: Guard) -> Rule:
        a, i, v = operands(n)
        (axis,) = n.params
        k, nd = len(i.shape), len(a.shape)
        keys: list[Key] = [(a, self.same(n, a, ix), guard)]
        for c in range(i.aval.size):
            spot, rest = {}, c
            for d in reversed(range(k)):
                spot[d], rest = self.space.const(rest % i.shape[d]), rest // i.shape[d]
            keys.append((i, self.moved(n, i, ix, [-1] * k, spot), guard))
            dims = [d if d < axis else -1 if d < axis + k else d - k + 1 for d in range(nd + k - 1)]
            keys.append((v, self.moved(n, v, ix, dims, {axis + d: p for d, p in spot.items()}), guard))
        return keys, self._selects(self.along(n, ix, axis))

    def _selects(self, here: Ix) -> Callable[[list[E]], E]:
        s = self.scalars

        def build(values: list[E]) -> E:
            out = values[0]
            for i, v in zip(values[1::2], values[2::2]):
                hit = s.apply("eq", (s.index(here), i), (), bool_)
                out = s.where(hit, s.add(out, v), out)
            return out

        return build


def _only(values: list[E]) -> E:
    return values[0]
