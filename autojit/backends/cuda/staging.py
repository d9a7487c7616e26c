"""Pinned memory of the host: what copies pass through, and what users ask for by `pin_memory()`.

In: arrays of the host, addresses of the device.  Out: copies that overlap with what the device does, and with the host's own
part of the work.  Pinned memory is dear to get, so none is given back: it is used again.

A copy goes in pieces through two buffers in turn: while the device moves one, the host fills or empties the other.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..counts import ALONE
from .driver import Driver

PIECE = 8 << 20                                           # bytes of a buffer


class Pinned:
    """Pinned arrays for users, on memory that is used again when nobody holds them or their views."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._kept: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of undefined contents."""
        count = int(np.prod(shape, dtype=np.int64))
        size = 1 << max(12, (count * dtype.itemsize - 1).bit_length())
        with self.driver.lock:
            found = None
            for raw in self._kept:
                if sys.getrefcount(raw) == ALONE and raw.nbytes == size:
                    found = raw
                    break
            if found is None:
                found = self.driver.pinned(size)
                self._kept.append(found)
            return found[:count * dtype.itemsize].view(dtype).reshape(shape)

    def holds(self, array: np.ndarray) -> bool:
        """Is it memory that `take` gave?"""
        at = array.ctypes.data
        return any([raw.ctypes.data <= at < raw.ctypes.data + raw.nbytes for raw in self._kept])


class Staging:
    """Copies between memory of any kind and the device."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._buffers: list[np.ndarray] = []
        self._marks: list[Any] = [None, None]             # the last copy from or to each
        self._turn = 0

    def _next(self, nbytes: int) -> tuple[int, np.ndarray]:
        """The other buffer, when its last copy is done."""
        while len(self._buffers) < 2:
            self._buffers.append(np.empty(0, np.uint8))
        self._turn = k = self._turn ^ 1
        if self._marks[k] is not None:
            self.driver.wait(self._marks[k])
            self._marks[k] = None
        if self._buffers[k].nbytes < nbytes:
            self._buffers[k] = self.driver.pinned(min(PIECE, 1 << (nbytes - 1).bit_length()))
        return k, self._buffers[k][:nbytes]

    def copy_in(self, ptr: int, host: np.ndarray) -> None:
        """Host to device; the host's array may be changed when this returns."""
        data = host.reshape(-1).view(np.uint8)
        with self.driver.lock:
            for at in range(0, data.nbytes, PIECE):
                part = data[at:at + PIECE]
                k, buffer = self._next(part.nbytes)
                buffer[...] = part
                self.driver.copy_in(ptr + at, buffer, wait=False)
                self._marks[k] = self.driver.event()

    def copy_out(self, host: np.ndarray, ptr: int) -> None:
        """Device to host; returns when all is there."""
        data = host.reshape(-1).view(np.uint8)
        with self.driver.lock:
            asked: list[tuple[int, np.ndarray, np.ndarray]] = []
            for at in range(0, data.nbytes, PIECE):
                part = data[at:at + PIECE]
                if len(asked) == 2:
                    self._arrived(*asked.pop(0))
                k, buffer = self._next(part.nbytes)
                self.driver.copy_out(buffer, ptr + at, wait=False)
                self._marks[k] = self.driver.event()
                asked.append((k, buffer, part))
            for one in asked:
                self._arrived(*one)

    def _arrived(self, k: int, buffer: np.ndarray, part: np.ndarray) -> None:
        self.driver.wait(self._marks[k])
        self._marks[k] = None
        part[...] = buffer
