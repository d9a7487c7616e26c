"""Factors of matrices as kernels: Cholesky's, L and U, Q and R.

In: a `Form` whose operand is a batch of matrices.  Out: its kernels, over matrices.  Up to LEAST rows they are written out,
up to SMALL they are loops of ours, beyond that LAPACK's.  What NumPy computes in float64 is computed so here: float32 goes
through memory of the chunk.  Never gives a factor where the operation raises an error: the kernel refuses.
"""

from __future__ import annotations

from ....dtypes import float32, float64
from . import Form, chunk_rows, placed, product, usual
from .fortran import INFO, TILE, Calls, copied, precise, turned, whole
from .tiny import LEAST, Lines, stored
from .tiny import cholesky as tiny_cholesky

SMALL = 16                         # rows up to which our own loops factor a matrix faster than LAPACK, which has to get ready


def load(f: Form, k: int = 0) -> str:
    """What makes a float64 of an element of operand k."""
    return "to_f64({})" if f.avals[k].dtype is float32 else "{}"


def store(f: Form) -> str:
    """What makes an element of the result of a float64."""
    return "to_f32({})" if f.out.dtype is float32 else "{}"


def many(f: Form) -> int:
    """How many matrices the first operand is."""
    return product(f.avals[0].shape[:-2])


# ------------------------------------------------------------------------------------------------ cholesky
def cholesky(f: Form) -> None:
    """L of each matrix, or its transpose; zeros in the other triangle."""
    n, upper = f.out.shape[-1], f.params[0]
    if not f.out.size:
        return
    count, work = many(f), usual(n) ** 3 / 3
    if usual(n) <= LEAST:
        _cholesky_tiny(f, n, upper, count)
    elif usual(n) <= SMALL:
        _cholesky_small(f, n, upper, chunk_rows(count, work))
    else:
        _cholesky_large(f, n, upper, chunk_rows(count, work / 8))


def _cholesky_tiny(f: Form, n: int, upper: bool, count: int) -> None:
    out = Lines()
    a = out.matrix(n, n, lambda i, j: load(f).format(f"x[at + {j * n + i if upper else i * n + j}]") if j <= i else "f8(0.0)")
    low = tiny_cholesky(out, a)
    rows = [[low[j][i] for j in range(n)] for i in range(n)] if upper else low
    lines = ["for k in range(lo, hi):", f"    at = k * {n * n}"]
    lines += ["    " + line for line in (*out.lines, *stored("y", "at", rows, store(f)))]
    Calls(f, chunk_rows(count, 8 * n * n)).kernel(placed("\n".join(lines), 4), {"x": "in0", "y": "out"}, {}, count)


def _cholesky_small(f: Form, n: int, upper: bool, chunks: int) -> None:
    """Row by row of the transposed factor: each takes its products off all rows below."""
    f.room("w", float64, chunks * SMALL * SMALL)
    source = "x[at + i * n + j]" if upper else "x[at + j * n + i]"
    to = "y[at + i * n + j]" if upper else "y[at + j * n + i]"
    other = "y[at + j * n + i]" if upper else "y[at + i * n + j]"
    body = f"""
    base = chunk * {SMALL * SMALL}
    for k in range(lo, hi):
        at = k * n * n
        for i in range(n):
            for j in range(i, n):
                w[base + i * n + j] = {load(f).format(source)}
        for p in range(n):
            square = w[base + p * n + p]
            bad = bad | (not square > f8(0.0))
            d = sqrt_f64(square)
            for j in range(p, n):
                w[base + p * n + j] = w[base + p * n + j] / d
            for i in range(p + 1, n):
                q = w[base + p * n + i]
                for j in range(i, n):
                    w[base + i * n + j] = w[base + i * n + j] - q * w[base + p * n + j]
        for i in range(n):
            for j in range(i + 1, n):
                {other} = {store(f).format("f8(0.0)")}
            for j in range(i, n):
                {to} = {store(f).format("w[base + i * n + j]")}
"""
    Calls(f, chunks).kernel(body, {"x": "in0", "w": "w", "y": "out"}, {"n": n}, many(f), ("out", "w"))


