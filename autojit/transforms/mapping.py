"""`vmap`: a function of one example becomes a function of many, by batching its graph.

In: a function and which axes of its arguments count examples.  Out: a function of whole arrays.  Messages are torch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..autodiff.batching import batch, spread
from ..autodiff.ruled import Ruled
from ..eager.tensor import Tensor
from ..errors import explain
from ..ir.aval import Aval, aval
from ..ir.graph import Graph, Node, linearise, placeholder
from ..ops.declare import P
from ..tracing.plan import run_time
from ..tracing.recorder import NO_SECOND
from .arguments import Given, public, shown
from .recording import FunctionTrace, Recorded, function_name, place, record

Dims = Sequence[int | None]


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Callable[..., Any]:
    """A function that maps `func` over an axis of its arguments, all examples at once: no loop runs.

    in_dims: which axis of each argument counts examples, an int for all or a nest like the arguments; None: the argument is
    the same for all.  out_dims: where that axis stands in the results; None: the result is the same for all.  Keyword
    arguments are the same for all.  randomness: 'error', 'different' (each example draws its own numbers) or 'same'.
    chunk_size: so many examples at a time.  Nests, NumPy arrays, other transforms inside and outside, `@aj.trace` inside and
    outside all work; with arrays (and no tensors) given, arrays come back.

    ValueError for axes that do not fit or differ in length, RuntimeError where the function asks for a value that differs
    from example to example (`if x > 0`, `.item()`).

    >>> import autojit as aj
    >>> x, w = aj.tensor([[1.0, 2.0], [3.0, 4.0]]), aj.tensor([10.0, 1.0])
    >>> aj.vmap(lambda row: (row * w).sum())(x)
    tensor([12., 34.])
    >>> aj.vmap(aj.grad(lambda x: x ** 3))(aj.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    >>> aj.vmap(lambda a, b: a + b, in_dims=(0, None))(aj.tensor([1.0, 2.0]), aj.tensor(5.0))
    tensor([6., 7.])
    """
    if randomness not in ("error", "different", "same"):
        raise explain(RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}"))
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size > 0):
        raise explain(ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})"))

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        dims = _in_dims(func, in_dims, args)
        size = _size(args, dims)
        if chunk_size is not None and size > chunk_size:
            return _in_chunks(mapped_once, args, dims, size, chunk_size, out_dims)
        return mapped_once(args, dims, size, kwargs)

    def mapped_once(args: Any, dims: Dims, size: int, kwargs: Any = None) -> Any:
        return _mapped(func, args, kwargs or {}, dims, size, out_dims, randomness)

    return mapped


# ---------------------------------------------------------------- arguments
def _in_dims(func: Any, in_dims: Any, args: tuple[Any, ...]) -> list[int | None]:
    """An axis or None for each leaf of the arguments.  ValueError in torch's words."""
    what = f"vmap({function_name(func)}, in_dims={in_dims}, ...)(<inputs>): "
    if type(in_dims) is not int and not isinstance(in_dims, (tuple, list, dict)):
        raise explain(ValueError(f"{what}expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
                                 f"of inputs, got: {type(in_dims)}."))
    leaves = tree.flatten(args)[0]
    if not leaves:
        raise explain(ValueError(f"vmap({function_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or "
                                 "you are trying to vmap over a function with no inputs. The latter is unsupported."))
    dims = prefix(in_dims, list(args) if isinstance(in_dims, list) else args)
    if dims is None:
        raise explain(ValueError(f"{what}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
                                 f"{_drawn(in_dims)} but inputs has structure {_drawn(args)}."))
    for x, d in zip(leaves, dims):
        if d is None:
            continue
        if type(d) is not int:
            raise explain(ValueError(f"{what}Got in_dim={d} for an input but in_dim must be either an integer dimension or "
                                     "None."))
        if not isinstance(x, (Tensor, np.ndarray)):
            raise explain(ValueError(f"{what}Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap "
                                     "over non-Tensor arguments, please use None as the respective in_dim"))
        if not -x.ndim <= d < x.ndim:
            raise explain(ValueError(f"{what}Got in_dim={d} for some input, but that input is a Tensor of dimensionality "
                                     f"{x.ndim} so expected in_dim to satisfy -{x.ndim} <= in_dim < {x.ndim}."))
    if all([d is None for d in dims]):
        raise explain(ValueError(f"{what}expected at least one Tensor to vmap over, all in_dims are None"))
    return dims


def prefix(dims: Any, of: Any) -> list[Any] | None:
    """`dims`, an int, None or a nest that `of` refines, for each leaf of `of`; None if they do not fit."""
    if not isinstance(dims, (tuple, list, dict)):
        return [dims] * len(tree.flatten(of)[0])
    if type(dims) is not type(of) or len(dims) != len(of):
        return None
    if isinstance(dims, dict):
        if set(dims) != set(of):
            return None
        keys = tree.flatten(of)[1][1]
        dims, of = [dims[k] for k in keys], [of[k] for k in keys]
    out: list[Any] = []
    for d, part in zip(dims, of):
        found = prefix(d, part)
        if found is None:
            return None
        out += found
    return out


def _drawn(nest: Any) -> Any:
    """A nest with stars for leaves."""
    if isinstance(nest, (tuple, list)):
        inner = ", ".join([str(_drawn(x)) for x in nest])
        return f"({inner}{',' * (len(nest) == 1)})" if isinstance(nest, tuple) else f"[{inner}]"
    return {k: _drawn(v) for k, v in nest.items()} if isinstance(nest, dict) else "*"


def _size(args: Any, dims: Dims) -> int:
    sizes = [x.shape[d] for x, d in zip(tree.flatten(args)[0], dims) if d is not None]
    if len(set(sizes)) != 1:
        raise explain(ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                                 f"{sizes} for the mapped dimension"))
    return int(sizes[0])


