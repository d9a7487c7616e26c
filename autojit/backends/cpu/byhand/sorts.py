"""Sorting as kernels: stable, NaN largest, the same whatever runs it.

In: a `Form`.  Out: its kernels.  Elements become integers of the same order; one of up to 32 bits shares a word with its place,
so that a single array is sorted, one of 64 bits has its place beside it.  Short rows by insertion, longer ones digit by digit
from the last (what all elements have in common is left out); rows go to threads.  Few long rows are sorted by all threads: each
digit is counted chunk by chunk, and so each chunk knows where its elements go.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....dtypes import BOOL, FLOAT, float32, int32, int64
from . import CHUNKS, Form, around, chunk_rows, loaded, placed, usual

SHORT = 32                         # elements up to which a row is sorted by insertion
SMALL = 4096                       # up to which digits have 8 bits, beyond them 11
LONG = 1 << 15                     # from which few rows are sorted by all threads
FEW = 2                            # rows that are few
MANY = 64                          # first elements in order that are found without the others
PAD = 16                           # words between the areas of two chunks
PLACE = 31                         # bits of a place: the axis of a longer row is left to NumPy


@dataclass(frozen=True, slots=True)
class Keys:
    """How elements are sorted.  bits: of a key; packed: does its place stand in the same word?"""

    bits: int
    lines: str                     # from the element `v` to `key`, not negative as packed, else any int64

    @property
    def packed(self) -> bool:
        return self.bits <= 32

    @property
    def shift(self) -> int:
        """Where a key begins in its word."""
        return PLACE if self.packed else 0

    def digits(self, n: int) -> tuple[int, int]:
        """(how many, bits of one)."""
        width = 8 if usual(n) <= SMALL or self.bits <= 16 else 11
        return -(-self.bits // width), width


def _keys(f: Form) -> Keys:
    d, descending = f.avals[0].dtype, f.params[1]
    if d.category == FLOAT:
        bits, kind = (32, "f32") if d is float32 else (64, "f64")
        low = 2 ** (bits - 1) - 1
        lines = [f"word = bits_{kind}(v + {'f4' if bits == 32 else 'f8'}(0.0))",       # one zero
                 f"key = select(isnan_{kind}(v), {low}, select(word < 0, word ^ {low}, word))"]
    else:
        bits, lines = 8 * d.itemsize, ["key = v"]
    if descending:
        lines.append("key = ~key")
    signed = d.category != BOOL and (d.category == FLOAT or d.np.kind == "i")
    if bits < 64:
        offset = 2 ** (bits - 1) if signed else 2 ** bits - 1 if descending else 0
        lines.append(f"key = key + {offset + (1 if descending and not signed else 0)}")
        lines.append(f"key = shl_i64(key, {PLACE}) | t")
    return Keys(bits, "\n".join(lines))


def argsort(f: Form) -> None:
    """The order that sorts an axis."""
    _sorted(f, "y[base + t * inner] = {place}")


def sort(f: Form) -> None:
    """The elements in order along an axis."""
    _sorted(f, "y[base + t * inner] = x[base + ({place}) * inner]")


def _sorted(f: Form, put: str) -> None:
    d = f.avals[0].dtype
    outer, n, inner = around(f.avals[0].shape, f.params[0])
    if d.half or n >= 2 ** PLACE:
        return
    keys = _keys(f)
    if f.first is not None and usual(f.first) <= MANY and usual(f.first) * 4 <= usual(n):
        _best(f, keys, put)
    elif usual(n) <= SHORT:
        _insertion(f, keys, put)
    elif usual(n) > LONG and usual(outer * inner) <= FEW:
        _together(f, keys, put)
    else:
        _digits(f, keys, put)


_ROW = """
        o = index_div(i, inner)
        base = o * n * inner + i - o * inner"""


def _place(keys: Keys, at: str) -> str:
    return f"w[{at}] & {2 ** PLACE - 1}" if keys.packed else f"p[{at}]"


def _rooms(f: Form, keys: Keys, size: int) -> dict[str, str]:
    """Memory for words, and for places beside them."""
    f.room("w", int64, size)
    if keys.packed:
        return {"w": "w"}
    f.room("p", int32, size)
    return {"w": "w", "p": "p"}


# ------------------------------------------------------------------------------------------------ rows by themselves
def _insertion(f: Form, keys: Keys, put: str) -> None:
    outer, n, inner = around(f.avals[0].shape, f.params[0])
    rows = outer * inner
    count = chunk_rows(rows, usual(n) * (4 + usual(n) // 4))
    rooms = _rooms(f, keys, count * (SHORT + PAD))
    beside = "" if keys.packed else "\n                p[own + j] = p[own + j - 1]"
    at = "" if keys.packed else "\n            p[own + j] = t"
    f.kernel(f"""
    own = chunk * {SHORT + PAD}
    for i in range(lo, hi):{_ROW}
        for t in range(n):
            v = {loaded(f.avals[0].dtype, 'x[base + t * inner]')}
{placed(keys.lines, 12)}
            j = t
            while j > 0 and w[own + j - 1] > key:
                w[own + j] = w[own + j - 1]{beside}
                j = j - 1
            w[own + j] = key{at}
        for t in range(n):
            {put.format(place=_place(keys, 'own + t'))}
