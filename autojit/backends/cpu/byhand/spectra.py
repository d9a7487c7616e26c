"""Eigenvalues and singular values as kernels, and what is made of them: pseudo-inverses, least squares.

In: a `Form` whose first operand is a batch of matrices.  Out: its kernels, over matrices.  LAPACK is given a matrix turned, so
that it does what NumPy has it do: eigenvectors and singular vectors have the same signs whichever road a program takes.  All
is computed in float64.  A matrix that is not finite, and one that LAPACK gives up on, is refused.
"""

from __future__ import annotations

from ....dtypes import float32, float64
from . import Form, chunk_rows, placed, usual
from .factorisations import load, many, store
from .fortran import INFO, Calls, turned, whole

ONE = "    one = bits_f64(f8(1.0))"    # numbers as integers, to be handed on by address


def finite(count: str, inner: str) -> str:
    """Lines that do `inner` where x[at:] has `count` finite elements, and refuse elsewhere."""
    return f"""
        total = f8(0.0)
        for j in range({count}):
            total = add_f64(total, abs_f64(WIDE(x[at + j])) * f8(0.0))
        if isnan_f64(total):
            bad = True
        else:
{placed(inner, 4)}
"""


def worded(f: Form, text: str) -> str:
    """WIDE(...) is an element of the first operand as a float64, NARROW(...) a float64 as one of the result."""
    wide, narrow = [word.partition("{")[0] or "(" for word in (load(f), store(f))]
    return text.replace("WIDE(", wide).replace("NARROW(", narrow)


# ------------------------------------------------------------------------------------------------ symmetric matrices
def _eigen(call: Calls, lower: bool) -> str:
    """Lines that leave the eigenvectors, by columns, at w[base:] and the eigenvalues at w[values:]."""
    return call.line("dsyevd", "'V'", "'L'" if lower else "'U'", "n", "&w[base]", "n", "&w[values]", "&w[work]", "room",
                     "&whole[first]", "few", INFO)


def _eigen_sizes(f: Form, chunks: int) -> dict[str, int]:
    n = f.avals[0].shape[-1]
    sizes = {"n": n, "room": 2 * n * n + 40 * n + 64, "few": 5 * n + 3}
    f.room("w", float64, chunks * (n * n + n + sizes["room"]))
    f.room("whole", whole(), chunks * (sizes["few"] + 32))
    return sizes


_EIGEN_PLACES = """
    base = chunk * (n * n + n + room)
    values = base + n * n
    work = values + n
    first = chunk * (few + 32)
"""


def eigh(f: Form) -> None:
    """Eigenvalues, then eigenvectors, in a row."""
    n = f.avals[0].shape[-1]
    if not f.avals[0].size:
        return
    chunks = chunk_rows(many(f), 3 * usual(n) ** 3 + 1000)
    call = Calls(f, chunks)
    body = _EIGEN_PLACES + """
    for k in range(lo, hi):
        at = k * n * n
        to = k * (n + n * n)
""" + finite("n * n", f"""
{turned("w", "base", "x", "at", "n", "n", load(f))}
        {_eigen(call, f.params[0])}
        bad = bad | (ints[own] != 0)
        for i in range(n):
            y[to + i] = NARROW(w[values + i])
{turned("y", "to + n", "w", "base", "n", "n", store(f))}
""")
    call.kernel(worded(f, body), {"x": "in0", "y": "out", "w": "w", "whole": "whole"}, _eigen_sizes(f, chunks), many(f),
                ("out", "w", "whole"))


# ------------------------------------------------------------------------------------------------ singular values
SINGULAR_PLACES = """
    base = chunk * (m * n + least + m * left + right * n + room)
    values = base + m * n
    u = values + least
    v = u + m * left
    work = v + right * n
    first = chunk * (few + 32)
"""


def singular_sizes(f: Form, chunks: int, full: bool) -> dict[str, int]:
    """LAPACK's memory: the matrix, its singular values, U and Vh by columns, and what it works with."""
    m, n = f.avals[0].shape[-2:]
    k = min(m, n)
    sizes = {"m": m, "n": n, "least": k, "left": m if full else k, "right": n if full else k,
             "room": 4 * k * k + 8 * k + 64 * (m + n), "few": 8 * k}
    f.room("w", float64, chunks * (m * n + k + m * sizes["left"] + sizes["right"] * n + sizes["room"]))
    f.room("whole", whole(), chunks * (sizes["few"] + 32))
    return sizes


def singular(f: Form, call: Calls, full: bool) -> str:
    return f"""
{turned("w", "base", "x", "at", "m", "n", load(f))}
        {call.line("dgesdd", "'A'" if full else "'S'", "m", "n", "&w[base]", "m", "&w[values]", "&w[u]", "m", "&w[v]", "right",
                   "&w[work]", "room", "&whole[first]", INFO)}
        bad = bad | (ints[own] != 0)
"""


def cost(f: Form) -> float:
    m, n = [usual(s) for s in f.avals[0].shape[-2:]]
    return 4.0 * m * n * min(m, n) + 2000


