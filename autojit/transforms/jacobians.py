"""Whole matrices of derivatives: `jacrev`, `jacfwd`, `jacobian`, `hessian`.

In: a function.  Out: a function that gives its Jacobian: the forward or reverse graph, batched over the directions of a basis,
which is no memory but a comparison of indices.  Where only the tape knows the derivatives: one pass for each direction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..autodiff.batching import batch, spread
from ..autodiff.forward import both
from ..autodiff.vjp import reverse
from ..dtypes import FLOAT, int64
from ..eager import autograd
from ..eager.modes import enable_grad
from ..eager.state import state
from ..eager.tensor import Tensor, wrap
from ..errors import explain
from ..ir.aval import Aval
from ..ir.graph import Node, placeholder
from ..ops.declare import P, cast, full
from ..ops.movement import slice_axis
from ..ops.placement import ones, zeros
from .arguments import Given, chosen, floating, public, shown
from .pushing import recorded
from .recording import place

Argnums = int | Sequence[int]


def jacrev(func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False,
           chunk_size: int | None = None) -> Callable[..., Any]:
    """A function that gives the Jacobian of `func`, in reverse: one pass back for each element of the result, all at once.

    The Jacobian has the structure of the result, each leaf with the structure of argument `argnums` (a sequence: a tuple of
    such) and of shape (*result.shape, *argument.shape).  has_aux: `func` returns (result, anything else), and so does this.
    chunk_size: so many passes at a time.  RuntimeError for arguments or results that are not floating.

    >>> import autojit as aj
    >>> aj.jacrev(lambda x: x ** 2)(aj.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size > 0):
        raise explain(ValueError("jacrev: `chunk_size` should be greater than 0."))
    return _transform(func, argnums, has_aux, "jacrev", chunk_size)


