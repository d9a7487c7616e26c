"""What the CUDA backend asks of a device: one interface, a real driver and a stand-in behind it.

In: addresses, kernels, numbers.  Out: memory, launches, graphs.  All work goes to one stream, in order.  Never knows
tensors, schedules or how a kernel came to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


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

    All work is ordered on one stream.  While a capture is open, work is written down instead of being done, and
    whatever cannot be written down (alloc, free, copies with the host, synchronize, memory_info aside) raises
    DriverError, as CUDA would.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    total_memory: int

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

    # ------------------------------------------------------------------ work
    def load(self, compiled: Any) -> Any:
        """The handle of a `compiler.Compiled`."""
        raise NotImplementedError

    def launch(self, handle: Any, blocks: int, threads: int, args: Sequence[tuple[str, Any]]) -> None:
        """Run a kernel.  `args`: (code, value) in the order of its signature; "*f32" an address, "ix" "i64" ints
        (ix: of the width the kernel was compiled for), "f32" "f64" floats."""
        raise NotImplementedError

    def gemm(self, record: Any, a: int, b: int, c: int) -> None:
        """Row-major C := alpha * op(A) @ op(B) + beta * C.  `record` has the fields of a `GemmStep` (dtype, trans_a,
        trans_b, m, n, k, lda, ldb, ldc, batch, stride_a, stride_b, stride_c, alpha, beta, outer); `a`, `b`, `c` are
        the addresses of first elements, the step's offsets added."""
        raise NotImplementedError

    # ------------------------------------------------------------------ graphs
    def begin_capture(self) -> None:
        raise NotImplementedError

    def end_capture(self) -> Any:
        """The graph of the work since `begin_capture`; it owns no memory."""
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

    def event(self) -> Any:
        """A mark in the stream."""
        raise NotImplementedError

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks, both passed."""
        raise NotImplementedError


def open_driver() -> Driver:
    """The device of this machine, or the stand-in where ``AUTOJIT_CUDA=standin``.  Unavailable says what is missing."""
    import os
    if os.environ.get("AUTOJIT_CUDA") == "standin":
        from .standin import Standin
        return Standin()
    raise Unavailable("the driver library libcuda.so.1 is not loaded")
