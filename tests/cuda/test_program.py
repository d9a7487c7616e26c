"""Programs of the device on the stand-in driver: launches in order, one capture, replays, numbers, misaligned arrays."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from autojit.backends.cuda.blas import DOUBLE, EXACT, TF32, compute_type, swapped
from autojit.backends.cuda.compiled import Compiled, Resources
from autojit.backends.cuda.driver import DriverError
from autojit.backends.cuda.emitted import Area, Emitted, Launches
from autojit.backends.cuda.listing import source
from autojit.backends.cuda.memory import Memory
from autojit.backends.cuda.program import GRAPHS, CudaProgram, places
from autojit.backends.cuda.standin import Standin
from autojit.config import config
from autojit.dtypes import bfloat16, float16, float32, float64
from autojit.halves import bits, values
from autojit.ir.aval import aval
from autojit.schedule.loops import Buffer, GemmStep, Kernel, KernelStep, Schedule

N = 37
SCALE = """def kernel(x0, x1, x2, n0, c0):
    for i in range(block() * 32 + thread(), n0, blocks() * 32):
        x2[i] = x0[i] * c0 + x1[0]
"""
WIDE = """def kernel(x0, x1, n0):
    for i in range(block() * 32 + thread(), n0, blocks() * 32):
        a0, a1, a2, a3 = load4_f32(x0, i * 4)
        store4_f32(x1, i * 4, a0 + a0, a1 + a1, a2 + a2, a3 + a3)
