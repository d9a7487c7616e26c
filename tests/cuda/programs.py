"""The list that the CUDA backend is proved on, generated: primitives, public ops, benchmark programs, random graphs.

In: the registries and the generators that the other tests use.  Out: `Program`s, each a name and a way to make a graph and
arrays for its inputs.  Nothing here knows a backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import autojit as aj
from autojit import control, custom, ops  # noqa: F401  (they declare the primitives)
from autojit.autodiff.vjp import reverse
from autojit.dtypes import FLOAT, as_dtype, bfloat16, float32, float64
from autojit.halves import bits
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, node, placeholder
from autojit.ir.primitive import ELEMENTWISE, REGISTRY
from autojit.ops.declare import P
from perf.gpu_rows import Row
from perf.ours import autojit_namespace
from perf.workloads import WORKLOADS

from ..checking import Number, leaf, outputs
from ..graphs import random_graph
from ..linalg_samples import PRIMITIVES as LINEAR_ALGEBRA
from ..oplist import SAMPLES
from ..sampling import Sample
from ..test_lowering import MOVES
from ..test_primitives import OTHERS, operands

Arrays = list[np.ndarray]
Made = tuple[Graph, Arrays]

# The primitives without a kernel: the one place that says so for the tests (backends/cuda/README.md says it to people).
WITHOUT_KERNEL: frozenset[str] = frozenset({
    *LINEAR_ALGEBRA, "dft", "rdft", "irdft", "eig", "eigfactor",
    "scan", "branch", "while", "counted", "custom", "scatter_fold",
    "i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "erfcx", "ndtri", "zeta", "igamma", "igammac", "nextafter", "gcd"})
ELEMENT = [p for p in REGISTRY.values() if p.kind == ELEMENTWISE and p.name not in ("where", "cast", "powi")]
RAGGED = (7, 45)                                          # enough points to go parallel; a multiple of nothing
NUMBER_DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
RANDOM_GRAPHS = 100


class Program:
    """One entry of the list.  `make()`: a fresh graph and arrays for its inputs; `tolerance`: where the usual one is too
    narrow."""

    __slots__ = ("name", "make", "tolerance")

    def __init__(self, name: str, make: Callable[[], Made], **tolerance: float) -> None:
        self.name, self.make, self.tolerance = name, make, tolerance

    def __repr__(self) -> str:
        return self.name


def differentiated(fn: Callable[..., Any], arrays: Sequence[Any], backward: bool = True, dtype: str = "float32") -> Made:
    """The graph of fn over leaves for these arrays, and of its reverse with cotangents that are inputs."""
    leaves = [leaf(a, dtype) for a in arrays]
    given = [(n, n.data if isinstance(a, Number) else a) for n, a in zip(leaves, arrays) if n is not None and n.op != "const"]
    roots = outputs(fn(*leaves))
    outs = list(roots)
    wrt = [n for n, a in given if isinstance(a, np.ndarray) and n.dtype.category == FLOAT]
    if backward and wrt and any(o.dtype.category == FLOAT for o in roots):
        rng = np.random.default_rng(len(given))
        cts = [placeholder(o.aval) if o.dtype.category == FLOAT else None for o in roots]
        given += [(c, np.asarray(rng.standard_normal(c.shape)).astype(c.dtype.np)) for c in cts if c is not None]
        outs += [g for g in reverse(roots, cts, wrt) if g is not None]
    inputs = list(dict.fromkeys(n for n, _ in given))
    arrays_of = dict(given)
    return Graph(inputs, outs), [np.asarray(arrays_of[n]) for n in inputs]


def cast(arrays: Sequence[Any], dtype: str) -> list[Any]:
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]


# ---------------------------------------------------------------- primitives
def primitives() -> Iterator[Program]:
    """Every primitive that may have a kernel: element by element in each dtype it takes, the others by their examples."""
    for prim in ELEMENT:
        for dtype in NUMBER_DTYPES:
            if _takes(prim, dtype):
                yield Program(f"{prim.name} {dtype}", lambda p=prim, d=dtype: _elementwise(p, d))
    for name, examples in {**OTHERS, **MORE}.items():
        if name not in WITHOUT_KERNEL:
            for k, (fn, arrays) in enumerate(examples):
                for dtype in ("float32", "float64"):
                    yield Program(f"{name} {k} {dtype}", lambda f=fn, a=arrays, d=dtype: differentiated(f, cast(a, d)))
    for name, examples in LARGER.items():
        for k, (fn, shapes) in enumerate(examples):
            yield Program(f"{name} large {k}", lambda f=fn, s=shapes: differentiated(f, drawn(s)))


def _takes(prim: Any, dtype: str) -> bool:
    d = as_dtype(dtype)
    if dtype == "bool" and prim.name in ("neg", "abs", "sign", "relu", "remainder", "fmod", "floor_divide", "trunc_divide"):
        return False
    try:
        out = prim.infer(*[aval((2,), d)] * (2 if "{1}" in prim.emit else 1))
    except TypeError:
        return False
    return out.dtype.category < FLOAT or d.category == FLOAT


def _elementwise(prim: Any, dtype: str) -> Made:
    arrays = operands(prim, RAGGED, dtype)
    return differentiated(lambda *n: node(prim, n), arrays, prim.vjp is not None, dtype)


def integers(*shape: int, high: int = 9, low: int = 0, seed: int = 3, dtype: str = "int64") -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def normal(*shape: int, seed: int = 4) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float64)


# what has no rule, and so no example among those of the rules
MORE: dict[str, list[tuple[Callable[..., Any], list[np.ndarray]]]] = {
    "int_pow": [(lambda a, b: P.int_pow(a, b), [integers(7, 45, low=-4, high=5), integers(7, 45, low=-3, seed=5)])],
    "shift": [(lambda a, b, left=left: P.shift(a, b, left), [integers(7, 45, low=-99, high=99), integers(7, 45, seed=5)])
              for left in (True, False)],
    "philox": [(lambda a, b, c, d=d: P.philox(a, b, c, as_dtype(d)), [integers(7, 45, high=99), integers(7, 45, low=-9, seed=5),
                                                                    integers(7, 45, seed=6)])
               for d in ("int64", "float32", "float64")],
    "argmax": [(lambda x, k=k: P.argmax(x, k), [normal(7, 45)]) for k in (0, 1)],
    "argmin": [(lambda x, k=k: P.argmin(x, k), [normal(7, 45)]) for k in (0, 1)],
    "cumarg": [(lambda x, most=most: P.cumarg(x, 1, most), [normal(7, 45)]) for most in (True, False)],
    "iota": [(lambda: P.iota((7, 45), 1), [])],
    "argsort": [(lambda x, k=k, down=down: P.argsort(x, k, down), [np.round(normal(7, 45), 1)])
                for k, down in ((1, False), (1, True), (0, False))],
    "bitwise_and": [(lambda a, b: P.bitwise_and(a, b), [integers(7, 45), integers(7, 45, seed=5)])],
    "bitwise_or": [(lambda a, b: P.bitwise_or(a, b), [integers(7, 45), integers(7, 45, seed=5)])],
    "bitwise_xor": [(lambda a, b: P.bitwise_xor(a, b), [integers(7, 45), integers(7, 45, seed=5)])],
    "bitwise_not": [(lambda a: P.bitwise_not(a), [integers(7, 45)])],
}
F32, I64 = "float32", "int64"
Spec = tuple[str, tuple[int, ...], int]                   # dtype, shape, high (of indices)


def drawn(specs: Sequence[Spec]) -> Arrays:
    """Floats near one, or indices below `high`."""
    return [integers(*shape, high=high, seed=k) if dtype == I64
            else (1 + 0.2 * normal(*shape, seed=k)).astype(dtype) for k, (dtype, shape, high) in enumerate(specs)]


def f(*shape: int) -> Spec:
    return (F32, shape, 0)


def at(high: int, *shape: int) -> Spec:
    return (I64, shape, high)


# the ways a loop can lie on blocks, warps and threads: long rows, short rows, columns, one long sum, odd middles
LARGER: dict[str, list[tuple[Callable[..., Any], list[Spec]]]] = {
    "sum": [(lambda x: P.sum(P.sin(x), (1,)), [f(3, 1031)]), (lambda x: P.sum(P.sin(x), (1,)), [f(301, 5)]),
            (lambda x: P.sum(P.sin(x), (1,)), [f(70, 33)]), (lambda x: P.sum(P.sin(x), (0,)), [f(257, 9)]),
            (lambda x: P.sum(P.sin(x), (0,)), [f(9, 517)]), (lambda x: P.sum(P.sin(x), (0,)), [f(4999)]),
            (lambda x: P.sum(P.sin(x), (0, 2)), [f(5, 67, 19)]), (lambda x: P.sum(P.sin(x), (1,)), [f(5, 67, 19)])],
    "prod": [(lambda x: P.prod(x, (1,)), [f(5, 130)]), (lambda x: P.prod(x, (0,)), [f(130, 5)])],
    "max": [(lambda x: P.max(x, (1,)), [f(5, 700)]), (lambda x: P.max(x, (0,)), [f(700, 5)]),
            (lambda x: P.max(x, (0,)), [f(2049)])],
    "min": [(lambda x: P.min(x, (1,)), [f(300, 7)]), (lambda x: P.min(x, (0, 1)), [f(70, 30)])],
    "argmax": [(lambda x: P.argmax(x, 1), [f(3, 700)]), (lambda x: P.argmax(x, 1), [f(300, 5)]),
               (lambda x: P.argmax(x, 0), [f(999)])],
    "cumsum": [(lambda x: P.cumsum(x, 1), [f(3, 700)]), (lambda x: P.cumsum(x, 0), [f(70, 9)]),
               (lambda x: P.cumsum(x, 0), [f(2049)])],
    "cumprod": [(lambda x: P.cumprod(x, 1), [f(9, 70)])],
    "logcumsumexp": [(lambda x: P.logcumsumexp(x, 1), [f(5, 300)])],
    "cumarg": [(lambda x: P.cumarg(x, 1, True), [f(5, 300)])],
    "sort": [(lambda x: P.sort(x, 1, False), [f(3, 700)]), (lambda x: P.sort(x, 0, True), [f(33, 20)]),
             (lambda x: P.sort(x, 0, False), [f(2049)])],
    "permute": [(lambda x: P.sin(P.permute(x, (1, 0))), [f(33, 65)]),
                (lambda x: P.exp(P.permute(x, (2, 1, 0))), [f(5, 33, 17)])],
    "take": [(lambda x, i: P.take(x, i, 0), [f(40, 33), at(40, 37)]), (lambda x, i: P.take(x, i, 1), [f(9, 40), at(40, 37)])],
    "gather": [(lambda x, i: P.gather(x, i, 1), [f(70, 40), at(40, 70, 5)])],
    "index_add": [(lambda x, i, v: P.index_add(x, i, v, 0), [f(11, 33), at(11, 70), f(70, 33)]),
                  (lambda x, i, v: P.index_add(x, i, v, 0), [f(3000), at(3000, 700), f(700)])],
    "scatter_add": [(lambda x, i, v: P.scatter_add(x, i, v, 1), [f(9, 20), at(20, 9, 300), f(9, 300)])],
    "index_set": [(lambda x, i, v: P.index_set(x, i, v, 0), [f(11, 33), at(11, 70), f(70, 33)])],
    "scatter_set": [(lambda x, i, v: P.scatter_set(x, i, v, 1), [f(9, 20), at(20, 9, 300), f(9, 300)])],
    "matmul": [(lambda a, b: P.matmul(a, b), [f(33, 17), f(17, 41)]),
               (lambda a, b: P.matmul(a, b), [f(3, 9, 17), f(3, 17, 5)])],
} | {f"move: {name}": [(fn, [f(841 if name.startswith("square") else 400 if "pairs" in name else 840)])]
     for name, fn in MOVES.items()}


def covered() -> set[str]:
    """The primitives that the list has an entry for."""
    return {p.name for p in ELEMENT} | {n for n, c in {**OTHERS, **MORE, **LARGER}.items() if c} - WITHOUT_KERNEL


# ---------------------------------------------------------------- public ops
def public_ops(dtype: str = "float32") -> Iterator[Program]:
    """Every sample of every public op, forward and backward."""
    for name, samples in SAMPLES.items():
        for k, s in enumerate(samples):
            yield Program(f"{name}-{k}", lambda s=s: _sample(s, dtype))


def _sample(s: Sample, dtype: str) -> Made:
    return differentiated(s.call, s.arrays(dtype), True, dtype)


# ---------------------------------------------------------------- benchmark programs
TINY: dict[str, dict[str, int]] = {
    "elem": {"n": 1037}, "pair": {"n": 19}, "lnorm": {"rows": 7, "width": 131}, "bs": {"n": 517},
    "gmm": {"points": 45, "parts": 5, "dims": 3}, "gp": {"n": 23, "dims": 3}, "softmax_ce": {"rows": 9, "classes": 83},
    "groupnorm": {"batch": 2, "channels": 6, "side": 5, "groups": 3}, "bnorm": {"batch": 3, "channels": 5, "side": 7},
    "nbody": {"n": 17}, "spline": {"points": 301, "knots": 7}, "stencil": {"side": 9}, "logreg": {"rows": 301, "features": 7},
    "mlp": {"batch": 17, "inputs": 19, "hidden": 18, "classes": 3},
    "attn": {"batch": 2, "length": 5, "width": 18, "inner": 20, "heads": 3}, "linreg": {"rows": 301, "features": 11},
    "power": {"n": 33, "steps": 3}, "rosen": {"n": 10}, "rnn": {"steps": 4, "batch": 3, "inputs": 5, "hidden": 17},
    "ode": {"steps": 7}, "lstm": {"steps": 3, "batch": 3, "inputs": 5, "hidden": 17}, "kalman": {"steps": 4},
    "cnn": {"batch": 3, "side": 15, "first": 3, "second": 5, "classes": 4}}
OTHER_TINY = {"lnorm": {"rows": 301, "width": 5}, "softmax_ce": {"rows": 3, "classes": 1030}, "elem": {"n": 9001},
              "gmm": {"points": 301, "parts": 3, "dims": 17}}
ALIGNED = {"elem": {"n": 4096}, "lnorm": {"rows": 8, "width": 1024}, "softmax_ce": {"rows": 8, "classes": 1000},
           "bs": {"n": 4096}}


def benchmarks() -> Iterator[Program]:
    """The programs of perf/, value and gradients, at tiny ragged sizes; some at other sizes and in double precision."""
    for name in WORKLOADS:
        yield Program(name, lambda n=name: _benchmark(n, TINY[n], "float32"), **_loose(name))
    for name, sizes in OTHER_TINY.items():
        yield Program(f"{name} other", lambda n=name, s=sizes: _benchmark(n, s, "float32"), **_loose(name))
    for name, sizes in ALIGNED.items():
        yield Program(f"{name} aligned", lambda n=name, s=sizes: _benchmark(n, s, "float32"), **_loose(name))
    for name in ("lnorm", "gmm", "attn"):
        yield Program(f"{name} float64", lambda n=name: _benchmark(n, TINY[n], "float64"))


def _loose(name: str) -> dict[str, float]:
    return {"rtol": 1e-3, "atol": 1e-4} if name in ("kalman", "power", "logreg") else {}


def _benchmark(name: str, sizes: dict[str, int], dtype: str) -> Made:
    workload = WORKLOADS[name]
    traced = aj.trace(workload.function(autojit_namespace(), **sizes))
    half = dtype in ("float16", "bfloat16")
    arrays = cast(workload.arrays(**sizes), "float32" if half else dtype)
    tensors = [aj.from_numpy(a).to(as_dtype(dtype)) if half and a.dtype.kind == "f" else aj.from_numpy(a) for a in arrays]
    aj.value_and_grad(traced, argnums=tuple(range(workload.wrt)))(*tensors)
    graph = traced.last.graph
    return graph, [in_memory(a, n.dtype) if n.dtype.half else a for a, n in zip(arrays, graph.inputs)]


class _Zeros:
    """In the place of a random generator: zeros, since only their shapes are wanted."""

    def standard_normal(self, shape: Any) -> np.ndarray:
        return np.zeros(shape, np.float32)

    random = standard_normal

    def integers(self, low: int, high: int, shape: Any) -> np.ndarray:
        return np.zeros(shape, np.int64)


def at_full_size(row: Row) -> Graph:
    """The graph of a program of perf.gpu's table, value and gradients, at the size it is measured at; nothing is computed."""
    workload = row.workload(False)
    traced = aj.trace(workload.function(autojit_namespace()))
    arrays = workload.draw(_Zeros(), **workload.sizes)
    tensors = [aj.from_numpy(a).to(as_dtype(row.dtype)) if a.dtype.kind == "f" else aj.from_numpy(a) for a in arrays]
    leaves, structure, found = traced.leaves(tuple(tensors), {})
    joint = aj.value_and_grad(traced, argnums=tuple(range(workload.wrt)))
    return traced.plan(leaves, structure, joint.wrt(tensors, found)).graph


