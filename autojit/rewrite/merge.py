"""Products that share an operand, or a sum, become one: few long products instead of many short ones.

In: a simplified Graph.  Out: the same function, where
- sums of products A₁B₁ + A₂B₂ + … (the weights' gradients of a loop's steps) are one product of A₁, A₂, … beside each other
  with B₁, B₂, … below each other; outer products are products with an inner extent of 1;
- products of slices of one array with one matrix (a loop's inputs) are one product of the array, and slices of that.
Changes the order in which terms are added, nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..dtypes import FLOAT
from ..ir.graph import Graph, Node, linearise, node
from ..ir.primitive import CONTRACT, LEAF
from ..ops.declare import P

MANY = 4                           # products from which one is better
AREA = 4096                        # elements of a sum of products from which it is

Pair = tuple[Node, Node]           # (A, B): A with its inner extent first (k, m), B (k, n)


def _inputs(n: Node) -> list[Node]:
    return [i.real or i for i in n.inputs]


def _swap(n: Node) -> Node:
    return _inputs(n)[0] if n.op == "permute" else P.permute(n, (1, 0))


def _product(n: Node) -> bool:
    return n.prim.kind == CONTRACT and len(n.shape) == 2 and n.dtype.category == FLOAT and not n.inputs[0].dtype.half


def _outer(n: Node) -> tuple[Node, Node] | None:
    """The column and the row that `n` is the product of."""
    if n.op != "mul" or len(n.shape) != 2 or 1 in n.shape or n.dtype.category != FLOAT:
        return None
    for a, b in (_inputs(n), _inputs(n)[::-1]):
        if a.op == b.op == "expand" and a.inputs[0].shape == (n.shape[0], 1) and b.inputs[0].shape == (1, n.shape[1]):
            return _inputs(a)[0], _inputs(b)[0]
    return None


# ------------------------------------------------------------------------------------------------ slices of one array
class Slice:
    """Rows `start` to `stop` of the first dimension of `base`, in another shape maybe."""

    __slots__ = ("base", "start", "stop")

    def __init__(self, base: Node, start: int, stop: int) -> None:
        self.base, self.start, self.stop = base, start, stop


def _slice(n: Node) -> Slice | None:
    while n.op == "reshape":
        (n,) = _inputs(n)
    if n.op != "slice":
        return None
    (base,), (starts, limits, steps) = _inputs(n), n.params
    if set(steps) != {1} or starts[1:] != (0,) * (len(starts) - 1) or limits[1:] != base.shape[1:]:
        return None
    return Slice(base, starts[0], limits[0])


def _row(s: Slice) -> int:
    """Elements of one of the rows."""
    return s.base.aval.size // max(1, s.base.shape[0])


def _in_order(slices: Sequence[Slice | None], liked: Sequence[int] | None = None) -> list[int]:
    """Those that are neighbours in one array and together leave no gap, in their order; none if that is less than half.  Of
    two at one place the one that is `liked` more."""
    by_start: dict[tuple[Node, int], int] = {}
    for k, s in enumerate(slices):
        if s is not None:
            other = by_start.setdefault((s.base, s.start), k)
            if liked is not None and liked[k] > liked[other]:
                by_start[s.base, s.start] = k
    best: list[int] = []
    ends = {(s.base, s.stop) for k in by_start.values() if (s := slices[k]) is not None}
    for (base, start), k in by_start.items():
        if (base, start) in ends:
            continue                                        # not the first of its row
        run = [k]
        while (s := slices[run[-1]]) is not None and (s.base, s.stop) in by_start and s.stop > s.start:
            run.append(by_start[s.base, s.stop])
        best = max(best, run, key=len)
    return best if 2 * len(best) > len(slices) else []


def _joined(parts: Sequence[Node], env: dict[Node, Node]) -> Node:
    """The parts (k, n) below each other; rows of an array that follow each other are that array's."""
    slices = [_slice(p) for p in parts]
    rows, columns = sum([p.shape[0] for p in parts]), parts[0].shape[1]
    if slices[0] is not None and _in_order(slices) == list(range(len(parts))):
        first, last = slices[0], slices[-1]
        assert first is not None and last is not None
        base, rank = env[first.base], len(first.base.shape)
        starts, limits = (first.start,) + (0,) * (rank - 1), (last.stop, *first.base.shape[1:])
        if (first.start, last.stop) != (0, base.shape[0]):
            base = P.slice(base, starts, limits, (1,) * rank)
        return P.reshape(base, (rows, columns))  # type: ignore[no-any-return]
    return P.concat(tuple([env[p] for p in parts]), 0)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ sums of products
def _terms(n: Node, uses: dict[Node, int]) -> list[Node]:
    """What is added up in `n`."""
    out, stack = [], [n]
    while stack:
        m = stack.pop()
        if m.op == "add" and (m is n or uses[m] == 1):
            stack += _inputs(m)
        else:
            out.append(m)
    return out


def _sums(order: Sequence[Node], uses: dict[Node, int]) -> dict[Node, tuple[list[Node], list[Node]]]:
    """sum → (the products in it, the rest)."""
    inside = {i for n in order if n.op == "add" for i in _inputs(n) if i.op == "add" and uses[i] == 1}
    out = {}
    for n in order:
        if n.op != "add" or n in inside or len(n.shape) != 2 or n.aval.size < AREA or n.dtype.category != FLOAT:
            continue
        terms = _terms(n, uses)
        products = [t for t in terms if uses[t] == 1 and (_product(t) or _outer(t) is not None)]
        if len(products) >= MANY and len(set(products)) == len(products):
            kept = set(products)
            out[n] = products, [t for t in terms if t not in kept]
    return out