"""


def scale(a, b, c, factor, n=N):
    """c[i] = a[i] * factor + b[0]."""
    return Emitted(SCALE, ("*f32", "*f32", "*f32", "ix", "f32"), (
        ("buffer", a), ("buffer", b), ("buffer", c), ("size", n), ("const", factor, float32)), 32, 2)


def kernel_step(n=N, chunks=1):
    return KernelStep(Kernel((), None), n, chunks)


def linked(memory, buffers, steps, inputs, outputs, emitted):
    """A program of hand-made launches."""
    plan = Schedule(steps, {b.name: b for b in buffers}, inputs, outputs, [])
    handles = {k: [memory.driver.load(Compiled(f"k{k}", None, e.text, e.signature, e.threads, e.wide, Resources()))
                   for e in made.launches] for k, made in emitted.items()}
    return CudaProgram(memory, plan, emitted, handles, [aval((plan.buffers[o].size,), plan.buffers[o].dtype) for o in outputs])


def buffer(name, kind, size=N, dtype=float32):
    return Buffer(name, kind, dtype, size)


@pytest.fixture
def memory():
    return Memory(Standin())


def chain(memory):
    """y = (x * 2 + s) * 3 + s, by way of a temporary."""
    buffers = [buffer("x", "input"), buffer("s", "input", 1), buffer("t", "temp"), buffer("y", "output")]
    emitted = {0: Launches((scale("x", "s", "t", 2.0),)), 1: Launches((scale("t", "s", "y", 3.0),))}
    return linked(memory, buffers, [kernel_step(), kernel_step()], ["x", "s"], ["y"], emitted)


def given(memory, seed=0, n=N):
    x = np.random.default_rng(seed).standard_normal(n).astype("f4")
    return x, memory.from_host(x, float32)


def number(v):
    return np.array(v, "f4")


def names(memory):
    return [c[0] for c in memory.driver.log]


# ---------------------------------------------------------------------- graphs
def test_launched_then_captured_once_then_replayed(memory):
    program = chain(memory)
    x, there = given(memory)
    s = memory.from_host(number(0.5), float32)
    want = (x * np.float32(2) + np.float32(0.5)) * np.float32(3) + np.float32(0.5)
    done = []
    for _ in range(5):
        memory.driver.log.clear()
        (y,) = program([there, s])
        assert (memory.to_host(y) == want).all()
        done.append(names(memory)[:-1])                    # without the copy to the host
        del y
    assert done[0] == ["alloc", "launch", "launch"]
    assert done[1] == ["begin_capture", "launch", "launch", "end_capture", "replay"]
    assert done[2] == done[3] == done[4] == ["replay"]


def test_launches_are_in_the_steps_order(memory):
    program = chain(memory)
    _, there = given(memory)
    program([there, number(1.0)])
    launches = memory.driver.calls("launch")
    factors = [c[4][4][1] for c in launches]
    assert factors == [2.0, 3.0]
    assert launches[0][4][2][1] == launches[1][4][0][1] == program.arena.ptr
    assert [c[1:4] for c in launches] == [("k0", 2, 32)] * 2           # of one text, so one kernel


def test_results_that_are_held_are_not_overwritten(memory):
    program = chain(memory)
    held = []
    for seed in range(6):
        x, there = given(memory, seed)
        held.append((x * 2 + 1) * 3 + 1), held.append(program([there, number(1.0)])[0])
    assert len({a.ptr for a in held[1::2]}) == 6
    for want, got in zip(held[::2], held[1::2]):
        assert np.allclose(memory.to_host(got), want, rtol=1e-6)


def test_a_view_of_a_result_holds_its_memory(memory):
    program = chain(memory)
    _, there = given(memory)
    view = program([there, number(1.0)])[0].part(3, (4,))
    before = memory.to_host(view)
    program([there, number(2.0)])
    assert (memory.to_host(view) == before).all()


def test_a_loop_over_its_own_results_comes_back_to_few_graphs(memory):
    program = chain(memory)
    x, y = given(memory)
    for _ in range(12):
        (y,) = program([y, number(0.0)])
    assert np.allclose(memory.to_host(y), x * 6.0 ** 12, rtol=1e-5)
    assert len(memory.driver.calls("begin_capture")) <= 3
    memory.driver.log.clear()
    (y,) = program([y, number(0.0)])
    assert names(memory) == ["replay"]


def test_graphs_are_few_and_the_oldest_is_changed_into_the_new_one(memory):
    program = chain(memory)
    xs = [given(memory, k) for k in range(GRAPHS + 3)]
    for _ in range(2):
        for x, there in xs:
            for _ in range(2):
                (y,) = program([there, number(0.0)])
                assert np.allclose(memory.to_host(y), x * 6, rtol=1e-6)
                del y
    assert len(program.graphs) == GRAPHS
    assert len(memory.driver.calls("end_capture")) >= GRAPHS + 3
    assert not memory.driver.calls("drop")                 # none was made anew where one could be changed


def test_a_program_that_dies_drops_its_graphs_later(memory):
    program = chain(memory)
    _, there = given(memory)
    for _ in range(3):
        program([there, number(0.0)])
    del program
    assert not memory.driver.calls("drop")
    memory.sweep()
    assert len(memory.driver.calls("drop")) == 1


def test_a_failed_capture_ends_and_the_next_call_is_right(memory):
    program = chain(memory)
    x, there = given(memory)
    program([there, number(0.0)])
    memory.driver.fail("launch", after=1)
    with pytest.raises(DriverError, match="as the test wanted"):
        program([there, number(0.0)])
    assert memory.to_host(there).shape == (N,)             # a copy would raise, were the capture still open
    for _ in range(3):
        assert np.allclose(memory.to_host(program([there, number(0.0)])[0]), x * 6, rtol=1e-6)


def test_errors_tell_the_users_line(memory):
    program = chain(memory)
    _, there = given(memory)
    memory.driver.fail("launch")
    with pytest.raises(RuntimeError) as caught:
        program([there, number(0.0)])
    assert any("test_program.py:" in note for note in caught.value.__notes__)
    assert any("aj.cuda.synchronize()" in note for note in caught.value.__notes__)


# ---------------------------------------------------------------------- numbers
def test_numbers_of_the_host_are_sent_when_they_change(memory):
    program = chain(memory)
    x, there = given(memory)
    for s in (1.0, 1.0, 2.0, 2.0, -0.0, 0.0):
        (y,) = program([there, number(s)])
        assert np.allclose(memory.to_host(y), x * 6 + 4 * s, rtol=1e-5, atol=1e-6)
        del y
    assert len(memory.driver.calls("put")) == 1 + 4        # x, and four changes: -0.0 is another number than 0.0
    assert len(program.graphs) == 1


def test_numbers_of_16_bits():
    memory = Memory(Standin())
    text = """def kernel(x0, x1):
    if thread() == 0:
        x1[0] = to_f32(x0[0])
