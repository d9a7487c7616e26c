"""Sorting, running sums, scatters and their like as kernels: NumPy's results, without NumPy and without Numba."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import byhand
from autojit.backends.cpu.interpret import load
from autojit.dtypes import as_dtype
from autojit.engine.compile import prepare
from autojit.errors import VerifyError
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.ir.primitive import REGISTRY
from autojit.ops.declare import P
from autojit.schedule.loops import CallStep, Schedule
from autojit.schedule.verify import verify_schedule

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setattr(aj.config, "tier", "compile")


def values(shape, dtype):
    """Few different ones, with all that is special about floats."""
    a = RNG.standard_normal(shape) * 3
    if np.dtype(dtype).kind == "f":
        a = np.round(a, 1).astype(dtype)
        if a.size > 20:
            a.reshape(-1)[[2, 5, 7, 11, 13, 17]] = np.nan, -0.0, 0.0, np.inf, -np.inf, -np.nan
        return a
    return a > 0 if dtype == "bool" else np.round(a * 9).astype(dtype)


def compare(build, *arrays, rtol=0.0):
    """The native program of one operation against its reference; rtol 0: the same values."""
    ins = [placeholder(aval(a.shape, as_dtype(a.dtype))) for a in arrays]
    out = build(*ins)
    ready = prepare(Graph(ins, [out]))
    assert {type(s) for s in ready.schedule.steps} == {CallStep}
    found, = ready.link()(arrays)
    with np.errstate(all="ignore"):
        wanted = out.prim.ref(*arrays, *out.params)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    if rtol:
        np.testing.assert_allclose(found, wanted, rtol, rtol * 50)
    else:
        np.testing.assert_array_equal(found, wanted)


SHAPES = [((1,), 0), ((3, 700), 1), ((70, 9), 0), ((2, 7, 40), 1), ((2, 40000), 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_running_sums_products_and_extremes(shape, axis, dtype):
    a = values(shape, dtype)
    exact = a.dtype.kind != "f"
    plain = a if exact else np.nan_to_num(a, posinf=1, neginf=1)
    compare(lambda x: P.cumsum(x, axis), plain, rtol=0 if exact else 1e-3 if dtype == "float32" else 1e-11)
    compare(lambda x: P.cumprod(x, axis), plain if exact else 1 + plain / 1e3, rtol=0 if exact else 1e-3)
    for largest in (True, False):
        compare(lambda x, k=largest: P.cumarg(x, axis, k), a)
    if not exact:
        compare(lambda x: P.logcumsumexp(x, axis), plain * 50, rtol=1e-5)


def test_logarithms_of_running_sums_at_infinities():
    a = np.array([[-np.inf, -np.inf, 1, 2, -np.inf], [-np.inf, 3, np.inf, 2, -np.inf], [1, np.nan, 2, np.inf, 3]])
    for axis in (0, 1):
        compare(lambda x, k=axis: P.logcumsumexp(x, k), a, rtol=1e-14)


def test_a_running_sum_keeps_what_float32_would_lose():
    a = np.full(1_000_000, 0.1, np.float32)
    found = aj.trace(lambda x: x.cumsum(0))(aj.tensor(a)).numpy()
    np.testing.assert_allclose(found, np.cumsum(a.astype(float)), 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "int8", "uint8", "bool"])
@pytest.mark.parametrize(("shape", "axis"), [*SHAPES, ((40, 20), 1)])
def test_orders_are_stable_with_nan_last(shape, axis, dtype):
    a = values(shape, dtype)
    for down in (False, True):
        compare(lambda x, d=down: P.argsort(x, axis, d), a)
    compare(lambda x: P.sort(x, axis, False), a)


def test_whole_numbers_of_all_sizes_are_sorted():
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, -1, 0, 1])
    for n in (30, 3000, 40000):
        a = RNG.integers(-2 ** 63, 2 ** 63, n)
        a[:5] = ends
        for down in (False, True):
            compare(lambda x, d=down: P.argsort(x, 0, d), a)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_the_first_so_many_are_found_without_the_others(dtype):
    a = values((5, 300), dtype)
    for down in (False, True):
        for k in (1, 7):
            order = P.argsort(placeholder(aval(a.shape, as_dtype(a.dtype))), 1, down)
            ready = prepare(Graph(order.inputs, [P.slice(order, (0, 0), (5, k), (1, 1))]))
            assert "first" in ready.source()
            found, = ready.link()([a])
            np.testing.assert_array_equal(found, order.prim.ref(a, 1, down)[:, :k])


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((5, 9), 1), ((4, 6, 5), 1), ((3, 4, 5, 2), 2)])
def test_scatters(shape, axis, dtype):
    a = values(shape, dtype)
    for places in ((11,), (2, 3), ()):
        i = RNG.integers(0, shape[axis], places)
        v = values((*shape[:axis], *places, *shape[axis + 1:]), dtype)
        compare(lambda a, i, v: P.index_set(a, i, v, axis), a, np.asarray(i), np.asarray(v))
    for cut in (0, 1):                                    # as many beside the axis, or fewer
        part = tuple([11 if k == axis else n - cut * (k % 2) for k, n in enumerate(shape)])
        i, v = RNG.integers(0, shape[axis], part), values(part, dtype)
        compare(lambda a, i, v: P.scatter_set(a, i, v, axis), a, i, v)
        for how in ("max", "min", "mul"):
            compare(lambda a, i, v, h=how: P.scatter_fold(a, i, v, axis, h), a, i, v)


def test_results_do_not_depend_on_threads():
    a, b = RNG.standard_normal(100_000).astype(np.float32), RNG.standard_normal((300, 400)).astype(np.float32)
    f = aj.trace(lambda a, b: (a.cumsum(0), a.argsort(), b.cumsum(0), b.argsort(1), b.logcumsumexp(0)))
    threads, found = aj.config.num_threads, []
    try:
        for n in (1, 2):
            aj.config.num_threads = n
            found.append([x.numpy().copy() for x in f(aj.tensor(a), aj.tensor(b))])
    finally:
        aj.config.num_threads = threads
    for one, two in zip(*found, strict=True):
        assert one.tobytes() == two.tobytes()


def test_loops_bound_calls_and_gradients():
    xs = RNG.standard_normal((4, 3, 20))
    f = aj.trace(lambda c, xs: aj.scan(lambda c, x: ((c * 0.5 + x).cumsum(1).sort(1)[0], c[0, 0]), c, xs))
    c = xs[0]
    for x in xs:
        c = np.sort(np.cumsum(c * 0.5 + x, 1), 1)
    np.testing.assert_allclose(f(aj.tensor(xs[0]), aj.tensor(xs))[0].numpy(), c, 1e-9)
    x = aj.tensor(xs[0].copy())
    vg = aj.value_and_grad(lambda x: (x.sort(1)[0].cumsum(1)[:, :5] ** 2).sum())
    bound = vg.bind(x)
    x[0, 0] = -9.0
    value = bound().item()
    rows = np.sort(x.numpy(), 1).cumsum(1)[:, :5]
    np.testing.assert_allclose(value, (rows ** 2).sum(), 1e-12)
    np.testing.assert_array_equal(bound.grads.numpy(), vg(x)[1].numpy())


def test_what_a_kernel_refuses_runs_by_numpy(monkeypatch):
    def refusing(prim, avals, out, params, first=None):
        made = byhand.Form(avals, out, params)
        made.kernel("    for i in range(lo, hi):\n        y[i] = x[i]\n        if x[i] < f8(0.0):\n            refuse()\n",
                    {"x": "in0", "y": "out"}, {}, out.size, 1)
        return made

    monkeypatch.setattr(byhand, "form", refusing)
    f = aj.trace(lambda x: x.cumsum(0))
    assert f(aj.tensor(np.array([1.0, 2.0, 3.25]))).tolist() == [1.0, 2.0, 3.25]           # the kernel's
    assert f(aj.tensor(np.array([1.0, -2.0, 3.25]))).tolist() == [1.0, -1.0, 2.25]         # NumPy's
    bound = f.bind(x := aj.tensor(np.array([1.0, 2.0, 3.5])))
    assert bound().tolist() == [1.0, 2.0, 3.5]
    x[1] = -2
    assert bound().tolist() == [1.0, -1.0, 2.5]


def test_texts_mean_the_same_to_the_interpreter():
    a = values((3, 50), "float64")
    form = byhand.form(REGISTRY["argsort"], [aval(a.shape, as_dtype("float64"))], aval(a.shape, as_dtype("int64")), (1, False))
    memory = {word: np.zeros(size, d.np) for word, (d, size) in form.scratch.items()}
    memory |= {"in0": a.reshape(-1), "out": np.zeros(a.size, np.int64)}
    for p in form.passes:
        load(p.text)([*[memory[word] for word in p.buffers], *[e[1] for e in p.numbers]], 0, p.n, 0)
    np.testing.assert_array_equal(memory["out"].reshape(a.shape), np.argsort(a, 1, kind="stable"))


def test_a_step_writes_what_it_alone_holds():
    x = placeholder(aval((40,), as_dtype("float32")))
    plan = prepare(Graph([x], [P.cumsum(x, 0)])).schedule
    step, = plan.steps
    verify_schedule(plan)
    for table in ((step.table[0], step.table[0], *step.table[2:]), (("buffer", step.writes[0]), *step.table[1:])):
        wrong = CallStep(step.host, step.text, table, step.writes, step.n, step.chunks)
        with pytest.raises(VerifyError):
            verify_schedule(Schedule([wrong], plan.buffers, plan.inputs, plan.outputs, []))


def test_nothing_of_it_imports_numba():
    code = ("import sys, autojit as aj; aj.config.tier = 'compile'; x = aj.rand(50, 60);"
            "aj.trace(lambda x: (x.sort(1)[0], x.cumsum(0), x.topk(3)[0], x.cummax(1)[0]))(x);"
            "assert 'numba' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
