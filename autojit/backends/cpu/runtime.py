"""The native runtime: the LLVM text that runs a plan, and its loading.

In: the address of a plan (``runner.PlanBuilder`` writes one) and, at each call, the external buffers (NumPy arrays, or
their addresses).  Out: a status; results are where the kernels wrote them.  Never makes a Python
object between the call and its return, never allocates, never checks a shape: the engine did that.

Words of a plan (addresses are absolute):

    header      magic, busy, release, argument count, argument records, first step, end of the steps, products
    argument    address of last call, first relocation, end of its relocations
    relocation  address of a word, byte offset: before the steps run, word = argument's address + offset
    step        operation | words << 8, then its own words; of a loop: count, the words that move by a stride (word, first,
                stride), those that take turns (word, first, odd, even), where the flag is (or 0), words of the steps
                that set it, words of the steps of the end; then these and the steps of its body; of a branch: where the
                flag is, how many words of steps there are for true, these steps, those for false; of a tape: where the
                number of turns is, bytes of a turn, the words that point into it (word, offset, bytes by which it moves for
                each turn but the first), then the steps; of a copy: to, from, bytes

A plan serves one call at a time: ``busy`` holds the process's epoch while a call is inside (the epoch changes at
fork, so a call that was cut off there does not hold the child's copy).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

from ...config import config
from ...errors import CompileError, Refused
from . import binding, blas, libraries, making, native, pool, products, steps
from .steps import INTERRUPTED, NO_MEMORY

MAGIC = 0x6A6974706C616E31
OK, BUSY, FAILED = 0, 1, 2
REFUSED = FAILED + 1                                      # what a kernel ends with that says `refuse()`
HEADER_WORDS, ARGUMENT_WORDS = 8, 3
LEVEL = 0                                                 # of LLVM's passes: the text is written as O2 would leave it

_TEXT = """
%plan = type { i64, i64, i64, i64, ptr, ptr, ptr, i64 }
%argument = type { i64, ptr, ptr }
@api = internal global [$API x ptr] zeroinitializer, align 64

define void @set_api(i64 %i, ptr %function) {
  %at = getelementptr ptr, ptr @api, i64 %i
  store ptr %function, ptr %at
  ret void
}

define internal void @fail(i64 %error, ptr %message) cold noinline {
  %kind_at = getelementptr ptr, ptr @api, i64 %error
  %kind = load ptr, ptr %kind_at
  %set = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyErr_SetString)
  call void %set(ptr %kind, ptr %message)
  ret void
}

define internal i1 @failed() cold noinline {
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyErr_Occurred)
  %e = call ptr %f()
  %any = icmp ne ptr %e, null
  ret i1 %any
}

$STRINGS

; The busy word: a call enters where it is not this process's epoch.
define internal i1 @enter(ptr %plan) alwaysinline {
  %busy_at = getelementptr %plan, ptr %plan, i64 0, i32 1
  %now = load i64, ptr @epoch
  %old = load atomic i64, ptr %busy_at monotonic, align 8
  %inside = icmp eq i64 %old, %now
  br i1 %inside, label %no, label %try
try:
  %pair = cmpxchg ptr %busy_at, i64 %old, i64 %now seq_cst monotonic
  %won = extractvalue { i64, i1 } %pair, 1
  ret i1 %won
no:
  ret i1 false
}

define internal void @leave(ptr %plan) alwaysinline {
  %busy_at = getelementptr %plan, ptr %plan, i64 0, i32 1
  store atomic i64 0, ptr %busy_at release, align 8
  ret void
}

; Python arguments into addresses; false with a Python error set.
define internal i1 @accept(ptr %plan, ptr %args, i64 %given) {
entry:
  %count_at = getelementptr %plan, ptr %plan, i64 0, i32 3
  %first_at = getelementptr %plan, ptr %plan, i64 0, i32 4
  %count = load i64, ptr %count_at
  %first = load ptr, ptr %first_at
  %to_address = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyLong_AsSsize_t)
  %array = load ptr, ptr getelementptr (ptr, ptr @api, i64 $ndarray)
  %same = icmp eq i64 %count, %given
  br i1 %same, label %loop, label %wrong
wrong:
  call void @fail(i64 $TypeError, ptr @many)
  ret i1 false
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %good
one:
  %object_at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %object_at
  %last_at = getelementptr %argument, ptr %first, i64 %i, i32 0
  %type_at = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %type_at
  %is_array = icmp eq ptr %type, %array
  br i1 %is_array, label %from_array, label %from_int
from_array:
  %data_at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data_at
  br label %compare
