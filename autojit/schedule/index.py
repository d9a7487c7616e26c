"""Index algebra: sizes that remember their origin, canonical loop ranges, interned affine indices.

In: extents and axes.  Out: `Size` (an int with provenance), `Range` (a loop variable), `Ix` (const + sum of terms).
Within one `Space` equal indices are one object, so that equality is identity.  Never knows graphs, buffers or text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Poly = tuple[tuple[tuple[Any, ...], int], ...]


class Size(int):
    """A number with its origin: compares and computes as the int it is, but two sizes are the same *slot* of a kernel only
    if they are the same polynomial over axes and parameters, whatever their values.

    >>> rows, columns = Size(64, ("axis", 1)), Size(64, ("axis", 2))
    >>> rows == columns, provenance(rows * 2) == provenance(2 * rows), provenance(rows) == provenance(columns)
    (True, True, False)
    """

    how: tuple[Any, ...]
    known: Poly | None = None                             # its provenance, once that was asked for

    def __new__(cls, value: int, how: tuple[Any, ...]) -> Size:
        self = int.__new__(cls, value)
        self.how = how
        return self

    def __add__(self, other: int) -> int:
        if type(other) is int and other == 0:
            return self
        return Size(int(self) + int(other), ("+", self, other))

    __radd__ = __add__

    def __mul__(self, other: int) -> int:
        if type(other) is int and (other == 0 or other == 1):
            return self if other else 0
        return Size(int(self) * int(other), ("*", self, other))

    __rmul__ = __mul__

    def __neg__(self) -> int:
        return Size(-int(self), ("*", self, -1))

    def __sub__(self, other: int) -> int:
        return self + -other

    def __rsub__(self, other: int) -> int:
        return -self + other


def _times(a: dict[Any, int], b: dict[Any, int]) -> dict[Any, int]:
    out: dict[Any, int] = {}
    for m, p in a.items():
        for n, q in b.items():
            key = tuple(sorted(m + n, key=repr)) if m and n else m or n
            out[key] = out.get(key, 0) + p * q
    return out


def _poly(s: int) -> dict[Any, int]:
    if type(s) is not Size:
        return {(): int(s)}
    kind = s.how[0]
    if kind == "*":
        return _times(_poly(s.how[1]), _poly(s.how[2]))
    if kind == "+":
        out = dict(_poly(s.how[1]))
        for m, c in _poly(s.how[2]).items():
            out[m] = out.get(m, 0) + c
        return out
    return {(s.how,): 1}


def provenance(s: int) -> Poly:
    """The polynomial that a size is: equal for sizes that are equal whatever the extents."""
    if type(s) is not Size:
        return (((), int(s)),)
    found = s.known
    if found is None:
        found = s.known = tuple(sorted([(m, c) for m, c in _poly(s).items() if c], key=repr))
    return found


def literal(s: int) -> bool:
    """Is it a constant of the text (no extent or parameter in it)?"""
    return type(s) is not Size or all([m == () for m, _ in provenance(s)])


def usual(s: int) -> int:
    """A size that stands for all of its class: what costs are counted with, so that all sizes of a class have one schedule.
    Classes end at powers of two (65 to 128, 129 to 256), axis by axis; constants of the text stand for themselves.

    >>> usual(Size(100, ("axis", 1)) * 784), usual(100)
    (100352, 100)
    """
    if type(s) is not Size:
        return s
    kind = s.how[0]
    if kind == "*":
        return usual(s.how[1]) * usual(s.how[2])
    if kind == "+":
        return usual(s.how[1]) + usual(s.how[2])
    return 1 << (int(s) - 1).bit_length() if s > 0 else int(s)


def quotient(a: int, b: int) -> int:
    """a / b where b divides a."""
    if int(b) == 1:
        return a
    if int(a) == int(b):
        return 1
    value = int(a) // int(b)
    if type(a) is not Size and type(b) is not Size:
        return value
    return Size(value, ("/", provenance(a), provenance(b)))


def remainder(a: int, b: int) -> int:
    value = int(a) % int(b)
    if value == 0 or type(a) is not Size and type(b) is not Size:
        return value
    return Size(value, ("%", provenance(a), provenance(b)))


class Range:
    """A loop variable: the k-th over an axis.  `bit` stands for it in sets of ranges; costs are counted for `usual` turns."""

    __slots__ = ("axis", "k", "extent", "usual", "bit", "uid", "free", "lo", "hi", "data")

    def __init__(self, axis: int, k: int, extent: int, number: int, uid: int) -> None:
        self.axis, self.k, self.extent, self.bit, self.uid = axis, k, extent, 1 << number, uid
        self.free, self.lo, self.hi, self.data = self.bit, 0, int(extent) - 1, ()
        self.usual = usual(extent)

    def __repr__(self) -> str:
        return f"r{self.axis}.{self.k}<{int(self.extent)}"


def mask_of(ranges: Iterable[Range]) -> int:
    """A set of ranges as bits."""
    mask = 0
    for r in ranges:
        mask |= r.bit
    return mask


class Ix:
    """const + sum of coefficient * term.  A term is a Range or a Derived.  `lo`, `hi`: what it can be; `free`: the
    ranges it needs; `data`: the scalars it is computed from."""

    __slots__ = ("const", "terms", "free", "lo", "hi", "data", "uid")

    const: int
    terms: tuple[tuple[Any, int], ...]
    free: int
    lo: int
    hi: int
    data: tuple[Any, ...]
    uid: int

    def __repr__(self) -> str:
        words = [f"{int(c)}*{t!r}" for t, c in self.terms] + [str(int(self.const))]
        return " + ".join(words)


class Derived:
    """A term that is no loop variable: `div` and `mod` of an index by n, `clamp` (at least 0), `data` (a scalar)."""

    __slots__ = ("kind", "of", "n", "free", "lo", "hi", "data", "uid")

    def __init__(self, kind: str, of: Any, n: int, free: int, lo: int, hi: int, data: tuple[Any, ...], uid: int) -> None:
        self.kind, self.of, self.n, self.free, self.lo, self.hi, self.data, self.uid = kind, of, n, free, lo, hi, data, uid

    def __repr__(self) -> str:
        return f"{self.kind}({self.of!r},{int(self.n)})"


def _sizekey(s: int) -> Any:
    return (s, provenance(s)) if type(s) is Size else s


class Space:
    """The ranges and indices of one group of kernels."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []
        self._range: dict[tuple[int, int], Range] = {}
        self._ix: dict[Any, Ix] = {}
        self._derived: dict[Any, Derived] = {}
        self._vars: dict[Range, Ix] = {}
        self._uid = 0
        self.most = 1 << 60                                # values in one kernel, above which its group is to be cut
        self.zero = self.const(0)

    def _next(self) -> int:
        self._uid += 1
        return self._uid

    def range(self, axis: int, k: int, extent: int) -> Range:
        r = self._range.get((axis, k))
        if r is None:
            r = self._range[axis, k] = Range(axis, k, extent, len(self.ranges), self._next())
            self.ranges.append(r)
        return r

    def fresh(self, axis: int, extent: int, used: int) -> Range:
        """The first range over `axis` that is not among `used`: the canonical choice that makes equal demands equal."""
        k = 0
        while True:
            r = self.range(axis, k, extent)
            if not r.bit & used:
                return r
            k += 1

    def members(self, mask: int) -> list[Range]:
        out = []
        while mask:
            low = mask & -mask
            out.append(self.ranges[low.bit_length() - 1])
            mask ^= low
        return out

    def innermost(self, mask: int, order: dict[int, int]) -> Range:
        """The one of a set of ranges whose loop stands innermost; `order`: the rank of each axis."""
        return max(self.members(mask), key=lambda r: (r.k, order.get(r.axis, -1), r.uid))

    def points(self, mask: int) -> int:
        """The product of the extents of a set of ranges."""
        n = 1
        while mask:
            low = mask & -mask
            n *= self.ranges[low.bit_length() - 1].hi + 1
            mask ^= low
        return n

    def usual(self, mask: int) -> int:
        """How many points costs are counted for: `points` of the ranges' usual extents."""
        n = 1
        while mask:
            low = mask & -mask
            n *= self.ranges[low.bit_length() - 1].usual
            mask ^= low
        return n

    # ------------------------------------------------------------------ construction
    def make(self, const: int, terms: dict[Any, int]) -> Ix:
        items = [(t, c) for t, c in terms.items() if c]
        if len(items) > 1:
            items.sort(key=lambda tc: tc[0].uid)
        key = (_sizekey(const), tuple([(t.uid, _sizekey(c)) for t, c in items]))
        ix = self._ix.get(key)
        if ix is None:
            ix = self._ix[key] = Ix()
            ix.const, ix.terms, ix.uid = const, tuple(items), self._next()
            free, lo, hi, data = 0, int(const), int(const), []
            for t, c in items:
                free |= t.free
                a, b = int(c) * t.lo, int(c) * t.hi
                lo, hi = lo + min(a, b), hi + max(a, b)
                data += [d for d in t.data if d not in data]
            ix.free, ix.lo, ix.hi, ix.data = free, lo, hi, tuple(data)
        return ix

    def const(self, c: int) -> Ix:
        return self.make(c, {})

    def var(self, r: Range) -> Ix:
        ix = self._vars.get(r)
        if ix is None:
            ix = self._vars[r] = self.make(0, {r: 1})
        return ix

    def add(self, a: Ix, b: Ix, sign: int = 1) -> Ix:
        if not b.terms and b.const == 0:
            return a
        terms = dict(a.terms)
        for t, c in b.terms:
            terms[t] = terms.get(t, 0) + sign * c
        return self.make(a.const + sign * b.const, terms)

    def shift(self, a: Ix, by: int) -> Ix:
        return a if by == 0 else self.make(a.const + by, dict(a.terms))

    def scale(self, a: Ix, by: int) -> Ix:
        if type(by) is int and by == 1:
            return a
        return self.make(a.const * by, {t: c * by for t, c in a.terms})

    def _derive(self, kind: str, of: Any, n: int, free: int, lo: int, hi: int, data: tuple[Any, ...]) -> Ix:
        key = (kind, of, _sizekey(n))
        d = self._derived.get(key)
        if d is None:
            d = self._derived[key] = Derived(kind, of, n, free, lo, hi, data, self._next())
        return self.make(0, {d: 1})

    def data(self, e: Any, extent: int) -> Ix:
        """A scalar as an index; it is trusted to lie in the axis."""
        return self._derive("data", e, extent, e.free, 0, int(extent) - 1, (e,))

    def clamp(self, a: Ix) -> Ix:
        """max(a, 0): for the places that a guard takes out."""
        return a if a.lo >= 0 else self._derive("clamp", a, 0, a.free, 0, max(a.hi, 0), a.data)

    def divmod(self, a: Ix, n: int) -> tuple[Ix, Ix]:
        """(a // n, a % n) for a >= 0; without division where the part that n does not divide stays below n."""
        if int(n) == 1:
            return a, self.zero
        m = int(n)
        high = self.make(quotient(a.const - remainder(a.const, n), n) if int(a.const) >= m else 0,
                         {t: quotient(c, n) for t, c in a.terms if int(c) % m == 0})
        low = self.make(remainder(a.const, n) if int(a.const) >= m else a.const,
                        {t: c for t, c in a.terms if int(c) % m})
        if low.lo < 0:
            high, low = self.zero, a
        if low.lo >= 0 and low.hi < m:
            return high, low
        return (self.add(high, self._derive("div", low, n, low.free, low.lo // m, low.hi // m, low.data)),
                self._derive("mod", low, n, low.free, 0, m - 1, low.data))
