"""Which dimensions of a graph are one axis.

In: nodes in evaluation order.  Out: for every node the atomic axes of each dimension (`Axes`), and for a group of nodes
the long axes their loops run over (`Frame`).  Elementwise ops unify axes, reshape splits them, expand makes new ones;
axes that always stand side by side are glued.  Axes are names of loops only: nothing here can make a result wrong.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from ..dtypes import FLOAT
from ..ir.graph import Node
from ..ir.primitive import CONTRACT, ELEMENTWISE, LEAF, REDUCE
from .index import Size

PIECES = 8                         # operands from which a concat is stored piece by piece
SMALL = 16                         # extents up to this are constants of the text, unless they are a batch
Dims = tuple[tuple["Axis", ...], ...]


class Axis:
    """An atomic axis; `to`: the axis it was found equal to; `parts`: the two it was split into.  `lead`: some input has it
    as the first of several dimensions; `fixed`: some input has it elsewhere (labels and masks of one dimension go along with
    either)."""

    __slots__ = ("extent", "to", "parts", "lead", "fixed", "uid", "size")

    def __init__(self, extent: int, uid: int) -> None:
        self.extent, self.uid = extent, uid
        self.to: Axis | None = None
        self.parts: tuple[Axis, Axis] | None = None
        self.lead = self.fixed = False
        self.size: int = extent


def operands(n: Node) -> tuple[Node, ...]:
    for i in n.inputs:
        if i.real is not None:
            return tuple([i.real or i for i in n.inputs])
    return n.inputs


class Axes:
    """Dimensions of all nodes of a graph as atomic axes.  `uniform` nodes have the same value everywhere and no axes."""

    def __init__(self, order: Sequence[Node], inputs: Iterable[Node], uniform: set[Node]) -> None:
        self.dims: dict[Node, Dims] = {}
        self.uniform = uniform
        self._axes: list[Axis] = []
        self._flat: dict[int, tuple[tuple[Axis, ...], tuple[int, ...]]] = {}
        leaves = set(inputs)
        for n in order:
            if n not in uniform:
                self.dims[n] = self._leaf(n) if n in leaves or n.prim.kind == LEAF else self._infer(n)
        for a in self._axes:
            if a.to is None and a.parts is None and (a.extent > SMALL or a.lead and not a.fixed and a.extent > 1):
                a.size = Size(a.extent, ("axis", a.uid))

    # ------------------------------------------------------------------ axes
    def fresh(self, extent: int) -> tuple[Axis, ...]:
        if extent == 1:
            return ()
        a = Axis(extent, len(self._axes))
        self._axes.append(a)
        return (a,)

    def _leaf(self, n: Node) -> Dims:
        dims = tuple([self.fresh(s) for s in n.shape])
        for k, d in enumerate(dims):
            for a in d:
                a.lead = k == 0 and len(dims) > 1
                a.fixed = k > 0 or len(dims) == 1 and n.dtype.category == FLOAT
        return dims

    def split(self, a: Axis, first: Axis | None, m: int) -> None:
        """a becomes two axes, the outer of extent m."""
        outer = first or self.fresh(m)[0]
        (inner,) = self.fresh(a.extent // m)
        outer.lead, outer.fixed = outer.lead or a.lead, outer.fixed or a.fixed
        inner.fixed = a.fixed
        a.parts = (outer, inner)

    def unify(self, xs: Sequence[Axis], ys: Sequence[Axis]) -> bool:
        """Make two row-major lists of one total extent the same list, splitting axes; False where factors disagree."""
        left, right = leaves(xs)[::-1], leaves(ys)[::-1]
        while left and right:
            a, b = left.pop(), right.pop()
            if a.to is not None or a.parts is not None:
                left.extend(leaves((a,))[::-1])
                right.append(b)
                continue
            if b.to is not None or b.parts is not None:
                right.extend(leaves((b,))[::-1])
                left.append(a)
                continue
            if a is b:
                continue
            if a.extent == b.extent:
                b.to = a
                a.lead, a.fixed = a.lead or b.lead, a.fixed or b.fixed
            elif a.extent and b.extent % a.extent == 0:
                self.split(b, a, a.extent)
                left.append(a)
                right.extend(leaves((b,))[::-1])
            elif b.extent and a.extent % b.extent == 0:
                self.split(a, b, b.extent)
                right.append(b)
                left.extend(leaves((a,))[::-1])
            else:
                return False
        return True

    # ------------------------------------------------------------------ inference
    def _infer(self, n: Node) -> Dims:
        ins, op, shape = operands(n), n.op, n.shape
        kind = n.prim.kind
        if kind == ELEMENTWISE and any([i not in self.uniform for i in ins]):
            return self._same([i for i in ins if i not in self.uniform])
        if kind == REDUCE and ins[0] not in self.uniform:
            axes = n.params[0] if isinstance(n.params[0], tuple) else (n.params[0],)
            return tuple([d for i, d in enumerate(self.dims[ins[0]]) if i not in axes])
        if kind == CONTRACT:
            return self._product(n, ins)
        x = self.dims.get(ins[0]) if ins else None
        if op == "permute" and x is not None:
            return tuple([x[p] for p in n.params[0]])
        if op == "expand" and x is not None:
            return tuple([d if a == b else self.fresh(b) for d, a, b in zip(x, ins[0].shape, shape)])
        if op == "reshape" and x is not None:
            return self._reshape(x, ins[0].shape, shape)
        if op in ("slice", "pad", "flip", "update") and x is not None:
            own = op in ("slice", "pad")
            out = tuple([self.fresh(s) if own and touched(n, i) else x[i] for i, s in enumerate(shape)])
            if op == "update" and ins[1] not in self.uniform:
                self._meet(out, self.dims[ins[1]], shape, ins[1].shape)
            return out
        if op == "update" and ins[1] not in self.uniform:   # into one number everywhere
            return tuple([a if m == s else self.fresh(s) for a, m, s in zip(self.dims[ins[1]], ins[1].shape, shape)])
        if op in ("shear", "unshear") and x is not None:
            return x[:n.params[0]] + (self.fresh(shape[n.params[0]]),) + x[n.params[0] + 1:]
        if op == "concat":
            return self._concat(n, ins)
        if op == "take" and x is not None and ins[1] not in self.uniform:
            k = n.params[0]
            return x[:k] + self.dims[ins[1]] + x[k + 1:]
        if op == "gather" and x is not None and ins[1] not in self.uniform:
            self._meet(self.dims[ins[1]], x, shape, ins[0].shape, n.params[0])
            return self.dims[ins[1]]
        if op in ("index_add", "scatter_add"):
            return self._scatter(n, ins, x or tuple([self.fresh(s) for s in shape]))
        return tuple([self.fresh(s) for s in shape])

    def _same(self, nodes: Sequence[Node]) -> Dims:
        first = self.dims[nodes[0]]
        for m in nodes[1:]:
            other = self.dims[m]
            if other is not first:
                for a, b in zip(first, other):
                    if a is not b:
                        self.unify(a, b)
        return first

    def _meet(self, xs: Dims, ys: Dims, shape: Sequence[int], other: Sequence[int], but: int = -1) -> None:
        """Unify the dimensions that have one extent."""
        for k, (a, b) in enumerate(zip(xs, ys)):
            if k != but and shape[k] == other[k]:
                self.unify(a, b)

    def _reshape(self, x: Dims, old: Sequence[int], new: Sequence[int]) -> Dims:
        """New dimensions; where a block of them holds as much as a block of the old ones, the two are unified."""
        out: list[tuple[Axis, ...]] = []
        i = j = 0
        while i < len(old) or j < len(new):
            start, first = i, j
            m = n = 1
            while True:                                     # the shortest pair of blocks with equal products
                if m == n and (i > start or j > first):
                    break
                if m <= n and i < len(old) and (m < n or i == start):
                    m, i = m * old[i], i + 1
                elif j < len(new):
                    n, j = n * new[j], j + 1
                elif i < len(old):
                    m, i = m * old[i], i + 1
                else:
                    break
            block = [a for d in x[start:i] for a in d]
            if i - start == 1 and j - first == 1:
                out.append(x[start])
                continue
            dims = [self.fresh(s) for s in new[first:j]]
            if m == n and m > 1:
                self.unify(block, [a for d in dims for a in d])
            out += dims
        return tuple(out)

    def _concat(self, n: Node, ins: Sequence[Node]) -> Dims:
        (axis,) = n.params
        known = [self.dims[i] for i in ins if i not in self.uniform]
        if not known:
            return tuple([self.fresh(s) for s in n.shape])
        for other in known[1:]:
            for k, (a, b) in enumerate(zip(known[0], other)):
                if k != axis:
                    self.unify(a, b)
        return known[0][:axis] + (self.fresh(n.shape[axis]),) + known[0][axis + 1:]

    def _scatter(self, n: Node, ins: Sequence[Node], x: Dims) -> Dims:
        a, i, v = ins
        axis = n.params[0]
        if v not in self.uniform:
            places = self.dims.get(i) or tuple([() for _ in i.shape])
            if n.op == "index_add":
                other = x[:axis] + places + x[axis + 1:]
                self._meet(self.dims[v], other, v.shape, a.shape[:axis] + i.shape + a.shape[axis + 1:])
            else:
                self._meet(self.dims[v], places, v.shape, i.shape)
                self._meet(self.dims[v], x, v.shape, a.shape, axis)
        return x

    def _product(self, n: Node, ins: Sequence[Node]) -> Dims:
        a, b = (self.dims.get(i) or tuple([self.fresh(s) for s in i.shape]) for i in ins)
        for x, y in zip(a[:-2], b[:-2]):
            self.unify(x, y)
        self.unify(a[-1], b[-2])
        return a[:-1] + b[-1:]

    def constant(self) -> None:
        """Take every extent for a constant of the text."""
        for a in self._axes:
            a.size = a.extent

    # ------------------------------------------------------------------ results
    def flat(self, n: Node) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
        """The atomic axes of a node in row-major order, and where each dimension starts in them."""
        dims = self.dims[n]
        found = self._flat.get(id(dims))
        if found is None:
            out: list[Axis] = []
            starts = [0]
            for d in dims:
                out += leaves(d)
                starts.append(len(out))
            found = self._flat[id(dims)] = (tuple(out), tuple(starts))
        return found


def leaves(axes: Sequence[Axis]) -> list[Axis]:
    out: list[Axis] = []
    stack = list(axes)[::-1]
    while stack:
        a = stack.pop()
        while a.to is not None:
            a = a.to
        if a.parts is not None:
            stack += (a.parts[1], a.parts[0])
        else:
            out.append(a)
    return out


def touched(n: Node, d: int) -> bool:
    """Does this movement change the places along dimension d?"""
    x = n.inputs[0]
    x = x.real or x
    if n.op == "slice":
        return not (n.params[0][d] == 0 and n.params[2][d] == 1 and n.shape[d] == x.shape[d])
    if n.op == "pad":
        return n.shape[d] != x.shape[d]
    if n.op == "flip":
        return d in n.params[0]
    if n.op == "update":
        v = n.inputs[1]
        return (v.real or v).shape[d] != n.shape[d]
    if n.op == "concat":
        return d == n.params[0]
    return False


_MOVED = ("reshape", "expand", "permute", "slice", "flip", "shear", "take", "gather")


def find_uniform(order: Sequence[Node], inputs: Iterable[Node]) -> set[Node]:
    """Nodes that have one constant value everywhere: numbers, and what only moves them."""
    leaves, out = set(inputs), set()
    for n in order:
        if n in leaves:
            continue
        if n.op == "const" or n.op in _MOVED and (n.inputs[0].real or n.inputs[0]) in out:
            out.add(n)
        elif n.prim.kind == ELEMENTWISE and n.inputs and all([(i.real or i) in out for i in n.inputs]):
            out.add(n)
    for n in order:                                         # what is stored piece by piece needs axes
        if n.op in ("index_add", "scatter_add"):
            v = operands(n)[2]
            if v.op != "const":
                out.discard(v)
        elif n.op == "concat" and len(n.inputs) > PIECES:
            out.difference_update(operands(n))
    return out


# ------------------------------------------------------------------------------------------------ long axes
class Layout:
    """A node's index: one component for each long axis.  `extents` and `axes` of these, and their place among the atomic
    axes (`at`: place → component; `starts`: the dimension's first place)."""

    __slots__ = ("axes", "extents", "at", "starts", "firsts")

    def __init__(self, axes: tuple[int, ...], extents: tuple[int, ...], firsts: tuple[int, ...],
                 starts: tuple[int, ...]) -> None:
        self.axes, self.extents, self.firsts, self.starts = axes, extents, firsts, starts
        self.at = {p: k for k, p in enumerate(firsts)}


def pinned(axes: Axes, moving: Sequence[Node]) -> set[Axis]:
    """Axes along which one of these nodes counts places: they glue to no other."""
    out: set[Axis] = set()
    dims = axes.dims
    for n in moving:
        if n in axes.uniform:
            continue
        ins = operands(n)
        if n.op in ("slice", "pad", "flip", "update", "concat"):
            for d in range(len(n.shape)):
                if touched(n, d):
                    for m in (n, *ins):
                        if m in dims:
                            out.update(leaves(dims[m][d]))
        elif n.op in ("shear", "unshear"):
            out.update([a for m in (n, *ins) if m in dims for d in n.params[:2] for a in leaves(dims[m][d])])
        elif n.op == "take" and ins[0] in dims:
            out.update(leaves(dims[ins[0]][n.params[0]]))
        elif n.op == "index_add":
            out.update(leaves(dims[n][n.params[0]]))
            for d in range(len(ins[1].shape)):
                for m, at in ((ins[1], d), (ins[2], n.params[0] + d)):
                    if m in dims:
                        out.update(leaves(dims[m][at]))
        elif n.op in ("gather", "scatter_add"):
            for d in range(len(ins[0].shape)):
                if d == n.params[0] or ins[0].shape[d] != ins[1].shape[d]:
                    for m in (n, *ins):
                        if m in dims:
                            out.update(leaves(dims[m][d]))
        elif n.prim.kind == CONTRACT:
            for m in ins:
                if m in dims:
                    out.update([a for d in dims[m][-2:] for a in leaves(d)])
        elif n.op == "iota":
            out.update(leaves(dims[n][n.params[1]]))
    return out


class Frame:
    """The long axes of a group of nodes that are scheduled together."""

    def __init__(self, axes: Axes, nodes: Sequence[Node], moving: Sequence[Node], held: Container[Axis] = ()) -> None:
        """`nodes`: all that take part, realised ones too; `moving`: those of them that are computed here; `held`: axes that
        stay what they are."""
        self.axes = axes
        self.layouts: dict[Node, Layout] = {}
        self._by_dims: dict[int, Layout] = {}
        self._tuples: dict[Any, tuple[Any, ...]] = {}
        flats = {}
        for n in nodes:
            if n not in axes.uniform:
                flats[id(axes.dims[n])] = axes.flat(n)
        glued = self._glue(list(flats.values()), pinned(axes, moving), held) - self._parted(moving)
        for n in nodes:
            if n not in axes.uniform:
                self.layouts[n] = self._layout(n, glued)

    def _parted(self, moving: Sequence[Node]) -> set[Axis]:
        """Axes at the end of a dimension that a permutation takes away from the one after it."""
        out: set[Axis] = set()
        for n in moving:
            if n.op == "permute" and n not in self.axes.uniform:
                perm, dims = n.params[0], self.axes.dims[n]
                there = {p: k for k, p in enumerate(sorted([p for p, d in zip(perm, dims) if d]))}
                here = [(there[p], d) for p, d in zip(perm, dims) if d]
                out.update([leaves(d)[-1] for (p, d), (q, _) in zip(here, here[1:]) if q != p + 1])
        return out

    def _glue(self, flats: list[tuple[tuple[Axis, ...], tuple[int, ...]]], pinned: set[Axis],
              held: Container[Axis]) -> set[Axis]:
        """Axes that have one and the same right neighbour everywhere, which has them as its only left one."""
        after: dict[Axis, Axis | None] = {}
        before: dict[Axis, Axis | None] = {}
        for flat, _ in flats:
            last = None
            for a in flat:
                if last is not None and after.setdefault(last, a) is not a:
                    after[last] = None
                if before.setdefault(a, last) is not last:
                    before[a] = None
                last = a
            if last is not None:
                after[last] = None
        return {a for a, b in after.items() if b is not None and before[b] is a and a not in pinned and b not in pinned
                and a not in held and b not in held and b is not a}

    def _layout(self, n: Node, glued: set[Axis]) -> Layout:
        dims = self.axes.dims[n]
        found = self._by_dims.get(id(dims))
        if found is not None:
            return found
        flat, starts = self.axes.flat(n)
        firsts: list[int] = []
        extents: list[int] = []
        axes: list[int] = []
        for p, a in enumerate(flat):
            if p and flat[p - 1] in glued:
                extents[-1] = extents[-1] * a.size
            else:
                firsts.append(p)
                axes.append(a.uid)
                extents.append(a.size)
        extents = [Size(e, ("axes", a)) if type(e) is int and e > SMALL else e for e, a in zip(extents, axes)]
        key = tuple(axes)
        shared = self._tuples.setdefault(key, key)
        layout = self._by_dims[id(dims)] = Layout(shared, tuple(extents), tuple(firsts), starts)
        return layout
