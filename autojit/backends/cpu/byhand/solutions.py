"""Solutions of linear equations, inverses and determinants as kernels.

In: a `Form` whose first operand is a batch of matrices.  Out: its kernels.  What LAPACK reads by columns is the transpose of
what stands here by rows, so L and U are those of the transpose (torch's too), and nothing is copied to turn it.  float32 is
computed in float64, but for triangles, as NumPy and SciPy do.  Never gives a solution where the operation raises an error: the
kernel refuses, and so it does where a result is to be infinite because a matrix is singular.
"""

from __future__ import annotations

from ....dtypes import float32, float64
from . import Form, chunk_rows, placed, usual
from .factorisations import SMALL, load, many, store
from .fortran import INFO, Calls, copied, precise, whole
from .tiny import LEAST, Lines, Names, determinant, solved, stored

ONE = "    one = bits_f64(f8(1.0))"  # a number as an integer, to be handed on by address
FEW = 4                            # columns of right sides that are written out


# ------------------------------------------------------------------------------------------------ our own elimination
def elimination(right: str = "") -> str:
    """Lines that bring w[base:], n by n, into triangular form with exchanges, and rows of m at right[side:] along with it;
    `sign` is turned over by an exchange, `least` is the smallest pivot in size."""
    def exchanged(view: str, at: str, width: str) -> str:
        return f"""
        for j in range({width}):
            kept = {view}[{at} + p * {width} + j]
            {view}[{at} + p * {width} + j] = {view}[{at} + other * {width} + j]
            {view}[{at} + other * {width} + j] = kept
"""
    lines = f"""
for p in range(n):
    largest = abs_f64(w[base + p * n + p])
    other = p
    for i in range(p + 1, n):
        here = abs_f64(w[base + i * n + p])
        if here > largest:
            largest = here
            other = i
    least = fmin_f64(least, largest)
    if other > p:
        sign = -sign
{exchanged("w", "base", "n").strip(chr(10))}
{exchanged(right, "side", "m").strip(chr(10)) if right else ""}
    for i in range(p + 1, n):
        q = w[base + i * n + p] / w[base + p * n + p]
        for j in range(p + 1, n):
            w[base + i * n + j] = w[base + i * n + j] - q * w[base + p * n + j]
"""
    if right:
        lines += f"""
        for j in range(m):
            {right}[side + i * m + j] = {right}[side + i * m + j] - q * {right}[side + p * m + j]
"""
    return "\n".join(line for line in lines.split("\n") if line.strip())


BACKWARD = """
for t in range(n):
    i = n - 1 - t
    for p in range(i + 1, n):
        q = w[base + i * n + p]
        for j in range(m):
            z[side + i * m + j] = z[side + i * m + j] - q * z[side + p * m + j]
    d = w[base + i * n + i]
    for j in range(m):
        z[side + i * m + j] = z[side + i * m + j] / d
"""


def _matrix(out: Lines, f: Form, n: int, m: int, view: str = "x", at: str = "at", k: int = 0) -> Names:
    return out.matrix(n, m, lambda i, j: load(f, k).format(f"{view}[{at} + {i * m + j}]"))


def _tiny(f: Form, n: int, m: int, inverse: bool) -> None:
    out, count = Lines(), many(f)
    a = _matrix(out, f, n, n)
    b = out.matrix(n, n, lambda i, j: f"f8({float(i == j)})") if inverse else _matrix(out, f, n, m, "b", "side", 1)
    x = solved(out, a, b)
    lines = ["for k in range(lo, hi):", f"    at = k * {n * n}", f"    side = k * {n * m}"]
    lines += ["    " + line for line in (*out.lines, *stored("y", "side", x, store(f)))]
    buffers = {"x": "in0", "y": "out"} | ({} if inverse else {"b": "in1"})
    Calls(f, chunk_rows(count, 8 * n * (n + m))).kernel(placed("\n".join(lines), 4), buffers, {}, count)