def _in_chunks(once: Any, args: Any, dims: Dims, size: int, chunk: int, out_dims: Any) -> Any:
    """So many examples at a time, and the results laid together."""
    leaves, structure = tree.flatten(args)
    parts = []
    for start in range(0, size, chunk):
        count = min(chunk, size - start)
        some = [x if d is None else x[(slice(None),) * (d % x.ndim) + (slice(start, start + count),)]
                for x, d in zip(leaves, dims)]
        parts.append(once(tree.unflatten(structure, some), dims, count))
    flat = [tree.flatten(p)[0] for p in parts]
    to = prefix(out_dims, parts[0])
    assert to is not None                                 # the first chunk has looked
    cat = public("cat")
    joined = [column[0] if d is None else np.concatenate(column, d) if isinstance(column[0], np.ndarray) else cat(column, d)
              for column, d in zip(zip(*flat), to)]
    return tree.unflatten(tree.flatten(parts[0])[1], joined)


# ---------------------------------------------------------------- the map itself
def _front(n: Node, axis: int) -> Node:
    """The axis of examples first."""
    axis %= n.ndim
    return n if axis == 0 else P.permute(n, (axis, *[k for k in range(n.ndim) if k != axis]))


def _back(n: Node, axis: int) -> Node:
    """The first axis put elsewhere.  IndexError in torch's words."""
    if not -n.ndim <= axis < n.ndim:
        raise explain(IndexError(f"Dimension out of range (expected to be in range of [{-n.ndim}, {n.ndim - 1}], but got "
                                 f"{axis})"))
    axis %= n.ndim
    rest = list(range(1, n.ndim))
    return n if axis == 0 else P.permute(n, (*rest[:axis], 0, *rest[axis:]))


def _example(a: Aval, d: int | None) -> Aval:
    if d is None:
        return a
    k = d % len(a.shape)
    return aval(a.shape[:k] + a.shape[k + 1:], a.dtype, a.device)


