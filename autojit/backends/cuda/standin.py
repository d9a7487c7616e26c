"""A driver without a device: host memory, kernels by the interpreter, products by NumPy, CUDA's rules about captures.

In: what `driver.Driver` takes.  Out: the same results and the same errors, and a log of the calls.  For tests, and for looking
at programs where no GPU is; never fast.

Addresses are those of the host's memory.  Each allocation knows its bounds; what is freed stays for a while, so that its use
has a name; fresh memory is full of 0xFF: NaN as floats, -1 as indices, no bool.
"""

from __future__ import annotations

import ctypes
import threading
import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import halves
from ...schedule.cost import MULTIPROCESSORS
from . import interpret
from .cells import STORAGE
from .driver import PUT, Driver, DriverError, OutOfMemory

ALIGN = 256
MEMORY = 4 << 30
FREED = 64 << 20                                          # bytes that are kept after they are freed, so that their use is told
POISON = 0xFF
LOG = 1 << 16


class Region:
    """Bytes that kernels may touch: of `alloc`, or adopted."""

    __slots__ = ("start", "data", "state", "users")

    def __init__(self, start: int, data: np.ndarray, state: str) -> None:
        self.start, self.data, self.state, self.users = start, data, state, 1


class Handle:
    """A loaded kernel."""

    __slots__ = ("entry", "text", "signature", "threads", "wide")

    def __init__(self, compiled: Any) -> None:
        self.entry = getattr(compiled, "entry", "kernel")
        self.text, self.signature, self.threads, self.wide = compiled.text, compiled.signature, compiled.threads, compiled.wide


class Graph:
    """Work that was captured: what to do, in order."""

    __slots__ = ("number", "work", "alive")

    def __init__(self, number: int, work: list[Callable[[], None]]) -> None:
        self.number, self.work, self.alive = number, work, True


