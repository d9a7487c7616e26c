"""Systems: what can compute a workload's value and gradients. One class each, one method of weight.

In: a `Workload`. Out: a `Prepared` pair: `call()` computes value and gradients once and returns
when they are there; `read()` gives those of the last call as NumPy arrays. A system imports its
library only in `prepare`, never measures time and never checks a result. To add a peer, write a
class and put it in `SYSTEMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from perf.workloads import Arrays, Workload


class Prepared(NamedTuple):
    call: Callable[[], object]
    read: Callable[[], Arrays]


class System:
    """Base of all systems; the class attributes are what the harness and the report need.

    package: what must be importable. role: "ours"; "peer", what most users write, against which
    targets count; "strong", a second column. form: which form of a program it runs. slow_compile:
    left out by `--quick`. env: what its process gets in its environment.
    """

    name = ""
    package = ""
    role = "peer"
    form = "plain"
    slow_compile = False
    env: dict[str, str] = {}
    rivals: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why this system cannot run here, or None."""
        found = find_spec(self.package) is not None
        return None if found else f"{self.package} is not installed"

    def handles(self, workload: Workload) -> bool:
        return self.form == "plain" or workload.scan is not None

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        raise NotImplementedError


def cast(arrays: Arrays, dtype: str) -> Arrays:
    """The floating arrays in `dtype`, the others as they are."""
    return [a.astype(dtype, copy=False) if a.dtype.kind == "f" else a for a in arrays]


def torch_namespace() -> Any:
    import torch as t

    return SimpleNamespace(
        exp=t.exp,
        log=t.log,
        log1p=t.log1p,
        sin=t.sin,
        tanh=t.tanh,
        sigmoid=t.sigmoid,
        erf=t.erf,
        sqrt=t.sqrt,
        abs=t.abs,
        maximum=t.maximum,
        minimum=t.minimum,
        amax=lambda x, dim: t.amax(x, dim, keepdim=True),
        permute=lambda x, order: x.permute(order),
        pick=lambda x, column: t.gather(x, 1, column[:, None])[:, 0],
    )


class TorchEager(System):
    name = "torch"
    package = "torch"

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import torch

        function = self.compiled(workload.function(torch_namespace(), self.form))
        tensors = [torch.from_numpy(a) for a in cast(workload.arrays(), dtype)]
        leaves = [t.requires_grad_() for t in tensors[: workload.wrt]]
        last: list[Any] = [None]

        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            last[0] = function(*tensors)
            last[0].backward()

        def read() -> Arrays:
            return [last[0].detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

        return Prepared(call, read)


def fresh_compiler() -> Any:
    """torch with nothing remembered of other workloads.

    Else the compiler takes ours for one function that changes its shapes, and falls back to
    symbolic sizes, then, silently, to eager mode.
    """
    import torch

    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch


class TorchCompile(TorchEager):
    """What the manual says: compile the loss, then call `backward()`."""

    name = "torch.compile"
    slow_compile = True

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return fresh_compiler().compile(function, dynamic=False)


class TorchCompileJoint(System):
    """One compiled graph for value and gradients: few write it, and it is faster."""

    name = "torch.compile-joint"
    package = "torch"
    role = "strong"
    slow_compile = True

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        torch = fresh_compiler()
        function = workload.function(torch_namespace(), self.form)
        wrt = tuple(range(workload.wrt))
        joint = torch.compile(torch.func.grad_and_value(function, argnums=wrt), dynamic=False)
        tensors = [torch.from_numpy(a) for a in cast(workload.arrays(), dtype)]
        last: list[Any] = [None]

        def call() -> None:
            last[0] = joint(*tensors)

        def read() -> Arrays:
            grads, value = last[0]
            return [t.detach().numpy() for t in (value, *grads)]

        return Prepared(call, read)


def jax_namespace() -> Any:
    import jax
    import jax.numpy as jnp

    def scan(step: Callable[..., Any], carry: Any, xs: Any, length: int | None = None) -> Any:
        return jax.lax.scan(lambda c, x: (step(c, x), None), carry, xs, length)[0]

    return SimpleNamespace(
        exp=jnp.exp,
        log=jnp.log,
        log1p=jnp.log1p,
        sin=jnp.sin,
        tanh=jnp.tanh,
        sigmoid=jax.nn.sigmoid,
        erf=jax.scipy.special.erf,
        sqrt=jnp.sqrt,
        abs=jnp.abs,
        maximum=jnp.maximum,
        minimum=jnp.minimum,
        amax=lambda x, dim: jnp.max(x, dim, keepdims=True),
        permute=jnp.transpose,
        pick=lambda x, column: jnp.take_along_axis(x, column[:, None], 1)[:, 0],
        scan=scan,
    )


class Jax(System):
    name = "jax"
    package = "jax"
    env = {"JAX_PLATFORMS": "cpu"}

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import jax

        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        function = workload.function(jax_namespace(), self.form)
        wrt = tuple(range(workload.wrt))
        joint = jax.jit(jax.value_and_grad(function, argnums=wrt))
        arrays = [jax.numpy.asarray(a) for a in cast(workload.arrays(), dtype)]
        last: list[Any] = [None]

        def call() -> None:
            # one executable gives all outputs, so waiting for the value is waiting for all
            last[0] = joint(*arrays)
            last[0][0].block_until_ready()

        def read() -> Arrays:
            value, grads = last[0]
            return [np.asarray(a) for a in (value, *grads)]

        return Prepared(call, read)


class JaxScan(Jax):
    """The looping programs written with `lax.scan`."""

    name = "jax-scan"
    role = "strong"
    form = "scan"


def autojit_namespace() -> Any:
    import autojit as aj

    return SimpleNamespace(
        exp=aj.exp,
        log=aj.log,
        log1p=aj.log1p,
        sin=aj.sin,
        tanh=aj.tanh,
        sigmoid=aj.sigmoid,
        erf=aj.erf,
        sqrt=aj.sqrt,
        abs=aj.abs,
        maximum=aj.maximum,
        minimum=aj.minimum,
        amax=lambda x, dim: aj.amax(x, dim, keepdim=True),
        permute=lambda x, order: x.permute(order),
        pick=lambda x, column: aj.gather(x, 1, column[:, None])[:, 0],
    )


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
    rivals = ("torch", "torch.compile", "jax")

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


class AutojitEager(_Autojit):
    name = "autojit-eager"
    rivals = ("torch",)

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


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        AutojitTraced(),
        AutojitEager(),
        TorchEager(),
        TorchCompile(),
        Jax(),
        TorchCompileJoint(),
        JaxScan(),
    )
}
# the first that is installed gives the float64 results that every system is checked against
REFERENCES = ("torch", "jax")
