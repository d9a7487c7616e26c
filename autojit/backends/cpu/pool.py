"""The thread pool: a parallel-for in LLVM text that never waits for a thread without a CPU.

In: a kernel's address, its arguments, an extent and a number of chunks (from native code only).  Out: every chunk
run exactly once, and the first nonzero status.  Threads start at the first parallel job and are never stopped:
they sleep in native code without a Python thread state, so the interpreter ends without them.

How a job works.  The caller takes the pool's lock by one try (who does not get it, a kernel inside the pool
included, runs the chunks itself), fills in the job, then stores the number of chunks in ``left``.  Anybody, the
caller too, takes a chunk by an atomic subtraction from ``left``; a positive result is a claim on the job *of this
moment*, which cannot end before that chunk is done, so a thread that was delayed between two jobs can neither lose
nor double a chunk.  The caller waits only for chunks that somebody has begun, first spinning, then asleep.
Sleepers are woken as a binary tree: the caller wakes threads 1 and 2, thread i wakes 2i+1 and 2i+2.  Sleeping is
CPython's own thread lock, the same on every platform; a flag exchanged atomically pairs each sleep with one release.

Measured on 2 cores: a job of two empty chunks costs its caller 20-80 ns while the helper still watches (50 us after
its last job) and 8 us when it sleeps, which then comes about 50 us later; with both cores wanted by other processes
2 us on average.  So work below 50 us is worth sharing only in the wake of other shared work.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable
from typing import Any

MAX_THREADS = 256
# Waking a sleeper takes about 50 us, so spinning as long as that costs at most twice the best choice.
_SPIN_SECONDS = 50e-6

# C functions the text calls, in the order of the table @api; addresses only, so the object code names no symbol.
API = ("PyThread_allocate_lock", "PyThread_acquire_lock", "PyThread_release_lock", "PyThread_start_new_thread",
       "yield")

# Every group of words that different threads write has lines of its own (128: CPUs fetch lines in pairs).
TEXT = """
@threads = internal global i64 1, align 128
@started = internal global i64 0, align 128
@spin = internal global i64 1000, align 128
@epoch = internal global i64 1, align 128
@busy = internal global [16 x i64] zeroinitializer, align 128
@left = internal global [16 x i64] zeroinitializer, align 128
@done = internal global [16 x i64] zeroinitializer, align 128
@waiting = internal global [16 x i64] zeroinitializer, align 128
@caller_lock = internal global ptr null, align 128
%job = type { ptr, ptr, i64, i64, i64, i64, i32 }     ; kernel, args, n, chunks, mask, wanted threads, status
@job = internal global %job zeroinitializer, align 128
%worker = type { i64, ptr, i64, [13 x i64] }          ; asleep, lock, number
@workers = internal global [$MAX_THREADS x %worker] zeroinitializer, align 128

define internal void @wake(i64 %number) noinline {
  %wanted = load atomic i64, ptr getelementptr (%job, ptr @job, i64 0, i32 5) monotonic, align 8
  %in = icmp ule i64 %number, %wanted
  br i1 %in, label %look, label %out
look:
  %w = getelementptr [$MAX_THREADS x %worker], ptr @workers, i64 0, i64 %number
  %asleep = load atomic i64, ptr %w seq_cst, align 8
  %sleeps = icmp eq i64 %asleep, 1
  br i1 %sleeps, label %claim, label %out
claim:
  %old = atomicrmw xchg ptr %w, i64 0 seq_cst
  %mine = icmp eq i64 %old, 1
  br i1 %mine, label %release, label %out
release:
  %at = getelementptr %worker, ptr %w, i64 0, i32 1
  %lock = load ptr, ptr %at
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_release_lock)
  call void %f(ptr %lock)
  br label %out
out:
  ret void
}

