"""The three ways to run a program in autojit: traced, bound to fixed buffers, and eager."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.system import Prepared, System, cast, torch_shaped
from perf.workloads import Arrays, Workload


def autojit_namespace() -> Any:
    import autojit

    return torch_shaped(autojit)


class _Autojit(System):
    package = "autojit"
    role = "ours"
    env = {"AUTOJIT_TIER": "compile"}

    def missing(self) -> str | None:
        import autojit

        ready = hasattr(autojit, "value_and_grad")
        return None if ready else "autojit has no value_and_grad yet"


class AutojitTraced(_Autojit):
    name = "autojit"

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import autojit as aj

        function = aj.trace(workload.function(autojit_namespace(), self.form))
        joint = aj.value_and_grad(function, argnums=tuple(range(workload.wrt)))
        tensors = [aj.from_numpy(a) for a in cast(workload.arrays(), dtype)]
        last: list[Any] = [None]

        def call() -> None:
            last[0] = joint(*tensors)
            last[0][0].item()

        def read() -> Arrays:
            value, grads = last[0]
            return [t.detach().numpy() for t in (value, *grads)]

        return Prepared(call, read)


class AutojitBound(_Autojit):
    """Arguments and results fixed in memory: what samplers and integrators call in a loop."""

    name = "autojit-bound"
    early = True

    def missing(self) -> str | None:
        import autojit as aj

        why = super().missing()
        if why is None and not hasattr(aj.value_and_grad(lambda x: x), "bind"):
            why = "autojit binds no calls yet"
        return why

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import autojit as aj

        function = aj.trace(workload.function(autojit_namespace(), self.form))
        joint = aj.value_and_grad(function, argnums=tuple(range(workload.wrt)))
        bound = joint.bind(*[aj.from_numpy(a) for a in cast(workload.arrays(), dtype)])

        def read() -> Arrays:
            return [_array(a) for a in (bound.value, *bound.grads)]

        return Prepared(bound.run, read)


def _array(result: Any) -> np.ndarray:
    return result.detach().numpy() if hasattr(result, "detach") else np.asarray(result)


class AutojitEager(_Autojit):
    name = "autojit-eager"

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import autojit as aj

        function = workload.function(autojit_namespace(), self.form)
        tensors = [aj.from_numpy(a) for a in cast(workload.arrays(), dtype)]
        leaves = [t.requires_grad_() for t in tensors[: workload.wrt]]
        last: list[Any] = [None]

        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            last[0] = function(*tensors)
            last[0].backward()
            last[0].item()

        def read() -> Arrays:
            return [last[0].detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

        return Prepared(call, read)
