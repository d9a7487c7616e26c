"""Adding to, and writing over, elements at places that are data, in an order that never changes.

In: a ScatterStep's or SetStep's geometry.  Out: launches.  Additions: the places are sorted, so equal ones lie side by side
in the order of the values; tiles of them are summed, then what goes over the edges of tiles.  Writing over: the last value
of each place is found first.  No float is ever added by two threads to one place at a time.
"""

from __future__ import annotations

from ...dtypes import BOOL, int32
from ...errors import CompileError
from ...schedule.loops import ScatterStep, SetStep
from .handwritten import WIDE, Source, Text, Writer, added, number, places_dtype, value_dtype
from .sorting import Sort

LEAST, MOST = 32, 1024             # sorted places in a tile
UNITS = 1 << 14                    # threads that sums of tiles should have
BESIDE = 32                        # sums side by side from which a thread joins the tiles of one


class _Places:
    """The key of each t, and where values and results lie."""

    def __init__(self, w: Writer, step: ScatterStep | SetStep) -> None:
        self.w, self.step = w, step
        self.index, self.values, self.output = w.buffer(step.index), w.buffer(step.values), w.buffer(step.output)

    def key(self, t: Text, at: str, name: str = "key") -> list[str]:
        """Lines that set `name` to the key (ix) of the ix `at`: n, which is no place, where the index is out of its axis."""
        step = self.step
        extent = t.size(step.extent, "extent")
        lines = [f"place = {t.at(self.index)}[{at}]", f"inside = place >= to_i64(0) and place < to_i64({extent})"]
        if not step.dims:
            return [*lines, f"{name} = to_ix(place) if inside else {t.size(step.n, 'n')}"]
        words = [f"to_ix(place) * {t.size(step.stride, 'stride')}"]
        lines.append(f"rest = {at}")
        for d, (long, stride) in reversed(list(enumerate(step.dims))):
            n = t.size(long, f"extent {d}")
            if stride:
                lines.append(f"z{d} = rest % {n} * {t.size(stride, f'stride {d}')}")
                words.append(f"z{d}")
            lines.append(f"rest = rest // {n}")
        return [*lines, f"{name} = ({' + '.join(words)}) if inside else {t.size(step.n, 'n')}"]