from_int:
  %number = call i64 %to_address(ptr %object)
  %suspect = icmp eq i64 %number, -1
  br i1 %suspect, label %check1, label %compare
check1:
  %e1 = call i1 @failed()
  br i1 %e1, label %bad, label %compare
compare:
  %value = phi i64 [ %data, %from_array ], [ %number, %from_int ], [ %number, %check1 ]
  %old = load i64, ptr %last_at
  %known = icmp eq i64 %value, %old
  br i1 %known, label %next, label %relocate
relocate:
  store i64 %value, ptr %last_at
  %from_at = getelementptr %argument, ptr %first, i64 %i, i32 1
  %to_at = getelementptr %argument, ptr %first, i64 %i, i32 2
  %from = load ptr, ptr %from_at
  %to = load ptr, ptr %to_at
  br label %words
words:
  %r = phi ptr [ %from, %relocate ], [ %r1, %word ]
  %left = icmp ult ptr %r, %to
  br i1 %left, label %word, label %next
word:
  %target = load ptr, ptr %r
  %offset_at = getelementptr i64, ptr %r, i64 1
  %offset = load i64, ptr %offset_at
  %moved = add i64 %value, %offset
  store i64 %moved, ptr %target
  %r1 = getelementptr i64, ptr %r, i64 2
  br label %words
next:
  %i1 = add i64 %i, 1
  br label %loop
good:
  ret i1 true
bad:
  ret i1 false
}

; `watch`: null where nobody may ask the interpreter.
define internal i64 @steps(ptr %plan, ptr %watch) {
  %first_at = getelementptr %plan, ptr %plan, i64 0, i32 5
  %last_at = getelementptr %plan, ptr %plan, i64 0, i32 6
  %products_at = getelementptr %plan, ptr %plan, i64 0, i32 7
  %first = load ptr, ptr %first_at
  %last = load ptr, ptr %last_at
  %products = load i64, ptr %products_at
  %has = icmp ne i64 %products, 0
  br i1 %has, label %come, label %plain
come:
  call void @products_enter()
  %s1 = call i32 @sequence(ptr %first, ptr %last, ptr %watch)
  call void @products_leave()
  br label %out
plain:
  %s2 = call i32 @sequence(ptr %first, ptr %last, ptr %watch)
  br label %out
out:
  %s = phi i32 [ %s1, %come ], [ %s2, %plain ]
  %fine = icmp eq i32 %s, 0
  %code = zext i32 %s to i64
  %failed = add i64 %code, $FAILED
  %status = select i1 %fine, i64 $OK, i64 %failed
  ret i64 %status
}

define i64 @run_plan(i64 %address) {
  %plan = inttoptr i64 %address to ptr
  %mine = call i1 @enter(ptr %plan)
  br i1 %mine, label %go, label %no
go:
  %status = call i64 @steps(ptr %plan, ptr null)
  call void @leave(ptr %plan)
  ret i64 %status
no:
  ret i64 $BUSY
}

; The steps, without the GIL where the plan asks for that; the plan is entered.
define internal ptr @finish(ptr %plan) {
  %watch = alloca %watch
  %release_at = getelementptr %plan, ptr %plan, i64 0, i32 2
  %release = load i64, ptr %release_at
  %free = icmp ne i64 %release, 0
  br i1 %free, label %let_go, label %hold
let_go:
  %save = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_SaveThread)
  %restore = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_RestoreThread)
  %state = call ptr %save()
  call void @watching(ptr %watch, ptr %state)
  %s1 = call i64 @steps(ptr %plan, ptr %watch)
  call void @leave(ptr %plan)
  %after = load ptr, ptr %watch
  call void %restore(ptr %after)
  br label %out
hold:
  call void @watching(ptr %watch, ptr inttoptr (i64 1 to ptr))
  %s2 = call i64 @steps(ptr %plan, ptr %watch)
  call void @leave(ptr %plan)
  br label %out
out:
  %status = phi i64 [ %s1, %let_go ], [ %s2, %hold ]
  %raised = icmp eq i64 %status, $RAISED
  br i1 %raised, label %bad, label %good
bad:                                        ; what the signal's handler raised
  ret ptr null
good:
  %r = call ptr @number(i64 %status)
  ret ptr %r
}

define internal ptr @number(i64 %value) alwaysinline {
  %make = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyLong_FromLongLong)
  %r = call ptr %make(i64 %value)
  ret ptr %r
}

