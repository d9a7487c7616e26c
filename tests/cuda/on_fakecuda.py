"""What `test_fakecuda.py` runs where libcuda.so.1 is the fake one: copies, launches, captures, products, whole programs.

Kernels are interpreted when the fake driver says that they run, with the arguments that it kept for them.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autojit as aj
from autojit.backends import devices
from autojit.backends.cuda import blas, interpret
from autojit.backends.cuda.backend import CudaBackend
from autojit.backends.cuda.cells import STORAGE
from autojit.backends.cuda.compiled import Compiled, Resources
from autojit.backends.cuda.driver import DriverError, OutOfMemory, open_driver
from autojit.backends.cuda.nvidia import Nvidia
from autojit.backends.cuda.staging import Staging
from autojit.dtypes import float32, float64
from autojit.schedule.loops import GemmStep

from . import harness
from .programs import benchmarks

LIB = ctypes.CDLL("libcuda.so.1")
if any(any(Path(p).glob("nvidia/*/lib/libcublas.so.*")) for p in sys.path):  # an installed one would be found first
    blas._library = lambda: ctypes.CDLL("libcublas.so.13")
LIB.fake_log.restype = ctypes.c_char_p
LIB.fake_used.restype = ctypes.c_size_t
HOOK = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint, ctypes.POINTER(ctypes.c_void_p))
TYPES = {"f32": ctypes.c_float, "f64": ctypes.c_double, "i64": ctypes.c_int64}


class Device:
    """Kernels by name, the bytes of each buffer that a launch named, and what went wrong while kernels ran."""

    def __init__(self) -> None:
        self.kernels: dict[str, Compiled] = {}
        self.room: dict[tuple[Any, ...], list[int]] = {}   # entry and addresses of a launch → bytes of its buffers
        self.wrong: list[Exception] = []
        self.hook = HOOK(self.ran)                         # the library has its address: it must live on
        LIB.fake_hook(self.hook)

    def compiled(self, text: str, signature: Sequence[str], threads: int, wide: bool = False) -> Compiled:
        """A kernel whose cubin is empty, told to the library."""
        made = Compiled(f"k{len(self.kernels)}", b"\x7fELF", text, tuple(signature), threads, wide, Resources())
        self.know(made)
        return made

    def know(self, kernel: Compiled) -> None:
        """The library needs the parameters' bytes, since it reads no cubins."""
        if kernel.entry not in self.kernels:
            self.kernels[kernel.entry] = kernel
            sizes = [4 if c == "f32" or c == "ix" and not kernel.wide else 8 for c in kernel.signature]
            LIB.fake_kernel(kernel.entry.encode(), len(sizes), (ctypes.c_int * len(sizes))(*sizes))

    def ran(self, name: bytes, blocks: int, threads: int, params: Any) -> None:
        try:
            kernel = self.kernels[name.decode()]
            assert threads == kernel.threads
            values = [self.value(code, params[k], kernel.wide) for k, code in enumerate(kernel.signature)]
            pointers = [(k, v) for k, v in enumerate(values) if kernel.signature[k][0] == "*"]
            rooms = self.room[(kernel.entry, *[v for _, v in pointers])]
            args = values.copy()
            for (k, ptr), room in zip(pointers, rooms, strict=True):
                args[k] = self.buffer(ptr, room).view(STORAGE[kernel.signature[k][1:]])
            interpret.run(kernel.text, kernel.signature, args, blocks, threads, wide=kernel.wide)
        except Exception as e:
            self.wrong.append(e)

    @staticmethod
    def value(code: str, address: int, wide: bool) -> Any:
        of = ctypes.c_uint64 if code[0] == "*" else TYPES.get(code) or (ctypes.c_int64 if wide else ctypes.c_int32)
        return of.from_address(address).value

    @staticmethod
    def buffer(ptr: int, room: int) -> np.ndarray:
        return np.frombuffer((ctypes.c_uint8 * room).from_address(ptr), np.uint8) if room else np.empty(0, np.uint8)


