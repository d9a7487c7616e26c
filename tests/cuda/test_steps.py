"""Steps written by hand, in the interpreter, against the references: ragged, tiny and long axes, NaN, ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autojit import ops  # noqa: F401
from autojit.backends.cuda.cells import STORAGE
from autojit.backends.cuda.emitted import Emitted, Launches
from autojit.backends.cuda.interpret import run
from autojit.backends.cuda.steps import launches
from autojit.dtypes import DType, as_dtype, float32, float64, int32, int64
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, placeholder
from autojit.ir.primitive import REGISTRY
from autojit.ops.declare import P
from autojit.schedule.cost import Target
from autojit.schedule.loops import Buffer, ScanStep, ScatterStep, Schedule, SetStep, SortStep, touched
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule

STEPS = (ScanStep, SortStep, ScatterStep, SetStep)


def execute(found: Launches, memory: dict[str, np.ndarray]) -> None:
    """The launches of a step over named arrays; areas hold garbage before."""
    for a in found.areas:
        memory[a.name] = np.empty(a.size, STORAGE[a.code])
        memory[a.name].view(np.uint8)[:] = 0xA5
    for e in found.launches:
        args = [memory[row[1]] if row[0] == "buffer" else row[1] for row in e.table]
        assert len(args) == len(e.signature) and e.blocks > 0
        run(e.text, e.signature, args, e.blocks, e.threads, wide=e.wide)


def step_of(node: Node, inputs: list[Node]) -> tuple[object, Schedule]:
    """The step of a primitive over inputs, alone in its schedule but for the copy of what it is put into."""
    plan = schedule(Graph(inputs, [node]), Target(simt=True))
    verify_schedule(plan)
    (step,) = [s for s in plan.steps if isinstance(s, STEPS)]
    return step, plan


def result(name: str, arrays: list[np.ndarray], *params: object) -> tuple[np.ndarray, np.ndarray]:
    """What the step leaves in its output, and the reference."""
    inputs = [placeholder(aval(a.shape, as_dtype(a.dtype))) for a in arrays]
    node = getattr(P, name)(*inputs, *params)
    step, plan = step_of(node, inputs)
    memory = {n: a.reshape(-1).copy() for n, a in zip(plan.inputs, arrays)}
    want = REGISTRY[name].ref(*arrays, *params)
    (out,) = plan.outputs
    memory[out] = np.full(want.size, 77, want.dtype)
    if not isinstance(step, (ScanStep, SortStep)):
        memory[out][:] = arrays[0].reshape(-1)
    execute(launches(step, plan, plan.steps.index(step)), memory)
    assert not touched(step)[1] & set(plan.inputs)
    return memory[out].reshape(want.shape), want


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if np.dtype(dtype).kind == "u" else -9, 9, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


SHAPES = [((1,), 0), ((5,), 0), ((3, 7), 1), ((2, 100), 1), ((4, 65, 3), 1), ((3, 9, 40), 1), ((2500,), 0), ((2, 1025), 1),
          ((70, 33), 0), ((300, 40), 0)]


@pytest.mark.parametrize("shape, axis", SHAPES)
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp"])
def test_running_values_are_the_references(name, shape, axis):
    x = numbers(np.random.default_rng(0), shape, np.float32)
    if name == "cumprod":
        x = (1 + 0.05 * x).astype(np.float32)
    got, want = result(name, [x], axis)
    np.testing.assert_allclose(got, want, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32, np.uint8])
def test_sums_run_in_the_dtype_they_have(dtype):
    got, want = result("cumsum", [numbers(np.random.default_rng(1), (3, 1100), dtype)], 1)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape, axis", SHAPES)
@pytest.mark.parametrize("largest", [True, False])
def test_places_of_extremes(shape, axis, largest):
    x = np.round(numbers(np.random.default_rng(2), shape, np.float32), 1)
    x.reshape(-1)[::7] = np.nan if x.size > 100 else x.reshape(-1)[0]
    got, want = result("cumarg", [x], axis, largest)
    np.testing.assert_array_equal(got, want)


def test_running_infinities_and_nan():
    x = np.float32([[-np.inf, -np.inf, 1, np.inf, np.inf, 2], [np.inf, -np.inf, 3, 4, np.nan, 1]])
    for name in ("cumsum", "logcumsumexp"):
        with np.errstate(all="ignore"):
            got, want = result(name, [x], 1)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_three_levels_of_tiles():
    """Tiles of totals have tiles of their own."""
    x = np.random.default_rng(3).integers(0, 3, 1024 * 1024 + 5)
    buffers = {n: Buffer(n, kind, int64, x.size) for n, kind in (("a", "input"), ("b", "output"))}
    plan = Schedule([ScanStep("cumsum", "a", "b", 1, x.size, 1)], buffers, ["a"], ["b"], [])
    found = launches(plan.steps[0], plan, 0)
    assert len(found.launches) == 5
    memory = {"a": x, "b": np.zeros_like(x)}
    execute(found, memory)
    np.testing.assert_array_equal(memory["b"], np.cumsum(x))


# ------------------------------------------------------------------------------------------------ sorting
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape, axis", [*SHAPES, ((1300,), 0), ((2, 513), 1)])
def test_sorting_is_stable_with_nan_last(shape, axis, descending):
    x = np.round(numbers(np.random.default_rng(4), shape, np.float32), 1)
    if x.size > 4:
        x.reshape(-1)[::5] = np.nan
        x.reshape(-1)[1::9] = -0.0
    for name in ("sort", "argsort"):
        got, want = result(name, [x], axis, descending)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.uint8, np.bool_, np.float64])
def test_every_dtype_sorts(dtype):
    x = numbers(np.random.default_rng(5), (3, 700), dtype)
    for name in ("sort", "argsort"):
        for descending in (False, True):
            got, want = result(name, [x], 1, descending)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------------------------ places that are data
PLACES = [((10,), 0, 30), ((4, 6), 1, 50), ((3, 5, 40), 1, 7), ((2, 9, 3), 0, 100), ((50, 2), 0, 3000), ((3,), 0, 5000),
          ((1, 1), 0, 6)]


@pytest.mark.parametrize("shape, axis, many", PLACES)
@pytest.mark.parametrize("name", ["index_add", "index_set"])
def test_slices_at_places(name, shape, axis, many):
    rng = np.random.default_rng(6)
    i = rng.integers(0, shape[axis], many)
    i[: many // 2] = i[0]                                    # one long run
    v = numbers(rng, shape[:axis] + (many,) + shape[axis + 1:], np.float32)
    got, want = result(name, [numbers(rng, shape, np.float32), i, v], axis)
    if name == "index_set":
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4 * many ** 0.5)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("name", ["index_add", "index_set"])
def test_every_dtype_at_places(name, dtype):
    rng = np.random.default_rng(7)
    a, v = numbers(rng, (6, 3), dtype), numbers(rng, (2, 40, 3), dtype)
    got, want = result(name, [a, rng.integers(0, 6, (2, 40)), v], 0)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("shape, index, axis", [
    ((5, 4), (9, 4), 0), ((5, 4), (9, 3), 0), ((3, 8, 5), (2, 30, 4), 1), ((7,), (200,), 0), ((4, 4), (4, 5), 1),
    ((2, 3, 4), (2, 3, 600), 2)])
@pytest.mark.parametrize("name", ["scatter_add", "scatter_set"])
def test_elements_at_places(name, shape, index, axis):
    rng = np.random.default_rng(8)
    i = rng.integers(0, shape[axis], index)
    got, want = result(name, [numbers(rng, shape, np.float32), i, numbers(rng, index, np.float32)], axis)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_nan_and_infinities_are_added_where_they_belong():
    a, v = np.zeros(4, np.float32), np.float32([np.nan, 1, np.inf, 2, -np.inf, 3])
    got, want = result("index_add", [a, np.array([0, 1, 2, 1, 3, 3]), v], 0)
    np.testing.assert_array_equal(got, want)


def test_what_lies_outside_is_left_out():
    """Indices are checked where they enter a program; a kernel that meets others touches no memory that is not its own."""
    buffers = {"i": Buffer("i", "input", int64, 5), "v": Buffer("v", "input", float32, 5),
               "o": Buffer("o", "output", float32, 3)}
    for kind in (ScatterStep, SetStep):
        plan = Schedule([kind("i", "v", "o", 1, 5, 3, 1, 3)], buffers, ["i", "v"], ["o"], [])
        memory = {"i": np.array([0, 3, -1, 2, 2 ** 40]), "v": np.float32([1, 2, 3, 4, 5]), "o": np.zeros(3, np.float32)}
        execute(launches(plan.steps[0], plan, 0), memory)
        np.testing.assert_array_equal(memory["o"], [1, 0, 4])


def test_the_same_bits_each_time_and_one_text_for_all_sizes():
    rng = np.random.default_rng(9)
    a, i, v = np.zeros((4, 3), np.float32), rng.integers(0, 4, 2000), rng.standard_normal((2000, 3)).astype(np.float32)
    first, second = (result("index_add", [a, i, v], 0)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()

    def texts(many: int) -> set[str]:
        inputs = [placeholder(aval(s, d)) for s, d in (((40, 3), float32), ((many,), int64), ((many, 3), float32))]
        step, plan = step_of(P.index_add(*inputs, 0), inputs)
        return {e.text for e in launches(step, plan, 0).launches}
    assert texts(2000) == texts(30_000)


@pytest.mark.proof
def test_texts_compile_without_local_memory():
    """Of each kind of step one, in several dtypes, with 32 and 64 bits of index."""
    pytest.importorskip("numba_cuda")
    from autojit.backends.cuda.compiler import check, store

    def texts(name: str, shapes: list[tuple[tuple[int, ...], DType]], *params: object) -> list[Emitted]:
        inputs = [placeholder(aval(s, d)) for s, d in shapes]
        step, plan = step_of(getattr(P, name)(*inputs, *params), inputs)
        return list(launches(step, plan, 0).launches)

    found = texts("cumarg", [((3, 5000), float32)], 1, True) + texts("logcumsumexp", [((300, 5000, 40), float32)], 1)
    for d in (float32, float64, int32):
        found += texts("sort", [((3, 5000), d)], 1, True) + texts("cumsum", [((3, 5000), d)], 1)
        found += texts("index_add", [((40, 3), d), ((5000,), int64), ((5000, 3), d)], 0)
        found += texts("scatter_set", [((9, 3, 50), d), ((30, 3, 20), int64), ((30, 3, 20), d)], 0)
    distinct = list({(e.text, e.signature): e for e in found}.values())
    for e in [*distinct, *[replace(e, wide=True) for e in distinct[:4]]]:
        (compiled,) = store().require([e])
        assert check(compiled) == []
