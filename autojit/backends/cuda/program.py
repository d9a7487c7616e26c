"""A schedule as one thing that can be called with arrays of the device.

In: a Schedule, its launches, loaded kernels.  Out: `CudaProgram`: DeviceArrays (and 0-d NumPy arrays, for numbers) in, fresh
DeviceArrays out.  Never compiles, never waits for the device.

Arrays' addresses stand in a CUDA graph.  So a program keeps a few graphs, one for each set of addresses: in a loop the same
ones come back, since results take the places of earlier results that nobody holds any more.  A set seen for the first time
is launched step by step (which also loads what the driver loads late); seen a second time it is captured, and replayed from
then on: one launch a call.  Where a program has all the graphs it may have, the one not used for longest is changed into the
new one.  A single kernel needs no graph.
Numbers of the host lie in a little memory of the program's own, written before the launch when they have changed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...config import config
from ...errors import explain
from ...ir.aval import Aval
from ...schedule.loops import GemmStep, KernelStep, Schedule, written
from ...schedule.memory import place
from ..counts import ALONE
from .calling import Numbers, caller
from .driver import DriverError
from .emitted import Emitted, Launches
from .memory import DeviceArray, Memory

ALIGN = 256                                               # bytes: places of temporaries
VECTOR = 16                                               # bytes: what a text with wide loads needs
GRAPHS = 8                                                # graphs of a program
SEEN = 256                                                # sets of addresses that are remembered without a graph
POOLED, LARGE = 3, 16 << 20                               # arrays kept for an output; one less where they are larger
HINT = ("kernels run after the call that asked for them, so an earlier one may be at fault: aj.cuda.synchronize() after each "
        "call finds it")


def width(code: str) -> int:
    """Bytes of an element in memory, by its dtype's code."""
    return 1 if code == "b1" else int(code.lstrip("bfiu")) // 8


class Outputs:
    """Arrays for one output, on memory that is taken back when nobody else holds it: few addresses, so few graphs."""

    __slots__ = ("memory", "shape", "dtype", "most", "kept", "__weakref__")

    def __init__(self, memory: Memory, a: Aval) -> None:
        self.memory, self.shape, self.dtype = memory, a.shape, a.dtype
        self.most = POOLED - (a.size * a.dtype.itemsize > LARGE)
        self.kept: list[Any] = []
        memory.spares.add(self)

    def take(self) -> DeviceArray:
        for block in self.kept:
            if sys.getrefcount(block) == ALONE:
                return DeviceArray(block.ptr, self.shape, self.dtype, block, self.memory)
        made = self.memory.empty(self.shape, self.dtype)
        if len(self.kept) < self.most and self.memory.keeps(made.owner.nbytes):
            self.kept.append(made.owner)
        return made

    def idle(self) -> int:
        """Bytes that are kept and used by nobody."""
        total = 0
        for block in self.kept:
            if sys.getrefcount(block) == ALONE:
                total += block.nbytes
        return total

    def clear(self) -> None:
        self.kept = []


# ------------------------------------------------------------------------------------------------ places
def touched(step: Any, launches: Launches | None) -> list[str]:
    """Names of the buffers and areas of a step."""
    if isinstance(step, GemmStep):
        return [step.a, step.b, step.c]
    assert launches is not None
    return [e[1] for one in launches.launches for e in one.table if e[0] == "buffer"]


def sizes(schedule: Schedule, emitted: Mapping[int, Launches]) -> dict[str, int]:
    """Bytes of each buffer and area; of what each chunk has for itself, of all chunks'."""
    chunks: dict[str, int] = {}
    for step in schedule.steps:
        if isinstance(step, KernelStep):
            for name in written(step.kernel.body):
                chunks[name] = max(chunks.get(name, 1), step.chunks)
    out = {b.name: b.size * b.dtype.itemsize * (chunks.get(b.name, 1) if b.per_chunk else 1) for b in schedule.buffers.values()}
    out.update({a.name: a.size * width(a.code) for made in emitted.values() for a in made.areas})
    return out