class Scatter(_Places):
    """output[o, key(t), q] += values[o, t, q]."""

    def __init__(self, w: Writer, step: ScatterStep) -> None:
        super().__init__(w, step)
        if step.m >= WIDE:
            raise CompileError(f"{step.m} values to add at places that are data: 2**31 - 1 are the most on a GPU")
        sort = Sort(w, places_dtype(step.n + 1), 1, step.m, self._sorted_key)
        self.keys, self.places = sort.keys, sort.places
        self.beside = step.outer * step.inner
        self.tile = max(LEAST, min(MOST, int(step.m ** 0.5), step.m * self.beside // UNITS))
        self.tiles = -(-step.m // self.tile)
        self.d = value_dtype(self.output.dtype)
        edges = [w.area(what, self.d, self.tiles * self.beside) for what in ("head", "tail")] if self.tiles > 1 else []
        self._tile_sums(edges)
        if edges:
            self._joined(*edges)

    def _sorted_key(self, t: Text, row: str, at: str) -> list[str]:
        return [*self.key(t, at, "spot"), "key = to_i64(spot)"]

    def _coordinates(self, t: Text, unit: str) -> None:
        """c (tile), o, q of a unit."""
        inner, outer = t.size(self.step.inner, "inner"), t.size(self.step.outer, "outer")
        t.add(f"q = {unit} % {inner}", f"o = {unit} // {inner} % {outer}", f"c = {unit} // {inner} // {outer}")

    def _bounds(self, t: Text) -> None:
        m, tile = t.size(self.step.m, "m"), t.size(self.tile, "tile")
        t.add(f"lo = c * {tile}", f"hi = select(lo + {tile} < {m}, lo + {tile}, {m})")
        self.m, self.length = m, tile

    def _added(self, t: Text, key: str, value: str) -> list[str]:
        """Lines that add to the output, unless the key is no place."""
        n, inner = t.size(self.step.n, "n"), t.size(self.step.inner, "inner")
        out = t.at(self.output)
        return [f"if {key} < to_i64({n}):", f"    to = (o * {n} + to_ix({key})) * {inner} + q",
                f"    {out}[to] = {added(self.output.dtype, f'{out}[to]', value)}"]

    def _tile_sums(self, edges: list[Source]) -> None:
        """A thread for each tile and (o, q): runs inside the tile are added to the output; one that began before it goes to its
        head, one that goes on after it, if it began in it, to its tail."""
        t = Text(self.w)
        units = self.tiles * self.beside
        t.turns("u", units)
        self._coordinates(t, "u")
        self._bounds(t)
        keys, places, values = t.at(self.keys), t.at(self.places), t.at(self.values)
        zero = number(0, self.d)
        t.add(f"key = {keys}[lo]", f"early = lo > 0 and {keys}[lo - 1 if lo > 0 else lo] == key", f"total = {zero}")
        m, inner = t.size(self.step.m, "m"), t.size(self.step.inner, "inner")
        close = self._added(t, "key", "total")
        if edges:
            close = ["if early:", f"    {t.at(edges[0])}[u] = total", "else:", *["    " + line for line in close]]
        t.add("for i in range(lo, hi):", f"    new = {keys}[i]", "    if new != key:", *["        " + line for line in close],
              "        key = new", "        early = False", f"        total = {zero}",
              f"    total = {added(self.output.dtype, 'total', f'{values}[(o * {m} + to_ix({places}[i])) * {inner} + q]')}")
        if edges:
            t.add("if early:", f"    {t.at(edges[0])}[u] = total", "else:",
                  f"    late = hi < {self.m} and {keys}[hi if hi < {self.m} else lo] == key", "    if late:",
                  f"        {t.at(edges[1])}[u] = total", "    else:",
                  *["        " + line for line in self._added(t, "key", "total")])
        else:
            t.add(*close)
        t.over(units)

    def _joined(self, head: Source, tail: Source) -> None:
        """Runs over the edges of tiles: the tail of the tile they begin in and the heads of those after it."""
        alone = self.beside >= BESIDE or self.d.category == BOOL     # a warp has no word that joins bools
        t = Text(self.w)
        units = self.tiles * self.beside
        t.turns("u", units if alone else units * 32)
        if alone:
            t.add("w = u")
        else:
            t.add("w = u // 32", "lane = u % 32")
        self._coordinates(t, "w")
        self._bounds(t)
        keys = t.at(self.keys)
        count, beside, inner = t.size(self.tiles, "tiles"), t.size(self.beside, "beside"), t.size(self.step.inner, "inner")
        t.add(f"key = {keys}[hi - 1]", f"late = hi < {self.m} and {keys}[hi if hi < {self.m} else lo] == key",
              f"begins = {keys}[lo] != key or lo == 0 or {keys}[lo - 1 if lo > 0 else lo] != key", "if late and begins:")
        t.depth += 1
        more = f"{t.at(head)}[k * {beside} + o * {inner} + q]"
        going = f"while k < {count} and {keys}[(k if k < {count} else c) * {self.length}] == key:"
        zero = number(0, self.d)
        if alone:
            t.add(f"total = {t.at(tail)}[w]", "k = c + 1", going, f"    total = {added(self.output.dtype, 'total', more)}",
                  "    k = k + 1", *self._added(t, "key", "total"))
        else:
            t.add(f"total = {zero}", "if lane == 0:", f"    total = {t.at(tail)}[w]", "k = c + 1 + lane", going,
                  f"    total = {added(self.output.dtype, 'total', more)}", "    k = k + 32",
                  f"total = warp_sum_{self.d.code}(total, 32)", "if lane == 0:",
                  *["    " + line for line in self._added(t, "key", "total")])
        t.over(units if alone else units * 32)


class Set(_Places):
    """output[o, key(t), q] := values[o, t, q] of the last t with that key."""

    def __init__(self, w: Writer, step: SetStep) -> None:
        super().__init__(w, step)
        if step.m >= WIDE:
            raise CompileError(f"{step.m} values to write at places that are data: 2**31 - 1 are the most on a GPU")
        last = w.area("last", int32, step.n)
        t = Text(w)
        t.turns("u", step.n)
        t.add(f"{t.at(last)}[u] = to_i64(-1)")
        t.over(step.n)
        t = Text(w)
        t.turns("u", step.m)
        t.add(*self.key(t, "u"), f"if key < {t.size(step.n, 'n')}:", f"    old = atomic_max_i32({t.at(last)}, key, to_i64(u))")
        t.over(step.m)
        self._written(last)

    def _written(self, last: Source) -> None:
        step = self.step
        t = Text(self.w)
        total = step.outer * step.m * step.inner
        t.turns("u", total)
        m, n, inner = t.size(step.m, "m"), t.size(step.n, "n"), t.size(step.inner, "inner")
        t.add(f"q = u % {inner}", f"i = u // {inner} % {m}", f"o = u // {inner} // {m}", *self.key(t, "i"), f"if key < {n}:",
              f"    if {t.at(last)}[key] == to_i64(i):",
              f"        {t.at(self.output)}[(o * {n} + key) * {inner} + q] = {t.at(self.values)}[u]")
        t.over(total)
