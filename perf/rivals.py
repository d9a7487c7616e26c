"""Libraries made for one kind of work, each on the programs that suit it.

Not every one can express every program, so a class names its pairs and writes them in the
library's own words; values and gradients are checked as everyone's. `published` holds the figures
that stand in for those that cannot run. Each is called in its fastest documented form: buffers
bound where the library binds them, graphs frozen where it freezes them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf.peers import Jax, jax_namespace
from perf.system import Prepared, System, cast
from perf.workloads import Arrays, Workload


class DrJit(System):
    """LLVM backend, the whole of value and gradient frozen. Needs a libLLVM of the system."""

    name = "drjit"
    package = "drjit"
    pairs = ("elem", "pair", "softmax_ce", "gp", "ode")

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import drjit as dr
        import drjit.llvm.ad as llvm

        floats = llvm.Float if dtype == "float32" else llvm.Float64
        arrays = cast(workload.arrays(), dtype)
        given = [floats(a.ravel()) if a.dtype.kind == "f" else llvm.UInt32(a) for a in arrays]
        loss = getattr(self, workload.base)(dr, llvm, [a.shape for a in arrays], **workload.sizes)

        @dr.freeze
        def joint(given: list[Any]) -> tuple[Any, Any]:
            x = floats(given[0])
            dr.enable_grad(x)
            value = loss(x, *given[1:])
            dr.backward(value)
            return dr.detach(value), dr.grad(x)

        last: list[Any] = [None]

        def call() -> None:
            last[0] = joint(given)
            dr.eval(last[0])
            dr.sync_thread()

        def read() -> Arrays:
            value, gradient = last[0]
            return [value.numpy()[0], gradient.numpy().reshape(arrays[0].shape)]

        return Prepared(call, read)

    @staticmethod
    def elem(dr: Any, llvm: Any, shapes: Any, n: int) -> Callable[..., Any]:
        return lambda x: dr.sum(dr.exp(-x * x) * dr.sin(x) + x)

    @staticmethod
    def pair(dr: Any, llvm: Any, shapes: Any, n: int) -> Callable[..., Any]:
        def loss(x: Any) -> Any:
            i, j = dr.meshgrid(dr.arange(llvm.UInt32, n), dr.arange(llvm.UInt32, n))
            r2 = 0.01
            for k in range(3):
                d = dr.gather(type(x), x, 3 * i + k) - dr.gather(type(x), x, 3 * j + k)
                r2 = r2 + d * d
            return dr.sum(dr.rsqrt(r2))

        return loss

    @staticmethod
    def gp(dr: Any, llvm: Any, shapes: Any, n: int, dims: int) -> Callable[..., Any]:
        def loss(scale: Any, a: Any, b: Any) -> Any:
            i, j = dr.meshgrid(dr.arange(llvm.UInt32, n), dr.arange(llvm.UInt32, n))
            r2 = 0.0
            for k in range(dims):
                d = dr.gather(type(a), a, dims * i + k) - dr.gather(type(b), b, dims * j + k)
                d = d / dr.gather(type(scale), scale, llvm.UInt32(k))
                r2 = r2 + d * d
            return dr.sum(dr.exp(-0.5 * r2))

        return loss

    @staticmethod
    def softmax_ce(dr: Any, llvm: Any, shapes: Any, rows: int, classes: int) -> Callable[..., Any]:
        def loss(z: Any, y: Any) -> Any:
            row = dr.arange(llvm.UInt32, rows)
            top = dr.block_reduce(dr.ReduceOp.Max, dr.detach(z), classes)
            shifted = z - dr.repeat(top, classes)
            total = dr.block_sum(dr.exp(shifted), classes)
            picked = dr.gather(type(z), shifted, row * classes + y)
            return dr.sum(dr.log(total) - picked) / rows

        return loss

    @staticmethod
    def ode(dr: Any, llvm: Any, shapes: Any, steps: int) -> Callable[..., Any]:
        def loss(p: Any) -> Any:
            a, b, c, d = (dr.gather(type(p), p, llvm.UInt32(k)) for k in range(4))
            x, y = lotka_volterra(a, b, c, d, 1.0 + 0 * a, 0.5 + 0 * a, steps)
            return x * x + y * y

        return loss


def lotka_volterra(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any, steps: int) -> tuple[Any, Any]:
    for _ in range(steps):
        x, y = x + 0.01 * (a * x - b * x * y), y + 0.01 * (-c * y + d * x * y)
    return x, y


def rosenbrock(x: Any, total: Callable[[list[Any]], Any]) -> Any:
    n = len(x)
    return total([100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 for k in range(n - 1)])


class Heyoka(System):
    """Compiled functions of symbols, writing into arrays that are given."""

    name = "heyoka"
    package = "heyoka"
    early = True
    pairs = ("elem", "rosen", "ode")
    bound = True

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import heyoka as hy

        (x,) = cast(workload.arrays(), dtype)
        symbols = [hy.expression(f"x{k}") for k in range(1 if workload.base == "elem" else x.size)]
        value = getattr(self, workload.base)(hy, symbols, **workload.sizes)
        gradient = hy.diff_tensors([value], diff_args=symbols, diff_order=1).gradient
        compiled = hy.cfunc([value, *gradient], vars=symbols, fp_type=np.dtype(dtype).type)
        if workload.base != "elem":
            results = np.empty(1 + x.size, dtype)
            return Prepared(lambda: compiled(x, outputs=results), lambda: [results[0], results[1:].copy()])
        each, points = np.empty((2, x.size), dtype), x[None]
        total: list[Any] = [None]

        def call() -> None:
            compiled(points, outputs=each)
            total[0] = each[0].sum()

        return Prepared(call, lambda: [total[0], each[1].copy()])

    @staticmethod
    def elem(hy: Any, x: list[Any], n: int) -> Any:
        return hy.exp(-x[0] * x[0]) * hy.sin(x[0]) + x[0]

    @staticmethod
    def rosen(hy: Any, x: list[Any], n: int) -> Any:
        return rosenbrock(x, hy.sum)

    @staticmethod
    def ode(hy: Any, p: list[Any], steps: int) -> Any:
        x, y = lotka_volterra(*p, hy.expression(1.0), hy.expression(0.5), steps)
        return x * x + y * y


class CasADi(System):
    """Generated C, compiled with `gcc -O3 -march=native`, buffers bound; in double, as it comes."""

    name = "casadi"
    package = "casadi"
    early = True
    pairs = ("rosen", "ode")
    bound = True
    flags = ("-O3", "-march=native")

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import casadi

        x = workload.arrays()[0].astype("float64")
        symbols = casadi.SX.sym("x", x.size)
        each = [symbols[k] for k in range(x.size)]
        if workload.base == "rosen":
            value = rosenbrock(each, lambda terms: sum(terms))
        else:
            u, v = lotka_volterra(*each, 1.0, 0.5, workload.sizes["steps"])
            value = u * u + v * v
        joint = casadi.Function("joint", [symbols], [value, casadi.gradient(value, symbols)])
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "joint.c"
            generator = casadi.CodeGenerator("joint.c")
            generator.add(joint)
            generator.generate(folder + os.sep)
            library = str(source.with_suffix(".so"))
            words = ["gcc", *self.flags, "-shared", "-fPIC", str(source), "-o", library, "-lm"]
            subprocess.run(words, check=True)
            compiled = casadi.external("joint", library)
        buffers, run = compiled.buffer()
        total, gradient = np.empty(1), np.empty(x.size)
        buffers.set_arg(0, memoryview(x))
        buffers.set_res(0, memoryview(total))
        buffers.set_res(1, memoryview(gradient))
        kept = (compiled, buffers, x)  # alive as long as the pair is

        def read() -> Arrays:
            assert kept
            return [total[0].copy(), gradient.copy()]

        return Prepared(run, read)


class Halide(System):
    """Its own adjoints, scheduled by the autoscheduler made for them (Li 2018)."""

    name = "halide"
    package = "halide"
    early = True
    pairs = ("pair",)

    def environment(self) -> dict[str, str]:
        """The wheel keeps its autoschedulers where the loader does not look."""
        found = find_spec(self.package)
        assert found is not None and found.origin is not None
        return {"LD_LIBRARY_PATH": str(Path(found.origin).parent / "lib64")}

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import halide as hl

        (x,) = cast(workload.arrays(), dtype)
        n = workload.sizes["n"]
        kind = hl.Float(32 if dtype == "float32" else 64)
        hl.load_plugin("autoschedule_li2018")
        points = hl.ImageParam(kind, 2, "points")
        k, i, j = hl.Var("k"), hl.Var("i"), hl.Var("j")
        point = hl.Func("point")
        point[k, i] = points[k, i]
        r2, loss = hl.Func("r2"), hl.Func("loss")
        r2[i, j] = hl.cast(kind, hl.f64(0.01))
        axis = hl.RDom([(0, 3)])
        difference = point[axis, i] - point[axis, j]
        r2[i, j] += difference * difference
        both = hl.RDom([(0, n), (0, n)])
        loss[()] = hl.cast(kind, 0)
        loss[()] += hl.cast(kind, 1) / hl.sqrt(r2[both.x, both.y])
        gradient = hl.propagate_adjoints(loss)[point]
        points.set_estimates([(0, 3), (0, n)])
        loss.set_estimates([])
        gradient.set_estimates([(0, 3), (0, n)])
        pipeline = hl.Pipeline([loss, gradient])
        target = hl.get_jit_target_from_environment()
        threads = {"parallelism": str(os.cpu_count())}
        pipeline.apply_autoscheduler(target, hl.AutoschedulerParams("Li2018", threads))
        points.set(hl.Buffer(x))
        total, slopes = np.zeros((), dtype), np.zeros_like(x)
        results = [hl.Buffer(total), hl.Buffer(slopes)]
        pipeline.compile_jit(target)
        kept = (points, x)  # the library holds no reference to the memory that it reads

        def read() -> Arrays:
            assert kept
            return [total.copy(), slopes.copy()]

        return Prepared(lambda: pipeline.realize(results), read)


class Iree(System):
    """jax's program through StableHLO; on one thread or all, whichever is faster.

    Loops unrolled: ten times faster than a scan on rnn. The default level sums too coarsely for our
    checks, but is the faster one on rnn, and the higher one fails on bs.
    """

    name = "iree"
    package = "iree.runtime"
    early = True
    pairs = ("bs", "rnn", "logreg", "attn")
    flags = {"logreg": ("--iree-opt-level=O3",), "attn": ("--iree-opt-level=O3",)}
    slow_compile = True
    env = Jax.env

    def missing(self) -> str | None:
        absent = super().missing() if find_spec("iree") else "iree is not installed"
        return absent or Jax().missing()

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import jax
        from iree import compiler, runtime
        from jax import export

        function = workload.function(jax_namespace())
        joint = jax.jit(jax.value_and_grad(function, argnums=tuple(range(workload.wrt))))
        arrays = cast(workload.arrays(), dtype)
        program = export.export(joint)(*arrays).mlir_module()
        code = compiler.compile_str(
            program,
            input_type="stablehlo",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=host", *self.flags.get(workload.base, ())],
        )
        forms = [self._loaded(runtime, code, arrays, d) for d in ("local-sync", "local-task")]

        def seconds(prepared: Prepared) -> float:
            prepared.call()
            start = perf_counter()
            for _ in range(5):
                prepared.call()
            return perf_counter() - start

        return min(forms, key=seconds)

    @staticmethod
    def _loaded(runtime: Any, code: bytes, arrays: Arrays, driver: str) -> Prepared:
        config = runtime.Config(driver)
        module = runtime.VmModule.copy_buffer(config.vm_instance, code)
        context = runtime.SystemContext(vm_modules=[module], config=config)
        function = module.lookup_function("main")
        inputs = runtime.VmVariantList(len(arrays))
        held = [runtime.asdevicearray(config.device, a) for a in arrays]
        for array in held:
            inputs.push_ref(array._buffer_view)
        last: list[Any] = [held]

        def call() -> None:
            outputs = runtime.VmVariantList(1)
            context.vm_context.invoke(function, inputs, outputs)
            last[0] = outputs

        def read() -> Arrays:
            views = [last[0].get_as_object(k, runtime.HalBufferView) for k in range(last[0].size)]
            return [np.array(runtime.DeviceArray(config.device, v, implicit_host_transfer=True)) for v in views]

        return Prepared(call, read)


class PyTensor(System):
    """Its C backend. It wants an older Numba than ours, so it runs in an environment of its own."""

    name = "pytensor"
    package = "pytensor"
    early = True
    pairs = ("logreg",)
    interpreter = "PERF_PYTENSOR_PYTHON"

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        import pytensor
        import pytensor.tensor as pt

        m = SimpleNamespace(exp=pt.exp, log1p=pt.log1p, abs=pt.abs, maximum=pt.maximum)
        arrays = cast(workload.arrays(), dtype)
        symbols = [pt.tensor(f"x{k}", dtype=a.dtype, shape=a.shape) for k, a in enumerate(arrays)]
        value = workload.function(m)(*symbols)
        gradients = pytensor.grad(value, symbols[: workload.wrt])
        mode = pytensor.compile.mode.Mode(linker="cvm", optimizer="fast_run")
        compiled = pytensor.function(
            [pytensor.In(s, borrow=True) for s in symbols],
            [pytensor.Out(r, borrow=True) for r in (value, *gradients)],
            mode=mode,
            trust_input=True,
        )
        last: list[Any] = [None]

        def call() -> None:
            last[0] = compiled(*arrays)

        return Prepared(call, lambda: [np.array(a) for a in last[0]])