define internal void @take() {
entry:
  %ret = alloca [2 x ptr]
  %exc = getelementptr ptr, ptr %ret, i64 1
  br label %next
next:
  %seen = load atomic i64, ptr @left seq_cst, align 8
  %any = icmp sgt i64 %seen, 0
  br i1 %any, label %claim, label %out
claim:
  %old = atomicrmw sub ptr @left, i64 1 seq_cst
  %got = icmp sgt i64 %old, 0
  br i1 %got, label %run, label %out
run:
  %kernel = load ptr, ptr @job
  %args = load ptr, ptr getelementptr (%job, ptr @job, i64 0, i32 1)
  %n = load i64, ptr getelementptr (%job, ptr @job, i64 0, i32 2)
  %chunks = load i64, ptr getelementptr (%job, ptr @job, i64 0, i32 3)
  %mask = load i64, ptr getelementptr (%job, ptr @job, i64 0, i32 4)
  %status = load atomic i32, ptr getelementptr (%job, ptr @job, i64 0, i32 6) monotonic, align 4
  %chunk = sub i64 %chunks, %old
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %call, label %count
call:
  %s = call i32 @chunk(ptr %kernel, ptr %ret, ptr %exc, ptr %args, i64 %n, i64 %chunk, i64 %chunks, i64 %mask)
  %bad = icmp ne i32 %s, 0
  br i1 %bad, label %report, label %count
report:
  %x = cmpxchg ptr getelementptr (%job, ptr @job, i64 0, i32 6), i32 0, i32 %s seq_cst seq_cst
  br label %count
count:
  %before = atomicrmw add ptr @done, i64 1 seq_cst
  %now = add i64 %before, 1
  %last = icmp eq i64 %now, %chunks
  br i1 %last, label %notify, label %next
notify:
  %waits = load atomic i64, ptr @waiting seq_cst, align 8
  %sleeps = icmp eq i64 %waits, 1
  br i1 %sleeps, label %unwait, label %out
unwait:
  %was = atomicrmw xchg ptr @waiting, i64 0 seq_cst
  %mine = icmp eq i64 %was, 1
  br i1 %mine, label %release, label %out
release:
  %lock = load ptr, ptr @caller_lock
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_release_lock)
  call void %f(ptr %lock)
  br label %out
out:
  ret void
}

define internal i32 @chunk(ptr %kernel, ptr %ret, ptr %exc, ptr %args, i64 %n, i64 %chunk, i64 %chunks,
                           i64 %mask) alwaysinline {
  %after = add i64 %chunk, 1
  %a = mul i64 %n, %chunk
  %b = mul i64 %n, %after
  %c = udiv i64 %a, %chunks
  %d = udiv i64 %b, %chunks
  %lo = and i64 %c, %mask
  %rounded = and i64 %d, %mask
  %last = icmp eq i64 %after, %chunks
  %hi = select i1 %last, i64 %n, i64 %rounded
  %s = call i32 %kernel(ptr %ret, ptr %exc, ptr %args, i64 %lo, i64 %hi, i64 %chunk)
  ret i32 %s
}

define internal void @work(ptr %me) {
entry:
  %number_at = getelementptr %worker, ptr %me, i64 0, i32 2
  %lock_at = getelementptr %worker, ptr %me, i64 0, i32 1
  %number = load i64, ptr %number_at
  %lock = load ptr, ptr %lock_at
  %first = mul i64 %number, 2
  %child1 = add i64 %first, 1
  %child2 = add i64 %first, 2
  br label %idle
idle:
  %limit = load atomic i64, ptr @threads monotonic, align 8
  %spins = load atomic i64, ptr @spin monotonic, align 8
  %wanted = icmp ult i64 %number, %limit
  br i1 %wanted, label %watch, label %park
watch:
  %i = phi i64 [ 0, %idle ], [ %i1, %pause ]
  %l1 = load atomic i64, ptr @left monotonic, align 8
  %job1 = icmp sgt i64 %l1, 0
  br i1 %job1, label %busy, label %wait
wait:
  %over = icmp uge i64 %i, %spins
  br i1 %over, label %park, label %pause
pause:
  call void @ease(i64 %i)
  %i1 = add i64 %i, 1
  br label %watch
park:
  store atomic i64 1, ptr %me seq_cst, align 8
  %l2 = load atomic i64, ptr @left seq_cst, align 8
  %job2 = icmp sgt i64 %l2, 0
  %up = and i1 %job2, %wanted
  br i1 %up, label %unpark, label %sleep
unpark:                                     ; 0: somebody is about to release the lock, which must be taken
  %was = atomicrmw xchg ptr %me, i64 0 seq_cst
  %mine = icmp eq i64 %was, 1
  br i1 %mine, label %busy, label %sleep
sleep:
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_acquire_lock)
  %r = call i32 %f(ptr %lock, i32 1)
  br label %idle
