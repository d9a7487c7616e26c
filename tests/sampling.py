"""Samples of public ops: arrays, static values, and how torch is called on the same; derived where an op is elementwise.

In: the registry.  Out: `SAMPLES`, {op name: samples}, filled by `derive` and by oplist's `case` calls.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autojit.dtypes import FLOAT, as_dtype, float64, of_number
from autojit.ir.aval import aval
from autojit.ir.graph import linearise, placeholder
from autojit.ir.primitive import ELEMENTWISE, LEAF, REGISTRY
from autojit.ops.declare import OPS, Op

from .checking import Number

STORED = Path(__file__).with_name("expected.json")


# ---------------------------------------------------------------- arrays
class F:
    """Random floats of a shape, no two equal, none near an integer or zero."""

    def __init__(self, *shape: int, lo: float = -2.0, hi: float = 2.0) -> None:
        self.shape, self.lo, self.hi = shape, lo, hi

    def make(self, rng: np.random.Generator) -> np.ndarray:
        a = np.asarray(rng.uniform(self.lo, self.hi, self.shape))
        return np.where(np.abs(a - np.round(a)) < 0.02, a + 0.05, a) if self.hi - self.lo > 1.5 else a


class Z:
    """Random integers."""

    def __init__(self, *shape: int, lo: int = 0, hi: int = 3, dtype: str = "int64") -> None:
        self.shape, self.lo, self.hi, self.dtype = shape, lo, hi, dtype

    def make(self, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.integers(self.lo, self.hi, self.shape)).astype(self.dtype)


class B:
    """Random bools."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def make(self, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.random(self.shape) < 0.5)


def A(values: Any, dtype: str = "float64") -> np.ndarray:
    return np.asarray(values, dtype)


class Sample:
    """One call: `tensors` (arrays, Numbers or None) and `static` values in the op's order; `torch(*args)` the same there.
    `fixed`: positions of tensors for which torch has no derivative; `torch_grad`: is torch's gradient right; `own`: only the
    op's own rule knows the gradient; `rtol`: for values and gradients where torch is inexact.
    `smooth`: may it be compared with finite differences, to second order; `named`: has torch's grad_fn the same name."""

    def __init__(self, op: Op, tensors: list[Any], static: list[Any], torch: Callable[..., Any], smooth: bool = True,
                 second: bool = True, named: bool = True, torch_grad: bool = True, own: bool = False,
                 fixed: tuple[int, ...] = (), rtol: float = 0.0) -> None:
        self.op, self.tensors, self.static, self.torch = op, tensors, static, torch
        self.smooth, self.second, self.named = smooth, second, named
        self.torch_grad, self.own, self.fixed, self.rtol = torch_grad, own, fixed, rtol

    def call(self, *nodes: Any) -> Any:
        return self.op.call(nodes, self.static)

    def pull(self, ct: Any, out: Any, nodes: Any) -> Any:
        return self.op.pull(ct, out, nodes, self.static)

    def arrays(self, dtype: str) -> list[Any]:
        return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in self.tensors]

    @property
    def number(self) -> bool:
        return any(isinstance(a, Number) for a in self.tensors)


SAMPLES: dict[str, list[Sample]] = {}


OPTIONS = ("smooth", "second", "named", "torch_grad", "own", "fixed", "rtol")


def case(name: str, *args: Any, torch: Callable[..., Any] | None = None, **static: Any) -> None:
    """A sample of an op: arguments by position (specifications become arrays), statics also by name, options of Sample."""
    op = OPS[name]
    made = SAMPLES.setdefault(name, [])
    rng = np.random.default_rng(zlib.crc32(f"{name}{len(made)}".encode()))
    options = {k: static.pop(k) for k in OPTIONS if k in static}

    def array(a: Any) -> Any:
        return a.make(rng) if isinstance(a, (F, Z, B)) else a

    given = dict(zip(op.params, args)) | static
    tensors: list[Any] = []
    fixed: list[Any] = []
    for k, (p, wants) in enumerate(zip(op.params, op.is_tensor)):
        v = given[p] if p in given else op.defaults[p]
        if not wants:
            fixed.append(v)
        elif k == 0 and op.sequence:
            tensors.extend([array(a) for a in v])
        else:
            tensors.append(array(v))
    for a in tensors:
        if isinstance(a, Number):
            a.dtype = weak(a.value, tensors)
    made.append(Sample(op, tensors, fixed, torch or default_torch(op, len(args), static), **options))