def _cholesky_large(f: Form, n: int, upper: bool, chunks: int) -> None:
    """The upper triangle by rows is the lower one by columns.  A lower one is turned before and after: LAPACK's upper factors
    take a quarter longer."""
    call = Calls(f, chunks)
    where, at = ("y", "at") if upper and f.out.dtype is float64 else ("w", "base")
    kept, empty = ("range(i, n)", "range(i)") if upper else ("range(i + 1)", "range(i + 1, n)")
    first, last = load(f).format("x[at + i * n + j]"), store(f).format(f"{where}[{at} + i * n + j]")
    if upper:
        given = f"for i in range(n):\n    for j in {kept}:\n        {where}[{at} + i * n + j] = {first}"
        taken = f"for i in range(n):\n    for j in {kept}:\n        y[at + i * n + j] = {last}" if where == "w" else ""
    else:
        given = _tiles(f"w[base + j * n + i] = {first}")
        taken = _tiles("y[at + i * n + j] = " + store(f).format("w[base + j * n + i]"))
    body = f"""
    for k in range(lo, hi):
        at = k * n * n
        base = chunk * n * n
{placed(given, 8)}
        {call.line("dpotrf", "'L'", "n", f"&{where}[{at}]", "n", INFO)}
        bad = bad | (ints[own] != 0)
        for i in range(n):
            bad = bad | (not {where}[{at} + i * n + i] > f8(0.0))
            for j in {empty}:
                y[at + i * n + j] = {store(f).format("f8(0.0)")}
{placed(taken, 8)}
"""
    if where == "w":
        f.room("w", float64, chunks * n * n)
    buffers = {"x": "in0", "y": "out"} | ({"w": "w"} if where == "w" else {})
    call.kernel(body, buffers, {"n": n}, many(f), ("out", "w") if where == "w" else ("out",))


def _tiles(line: str) -> str:
    """Lines that do something for all places (i, j) of a lower triangle, in columns that stand side by side."""
    return f"""
for tile in range(0, n, {TILE}):
    for i in range(tile, n):
        for j in range(tile, minimum_i64(i + 1, tile + {TILE})):
            {line}
"""


def cholesky_info(f: Form) -> None:
    """The order of the first leading minor that is not positive, or 0; of what is no number on the diagonal."""
    n, dtype = f.avals[0].shape[-1], f.avals[0].dtype
    if not f.avals[0].size:
        return
    call = Calls(f, chunk_rows(many(f), usual(n) ** 3 / 12))
    f.room("w", dtype, call.chunks * (n * n + 32))
    body = f"""
    base = chunk * (n * n + 32)
    for k in range(lo, hi):
        at = k * n * n
{copied("w", "base", "x", "at", "n * n")}
        {call.line(precise(dtype) + "potrf", "'L'" if f.params[0] else "'U'", "n", "&w[base]", "n", INFO)}
        found = ints[own]
        for i in range(n):
            if found < 1 and isnan_{dtype.code}(x[at + i * n + i]):
                found = i + 1
        y[k] = found
"""
    call.kernel(body, {"x": "in0", "w": "w", "y": "out"}, {"n": n}, many(f), ("out", "w"))


