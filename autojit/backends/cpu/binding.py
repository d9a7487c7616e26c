"""A plan bound to its memory: a builtin without arguments, and a C function without arguments.

In: a plan and the arrays it reads and writes, fixed for good; what to look at after each run, and what to copy then.  Out:
`Binding`.  Never looks at a value in Python: one call runs the steps, compares a few integers, copies results to where the
next run reads them, and gives back one and the same object.

A record is the int64 words (plan, number of checks, number of copies), then of each check (address of the least int64, address
of the greatest, the lowest that is allowed, the end), of each copy (to, from, bytes, 0).  The status of a run is 0, a kernel's
failure (positive), or minus the number of the first check that does not hold, from 1; then nothing is copied.  A second thread
waits until the first is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import native

if TYPE_CHECKING:
    from .runner import NativePlan
    from .runtime import Runtime

API = ("PyTuple_GetItem", "PyObject_CallOneArg", "Py_IncRef", "Py_DecRef", "memmove", "sleep")
_making = threading.Lock()                                # one for all: making an address takes a few ms, once

TEXT = """
; Runs the plan of a record, looks at what it checks, and copies; waits while another thread is inside the plan.
define i64 @run_record(i64 %address) {
  %r = call i64 @run_watched(i64 %address, ptr null)
  ret i64 %r
}

define internal i64 @run_watched(i64 %address, ptr %watch) {
entry:
  %record = inttoptr i64 %address to ptr
  %count_at = getelementptr i64, ptr %record, i64 1
  %copies_at = getelementptr i64, ptr %record, i64 2
  %first = getelementptr i64, ptr %record, i64 3
  %plan = load ptr, ptr %record
  %count = load i64, ptr %count_at
  %copies = load i64, ptr %copies_at
  %all = add i64 %count, %copies
  br label %try
try:
  %turn = phi i64 [ 0, %entry ], [ %turn1, %waited ]
  %mine = call i1 @enter(ptr %plan)
  br i1 %mine, label %go, label %wait
wait:
  %turn1 = add i64 %turn, 1
  %long = icmp ugt i64 %turn, 16384
  br i1 %long, label %nap, label %spin
nap:
  %sleep = load ptr, ptr getelementptr (ptr, ptr @api, i64 $sleep)
  %n = call i32 %sleep(i32 50)
  br label %waited
spin:
  call void @ease(i64 %turn)
  br label %waited
waited:
  br label %try
go:
  %status = call i64 @steps(ptr %plan, ptr %watch)
  %fine = icmp eq i64 %status, $OK
  br i1 %fine, label %look, label %out
look:
  %k = phi i64 [ 0, %go ], [ %k1, %one ]
  %more = icmp ult i64 %k, %count
  br i1 %more, label %one, label %next
one:
  %check = getelementptr [4 x i64], ptr %first, i64 %k
  %greatest_at = getelementptr i64, ptr %check, i64 1
  %lowest_at = getelementptr i64, ptr %check, i64 2
  %end_at = getelementptr i64, ptr %check, i64 3
  %least_in = load ptr, ptr %check
  %greatest_in = load ptr, ptr %greatest_at
  %least = load i64, ptr %least_in
  %greatest = load i64, ptr %greatest_in
  %lowest = load i64, ptr %lowest_at
  %end = load i64, ptr %end_at
  %low = icmp slt i64 %least, %lowest
  %high = icmp sge i64 %greatest, %end
  %bad = or i1 %low, %high
  %k1 = add i64 %k, 1
  %number = sub i64 0, %k1
  br i1 %bad, label %out, label %look
next:
  %j = phi i64 [ %count, %look ], [ %j1, %copy ]
  %left = icmp ult i64 %j, %all
  br i1 %left, label %copy, label %out
copy:
  %what = getelementptr [4 x i64], ptr %first, i64 %j
  %from_at = getelementptr i64, ptr %what, i64 1
  %bytes_at = getelementptr i64, ptr %what, i64 2
  %to = load ptr, ptr %what
  %from = load ptr, ptr %from_at
  %bytes = load i64, ptr %bytes_at
  %move = load ptr, ptr getelementptr (ptr, ptr @api, i64 $memmove)
  %m = call ptr %move(ptr %to, ptr %from, i64 %bytes)
  %j1 = add i64 %j, 1
  br label %next
out:
  %r = phi i64 [ %status, %go ], [ $OK, %next ], [ %number, %one ]
  call void @leave(ptr %plan)
  ret i64 %r
}