def svd(f: Form) -> None:
    """U, S and Vh in a row."""
    if not f.avals[0].size:
        return
    full, chunks = f.params[0], chunk_rows(many(f), cost(f))
    call = Calls(f, chunks)
    body = SINGULAR_PLACES + """
    for k in range(lo, hi):
        at = k * m * n
        to = k * (m * left + least + right * n)
""" + finite("m * n", singular(f, call, full) + f"""
{turned("y", "to", "w", "u", "left", "m", store(f))}
        for i in range(least):
            y[to + m * left + i] = NARROW(w[values + i])
{turned("y", "to + m * left + least", "w", "v", "n", "right", store(f))}
""")
    call.kernel(worded(f, body), {"x": "in0", "y": "out", "w": "w", "whole": "whole"}, singular_sizes(f, chunks, full),
                many(f), ("out", "w", "whole"))


# ------------------------------------------------------------------------------------------------ pseudo-inverses
_INVERTED = """
        top = f8(0.0)
        for i in range(COUNT):
            top = maximum_f64(top, abs_f64(w[values + i]))
        limit = maximum_f64(atol, rtol * top)
        for i in range(COUNT):
            value = w[values + i]
            w[values + i] = select(abs_f64(value) > limit, f8(1.0) / value, f8(0.0))
"""


def pinv(f: Form) -> None:
    """Singular values (or eigenvalues' sizes) up to max(atol, rtol * the largest) count as 0."""
    atol, rtol, hermitian = f.params
    if not f.avals[0].size:
        return
    chunks = chunk_rows(many(f), cost(f))
    call = Calls(f, chunks)
    sizes = _eigen_sizes(f, chunks) if hermitian else singular_sizes(f, chunks, False)
    m, n = f.avals[0].shape[-2:]
    wide = f.out.dtype is float32
    result = "z[side]" if wide else "y[at]"
    if hermitian:                                         # V and its columns times numbers, in the memory of the work
        inner = turned("w", "base", "x", "at", "n", "n", load(f)) + f"""
        {_eigen(call, True)}
        bad = bad | (ints[own] != 0)
{_INVERTED.replace("COUNT", "n").strip(chr(10))}
        for i in range(n):
            for j in range(n):
                w[work + i * n + j] = w[base + i * n + j] * w[values + i]
        {call.line("dgemm", "'N'", "'T'", "n", "n", "n", "one", "&w[base]", "n", "&w[work]", "n", "0", "&" + result, "n")}
"""
    else:
        inner = singular(f, call, False) + f"""
{_INVERTED.replace("COUNT", "least").strip(chr(10))}
        for i in range(least):
            for j in range(m):
                w[u + i * m + j] = w[u + i * m + j] * w[values + i]
        {call.line("dgemm", "'N'", "'N'", "m", "n", "least", "one", "&w[u]", "m", "&w[v]", "least", "0", "&" + result, "m")}
"""
    if wide:
        f.room("z", float64, chunks * (m * n + 16))
        inner += f"""
        for j in range({"n * n" if hermitian else "m * n"}):
            y[at + j] = to_f32(z[side + j])
"""
    area = "n * n" if hermitian else "m * n"
    body = (_EIGEN_PLACES if hermitian else SINGULAR_PLACES) + f"""
    side = chunk * ({area} + 16)
    for k in range(lo, hi):
        at = k * {area}
""" + finite(area, inner)
    call.before.append(ONE)
    names = {"w": "w", "whole": "whole"} | ({"z": "z"} if wide else {})
    call.kernel(worded(f, body), {"x": "in0", "y": "out"} | names, sizes, many(f), ("out", *names),
                {"atol": ("const", atol, float64), "rtol": ("const", rtol, float64)})


def lstsq(f: Form) -> None:
    """The smallest of the solutions that come nearest."""
    (m, n), sides = f.avals[0].shape[-2:], f.out.shape[-1]
    if not f.avals[0].size or not f.out.size:
        return
    k, rows = min(m, n), max(m, n)
    chunks = chunk_rows(many(f), cost(f))
    call, room = Calls(f, chunks), k * (400 + sides) + 1000 + 64 * (m + n + sides)
    few = 140 * k
    f.room("w", float64, chunks * (m * n + rows * sides + k + 1 + room))
    f.room("whole", whole(), chunks * (few + 32))
    solving = call.line("dgelsd", "m", "n", "sides", "&w[base]", "m", "&w[right]", "rows", "&w[values]", "&w[limit]",
                        "&ints[own + 40]", "&w[work]", "room", "&whole[first]", INFO)
    body = """
    base = chunk * (m * n + rows * sides + least + 1 + room)
    right = base + m * n
    values = right + rows * sides
    limit = values + least
    work = limit + 1
    first = chunk * (few + 32)
    for k in range(lo, hi):
        at = k * m * n
""" + finite("m * n", f"""
{turned("w", "base", "x", "at", "m", "n", load(f))}
        for i in range(m):
            for j in range(sides):
                w[right + j * rows + i] = WIDE(b[(k * m + i) * sides + j])
        w[limit] = rcond
        {solving}
        bad = bad | (ints[own] != 0)
        for i in range(n):
            for j in range(sides):
                y[(k * n + i) * sides + j] = NARROW(w[right + j * rows + i])
""")
    call.kernel(worded(f, body), {"x": "in0", "b": "in1", "y": "out", "w": "w", "whole": "whole"},
                {"m": m, "n": n, "sides": sides, "rows": rows, "least": k, "room": room, "few": few}, many(f),
                ("out", "w", "whole"), {"rcond": ("const", f.params[0], float64)})
