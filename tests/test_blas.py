"""Products in the native runtime: every way to reach a BLAS, every split, and the user's thread setting."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from autojit.backends.cpu import blas, libraries, native
from autojit.backends.cpu.blas import BATCH, COLUMNS, ROWS, Shape, Split
from autojit.backends.cpu.runner import PlanBuilder
from autojit.backends.cpu.runtime import OK, runtime
from autojit.config import config

TYPES = {"f32": np.float32, "f64": np.float64}
FOUND = libraries.find()
OURS = bool(blas.own("f32"))


@pytest.fixture(autouse=True)
def threads():
    pool = runtime().pool
    before = pool.num_threads
    pool.set_num_threads(2)
    yield pool
    pool.set_num_threads(before)


@pytest.fixture(autouse=True)
def setting():
    before = config.blas
    yield
    config.blas = before


def library(monkeypatch, found):
    config.blas = "numpy"
    monkeypatch.setattr(libraries, "_found", [found])


def fortran(monkeypatch):
    """Products go through SciPy's capsules."""
    library(monkeypatch, libraries._of_scipy())


def narrow(monkeypatch):
    """Products go through the C interface with 32-bit integers."""
    import ctypes
    import glob

    import scipy

    files = glob.glob(os.path.join(scipy.__path__[0], "..", "scipy.libs", "*openblas*"))
    found = libraries._of_library(ctypes.CDLL(files[0]), "scipy") if files else None
    if found is None or found.integers != 32:
        pytest.skip("SciPy brings no BLAS with 32-bit integers")
    library(monkeypatch, found)


def nothing(monkeypatch):
    """There is no BLAS at all."""
    library(monkeypatch, None)


def numpys(monkeypatch):
    """Whatever NumPy has."""
    config.blas = "numpy"


def intels(monkeypatch):
    """MKL."""
    config.blas = "mkl"
    if libraries.mkl() is None:
        pytest.skip("MKL is not installed")


def chosen(monkeypatch):
    """What is chosen by size."""


def ours(monkeypatch):
    """Our kernels, whatever the size."""
    config.blas = "own"
    if not OURS:
        pytest.skip("registers are too narrow")


ROADS = [chosen, ours, numpys, intels, fortran, narrow, nothing]


def at(array):
    return array.ctypes.data


class Problem:
    """One product with padded rows, its plan and its expected result."""

    def __init__(self, dtype, m, n, k, trans_a=False, trans_b=False, batch=1, alpha=1.0, beta=0.0, pad=3, split=None):
        rng, kind = np.random.default_rng(m * n + k), TYPES[dtype]
        self.a = rng.standard_normal((batch, *((k, m + pad) if trans_a else (m, k + pad)))).astype(kind)
        self.b = rng.standard_normal((batch, *((n, k + pad) if trans_b else (k, n + pad)))).astype(kind)
        self.c = rng.standard_normal((batch, m, n + pad)).astype(kind)
        self.n, self.before = n, self.c.copy()
        a = self.a[:, :, :m].swapaxes(1, 2) if trans_a else self.a[:, :, :k]
        b = self.b[:, :, :k].swapaxes(1, 2) if trans_b else self.b[:, :, :n]
        self.expected = alpha * (a.astype(np.float64) @ b.astype(np.float64))
        if beta:
            self.expected = self.expected + beta * self.c[:, :, :n].astype(np.float64)
        else:
            self.c[:, :, :n] = np.nan
        made = PlanBuilder()
        slots = [made.argument() for _ in range(3)]
        made.gemm(dtype, m, n, k, *slots, trans_a=trans_a, trans_b=trans_b, lda=self.a.shape[2] or 1,
                  ldb=self.b.shape[2] or 1, ldc=max(1, n + pad), batch=batch, stride_a=self.a[0].size,
                  stride_b=self.b[0].size, stride_c=self.c[0].size, alpha=alpha, beta=beta, split=split)
        self.plan = made.build()
        self.tolerance = (1e-5 if dtype == "f32" else 1e-14) * max(1, k) ** 0.5 * 4

    def run(self):
        addresses = (x.ctypes.data for x in (self.a, self.b, self.c))
        assert runtime().run(self.plan.address, *addresses) == OK

    def check(self):
        self.run()
        np.testing.assert_allclose(self.c[:, :, :self.n], self.expected, rtol=self.tolerance, atol=self.tolerance)
        assert (self.c[:, :, self.n:] == self.before[:, :, self.n:]).all()


