"""Running sums, products, logarithms of sums of exponentials, and places of extremes, as kernels.

In: a ScanStep's geometry (outer, n, inner).  Out: launches.  A long axis is cut into tiles: each tile's total first, then
the totals are scanned in the same way, then each tile runs from what came before it.  Rows that lie one after the other
belong to blocks, columns side by side to threads.  The order of operations depends on sizes alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dtypes import FLOAT, DType, int64
from .handwritten import THREADS, Source, Text, Writer, added, multiplied, number, product, value_dtype, whole

EACH = 4                           # elements of a thread in a tile of a row
TILE = THREADS * EACH
BESIDE = 32                        # columns from which a thread takes one
SHORT = 64                         # elements of a row that a thread runs through alone
SPREAD = 1 << 16                   # threads that keep a card busy
LEAST, MOST = 32, 1024             # elements of a column's tile


@dataclass(frozen=True, slots=True)
class Rule:
    """How values run together: `codes` dtypes of a state, `start` its identity, `join` the lines that make the state `c0, c1`
    the one of c followed by `v0, v1`."""

    dtypes: tuple[DType, ...]
    start: tuple[str, ...]
    join: tuple[str, ...]
    result: int = 0                # which part of the state is the answer


def rule(op: str, d: DType) -> Rule:
    v = value_dtype(d) if d.code != "b1" else int64
    if op == "cumsum":
        return Rule((v,), (number(0, v),), (f"c0 = {added(v, 'c0', 'v0')}",))
    if op == "cumprod":
        return Rule((v,), (number(1, v),), (f"c0 = {multiplied(v, 'c0', 'v0')}",))
    if op == "logcumsumexp":
        t = v.code
        both = f"maximum_{t}(c0, v0) + log1p_{t}(exp_{t}(select(c0 > v0, v0 - c0, c0 - v0)))"
        equal = f"c0 + {number(0.6931471805599453, v)}"
        return Rule((v,), (number(float("-inf"), v),), (f"c0 = select(c0 == v0, {equal}, {both})",))
    sign, low = (">=", True) if op == "cummax" else ("<=", False)
    if v.category == FLOAT:
        start, wins = number(float("-inf" if low else "inf"), v), f"v0 {sign} c0 or v0 != v0"
    else:
        start, wins = number(-2 ** 63 if low else 2 ** 63 - 1, v), f"v0 {sign} c0"
    return Rule((v, int64), (start, number(0, int64)), (f"w = {wins}", "c0 = select(w, v0, c0)", "c1 = select(w, v1, c1)"), 1)


class Scan:
    """The launches of one scan over (outer, n, inner).  `given`: where states come from: the source's elements at the lowest
    level, else areas of one state each; `to`: where they go."""

    def __init__(self, w: Writer, op: str, source: Source, output: Source, outer: int, n: int, inner: int) -> None:
        self.w, self.source, self.output = w, source, output
        self.rule = rule(op, source.dtype)
        self._scan(None, outer, n, inner)

    def _scan(self, states: list[Source] | None, outer: int, n: int, inner: int) -> list[Source]:
        """States (None: the source) scanned; where they are then."""
        columns = outer * inner
        to = states if states is not None else [self.output]
        if inner >= BESIDE or n <= SHORT:
            tile = n if n <= SHORT or columns >= SPREAD else max(LEAST, min(MOST, n * columns // SPREAD))
            tiles = -(-n // tile)
            make, level = self._column, (1, tiles, columns)
        else:
            tile, tiles = TILE, -(-n // TILE)
            make, level = self._row, (columns, tiles, 1)
        before = None
        if tiles > 1:
            totals = [self.w.area("total", d, product(level)) for d in self.rule.dtypes]
            make(states, None, totals, outer, n, inner, tile, tiles)
            before = self._scan(totals, *level)
        make(states, before, to, outer, n, inner, tile, tiles)
        return to

    # ------------------------------------------------------------------ pieces of text
    def _load(self, t: Text, states: list[Source] | None, place: str, at: str) -> list[str]:
        """The state of one element as v0, v1."""
        if states is not None:
            return [f"v{k} = {t.at(s)}[{place}]" for k, s in enumerate(states)]
        out = [f"v0 = {whole(self.source.dtype, f'{t.at(self.source)}[{place}]')}"]
        return out + [f"v1 = to_i64({at})"] * (len(self.rule.dtypes) > 1)

    def _store(self, t: Text, states: list[Source] | None, to: list[Source], place: str) -> list[str]:
        if states is None:
            return [f"{t.at(self.output)}[{place}] = c{self.rule.result}"]
        return [f"{t.at(s)}[{place}] = c{k}" for k, s in enumerate(to)]

    def _start(self) -> list[str]:
        return [f"c{k} = {s}" for k, s in enumerate(self.rule.start)]

    # ------------------------------------------------------------------ a thread a column (and tile)
    def _column(self, states: list[Source] | None, before: list[Source] | None, to: list[Source], outer: int, n: int,
                inner: int, tile: int, tiles: int) -> None:
        """The totals of tiles (`to` are those; `before` None while there are several), or every element's state."""
        totals = before is None and tiles > 1
        t = Text(self.w)
        columns = outer * inner
        t.turns("u", columns * tiles)
        length, beside, step = t.size(n, "length"), t.size(columns, "columns"), t.size(inner, "inner")
        t.add(f"k = u // {beside}", f"j = u % {beside}", f"first = j // {step} * {length} * {step} + j % {step}")
        most = t.size(tile, "tile")
        t.add(f"lo = k * {most}", f"hi = select(lo + {most} < {length}, lo + {most}, {length})")
        t.add(*self._start())
        if before is not None:
            t.add("if k > 0:", *[f"    c{k} = {t.at(s)}[u - {beside}]" for k, s in enumerate(before)])
        t.add("for i in range(lo, hi):")
        place = f"first + i * {step}"
        inside = [*self._load(t, states, place, "i"), *self.rule.join]
        t.add(*["    " + line for line in inside + ([] if totals else self._store(t, states, to, place))])
        if totals:
            t.add(*[f"{t.at(s)}[u] = c{k}" for k, s in enumerate(to)])
        t.over(columns * tiles)

    # ------------------------------------------------------------------ a block a row (and tile)
    def _row(self, states: list[Source] | None, before: list[Source] | None, to: list[Source], outer: int, n: int,
             inner: int, tile: int, tiles: int) -> None:
        totals = before is None and tiles > 1
        t = Text(self.w)
        length, step, parts = t.size(n, "length"), t.size(inner, "inner"), t.size(tiles, "tiles")
        codes = [d.code for d in self.rule.dtypes]
        t.add(*[f"s{k} = shared_{code}({THREADS})" for k, code in enumerate(codes)])
        t.add(f"j = block() // {parts}", f"k = block() % {parts}", f"first = j // {step} * {length} * {step} + j % {step}")
        t.add(f"lo = k * {TILE} + thread() * {EACH}", *self._start())
        place = f"first + i * {step}"
        run = [f"for i in range(lo, select(lo + {EACH} < {length}, lo + {EACH}, {length})):",
               *["    " + line for line in [*self._load(t, states, place, "i"), *self.rule.join]]]
        t.add(*run)
        self._together(t)
        if totals:
            last = [f"    {t.at(s)}[block()] = c{k}" for k, s in enumerate(to)]
            t.add(f"if thread() == {THREADS - 1}:", *last)
        else:
            t.add(*self._start())
            if before is not None:
                t.add("if k > 0:", *[f"    c{k} = {t.at(s)}[block() - 1]" for k, s in enumerate(before)])
            t.add("if thread() > 0:", *[f"    v{k} = s{k}[thread() - 1]" for k in range(len(codes))],
                  *["    " + line for line in self.rule.join])
            t.add(*run, *["    " + line for line in self._store(t, states, to, place)])
        t.launch(product((outer, inner, tiles)))

    def _together(self, t: Text) -> None:
        """The threads' states, scanned in shared memory: c is what a thread and those before it have."""
        parts = range(len(self.rule.dtypes))
        t.add(*[f"s{k}[thread()] = c{k}" for k in parts], "sync()")
        far = 1
        while far < THREADS:
            t.add(f"if thread() >= {far}:", *[f"    v{k} = c{k}" for k in parts],
                  *[f"    c{k} = s{k}[thread() - {far}]" for k in parts], *["    " + line for line in self.rule.join])
            t.add("sync()", *[f"s{k}[thread()] = c{k}" for k in parts], "sync()")
            far *= 2
