"""From a schedule and the addresses of its kernels to one thing that can be called with arrays.

In: a Schedule, emitted kernels, their addresses.  Out: `NativeProgram`: arrays in, fresh arrays out, one native call for each
run of steps between host steps (most programs have none).  Never compiles and never looks at values.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import CompileError
from ...ir.aval import Aval
from ...schedule.loops import GemmStep, HostStep, KernelStep, Schedule, written
from ...schedule.memory import place
from .emit import Emitted
from .runner import NativePlan, PlanBuilder, Slot
from .runtime import BUSY, OK, runtime

_empty = np.empty
POOLED = 3                                                # arrays kept for each output


def _alone() -> int:
    """The reference count of what only a list holds, as the loop of `OutputPool.take` sees it: Python versions differ."""
    found = 0
    for a in [np.empty(0)]:
        found = sys.getrefcount(a)
    return found


_ALONE = _alone()


class OutputPool:
    """Arrays for one output, taken back when nobody else holds them: no page faults for fresh memory in a loop."""

    __slots__ = ("shape", "dtype", "kept", "small")

    def __init__(self, a: Aval) -> None:
        self.shape, self.dtype = a.shape, a.dtype.np
        self.small = a.size * a.dtype.itemsize < 4096     # NumPy keeps such memory at hand itself
        self.kept: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        if self.small:
            return np.empty(self.shape, self.dtype)
        for a in self.kept:
            if sys.getrefcount(a) == _ALONE:
                return a
        a = np.empty(self.shape, self.dtype)
        if len(self.kept) < POOLED:
            self.kept.append(a)
        return a


class Memory:
    """Where each buffer of a schedule lives: arguments, and temporaries in one arena."""

    def __init__(self, schedule: Schedule, emitted: dict[int, tuple[Emitted, int]]) -> None:
        self.schedule, self.emitted = schedule, emitted
        self.chunks = self._chunks()
        self.offsets, self.size = place(self._lifetimes())

    def _chunks(self) -> dict[str, int]:
        """How many areas a per-chunk buffer has: one for each chunk of the kernel that writes it."""
        out: dict[str, int] = {}
        for step in self.schedule.steps:
            if isinstance(step, KernelStep):
                for name in written(step.kernel.body):
                    if self.schedule.buffers[name].per_chunk:
                        out[name] = max(out.get(name, 1), step.chunks)
        return out

    def touched(self, k: int, step: Any) -> list[str]:
        if isinstance(step, KernelStep):
            return [e[1] for e in self.emitted[k][0].table if e[0] == "buffer"]
        return [step.a, step.b, step.c] if isinstance(step, GemmStep) else [*step.inputs, step.output]

    def _lifetimes(self) -> dict[str, tuple[int, int, int]]:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        external = {*self.schedule.inputs, *self.schedule.outputs}
        for k, step in enumerate(self.schedule.steps):
            for name in self.touched(k, step):
                if name not in external:
                    first.setdefault(name, k)
                    last[name] = k
        return {name: (self.nbytes(name), at, last[name]) for name, at in first.items()}

    def nbytes(self, name: str) -> int:
        b = self.schedule.buffers[name]
        return b.size * b.dtype.itemsize * self.chunks.get(name, 1)


class Builder:
    """Writes the plans of a schedule: one for each run of steps without a host step."""

    def __init__(self, schedule: Schedule, emitted: dict[int, tuple[Emitted, int]]) -> None:
        self.schedule, self.emitted = schedule, emitted
        self.memory = Memory(schedule, emitted)
        self.host = any(isinstance(s, HostStep) for s in schedule.steps)
        self.arena = np.empty(self.memory.size + 64, np.uint8) if self.host else None
        self.plan, self.slots = self._begin()

    def _begin(self) -> tuple[PlanBuilder, dict[str, Slot]]:
        plan = PlanBuilder()
        slots = {name: plan.argument() for name in (*self.schedule.inputs, *self.schedule.outputs)}
        if self.arena is None:
            base = plan.arena(self.memory.size)
        else:
            start = self.arena.ctypes.data
            base = plan.constant(start + -start % 64, self.arena)
        for name, offset in self.memory.offsets.items():
            slots[name] = base + offset
        return plan, slots

    def view(self, name: str, a: Aval) -> np.ndarray:
        """A temporary of the arena as an array: for host steps."""
        assert self.arena is not None
        start = -self.arena.ctypes.data % 64 + self.memory.offsets[name]
        raw = self.arena[start:start + a.size * a.dtype.itemsize]
        return raw.view(a.dtype.np).reshape(a.shape)

    def kernel(self, k: int, step: KernelStep) -> None:
        emitted, address = self.emitted[k]
        words: list[Any] = []
        for entry in emitted.table:
            if entry[0] == "buffer":
                words.append(self.slots[entry[1]])
            elif entry[0] == "size":
                words.append(int(entry[1]))
            else:
                words.append(const_word(entry[1], entry[2].code))
        self.plan.kernel(address, self.plan.table(words), step.n, step.chunks, name=f"kernel {k}")

    def gemm(self, s: GemmStep) -> None:
        size = s.dtype.itemsize
        a, b, c = (self.slots[name] + offset * size for name, offset in zip((s.a, s.b, s.c), s.offsets))
        self.plan.gemm(s.dtype.code, s.m, s.n, s.k, a, b, c, trans_a=s.trans_a, trans_b=s.trans_b, lda=s.lda, ldb=s.ldb,
                       ldc=s.ldc, batch=s.batch, stride_a=s.stride_a, stride_b=s.stride_b, stride_c=s.stride_c,
                       alpha=s.alpha, beta=s.beta, outer=s.outer)

    def parts(self) -> list[NativePlan | HostCall]:
        out: list[NativePlan | HostCall] = []
        pending = False
        for k, step in enumerate(self.schedule.steps):
            if isinstance(step, HostStep):
                if pending:
                    out.append(self.plan.build())
                    self.plan, self.slots = self._begin()
                    pending = False
                out.append(HostCall(step, self))
                continue
            if isinstance(step, KernelStep):
                self.kernel(k, step)
            else:
                assert isinstance(step, GemmStep)          # the others are made for GPUs only
                self.gemm(step)
            pending = True
        if pending or not out:
            out.append(self.plan.build())
        return out


def const_word(value: Any, code: str) -> int:
    """A constant's slot: the bits of a double, or an int64 (see the kernel text's c_f32, c_f64, c_i64)."""
    return int(np.float64(value).view(np.int64)) if code in ("f32", "f64") else int(value)


class HostCall:
    """A primitive without a kernel: its NumPy reference, between native calls."""

    __slots__ = ("step", "inputs", "output")

    def __init__(self, step: HostStep, builder: Builder) -> None:
        self.step = step
        names = [*builder.schedule.inputs, *builder.schedule.outputs]

        def where(name: str, a: Aval) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
            if name in names:
                at = names.index(name)
                return lambda arrays: arrays[at].reshape(a.shape)
            fixed = builder.view(name, a)
            return lambda arrays: fixed

        self.inputs = [where(n, a) for n, a in zip(step.inputs, step.input_avals)]
        self.output = where(step.output, step.prim.infer(*step.input_avals, *step.params))

    def __call__(self, arrays: Sequence[np.ndarray]) -> None:
        ref = self.step.prim.ref
        assert ref is not None
        self.output(arrays)[...] = ref(*[f(arrays) for f in self.inputs], *self.step.params)


class NativeProgram:
    """A compiled graph.  Calls from several threads are safe: a plan that is busy runs on a clone."""

    __slots__ = ("parts", "pools", "plan", "address", "nbytes", "areas", "run", "_small", "_lock")

    def __init__(self, schedule: Schedule, emitted: dict[int, tuple[Emitted, int]], outputs: Sequence[Aval]) -> None:
        builder = Builder(schedule, emitted)
        memory = builder.memory
        nbytes = [sum(map(memory.nbytes, memory.touched(k, s))) for k, s in enumerate(schedule.steps)]
        self._hold(builder.parts(), [OutputPool(a) for a in outputs], nbytes,
                   [memory.nbytes(name) for name in sorted(memory.offsets)])

    @classmethod
    def over(cls, plan: NativePlan, pools: list[OutputPool], nbytes: Sequence[int], areas: Sequence[int]) -> NativeProgram:
        """A program that is one finished plan; `nbytes`: of each step, `areas`: of each temporary."""
        self = cls.__new__(cls)
        self._hold([plan], pools, nbytes, areas)
        return self

    def _hold(self, parts: list[NativePlan | HostCall], pools: list[OutputPool], nbytes: Sequence[int],
              areas: Sequence[int]) -> None:
        self.parts, self.pools, self.nbytes, self.areas = parts, pools, nbytes, areas
        self._small = [(p.shape, p.dtype) for p in self.pools] if all(p.small for p in self.pools) else None
        only = self.parts[0]
        self.plan = only if len(self.parts) == 1 and isinstance(only, NativePlan) else None
        self.address = self.plan.address if self.plan is not None else 0
        self._lock = threading.Lock()
        self.run = runtime().run                          # run(address, *arrays) -> status

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._small is not None:
            outs = [_empty(shape, dtype) for shape, dtype in self._small]
        else:
            outs = [p.take() for p in self.pools]
        if self.plan is None:
            with self._lock:
                self._pieces([*arrays, *outs])
            return outs
        status = self.run(self.address, *arrays, *outs)
        if status == BUSY:
            status = self.plan.run(*arrays, *outs)
        if status != OK:
            raise CompileError(f"a kernel ended with status {status}")
        return outs

    def profile(self, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[tuple[str, float, int]]]:
        """Run once, step by step: results, and (name, seconds, bytes of the buffers it touches) of each step."""
        outs = [np.empty(p.shape, p.dtype) for p in self.pools]
        given = [*arrays, *outs]
        times: list[tuple[str, float]] = []
        with self._lock:
            for part in self.parts:
                if isinstance(part, NativePlan):
                    times += part.profile(*given)
                else:
                    start = time.perf_counter()
                    part(given)
                    times.append((part.step.prim.name, time.perf_counter() - start))
        return outs, [(name, seconds, nbytes) for (name, seconds), nbytes in zip(times, self.nbytes)]

    def _pieces(self, arrays: list[np.ndarray]) -> None:
        for part in self.parts:
            if isinstance(part, NativePlan):
                status = part.run(*arrays)
                if status != OK:
                    raise CompileError(f"a kernel ended with status {status}")
            else:
                part(arrays)
