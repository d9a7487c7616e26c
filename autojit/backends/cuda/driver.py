"""What the CUDA backend asks of a device: one interface, a real driver and a stand-in behind it.

In: addresses, kernels, numbers.  Out: memory, launches, graphs.  All work goes to one stream, in order.  Never knows
tensors, schedules or how a kernel came to be.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from typing import Any
from weakref import WeakSet

import numpy as np

from ...config import config

PUT = 1 << 16                                             # bytes that `Driver.put` takes: CUDA carries them along


class Unavailable(RuntimeError):
    """There is no CUDA here; the text says which of driver library, package and device is missing."""


class DriverError(RuntimeError):
    """A call of the driver failed; the text begins with CUDA's name of the error."""


class OutOfMemory(DriverError):
    """The device has no room: `asked` bytes were wanted, `free` of `total` were there."""

    def __init__(self, asked: int, free: int, total: int) -> None:
        super().__init__(f"CUDA_ERROR_OUT_OF_MEMORY: {asked} bytes asked for, {free} of {total} free")
        self.asked, self.free, self.total = asked, free, total


class Driver:
    """A device.  Pointers are ints; handles, graphs and events are opaque.

    `stream`: the handle of the stream.  `lock`: held by whoever does several things that belong together (a capture, the
    launches of a program); each method may be called with it or without.  All work is ordered on one stream.  While a capture
    is open, work is written down instead of being done, and whatever cannot be written down (alloc, free, copies with the host,
    synchronize; memory_info aside) raises DriverError, as CUDA would.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    total_memory: int
    stream: int
    lock: RLock
    place: tuple[int, int] = (2, 0)             # DLPack's type of the device (1: host memory) and its number

    # ------------------------------------------------------------------ memory
    def alloc(self, nbytes: int) -> int:
        """Memory of its own, aligned to 256 bytes, contents undefined.  OutOfMemory."""
        raise NotImplementedError

    def free(self, ptr: int) -> None:
        """Give memory of `alloc` back, after all work that was asked for before."""
        raise NotImplementedError

    def copy_in(self, ptr: int, host: np.ndarray, wait: bool = True) -> None:
        """Host to device: a C-contiguous array's bytes.  Not waiting needs pinned memory that stays as it is."""
        raise NotImplementedError

    def copy_out(self, host: np.ndarray, ptr: int, wait: bool = True) -> None:
        """Device to host: fill a C-contiguous array."""
        raise NotImplementedError

    def put(self, ptr: int, data: bytes) -> None:
        """At most 64 KB from the host, in the stream's order; `data` is copied at once and nobody waits."""
        raise NotImplementedError

    def copy(self, dst: int, src: int, nbytes: int) -> None:
        raise NotImplementedError

    def fill(self, ptr: int, byte: int, nbytes: int) -> None:
        raise NotImplementedError

    def pinned(self, nbytes: int) -> np.ndarray:
        """Host memory (uint8) that copies need not wait for."""
        raise NotImplementedError

    def memory_info(self) -> tuple[int, int]:
        """Bytes free, bytes in all."""
        raise NotImplementedError

    def adopt(self, ptr: int, nbytes: int) -> None:
        """Memory of others that kernels are about to use, until it is disowned.  A GPU needs no telling."""

    def disown(self, ptr: int) -> None:
        """Memory of others is used no more."""

    def pool_bytes(self) -> int:
        """Bytes that the device holds for `alloc`, in use or not."""
        raise NotImplementedError

    def trim(self) -> None:
        """Give back to the device what `alloc` holds and nobody uses."""
        raise NotImplementedError

    # ------------------------------------------------------------------ work
    def load(self, compiled: Any) -> Any:
        """The handle of a `compiler.Compiled`."""
        raise NotImplementedError

    def launch(self, handle: Any, blocks: int, threads: int, args: Sequence[tuple[Any, ...]]) -> None:
        """Run a kernel.  `args`: (code, value) in the order of its signature; "*f32" an address (and the buffer's bytes as a
        third), "ix" "i64" ints (ix: of the width the kernel was compiled for), "f32" "f64" floats."""
        raise NotImplementedError

    def bind(self, handle: Any, blocks: int, threads: int, args: Sequence[tuple[Any, ...]],
             slots: Sequence[tuple[int, int]]) -> Callable[[Sequence[int]], None]:
        """A launch whose addresses come later: `slots` says which argument is which element of what it is called with.  It is
        called with `lock` held."""
        def launch(pointers: Sequence[int]) -> None:
            now = list(args)
            for k, slot in slots:
                now[k] = (args[k][0], pointers[slot], *args[k][2:])
            self.launch(handle, blocks, threads, now)
        return launch

    def gemm(self, record: Any, a: int, b: int, c: int) -> None:
        """Row-major C := alpha * op(A) @ op(B) + beta * C.  `record` has the fields of a `GemmStep` (dtype, trans_a,
        trans_b, m, n, k, lda, ldb, ldc, batch, stride_a, stride_b, stride_c, alpha, beta, outer); `a`, `b`, `c` are
        the addresses of first elements, the step's offsets added."""
        raise NotImplementedError

    # ------------------------------------------------------------------ graphs
    def begin_capture(self) -> None:
        raise NotImplementedError

    def end_capture(self, into: Any = None) -> Any:
        """The graph of the work since `begin_capture`, ready to be replayed; it owns no memory.  `into`: a graph that is no
        longer needed, which may be changed into the new one (a tenth of the time of making one); use what is returned."""
        raise NotImplementedError

    def replay(self, graph: Any) -> None:
        raise NotImplementedError

    def drop(self, graph: Any) -> None:
        """Forget a graph, after all its replays."""
        raise NotImplementedError

    # ------------------------------------------------------------------ time
    def synchronize(self) -> None:
        """Wait for all work, and raise what went wrong in it."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait for all work of the process on the device, other libraries' too."""
        self.synchronize()

    def event(self) -> Any:
        """A mark in the stream."""
        raise NotImplementedError

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks, both passed."""
        raise NotImplementedError

    def done(self, event: Any) -> bool:
        """Is all work before a mark done?"""
        raise NotImplementedError

    def wait(self, event: Any) -> None:
        """Until all work before a mark is done."""
        if not self.done(event):
            self.synchronize()

    def order(self, before: int, after: int) -> None:
        """Work that stream `after` gets from now on waits for what stream `before` has now (handles)."""
        raise NotImplementedError


# ---------------------------------------------------------------------- is there one?
LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
NEEDED = {"cuda.bindings": "cuda-bindings", "cuda.pathfinder": "cuda-pathfinder", "numba_cuda": "numba-cuda"}
INSTALL = "pip install 'autojit[cuda]'"


class Forked(Driver):
    """What a driver becomes in a child process: CUDA does not survive a fork."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use "
                           "the 'spawn' start method")