SHAPES = [(1, 1, 1), (3, 5, 7), (1, 9, 4), (9, 1, 4), (1, 1, 6), (16, 17, 33), (4, 4, 0), (1, 3, 0), (0, 3, 2),
          (3, 0, 2), (40, 3, 50)]


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
@pytest.mark.parametrize("dtype", TYPES)
def test_products_of_every_kind(dtype, road, monkeypatch):
    road(monkeypatch)
    splits = itertools.cycle([None, Split(BATCH, 2, 1), Split(ROWS, 2, 4), Split(COLUMNS, 3, 16)])
    for m, n, k in SHAPES:
        for trans_a, trans_b, batch in itertools.product((False, True), (False, True), (1, 3)):
            for alpha, beta, pad in ((1.0, 0.0, 0), (1.0, 1.0, 3), (-2.0, 0.5, 1), (0.5, 0.0, 2)):
                Problem(dtype, m, n, k, trans_a, trans_b, batch, alpha, beta, pad, next(splits)).check()


@pytest.mark.parametrize("axis", [BATCH, ROWS, COLUMNS])
@pytest.mark.parametrize("road", [chosen, numpys], ids=lambda road: road.__name__)
@pytest.mark.parametrize("m, n, k, batch", [(64, 256, 784, 1), (130, 70, 65, 3), (1, 700, 300, 1), (700, 1, 300, 2)])
def test_splits_agree_with_the_whole(m, n, k, batch, axis, road, monkeypatch):
    road(monkeypatch)
    for trans_b in (False, True):
        for chunks, align in ((2, 1), (5, 16), (9, 4)):
            Problem("f32", m, n, k, trans_b=trans_b, batch=batch, split=Split(axis, chunks, align)).check()


@pytest.mark.parametrize("dtype", TYPES)
def test_our_kernels_at_the_edges_of_their_blocks(dtype, monkeypatch):
    """Rows by 8, 6, 4, 1; columns by registers and a mask; terms and rows in blocks; a transposed B turned in squares."""
    ours(monkeypatch)
    for m, n, k in ((129, 33, 257), (21, 17, 512), (7, 15, 258), (260, 5, 9), (12, 47, 31)):
        for trans_a, trans_b in itertools.product((False, True), (False, True)):
            Problem(dtype, m, n, k, trans_a, trans_b, 1, 1.5, 0.5, 2).check()


@pytest.mark.parametrize("dtype", TYPES)
def test_our_vectors_are_used_where_memory_is_read_in_order(dtype, monkeypatch):
    ours(monkeypatch)
    for m, n, k, trans_a, trans_b in ((133, 1, 217, False, True), (217, 1, 133, True, True), (1, 133, 77, False, False),
                                      (1, 77, 133, False, True), (1, 1, 100, False, True)):
        problem = Problem(dtype, m, n, k, trans_a, trans_b, 2, -1.5, 0.5, 0)
        shape = Shape(dtype, m, n, k, 2, trans_a, trans_b)
        assert blas.routine(shape) == (blas.OWN, blas.own(dtype)["vector"])
        problem.check()
    assert blas.routine(Shape(dtype, 5, 1, 7, ldb=3))[0] != blas.OWN          # a vector with holes
    assert blas.routine(Shape(dtype, 5, 1, 7, trans_a=True, ldc=3))[0] != blas.OWN


def test_long_float32_sums_stay_close(monkeypatch):
    """Rows are added up a few at a time before they touch the total; terms of a block likewise."""
    ours(monkeypatch)
    for m, n, k, trans_a in ((16, 1, 20000, True), (1, 16, 20000, False), (9, 17, 20000, False)):
        problem = Problem("f32", m, n, k, trans_a, pad=0)
        problem.a[:], problem.b[:] = 1, 0.1
        problem.run()
        np.testing.assert_allclose(problem.c[0], 20000 * float(np.float32(0.1)), rtol=4e-5)


