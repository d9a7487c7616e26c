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

A tape is memory for what each turn leaves, asked for when the number of turns is known, and given back after its steps.
While loops turn the interpreter is asked now and then (some 50 ms) whether a signal has come, as Python does between
instructions: the GIL is taken for that, and where the answer is an exception (Ctrl-C) the plan ends with INTERRUPTED.

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
from . import binding, blas, libraries, making, native, pool, products

MAGIC = 0x6A6974706C616E31
OK, BUSY, FAILED = 0, 1, 2
REFUSED = FAILED + 1                                      # what a kernel ends with that says `refuse()`
NO_MEMORY, INTERRUPTED = 1 << 24, 1 << 24 | 1              # statuses that no kernel ends with
KERNEL, GEMM, LOOP, BRANCH, TAPE, COPY = 1, 2, 3, 4, 5, 6
LOOP_WORDS = 10                                           # of a loop step, before the steps of its body
HEADER_WORDS, ARGUMENT_WORDS = 8, 3
LEVEL = 0                                                 # of LLVM's passes: the text is written as O2 would leave it

_TEXT = """
%plan = type { i64, i64, i64, i64, ptr, ptr, ptr, i64 }
%argument = type { i64, ptr, ptr }
%watch = type { ptr, i64, i64, i64 }        ; thread state (or 1: the GIL is held), turns until a look, between looks, last time
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

; Steps one after the other; a kernel's status if it is not 0.
define internal i32 @sequence(ptr %first, ptr %last, ptr %watch) {
entry:
  %ret = alloca [2 x ptr]
  %exc = getelementptr ptr, ptr %ret, i64 1
  br label %loop
loop:
  %step = phi ptr [ %first, %entry ], [ %after, %next ]
  %more = icmp ult ptr %step, %last
  br i1 %more, label %one, label %out
one:
  %head = load i64, ptr %step
  %op = and i64 %head, 255
  %words = lshr i64 %head, 8
  %after = getelementptr i64, ptr %step, i64 %words
  switch i64 %op, label %next [ i64 $KERNEL, label %kernel  i64 $GEMM, label %gemm  i64 $LOOP, label %turns
                                i64 $BRANCH, label %choice  i64 $TAPE, label %tape  i64 $COPY, label %copy ]
kernel:
  %f_at = getelementptr i64, ptr %step, i64 1
  %args_at = getelementptr i64, ptr %step, i64 2
  %n_at = getelementptr i64, ptr %step, i64 3
  %chunks_at = getelementptr i64, ptr %step, i64 4
  %mask_at = getelementptr i64, ptr %step, i64 5
  %f = load ptr, ptr %f_at
  %args = load ptr, ptr %args_at
  %n = load i64, ptr %n_at
  %chunks = load i64, ptr %chunks_at
  %many = icmp ugt i64 %chunks, 1
  br i1 %many, label %split, label %whole
split:
  %mask = load i64, ptr %mask_at
  %s1 = call i32 @parallel(ptr %f, ptr %args, i64 %n, i64 %chunks, i64 %mask)
  br label %ran
whole:
  %s2 = call i32 %f(ptr %ret, ptr %exc, ptr %args, i64 0, i64 %n, i64 0)
  br label %ran
turns:
  %s3 = call i32 @turns(ptr %step, ptr %after, ptr %watch)
  br label %ran
tape:
  %s5 = call i32 @tape(ptr %step, ptr %after, ptr %watch)
  br label %ran
choice:
  %flag_at = getelementptr i64, ptr %step, i64 1
  %yes_at = getelementptr i64, ptr %step, i64 2
  %flag = load ptr, ptr %flag_at
  %yes_words = load i64, ptr %yes_at
  %yes = getelementptr i64, ptr %step, i64 3
  %no = getelementptr i64, ptr %yes, i64 %yes_words
  %byte = load i8, ptr %flag
  %true = icmp ne i8 %byte, 0
  %from = select i1 %true, ptr %yes, ptr %no
  %to = select i1 %true, ptr %no, ptr %after
  %s4 = call i32 @sequence(ptr %from, ptr %to, ptr %watch)
  br label %ran
ran:
  %s = phi i32 [ %s1, %split ], [ %s2, %whole ], [ %s3, %turns ], [ %s4, %choice ], [ %s5, %tape ]
  %fine = icmp eq i32 %s, 0
  br i1 %fine, label %next, label %out
gemm:
  %g = call i32 @gemm(ptr %step)
  br label %next
copy:
  %copy_to_at = getelementptr i64, ptr %step, i64 1
  %copy_from_at = getelementptr i64, ptr %step, i64 2
  %bytes_at = getelementptr i64, ptr %step, i64 3
  %copy_to = load ptr, ptr %copy_to_at
  %copy_from = load ptr, ptr %copy_from_at
  %bytes = load i64, ptr %bytes_at
  %move = load ptr, ptr getelementptr (ptr, ptr @api, i64 $memmove)
  %c = call ptr %move(ptr %copy_to, ptr %copy_from, i64 %bytes)
  br label %next
next:
  br label %loop
out:
  %status = phi i32 [ 0, %loop ], [ %s, %ran ]
  ret i32 %status
}

; Memory for a turn's record times the turns, the words that point into it set, then the steps.
define internal i32 @tape(ptr %step, ptr %after, ptr %watch) {
entry:
  %n_in = getelementptr i64, ptr %step, i64 1
  %record_at = getelementptr i64, ptr %step, i64 2
  %first_at = getelementptr i64, ptr %step, i64 3
  %last_at = getelementptr i64, ptr %step, i64 4
  %steps = getelementptr i64, ptr %step, i64 5
  %n_at = load ptr, ptr %n_in
  %n = load i64, ptr %n_at
  %record = load i64, ptr %record_at
  %first = load ptr, ptr %first_at
  %last = load ptr, ptr %last_at
  %most = udiv i64 4611686018427387904, %record
  %too_many = icmp ugt i64 %n, %most
  br i1 %too_many, label %none, label %ask
ask:
  %all = mul i64 %n, %record
  %malloc = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyMem_RawMalloc)
  %memory = call ptr %malloc(i64 %all)
  %refused = icmp eq ptr %memory, null
  br i1 %refused, label %none, label %ready
none:
  ret i32 $NO_MEMORY
ready:
  %base = ptrtoint ptr %memory to i64
  %later = sub i64 %n, 1
  br label %words
words:
  %w = phi ptr [ %first, %ready ], [ %w1, %word ]
  %more = icmp ult ptr %w, %last
  br i1 %more, label %word, label %run
word:
  %target = load ptr, ptr %w
  %offset_at = getelementptr i64, ptr %w, i64 1
  %by_at = getelementptr i64, ptr %w, i64 2
  %offset = load i64, ptr %offset_at
  %by = load i64, ptr %by_at
  %far = mul i64 %by, %later
  %there = add i64 %base, %offset
  %now = add i64 %there, %far
  store i64 %now, ptr %target
  %w1 = getelementptr i64, ptr %w, i64 3
  br label %words
run:
  %s = call i32 @sequence(ptr %steps, ptr %after, ptr %watch)
  %free = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyMem_RawFree)
  call void %free(ptr %memory)
  ret i32 %s
}

$CLOCK

define internal void @watching(ptr %watch, ptr %state) alwaysinline {
  %left_at = getelementptr %watch, ptr %watch, i64 0, i32 1
  %between_at = getelementptr %watch, ptr %watch, i64 0, i32 2
  %last_at = getelementptr %watch, ptr %watch, i64 0, i32 3
  store ptr %state, ptr %watch
  store i64 4, ptr %left_at
  store i64 4, ptr %between_at
  store i64 0, ptr %last_at
  ret void
}

; Looks at the clock, and every 50 ms or so asks for signals; a status.  How many turns there are between two looks follows
; from how long they last.
define internal i32 @look(ptr %watch) cold noinline {
entry:
  %left_at = getelementptr %watch, ptr %watch, i64 0, i32 1
  %between_at = getelementptr %watch, ptr %watch, i64 0, i32 2
  %last_at = getelementptr %watch, ptr %watch, i64 0, i32 3
  %between = load i64, ptr %between_at
  %last = load i64, ptr %last_at
  %now = call i64 @clock()
  store i64 %now, ptr %last_at
  %lasted = sub i64 %now, %last
  %first = icmp eq i64 %last, 0
  %short = icmp ult i64 %lasted, $SHORT
  %long = icmp ugt i64 %lasted, $LONG
  %thousandths = udiv i64 %lasted, 1000
  %scaled = mul i64 %between, $USUAL
  %divisor = or i64 %thousandths, 1
  %fewer = udiv i64 %scaled, %divisor
  %nothing = icmp eq i64 %fewer, 0
  %some = select i1 %nothing, i64 1, i64 %fewer
  %many = mul i64 %between, 4
  %huge = icmp ugt i64 %many, 1073741824
  %most = select i1 %huge, i64 1073741824, i64 %many
  %a = select i1 %long, i64 %some, i64 %between
  %b = select i1 %short, i64 %most, i64 %a
  %next = select i1 %first, i64 %between, i64 %b
  store i64 %next, ptr %between_at
  store i64 %next, ptr %left_at
  %early = or i1 %first, %short
  br i1 %early, label %fine, label %ask
ask:
  %signals = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyErr_CheckSignals)
  %state = load ptr, ptr %watch
  %held = icmp eq ptr %state, inttoptr (i64 1 to ptr)
  br i1 %held, label %inside, label %outside
inside:
  %r1 = call i32 %signals()
  br label %asked
outside:
  %save = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_SaveThread)
  %restore = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyEval_RestoreThread)
  call void %restore(ptr %state)
  %r2 = call i32 %signals()
  %again = call ptr %save()
  store ptr %again, ptr %watch
  br label %asked
asked:
  %r = phi i32 [ %r1, %inside ], [ %r2, %outside ]
  %none = icmp eq i32 %r, 0
  br i1 %none, label %fine, label %raised
raised:
  ret i32 $INTERRUPTED
fine:
  ret i32 0
}

; The turns of a loop step: before each, the words that move are set.  The steps of the end run with the words of the turn
; that is not made.
define internal i32 @turns(ptr %step, ptr %after, ptr %watch) {
entry:
  %count_at = getelementptr i64, ptr %step, i64 1
  %count_in_at = getelementptr i64, ptr %step, i64 9
  %left_at = getelementptr %watch, ptr %watch, i64 0, i32 1
  %unseen = icmp eq ptr %watch, null
  %moves_at = getelementptr i64, ptr %step, i64 2
  %moves_end_at = getelementptr i64, ptr %step, i64 3
  %swaps_at = getelementptr i64, ptr %step, i64 4
  %swaps_end_at = getelementptr i64, ptr %step, i64 5
  %flag_at = getelementptr i64, ptr %step, i64 6
  %test_words_at = getelementptr i64, ptr %step, i64 7
  %end_words_at = getelementptr i64, ptr %step, i64 8
  %test = getelementptr i64, ptr %step, i64 $LOOP_WORDS
  %flag = load ptr, ptr %flag_at
  %test_words = load i64, ptr %test_words_at
  %end_words = load i64, ptr %end_words_at
  %end = getelementptr i64, ptr %test, i64 %test_words
  %body = getelementptr i64, ptr %end, i64 %end_words
  %counted = icmp eq ptr %flag, null
  %count_in = load ptr, ptr %count_in_at
  %known = icmp eq ptr %count_in, null
  %from = select i1 %known, ptr %count_at, ptr %count_in
  %count = load i64, ptr %from
  %moves = load ptr, ptr %moves_at
  %moves_end = load ptr, ptr %moves_end_at
  %swaps = load ptr, ptr %swaps_at
  %swaps_end = load ptr, ptr %swaps_end_at
  br label %turn
turn:
  %t = phi i64 [ 0, %entry ], [ %t1, %again ]
  %odd = and i64 %t, 1
  %even_at = sub i64 3, %odd
  %start = icmp eq i64 %t, 0
  %which = select i1 %start, i64 1, i64 %even_at
  br label %move
move:
  %m = phi ptr [ %moves, %turn ], [ %m1, %moved ]
  %m_more = icmp ult ptr %m, %moves_end
  br i1 %m_more, label %moved, label %swap
moved:
  %m_word = load ptr, ptr %m
  %m_first_at = getelementptr i64, ptr %m, i64 1
  %m_by_at = getelementptr i64, ptr %m, i64 2
  %m_first = load i64, ptr %m_first_at
  %m_by = load i64, ptr %m_by_at
  %m_far = mul i64 %m_by, %t
  %m_now = add i64 %m_first, %m_far
  store i64 %m_now, ptr %m_word
  %m1 = getelementptr i64, ptr %m, i64 3
  br label %move
swap:
  %w = phi ptr [ %swaps, %move ], [ %w1, %swapped ]
  %w_more = icmp ult ptr %w, %swaps_end
  br i1 %w_more, label %swapped, label %ready
swapped:
  %w_word = load ptr, ptr %w
  %w_from = getelementptr i64, ptr %w, i64 %which
  %w_now = load i64, ptr %w_from
  store i64 %w_now, ptr %w_word
  %w1 = getelementptr i64, ptr %w, i64 4
  br label %swap
ready:
  %any = icmp ult i64 %t, %count
  br i1 %any, label %may, label %finish
may:
  br i1 %counted, label %run, label %ask
ask:
  %s1 = call i32 @sequence(ptr %test, ptr %end, ptr %watch)
  %asked = icmp eq i32 %s1, 0
  br i1 %asked, label %look, label %unasked
unasked:
  ret i32 %s1
look:
  %byte = load i8, ptr %flag
  %yes = icmp ne i8 %byte, 0
  br i1 %yes, label %run, label %finish
finish:
  %s2 = call i32 @sequence(ptr %end, ptr %body, ptr %watch)
  ret i32 %s2
run:
  %s = call i32 @sequence(ptr %body, ptr %after, ptr %watch)
  %fine = icmp eq i32 %s, 0
  br i1 %fine, label %ran, label %broken
ran:
  %t1 = add i64 %t, 1
  br i1 %unseen, label %again, label %tick
tick:
  %left = load i64, ptr %left_at
  %left1 = sub i64 %left, 1
  store i64 %left1, ptr %left_at
  %due = icmp eq i64 %left1, 0
  br i1 %due, label %see, label %again
see:
  %seen = call i32 @look(ptr %watch)
  %calm = icmp eq i32 %seen, 0
  br i1 %calm, label %again, label %stopped
stopped:
  ret i32 %seen
again:
  br label %turn
broken:
  ret i32 %s
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

# The time in microseconds.
_CLOCKS = {"posix": """
define internal i64 @clock() {
  %now = alloca [2 x i64]
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $clock)
  %r = call i32 %f(ptr %now, ptr null)
  %part_at = getelementptr i64, ptr %now, i64 1
  %seconds = load i64, ptr %now
  %part = load i64, ptr %part_at
  %low = and i64 %part, 4294967295           ; 32 bits on some systems
  %whole = mul i64 %seconds, 1000000
  %sum = add i64 %whole, %low
  ret i64 %sum
}""", "nt": """
define internal i64 @clock() {
  %f = load ptr, ptr getelementptr (ptr, ptr @api, i64 $clock)
  %r = call i64 %f()
  %sum = mul i64 %r, 1000
  ret i64 %sum
}"""}
# Turns between two looks that lasted less than SHORT are too few, and more than LONG too many; microseconds, USUAL thousands.
_LOOKS = {"SHORT": 50_000, "LONG": 200_000, "USUAL": 100}

_API = (*pool.API, *products.API, *binding.API, *making.API, "PyErr_SetString", "PyErr_Occurred", "PyLong_AsSsize_t",
        "PyLong_FromLongLong", "PyErr_CheckSignals", "PyMem_RawMalloc", "PyMem_RawFree", "clock",
        "PyEval_SaveThread", "PyEval_RestoreThread", "TypeError", "ValueError", "ndarray")
_STRINGS = {"few": "a plan's address comes first, then its arguments",
            "many": "not the number of arguments that this plan takes",
            "alien_text": "not the address of a plan",
            "two_text": "two arguments are wanted",
            "bound_text": "run_bound takes the address of a plan and nothing else"}


def text() -> str:
    """The whole runtime as one LLVM module: runner, pool and products."""
    values: dict[str, Any] = {name: i for i, name in enumerate(_API)}
    values |= {"API": len(_API), "MAGIC": MAGIC, "OK": OK, "BUSY": BUSY, "FAILED": FAILED, "KERNEL": KERNEL,
               "GEMM": GEMM, "LOOP": LOOP, "LOOP_WORDS": LOOP_WORDS, "BRANCH": BRANCH, "TAPE": TAPE, "COPY": COPY, **_LOOKS,
               "NO_MEMORY": NO_MEMORY, "INTERRUPTED": INTERRUPTED, "RAISED": FAILED + INTERRUPTED,
               "ARGUMENT": making.ARGUMENT, "OBJECT": making.OBJECT, "MOST": making.MOST,
               "PAUSE": pool.pause(), "MAX_THREADS": pool.MAX_THREADS,
               "STRINGS": "\n".join(f'@{name} = internal constant [{len(line) + 1} x i8] c"{line}\\00"'
                                    for name, line in _STRINGS.items())}
    values["CLOCK"] = native.substitute(_CLOCKS["nt" if os.name == "nt" else "posix"], values)
    texts = (_TEXT, binding.TEXT, making.TEXT, pool.TEXT)
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
