"""Running sums as kernels.

In: a `Form`.  Out: its kernels.  An array is (outer, n, inner), the axis in the middle.  Where the axis is the last one, a row
is summed up block by block: the sums of a block's eight parts first, then all eight parts side by side, each from where it
starts, so that no addition waits for the one before.  Long rows that are few go in chunks: their sums first, then each from
where it starts.  Along another axis, columns stand side by side.  float32 is added up in float64.
"""

from __future__ import annotations

from ....dtypes import FLOAT, float32, float64, int64
from . import CHUNKS, Form, around, chunks, usual

PART = 64                          # elements of one of a block's eight parts
BLOCK = 8 * PART
LONG = 1 << 15                     # elements of a row from which few of them go in chunks
WIDE = 256                         # columns that are summed up side by side
FEW = 4                            # rows that are few


def _words(f: Form) -> dict[str, str]:
    """What stands in the text for the dtype's words: how to load, add up, store."""
    d = f.out.dtype
    if d.category != FLOAT:
        return {"zero": "0", "load": "{}", "store": "{}", "add": "add_i64({}, {})", "free": "add_i64({}, {})"}
    wide = d is float32
    return {"zero": "f8(-0.0)", "load": "to_f64({})" if wide else "{}", "store": "to_f32({})" if wide else "{}",
            "add": "{} + {}", "free": "add_f64({}, {})"}


def _row(w: dict[str, str], indent: str, first: str, last: str, start: str) -> str:
    """Lines that store the running sums of x[first:last], which begin with `start`; what is left in `sum` is the last one."""
    def load(at: str) -> str:
        return w["load"].format(f"x[{at}]")

    lines = [f"sum = {start}", f"full = {first} + index_div({last} - {first}, {BLOCK}) * {BLOCK}",
             f"for b in range({first}, full, {BLOCK}):"]
    for k in range(8):
        lines.append(f"    s{k} = {w['zero']}")
    for k in range(7):
        lines += [f"    for t in range(b + {k * PART}, b + {(k + 1) * PART}):",
                  f"        s{k} = {w['free'].format(f's{k}', load('t'))}"]
    lines.append("    r0 = sum")
    for k in range(7):
        lines.append(f"    r{k + 1} = {w['add'].format(f'r{k}', f's{k}')}")
    lines.append(f"    for t in range(b, b + {PART}):")
    for k in range(8):
        at = f"t + {k * PART}" if k else "t"
        lines += [f"        r{k} = {w['add'].format(f'r{k}', load(at))}", f"        y[{at}] = {w['store'].format(f'r{k}')}"]
    lines.append("    sum = r7")
    lines += [f"for t in range(full, {last}):", f"    sum = {w['add'].format('sum', load('t'))}",
              f"    y[t] = {w['store'].format('sum')}"]
    return "\n".join(indent + line for line in lines)


def cumsum(f: Form) -> None:
    """Running sums along an axis."""
    outer, n, inner = around(f.out.shape, f.params[0])
    if inner > 1:
        _columns(f, outer, n, inner)
    elif usual(n) > LONG and usual(outer) <= FEW:
        _long(f, outer, n)
    else:
        w = _words(f)
        body = "    for i in range(lo, hi):\n" + _row(w, "        ", "i * n", "i * n + n", w["zero"])
        f.kernel(body, {"x": "in0", "y": "out"}, {"n": n}, outer, chunks(outer, 2 * usual(n)))


def _long(f: Form, outer: int, n: int) -> None:
    """Each row in `parts` parts: their sums, then each part from the sum of those before it."""
    w, parts = _words(f), CHUNKS
    rows = parts * outer
    bounds = """    for i in range(lo, hi):
        row = index_div(i, parts)
        k = index_mod(i, parts)
        first = row * n + index_div(n * k, parts)
        last = row * n + index_div(n * (k + 1), parts)
"""
    sizes = {"n": n, "parts": parts}
    f.room("sums", float64 if f.out.dtype.category == FLOAT else int64, rows)
    f.kernel(bounds + f"""
        sum = {w['zero']}
        for t in range(first, last):
            sum = {w['free'].format('sum', w['load'].format('x[t]'))}
        sums[i] = sum
""".lstrip("\n"), {"x": "in0", "sums": "sums"}, sizes, rows, rows, ("sums",))
    f.kernel(bounds + f"""
        start = {w['zero']}
        for p in range(row * parts, i):
            start = {w['add'].format('start', 'sums[p]')}
""".lstrip("\n") + _row(w, "        ", "first", "last", "start"), {"x": "in0", "sums": "sums", "y": "out"}, sizes, rows, rows)


def _columns(f: Form, outer: int, n: int, inner: int) -> None:
    """Rows of columns that stand side by side, WIDE at most at a time: n rows are read in order, sums wait in a row."""
    w = _words(f)
    wide = float64 if f.out.dtype.category == FLOAT else int64
    groups = -(-inner // WIDE)
    count = chunks(outer * groups, 2.0 * usual(n) * min(usual(inner), WIDE))
    f.room("sums", wide, count * (WIDE + 16))
    body = f"""
    own = chunk * {WIDE + 16}
    for i in range(lo, hi):
        a = index_div(i, groups)
        left = index_mod(i, groups) * {WIDE}
        width = minimum_i64(inner - left, {WIDE})
        for q in range(width):
            sums[own + q] = {w['zero']}
        for t in range(n):
            at = (a * n + t) * inner + left
            for q in range(width):
                sum = {w['add'].format('sums[own + q]', w['load'].format('x[at + q]'))}
                sums[own + q] = sum
                y[at + q] = {w['store'].format('sum')}
"""
    f.kernel(body, {"x": "in0", "sums": "sums", "y": "out"}, {"n": n, "inner": inner, "groups": groups}, outer * groups, count,
             ("out", "sums"))