def _pair(n: Node, env: dict[Node, Node]) -> Pair:
    """A product's operands, both with the inner extent first."""
    split = _outer(n)
    if split is None:
        a, b = _inputs(n)
        left = _swap(a)
        env.setdefault(left, _inputs(env[a])[0] if env[a].op == "permute" else P.permute(env[a], (1, 0)))
        return left, b
    out = []
    for x in split:
        row = P.reshape(x, (1, x.aval.size))
        env.setdefault(row, P.reshape(env[x], (1, x.aval.size)))
        out.append(row)
    return out[0], out[1]


class _Sums:
    """Sums of products; those over the same operands put them in the same order, so that they stand there once."""

    def __init__(self, found: dict[Node, tuple[list[Node], list[Node]]]) -> None:
        self.found = found
        self.orders: dict[Node, list[int]] = {}
        known: dict[frozenset[Node], list[Node]] = {}
        sides = {n: [self._side(p, side) for side in (0, 1) for p in products] for n, (products, _) in found.items()}
        times = Counter([x for both in sides.values() for x in both])
        for n, (products, _) in found.items():
            for side in (0, 1):
                parts = sides[n][side * len(products):][:len(products)]
                others = sides[n][(1 - side) * len(products):][:len(products)]
                run = _in_order([_slice(p) for p in parts], [times[x] for x in others])
                if run:
                    self.orders[n] = run
                    known[frozenset([others[k] for k in run])] = [others[k] for k in run]
        for n, (products, _) in found.items():
            for side in (0, 1):
                parts = sides[n][side * len(products):][:len(products)]
                same = known.get(frozenset(parts))
                if n not in self.orders and same is not None and len(same) == len(parts):
                    at = {p: k for k, p in enumerate(parts)}
                    self.orders[n] = [at[p] for p in same]

    def _side(self, n: Node, side: int) -> Node:
        """An operand, without the turn that the first has."""
        split = _outer(n)
        x = _inputs(n)[side] if split is None else split[side]
        return _inputs(x)[0] if split is None and side == 0 and x.op == "permute" else x

    def made(self, n: Node, env: dict[Node, Node]) -> Node:
        products, rest = self.found[n]
        order = self.orders.get(n, range(len(products)))
        pairs = [_pair(products[k], env) for k in order]
        left, right = _joined([a for a, _ in pairs], env), _joined([b for _, b in pairs], env)
        total = P.matmul(P.permute(left, (1, 0)), right)
        kept = set(order)
        for other in [*[p for k, p in enumerate(products) if k not in kept], *rest]:
            total = P.add(total, env[other])
        return total  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ a shared matrix
def _shared(order: Sequence[Node]) -> dict[Node, tuple[list[Node], int]]:
    """product → (all products of neighbouring slices with the same matrix, its first row among theirs)."""
    groups: dict[tuple[Node, Node], list[tuple[Slice, Node]]] = {}
    for n in order:
        if _product(n) and 1 not in n.shape:
            a, b = _inputs(n)
            s = _slice(a)
            if s is not None and (s.stop - s.start) * _row(s) == a.aval.size:
                groups.setdefault((s.base, b), []).append((s, n))
    out = {}
    for found in groups.values():
        places = _in_order([s for s, _ in found]) if len(found) >= MANY else []
        if places:
            products, row = [found[k][1] for k in places], 0
            for n in products:
                out[n] = products, row
                row += n.shape[0]
    return out


def _cut(n: Node, products: list[Node], start: int, env: dict[Node, Node], made: dict[Node, Node]) -> Node:
    whole = made.get(products[0])
    if whole is None:
        left = _joined([_inputs(p)[0] for p in products], env)
        whole = made[products[0]] = P.matmul(left, env[_inputs(products[0])[1]])
    rows, columns = n.shape
    return P.slice(whole, (start, 0), (start + rows, columns), (1, 1))  # type: ignore[no-any-return]


def merge(graph: Graph) -> Graph:
    """`graph` with fewer and longer products."""
    order = list(graph.order)
    if sum([n.prim.kind == CONTRACT or n.op == "mul" and _outer(n) is not None for n in order]) < MANY:
        return graph
    uses = dict.fromkeys(order, 0)
    for n in order:
        for i in _inputs(n):
            uses[i] += 1
    for o in graph.outputs:
        uses[o.real or o] += 1
    sums, shared = _Sums(_sums(order, uses)), _shared(order)
    if not sums.found and not shared:
        return graph
    env: dict[Node, Node] = {i: i for i in graph.inputs}
    made: dict[Node, Node] = {}
    for n in linearise(graph.outputs, stop=env):
        if n in env:
            continue
        if n in sums.found:
            env[n] = sums.made(n, env)
        elif n in shared:
            env[n] = _cut(n, *shared[n], env, made)
        else:
            env[n] = n if n.prim.kind == LEAF else node(n.prim, tuple([env[i] for i in _inputs(n)]), n.params)
    return Graph(graph.inputs, [env[o.real or o] for o in graph.outputs])
