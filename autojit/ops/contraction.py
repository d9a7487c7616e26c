"""einsum and its kin: sums of products over named axes, as permutations, reshapes and one matrix product a pair.

In: nodes and a static equation.  Out: a node.  Pairs are contracted from left to right.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .checks import same_dtype
from .declare import Nodes, P, broadcast_shapes, dim_of, op, spread
from .joins import rolled
from .matrices import product
from .shapes import as_shape, diagonal, ints, move

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Axes = tuple[Any, ...]                                    # names of a node's axes: letters, or numbers for what ... covers


# ---------------------------------------------------------------- a product of two, summed
def _size(extents: dict[Any, int], names: Axes) -> int:
    n = 1
    for a in names:
        n *= extents[a]
    return n


def contract(a: Node, an: Axes, b: Node, bn: Axes, keep: Axes) -> tuple[Node, Axes]:
    """The product of two nodes with named axes, summed over the names that are not kept; (node, its names)."""
    a, an = drop(a, an, [n for n in an if n not in bn and n not in keep])
    b, bn = drop(b, bn, [n for n in bn if n not in an and n not in keep])
    both = tuple([n for n in an if n in bn and n in keep])
    summed = tuple([n for n in an if n in bn and n not in keep])
    left, right = tuple([n for n in an if n not in bn]), tuple([n for n in bn if n not in an])
    out = both + left + right
    extents = dict(zip(bn, b.shape)) | {x: s if s != 1 or x not in bn else b.shape[bn.index(x)] for x, s in zip(an, a.shape)}
    if not summed or not left or not right or _thin(a, an, b, bn):
        every = both + left + right + summed
        shape = tuple([extents[n] for n in every])
        p = P.mul(spread_named(a, an, every, shape), spread_named(b, bn, every, shape))
        return (P.sum(p, tuple(range(len(out), len(every)))) if summed else p), out
    m, k, n = _size(extents, left), _size(extents, summed), _size(extents, right)
    batch = tuple([extents[x] for x in both])
    rows = as_shape(_ordered(a, an, both + left + summed), (*batch, m, k))
    cols = as_shape(_ordered(b, bn, both + summed + right), (*batch, k, n))
    return as_shape(product(rows, cols), tuple([extents[x] for x in out])), out


def _thin(a: Node, an: Axes, b: Node, bn: Axes) -> bool:
    """Axes of extent 1 that stand for a broadcast: only a product with broadcasting is right."""
    return any(a.shape[an.index(n)] != b.shape[bn.index(n)] for n in an if n in bn)


def _ordered(n: Node, names: Axes, order: Axes) -> Node:
    return move(n, tuple([names.index(x) for x in order]))


def spread_named(n: Node, names: Axes, every: Axes, shape: tuple[int, ...]) -> Node:
    """`n` with its axes in the order of `every`, and stretched over those that it lacks."""
    own = tuple([x for x in every if x in names])
    n = _ordered(n, names, own)
    at = iter(n.shape)
    return spread(as_shape(n, tuple([next(at) if x in own else 1 for x in every])), shape)


def drop(n: Node, names: Axes, gone: list[Any]) -> tuple[Node, Axes]:
    """Summed over the axes named."""
    if not gone:
        return n, names
    axes = tuple([i for i, x in enumerate(names) if x in gone])
    return P.sum(n, axes), tuple([x for x in names if x not in gone])


# ---------------------------------------------------------------- the equation
def _parse(equation: str, tensors: Nodes) -> tuple[list[Axes], Axes]:
    """Names of each operand's axes and of the result's."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        raise explain(RuntimeError(
            "einsum(): fewer operands were provided than specified in the equation" if len(parts) > len(tensors) else
            "einsum(): more operands were provided than specified in the equation"))
    wide = 0
    for p, n in zip(parts, tensors):
        if "..." in p:
            wide = max(wide, n.ndim - len(p.replace("...", "")))
    names = [_operand(k, p, n, wide) for k, (p, n) in enumerate(zip(parts, tensors))]
    if arrow:
        return names, _result(right, names, wide)
    flat = [x for ns in names for x in ns]
    once = sorted([x for x in set(flat) if isinstance(x, str) and flat.count(x) == 1], key=lambda x: (x.islower(), x))
    return names, (*range(wide), *once)


def _operand(k: int, text: str, n: Node, wide: int) -> Axes:
    letters = text.replace("...", "", 1)
    for c in letters:
        if c not in LETTERS:
            raise explain(RuntimeError(f"einsum(): invalid subscript given at index {text.index(c)} in the equation string, "
                                       f"subscripts must be in [a-zA-Z]"))
    hidden = n.ndim - len(letters)
    if hidden < 0 or (hidden and "..." not in text):
        raise explain(RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(letters)}) "
            f"{'does not match' if '...' not in text else 'is more than'} the number of dimensions ({n.ndim}) for operand {k}"
            f"{' and no ellipsis was given' if '...' not in text else ''}"))
    before, dots, after = text.partition("...")
    return (*before, *range(wide - hidden, wide), *after) if dots else tuple(before)


