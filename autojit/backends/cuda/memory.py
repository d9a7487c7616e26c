"""Arrays of the device, and where their memory comes from.

In: shapes and dtypes; arrays of the host.  Out: `DeviceArray`; `Memory`, which hands out and takes back, counts, and says
what lies where when there is no room.  Never calls the driver when an array dies: that may happen in any thread, in the middle
of a capture.

All work goes to one stream.  So memory that was given back can be handed out at once: what still reads it was asked for
earlier.  Small blocks wait here by size, large ones go back to the driver's pool, which keeps them too.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any
from weakref import WeakSet, ref

import numpy as np

from ...dtypes import DType
from ...errors import explain
from .driver import PUT, Driver, OutOfMemory
from .staging import Pinned, Staging

ALIGN = 512                                               # bytes of the smallest block
KEPT = 1 << 20                                            # bytes of the largest block that waits here
STEP = 2 << 20                                            # bytes that large blocks are whole multiples of
DIRECT = 1 << 20                                          # bytes that are copied to the host without pinned memory


class OutOfMemoryError(RuntimeError):
    """The device has no room, and nothing that could be given up: torch.cuda.OutOfMemoryError's text, and what is live."""


class Block:
    """Memory of the pool; given back when nobody holds it."""

    __slots__ = ("ptr", "nbytes", "_back", "__weakref__")

    def __init__(self, ptr: int, nbytes: int, back: deque[Any]) -> None:
        self.ptr, self.nbytes, self._back = ptr, nbytes, back

    def __del__(self) -> None:
        self._back.append((self.ptr, self.nbytes))


