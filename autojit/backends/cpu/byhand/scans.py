"""Running sums, products, extremes and logarithms of sums as kernels.

In: a `Form`.  Out: its kernels.  An array is (outer, n, inner), the axis in the middle.  Along the last axis each row is a
chain; along another, columns stand side by side and rows are read in order.  A running sum along the last axis goes block by
block: the sums of a block's eight parts first, then all eight parts side by side, each from where it starts, so that no
addition waits for the one before; long rows that are few go in chunks likewise.  float32 is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....dtypes import BOOL, FLOAT, DType, float32, float64, int64
from . import CHUNKS, Form, around, chunk_rows, loaded, usual

PART = 64                          # elements of one of a block's eight parts
BLOCK = 8 * PART
LONG = 1 << 15                     # elements of a row from which few of them go in chunks
WIDE = 256                         # columns that stand side by side
FEW = 4                            # rows that are few


class Chain:
    """What is carried from element to element.  state: (name, dtype, what it is at first); turn: lines that take the element
    `v` in, and its place `here` along the axis; value: what is stored; cost: of a turn, an addition being 1."""

    def __init__(self, state: Sequence[tuple[str, DType, str]], turn: str, value: str, cost: int) -> None:
        self.state, self.turn, self.value, self.cost = state, turn.strip("\n").split("\n"), value, cost

    def lines(self, indent: str) -> str:
        return "\n".join(indent + line for line in self.turn)


# ------------------------------------------------------------------------------------------------ rows and columns
def _run(f: Form, rows: Chain, columns: Chain | None = None) -> None:
    """The chain along the form's axis: as it is for rows, and as it is for columns if that differs."""
    outer, n, inner = around(f.out.shape, f.params[0])
    if inner > 1:
        _columns(f, columns or rows, outer, n, inner)
        return
    start = "\n".join(f"        {name} = {value}" for name, _, value in rows.state)
    f.kernel(f"""
    for i in range(lo, hi):
{start}
        for here in range(n):
            v = {_wide(f, 'x[i * n + here]')}
{rows.lines(' ' * 12)}
            y[i * n + here] = {rows.value}
""", {"x": "in0", "y": "out"}, {"n": n}, outer, chunk_rows(outer, rows.cost * usual(n)))


