"""Numbers that follow one size: fitted through samples, and evaluated for another.

In: vectors of integers, one vector for each of some sizes.  Out: `Series`, polynomials up to the second degree with whole
coefficients through *all* samples, and which entries have none.  `follow` does the same for a single number of floating type.
Never extrapolates by itself: its user takes the ends of a range among the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LEAST = 4                                                 # samples: three for a parabola and one that checks it


class Series:
    """`bad`: the entries that no polynomial goes through."""

    __slots__ = ("base", "moving", "slope", "curve", "bad")

    def __init__(self, sizes: Sequence[int], rows: Any) -> None:
        """`rows[k]`: the numbers at `sizes[k]`, which differ.  ValueError for fewer than `LEAST` samples."""
        if len(sizes) < LEAST:
            raise ValueError(f"{len(sizes)} samples say nothing")
        rows = np.asarray(rows, np.int64)
        self.base = rows[0].copy()
        self.moving = np.flatnonzero((rows != rows[0]).any(0))
        values = rows[:, self.moving].astype(object)      # exact: no overflow
        line = _through(sizes[:2], values[:2])
        curve = _through(sizes[:3], values[:3])
        fits = _agree(line, sizes, values)
        use = [l if ok else c for l, c, ok in zip(line, curve, fits)]
        good = _agree(use, sizes, values)
        self.bad = self.moving[~np.array(good, bool)] if len(good) else self.moving
        self.moving = self.moving[np.array(good, bool)] if len(good) else self.moving
        kept = [u for u, ok in zip(use, good) if ok]
        self.base[self.moving] = [u[0] for u in kept]
        self.slope = np.array([u[1] for u in kept], np.int64)
        self.curve = np.array([u[2] for u in kept], np.int64)

    def at(self, n: int) -> np.ndarray:
        """The numbers at size n; entries in `bad` are those of the first sample."""
        out = self.base.copy()
        out[self.moving] += (self.slope + self.curve * n) * n
        return out


def _through(sizes: Sequence[int], values: Any) -> list[Any]:
    """(constant, slope, curvature) of the line or parabola through two or three samples, None where they are not whole."""
    out: list[Any] = []
    for v in values.T:
        x, y = sizes, [int(i) for i in v]
        slope, r = divmod(y[1] - y[0], x[1] - x[0])
        if len(x) == 2:
            out.append(None if r else (y[0] - slope * x[0], slope, 0))
            continue
        top = (y[2] - y[0]) * (x[1] - x[0]) - (y[1] - y[0]) * (x[2] - x[0])
        curve, r = divmod(top, (x[2] - x[0]) * (x[1] - x[0]) * (x[2] - x[1]))
        slope, s = divmod(y[1] - y[0] - curve * (x[1] ** 2 - x[0] ** 2), x[1] - x[0])
        out.append(None if r or s else (y[0] - slope * x[0] - curve * x[0] ** 2, slope, curve))
    return out


def _agree(found: Sequence[Any], sizes: Sequence[int], values: Any) -> list[bool]:
    return [f is not None and all([f[0] + (f[1] + f[2] * x) * x == y for x, y in zip(sizes, v)])
            for f, v in zip(found, values.T)]


# ------------------------------------------------------------------------------------------------ floating numbers
Follower = Callable[[int], Any]


def follow(sizes: Sequence[int], values: Sequence[Any], kind: Any, bases: Sequence[Sequence[Any]] = ()) -> Any:
    """A function of the size that gives exactly `values` (NumPy scalars of type `kind`) at `sizes`, or None.  Tried: whole
    numbers that follow the size, one by such a number, and constant multiples of `bases[j]`, numbers known at each size;
    the last kind gives (j, factor)."""
    for turned in (False, True):
        with np.errstate(all="ignore"):
            whole = [kind(1) / v if turned else v for v in values]
        if not all([np.isfinite(w) and abs(w) < 2 ** 53 for w in whole]):
            continue
        ints = [round(float(w)) for w in whole]
        series = Series(sizes, [[i] for i in ints])
        if not len(series.bad):
            f = _reciprocal(series, kind) if turned else _number(series, kind)
            if _same([f(n) for n in sizes], values):
                return f
    for j, base in enumerate(bases):
        for b, v in zip(base, values):
            factor = kind(float(v) / float(b)) if b else kind(0)
            if factor and np.isfinite(factor) and _same([kind(factor * kind(x)) for x in base], values):
                return j, factor
    return None


def _number(series: Series, kind: Any) -> Follower:
    return lambda n: kind(int(series.at(n)[0]))


def _reciprocal(series: Series, kind: Any) -> Follower:
    def f(n: int) -> Any:
        with np.errstate(divide="ignore"):
            return kind(1) / kind(int(series.at(n)[0]))
    return f


def _same(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return all([a.tobytes() == b.tobytes() for a, b in zip(found, wanted)])