"""
    for dtype, wanted in ((bfloat16, values(bits(np.float32(0.1)))), (float16, np.float16(0.1))):
        one = Emitted(text, (f"*{dtype.code}", "*f32"), (("buffer", "x"), ("buffer", "y")), 32, 1)
        program = linked(memory, [buffer("x", "input", 1, dtype), buffer("y", "output", 1)], [kernel_step(1)], ["x"], ["y"],
                         {0: Launches((one,))})
        raw = bits(np.float32(0.1)) if dtype is bfloat16 else np.array(0.1, "f2")
        for given_number in (np.array(0.1, "f4"), np.array(raw)):      # a scalar of the graph, a tensor's memory
            assert memory.to_host(program([given_number])[0])[0] == np.float32(wanted)


def test_a_program_without_inputs(memory):
    text = "def kernel(x0, n0):\n    for i in range(thread(), n0, 32):\n        x0[i] = f4(7.0)\n"
    one = Emitted(text, ("*f32", "ix"), (("buffer", "y"), ("size", N)), 32, 1)
    program = linked(memory, [buffer("y", "output")], [kernel_step()], [], ["y"], {0: Launches((one,))})
    for _ in range(3):
        assert (memory.to_host(program([])[0]) == 7.0).all()


def test_constants_are_float32s(memory):
    buffers = [buffer("x", "input"), buffer("s", "input", 1), buffer("y", "output")]
    for factor in (1e300, 0.1):
        program = linked(memory, buffers, [kernel_step()], ["x", "s"], ["y"], {0: Launches((scale("x", "s", "y", factor),))})
        x, there = given(memory)
        with np.errstate(over="ignore"):
            want = x * np.float32(factor)
        assert (memory.to_host(program([there, number(0.0)])[0]) == want).all()
        assert memory.driver.calls("launch")[-1][4][4][1] == float(np.float32(factor) if factor < 1 else np.inf)


def test_empty_launches_are_left_out(memory):
    one = Emitted(SCALE, ("*f32", "*f32", "*f32", "ix", "f32"), (("buffer", "x"), ("buffer", "s"), ("buffer", "y"), ("size", 0),
                                                                 ("const", 2.0, float32)), 32, 0)
    buffers = [buffer("x", "input", 0), buffer("s", "input", 1), buffer("y", "output", 0)]
    program = linked(memory, buffers, [kernel_step(0)], ["x", "s"], ["y"], {0: Launches((one,))})
    x = memory.empty((0,), float32)
    for _ in range(3):
        assert memory.to_host(program([x, number(1.0)])[0]).shape == (0,)
    assert not memory.driver.calls("launch")


# ---------------------------------------------------------------------- arrays of others
@pytest.mark.parametrize("kernels", [1, 2])
def test_misaligned_arrays_are_copied_where_loads_are_wide(memory, kernels):
    n = 16

    def wide(a, b):
        return Emitted(WIDE, ("*f32", "*f32", "ix"), (("buffer", a), ("buffer", b), ("size", n // 4)), 32, 1, False, (a, b))
    chained = [wide("x", "y")] if kernels == 1 else [wide("x", "t"), wide("t", "y")]
    buffers = [buffer("x", "input", n), buffer("t", "temp", n), buffer("y", "output", n)]
    program = linked(memory, buffers, [kernel_step(n)] * kernels, ["x"], ["y"],
                     {k: Launches((one,)) for k, one in enumerate(chained)})
    x, whole = given(memory, 0, n + 1)
    part = whole.part(1, (n,))
    assert part.ptr % 16 == 4
    for _ in range(4):
        (y,) = program([part])
        assert (memory.to_host(y) == x[1:] * 2 ** kernels).all()
        del y
    assert len(memory.driver.calls("copy")) == 4 and len(memory.driver.calls("replay")) == (3 if kernels == 2 else 0)


def test_a_single_kernel_needs_no_graph(memory):
    buffers = [buffer("x", "input"), buffer("s", "input", 1), buffer("y", "output")]
    program = linked(memory, buffers, [kernel_step()], ["x", "s"], ["y"], {0: Launches((scale("x", "s", "y", 2.0),))})
    x, there = given(memory)
    for k in range(4):
        assert np.allclose(memory.to_host(program([there, number(float(k))])[0]), x * 2 + k, rtol=1e-6)
    assert names(memory).count("launch") == 4 and "begin_capture" not in names(memory)


# ---------------------------------------------------------------------- memory
def test_temporaries_and_areas_share_one_arena_and_never_overlap_while_they_live():
    buffers = [buffer("x", "input"), buffer("y", "output"), *[buffer(f"t{k}", "temp") for k in range(4)]]
    names_ = ["x", "t0", "t1", "t2", "t3", "y"]
    emitted = {k: Launches((scale(a, "x", b, 1.0),)) for k, (a, b) in enumerate(zip(names_, names_[1:]))}
    emitted[2] = Launches((scale("t1", "x", "s2_part", 1.0), scale("s2_part", "x", "t2", 1.0)), (Area("s2_part", "f32", 100),))
    plan = Schedule([kernel_step() for _ in range(5)], {b.name: b for b in buffers}, ["x"], ["y"], [])
    offsets, total = places(plan, emitted)
    assert set(offsets) == {"t0", "t1", "t2", "t3", "s2_part"} and all(v % 256 == 0 for v in offsets.values())
    lives = {"t0": (0, 1), "t1": (1, 2), "s2_part": (2, 2), "t2": (2, 3), "t3": (3, 4)}
    sizes = {"s2_part": 400}
    for a in lives:
        for b in lives:
            if a < b and lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]:
                first, second = sorted((a, b), key=offsets.get)
                assert offsets[first] + sizes.get(first, 4 * N) <= offsets[second]
    assert total < 5 * 512


def test_parts_of_chunks_have_room_for_all():
    part = Buffer("p", "part", float32, 10, True)
    from autojit.schedule.loops import At, Const, Store
    step = KernelStep(Kernel((Store(At(part, (), ()), Const(0.0, float32)),), None), N, 7)
    plan = Schedule([step], {"p": part, "x": buffer("x", "input")}, ["x"], [], [])
    assert places(plan, {0: Launches((scale("x", "x", "p", 1.0),))})[1] == -(-7 * 10 * 4 // 256) * 256


def test_two_programs_on_one_arena_do_not_disturb_each_other(memory):
    first, second = chain(memory), chain(memory)
    assert first.arena is second.arena
    a, there_a = given(memory, 1)
    b, there_b = given(memory, 2)
    for _ in range(4):
        y, z = first([there_a, number(1.0)])[0], second([there_b, number(2.0)])[0]
        assert np.allclose(memory.to_host(y), a * 6 + 4, rtol=1e-5) and np.allclose(memory.to_host(z), b * 6 + 8, rtol=1e-5)
        del y, z


def test_idle_results_do_not_count_and_are_given_up_when_there_is_no_room():
    memory = Memory(Standin(total_memory=1 << 20))
    n = 1 << 16
    buffers = [buffer("x", "input", n), buffer("s", "input", 1), buffer("y", "output", n)]
    program = linked(memory, buffers, [kernel_step(n)], ["x", "s"], ["y"], {0: Launches((scale("x", "s", "y", 1.0, n),))})
    x = memory.from_host(np.ones(n, "f4"), float32)
    ys = [program([x, number(0.0)])[0] for _ in range(2)]
    del ys
    assert memory.stats()["allocated_bytes.all.current"] < 2 * 4 * n
    assert memory.empty((2 * n,), float32).nbytes == 8 * n
    assert (memory.to_host(program([x, number(1.0)])[0]) == 2.0).all()


def test_what_programs_keep_for_their_results_is_bounded():
    memory = Memory(Standin(total_memory=16 << 20))        # so 1 MiB may be kept, and blocks of 256 KiB
    n = 1 << 16
    programs = [linked(memory, [buffer("x", "input", n), buffer("s", "input", 1), buffer("y", "output", n)], [kernel_step(n)],
                       ["x", "s"], ["y"], {0: Launches((scale("x", "s", "y", 1.0, n),))}) for _ in range(6)]
    x = memory.from_host(np.ones(n, "f4"), float32)
    for program in programs:
        program([x, number(0.0)])
    assert sum([pool.idle() for program in programs for pool in program.pools]) == 2 << 18
    buffers = [buffer("x", "input", 2 * n), buffer("s", "input", 1), buffer("y", "output", 2 * n)]
    large = linked(memory, buffers, [kernel_step(n)], ["x", "s"], ["y"], {0: Launches((scale("x", "s", "y", 1.0, n),))})
    large([memory.empty((2 * n,), float32), number(0.0)])
    assert large.pools[0].kept == []


def test_threads(memory):
    program = chain(memory)
    wrong = []

    def work(seed):
        x, there = given(memory, seed)
        for k in range(20):
            y = memory.to_host(program([there, number(float(k))])[0])
            if not np.allclose(y, x * 6 + 4 * k, rtol=1e-5, atol=1e-5):
                wrong.append((seed, k))
    threads = [threading.Thread(target=work, args=(s,)) for s in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


# ---------------------------------------------------------------------- products
def products():
    """Every form of a product: transposes, scales, batches, strides of nought, outer turns, offsets, gaps between rows."""
    for trans_a in (False, True):
        for trans_b in (False, True):
            for more in ({}, {"batch": 3, "stride_a": 20, "stride_b": 0, "stride_c": 15}, {"alpha": 2.0, "beta": 1.0},
                         {"batch": 2, "stride_a": 0, "stride_b": 24, "stride_c": 30, "outer": (2, 40, 0, 15),
                          "offsets": (3, 1, 2)}):
                yield GemmStep(float32, trans_a, trans_b, 3, 4, 5, "a", 4 if trans_a else 6, "b", 6, "c", 5, **more)


def reference(s, a, b, c):
    """NumPy's answer, matrix by matrix."""
    out = c.astype("f8")
    for turn in range(s.outer[0]):
        for k in range(s.batch):
            def at(x, which, stride, rows, columns, ld, turn=turn, k=k):
                start = s.offsets[which] + turn * s.outer[which + 1] + k * stride
                return np.lib.stride_tricks.as_strided(x[start:], (rows, columns), (ld * x.itemsize, x.itemsize))
            x = at(a, 0, s.stride_a, *((s.k, s.m) if s.trans_a else (s.m, s.k)), s.lda)
            y = at(b, 1, s.stride_b, *((s.n, s.k) if s.trans_b else (s.k, s.n)), s.ldb)
            z = at(out, 2, s.stride_c, s.m, s.n, s.ldc)
            z[...] = s.alpha * ((x.T if s.trans_a else x) @ (y.T if s.trans_b else y)) + s.beta * z
    return out