busy:
  call void @wake(i64 %child1)
  call void @wake(i64 %child2)
  call void @take()
  br label %idle
}

; One turn of a spinning loop.  Every 10 us or so it offers the CPU: a thread that was woken on the CPU of the very
; thread it waits for would otherwise keep it from running for all of its spinning time.  Not more often, or on a
; busy machine the thread stays in line for the CPU when it should be asleep, and comes later than one just woken.
define internal void @ease(i64 %turn) alwaysinline {
  call void asm sideeffect "$PAUSE", ""()
  %low = and i64 %turn, 511
  %now = icmp eq i64 %low, 511
  br i1 %now, label %offer, label %out
offer:
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $yield)
  %r = call i32 %f()
  br label %out
out:
  ret void
}

define internal ptr @closed_lock() {
  %new = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_allocate_lock)
  %acquire = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_acquire_lock)
  %lock = call ptr %new()
  %none = icmp eq ptr %lock, null
  br i1 %none, label %out, label %close
close:
  %r = call i32 %acquire(ptr %lock, i32 1)
  br label %out
out:
  ret ptr %lock
}

define internal void @start() noinline {    ; under the pool's lock; gives up where the system has no more threads
entry:
  %old = load ptr, ptr @caller_lock
  %first = icmp eq ptr %old, null
  br i1 %first, label %make, label %next
make:
  %mine = call ptr @closed_lock()
  %none = icmp eq ptr %mine, null
  store ptr %mine, ptr @caller_lock
  br i1 %none, label %stuck, label %next
next:
  %have = load i64, ptr @started
  %limit = load atomic i64, ptr @threads monotonic, align 8
  %number = add i64 %have, 1
  %more = icmp ult i64 %number, %limit
  br i1 %more, label %one, label %out
one:
  %w = getelementptr [$MAX_THREADS x %worker], ptr @workers, i64 0, i64 %number
  %lock_at = getelementptr %worker, ptr %w, i64 0, i32 1
  %number_at = getelementptr %worker, ptr %w, i64 0, i32 2
  %lock = call ptr @closed_lock()
  store i64 0, ptr %w
  store ptr %lock, ptr %lock_at
  store i64 %number, ptr %number_at
  %no_lock = icmp eq ptr %lock, null
  br i1 %no_lock, label %stuck, label %launch
launch:
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_start_new_thread)
  %id = call i64 %f(ptr @work, ptr %w)
  %short = trunc i64 %id to i32                         ; -1 of a C long, which may have 32 bits
  %failed = icmp eq i32 %short, -1
  br i1 %failed, label %stuck, label %count
count:
  store i64 %number, ptr @started
  br label %next
stuck:
  %all = load i64, ptr @started
  %now = add i64 %all, 1
  store atomic i64 %now, ptr @threads monotonic, align 8
  br label %out
out:
  ret void
}