def _result(text: str, names: list[Axes], wide: int) -> Axes:
    before, dots, after = text.partition("...")
    out = (*before, *(range(wide) if dots else ()), *after)
    for c in (*before, *after):
        if out.count(c) > 1:
            raise explain(RuntimeError(f"einsum(): output subscript {c} appears more than once in the output"))
        if not any(c in ns for ns in names):
            raise explain(RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand"))
    return out


def _diagonals(n: Node, names: Axes) -> tuple[Node, Axes]:
    """Repeated names of one operand: the diagonal."""
    while len(set(names)) < len(names):
        x = next(x for x in names if names.count(x) > 1)
        i = names.index(x)
        j = names.index(x, i + 1)
        if n.shape[i] != n.shape[j]:
            raise explain(RuntimeError(f"einsum(): subscript {x} is repeated for operand but the sizes don't match, "
                                       f"{n.shape[j]} != {n.shape[i]}"))
        n = diagonal(n, 0, i, j)
        names = (*names[:i], *names[i + 1:j], *names[j + 1:], x)
    return n, names


def _extents(tensors: list[Node], names: list[Axes]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for k, (n, ns) in enumerate(zip(tensors, names)):
        for x, s in zip(ns, n.shape):
            old = found.setdefault(x, s)
            if old == 1:
                found[x] = s
            elif s not in (1, old):
                raise explain(RuntimeError(f"einsum(): subscript {x} has size {s} for operand {k} which does not broadcast "
                                           f"with previously seen size {old}"))
    return found


def _einsum_name(tensors: Any, equation: str) -> str:
    left, _, right = equation.replace(" ", "").partition("->")
    if len(tensors) > 1:
        shared = any(c in right for c in left if c.isalpha() and left.count(c) > 1) or any(
            c not in right for c in left if c.isalpha())
        return "ViewBackward0" if shared and any(c not in right for c in left if c.isalpha()) else "MulBackward0"
    return "SumBackward1" if any(c.isalpha() and c not in right for c in left) else "PermuteBackward0"


@op(method=False, loose=True, grad="ViewBackward0", grad_of=_einsum_name)
def einsum(tensors: Nodes, equation: str) -> Node:
    """Sums of products over named axes: einsum("bij,bjk->bik", a, b)."""
    names, out = _parse(equation, tensors)
    nodes = []
    for k, n in enumerate(tensors):
        same_dtype("expected scalar type {0} but found {1}", tensors[0], n)
        n, names[k] = _diagonals(n, names[k])
        nodes.append(n)
    extents = _extents(nodes, names)
    a, an = nodes[0], names[0]
    for k in range(1, len(nodes)):
        later = {x for ns in names[k + 1:] for x in ns}
        keep = tuple([x for x in extents if x in out or x in later])
        a, an = contract(a, an, nodes[k], names[k], keep)
    a, an = drop(a, an, [x for x in an if x not in out])
    return spread_named(a, an, out, tuple([extents[x] for x in out]))


# ---------------------------------------------------------------- axes by number
@op(method=False, grad="ViewBackward0")
def tensordot(a: Node, b: Node, dims: int | tuple[Any, ...] = 2) -> Node:
    """Sums of products over the last `dims` axes of a and the first of b, or over the pairs of axes given."""
    if not isinstance(dims, (int, tuple)):
        raise explain(RuntimeError("tensordot expects dims to be int or tuple[list[int], list[int]] or list[list[int]] "
                                   f"containing two lists, but got dims={dims}"))
    if isinstance(dims, int):
        if dims < 0:
            raise explain(RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}"))
        if dims > min(a.ndim, b.ndim):
            raise explain(RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}"))
        da, db = tuple(range(a.ndim - dims, a.ndim)), tuple(range(dims))
    else:
        da, db = [tuple([dim_of(i, n.ndim) for i in ints(d)]) for d, n in zip(dims, (a, b))]
    if len(da) != len(db):
        raise explain(RuntimeError("both dimension lists should have same length"))
    names: dict[int, str] = {j: f"s{k}" for k, j in enumerate(db)}
    an: Axes = tuple([f"s{da.index(i)}" if i in da else f"a{i}" for i in range(a.ndim)])
    bn: Axes = tuple([names.get(j, f"b{j}") for j in range(b.ndim)])
    for i, j in zip(da, db):
        if a.shape[i] != b.shape[j]:
            raise explain(RuntimeError(f"contracted dimensions need to match, but first has size {a.shape[i]} in dim "
                                       f"{i - a.ndim if isinstance(dims, int) else i} and "
                                       f"second has size {b.shape[j]} in dim {j}"))
    if a.dtype is not b.dtype:
        raise explain(RuntimeError("both inputs should have same dtype"))
    keep = tuple([x for x in an + bn if not x.startswith("s")])
    n, got = contract(a, an, b, bn, keep)
    return _ordered(n, got, keep)


@op(grad="LinalgCrossBackward0")
def cross(input: Node, other: Node, dim: int | None = None) -> Node:
    """The vector product along a dim of extent 3: the first such, if none is given."""
    shape = broadcast_shapes(input.shape, other.shape)
    same_dtype("expected scalar type {0} but found {1}", input, other)
    a, b = spread(input, shape), spread(other, shape)
    axis = next((i for i, s in enumerate(shape) if s == 3), None) if dim is None else dim_of(dim, len(shape))
    if axis is None:
        raise explain(RuntimeError("no dimension of size 3 in input"))
    if shape[axis] != 3:
        raise explain(RuntimeError("linalg.cross: inputs dimension "
                                   f"{dim} must have length 3. Got {input.shape[axis]} and {other.shape[axis]}"))
    return P.sub(P.mul(rolled(a, -1, axis), rolled(b, -2, axis)), P.mul(rolled(a, -2, axis), rolled(b, -1, axis)))