def places(schedule: Schedule, emitted: Mapping[int, Launches]) -> tuple[dict[str, int], int]:
    """Offsets of all temporaries in one arena, and its size."""
    external = {*schedule.inputs, *schedule.outputs}
    nbytes = sizes(schedule, emitted)
    lives: dict[str, tuple[int, int, int]] = {}
    for k, step in enumerate(schedule.steps):
        for name in touched(step, emitted.get(k)):
            if name not in external:
                lives[name] = (nbytes[name], lives[name][1] if name in lives else k, k)
    return place(lives, ALIGN)


# ------------------------------------------------------------------------------------------------ steps
class Where:
    """The buffers of a program: slots of a call's arrays, fixed addresses of the others, bytes of all."""

    __slots__ = ("slots", "fixed", "nbytes")

    def __init__(self, slots: Mapping[str, int], fixed: Mapping[str, int], nbytes: Mapping[str, int]) -> None:
        self.slots, self.fixed, self.nbytes = slots, fixed, nbytes


def rounded(value: Any) -> float:
    """A number as float32 has it: what is too large is infinite."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


class Launch:
    """A kernel with its arguments; `run` launches it with a call's addresses."""

    __slots__ = ("run", "name")

    def __init__(self, driver: Any, handle: Any, emitted: Emitted, step: Any, where: Where, name: str) -> None:
        args: list[tuple[Any, ...]] = []
        slots: list[tuple[int, int]] = []
        for k, (code, entry) in enumerate(zip(emitted.signature, emitted.table, strict=True)):
            if entry[0] == "buffer":
                if entry[1] in where.slots:
                    slots.append((k, where.slots[entry[1]]))
                args.append((code, where.fixed.get(entry[1], 0), where.nbytes[entry[1]]))
            else:
                value = step.n if entry[0] == "rows" else step.chunks if entry[0] == "chunks" else entry[1]
                args.append((code, rounded(value) if code == "f32" else value))
        self.name = name
        self.run: Callable[[Sequence[int]], None] = driver.bind(handle, emitted.blocks, emitted.threads, args, slots)


class Product:
    """A matrix product: for each operand an address, or a byte offset from which pointer."""

    __slots__ = ("driver", "step", "operands", "name")

    def __init__(self, driver: Any, step: GemmStep, where: Where) -> None:
        self.driver, self.step, self.name = driver, step, f"matrix product {step.m}x{step.n}x{step.k}"
        size = step.dtype.itemsize
        self.operands = [(where.slots.get(name, -1), offset * size + where.fixed.get(name, 0))
                         for name, offset in zip((step.a, step.b, step.c), step.offsets)]

    def run(self, pointers: Sequence[int]) -> None:
        a, b, c = [offset if slot < 0 else pointers[slot] + offset for slot, offset in self.operands]
        self.driver.gemm(self.step, a, b, c)


def _drop(driver: Any, graph: Any) -> None:
    driver.drop(graph)                                    # looked up late: in a child process it is no more