define internal i32 @serial(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %mask) {
entry:
  %ret = alloca [2 x ptr]
  %exc = getelementptr ptr, ptr %ret, i64 1
  br label %loop
loop:
  %c = phi i64 [ 0, %entry ], [ %c1, %step ]
  %more = icmp ult i64 %c, %chunks
  br i1 %more, label %run, label %out
run:
  %s = call i32 @chunk(ptr %kernel, ptr %ret, ptr %exc, ptr %args, i64 %n, i64 %c, i64 %chunks, i64 %mask)
  %bad = icmp ne i32 %s, 0
  br i1 %bad, label %out, label %step
step:
  %c1 = add i64 %c, 1
  br label %loop
out:
  %status = phi i32 [ 0, %loop ], [ %s, %run ]
  ret i32 %status
}

define internal i32 @parallel(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %mask) noinline {
entry:
  %limit = load atomic i64, ptr @threads monotonic, align 8
  %many = icmp ugt i64 %limit, 1
  br i1 %many, label %try, label %alone
try:
  %pair = cmpxchg ptr @busy, i64 0, i64 1 seq_cst seq_cst
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %mine, label %alone
mine:
  %have0 = load i64, ptr @started
  %short = add i64 %have0, 1
  %missing = icmp ult i64 %short, %limit
  br i1 %missing, label %grow, label %ready
grow:
  call void @start()
  br label %ready
ready:
  %have = load i64, ptr @started
  %others = sub i64 %limit, 1
  %spare = sub i64 %chunks, 1
  %w1 = call i64 @llvm.umin.i64(i64 %have, i64 %others)
  %wanted = call i64 @llvm.umin.i64(i64 %w1, i64 %spare)
  %nobody = icmp eq i64 %wanted, 0
  br i1 %nobody, label %give_up, label %publish
give_up:
  store atomic i64 0, ptr @busy release, align 8
  br label %alone
publish:
  store ptr %kernel, ptr @job
  store ptr %args, ptr getelementptr (%job, ptr @job, i64 0, i32 1)
  store i64 %n, ptr getelementptr (%job, ptr @job, i64 0, i32 2)
  store i64 %chunks, ptr getelementptr (%job, ptr @job, i64 0, i32 3)
  store i64 %mask, ptr getelementptr (%job, ptr @job, i64 0, i32 4)
  store atomic i64 %wanted, ptr getelementptr (%job, ptr @job, i64 0, i32 5) monotonic, align 8
  store atomic i32 0, ptr getelementptr (%job, ptr @job, i64 0, i32 6) monotonic, align 4
  store atomic i64 0, ptr @done monotonic, align 8
  store atomic i64 %chunks, ptr @left seq_cst, align 8
  call void @wake(i64 1)
  call void @wake(i64 2)
  call void @take()
  %spins = load atomic i64, ptr @spin monotonic, align 8
  br label %watch
watch:
  %i = phi i64 [ 0, %publish ], [ %i1, %pause ], [ 0, %sleep ]
  %d1 = load atomic i64, ptr @done seq_cst, align 8
  %all1 = icmp eq i64 %d1, %chunks
  br i1 %all1, label %finished, label %wait
wait:
  %over = icmp uge i64 %i, %spins
  br i1 %over, label %park, label %pause
pause:
  call void @ease(i64 %i)
  %i1 = add i64 %i, 1
  br label %watch
park:
  store atomic i64 1, ptr @waiting seq_cst, align 8
  %d2 = load atomic i64, ptr @done seq_cst, align 8
  %all2 = icmp eq i64 %d2, %chunks
  br i1 %all2, label %unpark, label %sleep
unpark:
  %was = atomicrmw xchg ptr @waiting, i64 0 seq_cst
  %own = icmp eq i64 %was, 1
  br i1 %own, label %finished, label %sleep
sleep:
  %lock = load ptr, ptr @caller_lock
  %acquire = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyThread_acquire_lock)
  %r = call i32 %acquire(ptr %lock, i32 1)
  br label %watch
