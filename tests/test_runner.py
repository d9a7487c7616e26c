"""The native runtime: plans, arguments, the thread pool, and what must not go wrong around them."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from autojit.backends.cpu import native
from autojit.backends.cpu.runner import PlanBuilder, Slot
from autojit.backends.cpu.runtime import BUSY, FAILED, OK, runtime, text

HEAD = "define i32 @{0}(ptr %ret, ptr %exc, ptr %a, i64 %lo, i64 %hi, i64 %chunk) {{\nentry:\n"
LOOP = """  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %i1, %body ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %body, label %out
body:
"""
NEXT = "  %i1 = add i64 %i, 1\n  br label %loop\nout:\n  ret i32 0\n}\n"
WORD = "  %w{0}_at = getelementptr i64, ptr %a, i64 {0}\n  %w{0} = load {1}, ptr %w{0}_at\n"

KERNELS = (
    HEAD.format("nothing") + "  ret i32 0\n}\n"
    # table: status, failing chunk
    + HEAD.format("fail") + WORD.format(0, "i32") + WORD.format(1, "i64")
    + "  %mine = icmp eq i64 %chunk, %w1\n  %s = select i1 %mine, i32 %w0, i32 0\n  ret i32 %s\n}\n"
    # table: floats; adds 1 to each of [lo, hi), not atomically: a lost or doubled chunk shows
    + HEAD.format("count") + WORD.format(0, "ptr") + LOOP
    + "  %p = getelementptr float, ptr %w0, i64 %i\n  %v = load float, ptr %p\n  %n = fadd float %v, 1.0\n"
    + "  store float %n, ptr %p\n" + NEXT
    # table: int64 rows of 3; writes lo, hi, and 1 into row `chunk`
    + HEAD.format("bounds") + WORD.format(0, "ptr")
    + "  %r = mul i64 %chunk, 3\n  %p = getelementptr i64, ptr %w0, i64 %r\n  store i64 %lo, ptr %p\n"
    + "  %p1 = getelementptr i64, ptr %p, i64 1\n  store i64 %hi, ptr %p1\n"
    + "  %p2 = getelementptr i64, ptr %p, i64 2\n  %v = load i64, ptr %p2\n  %n = add i64 %v, 1\n"
    + "  store i64 %n, ptr %p2\n  ret i32 0\n}\n"
    # table: to, from, n; copies an int64
    + HEAD.format("move") + WORD.format(0, "ptr") + WORD.format(1, "ptr")
    + "  %v = load i64, ptr %w1\n  store i64 %v, ptr %w0\n  ret i32 0\n}\n"
    # table: function i64(i64), its argument, where the result goes
    + HEAD.format("call") + WORD.format(0, "ptr") + WORD.format(1, "i64") + WORD.format(2, "ptr")
    + "  %v = call i64 %w0(i64 %w1)\n  store i64 %v, ptr %w2\n  ret i32 0\n}\n"
    # table: a flag to raise (+1), a flag to wait for (until it is not 0)
    + HEAD.format("meet") + WORD.format(0, "ptr") + WORD.format(1, "ptr")
    + "  %o = atomicrmw add ptr %w0, i64 1 seq_cst\n  br label %loop\nloop:\n"
    + "  %f = load atomic i64, ptr %w1 seq_cst, align 8\n  %go = icmp ne i64 %f, 0\n"
    + "  br i1 %go, label %out, label %loop\nout:\n  ret i32 0\n}\n"
    # table: a counter to raise, how many must have come
    + HEAD.format("gather") + WORD.format(0, "ptr") + WORD.format(1, "i64")
    + "  %o = atomicrmw add ptr %w0, i64 1 seq_cst\n  br label %loop\nloop:\n"
    + "  %f = load atomic i64, ptr %w0 seq_cst, align 8\n  %go = icmp sge i64 %f, %w1\n"
    + "  br i1 %go, label %out, label %loop\nout:\n  ret i32 0\n}\n"
)
NAMES = ("nothing", "fail", "count", "bounds", "move", "call", "meet", "gather")
LIBRARY = native.load(KERNELS, NAMES)


@pytest.fixture(autouse=True)
def threads():
    """Every test may change the number of threads; each starts with two.  A lost chunk is a hang: end it."""
    pool = runtime().pool
    before = pool.num_threads
    pool.set_num_threads(2)
    faulthandler.dump_traceback_later(120, exit=True)
    yield pool
    faulthandler.cancel_dump_traceback_later()
    pool.set_num_threads(before)


def at(array):
    return array.ctypes.data


def move(made, to, source):
    """A step that copies a word."""
    made.kernel(LIBRARY.address("move"), made.table([to, source]), 1, name="move")


def one_kernel(name, words, n=0, chunks=1, align=1, release=True, steps=1, arguments=0):
    made = PlanBuilder()
    slots = [made.argument() for _ in range(arguments)]
    table = made.table(slots + list(words))
    for _ in range(steps):
        made.kernel(LIBRARY.address(name), table, n, chunks, align)
    return made.build(release)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("release", [False, True])
def test_addresses_reach_tables_and_steps_with_their_offsets(release):
    made = PlanBuilder()
    x, y = made.argument(), made.argument()
    made.kernel(LIBRARY.address("move"), made.table([y + 8, x + 16]), 1)
    move(made, y + 24, x)
    plan = made.build(release)
    for _ in range(2):                                  # new addresses: the second call must move them again
        a, b = np.arange(5) + 10, np.zeros(5, np.int64)
        for _ in range(2):                              # old addresses: nothing to move
            b[:] = 0
            assert runtime().run(plan.address, at(a), at(b)) == OK
            assert b.tolist() == [0, 12, 0, 10, 0]


def test_wrong_arguments_raise_and_leave_the_plan_usable():
    made = PlanBuilder()
    x, y = made.argument(), made.argument()
    move(made, x, y)
    plan = made.build()
    run, b, c = runtime().run, np.zeros(1, np.int64), np.array([3])
    for arguments, error in ((("x", at(c)), TypeError), ((1.5, at(c)), TypeError), ((2**64, at(c)), OverflowError),
                             ((at(b), 1j), TypeError), ((at(b), None), TypeError), ((at(b),), TypeError),
                             ((at(b), at(c), 1), TypeError)):
        with pytest.raises(error):
            run(plan.address, *arguments)
        assert not b.any()
    assert run(plan.address, at(b), at(c)) == OK == run(plan.address, b, c)
    assert b[0] == 3


def test_what_is_not_a_plan_is_refused():
    some = np.zeros(16, np.int64)
    for function in (runtime().run, runtime().bind, runtime().run_bound):
        with pytest.raises(TypeError, match="plan's address"):
            function()
        with pytest.raises(TypeError):
            function("plan")
        for address in (at(some), 0, -1, 17):
            with pytest.raises(ValueError, match="not the address of a plan"):
                function(address)
    with pytest.raises(TypeError, match="nothing else"):
        runtime().run_bound(PlanBuilder().build().address, 1)


def test_builder_refuses_nonsense():
    made = PlanBuilder()
    with pytest.raises(ValueError, match="power of two"):
        made.arena(8, align=3)
    for n, chunks, align in ((4, 0, 1), (-1, 1, 1), (4, 1, 3), (4, 1, 0)):
        with pytest.raises(ValueError):
            made.kernel(1, 0, n, chunks, align)


# ---------------------------------------------------------------- bound calls and other ways in


def test_bound_calls_use_the_last_arguments():
    plan = one_kernel("count", [], n=4, arguments=1)
    a, b = np.zeros(4, np.float32), np.zeros(4, np.float32)
    call = runtime()
    assert call.run(plan.address, at(a)) == OK
    assert call.run_bound(plan.address) == OK
    assert call.bind(plan.address, at(b)) == OK and not b.any()
    native_call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(call.run_plan)
    assert [call.run_bound(plan.address), native_call(plan.address)] == [OK, OK]
    assert (a == 2).all() and (b == 2).all()


def test_the_gil_is_held_or_not_as_the_plan_says():
    held = ctypes.cast(ctypes.pythonapi.PyGILState_Check, ctypes.c_void_p).value
    out = np.full(1, 7)
    for release in (False, True):
        plan = one_kernel("call", [held, 0, at(out)], release=release)
        for run in (runtime().run, runtime().run_bound):
            assert run(plan.address) == OK
            assert (int(out[0]) & 0xFFFFFFFF) == (0 if release else 1)


def test_a_plan_inside_itself_is_busy():
    out = np.full(1, 7)
    made = PlanBuilder()
    me = made.argument()
    made.kernel(LIBRARY.address("call"), made.table([runtime().run_plan, me, at(out)]), 1)
    plan = made.build()
    assert runtime().run(plan.address, plan.address) == OK
    assert out[0] == BUSY


def test_a_second_thread_gets_busy_or_a_clone_with_an_arena_of_its_own():
    made = PlanBuilder()
    arrived, go, out = made.argument(), made.argument(), made.argument()
    arena = made.arena(64)
    move(made, arena, out)
    made.kernel(LIBRARY.address("meet"), made.table([arrived, go]), 1)
    move(made, out + 8, arena)
    plan = made.build()
    flags, results = np.zeros(2, np.int64), np.array([[1, 0], [2, 0], [3, 0]])
    a, g = at(flags), at(flags) + 8
    workers = [threading.Thread(target=plan.run, args=(a, g, at(row))) for row in results]
    for i, worker in enumerate(workers):
        worker.start()
        while flags[0] <= i:
            time.sleep(0.001)
    assert runtime().run(plan.address, a, g, at(results)) == BUSY
    assert runtime().bind(plan.address, a, g, at(results)) == BUSY
    assert runtime().run_bound(plan.address) == BUSY
    flags[1] = 1
    for worker in workers:
        worker.join(10)
    assert results.tolist() == [[1, 1], [2, 2], [3, 3]]
    assert runtime().run(plan.address, a, g, at(results)) == OK


# ---------------------------------------------------------------- memory and steps


def test_arenas_are_aligned_and_not_shared_with_clones():
    out = np.zeros(2, np.int64)
    made = PlanBuilder()
    words = made.table([made.arena(100, align=4096) + 8, made.arena(10)])
    move(made, at(out), words)
    move(made, at(out) + 8, words + 8)
    plan = made.build()
    seen = []
    for made_plan in (plan, plan.clone(), plan.clone()):
        assert runtime().run(made_plan.address) == OK
        assert out[0] % 4096 == 8 and out[1] % 64 == 0
        seen += out.tolist()
    assert len(set(seen)) == 6


def test_constants_live_as_long_as_the_plan():
    class Owner:
        def __init__(self, gone):
            self.data, self.gone = np.array([42]), gone

        def __del__(self):
            self.gone.append(True)

    gone, out = [], np.zeros(1, np.int64)
    owner = Owner(gone)
    made = PlanBuilder()
    move(made, at(out), made.constant(at(owner.data), keep=owner))
    plan = made.build()
    twin = plan.clone()
    del owner, made, plan
    assert not gone and runtime().run(twin.address) == OK and out[0] == 42
    del twin
    assert gone == [True]


@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_a_kernel_s_status_ends_the_plan(chunks):
    out = np.zeros(8, np.float32)
    for status in (1, 5, -1):
        made = PlanBuilder()
        made.kernel(LIBRARY.address("fail"), made.table([status, chunks // 2]), 100, chunks)
        made.kernel(LIBRARY.address("count"), made.table([at(out)]), 8)
        plan = made.build()
        assert runtime().run(plan.address) == FAILED + (status & 0xFFFFFFFF)
        assert not out.any()
    good = one_kernel("count", [at(out)], n=8, chunks=chunks)
    assert runtime().run(good.address) == OK and (out == 1).all()


def test_profile_runs_each_step_once():
    out = np.zeros(8, np.float32)
    made = PlanBuilder()
    x = made.argument()
    move(made, x, made.table([0]))
    made.kernel(LIBRARY.address("count"), made.table([x]), 8, name="first")
    made.kernel(LIBRARY.address("count"), made.table([x]), 8, chunks=2, name="second")
    plan = made.build()
    times = plan.profile(at(out))
    assert [name for name, _ in times] == ["move", "first", "second"] and (out == 2).all()
    assert all(0 < seconds < 10 for _, seconds in times)
    out[2:] = 0
    assert runtime().run(plan.address, at(out)) == OK and (out == 2).all()


def test_slots_say_what_they_are():
    made = PlanBuilder()
    assert [repr(s) for s in (made.argument() + 8, made.arena(8), Slot(None, 0, 5))] == [
        "Slot(argument 0 + 8)", "Slot(arena 0 + 0)", "Slot(fixed 0 + 5)"]


# ---------------------------------------------------------------- the pool


@pytest.mark.parametrize("threads_now", [1, 2, 5])
@pytest.mark.parametrize("n, chunks, align", [(100, 1, 1), (100, 3, 1), (3, 7, 1), (0, 2, 1), (1000, 4, 16), (5, 4, 8),
                                              (1 << 40, 9, 64)])
def test_chunks_cover_the_range_in_order(threads, threads_now, n, chunks, align):
    threads.set_num_threads(threads_now)
    rows = np.zeros((chunks, 3), np.int64)
    plan = one_kernel("bounds", [at(rows)], n, chunks, align)
    assert runtime().run(plan.address) == OK
    edges = [n * c // chunks // align * align for c in range(chunks)] + [n]
    assert rows[:, 0].tolist() == edges[:-1] and rows[:, 1].tolist() == edges[1:]
    assert (rows[:, 2] == 1).all()


@pytest.mark.parametrize("threads_now", [2, 3, 8])
def test_every_chunk_exactly_once_whatever_the_timing(threads, threads_now):
    threads.set_num_threads(threads_now)
    counts = np.zeros(64, np.float32)
    plans = [one_kernel("count", [at(counts)], n=64, chunks=1 + k) for k in range(9)]
    plans += [one_kernel("count", [at(counts)], n=64, chunks=chunks, steps=40) for chunks in (2, 5, 64)]
    run, total = runtime().run, 0
    while total < 60_000:
        for k, plan in enumerate(plans):
            assert run(plan.address) == OK
            total += 40 if k >= 9 else 1
        if total % 7 == 0:
            time.sleep(0.0002)                          # let the helpers fall asleep now and then
    assert (counts == total).all(), counts


def test_the_number_of_threads_may_change_at_any_time(threads):
    counts = np.zeros(64, np.float32)
    plan = one_kernel("count", [at(counts)], n=64, chunks=8, steps=5)
    for k in range(2000):
        threads.set_num_threads(1 + k % 6)
        assert threads.num_threads == 1 + k % 6
        assert runtime().run(plan.address) == OK
    assert (counts == 10_000).all()
    with pytest.raises(ValueError):
        threads.set_num_threads(0)
    threads.set_num_threads(10_000)
    assert threads.num_threads == 256


@pytest.mark.parametrize("threads_now", [2, 7])
def test_all_threads_come_even_from_sleep(threads, threads_now):
    """Chunks that wait for each other end only if each has a thread of its own."""
    threads.set_num_threads(threads_now)
    counter = np.zeros(1, np.int64)
    plan = one_kernel("gather", [at(counter), threads_now], n=threads_now, chunks=threads_now)
    for pause in (0, 0.001, 0.02, 0.02):
        time.sleep(pause)
        counter[0] = 0
        assert runtime().run(plan.address) == OK and counter[0] == threads_now


def test_the_caller_waits_for_the_other_s_chunk_however_long_it_takes():
    gate, done = np.zeros(2, np.int64), []
    plan = one_kernel("meet", [at(gate), at(gate) + 8], n=2, chunks=2)
    caller = threading.Thread(target=lambda: done.append(runtime().run(plan.address)))
    caller.start()
    while gate[0] < 2:
        time.sleep(0.001)
    time.sleep(0.02)
    assert not done
    gate[1] = 1
    caller.join(10)
    assert done == [OK]


def test_many_callers_at_once(threads):
    threads.set_num_threads(3)
    counts = np.zeros((6, 64), np.float32)
    errors = []

    def caller(row):
        plan = one_kernel("count", [at(row)], n=64, chunks=7, steps=10)
        for _ in range(500):
            if runtime().run(plan.address) != OK:
                errors.append(row)

    callers = [threading.Thread(target=caller, args=(row,)) for row in counts]
    for c in callers:
        c.start()
    for c in callers:
        c.join(60)
    assert not errors and (counts == 5000).all()


def test_a_kernel_inside_the_pool_runs_its_own_jobs_serially():
    counts, out = np.zeros(64, np.float32), np.zeros(4, np.int64)
    inner = [one_kernel("count", [at(counts)], n=64, chunks=4) for _ in range(3)]
    made = PlanBuilder()
    for k, plan in enumerate(inner):
        made.kernel(LIBRARY.address("call"), made.table([runtime().run_plan, plan.address, at(out)]), 1, chunks=1 + k)
    for _ in range(200):
        out[:] = 0
        before = counts.copy()
        assert runtime().run(made.build().address) == OK
        # a step of k chunks calls k times, and a call that finds its plan busy does nothing
        grown = counts - before
        assert (grown == grown[0]).all() and 3 <= grown[0] <= 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_the_pool_is_used():
    counts = np.zeros(64, np.float32)
    shared = one_kernel("count", [at(counts)], n=64, chunks=4, steps=20)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            assert runtime().run(shared.address) == OK

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    mine = np.zeros(64, np.float32)
                    plan = one_kernel("count", [at(mine)], n=64, chunks=4, steps=100)
                    fresh = runtime().pool.started == 0
                    good = runtime().run(plan.address) == OK and (mine == 100).all()
                    # the parent's thread was inside this plan, or not: here it is free
                    status = 0 if fresh and good and runtime().run(shared.address) == OK else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        busy.join(10)
    assert (counts == counts[0]).all() and counts[0] > 0


# ---------------------------------------------------------------- the process around it

PROGRAM = """
import faulthandler, sys, threading, time
faulthandler.enable()
import numpy as np
from autojit.backends.cpu import runner, runtime
assert "llvmlite" not in sys.modules
call = runtime.runtime()
call.pool.set_num_threads(3)
made = runner.PlanBuilder()
x, y, z = made.argument(), made.argument(), made.argument()
made.gemm("f32", 512, 512, 512, x, y, z)
plan = made.build()
assert call.run(runner.PlanBuilder().build().address) == 0
assert call.pool.started == 0
area = [np.ones((512, 512), np.float32) for _ in range(3)]
for _ in range(20):
    assert call.run(plan.address, *area) == 0
