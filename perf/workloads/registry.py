"""What a benchmark program is, and the table of them.

A program is written once for every system: `program(m, *arrays)` uses operators and the methods
that NumPy-like libraries share (`sum(dim)`, `mean(dim)`, `reshape`), and the namespace `m` for the
rest: `exp log log1p sin tanh sigmoid erf sqrt abs maximum minimum relu`, `amax(x, dim)`
(keeps the axis), `permute(x, order)`, `pick(x, column)` (`x[i, column[i]]`), `conv2(x, w, b)` (images of channels, nothing
around them), `pool2(x)` (the largest of squares of 2×2) and, in second forms written for it,
`scan(step, carry, xs, length)` (gives the last carry). Data are float32 (labels int64), drawn from
a fixed seed in a fixed order. Nothing here knows a system or measures time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Arrays = list[np.ndarray]
WORKLOADS: dict[str, Workload] = {}
EAGER_TARGET = 1.0  # without a decorator no program may be slower than in torch eager


@dataclass
class Workload:
    """A program, how its data are drawn, and what is asked of it.

    wrt: how many leading arrays are differentiated. targets: system of ours → what the best peer's
    time divided by ours must be, at least. tolerance: see `measure.worst_error`. slow: systems that
    take minutes to compile it, left out by `--quick`. base: the name without size and dtype, by
    which systems written for single programs know it.
    """

    name: str
    program: Callable[..., Any]
    draw: Callable[..., Arrays]
    wrt: int
    targets: dict[str, float]
    sizes: dict[str, int]
    tolerance: float
    slow: tuple[str, ...] = ()
    scan: Callable[..., Any] | None = None
    base: str = ""
    dtype: str = "float32"
    part: str = "base"

    @property
    def mode(self) -> str:
        """The system of ours by which this program enters the geometric mean."""
        return "autojit" if "autojit" in self.targets else "autojit-bound"

    def variant(self, part: str, dtype: str = "float32", **sizes: int) -> Workload:
        """The same program at other sizes or in another dtype, named after the difference."""
        words = [f"{k}={v}" for k, v in sizes.items()] + ([dtype] if dtype != self.dtype else [])
        return replace(
            self,
            name=" ".join([self.name, *words]),
            sizes={**self.sizes, **sizes},
            dtype=dtype,
            part=part,
            tolerance=1e-11 if dtype == "float64" else self.tolerance,
        )

    @property
    def title(self) -> str:
        return (self.program.__doc__ or self.name).strip().splitlines()[0]

    def arrays(self, **sizes: int) -> Arrays:
        return self.draw(np.random.default_rng(0), **{**self.sizes, **sizes})

    def function(self, m: Any, form: str = "plain", **sizes: int) -> Callable[..., Any]:
        """The program as a function of its arrays; sizes it names as keywords are filled in."""
        program = self.scan if form == "scan" else self.program
        if program is None:
            raise ValueError(f"workload {self.name} has no form {form!r}")
        known = {**self.sizes, **sizes}
        keywords = inspect.getfullargspec(program).kwonlyargs
        fixed = {word: known[word] for word in keywords}
        return lambda *arrays: program(m, *arrays, **fixed)


def workload(
    name: str,
    draw: Callable[..., Arrays],
    *,
    wrt: int,
    target: float | None = None,
    bound_target: float | None = None,
    tolerance: float = 1e-5,
    slow: tuple[str, ...] = (),
    **sizes: int,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated program under `name`. bound_target: for calls with fixed buffers."""
    asked = {"autojit": target, "autojit-bound": bound_target, "autojit-eager": EAGER_TARGET}
    targets = {system: least for system, least in asked.items() if least is not None}

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        WORKLOADS[name] = Workload(name, program, draw, wrt, targets, sizes, tolerance, slow, base=name)
        return program

    return register


def scan_form(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated program as the second form, with `m.scan`, of a looping workload."""

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        WORKLOADS[name].scan = program
        return program

    return register


Rng = np.random.Generator


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32) * np.float32(scale)


def uniform(rng: Rng, n: int, low: float, width: float) -> np.ndarray:
    return (rng.random(n) * width + low).astype(np.float32)
