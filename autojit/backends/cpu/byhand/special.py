"""Special functions, element by element: SciPy's own, called in C; zeta, the next number and common divisors by loops of ours.

In: a `Form`.  Out: its kernel.  Where SciPy has no such function in C the kernel refuses, and NumPy runs the operation.
"""

from __future__ import annotations

from functools import partial
from math import factorial

from ....dtypes import BOOL, float32
from . import Form, chunk_rows, placed

COST = 80                          # of one value, an addition being 1


def _each(f: Form, lines: str, cost: int, numbers: dict[str, tuple[str, str]] | None = None) -> None:
    """`lines` set `y[i]` for each element i; indented by eight."""
    n = f.out.size
    buffers = {name: f"in{k}" for k, name in zip(range(len(f.avals)), "ax")}
    body = f"    for i in range(lo, hi):\n{lines}"
    if numbers:
        body = f"    if {' or '.join(f'{name} < 1' for name in numbers)}:\n        refuse()\n    else:\n{placed(body, 4)}"
    f.kernel(body, {**buffers, "y": "out"}, {}, n, chunk_rows(n, cost), numbers=numbers)


def _of_scipy(f: Form, name: str) -> None:
    """Computed in float64, as SciPy's own functions of float32 are."""
    values = ", ".join([f"to_f64({v}[i])" for v in "ax"[:len(f.avals)]])
    _each(f, f"        y[i] = to_{f.out.dtype.code}(call_f64(f, {values}))", COST, {"f": ("function", f"special.{name}")})


_SCIPY = {**{name: name for name in ("i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "erfcx", "ndtri")},
          "igamma": "gammainc", "igammac": "gammaincc"}
globals().update({name: partial(_of_scipy, name=theirs) for name, theirs in _SCIPY.items()})


# ---------------------------------------------------------------- zeta
# (2k)! / B(2k), k = 1 ... 12: the terms of Euler's and Maclaurin's sum
_TERMS = (12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1892437580.3183792, 74724249600.0, -2950130727918.1642,
          116467828143500.67, -4597978722407472.6, 181521054019435460.0, -7166165256175667000.0)
_SUMMED = 10                       # terms of zeta's own sum before Euler's and Maclaurin's takes over


def _series(power: str) -> str:
    """Lines that add up w ** -s for w, w + 1, ...; `power`: the text of w ** -s.  After some terms, of which b is the last, by
    the formula of Euler and Maclaurin."""
    tail = ["total = total + b * w / (s - f8(1.0)) - f8(0.5) * b", "c = f8(1.0)"]
    for k, term in enumerate(_TERMS):
        tail += [f"c = c * (s + f8({float(2 * k)}))", "b = b / w", f"total = total + c * b / f8({term!r})",
                 f"c = c * (s + f8({float(2 * k + 1)}))", "b = b / w"]
    return placed(f"""b = {power}
total = b
n = 0
while n < {_SUMMED} or w <= f8({float(_SUMMED - 1)}):
    w = w + f8(1.0)
    b = {power}
    total = total + b
    n = n + 1
if b > f8(0.0):
{placed(chr(10).join(tail), 4)}""", 12)


def zeta(f: Form) -> None:
    """Hurwitz's zeta function."""
    _each(f, f"""        s = to_f64(a[i])
        w = to_f64(x[i])
        total = f8(0.0)
        if isnan_f64(s) or isnan_f64(w) or s < f8(1.0) or (w <= f8(0.0) and w != floor_f64(w) and s != floor_f64(s)):
            total = f8(nan)
        elif s == f8(1.0) or (w <= f8(0.0) and w == floor_f64(w)):
            total = f8(inf)
        elif w > f8(1e8):
            total = (f8(1.0) / (s - f8(1.0)) + f8(0.5) / w) * pow_f64(w, f8(1.0) - s)
        else:
{_series("pow_f64(w, -s)")}
        y[i] = to_{f.out.dtype.code}(total)""", 20 * COST)


def polygamma(f: Form) -> None:
    """(-1)**(n + 1) n! zeta(n + 1, x), in float64; orders beyond a hundred are left to NumPy."""
    (n,) = f.params
    if not 1 <= n <= 100:
        return
    _each(f, f"""        s = f8({float(n + 1)})
        w = to_f64(a[i])
        total = f8(inf)
        if w > f8(0.0) or w != floor_f64(w):
{_series(f"f8(1.0) / powi_f64(w, {n + 1})")}
        y[i] = to_{f.out.dtype.code}(f8({float((-1) ** (n + 1) * factorial(n))!r}) * total)""", 2 * COST)


# ---------------------------------------------------------------- by bits, and by division
def nextafter(f: Form) -> None:
    """Neighbours are integers that stand side by side."""
    s = f.out.dtype.code
    zero = "f4(0.0)" if f.out.dtype is float32 else "f8(0.0)"
    _each(f, f"""        u = a[i]
        v = x[i]
        bits = bits_{s}(u)
        step = -1
        if (v > u) == (u > {zero}):
            step = 1
        r = from_bits_{s}(bits + step)
        if u == {zero}:
            r = copysign_{s}(from_bits_{s}(1), v)
        if u == v:
            r = v
        if isnan_{s}(u) or isnan_{s}(v):
            r = u + v
        y[i] = r""", 10)


def gcd(f: Form) -> None:
    """By Euclid; of what is least of all integers, as NumPy has it, the size is itself."""
    _each(f, """        u = abs_i64(a[i])
        v = abs_i64(x[i])
        while v != 0:
            rest = remainder_i64(u, v)
            u = v
            v = rest
        y[i] = u""", 40)


def int_pow(f: Form) -> None:
    """Powers of integers wrap, in whatever width they are stored."""
    _each(f, "        y[i] = pow_i64(a[i], x[i])", 20)


def shift(f: Form) -> None:
    """By a negative number, or by all bits: 0, or what the sign is."""
    if f.out.dtype.category != BOOL:
        _each(f, f"        y[i] = {'shl' if f.params[0] else 'shr'}_i64(a[i], x[i])", 2)
