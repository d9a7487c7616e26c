"""The LLVM text of one matrix product inside a plan: its split over the pool, the calling conventions, the gate.

In: the indices of the table @api and the like.  Out: ``text()``, which the runtime compiles with the pool and the runner;
the numbers of the conventions, which ``blas`` chooses from.  Never looks for a library and never chooses anything.
"""

from __future__ import annotations

from typing import Any

from . import native

# Calling conventions, as numbered in the switch of @gemm_one; + 1 for float64.
LOOPS, CBLAS64, CBLAS32, FORTRAN32, GEMV64, GEMV32, OWN = 0, 2, 4, 6, 8, 10, 12
BATCH, ROWS, COLUMNS = 0, 1, 2

# What runs inside the plan's step; the word layout is runner.GEMM's.
_PART = """
%product = type { i64, i64, i64, i64, i64, ptr, i64, i64, i64, i64, i64, ptr, i64, ptr, i64, ptr, i64,
                  i64, i64, i64, i64, double, double, i64, i64, i64, i64, i64 }

define internal i32 @gemm_part(ptr %ret, ptr %exc, ptr %p, i64 %lo, i64 %hi, i64 %chunk) {
entry:
  %count = sub i64 %hi, %lo
  %empty = icmp sle i64 %count, 0
  br i1 %empty, label %out, label %read
read:
$READ
  %by_batch = icmp eq i64 %axis, $BATCH
  %by_rows = icmp eq i64 %axis, $ROWS
  %by_cols = icmp eq i64 %axis, $COLUMNS
  %ta = icmp ne i64 %transa, 0
  %tb = icmp ne i64 %transb, 0
  %row_a = select i1 %ta, i64 1, i64 %lda
  %col_b = select i1 %tb, i64 %ldb, i64 1
  %ar = mul i64 %lo, %row_a
  %br = mul i64 %lo, %col_b
  %cr = mul i64 %lo, %ldc
  %ac = select i1 %by_rows, i64 %ar, i64 0
  %bc = select i1 %by_cols, i64 %br, i64 0
  %cc1 = select i1 %by_cols, i64 %lo, i64 0
  %cc = select i1 %by_rows, i64 %cr, i64 %cc1
  %m = select i1 %by_rows, i64 %count, i64 %m0
  %n = select i1 %by_cols, i64 %count, i64 %n0
  %from = select i1 %by_batch, i64 %lo, i64 0
  %to = select i1 %by_batch, i64 %hi, i64 %batch
  %no_rows = icmp eq i64 %m, 0
  %no_cols = icmp eq i64 %n, 0
  %nothing = or i1 %no_rows, %no_cols
  br i1 %nothing, label %out, label %loop
loop:
  %i = phi i64 [ %from, %read ], [ %i1, %one ]
  %more = icmp slt i64 %i, %to
  br i1 %more, label %one, label %out
one:
  %o = udiv i64 %i, %inner                                 ; batches of `inner` products, in a batch of their own
  %before = mul i64 %o, %inner
  %r = sub i64 %i, %before
  %as0 = mul i64 %r, %stridea
  %bs0 = mul i64 %r, %strideb
  %cs0 = mul i64 %r, %stridec
  %as1 = mul i64 %o, %outera
  %bs1 = mul i64 %o, %outerb
  %cs1 = mul i64 %o, %outerc
  %as = add i64 %as0, %as1
  %bs = add i64 %bs0, %bs1
  %cs = add i64 %cs0, %cs1
  %a1 = add i64 %as, %ac
  %b1 = add i64 %bs, %bc
  %c1 = add i64 %cs, %cc
  %a2 = mul i64 %a1, %size
  %b2 = mul i64 %b1, %size
  %c2 = mul i64 %c1, %size
  %ai = getelementptr i8, ptr %a, i64 %a2
  %bi = getelementptr i8, ptr %b, i64 %b2
  %ci = getelementptr i8, ptr %c, i64 %c2
  call void @gemm_one(i64 %routine, ptr %f, i64 %transa, i64 %transb, i64 %m, i64 %n, i64 %k, double %alpha,
                      ptr %ai, i64 %lda, ptr %bi, i64 %ldb, double %beta, ptr %ci, i64 %ldc)
  %i1 = add i64 %i, 1
  br label %loop
out:
  ret i32 0
}

define internal i32 @gemm(ptr %p) {
entry:
$READ
  %by_rows = icmp eq i64 %axis, $ROWS
  %by_cols = icmp eq i64 %axis, $COLUMNS
  %e1 = select i1 %by_rows, i64 %m0, i64 %batch
  %extent = select i1 %by_cols, i64 %n0, i64 %e1
  %many = icmp ugt i64 %chunks, 1
  br i1 %many, label %split, label %whole
split:
  %s = call i32 @parallel(ptr @gemm_part, ptr %p, i64 %extent, i64 %chunks, i64 %mask)
  ret i32 0
whole:
  %s1 = call i32 @gemm_part(ptr null, ptr null, ptr %p, i64 0, i64 %extent, i64 0)
  ret i32 0
}

; A plan with products is inside from its first step to its last.  Meanwhile the BLAS is held at one thread: the
; first who comes saves the user's setting, the last who goes puts it back.  And no fork happens: a child of a process
; that is inside OpenBLAS may hang in its first product (NumPy's own products do not prevent that).
@inside_lock = internal global i64 0, align 128
@inside = internal global i64 0
@fork_waits = internal global i64 0
@user_threads = internal global i32 0

define internal void @lock_inside() {
  br label %try
try:
  %pair = cmpxchg ptr @inside_lock, i64 0, i64 1 seq_cst seq_cst
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %out, label %again
again:
  call void asm sideeffect "$PAUSE", ""()
  br label %try
out:
  ret void
}

; Spin until the word is 0, at most `turns` times: a plan that runs inside another's kernel must not wait for ever.
define internal void @until_zero(ptr %word, i64 %spins) {
entry:
  %spin = load atomic i64, ptr @spin monotonic, align 8
  %turns = mul i64 %spin, %spins
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i1, %again ]
  %v = load atomic i64, ptr %word seq_cst, align 8
  %zero = icmp eq i64 %v, 0
  %over = icmp uge i64 %i, %turns
  %stop = or i1 %zero, %over
  br i1 %stop, label %out, label %again
again:
  call void @ease(i64 %i)
  %i1 = add i64 %i, 1
  br label %look
out:
  ret void
}

define internal void @products_enter() {
  call void @until_zero(ptr @fork_waits, i64 20000)         ; one second
  %get = load ptr, ptr getelementptr (ptr, ptr @api, i64 $blas_get_threads)
  %set = load ptr, ptr getelementptr (ptr, ptr @api, i64 $blas_set_threads)
  call void @lock_inside()
  %old = load i64, ptr @inside
  %new = add i64 %old, 1
  store atomic i64 %new, ptr @inside seq_cst, align 8
  %first = icmp eq i64 %old, 0
  %known = icmp ne ptr %set, null
  %change = and i1 %first, %known
  br i1 %change, label %save, label %out
save:
  %user = call i32 %get()
  store i32 %user, ptr @user_threads
  %is_one = icmp eq i32 %user, 1
  br i1 %is_one, label %out, label %lower
lower:
  call void %set(i32 1)
  br label %out
out:
  store atomic i64 0, ptr @inside_lock release, align 8
  ret void
}

define internal void @products_leave() {
  %set = load ptr, ptr getelementptr (ptr, ptr @api, i64 $blas_set_threads)
  call void @lock_inside()
  %old = load i64, ptr @inside
  %new = sub i64 %old, 1
  %last = icmp eq i64 %new, 0
  %known = icmp ne ptr %set, null
  %user = load i32, ptr @user_threads
  %more = icmp ne i32 %user, 1
  %c1 = and i1 %last, %known
  %change = and i1 %c1, %more
  br i1 %change, label %raise, label %out
raise:
  call void %set(i32 %user)
  br label %out
out:
  store atomic i64 %new, ptr @inside seq_cst, align 8
  store atomic i64 0, ptr @inside_lock release, align 8
  ret void
}

define void @before_fork() {
  store atomic i64 1, ptr @fork_waits seq_cst, align 8
  call void @until_zero(ptr @inside, i64 200000)            ; ten seconds
  ret void
}

define void @after_fork() {
  store atomic i64 0, ptr @fork_waits seq_cst, align 8
  ret void
}

define internal void @products_forked() {
  store atomic i64 0, ptr @fork_waits seq_cst, align 8
  store atomic i64 0, ptr @inside seq_cst, align 8
  store atomic i64 0, ptr @inside_lock seq_cst, align 8
  ret void
}
"""

