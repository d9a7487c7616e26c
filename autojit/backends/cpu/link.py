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

from ...ir.aval import Aval
from ...ops.grouped import SOME
from ...schedule.loops import (
    BranchStep,
    CallStep,
    ControlStep,
    CountedStep,
    GemmStep,
    HostStep,
    KernelStep,
    LoopStep,
    Schedule,
    WhileStep,
    hosted,
    written,
)
from ...schedule.memory import place
from ..counts import ALONE
from . import libraries
from .runner import NativePlan, PlanBuilder, Slot
from .runtime import BUSY, OK, failure, runtime

Kernels = dict[int, Any]                                  # step -> (Emitted, address), or for each of its bodies such a dict

_empty = np.empty
FOREVER = 1 << 62
POOLED = 3                                                # arrays kept for each output


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
            if sys.getrefcount(a) == ALONE:
                return a
        a = np.empty(self.shape, self.dtype)
        if len(self.kept) < POOLED:
            self.kept.append(a)
        return a


class Memory:
    """Where each buffer of a schedule lives: arguments, and temporaries in one arena.  `inner`: the same for the bodies of its
    loops and branches, whose arenas are areas of this one."""

    def __init__(self, schedule: Schedule, emitted: Kernels) -> None:
        self.schedule, self.emitted = schedule, emitted
        self.chunks = self._chunks()
        self.inner = {k: [Memory(b, e) for b, e in zip(s.bodies, emitted[k])] for k, s in enumerate(schedule.steps)
                      if isinstance(s, ControlStep) and not hosted([s])}
        self.tapes, self.record = self._rows()
        self.areas: dict[str, int] = {}
        self.areas = {f"area {k}": self._area(schedule.steps[k], inner) for k, inner in self.inner.items()}
        self.offsets, self.size = place(self._lifetimes())

    def _rows(self) -> tuple[dict[str, int], int]:
        """Where in the record of a turn each row lies that a loop of SOME turns leaves, and the size of the record."""
        tapes: dict[str, int] = {}
        at = 0
        for step in self.schedule.steps:
            if isinstance(step, LoopStep) and step.spec.length == SOME:
                for name in step.outputs[step.spec.carries:]:
                    b = self.schedule.buffers[name]
                    tapes[name] = at
                    at += -(-(b.size // SOME * b.dtype.itemsize) // 16) * 16
        return tapes, max(at, 16)

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
        if isinstance(step, (KernelStep, CallStep)):
            return [e[1] for e in self.emitted[k][0].table if e[0] == "buffer"]
        if isinstance(step, ControlStep):
            return [*step.inputs, *step.outputs, *[f"area {k}"] * (k in self.inner)]
        return [step.a, step.b, step.c] if isinstance(step, GemmStep) else [*step.inputs, step.output]

    def carried(self, step: LoopStep | WhileStep) -> list[int]:
        """Bytes of a place for each carry."""
        return [-(-self.nbytes(name) // 64) * 64 for name in step.outputs[:step.spec.carries]]

    def _area(self, step: Any, inner: list[Memory]) -> int:
        inside = max([m.size for m in inner])
        if isinstance(step, WhileStep) or isinstance(step, LoopStep) and step.spec.length == SOME:
            return 64 + 2 * sum(self.carried(step)) + inside
        return inside + (sum(self.carried(step)) if isinstance(step, LoopStep) else 0)

    def _lifetimes(self) -> dict[str, tuple[int, int, int]]:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        external = {*self.schedule.inputs, *self.schedule.outputs, *self.tapes}
        for k, step in enumerate(self.schedule.steps):
            for name in self.touched(k, step):
                if name not in external:
                    first.setdefault(name, k)
                    last[name] = k
        return {name: (self.nbytes(name), at, last[name]) for name, at in first.items()}

    def nbytes(self, name: str) -> int:
        if name in self.areas:
            return self.areas[name]
        b = self.schedule.buffers[name]
        return b.size * b.dtype.itemsize * self.chunks.get(name, 1)


class Writer:
    """Writes the steps of a schedule into a plan.  slots: where its buffers are."""

    def __init__(self, plan: PlanBuilder, memory: Memory, slots: dict[str, Slot]) -> None:
        self.plan, self.memory, self.slots = plan, memory, slots

    def step(self, k: int, step: Any) -> None:
        if isinstance(step, (KernelStep, CallStep)):
            self._kernel(k, step)
        elif isinstance(step, LoopStep):
            self._loop(k, step)
        elif isinstance(step, BranchStep):
            self._branch(k, step)
        elif isinstance(step, WhileStep):
            self._while(k, step)
        elif isinstance(step, CountedStep):
            self._counted(k, step)
        else:
            assert isinstance(step, GemmStep)              # the others are made for GPUs only
            self._gemm(step)

    def steps(self) -> None:
        for k, step in enumerate(self.memory.schedule.steps):
            self.step(k, step)

    def _kernel(self, k: int, step: KernelStep | CallStep) -> None:
        emitted, address = self.memory.emitted[k]
        words: list[Any] = []
        for entry in emitted.table:
            if entry[0] == "buffer":
                words.append(self.slots[entry[1]])
            elif entry[0] in ("size", "address"):
                words.append(int(entry[1]))
            elif entry[0] == "function":
                words.append(libraries.function(entry[1]))
            else:
                words.append(const_word(entry[1], entry[2].code))
        name = step.host.prim.name if isinstance(step, CallStep) else "kernel"
        self.plan.kernel(address, self.plan.table(words), step.n, step.chunks, name=f"{name} {k}",
                         blas=any([entry[0] == "function" for entry in emitted.table]))

    def _gemm(self, s: GemmStep) -> None:
        size = s.dtype.itemsize
        a, b, c = (self.slots[name] + offset * size for name, offset in zip((s.a, s.b, s.c), s.offsets))
        self.plan.gemm(s.dtype.code, s.m, s.n, s.k, a, b, c, trans_a=s.trans_a, trans_b=s.trans_b, lda=s.lda, ldb=s.ldb,
                       ldc=s.ldc, batch=s.batch, stride_a=s.stride_a, stride_b=s.stride_b, stride_c=s.stride_c,
                       alpha=s.alpha, beta=s.beta, outer=s.outer)

    def _body(self, memory: Memory, area: Slot, places: dict[str, Slot]) -> Writer:
        temps = {name: area + offset for name, offset in memory.offsets.items()}
        return Writer(self.plan, memory, temps | places)

    def _loop(self, k: int, step: LoopStep) -> None:
        """A carry is in two places by turns, so that no turn writes what it reads; the last turn writes the result's."""
        spec, (body,), (memory,) = step.spec, step.bodies, self.memory.inner[k]
        m, n = spec.consts, spec.length
        area = self.slots[f"area {k}"]
        places = {name: self.slots[given] for name, given in zip(body.inputs[:m], step.inputs)}
        moving: list[Slot] = []
        if n == SOME:
            self._as_many(step, area, places, memory)
            return
        for j, nbytes in enumerate(self.memory.carried(step)):
            ends = (self.slots[step.outputs[j]], area)     # the turn's result, by how many turns are left (even, odd)
            last, other = ends[(n - 1) % 2], ends[n % 2]
            moving += [self.plan.turning(self.slots[step.inputs[m + j]], last, other), self.plan.turning(last, other, last)]
            places |= {body.inputs[m + j]: moving[-2], body.outputs[j]: moving[-1]}
            area += nbytes
        for name, given in _slices(step):
            b = body.buffers[name]
            stride = b.size * b.dtype.itemsize
            start = self.slots[given] + (n - 1) * stride * spec.reverse
            moving.append(self.plan.moving(start, -stride if spec.reverse else stride))
            places[name] = moving[-1]
        self.plan.loop(n, moving, self._body(memory, area, places).steps)

    def _as_many(self, step: LoopStep, area: Slot, places: dict[str, Slot], memory: Memory) -> None:
        """As many turns as are counted when it runs: carries go to and fro as in a `while`, slices lie on the tape."""
        spec, (body,) = step.spec, step.bodies
        copies: list[tuple[Slot, Slot, int]] = []
        moving: list[Slot] = []
        for j, nbytes in enumerate(self.memory.carried(step)):
            start = self.slots[step.inputs[spec.consts + j]]
            moving += self._to_and_fro(start, area, area + nbytes)
            places |= {body.inputs[spec.consts + j]: moving[-2], body.outputs[j]: moving[-1]}
            copies.append((self.slots[step.outputs[j]], moving[-2], self.memory.nbytes(step.outputs[j])))
            area += 2 * nbytes
        record = self.memory.record
        for name, given in _slices(step):
            start = self.plan.taped(self.memory.tapes[given], record if spec.reverse else 0)
            moving.append(self.plan.moving(start, -record if spec.reverse else record))
            places[name] = moving[-1]

        def end() -> None:
            for to, source, nbytes in copies:
                self.plan.copy(to, source, nbytes)

        self.plan.loop(self.slots[step.inputs[0]], moving, self._body(memory, area, places).steps, end=end)

    def _to_and_fro(self, start: Slot, there: Slot, back: Slot) -> tuple[Slot, Slot]:
        """A carry before and after a turn."""
        return self.plan.turning(start, there, back), self.plan.turning(there, back, there)

    def _counted(self, k: int, step: CountedStep) -> None:
        """Loops of as many turns as the first input says, over a tape of as many records."""
        (body,), (memory,) = step.bodies, self.memory.inner[k]
        places = {name: self.slots[given] for name, given in zip([*body.inputs, *body.outputs], [*step.inputs, *step.outputs])}
        inner = self._body(memory, self.slots[f"area {k}"], places)
        self.plan.tape(self.slots[step.inputs[0]], memory.record, inner.steps)

    def _while(self, k: int, step: WhileStep) -> None:
        """A carry goes to and fro between two places; wherever it is at the end, it is put into the result's."""
        m, names = step.spec.consts, [b.inputs for b in step.bodies]
        flag = self.slots[f"area {k}"]
        area = flag + 64
        places = [{n: self.slots[given] for n, given in zip(ns[:m], step.inputs)} for ns in names[:2]] + [{}]
        places[0][step.bodies[0].outputs[0]] = flag
        moving: list[Slot] = []
        for j, nbytes in enumerate(self.memory.carried(step)):
            moving += self._to_and_fro(self.slots[step.inputs[m + j]], area, area + nbytes)
            for known, name in zip(places, (names[0][m + j], names[1][m + j], names[2][j])):
                known[name] = moving[-2]
            places[1][step.bodies[1].outputs[j]] = moving[-1]
            places[2][step.bodies[2].outputs[j]] = self.slots[step.outputs[j]]
            area += 2 * nbytes
        test, turn, end = [self._body(inner, area, p).steps for inner, p in zip(self.memory.inner[k], places)]
        self.plan.loop(FOREVER, moving, turn, (flag, test), end)

    def _branch(self, k: int, step: BranchStep) -> None:
        flag, *given = [self.slots[name] for name in step.inputs]
        outs = [self.slots[name] for name in step.outputs]
        sides = [self._body(m, self.slots[f"area {k}"], dict(zip([*b.inputs, *b.outputs], [*given, *outs]))).steps
                 for b, m in zip(step.bodies, self.memory.inner[k])]
        self.plan.branch(flag, *sides)


def _slices(step: LoopStep) -> list[tuple[str, str]]:
    """What a turn reads and leaves as a slice of something: its name in the body and outside."""
    spec, (body,) = step.spec, step.bodies
    return [*zip(body.inputs[spec.consts + spec.carries:], step.inputs[spec.consts + spec.carries:]),
            *zip(body.outputs[spec.carries:], step.outputs[spec.carries:])]


class Builder:
    """Writes the plans of a schedule: one for each run of steps without a host step."""

    def __init__(self, schedule: Schedule, emitted: Kernels) -> None:
        self.schedule = schedule
        self.memory = Memory(schedule, emitted)
        self.host = hosted(schedule.steps)
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

    def parts(self) -> list[NativePlan | HostCall]:
        out: list[NativePlan | HostCall] = []
        pending = False
        for k, step in enumerate(self.schedule.steps):
            if hosted([step]):
                if pending:
                    out.append(self.plan.build())
                    self.plan, self.slots = self._begin()
                    pending = False
                out.append(HostCall(step, self))
                continue
            Writer(self.plan, self.memory, self.slots).step(k, step)
            pending = True
        if pending or not out:
            out.append(self.plan.build())
        return out


def const_word(value: Any, code: str) -> int:
    """A constant's slot: the bits of a double, or an int64 (see the kernel text's c_f32, c_f64, c_i64)."""
    return int(np.float64(value).view(np.int64)) if code in ("f32", "f64") else int(value)


def _seen(array: np.ndarray, a: Aval) -> np.ndarray:
    """Memory as a buffer of a schedule: complex numbers are pairs of real ones there."""
    if array.dtype.kind == "c" != a.dtype.np.kind:
        array = array.reshape(-1).view(a.dtype.np)
    return array.reshape(a.shape)


class HostCall:
    """What has no kernel: its NumPy reference, between native calls; a loop around such a thing turns in Python."""

    __slots__ = ("name", "fn", "inputs", "outputs")

    def __init__(self, step: Any, builder: Builder) -> None:  # a HostStep or ControlStep
        names = [*builder.schedule.inputs, *builder.schedule.outputs]

        def where(name: str, a: Aval) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
            if name in names:
                at = names.index(name)
                return lambda arrays: _seen(arrays[at], a)
            fixed = builder.view(name, a)
            return lambda arrays: fixed

        self.inputs = [where(n, a) for n, a in zip(step.inputs, step.input_avals)]
        if isinstance(step, HostStep):
            ref, params = step.prim.ref, step.params
            assert ref is not None
            self.name, self.fn = step.prim.name, lambda arrays: [ref(*arrays, *params)]
            self.outputs = [where(step.output, step.prim.infer(*step.input_avals, *params))]
        else:
            spec = step.spec
            self.name, self.fn = repr(spec), lambda arrays: spec.run(arrays, "compiled")
            self.outputs = [where(n, a) for n, a in zip(step.outputs, step.spec.avals)]

    def __call__(self, arrays: Sequence[np.ndarray]) -> None:
        for to, found in zip(self.outputs, self.fn([f(arrays) for f in self.inputs])):
            to(arrays)[...] = found


class NativeProgram:
    """A compiled graph.  Calls from several threads are safe: a plan that is busy runs on a clone."""

    __slots__ = ("parts", "pools", "plan", "address", "nbytes", "areas", "run", "_small", "_lock")

    def __init__(self, schedule: Schedule, emitted: Kernels, outputs: Sequence[Aval]) -> None:
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
            raise failure(status)
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
                    times.append((part.name, time.perf_counter() - start))
        return outs, [(name, seconds, nbytes) for (name, seconds), nbytes in zip(times, self.nbytes)]

    def _pieces(self, arrays: list[np.ndarray]) -> None:
        for part in self.parts:
            if isinstance(part, NativePlan):
                status = part.run(*arrays)
                if status != OK:
                    raise failure(status)
            else:
                part(arrays)
