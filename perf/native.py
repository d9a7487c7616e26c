"""Operations that are kernels of their own beside torch's: sorting, running sums, scatters, linear algebra,
Fourier transforms, random numbers.

`python -m perf.native` runs each traced here and eagerly there, in one process, in turns, with as many threads
as there are cores.  Values are compared first (random ones are not).  Results go to `results/native.md`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from perf.measure import sample, worst_error
from perf.notes import note

ROUNDS, SECONDS, CLOSE = 5, 0.15, 1e-4
Program = Callable[..., Any]
ROWS: list[tuple[str, Program, tuple[np.ndarray, ...]]] = []
RNG = np.random.default_rng(0)


def row(name: str, program: Program, *arrays: np.ndarray) -> None:
    """`program(m, *tensors)` for a library m."""
    ROWS.append((name, program, arrays))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(n: int, *lead: int, dtype: Any = np.float32) -> np.ndarray:
    a = RNG.standard_normal((*lead, n, n))
    return (a @ a.swapaxes(-1, -2) / n + np.eye(n)).astype(dtype)


def order() -> None:
    line, square = normal(1_000_000), normal(1000, 1000)
    row("sort 1e6", lambda m, x: m.sort(x, stable=True), line)
    row("sort 1000×1000, dim 1", lambda m, x: m.sort(x, dim=1, stable=True), square)
    row("sort 1000×1000, dim 0", lambda m, x: m.sort(x, dim=0, stable=True), square)
    row("sort 50000×20", lambda m, x: m.sort(x, dim=1, stable=True), normal(50_000, 20))
    row("topk 10 of 1e5", lambda m, x: m.topk(x, 10), line[:100_000].copy())
    row("topk 10 of 1000×1000", lambda m, x: m.topk(x, 10), square)
    row("cumsum 1e6", lambda m, x: m.cumsum(x, 0), line)
    row("cumsum 1000×1000, dim 1", lambda m, x: m.cumsum(x, 1), square)
    row("cumsum 1000×1000, dim 0", lambda m, x: m.cumsum(x, 0), square)
    row("logcumsumexp 1000×1000", lambda m, x: m.logcumsumexp(x, 1), square)
    i, zeros = RNG.integers(0, 1_000_000, 1_000_000), np.zeros(1_000_000, np.float32)
    row("scatter_add 1e6", lambda m, z, i, v: z.scatter_add(0, i, v), zeros, i, line)
    row("scatter_reduce amax 1e6", lambda m, z, i, v: z.scatter_reduce(0, i, v, "amax"), zeros, i, line)


def matrices() -> None:
    for n, lead in ((4, (1000,)), (32, ()), (256, ())):
        for kind in (np.float32, np.float64):
            a, b = positive(n, *lead, dtype=kind), RNG.standard_normal((*lead, n, 1)).astype(kind)
            what = f"{'×'.join(map(str, (*lead, n, n)))}, {np.dtype(kind)}"
            row(f"cholesky {what}", lambda m, a: m.linalg.cholesky(a), a)
            row(f"solve {what}", lambda m, a, b: m.linalg.solve(a, b), a, b)
    for kind in (np.float32, np.float64):
        a = positive(256, dtype=kind)
        row(f"inv 256×256, {np.dtype(kind)}", lambda m, a: m.linalg.inv(a), a)
        row(f"eigvalsh 256×256, {np.dtype(kind)}", lambda m, a: m.linalg.eigvalsh(a), a)


def waves() -> None:
    for shape in ((1000, 1024), (1, 1 << 20), (4096, 64)):
        z = (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(np.complex64)
        row(f"fft {shape[0]}×{shape[1]}, complex64", lambda m, z: m.fft.fft(z), z)


def chance() -> None:
    x = normal(1_000_000)
    row("rand 1e6", lambda m, x: m.rand(1_000_000), x)
    row("randn 1e6", lambda m, x: m.randn(1_000_000), x)
    row("dropout 1e6", lambda m, x: m.nn.functional.dropout(x, 0.3), x)


DRAWN = ("rand", "dropout")


def _arrays(found: Any) -> list[np.ndarray]:
    return [t.detach().numpy() for t in (found if isinstance(found, (tuple, list)) else [found])]


def compared(name: str, program: Program, arrays: tuple[np.ndarray, ...], rounds: int, seconds: float) -> dict[str, float]:
    """Seconds a call in each library, and theirs by ours: medians of the rounds."""
    import torch

    import autojit as aj

    f = aj.trace(lambda *t: program(aj, *t))
    mine, other = [aj.from_numpy(a) for a in arrays], [torch.from_numpy(a.copy()) for a in arrays]
    calls = {"autojit": lambda: f(*mine), "torch": lambda: program(torch, *other)}
    found, wanted = [_arrays(call()) for call in calls.values()]
    if not name.startswith(DRAWN) and worst_error(found, wanted) > CLOSE:
        raise AssertionError(f"{name} differs by {worst_error(found, wanted):.1e}")
    for _ in range(10):  # the short way of a traced function begins at its eighth call
        f(*mine)
    times = [{k: median(sample(call, seconds)) for k, call in calls.items()} for _ in range(rounds)]
    return {**{k: median(t[k] for t in times) for k in calls}, "ratio": median(t["torch"] / t["autojit"] for t in times)}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.native", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose names begin so")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a library in each round")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    options = parser.parse_args(words)
    os.environ["AUTOJIT_TIER"] = "compile"  # before autojit is imported
    ROWS.clear()
    for family in (order, matrices, waves, chance):
        family()
    raw, rows = {}, []
    for name, program, arrays in ROWS:
        if name.startswith(options.only):
            t = raw[name] = compared(name, program, arrays, options.rounds, options.seconds)
            rows.append([name, f"{t['autojit'] * 1e6:.1f}", f"{t['torch'] * 1e6:.1f}", f"{t['ratio']:.2f}"])
    remarks = ("ordinary calls: `aj.trace` of one operation, torch's eager one; both with all cores",)
    note("native", "Operations that are kernels of their own", ["µs a call", "autojit", "torch", "ratio"], rows, raw,
         write=not options.no_record and not options.only, remarks=remarks)


if __name__ == "__main__":
    main()
