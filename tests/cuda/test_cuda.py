"""aj.cuda: torch.cuda's names, on the stand-in and on a machine without a GPU."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import autojit as aj
from autojit import cuda
from autojit.backends.cuda import driver
from autojit.config import config
from autojit.dtypes import float32


@pytest.fixture
def nothing(monkeypatch):
    """A machine without a GPU."""
    from autojit.backends import devices
    monkeypatch.setattr(config, "cuda", "auto")
    monkeypatch.setattr(driver, "_probed", [(0, "no device is there")])
    monkeypatch.setattr(devices, "_opened", {})


def test_without_a_gpu(nothing):
    assert not cuda.is_available() and cuda.device_count() == 0 and cuda.why_not() == "no device is there"
    assert not cuda.is_initialized()
    assert cuda.memory_allocated() == cuda.memory_reserved() == cuda.max_memory_allocated() == 0 and cuda.memory_stats() == {}
    cuda.empty_cache(), cuda.reset_peak_memory_stats(), cuda.manual_seed(3)
    for ask in (cuda.synchronize, cuda.current_device, cuda.get_device_name, cuda.get_device_properties, cuda.mem_get_info,
                cuda.init, lambda: cuda.Event().record()):
        with pytest.raises(RuntimeError, match="CUDA cannot be used: no device is there"):
            ask()
    with pytest.raises(RuntimeError, match="invalid device ordinal: 1, and there are 0 devices"):
        cuda.set_device(1)


def test_asking_loads_no_package():
    text = ("import autojit as aj, sys\naj.cuda.is_available(), aj.cuda.memory_stats()\n"
            "print([m for m in sys.modules if m.split('.')[0] in ('cuda', 'numba', 'numba_cuda')])")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_the_device_is(standin):
    assert cuda.is_available() and cuda.device_count() == 1 and cuda.why_not() == "" and cuda.is_initialized()
    assert cuda.get_device_name() == cuda.get_device_name("cuda:0") == standin.driver.name
    assert cuda.get_device_capability(0) == (9, 0) and cuda.current_device() == 0
    p = cuda.get_device_properties()
    assert (p.major, p.minor, p.multi_processor_count, p.total_memory) == (9, 0, 132, standin.driver.total_memory)
    assert "multi_processor_count=132" in repr(p)
    cuda.set_device("cuda:0")
    for wrong, error in ((1, RuntimeError), ("cuda:1", RuntimeError), ("cpu", ValueError), ("cuda:x", ValueError)):
        with pytest.raises(error):
            cuda.get_device_name(wrong)


def test_memory(standin):
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    held = standin.from_host(np.ones(1 << 18, "f4"), float32)
    assert cuda.memory_allocated() == before + (1 << 20) and cuda.max_memory_allocated() >= before + (1 << 20)
    assert cuda.memory_reserved() >= 1 << 20 and cuda.max_memory_reserved() >= cuda.memory_reserved()
    assert held.size == 1 << 18
    del held
    cuda.empty_cache()
    assert cuda.memory_allocated() <= before
    free, total = cuda.mem_get_info()
    assert 0 < free <= total
    assert issubclass(cuda.OutOfMemoryError, RuntimeError)


def test_events(standin):
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    assert start.query()
    with pytest.raises(ValueError, match="must be recorded"):
        start.elapsed_time(end)
    start.record(), end.record()
    end.synchronize()
    assert end.query() and start.elapsed_time(end) >= 0
    cuda.synchronize()
    with pytest.raises(NotImplementedError):
        cuda.Event(interprocess=True)


def test_the_stream(standin):
    stream = cuda.current_stream()
    assert stream.cuda_stream == standin.driver.stream and stream.record_event().query()
    stream.synchronize()

    class Theirs:
        cuda_stream = 9
    stream.wait_stream(Theirs()), stream.wait_stream(7)
    assert standin.driver.calls("order")[-2:] == [("order", 9, stream.cuda_stream), ("order", 7, stream.cuda_stream)]


def test_debug_prints_what_each_step_costs(standin, monkeypatch, capsys):
    monkeypatch.setattr(config, "debug", 2)
    monkeypatch.setattr(config, "tier", "compile")
    x = aj.ones(3, 20, device="cuda")
    assert float(aj.trace(lambda x: (x @ x.T).exp().sum())(x)) > 9
    told = capsys.readouterr()
    assert "matrix product 3x3x20" in told.err + told.out and "kernel " in told.err + told.out


def test_one_stream_of_random_numbers(standin):
    cuda.manual_seed(5)
    a = aj.rand(3)
    cuda.manual_seed_all(5)
    assert (aj.rand(3) == a).all()


def test_precision_of_products():
    try:
        for word in ("high", "medium", "highest"):
            aj.set_float32_matmul_precision(word)
            assert aj.get_float32_matmul_precision() == word
        with pytest.raises(RuntimeError, match="^set_float32_matmul_precision expects a str, but got int$"):
            aj.set_float32_matmul_precision(1)
        with pytest.warns(UserWarning, match="^fast is not one of 'highest', 'high', or 'medium'; "):
            aj.set_float32_matmul_precision("fast")
        assert aj.get_float32_matmul_precision() == "highest"
        with pytest.raises(ValueError, match="AUTOJIT_MATMUL_PRECISION must be highest, high or medium"):
            config.matmul_precision = "fast"
        with pytest.raises(ValueError, match="AUTOJIT_CUDA must be auto, standin or off"):
            config.cuda = "on"
    finally:
        config.reset()
