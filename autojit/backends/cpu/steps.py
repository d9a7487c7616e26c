"""How the steps of a plan run, one after the other: the LLVM text of loops, branches, tapes and copies.

In: steps as words (`runtime` says which), and a watch.  Out: a status, 0 or that of the first step that fails.

A tape is memory for what each turn leaves, asked for when the number of turns is known, and given back after its steps.
While loops turn the interpreter is asked now and then (some 50 ms) whether a signal has come, as Python does between
instructions: the GIL is taken for that, and where the answer is an exception (Ctrl-C) the plan ends with INTERRUPTED.
Without a watch (a plan run by native code that may have no interpreter) nobody is asked.
"""

from __future__ import annotations

NO_MEMORY, INTERRUPTED = 1 << 24, 1 << 24 | 1             # statuses that no kernel ends with
KERNEL, GEMM, LOOP, BRANCH, TAPE, COPY = 1, 2, 3, 4, 5, 6
LOOP_WORDS = 10                                           # of a loop step, before the steps of its body
API = ("PyErr_CheckSignals", "PyMem_RawMalloc", "PyMem_RawFree", "clock")
# Turns between two looks that lasted less than SHORT are too few, and more than LONG too many; microseconds, USUAL thousands.
WORDS = {"KERNEL": KERNEL, "GEMM": GEMM, "LOOP": LOOP, "LOOP_WORDS": LOOP_WORDS, "BRANCH": BRANCH, "TAPE": TAPE, "COPY": COPY,
         "NO_MEMORY": NO_MEMORY, "INTERRUPTED": INTERRUPTED, "SHORT": 50_000, "LONG": 200_000, "USUAL": 100}

TEXT = """
%watch = type { ptr, i64, i64, i64 }        ; thread state (or 1: the GIL is held), turns until a look, between looks, last time

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
"""

# The time in microseconds.
CLOCKS = {"posix": """
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
