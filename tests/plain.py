"""A schedule run in plain Python: kernels by the interpreter of their text, products and host steps by NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autojit.backends.cpu.emit import emit_kernel
from autojit.backends.cpu.interpret import load
from autojit.ir.graph import Graph
from autojit.schedule.cost import Target
from autojit.schedule.loops import GemmStep, HostStep, KernelStep, Schedule
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule

EAGER_TO_SPLIT = Target(serial=50, grain=20)              # small work goes parallel, in many chunks


def run_plain(graph: Graph, arrays: Sequence[np.ndarray], target: Target | None = None) -> list[np.ndarray]:
    """The outputs of a graph, by its schedule."""
    plan = schedule(graph, target)
    verify_schedule(plan)
    return run_schedule(plan, graph, arrays)


def run_schedule(plan: Schedule, graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    chunks = max([s.chunks for s in plan.steps if isinstance(s, KernelStep)], default=1)
    memory = {}
    for name, b in plan.buffers.items():                  # what nobody wrote is seen
        memory[name] = np.full(b.size * (chunks if b.per_chunk else 1), 77, b.dtype.np)
    for name, a in zip(plan.inputs, arrays):
        memory[name] = np.ascontiguousarray(a).reshape(-1)
    for step in plan.steps:
        if isinstance(step, KernelStep):
            emitted = emit_kernel(step.kernel)
            args = [memory[e[1]] if e[0] == "buffer" else e[1] for e in emitted.table]
            kernel = load(emitted.text)
            for c in range(step.chunks):
                kernel(args, step.n * c // step.chunks, step.n * (c + 1) // step.chunks, c)
        elif isinstance(step, GemmStep):
            _gemm(step, memory)
        else:
            assert isinstance(step, HostStep)
            ins = [memory[n].reshape(a.shape) for n, a in zip(step.inputs, step.input_avals)]
            memory[step.output][...] = np.asarray(step.prim.ref(*ins, *step.params)).reshape(-1)
    return [memory[n].reshape(o.shape) for n, o in zip(plan.outputs, graph.outputs)]


def _gemm(s: GemmStep, memory: dict[str, np.ndarray]) -> None:
    def matrix(name: str, at: int, rows: int, columns: int, ld: int, trans: bool) -> np.ndarray:
        if trans:
            return matrix(name, at, columns, rows, ld, False).T
        a = memory[name][at:]
        assert (rows - 1) * ld + columns <= a.size
        return np.lib.stride_tricks.as_strided(a, (rows, columns), (ld * a.itemsize, a.itemsize))

    for o, i in np.ndindex(s.outer[0], s.batch):
        near = s.stride_a, s.stride_b, s.stride_c
        starts = [at + i * p + o * q for at, p, q in zip(s.offsets, near, s.outer[1:])]
        a = matrix(s.a, starts[0], s.m, s.k, s.lda, s.trans_a)
        b = matrix(s.b, starts[1], s.k, s.n, s.ldb, s.trans_b)
        c = matrix(s.c, starts[2], s.m, s.n, s.ldc, False)
        c[...] = s.alpha * (a @ b) + (s.beta * c if s.beta else 0)


def texts(plan: Schedule) -> list[str]:
    """The distinct kernels of a schedule, in order."""
    return list(dict.fromkeys(emit_kernel(s.kernel).text for s in plan.steps if isinstance(s, KernelStep)))