class Told(Nvidia):
    """The real driver, which tells the device how long buffers are."""

    def _tell(self, handle: Any, args: Sequence[tuple[Any, ...]]) -> None:
        entry = next(name for name, kernel in self._kernels.items() if kernel is handle)
        pointers = [a for a in args if a[0][0] == "*"]
        device.room[(entry, *[a[1] for a in pointers])] = [a[2] for a in pointers]

    def launch(self, handle: Any, blocks: int, threads: int, args: Sequence[tuple[Any, ...]]) -> None:
        self._tell(handle, args)
        super().launch(handle, blocks, threads, args)

    def bind(self, handle: Any, blocks: int, threads: int, args: Sequence[tuple[Any, ...]],
             slots: Sequence[tuple[int, int]]) -> Callable[[Sequence[int]], None]:
        bound = super().bind(handle, blocks, threads, args, slots)

        def launch(pointers: Sequence[int]) -> None:
            given = dict(slots)
            self._tell(handle, [(a[0], pointers[given[k]], *a[2:]) if k in given else a for k, a in enumerate(args)])
            bound(pointers)
        return launch


device = Device()


@pytest.fixture(scope="module")
def driver() -> Iterator[Told]:
    made = open_driver()
    assert type(made) is Nvidia
    made.__class__ = Told
    yield made
    assert not device.wrong


@pytest.fixture(autouse=True)
def alike(driver: Told) -> Iterator[None]:
    """Nothing went wrong unseen: the fake library notes the errors that it gave."""
    before = len(log())
    yield
    driver.synchronize()
    assert not device.wrong, device.wrong
    assert not [line for line in log()[before:] if line.startswith("error") and line not in expected], log()[before:]
    expected.clear()


expected: set[str] = set()


def log() -> list[str]:
    return LIB.fake_log().decode().splitlines()


def since(before: int, *words: str) -> list[str]:
    """The log's lines of some kinds."""
    return [line for line in log()[before:] if line.split()[0] in words]


def put(driver: Nvidia, x: np.ndarray) -> int:
    ptr = driver.alloc(x.nbytes)
    driver.copy_in(ptr, x)
    return ptr


def get(driver: Nvidia, ptr: int, like: np.ndarray) -> np.ndarray:
    out = np.empty_like(like)
    driver.copy_out(out, ptr)
    return out


SCALE = """def kernel(x0, x1, n0, c0):
    for i in range(block() * 32 + thread(), n0, blocks() * 32):
        x1[i] = x0[i] * c0
"""
SIGNATURE = ("*f32", "*f32", "ix", "f32")


# ---------------------------------------------------------------------------------------------- memory
def test_the_device(driver: Told) -> None:
    assert (driver.name, driver.capability, driver.multiprocessors) == ("Fake H100", (9, 0), 132)
    assert aj.cuda.is_available() and aj.cuda.device_count() == 1


def test_bytes_go_in_and_out(driver: Told) -> None:
    x, used = np.arange(100, dtype=np.float32), LIB.fake_used()
    a, b = put(driver, x), driver.alloc(400)
    driver.copy(b, a + 40, 360)
    driver.fill(b + 360, 0, 40)
    driver.put(b, np.float32(-1).tobytes())
    assert get(driver, b, x).tolist() == [-1, *x[11:], *[0] * 10]
    assert driver.pool_bytes() == LIB.fake_used() == used + 800
    free, total = driver.memory_info()
    assert total - free == used + 800
    driver.free(a)
    driver.free(b)
    assert LIB.fake_used() == used
    host = driver.pinned(64)
    host[:] = 3
    assert host.nbytes == 64
    driver.trim()


def test_a_full_device(driver: Told) -> None:
    with pytest.raises(OutOfMemory) as caught:
        driver.alloc(driver.total_memory + 1)
    assert caught.value.asked == driver.total_memory + 1 and caught.value.free <= driver.total_memory