def _mapped(func: Any, args: Any, kwargs: Any, dims: Dims, size: int, out_dims: Any, randomness: str) -> Any:
    given = Given(args)
    at = [d for x, d in zip(tree.flatten(args)[0], dims) if run_time(x)]
    trace = FunctionTrace({}, size, randomness)
    call = functools.partial(func, **kwargs) if kwargs else func
    structure = (tuple, (given.structure, tree.flatten({})[1]))
    r = record(call, given.leaves, structure, [t.requires_grad for t in given.tensors], trace, [d is not None for d in at],
               [_example(t.aval, d) for t, d in zip(given.tensors, at)], grad=None, pulls="cut")
    r.name = function_name(func)
    _returned(r)
    whole = {p: placeholder(t.aval) for p, t in zip(r.arguments, given.tensors)}
    mapped = {p: _front(whole[p], d) if d is not None else None for p, d in zip(r.arguments, at)}
    inside = {p: m for p, m in mapped.items() if m is not None}
    known: dict[Node, Any] = {whole[p] if mapped[p] is not None else p: t for p, t in zip(r.arguments, given.tensors)}
    for p in r.rows:
        inside[p] = placeholder(aval((size, *p.shape), p.dtype, p.aval.device))
        known[inside[p]] = r.outside[p]
    known |= {p: t for p, t in r.outside.items() if p not in r.rows}
    outputs = _by_tape(r, inside, size) if r.cut and any(r.needs) else batch(r.outputs, inside, size)
    r.check(lambda nodes: [n for n, _ in batch(nodes, inside, size)], known)
    outs = place("vmap", _out(r, outputs, out_dims, size), known, r.needs)
    return r.nest([shown(t, given.kind) for t in outs])


def _returned(r: Recorded) -> None:
    for s in r.static:
        if s is not None:
            raise explain(ValueError(f"vmap({r.name}, ...): `{r.name}` must only return Tensors, got type {type(s)}. Did you "
                                     "mean to set out_dims= to None for output?"))


def _out(r: Recorded, outputs: list[tuple[Node, bool]], out_dims: Any, size: int) -> list[Node]:
    """Results with the axis of examples where it is wanted."""
    nest = r.nest([0] * len(outputs))
    to = prefix(out_dims, nest)
    if to is None and isinstance(out_dims, tuple) and len(out_dims) == 1 and not isinstance(nest, (tuple, list, dict)):
        to = list(out_dims)                               # torch takes (0,) for one tensor
    if to is None or any([d is not None and type(d) is not int for d in to]):
        raise explain(ValueError(f"vmap({r.name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the "
                                 f"structure of `outputs`. out_dims has structure {_drawn(out_dims)} but outputs has structure "
                                 f"{_drawn(nest)}."))
    made = []
    for (n, many), d in zip(outputs, to):
        if d is None:
            if many:
                raise explain(ValueError(f"vmap({r.name}, ...): `{r.name}` can not return a BatchedTensor when out_dim is "
                                         "None"))
            made.append(n)
        else:
            made.append(_back(n if many else spread(n, size), d))
    return made


def _by_tape(r: Recorded, inside: dict[Node, Node], size: int) -> list[tuple[Node, bool]]:
    """Where only the tape knows the derivatives, its reverse is batched too and goes along."""
    roots = [*r.outputs, *[g for p in r.pulls if p is not None for _, g in p[1]]]
    cts = {p[0] for p in r.pulls if p is not None}
    inputs = [n for n in linearise(roots) if n.prim.kind == "leaf" and n.op != "const" and n not in cts]
    body = Ruled(Graph(inputs, r.outputs), r.name)
    for k, (o, p) in enumerate(zip(r.outputs, r.pulls)):
        ct, grads = p if p is not None else (placeholder(o.aval), [])
        where: list[int | None] = [None] * len(inputs)
        for j, (i, _) in enumerate(grads):
            if i in inputs:
                where[inputs.index(i)] = j
        body.preset_pull(k, inputs, ct, [g for _, g in grads], where, NO_SECOND)
    calls = [P.call(tuple(inputs), body, k) for k in range(len(r.outputs))] if inputs else r.outputs
    return batch(calls, inside, size)
