"""A device for tests of the front: memory of its own that NumPy cannot see, programs that run the oracle on it.

In: what the engine hands any backend.  Out: the same answers as the CPU's, and a count of all that went between host and
device.  Never compiles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autojit.backends import devices
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import DType, as_dtype
from autojit.eager import evaluate, path
from autojit.eager.template import TEMPLATES
from autojit.engine import compile as pipeline
from autojit.engine import programs
from autojit.ir import graph
from autojit.ir.graph import Graph
from autojit.ops import philox
from autojit.rewrite.half import lowered
from autojit.schedule.cost import Target


class FakeArray:
    """Memory of the device: the array inside is the fake backend's alone."""

    def __init__(self, inside: np.ndarray, dtype: DType) -> None:
        self._inside, self.dtype = inside, dtype
        self.shape, self.size, self.ndim, self.nbytes = inside.shape, inside.size, inside.ndim, inside.nbytes

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("memory of the device is read by NumPy")

    @property
    def ptr(self) -> int:
        return int(self._inside.__array_interface__["data"][0])

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self._inside.dtype.str, "data": (self.ptr, False), "strides": None,
                "version": 3, "stream": 1}

    def __dlpack__(self, **_: Any) -> Any:
        return self._inside.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def _parts(a: Any) -> Any:
    """Complex numbers as a kernel sees them."""
    return np.ascontiguousarray(a).reshape(-1).view(a.real.dtype).reshape(*a.shape, 2) if a.dtype.kind == "c" else a


def _whole(a: Any, dtype: Any) -> Any:
    return np.ascontiguousarray(a).view(dtype)[..., 0] if dtype.kind == "c" else a


class FakeBackend(devices.Backend):
    """`copied`: (direction, bytes) of every copy; `runs`: of programs; `graphs`: what was scheduled, by schedule."""

    missing = frozenset({"sort", "argsort"})

    def __init__(self) -> None:
        self.copied: list[tuple[str, int]] = []
        self.runs = 0
        self.graphs: dict[int, tuple[Any, Graph]] = {}

    target = Target(simt=True)  # type: ignore[assignment]

    def emit(self, plan: Any) -> Any:
        return plan

    def link(self, plan: Any, emitted: Any, avals: Sequence[Any]) -> Any:
        whole = self.graphs[id(plan)][1]
        oracle = NumpyProgram(lowered(whole))
        dtypes = [i.aval for i in whole.inputs]
        assert not any([n.op == "transfer" or n.aval.device != "cpu" for n in whole.order])

        def run(arrays: Sequence[Any]) -> list[Any]:
            self.runs += 1
            inside = []
            for a, want in zip(arrays, dtypes, strict=True):
                paired = (2,) * (np.dtype(getattr(a.dtype, "np", a.dtype)).kind == "c")     # two parts, as they lie in memory
                assert (*a.shape, *paired) == want.shape
                if isinstance(a, np.ndarray):
                    assert a.shape == (), "an array of the host's went into a program of the device"
                    inside.append(_parts(a))
                else:
                    assert a.dtype.part is want.dtype
                    inside.append(_parts(a._inside))
            return [FakeArray(_whole(o, a.dtype.np), a.dtype) for o, a in zip(oracle(inside), avals, strict=True)]
        return run

    def source(self, plan: Any, emitted: Any) -> str:
        return "# kernels of the fake device"

    def from_host(self, array: np.ndarray, dtype: DType) -> FakeArray:
        self.copied.append(("in", array.nbytes))
        return FakeArray(np.array(array, order="C"), dtype)

    def to_host(self, array: FakeArray) -> np.ndarray:
        assert type(array) is FakeArray
        self.copied.append(("out", array.nbytes))
        return np.array(array._inside)

    def copy(self, array: FakeArray) -> FakeArray:
        return FakeArray(array._inside.copy(), array.dtype)

    def assign(self, target: FakeArray, source: FakeArray) -> None:
        np.copyto(target._inside, source._inside)

    def part(self, array: FakeArray, start: int, shape: tuple[int, ...]) -> FakeArray:
        size = int(np.prod(shape))
        return FakeArray(array._inside.reshape(-1)[start:start + size].reshape(shape), array.dtype)

    def from_others(self, owner: Any) -> FakeArray:
        shown = np.asarray(owner.shown)
        return FakeArray(shown, as_dtype(shown.dtype))

    def pinned(self, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
        self._pinned = np.zeros(shape, dtype.np)
        return self._pinned

    def is_pinned(self, array: np.ndarray) -> bool:
        return np.may_share_memory(array, getattr(self, "_pinned", np.zeros(1)))

    def random(self, kind: str, seed: int, draw: int, shape: tuple[int, ...], dtype: DType, low: int = 0, high: int = 1) -> Any:
        count = int(np.prod(shape))
        if kind == "uniform":
            made = (philox.uniform64 if dtype.np == np.float64 else philox.uniform32)(seed, draw, count)
        elif kind == "normal":
            made = philox.normal(seed, draw, count, dtype.np)
        else:
            assert kind == "integers"
            made = philox.integers(seed, draw, count, low, high)
        return FakeArray(made.astype(dtype.np).reshape(shape), dtype)

    def synchronize(self) -> None:
        return None

    # ------------------------------------------------------------ what tests ask
    def bytes(self, direction: str) -> int:
        """Bytes copied since the last time this was asked."""
        found = sum([n for d, n in self.copied if d == direction])
        self.copied = [(d, n) for d, n in self.copied if d != direction]
        return found


def forget() -> None:
    """Let go of all that knows a backend: programs that it has linked, values that wait for it."""
    path.forget()
    programs.clear()
    TEMPLATES.clear()
    evaluate.PENDING.clear()
    graph.forget()


@contextlib.contextmanager
def installed(backend: Any) -> Iterator[Any]:
    """`device="cuda"` is this backend for a while."""
    before, plain = devices._opened.get("cuda"), pipeline.schedule

    def schedule(whole: Graph, target: Any = None) -> Any:
        plan = plain(whole, target)
        if target is not None and target.simt:
            backend.graphs[id(plan)] = plan, whole
        return plan

    forget()
    devices._opened["cuda"], pipeline.schedule = backend, schedule
    try:
        yield backend
    finally:
        pipeline.schedule = plain
        forget()
        if before is None:
            del devices._opened["cuda"]
        else:
            devices._opened["cuda"] = before