def _small(f: Form, n: int, m: int, inverse: bool) -> None:
    chunks = chunk_rows(many(f), usual(n) ** 2 * (usual(n) / 3 + usual(m)))
    f.room("w", float64, chunks * (SMALL * SMALL + 16))
    f.room("z", float64, chunks * (n * m + 16))
    given = """
        for i in range(n):
            for j in range(m):
                z[side + i * m + j] = f8(0.0)
            z[side + i * m + i] = f8(1.0)
""" if inverse else copied("z", "side", "b", "k * n * m", "n * m", load(f, 1))
    body = f"""
    base = chunk * {SMALL * SMALL + 16}
    side = chunk * (n * m + 16)
    sign = f8(1.0)
    for k in range(lo, hi):
        at = k * n * n
        least = f8(inf)
{copied("w", "base", "x", "at", "n * n", load(f))}
{given}
{placed(elimination("z"), 8)}
        bad = bad | (least <= f8(0.0))
{placed(BACKWARD, 8)}
{copied("y", "k * n * m", "z", "side", "n * m", store(f))}
"""
    buffers = {"x": "in0", "w": "w", "z": "z", "y": "out"} | ({} if inverse else {"b": "in1"})
    Calls(f, chunks).kernel(body, buffers, {"n": n, "m": m}, many(f), ("out", "w", "z"))


# ------------------------------------------------------------------------------------------------ solve
def solve(f: Form) -> None:
    """X with A X = B."""
    n, m = f.out.shape[-2:]
    if not f.out.size:
        return
    if usual(n) <= LEAST and usual(m) <= FEW:
        _tiny(f, n, m, False)
    elif usual(n) <= SMALL:
        _small(f, n, m, False)
    else:
        _solve_large(f, n, m)


def _solve_large(f: Form, n: int, m: int, inverse: bool = False) -> None:
    """A.T = P L U, so X is P times what two triangles leave of B; by rows their sides are exchanged, and turned over.  (For an
    inverse too: triangles run at full speed, LAPACK's own inverses at half of it.)  One right side alone is a column as it
    stands.  One matrix alone is factored first, then the columns of B go in chunks."""
    count = many(f)
    if count == 1 and m > 1:
        _factored_first(f, n, m, inverse)
        return
    chunks = chunk_rows(count, usual(n) ** 2 * (usual(n) / 3 + usual(m)) / 4)
    call, wide = Calls(f, chunks), f.out.dtype is float32
    f.room("w", float64, chunks * (n * n + 16))
    f.room("pivots", whole(), chunks * (n + 32))
    where, to = ("z", "side") if wide else ("y", "k * n * m")
    if m == 1:
        place = f"&{where}[{to}]"
        finish = placed(call.line("dgetrs", "'T'", "n", "1", "&w[base]", "n", "&pivots[first]", place, "n", INFO), 8)
    else:
        finish = _triangles(call, where, to, "0", "m", "&w[base]", "pivots[first + i]")
    body = f"""
    base = chunk * (n * n + 16)
    first = chunk * (n + 32)
    side = chunk * (n * m + 16)
    for k in range(lo, hi):
{copied("w", "base", "x", "k * n * n", "n * n", load(f))}
{_given(f, where, to, "0", "m", inverse, "k * n * m")}
        {call.line("dgetrf", "n", "n", "&w[base]", "n", "&pivots[first]", INFO)}
        if ints[own] != 0:
            bad = True
        else:
{placed(finish, 4)}
"""
    if wide:
        f.room("z", float64, chunks * (n * m + 16))
        body += copied("y", "k * n * m", "z", "side", "n * m", "to_f32({})")
    names = {"w": "w", "pivots": "pivots"} | ({"z": "z"} if wide else {})
    call.before.append(ONE)
    call.kernel(body, {"x": "in0", "y": "out"} | names | ({} if inverse else {"b": "in1"}), {"n": n, "m": m}, count,
                ("out", *names))