def test_errors_have_names(driver: Told) -> None:
    a = driver.alloc(16)
    with pytest.raises(DriverError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        driver.copy_in(a, np.zeros(5, np.float32))
    driver.free(a)
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        driver.free(a)
    expected.update(line for line in log() if line.startswith("error"))


def test_each_thread_enters_the_context(driver: Told) -> None:
    x, got = np.arange(8, dtype=np.float32), []

    def work() -> None:
        got.append(get(driver, put(driver, x), x))
        driver.synchronize()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (got[0] == x).all()


def test_nothing_is_there_before_somebody_waits(driver: Told) -> None:
    """What the fake stream is for: a copy from pinned memory reads what is there when it is done."""
    host, out = (driver.pinned(32).view(np.float32) for _ in range(2))
    host[:] = 1
    a = driver.alloc(32)
    driver.copy_in(a, host, wait=False)
    host[:] = 2
    driver.copy_out(out, a, wait=False)
    assert np.isnan(out).all()
    driver.synchronize()
    assert (out == 2).all()
    pageable = np.ones(8, np.float32)
    driver.copy_in(a, pageable, wait=False)
    pageable[:] = 3
    assert (get(driver, a, out) == 1).all()


def test_large_copies_wait_for_their_buffers(driver: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven pieces through two buffers, there and back, with another such copy right behind."""
    monkeypatch.setattr("autojit.backends.cuda.staging.PIECE", 4096)
    staging = Staging(driver)
    arrays = [np.random.default_rng(k).standard_normal(3333) for k in range(2)]
    pointers = [driver.alloc(a.nbytes) for a in arrays]
    for ptr, a in zip(pointers, arrays, strict=True):
        kept = a.copy()
        staging.copy_in(ptr, kept)
        kept[:] = 0                                        # as one may when it has returned
    for ptr, a in zip(pointers, arrays, strict=True):
        out = np.empty_like(a)
        staging.copy_out(out, ptr)
        assert (out == a).all()


# ---------------------------------------------------------------------------------------------- launches
@pytest.mark.parametrize("wide", [False, True])
def test_arguments_are_packed_by_their_types(driver: Told, wide: bool) -> None:
    text = """def kernel(x0, n0, c0, x1, c1, c2, n1):
    if thread() == 0:
        x0[0] = to_f64(c0) + c1
        x0[1] = to_f64(c2)
        x0[2] = to_f64(to_i64(n0))
        x1[0] = to_i64(n1)
"""
    out, more = np.zeros(3), np.zeros(1, np.int16)
    a, b = put(driver, out), put(driver, more)
    handle = driver.load(device.compiled(text, ("*f64", "ix", "f32", "*i16", "f64", "i64", "ix"), 32, wide))
    driver.launch(handle, 1, 32, [("*f64", a, 24), ("ix", -7), ("f32", 0.5), ("*i16", b, 2), ("f64", 1e300), ("i64", 2 ** 40),
                                  ("ix", 12)])
    assert get(driver, a, out).tolist() == [1e300, 2.0 ** 40, -7] and get(driver, b, more)[0] == 12


def test_a_kernel_is_loaded_once(driver: Told) -> None:
    kernel, before = device.compiled(SCALE, SIGNATURE, 32), len(log())
    assert driver.load(kernel) is driver.load(kernel)
    assert since(before, "module") == ["module"]


def test_a_launch_of_nothing_is_an_error(driver: Told) -> None:
    a = driver.alloc(4)
    with pytest.raises(DriverError, match="INVALID_VALUE"):
        driver.launch(driver.load(device.compiled(SCALE, SIGNATURE, 32)), 0, 32,
                      [("*f32", a, 4), ("*f32", a, 4), ("ix", 0), ("f32", 1.0)])
    expected.update(line for line in log() if line.startswith("error cuLaunchKernel"))


# ---------------------------------------------------------------------------------------------- graphs
def scaled(driver: Told, handle: Any, x: int, y: int, n: int, factor: float) -> None:
    driver.launch(handle, 2, 32, [("*f32", x, 4 * n), ("*f32", y, 4 * n), ("ix", n), ("f32", factor)])


def test_a_graph_keeps_the_arguments_of_each_launch(driver: Told) -> None:
    x, before = np.arange(50, dtype=np.float32), len(log())
    a, b, c, handle = put(driver, x), put(driver, x), put(driver, x), driver.load(device.compiled(SCALE, SIGNATURE, 32))
    driver.begin_capture()
    scaled(driver, handle, a, b, 50, 2.0)
    scaled(driver, handle, b, c, 40, 3.0)
    driver.copy(a, c, 200)
    graph = driver.end_capture()
    assert (get(driver, c, x) == x).all()
    driver.replay(graph)
    assert (get(driver, c, x) == x * np.where(np.arange(50) < 40, 6, 1)).all() and (get(driver, b, x) == 2 * x).all()
    driver.replay(graph)
    assert get(driver, c, x)[39] == 39 * 36
    launched = f"launch {list(device.kernels)[-1]} 2 32 captured"
    assert since(before, "begin", "launch", "end", "instantiate", "replay") == [
        "begin", launched, launched, "end 3", "instantiate 3", "replay 3", "replay 3"]
    driver.drop(graph)


def test_a_graph_is_changed_into_another(driver: Told) -> None:
    x = np.ones(30, np.float32)
    a, b, handle = put(driver, x), put(driver, x), driver.load(device.compiled(SCALE, SIGNATURE, 32))

    def captured(factor: float, times: int, into: Any = None) -> Any:
        driver.begin_capture()
        for _ in range(times):
            scaled(driver, handle, a, b, 30, factor)
        return driver.end_capture(into)
    before = len(log())
    first = captured(2.0, 1)
    second = captured(5.0, 1, first)
    driver.replay(second)
    assert (get(driver, b, x) == 5).all()
    third = captured(7.0, 2, second)                       # another number of launches: made anew
    driver.replay(third)
    assert (get(driver, b, x) == 7).all()
    assert since(before, "update", "instantiate", "drop") == [
        "instantiate 1", "update done", "update refused", "drop", "instantiate 2"]
    driver.drop(third)


def test_what_no_capture_takes_leaves_the_driver_usable(driver: Told) -> None:
    driver.begin_capture()
    for illegal in (lambda: driver.alloc(8), driver.synchronize, driver.event):
        with pytest.raises(DriverError, match="STREAM_CAPTURE_UNSUPPORTED"):
            illegal()
    driver.drop(driver.end_capture())
    driver.synchronize()
    got = []

    def work() -> None:
        got.append(driver.lock.acquire(blocking=False))
        driver.lock.release()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert got == [True]


# ---------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("trans", [(False, False), (True, False), (False, True), (True, True)])
def test_products(driver: Told, dtype: Any, trans: tuple[bool, bool]) -> None:
    m, n, k = 3, 5, 4
    rng = np.random.default_rng(1)
    a, b, c = (rng.standard_normal(shape).astype(dtype.np) for shape in ((2, 2, 6, 7), (2, 2, 6, 7), (2, 2, 4, 6)))
    step = GemmStep(dtype, *trans, m, n, k, "a", 7, "b", 7, "c", 6, 2, 42, 42, 24, alpha=0.5, beta=2.0, outer=(2, 84, 84, 48))
    x, y, z = put(driver, a), put(driver, b), put(driver, c)
    driver.gemm(step, x, y, z)
    left, right = ((v[..., :r, :s] if not t else v[..., :s, :r].swapaxes(-1, -2))
                   for v, t, (r, s) in zip((a, b), trans, ((m, k), (k, n)), strict=True))
    want = c.copy()
    want[..., :m, :n] = 0.5 * (left @ right) + 2 * c[..., :m, :n]
    np.testing.assert_allclose(get(driver, z, c), want, rtol=1e-5, atol=1e-6)
    driver.begin_capture()
    driver.gemm(step, x, y, z)
    graph, before = driver.end_capture(), len(log())
    driver.replay(graph)
    want[..., :m, :n] = 0.5 * (left @ right) + 2 * want[..., :m, :n]
    np.testing.assert_allclose(get(driver, z, c), want, rtol=1e-5, atol=1e-6)
    assert since(before, "replay", "gemm") == ["replay 2"]


def test_the_precision_of_products(driver: Told) -> None:
    x, before = put(driver, np.ones((4, 4), np.float32)), len(log())
    y = driver.alloc(64)
    step = GemmStep(float32, False, False, 4, 4, 4, "a", 4, "b", 4, "c", 4)
    driver.gemm(step, x, x, y)
    aj.set_float32_matmul_precision("high")
    try:
        driver.gemm(step, x, x, y)
    finally:
        aj.set_float32_matmul_precision("highest")
    assert [line.split()[7] for line in since(before, "gemm")] == ["68", "77"]


# ---------------------------------------------------------------------------------------------- streams
def test_marks_and_other_streams(driver: Told) -> None:
    first, second, before = driver.event(), driver.event(), len(log())
    assert not driver.done(second)
    with pytest.raises(DriverError, match="NOT_READY"):
        driver.elapsed(first, second)
    driver.synchronize()
    assert driver.elapsed(first, second) >= 0 and driver.done(second)
    driver.order(driver.stream, 0x1234)
    driver.order(0x1234, driver.stream)
    assert since(before, "wait") == ["wait other", "wait ours"]


# ---------------------------------------------------------------------------------------------- programs
@pytest.fixture
def backend(driver: Told, monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """The backend over this driver; compiling is telling the library."""
    monkeypatch.setattr("autojit.backends.cuda.backend.open_driver", lambda device: driver)
    made = CudaBackend()
    monkeypatch.setattr(made, "compile", lambda emitted: [
        device.compiled(e.text, e.signature, e.threads, e.wide) for e in emitted])
    monkeypatch.setattr(devices, "_opened", {"cuda": made})
    return made


def test_a_program_is_captured_at_its_second_call(backend: CudaBackend) -> None:
    made = harness.prepare(next(p for p in benchmarks() if p.name.startswith("mlp")))
    run, before = made.prepared.link(), len(log())
    inputs = [a if n.op == "scalar" else backend.from_host(np.ascontiguousarray(a), n.dtype)
              for n, a in zip(made.graph.inputs, made.arrays)]
    for call in range(4):
        outs = run(inputs)
        for got, want in zip(map(backend.to_host, outs), made.want(), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
        assert not device.wrong, call
        del outs                                           # or the next call's results lie elsewhere: another graph
    lines = since(before, "begin", "end", "instantiate", "replay")
    count = lines[1].removeprefix("end ")
    assert lines == ["begin", f"end {count}", f"instantiate {count}", *[f"replay {count}"] * 3] and int(count) >= 5


def loss(x: Any, w: Any, v: Any) -> Any:
    return (((x @ w).tanh() @ v) ** 2).mean()


def test_a_traced_function_runs_on_the_device(backend: CudaBackend) -> None:
    arrays = [np.random.default_rng(4).standard_normal(s).astype(np.float32) for s in ((9, 6), (6, 33), (33, 5))]
    traced = aj.trace(aj.grad(loss, argnums=(0, 1, 2)))
    want = [v.numpy() for v in traced(*[aj.tensor(a) for a in arrays])]
    given = [aj.tensor(a).cuda() for a in arrays]
    for _ in range(3):
        got = [v.cpu().numpy() for v in traced(*given)]
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-5)
    assert not device.wrong


@pytest.mark.proof
def test_compiled_kernels_are_loaded_by_their_names(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path) -> None:
    """As on a GPU, but for the instructions: the compiler's cubins, for the capability that the device says."""
    monkeypatch.setattr(aj.config, "cache_dir", str(tmp_path))

    def compiled(emitted: Sequence[Any]) -> list[Compiled]:
        made = CudaBackend.compile(backend, emitted)
        for kernel in made:
            assert kernel.cubin[:4] == b"\x7fELF" and kernel.entry.encode() in kernel.cubin
            device.know(kernel)
        return made
    monkeypatch.setattr(backend, "compile", compiled)
    made = harness.prepare(next(p for p in benchmarks() if p.name.startswith("mlp")))
    assert harness.difference_on_device(made) is None and not device.wrong