finished:
  %status = load atomic i32, ptr getelementptr (%job, ptr @job, i64 0, i32 6) monotonic, align 4
  store atomic i64 0, ptr @busy release, align 8
  ret i32 %status
alone:
  %s = call i32 @serial(ptr %kernel, ptr %args, i64 %n, i64 %chunks, i64 %mask)
  ret i32 %s
}

define i64 @pool_threads(i64 %n) {          ; 0 only asks
  %ask = icmp eq i64 %n, 0
  br i1 %ask, label %out, label %set
set:
  store atomic i64 %n, ptr @threads seq_cst, align 8
  br label %out
out:
  %now = load atomic i64, ptr @threads seq_cst, align 8
  ret i64 %now
}

define i64 @pool_started() {
  %now = load atomic i64, ptr @started seq_cst, align 8
  ret i64 %now
}

define i64 @pool_spin(i64 %n) {             ; spins n times with the old setting untouched, then sets it
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  call void asm sideeffect "$PAUSE", ""()
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %n
  br i1 %more, label %loop, label %out
out:
  store atomic i64 %n, ptr @spin seq_cst, align 8
  ret i64 %n
}

define void @pool_forked() {                ; in a child: its only thread is this one, whatever the memory says
  %e = load i64, ptr @epoch
  %e1 = add i64 %e, 1
  store i64 %e1, ptr @epoch                 ; plans that another thread was running are free again
  store i64 0, ptr @started
  store ptr null, ptr @caller_lock
  store atomic i64 0, ptr @left seq_cst, align 8
  store atomic i64 0, ptr @waiting seq_cst, align 8
  store atomic i64 0, ptr @busy seq_cst, align 8
  call void @products_forked()
  ret void
}

declare i64 @llvm.umin.i64(i64, i64)
"""

NAMES = ("pool_threads", "pool_started", "pool_spin", "pool_forked", "before_fork", "after_fork")


def pause() -> str:
    """The instruction that eases a spinning loop on this machine."""
    return "pause" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "yield"


def yielding() -> Any:
    """The C function that offers the CPU to another thread, or None where there is none."""
    if os.name == "nt":
        return ctypes.CDLL("kernel32").SwitchToThread
    return getattr(ctypes.CDLL(None), "sched_yield", None)


class Pool:
    """The Python side: how many threads, and what fork needs.

    ``address`` gives the address of each function of ``NAMES``.
    """

    __slots__ = ("_ask", "_started")

    def __init__(self, address: Callable[[str], int], threads: int) -> None:
        number = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
        self._ask = number(address("pool_threads"))
        self._started = ctypes.CFUNCTYPE(ctypes.c_int64)(address("pool_started"))
        _calibrate(number(address("pool_spin")))
        self.set_num_threads(threads)
        hook: Any = ctypes.PYFUNCTYPE(None)         # keeps the GIL: no plan that holds it runs meanwhile
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=hook(address("before_fork")), after_in_parent=hook(address("after_fork")),
                                after_in_child=hook(address("pool_forked")))

    @property
    def num_threads(self) -> int:
        """Threads that share a parallel job, the caller among them."""
        return int(self._ask(0))

    @property
    def started(self) -> int:
        """Threads that exist beside the callers: none before the first parallel job."""
        return int(self._started())

    def set_num_threads(self, n: int) -> None:
        """Use ``n`` threads from the next job on (at most 256); ValueError below 1."""
        if n < 1:
            raise ValueError(f"a pool needs at least one thread, not {n}")
        self._ask(min(int(n), MAX_THREADS))


def _calibrate(spin: Callable[[int], int]) -> None:
    """Turn the spinning time into a count: one pause takes 10 to 50 ns, depending on the CPU."""
    count, best = 500, float("inf")
    for _ in range(3):
        start = time.perf_counter()
        spin(count)
        best = min(best, time.perf_counter() - start)
    spin(max(50, min(int(count * _SPIN_SECONDS / max(best, 1e-7)), 100_000)))