def _panels(n: int, m: int) -> int:
    """How many chunks the columns of one B go in: LAPACK packs the triangle again for each."""
    return min(chunk_rows(m, usual(n) ** 2 / 8), max(1, usual(m) // 128))


def _factored_first(f: Form, n: int, m: int, inverse: bool) -> None:
    call, wide = Calls(f, 1), f.out.dtype is float32
    f.room("w", float64, n * n)
    f.room("pivots", whole(), n)
    body = f"""
    for k in range(lo, hi):
{copied("w", "0", "x", "0", "n * n", load(f))}
        {call.line("dgetrf", "n", "n", "&w[0]", "n", "&pivots[0]", INFO)}
        bad = bad | (ints[own] != 0)
"""
    call.kernel(body, {"x": "in0", "w": "w", "pivots": "pivots"}, {"n": n}, 1, ("w", "pivots"))
    call, where = Calls(f, _panels(n, m)), "z" if wide else "y"
    body = f"""
    if hi > lo:
{_given(f, where, "0", "lo", "hi", inverse, "0")}
{_triangles(call, where, "0", "lo", "hi", "&w[0]", "pivots[i]")}
"""
    if wide:
        f.room("z", float64, n * m)
        body += """
        for i in range(n):
            for j in range(lo, hi):
                y[i * m + j] = to_f32(z[i * m + j])
"""
    call.before.append(ONE)
    buffers = {"w": "w", "pivots": "pivots", "y": "out"} | ({"z": "z"} if wide else {}) | ({} if inverse else {"b": "in1"})
    call.kernel(body, buffers, {"n": n, "m": m}, m, ("out", "z") if wide else ("out",))


def _given(f: Form, view: str, at: str, start: str, stop: str, inverse: bool, source: str) -> str:
    """Lines that put columns of B, or of the identity, where they are solved for."""
    value = "select(to_b1(j - i), f8(0.0), f8(1.0))" if inverse else load(f, 1).format(f"b[{source} + i * m + j]")
    return placed(f"for i in range(n):\n    for j in range({start}, {stop}):\n        {view}[{at} + i * m + j] = {value}", 8)


def _triangles(call: Calls, view: str, at: str, start: str, stop: str, factor: str, pivot: str) -> str:
    """Lines that solve for those columns: rows of B by the triangles from the right, then rows exchanged backwards."""
    call.before.append(f"    width = {stop} - {start}")
    place = f"&{view}[{at} + {start}]"
    left = call.line("dtrsm", "'R'", "'U'", "'N'", "'N'", "width", "n", "one", factor, "n", place, "m")
    right = call.line("dtrsm", "'R'", "'L'", "'N'", "'U'", "width", "n", "one", factor, "n", place, "m")
    return placed(f"""
{left}
{right}
for t in range(n):
    i = n - 1 - t
    other = {pivot} - 1
    if other > i:
        for j in range({start}, {stop}):
            kept = {view}[{at} + i * m + j]
            {view}[{at} + i * m + j] = {view}[{at} + other * m + j]
            {view}[{at} + other * m + j] = kept
""", 8)


# ------------------------------------------------------------------------------------------------ inverses
def inv(f: Form) -> None:
    """Inverses: solutions for the columns of the identity."""
    n = f.out.shape[-1]
    if not f.out.size:
        return
    if usual(n) <= LEAST:
        _tiny(f, n, n, True)
    elif usual(n) <= SMALL:
        _small(f, n, n, True)
    else:
        _solve_large(f, n, n, True)


# ------------------------------------------------------------------------------------------------ triangles
def solve_triangular(f: Form) -> None:
    """X with A X = B for a triangle A.  Columns of B are solved for apart where there is one matrix with many of them."""
    (n, m), (upper, unit) = f.out.shape[-2:], f.params
    if not f.out.size:
        return
    if usual(n) <= SMALL or m == 1 and usual(n) <= 4 * SMALL:
        _rows_of_triangle(f, n, m, upper, unit)
        return
    count, dtype = many(f), f.out.dtype
    alone = count == 1 and m > 1
    work = usual(n) ** 2 / 8
    chunks = _panels(n, m) if alone else chunk_rows(count, work * usual(m))
    call = Calls(f, chunks)
    letters = ["'L'" if upper else "'U'", "'T'" if m == 1 else "'N'", "'U'" if unit else "'N'"]
    if m == 1:
        solving = call.line(precise(dtype) + "trsv", *letters, "n", "&x[k * n * n]", "n", "&y[k * n]", "1")
    else:
        columns = "wide" if alone else "m"
        solving = call.line(precise(dtype) + "trsm", "'R'", *letters, columns, "n", "one", "&x[k * n * n]", "n", "&y[at]", "m")
    if alone:
        body = f"""
    k = 0
    at = lo
    if hi > lo:
        for i in range(n):
            for j in range(lo, hi):
                y[i * m + j] = b[i * m + j]
        {solving}
"""
    else:
        body = f"""
    for k in range(lo, hi):
        at = k * n * m
{copied("y", "at", "b", "at", "n * m")}
        {solving}
"""
    call.before = [f"    one = bits_{dtype.code}({'f4' if dtype is float32 else 'f8'}(1.0))", "    wide = hi - lo"]
    call.kernel(body, {"x": "in0", "b": "in1", "y": "out"}, {"n": n, "m": m}, m if alone else count)


def _rows_of_triangle(f: Form, n: int, m: int, upper: bool, unit: bool) -> None:
    """Row by row: what rows before it take off, then its diagonal."""
    row, others = ("n - 1 - t", "range(i + 1, n)") if upper else ("t", "range(i)")
    chunks = chunk_rows(many(f), usual(n) ** 2 * usual(m) / 2 + 4 * usual(n))
    if m == 1:
        total = f"to_{f.out.dtype.code}" if f.out.dtype is float32 else ""
        wide = load(f)
        inner = f"""
            sum = f8(-0.0)
            for p in {others}:
                sum = add_f64(sum, {wide.format("x[at + i * n + p]")} * {wide.format("y[k * n + p]")})
            rest = {wide.format("b[k * n + i]")} - sum
            y[k * n + i] = {total}({"rest" if unit else f"rest / {wide.format('x[at + i * n + i]')}"})
"""
    else:
        divided = """
            for j in range(m):
                y[to + i * m + j] = y[to + i * m + j] / x[at + i * n + i]
""" if not unit else ""
        inner = f"""
            for j in range(m):
                y[to + i * m + j] = b[to + i * m + j]
            for p in {others}:
                q = x[at + i * n + p]
                for j in range(m):
                    y[to + i * m + j] = y[to + i * m + j] - q * y[to + p * m + j]
{divided.strip(chr(10))}
"""
    body = f"""
    for k in range(lo, hi):
        at = k * n * n
        to = k * n * m
        for t in range(n):
            i = {row}
{inner.strip(chr(10))}
"""
    Calls(f, chunks).kernel(body, {"x": "in0", "b": "in1", "y": "out"}, {"n": n, "m": m}, many(f))


# ------------------------------------------------------------------------------------------------ determinants
_RESULT = {"det": "sign * size_of", "detsign": "sign", "logabsdet": "size_of"}


def _determinants(f: Form, what: str) -> None:
    """Products of U's diagonal, in size and sign apart."""
    n = f.avals[0].shape[-1]
    if not f.avals[0].size:
        return
    count = many(f)
    one, put = ("f8(0.0)", "+ log_f64(abs_f64(d))") if what == "logabsdet" else ("f8(1.0)", "* d" if what == "det" else "")
    signed = "" if what == "det" else "sign = select(d < f8(0.0), -sign, select(d > f8(0.0), sign, f8(0.0)))"
    turn = [f"size_of = size_of {put}"] * bool(put) + [signed] * bool(signed)
    if usual(n) <= LEAST:
        out = Lines()
        diagonal, start = determinant(out, _matrix(out, f, n, n))
        lines = ["for k in range(lo, hi):", f"    at = k * {n * n}", *["    " + line for line in out.lines],
                 f"    sign = {start}", f"    size_of = {one}"]
        for d in diagonal:
            lines += [f"    d = {d}", *["    " + line for line in turn]]
        lines.append(f"    y[k] = {store(f).format(_RESULT[what])}")
        Calls(f, chunk_rows(count, 8 * n * n)).kernel(placed("\n".join(lines), 4), {"x": "in0", "y": "out"}, {}, count)
        return
    small = usual(n) <= SMALL
    chunks = chunk_rows(count, usual(n) ** 3 / (3 if small else 12))
    call = Calls(f, chunks)
    f.room("w", float64, chunks * (n * n + 16))
    names = {"w": "w"} | ({} if small else {"pivots": "pivots"})
    factored = placed(elimination(), 8)
    if not small:
        f.room("pivots", whole(), chunks * (n + 32))
        factored = f"""
        {call.line("dgetrf", "n", "n", "&w[base]", "n", "&pivots[first]", INFO)}
        for i in range(n):
            if pivots[first + i] > i + 1:
                sign = -sign
"""
    last = "\n".join("            " + line for line in turn)
    body = f"""
    base = chunk * (n * n + 16)
    first = chunk * (n + 32)
    for k in range(lo, hi):
        sign = f8(1.0)
        least = f8(inf)
        size_of = {one}
{copied("w", "base", "x", "k * n * n", "n * n", load(f))}
{factored}
        for i in range(n):
            d = w[base + i * n + i]
{last}
        y[k] = {store(f).format(_RESULT[what])}
"""
    call.kernel(body, {"x": "in0", "y": "out"} | names, {"n": n}, count, ("out", *names))


def det(f: Form) -> None:
    """Determinants."""
    _determinants(f, "det")


def detsign(f: Form) -> None:
    """Their signs; 0 of what is no number."""
    _determinants(f, "detsign")


def logabsdet(f: Form) -> None:
    """Logarithms of their sizes."""
    _determinants(f, "logabsdet")