_FIELDS = (("axis", "i64", 1), ("chunks", "i64", 2), ("mask", "i64", 3), ("routine", "i64", 4), ("f", "ptr", 5),
           ("transa", "i64", 6), ("transb", "i64", 7), ("m0", "i64", 8), ("n0", "i64", 9), ("k", "i64", 10),
           ("a", "ptr", 11), ("lda", "i64", 12), ("b", "ptr", 13), ("ldb", "i64", 14), ("c", "ptr", 15),
           ("ldc", "i64", 16), ("batch", "i64", 17), ("stridea", "i64", 18), ("strideb", "i64", 19),
           ("stridec", "i64", 20), ("alpha", "double", 21), ("beta", "double", 22), ("size", "i64", 23), ("inner", "i64", 24),
           ("outera", "i64", 25), ("outerb", "i64", 26), ("outerc", "i64", 27))

_SIGNATURE = ("ptr %f, i64 %ta, i64 %tb, i64 %m, i64 %n, i64 %k, double %alpha, ptr %a, i64 %lda, ptr %b, i64 %ldb,"
              " double %beta, ptr %c, i64 %ldc")

# One per element type T and integer type I of the library.
_CBLAS = """
define internal void @gemm_$NAME($SIGNATURE) {
$SCALARS
  %ta32 = trunc i64 %ta to i32
  %tb32 = trunc i64 %tb to i32
  %opa = add i32 %ta32, 111
  %opb = add i32 %tb32, 111
$INTS
  call void %f(i32 101, i32 %opa, i32 %opb, $I %m_, $I %n_, $I %k_, $T %alpha_, ptr %a, $I %lda_, ptr %b,
               $I %ldb_, $T %beta_, ptr %c, $I %ldc_)
  ret void
}

define internal void @gemv_$NAME($SIGNATURE) {     ; m or n is 1
$SCALARS
  %column = icmp eq i64 %n, 1
  %ta1 = icmp ne i64 %ta, 0
  %tb1 = icmp ne i64 %tb, 0
  %rows_a = select i1 %ta1, i64 %k, i64 %m
  %cols_a = select i1 %ta1, i64 %m, i64 %k
  %rows_b = select i1 %tb1, i64 %n, i64 %k
  %cols_b = select i1 %tb1, i64 %k, i64 %n
  %not_tb = xor i1 %tb1, true
  %step_a = select i1 %ta1, i64 %lda, i64 1
  %step_b = select i1 %tb1, i64 1, i64 %ldb
  %matrix = select i1 %column, ptr %a, ptr %b
  %vector = select i1 %column, ptr %b, ptr %a
  %trans = select i1 %column, i1 %ta1, i1 %not_tb
  %rows = select i1 %column, i64 %rows_a, i64 %rows_b
  %cols = select i1 %column, i64 %cols_a, i64 %cols_b
  %ld = select i1 %column, i64 %lda, i64 %ldb
  %incx = select i1 %column, i64 %step_b, i64 %step_a
  %incy = select i1 %column, i64 %ldc, i64 1
  %op = select i1 %trans, i32 112, i32 111
$VECTOR_INTS
  call void %f(i32 101, i32 %op, $I %rows_, $I %cols_, $T %alpha_, ptr %matrix, $I %ld_, ptr %vector, $I %incx_,
               $T %beta_, ptr %c, $I %incy_)
  ret void
}
"""

