"""The systems on a GPU: autojit, torch eager, torch.compile in four ways, jax.jit.

As `system.System`, but for `gpu_rows.Row`s: `call()` starts the work and does not wait, `sync()`
waits for all that was started. A system imports its library only in `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from perf.gpu_rows import Row
from perf.ours import autojit_namespace
from perf.peers import fresh_compiler, jax_namespace, torch_namespace
from perf.system import System, cast
from perf.workloads import Arrays


class OnDevice(NamedTuple):
    call: Callable[[], object]
    sync: Callable[[], object]
    read: Callable[[], Arrays]


class GpuSystem(System):
    """standin: tiny sizes; autojit runs on the stand-in driver, its peers on the CPU."""

    def absent(self, standin: bool) -> str | None:
        """Why this system cannot run here, or None."""
        return self.missing()

    def on_device(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> OnDevice:
        raise NotImplementedError


class Autojit(GpuSystem):
    name = "autojit"
    package = "autojit"
    role = "ours"
    env = {"AUTOJIT_TIER": "compile"}

    def on_device(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> OnDevice:
        import autojit as aj

        aj.set_float32_matmul_precision(row.precision)
        workload = row.workload(standin)
        function = aj.trace(workload.function(autojit_namespace()))
        joint = aj.value_and_grad(function, argnums=tuple(range(workload.wrt)))
        half = dtype in ("bfloat16", "float16")
        tensors = [aj.from_numpy(a) for a in cast(arrays, "float32" if half else dtype)]
        if half:
            tensors = [t.to(getattr(aj, dtype)) if t.is_floating_point() else t for t in tensors]
        tensors = [t.to("cuda") for t in tensors]
        last: list[Any] = [None]

        def call() -> None:
            last[0] = joint(*tensors)

        def read() -> Arrays:
            value, grads = last[0]
            return [t.detach().to("cpu").to(aj.float64).numpy() for t in (value, *grads)]

        return OnDevice(call, aj.cuda.synchronize, read)


def _nothing() -> None:
    return None


class Torch(GpuSystem):
    name = "torch"
    package = "torch"
    mode: str | None = None

    def absent(self, standin: bool) -> str | None:
        why = self.missing()
        if why is None and not standin:
            import torch

            why = None if torch.cuda.is_available() else "this torch sees no GPU"
        return why

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def tensors(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> list[Any]:
        import torch

        torch.set_float32_matmul_precision(row.precision)
        kind = getattr(torch, dtype)
        moved = [torch.from_numpy(a).to("cpu" if standin else "cuda") for a in arrays]
        return [t.to(kind) if t.is_floating_point() else t for t in moved]

    def on_device(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> OnDevice:
        import torch

        workload = row.workload(standin)
        function = self.compiled(workload.function(torch_namespace()))
        tensors = self.tensors(row, arrays, standin, dtype)
        leaves = [t.requires_grad_() for t in tensors[: workload.wrt]]
        last: list[Any] = [None]

        def call() -> None:
            if self.mode:
                torch.compiler.cudagraph_mark_step_begin()
            for leaf in leaves:
                leaf.grad = None
            last[0] = function(*tensors)
            last[0].backward()

        def read() -> Arrays:
            return [t.detach().double().cpu().numpy() for t in (last[0], *(leaf.grad for leaf in leaves))]

        return OnDevice(call, _nothing if standin else torch.cuda.synchronize, read)


class TorchCompile(Torch):
    name = "torch.compile"
    slow_compile = True

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return fresh_compiler().compile(function, dynamic=False, mode=self.mode)


class TorchCompileGraph(TorchCompile):
    name = "torch.compile-graph"
    mode = "reduce-overhead"


class TorchCompileJoint(TorchCompile):
    """One compiled graph for value and gradients."""

    name = "torch.compile-joint"

    def on_device(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> OnDevice:
        torch = fresh_compiler()
        workload = row.workload(standin)
        function = workload.function(torch_namespace())
        wrt = tuple(range(workload.wrt))
        joint = torch.compile(torch.func.grad_and_value(function, argnums=wrt), dynamic=False, mode=self.mode)
        tensors = self.tensors(row, arrays, standin, dtype)
        last: list[Any] = [None]

        def call() -> None:
            if self.mode:
                torch.compiler.cudagraph_mark_step_begin()
            last[0] = joint(*tensors)

        def read() -> Arrays:
            grads, value = last[0]
            return [t.detach().double().cpu().numpy() for t in (value, *grads)]

        return OnDevice(call, _nothing if standin else torch.cuda.synchronize, read)


class TorchCompileJointGraph(TorchCompileJoint):
    name = "torch.compile-joint-graph"
    mode = "reduce-overhead"


class Jax(GpuSystem):
    name = "jax"
    package = "jax"
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

    def absent(self, standin: bool) -> str | None:
        why = self.missing()
        if why is None and not standin:
            import jax

            why = None if jax.default_backend() == "gpu" else "this jax sees no GPU"
        return why

    def on_device(self, row: Row, arrays: Arrays, standin: bool, dtype: str) -> OnDevice:
        import jax

        precision = {"highest": "highest", "high": "tensorfloat32"}[row.precision]
        jax.config.update("jax_default_matmul_precision", None if dtype == "bfloat16" else precision)
        workload = row.workload(standin)
        wrt = tuple(range(workload.wrt))
        joint = jax.jit(jax.value_and_grad(workload.function(jax_namespace()), argnums=wrt))
        kind = getattr(jax.numpy, dtype)
        moved = [jax.numpy.asarray(a, kind) if a.dtype.kind == "f" else jax.numpy.asarray(a) for a in arrays]
        last: list[Any] = [None]

        def call() -> None:
            last[0] = joint(*moved)

        def read() -> Arrays:
            value, grads = last[0]
            return [np.asarray(a).astype(np.float64) for a in (value, *grads)]

        return OnDevice(call, lambda: jax.block_until_ready(last[0]), read)


SYSTEMS: dict[str, GpuSystem] = {
    system.name: system
    for system in (
        Autojit(),
        Torch(),
        TorchCompile(),
        TorchCompileGraph(),
        TorchCompileJoint(),
        TorchCompileJointGraph(),
        Jax(),
    )
}