def weak(value: Any, tensors: list[Any]) -> Any:
    """The dtype that a number asks for beside these tensors; None: that of the float ones."""
    own = of_number(value)
    beside = [as_dtype(a.dtype) for a in tensors if isinstance(a, np.ndarray)]
    most = max([d.category for d in beside])
    if most == FLOAT:
        return None
    return own if own.category > most else beside[0]


def default_torch(op: Op, positional: int, named: dict[str, Any]) -> Callable[..., Any]:
    """torch's function of the same name: in `torch`, in nn.functional, or a method."""
    def f(*args: Any) -> Any:
        import torch
        import torch.nn.functional as functional
        by_name = dict(zip(op.params, args))
        rest = {k: by_name[k] for k in named}
        first = [by_name[p] for p in op.params[:positional]]
        target = getattr(functional, op.name, None) if op.functional and not op.function else getattr(torch, op.name, None)
        if target is None:
            return getattr(first[0], op.name)(*first[1:], **rest)
        return target(*first, **rest)
    return f


# ---------------------------------------------------------------- derived samples: element by element
DOMAINS = {"logit": (0.1, 0.9), "rsqrt": (0.3, 3), "acosh": (1.3, 4), "xlogy": (0.5, 3), "true_divide": (0.5, 3),
           "logaddexp": (-2, 2), "arctan2": (0.5, 3), "float_power": (0.5, 3), "hypot": (0.5, 3)}


def domain(op: Op) -> tuple[float, float]:
    if op.name in DOMAINS:
        return DOMAINS[op.name]
    p = REGISTRY.get(op.name)
    return p.domain if p is not None and p.kind == ELEMENTWISE else (-2, 2)


def elementwise(op: Op) -> bool:
    """Does a call on plain float tensors end in elementwise primitives and broadcasting alone?"""
    if op.sequence or op.ntensors not in (1, 2) or not op.leading:
        return False
    if any(p not in op.defaults for p, t in zip(op.params, op.is_tensor) if not t) or any(
            p in op.defaults for p, t in zip(op.params, op.is_tensor) if t):
        return False
    nodes = [placeholder(aval((2, 3), float64)), placeholder(aval((3,), float64))][:op.ntensors]
    try:
        out = op.call(nodes, [op.defaults[p] for p, t in zip(op.params, op.is_tensor) if not t])
    except (RuntimeError, IndexError, ValueError, TypeError):
        return False
    if isinstance(out, tuple) or out.shape != (2, 3) or op.view:
        return False
    kinds = {n.prim.kind for n in linearise([out])}
    moved = {n.op for n in linearise([out]) if n.prim.kind not in (ELEMENTWISE, LEAF)}
    return kinds <= {ELEMENTWISE, LEAF, "movement"} and moved <= {"reshape", "expand"} and bool(kinds)


SHAPES_1: list[tuple[int, ...]] = [(2, 3), (), (0,)]
SHAPES_2: Any = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((0,), (1,))]


def derive() -> None:
    for op in list(OPS.values()):
        if op.name in SAMPLES or not elementwise(op):
            continue
        lo, hi = domain(op)
        if op.ntensors == 1:
            for s in SHAPES_1:
                case(op.name, F(*s, lo=lo, hi=hi))
        else:
            for a, b in SHAPES_2:
                case(op.name, F(*a, lo=lo, hi=hi), F(*b, lo=lo, hi=hi))


# ---------------------------------------------------------------- stored expectations
def digest(a: np.ndarray) -> list[Any]:
    """dtype, shape and two projections of an array: enough to notice any change."""
    flat = a.ravel().view(a.real.dtype) if a.dtype.kind == "c" else a
    flat = np.nan_to_num(np.asarray(flat, np.float64).ravel(), nan=1.2345, posinf=77.7, neginf=-66.6)
    w = np.cos(np.arange(flat.size) * 1.7 + 0.3)
    return [str(a.dtype), list(a.shape), float(np.sum(flat * w)), float(np.sum(np.abs(flat)))]


def store(torch_results: Callable[..., Any]) -> None:
    """Write what torch gives for every sample."""
    found = {name: [[digest(r) for r in torch_results(s, "float64")[0]] for s in samples] for name, samples in SAMPLES.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(found[name], separators=(',', ':'))}" for name in sorted(found)]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
