"""Stencils: what many shifted places read is kept, and inner loops run without the conditions at the edges."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu.emit import emit_kernel
from autojit.backends.numpy.run import NumpyProgram
from autojit.config import config
from autojit.dtypes import float32
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.ops.declare import P
from autojit.schedule.loops import KernelStep
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule
from autojit.tracing.inspection import source_of

from .checking import evaluate  # noqa: F401  (the operations are declared there)
from .plain import run_plain


@pytest.fixture(autouse=True)
def compiled():
    before = config.tier
    config.tier = "compile"
    yield
    config.tier = before


def step(u):
    """A nonlinear step on the inner cells: three dimensions, six neighbours."""
    c = u[1:-1, 1:-1, 1:-1]
    around = u[2:, 1:-1, 1:-1] + u[:-2, 1:-1, 1:-1] + u[1:-1, 2:, 1:-1] + u[1:-1, :-2, 1:-1] + u[1:-1, 1:-1, 2:]
    around = around + u[1:-1, 1:-1, :-2]
    return c + 0.1 * (around - 6 * c) + 0.01 * c * (1 - c)


def numeric(u: np.ndarray, f, at, h: float = 1e-3) -> float:
    a, b = u.copy(), u.copy()
    a[at] += h
    b[at] -= h
    return float(f(a) - f(b)) / (2 * h)


@pytest.mark.parametrize("shape", [(34, 35, 67), (5, 64, 70), (3, 3, 3), (40, 33, 32)])
def test_a_step_and_its_gradient(shape):
    u = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def f(u):
        c = step(u)
        return (c * c).sum()

    value, grad = aj.value_and_grad(aj.trace(f))(aj.from_numpy(u))
    wide = u.astype(np.float64)
    assert float(value) == pytest.approx(float(f(wide)), rel=1e-5)
    for at in [(0, 0, 0), (0, 1, 1), (1, 1, 1), (1, 2, 0), tuple(n - 2 for n in shape), tuple(n - 1 for n in shape)]:
        assert float(grad[at]) == pytest.approx(numeric(wide, f, at), abs=2e-4), at


def test_two_steps_are_two_kernels():
    """The second step would compute the first one seven times."""
    u = np.random.default_rng(0).standard_normal((40, 41, 70)).astype(np.float32)
    f = aj.trace(lambda u: step(step(u)))
    got = f(aj.from_numpy(u)).numpy()
    np.testing.assert_allclose(got, step(step(u.astype(np.float64))), rtol=1e-4, atol=1e-4)
    assert source_of(f).count("#   kernel") == 2


def wave(n: int):
    """Pads of one dear array, added up."""
    x = placeholder(aval((n,), float32))
    y = P.exp(P.mul(x, x))
    parts = [P.pad(y, (k,), (n + 2,), (1,)) for k in range(3)]
    return Graph([x], [P.add(P.add(parts[0], parts[1]), parts[2])])


def test_conditions_leave_the_inner_loop():
    plan = schedule(wave(50_000))
    verify_schedule(plan)
    kernels = [s for s in plan.steps if isinstance(s, KernelStep)]
    assert len(kernels) == 2 and any("kept" in note for note in plan.notes)
    text = emit_kernel(kernels[1].kernel).text
    inner = text[text.rindex("for "):]
    assert ">= 0" not in inner and ">= 0" in text and "exp" not in text


@pytest.mark.parametrize("n", [100, 20_000, 33_333])
def test_parted_loops_compute_what_the_others_do(n):
    x = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    graph = wave(n)
    (got,) = run_plain(graph, [x])
    (want,) = NumpyProgram(graph)([x])
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_few_elements_are_not_worth_a_kernel():
    assert len(schedule(wave(100)).steps) == 1


def test_disjoint_parts_are_not_shifts():
    """Each element of the array is wanted once."""
    x = placeholder(aval((3 * 8192,), float32))
    y = P.exp(x)
    parts = [P.slice(y, (k * 8192,), ((k + 1) * 8192,), (1,)) for k in range(3)]
    plan = schedule(Graph([x], [P.add(P.mul(parts[0], parts[1]), parts[2])]))
    assert len(plan.steps) == 1