_opened: WeakSet[Driver] = WeakSet()
_probed: list[tuple[int, str]] = []                       # devices, and what is missing


def _after_fork() -> None:
    for driver in _opened:
        driver.__class__ = Forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def library() -> ctypes.CDLL | None:
    """The driver library, which comes with the GPU's driver and with no package."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _installed(module: str) -> bool:
    top, _, rest = module.partition(".")
    found = find_spec(top)
    if found is None or not rest:
        return found is not None
    return any([os.path.isdir(os.path.join(p, rest)) for p in found.submodule_search_locations or ()])


def probe() -> tuple[int, str]:
    """How many devices there are, and in words what is missing ("" where nothing is).  Imports no package; the answer is
    kept for the life of the process, unless the library was not there."""
    if _probed:
        return _probed[0]
    missing, count = [], 0
    lib = library()
    if lib is None:
        missing.append(f"the driver library is missing ({LIBRARIES[0]} cannot be loaded: it comes with NVIDIA's driver)")
    else:
        number = ctypes.c_int()
        status = lib.cuInit(0) or lib.cuDeviceGetCount(ctypes.byref(number))
        count = number.value if not status else 0
        if not count:
            missing.append("no device is there" + (f" (cuInit says error {status})" if status else
                                                   " (the driver counts 0; see CUDA_VISIBLE_DEVICES)"))
    absent = [package for module, package in NEEDED.items() if not _installed(module)]
    if absent:
        missing.append(f"the package{'s' * (len(absent) > 1)} {', '.join(absent)} {'are' if len(absent) > 1 else 'is'} missing "
                       f"({INSTALL})")
    answer = (0 if missing else count, "; ".join(missing))
    if lib is not None and not absent:
        _probed.append(answer)
    return answer


def count() -> int:
    """Devices that can be used: 0 where anything is missing, or AUTOJIT_CUDA says off; the stand-in counts as one."""
    return 1 if config.cuda == "standin" else 0 if config.cuda == "off" else probe()[0]


def open_driver(device: int = 0) -> Driver:
    """A device of this machine, or the stand-in where ``AUTOJIT_CUDA=standin``.  Unavailable says what is missing."""
    if config.cuda == "standin":
        driver: Driver = import_module(".standin", __package__).Standin()
    else:
        found, missing = (0, "AUTOJIT_CUDA=off") if config.cuda == "off" else probe()
        if not found:
            raise Unavailable(f"CUDA cannot be used: {missing}")
        driver = import_module(".nvidia", __package__).Nvidia(device)
    _opened.add(driver)
    return driver
