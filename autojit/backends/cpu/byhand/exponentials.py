"""Exponentials of matrices as kernels.

In: a `Form` whose operand is a batch of square matrices.  Out: its kernel, over matrices: the quotient of two polynomials of
degree 13 in A / 2**s, where the exponent s brings the norm below THETA, squared s times (N. Higham, The scaling and squaring
method for the matrix exponential revisited, 2005).  By rows or by columns is the same here.  All is computed in float64.
"""

from __future__ import annotations

from ....dtypes import float64
from . import Form, chunk_rows, usual
from .factorisations import load, many, store
from .fortran import INFO, Calls, copied, whole
from .spectra import ONE, finite, worded

THETA = 5.371920351148152          # norms up to which degree 13 has the precision of float64
_COEFFICIENTS = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
                 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)
AREAS = 6                          # matrices of memory: the scaled one, its powers 2, 4 and 6, two more


def _sum(to: str, *terms: int) -> str:
    """Lines: to = a sum of powers 6, 4 and 2 with the coefficients of these numbers; a fourth one is that of the identity."""
    powers = " + ".join(f"f8({_COEFFICIENTS[c]!r}) * w[{power} + j]" for c, power in zip(terms[:3], ("six", "four", "two")))
    lines = f"        for j in range(n * n):\n            w[{to} + j] = {powers}"
    for c in terms[3:]:
        place = f"w[{to} + j * n + j]"
        lines += f"\n        for j in range(n):\n            {place} = {place} + f8({_COEFFICIENTS[c]!r})"
    return lines


def _times(call: Calls, to: str, a: str, b: str, more: bool = False) -> str:
    """A line: w[to:] = a b, or that added to what is there."""
    beta = "one" if more else "0"
    return "        " + call.line("dgemm", "'N'", "'N'", "n", "n", "n", "one", f"&w[{a}]", "n", f"&w[{b}]", "n", beta,
                                  f"&w[{to}]", "n")


def _quotient(call: Calls) -> str:
    """Lines that leave the quotient for the matrix at w[base:] at w[lower:]."""
    return f"""
{_times(call, "two", "base", "base")}
{_times(call, "four", "two", "two")}
{_times(call, "six", "four", "two")}
{_sum("lower", 13, 11, 9)}
{_sum("upper", 7, 5, 3, 1)}
{_times(call, "upper", "six", "lower", True)}
{_times(call, "lower", "base", "upper")}
        for j in range(n * n):
            w[base + j] = w[lower + j]
{_sum("lower", 12, 10, 8)}
{_sum("upper", 6, 4, 2, 0)}
{_times(call, "upper", "six", "lower", True)}
        for j in range(n * n):
            odd = w[base + j]
            even = w[upper + j]
            w[upper + j] = even - odd
            w[lower + j] = even + odd
        {call.line("dgetrf", "n", "n", "&w[upper]", "n", "&whole[first]", INFO)}
        bad = bad | (ints[own] != 0)
        {call.line("dgetrs", "'N'", "n", "n", "&w[upper]", "n", "&whole[first]", "&w[lower]", "n", INFO)}
"""


def expm(f: Form) -> None:
    """Exponentials of matrices."""
    if not f.out.size:
        return
    n = f.out.shape[-1]
    call = Calls(f, chunk_rows(many(f), 16.0 * usual(n) ** 3 / 4 + 2000))
    f.room("w", float64, call.chunks * (AREAS * n * n + 16))
    f.room("whole", whole(), call.chunks * (n + 32))
    body = f"""
    base = chunk * ({AREAS} * n * n + 16)
    two = base + n * n
    four = two + n * n
    six = four + n * n
    upper = six + n * n
    lower = upper + n * n
    first = chunk * (n + 32)
    for k in range(lo, hi):
        at = k * n * n
""" + finite("n * n", f"""
        norm = f8(0.0)
        for i in range(n):
            sum = f8(0.0)
            for j in range(n):
                sum = sum + abs_f64(WIDE(x[at + i * n + j]))
            norm = maximum_f64(norm, sum)
        scale = f8(1.0)
        times = 0
        while norm * scale > f8({THETA}):
            scale = scale * f8(0.5)
            times = times + 1
{copied("w", "base", "x", "at", "n * n", load(f) + " * scale")}
{_quotient(call)}
        for t in range(times):
            for j in range(n * n):
                w[upper + j] = w[lower + j]
    {_times(call, "lower", "upper", "upper")}
{copied("y", "at", "w", "lower", "n * n", store(f))}
""")
    call.before.append(ONE)
    call.kernel(worded(f, body), {"x": "in0", "y": "out", "w": "w", "whole": "whole"}, {"n": n}, many(f), ("out", "w", "whole"))