assert (area[2] == 512).all() and call.pool.started == 2, call.pool.started
assert "numba" not in sys.modules and "scipy" not in sys.modules
if sys.argv[1] == "watched":
    faulthandler.dump_traceback_later(60)
if sys.argv[1] == "working":
    def forever():
        while True:
            call.run(plan.address, *area)
    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.05)
print("end")
"""


@pytest.mark.parametrize("how", ["parked", "watched", "working"])
def test_the_interpreter_ends_at_once(how):
    """With helpers asleep, under faulthandler's watch, or in the middle of a job of a daemon thread."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert time.monotonic() - start < 30


class DictStore:
    def __init__(self):
        self.data, self.asked = {}, []

    def get(self, kind, key):
        self.asked.append(kind)
        return self.data.get((kind, key))

    def put(self, kind, key, data):
        self.data[kind, key] = data


ADD = "define i64 @f(i64 %a) { %b = add i64 %a, 5  ret i64 %b }"


def test_object_code_comes_from_the_store_unless_damaged(monkeypatch):
    store, compiled = DictStore(), []
    really = native.compile_text
    monkeypatch.setattr(native, "compile_text", lambda *a, **k: compiled.append(1) or really(*a, **k))

    def works():
        f = native.load(ADD, ["f"], store=store).address("f")
        return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(f)(2) == 7

    assert works() and works() and len(compiled) == 1 and len(store.data) == 1
    whole = dict(store.data)
    (key, data), = whole.items()
    for damaged in (b"", data[:40], data[:-1], data[:100] + b"?" + data[101:], b"x" * 500):
        store.data = {key: damaged}
        compiled.clear()
        assert works() and compiled == [1] and store.data == whole
    assert set(store.asked) == {"runtime"}


def test_text_that_needs_outside_symbols_is_refused():
    with pytest.raises(RuntimeError, match="no_such_function"):
        native.load("declare i64 @no_such_function()\n"
                    "define i64 @f() { %a = call i64 @no_such_function()  ret i64 %a }", ["f"])
    with pytest.raises(RuntimeError):
        native.load("define i64 @f( {", ["f"])
    with pytest.raises(KeyError):
        native.substitute("a $missing b", {})


def test_the_runtime_itself_needs_none():
    assert "declare" not in text().replace("declare i64 @llvm.umin.i64", "")