@pytest.mark.parametrize("s", list(products()), ids=lambda s: f"{s.trans_a:d}{s.trans_b:d}{s.batch}{s.outer[0]}{s.beta:g}")
def test_cublas_is_asked_for_the_same_product(s):
    """cuBLAS's own meaning of its arguments, column by column, gives what the step says."""
    rng = np.random.default_rng(0)
    a, b, c = [rng.standard_normal(200).astype("f4") for _ in range(3)]
    got, size = c.astype("f8"), 1
    count, *steps = s.outer
    for turn in range(count):
        p = [offset + turn * step * size for offset, step in zip(s.offsets, steps)]
        op1, op2, m, n, k, pa, lda, sa, pb, ldb, sb, pc, ldc, sc = swapped(s, *p)
        for i in range(s.batch):
            def columns(x, start, rows, cols, ld):
                return np.lib.stride_tricks.as_strided(x[start:], (rows, cols), (x.itemsize, ld * x.itemsize))
            left = columns(b, pa + i * sa, *((k, m) if op1 else (m, k)), lda)
            right = columns(a, pb + i * sb, *((n, k) if op2 else (k, n)), ldb)
            out = columns(got, pc + i * sc, m, n, ldc)
            out[...] = s.alpha * ((left.T if op1 else left) @ (right.T if op2 else right)) + s.beta * out
            assert lda >= (k if op1 else m) and ldb >= (n if op2 else k) and ldc >= m
    assert np.allclose(got, reference(s, a, b, c), rtol=1e-5)


