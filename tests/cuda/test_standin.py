"""The stand-in driver: memory with bounds, launches, products, and CUDA's rules about captures, each broken once."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cuda.driver import DriverError, OutOfMemory
from autojit.backends.cuda.interpret import KernelFault
from autojit.backends.cuda.standin import Standin
from autojit.dtypes import DType, bfloat16, float16, float32, float64
from autojit.schedule.loops import GemmStep

DOUBLE = SimpleNamespace(entry="double", text="""def kernel(x0, x1, n0, c0):
    for i in range(block() * 32 + thread(), n0, blocks() * 32):
        x1[i] = x0[i] * c0
""", signature=("*f32", "*f32", "ix", "f32"), threads=32, wide=False)


@pytest.fixture
def driver() -> Standin:
    return Standin()


def put(driver: Standin, x: np.ndarray) -> int:
    ptr = driver.alloc(x.nbytes)
    driver.copy_in(ptr, x)
    return ptr


def get(driver: Standin, ptr: int, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    out = np.empty(shape, dtype)
    driver.copy_out(out, ptr)
    return out


def doubled(driver: Standin, x: int, y: int, n: int, factor: float = 2.0) -> None:
    driver.launch(driver.load(DOUBLE), 2, 32, [("*f32", x, 4 * n), ("*f32", y, 4 * n), ("ix", n), ("f32", factor)])


# ---------------------------------------------------------------------------------------------- memory
def test_memory_comes_and_goes(driver: Standin) -> None:
    x = np.arange(100, dtype=np.float32)
    a = put(driver, x)
    b = driver.alloc(400)
    assert a % 256 == b % 256 == 0 and driver.memory_info() == (driver.total_memory - 800, driver.total_memory)
    assert np.isnan(get(driver, b, (100,))).all()          # fresh memory is poisoned
    driver.copy(b, a + 40, 360)
    driver.fill(a, 0, 40)
    assert (get(driver, b, (90,)) == x[10:]).all() and not get(driver, a, (10,)).any()
    driver.put(b + 8, np.float32(7).tobytes())
    assert get(driver, b + 8, (1,))[0] == 7
    driver.free(b)
    assert driver.pool_bytes() == 400


def test_what_is_freed_has_a_name(driver: Standin) -> None:
    a = driver.alloc(8)
    driver.free(a)
    with pytest.raises(DriverError, match="was freed"):
        driver.fill(a, 0, 4)
    with pytest.raises(DriverError, match="freed twice"):
        driver.free(a)
    with pytest.raises(DriverError, match="no alloc gave"):
        driver.free(12345)


def test_copies_past_the_end_have_a_name(driver: Standin) -> None:
    a = driver.alloc(16)
    with pytest.raises(DriverError, match="20 bytes from .*, where 16 are left of 16"):
        driver.copy_in(a, np.zeros(5, np.float32))
    with pytest.raises(DriverError, match="no memory of the device"):
        driver.copy(a, a + 16, 4)


def test_a_full_device_says_what_was_asked(driver: Standin) -> None:
    driver.limit = 1000
    driver.alloc(600)
    with pytest.raises(OutOfMemory) as caught:
        driver.alloc(500)
    assert (caught.value.asked, caught.value.free) == (500, 400)


def test_who_does_not_wait_sees_nothing(driver: Standin) -> None:
    a, out = put(driver, np.arange(4, dtype=np.float32)), driver.pinned(16).view(np.float32)
    driver.copy_out(out, a, wait=False)
    assert np.isnan(out).all()
    driver.synchronize()
    assert out.tolist() == [0, 1, 2, 3]


def test_memory_of_others_is_adopted(driver: Standin) -> None:
    x, y = np.ones(50, np.float32), driver.alloc(200)
    with pytest.raises(DriverError, match="no memory of the device"):
        doubled(driver, x.ctypes.data, y, 50)
    driver.adopt(x.ctypes.data, x.nbytes)
    doubled(driver, x.ctypes.data, y, 50)
    assert (get(driver, y, (50,)) == 2).all()
    driver.disown(x.ctypes.data)
    with pytest.raises(DriverError, match="no memory of the device"):
        doubled(driver, x.ctypes.data, y, 50)


# ---------------------------------------------------------------------------------------------- launches
def test_a_launch_sees_the_bounds_of_its_buffers(driver: Standin) -> None:
    arena = driver.alloc(1024)
    driver.fill(arena, 0, 1024)
    handle = driver.load(DOUBLE)
    with pytest.raises(KernelFault, match="x1 has 20 elements, index 20") as caught:
        driver.launch(handle, 2, 32, [("*f32", arena, 400), ("*f32", arena + 512, 80), ("ix", 100), ("f32", 1.0)])
    assert caught.value.__notes__ == [DOUBLE.text]


def test_launches_must_fit_their_kernel(driver: Standin) -> None:
    a, handle = driver.alloc(64), driver.load(DOUBLE)
    good = [("*f32", a, 32), ("*f32", a + 32, 32), ("ix", 8), ("f32", 1.0)]
    for blocks, threads, args in ((0, 32, good), (1, 64, good), (1, 32, good[:3]), (1, 32, [("*f64", a, 32), *good[1:]])):
        with pytest.raises(DriverError, match="INVALID_VALUE"):
            driver.launch(handle, blocks, threads, args)
    with pytest.raises(DriverError, match="MISALIGNED"):
        driver.launch(handle, 1, 32, [("*f32", a + 2, 28), *good[1:]])


def matrices(dtype: DType, *shape: int) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal(shape)
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) if dtype is bfloat16 else x.astype(dtype.np)


def plain(x: np.ndarray, dtype: DType) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32) if dtype is bfloat16 else x.astype(np.float64)


@pytest.mark.parametrize("dtype", [float32, float64, float16, bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("trans", [(False, False), (True, False), (False, True), (True, True)])
def test_products(driver: Standin, dtype: DType, trans: tuple[bool, bool]) -> None:
    """Two batches of two products with room between rows and matrices, added to what was there."""
    m, n, k, size = 3, 5, 4, dtype.itemsize
    a, b, c = matrices(dtype, 2, 2, 6, 7), matrices(dtype, 2, 2, 6, 7), matrices(dtype, 2, 2, 4, 6)
    step = GemmStep(dtype, *trans, m, n, k, "a", 7, "b", 7, "c", 6, 2, 42, 42, 24, alpha=0.5, beta=2.0, outer=(2, 84, 84, 48))
    x, y, z = put(driver, a), put(driver, b), put(driver, c)
    driver.gemm(step, x, y, z + size)
    left, right = ((plain(v, dtype)[..., :r, :s] if not t else plain(v, dtype)[..., :s, :r].swapaxes(-1, -2))
                   for v, t, (r, s) in zip((a, b), trans, ((m, k), (k, n)), strict=True))
    expected = plain(c, dtype)
    expected[..., :m, 1:] = 0.5 * (left @ right) + 2 * expected[..., :m, 1:]
    tolerance = {4: 1e-5, 8: 1e-12}.get(size, 2e-2 if dtype is bfloat16 else 2e-3)
    np.testing.assert_allclose(plain(get(driver, z, c.shape, c.dtype), dtype), expected, rtol=tolerance, atol=tolerance)


def test_a_product_past_the_end_has_a_name(driver: Standin) -> None:
    a = driver.alloc(64)
    with pytest.raises(DriverError, match="C of a matrix product"):
        driver.gemm(GemmStep(float32, False, False, 4, 4, 4, "a", 4, "b", 4, "c", 4), a, a, a + 4)
    with pytest.raises(DriverError, match="rows of B are 4 long and 3 apart"):
        driver.gemm(GemmStep(float32, False, False, 4, 4, 4, "a", 4, "b", 3, "c", 4), a, a, a)


# ---------------------------------------------------------------------------------------------- graphs
def test_a_graph_does_at_each_replay_what_was_captured(driver: Standin) -> None:
    x, y, _ = put(driver, np.ones(40, np.float32)), driver.alloc(160), driver.load(DOUBLE)
    driver.begin_capture()
    doubled(driver, x, y, 40)
    driver.copy(x, y, 160)
    graph = driver.end_capture()
    assert np.isnan(get(driver, y, (40,))).all()           # nothing has run
    driver.replay(graph)
    driver.replay(graph)
    assert (get(driver, y, (40,)) == 4).all()
    assert [c[0] for c in driver.calls("begin_capture", "launch", "copy", "end_capture", "replay")] == [
        "begin_capture", "launch", "copy", "end_capture", "replay", "replay"]
    driver.drop(graph)
    with pytest.raises(DriverError, match="INVALID_HANDLE"):
        driver.replay(graph)


def test_a_graph_owns_no_memory(driver: Standin) -> None:
    x, y, _ = put(driver, np.ones(40, np.float32)), driver.alloc(160), driver.load(DOUBLE)
    driver.begin_capture()
    doubled(driver, x, y, 40)
    graph = driver.end_capture()
    driver.free(y)
    with pytest.raises(DriverError, match="was freed"):
        driver.replay(graph)


def test_one_graph_becomes_another(driver: Standin) -> None:
    driver.begin_capture()
    old = driver.end_capture()
    driver.begin_capture()
    new = driver.end_capture(old)
    driver.replay(new)
    with pytest.raises(DriverError, match="INVALID_HANDLE"):
        driver.replay(old)


ILLEGAL = {
    "alloc": lambda d, p: d.alloc(4), "free": lambda d, p: d.free(p), "copy_in": lambda d, p: d.copy_in(p, np.zeros(1)),
    "copy_out": lambda d, p: d.copy_out(np.zeros(1), p), "put": lambda d, p: d.put(p, b"1234"),
    "pinned": lambda d, p: d.pinned(4), "trim": lambda d, p: d.trim(), "load": lambda d, p: d.load(DOUBLE),
    "synchronize": lambda d, p: d.synchronize(), "event": lambda d, p: d.event(), "order": lambda d, p: d.order(1, 2),
    "begin_capture": lambda d, p: d.begin_capture(),
    "the first matrix product": lambda d, p: d.gemm(GemmStep(float32, False, False, 1, 1, 1, "", 1, "", 1, "", 1), p, p, p)}


@pytest.mark.parametrize("what", ILLEGAL)
def test_what_no_capture_can_write_down(driver: Standin, what: str) -> None:
    ptr = driver.alloc(8)
    driver.begin_capture()
    with pytest.raises(DriverError, match=f"STREAM_CAPTURE_UNSUPPORTED: {what} while"):
        ILLEGAL[what](driver, ptr)
    driver.end_capture()
    assert driver.lock.acquire(blocking=False)


def test_no_replay_inside_a_capture(driver: Standin) -> None:
    driver.begin_capture()
    graph = driver.end_capture()
    driver.begin_capture()
    with pytest.raises(DriverError, match="STREAM_CAPTURE_UNSUPPORTED"):
        driver.replay(graph)


def test_an_end_without_a_beginning(driver: Standin) -> None:
    with pytest.raises(DriverError, match="ILLEGAL_STATE"):
        driver.end_capture()


# ---------------------------------------------------------------------------------------------- time, failures
def test_marks_and_streams(driver: Standin) -> None:
    first = driver.event()
    driver.order(driver.stream, 7)
    assert driver.elapsed(first, driver.event()) >= 0 and driver.done(first)
    assert driver.calls("order") == [("order", driver.stream, 7)]


def test_failures_on_demand(driver: Standin) -> None:
    x = put(driver, np.ones(8, np.float32))
    y = driver.alloc(32)
    driver.fail("launch", after=1)
    doubled(driver, x, y, 8)
    with pytest.raises(DriverError, match="CUDA_ERROR_UNKNOWN: launch"):
        doubled(driver, x, y, 8)
    doubled(driver, x, y, 8)
    driver.fail("alloc", error=OutOfMemory(1, 0, 2))
    with pytest.raises(OutOfMemory):
        driver.alloc(1)


def test_lgamma_at_minus_infinity(standin):
    for dtype in (aj.float32, aj.float64):
        assert aj.tensor([float("-inf"), -1.0, 1.0], device="cuda", dtype=dtype).lgamma().tolist() == [math.inf, math.inf, 0]


def test_no_memory_names_the_line_of_the_user(standin):
    x = aj.ones(1, device="cuda")
    with pytest.raises(aj.cuda.OutOfMemoryError) as e:
        (x.expand(1 << 33) + 1).data_ptr()
    assert "test_standin.py" in e.value.__notes__[0]