""", {"x": "in0", **rooms, "y": "out"}, {"n": n, "inner": inner}, rows, count, ("out", *rooms))


def _best(f: Form, keys: Keys, put: str) -> None:
    """The first so many in order, kept sorted while the row is read; only what is better than the last of them is looked at."""
    outer, n, inner = around(f.avals[0].shape, f.params[0])
    rows, d, first = outer * inner, f.avals[0].dtype, f.first or n
    area = usual(first) + PAD
    count = chunk_rows(rows, 2 * usual(n))
    rooms = _rooms(f, keys, count * area)
    moved, put_place = ("", "") if keys.packed else ("p[own + j] = p[own + j - 1]", "p[own + j] = t")
    load = loaded(d, "x[base + t * inner]")

    def insert(start: str) -> str:
        lines = [f"j = {start}", "while j > 0 and w[own + j - 1] > key:", "    w[own + j] = w[own + j - 1]",
                 *[f"    {moved}"] * bool(moved), "    j = j - 1", "w[own + j] = key", *[put_place] * bool(put_place)]
        return "\n".join(lines)

    edge = loaded(d, f"x[base + ({_place(keys, 'own + first - 1')}) * inner]")
    f.kernel(f"""
    own = chunk * {area}
    for i in range(lo, hi):{_ROW}
        for t in range(first):
            v = {load}
{placed(keys.lines, 12)}
{placed(insert('t'), 12)}
        edge = {edge}
        for t in range(first, n):
            v = {load}
            if not (v {'<=' if f.params[1] else '>='} edge):
{placed(keys.lines, 16)}
                if key < w[own + first - 1]:
{placed(insert('first - 1'), 20)}
                    edge = {edge}
        for t in range(first):
            {put.format(place=_place(keys, 'own + t'))}
""", {"x": "in0", **rooms, "y": "out"}, {"n": n, "inner": inner, "first": first}, rows, count, ("out", *rooms))


def _digits(f: Form, keys: Keys, put: str) -> None:
    """Digit by digit between two areas; all digits are counted at once."""
    outer, n, inner = around(f.avals[0].shape, f.params[0])
    rows, (digits, width) = outer * inner, keys.digits(n)
    count = chunk_rows(rows, 8 * digits * usual(n))
    rooms = _rooms(f, keys, count * (2 * n + PAD))
    bins = digits << width
    f.room("c", int32, count * (bins + 2 * PAD))
    sign = "" if keys.packed else f" ^ {-2 ** 63}"          # digits are those of a number that is not negative
    digit = f"(ushr_i64(v, shift) & {2 ** width - 1})"
    mask = 2 ** width - 1
    counted = "\n".join(f"            d = counts + {k << width} + (ushr_i64(key, {keys.shift + k * width}) & {mask})\n"
                        "            c[d] = c[d] + 1" for k in range(digits))
    f.kernel(f"""
    own = chunk * (2 * n + {PAD})
    counts = chunk * {bins + 2 * PAD}
    for i in range(lo, hi):{_ROW}
        for q in range({bins}):
            c[counts + q] = 0
        for t in range(n):
            v = {loaded(f.avals[0].dtype, 'x[base + t * inner]')}
{placed(keys.lines, 12)}{f'''
            key = key{sign}''' if sign else ''}
            w[own + t] = key{'' if keys.packed else '''
            p[own + t] = t'''}
{counted}
        source = own
        target = own + n
        for k in range({digits}):
            shift = {keys.shift} + k * {width}
            first = counts + k * {1 << width}
            v = w[source]
            if c[first + {digit}] != n:
                total = 0
                for q in range(first, first + {1 << width}):
                    many = c[q]
                    c[q] = total
                    total = total + many
                for t in range(source, source + n):
                    v = w[t]
                    d = first + {digit}
                    to = c[d]
                    c[d] = to + 1
                    w[target + to] = v{'' if keys.packed else '''
                    p[target + to] = p[t]'''}
                other = source
                source = target
                target = other
        for t in range(n):
            {put.format(place=_place(keys, 'source + t'))}
