"""The checker of operations: runs graphs on the NumPy backend, differentiates them, compares with finite differences.

In: a function over nodes and arrays.  Out: arrays, or an AssertionError that says what differs.  test_primitives proves that
a wrong rule does not get past it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autojit import ops  # noqa: F401  (declares the primitives and ops)
from autojit.autodiff.vjp import reverse
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import COMPLEX, FLOAT, as_dtype
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, forget, placeholder, scalar
from autojit.ir.verify import verify_graph

Function = Callable[..., Any]
Pull = Callable[..., Sequence[Node | None]]


class Number:
    """A Python number in the place of a tensor.  dtype: what it weakly asks for; None: that of the float tensors."""

    def __init__(self, value: Any) -> None:
        self.value, self.dtype = value, None

    def __repr__(self) -> str:
        return f"Number({self.value!r})"


def leaf(a: Any, dtype: Any = None) -> Node | None:
    """A placeholder for an array; a number's node for a Number."""
    if a is None:
        return None
    if isinstance(a, Number):
        return scalar(a.value, as_dtype(a.dtype or dtype))
    return placeholder(aval(a.shape, as_dtype(a.dtype)))


def outputs(result: Any) -> list[Node]:
    return [result] if type(result) is Node else list(result)


def evaluate(roots: Sequence[Node], leaves: Sequence[Node | None], arrays: Sequence[Any]) -> list[np.ndarray]:
    """The values of `roots` where the leaves hold these arrays."""
    pairs = [(n, a if not isinstance(a, Number) else n.data) for n, a in zip(leaves, arrays)
             if n is not None and n.op != "const"]
    graph = Graph([n for n, _ in pairs], list(roots))
    verify_graph(graph, "building")
    return NumpyProgram(graph)([np.asarray(a) for _, a in pairs])


def run(fn: Function, arrays: Sequence[Any], dtype: str = "float64") -> list[np.ndarray]:
    """fn on arrays: its results as arrays."""
    leaves = [leaf(a, dtype) for a in arrays]
    roots = outputs(fn(*leaves))
    forget()
    return evaluate(roots, leaves, arrays)


def pulled(fn: Function, leaves: Sequence[Node | None], cts: Sequence[Node | None], wanted: Sequence[Node],
           pull: Pull | None) -> list[Node | None]:
    """Cotangents of `wanted`: by the op's own rule if `pull` is given, else by the primitives'."""
    roots = outputs(fn(*leaves))
    if pull is None:
        return reverse(roots, cts, wanted)
    found = dict(zip(leaves, pull(cts[0] if len(roots) == 1 else tuple(cts), roots[0] if len(roots) == 1 else tuple(roots),
                                  leaves)))
    return [found[w] for w in wanted]


def floats(arrays: Sequence[Any]) -> list[int]:
    return [k for k, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def gradients(fn: Function, arrays: Sequence[Any], cts: Sequence[Any], pull: Pull | None = None,
              dtype: str = "float64") -> list[np.ndarray]:
    """d sum(ct * fn) / d array for each float array; zeros where no path leads."""
    leaves = [leaf(a, dtype) for a in arrays]
    given = [leaf(c) for c in cts]
    wanted = [leaves[k] for k in floats(arrays)]
    grads = pulled(fn, leaves, given, wanted, pull)
    for w, g in zip(wanted, grads):
        assert g is None or g.aval is w.aval, f"the cotangent of {w} is {g}"
    there = [g for g in grads if g is not None]
    values = iter(evaluate(there, [*leaves, *given], [*arrays, *cts]) if there else [])
    return [np.zeros(arrays[k].shape) if g is None else next(values) for k, g in zip(floats(arrays), grads)]


def projection(fn: Function, cts: Sequence[Any]) -> Callable[[Sequence[Any]], float]:
    """arrays -> sum(ct * fn(arrays)) as a number."""
    def f(arrays: Sequence[Any]) -> float:
        pairs = [(r, c) for r, c in zip(run(fn, arrays), cts) if c is not None]
        return float(sum(np.sum(np.real(np.asarray(r, np.result_type(r, np.float64)) * np.conj(c))) for r, c in pairs))
    return f


def directional(f: Callable[[Sequence[Any]], float], arrays: Sequence[Any], directions: dict[int, Any], h: float) -> float:
    """The derivative of f along a direction, by central differences."""
    up = [a + h * directions[k] if k in directions else a for k, a in enumerate(arrays)]
    down = [a - h * directions[k] if k in directions else a for k, a in enumerate(arrays)]
    return (f(up) - f(down)) / (2 * h)


def random_like(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def cotangents(fn: Function, arrays: Sequence[Any], rng: np.random.Generator, dtype: str = "float64") -> list[Any]:
    """A random cotangent for each floating result."""
    leaves = [leaf(a, dtype) for a in arrays]
    found: list[Any] = []
    for o in outputs(fn(*leaves)):
        if o.dtype.category == COMPLEX:
            found.append((random_like(rng, o.shape) + 1j * random_like(rng, o.shape)).astype(o.dtype.np))
        else:
            found.append(random_like(rng, o.shape).astype(o.dtype.np) if o.dtype.category == FLOAT else None)
    return found


def close(a: float, b: float, rtol: float, what: str) -> None:
    assert abs(a - b) <= rtol * max(1.0, abs(a), abs(b)), f"{what}: rule {a!r}, finite differences {b!r}"


def check_gradient(fn: Function, arrays: Sequence[Any], pull: Pull | None = None, order: int = 2, h: float = 1e-6,
                   rtol: float = 2e-5, seed: int = 0) -> None:
    """The reverse rule of `fn` in one random direction against central differences, to the given order (float64)."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(a, np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
    where = floats(arrays)
    cts = cotangents(fn, arrays, rng)
    if not where or all(c is None for c in cts):
        return
    along = {k: random_like(rng, arrays[k].shape) for k in where}
    grads = gradients(fn, arrays, cts, pull)
    by_rule = float(sum(np.sum(g * along[k]) for k, g in zip(where, grads)))
    close(by_rule, directional(projection(fn, cts), arrays, along, h), rtol, "first derivative")
    if order > 1:
        check_gradient(gradient_function(fn, arrays, cts, pull), arrays, None, order - 1, h, rtol * 5, seed + 1)


def gradient_function(fn: Function, arrays: Sequence[Any], cts: Sequence[Any], pull: Pull | None) -> Function:
    """The gradient as a function over nodes, to be differentiated again."""
    where = floats(arrays)

    def g(*leaves: Node) -> tuple[Node, ...]:
        from autojit.ir.graph import const
        from autojit.ops.declare import P, spread, zeros_like
        given = [None if c is None else _constant(c, const, P, spread) for c in cts]
        wanted = [leaves[k] for k in where]
        grads = pulled(fn, leaves, given, wanted, pull)
        return tuple([zeros_like(w) if d is None else d for w, d in zip(wanted, grads)])
    return g


def _constant(a: np.ndarray, const: Any, P: Any, spread: Any) -> Node:
    """A small array as a graph: its numbers, one after the other."""
    d = as_dtype(np.result_type(a, np.float64))
    if a.size == 0:
        return spread(const(0.0, d), a.shape)
    flat = [P.reshape(const(v, d), (1,)) for v in a.ravel().tolist()]
    return P.reshape(P.concat(tuple(flat), 0), a.shape)
