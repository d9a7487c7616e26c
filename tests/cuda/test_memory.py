"""The device's memory on the stand-in driver: arrays, pool, counts, no room, copies, and other libraries' arrays."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from autojit.backends.cuda import memory as memory_module
from autojit.backends.cuda import staging
from autojit.backends.cuda.driver import Unavailable, open_driver
from autojit.backends.cuda.memory import Memory, OutOfMemoryError, rounded, words
from autojit.backends.cuda.sharing import borrow, interface
from autojit.backends.cuda.standin import Standin
from autojit.config import config
from autojit.dtypes import bool_, float16, float32, float64, int64


@pytest.fixture
def memory():
    return Memory(Standin(total_memory=8 << 20))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_arrays_go_there_and_back(memory):
    for value in (np.arange(6, dtype="f4").reshape(2, 3), np.array(7), np.empty((0, 3), "f8"), np.array([True, False])):
        dtype = {"f": float32, "i": int64, "b": bool_}[value.dtype.kind] if value.dtype != np.float64 else float64
        there = memory.from_host(value, dtype)
        assert (there.shape, there.dtype, there.size, there.ndim) == (value.shape, dtype, value.size, value.ndim)
        assert there.nbytes == value.nbytes and there.ptr % 256 == 0
        back = memory.to_host(there)
        assert back.dtype == value.dtype and (back == value).all() and back.shape == value.shape


def test_what_the_host_does_to_its_array_afterwards_does_not_matter(memory):
    for n in (100, 1 << 17):                               # carried along, and by way of pinned memory
        host = np.ones(n, "f4")
        there = memory.from_host(host, float32)
        host[:] = 2.0
        assert (memory.to_host(there) == 1.0).all()
    assert [c[3] for c in memory.driver.calls("copy_in")] == [False] and len(memory.driver.calls("put")) == 1


def test_large_copies_go_in_pieces_through_two_pinned_buffers(memory, monkeypatch):
    monkeypatch.setattr(staging, "PIECE", 1 << 16)
    monkeypatch.setattr(memory_module, "DIRECT", 1 << 16)
    host = np.arange(50_001, dtype="f4")                   # three pieces and a bit
    there = memory.from_host(host, float32)
    assert (memory.to_host(there) == host).all()
    assert [c[2] for c in memory.driver.calls("copy_in")] == [1 << 16] * 3 + [4 * 50_001 - 3 * (1 << 16)]
    assert [c[3] for c in memory.driver.calls("copy_out")] == [False] * 4
    memory.from_host(host, float32)
    assert len(memory.driver.calls("pinned")) == 2         # and are used again


def test_pinned_arrays_of_users(memory):
    a = memory.pinned.take((3, 5), np.dtype("f8"))
    where, view = a.ctypes.data, a[1:, 2]
    assert a.shape == (3, 5) and memory.pinned.holds(view) and not memory.pinned.holds(np.ones(3))
    del a
    assert memory.pinned.take((15,), np.dtype("f8")).ctypes.data != where      # a view holds it
    del view
    assert memory.pinned.take((15,), np.dtype("f8")).ctypes.data == where


def test_blocks_come_back_by_size_without_the_driver(memory):
    a = memory.empty((1000,), float32)
    where = a.ptr
    del a
    other, b, c = memory.empty((700,), float32), memory.empty((1000,), float32), memory.empty((1000,), float32)
    assert b.ptr == where != c.ptr and other.owner.nbytes == rounded(2800) != c.owner.nbytes
    assert len(memory.driver.calls("alloc")) == 3 and not memory.driver.calls("free")


def test_large_blocks_go_back_to_the_pool_of_the_driver(memory):
    a = memory.empty((1 << 20,), float32)
    del a
    assert not memory.driver.calls("free")                 # never where an array dies
    memory.sweep()
    assert len(memory.driver.calls("free")) == 1


def test_sizes_of_blocks_waste_little():
    for n in (0, 1, 511, 512, 513, 5000, 70_000, 1 << 20, (1 << 20) + 1, 5 << 20, (1 << 30) + 1):
        size = rounded(n)
        assert size >= n and size % 512 == 0 and size - n <= max(512, min(n // 8, 2 << 20)), n


def test_counts(memory):
    a, b = memory.empty((1 << 18,), float32), memory.empty((1 << 18,), float32)
    del a
    s = memory.stats()
    assert s["allocated_bytes.all.current"] == 1 << 20 and s["allocated_bytes.all.peak"] == 2 << 20
    assert s["active.all.current"] == 1 and s["reserved_bytes.all.current"] == 2 << 20
    memory.reset_peak()
    assert memory.stats()["allocated_bytes.all.peak"] == 1 << 20
    memory.release()
    assert memory.stats()["reserved_bytes.all.current"] == 1 << 20
    assert b.size == 1 << 18


def test_what_is_at_hand_is_given_up_before_there_is_no_room(memory):
    small = [memory.empty((1 << 18,), float32) for _ in range(7)]
    del small
    assert memory.empty((1 << 20,), float32).nbytes == 4 << 20
    assert memory.stats()["num_alloc_retries"] == 1 and memory.stats()["num_ooms"] == 0


def test_no_room_says_what_was_asked_what_is_live_and_what_to_do(memory):
    held = [memory.empty((1 << 9, 1 << 10), float32), memory.empty((1 << 9, 1 << 10), float32), memory.empty((100,), float64)]
    work = memory.arena(1 << 20)
    with pytest.raises(OutOfMemoryError) as caught:
        memory.empty((1 << 22,), float32)
    text = str(caught.value)
    assert text.startswith("CUDA out of memory. Tried to allocate 16.00 MiB. GPU 0 has a total capacity of 8.00 MiB of which ")
    assert "Live are 3 arrays of 4.00 MiB, and 1.00 MiB of temporaries of programs." in text
    assert text.endswith("The largest: 2 x float32[512, 1024] of 2.00 MiB, float64[100] of 1.00 KiB.")
    assert any("hint: let go of tensors" in note for note in caught.value.__notes__)
    assert memory.stats()["num_ooms"] == 1 and len(held) == 3 and work.nbytes == 1 << 20
    assert memory.empty((10,), float32).size == 10         # and nothing is broken


def test_programs_share_their_temporaries(memory):
    a = memory.arena(1000)
    assert memory.arena(500) is a
    b = memory.arena(2000)
    assert b is not a and memory.arena(1000) is b
    del a, b
    gc.collect()
    assert memory.arena(100).nbytes == rounded(100)        # nobody knew the large one any more


def test_words():
    assert [words(n) for n in (5, 2048, 3 << 20, 5 << 30)] == ["5 bytes", "2.00 KiB", "3.00 MiB", "5.00 GiB"]


# ---------------------------------------------------------------------- views
def test_views_hold_the_memory(memory):
    a = memory.from_host(np.arange(6, dtype="f4"), float32)
    turned, part = a.reshape((2, 3)), a.part(2, (2,))
    where = a.ptr
    del a
    assert memory.empty((6,), float32).ptr != where
    assert memory.to_host(turned).tolist() == [[0, 1, 2], [3, 4, 5]] and memory.to_host(part).tolist() == [2, 3]
    for wrong in (lambda: turned.reshape(4), lambda: turned.part(5, (2,)), lambda: turned.part(-1, (2,))):
        with pytest.raises(ValueError):
            wrong()


# ---------------------------------------------------------------------- other libraries
def test_dlpack_shows_the_same_memory_both_ways(memory, torch):
    ours = memory.from_host(np.arange(6, dtype="f4").reshape(2, 3), float32)
    for library in (torch.from_dlpack, np.from_dlpack):
        theirs = library(ours)
        assert tuple(theirs.shape) == (2, 3) and float(theirs[1, 2]) == 5.0
    theirs = torch.from_dlpack(ours)
    theirs[0, 0] = 9.0
    assert memory.to_host(ours)[0, 0] == 9.0
    back = borrow(theirs, memory)
    assert back.ptr == ours.ptr and back.shape == (2, 3) and back.dtype is float32
    half = borrow(torch.ones(3, dtype=torch.float16), memory)
    assert half.dtype is float16 and memory.to_host(half).tolist() == [1, 1, 1]


def test_a_loan_keeps_the_memory_until_it_is_given_back(memory, torch):
    ours = memory.from_host(np.ones(8, "f4"), float32)
    where, theirs = ours.ptr, torch.from_dlpack(ours)
    unused = ours.__dlpack__()
    del ours
    assert memory.empty((8,), float32).ptr != where and theirs.tolist() == [1.0] * 8
    del theirs
    assert memory.empty((8,), float32).ptr != where        # the capsule that nobody took still counts
    del unused
    assert memory.empty((8,), float32).ptr == where


def test_what_the_reader_did_comes_before_our_next_use(memory):
    memory.driver.place = (2, 0)                           # as a GPU: with streams
    driver, ours = memory.driver, memory.from_host(np.ones(8, "f4"), float32)
    for stream, back in ((None, ("order", 1, driver.stream)), (2, ("order", 2, driver.stream)), (77, ("synchronize",)),
                         (-1, None)):
        driver.log.clear()
        capsule = ours.__dlpack__(stream=stream)
        assert driver.calls("order") == ([] if stream == -1 else [("order", driver.stream, stream or 1)])
        driver.log.clear()
        del capsule
        memory.sweep()
        assert list(driver.log) == ([back] if back else [])
    with pytest.raises(BufferError):
        ours.__dlpack__(copy=True)
    with pytest.raises(BufferError):
        ours.__dlpack__(dl_device=(1, 0))


def test_a_borrowed_array_holds_its_owner_until_our_work_is_done(memory, torch):
    theirs = torch.ones(4)
    taken = borrow(theirs, memory)
    waits = []
    memory.driver.done = lambda event: waits.append(event) or len(waits) > 1
    count = torch.ones(4).untyped_storage()                # keeps torch's allocator from answering with the same place
    where = theirs.data_ptr()
    del theirs, taken
    memory.sweep()
    assert len(waits) == 1 and memory.driver.bytes_at(where, 16, "still ours").size == 16
    memory.sweep()
    assert len(waits) == 2 and count.nbytes() == 16
    with pytest.raises(Exception, match="no memory of the device"):
        memory.driver.bytes_at(where, 16, "gone")


def test_what_cannot_be_borrowed_says_why(memory):
    for wrong, error, text in ((np.ones((4, 4))[:, :2], ValueError, "is not contiguous"),
                               ([1.0], TypeError, "neither __dlpack__"),
                               (np.ones(3, np.complex64), ValueError, "no dtype of DLPack's kind 5 with 64 bits")):
        with pytest.raises(error, match=text):
            borrow(wrong, memory)
    there = memory.from_host(np.ones(3, "f4"), float32)
    there.memory.driver.place = (2, 0)
    with pytest.raises(ValueError, match=r"on DLPack's device \(1, 0\)"):
        borrow(np.ones(3), memory)


class Theirs:
    """An array of a library that speaks `__cuda_array_interface__`, on stream 9."""

    def __init__(self, array, **more):
        self.array = array
        self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str, "version": 3, "strides": None,
                                         "data": (array.ctypes.data, False), "stream": 9, **more}


def test_the_cuda_array_interface(memory):
    array = np.arange(4, dtype="f8")
    taken = borrow(Theirs(array), memory)
    assert memory.to_host(taken).tolist() == [0, 1, 2, 3] and taken.dtype is float64
    assert memory.driver.calls("order") == [("order", 9, memory.driver.stream)]
    with pytest.raises(ValueError, match="is not contiguous"):
        borrow(Theirs(array, strides=(16,)), memory)
    with pytest.raises(AttributeError, match="the host's"):
        interface(taken)
    memory.driver.place = (2, 0)
    assert interface(taken) == {"shape": (4,), "typestr": "<f8", "data": (array.ctypes.data, False), "version": 3,
                                "strides": None, "stream": memory.driver.stream}


# ---------------------------------------------------------------------- is there one?
def test_no_device_says_what_is_missing(monkeypatch):
    from autojit.backends.cuda import driver
    monkeypatch.setattr(config, "cuda", "off")
    with pytest.raises(Unavailable, match="AUTOJIT_CUDA=off"):
        open_driver()
    monkeypatch.setattr(config, "cuda", "auto")
    monkeypatch.setattr(driver, "_probed", [])
    monkeypatch.setattr(driver, "LIBRARIES", ("libnone.so.1",))
    monkeypatch.setattr(driver, "NEEDED", {"no_such_package": "no-such-package", "os": "os"})
    assert driver.count() == 0
    with pytest.raises(Unavailable) as caught:
        open_driver()
    assert str(caught.value) == (
        "CUDA cannot be used: the driver library is missing (libnone.so.1 cannot be loaded: it comes with NVIDIA's driver); "
        "the package no-such-package is missing (pip install 'autojit[cuda]')")


def test_a_driver_without_devices_says_so(monkeypatch):
    from autojit.backends.cuda import driver

    class Library:
        @staticmethod
        def cuInit(flags):
            return 100
    monkeypatch.setattr(driver, "_probed", [])
    monkeypatch.setattr(driver, "library", Library)
    monkeypatch.setattr(driver, "NEEDED", {})
    assert driver.probe() == (0, "no device is there (cuInit says error 100)")


FORK = """
import os
from autojit.backends.cuda.driver import Forked, open_driver
from autojit.backends.cuda.memory import Memory
from autojit.dtypes import float32

driver = open_driver()
held = Memory(driver).empty((3,), float32)                 # dies in the child too
child = os.fork()
if child:
    os.waitpid(child, 0)
    driver.synchronize()
    print("parent:", type(driver) is Forked)
else:
    try:
        driver.synchronize()
    except RuntimeError as e:
        print("child:", e, flush=True)
    del held
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_is_told():
    done = subprocess.run([sys.executable, "-c", FORK], env={**os.environ, "AUTOJIT_CUDA": "standin"}, capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "child: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' "
        "start method", "parent: False"] and done.stderr == ""
