"""The peers that run every program: PyTorch and JAX, as most write them and at their strongest."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf.system import Prepared, System, cast, torch_shaped
from perf.workloads import Arrays, Workload


def torch_namespace() -> Any:
    import torch

    return torch_shaped(torch)


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
        relu=jax.nn.relu,
        conv2=lambda x, w, b: jax.lax.conv(x, w, (1, 1), "VALID") + b[:, None, None],
        pool2=lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"),
        scan=scan,
    )


class Jax(System):
    name = "jax"
    package = "jax"
    env = {"JAX_PLATFORMS": "cpu"}

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
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
    form = "scan"