# ------------------------------------------------------------------------------------------------ L U
def _pivoted(f: Form, store_lines: str, writes: str) -> Calls | None:
    """LU of each matrix by LAPACK, in w by columns with its pivots, then `store_lines`."""
    m, n = f.avals[0].shape[-2:]
    k = min(m, n)
    if not f.avals[0].size or not f.out.size:
        return None
    chunks = chunk_rows(many(f), usual(m) * usual(n) * usual(k) / 4)
    call, dtype = Calls(f, chunks), f.avals[0].dtype
    f.room("w", dtype, chunks * m * n)
    f.room("pivots", whole(), chunks * (k + 32))
    body = f"""
    base = chunk * m * n
    first = chunk * (least + 32)
    for k in range(lo, hi):
        at = k * m * n
{turned("w", "base", "x", "at", "m", "n")}
        {call.line(precise(dtype) + "getrf", "m", "n", "&w[base]", "m", "&pivots[first]", INFO)}
{store_lines}
"""
    call.kernel(body, {"x": "in0", "w": "w", "pivots": "pivots", "y": "out"}, {"m": m, "n": n, "least": k}, many(f),
                ("out", "w", "pivots"))
    return call


def lu(f: Form) -> None:
    """L below the diagonal, U on it and above.  A zero on U's diagonal is refused where there are words for it."""
    lines = "        bad = bad | (ints[own] != 0)\n" if f.params[0] else ""
    _pivoted(f, turned("y", "at", "w", "base", "n", "m") + "\n" + lines, "out")


def lu_pivots(f: Form) -> None:
    """The row, from 1, that each row was exchanged with."""
    _pivoted(f, copied("y", "k * least", "pivots", "first", "least"), "out")


def lu_info(f: Form) -> None:
    """The first zero on U's diagonal, or 0."""
    _pivoted(f, "        y[k] = ints[own]", "out")


def permutation(f: Form) -> None:
    """The order of rows that exchanges in turn come to."""
    k, n = f.avals[0].shape[-1], f.params[0]
    count = product(f.out.shape[:-1])
    if not f.out.size:
        return
    f.kernel("""
    for r in range(lo, hi):
        for i in range(n):
            y[r * n + i] = i
        for i in range(k):
            other = x[r * k + i] - 1
            kept = y[r * n + i]
            y[r * n + i] = y[r * n + other]
            y[r * n + other] = kept
""", {"x": "in0", "y": "out"}, {"n": n, "k": k}, count, chunk_rows(count, 4 * usual(n)))


# ------------------------------------------------------------------------------------------------ Q R
def qr(f: Form) -> None:
    """Q and R in a row.  Rows of ours are LAPACK's columns: it factors L Q of the transpose, by the same reflections."""
    m, n = f.avals[0].shape[-2:]
    if not f.avals[0].size:
        return
    k = min(m, n)
    q = m if f.params[0] else k
    ld, chunks = max(n, q), chunk_rows(many(f), usual(m) * usual(n) * usual(k))
    call, work = Calls(f, chunks), 64 * (m + n)
    f.room("w", float64, chunks * (ld * m + k + work))
    body = f"""
    base = chunk * (ld * m + least + work)
    tau = base + ld * m
    for k in range(lo, hi):
        at = k * m * n
        to = k * (m * q + q * n)
        for i in range(m):
            for j in range(n):
                w[base + i * ld + j] = {load(f).format("x[at + i * n + j]")}
        {call.line("dgelqf", "n", "m", "&w[base]", "ld", "&w[tau]", "&w[tau + least]", "work", INFO)}
        for i in range(q):
            for j in range(n):
                y[to + m * q + i * n + j] = {store(f).format("f8(0.0)")}
        for i in range(least):
            for j in range(i, n):
                y[to + m * q + i * n + j] = {store(f).format("w[base + i * ld + j]")}
        {call.line("dorglq", "q", "m", "least", "&w[base]", "ld", "&w[tau]", "&w[tau + least]", "work", INFO)}
        for i in range(m):
            for j in range(q):
                y[to + i * q + j] = {store(f).format("w[base + i * ld + j]")}
        bad = bad | (ints[own] != 0)
"""
    call.kernel(body, {"x": "in0", "w": "w", "y": "out"}, {"m": m, "n": n, "q": q, "ld": ld, "least": k, "work": work},
                many(f), ("out", "w"))
