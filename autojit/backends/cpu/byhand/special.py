"""Special functions, element by element: SciPy's own, called in C; zeta, the next number and common divisors by loops of ours.

In: a `Form`.  Out: its kernel.  Where SciPy has no such function in C the kernel refuses, and NumPy runs the operation.
"""

from __future__ import annotations

from math import factorial

from ....dtypes import BOOL, float32
from . import Form, chunks

COST = 80                          # of one value, an addition being 1


def _each(f: Form, lines: str, cost: int, numbers: dict[str, tuple[str, str]] | None = None) -> None:
    """`lines` set `y[i]` for each element i; indented by eight."""
    n = f.out.size
    buffers = {name: f"in{k}" for k, name in zip(range(len(f.avals)), "ax")}
    body = f"    for i in range(lo, hi):\n{lines}"
    if numbers:
        inner = body.replace("\n", "\n    ")
        body = f"    if {' or '.join(f'{name} < 1' for name in numbers)}:\n        refuse()\n    else:\n    {inner}"
    f.kernel(body, {**buffers, "y": "out"}, {}, n, min(n, chunks(n, cost)), numbers=numbers)


def _of_scipy(f: Form, name: str) -> None:
    """Computed in float64, as SciPy's own functions of float32 are."""
    values = ", ".join([f"to_f64({v}[i])" for v in "ax"[:len(f.avals)]])
    _each(f, f"        y[i] = to_{f.out.dtype.code}(call_f64(f, {values}))", COST, {"f": ("function", f"special.{name}")})


def i0(f: Form) -> None:
    _of_scipy(f, "i0")


def i1(f: Form) -> None:
    _of_scipy(f, "i1")


def i0e(f: Form) -> None:
    _of_scipy(f, "i0e")


def i1e(f: Form) -> None:
    _of_scipy(f, "i1e")


def j0(f: Form) -> None:
    _of_scipy(f, "j0")


def j1(f: Form) -> None:
    _of_scipy(f, "j1")


def y0(f: Form) -> None:
    _of_scipy(f, "y0")


def y1(f: Form) -> None:
    _of_scipy(f, "y1")


def erfcx(f: Form) -> None:
    _of_scipy(f, "erfcx")


def ndtri(f: Form) -> None:
    _of_scipy(f, "ndtri")


def igamma(f: Form) -> None:
    _of_scipy(f, "gammainc")


def igammac(f: Form) -> None:
    _of_scipy(f, "gammaincc")


# ---------------------------------------------------------------- zeta
# (2k)! / B(2k), k = 1 ... 12: the terms of Euler's and Maclaurin's sum
_TERMS = (12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1892437580.3183792, 74724249600.0, -2950130727918.1642,
          116467828143500.67, -4597978722407472.6, 181521054019435460.0, -7166165256175667000.0)
_SUMMED = 10                       # terms of zeta's own sum before Euler's and Maclaurin's takes over


def _tail() -> str:
    """Lines that add what the first terms leave: w is where they end, b the last of them."""
    lines = ["total = total + b * w / (s - f8(1.0)) - f8(0.5) * b", "c = f8(1.0)"]
    for k, term in enumerate(_TERMS):
        lines += [f"c = c * (s + f8({float(2 * k)}))", "b = b / w", f"total = total + c * b / f8({term!r})",
                  f"c = c * (s + f8({float(2 * k + 1)}))", "b = b / w"]
    return "\n".join(" " * 12 + line for line in lines)


def zeta(f: Form) -> None:
    """Hurwitz's zeta function: some terms, and the rest by the formula of Euler and Maclaurin."""
    _each(f, f"""        s = to_f64(a[i])
        q = to_f64(x[i])
        total = f8(0.0)
        if isnan_f64(s) or isnan_f64(q) or s < f8(1.0) or (q <= f8(0.0) and q != floor_f64(q) and s != floor_f64(s)):
            total = f8(nan)
        elif s == f8(1.0) or (q <= f8(0.0) and q == floor_f64(q)):
            total = f8(inf)
        elif q > f8(1e8):
            total = (f8(1.0) / (s - f8(1.0)) + f8(0.5) / q) * pow_f64(q, f8(1.0) - s)
        else:
            w = q
            b = pow_f64(w, -s)
            total = b
            n = 0
            while n < {_SUMMED} or w <= f8({float(_SUMMED - 1)}):
                w = w + f8(1.0)
                b = pow_f64(w, -s)
                total = total + b
                n = n + 1
            if b > f8(0.0):
{_indented(_tail())}
        y[i] = to_{f.out.dtype.code}(total)""", 20 * COST)


def _indented(lines: str) -> str:
    return "\n".join("    " + line for line in lines.split("\n"))


def polygamma(f: Form) -> None:
    """(-1)**(n + 1) n! zeta(n + 1, x), in float64; orders beyond a hundred are left to NumPy."""
    (n,) = f.params
    if not 1 <= n <= 100:
        return
    inverse = f"f8(1.0) / powi_f64(w, {n + 1})"
    _each(f, f"""        s = f8({float(n + 1)})
        w = to_f64(a[i])
        total = f8(inf)
        if w > f8(0.0) or w != floor_f64(w):
            b = {inverse}
            total = b
            n = 0
            while n < {_SUMMED} or w <= f8({float(_SUMMED - 1)}):
                w = w + f8(1.0)
                b = {inverse}
                total = total + b
                n = n + 1
            if b > f8(0.0):
{_indented(_tail())}
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