# ---------------------------------------------------------------- half precision
HALF: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "tanh": (lambda x: P.tanh(x), [RAGGED]), "mul": (lambda a, b: P.mul(a, b), [RAGGED, RAGGED]),
    "sum of rows": (lambda x: P.sum(x, (1,)), [(9, 333)]), "sum of columns": (lambda x: P.sum(x, (0,)), [(333, 9)]),
    "max": (lambda x: P.max(x, (1,)), [(33, 40)]), "cast": (lambda x: P.cast(x, float32), [RAGGED]),
    "concat": (lambda a, b: P.concat((a, b), 1), [(7, 45), (7, 12)]), "flip": (lambda x: P.flip(x, (1,)), [RAGGED]),
    "pad": (lambda x: P.pad(x, (1, 2), (9, 50), (1, 1)), [RAGGED]),
    "where": (lambda a, b: P.where(P.gt(a, b), a, b), [RAGGED, RAGGED]),
    "matmul": (lambda a, b: P.matmul(a, b), [(33, 17), (17, 41)])}


def halves() -> Iterator[Program]:
    """float16 and bfloat16: memory holds them, float32 computes."""
    near = {"rtol": 2e-2, "atol": 1e-2}
    for name in ("float16", "bfloat16"):
        for op, (fn, shapes) in HALF.items():
            yield Program(f"{op} {name}", lambda f=fn, s=shapes, d=name: _half(f, s, as_dtype(d)), **near)
        for program in ("elem", "lnorm", "softmax_ce", "attn"):
            yield Program(f"{program} {name}", lambda n=program, d=name: _benchmark(n, TINY[n], d), **near)


def in_memory(a: np.ndarray, dtype: Any) -> np.ndarray:
    """Numbers as memory holds them in a half dtype."""
    return bits(a.astype(np.float32)) if dtype is bfloat16 else a.astype(dtype.np)


def _half(fn: Callable[..., Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> Made:
    leaves = [placeholder(aval(s, dtype)) for s in shapes]
    root = fn(*leaves)
    ct = placeholder(root.aval)
    outs = [root, *[g for g in reverse([root], [ct], leaves) if g is not None]]
    return Graph([*leaves, ct], outs), [in_memory(normal(*n.shape, seed=k), n.dtype) for k, n in enumerate([*leaves, ct])]


# ---------------------------------------------------------------- random graphs
def random_graphs(count: int = RANDOM_GRAPHS) -> Iterator[Program]:
    for seed in range(5000, 5000 + count):
        dtype = float64 if seed % 10 == 9 else float32
        yield Program(f"random {seed}", lambda s=seed, d=dtype: random_graph(s, size=8, dtype=d))