; The plan of a call's first argument; null with a Python error set.
define internal ptr @plan_of(ptr %args, i64 %count) alwaysinline {
  %none = icmp slt i64 %count, 1
  br i1 %none, label %empty, label %read
empty:
  call void @fail(i64 $TypeError, ptr @few)
  ret ptr null
read:
  %object = load ptr, ptr %args
  %to_address = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyLong_AsSsize_t)
  %address = call i64 %to_address(ptr %object)
  %low = icmp slt i64 %address, 4096
  br i1 %low, label %wrong, label %look
wrong:
  %e = call i1 @failed()
  br i1 %e, label %nothing, label %alien
look:
  %plan = inttoptr i64 %address to ptr
  %magic = load i64, ptr %plan
  %fits = icmp eq i64 %magic, $MAGIC
  br i1 %fits, label %good, label %alien
good:
  ret ptr %plan
alien:
  call void @fail(i64 $ValueError, ptr @alien_text)
  br label %nothing
nothing:
  ret ptr null
}

define ptr @run(ptr %self, ptr %args, i64 %count) {
  %plan = call ptr @plan_of(ptr %args, i64 %count)
  %none = icmp eq ptr %plan, null
  br i1 %none, label %bad, label %look
look:
  %mine = call i1 @enter(ptr %plan)
  br i1 %mine, label %read, label %busy
busy:
  %b = call ptr @number(i64 $BUSY)
  ret ptr %b
read:
  %rest = getelementptr ptr, ptr %args, i64 1
  %given = sub i64 %count, 1
  %good = call i1 @accept(ptr %plan, ptr %rest, i64 %given)
  br i1 %good, label %go, label %unlock
go:
  %r = tail call ptr @finish(ptr %plan)
  ret ptr %r
unlock:
  call void @leave(ptr %plan)
  br label %bad
bad:
  ret ptr null
}

define ptr @bind(ptr %self, ptr %args, i64 %count) {
  %plan = call ptr @plan_of(ptr %args, i64 %count)
  %none = icmp eq ptr %plan, null
  br i1 %none, label %bad, label %look
look:
  %mine = call i1 @enter(ptr %plan)
  br i1 %mine, label %read, label %busy
busy:
  %b = call ptr @number(i64 $BUSY)
  ret ptr %b
read:
  %rest = getelementptr ptr, ptr %args, i64 1
  %given = sub i64 %count, 1
  %good = call i1 @accept(ptr %plan, ptr %rest, i64 %given)
  call void @leave(ptr %plan)
  br i1 %good, label %done, label %bad
done:
  %r = call ptr @number(i64 $OK)
  ret ptr %r
bad:
  ret ptr null
}