""", {"x": "in0", **rooms, "c": "c", "y": "out"}, {"n": n, "inner": inner}, rows, count, ("out", "c", *rooms))


# ------------------------------------------------------------------------------------------------ all threads on a row
def _together(f: Form, keys: Keys, put: str) -> None:
    """For each digit: count it in each chunk of a row, add the counts up, put the chunk's elements where they belong.  Each row
    has two areas; `state` says in which one it stands, and whether the digit at hand moves anything."""
    outer, n, inner = around(f.avals[0].shape, f.params[0])
    rows, (digits, width) = outer * inner, keys.digits(n)
    count, bins = rows * CHUNKS, 1 << width
    rooms = _rooms(f, keys, 2 * rows * n)
    f.room("c", int64, count * bins)
    f.room("state", int64, 2 * rows)
    sizes = {"n": n, "inner": inner, "parts": CHUNKS}
    bounds = """
    for i in range(lo, hi):
        row = index_div(i, parts)
        part = i - row * parts
        begin = index_div(n * part, parts)
        end = index_div(n * (part + 1), parts)
        o = index_div(row, inner)
        base = o * n * inner + row - o * inner"""
    now = "2 * row * n + (state[2 * row] ^ state[2 * row + 1]) * n"
    f.kernel(f"""{bounds}
        if part == 0:
            state[2 * row] = 0
            state[2 * row + 1] = 0
        at = 2 * row * n
        for t in range(begin, end):
            v = {loaded(f.avals[0].dtype, 'x[base + t * inner]')}
{placed(keys.lines, 12)}
            w[at + t] = key{'' if keys.packed else f''' ^ {-2 ** 63}
            p[at + t] = t'''}
""", {"x": "in0", **rooms, "state": "state"}, sizes, count, count, (*rooms, "state"))
    for k in range(digits):
        _by_digit(f, keys, k, bounds, now, rooms, sizes, rows)
    used = rooms if keys.packed else {"p": "p"}
    given = {"x": "in0"} if "x[" in put else {}
    f.kernel(f"""{bounds}
        at = {now}
        for t in range(begin, end):
            {put.format(place=_place(keys, 'at + t'))}
""", {**given, **used, "state": "state", "y": "out"}, sizes, count, count)


def _by_digit(f: Form, keys: Keys, k: int, bounds: str, now: str, rooms: dict[str, str], sizes: dict[str, int],
              rows: int) -> None:
    """Three kernels: counts of digit k in each chunk, where each chunk's elements of each digit begin, and the move."""
    width = keys.digits(sizes["n"])[1]
    count, bins = rows * CHUNKS, 1 << width
    slots = {**sizes, "shift": keys.shift + k * width}
    digit = f"(ushr_i64(v, shift) & {bins - 1})"
    f.kernel(f"""{bounds}
        at = {now}
        for q in range(i * {bins}, (i + 1) * {bins}):
            c[q] = 0
        for t in range(at + begin, at + end):
            v = w[t]
            d = i * {bins} + {digit}
            c[d] = c[d] + 1
""", {"w": "w", "c": "c", "state": "state"}, slots, count, count, ("c",))
    f.kernel(f"""
    for row in range(lo, hi):
        total = 0
        most = 0
        for q in range({bins}):
            before = total
            for part in range(row * parts, (row + 1) * parts):
                many = c[part * {bins} + q]
                c[part * {bins} + q] = total
                total = total + many
            most = maximum_i64(most, total - before)
        state[2 * row] = state[2 * row] ^ state[2 * row + 1]
        state[2 * row + 1] = select(most == n, 0, 1)
""", {"c": "c", "state": "state"}, {"n": sizes["n"], "parts": CHUNKS}, rows, rows, ("c", "state"))
    f.kernel(f"""{bounds}
        if state[2 * row + 1] == 1:
            at = 2 * row * n + state[2 * row] * n
            target = 2 * row * n + (1 - state[2 * row]) * n
            for t in range(at + begin, at + end):
                v = w[t]
                d = i * {bins} + {digit}
                to = c[d]
                c[d] = to + 1
                w[target + to] = v{'' if keys.packed else '''
                p[target + to] = p[t]'''}
""", {**rooms, "c": "c", "state": "state"}, slots, count, count, ("c", *rooms))