def named(s):
    return f"{s.trans_a:d}{s.trans_b:d}{s.batch}{s.outer[0]}{s.beta:g}"


@pytest.mark.parametrize("s", [s for s in products() if not s.beta][1::3], ids=named)
def test_products_are_part_of_the_graph(memory, s):
    buffers = [buffer("a", "input", 200), buffer("b", "input", 200), buffer("c", "output", 200)]
    program = linked(memory, buffers, [s], ["a", "b"], ["c"], {})
    a, there_a = given(memory, 1, 200)
    b, there_b = given(memory, 2, 200)
    want = reference(s, a, b, np.zeros(200, "f4"))
    written = want != 0
    for _ in range(3):
        (c,) = program([there_a, there_b])
        assert np.allclose(memory.to_host(c)[written], want[written], rtol=1e-4, atol=1e-5)
        del c
    assert names(memory).count("replay") == 2 and names(memory).count("begin_capture") == 1


def test_another_precision_makes_another_graph(memory, monkeypatch):
    s = GemmStep(float32, False, False, 4, 4, 4, "a", 4, "b", 4, "c", 4)
    program = linked(memory, [buffer(n, k, 16) for n, k in (("a", "input"), ("b", "input"), ("c", "output"))], [s], ["a", "b"],
                     ["c"], {})
    _, a = given(memory, 1, 16)
    for _ in range(3):
        program([a, a])
    monkeypatch.setattr(config, "matmul_precision", "high")
    assert len(program.graphs) == 1
    program([a, a])
    assert len(memory.driver.calls("drop")) == 1 and names(memory)[-1] in ("gemm", "replay")
    assert len([c for c in memory.driver.log if c[0] == "gemm"]) == 3