class CudaProgram:
    """A program on the device.  Calls from several threads are safe: they go to one stream, one after the other."""

    def __init__(self, memory: Memory, schedule: Schedule, emitted: Mapping[int, Launches],
                 handles: Mapping[int, Sequence[Any]], outputs: Sequence[Aval]) -> None:
        self.memory, self.driver = memory, memory.driver
        offsets, total = places(schedule, emitted)
        self.arena = memory.arena(total) if total else None
        base = self.arena.ptr if self.arena is not None else 0
        where = Where({name: k for k, name in enumerate((*schedule.inputs, *schedule.outputs))},
                      {name: base + offset for name, offset in offsets.items()}, sizes(schedule, emitted))
        self.steps: list[Launch | Product] = []
        self.nbytes: list[int] = []                       # of what a step's launches touch, counted with the first
        for k, step in enumerate(schedule.steps):
            made: list[Launch | Product] = [Product(self.driver, step, where)] if isinstance(step, GemmStep) else [
                Launch(self.driver, handle, one, step, where, f"kernel {k}")
                for one, handle in zip(emitted[k].launches, handles[k], strict=True) if one.blocks]
            nbytes = sum([where.nbytes[n] for n in dict.fromkeys(touched(step, emitted.get(k)))])
            self.steps += made
            self.nbytes += [nbytes] + [0] * (len(made) - 1) if made else []
        wide = {name for step in emitted.values() for one in step.launches for name in one.vector}
        self.aligned = [k for k, name in enumerate(schedule.inputs) if name in wide]
        self.pools = [Outputs(memory, a) for a in outputs]
        self.graphs: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.seen: dict[tuple[int, ...], None] = {}
        self.products = any([isinstance(s, Product) for s in self.steps])
        self.precision = config.matmul_precision
        self.numbers = Numbers(memory, [schedule.buffers[name] for name in schedule.inputs])
        self.call = caller(self, len(schedule.inputs))

    def __call__(self, arrays: Sequence[Any]) -> list[DeviceArray]:
        """DeviceArrays for the graph's inputs, 0-d NumPy arrays where they are numbers; fresh DeviceArrays for its outputs.
        RuntimeError with CUDA's name of what went wrong."""
        try:
            return self.call(self, arrays)
        except DriverError as e:
            raise explain(e, hint=HINT) from None

    def first(self, key: tuple[int, ...], arrays: Sequence[Any]) -> None:
        """A set of addresses without a graph."""
        copies = {k: self.memory.copy(arrays[k]) for k in self.aligned if arrays[k].ptr % VECTOR}
        if copies:                                        # what others made may lie anywhere: as their copies then
            key = (*[copies[k].ptr if k in copies else ptr for k, ptr in enumerate(key)],)
        graph = self.graphs.get(key)
        if len(self.steps) == 1 and not self.products:
            self._run(key)
        elif graph is not None:
            self.graphs.move_to_end(key)
            self.driver.replay(graph)
        elif key in self.seen:
            del self.seen[key]
            self.driver.replay(self._captured(key))
        else:
            if len(self.seen) >= SEEN:
                self.seen.clear()
            self.seen[key] = None
            self._run(key)

    def _run(self, pointers: Sequence[int]) -> None:
        for step in self.steps:
            step.run(pointers)

    def _captured(self, key: tuple[int, ...]) -> Any:
        old = self.graphs.popitem(last=False)[1] if len(self.graphs) >= GRAPHS else None
        self.driver.begin_capture()
        try:
            self._run(key)
        except BaseException:
            self.driver.drop(self.driver.end_capture(old))
            raise
        graph = self.graphs[key] = self.driver.end_capture(old)
        return graph

    def forget(self) -> None:
        """Products are computed another way from now on."""
        self.precision = config.matmul_precision
        for graph in self.graphs.values():
            self.driver.drop(graph)
        self.graphs.clear()

    def profile(self, arrays: Sequence[Any]) -> tuple[list[DeviceArray], list[tuple[str, float, int]]]:
        """Run once, step by step: results, and (name, seconds, bytes of the buffers it touches) of each launch; where a step
        has several, the first has the bytes."""
        driver = self.driver
        with driver.lock:
            given = list(arrays)
            for at, (k, _) in enumerate(self.numbers.places):
                if not isinstance(given[k], DeviceArray):
                    given[k] = self.numbers.place(at, given[k])
            if self.numbers.changed:
                self.numbers.send()
            outs = [pool.take() for pool in self.pools]
            given = [self.memory.copy(a) if k in self.aligned and a.ptr % VECTOR else a for k, a in enumerate(given)]
            pointers = [a.ptr for a in (*given, *outs)]
            marks = [driver.event()]
            for step in self.steps:
                step.run(pointers)
                marks.append(driver.event())
            driver.synchronize()
        seconds = [driver.elapsed(a, b) / 1e3 for a, b in zip(marks, marks[1:])]
        return outs, [(s.name, t, nbytes) for s, t, nbytes in zip(self.steps, seconds, self.nbytes)]

    def __del__(self, drop: Any = partial(partial, _drop)) -> None:        # no globals: they may be gone
        for graph in getattr(self, "graphs", {}).values():
            self.memory.later.append(drop(self.driver, graph))