def _columns(f: Form, c: Chain, outer: int, n: int, inner: int) -> None:
    """WIDE columns at most at a time: what each carries waits in a row of its own."""
    groups = -(-inner // WIDE)
    count = chunk_rows(outer * groups, c.cost * usual(n) * min(usual(inner), WIDE))
    area = WIDE + 16
    for name, dtype, _ in c.state:
        f.room(f"{name}s", dtype, count * area)
    start = "\n".join(f"            {name}s[own + q] = {value}" for name, _, value in c.state)
    taken = "\n".join(f"                {name} = {name}s[own + q]" for name, _, _ in c.state)
    put = "\n".join(f"                {name}s[own + q] = {name}" for name, _, _ in c.state)
    rooms = {f"{name}s": f"{name}s" for name, _, _ in c.state}
    f.kernel(f"""
    own = chunk * {area}
    for i in range(lo, hi):
        a = index_div(i, groups)
        left = index_mod(i, groups) * {WIDE}
        width = minimum_i64(inner - left, {WIDE})
        for q in range(width):
{start}
        for here in range(n):
            at = (a * n + here) * inner + left
            for q in range(width):
                v = {_wide(f, 'x[at + q]')}
{taken}
{c.lines(' ' * 16)}
{put}
                y[at + q] = {c.value}
""", {"x": "in0", "y": "out", **rooms}, {"n": n, "inner": inner, "groups": groups}, outer * groups, count, ("out", *rooms))


def _wide(f: Form, value: str) -> str:
    """An element in the dtype that is computed in."""
    d = f.avals[0].dtype
    return f"to_f64({value})" if d is float32 else loaded(d, value)


def _stored(f: Form, value: str) -> str:
    return f"to_f32({value})" if f.out.dtype is float32 else value


def _room(f: Form) -> DType:
    return float64 if f.avals[0].dtype.category == FLOAT else int64


# ------------------------------------------------------------------------------------------------ running sums
def cumsum(f: Form) -> None:
    """Running sums along an axis."""
    if f.out.dtype.category == BOOL or f.out.dtype.half:
        return
    outer, n, inner = around(f.out.shape, f.params[0])
    real = f.out.dtype.category == FLOAT
    if inner > 1:
        add = "sum + v" if real else "add_i64(sum, v)"
        _run(f, Chain([("sum", _room(f), _zero(f))], f"sum = {add}", _stored(f, "sum"), 2))
    elif usual(n) > LONG and usual(outer) <= FEW:
        _long(f, outer, n)
    else:
        f.kernel("    for i in range(lo, hi):\n" + _row(f, "i * n", "i * n + n", _zero(f)), {"x": "in0", "y": "out"}, {"n": n},
                 outer, chunk_rows(outer, 2 * usual(n)))


def _zero(f: Form) -> str:
    """What changes nothing that is added to it, a zero's sign neither."""
    return "f8(-0.0)" if f.out.dtype.category == FLOAT else "0"


def _row(f: Form, first: str, last: str, start: str) -> str:
    """Lines that store the running sums of x[first:last], which begin with `start`."""
    real = f.out.dtype.category == FLOAT

    def load(at: str) -> str:
        return _wide(f, f"x[{at}]")

    def add(a: str, b: str, free: bool = False) -> str:
        return f"{a} + {b}" if real and not free else f"add_{'f64' if real else 'i64'}({a}, {b})"

    lines = [f"first = {first}", f"last = {last}", f"sum = {start}",
             f"full = first + index_div(last - first, {BLOCK}) * {BLOCK}",
             f"for b in range(first, full, {BLOCK}):"]
    for k in range(7):
        lines += [f"    s{k} = {_zero(f)}", f"    for t in range(b + {k * PART}, b + {(k + 1) * PART}):",
                  f"        s{k} = {add(f's{k}', load('t'), True)}"]
    lines.append("    r0 = sum")
    for k in range(7):
        lines.append(f"    r{k + 1} = {add(f'r{k}', f's{k}')}")
    lines.append(f"    for t in range(b, b + {PART}):")
    for k in range(8):
        at = f"t + {k * PART}" if k else "t"
        lines += [f"        r{k} = {add(f'r{k}', load(at))}", f"        y[{at}] = {_stored(f, f'r{k}')}"]
    lines += ["    sum = r7", "for t in range(full, last):", f"    sum = {add('sum', load('t'))}",
              f"    y[t] = {_stored(f, 'sum')}"]
    return "\n".join(" " * 8 + line for line in lines)


def _long(f: Form, outer: int, n: int) -> None:
    """Each row in `parts` parts: their sums, then each part from the sum of those before it."""
    parts, rows = CHUNKS, CHUNKS * outer
    real = f.out.dtype.category == FLOAT
    bounds = """    for i in range(lo, hi):
        row = index_div(i, parts)
        k = index_mod(i, parts)
        begin = row * n + index_div(n * k, parts)
        end = row * n + index_div(n * (k + 1), parts)
"""
    sizes = {"n": n, "parts": parts}
    f.room("sums", _room(f), rows)
    f.kernel(bounds + f"""        sum = {_zero(f)}
        for t in range(begin, end):
            sum = add_{'f64' if real else 'i64'}(sum, {_wide(f, 'x[t]')})
        sums[i] = sum
""", {"x": "in0", "sums": "sums"}, sizes, rows, rows, ("sums",))
    f.kernel(bounds + f"""        start = {_zero(f)}
        for p in range(row * parts, i):
            start = {'start + sums[p]' if real else 'add_i64(start, sums[p])'}
""" + _row(f, "begin", "end", "start"), {"x": "in0", "sums": "sums", "y": "out"}, sizes, rows, rows)


# ------------------------------------------------------------------------------------------------ other chains
def cumprod(f: Form) -> None:
    """Running products along an axis."""
    if f.out.dtype.category == BOOL or f.out.dtype.half:
        return
    real = f.out.dtype.category == FLOAT
    turn = "product = product * v" if real else "product = mul_i64(product, v)"
    _run(f, Chain([("product", _room(f), "f8(1.0)" if real else "1")], turn, _stored(f, "product"), 3))


def cumarg(f: Form) -> None:
    """The place of the last extreme so far; a NaN is one, and no number after it."""
    d, largest = f.avals[0].dtype, f.params[1]
    if d.half:
        return
    better, ends = (">=", ("f8(-inf)", -2 ** 63)) if largest else ("<=", ("f8(inf)", 2 ** 63 - 1))
    real = d.category == FLOAT
    test = f"(v {better} best) | (v != v)" if real else f"v {better} best"
    outer, n, inner = around(f.out.shape, f.params[0])
    if inner == 1:                                        # from one extreme to the next: nothing waits in between
        f.kernel(f"""
    for i in range(lo, hi):
        here = i * n
        while here < (i + 1) * n:
            best = {_wide(f, 'x[here]')}
            place = here - i * n
            y[here] = place
            here = here + 1
            more = True
            while more and here < (i + 1) * n:
                v = {_wide(f, 'x[here]')}
                more = not ({test})
                if more:
                    y[here] = place
                    here = here + 1
""", {"x": "in0", "y": "out"}, {"n": n}, outer, chunk_rows(outer, 2 * usual(n)))
        return
    state = [("best", _room(f), ends[0] if real else str(ends[1])), ("place", int64, "0")]
    _run(f, Chain(state, f"hit = {test}\nbest = select(hit, v, best)\nplace = select(hit, here, place)", "place", 3))


def logcumsumexp(f: Form) -> None:
    """The greatest so far, and the sum of exponentials of what lies between it and each."""
    if f.out.dtype.category != FLOAT or f.out.dtype.half:
        return
    state = [("top", float64, "f8(-inf)"), ("sum", float64, "f8(0.0)")]
    value = _stored(f, "top + log_f64(sum)")
    _run(f, Chain(state, """
if v > top:
    sum = sum * exp_f64(top - v) + f8(1.0)
    top = v
elif v == top:
    sum = sum + f8(1.0)
else:
    sum = sum + exp_f64(v - top)
""", value, 30), Chain(state, """
high = select(v > top, v, top)
sum = sum * select(top == high, f8(1.0), exp_f64(top - high)) + select(v == high, f8(1.0), exp_f64(v - high))
top = high
""", value, 10))