def test_what_products_are_computed_with(monkeypatch):
    assert [compute_type(c) for c in ("f32", "f64", "f16", "bf16")] == [EXACT, DOUBLE, EXACT, EXACT]
    for word in ("high", "medium"):
        monkeypatch.setattr(config, "matmul_precision", word)
        assert [compute_type(c) for c in ("f32", "f64", "f16", "bf16")] == [TF32, DOUBLE, EXACT, EXACT]


# ---------------------------------------------------------------------- what a program says of itself
def test_profile_and_source(memory):
    program = chain(memory)
    x, there = given(memory)
    (y,), steps = program.profile([there, number(0.0)])
    assert np.allclose(memory.to_host(y), x * 6, rtol=1e-6)
    assert [(name, nbytes) for name, _, nbytes in steps] == [("kernel 0", 8 * N + 4), ("kernel 1", 8 * N + 4)]
    assert all(seconds >= 0 for _, seconds, _ in steps)
    gemm = GemmStep(float64, False, True, 2, 3, 4, "a", 4, "b", 4, "c", 3, batch=5)
    plan = Schedule([kernel_step(), gemm, kernel_step()], {}, ["x"], ["y"], [])
    text = source(plan, {0: Launches((scale("x", "s", "t", 2.0),)), 2: Launches((scale("t", "s", "y", 3.0),))})
    assert text.count("def kernel0(") == 1 and "def kernel1(" not in text
    assert text.split("\n")[-4:] == ["# steps", "#   kernel0(x, s, t)  2 x 32 threads", "#   c = a @ b.T  2x3x4 batch 5",
                                     "#   kernel0(t, s, y)  2 x 32 threads"]
