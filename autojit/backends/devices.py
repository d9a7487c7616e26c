"""Devices by name: "cpu", whose arrays are NumPy's, and those that have a backend of their own.

In: a device as the user names it.  Out: its name in avals, and its `Backend`, opened when it is first needed.  Never copies
anything by itself: `from_host` and `to_host` of a backend are the only ways between its memory and the host's.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..dtypes import DType
    from ..ir.aval import Aval, Shape
    from ..schedule.cost import Target
    from ..schedule.loops import Schedule

# device → the module whose `open()` gives its backend
MODULES = {"cuda": "autojit.backends.cuda.backend"}
_opened: dict[str, Any] = {}
_lock = threading.Lock()


class Backend:
    """What the engine and the face ask of a device.  Its arrays are objects with shape and dtype; a program's inputs are such
    arrays, or 0-d NumPy arrays (numbers); its outputs are arrays that nobody else holds."""

    missing: frozenset[str] = frozenset()                 # primitives that have no kernel
    number = 0                                            # which of the devices of its kind

    @property
    def target(self) -> Target:
        """What schedules are made for."""
        raise NotImplementedError

    def early(self) -> None:
        """A program is about to be made: what takes long to start may start now."""

    def emit(self, plan: Schedule) -> Any:
        """The kernels of a schedule as text.  CompileError names what has none."""
        raise NotImplementedError

    def link(self, plan: Schedule, emitted: Any, avals: Sequence[Aval]) -> Callable[[Sequence[Any]], list[Any]]:
        """The program; waits for its kernels.  `avals`: of its outputs."""
        raise NotImplementedError

    def source(self, plan: Schedule, emitted: Any) -> str:
        """The kernels, and the steps in the order they run, as readable text."""
        raise NotImplementedError

    def from_host(self, array: np.ndarray, dtype: DType) -> Any:
        """A copy on the device."""
        raise NotImplementedError

    def empty(self, shape: Shape, dtype: DType) -> Any:
        """An array of anything."""
        return self.from_host(np.empty(shape, dtype.np), dtype)

    def to_host(self, array: Any) -> np.ndarray:
        """A copy on the host; waits for whatever makes the array."""
        raise NotImplementedError

    def copy(self, array: Any) -> Any:
        """A copy that stays on the device."""
        raise NotImplementedError

    def assign(self, target: Any, source: Any) -> None:
        """One array's values into another's memory."""
        raise NotImplementedError

    def part(self, array: Any, start: int, shape: Shape) -> Any:
        """Consecutive elements of an array, from one on: the same memory."""
        raise NotImplementedError

    def from_others(self, owner: Any) -> Any:
        """Another library's array, without a copy: by DLPack or `__cuda_array_interface__`."""
        raise NotImplementedError

    def pinned(self, shape: Shape, dtype: DType) -> np.ndarray:
        """Memory of the host's that copies need not wait for."""
        raise NotImplementedError

    def is_pinned(self, array: np.ndarray) -> bool:
        """Is it memory that `pinned` gave?"""
        raise NotImplementedError

    def random(self, kind: str, seed: int, draw: int, shape: Shape, dtype: DType, low: int = 0, high: int = 1) -> Any:
        """Random numbers, those of `ops/philox.py`: "uniform", "normal", or "integers" in [low, high)."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked for."""
        raise NotImplementedError


def _no_disk() -> Any:
    return None


_disk: list[Callable[[], Any]] = [_no_disk]


def provide(disk: Callable[[], Any]) -> None:
    """Tell where compiled kernels are kept between processes: a function that gives the disk cache of now."""
    _disk[0] = disk


def disk() -> Any:
    """The disk cache that was provided; None without one."""
    return _disk[0]()


def backend(device: str) -> Any:
    """The backend of a device that is not the CPU.  RuntimeError, which says what is missing, where there is none."""
    found = _opened.get(device)
    if found is None:
        with _lock:
            found = _opened.get(device)
            if found is None:
                found = _opened[device] = importlib.import_module(MODULES[device]).open()
    return found


def opened(device: str) -> bool:
    """Has a device's backend been opened?"""
    return device in _opened


def to_host(array: Any, device: str) -> np.ndarray:
    """What an array of a device holds, on the host."""
    if device == "cpu":
        return array  # type: ignore[no-any-return]
    found: np.ndarray = backend(device).to_host(array)
    return found


def from_host(array: np.ndarray, dtype: DType, device: str) -> Any:
    """An array of the host's on a device."""
    return array if device == "cpu" else backend(device).from_host(array, dtype)