class Standin(Driver):
    """`log`: the calls in order, as (name, what it was about ...); launches that a replay makes are not calls.

    `limit`: bytes that may be allocated.  ``fail("launch", after=2)`` has the third launch from now on fail.
    """

    def __init__(self, total_memory: int = MEMORY) -> None:
        self.name, self.capability, self.multiprocessors = "stand-in", (9, 0), MULTIPROCESSORS
        self.total_memory = self.limit = total_memory
        self.stream, self.lock, self.place = 0x5, threading.RLock(), (1, 0)
        self.log: deque[tuple[Any, ...]] = deque(maxlen=LOG)
        self.used = 0
        self._starts: list[int] = []
        self._regions: dict[int, Region] = {}
        self._freed: deque[Region] = deque()
        self._kept = 0
        self._captured: list[Callable[[], None]] | None = None
        self._graphs = 0
        self._late: list[tuple[np.ndarray, bytes]] = []   # copies to the host that nobody waited for
        self._faults: dict[str, tuple[int, Exception]] = {}
        self._handles: dict[tuple[Any, ...], Handle] = {}
        self._products = False                            # has there been one? cuBLAS allocates at its first

    # ------------------------------------------------------------------ for tests
    def fail(self, call: str, after: int = 0, error: Exception | None = None) -> None:
        """Have one call of that name raise, once `after` more have passed."""
        self._faults[call] = (after, error or DriverError(f"CUDA_ERROR_UNKNOWN: {call}, as the test wanted"))

    def calls(self, *names: str) -> list[tuple[Any, ...]]:
        """The log, of these names only."""
        return [c for c in self.log if c[0] in names]

    def _called(self, name: str, *about: Any, capturable: bool = False) -> None:
        if name in self._faults:
            left, error = self._faults.pop(name)
            if not left:
                raise error
            self._faults[name] = (left - 1, error)
        if self._captured is not None and not capturable:
            raise DriverError(f"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: {name} while work is captured")
        self.log.append((name, *about))

    def _do(self, work: Callable[[], None]) -> None:
        """Now, or at each replay."""
        if self._captured is not None:
            self._captured.append(work)
        else:
            work()

    # ------------------------------------------------------------------ memory
    def alloc(self, nbytes: int) -> int:
        with self.lock:
            self._called("alloc", nbytes)
            size = max(1, nbytes)
            if self.used + size > self.limit:
                raise OutOfMemory(nbytes, self.limit - self.used, self.total_memory)
            raw = np.empty(size + ALIGN, np.uint8)
            skip = -raw.ctypes.data % ALIGN
            data = raw[skip:skip + size]
            data[:] = POISON
            self.used += size
            self._add(Region(data.ctypes.data, data, "live"))
            return int(data.ctypes.data)

    def _add(self, region: Region) -> None:
        insort(self._starts, region.start)
        self._regions[region.start] = region

    def _remove(self, region: Region) -> None:
        del self._regions[region.start]
        self._starts.remove(region.start)

    def free(self, ptr: int) -> None:
        with self.lock:
            self._called("free", ptr)
            region = self._regions.get(ptr)
            if region is None or region.state == "adopted":
                raise DriverError(f"CUDA_ERROR_INVALID_VALUE: free of {ptr:#x}, which no alloc gave")
            if region.state == "freed":
                raise DriverError(f"CUDA_ERROR_INVALID_VALUE: {ptr:#x} is freed twice")
            region.state = "freed"
            region.data[:] = POISON
            self.used -= region.data.size
            self._freed.append(region)
            self._kept += region.data.size
            while self._kept > FREED:
                old = self._freed.popleft()
                self._kept -= old.data.size
                self._remove(old)

    def adopt(self, ptr: int, nbytes: int) -> None:
        with self.lock:
            region = self._regions.get(ptr)
            if region is not None and region.state == "adopted":
                region.users += 1
                return
            if region is not None or not nbytes:          # memory of our own
                return
            self._add(Region(ptr, np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(ptr)), "adopted"))

    def disown(self, ptr: int) -> None:
        with self.lock:
            region = self._regions.get(ptr)
            if region is None or region.state != "adopted":
                return
            region.users -= 1
            if not region.users:
                self._remove(region)

    def bytes_at(self, ptr: int, nbytes: int | None, what: str) -> np.ndarray:
        """The bytes of an address, to the end of what it lies in where no number is given.  DriverError for what is freed, and
        for what lies outside."""
        if nbytes == 0:
            return np.empty(0, np.uint8)
        at = bisect_right(self._starts, ptr) - 1
        region = self._regions[self._starts[at]] if at >= 0 else None
        offset = ptr - region.start if region is not None else 0
        if region is None or offset >= region.data.size:
            raise DriverError(f"CUDA_ERROR_ILLEGAL_ADDRESS: {what}: {ptr:#x} is no memory of the device")
        if region.state == "freed":
            raise DriverError(f"CUDA_ERROR_ILLEGAL_ADDRESS: {what}: {ptr:#x} was freed")
        left = region.data.size - offset
        if nbytes is not None and nbytes > left:
            raise DriverError(f"CUDA_ERROR_ILLEGAL_ADDRESS: {what}: {nbytes} bytes from {ptr:#x}, where {left} are left of "
                              f"{region.data.size}")
        return region.data[offset:offset + (left if nbytes is None else nbytes)]

    @staticmethod
    def _host(host: np.ndarray) -> np.ndarray:
        if not host.flags.c_contiguous:
            raise DriverError("CUDA_ERROR_INVALID_VALUE: the host's array is not contiguous")
        return host.reshape(-1).view(np.uint8)

    def copy_in(self, ptr: int, host: np.ndarray, wait: bool = True) -> None:
        with self.lock:
            self._called("copy_in", ptr, host.nbytes, wait)
            self.bytes_at(ptr, host.nbytes, "copy_in")[:] = self._host(host)
            if wait:
                self._deliver()

    def copy_out(self, host: np.ndarray, ptr: int, wait: bool = True) -> None:
        with self.lock:
            self._called("copy_out", ptr, host.nbytes, wait)
            self._late.append((self._host(host), self.bytes_at(ptr, host.nbytes, "copy_out").tobytes()))
            if wait:
                self._deliver()
            elif host.nbytes:
                self._host(host)[:] = POISON              # who does not wait sees nothing

    def _deliver(self) -> None:
        for host, data in self._late:
            host[:] = np.frombuffer(data, np.uint8)
        self._late.clear()

    def put(self, ptr: int, data: bytes) -> None:
        if len(data) > PUT:
            raise ValueError(f"put takes {PUT} bytes at most, not {len(data)}")
        with self.lock:
            self._called("put", ptr, len(data))
            self.bytes_at(ptr, len(data), "put")[:] = np.frombuffer(data, np.uint8)

    def copy(self, dst: int, src: int, nbytes: int) -> None:
        with self.lock:
            self._called("copy", dst, src, nbytes, capturable=True)

            def work() -> None:
                self.bytes_at(dst, nbytes, "copy to")[:] = self.bytes_at(src, nbytes, "copy from")
            self._do(work)

    def fill(self, ptr: int, byte: int, nbytes: int) -> None:
        with self.lock:
            self._called("fill", ptr, byte, nbytes, capturable=True)

            def work() -> None:
                self.bytes_at(ptr, nbytes, "fill")[:] = byte
            self._do(work)

    def pinned(self, nbytes: int) -> np.ndarray:
        with self.lock:
            self._called("pinned", nbytes)
            return np.full(nbytes, POISON, np.uint8)

    def memory_info(self) -> tuple[int, int]:
        return self.limit - self.used, self.total_memory

    def pool_bytes(self) -> int:
        return self.used

    def trim(self) -> None:
        with self.lock:
            self._called("trim")

    # ------------------------------------------------------------------ work
    def load(self, compiled: Any) -> Handle:
        with self.lock:
            key = (compiled.text, *compiled.signature, compiled.threads, compiled.wide)
            found = self._handles.get(key)
            if found is None:
                self._called("load", getattr(compiled, "entry", "kernel"))
                found = self._handles[key] = Handle(compiled)
            return found

    def launch(self, handle: Handle, blocks: int, threads: int, args: Sequence[tuple[Any, ...]]) -> None:
        with self.lock:
            self._called("launch", handle.entry, blocks, threads, tuple(args), capturable=True)
            if not 1 <= blocks < 1 << 31 or threads != handle.threads:
                raise DriverError(f"CUDA_ERROR_INVALID_VALUE: launch of {blocks} blocks of {threads} threads; the kernel is "
                                  f"made for {handle.threads}")
            codes = tuple([a[0] for a in args])
            if codes != tuple(handle.signature):
                raise DriverError(f"CUDA_ERROR_INVALID_VALUE: launch with {codes}, the kernel takes {tuple(handle.signature)}")
            fixed = tuple([tuple(a) for a in args])
            self._do(lambda: self._launched(handle, blocks, fixed))

    def _launched(self, handle: Handle, blocks: int, args: Sequence[tuple[Any, ...]]) -> None:
        values = [self._array(a) if a[0][0] == "*" else a[1] for a in args]
        try:
            interpret.run(handle.text, handle.signature, values, blocks, handle.threads, wide=handle.wide, double=True)
        except interpret.KernelFault as fault:
            fault.add_note(handle.text)
            raise

    def _array(self, arg: tuple[Any, ...]) -> np.ndarray:
        """The buffer of an argument (code, address, bytes); without bytes, what is left of its allocation."""
        code, ptr, *nbytes = arg
        dtype = np.dtype(STORAGE[code[1:]])
        if ptr % dtype.itemsize:
            raise DriverError(f"CUDA_ERROR_MISALIGNED_ADDRESS: {ptr:#x} for {code}")
        raw = self.bytes_at(ptr, nbytes[0] if nbytes else None, f"a buffer {code}")
        return raw[:raw.size // dtype.itemsize * dtype.itemsize].view(dtype)

    def gemm(self, record: Any, a: int, b: int, c: int) -> None:
        with self.lock:
            if not self._products and self._captured is not None:
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: the first matrix product while work is captured")
            self._products = True
            self._called("gemm", record.m, record.n, record.k, record.batch * record.outer[0], capturable=True)
            self._do(lambda: self._multiplied(record, a, b, c))

    def _multiplied(self, r: Any, a: int, b: int, c: int) -> None:
        size, result = r.dtype.itemsize, r.result or r.dtype
        count, step_a, step_b, step_c = r.outer
        for turn in range(count if r.m and r.n else 0):
            x = self._matrices(r.dtype.code, a + turn * step_a * size, r.stride_a, r.batch, *(
                (r.k, r.m) if r.trans_a else (r.m, r.k)), r.lda, "A")
            y = self._matrices(r.dtype.code, b + turn * step_b * size, r.stride_b, r.batch, *(
                (r.n, r.k) if r.trans_b else (r.k, r.n)), r.ldb, "B")
            z = self._matrices(result.code, c + turn * step_c * result.itemsize, r.stride_c, r.batch, r.m, r.n, r.ldc, "C")
            left, right = (_wide(m, r.dtype.code) for m in (x, y))
            out = (left.swapaxes(1, 2) if r.trans_a else left) @ (right.swapaxes(1, 2) if r.trans_b else right)
            out = out * out.dtype.type(r.alpha)
            if r.beta:
                out = out + _wide(z, result.code) * out.dtype.type(r.beta)
            z[...] = _narrow(out, result.code)

    def _matrices(self, code: str, ptr: int, stride: int, batch: int, rows: int, columns: int, ld: int,
                  what: str) -> np.ndarray:
        """`batch` matrices, as they lie."""
        if not batch * rows * columns:
            return np.empty((batch, rows, columns), STORAGE[code])
        if ld < columns:
            raise DriverError(f"CUBLAS_STATUS_INVALID_VALUE: rows of {what} are {columns} long and {ld} apart")
        dtype = np.dtype(STORAGE[code])
        extent = (batch - 1) * stride + (rows - 1) * ld + columns
        flat = self.bytes_at(ptr, extent * dtype.itemsize, f"{what} of a matrix product").view(dtype)
        return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), tuple(
            [s * dtype.itemsize for s in (stride, ld, 1)]))

    # ------------------------------------------------------------------ graphs
    def begin_capture(self) -> None:
        self.lock.acquire()                               # until the end, as a GPU's driver does
        try:
            self._called("begin_capture")
            self._captured = []
        except BaseException:
            self.lock.release()
            raise

    def end_capture(self, into: Any = None) -> Graph:
        work, self._captured = self._captured, None
        if work is None:
            raise DriverError("CUDA_ERROR_ILLEGAL_STATE: no capture was begun")
        try:
            if into is not None:
                into.alive = False
            self._graphs += 1
            self._called("end_capture", self._graphs, len(work))
            return Graph(self._graphs, work)
        finally:
            self.lock.release()

    def replay(self, graph: Graph) -> None:
        with self.lock:
            self._called("replay", graph.number, len(graph.work))
            self._alive(graph)
            for work in graph.work:
                work()

    def drop(self, graph: Graph) -> None:
        with self.lock:
            self._called("drop", graph.number, capturable=True)
            self._alive(graph)
            graph.alive = False
            graph.work = []

    @staticmethod
    def _alive(graph: Graph) -> None:
        if not graph.alive:
            raise DriverError(f"CUDA_ERROR_INVALID_HANDLE: graph {graph.number} was dropped")

    # ------------------------------------------------------------------ time
    def synchronize(self) -> None:
        with self.lock:
            self._called("synchronize")
            self._deliver()

    def event(self) -> float:
        with self.lock:
            self._called("event")
            return time.perf_counter()

    def elapsed(self, start: float, end: float) -> float:
        return (end - start) * 1e3

    def done(self, event: float) -> bool:
        with self.lock:
            self._deliver()
            return True

    def order(self, before: int, after: int) -> None:
        with self.lock:
            self._called("order", before, after)


def _wide(x: np.ndarray, code: str) -> np.ndarray:
    """What a product computes with."""
    if code == "bf16":
        return halves.values(x)
    return x.astype(np.float32) if code == "f16" else x


def _narrow(x: np.ndarray, code: str) -> np.ndarray:
    if code == "bf16":
        from .lanes import words
        rounded: np.ndarray = words()["to_bf16"](None, np.ascontiguousarray(x))
        return rounded
    return x.astype(np.float16) if code == "f16" else x