define ptr @run_bound(ptr %self, ptr %args, i64 %count) {
  %plan = call ptr @plan_of(ptr %args, i64 %count)
  %none = icmp eq ptr %plan, null
  br i1 %none, label %bad, label %alone
alone:
  %single = icmp eq i64 %count, 1
  br i1 %single, label %look, label %wrong
wrong:
  call void @fail(i64 $TypeError, ptr @bound_text)
  br label %bad
look:
  %mine = call i1 @enter(ptr %plan)
  br i1 %mine, label %go, label %busy
busy:
  %b = call ptr @number(i64 $BUSY)
  ret ptr %b
go:
  %r = tail call ptr @finish(ptr %plan)
  ret ptr %r
bad:
  ret ptr null
}
"""

_API = (*pool.API, *products.API, *binding.API, *making.API, "PyErr_SetString", "PyErr_Occurred", "PyLong_AsSsize_t",
        "PyLong_FromLongLong", *steps.API,
        "PyEval_SaveThread", "PyEval_RestoreThread", "TypeError", "ValueError", "ndarray")
_STRINGS = {"few": "a plan's address comes first, then its arguments",
            "many": "not the number of arguments that this plan takes",
            "alien_text": "not the address of a plan",
            "two_text": "two arguments are wanted",
            "bound_text": "run_bound takes the address of a plan and nothing else"}


def text() -> str:
    """The whole runtime as one LLVM module: runner, pool and products."""
    values: dict[str, Any] = {name: i for i, name in enumerate(_API)}
    values |= {"API": len(_API), "MAGIC": MAGIC, "OK": OK, "BUSY": BUSY, "FAILED": FAILED, **steps.WORDS,
               "RAISED": FAILED + INTERRUPTED,
               "ARGUMENT": making.ARGUMENT, "OBJECT": making.OBJECT, "MOST": making.MOST,
               "PAUSE": pool.pause(), "MAX_THREADS": pool.MAX_THREADS,
               "STRINGS": "\n".join(f'@{name} = internal constant [{len(line) + 1} x i8] c"{line}\\00"'
                                    for name, line in _STRINGS.items())}
    values["CLOCK"] = native.substitute(steps.CLOCKS["nt" if os.name == "nt" else "posix"], values)
    texts = (steps.TEXT, _TEXT, binding.TEXT, making.TEXT, pool.TEXT)
    return "".join([native.substitute(t, values) for t in texts]) + products.text(values)


class Runtime:
    """The loaded runtime: three builtins, the thread pool, and the BLAS that products use.

    ``run(plan, *arguments) -> status``, ``bind(plan, *arguments)`` and ``run_bound(plan) -> status`` take the
    address of a plan; the status is ``OK``, ``BUSY`` (another thread is inside this very plan) or ``FAILED`` plus
    the kernel's own.  ``run_plan`` is the address of the C function ``i64 run_plan(i64 plan)``, which does what
    ``run_bound`` does and may be called without the GIL.  ``run_record`` is that of ``i64 run_record(i64 record)`` and
    ``bound(self)`` makes a builtin that runs one: see `binding`.  ``making(record, kept)`` is for `making`.
    """

    __slots__ = ("run", "bind", "run_bound", "bound", "run_plan", "run_record", "pool", "blas", "_make")

    def __init__(self, store: native.Store | None = None) -> None:
        names = ("run", "bind", "run_bound", "run_plan", "run_record", "run_self", "make", "set_api", *pool.NAMES)
        library = native.load(text(), names, store=store, level=LEVEL)
        self.blas = libraries.find()
        blas.keep(store)
        put = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library.address("set_api"))
        for i, name in enumerate(_API):
            put(i, self._c_function(name, library))
        self.run = native.builtin(library.address("run"), "run", "Run a plan on these arguments.")
        self.bind = native.builtin(library.address("bind"), "bind", "Give a plan its arguments.")
        self.run_bound = native.builtin(library.address("run_bound"), "run_bound",
                                        "Run a plan on the arguments it has.")
        self.bound = native.method(library.address("run_self"), "run", "Run what is bound; returns the value.")
        self.run_plan, self.run_record = library.address("run_plan"), library.address("run_record")
        self._make = library.address("make")
        self.pool = pool.Pool(library.address, config.num_threads)

    def making(self, record: Any, kept: Any) -> Any:
        """The builtin of a record of objects to make; both live for good."""
        return native.builtin(self._make, "make", "Make objects after a model.", int(record.ctypes.data), (record, kept))

    def _c_function(self, name: str, library: native.Library) -> int | None:
        if name == "yield":
            found = pool.yielding()
            return library.address("pool_started") if found is None else _address(found)
        if name == "clock":
            return _address(ctypes.CDLL("kernel32").GetTickCount64 if os.name == "nt" else ctypes.CDLL(None).gettimeofday)
        if name == "sleep":                              # where there is none, waiting threads only yield
            found = getattr(ctypes.CDLL(None), "usleep", None) if sys.platform != "win32" else None
            return self._c_function("yield", library) if found is None else _address(found)
        if name == "ndarray":
            return _array_type()
        if name == "object_new":
            return making.object_new()
        if name == "no_arguments":
            return id(())
        if name in ("TypeError", "ValueError"):
            return id(TypeError if name == "TypeError" else ValueError)
        if name.startswith("blas_"):
            return getattr(self.blas, name[5:], 0) or None
        return _address(getattr(ctypes if name == "memmove" else ctypes.pythonapi, name))


def failure(status: int) -> Exception:
    """What a status other than OK means to whoever called."""
    if status == REFUSED:
        return Refused("a kernel leaves these values to NumPy")
    if status == FAILED + NO_MEMORY:
        return MemoryError("a while_loop has more turns than there is memory for what its reverse pass reads of each")
    return CompileError(f"a kernel ended with status {status}")


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _array_type() -> int | None:
    """ndarray's type object, if an array's address stands where CPython and NumPy put it: after two words of header.

    Reading it there costs a nanosecond; ``array.ctypes.data`` costs a thousand.  None: arrays are refused, ints go.
    """
    import numpy as np

    probe = np.zeros(3)
    words = (ctypes.c_int64 * 3).from_address(id(probe))
    return id(np.ndarray) if (words[1], words[2]) == (id(np.ndarray), probe.ctypes.data) else None


_made: list[Runtime] = []
_making = threading.Lock()


def runtime(store: native.Store | None = None) -> Runtime:
    """The process's runtime, loaded at the first call (from ``store`` if it has the object code)."""
    if not _made:
        with _making:
            if not _made:
                _made.append(Runtime(store))
    return _made[0]