class DeviceArray:
    """A C-contiguous array on the device; immutable by convention.  `owner` keeps its memory alive.

    `__cuda_array_interface__` and `__dlpack__` show it to others, without a copy.
    """

    __slots__ = ("ptr", "shape", "dtype", "owner", "memory", "__weakref__")

    def __init__(self, ptr: int, shape: tuple[int, ...], dtype: DType, owner: Any, memory: Memory) -> None:
        self.ptr, self.shape, self.dtype, self.owner, self.memory = ptr, shape, dtype, owner, memory

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def part(self, start: int, shape: tuple[int, ...]) -> DeviceArray:
        """The elements from `start` on as an array of their own shape: the same memory."""
        found = DeviceArray(self.ptr + start * self.dtype.itemsize, shape, self.dtype, self.owner, self.memory)
        if not 0 <= start <= self.size - found.size:
            raise ValueError(f"elements {start} to {start + found.size} are not within {self.size}")
        return found

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory as an array of another shape (of as many elements)."""
        wanted: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        found = DeviceArray(self.ptr, tuple(wanted), self.dtype, self.owner, self.memory)
        if found.size != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {tuple(wanted)}")
        return found

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        from .sharing import interface
        return interface(self)

    def __dlpack__(self, *, stream: Any = None, **words: Any) -> Any:
        from .sharing import lend
        return lend(self, stream, **words)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.driver.place

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype.code}[{','.join(map(str, self.shape))}] at {self.ptr:#x})"


@lru_cache(4096)
def rounded(nbytes: int) -> int:
    """The size of the block that holds so many bytes: at most an eighth more, and of few kinds."""
    step = max(ALIGN, min(STEP, (1 << max(nbytes - 1, 0).bit_length()) // 16))
    return max(ALIGN, -(-nbytes // step) * step)


class Memory:
    """The device's memory as one driver sees it."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.later: deque[Callable[[], Any]] = deque()    # what may not be done where it was found out: when an object died
        self.spares: WeakSet[Any] = WeakSet()             # pools that can let go of arrays: have a `clear()`
        self._back: deque[tuple[int, int]] = deque()      # blocks whose arrays are gone
        self._free: dict[int, list[int]] = {}             # blocks at hand, by size
        self._live: dict[int, tuple[int, tuple[int, ...] | None, DType | None]] = {}
        self._arena: Any = lambda: None                   # a weak reference to the largest block of temporaries
        self.pinned = Pinned(driver)
        self._staging = Staging(driver)
        self._allocated = self._released = self._peak = 0  # bytes, of all blocks so far
        self._kept = 0                                    # bytes that the pools of `spares` have kept since they were cleared
        self._reserved_peak = self._retries = self._ooms = 0

    # ------------------------------------------------------------------ arrays
    def empty(self, shape: tuple[int, ...], dtype: DType) -> DeviceArray:
        """An array of undefined contents.  OutOfMemoryError."""
        block = self.block(prod(shape) * dtype.itemsize, shape, dtype)
        return DeviceArray(block.ptr, shape, dtype, block, self)

    def over(self, ptr: int, shape: tuple[int, ...], dtype: DType, owner: Any) -> DeviceArray:
        """An array over memory that `owner` keeps alive."""
        return DeviceArray(ptr, shape, dtype, owner, self)

    def from_host(self, host: np.ndarray, dtype: DType) -> DeviceArray:
        """A copy of a NumPy array, as `dtype` lies in memory; the host's array may be changed as soon as this returns."""
        host = np.ascontiguousarray(host, dtype.np).reshape(host.shape)
        out = self.empty(host.shape, dtype)
        if host.nbytes > PUT:
            self._staging.copy_in(out.ptr, host)
        elif host.nbytes:
            self.driver.put(out.ptr, host.tobytes())
        return out

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """A copy as a NumPy array; waits for what computes it."""
        out = np.empty(array.shape, array.dtype.np)
        if out.nbytes > DIRECT:
            self._staging.copy_out(out, array.ptr)
        elif out.nbytes:
            self.driver.copy_out(out, array.ptr)
        return out

    def assign(self, dst: DeviceArray, src: DeviceArray) -> None:
        """Overwrite one array with another of its size, in the stream's order."""
        if dst.nbytes != src.nbytes:
            raise ValueError(f"{dst} cannot take {src}")
        if src.size:
            self.driver.copy(dst.ptr, src.ptr, src.nbytes)

    def copy(self, array: DeviceArray) -> DeviceArray:
        out = self.empty(array.shape, array.dtype)
        self.assign(out, array)
        return out

    # ------------------------------------------------------------------ blocks
    def block(self, nbytes: int, shape: tuple[int, ...] | None = None, dtype: DType | None = None) -> Block:
        """Memory, aligned to 256 bytes or better.  OutOfMemoryError."""
        size = rounded(nbytes)
        with self.driver.lock:
            if self._back or self.later:
                self.sweep()
            at_hand = self._free.get(size)
            ptr = at_hand.pop() if at_hand else self._fresh(size)
            self._live[ptr] = (size, shape, dtype)
            self._allocated += size
            if self._allocated - self._released > self._peak:
                self._peak = self._allocated - self._released
        return Block(ptr, size, self._back)

    def arena(self, nbytes: int) -> Block:
        """Memory for a program's temporaries.  Programs share it, since the stream runs one after the other; a larger one is
        made when it is needed, and the older one lives as long as the programs that know it."""
        with self.driver.lock:
            found: Block | None = self._arena()
            if found is None or found.nbytes < nbytes:
                grown = 0 if found is None else min(2 * found.nbytes, found.nbytes + 64 * STEP)
                try:
                    found = self.block(max(nbytes, grown))
                except OutOfMemoryError:
                    found = self.block(nbytes)
                self._arena = ref(found)
            return found

    def _fresh(self, size: int) -> int:
        try:
            return self.driver.alloc(size)
        except OutOfMemory:
            self._retries += 1
        self.release()
        try:
            return self.driver.alloc(size)
        except OutOfMemory as e:
            self._ooms += 1
            raise explain(OutOfMemoryError(self._no_room(size, e)),
                          hint="let go of tensors (del, or leave the function that holds them), run smaller batches, or use "
                               "bfloat16; aj.cuda.memory_stats() counts what is held") from e

    def keeps(self, nbytes: int) -> bool:
        """May a pool of `spares` keep a block?  Together they keep a sixteenth of the memory: beyond that all begin anew."""
        most = self.driver.total_memory // 16
        if nbytes > most // 4:
            return False
        self._kept += nbytes
        if self._kept > most:
            self._clear()
            self._kept = nbytes
        return True

    def _clear(self) -> None:
        for pool in list(self.spares):
            pool.clear()
        self._kept = 0

    def sweep(self) -> None:
        """Take back what is no longer held, and do what was put off.  Not during a capture."""
        with self.driver.lock:
            while self._back:
                ptr, size = self._back.popleft()
                self._live.pop(ptr, None)
                self._released += size
                if size <= KEPT:
                    self._free.setdefault(size, []).append(ptr)
                else:
                    self.driver.free(ptr)
            for _ in range(len(self.later)):
                self.later.popleft()()

    def release(self) -> None:
        """Give everything that nobody holds back to the device: torch.cuda.empty_cache."""
        with self.driver.lock:
            self._clear()
            gc.collect()                                  # arrays in cycles
            self.sweep()
            for blocks in self._free.values():
                while blocks:
                    self.driver.free(blocks.pop())
            self.driver.synchronize()
            self.driver.trim()

    # ------------------------------------------------------------------ what there is
    def stats(self) -> dict[str, int]:
        """torch.cuda.memory_stats' words: bytes of live arrays and temporaries (`allocated_bytes`), of what the device holds
        for us (`reserved_bytes`), how often there was no room."""
        self.sweep()
        reserved = self.driver.pool_bytes()
        self._reserved_peak = max(self._reserved_peak, reserved)
        idle = sum([pool.idle() for pool in list(self.spares)])
        return {"active.all.current": len(self._live),
                "allocated_bytes.all.current": self._allocated - self._released - idle,
                "allocated_bytes.all.peak": self._peak,
                "allocated_bytes.all.allocated": self._allocated, "allocated_bytes.all.freed": self._released,
                "num_alloc_retries": self._retries, "num_ooms": self._ooms,
                "reserved_bytes.all.current": reserved, "reserved_bytes.all.peak": self._reserved_peak}

    def reset_peak(self) -> None:
        self.sweep()
        self._peak, self._reserved_peak = self._allocated - self._released, 0

    def _no_room(self, asked: int, e: OutOfMemory) -> str:
        arrays = [v for v in self._live.values() if v[1] is not None]
        work = sum([v[0] for v in self._live.values() if v[1] is None])
        text = (f"CUDA out of memory. Tried to allocate {words(asked)}. GPU {self.driver.place[1]} has a total capacity of "
                f"{words(e.total)} of which {words(e.free)} is free. Live are {len(arrays)} arrays of "
                f"{words(sum([v[0] for v in arrays]))}, and {words(work)} of temporaries of programs.")
        if arrays:
            text += " The largest: " + ", ".join(largest(arrays)) + "."
        return text


def largest(arrays: Sequence[tuple[int, Any, Any]], count: int = 5) -> list[str]:
    """The kinds of arrays that take most, in words."""
    kinds = Counter([(dtype.name, shape) for _, shape, dtype in arrays])
    size = {(dtype.name, shape): nbytes for nbytes, shape, dtype in arrays}
    order = sorted(kinds, key=lambda k: -size[k] * kinds[k])[:count]
    return [f"{kinds[k]} x " * (kinds[k] > 1) + f"{k[0]}[{', '.join(map(str, k[1]))}] of {words(size[k])}" for k in order]


def words(nbytes: int) -> str:
    """Bytes as torch writes them.

    >>> words(1536), words(3 << 30)
    ('1.50 KiB', '3.00 GiB')
    """
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >= 1 << power:
            return f"{nbytes / (1 << power):.2f} {unit}"
    return f"{nbytes} bytes"
