"""torch.cuda's names: is there a GPU, what is it, what lies in its memory, how long did it take.

In: calls.  Out: what the CUDA backend answers; nothing is done here.  Importing this, or asking `is_available()` on a machine
without a GPU, loads no package of CUDA.

>>> is_available() in (True, False)
True
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .backends import devices as _devices
from .backends.cuda import driver as _driver
from .backends.cuda.memory import OutOfMemoryError as OutOfMemoryError
from .config import config as _config
from .eager import random as _random

if TYPE_CHECKING:
    from .backends.cuda.backend import CudaBackend


def is_available() -> bool:
    """Can tensors be on "cuda"?  `why_not()` says what is missing."""
    return _driver.count() > 0


def why_not() -> str:
    """Which of driver, package and device is missing, in words; "" where nothing is."""
    if _config.cuda == "off":
        return "AUTOJIT_CUDA=off"
    return "" if _driver.count() else _driver.probe()[1]


def device_count() -> int:
    """How many GPUs there are (those that CUDA_VISIBLE_DEVICES leaves)."""
    return _driver.count()


def is_initialized() -> bool:
    """Has the device been used yet?"""
    return _opened() is not None


def init() -> None:
    """Open the device now.  RuntimeError says what is missing."""
    _open()


def current_device() -> int:
    """The number of the device that tensors on "cuda" are on: one for the whole process."""
    _open()
    return _chosen()[0]


def set_device(device: Any) -> None:
    """Choose the GPU, before the first tensor is on it.  A process uses one: RuntimeError afterwards."""
    number = _number(device)
    if not 0 <= number < max(1, _driver.count()):
        raise RuntimeError(f"CUDA error: invalid device ordinal: {number}, and there are {_driver.count()} devices")
    if is_initialized() and number != _chosen()[0]:
        raise RuntimeError(f"this process already uses device {_chosen()[0]}: choose with aj.cuda.set_device before the first "
                           "tensor on \"cuda\", or with CUDA_VISIBLE_DEVICES")
    _chosen()[0] = number


# ---------------------------------------------------------------------- what it is
class DeviceProperties:
    """name, major, minor, total_memory (bytes), multi_processor_count."""

    __slots__ = ("name", "major", "minor", "total_memory", "multi_processor_count")

    def __init__(self, driver: Any) -> None:
        self.name, (self.major, self.minor) = driver.name, driver.capability
        self.total_memory, self.multi_processor_count = driver.total_memory, driver.multiprocessors

    def __repr__(self) -> str:
        return (f"DeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
                f"total_memory={self.total_memory >> 20}MB, multi_processor_count={self.multi_processor_count})")


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Name, compute capability, memory and multiprocessors of the device in use."""
    return DeviceProperties(_open(device).driver)


def get_device_name(device: Any = None) -> str:
    """The device's name."""
    return _open(device).driver.name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability: (9, 0) for an H100."""
    return _open(device).driver.capability


# ---------------------------------------------------------------------- memory
def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes free and in all, as the device counts them (other processes' use included)."""
    return _open(device).driver.memory_info()


def memory_stats(device: Any = None) -> dict[str, int]:
    """What is held now and at most, in torch's words ("allocated_bytes.all.current" ...); {} before the device is used."""
    found = _opened()
    return OrderedDict(sorted(found.memory.stats().items())) if found is not None else OrderedDict()


def memory_allocated(device: Any = None) -> int:
    """Bytes of live tensors and of temporaries of programs; 0 before the device is used."""
    return memory_stats().get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: Any = None) -> int:
    """The most that `memory_allocated` was since the start, or since `reset_peak_memory_stats`."""
    return memory_stats().get("allocated_bytes.all.peak", 0)


def memory_reserved(device: Any = None) -> int:
    """Bytes that the device keeps for this process, used or not."""
    return memory_stats().get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: Any = None) -> int:
    """The most that `memory_reserved` was seen to be."""
    return memory_stats().get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count peaks from now on."""
    if is_initialized():
        _open().memory.reset_peak()


def empty_cache() -> None:
    """Give memory that no tensor uses back to the device, for other programs."""
    if is_initialized():
        _open().memory.release()


# ---------------------------------------------------------------------- time
def synchronize(device: Any = None) -> None:
    """Wait until the device has done all that it was asked for, and raise what went wrong in it."""
    _open(device).synchronize()


class Stream:
    """The stream that all of autojit's work on the device goes to; others order theirs by it.

    `cuda_stream`: CUDA's handle, for CuPy's ExternalStream, PyTorch's, Numba's `external_stream`."""

    __slots__ = ("cuda_stream",)

    def __init__(self) -> None:
        self.cuda_stream: int = _open().driver.stream

    def synchronize(self) -> None:
        """Wait until all work in it is done."""
        synchronize()

    def wait_stream(self, stream: Any) -> None:
        """Work that is asked for from now on waits for what another library's stream (or its handle) has now."""
        _open().driver.order(int(getattr(stream, "cuda_stream", stream)), self.cuda_stream)

    def record_event(self, event: Event | None = None) -> Event:
        """A mark at the end of what has been asked for so far."""
        event = event or Event()
        event.record()
        return event


def current_stream(device: Any = None) -> Stream:
    """The one stream that there is."""
    _open(device)
    return Stream()


class Event:
    """A mark in the stream of work: `record()`, then `synchronize()`, `query()`, `start.elapsed_time(end)` in milliseconds."""

    __slots__ = ("_mark",)

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        if interprocess:
            raise NotImplementedError("events between processes are not implemented")
        self._mark: Any = None

    def record(self, stream: Any = None) -> None:
        """Mark the end of what has been asked for so far."""
        self._mark = _open().driver.event()

    def query(self) -> bool:
        """Is all work before the mark done?  True where there is none."""
        return self._mark is None or _open().driver.done(self._mark)

    def synchronize(self) -> None:
        """Wait for the mark."""
        if not self.query():
            _open().driver.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another; both have to be done.  ValueError if one was not recorded."""
        if self._mark is None or end_event._mark is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return _open().driver.elapsed(self._mark, end_event._mark)


# ---------------------------------------------------------------------- random numbers
def manual_seed(seed: int) -> None:
    """Start the stream of random numbers again.  The device's numbers are the CPU's, of one and the same stream."""
    _random.manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`: there is one stream."""
    _random.manual_seed(seed)


# ---------------------------------------------------------------------- the backend
def _opened() -> CudaBackend | None:
    found: CudaBackend | None = _devices._opened.get("cuda")
    return found


def _open(device: Any = None) -> CudaBackend:
    if device is not None and _number(device) != _chosen()[0]:
        raise RuntimeError(f"CUDA error: invalid device ordinal: {_number(device)}; this process uses device {_chosen()[0]}")
    found: CudaBackend = _devices.backend("cuda")
    return found


def _chosen() -> list[int]:
    from .backends.cuda.backend import DEVICE
    return DEVICE


def _number(device: Any) -> int:
    """0 of 0, "cuda", "cuda:0" and a device."""
    if isinstance(device, int):
        return device
    kind, _, number = str(device).partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return int(number or 0)