def test_batches_of_batches():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((4, 6, 3, 7))
    c = np.zeros((3, 4, 5, 7))
    made = PlanBuilder()
    made.gemm("f64", 5, 7, 6, at(a), at(b), at(c), ldb=21, batch=4, stride_a=30, stride_b=126, stride_c=35,
              outer=(3, 120, 7, 140))
    assert runtime().run(made.build().address) == OK
    np.testing.assert_allclose(c, a @ b.transpose(2, 0, 1, 3), rtol=1e-12)


def test_the_flag_names_its_values():
    for name in ("auto", "own", "numpy", "mkl"):
        config.blas = name
    with pytest.raises(ValueError, match="AUTOJIT_BLAS must be auto, own, numpy or mkl"):
        config.blas = "atlas"


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_nan_goes_where_it_belongs(road, monkeypatch):
    """A zero does not hide a NaN or an infinity of the other factor, in no interface and no shape."""
    road(monkeypatch)
    for dtype, (m, n) in itertools.product(TYPES, ((3, 4), (1, 4), (3, 1), (1, 1), (40, 40))):
        for bad in (np.nan, np.inf):
            problem = Problem(dtype, m, n, 5)
            problem.a[:] = 0
            problem.b[0, 2, 0] = bad
            problem.run()
            c = problem.c[0, :, :n]
            assert np.isnan(c[:, 0]).all() and not np.isnan(c[:, 1:]).any()
            problem.b[:] = 0
            problem.a[0, 0, 2] = bad
            problem.run()
            assert np.isnan(c[0]).all() and not np.isnan(c[1:]).any()


def test_leading_dimensions_are_checked():
    made = PlanBuilder()
    for wrong in ({"lda": 4}, {"ldb": 5}, {"ldc": 5}, {"lda": 3, "trans_a": True}, {"ldb": 4, "trans_b": True}):
        with pytest.raises(ValueError, match="leading dimensions"):
            made.gemm("f32", 4, 6, 5, 0, 0, 0, **wrong)
    with pytest.raises(ValueError, match="f16"):
        made.gemm("f16", 4, 6, 5, 0, 0, 0)
    with pytest.raises(ValueError):
        made.gemm("f32", 4, -6, 5, 0, 0, 0)


# ---------------------------------------------------------------- which library, which routine, which split


def test_numpy_s_own_library_is_found_without_scipy_or_numba():
    program = ("import sys; from autojit.backends.cpu import libraries; found = libraries.find(); assert found, found\n"
               "assert not {'scipy', 'numba', 'llvmlite'} & set(sys.modules); print(found.fortran, found.name)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False ")


def test_integers_too_wide_for_the_library_take_the_loops(monkeypatch):
    fortran(monkeypatch)
    assert blas.routine(Shape("f32", 2, 2, 2, lda=1 << 31))[0] == blas.LOOPS
    assert blas.routine(Shape("f64", 2, 2, 2))[0] == blas.FORTRAN32 + 1
    nothing(monkeypatch)
    assert blas.routine(Shape("f64", 2, 2, 2)) == (blas.LOOPS + 1, 0)
    assert libraries.find() is None


def test_size_and_setting_alone_choose_the_routine():
    small, large = Shape("f32", 64, 64, 64), Shape("f32", 1024, 1024, 1024)
    if OURS:
        assert blas.routine(small) == (blas.OWN, blas.own("f32")["matrices"])
    assert blas.routine(large)[0] != blas.OWN
    config.blas = "numpy"
    assert blas.routine(small)[0] != blas.OWN
    if libraries.mkl() is not None:
        config.blas = "mkl"
        assert blas.routine(small) == (blas.CBLAS32, libraries.mkl().gemm["f32"])