; The builtin of a record: self is (address of the record, what it returns, what is called with a status that is not 0, ...).
define ptr @run_self(ptr %self, ptr %none) {
  %watch = alloca %watch
  %item = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyTuple_GetItem)
  %to_address = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyLong_AsSsize_t)
  %save = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_SaveThread)
  %restore = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_RestoreThread)
  %number = call ptr %item(ptr %self, i64 0)
  %address = call i64 %to_address(ptr %number)
  %state = call ptr %save()
  call void @watching(ptr %watch, ptr %state)
  %status = call i64 @run_watched(i64 %address, ptr %watch)
  %after = load ptr, ptr %watch
  call void %restore(ptr %after)
  %fine = icmp eq i64 %status, $OK
  br i1 %fine, label %good, label %look
look:
  %broken = icmp eq i64 %status, $RAISED
  br i1 %broken, label %nothing, label %bad
nothing:                                    ; what the signal's handler raised
  ret ptr null
good:
  %result = call ptr %item(ptr %self, i64 1)
  %keep = load ptr, ptr getelementptr (ptr, ptr @api, i64 $Py_IncRef)
  call void %keep(ptr %result)
  ret ptr %result
bad:
  %call = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyObject_CallOneArg)
  %drop = load ptr, ptr getelementptr (ptr, ptr @api, i64 $Py_DecRef)
  %told = call ptr %item(ptr %self, i64 2)
  %word = call ptr @number(i64 %status)
  %raised = call ptr %call(ptr %told, ptr %word)
  call void %drop(ptr %word)
  ret ptr %raised
}
"""


class Binding:
    """One plan, one set of buffers, one record.

    `run` is the builtin: it lets go of the GIL, runs, and returns `result`; where the status is not 0 it calls `failed` with
    it, which should raise.  It keeps everything alive by itself.  `address` is a C function ``int64_t f(void)`` that gives
    the status; it may be called without the GIL, for as long as the binding lives.
    """

    __slots__ = ("run", "_record", "_runtime", "_engine", "_address")

    def __init__(self, runtime: Runtime, plan: NativePlan, arrays: Sequence[np.ndarray], result: object,
                 failed: Callable[[int], object], checks: Sequence[tuple[np.ndarray, np.ndarray, int, int]] = (),
                 copies: Sequence[tuple[np.ndarray, np.ndarray]] = ()) -> None:
        runtime.bind(plan.address, *[a.ctypes.data for a in arrays])
        words = [plan.address, len(checks), len(copies)]
        for least, greatest, lowest, end in checks:
            words += [least.ctypes.data, greatest.ctypes.data, lowest, end]
        for to, source in copies:
            words += [to.ctypes.data, source.ctypes.data, min(to.nbytes, source.nbytes), 0]
        self._record = np.array(words, np.int64)
        kept = (plan, tuple(arrays), [c[:2] for c in checks], tuple(copies), self._record)
        self.run = runtime.bound((self._record.ctypes.data, result, failed, kept))
        self._runtime = runtime
        self._engine: Any = None
        self._address = 0

    @property
    def address(self) -> int:
        """The C function, made when it is first asked for (a few ms)."""
        with _making:                                     # who has the address keeps it: it is made once
            if not self._address:
                self._make()
            return self._address

    def _make(self) -> None:
        text = (f"define i64 @call() {{\n  %f = inttoptr i64 {self._runtime.run_record} to ptr\n"
                f"  %s = tail call i64 %f(i64 {self._record.ctypes.data})\n  ret i64 %s\n}}\n")
        self._engine, self._address = native.passing(text, "call")