def jacfwd(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *,
           randomness: str = "error") -> Callable[..., Any]:
    """As `jacrev`, forward: one pass for each element of the argument, all at once.  The better one where arguments are smaller
    than results.  randomness: as `vmap` has it; all directions see the same numbers in any case.

    >>> import autojit as aj
    >>> aj.jacfwd(lambda x: x ** 2)(aj.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if randomness not in ("error", "different", "same"):
        raise explain(RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}"))
    return _transform(func, argnums, has_aux, "jacfwd", None)


def jacobian(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """`jacfwd` where the arguments have fewer elements than the result, else `jacrev`.

    >>> import autojit as aj
    >>> import numpy as np
    >>> aj.jacobian(lambda x: x.sum())(np.ones(3))
    array([1., 1., 1.])
    """
    return _transform(func, argnums, has_aux, "jacobian", None)


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that gives the Hessian of `func`: the Jacobian, forward, of its Jacobian in reverse.

    >>> import autojit as aj
    >>> aj.hessian(lambda x: (x ** 3).sum())(aj.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def _transform(func: Callable[..., Any], argnums: Argnums, has_aux: bool, what: str, chunk: int | None) -> Callable[..., Any]:
    @functools.wraps(func)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        return _Jacobian(functools.partial(func, **kwargs) if kwargs else func, argnums, has_aux, what, chunk, args).result()
    return jacobian_of


class _Jacobian:
    """One call: the recording, and what is asked of it.  wrt: which of the tensors."""

    def __init__(self, func: Callable[..., Any], argnums: Argnums, has_aux: bool, what: str, chunk: int | None,
                 args: tuple[Any, ...]) -> None:
        self.func, self.argnums, self.what, self.chunk, self.has_aux = func, argnums, what, chunk, has_aux
        self.picked = chosen(argnums, len(args))
        self.given = given = Given(args)
        at, self.wrt = 0, []
        self.parts: list[list[int]] = []                  # the tensors of each argument
        for k, a in enumerate(args):
            leaves = given.leaves[at:at + len(tree.flatten(a)[0])]
            at += len(leaves)
            if k in self.picked:
                floating(leaves, what)
            self.parts.append([next(i for i, t in enumerate(given.tensors) if t is x) for x in leaves if isinstance(x, Tensor)])
        self.structures = [tree.flatten(a)[1] for a in args]
        self.wrt = [i for k in self.picked for i in self.parts[k]]
        wants = [i in self.wrt for i in range(len(given.tensors))]
        self.r, self.aux = recorded(func, given, what, has_aux, wants)
        for o in self.r.outputs:
            if o.dtype.category < FLOAT:
                raise explain(RuntimeError(f"{what}: Expected all outputs to be real but received tensor output with dtype "
                                           f"{o.dtype}"))

    def result(self) -> Any:
        given, r = self.given, self.r
        known = r.outside | dict(zip(r.arguments, given.tensors))
        r.check(list, known)
        flat = self._by_tape() if r.cut else self._forward(known) if self._is_forward() else self._reverse(known)
        per = []
        for row in flat:
            it = iter([shown(t, given.kind) for t in row])
            found = [tree.unflatten(self.structures[k], [next(it) for _ in self.parts[k]]) for k in self.picked]
            per.append(found[0] if isinstance(self.argnums, int) else tuple(found))
        out = r.nest(per)
        return out if self.aux is None else (out, self.aux.show(known, given.kind))

    def _is_forward(self) -> bool:
        if self.what != "jacobian":
            return self.what == "jacfwd"
        ins = sum([self.given.tensors[i].aval.size for i in self.wrt])
        return ins < sum([o.aval.size for o in self.r.outputs])

    # ------------------------------------------------------------ by the graph
    def _forward(self, known: dict[Node, Any]) -> list[list[Tensor]]:
        """For each result, the derivatives by each chosen tensor."""
        r = self.r
        froms = [r.arguments[i] for i in self.wrt]
        into = {p: placeholder(p.aval) for p in froms}
        _, moved = both(r.outputs, into)
        count = sum([p.aval.size for p in froms])
        rows, start = {}, 0
        for p, way in into.items():
            rows[way] = basis(p.aval, count, start)
            start += p.aval.size
        there = [t for t in moved if t is not None]
        made = iter(batch(there, rows, count))
        nodes = []
        for o, t in zip(r.outputs, moved):
            one, many = (full(0, (count, *o.shape), o.dtype, o.aval.device), True) if t is None else next(made)
            n, start = one if many else spread(one, count), 0
            for p in froms:
                part = P.reshape(slice_axis(n, 0, start, start + p.aval.size), (*p.shape, *o.shape))
                k = len(p.shape)
                nodes.append(P.permute(part, (*range(k, part.ndim), *range(k))))
                start += p.aval.size
        return _rows(place("jacobian", nodes, known) if nodes else [], len(r.outputs))

    def _reverse(self, known: dict[Node, Any]) -> list[list[Tensor]]:
        r = self.r
        froms = [r.arguments[i] for i in self.wrt]
        found: list[list[Tensor]] = []
        for o in r.outputs:
            chunk = o.aval.size if self.chunk is None else min(self.chunk, o.aval.size)
            ct = placeholder(o.aval)
            grads = reverse([o], [ct], froms)
            if o.aval.size == 1:
                one = [zeros(p.aval) if g is None else g for g, p in zip(grads, froms)]
                nodes = [P.reshape(g, (*o.shape, *g.shape)) if o.shape else g for g in one]
                found.append(place("jacobian", nodes, known | {ct: ones(o.aval)}))
            elif chunk == o.aval.size:
                rows = self._pulled(o, ct, grads, froms, 0, chunk)
                found.append(place("jacobian", [P.reshape(n, (*o.shape, *p.shape)) for n, p in zip(rows, froms)], known))
            else:
                parts = [place("jacobian", self._pulled(o, ct, grads, froms, start, min(chunk, o.aval.size - start)), known)
                         for start in range(0, o.aval.size, chunk)]
                found.append([public("cat")(list(p)).reshape((*o.shape, *f.shape)) for p, f in zip(zip(*parts), froms)])
        return found

    def _pulled(self, o: Node, ct: Node, grads: Sequence[Node | None], froms: Sequence[Node], start: int,
                count: int) -> list[Node]:
        """Some rows of one result's Jacobian: (count, *argument.shape) for each chosen tensor."""
        there = iter(batch([g for g in grads if g is not None], {ct: basis(o.aval, count, -start)}, count))
        nodes = []
        for g, p in zip(grads, froms):
            row, many = (full(0, (count, *p.shape), p.dtype, p.aval.device), True) if g is None else next(there)
            nodes.append(row if many else spread(row, count))
        return nodes

    # ------------------------------------------------------------ by the tape
    def _by_tape(self) -> list[list[Tensor]]:
        """One pass back for each element of the results."""
        given = self.given
        nested = state.trace is not None or state.grad and any([t.requires_grad for t in given.tensors])
        with enable_grad():
            inner = list(given.tensors)
            for i in self.wrt:
                t = inner[i]
                inner[i] = t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
            it = iter(inner)
            out = self.func(*tree.unflatten(given.structure, [next(it) if isinstance(x, Tensor) else x for x in given.leaves]))
            outs = tree.flatten(out[0] if self.has_aux else out)[0]
            froms = [inner[i] for i in self.wrt]
            return [self._each(o, froms, nested) for o in outs]

    def _each(self, o: Tensor, froms: Sequence[Tensor], nested: bool) -> list[Tensor]:
        if not o.requires_grad or not o.aval.size:
            return [wrap(full(0, (*o.shape, *f.shape), f.dtype, f.aval.device)) for f in froms]
        flat, stack = o.reshape(-1), public("stack")
        rows = [autograd.grad(flat[k], froms, retain_graph=True, create_graph=nested, allow_unused=True, materialize_grads=True)
                for k in range(o.aval.size)]
        return [stack(list(column)).reshape((*o.shape, *f.shape)) for column, f in zip(zip(*rows), froms)]


def _rows(flat: list[Tensor], count: int) -> list[list[Tensor]]:
    each = len(flat) // max(count, 1)
    return [flat[k * each:(k + 1) * each] for k in range(count)]


def basis(a: Aval, count: int, start: int) -> Node:
    """(count, *shape): element e of row `start + e` is 1, all else is 0."""
    rows, places = P.iota((count, a.size), 0), P.iota((count, a.size), 1)
    hit = P.eq(rows, P.add(places, full(start, rows.shape, int64)))
    return P.reshape(cast(hit, a.dtype), (count, *a.shape))