_FORTRAN = """
define internal void @gemm_$NAME($SIGNATURE) {     ; column-major: the transposed product
$SCALARS
$INTS
  %ints = alloca [6 x i32]
  %reals = alloca [2 x $T]
  %ops = alloca [2 x i8]
  %ta1 = icmp ne i64 %ta, 0
  %tb1 = icmp ne i64 %tb, 0
  %opa = select i1 %ta1, i8 84, i8 78
  %opb = select i1 %tb1, i8 84, i8 78
  %pa = getelementptr i8, ptr %ops, i64 1
  store i8 %opb, ptr %ops
  store i8 %opa, ptr %pa
  %pbeta = getelementptr $T, ptr %reals, i64 1
  store $T %alpha_, ptr %reals
  store $T %beta_, ptr %pbeta
  %pm = getelementptr i32, ptr %ints, i64 1
  %pk = getelementptr i32, ptr %ints, i64 2
  %plda = getelementptr i32, ptr %ints, i64 3
  %pldb = getelementptr i32, ptr %ints, i64 4
  %pldc = getelementptr i32, ptr %ints, i64 5
  store i32 %n_, ptr %ints
  store i32 %m_, ptr %pm
  store i32 %k_, ptr %pk
  store i32 %lda_, ptr %plda
  store i32 %ldb_, ptr %pldb
  store i32 %ldc_, ptr %pldc
  call void %f(ptr %ops, ptr %pa, ptr %ints, ptr %pm, ptr %pk, ptr %reals, ptr %b, ptr %pldb, ptr %a, ptr %plda,
               ptr %pbeta, ptr %c, ptr %pldc)
  ret void
}
"""

