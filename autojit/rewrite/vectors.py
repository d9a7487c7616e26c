"""Matrix times vector: which of them become a product with a matrix that is read once, and which stay sums that fuse.

In: a simplified Graph.  Out: the same function; a sum of a matrix in memory times a spread vector as a `matmul` with one
column, and a `matmul` with one row or column that should fuse as such a sum.  A sum that fuses is best where the same pass
over the matrix uses its result at once (X @ w, then X.T times something of it: X is read once for both), where the matrix is
itself computed, and where it is small.  Elsewhere it would be computed again, matrix and all, by every kernel that wants it.
Changes the order in which terms are added, nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from ..dtypes import FLOAT
from ..ir.graph import Graph, Node, linearise, node
from ..ir.primitive import CONTRACT, ELEMENTWISE, LEAF, MOVEMENT
from ..ops.declare import P, spread

LARGE = 1 << 15                    # elements of a matrix from which it is read once
LONG = 256                         # elements of a result that is a sum of rows, from which the rows are worth cutting
SEVERAL = 16                       # rows from which dot products with them are
TERMS = 64                         # terms of each sum from which it is worth a visit
NEAR = 256                         # nodes between two products that are looked at


class Product(NamedTuple):
    """`node` is matrix @ vector: the sum over dimension `axis` of a 2-d matrix, whose memory is `base`'s; `along`: that
    dimension as it lies in memory."""

    node: Node
    matrix: Node
    vector: Node
    axis: int
    base: Node
    along: int


def _inputs(n: Node) -> list[Node]:
    return [i.real or i for i in n.inputs]


def _vector(n: Node, axis: int) -> Node | None:
    """What `n`, of two dimensions, spreads over the other dimension than `axis`; None if it is no spread vector."""
    if n.op != "expand":
        return None
    (x,) = _inputs(n)
    return x if x.shape[1 - axis] == 1 and x.shape[axis] == n.shape[axis] else None


def _base(n: Node) -> tuple[Node, bool]:
    """The memory that a matrix is a view of, and whether its dimensions lie there the other way round."""
    turned = False
    while n.op == "permute" and n.params[0] == (1, 0) or n.op == "slice" or n.op == "reshape":
        turned ^= n.op == "permute"
        (n,) = _inputs(n)
    return n, turned


def _found(n: Node, leaves: set[Node]) -> Product | None:
    """A product that may be cut out."""
    if n.dtype.category != FLOAT:
        return None
    if n.op == "sum":
        (x,) = _inputs(n)
        if x.op != "mul" or len(x.shape) != 2 or len(n.params[0]) != 1:
            return None
        (axis,), pair = n.params[0], _inputs(x)
    elif n.prim.kind == CONTRACT and len(n.shape) == 2 and 1 in n.shape and not n.inputs[0].dtype.half:
        return _of_matmul(n, leaves)
    else:
        return None
    for matrix, factor in (pair, pair[::-1]):
        vector = _vector(factor, axis)
        if vector is not None:
            base, turned = _base(matrix)
            if _in_memory(base, leaves):
                return Product(n, matrix, vector, axis, base, axis ^ turned)
    return None


def _of_matmul(n: Node, leaves: set[Node]) -> Product | None:
    a, b = _inputs(n)
    matrix, vector, axis = (a, b, 1) if n.shape[1] == 1 else (b, a, 0)
    base, turned = _base(matrix)
    return Product(n, matrix, vector, axis, base, axis ^ turned) if _in_memory(base, leaves) else None


def _in_memory(base: Node, leaves: set[Node]) -> bool:
    return base in leaves or base.prim.kind == CONTRACT and 1 not in base.shape[-2:]


def _worth(p: Product) -> bool:
    rows, terms = p.matrix.shape[1 - p.axis], p.matrix.shape[p.axis]
    if rows * terms < LARGE or terms < TERMS:
        return False
    return rows >= (SEVERAL if p.along == 1 else LONG)


def _levels(order: list[Node]) -> dict[Node, int]:
    """How many sums and the like stand one after the other below each node."""
    level: dict[Node, int] = {}
    for n in order:
        flows = n.prim.kind in (ELEMENTWISE, MOVEMENT, LEAF)
        level[n] = max([level[i] for i in _inputs(n)], default=0) + (not flows)
    return level


def _one_pass(p: Product, found: dict[Node, Product], level: dict[Node, int]) -> list[Product]:
    """Products with the same matrix, the other way round, whose results reach p's vector element by element: one pass
    over the matrix does for all."""
    first = level[p.vector]
    stack, seen, out = [p.vector], {p.vector}, []
    while stack and len(seen) < NEAR:
        n = stack.pop()
        q = found.get(n)
        if q is not None:
            if q.base is p.base and q.along != p.along:
                out.append(q)
        elif n.prim.kind in (ELEMENTWISE, MOVEMENT):
            for i in _inputs(n):
                if i not in seen and level[i] == first:
                    seen.add(i)
                    stack.append(i)
    return out


def vectors(graph: Graph) -> Graph:
    """`graph` with its products of a matrix and a vector in the form that suits each."""
    order = list(graph.order)
    leaves = set(graph.inputs)
    found = {n: p for n in order if (p := _found(n, leaves))} if _any(order) else {}
    if not found and not any([_thin(n) for n in order]):
        return graph
    level = _levels(order)
    fused: set[Node] = set()
    for p in found.values():
        near = _one_pass(p, found, level)
        if near:
            fused.update([p.node, *[q.node for q in near]])
    env: dict[Node, Node] = {i: i for i in graph.inputs}
    for n in linearise(graph.outputs, stop=env):
        if n in env:
            continue
        p = found.get(n)
        if p is not None and n not in fused and _worth(p):
            env[n] = _cut(p, env)
        elif _thin(n):
            env[n] = _sum(n, env)
        else:
            env[n] = n if n.prim.kind == LEAF else node(n.prim, tuple([env[i] for i in _inputs(n)]), n.params)
    return Graph(graph.inputs, [env[o.real or o] for o in graph.outputs])


def _any(order: list[Node]) -> bool:
    return any([n.prim.kind == CONTRACT or n.op == "sum" and n.inputs[0].aval.size >= LARGE for n in order])


def _thin(n: Node) -> bool:
    """A matmul with one row or column, but no outer product."""
    return n.prim.kind == CONTRACT and len(n.shape) == 2 and 1 in n.shape and n.inputs[0].shape[1] > 1 and n.aval.size > 1


def _cut(p: Product, env: dict[Node, Node]) -> Node:
    matrix, vector = env[p.matrix], env[p.vector]
    if p.axis == 0:
        matrix = P.permute(matrix, (1, 0))
    column = P.matmul(matrix, P.reshape(vector, (p.matrix.shape[p.axis], 1)))
    return P.reshape(column, p.node.shape)  # type: ignore[no-any-return]


def _sum(n: Node, env: dict[Node, Node]) -> Node:
    """A matmul with one row or column as a sum that fuses."""
    a, b = [env[i] for i in _inputs(n)]
    if n.shape[1] == 1:
        return P.reshape(P.sum(P.mul(a, spread(P.reshape(b, (1, b.shape[0])), a.shape)), (1,)), n.shape)  # type: ignore[no-any-return]
    return P.reshape(P.sum(P.mul(b, spread(P.reshape(a, (a.shape[1], 1)), b.shape)), (0,)), n.shape)  # type: ignore[no-any-return]
