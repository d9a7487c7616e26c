"""The CUDA backend as the engine and the face see it.

In: schedules, arrays of the host.  Out: texts, programs, DeviceArrays.  Opened once a process, when a device is first needed;
importing this module loads no package of CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...config import config
from ...dtypes import DType
from ...errors import CompileError
from ...ir.aval import Aval
from ...ops.grouped import GROUPED
from ...schedule.device import without_step
from ...schedule.loops import DeviceStep, GemmStep, HostStep, KernelStep, Schedule
from ..devices import Backend
from .driver import open_driver
from .emitted import Emitted, Launches
from .memory import DeviceArray, Memory

if TYPE_CHECKING:
    from ...schedule.cost import Target
    from .philox import Random

DEVICE = [0]                                              # the number of the device to open


class CudaBackend(Backend):
    """A device with its memory."""

    def __init__(self, device: int = 0) -> None:
        self.driver, self.number = open_driver(device), device
        self.interpreted = config.cuda == "standin"
        self.memory = Memory(self.driver)
        self._random: Random | None = None
        self._early = False

    @property
    def missing(self) -> frozenset[str]:  # type: ignore[override]
        return without_step() - GROUPED                   # some primitives are declared late; loops are turned by the host

    # ------------------------------------------------------------------ programs
    @property
    def target(self) -> Target:
        from ...schedule.cost import Target
        return Target(simt=True)

    def emit(self, plan: Schedule) -> dict[int, Launches]:
        from . import emit
        made: dict[int, Launches] = {}
        for k, step in enumerate(plan.steps):
            if isinstance(step, KernelStep):
                made[k] = emit.launches(step, plan, k)
            elif isinstance(step, HostStep):
                raise CompileError(f"{step.prim.name} has no kernel for CUDA: compute it on the CPU (.cpu()), or leave it out")
            elif isinstance(step, DeviceStep):
                from . import steps  # few programs have such
                made[k] = steps.launches(step, plan, k)
            elif not isinstance(step, GemmStep):
                raise CompileError(f"a {type(step).__name__} has no kernels for CUDA: compute it on the CPU (.cpu())")
        return made

    def early(self) -> None:
        """Where no kernel was ever compiled, processes get ready."""
        if not self.interpreted and not self._early:
            from .compiler import store
            self._early = True
            store().early()

    def compile(self, emitted: Sequence[Emitted]) -> list[Any]:
        """What the driver can load, for each; what is not in the cache is compiled, several at once.  (The stand-in reads
        texts.)"""
        if self.interpreted:
            from .compiled import Compiled, Resources
            return [Compiled("kernel", None, e.text, e.signature, e.threads, e.wide, Resources()) for e in emitted]
        from .compiler import store
        major, minor = self.driver.capability
        return list(store().require(list(emitted), (major, minor, "a") if major >= 9 else (major, minor)))

    def link(self, plan: Schedule, emitted: Mapping[int, Launches],
             avals: Sequence[Aval]) -> Callable[[Sequence[Any]], list[Any]]:
        from .program import CudaProgram
        compiled = iter(self.compile([one for made in emitted.values() for one in made.launches]))
        handles = {k: [self.driver.load(next(compiled)) for _ in made.launches] for k, made in emitted.items()}
        return CudaProgram(self.memory, plan, emitted, handles, avals)

    def source(self, plan: Schedule, emitted: Mapping[int, Launches]) -> str:
        from .listing import source
        return source(plan, emitted)

    # ------------------------------------------------------------------ arrays
    def from_host(self, array: np.ndarray, dtype: DType) -> DeviceArray:
        return self.memory.from_host(array, dtype)

    def empty(self, shape: tuple[int, ...], dtype: DType) -> DeviceArray:
        return self.memory.empty(shape, dtype)

    def to_host(self, array: DeviceArray) -> np.ndarray:
        return self.memory.to_host(array)

    def copy(self, array: DeviceArray) -> DeviceArray:
        return self.memory.copy(array)

    def assign(self, target: DeviceArray, source: DeviceArray) -> None:
        self.memory.assign(target, source)

    def part(self, array: DeviceArray, start: int, shape: tuple[int, ...]) -> DeviceArray:
        return array.part(start, shape)

    def from_others(self, owner: Any) -> DeviceArray:
        """Another library's array on the device, without a copy: by DLPack or `__cuda_array_interface__`."""
        from .sharing import borrow
        return borrow(owner, self.memory)

    def pinned(self, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
        return self.memory.pinned.take(shape, dtype.np)

    def is_pinned(self, array: np.ndarray) -> bool:
        return self.memory.pinned.holds(array)

    def random(self, kind: str, seed: int, draw: int, shape: tuple[int, ...], dtype: DType, low: int = 0,
               high: int = 1) -> DeviceArray:
        if self._random is None:
            from .philox import Random
            self._random = Random(self)
        return self._random(kind, seed, draw, shape, dtype, low, high)

    def synchronize(self) -> None:
        self.driver.synchronize()
        self.memory.sweep()


def open() -> CudaBackend:
    """The backend of the device that `aj.cuda.set_device` named.  Unavailable says what is missing."""
    return CudaBackend(DEVICE[0])