_LOOPS = """
define internal void @gemm_$NAME($SIGNATURE) {     ; no library, or an empty sum: row by row
entry:
$SCALARS
  %ta1 = icmp ne i64 %ta, 0
  %tb1 = icmp ne i64 %tb, 0
  %row_a = select i1 %ta1, i64 1, i64 %lda
  %col_a = select i1 %ta1, i64 %lda, i64 1
  %row_b = select i1 %tb1, i64 1, i64 %ldb
  %col_b = select i1 %tb1, i64 %ldb, i64 1
  %overwrite = fcmp oeq $T %beta_, 0.0
  br label %row
row:
  %i = phi i64 [ 0, %entry ], [ %i1, %row_end ]
  %rows = icmp slt i64 %i, %m
  br i1 %rows, label %scale_start, label %out
scale_start:
  %ci = mul i64 %i, %ldc
  %crow = getelementptr $T, ptr %c, i64 %ci
  %ai = mul i64 %i, %row_a
  %arow = getelementptr $T, ptr %a, i64 %ai
  br label %scale
scale:
  %s = phi i64 [ 0, %scale_start ], [ %s1, %scale_one ]
  %scaling = icmp slt i64 %s, %n
  br i1 %scaling, label %scale_one, label %sum
scale_one:
  %sp = getelementptr $T, ptr %crow, i64 %s
  %sv = load $T, ptr %sp
  %sm = fmul $T %sv, %beta_
  %sn = select i1 %overwrite, $T 0.0, $T %sm
  store $T %sn, ptr %sp
  %s1 = add i64 %s, 1
  br label %scale
sum:
  %j = phi i64 [ 0, %scale ], [ %j1, %sum_end ]
  %sums = icmp slt i64 %j, %k
  br i1 %sums, label %term, label %row_end
term:
  %aj = mul i64 %j, %col_a
  %ap = getelementptr $T, ptr %arow, i64 %aj
  %a0 = load $T, ptr %ap
  %av = fmul $T %a0, %alpha_
  %bj = mul i64 %j, %row_b
  %brow = getelementptr $T, ptr %b, i64 %bj
  br label %column
column:
  %l = phi i64 [ 0, %term ], [ %l1, %add ]
  %columns = icmp slt i64 %l, %n
  br i1 %columns, label %add, label %sum_end
add:
  %bl = mul i64 %l, %col_b
  %bp = getelementptr $T, ptr %brow, i64 %bl
  %bv = load $T, ptr %bp
  %cp = getelementptr $T, ptr %crow, i64 %l
  %cv = load $T, ptr %cp
  %pv = fmul contract $T %av, %bv
  %cn = fadd contract $T %cv, %pv
  store $T %cn, ptr %cp
  %l1 = add i64 %l, 1
  br label %column
sum_end:
  %j1 = add i64 %j, 1
  br label %sum
row_end:
  %i1 = add i64 %i, 1
  br label %row
out:
  ret void
}
"""

