"""Sorting along an axis as kernels: blocks sort tiles in shared memory, then runs are merged, twice as long each time.

In: keys, by the line that loads one; how many rows of how many.  Out: launches, and the areas with sorted keys and with the
places where they stood.  Every merge is stable: an element's place is its own run's plus how many of the other run come
before it.  NaN is the largest of all.
"""

from __future__ import annotations

from collections.abc import Callable

from ...dtypes import BOOL, FLOAT, DType, int64
from .handwritten import Source, Text, Writer, places_dtype

TILE = 512                         # elements that a block sorts, one a thread


def before(d: DType, descending: bool, a: str, b: str) -> str:
    """Text of: does a key a come before an equal or other key b, strictly?"""
    if descending:
        a, b = b, a
    return f"({a} < {b} or ({a} == {a} and {b} != {b}))" if d.category == FLOAT else f"({a} < {b})"


def key_dtype(d: DType) -> DType:
    """The dtype of keys in memory: as the source's; bools become integers."""
    return int64 if d.category == BOOL else d


class Sort:
    """Sorts `rows` rows of n keys.  `load(text, row, at)` gives the lines that set `key` from the place `at` of a row, all ix;
    `keys` and `places` are where the sorted ones are afterwards, row after row."""

    def __init__(self, w: Writer, key: DType, rows: int, n: int, load: Callable[[Text, str, str], list[str]],
                 descending: bool = False) -> None:
        self.w, self.key, self.rows, self.n, self.descending = w, key, rows, n, descending
        self.value = key if key.category == FLOAT else int64
        self.keys, self.places = self._areas()
        self._tiles(load)
        if n > TILE:
            others = self._areas()
            width = TILE
            while width < n:
                self._merge(width, *others)
                (self.keys, self.places), others = others, (self.keys, self.places)
                width *= 2

    def _areas(self) -> tuple[Source, Source]:
        size = self.rows * self.n
        return self.w.area("keys", self.key, size), self.w.area("places", places_dtype(self.n), size)

    def _searched(self, t: Text, other: str, low: str, high: str) -> None:
        """Lines that set `a` to the first place from `low` to `high` whose key comes after `key`: of equal ones those of the
        run on the left come first."""
        left, right = (before(self.value, self.descending, x, y) for x, y in (("found", "key"), ("key", "found")))
        t.add(f"a = {low}", f"b = {high}", "while a < b:", "    m = (a + b) // 2", f"    found = {other}[m]",
              f"    early = ({left}) if left else (not {right})",
              "    a = (m + 1) if early else a", "    b = b if early else m")

    def _tiles(self, load: Callable[[Text, str, str], list[str]]) -> None:
        """Each block sorts a tile, merging runs of 1, 2, 4 .. elements."""
        t = Text(self.w, TILE)
        tiles = -(-self.n // TILE)
        t.add(*[f"k{k} = shared_{self.value.code}({TILE})" for k in range(2)])
        t.add(*[f"p{k} = shared_i32({TILE})" for k in range(2)])
        length, parts, most = t.size(self.n, "length"), t.size(tiles, "tiles"), t.size(TILE, "tile")
        t.add(f"row = block() // {parts}", f"first = block() % {parts} * {TILE}", f"rest = {length} - first",
              f"count = select(rest < {most}, rest, {most})")
        t.add("if thread() < count:", *["    " + line for line in load(t, "row", "(first + thread())")],
              "    k0[thread()] = key", "    p0[thread()] = to_i64(thread())", "sync()")
        width, now = 1, 0
        while width < min(TILE, self.n):
            t.add("if thread() < count:")
            t.depth += 1
            t.add(f"key = k{now}[thread()]", f"run = thread() // {2 * width} * {2 * width}", f"left = thread() - run < {width}",
                  f"lo = (run + {width}) if left else run", "lo = select(lo < count, lo, count)",
                  f"hi = select(lo + {width} < count, lo + {width}, count)")
            self._searched(t, f"k{now}", "lo", "hi")
            t.add(f"to = thread() % {width} + run + (a - lo)", f"k{1 - now}[to] = key", f"p{1 - now}[to] = p{now}[thread()]")
            t.depth -= 1
            t.add("sync()")
            width, now = 2 * width, 1 - now
        t.add("if thread() < count:", f"    at = row * {length} + first + thread()",
              f"    {t.at(self.keys)}[at] = k{now}[thread()]",
              f"    {t.at(self.places)}[at] = p{now}[thread()] + to_i64(first)")
        t.launch(self.rows * tiles)

    def _merge(self, width: int, keys: Source, places: Source) -> None:
        """Runs of `width` to runs of twice that, from self.keys and self.places to other areas."""
        t = Text(self.w)
        t.turns("u", self.rows * self.n)
        length, run = t.size(self.n, "length"), t.size(width, "run")
        t.add(f"row = u // {length} * {length}", "at = u - row", f"key = {t.at(self.keys)}[u]")
        t.add(f"pair = at // {run} // 2 * 2 * {run}", f"left = at - pair < {run}",
              f"lo = (pair + {run}) if left else pair", f"lo = select(lo < {length}, lo, {length})",
              f"hi = select(lo + {run} < {length}, lo + {run}, {length})")
        self._searched(t, t.at(self.keys), "row + lo", "row + hi")
        t.add(f"own = (at - pair) if left else (at - pair - {run})", "to = row + pair + own + (a - row - lo)",
              f"{t.at(keys)}[to] = key", f"{t.at(places)}[to] = {t.at(self.places)}[u]")
        t.over(self.rows * self.n)
