"""How exact and how fast the vectorisable mathematics is, beside NumPy, torch and the C library.

``python -m perf.vecmath`` judges each function on a million points (half of them random bit patterns),
times it on arrays in the cache, on one thread, and writes `results/vecmath.md`.  Takes a few minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

from autojit.backends.cpu import codegen, objects, vecmath
from perf.machine import fingerprint
from perf.notes import MATHEMATICS, with_lines
from tests import ulps

WHO = ("autojit", "numpy", "torch", "libm")
WIDTHS = {"f32": np.float32, "f64": np.float64}
LENGTH = 1 << 14
TIMED: dict[str, tuple[float, float]] = {
    "log": (0.01, 9), "log2": (0.01, 9), "log10": (0.01, 9), "log1p": (-0.9, 9), "asin": (-1, 1),
    "acos": (-1, 1), "acosh": (1, 9), "atanh": (-1, 1), "erfinv": (-1, 1), "pow": (0, 9),
    "rsqrt": (0.1, 9), "lgamma": (0.1, 20), "digamma": (0.1, 20),
}  # the others: -5 to 5

Function = Callable[..., Any]


ABI = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
LOADER = objects.Loader()


def _ours(name: str, width: str, arity: int) -> Function:
    """A kernel that maps the function over arrays."""
    n = arity + 1
    views = "".join(f"    x{k} = {width}(args, {k}, {n})\n" for k in range(n))
    call = f"{name}_{width}({', '.join(f'x{k}[i]' for k in range(arity))})"
    body = f"    for i in range(lo, hi):\n        x{arity}[i] = {call}\n"
    made = codegen.compile_text(f"def kernel(args, lo, hi, chunk):\n{views}{body}")
    kernel = ABI(LOADER.load(made.symbol, made.code, made.needs))

    last: list[Any] = [(), None, 0]  # arrays, their table and its address: made once for a series of calls

    def run(*arrays: np.ndarray) -> None:
        if len(last[0]) != len(arrays) or any(a is not b for a, b in zip(last[0], arrays, strict=True)):
            table = np.array([a.ctypes.data for a in arrays], np.int64)
            last[:] = [arrays, table, table.ctypes.data]
        kernel(None, None, last[2], 0, arrays[-1].size, 0)

    return run


def _loop(function: Any, arity: int) -> Function:
    """Numba's loop over a function of the C library."""
    if arity == 2:
        def run(x, y, out):
            for i in range(out.size):
                out[i] = function(x[i], y[i])
    else:
        def run(x, out):
            for i in range(out.size):
                out[i] = function(x[i])
    return numba.njit(error_model="numpy")(run)


def _numpy(name: str, width: str, arity: int) -> Function | None:
    if name in ("sigmoid", "softplus", "rsqrt"):
        return None
    function = {"lgamma": "gammaln"}.get(name, name)
    import scipy.special

    found = getattr(scipy.special, function) if name in ulps.SPECIAL else ulps.numpy_function(name)
    return lambda *args: found(*args[:-1], out=args[-1])


def _torch(name: str, width: str, arity: int) -> Function | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    function = getattr(torch, name, None)
    if name == "softplus":
        return lambda x, out: np.copyto(out, torch.nn.functional.softplus(torch.from_numpy(x)).numpy())
    if function is None:
        return None
    return lambda *args: function(*map(torch.from_numpy, args[:-1]), out=torch.from_numpy(args[-1]))


def _libm(name: str, width: str, arity: int) -> Function | None:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    function = getattr(library, name + ("f" if width == "f32" else ""), None)
    if function is None:
        return None
    kind = ctypes.c_float if width == "f32" else ctypes.c_double
    function.restype, function.argtypes = kind, [kind] * arity
    return _loop(function, arity)


MAKERS = (_ours, _numpy, _torch, _libm)


def worst(function: Function, args: tuple[np.ndarray, ...], exact: tuple[np.ndarray, Any]) -> float:
    """Greatest distance in ulp."""
    out = np.empty_like(args[0])
    with np.errstate(all="ignore"):
        function(*args, out)
    known = ~np.isnan(exact[0]) if np.ndim(exact[1]) else np.full(out.size, True)
    return float(ulps.distance(out, *exact)[known].max())


def nanoseconds(name: str, function: Function, dtype: Any, arity: int, seconds: float) -> float:
    rng = np.random.default_rng(0)
    args = [rng.uniform(*TIMED.get(name, (-5, 5)), LENGTH).astype(dtype) for _ in range(arity)]
    out = np.empty(LENGTH, dtype)
    function(*args, out)
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function(*args, out)
        function(*args, out)
        best = min(best, (time.perf_counter() - start) / 2)
    return best / LENGTH * 1e9


def rows(count: int, seconds: float) -> Iterator[str]:
    for width, dtype in WIDTHS.items():
        for name in sorted({n[:-4] for n in vecmath.FUNCTIONS}):
            slow = width == "f64" and name in ulps.SPECIAL
            args = ulps.points(name, dtype, min(count, 5000) if slow else count, seed=5)
            if name in ("lgamma", "digamma"):
                args = tuple(map(np.abs, args))
            exact = ulps.exact(name, *args)
            functions = [make(name, width, len(args)) for make in MAKERS]
            cells = ["" if f is None else f"{worst(f, args, exact):.3g}" for f in functions]
            cells += ["" if f is None else f"{nanoseconds(name, f, dtype, len(args), seconds):.2f}" for f in functions]
            yield f"| {name}_{width} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=0.15, help="spent on each timing")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    machine = fingerprint()
    packages = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v and not k.startswith("jax"))
    head = [
        "# Vectorisable mathematics",
        "",
        f"Measured on {machine['cpu']}; {packages}.",
        "",
        f"Greatest distance from the exact value in ulp over {options.points:,} points (erf, erfc, erfinv, lgamma,",
        "digamma in float64: 5,000, by mpmath; the gamma family for x > 0), half of them random bit patterns; inf",
        "means a NaN, zero or infinity in the wrong place. Nanoseconds an element, one thread, arrays in the cache.",
        "numpy stands for SciPy where NumPy has no such function.",
        "",
        "| function | " + " | ".join([f"{w} ulp" for w in WHO] + [f"{w} ns" for w in WHO]) + " |",
        "|---" * 9 + "|",
    ]
    lines = []
    for line in head:
        print(line)
        lines.append(line)
    for line in rows(options.points, options.seconds):
        print(line, flush=True)
        lines.append(line)
    if not options.no_record:
        target = Path(__file__).parent / "results" / "vecmath.md"
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        readme = Path(__file__).parent / "README.md"
        readme.write_text(with_lines(readme.read_text(), MATHEMATICS, lines[2:]), encoding="utf-8")


if __name__ == "__main__":
    main()