API = ("blas_get_threads", "blas_set_threads")


def text(values: dict[str, Any]) -> str:
    """The LLVM text of products; ``values`` are the indices of the table @api and the like."""
    reads = "\n".join(f"  %{name}_at = getelementptr %product, ptr %p, i64 0, i32 {i}\n"
                      f"  %{name} = load {kind}, ptr %{name}_at" for name, kind, i in _FIELDS)
    values = values | {"READ": reads, "BATCH": BATCH, "ROWS": ROWS, "COLUMNS": COLUMNS}
    parts = [native.substitute(_PART, values)]
    cases = []
    for code, template, name, integer in ((LOOPS, _LOOPS, "loops", "i64"), (CBLAS64, _CBLAS, "cblas64", "i64"),
                                          (CBLAS32, _CBLAS, "cblas32", "i32"),
                                          (FORTRAN32, _FORTRAN, "fortran32", "i32")):
        for offset, kind in enumerate(("float", "double")):
            full = f"{name}_{kind}"
            parts.append(native.substitute(template, _typed(full, kind, integer)))
            cases.append((code + offset, f"gemm_{full}"))
            if template is _CBLAS:
                cases.append((code + GEMV64 - CBLAS64 + offset, f"gemv_{full}"))
    parts.append(_switch(cases))
    return "".join(parts)


def _typed(name: str, kind: str, integer: str) -> dict[str, str]:
    def ints(names: str) -> str:
        cast = "add i64 0, %{0}" if integer == "i64" else "trunc i64 %{0} to i32"
        return "\n".join(f"  %{n}_ = {cast.format(n)}" for n in names.split())

    scalars = "\n".join(f"  %{s}_ = " + (f"fadd double -0.0, %{s}" if kind == "double" else
                                         f"fptrunc double %{s} to float") for s in ("alpha", "beta"))
    return {"NAME": name, "T": kind, "I": integer, "SIGNATURE": _SIGNATURE, "SCALARS": scalars,
            "INTS": ints("m n k lda ldb ldc"), "VECTOR_INTS": ints("rows cols ld incx incy")}


def _switch(cases: list[tuple[int, str]]) -> str:
    arguments = _SIGNATURE
    jumps = " ".join(f"i64 {code}, label %{name}" for code, name in cases)
    blocks = "".join(f"{name}:\n  call void @{name}({arguments})\n  ret void\n" for code, name in cases)
    own = arguments.removeprefix("ptr %f, ")
    return (f"\ndefine internal void @gemm_one(i64 %routine, {_SIGNATURE}) {{\n"
            f"  switch i64 %routine, label %out [ i64 {OWN}, label %own {jumps} ]\n{blocks}"
            f"own:\n  call void %f({own})\n  ret void\nout:\n  ret void\n}}\n")