@pytest.mark.parametrize("shape, batch, threads_now, axis, chunks", [
    ((64, 256, 784), 1, 2, COLUMNS, 4), ((784, 256, 64), 1, 2, ROWS, 4), ((512, 128, 128), 1, 2, ROWS, 4),
    ((64, 10, 256), 1, 2, BATCH, 1), ((64, 64, 64), 1, 2, BATCH, 1), ((64, 64, 32), 32, 2, BATCH, 4),
    ((512, 512, 512), 3, 2, ROWS, 4), ((512, 512, 512), 1, 1, BATCH, 1), ((33, 33, 4096), 1, 2, BATCH, 1),
    ((1000, 1, 1000), 1, 2, ROWS, 4), ((1, 50, 100000), 1, 2, BATCH, 1), ((1024, 1024, 1024), 1, 64, ROWS, 32),
    ((96, 96, 4096), 1, 2, ROWS, 2), ((16, 512, 128), 1, 2, COLUMNS, 4)])
def test_the_split_follows_the_size(shape, batch, threads_now, axis, chunks):
    split = blas.choose(Shape("f32", *shape, batch), threads_now)
    assert (split.axis, split.chunks) == (axis, chunks), split


def test_a_library_that_threads_by_itself_and_cannot_be_told_is_left_alone(monkeypatch):
    fortran(monkeypatch)
    assert blas.choose(Shape("f32", 512, 512, 512), 2).chunks == 1
    assert blas.choose(Shape("f32", 32, 32, 32, 64), 2).chunks > 1


# ---------------------------------------------------------------- the user's number of threads

settable = pytest.mark.skipif(FOUND is None or not FOUND.set_threads, reason="the BLAS's threads cannot be set")


@pytest.fixture
def two():
    config.blas = "numpy"
    before = FOUND.threads()
    FOUND.limit_threads(2)
    yield
    FOUND.limit_threads(before)


@settable
def test_products_run_single_threaded_and_give_the_setting_back(two):
    problem = Problem("f32", 400, 400, 400, batch=8, split=Split(ROWS, 4, 4))
    during, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            during.add(FOUND.threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        problem.run()
        if 1 in during:
            break
    stop.set()
    watcher.join()
    assert 1 in during and FOUND.threads() == 2


@settable
def test_callers_at_once_give_the_setting_back(two):
    problems = [Problem("f32", 80, 70, 60, split=Split(axis, 3, 4)) for axis in (ROWS, COLUMNS, BATCH, ROWS)]

    def caller(problem):
        for _ in range(200):
            problem.check()

    callers = [threading.Thread(target=caller, args=(p,)) for p in problems]
    for c in callers:
        c.start()
    for c in callers:
        c.join(60)
    assert FOUND.threads() == 2


@settable
def test_a_product_inside_a_kernel_of_a_plan_with_products(two):
    call = native.load("""
        define i32 @call(ptr %ret, ptr %exc, ptr %table, i64 %lo, i64 %hi, i64 %chunk) {
          %plan_at = getelementptr i64, ptr %table, i64 1
          %status_at = getelementptr i64, ptr %table, i64 2
          %run = load ptr, ptr %table
          %plan = load i64, ptr %plan_at
          %to = load ptr, ptr %status_at
          %status = call i64 %run(i64 %plan)
          store i64 %status, ptr %to
          ret i32 0
        }""", ["call"]).address("call")
    inner, outer = Problem("f32", 30, 20, 10), Problem("f32", 8, 8, 8)
    assert runtime().bind(inner.plan.address, at(inner.a), at(inner.b), at(inner.c)) == OK
    status, made = np.full(1, 7), PlanBuilder()
    made.gemm("f32", 8, 8, 8, at(outer.a), at(outer.b), at(outer.c), lda=11, ldb=11, ldc=11)
    made.kernel(call, made.table([runtime().run_plan, inner.plan.address, at(status)]), 1)
    plan = made.build()
    assert runtime().run(plan.address) == OK and status[0] == OK and FOUND.threads() == 2
    np.testing.assert_allclose(inner.c[:, :, :20], inner.expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outer.c[:, :, :8], outer.expected, rtol=1e-4, atol=1e-4)


@settable
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_in_the_middle_of_a_product(two):
    large = Problem("f32", 300, 300, 300, split=Split(ROWS, 4, 4))
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            large.run()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    setting = FOUND.threads()
                    Problem("f32", 200, 100, 100, split=Split(ROWS, 4, 4)).check()
                    status = 0 if (setting, FOUND.threads()) == (2, 2) else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        busy.join(20)
