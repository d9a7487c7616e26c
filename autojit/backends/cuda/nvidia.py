"""A GPU, through cuda.bindings: one context, one stream, one pool of memory.

In: addresses, cubins, numbers.  Out: what `driver.Driver` promises.  Never imports Numba or cuda.core: a call here is one call
of the driver and a microsecond.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import driver as cu

from .driver import PUT, Driver, DriverError, OutOfMemory

if TYPE_CHECKING:
    from .blas import Blas

_OK = cu.CUresult.CUDA_SUCCESS
_FULL = cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY
_BUSY = cu.CUresult.CUDA_ERROR_NOT_READY
_ATTRIBUTE = cu.CUdevice_attribute
CARRIED = 256                                             # small uploads whose host memory is kept
_CODES = {"f32": "f4x", "f64": "d", "i64": "q", "b1": "?7x", "i32": "i4x", "u32": "I4x"}


def failure(status: Any) -> DriverError:
    """The exception of a status."""
    name, text = cu.cuGetErrorName(status)[1], cu.cuGetErrorString(status)[1]
    return DriverError(f"{(name or b'CUDA_ERROR').decode()}: {(text or b'unknown').decode()}")


def checked(result: tuple[Any, ...]) -> Any:
    """What a call gives behind its status."""
    if result[0] != _OK:
        raise failure(result[0])
    return result[1] if len(result) == 2 else result[1:]


class Arguments:
    """Eight bytes for each argument of a launch, and the addresses of all as CUDA wants them."""

    __slots__ = ("words", "pointers", "address")

    def __init__(self, count: int) -> None:
        self.words = (ctypes.c_uint64 * max(1, count))()
        base = ctypes.addressof(self.words)
        self.pointers = (ctypes.c_void_p * max(1, count))(*[base + 8 * k for k in range(count)])
        self.address = ctypes.addressof(self.pointers)


class Kernel:
    """A function of a loaded cubin, and the place where its arguments are written before a launch."""

    __slots__ = ("function", "module", "pack", "arguments", "count")

    def __init__(self, module: Any, function: Any, signature: Sequence[str], wide: bool) -> None:
        self.module, self.function, self.count = module, function, len(signature)
        codes = ["Q" if c[0] == "*" else ("q" if wide else "i4x") if c == "ix" else _CODES[c] for c in signature]
        self.pack = struct.Struct("<" + "".join(codes)).pack_into
        self.arguments = Arguments(self.count)


class Event:
    """A mark in a stream."""

    __slots__ = ("handle",)

    def __init__(self, stream: Any, timed: bool) -> None:
        flags = cu.CUevent_flags.CU_EVENT_DEFAULT if timed else cu.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self.handle = checked(cu.cuEventCreate(int(flags)))
        checked(cu.cuEventRecord(self.handle, stream))

    def __del__(self, destroy: Any = cu.cuEventDestroy, process: Any = os.getpid, own: int = os.getpid()) -> None:
        if hasattr(self, "handle") and process() == own:  # not in a child process
            destroy(self.handle)


class Nvidia(Driver):
    """Device `device` of this machine.  Unavailable and DriverError say what is wrong with it."""

    def __init__(self, device: int = 0) -> None:
        checked(cu.cuInit(0))
        dev = checked(cu.cuDeviceGet(device))
        self.place, self.lock = (2, device), threading.RLock()
        self.name = checked(cu.cuDeviceGetName(128, dev)).split(b"\0")[0].decode()
        self.capability = (self._attribute(dev, _ATTRIBUTE.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                           self._attribute(dev, _ATTRIBUTE.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
        self.multiprocessors = self._attribute(dev, _ATTRIBUTE.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.total_memory = int(checked(cu.cuDeviceTotalMem(dev)))
        self._local = threading.local()
        self._context = checked(cu.cuDevicePrimaryCtxRetain(dev))       # what torch, CuPy and Numba use too
        self._enter()
        self._stream = checked(cu.cuStreamCreate(int(cu.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        self.stream = int(self._stream)
        self._pool = self._make_pool(device)
        self._capturing = False
        self._carried: deque[Any] = deque(maxlen=CARRIED)
        self._kernels: dict[str, Kernel] = {}
        self._blas: Blas | None = None

    @staticmethod
    def _attribute(dev: Any, which: Any) -> int:
        return int(checked(cu.cuDeviceGetAttribute(which, dev)))

    @staticmethod
    def _make_pool(device: int) -> Any:
        """A pool of our own that keeps what is freed: the default one is shared with other libraries."""
        props = cu.CUmemPoolProps()
        props.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        props.handleTypes = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_NONE
        props.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        props.location.id = device
        pool = checked(cu.cuMemPoolCreate(props))
        threshold = cu.cuuint64_t((1 << 64) - 1)
        checked(cu.cuMemPoolSetAttribute(pool, cu.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, threshold))
        return pool

    def _enter(self) -> None:
        """The context is a thread's own affair."""
        checked(cu.cuCtxSetCurrent(self._context))
        self._local.entered = True

    def _ready(self, what: str = "") -> None:
        """`what`: a call that no capture can write down."""
        if not hasattr(self._local, "entered"):
            self._enter()
        if what and self._capturing:
            raise DriverError(f"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: {what} while work is captured")

    # ------------------------------------------------------------------ memory
    def alloc(self, nbytes: int) -> int:
        with self.lock:
            self._ready("alloc")
            status, ptr = cu.cuMemAllocFromPoolAsync(max(1, nbytes), self._pool, self._stream)
            if status == _FULL:
                raise OutOfMemory(nbytes, *self.memory_info())
            if status != _OK:
                raise failure(status)
            return int(ptr)

    def free(self, ptr: int) -> None:
        with self.lock:
            self._ready("free")
            checked(cu.cuMemFreeAsync(ptr, self._stream))

    def copy_in(self, ptr: int, host: np.ndarray, wait: bool = True) -> None:
        with self.lock:
            self._ready("copy_in")
            checked(cu.cuMemcpyHtoDAsync(ptr, host.ctypes.data, host.nbytes, self._stream))
        if wait:
            self.synchronize()

    def copy_out(self, host: np.ndarray, ptr: int, wait: bool = True) -> None:
        with self.lock:
            self._ready("copy_out")
            checked(cu.cuMemcpyDtoHAsync(host.ctypes.data, ptr, host.nbytes, self._stream))
        if wait:
            self.synchronize()

    def put(self, ptr: int, data: bytes) -> None:
        if len(data) > PUT:
            raise ValueError(f"put takes {PUT} bytes at most, not {len(data)}")
        with self.lock:
            self._ready("put")
            host = ctypes.create_string_buffer(data, len(data))         # not pinned: CUDA copies it before it returns,
            self._carried.append(host)                    # but where the GPU shares the host's pages it need not
            checked(cu.cuMemcpyHtoDAsync(ptr, ctypes.addressof(host), len(data), self._stream))

    def copy(self, dst: int, src: int, nbytes: int) -> None:
        with self.lock:
            self._ready()
            checked(cu.cuMemcpyDtoDAsync(dst, src, nbytes, self._stream))

    def fill(self, ptr: int, byte: int, nbytes: int) -> None:
        with self.lock:
            self._ready()
            checked(cu.cuMemsetD8Async(ptr, byte, nbytes, self._stream))

    def pinned(self, nbytes: int) -> np.ndarray:
        with self.lock:
            self._ready("pinned")
            address = checked(cu.cuMemHostAlloc(nbytes, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(int(address)))

    def memory_info(self) -> tuple[int, int]:
        self._ready()
        free, total = checked(cu.cuMemGetInfo())
        return int(free), int(total)

    def pool_bytes(self) -> int:
        self._ready()
        return int(checked(cu.cuMemPoolGetAttribute(
            self._pool, cu.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)))

    def trim(self) -> None:
        with self.lock:
            self._ready("trim")
            checked(cu.cuMemPoolTrimTo(self._pool, 0))

    # ------------------------------------------------------------------ work
    def load(self, compiled: Any) -> Kernel:
        with self.lock:
            found = self._kernels.get(compiled.entry)
            if found is None:
                self._ready("load")
                module = checked(cu.cuModuleLoadData(compiled.cubin))
                function = checked(cu.cuModuleGetFunction(module, compiled.entry.encode()))
                found = self._kernels[compiled.entry] = Kernel(module, function, compiled.signature, compiled.wide)
            return found

    def launch(self, handle: Kernel, blocks: int, threads: int, args: Sequence[tuple[Any, ...]]) -> None:
        with self.lock:
            self._ready()
            handle.pack(handle.arguments.words, 0, *[a[1] for a in args])
            status = cu.cuLaunchKernel(handle.function, blocks, 1, 1, threads, 1, 1, 0, self._stream,
                                       handle.arguments.address, 0)[0]
            if status != _OK:
                raise failure(status)

    def bind(self, handle: Kernel, blocks: int, threads: int, args: Sequence[tuple[Any, ...]],
             slots: Sequence[tuple[int, int]]) -> Callable[[Sequence[int]], None]:
        own = Arguments(handle.count)                     # written once, but for the addresses
        handle.pack(own.words, 0, *[a[1] for a in args])
        words, function, stream, local, start = own.words, handle.function, self._stream, self._local, cu.cuLaunchKernel

        def launch(pointers: Sequence[int]) -> None:
            if not hasattr(local, "entered"):
                self._enter()
            for k, slot in slots:
                words[k] = pointers[slot]
            status = start(function, blocks, 1, 1, threads, 1, 1, 0, stream, own.address, 0)[0]
            if status != _OK:
                raise failure(status)
        return launch

    def gemm(self, record: Any, a: int, b: int, c: int) -> None:
        with self.lock:
            self._ready()
            if self._blas is None:
                from .blas import Blas
                self._ready("the first matrix product")
                self._blas = Blas(self)
            self._blas.gemm(record, a, b, c)

    # ------------------------------------------------------------------ graphs
    def begin_capture(self) -> None:
        self.lock.acquire()                               # until the end: what other threads launch is none of it
        try:
            self._ready("begin_capture")
            checked(cu.cuStreamBeginCapture(self._stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
            self._capturing = True
        except BaseException:
            self.lock.release()
            raise

    def end_capture(self, into: Any = None) -> Any:
        try:
            self._capturing = False
            graph = checked(cu.cuStreamEndCapture(self._stream))
            try:
                return self._executable(graph, into)
            finally:
                checked(cu.cuGraphDestroy(graph))
        finally:
            self.lock.release()

    def _executable(self, graph: Any, into: Any) -> Any:
        if into is not None:
            if cu.cuGraphExecUpdate(into, graph)[0] == _OK:
                return into
            checked(cu.cuGraphExecDestroy(into))          # another library may have chosen other kernels: made anew
        made = checked(cu.cuGraphInstantiate(graph, 0))
        checked(cu.cuGraphUpload(made, self._stream))
        return made

    def replay(self, graph: Any) -> None:
        if not hasattr(self._local, "entered"):
            self._enter()
        status = cu.cuGraphLaunch(graph, self._stream)[0]
        if status != _OK:
            raise failure(status)

    def drop(self, graph: Any) -> None:
        self._ready()
        checked(cu.cuGraphExecDestroy(graph))

    # ------------------------------------------------------------------ time
    def synchronize(self) -> None:
        self._ready("synchronize")
        checked(cu.cuStreamSynchronize(self._stream))

    def settle(self) -> None:
        self._ready("settle")
        checked(cu.cuCtxSynchronize())

    def event(self) -> Event:
        with self.lock:
            self._ready("event")
            return Event(self._stream, True)

    def elapsed(self, start: Event, end: Event) -> float:
        return float(checked(cu.cuEventElapsedTime(start.handle, end.handle)))

    def done(self, event: Event) -> bool:
        self._ready()
        status = cu.cuEventQuery(event.handle)[0]
        if status not in (_OK, _BUSY):
            raise failure(status)
        return bool(status == _OK)

    def wait(self, event: Event) -> None:
        self._ready("wait")
        checked(cu.cuEventSynchronize(event.handle))

    def order(self, before: int, after: int) -> None:
        with self.lock:
            self._ready("order")
            mark = Event(before, False)
            checked(cu.cuStreamWaitEvent(after, mark.handle, 0))
